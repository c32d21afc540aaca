"""Real kernels on tiny notebooks: what goes wrong is named, what goes right is kept, and nothing stops the rest."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

import fer_lab
from fer_lab import runner
from fer_lab.pages import PLOTLY, WIDGET
from fer_lab.runner import (
    LabRun,
    drop_bars,
    keep_outputs,
    main,
    nameless,
    new_folder,
    only_links_that_lead_somewhere,
    places,
    plan,
    prune_widgets,
    refresh_outputs,
    run_lab,
    shown_progress,
)
from fer_lab.scoreboard import Outcome, read_state
from fer_lab.settings import load_settings
from fer_lab.workspace import Home, NotebookError

pytestmark = pytest.mark.xdist_group("runner")  # its slow fixture is made once

FIGURE = """#| exports
import os, plotly.graph_objects as go
go.Figure(go.Bar(y=[1, 2]), {"title": "A finding"}).show()"""
LOOK = """import json, os, sys
from pathlib import Path
runs = Path(os.environ["FER_LAB_RUNS_DIR"])
runs.mkdir(parents=True)
seen = dict(cwd=os.getcwd(), python=sys.executable, parameters=[dataset, budget, seed])
seen["variable"] = os.environ["FER_LAB_BUDGET"]
(runs / "seen.txt").write_text(json.dumps(seen))"""
NOTEBOOKS = {
    "papers/01_works": ["dataset = None\nbudget = None\nseed = None", LOOK, FIGURE],
    "papers/02_fails": ["x = 1", "x / 0", "print('never')"],
    "labs/dies": ["1", "os = __import__('os'); os.write(2, b'out of luck'); os.kill(os.getpid(), 9)", "3"],
    "labs/works_too": ["2 + 2"],
}


def write(home: Path, notebooks: dict[str, list[str]]) -> Home:
    for name, codes in notebooks.items():
        cells = [nbformat.v4.new_markdown_cell(f"# About {name}\n\nSee [here](02_fails.ipynb), [there](../x/y.ipynb).")]
        cells += [nbformat.v4.new_code_cell(code) for code in codes]
        if "dataset = None" in codes[0]:
            cells[1].metadata["tags"] = ["parameters"]
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), home / f"{name}.ipynb")
    return Home(home, "repository")


def settings(**overrides):
    return load_settings(environ={}, budget="smoke", device="cpu", **overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[LabRun, str]:
    """A run of four notebooks, of which one raises and one kills its kernel; and what was said meanwhile."""
    if os.name == "nt":
        pytest.skip("a Windows kernel cannot kill itself this way")
    top, said = tmp_path_factory.mktemp("lab"), io.StringIO()
    home = write(top / "nbs", NOTEBOOKS)
    (top / "nbs" / "papers" / "face.svg").write_text("<svg/>")
    done = run_lab(settings(seed=7), home=home, out=top / "run", console=Console(file=said))
    return done, said.getvalue()


def test_a_failure_is_named_and_does_not_stop_the_rest(run):
    works, fails, dies, works_too = run[0].outcomes
    assert [o.status for o in run[0].outcomes] == ["done", "failed", "failed", "done"]
    assert (fails.done, fails.cells, fails.source) == (1, 3, "x / 0")
    assert fails.error == "ZeroDivisionError: division by zero"
    assert dies.done == 1 and "kernel died" in dies.error and "out of luck" in dies.error and "os.kill" in dies.source
    assert works.title == "About papers/01_works" and works.done == works.cells == 3
    assert run[0].failed == [fails, dies]


def test_page_and_state_tell_the_same(run):
    folder, page = run[0].folder, run[0].index.read_text()
    assert read_state(folder).outcomes == run[0].outcomes and read_state(folder).finished
    for text in ("2 of 4 notebooks failed", "ZeroDivisionError: division by zero", "No number yet"):
        assert text in page
    for link in re.findall(r'href="([^"#:]+)"', page):
        assert (folder / link).exists(), link


def test_a_kernel_gets_the_settings_of_the_run_and_works_where_its_notebook_lies(run):
    seen = json.loads((run[0].folder / "records" / "01_works" / "seen.txt").read_text())
    assert seen["parameters"] == ["synthetic", "smoke", 7] and seen["variable"] == "smoke"
    assert Path(seen["cwd"]) == run[0].folder.parent / "nbs" / "papers"
    assert Path(seen["python"]) == Path(sys.executable)


def test_executed_notebooks_can_be_read_without_jupyter(run):
    papers = run[0].folder / "notebooks" / "papers"
    assert any(PLOTLY in output.get("data", {}) for cell in nbformat.read(papers / "01_works.ipynb", 4).cells
               for output in cell.get("outputs", []))
    page = (papers / "01_works.html").read_text()
    assert '<script src="../../plotly.min.js">' in page and "Plotly.newPlot" in page and "#| exports" not in page
    assert '<a href="02_fails.html">here</a>' in page and "there" in page and "y.ipynb" not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "ZeroDivisionError" in (papers / "02_fails.html").read_text()
    assert (papers / "face.svg").exists() and (run[0].folder / "plotly.min.js").exists()
    assert "out of luck" in next(run[0].folder.rglob("dies.log")).read_text()


def test_a_log_gets_a_line_where_a_notebook_begins_and_one_where_it_ends(run):
    lines = run[1].splitlines()
    assert [line.split()[0] for line in lines[::2]] == ["running"] * 4
    assert [line.split()[0] for line in lines[1::2]] == ["done", "failed", "failed", "done"]
    assert "papers/02_fails.ipynb, 1 of 3 cells" in lines[3] and "division by zero" in lines[3]


def test_bars_are_drawn_at_a_terminal():
    said = io.StringIO()
    with shown_progress(Console(file=said, force_terminal=True, width=90)) as tell:
        for status, done in (("running", 0), ("running", 1), ("done", 2)):
            tell(Outcome("papers/x.ipynb", "X", status, 2, done))
    assert "papers/x.ipynb" in said.getvalue() and "2/2" in said.getvalue()


@pytest.mark.skipif(os.name == "nt", reason="signals work otherwise there")
def test_a_run_that_is_stopped_leaves_a_page_that_says_so(tmp_path):
    slow = ["open('started', 'w').close()", "import time; time.sleep(300)"]
    write(tmp_path / "nbs", {"papers/a": slow, "papers/b": ["1"]})
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job ignores it
            "from pathlib import Path; from fer_lab.runner import *; from fer_lab.workspace import Home\n"
            "from fer_lab.settings import load_settings\n"
            "run_lab(load_settings(budget='smoke'), home=Home(Path('nbs').resolve(), 'repository'), out=Path('run'))")
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (tmp_path / "nbs" / "papers" / "started").exists() and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=240)[1] and process.returncode != 0
    assert [(o.status, o.done) for o in read_state(tmp_path / "run").outcomes] == [("stopped", 1), ("stopped", 0)]
    assert "stopped after 0 of 2 notebooks" in (tmp_path / "run" / "index.html").read_text()


def test_a_broken_notebook_fails_alone(tmp_path):
    home = write(tmp_path / "nbs", {"papers/b": ["1"]})
    (tmp_path / "nbs" / "papers" / "a.ipynb").write_text("{not json")
    done = run_lab(settings(), home=home, out=tmp_path / "run", console=Console(file=io.StringIO()))
    assert [o.status for o in done.outcomes] == ["failed", "done"] and "JSON" in done.outcomes[0].error


def test_nothing_to_execute_is_an_error(tmp_path):
    home = write(tmp_path / "nbs", {"papers/a": ["1"], "labs/b": ["1"]})
    assert [outcome.notebook for outcome in plan(home, "b")] == ["labs/b.ipynb"]
    with pytest.raises(NotebookError, match="no such notebook"):
        plan(home, "c")
    with pytest.raises(NotebookError, match="no notebooks"):
        plan(Home(tmp_path, "lab folder"), None)


def test_a_run_never_writes_into_a_folder_that_is_in_use(tmp_path):
    made = [new_folder(settings(runs_dir=tmp_path), None) for _ in range(2)]
    assert made[0] != made[1] and re.fullmatch(r"\d{8}-\d{6}(-2)?", made[1].name)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(NotebookError, match="not an empty folder"):
        new_folder(settings(), tmp_path / "mine")


def test_links_lead_somewhere_or_are_only_text(tmp_path):
    others = {tmp_path / "a.ipynb"}
    page = '<a href="a.ipynb#part">A</a> <a href="b.ipynb">B</a> <a href="https://x.org/c.ipynb">C</a>'
    left = '<a href="a.html#part">A</a> B <a href="https://x.org/c.ipynb">C</a>'
    assert only_links_that_lead_somewhere(page, tmp_path / "x" / "..", others) == left


def widget(model: str, text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("display_data", {WIDGET: {"model_id": model}, "text/plain": text})


def test_progress_bars_and_widgets_nobody_sees_are_not_kept():
    bar, slider = widget("bar", "  0%|          | 0/5 [00:00<?, ?batch/s]"), widget("box", "VBox(...)")
    assert drop_bars([bar, slider]) == [slider]
    states = {"bar": {}, "box": {"state": {"children": ["IPY_MODEL_child"]}}, "layout": {}, "orphan": {},
              "child": {"state": {"layout": "IPY_MODEL_layout"}}}
    kind = "application/vnd.jupyter.widget-state+json"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=[slider])],
                                        metadata={"widgets": {kind: {"state": states}}})
    prune_widgets(notebook)
    assert set(notebook.metadata.widgets[kind]["state"]) == {"box", "child", "layout"}
    notebook.cells[0].outputs = []
    prune_widgets(notebook)
    assert "widgets" not in notebook.metadata


def test_kept_outputs_belong_to_the_cells_as_they_were_written():
    cells = [nbformat.v4.new_markdown_cell("# T"), nbformat.v4.new_code_cell("budget = None"),
             nbformat.v4.new_code_cell("budget", execution_count=9)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    injected = nbformat.v4.new_code_cell("budget = 'smoke'", metadata={"tags": ["injected-parameters"]})
    figure = nbformat.v4.new_output("display_data", {PLOTLY: {"data": []}, "text/html": "<div>4.8 MB</div>"})
    ran = nbformat.v4.new_notebook(cells=[*cells[:2], injected, nbformat.v4.new_code_cell("budget", outputs=[figure])])
    keep_outputs(notebook, ran)
    assert len(notebook.cells) == 3 and notebook.cells[2].execution_count is None
    assert notebook.cells[2].outputs[0]["data"] == {PLOTLY: {"data": []}}


def test_outputs_are_refreshed_all_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_nbdev_clean", lambda path: None)
    before = os.environ.get("FER_LAB_STATE_DIR")
    code = f"import os; (os.environ['FER_LAB_BUDGET'], os.environ['FER_LAB_STATE_DIR'] == {str(before)!r})"
    home = write(tmp_path, {"papers/good": [code], "papers/bad": ["1", "1 / 0"]}).folder / "papers"
    assert refresh_outputs(home / "good.ipynb", "smoke").status == "done"
    kept = nbformat.read(home / "good.ipynb", 4).cells[1]
    assert kept.outputs[0]["data"]["text/plain"] == "('smoke', False)" and kept.execution_count is None
    untouched = (home / "bad.ipynb").read_bytes()
    assert refresh_outputs(home / "bad.ipynb", "smoke").status == "failed"
    assert (home / "bad.ipynb").read_bytes() == untouched and os.environ.get("FER_LAB_STATE_DIR") == before


@pytest.mark.parametrize("statuses, code", [(["done", "done"], 0), (["done", "failed"], 1)])
def test_the_maintainers_command_fails_if_a_notebook_does(monkeypatch, statuses, code):
    given = []

    def refresh(notebook, budget):
        given.append((notebook, budget))
        return Outcome(str(notebook), "", statuses[len(given) - 1])

    monkeypatch.setattr(runner, "refresh_outputs", refresh)
    assert main(["--refresh", "a.ipynb", "b.ipynb", "--budget", "smoke"]) == code
    assert given == [(Path("a.ipynb"), "smoke"), (Path("b.ipynb"), "smoke")]


def test_formulas_are_drawn_by_the_browser_and_code_is_left_alone():
    page = runner.with_mathml(r'<p title="$a$">$$x &lt; \frac{1}{2}$$ and $\theta$; $5, $6</p><pre>$HOME $y$</pre>')
    assert page.count("<math") == 2 and "<mfrac>" in page and "&#x0003C;" in page
    assert '<p title="$a$">' in page and "$5, $6" in page and "<pre>$HOME $y$</pre>" in page


def test_stored_outputs_do_not_tell_where_this_machine_keeps_things(tmp_path):
    with tempfile.TemporaryDirectory() as lies:
        source = f"import fer_lab, sys\nprint({lies!r} + '/runs/a', fer_lab.__file__, file=sys.stderr)\n{lies!r}"
        path = tmp_path / "told.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Told"),
                                                       nbformat.v4.new_code_cell(source)]), path)
        assert refresh_outputs(path, "smoke").status == "done"
    text = str(nbformat.read(path, as_version=4).cells[1].outputs)
    assert lies not in text and str(Path(fer_lab.__file__).parents[1]) not in text
    assert "…/runs/a fer_lab/__init__.py" in text


def test_an_address_keeps_its_path_even_where_a_folder_has_the_same_name():
    folder = Path(fer_lab.__file__).parents[1]
    told = nameless([f"https://host{folder}/page", f"see {folder}/fer_lab/a.py"], places())
    assert told == [f"https://host{folder}/page", "see fer_lab/a.py"]
