"Models: the table, the costs, the rivals, the rules all models follow, weights from cards, and the fidelity card."

import json

import numpy as np
import pytest
import torch
from captum.attr import DeepLift, GuidedBackprop
from torch import nn
from torchvision.models import resnet18

from fer_lab import models
from fer_lab.checkpoint import save_weights
from fer_lab.explain import find_modules
from fer_lab.models import (
    REGISTRY,
    FidelityCard,
    FidelityError,
    FidelityRow,
    ModelError,
    PlainStack,
    checked,
    count_parameters,
    create,
    from_record,
    from_zoo,
    load_model,
    load_zoo,
    multiply_adds,
    names,
    plain_stack_like,
    problems,
    register,
    zoo_names,
)
from fer_lab.trial import Marks, Trial, run_trial

FACE = (1, 48, 48)


# ---- the table


@pytest.mark.parametrize("name", names())
def test_every_model_of_the_table_follows_the_rules(name):
    model = create(name, num_classes=5)
    own = (1, *[model.config.get("size", FACE[-1])] * 2)  # the size it was made for
    face = getattr(model, "input_shape", own)  # clips say their shape themselves
    assert problems(model, face) == []
    assert model.eval()(torch.zeros(3, *face)).shape == (3, 5)


def test_unknown_names_and_arguments_are_answered_with_the_known_ones():
    with pytest.raises(ModelError, match="plain, resnet18, stn"):
        create("resnet19")
    with pytest.raises(ModelError, match="does not take width; its arguments are: .*widths"):
        create("plain", width=3)


def test_a_lesson_may_put_its_own_class_in_place(monkeypatch):
    monkeypatch.setitem(REGISTRY, "plain", REGISTRY["plain"])  # restored afterwards

    class Mine(PlainStack):
        pass

    register("plain", Mine)
    assert type(create("plain")) is Mine


# ---- costs


def test_multiply_adds_by_hand():
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, groups=2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(54, 5)
    )
    assert multiply_adds(network, (2, 7, 7)) == 6 * 3 * 3 * 9 + 54 * 5
    assert count_parameters(network) == 6 * 9 + 54 * 5 + 5


def test_counting_leaves_the_model_as_it_was():
    model = create("plain").train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    multiply_adds(model, FACE)
    problems(model)
    assert model.training and all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name, arguments", [("stn", {}), ("stn", {"localisation": "fc1000"}), ("resnet18", {})])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_plain_stack_costs_what_its_rival_costs(name, arguments, norm):
    rival = create(name, **arguments)
    plain = plain_stack_like(rival, FACE, num_classes=4, norm=norm)
    assert multiply_adds(plain, FACE) == pytest.approx(multiply_adds(rival, FACE), rel=0.02)
    first, second, third = plain.config["widths"]
    assert second == 2 * first and 0.8 < third / second / 2 < 1.25
    assert plain(torch.zeros(2, *FACE)).shape == (2, 4) and plain.config["norm"] == norm


def test_a_plain_stack_cannot_be_cheaper_than_its_own_first_stage():
    with pytest.raises(ModelError, match="too few"):
        plain_stack_like(nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 2)), FACE)
    with pytest.raises(ModelError, match="'batch' or 'none'"):
        PlainStack(norm="layer")


# ---- ResNet-18


def test_resnet_says_what_torchvisions_says():
    torch.manual_seed(0)
    ours, theirs = create("resnet18", in_channels=3).eval(), resnet18(num_classes=7).eval()
    theirs.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 3, 40, 56) * 2 - 1
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


@pytest.mark.parametrize("name", ["plain", "resnet18"])
def test_deeplift_adds_up_and_guided_backpropagation_runs(name):
    torch.manual_seed(0)
    model, x = create(name).eval(), torch.rand(2, *FACE) * 2 - 1
    relevance = DeepLift(model).attribute(x, torch.zeros_like(x), target=3)
    gained = (model(x) - model(torch.zeros_like(x)))[:, 3]
    assert torch.allclose(relevance.sum((1, 2, 3)), gained, rtol=0.02, atol=1e-3)
    assert GuidedBackprop(model).attribute(x, target=3).abs().sum() > 0


# ---- the rules


class Careless(nn.Module):
    "Breaks every rule once."

    def __init__(self, width=4):
        super().__init__()
        self.config, self.inspect = {"width": 5}, {"features": "bodies"}
        self.body, self.relu = nn.Conv2d(1, width, 1, 2), nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.relu(self.body(x))).mean((2, 3))


def test_broken_rules_are_named():
    found = " | ".join(problems(Careless()))
    for words in ("relu is called 2 times", "relu works in place", "'bodies' names no module", "config does not make",
                  "body is a strided 1 x 1 convolution of 1 channels"):
        assert words in found
    assert "inspect is missing" in " ".join(problems(nn.Sequential(nn.Conv2d(1, 2, 3))))


