"""A trained run over whole NIfTI volumes: truth, every annotator and uncertainty as NIfTI.

The files become the same arrays as those that the run was trained on (spacing, normalisation,
orientation: what the prepared folder notes), the model goes through the slices (or the volume),
and everything is brought back to the grid, orientation and affine of the first image.

    python -m data_prep.predict --run runs/ms/… --images flair.nii.gz t1.nii.gz --out prediction
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from data_prep import cases
from data_prep.cases import Input
from data_prep.command import add_limit, one_line_errors, parser_of
from data_prep.fitting import as_it_is, predict_fitted, turned
from data_prep.folders.slicing import normalised
from data_prep.formats import volumes
from data_prep.formats.pictures import to_space
from noisyseg.runs import Run, damage, is_done, read_config

if TYPE_CHECKING:
    from noisyseg.predict import VolumePrediction  # torch takes seconds to import

NO_VOLUMES = {
    "lidc": "crops about nodules, from DICOM or outlines",
    "mnist": "single digits",
    "coloured": "single digits",
}


def load_run(folder: Path) -> Run:
    """The finished run in `folder`, or the only one inside of it, as in a report's folder.

    FileNotFoundError for no finished run, ValueError for several.
    """
    folder = Path(folder).expanduser()
    if not is_done(folder):
        inside = sorted(file.parent for file in folder.glob("**/DONE"))
        if not inside:
            raise FileNotFoundError(f"{folder} is no finished run: give runs/<experiment>/<run>")
        if len(inside) > 1:
            raise ValueError(f"{folder} holds {len(inside)} runs: give one, such as {inside[0]}")
        (folder,) = inside
    found = damage(folder)
    if found:
        raise ValueError(f"{folder} is damaged: {found}; train it again with noisyseg.run(config)")
    from noisyseg.build import build_model

    return Run(read_config(folder), folder, build_model)


def input_of(run: Run, spacing_mm: float | None = None) -> Input:
    """How files become images for `run`; `spacing_mm` along every axis, if given, instead of its.

    ValueError for a spacing that is none, and for a run on what were no volumes.
    """
    if spacing_mm is not None and not 0 < spacing_mm < np.inf:
        raise ValueError(f"--spacing {spacing_mm:g}: give millimetres, a finite number above 0")
    made = cases.noted(run.provenance["shape"]["sources"])
    if made is None:
        name = Path(run.config.dataset).name
        what = NO_VOLUMES.get(name, "arrays that no file is said to have become")
        raise ValueError(
            f"{run.path} was trained on {name}, {what}: no NIfTI volume becomes such an image; "
            "give noisyseg.predict_volume an array prepared alike"
        )
    if made.reader == cases.PICTURES:
        raise ValueError(
            f"{run.path} was trained on PNG or TIFF pictures, so a NIfTI volume is no input for "
            "it; `python -m noisyseg.report` predicts folders of pictures"
        )
    return made if spacing_mm is None else made._replace(spacing_mm=spacing_mm)


def network_input(
    scans: Sequence[volumes.Volume], made: Input
) -> tuple[Float[ndarray, "channel z y x"], volumes.Volume]:
    """What becomes of `scans`, one a channel, before it is padded, and a volume on that grid.

    `Unusable` for a scan that is constant.
    """
    if made.reader == cases.VOLUMES:
        ready = [_respaced(volumes.normalise(scan), made) for scan in scans]
        # Prepared slices are stored in half precision.
        stored = volumes.stack(ready).astype(np.float16).astype(np.float32)
        return _turn(volumes.axial(stored).swapaxes(0, 1)), ready[0]
    ready = [_respaced(scan, made) for scan in scans]
    channels = np.stack([to_space(scan.array) for scan in ready])
    return normalised(channels, made.normalise, scans[0].file), ready[0]


def _respaced(scan: volumes.Volume, made: Input) -> volumes.Volume:
    if made.spacing_mm is None:
        return scan
    if isinstance(made.spacing_mm, int | float):
        return volumes.resample(scan, (made.spacing_mm,) * 3)
    # Those of the training data, of the last axes of (z, y, x), which may differ a little.
    given = tuple(made.spacing_mm)[::-1]
    if np.allclose(given, scan.spacing[: len(given)], rtol=1e-3):
        return scan
    return volumes.resample(scan, (*given, *scan.spacing[len(given) :]))


def predict_files(
    run: Run,
    images: Sequence[Path],
    out: Path,
    spacing_mm: float | None = None,
    patch: tuple[int, int, int] | None = None,
) -> dict[str, Path]:
    """Write `truth`, `uncertainty` and `annotator_<name>` as .nii.gz into `out`; returns them.

    `images`: one file per channel, in the order of the training data's channels, on one grid.
    `spacing_mm`: None takes that of the training data. Raises ValueError for a wrong number of
    images, what `input_of` and what `volumes` refuse.
    """
    shape = run.provenance["shape"]
    if len(images) != shape["channels"]:
        raise ValueError(
            f"{len(images)} images, but the run was trained on {shape['channels']} channels: give "
            "one file for each, in their order"
        )
    made = input_of(run, spacing_mm)
    scans = [volumes.read_volume(file) for file in images]
    volumes.same_grid({f"{v.file} ({n + 1})": v for n, v in enumerate(scans)})
    array, grid = network_input(scans, made)
    return _write(fitted(run, array, made, patch), grid, out, shape)


def fitted(
    run: Run,
    array: Float[ndarray, "channel z y x"],
    made: Input,
    patch: tuple[int, int, int] | None = None,
) -> "VolumePrediction":
    """What `run` says of an array of `network_input`, padded and turned as in its training.

    With a `patch` the network sees patches of that size and no padding.
    """
    by_readers = made.reader == cases.VOLUMES
    turn = _turn if by_readers else as_it_is
    if patch is not None:
        from noisyseg.predict import predict_volume

        return turned(predict_volume(run.model(), turn(array), axis=0, patch=patch), turn)
    return predict_fitted(run.model(), array, made.size, fill=0 if by_readers else None, turn=turn)


def _turn(array: ndarray) -> ndarray:
    """Rows from the front to the back, as the readers of MS and BraTS lay them, and back again."""
    return array[..., ::-1, :]


def _write(
    found: "VolumePrediction", on: volumes.Volume, out: Path, shape: dict[str, Any]
) -> dict[str, Path]:
    affine = on.source[1]
    probs = _back(found.probs, on)
    from noisyseg.predict import VolumePrediction

    entropy = VolumePrediction(probs / probs.sum(0), None).uncertainty
    arrays = {"truth": probs.argmax(0).astype(np.uint8), "uncertainty": entropy}
    if found.noisy_probs is not None:
        names = cases.file_names(shape["annotators"])
        for name, noisy in zip(names, found.noisy_probs, strict=True):
            arrays[f"annotator_{name}"] = _back(noisy, on).argmax(0).astype(np.uint8)
    return {
        name: volumes.write_nifti(Path(out) / f"{name}.nii.gz", array, affine)
        for name, array in arrays.items()
    }


def _back(
    probs: Float[ndarray, "class z y x"], on: volumes.Volume
) -> Float[ndarray, "class x y z"]:
    """Volumes on the grid and in the orientation of the input file."""
    return np.stack([volumes.to_input_grid(one.T, on) for one in probs])


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; a data error ends it with one line and exit status 1."""
    parser = parser_of("data_prep.predict", __doc__)
    add = parser.add_argument
    add(
        "--run",
        type=Path,
        required=True,
        help="a finished run: runs/<experiment>/<run>, or a report",
    )
    add("--images", type=Path, nargs="+", required=True, help="one NIfTI file a channel")
    add("--out", type=Path, required=True, help="folder to write to")
    add("--spacing", type=float, help="mm (default: that of the training data)")
    add_limit(parser)
    add("--patch", type=int, nargs=3, help="voxels of a patch, for 3-D models (needs monai)")
    args = parser.parse_args(arguments)
    with one_line_errors(args.max_gb):
        patch = None if args.patch is None else tuple(args.patch)
        written = predict_files(load_run(args.run), args.images, args.out, args.spacing, patch)
    print("\n".join(map(str, written.values())))


if __name__ == "__main__":
    main()
