"""The widgets as readers meet them: live in JupyterLab, and frozen on a page. Driven with mouse, keys and fingers."""

import os
import re
import signal

import nbformat
import pytest
import torch
import torch.nn.functional as F

from fer_lab.augment import to_float
from fer_lab.widgets import Lattice, OcclusionWidget, ThetaWidget

pytestmark = pytest.mark.xdist_group("browser")
CLASSES = ("anger", "happiness", "neutral")
FINE = Lattice((-40, 40, 9), (0.7, 1.4, 5), (-0.4, 0.4, 9))
CHOSEN = [[0.85, -0.15, 0.05], [0.15, 0.85, 0.1]]
MODEL = f'''
import torch
import torch.nn.functional as F

class Peephole(torch.nn.Module):
    "Is the middle of what it reads darker than the rest, brighter, or neither?"
    def theta_of(self, x):
        return torch.tensor({CHOSEN}).expand(len(x), 2, 3)

    def warp_with(self, x, theta):
        seen = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
        contrast = F.interpolate(seen, (3, 3), mode="area")[:, 0, 1, 1] - seen.mean((1, 2, 3))
        return torch.stack([-3 * contrast, 3 * contrast, torch.zeros_like(contrast)], 1)

    def forward(self, x):
        return self.warp_with(x, torch.eye(2, 3).expand(len(x), 2, 3))
'''
scope = {}
exec(MODEL, scope)  # the same text runs here and in the notebook of the live test


def blobs(count: int) -> torch.Tensor:
    """Smooth grey pictures, each one different: uint8 [count, 1, 48, 48]."""
    noise = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(noise, (48, 48), mode="bicubic").clamp(0, 1) * 255).byte()


@pytest.fixture(scope="module")
def widget():
    return ThetaWidget(scope["Peephole"](), blobs(3), CLASSES, labels=[0, 1, 2])


@pytest.fixture(scope="module")
def frozen_page(widget, tmp_path_factory):
    path = tmp_path_factory.mktemp("widgets") / "theta.html"
    widget.freeze(path, lattice=FINE)
    return path


def numbers(view, whose="yours") -> list[float]:
    label = view.locator(f".fl-{whose} .fl-numbers").get_attribute("aria-label")
    return [float(number) for number in re.findall(r"-?[\d.]+", label.replace("−", "-"))]


def shown(view) -> list[int]:
    return [int(re.sub(r"\D", "", value)) for value in view.locator(".fl-value").all_inner_texts()]


def expected(widget, theta, face=0) -> list[int]:
    return [round(100 * p) for p in widget.probabilities(theta, face)]


def at(view, x: float, y: float) -> tuple[float, float]:
    """Where the input coordinates (x, y) lie on the screen."""
    box = view.locator("canvas[role=application]").bounding_box()
    return box["x"] + box["width"] / 2 * (1 + x / 1.32), box["y"] + box["height"] / 2 * (1 + y / 1.32)


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=8)
    page.mouse.up()


# ---------------------------------------------------------------- frozen

def test_a_frozen_frame_is_dragged_scaled_and_turned_with_the_mouse(page, frozen_page, widget, artifacts):
    page.goto(frozen_page.as_uri())
    page.locator(".fl-value").first.wait_for()
    assert numbers(page) == [1, 0, 0, 0, 1, 0]
    drag(page, at(page, 0, 0), at(page, 0.2, -0.1))
    moved = numbers(page)
    assert moved[2] == pytest.approx(0.2, abs=0.02) and moved[5] == pytest.approx(-0.1, abs=0.02)
    drag(page, at(page, 1.2, 0.9), at(page, 0.2 + 0.8, -0.1 + 0.8))  # the corner, to 0.8 of its distance
    scaled = numbers(page)
    assert scaled[0] == scaled[4] == pytest.approx(0.8, abs=0.02)
    box = page.locator("canvas[role=application]").bounding_box()
    knob = at(page, 0.2, -0.9)
    drag(page, (knob[0], knob[1] - 24), (box["x"] + box["width"] - 20, knob[1] - 20))
    turned = numbers(page)
    assert turned[3] > 0.2 and turned[1] == pytest.approx(-turned[3], abs=0.02)
    assert "Precomputed" in page.locator(".fl-status").inner_text()
    page.screenshot(path=artifacts / "widget-theta-frozen.png")
    assert page.script_errors == []


