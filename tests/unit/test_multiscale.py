"""The multi-scale network: its arithmetic, its controls, its gates, and the trial that judges them."""

import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fer_lab import reliance
from fer_lab.checkpoint import read_card
from fer_lab.experiment import recipe_for
from fer_lab.explain import capture
from fer_lab.models import ModelError, count_parameters, create, multiply_adds, problems, zoo_folder, zoo_names
from fer_lab.papers.multiscale import (
    BRANCHES,
    CONTESTANTS,
    DEPTHS,
    NARROW,
    RECORDS,
    ChannelScale,
    Gate,
    IdleGate,
    MultiScale,
    MultiScaleBlock,
    PartsTrial,
    accuracy_with_gates,
    between_classes,
    branch,
    class_distance,
    conv_unit,
    fer2013_recipe,
    fit_verdict,
    gate_film,
    gate_steps,
    gate_table,
    gates_of,
    holds_on_others,
    nearest_mean,
    parts_plan,
    sheet_of_maps,
    synthetic_recipe,
)
from fer_lab.receptive import receptive_field
from fer_lab.report import evaluate
from fer_lab.settings import load_settings
from fer_lab.splits import every_seventh
from fer_lab.synthetic import synthetic_faces
from fer_lab.trial import ASLEEP, Estimate, Finding, in_lines, load_record, record_names, run_trial

SEED = torch.Generator().manual_seed(0)
PICTURES = torch.randint(0, 256, (4, 1, 48, 48), generator=SEED) / 127.5 - 1


def small(**switches) -> MultiScale:
    torch.manual_seed(0)
    return MultiScale(**{**NARROW, **switches}).eval()


@pytest.fixture(scope="module")
def faces():
    return synthetic_faces(28, seed=3, mask=False)


@pytest.mark.parametrize(("switches", "expected"), [
    ({}, 497_985), (dict(dilations=(1,)), 497_985), (dict(dilations=(1, 2, 4)), 497_985), (dict(gate="idle"), 497_985),
    (dict(norm="affine"), 497_985), (dict(se_ratio=None), 497_985 - 53_610), (dict(se_ratio=0), 497_985 - 53_610),
    (NARROW, 74_658)])
def test_parameter_counts(switches, expected):
    model = MultiScale(**switches)
    assert count_parameters(model) == expected
    assert sum(count_parameters(b.gate) for b in model.blocks if b.gate) in (0, 53_610, count_parameters(model) - sum(
        p.numel() for name, p in model.named_parameters() if ".gate." not in name))


def test_multiply_adds_and_the_plain_rival():
    assert multiply_adds(MultiScale(), (1, 48, 48)) == 19_961_600
    ours, plain = (multiply_adds(CONTESTANTS[name](), (1, 48, 48)) for name in ("multi-scale", "plain stack"))
    assert abs(plain / ours - 1) < 0.05


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_receptive_fields(rate):
    model = MultiScale(dilations=(rate,), depth=2, stem=(4, 4), widths=(4, 4))
    field = lambda path: receptive_field(model, (1, 48, 48), path, gates=False)  # noqa: E731
    assert field("stem")[:2] == (10, 4)
    first = {name: field(f"blocks.0.branches.{name}").size for name in BRANCHES}
    assert first == {"k1": 10, "k3": 18, "k5": 26, "pool": 18, "dilated": 10 + 2 * rate * 4}
    widest = max(first.values())
    second = field("blocks.1.branches.dilated")
    assert second[:2] == (widest + 4 + 2 * rate * 8, 8)  # the pooling between the blocks adds one step of 4
    assert receptive_field(model, (1, 48, 48), "features").size == 48  # the gate has seen everything


def test_the_last_block_sees_94_pixels():
    assert receptive_field(MultiScale(), (1, 48, 48), "features", gates=False).size == 94


