// The parts of the widgets that need no browser. Run by test_widgets.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import * as geometry from "../../fer_lab/assets/geometry.mjs";
import { between, interpolated } from "../../fer_lab/assets/lattice.mjs";
import { LIMITS, dragged, inWords, pinched, pressed, winner, within } from "../../fer_lab/assets/moves.mjs";
import { borders, colourScale, drops, finding, nearest, strongest, worstOf } from "../../fer_lab/assets/occlusion.mjs";
import { schemeOf, shared } from "../../fer_lab/assets/parts.mjs";
import { frozenModel } from "../../fer_lab/assets/frozen.mjs";

const START = { rotation: 0, scale: 1, x: 0, y: 0, rest: [1, 0, 0, 1] };
const near = (one, other, tolerance = 1e-9) =>
  assert.ok([one].flat().every((value, i) => Math.abs(value - [other].flat()[i]) <= tolerance), `${one} is not ${other}`);

// A repeatable source of numbers between -1 and 1.
function dice(seed) {
  let state = seed;
  return () => { state = (state * 48271) % 2147483647; return (2 * state) / 2147483647 - 1; };
}

test("a theta survives being taken apart and put together", () => {
  const roll = dice(7);
  for (let n = 0; n < 500; n++) {
    const theta = Array.from({ length: 6 }, roll);
    near(geometry.thetaOf(geometry.partsOf(theta)), theta, 1e-7);
  }
});

test("turn, scale and shift are found again, and nothing is left over", () => {
  const parts = geometry.partsOf(geometry.thetaOf({ rotation: 30, scale: 1.5, x: 0.2, y: -0.4 }));
  near([parts.rotation, parts.scale, parts.x, parts.y], [30, 1.5, 0.2, -0.4]);
  assert.deepEqual(parts.rest, [1, 0, 0, 1]);
});

test("shear stays with the frame while it is turned", () => {
  const sheared = geometry.partsOf([1, 0.3, 0, 0, 1, 0]);
  assert.ok(!geometry.isPlain(sheared.rest));
  const turned = geometry.partsOf(geometry.thetaOf({ ...sheared, rotation: sheared.rotation + 20 }));
  near(turned.rest, sheared.rest, 1e-9);
});

test("a frame that has collapsed to a point or a line gives no NaN", () => {
  for (const theta of [[0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 0.2, 1, 1, 0]]) {
    const parts = geometry.partsOf(theta);
    assert.ok([parts.rotation, parts.scale, ...parts.rest, ...geometry.thetaOf(parts)].every(Number.isFinite));
  }
});

test("a positive turn goes clockwise on the screen", () => {
  const [x, y] = geometry.apply(geometry.thetaOf({ ...START, rotation: 90 }), [1, 0]);
  near([x, y], [0, 1]); // y points down
});

test("the identity returns the picture, a shift of one pixel moves it by one, outside is mid grey", () => {
  const picture = Uint8Array.from({ length: 20 }, (_, i) => 12 * i); // 4 rows, 5 columns
  assert.deepEqual([...geometry.warp(picture, 4, 5, geometry.IDENTITY)], [...picture]);
  const moved = geometry.warp(picture, 4, 5, [1, 0, 2 / 5, 0, 1, 0]);
  assert.deepEqual([...moved.slice(0, 5)], [12, 24, 36, 48, 128]);
});

test("inside the frame is inside, also when it is turned or mirrored", () => {
  const turned = geometry.thetaOf({ ...START, rotation: 45, scale: 0.5 });
  assert.ok(geometry.inside(turned, [0, 0.6]) && !geometry.inside(turned, [0.45, 0.45]));
  const mirrored = [-0.5, 0, 0, 0, 0.5, 0];
  assert.ok(geometry.inside(mirrored, [0.4, 0.4]) && !geometry.inside(mirrored, [0.6, 0]));
});

test("a press takes hold of what is under it", () => {
  const view = geometry.stage(300, 300, 1.25); // one unit is 120 pixels, the middle at 150
  const grip = (point) => geometry.grip(geometry.IDENTITY, view, point);
  assert.equal(grip([150, 150]), "move");
  assert.equal(grip([272, 28]), "scale"); // upper right corner at (270, 30)
  assert.equal(grip([150, 10]), "turn"); // above the upper edge, kept inside the area
  assert.equal(grip([5, 150]), null);
});

