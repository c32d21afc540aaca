"""Figures: colours that everybody can tell apart, small files, true geometry, words for those who cannot see."""

import base64
import io
import itertools
import json
import re
from statistics import NormalDist
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from fer_lab import figures
from fer_lab.faceset import FER7, FaceSet
from fer_lab.figures import EMOTION_COLOURS, FigureError, alt_text, figure_bytes
from fer_lab.synthetic import synthetic_faces

SIZE = 48


@pytest.fixture(scope="module")
def faces():
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pictures = [(rows * 3 + columns * 2 + 5 * i) % 256 for i in range(21)]
    return FaceSet("ramps", np.stack(pictures)[:, None].astype(np.uint8), np.arange(21) % 7, FER7)


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(0)
    truth, probabilities = rng.integers(0, 7, 300), rng.dirichlet(np.ones(7), 300)
    confusion = np.zeros((7, 7), int)
    np.add.at(confusion, (truth, probabilities.argmax(1)), 1)
    return SimpleNamespace(labels=truth, probabilities=probabilities, confusion=confusion, classes=FER7.classes)


def history(epochs=20):
    score = np.linspace(0.2, 0.6, epochs)
    loss = {"loss": 2 - score, "val_loss": 2.1 - score}
    return pd.DataFrame({"epoch": np.arange(1, epochs + 1), **loss, "val_war": score})


TABLE = pd.DataFrame({"name": ["a − b", "a − c"], "estimate": [1.0, -3.0], "low": [-1.0, -4.0], "high": [3.0, -2.0],
                      "seeds": [[0.5, 1.5], [-3.5, -2.5]]})
THETA = np.array([[0.7, -0.2, 0.1], [0.2, 0.7, 0.3]])


def everything(faces, report):
    "One of each, as large as lessons make them."
    heat = np.random.default_rng(1).normal(size=(3, SIZE, SIZE))
    drop, at = heat[0, :11, :11] / 9, np.arange(0, 41, 4)
    hidden = {"drop": drop, "flips": np.where(drop > 0.1, 3, -1), "rows": at, "columns": at, "window": 8}
    return {
        "contact_sheet": figures.contact_sheet(faces, title="Faces"),
        "heatmaps": figures.heatmaps(faces.subset([0, 1, 2]), {f"method {i}": heat for i in range(7)}, title="Maps"),
        "curves": figures.curves({"a": [history()] * 5, "b": history(40)}, title="Curves"),
        "confusion": figures.confusion(report, title="Fear"), "per_class": figures.per_class(report, title="Recall"),
        "intervals": figures.intervals(TABLE, title="Differences", matters=2),
        "league": figures.league(TABLE, ["a − c"], title="Places", unit="order"),
        "reliability": figures.reliability(report, title="Trust"),
        "parameters": figures.parameters(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Linear(8, 7)), title="Size"),
        "theta_grid": figures.theta_grid(faces.frames[0], THETA, title="Theta"),
        "theta_strip": figures.theta_strip(faces.frames[0], np.stack([THETA] * 60), range(60), title="Strip"),
        "occlusion": figures.occlusion(faces.frames[0], hidden, title="Hidden", classes=FER7.classes),
        "fields_over": figures.fields_over(faces.frames[0], {"conv": 3, "pool": 60}, title="Fields"),
    }


# --- every figure ---------------------------------------------------------------------------------------------------


def test_all_are_small_titled_described_and_transparent(faces, report):
    for name, figure in everything(faces, report).items():
        assert figure_bytes(figure) < 50_000, name
        assert figure.layout.title.text.startswith("<b>"), name
        assert len(alt_text(figure)) > 20 and "nan" not in alt_text(figure), name
        assert figure.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)", name
        assert figure.layout.height > 100, name


def test_no_title_no_figure(report):
    with pytest.raises(TypeError):
        figures.confusion(report)
    with pytest.raises(FigureError, match="needs a title"):
        figures.confusion(report, title=" ")


