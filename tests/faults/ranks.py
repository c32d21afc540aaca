"""What every process of a distributed test does: `torchrun … ranks.py OUT`, or `all_of(OUT)` in one process."""

import json
import os
import signal
import sys
import warnings
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
import training
from bars import bars, network, split

from fer_lab.augment import Augment
from fer_lab.distributed import gather, processes, rank, together
from fer_lab.report import Report, predict
from fer_lab.run import Run
from fer_lab.settings import LabError
from fer_lab.trainer import Recipe, Trainer

RECIPE = Recipe(epochs=4, batch=31, lr=0.01, augment=Augment(erase=0.3), ema=0.9, clip=1.0, seed=1)


class Exact(torch.nn.Module):
    "Float64, no dropout; batch norm if asked for."

    def __init__(self, norm=False):
        super().__init__()
        torch.manual_seed(rank())  # every process begins with other weights: the first one's must win
        norm = [torch.nn.BatchNorm2d(4)] if norm else []
        layers = [torch.nn.Conv2d(1, 4, 3), *norm, torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(576, 7)]
        self.layers = torch.nn.Sequential(*layers).double()

    def forward(self, x):
        return self.layers(x.double())


def trained(folder, norm, callbacks=(), **recipe):
    "Weights and curves after 20 steps on 130 faces, the last of each epoch on 6."
    model = Exact(norm)
    how = {"save_every": 0.0, "progress": False, "settings": training.SETTINGS}
    trainer = Trainer(model, replace(RECIPE, **recipe), folder, callbacks, **how)
    history = trainer.fit(split()).history
    weights = torch.cat([value.flatten().double() for value in trainer.evaluated.state_dict().values()])
    alike = all(torch.equal(weights, other) for other in gather(weights))
    return weights.tolist(), alike, history.loss.tolist(), history.val_war.tolist()


def counted():
    "Confusion counts of one checkpoint on 101 faces, and on 2."
    torch.manual_seed(7)
    model, faces = network(7), bars(101, seed=9)
    few = faces.subset([3, 4])
    return [Report("", part.labels, predict(model, part), part.classes).confusion.tolist() for part in (faces, few)]


class Idle(Exact):
    "A layer that no loss asks, weights that a decay would move, and a mask of minus infinities."

    def __init__(self):
        super().__init__()
        self.spare = torch.nn.Linear(3, 3).double()
        self.register_buffer("mask", torch.full((2,), -torch.inf))


class Full:
    "The second process has no room for its share of a batch once."

    def on_fit_start(self, trainer):
        loss, self.full = trainer.loss, rank() == 1

        def narrow(x, y):
            if self.full:
                self.full = False
                raise torch.OutOfMemoryError("CUDA out of memory")
            return loss(x, y)

        trainer.loss = narrow


def idle(out):
    "Whether the layer that nobody asks stayed as it was, and what became of the mask."
    model = Idle()
    recipe = replace(RECIPE, epochs=1, weight_decay=0.5, ema=0.0, batch=32)  # the last 2 are for one process
    trainer = Trainer(model, recipe, out, [Full()], progress=False, settings=training.SETTINGS)
    with warnings.catch_warnings(record=True):
        trainer.fit(split())
    torch.manual_seed(0)
    same = torch.equal(model.spare.weight, Idle().spare.weight) if rank() == 0 else None
    return same, bool((model.mask == -torch.inf).all()), Run(out).config["parts"]


class Die:
    def on_batch_end(self, trainer):
        if rank() == 1 and trainer.step == 3:
            os.kill(os.getpid(), signal.SIGKILL)


class PowerCut(Exception):
    "As a callback: all processes stop in the middle of the third epoch."

    def on_batch_end(self, trainer):
        if (trainer.epoch, trainer.step) == (2, 2):
            raise self


def resumed(out):
    "The same training as `mixup`, stopped between two steps and gone on with."
    how = {"norm": True, "mixup": 0.2, "batch": 32}
    with suppress(PowerCut):
        trained(out, callbacks=[PowerCut()], **how)
    return trained(out, **how)


def all_of(out):
    found = {"processes": processes(), "counted": counted()}
    found["exact"] = trained(out / "exact", norm=False)
    found["norm"] = trained(out / "norm", norm=True)
    found["mixup"] = trained(out / "mixup", norm=True, mixup=0.2, batch=32)  # the last 2 are for one process
    found["resumed"] = resumed(out / "resumed")
    found["idle"] = idle(out / "idle")
    if rank() == 0:
        (out / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with together(torch.device("cpu")):
        all_of(out)
        try:
            trained(out / "dies", norm=False, callbacks=[Die()], epochs=50)
        except LabError as error:
            print(error, file=sys.stderr, flush=True)
            sys.exit(1)
