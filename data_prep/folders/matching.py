"""Which mask belongs to which image: by file name, never by position in a listing.

Lists the files of a folder by stem and pairs stems; whatever does not fit is an error that
lists the files and near names. Opens no file and knows no format beyond suffixes.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

SUFFIXES = (".nii.gz", ".nii", ".png", ".tif", ".tiff")
PICTURES = (".gif", ".jpg", ".jpeg", ".bmp", ".webp")
# What may lie beside pictures without meaning anything; everything else could be a mask.
HARMLESS = (".txt", ".md", ".json", ".csv", ".ini", ".db")
SPLITS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
SLICE = re.compile(r"(?:z|s|slice)?(\d+)", re.IGNORECASE)
_SHOWN = 5


def composed(name: str) -> str:
    """`name` as one computer writes it: elsewhere ü is u and two dots, which looks the same."""
    return unicodedata.normalize("NFC", name)


def stem_of(file: Path) -> str:
    """The name of `file` without its known suffix: case7.nii.gz gives case7."""
    low = file.name.lower()
    suffix = next((s for s in SUFFIXES if low.endswith(s)), "")
    return composed(file.name[: len(file.name) - len(suffix)])


def few(texts: Iterable[object]) -> str:
    """The first five texts, and how many more there are."""
    found = [str(t) for t in texts]
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def list_files(folder: Path, known: Sequence[Path] = ()) -> dict[str, Path]:
    """Stem -> file for every picture or volume in `folder`, sorted by stem.

    `known` are folders that may lie inside it. Raises FileNotFoundError for no folder,
    ValueError for an empty one, a repeated stem, an inner folder and an unknown format.
    """
    if not folder.is_dir():
        why = "is a file, not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{folder} {why}; give the folder that holds the files")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or file.resolve() in known:
            continue
        if not _is_wanted(file):
            continue
        other = found.setdefault(stem_of(file), file)
        if other is not file:
            raise ValueError(
                f"{folder}: {other.name} and {file.name} have the same name before their suffix; "
                "remove or rename one"
            )
    if not found:
        raise ValueError(f"{folder} holds no file ending in {', '.join(SUFFIXES)}; put some there")
    return dict(sorted(found.items()))


def _is_wanted(file: Path) -> bool:
    low = file.name.lower()
    if file.is_dir():
        raise ValueError(f"{file} is a folder among the files; move its files up, or it elsewhere")
    if low.endswith(SUFFIXES):
        return True
    if low.endswith(HARMLESS):
        return False
    remedy = f"convert it to one of {', '.join(SUFFIXES)} or move it away"
    if low.endswith(PICTURES):
        remedy += (
            '; all of the folder: python -c "from pathlib import Path; from PIL import Image; '
            f"[Image.open(f).save(f.with_suffix('.png')) or f.unlink() for f in "
            f"Path({str(file.parent)!r}).glob('*{file.suffix}')]\" (keep a copy: it deletes them)"
        )
    raise ValueError(f"{file} ends in {file.suffix or 'nothing'}; {remedy}")


def renamed(masks: Mapping[str, Path], pattern: str | None) -> dict[str, Path]:
    """`masks` under the name that the group of `pattern` finds in theirs: seg_m01 gives m01.

    Names that do not match stay as they are. ValueError for a pattern without one group, and
    for two masks of one name.
    """
    if pattern is None:
        return dict(masks)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"--match {pattern!r} is no regular expression ({error})") from error
    if compiled.groups != 1:
        raise ValueError(
            f"--match {pattern!r} has {compiled.groups} groups; put brackets round the image's "
            "name and nothing else, as in 'seg_(.+)'"
        )
    found: dict[str, Path] = {}
    for stem, file in masks.items():
        hit = compiled.fullmatch(stem)
        name = hit[1] if hit else stem
        other = found.setdefault(name, file)
        if other is not file:
            raise ValueError(f"--match {pattern!r}: {other} and {file} are both {name}")
    return found


def _pattern_for(stems: Sequence[str], names: Iterable[str]) -> str | None:
    """The --match that would make `stems` names of images; None where one word is not enough."""
    known = sorted(names, key=len, reverse=True)
    inside = next((name for name in known if name in stems[0]), None)
    if not inside:
        return None
    before, _, after = stems[0].partition(inside)
    shape = re.compile(f"{re.escape(before)}(.+){re.escape(after)}")
    hits = [shape.fullmatch(stem) for stem in stems]
    fits = all(hit and hit[1] in set(known) for hit in hits)
    return f"{before}(.+){after}" if fits else None


def without(stem: str, words: Sequence[str], inside: bool = False) -> str:
    """`stem` less the first of `words` that stands before or after it: case7_anna gives case7.

    `inside`: also between two underscores, case_over_7 gives case_7. Capitals do not count.
    """
    for word in map(re.escape, map(composed, words)):
        patterns = [rf"^(.+)[-_. ]{word}$", rf"^{word}[-_. ](.+)$"]
        for pattern in [*patterns, rf"^(.+)_{word}(_.+)$"] if inside else patterns:
            hit = re.match(pattern, stem, re.IGNORECASE)
            if hit:
                return "".join(hit.groups())
    return stem


def aliases(stems: Iterable[str], words: Sequence[str], tree: bool = False) -> dict[str, str]:
    """Every name that means one image only -> the image's own stem.

    The stem itself goes before the stem without `words`, and, in the authors' tree, the stem
    before its last underscore, unless a slice's number follows.
    """
    stems = list(stems)
    table = {stem: stem for stem in stems}
    for level in range(1, 3 if tree else 2):
        short = {stem: _candidates(stem, words, tree)[level] for stem in stems}
        count = pd.Series(short).value_counts()
        table = {key: stem for stem, key in short.items() if count[key] == 1} | table
    return table


def _candidates(stem: str, words: Sequence[str], tree: bool) -> list[str]:
    last = [_shortened(stem)] if tree else []
    return [stem, without(stem, words, inside=tree), *last]


def _shortened(stem: str) -> str:
    """The part before the last underscore: case1_seg gives case1, case1_z050 gives case1_50.

    A number there tells slices apart: it stays, less its letter and its zeros.
    """
    short, _, last = stem.rpartition("_")
    number = SLICE.fullmatch(last)
    return f"{short}_{int(number[1])}" if short and number else short or stem


def match(
    names: Mapping[str, str],
    masks: Mapping[str, Path],
    words: Sequence[str],
    who: str,
    tree: bool = False,
) -> dict[str, Path]:
    """Image stem -> mask file, for every mask; `names` as `aliases` gives it.

    ValueError listing the masks that belong to no image, or two that belong to the same.
    """
    found: dict[str, Path] = {}
    read = {stem: _readings(stem, names, words, tree) for stem in masks}
    strangers = [stem for stem, images in read.items() if not images]
    if strangers:
        listed = few(_stranger(masks[stem], stem, words, names) for stem in strangers)
        pattern = _pattern_for(strangers, names)
        option = f"; or give --match '{pattern}'" if pattern else ""
        raise ValueError(
            f"{who}: {len(strangers)} of {len(masks)} masks belong to no image: {listed}; "
            f"name each like its image, or image_{words[0] if words else who}, or move it away"
            f"{option}"
        )
    if not tree:
        _refuse_two_meanings(read, masks, who)
    for stem, file in masks.items():
        image = read[stem][0]
        other = found.setdefault(image, file)
        if other is not file:
            raise ValueError(
                f"{who}: {other} and {file.name} both belong to image {image}; remove one"
            )
    return found


def _readings(stem: str, names: Mapping[str, str], words: Sequence[str], tree: bool) -> list[str]:
    """The images that `stem` can mean, the likeliest first."""
    hits = [names[c] for c in _candidates(stem, words, tree) if c in names]
    return list(dict.fromkeys(hits))


def _refuse_two_meanings(
    read: Mapping[str, list[str]], masks: Mapping[str, Path], who: str
) -> None:
    # scan_1.png by annotator 1 is of image scan_1 or of image scan. The rest of the folder
    # tells, unless it has no plain name, or some name that is surely none.
    double = [stem for stem, images in read.items() if len(images) > 1]
    plain = [stem for stem, images in read.items() if images == [stem]]
    one_each = len({images[-1] for images in read.values()}) == len(read)
    if double and (len(plain) + len(double) < len(read) or (not plain and one_each)):
        raise ValueError(
            f"{who}: {masks[double[0]]} may belong to image {' or '.join(read[double[0]])}; "
            "name every mask of the folder exactly like its image"
        )


def _stranger(file: Path, stem: str, words: Sequence[str], names: Mapping[str, str]) -> str:
    near = get_close_matches(without(stem, words), list(names), n=3, cutoff=0.6)
    return f"{file}" + (f" (near: {', '.join(near)})" if near else " (no image of a near name)")


def group_cases(
    names: Sequence[str], cases: str | Path | None
) -> tuple[dict[str, str], dict[str, str]]:
    """The patient of each image name and, from a table with a split column, each patient's split.

    `cases`: None (each image its own), a pattern whose first group is the patient, or a .csv
    with columns image_id, case_id and perhaps split. ValueError for an image without a
    patient, a row without an image, or a patient in two splits.
    """
    if cases is None:
        return {name: name for name in names}, {}
    if str(cases).lower().endswith(".csv"):
        return _read_table(Path(cases), names)
    return _by_pattern(str(cases), names), {}


def _by_pattern(pattern: str, names: Sequence[str]) -> dict[str, str]:
    try:
        compiled = re.compile(composed(pattern))
    except re.error as error:
        raise ValueError(f"--cases {pattern!r} is no regular expression ({error})") from error
    if compiled.groups < 1:
        raise ValueError(f"--cases {pattern!r} has no group; put brackets round the patient")
    hits = {name: compiled.match(name.rpartition("/")[2]) for name in names}
    wrong = [name for name, hit in hits.items() if not (hit and hit[1])]
    if wrong:
        raise ValueError(f"--cases {pattern!r} finds no patient in {few(wrong)}; correct it")
    return {name: hit[1] for name, hit in hits.items() if hit}


def _read_table(file: Path, names: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    if not file.is_file():
        raise FileNotFoundError(f"--cases {file}: no such file; give a table or a pattern")
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"{file} is no table ({error}); write image_id,case_id[,split]") from error
    absent = {"image_id", "case_id"} - set(table)
    if absent:
        raise ValueError(f"{file}: no column {few(sorted(absent))}; name it in the first line")
    table.image_id = table.image_id.map(composed)
    _check_rows(file, table, names)
    patients = dict(zip(table.image_id, table.case_id, strict=True))
    if "split" not in table:
        return patients, {}
    given = zip(table.image_id, table.case_id, table.split, strict=True)
    return patients, one_split_each([(*row, str(file)) for row in given])


def _check_rows(file: Path, table: pd.DataFrame, names: Sequence[str]) -> None:
    twice = table.image_id[table.image_id.duplicated()].unique().tolist()
    if twice:
        raise ValueError(f"{file}: image_id {few(twice)} is there twice; keep one row each")
    unknown = [i for i in table.image_id if i not in set(names)]
    if unknown:
        near = get_close_matches(unknown[0], names, n=3)
        raise ValueError(
            f"{file}: no image is called {few(unknown)} (near: {', '.join(near) or 'none'}); "
            "correct image_id or remove the row"
        )
    lost = [name for name in names if name not in set(table.image_id)]
    if lost:
        raise ValueError(f"{file}: no row for image {few(lost)}; add one or remove the image")
    empty = table.case_id.str.strip() == ""
    if empty.any():
        raise ValueError(f"{file}: case_id of {few(table.image_id[empty])} is empty; name it")


def one_split_each(rows: Iterable[tuple[str, str, str, str]]) -> dict[str, str]:
    """Patient -> train, val or test from rows (image, patient, split, file the row is from).

    ValueError for an unknown split or a patient in two.
    """
    splits: dict[str, tuple[str, str]] = {}
    for image, patient, given, source in rows:
        split = SPLITS.get(given.strip().lower())
        if split is None:
            raise ValueError(
                f"{source}: split {given!r} of image {image} is unknown; use train, val or test"
            )
        before, other = splits.setdefault(patient, (split, image))
        if before != split:
            raise ValueError(
                f"{source}: case {patient} is in {before} (image {other}) and in {split} (image "
                f"{image}); put all images of a patient in one split"
            )
    return {patient: split for patient, (split, _) in splits.items()}
