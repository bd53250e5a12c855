"""Networks alone and averaged: how much of a score is what was learned, how much the averaging?

A method that averages networks (`separate`) is set beside networks of another method, averaged
over their seeds: a deep ensemble (arXiv 1612.01474).
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from noisyseg import metrics, models, recipes, tables
from noisyseg.config import ExperimentConfig
from noisyseg.data import SegmentationDataset, load_dataset
from noisyseg.results import Run

BATCH = 32


def alone_and_averaged(runs: Iterable[Run]) -> pd.DataFrame:
    """Dice on the test images of each network and of the mean of their probabilities.

    One row a network: labelling, method, averaged_over, network, dice (0…1, of the class that the
    paper reports). A run of `separate` averages over its annotators; the other methods average
    over their seeds, where they have several. Raises ValueError for a run that trained nothing,
    and for runs of several data sets.
    """
    runs = list(runs)
    if len(names := {run.config.dataset for run in runs}) != 1:
        raise ValueError(
            f"runs of {', '.join(sorted(names)) or 'nothing'}: give those of one data set"
        )
    rows: list[dict[str, object]] = []
    groups: dict[tuple[str, str, str], dict[str, nn.Module]] = {}
    for run in runs:
        cfg, model = run.config, run.model()
        if isinstance(model, models.SeparateModel):
            members = zip(run.provenance["shape"]["annotators"], model.members, strict=True)
            groups[cfg.labelling, cfg.method, f"annotators, seed {cfg.seed}"] = dict(members)
        else:
            groups.setdefault((cfg.labelling, cfg.method, "seeds"), {})[f"seed {cfg.seed}"] = model
    test = recipes.load_splits(cfg, load_dataset(cfg.dataset)).test
    for (labelling, method, over), networks in groups.items():
        where = {"labelling": labelling, "method": method, "averaged_over": over}
        probs = {name: _probs(network, test) for name, network in networks.items()}
        if len(probs) > 1:
            probs[f"average of {len(probs)}"] = torch.stack([*probs.values()]).mean(0)
        rows += [where | {"network": n, "dice": _dice(p, cfg, test)} for n, p in probs.items()]
    return pd.DataFrame(rows)


@torch.no_grad()
def _probs(network: nn.Module, test: SegmentationDataset) -> Tensor:
    batches = torch.from_numpy(test.read_images()).split(BATCH)
    return torch.cat([network.eval()(image).logits.softmax(1) for image in batches])


def _dice(probs: Tensor, cfg: ExperimentConfig, test: SegmentationDataset) -> float:
    truth, names = torch.from_numpy(test.read_truth()), list(test.classes)
    by_class = metrics.dice(probs.argmax(1), truth, len(names)).mean(0)
    target = tables.TARGET.get(Path(cfg.dataset).name)
    return float(by_class[names.index(target)] if target else by_class[1:].mean())