test("handles of a frame larger than the area can still be reached", () => {
  const view = geometry.stage(300, 300, 1.25);
  const { corners, knob } = geometry.handles(geometry.thetaOf({ ...START, scale: 2, rotation: 10 }), view);
  for (const [x, y] of [...corners, knob]) assert.ok(x >= 10 && x <= 290 && y >= 10 && y <= 290);
});

test("screen and input coordinates are inverse", () => {
  const view = geometry.stage(320, 240, 1.3);
  near(view.toPlace(view.toScreen([0.3, -0.7])), [0.3, -0.7]);
});

test("dragging moves with the pointer, scales by the distance, turns by the angle", () => {
  near(dragged(START, "move", [0.1, 0.1], [0.3, 0], LIMITS).x, 0.2);
  near(dragged(START, "scale", [1, 0], [0.5, 0], LIMITS).scale, 0.5);
  near(dragged(START, "turn", [0, -1], [1, -1], LIMITS).rotation, 45);
});

test("turning past the back of the circle does not jump to the other side", () => {
  const parts = { ...START, rotation: 80 };
  near(dragged(parts, "turn", [-1, 0.05], [-1, -0.05], LIMITS).rotation, 80 + (2 * Math.atan(0.05) * 180) / Math.PI, 1e-6);
  assert.equal(dragged(parts, "turn", [0, -1], [1, 0], LIMITS).rotation, LIMITS.rotation[1]);
});

test("two fingers scale, turn and move at once", () => {
  const after = pinched(START, [[-0.5, 0], [0.5, 0]], [[0.1, -1], [0.1, 1]], LIMITS);
  near([after.rotation, after.scale, after.x, after.y], [90, 2, 0.1, 0]);
});

test("keys move by small steps, with Shift by large ones, never beyond the limits", () => {
  near(pressed(START, "ArrowLeft").x, -0.02);
  near(pressed(START, "ArrowDown", true).y, 0.1);
  near(pressed(START, "]").rotation, 1);
  assert.ok(pressed(START, "+").scale > 1 && pressed(START, "-").scale < 1);
  assert.equal(pressed(START, "q"), null);
  near(pressed({ ...START, x: 0.99 }, "ArrowRight", true, { ...LIMITS, x: [-1, 1] }).x, 1);
  near(within({ ...START, scale: 9 }).scale, LIMITS.scale[1]);
});

test("plus and minus undo each other", () => near(pressed(pressed(START, "+"), "-").scale, 1));

test("a position is described in words", () => {
  assert.equal(inWords(START), "the whole picture, upright");
  assert.equal(inWords({ rotation: -12, scale: 0.8, x: 0.2, y: 0 }), "turned 12° anticlockwise, 0.80 times the size, 10 % right");
});

test("the winner is the most likely class, and unknown stays unknown", () => {
  assert.deepEqual(winner([0.2, 0.5, 0.3]), { index: 1, probability: 0.5 });
  assert.equal(winner(null), null);
});

test("a lattice gives its own values at its points, and holds the last one beyond its ends", () => {
  const axes = [{ low: 0, high: 2, steps: 3 }, { low: -1, high: 1, steps: 2 }];
  const values = Uint8Array.from([10, 245, 30, 225, 50, 205, 70, 185, 90, 165, 110, 145]); // 3 x 2 points, two classes
  near(interpolated(values, axes, [1, -1], 2), [50 / 255, 205 / 255]);
  near(interpolated(values, axes, [0.5, 0], 2), [40 / 255, 215 / 255]);
  near(interpolated(values, axes, [99, 99], 2), [110 / 255, 145 / 255]);
  assert.deepEqual(between(5, { low: 1, high: 1, steps: 1 }), [0, 0, 0]);
});

test("a page's stand-in for Python answers once for each save, and forgets those who left", async () => {
  const model = frozenModel({ theta: 1 }, (get) => get("theta") * 2);
  let heard = 0;
  const listener = () => { heard += model.get("answer"); };
  model.on("change:answer", listener);
  model.set("theta", 4);
  model.save_changes();
  await Promise.resolve();
  assert.equal(heard, 8);
  model.off("change:answer", listener);
  model.save_changes();
  await Promise.resolve();
  assert.equal(heard, 8);
});

