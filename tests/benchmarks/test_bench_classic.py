"""`make bench`: the features of many faces, beside loops over scikit-image."""

import time

import numpy as np
import pytest
from skimage.feature import hog, local_binary_pattern
from skimage.filters import gabor

from fer_lab.papers.classic import Gabor, Hog, Lbp
from fer_lab.synthetic import synthetic_faces

AT_LEAST_FASTER = 3  # times
WAVES = [(1 / length, turn * np.pi / 4) for length in (3, 5, 7, 9) for turn in range(4)]


def one_lbp(face: np.ndarray) -> np.ndarray:
    labels = local_binary_pattern(face[0], 8, 1, "uniform").astype(np.int64)
    cells = labels.reshape(6, 8, 6, 8).transpose(0, 2, 1, 3).reshape(36, 64)
    return np.concatenate([np.bincount(cell, minlength=10) for cell in cells]) / 64


def one_gabor(face: np.ndarray) -> np.ndarray:
    answers = [np.hypot(*gabor(face[0] / 255, frequency, theta)) for frequency, theta in WAVES]
    return np.stack(answers).reshape(16, 6, 8, 6, 8).mean((2, 4)).ravel()


@pytest.mark.parametrize("features, one, alone, tolerance", [
    (Hog(), lambda face: hog(face[0], 9, (8, 8), (2, 2)), 2000, 1e-6), (Lbp(), one_lbp, 2000, 1e-7),
    (Gabor(), one_gabor, 20, 1e-5)], ids=["hog", "lbp", "gabor"])
def test_features_of_many_faces(benchmark, features, one, alone, tolerance):
    faces = synthetic_faces(2000, mask=False)
    ours = benchmark.pedantic(lambda: features.transform(faces), rounds=3, warmup_rounds=1)
    start = time.perf_counter()
    theirs = np.stack([one(face) for face in faces.stills()[:alone]])
    slow, mine = (time.perf_counter() - start) / alone, benchmark.stats.stats.median / len(faces)
    benchmark.extra_info |= {"scikit_image_ms_a_face": round(1000 * slow, 2), "times_faster": round(slow / mine, 1)}
    print(f"\n{type(features).__name__}: {1 / mine:,.0f} faces/s, 35,887 images in {35_887 * mine:.0f} s; "
          f"scikit-image in a loop: {1 / slow:,.0f} faces/s; {slow / mine:.1f} times faster")
    assert np.abs(ours[:alone] - theirs).max() < tolerance and slow / mine >= AT_LEAST_FASTER
