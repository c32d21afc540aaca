"""MGLN: sheets of parts, both deformable forms against trusted ones, the authors' shapes, two losses, frozen time."""

import copy
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from torch import nn
from torchvision.models import VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers
from torchvision.ops import deform_conv2d

from fer_lab.augment import to_float
from fer_lab.explain import ExplainError, attribute, capture
from fer_lab.explorer import blocks_of
from fer_lab.faces import CropError, five_points, part_boxes
from fer_lab.faceset import CKPLUS7
from fer_lab.figures import alt_text, figure_bytes
from fer_lab.models import ModelError, count_parameters, create, problems
from fer_lab.papers.mgln import (
    BOXES,
    CHANGES,
    CONDITIONS,
    MGLN,
    MOMENTS,
    PARTS,
    RECORDS,
    SMALL,
    ChannelOffsets,
    FilmTrial,
    Moves,
    PartsTrial,
    SharedOffsets,
    SharedShallow,
    StepDown,
    StillMGLN,
    StillOffsets,
    TwoHeads,
    all_boxes,
    by_piece,
    chained,
    clips_for,
    deform_conv,
    film_plan,
    five_face,
    frozen,
    fused_accuracy,
    fusion_slider,
    lesson_recipe,
    level_maps,
    load_vgg,
    memory_squares,
    mix_peak,
    offset_arrows,
    paper_recipe,
    parts_plan,
    parts_say,
    places,
    read_between,
    seen_parts,
    sheet_maps,
    sheet_shape,
    sheets,
    shifted,
    teach_parts,
    three_moments,
    time_stands,
    two_losses,
    without,
)
from fer_lab.receptive import ledger, receptive_field
from fer_lab.report import predict
from fer_lab.sequences import synthetic_sequences
from fer_lab.settings import load_settings
from fer_lab.splits import every_seventh
from fer_lab.synthetic import Pose
from fer_lab.trainer import Recipe
from fer_lab.trial import load_record, record_names, run_trial

CPU = load_settings(device="cpu", precision="fp32")
TINY = {**SMALL, "width": 2}


@cache
def drawn(n=7, mask=True):
    return synthetic_sequences(n, 64, seed=3, space=CKPLUS7, frames=(6, 9), mask=mask)


@cache
def film(n=7):
    return sheets(drawn(n), 64)


def small(**switches) -> MGLN:
    torch.manual_seed(0)
    return MGLN(**{**TINY, **switches}).eval()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- sheets


def test_the_moments_are_first_halfway_and_peak():
    clips = drawn()
    moments = three_moments(clips)
    assert (moments[:, 0] == 0).all() and (moments[:, 2] == clips.meta["apex"]).all()
    assert (np.abs(moments[:, 1] - moments[:, 2] / 2) < 1).all()


