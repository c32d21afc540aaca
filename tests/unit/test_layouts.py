"""Every layout: the committed trees read back, names are parsed, and each planted fault is named with its path."""

import re
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fer_lab import clips, micro, stills
from fer_lab.faceset import SPACES, LabelSpace
from fer_lab.pictures import DataError, Item, Survey, central, drawn_clip, read_grey, squared, whole
from fer_lab.readers import LAYOUTS, write_layouts

FIXTURES = Path(__file__).parents[2] / "data" / "fixtures"
every_layout = pytest.mark.parametrize("name", LAYOUTS)


@pytest.fixture
def tree(tmp_path):
    """A copy of a committed tree, to be spoilt."""
    return lambda name: Path(shutil.copytree(FIXTURES / name, tmp_path / name))


def refusal(name: str, folder: Path, **more) -> str:
    with pytest.raises(DataError) as caught:
        LAYOUTS[name].read(folder, **more)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


def first_file(folder: Path, *endings: str) -> Path:
    return next(path for path in sorted(folder.rglob("*")) if path.suffix in endings)


PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tiff", ".flv")

# ---- the committed trees

LABELS = {  # classes in the order of the items
    "ckplus": ["disgust", "surprise", None, "contempt"],
    "ck48": ["anger"] * 3 + ["contempt"] * 3 + ["happiness"] * 3,
    "jaffe": ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"] * 2,
    "oulu": ["anger", "happiness"] * 2 + ["anger"] * 2,
    "ferg": ["anger", "happiness", "neutral"] * 2,
    "casme2": ["happiness", "others", "repression", "disgust", "surprise"],
    "samm": ["anger", "others", "contempt"],
    "smic": ["negative", "surprise", "positive"],
    "rafdb": ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral",
              "happiness", "sadness", "anger"],
    "affectnet": ["neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt", "happiness",
                  "anger"],
    "cremad": ["anger", "happiness", "neutral", "sadness"],
    "folders": ["anger", "happiness", "neutral"] * 2,
}
SUBJECTS = {"ckplus": ["S005", "S010", "S010", "S138"], "oulu": ["P001", "P001", "P051", "P051", "P001", "P001"],
            "ck48": ["S010"] * 3 + ["S138"] * 3 + ["S022"] * 3, "jaffe": ["KA"] * 7 + ["YM"] * 7,
            "ferg": ["aia"] * 3 + ["mery"] * 3, "casme2": ["01", "01", "02", "02", "26"], "samm": ["006", "006", "032"],
            "smic": ["01", "01", "20"], "cremad": ["1001", "1001", "1002", "1002"]}


@every_layout
def test_the_committed_tree_reads_with_labels_and_people(name):
    faces = LAYOUTS[name].read(FIXTURES / name, size=40)
    assert [faces.classes[i] if i >= 0 else None for i in faces.labels] == LABELS[name]
    assert faces.shape == (1, 40, 40) and faces.frames.dtype == np.uint8
    assert list(faces.meta["subject"]) == SUBJECTS[name] if name in SUBJECTS else "subject" not in faces.meta
    assert faces.meta["id"].is_unique and not faces.meta["id"].str.contains(r"\\").any()
    assert faces.space in SPACES.values()
    assert faces.frames.std(axis=(1, 2, 3)).min() > 5  # a face everywhere
    assert faces.peaks().is_still


@every_layout
def test_the_folder_may_lie_deeper(name, tree):
    folder = tree(name)
    (folder.parent / "unpacked").mkdir()
    folder.rename(folder.parent / "unpacked" / "here")
    assert len(LAYOUTS[name].read(folder.parent / "unpacked")) == len(LABELS[name])


