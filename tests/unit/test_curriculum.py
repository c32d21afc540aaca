"""Curriculum learning: the network's arithmetic, the stages, the replayed trace, and the measures of difficulty."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import traitlets
from bars import bars
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn

from fer_lab.augment import Augment, to_float
from fer_lab.checkpoint import read_card
from fer_lab.experiment import ExperimentError, callbacks_for, recipe_for
from fer_lab.faceset import FER7, FaceSet
from fer_lab.models import ModelError, count_parameters, create, multiply_adds, problems, zoo_folder, zoo_names
from fer_lab.papers.curriculum import (
    BABY_STEP_RUN,
    CONTESTANTS,
    ORDERS,
    RECORDS,
    SHARES,
    BabyStep,
    CurriculumError,
    FaceWall,
    OrderTrial,
    Replay,
    SmallAlexNet,
    Step,
    apex_distance,
    awake_runs,
    baby_step_trace,
    density_difficulty,
    density_distance,
    effective_rank,
    embeddings,
    fer2013_callbacks,
    fer2013_recipe,
    folds_apart,
    intensity_difficulty,
    order_accuracies,
    order_helps,
    order_plan,
    order_verdict,
    ranks,
    share_of_groups,
    stage_members,
    straight_faces,
    strength_effect,
    success,
    success_difficulty,
    trace_of,
    vote_difficulty,
)
from fer_lab.receptive import receptive_field
from fer_lab.report import Report
from fer_lab.sequences import synthetic_sequences
from fer_lab.settings import load_settings
from fer_lab.splits import Split
from fer_lab.synthetic import synthetic_faces
from fer_lab.trainer import Recipe, Run, Trainer, TrainingError
from fer_lab.trial import ASLEEP, Estimate, Finding, findings, run_trial
from fer_lab.widgets import WidgetError

SETTINGS = load_settings(device="cpu", precision="fp32")
UNCHECKED = {"identical image": "not the question here"}
RECIPE = Recipe(epochs=6, batch=16, lr=0.01, schedule="constant", augment=Augment(flip=0, rotate=5), seed=0)


def split():
    faces = bars(130)
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


def test_quiet_is_kaiming_with_a_last_layer_a_tenth_as_large():
    models = {}
    for init in ("kaiming", "quiet"):
        torch.manual_seed(0)
        models[init] = SmallAlexNet(init=init).state_dict()
    for name, loud in models["kaiming"].items():
        assert torch.allclose(models["quiet"][name], loud * (0.1 if name == "head.fc3.weight" else 1)), name


# Who may be asked


def test_straight_faces_look_ahead_and_are_mostly_strong():
    faces = straight_faces(200, seed=5)
    assert len(faces) == 200 and (faces.meta[["yaw", "pitch", "roll"]].to_numpy() == 0).all()
    assert (faces.meta["intensity"] == "high").mean() == 0.6 and (faces.meta["occluder"] == "none").all()
    assert set(faces.meta["intensity"]) == {"low", "mid", "high"} and (faces.counts() > 10).all()
    again = straight_faces(200, seed=5)
    assert np.array_equal(faces.stills(), again.stills()) and (faces.aus == again.aus).all()


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ModelError, match="init must be one of gaussian, kaiming, quiet; got 'xavier'"):
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


def test_effective_rank_does_not_mind_light():
    faces = synthetic_faces(6, seed=1, mask=False).stills().astype(int)
    brighter = np.clip(faces // 2 + 40, 0, 255).astype(np.uint8)
    darker = np.clip(faces // 2 + 10, 0, 255).astype(np.uint8)
    assert effective_rank(brighter) == pytest.approx(effective_rank(darker), rel=1e-4)


def test_intensity_is_easy_where_an_expression_is_strong_and_where_neutral_is_still():
    faces = synthetic_faces(300, seed=2, mask=False)
    difficulty, strength = intensity_difficulty(faces), faces.aus.max(1)
    calm = faces.labels == faces.classes.index("neutral")
    assert difficulty[~calm] == pytest.approx(1 - strength[~calm]) and difficulty[calm] == pytest.approx(strength[calm])
    means = pd.Series(difficulty[~calm]).groupby(faces.meta["intensity"].to_numpy()[~calm]).mean()
    assert means["high"] < means["mid"] < means["low"]
    assert intensity_difficulty(faces.subset([5, 3])) == pytest.approx(difficulty[[5, 3]])  # frames are shared
    with pytest.raises(CurriculumError, match="does not know its action units"):
        intensity_difficulty(bars())


def test_density_distance_by_hand():
    "Five points in a row and one far away: the densest with the longest way to a denser one is the middle one."
    points = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [40.0]])
    assert density_distance(points).tolist() == [2, 1, 0, 1, 2, 38]


def test_density_distance_is_that_of_a_plain_double_loop():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (30, 5)), rng.normal(6, 0.3, (8, 5))])
    n = len(features)
    away = [[float(np.linalg.norm(a - b)) for b in features] for a in features]
    radius = np.median([away[i][j] for i in range(n) for j in range(i + 1, n)])
    density = [sum(away[i][j] < radius for j in range(n) if j != i) for i in range(n)]
    to_denser = []
    for i in range(n):
        denser = [away[i][j] for j in range(n) if density[j] > density[i]]
        to_denser.append(min(denser) if denser else max(away[i]))
    centre = int(np.argmax([r * d for r, d in zip(density, to_denser, strict=True)]))
    assert density_distance(features) == pytest.approx(away[centre])


def test_density_difficulty_measures_each_class_by_itself():
    row = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [40.0]])
    both, labels = np.concatenate([row, row + 100])[::-1], np.repeat([1, 0], 6)
    assert density_difficulty(both, labels).tolist() == [38, 2, 1, 0, 1, 2] * 2
    assert density_distance(np.zeros((1, 3))).tolist() == [0]


def test_success_is_judged_by_models_that_never_saw_the_person():
    "A network that knows its training people by heart, and answers anger to strangers, is right about anger only."
    faces = synthetic_faces(56, seed=3, subjects=8, mask=False)

    class ByHeart(nn.Module):
        def __init__(self, classes):
            super().__init__()
            self.weight, self.known, self.classes = nn.Parameter(torch.zeros(1)), {}, classes

        def forward(self, x):
            keys = [hash(face.numpy().tobytes()) for face in x.detach()]
            if self.training:
                self.known |= dict.fromkeys(keys, True)
            out = torch.zeros(len(x), self.classes) + self.weight
            for row, key in enumerate(keys):
                out[row, 1 if key in self.known else 0] += 9.0  # class 1 if seen
            return out

    right = success(faces, epochs=2, folds=4, make=ByHeart, settings=SETTINGS)
    assert right.shape == (2, 56) and (right == (faces.labels == 0)).all()
    for train, held in folds_apart(faces, 4, 0):
        people = faces.meta["subject"].to_numpy()
        assert not set(people[train]) & set(people[held])


def test_success_difficulty_is_the_share_of_failures():
    assert success_difficulty(np.array([[True, False], [True, True], [False, False]])).tolist() == pytest.approx(
        [1 / 3, 2 / 3]
    )


def test_the_spread_that_goes_with_a_group_is_measured_inside_classes():
    labels, groups = np.repeat([0, 1], 6), np.tile([0, 0, 0, 1, 1, 1], 2)
    assert share_of_groups(labels * 9.0 + groups, labels, groups)[0] == pytest.approx(1)  # the class itself is no group
    within = np.tile([1.0, 2, 3, 3, 2, 1], 2)
    measured, expected = share_of_groups(within, labels, groups)
    assert measured == pytest.approx(0) and expected == pytest.approx(2 / 10)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 3000)
    measured, expected = share_of_groups(rng.random(3000), labels, rng.integers(0, 3, 3000))
    assert expected == pytest.approx(14 / 2993) and measured == pytest.approx(expected, abs=0.004)
    assert share_of_groups(np.zeros(12), np.repeat([0, 1], 6), groups)[0] == 0


def test_embeddings_are_what_the_last_layer_reads():
    faces, model = synthetic_faces(5, seed=1, mask=False), SmallAlexNet(init="kaiming").eval()
    inside = torch.from_numpy(embeddings(model, faces))
    assert torch.allclose(model.head.fc3(inside), model(to_float(faces.batch())), atol=1e-5)


def test_frames_of_a_clip_by_their_distance_from_the_apex():
    clips = synthetic_sequences(4, seed=1)
    away = apex_distance(clips)
    starts = np.r_[0, np.diff(clips.spans)[:, 0].cumsum()]
    assert len(away) == starts[-1] and away.min() == 0 and away.max() == 1
    for i, apex in enumerate(clips.meta["apex"]):
        mine = away[starts[i] : starts[i + 1]]
        assert (
            mine[int(apex)] == 0
            and (np.diff(mine[: int(apex) + 1]) < 0).all()
            and (np.diff(mine[int(apex) :]) > 0).all()
        )
    no_apex = FaceSet("clip", clips.frames, clips.labels, clips.space, spans=clips.spans)
    assert apex_distance(no_apex)[starts[1:] - 1].tolist() == [0] * 4  # the last frame is the apex


def test_strength_effect_is_the_difference_of_the_two_ends():
    faces = synthetic_faces(400, seed=4, mask=False)
    level = faces.meta["intensity"].to_numpy()
    right = np.stack([level == "high", np.isin(level, ["high", "mid"])])  # rates: high 1, mid 0.5, low 0
    table, ahead = strength_effect(right, faces)
    assert table.loc["all", ["low", "mid", "high"]].tolist() == pytest.approx([0, 0.5, 1])
    assert ahead.value == pytest.approx(1) and ahead.people == faces.meta["subject"][level != "mid"].nunique()
    _, none = strength_effect(np.ones((2, 400), bool), faces)
    assert none.value == pytest.approx(0, abs=1e-9)


# The recipes


def test_fer2013_callbacks_rank_by_votes():
    rows = np.zeros((70, 10), int)
    labels = np.arange(70) % 7
    rows[np.arange(70), labels] = np.arange(70) // 7  # 0 to 9 of ten raters agree, in every class
    rows[:, 9] = 10 - rows.sum(1)
    (baby,) = fer2013_callbacks(voted(rows.tolist(), labels))
    easiest = stage_members(baby.rank, 0, shares=baby.shares)
    assert len(easiest) == 42 and set(easiest) == set(range(28, 70))  # the 60 % on which people agree most
    assert baby.config["difficulty"] == "votes" and fer2013_recipe()[1].schedule == "constant"
    with pytest.raises(CurriculumError, match="difficulty must be one of votes, complexity"):
        fer2013_callbacks(voted(rows.tolist(), labels), difficulty="taste")


def test_the_command_line_hands_the_curriculum_to_the_trainer():
    settings = replace(SETTINGS, dataset="fer2013", budget="full")
    arguments, recipe = recipe_for("alexnet", settings, init="kaiming", curriculum="baby-step", dropout=0.4)
    assert arguments == {"init": "kaiming", "dropout": 0.4} and recipe.epochs == fer2013_recipe()[1].epochs
    with pytest.raises(ExperimentError, match="alexnet has no pace. It has: curriculum, difficulty,"):
        recipe_for("alexnet", settings, pace=3)
    rows, labels = np.eye(10, dtype=int)[np.arange(14) % 7] * 10, np.arange(14) % 7
    (baby,) = callbacks_for("alexnet", settings, voted(rows.tolist(), labels), init="kaiming")
    assert isinstance(baby, BabyStep)
    assert callbacks_for("stn", settings, voted(rows.tolist(), labels)) == []


def test_a_control_replays_the_run_in_the_package(monkeypatch, tmp_path):
    rows, labels = (np.eye(10, dtype=int)[np.arange(14) % 7] * 10).tolist(), np.arange(14) % 7
    if BABY_STEP_RUN in zoo_names():
        (control,) = fer2013_callbacks(voted(rows, labels), curriculum="hard-add")
        assert control.trace == baby_step_trace() and control.order == "hard-add"
        assert len(control.trace) == fer2013_recipe()[1].epochs
    monkeypatch.setattr("fer_lab.papers.curriculum.zoo_folder", lambda: tmp_path)
    with pytest.raises(CurriculumError, match="no run alexnet-babystep-fer2013 in the package yet"):
        fer2013_callbacks(voted(rows, labels), curriculum="all-at-once")


@pytest.mark.parametrize("name", [name for name in zoo_names() if name.startswith("alexnet-")])
def test_records_hold_the_curriculum_they_were_trained_with(name):
    card, history = read_card(zoo_folder() / name), Run(zoo_folder() / name).history
    (told,) = card["callbacks"]
    assert card["model"]["config"]["init"] == "gaussian" and history["stage"].is_monotonic_increasing
    assert [[s.stage, s.faces, s.lr] for s in trace_of(history)] == told.get(
        "trace", [list(vars(s).values()) for s in trace_of(history)]
    )
    assert (
        card["selection"] == f"best val WAR of {len(history)} epochs" and history["val_war"].max() == card["val"]["war"]
    )


# The trial

TINY = dict(labels="noisy", length="short", seeds=1, faces=70, test_faces=35, difficulty="intensity")


def test_every_contestant_of_the_trial_runs_on_the_same_trace(tmp_path):
    plan = replace(order_plan(**TINY, name="tiny"), details=order_plan(**TINY).details | {"epochs": 3, "longest": 1})
    trial = OrderTrial(plan, SETTINGS)
    record = run_trial(plan, trial, tmp_path, progress=False)
    assert set(run["condition"] for run in record.runs) == set(CONTESTANTS)
    for contestant in CONTESTANTS[1:]:
        assert trace_of(trial.histories[contestant, 0]) == trial.traces[0]
    assert [step.stage for step in trial.traces[0]] == [0, 1, 2]
    found = findings(record)
    assert len(found) == 5 and order_helps(found) is None  # one seed proves nothing
    assert order_verdict(found, [plan]).count(ASLEEP) == 5  # seventy faces, three epochs


def test_a_trial_whose_networks_are_all_at_chance_cannot_be_asked(tmp_path):
    plan = replace(order_plan(**TINY, name="fixed", contestants=("baby-step", "all-at-once")), seeds=(0, 1))
    faces = straight_faces(plan.details["test faces"], seed=999)
    for best, asleep in ((0.12, True), (1 / 7 + 0.04, True), (0.6, False)):

        def answer(who, seed, best=best):
            right = np.arange(len(faces)) < (best if who == "all-at-once" else 0.1) * len(faces)
            said = np.where(right, faces.labels, (faces.labels + 1) % 7)
            return {"straight faces": Report(who, faces.labels, np.eye(7, dtype=np.float32)[said], faces.classes)}

        found = findings(run_trial(plan, answer, tmp_path / str(best), progress=False))
        assert (found[0].verdict == ASLEEP) is asleep and order_helps(found) is None


def test_the_table_of_accuracies_says_who_slept(tmp_path):
    plan = replace(order_plan(**TINY, name="curriculum", contestants=("baby-step", "all-at-once")), seeds=(0, 1))
    faces = straight_faces(plan.details["test faces"], seed=999)

    def answer(who, seed):
        share = 0.6 if who == "all-at-once" and seed == 0 else 0.1
        said = np.where(np.arange(len(faces)) < share * len(faces), faces.labels, (faces.labels + 1) % 7)
        return {"straight faces": Report(who, faces.labels, np.eye(7, dtype=np.float32)[said], faces.classes)}

    record = run_trial(plan, answer, tmp_path, progress=False)
    assert [awake_runs(record, name) for name in plan.conditions] == [0, 1]
    table = order_accuracies([record])
    assert list(table) == ["noisy-short"] and list(table.index) == ["baby-step", "all-at-once"]
    assert table.loc["baby-step"].item().endswith("(at chance); 0 of 2 awake")
    assert table.loc["all-at-once"].item().startswith("35.7 ±") and "1 of 2 awake" in table.loc["all-at-once"].item()


def test_only_training_labels_are_spoilt():
    trial = OrderTrial(order_plan(**TINY | {"faces": 300}), SETTINGS)
    split = trial.faces_of(0).split
    truth = split.faces.meta.get("true_label")
    clean = OrderTrial(order_plan(**TINY | {"faces": 300, "labels": "clean"}), SETTINGS).faces_of(0).split
    assert np.array_equal(split.val.labels, clean.val.labels)
    wrong = (split.train.labels != clean.train.labels).mean()
    assert 0.2 < wrong < 0.4 and truth is None


def test_plans_name_their_cell():
    names = [plan.name for plan in RECORDS]
    assert len(set(names)) == 5 and "curriculum-noisy-long" in names and "curriculum-intensity-clean-short" in names
    assert all(len(plan.seeds) == 10 and plan.matters == 0.02 for plan in RECORDS)
    assert RECORDS[0].conditions[0] == "baby-step" and set(RECORDS[0].conditions[1:]) < set(ORDERS)


def finding(second, value, error):
    difference = Estimate(value, error, 50.0, 10, 100, 700, True)
    return Finding("baby-step", second, "straight faces", difference, 0.02, difference.p, difference.p_inside(0.02))


def test_easy_first_helps_only_if_it_beats_reversed_and_random_stages_in_the_same_cell():
    better, none, open_ = (
        (lambda name: finding(name, 0.05, 0.005)),
        (lambda name: finding(name, 0.0, 0.004)),
        (lambda name: finding(name, 0.02, 0.02)),
    )
    assert order_helps([better("hard-add"), better("random-add")]) is True
    assert order_helps([better("hard-add"), none("random-add"), none("hard-add"), better("random-add")]) is False
    assert order_helps([better("hard-add"), open_("random-add")]) is None
    assert order_helps([]) is None


def test_a_verdict_says_which_of_the_two_is_at_chance():
    plan = order_plan(**TINY, contestants=("baby-step", "easy-replace"))
    better = finding("easy-replace", 0.05, 0.005)
    assert order_verdict([better], [plan]) == "- **noisy-short**: against easy-replace better (+5.0)."
    said = order_verdict([replace(better, asleep=("easy-replace",))], [plan])
    assert said == "- **noisy-short**: against easy-replace better (+5.0, easy-replace is at chance)."
    both = replace(better, asleep=("baby-step", "easy-replace"))
    assert order_verdict([both], [plan]) == f"- **noisy-short**: against easy-replace {ASLEEP}."


# The wall


@pytest.fixture(scope="module")
def drawn():
    return synthetic_faces(30, seed=1, mask=False)


def test_the_wall_refuses_what_it_cannot_show(drawn):
    with pytest.raises(WidgetError, match="every measure needs 30 finite numbers"):
        FaceWall(drawn, {"a": np.zeros(29)})
    with pytest.raises(WidgetError, match="got no measure"):
        FaceWall(drawn, {})
    with pytest.raises(WidgetError, match="at most; got 270 faces"):
        FaceWall(drawn.subset(np.arange(270) % 30), {"a": np.zeros(270)})
    wall = FaceWall(drawn, {"a": np.arange(30), "b": np.zeros(30)})
    with pytest.raises(traitlets.TraitError, match="this wall has a, b"):
        wall.measure = "c"


def test_the_frozen_wall_holds_the_faces_and_the_state(drawn, tmp_path):
    wall = FaceWall(drawn, {"a": np.arange(30)}, shares=(0.5, 1.0))
    wall.at = 0.5
    html = wall.freeze(tmp_path / "wall.html")
    page = (tmp_path / "wall.html").read_text()
    assert (
        html.startswith("<iframe srcdoc=")
        and wall.faces in page
        and '"at":0.5' in page
        and "http" not in page.split("<body>")[1]
    )
    assert len(html) < 300_000


def test_the_browsers_own_tests_pass():
    node = shutil.which("node")
    if not node:
        pytest.skip("node is not installed; it runs the front-end's own tests")
    done = subprocess.run(
        [node, "--test", str(Path(__file__).with_name("wall.test.mjs"))], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 3


def test_what_the_lesson_says_of_the_raters_is_so(fer2013):
    if "vote_fear" not in fer2013.meta:
        pytest.skip("the FER+ votes (fer2013new.csv) are not beside FER2013")
    doubt = pd.Series(vote_difficulty(fer2013)).groupby(np.array(fer2013.classes)[fer2013.labels])
    assert doubt.median().round(1).to_dict() == {
        "happiness": 0.0, "neutral": 0.2, "surprise": 0.3, "anger": 0.7, "sadness": 0.7, "disgust": 0.8, "fear": 1.0,
    }  # fmt: skip
    assert round(doubt.apply(lambda each: (each == 1).mean())["fear"], 2) == 0.59
