"""`make bench`: how fast all of FER2013 is read, beside torchvision on the same file, and in how much memory."""

import gzip
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fer_lab.fer2013 import read_fer2013

AT_LEAST_FASTER, AT_MOST_MB, AT_MOST_CACHED = 5, 300, 0.2  # times, megabytes above the imports, seconds


@pytest.fixture(scope="module")
def plain_csv(fer2013_folder, tmp_path_factory):
    """The uncompressed 301 MB table, where torchvision looks for it."""
    target = tmp_path_factory.mktemp("plain") / "fer2013" / "fer2013.csv"
    target.parent.mkdir()
    if (fer2013_folder / "fer2013.csv").exists():
        target.symlink_to(fer2013_folder / "fer2013.csv")
    elif (fer2013_folder / "fer2013.csv.gz").exists():
        with gzip.open(fer2013_folder / "fer2013.csv.gz") as packed, open(target, "wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    else:
        pytest.skip(f"neither fer2013.csv nor fer2013.csv.gz is in {fer2013_folder}")
    yield target
    shutil.rmtree(target.parent)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FER_LAB_CACHE_DIR", str(tmp_path))
    yield tmp_path
    shutil.rmtree(tmp_path)


def timed(function):
    start = time.perf_counter()
    return function(), time.perf_counter() - start


def test_first_read_of_all_rows(benchmark, plain_csv, own_cache):
    from torchvision.datasets import FER2013

    def without_a_cache():
        shutil.rmtree(own_cache)

    faces = benchmark.pedantic(lambda: read_fer2013(plain_csv), setup=without_a_cache, rounds=3)
    split, theirs = timed(lambda: FER2013(plain_csv.parent.parent, split="train"))
    ours = benchmark.stats.stats.median
    benchmark.extra_info |= {"torchvision_seconds": round(theirs, 2), "times_faster": round(theirs / ours, 1)}
    print(f"\nfer_lab, {len(faces):,} rows, checked and cached: {ours:.2f} s; "
          f"torchvision, {len(split):,} rows: {theirs:.2f} s; {theirs / ours:.1f} times faster")
    assert len(faces) == 35887 and split[7][0].tobytes() == faces.frames[7].tobytes()
    assert theirs / ours >= AT_LEAST_FASTER


def test_cached_read(benchmark, plain_csv, own_cache):
    read_fer2013(plain_csv)
    faces = benchmark.pedantic(lambda: read_fer2013(plain_csv), rounds=10)
    print(f"\ncached: {benchmark.stats.stats.median:.3f} s")
    assert len(faces) == 35887 and benchmark.stats.stats.median < AT_MOST_CACHED


MEMORY = """
import json, sys
import torch, torchvision, pandas
from fer_lab.fer2013 import read_fer2013

def megabytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name + ":")) / 1024

before = megabytes("VmRSS")
read_fer2013(sys.argv[1])
print(json.dumps({"imports": before, "above": megabytes("VmHWM") - before}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_of_the_first_read(benchmark, plain_csv, own_cache):
    command = [sys.executable, "-c", MEMORY, str(plain_csv)]
    done = benchmark.pedantic(lambda: subprocess.run(command, capture_output=True, text=True, check=True), rounds=1)
    memory = json.loads(done.stdout)
    benchmark.extra_info |= memory
    print(f"\npeak memory of the first read: {memory['above']:.0f} MB above {memory['imports']:.0f} MB of imports")
    assert memory["above"] < AT_MOST_MB
