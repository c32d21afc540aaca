"""HOG, LBP and Gabor filters of many faces equal scikit-image's; machines, modules and tensors are what they say."""

import json
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.feature import hog, local_binary_pattern
from skimage.filters import gabor, gabor_kernel
from sklearn.base import clone
from sklearn.kernel_approximation import Nystroem
from sklearn.svm import SVC

from fer_lab.augment import to_float
from fer_lab.experiment import evaluate_saved
from fer_lab.explain import NotDefined, attribute
from fer_lab.faceset import FER7, FaceSet
from fer_lab.models import count_parameters, create, load_model, zoo_folder, zoo_names
from fer_lab.papers.classic import (
    FEATURES,
    MATTERS,
    RECORDS,
    RING,
    FeatureError,
    Gabor,
    Hog,
    Lbp,
    Prepare,
    RivalsTrial,
    WithoutIdentity,
    as_module,
    cell_evidence,
    cell_weights,
    cells_of,
    classic,
    convolution_matrix,
    drawn_faces,
    gabor_factors,
    glyph_lines,
    gradient_table,
    grid_search,
    hog_linear_svm,
    hog_rbf_svm,
    hosvd,
    latency,
    lbp_labels,
    posed_people,
    record_fer2013,
    rivals_plan,
    times,
    uniform_labels,
    what_is_left,
)
from fer_lab.settings import load_settings
from fer_lab.splits import people_or_images
from fer_lab.synthetic import synthetic_faces
from fer_lab.trial import load_record, record_names, run_trial


@pytest.fixture(scope="module")
def faces():
    easy = dict(intensity="high", domain="A", pose=dict(yaw=0, pitch=0, roll=0), occluded=0.0)
    return synthetic_faces(300, seed=3, mask=False, **easy)


def noise(n=20, channels=1, height=50, width=61, levels=256):
    return np.random.default_rng(levels).integers(0, levels, (n, channels, height, width), dtype=np.uint8)


@pytest.mark.parametrize("levels", [2, 3, 256])  # few levels: many gradients exactly on the edge of a direction bin
@pytest.mark.parametrize("orientations, cell, block", [(9, 8, 2), (8, 8, 2), (4, 5, 1), (12, 7, 3), (9, 6, 3)])
def test_equal_to_scikit_image(orientations, cell, block, levels):
    pixels = noise(levels=levels)
    theirs = np.stack([hog(face[0], orientations, (cell, cell), (block, block)) for face in pixels])
    ours = Hog(orientations, cell, block).transform(pixels)
    assert ours.dtype == np.float32 and np.abs(ours - theirs).max() < 1e-6


def test_equal_on_faces_and_on_colour(faces):
    theirs = np.stack([hog(face[0], 9, (8, 8), (2, 2)) for face in faces.stills()[:30]])
    assert np.abs(Hog().transform(faces.subset(range(30))) - theirs).max() < 1e-6
    colour = noise(channels=3)
    theirs = np.stack([hog(face, 9, (8, 8), (2, 2), channel_axis=0) for face in colour])
    assert np.abs(Hog().transform(colour) - theirs).max() < 1e-6