def test_titles_are_broken_into_lines_and_not_read_as_html(report):
    figure = figures.confusion(report, title="A < B & " + "a long finding that goes on " * 6)
    lines = figure.layout.title.text.split("<br>")
    assert len(lines) > 3 and lines[0].startswith("<b>A &lt; B &amp; ")
    assert figure.layout.height > figures.confusion(report, title="short").layout.height


def test_a_notebook_stores_nothing_but_the_figure():
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_cell("from fer_lab.figures import Figure, finish; figure = finish(Figure(), 'A finding', 'nothing')")
    with capture_display() as shown:
        shell.display_formatter.format(shell.user_ns["figure"])
    assert [sorted(data) for data in shown] == [[figures.MIMETYPE]]
    json.dumps(shown[0])
    InteractiveShell.clear_instance()


class capture_display:
    def __enter__(self):
        from IPython.core.displaypub import CapturingDisplayPublisher
        from IPython.core.interactiveshell import InteractiveShell

        self.shell = InteractiveShell.instance()
        self.before, self.shell.display_pub = self.shell.display_pub, CapturingDisplayPublisher()
        self.shown = []
        return self.shown

    def __exit__(self, *error):
        self.shown += [output["data"] for output in self.shell.display_pub.outputs]
        self.shell.display_pub = self.before


# --- colours --------------------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour):
    c = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    f = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 1e-6))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a, b):
    light = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (a, b))
    return light[1] / light[0]


@pytest.mark.parametrize("kind", BLINDNESS)
def test_emotions_differ_for_every_kind_of_colour_blindness(kind):
    seen = {name: lab(np.array(BLINDNESS[kind]) @ linear(c)) for name, c in EMOTION_COLOURS.items()}
    close = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(seen, 2)}
    assert min(close.values()) > 18, min(close, key=close.get)


@pytest.mark.parametrize("page", ["#FFFFFF", "#111111"])
def test_readable_on_light_and_dark(page):
    assert contrast(figures.INK, page) > 4
    assert min(contrast(colour, page) for colour in [*EMOTION_COLOURS.values(), *figures.SERIES]) > 2.2


def test_every_class_has_a_colour():
    assert set(FER7.classes) < set(EMOTION_COLOURS)
    assert figures.colours_of(["fear", "boredom"])[0] == EMOTION_COLOURS["fear"]
    assert len(set(figures.colours_of([*FER7.classes, "boredom"]))) == 8


def test_zero_is_transparent_and_in_the_middle():
    (low, left), (high, right) = figures.DIVERGING[2:4]
    assert low == high == 0.5 and left.endswith(",0)") and right.endswith(",0)")
    assert [at for at, _ in figures.ONE_SIDED] == [0, 0.5, 1]


# --- faces ----------------------------------------------------------------------------------------------------------


