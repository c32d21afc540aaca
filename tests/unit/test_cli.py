"""The command as a person meets it: in a process of its own, with exit codes, and an answer to every mistake."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import fer_lab
from fer_lab import cli
from fer_lab.augment import to_float
from fer_lab.experiment import recipe_for
from fer_lab.models import create, names
from fer_lab.report import Report, predict
from fer_lab.run import alone
from fer_lab.settings import LabError, load_settings
from fer_lab.synthetic import synthetic_faces
from fer_lab.workspace import MANIFEST

pytestmark = pytest.mark.xdist_group("cli")  # its slow fixture is made once

ROOT = Path(__file__).parents[2]
TRACEBACK = "Traceback (most recent call last)"


def fer(*words, cwd=None, **environ) -> subprocess.CompletedProcess:
    """`fer-lab` in a process of its own."""
    command = [sys.executable, "-m", "fer_lab.cli", *map(str, words)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", **environ}
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, encoding="utf-8")


@pytest.fixture
def says(tmp_path, monkeypatch):
    """`fer-lab` in this process, standing in an empty folder with a lab's settings: quicker, and the same code."""
    (tmp_path / "settings.ini").write_text("[fer_lab]\ndevice = cpu\nbudget = smoke\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words, **environ):
        return CliRunner().invoke(cli.app, list(map(str, words)), env={"FER_LAB_STATE_DIR": str(tmp_path), **environ})

    return call


def test_help_and_version_do_not_wait_for_pytorch():
    code = ("import sys; from typer.testing import CliRunner; from fer_lab.cli import app; run = CliRunner().invoke\n"
            "for words in ['--help'], ['--version'], ['train', '--help'], ['data', '--help']:\n"
            "    done = run(app, words); assert done.exit_code == 0, done.output; print(done.output)\n"
            "assert not {'torch', 'pandas', 'plotly'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert f"fer_lab {fer_lab.__version__}" in done.stdout and "Examples" in done.stdout
    for command in ("lab", "run", "train", "watch", "evaluate", "data", "settings", *cli.MODELS[:-1].split(", ")):
        assert re.sub(r"\W+", "", command) in re.sub(r"\W+", "", done.stdout)  # wherever the lines break


def test_settings_are_shown_with_their_origin_and_reasons(tmp_path):
    (tmp_path / "settings.ini").write_text("[fer_lab]\nseed = 5\n")
    done = fer("settings", "--budget", "smoke", cwd=tmp_path, FER_LAB_DEVICE="cpu")
    assert done.returncode == 0 and not done.stderr
    for line in (r"seed +5 +settings\.ini", r"budget +smoke +argument", r"device +cpu +FER_LAB_DEVICE",
                 r"dataset +synthetic +default", r"data_dir +data +default", r"device in use +cpu +asked for",
                 r"precision in use +(fp32|bf16) +auto: .+"):
        assert re.search(line, done.stdout), line


def test_a_device_that_is_not_there_is_shown_and_is_an_error(tmp_path):
    done = fer("settings", "--device", "cuda:99", cwd=tmp_path)
    assert done.returncode == 2 and "cuda:99" in done.stdout and "not on this machine" in done.stderr


@pytest.mark.parametrize("words, environ, code, parts", [
    (["settings", "--budget", "quick"], {}, 2, ["quick", "smoke"]),
    (["settings"], {"FER_LAB_BUGDET": "smoke"}, 2, ["FER_LAB_BUGDET", "Did you mean budget"]),
    (["settings", "--seed", "x"], {}, 2, ["--seed"]),
    (["nonsense"], {}, 2, ["nonsense"]),
    (["train"], {}, 2, ["model"]),
    (["train", "stn", "--set", "norm"], {}, 2, ["KEY=VALUE"]),
    (["train", "sdn"], {}, 1, ["no model 'sdn'", "stn"]),
    (["evaluate", "nothing"], {}, 1, ["'nothing'", "stn-fer2013"]),
    (["run", "--only", "snt"], {}, 1, ["snt", "Did you mean stn"]),
    (["data", "check", "fer2013", "--data-dir", "nowhere"], {}, 1, ["nowhere/fer2013", "kaggle"]),
    (["lab", "settings.ini"], {}, 1, ["settings.ini is a file"]),
], ids=lambda value: " ".join(value) if isinstance(value, list) and value and "-" not in value[0] else "")
def test_a_mistake_is_answered(says, words, environ, code, parts):
    done = says(*words, **environ)
    assert done.exit_code == code and isinstance(done.exception, SystemExit), done.output
    assert TRACEBACK not in done.output and not done.stdout
    for part in parts:
        assert part in done.stderr.replace("\\", "/")


def test_a_traceback_is_for_developers_who_ask_for_it(tmp_path):
    done = fer("lab", __file__, cwd=tmp_path)
    assert done.returncode == 1 and TRACEBACK not in done.stderr and "is a file" in done.stderr
    assert TRACEBACK in fer("lab", __file__, cwd=tmp_path, FER_LAB_DEBUG="1").stderr


def test_the_system_says_no_in_one_line(says, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    done = says("train", "plain", "--epochs", "1")
    assert done.exit_code == 1 and TRACEBACK not in done.output and "runs" in done.stderr.splitlines()[-1]


def test_help_names_every_model_that_can_be_trained_on_stills():
    """Those of the registry that take a drawn face as their recipe builds them; all others complain first."""
    settings = load_settings(dataset="synthetic", budget="smoke", device="cpu")
    faces = synthetic_faces(2, size=48, seed=0)
    told = dict(re.findall(r"([\w-]+)(?: \(--set (\w+=\w+)\))?", cli.MODELS))
    for name in names():
        for words in ([], [told[name]] if told.get(name) else []):
            choices = cli.choices_of(words)
            model = create(name, **recipe_for(name, settings, **choices)[0])
            if name in told and words == [told[name]][: bool(told[name])]:
                answers = model(to_float(faces.batch()))
                assert answers.shape == (2, 7) and answers.requires_grad, name
            else:
                with pytest.raises(LabError):
                    predict(model, faces)
    assert set(told) <= set(names())


def test_training_says_how_it_computes_and_compiles_if_asked(says, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    done = says("train", "plain", "--compile", "--no-test", "--tta", "none", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "val (chose the epoch) " in done.stdout and "mirror" not in done.stdout
    assert compiled == ["PlainStack"] and json.loads((tmp_path / "run" / "config.json").read_text())["compile"] is True
    assert re.search(r"computes on cpu \(asked for\), (fp32|bf16) \(auto: this CPU has .+\), "
                     r"channels_last \(cpu: .+\); repeats to the last bit", done.stderr)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder to stand in, what `train` printed): a network trained for one epoch."""
    top = tmp_path_factory.mktemp("train")
    (top / "settings.ini").write_text("[fer_lab]\nbudget = smoke\ndevice = cpu\n")
    done = fer("train", "stn", "--seed", "3", "--out", "mine", cwd=top, FER_LAB_STATE_DIR=str(top / "state"))
    assert done.returncode == 0, done.stderr
    return top, done.stdout


def test_training_ends_with_validation_and_one_opening_of_the_test_set(trained):
    top, said = trained
    assert re.search(r"val \(chose the epoch, unmirrored\) +\d+\.\d\d%", said)
    assert re.search(r"test +\d+\.\d\d% .* 1×", said)
    assert "averaged with its mirror image; the epoch was chosen without that." in said
    assert "stn on synthetic, seed 3: epoch 1 kept" in said and said.splitlines()[-1] == "run: mine"
    assert {"card.json", "config.json", "metrics.jsonl", "model.safetensors"} <= set(os.listdir(top / "mine"))
    assert len((top / "state" / "test_openings.jsonl").read_text().splitlines()) == 1


def test_evaluate_gives_the_same_number_again_and_notes_the_opening(trained, says):
    top, said = trained
    done = says("evaluate", top / "mine", FER_LAB_STATE_DIR=str(top / "state"))
    assert done.exit_code == 0, done.output
    assert re.search(r"test +(\d+\.\d\d%)", said)[1] in done.stdout and "The same number again" in done.stdout
    assert "2×" in done.stdout


def test_evaluate_says_that_a_closed_test_set_stays_closed(trained, says, tmp_path):
    shutil.copytree(trained[0] / "mine", tmp_path / "closed")
    card = json.loads((tmp_path / "closed" / "card.json").read_text())
    (tmp_path / "closed" / "card.json").write_text(json.dumps({k: v for k, v in card.items() if "test" not in k}))
    done = says("evaluate", tmp_path / "closed")
    assert done.exit_code == 0 and "stays closed" in done.stderr, done.output
    assert "The same number again" in done.stdout and not (tmp_path / "test_openings.jsonl").exists()


def test_evaluate_fails_where_the_number_is_another_one(trained, says):
    top, _ = trained
    shutil.copytree(top / "mine", top / "forged")
    card = json.loads((top / "forged" / "card.json").read_text())
    card["test"]["war"] += 0.1
    (top / "forged" / "card.json").write_text(json.dumps(card))
    done = says("evaluate", top / "forged")
    assert done.exit_code == 1 and "more than rounding" in done.stdout, done.output


def test_a_finished_run_is_not_opened_again_by_training_again(trained, says, tmp_path):
    done = says("train", "stn", "--seed", "3", "--out", trained[0] / "mine")
    assert done.exit_code == 1 and "fer-lab evaluate" in done.stderr, done.output
    assert not (tmp_path / "test_openings.jsonl").exists()


@pytest.mark.parametrize("images, same, words", [
    (0, True, "same number"), (1, True, "rounding"), (9, False, "more than")])
def test_how_much_a_number_may_differ(images, same, words):
    report = Report("x", np.zeros(1000, int), np.eye(2)[np.zeros(1000, int)], ("a", "b"))
    fine, said = cli.compare(report, 1 - images / 1000)
    assert fine == same and words in said


def test_model_arguments_are_read_as_what_they_are():
    choices = cli.choices_of(["a=none", "b=2", "c=0.5", "d=True", "e=x=y"])
    assert choices == {"a": "none", "b": 2, "c": 0.5, "d": True, "e": "x=y"}
    for word in ("a", "=1", "a=", "a b=1"):
        with pytest.raises(typer.BadParameter):
            cli.choices_of([word])


def test_data_is_listed_and_checked(says):
    done = says("data", "list")
    assert done.exit_code == 0 and "synthetic" in done.stdout and "kaggle.com" in done.stdout
    done = says("data", "check", "synthetic")
    assert done.exit_code == 0 and "identical image" in done.stdout and "happiness" in done.stdout


def test_data_check_counts_what_fer2013_hides(fer2013, fer2013_folder, says):
    done = says("data", "check", "fer2013", "--data-dir", fer2013_folder.parent)
    assert done.exit_code == 0, done.output
    assert "Complete: 28,709 / 3,589 / 3,589" in done.stdout and "PrivateTest, also in Training" in done.stdout


def test_the_published_number_comes_again(fer2013, fer2013_folder, says):
    done = says("evaluate", "stn-fer2013", "--data-dir", fer2013_folder.parent)
    assert done.exit_code == 0, done.output
    assert "3,589" in done.stdout and "repeats" in done.stdout


@pytest.fixture
def lab(tmp_path):
    """A lab folder with two tiny notebooks, one of which fails."""
    for name, code in (("01_good", "import os; os.getcwd()"), ("02_bad", "1 / 0")):
        (tmp_path / "papers").mkdir(exist_ok=True)
        cells = [nbformat.v4.new_markdown_cell(f"# {name}"), nbformat.v4.new_code_cell(code)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "papers" / f"{name}.ipynb")
    (tmp_path / MANIFEST).write_text('{"files": {}}')
    (tmp_path / "settings.ini").write_text("[fer_lab]\nbudget = smoke\ndevice = cpu\n")
    return tmp_path


def test_a_run_with_a_failing_notebook_fails_and_says_which(lab):
    done = fer("run", cwd=lab / "papers")
    assert done.returncode == 1 and TRACEBACK not in done.stderr
    assert "papers/02_bad.ipynb, cell 1: ZeroDivisionError: division by zero" in done.stderr
    page = lab / "papers" / done.stdout.splitlines()[-1].removeprefix("page: ")
    assert "1 of 2 notebooks failed" in page.read_text() and page.resolve().parent.parent == (lab / "runs").resolve()


def test_a_run_narrowed_to_what_works_succeeds(lab, monkeypatch):
    monkeypatch.chdir(lab)
    done = CliRunner().invoke(cli.app, ["run", "--only", "good", "--out", "here"])
    assert done.exit_code == 0, done.output
    assert (lab / "here" / "index.html").exists() and len(list((lab / "here").rglob("*.ipynb"))) == 1


LINE = {"lr": 0.1, "loss": 1.5, "val_loss": 1.5, "val_war": 0.25, "val_uar": 0.2, "images_per_s": 1234.5, "seconds": 60}


@pytest.mark.parametrize("recipe", [{"epochs": 3, "patience": None}, {"epochs": 99, "patience": 2}])
def test_watch_shows_epochs_as_they_come_and_ends_with_the_training(says, tmp_path, recipe):
    (tmp_path / "config.json").write_text(json.dumps({"recipe": recipe}))
    (tmp_path / "card.json").write_text(json.dumps({"epoch": 1}))

    def write():
        for epoch in (1, 2, 3):
            time.sleep(0.3)
            with (tmp_path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(LINE | {"epoch": epoch})[:-1])
                file.flush()
                time.sleep(0.1)
                file.write("}\n")  # a line is shown when it is whole

    writer = threading.Thread(target=write)
    with alone(tmp_path):
        writer.start()
        done = says("watch", tmp_path)
        writer.join()
    assert done.exit_code == 0, done.output
    assert [line.split()[1] for line in done.stdout.splitlines()] == [f"{i}/{recipe['epochs']}" for i in (1, 2, 3)]
    assert "loss 1.500  val WAR 25.0%  UAR 20.0%  1,234 images/s" in done.stdout


@pytest.mark.parametrize(("words", "code", "answer"), [
    (["sdn"], 1, "no model 'sdn'"), (["stn", "--set", "norm"], 2, "expected KEY=VALUE"),
    (["stn", "--set", "batch=1"], 1, "batch must be a whole number from 2 on")])
def test_a_mistake_is_told_once_before_several_processes_are_started(says, monkeypatch, words, code, answer):
    monkeypatch.setattr(cli, "torchrun", lambda *_: pytest.fail("started"))
    done = says("train", *words, "--nproc", "2")
    assert done.exit_code == code and done.output.count(answer) == 1 and TRACEBACK not in done.output


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are Unix's")
def test_a_terminal_gets_one_bar_with_all_that_progress_is(tmp_path):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    words = [sys.executable, "-m", "fer_lab.cli", "train", "stn", "--budget", "smoke", "--epochs", "2", "--no-test"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    training = subprocess.Popen(words, cwd=tmp_path, env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # so a terminal ends
        while part := os.read(ours, 4096):
            seen += part
    assert training.wait() == 0
    bars = [line for line in re.split(r"[\r\n]+", seen.decode()) if "faces" in line and "|" in line]
    assert "epoch 1/2" in "".join(bars) and "epoch 1/2  loss" not in seen.decode()  # no plain lines beside it
    last = bars[-1]
    clock = r"\[\d\d:\d\d<\d\d:\d\d"  # spent and left
    for what in (r"epoch 2/2: 100%", clock, r"[\d.]+k? faces/s", r"loss=\d", r"val_war=\d", r"val_uar=\d"):
        assert re.search(what, last), (what, last)


def test_watch_ends_where_the_training_has_died(says, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"recipe": {"epochs": 3, "patience": None}}))
    (tmp_path / "metrics.jsonl").write_text(json.dumps(LINE | {"epoch": 1}) + "\n")
    done = says("watch", tmp_path)
    assert done.exit_code == 1 and done.stdout.startswith("epoch 1/3  loss 1.500")
    assert "nobody trains in" in done.stderr and "1 of 3 epochs are done" in done.stderr


def test_watch_of_no_run_is_answered(says, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, "runs/nix", tmp_path / "file"):
        done = says("watch", folder)
        assert done.exit_code == 1 and "nothing says which run" in done.stderr and TRACEBACK not in done.output
    assert not Path("runs").exists()


def test_the_repository_opens_its_own_notebooks(monkeypatch):
    for folder in (ROOT, ROOT / "nbs" / "papers"):
        monkeypatch.chdir(folder)
        assert cli.lab_folder(None) == (ROOT / "nbs", None)
    assert cli.lab_folder(ROOT / "nbs") == cli.lab_folder(ROOT) == (ROOT / "nbs", None)
    assert not (ROOT / "nbs" / MANIFEST).exists()


def test_elsewhere_the_notebooks_are_written_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder, written = cli.lab_folder(None)
    assert folder == tmp_path / "fer-lab" and "index.ipynb" in written.new and (folder / "settings.ini").exists()
    monkeypatch.chdir(folder / "papers")
    assert cli.lab_folder(None)[0] == folder


def get(url: str) -> int:
    try:
        return urllib.request.urlopen(url, timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_jupyterlab_opens_the_folder_and_wants_its_token(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-m", "fer_lab.cli", "lab", "mine", "--no-browser", "--port", "0"]
    with log.open("w") as file:
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, cwd=tmp_path, stdout=file, stderr=file, env=environ)
    try:
        end = time.monotonic() + 120
        found = None
        while not found and time.monotonic() < end and process.poll() is None:
            time.sleep(0.3)
            found = re.search(r"(http://127\.0\.0\.1:\d+)(/lab/tree/index\.ipynb)\?token=(\w{20,})", log.read_text())
        assert found, log.read_text()
        address, page, token = found.groups()
        contents = f"{address}/api/contents/settings.ini"
        assert get(f"{contents}?token={token}") == 200 and get(contents) == 403
        assert get(f"{address}{page}?token={token}") == 200
        assert "files new in mine" in log.read_text()
    finally:
        process.terminate()
        process.wait(30)
