"Real torchrun processes: the same counts, the same weights, and nobody waits for the dead."

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ranks
import torch

from fer_lab.distributed import DistributedError, together

HERE = Path(__file__).parent

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="gloo and SIGKILL"), pytest.mark.xdist_group("kill")]


def torchrun(count, *words, cwd=None):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *words]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HERE.parent.parent, HERE.parent)))}
    return subprocess.run([*map(str, command)], cwd=cwd, env=environ, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    "What 1, 2 and 3 processes found, and how the last two ended."
    top = tmp_path_factory.mktemp("ranks")
    for count in (1, 2, 3):
        (top / str(count)).mkdir()
    ranks.all_of(top / "1")
    ends = {count: torchrun(count, HERE / "ranks.py", top / str(count)) for count in (2, 3)}
    for count, end in ends.items():
        assert (top / str(count) / "found.json").exists(), end.stderr
    return {count: json.loads((top / str(count) / "found.json").read_text()) for count in (1, 2, 3)}, ends


def test_one_checkpoint_gives_the_same_counts_whoever_counts(found):
    one, two, three = (found[0][count] for count in (1, 2, 3))
    assert [one["processes"], two["processes"], three["processes"]] == [1, 2, 3]
    assert one["counted"] == two["counted"] == three["counted"]
    assert sum(map(sum, one["counted"][0])) == 101


def difference(found, what, count):
    (one, *_), (many, alike, *_) = found[0][1][what], found[0][count][what]
    assert alike, "the processes ended with different weights"
    return (torch.tensor(one, dtype=torch.float64) - torch.tensor(many, dtype=torch.float64)).abs().max().item()


@pytest.mark.parametrize("count", [2, 3])
def test_float64_weights_agree_after_twenty_steps(found, count):
    largest = difference(found, "exact", count)
    print(f"1 and {count} processes: {largest:.1e}")
    assert largest < 1e-9
    assert found[0][1]["exact"][2] == pytest.approx(found[0][count]["exact"][2], abs=1e-6)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("what", ["norm", "mixup"])
def test_with_batch_norm_or_mixup_they_differ_and_stay_alike(found, what, count):
    largest = difference(found, what, count)
    print(f"1 and {count} processes, with batch norm{' and mixup' if what == 'mixup' else ''}: {largest:.1e}")
    assert 1e-6 < largest < 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_stopped_training_goes_on_to_the_last_bit_in_several_processes(found, count):
    assert found[0][count]["resumed"] == found[0][count]["mixup"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_no_loss_asks_stays_and_a_batch_halved_anywhere_is_recorded(found, count):
    untouched, masked, parts = found[0][count]["idle"]
    assert untouched and masked and parts == (1 if count == 1 else 2)  # alone, there is no second process to be full


@pytest.mark.parametrize("device, words", [("cuda:0", "2 processes would share cuda:0. Say device = cuda"),
                                           ("cuda", "2 processes were started and this machine has 0 GPUs")])
def test_processes_that_would_share_a_gpu_are_refused(monkeypatch, device, words):
    for key, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DistributedError, match=words), together(torch.device(device)):
        pytest.fail("began")


@pytest.mark.parametrize("count", [2, 3])
def test_one_process_dying_ends_the_others_with_a_sentence(found, count):
    end = found[1][count]
    assert end.returncode != 0
    assert end.stderr.count("another process of this training has ended, so this one ends too") >= 1
    assert "Signal 9 (SIGKILL) received" in end.stderr
    assert "if there are none, the system has killed it" in end.stderr and "gloo" not in end.stderr


def test_the_command_trains_in_two_processes(tmp_path):
    words = ("train", "stn", "--budget", "smoke", "--epochs", "1", "--nproc", "2", "--out", "run")
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "FER_LAB_STATE_DIR": str(tmp_path / "state")}
    command = [sys.executable, "-m", "fer_lab.cli", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["processes"] == 2
    assert done.stdout.count("epoch 1 kept") == 1 and done.stderr.count("epoch 1/1  loss ") == 1
    assert len((tmp_path / "state" / "test_openings.jsonl").read_text().splitlines()) == 1  # opened once, not twice


@pytest.fixture
def started(tmp_path):
    "`fer-lab train --nproc 2`, as the first of a group of processes, when its first state was saved."
    words = ("train", "stn", "--budget", "smoke", "--epochs", "500", "--no-test", "--nproc", "2", "--out", "run")
    environ = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "FER_LAB_STATE_DIR": str(tmp_path / "state")}
    command = [sys.executable, "-m", "fer_lab.cli", *words]
    with (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=err, start_new_session=True)
    end = time.monotonic() + 300
    while not (tmp_path / "run" / "state.pt").exists():
        assert process.poll() is None and time.monotonic() < end, (tmp_path / "err").read_text()
        time.sleep(0.05)
    yield process, lambda: (tmp_path / "err").read_text()
    process.kill()


def complaints(said):
    return [line for line in said.splitlines() if not re.match(r"epoch \d|run: |computes on |\s*$", line)]


def test_ctrl_c_for_the_whole_group_saves_once_and_says_so_once(started):
    process, said = started
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(60) == 130
    line, = complaints(said())
    where = r"(?:step \d+|the last step) of epoch \d+"
    assert re.match(rf"fer-lab: Stopped after {where}; all is saved in run\b.+ same command again", line)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the process to kill there")
def test_a_killed_process_is_told_in_a_sentence(started):
    process, said = started
    pids = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    commands = {pid: Path(f"/proc/{pid}/environ").read_bytes() for pid in pids}
    os.kill(next(int(pid) for pid, environ in commands.items() if b"\0RANK=1\0" in environ), signal.SIGKILL)
    assert process.wait(60) == 1
    *_, last = lines = complaints(said())
    assert last.startswith("fer-lab: process 1 of 2 was killed by SIGKILL; a system whose memory is full does that")
    assert len(lines) <= 2 and "Traceback" not in said() and "gloo" not in said()


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for the processes there")
def test_workers_do_not_outlive_the_command(started):
    process, said = started
    workers = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    alive = lambda: [pid for pid in workers if Path(f"/proc/{pid}").exists()]  # noqa: E731
    assert len(alive()) >= 2
    process.kill()
    process.wait(60)
    end = time.monotonic() + 60
    while alive() and time.monotonic() < end:
        time.sleep(0.1)
    assert not alive() and "Stopped after" in said()
