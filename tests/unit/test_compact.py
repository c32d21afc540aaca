"""The compact network: Figure 2 by number, the memory against PyTorch's, light, clips, trials."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fer_lab.explain import NotDefined, attribute
from fer_lab.explorer import Explorer
from fer_lab.faces import NOSE, CropError, equalize, gamma, stretch
from fer_lab.faceset import FaceSet
from fer_lab.figures import alt_text, figure_bytes
from fer_lab.harmonise import COMMON6
from fer_lab.models import ModelError, count_parameters, create, problems
from fer_lab.papers.compact import (
    LIGHTS,
    MATTERS,
    RECORDS,
    RIVALS,
    SPACES_OF,
    AttentionReader,
    CompactCNN,
    DomainTrial,
    FrameToSequence,
    GatedMemory,
    GRUReader,
    LightAugment,
    NewLight,
    ReadingTrial,
    answers_by,
    beats_frame,
    domains_plan,
    drawn_clips,
    drawn_domains,
    drawn_light,
    fer2013_recipe,
    places,
    prepared,
    read_all,
    read_along,
    reading_plan,
    relight,
    relit,
    ribbons,
    shuffled,
    synthetic_recipe,
    tabled,
    through_time,
    told_frames,
    train_reader,
    trial_of,
    within,
)
from fer_lab.receptive import ledger, receptive_field
from fer_lab.report import predict
from fer_lab.sequences import synthetic_sequences
from fer_lab.settings import load_settings
from fer_lab.synthetic import synthetic_faces
from fer_lab.trial import ASLEEP, Estimate, Finding, load_record, record_names, run_trial

TINY = {"widths": (4, 4), "hidden": 16, "size": 48, "dropout": 0.0}
SETTINGS = load_settings(device="cpu", precision="fp32")


def some(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def clips():
    return drawn_clips(8, seed=5, frames=(4, 6))


FIGURE_2 = [  # output, parameters
    ((64, 96, 96), 1_664), ((64, 96, 96), 102_464), ((64, 48, 48), 0), ((64, 48, 48), 102_464), ((64, 48, 48), 102_464),
    ((64, 24, 24), 0), ((64,), 2_359_360), ((64,), 4_160), ((7,), 455),
]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 2_673_031), ({"num_classes": 6}, 2_672_966), ({"widths": (16, 32)}, 1_229_623),
        ({"activation": "prelu"}, 2_673_031 + 256),
    ],
)
def test_parameter_counts(arguments, expected):
    assert count_parameters(create("compact", **arguments)) == expected


def test_layer_by_layer_it_is_figure_2():
    table = ledger(CompactCNN(), (1, 96, 96))
    main = table[table.kind.isin(["Conv2d", "MaxPool2d", "Linear"])]
    assert [(tuple(row.output), row.parameters) for row in main.itertuples()] == FIGURE_2


@pytest.mark.parametrize("activation, kind", [("relu", nn.ReLU), ("prelu", nn.PReLU)])
@pytest.mark.parametrize("widths", [(64, 64), (16, 32)])
def test_receptive_field_is_28_not_36(activation, kind, widths):
    model = CompactCNN(widths=widths, activation=activation)
    field = receptive_field(model, (1, 96, 96), "features")
    assert (field.size, field.jump) == (28, 4)
    assert sum(type(module) is kind for module in model.stages.modules()) == 4


@pytest.mark.parametrize("arguments", [{}, {"activation": "prelu"}, {"widths": (16, 32), "size": 48, "in_channels": 3}])
def test_it_keeps_the_rules_of_this_lab(arguments):
    model = create("compact", **arguments)
    shape = (arguments.get("in_channels", 1), *[arguments.get("size", 96)] * 2)
    assert problems(model, shape) == []
    assert model.eval()(torch.zeros(2, *shape)).shape == (2, 7)


def test_dropout_of_0_6_after_both_small_layers_works_in_training_only():
    model, x = CompactCNN(), torch.randn(2, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.6, 0.6]
    assert not torch.equal(model.train()(x), model(x)) and torch.equal(model.eval()(x), model(x))


def test_every_number_gets_a_gradient():
    model = CompactCNN(activation="prelu").eval()
    model(torch.randn(2, 1, 96, 96)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("given, said", [({"activation": "gelu"}, "relu, prelu.*'gelu'"),
                                         ({"init": "zeros"}, "torch, kaiming.*'zeros'")])
def test_an_unknown_choice_is_refused(given, said):
    with pytest.raises(ModelError, match=said):
        CompactCNN(**given)


@pytest.mark.parametrize("shape, said", [
    ((1, 48, 48), "made for faces of 1 × 96 × 96.*have 1 × 48 × 48.*--set size=48"),
    ((3, 96, 96), "have 3 × 96 × 96.*in_channels=3"),
])
def test_faces_of_another_size_are_refused_with_the_remedy(shape, said):
    with pytest.raises(ModelError, match=said):
        CompactCNN()(torch.zeros(2, *shape))


def test_a_signal_keeps_its_size_with_kaimings_first_weights_and_shrinks_with_pytorchs():
    torch.manual_seed(0)
    x = some(16, 1, 96, 96)
    kept, lost = (CompactCNN(init=init, widths=(16, 32)).eval().stages(x).std() for init in ("kaiming", "torch"))
    assert 0.3 < kept < 3 and lost < 0.1 * kept


# ---- preparation


def test_each_frame_is_cropped_around_its_own_nose(clips):
    raw = synthetic_sequences(2, 64, seed=1, space=COMMON6, frames=(4, 5), channels=3)
    faces = prepared(raw, 48)
    assert faces.shape == (1, 48, 48) and np.array_equal(faces.spans, raw.spans) and faces.frames.dtype == np.uint8
    assert np.allclose(faces.landmarks[:, NOSE], 23.5, atol=0.01)
    inner = faces.landmarks[:, 17:68]
    sides = (inner.max(1) - inner.min(1)).max(1)
    assert np.allclose(sides, 60 / 1.05, atol=0.01)  # the square of 60 pixels is 1.05 times the larger extent


def test_grey_is_the_luma_of_the_colours():
    grey = np.random.default_rng(0).integers(0, 256, (3, 1, 48, 48), np.uint8)
    points = synthetic_faces(3, 48, mask=False).landmarks
    one = FaceSet("one", grey, [0, 1, 2], COMMON6, landmarks=points)
    three = replace(one, frames=np.repeat(grey, 3, 1))
    assert np.abs(prepared(three, 48).frames.astype(int) - prepared(one, 48).frames).max() <= 1


def test_without_landmarks_the_crop_says_what_is_missing(clips):
    with pytest.raises(CropError, match="no 68 landmarks"):
        prepared(replace(clips, landmarks=None))


# ---- the memory


def twins(inputs=7, hidden=128, seed=0):
    """PyTorch's GRU and ours with the same weights."""
    torch.manual_seed(seed)
    trusted, ours = nn.GRU(inputs, hidden, batch_first=True), GatedMemory(inputs, hidden, "after")
    ours.load_state_dict({name.removesuffix("_l0"): value for name, value in trusted.state_dict().items()})
    return trusted, ours


