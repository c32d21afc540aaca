"""The crop editor frozen on a page: landmarks are dragged, and the crops follow."""

import re

import nbformat
import numpy as np
import pytest

from fer_lab.crop_editor import CropEditor
from fer_lab.light_editor import LightEditor
from fer_lab.synthetic import synthetic_faces

pytestmark = pytest.mark.xdist_group("browser")
OUTSIDE = 0.15  # margin around the picture on the stage, share of its side


@pytest.fixture(scope="module")
def editor():
    faces = synthetic_faces(2, 96, seed=21, mask=False, occluded=0)
    return CropEditor(faces.batch(range(2)), faces.landmarks, faces.classes, faces.labels)


@pytest.fixture
def view(page, editor, tmp_path):
    editor.freeze(tmp_path / "page.html")
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(".fl-facts dd").first.wait_for()
    yield page
    assert page.script_errors == []


def fact(view, name: str) -> list[float]:
    """The numbers beside a name in the table."""
    text = view.locator(".fl-facts dt", has_text=name).locator("xpath=following-sibling::dd[1]").inner_text()
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text.replace("−", "-"))]


def at(view, point) -> tuple[float, float]:
    """Where a place of the picture lies on the screen."""
    box = view.locator("canvas[role=application]").bounding_box()
    scale = box["width"] / (96 * (1 + 2 * OUTSIDE))
    return tuple(box[side] + (value + 0.5 + OUTSIDE * 96) * scale for side, value in zip("xy", point, strict=True))


def drag(view, start, end):
    view.mouse.move(*at(view, start))
    view.mouse.down()
    view.mouse.move(*at(view, end), steps=6)
    view.mouse.up()


def picture(view, index: int) -> str:
    """What a canvas shows: 0 the stage, 1 the square, 2 the parts."""
    view.wait_for_timeout(80)
    return view.evaluate("index => document.querySelectorAll('canvas.fl-screen')[index].toDataURL()", index)


def expected(editor, points, alpha=1.05) -> dict:
    twin = CropEditor(editor.images, [points, points], alpha=alpha)
    return {name: np.round(box, 1) for name, box in twin.boxes().items()}


def test_dragging_the_nose_moves_the_square_and_dragging_a_brow_resizes_it(view, editor, artifacts):
    points, crop = editor.points(0), picture(view, 1)
    start = fact(view, "upper left corner")
    assert start == pytest.approx(expected(editor, points)["square"][:2], abs=0.11)
    drag(view, points[30], points[30] + [6, 4])
    assert fact(view, "upper left corner") == pytest.approx(np.add(start, [6, 4]), abs=0.25)
    side = np.ptp(expected(editor, points)["square"][::2])
    assert fact(view, "side of the square")[2] == pytest.approx(side, abs=0.11)
    assert picture(view, 1) != crop
    side = fact(view, "side of the square")[2]
    drag(view, points[17], points[17] + [-8, 0])
    assert fact(view, "side of the square")[2] == pytest.approx(side + 8 * 1.05, abs=0.3)
    view.screenshot(path=artifacts / "crop-editor-frozen.png")


def test_keys_choose_a_landmark_and_move_it(view, editor):
    stage = view.locator("canvas[role=application]")
    start = fact(view, "upper left corner")
    stage.press("ArrowRight")
    stage.press("Shift+ArrowDown")
    assert fact(view, "upper left corner") == pytest.approx(np.add(start, [0.5, 2.5]), abs=0.11)
    stage.press("]")
    assert "landmark 31, nose" in stage.get_attribute("aria-label")
    view.locator("[aria-live]", has_text="landmark 31").wait_for(state="attached")
    stage.press("Home")
    assert fact(view, "upper left corner") == start


def test_alpha_margin_whole_parts_and_the_other_face(view, editor):
    assert fact(view, "landmarks the 96 see")[0] < 51
    view.get_by_role("slider", name="α of the square").fill("1.5")
    wider = expected(editor, editor.points(0), 1.5)["square"]
    assert fact(view, "upper left corner") == pytest.approx(wider[:2], abs=0.11)
    assert fact(view, "landmarks the 96 see") == [51, 51]
    mouth = fact(view, "mouth")
    view.get_by_role("slider", name="Margin").fill("0")
    assert fact(view, "mouth")[:2] == pytest.approx(np.subtract(mouth[:2], 10), abs=0.11)
    whole = view.get_by_role("button", name="Move whole parts")
    whole.click()
    assert whole.get_attribute("aria-pressed") == "true"
    before = fact(view, "mouth")
    drag(view, editor.points(0)[57], editor.points(0)[57] + [0, 5])
    assert fact(view, "mouth") == before  # it moved, and kept its size
    assert "Holding the mouth" in view.locator("canvas[role=application]").get_attribute("aria-label")
    view.get_by_role("slider", name="α of the square").dblclick()
    view.get_by_role("radio", name="Face 2").check()
    second = expected(editor, editor.points(1))["square"]
    assert fact(view, "upper left corner") == pytest.approx(second[:2], abs=0.11)


