"""Micro-attention: counts of the paper, the unit and its controls, protocols that pool, maps and where they lie."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn

from fer_lab import reliance
from fer_lab.experiment import recipe_for
from fer_lab.explain import capture
from fer_lab.harmonise import harmonise
from fer_lab.models import ModelError, create, problems
from fer_lab.papers import micro_attention
from fer_lab.papers.micro_attention import (
    ATTENTIONS,
    CLAIMED,
    CLAIMS,
    COUNTS,
    FIVE,
    RECORDS,
    ROUTES,
    SQUASHES,
    STEMS,
    STUDIO,
    ComplexAttention,
    FlatAttention,
    MicroAttention,
    MicroAttentionNet,
    PreActBlock,
    Resample,
    RoutesTrial,
    Shortcut,
    Step,
    WhereTrial,
    as_micro3,
    asked_together,
    attention_maps,
    carry_over,
    changed_maps,
    claims_verdict,
    clips_behind,
    fer2013_recipe,
    fold_means,
    fold_recall,
    gain_film,
    gain_table,
    in_proportion,
    inside_rank,
    judged,
    laboratories,
    large_split,
    loso_strip,
    luckiest_p,
    macro_faces,
    masks_of,
    mass_inside,
    micro_faces,
    micro_recipe,
    own_wins,
    partners,
    people_split,
    photographs,
    pooled,
    prior_curve,
    record_trials,
    routes_plan,
    score_table,
    silent,
    synthetic_recipe,
    train_step,
    trial_of,
    triptych,
    weight_table,
    where_plan,
)
from fer_lab.protocols import loso
from fer_lab.receptive import receptive_field
from fer_lab.report import Report, ReportError, predict
from fer_lab.sequences import micro_expressions
from fer_lab.settings import load_settings
from fer_lab.splits import LeakError, Split, every_seventh
from fer_lab.synthetic import synthetic_faces
from fer_lab.trainer import Recipe, Trainer
from fer_lab.trial import ASLEEP, Estimate, Finding, Marks, load_record, record_names, run_trial

CPU = load_settings(device="cpu", precision="fp32", dataset="synthetic", budget="smoke")
TINY = {"width": 2, "stem": "3x3"}
FIXTURES = Path(__file__).parents[2] / "data" / "fixtures"


def pictures(n=3, size=48, seed=0):
    return torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def scales(channels, side=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, side, side, generator=generator) for _ in range(3)]


# ---- the network

def test_the_counts_are_the_papers():
    counts = weight_table(MicroAttentionNet())
    assert (counts["plain"], counts["attention"], counts["frozen"]) == (4_896_389, 1_044_480, 960)
    plain = weight_table(MicroAttentionNet(attention="none"))
    assert plain == {**counts, "attention": 0, "frozen": 0}
    assert sum(counts.values()) == sum(p.numel() for p in MicroAttentionNet().parameters())


def test_blocks_have_the_weights_of_the_released_file():
    blocks = [weight_table(block) for block in MicroAttentionNet().blocks]
    assert [each["plain"] for each in blocks] == [73_728, 229_376, 917_504, 3_670_016]
    assert [each["attention"] for each in blocks] == [12_288, 49_152, 196_608, 786_432]


def test_shapes_and_receptive_fields_at_the_papers_size():
    model = MicroAttentionNet().eval()
    maps = capture(model, torch.zeros(1, 1, 224, 224), ["attention", "blocks"])
    assert [tuple(m.shape[1:]) for key, m in maps.items() if key.startswith("attention")] == [
        (1, 56, 56), (1, 28, 28), (1, 14, 14), (1, 7, 7)]
    assert [tuple(m.shape[1:]) for key, m in maps.items() if key.startswith("blocks")] == [
        (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    fields = [receptive_field(model, (1, 224, 224), f"blocks.{k}").size for k in range(4)]
    assert fields == [27, 51, 99, 195]


def test_the_unit_is_the_formula():
    unit, (kept, middle, moved) = MicroAttention(5), scales(5)
    joined = torch.cat([kept, middle, moved], 1)
    expected = torch.sigmoid(F.conv2d(joined, unit.mix.weight).mean(1, keepdim=True))
    torch.testing.assert_close(unit(kept, middle, moved), expected)
    block = PreActBlock(5, 5, unit).eval()
    seen = {}
    for name in ("conv2", "relu"):
        getattr(block, name).register_forward_hook(lambda m, a, out, name=name: seen.update({name: out}))
    x = kept.clone()
    out = block(x)
    total = x + seen["conv2"]  # the first block: no normalisation in front, the shortcut is a wire
    torch.testing.assert_close(out, total * (1 + unit(x, seen["relu"], seen["conv2"])))


def test_all_rows_of_the_mixing_get_the_same_gradient():
    "What section 4 says: C mixtures and their mean are one mixture."
    unit = MicroAttention(4)
    unit(*scales(4)).square().sum().backward()
    gradient = unit.mix.weight.grad
    torch.testing.assert_close(gradient, gradient[:1].expand_as(gradient))


@pytest.mark.parametrize("squash", SQUASHES)
def test_squashes_keep_their_promises(squash):
    m = MicroAttention(3, squash)(*scales(3))
    assert m.shape == (2, 1, 6, 6)
    if squash == "softmax":
        torch.testing.assert_close(m.sum((1, 2, 3)), torch.ones(2))
    elif squash == "sigmoid":
        assert 0 < m.min() and m.max() < 1
    else:
        assert m.min() < 0 < m.max()


def test_the_flat_map_loses_the_where_and_nothing_else():
    unit, flat = MicroAttention(4), FlatAttention(4)
    flat.load_state_dict(unit.state_dict())
    maps = unit(*scales(4))
    torch.testing.assert_close(flat(*scales(4)), maps.mean((2, 3), keepdim=True))
    counts = {name: weight_table(MicroAttentionNet(attention=name)) for name in ("micro", "flat")}
    assert counts["micro"] == counts["flat"]


def test_the_means_are_never_learned():
    model = MicroAttentionNet(attention="micro", **TINY)
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, weight_decay=0.5)
    model(pictures()).square().sum().backward()
    optimizer.step()
    for block in model.blocks:
        weight = block.attention.average.weight
        assert (weight == 1 / weight.numel()).all()
        assert block.attention.mix.weight.grad.abs().max() > 0


@pytest.mark.parametrize("side", [3, 6, 7])
def test_complex_attention_has_a_map_for_each_channel_at_any_side(side):
    out = ComplexAttention(32)(*scales(32, side))
    assert out.shape == (2, 32, side, side) and 0 < out.min() and out.max() < 1


def test_a_shortcut_is_a_strided_convolution_in_value_and_gradient():
    ours, theirs = Shortcut(8, 16, 1, 2, bias=False).double(), nn.Conv2d(8, 16, 1, 2, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 8, 48, 47, dtype=torch.float64)
    found = []
    for layer in (ours, theirs):
        mine = x.clone().requires_grad_()
        layer(mine).square().sum().backward()
        found.append((layer(mine), mine.grad, layer.weight.grad))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("attention", "stem"), list(itertools.product(ATTENTIONS, STEMS)))
def test_every_combination_keeps_the_rules_and_learns(attention, stem):
    model = MicroAttentionNet(7, attention=attention, width=4, stem=stem)
    assert problems(model) == []
    logits = model(pictures())
    assert logits.shape == (3, 7)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("switches", "words"), [
    (dict(attention="mirco"), "attention='mirco'.*'micro'"), (dict(squash="tanh"), "squash='tanh'.*'softmax'"),
    (dict(stem="5x5"), "stem='5x5'.*'3x3'"), (dict(width=0), "width=0"),
    (dict(attention="complex", squash="none"), "no such switch"),
    (dict(attention="none", squash="softmax"), "no such switch")])
def test_what_cannot_be_is_said(switches, words):
    with pytest.raises(ModelError, match=words):
        MicroAttentionNet(**switches)


def test_recipes_fit_the_network_and_the_registry_knows_it():
    for dataset, own in (("fer2013", fer2013_recipe), ("synthetic", synthetic_recipe)):
        arguments, recipe = recipe_for("micro-attention", replace(load_settings(dataset=dataset), budget="full"))
        assert arguments == own()[0] and recipe.epochs == own()[1].epochs
        assert isinstance(create("micro-attention", **arguments), MicroAttentionNet)


# ---- the arithmetic

def test_every_printed_accuracy_is_a_whole_number_of_clips():
    sizes = {name: sum(count.values()) for name, count in COUNTS.items()}
    assert sizes == {"CASME II": 185, "SAMM": 68, "SMIC": 164}
    ahead = [clips_behind(ours, n) - clips_behind(plain, n) for _, n, ours, plain in CLAIMS]
    assert ahead == [1, 1, 4, 2, 7, 13]
    with pytest.raises(ReportError, match="no whole number of 68 clips"):
        clips_behind(0.552, 68)


def test_the_luckiest_case_is_a_sign_test():
    from scipy.stats import binomtest

    for ahead in range(1, 14):
        assert luckiest_p(ahead) == pytest.approx(binomtest(ahead, ahead).pvalue)
    assert luckiest_p(0) == 1


# ---- faces

def test_an_apex_is_that_of_the_filmed_movement_with_a_still_head():
    apexes = micro_faces(12, seed=5, subjects=30, least=8, magnified=1)
    filmed = micro_expressions(12, seed=5, space=FIVE, frames=(4, 5), pose=STUDIO, sway=0.0, mask=False)
    peaks = filmed.peaks()
    assert apexes.meta["region"].tolist() == filmed.meta["region"].tolist()
    assert apexes.labels.tolist() == filmed.labels.tolist()
    np.testing.assert_allclose(apexes.aus, filmed.aus[peaks.spans[:, 0]], atol=1e-6)
    np.testing.assert_allclose(apexes.landmarks, filmed.landmarks[peaks.spans[:, 0]], atol=1e-3)


def test_masks_follow_the_subset():
    faces = micro_faces(20, seed=1)
    rows = np.array([7, 3, 11])
    assert np.array_equal(masks_of(faces.subset(rows)), faces.regions[rows])
    assert masks_of(faces).any((1, 2)).mean() > 0.5


def test_drawn_laboratories_have_the_papers_proportions():
    labs = laboratories(CPU, share=0.1, people=3)
    assert [lab.counts().to_dict() for lab in labs] == [
        {"happiness": 2, "surprise": 2, "anger": 10, "disgust": 3, "sadness": 2},
        {"happiness": 2, "surprise": 2, "anger": 2, "disgust": 2, "sadness": 2}]
    assert not set(labs[0].meta["subject"]) & set(labs[1].meta["subject"])
    with pytest.raises(ReportError, match="too few faces of anger"):
        in_proportion(labs[0], dict.fromkeys(FIVE.classes, 2) | {"anger": 50})


def test_the_readers_own_sets_come_in_three_classes():
    labs = laboratories(replace(load_settings(), dataset="samm", data_dir=FIXTURES))
    assert [lab.name for lab in labs] == ["casme2", "samm", "smic"]
    assert {lab.space.name for lab in labs} == {"micro-3"} and all(lab.is_still for lab in labs)


def test_the_readers_large_expressions_come_first_in_five_classes(monkeypatch):
    asked = []
    faces = replace(synthetic_faces(60, seed=4, subjects=20, mask=False), name="theirs")
    monkeypatch.setattr(micro_attention, "load_dataset", lambda name, settings: asked.append(name) or faces)
    split = large_split(10, replace(CPU, dataset="oulu"))
    assert asked == ["oulu"] and split.faces.name == "theirs" and split.faces.space == FIVE
    assert 0 < len(split.faces) < 60 and not set(split.train.meta["subject"]) & set(split.val.meta["subject"])
    assert large_split(40, replace(CPU, dataset="samm")).faces.fingerprint == macro_faces(40, seed=3).fingerprint


# ---- steps

def test_weights_of_the_same_name_and_shape_are_carried_over():
    plain, units = MicroAttentionNet(5, attention="none", **TINY), MicroAttentionNet(3, attention="micro", **TINY)
    fresh = carry_over(plain, units)
    assert all("attention" in name or name.startswith("head") for name in fresh) and len(fresh) == 8 + 2
    old, new = plain.state_dict(), units.state_dict()
    assert all(torch.equal(value, new[name]) for name, value in old.items() if not name.startswith("head"))
    assert carry_over(plain, MicroAttentionNet(5, attention="none", **TINY)) == []


def test_a_step_starts_where_the_last_one_ended():
    split = every_seventh(macro_faces(30, seed=1))
    still = Step("none", split, Recipe(1, 16, 1e-12, augment=None))
    first = train_step(None, Step("large", split, Recipe(1, 16, 1e-2, augment=None)), TINY, CPU)
    second = train_step(first, still, TINY, CPU)
    torch.testing.assert_close(second.head.weight, first.head.weight)
    assert not torch.equal(train_step(None, still, TINY, CPU).head.weight, first.head.weight)


def test_resampling_evens_out_the_classes(tmp_path):
    labs = laboratories(CPU, share=0.1, people=8)
    seen = []

    class Count:
        def on_epoch_start(self, trainer):
            seen.extend(trainer.train.labels[trainer.pool.numpy()])

    split = every_seventh(labs[0])
    model = MicroAttentionNet(5, attention="none", **TINY)
    Trainer(model, Recipe(6, 16, 1e-3, augment=None), tmp_path, [Resample(), Count()], CPU, progress=False).fit(split)
    share = np.bincount(seen, minlength=5) / len(seen)
    present = np.bincount(split.train.labels, minlength=5) > 0
    assert len(seen) == 6 * len(split.train) and (share[~present] == 0).all()
    assert np.abs(share[present] - 1 / present.sum()).max() < 0.12
    assert split.train.counts().max() / len(split.train) > 0.4


def test_naming_people_is_a_task_with_everybody_on_both_sides():
    split = people_split(90, seed=2, people=5)
    assert set(split.train.labels) == set(split.val.labels) == set(range(5))
    assert "subject" in split.allows
    assert not set(map(bytes, split.train.pixel_keys())) & set(map(bytes, split.val.pixel_keys()))


def test_photographs_have_a_drawn_stand_in(tmp_path):
    for given_settings in (None, replace(CPU, data_dir=FIXTURES), replace(CPU, dataset="samm", data_dir=tmp_path)):
        assert photographs(30, 1, given_settings).faces.name == "stand-in"
    real = photographs(30, 1, replace(CPU, dataset="fer2013", data_dir=FIXTURES))
    assert real.faces.name == "fer2013" and set(real.faces.meta["usage"]) == {"Training"}
    assert len(real.val_index) == 1 and len(real.train_index) == 2  # even three pictures validate with one


# ---- protocols and scores

def pooled_report(seed=0, n=60, people=6, classes=5):
    rng = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), rng.integers(0, classes, n - classes)]
    return Report("made up", labels, rng.dirichlet(np.ones(classes), n).astype(np.float32), FIVE.classes[:classes], {},
                  np.array([f"p{k}" for k in rng.integers(0, people, n)]))


def test_pooling_keeps_every_answer_with_its_face():
    faces = laboratories(CPU, share=0.1, people=4)[0]
    splits = loso(faces, val=0.0, allows={"missing class": "test"})
    told = np.eye(5, dtype=np.float32)[faces.labels]
    report = pooled("oracle", splits, [told[split.test_index] for split in splits])
    assert report.war == report.uar == report.macro_f1 == 1 and report.n == len(faces)
    assert sorted(report.groups) == sorted(faces.meta["subject"])


def test_a_class_that_never_occurs_is_an_error():
    faces = laboratories(CPU, share=0.1, people=4)[0]
    faces = faces.subset(faces.labels != 1)
    splits = loso(faces, val=0.0, allows={"missing class": "test"})
    with pytest.raises(ReportError, match="surprise never occurs"):
        pooled("blind", splits, [np.full((len(s.test_index), 5), 0.2, np.float32) for s in splits])


def test_pooled_f1_is_scikit_learns_and_folds_differ():
    report = pooled_report()
    means = fold_means(report)
    assert means["pooled (UF1)"] == pytest.approx(f1_score(report.labels, report.predictions, average="macro"))
    each = [report.groups == person for person in set(report.groups)]
    by_fold = [f1_score(report.labels[rows], report.predictions[rows], average="macro", labels=range(5),
                        zero_division=0) for rows in each]
    assert means["mean of folds, undefined = 0"] == pytest.approx(np.mean(by_fold))
    assert means["mean of folds, undefined = 0"] <= means["mean of folds, undefined skipped"]


def test_the_strip_is_empty_where_a_person_shows_no_such_class():
    report = pooled_report(n=20)
    table = fold_recall(report)
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        shown = (report.groups == table.columns[column]) & (report.labels == row)
        assert np.isnan(value) == (not shown.any())
        if shown.any():
            assert value == (report.predictions[shown] == row).mean()
    figure = loso_strip(report, "a finding")
    assert figure.layout.meta["alt"].startswith("a finding")
    assert np.array(figure.data[0].z, dtype=object).shape == table.shape


def test_three_classes_from_five():
    report = pooled_report()
    three = as_micro3(report)
    assert three.classes == ("negative", "positive", "surprise")
    negative = report.probabilities[:, [2, 3, 4]].sum(1)
    np.testing.assert_allclose(three.probabilities[:, 0], negative, rtol=1e-6)
    assert (three.labels == np.array([1, 2, 0, 0, 0])[report.labels]).all()
    assert three.war >= 0 and score_table([report, three]).loc[three.name, "chance UAR"] == pytest.approx(1 / 3)


def test_believing_in_the_shares_ends_at_the_largest_class():
    report = pooled_report()
    curve = prior_curve(report, [0, 1, 500])
    assert curve["WAR"].iloc[0] == report.war
    assert curve["says the largest class"].iloc[-1] == 1
    assert curve["UAR"].iloc[-1] == pytest.approx(0.2)


# ---- maps

@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_inside_rank_is_the_area_under_the_curve(seed):
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, 6, (2, 5, 5)) / 5  # many ties
    masks = rng.random((2, 5, 5)) < 0.4
    masks[:, 0, 0], masks[:, 4, 4] = True, False
    expected = [roc_auc_score(m.ravel(), v.ravel()) for m, v in zip(masks, maps)]
    np.testing.assert_allclose(inside_rank(torch.from_numpy(maps), masks), expected)


def test_a_map_without_movement_cannot_be_judged():
    with pytest.raises(ReportError, match="without movement"):
        inside_rank(torch.rand(2, 4, 4), np.zeros((2, 4, 4), bool))


def moving_faces():
    faces = micro_faces(60, seed=9, subjects=20)
    return faces.subset(masks_of(faces).sum((1, 2)) >= 10)


def test_own_region_wins_for_a_map_that_knows_and_half_the_time_for_one_that_does_not():
    faces = moving_faces()
    truth = torch.from_numpy(masks_of(faces)).float()
    assert own_wins(truth, faces).all() and not own_wins(-truth, faces).any()
    assert (mass_inside(truth, masks_of(faces)) == 1).all()
    regions = np.tile(["brow", "mouth"], 200)
    other = partners(regions)
    assert (regions[other] != regions).all()
    same = torch.rand(1, 48, 48, generator=torch.Generator().manual_seed(1)).expand(len(faces), 48, 48)
    assert 0.2 < own_wins(same, faces).mean() < 0.8
    assert 0.2 < own_wins(torch.zeros(len(faces), 48, 48), faces).mean() < 0.8  # ties are decided by a coin


def test_maps_are_as_large_as_the_face_and_can_be_changed():
    faces, model = moving_faces().subset(range(5)), MicroAttentionNet(5, **TINY).eval()
    maps = attention_maps(model, faces, batch=2)
    assert [tuple(m.shape) for m in maps] == [(5, 48, 48)] * 4
    x = pictures(5)
    with torch.no_grad():
        before = model(x)
        with changed_maps(model, torch.zeros_like):
            without = model(x)
        plain = MicroAttentionNet(5, attention="none", **TINY).eval()
        carry_over(model, plain)
        torch.testing.assert_close(without, plain(x))
        assert torch.equal(model(x), before)  # and back again


def test_gains_run_from_no_attention_to_more():
    faces, model = moving_faces().subset(range(3)), MicroAttentionNet(5, **TINY).eval()
    answers, sizes = gain_table(model, faces, [0, 1, 2])
    np.testing.assert_allclose(answers[1], predict(model, faces), atol=1e-5)
    assert (sizes[0] <= sizes[1] + 1e-6).all() and (sizes[1] <= sizes[2] + 1e-6).all()
    film = gain_film([0, 1, 2], answers[:, 0], sizes[:, 0, ::2, ::2], faces.classes, "a finding")
    assert len(film.frames) == 3 and len(film.to_json()) < 50_000
    assert not any(isinstance(module, nn.Identity) and module._forward_hooks for module in model.modules())


def test_the_triptych_adds_up():
    faces, model = moving_faces().subset([0]), MicroAttentionNet(5, **TINY).eval()
    found = triptych(model, pictures(1))
    assert set(found) == {"M", "T", "T·M", "O"} and all(m.shape == (4, 48, 48) for m in found.values())
    torch.testing.assert_close(found["O"], found["T"] + found["T·M"], atol=1e-4, rtol=1e-4)  # M is not negative
    assert found["M"].mean((1, 2)).abs().max() < 1e-5 and len(faces) == 1


# ---- trials

def tiny_plan():
    return routes_plan("micro-test", seeds=2, faces=21, epochs=1, small_faces=28, small_epochs=1, test_faces=40,
                       contestants=("units after large", "plain after large"))


def test_trials_run_are_paired_and_share_their_first_step(tmp_path):
    plan = tiny_plan()
    routes = trial_of(plan, CPU)
    record = run_trial(plan, routes, tmp_path / "a", progress=False)
    shared = [key for key in routes.networks if len(key[1]) == 1]
    assert len(shared) == 2 and len(routes.networks) == 6  # two seeds: one plain start, two ends each
    assert {len(record.splits("plain after large", test)) for test in record.plan.tests} == {2}
    look = where_plan("micro-where-test", plan)
    where = run_trial(look, WhereTrial(routes), tmp_path / "b", progress=False)
    assert len(routes.networks) == 6  # nothing was trained again
    assert 0 < where.accuracy("mean map", "block 1").value < 1
    again = trial_of(look, CPU)  # as `record_trials` does it: from the plan alone
    marks = again("trained map", 0)
    assert all(np.array_equal(marks[test].correct, where.correct("trained map", test)[0]) for test in look.tests)


def test_records_are_made_of_both_plans_by_what_runs_them():
    assert record_trials.args == (RECORDS, trial_of)
    assert [type(trial_of(replace(plan, details=tiny_plan().details), CPU)) for plan in RECORDS] == [
        RoutesTrial, WhereTrial]


def told(tmp_path, **right):
    "Records of both plans: routes that are right this often (0.6 where nothing is said), and maps that always win."
    routes, rng = routes_plan("told", 2, 40, 1, 40, 1, test_faces=400), np.random.default_rng(0)
    people = np.arange(400) // 10
    share = {(name, test): right.get(name.split()[0], 0.6) for name in routes.conditions for test in routes.tests}
    answers = run_trial(routes, lambda name, seed: {
        test: Marks(rng.random(400) < share[name, test], people) for test in routes.tests}, tmp_path / "a",
        progress=False)
    maps = run_trial(where_plan("told-where", routes), lambda name, seed: {
        block: Marks(rng.random(400) < 0.9, people) for block in ("block 1", "block 2", "block 3")}, tmp_path / "b",
        progress=False)
    return answers, maps


def test_plans_know_what_blind_answers_get_and_half_is_an_answer_for_maps():
    assert [plan.chance for plan in RECORDS] == [1 / 5, None]


def test_maps_of_a_network_that_guesses_are_not_asked_and_who_guesses_is_named(tmp_path):
    found = asked_together(*told(tmp_path / "all awake"))
    assert silent(found) == "" and not any(f.asleep for f in found)
    found = asked_together(*told(tmp_path / "plain", plain=0.2))
    assert silent(found) == "plain after large, plain from scratch"
    of_maps = [f.verdict for f in found if f.first == "trained map"]
    assert len(of_maps) == 6 and ASLEEP not in of_maps
    found = asked_together(*told(tmp_path / "units", units=0.2))
    assert {f.verdict for f in found if f.first == "trained map"} == {ASLEEP}
    assert "**Attention falls on what moves**: at chance: cannot be asked." in claims_verdict(found)
    assert "map" not in silent(found) and len({f.together for f in found}) == 1


def test_a_laboratory_is_named_where_it_matters():
    pair = ("three stages", "one stage")
    found = [finding(*pair, 0.1, asleep=pair), finding(*pair, 0.1, test="other laboratory", asleep=pair[1:])]
    assert silent(found) == "three stages (same laboratory), one stage"


def test_every_route_ends_with_small_expressions_and_new_seeds_bring_new_faces():
    assert all(route[-1][0] == "small" for route in ROUTES.values())
    routes = RoutesTrial(tiny_plan(), CPU)
    for what in ("large", "small", "people", "photographs"):
        prints = [routes.split(what, seed).faces.fingerprint for seed in (0, 0, 1)]
        assert prints[0] == prints[1] != prints[2]
    tested = {name for faces in routes.tests.values() for name in faces.meta["subject"]}
    assert not tested & set(routes.split("small", 0).faces.meta["subject"])


def finding(first, second, value, spread=0.01, test="same laboratory", asleep=()):
    difference = Estimate(value, spread, 20.0, 10, 100, 700, True)
    return Finding(first, second, test, difference, 0.05, difference.p, difference.p_inside(0.05), asleep=asleep)


@pytest.mark.parametrize(("plain", "flat", "expected"), [
    (0.2, 0.2, "shown"), (0.2, 0.0, "refuted"), (-0.2, 0.2, "refuted"), (0.2, 0.04, "we could not tell")])
def test_a_claim_needs_all_its_comparisons(plain, flat, expected):
    pairs = CLAIMED["The units help"]
    told = [finding(*pair, plain) for pair in pairs]
    told[1] = finding(*pairs[1], flat, 0.01 if flat != 0.04 else 0.1)
    assert judged(told, pairs) == expected
    assert judged(told[:1], pairs) == "not all of it measured" and judged([], pairs) == "not measured"
    one = [replace(f, asleep=(f.second,)) for f in told]
    assert judged(one, pairs) == expected  # one of the two knows something: a fair question
    both = [replace(f, asleep=pairs[1]) if f is told[1] else f for f in told]
    assert judged(both, pairs) == ASLEEP
    assert "**The units help**: at chance: cannot be asked." in claims_verdict(both)


@pytest.mark.parametrize("plan", RECORDS, ids=lambda plan: plan.name)
def test_a_kept_record_belongs_to_its_plan(plan):
    if plan.name not in record_names():
        pytest.skip(f"{plan.name} has not been recorded")
    assert load_record(plan.name).plan.fingerprint == plan.fingerprint


def test_the_epoch_is_chosen_by_people_who_are_not_tested():
    labs = laboratories(CPU, share=0.1, people=5)
    both = harmonise(labs, FIVE).joined("both")
    people = both.meta["subject"]
    for split in loso(both, val=0.2, allows={"missing class": "test"}):
        sides = [set(people.iloc[index]) for index in (split.train_index, split.val_index, split.test_index)]
        assert len(sides[2]) == 1 and sides[1] and not (sides[0] & sides[1] or sides[2] & (sides[0] | sides[1]))
    assert micro_recipe(3).select == "uar"


def test_a_person_on_both_sides_is_refused():
    faces = replace(micro_faces(20, seed=3), name="copied")
    with pytest.raises(LeakError):
        Split(faces, "careless", np.arange(10), np.arange(10, 20), [])


def test_it_joins_the_table_of_explanations_live(tmp_path, monkeypatch):
    draw = reliance.expression_faces
    monkeypatch.setattr(reliance, "expression_faces", lambda n, *rest: draw(min(n, 28), *rest))
    plan = reliance.Plan("tiny", ("micro-attention",), (0,), faces=28, epochs=1, examined=7, few=2,
                         methods=("Saliency", "LayerGradCam"), rule_seeds=())
    record = reliance.run_plan(plan, tmp_path)
    assert [run["network"] for run in record.runs] == ["micro-attention"] and not record.runs[0]["missing"]
    assert record.league().loc[["Saliency", "LayerGradCam"], "networks"].tolist() == ["1 of 1"] * 2
    assert "micro-attention" in reliance.FULL.networks and "micro-attention" in reliance.RECORD.networks
