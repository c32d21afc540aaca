"""The explorer as readers meet it: the same steps drive it live in JupyterLab and frozen on a page."""

import base64
import re

import nbformat
import pytest
import torch
from torch import nn

from fer_lab.augment import to_float
from fer_lab.explain import attribute
from fer_lab.explorer import Explorer, arithmetic, recorded
from fer_lab.models import load_zoo
from fer_lab.synthetic import synthetic_faces

pytestmark = pytest.mark.xdist_group("browser")
METHODS = ("Saliency", "InputXGradient", "GuidedBackprop", "LayerGradCam", "IntegratedGradients")
CELL = """from fer_lab.explorer import Explorer
from fer_lab.models import load_zoo
from fer_lab.synthetic import synthetic_faces
model, _ = load_zoo("stn-fer2013")
explorer = Explorer(model, synthetic_faces(2, 48, seed=3))
explorer"""
ASK = "explorer.method, explorer.target, explorer.block, explorer.unit, explorer.twin, explorer.level"
WRONG = 'explorer.method, explorer.layer = "LayerGradCam", "nope"'
SLOW = """import time
class Slow(type(model)):
    def forward(self, x):
        time.sleep(0.05)
        return super().forward(x)
slow = Slow(**model.config).eval()
other = Explorer(slow, synthetic_faces(2, 48, seed=3))
other"""


@pytest.fixture(scope="module")
def explorer():
    explorer = Explorer(load_zoo("stn-fer2013")[0], synthetic_faces(2, 48, seed=3))
    explorer.looking.wait()
    explorer.heating.wait()
    return explorer


@pytest.fixture(scope="module")
def frozen_page(explorer, tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    explorer.freeze(path, faces=[0], methods=METHODS, progress=False)
    assert path.stat().st_size < 1_500_000
    return path


def pixels(view) -> list[int]:
    """What is painted over the first face, coarsely."""
    return view.locator(".fl-face-panel canvas").first.evaluate(
        """c => { const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
            const at = (i) => 4 * Math.floor(i * d.length / 1600);
            return Array.from({ length: 400 }, (_, i) => d[at(i)] - d[at(i) + 2]); }""")


def changed(page, view, before) -> list[int]:
    for _ in range(100):
        if (now := pixels(view)) != before:
            return now
        page.wait_for_timeout(100)
    raise AssertionError("the picture did not change")


def quiet(view):
    """The last answer has come."""
    view.locator(".fl-status:is([data-state=done], [data-state=frozen])").wait_for()


def steps(page, view, explorer, shot) -> None:
    """What a reader does, whoever answers."""
    calls, logits = recorded(explorer.originals[0], to_float(explorer.images[:1]))
    view.locator('[data-path="features.conv2"]').wait_for()
    quiet(view)
    view.scroll_into_view_if_needed()
    shot("network")
    first = pixels(view)

    # zoom: block, unit, the sum is the network's own number
    view.locator('[data-path="features.conv2"]').click()
    sheet = view.locator(".fl-sheet canvas").first
    sheet.wait_for()
    view.get_by_text("10 maps of 44 × 44").wait_for()
    shot("maps")
    box = sheet.bounding_box()
    sheet.click(position={"x": box["width"] * 0.1, "y": box["height"] * 0.2})
    view.locator(".fl-term").first.wait_for()
    unit = [int(n) for n in re.findall(r"\d+", view.locator('[data-level="pixel"]').inner_text())]
    found = arithmetic(calls, "features.conv2", unit)
    assert found["value"] == pytest.approx(float(calls["features.conv2"].out[0][tuple(unit)]))
    told = view.locator(".fl-result-value").first.inner_text().replace("−", "-")
    assert float(told) == pytest.approx(found["value"], rel=0.01, abs=0.002)
    assert "(5 × 5 pixels)" in view.locator(".fl-readout").inner_text()
    shot("pixel")

    # arrow keys belong to the map, Escape zooms out
    sheet.focus()
    sheet.press("ArrowRight")
    view.get_by_role("button", name=f"Unit {unit[0]}, {unit[1]}, {unit[2] + 1}").wait_for()
    sheet.press("Escape")
    assert view.locator('[data-level="maps"]').get_attribute("aria-current") == "step"
    view.get_by_role("button", name="Zoom out").click()
    assert view.locator('[data-level="network"]').get_attribute("aria-current") == "step"

    # the class, the method, the twin
    view.get_by_role("radio", name="happiness", exact=True).check()
    view.get_by_text("Saliency, happiness").wait_for()
    second = changed(page, view, first)
    view.get_by_role("radio", name="InputXGradient", exact=True).check()
    view.get_by_text("InputXGradient, happiness").wait_for()
    third = changed(page, view, second)
    view.get_by_role("button", name="Sanity twin").click()
    view.get_by_text("InputXGradient, sanity twin, happiness").wait_for()
    changed(page, view, third)
    assert view.get_by_role("button", name="Sanity twin").get_attribute("aria-pressed") == "true"
    quiet(view)
    shot("twin")
    view.get_by_role("button", name="Sanity twin").click()
    for _ in range(150):
        if "…" not in view.locator(".fl-trust b").all_inner_texts():
            break
        page.wait_for_timeout(200)
    shown = [float(text.replace("−", "-")) for text in view.locator(".fl-trust b").all_inner_texts()]
    assert 0 < shown[0] < 5 and 0 <= shown[1] and -1 <= shown[2] <= 1


def test_the_frozen_page(page, frozen_page, explorer, artifacts):
    page.goto(frozen_page.as_uri())
    steps(page, page.locator(".fer-lab-widget"), explorer,
          lambda name: page.screenshot(path=artifacts / f"explorer-frozen-{name}.png", full_page=True))
    assert page.script_errors == []


class Film(nn.Module):
    "A convolution for each frame, a GRU over time."

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.gru, self.head = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):  # [N, T, C, H, W]
        maps = self.relu(self.conv(x.flatten(0, 1))).mean((2, 3))
        return self.head(self.gru(maps.view(*x.shape[:2], -1))[0][:, -1])


