"The trainer learns, keeps the best epoch, continues exactly one run, and refuses what cannot be trained."

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from bars import bars, network, split
from hypothesis import given
from hypothesis import strategies as st

from fer_lab.augment import Augment
from fer_lab.checkpoint import CheckpointError, load_weights
from fer_lab.faceset import FER7, FaceSetError
from fer_lab.models import create, load_model
from fer_lab.report import evaluate
from fer_lab.run import new_folder
from fer_lab.settings import load_settings
from fer_lab.trainer import Recipe, Run, Trainer, TrainingError, repetition

SETTINGS = load_settings(device="cpu", precision="fp32")
RECIPE = Recipe(epochs=3, batch=16, lr=0.01, augment=Augment(flip=0, rotate=5), seed=0)


def trainer(folder, model=None, recipe=RECIPE, **more):
    return Trainer(model or network(), recipe, folder, **{"settings": SETTINGS, "progress": False, **more})


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        replace(RECIPE, ema=0.8),
        replace(RECIPE, optimizer="sgd", schedule="constant", clip=1.0),
        replace(RECIPE, optimizer="adam", label_smoothing=0.1, augment=None),
    ],
)
def test_it_learns_what_is_easy(tmp_path, recipe):
    model = network()
    run = trainer(tmp_path, model, replace(recipe, epochs=8)).fit(split())
    assert run.card["val"]["war"] > 0.9
    assert evaluate(model, split().val, "again").war == pytest.approx(
        run.card["val"]["war"]
    )  # the model holds the kept weights


def test_one_cycle_rises_then_falls_to_almost_nothing(tmp_path):
    rates = []

    class Watch:
        def on_batch_end(self, trainer):
            rates.append(trainer.optimizer.param_groups[0]["lr"])

    trainer(tmp_path, callbacks=[Watch()]).fit(split())
    peak = int(np.argmax(rates))
    assert (
        max(rates) == pytest.approx(RECIPE.lr, rel=0.05) and 0 < peak < len(rates) / 2 and rates[-1] < RECIPE.lr / 100
    )


def test_the_kept_weights_are_those_of_the_best_epoch(tmp_path):
    class Spoil:
        "Ruins the model before the last validation."

        def on_batch_end(self, trainer):
            if trainer.epoch == 4:
                torch.nn.init.zeros_(trainer.model[5].weight)

    run = trainer(tmp_path, recipe=replace(RECIPE, epochs=5), callbacks=[Spoil()]).fit(split())
    assert run.history.val_war.iloc[-1] < run.card["val"]["war"] == run.history.val_war.max()
    assert run.card["epoch"] == run.history.val_war.idxmax() + 1 < 5


def test_patience_stops_early(tmp_path):
    run = trainer(tmp_path, recipe=replace(RECIPE, epochs=50, lr=1e-12, patience=3)).fit(split())
    assert len(run.history) == run.card["epoch"] + 3 < 50


class Stop(Exception):
    pass


class StopIn:
    "Stops in the middle of an epoch."

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, trainer):
        if trainer.epoch + 1 == self.epoch:
            raise Stop


@pytest.mark.parametrize(("ema", "precision"), [(0.0, "fp32"), (0.9, "fp32"), (0.9, "bf16")])
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path, ema, precision):
    recipe, whole, broken = replace(RECIPE, ema=ema), network(), network()
    how = {"settings": load_settings(device="cpu", precision=precision)}
    trainer(tmp_path / "whole", whole, recipe, **how).fit(split())
    for epoch in (1, 2, 3):  # stopped in every epoch, the first included
        with pytest.raises(Stop):
            trainer(tmp_path / "broken", network(), recipe, callbacks=[StopIn(epoch)], **how).fit(split())
    run = trainer(tmp_path / "broken", broken, recipe, **how).fit(split())
    assert run.config["precision"] == precision
    assert list(run.history.epoch) == [1, 2, 3]
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), broken.state_dict().values(), strict=True)
    )


