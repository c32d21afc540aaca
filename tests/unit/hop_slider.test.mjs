// Hops on a graph in the browser. Run by test_gcn.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import * as hops from "../../fer_lab/assets/hops.mjs";

const PATH = [[0, 1], [1, 2], [2, 3]]; // and node 4 alone

test("hops along a path, and none to an island", () => {
  assert.deepEqual(hops.hopsFrom(PATH, 5, 0), [0, 1, 2, 3, -1]);
  assert.deepEqual(hops.hopsFrom(PATH, 5, 4), [-1, -1, -1, -1, 0]);
});

test("a row of a power has weight exactly within reach", () => {
  const close = (got, wanted) => got.forEach((value, i) => assert.ok(Math.abs(value - wanted[i]) < 1e-12, `${got}`));
  close(hops.rowOfPower(PATH, 5, 0, 0), [1, 0, 0, 0, 0]);
  close(hops.rowOfPower(PATH, 5, 0, 1), [1 / 2, 1 / Math.sqrt(6), 0, 0, 0]);
  close(hops.rowOfPower(PATH, 5, 4, 7), [0, 0, 0, 0, 1]);
  for (const k of [0, 1, 2, 3]) {
    const row = hops.rowOfPower(PATH, 5, 1, k);
    hops.hopsFrom(PATH, 5, 1).forEach((far, i) => assert.equal(row[i] > 0, far >= 0 && far <= k));
  }
});

test("regions count what is reached and share the row", () => {
  const parts = hops.byRegion({ near: [0, 1], far: [2, 3, 4] }, hops.hopsFrom(PATH, 5, 0), [3, 1, 0, 0, 0], 1);
  assert.deepEqual(parts, [{ name: "near", of: 2, reached: 2, share: 1 }, { name: "far", of: 3, reached: 0, share: 0 }]);
});

test("the nearest point, and the next one in a direction", () => {
  const points = [[0, 0], [10, 1], [0, 10], [-4, 0]];
  assert.equal(hops.nearest(points, [8, 3]), 1);
  assert.equal(hops.stepFrom(points, 0, [1, 0]), 1);
  assert.equal(hops.stepFrom(points, 0, [0, 1]), 2);
  assert.equal(hops.stepFrom(points, 3, [-1, 0]), 3); // nothing there: stay
});
