"""The hop slider as readers meet it: frozen on a page, by mouse and keys, narrow and dark."""

import pytest

from fer_lab.papers.gcn import HopSlider
from fer_lab.synthetic import synthetic_faces

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def faces():
    return synthetic_faces(2, size=96, seed=8, occluded=0, mask=False)


@pytest.fixture(scope="module")
def frozen_page(faces, tmp_path_factory):
    path = tmp_path_factory.mktemp("hops") / "hops.html"
    HopSlider(faces.batch(), faces.landmarks).freeze(path)
    return path.as_uri()


def scene(view):
    return view.locator("canvas[role=application]")


def said(view) -> str:
    return scene(view).get_attribute("aria-label")


def heard_by(faces, node: int, hops: int) -> str:
    slider = HopSlider(faces.batch(), faces.landmarks)
    slider.node, slider.hops = node, hops
    return f"hears {len(slider.heard())} of 68 points within {hops} hop{'s' * (hops != 1)}."


def test_the_slider_and_the_buttons_say_what_python_says(page, frozen_page, faces, artifacts):
    page.goto(frozen_page)
    scene(page).wait_for()
    assert said(page) == f"Point 48 (mouth) {heard_by(faces, 48, 1)}"
    assert page.locator("li", has_text="0 hops").inner_text().endswith("0 hops: 1 point")
    page.get_by_role("slider", name="Hops").fill("3")
    assert said(page) == f"Point 48 (mouth) {heard_by(faces, 48, 3)}"
    page.get_by_role("button", name="chin").click()
    assert said(page) == f"Point 8 (outline) {heard_by(faces, 8, 3)}"
    page.screenshot(path=artifacts / "hop-slider-frozen.png", full_page=True)
    assert page.script_errors == []


def test_points_are_chosen_by_pointer_and_keys(page, frozen_page, faces):
    page.goto(frozen_page)
    box = scene(page).bounding_box()
    x, y = ((faces.landmarks[0, 30] + 0.5) / 96).tolist()
    page.mouse.click(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    assert said(page).startswith("Point 30 (nose)")
    scene(page).focus()
    page.keyboard.press("ArrowUp")
    assert said(page).startswith("Point 29 (nose)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [980, 360])
def test_it_fits_narrow_pages_and_dark_ones(page, frozen_page, scheme, width, artifacts):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(frozen_page)
    scene(page).wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    page.screenshot(path=artifacts / f"hop-slider-{scheme}-{width}.png", full_page=True)
