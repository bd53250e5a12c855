"""Do annotators agree more after calibration? For several values of `calibrated.NEAR`.

    python benchmarks/near.py [--out calibrated_near.csv]

NEAR says what share of a profile's peak is as good as the peak. Calibrates on training labels and
scores validation labels; no truth is read. Data sets that are not prepared are left out.
"""

import argparse
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd

from noisyseg import build, calibrated, load_dataset
from noisyseg.config import ExperimentConfig

DATASETS = ("mnist", "ms", "brats", "lidc", "people_crowd", "people_persons")
VALUES = (0.7, 0.8, 0.9, 1.0)
TRAIN, VALIDATION = 600, 300  # at most so many images


def agreement(labels, annotators):
    """Mean foreground Dice (%) over pairs of `annotators`; all images of a pair count as one."""
    pairs = []
    for r, s in combinations(annotators, 2):
        first, second = labels[:, r] > 0, labels[:, s] > 0
        pairs.append(2 * (first & second).sum() / (first.sum() + second.sum()))
    return 100 * float(np.mean(pairs))


def agreement_after(sums, labels, near) -> Mapping[str, float]:
    """Agreement on `labels` before and after calibration by `sums`, of those who have a say.

    `sums`: `calibrated.contrast_sums` of the training images. The same annotators count before
    and after, so that leaving one out is no gain.
    """
    with patch.object(calibrated, "NEAR", near):
        found = calibrated.from_sums(sums)
    who = np.flatnonzero(found.weight())
    new = calibrated.calibrated_labels(labels, found.shift())
    before, after = agreement(labels, who), agreement(new, who)
    return {"annotators": len(who), "before": round(before, 2), "after": round(after, 2)}


def measure(name):
    """The rows of one data set."""
    cfg = ExperimentConfig.preset(name, "reduced", "mode")
    splits = build.load_splits(cfg, load_dataset(name))
    images, labels = splits.train.read_images()[:TRAIN], splits.train.read_labels()[:TRAIN]
    n_classes, validation = splits.train.n_classes, splits.val.read_labels()[:VALIDATION]
    parts = (calibrated.contrast_sums(i, y, n_classes) for i, y in zip(images, labels, strict=True))
    sums = np.sum([*parts], axis=0)
    size = {"data": name, "images": len(validation)}
    return [size | {"near": v} | agreement_after(sums, validation, v) for v in VALUES]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the table here too, as CSV")
    out, rows = parser.parse_args().out, []
    for name in DATASETS:
        try:
            rows += measure(name)
        except FileNotFoundError:
            print(f"{name}: not prepared, left out")
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    if out:
        table.to_csv(out, index=False)


if __name__ == "__main__":
    main()