def picture(figure, k=0):
    data = base64.b64decode(figure.layout.images[k].source.split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_contact_sheet_is_one_picture_with_the_faces_in_order(faces):
    figure = figures.contact_sheet(faces, [3, 0, 9], title="Three", columns=2)
    assert len(figure.layout.images) == 1
    sheet, pitch = picture(figure), SIZE + 3
    assert np.abs(sheet[:SIZE, :SIZE, 0].astype(int) - faces.frames[3, 0]).mean() < 4  # lossy, but the same face
    assert np.abs(sheet[:SIZE, pitch:pitch + SIZE, 0].astype(int) - faces.frames[0, 0]).mean() < 4
    assert (sheet[SIZE + 1:SIZE + 10, :, 3] == 0).all()  # room for captions
    assert list(figure.data[0].text) == ["happiness", "anger", "fear"]
    assert list(figure.data[0].marker.color) == [EMOTION_COLOURS[c] for c in ("happiness", "anger", "fear")]


def test_contact_sheet_takes_tensors_and_refuses_floats(faces):
    tensor = torch.from_numpy(faces.frames[:4])
    assert len(figures.contact_sheet(tensor, title="No captions").data) == 0
    shape = "uint8 .N, 1 or 3, H, W."
    for wrong, message in ((tensor.float(), "to_uint8"), (tensor[0], shape), (tensor[:0], "no face")):
        with pytest.raises(FigureError, match=message):
            figures.contact_sheet(wrong, title="Wrong")
    with pytest.raises(FigureError, match="4 faces need 4 captions"):
        figures.contact_sheet(tensor, title="Wrong", captions=["one"])


def test_sequences_are_refused_with_the_way_out():
    film = FaceSet("film", np.zeros((4, 1, 8, 8), np.uint8), np.zeros(2), FER7, spans=np.array([[0, 2], [2, 4]]))
    with pytest.raises(ValueError, match="peaks"):
        figures.contact_sheet(film, title="Film")


# --- heat maps ------------------------------------------------------------------------------------------------------


def test_heat_is_in_per_cent_of_its_strongest_and_stands_over_its_face(faces):
    heat = np.zeros((2, SIZE, SIZE))
    heat[0, 10:14, 20:24], heat[1, 40:44, 5:9] = 3.0, -0.5
    figure = figures.heatmaps(faces.subset([0, 1]), {"one": heat}, title="Where")
    z, corner = figure.data[0].z, SIZE + max(3, SIZE // 12)
    assert z.dtype == np.int8 and z.max() == 100 and z.min() == -100
    ys, xs = np.nonzero(z == 100)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (10, 13, 20, 23)
    ys, xs = np.nonzero(z == -100)
    assert (ys.min() - corner, xs.min()) == (40, 5)
    assert figure.data[0].x0 == corner + 0.5 and figure.data[0].dx == 1  # a cell covers its pixel
    assert "one: for upper centre" in alt_text(figure)


def test_one_sided_maps_use_half_of_the_scale(faces):
    figure = figures.heatmaps(faces.subset([0]), {"size": np.random.rand(1, SIZE, SIZE)}, title="Size")
    assert figure.data[0].zmin == 0 and figure.data[0].colorscale[0][1].endswith(",0)")


def test_many_maps_become_coarser_and_say_so(faces):
    large = synthetic_faces(6, 2 * SIZE).frames
    heat = np.random.default_rng(0).normal(size=(6, 2 * SIZE, 2 * SIZE))
    big = figures.heatmaps(large[:3], {str(i): heat[:3] for i in range(6)}, title="Large faces")
    assert figure_bytes(big) < 50_000
    for room in (5_000, 500):  # the maps, the faces alone
        with pytest.raises(FigureError, match="show fewer"):
            figures.heatmaps(large, {"a": heat}, title="No room", room=room)
    heat = heat[:, :SIZE, :SIZE]
    figure = figures.heatmaps(faces.subset(range(6)), {str(i): heat for i in range(6)}, title="Many")
    assert figure_bytes(figure) < 50_000 and re.search(r"cells of \d × \d pixels", figure.layout.title.text)


def test_nan_and_wrong_shapes_are_not_drawn(faces):
    heat = np.zeros((1, SIZE, SIZE))
    with pytest.raises(FigureError, match="'b': .1, 4, 4."):
        figures.heatmaps(faces.subset([0]), {"a": heat, "b": np.zeros((1, 4, 4))}, title="Wrong")
    heat[0, 0, 0] = np.nan
    with pytest.raises(FigureError, match="a: 1 of 2304 values are NaN"):
        figures.heatmaps(faces.subset([0]), {"a": heat}, title="Wrong")
    assert not figures.relative(np.zeros((1, 4, 4))).any()


# --- theta ----------------------------------------------------------------------------------------------------------


def test_grid_lies_where_the_sampler_looks(faces):
    "The lines' ends, sampled by hand, are the corners of what grid_sample returns."
    lines = figures.grid_lines(THETA, (SIZE, SIZE), lines=2)
    corners = nn.functional.affine_grid(torch.tensor(THETA)[None].float(), [1, 1, 2, 2], align_corners=True)[0]
    expected = (corners.numpy() + 1) / 2 * SIZE  # edge to edge, as align_corners=False counts
    np.testing.assert_allclose(lines[:2].reshape(2, 2, 2), expected, atol=1e-4)


def test_warp_is_what_the_network_sees(faces):
    shift = np.array([[1, 0, 2 * 6 / SIZE], [0, 1, 0]])  # six pixels to the right
    warped = figures.warp(faces.frames[:2], np.stack([shift] * 2))
    assert (warped[:, :, :, :-6] == faces.frames[:2, :, :, 6:]).all()
    assert abs(int(warped[0, 0, 20, -1]) - 127) <= 1  # grey outside


def test_decompose_undoes_its_composition():
    for size, angle, right, down in ((0.5, 30, 0.1, -0.2), (1.2, -100, 0, 0), (1, 0, 0.3, 0.3)):
        a = np.radians(angle)
        theta = [[size * np.cos(a), -size * np.sin(a), 2 * right], [size * np.sin(a), size * np.cos(a), 2 * down]]
        np.testing.assert_allclose(figures.decompose(np.array(theta)).iloc[0], [size, angle, right, down], atol=1e-9)


def test_strip_needs_a_step_for_each_theta(faces):
    with pytest.raises(FigureError, match="3 thetas need 3 steps"):
        figures.theta_strip(faces.frames[0], np.stack([THETA] * 3), [1, 2], title="Strip")


# --- numbers --------------------------------------------------------------------------------------------------------


def test_wilson_against_its_definition():
    "Its ends are where the normal test of the true proportion has exactly 5 %."
    z = NormalDist().inv_cdf(0.975)
    for hits, n in ((0, 5), (3, 7), (50, 100), (9, 9)):
        for end in np.ravel(figures.wilson([hits], [n])):
            if 0 < end < 1:
                assert abs(hits / n - end) == pytest.approx(z * np.sqrt(end * (1 - end) / n), abs=1e-6)


def test_curves_mark_what_was_kept_and_refuse_what_is_not_there():
    figure = figures.curves(history(), title="One", selected=7, stages={1: "easy", 10: "hard"})
    assert any("kept: " in a.text for a in figure.layout.annotations) and "Epoch 7 was kept" in alt_text(figure)
    assert {"easy", "hard"} <= {a.text for a in figure.layout.annotations}
    with pytest.raises(FigureError, match="has no column 'val_uar'"):
        figures.curves(history(), title="One", score="val_uar")
    with pytest.raises(FigureError, match="selected=21 is no epoch"):
        figures.curves(history(), title="One", selected=21)


def test_seeds_become_a_mean_and_a_band():
    low, high = history(), history().assign(val_war=lambda h: h["val_war"] + 0.1)
    figure = figures.curves({"run": [low, high]}, title="Two seeds")
    band, line = (trace for trace in figure.data if trace.xaxis == "x2")
    np.testing.assert_allclose(line.y, low["val_war"] + 0.05, atol=1e-3)
    np.testing.assert_allclose(band.y[:20], high["val_war"], atol=1e-3)


def test_a_band_says_what_it_is():
    assert "lowest to the highest of 2 seeds" in figures.curves({"a": [history()] * 2}, title="Two").layout.title.text
    assert "Bands" not in figures.curves(history(), title="One").layout.title.text


def test_a_league_draws_rivals_in_grey_and_needs_its_columns():
    figure = figures.league(TABLE, ["a − c"], title="Places", unit="order")
    dots = [trace for trace in figure.data if trace.marker.size == 13]
    assert [dot.marker.color for dot in dots] == [figures.SERIES[0], figures.SERIES[5]]
    assert [dot.x[0] for dot in dots] == [1.0, -3.0]
    with pytest.raises(FigureError, match="low"):
        figures.league(TABLE.drop(columns="low"), title="Places", unit="order")


def test_confusion_is_per_true_class_and_names_the_worst(report):
    counts = np.diag([10] * 7)
    counts[2, 5] = 30  # fear taken for surprise
    figure = figures.confusion(SimpleNamespace(confusion=counts, classes=FER7.classes), title="Fear")
    assert figure.data[0].z[2, 5] == 75 and figure.data[0].z[2, 2] == 25
    assert "fear taken for surprise 75 %" in alt_text(figure)
    empty = SimpleNamespace(confusion=np.zeros((7, 7), int), classes=FER7.classes)
    assert not figures.confusion(empty, title="Empty").data[0].z.any()


def test_calibrated_probabilities_have_a_small_error():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(4, 0.5), 20_000)
    labels = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    good = figures.reliability(SimpleNamespace(probabilities=p, labels=labels), title="Good")
    sure = figures.reliability(SimpleNamespace(probabilities=np.eye(4)[p.argmax(1)], labels=labels), title="Too sure")
    errors = [float(re.search(r"error ([\d.]+)%", alt_text(f)).group(1)) for f in (good, sure)]
    assert errors[0] < 1.5 < 15 < errors[1]


def test_treemap_counts_every_parameter_once():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Sequential(nn.Linear(8, 4), nn.ReLU()), nn.Linear(4, 2))
    figure = figures.parameters(model, title="Size")
    values = dict(zip(figure.data[0].ids, figure.data[0].values, strict=True))
    assert values == {"all": 126, "0": 80, "1": 36, "1.0": 36, "2": 10}
    with pytest.raises(FigureError, match="no parameters"):
        figures.parameters(nn.ReLU(), title="Nothing")