def test_a_finished_run_is_not_trained_again(tmp_path):
    first = trainer(tmp_path).fit(split())
    before = (tmp_path / "model.safetensors").read_bytes()
    model = network(seed=5)
    assert len(trainer(tmp_path, model).fit(split()).history) == len(first.history)
    assert (tmp_path / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("other", ["recipe", "split", "model"])
def test_the_folder_of_another_run_is_refused(tmp_path, other):
    trainer(tmp_path).fit(split())
    recipe = replace(RECIPE, lr=0.5) if other == "recipe" else RECIPE
    model = torch.nn.Linear(1, 1) if other == "model" else network()
    faces = bars(seed=1) if other == "split" else bars()
    with pytest.raises(TrainingError, match=f"another run.*{other}|{other}.*another run"):
        trainer(tmp_path, model, recipe).fit(split(faces))


@pytest.mark.parametrize("missing", [["state.pt"], ["state.pt", "config.json"], ["config.json"]])
def test_what_another_run_left_is_not_overwritten_where_its_state_or_config_is_gone(tmp_path, missing):
    trainer(tmp_path).fit(split())
    for file in [*tmp_path.glob("state.*"), tmp_path / "config.json"]:
        if file.name in missing or ("state.pt" in missing and file.name.startswith("state")):
            file.unlink()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.*") if path.name != "run.lock"}
    with pytest.raises(TrainingError, match="another run.*recipe|which run .+ holds"):
        trainer(tmp_path, recipe=replace(RECIPE, lr=0.5)).fit(split())
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_run_without_its_state_begins_again(tmp_path):
    first = trainer(tmp_path).fit(split()).history.loss.tolist()
    for file in tmp_path.glob("state.*"):
        file.unlink()
    assert trainer(tmp_path).fit(split()).history.loss.tolist() == first


def test_a_run_that_goes_on_elsewhere_says_that_it_is_no_longer_exact(tmp_path, recwarn):
    for epoch in (2, 3):
        with pytest.raises(Stop):
            trainer(tmp_path, callbacks=[StopIn(epoch)]).fit(split())
    assert not recwarn  # the same machine
    config = Run(tmp_path).config
    config["environment"] |= {"torch": "0.4.1", "revision": "another"}
    (tmp_path / "config.json").write_text(json.dumps(config | {"processes": 2}))
    now = f"processes 2 → 1, environment.torch 0.4.1 → {torch.__version__} after step 0 of epoch 3"
    with pytest.warns(UserWarning, match="not to the last bit .+ processes 2 → 1"), pytest.raises(Stop):
        trainer(tmp_path, callbacks=[StopIn(3)]).fit(split())
    run = trainer(tmp_path, recipe=RECIPE).fit(split())  # and once only
    assert run.config["moves"] == [now] and run.config["processes"] == 1 and len(run.history) == 3
    assert run.config["repeats"] == f"not to the last bit: {now}"
    (tmp_path / "config.json").write_text(json.dumps(run.config | {"processes": 2}))
    trainer(tmp_path).fit(split())  # a finished run is only read
    assert Run(tmp_path).config["processes"] == 2 and not recwarn


@pytest.mark.parametrize("name", ["model.safetensors", "card.json"])
def test_a_damaged_best_epoch_is_told_before_the_next_step(tmp_path, name):
    steps = []

    class Count:
        def on_batch_end(self, trainer):
            steps.append(trainer.step)

    with pytest.raises(Stop):
        trainer(tmp_path, callbacks=[StopIn(2)]).fit(split())
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])
    with pytest.raises(TrainingError, match=rf"{name}.* To begin this training again, delete state.pt"):
        trainer(tmp_path, callbacks=[Count()]).fit(split())
    assert not steps
    for file in tmp_path.glob("state.*"):
        file.unlink()
    assert len(trainer(tmp_path).fit(split()).history) == RECIPE.epochs  # as it was told


