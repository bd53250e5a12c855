// needs: calibrate
// What one who paints a few images is among the others: the twin of newcomer.py, for pages
// without a kernel.

function diceOf(a, b) {
  let both = 0, sizes = 0;
  for (let k = 0; k < a.length; k++) { both += a[k] & b[k]; sizes += a[k] + b[k]; }
  return sizes ? (2 * both) / sizes : 1;
}

/** The middle of the values that are numbers; of two middle ones the one nearer to 0. */
function cautiousMedian(values) {
  const known = values.filter((v) => !Number.isNaN(v)).sort((a, b) => a - b), n = known.length;
  if (!n) return NaN;
  const [low, high] = [known[Math.floor((n - 1) / 2)], known[Math.floor(n / 2)]];
  if (Math.sign(low) * Math.sign(high) < 0) return 0;
  return Math.abs(low) <= Math.abs(high) ? low : high;
}

/** A number with so many decimals, halves to the even digit as Python writes them. */
function fixed(value, digits) {
  const scaled = value * 10 ** digits, down = Math.floor(scaled);
  if (scaled - down !== 0.5) return value.toFixed(digits);
  return ((down % 2 ? down + 1 : down) / 10 ** digits).toFixed(digits);
}

class Newcomer {
  /** `task`: height, width, images (planes), labels and truth (masks), classes, spacing. */
  constructor(task, rules) {
    this.task = task;
    this.rules = rules;
    this.masks = task.truth.map(() => null);
    this.pixels = task.height * task.width;
    this.memory = new Map();
    const size = rules.levels.length + 1, { height, width } = task;
    this.contrasts = task.images.map((planes) => neighbours(planes, height, width));
    this.sumsOf = (image, mask) => contrastSums(this.contrasts[image], mask, height, width, rules);
    this.sums = task.annotators.map((_, r) =>
      addSums(task.labels.flatMap((labels, k) => (labels[r] ? [this.sumsOf(k, labels[r])] : [])), size));
    this.extents = task.labels.map((labels) => labels.map((label) => label && this.extent(label)));
    this.alone = calibration(this.sums, rules);
    this.fusedAlone = task.truth.map((_, k) => this.fuse(k, this.alone, null));
    this.own = task.truth.map(() => null);
  }

  /** Set the mask of an image (0 and 1 by pixel); null takes it back. */
  paint(image, mask) {
    this.masks[image] = mask && Uint8Array.from(mask);
    this.own[image] = mask && { ...this.sumsOf(image, mask), ...this.extent(mask) };
  }

  moved(image, r, label, shift) {
    const { height, width } = this.task, margin = this.rules.margin_px;
    if (r === this.task.annotators.length) return movedMask(label, shift, height, width, margin);
    const key = `${image} ${r} ${shift}`;
    if (!this.memory.has(key)) this.memory.set(key, movedMask(label, shift, height, width, margin));
    return this.memory.get(key);
  }

  fuse(image, found, mine) {
    const labels = [...this.task.labels[image], ...(mine ? [mine] : [])];
    const moved = labels.map((label, r) => label && this.moved(image, r, label, found.shift[r]));
    const staple = stapleOf(labels, this.pixels, this.rules);
    return {
      masks: {
        majority: majorityVote(labels, this.pixels),
        staple: staple.mask,
        calibrated: calibratedVote(moved, found.weight, this.pixels),
      },
      confusion: staple.confusion,
    };
  }

  /** The answer of `newcomer.Newcomer.measure`. */
  measure(image) {
    const { task, rules } = this, mine = this.masks[image];
    const painted = this.masks.flatMap((mask, k) => (mask ? [k] : []));
    const own = addSums(painted.map((k) => this.own[k]), rules.levels.length + 1);
    const found = calibration([...this.sums, own], rules);
    const fused = this.fuse(image, found, mine), last = task.annotators.length;
    const truth = task.truth[image], number = (v) => (Number.isNaN(v) ? null : v);
    const fusions = {};
    for (const name of ["majority", "staple", "calibrated"]) {
      fusions[name] = {
        mask: letters(fused.masks[name]),
        with_newcomer: mine && diceOf(fused.masks[name], mine),
        with_truth: diceOf(fused.masks[name], truth),
        alone: diceOf(this.fusedAlone[image].masks[name], truth),
      };
    }
    return {
      image,
      painted,
      relative: found.relative.map(number),
      words: this.words(found, painted),
      estimated: this.matrix(painted, (k) => this.fusedAlone[k].masks.calibrated),
      true: this.matrix(painted, (k) => task.truth[k]),
      fusions,
      staple: mine && fused.confusion[last],
      shift: found.shift[last],
      weight: found.weight[last],
      dice: [...task.labels[image].map((label) => label && diceOf(label, truth)), mine && diceOf(mine, truth)],
    };
  }

  matrix(painted, truthOf) {
    if (!painted.length) return null;
    const counts = [[0, 0], [0, 0]];
    for (const k of painted) {
      const truth = truthOf(k), mask = this.masks[k];
      for (let p = 0; p < this.pixels; p++) counts[mask[p]][truth[p]] += 1;
    }
    return counts.map((row) => row.map((v, t) => {
      const total = counts[0][t] + counts[1][t];
      return total ? v / total : null;
    }));
  }

