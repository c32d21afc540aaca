"""Curriculum learning: the network's arithmetic, the stages, the replayed trace, and the measures of difficulty."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from fer_lab.augment import Augment
from fer_lab.faceset import FER7, FaceSet
from fer_lab.models import ModelError, count_parameters, create, multiply_adds, problems
from fer_lab.papers.curriculum import (
    ORDERS,
    SHARES,
    BabyStep,
    CurriculumError,
    Replay,
    SmallAlexNet,
    Step,
    effective_rank,
    ranks,
    stage_members,
    trace_of,
    vote_difficulty,
)
from fer_lab.receptive import receptive_field
from fer_lab.settings import load_settings
from fer_lab.splits import Split
from fer_lab.trainer import Recipe, Trainer, TrainingError

SETTINGS = load_settings(device="cpu", precision="fp32")
UNCHECKED = {"identical image": "not the question here"}
RECIPE = Recipe(epochs=6, batch=16, lr=0.01, schedule="constant", augment=Augment(flip=0, rotate=5), seed=0)


def bars(n=130, seed=0):
    "Seven classes that differ in the position of a bright bar."
    rng = np.random.default_rng(seed)
    labels, frames = np.arange(n) % 7, rng.integers(0, 60, (n, 1, 14, 14), dtype=np.uint8)
    for i, label in enumerate(labels):
        frames[i, 0, 2 * label : 2 * label + 2] += 180
    return FaceSet("bars", frames, labels, FER7)


def split():
    faces = bars()
    return Split(faces, "by hand", range(84), range(84, 107), range(107, 130), UNCHECKED)


def trainer(folder, callbacks, recipe=RECIPE):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(196, 7))
    return Trainer(model, recipe, folder, callbacks, settings=SETTINGS, progress=False)


RANK = ranks(np.arange(84) % 12, np.arange(84) % 7)


# The network


def test_parameters_cost_and_receptive_field():
    model = SmallAlexNet()
    widths, hidden = (24, 64, 96, 96, 64), 256
    convolutions = [(1, 24, 5), (24, 64, 5), (64, 96, 3), (96, 96, 3), (96, 64, 3)]
    linear = [(64 * 9, hidden), (hidden, hidden), (hidden, 7)]
    by_hand = sum(k * k * a * b + b for a, b, k in convolutions) + sum(a * b + b for a, b in linear)
    assert count_parameters(model) == by_hand == 448_183 and model.config["widths"] == list(widths)
    places = (24 * 24, 12 * 12, 36, 36, 36)
    cost = sum(k * k * a * b * n for (a, b, k), n in zip(convolutions, places)) + sum(a * b for a, b in linear)
    assert multiply_adds(model, (1, 48, 48)) == cost == 13_057_280
    assert receptive_field(model, (1, 48, 48), "features")[0] == 97


@pytest.mark.parametrize("size", [48, 64, 96])
def test_it_keeps_the_rules_at_every_size(size):
    model = create("alexnet", num_classes=5, size=size)
    assert problems(model, (1, size, size)) == []
    assert model(torch.zeros(2, 1, size, size)).shape == (2, 5)


def test_every_weight_is_drawn_with_a_hundredth_and_every_bias_is_zero():
    torch.manual_seed(0)
    layers = [m for m in SmallAlexNet().modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 8
    for layer in layers:
        n = layer.weight.numel()
        assert layer.weight.std().item() == pytest.approx(0.01, rel=4 / n**0.5)
        assert abs(layer.weight.mean().item()) < 5 * 0.01 / n**0.5
        assert not layer.bias.any()


def test_kaiming_keeps_the_size_of_the_signal_and_the_gaussian_does_not():
    x = torch.rand(32, 1, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    spread = {}
    for init in ("gaussian", "kaiming"):
        torch.manual_seed(0)
        spread[init] = SmallAlexNet(init=init).eval()(x).std().item()
    assert spread["gaussian"] < 1e-6 < 0.1 < spread["kaiming"] < 10


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ModelError, match="init must be one of gaussian, kaiming; got 'xavier'"):
        SmallAlexNet(init="xavier")
    with pytest.raises(ModelError, match="five widths"):
        SmallAlexNet(widths=(8, 8))


# Stages


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), min_size=3, max_size=60), st.integers(0, 99))
@hypothesis_settings(max_examples=60, deadline=None)
def test_ranks_are_a_permutation_inside_each_class_and_follow_difficulty(faces, seed):
    labels, difficulty = np.array([label for label, _ in faces]), np.array([value for _, value in faces])
    rank = ranks(difficulty, labels, seed)
    for label in set(labels):
        mine = labels == label
        assert sorted(rank[mine]) == pytest.approx((np.arange(mine.sum()) + 0.5) / mine.sum())
        order = np.argsort(rank[mine])
        assert (np.diff(difficulty[mine][order]) >= 0).all()


@given(st.integers(0, 50), st.integers(7, 200))
@hypothesis_settings(max_examples=40, deadline=None)
def test_orders_share_out_the_same_faces(seed, n):
    rng = np.random.default_rng(seed)
    rank = ranks(rng.random(n), rng.integers(0, 3, n))
    stages = range(len(SHARES))
    members = {order: [set(stage_members(rank, k, order)) for k in stages] for order in ORDERS}
    everyone = set(range(n))
    for order, (_, keep) in ORDERS.items():
        pools = members[order]
        if keep:
            assert pools[0] <= pools[1] <= pools[2] == everyone  # nobody is ever dropped
        else:
            assert set().union(*pools) == everyone and sum(map(len, pools)) == n  # each face exactly once
    assert members["easy-replace"][0] == members["easy-add"][0]
    assert members["hard-replace"][0] == members["hard-add"][0]
    easiest, hardest = int(rank.argmin()), int(rank.argmax())
    assert hardest not in members["easy-add"][0] and easiest not in members["hard-add"][0]


def test_a_repeated_last_share_is_a_stage_with_everybody():
    shares = (0.5, 1.0, 1.0)
    assert len(stage_members(RANK, 2, shares=shares)) == 84
    late, last = (stage_members(RANK, k, "easy-replace", shares) for k in (1, 2))
    assert np.array_equal(late, last) and len(late) == 42


def test_ranks_refuse_what_has_no_order():
    with pytest.raises(CurriculumError, match="84 faces need 84 finite difficulties; got 84, 1 of them not finite"):
        ranks(np.where(np.arange(84) == 3, np.nan, 1.0), np.zeros(84, int))


# In the trainer


class Scores:
    "Replaces what validation says, so that the moment of each stage is known beforehand."

    def __init__(self, *scores):
        self.scores = scores

    def on_epoch_end(self, trainer):
        trainer.line["val_war"] = self.scores[trainer.epoch - 1]


def test_a_stage_ends_after_t_epochs_without_improvement(tmp_path):
    scores = Scores(0.1, 0.2, 0.2, 0.1, 0.5, 0.4, 0.3, 0.2)  # stage 0 stalls in epochs 3 and 4, stage 1 in 6 and 7
    baby = BabyStep(RANK, patience=2, factor=0.1)
    history = trainer(tmp_path, [scores, baby], Recipe(8, 16, 0.01, schedule="constant")).fit(split()).history
    assert history.stage.tolist() == [0, 0, 0, 0, 1, 1, 1, 2]
    assert history.pool.tolist() == [28] * 4 + [56] * 3 + [84]
    assert history.lr.tolist() == pytest.approx([1e-2] * 4 + [1e-3] * 3 + [1e-4])


def test_the_first_epoch_of_a_stage_always_counts_as_improvement(tmp_path):
    "More faces may make validation worse for a while: each stage is measured against itself."
    scores = Scores(0.9, 0.8, 0.1, 0.2, 0.3, 0.4)
    history = trainer(tmp_path, [scores, BabyStep(RANK, patience=1)]).fit(split()).history
    assert history.stage.tolist() == [0, 0, 1, 1, 1, 1]


def test_longest_ends_a_stage_that_still_improves(tmp_path):
    scores = Scores(*np.linspace(0.1, 0.9, 6))
    history = trainer(tmp_path, [scores, BabyStep(RANK, patience=3, longest=2)]).fit(split()).history
    assert history.stage.tolist() == [0, 0, 1, 1, 2, 2]


class Seen:
    "Which faces were in the pool of each epoch."

    def __init__(self):
        self.pools = []

    def on_batch_end(self, trainer):
        if len(self.pools) <= trainer.epoch:
            self.pools.append(trainer.pool.tolist())


@pytest.mark.parametrize("order", ORDERS)
def test_a_replay_repeats_rates_and_sizes_and_changes_only_the_faces(tmp_path, order):
    first = trainer(tmp_path / "a", [BabyStep(RANK, patience=1, longest=2)]).fit(split())
    trace, seen = trace_of(first.history), Seen()
    again = trainer(tmp_path / "b", [Replay(trace, RANK, order), seen]).fit(split())
    for column in ("stage", "pool", "lr"):
        assert again.history[column].tolist() == first.history[column].tolist()
    for step, pool in zip(trace, seen.pools, strict=True):
        allowed = range(84) if order == "all-at-once" else stage_members(RANK, step.stage, order)
        assert set(pool) <= set(allowed) and len(pool) == step.faces
        times = np.bincount(pool, minlength=84)[list(allowed)]
        assert times.max() - times.min() <= 1  # repeats, where there are any, are spread evenly
    if order == "all-at-once":
        assert set(seen.pools[0]) != set(seen.pools[1])


def test_baby_steps_replayed_with_their_own_order_are_the_same_training(tmp_path):
    first = trainer(tmp_path / "a", [BabyStep(RANK, longest=2)]).fit(split())

    class SamePool(Replay):
        def on_epoch_start(self, trainer):  # the positions as the baby steps gave them, without another shuffle
            step = self.trace[trainer.epoch]
            trainer.pool = torch.from_numpy(stage_members(self.rank, step.stage))
            trainer.optimizer.param_groups[0]["lr"] = step.lr

    again = trainer(tmp_path / "b", [SamePool(trace_of(first.history), RANK, "easy-add")]).fit(split())
    assert again.history.loss.tolist() == first.history.loss.tolist()


class PowerCut(Exception):
    def on_batch_end(self, trainer):
        if trainer.epoch == 3:
            raise self


@pytest.mark.parametrize("kind", ["baby", "replay"])
def test_a_stopped_curriculum_goes_on_in_the_same_stage(tmp_path, kind):
    trace = [Step(k // 2, (28, 56, 84)[k // 2], 0.01 / 2 ** (k // 2)) for k in range(6)]

    def fresh():
        return BabyStep(RANK, patience=1, longest=2) if kind == "baby" else Replay(trace, RANK)

    whole = trainer(tmp_path / "whole", [fresh()]).fit(split())
    with pytest.raises(PowerCut):
        trainer(tmp_path / "cut", [fresh(), PowerCut()]).fit(split())
    again = trainer(tmp_path / "cut", [fresh()]).fit(split())
    for column in ("stage", "pool", "lr", "loss", "val_war"):
        assert again.history[column].tolist() == whole.history[column].tolist()


def test_a_run_is_not_continued_with_another_curriculum(tmp_path):
    with pytest.raises(PowerCut):
        trainer(tmp_path, [BabyStep(RANK, longest=2), PowerCut()]).fit(split())
    with pytest.raises(TrainingError, match="callbacks"):
        trainer(tmp_path, [BabyStep(RANK, longest=3)]).fit(split())
    with pytest.raises(TrainingError, match="callbacks"):
        trainer(tmp_path, []).fit(split())


def test_the_card_tells_the_curriculum(tmp_path):
    card = trainer(tmp_path, [BabyStep(RANK, about="votes")]).fit(split()).card
    (told,) = card["callbacks"]
    assert (told["name"], told["difficulty"]) == ("BabyStep", "votes")


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(CurriculumError, match="schedule='constant'"):
        trainer(tmp_path / "a", [BabyStep(RANK)], Recipe(2)).fit(split())
    with pytest.raises(CurriculumError, match="ranks 83 faces; the training side has 84"):
        trainer(tmp_path / "b", [BabyStep(RANK[:83])]).fit(split())
    with pytest.raises(CurriculumError, match="shares must rise to 1"):
        BabyStep(RANK, shares=(0.5, 0.4, 1))
    with pytest.raises(CurriculumError, match="the trace has 1 epochs, the recipe wants 6"):
        trainer(tmp_path / "c", [Replay([Step(0, 28, 0.1)], RANK)]).fit(split())
    with pytest.raises(CurriculumError, match="has no pool, stage"):
        trace_of(pd.DataFrame({"lr": [0.1]}))
    with pytest.raises(CurriculumError, match="order must be one of"):
        Replay([], RANK, "easy")


# Difficulty


def voted(rows, labels):
    names = [f"vote_{name}" for name in (*FER7.classes, "contempt", "unknown", "no_face")]
    meta = pd.DataFrame(rows, columns=names)
    return FaceSet("votes", np.zeros((len(rows), 1, 8, 8), np.uint8), np.array(labels), FER7, meta)


def test_vote_difficulty_is_the_share_of_raters_who_disagree():
    rows = [[10, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 4, 0, 0, 3, 0, 1, 2, 0], [0] * 9 + [10], [0] * 10]
    assert vote_difficulty(voted(rows, [0, 2, 6, 6])).tolist() == pytest.approx([0, 0.6, 1, 1])
    with pytest.raises(CurriculumError, match="has no vote_anger.*fer2013new.csv"):
        vote_difficulty(bars())


def test_effective_rank_counts_equal_directions():
    "A picture of k equal singular values uses exactly k directions."
    rng = np.random.default_rng(0)
    stripes = np.zeros((1, 1, 16, 16), np.uint8)
    stripes[..., ::2] = 255
    noise = rng.integers(0, 256, (1, 1, 16, 16), dtype=np.uint8)
    flat = np.full((1, 1, 16, 16), 90, np.uint8)
    one, many, none = effective_rank(np.concatenate([stripes, noise, flat]))
    assert one == pytest.approx(1, abs=1e-3) and 8 < many < 16 and none == pytest.approx(1, abs=1e-3)
    block = np.kron(np.array([[1, -1], [-1, 1]]), np.eye(4)) * 100 + 128  # zero mean, four equal singular values
    assert effective_rank(block.astype(np.uint8)[None, None])[0] == pytest.approx(4, abs=0.05)
