"""Reliance: planted rules must be found, oracles must win, dice must not; imputation against a dense solution."""

import json
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr, t
from torch import nn

from fer_lab import reliance as r
from fer_lab.augment import to_float
from fer_lab.synthetic import AU_NAMES, Pose, au_index, render, sample_params
from fer_lab.trial import estimate

pytestmark = pytest.mark.xdist_group("reliance")  # its slow fixture is made once

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
    fastest = r.marks(r.deletion_oracle(faces, scores), faces, scores)["deletion"]
    assert fastest.mean() > 0.95 and (fastest >= best["deletion"] - 1e-9).all()


def test_dice_get_nothing_and_one_throw_would_have_had_luck(faces):
    "The expected order of noise is exactly zero, whatever the network; one shared map of noise is not."
    weights = torch.randn(48, 48, generator=torch.Generator().manual_seed(2))
    _, scores = r.target_scores(Bright(weights), faces, np.zeros(len(faces), int))
    many = r.dice(faces, scores)["order"]
    assert many.shape == (len(faces),) and abs(many.mean()) < 0.05
    one = [r.dice(faces, scores, maps=1, seed=seed)["order"].mean() for seed in range(8)]
    assert np.std(one) > 0.05


def test_all_judges_forget_signs_and_keep_them_beside(faces):
    weights = torch.randn(48, 48, generator=torch.Generator().manual_seed(3))
    model, heat = Bright(weights), torch.randn(len(faces), 48, 48, generator=torch.Generator().manual_seed(4))
    target, scores = r.target_scores(model, faces)
    plain, turned = (r.marks(each, faces, scores) for each in (heat, -heat))
    paint = [r.painted_over(model, faces, {"map": each})["map"] for each in (heat, -heat)]
    for mark in ("order", "deletion", "pointing", "spearman", "shapley", "sum"):
        assert np.array_equal(plain[mark], turned[mark])
    assert np.allclose(plain["order, signed"], -turned["order, signed"])
    for mark in ("grey", "road"):
        assert np.allclose(paint[0][mark], paint[1][mark]) and (paint[0][mark] >= 0).all()
        assert not np.allclose(paint[0][f"{mark}, signed"], paint[1][f"{mark}, signed"])
    assert not np.allclose(plain["deletion, signed"], turned["deletion, signed"])


def test_dice_are_right_half_of_the_time_by_the_mean_and_know_the_area_by_the_sum():
    faces = r.variants(sample_params(40, 8, pose=UPRIGHT, occluded=0.0))
    weights = torch.ones(48, 48)
    _, scores = r.target_scores(Bright(weights), faces, np.zeros(len(faces), int))
    areas = [faces.masks(i).flatten(1).sum(1).numpy() for i in range(len(faces))]
    found = r.dice(faces, scores, maps=24)
    assert abs(found["order"].mean()) < 0.05
    by_area = np.mean([r.kendall(area, np.abs(r.reliance(mine))) for area, mine in zip(areas, scores)])
    assert found["sum"].mean() == pytest.approx(by_area, abs=0.08)


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
        assert np.isclose(r.deletion(scores, r.best_order(scores)), 1)


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
    assert falls.shape == (2, 3)
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
    plan = r.Plan("tiny", ("stn", "not registered"), (0, 1), faces=48, epochs=1, examined=14, few=4,
                  methods=("Saliency", "LayerGradCam"), rule_faces=40, rule_epochs=1, rule_examined=6, rule_seeds=(0,))
    folder = tmp_path_factory.mktemp("reliance")
    return r.run_plan(plan, folder), folder


def test_a_record_goes_on_where_it_stopped_and_refuses_another_plan(record):
    done, folder = record
    (folder / "stn-1.json").unlink()
    kept = json.loads((folder / "stn-0.json").read_text())
    partly = r.finished(done.plan, folder)
    assert [run["seed"] for run in partly.runs] == [0] and "1 of 4 networks" in partly.label
    again = r.run_plan(done.plan, folder)
    assert again.runs[0] == kept and {run["network"] for run in again.runs} == {"stn"}
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
    assert set(table.index) == {"Saliency", "LayerGradCam", *r.RIVALS, *r.CEILINGS}
    assert table.loc["oracle", "order (τ)"] > table.loc["random", "order (τ)"] and (table["verdict"] != "").all()
    assert table[["order (τ)", "pointing", "deletion"]].map(lambda text: " to " in text).all().all()


def test_parts_know_their_origin_and_the_label_adds_up_their_times(record):
    done, _ = record
    parts = (*done.runs, *done.rules)
    assert all({"date", "revision", "seconds", "processor_seconds"} == set(part["made"]) for part in parts)
    assert done.minutes == pytest.approx(sum(part["made"]["processor_seconds"] for part in parts) / 60)


