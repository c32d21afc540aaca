"""Explanations: equal to Captum called directly, right where the answer is known, and without a trace on the model."""

import copy

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import nn

from fer_lab.explain import (
    METHODS,
    STEADY,
    ExplainError,
    NotDefined,
    attribute,
    capture,
    completeness,
    methods_for,
    occlusion_map,
    randomised,
    sanity,
    similarity,
    squares,
    undisturbed,
    why_not,
)

SIZE = 24


class Net(nn.Module):
    inspect = {"features": "features", "maps": "features.*", "first": "features.0"}

    def __init__(self, classes=3):
        super().__init__()
        self.config = {"classes": classes}
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(6 * (SIZE // 4) ** 2, classes))

    def forward(self, x):
        return self.head(self.features(x))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net()
    net.features[4].running_mean.uniform_(-0.2, 0.2)
    return net


@pytest.fixture
def x():
    return torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def directly(net, x, method, target, layer=None, **options):
    "The same with Captum and nothing else."
    kind = getattr(captum.attr, method)
    explainer = kind(net.eval()) if layer is None else kind(net.eval(), layer)
    return explainer.attribute(x.clone().requires_grad_(), target=target, **options).detach()


@pytest.mark.parametrize(("method", "options"), [
    ("Saliency", {}), ("Saliency", {"abs": False}), ("InputXGradient", {}), ("IntegratedGradients", {"n_steps": 20}),
    ("GuidedBackprop", {}), ("Deconvolution", {}),
    ("FeatureAblation", {"feature_mask": squares((SIZE, SIZE), 6)[None, None]}),
    ("Occlusion", {"sliding_window_shapes": (1, 6, 6), "strides": (1, 3, 3)}),
])
def test_equals_captum(net, x, method, options):
    target = torch.tensor([0, 2, 1])
    expected = directly(copy.deepcopy(net), x, method, target, **options)[:, 0]
    torch.testing.assert_close(attribute(net, x, method, target, **options), expected, rtol=1e-4, atol=1e-6)


def test_layer_methods_equal_captum_and_are_as_large_as_the_face(net, x):
    twin = copy.deepcopy(net)
    small = directly(twin, x, "LayerGradCam", 1, twin.features)
    expected = F.interpolate(small, (SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(attribute(net, x, "LayerGradCam", 1), expected)
    torch.testing.assert_close(attribute(net, x, "GuidedGradCam", 1, layer="features.3"),
                               directly(twin, x, "GuidedGradCam", 1, twin.features[3])[:, 0])
    assert attribute(net, x, "LayerConductance", 1, layer="first", n_steps=5).shape == (3, SIZE, SIZE)


def test_methods_that_draw_numbers_repeat_and_leave_the_generators_alone(net, x):
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    for method in ("GradientShap", "KernelShap", "NoiseTunnel"):
        first, again, other = (attribute(net, x, method, 0, seed=seed) for seed in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other)
    assert (torch.rand(1), np.random.rand()) == expected


def test_exact_on_a_linear_model(x):
    linear = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 3))
    weight = linear[1].weight.detach().view(3, SIZE, SIZE)
    torch.testing.assert_close(attribute(linear, x, "Saliency", 1), weight[1].abs().expand(3, -1, -1))
    for method in ("InputXGradient", "IntegratedGradients", "DeepLift", "DeepLiftShap"):
        torch.testing.assert_close(attribute(linear, x, method, 1), weight[1] * x[:, 0], rtol=1e-3, atol=1e-5)
    regions = squares((SIZE, SIZE), 6)
    sums = torch.stack([(weight[1] * x[:, 0])[:, regions == k].sum(1) for k in range(16)], 1)
    for method, tolerance in (("FeatureAblation", 1e-4), ("ShapleyValueSampling", 1e-4), ("KernelShap", 2e-2)):
        found = attribute(linear, x, method, 1, regions=regions)[:, ::6, ::6].flatten(1)
        torch.testing.assert_close(found, sums, rtol=tolerance, atol=tolerance)


def test_path_methods_are_complete(net, x):
    for method, options, gap in (("IntegratedGradients", {"n_steps": 300}, 0.02), ("DeepLift", {}, 1e-4)):
        table = completeness(net, x, attribute(net, x, method, 2, **options), 2)
        assert (table["sum"] - table["promised"]).abs().max() < gap * table["promised"].abs().max()


def test_deeplift_is_complete_also_where_captum_alone_is_not(x):
    "A pooling followed directly by an activation: both hang a hook on one tensor."
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 11 * 11, 3)
    ).eval()
    promised = completeness(model, x, attribute(model, x, "DeepLift", 0), 0)
    assert (promised["sum"] - promised["promised"]).abs().max() < 1e-5
    alone = completeness(model, x, captum.attr.DeepLift(model).attribute(x, target=0).detach()[:, 0], 0)
    assert (alone["sum"] - alone["promised"]).abs().max() > 1e-3


