"""Every data set by its name: loaded, listed, checked, and from the command line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fer_lab import cli
from fer_lab.fer2013 import write_fer2013
from fer_lab.pictures import DataError
from fer_lab.readers import LAYOUTS, check_dataset, list_datasets, load_dataset
from fer_lab.settings import DATASETS, load_settings
from fer_lab.synthetic import synthetic_faces

FIXTURES = Path(__file__).parents[2] / "data" / "fixtures"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_LAB_CACHE_DIR", str(tmp_path / "the cache"))


def test_data_sets_by_name(tmp_path):
    lab = load_settings(tmp_path, environ={}, data_dir=tmp_path / "data", budget="smoke")
    table = list_datasets(lab)
    assert table.loc["fer2013", "found"] == "no" and "kaggle" in table.loc["fer2013", "how to get it"]
    with pytest.raises(DataError, match="fer2013.csv"):
        load_dataset("fer2013", lab)
    with pytest.raises(DataError, match="synthetic, fer2013"):
        load_dataset("fer 2013", lab)
    assert len(load_dataset("synthetic", lab)) == int(table.loc["synthetic", "images"].replace(",", ""))
    (tmp_path / "data" / "fer2013").mkdir(parents=True)
    faces = synthetic_faces(3)
    write_fer2013(faces, tmp_path / "data" / "fer2013" / "fer2013.csv")
    assert list_datasets(lab).loc["fer2013", "images"] == "not read yet"
    assert np.array_equal(load_dataset("fer2013", lab).frames, faces.frames)
    assert list_datasets(lab).loc["fer2013", "images"] == "3" and "FER+" in list_datasets(lab).loc["fer2013", "missing"]


@pytest.fixture
def here(tmp_path):
    """A copy of the committed trees, as a data folder."""
    shutil.copytree(FIXTURES, tmp_path / "data")
    return load_settings(tmp_path, environ={}, data_dir=tmp_path / "data", budget="smoke")


def fer(here, *words):
    return CliRunner().invoke(cli.app, [*words, "--data-dir", str(here.data_dir)], env={"COLUMNS": "200"})


def test_every_name_of_the_setting_can_be_loaded_as_labelled_stills(here):
    assert set(DATASETS) == {"synthetic", "fer2013", *LAYOUTS}
    for name in DATASETS[1:]:
        faces = load_dataset(name, here)
        assert faces.is_still and faces.shape == (1, 48, 48) and (faces.labels >= 0).all(), name
    assert len(load_dataset("ckplus", here)) == 3 and load_dataset("jaffe", here, 64).shape == (1, 64, 64)
    with pytest.raises(DataError, match="48 × 48"):
        load_dataset("fer2013", here, 96)


def test_the_list_tells_what_is_there_what_is_not_and_where_to_ask(here):
    shutil.rmtree(here.data_dir / "samm")
    (here.data_dir / "jaffe/jaffe/KA.AN1.39.tiff").write_bytes(b"")
    shutil.rmtree(here.data_dir / "ckplus/FACS")
    table = list_datasets(here)
    assert set(table.index) == set(DATASETS)
    assert table.loc["samm", "found"] == "no" and "Manchester" in table.loc["samm", "how to get it"]
    assert table.loc["smic", "images"] == "12" and table.loc["ckplus", "missing"] == "FACS (optional)"
    assert "speak" in table.loc["cremad", "to know"]
    said = fer(here, "data", "list")
    assert said.exit_code == 0 and all(name in said.stdout for name in DATASETS) and "speak" in said.stdout


def test_a_check_counts_what_is_faulty_twice_and_contradictory(here):
    jaffe = here.data_dir / "jaffe" / "jaffe"
    (jaffe / "KA.FE1.41.tiff").write_bytes(b"")
    (jaffe / "note.tiff").write_bytes(b"x")
    shutil.copy(jaffe / "KA.HA1.42.tiff", jaffe / "KA.SA2.99.tiff")
    found = check_dataset("jaffe", here)
    assert not found.complete and "14 pictures; JAFFE as published has 213" in found.verdict
    assert list(found.parts["Identical pictures"]["items"]) == [2, 2]
    faulty = found.parts["Files that cannot be used: 2"]
    assert sorted(Path(name).name for name in faulty.index) == ["KA.FE1.41.tiff", "note.tiff"]
    assert found.parts["Items by class"].loc["fear"].tolist() == [1, 1]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_set_is_checked_from_the_command_line(here, name):
    said = fer(here, "data", "check", name)
    complete = LAYOUTS[name].published is None
    assert said.exit_code == (0 if complete else 1), said.output
    assert "Items by class" in said.stdout and (LAYOUTS[name].note in said.stdout)


def test_convert_from_the_command_line(here, tmp_path):
    said = fer(here, "data", "convert", "fer2013", "--to", "npz", str(tmp_path / "out.npz"))
    assert said.exit_code == 0 and (tmp_path / "out.npz").exists() and "9 images" in said.stdout
    for words, part in ((("fer2013", "--to", "pickle"), "Pickle is refused"), (("jaffe",), "Only fer2013")):
        said = fer(here, "data", "convert", *words, str(tmp_path / "no"))
        assert said.exit_code == 1 and part in said.stderr and not (tmp_path / "no").exists()
