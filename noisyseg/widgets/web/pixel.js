// One pixel, two classes, five annotators: the loss over (p, mean trace) and gradient descent in
// it. The mathematics is that of `pixel.py`; the names in the mathematics are these.
//   s, t     share of the annotators who wrote foreground (1) and background (0)
//   b0, b1   chance to write 1 where the truth is 0 and where it is 1, of those who wrote 1
//   c0, c1   chance to write 0 where the truth is 0 and where it is 1, of those who wrote 0
//   d0, d1   diagonal of the mean matrix: s (1 - b0) + t c0 and s b1 + t (1 - c1)
const MARGIN = 0.1, STEPS = 400, RATE = 0.1, LEAST = 1e-6;
const COLUMNS = 61, ROWS = 61; // the map: p and mean trace, both with their ends
const COARSE = [13, 11], FINE = [37, 31]; // starts whose ends colour the map: while it moves, and at rest
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** Eq. 4 with the hinge, for the best matrices of which the mean has the diagonal d0, d1. */
function lossAt(setting, p, d0, d1) {
  const { share: s, weight, hinge } = setting, t = 1 - s;
  const b0 = s > 0 ? Math.min(1, (1 - d0) / s) : 1, c0 = t > 0 ? Math.min(1, d0 / t) : 1;
  const b1 = s > 0 ? Math.min(1, d1 / s) : 1, c1 = t > 0 ? Math.min(1, (1 - d1) / t) : 1;
  let loss = weight * (d0 + d1);
  if (s > 0) loss -= s * Math.log(Math.max((1 - p) * b0 + p * b1, LEAST));
  if (t > 0) loss -= t * Math.log(Math.max((1 - p) * c0 + p * c1, LEAST));
  if (hinge) loss += hinge / 2 * (Math.max(0, MARGIN + 1 - 2 * d0) + Math.max(0, MARGIN + 1 - 2 * d1));
  return loss;
}

/** The smallest loss at this p and mean trace; convex along d0, so a golden section finds it. */
function floorAt(setting, p, trace) {
  let low = Math.max(0, trace - 1), high = Math.min(1, trace);
  let x = high - GOLDEN * (high - low), y = low + GOLDEN * (high - low);
  let atX = lossAt(setting, p, x, trace - x), atY = lossAt(setting, p, y, trace - y);
  for (let k = 0; k < 16; k++) {
    if (atX < atY) {
      high = y; y = x; atY = atX;
      x = high - GOLDEN * (high - low); atX = lossAt(setting, p, x, trace - x);
    } else {
      low = x; x = y; atX = atY;
      y = low + GOLDEN * (high - low); atY = lossAt(setting, p, y, trace - y);
    }
  }
  return Math.min(atX, atY);
}

/** The whole map, rows of equal trace from 0 to 2, each with p from 0 to 1. */
function floor(setting, columns = COLUMNS, rows = ROWS) {
  const values = new Float64Array(columns * rows);
  for (let j = 0; j < rows; j++) {
    for (let i = 0; i < columns; i++) {
      values[j * columns + i] = floorAt(setting, i / (columns - 1), 2 * j / (rows - 1));
    }
  }
  return values;
}

