"Trials: intervals hold the truth, corrections are Holm's, verdicts follow the table, killed trials resume."

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fer_lab.trial
from fer_lab.report import Report
from fer_lab.trial import (
    ASLEEP,
    Estimate,
    Finding,
    Marks,
    Trial,
    TrialError,
    design_effect,
    estimate,
    findings,
    holm,
    imagined_runs,
    in_lines,
    load_record,
    marks,
    pack_bits,
    paired_difference,
    parts,
    record_all,
    record_names,
    resample,
    run_trial,
    sums_by_person,
    unpack_bits,
    verdict,
    who_guesses,
)

# ---- intervals


@pytest.mark.parametrize(
    "seeds, people, luck, taste", [(3, 25, 0.02, 0.0), (5, 25, 0.01, 0.04), (10, 25, 0.02, 0.04), (5, 25, 0.0, 0.0)]
)
def test_interval_holds_the_truth_as_often_as_it_says(seeds, people, luck, taste):
    worlds, held = 150, 0
    for world in range(worlds):
        low, high = paired_difference(
            *imagined_runs(seeds, people, 12, 0.02, luck, taste, seed=world), draws=300
        ).interval
        held += low <= 0.02 <= high
    assert 0.90 <= held / worlds <= 1.0  # 95 % wanted; four standard errors below is 0.88


def test_resampling_agrees_with_the_formula_for_the_variance():
    first, second, who = imagined_runs(8, 40, 10, seed=3)
    sums, sizes = sums_by_person(first.astype(float) - second, who)
    seeds, people, cells = parts(sums, sizes)
    assert resample(sums, sizes, 20000).var() == pytest.approx(seeds + people + cells, rel=0.06)


def test_unequal_people_are_weighted_by_their_images():
    values = np.array([[1, 1, 1, 1, 0.0, 0, 1, 0]] * 2)
    assert estimate(values, list("aaaabbcc")).value == values.mean()


def test_ignoring_people_makes_the_interval_too_narrow():
    first, second, who = imagined_runs(6, 20, 30, 0.0, luck=0.0, taste=0.15, seed=1)
    with_people, without = paired_difference(first, second, who), paired_difference(first, second)
    assert with_people.standard_error > 1.5 * without.standard_error
    assert without.people == 600 and not without.known_people
    assert "people unknown" in without._repr_markdown_()


