"""Detection offline, crops against arithmetic and OpenCV, light against OpenCV."""

import ast
import socket
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fer_lab import faces as lab
from fer_lab.faces import CropError, MissingExtra
from fer_lab.faceset import FER7, FaceSet
from fer_lab.synthetic import synthetic_faces

cv2 = pytest.importorskip("cv2", reason="the extra `faces` is not installed")


@pytest.fixture(scope="module")
def drawn():
    return synthetic_faces(16, 96, seed=3, pose=dict(roll=20, scale=0.15))


@pytest.fixture
def fresh_detectors():
    for load in (lab.haar_cascade, lab.mtcnn_network):
        load.cache_clear()
    yield
    for load in (lab.haar_cascade, lab.mtcnn_network):
        load.cache_clear()


# ---------------------------------------------------------------- detection

@pytest.mark.parametrize("detector", lab.DETECTORS)
def test_a_drawn_face_is_found_without_a_network(detector, drawn, fresh_detectors, monkeypatch):
    def refuse(*_):
        raise AssertionError("a detector opened a connection")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    calm = synthetic_faces(8, 128, seed=3, mask=False, occluded=0, domain="A")
    found = lab.detect_all(calm, detector)
    table = lab.detection_table(calm, found)
    assert table["found"].mean() >= 0.75
    assert table["overlap"].dropna().min() > 0.4
    if detector == "mtcnn":
        assert table["point error"].median() < 0.15


@pytest.mark.parametrize("detector", lab.DETECTORS)
@pytest.mark.parametrize("picture", [
    np.zeros((1, 64, 64)), np.full((3, 50, 70), 200), np.zeros((1, 8, 8)),
    np.random.default_rng(0).integers(0, 256, (1, 40, 40)),
], ids=["black", "bright", "tiny", "noise"])
def test_no_face_is_an_empty_list(detector, picture):
    assert lab.detect(picture.astype(np.uint8), detector) == []


@pytest.mark.parametrize("detector", lab.DETECTORS)
def test_two_faces_in_colour_are_both_found_and_the_surest_comes_first(detector):
    two = synthetic_faces(2, 128, seed=3, mask=False, occluded=0, domain="A", channels=3)
    found = lab.detect(np.concatenate(list(two.frames), 2), detector)
    middles = sorted((face.box[0] + face.box[2]) / 2 for face in found)
    assert len(found) == 2 and middles[0] < 128 < middles[1]
    assert found[0].score >= found[1].score


@pytest.mark.parametrize(("detector", "module"), [("haar", "cv2"), ("mtcnn", "facenet_pytorch")])
def test_a_missing_extra_says_how_to_get_it(detector, module, fresh_detectors, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r'pip install "fer_lab\[faces\]"'):
        lab.detect(np.zeros((1, 64, 64), np.uint8), detector)


