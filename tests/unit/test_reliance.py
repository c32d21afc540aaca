"""Reliance: planted rules must be found, oracles must win, dice must not; imputation against a dense solution."""

import json
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from torch import nn

from fer_lab import reliance as r
from fer_lab.augment import to_float
from fer_lab.synthetic import AU_NAMES, Pose, au_index, render, sample_params

UPRIGHT = Pose(0, 0, 0, 0, 0)


def faces_showing(n=12, seed=4, **strengths):
    "Calm faces of different people on which some units are set."
    p = sample_params(n, seed, classes=("neutral",), pose=UPRIGHT, domain="A", occluded=0.0).only()
    return p.with_aus(**strengths)


@pytest.fixture(scope="module")
def faces():
    return r.variants(faces_showing(AU4=0.9, AU9=0.6, AU12=0.9, AU26=0.8))


class Bright(nn.Module):
    "The logit of class 0 is a weighted sum of brightness; nothing else counts."

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", weights)

    def forward(self, x):
        score = (x * self.weights).sum((1, 2, 3))
        return torch.stack([score, torch.zeros_like(score)], 1)


# ---- drawing again


def test_variants_are_what_the_renderer_draws_without_these_units(faces):
    for i in (0, len(faces) - 1):
        mine = faces.units[i]
        assert faces.starts[i + 1] - faces.starts[i] == 2 ** len(mine)
        for k in range(len(mine) + 1):
            for rest in combinations(range(len(mine)), k):
                expected, _ = render(faces.params[[i]].without(*(AU_NAMES[mine[j]] for j in rest)))
                assert torch.equal(faces.pictures[faces.starts[i] + sum(1 << j for j in rest)], expected[0])


def test_weak_and_invisible_units_are_not_asked_about():
    p = faces_showing(4, AU12=0.9, AU26=0.8, AU4=0.05)
    assert all(AU_NAMES.index("AU4") not in units for units in r.variants(p).units)
    many = faces_showing(4, AU1=0.9, AU2=0.9, AU4=0.7, AU6=0.7, AU9=0.8, AU12=0.9, AU17=0.7, AU26=0.8)
    found = r.variants(many, most=3)
    assert {len(units) for units in found.units} == {3}
    with pytest.raises(r.RelianceError, match="draw more of them"):
        r.variants(faces_showing(4, AU12=0.9))


def test_masks_are_where_the_unit_shows(faces):
    brow, jaw = faces.units[0].index(au_index("AU4")), faces.units[0].index(au_index("AU26"))
    rows = [mask.any(1).nonzero().flatten().float().mean() for mask in faces.masks(0)]
    assert rows[brow] < 22 < 28 < rows[jaw]


# ---- planted truths


def test_the_planted_unit_has_the_highest_reliance(faces):
    "A network that reads brightness in one unit's mask alone relies on that unit."
    for i in range(4):
        masks = faces.masks(i)
        for j in range(len(masks)):
            own = masks[j] & ~torch.stack([mask for k, mask in enumerate(masks) if k != j]).any(0)
            if own.sum() < 5:
                continue
            without = faces.pictures[faces.starts[i] + (1 << j)].short()
            change = torch.sign(faces.images[i].short() - without)[0].float()  # what the unit does to a pixel
            one = replace(faces, params=faces.params[[i]], units=(faces.units[i],),
                          pictures=faces.pictures[faces.starts[i]:faces.starts[i + 1]],
                          starts=faces.starts[i:i + 2] - faces.starts[i])
            _, scores = r.target_scores(Bright(change * own), one, [0])
            assert r.reliance(scores[0]).argmax() == j
            heat = r.oracle(one, scores)
            assert r.marks(heat, one, scores)["pointing"][0] == 1


def test_the_oracle_is_right_everywhere_and_beats_all_who_know_nothing(faces):
    weights = torch.randn(48, 48, generator=torch.Generator().manual_seed(1)) + torch.linspace(-1, 1, 48)[:, None]
    _, scores = r.target_scores(Bright(weights), faces, np.zeros(len(faces), int))
    best = r.marks(r.oracle(faces, scores), faces, scores)
    assert best["order"].min() == 1 and best["spearman"].min() == pytest.approx(1) and best["pointing"].mean() > 0.8
    for heat in r.baselines(faces).values():
        assert r.marks(heat, faces, scores)["order"].mean() < best["order"].mean() - 0.2


def test_dice_are_right_half_of_the_time_by_the_mean_and_know_the_area_by_the_sum():
    faces = r.variants(sample_params(60, 8, pose=UPRIGHT, occluded=0.0))
    weights = torch.ones(48, 48)
    _, scores = r.target_scores(Bright(weights), faces, np.zeros(len(faces), int))
    areas = [faces.masks(i).flatten(1).sum(1).numpy() for i in range(len(faces))]
    found = [r.marks(r.baselines(faces, seed)["random"], faces, scores) for seed in range(6)]
    assert abs(np.mean([mine["order"] for mine in found])) < 0.12
    by_area = np.mean([r.kendall(area, np.abs(r.reliance(mine))) for area, mine in zip(areas, scores)])
    assert np.mean([mine["sum"] for mine in found]) == pytest.approx(by_area, abs=0.08)


