"""The Python side of the widgets, and their front-end logic run by node against PyTorch."""

import base64
import html
import json
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import traitlets
from torch import nn

from fer_lab import widgets
from fer_lab.augment import to_float, to_uint8
from fer_lab.papers.stn import DeepEmotion
from fer_lab.widgets import (
    ASSETS,
    Lattice,
    Newest,
    OcclusionWidget,
    ThetaWidget,
    WidgetError,
    bundle,
    occlusion_table,
    theta_from,
    theta_probabilities,
)

CLASSES = ("dark", "bright", "neither")
COARSE = Lattice((-40, 40, 5), (0.7, 1.4, 3), (-0.4, 0.4, 5))


class Peephole(nn.Module):
    """Is the middle of what it reads darker than the rest, brighter, or neither? Dropout would show training mode."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.chosen = nn.Parameter(torch.tensor([[0.8, -0.1, 0.05], [0.1, 0.8, 0.1]]))

    def theta_of(self, x):
        return self.chosen.expand(len(x), 2, 3)

    def warp_with(self, x, theta):
        seen = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
        contrast = self.dropout(F.interpolate(seen, (3, 3), mode="area")[:, 0, 1, 1] - seen.mean((1, 2, 3)))
        return torch.stack([-6 * contrast, 6 * contrast, torch.zeros_like(contrast)], 1)


@pytest.fixture(scope="session")
def node():
    path = shutil.which("node")
    if not path:
        pytest.skip("node is not installed; it runs the front-end's own tests")
    return path


@pytest.fixture
def images():
    noise = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(noise, (48, 48), mode="bicubic").clamp(0, 1) * 255).byte()


@pytest.fixture
def widget(images):
    return ThetaWidget(Peephole(), images, CLASSES, labels=[0, 1, -1])


def run_node(node, script: str, data) -> object:
    """What a module script prints as JSON; it finds `data` on standard input and our files as `assets`."""
    prelude = f"import {{ readFileSync }} from 'node:fs';\nconst assets = {json.dumps(ASSETS.as_uri() + '/')};\n"
    prelude += "const data = JSON.parse(readFileSync(0, 'utf8'));\n"
    done = subprocess.run([node, "--input-type=module", "-e", prelude + script], input=json.dumps(data), text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---------------------------------------------------------------- front-end

def test_the_front_ends_own_tests_pass(node):
    tests = Path(__file__).with_name("widgets.test.mjs")
    done = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 15


@pytest.mark.parametrize("shape", [(48, 48), (31, 52)])
def test_the_browsers_warp_is_pytorchs_to_one_grey_level(node, shape):
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (40, 1, *shape), generator=generator, dtype=torch.uint8)
    thetas = torch.randn(40, 2, 3, generator=generator) * 0.7 + torch.eye(2, 3)
    grid = F.affine_grid(thetas, list(pictures.shape), align_corners=False)
    sampled = F.grid_sample(to_float(pictures), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    expected = to_uint8(sampled)
    script = """const { warp } = await import(assets + "geometry.mjs");
        const [height, width] = data.shape;
        const warped = data.pictures.map((p, i) => [...warp(Uint8Array.from(p), height, width, data.thetas[i])]);
        console.log(JSON.stringify(warped));"""
    data = dict(shape=shape, pictures=pictures.flatten(1).tolist(), thetas=thetas.flatten(1).tolist())
    found = run_node(node, script, data)
    difference = (torch.tensor(found) - expected.flatten(1).int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.01  # float64 against float32, a tie now and then


def test_browser_and_python_mean_the_same_by_turn_scale_and_shift(node):
    parts = torch.rand(20, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 2 - 1
    parts[:, 0] *= 90
    script = """const { thetaOf, partsOf } = await import(assets + "geometry.mjs");
        console.log(JSON.stringify(data.map(([rotation, logScale, x, y]) => {
            const theta = thetaOf({ rotation, scale: Math.exp(logScale), x, y });
            return [theta, Object.values(partsOf(theta)).slice(0, 4)];
        })));"""
    found = run_node(node, script, parts.tolist())
    expected = theta_from(*parts.unbind(1)).flatten(1)
    assert torch.allclose(torch.tensor([theta for theta, _ in found], dtype=torch.float64), expected, atol=1e-9)
    back = torch.tensor([p for _, p in found], dtype=torch.float64)
    back[:, 1] = back[:, 1].log()
    assert torch.allclose(back, parts, atol=1e-9)


def test_the_pages_interpolation_is_scipys(node):
    from scipy.interpolate import RegularGridInterpolator

    generator = np.random.default_rng(3)
    axes = COARSE.axes()
    steps = [axis["steps"] for axis in axes]
    table = generator.integers(0, 256, (*steps, 3))
    places = generator.uniform([axis["low"] for axis in axes], [axis["high"] for axis in axes], (30, 4))
    lines = [np.linspace(axis["low"], axis["high"], axis["steps"]) for axis in axes]
    expected = RegularGridInterpolator(lines, table)(places)
    script = """const { interpolated } = await import(assets + "lattice.mjs");
        const table = Uint8Array.from(data.table);
        console.log(JSON.stringify(data.places.map((place) => interpolated(table, data.axes, place, 3))));"""
    found = run_node(node, script, dict(axes=axes, table=table.flatten().tolist(), places=places.tolist()))
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True), atol=1e-9)


@pytest.mark.parametrize("view", ["THETA_VIEW", "OCCLUSION_VIEW"])
def test_each_view_is_one_module_that_loads_nothing(node, tmp_path, view):
    text = getattr(widgets, view)
    (tmp_path / "view.mjs").write_text(text, encoding="utf-8")
    script = "console.log(JSON.stringify(Object.keys((await import(data)).default)));"
    assert run_node(node, script, (tmp_path / "view.mjs").as_uri()) == ["render"]
    assert not re.search(r"^\s*import\b|\bimport\(|fetch\(|https?://", text, re.MULTILINE)


def test_bundling_keeps_the_code_and_drops_only_links_and_comments():
    names = ("geometry.mjs", "moves.mjs")
    text = bundle(*names)
    assert "export" not in text and "import" not in text and "//" not in text
    assert text.count("function ") == sum((ASSETS / name).read_text("utf-8").count("function ") for name in names)


# ---------------------------------------------------------------- the network is asked, not changed

def test_the_answer_is_the_networks_and_its_training_flags_stay_as_they_were(images):
    model = Peephole().train()
    model.dropout.eval()
    theta = torch.tensor([[[0.7, 0.1, 0.2], [-0.1, 0.9, 0.0]]])
    expected = model.warp_with(to_float(images[:1]), theta).softmax(1)[0].detach()
    assert model.training and not model.dropout.training
    found = theta_probabilities(model, images[0], theta)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    assert model.training and not model.dropout.training
    model.dropout.train()
    assert (theta_probabilities(model, images[0], theta) == found).all()  # dropout does not play dice with the reader
    assert model.dropout.training


def test_training_flags_come_back_even_after_an_error(images):
    model = Peephole().train()
    with pytest.raises(ValueError, match="2x3"):
        theta_probabilities(model, images[0], torch.zeros(1, 3, 3))
    assert model.training and model.dropout.training


def test_batches_do_not_change_the_answers(images):
    thetas = COARSE.thetas()
    whole = theta_probabilities(Peephole(), images[0], thetas)
    assert whole.shape == (len(thetas), 3) and whole.dtype == np.float32
    np.testing.assert_allclose(theta_probabilities(Peephole(), images[0], thetas, batch=7), whole, atol=1e-6)


def test_every_theta_that_is_set_is_answered(widget):
    theta = [0.5, 0.0, 0.1, 0.0, 0.5, -0.1]
    widget.theta = theta
    assert widget.answer["theta"] == theta and widget.answer["face"] == 0
    np.testing.assert_allclose(widget.answer["probabilities"], widget.probabilities(theta), atol=1e-4)
    widget.face = 2
    assert widget.answer["face"] == 2
    np.testing.assert_allclose(widget.answer["probabilities"], widget.probabilities(theta, face=2), atol=1e-4)


def test_one_message_that_changes_face_and_theta_is_answered_once(widget, monkeypatch):
    asked = []
    monkeypatch.setattr(widget.model, "warp_with", lambda x, theta: asked.append(len(x)) or torch.zeros(len(x), 3))
    widget.set_state({"face": 1, "theta": [0.9, 0, 0, 0, 0.9, 0]})
    assert asked == [1]
    assert widget.answer["face"] == 1 and widget.answer["theta"][0] == 0.9


def test_the_networks_choice_is_its_own_answer(images):
    model = DeepEmotion(norm="batch", localisation="fc1000").eval()
    nn.init.normal_(model.localisation.theta.weight, std=0.2)
    widget = ThetaWidget(model, images, [f"class {k}" for k in range(7)])
    with torch.no_grad():
        expected = model(to_float(images)).softmax(1)
    for i, choice in enumerate(widget.network):
        np.testing.assert_allclose(choice["probabilities"], expected[i], atol=2e-4)
        np.testing.assert_allclose(choice["theta"], model.theta_of(to_float(images))[i].detach().flatten(), atol=1e-5)


def test_an_answer_of_the_stn_takes_less_than_a_twentieth_of_a_second(images):
    widget = ThetaWidget(DeepEmotion(), images, [f"class {k}" for k in range(7)])
    times = []
    for step in range(15):
        widget.theta = [1, 0, step / 50, 0, 1, 0]
        times.append(widget.answer["milliseconds"])
    assert sorted(times)[3] < 50, times


def test_refresh_shows_a_network_that_was_trained_further(widget):
    before = widget.network[0]["theta"]
    with torch.no_grad():
        widget.model.chosen += 0.1
    widget.refresh()
    np.testing.assert_allclose(widget.network[0]["theta"], np.add(before, 0.1), atol=1e-6)


def test_two_plain_functions_are_a_model(images):

    def answer(x, theta):
        return torch.zeros(len(x), 3)

    widget = ThetaWidget(answer, images, CLASSES)
    assert widget.network[0]["theta"] == [1, 0, 0, 0, 1, 0]  # without theta_of: the identity
    np.testing.assert_allclose(widget.answer["probabilities"], 1 / 3, atol=1e-4)
    turned = torch.tensor([[0.0, -1, 0], [1, 0, 0]])
    widget = ThetaWidget(answer, images, CLASSES, theta_of=lambda x: turned.expand(len(x), 2, 3))
    assert widget.network[2]["theta"] == [0, -1, 0, 1, 0, 0]


# ---------------------------------------------------------------- states

def test_an_error_of_the_network_becomes_an_answer_in_words(widget, monkeypatch):
    def broken(x, theta):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(widget.model, "warp_with", broken)
    widget.theta = [0.9, 0, 0, 0, 0.9, 0]
    assert "mat1 and mat2" in widget.answer["error"] and "RuntimeError" in widget.answer["error"]
    assert "probabilities" not in widget.answer and widget.answer["theta"][0] == 0.9
    monkeypatch.undo()
    widget.theta = [0.8, 0, 0, 0, 0.8, 0]
    assert "error" not in widget.answer and len(widget.answer["probabilities"]) == 3


def test_no_face_is_a_state_not_an_error():
    widget = ThetaWidget(Peephole(), torch.zeros(0, 1, 48, 48, dtype=torch.uint8), CLASSES)
    assert widget.network == [] and widget.answer == {} and widget.shape[0] == 0
    widget.theta = [0.9, 0, 0, 0, 0.9, 0]
    assert widget.answer == {}


@pytest.mark.parametrize(("given", "told"), [
    (torch.zeros(2, 1, 8, 8), "uint8"),
    (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"\[2, 3, 8, 8\]"),
    (np.zeros((8, 8), np.uint8), r"\[8, 8\]"),
    (np.zeros((33, 1, 8, 8), np.uint8), "33"),
])
def test_pictures_it_cannot_show_are_refused_in_words(given, told):
    with pytest.raises(WidgetError, match=told):
        ThetaWidget(Peephole(), given, CLASSES)


def test_labels_must_be_as_many_as_faces(images):
    with pytest.raises(WidgetError, match="3 faces"):
        ThetaWidget(Peephole(), images, CLASSES, labels=[0])


@pytest.mark.parametrize("theta", [[1, 0, 0], [1, 0, 0, 0, float("nan"), 0]])
def test_a_theta_that_is_none_is_refused(widget, theta):
    with pytest.raises(traitlets.TraitError, match="six finite numbers"):
        widget.theta = theta
    with pytest.raises(traitlets.TraitError, match="3 faces"):
        widget.face = 3
    assert widget.theta == [1, 0, 0, 0, 1, 0] and widget.face == 0


def test_a_nested_theta_is_accepted(widget):
    widget.theta = [[0.5, 0, 0], [0, 0.5, 0]]
    assert widget.theta == [0.5, 0, 0, 0, 0.5, 0]


def test_widgets_do_not_share_state(widget, images):
    other = ThetaWidget(Peephole(), images, CLASSES)
    widget.theta, widget.face = [0.5, 0, 0, 0, 0.5, 0], 1
    assert other.theta == [1, 0, 0, 0, 1, 0] and other.face == 0 and other.answer["theta"] == other.theta


def test_saved_state_is_small_and_is_plain_data(images):
    widget = ThetaWidget(Peephole(), images.repeat(3, 1, 1, 1)[:8], CLASSES)
    state = widget.get_state()
    assert len(json.dumps(state)) < 100_000
    assert "model" not in state and "images" not in state


# ---------------------------------------------------------------- frozen

def page_in(frame: str) -> str:
    return html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1])


def test_a_frozen_widget_is_a_small_page_that_loads_nothing(images, tmp_path):
    widget = ThetaWidget(Peephole(), images, CLASSES)
    frame = widget.freeze(tmp_path / "page.html", lattice=COARSE)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page_in(frame) == page
    assert len(frame) < 300_000
    assert not re.search(r"""(?:src|href)=|https?://|\bimport\(|fetch\(|url\(""", page)
    assert page.count("<script") == page.count("</script>") == 2
    assert "\n\n" not in frame  # a blank line would end raw HTML in Markdown