@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 6), st.integers(0, 99))
def test_with_the_reset_after_it_is_pytorchs_gru(clips, frames, hidden, seed):
    trusted, ours = twins(3, hidden, seed)
    told = some(clips, frames, 3, seed=seed)
    theirs = [told.clone().requires_grad_() for _ in range(2)]
    outputs = [model(x)[0] for model, x in zip((trusted, ours), theirs)]
    assert torch.allclose(*outputs, atol=1e-6)
    for output in outputs:
        output.square().sum().backward()
    assert torch.allclose(theirs[0].grad, theirs[1].grad, atol=1e-5)
    assert torch.allclose(trusted.weight_hh_l0.grad, ours.weight_hh.grad, atol=1e-5)


def test_before_and_after_agree_where_the_order_cannot_matter():
    """If U of the proposal only scales, it does not matter whether the reset comes before or after it."""
    trusted, after = twins(4, 6)
    before = GatedMemory(4, 6, "before")
    with torch.no_grad():
        trusted.weight_hh_l0[12:] = 0.7 * torch.eye(6)
        trusted.bias_hh_l0[:] = 0
        for name, value in (("weight_ih", trusted.weight_ih_l0), ("weight_hh", trusted.weight_hh_l0),
                            ("bias_ih", trusted.bias_ih_l0)):
            getattr(before, name).copy_(value)
    told = some(2, 7, 4)
    assert torch.allclose(before(told)[0], trusted(told)[0], atol=1e-6)
    with torch.no_grad():
        trusted.weight_hh_l0[12:] = some(6, 6)
        before.weight_hh.copy_(trusted.weight_hh_l0)
    assert not torch.allclose(before(told)[0], trusted(told)[0], atol=1e-3)  # in general they differ


