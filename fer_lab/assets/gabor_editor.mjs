// The view of GaborEditor: a face, a wave, and where the wave fits.
import { respond, shades, wave } from "./gabor.mjs";
import { announcer, bitmap, el, faceStrip, frame, greys, panel, screen, slider, statusLine } from "./parts.mjs";

const OCTAVE = 0.56; // sigma of a filter one octave wide, in wavelengths
const TILE = 33;
const SLIDERS = {
  theta: { label: "Direction θ", low: 0, high: 180, step: 1, rest: 90, format: (v) => `${v.toFixed(0)}°` },
  wavelength: { label: "Wavelength λ", low: 2, high: 16, step: 0.1, rest: 7, format: (v) => `${v.toFixed(1)} px` },
  sigma: { label: "Width of the bell σ", low: 1, high: 8, step: 0.1, rest: 3.9, format: (v) => `${v.toFixed(1)} px` },
};

function render({ model, el: root }) {
  const around = frame(root, "A Gabor filter on a face");
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
  let due = 0;

  const bank = model.get("wavelengths").flatMap((length) => [0, 45, 90, 135].map((turn) => ({ theta: turn, wavelength: length, sigma: OCTAVE * length })));
  const tiles = bank.map((one) => shades(wave(one.theta, one.wavelength, one.sigma, TILE), true));
  const isChosen = (one) => settings.every((name) => Math.abs(one[name] - state[name]) < 0.051);
  const filters = faceStrip(tiles, [tiles.length, 1, TILE, TILE], bank.map((one) => `λ = ${one.wavelength}, θ = ${one.theta}°`), -1, (i) => { Object.assign(state, bank[i]); changed(); });
  filters.node.setAttribute("aria-label", "Filter bank");

  const shown = [["The face", "face"], ["The wave", "wave"], ["Its answer", "real"], ["How strong", "strength"]].map(([title, name]) => {
    const one = { title, name, pixels: pictures[state.face], side: [height, width] };
    one.picture = screen(width / height, (context, w, h) => context.drawImage(bitmap(one.pixels, ...one.side), 0, 0, w, h), { role: "img", class: "fl-screen fl-result" });
    one.words = el("p", { class: "fl-hint fl-greys", "data-part": name });
    return one;
  });
  const part = Object.fromEntries(shown.map((one) => [one.name, one]));
  const status = statusLine();
  const voice = announcer();
  const sliders = Object.fromEntries(settings.map((name) => [name, slider({ ...SLIDERS[name], change: (value) => { state[name] = value; changed(); } })]));
  const strip = faceStrip(pictures, shape, names, state.face, (i) => { state.face = i; changed(); });

  function changed() {
    show();
    sending = true; // our own news must not come back to us half sent
    for (const name of ["face", ...settings]) model.set(name, state[name]);
    sending = false;
    model.save_changes();
  }
  function show() {
    strip.choose(state.face);
    for (const name of settings) sliders[name].show(state[name]);
    const at = bank.findIndex(isChosen);
    if (at >= 0) filters.choose(at);
    else for (const input of filters.node.querySelectorAll("input")) input.checked = false;
    if (!due) due = requestAnimationFrame(draw);
  }
  function draw() {
    due = 0;
    const { theta, wavelength, sigma } = state;
    const answer = respond(pictures[state.face], height, width, theta, wavelength, sigma);
    const side = Math.max(height, width) - (Math.max(height, width) % 2) + 1;
    part.face.pixels = pictures[state.face];
    Object.assign(part.wave, { pixels: shades(wave(theta, wavelength, sigma, side), true), side: [side, side] });
    part.real.pixels = shades(answer.real, true);
    part.strength.pixels = shades(answer.strength);
    const most = Math.max(...answer.strength);
    const where = answer.strength.indexOf(most);
    part.face.words.textContent = names[state.face];
    part.wave.words.textContent = `σ is ${(sigma / wavelength).toFixed(2)} λ`;
    part.real.words.textContent = "grey: nothing";
    part.strength.words.textContent = `at most ${most.toFixed(3)}, in row ${Math.floor(where / width)}, column ${where % width}`;
    for (const one of shown) {
      one.picture.canvas.setAttribute("aria-label", `${one.title}: ${one.words.textContent}.`);
      one.picture.redraw();
    }
    voice.say(`${names[state.face]}: ${part.strength.words.textContent}.`);
  }
  const fromOutside = () => {
    if (sending) return;
    for (const name of ["face", ...settings]) state[name] = model.get(name);
    show();
  };
  const watched = ["face", ...settings].map((name) => `change:${name}`);
  for (const name of watched) model.on(name, fromOutside);

  node.append(
    el("div", { class: "fl-head" }, strip.node, filters.node),
    el("div", { class: "fl-lights fl-four" }, ...shown.map((one) => panel(one.title, one.picture.canvas, one.words))),
    el("div", { class: "fl-controls" }, el("div", { class: "fl-sliders" }, ...settings.map((name) => sliders[name].node))),
    status.node, voice.node);
  show();
  status.set(frozen ? "frozen" : "done", frozen ? frozen.note : "Live: Python knows the sliders; ask widget.answer_of().");
  return () => {
    cancelAnimationFrame(due);
    for (const name of watched) model.off(name, fromOutside);
    [...shown.map((one) => one.picture), status, voice, around].forEach((each) => each.stop());
  };
}

export default { render };
