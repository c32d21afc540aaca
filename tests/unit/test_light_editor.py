"""The light editor in Python, and its arithmetic run by node against fer_lab.faces."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import traitlets

from fer_lab.faces import blend, clahe, equalize, gamma, stretch
from fer_lab.light_editor import LightEditor
from fer_lab.synthetic import synthetic_faces
from fer_lab.widgets import ASSETS, WidgetError


@pytest.fixture(scope="module")
def node():
    path = shutil.which("node")
    if not path:
        pytest.skip("node is not installed; it runs the front-end's own tests")
    return path


@pytest.fixture(scope="module")
def pictures():
    drawn = synthetic_faces(3, 61, seed=4, mask=False).frames
    noise = np.random.default_rng(0).integers(60, 140, (1, 1, 61, 61), dtype=np.uint8)
    return np.concatenate([drawn, noise, np.full((1, 1, 61, 61), 90, np.uint8)])


def test_the_browsers_own_tests_pass(node):
    tests = Path(__file__).with_name("light_editor.test.mjs")
    done = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 4


@pytest.mark.parametrize(("script", "ours"), [
    ("stretched(x)", stretch), ("equalized(x)", equalize), ("gammaOf(x, 0.6)", lambda x: gamma(x, 0.6)),
    ("blended(x, 0.35)", lambda x: blend(x, 0.35)), ("clahed(x, 61, 61, 2, 8)", clahe),
    ("clahed(x, 61, 61, 5.5, 3)", lambda x: clahe(x, 5.5, (3, 3))),
    ("clahed(x, 61, 61, 2, 1)", lambda x: clahe(x, 2.0, (1, 1))),
], ids=lambda value: value if isinstance(value, str) else "")
def test_browser_and_python_agree_to_one_grey_level(node, pictures, script, ours):
    file = json.dumps((ASSETS / "light.mjs").as_uri())
    code = f"""import {{ readFileSync }} from 'node:fs';
        const {{ stretched, equalized, gammaOf, blended, clahed }} = await import({file});
        const data = JSON.parse(readFileSync(0, 'utf8'));
        const treat = (pixels) => {{ const x = Uint8Array.from(pixels); return [...{script}]; }};
        console.log(JSON.stringify(data.map(treat)));"""
    done = subprocess.run([node, "--input-type=module", "-e", code], text=True, capture_output=True, timeout=60,
                          input=json.dumps(pictures.reshape(len(pictures), -1).tolist()))
    assert done.returncode == 0, done.stderr
    off = np.abs(np.array(json.loads(done.stdout)) - ours(pictures).reshape(len(pictures), -1).astype(int))
    assert off.max() <= 1


def test_treated_follows_the_sliders(pictures):
    editor = LightEditor(pictures)
    editor.face, editor.power, editor.tiles = 1, 2.0, 4
    made = editor.treated()
    assert np.array_equal(made["as it is"], pictures[1])
    assert np.array_equal(made["gamma"], gamma(pictures[1:2], 2.0)[0])
    assert np.array_equal(made["CLAHE"], clahe(pictures[1:2], 2.0, (4, 4))[0])


@pytest.mark.parametrize(("name", "value"), [("clip", 9.0), ("tiles", 0), ("power", -1.0), ("weight", 1.1)])
def test_beyond_the_sliders_is_refused(pictures, name, value):
    with pytest.raises(traitlets.TraitError, match="slider"):
        setattr(LightEditor(pictures), name, value)


def test_names_must_fit(pictures):
    with pytest.raises(WidgetError, match="5 faces"):
        LightEditor(pictures, ["one"])
