"""What the explorer shows is what explain, receptive and the network itself say, live and frozen."""

import base64
import html
import json
import re
import shutil
import subprocess
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from fer_lab import explorer as module
from fer_lab.augment import to_float
from fer_lab.explain import attribute, capture, methods_for, randomised, similarity, squares
from fer_lab.explorer import Explorer, FromList, arithmetic, as_bytes, as_maps, quality, recorded, refining, stages
from fer_lab.models import PlainStack, create, load_zoo
from fer_lab.receptive import ledger, receptive_field
from fer_lab.widgets import ASSETS, Overtaken, WidgetError

CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")


@pytest.fixture(scope="module")
def images():
    return torch.randint(0, 256, (3, 1, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def stn():
    return load_zoo("stn-fer2013")[0]


@pytest.fixture(scope="module")
def x(images):
    return to_float(images[:1])


@pytest.fixture(scope="module")
def record(stn, x):
    return recorded(stn, x)


class Frames(nn.Module):
    "A convolution for each frame, a GRU over time."

    def __init__(self, classes=3):
        super().__init__()
        self.config = {}
        self.inspect = {"memory": "gru"}
        self.conv, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.gru, self.head = nn.GRU(4, 8, batch_first=True), nn.Linear(8, classes)

    def forward(self, x):  # [N, T, C, H, W]
        maps = self.relu(self.conv(x.flatten(0, 1))).mean((2, 3))
        return self.head(self.gru(maps.view(*x.shape[:2], -1))[0][:, -1])


class Films(Frames):
    "The same for a list of films."

    def forward(self, films):
        assert isinstance(films, list)
        return torch.cat([super(Films, self).forward(film[None]) for film in films])


def settled(explorer):
    explorer.looking.wait(60)
    explorer.heating.wait(120)
    assert explorer.looking.thread is None and explorer.heating.thread is None
    return explorer


def small(**more):
    torch.manual_seed(0)
    faces = torch.randint(0, 256, (3, 1, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return Explorer(PlainStack(3, (4, 6)).eval(), faces, ("a", "b", "c"), **more)


def heat_of(explorer, side=0) -> torch.Tensor:
    found = explorer.heat["sides"][side]
    raw = np.frombuffer(base64.b64decode(found["bytes"]), np.uint8).astype(np.float32)
    return torch.from_numpy((raw - 127) / 127 * found["top"])


# ---------------------------------------------------------------- blocks and maps

def test_what_is_recorded_is_what_capture_gives(stn, x, record):
    calls, logits = record
    assert torch.equal(logits, stn(x).detach())
    for name, path in (("features", "features"), ("theta", "localisation"), ("warped", "sampler")):
        assert torch.equal(calls[path].out, capture(stn, x, name)[name])
    assert not any(len(m._forward_hooks) for m in stn.modules())


def test_a_module_used_twice_has_two_entries():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            return self.conv(self.conv(x)).mean((2, 3))

    model, x = Twice(), torch.randn(1, 1, 8, 8)
    calls, _ = recorded(model, x)
    assert list(calls) == ["conv", "conv#2"] and torch.equal(calls["conv#2"].given, calls["conv"].out)
    found = arithmetic(calls, "conv#2", (0, 3, 3))
    assert found["value"] == pytest.approx((found["patch"] * found["kernel"]).sum() + found["bias"], abs=1e-5)


def test_shapes_and_fields_are_those_of_the_ledger_and_of_receptive_field(stn, x):
    rows, missing = module.blocks_of(stn, x)
    rows = {row["path"]: row for row in rows}
    known = ledger(stn, x.shape[1:]).set_index("layer")
    assert not missing and set(known.index) <= set(rows)
    for path, line in known.iterrows():
        assert tuple(rows[path]["shape"]) == line.output
    for path in ("features.conv1", "features.pool2", "features", "localisation.look.conv2"):
        field = receptive_field(stn, x.shape[1:], path)
        assert rows[path]["fields"][0] == [field.size, field.jump, field.first]
    assert {row["part"] for row in rows.values()} == {"", "features", "theta", "warped"}


def test_an_operation_that_trace_does_not_know_costs_only_the_fields():
    model = nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 100, 2))
    rows, missing = module.blocks_of(model, torch.zeros(1, 1, 8, 8))
    assert "transposed" in missing and all(row["fields"] is None for row in rows) and len(rows) == 3


def test_maps_arrive_exactly_to_one_byte(stn, images):
    explorer = settled(Explorer(stn, images, CLASSES, block="features.conv3", level="maps"))
    side = explorer.maps["sides"][0]
    raw = np.frombuffer(base64.b64decode(side["bytes"]), np.uint8).reshape(10, 20, 20).astype(float)
    found = (raw - 127) / 127 * np.array(side["tops"])[:, None, None]
    expected = capture(stn, to_float(images[:1]), "features.conv3")["features.conv3"][0].numpy()
    assert (np.abs(found - expected) <= np.array(side["tops"])[:, None, None] / 253).all()


def test_of_many_maps_the_strongest_are_shown():
    maps = torch.rand(100, 3, 3) * torch.arange(100)[:, None, None]
    assert len(module.strongest_maps(maps)) == 64 and module.strongest_maps(maps)[-1] == 99
    assert module.strongest_maps(torch.rand(100, 1, 1)) == list(range(100))


# ---------------------------------------------------------------- units

def every_unit(calls, path, count, seed=0):
    shape = as_maps(calls[path].out).shape
    return np.random.default_rng(seed).integers(0, shape, (count, 3)).tolist()


def value_of(found) -> float:
    "The value that the shown arithmetic comes to."
    if found["rule"] == "sum":
        return float((found["patch"].astype(float) * found["kernel"]).sum() + found["bias"])
    if found["rule"] == "normalise":
        return (found["x"] - found["mean"]) / found["deviation"] * found["scale"] + found["shift"]
    return float(found["patch"].max() if found["rule"] == "maximum" else found["patch"].mean())


@pytest.mark.parametrize("path", ["features.conv1", "features.norm2", "features.conv4", "features.pool4", "head.fc1",
                                  "localisation.look.pool1", "localisation", "head"])
def test_the_arithmetic_shown_is_the_networks_own(record, path):
    for unit in every_unit(record[0], path, 30):
        found = arithmetic(record[0], path, unit)
        assert found["value"] == pytest.approx(float(as_maps(record[0][path].out)[tuple(unit)]))
        assert value_of(found) == pytest.approx(found["value"], abs=2e-4)


@pytest.mark.parametrize("layer", [
    nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), nn.Conv2d(4, 8, 3, padding=1, groups=4),
    nn.Conv2d(4, 4, 3, padding="same", bias=False), nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"),
    nn.MaxPool2d(3, 2, 1), nn.AvgPool2d((2, 3)), nn.BatchNorm2d(4, affine=False),
], ids=str)
def test_every_kind_of_window(layer):
    torch.manual_seed(0)
    calls, _ = recorded(nn.Sequential(layer), torch.randn(1, 4, 11, 12))
    for unit in every_unit(calls, "0", 25):
        found = arithmetic(calls, "0", unit)
        assert value_of(found) == pytest.approx(found["value"], abs=1e-4)


def test_what_has_no_single_sum_says_so(record):
    assert "no single sum" in arithmetic(record[0], "sampler", (0, 1, 1))["words"]
    assert arithmetic(record[0], "features", (1, 2, 3))["through"] == "features.relu4"
    calls, _ = recorded(Frames(), torch.randn(1, 5, 1, 8, 8))
    assert "memory" in arithmetic(calls, "gru", (2, 0, 0), 5, 3)["words"]
    found = arithmetic(calls, "conv", (2, 3, 4), 5, 3)
    assert found["value"] == pytest.approx(float(calls["conv"].out[3, 2, 3, 4]))
    assert value_of(found) == pytest.approx(found["value"], abs=1e-5)


# ---------------------------------------------------------------- heat maps

@pytest.mark.parametrize("method", ["Saliency", "GuidedBackprop", "LayerGradCam", "IntegratedGradients", "Occlusion",
                                    "KernelShap", "GradientShap", "FeatureAblation"])
def test_the_last_map_is_attributes_own(method):
    explorer = settled(small(method=method, target=2))
    assert "error" not in explorer.heat and explorer.heat["rough"] is False
    expected = attribute(explorer.originals[0], explorer.x_of(0), method, 2)[0].flatten()
    top = explorer.heat["sides"][0]["top"]
    assert (heat_of(explorer) - expected.clamp(-top, top)).abs().max() <= top / 200


def test_layer_regions_and_twin_reach_the_method():
    regions = squares((24, 24), 12)
    explorer = small(method="KernelShap", target=1, regions=regions)
    assert len(settled(explorer) and heat_of(explorer).unique()) <= 4
    explorer.method, explorer.layer = "LayerGradCam", "stages.0.relu"
    expected = attribute(explorer.originals[0], explorer.x_of(0), "LayerGradCam", 1, layer="stages.0.relu")
    assert similarity(heat_of(settled(explorer)).view(1, 24, 24), expected)[0] > 0.99
    explorer.twin = True
    settled(explorer)                                 # before this thread draws the same twin
    expected = attribute(randomised(explorer.originals[0]), explorer.x_of(0), "LayerGradCam", 1, layer="stages.0.relu")
    assert similarity(heat_of(explorer).view(1, 24, 24), expected)[0] > 0.99


def test_a_wrong_layer_is_refused_and_its_figures_are_gone():
    explorer = settled(small(method="LayerGradCam", target=1))
    assert explorer.quality["sides"]
    explorer.layer = "nope"
    settled(explorer)
    assert "no part 'nope'" in explorer.heat["error"] and "stages.0.relu" in explorer.heat["error"]
    assert "sides" not in explorer.heat and explorer.quality == {}
    with pytest.raises(module.ExplainError, match="nope"):
        explorer.freeze(methods=("Saliency", "LayerGradCam"), progress=False)
    explorer.method = "Saliency"  # has no use for a layer
    assert settled(explorer).heat["sides"] and explorer.quality["sides"]
    explorer.method, explorer.layer = "LayerActivation", "nope"
    assert "nope" in settled(explorer).heat["error"]


def test_a_second_model_without_the_layer_shows_its_own_last_maps_and_says_so():
    torch.manual_seed(3)
    second = PlainStack(3, (5,)).eval()
    explorer = settled(small(second=second, names=("one", "two"), beside="model", method="LayerGradCam", target=1,
                             layer="stages.1.relu"))
    first, other = explorer.heat["sides"]
    assert not first.get("instead") and other["instead"] == "two has no stages.1.relu: its last feature maps"
    expected = attribute(second, explorer.x_of(0), "LayerGradCam", 1)[0].flatten()
    assert (heat_of(explorer, 1) - expected.clamp(-other["top"], other["top"])).abs().max() <= other["top"] / 200
    state = state_of(frozen_page(explorer, methods=("LayerGradCam",)))
    assert state["traits"]["layer"] == "stages.1.relu"
    assert [model[0]["heat"]["LayerGradCam"]["instead"] for model in state["data"]["models"]] == ["", other["instead"]]


def test_two_faces_and_two_models_side_by_side():
    second = PlainStack(3, (5, 5)).eval()
    explorer = settled(small(second=second, names=("one", "two"), beside="2", block="stages.0.conv", method="Saliency"))
    assert [side["face"] for side in explorer.network["sides"]] == [0, 2] and len(explorer.maps["sides"]) == 2
    explorer.beside = "model"
    settled(explorer)
    assert explorer.maps["sides"][1]["shape"][0] == 5 and explorer.models == ["one", "two"]
    expected = attribute(second, explorer.x_of(0), "Saliency")[0].flatten()
    top = explorer.heat["sides"][1]["top"]
    assert (heat_of(explorer, 1) - expected.clamp(-top, top)).abs().max() <= top / 200


def test_methods_are_those_of_methods_for():
    explorer = small(methods=("Saliency", "DeepLift", "GuidedBackprop"))
    explorer.originals[0].stages[0].relu = nn.GELU()
    explorer.refresh()
    settled(explorer)
    explorer.methods = [{**row, "reason": None} for row in explorer.methods]
    explorer.target = 1
    settled(explorer)
    expected = methods_for(explorer.originals[0], explorer.x_of(0))["for this model"]
    for row in explorer.methods:
        assert (row["reason"] or "defined") == expected[row["name"]]
    assert "GELU" in explorer.methods[2]["reason"]
    explorer.method = "GuidedBackprop"
    assert "not defined" in settled(explorer).heat["error"] and "sides" not in explorer.heat


def test_sensitivity_and_infidelity_are_captums():
    model, x = PlainStack(3, (4, 6)).eval(), torch.randn(1, 1, 24, 24) / 3
    heat = attribute(model, x, "InputXGradient", 1)
    again = lambda faces: attribute(model, faces, "InputXGradient", 1)  # noqa: E731
    found = quality(model, x, heat, again, 1, samples=4)
    dice = torch.Generator().manual_seed(0)

    def shaken(faces):
        return faces[0] + 0.02 * (2 * torch.rand(faces[0].shape, generator=dice) - 1) if isinstance(faces, tuple) else (
            faces + 0.02 * (2 * torch.rand(faces.shape, generator=dice) - 1))

    def changed(inputs):
        step = 0.2 * torch.randn(inputs.shape, generator=dice)
        return step, inputs - step

    expected = sensitivity_max(lambda faces: (again(faces[0] if isinstance(faces, tuple) else faces),), x, shaken,
                               n_perturb_samples=4)
    error = infidelity(model, changed, x, heat[:, None], target=1, n_perturb_samples=64, max_examples_per_batch=32,
                       normalize=True)
    assert found["sensitivity"] == pytest.approx(float(expected[0]), rel=1e-3)
    assert found["infidelity"] == pytest.approx(float(error[0]), rel=1e-2)


def test_judging_a_map_draws_no_random_number_of_the_readers():
    model, before = PlainStack(3, (4,)).eval(), torch.get_rng_state()
    quality(model, torch.zeros(1, 1, 8, 8), torch.ones(1, 8, 8), lambda faces: faces[:, 0], 0)
    assert torch.equal(before, torch.get_rng_state())


def test_a_linear_network_is_explained_without_infidelity():
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.randn(1, 1, 8, 8)
    heat = attribute(model, x, "InputXGradient", 0) / x[:, 0]  # the signed gradient, which is exact here
    again = lambda faces: (attribute(model, faces, "InputXGradient", 0) / faces[:, 0])  # noqa: E731
    found = quality(model, x, heat, again, 0)
    assert found["infidelity"] < 1e-6 and found["sensitivity"] < 1e-3
    noise = torch.randn(1, 8, 8)
    assert quality(model, x, noise, lambda faces: noise, 0)["infidelity"] > 1e-3


# ---------------------------------------------------------------- waiting

class Slow(PlainStack):
    "Takes its time; `gate` may hold it."

    def forward(self, x):
        time.sleep(0.02)
        return super().forward(x)


def test_a_slow_method_tells_at_once_refines_and_is_overtaken():
    grey = torch.full((1, 1, 24, 24), 90, dtype=torch.uint8)
    explorer = settled(Explorer(Slow(3, (4, 6)).eval(), grey, "abc", methods=["Saliency"]))
    told, rough = [], []
    explorer.observe(lambda change: told.append((time.perf_counter(), change.new)), "progress")
    explorer.observe(lambda change: rough.append((change.new["method"], change.new.get("rough"))), "heat")
    started = time.perf_counter()
    explorer.method = "Occlusion"
    while len(told) < 3 and time.perf_counter() < started + 20:
        time.sleep(0.01)
    assert told[0][1] == 0 and told[0][0] - started < 0.25
    while not rough and time.perf_counter() < started + 20:
        time.sleep(0.01)
    explorer.method = "InputXGradient"
    settled(explorer)
    assert rough[0] == ("Occlusion", True) and rough[-1] == ("InputXGradient", False)
    assert ("Occlusion", False) not in rough and len(stages("Occlusion", 24)) == 2


def test_cancel_keeps_the_rough_map_and_go_on_finishes_it():
    grey = torch.full((1, 1, 24, 24), 90, dtype=torch.uint8)
    explorer = settled(Explorer(Slow(3, (4, 6)).eval(), grey, "abc", methods=["Saliency"]))
    seen = threading.Event()
    explorer.observe(lambda change: seen.set() if change.new.get("rough") else None, "heat")
    explorer.method = "KernelShap"
    assert seen.wait(30)
    explorer.stopped = True
    explorer.heating.wait(5)
    assert explorer.heating.thread is None and explorer.heat["rough"] is True and explorer.progress == 1
    explorer.stopped = False
    assert settled(explorer).heat["rough"] is False


def test_an_interruption_leaves_no_hooks():
    model, calls = PlainStack(3, (4, 6)).eval(), []

    def progress(share):
        calls.append(share)
        if len(calls) > 2:
            raise Overtaken

    with pytest.raises(Overtaken):
        list(refining(model, torch.zeros(1, 1, 24, 24), "IntegratedGradients", 0, progress))
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in model.modules())