def test_the_reset_before_by_the_formula_of_cho():
    memory = GatedMemory(2, 3).double()
    told = some(1, 5, 2).double()
    W, U, b = (p.detach().numpy() for p in (memory.weight_ih, memory.weight_hh, memory.bias_ih))
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    h, states, gates = np.zeros(3), [], []
    for p in told[0].numpy():
        r = sigmoid(W[:3] @ p + U[:3] @ h + b[:3])
        z = sigmoid(W[3:6] @ p + U[3:6] @ h + b[3:6])
        n = np.tanh(W[6:] @ p + U[6:] @ (r * h) + b[6:])
        h = (1 - z) * n + z * h
        states.append(h)
        gates.append((r, z))
    found = [part[0].detach().numpy() for part in memory(told)]
    assert np.allclose(found[0], states) and np.allclose(found[1:], np.moveaxis(gates, 0, 1))


@pytest.mark.parametrize("kind", [GRUReader, AttentionReader])
def test_a_clip_is_read_alike_alone_and_among_longer_ones(kind):
    torch.manual_seed(0)
    reader = kind(5)
    told = [some(length, 5, seed=length).softmax(1) for length in (2, 9, 1, 6)]
    table, lengths = tabled(told)
    together = reader(table, lengths)
    alone = torch.cat([reader(each[None]) for each in told])
    assert torch.allclose(together, alone, atol=1e-6)
    spoilt = table.masked_fill(~within(lengths, 9)[..., None], 1e3).requires_grad_()
    assert torch.allclose(reader(spoilt, lengths), alone, atol=1e-6)  # free places are never read
    reader(spoilt, lengths).square().sum().backward()
    assert not spoilt.grad[~within(lengths, 9)].any() and spoilt.grad[within(lengths, 9)].abs().sum(1).gt(0).all()


def test_an_open_update_gate_keeps_the_state_and_a_shut_one_forgets():
    reader = GRUReader(4, 8)
    hidden = 8
    with torch.no_grad():
        reader.memory.bias_ih[hidden:2 * hidden] = 60
    told = some(1, 6, 4)
    assert reader.memory(told)[0].abs().max() < 1e-6  # it starts empty and lets nothing in
    with torch.no_grad():
        reader.memory.bias_ih[hidden:2 * hidden] = -60
        reader.memory.weight_hh.zero_()
    changed = told.clone()
    changed[:, :-1] += 1
    assert torch.allclose(reader(told), reader(changed))  # only the last frame counts


@pytest.mark.parametrize(("reset", "expected"), [("before", 52_224), ("after", 52_608)])
def test_a_gru_is_no_17_thousand_numbers(reset, expected):
    memory = GatedMemory(7, 128, reset)
    assert count_parameters(memory) == expected
    one_gate = memory.weight_ih[:128].numel() + memory.weight_hh[:128].numel() + 128
    assert one_gate == 17_408 and 3 * one_gate == 52_224


def test_an_unknown_reset_or_reader_is_refused():
    with pytest.raises(ModelError, match="before, after.*'never'"):
        GatedMemory(3, reset="never")
    with pytest.raises(ModelError, match="gru, attention.*'lstm'"):
        FrameToSequence(reader="lstm", **TINY)


# ---- back through time


@given(st.integers(1, 8), st.integers(1, 5), st.integers(0, 99))
def test_the_gradient_by_hand_is_autograds(frames, hidden, seed):
    torch.manual_seed(seed)
    memory = GatedMemory(3, hidden).double()
    told, last = some(frames, 3, seed=seed).double().requires_grad_(), some(hidden, seed=seed + 1).double()
    states = memory(told[None])[0][0]
    (states[-1] @ last).backward()
    found = through_time(memory, told.detach(), last)
    assert torch.allclose(found["told"], told.grad, atol=1e-12)
    for name, parameter in memory.named_parameters():
        assert torch.allclose(found[name], parameter.grad, atol=1e-12), name
    assert torch.equal(found["states"][-1], last)


def test_the_hand_made_gradient_refuses_the_other_gru():
    with pytest.raises(ModelError, match="resets after"):
        through_time(GatedMemory(3, 4, "after"), some(2, 3), some(4))


