// The pieces that every widget of the lab is put together from. Nothing here is global: each call makes its own.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// A name no other widget on the page has, for radio groups and aria references.
export function freshName(prefix) {
  return `${prefix}-${crypto.getRandomValues(new Uint32Array(1))[0].toString(36)}`;
}

export function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

export function greys(base64, [count, , height, width]) {
  const all = bytes(base64);
  return Array.from({ length: count }, (_, n) => all.subarray(n * height * width, (n + 1) * height * width));
}

// Grey bytes, or [r, g, b, a] bytes, as a canvas of one pixel a number.
export function bitmap(pixels, height, width) {
  const canvas = el("canvas", { width, height });
  const data = new ImageData(width, height);
  if (pixels.length === 4 * height * width) data.data.set(pixels);
  else for (let i = 0; i < pixels.length; i++) data.data.set([pixels[i], pixels[i], pixels[i], 255], 4 * i);
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

// A canvas as wide as its column and sharp on every screen. `draw(context, width, height)` gets CSS pixels.
export function screen(ratio, draw, attributes = {}) {
  const canvas = el("canvas", { class: "fl-screen", style: `aspect-ratio: ${ratio}`, ...attributes });
  const size = { width: 0, height: 0 };
  let due = 0;
  const now = () => {
    due = 0;
    if (!size.width) return;
    const density = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(size.width * density), Math.round(size.height * density)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(density, 0, 0, density, 0, 0);
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, size.width, size.height);
    draw(context, size.width, size.height);
  };
  const redraw = () => { if (!due) due = requestAnimationFrame(now); };
  const watcher = new ResizeObserver(() => {
    size.width = canvas.clientWidth;
    size.height = canvas.clientWidth / ratio;
    redraw();
  });
  watcher.observe(canvas);
  // Focus is shown to those who use the keyboard; a pointer knows where it is.
  canvas.addEventListener("pointerdown", () => canvas.classList.add("fl-pointed"));
  for (const event of ["keydown", "blur"]) canvas.addEventListener(event, () => canvas.classList.remove("fl-pointed"));
  const stop = () => { watcher.disconnect(); cancelAnimationFrame(due); };
  return { canvas, size, redraw, stop };
}

// What a view shares with its model. `tell` sends the state; `renewed` is called when somebody else has changed it.
export function shared(model, names, renewed) {
  const state = Object.fromEntries(names.map((name) => [name, model.get(name)]));
  let sending = false;
  const tell = () => {
    sending = true; // our own news must not come back to us half sent
    for (const name of names) model.set(name, state[name]);
    sending = false;
    model.save_changes();
  };
  const fromOutside = () => {
    if (sending) return;
    for (const name of names) state[name] = model.get(name);
    renewed();
  };
  for (const name of names) model.on(`change:${name}`, fromOutside);
  const stop = () => { for (const name of names) model.off(`change:${name}`, fromOutside); };
  return { state, tell, stop };
}

export function panel(title, ...children) {
  return el("section", { class: "fl-panel" }, el("h4", {}, title), ...children);
}

// A panel that shows answers: it fades while a newer answer is awaited.
export function answerPanel(title, ...children) {
  const node = panel(title, ...children);
  node.classList.add("fl-answer");
  return node;
}

// One face to choose among several: native radio buttons, so that arrow keys and screen readers just work.
export function faceStrip(pictures, shape, names, chosen, pick) {
  const group = freshName("fl-face");
  const inputs = pictures.map((pixels, i) => {
    const input = el("input", { type: "radio", name: group, value: i, "aria-label": names[i], onchange: () => pick(i) });
    input.checked = i === chosen;
    return input;
  });
  const node = el("div", { class: "fl-faces", role: "radiogroup", "aria-label": "Face" },
    ...inputs.map((input, i) => el("label", { title: names[i] }, input, bitmap(pictures[i], shape[2], shape[3]))));
  node.hidden = pictures.length < 2;
  return { node, choose: (i) => { if (inputs[i]) inputs[i].checked = true; } };
}