# ---------------------------------------------------------------- hard cases

def test_nan_is_reported_and_not_drawn():
    explorer = small(block="stages.0.conv")
    with torch.no_grad():
        explorer.originals[0].stages[0].conv.bias[0] = float("nan")
    explorer.refresh()
    settled(explorer)
    assert "NaN" in explorer.heat["error"] and "sides" not in explorer.heat
    assert "NaN" in explorer.maps["error"] and explorer.network["sides"][0]["probabilities"] is None
    assert any(block.get("bad") for block in explorer.network["sides"][0]["blocks"])
    json.dumps(explorer.get_state(), allow_nan=False)
    with pytest.raises(module.ExplainError, match="1 of 4"):
        as_bytes(torch.tensor([[1.0, float("nan")], [0, 2]]))


def test_frozen_parameters_half_precision_and_training_mode():
    explorer = small()
    model = explorer.originals[0]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explorer.refresh()
    assert "error" not in settled(explorer).heat and model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["tensor", "list"])
def test_sequences_have_a_time(kind):
    films = torch.randint(0, 256, (2, 5, 1, 12, 12), dtype=torch.uint8)
    model = Frames().eval() if kind == "tensor" else FromList(Films().eval())
    prefix, films = ("", films) if kind == "tensor" else ("model.", list(films))
    explorer = settled(Explorer(model, films, "abc", block=f"{prefix}conv", frame=3))
    assert explorer.moving and explorer.spans == [[0, 5], [5, 10]]
    assert heat_of(explorer).shape == (5 * 144,)
    conv = recorded(model, explorer.x_of(0))[0][f"{prefix}conv"].out[3]
    assert explorer.maps["sides"][0]["shape"] == list(conv.shape)
    assert explorer.maps["sides"][0]["tops"][1] == pytest.approx(float(conv[1].abs().max()), rel=1e-4)
    reasons = {row["name"]: row["reason"] for row in explorer.methods}
    assert "GRU" in reasons["DeepLift"] and not reasons["IntegratedGradients"]
    assert any(block["part"] == "memory" for block in explorer.network["sides"][0]["blocks"])