/** The least loss where the truth is certain (p = 0 or 1), and the mean trace that has it. */
function bottom(setting, p) {
  let low = 0, high = 2;
  for (let k = 0; k < 32; k++) {
    const x = high - GOLDEN * (high - low), y = low + GOLDEN * (high - low);
    if (floorAt(setting, p, x) < floorAt(setting, p, y)) high = y;
    else low = x;
  }
  const trace = (low + high) / 2, loss = floorAt(setting, p, trace);
  // No valley where a step towards the other class costs less.
  return { p, trace, loss, valley: floorAt(setting, p + (p ? -0.02 : 0.02), trace) > loss - 1e-4 };
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const logit = (x) => Math.log(x / (1 - x));

/**
 * Adam on the logits of p and of each annotator's matrix; the rate falls to 0. With two classes a
 * pair of logits has opposite gradients, so their difference moves twice as far. Annotators who
 * wrote the same start with the same matrix and keep it. `write(step, …)` sees every step.
 */
function descend(setting, write, steps = STEPS) {
  const { share: s, weight, hinge, annotators } = setting, t = 1 - s;
  const still = Math.round(setting.warmUp * steps), near = logit(setting.diagonal);
  const z = [logit(setting.belief), -near, near, near, -near];
  const x = [0, 0, 0, 0, 0], g = [0, 0, 0, 0, 0], m = [0, 0, 0, 0, 0], v = [0, 0, 0, 0, 0];
  for (let step = 0; step < steps; step++) {
    for (let k = 0; k < 5; k++) x[k] = sigmoid(z[k]);
    const [p, b0, b1, c0, c1] = x;
    const q1 = (1 - p) * b0 + p * b1, q0 = (1 - p) * c0 + p * c1;
    const d0 = s * (1 - b0) + t * c0, d1 = s * b1 + t * (1 - c1);
    const lead0 = MARGIN + 1 - 2 * d0, lead1 = MARGIN + 1 - 2 * d1;
    if (write) {
      const fit = -(s > 0 ? s * Math.log(q1) : 0) - (t > 0 ? t * Math.log(q0) : 0);
      write(step, p, d0 + d1, fit, weight * (d0 + d1), hinge / 2 * (Math.max(0, lead0) + Math.max(0, lead1)));
    }
    const push0 = lead0 > 0 ? hinge : 0, push1 = lead1 > 0 ? hinge : 0;
    g[0] = -s * (b1 - b0) / q1 - t * (c1 - c0) / q0;
    g[1] = (-(1 - p) / q1 - weight + push0) / annotators;
    g[2] = (-p / q1 + weight - push1) / annotators;
    g[3] = (-(1 - p) / q0 + weight - push0) / annotators;
    g[4] = (-p / q0 - weight + push1) / annotators;
    const rate = 2 * RATE * (1 - step / steps);
    for (let k = 0; k < 5; k++) {
      const age = k === 0 ? step + 1 : step + 1 - still; // the matrices stand still at first
      if (age < 1) continue;
      const slope = g[k] * x[k] * (1 - x[k]);
      m[k] = 0.9 * m[k] + 0.1 * slope;
      v[k] = 0.999 * v[k] + 0.001 * slope * slope;
      const mean = m[k] / (1 - 0.9 ** age), square = v[k] / (1 - 0.999 ** age);
      z[k] -= rate * mean / (Math.sqrt(square) + 1e-8);
    }
  }
  return x;
}

/** The descent step by step: p, mean trace and the three parts of the loss. */
function path(setting, steps = STEPS) {
  const names = ["belief", "trace", "likelihood", "tracePart", "dominance"];
  const rows = Object.fromEntries(names.map((name) => [name, new Float64Array(steps)]));
  descend(setting, (step, ...values) => { names.forEach((name, k) => { rows[name][step] = values[k]; }); }, steps);
  return rows;
}

/** Where a descent has ended: at the vote, at the swap, or between them. */
function outcome(share, end) {
  const vote = share > 0.5 ? end : 1 - end;
  return vote >= 0.7 ? "vote" : vote <= 0.3 ? "swap" : "undecided";
}

// What the buttons set; every one is one control away from the first.
const LESSONS = [
  { id: "vote", name: "The vote", set: { weight: 0.7, warmUp: 0, hinge: 0, belief: 0.5, diagonal: 0.6 },
    why: "λ is the paper's for MNIST. The belief goes to the class that most annotators wrote before the matrices have moved far." },
  { id: "swap", name: "The swap", set: { weight: 1.4, warmUp: 0, hinge: 0, belief: 0.5, diagonal: 0.6 },
    why: "λ is doubled. The trace is cheaper for the class that fewer wrote, and the matrices turn around before the belief has moved." },
  { id: "warm-up", name: "Cure: warm-up", set: { weight: 1.4, warmUp: 0.1, hinge: 0, belief: 0.5, diagonal: 0.6 },
    why: "The same λ, but the matrices stand still at first. Only the belief can explain the labels, so it takes the side of most." },
  { id: "hinge", name: "Cure: hinge", set: { weight: 1.4, warmUp: 0, hinge: 2, belief: 0.5, diagonal: 0.6 },
    why: "The same λ, but the mean matrix must stay dominant, as Theorem 1 assumes. The swap has become the dearer of the two." },
];
const KEYS = ["weight", "warmUp", "hinge", "belief", "diagonal"];
const TRAIT = { weight: "weight", warmUp: "warm_up", hinge: "hinge", belief: "belief", diagonal: "diagonal" };
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const two = (value) => value.toFixed(2);

function render({ model, el }) {
  const { root, body, say, tell } = frame(el, "pixel", "One pixel, live");
  root.classList.add("nl-pixel");
  const now = { votes: [...model.get("votes")] };
  for (const key of KEYS) now[key] = model.get(TRAIT[key]);
  const setting = () => ({
    ...now, annotators: now.votes.length,
    share: now.votes.reduce((sum, vote) => sum + vote, 0) / now.votes.length,
  });

  // Controls.
  const switches = now.votes.map((_, r) => make("button", {
    type: "button", class: "nl-vote", role: "switch", "data-testid": `vote-${r + 1}`,
  }, make("span", { class: "nl-knob" }, String(r + 1))));
  const votes = make("div", { class: "nl-votes", role: "group", "aria-label": "what each annotator wrote" },
    make("div", { class: "nl-lanes nl-small nl-dim", "aria-hidden": "true" },
      make("span", {}, "wrote foreground"), make("span", {}, "wrote background")),
    ...switches);
  const controls = {
    weight: slider("trace weight λ", { min: 0, max: 2, step: 0.05, value: now.weight, write: two, id: "weight" }, (v) => change({ weight: v })),
    warmUp: slider("warm-up", { min: 0, max: 0.9, step: 0.05, value: now.warmUp, write: (v) => `${Math.round(100 * v)} %`, id: "warm-up" }, (v) => change({ warmUp: v })),
    hinge: slider("hinge", { min: 0, max: 5, step: 0.25, value: now.hinge, write: two, id: "hinge" }, (v) => change({ hinge: v })),
    belief: slider("start: belief", { min: 0.03, max: 0.97, step: 0.01, value: now.belief, write: two, id: "belief" }, (v) => change({ belief: v })),
    diagonal: slider("start: diagonal", { min: 0.03, max: 0.97, step: 0.01, value: now.diagonal, write: two, id: "diagonal" }, (v) => change({ diagonal: v })),
  };
  const lessons = LESSONS.map((lesson) => button(lesson.name, () => go(lesson.set), { id: `lesson-${lesson.id}`, pressed: false }));
  const map = make("canvas", { class: "nl-map", role: "img", "data-testid": "map", tabindex: 0 });
  const curves = make("canvas", { class: "nl-curves", role: "img", "data-testid": "curves" });
  const word = make("div", { class: "nl-word", "data-testid": "verdict" });
  const why = make("div", { class: "nl-why nl-small nl-dim" });
  body.append(
    make("div", { class: "nl-row nl-lessons", role: "group", "aria-label": "lessons" }, ...lessons),
    make("div", { class: "nl-split" },
      map,
      make("div", { class: "nl-right" }, word, why, votes, ...Object.values(controls).map((c) => c.row),
        make("p", { class: "nl-small nl-dim" },
          "Drag the ring in the map, a vote or a slider. Colour says where a descent that starts there ends, and a deep colour is a small loss. The diamonds are the smallest losses with one class certain.")),
      curves));

  // What is computed, and when: all of it before the next picture.
  let dirty = true, frames = 0, costs = [], values, route, ends, low, traveller = 1, moving = null, began = 0;
  let basins = null, pending = null, sent = 0, timer = 0, alive = true, request = 0;

  function change(values) {
    moving = null;
    traveller = 1;
    Object.assign(now, values);
    settle();
  }
  function settle() {
    for (const key of KEYS) controls[key].set(now[key]);
    switches.forEach((toggle, r) => {
      toggle.setAttribute("aria-checked", String(now.votes[r] === 1));
      toggle.setAttribute("aria-label", `annotator ${r + 1} wrote ${now.votes[r] ? "foreground" : "background"}`);
    });
    dirty = true;
    wake();
    clearTimeout(timer);
    timer = setTimeout(send, 120 - Math.min(100, performance.now() - sent));
  }
  function send() {
    sent = performance.now();
    model.set("votes", [...now.votes]);
    for (const key of KEYS) model.set(TRAIT[key], now[key]);
    model.save_changes();
  }
  /** Move to these settings, in half a second where motion is welcome; then walk the path. */
  function go(target) {
    if (calm()) { Object.assign(now, target); traveller = 1; settle(); return; }
    moving = { from: { ...now }, to: target };
    began = performance.now();
    wake();
  }
  // Most happens in the first steps: the walk along the path begins slowly.
  function advance(time) {
    if (moving) {
      const part = clamp((time - began) / 500, 0, 1), ease = part * part * (3 - 2 * part);
      for (const key of Object.keys(moving.to)) {
        now[key] = moving.from[key] + ease * (moving.to[key] - moving.from[key]);
        controls[key].set(now[key]);
      }
      if (part === 1) { Object.assign(now, moving.to); moving = null; traveller = 0; began = time; settle(); }
      dirty = true;
    } else if (traveller < 1) traveller = clamp((time - began) / 1800, 0, 1);
  }
  function compute() {
    const at = setting();
    values = floor(at);
    route = path(at);
    low = Math.min(...values);
    ends = [bottom(at, 0), bottom(at, 1)];
  }
  /** What the colours depend on: everything but the start. */
  const cause = () => JSON.stringify([now.votes, now.weight, now.warmUp, now.hinge]);
  /** The next descents for the colours: a coarse set to its end, however fast things move. */
  function plan() {
    const why = cause();
    if (pending && (pending.why === why || pending.size === COARSE)) return;
    pending = null;
    if (basins?.why === why && basins.size === FINE) return;
    const size = basins?.why === why ? FINE : COARSE;
    pending = { why, size, at: setting(), done: 0, ends: new Float64Array(size[0] * size[1]) };
  }
  /** Some more of them, within these milliseconds; the last whole set stays until then. */
  function colour(budget) {
    const start = performance.now();
    plan();
    while (pending && performance.now() - start < budget) {
      const [across, up] = pending.size, i = pending.done % across, j = Math.floor(pending.done / across);
      const from = { ...pending.at, belief: 0.03 + 0.94 * i / (across - 1), diagonal: 0.03 + 0.94 * j / (up - 1) };
      pending.ends[pending.done++] = descend(from)[0];
      if (pending.done === pending.ends.length) { basins = pending; pending = null; plan(); }
    }
  }
  function step(time) {
    request = 0;
    if (!alive) return;
    const start = performance.now();
    advance(time);
    if (dirty) { compute(); dirty = false; }
    colour(basins ? 5 : 30);
    draw();
    frames += 1;
    costs.push(performance.now() - start);
    if (costs.length > 60) costs.shift();
    report();
    if (moving || traveller < 1 || pending) wake();
  }
  function wake() { if (!request) request = requestAnimationFrame(step); }

  function report() {
    const at = setting(), end = route.belief[STEPS - 1], last = route.trace[STEPS - 1];
    const found = outcome(at.share, end), most = at.share > 0.5 ? "foreground" : "background";
    const names = { vote: "The vote", swap: "The swap", undecided: "Undecided" };
    word.textContent = names[found];
    word.dataset.outcome = found;
    const many = Math.round(Math.max(at.share, 1 - at.share) * at.annotators);
    const lesson = LESSONS.find((l) => KEYS.every((key) => Math.abs(l.set[key] - now[key]) < 1e-9));
    lessons.forEach((b, k) => b.setAttribute("aria-pressed", String(LESSONS[k] === lesson)));
    const plain = {
      vote: `The estimate is the class that ${many} of ${at.annotators} wrote.`,
      swap: `The estimate is the opposite of what ${many} of ${at.annotators} wrote, and the matrices say that they err.`,
      undecided: last < 0.15 ? "Every matrix is turned around, and the belief has stopped between the classes."
        : "The belief has stopped between the classes.",
    };
    why.textContent = `${plain[found]}${lesson && found === (lesson.id === "swap" ? "swap" : "vote") ? ` ${lesson.why}` : ""}`;
    const [vote, swap] = at.share > 0.5 ? [ends[1], ends[0]] : [ends[0], ends[1]];
    if (moving) return;
    say(`Ends at p(foreground) = ${two(end)}, mean trace ${two(last)}. Smallest loss with ${most} certain, the vote: ${two(vote.loss)}; ` +
      `with the other class, the swap: ${two(swap.loss)}${swap.valley ? "" : ", which is no valley"}.`);
    map.setAttribute("aria-label", `Loss over p(foreground) and mean trace; the descent from p ${two(now.belief)}, trace ${two(2 * now.diagonal)} ends at p ${two(end)}, trace ${two(last)}: ${names[found]}`);
    curves.setAttribute("aria-label", "p(foreground), mean trace and cross-entropy along the descent");
    tell({ ...now, end, trace: last, outcome: found, vote: vote.loss, swap: swap.loss, valley: swap.valley, frames,
      ms: [...costs].sort((a, b) => a - b)[costs.length >> 1], coloured: !pending, walking: traveller < 1 });
  }

  // Pictures.
  const box = (width, height) => ({ left: 44, top: 10, right: width - 12, bottom: height - 38 });
  function draw() {
    const theme = colours(root);
    drawMap(theme);
    drawCurves(theme);
  }
  function drawMap(theme) {
    const { pen, width, height } = sheet(map);
    if (!width) return;
    const area = box(width, height), at = setting();
    const px = (p) => area.left + p * (area.right - area.left), py = (trace) => area.bottom - trace / 2 * (area.bottom - area.top);
    shade(pen, area, theme, at.share);
    contours(pen, px, py, theme);
    axes(pen, area, theme, [[0, "0"], [0.5, "0.5"], [1, "1"]].map(([v, w]) => [px(v), w]), [0, 0.5, 1, 1.5, 2].map((v) => [py(v), String(v)]), "p(foreground)", "mean trace");
    const still = Math.round(now.warmUp * STEPS), shown = Math.max(1, Math.round(traveller ** 3 * (STEPS - 1)));
    for (const [from, to, dash] of [[0, Math.min(still, shown), [3, 5]], [Math.max(0, still - 1), shown, []]]) {
      if (to <= from) continue;
      for (const [w, c] of [[6, theme.paper], [3, theme.ink]]) {
        pen.beginPath();
        for (let k = from; k <= to; k++) pen.lineTo(px(route.belief[k]), py(route.trace[k]));
        pen.setLineDash(dash); pen.lineWidth = w; pen.strokeStyle = c; pen.lineJoin = "round"; pen.stroke();
      }
    }
    pen.setLineDash([]);
    const majority = at.share > 0.5 ? 1 : 0;
    for (const end of ends) {
      const name = end.p === majority ? "the vote" : "the swap", hue = end.p === majority ? theme.vote : theme.swap;
      mark(pen, px(end.p), py(end.trace), end.valley, hue, theme);
      label(pen, `${name} ${two(end.loss)}${end.valley ? "" : " (no valley)"}`, px(end.p), py(end.trace), end.p === 1, area, hue, theme);
    }
    dot(pen, px(route.belief[shown]), py(route.trace[shown]), 6, theme.ink, theme.paper);
    dot(pen, px(now.belief), py(2 * now.diagonal), 9, theme.paper, theme.ink, 3);
    if (document.activeElement === map) dot(pen, px(now.belief), py(2 * now.diagonal), 14, "transparent", theme.focus, 2);
  }
  let stain = null;
  function shade(pen, area, theme, share) {
    stain ??= document.createElement("canvas");
    stain.width = COLUMNS; stain.height = ROWS;
    const brush = stain.getContext("2d"), image = brush.createImageData(COLUMNS, ROWS);
    const [paper, vote, swap, none] = [theme.paper, theme.vote, theme.swap, theme.none].map(rgb);
    for (let j = 0; j < ROWS; j++) {
      for (let i = 0; i < COLUMNS; i++) {
        const end = basins ? between(basins, i / (COLUMNS - 1), j / (ROWS - 1)) : 0.5;
        const voted = share > 0.5 ? end : 1 - end, side = clamp((voted - 0.5) * 4, -1, 1);
        const hue = side > 0 ? vote : swap, deep = 0.1 + 0.62 * Math.exp(-(values[j * COLUMNS + i] - low) / 0.3);
        const k = 4 * ((ROWS - 1 - j) * COLUMNS + i);
        for (let c = 0; c < 3; c++) {
          const tint = none[c] + Math.abs(side) * (hue[c] - none[c]);
          image.data[k + c] = paper[c] + deep * (tint - paper[c]);
        }
        image.data[k + 3] = 255;
      }
    }
    brush.putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = "high";
    // The centres of the outer cells lie on the axes.
    const w = (area.right - area.left) / (COLUMNS - 1), h = (area.bottom - area.top) / (ROWS - 1);
    pen.drawImage(stain, 0.5, 0.5, COLUMNS - 1, ROWS - 1, area.left, area.top, w * (COLUMNS - 1), h * (ROWS - 1));
  }
  function between(grid, x, y) {
    const [across, up] = grid.size;
    const u = clamp((x - 0.03) / 0.94, 0, 1) * (across - 1), v = clamp((y - 0.03) / 0.94, 0, 1) * (up - 1);
    const i = Math.min(across - 2, Math.floor(u)), j = Math.min(up - 2, Math.floor(v)), a = u - i, b = v - j;
    const value = (di, dj) => grid.ends[(j + dj) * across + i + di];
    return (1 - b) * ((1 - a) * value(0, 0) + a * value(1, 0)) + b * ((1 - a) * value(0, 1) + a * value(1, 1));
  }
  function contours(pen, px, py, theme) {
    pen.strokeStyle = theme.ink; pen.lineWidth = 1;
    const first = Math.ceil(low / 0.1);
    for (let n = 0; n < 16; n++) {
      const level = (first + n) * 0.1;
      pen.globalAlpha = 0.3 * (1 - n / 18);
      pen.beginPath();
      for (let j = 0; j < ROWS - 1; j++) for (let i = 0; i < COLUMNS - 1; i++) cell(pen, px, py, i, j, level);
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }
  /** Where a level crosses the sides of one cell of the map (marching squares). */
  function cell(pen, px, py, i, j, level) {
    const k = j * COLUMNS + i, corner = [values[k], values[k + 1], values[k + COLUMNS + 1], values[k + COLUMNS]];
    const where = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]], cut = [];
    for (let side = 0; side < 4; side++) {
      const a = corner[side], b = corner[(side + 1) % 4];
      if ((a < level) === (b < level)) continue;
      const f = (level - a) / (b - a), [x0, y0] = where[side], [x1, y1] = where[(side + 1) % 4];
      cut.push([px((x0 + f * (x1 - x0)) / (COLUMNS - 1)), py(2 * (y0 + f * (y1 - y0)) / (ROWS - 1))]);
    }
    for (let n = 0; n + 1 < cut.length; n += 2) { pen.moveTo(...cut[n]); pen.lineTo(...cut[n + 1]); }
  }
  function drawCurves(theme) {
    const { pen, width, height } = sheet(curves);
    if (!width) return;
    const area = { ...box(width, height), right: width - 104 };
    const px = (k) => area.left + k / (STEPS - 1) * (area.right - area.left), py = (v) => area.bottom - clamp(v, 0, 2) / 2 * (area.bottom - area.top);
    const still = Math.round(now.warmUp * STEPS);
    if (still) {
      pen.fillStyle = theme.panel; pen.fillRect(area.left, area.top, px(still) - area.left, area.bottom - area.top);
      pen.fillStyle = theme.dim; pen.font = "11px system-ui, sans-serif"; pen.textAlign = "left";
      if (px(still) - area.left > 60) pen.fillText("matrices still", area.left + 4, area.top + 12);
    }
    axes(pen, area, theme, [0, STEPS / 2, STEPS].map((v) => [px(v), String(v)]), [0, 1, 2].map((v) => [py(v), String(v)]), "step of the descent", "");
    const shown = Math.max(1, Math.round(traveller ** 3 * (STEPS - 1)));
    const lines = [["p(foreground)", route.belief, theme.ink, []], ["mean trace", route.trace, theme.accent, [7, 3]], ["cross-entropy", route.likelihood, theme.dim, [2, 3]]];
    const heights = apart(lines.map(([, row]) => py(row[STEPS - 1])), 15, area.top + 4, area.bottom);
    lines.forEach(([name, row, hue, dash], n) => {
      pen.beginPath();
      for (let k = 0; k <= shown; k++) pen.lineTo(px(k), py(row[k]));
      pen.setLineDash(dash); pen.lineWidth = 2; pen.strokeStyle = hue; pen.stroke(); pen.setLineDash([]);
      pen.fillStyle = hue; pen.font = "12px system-ui, sans-serif"; pen.textAlign = "left"; pen.textBaseline = "middle";
      pen.fillText(name, area.right + 6, heights[n]);
    });
  }

  // The map answers the pointer and the arrow keys; a vote is dragged, clicked or switched.
  function aim(event) {
    const bounds = map.getBoundingClientRect(), area = box(bounds.width, bounds.height);
    const p = (event.clientX - bounds.left - area.left) / (area.right - area.left);
    const trace = 2 * (area.bottom - (event.clientY - bounds.top)) / (area.bottom - area.top);
    change({ belief: clamp(p, 0.03, 0.97), diagonal: clamp(trace / 2, 0.03, 0.97) });
  }
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); map.focus({ preventScroll: true }); aim(event); });
  map.addEventListener("pointermove", (event) => { if (map.hasPointerCapture(event.pointerId)) aim(event); });
  map.addEventListener("focus", () => wake());
  map.addEventListener("blur", () => wake());
  map.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!moves) return;
    event.preventDefault();
    const size = event.shiftKey ? 0.05 : 0.01;
    change({ belief: clamp(now.belief + size * moves[0], 0.03, 0.97), diagonal: clamp(now.diagonal + size * moves[1], 0.03, 0.97) });
  });
  switches.forEach((toggle, r) => {
    let from = null, dragged = false;
    const put = (vote) => { if (now.votes[r] !== vote) change({ votes: now.votes.map((old, k) => (k === r ? vote : old)) }); };
    toggle.addEventListener("pointerdown", (event) => { from = event.clientY; dragged = false; toggle.setPointerCapture(event.pointerId); });
    toggle.addEventListener("pointermove", (event) => {
      if (from === null || Math.abs(event.clientY - from) < 6) return;
      dragged = true;
      const bounds = toggle.getBoundingClientRect();
      put(event.clientY < bounds.top + bounds.height / 2 ? 1 : 0);
    });
    toggle.addEventListener("pointerup", () => { from = null; });
    toggle.addEventListener("pointercancel", () => { from = null; });
    toggle.addEventListener("click", () => { if (!dragged) put(1 - now.votes[r]); dragged = false; });
    toggle.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowUp" && event.key !== "ArrowDown") return;
      event.preventDefault();
      put(event.key === "ArrowUp" ? 1 : 0);
    });
  });
  const heard = () => {
    const told = Object.fromEntries(KEYS.map((key) => [key, model.get(TRAIT[key])])), wrote = model.get("votes");
    if (KEYS.every((key) => told[key] === now[key]) && wrote.every((v, r) => v === now.votes[r])) return;
    Object.assign(now, told, { votes: [...wrote] });
    moving = null; traveller = 1;
    settle();
  };
  const names = ["votes", ...Object.values(TRAIT)].map((name) => `change:${name}`);
  // What was sent from here comes back; an echo that is late must not undo what came after it.
  const listen = () => { if (performance.now() - sent > 400) heard(); };
  for (const name of names) model.on(name, listen);
  const quiet = onChange(root, wake);
  settle();
  return () => {
    alive = false;
    cancelAnimationFrame(request);
    clearTimeout(timer);
    quiet();
    for (const name of names) model.off(name, listen);
  };
}

export { descend, floor, outcome, path, LESSONS };
export default { render };