def test_a_frozen_page_answers_almost_like_the_network(page, frozen_page, widget):
    page.goto(frozen_page.as_uri())
    page.locator(".fl-value").first.wait_for()
    for key, times in (("ArrowRight", 7), ("ArrowDown", 4), ("]", 11), ("-", 6)):
        for _ in range(times):
            page.locator("canvas[role=application]").press(key)
    theta = numbers(page)
    assert theta != [1, 0, 0, 0, 1, 0]
    page.wait_for_timeout(50)
    for found, wanted in zip(shown(page), expected(widget, theta), strict=True):
        assert abs(found - wanted) <= 4


def test_buttons_faces_and_sliders(page, frozen_page, widget):
    page.goto(frozen_page.as_uri())
    own = page.get_by_role("button", name="What the network chose")
    own.click()
    assert numbers(page) == pytest.approx(sum(CHOSEN, []), abs=0.006)
    assert own.get_attribute("aria-pressed") == "true"
    assert shown(page) == expected(widget, CHOSEN)
    page.get_by_role("radio", name="Face 2, labelled happiness").check()
    page.wait_for_timeout(50)
    assert shown(page) == expected(widget, CHOSEN, face=1)
    page.get_by_role("button", name="Identity").click()
    page.get_by_role("slider", name="Turn").fill("20")
    assert numbers(page)[3] == pytest.approx(0.34, abs=0.01)
    assert page.get_by_role("slider", name="Turn").get_attribute("aria-valuetext") == "20°"
    page.get_by_role("slider", name="Turn").dblclick()
    page.wait_for_timeout(50)
    assert numbers(page) == [1, 0, 0, 0, 1, 0]


def test_the_keyboard_reaches_everything_in_reading_order(page, frozen_page):
    page.goto(frozen_page.as_uri())
    page.locator(".fl-value").first.wait_for()
    stops = []
    for _ in range(8):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("() => document.activeElement.getAttribute('role') || document.activeElement.type"))
    assert stops == ["radio", "button", "button", "application", "range", "range", "range", "range"]
    page.locator("canvas[role=application]").focus()
    page.keyboard.press("Shift+ArrowLeft")
    assert numbers(page)[2] == pytest.approx(-0.1, abs=0.006)
    page.keyboard.press("End")
    assert numbers(page) == pytest.approx(sum(CHOSEN, []), abs=0.006)
    page.keyboard.press("Home")
    assert numbers(page) == [1, 0, 0, 0, 1, 0]
    page.locator("[aria-live]", has_text="Prediction").wait_for(state="attached")
    assert "upright" in page.locator("canvas[role=application]").get_attribute("aria-label")


def test_two_fingers_pinch(browser, frozen_page, artifacts):
    phone = dict(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True, device_scale_factor=3)
    context = browser.new_context(**phone)
    page = context.new_page()
    page.goto(frozen_page.as_uri())
    page.locator(".fl-value").first.wait_for()
    session = context.new_cdp_session(page)

    def touch(kind, *places):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(at(page, *place) for place in places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (-0.6, 0), (0.6, 0))
    touch("touchMove", (-0.5, 0.1), (0.5, 0.1))
    touch("touchMove", (-0.48, 0.2), (0.48, 0.2))
    touch("touchEnd")
    page.wait_for_timeout(100)
    assert numbers(page) == pytest.approx([0.8, 0, 0, 0, 0.8, 0.2], abs=0.03)
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=artifacts / "widget-theta-phone.png", full_page=True)
    context.close()


