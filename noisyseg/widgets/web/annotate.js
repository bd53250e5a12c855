// needs: newcomer picture
// Be the next annotator: paint with brush and eraser, by hand or by keys. `newcomer.js` answers at
// once; where there is a kernel its own answer takes that one's place as soon as it comes.

const TITLES = { majority: "Majority vote", staple: "STAPLE", calibrated: "Calibrated vote" };
const MINE = "#ff3bd4", TRUTH = "#ffffff";
const OTHERS = ["#ffd23f", "#3bceac", "#ee6c4d", "#7b9ef0", "#e07be0", "#cccccc"];
const ERRORS = { right: [255, 255, 255, 255], extra: [230, 26, 26, 255], missed: [26, 115, 242, 255], none: [0, 0, 0, 255] };
const KEYS = "Keys on the picture: arrows move (with Shift 5 pixels), Space or Enter paints, E changes brush and eraser, + and − the size, U takes back, [ and ] other images.";

function packBits(mask) {
  const bytes = new Uint8Array(Math.ceil(mask.length / 8));
  mask.forEach((v, k) => { if (v) bytes[k >> 3] |= 128 >> (k & 7); });
  return btoa(String.fromCharCode(...bytes));
}

function unpackBits(text, count) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return Uint8Array.from({ length: count }, (_, k) => (bytes[k >> 3] >> (7 - (k & 7))) & 1);
}

function percent(share) {
  return share == null ? "–" : `${(100 * share).toFixed(0)} %`;
}

/** A number with its sign, as one sets it. */
function signed(value) {
  const text = Math.abs(value).toFixed(1);
  return text === "0.0" ? text : `${value < 0 ? "−" : "+"}${text}`;
}

/** A colour and what has it. */
function named(colour, text) {
  return make("span", {}, make("i", { style: `background:${colour}` }), text);
}

/** All that stays the same while one paints: elements, tasks and masks. */
class Annotate {
  constructor({ model, el }) {
    this.model = model;
    this.baked = model.get("baked");
    this.tasks = tasksOf(model.get("listed"), model.get("pixels"), model.get("written"));
    this.masks = this.tasks.map((task, t) => task.truth.map((truth, k) => {
      const bits = (model.get("masks") ?? {})[`${t}:${k}`];
      return bits ? unpackBits(bits, truth.length) : null;
    }));
    this.newcomers = this.tasks.map(() => null);
    Object.assign(this, { task: model.get("at").task, image: model.get("at").image });
    Object.assign(this, { size: 3, eraser: false, others: false, revealed: false, down: false, undo: [], ms: null, kernel: null });
    this.cursor = null;
    this.pictures = new Map();
    Object.assign(this, frame(el, "annotate", "Be the next annotator"));
    this.build();
    this.stop = onChange(this.root, () => this.draw());
    this.listen();
    this.choose(this.task, this.image);
  }

  get current() { return this.tasks[this.task]; }
  get mask() { return this.masks[this.task][this.image]; }

