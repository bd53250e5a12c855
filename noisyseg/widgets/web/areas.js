// What is known of a test image, and every annotator's matrix over an area of it: the twin of
// explorer.beside, for every movement of the mouse.

/** Half-precision number of 16 bits. */
function half(bits) {
  const power = (bits >> 10) & 31, part = bits & 1023;
  const size = power ? 2 ** (power - 15) * (1 + part / 1024) : 2 ** -14 * (part / 1024);
  return bits >> 15 ? -size : size;
}

/** The arrays of one view as `explorer.coded` wrote them; `entry` says what there is. */
function unpackView(entry, bytes, classes, annotators) {
  const [height, width] = entry.shape, size = height * width;
  let at = entry.offset;
  const image = Float64Array.from({ length: size }, (_, k) => half(bytes.getUint16(at + 2 * k, true)));
  at += 2 * size;
  const plane = () => {
    const values = Int8Array.from({ length: size }, (_, k) => bytes.getInt8(at + k));
    at += size;
    return values;
  };
  const labels = entry.labels ? Array.from({ length: annotators }, plane) : null;
  const truth = entry.truth ? plane() : null;
  const wide = entry.levels > 255 ? 2 : 1;
  const shares = () => {
    const values = Float64Array.from({ length: size }, (_, k) => (wide === 2 ? bytes.getUint16(at + 2 * k, true) : bytes.getUint8(at + k)) / entry.levels);
    at += wide * size;
    return values;
  };
  // Class 0 is what the others leave of 1.
  const rest = (planes) => planes[0].map((_, k) => Math.max(0, 1 - planes.reduce((sum, p) => sum + p[k], 0)));
  const some = Array.from({ length: classes - 1 }, shares);
  const probs = [rest(some), ...some];
  let confusion = null;
  if (entry.confusion) {
    confusion = Array.from({ length: annotators }, () => {
      const rows = Array.from({ length: classes - 1 }, () => Array.from({ length: classes }, shares));
      return [Array.from({ length: classes }, (_, t) => rest(rows.map((row) => row[t]))), ...rows];
    });
  }
  return { ...entry, height, width, image, labels, truth, probs, confusion };
}

/** The pixels of a box [top, left, bottom, right]. */
function pixelsOf(box, width) {
  const found = [], [top, left, bottom, right] = box;
  for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) found.push(y * width + x);
  return found;
}

function mean(values, pixels) {
  let sum = 0;
  for (const k of pixels) sum += values[k];
  return sum / pixels.length;
}

/** Mean probability of every class over the pixels. */
function belief(view, pixels) {
  return view.probs.map((plane) => mean(plane, pixels));
}

/** One annotator over the pixels: estimated and true matrix of the same pixels, known columns. */
function besideArea(view, annotator, pixels) {
  const { probs, truth } = view, label = view.labels?.[annotator] ?? null, A = view.confusion[annotator];
  const n = probs.length, classes = probs.map((_, c) => c);
  const none = () => classes.map(() => classes.map(() => 0));
  const sums = none(), counts = none(), weights = classes.map(() => 0), seen = classes.map(() => 0);
  const expected = classes.map(() => 0), wrote = classes.map(() => 0);
  const likely = classes.map(() => false);
  for (const k of pixels) {
    const written = label ? label[k] : -1;
    let best = 0;
    for (let t = 0; t < n; t++) {
      if (probs[t][k] > probs[best][k]) best = t;
      for (let c = 0; c < n; c++) expected[c] += A[c][t][k] * probs[t][k];
    }
    likely[best] = true;
    if (written >= 0) wrote[written] += 1;
    if (!truth) {
      for (let t = 0; t < n; t++) {
        weights[t] += probs[t][k];
        for (let c = 0; c < n; c++) sums[c][t] += A[c][t][k] * probs[t][k];
      }
    } else if (!label || written >= 0) {
      const t = truth[k];
      weights[t] += 1;
      for (let c = 0; c < n; c++) sums[c][t] += A[c][t][k];
      if (written >= 0) { counts[written][t] += 1; seen[t] += 1; }
    }
  }
  const known = truth ? weights.map((w) => w > 0) : likely;
  const all = Math.max(1, wrote.reduce((a, b) => a + b, 0));
  return {
    estimated: classes.map((c) => classes.map((t) => (known[t] && weights[t] > 0 ? sums[c][t] / weights[t] : mean(A[c][t], pixels)))),
    true: classes.map((c) => classes.map((t) => (seen[t] ? counts[c][t] / seen[t] : null))),
    known,
    expected: expected.map((v) => v / pixels.length),
    wrote: wrote.map((v) => v / all),
  };
}

export { besideArea, pixelsOf, unpackView };