def test_the_table_holds_every_gradient_of_bytes():
    bins, steepness = gradient_table(9)
    assert bins.shape == steepness.shape == (511 * 511,) and bins.max() == 8 and bins.min() == 0
    place = (3 + 255) * 511 + (-4 + 255)  # row difference 3, column difference -4
    assert steepness[place] == 5 and bins[place] == int(np.rad2deg(np.arctan2(3, -4)) // 20)


def test_a_batch_changes_nothing_and_a_flat_picture_has_no_direction(faces):
    assert np.array_equal(Hog().transform(faces, batch=7), Hog().transform(faces, batch=1000))
    assert not Hog().transform(np.full((2, 1, 48, 48), 77, np.uint8)).any()


def test_light_does_not_change_it():
    dark = noise(levels=100)
    assert np.abs(Hog().transform(dark) - Hog().transform(dark * 2)).max() < 1e-5
    assert np.array_equal(Hog().transform(dark), Hog().transform(dark + 50))


def test_twice_the_light_doubles_gabor_alone_and_a_negative_changes_lbp_alone(faces):
    pixels = faces.stills()[:12]
    away = lambda kind, a, b: (np.linalg.norm(kind().transform(a) - kind().transform(b), axis=1)  # noqa: E731
                               / np.linalg.norm(kind().transform(b), axis=1)).mean()
    dim = pixels // 2
    assert away(Hog, dim * 2, dim) < 1e-4 and away(Gabor, dim * 2, dim) == pytest.approx(1, abs=1e-3)
    assert away(Lbp, dim * 2, dim) < 0.01  # but for rounding
    assert away(Hog, 255 - pixels, pixels) < 1e-4 and away(Gabor, 255 - pixels, pixels) < 0.1
    assert away(Lbp, 255 - pixels, pixels) > 0.2


@pytest.mark.parametrize("bad", [np.zeros((2, 48, 48), np.uint8), np.zeros((2, 1, 48, 48)),
                                 np.zeros((0, 1, 48, 48), np.uint8), np.zeros((1, 1, 15, 48), np.uint8)])
def test_what_no_hog_can_be_made_of_is_refused(bad):
    with pytest.raises(FeatureError, match="uint8|16 × 16"):
        Hog().transform(bad)


@pytest.mark.parametrize("make", [hog_linear_svm, hog_rbf_svm])
def test_a_pipeline_learns_faces_can_be_cloned_and_gives_the_same_again(make, faces):
    train, test = faces.subset(range(220)), faces.subset(range(220, 300))
    model = clone(make(cell=8)).fit(train, train.labels)
    assert model.score(train, train.labels) > 0.9 and model.score(test, test.labels) > 0.25
    assert np.array_equal(model.predict(test), make(cell=8).fit(train, train.labels).predict(test))


def test_the_gaussian_kernel_is_that_of_scikit_learn_on_the_same_numbers(faces):
    train, test = faces.subset(range(220)), faces.subset(range(220, 300))
    ours = hog_rbf_svm(C=3.0, gamma=0.2).fit(train, train.labels).predict(test)
    features = Hog().transform(faces)
    theirs = SVC(C=3.0, gamma=0.2).fit(features[:220], train.labels).predict(features[220:])
    assert np.array_equal(ours, theirs)


# ---- LBP


def theirs_lbp(pixels):
    return np.stack([local_binary_pattern(face[0], 8, 1, "uniform") for face in pixels])


@pytest.mark.parametrize("levels", [2, 3, 16, 256])
def test_lbp_is_equal_to_scikit_image_to_the_last_bit(levels):
    pixels = noise(40, levels=levels) * (255 // (levels - 1))
    assert np.array_equal(lbp_labels(pixels), theirs_lbp(pixels))


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 200), st.integers(-20, 20), arrays(np.int16, (5, 4), elements=st.integers(-1, 1)))
def test_lbp_rounds_as_scikit_image_does_where_both_sides_balance(grey, slope, grain):
    rows, columns = np.mgrid[:5, :4]
    pixels = (grey + slope * (rows - columns) + grain).clip(0, 255).astype(np.uint8)[None, None]
    assert np.array_equal(lbp_labels(pixels), theirs_lbp(pixels))


def test_lbp_of_one_grey_level_more_may_be_another_and_ours_follows():
    patch = np.array([[0, 15, 0], [-50, 0, -15], [-50, -50, -50]])
    both = np.stack([patch + 64, patch + 65]).astype(np.uint8)[:, None]
    assert np.array_equal(lbp_labels(both), theirs_lbp(both))
    assert lbp_labels(both)[:, 1, 1].tolist() == [1, 2]