@pytest.mark.parametrize("size", [64, 128, 256])
def test_pieces_fill_a_sheet_without_overlap_and_in_the_papers_sizes(size):
    at, covered = places(size), np.zeros(sheet_shape(size), int)
    for rows, columns in at.values():
        covered[rows, columns] += 1
    assert covered.max() == 1 and covered.any(1).all()
    assert (covered == covered[:, ::-1]).all()  # a mirrored sheet is a sheet
    shapes = {name: (r.stop - r.start, c.stop - c.start) for name, (r, c) in at.items()}
    expected = {"face": (128, 128), "eyes": (48, 128), "nose": (64, 32), "mouth": (32, 64)}
    assert shapes == {name: (h * size // 128, w * size // 128) for name, (h, w) in expected.items()}
    assert all(n % 8 == 0 for shape in shapes.values() for n in shape)


@pytest.mark.parametrize("size", [0, 32, 96, 100])
def test_a_size_that_does_not_divide_is_refused(size):
    with pytest.raises(ModelError, match="multiple of 64"):
        places(size)


def test_sheets_are_clips_of_three_and_know_what_they_show():
    clips, made = drawn(), film()
    assert made.batch().shape == (7, 3, 1, 136, 64) and made.landmarks is None
    assert made.labels.tolist() == clips.labels.tolist() and made.meta["subject"].equals(clips.meta["subject"])
    assert made.aus.shape == (21, clips.aus.shape[1])
    assert np.allclose(made.aus[2::3], clips.aus[clips.peaks().spans[:, 0]])  # the third sheet is the peak
    assert made.regions.shape == (21, 136, 64) and made.regions[2::3].any() and not made.regions[0::3].any()


def test_a_part_on_the_sheet_is_the_part_of_the_picture():
    "A picture whose pixels say where they are: the crop must hold the coordinates of its box."
    clips = drawn()
    ramp = np.broadcast_to(np.linspace(0, 252, 64, dtype=np.uint8), clips.frames.shape).copy()  # 4 a column
    made = sheets(replace(clips, frames=ramp), 64)
    first = clips.moments(three_moments(clips)).landmarks
    for name, box in all_boxes(first).items():
        if name != "face":
            rows, columns = places(64)[name]
            seen = made.frames[:, 0, rows, columns].astype(float).mean(1) / 4  # [M, width]
            width = columns.stop - columns.start
            expected = box[:, :1] + (np.arange(width) + 0.5) / width * (box[:, 2:3] - box[:, :1])
            inside = (expected > 1) & (expected < 62)
            assert np.abs(seen - expected)[inside].max() < 0.6, name


def test_the_margin_is_five_pixels_of_a_face_250_wide():
    points = drawn().landmarks[:3].astype(float)
    points *= 250 / (all_boxes(points)["face"][:, 2] - all_boxes(points)["face"][:, 0])[:, None, None]
    ours, paper = all_boxes(points), part_boxes(points, 5.0)
    assert all(np.allclose(ours[name], paper[name]) for name in PARTS)


def test_a_levelled_face_has_level_eyes_and_its_size():
    tilted = synthetic_sequences(4, 64, seed=5, frames=(5, 6), pose=Pose(roll=30), sway=0)
    five = np.stack([tilted.landmarks[:, s].mean(1) for s in (slice(36, 42), slice(42, 48))], 1)
    maps = level_maps(np.concatenate([five, five, five[:, :1]], 1))
    assert np.allclose(np.linalg.det(maps[:, :, :2]), 1)  # it turns and does not stretch
    back = np.linalg.inv(maps[:, :, :2])
    level = np.einsum("mij,mkj->mki", back, five - maps[:, None, :, 2])
    assert np.abs(level[:, 0, 1] - level[:, 1, 1]).max() < 1e-4 and np.allclose(level.mean(1), five.mean(1))
    with pytest.raises(CropError, match="same place"):
        level_maps(np.zeros((1, 5, 2)))


def test_chained_maps_do_one_after_the_other():
    outer, inner = (random(6, 2, 3, seed=k).double().numpy() for k in (1, 2))
    point = np.broadcast_to([0.3, -2.0], (6, 2))

    def at(maps, where):
        return np.einsum("mij,mj->mi", maps[:, :, :2], where) + maps[:, :, 2]

    assert np.allclose(at(chained(outer, inner), point), at(outer, at(inner, point)))


def test_five_points_give_nearly_the_same_sheet_maps():
    points = drawn().landmarks
    five = five_points(points)
    assert five_face(five).shape == (len(five), 4)
    many, few = (sheet_maps(p, 64) for p in (points, five))
    corner = np.array([0.0, 0.0, 1.0])
    assert set(many) == set(few) == {"face", *PARTS}
    assert all(np.abs((many[name] - few[name]) @ corner).max() < 12 for name in many)  # of 64 pixels


# ---- deformable convolutions


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(3, 9), st.integers(3, 9),
       st.sampled_from([(1, 1), (3, 3), (1, 3), (3, 2)]), st.integers(0, 2), st.sampled_from([0.0, 0.5, 2.0, 20.0]),
       st.booleans(), st.integers(0, 2**31 - 1))
def test_the_standard_form_by_hand_is_torchvisions(n, channels, out, height, width, kernel, padding, reach, bias, seed):
    make = torch.Generator().manual_seed(seed)
    rows, columns = height + 2 * padding - kernel[0] + 1, width + 2 * padding - kernel[1] + 1
    x = torch.rand(n, channels, height, width, generator=make) * 2 - 1
    weight = torch.rand(out, channels, *kernel, generator=make) * 2 - 1
    offset = reach * torch.randn(n, 2 * kernel[0] * kernel[1], rows, columns, generator=make)
    added = torch.rand(out, generator=make) if bias else None
    theirs = deform_conv2d(x, offset, weight, added, padding=padding)
    torch.testing.assert_close(deform_conv(x, offset, weight, added, padding), theirs, atol=1e-5, rtol=0)


def test_its_gradients_are_torchvisions():
    x, offset, weight = random(2, 3, 6, 5), 0.7 * random(2, 18, 6, 5, seed=1), random(4, 3, 3, 3, seed=2)
    score, gradients = random(2, 4, 6, 5, seed=3), []
    for form in (deform_conv, deform_conv2d):
        given_ = [t.clone().double().requires_grad_() for t in (x, offset, weight)]
        gradients.append(torch.autograd.grad((form(*given_, None, padding=1) * score.double()).sum(), given_))
    for ours, theirs in zip(*gradients):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_without_movement_it_is_a_convolution():
    x, weight, bias = random(2, 4, 6, 7), random(3, 4, 3, 3, seed=1), random(3, seed=2)
    expected = F.conv2d(x, weight, bias, padding=1)
    torch.testing.assert_close(deform_conv(x, torch.zeros(2, 18, 6, 7), weight, bias, 1), expected, atol=1e-5, rtol=0)


def test_the_module_of_the_standard_form_starts_still():
    "Dai et al. start with zero offsets; inside MGLN, the released start must not undo that."
    inside = small(offsets="shared").face.deform.deform1
    assert isinstance(inside, SharedOffsets) and (inside.predict.weight == 0).all()
    x = random(2, 16, 8, 8)
    torch.testing.assert_close(inside(x), inside.conv(x), atol=1e-4, rtol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 8), st.integers(1, 8), st.sampled_from([0.0, 0.6, 5.0]),
       st.integers(0, 2**31 - 1))
