"""The Gabor editor in Python, and its arithmetic run by node against scikit-image."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import traitlets

from fer_lab.gabor_editor import GaborEditor
from fer_lab.widgets import ASSETS, WidgetError


@pytest.fixture(scope="module")
def node():
    path = shutil.which("node")
    if not path:
        pytest.skip("node is not installed; it runs the front-end's own tests")
    return path


@pytest.fixture(scope="module")
def editor():
    return GaborEditor(np.random.default_rng(0).integers(0, 256, (2, 1, 30, 37), dtype=np.uint8), ["one", "two"])


def test_the_browsers_own_tests_pass(node):
    tests = Path(__file__).with_name("gabor_editor.test.mjs")
    done = subprocess.run([node, "--test", str(tests)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 4


@pytest.mark.parametrize(("theta", "wavelength", "sigma"), [
    (0, 3, 1.68), (45, 5, 2.8), (90, 7, 3.92), (135, 9, 5.04), (17, 2, 1.0), (180, 16, 8.0)])
def test_browser_and_scikit_image_agree(node, editor, theta, wavelength, sigma):
    editor.face, editor.theta, editor.wavelength, editor.sigma = 1, theta, wavelength, sigma
    file = json.dumps((ASSETS / "gabor.mjs").as_uri())
    code = f"""import {{ readFileSync }} from 'node:fs';
        const {{ respond, reach }} = await import({file});
        const pixels = Uint8Array.from(JSON.parse(readFileSync(0, 'utf8')));
        const {{ real, strength }} = respond(pixels, 30, 37, {theta}, {wavelength}, {sigma});
        console.log(JSON.stringify([[...real], [...strength], reach({theta}, {sigma})]));"""
    done = subprocess.run([node, "--input-type=module", "-e", code], text=True, capture_output=True, timeout=60,
                          input=json.dumps(editor.images[1].flatten().tolist()))
    assert done.returncode == 0, done.stderr
    real, strength, far = json.loads(done.stdout)
    ours = editor.answer_of()
    assert np.allclose(np.reshape(real, (30, 37)), ours[0], atol=1e-9)
    assert np.allclose(np.reshape(strength, (30, 37)), ours[1], atol=1e-9)
    assert editor.filter_of().shape == (2 * far + 1, 2 * far + 1)


@pytest.mark.parametrize(("name", "value"), [("theta", 181.0), ("wavelength", 1.57), ("sigma", 0.5)])
def test_beyond_the_sliders_is_refused(editor, name, value):
    with pytest.raises(traitlets.TraitError, match="slider"):
        setattr(editor, name, value)


def test_names_must_fit_and_the_page_needs_nobody(editor, tmp_path):
    with pytest.raises(WidgetError, match="2 faces"):
        GaborEditor(editor.images, ["one"])
    kept = editor.freeze(tmp_path / "page.html")
    assert "srcdoc" in kept and "http" not in (tmp_path / "page.html").read_text().replace("http://www.w3.org", "")
