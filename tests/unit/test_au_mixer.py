"""The AU mixer: what is asked for is what is drawn; its frozen twin holds every picture it offers."""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_lab.au_mixer import REACH, STEPS, AUMixer, frozen_mixer, frozen_pictures, in_order, mixture, presets
from fer_lab.sequences import FACE_REGIONS
from fer_lab.synthetic import AU_NAMES, EXPRESSIONS, render
from fer_lab.widgets import WidgetError


@pytest.fixture(scope="module")
def mixer():
    made = AUMixer(people=(40, 15), size=48)
    made.newest.wait(60)
    return made


def picture(answer: dict, name: str = "picture") -> np.ndarray:
    return np.frombuffer(base64.b64decode(answer[name]), np.uint8).reshape(48, 48)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=40, max_size=40), st.floats(0, 1, width=32), st.integers(0, 100))
def test_a_mixture_holds_what_was_asked_for(strengths, intensity, subject):
    p = mixture(strengths, subject, intensity, pose=(10, -5, 3), light=(0.5, -0.2, 0.4))
    assert torch.allclose(p.aus[0], intensity * torch.tensor(strengths).reshape(20, 2), atol=1e-6)
    assert p.subject.tolist() == [subject] and p.pose[0].tolist() == pytest.approx([10, -5, 3, 1, 0, 0])
    assert p.light[0, :3].tolist() == pytest.approx([0.5, -0.2, 0.4]) and not p.camera[0, [0, 1, 3, 4]].any()
    assert p.occluder[0, 0] == 0


def test_strengths_are_put_in_order():
    found = np.reshape(in_order({"AU12": (0.9, 0.1), "AU4": 0.5}), (20, 2))
    assert found[AU_NAMES.index("AU12")].tolist() == [0.9, 0.1] and found[AU_NAMES.index("AU4")].tolist() == [0.5, 0.5]
    assert (found > 0).sum() == 4


def test_every_expression_has_a_preset_with_its_core_units():
    for name, strengths in presets().items():
        shown = {AU_NAMES[k] for k in np.flatnonzero(np.reshape(strengths, (20, 2)).any(1))}
        assert set(EXPRESSIONS[name][0].core) <= shown
        assert name != "contempt" or np.count_nonzero(strengths) == 1


def test_the_view_is_told_name_movement_and_muscle_of_all_units(mixer):
    assert [unit["name"] for unit in mixer.units] == list(AU_NAMES)
    for unit in mixer.units:
        assert unit["action"] and unit["muscle"] and unit["name"] in FACE_REGIONS[unit["region"]]


def test_python_draws_what_the_traits_say(mixer):
    with mixer.hold_trait_notifications():
        mixer.face, mixer.aus, mixer.intensity, mixer.asked = 1, in_order({"AU4": 1.0, "AU12": (0.5, 0)}), 0.8, 7
        mixer.pose, mixer.light = [12.0, 0.0, -8.0], [-0.5, -0.5, 0.4]
    mixer.newest.wait(60)
    assert mixer.answer["asked"] == 7 and "error" not in mixer.answer
    p = mixture(mixer.aus, 15, 0.8, mixer.pose, mixer.light)
    assert (picture(mixer.answer) == render(p, 48)[0][0, 0].numpy()).all()
    assert (picture(mixer.answer, "calm") == render(p.only(), 48)[0][0, 0].numpy()).all()
    mixer.aus = [0.0] * 40
    mixer.newest.wait(60)
    assert (picture(mixer.answer) == picture(mixer.answer, "calm")).all()


def test_the_last_of_many_wishes_is_the_one_that_is_shown(mixer):
    for asked in range(20, 60):
        mixer.asked, mixer.aus = asked, in_order({"AU27": asked / 60})
    mixer.newest.wait(60)
    assert mixer.answer["asked"] == 59
    p = mixture(mixer.aus, mixer.people[mixer.face], mixer.intensity, mixer.pose, mixer.light)
    assert (picture(mixer.answer) == render(p, 48)[0][0, 0].numpy()).all()


@pytest.mark.parametrize("name, value", [
    ("aus", [0.0] * 39), ("aus", [1.5] * 40), ("aus", [float("nan")] * 40), ("intensity", -0.1),
    ("pose", [90.0, 0.0, 0.0]), ("light", [0.0, 0.0]), ("face", 2)])
def test_wishes_beyond_reach_are_refused_and_nothing_changes(mixer, name, value):
    before = getattr(mixer, name)
    with pytest.raises(traitlets.TraitError):
        setattr(mixer, name, value)
    assert getattr(mixer, name) == before
    assert len(REACH["aus"]) == 40


def test_nobody_to_show_is_said():
    with pytest.raises(WidgetError, match="one person at least"):
        AUMixer(people=())


def test_the_twin_holds_every_unit_and_expression_at_every_step(mixer):
    keys, images = frozen_pictures(mixer)
    assert len(keys) == len(set(keys)) == 1 + 5 * 20 + 5 * 7 == len(images)
    who = mixer.people[mixer.face]
    for key, strengths, factor in (("rest", {}, 1), ("AU12@0.6", {"AU12": 0.6}, 1), ("AU27@1", {"AU27": 1.0}, 1)):
        expected = render(mixture(in_order(strengths), who, factor, mixer.pose, mixer.light), 48)[0][0]
        assert torch.equal(images[keys.index(key)], expected)
    expected = render(mixture(mixer.presets["fear"], who, 0.4, mixer.pose, mixer.light), 48)[0][0]
    assert torch.equal(images[keys.index("fear@0.4")], expected)
    assert not [name for name in (*AU_NAMES, *presets()) if name != "neutral" and f"{name}@{STEPS[-1]:g}" not in keys]


def test_the_twin_is_small_whole_and_needs_nothing(mixer, tmp_path):
    full = AUMixer(people=(40,))
    frame = full.freeze(tmp_path / "mixer.html")
    text = (tmp_path / "mixer.html").read_text(encoding="utf-8")
    assert len(frame) < 1_500_000 and frame.startswith("<iframe srcdoc=")
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?https?:|import\s+.*from", text)
    state = json.loads(re.search(r'id="state">(.*?)</script>', text, re.DOTALL)[1])
    assert state["traits"]["shape"] == [1, 1, 64, 64] and len(state["data"]["keys"]) == 136
    assert "Precomputed" in state["traits"]["frozen"]["note"]
    full.newest.wait(60)
    assert "<iframe" not in frozen_mixer(mixer)


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed; it runs the front-end's own tests")
def test_the_front_ends_own_tests_pass():
    tests = Path(__file__).with_name("au_mixer.test.mjs")
    done = subprocess.run(["node", "--test", str(tests)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 7
