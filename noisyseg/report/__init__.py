"""A page on your annotators: skill, bias, how wide they draw, labels to look at again."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisyseg.report.make import build as build
    from noisyseg.report.make import own_config as own_config
    from noisyseg.report.make import prepared_folder as prepared_folder
    from noisyseg.report.make import report_page as report_page
    from noisyseg.report.make import write_predictions as write_predictions

STEPS = 800  # of the optimiser; some five minutes for small pictures on one core
# Loaded on first use: `--help` of the command takes no torch.
__all__ = ["build", "own_config", "prepared_folder", "report_page", "write_predictions"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"noisyseg.report has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module("noisyseg.report.make"), name)
