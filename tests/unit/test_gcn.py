"""Graph convolution over landmarks: the graph against networkx and scipy, the sparse product against a dense one."""

import copy
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import networkx
import numpy as np
import pytest
import torch
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from skimage.feature import local_binary_pattern

from fer_lab.augment import to_float
from fer_lab.faces import five_points, mtcnn_network
from fer_lab.faceset import CASME7
from fer_lab.models import count_parameters, create, multiply_adds, problems
from fer_lab.papers.gcn import (
    FINDERS,
    MIRROR,
    PART_RIVALS,
    RECORDS,
    REGION_RIVALS,
    REGIONS,
    STEP,
    Describe,
    Finder,
    Given,
    GraphError,
    GraphNet,
    GraphTrial,
    HopSlider,
    Jitter,
    LocalBinary,
    MeanFace,
    Patch,
    Propagate,
    chain_edges,
    contestant,
    eye_frame,
    face_edges,
    faces_with_landmarks,
    graph_cost,
    graph_plan,
    hop_distances,
    hop_matrix,
    jittered,
    laid,
    landmark_error,
    mean_face,
    node_removal,
    node_saliency,
    nodes_of,
    region_verdict,
    teach,
    to_frame,
    triangle_edges,
    wired,
    with_finder,
    with_landmarks,
)
from fer_lab.reliance import NETWORKS, examine, variants
from fer_lab.reliance import drawn as drawn_params
from fer_lab.settings import load_settings
from fer_lab.splits import holdout
from fer_lab.synthetic import synthetic_faces
from fer_lab.trainer import Recipe, Trainer
from fer_lab.trial import ASLEEP, Estimate, Finding, load_record, record_names, run_trial
from fer_lab.widgets import ASSETS

EDGES = face_edges()
needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


@pytest.fixture(scope="module")
def drawn():
    return synthetic_faces(42, seed=5, mask=False)


@pytest.fixture(scope="module")
def one_face():
    return synthetic_faces(1, mask=False)


@pytest.fixture(scope="module")
def x(drawn):
    return to_float(with_landmarks(drawn).batch())


@st.composite
def graphs(draw):
    "Any graph of up to nine nodes, islands included."
    count = draw(st.integers(1, 9))
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return np.array(chosen, np.int64).reshape(-1, 2), count


# ---- the graph

def test_regions_and_mirror_cover_the_scheme():
    assert sorted(i for numbers in REGIONS.values() for i in numbers) == list(range(68))
    assert sorted(MIRROR) == list(range(68)) and all(MIRROR[MIRROR[i]] == i for i in range(68))
    assert {name: sorted(MIRROR[i] for i in numbers) for name, numbers in REGIONS.items()} == \
        {name: list(numbers) for name, numbers in REGIONS.items()}  # a region is its own mirror image


def test_the_graph_is_its_own_mirror_image_and_in_one_piece():
    edges = {tuple(edge) for edge in EDGES.tolist()}
    assert edges == {tuple(sorted((MIRROR[a], MIRROR[b]))) for a, b in edges} == chain_edges() | triangle_edges()
    graph = networkx.Graph(list(edges))
    assert networkx.is_connected(graph) and networkx.diameter(graph) == 8 and graph.number_of_nodes() == 68


@pytest.mark.parametrize("regions", [["mouth"], ["eyes", "brows"], ["outline"]])
def test_a_part_of_the_graph_is_the_induced_subgraph(regions):
    numbers = nodes_of(regions)
    whole = networkx.Graph(EDGES.tolist()).subgraph(numbers)
    ours = {(numbers[a], numbers[b]) for a, b in face_edges(regions).tolist()}
    assert ours == {tuple(sorted(edge)) for edge in whole.edges}


@pytest.mark.parametrize("regions", [["lips"], []])
def test_unknown_or_no_regions_are_refused(regions):
    with pytest.raises(GraphError, match="outline, brows, nose, eyes, mouth"):
        nodes_of(regions)


