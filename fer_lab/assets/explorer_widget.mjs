// The view of Explorer: three magnifications of a network, a face beside them, and any attribution on the face.
import { LEVELS, fits, shapeInWords, stepped, written } from "./explorer.mjs";
import { choices, classView, faceView, heatBytes, methodsView, trustView } from "./explorer_panel.mjs";
import { boxOf, networkView, sheetView, sumView, unitInWords } from "./explorer_stage.mjs";
import { colourScale } from "./occlusion.mjs";
import { announcer, bytes, el, faceStrip, frame, greys, panel, percent, screen, slider, statusLine } from "./parts.mjs";

const CHOSEN = ["level", "face", "beside", "frame", "block", "unit", "method", "target", "layer", "twin", "stopped", "sign", "opacity"];
const SIGNS = { both: "both", for: "for", against: "against", strength: "strength" };
const QUICK = ["Saliency", "InputXGradient", "GuidedBackprop", "Deconvolution", "LayerGradCam", "GuidedGradCam", "DeepLift"];

function render({ model, el: root }) {
  const around = frame(root, "Explorer: look inside a network");
  const { node } = around;
  node.classList.add("fl-explorer");
  const shape = model.get("shape");
  const frozen = model.get("frozen");
  if (!shape[0]) {
    node.append(el("p", { class: "fl-empty" }, "No face to show: the explorer was given no image."));
    return around.stop;
  }
  const [, , height, width] = shape;
  const [classes, colours, spans, models] = ["classes", "colours", "spans", "models"].map((name) => model.get(name));
  const tint = colourScale(model.get("scale"));
  const thumbs = greys(model.get("faces"), shape);
  const films = bytes(model.get("frames"));
  const labels = thumbs.map((_, i) => model.get("labels")[i] ?? -1);
  const names = thumbs.map((_, i) => `Face ${i + 1}${labels[i] >= 0 ? `, labelled ${classes[labels[i]]}` : ""}`);
  const state = Object.fromEntries(CHOSEN.map((name) => [name, model.get(name)]));
  const good = { network: null, maps: null, pixel: null, heat: null, quality: null };
  let [hovered, chosen, own, sending, late] = [null, null, false, false, 0];

  // --- parts
  const status = statusLine();
  const voice = announcer();
  const strip = faceStrip(thumbs, shape, names, state.face, (i) => change({ face: i, frame: Math.min(state.frame, length(i) - 1) }));
  const beside = el("select", { "aria-label": "Side by side with", onchange: (event) => change({ beside: event.target.value }) },
    el("option", { value: "" }, "nothing"), ...(models.length > 1 ? [el("option", { value: "model" }, `the model ${models[1]}`)] : []),
    ...names.map((name, i) => el("option", { value: i }, name)));
  const faceTitle = [el("figcaption"), el("figcaption")];
  const faces = [0, 1].map((i) => faceView(height, width, tint, () => faceTitle[i].textContent));
  const pair = el("div", { class: "fl-pair" }, ...faces.map((view, i) => el("figure", {}, view.node, faceTitle[i])));
  const ramp = el("i", { class: "fl-ramp" });
  const key = el("p", { class: "fl-hint fl-scale" });
  const length = (face) => spans[face][1] - spans[face][0];
  const time = slider({ label: "Time", low: 0, high: Math.max(...spans.map(([a, b]) => b - a)) - 1, step: 1, format: (i) => `frame ${i + 1} of ${length(state.face)}`, change: (i) => change({ frame: Math.min(i, length(state.face) - 1) }) });
  const energy = screen(9, drawEnergy, { "aria-hidden": "true", class: "fl-screen fl-energy" });
  const moving = el("div", { class: "fl-moving" }, energy.canvas, time.node);
  moving.hidden = !model.get("moving");
  const methods = methodsView(model.get("methods"), (method) => change({ method }));
  const targets = classView(classes, colours, (target) => change({ target: Number(target) }));
  const sign = choices("Sign", Object.entries(SIGNS).map(([value, content]) => ({ value, label: content, content: el("span", {}, content) })), (value) => change({ sign: value }));
  const layer = el("select", { "aria-label": "Layer of Grad-CAM", onchange: (event) => change({ layer: event.target.value }) });
  const layerRow = el("label", { class: "fl-row" }, el("span", {}, "Layer"), layer);
  const opacity = slider({ label: "Opacity", low: 0, high: 1, step: 0.05, format: percent, change: (value) => change({ opacity: value }) });
  const twin = el("button", { type: "button", "aria-pressed": "false", onclick: () => change({ twin: !state.twin }) }, "Sanity twin");
  const stop = el("button", { type: "button", class: "fl-stop", hidden: true, onclick: () => change({ stopped: !state.stopped }) }, "Cancel");
  const trust = trustView();

  // --- the stage
  const network = networkView(tint, (path) => change({ block: path, level: "maps" }));
  const sheets = [0, 1].map((i) => sheetView({ tint, label: () => sideName(i), hover: pointAt, pick, key: keyed }));
  const sheetTitles = [el("h5"), el("h5")];
  const sheetPair = el("div", { class: "fl-pair fl-sheets" }, ...sheets.map((sheet, i) => el("div", {}, sheetTitles[i], sheet.node)));
  const sums = [0, 1].map(() => sumView(tint));
  const sumPair = el("div", { class: "fl-sums" }, ...sums.map((sum) => sum.node));
  const readout = el("p", { class: "fl-hint fl-readout" });
  const ownScale = el("input", { type: "checkbox", onchange: () => { own = ownScale.checked; show(); } });
  const ownRow = el("label", { class: "fl-check" }, ownScale, " Each map by its own scale");
  const steps = LEVELS.map((level) => el("button", { type: "button", "data-level": level, onclick: () => change({ level }) }));
  const zoom = (by) => change({ level: LEVELS[Math.min(Math.max(LEVELS.indexOf(state.level) + by, 0), deepest())] });
  const [out, into] = [el("button", { type: "button", "aria-label": "Zoom out", onclick: () => zoom(-1) }, "−"), el("button", { type: "button", "aria-label": "Zoom in", onclick: () => zoom(1) }, "+")];
  const trail = el("nav", { class: "fl-trail", "aria-label": "Magnification" }, el("ol", {}, ...steps.map((step) => el("li", {}, step))), el("span", { class: "fl-zoom" }, out, into));
  const problem = el("p", { class: "fl-empty", role: "alert", hidden: true });
  const lens = el("div", { class: "fl-lens" }, sheetPair, sumPair);
  const stage = el("section", { class: "fl-panel fl-stage-panel", "aria-label": "Inside the network" }, trail, network.node, lens, problem, el("div", { class: "fl-foot" }, readout, ownRow));
  const deepest = () => (state.block ? 2 : 0);
  const sideName = (i) => (sides().length > 1 ? (state.beside === "model" ? models[i] : names[i ? Number(state.beside) : state.face]) : names[state.face]);
  const sides = () => good.network?.sides ?? [];
  const blockOf = (i) => sides()[i]?.blocks.find((block) => block.path === state.block);

  // --- what changes
  function change(values) {
    if (Object.entries(values).every(([name, value]) => String(state[name]) === String(value))) return;
    const anew = ["face", "beside", "method", "target", "layer", "twin"].some((name) => name in values);
    Object.assign(state, anew ? { stopped: false } : {}, values);
    if ("block" in values || "face" in values || "beside" in values || "level" in values) [hovered, chosen] = [null, null];
    sending = true;
    for (const name of CHOSEN) if (String(model.get(name)) !== String(state[name])) model.set(name, state[name]);
    sending = false;
    show();
    if (!frozen) awaited();
    model.save_changes();
    if ("level" in values && values.level !== "network") sheets[0].focus();
  }
  function awaited() {
    clearTimeout(late);
    if (current()) return settle();
    if (state.stopped) return status.set("done", "Stopped. What was found so far is shown.");
    status.set("busy", `Computing ${state.method} …`);
    late = setTimeout(() => status.set("error", "No answer from Python yet. Is the kernel running, or busy with another cell?"), 8000);
  }
  const current = () => fits("heat", good.heat, state) && !good.heat.rough && (!state.block || fits("maps", good.maps, state));
  function settle() {
    clearTimeout(late);
    if (good.heat?.error) status.set("error", good.heat.error);
    else if (frozen) status.set("frozen", frozen.note);
    else status.set("done", `Live: Python made the map in ${Math.round(good.heat.milliseconds)} ms.`);
  }
  function accept(kind, answer) {
    if (!fits(kind, answer, state)) return;
    good[kind] = answer;
    if (kind === "maps" && answer.sides?.[0]?.shape) clampUnit(answer.sides[0].shape);
    if (kind === "heat") {
      if (answer.rough) status.set("busy", `${state.method}: a rough map; refining …`, model.get("progress"));
      if (!answer.rough || answer.error) voice.say(answer.error ?? heatWords(0));
    }
    if (current()) settle();
    else if (answer.error) status.set("error", answer.error);
    show();
  }
  function clampUnit(limits) { // nobody has chosen a unit yet: the middle of the first map
    const start = state.unit.some(Boolean) ? state.unit : [0, limits[1] >> 1, limits[2] >> 1];
    const inside = start.map((value, i) => Math.min(Math.max(value, 0), limits[i] - 1));
    if (String(inside) !== String(state.unit)) queueMicrotask(() => change({ unit: inside }));
  }
  function progressed() {
    if (current() || state.stopped) return;
    clearTimeout(late);
    const share = model.get("progress");
    status.set("busy", `${state.method}: ${good.heat?.rough && fits("heat", good.heat, state) ? "a rough map; refining … " : ""}${Math.round(100 * share)} %`, share);
  }
  const fromOutside = () => {
    if (sending) return;
    for (const name of CHOSEN) state[name] = model.get(name);
    show();
    all();
  };
  function all() {
    const given = frozen ? model.get("answer") : null;
    for (const kind of Object.keys(good)) accept(kind, given ? given[kind] : model.get(kind));
  }

  // --- units
  function pointAt(unit) { // at the last magnification the sum follows the pointer, and comes back to the chosen unit
    if (state.level !== "pixel") hovered = unit;
    else if (unit) { chosen ??= state.unit; return change({ unit }); }
    else if (chosen) { const back = chosen; chosen = null; return change({ unit: back }); }
    showUnit();
  }
  function pick(unit) {
    [hovered, chosen] = [null, null];
    change({ unit, level: "pixel" });
  }
  function keyed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const limits = good.maps?.sides?.[0]?.shape;
    if (event.key === "Enter" || event.key === "+") zoom(1);
    else if (event.key === "Escape" || event.key === "-") zoom(-1);
    else {
      const unit = limits && stepped(state.unit, event.key, limits);
      if (!unit) return;
      [hovered, chosen] = [null, null];
      change({ unit });
      voice.say(readout.textContent);
    }
    event.preventDefault();
    event.stopPropagation();
  }

  // --- what is shown
  function show() {
    strip.choose(state.face);
    beside.value = state.beside;
    for (const option of beside.options) option.disabled = option.value === String(state.face);
    methods.show(model.get("methods"), state.method);
    targets.show(state.target, sides(), labels[state.face]);
    sign.show(state.sign);
    opacity.show(state.opacity);
    time.show(state.frame);
    twin.setAttribute("aria-pressed", state.twin);
    const slow = !frozen && !QUICK.includes(state.method) && !current() && !good.heat?.error;
    stop.hidden = !(slow || state.stopped);
    stop.textContent = state.stopped ? "Go on" : "Cancel";
    showLayers();
    showStage();
    showFaces();
    const judged = fits("quality", good.quality, state) ? good.quality.sides ?? [{}] : null;
    trust.show(fits("heat", good.heat, state) && good.heat.error ? [{}] : judged);
    if (model.get("moving")) energy.redraw();
  }
  function showLayers() {
    const maps = (sides()[0]?.blocks ?? []).filter((block) => block.maps && block.maps[1] * block.maps[2] > 1 && block.shape.length === 3);
    const options = [["", "the last feature maps"], ...maps.map((block) => [block.path, `${block.path} (${shapeInWords(block.shape)})`])];
    if (options.every(([value]) => value !== state.layer)) options.push([state.layer, state.layer]); // a name of the model's own
    if (String([...layer.options].map((option) => option.value)) !== String(options.map(([value]) => value))) {
      layer.replaceChildren(...options.map(([value, words]) => el("option", { value }, words)));
    }
    layer.value = state.layer;
    const used = /^Layer|^GuidedGradCam$/.test(state.method);
    layer.disabled = !used || Boolean(frozen);
    layerRow.hidden = !used;
  }
  let drawn = null;
  function showStage() {
    const titles = { network: "Network", maps: state.block ? state.block : "Maps", pixel: state.block ? `Unit ${unitName()}` : "Pixel" };
    steps.forEach((step, i) => {
      const level = LEVELS[i];
      step.textContent = titles[level];
      step.disabled = i > deepest();
      step.toggleAttribute("aria-current", level === state.level);
      if (level === state.level) step.setAttribute("aria-current", "step");
    });
    out.disabled = state.level === "network";
    into.disabled = LEVELS.indexOf(state.level) >= deepest();
    node.dataset.level = state.level;
    network.node.hidden = state.level !== "network";
    lens.hidden = state.level === "network";
    sumPair.hidden = state.level !== "pixel";
    const sheet = good.maps?.sides?.[0]?.shape;
    ownRow.hidden = state.level !== "maps" || !sheet || sheet[0] === 1 || sheet[1] * sheet[2] === 1;
    const error = state.level !== "network" ? good.maps?.error ?? good.maps?.sides?.[0]?.error : good.network?.error;
    problem.hidden = !error && Boolean(good.network);
    problem.textContent = error ?? "Looking …";
    if (good.network?.sides && drawn !== `${JSON.stringify(good.network.sides[0].face)} ${state.frame} ${state.block}`) {
      drawn = `${JSON.stringify(good.network.sides[0].face)} ${state.frame} ${state.block}`;
      network.show(good.network.sides[0].blocks, state.block);
    }
    if (state.level !== "network") showMaps(Boolean(error));
    showUnit();
  }
  function unitName() {
    const block = blockOf(0);
    return block?.maps && block.maps[1] * block.maps[2] > 1 ? state.unit.join(", ") : state.unit[0];
  }
  function showMaps(failed) {
    const shown = failed ? [] : (good.maps?.sides ?? []);
    lens.classList.toggle("fl-deep", state.level === "pixel");
    sheets.forEach((sheet, i) => {
      const side = shown[i];
      sheet.node.parentNode.hidden = !side || Boolean(side.error && !i);
      if (!side) return;
      const kept = side.shape && side.channels.length < side.shape[0] ? `, the ${side.channels.length} strongest of them` : "";
      const only = state.level === "pixel" && side.shape ? Math.max(side.channels.indexOf(state.unit[0]), 0) : null;
      sheetTitles[i].textContent = side.error ?? `${shown.length > 1 ? `${sideName(i)}: ` : ""}${side.shape[1] * side.shape[2] > 1 ? `${only === null ? `${side.shape[0]} map${side.shape[0] > 1 ? "s" : ""}` : `Map ${side.channels[only]} of ${side.shape[0]},`} ${only === null ? "of " : ""}${side.shape[1]} × ${side.shape[2]}${only === null ? kept : ""}` : `${side.shape[0]} numbers`}`;
      if (side.error) sheet.node.replaceChildren();
      else sheet.show(side, state.unit, { own, only, words: `, ${state.block}. ${readout.textContent}` });
    });
    const found = good.pixel;
    if (state.level === "pixel" && found?.sides && fits("pixel", found, state)) {
      sums.forEach((sum, i) => { sum.node.hidden = !found.sides[i]; if (found.sides[i]) sum.show(found.sides[i], `${found.sides.length > 1 ? `${sideName(i)}: ` : ""}${unitInWords(blockOf(i) ?? {}, state.unit, found.sides[i].value, null).split(":")[0]}`); });
    }
  }
  function showUnit() {
    const block = blockOf(0);
    const looking = state.level !== "network" && block;
    const unit = hovered ?? state.unit;
    const box = looking ? boxOf(block, unit, height, width) : null;
    const value = looking && fits("maps", good.maps, state) ? sheets[0].valueAt(unit) : null;
    readout.textContent = looking ? `${unitInWords(block, unit, value, box)}.` : (sides()[0]?.missing || "Choose a block to see its maps. A unit's colour: orange above zero, blue below, nothing at zero.");
    faces.forEach((view) => view.show({ box }));
    if (looking && sheets[0].node.firstChild) sheets[0].node.firstChild.setAttribute("aria-label", `${sideName(0)}, ${state.block}. ${readout.textContent}`);
  }
  function pixelsOf(face) {
    const at = spans[face][0] + Math.min(state.frame, length(face) - 1);
    return films.subarray(at * height * width, (at + 1) * height * width);
  }
  const cache = new Map();
  function frameOf(face) {
    const name = `${face} ${state.frame}`;
    if (!cache.has(name)) cache.set(name, pixelsOf(face));
    return cache.get(name);
  }
  function heatOf(side, face) {
    if (!side) return null;
    if (!side.decoded) {
      side.decoded = heatBytes(side);
      side.unsigned = side.decoded.every((byte) => byte >= 127);
    }
    const size = height * width;
    if (side.decoded.length <= size) return side.decoded;
    side.frames ??= Array.from({ length: length(face) }, (_, t) => side.decoded.subarray(t * size, (t + 1) * size));
    return side.frames[Math.min(state.frame, length(face) - 1)];
  }
  const heatWords = (i) => {
    const side = good.heat?.sides?.[i];
    return side ? `${state.method}${state.twin ? ", sanity twin" : ""}, ${classes[side.target]}${good.heat.rough ? ", rough" : ""}${side.instead ? ` (${side.instead})` : ""}` : `${state.method}: no map`;
  };
  function showFaces() {
    const two = state.beside !== "";
    const both = [state.face, state.beside === "model" || !two ? state.face : Number(state.beside)];
    pair.classList.toggle("fl-two", two);
    const heat = fits("heat", good.heat, state) && good.heat.sides ? good.heat.sides : null;
    const theta = [0, 1].map((i) => { const side = good.maps?.sides?.[i]; return state.level !== "network" && fits("maps", good.maps, state) && side?.shape && String(side.shape) === "1,2,3" ? Array.from(sheetNumbers(side)) : null; });
    faces.forEach((view, i) => {
      view.node.parentNode.hidden = i === 1 && !two;
      if (i === 1 && !two) return;
      faceTitle[i].textContent = `${two ? `${sideName(i)}: ` : ""}${heat ? heatWords(i) : `${state.method}${good.heat?.error && fits("heat", good.heat, state) ? ": no map" : " …"}`}`;
      view.show({ pixels: frameOf(both[i]), heat: heatOf(heat?.[i], both[i]), sign: state.sign, opacity: state.opacity, theta: theta[i] });
    });
    const side = heat?.[0];
    const class_ = side ? classes[side.target] : "";
    const shown = heatOf(heat?.[0], both[0]);
    const strength = state.sign === "strength" || (shown && side.unsigned);
    const stops = model.get("scale");
    ramp.style.backgroundImage = `linear-gradient(90deg, ${(strength ? stops.slice(stops.length / 2).map(([at, c]) => [2 * at - 1, c]) : stops).map(([at, c]) => `${c} ${100 * at}%`).join(", ")})`;
    key.replaceChildren(...(side ? [strength ? "weak" : `against ${class_}`, ramp, strength ? "strong" : `for ${class_}`] : ["No map."]));
    key.title = side ? `full colour: ${written(side.top)}` : "";
  }
  function sheetNumbers(side) {
    if (side.values) return side.values;
    return Array.from(bytes(side.bytes), (byte) => ((byte - 127) / 127) * side.tops[0]);
  }
  function drawEnergy(context, w, h) {
    const side = fits("heat", good.heat, state) ? good.heat.sides?.[0] : null;
    if (!side) return;
    heatOf(side, state.face);
    if (!side.frames) return;
    const sums_ = side.frames.map((values) => values.reduce((sum, byte) => sum + Math.abs(byte - 127), 0));
    const most = Math.max(...sums_, 1);
    sums_.forEach((value, t) => {
      context.fillStyle = t === state.frame ? "#d9631e" : "rgba(128, 136, 148, 0.55)";
      const wide = (w - 16) / sums_.length;
      context.fillRect(8 + t * wide + 1, h - (h - 2) * (value / most), Math.max(wide - 2, 1), (h - 2) * (value / most));
    });
  }

  const watched = { "change:progress": progressed, "change:answer": () => frozen && all(), "change:methods": show,
    ...Object.fromEntries(Object.keys(good).map((kind) => [`change:${kind}`, () => accept(kind, model.get(kind))])),
    ...Object.fromEntries(CHOSEN.map((name) => [`change:${name}`, fromOutside])) };
  for (const [name, listener] of Object.entries(watched)) model.on(name, listener);

  node.append(
    el("div", { class: "fl-head" }, strip.node, el("label", { class: "fl-choice" }, "Side by side with ", beside)),
    el("div", { class: "fl-bench" },
      el("section", { class: "fl-panel fl-face-panel", "aria-label": "The face and its heat map" }, pair, key, moving, el("div", { class: "fl-buttons" }, twin, stop), trust.node),
      stage),
    el("div", { class: "fl-attribution" },
      panel("Attribution method", methods.node),
      panel("Class to explain", targets.node),
      panel("The map", el("div", { class: "fl-row" }, el("span", {}, "Sign"), sign.node), layerRow, opacity.node)),
    status.node, voice.node);
  show();
  all();
  if (!frozen && !current()) awaited();
  return () => {
    for (const [name, listener] of Object.entries(watched)) model.off(name, listener);
    clearTimeout(late);
    [...faces, ...sheets, energy, status, voice, around].forEach((part) => part.stop());
  };
}


export default { render };
