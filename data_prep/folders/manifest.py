"""manifest.csv: which files make one image, in a table that can be read and corrected.

Columns: image, case (the patient), split (train, val, test, or empty), one `channel NAME` for
each input, one `annotator NAME` for each annotator, `truth` if there is one. An empty cell means
that there is no such file. Matching writes it; everything after reads nothing else.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from data_prep.folders.matching import SPLITS, few, group_cases, one_split_each
from data_prep.folders.plans import Plan
from data_prep.folders.survey import Entry
from noisyseg.storage import replacing

FIXED = ("image", "case", "split")
TREE = "tree"  # a column of what matched the authors' tree: how their masks are read


class Manifest(NamedTuple):
    """The table: `entries` in its order, names of channels and annotators, where it lies."""

    file: Path
    entries: list[Entry]
    channels: tuple[str, ...]
    annotators: tuple[str, ...]
    has_truth: bool
    tree: str

    @property
    def cases(self) -> dict[str, str]:
        """The patient of each image."""
        return {entry.name: entry.case for entry in self.entries}


def write_manifest(file: Path, plan: Plan, cases: str | Path | None) -> Path:
    """Write what was matched as a table; `cases` as on the command line. Returns its path."""
    patients, splits = _patients(plan, cases)
    channels = _channel_names(plan)
    rows = []
    for entry in plan.entries:
        row: dict[str, object] = {
            "image": entry.name,
            "case": patients[entry.name],
            "split": splits.get(patients[entry.name], ""),
        }
        row |= {f"channel {n}": f for n, f in zip(channels, entry.images, strict=True)}
        row |= {f"annotator {who}": entry.masks.get(who) for who in plan.annotators}
        row |= {"truth": entry.truth} if plan.has_truth else {}
        row |= {TREE: plan.tree} if plan.tree else {}
        rows.append({name: _text(value) for name, value in row.items()})
    with replacing(file) as part:
        pd.DataFrame(rows).to_csv(part, index=False)
    return file


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value.absolute() if isinstance(value, Path) else value)


def _patients(plan: Plan, cases: str | Path | None) -> tuple[dict[str, str], dict[str, str]]:
    """The patient of each image, and the split of each patient where that is given."""
    patients, splits = group_cases([entry.name for entry in plan.entries], cases)
    if cases is None:  # one name in two splits of a tree is one image in two splits
        patients = {name: name.rpartition("/")[2] for name in patients}
    if not any(entry.split for entry in plan.entries):
        return patients, splits
    if splits:
        raise ValueError(f"--cases {cases} has a column split, and so has the tree; remove it")
    tree = plan.folders["tree"]
    given = [(e.name, patients[e.name], e.split, tree) for e in plan.entries if e.split]
    return patients, one_split_each(given)


def _channel_names(plan: Plan) -> list[str]:
    """The folders' names where each folder is one channel and they differ; else 1, 2, …"""
    folders = [Path(f).name for role, f in plan.folders.items() if role.startswith("channel ")]
    count = len(plan.entries[0].images)
    if len(folders) == count and len(set(folders)) == count > 1:
        return folders
    return [str(n + 1) for n in range(count)]


def read_manifest(file: str | Path) -> Manifest:
    """Read a manifest, written here or corrected by hand.

    Raises FileNotFoundError for no such file, ValueError naming what does not fit: a column that
    is missing or unknown, a repeated or empty name, a file that is not there, a patient in two
    splits, splits for some images only.
    """
    file = Path(file).expanduser().absolute()
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file; give a manifest.csv")
    # As text, because "007" is a name. Spreadsheets put a byte order mark in front.
    table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    roles = _roles(file, table)
    _check_rows(file, table)
    entries = [_entry(file, row, roles) for row in table.to_dict("records")]
    tree = table[TREE].iloc[0] if TREE in table and len(table) else ""
    return Manifest(
        file,
        entries,
        tuple(roles["channel"]),
        tuple(roles["annotator"]),
        "truth" in table,
        tree,
    )


def _roles(file: Path, table: pd.DataFrame) -> dict[str, list[str]]:
    """The names of the channels and of the annotators, from the names of the columns."""
    absent = [column for column in FIXED if column not in table]
    if absent:
        raise ValueError(f"{file}: no column {few(absent)}; the first line names them")
    roles: dict[str, list[str]] = {"channel": [], "annotator": []}
    for column in table.columns.difference([*FIXED, "truth", TREE], sort=False):
        kind, _, name = column.partition(" ")
        if kind not in roles or not name.strip():
            raise ValueError(
                f"{file}: unknown column {column!r}; call it channel NAME or annotator NAME"
            )
        roles[kind].append(name)
    if not roles["channel"]:
        raise ValueError(f"{file}: no column channel NAME, so there is no image; add one")
    if not roles["annotator"] and "truth" not in table:
        raise ValueError(f"{file}: neither annotator NAME nor truth: nothing to learn from")
    return roles


def _check_rows(file: Path, table: pd.DataFrame) -> None:
    for column in ("image", "case"):
        empty = table[column].str.strip() == ""
        if empty.any():
            raise ValueError(f"{file}: {column} of line {empty.argmax() + 2} is empty; name it")
    twice = table.image[table.image.duplicated()].unique().tolist()
    if twice:
        raise ValueError(f"{file}: image {few(twice)} is there twice; keep one line each")
    given = table[table.split.str.strip() != ""]
    if 0 < len(given) < len(table):
        other = table.image[~table.index.isin(given.index)]
        raise ValueError(f"{file}: image {few(other)} has no split; give all images one, or none")
    rows = zip(given.image, given.case, given.split, strict=True)
    one_split_each([(*row, str(file)) for row in rows])


def _entry(file: Path, row: Mapping[str, str], roles: Mapping[str, Sequence[str]]) -> Entry:
    def path(column: str) -> Path | None:
        text = row.get(column, "").strip()
        if not text:
            return None
        found = file.parent / Path(text).expanduser()  # an absolute path stays as it is
        if not found.is_file():
            raise ValueError(f"{file}: image {row['image']}, {column}: there is no file {found}")
        return found

    masks = {who: path(f"annotator {who}") for who in roles["annotator"]}
    images = tuple(path(f"channel {name}") for name in roles["channel"])
    if not any(images):
        raise ValueError(f"{file}: image {row['image']} has no file in any channel; add one")
    return Entry(
        row["image"],
        images,
        {who: mask for who, mask in masks.items() if mask is not None},
        path("truth"),
        SPLITS.get(row["split"].strip().lower()),
        row["case"],
    )
