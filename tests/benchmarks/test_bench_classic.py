"""`make bench`: HOG of many faces, beside a loop over scikit-image's hog."""

import time

import numpy as np
from skimage.feature import hog

from fer_lab.papers.classic import Hog
from fer_lab.synthetic import synthetic_faces

AT_LEAST_FASTER = 3  # times


def test_hog_of_many_faces(benchmark):
    faces = synthetic_faces(2000, mask=False)
    ours = benchmark.pedantic(lambda: Hog().transform(faces), rounds=5, warmup_rounds=1)
    start = time.perf_counter()
    theirs = np.stack([hog(face[0], 9, (8, 8), (2, 2)) for face in faces.stills()])
    seconds = time.perf_counter() - start
    mine = benchmark.stats.stats.median
    benchmark.extra_info |= {"scikit_image_seconds": round(seconds, 2), "times_faster": round(seconds / mine, 1)}
    print(f"\nfer_lab: {len(faces) / mine:,.0f} faces/s; scikit-image in a loop: {len(faces) / seconds:,.0f} faces/s; "
          f"{seconds / mine:.1f} times faster")
    assert np.abs(ours - theirs).max() < 1e-6 and seconds / mine >= AT_LEAST_FASTER
