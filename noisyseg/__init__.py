"""noisyseg: learn the truth and the annotators together, from noisy segmentations.

The companion of "Disentangling Human Error from the Ground Truth in Segmentation of
Medical Images" (NeurIPS 2020, arXiv 2007.15963). Start with notebook 00. To understand the
method, read in this order: `simulate`, `confusion`, `models`, `losses`, `fusion`, `calibrated`
(ours), `metrics`, `train`. The rest is data, baselines, tables, figures and reports.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisyseg.calibrated import calibrate as calibrate
    from noisyseg.calibrated import calibrated_labels as calibrated_labels
    from noisyseg.calibrated import calibrated_vote as calibrated_vote
    from noisyseg.config import SEEDS as SEEDS
    from noisyseg.config import ExperimentConfig as ExperimentConfig
    from noisyseg.data.dataset import load_dataset as load_dataset
    from noisyseg.data.folder import write_prepared as write_prepared
    from noisyseg.experiment import run as run
    from noisyseg.losses import disentangling_loss as disentangling_loss
    from noisyseg.methods import METHODS as METHODS
    from noisyseg.paper.plan import table_configs as table_configs
    from noisyseg.predict import predict_volume as predict_volume
    from noisyseg.sweeps import sweep as sweep

# Loaded on first use, so that a figure notebook which needs only tables imports no torch.
_HOMES = {
    "calibrate": "calibrated",
    "calibrated_labels": "calibrated",
    "calibrated_vote": "calibrated",
    "ExperimentConfig": "config",
    "SEEDS": "config",
    "METHODS": "methods",
    "load_dataset": "data.dataset",
    "write_prepared": "data.folder",
    "disentangling_loss": "losses",
    "predict_volume": "predict",
    "run": "experiment",
    "sweep": "sweeps",
    "table_configs": "paper.plan",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"noisyseg has no {name!r}; it has {', '.join(_HOMES)}")
    value = getattr(import_module(f"noisyseg.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
