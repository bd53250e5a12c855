"""Verdicts: intervals against SciPy, signs, and too few seeds."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from noisyseg import verdicts


def table(better, worse, metric="dice"):
    rows = [
        {"seed": seed, "method": name, "value": value}
        for name, values in (("trace", better), ("mode", worse))
        for seed, value in enumerate(values)
    ]
    fixed = dict(labelling="dense", metric=metric, annotator="all", origin="real", profile="full")
    return pd.DataFrame(rows).assign(**fixed, **{"class": "all"})


def claim(metric="dice"):
    return verdicts.Claim("a beats b", "dense", metric, "trace", "mode", "because", "although")


def test_the_interval_is_scipys():
    differences = np.array([0.1, 0.2, 0.4, 0.15])
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert verdicts.interval(differences) == pytest.approx((expected.low, expected.high))


def test_a_clear_difference_is_reproduced_and_its_opposite_is_not():
    high, low = [0.9, 0.91, 0.92], [0.5, 0.52, 0.51]
    good, bad = (verdicts.judge(table(a, b), claim()) for a, b in ((high, low), (low, high)))
    assert (good["verdict"], good["reason"]) == ("reproduced", "because")
    assert (bad["verdict"], bad["reason"]) == ("not reproduced", "although")
    assert good["ours"].startswith("+40.0") and bad["ours"].startswith("-40.0")


def test_a_difference_within_the_noise_is_not_reproduced():
    row = verdicts.judge(table([0.9, 0.5, 0.7], [0.6, 0.7, 0.7]), claim())
    assert row["verdict"] == "not reproduced"


def test_a_lower_error_counts_as_better():
    low, high = [0.01, 0.02, 0.015], [0.2, 0.21, 0.22]
    row = verdicts.judge(table(low, high, "cm_rmse"), claim("cm_rmse"))
    assert row["verdict"] == "reproduced"


def test_one_seed_reproduces_nothing():
    row = verdicts.judge(table([0.9], [0.1]), claim())
    assert row["verdict"] == "not reproduced" and "inf" in row["interval"]


def test_differences_are_paired_by_seed():
    data = table([0.5, 0.9], [0.4, 0.8])
    shuffled = data.iloc[[2, 1, 3, 0]]
    assert verdicts.paired(shuffled, claim()) == pytest.approx([0.1, 0.1])


def test_every_claim_names_rows_that_exist():
    from noisyseg.methods import METHODS

    assert all({c.better, c.worse} <= METHODS.keys() for c in verdicts.MNIST_CLAIMS)


def by_weight(values):
    rows = [
        {"seed": seed, "trace_weight": weight, "value": value}
        for weight, line in values.items()
        for seed, value in enumerate(line)
    ]
    fixed = dict(labelling="dense", metric="dice", annotator="all", origin="real", profile="full")
    return pd.DataFrame(rows).assign(**fixed, **{"class": "all"})


def test_a_weight_that_matters_is_not_the_same():
    same = by_weight({0.1: [0.9, 0.901, 0.9], 0.7: [0.901, 0.9, 0.9]})
    other = by_weight({0.1: [0.9, 0.91, 0.9], 0.7: [0.1, 0.12, 0.1]})
    assert verdicts.judge_weights(same)["verdict"] == "reproduced"
    assert verdicts.judge_weights(other)["verdict"] == "not reproduced"