def test_faces_do_not_depend_on_their_neighbours(net, x):
    for method in ("Saliency", "DeepLift", "Occlusion", "LayerGradCam", "IntegratedGradients"):
        torch.testing.assert_close(
            attribute(net, x, method, 1)[1:2], attribute(net, x[1:2], method, 1), rtol=1e-4, atol=1e-6
        )
    torch.testing.assert_close(attribute(net, x, "Saliency", 1, batch=2), attribute(net, x, "Saliency", 1))


def test_target_is_the_prediction_unless_given(net, x):
    predicted = net.eval()(x).argmax(1)
    torch.testing.assert_close(attribute(net, x, "Saliency"), attribute(net, x, "Saliency", predicted.tolist()))
    for wrong in (3, -1, [0, 1]):
        with pytest.raises(ExplainError, match=r"one class 0\.\.2"):
            attribute(net, x, "Saliency", wrong)


def test_colour_and_sequences_give_one_map_a_frame():
    colour = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 22 * 22, 2))
    x = torch.randn(2, 3, SIZE, SIZE)
    assert attribute(colour, x, "InputXGradient").shape == attribute(colour, x, "Occlusion").shape == (2, SIZE, SIZE)

    class Film(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(SIZE * SIZE, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):  # [N, T, C, H, W]
            return self.head(self.gru(x.flatten(2))[0][:, -1])

    film = torch.randn(2, 3, 1, SIZE, SIZE)
    assert attribute(Film(), film, "IntegratedGradients", n_steps=4).shape == (2, 3, SIZE, SIZE)
    with pytest.raises(NotDefined, match="no rule for GRU"):
        attribute(Film(), film, "DeepLift")


# --- what a method does not cover -----------------------------------------------------------------------------------


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Linear(2 * 22 * 22, 3)

    def forward(self, x):
        return self.head(F.relu(self.relu(self.conv(x)) - 0.1).flatten(1))


class Twice(Functional):
    def forward(self, x):
        return self.head(self.relu(self.relu(self.conv(x)) - 0.1).flatten(1))


class Gate(Functional):
    def forward(self, x):
        x = self.conv(x)
        return self.head((self.relu(x) * x).flatten(1))


def layers(activation):
    return nn.Sequential(nn.Conv2d(1, 2, 3), activation, nn.Flatten(), nn.Linear(2 * 22 * 22, 3))


@pytest.mark.parametrize(("build", "method", "reason"), [
    (lambda: layers(nn.PReLU()), "DeepLift", "no rule for PReLU"),
    (lambda: layers(nn.PReLU()), "GuidedBackprop", "no rule for PReLU"),
    (lambda: layers(nn.GELU()), "GuidedGradCam", "no rule for GELU"),
    (lambda: layers(nn.Tanh()), "Deconvolution", "no nn.ReLU"),
    (Functional, "DeepLift", "called as a function"), (Functional, "GuidedBackprop", "called as a function"),
    (Twice, "DeepLift", "more than once"), (Gate, "DeepLift", r"misses the difference.*perhaps Mul"),
    (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(200, 3)), "DeepLift",
     "overlapping max pooling in 1"),
    (lambda: layers(nn.PReLU()), "LRP", "LRP"),
])
def test_not_defined_says_why(build, method, reason, x):
    torch.manual_seed(0)
    model = build()
    with pytest.raises(NotDefined, match=reason):
        attribute(model, x * 2, method, 0)
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())


