// The view of FieldExplorer: what a unit sees of a face, branch by branch, while kernel, stride, dilation and depth move.
import { LIMITS, changedLayer, clampedPlace, deepened, factsOf, recurrence, sentenceOf } from "./fields.mjs";
import { announcer, bitmap, el, faceStrip, frame, freshName, greys, panel, screen, shared, slider, statusLine } from "./parts.mjs";

const WINDOW = "#2f7fc1"; // of fer_lab.figures.SERIES
const PATHS = [240, 122, 53];
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const LAYER = [["kernel", 2, (v) => `${v} × ${v}`], ["stride", 1, (v) => `${v}`], ["dilation", 1, (v) => `${v}`]];

function render({ model, el: root }) {
  const around = frame(root, "Receptive-field explorer: what one unit sees through a stack of layers");
  const { node } = around;
  const [shape, frozen, examples] = ["shape", "frozen", "examples"].map((name) => model.get(name));
  if (!shape[0]) {
    node.append(el("p", { class: "fl-empty" }, "No face to show: the widget was given no image."));
    return around.stop;
  }
  const [, , height, width] = shape;
  const pictures = greys(model.get("faces"), shape);
  const bond = shared(model, ["face", "branches", "branch", "place"], () => {
    state.branch = Math.min(state.branch, state.branches.length - 1);
    face = bitmap(pictures[state.face], height, width);
    show();
  });
  const { state } = bond;
  let face = bitmap(pictures[state.face], height, width);
  let [facts, together, heat] = [[], null, null];

  // --- the sums, and a picture of each
  const chosen = () => state.branches[state.branch];
  function colouredHeat({ side, heat, strongest }) {
    const pixels = new Uint8ClampedArray(4 * side * side);
    heat.forEach((value, i) => {
      pixels.set(value > 0 ? [...PATHS, 55 + 165 * Math.sqrt(value / strongest)] : [12, 14, 18, 165], 4 * i);
    });
    return bitmap(pixels, side, side);
  }
  function sums() {
    facts = state.branches.map((one) => factsOf([one.layers]));
    together = factsOf(state.branches.map((one) => one.layers));
    for (const one of [...facts, together]) one.picture = colouredHeat(one);
    heat = facts[state.branch];
  }

  // --- the face with the window on it
  const hint = freshName("fl-hint");
  const scene = screen(width / height, (context, w) => {
    const unit = w / width;
    context.drawImage(face, 0, 0, w, height * unit);
    const square = (side) => {
      const from = state.place.map((middle) => (middle - (side - 1) / 2) * unit);
      return [from[1], from[0], side * unit, side * unit];
    };
    context.drawImage(heat.picture, ...square(heat.side));
    const outline = (side, ink, dash) => {
      context.setLineDash(dash);
      for (const [line, colour] of [[4, "rgba(10, 12, 16, 0.4)"], [2, ink]]) {
        Object.assign(context, { lineWidth: line, strokeStyle: colour });
        context.strokeRect(...square(side));
      }
      context.setLineDash([]);
    };
    outline(heat.side, WINDOW, []);
    outline(heat.most, "#ffffff", [4, 4]);
  }, { tabindex: 0, role: "application", "aria-roledescription": "receptive field on a face", "aria-describedby": hint });

  function put(place) {
    state.place = clampedPlace(place, [height, width]);
    changed();
  }
  const fromPointer = (event) => {
    const box = scene.canvas.getBoundingClientRect();
    put([((event.clientY - box.top) / box.height) * height - 0.5, ((event.clientX - box.left) / box.width) * width - 0.5]);
  };
  scene.canvas.addEventListener("pointerdown", (event) => { scene.canvas.setPointerCapture(event.pointerId); fromPointer(event); });
  scene.canvas.addEventListener("pointermove", (event) => { if (event.buttons) fromPointer(event); });
  scene.canvas.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 5 : 1;
    put(state.place.map((value, i) => value + far * step[i]));
    event.preventDefault();
    event.stopPropagation();
  });

  // --- the branches side by side
  const stamps = el("div", { class: "fl-stamps", role: "radiogroup", "aria-label": "Branch" });
  const group = freshName("fl-branch");
  let shown = [];
  function layOut() {
    shown.forEach((one) => one.picture.stop());
    const names = [...state.branches.map((one) => one.name), "together"];
    shown = names.map((name, i) => {
      const what = () => facts[i] ?? together;
      const picture = screen(1, (context, w) => {
        const most = together.side + 2;
        const side = (what().side / most) * w;
        context.drawImage(what().picture, (w - side) / 2, (w - side) / 2, side, side);
        Object.assign(context, { lineWidth: 1.5, strokeStyle: WINDOW });
        context.strokeRect((w - side) / 2, (w - side) / 2, side, side);
      }, { role: "img" });
      const words = el("small");
      const label = el("span", {}, el("b", {}, name), words);
      if (i === state.branches.length) return { picture, words, name, what, node: el("div", { class: "fl-stamp" }, picture.canvas, label) };
      const input = el("input", { type: "radio", name: group, value: i, "aria-label": name, onchange: () => { state.branch = i; changed(); } });
      return { picture, words, name, what, input, node: el("label", { class: "fl-stamp" }, input, picture.canvas, label) };
    });
    stamps.replaceChildren(...shown.map((one) => one.node));
  }

  // --- sliders: depth, and three for each layer
  const depth = slider({ label: "Depth of this branch", low: LIMITS.depth[0], high: LIMITS.depth[1], step: 1, format: (v) => `${v} layer${v > 1 ? "s" : ""}`,
    change: (value) => edit(deepened(chosen().layers, value)) });
  const rows = Array.from({ length: LIMITS.depth[1] }, (_, i) => {
    const parts = LAYER.map(([name, step, format], part) => slider({
      label: el("span", {}, el("span", { class: "fl-hidden" }, `Layer ${i + 1} `), name),
      low: LIMITS[name][0], high: LIMITS[name][1], step, format,
      change: (value) => edit(changedLayer(chosen().layers, i, part, value)) }));
    const legend = el("legend", {}, `layer ${i + 1}`);
    return { parts, node: el("fieldset", { class: "fl-muscles" }, legend, ...parts.map((one) => one.node)) };
  });
  const buttons = Object.entries(examples).map(([name, branches]) => el("button", { type: "button", onclick: () => {
    Object.assign(state, { branches, branch: 0 });
    changed();
  } }, name));
  const strip = faceStrip(pictures, shape, pictures.map((_, i) => `Face ${i + 1}`), state.face,
    (i) => { state.face = i; face = bitmap(pictures[i], height, width); changed(); });

  // --- numbers
  const table = el("table", { class: "fl-recurrence" });
  const words = el("p", { class: "fl-hint fl-says", id: hint });
  const status = statusLine();
  const voice = announcer();

  function edit(layers) {
    state.branches = state.branches.map((one, i) => (i === state.branch ? { ...one, layers } : one));
    changed();
  }
  function changed() { show(); bond.tell(); }
  function show() {
    sums();
    const names = [...state.branches.map((one) => one.name), "together"].join("\n");
    if (shown.map((one) => one.name).join("\n") !== names) layOut();
    strip.choose(state.face);
    depth.show(chosen().layers.length);
    rows.forEach((row, i) => {
      row.node.hidden = i >= chosen().layers.length;
      if (!row.node.hidden) row.parts.forEach((one, part) => one.show(chosen().layers[i][part]));
    });
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", JSON.stringify(Object.values(examples)[i]) === JSON.stringify(state.branches)));
    shown.forEach((one, i) => {
      if (one.input) one.input.checked = i === state.branch;
      one.words.textContent = `${one.what().side} px, ${Math.round(100 * one.what().share)} % used`;
      one.picture.canvas.setAttribute("aria-label", sentenceOf(one.name, one.what()));
      one.picture.redraw();
    });
    const head = ["", "k", "d", "reaches", "stride", "field", "jump"];
    const body = recurrence(chosen().layers).map((row, i) => [`layer ${i + 1}`, row.kernel, row.dilation, row.wide, row.stride, row.size, row.jump]);
    table.replaceChildren(el("thead", {}, el("tr", {}, ...head.map((cell) => el("th", { scope: "col" }, cell)))),
      el("tbody", {}, ...body.map(([first, ...cells]) => el("tr", {}, el("th", { scope: "row" }, first), ...cells.map((cell) => el("td", {}, `${cell}`))))));
    const said = sentenceOf(chosen().name, heat);
    words.textContent = `${said} Nine tenths of all paths lie in the dashed square. Drag the window, or use the arrow keys.`;
    scene.canvas.setAttribute("aria-label", `${said} Middle at row ${state.place[0] + 1}, column ${state.place[1] + 1}.`);
    scene.redraw();
    voice.say(`${said} ${sentenceOf("Together", together)}`);
  }

  node.append(
    el("div", { class: "fl-head" }, strip.node, el("div", { class: "fl-buttons", role: "group", "aria-label": "Examples" }, ...buttons)),
    el("div", { class: "fl-stage fl-fields" },
      panel("What one unit sees", scene.canvas, words),
      panel("Every branch, and all of them joined", stamps),
      panel("The recurrence", table, el("p", { class: "fl-hint" }, "reaches = k + (k − 1)(d − 1). The field grows by (reaches − 1) times the jump so far; a stride multiplies the jump."))),
    el("div", { class: "fl-layers" }, el("fieldset", { class: "fl-muscles" }, el("legend", {}, "depth"), depth.node), ...rows.map((row) => row.node)),
    status.node, voice.node);
  show();
  status.set(frozen ? "frozen" : "done", frozen ? frozen.note : "Live: Python knows the branches; ask widget.table() or widget.heat().");
  return () => [bond, scene, ...shown.map((one) => one.picture), status, voice, around].forEach((part) => part.stop());
}

export default { render };
