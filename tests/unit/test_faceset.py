"A FaceSet keeps pixels as bytes, shares them between subsets, and refuses parts that do not fit."

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fer_lab.faceset import FER7, FaceSet, FaceSetError


def noise(n=12, seed=0, **fields):
    rng = np.random.default_rng(seed)
    return FaceSet("noise", rng.integers(0, 256, (n, 1, 6, 6), dtype=np.uint8), rng.integers(0, 7, n), FER7, **fields)


@given(st.lists(st.integers(0, 11), max_size=30), st.lists(st.integers(0, 29), max_size=10))
def test_subset_of_subset_is_indexing_twice_and_copies_nothing(first, second):
    faces = noise()
    second = [i for i in second if i < len(first)]
    chosen = faces.subset(first).subset(second)
    expected = np.array(first, int)[second]
    assert chosen.frames is faces.frames
    assert (chosen.labels == faces.labels[expected]).all()
    assert (chosen.meta["id"].to_numpy() == faces.meta["id"].to_numpy()[expected]).all()
    assert (chosen.stills() == faces.frames[expected]).all()


def test_boolean_mask_and_positions_choose_the_same():
    faces = noise()
    mask = faces.labels == faces.labels[0]
    assert faces.subset(mask).fingerprint == faces.subset(np.flatnonzero(mask)).fingerprint


def test_peaks_take_the_apex_or_the_last_frame():
    meta = pd.DataFrame({"apex": [1, np.nan]})
    faces = FaceSet("clips", noise().frames, [0, 1], FER7, meta, spans=[[2, 6], [6, 12]])
    assert faces.peaks().spans.tolist() == [[3, 4], [11, 12]]
    assert faces.subset([1]).peaks().spans.tolist() == [[11, 12]]
    assert faces.sequence(0).shape == (4, 1, 6, 6)
    with pytest.raises(FaceSetError, match="peaks"):
        faces.batch()


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=3, max_size=3))
def test_chosen_moments_are_a_tensor_with_the_frames_in_the_order_given(frame):
    clips = FaceSet("clips", noise().frames, [0, 1, 2], FER7, pd.DataFrame({"apex": [1, 0, 2], "subject": list("abc")}),
                    spans=[[8, 12], [0, 4], [2, 6]], landmarks=np.arange(12)[:, None, None] * np.ones((1, 68, 2)))
    chosen = clips.moments(np.array(frame)).subset([2, 0])
    expected = np.stack([clips.frames[np.array(frame[i]) + start] for i, start in ((2, 2), (0, 8))])
    assert (chosen.batch().numpy() == expected).all() and (chosen.batch([1]).numpy() == expected[1:]).all()
    assert chosen.landmarks[chosen.spans[1, 0], 0, 0] == 8 + frame[0][0]
    assert list(chosen.meta["subject"]) == ["c", "a"] and "apex" not in chosen.meta


@pytest.mark.parametrize("frame", [[[0, 4]], [[-1, 0]], [[0], [1]], [0], [[]]])
def test_moments_outside_their_item_are_refused(frame):
    faces = FaceSet("clip", noise().frames, [0], FER7, spans=[[2, 6]])
    with pytest.raises(FaceSetError, match="frame"):
        faces.moments(np.array(frame))


def test_apex_outside_its_item_is_refused():
    faces = FaceSet("clip", noise().frames, [0], FER7, pd.DataFrame({"apex": [4]}), spans=[[2, 6]])
    with pytest.raises(FaceSetError, match="apex"):
        faces.peaks()


@pytest.mark.parametrize("change", ["pixel", "label", "id"])
def test_fingerprint_follows_pixels_labels_and_ids(change):
    faces, ids = noise(), np.arange(12).astype(str)
    frames, labels = faces.frames.copy(), faces.labels.copy()
    if change == "pixel":
        frames[3, 0, 2, 2] ^= 1
    if change == "label":
        labels[3] = (labels[3] + 1) % 7
    if change == "id":
        ids[3] = "someone else"
    other = FaceSet("other name", frames, labels, FER7, pd.DataFrame({"id": ids}))
    assert other.fingerprint != faces.fingerprint
    assert FaceSet("other name", faces.frames.copy(), faces.labels, FER7).fingerprint == faces.fingerprint


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"frames": np.zeros((2, 1, 4, 4), np.float32)}, "uint8"),
        ({"frames": np.zeros((2, 4, 4), np.uint8)}, r"\[M, C, H, W\]"),
        ({"labels": [0, 7]}, "-1 .unlabelled. to 6"),
        ({"labels": [0, -2]}, "-1 .unlabelled. to 6"),
        ({"labels": [0, 1, 2]}, "inside the 2 frames"),
        ({"meta": pd.DataFrame({"subject": ["A"]})}, "one row an item"),
        ({"spans": [[0, 1], [1, 1]]}, "non-empty range"),
        ({"spans": [[0, 1]]}, r"\[2, 2\]"),
        ({"landmarks": np.zeros((3, 68, 2))}, "landmarks must have one row a frame"),
    ],
)
def test_parts_that_do_not_fit_are_named(fields, message):
    parts = {"frames": np.zeros((2, 1, 4, 4), np.uint8), "labels": [0, 1], "space": FER7} | fields
    with pytest.raises(FaceSetError, match=message):
        FaceSet("wrong", **parts)


