"""Verdicts: each claim of the paper against our exported tables, with an interval.

A claim is a difference between two rows of a table. It counts as reproduced when the 95 %
interval of the paired difference over seeds lies on the claimed side of zero. Knows
tables only.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from noisyseg import results
from noisyseg.paths import figures_root

COLUMNS = ["claim", "paper", "ours", "interval", "data", "verdict", "reason"]


class Claim(NamedTuple):
    """`better` beats `worse` in `metric`; `reason` explains the outcome to the reader."""

    claim: str
    labelling: str
    metric: str
    better: str
    worse: str
    reason: str


SWAP = (
    "at the paper's trace weight the loss prefers the label swap: the trace row collapses "
    "unless something keeps the matrices dominant"
)
STRONG_VOTE = (
    "the majority of these five annotators is close to the truth (paper.md section 8.5), so "
    "honest majority baselines come out far stronger than printed"
)
MNIST_CLAIMS = [
    Claim("the method beats a network on mean labels", "dense", "dice", "trace", "mean", SWAP),
    Claim("the method beats a network on majority labels", "dense", "dice", "trace", "mode", SWAP),
    Claim("the method beats separate networks", "dense", "dice", "trace", "separate", SWAP),
    Claim("the method beats STAPLE", "dense", "dice", "trace", "staple_fusion", SWAP),
    Claim("the method beats Spatial STAPLE", "dense", "dice", "trace", "spatial_staple_fusion", SWAP),
    Claim("the trace improves the segmentation", "dense", "dice", "trace", "no_trace", SWAP),
    Claim("the trace improves the matrices", "dense", "cm_rmse", "trace", "no_trace", SWAP),
    Claim("matrices better than STAPLE's", "dense", "cm_rmse", "trace", "staple_fusion", SWAP),
    Claim(
        "without trace still better than Spatial STAPLE", "dense", "dice", "no_trace",
        "spatial_staple_fusion", "near-identity start and the likelihood alone",
    ),
    Claim(
        "majority labels are better than mean labels", "dense", "dice", "mode", "mean",
        "thresholding a soft target at one half is nearly the vote, so the gap is small: "
        + STRONG_VOTE,
    ),
    Claim(
        "Spatial STAPLE is better than STAPLE", "dense", "dice", "spatial_staple_fusion",
        "staple_fusion", "digits are small: a window sees most of the image",
    ),
    Claim("one label: the method beats a naive network", "one", "dice", "trace", "mode", SWAP),
    Claim("one label: the method beats STAPLE", "one", "dice", "trace", "staple_fusion", SWAP),
    Claim("one label: the trace improves the segmentation", "one", "dice", "trace", "no_trace", SWAP),
    Claim("one label: the trace improves the matrices", "one", "cm_rmse", "trace", "no_trace", SWAP),
    Claim("one label: matrices better than STAPLE's", "one", "cm_rmse", "trace", "staple_fusion", SWAP),
]  # fmt: skip
NOT_TESTABLE = [
    (
        "lower energy distance than the Probabilistic U-Net",
        "1.24 against 1.46 (Table 3)",
        "the Probabilistic U-Net row is not built yet, and the printed values belong to a sum of "
        "similarities, not to the distance (paper.md section 5)",
    ),
]


def paired(data: pd.DataFrame, claim: Claim) -> np.ndarray:
    """Seed-wise differences better − worse (negated for errors, so that > 0 is the claim)."""
    rows = results.select(data[data.labelling == claim.labelling], claim.metric)
    wide = rows.pivot_table(index="seed", columns="method", values="value")
    difference = (wide[claim.better] - wide[claim.worse]).dropna().to_numpy()
    return -difference if claim.metric == "cm_rmse" else difference


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % t interval of the mean; the whole line with fewer than two seeds."""
    if len(differences) < 2:
        return -np.inf, np.inf
    half = stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1)
    return differences.mean() - half, differences.mean() + half


def judge(data: pd.DataFrame, claim: Claim) -> dict[str, str]:
    """One row of verdicts.csv."""
    low, high = interval(differences := paired(data, claim))
    scale, unit = (100, " Dice points") if claim.metric == "dice" else (1, " lower CM error")
    digits = 1 if claim.metric == "dice" else 4
    verdict = "reproduced" if low > 0 else "not reproduced"
    first = data.iloc[0]
    return dict(zip(COLUMNS, (
        claim.claim,
        _printed_difference(claim, scale, digits) + unit,
        f"{scale * differences.mean():+.{digits}f}{unit}",
        f"[{scale * low:+.{digits}f}, {scale * high:+.{digits}f}]",
        f"mnist ({first.origin}), {first.profile}, {len(differences)} seeds, {claim.labelling}",
        verdict,
        claim.reason,
    ), strict=True))  # fmt: skip


def _printed_difference(claim: Claim, scale: float, digits: int) -> str:
    paper = results.printed()
    table = 1 if claim.labelling == "dense" else 2
    rows = paper[(paper.table == table) & (paper.dataset == "mnist") & (paper.metric == claim.metric)]
    values = rows.set_index("method").value
    if not {claim.better, claim.worse} <= set(values.index):
        return "not printed,"
    difference = values[claim.better] - values[claim.worse]
    return f"{scale * (-difference if claim.metric == 'cm_rmse' else difference):+.{digits}f}"


def mnist_verdicts(data: pd.DataFrame) -> pd.DataFrame:
    """Every claim of the paper on MNIST: judged from `data`, or said to be not testable."""
    rows = [judge(data, claim) for claim in MNIST_CLAIMS]
    for claim, paper, reason in NOT_TESTABLE:
        rows.append(dict(zip(COLUMNS, (claim, paper, "", "", "", "not testable here", reason), strict=True)))
    return pd.DataFrame(rows, columns=COLUMNS)


def write(table: pd.DataFrame, profile: str) -> None:
    """`figures/verdicts.csv`, or `verdicts.smoke.csv` for a smoke table."""
    name = "verdicts.smoke.csv" if profile == "smoke" else "verdicts.csv"
    results.write_csv(figures_root() / name, table)