def test_the_module_imports_no_extra():
    tree = ast.parse(open(lab.__file__, encoding="utf-8").read())
    top = {alias.name.split(".")[0] for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    top |= {node.module.split(".")[0] for node in tree.body if isinstance(node, ast.ImportFrom) and not node.level}
    assert not top & {"cv2", "facenet_pytorch"}


@pytest.mark.parametrize("image", [
    np.zeros((64, 64), np.uint8), np.zeros((1, 64, 64)), np.zeros((2, 64, 64), np.uint8)])
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(CropError, match="uint8"):
        lab.detect(image)


def test_an_unknown_detector_is_refused_by_name():
    with pytest.raises(CropError, match="haar, mtcnn; got 'dlib'"):
        lab.detect(np.zeros((1, 64, 64), np.uint8), "dlib")


def test_a_second_box_and_a_box_elsewhere_are_false_alarms(drawn):
    one = drawn.subset([0])
    whole = lab.Face(tuple(lab.points_box(one.landmarks[0]).tolist()), 1.0)
    corner = lab.Face((0.0, 0.0, 10.0, 10.0), 2.0)
    table = lab.detection_table(one, [[corner, whole, whole]])
    assert table.loc[0].to_dict() | {"point error": 0} == {
        "found": True, "overlap": pytest.approx(1), "point error": 0, "false alarms": 2}
    assert not lab.detection_table(one, [[]])["found"][0]


# ---------------------------------------------------------------- crops

def test_the_whole_picture_is_itself_and_landmarks_stay(drawn):
    same = lab.crop_boxes(drawn, np.tile([-0.5, -0.5, 95.5, 95.5], (16, 1)), (96, 96))
    assert np.array_equal(same.frames, drawn.frames) and np.array_equal(same.regions, drawn.regions)
    assert np.allclose(same.landmarks, drawn.landmarks, atol=1e-4)


def test_a_box_of_whole_pixels_is_a_slice(drawn):
    cut = lab.crop_boxes(drawn, np.tile([9.5, 19.5, 49.5, 69.5], (16, 1)), (50, 40))
    assert np.array_equal(cut.frames, drawn.frames[:, :, 20:70, 10:50])
    assert np.allclose(cut.landmarks, drawn.landmarks - [10, 20], atol=1e-4)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shrinking_by_a_whole_factor_is_the_area_mean_and_no_aliasing(factor, drawn):
    stripes = np.zeros((1, 1, 96, 96), np.uint8)
    stripes[..., ::2] = 200
    box = np.array([[-0.5, -0.5, 95.5, 95.5]])
    side = 96 // factor
    small = lab.read_through(stripes, lab.box_maps(box, (side, side)), (side, side))
    assert small.std() == 0 if factor % 2 == 0 else small.std() < 40
    faces = lab.read_through(drawn.frames, lab.box_maps(box.repeat(16, 0), (side, side)), (side, side))
    area = np.stack([cv2.resize(f[0], (side, side), interpolation=cv2.INTER_AREA) for f in drawn.frames])
    assert np.abs(faces[:, 0].astype(int) - area).max() <= 1


def test_a_face_has_the_same_bytes_in_any_batch(drawn):
    maps = lab.eye_maps(lab.five_points(drawn.landmarks)[:, :2], 40)
    together = lab.read_through(drawn.frames, maps, (40, 40))
    alone = np.concatenate([lab.read_through(drawn.frames[i:i + 1], maps[i:i + 1], (40, 40)) for i in range(16)])
    assert np.array_equal(together, alone)


def test_the_reader_is_opencvs_warp_to_one_grey_level(drawn):
    maps = lab.eye_maps(lab.five_points(drawn.landmarks)[:, :2], 96, apart=0.5)
    ours = lab.read_through(drawn.frames, maps, (96, 96))[:, 0].astype(int)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    theirs = [cv2.warpAffine(f[0], m, (96, 96), flags=flags, borderMode=cv2.BORDER_REPLICATE)
              for f, m in zip(drawn.frames, maps)]
    off = np.abs(ours - np.stack(theirs))
    assert np.quantile(off, 0.99) <= 4 and off.mean() < 0.6  # OpenCV rounds places to 1/32 of a pixel


def test_aligned_eyes_are_level_and_equally_far_apart(drawn):
    eyes = lab.five_points(lab.align(drawn, 96, apart=0.4, height=0.35).landmarks)[:, :2]
    assert np.allclose(eyes, np.array([[0.3, 0.35], [0.7, 0.35]]) * 96 - 0.5, atol=1e-3)


@given(angle=st.floats(-60, 60), scale=st.floats(0.4, 2.5), x=st.floats(-30, 30), y=st.floats(-30, 30))
def test_alignment_forgets_turn_scale_and_shift(angle, scale, x, y):
    points = np.random.default_rng(1).uniform(20, 70, (1, 68, 2))
    points[:, 42:48, 0] += 40
    a = np.radians(angle)
    moved = points @ (scale * np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])) + [x, y]
    aligned = [lab.carry(p, lab.eye_maps(lab.five_points(p)[:, :2], 64)) for p in (points, moved)]
    assert np.allclose(*aligned, atol=1e-3)


def test_eyes_at_one_place_are_refused():
    with pytest.raises(CropError, match="same place"):
        lab.eye_maps(np.zeros((1, 2, 2)))


