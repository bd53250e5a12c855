"""Verdicts: claims read from the data file, intervals against SciPy, both readings."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from noisyseg.config import TARGET
from noisyseg.methods import METHODS
from noisyseg.paper import claims, verdicts
from noisyseg.paper.claims import BOTH, HELD, OURS, PRINTED, Claim
from noisyseg.paper.tables import interval

HIGH, LOW = [0.9, 0.91, 0.92], [0.5, 0.52, 0.51]


def claim(**changed):
    """The method beats majority labels in Dice, all annotators label."""
    values = dict.fromkeys(Claim.__dataclass_fields__, "")
    values |= {"id": "first", "claim": "a beats b", "reading": BOTH, "tables": "mnist"}
    values |= {"kind": "beats", "labelling": "dense", "metric": "dice"}
    values |= {"better": "trace", "worse": "mode"}
    values |= {"reason_if_reproduced": "Because.", "reason_if_not": "Although."}
    values |= {"reason_if_not_as_printed": "As printed, although."}
    return Claim(**values | changed)


def table(values, **fixed):
    """Rows by seed: `values` maps a method, or pairs of column and value, to numbers by seed."""
    rows = []
    for key, line in values.items():
        columns = {"method": key} if isinstance(key, str) else dict(key)
        rows += [columns | {"seed": seed, "value": value} for seed, value in enumerate(line)]
    common = {"labelling": "dense", "metric": "dice", "annotator": "all", "origin": "real"}
    common |= {"profile": "full", "dataset": "mnist", "experiment": "mnist", "digest": "0"}
    common |= {"class": TARGET.get(fixed.get("dataset"), "all")}
    own = {name for key in values if not isinstance(key, str) for name, _ in key}
    common = {name: value for name, value in (common | fixed).items() if name not in own}
    return pd.DataFrame(rows).assign(**common)


@pytest.fixture
def claims_file(tmp_path, monkeypatch, root):
    """Call it with claims to have them as `claims.csv`; the paper's values are the committed."""
    monkeypatch.setenv("NOISYSEG_FIGURES", str(tmp_path))
    (tmp_path / "printed.csv").write_text((root / "figures" / "printed.csv").read_text("utf-8"))

    def write(*rows):
        pd.DataFrame(list(rows)).to_csv(tmp_path / "claims.csv", index=False)

    return write


@pytest.fixture
def judged(claims_file):
    """Judge claims on one table: rows of verdicts.csv as dictionaries."""

    def judge(data, *rows):
        claims_file(*rows)
        return verdicts.judge_all({"mnist": data}).to_dict("records")

    return judge


def test_the_interval_is_scipys():
    values = np.array([0.1, 0.3, 0.25, 0.2])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((expected.low, expected.high))


def test_a_row_shows_the_interval_of_the_paired_differences(judged):
    (row,) = judged(table({"trace": HIGH, "mode": LOW}), claim())
    expected = stats.ttest_rel(HIGH, LOW).confidence_interval(0.95)
    assert row["interval"] == f"[{100 * expected.low:+.1f}, {100 * expected.high:+.1f}]"
    assert row["data"] == "mnist (real), full, 3 seeds, dense"
    assert list(row) == verdicts.COLUMNS


def test_a_clear_difference_is_reproduced_and_its_opposite_is_not(judged):
    (good,) = judged(table({"trace": HIGH, "mode": LOW}), claim())
    (bad,) = judged(table({"trace": LOW, "mode": HIGH}), claim())
    assert (good["verdict"], good["reason"]) == ("reproduced", "Because.")
    assert (bad["verdict"], bad["reason"]) == ("not reproduced", "Although.")
    assert good["ours"].startswith("+40.0") and bad["ours"].startswith("-40.0")


def test_a_difference_within_the_noise_is_not_reproduced(judged):
    (row,) = judged(table({"trace": [0.9, 0.5, 0.7], "mode": [0.6, 0.7, 0.7]}), claim())
    assert row["verdict"] == "not reproduced"


@pytest.mark.parametrize("metric", ["cm_rmse", "ged"])
def test_a_lower_error_counts_as_better(judged, metric):
    data = table({"trace": LOW, "mode": HIGH}, metric=metric)
    (row,) = judged(data, claim(metric=metric))
    assert row["verdict"] == "reproduced" and row["ours"].startswith("+0.4")


def test_one_seed_reproduces_nothing(judged):
    (row,) = judged(table({"trace": [0.9], "mode": [0.1]}), claim())
    assert row["verdict"] == "not reproduced" and "inf" in row["interval"]


def test_differences_are_paired_by_seed():
    data = table({"trace": [0.5, 0.9, 0.7], "mode": [0.4, 0.8]})
    outcome = claims.beats(data.sample(frac=1, random_state=0), claim())
    assert outcome.differences == pytest.approx([10, 10]) and outcome.holds


def test_claims_without_rows_or_common_seeds_are_left_out_and_listed(judged):
    data = table({"trace": HIGH, "mode": LOW}).query("method == 'trace' or seed == 9")
    assert judged(data, claim(), claim(id="second", tables="lidc", reading=PRINTED)) == []
    missing = verdicts.left_out({"mnist": data})
    assert missing[0] == f"first, {HELD} (mnist)" and missing[-1] == f"second, {PRINTED} (lidc)"