def test_the_keyboard_reaches_everything_and_the_page_is_dark_in_the_dark(view, artifacts):
    stops = []
    for _ in range(6):
        view.keyboard.press("Tab")
        stops.append(view.evaluate("() => document.activeElement.getAttribute('role') || document.activeElement.type"))
    assert stops == ["radio", "button", "button", "application", "range", "range"]
    background = "() => getComputedStyle(document.querySelector('.fer-lab-widget')).backgroundColor"
    light = view.evaluate(background)
    view.emulate_media(color_scheme="dark")
    view.wait_for_timeout(100)
    assert view.evaluate(background) != light
    view.screenshot(path=artifacts / "crop-editor-dark.png")
    view.set_viewport_size({"width": 390, "height": 1400})
    view.wait_for_timeout(150)
    assert view.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    view.screenshot(path=artifacts / "crop-editor-phone.png")


def test_the_light_editors_sliders_change_its_pictures(page, tmp_path, artifacts):
    faces = synthetic_faces(2, 96, seed=21, mask=False)
    editor = LightEditor(faces.frames, ["one lamp", "another"])
    editor.freeze(tmp_path / "light.html")
    page.goto((tmp_path / "light.html").as_uri())
    words = page.locator("[data-treatment=gamma]")
    words.wait_for()

    def mean():
        return int(re.search(r"mean (\d+)", words.inner_text())[1])

    editor.power = 0.6
    assert mean() == pytest.approx(editor.treated()["gamma"].mean(), abs=1)
    before = picture(page, 8)  # six pairs of picture and histogram; gamma is the fifth
    page.get_by_role("slider", name="Gamma").fill("2")
    editor.power = 2.0
    assert mean() == pytest.approx(editor.treated()["gamma"].mean(), abs=1) and picture(page, 8) != before
    page.get_by_role("radio", name="another").check()
    editor.face = 1
    assert mean() == pytest.approx(editor.treated()["gamma"].mean(), abs=1)
    page.screenshot(path=artifacts / "light-editor-frozen.png")
    assert page.script_errors == []


# ---------------------------------------------------------------- live

LIVE = """from fer_lab.crop_editor import CropEditor
from fer_lab.synthetic import synthetic_faces
faces = synthetic_faces(2, 96, seed=21, mask=False, occluded=0)
editor = CropEditor(faces.batch(range(2)), faces.landmarks, faces.classes, faces.labels)
editor"""
ASK = "editor.points()[30].tolist(), editor.alpha"
SET = "editor.alpha = 1.5"


def run(lab, text: str):
    """Run the one cell that holds `text` and wait until the kernel is idle again."""
    lab.show(text)
    lab.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell')")
    lab.page.wait_for_timeout(300)
    lab.wait(lambda state: state["kernel"] == "idle", 60, "the cell")


def test_in_jupyterlab_python_knows_what_was_dragged_and_the_view_what_python_sets(lab, server, editor, artifacts):
    cells = [nbformat.v4.new_code_cell(text) for text in (LIVE, ASK, SET)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), server[2] / "crop_editor_test.ipynb")
    lab.open("crop_editor_test.ipynb")
    run(lab, LIVE)
    cell, nose = lab.show(LIVE), editor.points(0)[30]
    stage = cell.locator("canvas[role=application]")
    stage.scroll_into_view_if_needed()
    box, scale = stage.bounding_box(), stage.bounding_box()["width"] / (96 * (1 + 2 * OUTSIDE))
    start = [box[side] + (value + 0.5 + OUTSIDE * 96) * scale for side, value in zip("xy", nose, strict=True)]
    lab.page.mouse.move(*start)
    lab.page.mouse.down()
    lab.page.mouse.move(start[0] + 5 * scale, start[1] - 3 * scale, steps=6)
    lab.page.mouse.up()
    lab.page.wait_for_timeout(500)
    run(lab, ASK)
    output = lab.show(ASK).locator(".jp-OutputArea-output").inner_text()
    x, y, alpha = (float(n) for n in re.findall(r"-?\d+\.\d+", output))
    assert [x, y] == pytest.approx(nose + [5, -3], abs=0.4) and alpha == 1.05
    run(lab, SET)
    cell = lab.show(LIVE)
    cell.get_by_text("1.50 ×").wait_for()
    cell.locator(".fer-lab-widget").screenshot(path=artifacts / "crop-editor-live.png")
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
