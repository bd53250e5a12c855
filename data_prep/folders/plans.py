"""Folders -> which files make one image: its channels, its masks by annotator, its truth.

Two layouts: a folder for the images and one for each annotator, and the tree of the authors'
code. Opens no file; of the tree it asks `survey` whether the truth is grey.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.folders.matching import SPLITS, aliases, few, list_files, match, renamed, without
from data_prep.folders.survey import GREY, GREY_TRUTH, Entry, grey_truths

# Kinds of folders in the authors' tree; the first kind of truth that is there is the truth.
IMAGES, TRUTHS, COPY = ("image", "gaussian"), ("gt", "annotator_5", "good"), "good"


class Plan(NamedTuple):
    """What was matched: images, annotators in order, folders by role, and what was noticed."""

    entries: list[Entry]
    annotators: tuple[str, ...]
    folders: dict[str, str]
    has_truth: bool
    tree: str = ""
    remarks: tuple[str, ...] = ()


def plan_folders(
    images: Sequence[Path],
    labels: Mapping[str, Path],
    truth: Path | None = None,
    numbered: bool = False,
    pattern: str | None = None,
) -> Plan:
    """Match the files of `images` (one folder per channel), `labels` by annotator, and `truth`.

    `pattern`: where in a mask's name its image's name is, see `matching.renamed`.
    `numbered`: one folder with name_0000, name_0001, ... as channels. Raises ValueError for a
    mask without an image, a folder given twice, and what `list_files` refuses.
    """
    roles = {f"channel {n + 1}": Path(f) for n, f in enumerate(images)}
    roles |= {f"annotator {who}": Path(f) for who, f in labels.items()}
    roles |= {} if truth is None else {"truth": Path(truth)}
    if not images or not (labels or truth):
        raise ValueError("give --images, and --labels or --truth: there is nothing to learn from")
    _refuse_same(roles)
    known = [f.resolve() for f in roles.values()]
    pictures = _by_channel([list_files(Path(f), known) for f in images], images, numbered)
    names = aliases(pictures, [Path(f).name for f in images])
    masks = {
        who: match(names, _masks(f, known, pattern), [who, Path(f).name], f"annotator {who}")
        for who, f in labels.items()
    }
    true = {}
    if truth is not None:
        words = ["truth", Path(truth).name]
        true = match(names, _masks(truth, known, pattern), words, "truth")
    entries = [
        Entry(n, files, {w: m[n] for w, m in masks.items() if n in m}, true.get(n))
        for n, files in pictures.items()
    ]
    folders = {role: str(f) for role, f in roles.items()}
    return Plan(entries, tuple(labels), folders, truth is not None)


def _masks(folder: Path, known: Sequence[Path], pattern: str | None) -> dict[str, Path]:
    return renamed(list_files(Path(folder), known), pattern)


def _refuse_same(roles: Mapping[str, Path]) -> None:
    first: dict[Path, str] = {}
    for role, folder in roles.items():
        other = first.setdefault(folder.resolve(), role)
        if other != role:
            raise ValueError(f"{folder} is given for {other} and for {role}; give each its own")


def _by_channel(
    listed: Sequence[Mapping[str, Path]], folders: Sequence[Path], numbered: bool
) -> dict[str, tuple[Path | None, ...]]:
    """Image name -> one file per channel, None where it is missing."""
    if numbered:
        listed = _split_numbered(listed, folders)
    elif len(listed) > 1:
        shorter = [
            {without(s, [Path(d).name]): f for s, f in files.items()}
            for d, files in zip(folders, listed, strict=True)
        ]
        for short, files, folder in zip(shorter, listed, folders, strict=True):
            if len(short) != len(files):
                raise ValueError(f"{folder}: two files mean the same image; rename one")
        listed = shorter
    every = sorted({name for files in listed for name in files})
    return {name: tuple(files.get(name) for files in listed) for name in every}


def _split_numbered(
    listed: Sequence[Mapping[str, Path]], folders: Sequence[Path]
) -> list[dict[str, Path]]:
    if len(listed) != 1:
        raise ValueError("--numbered: give one --images folder with name_0000, name_0001, ...")
    channels: dict[str, dict[str, Path]] = {}
    for stem, file in listed[0].items():
        name, _, number = stem.rpartition("_")
        if not (name and len(number) == 4 and number.isdigit()):
            raise ValueError(f"{file}: --numbered needs a name such as {stem}_0000; rename it")
        channels.setdefault(number, {})[name] = file
    if [*sorted(channels)] != [f"{n:04d}" for n in range(len(channels))]:
        raise ValueError(f"{folders[0]}: channels {few(sorted(channels))}; number them from 0000")
    return [channels[number] for number in sorted(channels)]


def plan_tree(folder: Path) -> Plan:
    """Match the authors' tree: {train,validate,test}/{Image or Gaussian,GT,Over,...}/*.tif.

    GT is the truth, else Annotator_5, else Good (which their scripts copy from the truth) is
    truth and annotator at once; a truth that some split lacks is not used. Every other folder
    is an annotator. A name stands for one image of a split: 00017_Over.tif, case_over_7.tif or
    the image's own name. Raises ValueError as `plan_folders`, and where train has nothing to
    learn from.
    """
    folder = Path(folder)
    parts = {d.name: _kinds(d) for d in _inner(folder) if d.name.lower() in SPLITS}
    if not parts:
        raise ValueError(f"{folder} holds none of {', '.join(SPLITS)}; give the folder above them")
    every = {kind for kinds in parts.values() for kind in kinds}
    chosen = next((k for k in TRUTHS if k in every), None)
    annotators = tuple(sorted(every - {*IMAGES, chosen} | every & {COPY}))
    truth, remarks = _truth_of_all(folder, parts, chosen)
    entries = [e for name, kinds in parts.items() for e in _part(name, kinds, annotators, truth)]
    _refuse_no_train(folder, entries, bool(annotators), truth)
    # Only GT is grey, and only as the authors' MNIST scripts write it.
    grey = grey_truths(entries) if truth == TRUTHS[0] else 0
    if grey:
        remarks.append(f"GT is grey: values above {GREY_TRUTH} are foreground, in {grey} masks")
    tree = GREY if grey else "masks"
    return Plan(entries, annotators, {"tree": str(folder)}, bool(truth), tree, tuple(remarks))


def _truth_of_all(
    folder: Path, parts: Mapping[str, Mapping[str, Path]], chosen: str | None
) -> tuple[str | None, list[str]]:
    """The kind of truth, None where a split lacks the `chosen` one; and remarks on it."""
    lacking = [name for name, kinds in parts.items() if chosen not in kinds]
    if chosen and lacking:
        # A truth is for evaluation only; it must not decide which images are learned from.
        there = next(kinds[chosen].name for kinds in parts.values() if chosen in kinds)
        return None, [f"{folder}: no {there} in {few(lacking)}, so no truth is used"]
    return chosen, ["Good is used as an annotator and as the truth"] if chosen == COPY else []


def _refuse_no_train(
    folder: Path, entries: Sequence[Entry], annotated: bool, truth: str | None
) -> None:
    needed = [*(["a mask of an annotator"] if annotated else []), *([truth] if truth else [])]
    if not needed:
        raise ValueError(f"{folder}: no annotator and no truth in every split; add their folders")
    train = [e for e in entries if e.split == "train"]
    if not any((e.masks or not annotated) and (e.truth or not truth) for e in train):
        raise ValueError(
            f"{folder}: none of {len(train)} images of train has {' and '.join(needed)}, so there "
            "is nothing to learn from; add them to train"
        )


def _inner(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the one that holds train, test")
    return sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))


def _kinds(folder: Path) -> dict[str, Path]:
    kinds: dict[str, Path] = {}
    for inner in _inner(folder):
        if kinds.setdefault(inner.name.lower(), inner) is not inner:
            raise ValueError(f"{inner}: is there twice, in other capitals; remove one")
    found = [k for k in IMAGES if k in kinds]
    if len(found) != 1:
        raise ValueError(
            f"{folder} holds {few(kinds) or 'no folder'}; it needs one of Image and Gaussian, "
            f"has {len(found)}"
        )
    return kinds


def _part(
    name: str, kinds: Mapping[str, Path], annotators: Sequence[str], truth: str | None
) -> list[Entry]:
    image = next(k for k in IMAGES if k in kinds)
    pictures = list_files(kinds[image])
    names = aliases(pictures, [image, "slice"], tree=True)
    found = {
        kind: match(names, list_files(kinds[kind]), [kind], f"{name}/{kind}", tree=True)
        for kind in (*annotators, *([truth] if truth else []))
        if kind in kinds
    }
    shown = _short(pictures, [image, "slice"])
    return [
        Entry(
            f"{name}/{shown[stem]}",
            (file,),
            {who: found[who][stem] for who in annotators if stem in found.get(who, {})},
            found.get(truth or "", {}).get(stem),
            SPLITS[name.lower()],
        )
        for stem, file in pictures.items()
    ]


def _short(stems: Mapping[str, Path], words: Sequence[str]) -> dict[str, str]:
    """Stem -> the name without its kind (00017_Gaussian: 00017), where that is unique."""
    short = {stem: without(stem, words, inside=True) for stem in stems}
    return short if len(set(short.values())) == len(short) else {stem: stem for stem in stems}
