"""The compact network of Kuo, Lai and Sarkis: its Figure 2, number by number."""

import pytest
import torch
from torch import nn

from fer_lab.models import ModelError, count_parameters, create, problems
from fer_lab.papers.compact import CompactCNN
from fer_lab.receptive import ledger, receptive_field

FIGURE_2 = [  # output, parameters
    ((64, 96, 96), 1_664), ((64, 96, 96), 102_464), ((64, 48, 48), 0), ((64, 48, 48), 102_464), ((64, 48, 48), 102_464),
    ((64, 24, 24), 0), ((64,), 2_359_360), ((64,), 4_160), ((7,), 455),
]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 2_673_031), ({"num_classes": 6}, 2_672_966), ({"widths": (16, 32)}, 1_229_623),
        ({"activation": "prelu"}, 2_673_031 + 256),
    ],
)
def test_parameter_counts(arguments, expected):
    assert count_parameters(create("compact", **arguments)) == expected


def test_layer_by_layer_it_is_figure_2():
    table = ledger(CompactCNN(), (1, 96, 96))
    main = table[table.kind.isin(["Conv2d", "MaxPool2d", "Linear"])]
    assert [(tuple(row.output), row.parameters) for row in main.itertuples()] == FIGURE_2


@pytest.mark.parametrize("activation, kind", [("relu", nn.ReLU), ("prelu", nn.PReLU)])
@pytest.mark.parametrize("widths", [(64, 64), (16, 32)])
def test_receptive_field_is_28_not_36(activation, kind, widths):
    model = CompactCNN(widths=widths, activation=activation)
    field = receptive_field(model, (1, 96, 96), "features")
    assert (field.size, field.jump) == (28, 4)
    assert sum(type(module) is kind for module in model.stages.modules()) == 4


@pytest.mark.parametrize("arguments", [{}, {"activation": "prelu"}, {"widths": (16, 32), "size": 48, "in_channels": 3}])
def test_it_keeps_the_rules_of_this_lab(arguments):
    model = create("compact", **arguments)
    shape = (arguments.get("in_channels", 1), *[arguments.get("size", 96)] * 2)
    assert problems(model, shape) == []
    assert model.eval()(torch.zeros(2, *shape)).shape == (2, 7)


def test_dropout_of_0_6_after_both_small_layers_works_in_training_only():
    model, x = CompactCNN(), torch.randn(2, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.6, 0.6]
    assert not torch.equal(model.train()(x), model(x)) and torch.equal(model.eval()(x), model(x))


def test_every_number_gets_a_gradient():
    model = CompactCNN(activation="prelu").eval()
    model(torch.randn(4, 1, 96, 96)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_an_unknown_activation_is_refused():
    with pytest.raises(ModelError, match="relu, prelu.*'gelu'"):
        CompactCNN(activation="gelu")
