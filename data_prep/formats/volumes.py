"""NIfTI volumes: read in one orientation, resampled, normalised, cropped, and written back.

Everything geometric comes from the header's affine. A volume is turned to the closest
canonical orientation (axes to right, anterior, superior); an oblique one stays oblique, so
that slices are the scanner's own. `to_input_grid` undoes all of it for a prediction.
"""

import gzip
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float32, Int
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from nibabel.spatialimages import HeaderDataError
from numpy import ndarray
from scipy import ndimage

from data_prep.cases import Unusable
from data_prep.formats import size
from noisyseg.storage import write_bytes

TOLERANCE_MM = 1e-3  # or a hundredth of a voxel, where voxels are below a tenth of a mm
SMALLEST_MM = 1e-6  # a nanometre: what is smaller is no voxel
MM_PER_UNIT = {1: 1000.0, 3: 0.001}  # xyzt_units: metre, micron; 2 is mm, as is what is unknown
NEAR_WHOLE = 0.02  # a slope leaves 0.996 where 1 was meant
TRAILING = 1 << 20  # bytes that may follow the last voxel
Affine = Float[ndarray, "4 4"]
DAMAGED = (nib.filebasedimages.ImageFileError, HeaderDataError, OSError, EOFError, zlib.error)


class Volume(NamedTuple):
    """`array` (x, y, z) with `affine` from voxels to mm; `spacing` in mm.

    `file` is where it came from, `source` that file's own shape and affine (to mm as well,
    whatever unit its header counts in). `is_scaled`: whole numbers in the file, multiplied by a
    slope.
    """

    array: Float32[ndarray, "x y z"]
    affine: Affine
    spacing: tuple[float, float, float]
    file: Path
    source: tuple[tuple[int, ...], Affine]
    is_scaled: bool = False


def read_volume(file: Path) -> Volume:
    """One volume in closest canonical orientation, scaled as its header says.

    Raises `Unusable` for a file that is missing, truncated, no NIfTI, not three-dimensional,
    empty, without a usable affine, or holds NaN or infinite voxels.
    """
    image = _open(Path(file))
    array = _pixels(image, Path(file))
    affine = _affine_mm(image)
    _check_affine(affine, Path(file))
    turned = apply_orientation(array, io_orientation(affine))
    canonical = affine @ inv_ornt_aff(io_orientation(affine), array.shape)
    spacing = tuple(float(mm) for mm in np.linalg.norm(canonical[:3, :3], axis=0))
    source = (array.shape, affine)
    scaled = image.get_data_dtype().kind in "iu" and image.dataobj.slope != 1
    return Volume(np.ascontiguousarray(turned), canonical, spacing, Path(file), source, scaled)


def _open(file: Path) -> nib.Nifti1Image:
    if not file.exists():
        raise Unusable(f"{file}: missing; restore it or remove the case")
    if file.is_dir():
        raise Unusable(f"{file}: a folder where a NIfTI file should be; unpack the archive again")
    try:
        image = nib.load(file, mmap=False)  # a file that changes under a map kills the process
    except DAMAGED as error:
        raise Unusable(f"{file}: no readable NIfTI file ({error}); get it again") from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti1Pair):
        raise Unusable(f"{file}: a {type(image).__name__}; give NIfTI (.nii or .nii.gz)")
    size.check(file, image.shape, image.get_data_dtype().itemsize, size.VOLUME_GB)
    _check_gzip(image, file)
    return image


def _check_gzip(image: nib.Nifti1Image, file: Path) -> None:
    # nibabel stops at the last voxel and never comes to the checksum, which stands behind it.
    for part in {str(holder.filename) for holder in image.file_map.values()}:
        if not part.lower().endswith(".gz"):
            continue
        try:
            seen, most = 0, _announced_bytes(image)
            with gzip.open(part) as stream:
                for piece in iter(lambda: stream.read(1 << 20), b""):
                    seen += len(piece)
                    if seen > most:
                        raise OSError(f"{most} bytes announced, and more follow")
        except (OSError, EOFError, zlib.error) as error:
            raise Unusable(f"{file}: cannot be read to its end ({error}); get it again") from error