@pytest.mark.parametrize("rate", [1, 2, 3, 4])
def test_a_dilated_kernel_is_a_larger_one_full_of_zeros(rate):
    layer = conv_unit(3, 5, 3, rate).conv
    side = 3 + 2 * (rate - 1)
    stuffed = torch.zeros(5, 3, side, side)
    stuffed[:, :, ::rate, ::rate] = layer.weight.detach()
    x = torch.randn(2, 3, 12, 12)
    assert torch.allclose(layer(x), F.conv2d(x, stuffed, padding=side // 2), atol=1e-5)


@pytest.mark.parametrize("name", BRANCHES)
def test_every_branch_keeps_the_size_and_gives_its_width(name):
    assert branch(name, 6, 4, 2)(torch.randn(2, 6, 12, 12)).shape == (2, 4, 12, 12)


def test_the_rates_go_from_block_to_block():
    model = small(depth=4, dilations=(1, 3))
    assert [block.branches.dilated.conv.conv.dilation[0] for block in model.blocks] == [1, 3, 1, 3]


def test_channel_scale_is_batch_norm_without_statistics():
    norm, scale = nn.BatchNorm2d(3, eps=0).eval(), ChannelScale(3)
    with torch.no_grad():
        for layer in (norm, scale):
            layer.weight.copy_(torch.tensor([1.0, -2.0, 0.5])), layer.bias.copy_(torch.tensor([0.0, 1.0, -3.0]))
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(norm(x), scale(x), atol=1e-6)  # in eval mode, with mean 0 and variance 1


def test_the_block_scales_each_channel_by_its_gate():
    block = MultiScaleBlock(6, 4, BRANCHES, 2, Gate(20, 4), "batch").eval()
    x = torch.randn(3, 6, 12, 12)
    joined = torch.cat([look(x) for look in block.branches.values()], 1)
    z = torch.relu(F.linear(joined.mean((2, 3)), block.gate.fc1.weight, block.gate.fc1.bias))
    gate = torch.sigmoid(F.linear(z, block.gate.fc2.weight, block.gate.fc2.bias))
    assert torch.allclose(block(x), joined * gate[:, :, None, None], atol=1e-6)


def test_controls_start_from_the_same_weights():
    states = {name: small(**switches).state_dict() for name, switches in
              {"full": {}, "rate 1": dict(dilations=(1,)), "idle": dict(gate="idle")}.items()}
    for other in ("rate 1", "idle"):
        assert all(torch.equal(value, states[other][key]) for key, value in states["full"].items())
    affine = small(norm="affine").state_dict()
    assert all(torch.equal(value, affine[key]) for key, value in states["full"].items() if key in affine)


def test_the_idle_gate_learns_nothing_and_halves_everything():
    model = small(gate="idle").train()
    model(PICTURES).sum().backward()
    assert all(p.grad is None for block in model.blocks for p in block.gate.parameters())
    assert (IdleGate(8, 2)(torch.randn(2, 8, 3, 3)) == 0.5).all()


@pytest.mark.parametrize("switches", [
    {}, dict(depth=1), dict(depth=5, dilations=(1, 2, 3)), dict(branches=("k1", "dilated")), dict(se_ratio=None),
    dict(norm="affine"), dict(norm="none"), dict(gate="idle"), dict(in_channels=3)])
def test_it_keeps_the_rules_of_the_lab_and_every_weight_can_learn(switches):
    model = small(**switches)
    shape = (switches.get("in_channels", 1), 48, 48)
    assert problems(model, shape) == []
    model.train()(torch.randn(4, *shape)).square().sum().backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None]
    assert all(".gate." in name for name in idle) and bool(idle) == (switches.get("gate") == "idle")


@pytest.mark.parametrize(("switches", "words"), [
    (dict(branches=("k1", "k7")), "k1, k3, k5, pool, dilated"), (dict(branches=("k1", "k1")), "each once"),
    (dict(branches=()), "expected some"), (dict(depth=0), "1 to 9"), (dict(dilations=(0,)), "whole rate"),
    (dict(dilations=()), "at least one"), (dict(dilations=(1.5,)), "whole rate"), (dict(se_ratio=-2), "se_ratio"),
    (dict(norm="layer"), "batch, affine, none"), (dict(gate="open"), "learned, idle")])
def test_what_cannot_be_is_said(switches, words):
    with pytest.raises(ModelError, match=words):
        MultiScale(**switches)


def test_recipes_fit_the_network():
    for dataset, own in (("fer2013", fer2013_recipe), ("synthetic", synthetic_recipe)):
        arguments, recipe = recipe_for("multiscale", replace(load_settings(dataset=dataset), budget="full"))
        assert arguments == own()[0] and recipe.epochs == own()[1].epochs
        assert create("multiscale", **arguments)(PICTURES).shape == (4, 7)


@pytest.mark.parametrize("name", [name for name in zoo_names() if name.startswith("multiscale-fer2013")])
def test_the_record_was_made_by_the_recipe(name):
    card = read_card(zoo_folder() / name)
    arguments, recipe = fer2013_recipe()
    assert {"mixup": 0.0, **card["recipe"]} == json.loads(json.dumps(asdict(recipe)))  # the card is older than mixup
    assert all(card["model"]["config"][key] == value for key, value in arguments.items())
    assert card["tta"] == "flip" and card["protocol"] == "official" and card["test"]["n"] == 3589


def test_gate_steps_are_the_blocks_own_numbers():
    model = small()
    steps = gate_steps(model, PICTURES[:1], block=1, most=6)
    parts = capture(model, PICTURES[:1], ["maps", "gates", "blocks"])
    gate, whole = parts["gates/blocks.1.gate"][0].numpy(), parts["blocks/blocks.1"][0].numpy()
    assert np.allclose(steps["gate"], gate[steps["channel"]]) and (np.diff(steps["gate"]) >= 0).all()
    assert steps["gate"][0] == gate.min() and steps["gate"][-1] == gate.max()
    assert np.allclose(steps["scaled"], whole[steps["channel"]], atol=1e-6)
    assert np.allclose(steps["squeezed"], parts["maps/blocks.1.joined"][0].numpy()[steps["channel"]].mean((1, 2)))
    assert [BRANCHES[c // 24] for c in steps["channel"]] == steps["branch"].tolist()


def test_the_film_shows_three_steps():
    film = gate_film(gate_steps(small(), PICTURES[:1]), "A title")
    assert [frame.name.split(":")[0] for frame in film.frames] == ["squeeze", "excite", "scale"]
    assert len(film.layout.sliders[0].steps) == 3 and "channels" in film.layout.meta["alt"]
    sheet = sheet_of_maps(np.ones((5, 2, 3)), columns=4)
    assert sheet.shape == (6, 16) and np.nansum(sheet) == 30


def test_eta_squared_is_one_for_a_gate_that_names_the_class_and_small_for_noise():
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(7), 60)
    values = np.stack([labels.astype(float), rng.normal(size=420), np.ones(420), labels + rng.normal(size=420)], 1)
    found = between_classes(values, labels)
    assert found[0] == pytest.approx(1) and found[1] < 0.05 and found[2] == 0
    between = sum(60 * (values[labels == k, 3].mean() - values[:, 3].mean()) ** 2 for k in range(7))
    assert found[3] == pytest.approx(between / ((values[:, 3] - values[:, 3].mean()) ** 2).sum())
    stuck = (0.502858 + 6e-8 * rng.normal(size=(420, 40))).astype(np.float32)  # gates that move in the last bit only
    assert (between_classes(stuck, rng.permutation(labels)) < 0.1).all()


def test_a_table_of_gates_finds_the_planted_branch():
    labels = np.repeat(np.arange(3), 20)
    gates = np.full((60, 10), 0.5)
    gates[labels == 1, 8] += 0.3  # of the last of five branches one channel opens for the second class
    gates[labels == 1, 9] -= 0.3  # and the other closes: their mean stays
    table = gate_table(gates, labels, ["a", "b", "c"], BRANCHES)
    assert table.stack().idxmax() == ("b", "dilated") and table.loc["b", "dilated"] == pytest.approx(0.2)
    assert (table.drop(columns="dilated") == 0).all(axis=None)


def test_chosen_channels_must_prove_themselves_on_others():
    rng, labels = np.random.default_rng(1), np.repeat(np.arange(2), 100)
    noise = rng.normal(size=(200, 50))
    chose, others = holds_on_others(noise, labels, 1)
    assert others < 0.5 * chose
    noise[labels == 1, :10] += 2
    chose, others = holds_on_others(noise, labels, 1)
    assert others > 0.8 * chose


def test_exchanging_gates_leaves_the_network_as_it_was(faces):
    model = small()
    with torch.no_grad():
        for block in model.blocks:  # gates that differ from face to face
            block.gate.fc2.weight.mul_(40)
    found = accuracy_with_gates(model, faces)
    assert found["its own gates"] == pytest.approx(evaluate(model, faces, "whole").war)
    assert list(found) == ["its own gates", "the mean gates", "another face's gates"]
    assert not any(block.gate._forward_hooks for block in model.blocks)
    gates = gates_of(model, faces, batch=10)
    assert [each.shape for each in gates] == [(28, 40), (28, 120), (28, 120)]
    assert np.allclose(gates[0][:5], capture(model, faces.batch(range(5)) / 127.5 - 1, "gates")["gates/blocks.0.gate"],
                       atol=1e-5)


def test_distances_between_classes():
    rng, labels = np.random.default_rng(2), np.repeat(np.arange(3), 40)
    far = rng.normal(size=(120, 4)) + 5 * np.eye(3, 4)[labels]
    near = rng.normal(size=(120, 4))
    teach = np.arange(120) % 2 == 0
    assert class_distance(far, labels) > 10 * class_distance(near, labels)
    assert nearest_mean(far, labels, teach) > 0.95 and nearest_mean(near, labels, teach) < 0.6
    assert class_distance(3 * far, labels) == pytest.approx(class_distance(far, labels))


TINY = dict(faces=70, epochs=1, test_faces=21)


def test_a_trial_is_paired_and_goes_on_where_it_stopped(tmp_path):
    plan = parts_plan("tiny", seeds=2, contestants=("multi-scale", "dilation 1"), **TINY)
    record = run_trial(plan, PartsTrial(plan), tmp_path, progress=False)
    assert len(record.runs) == 4 and record.plan.tests == ("strong expressions", "weak expressions")

    def never(*asked):
        raise AssertionError(f"{asked} was run again")

    assert run_trial(plan, never, tmp_path, progress=False).fingerprint == record.fingerprint


def test_in_the_depth_trial_the_seen_faces_are_those_that_taught():
    plan = parts_plan("tiny", seeds=2, contestants=DEPTHS[:2], tests=("seen faces", "new faces"), **TINY)
    trial = PartsTrial(plan)
    taught = {picture.tobytes() for picture in every_seventh(trial.faces(0)).train.batch().numpy()}
    assert all(picture.tobytes() in taught for picture in trial.tests["seen faces"].batch().numpy())
    assert not taught & {picture.tobytes() for picture in trial.tests["new faces"].batch().numpy()}


def finding(second, test, value, error=0.002, p=0.001, p_inside=1.0):
    estimate = Estimate(value, error, 9, 10, 100, 100, True)
    return Finding("3 blocks", second, test, estimate, 0.02, p, p_inside)


@pytest.mark.parametrize(("seen", "new", "expected"), [
    (dict(value=0.1), dict(value=0.1), "under-fits"), (dict(value=-0.1), dict(value=0.1), "over-fits"),
    (dict(value=0.0, p=1.0, p_inside=0.001), dict(value=0.1), "over-fits"),
    (dict(value=0.05, p=0.5), dict(value=0.1), "we could not tell"),
    (dict(value=0.1), dict(value=0.05, p=0.5), "we could not tell"),
    (dict(value=0.1), dict(value=-0.1), "neither"),
    (dict(value=0.1), dict(value=0.0, p=1.0, p_inside=0.001), "neither")])
def test_under_and_over_fitting_are_told_from_both_tests(seen, new, expected):
    found = [finding("1 blocks", "seen faces", **seen), finding("1 blocks", "new faces", **new)]
    assert fit_verdict(found, "1 blocks") == expected
    assert "**3 blocks** against **1 blocks**" in in_lines(found) and in_lines(found).count("\n") == 0


def test_a_rival_at_chance_is_named_in_the_line_of_its_test_only():
    strong = finding("plain stack", "strong expressions", value=0.17)
    weak = replace(finding("plain stack", "weak expressions", value=0.05), asleep=("plain stack",))
    assert in_lines([strong, weak]) == ("- **3 blocks** against **plain stack**: better on strong expressions (+17.0); "
                                        "better on weak expressions (+5.0, plain stack is at chance).")
    both = replace(weak, asleep=("3 blocks", "plain stack"))  # the verdict itself says it
    assert in_lines([both]).endswith(f"{ASLEEP} on weak expressions (+5.0).")


@pytest.mark.parametrize("plan", [plan for plan in RECORDS if plan.name in record_names()], ids=lambda plan: plan.name)
def test_a_kept_record_belongs_to_its_plan(plan):
    assert load_record(plan.name).plan.fingerprint == plan.fingerprint


def test_plans_ask_what_they_say():
    parts, depth = RECORDS
    assert set(itertools.chain(parts.conditions, depth.conditions)) == set(CONTESTANTS)
    assert all(first == plan.conditions[0] for plan in RECORDS for first, _ in plan.comparisons)
    counts = {count_parameters(CONTESTANTS[name]()) for name in parts.conditions[:4]}
    assert counts == {74_658}


def test_it_runs_in_the_league_of_explanations(tmp_path):
    plan = reliance.Plan("tiny", ("multiscale",), (0,), faces=64, epochs=1, examined=14, few=3,
                         methods=("Saliency", "LayerGradCam"), rule_epochs=1, rule_examined=8, rule_seeds=())
    record = reliance.run_plan(plan, tmp_path)
    assert np.isfinite(record.of("LayerGradCam").mean())