def test_a_frozen_film_shows_each_frames_own_numbers_and_names_its_layer(page, tmp_path, artifacts):
    torch.manual_seed(0)
    face = torch.as_tensor(synthetic_faces(1, 48, seed=3).batch([0]))[0, :, ::2, ::2]
    film = torch.stack([face.roll(step, -1) for step in (0, 3, 6)])
    explorer = Explorer(Film().eval(), film[None], "abc", method="LayerGradCam", layer="conv")
    explorer.freeze(tmp_path / "film.html", methods=("LayerGradCam",), progress=False)
    page.goto((tmp_path / "film.html").as_uri())
    view = page.locator(".fer-lab-widget")
    layer = view.get_by_label("Layer of Grad-CAM")
    assert layer.input_value() == "conv" and layer.is_disabled()
    view.locator('[data-path="conv"]').click()
    view.get_by_text("4 maps of 24 × 24").wait_for()
    maps = recorded(explorer.originals[0], explorer.x_of(0))[0]["conv"].out
    seen, heat = [], []
    for frame in range(3):
        view.get_by_text(f"frame {frame + 1} of 3").wait_for()
        told = re.search(r"map 0, row 12, column 12: (\S+);", view.locator(".fl-readout").inner_text())[1]
        seen.append(float(told.replace("−", "-")))
        heat.append(pixels(view))
        page.screenshot(path=artifacts / f"explorer-frozen-film-{frame + 1}.png", full_page=True)
        view.get_by_label("Time").press("ArrowRight")
        page.wait_for_timeout(300)
    assert seen == pytest.approx(maps[:, 0, 12, 12].tolist(), rel=0.01, abs=0.002) and len(set(seen)) == 3
    assert heat[0] != heat[1] != heat[2]
    assert page.script_errors == []


