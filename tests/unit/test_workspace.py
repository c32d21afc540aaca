"""Where notebooks are found, how they are named, and a lab folder in which nobody's work is lost."""

import json

import nbformat
import pytest

from fer_lab import workspace
from fer_lab.workspace import MANIFEST, Home, NotebookError, choose, find_home, notebooks, write_lab


def ship(folder, text="x = 1", names=("index.ipynb", "papers/06_stn.ipynb", "labs/leakage.ipynb")) -> Home:
    """A package's notebooks, with outputs, all holding `text`."""
    for name in names:
        seen = nbformat.v4.new_output("stream", text="seen")
        cell = nbformat.v4.new_code_cell(text, outputs=[seen], execution_count=3)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": 1}}), folder / name)
    return Home(folder, "package")


def test_the_repository_is_found_from_anywhere_inside_it(tmp_path):
    (tmp_path / "nbs" / "papers").mkdir(parents=True)
    (tmp_path / "fer_lab").mkdir()
    (tmp_path / "fer_lab" / "__init__.py").touch()
    home = Home(tmp_path / "nbs", "repository")
    assert find_home(tmp_path) == find_home(tmp_path / "nbs" / "papers") == find_home(tmp_path / "fer_lab") == home


def test_a_lab_folder_is_found_and_elsewhere_the_package_serves(tmp_path, monkeypatch):
    package = ship(tmp_path / "package")
    monkeypatch.setattr(workspace, "package_home", lambda: package)
    write_lab(tmp_path / "mine", package)
    assert find_home(tmp_path / "mine" / "papers") == Home(tmp_path / "mine", "lab folder")
    assert find_home(tmp_path) == package


def test_notebooks_are_listed_in_reading_order_without_checkpoints(tmp_path):
    hidden = "papers/.ipynb_checkpoints/06_stn.ipynb", "papers/_x.ipynb", "library/00_settings.ipynb"
    home = ship(tmp_path, names=("papers/06_stn.ipynb", "papers/01_curriculum.ipynb", "labs/leakage.ipynb", *hidden))
    names = [path.as_posix() for path in notebooks(home)]
    assert names == ["papers/01_curriculum.ipynb", "papers/06_stn.ipynb", "labs/leakage.ipynb"]


@pytest.mark.parametrize("only, chosen", [
    ("stn", ["06_stn"]), ("06", ["06_stn"]), ("papers/06_stn.ipynb", ["06_stn"]), ("leakage", ["leakage"]),
    ("leakage, 01", ["01_curriculum", "leakage"]), ("", ["01_curriculum", "06_stn", "leakage"]), (None, 3)])
def test_notebooks_are_chosen_by_any_of_their_names(tmp_path, only, chosen):
    home = ship(tmp_path, names=("papers/06_stn.ipynb", "papers/01_curriculum.ipynb", "labs/leakage.ipynb"))
    found = [path.stem for path in choose(notebooks(home), only)]
    assert found == chosen or len(found) == chosen


def test_a_name_that_fits_nothing_is_an_error_with_a_proposal(tmp_path):
    paths = notebooks(ship(tmp_path))
    with pytest.raises(NotebookError, match="snt.*Did you mean stn.*06_stn, leakage"):
        choose(paths, "leakage,snt")


def test_a_new_lab_has_notebooks_without_outputs_and_settings(tmp_path):
    written = write_lab(tmp_path / "mine", ship(tmp_path / "package"))
    assert set(written.new) == {"settings.ini", "index.ipynb", "papers/06_stn.ipynb", "labs/leakage.ipynb"}
    notebook = nbformat.read(tmp_path / "mine" / "papers" / "06_stn.ipynb", as_version=4)
    assert notebook.cells[0].outputs == [] and notebook.cells[0].execution_count is None
    assert notebook.cells[0].source == "x = 1" and "widgets" not in notebook.metadata


def test_changed_files_are_kept_and_untouched_ones_follow_the_package(tmp_path):
    mine = tmp_path / "mine"
    write_lab(mine, ship(tmp_path / "package", "version = 1"))
    (mine / "papers" / "06_stn.ipynb").write_text("my notes")
    (mine / "settings.ini").write_text("[fer_lab]\nbudget = full\n")
    written = write_lab(mine, ship(tmp_path / "package", "version = 2"))
    assert set(written.updated) == {"index.ipynb", "labs/leakage.ipynb"} and written.new == []
    assert set(written.kept) == {"papers/06_stn.ipynb", "settings.ini"}
    assert (mine / "papers" / "06_stn.ipynb").read_text() == "my notes"
    assert "budget = full" in (mine / "settings.ini").read_text()
    assert "version = 2" in (mine / "index.ipynb").read_text()


def test_a_file_that_was_there_before_the_lab_is_not_taken_over(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.ipynb").write_text("somebody else's")
    for version in (1, 2):
        assert write_lab(tmp_path / "mine", ship(tmp_path / "package", f"v = {version}")).kept == ["index.ipynb"]
    assert (tmp_path / "mine" / "index.ipynb").read_text() == "somebody else's"


def test_a_deleted_file_comes_back_and_a_new_one_arrives(tmp_path):
    write_lab(tmp_path / "mine", ship(tmp_path / "package"))
    (tmp_path / "mine" / "index.ipynb").unlink()
    home = ship(tmp_path / "package", names=("papers/07_gcn.ipynb",))
    assert set(write_lab(tmp_path / "mine", home).new) == {"index.ipynb", "papers/07_gcn.ipynb"}


def test_without_its_manifest_a_lab_loses_nothing(tmp_path):
    home = ship(tmp_path / "package")
    write_lab(tmp_path / "mine", home)
    (tmp_path / "mine" / "index.ipynb").write_text("my notes")
    (tmp_path / "mine" / MANIFEST).write_text("{broken")
    with pytest.raises(NotebookError, match="Delete it"):
        write_lab(tmp_path / "mine", home)
    (tmp_path / "mine" / MANIFEST).unlink()
    assert write_lab(tmp_path / "mine", home).kept == ["index.ipynb"]
    assert "labs/leakage.ipynb" in json.loads((tmp_path / "mine" / MANIFEST).read_text())["files"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "mine").write_text("")
    with pytest.raises(NotebookError, match="is a file"):
        write_lab(tmp_path / "mine", ship(tmp_path / "package"))


def test_the_package_brings_its_notebooks():
    assert any(path.stem == "06_stn" for path in notebooks(workspace.package_home()))
