// What the AU mixer does with strengths, without a browser. Run by test_au_mixer.py, or: node --test tests/unit
import assert from "node:assert/strict";
import test from "node:test";
import {
  changedShare, difference, facsCode, mirrored, mixed, nearestStep, patternsOf, pictureKey, shownOn,
} from "../../fer_lab/assets/mixing.mjs";

const NAMES = ["AU4", "AU6", "AU12", "AU14"];
const REST = Array(8).fill(0);
const STEPS = [0.2, 0.4, 0.6, 0.8, 1];
const PRESETS = { happiness: [0, 0, 0.8, 0.8, 0.8, 0.8, 0, 0], contempt: [0, 0, 0, 0, 0, 0, 0.8, 0], neutral: REST };

test("a slider moves both sides, or the one that was chosen, and leaves what it was given alone", () => {
  assert.deepEqual(mixed(REST, 2, 0.5, "both"), [0, 0, 0, 0, 0.5, 0.5, 0, 0]);
  assert.deepEqual(mixed(PRESETS.happiness, 2, 0.5, "left"), [0, 0, 0.8, 0.8, 0.5, 0.8, 0, 0]);
  assert.deepEqual(mixed(PRESETS.happiness, 2, 0.5, "right"), [0, 0, 0.8, 0.8, 0.8, 0.5, 0, 0]);
  assert.deepEqual(mixed(PRESETS.happiness, 0, 0.4, "both", true), [0.4, 0.4, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual(REST, Array(8).fill(0));
});

test("a mirror swaps sides and twice is nothing", () => {
  assert.deepEqual(mirrored(PRESETS.contempt), [0, 0, 0, 0, 0, 0, 0, 0.8]);
  assert.deepEqual(mirrored(mirrored(PRESETS.contempt)), PRESETS.contempt);
});

test("a slider shows its side and marks where the other one stands", () => {
  const crooked = mixed(PRESETS.happiness, 2, 0.3, "left");
  assert.deepEqual(shownOn(crooked, 2, "both"), { value: 0.8, other: 0.3 });
  assert.deepEqual(shownOn(crooked, 2, "left"), { value: 0.3, other: 0.8 });
  assert.deepEqual(shownOn(crooked, 2, "right"), { value: 0.8, other: 0.3 });
  assert.deepEqual(shownOn(crooked, 1, "both"), { value: 0.8, other: null });
});

test("FACS writing names a side only where the other one rests", () => {
  assert.equal(facsCode(REST, NAMES), "0");
  assert.equal(facsCode(PRESETS.happiness, NAMES), "6+12");
  assert.equal(facsCode(PRESETS.contempt, NAMES), "L14");
  assert.equal(facsCode(mixed(mirrored(PRESETS.contempt), 2, 0.5, "both"), NAMES), "12+R14");
});

test("a pattern is found whatever its strength and on either side", () => {
  assert.deepEqual(patternsOf([0, 0, 0.1, 0.3, 1, 1, 0, 0], PRESETS), ["happiness"]);
  assert.deepEqual(patternsOf(mirrored(PRESETS.contempt), PRESETS), ["contempt"]);
  assert.deepEqual(patternsOf(REST, PRESETS), ["neutral"]);
  assert.deepEqual(patternsOf(mixed(PRESETS.happiness, 0, 0.4, "both"), PRESETS), []);
});

test("every setting of the frozen twin has a picture", () => {
  const keys = new Set(["rest", ...NAMES.flatMap((n) => STEPS.map((s) => `${n}@${s}`)), ...["happiness", "contempt"].flatMap((n) => STEPS.map((s) => `${n}@${s}`))]);
  for (const intensity of [0, ...STEPS]) {
    for (const strengths of Object.values(PRESETS)) assert.ok(keys.has(pictureKey(strengths, intensity, NAMES, PRESETS, STEPS)));
    for (let unit = 0; unit < 4; unit++) {
      for (const value of [0, ...STEPS]) assert.ok(keys.has(pictureKey(mixed(REST, unit, value, "both"), intensity, NAMES, PRESETS, STEPS)));
    }
  }
  assert.equal(pictureKey(PRESETS.happiness, 0.6, NAMES, PRESETS, STEPS), "happiness@0.6");
  assert.equal(pictureKey(mixed(REST, 0, 0.8, "both"), 0.5, NAMES, PRESETS, STEPS), "AU4@0.4");
  assert.equal(pictureKey(PRESETS.happiness, 0, NAMES, PRESETS, STEPS), "rest");
  assert.equal(pictureKey(REST, 1, NAMES, PRESETS, STEPS), "rest");
  assert.equal(nearestStep(0.75, STEPS), 0.8);
});

test("differences of eight levels or less are nothing, more are seen, with their sign", () => {
  const before = Uint8Array.from([100, 100, 100, 0]);
  const now = Uint8Array.from([108, 120, 60, 255]);
  const seen = difference(now, before);
  assert.deepEqual([3, 7, 11, 15].map((i) => seen[i] > 0), [false, true, true, true]);
  assert.ok(seen[4] > seen[6] && seen[10] > seen[8], "brighter is orange, darker is blue");
  assert.equal(changedShare(now, before), 0.75);
});