# ---- readers


def test_the_attention_is_pytorchs():
    torch.manual_seed(0)
    reader, trusted = AttentionReader(5, 16), nn.MultiheadAttention(16, 1, batch_first=True)
    trusted.load_state_dict({"in_proj_weight": reader.ask.weight, "in_proj_bias": reader.ask.bias,
                             "out_proj.weight": reader.mix.weight, "out_proj.bias": reader.mix.bias})
    told, lengths = tabled([some(length, 5, seed=length) for length in (4, 7)])
    frames = reader.embed(told) + places(7, 16)
    there = within(lengths, 7)
    heard = frames + trusted(frames, frames, frames, key_padding_mask=~there)[0]
    mean = (heard * there[..., None]).sum(1) / lengths[:, None]
    assert torch.allclose(reader(told, lengths), reader.head(mean), atol=1e-5)


@pytest.mark.parametrize("kind", [GRUReader, AttentionReader])
def test_both_readers_hear_the_order(kind):
    torch.manual_seed(0)
    reader, told = kind(4), some(1, 6, 4).softmax(-1)
    assert not torch.allclose(reader(told), reader(told.flip(1)), atol=1e-4)


def test_without_its_places_attention_hears_no_order(monkeypatch):
    monkeypatch.setattr("fer_lab.papers.compact.places", lambda count, width: torch.zeros(count, width))
    torch.manual_seed(0)
    reader, told = AttentionReader(4), some(1, 6, 4).softmax(-1)
    assert torch.allclose(reader(told), reader(told.flip(1)), atol=1e-6)


def made_up(n, rising, seed):
    """Clips of two numbers a frame: sorted upwards or downwards, so that only the order tells the class."""
    rng = np.random.default_rng(seed)
    told = []
    for up in rising:
        values = np.sort(rng.uniform(0, 1, rng.integers(5, 9)))[::1 if up else -1]
        told.append(torch.tensor(np.stack([values, 1 - values], 1), dtype=torch.float32))
    return told


def test_a_gru_learns_what_only_the_order_tells_and_shuffling_takes_it_away():
    labels = np.arange(120) % 2
    told, test = made_up(120, labels, 0), made_up(40, labels[:40], 1)
    right = {}
    for name, change in (("in order", list), ("shuffled", lambda each: shuffled(each, 3))):
        torch.manual_seed(0)
        reader = GRUReader(2, 16)
        history = train_reader(reader, change(told), labels, change(test), labels[:40], epochs=16, lr=2e-2)
        right[name] = (read_all(reader, change(test)).argmax(1) == labels[:40]).mean()
        best = history.loc[history.val_loss.idxmin(), "val_war"]
        assert right[name] == pytest.approx(best)  # the kept epoch is the one with the lowest loss
    assert right["in order"] > 0.95 and right["shuffled"] < 0.75


def test_shuffling_keeps_the_frames():
    told = [some(5, 3), some(1, 3)]
    mixed = shuffled(told, 0)
    assert all(torch.equal(a.sort(0).values, b.sort(0).values) for a, b in zip(told, mixed))
    assert not torch.equal(told[0], mixed[0]) and torch.equal(shuffled(told, 0)[0], mixed[0])


def test_every_frame_of_every_clip_is_told(clips):
    model = CompactCNN(6, **TINY)
    told = told_frames(model, clips)
    assert [len(each) for each in told] == np.diff(clips.spans)[:, 0].tolist()
    assert np.allclose(told[3], predict(model, clips.subset([3]).each_frame()), atol=1e-6)
    assert len(told_frames(model, clips.peaks())[0]) == 1


# ---- frame to sequence


def test_counts_and_field_of_the_whole():
    whole = create("compact-gru")
    assert isinstance(whole, FrameToSequence) and count_parameters(whole) == 2_726_158
    assert count_parameters(create("compact-gru", reader="attention")) == 2_673_031 + 52_311
    assert receptive_field(whole, (1, 1, 96, 96), "features").size == 28
    assert ledger(whole, (2, 1, 96, 96)).parameters.sum() == 2_726_158


