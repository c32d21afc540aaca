// A page without a kernel: the same view, its answers looked up instead of asked for.

// What anywidget's model is to a view, for a page: values, listeners, and `answer` in place of Python.
export function frozenModel(values, answer) {
  const listeners = new Map();
  const model = {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      for (const listener of [...(listeners.get(`change:${name}`) ?? [])]) listener();
    },
    on: (event, listener) => listeners.set(event, [...(listeners.get(event) ?? []), listener]),
    off: (event, listener) => listeners.set(event, (listeners.get(event) ?? []).filter((other) => other !== listener)),
    find: () => answer(model.get),
    save_changes: () => queueMicrotask(() => model.set("answer", model.find())),
  };
  return model;
}

// The page's own manners: its frame on the surrounding page is as tall as what it shows.
function fitFrame() {
  const height = () => `${Math.ceil(document.body.getBoundingClientRect().height) + 4}px`;
  new ResizeObserver(() => {
    try { window.frameElement.style.height = height(); } catch { /* a page of its own, or not ours to size */ }
  }).observe(document.body);
}

export async function startPage(render, answers, { traits, data }) {
  const model = frozenModel(traits, await answers(data));
  if (traits.shape[0]) traits.answer = model.find();
  render({ model, el: document.body });
  fitFrame();
}