def test_readings_that_agree_are_one_row_judged_on_trace(judged):
    data = table({"trace": HIGH, "trace_printed": [0.6, 0.61, 0.62], "mode": LOW})
    (row,) = judged(data, claim())
    assert row["reading"] == BOTH and row["ours"].startswith("+40.0")


def test_readings_that_differ_stand_side_by_side(judged):
    higher = [0.95, 0.96, 0.99]
    held, printed = judged(table({"trace": higher, "trace_printed": LOW, "mode": HIGH}), claim())
    assert (held["reading"], held["verdict"]) == (HELD, "reproduced")
    assert (printed["reading"], printed["verdict"]) == (PRINTED, "not reproduced")
    assert printed["reason"] == "As printed, although."
    assert held["paper"] == printed["paper"] == "+20.0 Dice points"


def test_a_claim_written_once_for_each_reading_is_set_side_by_side_too(judged):
    printed = claim(reading=PRINTED, better="trace_printed")
    data = table({"trace": HIGH, "trace_printed": LOW, "mode": [0.7, 0.7, 0.7]})
    rows = judged(data, printed, claim(reading=HELD))
    assert [row["reading"] for row in rows] == [HELD, PRINTED]
    (row,) = judged(data.assign(value=data.value.where(data.method == "mode", 0.9)), printed)
    assert row["reading"] == PRINTED


def test_a_claim_of_other_rows_holds_in_both_readings(judged):
    (row,) = judged(table({"mean": LOW, "mode": HIGH}), claim(better="mode", worse="mean"))
    assert (row["reading"], row["verdict"]) == (BOTH, "reproduced")


def test_our_own_claims_say_so(judged):
    data = table({"calibrated": HIGH, "mode": LOW})
    (row,) = judged(data, claim(better="calibrated", reading=OURS, paper="none"))
    assert (row["reading"], row["verdict"], row["paper"]) == (OURS, "reproduced", "none")


@pytest.mark.parametrize(
    ("origin", "place"), [("stand-in", "this stand-in"), ("simulated", "simulated data")]
)
def test_what_is_not_real_gets_one_row_that_counts(judged, origin, place):
    values = {"trace": HIGH, "trace_printed": LOW, "mode": [0.7, 0.7, 0.71], "mean": LOW}
    data = table(values, origin=origin, dataset="brats", experiment="brats")
    others = claim(id="second", claim="c beats d", better="mode", worse="mean")
    (row,) = judged(data, claim(), others, claim(id="third", worse="staple"))
    assert (row["verdict"], row["reading"]) == ("not testable here", BOTH)
    assert f"held, 2 of 2 hold on {place}: a beats b; c beats d." in row["reason"]
    assert f"As printed, 1 of 2 hold on {place}: c beats d." in row["reason"]
    assert "left empty" in row["reason"] and row["data"] == f"brats ({origin}), full, 3 seeds"


def test_a_stand_in_without_the_printed_row_counts_one_reading(judged):
    data = table({"trace": LOW, "mode": HIGH}, origin="stand-in", dataset="ms")
    (row,) = judged(data, claim())
    assert row["reading"] == HELD and "0 of 1 hold on this stand-in." in row["reason"]


def test_printed_values_are_those_of_the_data_set(judged):
    names = ("mnist", "ms", "brats", "lidc")
    parts = [table({"trace": HIGH, "mode": LOW}, dataset=name) for name in names]
    rows = judged(pd.concat(parts), claim())
    assert [row["paper"] for row in rows] == [
        "+20.0 Dice points",
        "+19.7 Dice points",
        "+19.3 Dice points",
        "+15.5 Dice points",
    ]


def test_what_the_paper_does_not_print_says_so(judged):
    (row,) = judged(table({"trace": HIGH, "released": LOW}), claim(worse="released"))
    assert row["paper"] == "not printed"
    (row,) = judged(table({"trace": HIGH, "released": LOW}), claim(worse="released", paper="+1"))
    assert row["paper"] == "+1"


def weights(low, high, **fixed):
    """Dice at trace weight 0.1 and 0.7 after two warm-ups; the second is not asked for."""
    values = {
        (("trace_weight", weight), ("warm_up", warm_up)): line
        for weight, line in ((0.1, low), (0.7, high))
        for warm_up in ("fixed 0.5", "none")
    }
    return table(values, method="trace", experiment="ablation_trace", **fixed)


SAME = claim(
    kind="same",
    reading=HELD,
    worse="trace",
    settings="warm_up = fixed 0.5",
    settings_better="trace_weight = 0.7",
    settings_worse="trace_weight = 0.1",
)


def test_a_weight_that_matters_is_not_the_same(judged):
    (same,) = judged(weights([0.9, 0.901, 0.9], [0.901, 0.9, 0.9]), SAME)
    (other,) = judged(weights([0.9, 0.91, 0.9], [0.1, 0.12, 0.1]), SAME)
    assert (same["verdict"], other["verdict"]) == ("reproduced", "not reproduced")
    assert same["data"].endswith("dense, ablation_trace")


