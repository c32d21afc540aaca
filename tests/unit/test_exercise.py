"""Exercises: each proven three ways, its cells current in the notebook, its check on the learner's own objects."""

import ast
import html
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from nbclient import NotebookClient
from traitlets.config import Config

from fer_lab.exercise import (
    SOURCE,
    Exercise,
    ExerciseError,
    Slip,
    Wrong,
    difference,
    exercises,
    exercises_in,
    lessons,
    main,
    mirroring,
    place,
    tell,
)
from fer_lab.runner import notebook_page

NBS = Path(__file__).parent.parent.parent / "nbs"
NOTEBOOKS = sorted(path for path in NBS.rglob("*.ipynb") if not any(part[0] in "._" for part in path.parts))
MODULES = {module.__name__.removeprefix("fer_lab."): module for module in lessons()}
EVERY = exercises()

every_exercise = pytest.mark.parametrize("exercise", EVERY.values(), ids=EVERY)


# ---- every exercise of every lesson

@every_exercise
def test_proven_three_ways(exercise):
    said = exercise.proofs()
    assert said.pop("stub").kind == "not attempted"
    assert said.pop("solution").kind == "right", said
    for (what, note), mistake in zip(said.items(), exercise.wrong, strict=True):
        assert (note.kind, note.lines) == ("wrong", (mistake.hint,)), f"{what} is not caught with its own hint"
    hints = [mistake.hint for mistake in exercise.wrong]
    assert len(hints) >= 2 and len(set(hints)) == len(hints)
    assert exercise.hints and len(set(exercise.hints)) == len(exercise.hints)


@every_exercise
def test_a_check_is_repeatable_and_leaves_the_lessons_chance_alone(exercise):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    learner = exercise.run(exercise.solved)[1]
    assert exercise.check(learner) == exercise.check(learner)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]


@pytest.mark.parametrize("name", EVERY)
def test_an_exercise_is_called_as_its_variable(name):
    assert EVERY[name].name == name.rsplit(".")[-1]
    assert EVERY[name].solved not in repr(EVERY[name])


