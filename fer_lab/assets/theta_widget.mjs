// The view of ThetaWidget: a sampling grid to drag over the face. The network answers in Python (or from a lattice).
import { IDENTITY, apply, grip, gridLines, handles, corners, partsOf, sameTheta, stage, thetaOf, warp } from "./geometry.mjs";
import { LIMITS, dragged, inWords, pinched, pressed, winner } from "./moves.mjs";
import { announcer, answerPanel, bars, bitmap, el, faceStrip, frame, freshName, greys, panel, percent, screen, slider, statusLine } from "./parts.mjs";

const EXTENT = 1.32;
const YOURS = "#2f7fc1"; // the colours of fer_lab.figures.SERIES
const NETWORKS = "#f07a35";
const CURSORS = { move: "move", turn: "grab", scale: "nwse-resize" };

function path(context, points) {
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.closePath();
}

// The face, everything outside the frame veiled, the network's own frame dashed, the reader's with its handles.
function drawScene(context, view, face, theta, own, focused) {
  const [left, top] = view.toScreen([-1, -1]);
  const [right, bottom] = view.toScreen([1, 1]);
  context.fillStyle = "#808080";
  context.fillRect(0, 0, view.width, view.height);
  context.drawImage(face, left, top, right - left, bottom - top);
  const outline = corners(theta).map(view.toScreen);
  context.fillStyle = "rgba(18, 22, 30, 0.5)";
  path(context, outline);
  context.rect(0, 0, view.width, view.height);
  context.fill("evenodd");
  for (const [width, colour] of [[2.5, "rgba(255, 255, 255, 0.14)"], [1, "rgba(47, 127, 193, 0.65)"]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    for (const { edge, ends } of gridLines(theta)) {
      if (edge) continue;
      context.moveTo(...view.toScreen(ends[0]));
      context.lineTo(...view.toScreen(ends[1]));
    }
    context.stroke();
  }
  if (own) {
    path(context, corners(own).map(view.toScreen));
    context.setLineDash([6, 4]);
    context.lineWidth = 2;
    context.strokeStyle = NETWORKS;
    context.stroke();
    context.setLineDash([]);
  }
  path(context, outline);
  context.lineWidth = focused ? 5 : 3.5;
  context.strokeStyle = "rgba(255, 255, 255, 0.85)";
  context.stroke();
  context.lineWidth = 2;
  context.strokeStyle = YOURS;
  context.stroke();
  drawHandles(context, handles(theta, view));
}

function drawHandles(context, { corners: ends, knob, top }) {
  context.beginPath();
  context.moveTo(...top);
  context.lineTo(...knob);
  context.lineWidth = 2;
  context.strokeStyle = YOURS;
  context.stroke();
  context.fillStyle = "#ffffff";
  for (const [x, y] of ends) {
    context.beginPath();
    context.rect(x - 5, y - 5, 10, 10);
    context.fill();
    context.stroke();
  }
  context.beginPath();
  context.arc(knob[0], knob[1], 6.5, 0, 2 * Math.PI);
  context.fill();
  context.stroke();
}

function matrix(title, kind) {
  const cells = IDENTITY.map(() => el("span"));
  const node = el("figure", { class: `fl-matrix fl-${kind}` }, el("figcaption", {}, title),
    el("div", { class: "fl-numbers", role: "img" }, ...cells));
  const show = (theta) => {
    const words = theta.map((value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "−"));
    cells.forEach((cell, i) => { cell.textContent = words[i]; });
    cells[0].parentNode.setAttribute("aria-label", `${title}: ${words.slice(0, 3).join(" ")}; ${words.slice(3).join(" ")}`);
  };
  return { node, show };
}

function render({ model, el: root }) {
  const around = frame(root, "Where the network looks: drag the sampling grid");
  const { node } = around;
  const shape = model.get("shape");
  const frozen = model.get("frozen");
  if (!shape[0]) {
    node.append(el("p", { class: "fl-empty" }, "No face to show: the widget was given no image."));
    return around.stop;
  }
  const [, , height, width] = shape;
  const limits = { ...LIMITS, ...model.get("limits") };
  const [classes, colours, network] = [model.get("classes"), model.get("colours"), model.get("network")];
  const pictures = greys(model.get("faces"), shape);
  const labels = pictures.map((_, i) => model.get("labels")[i] ?? -1);
  const names = pictures.map((_, i) => `Face ${i + 1}${labels[i] >= 0 ? `, labelled ${classes[labels[i]]}` : ""}`);
  const state = { face: model.get("face"), parts: partsOf(model.get("theta")), theta: [...model.get("theta")], good: null, waiting: 0, focused: false };
  let face = bitmap(pictures[state.face], height, width);
  let sending = false;

  const hint = freshName("fl-hint");
  const scene = screen(width / height, (context, w, h) => {
    drawScene(context, stage(w, h, EXTENT), face, state.theta, network[state.face].theta, state.focused);
  }, { tabindex: 0, role: "application", "aria-roledescription": "sampling grid", "aria-describedby": hint });
  const result = screen(width / height, (context, w, h) => {
    context.drawImage(bitmap(warp(pictures[state.face], height, width, state.theta), height, width), 0, 0, w, h);
  }, { role: "img", class: "fl-screen fl-result" });
  const chart = bars(classes, colours);
  const verdict = el("p", { class: "fl-verdict" });
  const status = statusLine();
  const voice = announcer();
  const yours = matrix("yours", "yours");
  const networks = matrix("the network’s", "networks");

  const sliders = {
    rotation: slider({ label: "Turn", low: limits.rotation[0], high: limits.rotation[1], step: 0.5, rest: 0,
      format: (v) => `${v.toFixed(0).replace("-", "−").replace(/^−0$/, "0")}°`, change: (v) => move({ ...state.parts, rotation: v }) }),
    scale: slider({ label: "Scale", low: Math.log(limits.scale[0]), high: Math.log(limits.scale[1]), step: 0.01, rest: 0,
      format: (v) => `× ${Math.exp(v).toFixed(2)}`, change: (v) => move({ ...state.parts, scale: Math.exp(v) }) }),
    x: slider({ label: "Shift right", low: limits.x[0], high: limits.x[1], step: 0.01, rest: 0,
      format: (v) => v.toFixed(2).replace("-", "−"), change: (v) => move({ ...state.parts, x: v }) }),
    y: slider({ label: "Shift down", low: limits.y[0], high: limits.y[1], step: 0.01, rest: 0,
      format: (v) => v.toFixed(2).replace("-", "−"), change: (v) => move({ ...state.parts, y: v }) }),
  };
  const along = (name, parts) => (name === "scale" ? Math.log(parts.scale) : parts[name]);
  const identity = el("button", { type: "button", onclick: () => adopt(IDENTITY) }, "Identity");
  const own = el("button", { type: "button", onclick: () => adopt(network[state.face].theta) }, "What the network chose");
  const strip = faceStrip(pictures, shape, names, state.face, (i) => chooseFace(i));

  // --- what changes
  function move(parts) { // a frozen page knows turned, scaled and shifted grids only: shear is let go
    state.parts = frozen ? { ...parts, rest: [1, 0, 0, 1] } : parts;
    state.theta = thetaOf(state.parts);
    changed();
  }
  function adopt(theta) {
    state.theta = [...theta];
    state.parts = partsOf(state.theta);
    changed();
  }
  function chooseFace(i) {
    state.face = i;
    face = bitmap(pictures[i], height, width);
    state.good = null;
    changed();
  }
  function changed() {
    show();
    if (model.get("face") === state.face && sameTheta(model.get("theta"), state.theta, 0)) return answered();
    clearTimeout(state.waiting);
    state.waiting = setTimeout(() => status.set("error", "No answer from Python yet. Is the kernel running, or busy with another cell?"), 4000);
    status.set("busy", "Computing …");
    sending = true; // our own news must not come back to us half sent
    model.set("face", state.face);
    model.set("theta", state.theta);
    sending = false;
    model.save_changes();
  }
  function answered() {
    const answer = model.get("answer");
    if (!answer || answer.face !== state.face) return;
    const latest = sameTheta(answer.theta, state.theta);
    if (answer.probabilities) state.good = answer;
    if (latest) clearTimeout(state.waiting);
    if (latest && answer.error) status.set("error", answer.error);
    else if (latest) status.set(frozen ? "frozen" : "done", frozen ? frozen.note : `Live: Python answered in ${answer.milliseconds.toFixed(answer.milliseconds < 10 ? 1 : 0)} ms.`);
    showAnswer();
  }

  // --- what is shown
  function show() {
    for (const [name, one] of Object.entries(sliders)) {
      one.show(along(name, state.parts));
      one.point(along(name, partsOf(network[state.face].theta)));
    }
    yours.show(state.theta);
    networks.show(network[state.face].theta);
    strip.choose(state.face);
    own.setAttribute("aria-pressed", sameTheta(state.theta, network[state.face].theta));
    identity.setAttribute("aria-pressed", sameTheta(state.theta, IDENTITY));
    scene.canvas.setAttribute("aria-label", `${names[state.face]}. Sampling grid: ${inWords(state.parts)}.`);
    result.canvas.setAttribute("aria-label", `The face as read through the grid: ${inWords(state.parts)}.`);
    scene.redraw();
    result.redraw();
  }
  function showAnswer() {
    const found = state.good ? state.good.probabilities : null;
    chart.show(found, { compare: network[state.face].probabilities, truth: labels[state.face] });
    const first = winner(found);
    verdict.replaceChildren(...(first ? [el("b", {}, classes[first.index]), ` ${percent(first.probability)}`] : ["…"]));
    if (first) voice.say(`Prediction: ${classes[first.index]}, ${percent(first.probability)}.`);
  }

  // --- pointer: one finger drags what it took hold of, two pinch
  const pointers = new Map();
  let hold = null;
  const place = (event) => {
    const box = scene.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const view = () => stage(scene.size.width, scene.size.height, EXTENT);
  const begin = (kind) => { hold = { kind, parts: state.parts, from: [...pointers.values()].map(view().toPlace) }; };
  const listeners = {
    pointerdown(event) {
      const kind = grip(state.theta, view(), place(event), event.pointerType === "touch" ? 24 : 14);
      if (!kind && !pointers.size) return;
      event.preventDefault();
      scene.canvas.focus({ preventScroll: true });
      scene.canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, place(event));
      begin(pointers.size > 1 ? "pinch" : kind);
    },
    pointermove(event) {
      if (!pointers.has(event.pointerId)) {
        scene.canvas.style.cursor = CURSORS[grip(state.theta, view(), place(event))] ?? "default";
        return;
      }
      pointers.set(event.pointerId, place(event));
      const to = [...pointers.values()].map(view().toPlace);
      if (hold.kind === "pinch") move(pinched(hold.parts, hold.from.slice(0, 2), to.slice(0, 2), limits));
      else move(dragged(hold.parts, hold.kind, hold.from[0], to[0], limits));
    },
    pointerup: release,
    pointercancel: release,
    keydown(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const parts = pressed(state.parts, event.key, event.shiftKey, limits);
      if (event.key === "Home") adopt(IDENTITY);
      else if (event.key === "End") adopt(network[state.face].theta);
      else if (parts) move(parts);
      else return;
      event.preventDefault();
      event.stopPropagation();
    },
    focus() { state.focused = true; scene.redraw(); },
    blur() { state.focused = false; scene.redraw(); },
  };
  function release(event) {
    pointers.delete(event.pointerId);
    if (pointers.size) begin("move");
    else hold = null;
  }
  for (const [name, listener] of Object.entries(listeners)) scene.canvas.addEventListener(name, listener);

  const fromOutside = () => {
    if (sending || (model.get("face") === state.face && sameTheta(model.get("theta"), state.theta, 0))) return;
    Object.assign(state, { face: model.get("face"), theta: [...model.get("theta")], parts: partsOf(model.get("theta")) });
    chooseFace(state.face);
  };
  const renewed = () => { network.splice(0, network.length, ...model.get("network")); show(); showAnswer(); };
  const watched = { "change:answer": answered, "change:theta": fromOutside, "change:face": fromOutside, "change:network": renewed };
  for (const [name, listener] of Object.entries(watched)) model.on(name, listener);

  node.append(
    el("div", { class: "fl-head" }, strip.node, el("div", { class: "fl-buttons" }, identity, own)),
    el("div", { class: "fl-stage" },
      panel("Where to look", scene.canvas, el("p", { class: "fl-hint", id: hint }, "Drag the frame; corners scale, the knob turns. Keys: arrows, + −, [ ]")),
      panel("What the network then sees", result.canvas, el("p", { class: "fl-hint" }, model.get("caption"))),
      answerPanel("What it answers", verdict, chart.node, el("p", { class: "fl-hint fl-legend" }, el("i", { class: "fl-tick" }), " with the network’s own theta", labels.some((label) => label >= 0) ? " \u2003✓ the label" : null))),
    el("div", { class: "fl-controls" },
      el("div", { class: "fl-sliders" }, ...Object.values(sliders).map((one) => one.node)),
      el("div", { class: "fl-thetas" }, yours.node, networks.node)),
    status.node, voice.node);
  show();
  answered();
  return () => {
    for (const [name, listener] of Object.entries(watched)) model.off(name, listener);
    clearTimeout(state.waiting);
    [scene, result, status, voice, around].forEach((part) => part.stop());
  };
}

export default { render };