def test_the_committed_trees_are_what_the_writer_draws(tmp_path):
    new, old = write_layouts(tmp_path), FIXTURES
    names = {top: sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file()) for top in (new, old)}
    assert names[new] == names[old]
    assert sum(path.stat().st_size for path in old.rglob("*") if path.is_file()) < 400_000
    for name in LAYOUTS:
        a, b = LAYOUTS[name].read(new / name), LAYOUTS[name].read(old / name)
        assert np.abs(a.frames.astype(int) - b.frames).mean() < 1, f"{name}: draw it again with write_layouts"
        assert a.labels.tolist() == b.labels.tolist() and a.meta.astype(str).equals(b.meta.astype(str))


# ---- faults

@every_layout
def test_a_wrong_folder_says_what_was_looked_for_and_what_is_there(name, tmp_path):
    (tmp_path / "holiday").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    said = refusal(name, tmp_path)
    assert "Looked for" in said and "holiday/, notes.txt" in said and tmp_path.name in said
    assert "no such folder" in refusal(name, tmp_path / "nowhere")


@every_layout
@pytest.mark.parametrize("spoil", ["empty", "cut", "web page", "lfs"])
def test_a_file_that_is_no_picture_is_listed_and_skipped_only_if_asked(name, spoil, tree):
    folder = tree(name)
    path = first_file(folder, *PICTURES)
    content = {"empty": b"", "cut": path.read_bytes()[:60], "web page": b"<!DOCTYPE html><html>login</html>",
               "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"}[spoil]
    path.write_bytes(content)
    said = refusal(name, folder)
    assert path.name in said and "1 file(s) cannot be used" in said and "skip_faulty=True" in said
    assert {"empty": "0 bytes", "cut": "", "web page": "web page", "lfs": "git lfs pull"}[spoil] in said
    with pytest.warns(UserWarning, match=re.escape(path.name)) as caught:
        faces = LAYOUTS[name].read(folder, skip_faulty=True)
    ours = [str(warning.message) for warning in caught if "Left out" in str(warning.message)]
    assert len(ours) == 1 and f"1 of {len(LABELS[name])} items" in ours[0]
    assert len(faces) == len(LABELS[name]) - 1