def test_the_others_are_still_offered(x):
    table = methods_for(layers(nn.PReLU()), x)["for this model"]
    assert list(table.index) == list(METHODS) and table["Saliency"] == table["Occlusion"] == "defined"
    assert {name for name, why in table.items() if why != "defined"} == {
        "DeepLift",
        "DeepLiftShap",
        "GuidedBackprop",
        "Deconvolution",
        "GuidedGradCam",
    }
    assert why_not(Net(), x, "DeepLift") == ""


def test_mistakes_are_named(net, x):
    for call, message in [
        (lambda: attribute(net, x, "Magic"), "no attribution method 'Magic'"),
        (lambda: attribute(net, x, "NeuronGradient"), "no attribution method"),
        (lambda: attribute(net, x, "Saliency", steps=3), "Saliency has no option steps"),
        (lambda: attribute(net, x, "LayerGradCam", layer="nose"), "no part 'nose'"),
        (lambda: attribute(net, x, "LayerGradCam", layer="maps"), "stands for 7 modules"),
        (lambda: attribute(net, (x * 255).byte(), "Saliency"), "to_float"),
        (lambda: capture(nn.Linear(2, 2), torch.zeros(1, 2)), "names no parts"),
        (lambda: attribute(net, x, "LayerConductance", layer="head.2", n_steps=3), "which is no map"),
    ]:
        with pytest.raises(ExplainError, match=message):
            call()


def test_nan_is_an_error(net, x):
    with torch.no_grad():
        net.features[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ExplainError, match="NaN or infinity for 3 of 3"):
        attribute(net, x, "IntegratedGradients", 0)
    assert why_not(net, x, "DeepLift").startswith("the answer is NaN")


# --- without a trace ------------------------------------------------------------------------------------------------


def test_the_model_comes_back_as_it_was(net, x):
    net.train()
    net.features[4].eval()  # a frozen part
    net.features[0].weight.requires_grad_(False)
    net.features[1].inplace = True
    hook = net.features[2].register_forward_hook(lambda *args: None)
    before = [(m.training, getattr(m, "inplace", None), len(m._forward_hooks)) for m in net.modules()]
    state = {key: value.clone() for key, value in net.state_dict().items()}
    for method in ("GuidedBackprop", "DeepLift", "LayerGradCam", "Occlusion"):
        attribute(net, x, method)
    with pytest.raises(ExplainError):
        attribute(net, x, "LayerGradCam", layer="nose")
    capture(net, x)
    assert before == [(m.training, getattr(m, "inplace", None), len(m._forward_hooks)) for m in net.modules()]
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * (len(list(net.parameters())) - 1)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    hook.remove()


def test_frozen_models_autocast_and_no_grad_do_not_matter(net, x):
    expected = {
        method: attribute(net, x, method, 1)
        for method in ("Saliency", "LayerGradCam", "GuidedBackprop", "IntegratedGradients")
    }
    frozen = copy.deepcopy(net).requires_grad_(False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for method, heat in expected.items():
            found = attribute(frozen, x, method, 1)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, heat)
    assert attribute(copy.deepcopy(net).bfloat16(), x, "Saliency", 1).dtype == torch.float32


def test_undisturbed_restores_after_an_error(net):
    net.train()
    with pytest.raises(ZeroDivisionError), undisturbed(net):
        net.features[0].register_forward_hook(lambda *args: None)
        1 / 0  # noqa: B018
    assert net.training and net.features[1].training and not net.features[0]._forward_hooks