  words(found, painted) {
    const { task, rules } = this, klass = task.classes[1], last = task.annotators.length;
    if (!painted.length) return [];
    if (!painted.some((k) => this.masks[k].includes(1))) return [`never writes ${klass}`];
    const offset = found.relative[last], alone = found.sharp.filter((s) => s > 0).length < 2;
    const [rows, columns] = task.spacing ?? [NaN, NaN];
    const square = Math.abs(rows - columns) <= 1e-8 + 1e-5 * Math.abs(rows);
    let said = this.width(offset, alone, square ? rows : NaN);
    const size = this.size(painted), also = [];
    if (Math.abs(size) >= rules.least_area) {
      if (said === "draws as wide as the others") said = "differs from the others in the size, but not where the images change most";
      const way = size > 0 ? "larger" : "smaller";
      also.push(size <= rules.never ? `never writes ${klass}`
        : `draws ${klass} ${fixed(100 * Math.abs(size), 0)} % ${way} than the others`);
    }
    const shift = this.shift(painted);
    if (shift.every(Number.isFinite)) {
      const axis = Math.abs(shift[1]) > Math.abs(shift[0]) ? 1 : 0;
      const [unit, per] = task.spacing ? ["mm", task.spacing[axis]] : ["px", 1];
      const way = [["up", "down"], ["left", "right"]][axis][shift[axis] > 0 ? 1 : 0];
      if (Math.abs(shift[axis]) >= rules.least_shift_px) {
        also.push(`moves ${klass} ${fixed(Math.abs(shift[axis] * per), 1)} ${unit} ${way} beside the others`);
      }
    }
    return [said, ...also];
  }

  width(offset, alone, mm) {
    if (Number.isNaN(offset)) return "follows no edge in the image, so nothing can be said about how wide they draw";
    if (alone) return "is the only one who follows an edge in the image, so there is nobody to compare how wide they draw with";
    if (Math.abs(offset) < this.rules.least_offset_px) return "draws as wide as the others";
    const way = offset > 0 ? "wider" : "narrower", size = Math.abs(offset);
    const also = Number.isFinite(mm) ? `, or ${fixed(size * mm, 1)} mm,` : "";
    return `draws ${fixed(size, 1)} px${also} ${way} than the others`;
  }

  /** Area and centre (row, column) of a mask. */
  extent(mask) {
    let [area, down, right] = [0, 0, 0];
    for (let p = 0; p < this.pixels; p++) {
      if (!mask[p]) continue;
      area += 1; down += Math.floor(p / this.task.width); right += p % this.task.width;
    }
    return { area, centre: [down / area, right / area] };
  }

  /** How much larger than the others, as a share. */
  size(painted) {
    return Math.expm1(cautiousMedian(this.task.annotators.map((_, s) => {
      let own = 0, theirs = 0;
      for (const k of painted) {
        if (!this.extents[k][s]) continue;
        own += this.own[k].area; theirs += this.extents[k][s].area;
      }
      return Math.log(own / theirs);
    })));
  }

  /** How far down and right beside the others, in pixels. */
  shift(painted) {
    const apart = this.task.annotators.map((_, s) => {
      const moves = painted.flatMap((k) => {
        if (!this.extents[k][s]) return [];
        const [mine, theirs] = [this.own[k].centre, this.extents[k][s].centre];
        return Number.isFinite(mine[0] - theirs[0]) ? [[mine[0] - theirs[0], mine[1] - theirs[1]]] : [];
      });
      return [0, 1].map((axis) => moves.reduce((sum, m) => sum + m[axis], 0) / moves.length);
    });
    return [0, 1].map((axis) => cautiousMedian(apart.map((move) => move[axis])));
  }
}

/** A mask as text, 0 or 1 by pixel. */
function letters(mask) {
  return new TextDecoder().decode(mask.map((v) => v + 48));
}

/** Half-precision numbers as doubles. */
function halves(view, offset, count) {
  return Float64Array.from({ length: count }, (_, i) => {
    const bits = view.getUint16(offset + 2 * i, true), power = (bits >> 10) & 31, part = bits & 1023;
    const size = power ? 2 ** (power - 15) * (1 + part / 1024) : 2 ** -14 * (part / 1024);
    return bits >> 15 ? -size : size;
  });
}

/** The tasks as `newcomer.coded` packed them: images in half precision, masks by bit. */
function tasksOf(listed, pixels, written) {
  let [at, bit] = [0, 0];
  return listed.map((entry) => {
    const [count, channels, height, width] = entry.shape, size = height * width;
    const task = { ...entry, height, width, images: [], labels: [], truth: [] };
    for (let k = 0; k < count; k++) {
      task.images.push(Array.from({ length: channels }, () => { at += 2 * size; return halves(pixels, at - 2 * size, size); }));
      const codes = Array.from({ length: size }, (_, p) => written.getUint16(bit + 2 * p, true));
      bit += 2 * size;
      task.truth.push(Uint8Array.from(codes, (code) => code & 1));
      task.labels.push(entry.annotators.map((_, r) =>
        (entry.labelled[k][r] ? Uint8Array.from(codes, (code) => (code >> (r + 1)) & 1) : null)));
    }
    return task;
  });
}

export { Newcomer, tasksOf };