@pytest.mark.parametrize("reader", ["gru", "attention"])
@pytest.mark.parametrize("frames", [1, 4, 11])
def test_it_takes_clips_of_any_length_and_a_still_is_a_clip_of_one_frame(reader, frames):
    torch.manual_seed(0)
    model = FrameToSequence(5, reader, **TINY).eval()
    assert frames > 1 or problems(model, (1, 48, 48)) == []
    assert frames != 4 or problems(model, (4, 1, 48, 48)) == []
    x = some(2, frames, 1, 48, 48)
    assert model(x).shape == (2, 5)
    apart = model.reader(torch.stack([model.frame(clip).softmax(1) for clip in x]))
    assert torch.allclose(model(x), apart, atol=1e-6)
    assert torch.allclose(model(x[:, 0]), model(x[:, :1]), atol=1e-6)


def test_every_frame_of_a_clip_can_be_explained():
    torch.manual_seed(0)
    model, x = FrameToSequence(4, **TINY).eval(), some(1, 3, 1, 48, 48)
    heat = attribute(model, x, "Saliency")
    assert heat.shape == (1, 3, 48, 48) and heat.flatten(2).sum(2).gt(0).all()
    with pytest.raises(NotDefined, match="no rule for GatedMemory"):
        attribute(model, x, "DeepLift")


@pytest.mark.parametrize("reader", ["gru", "attention"])
def test_the_explorer_walks_into_it(reader):
    clips = [np.random.default_rng(n).integers(0, 256, (n, 1, 48, 48), np.uint8) for n in (2, 3)]
    model = FrameToSequence(6, reader, **TINY).eval()
    explorer = Explorer(model, clips, COMMON6.classes, block="frame.stages.0", frame=1, methods=["Saliency"])
    explorer.looking.wait()
    explorer.heating.wait()
    paths = {block["path"]: block for block in explorer.network["sides"][0]["blocks"]}
    assert {"frame.stages.0.conv1", "softmax", "reader"} <= set(paths) and explorer.moving
    assert "error" not in explorer.heat and not explorer.network["sides"][0]["missing"]
    assert {len(explorer.stored_heat(0, 1, method)["own"]) for method in ("Saliency", "LayerGradCam")} == {6}


# ---- light


def test_no_change_of_light_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 20, 20), np.uint8)
    assert np.array_equal(relight(pixels, torch.tensor([[0, 0, 1, 0, 0.0]] * 3)), pixels)


def test_the_blend_and_gamma_are_those_of_the_library():
    pixels = np.random.default_rng(1).integers(20, 200, (4, 1, 24, 24), np.uint8)
    lights = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 1, 0, 1], [0, 0, 0.6, 0, 0], [0, 0, 1, 0.5, 1]]).float()
    found, halves = relight(pixels, lights), (equalize(pixels).astype(float) + stretch(pixels)) / 2
    assert np.array_equal(found[0], equalize(pixels)[0]) and np.array_equal(found[1], stretch(pixels)[1])
    bent = np.abs(found[2].astype(int) - gamma(pixels, 0.6)[2])
    assert bent.max() <= 1 and bent.mean() < 0.01  # a half may be rounded either way
    assert np.abs(found[3] - halves[3]).max() <= 0.51


def test_a_slope_darkens_one_side():
    flat = np.full((1, 1, 11, 11), 100, np.uint8)
    lit = relight(flat, torch.tensor([[0.5, 0, 1, 0, 0.0]]))[0, 0]
    assert (lit[:, 0] == 50).all() and (lit[:, 5] == 100).all() and (lit[:, -1] == 150).all()
    down = relight(flat, torch.tensor([[0, -0.5, 1, 0, 0.0]]))[0, 0]
    assert (down[0] == 150).all() and (down[-1] == 50).all()


@given(st.floats(0, 0.9), st.floats(0, 2), st.integers(0, 50))
def test_light_stays_within_what_was_allowed(slope, bend, seed):
    right, down, power, weight, mixed = drawn_light(
        LightAugment(slope, bend, 0.5), 200, torch.Generator().manual_seed(seed)).unbind(1)
    assert (right.abs() + down.abs()).max() <= slope + 1e-5
    assert 2**-bend - 1e-5 <= power.min() and power.max() <= 2**bend + 1e-5
    assert 0 <= weight.min() and weight.max() <= 1 and 0.3 < mixed.mean() < 0.7