def module_of(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    found = re.search(r"^#\| default_exp (\S+)$", text, re.MULTILINE)
    return found and found[1]


def names_bound_in(cells):
    "Global names that cells assign, with their repetitions."
    found = []
    for part in [part for cell in cells for part in ast.parse(cell.source).body]:
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            found.append(part.name)
        else:
            found += [n.id for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[str(path.relative_to(NBS)) for path in NOTEBOOKS])
def test_the_learners_cells_are_those_of_the_source(path):
    "Task, stub and check stand behind the source, which is collapsed; `python -m fer_lab.exercise` writes them."
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    sources = [cell for cell in code if SOURCE.search(cell.source)]
    if not sources:
        return
    mine = exercises_in(MODULES[module_of(notebook)])
    assert sorted(mine) == sorted(SOURCE.search(cell.source)[1] for cell in sources)
    for exercise in mine.values():
        at = [cell.source for cell in notebook.cells].index(exercise.stub)
        assert exercise.task in notebook.cells[at - 1].source
        later = names_bound_in(cell for cell in notebook.cells[at + 1:] if cell.cell_type == "code")
        assert not {exercise.name, exercise.asked_for} & set(later), "the lesson would overwrite the answer"
        assert notebook.cells[at + 1].source == f"{exercise.name}.check()"
    for cell in sources:
        assert cell.metadata["jupyter"]["source_hidden"] and cell.source.startswith("#| export\n")
    before = [cell.source for cell in notebook.cells]
    place(notebook, mine)
    assert [cell.source for cell in notebook.cells] == before, f"run python -m fer_lab.exercise {path.name}"


def test_no_stored_output_gives_a_solution_away():
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        stored = json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
        mine = exercises_in(MODULES[module_of(notebook)]) if module_of(notebook) in MODULES else {}
        assert not [name for name, exercise in mine.items() if json.dumps(exercise.solved)[1:-1] in stored]


def test_the_page_of_a_run_leaves_the_sources_out(tmp_path):
    path = tmp_path / "15_exercise.ipynb"
    path.write_bytes((NBS / "library" / "15_exercise.ipynb").read_bytes())
    page = html.unescape(re.sub(r"<[^>]+>", "", notebook_page(path).read_text(encoding="utf-8")))
    assert mirroring.stub in page and "mirroring.check()" in page
    assert "moved[:, 0] = width - 1" not in page


# ---- the machinery

def halving(**changes):
    parts = dict(
        name="halves", title="Halve it", task="Halve.", stub="def half(x):\n    raise NotImplementedError",
        solved="def half(x):\n    return x / 2",
        checks={"half(3)": lambda half: half(3), "half(-4)": lambda half: half(-4)},
        wrong=[Slip("/", "//", "round?"), Wrong("def half(x):\n    return abs(x) / 2", "sign?")],
        hints=["one", "two"], given={})
    return Exercise(**{**parts, **changes})


def said_to(program, exercise=None):
    exercise = exercise or halving()
    return exercise.check(exercise.run(program)[1])


@pytest.mark.parametrize("body", ["raise NotImplementedError", "...", "pass", "return None"])
def test_any_usual_stub_is_not_attempted(body):
    stub = f"def half(x):\n    'Half of x.'\n    {body}"
    exercise = halving(stub=stub)
    assert said_to(stub, exercise).kind == "not attempted"
    assert exercise.proven()


@pytest.mark.parametrize(("stub", "tried"), [("half = None", "half = 3"), ("half = ...", "half = 3"),
                                             ("half = {'a': None}", "half = {'a': 1}")])
def test_a_variable_is_not_attempted_while_it_is_that_of_the_stub(stub, tried):
    exercise = halving(stub=stub, solved="half = 2", wrong=[], checks={"half": lambda half: half})
    assert said_to(stub, exercise).kind == "not attempted"
    assert said_to(tried, exercise).kind == "wrong"
    assert said_to("half = 2.0", exercise).kind == "right"


def test_a_missing_name_is_not_attempted():
    note = halving().check({})
    assert note.kind == "not attempted" and "no `half` yet" in note.lines[0]


def test_a_forgotten_return_is_an_attempt():
    note = said_to("def half(x):\n    y = x / 2")
    assert note.kind == "wrong" and "Is a `return` missing?" in note.lines[0]


def test_a_started_function_that_still_raises_is_not_attempted():
    assert said_to("def half(x):\n    y = x\n    raise NotImplementedError").kind == "not attempted"


def test_not_implemented_from_a_library_is_an_attempt():
    exercise = halving(
        stub="class Net(nn.Module):\n    def forward(self, x):\n        raise NotImplementedError", wrong=[],
        solved="class Net(nn.Module):\n    def forward(self, x):\n        return x", given={"nn": torch.nn},
        checks={"Net()(x)": lambda Net: Net()(torch.ones(2))})
    assert exercise.proven()
    note = said_to("class Net(nn.Module):\n    def foward(self, x):\n        return x", exercise)
    assert note.kind == "wrong" and "forward" in note.lines[0]


def test_a_mistake_is_recognised_in_other_words():
    assert said_to("def half(n):\n    import math\n    return math.floor(n * 0.5)").lines == ("round?",)
    assert said_to("half = lambda x: max(x, -x) * 0.5").lines == ("sign?",)


def test_what_nobody_foresaw_is_told_with_expected_and_got():
    note = said_to("def half(x):\n    return x / 2 if x > 0 else 7")
    assert note.kind == "wrong"
    assert note.lines == ("Tried `half(-4)`: expected `-2`, got `7`.", "1 of 2 checks pass. Stuck? `halves.hint()`")


def test_a_crash_is_told_with_its_line():
    note = said_to("def half(x):\n    y = 2\n    return x / z")
    assert "NameError: name 'z' is not defined" in note.lines[0]


@pytest.mark.parametrize(("program", "words"), [
    ("half = 3", "should be a function; it is a number"),
    ("def half():\n    return 1", "TypeError"),
    ("def half(x):\n    return [x / 2]", "expected a number, got a list"),
])
def test_the_wrong_sort_of_thing_is_said(program, words):
    note = said_to(program)
    assert note.kind == "wrong" and words in note.lines[0]


def test_the_expected_value_is_kept_back_where_it_is_the_answer():
    exercise = halving(stub="half = None", solved="half = 76777", wrong=[], checks={"half": lambda half: half})
    assert "76777" not in repr(said_to("half = 12", exercise))
    parts = halving(stub="half = {'a': None, 'b': None}", solved="half = {'a': 4321, 'b': 1234}", wrong=[],
                    checks={"a": lambda half: half["a"], "b": lambda half: half["b"]})
    assert "4321" not in repr(said_to("half = {'a': 1000, 'b': 1234}", parts))
    assert "1234" not in repr(said_to("half = {'a': 4321, 'b': None}", parts))


def test_warnings_of_a_known_mistake_are_kept_from_the_learner(recwarn):
    mistake = Wrong("def half(x):\n    import warnings\n    warnings.warn('not yours')\n    return 9", "nine?")
    assert said_to("half = lambda x: 8", halving(wrong=[mistake])).kind == "wrong"
    assert not recwarn.list


def test_interrupts_go_through():
    with pytest.raises(KeyboardInterrupt):
        said_to("def half(x):\n    raise KeyboardInterrupt")


def test_hints_come_one_after_another_and_stay():
    exercise = halving()
    first, second, third = exercise.hint(), exercise.hint(), exercise.hint()
    assert "one" in first.lines[0] and "two" not in repr(first)
    assert second.lines[:2] == third.lines[:2] == ("1. one", "2. two") and "solution()" in third.lines[-1]


def test_the_solution_can_be_run_as_shown():
    note = halving().solution()
    names = {}
    exec(note.code, names)
    assert note.kind == "solution" and names["half"](3) == 1.5


@pytest.mark.parametrize("stub", ["x = 1\ny = 2", "print('nothing')", "def f(): ...\ndef g(): ..."])
def test_a_stub_defines_one_name(stub):
    with pytest.raises(ExerciseError, match="defines one function, class or variable"):
        halving(stub=stub)


@pytest.mark.parametrize("changes", [
    dict(wrong=[Slip("x / 3", "x", "…")]),  # no such piece
    dict(wrong=[Wrong("def other(x):\n    return x", "…")]),  # another name
    dict(solved="def half(x):\n    return x / zero"),  # the solution crashes
])
def test_an_authors_errors_are_errors(changes):
    with pytest.raises(ExerciseError):
        halving(**changes).proofs()


@pytest.mark.parametrize("changes", [
    dict(stub="def half(x):\n    return x / 2", wrong=[]),  # the stub is the solution
    dict(wrong=[Slip("/", "//", "round?"), Slip("x / 2", "x // 2", "the same mistake again")]),
    dict(wrong=[Slip("x / 2", "0.5 * x", "not a mistake at all")]),
    dict(wrong=[Slip("/", "//", "one hint"), Slip("/ 2", "/ -2", "one hint")]),
])
def test_the_proofs_notice_a_bad_exercise(changes):
    assert not halving(**changes).proven()


numbers = st.one_of(st.integers(-10**6, 10**6), st.floats(-1e6, 1e6), st.booleans())
values = st.recursive(st.one_of(numbers, st.text(max_size=5), st.none()), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)), max_leaves=6)