def test_the_channel_form_is_scipys_interpolation_with_its_edge_continued(n, channels, height, width, reach, seed):
    make = torch.Generator().manual_seed(seed)
    maps = torch.randn(n, channels, height, width, generator=make)
    moves = reach * torch.randn(n, channels, 2, height, width, generator=make)
    result = shifted(maps, moves)
    grid = np.indices((height, width))
    for i in range(n):
        for c in range(channels):
            where = grid + moves[i, c].double().numpy()
            there = map_coordinates(maps[i, c].double().numpy(), where, order=1, mode="nearest")
            assert np.abs(result[i, c].numpy() - there).max() < 1e-4


def test_reading_between_is_exact_on_the_grid_and_zero_outside():
    maps = random(1, 2, 3, 4)
    row, column = (torch.tensor(v).float()[None] for v in ([0, 2, 1, -1, 3, -5], [0, 3, 1, 0, 2, 99]))
    read = read_between(maps, row, column)[0]
    assert torch.equal(read[:, :3], maps[0][:, [0, 2, 1], [0, 3, 1]]) and (read[:, 3:] == 0).all()


def test_the_released_layout_takes_neighbours_of_one_map():
    numbers = torch.arange(2 * 2 * 3 * 4.0).view(1, 4, 3, 4)  # two channels
    mixed, plain = Moves("released")(numbers), Moves("channel")(numbers)
    assert mixed.shape == plain.shape == (1, 2, 2, 3, 4)
    assert torch.equal(plain[0, 1, 0], numbers[0, 2]) and torch.equal(plain[0, 1, 1], numbers[0, 3])
    pairs = numbers.flatten().view(2, 12, 2)  # channel, place, (down, right)
    assert all(torch.equal(mixed[0, :, k].flatten(1), pairs[..., k]) for k in (0, 1))
    lasting = numbers.contiguous(memory_format=torch.channels_last)  # how it lies in memory must not matter
    assert torch.equal(Moves("released")(lasting), mixed) and torch.equal(Moves("channel")(lasting), plain)


def test_the_control_moves_nothing_and_has_the_same_parameters():
    x = random(2, 6, 5, 5)
    torch.testing.assert_close(StillOffsets(6)(x), x, atol=1e-5, rtol=0)
    assert count_parameters(StillOffsets(6)) == count_parameters(ChannelOffsets(6)) == 9 * 6 * 12
    assert not torch.allclose(ChannelOffsets(6)(x), x)


# ---- the network


def full(**switches):
    with torch.device("meta"):
        return MGLN(**switches)


@pytest.mark.parametrize(("switches", "expected"), [
    ({}, 19_988_145),
    (dict(num_classes=6), 19_988_145 - 2 * 17),
    (dict(offsets="channel"), 19_988_145),
    (dict(offsets="still"), 19_988_145),
    (dict(offsets="shared"), 19_988_145 - 6_193_152 + sum(18 * (9 * c + 1) for c in (512, 256, 128))),
    (dict(fusion="feature"), 19_988_145 - 2 * 119 + 33 * 7),
])
def test_parameter_counts_at_full_width(switches, expected):
    assert count_parameters(full(**switches)) == expected