def test_landmarks_move_with_the_pixels(drawn):
    dots = np.zeros_like(drawn.frames)
    for image, points in zip(dots, drawn.landmarks):
        x, y = points[30].round().astype(int)
        image[0, y - 1:y + 2, x - 1:x + 2] = 255
    marked = FaceSet("dots", dots, drawn.labels, FER7, landmarks=drawn.landmarks.round())
    cut = lab.crop_nose_square(marked, alpha=1.3)
    for image, points in zip(cut.frames, cut.landmarks):
        weight = image[0].astype(float)
        rows, columns = np.mgrid[:96, :96]
        assert np.hypot((weight * columns).sum() / weight.sum() - points[30, 0],
                        (weight * rows).sum() / weight.sum() - points[30, 1]) < 0.3


def test_a_subset_and_a_sequence_keep_only_their_frames(drawn):
    clip = FaceSet("clip", drawn.frames, drawn.labels[:2], FER7, spans=np.array([[3, 6], [0, 2]]),
                   landmarks=drawn.landmarks, aus=drawn.aus)
    cut = lab.align(clip, 48)
    assert cut.frames.shape == (5, 1, 48, 48) and cut.spans.tolist() == [[0, 3], [3, 5]]
    assert np.array_equal(cut.aus, drawn.aus[[3, 4, 5, 0, 1]])
    assert np.array_equal(cut.sequence(1), lab.align(drawn.subset([0, 1]), 48).stills())


def test_the_square_of_paper_3_by_hand():
    points = np.zeros((68, 2))
    points[17:] = [50, 50]
    points[[17, 26, 57, 30]] = [20, 40], [80, 40], [50, 90], [52, 61]  # d_h = 60, d_v = 50
    assert lab.crop_square(points).tolist() == pytest.approx([52 - 31.5, 61 - 31.5, 52 + 31.5, 61 + 31.5])
    assert lab.middle_of(lab.crop_square(points, 1.0)).tolist() == pytest.approx([28, 37, 76, 85])
    points[8] = [50, 200]  # the jaw does not count
    assert lab.crop_square(points)[3] == pytest.approx(92.5)


def test_the_middle_96_is_the_middle_of_the_120(drawn):
    whole, middle = (lab.crop_nose_square(drawn, 1.2, 120, centre) for centre in (120, 96))
    assert np.array_equal(whole.frames[:, :, 12:108, 12:108], middle.frames)


def test_the_parts_of_paper_4_have_their_sizes_and_their_points(drawn):
    sizes = {name: part.shape for name, part in lab.crop_parts(drawn).items()}
    assert sizes == {"eyes": (1, 48, 128), "nose": (1, 64, 32), "mouth": (1, 32, 64)}
    assert 36 not in lab.PARTS["eyes"].points and 67 not in lab.PARTS["mouth"].points  # as in the authors' code
    assert len(lab.PARTS["eyes"].points) == 21 and len(lab.PARTS["mouth"].points) == 19
    boxes = lab.part_boxes(drawn.landmarks)
    mouth = drawn.landmarks[:, 48:67]
    assert np.allclose(boxes["mouth"], np.concatenate([mouth.min(1) - 5, mouth.max(1) + 5], 1))


def test_parts_from_five_points_are_close_to_those_from_68(drawn):
    truth, guessed = lab.part_boxes(drawn.landmarks), lab.boxes_from_five(lab.five_points(drawn.landmarks))
    upright = np.abs(drawn.meta["roll"].to_numpy()) < 8
    for name in lab.PARTS:
        assert np.median(lab.overlap(truth[name], guessed[name])[upright]) > 0.75


def test_faces_without_landmarks_are_refused_with_a_remedy():
    bare = FaceSet("bare", np.zeros((1, 1, 48, 48), np.uint8), [0], FER7)
    with pytest.raises(CropError, match="boxes_from_five"):
        lab.align(bare)


