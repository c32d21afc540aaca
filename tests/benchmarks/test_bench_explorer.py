"""`make bench`: how long a click in the explorer waits for its heat map on two cores, the message included."""

import json
import os
import statistics
import time

import pytest
import torch

from fer_lab.explorer import ONE_PASS, Explorer
from fer_lab.models import create, load_zoo

AT_MOST = {48: 0.100, 96: 0.250}  # seconds, the median of the clicks
FIRST_PROGRESS = 0.250  # seconds
CLICKED = [method for method in ONE_PASS if method not in ("Deconvolution", "DeepLift")]


@pytest.fixture(autouse=True)
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["stn 48", "plain 48", "plain 96"])
def clicked(request):
    name, size = request.param.split()
    model = load_zoo("stn-fer2013")[0] if name == "stn" else create(name).eval()
    faces = torch.randint(0, 256, (2, 1, int(size), int(size)), dtype=torch.uint8)
    explorer = Explorer(model, faces, [f"class {k}" for k in range(7)])
    explorer.heating.wait()
    return request.param, int(size), explorer


def messages(explorer, *names):
    """What the explorer sends from now on: (name, its value, when it was ready to leave)."""
    sent = []

    def send_state(key=None):
        if key in names:
            value = getattr(explorer, key)
            json.dumps(value)
            sent.append((key, value, time.perf_counter()))

    explorer.send_state = send_state
    return sent


def told(benchmark, what, times):
    """Writes the figures down and returns the median in seconds."""
    median = statistics.median(times)
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.extra_info |= {"median_ms": round(1000 * median, 1)}
    print(f"\n{what}: median {1000 * median:.0f} ms, {1000 * min(times):.0f} to {1000 * max(times):.0f}")
    return median


@pytest.mark.parametrize("method", CLICKED)
def test_a_click_is_answered(benchmark, clicked, method):
    name, size, explorer = clicked
    explorer.method = method
    explorer.heating.wait()
    sent = messages(explorer, "heat")

    def click(target):
        sent.clear()
        started = time.perf_counter()
        explorer.set_state({"target": target})
        while not sent:
            time.sleep(0.0005)
        while explorer.heating.thread and not explorer.quality.get("target") == target:
            time.sleep(0.001)  # the next click does not have to interrupt anything
        return sent[0][2] - started

    times = [click(round_ % 7) for round_ in range(12)]
    assert told(benchmark, f"{name}, {method}", times) <= AT_MOST[size]


@pytest.mark.parametrize("method", ["KernelShap", "IntegratedGradients", "Occlusion"])
def test_a_slow_method_shows_progress(benchmark, clicked, method):
    name, _, explorer = clicked
    sent, starts, moves = messages(explorer, "progress", "heat"), [], []
    for target in range(7):
        explorer.set_state({"method": "Saliency", "target": target})
        while explorer.heat.get("method") != "Saliency" or explorer.heat["target"] != target:
            time.sleep(0.0005)
        sent.clear()  # Saliency's map is there, its figures are still being computed
        started = time.perf_counter()
        explorer.set_state({"method": method})
        while not any(kind == "heat" or value > 0 for kind, value, _ in list(sent)):
            time.sleep(0.0005)
        starts.append(sent[0][2] - started)
        moves.append(next(when for kind, value, when in sent if kind == "heat" or value > 0) - started)
    assert sent[0][1] == 0
    print(f"\n{name}, {method}: more than 0 % after {1000 * statistics.median(moves):.0f} ms (median)")
    assert told(benchmark, f"{name}, {method}, first progress", starts) <= FIRST_PROGRESS
