// The parts of the widgets that need no browser. Run by test_widgets.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import * as geometry from "../../fer_lab/assets/geometry.mjs";
import { between, interpolated } from "../../fer_lab/assets/lattice.mjs";
import { LIMITS, dragged, inWords, pinched, pressed, winner, within } from "../../fer_lab/assets/moves.mjs";
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
