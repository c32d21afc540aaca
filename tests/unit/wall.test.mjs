// Which faces the wall shows. Run by test_curriculum.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import { inView, ordered, stageAt } from "../../fer_lab/assets/wall.mjs";

test("the easiest come first, equals keep their order, one class can be chosen", () => {
  assert.deepEqual(ordered([0.5, 0.1, 0.5, 0], [0, 1, 0, 1], -1), [3, 1, 0, 2]);
  assert.deepEqual(ordered([0.5, 0.1, 0.5, 0], [0, 1, 0, 1], 0), [0, 2]);
  assert.deepEqual(ordered([0.5], [0], 3), []);
});

test("the slider goes from the first faces to the last, whatever the number", () => {
  const order = Array.from({ length: 30 }, (_, i) => i);
  assert.deepEqual(inView(order, 0, 4), { start: 0, faces: [0, 1, 2, 3] });
  assert.deepEqual(inView(order, 1, 4), { start: 26, faces: [26, 27, 28, 29] });
  assert.equal(inView(order, 0.5, 4).start, 13);
  assert.deepEqual(inView([7, 8], 0.7, 4), { start: 0, faces: [7, 8] });
});

test("stages are those of the curriculum", () => {
  const stages = Array.from({ length: 9 }, (_, i) => stageAt(i, 9, [1 / 3, 2 / 3, 1]));
  assert.deepEqual(stages, [1, 1, 1, 2, 2, 2, 3, 3, 3]);
  assert.equal(stageAt(0, 1, [0.6, 0.8, 1, 1]), 1);
  assert.equal(stageAt(9, 10, [0.6, 0.8, 1, 1]), 3); // fine-tuning brings nobody new
});
