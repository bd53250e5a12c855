"""Verdicts: the claims of `figures/claims.csv` judged from the exported tables.

A claim counts as reproduced when the 95 % t interval of the paired difference over seeds lies
on its side of zero. A claim on the paper's method has two readings: Theorem 1's assumption
held (`trace`), and Eq. 4 as printed (`trace_printed`). Knows tables only.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd

from noisyseg import config, storage
from noisyseg.paper import claims, source_data, tables
from noisyseg.paper.claims import (
    BOTH,
    HELD,
    METHOD,
    OURS,
    PRINTED,
    PRINTED_METHOD,
    UNITS,
    Claim,
    Outcome,
)
from noisyseg.storage import figures_root

COLUMNS = ["claim", "paper", "ours", "interval", "data", "verdict", "reason", "reading"]
OPENINGS = {HELD: "With the theorem's assumption held, ", PRINTED: "As printed, ", BOTH: ""}
PLACES = {"stand-in": "this stand-in", "simulated": "simulated data"}
EMPTY_IS_RIGHT = "Mind that an image without the class counts as right when it is left empty."


def sources() -> dict[str, pd.DataFrame]:
    """The exported tables that the claims name, as far as they are there, by name."""
    found = {}
    for name in dict.fromkeys(name for claim in claims.read() for name in claim.tables.split()):
        with suppress(FileNotFoundError):
            found[name] = source_data.read(name)
    return found


def judge_all(sources: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The table of verdicts.

    Where both readings come to the same verdict, one row is judged on `trace` and its reading
    is "both"; otherwise they stand side by side. What stands on pixels or labels that are not
    real tests no claim of the paper: there one row a data set says how many hold. Claims whose
    rows are not in the tables yet are left out (`left_out`).

    - `sources`: exported tables by name, as `sources()` returns them.
    """
    rows = []
    for name, table in sources.items():
        of_table = [claim for claim in claims.read() if name in claim.tables.split()]
        for data in _data_sets(table):
            rows += _rows(data, _outcomes(data, of_table))
    return pd.DataFrame(rows, columns=COLUMNS)


