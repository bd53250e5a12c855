"""A raw folder of one's own: found, prepared, and predicted back into files of its own kind.

Layout: `images/` (or `images_t1/`, `images_t2/`, ... for channels on one grid) and one folder
of masks an annotator beside it, files matched by name; `truth/` if there is a reference. All
options of `data_prep.folders` need that command; this is its short form.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from jaxtyping import Float
from matplotlib.colors import to_rgb
from numpy import ndarray
from PIL import Image, PngImagePlugin
from tqdm.auto import tqdm

from data_prep.cases import PICTURES, Input, Unusable, file_names, noted
from data_prep.fitting import predict_fitted
from data_prep.folders import prepare
from data_prep.folders.matching import composed
from data_prep.folders.plans import Plan, plan_folders
from data_prep.folders.slicing import normalised
from data_prep.folders.survey import Entry
from data_prep.formats.pictures import read_image
from noisyseg.data.dataset import load_dataset
from noisyseg.data.views import unpadded
from noisyseg.predict import VolumePrediction, predict_image
from noisyseg.runs import Run
from noisyseg.storage import no_formulas, replacing

LAYOUT = (
    "expected images/ (or images_t1/, images_t2/ for channels) and beside it one folder of masks "
    "for each annotator, with the same file names"
)
# What people call the folder of a reference; it is no annotator.
TRUTHS = (
    "truth",
    "gt",
    "ground_truth",
    "groundtruth",
    "ground-truth",
    "ground truth",
    "reference",
    "gold",
    "gold_standard",
)
NAMES = "annotators.csv"  # whose prediction is in which file, where a name is no file name
NOTE = "Software"  # the keyword of a PNG's text
WRITTEN = (".nii.gz", ".tif", ".png")  # suffixes of predictions


def plan_of(source: Path, pattern: str | None = None) -> Plan:
    """Which file of `source` is what; ValueError naming the layout that was expected.

    `pattern`: where in a mask's name its image's name is (--match).
    """
    images, annotators, truth = _roles(source)
    try:
        plan = plan_folders(images, annotators, truth, pattern=pattern)
        if truth is None:
            return plan
        note = f"{truth.name}: taken for the truth, not for an annotator"
        lacking = sum(entry.truth is None for entry in plan.entries)
        if not lacking:
            return plan._replace(remarks=(note,))
        # A reference is for the last table only; it must not decide what is learned from.
        note = f"{truth}: lacks {lacking} of {len(plan.entries)} images, so no reference is used"
        return plan_folders(images, annotators, pattern=pattern)._replace(remarks=(note,))
    except ValueError as error:
        raise ValueError(f"{error}; {LAYOUT}") from error


def _roles(source: Path) -> tuple[list[Path], dict[str, Path], Path | None]:
    """The folders of images, of masks by annotator, and of the reference if there is one."""
    found = sorted(p for p in source.iterdir() if p.is_dir() and not p.name.startswith("."))
    images = [p for p in found if re.fullmatch(r"images(_.+)?", p.name)]
    truths = [p for p in found if p.name.lower() in TRUTHS]
    if len(truths) > 1:
        named = " and ".join(p.name for p in truths)
        raise ValueError(f"{source}: {named} both name the reference; keep one; {LAYOUT}")
    annotators = {composed(p.name): p for p in found if p not in (*images, *truths)}
    if not images or not annotators:
        there = ", ".join(p.name for p in found) or "no folder"
        raise ValueError(f"{source} holds {there}; {LAYOUT}")
    return images, annotators, next(iter(truths), None)


def prepare_own(
    source: Path,
    out: Path,
    origin: str = "real",
    cases: str | Path | None = None,
    pattern: str | None = None,
) -> list[str]:
    """Write the prepared folder `out` of a raw folder; returns what the files were taken for.

    `cases`: which images show the same patient, a table or a pattern (--cases).
    """
    plan = plan_of(source, pattern)
    result = prepare.prepare(
        out, plan, cases=cases, size="largest", name=source.name, origin=origin
    )
    return [line.replace(str(out), out.name) for line in (str(result.report), *result.notes)]


def predict_own(
    run: Run, source: Path, out: Path, colours: Sequence[str] = (), pattern: str | None = None
) -> int:
    """Write for every image its truth, uncertainty and every annotator's expected mask.

    NIfTI for NIfTI, on the grid and with the affine of the image; TIFF for a stack of pages:
    class indices, uncertainty as grey (255 = largest); else PNG: the same, with class indices
    shown in `colours` if given. Each file names the run that wrote it. Files already there are
    left alone; those of another run move to a folder beside `out`, with a warning. An image that
    cannot be used is passed over. Returns the number of images.
    """
    shape = run.provenance["shape"]
    model, names = run.model(), shape["annotators"]
    made = noted(shape["sources"]) or Input(PICTURES, None)
    note = f"noisyseg run {run.config.digest(run.provenance['fingerprint'])}"
    entries, written = plan_of(source, pattern).entries, 0
    _make_way([out / entry.name for entry in entries], out, note)
    _name_files(names, out)
    for entry in tqdm(entries, desc="predictions", disable=None, leave=False):
        # The last file of an image is written last, so it tells whether all are there.
        first, folder = _first(entry), out / entry.name
        if _there(folder, "uncertainty"):
            written += 1
            continue
        try:
            pixels = _pixels(entry, first, made.normalise)
        except Unusable:  # left out of the prepared folder as well, and named in its notes
            continue
        found = predict_fitted(model, pixels, made.size)
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in _arrays(found, names):
            _write(folder / name, array, first, note, colours)
        written += 1
    return written


def _name_files(names: Sequence[str], out: Path) -> None:
    """A table of annotators and the names of their files, where these differ."""
    files = file_names(names)
    if files == list(names):
        return
    table = pd.DataFrame({"annotator": names, "file": [f"annotator_{name}" for name in files]})
    with replacing(out / NAMES) as part:
        no_formulas(table).to_csv(part, index=False)


def predict_prepared(run: Run, out: Path, colours: Sequence[str] = ()) -> int:
    """`predict_own` for the prepared folder of `run`: a folder of PNG (3-D: TIFF) an image.

    On the grid of the prepared images, less the padding of those that somebody labelled. What
    the arrays were made from is not asked for.
    """
    data = load_dataset(run.config.dataset)
    model, names = run.model(), run.provenance["shape"]["annotators"]
    note = f"noisyseg run {run.config.digest(run.provenance['fingerprint'])}"
    folders = [out / name for name in _folder_names(data.image_ids.tolist())]
    _make_way(folders, out, note)
    _name_files(names, out)
    for n, folder in enumerate(tqdm(folders, desc="predictions", disable=None, leave=False)):
        if _there(folder, "uncertainty"):
            continue
        image = np.asarray(data.images[n], np.float32)
        inside: tuple[slice, ...] = (slice(None),) * (image.ndim - 1)
        if data.labels is not None and data.has_label is not None and data.has_label[n].any():
            inside = unpadded(image, np.asarray(data.labels[n]))
        found = predict_image(model, image)
        noisy = None if found.noisy_probs is None else found.noisy_probs[(..., *inside)]
        cut = VolumePrediction(found.probs[(..., *inside)], noisy)
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in _arrays(cut, names):
            _write(folder / name, array, None, note, colours)
    return len(folders)


def _folder_names(ids: Sequence[str]) -> list[str]:
    """A safe and different name of a folder for each image id; name/image gives name."""
    names: list[str] = []
    for image_id in ids:
        parts = [re.sub(r"[^\w.-]+", "_", p) for p in image_id.removesuffix("/image").split("/")]
        name = "/".join("_" if p.strip(".") == "" else p for p in parts)
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def _first(entry: Entry) -> Path:
    return next(file for file in entry.images if file is not None)


def _there(folder: Path, name: str) -> list[Path]:
    files = [folder / f"{name}{suffix}" for suffix in WRITTEN]
    return [file for file in files if file.exists()]


def _make_way(folders: Sequence[Path], out: Path, note: str) -> None:
    """Predictions of another run move from `out` to beside it; this run's come back from there."""
    # The truth of an image is written first: where it is missing, nothing is there.
    notes = {_note_of(f) for folder in folders for f in _there(folder, "truth")}
    others = sorted(notes - {note})
    if not others:
        return
    other, kept = _beside(out, others[0]), _beside(out, note)
    if other.exists():
        raise FileExistsError(
            f"{out} and {other} both hold predictions of {others[0] or 'an unknown run'}; move one "
            "of them away"
        )
    out.rename(other)
    if kept.exists():
        kept.rename(out)
    warnings.warn(
        f"{out} held predictions of {others[0] or 'an unknown run'}, which are now in {other}: "
        f"this is {note}",
        stacklevel=3,
    )


