// What the explorer works out by itself. Run by test_explorer.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import * as explorer from "../../fer_lab/assets/explorer.mjs";
import { halves, missing, moment, reshaped, windowOf } from "../../fer_lab/assets/explorer_page.mjs";

const near = (one, other, tolerance = 1e-9) =>
  assert.ok([one].flat().every((value, i) => Math.abs(value - [other].flat()[i]) <= tolerance), `${one} is not ${other}`);

test("an answer fits only what is asked for now", () => {
  const state = { face: 0, beside: "", frame: 0, block: "conv", unit: [1, 2, 3] };
  assert.ok(explorer.fits("pixel", { ...state, unit: [1, 2, 3] }, state));
  assert.ok(!explorer.fits("pixel", { ...state, unit: [1, 2, 4] }, state));
  assert.ok(!explorer.fits("maps", null, state));
});

test("numbers have three digits and a true minus", () => {
  assert.deepEqual([0, 1.2345, -0.05, 12345, -Infinity, null].map(explorer.written), ["0", "1.23", "−0.0500", "1.2e+4", "−∞", "–"]);
  assert.equal(explorer.signedly(-0.5), "− 0.500");
});

test("127 is zero", () => near([0, 127, 254].map((byte) => explorer.decoded(byte, 2)), [-2, 0, 2]));

test("a sign keeps its own side", () => {
  assert.deepEqual(["both", "for", "against", "strength"].map((sign) => explorer.oneSide(-0.5, sign)), [-0.5, 0, -0.5, 0.5]);
});

test("sight is clipped to the face, and a jump of zero sees everything", () => {
  const box = explorer.sight([[5, 2, -2], [5, 2, -2]], 0, 3, 48, 48);
  assert.deepEqual([box.top, box.bottom, box.left, box.right], [0, 3, 4, 9]);
  assert.ok(explorer.sight([[48, 0, 0], [48, 0, 0]], 7, 7, 48, 48).whole);
  assert.equal(explorer.sight(null, 0, 0, 48, 48), null);
  assert.match(explorer.sightInWords(box), /rows 0 to 2, columns 4 to 8 \(3 × 5 pixels\)/);
});

test("tiles fit the sheet and a place finds its unit again", () => {
  const tiles = explorer.tiling(10, 44, 44, 600, 470);
  assert.ok(tiles.total <= 470 && tiles.columns * tiles.rows >= 10);
  for (const index of [0, 4, 9]) {
    const { x, y } = explorer.tileBox(tiles, index);
    const at = explorer.placeOn(tiles, 10, 44, 44, x + (20.5 * tiles.side) / 44, y + (7.5 * tiles.tall) / 44);
    assert.deepEqual(at, { index, row: 7, column: 20 });
  }
  assert.equal(explorer.placeOn(tiles, 10, 44, 44, tiles.side + 1, 5), null); // the gap
});

test("keys step through a map, through a vector, and from map to map, never over the edge", () => {
  assert.deepEqual(explorer.stepped([0, 5, 5], "ArrowUp", [3, 9, 9]), [0, 4, 5]);
  assert.deepEqual(explorer.stepped([0, 0, 5], "ArrowUp", [3, 9, 9]), [0, 0, 5]);
  assert.deepEqual(explorer.stepped([2, 1, 1], "PageDown", [3, 9, 9]), [2, 1, 1]);
  assert.deepEqual(explorer.stepped([1, 1, 1], "PageUp", [3, 9, 9]), [0, 1, 1]);
  const { width } = explorer.cellsOf([50, 1, 1]);
  assert.deepEqual(explorer.stepped([3, 0, 0], "ArrowDown", [50, 1, 1]), [3 + width, 0, 0]);
  assert.equal(explorer.stepped([0, 0, 0], "x", [3, 9, 9]), null);
});

test("terms add up to the sum, the strongest first", () => {
  const [patch, kernel] = [[1, 2, 3, 4, 0, 1, 5, 5], [1, 1, -1, 1, 2, 2, -1, 0]];
  const found = explorer.terms(patch, kernel, [4, 1, 2], 2);
  assert.deepEqual(found.shown.map((term) => term.input), [3, 0]);
  near([found.shown[0].sum, found.shown[1].sum, found.rest, found.total], [-5, 3, 3, 1]);
  assert.equal(found.others, 2);
});

test("blocks gather under their part, in order", () => {
  const blocks = ["a.conv", "a.relu", "a", "drop", "a.late"].map((path) => ({ path }));
  const groups = explorer.grouped(blocks);
  assert.deepEqual(groups.map(({ name, head, inside }) => [name, head?.path, inside.length]), [["a", "a", 3], ["drop", "drop", 0]]);
});

test("the identity theta draws the whole picture", () => {
  const lines = explorer.thetaLines([1, 0, 0, 0, 1, 0], 2).flat(2);
  near([Math.min(...lines), Math.max(...lines)], [-1, 1]);
});

test("half precision is read as numpy writes it", () => {
  const raw = new Uint8Array(new Uint16Array([0x3c00, 0xc000, 0x0001, 0x3555]).buffer);
  near([...halves(raw)], [1, -2, 2 ** -24, 0.333251953125], 1e-12);
});

test("a window reads outside the picture what it is told", () => {
  const values = Float32Array.from({ length: 9 }, (_, i) => i);
  const way = { stride: [2, 2], padding: [1, 1], dilation: [1, 1] };
  assert.deepEqual(windowOf(values, [1, 3, 3], [0], [0, 0], [2, 2], way, -1), [-1, -1, -1, 0]);
  assert.deepEqual(windowOf(values, [1, 3, 3], [0], [1, 1], [2, 2], way), [4, 5, 7, 8]);
});

test("a number keeps its place when a vector becomes a matrix", () => assert.deepEqual(reshaped([0, 1, 2], [1, 2, 3], [6, 1, 1]), [5, 0, 0]));

test("a still has one frame, a film its own, and what is not kept is named", () => {
  const blocks = { still: { out: [7], given: [null] }, film: { out: [4, null, 6], given: [1, null, 3] } };
  assert.deepEqual([0, 5].map((frame) => moment(blocks.still, "out", frame)), [7, 7]);
  assert.deepEqual([0, 1, 2].map((frame) => moment(blocks.film, "given", frame)), [1, undefined, 3]);
  assert.equal(missing(blocks, "film", 2), null);
  assert.match(missing(blocks, "film", 1), /film, frame 2, is not kept on this page. Kept: frames 1, 3/);
  assert.match(missing(blocks, "none", 0), /^none is not kept/);
});