@settings(max_examples=40, deadline=None)
@given(graphs(), st.integers(0, 4))
def test_hop_matrices_reach_as_far_as_the_shortest_way(graph, k):
    edges, count = graph
    reference = networkx.empty_graph(count)
    reference.add_edges_from(edges.tolist())
    ways = dict(networkx.all_pairs_shortest_path_length(reference))
    expected = [[ways[a].get(b, -1) for b in range(count)] for a in range(count)]
    found = hop_distances(edges, count)
    assert found.tolist() == expected
    matrix = hop_matrix(edges, count, k).toarray()
    assert ((matrix > 0) == ((found >= 0) & (found <= k))).all()
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).max() <= 1 + 1e-9


def test_the_normalised_matrix_by_hand():
    matrix = hop_matrix(np.array([[0, 1], [1, 2]]), 3, 1).toarray()
    side = 1 / np.sqrt(6)
    np.testing.assert_allclose(matrix, [[1 / 2, side, 0], [side, 1 / 3, side], [0, side, 1 / 2]])
    with pytest.raises(GraphError, match="count from 0"):
        hop_matrix(EDGES, 68, -1)


def test_shuffled_wiring_is_the_same_graph_with_other_nodes():
    shuffled = wired(EDGES, 68, "shuffled")
    ours, theirs = (networkx.Graph(edges.tolist()) for edges in (EDGES, shuffled))
    assert sorted(d for _, d in ours.degree) == sorted(d for _, d in theirs.degree)
    assert networkx.diameter(ours) == networkx.diameter(theirs)
    assert np.array_equal(wired(EDGES, 68, "face"), EDGES)
    assert len({*map(tuple, EDGES.tolist())} & {*map(tuple, shuffled.tolist())}) < 40