def test_all_frames_of_a_clip_share_their_light(clips):
    still = clips.moments(np.zeros((len(clips), 3), int))  # each clip three times the same frame
    before, lit = still.frames.copy(), relit(still, LightAugment(), 1)
    assert all((lit.sequence(i) == lit.sequence(i)[0]).all() for i in range(len(lit)))
    changed = [(lit.sequence(i) != still.sequence(i)).mean() for i in range(len(lit))]
    assert np.mean(changed) > 0.5 and np.array_equal(still.frames, before)  # a FaceSet is immutable
    assert np.array_equal(lit.labels, still.labels) and np.array_equal(lit.landmarks, still.landmarks)
    assert relit(still, LightAugment(), 1).fingerprint == lit.fingerprint != relit(still, LightAugment(), 2).fingerprint


def test_every_epoch_has_its_own_light_and_afterwards_all_is_as_it_was(clips):
    trainer = SimpleNamespace(train=clips.peaks(), epoch=0)
    callback, seen = NewLight(LightAugment(), seed=3), []
    callback.on_fit_start(trainer)
    for trainer.epoch in (0, 1, 0):
        callback.on_epoch_start(trainer)
        seen.append(trainer.train.fingerprint)
    callback.on_fit_end(trainer)
    assert seen[0] == seen[2] != seen[1] and trainer.train.fingerprint == clips.peaks().fingerprint
    assert callback.config["light"]["gamma"] == LightAugment().gamma


# ---- clips, domains, trials


def test_the_same_clips_under_every_light():
    drawn = {light: drawn_clips(3, seed=2, light=light, frames=(4, 5)) for light in LIGHTS}
    first = drawn["light of training"]
    for light, clips in drawn.items():
        assert np.allclose(clips.landmarks, first.landmarks) and np.array_equal(clips.spans, first.spans)
        assert clips.meta["apex"].equals(first.meta["apex"])
        assert light == "light of training" or not np.array_equal(clips.frames, first.frames)
    assert drawn["dim"].frames.mean() < 0.7 * first.frames.mean()


@pytest.fixture(scope="module")
def domains():
    return drawn_domains(16)


def test_four_label_spaces_become_one_and_what_is_lost_is_listed(domains):
    assert [faces.space.name for faces in domains.sets] == ["common-6"] * 4
    lost = domains.dropped
    assert set(zip(lost["set"], lost["class"])) == {("domain B", "contempt"), ("domain C", "neutral"),
                                                    ("domain D", "neutral"), ("domain D", "contempt")}
    joined = domains.joined("four domains")
    assert joined.meta.groupby("subject")["domain"].nunique().max() == 1


@pytest.mark.filterwarnings("ignore::fer_lab.splits.MissingClass")
def test_a_domain_is_left_out_whole_and_both_conditions_start_alike(domains, tmp_path):
    plan = domains_plan("compact-test", seeds=1, faces=16, epochs=1, domains=("B", "D"), network=TINY)
    trial = DomainTrial(plan, SETTINGS, domains.joined("four domains"))
    for test, fold in trial.folds.items():
        left = fold.faces.meta["domain"].to_numpy()
        assert set(left[fold.test_index]) == {test[-1]} and test[-1] not in left[fold.train_index]
        assert test[-1] not in left[fold.val_index]
    record = run_trial(plan, trial, tmp_path, progress=False)
    assert len(record.runs) == 2 and record.panels["domain B"].people is not None
    assert record.splits("new light", "domain B") == record.splits("light as it is", "domain B")


@pytest.mark.filterwarnings("ignore::fer_lab.splits.MissingClass")
def test_all_rivals_read_the_same_frames_and_a_trial_goes_on_where_it_stopped(tmp_path):
    plan = reading_plan("reading-test", seeds=1, clips=16, epochs=1, reader_epochs=1, test_clips=5,
                        lights=("light of training", "dim"), network=TINY)
    trial = ReadingTrial(plan, SETTINGS)
    told = trial.tables(0)
    frames = {name: answers_by(trial, name, 0)["dim"] for name in RIVALS}
    apex = trial.tests["dim"].meta["apex"]
    assert np.allclose(frames["mean of frames"][2], told["dim"][2].mean(0))
    assert np.allclose(frames["peak frame"][4], told["dim"][4][apex.iloc[4]])
    assert all(np.allclose(each.sum(1), 1, atol=1e-5) for each in frames.values())
    record = run_trial(plan, trial, tmp_path, progress=False)
    fresh = ReadingTrial(plan, SETTINGS)
    again = {name: answers_by(fresh, name, 0)["dim"] for name in ("self-attention",)}  # in another order
    assert all(np.allclose(again[name], frames[name], atol=1e-5) for name in again)
    assert set(record.plan.conditions) == set(RIVALS) and record.panels["dim"].images == 5