def test_no_face_is_a_state_and_wrong_faces_are_refused_in_words():
    assert Explorer(PlainStack(3), torch.zeros(0, 1, 8, 8).byte(), "abc").heat == {}
    with pytest.raises(WidgetError, match="uint8"):
        Explorer(PlainStack(3), torch.zeros(1, 1, 8, 8), "abc")
    with pytest.raises(WidgetError, match="classes"):
        Explorer(PlainStack(3), torch.zeros(1, 1, 8, 8).byte())
    with pytest.raises(WidgetError, match="colour"):
        small(colour="red")


@pytest.mark.parametrize("count", [2, 4, 7])
def test_as_many_classes_as_outputs(count):
    faces = torch.zeros(1, 1, 24, 24, dtype=torch.uint8)
    with pytest.raises(WidgetError, match=f"wrong has 3 outputs and {count} classes"):
        Explorer(PlainStack(3, (4,)).eval(), faces, list("abcdefg"[:count]), names=["wrong"])
    with pytest.raises(WidgetError, match=f"PlainStack has {count} outputs and 3 classes"):
        Explorer(PlainStack(3, (4,)).eval(), faces, "abc", second=PlainStack(count, (4,)).eval())


def test_a_network_that_gives_no_logits_is_refused_and_one_that_fails_is_reported():
    faces = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(WidgetError, match=r"Conv2d gave \[1, 3, 6, 6\]"):
        Explorer(nn.Conv2d(1, 3, 3), faces, "abc")
    explorer = settled(Explorer(nn.Sequential(nn.Flatten(), nn.Linear(5, 3)), faces, "abc"))
    assert "shapes cannot be multiplied" in explorer.network["error"] and explorer.heat["error"]


