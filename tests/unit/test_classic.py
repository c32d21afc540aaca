"""HOG of many faces at once equals scikit-image's, one by one; the support vector machines on it are what they say."""

import numpy as np
import pytest
from skimage.feature import hog
from sklearn.base import clone
from sklearn.svm import SVC

from fer_lab.papers.classic import FeatureError, Hog, gradient_table, hog_linear_svm, hog_rbf_svm
from fer_lab.synthetic import synthetic_faces


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
