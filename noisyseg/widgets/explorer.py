"""Confusion explorer: every annotator's matrix at the pixel under the mouse, or over an area.

The browser shows image, labels and estimate as layers (`web/explorer.js`) and averages what is
pointed at; the networks predict here, an image at a time. Without runs it opens those that come
with the repository. True and estimated matrices are compared over the same pixels.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy import ndarray

from noisyseg import metrics, published
from noisyseg.config import ExperimentConfig
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.experiment import run
from noisyseg.methods import METHODS
from noisyseg.paper.plan import table_configs
from noisyseg.plots import maps, style
from noisyseg.runs import Run
from noisyseg.simulate import simulate_labels
from noisyseg.storage import data_root
from noisyseg.widgets.bake import in_book
from noisyseg.widgets.live import Live, packed

DATASETS = ("mnist", "lidc", "ms", "brats")
SHOWN = ("calibrated", "trace", "trace_printed")  # methods, where they are published
MARK: dict[str, Any] = {"color": style.ESTIMATE, "linewidth": 2}
LEVELS = 65535  # of a probability on its way to the browser
LEVELS_BAKED = 255
IN_BOOK = {"mnist": 4, "lidc": 3}  # images of each run
Box = tuple[int, int, int, int]  # top, left, bottom, right


class View(NamedTuple):
    """All that is known of one test image; `confusion` is None for a model without annotators.

    `labels` is None where nobody labelled, `truth` where none is known.
    """

    image_id: str
    image: Float[ndarray, "h w"]
    labels: Int[ndarray, "annotator h w"] | None
    truth: Int[ndarray, "h w"] | None
    probs: Float[ndarray, "true h w"]
    confusion: Float[ndarray, "annotator reported true h w"] | None


class Beside(NamedTuple):
    """One annotator over an area: matrices (reported, true) of the same pixels, shares by class.

    `true` is NaN in columns of classes that do not occur, and whole where no truth is known;
    `known` says of which columns the data can say anything.
    """

    estimated: Float[ndarray, "reported true"]
    true: Float[ndarray, "reported true"]
    known: Bool[ndarray, " true"]
    expected: Float[ndarray, " reported"]
    wrote: Float[ndarray, " reported"]


def beside(view: View, annotator: int, box: Box) -> Beside:
    """Estimated and true matrix of an annotator over the pixels of `box`.

    Column j of the estimate is its mean over the pixels whose truth is j, as is that of the
    true matrix; pixels that the annotator did not label count in neither. Where no such pixel
    is left that column of the estimate is its plain mean, and not `known`. Without a truth the
    estimate weights the pixels, and a column is known where its class is the most probable one.
    """
    assert view.confusion is not None
    top, left, bottom, right = box
    cut = np.s_[..., top:bottom, left:right]
    confusion, probs = view.confusion[annotator][cut], view.probs[cut]
    n_classes = len(probs)
    label = np.full(probs.shape[1:], -1) if view.labels is None else view.labels[annotator][cut]
    wrote = np.array([(label == c).sum() for c in range(n_classes)])
    true = np.full((n_classes, n_classes), np.nan)
    if view.truth is None:
        known = np.bincount(probs.argmax(0).ravel(), minlength=n_classes) > 0
        sums = np.einsum("ijhw,jhw->ij", confusion, probs)
    else:
        y, t = (torch.from_numpy(np.asarray(a, np.int64)) for a in (label, view.truth[cut]))
        matrix = torch.from_numpy(confusion.astype(np.float64))
        written = None if view.labels is None else y[None, None]
        sums = metrics.confusion_sums(matrix[None, None], t[None], written).numpy()[0, 0]
        counts = metrics.label_counts(y[None, None], t[None], n_classes)
        true = metrics.normalise_columns(counts).numpy()[0, 0]
        known = sums.sum(0) > 0
    total = sums.sum(0)
    plain = confusion.mean((2, 3))
    estimated = np.where(known & (total > 0), sums / np.where(total > 0, total, 1), plain)
    expected = np.einsum("ijhw,jhw->i", confusion, probs) / probs[0].size
    return Beside(estimated, true, known, expected, wrote / max(wrote.sum(), 1))


class ConfusionExplorer(Live, module="explorer"):
    """Traits: `at`, the run and image shown; `box`, the area; `view` and `arrays`, its data.

    `runs` by name are finished runs or their configs, which are loaded when chosen.
    """

    title = "Confusion explorer"
    listed: Any = traitlets.List().tag(sync=True)
    at = traitlets.Dict({"run": 0, "image": 0, "n": 0}).tag(sync=True)
    box: Any = traitlets.List([]).tag(sync=True)
    views: Any = traitlets.List().tag(sync=True)
    arrays = traitlets.Bytes().tag(sync=True)
    problem = traitlets.Dict().tag(sync=True)

    def __init__(
        self, runs: Mapping[str, Run | ExperimentConfig] | Run | None = None, image: int = 0
    ) -> None:
        if isinstance(runs, Run):
            runs = {METHODS[runs.config.method].title: runs}
        self.runs = published_runs() if runs is None else dict(runs)
        if not self.runs:
            raise ValueError(
                "no run to explore: pass a finished run, or several by name; without one it takes "
                "the published ones of the data sets that are prepared (`make data`)"
            )
        self.names = [*self.runs]
        self._predicted = lru_cache(maxsize=64)(self._predict)
        self._model = lru_cache(maxsize=4)(lambda number: self.run_of(number).model())
        super().__init__(listed=[self._entry(number) for number in range(len(self.names))])
        self.at = {"run": 0, "image": image, "n": 0}
        self._show()
        self.observe(self._show, "at")

    def config(self, number: int) -> ExperimentConfig:
        """The config of a run, which needs no loading."""
        given = self.runs[self.names[number]]
        return given.config if isinstance(given, Run) else given

    def run_of(self, number: int) -> Run:
        """A run by its number; loaded, or unpacked if it is published, when first asked for."""
        given = self.runs[self.names[number]]
        if not isinstance(given, Run):
            given = self.runs[self.names[number]] = run(given)
        return given

    def _entry(self, number: int) -> dict[str, Any]:
        cfg = self.config(number)
        test = _test_images(cfg.dataset, cfg.n_test)
        names = test.annotators or style.in_words(cfg.annotators)
        return {
            "name": self.names[number],
            "dataset": test.name,
            "origin": test.origin,
            "classes": list(test.classes),
            "annotators": [str(name) for name in names],
            "images": len(test),
            "reference": test.labels is not None,
        }

    def _predict(self, number: int, n: int) -> View:
        cfg = self.config(number)
        test = _test_images(cfg.dataset, cfg.n_test)
        pixels = np.array(test.images[n], np.float32)
        with torch.no_grad():
            out = self._model(number)(torch.from_numpy(pixels)[None])
        dense = None if out.confusion is None else out.confusion.dense()[0].numpy()
        truth = None if test.truth is None else np.array(test.truth[n], np.int64)
        labels = None
        if test.labels is not None:
            labels = np.array(test.labels[n], np.int64)
        elif truth is not None:
            ids = test.image_ids[n : n + 1]
            seed = cfg.annotator_seed
            labels = simulate_labels(truth[None], ids, cfg.annotators, seed)[0].astype(np.int64)
        probs = out.logits.softmax(1)[0].numpy()
        return View(str(test.image_ids[n]), pixels[0], labels, truth, probs, dense)

    def view(self) -> View:
        """What is shown."""
        return self._predicted(self.at["run"], self.at["image"])

    def area(self) -> Box:
        """The area that is averaged: `box`, or the pixel that is disputed most."""
        height, width = self.view().image.shape
        if len(self.box) == 4:
            top, left, bottom, right = map(int, self.box)
            return max(top, 0), max(left, 0), min(bottom, height), min(right, width)
        row, column = disputed(self.view())
        return row, column, row + 1, column + 1

    def _show(self, *_: Any) -> None:
        # An exception in a callback goes to a log that no reader of a notebook ever sees.
        try:
            entry, data = coded(self.view(), self.at["run"], self.at["image"], 0)
        except Exception as error:
            text = f"{self.names[self.at['run']]}: {error or type(error).__name__}"
            self.problem = {"n": self.at["n"], "text": text}
            return
        with self.hold_sync():
            self.arrays = data
            self.views = [entry | {"n": self.at["n"]}]

    def still(self) -> Figure:
        """The picture with the marked area, and what can be known there of all matrices."""
        view, (top, left, bottom, right) = self.view(), self.area()
        entry = self.listed[self.at["run"]]
        names = entry["annotators"] if view.confusion is not None else []
        figure = Figure(figsize=(2.4 + 1.4 * len(names), 2.4), layout="constrained")
        first, *rest = np.atleast_1d(figure.subplots(1, 1 + len(names)))
        style.panel(first, style.grey(view.image), style.legible([entry["name"]])[0], cmap="gray")
        corner = (left - 0.5, top - 0.5)
        first.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, **MARK))
        for r, (axis, name) in enumerate(zip(rest, style.legible(names), strict=True)):
            found = beside(view, r, (top, left, bottom, right))
            shown = np.where(found.known, found.estimated, np.nan)
            maps.matrix_panel(axis, shown, name, entry["classes"])
            if axis is not rest[0]:
                axis.set_yticklabels([])
        return figure

    def told(self) -> str:
        """What the still picture shows, in words."""
        name = self.listed[self.at["run"]]["name"]
        return f"{self.title}: {name}, the annotators' estimated matrices at the marked pixel"

    def book(self, images: Mapping[str, int]) -> None:
        """Hold several images of every run at once, for a page without a kernel.

        `images`: how many by data set; runs of others are left out.
        """
        kept = [k for k in range(len(self.names)) if self.listed[k]["dataset"] in images]
        entries: list[dict[str, Any]] = []
        listed: list[dict[str, Any]] = []
        arrays = b""
        for place, number in enumerate(kept):
            count = min(images[self.listed[number]["dataset"]], self.listed[number]["images"])
            listed.append(self.listed[number] | {"images": count})
            for n in range(count):
                view = self._predicted(number, n)
                entry, data = coded(view, place, n, len(arrays), LEVELS_BAKED)
                entries.append(entry | {"n": 0})
                arrays += data
        self.names = [self.names[number] for number in kept]
        self._predicted.cache_clear()  # it goes by numbers, and so does the next line
        self._model.cache_clear()
        self.listed, self.at = listed, {"run": 0, "image": 0, "n": self.at["n"] + 1}
        self.views, self.arrays = entries, arrays


def disputed(view: View) -> tuple[int, int]:
    """Row and column of the first pixel at which most pairs of annotators differ.

    The middle of the image where there is no label or no dispute.
    """
    height, width = view.image.shape
    if view.labels is None:
        return height // 2, width // 2
    seen = (view.labels >= 0).sum(0)
    votes = [(view.labels == c).sum(0) for c in range(len(view.probs))]
    divided = np.sum([count * (seen - count) for count in votes], 0)
    if not divided.any():
        return height // 2, width // 2
    row, column = np.unravel_index(divided.argmax(), divided.shape)
    return int(row), int(column)


def coded(
    view: View, number: int, n: int, offset: int, levels: int = LEVELS
) -> tuple[dict[str, Any], bytes]:
    """A view for the browser: what there is, and its arrays one after the other.

    Image in half precision, labels and truth in 8 bits (−1: 255), then probabilities in as many
    `levels`: of classes 1, 2, … and of what is reported as 1, 2, …; class 0 is what is missing.
    """
    dtype = "<u2" if levels > LEVELS_BAKED else "u1"
    parts = [view.image.astype("<f2").tobytes()]
    for array in (view.labels, view.truth):
        parts.append(b"" if array is None else packed(array.astype(np.int8).view(np.uint8)))
    for array in (view.probs[1:], None if view.confusion is None else view.confusion[:, 1:]):
        scaled = None if array is None else np.round(levels * np.clip(array, 0, 1)).astype(dtype)
        parts.append(b"" if scaled is None else scaled.tobytes())
    entry = {
        "run": number,
        "image": n,
        "image_id": view.image_id,
        "offset": offset,
        "shape": list(view.image.shape),
        "levels": levels,
        "labels": view.labels is not None,
        "truth": view.truth is not None,
        "confusion": view.confusion is not None,
        "start": disputed(view),
    }
    return entry, b"".join(parts)


@lru_cache(maxsize=8)
def _test_images(dataset: str, limit: int | None) -> SegmentationDataset:
    test = load_dataset(dataset).split("test", limit=limit)
    if len(test.space) != 2:
        raise ValueError(f"{test.name} holds volumes: the explorer shows pictures")
    return test


def published_runs(
    datasets: Sequence[str] = DATASETS, methods: Sequence[str] = SHOWN
) -> dict[str, Run | ExperimentConfig]:
    """The published runs of the data sets that are prepared here, by a name for a list."""
    found: dict[str, Run | ExperimentConfig] = {}
    for dataset in datasets:
        if not (data_root() / dataset).is_dir():
            continue
        data = load_dataset(dataset)
        for cfg in table_configs(dataset, "reduced", methods, ["dense"], [0]):
            if published.find(cfg, data) is not None:
                found[f"{dataset}: {METHODS[cfg.method].title}"] = cfg
    return found


def confusion_explorer(
    runs: Mapping[str, Run | ExperimentConfig] | Run | None = None, image: int = 0
) -> ConfusionExplorer:
    """Matrices of finished runs, pixel by pixel, on their test images (2-D).

    Args:
        runs: a run, or several by name, of any data sets; None opens the published ones.
        image: which test image to begin with.

    Raises ValueError where there is no run.
    """
    return ConfusionExplorer(runs, image)


@in_book("explorer")
def _for_the_book() -> str:
    explorer = confusion_explorer()
    explorer.book(IN_BOOK)
    return explorer.fragment()