@settings(max_examples=25, deadline=None)
@given(graphs(), st.integers(0, 3), st.integers(1, 4))
def test_the_sparse_product_and_its_gradient_are_the_dense_ones(graph, k, faces):
    edges, count = graph
    propagate = Propagate(hop_matrix(edges, count, k))
    h = torch.randn(faces, count, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    dense = torch.tensor(hop_matrix(edges, count, k).toarray(), dtype=torch.float32)
    ours, theirs = propagate(h), torch.einsum("uv,nvf->nuf", dense, h)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    slopes = [torch.autograd.grad(out.pow(3).sum(), h, retain_graph=True)[0] for out in (ours, theirs)]
    torch.testing.assert_close(*slopes, atol=1e-4, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        ours = propagate(h.bfloat16())
        ours.sum().backward()  # the way back may run under autocast, too
    assert ours.dtype == torch.float32 and h.grad is not None


def test_a_graph_whose_edges_work_one_way_is_refused():
    "The gradient goes back through the same matrix, which is right for symmetric ones only."
    with pytest.raises(GraphError, match=r"symmetric; \[0, 1\] is not"):
        Propagate(coo_array(np.array([[1.0, 2.0], [0.0, 1.0]])))


def test_many_passes_there_and_back_keep_neither_memory_nor_a_wrong_gradient():
    "A kernel died in these cells once: the way back asks nothing of PyTorch's own sparse gradients any more."
    model = GraphNet(nodes="given").eval()
    nodes = torch.randn(1, 68, 29, generator=torch.Generator().manual_seed(0), requires_grad=True)
    answer = model.layers(nodes)[0, 30].sum()
    names, waiting = set(), [answer.grad_fn]
    while waiting:
        node = waiting.pop()
        names.add(type(node).__name__)
        waiting += [parent for parent, _ in node.next_functions if parent is not None]
    assert "SymmetricProductBackward" in names and not [name for name in names if "Sparse" in name]
    slopes = [torch.autograd.grad(model.layers(nodes)[0, 30].sum(), nodes)[0] for _ in range(20)]
    assert all(torch.equal(slope, slopes[0]) for slope in slopes)


def test_renumbered_nodes_give_the_same_answer():
    "The layers know their nodes by the matrices only."
    model = GraphNet(nodes="given").eval()
    order = torch.from_numpy(np.random.default_rng(0).permutation(68))
    nodes = torch.randn(2, 68, 29, generator=torch.Generator().manual_seed(1))
    twin = copy.deepcopy(model)
    new = np.argsort(order.numpy())
    for layer in twin.layers:
        layer.scales = torch.nn.ModuleList(Propagate(hop_matrix(new[EDGES], 68, k)) for k in (1, 2, 3))
    torch.testing.assert_close(twin.answer(nodes[:, order]), model.answer(nodes), atol=1e-5, rtol=1e-4)


def test_the_receptive_field_is_six_hops():
    "Of the layers alone; mean and maximum see everything anyway."
    model = GraphNet(nodes="given").eval()
    distance = hop_distances(EDGES, 68)
    for node in (0, 30, 48):
        nodes = torch.randn(1, 68, 29, generator=torch.Generator().manual_seed(node), requires_grad=True)
        (slope,) = torch.autograd.grad(model.layers(nodes)[0, node].sum(), nodes)
        heard = (slope[0].abs().sum(1) > 0).numpy()
        assert not heard[distance[node] > 6].any() and heard[distance[node] <= 4].mean() > 0.9


# ---- what a node knows

@settings(max_examples=25, deadline=None)
@given(st.floats(-0.9, 0.9), st.floats(0.5, 3), st.floats(-20, 20), st.floats(-20, 20))
def test_the_frame_of_the_eyes_forgets_shift_tilt_and_size(drawn, angle, scale, right, down):
    points = torch.from_numpy(drawn.landmarks[:2]).double()
    turn = torch.tensor([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = scale * points @ turn + torch.tensor([right, down]).double()
    torch.testing.assert_close(to_frame(moved), to_frame(points), atol=1e-8, rtol=0)


def test_the_mean_face_is_that_of_drawn_faces():
    placed = to_frame(torch.from_numpy(synthetic_faces(150, seed=77, mask=False).landmarks))
    assert (placed.mean(0) - mean_face()).abs().max() < 0.05
    torch.testing.assert_close(to_frame(MeanFace(48).points[None])[0], mean_face(), atol=0.01, rtol=0)


def test_a_patch_reads_the_pixels_around_a_point():
    "Eyes 12.5 pixels apart and level: neighbouring samples are one pixel apart, so nothing is mixed."
    picture = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    patch = Patch()(picture, torch.tensor([[[20.0, 11.0]]]), torch.tensor([[[12.5, 0.0]]]))
    grey = picture[0, 0, 9:14, 18:23].flatten()
    torch.testing.assert_close(patch[0, 0], 3 * (grey - grey.mean()), atol=1e-4, rtol=0)


def test_a_patch_turns_with_the_head():
    picture = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    level = Patch()(picture, torch.tensor([[[20.0, 11.0]]]), torch.tensor([[[12.5, 0.0]]]))
    turned = torch.rot90(picture, -1, (2, 3))  # clockwise: what was at column 20, row 11 is at column 28, row 20
    upright = Patch()(turned, torch.tensor([[[28.0, 20.0]]]), torch.tensor([[[0.0, 12.5]]]))
    torch.testing.assert_close(upright, level, atol=1e-4, rtol=0)


def test_binary_patterns_are_scikit_images():
    "A distance of the eyes for which the ring has a radius of 1.5 pixels; bits in the same order, from the right on."
    grey = np.random.default_rng(0).random((40, 40))
    points = torch.tensor([[[float(c), float(r)] for r in range(5, 35, 3) for c in range(5, 35, 3)]])
    bits = LocalBinary()(torch.tensor(grey)[None, None].float(), points, torch.tensor([[[12.5, 0.0]]]))[0] > 0
    codes = local_binary_pattern(grey, 8, 1.5)
    order = [0, 7, 6, 5, 4, 3, 2, 1]  # theirs go against the clock
    for (column, row), ours in zip(points[0].int().tolist(), bits[:, order].tolist()):
        assert sum(bit << k for k, bit in enumerate(ours)) == int(codes[row, column])


def test_patches_ignore_a_brighter_lamp_and_bits_a_stronger_one(x):
    picture, points = x[:, :1], Given()(x)
    across = eye_frame(points)[1]
    torch.testing.assert_close(Patch()(0.5 * picture + 0.2, points, across), 0.5 * Patch()(picture, points, across),
                               atol=1e-5, rtol=0)
    changed = LocalBinary()(0.5 * picture + 0.2, points, across) != LocalBinary()(picture, points, across)
    assert changed.float().mean() < 0.02


# ---- how landmarks travel

@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-63, 190, width=32), min_size=136, max_size=136))
def test_landmarks_survive_the_second_channel(one_face, values):
    points = np.array(values, np.float32).reshape(1, 68, 2)
    faces = replace(one_face, landmarks=points)
    both = with_landmarks(faces)
    assert np.array_equal(both.frames[:, :1], faces.frames)
    assert np.abs(Given()(to_float(both.batch())).numpy() - points).max() <= 0.5 / STEP + 1e-4


def test_faces_without_landmarks_or_with_wild_ones_are_refused(drawn):
    with pytest.raises(GraphError, match="no 68 landmarks"):
        with_landmarks(replace(drawn, landmarks=None))
    with pytest.raises(GraphError, match="between -64 and 192"):
        with_landmarks(replace(drawn, landmarks=drawn.landmarks + 400))
    with pytest.raises(GraphError, match=r"grey frames.*\[2, 48, 48\]"):
        with_landmarks(with_landmarks(drawn))
    with pytest.raises(GraphError, match="nodes='found'"):
        GraphNet(nodes="given")(torch.zeros(2, 1, 48, 48))


def test_the_mean_face_is_laid_on_five_points():
    mean = mean_face().double().numpy()
    assert np.allclose(laid(five_points(mean)[None]), mean)
    tilted = mean @ np.array([[18, 3], [-2, 21.0]]) + (24, 22)  # an affine map is undone whole
    assert np.allclose(laid(five_points(tilted)[None])[0], tilted)


def test_sets_without_landmarks_get_the_mean_face_laid_on_found_points(drawn):
    frames = drawn.frames.copy()
    frames[3] = 128  # nothing to be found
    bare = replace(drawn, frames=frames, landmarks=None)
    faces, said = faces_with_landmarks(bare, lambda: pytest.fail("there are faces"))
    assert faces.shape[0] == 2 and "laid on five found points; in 1 no face was found" in said
    kept = [i for i in range(len(drawn)) if i != 3]
    assert faces.labels.tolist() == drawn.labels[kept].tolist()
    away = np.linalg.norm(faces.landmarks[faces.spans[:, 0]] - drawn.landmarks[kept], axis=-1).mean(1)
    assert np.median(away) < 3  # pixels of 48; a face put on its neighbour would be farther off


def test_sets_that_cannot_be_used_are_replaced_by_drawn_faces_and_it_says_so(drawn, monkeypatch):
    bare = replace(drawn, landmarks=None)
    faces, said = faces_with_landmarks(replace(bare, frames=np.full_like(drawn.frames, 128)), lambda: drawn)
    assert faces.shape[0] == 2 and f"a face in 0 of {len(drawn)} pictures" in said and "drawn" in said
    faces, said = faces_with_landmarks(replace(bare, space=CASME7), lambda: drawn)
    assert "repression, others of" in said and "drawn" in said
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)  # not installed
    mtcnn_network.cache_clear()
    faces, said = faces_with_landmarks(bare, lambda: drawn)
    assert "drawn" in said and "fer_lab[faces]" in said
    faces, said = faces_with_landmarks(drawn, lambda: pytest.fail("there are landmarks"))
    assert "42 faces with landmarks" in said


