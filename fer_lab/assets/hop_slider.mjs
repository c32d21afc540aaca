// The view of HopSlider: a face with its graph, a node to choose, and how far it hears.
import { byRegion, hopsFrom, nearest, rowOfPower, stepFrom } from "./hops.mjs";
import { announcer, bars, bitmap, el, faceStrip, frame, freshName, greys, panel, screen, shared, slider, statusLine } from "./parts.mjs";

const MOST = 8; // hops: the two farthest landmarks are so far apart
const RINGS = ["#ffffff", "#d9631e", "#0e9a7a", "#a65bb5", "#2f7fc1", "#b8911a", "#c0142f", "#12b8ea", "#7f8794"];
const counted = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const ARROWS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
const PLACES = { "tip of the nose": 30, "corner of the mouth": 48, "chin": 8, "inner brow": 21, "ear": 0 };

function render({ model, el: root }) {
  const around = frame(root, "Hop slider: how far a landmark hears in the graph of a face");
  const { node } = around;
  const [shape, edges, regions, frozen] = ["shape", "edges", "regions", "frozen"].map((name) => model.get(name));
  if (!shape[0]) {
    node.append(el("p", { class: "fl-empty" }, "No face to show: the widget was given no image."));
    return around.stop;
  }
  const [, , height, width] = shape;
  const pictures = greys(model.get("faces"), shape);
  const landmarks = model.get("landmarks");
  const count = landmarks[0].length;
  const bond = shared(model, ["face", "node", "hops"], () => {
    face = bitmap(pictures[state.face], height, width);
    show();
  });
  const { state } = bond;
  const regionOf = (i) => Object.entries(regions).find(([, nodes]) => nodes.includes(i))[0];
  let face = bitmap(pictures[state.face], height, width);
  let [hops, row] = [[], []];

  const spots = () => landmarks[state.face].map(([x, y]) => [x + 0.5, y + 0.5]); // 0 is the middle of the first pixel
  const hint = freshName("fl-hint");
  const scene = screen(width / height, (context, w) => {
    const unit = w / width;
    const at = spots().map(([x, y]) => [x * unit, y * unit]);
    const heard = (i) => hops[i] >= 0 && hops[i] <= state.hops;
    context.imageSmoothingEnabled = true;
    context.drawImage(face, 0, 0, w, height * unit);
    context.fillStyle = "rgba(12, 14, 18, 0.35)";
    context.fillRect(0, 0, w, height * unit);
    for (const [a, b] of edges) {
      const lit = heard(a) && heard(b);
      Object.assign(context, { strokeStyle: lit ? "rgba(255, 255, 255, 0.75)" : "rgba(255, 255, 255, 0.22)", lineWidth: lit ? 1.2 : 0.7 });
      context.beginPath(); context.moveTo(...at[a]); context.lineTo(...at[b]); context.stroke();
    }
    const loudest = Math.max(...row);
    at.forEach(([x, y], i) => {
      context.beginPath();
      context.arc(x, y, heard(i) ? 2.5 + 7 * Math.sqrt(row[i] / loudest) : 2, 0, 2 * Math.PI);
      context.fillStyle = heard(i) ? RINGS[hops[i]] : "rgba(255, 255, 255, 0.35)";
      context.fill();
      Object.assign(context, { strokeStyle: "rgba(10, 12, 16, 0.8)", lineWidth: 1 });
      if (heard(i)) context.stroke();
    });
    context.beginPath();
    context.arc(...at[state.node], 13, 0, 2 * Math.PI);
    Object.assign(context, { strokeStyle: "#ffffff", lineWidth: 2 });
    context.stroke();
  }, { tabindex: 0, role: "application", "aria-roledescription": "graph over a face", "aria-describedby": hint });

  scene.canvas.addEventListener("pointerdown", (event) => {
    const box = scene.canvas.getBoundingClientRect();
    choose(nearest(spots(), [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height]));
  });
  scene.canvas.addEventListener("keydown", (event) => {
    const way = ARROWS[event.key];
    if (!way || event.ctrlKey || event.metaKey || event.altKey) return;
    choose(stepFrom(spots(), state.node, way));
    event.preventDefault();
    event.stopPropagation();
  });

  const far = slider({ label: "Hops", low: 0, high: MOST, step: 1, format: (k) => `${k} hop${k === 1 ? "" : "s"}`,
    change: (value) => { state.hops = value; changed(); } });
  const strip = faceStrip(pictures, shape, pictures.map((_, i) => `Face ${i + 1}`), state.face,
    (i) => { state.face = i; face = bitmap(pictures[i], height, width); changed(); });
  const buttons = Object.entries(PLACES).filter(([, i]) => i < count)
    .map(([name, i]) => ({ i, node: el("button", { type: "button", onclick: () => choose(i) }, name) }));
  const names = Object.keys(regions);
  const shares = bars(names, names.map(() => RINGS[4]));
  const rings = el("ul", { class: "fl-hint" });
  const reached = el("p", { class: "fl-hint fl-says" });
  const words = el("p", { class: "fl-hint fl-says", id: hint });
  const status = statusLine();
  const voice = announcer();

  function choose(i) { state.node = i; changed(); }
  function changed() { show(); bond.tell(); }
  function show() {
    hops = hopsFrom(edges, count, state.node);
    row = rowOfPower(edges, count, state.node, state.hops);
    const parts = byRegion(regions, hops, row, state.hops);
    const heard = parts.reduce((sum, part) => sum + part.reached, 0);
    strip.choose(state.face);
    far.show(state.hops);
    buttons.forEach((one) => one.node.setAttribute("aria-pressed", one.i === state.node));
    shares.show(parts.map((part) => part.share));
    rings.replaceChildren(...Array.from({ length: state.hops + 1 }, (_, k) => el("li", {},
      el("span", { style: `color: ${k ? RINGS[k] : "inherit"}` }, k ? "● " : "○ "),
      `${counted(k, "hop")}: ${counted(hops.filter((one) => one === k).length, "point")}`)));
    reached.textContent = `Reached: ${parts.map((part) => `${part.name} ${part.reached} of ${part.of}`).join(", ")}.`;
    const said = `Point ${state.node} (${regionOf(state.node)}) hears ${heard} of ${count} points within ${state.hops} hop${state.hops === 1 ? "" : "s"}.`;
    words.textContent = `${said} Click a point, or walk with the arrow keys.`;
    scene.canvas.setAttribute("aria-label", said);
    scene.redraw();
    voice.say(said);
  }

  node.append(
    el("div", { class: "fl-head" }, strip.node, el("div", { class: "fl-buttons", role: "group", "aria-label": "Points" }, ...buttons.map((one) => one.node))),
    el("div", { class: "fl-stage" },
      panel("Whom does this point hear?", scene.canvas, words),
      panel("How far", far.node, rings),
      panel("From where its sum comes", shares.node, reached,
        el("p", { class: "fl-hint" }, "Size of a point: its weight in the row of Âᵏ. The bars add it up by region."))),
    status.node, voice.node);
  show();
  status.set(frozen ? "frozen" : "done", frozen ? frozen.note : "Live: Python knows the point; ask widget.heard() or widget.weights().");
  return () => [bond, scene, status, voice, around].forEach((part) => part.stop());
}

export default { render };