def _announced_bytes(image: nib.Nifti1Image) -> int:
    """The most that the unpacked file can hold: its header, extensions and voxels."""
    voxels = int(np.prod(image.shape, dtype=object)) * image.get_data_dtype().itemsize
    return int(image.dataobj.offset) + voxels + TRAILING


def _affine_mm(image: nib.Nifti1Image) -> Affine:
    unit = MM_PER_UNIT.get(int(image.header["xyzt_units"]) % 8, 1.0)
    affine = np.array(image.affine, float)
    affine[:3] *= unit
    return affine


def _pixels(image: nib.Nifti1Image, file: Path) -> Float32[ndarray, "x y z"]:
    shape = image.shape
    if len(shape) > 3 and set(shape[3:]) == {1}:
        shape = shape[:3]
    if len(shape) != 3 or 0 in shape:
        raise Unusable(_no_volume(file, image.shape))
    if image.get_data_dtype().kind not in "iuf":
        raise Unusable(f"{file}: voxels are {image.get_data_dtype()}; give one real number each")
    try:
        with np.errstate(over="ignore"):  # what does not fit becomes infinite and is refused
            array = np.asarray(image.dataobj, np.float32).reshape(shape)
    except (*DAMAGED, ValueError) as error:
        raise Unusable(f"{file}: its voxels cannot be read ({error}); get it again") from error
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise Unusable(f"{file}: {bad} voxels are NaN or infinite; mend them")
    return array


def _no_volume(file: Path, shape: tuple[int, ...]) -> str:
    text = f"{file}: shape is {shape}; a volume has three axes, none empty: "
    if 0 in shape or not shape:
        return text + "get the file again"
    if len(shape) < 3:
        return text + "add an axis of length 1 and save it again, or save it as PNG or TIFF"
    folders = ", ".join(f"images_{n + 1}/" for n in range(min(2, shape[3]))) + ", ..."
    return text + (
        f"its {shape[3]} volumes are channels or times; save each as one file, in {folders}"
    )


def _check_affine(affine: Affine, file: Path) -> None:
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or steps.min() < SMALLEST_MM:
        raise Unusable(f"{file}: affine {affine[:3].tolist()} is singular; correct the header")
    columns = affine[:3, :3] / steps
    if abs(columns.T @ columns - np.eye(3)).max() > 1e-2:
        raise Unusable(f"{file}: its axes are sheared, not at right angles; resample it first")


def read_mask(file: Path, allowed: Iterable[int]) -> Volume:
    """A label map; `Unusable` for values that are not whole or not in `allowed`."""
    volume = read_volume(file)
    whole = np.rint(volume.array)
    if volume.is_scaled and abs(whole - volume.array).max() < NEAR_WHOLE:
        volume = volume._replace(array=whole)
    values = np.unique(volume.array)
    wrong = sorted(set(values.tolist()) - {float(v) for v in allowed})
    if wrong:
        raise Unusable(
            f"{file}: holds {', '.join(f'{v:g}' for v in wrong[:5])}; a mask here has "
            f"{', '.join(map(str, allowed))} only"
        )
    return volume


def same_grid(volumes: Mapping[str, Volume], slack: float = 0.0) -> float:
    """`Unusable` with both shapes or affines unless all volumes lie on one grid.

    Corners may lie `slack` of a voxel apart. Returns the gap in mm where it is not negligible,
    else 0.
    """
    (first, base), *rest = volumes.items()
    widest = 0.0
    for name, other in rest:
        if other.array.shape != base.array.shape:
            raise Unusable(
                f"{name} has shape {other.array.shape}, {first} has {base.array.shape}: they must "
                "lie on one grid; resample one to the other"
            )
        corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(base.array.shape) - 1)
        gap = abs(
            nib.affines.apply_affine(base.affine, corners)
            - nib.affines.apply_affine(other.affine, corners)
        ).max()
        if gap <= min(TOLERANCE_MM, 0.01 * min(base.spacing)):
            continue
        if not gap <= slack * min(base.spacing):
            raise Unusable(_apart(name, other, first, base, gap))
        widest = max(widest, float(gap))
    return widest


