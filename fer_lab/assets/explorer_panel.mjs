// The attribution panel: the face with its heat map, the methods, the classes, and how far the map may be trusted.
import { decoded, oneSide, thetaLines, written } from "./explorer.mjs";
import { coloured, picture } from "./explorer_stage.mjs";
import { bitmap, bytes, el, freshName, percent, screen } from "./parts.mjs";

// A face with a heat map over it, and what a unit sees, and the frame that theta looks through.
export function faceView(height, width, tint, label) {
  const shown = { pixels: null, heat: null, box: null, theta: null, sign: "both", opacity: 0.8, base: null, overlay: null };
  const canvas = screen(width / height, (context, w, h) => {
    const unit = w / width;
    context.imageSmoothingEnabled = true;
    if (shown.base) context.drawImage(shown.base, 0, 0, w, h);
    context.imageSmoothingEnabled = false;
    if (shown.overlay) {
      context.fillStyle = `rgba(128, 128, 128, ${0.22 * shown.opacity})`;
      context.fillRect(0, 0, w, h);
      context.drawImage(shown.overlay, 0, 0, w, h);
    }
    if (shown.theta) drawTheta(context, w, h);
    if (shown.box) {
      const { top, left, bottom, right } = shown.box;
      const place = [left * unit, top * unit, (right - left) * unit, (bottom - top) * unit];
      const inside = [Math.max(place[0], 2), Math.max(place[1], 2)];
      const size = [Math.min(place[0] + place[2], w - 2) - inside[0], Math.min(place[1] + place[3], h - 2) - inside[1]];
      for (const [line, colour] of [[5, "rgba(255, 255, 255, 0.95)"], [2.5, "#1b1f24"]]) {
        context.lineWidth = line;
        context.strokeStyle = colour;
        context.strokeRect(...inside, ...size);
      }
    }
  }, { role: "img" });
  function drawTheta(context, w, h) {
    for (const [line, colour] of [[3.5, "rgba(0, 0, 0, 0.55)"], [1.5, "#f58a4b"]]) {
      context.lineWidth = line;
      context.strokeStyle = colour;
      for (const ends of thetaLines(shown.theta)) {
        context.beginPath();
        ends.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](((x + 1) / 2) * w, ((y + 1) / 2) * h));
        context.stroke();
      }
    }
  }
  function show(values) {
    const before = { ...shown };
    Object.assign(shown, values);
    if (shown.pixels !== before.pixels) shown.base = shown.pixels ? bitmap(shown.pixels, height, width) : null;
    if (["heat", "sign", "opacity"].some((name) => shown[name] !== before[name])) {
      shown.overlay = shown.heat ? picture(coloured(Array.from(shown.heat, (byte) => oneSide(decoded(byte, 1), shown.sign)), tint, shown.opacity), height, width) : null;
    }
    canvas.canvas.setAttribute("aria-label", label());
    canvas.redraw();
  }
  return { node: canvas.canvas, show, stop: canvas.stop };
}

// Native radio buttons in a row; `rows` are [value, ...content].
export function choices(title, rows, pick, style = "fl-pills") {
  const group = freshName("fl-choice");
  const inputs = new Map();
  const node = el("div", { class: style, role: "radiogroup", "aria-label": title }, ...rows.map(({ value, content, label, title: hint }) => {
    const input = el("input", { type: "radio", name: group, value, "aria-label": label ?? null, onchange: () => pick(value) });
    inputs.set(String(value), input);
    return el("label", { title: hint ?? null }, input, ...[content].flat());
  }));
  const show = (value) => { const input = inputs.get(String(value)); if (input) input.checked = true; };
  const allow = (value, yes, hint) => {
    const input = inputs.get(String(value));
    input.disabled = !yes;
    input.parentNode.classList.toggle("fl-off", !yes);
    if (hint) input.parentNode.title = hint;
  };
  return { node, show, allow };
}

