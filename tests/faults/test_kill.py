"Real processes, real signals: killed, stopped, or out of disk, a training ends with the weights of an unbroken one."

import json
import multiprocessing
import os
import random
import re
import signal
import time

import pytest
import torch
import training
from bars import network, split

from fer_lab.checkpoint import load_state
from fer_lab.run import Run, owner

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="forks and SIGKILL are POSIX"),
    pytest.mark.xdist_group("kill"),
]
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["training", "fer_lab.cli", "fer_lab.experiment", "fer_lab.papers.stn"])


def start(target, *args, **kwargs):
    process = FORKS.Process(target=target, args=args, kwargs=kwargs)
    process.start()
    return process


def finish(process, code=0):
    process.join(300)
    assert process.exitcode == code


def told(folder):
    "Weights, what training ended with, and the curves: all that two runs can be compared by."
    config = json.loads((folder / "config.json").read_text())
    history = Run(folder).history.drop(columns=["images_per_s", "seconds"])
    return (folder / "model.safetensors").read_bytes(), load_state(folder / "state.pt", owner(config)), history


def assert_same(one, other, place="state"):
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            if key != "spent":
                assert_same(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{place}.{i}")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, place


def assert_same_run(one, other):
    (weights, state, history), (weights2, state2, history2) = told(one), told(other)
    assert weights == weights2 and history.equals(history2)
    assert_same(state, state2)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    finish(start(training.train, folder, save_every=100.0))
    assert Run(folder).card["val"]["war"] > 0.5 and list(Run(folder).history.epoch) == [1, 2, 3, 4]
    return folder


def test_the_same_seed_gives_the_same_run_in_another_process(tmp_path, unbroken):
    finish(start(training.train, tmp_path / "again", save_every=100.0))
    assert_same_run(tmp_path / "again", unbroken)


def kill(folder, dice):
    "Start or go on, wait for a few steps, kill at a moment that nobody chose."
    ours, theirs = FORKS.Pipe(duplex=False)
    process = start(training.train, folder, theirs)
    for _ in range(dice.choice((2, 3))):
        assert ours.poll(300) and ours.recv() == "step"
    time.sleep(dice.uniform(0, 0.006))
    process.kill()
    finish(process, -signal.SIGKILL)


def test_killed_twenty_times_in_a_row_equals_unbroken(tmp_path, unbroken):
    dice = random.Random()
    for _ in range(20):
        kill(tmp_path / "broken", dice)
    done = load_state(tmp_path / "broken" / "state.pt", owner(Run(tmp_path / "broken").config))
    assert 20 <= 17 * done["epoch"] + done["step"] < 68  # it got on at every kill, and was not yet done
    finish(start(training.train, tmp_path / "broken"))
    assert_same_run(tmp_path / "broken", unbroken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_saves_first_and_says_how_to_go_on(tmp_path, unbroken, number):
    ours, theirs = FORKS.Pipe(duplex=False)
    process = start(training.train, tmp_path / "broken", theirs, save_every=100.0)  # only the signal saves
    for _ in range(21):  # in the second epoch
        said = ours.recv()
    os.kill(process.pid, number)
    while said == "step":
        said = ours.recv()
    finish(process, 1)
    assert re.match(r"Stopped after (?:step \d+|the last step) of epoch 2; all is saved in .+ goes on from there", said)
    finish(start(training.train, tmp_path / "broken"))
    assert_same_run(tmp_path / "broken", unbroken)


def test_a_torn_state_costs_a_step_and_a_warning(tmp_path, unbroken, recwarn):
    for _ in range(2):  # so that two states were saved
        kill(tmp_path / "broken", random.Random())
    state = tmp_path / "broken" / "state.pt"
    state.write_bytes(state.read_bytes()[:-1000])
    training.Trainer(network(), training.RECIPE, state.parent, [training.Chancy()],
                     settings=training.SETTINGS, progress=False).fit(split())  # fmt: skip
    assert any("Going on from the state before it" in str(warning.message) for warning in recwarn)
    assert_same_run(tmp_path / "broken", unbroken)


def test_a_full_disk_leaves_what_was_saved(tmp_path, unbroken):
    "The system refuses files above a size that state.pt needs."
    kill(tmp_path / "broken", random.Random(0))
    before = {path.name: path.read_bytes() for path in (tmp_path / "broken").glob("*.*")}
    ours, theirs = FORKS.Pipe(duplex=False)
    process = start(training.train, tmp_path / "broken", theirs, largest_file=len(before["state.pt"]) // 2)
    said = ours.recv()
    while said == "step":
        said = ours.recv()
    finish(process, 1)
    assert "cannot be written (File too large)" in said and "untouched" in said
    assert {name: (tmp_path / "broken" / name).read_bytes() for name in before} == before
    finish(start(training.train, tmp_path / "broken"))
    assert_same_run(tmp_path / "broken", unbroken)


WORDS = ("train", "stn", "--budget", "smoke", "--no-test", "--epochs", "5")


def wait_for(ready, process, seconds=300):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end and process.is_alive()
        time.sleep(0.02)


def test_the_same_command_goes_on_after_a_signal_and_after_a_kill(tmp_path):
    def said():
        return (tmp_path / "err").read_text()

    def call(*words):
        (tmp_path / "err").write_text("")
        return start(training.command, tmp_path, *words)

    first = call(*WORDS)
    wait_for(lambda: training.states(tmp_path), first)
    os.kill(first.pid, signal.SIGTERM)
    finish(first, 130)
    where = r"(?:step \d+|the last step) of epoch \d+"
    assert re.search(rf"Stopped after {where}; all is saved in .+ same command again", said())
    run = training.states(tmp_path)[0].parent
    epochs = len(Run(run).history)
    second = call(*WORDS)
    wait_for(lambda: len(Run(run).history) > epochs, second)
    second.kill()
    finish(second, -signal.SIGKILL)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 9')  # a kill in the middle of a line
    other = call(*WORDS[:-1], "1")
    wait_for(lambda: "runs/" in said(), other)
    assert "going on" not in said()  # another recipe is another run
    other.kill()
    finish(other, -signal.SIGKILL)
    finish(call(*WORDS))
    assert re.search(r"going on after epoch \d in runs/", said()) and "epoch 5/5  loss " in said()  # plain lines
    assert list(Run(run).history.epoch) == list(range(1, 6))
