"""One file -> one array with its grid, whatever the format: PNG, TIFF or NIfTI.

Images come as (channel, *space), masks as whole numbers (*space); space is (height, width) or
(depth, height, width). What cannot be read for certain is refused, never guessed.
"""

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tifffile
from jaxtyping import Float, Int
from numpy import ndarray
from PIL import Image, ImageSequence
from PIL.Image import Transpose

from data_prep.cases import Unusable
from data_prep.formats import size

if TYPE_CHECKING:
    from data_prep.formats.volumes import Volume

PNG_SAMPLES = {2: 3, 4: 2, 6: 4}  # channels by the colour type in its header, else 1
SAMPLES = 4  # at most red, green, blue and one more: a last axis this short holds channels
DAMAGED = "the file is damaged or no such file; save it again"
ORIENTATION = 274  # the tag of TIFF and EXIF that says how a picture is turned
UPRIGHT = 1
TURNED = "turned as the orientation tag of the file says"
FROM_ALPHA = "mask taken from the alpha channel, because the colour is the same everywhere"
NEAR_WHOLE = 0.02  # a slope in a header of whole numbers leaves 0.996 where 1 was meant
ROUNDED = "mask values rounded to whole numbers, such as 0.996 to 1"
Palette = Mapping[int, tuple[int, ...]]


class Scan(NamedTuple):
    """`array` float32 (channel, *space) or int64 (*space); the volume it is from, if it is
    one with a grid in the world; `spacing` mm along space; remarks on what was left out.
    `palette`: the colours of the indices that `array` holds, where it holds such."""

    array: ndarray
    volume: Any = None
    spacing: tuple[float, ...] | None = None
    remarks: tuple[str, ...] = ()
    palette: Palette = {}


class _Raw(NamedTuple):
    """Pixels as they are stored, but upright; whether the last axis holds channels and the last
    of these is alpha; the colours of a palette (index, 3); what was done to them."""

    array: ndarray
    has_samples: bool = False
    has_alpha: bool = False
    palette: ndarray | None = None
    remarks: tuple[str, ...] = ()


def read_image(file: Path) -> Scan:
    """The image in `file`: float32 (channel, *space), an alpha channel left out with a remark.

    Raises `Unusable` naming the file for damage, NaN and what cannot be told apart.
    """
    if _is_nifti(file):
        volume = _read_nifti(file)
        return Scan(to_space(volume.array)[None], volume, space_spacing(volume))
    raw = _read(file, as_mask=False)
    array = np.moveaxis(raw.array, -1, 0) if raw.has_samples else raw.array[None]
    remarks = raw.remarks
    if raw.has_samples and raw.has_alpha:
        array, remarks = array[:-1], (*remarks, "alpha channel dropped")
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise Unusable(f"{file}: has NaN or infinite pixels; fill them with a number")
    return Scan(array, remarks=remarks)


def read_labels(file: Path) -> Scan:
    """The label map in `file`: int64 (*space), equal channels give one.

    A palette of greys gives its greys. A palette of colours gives indices if index 0 is black:
    `Scan.palette` has the colours, because indices of two palettes cannot be compared. A mask
    that is in the alpha channel alone is taken from there. Raises `Unusable` for damage,
    channels that differ, and values that are no whole numbers.
    """
    if _is_nifti(file):
        volume = _read_nifti(file)
        array, remarks = _whole(to_space(volume.array), file, volume.is_scaled)
        return Scan(array, volume, space_spacing(volume), remarks)
    raw = _read(file, as_mask=True)
    if raw.palette is not None:
        array, palette = _by_palette(raw.array, raw.palette, file)
        return Scan(array, remarks=raw.remarks, palette=palette)
    array, remarks = _one_channel(raw, file) if raw.has_samples else (raw.array, ())
    return Scan(_whole(array, file)[0], remarks=(*raw.remarks, *remarks))


def _by_palette(index: ndarray, colours: ndarray, file: Path) -> tuple[ndarray, Palette]:
    """Greys where the whole palette is grey, else indices and the colours that they stand for."""
    used = np.unique(index).tolist()
    if used[-1] >= len(colours):
        raise Unusable(f"{file}: index {used[-1]} of {len(colours)} colours; {DAMAGED}")
    if (colours == colours[:, :1]).all():
        return colours[index, 0].astype(np.int64), {}
    if colours[0].any():
        raise Unusable(
            f"{file}: a palette of colours that begins with {colours[0].tolist()}, so its numbers "
            "need not be classes; save class numbers in one channel, or black as number 0"
        )
    return index.astype(np.int64), {n: tuple(colours[n].tolist()) for n in used}