export function methodsView(methods, pick) {
  const families = [...new Set(methods.map((method) => method.family))];
  const lists = families.map((family) => choices(`Methods: ${family}`, methods.filter((method) => method.family === family)
    .map(({ name, says, passes }) => ({ value: name, content: el("span", {}, spaced(name)), label: name, title: `${says} (${passes} passes)` })), pick));
  const why = el("ul", { class: "fl-why" });
  const says = el("p", { class: "fl-hint fl-says" });
  const node = el("div", { class: "fl-methods" }, ...families.flatMap((family, i) => [el("span", { class: "fl-family" }, family), lists[i].node]));
  function show(now, chosen) {
    for (const { name, reason, family } of now) lists[families.indexOf(family)].allow(name, !reason, reason || "");
    const at = now.find((method) => method.name === chosen);
    lists.forEach((list, i) => { for (const input of list.node.querySelectorAll("input")) input.checked = at ? input.value === chosen : false; list.node.dataset.i = i; });
    says.textContent = at ? `${chosen}: ${at.says}.` : "";
    const reasons = new Map();
    for (const { name, reason } of now) if (reason) reasons.set(reason, [...(reasons.get(reason) ?? []), name]);
    why.replaceChildren(...[...reasons].map(([reason, names]) => el("li", {}, el("b", {}, names.join(", ")), ` – ${reason}.`)));
    unavailable.hidden = !reasons.size;
    summary.textContent = `${now.filter(({ reason }) => reason).length} methods are not available here: why?`;
  }
  const summary = el("summary", {});
  const unavailable = el("details", { class: "fl-unavailable" }, summary, why);
  return { node: el("div", {}, node, says, unavailable), show };
}

const spaced = (name) => name.replace(/([a-z])([A-Z])/g, "$1\u200b$2");

// The class whose score is explained; the bars are the network's answer.
export function classView(classes, colours, pick) {
  const fills = classes.map((_, i) => el("i", { class: "fl-fill", style: `background: ${colours[i]}` }));
  const marks = classes.map(() => el("i", { class: "fl-tick", hidden: true }));
  const values = classes.map(() => el("span", { class: "fl-value" }));
  const own = el("span", { class: "fl-name" }, "its own answer");
  const list = choices("Class to explain", [{ value: -1, content: [own], label: "its own answer" }, ...classes.map((name, i) => ({ value: i, label: name,
    content: [el("span", { class: "fl-name" }, name), el("span", { class: "fl-bar" }, fills[i], marks[i]), values[i]] }))], pick, "fl-classes");
  function show(target, sides, label) {
    list.show(target);
    const [first, second] = sides.map((side) => side.probabilities);
    const best = first ? first.indexOf(Math.max(...first)) : -1;
    own.textContent = first ? `its own answer: ${classes[best]}` : "its own answer";
    classes.forEach((name, i) => {
      fills[i].style.width = `${100 * (first ? first[i] : 0)}%`;
      marks[i].hidden = !second;
      if (second) marks[i].style.left = `${100 * second[i]}%`;
      values[i].textContent = first ? percent(first[i]) : "NaN";
      values[i].parentNode.classList.toggle("fl-best", i === best);
      values[i].parentNode.classList.toggle("fl-true", i === label);
    });
  }
  const known = el("p", { class: "fl-hint" }, "The bars are the network's answer; ✓ is the label.");
  return { node: el("div", {}, list.node, known), show };
}

// Three numbers that say how far a map may be trusted.
const TRUST = [
  ["sensitivity", "Sensitivity", "largest relative change of the map under noise too weak to see; small is good"],
  ["infidelity", "Infidelity", "squared error of the map's prediction of how the score moves, at its best scale; small is good"],
  ["rank", "Like its twin", "rank correlation with the map of random weights; near 1 the map shows the face, not the network"],
];

export function trustView() {
  const cells = TRUST.map(([key, name, words]) => {
    const value = el("b", {}, "…");
    return { key, value, node: el("li", { title: words }, el("span", {}, name), value, el("small", {}, words)) };
  });
  const node = el("ul", { class: "fl-trust", "aria-label": "How far this map may be trusted" }, ...cells.map((cell) => cell.node));
  function show(sides) { // null: not known yet
    for (const { key, value } of cells) value.textContent = sides ? sides.map((side) => written(side[key] ?? null)).join(" | ") : "…";
  }
  return { node, show };
}

export function heatBytes(side) { return side.pixels ?? bytes(side.bytes); }
