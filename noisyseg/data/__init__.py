"""Prepared folders: written, checked, and read as a `SegmentationDataset`."""

from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.data.folder import write_prepared

__all__ = ["SegmentationDataset", "load_dataset", "write_prepared"]
