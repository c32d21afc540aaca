"A split refuses what stands on two sides, by every rule, and writes down each opening of its test set."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_lab.faceset import FER7, FaceSet
from fer_lab.splits import LeakError, Split, SplitError, every_seventh, holdout, official, split_for


def people(n_people=8, each=5, seed=0, **meta):
    n, rng = n_people * each, np.random.default_rng(seed)
    columns = {"subject": np.repeat([f"S{i}" for i in range(n_people)], each)} | meta
    return FaceSet(
        "people", rng.integers(0, 256, (n, 1, 5, 5), dtype=np.uint8), rng.integers(0, 7, n), FER7, pd.DataFrame(columns)
    )


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 12), st.integers(1, 4), st.integers(0, 100))
def test_holdout_puts_each_person_on_one_side_and_loses_nobody(n_people, each, seed):
    faces = people(n_people, each)
    split = holdout(faces, seed=seed)
    sides = [set(faces.meta.subject.iloc[i]) for i in (split.train_index, split.val_index, split.test_index)]
    assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    everyone = np.concatenate([split.train_index, split.val_index, split.test_index])
    assert sorted(everyone) == list(range(len(faces)))


def test_same_seed_same_split_other_seed_other_split():
    faces = people()
    assert holdout(faces, seed=3).fingerprint == holdout(faces, seed=3).fingerprint
    assert len({holdout(faces, seed=s).fingerprint for s in range(6)}) > 1


@given(st.integers(2, 40), st.integers(0, 3))
def test_every_seventh_person_validates_and_nobody_tests(n_people, seed):
    split = every_seventh(people(n_people, 3, seed))
    val = set(split.val.meta["subject"])
    assert len(val) == -(-n_people // 7) and not val & set(split.train.meta["subject"])
    assert len(split.train) + len(split.val) == 3 * n_people and not len(split.test_index)


def test_one_frame_copied_into_another_clip_is_a_leak():
    frames = np.random.default_rng(1).integers(0, 256, (12, 1, 5, 5), dtype=np.uint8)
    who, spans = pd.DataFrame({"subject": list("ABC")}), [[0, 4], [4, 8], [8, 12]]

    def split():
        faces = FaceSet("clips", frames, [0, 0, 0], FER7, who, spans=spans)
        return Split(faces, "by hand", [0], [1], [2])

    assert split().leaks()["items shared"].sum() == 0
    frames[11] = frames[1]  # neither the first frame nor the last, and at another place
    with pytest.raises(LeakError, match="1 item.* of test share a identical image with train"):
        split()


@pytest.mark.parametrize("sides", [("train", "val"), ("train", "test"), ("val", "test")])
@pytest.mark.parametrize("rule", ["subject", "sequence", "identical image"])
def test_a_planted_leak_is_refused(rule, sides):
    faces = people(3, 6, sequence=np.arange(18))
    index = {"train": np.arange(6), "val": np.arange(6, 12), "test": np.arange(12, 18)}
    frames, meta = faces.frames.copy(), faces.meta.copy()
    source, target = index[sides[0]][0], index[sides[1]][-1]
    if rule == "identical image":
        frames[target] = frames[source]
    else:
        meta.loc[target, ["subject", "sequence"] if rule == "sequence" else ["subject"]] = meta.loc[source]
    leaky = FaceSet("leaky", frames, faces.labels, FER7, meta)
    allowed = {"subject": "only the clip is tested here"} if rule == "sequence" else {}
    with pytest.raises(LeakError, match=rule):
        Split(leaky, "by hand", **{f"{k}_index": v for k, v in index.items()}, allows=allowed)
    split = Split(
        leaky, "by hand", **{f"{k}_index": v for k, v in index.items()}, allows=allowed | {rule: "shown on purpose"}
    )
    row = split.leaks().query("rule == @rule and side == @sides[0] and `other side` == @sides[1]").iloc[0]
    assert row["items shared"] == 1 and row["allowed because"] == "shown on purpose"


def test_the_same_item_on_two_sides_can_never_be_allowed():
    with pytest.raises(LeakError, match="two sides"):
        Split(people(), "by hand", [0, 1], [1, 2], [3], allows=dict.fromkeys(["subject", "identical image"], "because"))


def test_positions_outside_the_faces_are_refused():
    with pytest.raises(SplitError, match=r"0\.\.39"):
        Split(people(), "by hand", [0], [1], [40], allows={"subject": "only positions are tested here"})


def test_holdout_names_the_columns_there_are_and_needs_three_groups():
    with pytest.raises(SplitError, match="'person'.*subject"):
        holdout(people(), by="person")
    with pytest.raises(SplitError, match="at least 3"):
        holdout(people(2))


def usage_faces(usage):
    rng = np.random.default_rng(0)
    return FaceSet(
        "fer",
        rng.integers(0, 256, (len(usage), 1, 5, 5), dtype=np.uint8),
        np.arange(len(usage)) % 7,
        FER7,
        pd.DataFrame({"usage": usage}),
    )


def test_official_takes_the_sides_of_the_data_set_and_keeps_its_repeats_by_name():
    faces = usage_faces(["Training"] * 6 + ["PublicTest"] * 2 + ["PrivateTest"] * 2)
    frames = faces.frames.copy()
    frames[9] = frames[0]
    split = split_for(FaceSet("fer", frames, faces.labels, FER7, faces.meta))
    assert split.protocol == "official" and list(split.test_index) == [8, 9]
    assert "comparable" in split.allows["identical image"]
    assert split.leaks().query("`other side` == 'test' and side == 'train'")["items shared"].item() == 1


def test_official_without_a_test_side_says_which_is_missing():
    with pytest.raises(SplitError, match="PrivateTest"):
        official(usage_faces(["Training"] * 6 + ["PublicTest"] * 2))
    with pytest.raises(SplitError, match="Training, PublicTest, PrivateTest"):
        official(people())


def test_every_opening_of_the_test_set_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_LAB_STATE_DIR", str(tmp_path))
    split, other = holdout(people()), holdout(people(seed=1))
    assert len(split.openings()) == 0
    test = split.open_test("a")
    assert sorted(test.meta["id"]) == sorted(split.faces.meta["id"].iloc[split.test_index])
    split.open_test("b", purpose="again")
    other.open_test("a")
    assert len(split.openings()) == 2 and len(split.openings("a")) == 1 and len(other.openings()) == 1
    assert not hasattr(split, "test")


def numbered(n, **meta):
    pixels = np.random.default_rng(3).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)
    return FaceSet("given", pixels, np.arange(n) % 7, FER7, meta=pd.DataFrame(meta, index=range(n)))