def test_two_frozen_widgets_on_a_page_follow_its_theme_and_leave_each_other_alone(page, widget, tmp_path, artifacts):
    frame = widget.freeze(lattice=Lattice((-40, 40, 3), (0.7, 1.4, 3), (-0.4, 0.4, 3)))
    host = f"<!doctype html><meta charset='utf-8'><body class='quarto-light'>{frame}{frame}"
    (tmp_path / "page.html").write_text(host, "utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    first, second = page.frame_locator("iframe >> nth=0"), page.frame_locator("iframe >> nth=1")
    second.locator(".fl-value").first.wait_for()
    first.get_by_role("button", name="What the network chose").click()
    assert numbers(first) != numbers(second) == [1, 0, 0, 0, 1, 0]
    first.get_by_role("radio", name="Face 3").check()
    assert second.get_by_role("radio", name="Face 1").is_checked()
    for i, view in enumerate((first, second)):  # as tall as what is in it: no inner scroll bar, no gap
        outer = page.locator("iframe").nth(i).bounding_box()["height"]
        assert 0 <= outer - view.locator(".fer-lab-widget").bounding_box()["height"] < 12
    background = "() => getComputedStyle(document.querySelector('.fer-lab-widget')).backgroundColor"
    light = page.frames[1].evaluate(background)
    page.evaluate("() => document.body.className = 'quarto-dark'")
    page.wait_for_timeout(100)
    dark = page.frames[1].evaluate(background)
    assert light == "rgb(255, 255, 255)" and dark != light
    page.screenshot(path=artifacts / "widget-theta-dark.png")
    assert page.script_errors == []


def test_no_face_is_said_in_words(page, tmp_path):
    widget = ThetaWidget(scope["Peephole"](), blobs(0), CLASSES)
    widget.freeze(tmp_path / "empty.html")
    page.goto((tmp_path / "empty.html").as_uri())
    page.get_by_text("No face to show").wait_for()
    assert page.script_errors == []


@pytest.fixture(scope="module")
def hiding():
    widget = OcclusionWidget(scope["Peephole"](), blobs(2), CLASSES, labels=[0, 1], window=8, stride=4)
    widget.newest.wait(60)
    return widget


def with_square(widget, face, row, column, window) -> list[int]:
    """The percentages the network gives with the square there."""
    x = to_float(widget.images[face:face + 1])
    x[..., row:row + window, column:column + window] = 0
    with torch.no_grad():
        return [round(100 * float(p)) for p in widget.model(x).softmax(1)[0]]


def test_a_frozen_square_is_moved_by_pointer_and_keys(page, hiding, tmp_path, artifacts):
    hiding.freeze(tmp_path / "page.html", windows=(8, 12), strides=(4, 8))
    page.goto((tmp_path / "page.html").as_uri())
    page.locator(".fl-value").first.wait_for()
    cost, flip = page.locator("canvas[role=application]").all()
    box = cost.bounding_box()
    pixel = box["width"] / 48
    page.mouse.move(box["x"] + 24 * pixel, box["y"] + 16 * pixel)  # the middle of the square: column 20, row 12
    assert "row 12, column 20" in cost.get_attribute("aria-label") == flip.get_attribute("aria-label")
    assert all(abs(a - b) <= 1 for a, b in zip(shown(page), with_square(hiding, 0, 12, 20, 8), strict=True))
    flip.press("ArrowRight")
    assert "row 12, column 24" in cost.get_attribute("aria-label")
    page.get_by_role("slider", name="Window").fill("1")
    page.get_by_role("slider", name="Step").fill("1")
    page.wait_for_timeout(50)
    assert page.get_by_role("slider", name="Window").get_attribute("aria-valuetext") == "12 px"
    assert "row 8, column 24" in cost.get_attribute("aria-label")  # the closest place that the coarser step has
    assert all(abs(a - b) <= 1 for a, b in zip(shown(page), with_square(hiding, 0, 8, 24, 12), strict=True))
    before = page.locator(".fl-finding").inner_text()
    page.get_by_label("Watched class").select_option("neutral")
    assert page.locator(".fl-finding").inner_text() != before and "neutral" in page.locator(".fl-scale").inner_text()
    page.get_by_role("radio", name="Face 2").check()
    page.wait_for_timeout(50)
    assert "Face 2" in cost.get_attribute("aria-label")
    page.screenshot(path=artifacts / "widget-occlusion-frozen.png")
    assert page.script_errors == []


def test_the_cost_map_is_coloured_where_hiding_matters(page, hiding, tmp_path):
    hiding.freeze(tmp_path / "page.html", windows=(8,), strides=(4,))
    page.goto((tmp_path / "page.html").as_uri())
    cost = page.locator("canvas[role=application]").first
    page.locator(".fl-finding", has_text="percentage points").wait_for()
    before, costs = hiding.answer["whole"], []
    for row in range(0, 41, 4):
        for column in range(0, 41, 4):
            costs.append((before[1] * 100 - with_square(hiding, 0, row, column, 8)[1], row, column))
    dearest = max(costs)
    assert before[1] == max(before) and dearest[0] > 5
    row, column = map(int, re.search(r"row (\d+), column (\d+)", cost.get_attribute("aria-label")).groups())
    start = next(cost for cost, *where in costs if where == [row, column])
    assert dearest[0] - start <= 1  # the square starts where hiding costs most; percentages are rounded
    page.wait_for_timeout(300)
    place, corner = cost.evaluate("""(canvas, places) => places.map(([x, y]) => {
        const [r, g, b] = canvas.getContext("2d").getImageData(x * canvas.width, y * canvas.height, 1, 1).data;
        return r - b; })""", [[(column + 4) / 48, (row + 4) / 48], [0.02, 0.98]])
    assert place > 30 and corner == 0  # orange there; no square has its middle in the corner


# ---------------------------------------------------------------- live

LIVE = MODEL + f'''
import time
from fer_lab.widgets import OcclusionWidget, ThetaWidget
noise = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
images = (F.interpolate(noise, (48, 48), mode="bicubic").clamp(0, 1) * 255).byte()
widget = ThetaWidget(Peephole(), images, {CLASSES}, labels=[0, 1, 2])
widget
'''
ASK = "widget.theta, widget.face"
BUSY = "import os\nfrom pathlib import Path\nwhile not Path('enough').exists():\n    time.sleep(0.1)\nos.getpid()"
BREAK = "def broken(x, theta):\n    raise RuntimeError('the network is on strike')\nwidget.model.warp_with = broken"
HIDE = f'''class Slow(Peephole):
    def forward(self, x):
        time.sleep(0.04)
        return super().forward(x)

hiding = OcclusionWidget(Slow(), images, {CLASSES}, window=12, stride=8)
hiding'''
HIDDEN = "hiding.newest.wait(); hiding.window, hiding.stride, hiding.answer['window'], hiding.answer['stride']"


@pytest.fixture
def live(lab, server):
    """A notebook with the widget, run in JupyterLab: (lab, the widget's cell)."""
    cells = [nbformat.v4.new_code_cell(text) for text in (LIVE, ASK, BUSY, BREAK, HIDE, HIDDEN)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), server[2] / "widget_test.ipynb")
    lab.open("widget_test.ipynb")
    run(lab, LIVE)
    cell = lab.show(LIVE)
    cell.locator(".fl-value").first.wait_for()
    yield lab, cell
    lab.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")


