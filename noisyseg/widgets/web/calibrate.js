// Calibration, votes and STAPLE of masks of two classes: the twins of calibrated.py, fusion.py and
// staple.py, for pages without a kernel. `rules` are their constants.

/** Squared distance of every pixel to the nearest one of `target`; Infinity without any. */
function squaredDistance(target, height, width) {
  const column = new Float64Array(height * width).fill(Infinity);
  for (let x = 0; x < width; x++) {
    for (const [start, end, way] of [[0, height, 1], [height - 1, -1, -1]]) {
      let since = Infinity;
      for (let y = start; y !== end; y += way) {
        const k = y * width + x;
        since = target[k] ? 0 : since + 1;
        if (since < column[k]) column[k] = since;
      }
    }
  }
  const found = new Float64Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const row = y * width;
      let best = column[row + x] ** 2;
      for (let d = 1; d < width && d * d < best; d++) {
        if (x >= d) best = Math.min(best, d * d + column[row + x - d] ** 2);
        if (x + d < width) best = Math.min(best, d * d + column[row + x + d] ** 2);
      }
      found[row + x] = best;
    }
  }
  return found;
}

/** The box of a mask with a margin, and the mask in it; null where the mask is empty. */
function windowOf(mask, height, width, margin) {
  let [top, left, bottom, right] = [height, width, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!mask[y * width + x]) continue;
      top = Math.min(top, y); bottom = Math.max(bottom, y);
      left = Math.min(left, x); right = Math.max(right, x);
    }
  }
  if (bottom < 0) return null;
  [top, left] = [Math.max(0, top - margin), Math.max(0, left - margin)];
  [bottom, right] = [Math.min(height, bottom + 1 + margin), Math.min(width, right + 1 + margin)];
  const [h, w] = [bottom - top, right - left];
  const inside = new Uint8Array(h * w);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) inside[y * w + x] = mask[(top + y) * width + left + x];
  }
  return { top, left, h, w, inside };
}

/** Distance to the outline in pixels, positive inside; Infinity where there is no outline. */
function signedDistance({ h, w, inside }) {
  const within = squaredDistance(inside.map((v) => 1 - v), h, w);
  const beyond = squaredDistance(inside, h, w);
  return within.map((d, k) => (inside[k] ? Math.sqrt(d) - 0.5 : 0.5 - Math.sqrt(beyond[k])));
}

/** How many of the sorted `levels` lie at or below `value` (below, where `strict`). */
function levelsBelow(levels, value, strict) {
  let count = 0;
  while (count < levels.length && (strict ? levels[count] < value : levels[count] <= value)) count++;
  return count;
}

const WAYS = [[1, 0], [0, 1]];

/** Contrasts of direct neighbours along both axes, at the first of the two, of one image. */
function neighbours(planes, height, width) {
  const found = { along: [], total: 0, pairs: 0 };
  for (const [down, right] of WAYS) {
    const contrast = new Float64Array(height * width);
    for (let y = 0; y < height - down; y++) {
      for (let x = 0; x < width - right; x++) {
        const k = y * width + x, next = k + down * width + right;
        let squares = 0;
        for (const plane of planes) squares += (plane[k] - plane[next]) ** 2;
        contrast[k] = Math.sqrt(squares);
        found.total += contrast[k]; found.pairs += 1;
      }
    }
    found.along.push(contrast);
  }
  return found;
}

/** Contrasts summed by the levels between neighbours, of one mask on an image's `neighbours`. */
function contrastSums({ along, total, pairs }, mask, height, width, rules) {
  const size = rules.levels.length + 1;
  const sums = { sum: new Float64Array(size), count: new Float64Array(size), total, pairs };
  const box = windowOf(mask, height, width, rules.margin_px);
  const distance = box && signedDistance(box);
  if (!distance || !distance.every(Number.isFinite)) return sums;
  WAYS.forEach(([down, right], axis) => {
    const [starts, ends, opened, closed] = [0, 1, 2, 3].map(() => new Float64Array(size));
    for (let y = 0; y < box.h - down; y++) {
      for (let x = 0; x < box.w - right; x++) {
        const k = y * box.w + x, a = distance[k], b = distance[k + down * box.w + right];
        const first = levelsBelow(rules.levels, Math.min(a, b), false);
        const last = levelsBelow(rules.levels, Math.max(a, b), true);
        if (first >= last) continue;
        const near = along[axis][(box.top + y) * width + box.left + x];
        starts[first] += near; ends[last] += near;
        opened[first] += 1; closed[last] += 1;
      }
    }
    let [sum, count] = [0, 0];
    for (let i = 0; i < size; i++) {
      sum += starts[i] - ends[i]; sums.sum[i] += sum;
      count += opened[i] - closed[i]; sums.count[i] += count;
    }
  });
  return sums;
}