def test_a_published_test_side_stays_and_val_comes_from_training():
    usage = np.where(np.arange(90) < 60, "Training", "Test")
    split = split_for(numbered(90, usage=usage))
    assert (split.test_index == np.arange(60, 90)).all() and "val cut from Training" in split.protocol
    assert sorted([*split.train_index, *split.val_index]) == list(range(60))


def test_one_labelled_side_is_divided_and_identical_images_stay_together():
    faces = numbered(80, usage="Training")
    pixels = faces.frames.copy()
    pixels[1::2] = pixels[::2]  # every image twice
    labels = np.where(np.arange(80) < 70, faces.labels, -1)
    split = split_for(FaceSet("given", pixels, labels, FER7, meta=faces.meta))
    sides = [{i // 2 for i in side} for side in (split.train_index, split.val_index, split.test_index)]
    assert sum(map(len, sides)) == 35 and set().union(*sides) == set(range(35))
    assert "people unknown" in split.protocol


def test_without_sides_and_people_images_are_divided():
    split = split_for(numbered(40))
    assert len(split.train_index) + len(split.val_index) + len(split.test_index) == 40 and "image" in split.protocol


def test_an_incomplete_fer2013_says_so_beside_every_number():
    faces = numbered(30, usage=np.repeat(["Training", "PublicTest", "PrivateTest"], 10))
    assert split_for(faces).protocol == "official"
    copy = FaceSet("fer2013", faces.frames, faces.labels, FER7, meta=faces.meta)
    assert split_for(copy).protocol == "official, of an incomplete copy (10/10/10 images)"


def test_holdout_leaves_unlabelled_items_out_of_all_sides():
    faces = people(6, 4)
    labels = faces.labels.copy()
    labels[::5] = -1
    split = holdout(FaceSet("some", faces.frames, labels, FER7, faces.meta))
    everyone = np.concatenate([split.train_index, split.val_index, split.test_index])
    assert sorted(everyone) == np.flatnonzero(labels >= 0).tolist()
    labels[faces.meta.subject > "S1"] = -1
    with pytest.raises(SplitError, match="labelled items"):
        holdout(FaceSet("few", faces.frames, labels, FER7, faces.meta))


@pytest.mark.parametrize("shares", [(0.1, 1.0), (0.1, 0), (0, 0.1), (0.6, 0.5), (-0.1, 0.2), (0.1, float("nan"))])
def test_shares_that_leave_a_side_empty_are_refused(shares):
    with pytest.raises(SplitError, match="is a share of the groups"):
        holdout(people(), val=shares[0], test=shares[1])


def test_the_sides_cannot_be_changed_after_the_check():
    split, mine = holdout(people()), np.arange(10)
    with pytest.raises(ValueError, match="read-only"):
        split.test_index[0] = split.train_index[0]
    Split(people(), "by hand", mine, np.arange(10, 20), np.arange(20, 30))
    mine[0] = 1  # the caller's own array stays the caller's