@pytest.mark.parametrize(
    "name, parts", [("plain", {"features": 1, "stages": 3}), ("resnet18", {"stem": 1, "layers": 4, "features": 1})]
)
def test_each_name_to_look_at_means_the_modules_it_says(name, parts):
    assert {part: len(find_modules(create(name), part)) for part in parts} == parts


# ---- the zoo


def test_a_model_comes_back_from_its_card(tmp_path):
    model = create("plain", num_classes=3, widths=(2, 4, 6), norm="none")
    save_weights(model, tmp_path, {"model": {"class": "fer_lab.models:PlainStack", "config": model.config}})
    back, card = load_model(tmp_path)
    x = torch.rand(2, *FACE)
    assert not back.training and torch.equal(back(x), model.eval()(x)) and card["model"]["config"]["num_classes"] == 3


def test_a_class_defined_in_a_lesson_is_found_by_its_name(tmp_path):
    model = create("plain")
    save_weights(model, tmp_path, {"model": {"class": "__main__:PlainStack", "config": model.config}})
    assert type(load_model(tmp_path)[0]) is PlainStack


@pytest.mark.parametrize(
    "name", ["os:system", "subprocess:Popen", "fer_lab.settings:load_settings", "torch.nn:Linear", ""]
)
def test_a_card_cannot_call_anything_else(tmp_path, name):
    save_weights(nn.Linear(1, 1), tmp_path, {"model": {"class": name, "config": {}}})
    with pytest.raises(ModelError, match="none of this package's"):
        load_model(tmp_path)


def test_an_unknown_zoo_name_is_answered_with_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "zoo_folder", lambda: tmp_path)
    with pytest.raises(ModelError, match="no trained model 'none'; there are: none yet"):
        load_zoo("none")
    model = create("plain", widths=(2, 2, 2))
    save_weights(
        model, tmp_path / "tiny", {"model": {"class": "x:PlainStack", "config": model.config}, "val": {"war": 0.5}}
    )
    assert zoo_names() == ["tiny"] and isinstance(load_zoo("tiny")[0], PlainStack)
    assert from_zoo("tiny", "val.war") == "50.0%" and from_zoo("other", "val.war") is None
    with pytest.raises(ModelError, match=r"no 'val.uar': 'uar' is not among \['war'\]"):
        from_zoo("tiny", "val.uar")


@pytest.mark.parametrize("name", zoo_names())
def test_every_model_of_the_zoo_loads(name):
    model, card = load_zoo(name)
    logits = model(torch.zeros(1, *card["input"]["shape"]))
    assert logits.shape == (1, len(card["classes"])) and torch.isfinite(logits).all()


# ---- the fidelity card


def test_a_missing_measurement_is_shown_as_missing():
    card = FidelityCard(
        "Paper", (FidelityRow("accuracy", "70.02", "47 to 58"), FidelityRow("parameters", ours=47_657, tag="P+C"))
    )
    assert card.missing == ["accuracy"]
    for shown in (card._repr_html_(), card._repr_markdown_()):
        assert "not measured" in shown and "47,657" in shown and "not stated" in shown
        assert "computed from the facts" in shown and "looked for and not found" not in shown


def test_text_cannot_break_the_table():
    card = FidelityCard("<b>&", (FidelityRow("a|b", "<script>", deviation="x|y\nz"),), ("<i>",))
    html, lines = card._repr_html_(), card._repr_markdown_().splitlines()
    assert "<script>" not in html and "<i>" not in html and "&lt;b&gt;&amp;" in html
    row = next(line for line in lines if line.startswith("| a"))
    assert row.replace("\\|", "").count("|") == len(FidelityCard.COLUMNS) + 1
    assert "≠ x\\|y z" in row


def test_what_is_only_recalled_is_not_printed():
    for tag in ("R", "P+R", ""):
        with pytest.raises(ModelError, match="not printed"):
            FidelityRow("accuracy", "99", tag=tag)


def test_a_checked_number_holds_or_stops():
    assert checked(3, 3) == 3 and checked(0.61, 0.6, 0.02) == 0.61
    for ours, expected, tolerance in ((3, 4, 0), (0.63, 0.6, 0.02), (float("nan"), 1, 0)):
        with pytest.raises(FidelityError):
            checked(ours, expected, tolerance)


def test_a_cell_can_come_from_a_recorded_trial(tmp_path, monkeypatch):
    plan = Trial("tiny", "?", ("a", "b"), ("t",), (0, 1), 0.02)
    right = {"a": np.ones(20, bool), "b": np.zeros(20, bool)}
    record = run_trial(plan, lambda c, s: {"t": Marks(right[c])}, tmp_path / "runs", progress=False)
    record.save(tmp_path)
    monkeypatch.setattr("fer_lab.trial.records_folder", lambda: tmp_path)
    assert json.loads((tmp_path / "tiny.json").read_text())["fingerprint"] == record.fingerprint
    assert from_record("tiny", lambda r: r.accuracy("a", "t").value) == 1.0
    assert from_record("never", lambda r: r.accuracy("a", "t").value) is None