def test_design_effect_is_one_for_independent_images_and_the_group_size_for_copies():
    rng = np.random.default_rng(0)
    independent = rng.random(4000) < 0.6
    assert design_effect(independent, np.arange(4000) // 10) == pytest.approx(1, abs=0.25)
    copies = np.repeat(rng.random(400) < 0.6, 10)
    assert design_effect(copies, np.repeat(np.arange(400), 10)) == pytest.approx(10, rel=0.02)


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_of_images_and_the_names_of_people_do_not_matter(random):
    first, second, who = imagined_runs(4, 12, 5, 0.02, seed=9)
    order, names = list(range(60)), list(range(12))
    random.shuffle(order)
    random.shuffle(names)
    for people, renamed in ((who, np.array(names)[who][order]), (None, None)):
        plain = paired_difference(first, second, people, draws=200)
        shuffled = paired_difference(first[:, order], second[:, order], renamed, draws=200)
        assert (shuffled.value, *shuffled.interval) == pytest.approx((plain.value, *plain.interval), abs=1e-9)


def test_conditions_swapped_give_the_mirror_image():
    first, second, who = imagined_runs(4, 12, 5, 0.05, seed=2)
    there, back = paired_difference(first, second, who), paired_difference(second, first, who)
    assert there.value == -back.value
    assert there.standard_error == pytest.approx(back.standard_error, rel=0.1)


def test_no_differing_answer_is_not_certainty():
    same = np.ones((3, 20), dtype=bool)
    nothing = paired_difference(same, same)
    assert nothing.interval == pytest.approx((-0.15, 0.15))  # rule of three: 3 / 20
    assert verdict(nothing, 0.02) == "we could not tell"
    many = np.ones((3, 2000), dtype=bool)
    assert verdict(paired_difference(many, many), 0.02) == "no difference that matters"


def test_an_effect_planted_is_found_and_none_is_not():
    def verdicts(gain):
        worlds = (imagined_runs(10, 40, 15, gain, seed=world) for world in range(40))
        return [verdict(paired_difference(*world, draws=300), 0.02) for world in worlds]

    assert verdicts(0.06).count("better") >= 36
    none = verdicts(0.0)
    assert none.count("better") + none.count("worse") <= 3


@pytest.mark.parametrize(
    "first, second", [(np.ones((2, 5), bool), np.ones((3, 5), bool)), (np.ones((2, 5), bool), np.ones((2, 6), bool))]
)
def test_unpaired_runs_are_refused(first, second):
    with pytest.raises(TrialError, match="same seeds and images"):
        paired_difference(first, second)


def test_one_person_gives_no_interval_over_people():
    with pytest.raises(TrialError, match="at least two"):
        estimate(np.ones((3, 5)), ["a"] * 5)
    with pytest.raises(TrialError, match="5 images need 5 names"):
        estimate(np.ones((3, 5)), ["a"] * 4)


# ---- p-values


estimates = st.builds(
    lambda v, e, f: Estimate(v, e, f, 5, 30, 600, True), st.floats(-0.3, 0.3), st.floats(1e-3, 0.1), st.floats(1, 60)
)


@given(estimates, st.floats(0.005, 0.2))
def test_p_values_say_the_same_as_the_interval(difference, matters):
    low, high = difference.interval
    if min(abs(low), abs(high)) > 1e-6 and max(abs(low), abs(high)) < 1:
        assert (difference.p < 0.05) == (low > 0 or high < 0)
    if abs(max(-low, high) - matters) > 1e-6 and max(abs(low), abs(high)) < 1:
        assert (difference.p_inside(matters) < 0.05) == (-matters < low and high < matters)
    if abs(high - matters) > 1e-6 and high < 1:
        assert (difference.p_below(matters) < 0.05) == (high < matters)


def closed_testing(p):
    "Holm by definition: reject i if every set of hypotheses that holds i is rejected by Bonferroni."
    sets = [c for k in range(1, len(p) + 1) for c in combinations(range(len(p)), k)]
    return [max(min(1, len(c) * min(p[j] for j in c)) for c in sets if i in c) for i in range(len(p))]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_closed_testing_with_bonferroni(p):
    assert np.allclose(holm(p), closed_testing(p))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_holm_keeps_order_and_never_helps(p, random):
    corrected, order = holm(p), list(range(len(p)))
    assert (corrected >= p).all() and (corrected <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert all(corrected[i] <= corrected[j] for i in order for j in order if p[i] <= p[j])
    random.shuffle(order)
    assert np.array_equal(holm([p[i] for i in order]), corrected[order])


def test_holm_by_hand_and_refusals():
    assert np.allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]).size == 0
    for wrong in ([1.2], [-0.1], [float("nan")]):
        with pytest.raises(TrialError, match="between 0 and 1"):
            holm(wrong)


# ---- verdicts


@pytest.mark.parametrize(
    "value, error, seeds, expected",
    [
        (0.05, 0.010, 10, "better"),
        (-0.05, 0.010, 10, "worse"),
        (0.05, 0.030, 10, "we could not tell"),
        (0.015, 0.005, 10, "we could not tell"),
        (0.0, 0.004, 10, "no difference that matters"),
        (0.008, 0.003, 10, "no difference that matters"),
        (0.0, 0.030, 10, "we could not tell"),
        (0.2, 0.001, 1, "we could not tell"),
        (0.0, 0.0001, 1, "we could not tell"),
    ],
)
def test_verdict_table(value, error, seeds, expected):
    assert verdict(Estimate(value, error, 20, seeds, 30, 600, True), 0.02) == expected


