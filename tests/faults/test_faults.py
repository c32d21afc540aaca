"What goes wrong inside a training: a sentence says where, and what was good stays."

import json
import os
import signal
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
import training
from bars import bars, network, split
from safetensors.torch import load_file

from fer_lab.checkpoint import load_state
from fer_lab.report import predict
from fer_lab.run import Run, TrainingError, owner
from fer_lab.settings import LabError
from fer_lab.splits import Split
from fer_lab.trainer import Trainer


def trainer(folder, model=None, callbacks=(), **recipe):
    recipe = replace(training.RECIPE, **{"epochs": 2, **recipe})
    return Trainer(model or network(), recipe, folder, callbacks, settings=training.SETTINGS, progress=False)


class From:
    "Calls `spoil(trainer)` before a step of an epoch."

    def __init__(self, epoch, step, spoil):
        self.at, self.spoil = (epoch - 1, step - 1), spoil

    def on_batch_end(self, trainer):
        if (trainer.epoch, trainer.step + 1) == self.at:
            self.spoil(trainer)


def poison(layer):
    return lambda trainer: trainer.model[layer].weight.data[0].fill_(float("nan"))


@pytest.mark.parametrize("layer, name", [(0, r"layer 0 \(Conv2d\)"), (5, r"layer 5 \(Linear\)")])
def test_a_loss_that_is_no_number_names_step_and_layer_and_spoils_nothing(tmp_path, layer, name):
    with pytest.raises(TrainingError, match=rf"nan in epoch 2, step 4; no number first: {name}. The last good"):
        trainer(tmp_path, callbacks=[From(2, 4, poison(layer))]).fit(split())
    assert Run(tmp_path).card["epoch"] == 1 and len(Run(tmp_path).history) == 1
    assert all(weights.isfinite().all() for weights in load_file(tmp_path / "model.safetensors").values())


def test_a_gradient_that_is_no_number_is_found_before_the_step(tmp_path):
    class Root(torch.nn.Module):
        def forward(self, x):
            return (x * 0).sqrt() + x  # its value is fine, its slope at 0 is infinite times 0

    model = torch.nn.Sequential(*network(), Root())
    before = model[5].weight.detach().clone()
    with pytest.raises(TrainingError, match="step 1; no number first: the gradient of 5.bias. No epoch was"):
        trainer(tmp_path, model).fit(split())
    assert torch.equal(model[5].weight, before)


@pytest.mark.parametrize("what", ["5.weight", "1.running_var"])
@pytest.mark.parametrize("step", [4, 13])  # the saved one after step 4, and the last of the epoch
def test_weights_that_are_no_number_after_a_step_go_into_no_file(tmp_path, what, step):
    class After:
        def on_batch_end(self, trainer):
            if (trainer.epoch, trainer.step + 1) == (1, step):
                trainer.model.state_dict()[what].fill_(float("nan"))
                trainer.save = True

    at = step if step == 4 else len(split().train) // 10
    run = trainer(tmp_path, callbacks=[After()], batch=10)
    run.save_every = 1000.0
    with pytest.raises(TrainingError, match=rf"{what} is no number after step {at} of epoch 2. The last good weights"):
        run.fit(split())
    kept = load_state(tmp_path / "state.pt", owner(Run(tmp_path).config))
    assert all(value.isfinite().all() for value in kept["model"].values())
    assert Run(tmp_path).card["epoch"] == 1 and len(Run(tmp_path).history) == 1


class Narrow(torch.nn.Module):
    "A network on a device with room for so many faces at once."

    def __init__(self, room):
        super().__init__()
        self.net, self.room = network()[3:], room  # no batch norm: parts then give the same step
        self.net[2] = torch.nn.Linear(196, 7)
        self.net[0].p = 0.0

    def forward(self, x):
        if self.training and len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.net(x)


def test_out_of_memory_halves_the_batch_and_gives_the_same_training(tmp_path):
    runs = {}
    for room in (8, 3):
        torch.manual_seed(0)
        model = Narrow(room)
        if room < 8:
            with pytest.warns(UserWarning, match="computed in 4 parts"):
                runs[room] = trainer(tmp_path / "3", model, ema=0.0, mixup=0.0).fit(split())
        else:
            runs[room] = trainer(tmp_path / "8", model, ema=0.0, mixup=0.0).fit(split())
    assert runs[3].config["parts"] == 4 and runs[8].config["parts"] == 1
    whole, parts = (load_file(runs[room].folder / "model.safetensors") for room in (8, 3))
    assert all(torch.allclose(whole[key], parts[key], atol=1e-4) for key in whole)


