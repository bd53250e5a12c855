// The label swap as a film: three recorded trainings side by side, epoch by epoch. Everything
// shown was recorded by `footage.py`; nothing is computed here but pictures.
const RATE = 8; // epochs a second
const HUES = ["swap", "vote", "ours"], STROKES = [[], [7, 3], [2, 3]], BORDERS = ["solid", "dashed", "dotted"];
const SHORT = { off: "not yet: first phase", green: "no sign of a swap" };

/** The arrays of the recording, by name: `at(i, j, …)` is the part at these first indices. */
async function opened(view, shapes) {
  const stream = new Blob([view]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  let from = 0;
  const arrays = {};
  for (const [name, shape] of shapes) {
    const size = shape.reduce((a, b) => a * b, 1), data = bytes.subarray(from, from + size);
    from += size;
    arrays[name] = {
      shape,
      at: (...where) => {
        let start = 0, step = size;
        where.forEach((index, axis) => { step /= shape[axis]; start += index * step; });
        return data.subarray(start, start + step);
      },
    };
  }
  return arrays;
}

/** Grey values on a canvas of as many pixels, which the page enlarges. */
function paint(canvas, values, height, width) {
  canvas.width = width; canvas.height = height;
  const pen = canvas.getContext("2d"), image = pen.createImageData(width, height);
  for (let k = 0; k < values.length; k++) image.data.set([values[k], values[k], values[k], 255], 4 * k);
  pen.putImageData(image, 0, 0);
}

/** What the monitor says of a training at an epoch: its light, in a word, and whole. */
function monitor(about, method, epoch) {
  if (epoch <= about.warm_up[method]) return { light: "off", word: SHORT.off, text: "" };
  const text = about.warned[method][epoch];
  return text ? { light: "red", word: text.split(/[:?]/)[0], text } : { light: "green", word: SHORT.green, text: "" };
}

async function render({ model, el }) {
  const { root, body, say, tell } = frame(el, "film", "The swap, as a film");
  root.classList.add("nl-film");
  const about = model.get("about"), last = about.epochs;
  const arrays = await opened(model.get("pixels"), about.shapes);
  const [, height, width] = arrays.image.shape;
  let epoch = model.get("epoch"), digit = model.get("digit"), playing = 0, began = 0, from = 0, timer = 0;

  // The grid: a column for each training, a row for each annotator.
  const picture = (kind, name) => make("canvas", { class: `nl-pixels ${kind}`, role: "img", "data-testid": name });
  const cells = about.methods.map((method, m) => ({
    estimate: picture("nl-estimate", `estimate-${method}`),
    light: make("span", { class: "nl-light" }), word: make("span", {}),
    expected: about.annotators.map((_, r) => picture("nl-expected", `expected-${method}-${r}`)),
    matrices: about.annotators.map((_, r) => make("canvas", { class: "nl-matrix", role: "img", "data-testid": `matrix-${method}-${r}` })),
    head: make("div", { class: "nl-head", style: `border-top: 4px ${BORDERS[m]} var(--nl-${HUES[m]})` },
      make("strong", {}, about.titles[m]),
      make("div", { class: "nl-small nl-dim" }, settings(m))),
  }));
  function settings(m) {
    const parts = [`λ ${about.weight[m]}`, `first phase ${about.warm_up[m]} epochs`];
    if (about.hinge[m]) parts.push("hinge");
    return parts.join(" · ");
  }
  const seen = picture("nl-seen", "image"), truth = picture("nl-seen", "truth");
  const written = about.annotators.map((_, r) => picture("nl-written", `written-${r}`));
  const side = (...children) => make("div", { class: "nl-side nl-small" }, ...children);
  const grid = make("div", { class: "nl-grid" },
    make("div", {}), ...cells.map((c) => c.head),
    side(make("span", {}, "image, truth"), make("div", { class: "nl-pair" }, seen, truth)), ...cells.map((c) => c.estimate),
    side(make("span", {}, "swap monitor")), ...cells.map((c) => make("div", { class: "nl-monitor nl-small" }, c.light, c.word)));
  about.annotators.forEach((name, r) => {
    grid.append(side(make("span", {}, name), written[r]), ...cells.map((c) => make("div", { class: "nl-pair" }, c.expected[r], c.matrices[r])));
  });

  // The controls and the curves.
  const play = button("▶ Play", () => (playing ? pause() : start()), { id: "play" });
  const scrub = slider("epoch", { min: 0, max: last, step: 1, value: epoch, id: "scrub", write: (e) => (e ? `${e} / ${last}` : "before") },
    (e) => { pause(); show(e); });
  const digits = about.digits.map((_, d) => button(`digit ${d + 1}`, () => { digit = d; keep(); show(epoch); }, { id: `digit-${d + 1}`, pressed: d === digit }));
  const dice = make("canvas", { class: "nl-curve", role: "img", "data-testid": "dice" });
  const margin = make("canvas", { class: "nl-curve", role: "img", "data-testid": "margin" });
  body.append(
    make("div", { class: "nl-row nl-deck" }, play, scrub.row, make("span", { class: "nl-row", role: "group", "aria-label": "digit" }, ...digits)),
    grid,
    make("p", { class: "nl-small nl-dim" },
      "Large: the estimated truth. In the first phase it is learned through fixed matrices; then they are released. Beside each annotator: what they wrote, what each model expects them to write, and their matrix: rows are what is written, columns what the model holds for true, the background first. Green is agreement, orange is none."),
    make("div", { class: "nl-plots" },
      make("figure", {}, make("figcaption", { class: "nl-small" }, "Foreground Dice (needs the truth)"), dice),
      make("figure", {}, make("figcaption", { class: "nl-small" }, "Class margin (needs no truth); below 0 the annotators together contradict the estimate"), margin)),
    make("p", { class: "nl-small nl-dim", "data-testid": "source" }, about.source));

  function start() {
    playing = 1;
    from = epoch >= last ? 0 : epoch;
    began = performance.now();
    play.textContent = "❚❚ Pause";
    timer = requestAnimationFrame(roll);
  }
  function pause() {
    if (!playing) return;
    playing = 0;
    cancelAnimationFrame(timer);
    play.textContent = "▶ Play";
    keep();
    show(epoch);
  }
  function roll(time) {
    const next = Math.min(last, from + Math.floor(Math.max(0, time - began) / 1000 * RATE));
    if (next !== epoch) show(next);
    if (next >= last) pause();
    else timer = requestAnimationFrame(roll);
  }
  function keep() {
    model.set("epoch", epoch);
    model.set("digit", digit);
    model.save_changes();
  }
  scrub.input.addEventListener("change", () => keep());

  function show(next) {
    epoch = next;
    scrub.set(epoch);
    digits.forEach((b, d) => b.setAttribute("aria-pressed", String(d === digit)));
    paint(seen, arrays.image.at(digit), height, width);
    paint(truth, arrays.truth.at(digit), height, width);
    seen.setAttribute("aria-label", "the image");
    truth.setAttribute("aria-label", "the truth, which no training saw");
    const theme = colours(root), lights = [];
    about.annotators.forEach((name, r) => {
      paint(written[r], arrays.written.at(digit, r), height, width);
      written[r].setAttribute("aria-label", `what ${name} wrote`);
    });
    cells.forEach((cell, m) => {
      const title = about.titles[m], said = monitor(about, m, epoch);
      paint(cell.estimate, arrays.estimate.at(m, epoch, digit), height, width);
      cell.estimate.setAttribute("aria-label", `${title}: estimate at epoch ${epoch}, Dice of all test digits ${(100 * about.watched[m][epoch][0]).toFixed(0)} %`);
      cell.light.dataset.light = said.light;
      cell.word.textContent = said.word;
      lights.push(said.light);
      about.annotators.forEach((name, r) => {
        paint(cell.expected[r], arrays.expected.at(m, epoch, digit, r), height, width);
        cell.expected[r].setAttribute("aria-label", `${title}: what ${name} is expected to write`);
        matrix(cell.matrices[r], arrays.matrices.at(m, epoch, r), theme, `${title}, ${name}`);
      });
    });
    curve(dice, 0, [0, 1], [[0, "0"], [0.5, "0.5"], [1, "1"]], theme);
    curve(margin, 1, [-1, 1], [[-1, "−1"], [0, "0"], [1, "1"]], theme);
    if (!playing) say(told());
    tell({ epoch, digit, playing: Boolean(playing), lights, dice: about.watched.map((w) => w[epoch][0]) });
  }
  function told() {
    const dice = about.titles.map((title, m) => `${title} ${(100 * about.watched[m][epoch][0]).toFixed(0)} %`).join(", ");
    const warned = about.titles.map((_, m) => monitor(about, m, epoch).text).find((text) => text);
    return `${epoch ? `After epoch ${epoch} of ${last}` : "Before training"}: foreground Dice ${dice}.${warned ? ` The monitor: ${warned.split(". ")[0]}.` : ""}`;
  }
  /** Four squares, with numbers where there is room: agreement in one colour, the rest in another. */
  function matrix(canvas, values, theme, name) {
    const { pen, width: w, height: h } = sheet(canvas);
    const shown = [...values].map((value) => (value / 255).toFixed(2));
    canvas.setAttribute("aria-label", `${name}: background ${shown[0]}, ${shown[1]}; digit ${shown[2]}, ${shown[3]}`);
    canvas.title = `${name}\nwritten background: ${shown[0]}  ${shown[1]}\nwritten digit: ${shown[2]}  ${shown[3]}`;
    if (!w) return;
    values.forEach((value, k) => {
      const x = (k % 2) * w / 2, y = Math.floor(k / 2) * h / 2, agrees = k === 0 || k === 3;
      pen.fillStyle = theme.panel; pen.fillRect(x, y, w / 2, h / 2);
      pen.globalAlpha = value / 255 * 0.85; pen.fillStyle = agrees ? theme.ours : theme.swap; pen.fillRect(x, y, w / 2, h / 2);
      pen.globalAlpha = 1;
      if (w >= 60) {
        pen.fillStyle = value > 120 ? theme.paper : theme.ink; pen.font = "11px system-ui, sans-serif";
        pen.textAlign = "center"; pen.textBaseline = "middle"; pen.fillText(shown[k], x + w / 4, y + h / 4);
      }
    });
    pen.strokeStyle = theme.line; pen.strokeRect(0.5, 0.5, w - 1, h - 1);
  }
  const box = (w, h) => ({ left: 34, top: 6, right: w - 8, bottom: h - 36 });
  function curve(canvas, column, [low, high], ticks, theme) {
    const { pen, width: w, height: h } = sheet(canvas);
    if (!w) return;
    const area = box(w, h), px = (e) => area.left + e / last * (area.right - area.left);
    const py = (v) => area.bottom - (Math.min(high, Math.max(low, v)) - low) / (high - low) * (area.bottom - area.top);
    if (low < 0) {
      pen.globalAlpha = 0.12; pen.fillStyle = theme.swap; pen.fillRect(area.left, py(0), area.right - area.left, area.bottom - py(0)); pen.globalAlpha = 1;
    }
    axes(pen, area, theme, [0, last / 2, last].map((e) => [px(e), String(Math.round(e))]), ticks.map(([v, t]) => [py(v), t]), "epoch", "");
    pen.strokeStyle = theme.dim; pen.lineWidth = 1; pen.beginPath(); pen.moveTo(px(epoch), area.top); pen.lineTo(px(epoch), area.bottom); pen.stroke();
    about.watched.forEach((rows, m) => {
      pen.strokeStyle = theme[HUES[m]]; pen.lineWidth = 2.5; pen.setLineDash(STROKES[m]);
      pen.beginPath();
      rows.forEach((row, e) => { if (e <= epoch) pen.lineTo(px(e), py(row[column])); });
      pen.stroke(); pen.setLineDash([]);
      dot(pen, px(epoch), py(rows[epoch][column]), 4, theme[HUES[m]], theme.paper, 1.5);
    });
    canvas.setAttribute("aria-label", about.titles.map((title, m) => `${title}: ${about.watched[m][epoch][column].toFixed(2)}`).join(", "));
  }
  for (const canvas of [dice, margin]) {
    const aim = (event) => {
      const bounds = canvas.getBoundingClientRect(), area = box(bounds.width, bounds.height);
      const part = (event.clientX - bounds.left - area.left) / (area.right - area.left);
      pause();
      show(Math.round(last * Math.min(1, Math.max(0, part))));
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); aim(event); });
    canvas.addEventListener("pointermove", (event) => { if (canvas.hasPointerCapture(event.pointerId)) aim(event); });
    canvas.addEventListener("pointerup", () => keep());
  }
  const heard = () => {
    if (model.get("epoch") === epoch && model.get("digit") === digit) return;
    pause();
    digit = model.get("digit");
    show(model.get("epoch"));
  };
  model.on("change:epoch change:digit", heard);
  const quiet = onChange(root, () => show(epoch));
  show(epoch);
  return () => { cancelAnimationFrame(timer); quiet(); model.off("change:epoch change:digit", heard); };
}

export { monitor, opened };
export default { render };
