// How a frozen Explorer finds its answers: maps and inputs are kept, the arithmetic of a unit is done here.
import { inflated } from "./lattice.mjs";
import { bytes } from "./parts.mjs";

// IEEE half precision.
export function halves(raw) {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  return Float32Array.from({ length: raw.byteLength / 2 }, (_, i) => {
    const bits = view.getUint16(2 * i, true);
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return bits >> 15 ? -size : size;
  });
}

// A window of maps [C, h, w] (flat) with `outside` around them.
export function windowOf(values, [, height, width], channels, [row, column], [high, wide], { stride, padding, dilation }, outside = 0) {
  const found = [];
  for (const channel of channels) {
    for (let i = 0; i < high; i++) {
      for (let j = 0; j < wide; j++) {
        const [y, x] = [row * stride[0] - padding[0] + i * dilation[0], column * stride[1] - padding[1] + j * dilation[1]];
        found.push(y < 0 || x < 0 || y >= height || x >= width ? outside : values[(channel * height + y) * width + x]);
      }
    }
  }
  return found;
}

const RULES = {
  sum(formula, given, [channel, row, column], tensors) {
    const kernel = tensors[formula.kernel];
    const [outputs, inputs, high, wide] = kernel.shape;
    if (high * wide === 1 && given.shape[1] * given.shape[2] > 1 && given.shape[0] !== inputs * formula.groups) return null;
    const first = Math.floor(channel / (outputs / formula.groups)) * inputs;
    const channels = Array.from({ length: inputs }, (_, i) => first + i);
    const size = inputs * high * wide;
    return { rule: "sum", first, bias: formula.bias[channel], taps: [inputs, high, wide],
      patch: windowOf(given.values, given.shape, channels, [row, column], [high, wide], formula),
      kernel: [...kernel.values.subarray(channel * size, (channel + 1) * size)] };
  },
  maximum: (formula, given, unit) => pooled(formula, given, unit, -Infinity),
  mean: (formula, given, unit) => pooled(formula, given, unit, 0),
  normalise(formula, given, unit) {
    const [mean, deviation, scale, shift] = ["mean", "deviation", "scale", "shift"].map((name) => formula[name][unit[0]]);
    return { rule: "normalise", x: at(given, unit), mean, deviation, scale, shift };
  },
  pointwise: (formula, given, unit) => ({ rule: "pointwise", name: formula.name, x: at(given, unit) }),
};

function pooled(formula, given, [channel, row, column], outside) {
  const patch = windowOf(given.values, given.shape, [channel], [row, column], formula.size, formula, outside);
  return { rule: formula.rule, patch, taps: [1, ...formula.size], first: channel };
}

export function at({ values, shape: [, height, width] }, [channel, row, column]) {
  return values[(channel * height + row) * width + column];
}

// The same number in another shape.
export function reshaped([channel, row, column], [, height, width], [, high, wide]) {
  const index = (channel * height + row) * width + column;
  return [Math.floor(index / (high * wide)), Math.floor(index / wide) % high, index % wide];
}

// What is kept for one frame of a block, "out" or "given"; a still has one frame. undefined: nothing.
export function moment(block, what, frame) {
  return block ? block[what][Math.min(frame, block[what].length - 1)] ?? undefined : undefined;
}

// How one unit of a stored block got its value, as Python's `arithmetic` tells it.
export function storedUnit(blocks, tensors, path, unit, frame = 0) {
  const block = blocks[path];
  const [out, given] = ["out", "given"].map((what) => tensors[moment(block, what, frame)]);
  const value = at(out, unit);
  if (block.formula.rule === "through") {
    const inner = block.formula.path;
    const to = tensors[moment(blocks[inner], "out", frame)];
    if (to) return { ...storedUnit(blocks, tensors, inner, reshaped(unit, out.shape, to.shape), frame), through: inner };
  }
  const found = !given || !RULES[block.formula.rule] ? null : RULES[block.formula.rule](block.formula, given, unit, tensors);
  return { value, ...(found ?? { rule: "none", words: block.formula.words ?? "This sum is not kept on the page." }) };
}

