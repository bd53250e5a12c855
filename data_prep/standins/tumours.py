"""BraTS stand-ins: one nested tumour in a patient's head, in the four sequences of the challenge.

A lobed core (dead tissue inside an enhancing ring of uneven thickness, or no ring at all) grows
in white matter and pushes the tissue around it away; oedema spreads from it along white matter,
which gives its finger-like margin. Volumes are drawn first and met exactly.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int16, UInt8
from numpy import ndarray
from scipy import ndimage

from data_prep.standins.anatomy import (
    Anatomy,
    Grid,
    Map,
    Mask,
    bent_positions,
    load_template,
    make_grid,
    random,
    render,
    sample_anatomy,
    smooth_field,
)

# Signal of grey matter, white matter, fluid; then of the labels 1, 2 and 4 (arbitrary units).
SIGNAL = {
    "flair": (0.70, 0.60, 0.22, 0.62, 1.02, 0.88),
    "t1": (0.72, 1.00, 0.36, 0.56, 0.78, 0.74),
    "t1ce": (0.74, 1.00, 0.36, 0.50, 0.78, 1.45),
    "t2": (0.58, 0.42, 1.05, 0.92, 0.84, 0.70),
}
CORE, OEDEMA, ENHANCING = 1, 2, 4  # the labels of the official masks


class Plan(NamedTuple):
    """What is drawn of a tumour: `centre` in template mm, volumes in mm3, mean thickness of the
    enhancing ring in mm (0 = none), mm that tissue is pushed."""

    centre: Float[ndarray, "3"]
    core: float
    oedema: float
    ring: float
    push: float


class Tumour(NamedTuple):
    """One case on the whole grid: int16 images by sequence, labels 0, 1, 2 and 4."""

    images: dict[str, Int16[ndarray, "x y z"]]
    labels: UInt8[ndarray, "x y z"]


def brats_grid(voxel_mm: float = 1.0) -> Grid:
    """The grid of every BraTS case: 240 x 240 x 155 at 1 mm, x and y pointing left and back."""
    return make_grid((240, 240, 155), voxel_mm, (0, 239, 0), (-1, -1, 1), (-119.5, 137.5, 72))


def plan_tumour(seed: int, case: int) -> Plan:
    """What grows in a case (numbered from 1); one in five has no enhancing part."""
    draw = random("tumour", seed, case)
    whole = np.exp(draw.uniform(np.log(22e3), np.log(140e3)))
    core = whole * draw.uniform(0.2, 0.5)
    thickest = 0.27 * (3 * core / (4 * np.pi)) ** (1 / 3)  # room for dead tissue inside
    # One case of every five in a row, drawn, so that a small tree has some of both kinds.
    block, place = divmod(case - 1, 5)
    solid = random("solid", seed, block).integers(5) == place
    ring = 0.0 if solid else min(draw.uniform(2.2, 5.0), thickest)
    return Plan(_draw_centre(draw), core, whole - core, ring, draw.uniform(0, 7))


def _draw_centre(draw: np.random.Generator) -> Float[ndarray, "3"]:
    centres = _centres()
    return centres[draw.integers(len(centres))]


@lru_cache(maxsize=1)
def _centres() -> Float[ndarray, "voxel 3"]:
    t = load_template()
    voxels = np.argwhere((t.white > 0.8) & (t.to_ventricle > 6) & (t.white_depth > 3))
    points = voxels + np.array(t.origin)
    # Brain stem and the midline are left out, and the crown, where the field of view ends.
    return points[(points[:, 2] > -8) & (points[:, 2] < 45) & (abs(points[:, 0]) > 14)]


def make_case(voxel_mm: float, seed: int, case: int) -> Tumour:
    """Pictures and labels of one case. Raises ValueError for a voxel outside 1 to 8 mm."""
    grid, plan = brats_grid(voxel_mm), plan_tumour(seed, case)
    position = bent_positions(grid, "brats", seed, case)
    fluid = random("fluid", "brats", seed, case).uniform(1.0, 1.9)
    anatomy = sample_anatomy(grid, _pushed(position, plan), fluid)
    labels = grow(anatomy, position, plan, seed, case)
    images = {
        name: grid.whole(render(anatomy, signal, "brats", seed, case, name))
        for name, signal in _signals(anatomy, labels, plan, seed, case).items()
    }
    return Tumour(images, grid.whole(labels))


def _pushed(position: Float[ndarray, "3 x y z"], plan: Plan) -> Float[ndarray, "3 x y z"]:
    """Where tissue came from before the tumour pushed it outwards, fading over 30 mm."""
    offset = position - plan.centre.astype(np.float32)[:, None, None, None]
    away = np.sqrt((offset**2).sum(0)) + np.float32(1e-3)
    moved = plan.push * np.exp(-((away / 30) ** 2)) * (1 - np.exp(-away / 8))
    return (position - offset * (moved / away)).astype(np.float32)


def grow(
    anatomy: Anatomy, position: ndarray, plan: Plan, seed: int, case: int
) -> UInt8[ndarray, "x y z"]:
    """Labels of the tumour in the box of the grid; `position` is in mm before any push."""
    voxel = anatomy.grid.voxel_mm
    depth = _core_depth(anatomy, position, plan, seed, case)
    core = depth > 0
    labels = np.where(core, CORE, 0).astype(np.uint8)
    labels[_oedema(anatomy, core, plan, seed, case)] = OEDEMA
    if plan.ring:
        # Thick nodules here, a gap there: where the field is low the ring is open.
        uneven = 1 + 0.55 * smooth_field(anatomy.grid, 9, "ring", seed, case)
        inner = ndimage.distance_transform_edt(core, voxel)
        labels[core & (inner <= np.maximum(plan.ring, voxel) * uneven)] = ENHANCING
    return labels


def _core_depth(anatomy: Anatomy, position: ndarray, plan: Plan, seed: int, case: int) -> Map:
    """mm inside the edge of the core, whose volume is that of the plan; one piece."""
    offset = position - plan.centre.astype(np.float32)[:, None, None, None]
    stretch = random("stretch", seed, case).uniform(0.8, 1.25, 3).astype(np.float32)
    away = np.sqrt(((offset / stretch[:, None, None, None]) ** 2).sum(0))
    radius = (3 * plan.core / (4 * np.pi)) ** (1 / 3)
    lobes = smooth_field(anatomy.grid, 14, "lobes", seed, case)
    lumps = smooth_field(anatomy.grid, 6, "lumps", seed, case)
    score = radius * (1 + 0.28 * lobes + 0.09 * lumps) - away
    allowed = anatomy.brain & (anatomy.fluid < 0.5) & (away < 2 * radius)
    return _largest_piece(_best(score, allowed, plan.core, anatomy.grid.voxel_mm))


def _best(score: Map, allowed: Mask, volume: float, voxel: float) -> Map:
    """`score` shifted so that it is above 0 in just `volume` mm3 of `allowed`, -1 elsewhere."""
    count = min(round(volume / voxel**3), int(allowed.sum()))
    cut = np.partition(score[allowed], -count)[-count]
    return np.where(allowed, score - cut + np.float32(1e-4), -1)


def _largest_piece(score: Map) -> Map:
    pieces, _ = ndimage.label(score > 0)
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    return np.where(pieces == largest, score, -1)


def _oedema(anatomy: Anatomy, core: Mask, plan: Plan, seed: int, case: int) -> Mask:
    voxel = anatomy.grid.voxel_mm
    away = ndimage.distance_transform_edt(~core, voxel).astype(np.float32)
    white = ndimage.gaussian_filter(anatomy.white, 0.8 / voxel)
    spread = 1 + 0.45 * smooth_field(anatomy.grid, 20, "spread", seed, case)
    # Water runs along white matter and hardly enters grey: a mm of grey counts like six.
    score = -away / (np.maximum(spread, 0.3) * (0.16 + 0.84 * white))
    allowed = anatomy.brain & (anatomy.fluid < 0.5) & ~core & (away < 45)
    chosen = _best(score, allowed, plan.oedema, voxel) > 0
    pieces, _ = ndimage.label(chosen | core)
    return chosen & (pieces == pieces[core][0])


def _signals(
    anatomy: Anatomy, labels: UInt8[ndarray, "x y z"], plan: Plan, seed: int, case: int
) -> dict[str, Map]:
    blur = 0.7 / anatomy.grid.voxel_mm
    shares = [
        ndimage.gaussian_filter((labels == label).astype(np.float32), blur)
        for label in (CORE, OEDEMA, ENHANCING)
    ]
    texture = 1 + 0.025 * smooth_field(anatomy.grid, 9, "texture", seed, case)
    patchy = smooth_field(anatomy.grid, 5, "patchy", seed, case)
    signals = {}
    for name, levels in SIGNAL.items():
        tissue = sum(v * m for v, m in zip(levels, anatomy[1:4], strict=False))
        parts = _tumour_levels(name, levels[3:], plan, seed, case)
        # Oedema is diffuse: it lets the tissue below shine through.
        for share, level, cover in zip(shares, parts, (1, 0.85, 1), strict=True):
            tissue = tissue + cover * share * (level * (1 + 0.09 * patchy) - tissue)
        signals[name] = (tissue * texture).astype(np.float32)
    signals["t1ce"] += _vessels(anatomy, seed, case)
    return signals


def _tumour_levels(
    name: str, levels: tuple[float, ...], plan: Plan, seed: int, case: int
) -> list[float]:
    """Signal of the labels 1, 2, 4 in this case; a core without a ring is solid, not dead."""
    core, oedema, enhancing = levels
    if not plan.ring:
        core = {"flair": 0.95, "t1": 0.64, "t1ce": 0.66, "t2": 0.82}[name]
    differ = random("levels", seed, case, name).normal(1, 0.08, 3)
    return [v * d for v, d in zip((core, oedema, enhancing), differ, strict=True)]


def _vessels(anatomy: Anatomy, seed: int, case: int) -> Map:
    """Vessels enhance as well: thin tubes where two smooth fields cross zero, near fluid."""
    first, second = (smooth_field(anatomy.grid, 11, "vessels", n, seed, case) for n in (1, 2))
    tubes = np.exp(-(first**2 + second**2) / 0.02)
    return (tubes * np.clip(3 * anatomy.fluid, 0, 1) * 0.7).astype(np.float32)
