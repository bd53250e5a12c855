"""A newcomer among annotators: what one who paints a few images is, beside those who did before.

Offset, confusion matrix, bias in words and what three fusions make of the newcomer, by the
library's own functions (`calibrated`, `fusion`, `report`). `web/newcomer.js` computes the same
where no kernel runs, and is tested against this file. Two classes; knows no widget.
"""

from collections.abc import Sequence
from functools import lru_cache
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from noisyseg import calibrated, fusion, metrics
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.plots.style import in_words
from noisyseg.report import biases, widths
from noisyseg.simulate import simulate_labels
from noisyseg.staple import START_DIAGONAL

OTHERS_OF_SIMULATED = ("good", "over", "under", "wrong", "blank")
FUSIONS = ("majority", "staple", "calibrated")
LEAST_PIXELS = 40  # of the truth: what is smaller cannot be painted by hand
CHANCE = 0  # seed of the simulated annotators
MOST_ANNOTATORS = 15  # that fit beside the truth into the 16 bits of a pixel


class Task(NamedTuple):
    """A few images of one data set with everybody's labels and the truth, to paint on.

    `reference`: whether the truth was fused from the labels, because nobody knows a better one.
    """

    name: str
    origin: str
    classes: tuple[str, ...]
    annotators: tuple[str, ...]
    image_ids: tuple[str, ...]
    images: Float[ndarray, "image channel h w"]
    labels: Int[ndarray, "image annotator h w"]
    truth: Int[ndarray, "image h w"]
    spacing_mm: tuple[float, ...] | None
    reference: bool


def task_of(
    dataset: str | SegmentationDataset,
    images: int = 6,
    annotators: Sequence[str] = OTHERS_OF_SIMULATED,
) -> Task:
    """The first test images that hold enough to paint, one a case where there are as many cases.

    `annotators` are simulated where the data set has none of its own. Raises ValueError for
    volumes, more than two classes, no truth, or labels that cover a part of an image only.
    """
    data = load_dataset(dataset) if isinstance(dataset, str) else dataset
    if len(data.classes) != 2 or len(data.space) != 2:
        raise ValueError(
            f"{data.name} has {len(data.classes)} classes and {len(data.space)} axes: paint on a "
            "data set of pictures with two classes"
        )
    if data.truth is None:
        raise ValueError(f"{data.name} has no truth to reveal; pass truth= to write_prepared")
    test = data.split("test")
    chosen = _worth_painting(test, images)
    truth = np.array(test.truth[chosen], np.int64)  # type: ignore[index]
    ids = test.image_ids[chosen]
    own = test.labels is not None
    if own:
        labels = np.array(test.labels[chosen], np.int8)  # type: ignore[index]
        names: Sequence[str] = test.annotators
    else:
        labels, names = simulate_labels(truth, ids, annotators, CHANCE), in_words(annotators)
    missing = (labels < 0).any((2, 3)) & ~(labels < 0).all((2, 3))
    if missing.any():
        raise ValueError(f"{data.name}: labels cover a part of an image only; give whole ones")
    # Half precision is what the browser gets; both sides compute with the same numbers.
    pixels = np.array(test.images[chosen], np.float16).astype(np.float64)
    spacing = None if data.spacing_mm is None else tuple(map(float, data.spacing_mm))
    return Task(
        data.name,
        data.origin,
        data.classes,
        tuple(map(str, names)),
        tuple(map(str, ids)),
        pixels,
        labels,
        truth,
        spacing,
        own,
    )


def _worth_painting(test: SegmentationDataset, images: int) -> ndarray:
    """Rows of the first images whose truth is large enough, of new cases before others."""
    sizes = np.array([int(np.count_nonzero(test.truth[n])) for n in range(len(test))])  # type: ignore[index]
    large = np.flatnonzero(sizes >= LEAST_PIXELS)
    if not len(large):
        raise ValueError(f"{test.name}: no test image holds {LEAST_PIXELS} pixels to paint")
    _, first = np.unique(test.case_ids[large], return_index=True)
    fresh = large[np.sort(first)]
    rest = large[~np.isin(large, fresh)]
    return np.sort(np.concatenate([fresh, rest])[:images])


def rules() -> dict[str, Any]:
    """The constants that the browser needs to compute the same as the library does."""
    return {
        "levels": calibrated.LEVELS.tolist(),
        "level_px": calibrated.LEVEL_PX,
        "margin_px": calibrated.MARGIN_PX,
        "flat": calibrated.FLAT,
        "near": calibrated.NEAR,
        "second": calibrated.SECOND,
        "most_weight": calibrated.MOST_WEIGHT,
        "start_diagonal": START_DIAGONAL,
        "iterations": signature(fusion.staple).parameters["iterations"].default,
        "tolerance": signature(fusion.staple).parameters["tolerance"].default,
        "least_offset_px": widths.LEAST_OFFSET_PX,
        "least_area": biases.LEAST_AREA,
        "least_shift_px": biases.LEAST_SHIFT_PX,
        "never": biases.NEVER,
    }