class Tight(torch.autograd.Function):
    "The same numbers; going back there is room for so many faces only. The graphs that failed can be counted."

    @staticmethod
    def forward(ctx, x, room, graphs):
        ctx.room, ctx.mark, ctx.graphs = room, Mark(), graphs
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        if len(gradient) > ctx.room:
            ctx.graphs.append(weakref.ref(ctx.mark))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradient, None, None


class Mark:
    "Lives as long as the graph that holds it."


class Crowded(Narrow):
    def forward(self, x):
        if self.training:
            self.alive.append(sum(graph() is not None for graph in self.graphs))
        return self.net(Tight.apply(x.requires_grad_(), self.room, self.graphs))


def test_what_failed_for_lack_of_memory_is_gone_before_the_next_try(tmp_path):
    model = Crowded(3)
    model.alive, model.graphs = [], []
    with pytest.warns(UserWarning, match="computed in 4 parts"):
        trainer(tmp_path, model, ema=0.0, mixup=0.0).fit(split())
    assert len(model.graphs) == 2 and not any(model.alive)


@pytest.mark.parametrize("tta", [None, "flip"])
def test_out_of_memory_in_validation_takes_fewer_faces_at_once(tta):
    class Small(torch.nn.Module):
        def __init__(self, room):
            super().__init__()
            self.net, self.room = network().eval(), room

        def forward(self, x):
            if len(x) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.net(x)

    whole, parts = (predict(Small(room), bars(50), tta) for room in (512, 7))
    assert np.allclose(whole, parts, atol=1e-6)
    with pytest.raises(torch.OutOfMemoryError):
        predict(Small(0), bars(3))


def test_when_nothing_fits_it_says_so(tmp_path):
    with pytest.raises(TrainingError, match="Not even 2 faces fit into memory"):
        trainer(tmp_path, Narrow(0)).fit(split())


def test_labels_that_the_model_cannot_give_are_refused_before_the_first_step(tmp_path):
    model = torch.nn.Sequential(*network()[:5], torch.nn.Linear(576, 5))
    with pytest.raises(TrainingError, match="gives 5 numbers a face, the faces have 7 classes"):
        trainer(tmp_path, model).fit(split())


def sides(faces, train, val):
    return Split(faces, "by hand", train, val, [], {"identical image": "not the question here"})


@pytest.mark.parametrize("spoil, message", [
    (lambda f: sides(f, [], range(9)), "train side of the split is empty"),
    (lambda f: sides(f, range(9), []), "val side of the split is empty"),
    (lambda f: sides(f, range(0, 70, 7), range(71, 90)), "only the class 'anger'"),
    (lambda f: sides(replace(f, labels=np.where(f.labels == 3, -1, f.labels)), range(9), range(9, 20)), "1 unlabelled"),
    (lambda f: sides(replace(f, labels=np.where(f.labels == 3, 7, f.labels)), range(9), range(9, 20)),
     r"labels must be -1 \(unlabelled\) to 6 for fer7; got 0\.\.7"),
], ids=["no train", "no val", "one class", "unlabelled", "outside the classes"])
def test_what_cannot_be_learnt_from_is_refused_before_the_first_step(tmp_path, spoil, message):
    with pytest.raises(LabError, match=message):
        trainer(tmp_path).fit(spoil(bars()))
    assert not (tmp_path / "config.json").exists()


class AskedWhileValidating:
    def on_epoch_end(self, trainer):
        if trainer.epoch == trainer.recipe.epochs:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_after_the_last_step_is_not_swallowed(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="Stopped after the last step of epoch 2; all is saved"):
        trainer(tmp_path, callbacks=[AskedWhileValidating()]).fit(split())
    assert len(trainer(tmp_path).fit(split()).history) == 2


def test_choices_of_a_run_are_taken_again_when_it_goes_on(tmp_path):
    stop = From(2, 3, lambda trainer: setattr(trainer, "asked", True))
    with pytest.raises(KeyboardInterrupt, match="Stopped after step 3 of epoch 2"):
        trainer(tmp_path, callbacks=[stop]).fit(split())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["precision"] == "fp32" and config["threads"] == torch.get_num_threads()
    config |= {"precision": "bf16", "layout": "torch.contiguous_format"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    again = trainer(tmp_path)
    again.fit(split())
    assert again.precision == "bf16" and again.layout is torch.contiguous_format


def test_the_card_says_how_exactly_a_run_repeats(tmp_path):
    card = trainer(tmp_path, epochs=1).fit(split()).card
    assert card["repeats"].startswith("to the last bit") and card["input"]["mean"] == card["input"]["std"] == 0.5
