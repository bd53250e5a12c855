"""One file -> one array with its grid, whatever the format: PNG, TIFF or NIfTI.

Images come as (channel, *space), masks as whole numbers (*space); space is (height, width) or
(depth, height, width). What cannot be read for certain is refused, never guessed.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tifffile
from jaxtyping import Float, Int
from numpy import ndarray
from PIL import Image, ImageSequence

from data_prep.cases import Unusable

if TYPE_CHECKING:
    from data_prep.formats.volumes import Volume

SAMPLES = 4  # at most red, green, blue and one more: a last axis this short holds channels
DAMAGED = "the file is damaged or no such file; save it again"


class Scan(NamedTuple):
    """`array` float32 (channel, *space) or int64 (*space); the volume it is from, if it is
    one with a grid in the world; `spacing` mm along space; remarks on what was left out."""

    array: ndarray
    volume: Any = None
    spacing: tuple[float, ...] | None = None
    remarks: tuple[str, ...] = ()


def read_image(file: Path) -> Scan:
    """The image in `file`: float32 (channel, *space), an alpha channel left out with a remark.

    Raises `Unusable` naming the file for damage, NaN and what cannot be told apart.
    """
    if _is_nifti(file):
        volume = _read_nifti(file)
        return Scan(to_space(volume.array)[None], volume, space_spacing(volume))
    raw, has_samples, has_alpha = _read(file, as_mask=False)
    remarks: tuple[str, ...] = ()
    array = np.moveaxis(raw, -1, 0) if has_samples else raw[None]
    if has_samples and has_alpha:
        array, remarks = array[:-1], ("alpha channel dropped",)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise Unusable(f"{file}: has NaN or infinite pixels; fill them with a number")
    return Scan(array, remarks=remarks)


def read_labels(file: Path) -> Scan:
    """The label map in `file`: int64 (*space); palettes give indices, equal channels give one.

    Raises `Unusable` for damage, channels that differ and values that are no whole numbers.
    """
    if _is_nifti(file):
        volume = _read_nifti(file)
        return Scan(_whole(to_space(volume.array), file), volume, space_spacing(volume))
    raw, has_samples, has_alpha = _read(file, as_mask=True)
    if has_samples:
        colours = raw[..., :-1] if has_alpha else raw
        if (colours != colours[..., :1]).any():
            where = tuple(np.argwhere((colours != colours[..., :1]).any(-1))[0].tolist())
            raise Unusable(
                f"{file}: a colour mask, {colours[where].tolist()} at pixel {where}; save class "
                "numbers in one channel or as a palette"
            )
        raw = colours[..., 0]
    return Scan(_whole(raw, file))


def to_space(array: Float[ndarray, "x y z"]) -> Float[ndarray, "z y x"]:
    """Axes of a volume (x, y, z) as (depth, height, width)."""
    return np.ascontiguousarray(array.T)


def space_spacing(volume: "Volume") -> tuple[float, ...]:
    """Spacing of `volume` in mm along (depth, height, width)."""
    return tuple(round(float(mm), 6) for mm in volume.spacing[::-1])


def _is_nifti(file: Path) -> bool:
    return file.name.lower().endswith((".nii", ".nii.gz"))


def _read_nifti(file: Path) -> "Volume":
    # Here and not above: pictures are read where nibabel is not installed.
    try:
        from data_prep.formats.volumes import read_volume
    except ModuleNotFoundError as error:
        raise OSError(
            f"{file}: NIfTI needs {error.name}; pip install 'noisyseg[medical]'"
        ) from error
    return read_volume(file)


def check_grid(volumes: Mapping[str, "Volume"]) -> None:
    """`Unusable` naming files and values where volumes do not lie on one grid in the world."""
    from data_prep.formats.volumes import same_grid

    same_grid(volumes)


def _whole(array: ndarray, file: Path) -> Int[ndarray, "*space"]:
    if not np.isfinite(array).all():
        raise Unusable(f"{file}: has NaN or infinite pixels; write class numbers")
    whole = np.rint(array).astype(np.int64)
    wrong = whole != array
    if wrong.any():
        value = array[wrong].flat[0]
        raise Unusable(f"{file}: value {value} is no whole number; write class numbers")
    return whole


def _read(file: Path, as_mask: bool) -> tuple[ndarray, bool, bool]:
    """Pixels, whether the last axis holds channels, whether the last of these is alpha."""
    if not file.is_file():
        raise Unusable(f"{file}: no such file (a folder, or gone since); put the file there")
    if not file.stat().st_size:
        raise Unusable(f"{file}: 0 bytes; {DAMAGED}")
    if file.suffix.lower() == ".png":
        return _read_png(file, as_mask)
    return _read_tiff(file, as_mask)


def _read_png(file: Path, as_mask: bool) -> tuple[ndarray, bool, bool]:
    with file.open("rb") as stream:
        depth, colour = (*stream.read(26)[24:26], 0, 0)[:2]
    if depth == 16 and colour != 0:
        # Pillow would keep the upper 8 bits and not say so.
        raise Unusable(f"{file}: a colour or alpha PNG of 16 bits; save it as TIFF, or with 8")
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            picture.verify()  # the checksums of the pixels, which reading them leaves out
        with Image.open(file, formats=["PNG"]) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise Unusable(f"{file}: {picture.n_frames} frames; save one, or a TIFF stack")
            if picture.mode == "P" and not as_mask:
                picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
            array, mode = np.array(picture), picture.mode
    except Unusable:
        raise
    except Exception as error:  # Pillow raises whatever its decoders meet
        raise Unusable(f"{file}: cannot be read ({error}); {DAMAGED}") from error
    return array, array.ndim == 3, mode in ("LA", "RGBA", "PA")


def _read_tiff(file: Path, as_mask: bool) -> tuple[ndarray, bool, bool]:
    try:
        with tifffile.TiffFile(file) as tiff:
            _check_tiff(file, tiff, as_mask)
            shape, axes = _announced(file, tiff)
            packed, alpha, kind = _is_packed(tiff), _has_alpha(tiff), tiff.series[0].dtype.kind
            parts = [] if packed else [series.asarray() for series in tiff.series]
        whole = parts[0] if len(parts) == 1 else None
        if packed:
            whole = _read_packed(file)
        array = np.stack(parts) if whole is None else whole
    except Unusable:
        raise
    except Exception as error:  # a broken TIFF ends in any of a dozen exceptions
        raise Unusable(f"{file}: cannot be read ({error}); {DAMAGED}") from error
    if array.shape != shape or array.dtype.kind != kind:
        raise Unusable(
            f"{file}: read as {array.shape} {array.dtype}, announces {shape} of kind {kind}; "
            "save it uncompressed"
        )
    return _channels_last(array, axes, file, alpha)


def _announced(file: Path, tiff: tifffile.TiffFile) -> tuple[tuple[int, ...], str]:
    """Shape and axes of all pages together; pages written one by one make a stack."""
    shapes = [(tuple(s.shape), s.axes, s.dtype) for s in tiff.series]
    shape, axes, _ = shapes[0]
    if len(shapes) == 1:
        return shape, axes
    if len(set(shapes)) > 1 or axes != "YX":
        sizes = ", ".join(str(s) for s, *_ in shapes[:4])
        raise Unusable(f"{file}: {len(shapes)} unlike pictures ({sizes}); save one alone")
    return (len(shapes), *shape), "QYX"


def _check_tiff(file: Path, tiff: tifffile.TiffFile, as_mask: bool) -> None:
    photometric = tiff.pages[0].photometric
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        raise Unusable(f"{file}: zero means white in it; save it with zero as black")
    if photometric == tifffile.PHOTOMETRIC.PALETTE and not as_mask:
        raise Unusable(f"{file}: its pixels are numbers of a palette; save grey or RGB")
    end, size = max(sum(s) for s in _segments(tiff)), file.stat().st_size
    if end > size:
        raise Unusable(f"{file}: {size} bytes, its pixels end at {end}; {DAMAGED}")
    lost = _end_of_pages(tiff)
    if lost is not None:
        raise Unusable(f"{file}: {size} bytes, a page should be at {lost}; {DAMAGED}")


def _end_of_pages(tiff: tifffile.TiffFile) -> int | None:
    """Where a page should be and is not. Readers take a stack that was cut off for a short one."""
    form, stream, seen = tiff.tiff, tiff.filehandle, set()
    offset = tiff.pages[0].offset
    while offset:
        if offset in seen:
            return offset
        seen.add(offset)
        try:
            stream.seek(offset)
            (tags,) = struct.unpack(form.tagnoformat, stream.read(form.tagnosize))
            stream.seek(offset + form.tagnosize + tags * form.tagsize)
            (following,) = struct.unpack(form.offsetformat, stream.read(form.offsetsize))
        except (struct.error, ValueError, OSError):
            return offset
        offset = following
    return None


def _has_alpha(tiff: tifffile.TiffFile) -> bool:
    # Four float channels are four modalities, whatever the writer took them for.
    page = tiff.pages[0]
    colour = page.photometric == tifffile.PHOTOMETRIC.RGB and page.dtype.kind == "u"
    return colour and len(page.extrasamples) == 1


def _segments(tiff: tifffile.TiffFile) -> list[tuple[int, int]]:
    pages = [p.aspage() for series in tiff.series for p in series.pages if p is not None]
    return [pair for p in pages for pair in zip(p.dataoffsets, p.databytecounts, strict=True)]


def _is_packed(tiff: tifffile.TiffFile) -> bool:
    plain = (tifffile.COMPRESSION.NONE, tifffile.COMPRESSION.ADOBE_DEFLATE)
    page = tiff.pages[0]
    return page.compression not in plain or page.predictor > 1


def _read_packed(file: Path) -> ndarray:
    """A compressed TIFF through Pillow, which brings its own decoders."""
    with Image.open(file, formats=["TIFF"]) as picture:
        frames = [np.array(frame) for frame in ImageSequence.Iterator(picture)]
    return frames[0] if len(frames) == 1 else np.stack(frames)


def _channels_last(
    array: ndarray, axes: str, file: Path, alpha: bool
) -> tuple[ndarray, bool, bool]:
    sampled = [n for n, axis in enumerate(axes) if axis in "SC"]
    if len(sampled) == 1:
        return np.moveaxis(array, sampled[0], -1), True, alpha
    short = array.ndim == 3 and array.shape[-1] <= SAMPLES < min(array.shape[:2])
    if array.ndim not in (2, 3) or len(sampled) > 1:
        raise Unusable(f"{file}: axes {axes} {array.shape}; save (pages,) height, width (, colour)")
    return array, short, False


def resampled(scan: Scan, spacing_mm: float, file: Path) -> Scan:
    """`scan` at `spacing_mm` along every axis; a mask stays a mask.

    A mask takes at each point the value whose own share there is largest. `Unusable` for a
    picture, which has no millimetres.
    """
    if scan.volume is None:
        raise Unusable(f"{file}: a picture has no spacing in mm; give --spacing keep")
    from data_prep.formats.volumes import resample

    spacing = (spacing_mm,) * 3
    is_mask = scan.array.ndim == 3
    if not is_mask:
        volume = resample(scan.volume, spacing, order=1)
        return scan._replace(
            array=to_space(volume.array)[None], volume=volume, spacing=space_spacing(volume)
        )
    values = np.unique(scan.array)
    shares = []
    for value in values:
        inside = (scan.volume.array == value).astype(np.float32)
        volume = resample(scan.volume._replace(array=inside), spacing, order=1)
        shares.append(to_space(volume.array))
    return scan._replace(
        array=values[np.argmax(shares, axis=0)], volume=volume, spacing=space_spacing(volume)
    )
