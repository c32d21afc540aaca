"""What the processes of these tests do. A server imports this once and forks them, so that a kill costs no import."""

import os
import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bars import network, split

from fer_lab.augment import Augment
from fer_lab.settings import LabError, load_settings
from fer_lab.trainer import Recipe, Stopped, Trainer

SETTINGS = load_settings(device="cpu", precision="fp32")
RECIPE = Recipe(epochs=4, batch=8, lr=0.01, ema=0.9, mixup=0.4, label_smoothing=0.1, augment=Augment(erase=0.3), seed=3)


class Chancy:
    "A callback that leans on every kind of chance, on its own memory, and exchanges the pool as a curriculum does."

    def __init__(self, tell=lambda: None):
        self.tell, self.seen = tell, 0

    def on_epoch_start(self, trainer):
        self.seen += 1
        trainer.pool = torch.randint(len(trainer.train), (len(trainer.train),), generator=trainer.generator)
        trainer.optimizer.param_groups[0]["weight_decay"] = 0.01 * random.random()

    def on_batch_end(self, trainer):
        with torch.no_grad():
            trainer.model[5].bias += 1e-3 * (np.random.rand() + random.random() + self.seen)
        self.tell()

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def train(folder, pipe=None, save_every=0.0, largest_file=None, **recipe):
    "A training, in a process of its own; tells every step, and what was said if it ended before its time."
    if largest_file:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    tell = (lambda: pipe.send("step")) if pipe else (lambda: None)
    try:
        trainer = Trainer(network(), replace(RECIPE, **recipe), folder, [Chancy(tell)], settings=SETTINGS,
                          progress=False, save_every=save_every)  # fmt: skip
        trainer.fit(split())
    except (LabError, Stopped) as error:
        pipe.send(str(error))
        sys.exit(1)


def command(folder, *words):
    "`fer-lab` in a process of its own, standing in `folder`; what it says goes to files there."
    from fer_lab.cli import app

    os.chdir(folder)
    sys.stdout, sys.stderr = open("out", "w", 1), open("err", "w", 1)
    app(list(words))


def states(folder):
    return list(Path(folder).glob("runs/*/state.pt"))