@given(values, values)
def test_difference_is_empty_for_equals_and_symmetric(a, b):
    assert difference(a, a) == ""
    assert bool(difference(a, b)) == bool(difference(b, a))


@pytest.mark.parametrize(("expected", "got", "same"), [
    (1, torch.tensor(1.0), True),
    (np.float32(0.1), 0.1, True),
    (True, np.bool_(True), True),
    (True, 1, False),
    (torch.zeros(2), np.zeros(2), False),
    (torch.zeros(2), torch.zeros(3), False),
    (np.zeros(3, np.uint8), np.zeros(3), False),
    (np.zeros(3), np.zeros(3, np.float32), True),
    (torch.tensor([float("nan")]), torch.tensor([float("nan")]), True),
    ([1, 2], (1, 2), True),
    ([1, 2], [1, 3], False),
    ({"a": torch.ones(2)}, {"a": torch.ones(2)}, True),
    ({"a": 1}, {"b": 1}, False),
])
def test_what_counts_as_equal(expected, got, same):
    assert (difference(expected, got) == "") == same


def test_notes_are_escaped_and_say_their_kind_in_words():
    page = said_to("def half(x):\n    raise ValueError('<script>&')")._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;&amp;" in page
    assert "Wrong, and here is why" in page and 'role="note"' in page


