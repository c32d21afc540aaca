// Answers computed beforehand on a lattice of (rotation, log scale, x, y), and what lies between them.

export async function inflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Between which two lattice points `value` lies, and how far along. Beyond the ends it is held at the end.
export function between(value, { low, high, steps }) {
  if (steps === 1) return [0, 0, 0];
  const position = Math.min(Math.max(((value - low) / (high - low)) * (steps - 1), 0), steps - 1);
  const first = Math.min(Math.floor(position), steps - 2);
  return [first, first + 1, position - first];
}

// Multilinear interpolation in `values` (bytes, probability * 255; the classes of one lattice point lie together).
export function interpolated(values, axes, place, classes) {
  const found = new Array(classes).fill(0);
  const sides = axes.map((axis, i) => between(place[i], axis));
  for (let corner = 0; corner < 1 << axes.length; corner++) {
    let weight = 1;
    let index = 0;
    for (let i = 0; i < axes.length; i++) {
      const upper = (corner >> i) & 1;
      weight *= upper ? sides[i][2] : 1 - sides[i][2];
      index = index * axes[i].steps + sides[i][upper];
    }
    if (weight > 0) for (let k = 0; k < classes; k++) found[k] += weight * values[index * classes + k];
  }
  const sum = found.reduce((total, value) => total + value, 0);
  return found.map((value) => value / sum);
}
