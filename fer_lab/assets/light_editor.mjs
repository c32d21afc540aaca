// The view of LightEditor: one face in one light, and what five treatments make of it, with their histograms.
import { blended, clahed, counts, equalized, gammaOf, stretched, summary } from "./light.mjs";
import { announcer, bitmap, el, faceStrip, frame, greys, panel, screen, slider, statusLine } from "./parts.mjs";

const BINS = 64;
const BARS = "#2f7fc1"; // of fer_lab.figures.SERIES
const SLIDERS = {
  clip: { label: "CLAHE: limit", low: 0.5, high: 8, step: 0.1, rest: 2, format: (v) => v.toFixed(1) },
  tiles: { label: "CLAHE: tiles a side", low: 1, high: 12, step: 1, rest: 8, format: (v) => v.toFixed(0) },
  power: { label: "Gamma", low: 0.3, high: 3, step: 0.05, rest: 0.6, format: (v) => v.toFixed(2) },
  weight: { label: "Blend: share of HE", low: 0, high: 1, step: 0.05, rest: 0.5, format: (v) => `${Math.round(100 * v)} %` },
};

function render({ model, el: root }) {
  const around = frame(root, "Treatments of light: one face, five treatments");
  const { node } = around;
  const shape = model.get("shape");
  const frozen = model.get("frozen");
  if (!shape[0]) {
    node.append(el("p", { class: "fl-empty" }, "No face to show: the widget was given no image."));
    return around.stop;
  }
  const [, , height, width] = shape;
  const pictures = greys(model.get("faces"), shape);
  const names = model.get("names");
  const settings = Object.keys(SLIDERS);
  const state = { face: model.get("face"), ...Object.fromEntries(settings.map((name) => [name, model.get(name)])) };
  let sending = false;

  const TREATED = {
    "as it is": (x) => x,
    "linear stretch": stretched,
    HE: equalized,
    CLAHE: (x) => clahed(x, height, width, state.clip, state.tiles),
    gamma: (x) => gammaOf(x, state.power),
    blend: (x) => blended(x, state.weight),
  };
  const shown = Object.entries(TREATED).map(([name, how]) => {
    const one = { name, how, pixels: pictures[state.face] };
    one.picture = screen(width / height, (context, w, h) => context.drawImage(bitmap(one.pixels, height, width), 0, 0, w, h), { role: "img", class: "fl-screen fl-result" });
    one.chart = screen(4, (context, w, h) => drawCounts(context, w, h, one.pixels), { role: "img", class: "fl-screen fl-result" });
    one.words = el("p", { class: "fl-hint fl-greys", "data-treatment": name });
    return one;
  });
  function drawCounts(context, w, h, pixels) {
    const found = counts(pixels, BINS);
    const most = Math.max(...found);
    context.fillStyle = BARS;
    found.forEach((count, i) => context.fillRect((i * w) / BINS, h - (h * count) / most, w / BINS - 0.5, (h * count) / most));
    context.fillStyle = "rgba(128, 136, 148, 0.6)";
    context.fillRect(0, h - 1, w, 1);
  }

  const status = statusLine();
  const voice = announcer();
  const sliders = Object.fromEntries(settings.map((name) => [name, slider({ ...SLIDERS[name], change: (value) => { state[name] = value; changed(); } })]));
  const strip = faceStrip(pictures, shape, names, state.face, (i) => { state.face = i; changed(); });
  const title = el("p", { class: "fl-choice" });

  function changed() {
    show();
    sending = true; // our own news must not come back to us half sent
    for (const name of ["face", ...settings]) model.set(name, state[name]);
    sending = false;
    model.save_changes();
  }
  function show() {
    strip.choose(state.face);
    title.textContent = names[state.face];
    for (const name of settings) sliders[name].show(state[name]);
    for (const one of shown) {
      one.pixels = one.how(pictures[state.face]);
      const [mean, spread] = summary(one.pixels).map((value) => value.toFixed(0));
      one.words.textContent = `mean ${mean}, spread ${spread}`;
      one.picture.canvas.setAttribute("aria-label", `${names[state.face]}, ${one.name}.`);
      one.chart.canvas.setAttribute("aria-label", `Histogram: mean grey ${mean}, spread ${spread}.`);
      one.picture.redraw();
      one.chart.redraw();
    }
    voice.say(`${names[state.face]}. ${shown.map((one) => `${one.name}: ${one.words.textContent}`).join("; ")}.`);
  }
  const fromOutside = () => {
    if (sending) return;
    for (const name of ["face", ...settings]) state[name] = model.get(name);
    show();
  };
  const watched = ["face", ...settings].map((name) => `change:${name}`);
  for (const name of watched) model.on(name, fromOutside);

  node.append(
    el("div", { class: "fl-head" }, strip.node, title),
    el("div", { class: "fl-lights" }, ...shown.map((one) => panel(one.name, one.picture.canvas, one.chart.canvas, one.words))),
    el("div", { class: "fl-controls" }, el("div", { class: "fl-sliders" }, ...settings.map((name) => sliders[name].node))),
    status.node, voice.node);
  show();
  status.set(frozen ? "frozen" : "done", frozen ? frozen.note : "Live: Python knows the sliders; ask widget.treated().");
  return () => {
    for (const name of watched) model.off(name, fromOutside);
    [...shown.flatMap((one) => [one.picture, one.chart]), status, voice, around].forEach((part) => part.stop());
  };
}

export default { render };