def test_a_frozen_page_holds_the_faces_that_were_chosen(widget):
    widget.face = 2
    page = page_in(widget.freeze(faces=[2, 0], lattice=COARSE))
    state = json.loads(re.search(r'id="state">(.*?)</script>', page, re.DOTALL)[1])
    assert state["traits"]["shape"] == [2, 1, 48, 48] and state["traits"]["labels"] == [-1, 0]
    assert state["traits"]["face"] == 0 and len(state["data"]["lattice"]) == 2
    assert "Precomputed" in state["traits"]["frozen"]["note"]
    assert state["traits"]["limits"]["rotation"] == [-40, 40]


def test_the_full_lattice_of_three_faces_stays_under_300_kb(images):
    class Rough(Peephole):
        "Answers that change as fast as they can: the worst case for compression."
        def warp_with(self, x, theta):
            return torch.sin(theta.flatten(1) @ torch.arange(42.0).sin().view(6, 7) * 40) * 2

    widget = ThetaWidget(Rough(), images, [f"class {k}" for k in range(7)])
    assert len(widget.freeze()) < 300_000


def test_the_page_says_how_wrong_interpolation_is(images):
    exact = Lattice((-40, 40, 3), (0.7, 1.4, 3), (-0.4, 0.4, 3))

    def flat(x, theta):
        return torch.zeros(len(x), 3)

    table = theta_probabilities(flat, images[0], exact.thetas())
    assert widgets.lattice_error(flat, images[0], exact, table).max() < 1e-6
    model, errors = Peephole(), []
    for lattice in (exact, COARSE, Lattice()):
        table = theta_probabilities(model, images[0], lattice.thetas())
        errors.append(np.median(widgets.lattice_error(model, images[0], lattice, table)))
    assert errors[0] > errors[1] > errors[2] > 0