def test_a_kill_between_weights_and_card_costs_nothing(tmp_path, monkeypatch):
    from fer_lab import checkpoint

    replaced = checkpoint.os.replace

    def kill(source, target):
        if str(target).endswith("card.json") and len(Run(tmp_path / "cut").history) == 1:
            raise Stop
        replaced(source, target)

    recipe = replace(RECIPE, lr=0.001, schedule="constant")  # so that the second epoch is better than the first
    whole = trainer(tmp_path / "whole", recipe=recipe).fit(split())
    assert whole.history.val_war[1] > whole.history.val_war[0]
    monkeypatch.setattr(checkpoint.os, "replace", kill)
    with pytest.raises(Stop):
        trainer(tmp_path / "cut", recipe=recipe).fit(split())
    monkeypatch.undo()
    trainer(tmp_path / "cut", recipe=recipe).fit(split())
    assert (tmp_path / "cut" / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_a_torn_config_is_named(tmp_path):
    trainer(tmp_path, recipe=replace(RECIPE, epochs=1)).fit(split())
    (tmp_path / "config.json").write_text((tmp_path / "config.json").read_text()[:100])
    with pytest.raises(TrainingError, match="config.json is damaged .+ Put it back"):
        trainer(tmp_path, recipe=replace(RECIPE, epochs=1)).fit(split())


def test_the_fields_in_which_two_runs_differ_are_named(tmp_path):
    trainer(tmp_path).fit(split())
    with pytest.raises(TrainingError, match=r"recipe\.lr 0\.01 → 0\.5, recipe\.augment\.rotate 5 → 9\. Give"):
        trainer(tmp_path, recipe=replace(RECIPE, lr=0.5, augment=Augment(flip=0, rotate=9))).fit(split())


def test_a_state_of_other_layers_is_answered_where_the_model_has_no_config(tmp_path):
    with pytest.raises(Stop):
        trainer(tmp_path, callbacks=[StopIn(2)]).fit(split())
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(196, 7))
    with pytest.raises(CheckpointError, match=r"state.pt holds another architecture than this Sequential: 1.weight"):
        trainer(tmp_path, other).fit(split())


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_weights(tmp_path):
    class Poison:
        def on_epoch_start(self, trainer):
            if trainer.epoch == 2:
                trainer.model[5].bias.data.fill_(float("nan"))

    with pytest.raises(TrainingError, match="nan in epoch 3"):
        trainer(tmp_path, callbacks=[Poison()]).fit(split())
    assert Run(tmp_path).card["epoch"] <= 2 and len(Run(tmp_path).history) == 2


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"optimizer": "lion"}, "adamw, adam, sgd"),
        ({"schedule": "cosine"}, "onecycle"),
        ({"select": "f1"}, "war, uar"),
        ({"epochs": 0}, "epochs"),
        ({"lr": -1.0}, "lr"),
        ({"lr": "0.1"}, "lr must be a number above 0; got '0.1'"),
        ({"lr": float("nan")}, "lr"),
        ({"ema": 2}, "ema must be a number from 0 to below 1"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"mixup": -1}, "mixup must be a number from 0 on"),
        ({"patience": 0}, "patience must be a whole number from 1 on"),
        ({"epochs": 2.5}, "epochs"),
        ({"batch": None}, "batch"),
        ({"batch": 1}, "batch must be a whole number from 2 on"),
        ({"seed": -1}, "seed must be a whole number from 0 to"),
        ({"seed": 1.5}, "seed"),
        ({"clip": 0}, "clip"),
    ],
)
def test_a_wrong_recipe_names_what_is_allowed(wrong, message):
    with pytest.raises(TrainingError, match=message):
        Recipe(**wrong)


def test_the_card_says_what_a_stranger_needs(tmp_path):
    card = trainer(tmp_path).fit(split()).card
    assert card["classes"] == list(FER7.classes) and card["split"] == split().fingerprint
    assert card["recipe"]["augment"]["rotate"] == 5 and card["environment"]["torch"] == torch.__version__
    assert card["selection"] == "best val WAR of 3 epochs" and card["input"]["shape"] == [1, 14, 14]
    json.dumps(card)


def test_the_last_single_image_does_not_break_batch_norm(tmp_path):
    faces = bars(16 * 2 + 1 + 60)
    assert np.isfinite(trainer(tmp_path).fit(split(faces)).history.loss).all()


def test_history_of_a_run_without_epochs_is_empty(tmp_path):
    assert isinstance(Run(tmp_path).history, pd.DataFrame) and Run(tmp_path).history.empty


def test_clips_of_one_length_train_like_stills(tmp_path):
    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.frame = network()

        def forward(self, x):
            assert x.shape[1:] == (2, 1, 14, 14)
            return self.frame(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)

    faces = bars()
    clips = replace(faces, spans=None).moments(np.zeros((len(faces), 2), int))
    still = trainer(tmp_path / "a", recipe=RECIPE).fit(split(faces))
    moving = trainer(tmp_path / "b", model=Mean(), recipe=RECIPE).fit(split(clips))
    assert moving.card["val"]["war"] > 0.9 and still.card["val"]["war"] > 0.9
    assert moving.card["input"]["shape"] == [2, 1, 14, 14] and still.card["input"]["shape"] == [1, 14, 14]


