// Receptive fields by arithmetic: what one unit sees through a stack of layers, and along how many paths.
// A layer is [kernel, stride, dilation], the kernel odd; a unit sits in the middle of what it sees.

export const KERNELS = [1, 3, 5, 7];
export const LIMITS = { kernel: [1, 7], stride: [1, 2], dilation: [1, 4], depth: [1, 6] };
export const MOST_BRANCHES = 5;

// A kernel of k taps with gaps: k + (k - 1)(d - 1) pixels from the first tap to the last.
export function effectiveKernel(kernel, dilation) {
  return kernel + (kernel - 1) * (dilation - 1);
}

// Layer by layer: how wide the window is, and how many pixels lie between two neighbouring units.
export function recurrence(layers) {
  let [size, jump] = [1, 1];
  return layers.map(([kernel, stride, dilation]) => {
    const wide = effectiveKernel(kernel, dilation);
    size += (wide - 1) * jump;
    jump *= stride;
    return { kernel, stride, dilation, wide, size, jump };
  });
}

export function fieldOf(layers) {
  return recurrence(layers).at(-1).size;
}

// Paths from each pixel of a row to the unit, [field]. With equal positive weights this is the gradient, up to a factor.
export function pathsInRow(layers) {
  let [reach, paths] = [0, [1]]; // from -reach to +reach, in steps of the layer's input
  for (const [kernel, stride, dilation] of [...layers].reverse()) {
    const wider = reach * stride + (dilation * (kernel - 1)) / 2;
    const next = new Array(2 * wider + 1).fill(0);
    paths.forEach((count, i) => {
      for (let tap = 0; tap < kernel; tap++) next[(i - reach) * stride + (tap - (kernel - 1) / 2) * dilation + wider] += count;
    });
    [reach, paths] = [wider, next];
  }
  return paths;
}

// Share of the paths through each pixel for units that are joined: [side * side], the sum is 1. Every branch counts alike.
export function pathsInSquare(branches) {
  const side = Math.max(...branches.map(fieldOf));
  const heat = new Float64Array(side * side);
  for (const layers of branches) {
    const row = pathsInRow(layers);
    const from = (side - row.length) / 2;
    const total = row.reduce((a, b) => a + b) ** 2 * branches.length;
    row.forEach((down, r) => row.forEach((across, c) => { heat[(from + r) * side + from + c] += (down * across) / total; }));
  }
  return { side, heat };
}

export function pixelsThatCount({ heat }) {
  return heat.reduce((count, value) => count + (value > 0), 0);
}

// Side of the smallest square in the middle that holds this share, as fer_lab.receptive.effective_size counts it.
export function effectiveSize({ side, heat }, share = 0.9) {
  const middle = (side - 1) / 2;
  for (let size = 1; size < 2 * side; size++) {
    let inside = 0;
    heat.forEach((value, i) => {
      const far = Math.max(Math.abs(Math.floor(i / side) - middle), Math.abs((i % side) - middle));
      if (far <= size / 2) inside += value;
    });
    if (inside >= share - 1e-12) return size;
  }
  return side;
}

// What is said of one branch, or of several joined ones.
export function factsOf(branches) {
  const square = pathsInSquare(branches);
  const pixels = pixelsThatCount(square);
  return { ...square, pixels, share: pixels / square.side ** 2, most: effectiveSize(square), strongest: Math.max(...square.heat) };
}

export function sentenceOf(name, facts) {
  const { side, pixels, share } = facts;
  const holes = share < 1 ? `${side ** 2 - pixels} are holes` : "no holes";
  return `${name}: field ${side} × ${side}, ${pixels} of ${side ** 2} pixels count (${Math.round(100 * share)} %), ${holes}.`;
}

// Another depth: the last layer is repeated, or the last ones are dropped.
export function deepened(layers, depth) {
  return Array.from({ length: depth }, (_, i) => [...(layers[i] ?? layers.at(-1))]);
}

export function changedLayer(layers, index, part, value) {
  return layers.map((layer, i) => (i === index ? layer.map((old, j) => (j === part ? value : old)) : layer));
}

export function clampedPlace([row, column], [height, width]) {
  const inside = (value, most) => Math.min(Math.max(Math.round(value), 0), most - 1);
  return [inside(row, height), inside(column, width)];
}
