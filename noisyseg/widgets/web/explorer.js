// needs: picture areas
// Confusion explorer: image, labels and estimate in layers; every annotator's matrix at the pixel
// under the mouse or over an area. The networks predict in the kernel, or before the page was made.

const CLASSES = ["#000000", "#e8443a", "#3fa34d", "#3d7de0", "#e0b93d", "#9b5de5", "#2ec4b6", "#f4a261"];
const PEOPLE = ["#ffd23f", "#3bceac", "#ee6c4d", "#7b9ef0", "#e07be0", "#cccccc"];
const BELIEVED = "#ff3bd4";
const KEYS_HERE = "Keys on the picture: arrows move the pixel, Shift with arrows makes the area wider or narrower, Escape goes back to one pixel, 1 to 9 switch an annotator, [ and ] other images.";

function colourOfClass(t, classes) {
  return rgb(classes === 2 ? BELIEVED : CLASSES[t % CLASSES.length]);
}

class Explorer {
  constructor({ model, el }) {
    this.model = model;
    this.baked = model.get("baked");
    this.runs = model.get("listed");
    this.known = new Map();
    Object.assign(this, { run: model.get("at").run, image: model.get("at").image, layers: { image: 1, labels: 0, estimate: 0.3 }, truth: true, ms: null });
    this.pinned = model.get("box").length === 4 ? [...model.get("box")] : null;
    Object.assign(this, frame(el, "explorer", "Confusion explorer"));
    this.build();
    this.stop = onChange(this.root, () => this.draw());
    this.listen();
    this.receive();
    this.choose(this.run, this.image);
  }

  get entry() { return this.runs[this.run]; }

  build() {
    const options = this.runs.map((entry, k) => make("option", { value: k }, entry.name));
    this.select = make("select", { "data-testid": "explorer-run", "aria-label": "run", onchange: () => this.choose(Number(this.select.value), this.image) }, ...options);
    this.page = slider("test image", { min: 1, max: 1, step: 1, value: 1, write: (v) => `${v}`, id: "explorer-image" }, (v) => this.choose(this.run, v - 1));
    this.canvas = make("canvas", {
      class: "nl-paint", tabindex: "0", role: "application", "data-testid": "explorer-canvas", "aria-label": `Test image. ${KEYS_HERE}`,
    });
    const layer = (name, what) => slider(what, { min: 0, max: 1, step: 0.05, value: this.layers[name], write: (v) => `${Math.round(100 * v)} %`, id: `explorer-${name}-opacity` },
      (v) => { this.layers[name] = v; this.redraw(); }).row;
    this.outlined = button("truth", () => { this.truth = !this.truth; this.press(this.outlined, this.truth); this.redraw(); }, { id: "explorer-truth", pressed: true });
    this.where = make("p", { class: "nl-small", "data-testid": "explorer-where", "aria-live": "polite" });
    this.cards = make("div", { class: "nl-cards" });
    this.body.append(
      make("div", { class: "nl-row" }, make("label", { class: "nl-select" }, "network", this.select)),
      make("div", { class: "nl-columns nl-explorer" },
        make("div", { class: "nl-left" }, this.canvas, this.page.row,
          make("b", { class: "nl-small" }, "Layers"), layer("image", "picture"), layer("labels", "labels"), layer("estimate", "estimated truth"),
          make("div", { class: "nl-row" }, "outlines", this.outlined, make("span", { class: "nl-dim nl-small" }, "and of each annotator, by the button with the name")), make("p", { class: "nl-dim nl-small" }, KEYS_HERE)),
        make("div", { class: "nl-facts" }, this.where, this.cards, this.note = make("p", { class: "nl-dim nl-small" }))),
    );
  }

  press(control, on) {
    control.setAttribute("aria-pressed", String(on));
  }

