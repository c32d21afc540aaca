"Train and report once, measure again and get the same; refuse other faces, unreported runs and unknown names."
import json
from dataclasses import replace

import pytest

from fer_lab.experiment import (
    ExperimentError,
    evaluate_saved,
    how_it_computes,
    recipe_for,
    saved_folder,
    train_and_report,
)
from fer_lab.models import zoo_names
from fer_lab.report import load_report
from fer_lab.run import TrainingError
from fer_lab.settings import load_settings
from fer_lab.splits import split_for

pytestmark = pytest.mark.xdist_group("experiment")  # its slow fixture is made once


@pytest.fixture(scope="module")
def settings():
    return load_settings(dataset="synthetic", budget="smoke", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, settings):
    folder = tmp_path_factory.mktemp("experiment") / "run"
    return folder, train_and_report("stn", settings, folder=folder, progress=False)


def test_the_folder_holds_weights_card_and_reports(finished):
    folder, experiment = finished
    card = json.loads((folder / "card.json").read_text())
    assert card["test"]["war"] == experiment.reports["test"].war == load_report(folder / "test").war
    assert card["test"]["openings"] == experiment.reports["test"].context["test_openings"]
    assert card["val_tta"]["n"] == experiment.reports["val"].n and card["tta"] == "flip"
    assert not set(experiment.reports["val"].groups) & set(experiment.reports["test"].groups)  # nobody on two sides


def test_measured_again_it_is_the_same_and_counted(finished, settings):
    folder, experiment = finished
    again = evaluate_saved(folder, settings)["test"]
    assert (again.confusion == experiment.reports["test"].confusion).all()
    assert again.context["test_openings"] == experiment.reports["test"].context["test_openings"] + 1


def test_the_settings_of_the_card_count_not_those_in_force(finished):
    other = load_settings(dataset="fer2013", budget="full", seed=5, device="cpu")
    assert evaluate_saved(finished[0], other)["test"].n == finished[1].reports["test"].n


def test_a_second_report_of_a_run_is_refused(finished, settings):
    with pytest.raises(ExperimentError, match="already holds a test report"):
        train_and_report("stn", settings, folder=finished[0], progress=False)


def test_a_test_set_that_training_left_closed_stays_closed(finished, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("FER_LAB_STATE_DIR", str(tmp_path / "state"))
    for name in ("model.safetensors", "card.json"):
        (tmp_path / name).write_bytes((finished[0] / name).read_bytes())
    card = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps({key: value for key, value in card.items() if "test" not in key}))
    assert list(evaluate_saved(tmp_path, settings)) == ["val_tta"]
    assert not (tmp_path / "state" / "test_openings.jsonl").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"faces_fingerprint": "0" * 16}, "other pixels, labels or order"),
        ({"split": "0" * 16}, "would not be comparable"),
        ({"settings": None}, "no test report yet"),
    ],
)
def test_a_card_of_other_faces_is_refused(finished, settings, tmp_path, change, message):
    for name in ("model.safetensors", "card.json"):
        (tmp_path / name).write_bytes((finished[0] / name).read_bytes())
    card = {**json.loads((tmp_path / "card.json").read_text()), **change}
    (tmp_path / "card.json").write_text(json.dumps({key: value for key, value in card.items() if value}))
    with pytest.raises(ExperimentError, match=message):
        evaluate_saved(tmp_path, settings)


def test_an_unknown_name_says_what_there_is(settings):
    with pytest.raises(ExperimentError, match="neither a trained model"):
        evaluate_saved("no-such-model", settings)


def test_how_a_run_computes_is_told_with_reasons_and_of_older_configs_without():
    config = {"device": "cpu", "precision": "fp32", "layout": "torch.channels_last"}
    assert how_it_computes(config) == "computes on cpu, fp32, channels_last; repeats as far as is known"
    told = how_it_computes(config | {"because": {"device": "asked for"}, "repeats": "nearly: an accelerator"})
    assert told == "computes on cpu (asked for), fp32, channels_last; repeats nearly: an accelerator"


def test_recipes_come_from_the_paper_or_are_plain(settings):
    fer = load_settings(dataset="fer2013", budget="full", seed=3)
    arguments, recipe = recipe_for("stn", fer, norm="none")
    assert arguments["norm"] == "none" and recipe.seed == 3 and recipe.epochs > 10
    assert recipe_for("plain", settings)[1].epochs == 1
    assert recipe_for("stn", fer, epochs=2)[1].epochs == 2


def test_a_field_of_the_recipe_can_be_chosen_unless_the_model_has_the_word(settings):
    recipe = recipe_for("stn", settings, lr=0.0005, clip=1.0, norm="none")[1]
    assert recipe.lr == 0.0005 and recipe.clip == 1.0
    assert replace(recipe, lr=0.1, clip=None) == replace(recipe_for("stn", settings, norm="none")[1], lr=0.1, clip=None)
    for word in ("seed", "augment", "learning_rate"):
        with pytest.raises(ExperimentError, match=f"stn has no {word}. It has: .+; and its recipe: batch, .*lr, "):
            recipe_for("stn", settings, **{word: 1})
    with pytest.raises(TrainingError, match="clip must be a number above 0"):
        recipe_for("plain", settings, clip=0)


@pytest.mark.parametrize("name", [name for name in zoo_names() if name != "stn-fer2013"])  # that one: test_cli
def test_zoo_numbers_come_out_again(name, fer2013, fer2013_folder):
    "The card's numbers, measured here: the same to one image in a thousand (processors round differently)."
    settings = load_settings(data_dir=fer2013_folder.parent, device="cpu")
    card = json.loads((saved_folder(name) / "card.json").read_text())
    assert card["split"] == split_for(fer2013).fingerprint
    for side, report in evaluate_saved(name, settings).items():
        assert report.n == card[side]["n"] and abs(report.war - card[side]["war"]) <= 0.001