@pytest.mark.parametrize(("names", "words"), [
    (("GradCam",), "Did you mean LayerGradCam"), (("Saliency", "kernelshap"), "Did you mean KernelShap"),
    (("Saliency", "Foo"), "'Foo'. Known here: Saliency"), ((), "at least one"),
])
def test_a_method_that_does_not_exist_is_refused_with_the_nearest(names, words):
    with pytest.raises(WidgetError, match=words):
        small(methods=names)
    with pytest.raises(WidgetError, match=words):
        small().freeze(methods=names, progress=False)


@pytest.mark.parametrize("faces", [[9], [-1], [], [0, 3]])
def test_a_face_that_does_not_exist_is_not_frozen(faces):
    with pytest.raises(WidgetError, match="has 3; choose"):
        small().freeze(faces=faces, progress=False)


def test_colour_faces_are_explained_in_colour_and_shown_in_grey():
    explorer = settled(Explorer(create("plain", 3, in_channels=3, widths=(4, 4)).eval(),
                                torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8), "abc"))
    assert explorer.shape == [1, 1, 16, 16] and heat_of(explorer).shape == (256,)
    assert "infidelity" in explorer.quality["sides"][0]


# ---------------------------------------------------------------- frozen

def state_of(page: str) -> dict:
    return json.loads(re.search(r'id="state">(.*?)</script>', page, re.DOTALL)[1])


