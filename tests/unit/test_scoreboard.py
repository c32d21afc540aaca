"""The page of a run: no number without its conditions, no damaged record in hiding, no text that becomes markup."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from fer_lab.report import Report
from fer_lab.scoreboard import (
    EMPTY,
    UNKNOWN,
    Outcome,
    Records,
    RunState,
    headline,
    read_recorded,
    read_records,
    read_state,
    score_table,
    write_page,
    write_state,
)
from fer_lab.settings import LabError
from fer_lab.trial import Marks, Trial, run_trial

FACTS = {"faces": "synthetic", "protocol": "holdout by subject", "split": "0123456789abcdef",
         "selection": "best val WAR of 9 epochs", "tta": "flip", "seed": 4, "test_openings": 3}
STATE = RunState("2026-01-31T12:00:00+00:00", (Outcome("papers/06_stn.ipynb", "Deep-Emotion", "done", 40, 40, 83.0),),
                 (("dataset", "synthetic", "default"), ("seed", "4", "argument")),
                 (("device in use", "cpu", "auto: because"),), {"torch": "2.15.0"},
                 finished="2026-01-31T12:02:00+00:00")


def report(name="stn, test", right=0.6, **facts) -> Report:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    guess = np.where(rng.random(200) < right, truth, (truth + 1) % 3)
    return Report(name, truth, np.eye(3)[guess], ("anger", "fear", "neutral"), {**FACTS, **facts})


def train(folder, epochs=3, kept=True):
    """A run's folder as the trainer leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{"epoch": i + 1, "loss": 2 - i / 9, "val_loss": 2.0, "val_war": 0.3 + i / 100, "val_uar": 0.3,
              "seconds": 1.0} for i in range(epochs)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "config.json").write_text(json.dumps({"recipe": {"seed": 11}, "split": "abcdef"}))
    if kept:
        card = {"epoch": 3, "val": {"war": 0.32, "uar": 0.3, "n": 50}, "selection": "best val WAR",
                "recipe": {"seed": 11}}
        (folder / "card.json").write_text(json.dumps(card))


@pytest.fixture
def folder(tmp_path):
    """A run with two reports, two trainings and a damaged record."""
    records = tmp_path / "records"
    report().save(records / "06_stn" / "run" / "test")
    train(records / "06_stn" / "run", epochs=3)
    train(records / "06_stn" / "stopped", epochs=1, kept=False)
    report("bare", seed="", selection="").save(records / "leakage" / "bare")
    (records / "06_stn" / "damaged").mkdir()
    (records / "06_stn" / "damaged" / "report.json").write_text('{"name": "cut')
    write_state(STATE, tmp_path)
    return tmp_path


def test_scores_carry_what_makes_them_citable(folder):
    found = read_records(folder / "records")
    score, bare = found.scores
    assert score.war == pytest.approx(report().war) and score.interval == pytest.approx(report().interval, abs=1e-4)
    assert score.facts == {key: str(value) for key, value in FACTS.items()}
    assert (score.origin, score.n) == ("06_stn", 200)
    assert bare.facts["selection"] == bare.facts["seed"] == UNKNOWN


def test_what_a_report_leaves_out_is_taken_from_its_run(folder):
    silent = report("stn, val")
    for key in ("seed", "split", "selection", "test_openings"):
        silent.context.pop(key)
    silent.save(folder / "records" / "06_stn" / "run" / "val")
    facts = next(score.facts for score in read_records(folder / "records").scores if score.name == "stn, val")
    assert (facts["seed"], facts["split"], facts["test_openings"]) == ("11", "abcdef", "0")
    assert "no test" in facts["selection"]


def test_a_damaged_record_is_shown_and_hides_nothing(folder):
    found = read_records(folder / "records")
    assert len(found.scores) == 2 and len(found.problems) == 1 and "damaged" in found.problems[0]
    assert "Records that could not be read" in write_page(folder, Records()).read_text()


def test_a_smoke_run_says_that_its_numbers_mean_nothing(folder):
    assert "mean nothing" not in write_page(folder).read_text()
    write_state(replace(STATE, settings=(("budget", "smoke", "argument"),)), folder)
    assert "mean nothing" in write_page(folder).read_text()