def test_a_model_of_clips_comes_back_and_its_card_says_how_long_they_are(tmp_path):
    faces = bars()
    clips = replace(faces, spans=None).moments(np.zeros((len(faces), 3), int))
    model = create("compact-gru", widths=(4, 4), hidden=8, size=14)
    trainer(tmp_path, model, replace(RECIPE, epochs=1)).fit(split(clips))
    again, card = load_model(tmp_path)
    assert card["input"]["shape"] == [3, 1, 14, 14]
    clip = torch.rand(2, *card["input"]["shape"])
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in again.state_dict().items())
    assert torch.allclose(again(clip), model.eval()(clip), atol=1e-5)  # their memory is laid out in another order


def test_clips_of_different_lengths_are_refused_before_the_first_step(tmp_path):
    faces = bars()
    start = np.arange(129)
    clips = replace(faces.subset(start), spans=np.stack([start, start + 1 + start % 2], 1))
    with pytest.raises(FaceSetError, match="moments"):
        trainer(tmp_path).fit(split(clips))
    assert not (tmp_path / "config.json").exists()


def test_the_card_says_why_device_precision_and_layout_were_chosen(tmp_path):
    config = trainer(tmp_path, recipe=replace(RECIPE, epochs=1)).fit(split()).config
    assert config["because"]["device"] == config["because"]["precision"] == "asked for"
    assert config["because"]["layout"].startswith("cpu: ")


class Pool:
    "Puts another pool there before each epoch."

    def __init__(self, pool):
        self.pool = pool

    def on_epoch_start(self, trainer):
        trainer.pool = torch.as_tensor(self.pool, dtype=torch.int64)


@pytest.mark.parametrize(("pool", "words"), [
    ([], "pool of epoch 1 must name faces from 0 to 129, one at least; it names 0"),
    ([0, 130], "it names 2, 0 to 130"), ([-1, 3], "it names 2, -1 to 3"),
    (list(range(130)) * 4, r"holds 520 faces, which take more steps than the 27 .* \(130 faces an epoch")])
def test_a_pool_that_cannot_be_trained_on_is_answered_before_its_first_step(tmp_path, pool, words):
    with pytest.raises(TrainingError, match=words):
        trainer(tmp_path, callbacks=[Pool(pool)]).fit(split())
    assert not Run(tmp_path).history.shape[0]


@pytest.mark.parametrize("pool", [[0, 1, 2], np.arange(5), torch.arange(5.0), torch.ones(130, dtype=bool),
                                  torch.arange(6).view(2, 3)], ids=["list", "numpy", "float", "bool", "table"])
def test_a_pool_is_a_row_of_whole_numbers(tmp_path, pool):
    class Put:
        def on_epoch_start(self, trainer):
            trainer.pool = pool

    with pytest.raises(TrainingError, match=r"must be an int64 tensor \[M\]"):
        trainer(tmp_path, callbacks=[Put()]).fit(split())


def test_a_long_pool_is_fine_for_a_constant_rate(tmp_path):
    recipe = replace(RECIPE, schedule="constant", epochs=2)
    assert len(trainer(tmp_path, recipe=recipe, callbacks=[Pool(list(range(130)) * 2)]).fit(split()).history) == 2


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_repetitions_are_counted(pool):
    assert repetition(torch.tensor(pool)).tolist() == [pool[:i].count(face) for i, face in enumerate(pool)]


class Shown:
    "Which random numbers each face of an epoch got."

    def __init__(self, pool=None):
        self.pool, self.numbers = pool, {}

    def on_fit_start(self, trainer):
        step = trainer._train_step
        trainer._train_step = lambda index, numbers: self.note(index, numbers) or step(index, numbers)

    def note(self, index, numbers):
        for face, row in zip(index.tolist(), numbers):
            self.numbers.setdefault(face, []).append(row)

    def on_epoch_start(self, trainer):
        if self.pool is not None:
            trainer.pool = torch.tensor(self.pool)