@pytest.mark.parametrize(
    "value, error, p, together, words",
    [
        (0.05, 0.01, 0.001, 1, "better, by +5.0 points"),
        (-0.05, 0.01, 0.001, 1, "worse, by −5.0"),
        (0.015, 0.005, 0.01, 1, "may well be smaller than the 2.0 points"),
        (0.05, 0.02, 0.20, 8, "among 8 comparisons it may be chance"),
        (0.0, 0.03, 1.0, 1, "neither a difference nor its absence"),
        (0.0, 0.002, 1.0, 1, "smaller than the 2.0 points that would matter"),
    ],
)
def test_a_sentence_says_why(value, error, p, together, words):
    difference = Estimate(value, error, 20, 5, 30, 600, True)
    assert words in Finding("new", "old", "test", difference, 0.02, p, difference.p_inside(0.02), together).sentence


# ---- plans


GOOD = dict(
    name="try", question="?", conditions=("new", "old", "plain"), tests=("easy", "hard"), seeds=(0, 1, 2), matters=0.02
)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": "Not A Name"}, "file name"),
        ({"name": "../up"}, "file name"),
        ({"conditions": ("one",)}, "at least two conditions"),
        ({"seeds": (1, 1)}, "named once each"),
        ({"tests": ()}, "at least one"),
        ({"comparisons": (("new", "nwe"),)}, "nwe"),
        ({"matters": 2}, "between 0 and 1"),
        ({"details": {"array": np.zeros(2)}}, "JSON"),
    ],
)
def test_plans_that_make_no_sense_are_refused(change, message):
    with pytest.raises(TrialError, match=message):
        Trial(**{**GOOD, **change})


def test_every_decision_changes_the_fingerprint():
    changes = [
        {},
        {"matters": 0.03},
        {"seeds": (0, 1)},
        {"question": "!"},
        {"details": {"epochs": 3}},
        {"comparisons": (("old", "plain"),)},
    ]
    assert len({Trial(**{**GOOD, **change}).fingerprint for change in changes}) == len(changes)
    assert (
        Trial(**GOOD).fingerprint
        == Trial(**{**GOOD, "seeds": range(3), "conditions": list(GOOD["conditions"])}).fingerprint
    )


# ---- running


WHO = np.repeat(np.arange(10), 6)


def answer(condition, seed):
    rng = np.random.default_rng([seed, len(condition)])
    return {test: Marks(rng.random(60) < level, WHO, "f00d") for test, level in (("easy", 0.8), ("hard", 0.5))}


class Dies(Exception):
    pass


def test_a_killed_trial_goes_on_where_it_stopped(tmp_path):
    unbroken = run_trial(Trial(**GOOD), answer, tmp_path / "a", progress=False)
    calls = []

    def dies_at_the_fifth(condition, seed):
        calls.append((condition, seed))
        if len(calls) == 5:
            raise Dies
        return answer(condition, seed)

    with pytest.raises(Dies):
        run_trial(Trial(**GOOD), dies_at_the_fifth, tmp_path / "b", progress=False)
    with (tmp_path / "b" / "results.jsonl").open("a") as file:
        file.write('{"condition": "old", "se')  # the machine went down while writing
    resumed = run_trial(Trial(**GOOD), dies_at_the_fifth, tmp_path / "b", progress=False)
    assert resumed.fingerprint == unbroken.fingerprint
    assert len(calls) == 10 and len(set(calls)) == 9  # only the run that died was repeated
    assert [(r["condition"], r["seed"]) for r in resumed.runs] == [(r["condition"], r["seed"]) for r in unbroken.runs]
    assert findings(resumed).table().equals(findings(unbroken).table())


