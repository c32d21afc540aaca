// Treatments of light in the browser. Run by test_light_editor.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import * as light from "../../fer_lab/assets/light.mjs";

const bytes = (...values) => Uint8Array.from(values);

test("stretch and HE by hand; one grey stays as it is", () => {
  assert.deepEqual([...light.stretched(bytes(50, 100, 150))], [0, 128, 255]);
  assert.deepEqual([...light.equalized(bytes(0, 0, 0, 10, 255))], [0, 0, 0, 128, 255]);
  for (const how of [light.stretched, light.equalized]) assert.deepEqual([...how(bytes(7, 7, 7))], [7, 7, 7]);
});

test("gamma bends, the blend mixes", () => {
  assert.deepEqual([...light.gammaOf(bytes(0, 100, 255), 2)], [0, 39, 255]);
  assert.deepEqual([...light.blended(bytes(0, 0, 0, 10, 255), 0)], [...light.stretched(bytes(0, 0, 0, 10, 255))]);
  assert.deepEqual([...light.blended(bytes(0, 0, 0, 10, 255), 1)], [...light.equalized(bytes(0, 0, 0, 10, 255))]);
});

test("a tile's curve rises to 255 and never falls, with any limit", () => {
  const found = light.counts(Uint8Array.from({ length: 400 }, (_, i) => (i * i) % 97));
  for (const clip of [0, 0.5, 2, 40]) {
    const curve = light.tileCurve(found, 400, clip);
    assert.ok(curve.every((value, i) => i === 0 || value >= curve[i - 1]));
    assert.equal(curve.at(-1), 255);
  }
});

test("counts fall into bins, and the summary is mean and spread", () => {
  assert.deepEqual(light.counts(bytes(0, 63, 64, 255), 4), [2, 1, 0, 1]);
  assert.deepEqual(light.summary(bytes(10, 30)), [20, 10]);
});
