"""The crop editor in Python, and its arithmetic run by node against fer_lab.faces."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import traitlets

from fer_lab.crop_editor import CROP_VIEW, CropEditor
from fer_lab.faces import (
    PARTS,
    SEEN,
    box_maps,
    crop_square,
    middle_of,
    part_boxes,
    points_box,
    read_through,
    share_inside,
)
from fer_lab.synthetic import synthetic_faces
from fer_lab.widgets import ASSETS, WidgetError


@pytest.fixture(scope="module")
def node():
    path = shutil.which("node")
    if not path:
        pytest.skip("node is not installed; it runs the front-end's own tests")
    return path


@pytest.fixture(scope="module")
def drawn():
    return synthetic_faces(6, 64, seed=2, mask=False, pose=dict(roll=20, scale=0.2, shift=0.1))


@pytest.fixture
def editor(drawn):
    return CropEditor(drawn.batch(range(3)), drawn.landmarks[:3], drawn.classes, drawn.labels[:3])


def run_node(node, script: str, data) -> object:
    """What a module script prints as JSON; it finds `data` on standard input and crops.mjs as `crops`."""
    prelude = f"""import {{ readFileSync }} from 'node:fs';
        const crops = await import({json.dumps((ASSETS / 'crops.mjs').as_uri())});
        const data = JSON.parse(readFileSync(0, 'utf8'));"""
    done = subprocess.run([node, "--input-type=module", "-e", prelude + script], input=json.dumps(data), text=True,
                          capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_geometrys_own_tests_pass(node):
    tests = Path(__file__).with_name("crop_editor.test.mjs")
    done = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 10


def test_browser_and_python_make_the_same_boxes(node, drawn):
    dice = np.random.default_rng(0)
    points = np.concatenate([drawn.landmarks.astype(float), dice.uniform(-20, 120, (20, 68, 2))])
    alphas, margins = dice.uniform(0.6, 2, len(points)), dice.uniform(0, 20, len(points))
    found = run_node(node, """console.log(JSON.stringify(data.points.map((points, i) => {
        const { box, dh, dv } = crops.cropSquare(points, data.alphas[i]);
        const middle = crops.middleOf(box);
        const parts = Object.values(crops.partBoxes(points, data.margins[i]));
        return [[box, middle, ...parts], [dh, dv], crops.countInside(points, middle)]; })));""",
                     dict(points=points.tolist(), alphas=alphas.tolist(), margins=margins.tolist()))
    for one, alpha, margin, (boxes, reach, inside) in zip(points, alphas, margins, found, strict=True):
        square = crop_square(one, alpha)
        assert np.allclose(boxes, [square, middle_of(square), *part_boxes(one, margin).values()], atol=1e-9)
        around = points_box(one[SEEN])
        assert np.allclose(reach, around[2:] - around[:2], atol=1e-9)
        assert inside == round(51 * float(share_inside(one[SEEN], middle_of(square))))


def test_browser_and_python_mean_the_same_parts(node):
    parts = run_node(node, "console.log(JSON.stringify(crops.PARTS));", None)
    assert parts == {name: dict(points=list(p.points), width=p.width, height=p.height) for name, p in PARTS.items()}


@pytest.mark.parametrize("size", [(120, 120), (48, 128), (20, 9)], ids=["square", "wide", "shrunk"])
def test_browser_and_python_read_the_same_pixels(node, drawn, size):
    boxes = np.random.default_rng(1).uniform(-20, 30, (len(drawn), 4))
    boxes[:, 2:] = boxes[:, :2] + np.random.default_rng(2).uniform(15, 70, (len(drawn), 2))
    ours = read_through(drawn.frames, box_maps(boxes, size), size)
    data = dict(pictures=drawn.frames.reshape(len(drawn), -1).tolist(), boxes=boxes.tolist(), size=size)
    theirs = run_node(node, """console.log(JSON.stringify(data.pictures.map((pixels, i) =>
        [...crops.readBox(Uint8Array.from(pixels), 64, 64, data.boxes[i], ...data.size)])));""", data)
    off = np.abs(ours.reshape(len(drawn), -1).astype(int) - np.array(theirs))
    assert off.max() <= 1 and (off > 0).mean() < 0.01


def test_the_papers_numbers_are_the_same_on_both_sides(node):
    found = run_node(node, "console.log(JSON.stringify([crops.ALPHA, crops.SEEN, crops.NOSE]));", None)
    assert found == [1.05, [SEEN.start, SEEN.stop], 30]


def test_boxes_and_crops_follow_the_landmarks_of_the_chosen_face(editor):
    before = editor.boxes()
    moved = [[list(point) for point in points] for points in editor.landmarks]
    moved[1][30][0] += 7
    editor.landmarks = moved
    assert editor.boxes() == before
    shift = np.subtract(editor.boxes(1)["square"], crop_square(editor.original[1]))
    assert np.allclose(shift, [7, 0, 7, 0])
    editor.face = 1
    crops = editor.crops()
    assert {name: crop.shape for name, crop in crops.items()} == {
        "square": (1, 120, 120), "middle": (1, 96, 96), "eyes": (1, 48, 128), "nose": (1, 64, 32), "mouth": (1, 32, 64)}
    assert np.array_equal(crops["square"][:, 12:108, 12:108], crops["middle"])


@pytest.mark.parametrize(("name", "value"), [
    ("alpha", 0.0), ("alpha", float("nan")), ("margin", -1.0), ("face", 3)])
def test_impossible_values_are_refused(editor, name, value):
    with pytest.raises(traitlets.TraitError):
        setattr(editor, name, value)


@pytest.mark.parametrize("points", [np.zeros((3, 5, 2)), np.zeros((2, 68, 2)), np.full((3, 68, 2), np.nan)])
def test_landmarks_of_another_shape_are_refused_with_a_remedy(drawn, points):
    with pytest.raises(WidgetError, match=r"\[3, 68, 2\].*FaceSet.landmarks"):
        CropEditor(drawn.batch(range(3)), points)


def test_the_frozen_page_is_whole_and_small(editor, tmp_path):
    frame = editor.freeze(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', frame)[1]) == text
    assert "http" not in text.replace("http://www.w3.org", "") and len(text) < 120_000
    state = json.loads(re.search(r'id="state">(.*?)</script>', text, re.DOTALL)[1])
    assert state["traits"]["landmarks"] == editor.landmarks and "\nimport" not in CROP_VIEW