def test_parts_of_the_count():
    model = full()
    assert count_parameters(model.ssm) == 7_635_264
    assert sum(p.numel() for name, p in model.named_parameters() if "predict" in name) == 6_193_152
    assert count_parameters(model.face) - 6_193_152 == 1_551_344  # the paper's own 1.55 million
    assert {name: model.spots(name) for name in PARTS} == {"eyes": 96, "nose": 32, "mouth": 32}
    assert {part.lstm.hidden_size for part in model.parts.values()} == {256}


@pytest.mark.parametrize("offsets", ["released", "shared"])
def test_shape_ledger_at_full_width(offsets):
    model = full(offsets=offsets)
    book = ledger(model, model.input_shape).drop_duplicates("layer", keep="last").set_index("layer")["output"]
    assert model.input_shape == (3, 1, 272, 128)
    assert [book[f"face.deform.relu{k}"] for k in (1, 2, 3)] == [(256, 16, 16), (128, 16, 16), (64, 16, 16)]
    assert [book[f"face.squeeze.relu{k}"] for k in (1, 2)] == [(32, 16, 16), (16, 16, 16)]
    assert [book[f"parts.{name}.look.relu3"] for name in PARTS] == [(1, 6, 16), (1, 8, 4), (1, 4, 8)]
    assert all(book[f"parts.{name}.lstm"] == (3, 256) for name in PARTS)
    assert book["end.squeeze.relu1"] == (32, 16, 16)
    assert book["face_head.last"] == book["part_head.last"] == (7, 16, 16)


def test_the_shared_module_is_vgg16s_beginning():
    torch.manual_seed(1)
    ours, original = SharedShallow(64).eval(), make_layers(cfgs["D"][:13]).eval()
    with torch.no_grad():
        for conv, theirs in zip(ours.convs, [layer for layer in original if isinstance(layer, nn.Conv2d)], strict=True):
            conv.load_state_dict(theirs.state_dict())
        x = random(1, 1, 16, 24).clamp(-1, 1)
        colour = ((x + 1) / 2).expand(-1, 3, -1, -1)
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        normal = (colour - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
        torch.testing.assert_close(ours(x), original(normal), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(ours(x.expand(-1, 3, -1, -1), "nose"), original(normal), atol=1e-5, rtol=1e-4)
    assert receptive_field(SharedShallow(2), (1, 64, 64))[0] == 92


def test_weights_of_vgg16_come_from_a_file_or_not_at_all(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("something was downloaded unasked")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    ssm = SharedShallow(64)
    before = copy.deepcopy(ssm.state_dict())
    assert "Random start" in load_vgg(ssm) and "not on this disk" in load_vgg(ssm)
    assert all(torch.equal(before[key], value) for key, value in ssm.state_dict().items())
    state = {f"features.{key}": value for key, value in make_layers(cfgs["D"][:13]).state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(2)}, tmp_path / "vgg.pth")
    assert "ImageNet" in load_vgg(ssm, tmp_path / "vgg.pth")
    assert torch.equal(ssm.convs[0].weight, state["features.0.weight"])
    assert torch.equal(ssm.convs[9].bias, state["features.21.bias"])
    assert "64 channels" in load_vgg(SharedShallow(8), tmp_path / "vgg.pth")
    asked = []  # with leave, torchvision is asked for the published weights, and to check them
    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, **how: asked.append((self, how)) or state)
    assert "ImageNet" in load_vgg(SharedShallow(64), download=True)
    assert asked == [(VGG16_Weights.IMAGENET1K_V1, {"progress": True, "check_hash": True})]


def test_the_answer_is_the_weighted_sum_of_two_heads():
    model, x = small(weight=0.3), to_float(film().batch())
    with torch.no_grad():
        face, parts = model.heads(x)
        torch.testing.assert_close(model(x), 0.3 * face + 0.7 * parts)
        model.weight = 0.5  # lambda = 1/2 decides as the released sum
        assert torch.equal(model(x).argmax(1), (face + parts).argmax(1))
        maps = capture(model, x, ["class maps of the face", "class maps of the parts"])
    torch.testing.assert_close(maps["class maps of the face"].mean((2, 3)), face)
    torch.testing.assert_close(maps["class maps of the parts"].mean((2, 3)), parts)


def test_only_the_peak_face_is_looked_at_and_every_part_at_every_moment():
    x = to_float(film(3).batch()).requires_grad_()
    torch.manual_seed(0)
    seen = torch.autograd.grad(MGLN(size=64, width=8, last="none")(x).square().sum(), x)[0].abs()
    reach = {name: seen[:, :, :, *at].sum((0, 2, 3, 4)) for name, at in places(64).items()}
    assert reach["face"][0] == reach["face"][1] == 0 < reach["face"][2]
    assert all((reach[name] > 0).all() for name in PARTS)
    empty = torch.ones_like(seen, dtype=torch.bool)
    for at in places(64).values():
        empty[:, :, :, *at] = False
    assert (seen[empty] == 0).all()


def test_the_memory_remembers_order():
    "Played backwards, the parts say something else; the face path, which sees only the last moment, is given its own."
    model, x = small(), to_float(film().batch())
    backwards = x.flip(1).clone()
    backwards[:, -1, :, *places(64)["face"]] = x[:, -1, :, *places(64)["face"]]
    with torch.no_grad():
        (face, parts), (same_face, other_parts) = model.heads(x), model.heads(backwards)
    assert torch.equal(face, same_face) and not torch.allclose(parts, other_parts, atol=1e-7, rtol=0)


@pytest.mark.parametrize("switches", [{}, dict(offsets="released", last="relu"), dict(offsets="shared"),
                                      dict(offsets="still"), dict(fusion="feature")])
def test_it_keeps_the_rules_of_the_lab_and_learns(switches):
    model = small(**switches)
    assert problems(model, model.input_shape) == []
    x, y = to_float(film().batch()), torch.from_numpy(film().labels)
    F.cross_entropy(model(x), y).backward()
    without_gradient = [name for name, p in model.named_parameters() if p.grad is None]
    assert without_gradient == []


def test_normalisation_keeps_statistics_for_each_place():
    norms = {name: [m for m in steps.modules() if isinstance(m, nn.BatchNorm2d)]
             for name, steps in SharedShallow(2, "batch").steps.items()}
    assert {name: len(found) for name, found in norms.items()} == dict.fromkeys(places(), 10)
    ssm = SharedShallow(2, "batch").train()
    before = {name: ssm.steps[name][0].norm.running_mean.clone() for name in places()}
    ssm(random(4, 1, 16, 16), "nose")
    moved = {name: not torch.equal(before[name], ssm.steps[name][0].norm.running_mean) for name in places()}
    assert moved == {"face": False, "eyes": False, "nose": True, "mouth": False}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in MGLN(size=64, width=2).modules())  # the paper has none


