// What the AU mixer knows about strengths: 40 numbers from 0 to 1, left and right of the person for each unit.

export const SIDES = ["both", "left", "right"];

// The strengths after one slider moved. `alone` puts all others to rest.
export function mixed(strengths, unit, value, side, alone = false) {
  const next = alone ? strengths.map(() => 0) : [...strengths];
  if (side !== "right") next[2 * unit] = value;
  if (side !== "left") next[2 * unit + 1] = value;
  return next;
}

// The other side's strengths on this one, as a mirror shows a face.
export function mirrored(strengths) {
  return strengths.map((_, i) => strengths[i ^ 1]);
}

// What a slider shows for a unit, and what a second mark shows where the other side differs (null: it does not).
export function shownOn(strengths, unit, side) {
  const [left, right] = [strengths[2 * unit], strengths[2 * unit + 1]];
  const value = side === "right" ? right : side === "left" ? left : Math.max(left, right);
  const other = side === "left" ? right : side === "right" ? left : Math.min(left, right);
  return { value, other: Math.abs(left - right) > 0.005 ? other : null };
}

// The face in FACS writing: 6+12+L14. A side is named where the other one rests.
export function facsCode(strengths, names) {
  const parts = names.flatMap((name, unit) => {
    const [left, right] = [strengths[2 * unit] > 0, strengths[2 * unit + 1] > 0];
    if (!left && !right) return [];
    return [`${left && right ? "" : left ? "L" : "R"}${name.replace("AU", "")}`];
  });
  return parts.join("+") || "0";
}

// Which presets have exactly the units that are shown, whatever their strength.
export function patternsOf(strengths, presets) {
  const active = (list) => list.map((s) => (s > 0 ? 1 : 0)).join("");
  const now = active(strengths);
  return Object.keys(presets).filter((name) => [presets[name], mirrored(presets[name])].some((list) => active(list) === now));
}

export function nearestStep(value, steps) {
  return steps.reduce((best, step) => (Math.abs(step - value) < Math.abs(best - value) ? step : best), steps[0]);
}

// Which of the pictures that were drawn beforehand shows this: a preset or one unit, at the nearest strength; else rest.
export function pictureKey(strengths, intensity, names, presets, steps) {
  const near = (value) => nearestStep(value, [0, ...steps]);
  const preset = Object.keys(presets).find((name) => presets[name].every((s, i) => Math.abs(s - strengths[i]) < 1e-6));
  const strongest = strengths.reduce((best, s, i) => (s > strengths[best] ? i : best), 0);
  const [name, step] = preset ? [preset, near(intensity)] : [names[strongest >> 1], near(strengths[strongest] * intensity)];
  return step > 0 && strengths[strongest] > 0 ? `${name}@${step}` : "rest";
}

// Bytes [r, g, b, a] that show where a picture differs from another: brighter is orange, darker blue, equal transparent.
export function difference(now, before) {
  const pixels = new Uint8ClampedArray(4 * now.length);
  for (let i = 0; i < now.length; i++) {
    const change = now[i] - before[i];
    const strength = Math.abs(change) > 8 ? Math.min(255, 70 + 3 * Math.abs(change)) : 0;
    pixels.set(change > 0 ? [240, 150, 40, strength] : [30, 110, 230, strength], 4 * i);
  }
  return pixels;
}

export function changedShare(now, before) {
  let count = 0;
  for (let i = 0; i < now.length; i++) if (Math.abs(now[i] - before[i]) > 8) count += 1;
  return count / now.length;
}
