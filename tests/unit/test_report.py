"Reports agree with scikit-learn, resample people, count looks at the test set, and survive the disk."

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics

from fer_lab.faceset import FER7, FaceSet
from fer_lab.report import (
    AHEAD,
    Report,
    ReportError,
    at_chance,
    environment,
    evaluate,
    final_reports,
    load_report,
    predict,
)
from fer_lab.splits import Split

CLASSES = FER7.classes


def random_report(n=200, seed=0, **fields):
    rng = np.random.default_rng(seed)
    return Report("random", rng.integers(0, 7, n), rng.dirichlet(np.ones(7), n).astype(np.float32), CLASSES, **fields)


@given(st.integers(1, 60), st.integers(0, 10_000))
def test_metrics_equal_scikit_learn_also_when_classes_are_missing(n, seed):
    report = random_report(n, seed)
    truth, said = report.labels, report.predictions
    assert report.war == pytest.approx(metrics.accuracy_score(truth, said))
    assert report.uar == pytest.approx(
        metrics.recall_score(truth, said, average="macro", labels=np.unique(truth), zero_division=0)
    )
    assert report.macro_f1 == pytest.approx(metrics.f1_score(truth, said, average="macro", zero_division=0))
    assert (report.confusion == metrics.confusion_matrix(truth, said, labels=range(7))).all()
    expected = metrics.precision_recall_fscore_support(truth, said, labels=range(7), zero_division=np.nan)
    table = report.per_class
    assert np.allclose(table["precision"], expected[0], equal_nan=True) and np.allclose(
        table["recall"], expected[1], equal_nan=True
    )


def test_bootstrap_interval_matches_the_binomial_one_for_independent_images():
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 7, 2000), np.zeros((2000, 7), np.float32)
    scores[np.arange(2000), np.where(rng.random(2000) < 0.7, truth, (truth + 1) % 7)] = 1
    report = Report("seventy", truth, scores, CLASSES)
    half = 1.96 * np.sqrt(0.7 * 0.3 / 2000)
    low, high = report.interval
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)
    assert report.bootstrap("war", seed=1) == report.bootstrap("war", seed=1)


def test_interval_is_wider_when_the_images_of_a_person_fail_together():
    people = np.repeat(np.arange(20), 50)
    truth, scores = np.zeros(1000, int), np.zeros((1000, 7), np.float32)
    scores[np.arange(1000), people % 2] = 1  # every second person is always wrong
    images, persons = Report("i", truth, scores, CLASSES), Report("p", truth, scores, CLASSES, groups=people)
    width = [high - low for low, high in (images.interval, persons.interval)]
    assert width[1] > 4 * width[0]


@pytest.mark.parametrize(
    "labels, scores, message",
    [
        (np.array([0, -1]), np.ones((2, 7), np.float32), "Unlabelled"),
        (np.array([0, 7]), np.ones((2, 7), np.float32), r"0\.\.6"),
        (np.array([0, 1]), np.ones((2, 6), np.float32), r"\[2, 7\]"),
        (np.array([], int), np.ones((0, 7), np.float32), "no faces"),
        (np.array([0, 1]), np.full((2, 7), np.nan, np.float32), "2 faces have NaN"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, scores, message):
    with pytest.raises(ReportError, match=message):
        Report("wrong", labels, scores, CLASSES)


def test_a_report_survives_the_disk_and_a_cut_file_is_named(tmp_path):
    report = random_report(groups=np.repeat(["Ada", "Bo"], 100), context={"tta": "flip"})
    again = load_report(report.save(tmp_path / "r"))
    assert again.to_dict() == report.to_dict() and (again.probabilities == report.probabilities).all()
    (tmp_path / "r" / "predictions.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ReportError, match="no complete report"):
        load_report(tmp_path / "r")


class Brightness(torch.nn.Module):
    "Knows the class from the left half's mean: not the same for a mirror image."

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, x):
        left = self.dropout(x)[..., : x.shape[-1] // 2].mean((1, 2, 3))
        return self.scale * torch.stack([left * k for k in range(7)], 1)


def faces(n=30, **meta):
    rng = np.random.default_rng(0)
    return FaceSet(
        "noise",
        rng.integers(0, 256, (n, 1, 6, 6), dtype=np.uint8),
        np.arange(n) % 7,
        FER7,
        pd.DataFrame(meta) if meta else None,
    )


def test_predict_uses_eval_mode_any_batch_size_and_restores_the_mode():
    model = Brightness().train()
    whole = predict(model, faces(), batch=30)
    assert np.allclose(predict(model, faces(), batch=7), whole, atol=1e-6) and model.training
    assert np.allclose(whole.sum(1), 1, atol=1e-5)


def test_flip_tta_is_the_mean_of_both_views():
    model, mirrored = Brightness(), FaceSet("mirror", faces().frames[..., ::-1].copy(), faces().labels, FER7)
    assert np.allclose(
        predict(model, faces(), tta="flip"), (predict(model, faces()) + predict(model, mirrored)) / 2, atol=1e-6
    )
    with pytest.raises(ReportError, match="'rotate'"):
        predict(model, faces(), tta="rotate")


def test_final_reports_drop_images_seen_before_and_count_the_openings(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_LAB_STATE_DIR", str(tmp_path))
    frames = faces().frames.copy()
    frames[28], frames[29] = frames[0], frames[15]  # one repeat of train, one of val
    given = FaceSet("repeats", frames, faces().labels, FER7)
    split = Split(given, "by hand", range(10), range(10, 20), range(20, 30), {"identical image": "tested here"})
    first = final_reports(Brightness(), split, "brightness", "no choice")
    assert [report.n for report in first] == [10, 8] and "2 repeats" in first[1].name
    assert first[0].context["test_openings"] == 1
    assert final_reports(Brightness(), split, "brightness", "no choice")[0].context["test_openings"] == 2
    assert first[0].context["split"] == split.fingerprint and first[0].context["faces_fingerprint"]


def test_evaluate_resamples_people_where_they_are_known():
    report = evaluate(Brightness(), faces(subject=np.repeat(list("ABC"), 10)), "known")
    assert set(report.groups) == set("ABC") and "subjects" in report._repr_html_()
    assert evaluate(Brightness(), faces(), "unknown").groups is None


def test_environment_names_versions_and_revision():
    facts = environment()
    assert facts["torch"] == torch.__version__ and facts["revision"]


def test_blind_answers_are_at_chance_however_common_their_class_is():
    truth = np.repeat([0, 1, 2], [900, 60, 40])
    assert at_chance(truth == 0, truth)  # 90 % right, and knows nothing
    assert not at_chance(np.ones(1000, bool), truth)


@pytest.mark.parametrize("k", range(2, 8))
def test_random_answers_are_at_chance(k):
    rng, truth = np.random.default_rng(k), np.repeat(np.arange(k), 200)
    answers = rng.integers(0, k, (500, len(truth))) == truth
    error = np.sqrt((k - 1) / k**2 / len(truth))
    stays = norm.cdf(max(AHEAD, 2 * error) / error)  # two standard errors, one side: 2.3 % escape, or fewer
    assert np.mean([at_chance(right, truth) for right in answers]) == pytest.approx(stays, abs=0.02)
    assert at_chance(np.array([True, True]), np.array([0, 1]))  # two lucky faces prove nothing
