// What a key, a drag or a pinch does to the parts of a theta {rotation, scale, x, y, rest}. No DOM in here.

export const LIMITS = { rotation: [-90, 90], scale: [0.4, 2], x: [-1, 1], y: [-1, 1] };
export const KEYS = {
  ArrowLeft: { x: -1 }, ArrowRight: { x: 1 }, ArrowUp: { y: -1 }, ArrowDown: { y: 1 },
  "[": { rotation: -1 }, "]": { rotation: 1 }, "+": { scale: 1 }, "=": { scale: 1 }, "-": { scale: -1 }, _: { scale: -1 },
};
const STEPS = { x: 0.02, y: 0.02, rotation: 1, scale: 0.02 };

export function within(parts, limits = LIMITS) {
  const kept = { ...parts };
  for (const [name, [low, high]] of Object.entries(limits)) kept[name] = Math.min(Math.max(parts[name], low), high);
  return kept;
}

// The parts after a key, or null when the key means nothing here. `coarse` (Shift) takes five steps at once.
export function pressed(parts, key, coarse = false, limits = LIMITS) {
  const change = KEYS[key];
  if (!change) return null;
  const [[name, sign]] = Object.entries(change);
  const steps = sign * STEPS[name] * (coarse ? 5 : 1);
  const value = name === "scale" ? parts.scale * Math.exp(steps) : parts[name] + steps;
  return within({ ...parts, [name]: value }, limits);
}

function turnBetween(from, to) {
  const degrees = ((to - from) * 180) / Math.PI;
  return degrees - 360 * Math.round(degrees / 360);
}

// The parts after the pointer went from `from` to `to` (input coordinates), holding `kind`.
export function dragged(parts, kind, from, to, limits = LIMITS) {
  const reach = ([x, y]) => Math.hypot(x - parts.x, y - parts.y);
  const angle = ([x, y]) => Math.atan2(y - parts.y, x - parts.x);
  if (kind === "move") return within({ ...parts, x: parts.x + to[0] - from[0], y: parts.y + to[1] - from[1] }, limits);
  if (kind === "scale") return within({ ...parts, scale: (parts.scale * reach(to)) / Math.max(reach(from), 1e-6) }, limits);
  return within({ ...parts, rotation: parts.rotation + turnBetween(angle(from), angle(to)) }, limits);
}

// Two fingers: their distance scales, their direction turns, their middle moves.
export function pinched(parts, from, to, limits = LIMITS) {
  const [[a, b], [c, d]] = [from, to];
  const gap = ([p, q]) => Math.max(Math.hypot(q[0] - p[0], q[1] - p[1]), 1e-6);
  const angle = ([p, q]) => Math.atan2(q[1] - p[1], q[0] - p[0]);
  const middle = ([p, q]) => [(p[0] + q[0]) / 2, (p[1] + q[1]) / 2];
  const [start, end] = [middle([a, b]), middle([c, d])];
  return within({
    ...parts,
    rotation: parts.rotation + turnBetween(angle(from), angle(to)),
    scale: (parts.scale * gap(to)) / gap(from),
    x: parts.x + end[0] - start[0],
    y: parts.y + end[1] - start[1],
  }, limits);
}

// A theta in words, for a screen reader and for the status line.
export function inWords({ rotation, scale, x, y }) {
  const words = [];
  if (Math.abs(rotation) >= 0.5) words.push(`turned ${Math.abs(rotation).toFixed(0)}° ${rotation > 0 ? "clockwise" : "anticlockwise"}`);
  if (Math.abs(scale - 1) >= 0.005) words.push(`${scale.toFixed(2)} times the size`);
  if (Math.abs(x) >= 0.005) words.push(`${Math.abs(50 * x).toFixed(0)} % ${x > 0 ? "right" : "left"}`);
  if (Math.abs(y) >= 0.005) words.push(`${Math.abs(50 * y).toFixed(0)} % ${y > 0 ? "down" : "up"}`);
  return words.length ? words.join(", ") : "the whole picture, upright";
}

// The most likely class: its index and probability, or null when nothing is known.
export function winner(probabilities) {
  if (!probabilities || !probabilities.length) return null;
  const index = probabilities.reduce((best, value, i) => (value > probabilities[best] ? i : best), 0);
  return { index, probability: probabilities[index] };
}
