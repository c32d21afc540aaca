"""Every data set by its name."""

import numpy as np
import pytest

from fer_lab.fer2013 import write_fer2013
from fer_lab.pictures import DataError
from fer_lab.readers import list_datasets, load_dataset
from fer_lab.settings import load_settings
from fer_lab.synthetic import synthetic_faces


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
