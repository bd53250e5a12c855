// What all explorers share. `live.source` puts it before each module, so that none imports.

/** An element; texts among the children are set as text, never as HTML. `on…` are listeners. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** The frame of an explorer in `el`: title, body and message line, and how to take it away. */
function frame(el, name, title) {
  const status = make("div", { class: "nl-status", role: "status", "data-testid": `${name}-status` });
  const body = make("div", { class: "nl-body" });
  const root = make(
    "section",
    // JupyterLab would take arrow keys and letters for its own commands.
    { class: "noisyseg-live", "data-testid": name, "aria-label": title, "data-lm-suppress-shortcuts": "true" },
    make("div", { class: "nl-title" }, title), body, status,
  );
  root.addEventListener("keydown", (event) => event.stopPropagation());
  el.append(root);
  let answers = 0;
  const say = (text, state = "ready") => {
    if (status.textContent === text && status.dataset.state === state) return;
    status.textContent = text;
    status.dataset.state = state;
    status.dataset.answer = ++answers;
  };
  const tell = (state) => { root.dataset.state = JSON.stringify(state); };
  return { root, body, status, say, tell };
}

/** The colours of the theme as `live.css` has them, for canvases. */
function colours(root) {
  const style = getComputedStyle(root);
  const names = ["ink", "dim", "line", "paper", "panel", "accent", "vote", "swap", "none", "ours", "warn", "focus"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--nl-${name}`).trim()]));
}

/** Call `draw` when the theme or the size changes; returns what stops that. */
function onChange(root, draw) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = new MutationObserver(draw);
  theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-theme"] });
  const size = new ResizeObserver(draw);
  size.observe(root);
  dark.addEventListener("change", draw);
  return () => { theme.disconnect(); size.disconnect(); dark.removeEventListener("change", draw); };
}

/** Whether the reader asked for less motion. */
function calm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

/** A canvas as sharp as the screen: its context in CSS pixels, cleared, with width and height. */
function sheet(canvas) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

/** A labelled slider; `change(value)` at every move. `set(value)` moves it without telling. */
function slider(name, { min, max, step, value, write = String, id }, change) {
  const shown = make("output", {}, write(value));
  const input = make("input", { type: "range", min, max, step, "data-testid": id, "aria-label": name });
  input.value = value;
  const show = () => {
    shown.textContent = write(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", () => { show(); change(Number(input.value)); });
  const row = make("label", { class: "nl-slider" }, make("span", {}, name), input, shown);
  show();
  return { row, input, set: (next) => { input.value = next; show(); } };
}

/** A button; pressed or not where `pressed` is given. */
function button(text, click, { id, pressed, title } = {}) {
  const attributes = { type: "button", class: "nl-button", "data-testid": id, title, onclick: click };
  if (pressed !== undefined) attributes["aria-pressed"] = String(pressed);
  return make("button", attributes, text);
}

/** The values of a DataView as 8 bits or as floats, whatever its offset. */
function unpack(view, kind = Uint8Array) {
  const buffer = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  return new kind(buffer);
}
