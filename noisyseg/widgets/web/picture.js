// A picture with sharp pixels, masks and outlines over it, and a place that a hand or keys move.

/** A small canvas (height, width) from a function that writes red, green, blue, alpha by pixel. */
function bitmap(height, width, colourOf) {
  const canvas = document.createElement("canvas");
  canvas.width = width; canvas.height = height;
  const pen = canvas.getContext("2d"), data = pen.createImageData(width, height);
  for (let k = 0; k < height * width; k++) {
    const colour = colourOf(k);
    if (colour) data.data.set(colour, 4 * k);
  }
  pen.putImageData(data, 0, 0);
  return canvas;
}

/** Grey values 0…1 of a picture in any unit: what lies within 0…1 stays, else 1st to 99th percentile. */
function greys(values) {
  const sorted = Float64Array.from(values).sort(), last = sorted.length - 1;
  let [low, high] = [0, 1];
  if (sorted[0] < 0 || sorted[last] > 1) {
    low = sorted[Math.round(0.01 * last)]; high = sorted[Math.round(0.99 * last)];
  }
  return Float64Array.from(values, (v) => Math.min(1, Math.max(0, (v - low) / Math.max(high - low, 1e-6))));
}

/** A grey picture as a bitmap. */
function greyBitmap(values, height, width) {
  const shades = greys(values);
  return bitmap(height, width, (k) => { const v = 255 * shades[k]; return [v, v, v, 255]; });
}

/** Draw the outline of a mask along the edges of its pixels, `scale` screen pixels each. */
function outline(pen, mask, height, width, scale, colour, thickness, dashes = []) {
  const path = new Path2D();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const k = y * width + x;
      if (!mask[k]) continue;
      if (y === 0 || !mask[k - width]) { path.moveTo(x * scale, y * scale); path.lineTo((x + 1) * scale, y * scale); }
      if (y === height - 1 || !mask[k + width]) { path.moveTo(x * scale, (y + 1) * scale); path.lineTo((x + 1) * scale, (y + 1) * scale); }
      if (x === 0 || !mask[k - 1]) { path.moveTo(x * scale, y * scale); path.lineTo(x * scale, (y + 1) * scale); }
      if (x === width - 1 || !mask[k + 1]) { path.moveTo((x + 1) * scale, y * scale); path.lineTo((x + 1) * scale, (y + 1) * scale); }
    }
  }
  pen.save();
  pen.lineWidth = thickness; pen.strokeStyle = colour; pen.setLineDash(dashes);
  pen.stroke(path);
  pen.restore();
}

/** Draw a bitmap over the whole canvas with sharp pixels. */
function lay(pen, picture, width, height, opacity = 1) {
  pen.save();
  pen.imageSmoothingEnabled = false;
  pen.globalAlpha = opacity;
  pen.drawImage(picture, 0, 0, width, height);
  pen.restore();
}

/** The pixel (column, row, with fractions) of a picture under an event of the pointer. */
function place(event, canvas, height, width) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
}

/** A table for a confusion matrix; `set(matrix, known)` fills it, [reported][true]. `tints`: colours of classes. */
function matrixTable(classes, caption, id = null, tints = null) {
  const short = (name, c) => make("span", { title: name, class: "nl-class" }, tints ? make("i", { style: `background:${tints[c % tints.length]}` }) : "", name);
  const marks = classes.map(() => make("span", { class: "nl-tick", "aria-hidden": "true" }));
  const heads = classes.map((name, t) => make("th", { scope: "col" }, short(name, t), marks[t]));
  const cells = classes.map(() => classes.map(() => make("td")));
  const table = make(
    "table", { class: "nl-matrix", "data-testid": id }, make("caption", {}, caption),
    make("thead", {}, make("tr", {}, make("th", { scope: "col", title: "rows: what was written; columns: the truth" }, "wrote ↓"), ...heads)),
    make("tbody", {}, ...classes.map((name, c) => make("tr", {}, make("th", { scope: "row" }, short(name, c)), ...cells[c]))),
  );
  const set = (matrix, known = null) => {
    classes.forEach((_, t) => {
      const faint = Boolean(known && !known[t]);
      heads[t].classList.toggle("nl-unknown", faint);
      heads[t].title = known ? (faint ? "cannot be known here" : "can be known here") : "";
      marks[t].textContent = known && known[t] ? " ✓" : "";
      classes.forEach((_, c) => {
        const value = matrix[c][t], cell = cells[c][t];
        cell.textContent = value == null || Number.isNaN(value) ? "–" : value.toFixed(2);
        cell.style.setProperty("--share", value ? Math.round(60 * value) : 0);
        cell.classList.toggle("nl-unknown", faint);
      });
    });
  };
  return { table, set };
}
