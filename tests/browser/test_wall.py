"""The wall of faces in a real browser, on its frozen page."""

import numpy as np
import pytest

from fer_lab.papers.curriculum import FaceWall
from fer_lab.synthetic import synthetic_faces


@pytest.fixture(scope="module")
def wall():
    faces = synthetic_faces(60, seed=5, mask=False)
    return FaceWall(faces, {"number": np.arange(60), "reversed": 59 - np.arange(60)}, [f"face {i}" for i in range(60)])


@pytest.fixture
def view(page, wall, tmp_path):
    wall.freeze(tmp_path / "wall.html")
    page.goto((tmp_path / "wall.html").as_uri())
    page.wait_for_selector(".fl-wall canvas")
    yield page
    assert page.script_errors == []


def words(page):
    "What stands under the faces."
    return [text.split(" ·")[0] for text in page.locator(".fl-tile-words").all_inner_texts()]


def stages(page):
    return page.eval_on_selector_all(
        ".fl-wall li:not([hidden])", "nodes => nodes.map(node => Number(node.dataset.stage))"
    )


def test_dragging_goes_from_the_easiest_to_the_hardest(view, artifacts):
    assert words(view) == [f"face {i}" for i in range(24)]
    assert stages(view) == [1] * 20 + [2] * 4
    slider = view.get_by_role("slider", name="From easy to hard")
    slider.focus()
    view.keyboard.press("End")
    assert words(view) == [f"face {i}" for i in range(36, 60)]
    assert stages(view) == [2] * 4 + [3] * 20
    box = slider.bounding_box()
    view.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert words(view) == [f"face {i}" for i in range(18, 42)]
    view.screenshot(path=artifacts / "wall.png")


def test_another_measure_sorts_anew_and_a_class_can_be_chosen(view, wall):
    view.get_by_label("Difficulty by").select_option("reversed")
    assert words(view)[:3] == ["face 59", "face 58", "face 57"]
    view.get_by_label("Expression").select_option("happiness")
    happy = [i for i in range(60) if wall.classes[wall.labels[i]] == "happiness"]
    shown = view.locator(".fl-wall li:not([hidden]) .fl-tile-words").all_inner_texts()
    assert [text.split(" ·")[0] for text in shown] == [f"face {i}" for i in happy[::-1]][:24]


def test_pictures_are_the_faces(view, wall):
    "The first tile holds the pixels of the first face."
    pixels = view.evaluate("""() => {
        const canvas = document.querySelector('.fl-tile canvas');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        return [...data].filter((_, i) => i % 4 === 0);
    }""")
    first = synthetic_faces(60, seed=5, mask=False).stills([0])
    assert np.array_equal(np.array(pixels), first.ravel())
