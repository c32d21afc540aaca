"""The AU mixer as readers meet it: frozen on a page, by mouse and keys, and live in JupyterLab."""

import re

import nbformat
import numpy as np
import pytest

from fer_lab.au_mixer import AUMixer, in_order, mixture
from fer_lab.synthetic import render

pytestmark = pytest.mark.xdist_group("browser")
PIXELS = """shown => {
    const small = new OffscreenCanvas(32, 32).getContext('2d');
    Object.assign(small, { imageSmoothingQuality: 'high' }).drawImage(shown, 0, 0, 32, 32);
    return Array.from(small.getImageData(0, 0, 32, 32).data.filter((_, i) => i % 4 === 0));
}"""


@pytest.fixture(scope="module")
def mixer():
    made = AUMixer(people=(40,))
    made.newest.wait(60)
    return made


@pytest.fixture(scope="module")
def frozen_page(mixer, tmp_path_factory):
    path = tmp_path_factory.mktemp("mixer") / "mixer.html"
    mixer.freeze(path)
    return path


def face(view):
    return view.get_by_role("img", name=re.compile("Person 1, action units"))


def unit(view, name: str):
    return view.get_by_role("slider", name=re.compile(rf"^{name} "))


def picture(view) -> np.ndarray:
    "The face on the screen, reduced to 32 x 32."
    view.wait_for_timeout(120)
    return np.reshape(face(view).evaluate(PIXELS), (32, 32))


def drawn(strengths: dict, mixer) -> np.ndarray:
    image = render(mixture(in_order(strengths), 40, 1.0, mixer.pose, mixer.light), 128)[0][0, 0].numpy().astype(float)
    return image.reshape(32, 4, 32, 4).mean((1, 3))


def test_a_unit_alone_shows_the_face_that_python_draws(page, frozen_page, mixer, artifacts):
    page.goto(frozen_page.as_uri())
    face(page).wait_for()
    assert abs(picture(page) - drawn({}, mixer)).mean() < 6
    unit(page, "AU27").fill("0.8")
    assert face(page).get_attribute("aria-label").startswith("Person 1, action units 27.")
    now, wanted, rest = picture(page), drawn({"AU27": 0.8}, mixer), drawn({}, mixer)
    assert abs(now - wanted).mean() < 6 and abs(now - wanted)[20:].mean() < 0.5 * abs(now - rest)[20:].mean()
    unit(page, "AU4").fill("1")                     # the twin shows one unit at a time
    assert page.locator(".fl-verdict").inner_text() == "4" and unit(page, "AU27").input_value() == "0"
    assert "Precomputed" in page.locator(".fl-status").inner_text()
    page.screenshot(path=artifacts / "au-mixer-frozen.png", full_page=True)
    assert page.script_errors == []


def test_presets_and_their_intensity(page, frozen_page):
    page.goto(frozen_page.as_uri())
    happy = page.get_by_role("button", name="happiness")
    happy.click()
    assert happy.get_attribute("aria-pressed") == "true" and page.locator(".fl-verdict").inner_text() == "6+12+25"
    assert "zygomaticus major" in page.locator(".fl-units").inner_text()
    strong = picture(page)
    page.get_by_role("slider", name="Intensity of all").fill("0.4")
    weak = picture(page)
    page.get_by_role("slider", name="Intensity of all").fill("0")
    rest = picture(page)
    assert abs(strong - rest).mean() > 1.5 * abs(weak - rest).mean() > 0
    assert page.locator(".fl-verdict").inner_text() == "0"
    page.get_by_role("button", name="contempt").click()
    page.get_by_role("slider", name="Intensity of all").fill("1")
    assert page.locator(".fl-verdict").inner_text() == "L14"


def test_the_keyboard_moves_every_slider_and_each_says_its_muscle(page, frozen_page):
    page.goto(frozen_page.as_uri())
    face(page).wait_for()
    assert page.get_by_role("slider").count() == 21
    unit(page, "AU12").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert unit(page, "AU12").get_attribute("aria-valuetext") == "40 %"
    assert page.get_by_role("slider", name="AU12 lip corner puller zygomaticus major").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.labels[0].textContent").startswith("AU14")
    unit(page, "AU12").dblclick(position={"x": 40, "y": 10})
    assert unit(page, "AU12").input_value() == "0"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [980, 600, 360])
def test_it_fits_narrow_pages_and_dark_ones(page, frozen_page, scheme, width, artifacts):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(frozen_page.as_uri())
    face(page).wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    light, dark = page.evaluate("""() => { const style = getComputedStyle(document.querySelector('.fer-lab-widget'));
        const sum = colour => colour.match(/[\\d.]+/g).slice(0, 3).reduce((a, b) => a + +b, 0);
        return [sum(style.color), sum(style.backgroundColor)]; }""")
    assert (light > dark + 300) == (scheme == "dark")
    page.screenshot(path=artifacts / f"au-mixer-{scheme}-{width}.png", full_page=True)


def test_live_in_jupyterlab(lab, server, artifacts):
    cells = ["from fer_lab.au_mixer import AUMixer\nmixer = AUMixer(people=(40, 15))\nmixer",
             "mixer.newest.wait(60)\nprint('heard', mixer.face, round(mixer.aus[24], 2), mixer.aus[25], mixer.pose[0])"]
    kernel = {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    nbformat.write(book, server[2] / "mixer.ipynb")
    lab.open("mixer.ipynb")
    state = lab.run_all()
    assert not state["errors"]
    view = lab.page.locator(".fer-lab-widget").first
    view.locator(".fl-status[data-state=done]").wait_for()
    assert "Python drew the face" in view.locator(".fl-status").inner_text()
    view.get_by_role("radio", name="their left").check()
    view.get_by_role("slider", name=re.compile("^AU25 ")).scroll_into_view_if_needed()
    view.get_by_role("slider", name=re.compile("^AU14 ")).fill("0.7")
    assert view.locator(".fl-verdict").inner_text() == "L14"
    lowered = view.get_by_role("slider", name=re.compile("^AU16 "))
    for _ in range(3):
        lowered.press("ArrowRight")
    assert view.locator(".fl-verdict").inner_text() == "L14+L16" and lowered.input_value() == "0.03"
    view.get_by_role("button", name="surprise").click()
    view.get_by_role("slider", name="Turn").fill("15")
    view.get_by_role("radio", name="Person 2").check(force=True)
    lab.page.wait_for_timeout(1500)
    view.locator(".fl-status[data-state=done]").wait_for()
    assert view.locator(".fl-verdict").inner_text() == "1+2+5+25+26"
    view.scroll_into_view_if_needed()
    lab.page.screenshot(path=artifacts / "au-mixer-live.png")
    assert lab.page.script_errors == []