# ---- the network

@pytest.mark.parametrize(("switches", "expected"), [
    ({}, 102_559), ({"nodes": "given"}, 13_927), ({"nodes": "mean"}, 13_927),
    ({"nodes": "given", "texture": "none"}, 13_927 - 25 * 96), ({"nodes": "given", "texture": "lbp"}, 13_927 - 17 * 96),
    ({"nodes": "given", "layers": 1, "width": 4, "hops": (1, 2)}, 30 * 8 + 16 + 17 * 7),
])
def test_parameter_counts(switches, expected):
    assert count_parameters(GraphNet(**switches)) == expected


def test_controls_and_regions_have_as_many_parameters_and_share_their_first_weights():
    weights = []
    for name in (*REGION_RIVALS, "one scale, three times", "no edges", "wrong neighbours", "mean face"):
        torch.manual_seed(3)
        weights.append(contestant(name).state_dict())
    assert all(first.keys() == weights[0].keys() for first in weights)
    assert all(torch.equal(first[key], weights[0][key]) for first in weights for key in first)


def test_the_plain_stack_costs_as_much():
    assert abs(multiply_adds(contestant("plain stack")[1], (1, 48, 48)) / graph_cost(GraphNet()) - 1) < 0.02


@pytest.mark.parametrize("switches", [{}, {"nodes": "mean", "texture": "lbp", "regions": ["mouth", "nose"]},
                                      {"hops": (0, 2), "wiring": "shuffled", "layers": 3, "num_classes": 4}])