def test_58_patterns_are_uniform_and_turning_the_ring_changes_no_label():
    labels = uniform_labels()
    assert (labels < 9).sum() == 58 and labels[0] == 0 and labels[255] == 8 and labels[0b01010101] == 9
    turned = [(code << 1 | code >> 7) & 255 for code in range(256)]
    assert np.array_equal(labels, labels[turned])
    assert len(set(RING)) == 8 and all(max(abs(r), abs(c)) == 1 for r, c in RING)


def test_lbp_counts_by_cell(faces):
    pixels = faces.stills()[:5]
    labels = lbp_labels(pixels)
    by_hand = [np.bincount(labels[i, 8 * r:8 * r + 8, 8 * c:8 * c + 8].ravel(), minlength=10) / 64
               for i in range(5) for r in range(6) for c in range(6)]
    assert np.allclose(Lbp().transform(pixels), np.reshape(by_hand, (5, 360)))


# ---- Gabor


@pytest.mark.parametrize("wavelength", [2.5, 3, 9])
@pytest.mark.parametrize("theta", [0, 0.6, np.pi / 2, 3 * np.pi / 4])
def test_two_factors_make_the_filter(wavelength, theta):
    down, across = gabor_factors(wavelength, theta)
    assert np.allclose(np.outer(down, across), gabor_kernel(1 / wavelength, theta), atol=1e-15)


def test_a_matrix_convolves_and_reflects(faces):
    rng = np.random.default_rng(0)
    profile, line = rng.normal(size=31) + 1j * rng.normal(size=31), rng.normal(size=12)
    beyond = np.pad(line, 24, mode="symmetric")  # longer than the filter's reach
    expected = np.convolve(beyond, profile, mode="same")[24:-24]
    assert np.allclose(convolution_matrix(profile, 12) @ line, expected)


@pytest.mark.parametrize("shape", [(48, 48), (40, 53)])
def test_gabor_is_equal_to_scikit_image(shape):
    pixels = noise(2, height=shape[0], width=shape[1])
    ours = Gabor((3, 9), 4).responses(pixels)
    for i, face in enumerate(pixels):
        pairs = [(1 / length, turn * np.pi / 4) for length in (3, 9) for turn in range(4)]
        theirs = [np.hypot(*gabor(face[0] / 255, frequency, theta)) for frequency, theta in pairs]
        assert np.abs(ours[i] - theirs).max() < 1e-5
    pooled = ours[:, :, :40, :shape[1] // 8 * 8].reshape(2, 8, -1, 8, shape[1] // 8, 8)[:, :, :5].mean((3, 5))
    if shape[0] == 40:
        assert np.allclose(Gabor((3, 9), 4).transform(pixels), pooled.reshape(2, -1), atol=1e-6)


# ---- pipelines


@pytest.mark.parametrize("kind, bad, message", [
    (Lbp, noise(2, channels=3), "1 channel"), (Gabor, noise(2, channels=3), "Make the faces grey"),
    (Lbp, noise(2, height=7), "8 × 8"), (Gabor, np.zeros((2, 1, 48, 48)), "uint8")])
def test_what_no_features_can_be_made_of_is_refused(kind, bad, message):
    with pytest.raises(FeatureError, match=message):
        kind().transform(bad)


@pytest.mark.parametrize("how, options", [("hgo", {}), ("hog", {"classifier": "svm"}), ("hog", {"how": ("fog",)})])
def test_unknown_names_are_answered_with_the_known_ones(faces, how, options):
    with pytest.raises(FeatureError, match="known are"):
        classic(how, **options).fit(faces, faces.labels)


def test_preparing_takes_its_steps_in_order_and_a_median_removes_a_speck():
    speck = np.full((1, 1, 9, 9), 100, np.uint8)
    speck[0, 0, 4, 4] = 255
    assert (Prepare(("median",)).transform(speck) == 100).all() and (Prepare().transform(speck) == speck).all()
    pixels = noise(3)
    both = Prepare(("median", "HE")).transform(pixels)
    assert np.array_equal(both, Prepare(("HE",)).transform(Prepare(("median",)).transform(pixels)))


def test_no_person_stands_on_two_sides_of_a_fold(faces):
    search = grid_search(classic("lbp", "nearest"), {"classify__n_neighbors": [1, 7]}, faces, folds=3)
    _, people = people_or_images(faces)
    for train, left_out in search.cv.split(faces.labels, groups=people):
        assert not set(people[train]) & set(people[left_out])
    assert set(search.best_params_) == {"classify__n_neighbors"} and search.predict(faces.stills()[:3]).shape == (3,)
    with pytest.raises(FeatureError, match="need as many people"):
        grid_search(classic("lbp"), {}, faces.subset([0, 1]), folds=3)


# ---- modules


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("components", [None, 25])
def test_a_module_says_what_its_pipeline_says(features, components, faces):
    pipeline = classic(features, "linear", components, ("median",)).fit(faces.stills()[:200], faces.labels[:200])
    model = as_module(pipeline)
    scores = model(to_float(faces.batch())).detach().numpy()
    assert np.allclose(scores, pipeline.decision_function(faces.stills()), atol=2e-3)
    assert np.array_equal(scores.argmax(1), pipeline.predict(faces.stills()))
    again = create("classic", **{k: v for k, v in model.config.items() if k != "num_classes"})
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(to_float(faces.batch([0]))), model(to_float(faces.batch([0]))))


