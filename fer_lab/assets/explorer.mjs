// What the explorer works out by itself: places, sums and words. No DOM in here.

export const LEVELS = ["network", "maps", "pixel"];

// What each answer is about: an answer whose values differ from the present ones is out of date.
export const ASKED = {
  network: ["face", "beside", "frame"],
  maps: ["face", "beside", "frame", "block"],
  pixel: ["face", "beside", "frame", "block", "unit"],
  heat: ["face", "beside", "method", "target", "layer", "twin"],
  quality: ["face", "beside", "method", "target", "layer"],
};

export function fits(kind, answer, state) {
  return Boolean(answer) && ASKED[kind].every((name) => String(answer[name]) === String(state[name]));
}

// Three digits, with a minus that is as wide as a plus.
export function written(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === Infinity || value === -Infinity) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size === 0 ? "0" : size >= 1000 || size < 0.001 ? size.toExponential(1) : size.toPrecision(3);
  return (value < 0 ? "−" : "") + text;
}

export function signedly(value) { return (value >= 0 ? "+ " : "− ") + written(Math.abs(value)); }

// Bytes as Python sends them: 127 is zero, 254 and 0 are plus and minus `top`.
export function decoded(byte, top) { return ((byte - 127) / 127) * top; }

// What is left of a value in -1..1 when only one side is wanted.
export function oneSide(value, sign) {
  if (sign === "for") return Math.max(value, 0);
  if (sign === "against") return Math.min(value, 0);
  return sign === "strength" ? Math.abs(value) : value;
}

// First pixel that a unit sees and one past the last: top, left, bottom, right; null where it is not known.
export function sight(fields, row, column, height, width) {
  if (!fields) return null;
  const along = ([size, jump, first], unit, extent) => {
    const start = first + unit * jump;
    return [Math.max(0, Math.floor(start)), Math.min(extent, Math.ceil(start + size))];
  };
  const [[top, bottom], [left, right]] = [along(fields[0], row, height), along(fields[1], column, width)];
  return { top, left, bottom, right, whole: top === 0 && left === 0 && bottom === height && right === width };
}

export function sightInWords(box) {
  if (!box) return "what it sees is not known";
  if (box.whole) return "sees the whole face";
  return `sees rows ${box.top} to ${box.bottom - 1}, columns ${box.left} to ${box.right - 1} (${box.bottom - box.top} × ${box.right - box.left} pixels)`;
}

// Tiles of `count` maps on a sheet: as few columns, so as large, as fit into `tallest`.
export function tiling(count, height, width, across, tallest, gap = 6) {
  for (let columns = 1; ; columns++) {
    const side = (across - gap * (columns - 1)) / columns;
    const rows = Math.ceil(count / columns);
    const tall = (side * height) / width;
    const total = rows * tall + gap * (rows - 1);
    if (total <= tallest || columns >= count) return { columns, rows, side, tall, gap, total };
  }
}

export function tileBox(tiles, index) {
  return { x: (index % tiles.columns) * (tiles.side + tiles.gap), y: Math.floor(index / tiles.columns) * (tiles.tall + tiles.gap) };
}

// Which tile, row and column lies at a place of the sheet; null in the gaps.
export function placeOn(tiles, count, height, width, x, y) {
  const [across, down] = [Math.floor(x / (tiles.side + tiles.gap)), Math.floor(y / (tiles.tall + tiles.gap))];
  const index = down * tiles.columns + across;
  const [dx, dy] = [x - across * (tiles.side + tiles.gap), y - down * (tiles.tall + tiles.gap)];
  if (across < 0 || down < 0 || across >= tiles.columns || index >= count || dx >= tiles.side || dy >= tiles.tall) return null;
  return { index, row: Math.min(height - 1, Math.floor((dy / tiles.tall) * height)), column: Math.min(width - 1, Math.floor((dx / tiles.side) * width)) };
}

// A vector is shown as a block of cells, so that its numbers can be told apart.
export function cellsOf([channels, height, width]) {
  if (height * width > 1) return { vector: false, count: channels, height, width };
  const columns = channels <= 12 ? channels : Math.ceil(Math.sqrt(2.5 * channels));
  return { vector: true, count: 1, height: Math.ceil(channels / columns), width: columns };
}

// The unit one step further: arrows inside a map, Page keys from map to map.
export function stepped([channel, row, column], key, [channels, height, width]) {
  const within = (value, count) => Math.min(Math.max(value, 0), count - 1);
  const cells = cellsOf([channels, height, width]);
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  if (key === "PageUp" || key === "PageDown") return [within(channel + (key === "PageUp" ? -1 : 1), channels), row, column];
  if (!moves[key]) return null;
  const [down, across] = moves[key];
  if (cells.vector) return [within(channel + down * cells.width + across, channels), 0, 0];
  return [channel, within(row + down, height), within(column + across, width)];
}

// A sum of products, input map by input map, the largest first; the rest is added up.
export function terms(patch, kernel, [inputs, high, wide], keep) {
  const taps = high * wide;
  const all = Array.from({ length: inputs }, (_, input) => {
    const places = Array.from({ length: taps }, (_, tap) => input * taps + tap);
    return { input, patch: places.map((i) => patch[i]), kernel: places.map((i) => kernel[i]), sum: places.reduce((sum, i) => sum + patch[i] * kernel[i], 0) };
  }).sort((one, other) => Math.abs(other.sum) - Math.abs(one.sum));
  const rest = all.slice(keep);
  return { shown: all.slice(0, keep), others: rest.length, rest: rest.reduce((sum, term) => sum + term.sum, 0), total: all.reduce((sum, term) => sum + term.sum, 0) };
}

// Blocks under the part of the network that they belong to, in the order in which the parts begin.
export function grouped(blocks) {
  const groups = new Map();
  for (const block of blocks) {
    const name = block.path.split(/[.#]/)[0];
    if (!groups.has(name)) groups.set(name, { name, head: null, inside: [] });
    if (block.path === name) groups.get(name).head = block;
    else groups.get(name).inside.push(block);
  }
  return [...groups.values()];
}

export function shapeInWords(shape) { return shape.join(" × "); }

// The corners of the frame that theta looks through, in -1..1 of the picture, and lines inside it.
export function thetaLines(theta, steps = 4) {
  const at = (x, y) => [theta[0] * x + theta[1] * y + theta[2], theta[3] * x + theta[4] * y + theta[5]];
  const ticks = Array.from({ length: steps + 1 }, (_, i) => (2 * i) / steps - 1);
  return ticks.flatMap((t) => [[at(t, -1), at(t, 1)], [at(-1, t), at(1, t)]]);
}