# --- capture --------------------------------------------------------------------------------------------------------


def test_capture_by_name(net, x):
    parts = capture(net, x)
    assert list(parts)[-1] == "features" and parts["features"].shape == (3, 6, 6, 6) and "maps/features.2" in parts
    torch.testing.assert_close(parts["features"], net.eval().features(x).detach())
    torch.testing.assert_close(parts["first"], net.features[0](x).detach())  # not overwritten by what follows
    assert not parts["features"].requires_grad and capture(net, x, ["head.2"], grad=True)["head.2"].requires_grad


def test_capture_of_tuples_repeats_and_unused_parts():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.line, self.idle = nn.GRU(4, 2, batch_first=True), nn.Linear(2, 2), nn.Linear(1, 1)

        def forward(self, x):
            return self.line(self.line(self.gru(x)[0]))

    parts = capture(Odd(), torch.zeros(1, 3, 4), ["gru", "line"])
    assert set(parts) == {"gru.0", "gru.1", "line", "line#2"} and parts["gru.0"].shape == (1, 3, 2)
    with pytest.raises(ExplainError, match="did not use idle"):
        capture(Odd(), torch.zeros(1, 3, 4), ["idle"])


# --- sanity ---------------------------------------------------------------------------------------------------------


def test_randomised_works_from_the_top(net):
    twin = randomised(net, seed=3, upto="features.3")
    assert torch.equal(twin.features[0].weight, net.features[0].weight)
    assert not torch.equal(twin.features[3].weight, net.features[3].weight)
    assert not torch.equal(twin.head[2].weight, net.head[2].weight)
    assert torch.equal(twin.features[4].running_mean, torch.zeros(6))
    everything = randomised(net, seed=3)
    assert not torch.equal(everything.features[0].weight, net.features[0].weight)
    assert torch.equal(everything.head[2].weight, twin.head[2].weight)  # one seed, one twin
    with pytest.raises(ExplainError, match="no weights"):
        randomised(net, upto="features.1")


def test_randomised_without_config_and_without_reset(x):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(64))

        def forward(self, x):
            return x.flatten(1)[:, :64] * self.weight

    model = nn.Sequential(Scale(), nn.Linear(64, 2))
    twin = randomised(model)
    assert not torch.equal(twin[0].weight, model[0].weight) and 0.5 < twin[0].weight.std() / model[0].weight.std() < 2
    assert twin(x).shape == (3, 2)