def test_landmarks_say_what_nystroem_says(faces):
    pipeline = classic("hog", "linear", 30)
    pipeline.steps.insert(4, ("compare", Nystroem(gamma=0.004, n_components=80, random_state=0)))
    model = as_module(pipeline.fit(faces.stills()[:200], faces.labels[:200]))
    scores = model(to_float(faces.batch())).detach().numpy()
    assert np.abs(scores - pipeline.decision_function(faces.stills())).max() < 0.02  # landmarks are kept in 16 bits
    assert count_parameters(model) == 80 * 7 + 7


def test_a_face_that_is_two_landmarks_is_compared_once(faces):
    shown = np.concatenate([faces.stills()[:40], faces.stills()[:40]])  # FER2013 repeats photographs too
    pipeline = classic("hog", "linear", 30)
    pipeline.steps.insert(4, ("compare", Nystroem(gamma=0.004, n_components=80, random_state=0)))
    pipeline.fit(shown, np.concatenate([faces.labels[:40]] * 2))
    exact = pipeline.steps[-1][1].coef_ @ pipeline.steps[4][1].normalization_
    model = as_module(pipeline)
    assert len(model.likeness.landmarks) == 40 and count_parameters(model) == 40 * 7 + 7
    assert model.head.weight.abs().max() < 100 < np.abs(exact).max()  # what nearly cancelled is gone
    scores = model(to_float(faces.batch())).detach().numpy()
    assert np.abs(scores - pipeline.decision_function(faces.stills())).max() < 0.02


def test_parameters_and_what_cannot_become_a_module(faces):
    assert count_parameters(create("classic")) == 900 * 7 + 7
    assert count_parameters(create("classic", features="lbp")) == 360 * 7 + 7
    assert count_parameters(create("classic", features="gabor")) == 576 * 7 + 7
    with pytest.raises(FeatureError, match="landmarks"):
        as_module(classic("lbp", "gaussian", 10).fit(faces.stills()[:60], faces.labels[:60]))
    two = faces.labels < 2
    with pytest.raises(FeatureError, match="three or more classes"):
        as_module(classic("lbp").fit(faces.stills()[two], faces.labels[two]))


def test_a_machine_that_counts_has_no_gradient_and_says_so(faces):
    model, x = create("classic").eval(), to_float(faces.batch([0, 1]))
    for method in ("Saliency", "IntegratedGradients", "DeepLift"):
        with pytest.raises(NotDefined, match="hides parts|not defined"):
            attribute(model, x, method)
    assert attribute(model, x, "Occlusion").abs().sum() > 0
    model.train()(x).sum().backward()  # its own weights can be trained
    assert model.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("features", FEATURES)
