"""The receptive-field explorer: its arithmetic is the gradient's, in Python and in the browser."""

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

from fer_lab.field_explorer import EXAMPLES, FieldExplorer, as_branches, branch_network, effective_kernel, path_heat
from fer_lab.receptive import effective_size, receptive_field
from fer_lab.widgets import WidgetError

FACES = torch.full((2, 1, 48, 48), 128, dtype=torch.uint8)
LAYER = st.tuples(st.sampled_from([1, 3, 5, 7]), st.integers(1, 2), st.integers(1, 4))
LAYERS = st.lists(LAYER, min_size=1, max_size=4)
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


def in_node(code: str):
    module = Path(__file__).parents[2] / "fer_lab" / "assets" / "fields.mjs"
    script = f"import * as f from {json.dumps(module.as_uri())};\n{code}"
    done = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@settings(max_examples=25, deadline=None)
@given(LAYERS)
def test_the_recurrence_is_what_the_library_follows_through_real_layers(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        size, jump = size + (effective_kernel(kernel, dilation) - 1) * jump, jump * stride
    found = receptive_field(branch_network(layers), (1, 16, 16))
    assert (found.size, found.jump) == (size, jump)


def test_a_kernel_with_gaps():
    for kernel in (1, 3, 5, 7):
        for rate in (1, 2, 3, 4):
            assert effective_kernel(kernel, rate) == kernel + (kernel - 1) * (rate - 1)
            size = receptive_field(branch_network([(kernel, 1, rate)]), (1, 16, 16)).size
            assert size == effective_kernel(kernel, rate)


def test_equal_rates_leave_holes():
    assert int((path_heat([(3, 1, 2)] * 3) > 0).sum()) == 49
    assert int((path_heat([(3, 1, 1), (3, 1, 2), (3, 1, 3)]) > 0).sum()) == 169


@needs_node
def test_the_browser_counts_the_paths_that_the_gradient_finds():
    cases = [branch for named in EXAMPLES.values() for branch in named.values()]
    cases += [[[5, 2, 1], [3, 2, 2]], [[7, 1, 4], [3, 2, 1], [3, 1, 3]], [[3, 2, 4], [1, 2, 1], [5, 1, 2], [3, 1, 1]]]
    said = in_node(f"""const cases = {json.dumps(cases)};
        console.log(JSON.stringify(cases.map((c) => {{ const found = f.factsOf([c]);
            return {{ side: found.side, heat: [...found.heat], most: found.most, pixels: found.pixels }}; }})));""")
    for layers, found in zip(cases, said, strict=True):
        heat = path_heat(layers)
        assert heat.shape == (found["side"],) * 2
        assert np.allclose(np.reshape(found["heat"], heat.shape), heat.numpy(), atol=1e-9)
        assert found["pixels"] == int((heat > 0).sum()) and found["most"] == effective_size(heat)


def test_the_table_says_what_the_branches_are():
    explorer = FieldExplorer(FACES, EXAMPLES["gridding"])
    explorer.branches = [*explorer.branches[:1], {"name": "mine", "layers": [[5, 2, 1], [3, 1, 2]]}]
    seen = explorer.table()
    assert seen.loc["mine"].tolist()[:2] == [13, 2] and seen.loc["rates 2, 2, 2", "pixels that count"] == 49
    explorer.branch = 1
    assert torch.equal(explorer.heat(), path_heat([(5, 2, 1), (3, 1, 2)]))


@pytest.mark.parametrize(("name", "value"), [
    ("branches", []), ("branches", as_branches({"a": []})), ("branches", as_branches({"a": [[2, 1, 1]]})),
    ("branches", as_branches({"a": [[3, 3, 1]]})), ("branches", as_branches({"a": [[3, 1, 5]]})),
    ("branches", as_branches({"a": [[3, 1]]})), ("branches", as_branches({"a": [[3, 1, 1]] * 7})),
    ("branches", as_branches({"a": [[3, 1, 1]]}) * 2), ("place", [48, 0]), ("place", [1]), ("face", 2)])
def test_what_cannot_be_shown_is_refused_and_nothing_changes(name, value):
    explorer = FieldExplorer(FACES)
    before = getattr(explorer, name)
    with pytest.raises(traitlets.TraitError):
        setattr(explorer, name, value)
    assert getattr(explorer, name) == before


def test_other_pictures_are_refused():
    with pytest.raises(WidgetError):
        FieldExplorer(torch.zeros(1, 1, 48, 48))


def test_the_twin_needs_nothing_and_holds_the_state(tmp_path):
    explorer = FieldExplorer(FACES)
    explorer.place = [10, 20]
    frame = explorer.freeze(tmp_path / "fields.html")
    text = (tmp_path / "fields.html").read_text(encoding="utf-8")
    assert len(frame) < 150_000 and not re.search(r"(?:src|href)\s*=\s*[\"']?https?:|import\s+.*from", text)
    traits = json.loads(re.search(r'id="state">(.*?)</script>', text, re.DOTALL)[1])["traits"]
    assert traits["place"] == [10, 20] and traits["branches"] == as_branches(EXAMPLES["the block"])
    assert list(traits["examples"]) == list(EXAMPLES)


@needs_node
def test_the_front_ends_own_tests_pass():
    tests = Path(__file__).with_name("field_explorer.test.mjs")
    done = subprocess.run(["node", "--test", str(tests)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 8
