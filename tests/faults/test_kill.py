"A real process is killed by SIGKILL in mid-training, several times, and ends with the weights of an unbroken run."

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = """
import sys, torch
sys.path.insert(0, {unit!r})
from test_trainer import RECIPE, network, split, trainer
from dataclasses import replace
class Slow:
    def on_batch_end(self, trainer):
        import time; time.sleep(0.03)
        print("step", flush=True)
trainer(sys.argv[1], network(), replace(RECIPE, epochs=6, ema=0.9), callbacks=[Slow()]).fit(split())
print("done", flush=True)
"""


def start(folder):
    script = SCRIPT.format(unit=str(Path(__file__).parents[1] / "unit"))
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)


def finish(process):
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and out.endswith("done\n")


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a POSIX signal")
def test_killed_three_times_equals_unbroken(tmp_path):
    finish(start(tmp_path / "whole"))
    for steps in (2, 7, 11):  # in the first epoch, in the next, one later
        process = start(tmp_path / "broken")
        for _ in range(steps):
            assert process.stdout.readline() == "step\n"
        time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    finish(start(tmp_path / "broken"))
    whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert whole.keys() == broken.keys() and all((whole[key] == broken[key]).all() for key in whole)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a POSIX signal")
def test_the_same_command_goes_on_with_a_killed_training(tmp_path):
    words = [sys.executable, "-m", "fer_lab.cli", "train", "stn", "--budget", "smoke", "--no-test", "--epochs", "15"]
    first = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (written := [path for path in tmp_path.glob("runs/*/state.pt") if len(lines(path)) > 1]):
        assert time.monotonic() < end and first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait(20)
    done = len(lines(written[0]))
    with (written[0].parent / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 9')  # a kill in the middle of a line
    other = subprocess.run([*words, "--epochs", "1"], cwd=tmp_path, capture_output=True, text=True)
    assert "run: " in other.stderr and "going on" not in other.stderr  # another recipe is another run
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0 and re.search(rf"going on after epoch {done} in runs/", again.stderr), again.stderr
    assert [line["epoch"] for line in map(json.loads, lines(written[0]))] == list(range(1, 16))


def lines(state):
    return (state.parent / "metrics.jsonl").read_text().splitlines()