def test_a_folder_with_another_plan_is_refused(tmp_path):
    run_trial(Trial(**GOOD), answer, tmp_path, progress=False)
    with pytest.raises(TrialError, match="another plan"):
        run_trial(Trial(**{**GOOD, "matters": 0.05}), answer, tmp_path, progress=False)


def test_damage_inside_the_log_is_named(tmp_path):
    run_trial(Trial(**GOOD), answer, tmp_path, progress=False)
    log = tmp_path / "results.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], lines[1][:20], *lines[2:]]) + "\n")
    with pytest.raises(TrialError, match="line 2 is damaged"):
        run_trial(Trial(**GOOD), answer, tmp_path, progress=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: Marks(m.correct[:-1], m.people[:-1], m.faces),
        lambda m: Marks(m.correct, m.people[::-1] // 2, m.faces),
        lambda m: Marks(m.correct, None, m.faces),
        lambda m: Marks(m.correct, m.people, "beef"),
    ],
)
def test_runs_on_different_test_images_are_refused(tmp_path, change):
    def other_images(condition, seed):
        return {test: change(m) if condition == "old" else m for test, m in answer(condition, seed).items()}

    with pytest.raises(TrialError, match="Paired runs need the same test images"):
        run_trial(Trial(**GOOD), other_images, tmp_path, progress=False)


def test_a_run_has_to_hand_in_every_test_as_yes_or_no(tmp_path):
    with pytest.raises(TrialError, match="hand"):
        run_trial(Trial(**GOOD), lambda c, s: {"easy": answer(c, s)["easy"]}, tmp_path / "a", progress=False)
    with pytest.raises(TrialError, match="boolean"):
        run_trial(
            Trial(**GOOD),
            lambda c, s: {t: Marks(np.zeros((60, 7)), WHO) for t in ("easy", "hard")},
            tmp_path / "b",
            progress=False,
        )


def test_each_run_starts_from_its_seed_and_leaves_the_generator_alone(tmp_path):
    drawn = {}

    def draws(condition, seed):
        drawn[condition, seed] = torch.rand(3)
        return answer(condition, seed)

    torch.manual_seed(7)
    before = torch.get_rng_state()
    run_trial(Trial(**GOOD), draws, tmp_path, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn["new", 1], drawn["plain", 1]) and not torch.equal(drawn["new", 1], drawn["new", 2])


def test_reports_can_be_handed_in(tmp_path):
    def reports(condition, seed):
        return {
            test: Report(
                test,
                np.zeros(60, int),
                np.stack([m.correct, ~m.correct], 1).astype(np.float32),
                ("right", "wrong"),
                {"faces_fingerprint": m.faces},
                m.people,
            )
            for test, m in answer(condition, seed).items()
        }

    from_reports = run_trial(Trial(**GOOD), reports, tmp_path / "a", progress=False)
    assert from_reports.fingerprint == run_trial(Trial(**GOOD), answer, tmp_path / "b", progress=False).fingerprint


def test_a_record_keeps_the_splits_of_each_condition_and_they_are_part_of_its_fingerprint(tmp_path):
    def told(word):
        return lambda condition, seed: {test: replace(m, splits=(f"{word}{condition}{seed}", "fold 2"))
                                        for test, m in answer(condition, seed).items()}

    plan = Trial(**GOOD)
    record = run_trial(plan, told("a"), tmp_path / "a", progress=False)
    again = run_trial(plan, told("a"), tmp_path / "a", progress=False)  # read from the log
    back = load_record(again.save(tmp_path))
    for condition in plan.conditions:
        expected = {seed: (f"a{condition}{seed}", "fold 2") for seed in plan.seeds}
        assert record.splits(condition, "easy") == again.splits(condition, "easy") == expected
        assert back.splits(condition, "easy") == expected
    other = run_trial(plan, told("b"), tmp_path / "b", progress=False)
    silent = run_trial(plan, answer, tmp_path / "c", progress=False)
    assert len({each.fingerprint for each in (record, other, silent)}) == 3 and back.fingerprint == record.fingerprint
    assert set(silent.splits(plan.conditions[0], "easy").values()) == {()}