def test_settings_that_leave_several_rows_a_seed_name_what_varies(judged):
    with pytest.raises(ValueError, match="'first'.*several values a seed.*warm_up"):
        judged(weights(HIGH, LOW), claim(**vars(SAME) | {"settings": ""}))


def test_losing_less_is_a_difference_of_differences(judged):
    more = claim(
        kind="gains_more",
        reading=HELD,
        settings_better="noise_degree = 2",
        settings_worse="noise_degree = 0.5",
    )

    def degrees(far, mode_far):
        values = {("trace", 0.5): HIGH, ("mode", 0.5): [0.8, 0.82, 0.81]}
        values |= {("trace", 2.0): far, ("mode", 2.0): mode_far}
        return table({(("method", m), ("noise_degree", d)): v for (m, d), v in values.items()})

    (best,) = judged(degrees([0.88, 0.89, 0.9], LOW), more)
    (worst,) = judged(degrees(LOW, [0.78, 0.8, 0.77]), more)
    assert (best["verdict"], worst["verdict"]) == ("reproduced", "not reproduced")
    assert best["ours"].startswith("+28.0")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "beets"),
        ("better", "trase"),
        ("worse", "dominent"),
        ("metric", "dise"),
        ("reading", "literal"),
        ("settings", "trace_weight 0.7"),
        ("settings", "weight = 0.7"),
        ("settings", "seed = first"),
    ],
)
def test_an_unknown_value_names_file_row_and_value(judged, column, value):
    wrong = value.split(" = ")[-1] if value.startswith("seed") else value.split(" = ")[0]
    with pytest.raises(ValueError, match=f"claims.csv, row 'first', {column}: '{wrong}'"):
        judged(table({"trace": HIGH, "mode": LOW}), claim(**{column: value}))


def test_a_missing_column_and_a_repeated_claim_are_refused(claims_file, tmp_path):
    claims_file(claim(), claim(reading=HELD))
    with pytest.raises(ValueError, match="claims.csv, row 'first', id"):
        claims.read()
    rows = pd.read_csv(tmp_path / "claims.csv").drop(columns="kind")
    rows.to_csv(tmp_path / "claims.csv", index=False)
    with pytest.raises(ValueError, match="claims.csv: the columns are"):
        claims.read()


def test_the_committed_claims_name_methods_that_exist_and_give_both_reasons():
    found = claims.read()
    known = METHODS.keys() | {"trace_printed", "calibrated"}
    assert found and all({c.better, c.worse} <= known for c in found)
    assert all(c.reason_if_reproduced.endswith(".") for c in found)
    assert all(c.reason_if_not.endswith(".") for c in found)


def test_every_committed_claim_can_be_read_from_the_committed_tables():
    table = verdicts.judge_all(verdicts.sources())
    assert list(table) == verdicts.COLUMNS and len(table)
    assert not table.isna().any(axis=None)
    assert table[table.verdict == "not testable here"].data.is_unique


def test_effects_are_the_outcomes_in_points_with_the_printed_difference(claims_file):
    matrices = claim(id="matrices", metric="cm_rmse", reading=HELD, worse="no_trace")
    claims_file(claim(reading=HELD), matrices, claim(id="said", reading=HELD, paper="in words"))
    errors = table({"trace": [0.1, 0.1], "no_trace": [0.2, 0.3]}, metric="cm_rmse")
    errors["class"] = "all"
    data = pd.concat([table({"trace": HIGH, "mode": LOW}), errors])
    found = verdicts.effects({"mnist": data}).set_index("id")
    expected = stats.ttest_rel(HIGH, LOW).confidence_interval(0.95)
    first = found.loc["first"]
    assert (first.low, first.high) == pytest.approx((100 * expected.low, 100 * expected.high))
    assert first["mean"] == pytest.approx(100 * np.mean(np.subtract(HIGH, LOW)))
    assert (
        first.printed == pytest.approx(82.9 - 62.9, abs=0.05) and first.holds and first.seeds == 3
    )
    assert found.loc["matrices", "mean"] == pytest.approx(15), "less error is ahead, × 100"
    assert np.isnan(found.loc["said", "printed"])


def test_sentences_count_what_holds_and_leave_out_what_has_no_rows(claims_file):
    ours = claim(id="ours_majority", reading=OURS, better="calibrated")
    claims_file(claim(), ours)
    data = table({"trace": HIGH, "trace_printed": [0.0, 0.0, 0.0], "mode": LOW})
    said = verdicts.in_sentences(verdicts.effects({"mnist": data}))
    assert said == [
        "On real digits 1 of 1 claims of the paper hold when the assumption of Theorem 1 is "
        "held, and 0 of 1 with Eq. 4 as printed."
    ]
    one_seed = table({"calibrated": [0.9], "mode": [0.8]})
    (_, about_ours) = verdicts.in_sentences(verdicts.effects({"mnist": one_seed}))
    assert "differs from majority labels by +10.0 points (one seed)" in about_ours