def test_intervals_need_their_columns():
    with pytest.raises(FigureError, match="high, low missing"):
        figures.intervals(TABLE[["name", "estimate"]], title="No interval")


def test_every_seed_lies_within_the_axis_of_intervals():
    table = pd.DataFrame([("a − b", 1.0, 0.5, 1.5, [-9.0, 1.0, 11.0]), ("a − c", 0.0, -1.0, 1.0, None)],
                         columns=["name", "estimate", "low", "high", "seeds"])
    low, high = figures.intervals(table, title="Seeds", matters=2).layout.xaxis.range
    assert low < -9 and 11 < high


def test_rings_have_the_colour_of_the_new_answer(faces):
    flips = np.full((2, 2), -1)
    flips[0, 1] = FER7.classes.index("fear")
    places = {"rows": np.array([0, 20]), "columns": np.array([0, 30]), "window": 8}
    result = {"drop": np.zeros((2, 2)), "flips": flips, **places}
    figure = figures.occlusion(faces.frames[0], result, title="Ring", classes=FER7.classes)
    ring = figure.data[-1]
    assert ring.marker.line.color == EMOTION_COLOURS["fear"] and (ring.x[0], ring.y[0]) == (34, 4)
    many = {**result, "drop": np.zeros((3, 2, 2)), "flips": np.stack([flips] * 3)}
    assert figures.occlusion(faces.frames[0], many, 2, title="Ring").data[-1].name == "becomes class 2"


@pytest.mark.parametrize("grain, most", [(4, 40_000), (60, 40_000), (60, None)])
def test_a_picture_keeps_every_pixel_however_large_it_is(grain, most):
    "What does not fit is stored at lower quality, never at fewer pixels."
    noise = np.random.default_rng(0).normal(128, grain, (700, 640, 1)).clip(0, 255).astype(np.uint8)
    file = base64.b64decode(figures.data_uri(noise, most=most).split(",")[1])
    assert Image.open(io.BytesIO(file)).size == (640, 700)
    full = base64.b64decode(figures.data_uri(noise, most=None).split(",")[1])
    assert len(file) <= len(full) and (len(file) < len(full)) == (most is not None and len(full) > most)
