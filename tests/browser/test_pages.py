"""What readers see: a stored figure drawn by JupyterLab, and the same figure drawn on a page without a kernel."""

import json
import shutil

import plotly.graph_objects as go
import pytest

from fer_lab import pages

pytestmark = pytest.mark.xdist_group("browser")


def test_jupyterlab_draws_a_figure_that_was_stored_as_data(lab, artifacts):
    lab.open("nbs/library/23_pages.ipynb")
    assert lab.run_all()["errors"] == []
    cell = lab.show("A stored figure is 700 times smaller")
    cell.locator(".js-plotly-plot .main-svg").first.wait_for()
    lab.page.screenshot(path=artifacts / "pages-notebook.png")


def test_a_page_draws_it_without_a_kernel_even_beside_require_js(page, tmp_path, artifacts):
    figure = json.loads(go.Figure(go.Bar(x=["sad", "happy"], y=[1, 2])).update_layout(title="Two bars").to_json())
    shutil.copy(pages.plotly_file(), tmp_path)
    require = "<script>window.define = () => { throw new Error('taken for a module'); }; define.amd = {};</script>"
    body = pages.loader(pages.SCRIPT) + pages.figure_html(figure, "figure-1")
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset='utf-8'>{require}{body}", encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    page.locator("#figure-1 .main-svg .bars .point").nth(1).wait_for(state="attached")
    assert page.get_by_role("img", name="Two bars").bounding_box()["width"] > 800
    assert page.script_errors == []
    page.screenshot(path=artifacts / "page-figure.png")