def _one_channel(raw: _Raw, file: Path) -> tuple[ndarray, tuple[str, ...]]:
    """The channel that holds the mask, and a remark where that is the alpha channel."""
    colours, alpha = (
        (raw.array[..., :-1], raw.array[..., -1]) if raw.has_alpha else (raw.array, None)
    )
    is_grey = not (colours != colours[..., :1]).any()
    if alpha is None or (alpha == alpha.flat[0]).all():
        if not is_grey:
            raise Unusable(_coloured(colours, file))
        return colours[..., 0], ()
    pairs = np.unique(raw.array.reshape(-1, raw.array.shape[-1]), axis=0)
    if (colours == colours.reshape(-1, colours.shape[-1])[0]).all():
        return alpha, (FROM_ALPHA,)
    # Both say something: no harm where transparent pixels are the darker ones. The other way
    # round it cannot be known which of the two is the mask.
    opaque = pairs[np.argsort(pairs[:, 0]), -1]
    one_each = len(np.unique(pairs[:, 0])) == len(pairs)
    if is_grey and one_each and (opaque[1:] >= opaque[:-1]).all():
        return colours[..., 0], ()
    raise Unusable(
        f"{file}: its colours and its alpha channel both vary and say different things; save the "
        "mask in one channel"
    )


def _coloured(colours: ndarray, file: Path) -> str:
    where = tuple(np.argwhere((colours != colours[..., :1]).any(-1))[0].tolist())
    return (
        f"{file}: a colour mask, {colours[where].tolist()} at pixel {where}; save class "
        "numbers in one channel or as a palette"
    )


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


def check_grid(volumes: Mapping[str, "Volume"], slack: float = 0.0) -> float:
    """`volumes.same_grid`: the gap in mm; `Unusable` where volumes do not lie on one grid."""
    from data_prep.formats.volumes import same_grid

    return same_grid(volumes, slack)


def _whole(
    array: ndarray, file: Path, is_scaled: bool = False
) -> tuple[Int[ndarray, "*space"], tuple[str, ...]]:
    """Whole numbers; `is_scaled`: they were so before a slope was applied, so near is enough."""
    if not np.isfinite(array).all():
        raise Unusable(f"{file}: has NaN or infinite pixels; write class numbers")
    whole = np.rint(array).astype(np.int64)
    wrong = whole != array
    if not wrong.any():
        return whole, ()
    if is_scaled and abs(whole - array).max() < NEAR_WHOLE:
        return whole, (ROUNDED,)
    value = array[wrong].flat[0]
    raise Unusable(f"{file}: value {value} is no whole number; write class numbers")


def _read(file: Path, as_mask: bool) -> _Raw:
    if not file.is_file():
        raise Unusable(f"{file}: no such file (a folder, or gone since); put the file there")
    if not file.stat().st_size:
        raise Unusable(f"{file}: 0 bytes; {DAMAGED}")
    if file.suffix.lower() == ".png":
        return _read_png(file, as_mask)
    return _read_tiff(file, as_mask)


@contextmanager
def _opened(file: Path, kind: str) -> Iterator[Image.Image]:
    """A picture whose size was checked here, so Pillow need not warn of it again."""
    most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(file, formats=[kind]) as picture:
            yield picture
    finally:
        Image.MAX_IMAGE_PIXELS = most


def _read_png(file: Path, as_mask: bool) -> _Raw:
    with file.open("rb") as stream:
        head = stream.read(26).ljust(26, b"\0")
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    if depth == 16 and colour != 0:
        # Pillow would keep the upper 8 bits and not say so.
        raise Unusable(f"{file}: a colour or alpha PNG of 16 bits; save it as TIFF, or with 8")
    size.check(file, (height, width, PNG_SAMPLES.get(colour, 1)))
    try:
        with _opened(file, "PNG") as picture:
            picture.verify()  # the checksums of the pixels, which reading them leaves out
        with _opened(file, "PNG") as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise Unusable(f"{file}: {picture.n_frames} frames; save one, or a TIFF stack")
            orientation = picture.getexif().get(ORIENTATION, UPRIGHT)
            palette, picture = _palette_of(picture, as_mask)
            array, mode = np.array(picture), picture.mode
    except Unusable:
        raise
    except Exception as error:  # Pillow raises whatever its decoders meet
        raise Unusable(f"{file}: cannot be read ({error}); {DAMAGED}") from error
    raw = _Raw(array, array.ndim == 3, mode in ("LA", "RGBA", "PA"), palette)
    return _turned(raw, orientation, file)