def coded(tasks: Sequence[Task]) -> tuple[list[dict[str, Any]], bytes, bytes]:
    """Tasks for the browser: what words and numbers there are, all images, all masks.

    Images are numbers of half precision. Masks are 16 bits a pixel: the lowest is the truth,
    the next those of the annotators. ValueError for more than 15 annotators.
    """
    listed, pixels, masks = [], [], []
    for task in tasks:
        annotators = len(task.annotators)
        if annotators > MOST_ANNOTATORS:
            raise ValueError(
                f"{task.name} has {annotators} annotators: at most {MOST_ANNOTATORS} can be shown"
            )
        labelled = (task.labels >= 0).all((2, 3))
        code = task.truth.astype(np.uint16)
        for r in range(annotators):
            code |= np.maximum(task.labels[:, r], 0).astype(np.uint16) << (r + 1)
        names = ("name", "origin", "classes", "annotators", "image_ids", "reference")
        entry = {name: getattr(task, name) for name in names}
        entry |= {"spacing": task.spacing_mm, "shape": list(task.images.shape)}
        listed.append(entry | {"labelled": labelled.tolist()})
        pixels.append(task.images.astype("<f2").tobytes())
        masks.append(code.astype("<u2").tobytes())
    return listed, b"".join(pixels), b"".join(masks)


