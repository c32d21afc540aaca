"""`make bench`: how many faces are drawn a second on two cores, causes, labels and landmarks included."""

import os
from itertools import count

import pytest
import torch

from fer_lab.au_mixer import AUMixer, presets
from fer_lab.synthetic import synthetic_faces

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


@pytest.mark.parametrize("dragged, within", [("unit", 0.05), ("pose", 0.1), ("light", 0.1)])
def test_a_face_follows_a_dragged_slider(benchmark, dragged, within):
    "A dragged unit draws one face; a dragged pose or light draws the calm face, too, in the same batch."
    mixer, places = AUMixer(people=(40,), size=128), count(1)
    mixer.newest.wait(60)
    wish = {"asked": 1, "face": 0, "aus": presets()["fear"], "intensity": 1.0, "pose": [0.0] * 3,
            "light": [0.3, -0.5, 0.5]}
    mixer._answer(wish, None)

    def drag():
        step = next(places) / 1000
        moved = {"unit": {"intensity": 1 - step}, "pose": {"pose": [step, 0.0, 0.0]},
                 "light": {"light": [step, -0.5, 0.5]}}
        mixer._answer(wish | moved[dragged], None)
        assert "error" not in mixer.answer

    benchmark.pedantic(drag, rounds=20, warmup_rounds=3)
    taken = benchmark.stats.stats.median
    benchmark.extra_info |= {"ms_a_face": round(1000 * taken, 1)}
    print(f"\na dragged {dragged}, 128 x 128: {1000 * taken:.0f} ms")
    assert taken < within
