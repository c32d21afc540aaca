"""From stored notebooks to pages: figures become HTML that draws itself, once-a-page script, links that stay inside."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_lab import pages

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("nbs/*.ipynb"), *ROOT.glob("nbs/[!.]*/*.ipynb")])
FIGURE = json.loads(go.Figure(go.Bar(x=["a"], y=[1])).update_layout(title="Joy < surprise", height=300).to_json())

# What `nbdev-proc-nbs` and `nbdev-docs` do before Quarto's turn (they themselves would try to install Quarto).
PROCESS = """
from nbdev.quarto import nbdev_sidebar, refresh_quarto_yml
from nbdev.serve import proc_nbs
if __name__ == "__main__":
    refresh_quarto_yml(); nbdev_sidebar.__wrapped__(); proc_nbs(n_workers=1)
"""


@pytest.fixture
def site(tmp_path):
    """An nbs/ folder that is prepared, with a page two folders down."""
    (tmp_path / "nbs" / "papers").mkdir(parents=True)
    shutil.copy(ROOT / "_quarto.yml", tmp_path)
    pages.prepare(tmp_path)
    return tmp_path / "nbs"


@given(st.dictionaries(st.text(), st.lists(st.text() | st.integers(), max_size=3), max_size=3))
def test_json_in_a_script_means_the_same_and_cannot_end_it(value):
    text = pages.script_safe(value)
    assert json.loads(text) == value
    assert "<" not in text


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!-- <script>", "a\u2028b"])
def test_hostile_titles_stay_text(text):
    page = pages.figure_html({"data": [], "layout": {"title": {"text": text}}}, "f")
    assert page.count("<script") == 1 and page.count("</script>") == 1
    assert "\u2028" not in page.split("<script>")[1]


def test_a_figure_without_layout_title_or_height_is_drawn():
    page = pages.figure_html({"data": []}, "f")
    assert "height:450px" in page and 'aria-label="figure"' in page


def test_only_the_first_figure_of_a_page_loads_plotly(site):
    processor = pages.PlotlyFigures(SimpleNamespace(path_=site / "papers" / "p.ipynb"))
    found = [{"outputs": [{"data": {pages.PLOTLY: FIGURE, "text/plain": "Figure()"}}] * 1} for _ in range(3)]
    for cell in found:
        processor(cell)
    html = [cell["outputs"][0]["data"]["text/html"] for cell in found]
    assert [page.count('src="../plotly.min.js"') for page in html] == [1, 0, 0]
    assert len({page.split('id="')[1].split('"')[0] for page in html}) == 3
    assert all(set(cell["outputs"][0]["data"]) == {"text/html"} for cell in found)


def test_a_widget_with_a_frozen_twin_shows_the_twin_and_other_outputs_stay(site):
    processor = pages.PlotlyFigures(SimpleNamespace(path_=site / "p.ipynb"))
    cell = {"outputs": [
        {"data": {pages.WIDGET: {"model_id": "1"}, "text/html": "<iframe></iframe>"}},
        {"data": {pages.WIDGET: {"model_id": "2"}}},
        {"output_type": "stream", "name": "stdout", "text": "hello"},
    ]}
    processor(cell)
    assert list(cell["outputs"][0]["data"]) == ["text/html"]
    assert list(cell["outputs"][1]["data"]) == [pages.WIDGET]
    assert cell["outputs"][2]["text"] == "hello"


@pytest.mark.parametrize(("twin", "kept"), [({"text/html": "<iframe></iframe>"}, False), ({}, True)])
def test_widget_state_is_kept_only_for_widgets_that_need_it(site, twin, kept):
    cells = [{"outputs": [{"data": {pages.WIDGET: {"model_id": "1"}} | twin}]}]
    notebook = SimpleNamespace(path_=site / "p.ipynb", cells=cells, metadata={"widgets": {"state": {}}})
    processor = pages.PlotlyFigures(notebook)
    processor(cells[0])
    processor.end()
    assert ("widgets" in notebook.metadata) == kept


def test_a_site_that_was_not_prepared_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="make docs"):
        pages.plotly_address(tmp_path / "p.ipynb")


@pytest.mark.parametrize(("given_", "kept"), [
    ("[x](../library/00_settings.ipynb)", "[x](../library/00_settings.ipynb)"),
    ("[x](../../CONTRIBUTING.md) and [y](#here)", "x and [y](#here)"),
    ("[x](https://example.org/a) ![p](../images/p.svg)", "[x](https://example.org/a) ![p](../images/p.svg)"),
])
def test_links_that_leave_the_site_become_text(site, given_, kept):
    cell = {"cell_type": "markdown", "source": given_}
    pages.InsideLinks(SimpleNamespace(path_=site / "papers" / "p.ipynb"))(cell)
    assert cell["source"] == kept


def test_preparing_twice_leaves_the_files_alone(site):
    before = {path: path.stat().st_mtime_ns for path in site.iterdir() if path.is_file()}
    pages.prepare(site.parent)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path.name for path in before} == {"_quarto.yml", "sidebar.yml", "plotly.min.js"}


def test_readme_leaves_hidden_cells_out_and_moves_links(tmp_path):
    (tmp_path / "nbs").mkdir()
    home = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell("#| default_exp x"),
        nbformat.v4.new_markdown_cell('# T\n\n![p](images/p.svg) <img src="images/q.svg"> [u](https://e.org)'),
        nbformat.v4.new_markdown_cell("[c](../CONTRIBUTING.md#traps) [a](#b)"),
        nbformat.v4.new_code_cell("#| hide\nsecret = 1"),
        nbformat.v4.new_code_cell("shown = 1"),
    ])
    nbformat.write(home, tmp_path / "nbs" / "index.ipynb")
    text = pages.readme(tmp_path)
    assert "secret" not in text and "default_exp" not in text and "shown = 1" in text
    for part in ("(nbs/images/p.svg)", 'src="nbs/images/q.svg"', "(https://e.org)", "(CONTRIBUTING.md#traps)", "(#b)"):
        assert part in text
    pages.write_readme(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == text


def test_nbdev_makes_page_sources_without_quarto(tmp_path):
    for name in ("pyproject.toml", "_quarto.yml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "fer_lab", tmp_path / "fer_lab", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "nbs" / "papers").mkdir(parents=True)
    figure = nbformat.v4.new_output("display_data", data={pages.PLOTLY: FIGURE})
    page = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# A page\n\n> with a figure"),
        nbformat.v4.new_markdown_cell("See [the terms](../../data/README.md)."),
        nbformat.v4.new_code_cell("draw()", outputs=[figure]),
        nbformat.v4.new_code_cell("draw()", outputs=[figure]),
    ])
    nbformat.write(page, tmp_path / "nbs" / "papers" / "01_page.ipynb")
    pages.prepare(tmp_path)
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, capture_output=True)

    made = nbformat.read(tmp_path / "_proc" / "papers" / "01_page.ipynb", as_version=4)
    text = json.dumps(made)
    assert pages.PLOTLY not in text and text.count("Plotly.newPlot") == 2 and text.count("../plotly.min.js") == 1
    assert "See the terms." in text and "title: A page" in text and "output-file: page.html" in text
    assert (tmp_path / "_proc" / "plotly.min.js").exists() and (tmp_path / "_proc" / "_quarto.yml").exists()
    sidebar = json.loads((tmp_path / "_proc" / "sidebar.yml").read_text())
    assert sidebar["website"]["sidebar"]["contents"][1]["contents"] == ["papers/01_page.ipynb"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A copy of the notebooks that is ready for the site."""
    top = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "nbs", top / "nbs", ignore=shutil.ignore_patterns(".*", "_*"))
    shutil.copy(ROOT / "_quarto.yml", top)
    pages.prepare(top)
    return top