class Newcomer:
    """One who paints the images of a task; `masks` (image, h, w), −1 where not yet painted."""

    def __init__(self, task: Task, name: str = "newcomer") -> None:
        self.task, self.name = task, name
        self.masks = np.full(task.truth.shape, -1, np.int8)
        self.sums = np.sum(
            [
                calibrated.contrast_sums(i, y, 2)
                for i, y in zip(task.images, task.labels, strict=True)
            ],
            0,
        )
        self.alone = calibrated.from_sums(self.sums)
        self._fused_alone = lru_cache(maxsize=None)(lambda k: self._fuse(k, self.alone, None))
        for image in range(len(self.masks)):
            self._fused_alone(image)  # now, so that no stroke of the brush waits for it
        self._sums_of = lru_cache(maxsize=256)(self._contrast)
        self._dice_alone = lru_cache(maxsize=None)(self._alone)
        self._dice_of_others = lru_cache(maxsize=None)(self._others)

    def paint(self, image: int, mask: Int[ndarray, "h w"] | None) -> None:
        """Set the mask of an image; None takes it back."""
        self.masks[image] = -1 if mask is None else mask

    def _contrast(self, image: int, mask: bytes) -> ndarray:
        label = np.frombuffer(mask, np.int8).reshape(1, *self.task.truth.shape[1:])
        return calibrated.contrast_sums(self.task.images[image], label, 2)

    def _fuse(
        self, image: int, found: calibrated.Calibration, mine: ndarray | None
    ) -> tuple[dict[str, ndarray], ndarray]:
        """The masks (h, w) that vote, STAPLE and the calibrated vote give, by name; and the
        matrices (annotator, reported, true) that STAPLE finds."""
        own = [] if mine is None else [mine[None]]
        labels = np.concatenate([self.task.labels[image], *own])
        # Without the newcomer a calibration has one row less than with.
        moved = calibrated.calibrated_labels(labels[None], found.shift()[: len(labels)])
        weight = calibrated.say(moved, found.weight()[: len(labels)], 2)
        votes = torch.from_numpy(moved.astype(np.int64))
        written = torch.from_numpy(labels.astype(np.int64))[None]
        staple = fusion.staple(written, 2)
        assert staple.confusion is not None  # EM gives one
        posteriors = {
            "majority": fusion.majority_vote(written, 2).posterior,
            "staple": staple.posterior,
            "calibrated": calibrated.calibrated_vote(votes, torch.from_numpy(weight), 2).posterior,
        }
        # Of two equal shares the lower class wins, as argmax has it.
        masks = {
            name: (p[0, 1] > p[0, 0]).numpy().astype(np.int8) for name, p in posteriors.items()
        }
        return masks, staple.confusion[0].numpy()

    def measure(self, image: int) -> dict[str, Any]:
        """All that is known of the newcomer, with what the fusions make of `image`.

        `relative`: offsets in pixels of all annotators, the newcomer last; None without a clear
        edge. `words`: sentences of the report. `estimated` and `true`: the newcomer's matrix
        (reported, true) beside the others' calibrated vote and beside the truth, over all
        painted images. `fusions`: by name the mask, its Dice with the newcomer, with the truth,
        and with the truth without the newcomer. `dice`: of every annotator with the truth.
        """
        painted = [k for k in range(len(self.masks)) if (self.masks[k] >= 0).all()]
        own = sum(
            (self._sums_of(k, self.masks[k].tobytes()) for k in painted),
            np.zeros((3, 1, *self.sums.shape[2:])),
        )
        found = calibrated.from_sums(np.concatenate([self.sums, own], 1))
        mine = self.masks[image] if image in painted else None
        fused, staple = self._fuse(image, found, mine)
        return {
            "image": image,
            "painted": painted,
            "relative": _numbers(found.relative()[:, 1]),
            "words": self._words(found, painted),
            "estimated": self._matrix(painted, self._estimate(painted)),
            "true": self._matrix(painted, self.task.truth[painted]),
            "fusions": self._beside(fused, image, mine),
            "staple": None if mine is None else [_numbers(row) for row in staple[-1]],
            "shift": float(found.shift()[-1, 1]),
            "weight": float(found.weight()[-1]),
            "dice": [
                *self._dice_of_others(image),
                None if mine is None else self._dice(mine, image),
            ],
        }

    def _estimate(self, painted: list[int]) -> Int[ndarray, "image h w"]:
        """What the others' calibrated vote takes for the truth of the painted images."""
        if not painted:
            return self.task.truth[:0]
        return np.stack([self._fused_alone(k)[0]["calibrated"] for k in painted])

    def _matrix(self, painted: list[int], truth: ndarray) -> list[list[float | None]] | None:
        if not painted:
            return None
        y, t = _tensor(self.masks[painted])[:, None], _tensor(truth)
        counts = metrics.label_counts(y, t, 2).sum(0)[0]
        return [_numbers(row) for row in metrics.normalise_columns(counts).numpy()]

    def _words(self, found: calibrated.Calibration, painted: list[int]) -> list[str]:
        """Sentences of `report` on the newcomer beside the others, without intervals."""
        task, klass = self.task, self.task.classes[1]
        if not painted:
            return []
        if not (self.masks[painted] == 1).any():
            return [f"never writes {klass}"]
        spacing = task.spacing_mm
        square = spacing is not None and np.allclose(spacing, spacing[0])
        offset = float(found.relative()[-1, 1])
        alone = int((found.sharpness[:, 1] > 0).sum()) < 2
        if np.isnan(offset) or alone:
            said = [widths.nothing_to_say("", alone=not np.isnan(offset))]
        else:
            said = [widths.in_words(offset, spacing[0] if square and spacing else np.nan, "")]
        labels = np.concatenate([task.labels[painted], self.masks[painted][:, None]], 1)
        sizes, shifts = biases.beside_others_now(labels, 1)
        size, shift = sizes[-1], shifts[-1]
        if abs(size) >= biases.LEAST_AREA:
            # As in the report: "as wide as the others" would deny the size.
            if said[0] == f"draws {widths.AS_WIDE}":
                said = [widths.SAME_EDGES.format("")]
            said.append(biases.size_in_words(size, klass))
        if np.isfinite(shift).all():
            axis, way = biases.main_way(shift)
            unit, per_px = ("px", 1.0) if spacing is None else ("mm", spacing[axis])
            if abs(shift[axis]) >= biases.LEAST_SHIFT_PX:
                said.append(biases.shift_in_words(shift[axis] * per_px, unit, way, klass))
        return said

    def _beside(
        self, fused: dict[str, ndarray], image: int, mine: ndarray | None
    ) -> dict[str, dict[str, Any]]:
        """By name of the fusion: its mask, and how well it overlaps with whom."""
        alone = self._dice_alone(image)
        return {
            name: {
                "mask": (fused[name] + ord("0")).tobytes().decode("ascii"),
                "with_newcomer": None if mine is None else _dice(fused[name], mine),
                "with_truth": self._dice(fused[name], image),
                "alone": alone[name],
            }
            for name in FUSIONS
        }

    def _dice(self, mask: ndarray, image: int) -> float:
        return _dice(mask, self.task.truth[image])

    def _alone(self, image: int) -> dict[str, float]:
        return {name: self._dice(m, image) for name, m in self._fused_alone(image)[0].items()}

    def _others(self, image: int) -> list[float | None]:
        return [None if (y < 0).any() else self._dice(y, image) for y in self.task.labels[image]]


def _tensor(array: ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.int64))


def _dice(a: ndarray, b: ndarray) -> float:
    return float(metrics.dice(_tensor(a)[None], _tensor(b)[None], 2)[0, 1])


def _numbers(values: ndarray) -> list[float | None]:
    """Plain numbers for JSON, where NaN is None."""
    return [float(v) if np.isfinite(v) else None for v in values]
