"""Reads every matched file once: which values, sizes, channels and spacings there are.

Done before anything is written, so that a wrong class value or a picture of another size is
an error with a file's name. Knows no rule of file names and no command line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int
from numpy import ndarray
from tqdm.auto import tqdm

from data_prep.cases import Unusable
from data_prep.folders.matching import few
from data_prep.formats import pictures

TRUTH = "the truth"
GREY = "grey truth"
MANY = 20  # more classes than this are asked about, and so is a larger number for one of them
WHITE = 255  # what a mask editor writes for foreground, and what many data sets write for "ignore"
GREY_TRUTH = 10  # the authors' loader: grey truth above this is foreground
NOT_LABELLED = -1  # in a mask as in a prepared folder
SLACK = 0.02  # of a voxel: corners this close are one grid, which rounding in headers moves
NEARLY = "grids up to 2 % of a voxel apart, taken as one"
PARTLY = "-1 in a mask, which means not labelled unless --values names it"


class Entry(NamedTuple):
    """One image: one file per channel (None = missing), the masks of annotators, the truth.

    `split` is None where it is not decided yet; `case` is the patient.
    """

    name: str
    images: tuple[Path | None, ...]
    masks: Mapping[str, Path]
    truth: Path | None = None
    split: str | None = None
    case: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file there is."""
        truth = [] if self.truth is None else [self.truth]
        return (*(f for f in self.images if f), *self.masks.values(), *truth)


class Loaded(NamedTuple):
    """An entry's pixels: `image` (channel, *space), raw masks (*space) by who wrote them."""

    image: Float32[ndarray, "channel *space"]
    masks: dict[str, Int[ndarray, "*space"]]
    spacing: tuple[float, ...] | None
    remarks: tuple[str, ...]
    palettes: dict[str, pictures.Palette]