export function slider({ label, low, high, step, format, change, rest = null }) {
  const name = freshName("fl-slider");
  const input = el("input", { type: "range", id: name, min: low, max: high, step });
  const shown = el("output", { for: name });
  const mark = el("i", { class: "fl-mark", hidden: true });
  const node = el("div", { class: "fl-slider" },
    el("label", { for: name }, label), shown, el("div", { class: "fl-track" }, input, mark));
  input.addEventListener("input", () => change(Number(input.value)));
  // JupyterLab takes the arrow keys from native sliders, so the slider moves itself.
  const moves = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
  input.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const before = input.value;
    if (moves[event.key]) input.stepUp(moves[event.key]);
    else if (event.key === "Home" || event.key === "End") input.value = event.key === "Home" ? low : high;
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (input.value !== before) change(Number(input.value));
  });
  if (rest !== null) {
    input.title = "Double-click to reset";
    input.addEventListener("dblclick", () => change(rest));
  }
  const show = (value) => {
    input.value = value;
    shown.textContent = format(value);
    input.setAttribute("aria-valuetext", format(value));
  };
  const point = (value) => {
    mark.hidden = value === null;
    if (value !== null) mark.style.setProperty("--at", Math.min(Math.max((value - low) / (high - low), 0), 1));
  };
  return { node, input, show, point };
}

export function percent(p) {
  return p > 0 && p < 0.005 ? "<1 %" : `${Math.round(100 * p)} %`;
}

// A bar a class, always in the same order, so that nothing jumps. `compare` puts a second mark on each bar.
export function bars(classes, colours) {
  const rows = classes.map((name, i) => {
    const value = el("span", { class: "fl-value" });
    const fill = el("i", { class: "fl-fill", style: `background: ${colours[i]}` });
    const mark = el("i", { class: "fl-tick", hidden: true });
    const node = el("li", {}, el("span", { class: "fl-name" }, name), el("span", { class: "fl-bar" }, fill, mark), value);
    return { node, value, fill, mark };
  });
  const node = el("ul", { class: "fl-bars" }, ...rows.map((row) => row.node));
  const show = (probabilities, { compare = null, truth = -1 } = {}) => {
    const best = probabilities ? probabilities.indexOf(Math.max(...probabilities)) : -1;
    rows.forEach((row, i) => {
      const p = probabilities ? probabilities[i] : 0;
      row.fill.style.width = `${100 * p}%`;
      row.value.textContent = probabilities ? percent(p) : "–";
      row.mark.hidden = !compare;
      if (compare) row.mark.style.left = `${100 * compare[i]}%`;
      row.node.classList.toggle("fl-best", i === best);
      row.node.classList.toggle("fl-true", i === truth);
    });
  };
  return { node, show };
}

// The line at the foot: "done", "frozen", "busy" or "error", in words. Busy is only shown when it lasts.
export function statusLine() {
  const text = el("span");
  const node = el("div", { class: "fl-status", "data-state": "done" }, el("i", { class: "fl-dot" }), text);
  let next = null;
  let timer = 0;
  const apply = () => {
    timer = 0;
    node.dataset.state = next.state;
    text.textContent = next.words;
    node.style.setProperty("--share", next.share);
  };
  const stop = () => { clearTimeout(timer); timer = 0; };
  const set = (state, words, share = 0) => {
    next = { state, words, share };
    if (state !== "busy" || node.dataset.state === "busy") { stop(); apply(); }
    else if (!timer) timer = setTimeout(apply, 200);
  };
  return { node, set, stop };
}

// What a screen reader hears: only the last of many quick changes.
export function announcer() {
  const node = el("div", { class: "fl-hidden", "aria-live": "polite" });
  let timer = 0;
  const say = (words) => {
    clearTimeout(timer);
    timer = setTimeout(() => { node.textContent = words; }, 500);
  };
  return { node, say, stop: () => clearTimeout(timer) };
}

// Is the page around us light or dark? JupyterLab, Quarto and VS Code each say it in their own way; null: they do not.
export function schemeOf(body) {
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "true" ? "light" : "dark";
  const found = [...body.classList].map((name) => /^(?:quarto|vscode)-(light|dark)$/.exec(name)).find(Boolean);
  return found ? found[1] : null;
}

function bodies() {
  try { return [document.body, window.parent.document.body]; } catch { return [document.body]; }
}

// The frame around a widget: it follows the host's theme, and JupyterLab must leave our keys alone.
export function frame(root, label) {
  const node = el("div", { class: "fer-lab-widget", role: "group", "aria-label": label, "data-lm-suppress-shortcuts": "true" });
  const follow = () => { node.style.colorScheme = bodies().map(schemeOf).find(Boolean) ?? "light dark"; };
  const watcher = new MutationObserver(follow);
  for (const body of bodies()) watcher.observe(body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light"] });
  follow();
  root.append(node);
  return { node, stop() { watcher.disconnect(); node.remove(); } };
}
