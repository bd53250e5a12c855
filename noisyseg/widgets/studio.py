"""Annotator studio: move each annotator's degree and see masks, matrices, vote and STAPLE change.

Everything shown is computed by the library for the one picture that is shown, while a slider is
dragged; who did not change is not computed again. Knows no model.
"""

from functools import lru_cache

import matplotlib.pyplot as plt
import numpy as np
import torch
from ipywidgets import HTML, Checkbox, VBox
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from numpy import ndarray

from noisyseg import fusion, metrics, simulate
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.plots import maps, style
from noisyseg.storage import data_root
from noisyseg.widgets.parts import Explorer, Picture, dropdown, matrix_table, reacts, row, slider

# kind -> (degree in px at the start, largest degree); None = the kind has no degree.
KINDS: dict[str, tuple[float, float] | None] = {
    "good": None,
    "over": (1.7, 6.0),
    "under": (1.3, 4.0),
    "wrong": (1.2, 4.0),
    "blank": None,
    "class_swap": None,
}
DATASETS = ("mnist", "coloured", "lidc", "ms", "brats")
CARD_WIDTH = "min(228px, 100%)"
LEGEND = (
    "<small>white: rightly marked · red: marked beside the truth · blue: missed · "
    "columns of the tables: the truth</small>"
)


