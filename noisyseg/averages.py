"""Networks alone and averaged: how much of a score is what was learned, how much the averaging?

A method that averages networks (`separate`) is set beside networks of another method, averaged
over their seeds: a deep ensemble (arXiv 1612.01474).
"""

from collections.abc import Iterable

import pandas as pd
import torch
from torch import Tensor, nn

from noisyseg import metrics, models, recipes, tables
from noisyseg.data import SegmentationDataset, load_dataset
from noisyseg.results import Run

COLUMNS = "labelling method averaged_over network dice dice_present left_empty".split()


def alone_and_averaged(runs: Iterable[Run]) -> pd.DataFrame:
    """Dice on the test images of each network and of the mean of their probabilities.

    One row a network: labelling, method, averaged_over, network, then (0…1), for the class that
    the paper reports, the Dice over all images (one without the class scores 1 when left empty,
    else 0), the Dice over those that hold it, and the share of the others that is left empty.

    A run of `separate` averages over its annotators; the other methods average over their seeds,
    where they have several. Raises ValueError for a run that trained nothing, and for runs of
    several data sets.
    """
    runs = list(runs)
    if len(names := {run.config.dataset for run in runs}) != 1:
        raise ValueError(f"give runs of one data set, not of {sorted(names)}")
    groups: dict[tuple[str, str, str], dict[str, nn.Module]] = {}
    for run in runs:
        cfg, model = run.config, run.model()
        if isinstance(model, models.SeparateModel):
            members = zip(run.provenance["shape"]["annotators"], model.members, strict=True)
            groups[cfg.labelling, cfg.method, f"annotators, seed {cfg.seed}"] = dict(members)
        else:
            groups.setdefault((cfg.labelling, cfg.method, "seeds"), {})[f"seed {cfg.seed}"] = model
    test = recipes.load_splits(cfg, load_dataset(cfg.dataset)).test
    rows = []
    for group, networks in groups.items():
        probs = {name: _probs(network, test) for name, network in networks.items()}
        if len(probs) > 1:
            probs[f"average of {len(probs)}"] = torch.stack([*probs.values()]).mean(0)
        rows += [(*group, name, *_scores(p, test)) for name, p in probs.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


@torch.no_grad()
def _probs(network: nn.Module, test: SegmentationDataset) -> Tensor:
    batches = torch.from_numpy(test.read_images()).split(32)  # memory
    return torch.cat([network.eval()(image).logits.softmax(1) for image in batches])


def _scores(probs: Tensor, test: SegmentationDataset) -> tuple[float, ...]:
    truth, target = torch.from_numpy(test.read_truth()), tables.TARGET.get(test.name)
    chosen = [test.classes.index(target)] if target else list(range(1, test.n_classes))
    dice = metrics.dice(probs.argmax(1), truth, test.n_classes)[:, chosen].mean(1)
    present = torch.isin(truth, torch.tensor(chosen)).flatten(1).any(1)
    return tuple(float(part.mean()) for part in (dice, dice[present], dice[~present]))
