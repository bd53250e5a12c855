"""Claims: the rows of `figures/claims.csv`, and what the differences of each kind are.

A claim compares two rows of an exported table, seed by seed. Claims and the reasons beside
their verdicts are added, changed and removed in the file (its columns: `Claim`); only a new
kind of comparison needs a function here. Knows tables only.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from noisyseg.methods import METHODS
from noisyseg.paper import tables
from noisyseg.storage import figures_root

FILE = "claims.csv"
# The paper's method, and the row that stands for it where Eq. 4 is taken as printed.
METHOD, PRINTED_METHOD = "trace", "trace_printed"
KNOWN_METHODS = METHODS.keys()
HELD, PRINTED, BOTH, OURS = "theorem's assumption held", "as printed", "both", "ours"
READINGS = (HELD, PRINTED, BOTH, OURS)
SAME_WITHIN = 1.0  # Dice points


@dataclass(frozen=True)
class Claim:
    """One row of `claims.csv`; every column is text.

    - `id`: a short name. A claim written once for each reading has the same one twice.
    - `claim`: what the reader sees.
    - `reading`: one of `READINGS`; "both" also judges a claim on `trace` on `trace_printed`.
    - `tables`: the exported tables it is judged from, with spaces between.
    - `kind`: one of `KINDS`.
    - `labelling`: of the rows; empty where the settings name it.
    - `metric`: one of `UNITS`.
    - `better`, `worse`: methods.
    - `settings`: values of columns of the table, "trace_weight = 0.7; start = default".
    - `settings_better`, `settings_worse`: more of them for one side of the comparison.
    - `paper`: what the paper says; empty for the difference in `printed.csv`.
    - `reason_if_reproduced`, `reason_if_not`: the sentence beside either verdict.
    - `reason_if_not_as_printed`: the second one for `trace_printed`, where it differs.
    """

    id: str
    claim: str
    reading: str
    tables: str
    kind: str
    labelling: str
    metric: str
    better: str
    worse: str
    settings: str
    settings_better: str
    settings_worse: str
    paper: str
    reason_if_reproduced: str
    reason_if_not: str
    reason_if_not_as_printed: str


class Unit(NamedTuple):
    """How a metric is shown, and its sign: −1 where less is better."""

    name: str
    scale: float
    digits: int
    sign: int


class Outcome(NamedTuple):
    """Differences by seed in the metric's unit, and whether they are what was claimed."""

    claim: Claim
    differences: np.ndarray
    holds: bool


UNITS = {
    "dice": Unit("Dice points", 100, 1, 1),
    "cm_rmse": Unit("CM error", 1, 4, -1),
    "ged": Unit("distance", 1, 3, -1),
}


def beats(data: pd.DataFrame, claim: Claim) -> Outcome:
    """`better` is better than `worse`."""
    better = _scores(data, claim, claim.better, claim.settings_better)
    return _above_zero(claim, better - _scores(data, claim, claim.worse, claim.settings_worse))


def same(data: pd.DataFrame, claim: Claim) -> Outcome:
    """The interval of the difference lies within one Dice point of zero."""
    differences = beats(data, claim).differences
    low, high = tables.interval(differences)
    return Outcome(claim, differences, bool(-SAME_WITHIN < low and high < SAME_WITHIN))


def gains_more(data: pd.DataFrame, claim: Claim) -> Outcome:
    """`better` is further ahead of `worse` with `settings_better` than with `settings_worse`."""

    def lead(settings: str) -> pd.Series:
        ahead = _scores(data, claim, claim.better, settings)
        return ahead - _scores(data, claim, claim.worse, settings)

    return _above_zero(claim, lead(claim.settings_better) - lead(claim.settings_worse))


KINDS: dict[str, Callable[[pd.DataFrame, Claim], Outcome]] = {
    "beats": beats,
    "same": same,
    "gains_more": gains_more,
}


def outcome(data: pd.DataFrame, claim: Claim) -> Outcome:
    """What the rows of one data set say; without differences where no seed has both rows."""
    return KINDS[claim.kind](data, claim)


def _above_zero(claim: Claim, differences: pd.Series) -> Outcome:
    values = differences.dropna().to_numpy()
    return Outcome(claim, values, bool(tables.interval(values)[0] > 0))


