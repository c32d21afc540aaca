"""The page of a run as a reader meets it: on a desk, in the dark, on a phone, without a network."""

import json

import nbformat
import numpy as np
import plotly.graph_objects as go
import pytest

from fer_lab.pages import PLOTLY
from fer_lab.report import Report
from fer_lab.runner import notebook_page
from fer_lab.scoreboard import Outcome, Records, RunState, write_page, write_state

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture
def run(tmp_path):
    """The folder of a run with three reports, a training and a failed notebook."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 7, 300)
    for name, right in (("stn", 0.5), ("plain stack", 0.6), ("resnet18", 0.4)):
        guess = np.where(rng.random(300) < right, truth, (truth + 1) % 7)
        context = {
            "faces": "synthetic",
            "protocol": "holdout by subject, seed 0",
            "split": "0123456789abcdef",
            "seed": 0,
            "selection": "best val WAR of 20 epochs",
            "tta": "flip",
            "test_openings": 1,
        }
        Report(f"{name}, test", truth, np.eye(7)[guess], tuple("abcdefg"), context).save(tmp_path / "records" / name)
    epochs = [
        {"epoch": i, "loss": 2.0, "val_loss": 2 - i / 10, "val_war": i / 20, "val_uar": 0.2, "seconds": 1.0}
        for i in range(1, 9)
    ]
    (tmp_path / "records" / "stn" / "metrics.jsonl").write_text("\n".join(map(json.dumps, epochs)))
    outcomes = (
        Outcome("papers/06_stn.ipynb", "Deep-Emotion", "done", 80, 80, 95.2),
        Outcome("labs/leakage.ipynb", "Leakage", "failed", 12, 3, 4.5, "LeakError: 3 items", "holdout(faces)"),
    )
    settings = (("dataset", "synthetic", "default"), ("budget", "smoke", "argument"), ("seed", "0", "default"))
    write_state(
        RunState(
            "2026-01-31T12:00:00+00:00",
            outcomes,
            settings,
            (("device in use", "cpu", "no GPU"),),
            {"torch": "2.15.0"},
            finished="2026-01-31T12:02:00+00:00",
        ),
        tmp_path,
    )
    write_page(tmp_path, Records())
    return tmp_path


def overflow(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


@pytest.mark.parametrize(
    "name, width, scheme", [("desk", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light")]
)
def test_the_page_fits_and_fetches_nothing(page, run, artifacts, name, width, scheme):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    page.goto((run / "index.html").as_uri())
    page.locator("#curves-0 .main-svg").first.wait_for()
    assert not overflow(page) and page.script_errors == []
    assert all(url.startswith(("file:", "data:")) for url in asked)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 18, 22)"
    assert dark == (scheme == "dark")
    page.screenshot(path=artifacts / f"run-{name}.png", full_page=True)


def test_on_a_desk_the_scoreboard_shows_all_its_columns_and_sorts(page, run):
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto((run / "index.html").as_uri())
    table = page.locator(".scores")
    assert table.evaluate("node => node.scrollWidth <= node.parentElement.clientWidth")
    first = table.locator("tbody tr td:first-child b").first
    for way, best in (("descending", "plain stack, test"), ("ascending", "resnet18, test")):
        table.get_by_role("button", name="accuracy").click()
        assert first.inner_text() == best
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == way


def test_an_executed_notebook_is_readable_on_a_phone(page, run, artifacts):
    figure = json.loads(go.Figure(go.Bar(y=[1, 2]), {"title": "A finding"}).to_json())
    shown = nbformat.v4.new_output("display_data", {PLOTLY: figure})
    cells = [
        nbformat.v4.new_markdown_cell("# Title\n\n> One line\n\nText."),
        nbformat.v4.new_code_cell("x = 1" * 60, outputs=[shown]),
    ]
    (run / "notebooks" / "papers").mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), run / "notebooks" / "papers" / "a.ipynb")
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(notebook_page(run / "notebooks" / "papers" / "a.ipynb", "../../index.html").as_uri())
    page.locator(".main-svg").first.wait_for()
    assert not overflow(page) and page.script_errors == []
    page.screenshot(path=artifacts / "run-notebook.png")
    page.get_by_role("link", name="all notebooks").click()
    page.locator("#scores").wait_for()
