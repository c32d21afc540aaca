"""Every notebook runs from its first cell to its last, in the time a smoke test has."""

import json
import time
from functools import partial
from pathlib import Path

import nbformat
import papermill
import pytest

from fer_lab.clips import write_ckplus, write_oulu
from fer_lab.micro import write_casme2, write_samm, write_smic

NBS = Path(__file__).parent.parent.parent / "nbs"
NOTEBOOKS = sorted(path for path in NBS.rglob("*.ipynb") if not any(part[0] in "._" for part in path.parts))


def execute(path: Path, out: Path, monkeypatch, dataset: str) -> float:
    """Seconds that `path` took; raises what a cell raised. Runs it makes go beside `out`."""
    monkeypatch.setenv("FER_LAB_BUDGET", "smoke")
    monkeypatch.setenv("FER_LAB_DATASET", dataset)
    monkeypatch.setenv("FER_LAB_RUNS_DIR", str(out.parent / "runs"))
    start = time.perf_counter()
    run = partial(papermill.execute_notebook, path, out, cwd=path.parent, kernel_name="python3", progress_bar=False)
    try:
        run()
    except RuntimeError as error:
        if "Kernel died before replying" not in str(error):
            raise
        run()  # a kernel is told a free port; now and then another process takes it first
    return time.perf_counter() - start


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.relative_to(NBS).as_posix() for path in NOTEBOOKS])
def test_runs_on_synthetic_faces(path, tmp_path, monkeypatch, record_property):
    record_property("seconds", round(execute(path, tmp_path / "out.ipynb", monkeypatch, "synthetic"), 1))
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    ran = [cell.execution_count for cell in done.cells if cell.cell_type == "code" and cell.source.strip()]
    assert ran == list(range(1, len(ran) + 1))


OF_CLIPS = ("03_compact.ipynb", "04_mgln.ipynb")  # to them FER2013 is one sentence: clips are drawn then, too
OF_PICTURES = [path for path in NOTEBOOKS if path.parent.name == "papers" and path.name not in OF_CLIPS]


@pytest.mark.parametrize("path", OF_PICTURES, ids=lambda path: path.name)
def test_runs_on_fer2013(path, tmp_path, monkeypatch, record_property, fer2013, fer2013_folder):
    monkeypatch.setenv("FER_LAB_DATA_DIR", str(fer2013_folder.parent))
    record_property("seconds", round(execute(path, tmp_path / "out.ipynb", monkeypatch, "fer2013"), 1))


@pytest.fixture(scope="module")
def drawn_trees(tmp_path_factory):
    """Sets of moving faces in their own layouts, with people enough for every protocol."""
    data = tmp_path_factory.mktemp("data")
    six = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
    write_ckplus(data / "ckplus", [(f"S{10 + who:03d}", f"{k:03d}", word) for who in range(14)
                                   for k, word in enumerate((*six, "contempt"), 1)])
    write_oulu(data / "oulu", [("PreProcess_Img/VL_Acropped/Strong", f"P{1 + who:03d}", word.capitalize())
                               for who in range(14) for word in six])
    write_casme2(data / "casme2", [(f"{1 + who:02d}", f"EP{k:02d}_01", word, 30) for who in range(9) for k, word in
                                   enumerate(("happiness", "disgust", "repression", "surprise", "others"), 1)])
    write_samm(data / "samm", [(f"{6 + who:03d}", f"{6 + who:03d}_{k}_1", word, 90) for who in range(9)
                               for k, word in enumerate(("Anger", "Happiness", "Surprise", "Disgust"), 1)])
    write_smic(data / "smic", [("HS", f"s{1 + who}", word, word[:2]) for who in range(9)
                               for word in ("negative", "positive", "surprise")])
    return data


@pytest.mark.parametrize(("name", "dataset", "says"), [
    ("03_compact", "ckplus", "'ckplus clips, smoke budget"), ("03_compact", "smic", "'smic clips, smoke budget"),
    ("04_mgln", "ckplus", "'ckplus clips, smoke budget"), ("04_mgln", "oulu", "'oulu clips, smoke budget"),
    ("05_micro_attention", "oulu", "The large expressions came from oulu"),
    ("05_micro_attention", "samm", "Read from your disk: casme2, samm, smic"),
    ("07_gcn", "ckplus", "ckplus, 98 faces with landmarks"),
    ("07_gcn", "oulu", "faces with the mean face laid on five found points")])
def test_runs_on_the_readers_own_clips(name, dataset, says, tmp_path, monkeypatch, record_property, drawn_trees):
    monkeypatch.setenv("FER_LAB_DATA_DIR", str(drawn_trees))
    seconds = execute(NBS / "papers" / f"{name}.ipynb", tmp_path / "out.ipynb", monkeypatch, dataset)
    record_property("seconds", round(seconds, 1))
    told = [output for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells for output in cell.get("outputs", ())]
    assert says in json.dumps(told)
