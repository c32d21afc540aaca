// Gabor filters in the browser. Run by test_gabor_editor.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import * as gabor from "../../fer_lab/assets/gabor.mjs";

test("the filter ends three standard deviations out, along the longer side", () => {
  assert.equal(gabor.reach(0, 3.92), 12);
  assert.equal(gabor.reach(45, 3.92), 9);
  assert.equal(gabor.reach(90, 0.1), 1);
});

test("the wave is strongest in the middle and alike on both sides of it", () => {
  const side = 33;
  const drawn = gabor.wave(30, 7, 3, side);
  assert.equal(drawn.indexOf(Math.max(...drawn)), (side * side - 1) / 2);
  assert.ok(Math.abs(drawn[(side * side - 1) / 2] - 1) < 1e-12);
  drawn.forEach((value, i) => assert.ok(Math.abs(value - drawn[side * side - 1 - i]) < 1e-9));
});

test("a flat picture answers everywhere alike, a speck answers with the filter", () => {
  const flat = gabor.respond(new Uint8Array(400).fill(90), 20, 20, 60, 6, 2);
  assert.ok(flat.strength.every((value) => Math.abs(value - flat.strength[0]) < 1e-12));
  const speck = new Uint8Array(41 * 41);
  speck[20 * 41 + 20] = 255;
  const { real } = gabor.respond(speck, 41, 41, 60, 6, 2);
  const wave = gabor.wave(60, 6, 2, 41);
  real.forEach((value, i) => assert.ok(Math.abs(value / real[20 * 41 + 20] - wave[i]) < 1e-9));
});

test("shades run from black to white, with grey as nothing where signed", () => {
  assert.deepEqual([...gabor.shades([0, 1, 2])], [0, 128, 255]);
  assert.deepEqual([...gabor.shades([-2, 0, 2], true)], [0, 128, 255]);
  assert.deepEqual([...gabor.shades([0, 0])], [0, 0]);
});