test("each place of a map belongs to the square whose middle is closest", () => {
  const starts = [0, 4, 8, 12, 14]; // 22 pixels, window 8, step 4: the last one reaches the edge
  assert.deepEqual(borders(starts, 8), [2, 6, 10, 14, 17, 19]);
  for (let pixel = 0; pixel < 22; pixel++) {
    const chosen = nearest(pixel + 0.5, starts, 8);
    const cell = borders(starts, 8);
    if (pixel + 0.5 > cell[0] && pixel + 0.5 < cell.at(-1)) assert.ok(cell[chosen] <= pixel + 0.5 && pixel + 0.5 <= cell[chosen + 1]);
  }
  assert.deepEqual(borders([3], 4), [3, 7]); // a single place
});

test("what hiding costs is counted for the watched class", () => {
  const table = Uint8Array.from([51, 204, 255, 0, 102, 153]); // three places, two classes
  near(drops(table, [0.6, 0.4], 0), [0.4, -0.4, 0.2]);
  near(drops(table, [0.6, 0.4], 1), [-0.4, 0.4, -0.2]);
  assert.equal(worstOf([0.4, -0.4, 0.2]), 0);
  near(strongest([0.4, -0.5]), 0.5);
  near(strongest([0.001, -0.002]), 0.1); // noise is not blown up to full colour
});

test("the colour scale is empty at zero and grows to its two ends", () => {
  const scale = colourScale([[0, "rgba(0,0,200,1)"], [0.5, "rgba(100,100,200,0)"], [0.5, "rgba(200,100,0,0)"], [0.75, "rgba(200,80,0,0.6)"], [1, "rgba(200,0,0,1)"]]);
  assert.deepEqual(scale(0), [0, 0, 0, 0]);
  near(scale(1), [200, 0, 0, 1]);
  near(scale(-1), [0, 0, 200, 1]);
  near(scale(0.5), [200, 80, 0, 0.6]);
  near(scale(0.25), [200, 90, 0, 0.3]);
  near(scale(-0.5), [50, 50, 200, 0.5]);
  near(scale(7), [200, 0, 0, 1]);
});

test("the finding is a sentence", () => {
  const words = finding([0.5, 0.1, -0.2, 0], [255, 1, 255, 255], ["fear", "joy"], 0);
  assert.match(words, /fear loses 50 percentage points. The answer flips at 1 of 4 places \(25.%\)/);
  assert.match(finding([-0.1], [255], ["fear"], 0), /Nothing that is covered makes fear less likely. The answer flips at none/);
});

test("the host's theme is recognised", () => {
  const body = (classes, dataset = {}) => ({ classList: classes, dataset });
  assert.equal(schemeOf(body([], { jpThemeLight: "false" })), "dark");
  assert.equal(schemeOf(body([], { jpThemeLight: "true" })), "light");
  assert.equal(schemeOf(body(["nav", "quarto-dark"])), "dark");
  assert.equal(schemeOf(body(["vscode-light"])), "light");
  assert.equal(schemeOf(body(["anything"])), null);
});

test("a view tells its model, hears others, and does not hear itself", () => {
  const [values, heard, saved] = [{ face: 0, hops: 1 }, new Map(), []];
  const model = {
    get: (name) => values[name],
    set: (name, value) => { const news = values[name] !== value; values[name] = value; if (news) heard.get(`change:${name}`)?.(); },
    on: (event, call) => heard.set(event, call),
    off: (event, call) => { if (heard.get(event) === call) heard.delete(event); },
    save_changes: () => saved.push({ ...values }),
  };
  let renewed = 0;
  const { state, tell, stop } = shared(model, ["face", "hops"], () => { renewed += 1; });
  assert.deepEqual(state, { face: 0, hops: 1 });
  Object.assign(state, { face: 2, hops: 5 });
  tell(); // half way, the model holds the new face and the old number of hops
  assert.deepEqual([state, saved, renewed], [{ face: 2, hops: 5 }, [{ face: 2, hops: 5 }], 0]);
  model.set("hops", 7);
  assert.deepEqual([state.hops, renewed], [7, 1]);
  stop();
  model.set("hops", 3);
  assert.deepEqual([state.hops, renewed, heard.size], [7, 1, 0]);
});
