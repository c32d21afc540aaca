// The view of CropEditor: drag landmarks, and the crop of paper 3 and the parts of paper 4 follow.
import { ALPHA, MIDDLE, PARTS, SEEN, SQUARE, countInside, cropSquare, easel, groupOf, keyMeans, middleOf, movedPoints, nearestPoint, partBoxes, readBox, rounded } from "./crops.mjs";
import { announcer, bitmap, el, faceStrip, frame, freshName, greys, panel, screen, slider, statusLine } from "./parts.mjs";

const MARGIN = 5;
const SQUARES = "#2f7fc1"; // the colours of fer_lab.figures.SERIES
const PART_COLOURS = { eyes: "#f07a35", nose: "#12b892", mouth: "#c684d4" };
const SHEET = { width: 128, height: 120, at: { eyes: [0, 0], nose: [12, 56], mouth: [58, 72] } }; // where the parts are laid out
const one = (value) => value.toFixed(1).replace("-", "−");

function render({ model, el: root }) {
  const around = frame(root, "Crop editor: drag the landmarks, the crop square and the parts follow");
  const { node } = around;
  const shape = model.get("shape");
  const frozen = model.get("frozen");
  if (!shape[0]) {
    node.append(el("p", { class: "fl-empty" }, "No face to show: the widget was given no image."));
    return around.stop;
  }
  const [, , height, width] = shape;
  const [classes, original] = [model.get("classes"), model.get("original")];
  const pictures = greys(model.get("faces"), shape);
  const labels = pictures.map((_, i) => model.get("labels")[i] ?? -1);
  const names = pictures.map((_, i) => `Face ${i + 1}${labels[i] >= 0 ? `, labelled ${classes[labels[i]]}` : ""}`);
  const state = { face: model.get("face"), all: model.get("landmarks").map((points) => points), alpha: model.get("alpha"), margin: model.get("margin"),
    chosen: 30, whole: false, focused: false };
  let face = bitmap(pictures[state.face], height, width);
  let sending = false;

  // --- what follows from the landmarks
  const points = () => state.all[state.face];
  const found = () => {
    const square = cropSquare(points(), state.alpha);
    return { ...square, middle: middleOf(square.box), parts: partBoxes(points(), state.margin) };
  };
  let now = found();

  // --- drawing
  function outline(context, view, [left, top, right, bottom], colour, dash = []) {
    const [a, b] = [view.toScreen([left, top]), view.toScreen([right, bottom])];
    const [x, y] = a.map((value) => value - 0.5 * view.scale);
    const [w, h] = [b[0] - a[0], b[1] - a[1]];
    context.setLineDash(dash);
    for (const [line, ink] of [[4, "rgba(10, 12, 16, 0.35)"], [2, colour]]) {
      context.lineWidth = line;
      context.strokeStyle = ink;
      context.strokeRect(x + 0.5 * view.scale, y + 0.5 * view.scale, w, h);
    }
    context.setLineDash([]);
  }
  const hint = freshName("fl-hint");
  const scene = screen(width / height, (context, w, h) => {
    const view = easel(w, height, width);
    context.fillStyle = "#808080";
    context.fillRect(0, 0, w, h);
    const [left, top] = view.toScreen([-0.5, -0.5]);
    context.drawImage(face, left, top, width * view.scale, height * view.scale);
    for (const [name, box] of Object.entries(now.parts)) outline(context, view, box, PART_COLOURS[name]);
    outline(context, view, now.box, SQUARES);
    outline(context, view, now.middle, SQUARES, [6, 4]);
    points().forEach((point, i) => drawPoint(context, view.toScreen(point), i));
  }, { tabindex: 0, role: "application", "aria-roledescription": "landmark editor", "aria-describedby": hint });
  function drawPoint(context, [x, y], i) {
    const [, from, to] = state.whole ? groupOf(state.chosen) : [null, state.chosen, state.chosen + 1];
    const held = i >= from && i < to;
    context.beginPath();
    context.arc(x, y, held ? (state.focused ? 5.5 : 4.5) : 2.6, 0, 2 * Math.PI);
    context.fillStyle = held ? "#ffd23f" : i < SEEN[0] ? "rgba(255, 255, 255, 0.55)" : "#ffffff";
    context.fill();
    context.lineWidth = 1;
    context.strokeStyle = "rgba(10, 12, 16, 0.75)";
    context.stroke();
  }
  const crop = screen(1, (context, w) => {
    const unit = w / SQUARE;
    const [edge, inner] = [((SQUARE - MIDDLE) / 2) * unit, MIDDLE * unit];
    context.drawImage(bitmap(readBox(pictures[state.face], height, width, now.box, SQUARE, SQUARE), SQUARE, SQUARE), 0, 0, w, w);
    context.fillStyle = "rgba(18, 22, 30, 0.55)";
    context.beginPath();
    context.rect(0, 0, w, w);
    context.rect(edge, edge, inner, inner);
    context.fill("evenodd");
    context.lineWidth = 2;
    context.strokeStyle = SQUARES;
    context.setLineDash([6, 4]);
    context.strokeRect(edge, edge, inner, inner);
    context.setLineDash([]);
  }, { role: "img", class: "fl-screen fl-result" });
  const sheet = screen(SHEET.width / SHEET.height, (context, w) => {
    const unit = w / SHEET.width;
    for (const [name, part] of Object.entries(PARTS)) {
      const [x, y] = SHEET.at[name].map((value) => value * unit);
      const read = readBox(pictures[state.face], height, width, now.parts[name], part.height, part.width);
      context.drawImage(bitmap(read, part.height, part.width), x, y, part.width * unit, part.height * unit);
      context.lineWidth = 3;
      context.strokeStyle = PART_COLOURS[name];
      context.strokeRect(x + 1.5, y + 1.5, part.width * unit - 3, part.height * unit - 3);
    }
  }, { role: "img", class: "fl-screen fl-result" });

  // --- controls and numbers
  const status = statusLine();
  const voice = announcer();
  const numbers = el("dl", { class: "fl-facts" });
  const sliders = [
    slider({ label: "α of the square", low: 0.6, high: 2, step: 0.01, rest: ALPHA, format: (v) => v.toFixed(2), change: (v) => { state.alpha = v; changed(); } }),
    slider({ label: "Margin of the parts", low: 0, high: 20, step: 0.5, rest: MARGIN, format: (v) => `${v.toFixed(1)} px`, change: (v) => { state.margin = v; changed(); } }),
  ];
  sliders[0].point(ALPHA);
  sliders[1].point(MARGIN);
  const whole = el("button", { type: "button", onclick: () => { state.whole = !state.whole; show(); } }, "Move whole parts");
  const reset = el("button", { type: "button", onclick: restore }, "Landmarks as given");
  const strip = faceStrip(pictures, shape, names, state.face, (i) => { state.face = i; face = bitmap(pictures[i], height, width); changed(); });

  // --- what changes
  function restore() {
    state.all = state.all.map((given, i) => (i === state.face ? original[i] : given));
    changed();
  }
  function move(from, step) {
    const next = rounded(movedPoints(from, state.chosen, state.whole, step, [height, width]));
    state.all = state.all.map((given, i) => (i === state.face ? next : given));
    changed();
  }
  function changed() {
    show();
    sending = true; // our own news must not come back to us half sent
    for (const [name, value] of [["face", state.face], ["landmarks", state.all], ["alpha", state.alpha], ["margin", state.margin]]) model.set(name, value);
    sending = false;
    model.save_changes();
  }

  // --- what is shown
  const size = ([left, top, right, bottom]) => `${one(right - left)} × ${one(bottom - top)}`;
  function facts() {
    return [
      ["reach of landmarks 17–67", `${one(now.dh)} wide, ${one(now.dv)} high`],
      ["side of the square, L", `${state.alpha.toFixed(2)} × ${one(Math.max(now.dh, now.dv))} = ${one(now.side)} px`],
      ["its upper left corner", `${one(now.box[0])}, ${one(now.box[1])}`],
      ["landmarks the 96 see", `${countInside(points(), now.middle)} of ${SEEN[1] - SEEN[0]}`],
      ...Object.entries(now.parts).map(([name, box]) => [name, `${size(box)} → ${PARTS[name].width} × ${PARTS[name].height}`]),
    ];
  }
  function inWords() {
    const [x, y] = points()[state.chosen];
    const held = state.whole ? `the ${groupOf(state.chosen)[0]}` : `landmark ${state.chosen}, ${groupOf(state.chosen)[0]}`;
    return `${held}, at ${one(x)}, ${one(y)}. Square of ${one(now.side)} pixels from ${one(now.box[0])}, ${one(now.box[1])}`;
  }
  function show() {
    now = found();
    sliders[0].show(state.alpha);
    sliders[1].show(state.margin);
    strip.choose(state.face);
    whole.setAttribute("aria-pressed", state.whole);
    numbers.replaceChildren(...facts().flatMap(([name, value]) => [
      el("dt", PART_COLOURS[name] ? { style: `--part: ${PART_COLOURS[name]}`, class: "fl-part" } : {}, name), el("dd", {}, value)]));
    const words = inWords();
    scene.canvas.setAttribute("aria-label", `${names[state.face]}. Holding ${words}.`);
    crop.canvas.setAttribute("aria-label", `The square at 120 pixels; the network sees its middle 96, with ${countInside(points(), now.middle)} of ${SEEN[1] - SEEN[0]} landmarks.`);
    sheet.canvas.setAttribute("aria-label", `Eyes ${size(now.parts.eyes)}, nose ${size(now.parts.nose)}, mouth ${size(now.parts.mouth)} pixels, stretched to their fixed sizes.`);
    voice.say(`Holding ${words}.`);
    [scene, crop, sheet].forEach((part) => part.redraw());
  }

  // --- pointer and keys
  let hold = null;
  const place = (event) => {
    const box = scene.canvas.getBoundingClientRect();
    return easel(scene.size.width, height, width).toPicture([event.clientX - box.left, event.clientY - box.top]);
  };
  const under = (event) => nearestPoint(points(), place(event), (event.pointerType === "touch" ? 22 : 12) / easel(scene.size.width, height, width).scale);
  const listeners = {
    pointerdown(event) {
      const index = under(event);
      if (index < 0) return;
      event.preventDefault();
      scene.canvas.focus({ preventScroll: true });
      scene.canvas.setPointerCapture(event.pointerId);
      state.chosen = index;
      hold = { id: event.pointerId, from: place(event), points: points() };
      show();
    },
    pointermove(event) {
      if (!hold) { scene.canvas.style.cursor = under(event) < 0 ? "default" : "grab"; return; }
      if (event.pointerId !== hold.id) return;
      const to = place(event);
      move(hold.points, [to[0] - hold.from[0], to[1] - hold.from[1]]);
    },
    pointerup(event) { if (hold && event.pointerId === hold.id) hold = null; },
    pointercancel(event) { if (hold && event.pointerId === hold.id) hold = null; },
    keydown(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const meaning = keyMeans(event.key, event.shiftKey, state.chosen);
      if (event.key === "Home") restore();
      else if (!meaning) return;
      else if (meaning.move) move(points(), meaning.move);
      else { state.chosen = meaning.choose; show(); }
      event.preventDefault();
      event.stopPropagation();
    },
    focus() { state.focused = true; scene.redraw(); },
    blur() { state.focused = false; scene.redraw(); },
  };
  for (const [name, listener] of Object.entries(listeners)) scene.canvas.addEventListener(name, listener);

  const fromOutside = () => {
    if (sending) return;
    Object.assign(state, { face: model.get("face"), all: model.get("landmarks"), alpha: model.get("alpha"), margin: model.get("margin") });
    face = bitmap(pictures[state.face], height, width);
    show();
  };
  const watched = ["face", "landmarks", "alpha", "margin"].map((name) => `change:${name}`);
  for (const name of watched) model.on(name, fromOutside);

  node.append(
    el("div", { class: "fl-head" }, strip.node, el("div", { class: "fl-buttons" }, whole, reset)),
    el("div", { class: "fl-stage" },
      panel("Drag the landmarks", scene.canvas, el("p", { class: "fl-hint", id: hint }, "Blue: the crop square; dashed: its middle 96. Keys: [ ] choose a landmark, arrows move it, Home puts all back")),
      panel("Paper 3: square, and middle 96", crop.canvas, el("p", { class: "fl-hint" }, "The formula of the square is inferred: α × the larger reach of the landmarks, around the tip of the nose.")),
      panel("Paper 4: eyes, nose, mouth", sheet.canvas, el("p", { class: "fl-hint" }, "Each box is stretched to its size, whatever its shape: watch the nose get wide."))),
    el("div", { class: "fl-controls" }, el("div", { class: "fl-sliders" }, ...sliders.map((part) => part.node)), numbers),
    status.node, voice.node);
  show();
  status.set(frozen ? "frozen" : "done", frozen ? frozen.note : "Live: Python knows every landmark you move; ask widget.boxes().");
  return () => {
    for (const name of watched) model.off(name, fromOutside);
    [scene, crop, sheet, status, voice, around].forEach((part) => part.stop());
  };
}

export default { render };