def test_an_inside_out_box_is_refused(drawn):
    with pytest.raises(CropError, match="left edge"):
        lab.crop_boxes(drawn, np.tile([50.0, 0.0, 10.0, 10.0], (16, 1)), (8, 8))


# ---------------------------------------------------------------- light

shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(16, 70), st.integers(16, 70))
pictures = shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 255)))


@settings(max_examples=25)
@given(pictures)
def test_he_is_opencvs(x):
    theirs = np.stack([[cv2.equalizeHist(plane) for plane in image] for image in x])
    assert np.abs(lab.equalize(x).astype(int) - theirs).max() <= 1


@settings(max_examples=15)
@given(pictures, st.sampled_from([0.0, 1.0, 2.0, 40.0]), st.sampled_from([(8, 8), (4, 8), (3, 5)]))
def test_clahe_is_opencvs(x, clip, tiles):
    judge = cv2.createCLAHE(clip, tiles[::-1])
    theirs = np.stack([[judge.apply(plane) for plane in image] for image in x])
    assert np.abs(lab.clahe(x, clip, tiles).astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("size", [48, 61, 96])
def test_light_on_faces_is_opencvs(size):
    x = synthetic_faces(6, size, seed=9, mask=False).frames
    judge = cv2.createCLAHE(2.0, (8, 8))
    assert np.abs(lab.equalize(x)[:, 0].astype(int) - [cv2.equalizeHist(f[0]) for f in x]).max() <= 1
    assert np.abs(lab.clahe(x)[:, 0].astype(int) - [judge.apply(f[0]) for f in x]).max() <= 1


@pytest.mark.parametrize("how", list(lab.TREATMENTS.values()), ids=list(lab.TREATMENTS))
def test_tensors_stay_tensors_each_face_is_its_own_and_one_grey_survives(how):
    x = synthetic_faces(3, 48, seed=9, mask=False, channels=3).frames
    together = how(torch.from_numpy(x))
    assert isinstance(together, torch.Tensor) and together.dtype == torch.uint8 and together.shape == x.shape
    assert np.array_equal(how(x), together.numpy())
    assert np.array_equal(how(x[1:2])[0], together[1].numpy())
    assert np.ptp(how(np.full((1, 1, 48, 48), 77, np.uint8))) == 0


def test_gamma_stretch_and_blend_by_hand():
    x = np.array([50, 100, 150], np.uint8).reshape(1, 1, 1, 3)
    assert lab.stretch(x).ravel().tolist() == [0, 128, 255]
    assert lab.gamma(x, 2.0).ravel().tolist() == [10, 39, 88]
    assert lab.equalize(x).ravel().tolist() == [0, 128, 255]
    y = np.array([0, 0, 0, 10, 255], np.uint8).reshape(1, 1, 1, 5)
    mixed = 0.25 * lab.equalize(y).astype(float) + 0.75 * lab.stretch(y)
    assert np.abs(lab.blend(y, 0.25) - mixed).max() <= 0.5
    two = np.concatenate([y, y])
    assert np.array_equal(lab.blend(two, torch.tensor([0.0, 1.0])), np.concatenate([lab.stretch(y), lab.equalize(y)]))


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan")])
def test_a_blend_outside_0_to_1_is_refused(weight):
    with pytest.raises(CropError, match="0 to 1"):
        lab.blend(np.zeros((1, 1, 4, 4), np.uint8), weight)


def test_floats_are_refused_with_a_remedy():
    with pytest.raises(CropError, match="to_uint8"):
        lab.equalize(torch.zeros(1, 1, 8, 8))


def test_treating_a_faceset_changes_pixels_only(drawn):
    darker = lab.treated(drawn.subset([4, 2]), lambda x: lab.gamma(x, 2.0), batch=1)
    assert np.array_equal(darker.frames, lab.gamma(drawn.frames[[4, 2]], 2.0))
    assert np.array_equal(darker.landmarks, drawn.landmarks[[4, 2]]) and darker.spans.tolist() == [[0, 1], [1, 2]]
    assert darker.meta["id"].tolist() == drawn.meta["id"].iloc[[4, 2]].tolist()
