// What a table of answers under a sliding window says. No DOM in here.
// `table` holds, for each window position (row by row), the probability of every class in bytes (0 to 255).

// Which of `starts` (upper or left edges in pixels) puts the window's middle closest to `place`.
export function nearest(place, starts, window) {
  let best = 0;
  starts.forEach((start, i) => {
    if (Math.abs(start + window / 2 - place) < Math.abs(starts[best] + window / 2 - place)) best = i;
  });
  return best;
}

// Each position colours the pixels whose nearest window middle is its own: the borders between these cells.
export function borders(starts, window) {
  const middles = starts.map((start) => start + window / 2);
  const inner = middles.slice(1).map((middle, i) => (middle + middles[i]) / 2);
  const half = starts.length > 1 ? (middles[1] - middles[0]) / 2 : window / 2;
  const last = starts.length > 1 ? (middles.at(-1) - middles.at(-2)) / 2 : window / 2;
  return [middles[0] - half, ...inner, middles.at(-1) + last];
}

export function probabilitiesAt(table, position, count) {
  return Array.from({ length: count }, (_, k) => table[position * count + k] / 255);
}

// How much probability the target loses at each position (negative: it gains).
export function drops(table, whole, target) {
  return Array.from({ length: table.length / whole.length }, (_, i) => whole[target] - table[i * whole.length + target] / 255);
}

export function worstOf(values) {
  return values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
}

// The end of the colour scale: the strongest change, but never less than ten points, so that noise stays pale.
export function strongest(values) {
  return Math.max(0.1, ...values.map(Math.abs));
}

// Stops [[0, "rgba(r,g,b,a)"], ...] of a diverging scale, as plotly writes them, as a function of -1 to 1.
export function colourScale(stops) {
  const parsed = stops.map(([at, colour]) => [2 * at - 1, colour.match(/[\d.]+/g).map(Number)]);
  return (value) => {
    if (value === 0) return [0, 0, 0, 0];
    const side = parsed.filter(([at]) => at * value > 0);
    side.splice(value > 0 ? 0 : side.length, 0, value > 0 ? parsed.findLast(([at]) => at === 0) : parsed.find(([at]) => at === 0));
    const share = Math.max(-1, Math.min(1, value));
    const next = Math.max(1, side.findIndex(([at]) => at >= share));
    const [[low, from], [high, to]] = [side[next - 1], side[next]];
    return from.map((channel, i) => channel + ((share - low) / (high - low)) * (to[i] - channel));
  };
}

// The finding in a sentence. `flips` holds the class that wins instead, or 255 where nothing changes.
export function finding(lost, flips, classes, target) {
  const changed = flips.filter((k) => k !== 255);
  const share = Math.round((100 * changed.length) / flips.length);
  const points = Math.round(100 * Math.max(...lost));
  const cost = points > 0
    ? `Covered at its most important place, ${classes[target]} loses ${points} percentage points.`
    : `Nothing that is covered makes ${classes[target]} less likely.`;
  return changed.length
    ? `${cost} The answer flips at ${changed.length} of ${flips.length} places (${share}\u00a0%).`
    : `${cost} The answer flips at none of ${flips.length} places.`;
}
