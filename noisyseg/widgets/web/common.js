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

/** Red, green and blue of a colour written as #rrggbb. */
function rgb(text) {
  const number = parseInt(text.slice(1), 16);
  return [number >> 16, (number >> 8) & 255, number & 255];
}

/** A filled dot with a rim. */
function dot(pen, x, y, radius, fill, rim, width = 2) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fillStyle = fill; pen.fill();
  pen.lineWidth = width; pen.strokeStyle = rim; pen.stroke();
}

/** A diamond for a place that theory names: filled, or hollow where there is nothing to stay in. */
function mark(pen, x, y, filled, hue, theme) {
  pen.beginPath();
  for (const [dx, dy] of [[0, -8], [8, 0], [0, 8], [-8, 0]]) pen.lineTo(x + dx, y + dy);
  pen.closePath();
  pen.fillStyle = filled ? hue : theme.paper; pen.fill();
  pen.lineWidth = 2; pen.strokeStyle = filled ? theme.paper : hue; pen.stroke();
}

/** A word beside a place, on the paper's colour, inside the area. */
function label(pen, text, x, y, left, area, hue, theme) {
  pen.font = "600 12.5px system-ui, sans-serif";
  pen.textBaseline = "middle"; pen.textAlign = "left";
  const width = pen.measureText(text).width + 10;
  const at = left ? x - 14 - width : x + 14;
  const down = Math.min(area.bottom - 12, Math.max(area.top + 12, y));
  pen.globalAlpha = 0.86; pen.fillStyle = theme.paper;
  pen.beginPath(); pen.roundRect(at, down - 10, width, 20, 5); pen.fill();
  pen.globalAlpha = 1; pen.fillStyle = hue;
  pen.fillText(text, at + 5, down);
}

/** Axes with ticks given as [place, word], and what they are. */
function axes(pen, area, theme, across, up, below, beside) {
  pen.strokeStyle = theme.dim; pen.lineWidth = 1;
  pen.strokeRect(area.left + 0.5, area.top + 0.5, area.right - area.left - 1, area.bottom - area.top - 1);
  pen.fillStyle = theme.dim; pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "top"; pen.textAlign = "center";
  for (const [x, word] of across) pen.fillText(word, x, area.bottom + 5);
  pen.fillText(below, (area.left + area.right) / 2, area.bottom + 20);
  pen.textBaseline = "middle"; pen.textAlign = "right";
  for (const [y, word] of up) pen.fillText(word, area.left - 6, y);
  if (!beside) return;
  pen.save();
  pen.translate(10, (area.top + area.bottom) / 2);
  pen.rotate(-Math.PI / 2);
  pen.textAlign = "center";
  pen.fillText(beside, 0, 0);
  pen.restore();
}

/** Heights for words beside lines, at least `gap` apart and within low…high. */
function apart(heights, gap, low, high) {
  const order = heights.map((_, k) => k).sort((a, b) => heights[a] - heights[b]), placed = [...heights];
  order.forEach((k, n) => { placed[k] = Math.max(placed[k], n ? placed[order[n - 1]] + gap : low); });
  const over = placed[order.at(-1)] - high;
  if (over > 0) {
    placed[order.at(-1)] = high;
    for (let n = order.length - 2; n >= 0; n--) placed[order[n]] = Math.min(placed[order[n]], placed[order[n + 1]] - gap);
  }
  return placed;
}
