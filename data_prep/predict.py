"""A trained run over whole NIfTI volumes: truth, every annotator and uncertainty as NIfTI.

The images are brought to the spacing and the normalisation of the training data, the model goes
through the axial slices (or the volume), and everything is brought back to the grid, orientation
and affine of the first image.

    python -m data_prep.predict --run runs/ms/… --images flair.nii.gz t1.nii.gz --out prediction
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_prep import volumes
from noisyseg.data import load_dataset
from noisyseg.predict import VolumePrediction, predict_volume
from noisyseg.recipes import build_model
from noisyseg.results import Run, is_done, read_config


def load_run(folder: Path) -> Run:
    """The finished run in `folder`; FileNotFoundError for anything else."""
    folder = Path(folder)
    if not is_done(folder):
        raise FileNotFoundError(f"{folder} is no finished run: give runs/<experiment>/<run>")
    return Run(read_config(folder), folder, build_model)


def training_spacing(run: Run) -> float | None:
    """mm of the pixels that the run was trained on; None where its data are not known here."""
    try:
        spacing = load_dataset(run.config.dataset).spacing_mm
    except FileNotFoundError:
        return None
    return None if spacing is None else float(spacing[-1])


def predict_files(
    run: Run,
    images: Sequence[Path],
    out: Path,
    spacing_mm: float | None = None,
    patch: tuple[int, int, int] | None = None,
) -> dict[str, Path]:
    """Write `truth`, `uncertainty` and `annotator_<name>` as .nii.gz into `out`; returns them.

    `images`: one file a channel, in the order of the training data's channels, on one grid.
    `spacing_mm`: None takes that of the training data. Raises ValueError for a wrong number of
    images and what `volumes` refuses.
    """
    shape = run.provenance["shape"]
    if len(images) != shape["channels"]:
        raise ValueError(
            f"{len(images)} images, but the run was trained on {shape['channels']} channels: give "
            "one file for each, in their order"
        )
    scans = [volumes.read_volume(file) for file in images]
    volumes.same_grid({f"{v.file} ({n + 1})": v for n, v in enumerate(scans)})
    spacing = spacing_mm or training_spacing(run)
    if spacing is None:
        raise ValueError("the training data has no spacing or is not here; give --spacing in mm")
    ready = [volumes.resample(volumes.normalise(v), (spacing,) * 3) for v in scans]
    found = predict_volume(run.model(), volumes.axial(volumes.stack(ready)).swapaxes(0, 1),
                           axis=0, patch=patch)  # fmt: skip
    return _write(found, ready[0], out, shape)


def _write(found: VolumePrediction, on: volumes.Volume, out: Path, shape: dict) -> dict[str, Path]:
    affine = on.source[1]
    probs = _back(found.probs, on)
    entropy = VolumePrediction(probs / probs.sum(0), None).uncertainty
    arrays = {"truth": probs.argmax(0).astype(np.uint8), "uncertainty": entropy}
    if found.noisy_probs is not None:
        for name, noisy in zip(shape["annotators"], found.noisy_probs, strict=True):
            label = _back(noisy, on).argmax(0).astype(np.uint8)
            arrays["annotator_" + re.sub(r"[^\w.-]+", "_", name)] = label
    return {
        name: volumes.write_nifti(Path(out) / f"{name}.nii.gz", array, affine)
        for name, array in arrays.items()
    }


def _back(
    pictures: Float[ndarray, "class z y x"], on: volumes.Volume
) -> Float[ndarray, "class x y z"]:
    """Axial pictures as volumes on the grid and in the orientation of the input file."""
    turned = pictures[:, :, ::-1].transpose(0, 3, 2, 1)
    return np.stack([volumes.to_input_grid(one, on) for one in turned])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    parser = argparse.ArgumentParser(
        "python -m data_prep.predict", None, __doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="a finished run: runs/<experiment>/<run>")
    add("--images", type=Path, nargs="+", required=True, help="one NIfTI file a channel")
    add("--out", type=Path, required=True, help="folder to write to")
    add("--spacing", type=float, help="mm (default: that of the training data)")
    add("--patch", type=int, nargs=3, help="voxels of a patch, for 3-D models (needs monai)")
    args = parser.parse_args(arguments)
    try:
        patch = None if args.patch is None else tuple(args.patch)
        written = predict_files(load_run(args.run), args.images, args.out, args.spacing, patch)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print("\n".join(map(str, written.values())))


if __name__ == "__main__":
    main()