def test_a_new_network_joins_with_one_line(record):
    done, _ = record
    model = torch.nn.Sequential(nn.Conv2d(1, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 11 * 11, 7)).eval()
    joined = done.with_exam("mine", r.examine(model, done.faces(), done.plan.methods, few=4))
    assert len(joined.runs) == len(done.runs) + 1 and joined.of("Saliency", network="mine").shape == (1, 13)
    assert list(joined.architectures().columns) == ["stn", "mine", "as a sample of architectures"]
    assert joined.league().loc["Saliency", "networks"] == "3 of 3" and len(done.runs) == 2
    assert joined.judged("grey")[1].shape == done.judged("grey")[1].shape  # nobody painted over its faces
    with pytest.raises(r.RelianceError, match="record.faces"):
        done.with_exam("mine", r.examine(model, r.variants(r.drawn(9, 1)), ("Saliency",), few=4))


def test_a_method_undefined_for_one_network_is_compared_on_the_others(record):
    done, _ = record
    less = {name: mine for name, mine in done.runs[0]["values"].items() if name != "Saliency"}
    partly = replace(done, runs=({**done.runs[0], "values": less}, done.runs[1]))
    assert partly.ahead("Saliency", "edges").shape[0] == 1 and "Saliency" in partly.names()
    assert np.array_equal(partly.ahead("Saliency", "edges"), done.ahead("Saliency", "edges")[1:])
    assert partly.judged("order")[0] == ["LayerGradCam"]


def test_judges_agree_with_themselves_and_disagree_with_their_opposite(record):
    done, _ = record
    rng, names = np.random.default_rng(0), [f"m{i}" for i in range(6)]
    skill = np.linspace(-0.5, 0.5, 6)
    runs = []
    for run in done.runs:
        noise = rng.normal(0, 0.05, (6, 13))
        values = {name: {"order": r.packed(skill[i] + noise[i]), "grey": r.packed(2 * skill[i] + noise[i]),
                         "road": r.packed(-skill[i] + noise[i])} for i, name in enumerate(names)}
        runs.append({**run, "values": values})
    planted = replace(done, plan=replace(done.plan, methods=tuple(names)), runs=tuple(runs))
    assert planted.agreement("order", "grey") == (1.0, 1.0, 1.0)
    assert planted.agreement("order", "road")[0] == -1 and planted.agreement_with_itself("order") > 0.95


def test_networks_needed_is_the_textbook_where_only_networks_differ():
    rng = np.random.default_rng(1)
    between = np.repeat(0.1 + 0.1 * rng.standard_normal((8, 1)), 40, 1)
    people = np.arange(40)
    needed = r.networks_needed(between, people)
    reach = lambda n: (t.ppf(0.975, n - 1) + t.ppf(0.8, n - 1)) * between[:, 0].std(ddof=1) / n**0.5  # noqa: E731
    assert reach(needed) <= between.mean() < reach(needed - 1)
    assert r.networks_needed(between, people, times=16) == needed  # more faces do not help
    assert r.networks_needed(between, people, comparisons=40) > needed
    faces = np.repeat(0.1 + 0.4 * rng.standard_normal((1, 40)), 8, 0)
    assert r.networks_needed(faces, people, times=16) < (r.networks_needed(faces, people) or 10**6)
    assert r.networks_needed(-between, people) is None


def test_verdicts_follow_from_the_numbers():
    assert r.verdict("pass", [], []) == "informative"
    assert r.verdict("fail", [], []) == "shows the picture more than the network"
    assert r.verdict("cannot tell", [], []) == "not shown to differ from its twin"
    assert r.verdict("pass", ["edges"], ["mouth"]) == "not shown to beat edges; lost the rule of the mouth"
    people = np.arange(30)
    noise = np.random.default_rng(0).normal(0, 0.1, (3, 30))
    assert [r.sane(estimate(mean + noise, people)) for mean in (0.2, 0.5, 0.8)] == ["pass", "cannot tell", "fail"]


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=50))
def test_packing_keeps_a_thousandth(values):
    assert np.allclose(r.unpacked(r.packed(np.array(values))), values, atol=5.1e-4)


def test_examination_names_what_is_not_defined_and_leaves_the_model_as_it_was(faces):
    model = nn.Sequential(nn.Conv2d(1, 4, 5, stride=4), nn.PReLU(), nn.Flatten(), nn.Linear(4 * 11 * 11, 2)).train()
    exam = r.examine(model, faces, ("Saliency", "DeepLift"), few=3)
    assert set(exam.missing) == {"DeepLift"} and "PReLU" in exam.missing["DeepLift"]
    assert model.training and set(exam.twins) == {"Saliency"} and exam.twins["Saliency"].shape == (3,)
    assert torch.isfinite(to_float(faces.images)).all()