def test_it_keeps_the_rules_of_the_lab(switches):
    assert problems(GraphNet(**switches)) == []


@pytest.mark.parametrize("nodes", FINDERS)
@pytest.mark.parametrize("texture", ["patch", "lbp", "none"])
def test_every_combination_runs_and_learns(x, nodes, texture):
    model = GraphNet(nodes=nodes, texture=texture)
    model(x[:6]).square().sum().backward()
    assert all(p.grad is not None for p in model.layers.parameters())
    moves = getattr(model.finder, "move", None)
    assert moves is None or moves.bias.grad.abs().max() > 0  # the loss reaches the finder through its points


@pytest.mark.parametrize(("switch", "value"), [("nodes", "guessed"), ("texture", "fur"), ("wiring", "copper")])
def test_a_misspelt_switch_names_the_choices(switch, value):
    with pytest.raises(GraphError, match=rf"{switch}='{value}'; expected one of"):
        GraphNet(**{switch: value})


def test_without_edges_a_node_hears_nobody_and_islands_work(x):
    model = GraphNet(nodes="given", hops=(0, 0, 0)).eval()
    nodes = model.nodes_of(x[:2])
    changed = nodes.clone()
    changed[:, 7] += 1
    same = torch.isclose(model.layers(nodes), model.layers(changed)).all(-1)
    assert same[:, torch.arange(68) != 7].all() and not same[:, 7].any()


def test_jitter_only_while_training(x):
    points = Given()(x)
    jitter = Jitter(0.1).train()
    torch.manual_seed(0)
    moved = (jitter(points) - points) / eye_frame(points)[1].norm(dim=-1, keepdim=True)
    assert abs(moved.std() - 0.1) < 0.005 and abs(moved.mean()) < 0.005
    assert torch.equal(jitter.eval()(points), points)


@pytest.mark.parametrize("error", [0.02, 0.1])
def test_jittered_faces_err_by_what_was_asked(drawn, error):
    moved = jittered(drawn, error)
    found = landmark_error(torch.from_numpy(moved.landmarks), torch.from_numpy(drawn.landmarks))
    assert abs(found / error - 1) < 0.05 and np.array_equal(moved.frames, drawn.frames)


def test_an_untrained_finder_knows_the_mean_face_and_a_taught_one_more(drawn):
    picture, true = to_float(drawn.batch()), torch.from_numpy(drawn.landmarks)
    finder = Finder(48).eval()
    before = landmark_error(finder(picture).detach(), true)
    assert torch.equal(finder(picture), MeanFace(48)(picture))
    assert landmark_error(teach(finder, drawn, epochs=20)(picture).detach(), true) < 0.8 * before  # measured 0.55


