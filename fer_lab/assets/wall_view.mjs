// The view of FaceWall: faces from easy to hard, by one of several measures, with the stages of the curriculum.
import { announcer, bitmap, el, frame, freshName, greys, slider, statusLine } from "./parts.mjs";
import { inView, ordered, stageAt } from "./wall.mjs";

const COUNT = 24;

function render({ model, el: root }) {
  const around = frame(root, "Wall of faces, from easy to hard");
  const { node } = around;
  const shape = model.get("shape");
  const frozen = model.get("frozen");
  if (!shape[0]) {
    node.append(el("p", { class: "fl-empty" }, "No face to show: the widget was given no image."));
    return around.stop;
  }
  const [, , height, width] = shape;
  const pictures = greys(model.get("faces"), shape);
  const [labels, classes, colours] = ["labels", "classes", "colours"].map((name) => model.get(name));
  const [measures, names, shares] = ["measures", "names", "shares"].map((name) => model.get(name));
  const watched = ["measure", "only", "at"];
  const state = Object.fromEntries(watched.map((name) => [name, model.get(name)]));
  let sending = false;

  const status = statusLine();
  const voice = announcer();
  const wall = el("ol", { class: "fl-wall" });
  const tiles = Array.from({ length: Math.min(COUNT, shape[0]) }, () => {
    const place = el("div", { class: "fl-tile" });
    const words = el("span", { class: "fl-tile-words" });
    const tile = { place, words, node: el("li", {}, place, words) };
    wall.append(tile.node);
    return tile;
  });
  const stages = el("div", { class: "fl-stages", "aria-hidden": "true" });
  const here = el("i", { class: "fl-here" });
  shares.forEach((share, i) => {
    const from = i ? shares[i - 1] : 0;
    if (share > from) stages.append(el("span", { style: `left: ${100 * from}%; width: ${100 * (share - from)}%` }, `stage ${i + 1}`));
  });
  stages.append(here);

  const choice = (label, options, name, read) => {
    const id = freshName("fl-choice");
    const select = el("select", { id, onchange: () => { state[name] = read(select.value); changed(); } },
      ...options.map(([value, words]) => el("option", { value }, words)));
    return { node: el("div", { class: "fl-pick" }, el("label", { for: id }, label), select), show: () => { select.value = String(state[name]); } };
  };
  const measure = choice("Difficulty by", Object.keys(measures).map((name) => [name, name]), "measure", String);
  const only = choice("Expression", [[-1, "all"], ...classes.map((name, i) => [i, name])], "only", Number);
  const move = slider({
    label: "From easy to hard", low: 0, high: 1, step: 0.01, format: (v) => `${Math.round(100 * v)} %`,
    change: (value) => { state.at = value; changed(); },
  });

  function changed() {
    show();
    sending = true; // our own news must not come back to us half sent
    for (const name of watched) model.set(name, state[name]);
    sending = false;
    model.save_changes();
  }
  function show() {
    const difficulty = measures[state.measure];
    const order = ordered(difficulty, labels, state.only);
    const { start, faces } = inView(order, state.at, tiles.length);
    tiles.forEach((tile, k) => {
      const i = faces[k];
      tile.node.hidden = i === undefined;
      if (i === undefined) return;
      const stage = stageAt(start + k, order.length, shares);
      tile.place.replaceChildren(bitmap(pictures[i], height, width));
      tile.node.dataset.stage = stage;
      tile.node.style.setProperty("--fl-class", labels[i] < 0 ? "transparent" : colours[labels[i]]);
      tile.words.textContent = `${names[i]} · ${difficulty[i].toFixed(2)}`;
      tile.node.title = `${labels[i] < 0 ? "unlabelled" : classes[labels[i]]}, ${names[i]}: ${state.measure} ${difficulty[i].toFixed(3)}, stage ${stage}`;
    });
    const middle = order.length ? (start + faces.length / 2) / order.length : 0;
    here.style.left = `${100 * middle}%`;
    measure.show();
    only.show();
    move.show(state.at);
    const words = `Faces ${start + 1} to ${start + faces.length} of ${order.length}, the easiest first, by ${state.measure}`;
    wall.setAttribute("aria-label", words);
    status.set(frozen ? "frozen" : "done", frozen ? `${words}. ${frozen.note}` : `${words}.`);
    voice.say(words);
  }
  const fromOutside = () => {
    if (sending) return;
    for (const name of watched) state[name] = model.get(name);
    show();
  };
  for (const name of watched) model.on(`change:${name}`, fromOutside);

  node.append(
    el("div", { class: "fl-head" }, measure.node, only.node),
    wall, stages,
    el("div", { class: "fl-controls" }, move.node), status.node, voice.node);
  show();
  return () => {
    for (const name of watched) model.off(`change:${name}`, fromOutside);
    [status, voice, around].forEach((part) => part.stop());
  };
}

export default { render };
