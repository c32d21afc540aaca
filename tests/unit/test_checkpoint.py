"Weights come back bit by bit; damaged, foreign and malicious files are refused by name."

import hashlib
import json
import pickle
import re

import pytest
import torch

from fer_lab.checkpoint import CheckpointError, load_state, load_weights, read_card, save_state, save_weights


def network(width=3):
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, width, 3), torch.nn.BatchNorm2d(width), torch.nn.Flatten(), torch.nn.Linear(width * 16, 2)
    )


@pytest.fixture
def saved(tmp_path):
    model = network().to(memory_format=torch.channels_last)
    return model, save_weights(model, tmp_path / "run", {"classes": ["a", "b"]})


def test_weights_and_buffers_come_back_to_the_last_bit(saved):
    model, folder = saved
    other = network()
    assert load_weights(other, folder)["classes"] == ["a", "b"]
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "fault, message",
    [
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-7]), "sha256"),
        (lambda f: (f / "model.safetensors").unlink(), "0 bytes"),
        (lambda f: (f / "card.json").unlink(), "does not exist"),
        (lambda f: (f / "card.json").write_text('{"classes": ['), "not valid JSON"),
        (lambda f: (f / "card.json").write_text("[]"), "it holds no fields"),
    ],
)
def test_damage_is_named(saved, fault, message):
    fault(saved[1])
    with pytest.raises(CheckpointError, match=message):
        load_weights(network(), saved[1])


def test_another_architecture_is_refused_and_left_untouched(saved):
    other = network(width=4)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="another architecture"):
        load_weights(other, saved[1])
    assert all(
        torch.equal(before[key], value) for key, value in other.state_dict().items() if value.dtype.is_floating_point
    )


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_a_malicious_pickle_never_runs(tmp_path, saved):
    target, folder = tmp_path / "it_ran", saved[1]
    evil = pickle.dumps(Malicious(target))
    (tmp_path / "state.pt").write_bytes(evil)
    with pytest.raises(CheckpointError, match="not a training state"):
        load_state(tmp_path / "state.pt")
    torch.save({"model": Malicious(target)}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="not a training state"):
        load_state(tmp_path / "state.pt")
    (tmp_path / "state.pt").write_bytes(f"fer_lab state {hashlib.sha256(evil).hexdigest()}\n".encode() + evil)
    with pytest.raises(CheckpointError, match="weights.only|Weights only|unsupported"):  # even with a hash that fits
        load_state(tmp_path / "state.pt")
    (folder / "model.safetensors").write_bytes(evil)
    card = read_card(folder)
    (folder / "card.json").write_text(
        json.dumps(card | {"sha256": hashlib.sha256(evil).hexdigest()})
    )  # even with a matching card
    with pytest.raises(CheckpointError, match="never opened"):
        load_weights(network(), folder)
    assert not target.exists()


def test_states_come_back_and_a_cut_one_is_refused(tmp_path):
    state = {"weights": torch.randn(4), "epoch": 3, "nested": {"best": 0.5, "list": [1, 2]}}
    save_state(tmp_path / "state.pt", state)
    again = load_state(tmp_path / "state.pt")
    assert torch.equal(again["weights"], state["weights"]) and again["nested"] == state["nested"]
    data = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        load_state(tmp_path / "state.pt")


def test_other_classes_are_refused(saved):
    load_weights(network(), saved[1], ["a", "b"])
    with pytest.raises(CheckpointError, match="in this order; wanted"):
        load_weights(network(), saved[1], ["b", "a"])


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data[:100] + b"x" + data[101:],
                                   lambda data: b"", lambda data: None], ids=["torn", "changed", "empty", "gone"])
def test_the_state_before_a_bad_one_is_used_and_never_lost(tmp_path, spoil, recwarn):
    path = tmp_path / "state.pt"
    for step in (1, 2, 3):
        save_state(path, {"step": step, "some": torch.arange(step)})
    data = spoil(path.read_bytes())
    path.unlink() if data is None else path.write_bytes(data)
    assert load_state(path)["step"] == 2
    assert len(recwarn) == (data is not None)  # a kill between two renames is no damage
    save_state(path, {"step": 4})
    assert load_state(path) == {"step": 4}
    path.write_bytes(b"torn again")
    assert load_state(path)["step"] == 2  # the one before 4 is still whole


def test_deleting_is_advised_only_where_nothing_is_left(tmp_path, recwarn):
    path = tmp_path / "state.pt"
    for step in (1, 2):
        save_state(path, {"step": step})
    path.write_bytes(b"torn")
    load_state(path)
    assert "Going on from the state before it" in str(recwarn[0].message) and "Delete" not in str(recwarn[0].message)
    (tmp_path / "state.previous.pt").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="previous.pt is damaged.+Delete state.pt and state.previous.pt there"):
        load_state(path)


def test_a_state_of_another_owner_is_foreign(tmp_path):
    save_state(tmp_path / "state.pt", {"step": 1}, "this run")
    assert load_state(tmp_path / "state.pt", "this run") == {"step": 1}
    with pytest.raises(CheckpointError, match="not a training state of this run"):
        load_state(tmp_path / "state.pt", "that run")


def test_a_disk_that_is_full_between_two_files_leaves_the_old_pair(saved, monkeypatch):
    from fer_lab import checkpoint

    before = {path.name: path.read_bytes() for path in saved[1].iterdir()}
    written = checkpoint.write_atomic

    def full(path, data):
        if "card" in path.name:
            raise OSError(28, "No space left on device")
        return written(path, data)

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    with pytest.raises(OSError, match="space"):
        save_weights(network(), saved[1], {"classes": ["a", "b"]})
    assert {name: (saved[1] / name).read_bytes() for name in before} == before
    load_weights(network(), saved[1])