def test_a_frozen_page_is_narrow_and_dark_where_its_reader_is(browser, frozen_page, artifacts):
    for scheme, width in (("light", 800), ("dark", 800), ("dark", 1400)):
        page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
        page.goto(frozen_page.as_uri())
        page.locator('[data-path="localisation"]').click()
        page.locator(".fl-sheet canvas").first.wait_for()
        page.wait_for_timeout(300)
        page.screenshot(path=artifacts / f"explorer-frozen-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.close()


def test_the_keyboard_reaches_everything_in_reading_order(page, frozen_page):
    page.goto(frozen_page.as_uri())
    page.locator('[data-path="features.conv2"]').wait_for()
    seen = []
    for _ in range(24):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("""() => { const e = document.activeElement;
            return e.getAttribute("aria-label") || e.textContent || e.tagName; }"""))
    order = [next(i for i, name in enumerate(seen) if wanted in name) for wanted in
             ("Side by side", "Sanity twin", "Network", "look.conv1", "Saliency", "its own answer", "both")]
    assert order == sorted(order)
    assert sum("conv" in name for name in seen[:order[-1]]) == 1  # the blocks are one stop; arrow keys go on from there


@pytest.fixture(scope="module")
def notebook(server):
    """A notebook whose kernel goes on between the tests: importing torch anew for each of them would take a minute."""
    cells = [nbformat.v4.new_code_cell(text) for text in (CELL, ASK, WRONG, SLOW)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), server[2] / "explorer_test.ipynb")
    return "explorer_test.ipynb"


@pytest.fixture
def live(lab, notebook):
    lab.open(notebook)
    run(lab, CELL)
    return lab, lab.show(CELL)


def run(lab, text: str):
    lab.show(text)
    lab.page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-cell')")
    lab.page.wait_for_timeout(300)
    lab.wait(lambda state: state["kernel"] == "idle", 90, "the cell")


def test_the_explorer_in_jupyterlab(live, explorer, artifacts):
    lab, cell = live
    view = cell.locator(".fer-lab-widget")
    steps(lab.page, view, explorer, lambda name: view.screenshot(path=artifacts / f"explorer-live-{name}.png"))
    run(lab, ASK)
    told = lab.show(ASK).locator(".jp-OutputArea-output").inner_text()
    assert "'InputXGradient', 3, 'features.conv2'" in told and "False, 'network'" in told

    # JupyterLab's dark theme
    cell = lab.show(CELL)
    view = cell.locator(".fer-lab-widget")
    theme = "(name) => window.jupyterapp.commands.execute('apputils:change-theme', { theme: name })"
    lab.page.evaluate(theme, "JupyterLab Dark")
    lab.page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    lab.page.wait_for_timeout(500)
    assert view.evaluate("e => e.style.colorScheme") == "dark"
    view.screenshot(path=artifacts / "explorer-live-dark.png")
    lab.page.evaluate(theme, "JupyterLab Light")
    assert lab.page.script_errors == []


def test_a_wrong_layer_is_told_and_nothing_is_drawn(live, artifacts):
    lab, cell = live
    run(lab, WRONG)
    view = lab.show(CELL).locator(".fer-lab-widget")
    view.get_by_text("no part 'nope'").first.wait_for()
    view.get_by_text("LayerGradCam: no map").wait_for()
    assert view.locator(".fl-trust b").all_inner_texts() == ["–", "–", "–"]
    view.screenshot(path=artifacts / "explorer-live-wrong-layer.png")


def test_a_slow_method_shows_progress_refines_and_can_be_cancelled(live, artifacts):
    lab, _ = live
    run(lab, SLOW)
    view = lab.show(SLOW).locator(".fer-lab-widget")
    quiet(view)
    view.get_by_role("radio", name="Occlusion", exact=True).check()
    view.get_by_text(re.compile(r"Occlusion: .*\d %")).wait_for()
    view.get_by_text(re.compile(r"Occlusion, \w+, rough")).wait_for()
    view.screenshot(path=artifacts / "explorer-live-busy.png")
    view.get_by_role("button", name="Cancel").click()
    view.get_by_text("Stopped").wait_for()
    view.get_by_role("radio", name="Saliency", exact=True).check()
    view.get_by_text(re.compile(r"Saliency, \w+$")).wait_for()
    quiet(view)


def test_the_heat_of_the_page_is_captums(explorer):
    x = to_float(explorer.images[:1])
    expected = attribute(explorer.originals[0], x, "Saliency")[0]
    found = torch.frombuffer(bytearray(base64.b64decode(explorer.heat["sides"][0]["bytes"])), dtype=torch.uint8)
    top = explorer.heat["sides"][0]["top"]
    assert (((found.float() - 127) / 127 * top).view(48, 48) - expected.clamp(-top, top)).abs().max() < top / 120