def _beside(out: Path, note: str) -> Path:
    return out.with_name(f"{out.name}-{note.rpartition(' ')[2] or 'unknown'}")


def _note_of(file: Path) -> str:
    """The run that a prediction names; empty for what names none or cannot be read."""
    try:
        if file.suffix == ".png":
            with Image.open(file) as picture:
                return str(picture.info.get(NOTE, ""))
        if file.suffix == ".tif":
            with tifffile.TiffFile(file) as stack:
                return stack.pages.first.description
        from nibabel import Nifti1Image

        return Nifti1Image.from_filename(file).header["descrip"].item().decode()
    except Exception:  # readers raise whatever they meet in a damaged file
        return ""


def _pixels(entry: Entry, first: Path, how: str) -> Float[ndarray, "channel *space"]:
    """The channels of one image as the network saw them; Unusable where it saw none."""
    if None in entry.images:
        raise Unusable(f"{first}: a channel of {entry.name} is missing; add its file")
    channels = np.concatenate([read_image(f).array for f in entry.images if f is not None])
    return normalised(channels, how, first)


def _volume(file: Path) -> bool:
    return ".nii" in file.name.lower()


def _arrays(found: VolumePrediction, names: list[str]) -> Iterator[tuple[str, ndarray]]:
    yield "truth", found.probs.argmax(0).astype(np.uint8)
    if found.noisy_probs is not None:
        for name, noisy in zip(file_names(names), found.noisy_probs, strict=True):
            yield f"annotator_{name}", noisy.argmax(0).astype(np.uint8)
    yield "uncertainty", found.uncertainty