def frozen_page(explorer, **choices) -> str:
    return html.unescape(re.search('srcdoc="(.*?)"', settled(explorer).freeze(progress=False, **choices), re.DOTALL)[1])


def opened(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


@pytest.fixture(scope="module")
def frozen(stn, images, tmp_path_factory):
    explorer = settled(Explorer(stn, images, CLASSES))
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    methods = ("Saliency", "InputXGradient", "GuidedBackprop", "LayerGradCam", "GuidedGradCam")
    explorer.freeze(path, faces=[1], methods=methods, progress=False)
    return explorer, path.read_text("utf-8")


def test_a_page_of_one_face_and_five_methods_is_small_and_loads_nothing(frozen):
    _, page = frozen
    assert len(page) < 1_500_000
    assert not re.search(r"""(?:src|href)=|https?://|\bimport\(|fetch\(|url\(""", page)


def test_the_pages_maps_are_attributes_for_every_class_and_twin(frozen, stn, images):
    state = state_of(frozen[1])
    heat = state["data"]["models"][0][0]["heat"]
    assert set(heat) == {"Saliency", "InputXGradient", "GuidedBackprop", "LayerGradCam", "GuidedGradCam"}
    x = to_float(images[1:2])
    for which, model in (("own", stn), ("twin", randomised(stn).eval())):
        for k in (0, 4):
            raw = np.frombuffer(opened(heat["InputXGradient"][which][k]), np.uint8).reshape(48, 48).astype(float)
            top = heat["InputXGradient"][f"{which}_tops"][k]
            expected = attribute(model, x, "InputXGradient", k)[0].numpy().clip(-top, top)
            assert np.abs((raw - 127) / 127 * top - expected).max() <= top / 200


def test_little_room_leaves_layers_out_and_says_so(stn, images):
    explorer = settled(Explorer(stn, images, CLASSES))
    page = frozen_page(explorer, methods=("Saliency",), room=260_000)
    assert len(page) < 260_000 and 0 < int(re.search(r"without Python: (\d+) of 34 blocks", page)[1]) < 34


def test_freezing_says_how_far_it_is_and_what_it_wrote_where(tmp_path, capsys):
    path = tmp_path / "page.html"
    settled(small()).freeze(path, faces=[0, 2], methods="Saliency")
    told = capsys.readouterr().err
    assert "face 2: Saliency" in told and "4/4" in told
    assert f"{path}: {path.stat().st_size / 1e6:.2f} MB" in told


def test_a_frozen_layer_is_named_and_is_the_layer():
    explorer = small(method="LayerGradCam", layer="stages.0.relu")
    state = state_of(frozen_page(explorer, methods=("LayerGradCam",)))
    assert state["traits"]["layer"] == "stages.0.relu"
    found = state["data"]["models"][0][0]["heat"]["LayerGradCam"]
    raw = np.frombuffer(opened(found["own"][1]), np.uint8).reshape(1, 24, 24).astype(np.float32) - 127
    expected = attribute(explorer.originals[0], explorer.x_of(0), "LayerGradCam", 1, layer="stages.0.relu")
    assert similarity(torch.from_numpy(raw), expected)[0] > 0.99


def films(length, size=48):
    dice = torch.Generator().manual_seed(length)
    return torch.randint(0, 256, (1, length, 1, size, size), dtype=torch.uint8, generator=dice)


@pytest.mark.parametrize("length", [6, 12])
def test_a_page_of_a_sequence_is_small(length, monkeypatch):
    judged = {"sensitivity": 0.123, "infidelity": 0.123, "samples": 8, "rank": 0.123}  # the slow part
    monkeypatch.setattr(Explorer, "_judged", lambda *given: judged)
    torch.manual_seed(0)
    explorer = Explorer(Frames(7).eval(), films(length), CLASSES, regions=squares((48, 48), 24))
    methods = ("Saliency", "InputXGradient", "LayerGradCam", "GradientShap", "FeatureAblation")
    iframe = settled(explorer).freeze(methods=methods, progress=False)
    state = state_of(html.unescape(iframe))
    heat = state["data"]["models"][0][0]["heat"]
    assert len(iframe) < 1_500_000 and set(heat) == set(methods)
    assert all(len(opened(text)) == length * 48 * 48 for one in heat.values() for text in one["own"] + one["twin"])
    assert f"for all {length} frames" in state["traits"]["frozen"]["note"]


def test_the_page_shows_the_maps_and_the_arithmetic_of_every_frame(node):
    torch.manual_seed(0)
    model = Frames().eval()
    explorer = Explorer(model, films(5, 12), "abc", frame=3)
    state = state_of(frozen_page(explorer, methods=("Saliency",)))
    calls, _ = recorded(model, explorer.x_of(0))
    asked = [(frame, path, unit) for frame in range(5) for path, unit in (("conv", [1, 4, 5]), ("gru", [1, 0, 0]))]
    script = """const { explorerAnswers } = await import(assets + "explorer_page.mjs");
        const answer = await explorerAnswers(data.state);
        const state = { face: 0, beside: "", method: "Saliency", target: 1, layer: "", twin: false };
        console.log(JSON.stringify(data.asked.map(([frame, block, unit]) => {
            const { maps, pixel, network } = answer((name) => ({ ...state, frame, block, unit })[name]);
            return { frame: maps.frame, value: pixel.sides[0].value, rule: pixel.sides[0].rule,
                     patch: pixel.sides[0].patch, thumb: network.sides[0].blocks[0].thumb,
                     values: [...maps.sides[0].values] };
        })));"""
    found = run_node(node, script, {"state": state["data"], "asked": asked})
    for (frame, path, unit), ours in zip(asked, found, strict=True):
        expected = arithmetic(calls, path, unit, 5, frame)
        assert ours["frame"] == frame and ours["rule"] == expected["rule"]
        assert ours["value"] == pytest.approx(expected["value"], abs=2e-3)
        np.testing.assert_allclose(ours["values"], as_maps(calls[path].out, 5, frame).flatten(), atol=2e-3)
        if path == "conv":
            np.testing.assert_allclose(ours["patch"], expected["patch"].flatten(), atol=2e-3)
    assert len({one["thumb"] for one in found}) == 5


def test_a_frame_without_room_is_said_to_be_missing(node):
    torch.manual_seed(0)
    model = Frames().eval()
    calls, rows = recorded(model, torch.randn(1, 5, 1, 16, 16))[0], [{"path": "conv", "part": "", "leaf": True}]
    whole = module._Store(10**6)
    assert None not in module.stored_blocks(calls, rows, whole, 5, 3)["conv"]["out"]
    store = module._Store(whole.used // 2)
    block = module.stored_blocks(calls, rows, store, 5, 3)["conv"]
    assert store.used <= store.room and block["out"][3] is not None and None in block["out"]
    script = """const { missing } = await import(assets + "explorer_page.mjs");
        console.log(JSON.stringify([0, 1, 2, 3, 4].map((frame) => missing(data, "conv", frame))));"""
    words = run_node(node, script, {"conv": block})
    assert [one is None for one in words] == [number is not None for number in block["out"]]
    wrong = block["out"].index(None)
    assert f"frame {wrong + 1}," in words[wrong] and re.search(r"Kept: frames? .*4", words[wrong])


def noisy_heat(seed, count=4, size=2000):
    dice = np.random.default_rng(seed)
    noise = dice.normal(0, 30, (2, count, size)).clip(-127, 127)
    return dict(zip(("own", "twin"), (127 + noise).astype(np.uint8)))


def test_heat_maps_that_do_not_fit_get_coarser_and_then_fewer():
    likeliest = [2, 0, 3, 1]
    for room, words, fineness in ((10**6, "", 127), (15_000, "31 steps", 31), (4_000, "likeliest of 4 classes", 15)):
        heat = noisy_heat(0)
        before, failed = {name: heat[name].copy() for name in heat}, {"error": "not defined"}
        told = module.fit_heat([(heat, likeliest), (failed, likeliest)], room)
        texts = heat["own"] + heat["twin"]
        assert words in told and bool(words) == bool(told) and failed == {"error": "not defined"}
        assert sum(len(text) for text in texts if text) <= room
        assert heat["own"][2] and heat["twin"][2]
        for name in heat:
            for k, text in enumerate(heat[name]):
                if text:
                    kept = np.frombuffer(opened(text), np.uint8).astype(int)
                    assert np.abs(kept - before[name][k]).max() <= 127 / fineness / 2 + 1


@pytest.fixture(scope="session")
def node():
    path = shutil.which("node")
    if not path:
        pytest.skip("node is not installed; it runs the front-end's own tests")
    return path


def run_node(node, script: str, data):
    prelude = f"import {{ readFileSync }} from 'node:fs';\nconst assets = {json.dumps(ASSETS.as_uri() + '/')};\n"
    prelude += "const data = JSON.parse(readFileSync(0, 'utf8'));\n"
    done = subprocess.run([node, "--input-type=module", "-e", prelude + script], input=json.dumps(data), text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_pages_arithmetic_is_pythons(frozen, node, stn, images):
    calls, _ = recorded(stn, to_float(images[1:2]))
    paths = ("features.conv1", "features.conv2", "features.pool2", "features.norm3", "head.fc1", "features.relu4",
             "localisation", "features")
    units = [(path, unit) for path in paths for unit in every_unit(calls, path, 6)]
    script = """const { explorerAnswers } = await import(assets + "explorer_page.mjs");
        const answer = await explorerAnswers(data.state);
        const state = { face: 0, beside: "", frame: 0, method: "Saliency", target: -1, layer: "", twin: false };
        console.log(JSON.stringify(data.units.map(([block, unit]) =>
            answer((name) => ({ ...state, block, unit })[name]).pixel.sides[0])));"""
    found = run_node(node, script, {"state": state_of(frozen[1])["data"], "units": units})
    for (path, unit), ours in zip(units, found, strict=True):
        expected = arithmetic(calls, path, unit)
        assert ours["rule"] == expected["rule"] and ours.get("through") == expected.get("through")
        assert ours["value"] == pytest.approx(expected["value"], rel=2e-3, abs=2e-3)
        for name in ("patch", "kernel"):
            if name in expected:
                np.testing.assert_allclose(np.array(ours[name], float), expected[name].flatten(), rtol=2e-3, atol=2e-3)


def test_the_browser_sees_as_far_as_receptive_says(node, stn, x):
    rows, _ = module.blocks_of(stn, x)
    rows = [row for row in rows if row["fields"] and len(row["shape"]) == 3]
    from fer_lab.receptive import Field

    script = """const { sight } = await import(assets + "explorer.mjs");
        console.log(JSON.stringify(data.map(({ fields, row, column }) => sight(fields, row, column, 48, 48))));"""
    asked = [dict(fields=row["fields"], row=row["shape"][1] - 1, column=row["shape"][2] // 2) for row in rows]
    for one, box in zip(asked, run_node(node, script, asked), strict=True):
        assert (box["top"], box["bottom"]) == Field(*one["fields"][0]).pixels(one["row"], 48)
        assert (box["left"], box["right"]) == Field(*one["fields"][1]).pixels(one["column"], 48)


def test_the_front_ends_own_tests_pass_and_the_view_loads_nothing(node, tmp_path):
    done = subprocess.run([node, "--test", str(Path(__file__).with_name("explorer.test.mjs"))], capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 10
    (tmp_path / "view.mjs").write_text(module.EXPLORER_VIEW, encoding="utf-8")
    script = "console.log(JSON.stringify(Object.keys((await import(data)).default)));"
    assert run_node(node, script, (tmp_path / "view.mjs").as_uri()) == ["render"]
    assert not re.search(r"^\s*import\b|\bimport\(|fetch\(|https?://", module.EXPLORER_VIEW, re.MULTILINE)