def test_numbers_stand_on_the_page_with_their_conditions(folder):
    page = write_page(folder, Records()).read_text()
    for text in (f"{report().war:.1%}", "holdout by subject", "0123456789abcdef", "best val WAR of 9 epochs",
                 "TTA: flip", "3×", "over images", UNKNOWN, "auto: because", "2.15.0", "31 January 2026, 12:00 UTC"):
        assert text in page


def test_curves_are_drawn_from_the_one_script_beside_the_page(folder):
    page = write_page(folder, Records()).read_text()
    assert (folder / "plotly.min.js").stat().st_size > 1e6
    assert re.findall(r'<script src="([^"]+)"', page) == ["plotly.min.js"]
    assert "best validation accuracy 32.0%" in page and "none of 1" in page and "3 of 3" in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


def test_the_empty_page_says_what_to_do_and_loads_nothing(tmp_path):
    write_state(STATE, tmp_path)
    page = write_page(tmp_path, Records()).read_text()
    assert EMPTY in page and "<script src" not in page and not (tmp_path / "plotly.min.js").exists()
    assert score_table([]) == EMPTY


def test_nothing_from_outside_becomes_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    report(evil, faces=evil).save(tmp_path / "records" / "x")
    outcome = Outcome("labs/x.ipynb", evil, "failed", 4, 1, 1.0, evil, evil)
    write_state(replace(STATE, outcomes=(outcome,), settings=(("dataset", evil, evil),)), tmp_path)
    page = write_page(tmp_path, Records()).read_text()
    assert evil not in page and page.count("&lt;script&gt;alert(1)") >= 6


@pytest.mark.parametrize("statuses, finished, tone, words", [
    (["done", "done"], "x", "done", "2 notebooks executed"), (["done"], "x", "done", "1 notebook executed"),
    (["done", "failed", "stopped"], "x", "failed", "1 of 3 notebooks failed"),
    (["done", "stopped"], "x", "stopped", "stopped after 1 of 2 notebooks"),
    (["done", "running", "waiting"], "", "running", "1 of 3 notebooks executed so far")])
def test_the_headline_tells_how_the_run_stands(statuses, finished, tone, words):
    outcomes = tuple(Outcome("x.ipynb", "X", status) for status in statuses)
    assert headline(replace(STATE, outcomes=outcomes, finished=finished)) == (tone, words)


def test_only_an_unfinished_page_loads_itself_again(tmp_path):
    write_state(replace(STATE, finished=""), tmp_path)
    assert 'http-equiv="refresh"' in write_page(tmp_path, Records()).read_text()
    write_state(STATE, tmp_path)
    assert "refresh" not in write_page(tmp_path, Records()).read_text()


def test_the_state_of_a_run_survives_the_disk(tmp_path):
    write_state(STATE, tmp_path)
    assert read_state(tmp_path) == STATE
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(LabError, match="run.json"):
        read_state(tmp_path)


def test_trials_end_in_a_sentence(folder):
    plan = Trial("demo", "Does it help?", ("with", "without"), ("upright",), (0, 1, 2), 0.02)
    rng, people = np.random.default_rng(0), np.repeat(np.arange(40), 10).astype(str)

    def run_one(condition, seed):
        return {"upright": Marks(rng.random(400) < (0.9 if condition == "with" else 0.5), people)}

    record = run_trial(plan, run_one, folder / "work", progress=False)
    record.save(folder / "records" / "06_stn")
    page = write_page(folder, Records()).read_text()
    assert "Does it help?" in page and "with against without" in page and "run live" in page
    assert read_records(folder / "records").trials[0].plan == plan


def test_what_came_with_the_package_is_labelled_recorded(folder):
    recorded = read_recorded()
    assert not recorded.problems
    page = write_page(folder).read_text()
    assert ("Recorded earlier" in page) == bool(recorded.scores or recorded.trials)
    for score in recorded.scores:
        assert f"{score.war:.1%}" in page