def test_behind_a_perfect_finder_the_answer_is_that_of_given_points(drawn, x):
    model = GraphNet(nodes="given").eval()
    whole = with_finder(model, Finder(48))
    points = Given()(x)
    whole.finder.forward = lambda pictures: points
    torch.testing.assert_close(whole(to_float(drawn.batch())), model(x), atol=1e-5, rtol=1e-4)


def test_removal_of_a_node_the_answer_ignores_loses_nothing(x):
    model = GraphNet(nodes="given", hops=(0, 0, 0)).eval()
    nodes = model.nodes_of(x[:4])
    nodes[:, 20] = nodes[:, 20].mean(0)  # this one is the same for all
    target = torch.zeros(4, dtype=torch.int64)
    lost, slope = node_removal(model, nodes, target), node_saliency(model, nodes, target)
    assert lost.shape == slope.shape == (4, 68) and slope.min() >= 0 and slope.max() > 0
    assert lost[:, 20].abs().max() < 1e-6 < lost.abs().max()


def test_given_faces_train_and_the_points_matter(tmp_path):
    "A label that only the place of the mouth gives away is learned from points, and not with the mean face."
    faces = synthetic_faces(160, seed=2, mask=False)
    lifted = faces.landmarks.copy()
    lifted[::2, 48:] -= 2.5
    marked = with_landmarks(replace(faces, landmarks=lifted, labels=np.arange(160) % 2))
    found = {}
    for nodes in ("given", "mean"):
        torch.manual_seed(0)
        model = GraphNet(nodes=nodes, texture="none", width=8)
        recipe = Recipe(epochs=6, batch=16, lr=1e-2, augment=None)
        trainer = Trainer(model, recipe, tmp_path / nodes, settings=load_settings(device="cpu"), progress=False)
        found[nodes] = trainer.fit(holdout(marked)).card["val"]["war"]
    assert found["given"] > 0.9 and found["mean"] < 0.8


# ---- the trial

def test_a_trial_runs_is_paired_and_repeats_itself(tmp_path):
    plan = graph_plan("gcn-test", 1, 28, 1, ("mouth alone", "plain stack"), 0.02, "Does it run?", 14)
    settings = load_settings(device="cpu", precision="fp32")
    records = [run_trial(plan, GraphTrial(plan, settings), tmp_path / name, progress=False) for name in "ab"]
    assert records[0].fingerprint == records[1].fingerprint
    trial = GraphTrial(plan)
    assert trial.split(0) is trial.split(0) and trial.split(0).faces.fingerprint != trial.split(1).faces.fingerprint


def finding(first, second, value, spread, asleep=()):
    difference = Estimate(value, spread, 20.0, 5, 100, 700, True)
    p, inside = difference.p, difference.p_inside(0.05)
    return Finding(first, second, "new people", difference, 0.05, p, inside, asleep=asleep)


def test_verdicts_say_what_the_numbers_say():
    found = [finding("all regions", "mouth alone", 0.12, 0.01), finding("all regions", "without nose", 0.0, 0.005),
             finding("all regions", "eyes alone", 0.04, 0.05), finding("multi-scale", "no edges", 0.0, 0.005),
             finding("all regions", "brows alone", -0.04, 0.02), finding("all regions", "without outline", -0.09, 0.01)]
    said = region_verdict(found).split("\n")
    words = [line.split(": ")[1].split(" (")[0] for line in said]
    assert words == ["does not suffice", "suffices", "we could not tell", "suffices",
                     "suffices and does better than all"]  # less than five points behind, however far ahead
    assert region_verdict([]) == ""


def test_a_verdict_names_who_guesses():
    pair = ("all regions", "mouth alone")
    one = region_verdict([finding(*pair, 0.12, 0.01, asleep=pair[1:])])
    assert one.startswith("- **mouth alone**: does not suffice; mouth alone is at chance (all regions ahead by")
    assert region_verdict([finding(*pair, 0.0, 0.005, asleep=pair)]) == f"- **mouth alone**: {ASLEEP}."
    assert {plan.chance for plan in RECORDS} == {1 / 7}


