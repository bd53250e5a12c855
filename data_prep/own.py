"""A raw folder of one's own: found, prepared, and predicted back into files of its own kind.

Layout: `images/` (or `images_t1/`, `images_t2/`, ... for channels on one grid) and one folder
of masks an annotator beside it, files matched by name; `truth/` if there is a reference. All
options of `data_prep.folders` need that command; this is its short form.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.colors import to_rgb
from numpy import ndarray
from PIL import Image
from tqdm.auto import tqdm

from data_prep import folders
from data_prep.cases import Unusable
from data_prep.pictures import read_image
from data_prep.plans import Plan, plan_folders
from data_prep.slicing import normalised
from data_prep.survey import Entry
from noisyseg.overlays import CLASS_COLOURS
from noisyseg.predict import VolumePrediction, predict_volume
from noisyseg.results import Run, replacing

LAYOUT = (
    "expected images/ (or images_t1/, images_t2/ for channels) and beside it one folder of masks "
    "for each annotator, with the same file names"
)
SUFFIX = re.compile(r"\.(nii\.gz|nii|png|tiff?)$", re.I)


def plan_of(source: Path) -> Plan:
    """Which file of `source` is what; ValueError naming the layout that was expected."""
    found = sorted(p for p in source.iterdir() if p.is_dir() and not p.name.startswith("."))
    images = [p for p in found if re.fullmatch(r"images(_.+)?", p.name)]
    truth = next((p for p in found if p.name == "truth"), None)
    annotators = {p.name: p for p in found if p not in (*images, truth)}
    if not images or not annotators:
        there = ", ".join(p.name for p in found) or "no folder"
        raise ValueError(f"{source} holds {there}; {LAYOUT}")
    plan = plan_folders(images, annotators, truth)
    lacking = sum(entry.truth is None for entry in plan.entries)
    if truth is None or not lacking:
        return plan
    # A reference is for the last table only; it must not decide which images are learned from.
    note = f"{truth}: lacks {lacking} of {len(plan.entries)} images, so no reference is used"
    return plan_folders(images, annotators)._replace(remarks=(note,))


def prepare_own(source: Path, out: Path, origin: str = "real") -> list[str]:
    """Write the prepared folder `out` of a raw folder; returns what the files were taken for."""
    result = folders.prepare(out, plan_of(source), size="largest", name=source.name, origin=origin)
    return [line.replace(str(out), out.name) for line in (str(result.report), *result.notes)]


def predict_own(run: Run, source: Path, out: Path) -> int:
    """Write for every image its truth, uncertainty and every annotator's expected mask.

    NIfTI for NIfTI, on the grid and with the affine of the image; else PNG: class maps with
    their class indices as palette indices, uncertainty as grey (255 = largest). Files already
    there are left alone; an image that cannot be used is passed over. Returns their number.
    """
    model, names = run.model(), run.provenance["shape"]["annotators"]
    entries, written = plan_of(source).entries, 0
    for entry in tqdm(entries, desc="predictions", disable=None, leave=False):
        # The last file of an image is written last, so it tells whether all are there.
        first = next(file for file in entry.images if file is not None)
        folder, suffix = out / entry.name, ".nii.gz" if _volume(first) else ".png"
        if (folder / f"uncertainty{suffix}").exists():
            written += 1
            continue
        try:
            pixels = _pixels(entry, first)
        except Unusable:  # left out of the prepared folder as well, and named in its notes
            continue
        flat = pixels if pixels.ndim == 4 else pixels[:, None]
        found = predict_volume(model, flat, axis=0)
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in _arrays(found, names):
            _write(folder / f"{name}{suffix}", array, first)
        written += 1
    return written


def _pixels(entry: Entry, first: Path) -> Float[ndarray, "channel *space"]:
    """The channels of one image as the network saw them; Unusable where it saw none."""
    if None in entry.images:
        raise Unusable(f"{first}: a channel of {entry.name} is missing; add its file")
    channels = np.concatenate([read_image(f).array for f in entry.images if f is not None])
    return normalised(channels, "zscore", first)


def _volume(file: Path) -> bool:
    return ".nii" in file.name.lower()


def _arrays(found: VolumePrediction, names: list[str]) -> Iterator[tuple[str, ndarray]]:
    yield "truth", found.probs.argmax(0).astype(np.uint8)
    if found.noisy_probs is not None:
        for name, noisy in zip(names, found.noisy_probs, strict=True):
            yield "annotator_" + re.sub(r"[^\w.-]+", "_", name), noisy.argmax(0).astype(np.uint8)
    yield "uncertainty", found.uncertainty


def _write(file: Path, array: Float[ndarray, "z y x"] | ndarray, image: Path) -> None:
    if _volume(image):
        from data_prep import volumes

        grid = volumes.read_volume(image)
        back = volumes.to_input_grid(np.ascontiguousarray(array.T), grid, array.dtype == np.uint8)
        volumes.write_nifti(file, back, grid.source[1])
        return
    with replacing(file) as part:
        if array.dtype == np.uint8:
            picture = Image.fromarray(array[0])
            picture.putpalette([round(255 * v) for c in CLASS_COLOURS for v in to_rgb(str(c))])
        else:
            picture = Image.fromarray((255 * array[0]).round().astype(np.uint8))
        picture.save(part, format="png")