def test_tensors_and_memory_maps_are_taken_as_they_are(tmp_path):
    tensor = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    assert np.shares_memory(FaceSet("t", tensor, [0, 1], FER7).frames, tensor.numpy())
    np.save(tmp_path / "faces.npy", tensor.numpy())
    mapped = np.load(tmp_path / "faces.npy", mmap_mode="r")
    faces = FaceSet("m", mapped, [0, 1], FER7)
    assert isinstance(faces.subset([1]).frames, np.memmap)
    batch = faces.batch([0])
    batch[:] = 9  # a batch is a copy: changing it must not reach the read-only file
    assert (mapped == 0).all()


def test_pixel_keys_are_equal_exactly_for_equal_images():
    frames = noise().frames.copy()
    frames[7] = frames[2]
    keys = FaceSet("repeat", frames, np.zeros(12, int), FER7).pixel_keys()
    assert keys[7] == keys[2] and len(np.unique([k.tobytes() for k in keys])) == 11


def test_clips_that_share_one_frame_are_linked_and_so_is_a_still_cut_out_of_a_clip():
    frames = np.random.default_rng(3).integers(0, 256, (15, 1, 6, 6), dtype=np.uint8)
    frames[6], frames[14], frames[11] = frames[2], frames[9], frames[12]  # into another place; a still; inside a clip
    spans = [[0, 4], [4, 8], [8, 10], [10, 14], [14, 15]]
    clips = FaceSet("clips", frames, np.zeros(5), FER7, spans=spans)
    keys = [key.tobytes() for key in clips.pixel_keys()]
    assert keys[0] == keys[1] and keys[2] == keys[4] and len(set(keys)) == 3
    chained = frames.copy()
    chained[7] = chained[8]  # 0 is linked to 1, and 1 to 2
    assert len({key.tobytes() for key in FaceSet("x", chained, np.zeros(5), FER7, spans=spans).pixel_keys()}) == 2
    stills = FaceSet("stills", frames, np.zeros(15), FER7)
    alone = [hashlib.blake2b(frame.tobytes(), digest_size=16).digest() for frame in frames]
    assert [key.tobytes() for key in stills.pixel_keys()] == alone
    assert [key.tobytes() for key in clips.each_frame().pixel_keys()] == alone


def test_empty_set_works():
    empty = noise().subset([])
    assert len(empty) == 0 and empty.counts().sum() == 0 and empty.stills().shape == (0, 1, 6, 6)
    assert "noise" in empty._repr_html_()


def test_text_of_a_set_shows_no_pixels():
    "A saved notebook keeps the text of what it shows; pixels of real faces must not get there."
    faces = noise(3)
    shown = {repr(faces), str(faces), faces._repr_html_()}
    assert all("array" not in text and len(text) < 2000 for text in shown) and "3 items" in repr(faces)


def test_each_frame_is_a_still_that_knows_its_clip_and_its_place():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (14, 1, 6, 6), dtype=np.uint8)
    meta = pd.DataFrame({"id": ["a", "b", "c"], "subject": ["S1", "S1", "S2"], "sequence": [1, 2, 1],
                         "onset": 0, "apex": [2, None, 0], "offset": 3})
    clips = FaceSet("clips", frames, [0, 1, 2], FER7, meta, spans=[[0, 5], [5, 6], [8, 14]])
    all_of_them = clips.each_frame()
    assert all_of_them.is_still and len(all_of_them) == 12 and np.shares_memory(all_of_them.frames, frames)
    assert all_of_them.meta.frame.tolist() == [0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4, 5]
    assert np.array_equal(all_of_them.stills(), np.concatenate([clips.sequence(i) for i in range(3)]))
    assert all_of_them.meta.id.is_unique and not {"onset", "apex", "offset"} & set(all_of_them.meta)
    near = clips.each_frame(nearest_apex=2)  # a: 2 and the earlier neighbour; b has one frame; c: 0 and 1
    assert near.meta[["id", "sequence", "frame"]].to_numpy().tolist() == [
        ["a/1", 1, 1], ["a/2", 1, 2], ["b/0", 2, 0], ["c/0", 1, 0], ["c/1", 1, 1]]
    assert near.labels.tolist() == [0, 0, 1, 2, 2] and near.spans[:, 0].tolist() == [1, 2, 5, 8, 9]
    assert clips.each_frame(1).stills().tobytes() == clips.peaks().stills().tobytes()
    with pytest.raises(FaceSetError, match="1 or more"):
        clips.each_frame(0)
    assert FaceSet("x", frames, np.zeros(14), FER7).each_frame().meta.sequence.nunique() == 14
