// The geometry of the crop editor, without a browser. Run by test_crop_editor.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import * as crops from "../../fer_lab/assets/crops.mjs";

// 68 points in a plain arrangement: everything at (50, 50) but what a test sets.
const plain = (set = {}) => Array.from({ length: 68 }, (_, i) => set[i] ?? [50, 50]);

test("the square of paper 3: the larger reach times alpha, around the nose, the jaw not counted", () => {
  const points = plain({ 17: [20, 40], 26: [80, 40], 57: [50, 90], 30: [52, 61], 8: [50, 200] });
  const { dh, dv, side, box } = crops.cropSquare(points, 1.05);
  assert.deepEqual([dh, dv, side, box], [60, 50, 63, [20.5, 29.5, 83.5, 92.5]]);
  assert.deepEqual(crops.middleOf([0, 10, 120, 130]), [12, 22, 108, 118]);
});

test("the parts have the points of the authors' code, off by one as there", () => {
  assert.ok(!crops.PARTS.eyes.points.includes(36) && crops.PARTS.eyes.points.includes(47));
  assert.ok(!crops.PARTS.mouth.points.includes(67) && crops.PARTS.mouth.points.includes(66));
  const boxes = crops.partBoxes(plain({ 36: [0, 0], 67: [99, 99], 48: [40, 70] }), 5);
  assert.deepEqual(boxes, { eyes: [45, 45, 55, 55], nose: [45, 45, 55, 55], mouth: [35, 45, 55, 75] });
});

test("a box of whole pixels is a slice, and what lies outside is the border", () => {
  const picture = Uint8Array.from({ length: 20 }, (_, i) => 12 * i); // 4 rows, 5 columns
  assert.deepEqual([...crops.readBox(picture, 4, 5, [0.5, 0.5, 2.5, 2.5], 2, 2)], [72, 84, 132, 144]);
  assert.deepEqual([...crops.readBox(picture, 4, 5, [-2.5, -0.5, -0.5, 0.5], 1, 2)], [0, 0]);
});

test("shrinking averages: stripes become grey and not black or white", () => {
  const stripes = Uint8Array.from({ length: 64 }, (_, i) => (i % 2 ? 200 : 0));
  assert.deepEqual([...crops.readBox(stripes, 8, 8, [-0.5, -0.5, 7.5, 7.5], 2, 2)], [100, 100, 100, 100]);
});

test("one landmark moves alone, or its whole part with it", () => {
  const points = plain();
  const alone = crops.movedPoints(points, 30, false, [3, -4], [96, 96]);
  assert.deepEqual(alone[30], [53, 46]);
  assert.equal(alone.filter(([x]) => x !== 50).length, 1);
  const part = crops.movedPoints(points, 50, true, [1, 1], [96, 96]);
  assert.equal(part.filter(([x]) => x === 51).length, 20); // the mouth
  assert.deepEqual(points, plain()); // the given points stay
});

test("nothing can be dragged off the stage, and a part keeps its shape at the edge", () => {
  const points = plain({ 48: [10, 50], 54: [90, 50] });
  const far = crops.movedPoints(points, 48, true, [1000, 0], [96, 96]);
  assert.ok(Math.abs(far[54][0] - (96 * 1.15 - 0.5)) < 1e-9);
  assert.equal(far[54][0] - far[48][0], 80);
});

test("the nearest landmark within reach is taken, none beyond it", () => {
  const points = plain({ 5: [10, 10], 6: [14, 10] });
  assert.equal(crops.nearestPoint(points, [11, 10], 3), 5);
  assert.equal(crops.nearestPoint(points, [13, 10], 3), 6);
  assert.equal(crops.nearestPoint(points, [30, 10], 3), -1);
});

test("keys choose in a ring and move by small steps, with Shift by large ones", () => {
  assert.deepEqual(crops.keyMeans("]", false, 67), { choose: 0 });
  assert.deepEqual(crops.keyMeans("[", false, 0), { choose: 67 });
  assert.deepEqual(crops.keyMeans("ArrowUp", false, 3), { move: [0, -0.5] });
  assert.deepEqual(crops.keyMeans("ArrowRight", true, 3), { move: [2.5, 0] });
  assert.equal(crops.keyMeans("q", false, 3), null);
});

test("every landmark belongs to one part of the face", () => {
  for (let i = 0; i < 68; i++) assert.equal(crops.GROUPS.filter(([, from, to]) => i >= from && i < to).length, 1);
  assert.equal(crops.groupOf(30)[0], "nose");
});

test("screen and picture are inverse", () => {
  const view = crops.easel(312, 96, 128);
  const [x, y] = view.toPicture(view.toScreen([17.25, 80]));
  assert.ok(Math.abs(x - 17.25) < 1e-9 && Math.abs(y - 80) < 1e-9);
});