function addSums(parts, size) {
  const all = { sum: new Float64Array(size), count: new Float64Array(size), total: 0, pairs: 0 };
  for (const part of parts) {
    for (let i = 0; i < size; i++) { all.sum[i] += part.sum[i]; all.count[i] += part.count[i]; }
    all.total += part.total; all.pairs += part.pairs;
  }
  return all;
}

/** Place and height of the one clear peak of a profile; 0 and 0 where there is none. */
function peakOf(profile, { levels, flat, near, second }) {
  const highest = Math.max(...profile), height = highest - 1, top = profile.indexOf(highest);
  let nearest = -1;
  profile.forEach((value, i) => {
    const high = value - 1 >= near * height;
    if (high && (nearest < 0 || Math.abs(levels[i]) < Math.abs(levels[nearest]))) nearest = i;
  });
  const value = profile[nearest];
  const same = levels.filter((level, i) =>
    Math.abs(level - levels[nearest]) < 1 && Math.abs(profile[i] - value) <= 1e-9 * Math.abs(value));
  const clear = height >= flat && top > 0 && top < levels.length - 1
    && secondRise(profile) < second * height;
  const place = same.reduce((sum, level) => sum + level, 0) / same.length;
  return clear ? [place, height] : [0, 0];
}

function secondRise(profile) {
  let rise = 0;
  for (const line of [[...profile], [...profile].reverse()]) {
    let valley = Infinity;
    for (let i = line.indexOf(Math.max(...line)) + 1; i < line.length; i++) {
      valley = Math.min(valley, line[i]);
      rise = Math.max(rise, line[i] - valley);
    }
  }
  return rise;
}

function weightedMedian(values, weights) {
  const order = values.map((_, i) => i).sort((i, j) => values[i] - values[j] || weights[i] - weights[j]);
  const total = weights.reduce((sum, w) => sum + w, 0);
  if (!(total > 0)) return 0;
  const heavy = order.filter((i) => weights[i] > 0);
  if (heavy.length === 2) return (values[heavy[0]] + values[heavy[1]]) / 2;
  let running = 0, low, high;
  for (const i of order) {
    running += weights[i];
    if (low === undefined && running / total >= 0.5 - 1e-9) low = values[i];
    if (high === undefined && running / total > 0.5 + 1e-9) high = values[i];
  }
  return (low + high) / 2;
}

/** Offset, sharpness, relative offset, shift and weight of every annotator, from summed contrasts. */
function calibration(sums, rules) {
  const found = sums.map((one) => {
    const mean = one.total / Math.max(one.pairs, 1);
    const profile = rules.levels.map((_, i) =>
      one.count[i] > 0 && mean > 0 ? one.sum[i] / Math.max(one.count[i], 1) / mean : 0);
    return peakOf(profile, rules);
  });
  const offset = found.map(([place]) => place), sharp = found.map(([, height]) => height);
  const common = weightedMedian(offset, sharp);
  const relative = offset.map((place, r) => (sharp[r] > 0 ? place - common : NaN));
  const shift = relative.map((value) => {
    const move = Number.isNaN(value) ? 0 : value;
    const steps = Math.floor(Math.abs(move) / rules.level_px + 0.5 + 1e-6);
    return (move < 0 ? -1 : 1) * steps * rules.level_px;
  });
  const some = sharp.filter((s) => s > 0).sort((a, b) => a - b), n = some.length;
  if (!n) return { sharp, relative, shift, weight: sharp.map(() => 1) };
  const middle = (some[Math.floor((n - 1) / 2)] + some[Math.floor(n / 2)]) / 2;
  const capped = sharp.map((s) => Math.min(s, rules.most_weight * middle));
  const mean = capped.reduce((sum, c) => sum + c, 0) / n;
  return { sharp, relative, shift, weight: capped.map((c) => c / mean) };
}