def run(lab, text: str):
    """Run the one cell that holds `text` and wait until the kernel is idle again."""
    lab.show(text)
    lab.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell')")
    lab.page.wait_for_timeout(300)
    lab.wait(lambda state: state["kernel"] == "idle", 60, "the cell")


def test_the_theta_widget_in_jupyterlab(live, server, widget, artifacts):
    lab, cell = live
    page, grid, status = lab.page, cell.locator("canvas[role=application]"), cell.locator(".fl-status")

    # dragged: Python answers what its own network says, and knows where the frame is
    grid.scroll_into_view_if_needed()
    drag(page, at(cell, 0, 0), at(cell, 0.3, 0.1))
    cell.get_by_text("Live: Python answered in").wait_for()
    theta = numbers(cell)
    assert theta[2] == pytest.approx(0.3, abs=0.02)
    page.wait_for_timeout(500)
    assert all(abs(a - b) <= 1 for a, b in zip(shown(cell), expected(widget, theta), strict=True))
    cell.locator(".fer-lab-widget").screenshot(path=artifacts / "widget-theta-live.png")
    run(lab, ASK)
    output = lab.show(ASK).locator(".jp-OutputArea-output").inner_text()
    assert [float(n) for n in re.findall(r"-?[\d.]+", output)][2] == pytest.approx(theta[2], abs=0.01)

    # keys belong to the widget, not to the notebook
    cell = lab.show(LIVE)
    notebook = """() => { const notebook = window.jupyterapp.shell.currentWidget.content;
        return [notebook.activeCellIndex, notebook.widgets.length, notebook.mode]; }"""
    grid.focus()
    before = page.evaluate(notebook)
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowDown", "]", "-"):
        grid.press(key)
    assert numbers(cell)[5] == pytest.approx(0.06, abs=0.006)
    assert page.evaluate(notebook) == before

    # it wears the dark theme
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    page.wait_for_timeout(500)
    *colours, scheme = cell.locator(".fer-lab-widget").evaluate(
        "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color, e.style.colorScheme]")
    brightness = [sum(int(n) for n in re.findall(r"\d+", colour)[:3]) for colour in colours]
    assert brightness[0] < 200 < 500 < brightness[1] and scheme == "dark"
    cell.locator(".fer-lab-widget").screenshot(path=artifacts / "widget-theta-lab-dark.png")
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Light' })")

    # a kernel that is busy with a cell answers still: JupyterLab gives widgets a subshell of their own
    lab.show(BUSY)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")
    lab.wait(lambda state: state["kernel"] == "busy", 60, "the kernel to be busy")
    cell = lab.show(LIVE)
    cell.get_by_role("button", name="Identity").click()
    cell.get_by_text("Live: Python answered in").wait_for()
    assert lab.show(BUSY).locator(".jp-OutputArea-output").count() == 0  # it is at it still
    cell = lab.show(LIVE)
    assert shown(cell) == expected(widget, [1, 0, 0, 0, 1, 0])
    (server[2] / "enough").touch()
    output = lab.show(BUSY).locator(".jp-OutputArea-output")
    output.wait_for()

    # a kernel that hangs: said in words, and answered later
    kernel = int(output.inner_text())
    cell = lab.show(LIVE)
    os.kill(kernel, signal.SIGSTOP)
    try:
        cell.get_by_role("button", name="What the network chose").click()
        cell.get_by_text("No answer from Python yet").wait_for()
    finally:
        os.kill(kernel, signal.SIGCONT)
    cell.get_by_text("Live: Python answered in").wait_for()
    cell.get_by_role("button", name="Identity").click()
    cell.get_by_text("Live: Python answered in").wait_for()

    # an error of the network is said in the widget, and the last answer stays
    before = expected(widget, [1, 0, 0, 0, 1, 0])
    for _ in range(100):  # the words of the answer before this one may still stand there
        if shown(cell) == before:
            break
        page.wait_for_timeout(100)
    run(lab, BREAK)
    cell = lab.show(LIVE)
    cell.get_by_role("button", name="What the network chose").click()
    cell.locator(".fl-status[data-state=error]").wait_for()
    assert "on strike" in status.inner_text() and shown(cell) == before
    cell.locator(".fer-lab-widget").screenshot(path=artifacts / "widget-theta-error.png")


def test_a_slow_map_shows_progress_and_gives_way_to_a_newer_one(live, artifacts):
    lab, _ = live
    run(lab, HIDE)
    cell = lab.show(HIDE)
    cell.locator(".fl-status[data-state=done]").wait_for()
    cell.get_by_role("slider", name="Step").fill("0")  # 1 pixel: 1,369 places, more than 20 batches
    cell.locator(".fl-status[data-state=busy]").wait_for()
    cell.get_by_text(re.compile(r"Computing … [1-9]\d? %")).wait_for()
    cell.locator(".fer-lab-widget").screenshot(path=artifacts / "widget-occlusion-busy.png")
    cell.get_by_role("slider", name="Window").fill("14")  # 16 pixels
    cell.get_by_role("slider", name="Step").fill("3")  # 4 pixels
    cell.locator(".fl-status[data-state=done]").wait_for()
    assert "covered the face 81 times" in cell.locator(".fl-status").inner_text()
    cell.locator(".fer-lab-widget").screenshot(path=artifacts / "widget-occlusion-live.png")
    run(lab, HIDDEN)
    assert lab.show(HIDDEN).locator(".jp-OutputArea-output").inner_text() == "(16, 4, 16, 4)"