  build() {
    const act = (what) => () => { what(); this.canvas.focus({ preventScroll: true }); };
    this.canvas = make("canvas", {
      class: "nl-paint", tabindex: "0", role: "application", "data-testid": "annotate-canvas",
      "aria-label": `Picture to paint on. ${KEYS}`,
    });
    this.tabs = this.tasks.map((task, t) => button(`${task.classes[1]} (${task.name})`, act(() => this.choose(t, 0)), { id: `annotate-task-${t}`, pressed: false }));
    this.counter = make("span", { class: "nl-counter" });
    this.brush = button("Brush", act(() => this.use(false)), { id: "annotate-brush", pressed: true });
    this.rubber = button("Eraser", act(() => this.use(true)), { id: "annotate-eraser", pressed: false });
    this.width = slider("brush size", { min: 1, max: 15, step: 1, value: this.size, write: (v) => `${v} px`, id: "annotate-size" }, (v) => { this.size = v; this.draw(); });
    this.show = button("What the others wrote", () => this.toggle("others"), { id: "annotate-others", pressed: false });
    this.reveal = button("Reveal the truth", () => this.toggle("revealed"), { id: "annotate-reveal", pressed: false });
    this.named = make("input", { type: "text", maxlength: 40, class: "nl-text", "data-testid": "annotate-name", "aria-label": "your name" });
    this.named.value = this.model.get("name");
    this.saver = button(this.baked ? "Download the mask" : "Save", () => this.save(), { id: "annotate-save" });
    this.legend = make("div", { class: "nl-legend nl-small" });
    this.gauge = make("div", { "data-testid": "annotate-gauge" });
    this.words = make("ul", { class: "nl-words", "data-testid": "annotate-words" });
    this.tables = make("div", { class: "nl-tables" });
    this.fusions = make("div", { class: "nl-fusions" });
    const tools = make("div", { class: "nl-row" }, this.brush, this.rubber,
      button("Undo", act(() => this.back()), { id: "annotate-undo" }), button("Clear", act(() => this.clear()), { id: "annotate-clear" }));
    const pager = make("div", { class: "nl-row" }, ...(this.tabs.length > 1 ? this.tabs : []),
      make("span", { class: "nl-row nl-pager" }, button("‹", act(() => this.turn(-1)), { id: "annotate-previous", title: "image before" }), this.counter,
        button("›", act(() => this.turn(1)), { id: "annotate-next", title: "next image" })));
    const left = make("div", { class: "nl-left" }, this.canvas, this.legend, this.gauge, tools, this.width.row,
      make("div", { class: "nl-row" }, this.show, this.reveal),
      make("div", { class: "nl-row" }, make("label", { class: "nl-row" }, "your name", this.named), this.saver),
      make("p", { class: "nl-dim nl-small" }, KEYS));
    const right = make("div", { class: "nl-facts" },
      make("h4", {}, "What a report says of you"), this.words,
      make("h4", {}, "Your confusion matrix"), this.tables,
      make("h4", {}, "What three fusions make of you"), this.fusions,
      make("p", { class: "nl-dim nl-small nl-key" },
        named("#ffffff", "both marked it"), named("#e61a1a", "only you did"), named("#1a73f2", "only the fusion did")));
    this.body.append(pager, make("div", { class: "nl-columns" }, left, right));
  }