def test_evidence_adds_up_to_the_score(features, faces):
    model = as_module(classic(features, "linear", how=("HE",)).fit(faces.stills(), faces.labels))
    some = faces.subset(range(5))
    evidence = cell_evidence(model, some, faces)
    scores = [model(to_float(batch)).detach().numpy() for batch in (some.batch(), faces.batch())]
    assert evidence.shape == (5, 7, 6, 6) and (cell_weights(model, faces) > 0).all()
    assert np.allclose(evidence.sum((2, 3)), scores[0] - scores[1].mean(0), atol=1e-3)


def test_a_cell_weighs_what_its_part_of_the_score_varies():
    rng = np.random.default_rng(0)
    labels = np.arange(140) % 7
    pixels = np.full((140, 1, 48, 48), 90, np.uint8)
    pixels[:, 0, 17:23, 33:39] += (labels * 20)[:, None, None].astype(np.uint8)  # inside cell (2, 4): how bright
    pixels[:, 0, 18:22, 34:38] += rng.integers(0, 9, (140, 4, 4), dtype=np.uint8)
    planted = FaceSet("planted", pixels, labels, FER7)
    weights = cell_weights(as_module(classic("lbp").fit(pixels, labels)), planted)
    assert weights[:, 2, 4].min() > 0 and np.count_nonzero(weights.max(0)) == 1
    weights = cell_weights(as_module(classic("hog").fit(pixels, labels)), planted)
    assert np.unravel_index(weights.mean(0).argmax(), (6, 6)) == (2, 4)


def test_a_number_belongs_to_the_cell_that_changes_it(faces):
    base = faces.stills()[:1]
    for features in (Hog(), Lbp()):
        changed = base.copy()
        changed[0, 0, 27:29, 11:13] = 255 - changed[0, 0, 27:29, 11:13]  # inside cell (3, 1)
        moved = np.abs(features.transform(changed) - features.transform(base))[0]
        assert cells_of(features, 48)[moved.argmax()] in (3 * 6 + 1, 2 * 6 + 1, 4 * 6 + 1, 3 * 6, 3 * 6 + 2)
        assert moved[cells_of(features, 48) == 3 * 6 + 1].sum() > 0 and len(cells_of(features, 48)) == len(moved)
    with pytest.raises(FeatureError, match="only a linear machine"):
        cell_weights(create("classic", components=3, landmarks=4), faces)


def test_glyphs_lie_along_the_edge():
    histograms = np.zeros((1, 1, 2))
    histograms[0, 0, 0] = 3.0  # gradient between 0 and 90 degrees
    ends, strength = glyph_lines(histograms, 8)
    assert strength.tolist() == [1, 0] and np.allclose(ends.mean(1), 4)
    ends, strength = glyph_lines(np.eye(9)[None, :1], 8)
    (x0, y0), (x1, y1) = ends[0]  # gradient at 10 degrees: nearly across the columns, so the edge stands nearly upright
    assert abs(x1 - x0) < abs(y1 - y0) and strength[0] == 1


# ---- records