def test_it_says_what_was_tried():
    assert tell("the leftmost pixel", None, 1, 2).startswith("The leftmost pixel: expected `2`")


def test_placing_keeps_what_is_there(tmp_path):
    make = nbformat.v4
    notebook = make.new_notebook(cells=[make.new_code_cell("halves = Exercise("), make.new_markdown_cell("after")])
    place(notebook, {"halves": halving()})
    kinds = [cell.source.split("\n")[0] for cell in notebook.cells]
    assert kinds == ["halves = Exercise(", "### Exercise: Halve it", "def half(x):", "halves.check()", "after"]
    notebook.cells[3].outputs = [make.new_output("stream", text="kept")]
    ids = [cell.id for cell in notebook.cells]
    place(notebook, {"halves": halving(task="Cut it in two.")})
    assert [cell.id for cell in notebook.cells] == ids and notebook.cells[3].outputs
    assert "Cut it in two." in notebook.cells[1].source


def test_the_command_refreshes_a_notebook(tmp_path):
    path = tmp_path / "15.ipynb"
    text = (NBS / "library" / "15_exercise.ipynb").read_text(encoding="utf-8")
    assert "Mirror the landmarks" in text
    older = text.replace("### Exercise: Mirror the landmarks", "### Exercise: an older title")
    path.write_text(older, encoding="utf-8")
    assert main([str(path)]) == 0
    assert [c.source for c in nbformat.read(path, 4).cells] == [
        c.source for c in nbformat.read(NBS / "library" / "15_exercise.ipynb", 4).cells]


# ---- in the learner's own notebook

@pytest.fixture
def shell():
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    InteractiveShell.clear_instance()


def test_the_check_looks_at_what_the_shell_holds(shell):
    shell.user_ns["halves"] = exercise = halving()
    assert "no `half` yet" in exercise.check().lines[0]
    programs = {exercise.stub: "not attempted", "half = lambda x: x // 2": "wrong", exercise.solved: "right"}
    for program, kind in programs.items():
        shell.run_cell(program)
        assert shell.run_cell("halves.check()").result.kind == kind
    shell.run_cell("def half(x):\n    y = 2\n    return x / z  # z?")
    said = shell.run_cell("halves.check()").result
    assert "stopped in line 3 of your cell (`return x / z  # z?`)" in said.lines[0]
    assert shell.run_cell("half(8)").error_in_exec is not None  # the learner's function is still the learner's


def test_from_stub_to_solution_in_a_real_kernel(tmp_path):
    "A kernel of its own, the exercise of the library, and what a learner does."
    slip = 'def mirrored(points, width):\n    return np.stack([width - points[:, 0], points[:, 1]], 1)'
    crash = "def mirrored(points, width):\n    width = widht\n    return points"
    programs = [mirroring.stub, slip, crash, mirroring.solved]
    start = "import numpy as np\nfrom fer_lab.exercise import mirroring"
    cells = [start, *(cell for program in programs for cell in (program, "mirroring.check()"))]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    NotebookClient(notebook, timeout=240, kernel_name="python3").execute(cwd=str(tmp_path))
    said = [cell.outputs[0].data for cell in notebook.cells[2::2]]
    heads = ["○ Not attempted", "✗ Wrong", "✗ Wrong", "✓ Right"]
    assert all(note["text/plain"].startswith(head) for note, head in zip(said, heads, strict=True))
    assert mirroring.wrong[0].hint in said[1]["text/html"]
    assert "line 2 of your cell (<code>width = widht</code>)" in said[2]["text/html"]
