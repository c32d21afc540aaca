// The three magnifications: the blocks of a network, the maps of a block, the arithmetic of a unit.
import { cellsOf, decoded, grouped, placeOn, shapeInWords, sight, sightInWords, signedly, terms, tileBox, tiling, written } from "./explorer.mjs";
import { bytes, el, screen } from "./parts.mjs";

const TALLEST = 470; // CSS pixels of a sheet of maps
const LARGEST = 92; // of a cell, so that six numbers do not fill a screen
const NUMBERED = 34; // a cell this wide shows its number

// Values in -1..1 as RGBA bytes; `tint` gives [r, g, b, alpha 0..1].
export function coloured(values, tint, opacity = 1) {
  const pixels = new Uint8ClampedArray(4 * values.length);
  values.forEach((value, i) => {
    const [r, g, b, a] = tint(value);
    pixels.set([r, g, b, 255 * a * opacity], 4 * i);
  });
  return pixels;
}

export function picture(pixels, height, width) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
}

// What fits into a small cell.
function short(value) {
  return Number.isFinite(value) ? value.toFixed(Math.abs(value) < 10 ? 2 : 0).replace("-", "−") : "·";
}

// The numbers of a maps answer, whichever way they came: floats of a page, or bytes with a top for each map.
export function numbersOf(side) {
  const [, height, width] = side.shape;
  const size = height * width;
  if (side.values) return side.channels.map((channel) => side.values.subarray(channel * size, (channel + 1) * size));
  const raw = bytes(side.bytes);
  return side.channels.map((_, i) => Float32Array.from(raw.subarray(i * size, (i + 1) * size), (byte) => decoded(byte, side.tops[i])));
}

// --- network: parts as rows, layers as chips. Arrow keys go from chip to chip; Tab leaves.
export function networkView(tint, choose) {
  const node = el("div", { class: "fl-network", role: "group", "aria-label": "Blocks of the network, in the order in which they work" });
  let chips = [];
  let at = 0;
  function chip(block, chosen) {
    const thumb = el("span", { class: "fl-thumb" });
    if (block.thumb) {
      const values = Array.from(bytes(block.thumb), (byte) => decoded(byte, 1));
      thumb.append(picture(coloured(values, tint), ...block.thumb_shape));
    }
    const label = block.path.includes(".") ? block.path.slice(block.path.indexOf(".") + 1) : block.path;
    const shape = shapeInWords(block.shape);
    const button = el("button", { type: "button", class: `fl-chip${block.part ? " fl-part" : ""}`, tabindex: -1, "data-path": block.path,
      "aria-pressed": String(chosen), "aria-label": `${block.path}, ${block.kind}, ${shape}${block.part ? `, declared as ${block.part}` : ""}${block.bad ? ", holds NaN" : ""}`,
      onclick: () => choose(block.path) },
      thumb, el("span", { class: "fl-chip-name" }, label),
      el("span", { class: "fl-chip-shape" }, block.bad ? "NaN" : shape), el("span", { class: "fl-chip-kind" }, block.part ? el("b", { class: "fl-badge" }, block.part) : null, block.kind));
    chips.push(button);
    return button;
  }
  function show(blocks, chosen) {
    chips = [];
    node.replaceChildren(...grouped(blocks).map(({ name, head, inside }) => el("section", { class: "fl-group" },
      el("h5", {}, name, head ? el("small", {}, ` ${head.kind}${head.parameters ? ` · ${head.parameters.toLocaleString("en")} weights` : ""}`) : null),
      el("div", { class: "fl-chips" }, ...inside.map((block) => chip(block, block.path === chosen)), ...(head ? [chip({ ...head }, head.path === chosen)] : [])))));
    at = Math.max(chips.findIndex((button) => button.dataset.path === chosen), 0);
    if (chips[at]) chips[at].tabIndex = 0;
  }
  node.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || !chips.length) return;
    chips[at].tabIndex = -1;
    at = Math.min(Math.max(chips.indexOf(document.activeElement.getRootNode().activeElement) + step, 0), chips.length - 1);
    chips[at].tabIndex = 0;
    chips[at].focus();
    event.preventDefault();
    event.stopPropagation();
  });
  return { node, show };
}

