"""The Gabor editor as readers meet it: frozen on a page, by mouse and keys, narrow and dark, and live in JupyterLab."""

import re

import nbformat
import numpy as np
import pytest

from fer_lab.gabor_editor import GaborEditor
from fer_lab.synthetic import synthetic_faces

pytestmark = pytest.mark.xdist_group("browser")
PIXELS = """shown => {
    const small = new OffscreenCanvas(48, 48).getContext('2d');
    Object.assign(small, { imageSmoothingQuality: 'high' }).drawImage(shown, 0, 0, 48, 48);
    return Array.from(small.getImageData(0, 0, 48, 48).data.filter((_, i) => i % 4 === 0));
}"""


@pytest.fixture
def editor():
    return GaborEditor(synthetic_faces(3, seed=1, mask=False, occluded=0).stills(), ["one", "two", "three"])


@pytest.fixture
def frozen_page(editor, tmp_path):
    editor.freeze(tmp_path / "gabor.html")
    return (tmp_path / "gabor.html").as_uri()


def part(view, name: str):
    return view.get_by_role("img", name=re.compile(f"^{name}: "))


def shown(view, name: str) -> np.ndarray:
    view.wait_for_timeout(150)
    return np.reshape(part(view, name).evaluate(PIXELS), (48, 48)).astype(float)


def strength_of(editor) -> np.ndarray:
    strength = editor.answer_of()[1]
    return 255 * strength / strength.max()


def test_the_sliders_turn_the_wave_and_the_picture_is_scikit_images(page, frozen_page, editor, artifacts):
    page.goto(frozen_page)
    part(page, "How strong").wait_for()
    assert page.get_by_role("slider").count() == 3
    assert abs(shown(page, "How strong") - strength_of(editor)).mean() < 6
    page.get_by_role("slider", name="Direction θ").fill("0")
    editor.theta = 0.0
    assert abs(shown(page, "How strong") - strength_of(editor)).mean() < 6
    page.get_by_role("slider", name="Wavelength λ").fill("12")
    page.get_by_role("radio", name="two").check(force=True)
    editor.wavelength, editor.face = 12.0, 1
    assert abs(shown(page, "How strong") - strength_of(editor)).mean() < 6
    assert "0.33 λ" in page.locator("[data-part=wave]").inner_text()
    page.screenshot(path=artifacts / "gabor-frozen.png", full_page=True)
    assert page.script_errors == []


def test_the_bank_sets_the_sliders_and_keys_move_them(page, frozen_page):
    page.goto(frozen_page)
    part(page, "The wave").wait_for()
    bank = page.get_by_role("radiogroup", name="Filter bank").get_by_role("radio")
    assert bank.count() == 16 and bank.nth(10).is_checked()  # λ = 7, θ = 90°: as the sliders stand
    page.get_by_role("radio", name="λ = 9, θ = 45°").check(force=True)
    turn = page.get_by_role("slider", name="Direction θ")
    assert turn.input_value() == "45" and page.get_by_role("slider", name="Wavelength λ").input_value() == "9"
    turn.press("ArrowRight")
    assert turn.get_attribute("aria-valuetext") == "46°"
    page.wait_for_timeout(100)
    assert page.get_by_role("radiogroup", name="Filter bank").locator("input:checked").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [980, 360])
def test_it_fits_narrow_pages_and_dark_ones(page, frozen_page, scheme, width, artifacts):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(frozen_page)
    part(page, "The face").wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.wait_for_timeout(200)
    page.screenshot(path=artifacts / f"gabor-{scheme}-{width}.png", full_page=True)


def test_live_in_jupyterlab_python_knows_the_sliders(lab, server, artifacts):
    cells = ["from fer_lab.gabor_editor import GaborEditor\nfrom fer_lab.synthetic import synthetic_faces\n"
             "editor = GaborEditor(synthetic_faces(2, mask=False).stills())\neditor"]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    nbformat.write(book, server[2] / "gabor.ipynb")
    lab.open("gabor.ipynb")
    assert not lab.run_all()["errors"]
    view = lab.page.locator(".fer-lab-widget").first
    view.get_by_role("slider", name="Direction θ").fill("30")
    view.get_by_role("radio", name="face 2").check(force=True)
    assert "Live" in view.locator(".fl-status").inner_text()
    lab.page.screenshot(path=artifacts / "gabor-live.png")
    assert lab.page.script_errors == []
