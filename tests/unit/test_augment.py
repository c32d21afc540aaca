"Augmentation: the right geometry, the same numbers for the same seed, and nothing at all when every size is 0."

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from fer_lab.augment import Augment, AugmentError, augment, draw_numbers, mixup, to_float, to_uint8

OFF = dict(flip=0, rotate=0, translate=0, scale=0, light=0, erase=0)


def numbers(n=4, seed=0):
    return draw_numbers(n, torch.Generator().manual_seed(seed))


def smooth(n=4, size=32):
    "Smooth images, so that interpolation differs little between implementations."
    noise = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    return (
        torch.nn.functional.interpolate(noise, size=size, mode="bicubic", align_corners=False)
        .mul(1.2)
        .sub(0.6)
        .clamp(-1, 1)
    )


class Fixed(Augment):
    "Always the given map."

    def theta(self, numbers):
        return torch.tensor(self.map).expand(len(numbers), 2, 3)


def test_bytes_survive_the_way_to_floats_and_back():
    grey = torch.arange(256, dtype=torch.uint8)
    assert to_float(grey).min() == -1 and to_float(grey).max() == 1
    assert torch.equal(to_uint8(to_float(grey)), grey)
    floats = grey.float()
    assert torch.equal(to_float(floats), to_float(grey)) and torch.equal(floats, grey.float())  # not in place


@pytest.mark.parametrize("wrong", [{"flip": 50}, {"scale": 2}, {"erase": 25}, {"rotate": -1}, {"light": math.nan},
                                   {"translate": "0.1"}])  # fmt: skip
def test_a_size_that_is_none_is_refused(wrong):
    with pytest.raises(AugmentError, match=f"{next(iter(wrong))} must be a number from 0 to"):
        Augment(**wrong)


def test_everything_off_changes_nothing():
    x = smooth()
    assert torch.allclose(augment(x, Augment(**OFF), numbers()), x, atol=1e-6)


def test_flip_always_is_a_mirror_image():
    x = smooth()
    assert torch.allclose(augment(x, Augment(**OFF | {"flip": 1}), numbers()), x.flip(3), atol=1e-5)