def test_the_split_of_a_report_comes_with_it():
    facts = {"faces_fingerprint": "f00d", "split": "abcd"}
    report = Report("r", np.zeros(2, int), np.eye(2, dtype=np.float32), ("right", "wrong"), facts)
    assert marks(report).splits == ("abcd",)


# ---- records


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_bits_survive_packing(bits):
    assert unpack_bits(pack_bits(bits), len(bits)).tolist() == bits


def test_a_record_comes_back_and_shows_where_it_is_from(tmp_path):
    record = run_trial(
        Trial(**GOOD, details={"epochs": 3}), answer, tmp_path / "runs", command="make <it>", progress=False
    )
    back = load_record(record.save(tmp_path))
    assert back.fingerprint == record.fingerprint and back.plan == record.plan
    assert np.array_equal(
        back.correct("old", "hard"), np.stack([answer("old", seed)["hard"].correct for seed in range(3)])
    )
    html = back._repr_html_()
    assert "recorded" in html and "make &lt;it&gt;" in html and back.made["date"][:10] in html
    assert "run live" in record._repr_html_()
    assert set(back.made["environment"]) >= {"torch", "revision", "processor"}
    assert str(tmp_path) not in (tmp_path / "try.json").read_text()


def test_a_record_without_people_says_so(tmp_path):
    plan = Trial(**GOOD)
    record = run_trial(
        plan, lambda c, s: {t: Marks(m.correct) for t, m in answer(c, s).items()}, tmp_path, progress=False
    )
    assert "people are not known" in record._repr_html_()


def test_a_changed_record_is_refused(tmp_path):
    path = run_trial(Trial(**GOOD), answer, tmp_path / "runs", progress=False).save(tmp_path)
    facts = json.loads(path.read_text())
    facts["runs"][0]["correct"]["easy"] = pack_bits(np.ones(60, bool))
    path.write_text(json.dumps(facts))
    with pytest.raises(TrialError, match="changed after it was saved"):
        load_record(path)
    path.write_text("{}")
    with pytest.raises(TrialError, match="not a recorded trial"):
        load_record(path)
    with pytest.raises(TrialError, match="no recorded trial 'nothing'"):
        load_record("nothing")


def test_records_of_a_large_trial_stay_small(tmp_path):
    plan = Trial("large", "?", tuple("abcde"), ("x", "y", "z"), range(10), 0.02)
    people = np.random.default_rng(0).integers(0, 100, 700)

    def large(condition, seed):
        rng = np.random.default_rng([seed, ord(condition)])
        return {test: Marks(rng.random(700) < 0.6, people) for test in plan.tests}

    assert run_trial(plan, large, tmp_path, progress=False).save(tmp_path).stat().st_size < 60_000


def test_comparisons_of_all_records_are_corrected_together(tmp_path):
    one, two = (
        run_trial(Trial(**{**GOOD, "name": name}), answer, tmp_path / name, progress=False) for name in ("one", "two")
    )
    alone, together = findings(one), findings(one, two)
    assert len(together) == 2 * len(alone) and together[0].together == len(together)
    assert all(b.p >= a.p for a, b in zip(alone, together, strict=False))
    assert together.intervals()["estimate"].iloc[0] == pytest.approx(100 * together[0].difference.value)


@pytest.mark.parametrize("name", record_names())
def test_committed_records_are_intact(name):
    record = load_record(name)
    assert len(findings(record)) == len(record.plan.comparisons) * len(record.plan.tests)
    assert record.made["command"], "a committed record says how to run it again"


class Answers:
    "What a lesson's trial looks like to `record_all`."

    def __init__(self, plan, settings):
        self.plan, self.settings = plan, settings

    def __call__(self, condition, seed):
        assert self.settings == "of the lab"
        return answer(condition, seed)


