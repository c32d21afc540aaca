"""`make bench`: the engine beside the bare loop and beside what public repositories do, as ratios of processor time.

Each ratio is the median of alternating rounds, in one thread: a busy machine slows both sides alike.
"""

import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from fer_lab.augment import Augment, augment, draw_numbers, to_float
from fer_lab.faceset import FER7, FaceSet
from fer_lab.models import create
from fer_lab.settings import choose_layout, cpu_bf16_units, load_settings
from fer_lab.splits import Split
from fer_lab.trainer import Recipe, Trainer

CHANGES = Augment(flip=0.5, rotate=10, translate=0.06, scale=0.1, light=0.2, erase=0.25)
ROUNDS, BATCH = 3, 64


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cost(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def times(slow, fast, rounds=ROUNDS) -> float:
    "How many times cheaper `fast` is than `slow`, both doing the same amount of work."
    slow(), fast()
    return statistics.median(cost(slow) / cost(fast) for _ in range(rounds))


def told(benchmark, work, **ratios):
    benchmark.pedantic(work, rounds=1)
    benchmark.extra_info |= {name: round(ratio, 3) for name, ratio in ratios.items()}
    print("\n" + "; ".join(f"{name.replace('_', ' ')}: {ratio:.2f}" for name, ratio in ratios.items()))


def noise(n, size, channels=1):
    "Faces enough for a clock: what is in them does not matter."
    frames = np.random.default_rng(0).integers(0, 256, (n, channels, size, size), dtype=np.uint8)
    return FaceSet("noise", frames, np.arange(n) % 7, FER7)


def split(faces, val=7):
    n = len(faces)
    return Split(faces, "by hand", range(n - 2 * val), range(n - 2 * val, n - val), range(n - val, n))


class Clock:
    "Measures the steps of an epoch after the first, without what comes before and after them."

    def __init__(self):
        self.marks = []

    def on_batch_end(self, trainer):
        self.marks.append(time.process_time())


def bare(model, optimizer, schedule, faces, steps, precision, layout):
    "forward; loss; backward; step, with the same augmentation, precision and layout. Seconds after the first step."
    generator, marks = torch.Generator().manual_seed(0), []
    for index in torch.randperm(len(faces), generator=generator)[: steps * BATCH].split(BATCH):
        x = to_float(faces.batch(index.numpy()))
        y = torch.from_numpy(faces.labels[index.numpy()])
        x = augment(x, CHANGES, draw_numbers(len(x), generator)).contiguous(memory_format=layout)
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
            loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        marks.append(time.process_time())
    return marks[-1] - marks[0]


@pytest.mark.parametrize("name, size, steps", [("stn", 48, 25), ("compact", 96, 5)], ids=["stn-48", "compact-96"])
def test_the_trainer_is_nearly_as_fast_as_a_bare_loop(benchmark, tmp_path, name, size, steps):
    settings = load_settings(device="cpu")
    faces = split(noise(BATCH * steps + 14, size))
    options = {"size": size} if name == "compact" else {}
    recipe = Recipe(epochs=1, batch=BATCH, augment=CHANGES)
    ratios = []
    for i in range(ROUNDS):
        clock = Clock()
        trainer = Trainer(create(name, num_classes=7, **options), recipe, tmp_path / str(i), [clock], settings, False)
        trainer.fit(faces)
        model = create(name, num_classes=7, **options).train().to(memory_format=trainer.layout)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps + 1)
        loop = bare(model, optimizer, schedule, faces.train, steps, trainer.precision, trainer.layout)
        ratios.append(loop / (clock.marks[-1] - clock.marks[0]))
    told(benchmark, lambda: None, trainer_over_bare_loop=statistics.median(ratios))
    assert statistics.median(ratios) >= 0.95


class Files(Dataset):
    "The way of public repositories: an image file a sample, opened, changed and normalised one by one."

    def __init__(self, folder, labels, change):
        self.paths, self.labels, self.change = sorted(folder.glob("*.png")), labels, change

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.change(Image.open(self.paths[i])), self.labels[i]


BILINEAR = v2.InterpolationMode.BILINEAR
SAMPLEWISE = [v2.RandomHorizontalFlip(0.5), v2.RandomAffine(10, (0.06, 0.06), (0.9, 1.1), interpolation=BILINEAR),
              v2.ColorJitter(0.2, 0.2)]  # fmt: skip
