"""A prepared folder as a `SegmentationDataset`; subsets are views, arrays stay on disk.

Labels are dropped here ("one label an image", paper section 4). Knows no simulated annotator,
no fusion and no model.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from noisyseg.data import checks, files
from noisyseg.data.views import Array, Rows, parse_labelling, ranks, take
from noisyseg.storage import data_root, recover

if TYPE_CHECKING:
    from noisyseg.data.training import TrainingView


@dataclass(frozen=True, eq=False)
class SegmentationDataset:
    """Images with what annotators wrote and, for evaluation only, the truth.

    `images` (N, channel, *space), `labels` (N, annotator, *space) with -1 = not labelled,
    `truth` (N, *space): memory-mapped or `Rows` of such; the last two may be None.
    `annotators` is () without labels; `has_label` (N, annotator) says who labelled what.
    """

    path: Path
    meta: dict[str, Any]
    name: str
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    spacing_mm: tuple[float, ...] | None
    origin: str
    annotators: tuple[str, ...]
    image_ids: ndarray
    case_ids: ndarray
    split_of: ndarray
    images: Array
    labels: Array | None
    truth: Array | None
    has_label: ndarray | None

    def __len__(self) -> int:
        return len(self.image_ids)

    def __repr__(self) -> str:
        return (
            f"<{self.name} ({self.origin}): {len(self)} images {self.images.shape[1:]}, "
            f"classes {self.classes}, annotators {self.annotators}>"
        )

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def space(self) -> tuple[int, ...]:
        """(height, width) or (depth, height, width) in pixels."""
        return tuple(self.images.shape[2:])

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the folder's arrays, index and class names: what a run depends on.

        The same for every subset. Files that did not change are not read again.
        """
        total = hashlib.sha256(json.dumps(self.classes).encode())
        for file in files.signature(self.path):
            if file[0] != "meta.json":
                total.update(f"{file[0]}:{files.checksum(self.path / file[0], file)}".encode())
        return total.hexdigest()

    def split(self, name: str, limit: int | None = None) -> "SegmentationDataset":
        """The images of "train", "val" or "test", or the first `limit` of them, as a view.

        Raises ValueError for an unknown or empty split.
        """
        if name not in checks.SPLITS:
            raise ValueError(f"unknown split {name!r}; allowed: {', '.join(checks.SPLITS)}")
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; give at least 1, or None for all images")
        index = np.flatnonzero(self.split_of == name)[:limit]
        if not len(index):
            raise ValueError(f"{self.path}: no image in split {name!r}; assign some in index.csv")
        return self._rows(index)

    def labelled(self, limit: int | None = None) -> "SegmentationDataset":
        """The images of all splits that somebody labelled, or the first `limit` of them: a view.

        All images where there are no labels yet.
        """
        here = np.ones(len(self), bool) if self.has_label is None else self.has_label.any(1)
        return self._rows(np.flatnonzero(here)[:limit])

    def _rows(self, index: ndarray) -> "SegmentationDataset":
        names = "image_ids case_ids split_of images labels truth has_label".split()
        arrays = {name: getattr(self, name) for name in names}
        kept: Any = {name: take(a, index) for name, a in arrays.items() if a is not None}
        return replace(self, **kept)

    def with_labels(self, labels: Any, annotators: Sequence[str]) -> "SegmentationDataset":
        """This data set with integer `labels` (N, annotator, *space) held in memory.

        Raises ValueError for what `load_dataset` would not accept as labels.npy either.
        """
        labels, names = np.asarray(labels), [*map(str, annotators)]
        shape = (len(self), len(set(names)), *self.space)
        if labels.shape != shape or labels.dtype.kind not in "iu" or not names:
            raise ValueError(
                f"labels {labels.shape} {labels.dtype} of annotators {names}: {self.name} needs "
                f"shape {shape}, an integer dtype and different names"
            )
        has_label = checks.labelled(labels)
        ids, splits = self.image_ids.tolist(), self.split_of.tolist()
        problems = [*checks.check_classes(labels, ids, names, self.classes)]
        problems += checks.check_labelled(has_label, ids, names, splits)
        checks.raise_all(problems, f"these labels do not fit {self.name}")
        return replace(self, labels=labels, annotators=tuple(names), has_label=has_label)

    def drop_labels(self, labelling: str, seed: int) -> "SegmentationDataset":
        """Keep the labels of k annotators for each image, drawn once: a view (paper section 4).

        `labelling`: "dense" (all), "one" or "k2", "k3", … The draw depends on seed, image id
        and who labelled the image, not on order or subset; a larger k keeps what a smaller k
        keeps. Raises ValueError for a malformed labelling or more than there are annotators.
        """
        k = parse_labelling(labelling)
        if k is None:
            return self
        old = self._needs("labels", "pass simulated ones to with_labels")
        if k > len(self.annotators):
            raise ValueError(f"labelling {labelling!r}: annotators are {self.annotators}")
        old = old if isinstance(old, Rows) else Rows(old, np.arange(len(self)))
        has_label = self._needs("has_label", "")
        kept = has_label & (ranks(self.image_ids, has_label, seed) < k)
        return replace(self, labels=Rows(old.source, old.index, kept), has_label=kept)

    def training_view(self, **more: ndarray) -> "TrainingView":
        """What training sees: images, labels and, if given, `target` (N, true, *space).

        Raises ValueError for an image without any label or a target that does not fit.
        """
        labels = self._needs("labels", "pass simulated ones to with_labels")
        bare = self.image_ids[~self._needs("has_label", "").any(1)].tolist()
        if bare:
            raise ValueError(f"{self.path}: nobody labelled images {bare[:5]}; leave them out")
        shape = (len(self), self.n_classes, *self.space)
        if "target" in more and more["target"].shape != shape:
            raise ValueError(f"target has shape {more['target'].shape}; {self.name} needs {shape}")
        from noisyseg.data.training import TrainingView  # it imports torch

        return TrainingView(self.images, labels, more)

    def read_images(self) -> ndarray:
        """All images in memory: float32 (N, channel, *space)."""
        return np.array(self.images, dtype=np.float32)

    def read_labels(self) -> ndarray:
        """All labels in memory: int64 (N, annotator, *space); ValueError where there are none."""
        return np.array(self._needs("labels", "pass simulated ones to with_labels"), np.int64)

    def read_truth(self) -> ndarray:
        """The truth in memory, to evaluate: int64 (N, *space); ValueError where there is none."""
        return np.array(self._needs("truth", "pass truth= to write_prepared"), np.int64)

    def _needs(self, name: str, remedy: str) -> Any:
        array = getattr(self, name)
        if array is None:
            raise ValueError(f"{self.path} has no {name}.npy: {remedy}")
        return array


