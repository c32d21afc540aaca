// The view of AUMixer: a slider for each action unit, and the face that they make.
import { SIDES, changedShare, difference, facsCode, mirrored, mixed, nearestStep, patternsOf, shownOn } from "./mixing.mjs";
import { announcer, answerPanel, bitmap, bytes, el, faceStrip, frame, freshName, greys, screen, slider, statusLine } from "./parts.mjs";

function render({ model, el: root }) {
  const around = frame(root, "Mix an expression: a slider for each action unit of the face");
  const { node } = around;
  const frozen = model.get("frozen");
  const [units, presets, shape, size] = ["units", "presets", "shape", "size"].map((name) => model.get(name));
  const names = units.map((unit) => unit.name);
  const steps = frozen ? frozen.steps : null;
  const state = { side: "both", picture: null, calm: null, waiting: 0, awaited: false };
  const KEPT = ["face", "aus", "intensity", "pose", "light"];
  for (const name of KEPT) state[name] = model.get(name);
  let sending = false;

  // --- the face, and what the muscles changed in it
  const drawn = (pixels) => (pixels ? bitmap(pixels, size, size) : null);
  let [face, change] = [null, null];
  function drawFace(context, w, h) {
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    if (face) context.drawImage(face, 0, 0, w, h);
  }
  const portrait = screen(1, drawFace, { role: "img" });
  const traces = screen(1, (context, w, h) => {
    drawFace(context, w, h);
    context.fillStyle = "rgba(128, 128, 128, 0.45)";
    context.fillRect(0, 0, w, h);
    if (change) context.drawImage(change, 0, 0, w, h);
  }, { role: "img" });

  const status = statusLine();
  const voice = announcer();
  const code = el("p", { class: "fl-verdict" });
  const pattern = el("p", { class: "fl-hint" });
  const list = el("ul", { class: "fl-units" });
  const share = el("p", { class: "fl-hint" });

  // --- controls
  const strength = (value) => `${Math.round(100 * value)} %`;
  const grain = steps ? steps[0] : 0.01;
  const sliders = units.map((unit, k) => slider({
    label: el("span", {}, el("b", {}, unit.name), ` ${unit.action}`, el("small", {}, unit.muscle)),
    low: 0, high: 1, step: grain, rest: 0, format: strength,
    change: (value) => { state.aus = mixed(state.aus, k, value, state.side, Boolean(frozen)); changed(); },
  }));
  const group = (region) => el("fieldset", { class: "fl-muscles" }, el("legend", {}, region),
    ...sliders.filter((_, k) => units[k].region === region).map((one) => one.node));
  const degrees = (value) => `${Math.round(value)}°`;
  const plain = (value) => value.toFixed(1);
  const number = (name, k, label, low, high, step, rest, format) => ({ name, k, ...slider({ label, low, high, step, rest, format,
    change: (value) => { state[name] = state[name].map((old, j) => (j === k ? value : old)); changed(); } }) });
  const intensity = slider({ label: "Intensity of all", low: 0, high: 1, step: grain, rest: 1, format: strength,
    change: (value) => { state.intensity = value; changed(); } });
  const scene = frozen ? [] : [
    number("pose", 0, "Turn", -30, 30, 1, 0, degrees), number("pose", 1, "Nod", -20, 20, 1, 0, degrees), number("pose", 2, "Tilt", -30, 30, 1, 0, degrees),
    number("light", 0, "Light from the side", -1, 1, 0.1, 0.3, plain), number("light", 1, "Light from below", -1, 1, 0.1, -0.5, plain),
    number("light", 2, "Light from everywhere", 0.1, 0.9, 0.1, 0.5, plain)];

  const buttons = Object.keys(presets).map((name) => el("button", { type: "button", onclick: () => {
    state.aus = [...presets[name]];
    changed();
  } }, name));
  const sides = freshName("fl-side");
  const sideInputs = SIDES.map((side) => el("input", { type: "radio", name: sides, value: side, onchange: () => { state.side = side; show(); } }));
  const chooser = el("div", { class: "fl-sides", role: "radiogroup", "aria-label": "Side of the person that the sliders move" },
    ...SIDES.map((side, i) => el("label", {}, sideInputs[i], side === "both" ? "both sides" : `their ${side}`)),
    el("button", { type: "button", onclick: () => { state.aus = mirrored(state.aus); changed(); } }, "mirror"));
  const people = greys(model.get("faces"), shape);
  const strip = faceStrip(people, shape, people.map((_, i) => `Person ${i + 1}`), state.face, (i) => { state.face = i; changed(); });

  // --- what changes
  const matches = (answer) => answer && answer.asked === model.get("asked");
  function changed() {
    show();
    clearTimeout(state.waiting);
    sending = true;
    for (const name of KEPT) model.set(name, state[name]);
    model.set("asked", model.get("asked") + 1);
    sending = false;
    status.set("busy", "Drawing …");
    state.waiting = setTimeout(() => status.set("error", "No answer from Python yet. Is the kernel running, or busy with another cell?"), 6000);
    model.save_changes();
  }
  const pixels = (found) => (typeof found === "string" ? bytes(found) : found);
  function answered() {
    const answer = model.get("answer");
    if (!answer || answer.asked === undefined) return;
    if (matches(answer)) {
      clearTimeout(state.waiting);
      if (answer.error) return status.set("error", answer.error);
      status.set(frozen ? "frozen" : "done", frozen ? frozen.note : `Live: Python drew the face in ${Math.round(answer.milliseconds)} ms.`);
    }
    if (answer.error) return;
    [state.picture, state.calm] = [pixels(answer.picture), pixels(answer.calm)];
    [face, change] = [drawn(state.picture), bitmap(difference(state.picture, state.calm), size, size)];
    show();
    voice.say(portrait.canvas.getAttribute("aria-label"));
  }

  // --- what is shown
  function show() {
    strip.choose(state.face);
    sideInputs.forEach((input, i) => { input.checked = SIDES[i] === state.side; });
    const effective = state.aus.map((value) => value * state.intensity);
    sliders.forEach((one, k) => {
      const { value, other } = shownOn(state.aus, k, state.side);
      one.show(steps ? nearestStep(value, [0, ...steps]) : value);
      one.point(other);
      one.node.classList.toggle("fl-off", effective[2 * k] + effective[2 * k + 1] === 0);
    });
    intensity.show(state.intensity);
    for (const one of scene) one.show(state[one.name][one.k]);
    const facs = facsCode(effective, names);
    const found = patternsOf(effective, presets);
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", found.includes(Object.keys(presets)[i])));
    code.replaceChildren(el("b", {}, facs));
    pattern.textContent = facs === "0" ? "All units are at rest." : found.length ? `A pattern of ${found.join(" or ")}.` : "No pattern of the table has just these units.";
    list.replaceChildren(...units.flatMap((unit, k) => {
      const { value } = shownOn(effective, k, "both");
      return value > 0 ? [el("li", {}, el("b", {}, unit.name), ` ${unit.action} `, el("small", {}, unit.muscle))] : [];
    }));
    const words = state.picture ? `Person ${state.face + 1}, action units ${facs}. ${pattern.textContent}` : "No picture yet";
    portrait.canvas.setAttribute("aria-label", words);
    if (state.picture) {
      const part = Math.round(100 * changedShare(state.picture, state.calm));
      share.textContent = `${part} % of the pixels differ by more than 8 grey levels from the same face at rest. Orange: brighter, blue: darker.`;
      traces.canvas.setAttribute("aria-label", share.textContent);
    }
    portrait.redraw();
    traces.redraw();
  }

  const fromOutside = () => {
    if (sending) return;
    for (const name of KEPT) state[name] = model.get(name);
    show();
  };
  const watched = { "change:answer": answered, ...Object.fromEntries(KEPT.map((name) => [`change:${name}`, fromOutside])) };
  for (const [name, listener] of Object.entries(watched)) model.on(name, listener);

  const regions = [...new Set(units.map((unit) => unit.region))];
  node.append(
    el("div", { class: "fl-head" }, strip.node, el("div", { class: "fl-buttons", role: "group", "aria-label": "Expressions" }, ...buttons)),
    el("div", { class: "fl-stage" },
      answerPanel("The face", portrait.canvas, frozen ? null : chooser),
      answerPanel("What the muscles changed", traces.canvas, share),
      el("section", { class: "fl-panel" }, el("h4", {}, "In FACS writing"), code, pattern, list)),
    el("div", { class: "fl-mixer" }, ...regions.map(group),
      el("fieldset", { class: "fl-muscles" }, el("legend", {}, frozen ? "strength" : "strength, head and light"), intensity.node, ...scene.map((one) => one.node))),
    status.node, voice.node);
  show();
  answered();
  return () => {
    for (const [name, listener] of Object.entries(watched)) model.off(name, listener);
    clearTimeout(state.waiting);
    [portrait, traces, status, voice, around].forEach((part) => part.stop());
  };
}

export default { render };
