"""The first paper as a student meets it: opened in JupyterLab, run from top to bottom, and operated."""

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(900)]


def seen(cell) -> dict:
    """What the theta widget shows: the six numbers, the face read through the grid, the bars."""
    return {
        "theta": cell.locator(".fl-yours .fl-numbers").get_attribute("aria-label"),
        "face": cell.locator("canvas.fl-result").evaluate("canvas => canvas.toDataURL()"),
        "answer": cell.locator(".fl-value").all_inner_texts(),
    }


def answered(lab, cell) -> dict:
    """What the widget shows once Python has answered the last move."""
    cell.locator(".fl-status[data-state=done]").wait_for()
    lab.page.wait_for_timeout(300)  # the picture is drawn in the next frame
    return seen(cell)


@pytest.fixture
def run_through(lab, artifacts):
    """The notebook, run by Run > Run All Cells, without an error."""
    lab.open("nbs/papers/06_stn.ipynb")
    end = lab.run_all(timeout=600)
    lab.page.screenshot(path=artifacts / "stn-lab-end.png")
    assert end["errors"] == []
    return lab


def test_the_notebook_runs_and_theta_can_be_dragged(run_through, artifacts):
    lab = run_through
    cell = lab.show("ThetaWidget(")
    cell.locator(".fl-value").first.wait_for()
    lab.page.wait_for_timeout(500)
    start = seen(cell)
    lab.page.screenshot(path=artifacts / "stn-lab-theta-1-start.png")

    grid = cell.locator("canvas[role=application]")
    grid.scroll_into_view_if_needed()
    grid.focus()
    for key in ["ArrowRight"] * 10 + ["ArrowDown"] * 5 + ["]"] * 8:
        grid.press(key)
    by_keys = answered(lab, cell)
    lab.page.screenshot(path=artifacts / "stn-lab-theta-2-keys.png")
    assert by_keys["theta"] != start["theta"] and by_keys["face"] != start["face"]

    cell.get_by_role("slider", name="Shift right").press("End")  # as far as it goes: hardly a face is left to see
    by_slider = answered(lab, cell)
    lab.page.screenshot(path=artifacts / "stn-lab-theta-3-slider.png")
    assert by_slider["face"] != by_keys["face"]
    assert by_slider["answer"] != start["answer"]

    cell.get_by_role("button", name="What the network chose").click()
    back = answered(lab, cell)
    chosen = cell.locator(".fl-networks .fl-numbers").get_attribute("aria-label")
    assert back["theta"].split(":")[1] == chosen.split(":")[1]

    cell = lab.show("OcclusionWidget(")
    cell.locator(".fl-status[data-state=done]").wait_for()
    told = cell.locator(".fl-status").inner_text()
    cell.get_by_role("slider", name="Window").press("End")
    expect(cell.locator(".fl-status")).not_to_have_text(told, timeout=60_000)
    cell.locator(".fl-status[data-state=done]").wait_for()
    expect(cell.locator(".fl-status")).to_contain_text("Python covered the face")
    lab.page.screenshot(path=artifacts / "stn-lab-occlusion.png")
    assert lab.page.script_errors == []