# nbdev runs import cells and exported cells to document what they define. A process of its own: they define methods of
# the package's classes anew, and whatever is tested later in this process would meet those.
DOCUMENT = """
import json, sys, traceback
from fastcore.nbio import nb2dict, read_nb
from nbdev.processors import FilterDefaults
for line in sys.stdin:
    notebook = read_nb(line.strip())
    try:
        FilterDefaults()(notebook)
        told = {"cells": nb2dict(notebook)["cells"]}
    except BaseException:
        told = {"error": traceback.format_exc()}
    print("PAGE", json.dumps(told), flush=True)
"""


@pytest.fixture(scope="module")
def page_sources(prepared):
    """What nbdev makes of each notebook: its cells, or the error."""
    names = "\n".join(str(prepared / path) for path in NOTEBOOKS)
    environment = os.environ | {"IN_TEST": "1"}  # as nbdev sets it: no module index is written
    done = subprocess.run([sys.executable, "-c", DOCUMENT], input=names, env=environment, cwd=ROOT, text=True,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("PAGE ")]
    return dict(zip(NOTEBOOKS, told, strict=True))


@pytest.mark.xdist_group("pages")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.name for path in NOTEBOOKS])
def test_every_notebook_becomes_a_page_source(path, page_sources):
    """A NameError here: a cell that imports does something else, too. Give the imports a cell of their own."""
    page = page_sources[path]
    assert "error" not in page, page["error"]
    first = page["cells"][0]
    assert "title:" in "".join(first["source"]) and first["cell_type"] == "raw"
    shown = [output for cell in page["cells"] for output in cell.get("outputs", []) if "data" in output]
    assert not any(pages.PLOTLY in output["data"] for output in shown)