// --- maps: all maps of a block on one sheet (or one of them, large). `tell` hears the unit under the pointer.
export function sheetView({ tint, hover, pick, key, label }) {
  const node = el("div", { class: "fl-sheet" });
  let [now, surface, images] = [null, null, []];
  function paint() {
    const { numbers, own, cells } = now;
    const strongest = numbers.map((values) => values.reduce((top, value) => Math.max(top, Math.abs(value)), 0));
    const most = Math.max(...strongest, 0);
    images = now.only === null ? numbers : [numbers[now.only]];
    images = images.map((values, i) => {
      const top = (own && !cells.vector ? strongest[now.only ?? i] : most) || 1;
      const padded = new Float32Array(cells.height * cells.width);
      if (!cells.vector) padded.set(values);
      else numbers.forEach((value, channel) => { padded[channel] = value[0]; });
      return picture(coloured(Array.from(padded, (value) => value / top), tint), cells.height, cells.width);
    });
    if (cells.vector) images = images.slice(0, 1);
  }
  const tilesFor = (width) => tiling(images.length, now.cells.height, now.cells.width, width, TALLEST);
  function draw(context, width) {
    const tiles = tilesFor(width);
    const { cells, unit } = now;
    images.forEach((image, i) => {
      const { x, y } = tileBox(tiles, i);
      context.drawImage(image, x, y, tiles.side, tiles.tall);
      context.strokeStyle = "rgba(128, 136, 148, 0.45)";
      context.lineWidth = 1;
      context.strokeRect(x + 0.5, y + 0.5, tiles.side - 1, tiles.tall - 1);
    });
    const cell = tiles.side / cells.width;
    if (cell >= NUMBERED) numberCells(context, cell);
    const index = cells.vector ? 0 : now.only === null ? now.side.channels.indexOf(unit[0]) : 0;
    if (index < 0) return;
    const { x, y } = tileBox(tiles, index);
    const [row, column] = cells.vector ? [Math.floor(unit[0] / cells.width), unit[0] % cells.width] : unit.slice(1);
    const [left, top, side] = [x + column * cell, y + row * cell, Math.max(cell, 5)];
    for (const [line, colour] of [[4, "rgba(255, 255, 255, 0.95)"], [2, "#1b1f24"]]) {
      context.lineWidth = line;
      context.strokeStyle = colour;
      context.strokeRect(left - (side - cell) / 2, top - (side - cell) / 2, side, side);
    }
  }
  function numberCells(context, cell) {
    const values = now.cells.vector ? now.numbers.map((value) => value[0]) : now.numbers[now.only ?? 0];
    context.font = `${Math.min(13, cell / 3.4)}px ui-monospace, Menlo, Consolas, monospace`;
    context.textAlign = "center";
    context.fillStyle = getComputedStyle(node).color;
    if (images.length === 1) values.forEach((value, i) => context.fillText(cell < 64 ? short(value) : written(value), ((i % now.cells.width) + 0.5) * cell, (Math.floor(i / now.cells.width) + 0.58) * cell));
  }
  function unitAt(event) {
    const box = surface.canvas.getBoundingClientRect();
    const place = placeOn(tilesFor(box.width), images.length, now.cells.height, now.cells.width, event.clientX - box.left, event.clientY - box.top);
    if (!place) return null;
    if (now.cells.vector) {
      const channel = place.row * now.cells.width + place.column;
      return channel < now.numbers.length ? [channel, 0, 0] : null;
    }
    return [now.only === null ? now.side.channels[place.index] : now.side.channels[now.only], place.row, place.column];
  }
  function build() {
    surface?.stop();
    const ratioAt = (width) => width / Math.max(tilesFor(width).total, 1);
    surface = screen(ratioAt(Math.min(node.clientWidth || 480, images.length === 1 ? Math.max(now.cells.width * LARGEST, 90) : Infinity)), draw, { tabindex: 0, role: "application", "aria-roledescription": "maps", class: "fl-screen fl-maps" });
    surface.canvas.addEventListener("pointermove", (event) => hover(unitAt(event)));
    surface.canvas.addEventListener("pointerleave", () => hover(null));
    surface.canvas.addEventListener("click", (event) => { const unit = unitAt(event); if (unit) pick(unit); });
    surface.canvas.addEventListener("keydown", key);
    if (images.length === 1) surface.canvas.style.maxWidth = `${Math.max(now.cells.width * LARGEST, 90)}px`;
    node.replaceChildren(surface.canvas);
  }
  let across = 0;
  const watcher = new ResizeObserver(() => {
    if (now && Math.abs(node.clientWidth - across) > 3) { across = node.clientWidth; refocused(build); }
  });
  watcher.observe(node);
  function refocused(work) {
    const focused = surface && surface.canvas.getRootNode().activeElement === surface.canvas;
    work();
    if (focused) surface.canvas.focus({ preventScroll: true });
  }
  function show(side, unit, { own = false, only = null, words = "" }) {
    const before = now;
    now = { side, unit, own, only, cells: cellsOf(side.shape), numbers: before && before.side === side ? before.numbers : numbersOf(side) };
    if (only !== null && now.cells.vector) now.only = null;
    if (!before || before.side !== side || before.own !== own || before.only !== now.only) paint();
    if (!before || String(before.side.shape) !== String(side.shape) || before.only !== now.only || before.side.channels.length !== side.channels.length) refocused(build);
    surface.canvas.setAttribute("aria-label", `${label()}${words}`);
    surface.redraw();
  }
  const valueAt = ([channel, row, column]) => {
    const i = now ? now.side.channels.indexOf(channel) : -1;
    return i < 0 ? null : now.numbers[i][row * now.side.shape[2] + column] ?? null;
  };
  return { node, show, valueAt, focus: () => surface?.canvas.focus({ preventScroll: true }), stop: () => { watcher.disconnect(); surface?.stop(); } };
}