def test_quarter_turn_is_rot90():
    x, quarter = smooth(), Fixed(**OFF)
    Fixed.map = [[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]
    assert torch.allclose(augment(x, quarter, numbers()), x.rot90(-1, (2, 3)), atol=1e-5)


@pytest.mark.parametrize(
    "angle, shift, scale", [(12.0, (0, 0), 1.0), (0.0, (4, -2), 1.0), (-9.0, (3, 1), 1.1), (0.0, (0, 0), 0.9)]
)
def test_affine_maps_agree_with_torchvision(angle, shift, scale):
    "torchvision describes what happens to the picture, theta where to look: the inverse."
    x, size, turn = smooth(), 32, math.radians(angle)
    forward = torch.tensor(
        [
            [math.cos(turn) * scale, -math.sin(turn) * scale, shift[0]],
            [math.sin(turn) * scale, math.cos(turn) * scale, shift[1]],
            [0, 0, 1],
        ]
    )
    inverse = torch.linalg.inv(forward.double()).float()[:2]
    inverse[:, 2] *= 2 / size
    Fixed.map = inverse.tolist()
    expected = tv.affine(
        x,
        angle=angle,
        translate=list(shift),
        scale=scale,
        shear=[0.0, 0.0],
        interpolation=tv.InterpolationMode.BILINEAR,
    )
    inside = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    assert torch.allclose(augment(x, Fixed(**OFF), numbers())[inside], expected[inside], atol=1e-5)


@given(st.integers(0, 1000))
def test_drawn_maps_agree_with_torchvision_and_leave_their_input_alone(seed):
    x, own, size = smooth(8), numbers(8, seed), 32
    how, before = Augment(**OFF | {"rotate": 10, "translate": 0.08, "scale": 0.1}), x.clone()
    changed = augment(x, how, own)
    assert torch.equal(x, before)
    for face, theta, mine in zip(x, how.theta(own).double(), changed):
        look = torch.eye(3, dtype=torch.float64)
        look[:2] = theta
        look[:2, 2] *= size / 2
        put = torch.linalg.inv(look)
        angle, scale = math.degrees(math.atan2(put[1, 0], put[0, 0])), put[:2, 0].norm().item()
        theirs = tv.affine(face, angle=angle, translate=put[:2, 2].tolist(), scale=scale, shear=[0.0, 0.0],
                           interpolation=tv.InterpolationMode.BILINEAR)  # fmt: skip
        assert torch.allclose(mine[:, 8:24, 8:24], theirs[:, 8:24, 8:24], atol=1e-5)


@given(st.integers(0, 1000), st.floats(0, 45), st.floats(0, 0.3), st.floats(0, 0.3))
def test_maps_stay_within_the_sizes_asked_for(seed, rotate, translate, scale):
    theta = Augment(**OFF | {"rotate": rotate, "translate": translate, "scale": scale}).theta(numbers(64, seed))
    zoom = theta[:, :, 0].norm(dim=1)
    angle = torch.rad2deg(torch.atan2(theta[:, 1, 0], theta[:, 0, 0]))
    assert (angle.abs() <= rotate + 1e-2).all()
    assert (1 / zoom <= 1 + scale + 1e-4).all() and (1 / zoom >= 1 - scale - 1e-4).all()
    assert (theta[:, :, 2].abs() <= 2 * translate + 1e-5).all()


def test_same_seed_same_batch_and_faces_differ_from_each_other():
    x, how = smooth(1).expand(8, 1, 32, 32), Augment(erase=0.5)
    first, again, other = (augment(x, how, numbers(8, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])
    assert first.abs().max() <= 1


def test_erasing_greys_one_rectangle_of_a_tenth_to_a_third_of_each_side():
    x = torch.ones(200, 1, 40, 40)
    grey = augment(x, Augment(**OFF | {"erase": 1.0}), numbers(200)) == 0
    rows, columns = grey.any(3).sum((1, 2)), grey.any(2).sum((1, 2))
    assert torch.equal(grey.sum((1, 2, 3)), rows * columns)  # a full rectangle
    assert rows.max() <= 13 and columns.max() <= 13 and rows.float().mean() > 5
    share = (augment(x, Augment(**OFF | {"erase": 0.25}), numbers(200)) == 0).flatten(1).any(1).float().mean()
    assert 0.15 < share < 0.35


def test_all_frames_of_a_clip_are_changed_in_the_same_way():
    clips = smooth(6).view(2, 3, 1, 32, 32)
    changed = augment(clips, Augment(erase=1.0), numbers(2, 4))
    alike = augment(clips[:, :1].expand_as(clips), Augment(erase=1.0), numbers(2, 4))
    assert torch.equal(changed[:, 0], augment(clips[:, 0], Augment(erase=1.0), numbers(2, 4)))
    assert torch.equal(alike[:, 0], alike[:, 2]) and not torch.equal(alike[0], alike[1])


def test_what_happens_to_a_face_does_not_depend_on_its_neighbours():
    x, how, own = smooth(8), Augment(erase=0.5), numbers(8, 3)
    together = augment(x, how, own)
    for part in (slice(0, 1), slice(1, 4), slice(4, 8)):
        assert torch.equal(together[part], augment(x[part], how, own[part]))


def test_light_is_torchvisions_normalize_and_erasing_is_its_erase():
    "Contrast c and brightness b: x (1 + c) + b, which `normalize` writes with mean -b / (1 + c), std 1 / (1 + c)."
    x, own = smooth(1) * 0.5, numbers(1, 5)
    contrast, brightness = ((2 * own[0, 5:7] - 1) * 0.2).tolist()
    expected = tv.normalize(x, [-brightness / (1 + contrast)], [1 / (1 + contrast)])
    assert torch.allclose(augment(x, Augment(**OFF | {"light": 0.2}), own), expected, atol=1e-5)
    own[0, 7:] = torch.tensor([0.5, 0.25, 0.5, 1.0, 0.0])  # centre y and x; half a side 0.1 and 0.15; hit
    expected = tv.erase(x, 13, 3, 6, 10, torch.zeros(1, 1, 1))
    assert torch.allclose(augment(x, Augment(**OFF | {"erase": 1.0}), own), expected, atol=1e-6)


def test_mixup_blends_labels_as_it_blends_faces():
    torch.manual_seed(0)
    y = torch.arange(5)
    shares = []
    for _ in range(200):
        x, soft = mixup(torch.eye(5), y, 5, 0.4)
        assert torch.allclose(x, soft) and torch.allclose(soft.sum(1), torch.ones(5))
        shares.append(soft[0, 0].item())
    expected = torch.distributions.Beta(0.4, 0.4)
    assert abs(sum(shares) / 200 - 0.5) < 0.1 and abs(torch.tensor(shares).var() - expected.variance) < 0.04