@pytest.mark.parametrize("switch", ["offsets", "last", "norm", "fusion"])
def test_a_misspelt_switch_names_the_choices(switch):
    with pytest.raises(ModelError, match=rf"{switch}='relesed'.*expected one of"):
        MGLN(**{switch: "relesed"})


@pytest.mark.parametrize("shape", [(2, 1, 136, 64), (2, 3, 1, 64, 64), (2, 3, 2, 136, 64), (2, 3, 1, 272, 128)])
def test_anything_but_sheets_is_refused_with_the_remedy(shape):
    with pytest.raises(ModelError, match=r"sheets\(clips, size=64\)"):
        small()(torch.zeros(shape))


def test_the_table_knows_it():
    assert isinstance(create("mgln", num_classes=6, size=64, width=8), MGLN)


def test_the_explorer_can_take_it_apart():
    rows, missing = blocks_of(small(), to_float(film().batch([0])))
    assert missing == "" and {"offsets", "memory", "class maps of the face"} <= {row["part"] for row in rows}
    again = [row["path"] for row in rows if row["path"].startswith("ssm.convs.0")]
    assert len(again) == 4  # the face and three parts go through the same convolution


def test_grad_cam_lies_on_the_face_of_the_last_sheet():
    model, x, at = small(), to_float(film(3).batch()), places(64)["face"]
    heat = attribute(model, x, "LayerGradCam")
    assert heat.shape == (3, 3, 136, 64) and heat[:, 2, *at].any()
    own = attribute(small(), x, "LayerGradCam", layer="face.squeeze.relu2")
    assert torch.equal(own, heat)  # "features" is where the global path ends
    rest = heat.clone()
    rest[:, 2, *at] = 0
    assert not rest.any()


