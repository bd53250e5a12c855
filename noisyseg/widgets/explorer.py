"""Confusion explorer: click a pixel of a test image and see every annotator's matrix there.

Works on finished runs; the networks only predict. The picture is an ipympl canvas, which
brings clicks to the notebook; sliders do the same by keyboard.
"""

import html
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from ipywidgets import HTML, HBox, VBox
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.widgets import RectangleSelector
from numpy import ndarray

from noisyseg import metrics
from noisyseg.build import load_splits
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.plots import maps, style
from noisyseg.runs import Run
from noisyseg.widgets.parts import Explorer, clickable, dropdown, matrix_table, reacts, slider

EVERYBODY = "all annotators"
PICTURES = ("input", "estimated truth", "reference", "written", "CMs")
MARK: dict[str, Any] = {"color": "#ff3bd4", "linewidth": 2}


class Prediction(NamedTuple):
    """What a run says of one image: probs (true, h, w) and, with annotators, confusion."""

    probs: Float[ndarray, "true h w"]
    confusion: Float[ndarray, "annotator reported true h w"] | None


class ConfusionExplorer(Explorer):
    """Controls: `run`, `image`, `shown`, `annotator`, `row`, `column`, `area`; `canvas` clicks."""

    def __init__(self, runs: Mapping[str, Run] | Run, image: int = 0) -> None:
        self.runs = {runs.config.method: runs} if isinstance(runs, Run) else dict(runs)
        if not self.runs:
            raise ValueError("no run to explore: pass a finished run, or several by name")
        self._predict = lru_cache(maxsize=64)(self._predict_once)
        self._model = lru_cache(maxsize=4)(lambda name: self.runs[name].model())
        first = self._data(next(iter(self.runs)))
        height, width = first.space
        self.run = dropdown("run", self.runs)
        self.image = slider("image", image, 0, len(first) - 1, 1, whole=True)
        self.annotator = dropdown("annotator", [EVERYBODY, *first.annotators])
        self.shown = dropdown(
            "picture", ["input", "estimated truth", "reference", "written", "CMs"]
        )
        self.row = slider("row", height // 2, 0, height - 1, 1, whole=True)
        self.column = slider("column", width // 2, 0, width - 1, 1, whole=True)
        self.area = slider("area, px each way", 0, 0, min(height, width) // 2, 1, whole=True)
        self.box = (0, 0, 1, 1)  # top, left, bottom, right of what is averaged
        self.answer = HTML(layout={"max_height": "480px", "overflow": "auto", "flex": "1 1 auto"})
        self._draw_frame()
        controls = [self.run, self.image, self.shown, self.annotator]
        pixel = [self.row, self.column, self.area]
        super().__init__(
            "Confusion explorer: click a pixel, or drag a rectangle",
            controls,
            [HBox([VBox([self.canvas, *pixel]), self.answer])],
        )
        for control in controls:
            control.observe(self.update, names="value")
        for control in pixel:
            control.observe(self.at_pixel, names="value")
        self.at_pixel()

    def _draw_frame(self) -> None:
        self.figure = Figure(figsize=(3.6, 3.6), layout="constrained")
        self.canvas = clickable(self.figure)
        self.axis = self.figure.subplots()
        height, width = self._data(self.run.value).space
        style.panel(self.axis, np.zeros((height, width, 3)))
        self.mark = Rectangle((0, 0), 1, 1, fill=False, **MARK)
        self.axis.add_patch(self.mark)
        self.brushed = False  # a drag ends with a release, which is no click then
        self.selector = RectangleSelector(self.axis, self.brush, minspanx=1.5, minspany=1.5)
        self.canvas.mpl_connect("button_release_event", self.click)

    def _data(self, name: str) -> SegmentationDataset:
        cfg = self.runs[name].config
        return _test_images(cfg)

    def _predict_once(self, name: str, image: int) -> Prediction:
        pixels = torch.from_numpy(np.array(self._data(name).images[image], np.float32))[None]
        with torch.no_grad():
            out = self._model(name)(pixels)
        dense = None if out.confusion is None else out.confusion.dense()[0].numpy()
        return Prediction(out.logits.softmax(1)[0].numpy(), dense)

    def click(self, event: Any) -> None:
        """A click on the picture moves `row` and `column` there."""
        if event.inaxes is self.axis and not self.brushed:
            self.area.value = 0
            self.row.value, self.column.value = round(event.ydata), round(event.xdata)
            self.at_pixel()
        self.brushed = False

    def brush(self, press: Any, release: Any) -> None:
        """A rectangle that was dragged becomes what is averaged."""
        columns = sorted((press.xdata, release.xdata))
        rows = sorted((press.ydata, release.ydata))
        self.brushed = True
        self.select(round(rows[0]), round(columns[0]), round(rows[1]) + 1, round(columns[1]) + 1)

    def select(self, top: int, left: int, bottom: int, right: int) -> None:
        """Average over the pixels from `top`, `left` to before `bottom`, `right`."""
        height, width = self._data(self.run.value).space
        self.box = (max(top, 0), max(left, 0), min(bottom, height), min(right, width))
        self.update()

    def at_pixel(self, *_: Any) -> None:
        """Show the pixel at `row`, `column` and `area` pixels around it."""
        y, x, around = self.row.value, self.column.value, self.area.value
        self.select(y - around, x - around, y + around + 1, x + around + 1)

    @reacts
    def update(self) -> str:
        """Predict (once an image and run), draw, and write the matrices of the area."""
        data, name, n = self._data(self.run.value), self.run.value, self.image.value
        found = self._predict(name, n)
        labels = np.array(data.labels[n], np.int64) if data.labels is not None else None
        truth = None if data.truth is None else np.array(data.truth[n], np.int64)
        self._draw(data, found, labels, truth)
        top, left, bottom, right = self.box
        cut = np.s_[..., top:bottom, left:right]
        parts = [self._belief(data.classes, found.probs[cut])]
        if found.confusion is None:
            parts.append("<p>This method has no confusion matrices: it knows one truth only.</p>")
        else:
            for r in self._chosen(data):
                written = None if labels is None else labels[r][cut]
                whole = (labels[r], truth) if truth is not None and labels is not None else None
                parts.append(
                    self._card(data, r, found.probs[cut], found.confusion[r][cut], written, whole)
                )
        self.answer.value = "".join(parts)
        size = (bottom - top) * (right - left)
        where = f"row {top}, column {left}" if size == 1 else f"mean over {size} pixels"
        return f"{data.image_ids[n]}, {where}"

    def _chosen(self, data: SegmentationDataset) -> list[int]:
        everybody = self.annotator.value == EVERYBODY
        names = data.annotators
        return [r for r, a in enumerate(names) if everybody or a == self.annotator.value]

    def _belief(self, classes: tuple[str, ...], probs: Float[ndarray, "true h w"]) -> str:
        means = probs.mean((1, 2))
        text = ", ".join(f"{c} {p:.2f}" for c, p in zip(classes, means, strict=True))
        return f"<p><b>p (estimated truth)</b>: {html.escape(text)}</p>"

    def _card(
        self,
        data: SegmentationDataset,
        r: int,
        probs: Float[ndarray, "true h w"],
        confusion: Float[ndarray, "reported true h w"],
        written: ndarray | None,
        whole: tuple[ndarray, ndarray] | None,
    ) -> str:
        """One annotator: the estimated matrix, the true one over the image, A·p, the label."""
        classes = data.classes
        expected = np.einsum("ijhw,jhw->i", confusion, probs) / probs[0].size
        tables, marked = [], {}
        if written is not None:
            shares = [(written == c).mean() for c in range(len(classes))]
            marked = {c: "← written" for c in range(len(classes)) if shares[c] == max(shares) > 0}
        mean = confusion.mean((2, 3))
        tables.append(matrix_table(mean, classes, "estimated here", marked))
        if whole is not None:
            label, truth = (torch.from_numpy(a)[None] for a in whole)
            counts = metrics.label_counts(label[None], truth, len(classes))
            true = metrics.normalise_columns(counts[0, 0]).numpy()
            tables.append(matrix_table(true, classes, "true, over the image"))
        told = ", ".join(f"{c} {p:.2f}" for c, p in zip(classes, expected, strict=True))
        beside = "".join(
            f'<td style="padding: 0 8px; vertical-align: top">{t}</td>' for t in tables
        )
        return (
            f"<p style='margin: 6px 0 0'><b>{html.escape(data.annotators[r])}</b>: expected to "
            f"write {html.escape(told)}</p>"
            f"<table><tr>{beside}</tr></table>"
        )

    def _draw(
        self,
        data: SegmentationDataset,
        found: Prediction,
        labels: ndarray | None,
        truth: ndarray | None,
    ) -> None:
        pixels, title = self._picture(data, found, labels, truth)
        colours = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)
        self.axis.images[0].set_data(np.clip(colours, 0, 1))
        self.axis.set_title(title)
        top, left, bottom, right = self.box
        self.mark.set_bounds(left - 0.5, top - 0.5, right - left, bottom - top)
        self.canvas.draw_idle()

    def _picture(
        self,
        data: SegmentationDataset,
        found: Prediction,
        labels: ndarray | None,
        truth: ndarray | None,
    ) -> tuple[ndarray, str]:
        chosen = self._chosen(data)[0]
        name, what = data.annotators[chosen] if data.annotators else "", self.shown.value
        if what == "reference" and truth is not None:
            return maps.class_map(truth), what
        if what == "estimated truth":
            return maps.class_map(found.probs.argmax(0)), what
        if what == "written" and labels is not None:
            return maps.class_map(labels[chosen]), f"written by {name}"
        if what == "CMs" and found.confusion is not None and len(data.classes) == 2:
            return maps.spatial_matrix(found.confusion[chosen], found.probs), f"CMs of {name}"
        return style.grey(np.array(data.images[self.image.value][0], float)), "input"

    def still(self) -> Figure:
        """The picture with the marked area, and the estimated matrices of all annotators."""
        data = self._data(self.run.value)
        found = self._predict(self.run.value, self.image.value)
        chosen = self._chosen(data) if found.confusion is not None else []
        figure = Figure(figsize=(2.4 + 1.4 * len(chosen), 2.4), layout="constrained")
        first, *rest = np.atleast_1d(figure.subplots(1, 1 + len(chosen)))
        top, left, bottom, right = self.box
        labels = None if data.labels is None else np.array(data.labels[self.image.value])
        style.panel(first, *self._picture(data, found, labels, None), cmap="gray")
        corner = (left - 0.5, top - 0.5)
        first.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, **MARK))
        for axis, r in zip(rest, chosen, strict=True):
            assert found.confusion is not None
            mean = found.confusion[r][..., top:bottom, left:right].mean((2, 3))
            maps.matrix_panel(axis, mean, data.annotators[r], data.classes)
            if axis is not rest[0]:
                axis.set_yticklabels([])
        return figure


@lru_cache(maxsize=8)
def _test_images(cfg: Any) -> SegmentationDataset:
    return load_splits(cfg, load_dataset(cfg.dataset)).test


def confusion_explorer(runs: Mapping[str, Run] | Run, image: int = 0) -> ConfusionExplorer:
    """Matrices of finished runs, pixel by pixel, on their test images (2-D).

    Runs by name must be of one data set and the same annotators. Raises ValueError for none.
    """
    return ConfusionExplorer(runs, image)
