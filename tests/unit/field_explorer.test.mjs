// Receptive fields in the browser. Run by test_field_explorer.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import * as fields from "../../fer_lab/assets/fields.mjs";

const EQUAL = [[3, 1, 2], [3, 1, 2], [3, 1, 2]];
const HYBRID = [[3, 1, 1], [3, 1, 2], [3, 1, 3]];

test("a kernel with gaps reaches k + (k - 1)(d - 1) pixels", () => {
  for (const kernel of fields.KERNELS) {
    for (const rate of [1, 2, 3, 4]) assert.equal(fields.effectiveKernel(kernel, rate), kernel + (kernel - 1) * (rate - 1));
  }
  assert.equal(fields.effectiveKernel(3, 2), 5);
});

test("the recurrence grows by (reach - 1) times the jump", () => {
  assert.deepEqual(fields.recurrence([[3, 2, 1], [3, 1, 2]]).map((row) => [row.size, row.jump]), [[3, 2], [11, 2]]);
  assert.equal(fields.fieldOf(EQUAL), 13);
  assert.equal(fields.fieldOf(HYBRID), 13);
});

test("paths fill the field from end to end and mirror each other", () => {
  for (const layers of [EQUAL, HYBRID, [[5, 2, 1], [3, 2, 2]], [[1, 1, 1]], [[7, 1, 4], [1, 2, 1], [3, 1, 1]]]) {
    const paths = fields.pathsInRow(layers);
    assert.equal(paths.length, fields.fieldOf(layers));
    assert.deepEqual(paths, [...paths].reverse());
    assert.ok(paths[0] > 0);
    assert.equal(paths.reduce((a, b) => a + b), layers.reduce((product, [kernel]) => product * kernel, 1));
  }
});

test("equal rates leave a grid of dots, different ones use every pixel", () => {
  assert.equal(fields.factsOf([EQUAL]).pixels, 49);
  assert.equal(fields.factsOf([HYBRID]).pixels, 169);
  assert.match(fields.sentenceOf("rates 2, 2, 2", fields.factsOf([EQUAL])), /field 13 × 13, 49 of 169 pixels count \(29 %\), 120 are holes/);
  assert.match(fields.sentenceOf("x", fields.factsOf([HYBRID])), /no holes/);
});

test("joined branches see what any of them sees, and each counts alike", () => {
  const joined = fields.pathsInSquare([[[3, 1, 1]], [[3, 1, 2]]]);
  assert.equal(joined.side, 5);
  assert.equal(fields.pixelsThatCount(joined), 17);
  assert.ok(Math.abs(joined.heat.reduce((a, b) => a + b) - 1) < 1e-12);
  assert.ok(Math.abs(joined.heat[12] - 1 / 9) < 1e-12);
});

test("the square that holds nine tenths is no larger than the field", () => {
  assert.equal(fields.effectiveSize(fields.pathsInSquare([[[1, 1, 1]]])), 1);
  const deep = fields.factsOf([Array(6).fill([3, 1, 1])]);
  assert.ok(deep.most < deep.side);
});

test("depth repeats the last layer or drops it, and nothing given is changed", () => {
  assert.deepEqual(fields.deepened(HYBRID, 4).at(-1), [3, 1, 3]);
  assert.deepEqual(fields.deepened(HYBRID, 2), HYBRID.slice(0, 2));
  assert.deepEqual(fields.changedLayer(EQUAL, 1, 2, 1), [[3, 1, 2], [3, 1, 1], [3, 1, 2]]);
  assert.deepEqual(EQUAL[1], [3, 1, 2]);
});

test("the window stays on the face", () => {
  assert.deepEqual(fields.clampedPlace([-3, 60.2], [48, 48]), [0, 47]);
  assert.deepEqual(fields.clampedPlace([3.4, 20.6], [48, 48]), [3, 21]);
});