@pytest.mark.parametrize("layer", ["face.deform.relu1", "ssm.steps.face.12", "face_head"])
def test_maps_of_the_global_path_are_stretched_over_the_face_alone(layer):
    model, x = small(), to_float(film(3).batch())
    heat = random(3, 5, 8, 8)
    expected = F.interpolate(heat.sum(1, keepdim=True), (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model.laid(heat, layer, x)[:, -1, :, *places(64)["face"]], expected)
    assert attribute(model, x, "LayerGradCam", layer=layer).shape == (3, 3, 136, 64)


@pytest.mark.parametrize("layer", ["parts.eyes.look.relu2", "end.squeeze.relu1", "part_head.conv", "ssm.steps.nose.0"])
def test_maps_without_a_place_on_the_face_are_refused(layer):
    with pytest.raises(ExplainError, match=f"{layer} does not see the face alone.*Choose a layer below face"):
        attribute(small(), to_float(film(3).batch()), "LayerGradCam", layer=layer)


# ---- training


def test_mixup_touches_the_peak_face_alone():
    x, order = random(4, 3, 1, 136, 64), torch.tensor([2, 0, 3, 1])
    mixed, at = mix_peak(x, order, 0.3, 64), places(64)["face"]
    expected = 0.3 * x[:, -1, :, *at] + 0.7 * x[order][:, -1, :, *at]
    torch.testing.assert_close(mixed[:, -1, :, *at], expected)
    mixed[:, -1, :, *at] = x[:, -1, :, *at]
    assert torch.equal(mixed, x)


def test_the_loss_is_the_released_one():
    model, x, y = small(), to_float(film().batch()), torch.from_numpy(film().labels)
    order, share = torch.tensor([1, 2, 3, 4, 5, 6, 0]), 0.4
    with torch.no_grad():
        face, parts = model.heads(mix_peak(x, order, share, 64))
        soft = share * F.one_hot(y, 7) + (1 - share) * F.one_hot(y[order], 7)
        expected = F.cross_entropy(face, soft) + F.cross_entropy(parts, y)  # the same with mixed labels
        torch.testing.assert_close(two_losses(model, x, y, order, share), expected)
        torch.testing.assert_close(model.heads(x)[1], parts)  # the local head never sees the mixture


def test_training_is_repeatable_and_says_what_it_did(tmp_path):
    split, results = every_seventh(film(14)), []
    for name in ("one", "two"):
        torch.manual_seed(0)
        model, recipe = MGLN(**TINY), replace(lesson_recipe(1)[1], batch=8)
        run = TwoHeads(model, recipe, tmp_path / name, settings=CPU, progress=False).fit(split)
        results.append(predict(model, split.val))
    assert np.array_equal(*results) and run.config["callbacks"][0]["alpha"] == 1.0


def test_the_rate_goes_down_where_the_authors_let_it(tmp_path):
    rates, switches, recipe, callbacks = [], *paper_recipe()
    assert (recipe.epochs, recipe.batch, recipe.lr, recipe.optimizer, callbacks[0].epoch) == (151, 64, 1e-4, "adam", 80)
    assert MGLN(**{**switches, "size": 64, "width": 8}).config["offsets"] == "released" and recipe.augment is None

    class Note:
        def on_batch_end(self, trainer):
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    few = Recipe(epochs=3, batch=64, lr=1e-4, optimizer="adam", schedule="constant", augment=None)
    both = [StepDown(2), Note()]
    TwoHeads(small(), few, tmp_path, callbacks=both, settings=CPU, progress=False).fit(every_seventh(film(14)))
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5])


def test_clips_are_drawn_where_the_data_set_has_none():
    for dataset in ("synthetic", "fer2013"):
        assert clips_for(load_settings(dataset=dataset), 2, 48).space == CKPLUS7


# ---- views


def test_shares_of_a_map_by_piece():
    heat = torch.zeros(2, 3, 136, 64)
    heat[:, 2, *places(64)["face"]] = -1.0
    heat[:, 0, *places(64)["mouth"]] = 1.0
    table = by_piece(heat, 64)
    face, mouth = 64 * 64, 16 * 32
    assert list(table.index) == list(MOMENTS) and table.to_numpy().sum() == pytest.approx(1)
    assert table.loc["peak", "face"] == pytest.approx(face / (face + mouth))
    assert table.loc["first", "mouth"] == pytest.approx(mouth / (face + mouth))
    assert by_piece(0 * heat, 64).to_numpy().sum() == 0


def test_the_slider_agrees_with_the_sums():
    face, parts, labels = random(40, 3), random(40, 3, seed=1), np.arange(40) % 3
    line, recall = fused_accuracy(face, parts, labels, (0.0, 0.25, 1.0))
    for k, (w, each) in enumerate(zip((0.0, 0.25, 1.0), line)):
        right = (w * face + (1 - w) * parts).argmax(1).numpy() == labels
        assert each == right.mean() and recall[k, 1] == right[labels == 1].mean()
    assert np.isnan(fused_accuracy(face, parts, labels % 2, (0.5,))[1][0, 2])
    figure = fusion_slider(face, parts, labels, ("anger", "fear", "disgust"), "Both do best")
    steps, frames = figure.layout.sliders[0].steps, {frame.name: frame for frame in figure.frames}
    assert [step.args[0][0] for step in steps] == list(frames) and len(steps) == 11
    everywhere, _ = fused_accuracy(face, parts, labels, [k / 10 for k in range(11)])
    assert [frames[f"{k / 10:g}"].data[0].y[0] for k in range(11)] == pytest.approx(everywhere, abs=1e-3)
    assert figure.layout.sliders[0].active == 5 and "best" in alt_text(figure) and figure_bytes(figure) < 50_000


