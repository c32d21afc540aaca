"""Every protocol: who stands where, against scikit-learn's own splitters, and planted leaks on every pair of sides."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold

from fer_lab.faceset import FER7, FaceSet
from fer_lab.harmonise import harmonise
from fer_lab.protocols import (
    CARELESS_RULES,
    frame_random,
    grouped_kfold,
    inner_folds,
    leave_one_domain_out,
    loso,
    out_of_fold,
    subject_kfold,
)
from fer_lab.splits import PAIRS, LeakError, MissingClass, Split, SplitError, group_names, holdout, official
from fer_lab.synthetic import synthetic_faces


def clips(people=12, each=4, frames=3, seed=0, classes=4):
    """Stills of clips: `people` subjects with `each` clips of `frames` frames, three domains with their own people."""
    n, rng = people * each * frames, np.random.default_rng(seed)
    who = np.repeat(np.arange(people), each * frames)
    clip = np.tile(np.repeat(np.arange(each), frames), people)  # clip 0 exists for everybody
    usage = np.array(["Training", "PublicTest", "PrivateTest"])[who % 3]
    meta = pd.DataFrame({"subject": [f"S{w:03d}" for w in who], "sequence": clip, "usage": usage,
                         "domain": np.array(list("ABC"))[who % 3]})
    labels = (clip + who) % classes
    return FaceSet("clips", rng.integers(0, 256, (n, 1, 6, 6), dtype=np.uint8), labels, FER7, meta)


PROTOCOLS = {
    "subject_kfold": lambda faces: subject_kfold(faces, 3, seed=1)[0],
    "subject_kfold, not stratified": lambda faces: subject_kfold(faces, 3, seed=1, stratify=False)[1],
    "by sequence": lambda faces: grouped_kfold(faces, 3, by="sequence", allows={"subject": "clips are divided"})[0],
    "loso": lambda faces: loso(faces)[2],
    "leave_one_domain_out": lambda faces: leave_one_domain_out(faces)[1],
    "frame_random": lambda faces: frame_random(faces, 3, seed=1)[0],
    "inner_folds": lambda faces: inner_folds(subject_kfold(faces, 3)[0], 2)[1],
    "holdout": lambda faces: holdout(faces),
    "official": lambda faces: official(faces),
}
RULES = ("subject", "sequence", "identical image")


def with_leak(split, rule, first, second):
    """The faces of a split after one item of `second` was made to share `rule` with one of `first`."""
    faces, meta, frames = split.faces, split.faces.meta.copy(), split.faces.frames.copy()
    source, target = getattr(split, f"{first}_index")[0], getattr(split, f"{second}_index")[-1]
    if rule == "identical image":
        frames[target] = frames[source]
    else:
        columns = ["subject", "sequence"] if rule == "sequence" else ["subject"]
        meta.loc[target, columns] = meta.loc[source, columns].to_numpy()
        if rule == "subject":
            meta.loc[target, "sequence"] = 999  # a clip of its own
    return replace(faces, meta=meta, frames=frames)


@pytest.mark.parametrize("sides", PAIRS, ids="-".join)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_planted_leak_is_refused_or_was_named_by_the_protocol(protocol, rule, sides):
    split = PROTOCOLS[protocol](clips())
    leaky = with_leak(split, rule, *sides)
    before = split.leaks().set_index(["rule", "side", "other side"])["items shared"]
    index = {f"{side}_index": getattr(split, f"{side}_index") for side in ("train", "val", "test")}

    def again(allows):
        return Split(leaky, split.protocol, **index, allows=allows)

    others = {name: "only one rule is tested" for name in RULES if name != rule}
    if rule in split.allows:
        assert again(dict(split.allows)).allows[rule]
    with pytest.raises(LeakError, match=rule):
        again(others)
    found = again(others | {rule: "planted"}).leaks().set_index(["rule", "side", "other side"])["items shared"]
    assert found[(rule, *sides)] >= 1 and (rule in split.allows or before[(rule, *sides)] == 0)


@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS) - {"official", "inner_folds"}))
def test_a_picture_repeated_on_all_sides_stops_every_protocol_that_does_not_name_it(protocol):
    split = PROTOCOLS[protocol](clips())
    frames = split.faces.frames.copy()
    frames[split.test_index[0]] = frames[split.train_index[0]]
    with pytest.raises(LeakError, match="identical image"):
        PROTOCOLS[protocol](replace(split.faces, frames=frames))


def test_a_person_in_two_domains_stops_leaving_a_domain_out_until_it_is_named():
    faces = clips()
    meta = faces.meta.copy()
    meta.loc[0, "domain"] = "B"
    shared = replace(faces, meta=meta)
    with pytest.raises(LeakError, match="subject"):
        leave_one_domain_out(shared, val=0)
    with pytest.raises(LeakError, match="sequence"):
        leave_one_domain_out(shared, val=0, allows={"subject": "one guest"})
    named = leave_one_domain_out(shared, val=0, allows={"subject": "one guest", "sequence": "one guest"})
    assert len(named) == 3 and named[0].allows["subject"] == "one guest"


def test_leaving_a_domain_out_of_drawn_faces_names_an_honest_way_that_works():
    with pytest.raises(LeakError, match="seed of its own.*subject_kfold"):
        leave_one_domain_out(synthetic_faces(40, mask=False, subjects=5))
    own = [replace(synthetic_faces(14, seed=k, mask=False, domain=d), name=d) for k, d in enumerate("AB")]
    joined = harmonise(own, FER7).joined()
    assert len(leave_one_domain_out(joined, val=0)) == 2 and len(subject_kfold(joined, 2)) == 2


def test_frame_random_names_exactly_what_it_breaks():
    split = frame_random(clips(), 3)[0]
    assert set(split.allows) == set(CARELESS_RULES) == {"subject", "sequence"} and all(split.allows.values())
    assert split.protocol.startswith("frame-random") and split.leaks().query("rule == 'sequence'")["items shared"].min()


ALL_FOLDS = {
    "subject_kfold": lambda faces, seed, val: subject_kfold(faces, 3, seed=seed, val=val),
    "GroupKFold": lambda faces, seed, val: subject_kfold(faces, 3, seed=seed, val=val, stratify=False),
    "sequence": lambda faces, seed, val: grouped_kfold(faces, 3, by="sequence", seed=seed, val=val,
                                                       allows={"subject": "clips are divided"}),
    "loso": lambda faces, seed, val: loso(faces, seed=seed, val=val),
    "domain": lambda faces, seed, val: leave_one_domain_out(faces, seed=seed, val=val),
    "frame_random": lambda faces, seed, val: frame_random(faces, 3, seed=seed, val=val),
}
KEPT_WHOLE = {"subject_kfold": "subject", "GroupKFold": "subject", "sequence": "sequence", "loso": "subject",
              "domain": "subject"}


@pytest.mark.parametrize("protocol", ALL_FOLDS)
@settings(deadline=None, max_examples=4)
@given(people=st.integers(6, 10), frames=st.integers(1, 3), seed=st.integers(0, 1000),
       val=st.sampled_from([0, 0.1, 0.3]))
def test_everybody_is_tested_once_nobody_is_lost_and_groups_stay_whole(protocol, people, frames, seed, val):
    faces = clips(people, 4, frames)
    labels = faces.labels.copy()
    labels[seed % len(labels)] = -1
    faces = replace(faces, labels=labels)
    folds, labelled = ALL_FOLDS[protocol](faces, seed, val), np.flatnonzero(labels >= 0)
    assert sorted(np.concatenate([fold.test_index for fold in folds])) == list(labelled)
    for fold in folds:
        sides = [fold.train_index, fold.val_index, fold.test_index]
        assert sorted(np.concatenate(sides)) == list(labelled) and all(map(len, sides[::2]))
        assert bool(val) == bool(len(fold.val_index))
        if protocol in KEPT_WHOLE:
            names = group_names(faces, KEPT_WHOLE[protocol])
            groups = [set(names[side]) for side in sides]
            assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert len({fold.protocol for fold in folds}) == len({fold.fingerprint for fold in folds}) == len(folds)


@pytest.mark.parametrize("protocol", ALL_FOLDS)
def test_the_same_seed_gives_the_same_folds_and_another_seed_others(protocol):
    faces = clips()

    def prints(seed):
        return [fold.fingerprint for fold in ALL_FOLDS[protocol](faces, seed, 0.2)]

    assert prints(5) == prints(5) != prints(6)


def test_fingerprints_follow_membership_not_the_name():
    split = subject_kfold(clips(), 3)[0]
    renamed = replace(split, protocol="another name")
    swapped = replace(split, train_index=split.val_index, val_index=split.train_index)
    assert renamed.fingerprint == split.fingerprint != swapped.fingerprint


def test_test_folds_are_those_of_scikit_learn():
    faces, seed = clips(), 4
    y, who, where = faces.labels, faces.meta.subject.to_numpy(), faces.meta.domain.to_numpy()
    theirs = {
        "subject_kfold": StratifiedGroupKFold(3, shuffle=True, random_state=seed).split(y, y, who),
        "GroupKFold": GroupKFold(3, shuffle=True, random_state=seed).split(y, y, who),
        "loso": LeaveOneGroupOut().split(y, y, who),
        "domain": LeaveOneGroupOut().split(y, y, where),
        "frame_random": StratifiedKFold(3, shuffle=True, random_state=seed).split(y, y),
    }
    for protocol, expected in theirs.items():
        ours = ALL_FOLDS[protocol](faces, seed, 0)
        for fold, (train, test) in zip(ours, expected, strict=True):
            assert fold.train_index.tolist() == train.tolist() and fold.test_index.tolist() == test.tolist()


def test_protocols_say_everything_that_was_chosen():
    split = subject_kfold(clips(), 3, seed=7, val=0.2)[1]
    assert split.protocol == ("3 folds by subject, stratified, seed 7, fold 2, "
                              "20% of the training subjects for validation")
    assert loso(clips(), val=0)[2].protocol == "leave one subject out, S002 out"
    assert "seed 3" in frame_random(clips(), 3, seed=3)[0].protocol


def test_inner_folds_share_out_the_training_side_and_never_touch_the_test():
    outer = subject_kfold(clips(), 3)[0]
    inner = inner_folds(outer, 4, seed=2)
    inside = sorted([*outer.train_index, *outer.val_index])
    assert sorted(np.concatenate([fold.val_index for fold in inner])) == inside
    for fold in inner:
        assert sorted([*fold.train_index, *fold.val_index]) == inside
        assert fold.test_index.tolist() == outer.test_index.tolist()


def test_answers_of_folds_come_back_in_the_order_of_the_faces():
    faces = clips()
    folds = frame_random(faces, 4)
    index, answers = out_of_fold(folds, [fold.test_index * 10 for fold in folds])
    assert index.tolist() == list(range(len(faces))) and answers.tolist() == (index * 10).tolist()
    with pytest.raises(SplitError, match="one answer a test face"):
        out_of_fold(folds, [fold.test_index[1:] for fold in folds])
    with pytest.raises(SplitError, match="two folds"):
        out_of_fold([*folds, folds[0]], [fold.test_index for fold in [*folds, folds[0]]])
    with pytest.raises(SplitError, match="different faces"):
        other = frame_random(clips(seed=1), 4)
        out_of_fold([*folds[:2], *other[2:]], [fold.test_index for fold in [*folds[:2], *other[2:]]])


@pytest.mark.filterwarnings("error::fer_lab.splits.MissingClass")
def test_a_class_only_one_person_shows_is_warned_of_by_name_or_named():
    faces = clips()
    only = np.where(faces.meta.subject == "S003", 5, faces.labels)
    faces = replace(faces, labels=only)
    with pytest.warns(MissingClass, match="surprise never occurs in train"):
        folds = loso(faces, val=0)
    assert [fold.untaught for fold in folds if fold.untaught] == [("surprise",)]
    assert len(loso(faces, val=0, allows={"missing class": "shown by one person"})) == 12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: subject_kfold(f, 13), "2 to 12"),
        (lambda f: subject_kfold(f, 1), "2 to 12"),
        (lambda f: grouped_kfold(f, 3, by="person"), "no meta column 'person'"),
        (lambda f: loso(f, val=1), "0 to below 1"),
        (lambda f: leave_one_domain_out(f.subset(f.meta.domain == "A")), "different values of 'domain'"),
        (lambda f: subject_kfold(f.subset(f.meta.subject < "S002"), 2), "second subject"),
        (lambda f: loso(replace(f, labels=np.full(len(f), -1))), "no labelled items"),
        (lambda f: loso(replace(f, meta=f.meta.assign(subject=[None, *f.meta.subject[1:]]))), "1 of 144 items"),
    ],
)
def test_what_cannot_be_divided_is_refused_with_the_reason(call, message):
    with pytest.raises(SplitError, match=message):
        call(clips())


def test_an_unknown_person_is_not_the_same_as_another_unknown_person():
    faces = clips()
    meta = faces.meta.copy()
    meta["subject"] = [None if w in ("S000", "S001") else w for w in meta.subject]
    faces = replace(faces, meta=meta.drop(columns="sequence"))
    index = np.arange(len(faces))
    split = Split(faces, "by hand", index[24:], index[:12], index[12:24])  # both unknown people, on two sides
    assert split.leaks().query("rule == 'subject'")["items shared"].sum() == 0