const unpacked = (text) => inflated(bytes(text));

async function unpackedSide({ network, blocks, heat }) {
  const maps = (texts) => Promise.all((texts ?? []).map((text) => (text === null ? null : unpacked(text))));
  const opened = await Promise.all(Object.entries(heat).map(async ([method, one]) => [method, { ...one, own: await maps(one.own), twin: await maps(one.twin) }]));
  return { networks: JSON.parse(new TextDecoder().decode(await unpacked(network))), blocks, heat: Object.fromEntries(opened) };
}

export async function explorerAnswers({ models: stored, tensors }) {
  const kept = await Promise.all(tensors.map(async ({ shape, bytes: text }) => ({ shape, values: halves(await unpacked(text)) })));
  const models = await Promise.all(stored.map((faces) => Promise.all(faces.map(unpackedSide))));
  return (get) => {
    const names = ["face", "beside", "frame", "block", "unit", "method", "target", "layer", "twin"];
    const asked = Object.fromEntries(names.map((name) => [name, get(name)]));
    const beside = asked.beside === "model" ? [[1, asked.face]] : asked.beside === "" ? [] : [[0, Number(asked.beside)]];
    const sides = [[0, asked.face], ...beside].map(([model, face]) => {
      const side = models[model][face];
      return { ...side, network: side.networks[Math.min(asked.frame, side.networks.length - 1)] };
    });
    const answer = (found) => ({ ...asked, sides: sides.map(found) });
    return {
      network: answer((side) => side.network),
      maps: asked.block ? answer((side) => storedMaps(side, kept, asked)) : null,
      pixel: asked.block ? answer((side) => storedPixel(side, kept, asked)) : null,
      heat: storedHeat(answer, asked),
      quality: answer((side) => {
        const judged = side.heat[asked.method]?.quality ?? [];
        return judged.length === 1 ? (targetOf(side, asked) === best(side) ? judged[0] : {}) : judged[targetOf(side, asked)] ?? {};
      }),
    };
  };
}

const best = (side) => (side.network.probabilities ? side.network.probabilities.indexOf(Math.max(...side.network.probabilities)) : 0);
const targetOf = (side, { target }) => (target < 0 ? best(side) : target);

// Why a block cannot be shown at this moment; null if it can.
export function missing(blocks, path, frame) {
  const block = blocks[path];
  if (moment(block, "out", frame) !== undefined) return null;
  const frames = block ? block.out.flatMap((number, i) => (number === null ? [] : [i + 1])) : [];
  const others = frames.length ? ` Kept: frame${frames.length > 1 ? "s" : ""} ${frames.join(", ")}.` : "";
  return `${path}${others ? `, frame ${frame + 1},` : ""} is not kept on this page.${others} Run the notebook to see it.`;
}

function storedMaps(side, tensors, { block, frame }) {
  const error = missing(side.blocks, block, frame);
  if (error) return { error };
  const { shape, values } = tensors[moment(side.blocks[block], "out", frame)];
  return { shape, values, channels: Array.from({ length: shape[0] }, (_, i) => i) };
}

function storedPixel(side, tensors, { block, unit, frame }) {
  const words = missing(side.blocks, block, frame);
  if (words) return { rule: "none", words, value: null };
  const { shape } = tensors[moment(side.blocks[block], "out", frame)];
  return storedUnit(side.blocks, tensors, block, unit.map((value, i) => Math.min(Math.max(value, 0), shape[i] - 1)), frame);
}

function storedHeat(answer, asked) {
  const found = answer((side) => {
    const stored = side.heat[asked.method];
    if (!stored || stored.error) return { error: stored ? stored.error : "Not computed for this page." };
    const [target, which] = [targetOf(side, asked), asked.twin ? "twin" : "own"];
    const pixels = stored[which][target];
    if (!pixels) return { error: "The map of this class is not kept on this page. Run the notebook to see it." };
    return { target, pixels, top: stored[`${which}_tops`][target], instead: stored.instead };
  });
  const wrong = found.sides.find((side) => side.error);
  return wrong ? { ...asked, error: wrong.error } : found;
}