def test_maps_of_another_shape_are_refused(faces):
    _, scores = r.target_scores(Bright(torch.ones(48, 48)), faces)
    with pytest.raises(r.RelianceError, match="each of"):
        r.marks(torch.zeros(1, 48, 48), faces, scores)


# ---- games over all combinations


games = st.integers(1, 5).flatmap(lambda k: st.lists(st.floats(-10, 10), min_size=2**k, max_size=2**k)).map(np.array)


@settings(max_examples=60, deadline=None)
@given(games)
def test_shapley_is_the_mean_over_all_orders_and_adds_up(scores):
    k = len(scores).bit_length() - 1
    losses = np.zeros(k)
    orders = list(permutations(range(k)))
    for order in orders:
        losses[list(order)] += -np.diff(r.deletion_curve(scores, order))
    assert np.allclose(r.shapley(scores), losses / len(orders))
    assert np.isclose(r.shapley(scores).sum(), scores[0] - scores[-1])


@settings(max_examples=60, deadline=None)
@given(games)
def test_best_and_worst_order_are_those_of_trying_all(scores):
    k = len(scores).bit_length() - 1
    areas = [r.deletion_curve(scores, order).mean() for order in permutations(range(k))]
    assert np.allclose(r.extreme_areas(scores), (min(areas), max(areas)))
    found = [r.deletion(scores, order) for order in permutations(range(k))]
    assert all(-1e-9 <= each <= 1 + 1e-9 for each in found)
    if max(areas) - min(areas) > 1e-6:
        assert np.isclose(max(found), 1) and np.isclose(min(found), 0, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.1, 5), min_size=2, max_size=5))
def test_deletion_falls_step_by_step_where_units_add_up(worth):
    "In an additive game every removal lowers the score, and the order of worth is the best."
    worth = np.array(worth)
    scores = np.array([worth[[not v >> j & 1 for j in range(len(worth))]].sum() for v in range(1 << len(worth))])
    order = np.argsort(-worth, kind="stable")
    assert (np.diff(r.deletion_curve(scores, order)) < 0).all()
    assert np.allclose(r.reliance(scores), worth) and np.allclose(r.shapley(scores), worth)
    assert r.deletion(scores, order) == pytest.approx(1 if np.ptp(worth) > 1e-9 else r.deletion(scores, order))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.integers(0, 2**31))
def test_rank_agreement_is_scipys(k, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.permutation(k).astype(float), rng.standard_normal(k)
    assert r.kendall(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert r.spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert r.kendall(np.zeros(k), b) == 0 and r.spearman(np.zeros(k), b) == 0


# ---- painting over


def dense(picture, gone):
    "The same equations, one by one, solved densely."
    h, w = gone.shape
    places = [tuple(place) for place in np.argwhere(gone)]
    matrix, right = np.zeros((len(places),) * 2), np.zeros(len(places))
    for i, (y, x) in enumerate(places):
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                at = (y + down, x + across)
                if (down, across) == (0, 0) or not (0 <= at[0] < h and 0 <= at[1] < w):
                    continue
                weight = 1 / 6 if 0 in (down, across) else 1 / 12
                matrix[i, i] += weight
                if at in places:
                    matrix[i, places.index(at)] -= weight
                else:
                    right[i] += weight * picture[at]
    filled = picture.copy()
    filled[gone] = np.linalg.solve(matrix, right)
    return filled


def test_imputation_equals_the_dense_solution_and_batches_do_not_mix():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-1, 1, (3, 2, 9, 8)))
    gone = torch.from_numpy(rng.random((3, 9, 8)) < np.array([0.2, 0.6, 0.95])[:, None, None])
    gone[:, 0, 0] = False
    filled = r.imputed(x, gone, noise=0)
    for i in range(3):
        for c in range(2):
            assert np.allclose(filled[i, c], dense(x[i, c].numpy(), gone[i].numpy()))
        assert torch.allclose(filled[[i]], r.imputed(x[[i]], gone[[i]], noise=0))
    assert torch.equal(filled.permute(0, 2, 3, 1)[~gone], x.permute(0, 2, 3, 1)[~gone])


def test_a_smooth_picture_survives_imputation_and_noise_is_as_large_as_said():
    slope = torch.linspace(-0.5, 0.5, 24).expand(1, 1, 24, 24).double()
    gone = torch.zeros(1, 24, 24, dtype=torch.bool)
    gone[:, 6:18, 6:18] = True
    assert torch.allclose(r.imputed(slope, gone, noise=0), slope, atol=1e-9)
    added = (r.imputed(slope, gone, noise=0.02) - slope)[:, 0][gone]
    assert 0.015 < added.std() < 0.025
    assert torch.equal(r.imputed(slope, torch.zeros_like(gone)), slope)
    with pytest.raises(r.RelianceError, match="single pixel"):
        r.imputed(slope, torch.ones_like(gone))


