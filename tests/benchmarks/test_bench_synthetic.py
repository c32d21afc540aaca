"""`make bench`: how many faces are drawn a second on two cores, causes, labels and landmarks included."""

import os

import pytest
import torch

from fer_lab.au_mixer import mixture, presets
from fer_lab.synthetic import render, synthetic_faces

AT_LEAST = {48: 1000, 96: 250}  # faces a second without the region mask; with it the time may double


@pytest.fixture(autouse=True)
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("mask", [False, True], ids=["faces", "faces and regions"])
@pytest.mark.parametrize("size", AT_LEAST)
def test_faces_a_second(benchmark, size, mask):
    n = 960 * 48 * 48 // size**2
    faces = benchmark.pedantic(lambda: synthetic_faces(n, size, mask=mask), rounds=5, warmup_rounds=1)
    rate = n / benchmark.stats.stats.median
    benchmark.extra_info |= {"faces_a_second": round(rate), "threads": torch.get_num_threads()}
    print(f"\n{size} x {size}{' with region masks' if mask else ''}: {rate:,.0f} faces a second")
    assert len(faces) == n and rate >= AT_LEAST[size] / (2 if mask else 1)


def test_a_face_follows_a_dragged_slider(benchmark):
    p = mixture(presets()["fear"], 40)
    benchmark.pedantic(lambda: render(p, 128), rounds=10, warmup_rounds=2)
    taken = benchmark.stats.stats.median
    benchmark.extra_info |= {"ms_a_face": round(1000 * taken, 1)}
    print(f"\none face of 128 x 128: {1000 * taken:.0f} ms")
    assert taken < 0.1  # ten pictures a second look like a movement