def _palette_of(picture: Image.Image, as_mask: bool) -> tuple[ndarray | None, Image.Image]:
    """The palette of a mask (index, 3) and the picture; every other transparency as alpha."""
    see_through = "transparency" in picture.info
    if picture.mode != "P":
        grown = {"L": "LA", "RGB": "RGBA"}.get(picture.mode)
        return None, picture.convert(grown) if see_through and grown else picture
    colours = np.array(picture.getpalette(), np.int64).reshape(-1, 3)
    greys = (colours == colours[:, :1]).all()
    if as_mask and not (see_through and greys):
        return colours, picture
    return None, picture.convert("RGBA" if see_through else "RGB")


def _turned(raw: _Raw, orientation: int, file: Path) -> _Raw:
    """Pixels as every viewer shows them: `orientation` is that of TIFF and EXIF, 1 to 8."""
    if orientation == UPRIGHT:
        return raw
    if orientation not in range(1, 9):
        raise Unusable(f"{file}: orientation tag {orientation}; it goes from 1 to 8: save it again")
    axes = (-3, -2) if raw.has_samples else (-2, -1)
    array = raw.array.swapaxes(*axes) if orientation > 4 else raw.array
    rows, columns = {2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[
        orientation
    ]
    flipped = [axis for axis, flip in zip(axes, (rows, columns), strict=True) if flip]
    array = np.ascontiguousarray(np.flip(array, flipped))
    return raw._replace(array=array, remarks=(*raw.remarks, TURNED))


def _read_tiff(file: Path, as_mask: bool) -> _Raw:
    try:
        with tifffile.TiffFile(file) as tiff:
            _check_tiff(file, tiff, as_mask)
            shape, axes = _announced(file, tiff)
            size.check(file, shape, tiff.series[0].dtype.itemsize)
            packed, alpha, kind = (
                _is_packed(tiff),
                _has_alpha(tiff, as_mask),
                tiff.series[0].dtype.kind,
            )
            colours, orientation = _tiff_palette(tiff), _orientation(file, tiff)
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
    array, has_samples, has_alpha = _channels_last(array, axes, file, alpha)
    return _turned(_Raw(array, has_samples, has_alpha, colours), orientation, file)


def _orientation(file: Path, tiff: tifffile.TiffFile) -> int:
    """The orientation of all pages; Unusable where they differ."""
    found = {_tag(page, ORIENTATION, UPRIGHT) for page in tiff.pages}
    if len(found) > 1:
        raise Unusable(f"{file}: its pages have orientations {sorted(found)}; save them alike")
    return int(found.pop())


def _tag(page: Any, code: int, otherwise: int) -> int:
    tags = getattr(page, "tags", None)  # a frame shares the tags of its first page
    return otherwise if tags is None or code not in tags else int(tags[code].value)


def _tiff_palette(tiff: tifffile.TiffFile) -> ndarray | None:
    page = tiff.pages[0]
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE:
        return None
    return np.asarray(page.colormap).T.astype(np.int64) // 257  # 16 bits there, 8 here


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


def _has_alpha(tiff: tifffile.TiffFile, as_mask: bool) -> bool:
    # Four float channels are four modalities, whatever the writer took them for.
    page = tiff.pages[0]
    kinds = (tifffile.PHOTOMETRIC.RGB, *([tifffile.PHOTOMETRIC.MINISBLACK] if as_mask else []))
    return page.photometric in kinds and page.dtype.kind == "u" and len(page.extrasamples) == 1


def _segments(tiff: tifffile.TiffFile) -> list[tuple[int, int]]:
    pages = [p.aspage() for series in tiff.series for p in series.pages if p is not None]
    return [pair for p in pages for pair in zip(p.dataoffsets, p.databytecounts, strict=True)]


def _is_packed(tiff: tifffile.TiffFile) -> bool:
    plain = (tifffile.COMPRESSION.NONE, tifffile.COMPRESSION.ADOBE_DEFLATE)
    page = tiff.pages[0]
    return page.compression not in plain or page.predictor > 1


def _read_packed(file: Path) -> ndarray:
    """A compressed TIFF through Pillow, which brings its own decoders, as it is stored."""
    with _opened(file, "TIFF") as picture:
        frames = [_as_stored(frame) for frame in ImageSequence.Iterator(picture)]
    return frames[0] if len(frames) == 1 else np.stack(frames)


def _as_stored(frame: Any) -> ndarray:
    """The pixels of one page: Pillow turns them by the tag, and `_turned` does that for all."""
    orientation = frame.tag_v2.get(ORIENTATION, UPRIGHT)
    back = {6: Transpose.ROTATE_90, 8: Transpose.ROTATE_270}
    same = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        7: Transpose.TRANSVERSE,
    }
    step = (back | same).get(orientation)
    frame.load()
    return np.array(frame if step is None else frame.transpose(step))


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