def _apart(name: str, other: Volume, first: str, base: Volume, gap: float) -> str:
    text = (
        f"{name} and {first} lie {gap:.3g} mm apart (affines {_short(other.affine)} and "
        f"{_short(base.affine)}); "
    )
    plain = [np.allclose(v.source[1], np.eye(4)) for v in (other, base)]
    if any(plain) and not all(plain):
        without = (name, first) if plain[0] else (first, name)
        return text + (
            f"{without[0]} has no affine of its own (the identity): if it was drawn on "
            f"{without[1]}, copy that file's affine to it; else register or resample one"
        )
    return text + "register or resample one to the other"


def _short(affine: Affine) -> str:
    """The steps of the axes and the origin, enough to tell two grids apart."""
    return str([[round(float(v), 4) for v in row] for row in affine[:3]])


def resample(volume: Volume, spacing_mm: Sequence[float], order: int = 1) -> Volume:
    """`volume` at `spacing_mm` along its own axes; the outer faces stay where they are.

    Where voxels become larger the volume is smoothed first, so that nothing aliases.
    """
    shape = np.array(volume.array.shape)
    extent = shape * volume.spacing
    new = np.maximum(1, np.rint(extent / spacing_mm)).astype(int)
    step = extent / new / volume.spacing  # old voxels to a new one
    if np.allclose(step, 1):
        return volume
    smooth = ndimage.gaussian_filter(volume.array, np.where(step > 1, step / 2.355, 0))
    shift = (step - 1) / 2
    array = ndimage.affine_transform(
        smooth, step, shift, tuple(new), order=order, mode="nearest", output=np.float32
    )
    affine = volume.affine @ np.vstack([np.column_stack([np.diag(step), shift]), [0, 0, 0, 1]])
    spacing = tuple(float(s) for s in np.array(volume.spacing) * step)
    return volume._replace(array=array, affine=affine, spacing=spacing)


def resample_mask(volume: Volume, spacing_mm: Sequence[float]) -> Volume:
    """A label map at `spacing_mm`: at each point the value with the largest share of it."""
    values = np.unique(volume.array)
    best, result = None, None
    for value in values:
        inside = volume._replace(array=(volume.array == value).astype(np.float32))
        share = resample(inside, spacing_mm)
        if best is None:
            best, result = share.array, share._replace(array=np.full_like(share.array, value))
            continue
        result.array[share.array > best] = value
        best = np.maximum(best, share.array)
    return result


def normalise(volume: Volume) -> Volume:
    """Mean 0 and sd 1 over the voxels that are not 0; the others stay 0.

    `Unusable` for a volume that is empty or constant.
    """
    inside = volume.array != 0
    values = volume.array[inside].astype(np.float64)
    if values.size == 0 or values.std() == 0:
        what = f"{values[0]:g}" if values.size else "0"
        raise Unusable(f"{volume.file}: every voxel that is not background is {what}; get it again")
    array = np.where(inside, (volume.array - values.mean()) / values.std(), 0)
    return volume._replace(array=array.astype(np.float32))


def centre(
    array: ndarray, size: Sequence[int], around: Sequence[int] | None = None, fill: float = 0
) -> ndarray:
    """The first two axes cropped or padded with `fill` to `size`, about the voxel `around`
    (default: the middle)."""
    for axis, start in enumerate(_starts(array.shape, size, around)):
        index, have = start + np.arange(size[axis]), array.shape[axis]
        array = array.take(index.clip(0, have - 1), axis)
        array[(slice(None),) * axis + ((index < 0) | (index >= have),)] = fill
    return array