  listen() {
    const at = (event) => place(event, this.canvas, this.current.height, this.current.width);
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.focus({ preventScroll: true });
      this.remember();
      this.down = true;
      this.stroke(...at(event), null, event.timeStamp);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const before = this.cursor;
      if (this.down) {
        this.stroke(...at(event), before, event.timeStamp);
        return;
      }
      this.cursor = at(event);
      this.draw();
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, () => { this.down = false; this.publish(); });
    }
    this.canvas.addEventListener("pointerleave", () => { if (!this.down) { this.cursor = null; this.draw(); } });
    this.canvas.addEventListener("blur", () => { this.pen = false; });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("keyup", (event) => { if (event.key === " ") this.pen = false; });
    this.named.addEventListener("change", () => { this.model.set("name", this.named.value); this.model.save_changes(); });
    this.heard = {
      "change:answer": () => this.answered(this.model.get("answer")),
      "change:said": () => this.savedAs(this.model.get("said")),
      "change:at": () => this.follow(),
    };
    for (const [event, answer] of Object.entries(this.heard)) this.model.on(event, answer);
  }

  away() {
    this.stop();
    for (const [event, answer] of Object.entries(this.heard)) this.model.off(event, answer);
  }

  key(event) {
    if (event.ctrlKey && event.key === "z") { event.preventDefault(); this.back(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 5 : 1;
    const moves = { ArrowUp: [0, -step], ArrowDown: [0, step], ArrowLeft: [-step, 0], ArrowRight: [step, 0] };
    const others = {
      e: () => this.use(!this.eraser), u: () => this.back(), "+": () => this.resize(1), "=": () => this.resize(1),
      "-": () => this.resize(-1), "−": () => this.resize(-1), "[": () => this.turn(-1), "]": () => this.turn(1),
      Escape: () => { this.pen = false; },
    };
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (moves[name]) this.step(moves[name], event.timeStamp);
    else if (name === " " || name === "Enter") {
      if (event.repeat) { event.preventDefault(); return; }
      this.pen = name === " " ? true : !this.pen;
      if (this.pen) { this.remember(); this.stroke(...this.here(), null, event.timeStamp); this.publish(); }
    } else if (others[name]) others[name]();
    else return;
    event.preventDefault();
  }

  here() {
    return this.cursor ?? [this.current.width / 2, this.current.height / 2];
  }

  step([right, down], time) {
    const { height, width } = this.current, before = this.here();
    const keep = (value, end) => Math.min(end - 0.5, Math.max(0.5, Math.floor(value) + 0.5));
    const after = [keep(before[0] + right, width), keep(before[1] + down, height)];
    if (this.pen) { this.stroke(...after, before, time); this.publish(); return; }
    this.cursor = after;
    this.draw();
  }

  use(eraser) {
    this.eraser = eraser;
    this.brush.setAttribute("aria-pressed", String(!eraser));
    this.rubber.setAttribute("aria-pressed", String(eraser));
    this.draw();
  }

  resize(by) {
    this.size = Math.min(15, Math.max(1, this.size + by));
    this.width.set(this.size);
    this.draw();
  }

  toggle(what) {
    this[what] = !this[what];
    const control = what === "others" ? this.show : this.reveal;
    control.setAttribute("aria-pressed", String(this[what]));
    this.refresh();
  }

  turn(by) {
    const count = this.current.truth.length;
    this.choose(this.task, (this.image + by + count) % count);
  }

  choose(task, image) {
    Object.assign(this, { task, image, cursor: null, undo: [], pen: false, shown: null });
    this.tabs.forEach((tab, t) => tab.setAttribute("aria-pressed", String(t === task)));
    this.canvas.style.aspectRatio = `${this.current.width} / ${this.current.height}`;
    this.reveal.textContent = this.current.reference ? "Reveal the reference" : "Reveal the truth";
    this.counter.textContent = `image ${image + 1} of ${this.current.truth.length}`;
    this.publish(true);
  }

  /** The kernel showed another image, or painted. */
  follow() {
    const at = this.model.get("at");
    if (at.n <= (this.sent ?? 0)) return;
    const key = `${at.task}:${at.image}`, bits = this.model.get("masks")[key];
    this.masks[at.task][at.image] = bits ? unpackBits(bits, this.tasks[at.task].truth[at.image].length) : null;
    this.sent = at.n;
    if (at.task !== this.task || at.image !== this.image) this.choose(at.task, at.image);
  }

  remember() {
    this.undo.push(this.mask && Uint8Array.from(this.mask));
    if (this.undo.length > 50) this.undo.shift();
  }

  back() {
    if (!this.undo.length) { this.say("nothing to take back"); return; }
    this.masks[this.task][this.image] = this.undo.pop();
    this.publish(true);
  }

  clear() {
    this.remember();
    this.masks[this.task][this.image] = null;
    this.publish(true);
  }

  /** Paint a line of brush marks from `before` to (x, y), and answer. */
  stroke(x, y, before, time) {
    const { height, width } = this.current;
    this.masks[this.task][this.image] ??= new Uint8Array(height * width);
    const [fromX, fromY] = before ?? [x, y], length = Math.hypot(x - fromX, y - fromY);
    const marks = Math.max(1, Math.ceil(2 * length));
    for (let i = before ? 1 : 0; i <= marks; i++) {
      this.dot(fromX + ((x - fromX) * i) / marks, fromY + ((y - fromY) * i) / marks);
    }
    this.cursor = [x, y];
    this.publish(true, time);
  }

  dot(x, y) {
    const { height, width } = this.current, radius = this.size / 2, mask = this.mask;
    for (let row = Math.max(0, Math.floor(y - radius)); row <= Math.min(height - 1, y + radius); row++) {
      for (let column = Math.max(0, Math.floor(x - radius)); column <= Math.min(width - 1, x + radius); column++) {
        const centre = this.size === 1
          ? row === Math.floor(y) && column === Math.floor(x)
          : (row + 0.5 - y) ** 2 + (column + 0.5 - x) ** 2 <= radius * radius;
        if (centre) mask[row * width + column] = this.eraser ? 0 : 1;
      }
    }
  }

  /** Answer to what is painted: at once in this page, and then by the kernel where there is one. */
  publish(changed = false, time = performance.now()) {
    if (changed) {
      this.changed = true;
      this.measureHere(time);
    }
    // One question at a time: the kernel answers twenty times a second, the hand moves faster.
    if (this.baked || this.waiting || !this.changed) return;
    this.changed = false;
    const key = `${this.task}:${this.image}`, masks = { ...this.model.get("masks") };
    if (this.mask) masks[key] = packBits(this.mask);
    else delete masks[key];
    this.sent = Math.max(this.sent ?? 0, this.model.get("at").n) + 1;
    this.waiting = { n: this.sent, time };
    this.model.set("masks", masks);
    this.model.set("at", { task: this.task, image: this.image, n: this.sent });
    this.model.save_changes();
  }

  measureHere(time) {
    this.newcomers[this.task] ??= new Newcomer(this.current, this.model.get("rules"));
    const newcomer = this.newcomers[this.task];
    newcomer.paint(this.image, this.mask);
    this.shown = newcomer.measure(this.image);
    this.source = "page";
    this.refresh();
    this.ms = performance.now() - time;
    this.report();
  }

  answered(answer) {
    if (this.waiting && answer.n >= this.waiting.n) {
      this.kernel = performance.now() - this.waiting.time;
      this.waiting = null;
    }
    const newest = !this.changed && answer.n === this.sent && answer.image === this.image;
    if (answer.error) this.say(answer.error, "error");
    else if (newest) { this.shown = answer; this.source = "kernel"; this.refresh(); }
    else this.report();
    this.publish();
  }

  refresh() {
    this.draw();
    if (!this.shown) return;
    this.showGauge();
    this.showWords();
    this.showTables();
    this.showFusions();
    this.report();
  }

  report() {
    const task = this.current, answer = this.shown;
    const took = this.ms == null ? "" : ` · ${this.ms.toFixed(0)} ms`;
    this.say(`${task.name} (${task.origin}), ${task.image_ids[this.image]}: ${this.mask ? this.mask.reduce((a, b) => a + b, 0) : "no"} pixels painted${took}${this.source === "kernel" ? `, the kernel ${this.kernel.toFixed(0)} ms` : ""}`);
    this.tell({
      task: this.task, image: this.image, pixels: this.mask?.reduce((a, b) => a + b, 0) ?? null, ms: this.ms,
      relative: answer?.relative.at(-1), words: answer?.words, estimated: answer?.estimated, revealed: this.revealed,
      size: this.size, eraser: this.eraser, cursor: this.cursor, source: this.source, kernel: this.kernel,
    });
  }

  draw() {
    const { height, width } = this.current, key = `${this.task}:${this.image}`;
    if (!this.pictures.has(key)) this.pictures.set(key, greyBitmap(this.current.images[this.image][0], height, width));
    const { pen, width: across, height: down } = sheet(this.canvas), scale = across / width;
    lay(pen, this.pictures.get(key), across, down);
    if (this.others) {
      this.current.labels[this.image].forEach((label, r) => label && outline(pen, label, height, width, scale, OTHERS[r % OTHERS.length], 2));
    }
    if (this.mask) {
      const tint = [...rgb(MINE), 90];
      lay(pen, bitmap(height, width, (k) => this.mask[k] && tint), across, down);
      outline(pen, this.mask, height, width, scale, MINE, 2);
    }
    if (this.revealed) {
      outline(pen, this.current.truth[this.image], height, width, scale, "#000000", 4);
      outline(pen, this.current.truth[this.image], height, width, scale, TRUTH, 2, [5, 3]);
    }
    if (this.cursor) {
      pen.lineWidth = 1.5;
      pen.setLineDash(this.eraser ? [4, 3] : []);
      for (const [colour, more] of [["#000000", 1], ["#ffffff", 0]]) {
        pen.strokeStyle = colour;
        pen.beginPath();
        pen.arc(this.cursor[0] * scale, this.cursor[1] * scale, Math.max(2, (this.size / 2) * scale) + more, 0, 7);
        pen.stroke();
      }
    }
    this.legend.replaceChildren(
      ...(this.mask ? [named(MINE, "you")] : []),
      ...(this.others ? this.current.annotators.map((name, r) => named(OTHERS[r % OTHERS.length], this.current.labels[this.image][r]?.includes(1) ? name : `${name}: nothing`)) : []),
      ...(this.revealed ? [named(TRUTH, this.truthName())] : []),
    );
  }

  truthName() {
    return this.current.reference ? "the reference" : "the truth";
  }

  showGauge() {
    const { relative } = this.shown, names = [...this.current.annotators, "you"];
    const known = relative.flatMap((value, r) => (value == null ? [] : [[names[r], value, r === relative.length - 1]]));
    const most = Math.max(2, ...known.map(([, value]) => Math.ceil(Math.abs(value)))), left = (v) => 50 + (44 * v) / most;
    const marks = known.map(([name, value, mine], r) => make("span", {
      class: mine ? "nl-mark nl-mine" : "nl-mark", title: `${name}: ${value.toFixed(1)} px`,
      style: `left:${left(value)}%${mine ? "" : `;background:${this.colourOf(name)}`}`,
    }, mine ? make("b", {}, `you ${signed(value)} px`) : ""));
    const listed = known.filter(([, , mine]) => !mine).sort((a, b) => a[1] - b[1]);
    const silent = relative.flatMap((value, r) => (value == null && r < relative.length - 1 ? [names[r]] : []));
    const told = listed.map(([name, value]) => `${name} ${signed(value)}`).join(", ");
    this.gauge.replaceChildren(
      make("div", { class: "nl-small" }, make("b", {}, "How wide you draw beside the others")),
      make("div", { class: "nl-gauge", role: "img", "aria-label": `Offsets in pixels: ${told}` }, make("span", { class: "nl-middle" }), ...marks,
        make("span", { class: "nl-end" }, `−${most} px narrower`), make("span", { class: "nl-end nl-far" }, `wider +${most} px`)),
      make("div", { class: "nl-legend nl-small" }, ...listed.map(([name, value]) => named(this.colourOf(name), `${name} ${signed(value)}`)),
        ...silent.map((name) => named(this.colourOf(name), `${name}: no edge`)),
        ...(relative.at(-1) == null && this.mask ? [named(MINE, "you: no edge")] : [])),
    );
  }

  colourOf(name) {
    return OTHERS[this.current.annotators.indexOf(name) % OTHERS.length];
  }

  showWords() {
    const who = this.named.value.trim() || "you";
    const { words, painted } = this.shown;
    this.words.replaceChildren(...(words.length
      ? words.map((text) => make("li", {}, make("b", {}, who), ` ${text}`))
      : [make("li", { class: "nl-dim" }, "Nothing yet: paint on the picture.")]));
    if (painted.length > 1) this.words.append(make("li", { class: "nl-dim" }, `over the ${painted.length} images you painted`));
  }

  showTables() {
    const { estimated, true: real, painted } = this.shown, { classes } = this.current;
    const nothing = make("p", { class: "nl-dim nl-small" }, "Nothing yet.");
    const filled = (matrix, caption, id) => {
      const { table, set } = matrixTable(classes, caption, id);
      set(matrix);
      return table;
    };
    this.tables.replaceChildren(...(painted.length
      ? [filled(estimated, "beside what the others’ calibrated vote takes for true", "annotate-estimated"),
        ...(this.revealed ? [filled(real, `beside ${this.truthName()}`, "annotate-true")] : [])]
      : [nothing]));
  }

  showFusions() {
    const { fusions, staple, shift, weight, dice } = this.shown, task = this.current, { height, width } = task;
    const count = task.labels[this.image].filter(Boolean).length + 1;
    const move = Math.abs(shift) < 0.05 ? "your outline stays where it is" : `your outline moves ${Math.abs(shift).toFixed(1)} px ${shift > 0 ? "in" : "out"}`;
    const makes = {
      majority: `your say is one of ${count}`,
      staple: staple && `believes you find ${percent(staple[1][1])} of the ${task.classes[1]} and mark ${percent(staple[1][0])} of the rest`,
      calibrated: `${move}; your say is ${weight.toFixed(2)} where the mean is 1`,
    };
    this.fusions.replaceChildren(...Object.entries(fusions).map(([name, found]) => {
      const canvas = make("canvas", { class: "nl-pixels", width, height, role: "img", "aria-label": `${TITLES[name]} beside your mask` });
      const mine = this.mask;
      canvas.getContext("2d").drawImage(bitmap(height, width, (k) => {
        const marked = found.mask[k] === "1";
        if (!mine) return marked ? ERRORS.right : ERRORS.none;
        return mine[k] ? (marked ? ERRORS.right : ERRORS.extra) : marked ? ERRORS.missed : ERRORS.none;
      }), 0, 0);
      const lines = [mine ? `${makes[name]}. Dice with you ${percent(found.with_newcomer)}` : "without you"];
      if (this.revealed) lines.push(`Dice with ${this.truthName()} ${percent(found.with_truth)}${mine ? `, without you ${percent(found.alone)}` : ""}`);
      return make("figure", { "data-testid": `annotate-${name}` }, canvas, make("figcaption", {}, make("b", {}, TITLES[name]), ...lines.map((text) => make("div", {}, text))));
    }));
    if (!this.revealed) return;
    const named = [...task.annotators, "you"].map((name, r) => `${name} ${percent(dice[r])}`).join(" · ");
    this.fusions.append(make("p", { class: "nl-small nl-wide", "data-testid": "annotate-dice" }, `Dice with ${this.truthName()}: ${named}.`,
      task.reference ? " Nobody knows the truth of these images: the reference is fused from the annotators’ own labels." : ""));
  }

  save() {
    if (!this.baked) {
      this.model.set("asked", this.model.get("asked") + 1);
      this.model.save_changes();
      return;
    }
    if (!this.mask) { this.say("nothing is painted yet: paint an image first", "error"); return; }
    const { height, width } = this.current, file = `${this.current.name}-${this.current.image_ids[this.image]}`.replace(/[^\w.-]+/g, "_");
    bitmap(height, width, (k) => { const v = this.mask[k] ? 255 : 0; return [v, v, v, 255]; }).toBlob((blob) => {
      const address = URL.createObjectURL(blob), link = make("a", { href: address, download: `${file}.png` });
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
      this.say(`downloaded ${file}.png: 255 where you marked, ready for python -m noisyseg.report`);
    }, "image/png");
  }

  savedAs(said) {
    if (said.error) this.say(said.error, "error");
    else this.say(said.text);
  }
}

function render(context) {
  const explorer = new Annotate(context);
  return () => explorer.away();
}

export default { render };
