"""Label spaces are joined by name, and nothing is lost without being listed."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fer_lab.clips import read_ckplus, read_oulu
from fer_lab.faceset import FER7, FaceSet, LabelSpace
from fer_lab.harmonise import EIGHT, MICRO3, MICRO5, SIX_CONTEMPT, SPACES, SpaceError, counterpart, harmonise
from fer_lab.protocols import leave_one_domain_out, subject_kfold
from fer_lab.sequences import synthetic_sequences
from fer_lab.splits import LeakError, group_names
from fer_lab.stills import read_ck48
from fer_lab.synthetic import synthetic_faces

CASME = LabelSpace("casme", ("happiness", "disgust", "repression", "surprise", "others"))
SMIC = LabelSpace("smic", ("positive", "negative", "surprise"))


def noise(name, space, labels, seed=0, size=6, **fields):
    rng = np.random.default_rng(seed)
    labels = np.array(labels)
    meta = pd.DataFrame({"subject": [f"S{i % 4}" for i in range(len(labels))]})
    frames = rng.integers(0, 256, (len(labels), 1, size, size), dtype=np.uint8)
    return FaceSet(name, frames, labels, space, meta, **fields)


def test_contempt_of_ck_is_never_neutral_of_fer2013():
    ours = harmonise([noise("fer", FER7, range(7)), noise("ck", SIX_CONTEMPT, range(7))], "common-6+neutral")
    fer, ck = ours.sets
    assert fer.labels.tolist() == list(range(7)) and ck.labels.tolist() == list(range(6))
    assert ours.dropped[["set", "class", "items"]].to_numpy().tolist() == [["ck", "contempt", 1]]


@given(st.lists(st.integers(-1, 7), min_size=1, max_size=30), st.sampled_from(sorted(SPACES)))
def test_every_item_is_kept_under_its_own_name_or_listed(labels, key):
    faces, space = noise("x", EIGHT, labels), SPACES[key]
    fits = [k >= 0 and counterpart(EIGHT.classes[k], space) is not None for k in labels]
    if not any(fits):
        with pytest.raises(SpaceError, match="nothing of x"):
            harmonise([faces], key)
        return
    ours = harmonise([faces], key)
    kept = ours.sets[0]
    assert kept.meta["id"].tolist() == faces.meta["id"][fits].tolist() and kept.space == space
    assert len(kept) + ours.dropped["items"].sum() == len(faces) == ours.table["items"].sum()
    for old, new in zip(faces.labels[fits], kept.labels):
        assert counterpart(EIGHT.classes[old], space) == space.classes[new]


def test_micro_expressions_of_three_sets_meet_in_three_classes():
    sets = [noise("casme", CASME, range(5)), noise("smic", SMIC, range(3)), noise("fer", FER7, range(7))]
    ours = harmonise(sets, MICRO3)
    names = [[MICRO3.classes[k] for k in faces.labels] for faces in ours.sets]
    assert names == [["positive", "negative", "negative", "surprise"], ["positive", "negative", "surprise"],
                     ["negative"] * 3 + ["positive", "negative", "surprise"]]
    assert ours.dropped[["set", "class"]].to_numpy().tolist() == [["casme", "others"], ["fer", "neutral"]]
    five = harmonise([noise("casme", CASME, range(5))], "micro-5").sets[0]
    assert [MICRO5.classes[k] for k in five.labels] == ["positive", "negative", "repression", "surprise", "others"]


def test_joined_sets_keep_people_apart_and_pixels_in_place():
    clips = noise("b", FER7, [0, 1, 2, 6, 0, 1, 2, 3, 4, 5], seed=2)
    moving = FaceSet("moving", clips.frames, [3, 6, 5], FER7, pd.DataFrame({"subject": ["S0", None, "S1"]}),
                     spans=[[4, 7], [0, 2], [7, 9]])
    ours = harmonise([noise("a", SIX_CONTEMPT, range(7)), moving], "common-6+neutral")
    faces = ours.joined()
    assert faces.name == "a+moving" and faces.meta.dataset.tolist() == ["a"] * 6 + ["moving"] * 3
    assert faces.meta["id"].is_unique and not faces.is_still
    assert all(np.array_equal(faces.sequence(6 + i), moving.sequence(i)) for i in range(3))
    assert group_names(faces, "subject")[[0, 6]].tolist() == ["a:S0", "moving:S0"]
    assert group_names(faces, "subject")[7] is None
    with pytest.raises(SpaceError, match="one size"):
        harmonise([noise("a", FER7, [0]), noise("b", FER7, [0], size=8)], FER7).joined()


def test_a_whole_data_set_can_be_left_out():
    sets = [noise(name, FER7, list(range(7)) * 2, seed=k) for k, name in enumerate("abc")]
    splits = leave_one_domain_out(harmonise(sets, "common-6").joined(), by="dataset")
    assert [split.protocol.split(", ")[2] for split in splits] == ["a out", "b out", "c out"]
    assert all(len(split.test_index) == 12 for split in splits)


def test_unknown_spaces_and_equal_names_are_refused():
    with pytest.raises(SpaceError, match="'seven'.*common-6"):
        harmonise([noise("a", FER7, [0])], "seven")
    with pytest.raises(SpaceError, match="name of its own"):
        harmonise([noise("a", FER7, [0]), noise("a", FER7, [1])], FER7)


FIXTURES = Path(__file__).parents[2] / "data" / "fixtures"


def oulu_in_two_lights(folder):
    light = folder / "PreProcess_Img" / "VL_Acropped"
    shutil.copytree(FIXTURES / "oulu", folder)
    shutil.copytree(light / "Strong", light / "Dark")
    for path in sorted((light / "Dark").rglob("*.jpeg")):  # another recording: not the same pixels
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    return [replace(read_oulu(folder, cameras=("VL",), lights=(name,)), name=name) for name in ("Strong", "Dark")]


SAME_CAST = {
    "CK+ and CK+48": (lambda _: [read_ckplus(FIXTURES / "ckplus"), read_ck48(FIXTURES / "ck48")], "ckplus:S010"),
    "Oulu-CASIA in two lights": (lambda folder: oulu_in_two_lights(folder / "oulu"), "oulu:P001"),
    "drawn stills and drawn clips": (lambda _: [synthetic_faces(40, seed=3, mask=False, subjects=4),
                                                synthetic_sequences(12, seed=3, subjects=4)], "drawn:3:S000"),
}


@pytest.mark.parametrize("what", SAME_CAST)
def test_one_person_in_two_sets_is_one_person_and_a_set_left_out_would_leak(what, tmp_path):
    sets, person = SAME_CAST[what]
    faces = harmonise([faces.peaks() for faces in sets(tmp_path)], "common-6").joined()
    assert person in set.intersection(*(set(part.subject) for _, part in faces.meta.groupby("dataset")))
    assert faces.meta["id"].is_unique
    with pytest.raises(LeakError, match="subject"):
        leave_one_domain_out(faces, by="dataset", val=0)
    for split in subject_kfold(faces, 2, val=0, stratify=False, allows={"missing class": "two people"}):
        sides = [set(faces.meta.subject.iloc[index]) for index in (split.train_index, split.test_index)]
        assert not sides[0] & sides[1]
