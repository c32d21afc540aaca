"""Every data set by its name: loaded, listed, checked, and from the command line."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fer_lab import cli
from fer_lab.fer2013 import write_fer2013
from fer_lab.pictures import DataError, LeftOut
from fer_lab.readers import LAYOUTS, check_dataset, list_datasets, load_clips, load_dataset
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
    assert "fer-lab data check fer2013" in list_datasets(lab).loc["fer2013", "images"]
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


@pytest.mark.parametrize("name", ["ckplus", "oulu", "casme2", "samm", "smic", "cremad"])
def test_clips_keep_every_frame_and_their_peaks_are_the_stills(here, name):
    clips = load_clips(name, here)
    assert not clips.is_still and (clips.labels >= 0).all()
    assert clips.peaks().fingerprint == load_dataset(name, here).fingerprint


def test_photographs_have_no_clips(here):
    with pytest.raises(DataError, match="ckplus, oulu, casme2, samm, smic, cremad"):
        load_clips("jaffe", here)


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
    complete = not LAYOUTS[name].published
    assert said.exit_code == (0 if complete else 1), said.output
    assert "Items by class" in said.stdout and said.stdout.count(LAYOUTS[name].note or "To know") == 1
    assert "Files that cannot be used: 0\nnone\n" in said.stdout and "index" not in said.stdout


BROKEN = {  # kind -> what the file holds instead, and what must be said of it
    "empty": (b"", "is empty (0 bytes)"), "junk": (b"\x89PNG\r\n\x1a\n junk", "is no picture that can be read"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer")}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_check_lists_the_broken_frame_itself_with_its_own_reason(here, kind):
    content, words = BROKEN[kind]
    frame = here.data_dir / "ckplus/cohn-kanade-images/S005/001/S005_001_00000003.png"
    frame.write_bytes(content)
    listed = check_dataset("ckplus", here).parts["Files that cannot be used: 1"]
    assert [Path(name).name for name in listed.index] == [frame.name]
    assert words in listed["what"].iloc[0] and frame.name not in listed["what"].iloc[0]
    said = fer(here, "data", "check", "ckplus").stdout
    assert said.count("S005_001_0000000") == 1 and words[:12] in said and "Traceback" not in said


def test_a_check_names_a_video_that_was_cut_off_and_one_that_never_came(here):
    home = here.data_dir / "cremad/VideoFlash"
    cut, pointer = home / "1001_IEO_HAP_HI.flv", home / "1002_IEO_SAD_LO.flv"
    cut.write_bytes(cut.read_bytes()[:len(cut.read_bytes()) // 3])
    pointer.write_bytes(BROKEN["pointer"][0])
    listed = check_dataset("cremad", here).parts["Files that cannot be used: 2"]["what"]
    reasons = {Path(name).name: words for name, words in listed.items()}
    assert "frames could be decoded" in reasons[cut.name] and "git lfs pull" in reasons[pointer.name]
    assert not any(name in words for name, words in reasons.items())


def test_a_row_of_a_list_is_named_once(here):
    labels = here.data_dir / "rafdb/basic/EmoLabel/list_patition_label.txt"
    labels.write_text(labels.read_text().replace("train_00002.jpg 2", "train_00002.jpg 8"))
    listed = check_dataset("rafdb", here).parts["Files that cannot be used: 2"]["what"]  # and a picture without a label
    row = next(name for name in listed.index if "line 2" in name)
    assert listed[row] == "expected 'train_00001.jpg 5', found 'train_00002.jpg 8'"


def test_faulty_files_are_skipped_only_if_asked_for_in_python_and_on_the_command_line(here, tmp_path):
    broken = here.data_dir / "jaffe/jaffe/KA.FE1.41.tiff"
    broken.write_bytes(b"")
    with pytest.raises(DataError, match="--skip-faulty.*skip_faulty=True"):
        load_dataset("jaffe", here)
    with pytest.warns(LeftOut, match="KA.FE1.41.tiff") as caught:
        assert len(load_dataset("jaffe", here, skip_faulty=True)) == 13
    assert list(caught[0].message.faults) == [broken]
    words = ("train", "plain", "--dataset", "jaffe", "--budget", "smoke", "--out", str(tmp_path / "run"))
    refused = fer(here, *words)
    assert refused.exit_code == 1 and "--skip-faulty" in refused.stderr and not (tmp_path / "run").exists()
    asked = []
    patch = pytest.MonkeyPatch()
    patch.setattr("fer_lab.experiment.load_dataset", lambda *_, **more: asked.append(more) or (_ for _ in ()).throw(
        DataError("seen")))
    assert "seen" in fer(here, *words, "--skip-faulty").stderr and asked == [{"skip_faulty": True}]
    patch.undo()


def test_warnings_of_a_command_look_like_its_other_messages(here):
    (here.data_dir / "jaffe/jaffe/KA.FE1.41.tiff").write_bytes(b"")
    patch = pytest.MonkeyPatch()
    patch.setattr("fer_lab.readers.check_dataset", lambda name, lab: load_dataset(name, lab, skip_faulty=True) and None)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        said = fer(here, "data", "check", "jaffe")
    patch.undo()
    assert said.stderr.startswith("fer-lab: warning: jaffe: 1 file(s)") and "LeftOut" not in said.stderr


def test_what_makes_a_copy_complete(here, monkeypatch):
    def layout(name, **changes):
        monkeypatch.setitem(LAYOUTS, name, replace(LAYOUTS[name], **changes))
        return check_dataset(name, here)

    assert (LAYOUTS["ckplus"].labelled, LAYOUTS["casme2"].published) == (327, (247, 255))
    assert layout("ckplus", published=(4,), labelled=3).complete
    less = layout("ckplus", published=(4,), labelled=4)
    assert not less.complete and "4 sequences, 3 of them labelled; CK+ as published has 4, 4 labelled" in less.verdict
    for published, complete in (((5, 8), True), ((2, 5), True), ((4, 6), False)):
        assert layout("casme2", published=published).complete == complete
    assert layout("casme2", published=(5, 8)).verdict.startswith("Complete: 5 clips; CASME II as published has 5 or 8.")
    found = layout("oulu", published=(4,))
    assert not found.complete and "published has 4 for each camera and light" in found.verdict
    by = found.parts["Items by camera or light"]["items"]
    assert by.to_dict() == {"VL-Strong": 4, "VL-Weak": 1, "NI-Dark": 1}
    for condition in ("PreProcess_Img/NI_Acropped", "OriginalImg"):
        shutil.rmtree(here.data_dir / "oulu" / condition)
    assert layout("oulu", published=(4,)).complete


def test_the_list_counts_empty_files_and_speaks_of_a_damaged_sheet_in_plain_words(here):
    (here.data_dir / "jaffe/jaffe/KA.FE1.41.tiff").write_bytes(b"")
    (here.data_dir / "casme2/CASME2-coding-20140508.xlsx").write_bytes(b"\xd0\xcf junk")
    (here.data_dir / "ckplus/Emotion").rename(here.data_dir / "ckplus/gone")
    table = list_datasets(here)
    assert table.loc["jaffe", "missing"] == "1 faulty, see fer-lab data check jaffe"
    sheet = table.loc["casme2", "missing"]
    assert "damaged" in sheet and sheet.endswith("get it again") and "Excel" not in sheet
    with pytest.raises(DataError, match="data set ck48"):
        load_dataset("ckplus", here)


def test_the_votes_beside_the_committed_fer2013_are_read(here):
    faces = load_dataset("fer2013", here)
    votes = faces.meta[[f"vote_{name}" for name in faces.classes]].to_numpy()
    assert (votes.argmax(1) == faces.labels).all() and (votes.sum(1) == 8).all()
    assert list_datasets(here).loc["fer2013", "missing"] == ""


def test_convert_from_the_command_line(here, tmp_path):
    said = fer(here, "data", "convert", "fer2013", "--to", "npz", str(tmp_path / "out.npz"))
    assert said.exit_code == 0 and (tmp_path / "out.npz").exists() and "9 images" in said.stdout
    for words, part in ((("fer2013", "--to", "pickle"), "Pickle is refused"), (("jaffe",), "Only fer2013")):
        said = fer(here, "data", "convert", *words, str(tmp_path / "no"))
        assert said.exit_code == 1 and part in said.stderr and not (tmp_path / "no").exists()