class AnnotatorStudio(Explorer):
    """Controls: `dataset`, `image`, `seed`, and by kind `used` (a switch) and `degree`.

    `image` counts the test images with those first that hold every class; `number` is the row.
    """

    def __init__(self, dataset: str | SegmentationDataset = "mnist", image: int = 0) -> None:
        given = dataset if isinstance(dataset, SegmentationDataset) else None
        names = [given.name] if given else [d for d in DATASETS if (data_root() / d).exists()]
        name = given.name if given else str(dataset)
        names += [] if name in names else [name]
        self.given, self.loaded = given, ""
        self.dataset = dropdown("data", names, name)
        self.image = slider("image", image, 0, max(image, 1), 1, whole=True, live=True)
        self.seed = slider("chance", 0, 0, 20, 1, whole=True, live=True)
        self.used = {kind: _switch(kind, kind != "class_swap") for kind in KINDS}
        self.degree = {
            kind: slider("px", limits[0], 0, limits[1], 0.1, live=True)
            for kind, limits in KINDS.items()
            if limits
        }
        self.pictures = {
            name: Picture(name) for name in ("input", "truth", "majority vote", "STAPLE")
        }
        self.masks = {kind: Picture() for kind in KINDS}
        self.tables = {kind: HTML() for kind in KINDS}
        self.cards = {kind: self._card(kind) for kind in KINDS}
        super().__init__(
            "Annotator studio",
            [self.dataset, self.image, self.seed],
            [
                row(self.pictures.values()),
                row(self.cards.values()),
                HTML(f"<small>{LEGEND}</small>"),
            ],
        )
        controls = (self.dataset, self.image, self.seed, *self.used.values(), *self.degree.values())
        for control in controls:
            control.observe(self.update, names="value")
        self.update()

    def _card(self, kind: str) -> VBox:
        parts = [self.used[kind], self.masks[kind], self.tables[kind]]
        if kind in self.degree:
            self.degree[kind].layout.width = "100%"
            self.degree[kind].tooltip = f"how many pixels {kind} is wrong by"
            parts.insert(1, self.degree[kind])
        return VBox(parts, layout={"align_items": "center", "width": CARD_WIDTH})

    def names(self) -> list[str]:
        """The annotators that are switched on, as `simulate.simulate_labels` takes them."""
        kinds = [kind for kind, switch in self.used.items() if switch.value]
        return [f"{k}@{self.degree[k].value:g}" if k in self.degree else k for k in kinds]

    def _load(self) -> None:
        """Read the chosen data set, once; the image slider then reaches all its test images."""
        if self.loaded == self.dataset.value:
            return
        data = self.given or load_dataset(self.dataset.value)
        self.test, self.classes = data.split("test"), data.classes
        self.truths = self.test.read_truth()
        present = np.stack([(self.truths == c).any((1, 2)) for c in range(len(self.classes))])
        self.order = np.argsort(-present.sum(0), kind="stable")
        self._written = lru_cache(maxsize=256)(self._write)
        self.drawn: dict[str, tuple[int, str]] = {}
        self.loaded = self.dataset.value
        self.image.max = len(self.test) - 1
        several = len(self.classes) > 2
        self.used["class_swap"].disabled = not several
        self.cards["class_swap"].layout.display = "flex" if several else "none"
        if not several:
            self.used["class_swap"].value = False

    @property
    def number(self) -> int:
        """The row of the test image that is shown."""
        return int(self.order[self.image.value])

    def _write(self, n: int, name: str, seed: int) -> Int[ndarray, "h w"]:
        """What one annotator writes of one image, int64; it depends on nobody else."""
        ids = self.test.image_ids[n : n + 1]
        return simulate.simulate_labels(self.truths[n : n + 1], ids, [name], seed)[0, 0].astype(
            np.int64
        )

    @reacts
    def update(self) -> str:
        """Simulate, fuse and show; the message line names the data."""
        self._load()
        n = self.number
        truth = self.truths[n]
        names = self.names()
        if not names:
            self._hide(names)
            raise ValueError("nobody is switched on: switch on at least one annotator")
        labels = np.stack([self._written(n, name, self.seed.value) for name in names])
        if self.drawn.get("input") != (n, self.loaded):
            self.drawn["input"] = (n, self.loaded)
            self._show_fixed(np.array(self.test.images[n], np.float32), truth)
        self._show_annotators(names, labels, truth)
        self._show_fused(torch.from_numpy(labels)[None], torch.from_numpy(truth)[None])
        return f"{self.test.name} ({self.test.origin}), image {self.test.image_ids[n]}"

    def _coloured(self, mask: Int[ndarray, "h w"], truth: Int[ndarray, "h w"]) -> ndarray:
        """Two classes in the paper's colours of errors, more in the colours of the classes."""
        if len(self.classes) == 2:
            return maps.true_spatial_matrix(mask, truth)
        return maps.class_map(mask)

    def _show_fixed(self, image: Float[ndarray, "c h w"], truth: Int[ndarray, "h w"]) -> None:
        self.pictures["input"].show(style.grey(image[0]))
        self.pictures["truth"].show(maps.class_map(truth) if truth.max() > 1 else truth, "truth")

    def _hide(self, names: list[str]) -> None:
        """Show mask and matrix of those who are switched on only."""
        kinds = [name.partition("@")[0] for name in names]
        for kind in KINDS:
            for part in (self.tables[kind], self.masks[kind]):
                part.layout.display = "" if kind in kinds else "none"

    def _show_annotators(
        self, names: list[str], labels: Int[ndarray, "r h w"], truth: Int[ndarray, "h w"]
    ) -> None:
        self._hide(names)
        t = torch.from_numpy(truth)[None]
        for name, label in zip(names, labels, strict=True):
            kind, shown = name.partition("@")[0], (self.number, f"{name} {self.seed.value}")
            if self.drawn.get(kind) == shown:
                continue
            self.drawn[kind] = shown
            y = torch.from_numpy(label)[None]
            counts = metrics.label_counts(y[None], t, len(self.classes))[0, 0]
            dice = float(metrics.dice(y, t, len(self.classes))[0, 1:].mean())
            self.masks[kind].show(self._coloured(label, truth), f"Dice {100 * dice:.0f} %")
            self.tables[kind].value = matrix_table(
                metrics.normalise_columns(counts).numpy(), self.classes
            )

    def _show_fused(self, labels: Int[torch.Tensor, "1 r h w"], truth: torch.Tensor) -> None:
        for name, fuse in {"majority vote": "majority", "STAPLE": "staple"}.items():
            mask = fusion.FUSIONS[fuse](labels, len(self.classes)).posterior.argmax(1)
            dice = float(metrics.dice(mask, truth, len(self.classes))[0, 1:].mean())
            pixels = self._coloured(mask[0].numpy(), truth[0].numpy())
            self.pictures[name].show(pixels, f"{name}, Dice {100 * dice:.0f} %")

    def still(self) -> Figure:
        """Input, truth, every mask and the two fusions in one row of pictures."""
        shown = {name: picture.pixels for name, picture in self.pictures.items()}
        for name in self.names():
            shown[name.replace("@", " ") + (" px" if "@" in name else "")] = self.masks[
                name.partition("@")[0]
            ].pixels
        figure = maps.picture_row(shown, size=1.25)
        plt.close(figure)
        return figure


def _switch(kind: str, on: bool) -> Checkbox:
    return Checkbox(value=on, description=kind, indent=False, layout={"width": "max-content"})


def annotator_studio(
    dataset: str | SegmentationDataset = "mnist", image: int = 0
) -> AnnotatorStudio:
    """Masks, confusion matrices, majority vote and STAPLE of annotators whose errors you set.

    `dataset`: a prepared folder with a truth, 2-D; `image` counts its test images, those first
    that hold every class.
    """
    return AnnotatorStudio(dataset, image)