def test_arrows_lead_to_where_the_map_is_read():
    move = torch.zeros(2, 4, 4)
    move[0, 1, 2], move[1, 1, 2] = 1.0, -0.5  # down one place, left half a place
    figure = offset_arrows(np.zeros((1, 64, 64), np.uint8), {"still": 0 * move, "moved": move}, "One arrow")
    still, moved = (figure.data[k] for k in (1, 4))
    away = np.abs(np.array(moved.x) - 64 * 1.12 - np.array(still.x)) + np.abs(np.array(moved.y) - np.array(still.y))
    assert np.flatnonzero(away > 0.2).tolist() == [1 * 4 + 2]
    assert (np.array(moved.y) - np.array(still.y))[6] == pytest.approx(16) and still.x[6] == pytest.approx(2.5 * 16)
    assert moved.x[6] - 64 * 1.12 == pytest.approx(2.5 * 16 - 8, abs=0.11)


def test_memory_is_folded_into_squares_in_order():
    states = {"eyes": torch.arange(12.0).view(3, 4), "mouth": torch.zeros(3, 4)}
    figure = memory_squares(states, "The eyes move")
    sheet = figure.data[0].z
    assert (len(sheet), len(sheet[0])) == (5, 8)
    assert sheet[0][0] == 0 and sheet[1][7] == 100 and sheet[0][2] is None and sheet[4][4] == 0
    assert list(figure.layout.yaxis.ticktext) == ["eyes", "mouth"] and figure_bytes(figure) < 50_000


# ---- the trial


def test_frozen_time_and_missing_parts():
    still, made = frozen(film()), film()
    assert all(np.array_equal(still.batch()[:, k], made.batch()[:, 2]) for k in range(3))
    for part in PARTS:
        changed = without(made, part, 64).frames != made.frames
        outside = changed.copy()
        outside[:, :, *places(64)[part]] = False
        assert changed.any() and not outside.any()
    assert set(CHANGES) == {"film", "peak three times", *(f"no {part}" for part in PARTS)}


def tiny_plan(conditions):
    plan = film_plan("mgln-test", conditions, seeds=2, clips=14, epochs=1, test_clips=7, tests=("strong expressions",))
    return replace(plan, details={**plan.details, "network": TINY})


def test_conditions_that_are_taught_alike_share_a_network(tmp_path):
    taught = []

    class Counted(FilmTrial):
        def taught(self, how, seed):
            taught.append((seed, how.taught))
            return small()

    plan = tiny_plan(("film", "peak ×3, only when tested", "face alone", "parts alone"))
    record = run_trial(plan, Counted(plan, CPU), tmp_path, progress=False)
    assert taught == [(0, "film"), (1, "film")]
    assert record.correct("film", "strong expressions").shape == (2, 7)


def test_every_condition_can_be_run():
    plan = tiny_plan(tuple(CONDITIONS))
    trial = FilmTrial(plan, CPU)
    for name in ("joined at the features", "peak ×3, always"):
        marks = trial(name, 0)["strong expressions"]
        assert marks.correct.shape == (7,) and marks.faces == trial.tests["strong expressions"].fingerprint
    for how in CONDITIONS.values():
        assert how.taught in CHANGES and how.asked in CHANGES
        assert MGLN(**{**TINY, **how.network}).input_shape == (3, 1, 136, 64)


def test_a_peak_that_stands_is_seen_as_frozen_sheets_are():
    model = small()
    seen = seen_parts(model, film())
    assert {name: tuple(maps.shape) for name, maps in seen.items()} == {
        "eyes": (7, 3, 16, 3, 8), "nose": (7, 3, 16, 4, 2), "mouth": (7, 3, 16, 2, 4)}
    still = time_stands(seen)
    for name, maps in seen_parts(model, frozen(film())).items():
        torch.testing.assert_close(still[name], maps)
        assert not torch.equal(still[name], seen[name])
    with torch.no_grad():
        torch.testing.assert_close(parts_say(model, seen), model.heads(to_float(film().batch()))[1])


