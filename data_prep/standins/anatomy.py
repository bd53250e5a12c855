"""Head anatomy of the stand-ins: the real ICBM 152 average, bent into another head per patient.

The tissue maps are real (those packaged with nilearn, nothing is downloaded). Positions are in
millimetres of the template, so the same patient is the same head at every voxel size. `render`
turns tissue into a picture as a scanner would spoil it. Knows no lesion and no file layout.
"""

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int16, UInt8
from numpy import ndarray
from scipy import ndimage
from scipy.interpolate import BSpline

Map = Float32[ndarray, "x y z"]
Mask = Bool[ndarray, "x y z"]

MAPS = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
# The lateral ventricles are the deep fluid that fills most of this box (template mm).
VENTRICLE_BOX = ((-25, 25), (-45, 25), (8, 26))
MARGIN_MM = 6  # room around the template's brain for heads that are larger than it


class Template(NamedTuple):
    """Real tissue fractions 0..1, the brain, and distances in mm; `origin` = mm of voxel 0."""

    grey: Map
    white: Map
    fluid: Map
    brain: Map
    to_ventricle: Map
    white_depth: Map
    origin: tuple[float, float, float]


class Grid(NamedTuple):
    """A voxel grid: `affine` to world mm; a world point minus `shift` is a template point."""

    shape: tuple[int, int, int]
    affine: Float32[ndarray, "4 4"]
    shift: tuple[float, float, float]

    @property
    def voxel_mm(self) -> float:
        """Edge of a voxel in mm; voxels are cubes."""
        return float(np.linalg.norm(self.affine[:3, 0]))

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The part of the grid that any brain can reach: everything is computed in it alone."""
        bounds = [(np.min(a), np.max(a)) for a in _brain_bounds()]
        inside = [
            np.flatnonzero((axis >= low - MARGIN_MM) & (axis <= high + MARGIN_MM))
            for axis, (low, high) in zip(self._axes(), bounds, strict=True)
        ]
        return tuple(slice(int(i[0]), int(i[-1]) + 1) for i in inside)

    @property
    def axes(self) -> list[Float32[ndarray, "_"]]:
        """Template mm along each axis of the box."""
        return [axis[part] for axis, part in zip(self._axes(), self.box, strict=True)]

    def _axes(self) -> list[ndarray]:
        steps, start = np.diag(self.affine)[:3], self.affine[:3, 3] - np.array(self.shift)
        return [s + d * np.arange(n) for s, d, n in zip(start, steps, self.shape, strict=True)]

    def whole(self, part: ndarray) -> ndarray:
        """An array of the box in the whole grid, zero around it."""
        full = np.zeros(self.shape, part.dtype)
        full[self.box] = part
        return full


class Anatomy(NamedTuple):
    """One patient's head in the box of a grid: tissue fractions that add up to 1 in the brain,
    `position` = template mm of every voxel, `to_ventricle` in mm."""

    grid: Grid
    grey: Map
    white: Map
    fluid: Map
    brain: Mask
    to_ventricle: Map
    position: Float32[ndarray, "3 x y z"]


def random(*key: object) -> np.random.Generator:
    """A generator that depends on `key` alone, never on what was drawn before."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def make_grid(
    shape_mm: tuple[int, int, int],
    voxel_mm: float,
    first_mm: tuple[float, float, float],
    signs: tuple[int, int, int],
    shift: tuple[float, float, float],
) -> Grid:
    """The grid of a field of view of `shape_mm`, cut into cubes of `voxel_mm`.

    `first_mm` is the world point of the first voxel at 1 mm; a coarser voxel starts at the same
    edge. Raises ValueError for a voxel outside 1 to 8 mm.
    """
    if not 1 <= voxel_mm <= 8:
        raise ValueError(f"voxel is {voxel_mm} mm; give 1 to 8")
    affine = np.diag([*(s * voxel_mm for s in signs), 1.0])
    affine[:3, 3] = np.array(first_mm) + np.array(signs) * (voxel_mm - 1) / 2
    return Grid(tuple(int(np.ceil(n / voxel_mm)) for n in shape_mm), affine, shift)


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The ICBM 152 maps at 1 mm. Raises FileNotFoundError where nilearn is not installed."""
    (t1, affine), (grey, _), (white, _) = (_read_map(name) for name in ("t1", "gm", "wm"))
    brain = (t1 > 0).astype(np.float32)
    grey, white = grey / np.float32(255), white / np.float32(255)
    fluid = np.clip(brain - grey - white, 0, 1)
    origin = tuple(float(v) for v in affine[:3, 3])
    ventricle = _ventricle(fluid, brain, origin)
    to_ventricle = ndimage.distance_transform_edt(~ventricle).astype(np.float32)
    white_depth = ndimage.distance_transform_edt(white > 0.6).astype(np.float32)
    return Template(grey, white, fluid, brain, to_ventricle, white_depth, origin)


@lru_cache(maxsize=2)
def _blurred(voxel_mm: float) -> Template:
    """The template blurred to what voxels of `voxel_mm` can show."""
    template = load_template()
    blur = 0.4 * np.sqrt(max(voxel_mm**2 - 1, 0))
    if blur == 0:
        return template
    maps = {
        name: ndimage.gaussian_filter(getattr(template, name), blur)
        for name in ("grey", "white", "fluid", "brain")
    }
    return template._replace(**maps)


def _read_map(name: str) -> tuple[UInt8[ndarray, "x y z"], ndarray]:
    import nibabel

    spec = find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("nilearn holds the template; install it: pip install nilearn")
    file = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / MAPS.format(name)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; install nilearn 0.12 to 0.14 again")
    image = nibabel.load(file)
    return np.asarray(image.dataobj), image.affine


def _ventricle(fluid: Map, brain: Map, origin: tuple[float, ...]) -> Mask:
    deep = ndimage.distance_transform_edt(brain) > 12
    parts, _ = ndimage.label((fluid > 0.5) & deep)
    box = tuple(
        slice(int(low - o), int(high - o))
        for (low, high), o in zip(VENTRICLE_BOX, origin, strict=True)
    )
    return parts == np.bincount(parts[box].ravel())[1:].argmax() + 1


@lru_cache(maxsize=1)
def _brain_bounds() -> tuple[tuple[float, float], ...]:
    template = load_template()
    inside = [np.nonzero(template.brain.any(o))[0] for o in ((1, 2), (0, 2), (0, 1))]
    return tuple(
        (float(i[0] + o), float(i[-1] + o)) for i, o in zip(inside, template.origin, strict=True)
    )


def smooth_field(grid: Grid, scale_mm: float, *key: object) -> Map:
    """Random field of mean 0 and sd 1 over the box, correlated over about `scale_mm`.

    The same field of space at every voxel size: cubic splines with drawn coefficients.
    """
    splines = [
        _splines(axis, low - 3 * MARGIN_MM, high + 3 * MARGIN_MM, scale_mm)
        for axis, (low, high) in zip(grid.axes, _brain_bounds(), strict=True)
    ]
    field = random("field", *key).standard_normal([s.count for s in splines], np.float32)
    for axis, spline in enumerate(splines):
        # Plain sums, no matrix library: the same bits however many threads there are.
        shape = [-1 if a == axis else 1 for a in range(3)]
        field = sum(
            field.take(knot, axis) * weight.reshape(shape)
            for knot, weight in zip(spline.knots, spline.weights, strict=True)
        )
    return field


class _Splines(NamedTuple):
    """The four coefficients that each point of an axis depends on, of `count`, and weights."""

    knots: Int[ndarray, "4 _"]
    weights: Float32[ndarray, "4 _"]
    count: int


def _splines(axis: ndarray, low: float, high: float, scale: float) -> _Splines:
    knots = low + scale * np.arange(-3, int(np.ceil((high - low) / scale)) + 5)
    matrix = BSpline.design_matrix(np.asarray(axis, float), knots, 3)
    weights = matrix.data.reshape(-1, 4)
    # Weights of length 1 keep the variance the same between the knots as at them.
    weights = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    return _Splines(matrix.indices.reshape(-1, 4).T, weights.T.astype(np.float32), matrix.shape[1])


def make_anatomy(grid: Grid, *key: object) -> Anatomy:
    """The head of patient `key`: the template bent smoothly by a few mm, more or less fluid."""
    position = bent_positions(grid, *key)
    return sample_anatomy(grid, position, random("fluid", *key).uniform(1.0, 1.9))


def bent_positions(grid: Grid, *key: object) -> Float32[ndarray, "3 x y z"]:
    """Template mm (3, x, y, z) of every voxel of the box in the head of patient `key`."""
    sizes = random("size", *key).uniform(0.95, 1.02, 3)
    position = np.stack(np.meshgrid(*grid.axes, indexing="ij")).astype(np.float32)
    for axis in range(3):
        position[axis] = position[axis] / np.float32(sizes[axis])
        # Large bends make another head, small ones another folding of the cortex.
        for scale, size in ((60, 3.0), (14, 1.1)):
            position[axis] += size * smooth_field(grid, scale, "bend", axis, scale, *key)
    return position


def sample_anatomy(grid: Grid, position: ndarray, more_fluid: float = 1.0) -> Anatomy:
    """Tissue at template points `position` (3, x, y, z) in mm; `more_fluid` > 1 is atrophy."""
    template = _blurred(grid.voxel_mm)
    index = position - np.array(template.origin, np.float32)[:, None, None, None]
    brain = _sample(template.brain, index) > 0.5
    maps = [_sample(m, index) for m in (template.grey, template.white, template.fluid)]
    # An average of many heads is blurred; squares that add up to 1 look like a single one.
    squares = [(m * w) ** 2 for m, w in zip(maps, (1, 1, more_fluid), strict=True)]
    total = np.maximum(sum(squares), 1e-6)
    grey, white, fluid = (np.where(brain, s / total, 0).astype(np.float32) for s in squares)
    fluid = np.where(brain, 1 - grey - white, 0).astype(np.float32)
    far = _sample(template.to_ventricle, index, "nearest")
    return Anatomy(grid, grey, white, fluid, brain, far, position)


def _sample(values: Map, index: ndarray, mode: str = "constant") -> Map:
    return ndimage.map_coordinates(values, index, np.float32, order=1, mode=mode)


def render(
    anatomy: Anatomy, signal: Map, *key: object, noise: float = 0.045, bias: float = 0.08
) -> Int16[ndarray, "x y z"]:
    """A scanner's picture (int16, box) of the noise-free `signal`.

    Smooth brightness error of about +-2 x `bias`, Rician noise of sd `noise` x the mean
    signal, arbitrary scale of the scan, zero outside the brain as after skull stripping.
    """
    draw, grid = random("scan", *key), anatomy.grid
    shading = np.exp(bias * smooth_field(grid, 70, "bias", *key))
    # Scans are resampled before they are published: neighbours share noise.
    noises = [
        ndimage.gaussian_filter(draw.standard_normal(signal.shape, np.float32), 0.45, truncate=3)
        for _ in range(2)
    ]
    level = np.float32(noise * signal[anatomy.brain].mean() / noises[0].std())
    seen = np.hypot(signal * shading + level * noises[0], level * noises[1])
    scale = draw.uniform(250, 900)
    return np.where(anatomy.brain, np.maximum(np.rint(seen * scale), 1), 0).astype(np.int16)