def test_similarity_is_a_number_between_maps():
    a, b = torch.randn(2, 4, 20, 20).unbind()
    expected = [spearmanr(p.abs().flatten(), q.abs().flatten()).statistic for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(similarity(a, b), expected, atol=1e-9)
    for how in ("rank", "ssim"):
        np.testing.assert_allclose(similarity(a, -2 * a, how), 1, atol=1e-9)
        assert abs(similarity(a, b, how)).max() < 0.5
    assert similarity(a, torch.zeros_like(a)).tolist() == [0] * 4
    with pytest.raises(ExplainError, match="one shape"):
        similarity(a, b[:2])


class Template(nn.Module):
    def __init__(self, gain=1.0):
        super().__init__()
        self.config = {"gain": gain}
        self.gain, self.line = gain, nn.Linear(SIZE * SIZE, 2)
        nn.init.constant_(self.line.weight, gain) if gain else None

    def forward(self, x):
        return self.line(x.flatten(1))


def test_sanity_tells_a_map_of_the_face_from_one_of_the_weights():
    x = torch.randn(4, 1, SIZE, SIZE)
    face = sanity(
        Template(), x, "InputXGradient", 0
    )  # constant weights: the map is the face itself, and so is its twin
    assert np.allclose(face.rank, 1) and np.allclose(face.ssim, 1)
    weights = sanity(Template(gain=0), x, "Saliency", 0)
    assert abs(weights.rank).max() < 0.3 and weights.map.shape == weights.twin.shape == (4, SIZE, SIZE)


# --- occlusion ------------------------------------------------------------------------------------------------------


def test_occlusion_finds_the_one_pixel_that_matters():
    class Watcher(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(5.0))

        def forward(self, x):
            seen = x[:, 0, 13, 5] * self.scale
            return torch.stack([seen, -seen], 1)

    x = torch.ones(2, 1, SIZE, SIZE)
    found = occlusion_map(Watcher(), x, window=4, stride=3, fill=-1.0)
    covers = (
        (found["rows"][:, None] <= 13)
        & (found["rows"][:, None] + 4 > 13)
        & (found["columns"] <= 5)
        & (found["columns"] + 4 > 5)
    )
    assert ((found["drop"][0] > 0.9) == covers).all() and ((found["flips"][0] == 1) == covers).all()
    assert (found["flips"][0][~covers] == -1).all() and np.allclose(found["drop"][0][~covers], 0)
    assert found["rows"].tolist() == [0, 3, 6, 9, 12, 15, 18, 20]  # the last one reaches the edge
    assert found["target"].tolist() == [0, 0] and np.allclose(found["probability"], 1, atol=1e-3)


def test_occlusion_does_not_depend_on_the_batch(net, x):
    whole, small = (occlusion_map(net, x, 1, window=5, stride=4, batch=batch) for batch in (512, 3))
    np.testing.assert_allclose(whole["drop"], small["drop"], atol=1e-6)
    alone = occlusion_map(net, x[2:], 1, window=5, stride=4)
    np.testing.assert_allclose(whole["drop"][2], alone["drop"][0], atol=1e-6)
    for window, stride in ((0, 1), (SIZE + 1, 1), (4, 0)):
        with pytest.raises(ExplainError, match=f"window=.?{window}"):
            occlusion_map(net, x, window=window, stride=stride)


# --- on a GPU -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recurrent_models_and_inputs_elsewhere_on_a_gpu(net, x):
    torch.testing.assert_close(
        attribute(copy.deepcopy(net).cuda(), x, "Saliency", 1).cpu(),
        attribute(net, x, "Saliency", 1),
        rtol=1e-2,
        atol=1e-4,
    )

    class Film(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(SIZE * SIZE, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.gru(x.flatten(2))[0][:, -1])

    film = torch.randn(2, 3, 1, SIZE, SIZE)
    for method in ("Saliency", "IntegratedGradients", "InputXGradient"):
        assert attribute(Film().cuda(), film, method).isfinite().all()  # cuDNN alone refuses this in eval mode


@pytest.mark.parametrize("method", ["LayerGradientShap", "LayerDeepLiftShap", "LayerFeatureAblation"])
def test_layer_methods_bring_what_captum_asks_for(net, x, method):
    heat = attribute(net, x, method)
    assert heat.shape == (3, SIZE, SIZE) and heat.abs().sum() > 0


@pytest.mark.parametrize("method", ["LimeBase", "LayerFeaturePermutation"])
def test_what_is_no_map_of_a_face_is_refused(net, x, method):
    with pytest.raises(ExplainError, match=method):
        attribute(net, x, method)


class Odd(Net):
    def __init__(self):
        super().__init__()
        self.odd = nn.PReLU()  # LRP has no rule for it

    def forward(self, x):
        return self.head(self.odd(self.features(x)))


def test_a_rule_that_fails_leaves_nothing_behind(x):
    odd = Odd()
    for _ in range(2):
        with pytest.raises(ExplainError):
            attribute(odd, x, "LRP")
    assert not any(hasattr(module, "rule") for module in odd.modules())


@pytest.mark.parametrize("method", sorted(STEADY))
def test_a_steady_method_needs_no_random_number(method, monkeypatch):
    model, faces = Net().eval(), torch.rand(2, 1, SIZE, SIZE)
    torch.manual_seed(5)
    one = attribute(model, faces, method, 0)
    torch.manual_seed(6)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("another thread may be drawing"))
    assert torch.equal(one, attribute(model, faces, method, 0))