def _scores(data: pd.DataFrame, claim: Claim, method: str, settings: str) -> pd.Series:
    """The metric of one method by seed, in its unit, and more is better; maybe empty."""
    rows = tables.reported(data, claim.metric)
    rows = rows[rows.method == method]
    if claim.labelling:
        rows = rows[rows.labelling == claim.labelling]
    for column, value in (_parsed(claim, claim.settings) | _parsed(claim, settings)).items():
        if column not in rows:
            raise _wrong(claim, "settings", column, _one_of(data.columns))
        rows = rows[_equals(claim, rows[column], value)]
    _check_one_a_seed(claim, rows)
    unit = UNITS[claim.metric]
    return unit.sign * unit.scale * rows.set_index("seed").value


def _check_one_a_seed(claim: Claim, rows: pd.DataFrame) -> None:
    if rows.seed.is_unique:
        return
    columns = rows.columns.difference(["seed", "value", "digest"], sort=False)
    varied = [column for column in columns if rows[column].nunique(dropna=False) > 1]
    raise ValueError(
        f"{FILE}, row {claim.id!r}: {rows.method.iloc[0]!r} has several values a seed; "
        f"settings should also name {' or '.join(varied)}"
    )


def _parsed(claim: Claim, settings: str) -> dict[str, str]:
    """Turn "a = 1; b = c" into {"a": "1", "b": "c"}."""
    pairs = {}
    for part in filter(None, settings.split(";")):
        column, equals, value = part.partition("=")
        if not equals:
            raise _wrong(claim, "settings", part.strip(), "column = value; column = value")
        pairs[column.strip()] = value.strip()
    return pairs


def _equals(claim: Claim, column: pd.Series, value: str) -> pd.Series:
    if is_bool_dtype(column) or not is_numeric_dtype(column):
        return column.astype(str) == value
    try:
        return column == float(value)
    except ValueError:
        raise _wrong(claim, "settings", value, f"a number for {column.name}") from None


def read() -> list[Claim]:
    """The rows of `figures/claims.csv`.

    Raises ValueError naming the file, the row and the value that means nothing here.
    """
    path = figures_root() / FILE
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    columns = [field.name for field in fields(Claim)]
    if list(rows) != columns:
        raise ValueError(f"{path}: the columns are {list(rows)}, expected {columns}")
    found = [Claim(**row) for row in rows.to_dict("records")]
    for claim in found:
        _check(claim)
    _check_ids(found)
    return found


def readings(claim: Claim) -> list[Claim]:
    """A claim on `trace` in both readings; every other claim as it is."""
    if claim.reading != BOTH or METHOD not in (claim.better, claim.worse):
        return [claim]
    swapped = {METHOD: PRINTED_METHOD}
    better = swapped.get(claim.better, claim.better)
    worse = swapped.get(claim.worse, claim.worse)
    printed = replace(claim, reading=PRINTED, better=better, worse=worse)
    return [replace(claim, reading=HELD), printed]


def _check(claim: Claim) -> None:
    allowed: dict[str, Iterable[str]] = {
        "reading": READINGS,
        "kind": KINDS,
        "metric": ["dice"] if claim.kind == "same" else UNITS,
        "better": KNOWN_METHODS,
        "worse": KNOWN_METHODS,
    }
    for column, values in allowed.items():
        value = getattr(claim, column)
        if value not in values:
            raise _wrong(claim, column, value, _one_of(values))
    for settings in (claim.settings, claim.settings_better, claim.settings_worse):
        _parsed(claim, settings)


def _check_ids(found: list[Claim]) -> None:
    """A claim stands once in each reading; otherwise they could not be set side by side."""
    seen = set()
    every = [one for claim in found for one in readings(claim)]
    for claim in every:
        if (claim.id, claim.reading) in seen:
            raise _wrong(claim, "id", claim.id, f"one row a claim for reading {claim.reading!r}")
        seen.add((claim.id, claim.reading))


def _one_of(allowed: Iterable[str]) -> str:
    return f"one of {', '.join(sorted(allowed))}"


def _wrong(claim: Claim, column: str, value: str, expected: str) -> ValueError:
    return ValueError(f"{FILE}, row {claim.id!r}, {column}: {value!r}, expected {expected}")
