"""Deep-Emotion: the paper's arithmetic, the switches, and the spatial transformer against PyTorch's own."""

import copy

import pytest
import torch
from torch import nn

from fer_lab.papers.stn import IDENTITY, LOCALISATIONS, DeepEmotion, RandomTheta, dice


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


def test_no_module_is_used_twice_or_in_place():
    "Captum's DeepLift and GuidedBackprop need every activation to be a module of its own."
    model = DeepEmotion(norm="batch").eval()
    calls = []
    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU | nn.MaxPool2d):
            assert not getattr(module, "inplace", False)
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    model(pictures())
    assert len(calls) == len(set(calls)) > 0


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