def _starts(have: Sequence[int], size: Sequence[int], around: Sequence[int] | None) -> list[int]:
    if around is None:
        return [int((n - wanted) / 2) for n, wanted in zip(have, size, strict=False)]
    return [middle - wanted // 2 for middle, wanted in zip(around, size, strict=True)]


def crop(volume: Volume, size: Sequence[int], around: Sequence[int] | None = None) -> Volume:
    """`centre` of a volume, its affine moved along: `to_input_grid` undoes it."""
    shift = np.eye(4)
    shift[:2, 3] = _starts(volume.array.shape, size, around)
    return volume._replace(array=centre(volume.array, size, around), affine=volume.affine @ shift)


def cut(
    array: Float[ndarray, "channel x y z"], keep: Int[ndarray, " slice"], size: Sequence[int]
) -> Float[ndarray, "slice channel y x"]:
    """The axial slices `keep` as pictures, their middle cropped or padded to `size` (x, y)."""
    kept = np.moveaxis(array[..., keep], 0, 2)  # centre works on the first two axes
    return axial(np.moveaxis(centre(kept, size), 2, 0))


def axial(array: Float[ndarray, "*lead x y z"]) -> Float[ndarray, "z *lead y x"]:
    """Axial slices as pictures: rows from anterior to posterior, columns along x."""
    return np.moveaxis(array, -1, 0).swapaxes(-1, -2)[..., ::-1, :]


def to_input_grid(array: Float[ndarray, "x y z"], on: Volume, is_mask: bool = False) -> ndarray:
    """`array` on the grid of `on`, as an array on the grid and orientation of `on.file`.

    Masks take the nearest voxel, everything else is interpolated linearly. Where `on` does not
    reach because it was cropped, the result is 0. ValueError for an array of another grid.
    """
    if array.shape != on.array.shape:
        raise ValueError(f"the array is {array.shape}, its grid {on.array.shape}; give both alike")
    shape, affine = on.source
    step = np.linalg.inv(on.affine) @ affine
    onto = {"matrix": step[:3, :3], "offset": step[:3, 3], "output_shape": shape}
    moved = ndimage.affine_transform(array, **onto, order=0 if is_mask else 1, mode="nearest")
    # Up to the outer faces of the voxels, not their middles: nothing is lost at the rim.
    reached = ndimage.affine_transform(
        np.ones(array.shape, np.uint8), **onto, order=0, mode="grid-constant"
    )
    return np.where(reached == 1, moved, 0).astype(array.dtype)


def write_nifti(file: Path, array: ndarray, affine: Affine, note: str = "") -> Path:
    """`array` with `affine` as NIfTI, by rename: an interrupted call leaves no half file.

    The same bytes for the same input (no time stamp). `note`: up to 80 bytes of ASCII.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = note
    content = image.to_bytes()
    if file.name.endswith(".gz"):
        # No name and no time in the archive: the same array is the same bytes.
        content = gzip.compress(content, compresslevel=1, mtime=0)
    write_bytes(file, content)
    return file


def stack(volumes: Sequence[Volume]) -> Float32[ndarray, "channel x y z"]:
    """The arrays of volumes on one grid, as channels."""
    return np.stack([volume.array for volume in volumes])


def as_labels(volume: Volume) -> Int[ndarray, "x y z"]:
    """The array of a label map as int8."""
    return volume.array.astype(np.int8)


def check_options(options: NamedTuple) -> None:
    """ValueError naming the option for a spacing, crop, minimum or step that is not above 0."""
    for name in ("spacing", "crop", "min_pixels", "every"):
        value = getattr(options, name)
        if not (np.isfinite(value).all() and np.min(value) > 0):
            raise ValueError(f"--{name.replace('_', '-')} is {value}; give a number above 0")