# ---------------------------------------------------------------- occlusion

class Corner(nn.Module):
    """Class 1 when the upper left quarter is brighter than mid grey, class 0 when it is darker."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        bright = self.gain * self.dropout(x[:, 0, :8, :8].mean((1, 2)))
        return torch.stack([-bright, bright, torch.full_like(bright, -9)], 1)


@pytest.fixture
def corners():
    images = torch.full((2, 1, 16, 20), 200, dtype=torch.uint8)
    images[1] = 40
    return images


def settled(widget):
    widget.newest.wait(30)
    assert widget.newest.thread is None
    return widget.answer


def test_the_occlusion_table_is_the_networks_answers_with_a_grey_square_at_every_place(corners):
    model, shares = Corner(), []
    found = occlusion_table(model.eval(), corners[0], window=6, stride=4, progress=shares.append, batch=3)
    assert found["rows"] == [0, 4, 8, 10] and found["columns"] == [0, 4, 8, 12, 14]
    hidden = []
    for row in found["rows"]:
        for column in found["columns"]:
            x = to_float(corners[:1])
            x[..., row:row + 6, column:column + 6] = 0
            hidden.append(x)
    with torch.no_grad():
        np.testing.assert_allclose(found["table"], model(torch.cat(hidden)).softmax(1), atol=1e-6)
        np.testing.assert_allclose(found["whole"], model(to_float(corners[:1])).softmax(1)[0], atol=1e-6)
    assert found["flips"].tolist() == [255] * 20
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) >= 7


def test_a_flip_names_the_class_that_wins(corners):
    class Anywhere(nn.Module):  # class 2 as soon as anything is mid grey
        def forward(self, x):
            hidden = (x == 0).flatten(1).any(1).float()
            return torch.stack([torch.full_like(hidden, 0.5), torch.zeros_like(hidden), hidden], 1)

    assert set(occlusion_table(Anywhere(), corners[0], 4, 4)["flips"].tolist()) == {2}


def test_an_occlusion_widget_answers_each_setting_and_leaves_the_network_alone(corners):
    model = Corner().train()
    widget = OcclusionWidget(model, corners, CLASSES, labels=[1, 0], window=4, stride=2)
    answer = settled(widget)
    assert (answer["face"], answer["window"], answer["stride"]) == (0, 4, 2) and widget.progress == 1
    table = np.frombuffer(base64.b64decode(answer["table"]), np.uint8).reshape(-1, 3)
    np.testing.assert_allclose(table / 255, occlusion_table(model, corners[0], 4, 2)["table"], atol=1 / 255)
    widget.set_state({"window": 8, "face": 1})
    answer = settled(widget)
    assert (answer["face"], answer["window"]) == (1, 8) and np.argmax(answer["whole"]) == 0
    assert model.training and model.dropout.training


def test_a_map_is_of_the_network_as_it_was_when_asked(corners):
    model, go = Corner(), threading.Event()

    class Slow(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            go.wait(10)
            return self.inner(x)

        def __deepcopy__(self, memo):
            twin = Slow()
            twin.inner = __import__("copy").deepcopy(model)
            return twin

    widget = OcclusionWidget(Slow(), corners, CLASSES)
    with torch.no_grad():
        model.gain.fill_(-4.0)  # training goes on while the map is computed
    go.set()
    assert np.argmax(settled(widget)["whole"]) == 1
    widget.refresh()
    assert np.argmax(settled(widget)["whole"]) == 0


def test_only_the_newest_of_many_requests_is_finished():
    done, begun, free = [], threading.Event(), threading.Event()

    def work(request, check):
        begun.set()
        free.wait(10)
        check()
        done.append(request)

    newest = Newest(work)
    newest.ask(0)
    assert begun.wait(10)
    for request in range(1, 6):
        newest.ask(request)
    free.set()
    newest.wait(10)
    assert done == [5]
    newest.ask(6)
    newest.wait(10)
    assert done == [5, 6]


def test_a_slow_map_reports_progress_and_is_given_up_when_overtaken(corners):
    class Slow(Corner):
        def forward(self, x):
            time.sleep(0.06)
            return super().forward(x)

    widget = OcclusionWidget(Slow().eval(), corners, CLASSES, window=2, stride=1)  # 285 places, five batches
    told = []
    widget.observe(lambda change: told.append(change.new), "progress")
    settled(widget)
    assert any(0 < share < 1 for share in told) and told[-1] == 1
    answers = []
    widget.observe(lambda change: answers.append(change.new["window"]), "answer")
    for window in (3, 4, 5, 6):
        widget.window = window
        time.sleep(0.02)
    settled(widget)
    assert answers[-1] == 6 and len(answers) <= 2  # the first may have been quick enough


def test_an_error_while_hiding_becomes_an_answer_in_words(corners):
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("the network is on strike")

    answer = settled(OcclusionWidget(Broken(), corners, CLASSES))
    assert "on strike" in answer["error"] and "table" not in answer


def test_a_network_that_cannot_be_copied_is_asked_as_it_is(corners):
    model = Corner()
    model.kept = model.gain * 2  # a tensor with a history refuses to be copied
    assert "error" not in settled(OcclusionWidget(model, corners, CLASSES))


def test_settings_that_are_not_offered_are_refused(corners):
    widget = OcclusionWidget(Corner(), corners, CLASSES)
    with pytest.raises(traitlets.TraitError, match="2 to 8 pixels"):
        widget.window = 15
    with pytest.raises(traitlets.TraitError, match="stride 9"):
        widget.stride = 9
    assert widget.window == 8 and widget.stride == 4


def test_a_frozen_occlusion_page_holds_every_setting_it_offers(corners, tmp_path):
    widget = OcclusionWidget(Corner(), corners, CLASSES, window=4)
    frame = widget.freeze(tmp_path / "page.html", windows=(4, 6), strides=(2,))
    page = page_in(frame)
    assert page == (tmp_path / "page.html").read_text("utf-8")
    assert not re.search(r"""(?:src|href)=|https?://|\bimport\(|fetch\(|url\(""", page)
    state = json.loads(re.search(r'id="state">(.*?)</script>', page, re.DOTALL)[1])
    settings = {(a["face"], a["window"], a["stride"]) for a in state["data"]["answers"]}
    assert settings == {(0, 4, 2), (0, 6, 2), (1, 4, 2), (1, 6, 2)}
    assert (state["traits"]["window"], state["traits"]["stride"]) == (4, 2)