@dataclass
class Survey:
    """What reading everything showed: values by who and where first, shapes by image.

    `together`: the sets of values that single files hold, and a file of each. `colours`: what
    the numbers of palettes stand for.
    """

    values: dict[str, dict[int, Path]] = field(default_factory=dict)
    together: dict[frozenset[int], Path] = field(default_factory=dict)
    colours: dict[int, tuple[tuple[int, ...], Path]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    spacings: dict[str, tuple[float, ...] | None] = field(default_factory=dict)
    remarks: dict[str, list[str]] = field(default_factory=dict)


def load(entry: Entry, spacing_mm: float | None = None, tree: str = "") -> Loaded:
    """Read every file of `entry` and check that all lie on one grid.

    `tree`: empty, or how the authors' tree is read: "masks" or "grey truth". Raises
    `Unusable` naming the file for a missing channel, damage, or another grid.
    """
    if None in entry.images:
        here = next(f for f in entry.images if f)
        raise Unusable(
            f"{here}: channel {entry.images.index(None) + 1} of image {entry.name} is missing; "
            "add its file or remove the others"
        )
    files = [f for f in entry.images if f]
    scans = [_flat(pictures.read_image(file), tree) for file in files]
    given = dict(entry.masks) | ({} if entry.truth is None else {TRUTH: entry.truth})
    masks = {who: pictures.read_labels(file) for who, file in given.items()}
    apart = [
        _check_grid(files[0], scans[0], file, scan, scan.array.shape[1:])
        for file, scan in zip(files[1:], scans[1:], strict=True)
    ]
    apart += [_check_grid(files[0], scans[0], given[w], m, m.array.shape) for w, m in masks.items()]
    if tree == GREY and TRUTH in masks:
        masks[TRUTH] = masks[TRUTH]._replace(array=_black_or_white(masks[TRUTH].array))
    if spacing_mm is not None:
        scans = [pictures.resampled(s, spacing_mm, f) for s, f in zip(scans, files, strict=True)]
        masks = {w: pictures.resampled(m, spacing_mm, given[w]) for w, m in masks.items()}
    image = np.concatenate([scan.array for scan in scans])
    said = [r for scan in (*scans, *masks.values()) for r in scan.remarks]
    said += _flat_channels(image)
    remarks = tuple(dict.fromkeys([*said, *([NEARLY] if any(apart) else [])]))
    arrays = {w: m.array for w, m in masks.items()}
    palettes = {w: m.palette for w, m in masks.items() if m.palette}
    return Loaded(image, arrays, scans[0].spacing, remarks, palettes)


def _flat_channels(image: Float32[ndarray, "channel *space"]) -> list[str]:
    """A remark for each channel that is the same everywhere, where others are not."""
    flat = [bool((channel == channel.flat[0]).all()) for channel in image]
    if all(flat):
        return []
    return [
        f"channel {n} is the same everywhere (saturated or empty) and says nothing"
        for n, is_flat in enumerate(flat, start=1)
        if is_flat
    ]


def _flat(scan: pictures.Scan, tree: str) -> pictures.Scan:
    """In the authors' tree there are no volumes: a few pages are channels."""
    pages = tree and scan.volume is None and scan.array.ndim == 4
    if pages and scan.array.shape[1] <= pictures.SAMPLES:
        return scan._replace(array=scan.array[0])
    return scan


def _black_or_white(grey: Int[ndarray, "*space"]) -> Int[ndarray, "*space"]:
    # The authors' loader leaves a file of 0 and 1 as it is; -1 stays, to be refused by name.
    return np.where(grey < 0, grey, grey > GREY_TRUTH) if grey.max() > 1 else grey


def grey_truths(entries: Sequence[Entry]) -> int:
    """How many true masks are grey pictures to threshold; 0 where they hold class numbers.

    One decision for all entries: grey are values above GREY_TRUTH that are not 0 and 255 only,
    beside annotators who all wrote two values. Damaged files are left to `survey` to report.
    """
    truths = [_values(entry.truth) for entry in entries if entry.truth]
    every = set().union(*truths)
    if _is_binary(every) or max(every, default=0) <= GREY_TRUTH:
        return 0
    written: dict[str, set[int]] = {}
    for entry in tqdm(entries, desc="grey truth", disable=None, leave=False):
        for who, file in entry.masks.items():
            written.setdefault(who, set()).update(_values(file))
    if not all(map(_is_binary, written.values())):
        return 0
    return sum(max(values, default=0) > 1 for values in truths)


def _values(file: Path) -> set[int]:
    """The values in a mask file, none where it cannot be read."""
    try:
        return set(np.unique(pictures.read_labels(file).array).tolist())
    except Unusable:
        return set()


def _is_binary(values: Iterable[int]) -> bool:
    labels = set(values) - {NOT_LABELLED}
    return labels <= {0, 1} or labels <= {0, 255}


def _check_grid(
    first: Path, scan: pictures.Scan, file: Path, other: pictures.Scan, shape: tuple[int, ...]
) -> float:
    """The gap between two grids in mm where it is worth a remark, else 0."""
    space = scan.array.shape[1:]
    if space != shape:
        raise Unusable(
            f"{file}: its size is {shape}, that of {first} is {space}; save both on one grid"
        )
    if (scan.volume is None) != (other.volume is None):
        raise Unusable(
            f"{file}: one of it and {first} is a NIfTI volume and one is not, so their axes "
            "cannot be compared; convert it"
        )
    if scan.volume is None:
        return 0.0
    return pictures.check_grid({str(first): scan.volume, str(file): other.volume}, SLACK)


def survey(entries: Sequence[Entry], spacing_mm: float | None = None, tree: str = "") -> Survey:
    """Read all entries, one in memory at a time; those that are unusable are left out here.

    ValueError where one number has two colours, in the palettes of two masks.
    """
    found = Survey()
    for entry in tqdm(entries, desc="survey", disable=None, leave=False):
        try:
            loaded = load(entry, spacing_mm, tree)
        except Unusable:
            continue
        found.shapes[entry.name] = loaded.image.shape
        found.spacings[entry.name] = loaded.spacing
        part = any((m == NOT_LABELLED).any() for w, m in loaded.masks.items() if w != TRUTH)
        for remark in (*loaded.remarks, *([PARTLY] if part else [])):
            found.remarks.setdefault(remark, []).append(entry.name)
        for who, mask in loaded.masks.items():
            file = entry.truth if who == TRUTH else entry.masks[who]
            seen = found.values.setdefault(who, {})
            here = np.unique(mask).tolist()
            seen |= {v: file for v in here if v not in seen}
            found.together.setdefault(frozenset(here), file)
            _note_colours(found, loaded.palettes.get(who, {}), file)
    return found


def _note_colours(found: Survey, palette: pictures.Palette, file: Path) -> None:
    for number, colour in palette.items():
        before, other = found.colours.setdefault(number, (colour, file))
        if before != colour:
            raise ValueError(
                f"{file}: its palette shows number {number} as {list(colour)}, that of {other} as "
                f"{list(before)}, so the numbers are not the same classes; save class numbers in "
                "one channel, or all masks with one palette"
            )


def class_table(
    found: Survey,
    values: Sequence[int] | None,
    classes: Sequence[str] | None,
    ignore: Sequence[int] = (),
) -> tuple[dict[int, int], list[str]]:
    """Value in a file -> class, and the names of the classes; `ignore` -> -1, not labelled.

    Without `values` the sorted ones that occur; where every file holds either 0 and 1 or
    0 and 255, both mean the same. -1 is no class but "not labelled", unless `values` name it.
    ValueError where values and names do not fit, for another value below 0, and for values that
    need not be class numbers.
    """
    where = {v: f for v, f in _labels_where(found, values).items() if v not in ignore}
    if values is not None:
        if len(set(values)) != len(values) or len(values) < 2:
            raise ValueError(f"--values {few(values)}: give two or more different values")
        both = sorted(set(values) & set(ignore))
        if both:
            raise ValueError(f"{few(both)} is in --values and in --ignore; leave it in one")
        table = {int(v): n for n, v in enumerate(values)}
    elif where and all(_is_binary(set(held) - set(ignore)) for held in found.together):
        table = {v: int(v > 0) for v in sorted(where)}
    else:
        table = {v: n for n, v in enumerate(sorted(where))}
    n = max(table.values(), default=0) + 1
    if values is None and classes is None:
        _ask(found, where, n)
    if n < 2:
        raise ValueError(f"only the value {few(where)} occurs in all masks; give --values")
    names = list(classes or _default_names(n))
    if len(names) != n:
        seen = "; ".join(f"{v} in {where[v]}" if v in where else f"{v} nowhere" for v in table)
        raise ValueError(
            f"{n} values for the {len(names)} classes {few(names)} ({seen}); correct the masks, "
            "--classes or --values, or give --ignore for values that mean not labelled"
        )
    return table | {int(v): NOT_LABELLED for v in ignore}, names


def _ask(found: Survey, where: Mapping[int, Path], n: int) -> None:
    """ValueError for values that need not be class numbers: greys, and what means "ignore".

    Two values are background and foreground, and small numbers are classes.
    """
    if n <= 2 or (n <= MANY and max(where) <= MANY):
        return
    largest = max(where)
    file = max(found.together.items(), key=lambda held: (largest in held[0], len(held[0])))[1]
    ignored = largest == WHITE and not any(MANY < v < WHITE for v in where)
    what = (
        f"{WHITE} may mean foreground or 'ignore'"
        if ignored
        else "is it a grey picture, or the grey edge that a JPEG or resizing leaves?"
    )
    raise ValueError(
        f"{n} values occur in the masks, such as {few(where)}, and {largest} in {file}: {what}. "
        "Give --values or --classes if all are classes, --ignore for values that mean not "
        "labelled; or save the masks with one value a class"
    )


def _labels_where(found: Survey, values: Sequence[int] | None) -> dict[int, Path]:
    """Value -> a file that holds it, for every value but "not labelled"."""
    where: dict[int, Path] = {}
    for who, seen in found.values.items():
        labels = {v: f for v, f in seen.items() if v != NOT_LABELLED or v in (values or ())}
        if not labels:
            raise ValueError(
                f"{next(iter(seen.values()))}: like all masks of {who} it holds -1 (not labelled) "
                "only; leave them out, or give --values if -1 is a class"
            )
        where |= labels
    # With --values each image is checked alone, as for any other value that is not given.
    if values is None and min(where, default=0) < 0:
        raise ValueError(
            f"{where[min(where)]}: value {min(where)} is below 0; write class numbers, -1 for not "
            "labelled, or give all values with --values"
        )
    return where


def _default_names(n: int) -> list[str]:
    return ["background", "foreground"] if n == 2 else ["background", *_numbered(n)]


def _numbered(n: int) -> list[str]:
    return [f"class {i}" for i in range(1, n)]


def common_size(found: Survey, size: Sequence[int] | str | None, slices: str) -> tuple[int, ...]:
    """The space of every image in the folder, and the checks that all images are alike.

    `size`: None (all must agree), "largest", or numbers of pixels. ValueError naming two files
    that differ in axes, channels or size.
    """
    if not found.shapes:
        return ()
    cut = 1 if slices != "none" else 0
    spaces = {n: s[1 + cut * (len(s) == 4) :] for n, s in found.shapes.items()}
    _alike({n: len(s) - 1 for n, s in found.shapes.items()}, "axes", "prepare each kind alone")
    _alike({n: s[0] for n, s in found.shapes.items()}, "channels", "convert them to one kind")
    if size is None:
        _alike(spaces, "size", "give --size H W or --size largest to crop and pad")
        return next(iter(spaces.values()))
    if size == "largest":
        return tuple(np.max(list(spaces.values()), axis=0).tolist())
    n = len(next(iter(spaces.values())))
    numbers = tuple(int(s) for s in size)
    if len(numbers) != n or min(numbers) < 1:
        raise ValueError(f"--size {few(size)}: give {n} numbers of pixels above 0, or largest")
    return numbers


def _alike(facts: Mapping[str, Any], what: str, remedy: str) -> None:
    first = next(iter(facts))
    for name, value in facts.items():
        if value != facts[first]:
            raise ValueError(
                f"image {name} has {what} {value}, image {first} {facts[first]}; {remedy}"
            )


def common_spacing(found: Survey, size: tuple[int, ...]) -> tuple[float, ...] | None:
    """Spacing in mm along space, None where images differ or have none."""
    all_of = {s[-len(size) :] if s else None for s in found.spacings.values()}
    first = next(iter(all_of), None)
    if first is None or None in all_of:
        return None
    same = all(np.allclose(s, first, rtol=1e-3) for s in all_of)
    return tuple(min(all_of)) if same else None