def test_a_record_can_be_measured_again(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_LAB_STATE_DIR", str(tmp_path / "state"))
    lab = load_settings(dataset="synthetic", budget="smoke")
    kept = record_fer2013("lbp", tmp_path / "lbp", lab, lambda words: None, landmarks=30, components=10)
    model, card = load_model(tmp_path / "lbp")
    assert card["recipe"]["machine"] in card["recipe"]["tried"] and card["test"]["openings"] == 1
    assert card["val_tta"]["war"] == max(card["recipe"]["tried"].values())
    again = evaluate_saved(tmp_path / "lbp", lab)
    assert {side: report.war for side, report in again.items()} == {side: report.war for side, report in kept.items()}
    assert model(torch.zeros(1, *card["input"]["shape"])).shape == (1, 7)
    assert json.loads((tmp_path / "lbp" / "config.json").read_text())["recipe"]["seed"] == 0
    assert not list(tmp_path.rglob("*.pkl"))


@pytest.mark.parametrize("name", [name for name in zoo_names() if name.endswith("-svm-fer2013")])
def test_the_records_are_better_than_the_most_frequent_class(name):
    model, card = load_model(zoo_folder() / name)
    assert card["test"]["war"] > 0.35 and card["test"]["n"] == 3589 and card["test_without_repeats"]["n"] == 3275
    assert count_parameters(model) == 7 * (model.config["landmarks"] + 1)


# ---- identity


def test_hosvd_is_an_orthogonal_change_of_axes_with_an_orthogonal_core():
    tensor = np.random.default_rng(0).normal(size=(4, 3, 2, 30))
    core, bases = hosvd(tensor)
    again = core
    for axis, basis in enumerate(bases):
        assert np.allclose(basis.T @ basis, np.eye(basis.shape[1]))
        again = times(again, basis, axis)
        slices = np.moveaxis(core, axis, 0).reshape(core.shape[axis], -1)
        products = slices @ slices.T
        assert np.allclose(products, np.diag(np.diag(products)), atol=1e-9)  # all-orthogonality
        assert (np.diff(np.diag(products)) <= 1e-9).all()  # and ordered
    assert np.allclose(again, tensor)


def test_planted_identity_is_removed_and_the_expression_stays():
    rng = np.random.default_rng(0)
    person, expression, constant = rng.normal(size=(3, 40)), rng.normal(size=(3, 40)), 5 * rng.normal(size=40)
    make = lambda seed: (constant + (np.random.default_rng(seed).normal(size=(12, 3)) @ person)[:, None, None] * 3  # noqa: E731
                         + expression[None, :, None] * np.array([0.5, 1.0])[None, None, :, None])
    known, new = make(1), make(2)
    without = WithoutIdentity(3).fit(known)
    before = what_is_left(known, new)
    after = what_is_left(without.transform(known), without.transform(new))
    assert before["due to the person"] > 0.8 and after["due to the person"] < 0.02
    assert after["expression, by the nearest mean"] == 1.0 > before["expression, by the nearest mean"]
    with pytest.raises(FeatureError, match="more people"):
        WithoutIdentity(12).fit(known)


def test_posed_people_differ_only_in_what_they_are_asked_to_show():
    faces = posed_people((3, 8), strengths=(0.2, 0.9))
    assert faces.shape == (2, 7, 2, 1, 48, 48)
    assert np.array_equal(faces[:, 6, 0], faces[:, 6, 1])  # neutral has no strength
    change = np.abs(faces[:, 3].astype(int) - faces[:, 6]).mean((2, 3, 4))
    assert (change[:, 1] > change[:, 0]).all()


# ---- trial and time


def test_the_trial_asks_unseen_domains_and_trains_in_the_others(tmp_path):
    assert set(drawn_faces(60, 1).meta["domain"]) == {"A", "B", "C"} and len(drawn_faces(60, 1)) == 60
    plan = rivals_plan("tiny", seeds=2, faces=70, epochs=1, rivals=("small network", "LBP + SVM"), test_faces=20)
    trial = RivalsTrial(plan, load_settings(budget="smoke", device="cpu"))
    assert set(trial.tests["unseen domain"].meta["domain"]) == {"D"}
    record = run_trial(plan, trial, tmp_path, progress=False)
    assert record.correct("LBP + SVM", "low intensity").shape == (2, 20) and plan.matters == MATTERS


@pytest.mark.parametrize("plan", [plan for plan in RECORDS if plan.name in record_names()], ids=lambda plan: plan.name)
def test_the_record_is_of_the_plan_here(plan):
    assert load_record(plan.name).plan.fingerprint == plan.fingerprint


def test_latency_counts_time():
    taken = latency(lambda pixels: time.sleep(0.001 * len(pixels)), noise(4), 3)
    assert 1 <= taken["ms for one face"] < 40 and taken["faces a second"] < 1000