def effects(sources: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Every claim on every data set as numbers, in points: Dice in %, other metrics × 100.

    One row a claim, reading and data set: `mean`, `low` and `high` of the difference over seeds
    (95 %; infinite with one seed), `printed` (NaN where the paper prints none) and `holds`. A
    claim whose rows are missing is left out.
    """
    rows = []
    for name, table in sources.items():
        of_table = [claim for claim in claims.read() if name in claim.tables.split()]
        for data in _data_sets(table):
            for claim, differences, holds in _outcomes(data, of_table):
                low, high = tables.interval(differences)
                dataset, points = data.dataset.iloc[0], 100 / UNITS[claim.metric].scale
                values = {"mean": differences.mean(), "low": low, "high": high}
                values["printed"] = np.nan if claim.paper else _printed_value(dataset, claim)
                rows.append(
                    {"id": claim.id, "claim": claim.claim, "reading": claim.reading}
                    | {"dataset": dataset, "origin": data.origin.iloc[0]}
                    | {key: points * value for key, value in values.items()}
                    | {"seeds": len(differences), "holds": holds}
                )
    return pd.DataFrame(rows)


def in_sentences(found: pd.DataFrame) -> list[str]:
    """What `effects` found, in five sentences at most; one that has no rows is left out."""
    real = found.origin == "real"
    held, printed = found.reading.isin((HELD, BOTH)), found.reading.isin((PRINTED, BOTH))
    of_paper = found.reading != OURS
    ours = found[(found.id == "ours_majority") & real]

    def count(rows: pd.DataFrame) -> str:
        return f"{int(rows.holds.sum())} of {len(rows)}"

    said = [
        f"On real digits {count(found[real & held & of_paper])} claims of the paper hold when "
        f"the assumption of Theorem 1 is held, and {count(found[real & printed & of_paper])} "
        "with Eq. 4 as printed."
    ]
    for _, row in found[(found.id == "trace") & real & (found.reading == HELD)].iterrows():
        said.append(
            f"Once the assumption is held, the trace changes the Dice by {_points(row)} on digits."
        )
    drawn = found[~real & held & of_paper]
    if len(drawn):
        said.append(
            f"On drawn lesions and rendered CT {count(drawn)} claims hold under the same "
            "assumption; such pictures cannot test the paper."
        )
    for name, where in (("mnist", "On digits"), ("people_", "On cells that people outlined")):
        rows = ours[ours.dataset.str.startswith(name)]
        ahead = " and ".join(_points(row) for _, row in rows.iterrows())
        if ahead:
            said.append(f"{where} our method differs from majority labels by {ahead}.")
    return said


def _points(row: pd.Series) -> str:
    """For example "+5.1 points (+4.8 to +5.4)"."""
    sure = f"{row.low:+.1f} to {row.high:+.1f}" if np.isfinite(row.low) else "one seed"
    return f"{row['mean']:+.1f} points ({sure})"


def left_out(sources: Mapping[str, pd.DataFrame]) -> list[str]:
    """Claims that could not be judged, as "id, reading (table)"."""
    missing = []
    for claim in claims.read():
        for name in claim.tables.split():
            data_sets = _data_sets(sources[name]) if name in sources else []
            there = {one.claim.reading for data in data_sets for one in _outcomes(data, [claim])}
            wanted = [one.reading for one in claims.readings(claim)]
            missing += [f"{claim.id}, {r} ({name})" for r in wanted if r not in there]
    return missing


def side_by_side(outcomes: list[Outcome]) -> list[Outcome]:
    """Two readings of one claim with the same verdict become one, judged on `trace`."""
    by_id: dict[str, list[Outcome]] = {}
    for one in outcomes:
        by_id.setdefault(one.claim.id, []).append(one)
    kept = []
    for group in by_id.values():
        group = sorted(group, key=lambda one: claims.READINGS.index(one.claim.reading))
        if len(group) == 2 and group[0].holds == group[1].holds:
            group = [group[0]._replace(claim=replace(group[0].claim, reading=BOTH))]
        kept += group
    return kept


def write(table: pd.DataFrame, profile: str) -> None:
    """`figures/verdicts.csv`, or `verdicts.smoke.csv` for a smoke table."""
    name = "verdicts.smoke.csv" if profile == "smoke" else "verdicts.csv"
    storage.write_csv(figures_root() / name, table)


def _data_sets(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The rows of each data set, real and stand-in apart."""
    for _, data in table.groupby(["dataset", "origin"], sort=False):
        yield data


def _outcomes(data: pd.DataFrame, of_table: list[Claim]) -> list[Outcome]:
    """Every claim in each of its readings; left out where no seed has both rows."""
    every = [one for claim in of_table for one in claims.readings(claim)]
    outcomes = [claims.outcome(data, claim) for claim in every]
    return [one for one in outcomes if len(one.differences)]


def _rows(data: pd.DataFrame, outcomes: list[Outcome]) -> list[dict[str, str]]:
    """The rows of verdicts.csv for one data set of one table, the paper's claims first."""
    of_paper = [one for one in outcomes if one.claim.reading != OURS]
    ours = [one for one in outcomes if one.claim.reading == OURS]
    if data.origin.iloc[0] == "real":
        return [_row(data, one) for one in side_by_side(of_paper) + ours]
    summary = [_summary(data, of_paper)] if of_paper else []
    return summary + [_row(data, one) for one in ours]


ONE_SEED = "One seed has no interval, so it shows nothing yet."


def _row(data: pd.DataFrame, outcome: Outcome) -> dict[str, str]:
    claim, differences, holds = outcome
    unit, dataset = UNITS[claim.metric], data.dataset.iloc[0]
    low, high = tables.interval(differences)
    reason = _reason(claim, holds) if np.isfinite(low) else ONE_SEED
    if claim.metric == "dice" and dataset in config.TARGET:
        reason += f" {EMPTY_IS_RIGHT}"
    return {
        "claim": claim.claim,
        "paper": claim.paper or _printed_difference(dataset, claim),
        "ours": f"{differences.mean():+.{unit.digits}f} {unit.name}",
        "interval": f"[{low:+.{unit.digits}f}, {high:+.{unit.digits}f}]",
        "data": _where(data, len(differences), claim.labelling),
        "verdict": "reproduced" if holds else "not reproduced",
        "reason": reason,
        "reading": claim.reading,
    }


def _reason(claim: Claim, holds: bool) -> str:
    if holds:
        return claim.reason_if_reproduced
    if claim.reading == PRINTED and claim.reason_if_not_as_printed:
        return claim.reason_if_not_as_printed
    return claim.reason_if_not


def _where(data: pd.DataFrame, seeds: int, labelling: str = "") -> str:
    """For example "mnist (real), reduced, 3 seeds, dense, ablation_trace"."""
    first = data.iloc[0]
    counted = "1 seed" if seeds == 1 else f"{seeds} seeds"
    parts = [f"{first.dataset} ({first.origin})", first.profile, counted, labelling]
    if first.experiment != first.dataset:
        parts.append(first.experiment)
    return ", ".join(filter(None, parts))


def _printed_difference(dataset: str, claim: Claim) -> str:
    unit, difference = UNITS[claim.metric], _printed_value(dataset, claim)
    return "not printed" if np.isnan(difference) else f"{difference:+.{unit.digits}f} {unit.name}"


def _printed_value(dataset: str, claim: Claim) -> float:
    """The claim's difference in the paper's tables; its naive row stands for mean and majority."""
    paper = source_data.printed()
    rows = paper[
        (paper.dataset == dataset)
        & (paper.labelling == claim.labelling)
        & (paper.metric == claim.metric)
        & paper.table.isin([1, 2, 4, 5, 6])
    ]
    values = rows.drop_duplicates("method").set_index("method").value
    values[PRINTED_METHOD] = values.get(METHOD, np.nan)
    difference = values.get(claim.better, np.nan) - values.get(claim.worse, np.nan)
    unit = UNITS[claim.metric]
    return float(unit.sign * unit.scale * difference)


def _summary(data: pd.DataFrame, outcomes: list[Outcome]) -> dict[str, str]:
    """One row for all claims of the paper on pixels or labels that are not real."""
    first = data.iloc[0]
    there = {one.claim.reading for one in outcomes}
    shown = [reading for reading in (HELD, PRINTED) if reading in there] or [BOTH]
    reason = " ".join(_sentence(outcomes, reading, first.origin) for reading in shown)
    if first.dataset in config.TARGET:
        reason += f" {EMPTY_IS_RIGHT}"
    return {
        "claim": f"the paper's claims on {first.dataset}",
        "paper": "all hold on the real data",
        "ours": "; ".join(f"{_count(outcomes, reading)}, {reading}" for reading in shown),
        "interval": "one for each claim",
        "data": _where(data, data.seed.nunique()),
        "verdict": "not testable here",
        "reason": reason,
        "reading": BOTH if len(shown) == 2 else shown[0],
    }


def _of_reading(outcomes: list[Outcome], reading: str) -> list[Outcome]:
    """The claims of one reading, with those that are the same in both."""
    return [one for one in outcomes if one.claim.reading in (reading, BOTH)]


def _count(outcomes: list[Outcome], reading: str) -> str:
    chosen = _of_reading(outcomes, reading)
    return f"{sum(one.holds for one in chosen)} of {len(chosen)} hold"


def _sentence(outcomes: list[Outcome], reading: str, origin: str) -> str:
    """For example "As printed, 1 of 12 hold on this stand-in: the method beats STAPLE."."""
    text = f"{OPENINGS[reading]}{_count(outcomes, reading)} on {PLACES[origin]}"
    holding = [one.claim.claim for one in _of_reading(outcomes, reading) if one.holds]
    return f"{text}: {'; '.join(holding)}." if holding else f"{text}."
