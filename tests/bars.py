"A set that is learnt in seconds, its split and a network for it: what the tests of training train."

import numpy as np
import torch

from fer_lab.faceset import FER7, FaceSet
from fer_lab.splits import Split


def bars(n=190, seed=0):
    "Seven classes that differ in the position of a bright bar: easy to learn."
    rng = np.random.default_rng(seed)
    labels, frames = np.arange(n) % 7, rng.integers(0, 60, (n, 1, 14, 14), dtype=np.uint8)
    for i, label in enumerate(labels):
        frames[i, 0, 2 * label : 2 * label + 2] += 180
    return FaceSet("bars", frames, labels, FER7)


def split(faces=None):
    "The last thirty test, the thirty before them validate, the others train."
    faces = faces or bars()
    n = len(faces)
    return Split(faces, "by hand", range(n - 60), range(n - 60, n - 30), range(n - 30, n), {"identical image": "no"})


def network(seed=0):
    "One convolution, with what an exact resume must not forget: batch statistics and dropout."
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Flatten(),
        torch.nn.Linear(4 * 144, 7))  # fmt: skip
