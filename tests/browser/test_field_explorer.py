"""The receptive-field explorer as readers meet it: frozen on a page, by mouse and keys, and live in JupyterLab."""

import re

import nbformat
import pytest

from fer_lab.field_explorer import FieldExplorer
from fer_lab.synthetic import render, sample_params

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def frozen_page(tmp_path_factory):
    path = tmp_path_factory.mktemp("fields") / "fields.html"
    FieldExplorer(render(sample_params(2, seed=4, occluded=0.0), 48)[0]).freeze(path)
    return path


def scene(view):
    return view.locator("canvas[role=application]")


def said(view) -> str:
    return scene(view).get_attribute("aria-label")


def test_examples_show_the_holes_of_equal_rates(page, frozen_page, artifacts):
    page.goto(frozen_page.as_uri())
    scene(page).wait_for()
    assert said(page).startswith("1×1: field 1 × 1")
    page.get_by_role("button", name="gridding").click()
    assert said(page).startswith("rates 2, 2, 2: field 13 × 13, 49 of 169 pixels count (29 %), 120 are holes.")
    page.get_by_role("radio", name="rates 1, 2, 3").check(force=True)
    assert said(page).startswith("rates 1, 2, 3: field 13 × 13, 169 of 169") and "no holes" in said(page)
    assert page.get_by_role("img", name=re.compile("^together: field 13 × 13")).count() == 1
    page.screenshot(path=artifacts / "field-explorer-frozen.png", full_page=True)
    assert page.script_errors == []


def test_kernel_stride_dilation_and_depth_move_the_field(page, frozen_page):
    page.goto(frozen_page.as_uri())
    page.get_by_role("button", name="gridding").click()
    page.get_by_role("slider", name="Layer 1 dilation").fill("1")
    assert "field 11 × 11, 121 of 121" in said(page)
    page.get_by_role("slider", name="Layer 2 kernel").fill("5")
    assert "field 15 × 15" in said(page)
    page.get_by_role("slider", name="Layer 1 stride").fill("2")
    assert "field 27 × 27" in said(page)
    page.get_by_role("slider", name="Depth of this branch").fill("1")
    assert "field 3 × 3" in said(page) and page.get_by_role("slider").count() == 4
    assert page.locator(".fl-recurrence tbody tr").count() == 1


def test_the_window_follows_pointer_and_keys(page, frozen_page):
    page.goto(frozen_page.as_uri())
    scene(page).wait_for()
    assert said(page).endswith("Middle at row 25, column 25.")
    scene(page).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    assert said(page).endswith("Middle at row 20, column 26.")
    box = scene(page).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 10.5 / 48, box["y"] + box["height"] * 40.5 / 48)
    page.mouse.up()
    assert said(page).endswith("Middle at row 41, column 11.")
    slider = page.get_by_role("slider", name="Depth of this branch")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "2 layers"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [980, 600, 360])
def test_it_fits_narrow_pages_and_dark_ones(page, frozen_page, scheme, width, artifacts):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(frozen_page.as_uri())
    page.get_by_role("button", name="gridding").click()
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert page.evaluate("""() => {
        const [table, around] = ['.fl-recurrence', '.fl-fields'].map((one) => document.querySelector(one));
        return table.getBoundingClientRect().right <= around.getBoundingClientRect().right + 1;
    }""")
    text, ground = page.evaluate("""() => {
        const style = getComputedStyle(document.querySelector('.fer-lab-widget'));
        const sum = colour => colour.match(/[\\d.]+/g).slice(0, 3).reduce((a, b) => a + +b, 0);
        return [sum(style.color), sum(style.backgroundColor)]; }""")
    assert (text > ground + 300) == (scheme == "dark")
    page.screenshot(path=artifacts / f"field-explorer-{scheme}-{width}.png", full_page=True)


def test_live_in_jupyterlab(lab, server, artifacts):
    cells = ["from fer_lab.field_explorer import EXAMPLES, FieldExplorer\n"
             "from fer_lab.synthetic import synthetic_faces\n"
             "explorer = FieldExplorer(synthetic_faces(2, mask=False).batch(), EXAMPLES['gridding'])\nexplorer",
             "print('heard', explorer.branches[0]['layers'], explorer.table().iloc[0].tolist()[:3])"]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    nbformat.write(book, server[2] / "fields.ipynb")
    lab.open("fields.ipynb")
    assert not lab.run_all()["errors"]
    view = lab.page.locator(".fer-lab-widget").first
    scene(view).wait_for()
    slider = view.get_by_role("slider", name="Layer 1 dilation")
    slider.press("ArrowLeft")
    assert "field 11 × 11, 121 of 121" in said(view)
    lab.page.wait_for_timeout(500)
    lab.show("print('heard'").click()
    lab.page.keyboard.press("Control+Enter")
    lab.page.get_by_text("heard [[3, 1, 1], [3, 1, 2], [3, 1, 2]] [11.0, 1.0, 121.0]").wait_for()
    view.scroll_into_view_if_needed()
    lab.page.screenshot(path=artifacts / "field-explorer-live.png")
    assert lab.page.script_errors == []