  listen() {
    const at = (event) => {
      const [x, y] = place(event, this.canvas, this.view.height, this.view.width);
      const keep = (value, end) => Math.min(end - 1, Math.max(0, Math.floor(value)));
      return [keep(y, this.view.height), keep(x, this.view.width)];
    };
    const between = ([y, x], [v, u]) => [Math.min(y, v), Math.min(x, u), Math.max(y, v) + 1, Math.max(x, u) + 1];
    let start = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button || !this.view) return;
      this.canvas.setPointerCapture(event.pointerId);
      start = at(event);
      this.point(between(start, start), event.timeStamp);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!this.view) return;
      const here = at(event);
      this.point(between(start ?? here, here), event.timeStamp);
    });
    this.canvas.addEventListener("pointerup", (event) => {
      if (!start) return;
      this.pin(between(start, at(event)), event.timeStamp);
      start = null;
    });
    this.canvas.addEventListener("pointercancel", () => { start = null; });
    this.canvas.addEventListener("pointerleave", () => { if (!start && this.view) this.point(this.area()); });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.heard = {
      "change:views": () => this.receive(),
      "change:problem": () => { this.waiting = false; this.say(this.model.get("problem").text, "error"); },
      "change:at": () => {
        const at = this.model.get("at");
        if (at.run !== this.run || at.image !== this.image) this.choose(at.run, at.image);
      },
      "change:box": () => { const box = this.model.get("box"); if (box.length === 4 && this.view) { this.pinned = [...box]; this.point(this.area()); } },
    };
    for (const [event, answer] of Object.entries(this.heard)) this.model.on(event, answer);
  }

  away() {
    this.stop();
    for (const [event, answer] of Object.entries(this.heard)) this.model.off(event, answer);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.view) return;
    const [top, left, bottom, right] = this.area(), { height, width } = this.view;
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (moves && event.shiftKey) {
      const [v, u] = moves;
      this.pin([top, left, Math.min(height, Math.max(top + 1, bottom + v)), Math.min(width, Math.max(left + 1, right + u))], event.timeStamp);
    } else if (moves) {
      const down = Math.min(height - bottom, Math.max(-top, moves[0])), across = Math.min(width - right, Math.max(-left, moves[1]));
      this.pin([top + down, left + across, bottom + down, right + across], event.timeStamp);
    } else if (event.key === "Escape") {
      const [y, x] = [Math.floor((top + bottom - 1) / 2), Math.floor((left + right - 1) / 2)];
      this.pin([y, x, y + 1, x + 1], event.timeStamp);
    } else if (event.key === "[" || event.key === "]") {
      this.choose(this.run, (this.image + (event.key === "]" ? 1 : -1) + this.entry.images) % this.entry.images);
    } else if (/^[1-9]$/.test(event.key) && this.people?.[event.key - 1]) {
      this.people[event.key - 1].control.click();
    } else return;
    event.preventDefault();
  }

  /** The pinned area within the image, or the pixel that is disputed most. */
  area() {
    const { height, width } = this.view;
    if (this.pinned) {
      const [top, left, bottom, right] = this.pinned;
      if (top < height && left < width) return [top, left, Math.min(bottom, height), Math.min(right, width)];
    }
    const [y, x] = this.view.start;
    return [y, x, y + 1, x + 1];
  }

  pin(box, time) {
    this.pinned = box;
    this.model.set("box", box);
    this.model.save_changes();
    this.point(box, time);
  }

  choose(run, image) {
    image = Math.min(image, this.runs[run].images - 1);
    const people = this.run !== run || !this.people ? null : this.people;
    Object.assign(this, { run, image });
    this.select.value = String(run);
    this.page.input.max = this.entry.images;
    this.page.set(image + 1);
    if (!people) this.people = null;
    const view = this.known.get(`${run}:${image}`);
    if (view) this.open(view);
    else this.ask();
  }

  ask() {
    if (this.waiting) return; // the answer asks again where something else is wanted by then
    this.waiting = { run: this.run, image: this.image, time: performance.now() };
    this.say(`predicting: ${this.entry.name}, image ${this.image + 1}`, "busy");
    this.model.set("at", { run: this.run, image: this.image, n: this.model.get("at").n + 1 });
    this.model.save_changes();
  }

  receive() {
    const bytes = this.model.get("arrays");
    for (const found of this.model.get("views")) {
      const entry = this.runs[found.run];
      this.known.set(`${found.run}:${found.image}`, unpackView(found, bytes, entry.classes.length, entry.annotators.length));
    }
    if (!this.waiting) return;
    this.ms = performance.now() - this.waiting.time;
    this.waiting = null;
    this.choose(this.run, this.image);
  }

  open(view) {
    this.view = view;
    this.canvas.style.aspectRatio = `${view.width} / ${view.height}`;
    this.grey = greyBitmap(view.image, view.height, view.width);
    const n = this.entry.classes.length;
    const tint = view.probs.map((_, t) => colourOfClass(t, n));
    this.estimate = bitmap(view.height, view.width, (k) => {
      let best = 0;
      for (let t = 1; t < n; t++) if (view.probs[t][k] > view.probs[best][k]) best = t;
      const most = best || 1;
      return [...tint[most], 255 * (n === 2 ? view.probs[1][k] : best ? view.probs[best][k] : 0)];
    });
    if (!this.people || this.cards.dataset.of !== `${this.run}`) this.deal();
    this.outlined.hidden = !view.truth;
    this.outlined.textContent = this.entry.reference ? "reference" : "truth";
    this.thumbnails();
    this.point(this.area());
  }

  /** A card for every annotator: switch, picture and two matrices. */
  deal() {
    const { annotators, classes } = this.entry;
    this.cards.dataset.of = `${this.run}`;
    this.people = annotators.map((name, r) => {
      const control = button(name, () => { person.on = !person.on; this.press(control, person.on); this.redraw(); }, { id: `explorer-annotator-${r}`, pressed: true, title: "show or hide what they wrote" });
      control.prepend(make("i", { style: `background:${PEOPLE[r % PEOPLE.length]}` }));
      const many = classes.length > 2, tints = many ? CLASSES : null;
      const estimated = matrixTable(classes, "estimated", `explorer-estimated-${r}`, tints);
      const real = matrixTable(classes, this.entry.reference ? "by the reference" : "true", `explorer-true-${r}`, tints);
      const picture = make("canvas", { class: "nl-pixels", role: "img", "aria-label": `What the network expects ${name} to write` });
      const person = { on: true, control, estimated, real, picture, said: make("span", { class: "nl-small nl-dim" }) };
      person.card = make("div", { class: "nl-card" }, picture, make("div", { class: "nl-row" }, control, person.said), make("div", { class: many ? "nl-tables nl-beside nl-many" : "nl-tables nl-beside" }, estimated.table, real.table));
      return person;
    });
    this.cards.replaceChildren(...(this.view.confusion ? this.people.map((person) => person.card)
      : [make("p", {}, "This method has no confusion matrices: it knows one truth only."),
        make("div", { class: "nl-row" }, ...this.people.map((person) => person.control))]));
    this.note.textContent = this.view.confusion ? "✓: the column that can be known here. What is written at a pixel shows one column of a matrix only, that of the true class; the pale ones are what the network would guess. True and estimated stand beside each other for the same pixels. Pictures: white rightly marked, red too much, blue missed, as the network estimates it." : "";
  }

  thumbnails() {
    const { view } = this, n = this.entry.classes.length;
    if (!view.confusion) return;
    this.people.forEach(({ picture }, r) => {
      const A = view.confusion[r], { probs } = view;
      const paper = (k) => {
        const hit = A[1][1][k] * probs[1][k], extra = A[1][0][k] * probs[0][k], missed = A[0][1][k] * probs[1][k];
        return [0, 1, 2].map((i) => 255 * Math.min(1, hit + extra * [0.9, 0.1, 0.1][i] + missed * [0.1, 0.45, 0.95][i])).concat(255);
      };
      const likely = (k) => {
        let [best, most] = [0, -1];
        for (let c = 0; c < n; c++) {
          const share = probs.reduce((sum, plane, t) => sum + A[c][t][k] * plane[k], 0);
          if (share > most) [best, most] = [c, share];
        }
        return [...rgb(CLASSES[best % CLASSES.length]), 255];
      };
      Object.assign(picture, { width: view.width, height: view.height });
      picture.getContext("2d").drawImage(bitmap(view.height, view.width, n === 2 ? paper : likely), 0, 0);
    });
  }

  /** Show the matrices over an area. */
  point(box, time = performance.now()) {
    this.box = box;
    const { view, entry } = this, pixels = pixelsOf(box, view.width), shares = belief(view, pixels);
    const text = (values) => entry.classes.map((name, c) => [name, values[c]]).filter(([, v]) => v >= 0.005).map(([name, v]) => (v > 0.995 ? name : `${name} ${v.toFixed(2)}`)).join(", ");
    const [top, left, bottom, right] = box;
    const where = pixels.length === 1 ? `row ${top}, column ${left}` : `mean over ${pixels.length} pixels, rows ${top} to ${bottom - 1}, columns ${left} to ${right - 1}`;
    const real = view.truth ? entry.classes.filter((_, t) => pixels.some((k) => view.truth[k] === t)).join(", ") : null;
    this.where.replaceChildren(make("b", {}, where), real ? ` · ${entry.reference ? "reference" : "truth"}: ${real}` : "", ` · estimated truth: ${text(shares)}`);
    const found = [];
    if (view.confusion) {
      this.people.forEach((person, r) => {
        const one = besideArea(view, r, pixels);
        found.push(one);
        person.estimated.set(one.estimated, one.known);
        person.real.set(one.true, view.truth ? one.known : null);
        person.real.table.hidden = !view.truth || !view.labels;
        const wrote = view.labels ? `wrote ${text(one.wrote) || "nothing"}, ` : "";
        person.said.textContent = `${wrote}expected to write ${text(one.expected)}`;
      });
    }
    this.draw();
    this.ms = performance.now() - time;
    this.say(`${entry.dataset} (${entry.origin}), ${view.image_id}, ${where} · ${this.ms.toFixed(0)} ms`);
    this.found = { belief: shares, found };
    this.report();
  }

  report() {
    this.tell({ run: this.run, image: this.image, box: this.box, ...this.found, ms: this.ms, on: this.people.map((person) => person.on), layers: this.layers, truth: this.truth });
  }

  /** Draw after a layer or an outline was switched. */
  redraw() {
    this.draw();
    if (this.view) this.report();
  }

  draw() {
    const { view } = this;
    if (!view) return;
    const { pen, width, height } = sheet(this.canvas), scale = width / view.width;
    lay(pen, this.grey, width, height, this.layers.image);
    if (view.labels) this.drawLabels(pen, width, height, scale);
    lay(pen, this.estimate, width, height, this.layers.estimate);
    if (view.truth && this.truth) this.drawTruth(pen, scale);
    const [top, left, bottom, right] = this.box ?? this.area();
    for (const [colour, thick] of [["#000000", 4], [BELIEVED, 2]]) {
      pen.strokeStyle = colour; pen.lineWidth = thick;
      pen.strokeRect(left * scale, top * scale, (right - left) * scale, (bottom - top) * scale);
    }
  }

  drawTruth(pen, scale) {
    const { view } = this;
    for (let t = 1; t < this.entry.classes.length; t++) {
      const mask = view.truth.map((v) => (v === t ? 1 : 0));
      outline(pen, mask, view.height, view.width, scale, "#000000", 4);
      outline(pen, mask, view.height, view.width, scale, "#ffffff", 2, [5, 3]);
    }
  }

  drawLabels(pen, width, height, scale) {
    const { view } = this, n = this.entry.classes.length, shown = this.people.flatMap((person, r) => (person.on ? [r] : []));
    if (this.layers.labels > 0 && shown.length) {
      const fill = bitmap(view.height, view.width, (k) => {
        const votes = new Array(n).fill(0);
        for (const r of shown) if (view.labels[r][k] > 0) votes[view.labels[r][k]] += 1;
        const best = votes.indexOf(Math.max(...votes));
        return votes[best] ? [...(n === 2 ? [255, 210, 63] : colourOfClass(best, n)), (255 * votes[best]) / shown.length] : null;
      });
      lay(pen, fill, width, height, this.layers.labels);
    }
    for (const r of shown) {
      for (let t = 1; t < n; t++) {
        const mask = view.labels[r].map((v) => (v === t ? 1 : 0));
        outline(pen, mask, view.height, view.width, scale, PEOPLE[r % PEOPLE.length], 1.5);
      }
    }
  }
}

function render(context) {
  const explorer = new Explorer(context);
  return () => explorer.away();
}

export default { render };