def test_painting_over_the_pixels_that_count_costs_most():
    weights = torch.zeros(48, 48)
    weights[30:40, 15:30] = 0.1
    x, heat = torch.ones(2, 1, 48, 48), weights.expand(2, -1, -1)
    falls = r.pixel_deletion(Bright(weights), x, heat, np.zeros(2, int))
    assert falls == pytest.approx(weights.sum().item())  # a tenth of the pixels holds them all
    assert (r.pixel_deletion(Bright(weights), x, -heat, np.zeros(2, int)) < falls / 2).all()


# ---- moving the rule


def test_rules_are_independent_and_their_regions_apart():
    faces = r.rule_faces(400, seed=3)
    labels = np.stack([faces.labels[rule] for rule in r.RULES])
    assert np.abs(np.corrcoef(labels) - np.eye(3)).max() < 0.15
    regions = {rule: faces.region(rule) for rule in r.RULES}
    assert all(region.flatten(1).any(1).all() for region in regions.values())
    rows = {rule: region.float().mean((0, 2)) @ torch.arange(48.0) / region.float().mean((0, 2)).sum()
            for rule, region in regions.items()}
    assert rows["watermark"] < rows["brows"] < rows["mouth"]
    outside = regions["watermark"].clone()
    outside[:, r.MARK, r.MARK] = False
    assert not outside.any() and not (regions["watermark"] & regions["mouth"]).any()


def test_the_people_of_a_record_are_those_of_its_rule_faces():
    assert torch.equal(sample_params(9, r.EXAMINED).subject, r.rule_faces(9, r.EXAMINED).params.subject)


def test_a_map_that_moves_with_the_rule_follows_and_one_that_never_saw_the_network_does_not():
    faces = r.rule_faces(20, seed=5)
    good = {rule: {part: r.heat_share(faces.region(rule).float(), faces.region(part)) for part in r.RULES}
            for rule in r.RULES}
    assert all(each.mean() > 0.7 for each in r.follow(good).values())
    edges = torch.rand(20, 48, 48, generator=torch.Generator().manual_seed(0))
    same = {rule: {part: r.heat_share(edges, faces.region(part)) for part in r.RULES} for rule in r.RULES}
    assert all((each == 0).all() for each in r.follow(same).values())


# ---- records


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    plan = r.Plan("tiny", ("stn",), (0, 1), faces=64, epochs=1, examined=14, few=3,
                  methods=("Saliency", "LayerGradCam"), rule_epochs=1, rule_examined=8)
    folder = tmp_path_factory.mktemp("reliance")
    return r.run_plan(plan, folder), folder


def test_a_record_goes_on_where_it_stopped_and_refuses_another_plan(record):
    done, folder = record
    (folder / "stn-1.json").unlink()
    kept = json.loads((folder / "stn-0.json").read_text())
    again = r.run_plan(done.plan, folder)
    assert again.runs[0] == kept
    assert np.array_equal(again.of("Saliency"), done.of("Saliency"))  # the same seed, the same answer
    with pytest.raises(r.RelianceError, match="another plan"):
        r.run_plan(replace(done.plan, epochs=2), folder)


def test_a_saved_record_is_the_record(record, tmp_path):
    done, _ = record
    loaded = r.load_reliance("tiny", done.save(tmp_path).parent)
    assert loaded.recorded and loaded.plan == done.plan and loaded.label.startswith("recorded")
    assert loaded.league().equals(done.league())
    facts = json.loads((tmp_path / "tiny.json").read_text())
    (tmp_path / "tiny.json").write_text(json.dumps(facts | {"plan": facts["plan"] | {"epochs": 9}}))
    with pytest.raises(r.RelianceError, match="changed"):
        r.load_reliance("tiny", tmp_path)
    with pytest.raises(r.RelianceError, match="there are: tiny"):
        r.load_reliance("none", tmp_path)


def test_the_league_has_methods_rivals_and_oracle(record):
    table = record[0].league()
    assert set(table.index) == {"Saliency", "LayerGradCam", *r.RIVALS, "oracle"}
    assert table.loc["oracle", "order (τ)"] > table.loc["random", "order (τ)"] and (table["verdict"] != "").all()


def test_verdicts_follow_from_the_numbers():
    assert r.verdict(0.2, [], []) == "informative"
    assert r.verdict(0.8, [], []) == "shows the picture more than the network"
    assert r.verdict(0.2, ["edges"], ["mouth"]) == "not shown to beat edges; lost the rule of the mouth"


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=50))
def test_packing_keeps_a_thousandth(values):
    assert np.allclose(r.unpacked(r.packed(np.array(values))), values, atol=5.1e-4)


def test_examination_names_what_is_not_defined_and_leaves_the_model_as_it_was(faces):
    model = nn.Sequential(nn.Conv2d(1, 4, 5, stride=4), nn.PReLU(), nn.Flatten(), nn.Linear(4 * 11 * 11, 2)).train()
    exam = r.examine(model, faces, ("Saliency", "DeepLift"), few=3)
    assert set(exam.missing) == {"DeepLift"} and "PReLU" in exam.missing["DeepLift"]
    assert model.training and set(exam.twins) == {"Saliency"} and exam.twins["Saliency"].shape == (3,)
    assert torch.isfinite(to_float(faces.images)).all()
