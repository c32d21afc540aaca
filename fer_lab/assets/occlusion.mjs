// What a table of answers under a sliding window says. No DOM in here.
// `table` holds, for each window position (row by row), the probability of every class in bytes (0 to 255).

// Where the windows lie: `starts` are the upper (or left) edges in pixels, for each axis.
export function positionOf(place, starts, window) { // the position whose middle is closest to `place` (pixels)
  let best = 0;
  starts.forEach((start, i) => {
    if (Math.abs(start + window / 2 - place) < Math.abs(starts[best] + window / 2 - place)) best = i;
  });
  return best;
}

export function probabilitiesAt(table, position, classes) {
  return Array.from({ length: classes }, (_, k) => table[position * classes + k] / 255);
}

// How much probability the target loses at each position (negative: it gains).
export function drops(table, whole, target) {
  const classes = whole.length;
  return Array.from({ length: table.length / classes }, (_, i) => whole[target] - table[i * classes + target] / 255);
}

// The class that wins at each position where it is not the one that wins for the whole face; -1 elsewhere.
export function flips(table, whole) {
  const classes = whole.length;
  const best = (values) => values.indexOf(Math.max(...values));
  const first = best([...whole]);
  return Array.from({ length: table.length / classes }, (_, i) => {
    const now = best(Array.from(table.subarray(i * classes, (i + 1) * classes)));
    return now === first ? -1 : now;
  });
}

// One value a pixel: the mean over all windows that cover it; null where none does.
export function spread(values, rows, columns, window, height, width) {
  const sum = new Float64Array(height * width);
  const count = new Uint16Array(height * width);
  values.forEach((value, i) => {
    const top = rows[Math.floor(i / columns.length)];
    const left = columns[i % columns.length];
    for (let y = top; y < Math.min(top + window, height); y++) {
      for (let x = left; x < Math.min(left + window, width); x++) {
        sum[y * width + x] += value;
        count[y * width + x] += 1;
      }
    }
  });
  return Array.from(sum, (total, i) => (count[i] ? total / count[i] : null));
}

// Colour of a drop between -1 and 1: orange where the answer suffers, blue where it gains, nothing at zero. [r, g, b, a]
export function diverging(value, strongest) {
  if (value === null || !strongest) return [0, 0, 0, 0];
  const share = Math.max(-1, Math.min(1, value / strongest));
  const [red, green, blue] = share > 0 ? [230, 97, 1] : [51, 102, 204];
  return [red, green, blue, Math.round(235 * Math.abs(share) ** 0.8)];
}

// The finding in words: where covering costs most, and what the answer becomes.
export function finding({ table, whole, target, rows, columns, classes }) {
  const lost = drops(table, whole, target);
  const worst = lost.reduce((best, value, i) => (value > lost[best] ? i : best), 0);
  const changed = flips(table, whole);
  const flipped = changed.filter((k) => k >= 0).length;
  const share = Math.round((100 * flipped) / lost.length);
  return {
    worst,
    row: rows[Math.floor(worst / columns.length)],
    column: columns[worst % columns.length],
    drop: lost[worst],
    becomes: changed[worst] < 0 ? null : classes[changed[worst]],
    flipped,
    words: flipped
      ? `The answer flips at ${flipped} of ${lost.length} positions (${share} %).`
      : `The answer flips at none of ${lost.length} positions.`,
  };
}