AS_TENSOR = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, faces = tmp_path_factory.mktemp("files"), noise(320, 48)
    for i, frame in enumerate(faces.frames):
        Image.fromarray(frame[0]).save(folder / f"{i:04}.png")
    return folder, faces


def ours(faces, step=lambda x, y: None):
    generator = torch.Generator().manual_seed(0)
    for index in torch.randperm(len(faces), generator=generator).split(BATCH):
        x = augment(to_float(faces.batch(index.numpy())), CHANGES, draw_numbers(len(index), generator))
        step(x, torch.from_numpy(faces.labels[index.numpy()]))


def theirs(folder, faces, step=lambda x, y: None):
    change = v2.Compose([*SAMPLEWISE, *AS_TENSOR, v2.RandomErasing(0.25, (0.01, 0.09))])
    for x, y in DataLoader(Files(folder, faces.labels, change), BATCH, shuffle=True, num_workers=0):
        step(x, y)


def test_feeding_is_many_times_cheaper_than_an_image_file_a_sample(benchmark, files):
    ratio = times(lambda: theirs(*files), lambda: ours(files[1]))
    told(benchmark, lambda: ours(files[1]), feeding=ratio)
    assert ratio >= 8


def test_the_whole_step_is_cheaper_than_the_public_way_in_fp32(benchmark, files):
    def step_of(precision, layout):
        model = create("stn", num_classes=7).train().to(memory_format=layout)
        optimizer = torch.optim.AdamW(model.parameters())

        def step(x, y):
            with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
                loss = F.cross_entropy(model(x.contiguous(memory_format=layout)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step

    native = bool(cpu_bf16_units())
    fast = step_of("bf16" if native else "fp32", choose_layout(torch.device("cpu")).value)
    slow = step_of("fp32", torch.contiguous_format)
    ratio = times(lambda: theirs(*files, slow), lambda: ours(files[1], fast), 3)
    told(benchmark, lambda: None, whole_step=ratio, bf16_units=native)
    assert ratio >= (2.5 if native else 1.0)


def test_augmentation_of_a_batch_is_many_times_cheaper_than_of_each_sample(benchmark):
    x, generator = to_float(noise(256, 48).batch()), torch.Generator().manual_seed(0)
    change = v2.Compose([*SAMPLEWISE, v2.RandomErasing(0.25, (0.01, 0.09))])
    bright = x.add(1).div(2)

    def at_once():
        return augment(x, CHANGES, draw_numbers(len(x), generator))

    def one_by_one():
        return torch.stack([change(face) for face in bright])

    # Several batches each: a single one would measure how memory is had after the other way has given it back.
    ratio = times(lambda: [one_by_one() for _ in range(8)], lambda: [at_once() for _ in range(8)])
    told(benchmark, at_once, augmentation=ratio)
    assert ratio >= 10


MEMORY = """
import sys, numpy as np, torch
from pathlib import Path
from fer_lab.faceset import FER7, FaceSet
from fer_lab.models import create
from fer_lab.settings import load_settings
from fer_lab.splits import Split
from fer_lab.trainer import Recipe, Trainer
n, size = map(int, sys.argv[1:3])
frames = np.memmap(sys.argv[3] + "/frames", np.uint8, "r", shape=(n, 1, size, size))
faces = FaceSet("large", frames, np.arange(n) % 7, FER7)
sides = range(n - 600), range(n - 600, n - 300), range(n - 300, n)
split = Split(faces, "by hand", *sides, {"identical image": "all are black"})
class Peak:
    kilobytes = 0
    def on_batch_end(self, trainer):
        now = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("RssAnon"))
        self.kilobytes = max(self.kilobytes, int(now))
    on_epoch_end = on_batch_end  # after validation
peak, few = Peak(), n < 100_000
model = create("plain", num_classes=7) if few else torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size**2, 7))
Trainer(model, Recipe(epochs=1, batch=128), Path(sys.argv[3]) / "run", [peak], load_settings(device="cpu"),
        progress=False).fit(split)
print(peak.kilobytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
@pytest.mark.parametrize("n, size", [(35_887, 48), (600_000, 48)], ids=["as-fer2013", "mapped-1.4-GB"])
def test_memory_stays_small_however_many_faces(benchmark, tmp_path, n, size):
    with (tmp_path / "frames").open("wb") as file:
        file.truncate(n * size * size)
    words = [sys.executable, "-c", MEMORY, str(n), str(size), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    gigabytes = int(done.stdout) / 1e6
    told(benchmark, lambda: None, anonymous_GB=gigabytes)
    assert gigabytes < 1.2
