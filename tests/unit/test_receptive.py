"""Receptive fields: the papers' numbers, arithmetic against gradient, the ledger against independent counts."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fer_lab.receptive import (
    Field,
    FieldError,
    box_filters,
    effective_field,
    effective_size,
    ledger,
    receptive_field,
    trace,
)

SIZE = 64


def stack(*layers):
    "3 is a valid 3x3 convolution, 's5' a padded 5x5 one, 'pool' a 2x2 max pooling."
    modules, c = [], 1
    for layer in layers:
        if layer == "pool":
            modules.append(nn.MaxPool2d(2))
        else:
            k = int(str(layer).strip("s"))
            modules += [nn.Conv2d(c, 4, k, padding=k // 2 if "s" in str(layer) else 0), nn.ReLU()]
            c = 4
    return nn.Sequential(*modules)


@pytest.mark.parametrize(
    ("network", "side", "size"),
    [
        (stack(3, 3, "pool", 3, 3, "pool"), 48, 16),  # Deep-Emotion's features
        (stack("s5", "s5", "pool", "s5", "s5", "pool"), 96, 28),  # Kuo's compact network; the paper prints 36
        (stack("s5", "pool", "s5", "pool"), 96, 16),  # DTAN, as the same paper prints
        (stack("s3", "s3", "pool", "s3", "s3", "pool", *["s3"] * 3, "pool", *["s3"] * 3), 128, 92),  # VGG16
    ],
)
def test_numbers_of_the_papers(network, side, size):
    assert receptive_field(network, (1, side, side)).size == size


layers = st.one_of(
    st.tuples(st.just("conv"), st.integers(1, 4), st.integers(1, 2), st.integers(0, 2), st.integers(1, 3)),
    st.tuples(st.just("max"), st.integers(2, 3), st.integers(1, 2), st.integers(0, 1), st.just(1)),
    st.tuples(st.just("mean"), st.integers(2, 3), st.integers(1, 2), st.integers(0, 1), st.just(1)),
)


def build(plan):
    modules = []
    for kind, kernel, stride, padding, dilation in plan:
        if kind == "conv":
            modules += [nn.Conv2d(1, 1, kernel, stride, padding, dilation), nn.ReLU()]
        else:
            modules.append((nn.MaxPool2d if kind == "max" else nn.AvgPool2d)(kernel, stride, min(padding, kernel // 2)))
    return nn.Sequential(*modules)


@settings(max_examples=60, deadline=None)
@given(st.lists(layers, min_size=1, max_size=5))
def test_arithmetic_equals_the_support_of_the_gradient(plan):
    "In a network of box filters every pixel of the field counts, and no other."
    side = SIZE
    for kind, kernel, stride, padding, dilation in plan:
        side = (
            side + 2 * (padding if kind == "conv" else min(padding, kernel // 2)) - dilation * (kernel - 1) - 1
        ) // stride + 1
        assume(side > 0)  # the picture is large enough for all layers
    network = box_filters(build(plan))
    with torch.no_grad():
        rows = network(torch.zeros(1, 1, SIZE, SIZE).double()).shape[2]
    unit, field = rows // 2, receptive_field(network, (1, SIZE, SIZE))
    seen = effective_field(network, torch.zeros(1, 1, SIZE, SIZE).double(), unit=(unit, unit)) > 0
    start, stop = field.pixels(unit, SIZE)
    touched = seen.any(1).nonzero().flatten()
    inside = field.first + unit * field.jump >= 0 and field.first + unit * field.jump + field.size <= SIZE
    if inside:
        assert (touched.min(), touched.max() + 1) == (start, stop)
    else:  # part of the field lies in the padding, of which dilation may see only a part
        assert start <= touched.min() and touched.max() < stop


class Branches(nn.Module):
    "Three rates side by side, as multi-scale networks have them; joined by concatenation and by a skip."

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(1, 2, 3, padding=rate, dilation=rate) for rate in (1, 2, 4))
        self.mix = nn.Conv2d(6, 6, 1)

    def forward(self, x):
        joined = torch.cat([branch(x) for branch in self.branches], 1)
        return self.mix(joined) + joined


def test_branches_take_the_widest():
    assert receptive_field(Branches(), (1, 32, 32)) == Field(9, 1, -4)
    seen = effective_field(box_filters(Branches()), torch.zeros(1, 1, 32, 32).double()) > 0
    touched = seen.any(0).nonzero().flatten()
    assert touched.max() - touched.min() + 1 == 9  # with holes: no branch looks three pixels away
    assert [receptive_field(Branches(), (1, 32, 32), f"branches.{i}").size for i in range(3)] == [3, 5, 9]


class Gated(nn.Module):
    "Squeeze and excitation, with operations written as functions."

    def __init__(self):
        super().__init__()
        self.conv, self.gate, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4, 4), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = torch.nn.functional.relu(self.conv(x))
        x = torch.nn.functional.max_pool2d(x, 2)
        return self.last(x * self.gate(x.mean((2, 3))).sigmoid()[:, :, None, None])


def test_a_gate_sees_everything_unless_counted_as_papers_do():
    assert receptive_field(Gated(), (1, 32, 32)) == Field(32, 0, 0)
    assert receptive_field(Gated(), (1, 32, 32), gates=False) == Field(8, 2, 0)
    seen = effective_field(Gated(), torch.randn(1, 1, 32, 32))
    assert (seen > 0).float().mean() > 0.8  # the strict answer is the true one


def test_slices_padding_and_resizing():
    class Cropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)

        def forward(self, x):
            return nn.functional.pad(self.conv(x)[:, :, 2:-2, 2:-2], (1, 1, 1, 1))

    assert receptive_field(Cropped(), (1, 16, 16)) == Field(3, 1, 1)
    halved = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2), nn.Upsample(scale_factor=2))
    assert receptive_field(halved, (1, 17, 17)) == Field(3, 1, 0)


def test_different_kernels_along_the_axes():
    network = nn.Conv2d(1, 1, (3, 5))
    down, across = trace(network, (1, 20, 20))[-1].fields
    assert (down.size, across.size) == (3, 5)
    with pytest.raises(FieldError, match="3 pixels down and 5 across"):
        receptive_field(network, (1, 20, 20))
    assert ledger(network, (1, 20, 20))["receptive field"].iloc[0] == "3 × 5"


def test_what_is_not_known_is_refused_by_name():
    class Sorted(nn.Module):
        def forward(self, x):
            return x.sort(-1).values

    with pytest.raises(FieldError, match="'sort'"):
        receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3), Sorted()), (1, 16, 16))
    with pytest.raises(FieldError, match="transposed"):
        receptive_field(nn.Sequential(nn.ConvTranspose2d(1, 1, 3)), (1, 16, 16))


@pytest.mark.parametrize("name", ["plain", "resnet18", "stn"])
def test_ledger_agrees_with_independent_counts(name):
    models = pytest.importorskip("fer_lab.models")
    model = models.create(name)
    book = ledger(model, (1, 48, 48))
    assert book["parameters"].sum() == sum(p.numel() for p in model.parameters())
    counter = FlopCounterMode(display=False)
    model.eval()
    with counter, torch.no_grad():
        model(torch.zeros(1, 1, 48, 48))
    assert book["multiply-adds"].sum() == counter.get_total_flops() // 2 == models.multiply_adds(model, (1, 48, 48))


def test_recurrent_layers_are_counted_and_shared_ones_only_once():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lstm = nn.Conv2d(1, 1, 3, padding=1), nn.LSTM(64, 8, batch_first=True)

        def forward(self, x):
            return self.lstm(self.conv(self.conv(x)).flatten(2))[0][:, -1]

    book = ledger(Net(), (1, 8, 8))
    assert book["parameters"].sum() == sum(p.numel() for p in Net().parameters())
    assert book.loc[book["layer"] == "conv", "parameters"].tolist() == [10, 0]
    assert book.loc[book["layer"] == "lstm", "multiply-adds"].item() == 4 * 8 * (64 + 8)


def test_tracing_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()).train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    ledger(model, (1, 8, 8))
    assert model.training and all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_effective_size_grows_with_the_root_of_the_depth():
    used = []
    for depth in (4, 16):
        network = box_filters(nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1) for _ in range(depth)]))
        used.append(effective_size(effective_field(network, torch.zeros(1, 1, SIZE, SIZE).double())))
    assert 1.5 < used[1] / used[0] < 2.6  # four times the depth, about twice the size


def test_equal_dilation_leaves_holes():
    seen = []
    for rates in ((2, 2, 2), (1, 2, 3)):
        network = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=r, dilation=r) for r in rates])
        assert receptive_field(network, (1, 48, 48)).size == 13
        seen.append(int((effective_field(box_filters(network), torch.zeros(1, 1, 48, 48).double()) > 0).sum()))
    assert seen == [49, 169] and math.isqrt(seen[1]) == 13


def test_unit_outside_maps_and_unknown_parts():
    with pytest.raises(FieldError, match="place only in maps"):
        effective_field(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="no part 'nowhere'"):
        receptive_field(stack(3), (1, 16, 16), "nowhere")
