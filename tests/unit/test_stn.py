"""Deep-Emotion: the paper's arithmetic, the switches, and the spatial transformer against PyTorch's own."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fer_lab.checkpoint import read_card
from fer_lab.models import problems, zoo_folder, zoo_names
from fer_lab.papers.stn import (
    CONTESTANTS,
    IDENTITY,
    LOCALISATIONS,
    RECORDS,
    DeepEmotion,
    JitterTrial,
    RandomTheta,
    Sampler,
    ThetaWatch,
    dice,
    fer2013_recipe,
    grid_by_hand,
    jitter_plan,
    mechanism_works,
    sample_bilinear,
    sample_rounded,
    synthetic_recipe,
)
from fer_lab.settings import load_settings
from fer_lab.splits import holdout
from fer_lab.synthetic import synthetic_faces
from fer_lab.trainer import Trainer
from fer_lab.trial import Estimate, Finding, in_lines, load_record, record_names, run_trial


def pictures(n=4, size=48, seed=0):
    levels = torch.randint(0, 256, (n, 1, size, size), generator=torch.Generator().manual_seed(seed))
    return levels / 127.5 - 1


def count(**switches):
    return sum(p.numel() for p in DeepEmotion(**switches).parameters())


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        (dict(warp="none"), 43_737),
        (dict(localisation="fc90"), 47_657),
        (dict(localisation="fc1000"), 76_777),
        (dict(localisation="fc640"), 66_857),
        (dict(localisation="fc90", norm="batch"), 47_657 + 4 * 20),
    ],
)
def test_parameter_counts(switches, expected):
    assert count(**switches) == expected


@pytest.mark.parametrize("warp", ["input", "features"])
def test_controls_have_as_many_parameters_as_the_learned_theta(warp):
    assert len({count(warp=warp, theta=theta) for theta in ("learned", "identity", "random")}) == 1


@pytest.mark.parametrize("warp", ["input", "features", "none"])
@pytest.mark.parametrize("localisation", LOCALISATIONS)
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_every_combination_runs_and_learns(warp, localisation, norm):
    model = DeepEmotion(num_classes=5, warp=warp, localisation=localisation, norm=norm)
    logits = model(pictures())
    assert logits.shape == (4, 5)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("warp", ["input", "features"])
def test_an_untrained_network_looks_at_the_whole_picture(warp):
    "Theta starts at the identity, so the warp changes nothing, and the gradient can move it away from there."
    model = DeepEmotion(warp=warp).eval()
    plain = DeepEmotion(warp="none").eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("localisation")})
    x = pictures()
    torch.testing.assert_close(model(x), plain(x), atol=1e-5, rtol=1e-4)
    model(x).square().sum().backward()
    assert model.localisation.theta.bias.grad.abs().max() > 0


@pytest.mark.parametrize("warp", ["input", "features"])
@pytest.mark.parametrize("theta", ["learned", "identity", "random"])
def test_warp_with_its_own_theta_is_forward(warp, theta):
    model = DeepEmotion(warp=warp, theta=theta).eval()
    nn.init.normal_(model.localisation.theta.weight, std=0.05)
    x = pictures()
    torch.testing.assert_close(model.warp_with(x, model.theta_of(x)), model(x))


def test_controls_learn_nothing_in_the_localisation_path():
    for theta in ("identity", "random"):
        model = DeepEmotion(theta=theta)
        model(pictures()).sum().backward()
        assert all(p.grad is None for p in model.localisation.parameters())


def test_random_theta_belongs_to_the_picture():
    x = pictures(8)
    locate = RandomTheta()
    theta = locate(x)
    assert torch.equal(theta, RandomTheta("fc1000")(x))  # another instance, the same answer
    assert torch.equal(theta[[3, 1]], locate(x[[3, 1]]))  # whatever else is in the batch
    assert torch.equal(theta, locate(x.contiguous(memory_format=torch.channels_last)))
    assert len({tuple(row) for row in theta.flatten(1).tolist()}) == 8
    zoom = theta[:, :, :2].det().abs().sqrt()
    assert zoom.min() > 0.79 and zoom.max() < 1.21 and theta[:, :, 2].abs().max() <= 0.15


def test_dice_notice_one_grey_level():
    x = pictures(1)
    y = x.clone()
    y[0, 0, 20, 20] += 1 / 127.5
    assert (dice(x, 4) != dice(y, 4)).all()


@pytest.mark.parametrize("switch", ["warp", "localisation", "theta", "norm"])
def test_a_misspelt_switch_names_the_choices(switch):
    with pytest.raises(ValueError, match=rf"{switch}='fetaures'.*expected one of"):
        DeepEmotion(**{switch: "fetaures"})


@pytest.mark.parametrize("switches", [{}, dict(warp="input", norm="batch", num_classes=5), dict(warp="none")])
def test_config_builds_the_same_network_again(switches):
    model = DeepEmotion(**switches).eval()
    twin = DeepEmotion(**model.config).eval()
    twin.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(model(pictures()), twin(pictures()))


@pytest.mark.parametrize("warp", ["input", "features", "none"])
def test_what_can_be_inspected_exists(warp):
    model = DeepEmotion(warp=warp)
    modules = dict(model.named_modules())
    assert set(model.inspect.values()) <= set(modules)
    assert ("theta" in model.inspect) == (warp != "none")


@pytest.mark.parametrize("switches", [{}, {"warp": "input", "norm": "batch"}, {"theta": "random"}, {"warp": "none"}])
def test_it_keeps_the_rules_of_the_lab(switches):
    "Activations are modules used once and not in place, `inspect` names modules, `config` makes the same network."
    assert problems(DeepEmotion(**switches)) == []


def test_eval_mode_has_no_dropout_left():
    model = DeepEmotion(dropout=0.9).eval()
    assert torch.equal(model(pictures()), model(pictures()))


def test_theta_stays_exact_under_autocast():
    "bfloat16 cannot hold 1.001; theta and the sampling grid are computed in float32."
    model = DeepEmotion(warp="input").eval()
    model.localisation.theta.bias.data[2] = 0.0101
    with torch.autocast("cpu", torch.bfloat16):
        theta = model.theta_of(pictures())
    assert theta.dtype == torch.float32
    assert torch.allclose(theta[0, 0, 2], torch.tensor(0.0101)) and theta[0, 0, 0] == IDENTITY[0]


def random_theta(n, seed, reach):
    "Affine maps around the identity; with a large reach most of the grid lies outside the picture."
    change = torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(seed)) * reach
    return torch.tensor(IDENTITY).view(1, 2, 3) + change


@pytest.mark.parametrize("reach", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("size", "to"), [((48, 48), (48, 48)), ((9, 9), (9, 9)), ((7, 12), (5, 16)), ((1, 3), (4, 1))])
def test_grid_and_samplers_by_hand_are_pytorchs(reach, size, to):
    maps = torch.randn(6, 3, *size, generator=torch.Generator().manual_seed(1))
    theta = random_theta(6, 2, reach)
    grid = grid_by_hand(theta, *to)
    torch.testing.assert_close(grid, F.affine_grid(theta, [6, 3, *to], align_corners=False), atol=1e-5, rtol=0)
    for mode, by_hand in (("bilinear", sample_bilinear), ("nearest", sample_rounded)):
        expected = F.grid_sample(maps, grid, mode=mode, padding_mode="zeros", align_corners=False)
        torch.testing.assert_close(by_hand(maps, grid), expected, atol=1e-5, rtol=0)


def test_gradient_by_hand_is_pytorchs_and_rounding_has_none():
    maps = torch.randn(4, 2, 9, 9, generator=torch.Generator().manual_seed(3))
    theta = random_theta(4, 4, 0.2).requires_grad_()
    weight = torch.randn(4, 2, 9, 9, generator=torch.Generator().manual_seed(5))
    (by_hand,) = torch.autograd.grad((sample_bilinear(maps, grid_by_hand(theta, 9, 9)) * weight).sum(), theta)
    (torchs,) = torch.autograd.grad((Sampler()(maps, theta) * weight).sum(), theta)
    torch.testing.assert_close(by_hand, torchs, atol=1e-4, rtol=1e-4)
    assert not sample_rounded(maps, grid_by_hand(theta, 9, 9)).requires_grad
    grid = F.affine_grid(theta, [4, 2, 9, 9], align_corners=False)
    rounded = F.grid_sample(maps, grid, mode="nearest", align_corners=False)
    (zeros,) = torch.autograd.grad((rounded * weight).sum(), theta)
    assert (zeros == 0).all()


@pytest.mark.parametrize("recipe", [fer2013_recipe, synthetic_recipe])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_recipe_fits_its_network(recipe, norm):
    switches, how = recipe(norm=norm)
    assert DeepEmotion(**switches)(pictures()).shape == (4, 7)
    assert switches["norm"] == norm and how.epochs > 0


@pytest.mark.parametrize("name", [name for name in zoo_names() if name.startswith("stn-fer2013")])
def test_the_record_was_made_by_the_recipe(name):
    card = read_card(zoo_folder() / name)
    switches, how = fer2013_recipe(norm=card["model"]["config"]["norm"])
    assert DeepEmotion(**switches).config == card["model"]["config"]
    assert {**vars(how), "augment": vars(how.augment)} == {"mixup": 0.0, **card["recipe"]}  # older than mixup


def test_the_watch_sees_theta_before_training_and_after_each_epoch(tmp_path):
    faces = synthetic_faces(70, seed=0, mask=False)
    watch, model = ThetaWatch(faces.subset(range(3))), DeepEmotion()
    switches, how = synthetic_recipe()
    trainer = Trainer(model, replace(how, epochs=2), tmp_path, [watch], load_settings(device="cpu"), progress=False)
    trainer.fit(holdout(faces))
    assert torch.stack(watch.thetas).shape == (3, 3, 2, 3)
    assert torch.equal(watch.thetas[0], torch.tensor(IDENTITY).view(1, 2, 3).expand(3, 2, 3))
    assert not torch.equal(watch.thetas[-1], watch.thetas[0])


def small_plan():
    two = tuple(CONTESTANTS)[:2]
    return jitter_plan("stn-test", seeds=2, faces=42, epochs=1, contestants=two, test_faces=21)


def test_a_trial_is_paired_and_goes_on_where_it_stopped(tmp_path):
    plan, settings = small_plan(), load_settings(device="cpu", precision="fp32")
    calls = []

    class Counted(JitterTrial):
        def __call__(self, contestant, seed):
            calls.append((contestant, seed))
            return super().__call__(contestant, seed)

    record = run_trial(plan, Counted(plan, settings), tmp_path, progress=False)
    assert len(calls) == 4
    assert run_trial(plan, Counted(plan, settings), tmp_path, progress=False).fingerprint == record.fingerprint
    assert len(calls) == 4
    again = run_trial(plan, JitterTrial(plan, settings), tmp_path / "again", progress=False)
    assert again.fingerprint == record.fingerprint


def test_new_seeds_bring_new_faces_and_all_contestants_get_the_same():
    trial = JitterTrial(small_plan())
    keys = [trial.draw(10, 1000 + seed, "wild heads").fingerprint for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    shown = {name: faces.fingerprint for name, faces in trial.tests.items()}
    assert len(set(shown.values())) == 3 and not set(shown.values()) & set(keys)


def test_contestants_share_their_first_weights():
    models = []
    for name in tuple(CONTESTANTS)[:4]:
        torch.manual_seed(3)
        models.append(CONTESTANTS[name]())
    for key, value in models[0].state_dict().items():
        assert all(torch.equal(value, model.state_dict()[key]) for model in models[1:]), key


def finding(second, value, spread, test="wild heads"):
    difference = Estimate(value, spread, 20.0, 10, 100, 700, True)
    return Finding("learned θ", second, test, difference, 0.02, difference.p, difference.p_inside(0.02))


@pytest.mark.parametrize(("identity", "random", "expected"), [
    ((0.08, 0.005), (0.10, 0.005), True),
    ((0.0, 0.002), (0.10, 0.005), False),  # no better than looking straight ahead
    ((0.08, 0.005), (0.0, 0.05), None),  # the other control leaves it open
])
def test_the_verdict_needs_both_controls(identity, random, expected):
    told = [finding("θ at the identity", *identity), finding("random θ", *random), finding("plain stack", 0.2, 0.001)]
    assert mechanism_works(told) is expected
    words = in_lines(told)
    assert words.count("\n") == 2 and all(f.verdict in words for f in told)


def test_without_a_record_nothing_is_claimed():
    assert mechanism_works([]) is None


@pytest.mark.parametrize("plan", RECORDS, ids=lambda plan: plan.name)
def test_a_kept_record_belongs_to_its_plan(plan):
    if plan.name not in record_names():
        pytest.skip(f"{plan.name} has not been recorded")
    record = load_record(plan.name)
    assert record.plan.fingerprint == plan.fingerprint
    assert np.isfinite([record.accuracy(c, t).value for c in plan.conditions for t in plan.tests]).all()