def _write(
    file: Path,
    array: Float[ndarray, "z y x"] | ndarray,
    image: Path | None,
    note: str,
    colours: Sequence[str],
) -> None:
    """`array` as `file`, to which the suffix of its kind is added: NIfTI if `image` is one."""
    if image is not None and _volume(image):
        from data_prep.formats import volumes

        grid = volumes.read_volume(image)
        back = volumes.to_input_grid(np.ascontiguousarray(array.T), grid, array.dtype == np.uint8)
        volumes.write_nifti(file.with_name(f"{file.name}.nii.gz"), back, grid.source[1], note)
        return
    pages = array if array.dtype == np.uint8 else (255 * array).round().astype(np.uint8)
    pages = pages.reshape(-1, *pages.shape[-2:])  # a picture is one page
    if len(pages) > 1:
        with replacing(file.with_name(f"{file.name}.tif")) as part:
            tifffile.imwrite(part, pages, photometric="minisblack", description=note)
        return
    picture, text = Image.fromarray(pages[0]), PngImagePlugin.PngInfo()
    if array.dtype == np.uint8 and colours:
        picture.putpalette([round(255 * v) for c in colours for v in to_rgb(c)])
    text.add_text(NOTE, note)
    with replacing(file.with_name(f"{file.name}.png")) as part:
        picture.save(part, format="png", pnginfo=text)