@pytest.mark.parametrize("plan", RECORDS, ids=lambda plan: plan.name)
def test_plans_name_known_contestants_and_a_kept_record_belongs_to_its_plan(plan):
    assert all(contestant(name) for name in plan.conditions)
    assert set(plan.conditions) <= {*REGION_RIVALS, *PART_RIVALS, "plain stack"}
    if plan.name in record_names():
        assert load_record(plan.name).plan.fingerprint == plan.fingerprint


# ---- the league of explanations

def test_the_setup_of_the_league_makes_a_network_that_pixel_methods_can_explain():
    "From the picture to the answer there is a slope, through patches and through the finder; DeepLift has no rule."
    torch.manual_seed(0)
    model = create("gcn", 7, **NETWORKS["gcn"].arguments)
    torch.nn.init.normal_(model.finder.move.weight, std=0.01)  # as if it had learned: else it ignores the picture
    slopes = ("Saliency", "GuidedBackprop", "LayerGradCam")
    exam = examine(model, variants(drawn_params(6, 3)), (*slopes, "DeepLift"), 0, 2)
    assert set(exam.missing) == {"DeepLift"} and "GridSampler2D" in exam.missing["DeepLift"]
    assert all(exam.maps[name].abs().sum() > 0 for name in slopes)


# ---- the hop slider

@pytest.fixture
def slider(drawn):
    return HopSlider(drawn.batch(range(2)), drawn.landmarks[:2])


def test_the_slider_knows_who_is_heard(slider):
    slider.node, slider.hops = 30, 2
    distance = hop_distances(EDGES, 68)[30]
    assert slider.heard() == np.flatnonzero(distance <= 2).tolist()
    np.testing.assert_allclose(slider.weights(), hop_matrix(EDGES, 68, 2).toarray()[30])


@pytest.mark.parametrize(("name", "value"), [("node", 68), ("node", -1), ("hops", 9)])
def test_beyond_the_slider_is_refused(slider, name, value):
    with pytest.raises(traitlets.TraitError, match="it goes from 0"):
        setattr(slider, name, value)


def test_landmarks_must_fit_the_faces(drawn):
    with pytest.raises(GraphError, match=r"2 faces need landmarks of shape \[2, 68, 2\]"):
        HopSlider(drawn.batch(range(2)), drawn.landmarks[:1])


@needs_node
def test_the_browsers_own_tests_pass():
    tests = Path(__file__).with_name("hop_slider.test.mjs")
    done = subprocess.run(["node", "--test", str(tests)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:]
    assert int(re.search(r"pass (\d+)", done.stdout)[1]) >= 4


@needs_node
def test_browser_and_python_count_the_same_hops_and_weights():
    code = f"""import * as h from {json.dumps((ASSETS / "hops.mjs").as_uri())};
        const edges = {json.dumps(EDGES.tolist())};
        const both = (i) => [h.hopsFrom(edges, 68, i), h.rowOfPower(edges, 68, i, 3)];
        console.log(JSON.stringify([0, 30, 48].map(both)));"""
    done = subprocess.run(["node", "--input-type=module", "-e", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for node, (hops, row) in zip((0, 30, 48), json.loads(done.stdout), strict=True):
        assert hops == hop_distances(EDGES, 68)[node].tolist()
        np.testing.assert_allclose(row, hop_matrix(EDGES, 68, 3).toarray()[node], atol=1e-12)


def test_describe_keeps_place_and_shift_apart(x):
    "Moving one landmark changes its shift and its texture, never its place, and no other node's shift."
    points = Given()(x[:1])
    moved = points.clone()
    moved[:, 8] += 1.0
    before, after = (Describe()(x[:1, :1], at)[0] for at in (points, moved))
    assert torch.equal(before[:, :2], after[:, :2])
    assert (before[:, 2:4] != after[:, 2:4]).any(1).nonzero().flatten().tolist() == [8]