def test_the_random_numbers_of_a_face_do_not_depend_on_the_rest_of_the_pool(tmp_path):
    pools = {"all": None, "few": [5, 9, 70, 3], "twice": [9, 5, 9, 100, 101, 102]}
    shown = {name: Shown(pool) for name, pool in pools.items()}
    for name, callback in shown.items():
        trainer(tmp_path / name, recipe=replace(RECIPE, epochs=1), callbacks=[callback]).fit(split())
    for face in (5, 9, 70, 3):
        (one,), (other,) = shown["all"].numbers[face], shown["few"].numbers[face]
        assert torch.equal(one, other)
    own = shown["all"].numbers[9][0]
    first, second = shown["twice"].numbers[9]
    assert not torch.equal(first, second) and any(torch.equal(each, own) for each in (first, second))
    assert torch.equal(shown["twice"].numbers[100][0], shown["all"].numbers[100][0])


def test_the_folder_of_a_run_may_not_be_a_file(tmp_path):
    (tmp_path / "taken").write_text("mine")
    for place in (tmp_path / "taken", tmp_path / "taken" / "run"):
        with pytest.raises(TrainingError, match="is a file, or lies below one. Give a folder"):
            trainer(place).fit(split())
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_config_of_an_older_run_that_lacks_a_choice_is_filled_up(tmp_path):
    recipe = replace(RECIPE, epochs=1)
    trainer(tmp_path, recipe=recipe).fit(split())
    config = json.loads((tmp_path / "config.json").read_text())
    for key in ("parts", "layout", "compile"):
        del config[key]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert len(trainer(tmp_path, recipe=recipe).fit(split()).history) == 1


@pytest.mark.parametrize("text", ["[]", "{}", "3"])
def test_a_config_that_holds_no_recipe_is_damaged(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(TrainingError, match="is damaged .it holds no recipe"):
        Run(tmp_path).config  # noqa: B018


class Pointing(torch.nn.Module):
    "Numbers that point and a mask of minus infinities travel with the weights; two layers are one."

    def __init__(self):
        super().__init__()
        self.net = network()
        self.twin = self.net[5]
        self.register_buffer("places", torch.arange(100))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_is_no_average_is_not_averaged_and_shared_weights_are_kept(tmp_path, ema):
    model, again = Pointing(), Pointing()
    trainer(tmp_path, model, replace(RECIPE, ema=ema)).fit(split())
    load_weights(again, tmp_path)
    for each in (model, again):
        assert torch.equal(each.places, torch.arange(100)) and each.mask.tolist() == [0.0, -np.inf]
        assert torch.equal(each.twin.weight, each.net[5].weight)


@pytest.mark.parametrize("ema", [0.5, 0.99])
def test_the_average_follows_by_the_recipes_share(tmp_path, ema):
    class Note:
        def __init__(self):
            self.seen, self.slow = [], []

        def on_batch_end(self, trainer):
            self.seen.append(trainer.model[5].bias.detach().double().clone())
            self.slow.append(trainer.average.module[5].bias.detach().double().clone())

    note = Note()
    trainer(tmp_path, recipe=replace(RECIPE, ema=ema, epochs=1), callbacks=[note]).fit(split())
    expected = note.seen[0]
    for now, slow in zip(note.seen[1:], note.slow[1:], strict=True):
        expected = ema * expected + (1 - ema) * now
        assert torch.allclose(slow, expected, atol=1e-6)


def test_the_same_trainer_may_be_asked_again(tmp_path):
    mistake = StopIn(1)
    one = trainer(tmp_path / "run", callbacks=[mistake], save_every=1000.0)
    with pytest.raises(Stop):
        one.fit(split())
    mistake.epoch = None  # mended in the notebook
    assert len(one.fit(split()).history) == 3
    shutil.rmtree(tmp_path / "run")
    assert len(one.fit(split()).history) == 3


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path):
    (tmp_path / ".state.new.0123abcd.tmp").write_bytes(b"half")
    trainer(tmp_path, recipe=replace(RECIPE, epochs=1)).fit(split())
    assert not list(tmp_path.glob("*.tmp"))


def test_two_runs_of_one_second_get_two_folders(tmp_path):
    assert len({new_folder(tmp_path, "stn") for _ in range(5)}) == 5


def test_compiling_without_a_compiler_is_answered(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(TrainingError, match="needs a C.. compiler, and there is no no-such-compiler"):
        trainer(tmp_path, compile=True).fit(split())
