"""Drawn clips: the same bytes in any batch, up to the apex and down again; micro means weak, short, in one region."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_lab.faceset import FER7, LabelSpace
from fer_lab.sequences import (
    FACE_REGIONS,
    filmed,
    micro_expressions,
    sample_micro,
    sample_timeline,
    synthetic_sequences,
)
from fer_lab.splits import holdout
from fer_lab.synthetic import AU_NAMES, FaceError, render, sample_params, synthetic_faces

seeds, numbers = st.integers(0, 2**40), st.integers(0, 10**6)


@settings(max_examples=8)
@given(seeds, numbers, st.integers(1, 3), st.integers(1, 3), st.sampled_from([synthetic_sequences, micro_expressions]))
def test_a_clip_has_the_same_bytes_in_any_batch(seed, start, before, after, make):
    whole = make(before + after, seed=seed, start=start, frames=(5, 9))
    tail = make(after, seed=seed, start=start + before, frames=(5, 9))
    for k in range(after):
        a, b = whole.spans[before + k], tail.spans[k]
        for field in ("frames", "landmarks", "aus"):
            assert (getattr(whole, field)[slice(*a)] == getattr(tail, field)[slice(*b)]).all()
    assert whole.meta.iloc[before:].reset_index(drop=True).equals(tail.meta)
    assert whole.subset(range(before, before + after)).fingerprint == tail.fingerprint


@settings(max_examples=60)
@given(seeds, st.integers(4, 30), st.integers(0, 30), st.sampled_from([(0.7, 1.0), (0.22, 0.42)]))
def test_the_marks_are_in_order_and_inside(seed, low, more, moving):
    marks = sample_timeline(seed, np.arange(50), (low, low + more), moving)
    assert ((marks.length >= low) & (marks.length <= low + more)).all()
    assert ((marks.onset >= 0) & (marks.onset < marks.apex) & (marks.apex < marks.offset)).all()
    assert (marks.offset < marks.length).all()


@settings(max_examples=30)
@given(seeds, numbers, st.integers(4, 24))
def test_every_muscle_grows_to_the_apex_and_falls_after_it(seed, start, longest):
    p = sample_params(7, seed, start=start, intensity="high")
    marks = sample_timeline(seed, p.index.numpy(), (4, longest), (0.7, 1.0))
    film = filmed(p, marks, 12, 1.0)
    at = np.concatenate([[0], marks.length.cumsum()])
    for k in range(7):
        aus = film.aus[at[k]:at[k + 1]]
        steps = aus.diff(dim=0)
        assert torch.equal(aus[marks.apex[k]], p.aus[k]), "the apex is the still with the same number"
        assert (steps[:marks.apex[k]] >= -1e-6).all() and (steps[marks.apex[k]:] <= 1e-6).all()
        assert not aus[:marks.onset[k] + 1].any() and not aus[marks.offset[k]:].any()


def test_muscles_keep_their_own_time():
    p = sample_params(1, 0).with_aus(AU1=1.0, AU12=1.0, AU25=1.0)
    marks = sample_timeline(0, np.arange(1), (40, 40), (0.9, 1.0))
    shown = filmed(p, marks, 30, 1.0).aus[:, [AU_NAMES.index(name) for name in ("AU1", "AU12", "AU25")], 0]
    firsts = (shown > 0.5).int().argmax(0)
    assert len(set(firsts.tolist())) == 3


def test_person_light_and_place_stay_and_the_grain_does_not():
    p = sample_params(3, seed=1)
    marks = sample_timeline(1, p.index.numpy(), (8, 16), (0.7, 1.0))
    film = filmed(p, marks, 12, 1.0)
    which = torch.from_numpy(np.repeat(np.arange(3), marks.length))
    for name in ("identity", "light", "camera", "state", "occluder", "subject", "domain", "index"):
        assert torch.equal(getattr(film, name), getattr(p, name)[which]), name
    still = replace(p, aus=torch.zeros_like(p.aus), camera=p.camera + torch.tensor([0.02, 0, 0]))
    images = render(filmed(still, marks, 12, 0.0), 48)[0].float()
    change = (images[1:marks.length[0]] - images[0]).abs()
    assert (change.mean((1, 2, 3)) > 1).all(), "a camera's noise is new in every frame"
    quiet = replace(still, camera=torch.zeros_like(p.camera))
    images = render(filmed(quiet, marks, 12, 0.0), 48)[0]
    assert torch.equal(images[0], images[1]), "nothing else moves while the head is held still"


def test_the_head_moves_a_little_and_smoothly():
    p = sample_params(40, seed=2)
    marks = sample_timeline(2, p.index.numpy(), (16, 16), (0.7, 1.0))
    pose = filmed(p, marks, 12, 1.0).pose.unflatten(0, (40, 16))
    around = (pose - p.pose[:, None]).abs().amax((0, 1))
    assert (around[:3] < torch.tensor([2.01, 1.51, 1.21])).all() and (around[:3] > 0.5).all()
    assert (around[3:] < 0.01).all()
    assert pose[..., 0].diff(dim=1).abs().max() < 1.0, "no jump of the head from one frame to the next"


def test_a_set_of_clips_knows_everything_about_its_frames():
    faces = synthetic_sequences(14, 64, seed=5, mask=True)
    lengths = np.diff(faces.spans)[:, 0]
    assert lengths.min() >= 8 and lengths.max() <= 16 and len(set(lengths)) > 3, "clips are ragged"
    assert faces.frames.shape == (lengths.sum(), 1, 64, 64) and faces.frames.dtype == np.uint8
    assert faces.landmarks.shape == (lengths.sum(), 68, 2) and faces.aus.shape == (lengths.sum(), 20)
    assert {"id", "subject", "sequence", "onset", "apex", "offset", "fps", "intensity", "domain"} <= set(faces.meta)
    assert faces.meta["sequence"].is_unique and (faces.counts() == 2).all()
    first, last = faces.spans[:, 0], faces.spans[:, 1] - 1
    assert not faces.regions[first].any() and not faces.regions[last].any(), "at rest nothing has moved"
    peaks = faces.peaks()
    assert (faces.aus.sum(1)[peaks.spans[:, 0]] >= [faces.aus[a:b].sum(1).max() - 1e-5 for a, b in faces.spans]).all()
    stills = synthetic_faces(14, 64, seed=5, mask=False)
    assert (faces.aus[peaks.spans[:, 0]] == stills.aus).all() and (faces.meta.subject == stills.meta.subject).all()


def test_a_split_keeps_a_clip_together():
    faces = synthetic_sequences(60, seed=2, subjects=12, frames=(4, 6))
    split = holdout(faces)
    assert not set(split.train.meta["sequence"]) & set(split.val.meta["sequence"])
    assert not set(split.train.meta.subject) & set(split.val.meta.subject)


@settings(max_examples=25)
@given(seeds, numbers)
def test_micro_is_weak_and_in_one_region(seed, start):
    classes = ("happiness", "sadness", "surprise", "fear", "anger", "disgust", "contempt", "neutral")
    labels = np.arange(40) % 8
    aus, regions = sample_micro(seed, np.arange(start, start + 40), labels, classes)
    for strength, region, label in zip(aus, regions, labels):
        shown = {AU_NAMES[k] for k in np.flatnonzero(strength.any(1))}
        assert shown <= set(FACE_REGIONS.get(region, ()))
        assert bool(shown) == (classes[label] != "neutral") == (region != "none")
        assert ((strength == 0) | ((strength >= 0.0999) & (strength <= 0.3))).all()
        if classes[label] == "contempt":
            assert (strength.any(0).sum()) == 1, "contempt is one-sided"


def test_micro_expressions_are_short_and_say_where_they_are():
    faces = micro_expressions(70, seed=3)
    assert set(faces.meta.region) == {"brow", "eyes", "nose-cheek", "mouth", "none"}
    assert set(faces.meta.intensity) == {"micro"} and set(faces.meta.domain) == {"A"}
    seconds = (faces.meta.offset - faces.meta.onset) / faces.meta.fps
    assert seconds.max() <= 0.5, "Yan and others (2013): over within half a second"
    for (a, b), label in zip(faces.spans, faces.labels):
        shown = faces.aus[a:b].any(1).sum()
        assert shown < 0.5 * (b - a) and (shown > 0) == (FER7.classes[label] != "neutral")
    assert faces.aus.max() <= 0.3


def test_wrong_labels_are_as_many_as_asked_and_the_truth_is_kept():
    faces = synthetic_faces(1400, mask=False)
    noisy = faces.mislabelled(0.3)
    wrong = noisy.labels != noisy.meta.true_label
    assert (noisy.meta.true_label == faces.labels).all() and 0.26 < wrong.mean() < 0.34
    taken = np.bincount((noisy.labels - faces.labels)[wrong] % 7, minlength=7)
    assert taken[0] == 0 and taken[1:].min() > 0.6 * taken[1:].mean(), "all other classes are equally likely"
    half = faces.subset(range(700, 1400)).mislabelled(0.3)
    assert (half.labels == noisy.labels[700:]).all(), "a mistake belongs to the face, not to the batch"
    more = faces.mislabelled(0.6)
    assert (more.labels[wrong] == noisy.labels[wrong]).all(), "a larger share keeps the mistakes of a smaller one"
    assert (faces.mislabelled(0.3, seed=1).labels != noisy.labels).any()
    assert (faces.mislabelled(0).labels == faces.labels).all()
    assert (faces.mislabelled(1).labels != faces.labels).all()
    assert (noisy.mislabelled(0.5, seed=2).meta.true_label == faces.labels).all(), "the truth survives a second mistake"


def test_wrong_labels_of_clips_and_of_unlabelled_faces():
    clips = micro_expressions(14, frames=(8, 8))
    clips = replace(clips, labels=np.where(np.arange(14) < 7, -1, clips.labels))
    noisy = clips.mislabelled(1.0)
    assert (noisy.labels[:7] == -1).all() and (noisy.labels[7:] != clips.labels[7:]).all()


@pytest.mark.parametrize("how, words", [
    ({"frames": (3, 8)}, "4 frames or more"), ({"frames": (9, 8)}, "frames=\\(9, 8\\)"),
    ({"fps": 0}, "fps must be positive"), ({"sway": 9}, "sway=9"),
    ({"domain": "E"}, "A, B, C, D"), ({"space": LabelSpace("odd", ("joy",))}, "joy")])
@pytest.mark.parametrize("make", [synthetic_sequences, micro_expressions])
def test_what_cannot_be_filmed_is_refused_with_what_can(make, how, words):
    with pytest.raises(FaceError, match=words):
        make(2, **how)


def test_shares_beyond_one_and_single_classes_are_refused():
    faces = synthetic_faces(7, mask=False)
    with pytest.raises(FaceError, match="got 1.5 and 7 classes"):
        faces.mislabelled(1.5)
    with pytest.raises(FaceError, match="1 classes"):
        synthetic_faces(2, space=LabelSpace("one", ("anger",)), mask=False).mislabelled(0.1)


def test_colour_size_and_pose_reach_the_frames():
    faces = synthetic_sequences(2, 57, frames=(4, 4), channels=3, pose=dict(yaw=0, pitch=0, roll=0), sway=0.0)
    assert faces.frames.shape == (8, 3, 57, 57) and (faces.meta.roll == 0).all()
    assert len(micro_expressions(0)) == 0 and len(synthetic_sequences(0)) == 0