// --- pixel: the sum behind one number, as grids and a line of text
export function sumView(tint) {
  const node = el("div", { class: "fl-sum", "aria-live": "off" });
  const floats = (value) => (typeof value === "string" ? new Float32Array(bytes(value).buffer) : Float32Array.from(value));
  function grid(values, wide, top, title, marked = -1) {
    const high = values.length / wide;
    const cell = Math.max(12, Math.min(38, Math.floor(124 / Math.max(wide, high))));
    const density = 2;
    const canvas = el("canvas", { width: wide * cell * density, height: high * cell * density, role: "img", style: `width: ${wide * cell}px; height: ${high * cell}px`,
      "aria-label": `${title}: ${Array.from(values, written).join(", ")}` });
    const context = canvas.getContext("2d");
    context.scale(density, density);
    context.imageSmoothingEnabled = false;
    const finite = Array.from(values, (value) => (Number.isFinite(value) ? value / (top || 1) : 0));
    context.drawImage(picture(coloured(finite, tint, 0.8), high, wide), 0, 0, wide * cell, high * cell);
    context.font = `${Math.min(11.5, cell / 3.05)}px ui-monospace, Menlo, Consolas, monospace`;
    context.textAlign = "center";
    context.fillStyle = getComputedStyle(node).color || "#000";
    context.strokeStyle = "rgba(128, 136, 148, 0.4)";
    values.forEach((value, i) => {
      const [x, y] = [(i % wide) * cell, Math.floor(i / wide) * cell];
      context.lineWidth = 1;
      context.strokeRect(x + 0.5, y + 0.5, cell - 1, cell - 1);
      if (cell >= 28) context.fillText(short(value), x + cell / 2, y + cell / 2 + 4);
    });
    if (marked >= 0) { context.lineWidth = 2.5; context.strokeStyle = context.fillStyle; context.strokeRect((marked % wide) * cell + 1, Math.floor(marked / wide) * cell + 1, cell - 2, cell - 2); }
    return canvas;
  }
  const line = (...parts) => el("p", { class: "fl-formula" }, ...parts);
  const result = (value) => el("b", { class: "fl-result-value" }, written(value));
  const RULES = {
    sum(found) {
      const [patch, kernel, [inputs, high, wide]] = [floats(found.patch), floats(found.kernel), found.taps];
      const sums = terms(patch, kernel, found.taps, high * wide > 1 ? 3 : 6);
      const [most, weight] = [patch, kernel].map((values) => values.reduce((top, value) => Math.max(top, Math.abs(value)), 0));
      const name = (term) => `${high * wide > 1 ? "map" : "input"} ${found.first + term.input}`;
      const rows = sums.shown.map((term) => (high * wide > 1
        ? el("div", { class: "fl-term" }, el("span", { class: "fl-term-name" }, inputs === 1 && found.first === 0 ? "input" : name(term)), grid(term.patch, wide, most, "patch"), el("i", {}, "×"), grid(term.kernel, wide, weight, "kernel"), el("i", {}, "="), el("b", {}, written(term.sum)))
        : line(el("span", { class: "fl-term-name" }, name(term)), `${written(term.patch[0])} × ${written(term.kernel[0])} = `, el("b", {}, written(term.sum)))));
      const parts = [...sums.shown.map((term, i) => (i ? ` ${signedly(term.sum)}` : written(term.sum))), ...(sums.others ? [` ${signedly(sums.rest)} (${sums.others} other${sums.others > 1 ? "s" : ""})`] : []), ` ${signedly(found.bias)} (bias)`];
      return [el("p", { class: "fl-hint" }, high * wide > 1 ? `patch × kernel, place by place, added up${inputs > 3 ? `; the 3 strongest of ${inputs} input maps` : ""}` : `inputs × weights, added up; the ${Math.min(6, inputs)} strongest of ${inputs}`), ...rows, line(...parts, " = ", result(found.value))];
    },
    maximum: (found) => pool(found, "The largest of the window wins; the others are forgotten."),
    mean: (found) => pool(found, "The mean of the window."),
    normalise: (found) => [el("p", { class: "fl-hint" }, "(x − mean) / deviation × scale + shift, with the numbers of this map"),
      line(`(${written(found.x)} ${signedly(-found.mean)}) / ${written(found.deviation)} × ${written(found.scale)} ${signedly(found.shift)} = `, result(found.value))],
    pointwise: (found) => [line(`${found.name}: ${written(found.x)} → `, result(found.value))],
    none: (found) => [line("value = ", result(found.value)), el("p", { class: "fl-hint" }, found.words)],
  };
  function pool(found, words) {
    const patch = floats(found.patch);
    const top = patch.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
    const marked = found.rule === "maximum" ? patch.indexOf(Math.max(...patch)) : -1;
    return [el("p", { class: "fl-hint" }, words), el("div", { class: "fl-term" }, grid(patch, found.taps[2], top, "window", marked), el("i", {}, "→"), result(found.value))];
  }
  function show(found, title) {
    const through = found.through ? el("p", { class: "fl-hint" }, `This block passes on what its last layer made: ${found.through}.`) : null;
    node.replaceChildren(el("h5", {}, title), ...[through, ...RULES[found.rule](found)].filter(Boolean));
  }
  return { node, show };
}

// What is under the pointer, in words.
export function unitInWords(block, unit, value, box) {
  const [channel, row, column] = unit;
  const where = block.maps && block.maps[1] * block.maps[2] > 1 ? `${block.maps[0] > 1 ? `map ${channel}, ` : ""}row ${row}, column ${column}` : `unit ${channel}`;
  return `${where}: ${written(value)}; ${sightInWords(box)}`;
}

export function boxOf(block, unit, height, width) {
  return sight(block?.fields, unit[1], unit[2], height, width);
}