def rename(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def edit(path: Path, change) -> Path:
    path.write_text(change(path.read_text()))
    return path


def cell(path: Path, row: int, column: int, value) -> Path:
    book = openpyxl.load_workbook(path)
    book.active.cell(row, column).value = value
    book.save(path)
    return path


PLANTED = {  # layout, what is done to the tree, what must be said
    "ck+: a code that does not exist": ("ckplus", lambda f: edit(
        f / "Emotion/S005/001/S005_001_00000004_emotion.txt", lambda t: "  8.0"),
        ["emotion.txt", "'8.0'", "1 (anger)"]),
    "ck+: neutral labels no sequence": ("ckplus", lambda f: edit(
        f / "Emotion/S005/001/S005_001_00000004_emotion.txt", lambda t: "  0.0"), ["emotion.txt", "'0.0'"]),
    "ck+: an empty label": ("ckplus", lambda f: edit(
        f / "Emotion/S138/005/S138_005_00000003_emotion.txt", lambda t: ""),
        ["S138_005_00000003_emotion.txt", "0 bytes"]),
    "ck+: a strange frame": ("ckplus", lambda f: rename(
        f / "cohn-kanade-images/S005/001/S005_001_00000002.png", "copy.png"), ["copy.png", "S005_001_00000011.png"]),
    "ck+: a landmark too few": ("ckplus", lambda f: edit(
        f / "Landmarks/S005/001/S005_001_00000002_landmarks.txt", lambda t: t.split("\n", 1)[1]),
        ["[67, 2]"]),
    "ck+: no Emotion": ("ckplus", lambda f: shutil.rmtree(f / "Emotion"), ["Looked for", "Emotion/S005"]),
    "ck48: a class that is none": ("ck48", lambda f: rename(f / "CK+48/happy", "hapy"), ["hapy/", "none of"]),
    "jaffe: an unknown code": ("jaffe", lambda f: rename(
        f / "jaffe/KA.AN1.39.tiff", "KA.XX1.39.tiff"), ["KA.XX1.39.tiff", "does not read like"]),
    "oulu: a class that is none": ("oulu", lambda f: rename(
        f / "PreProcess_Img/VL_Acropped/Strong/P001/Anger", "Angst"), ["Angst", "is none of anger"]),
    "oulu: no frames": ("oulu", lambda f: (f / "PreProcess_Img/VL_Acropped/Strong/P001/Fear").mkdir(),
                        ["P001/Fear", "no frames"]),
    "ferg: a character's name alone": ("ferg", lambda f: rename(
        f / "FERG_DB_256/aia/aia_joy/aia_joy_2.png", "aia_2.png"), ["aia_2.png", "aia_joy_1.png"]),
    "raf-db: a picture without a label": ("rafdb", lambda f: edit(
        f / "basic/EmoLabel/list_patition_label.txt", lambda t: t.split("\n", 1)[1]),
        ["train_00001_aligned", "no label"]),
    "raf-db: code 8": ("rafdb", lambda f: edit(f / "basic/EmoLabel/list_patition_label.txt", lambda t: t.replace(
        "train_00002.jpg 2", "train_00002.jpg 8")), ["line 2", "'train_00002.jpg 8'"]),
    "raf-db: a label without a picture": ("rafdb", lambda f: (
        f / "basic/Image/aligned/test_0001_aligned.jpg").unlink(), ["test_0001_aligned.jpg", "no such picture"]),
    "affectnet: code 11": ("affectnet", lambda f: edit(f / "Manually_Annotated_file_lists/validation.csv",
                           lambda t: re.sub(r",1,0\.1,", ",11,0.1,", t)), ["validation.csv, line 2"]),
    "affectnet: 67 landmarks": ("affectnet", lambda f: edit(f / "Manually_Annotated_file_lists/validation.csv",
                                lambda t: re.sub(r";[\d.]+;[\d.]+,", ",", t, count=1)), ["validation.csv, line 2"]),
    "affectnet: a lost column": ("affectnet", lambda f: edit(f / "Manually_Annotated_file_lists/training.csv",
                                 lambda t: t.replace("valence", "v")), ["training.csv lacks the column(s) valence"]),
    "casme2: a frame too few inside": ("casme2", lambda f: (f / "Cropped/sub01/EP02_01f/reg_img48.jpg").unlink(),
                                       ["row 2", "frame(s) 48 missing"]),
    "samm: a frame too few inside": ("samm", lambda f: (f / "006/006_1_2/006_05564.jpg").unlink(),
                                     ["row 15", "frame(s) 5564 missing"]),
    "smic: a frame too few inside": ("smic", lambda f: (
        f / "SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01/reg_image090055.bmp").unlink(),
        ["s1_ne_01", "frame(s) 90055 missing"]),
    "oulu: the first frame is gone": ("oulu", lambda f: (
        f / "PreProcess_Img/VL_Acropped/Strong/P051/Anger/000.jpeg").unlink(), ["P051/Anger", "frame(s) 0 missing"]),
    "oulu: a frame too few in the uncropped ones": ("oulu", lambda f: (
        f / "OriginalImg/VL/Weak/P001/Anger/001.jpeg").unlink(), ["VL/Weak/P001/Anger", "frame(s) 1 missing"]),
    "ck+: the first frame is gone": ("ckplus", lambda f: (
        f / "cohn-kanade-images/S010/002/S010_002_00000001.png").unlink(), ["S010/002", "frame(s) 1 missing"]),
    "ck+: the labelled frame is gone": ("ckplus", lambda f: (
        f / "cohn-kanade-images/S005/001/S005_001_00000004.png").unlink(),
        ["S005_001_00000004_emotion.txt", "the last one here, 3"]),
    "casme2: no row": ("casme2", lambda f: shutil.copytree(f / "Cropped/sub01/EP02_01f", f / "Cropped/sub01/EP09_09"),
                       ["EP09_09", "no row in CASME2-coding-20140508.xlsx"]),
    "casme2: no folder": ("casme2", lambda f: shutil.rmtree(f / "Cropped/sub26/EP07_37"),
                          ["row 6", "subject 26, clip EP07_37"]),
    "casme2: an offset beyond the frames": ("casme2", lambda f: cell(f / "CASME2-coding-20140508.xlsx", 2, 6, 99),
                                            ["row 2", "frames 46 to 99", "46 to 50"]),
    "casme2: no onset": ("casme2", lambda f: cell(f / "CASME2-coding-20140508.xlsx", 2, 4, "/"), ["onset None"]),
    "casme2: an unknown emotion": ("casme2", lambda f: cell(f / "CASME2-coding-20140508.xlsx", 2, 9, "tense"),
                                   ["row 2", "'tense'", "repression"]),
    "casme2: no spreadsheet": ("casme2", lambda f: (f / "CASME2-coding-20140508.xlsx").write_bytes(b"PK\3\4 junk"),
                               ["CASME2-coding-20140508.xlsx", "damaged", "no spreadsheet", "get it again"]),
    "casme2: another header": ("casme2", lambda f: cell(f / "CASME2-coding-20140508.xlsx", 1, 4, "Start"),
                               ["onsetframe", "Start"]),
    "samm: an emotion too few": ("samm", lambda f: cell(f / "SAMM_Micro_FACS_Codes_v2.xlsx", 15, 10, None),
                                 ["row 15", "''"]),
    "smic: a class that is none": ("smic", lambda f: rename(
        f / "SMIC_all_cropped/HS/s1/micro/surprise", "other"), ["s1_sur_01", "none of positive"]),
    "crema-d: an unknown sentence": ("cremad", lambda f: rename(
        f / "VideoFlash/1001_DFA_ANG_XX.flv", "1001_ABC_ANG_XX.flv"), ["1001_ABC_ANG_XX.flv", "no label"]),
    "folders: a picture in no class": ("folders", lambda f: shutil.copy(
        f / "train/angry/0000.png", f / "train/loose.png"), ["loose.png", "no class folder"]),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_fault_is_named(what, tree):
    name, plant, words = PLANTED[what]
    folder = tree(name)
    plant(folder)
    said = refusal(name, folder)
    for word in words:
        assert word in said, said


def test_everything_faulty_is_an_error_even_when_skipping(tree):
    folder = tree("cremad")
    for clip in (folder / "VideoFlash").iterdir():
        clip.write_bytes(b"")
    assert "nothing in" in refusal("cremad", folder, skip_faulty=True)


def test_clips_without_opencv_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert 'pip install "fer_lab[faces]"' in refusal("cremad", FIXTURES / "cremad")


# ---- what only one layout has

def test_ckplus_keeps_its_landmarks_codes_and_the_order_of_frames():
    faces = clips.read_ckplus(FIXTURES / "ckplus", size=64)
    images, points = drawn_clip("disgust", 5, (0, 0.3, 0.6, 1), number=0)
    assert np.allclose(faces.landmarks[:4], points + 8, atol=1e-3)  # 52 x 64 padded to 64 x 64
    assert np.abs(faces.sequence(0)[:, 0, 8:56, 8:56].astype(int) - images).max() <= 2
    assert faces.meta["facs"][0] == "4@3 25" and faces.meta["apex"].tolist() == [3, 2, 3, 2]
    assert clips.read_ckplus(FIXTURES / "ckplus", crop=central).shape == (1, 48, 48)


def test_a_sequence_is_read_in_the_order_of_its_numbers(tree):
    folder = tree("casme2")
    clip = folder / "Cropped/sub01/EP02_01f"
    before = micro.read_casme2(folder).sequence(0)
    for number in range(50, 45, -1):  # 46..50 becomes 98..102: as text, 100 stands before 98
        (clip / f"reg_img{number}.jpg").rename(clip / f"reg_img{number + 52}.jpg")
    for column, value in ((4, 98), (5, 100), (6, 102)):
        cell(folder / "CASME2-coding-20140508.xlsx", 2, column, value)
    faces = micro.read_casme2(folder)
    assert (faces.sequence(0) == before).all() and faces.meta["apex"][0] == 2 and faces.meta["frame"][0] == 98


def test_micro_movements_are_cut_out_and_an_unknown_apex_is_marked(tree):
    folder = tree("samm")
    clip = folder / "006/006_1_2"
    for number in (5560, 5561, 5567):  # before and after the movement
        shutil.copy(clip / "006_05562.jpg", clip / f"006_{number:05d}.jpg")
    cell(folder / "SAMM_Micro_FACS_Codes_v2.xlsx", 15, 5, 579)  # a typing error
    faces = micro.read_samm(folder)
    assert len(faces.sequence(0)) == 5 and faces.meta["apex"][0] == 2
    assert faces.meta["apex_known"].tolist() == [False, True, True]
    casme = micro.read_casme2(FIXTURES / "casme2")
    assert casme.meta["apex_known"].tolist() == [True, True, True, False, True]


def test_a_spreadsheet_that_lost_its_zeros_is_understood(tree):
    folder = tree("casme2")
    cell(folder / "CASME2-coding-20140508.xlsx", 2, 1, 1)
    cell(folder / "CASME2-coding-20140508.xlsx", 2, 2, "EP02_01")  # the folder is EP02_01f
    assert micro.read_casme2(folder).meta["subject"][0] == "01"


def test_cameras_and_lights_are_all_read_or_chosen_by_name():
    faces = clips.read_oulu(FIXTURES / "oulu")
    assert faces.meta["domain"].tolist() == ["VL-Strong"] * 4 + ["VL-Weak", "NI-Dark"]
    assert clips.survey_oulu(FIXTURES / "oulu").missing == tuple(
        f"{name} (optional)" for name in ("VL-Dark", "NI-Strong", "NI-Weak"))
    chosen = ((("VL",), ("Strong",), 4), (("NI",), clips.OULU_LIGHTS, 1), (("VL",), ("Weak", "Dark"), 1))
    for cameras, lights, n in chosen:
        some = clips.read_oulu(FIXTURES / "oulu", cameras=cameras, lights=lights)
        assert len(some) == n and set(some.meta["domain"]) <= {f"{c}-{light}" for c in cameras for light in lights}
    with pytest.raises(DataError, match="No Oulu-CASIA .*NI_Acropped/Strong"):
        clips.read_oulu(FIXTURES / "oulu", cameras=("NI",), lights=("Strong",))
    with pytest.raises(DataError, match="cameras VL, NI.*got UV"):
        clips.read_oulu(FIXTURES / "oulu", cameras=("UV",))


def test_the_uncropped_frames_are_read_where_no_cropped_ones_are():
    frames = clips.read_oulu(FIXTURES / "oulu", lights=("Weak",)).sequence(0)
    assert frames.shape == (3, 1, 48, 48) and (frames[:, :, :6] == 0).all() and frames[:, :, 12:36].std() > 5


def test_the_three_cameras_of_smic():
    fast, visible, infrared = (micro.read_smic(FIXTURES / "smic", camera=name) for name in ("HS", "VIS", "NIR"))
    assert [set(faces.meta["fps"]) for faces in (fast, visible, infrared)] == [{100.0}, {25.0}, {25.0}]
    assert [set(faces.meta["domain"]) for faces in (fast, visible, infrared)] == [{"HS"}, {"VIS"}, {"NIR"}]
    assert visible.meta["id"].tolist() == infrared.meta["id"].tolist() == [fast.meta["id"].iloc[-1]]  # one moment
    assert np.abs(visible.frames.astype(int) + infrared.frames - 255).max() == 0  # as they were drawn
    with pytest.raises(DataError, match="HS, VIS, NIR"):
        micro.read_smic(FIXTURES / "smic", camera="RGB")


def test_affectnet_crops_by_its_box_and_moves_the_landmarks():
    survey = stills.survey_affectnet(FIXTURES / "affectnet")
    assert survey.notes[0].startswith("1 rows") and {item.box for item in survey.items} == {(8, 6, 48)}
    faces = survey.read(size=96)
    assert np.allclose(faces.landmarks[3] / 2, drawn_clip("surprise", 23, number=3, channels=3)[1][0], atol=0.01)
    assert faces.meta["usage"].tolist() == ["Training"] * 8 + ["Validation"] * 2


def test_folders_with_unknown_names_keep_them(tree):
    folder = tree("folders")
    for side in ("train", "test"):
        (folder / side / "angry").rename(folder / side / "3")
    faces = stills.read_folders(folder)
    assert faces.classes == ("3", "happy", "neutral") and faces.counts().tolist() == [2, 2, 2]


# ---- names and squares

@given(st.sampled_from(list(stills.JAFFE_CODES)), st.integers(1, 9), st.integers(1, 999),
       st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=2))
def test_jaffe_names_come_apart_as_they_were_put_together(code, take, number, person):
    found = re.fullmatch(stills.JAFFE_NAME, f"{person}.{code}{take}.{number}.tiff")
    assert found.groups() == (person, code, str(take), str(number))
    assert not re.fullmatch(stills.JAFFE_NAME, f"{person}.{code}{take}.{number}.tiff.bmp")


@given(st.integers(1001, 1091), st.sampled_from(list(clips.CREMAD_SENTENCES)),
       st.sampled_from(list(clips.CREMAD_CODES)), st.sampled_from(list(clips.CREMAD_LEVELS)))
def test_cremad_names_come_apart_as_they_were_put_together(actor, sentence, code, level):
    found = re.fullmatch(clips.CREMAD_CLIP, f"{actor}_{sentence}_{code}_{level}.flv")
    assert found.groups() == (str(actor), sentence, code, level)
    assert not re.fullmatch(clips.CREMAD_CLIP, f"{actor}_{sentence}_{code}.flv")


@given(st.text(max_size=12))
def test_a_frame_number_is_a_whole_number_or_unknown(text):
    number = micro.frame_number(text)
    if number is not None:
        assert number == float(text)
    elif re.fullmatch(r"[0-9]+", text):
        raise AssertionError(text)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_the_square_of_the_whole_picture_loses_nothing_and_centres_it(height, width, size):
    grey = np.full((height, width), 200, np.uint8)
    left, top, side = whole(grey)
    assert side == max(height, width) and left <= 0 and top <= 0 and left + side >= width and top + side >= height
    out = squared(grey, (left, top, side), size)
    assert out.shape == (size, size) and out.max() <= 200
    share = height * width / side ** 2
    assert side < size or abs(out.mean() / 200 - share) < 0.02 + 2 / side
    assert (squared(grey, central(grey), size) == 200).all()


def test_shrinking_by_a_whole_number_is_the_mean_of_the_block():
    grey = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    means = grey.reshape(12, 5, 12, 5).mean((1, 3))
    assert np.abs(squared(grey, whole(grey), 12) - means).max() < 1  # rows, then columns, rounded each time


def test_colour_becomes_grey_by_the_usual_weights_and_sixteen_bits_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4, 3), (200, 100, 50), np.uint8)).save(tmp_path / "c.png")
    assert (read_grey(tmp_path / "c.png") == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match="deep.png has more than 8 bits"):
        read_grey(tmp_path / "deep.png")


def test_a_sequence_with_one_spoilt_frame_goes_as_a_whole(tmp_path):
    for i in range(5):
        Image.fromarray(np.full((8, 8), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"")
    files = [tmp_path / f"{i}.png" for i in range(5)]
    items = [Item(tuple(files[:3]), 0, {"id": "a"}), Item(tuple(files[3:]), 1, {"id": "b"})]
    survey = Survey("x", LabelSpace("two", ("one", "two")), tmp_path, items)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        faces = survey.read(8, skip_faulty=True)
    assert len(caught) == 1 and faces.labels.tolist() == [1] and faces.sequence(0)[:, 0, 0, 0].tolist() == [30, 40]