def load_dataset(name_or_path: str | Path) -> SegmentationDataset:
    """Open a prepared folder: a name under `data_root()`, or any path.

    Raises FileNotFoundError saying where it looked and how to make the data, ValueError
    naming every violation of the contract at once.

    Examples:
        >>> data = load_dataset("mnist")
        >>> data.classes, data.space, data.split("train", limit=5).read_truth().shape
        (('background', 'digit'), (28, 28), (5, 28, 28))
    """
    path = _find(name_or_path)
    folder = checks.open_folder(path)
    meta, labels, spacing = folder.meta, folder.labels, folder.meta["spacing_mm"]
    ids, cases, splits = (folder.index[c].to_numpy(dtype=str) for c in files.COLUMNS)
    names = () if labels is None else checks.annotator_names(meta["annotators"], labels.shape[1])
    return SegmentationDataset(
        path,
        meta,
        meta["name"],
        tuple(meta["classes"]),
        tuple(meta["channels"]),
        None if spacing is None else tuple(spacing),
        meta["origin"],
        tuple(names),
        ids,
        cases,
        splits,
        folder.images,
        labels,
        folder.truth,
        folder.has_label,
    )


def _find(name_or_path: str | Path) -> Path:
    given, root = Path(name_or_path).expanduser(), data_root()
    looked = list(dict.fromkeys([root / given, given.absolute()]))
    for path in looked:
        recover(path)
        if path.is_dir():
            return path.resolve()
    there = sorted(p.name for p in root.glob("[!.]*/")) if root.is_dir() else []
    script = given.name.split("_")[0]  # people_crowd is made by data_prep.people
    raise FileNotFoundError(
        f"no prepared data {str(name_or_path)!r}: looked at {' and '.join(map(str, looked))}; "
        f"{root} holds {', '.join(there) or 'nothing'}. Make it with `make data` or "
        f"`python -m data_prep.{script}`; noisyseg.write_prepared writes your own arrays"
    )
