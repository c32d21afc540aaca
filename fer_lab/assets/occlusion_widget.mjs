// The view of OcclusionWidget: a square slides over the face; what does hiding cost, and where does the answer flip?
import { borders, colourScale, drops, finding, nearest, probabilitiesAt, strongest, worstOf } from "./occlusion.mjs";
import { announcer, answerPanel, bars, bitmap, bytes, el, faceStrip, frame, greys, percent, screen, slider, statusLine } from "./parts.mjs";

const UNCHANGED = 255;

function render({ model, el: root }) {
  const around = frame(root, "Which parts of the face the answer hangs on: hide them one by one");
  const { node } = around;
  const shape = model.get("shape");
  const frozen = model.get("frozen");
  if (!shape[0]) {
    node.append(el("p", { class: "fl-empty" }, "No face to show: the widget was given no image."));
    return around.stop;
  }
  const [, , height, width] = shape;
  const [classes, colours, windows, strides] = ["classes", "colours", "windows", "strides"].map((name) => model.get(name));
  const tint = colourScale(model.get("scale"));
  const pictures = greys(model.get("faces"), shape);
  const labels = pictures.map((_, i) => model.get("labels")[i] ?? -1);
  const names = pictures.map((_, i) => `Face ${i + 1}${labels[i] >= 0 ? `, labelled ${classes[labels[i]]}` : ""}`);
  const state = { face: model.get("face"), window: model.get("window"), stride: model.get("stride"), target: model.get("target"),
    good: null, at: null, pointed: false, waiting: 0 };
  let face = bitmap(pictures[state.face], height, width);
  let sending = false;

  // --- the two maps and what is drawn on them
  const unit = (w) => w / width; // CSS pixels a picture pixel
  function drawMap(context, w, h, colourAt) {
    context.drawImage(face, 0, 0, w, h);
    context.fillStyle = "rgba(128, 128, 128, 0.35)";
    context.fillRect(0, 0, w, h);
    const good = state.good;
    if (!good) return;
    const [across, down] = [borders(good.columns, good.window), borders(good.rows, good.window)].map((b) => b.map((p) => Math.round(p * unit(w))));
    for (let i = 0; i < good.rows.length; i++) {
      for (let j = 0; j < good.columns.length; j++) {
        const [r, g, b, a] = colourAt(i * good.columns.length + j);
        if (!a) continue;
        context.fillStyle = `rgba(${r}, ${g}, ${b}, ${a})`;
        context.fillRect(across[j], down[i], across[j + 1] - across[j], down[i + 1] - down[i]);
      }
    }
    const [x, y, side] = [good.columns[column()], good.rows[row()], good.window].map((p) => p * unit(w));
    for (const [line, colour] of [[4, "rgba(255, 255, 255, 0.9)"], [2, "#1b1f24"]]) {
      context.lineWidth = line;
      context.strokeStyle = colour;
      context.strokeRect(x, y, side, side);
    }
  }
  const row = () => Math.floor(state.at / state.good.columns.length);
  const column = () => state.at % state.good.columns.length;
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const map = (colourAt, label) => screen(width / height, (context, w, h) => drawMap(context, w, h, colourAt), { tabindex: 0, role: "application", "aria-roledescription": label });
  const cost = map((i) => tint(state.good.lost[i] / state.good.most), "cost map");
  const flip = map((i) => (state.good.flips[i] === UNCHANGED ? [0, 0, 0, 0] : [...rgb(colours[state.good.flips[i]]), 0.82]), "flip map");
  const maps = [cost, flip];

  const chart = bars(classes, colours);
  const verdict = el("p", { class: "fl-verdict" });
  const key = el("p", { class: "fl-hint fl-scale" });
  const flipped = el("p", { class: "fl-hint" });
  const words = el("p");
  const status = statusLine();
  const voice = announcer();
  const its = el("option", { value: -1 }, "its own answer");
  const choose = el("select", { "aria-label": "Watched class", onchange: (event) => { state.target = Number(event.target.value); sync(); refresh(); } },
    its, ...classes.map((name, i) => el("option", { value: i }, name)));
  const steps = (label, list, name) => slider({ label, low: 0, high: list.length - 1, step: 1, format: (i) => `${list[i]} px`,
    change: (i) => { state[name] = list[i]; changed(); } });
  const sliders = { window: steps("Window", windows, "window"), stride: steps("Step", strides, "stride") };
  const strip = faceStrip(pictures, shape, names, state.face, (i) => { state.face = i; face = bitmap(pictures[i], height, width); state.good = null; changed(); });

  // --- what changes
  function sync() {
    sending = true;
    for (const name of ["face", "window", "stride", "target"]) model.set(name, state[name]);
    sending = false;
  }
  function changed() {
    show();
    clearTimeout(state.waiting);
    if (matches(model.get("answer"))) return answered();
    status.set("busy", "Computing …");
    state.waiting = setTimeout(() => status.set("error", "No answer from Python yet. Is the kernel running, or busy with another cell?"), 6000);
    sync();
    model.save_changes();
  }
  const matches = (answer) => answer && ["face", "window", "stride"].every((name) => answer[name] === state[name]);
  function progressed() {
    if (matches(model.get("answer"))) return;
    clearTimeout(state.waiting);
    const share = model.get("progress");
    status.set("busy", `Computing … ${Math.round(100 * share)} %`, share);
  }
  function answered() {
    const answer = model.get("answer");
    if (!matches(answer)) return;
    clearTimeout(state.waiting);
    if (answer.error) return status.set("error", answer.error);
    const keep = state.good && state.pointed ? [state.good.rows[row()], state.good.columns[column()]] : null;
    state.good = { ...answer, table: bytes(answer.table), flips: Array.from(bytes(answer.flips)) };
    if (keep) state.at = place(keep.map((start) => start + answer.window / 2));
    status.set(frozen ? "frozen" : "done", frozen ? frozen.note : `Live: Python covered the face ${answer.rows.length * answer.columns.length} times in ${Math.round(answer.milliseconds)} ms.`);
    refresh();
  }

  // --- what is shown
  function refresh() {
    const good = state.good;
    if (!good) return show();
    const first = good.whole.indexOf(Math.max(...good.whole));
    const target = state.target < 0 ? first : state.target;
    its.textContent = `its own answer: ${classes[first]}`;
    good.lost = drops(good.table, good.whole, target);
    good.most = strongest(good.lost);
    if (state.at === null || !state.pointed) state.at = worstOf(good.lost);
    words.textContent = finding(good.lost, good.flips, classes, target);
    const end = Math.round(100 * good.most);
    key.replaceChildren(`${classes[target]} gains ${end}`, el("i", { class: "fl-ramp", style: `background-image: linear-gradient(90deg, ${model.get("scale").map(([at, c]) => `${c} ${100 * at}%`).join(", ")})` }), `loses ${end} points`);
    const winners = [...new Set(good.flips.filter((k) => k !== UNCHANGED))];
    flipped.replaceChildren(...(winners.length
      ? winners.flatMap((k) => [el("i", { class: "fl-swatch", style: `background: ${colours[k]}` }), `${classes[k]} `])
      : ["No place changes the answer."]));
    voice.say(words.textContent);
    show();
  }
  function show() {
    strip.choose(state.face);
    choose.value = state.target;
    sliders.window.show(Math.max(windows.indexOf(state.window), 0));
    sliders.stride.show(Math.max(strides.indexOf(state.stride), 0));
    const good = state.good;
    const now = good ? probabilitiesAt(good.table, state.at, classes.length) : null;
    chart.show(now, { compare: good ? good.whole : null, truth: labels[state.face] });
    const best = now ? now.indexOf(Math.max(...now)) : -1;
    verdict.replaceChildren(...(now ? [el("b", {}, classes[best]), ` ${percent(now[best])}`] : ["…"]));
    for (const one of maps) {
      one.canvas.setAttribute("aria-label", now ? `${names[state.face]}, square over row ${good.rows[row()]}, column ${good.columns[column()]}: ${classes[best]}, ${percent(now[best])}.` : names[state.face]);
      one.redraw();
    }
  }

  // --- where the square lies: under the pointer, or moved by arrow keys
  const place = ([y, x]) => nearest(y, state.good.rows, state.good.window) * state.good.columns.length + nearest(x, state.good.columns, state.good.window);
  function point(event, one) {
    if (!state.good) return;
    const box = one.canvas.getBoundingClientRect();
    state.at = place([((event.clientY - box.top) / box.height) * height, ((event.clientX - box.left) / box.width) * width]);
    state.pointed = true;
    show();
  }
  function pressed(event) {
    if (!state.good || event.ctrlKey || event.metaKey || event.altKey) return;
    const [down, across] = [state.good.rows.length, state.good.columns.length];
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key === "Home") { state.pointed = false; refresh(); }
    else if (moves[event.key]) {
      const [dy, dx] = moves[event.key];
      state.at = Math.min(Math.max(row() + dy, 0), down - 1) * across + Math.min(Math.max(column() + dx, 0), across - 1);
      state.pointed = true;
      show();
      voice.say(cost.canvas.getAttribute("aria-label"));
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
  for (const one of maps) {
    one.canvas.addEventListener("pointermove", (event) => point(event, one));
    one.canvas.addEventListener("pointerdown", (event) => { one.canvas.setPointerCapture(event.pointerId); point(event, one); });
    one.canvas.addEventListener("keydown", pressed);
  }

  const fromOutside = () => {
    if (sending) return;
    for (const name of ["face", "window", "stride", "target"]) state[name] = model.get(name);
    face = bitmap(pictures[state.face], height, width);
    show();
    if (matches(model.get("answer"))) answered();
  };
  const watched = { "change:answer": answered, "change:progress": progressed, "change:face": fromOutside, "change:window": fromOutside,
    "change:stride": fromOutside, "change:target": () => { if (!sending) { state.target = model.get("target"); refresh(); } } };
  for (const [name, listener] of Object.entries(watched)) model.on(name, listener);

  node.append(
    el("div", { class: "fl-head" }, strip.node, el("label", { class: "fl-choice" }, "Watch ", choose)),
    el("div", { class: "fl-stage" },
      answerPanel("What hiding costs", cost.canvas, key),
      answerPanel("Where the answer flips", flip.canvas, flipped),
      answerPanel("What it answers with the square there", verdict, chart.node, el("p", { class: "fl-hint fl-legend" }, el("i", { class: "fl-tick" }), " nothing hidden", labels.some((label) => label >= 0) ? " \u2003✓ the label" : null))),
    el("div", { class: "fl-controls" }, el("div", { class: "fl-sliders" }, sliders.window.node, sliders.stride.node),
      el("div", { class: "fl-finding" }, words, el("p", { class: "fl-hint" }, "Each place stands for the square with its middle there. Point at it, or use the arrow keys."))),
    status.node, voice.node);
  show();
  if (matches(model.get("answer"))) answered();
  else changed();
  return () => {
    for (const [name, listener] of Object.entries(watched)) model.off(name, listener);
    clearTimeout(state.waiting);
    [cost, flip, status, voice, around].forEach((part) => part.stop());
  };
}

export default { render };
