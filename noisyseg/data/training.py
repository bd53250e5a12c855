"""What training sees of a data set: no truth, by construction."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from noisyseg.data.views import Array


class TrainingView(Dataset[dict[str, Tensor]]):
    """What training sees, and no more: there is no truth in it, by construction.

    Items are `image` float32 (channel, *space), `labels` int64 (annotator, *space), `index`
    int64 (position in the view) and, only if one was given, `target` float32 (true, *space).
    """

    def __init__(
        self, images: Array, labels: Array, more: Mapping[str, ndarray] | None = None
    ) -> None:
        self.images, self.labels, self.more = images, labels, dict(more or {})

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {k: v[0] for k, v in self.__getitems__([range(len(self))[index]]).items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """One batch, read at once: the items stacked. `DataLoader` calls it."""
        rows = np.asarray(indices, dtype=np.int64)
        batch = {"image": self.images[rows].astype(np.float32)}
        batch |= {"labels": self.labels[rows].astype(np.int64), "index": rows}
        for name, array in self.more.items():
            whole = array.dtype.kind in "iu"
            batch[name] = array[rows].astype(np.int64 if whole else np.float32)
        return {name: torch.from_numpy(array) for name, array in batch.items()}


def collate(batch: dict[str, Tensor] | list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """`collate_fn` for a DataLoader over a TrainingView, whose batches come ready made."""
    return batch if isinstance(batch, dict) else default_collate(batch)


def share_of(
    batch: dict[str, Tensor], rank: int, processes: int
) -> tuple[dict[str, Tensor], float]:
    """The images of a batch that process `rank` takes, and its weight in the mean of all.

    A batch with fewer images than processes is taken whole by each.

    Examples:
        >>> batch = {"index": torch.arange(5)}
        >>> own, weight = share_of(batch, 1, 2)
        >>> own["index"].tolist(), weight
        ([1, 3], 0.8)
    """
    whole = len(batch["index"])
    if whole < processes:
        return batch, 1.0
    own = {name: values[rank::processes] for name, values in batch.items()}
    return own, len(own["index"]) * processes / whole