def test_parts_learn_what_the_three_moments_say_and_nothing_else_moves():
    labels, sizes = np.arange(28) % 2, {"eyes": (3, 8), "nose": (4, 2), "mouth": (2, 4)}
    seen = {name: random(28, 3, 16, *at) for name, at in sizes.items()}
    seen["eyes"][:, 0] += 3 * torch.from_numpy(labels).view(-1, 1, 1, 1)  # only the first moment tells
    torch.manual_seed(0)
    model = MGLN(2, **{**TINY, "norm": "batch", "last": "none"})
    before = copy.deepcopy(model.state_dict())
    teach_parts(model, seen, labels, 40, batch=28)
    with torch.no_grad():
        answers = parts_say(model, seen).argmax(1).numpy()
        blind = parts_say(model, time_stands(seen)).argmax(1).numpy()
    assert (answers == labels).mean() > 0.9 > 0.8 > (blind == labels).mean()
    moved = {key.split(".")[0] for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"parts", "end", "part_head"}


def test_the_trial_of_parts_teaches_twice_and_asks_thrice(tmp_path, monkeypatch):
    taught = []

    def teach(model, seen, labels, *how):
        taught.append(all(torch.equal(maps[:, 0], maps[:, 2]) for maps in seen.values()))
        return teach_parts(model, seen, labels, *how)

    monkeypatch.setattr("fer_lab.papers.mgln.teach_parts", teach)
    plan = parts_plan("parts-test", seeds=1, clips=7, epochs=1, test_clips=7)
    plan = replace(plan, details={**plan.details, "network": TINY})
    record = run_trial(plan, PartsTrial(plan, small()), tmp_path, progress=False)
    assert taught == [False, True] and [run["condition"] for run in record.runs] == list(plan.conditions)
    assert plan.chance == pytest.approx(1 / 7) and record.at_chance("film", "strong expressions")


@pytest.mark.parametrize("plan", RECORDS, ids=lambda plan: plan.name)
def test_a_kept_record_belongs_to_its_plan(plan):
    assert plan.conditions[0] == "film" and plan.synthetic and len(plan.seeds) >= 5
    assert plan.chance == pytest.approx(1 / 7)
    if plan.name in record_names():
        assert load_record(plan.name).plan.fingerprint == plan.fingerprint


# MGLN for stills


def test_a_still_is_cut_where_the_boxes_say_and_answered_by_the_film_of_one_moment():
    ramp = torch.linspace(-1, 1, 48).expand(2, 1, 48, 48)  # grey tells the column; turned, the row
    model = StillMGLN(7).eval()
    for picture, (low, high), axis in ((ramp, (0, 2), -1), (ramp.mT, (1, 3), -2)):
        sheet = model.sheet(picture)
        assert sheet.shape == (2, 1, *sheet_shape(64))
        for name, place in places(64).items():
            seen = sheet[0, 0, *place].movedim(axis, -1)
            first, last = (48 * BOXES[name][k] - 0.5 for k in (low, high))  # edges of the box, in pixels
            step = (last - first) / seen.shape[-1]
            expected = torch.linspace(first + step / 2, last - step / 2, seen.shape[-1]) / 23.5 - 1
            torch.testing.assert_close(seen, expected.expand_as(seen), atol=1e-4, rtol=0)
    film = MGLN(**model.config).eval()
    film.load_state_dict(model.film.state_dict())
    x = torch.randn(3, 1, 48, 48).clamp(-1, 1)
    torch.testing.assert_close(model(x), film(model.sheet(x)[:, None]))
    assert not problems(model)


def test_heat_of_a_still_lies_on_the_box_of_the_face_or_is_refused():
    model, x = create("mgln-still").eval(), torch.rand(2, 1, 48, 48) * 2 - 1
    heat = attribute(model, x, "LayerGradCam", target=torch.tensor([0, 1]))
    left, top, right, bottom = (round(48 * edge) for edge in BOXES["face"])
    inside = torch.zeros(48, 48, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert heat[:, inside].abs().sum() > 0 and not heat[:, ~inside].any()
    with pytest.raises(ExplainError, match="does not see the face alone"):
        attribute(model, x, "LayerGradCam", target=torch.tensor([0, 1]), layer="film.end")
    saliency = attribute(model, x, "Saliency", target=torch.tensor([0, 1]))
    assert not saliency[:, :8].any() and saliency[:, inside].any()  # the hair is in no box