/** A mask whose outline is moved inwards by so many pixels. */
function movedMask(mask, inwards, height, width, margin) {
  const moved = Uint8Array.from(mask);
  const box = inwards === 0 ? null : windowOf(mask, height, width, margin);
  if (!box) return moved;
  const distance = signedDistance(box);
  const now = distance.map((d) => (d > inwards ? 1 : 0));
  // What an outline gives up becomes background, unless there is none beside it.
  const others = now.some((v, k) => !v && !box.inside[k]);
  for (let y = 0; y < box.h; y++) {
    for (let x = 0; x < box.w; x++) {
      const k = y * box.w + x;
      if (now[k] || others) moved[(box.top + y) * width + box.left + x] = now[k];
    }
  }
  return moved;
}

function majorityVote(labels, pixels) {
  const votes = new Uint8Array(pixels), there = labels.filter(Boolean);
  for (const label of there) for (let k = 0; k < pixels; k++) votes[k] += label[k];
  return votes.map((v) => (2 * v > there.length ? 1 : 0)); // a tie is background
}

function calibratedVote(labels, weight, pixels) {
  const against = new Float64Array(pixels), marked = new Float64Array(pixels);
  labels.forEach((label, r) => {
    if (!label) return;
    const say = weight[r];
    for (let k = 0; k < pixels; k++) {
      if (label[k]) marked[k] += say;
      else against[k] += say;
    }
  });
  const mask = new Uint8Array(pixels), half = Math.fround;
  for (let k = 0; k < pixels; k++) {
    const total = Math.max(against[k] + marked[k], 1e-12);
    mask[k] = half(marked[k] / total) > half(against[k] / total) ? 1 : 0;
  }
  return mask;
}

/** STAPLE of one image: its mask and the matrix [reported][true] of every annotator. */
function stapleOf(labels, pixels, { start_diagonal: trusted, iterations, tolerance }) {
  const tiny = 1e-300, there = labels.map((label, r) => r).filter((r) => labels[r]);
  const codes = new Uint16Array(pixels), seen = new Uint32Array(2 ** there.length);
  there.forEach((r, i) => {
    const label = labels[r];
    for (let k = 0; k < pixels; k++) codes[k] |= label[k] << i;
  });
  for (let k = 0; k < pixels; k++) seen[codes[k]] += 1;
  const patterns = [];
  seen.forEach((weight, code) => {
    if (weight) patterns.push({ weight, code, written: there.map((_, i) => (code >> i) & 1) });
  });
  const prior = [0, 0];
  for (const { weight, written } of patterns) for (const c of written) prior[c] += weight;
  const all = Math.max(prior[0] + prior[1], 1);
  const logPrior = prior.map((count) => Math.log(Math.max(count / all, tiny)));
  const start = () => [[trusted, 1 - trusted], [1 - trusted, trusted]];
  let matrices = there.map(start);
  const expect = () => {
    const logs = matrices.map((m) => m.map((row) => row.map((v) => Math.log(Math.max(v, tiny)))));
    for (const pattern of patterns) {
      const [a, b] = [0, 1].map((t) => pattern.written.reduce((sum, c, i) => sum + logs[i][c][t], logPrior[t]));
      const most = Math.max(a, b), e = [Math.exp(a - most), Math.exp(b - most)];
      pattern.posterior = e.map((v) => v / (e[0] + e[1]));
    }
  };
  for (let turn = 0; turn < iterations; turn++) {
    expect();
    let change = 0;
    matrices = matrices.map((old, i) => {
      const counts = [[0, 0], [0, 0]];
      for (const { weight, written, posterior } of patterns) {
        for (const t of [0, 1]) counts[written[i]][t] += weight * posterior[t];
      }
      const totals = [0, 1].map((t) => counts[0][t] + counts[1][t]), first = start();
      const next = counts.map((row, c) => row.map((v, t) => (totals[t] > 0 ? v / totals[t] : first[c][t])));
      next.forEach((row, c) => row.forEach((v, t) => { change = Math.max(change, Math.abs(v - old[c][t])); }));
      return next;
    });
    if (change < tolerance) break;
  }
  expect();
  const marked = new Uint8Array(seen.length);
  for (const { code, posterior } of patterns) {
    marked[code] = Math.fround(posterior[1]) > Math.fround(posterior[0]) ? 1 : 0;
  }
  const confusion = labels.map(() => null);
  there.forEach((r, i) => { confusion[r] = matrices[i].map((row) => row.map(Math.fround)); });
  const mask = new Uint8Array(pixels);
  for (let k = 0; k < pixels; k++) mask[k] = marked[codes[k]];
  return { mask, confusion };
}

export { calibration, contrastSums, neighbours, signedDistance, squaredDistance, stapleOf };
