"""Two example folders of "one's own data", to see the layout and to try notebook 40 on.

`png`: digits as PNG; anna draws too large, ben too small, cleo well, but only a third of them.
`nifti`: nodules as small 3-D NIfTI volumes outlined by four real readers (LIDC-IDRI), with
rendered CT on an oblique grid. No folder holds a truth.

    python -m data_prep.examples png --out FOLDER
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.eulerangles import euler2mat
from PIL import Image

from data_prep.command import one_line_errors, parser_of
from data_prep.lidc.contours import Settings, middle_slices, pictures_of
from data_prep.lidc.database import read_embedded
from noisyseg.data.dataset import load_dataset
from noisyseg.simulate import simulate_labels
from noisyseg.storage import locked, move_into_place

# What each annotator of the digits does, so that the report's sentences can be checked.
HABITS = {"anna": "over@1.5", "ben": "under@1", "cleo": "good"}
PARTIAL = ("cleo", 3)  # labelled every third image only
SLICES = 6  # of each nodule, the middle ones
TILT = (0.1, -0.15, 0.2)  # radians, so that no axis of the grid is one of the patient's


def write_png(out: Path, images: int = 600) -> None:
    """`images/` and one folder per annotator, PNG of 28 x 28 pixels; masks hold 0 and 255."""
    data = load_dataset("mnist").split("train", limit=images)
    labels = simulate_labels(data.read_truth(), data.image_ids, tuple(HABITS.values()), seed=0)
    pixels = np.clip(data.read_images()[:, 0], 0, 1)
    for folder in ("images", *HABITS):
        (out / folder).mkdir(parents=True)
    for n, picture in enumerate(pixels):
        name = f"digit{n:03d}.png"
        Image.fromarray((255 * picture).astype(np.uint8)).save(out / "images" / name)
        for r, annotator in enumerate(HABITS):
            if annotator != PARTIAL[0] or n % PARTIAL[1] == 0:
                mask = 255 * labels[n, r].astype(np.uint8)
                Image.fromarray(mask).save(out / annotator / name)


def write_nifti(out: Path, volumes: int = 120) -> None:
    """`images/` and `reader1/` to `reader4/`, .nii.gz of 64 x 64 x 6 in mm, oblique affine.

    One nodule a patient; slices as far apart as in the scan they are from.
    """
    readers, settings = read_embedded(), Settings(reference="latent", slices_per_nodule=SLICES)
    thick = np.flatnonzero(np.bincount(readers.nodule) >= SLICES)
    _, first = np.unique(readers.patient[thick], return_index=True)
    for nodule in thick[np.sort(first)][:volumes]:
        rows = middle_slices(readers, nodule, SLICES)
        apart = float(np.diff(readers.z_mm[rows]).mean())
        across = float(readers.spacing_mm[nodule])
        axes = euler2mat(*TILT) * np.array([-across, -across, apart])
        affine = nib.affines.from_matvec(axes, [50.0, 20.0, 5.0])
        name = f"LIDC-IDRI-{readers.patient[nodule]:04d}.nii.gz"
        pixels, _ = pictures_of(readers, rows, settings)
        _save(pixels.astype(np.float32), affine, out / "images" / name)
        for r in range(readers.masks.shape[1]):
            _save(readers.masks[rows, r].astype(np.uint8), affine, out / f"reader{r + 1}" / name)


def _save(slices: np.ndarray, affine: np.ndarray, file: Path) -> None:
    """(slice, height, width) as a volume whose axes are left, back and up before the tilt."""
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(np.ascontiguousarray(slices.transpose(2, 1, 0)), affine).to_filename(file)


EXAMPLES: dict[str, Callable[[Path], None]] = {"png": write_png, "nifti": write_nifti}


def example(kind: str, out: str | Path) -> Path:
    """The example folder `out` of `kind`, written if it is not there; returns it.

    Raises ValueError for an unknown kind and FileExistsError for a folder of something else.
    """
    if kind not in EXAMPLES:
        raise ValueError(f"no example {kind!r}; there are: {', '.join(EXAMPLES)}")
    out = Path(out).expanduser().absolute()
    with locked(out):
        if (out / "images").is_dir():
            return out
        if out.exists() and any(out.iterdir()):
            raise FileExistsError(f"{out} holds something else; give another --out")
        part = out.with_name(out.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        EXAMPLES[kind](part)
        move_into_place(part, out)
        shutil.rmtree(part, ignore_errors=True)
    return out


def main(arguments: list[str] | None = None) -> None:
    """Command line; an error ends it with one line and exit status 1."""
    parser = parser_of("data_prep.examples", __doc__)
    parser.add_argument("kind", choices=EXAMPLES)
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    args = parser.parse_args(arguments)
    with one_line_errors():
        folder = example(args.kind, args.out)
    print(f"{folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")


if __name__ == "__main__":
    main()
