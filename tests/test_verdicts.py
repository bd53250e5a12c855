"""Verdicts: intervals against SciPy, signs, and too few seeds."""

import pandas as pd
import pytest

from noisyseg import verdicts
from noisyseg.tables import TARGET


def table(better, worse, metric="dice"):
    rows = [
        {"seed": seed, "method": name, "value": value}
        for name, values in (("trace", better), ("mode", worse))
        for seed, value in enumerate(values)
    ]
    fixed = dict(labelling="dense", metric=metric, annotator="all", origin="real", profile="full",
                 dataset="mnist")  # fmt: skip
    return pd.DataFrame(rows).assign(**fixed, **{"class": "all"})


def claim(metric="dice"):
    return verdicts.Claim("a beats b", "dense", metric, "trace", "mode", "because", "although")


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

    claims = verdicts.MNIST_CLAIMS + verdicts.BRATS_CLAIMS
    assert all({c.better, c.worse} <= METHODS.keys() for c in claims)


@pytest.mark.parametrize("origin", ["stand-in", "simulated"])
def test_what_is_not_real_tests_no_claim_but_shows_the_difference(origin):
    data = table([0.9, 0.91, 0.92], [0.5, 0.52, 0.51]).assign(origin=origin, dataset="lidc")
    row = verdicts.judge(data, claim())
    assert row["verdict"] == "not testable here" and row["ours"].startswith("+40.0")
    assert "holds" in row["reason"] and row["data"].startswith(f"lidc ({origin})")


def test_printed_values_are_those_of_the_data_set():
    data = table([0.9, 0.91], [0.5, 0.52])
    by_name = {
        name: verdicts.judge(
            data.assign(dataset=name, **{"class": TARGET.get(name, "all")}), claim()
        )["paper"]
        for name in ("mnist", "ms", "brats", "lidc")
    }
    assert by_name == {
        "mnist": "+20.0 Dice points", "ms": "+19.7 Dice points", "brats": "+19.3 Dice points",
        "lidc": "+15.5 Dice points",
    }  # fmt: skip


def test_medical_claims_are_judged_as_far_as_their_rows_are_there():
    data = table([0.9, 0.91], [0.5, 0.52]).assign(dataset="ms", origin="stand-in")
    rows = verdicts.medical_verdicts(data)
    assert rows.claim.tolist() == ["the method beats a network on majority labels"]


def test_low_rank_is_a_claim_on_brats_alone_with_its_printed_difference():
    data = table([0.9, 0.91], [0.5, 0.52]).replace({"method": {"mode": "trace_low_rank"}})
    data = data.assign(origin="stand-in")
    brats = data.assign(dataset="brats", **{"class": TARGET["brats"]})
    (row,) = verdicts.medical_verdicts(brats).to_dict("records")
    assert row["paper"] == "+2.9 Dice points" and "left empty" in row["reason"]  # Table 6
    assert verdicts.medical_verdicts(data.assign(dataset="ms")).empty


def study(values, **fixed):
    """Rows of Dice by seed: {(name of a column, its value, …): values}."""
    rows = [
        {"seed": seed, "value": value, **dict(zip(key[::2], key[1::2], strict=True))}
        for key, line in values.items()
        for seed, value in enumerate(line)
    ]
    common = dict(metric="dice", annotator="all", origin="real", profile="full", experiment="e")
    return pd.DataFrame(rows).assign(**(common | fixed), **{"class": "all"})


def by_weight(low, high):
    fixed = dict(labelling="dense", annotator_set="five", start="near identity", method="trace")
    values = {("trace_weight", 0.1): low, ("trace_weight", 0.7): high}
    return study(values, warm_up="maximise 1", **fixed)


def test_a_weight_that_matters_is_not_the_same():
    same = by_weight([0.9, 0.901, 0.9], [0.901, 0.9, 0.9])
    other = by_weight([0.9, 0.91, 0.9], [0.1, 0.12, 0.1])
    assert verdicts.weight_verdicts(same)[0]["verdict"] == "reproduced"
    assert verdicts.weight_verdicts(other)[0]["verdict"] == "not reproduced"


def test_losing_less_to_noise_is_a_difference_of_differences():
    def degree(trace_far, mode_far):
        values = {
            ("method", "trace", "noise_degree", 0.5): [0.9, 0.9, 0.91],
            ("method", "mode", "noise_degree", 0.5): [0.8, 0.81, 0.8],
            ("method", "trace", "noise_degree", 2.0): trace_far,
            ("method", "mode", "noise_degree", 2.0): mode_far,
        }
        return study(values, annotator_set="five")

    counts = study(
        {
            ("method", m, "labelling", k): [v, v + 0.01, v]
            for m, k, v in (
                ("trace", "one", 0.8), ("mode", "one", 0.5),
                ("trace", "dense", 0.9), ("mode", "dense", 0.8),
            )
        },
        n_annotators=5,
    )  # fmt: skip
    best, few = verdicts.noise_verdicts(degree([0.88, 0.88, 0.89], [0.5, 0.52, 0.5]), counts)
    assert (best["verdict"], few["verdict"]) == ("reproduced", "reproduced")
    assert few["ours"].startswith("+20.0")
    worst, _ = verdicts.noise_verdicts(degree([0.5, 0.52, 0.5], [0.78, 0.79, 0.78]), counts)
    assert worst["verdict"] == "not reproduced"