def test_all_records_of_a_lesson_or_one_are_made_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(fer_lab.trial, "records_folder", lambda: tmp_path / "kept")
    plans = [Trial(**GOOD), Trial(**GOOD | {"name": "another"})]
    record_all(plans, Answers, tmp_path / "runs", ["another"], "of the lab")
    assert record_names() == ["another"] and (tmp_path / "runs" / "another" / "plan.json").is_file()
    record_all(plans, Answers, tmp_path / "runs", settings="of the lab")
    assert record_names() == sorted(["another", plans[0].name])
    assert f"from {__name__} import record_trials" in load_record("another").made["command"]
    with pytest.raises(TrialError, match="no plan a-third; known are"):
        record_all(plans, Answers, tmp_path / "runs", ["a-third"], "of the lab")


def test_what_was_found_in_a_line_a_pair(tmp_path):
    found = findings(run_trial(Trial(**GOOD), answer, tmp_path, progress=False))
    lines = in_lines(found).split("\n")
    assert len(lines) == len({(f.first, f.second) for f in found}) and in_lines([]) == ""
    for f in found:
        line = next(line for line in lines if f"**{f.first}** against **{f.second}**" in line)
        assert f"{f.verdict} on {f.test}" in line


def _record(shares, seeds=6, images=400, chance=1 / 7):
    "A record of two conditions that are right this often on two tests, {condition: (share, share)}."
    rng = np.random.default_rng(0)
    plan = Trial("who-knows", "?", tuple(shares), ("easy", "hard"), range(seeds), 0.02, chance=chance)
    people = np.repeat(np.arange(images // 10), 10)
    right = {(c, s): {t: Marks(rng.random(images) < share, people) for t, share in zip(plan.tests, shares[c])}
             for c in shares for s in plan.seeds}
    return plan, lambda condition, seed: right[condition, seed]


def test_two_that_guess_are_not_compared_and_one_that_guesses_is_named(tmp_path):
    record = run_trial(*_record({"new": (0.6, 0.15), "old": (0.14, 0.13)}), tmp_path / "a", progress=False)
    easy, hard = findings(record)
    assert easy.verdict == "better" and easy.sentence.endswith("(old is at chance).")
    assert easy.brief == f"better ({easy.number})" and easy.number.endswith(", old is at chance")
    assert hard.brief == ASLEEP and hard.guess == "" and "chance" not in hard.number
    assert who_guesses([easy, hard]) == "At chance: old on easy; new, old on hard. "
    assert who_guesses([replace(easy, asleep=())]) == ""
    assert hard.verdict == ASLEEP and "Neither is clearly right more often" in hard.sentence
    assert hard.p == findings(run_trial(*_record({"new": (0.6, 0.15), "old": (0.14, 0.13)}, chance=None),
                                        tmp_path / "b", progress=False))[1].p  # it stays among those corrected
    assert ASLEEP in findings(record).table().verdict.tolist()


def test_a_lead_over_chance_has_to_be_clear_in_points_and_in_errors(tmp_path):
    many = run_trial(*_record({"a": (0.18, 0.25), "b": (0.5, 0.5)}, images=4000), tmp_path / "m", progress=False)
    assert many.at_chance("a", "easy") and not many.at_chance("a", "hard")  # 3.7 points ahead, though surely ahead
    few = run_trial(*_record({"a": (0.22, 0.9), "b": (0.5, 0.5)}, seeds=2, images=20), tmp_path / "f", progress=False)
    assert few.at_chance("a", "easy") and not few.at_chance("a", "hard")  # 8 points ahead, but only 20 images


def test_chance_helps_to_read_a_plan_and_does_not_change_it():
    plan = _record({"a": (0, 0), "b": (0, 0)})[0]
    assert replace(plan, chance=0.5).fingerprint == replace(plan, chance=None).fingerprint == plan.fingerprint
    with pytest.raises(TrialError, match="accuracy of blind answers"):
        replace(plan, chance=14)
