"Weights come back bit by bit; damaged, foreign and malicious files are refused by name."

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
    (folder / "model.safetensors").write_bytes(evil)
    card = read_card(folder)
    import hashlib

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