@pytest.mark.parametrize("recipe", [synthetic_recipe, fer2013_recipe])
def test_a_recipe_fits_its_network(recipe):
    switches, how = recipe()
    model = CompactCNN(**switches).eval()
    assert model(some(1, 1, 48, 48)).shape == (1, 7) and how.epochs > 0
    assert count_parameters(model) == {synthetic_recipe: 163_583, fer2013_recipe: 903_559}[recipe]


def test_the_domains_are_those_of_the_drawn_faces():
    assert tuple(SPACES_OF) == ("A", "B", "C", "D")


def finding(second, value, spread, test="light of training"):
    difference = Estimate(value, spread, 20.0, 10, 100, 700, True)
    return Finding("GRU", second, test, difference, MATTERS, difference.p, difference.p_inside(MATTERS))


@pytest.mark.parametrize(("peak", "mixed", "expected"), [
    ((0.08, 0.005), (0.10, 0.005), True),
    ((0.0, 0.002), (0.10, 0.005), False),  # no better than one well chosen frame
    ((0.08, 0.005), (0.0, 0.002), False),  # the order is not used
    ((0.08, 0.005), (0.0, 0.05), None),
    ((-0.2, 0.01), (0.0, 0.05), False),  # one frame is better: whatever the order does
])
def test_the_verdict_needs_the_peak_and_the_order(peak, mixed, expected):
    told = [finding("peak frame", *peak), finding("GRU, frames shuffled", *mixed)]
    told.append(finding("mean of frames", 0.2, 0.001))
    assert beats_frame(told) is expected and beats_frame([]) is None


@pytest.mark.parametrize("peak", ["better", ASLEEP, "we could not tell"])
def test_who_guesses_is_not_read_as_a_win(peak):
    asleep = {ASLEEP: ("GRU", "peak frame"), "better": ("peak frame",)}.get(peak, ())
    spread = 0.5 if peak == "we could not tell" else 0.005
    told = [replace(finding("peak frame", 0.08, spread), asleep=asleep), finding("GRU, frames shuffled", 0.1, 0.005)]
    assert told[0].verdict == peak and beats_frame(told) is (True if peak == "better" else None)


@pytest.mark.parametrize("plan", RECORDS, ids=lambda plan: plan.name)
def test_each_plan_knows_how_often_a_blind_answer_is_right(plan):
    assert plan.chance == pytest.approx(1 / 6)


def test_each_plan_finds_its_trial(monkeypatch):
    made = {kind: monkeypatch.setattr(f"fer_lab.papers.compact.{kind}", lambda plan, settings, kind=kind: kind)
            for kind in ("DomainTrial", "ReadingTrial")}
    assert [trial_of(plan) for plan in RECORDS] == list(made)


@pytest.mark.parametrize("plan", RECORDS, ids=lambda plan: plan.name)
def test_a_kept_record_belongs_to_its_plan(plan):
    if plan.name not in record_names():
        pytest.skip(f"{plan.name} has not been recorded")
    assert load_record(plan.name).plan.fingerprint == plan.fingerprint


# ---- views


def test_the_ribbons_show_what_was_heard():
    torch.manual_seed(0)
    reader = GRUReader(6)
    told = {name: some(length, 6, seed=length).softmax(1) for name, length in (("a", 4), ("b", 9))}
    heard = {name: read_along(reader, each) for name, each in told.items()}
    assert np.allclose(heard["b"]["answers"][-1], reader(told["b"][None]).softmax(1)[0].detach(), atol=1e-5)
    figure = ribbons(heard, COMMON6.classes, "A finding")
    assert [frame.name for frame in figure.frames] == ["a", "b"] and len(figure.layout.sliders[0].steps) == 2
    drawn = {(trace.stackgroup, trace.name): trace for trace in figure.frames[1].data[:-1]}
    assert np.allclose(drawn["told", "anger"].y, told["b"][:, 0], atol=1e-3)
    gates = figure.frames[1].data[-1]
    assert np.shape(gates.z) == (24, 9) and figure_bytes(figure) < 50_000 and "9 frames" in alt_text(figure)
