"""Multiple sclerosis stand-ins: lesions grown in a patient's white matter, visit after visit.

Lesions are ovoids in template millimetres, most of them at the ventricles and perpendicular to
them, with a soft irregular edge. Two raters: the first marks where a lesion is more than half,
the second sees edges elsewhere, misses small lesions and adds some.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int16, UInt8
from numpy import ndarray
from scipy import ndimage

from data_prep.standins.anatomy import (
    Anatomy,
    Grid,
    Map,
    load_template,
    make_anatomy,
    make_grid,
    random,
    render,
    smooth_field,
)

# Signal of grey matter, white matter, fluid and a typical lesion; the units are arbitrary.
SIGNAL = {
    "flair": (0.68, 0.58, 0.20, 1.02),
    "mprage": (0.72, 1.00, 0.34, 0.70),
    "pd": (0.92, 0.76, 0.80, 1.02),
    "t2": (0.56, 0.40, 1.05, 0.78),
}
EDGE_MM = 1.8  # width over which a lesion fades out
MISSED, ADDED = 0.3, 0.25  # small lesions the second rater misses, and adds, as a fraction


class Lesion(NamedTuple):
    """An ovoid: centre and direction in template mm, volume in mm3, long to short axis, contrast
    (1 = typical; on T1 by itself), and whether the second rater misses it."""

    centre: Float[ndarray, "3"]
    direction: Float[ndarray, "3"]
    volume: float
    elongation: float
    contrast: float
    t1_contrast: float
    missed: bool


class Visit(NamedTuple):
    """One scan on the whole grid: int16 images by modality, masks of the two raters (0, 1)."""

    images: dict[str, Int16[ndarray, "x y z"]]
    masks: tuple[UInt8[ndarray, "x y z"], UInt8[ndarray, "x y z"]]


def ms_grid(voxel_mm: float = 1.0) -> Grid:
    """The MNI grid of the challenge's preprocessed scans: 181 x 217 x 181 at 1 mm."""
    return make_grid((181, 217, 181), voxel_mm, (-90, -126, -72), (1, 1, 1), (0, 0, 0))


@lru_cache(maxsize=1)
def ms_anatomy(voxel_mm: float, seed: int, patient: int) -> Anatomy:
    """The head of a patient (numbered from 1), the same at all visits; the last one is kept."""
    return make_anatomy(ms_grid(voxel_mm), "ms", seed, patient)


def lesions_at(seed: int, patient: int, visit: int) -> list[Lesion]:
    """Lesions of a patient at a visit (from 1): old ones grown or shrunk, and new ones.

    A visit depends on the visits before it only, so it is the same however many there are.
    """
    draw = random("lesions", seed, patient)
    load = np.exp(draw.uniform(np.log(3500), np.log(20000)))
    lesions = _draw_lesions(draw, int(draw.integers(18, 45) + load / 1500), load)
    for later in range(2, visit + 1):
        draw = random("lesions", seed, patient, later)
        grown = np.exp(draw.normal(0, 0.2, len(lesions)))
        lesions = [le._replace(volume=le.volume * g) for le, g in zip(lesions, grown, strict=True)]
        lesions += _draw_lesions(draw, int(draw.integers(0, 5)), 0)
    return lesions


def _draw_lesions(draw: np.random.Generator, count: int, load: float) -> list[Lesion]:
    volumes = np.clip(np.exp(draw.normal(np.log(55), 0.9, count)), 12, 400)
    n_large = 0
    missing = load - volumes.sum()
    if missing > 0 and count:
        n_large = min(count // 2, 3 + int(missing // 700))
        volumes[:n_large] = np.maximum(draw.dirichlet([3] * n_large) * missing, 150)
    return [_draw_lesion(draw, float(v), n < n_large) for n, v in enumerate(volumes)]


def _draw_lesion(draw: np.random.Generator, volume: float, large: bool) -> Lesion:
    # Large lesions are those that flow together at the ventricles.
    place = "near" if large else draw.choice(["near", "deep", "cortex"], p=[0.55, 0.25, 0.2])
    centre = _draw_place(draw, place)
    direction = _away_from_ventricle(centre)
    if place != "near":
        direction = direction + draw.normal(0, 0.7, 3)
    return Lesion(
        centre,
        direction / np.linalg.norm(direction),
        volume,
        draw.uniform(1.4, 2.8) if place == "near" else draw.uniform(1.0, 1.6),
        draw.uniform(0.5, 1.15),
        draw.uniform(0.0, 1.3),
        bool(volume < 80 and draw.random() < MISSED),
    )


def _draw_place(draw: np.random.Generator, place: str) -> Float[ndarray, "3"]:
    voxels = _places()[place]
    voxel = voxels[draw.integers(len(voxels))]
    return voxel + np.array(load_template().origin) + draw.uniform(-0.5, 0.5, 3)


@lru_cache(maxsize=1)
def _places() -> dict[str, Int[ndarray, "voxel 3"]]:
    t = load_template()
    height = np.arange(t.white.shape[2]) + t.origin[2]
    white = (t.white > 0.75) & (height > -12)  # few lesions are below the tentorium
    far = white & (t.to_ventricle > 8)
    places = {
        "near": white & (t.to_ventricle > 2) & (t.to_ventricle < 7),
        "deep": far & (t.white_depth > 3.5),
        "cortex": far & (t.white_depth < 3) & (t.white_depth > 1.5),
    }
    return {name: np.argwhere(place) for name, place in places.items()}


def _away_from_ventricle(centre: Float[ndarray, "3"]) -> Float[ndarray, "3"]:
    t = load_template()
    steps = np.concatenate([np.eye(3), -np.eye(3)]) * 3
    points = (centre - np.array(t.origin) + steps).T
    d = ndimage.map_coordinates(t.to_ventricle, points, order=1, mode="nearest")
    return d[:3] - d[3:] + 1e-3


def make_visit(anatomy: Anatomy, seed: int, patient: int, visit: int) -> Visit:
    """Pictures and masks of one visit, from the head that `ms_anatomy` made of this patient."""
    lesions = lesions_at(seed, patient, visit)
    rough = smooth_field(anatomy.grid, 4.5, "rough", seed, patient)
    depth, bright, dark = lesion_maps(anatomy, lesions, rough)
    allowed = anatomy.brain & (anatomy.fluid < 0.5)
    first = allowed & (depth > 0)
    second = allowed & (second_rater_depth(anatomy, lesions, rough, seed, patient, visit) > 0)
    images = {
        name: render(anatomy, signal, "ms", seed, patient, visit, name)
        for name, signal in _signals(anatomy, bright, dark, seed, patient, visit).items()
    }
    whole = anatomy.grid.whole
    masks = (whole(first.astype(np.uint8)), whole(second.astype(np.uint8)))
    return Visit({name: whole(image) for name, image in images.items()}, masks)


def lesion_maps(anatomy: Anatomy, lesions: list[Lesion], rough: Map) -> tuple[Map, Map, Map]:
    """mm inside the nearest lesion edge (negative outside), and how much lesion a voxel shows
    (0..1.2) on the T2-like modalities and on T1."""
    depth = np.full(rough.shape, -20, np.float32)
    bright, dark = np.zeros_like(depth), np.zeros_like(depth)
    for lesion in lesions:
        part, inside = _ovoid(anatomy, lesion, rough)
        share = np.clip(0.5 + inside / EDGE_MM, 0, 1)
        np.maximum(depth[part], inside, out=depth[part])
        np.maximum(bright[part], share * lesion.contrast, out=bright[part])
        np.maximum(dark[part], share * lesion.t1_contrast, out=dark[part])
    return depth, bright, dark


def _ovoid(anatomy: Anatomy, lesion: Lesion, rough: Map) -> tuple[tuple[slice, ...], Map]:
    short = (3 * lesion.volume / (4 * np.pi * lesion.elongation)) ** (1 / 3)
    reach = short * lesion.elongation + 16  # 16 mm: more than a head is ever bent
    part = tuple(
        _span(abs(axis - c) < reach)
        for axis, c in zip(anatomy.grid.axes, lesion.centre, strict=True)
    )
    offset = anatomy.position[(slice(None), *part)] - _column(lesion.centre)
    along = (_column(lesion.direction) * offset).sum(0)
    across = np.maximum((offset**2).sum(0) - along**2, 0)
    radius = np.sqrt((along / np.float32(lesion.elongation)) ** 2 + across)
    edge = short * (1 + 0.25 * rough[part])
    return part, (edge - radius).astype(np.float32)


def _span(near: Bool[ndarray, "_"]) -> slice:
    index = np.flatnonzero(near)
    return slice(index[0], index[-1] + 1) if len(index) else slice(0, 0)


def _column(point: Float[ndarray, "3"]) -> ndarray:
    return point.astype(np.float32)[:, None, None, None]


def second_rater_depth(
    anatomy: Anatomy, lesions: list[Lesion], rough: Map, seed: int, patient: int, visit: int
) -> Map:
    """mm inside what the second rater takes for a lesion; the same habits at every visit."""
    seen = [lesion for lesion in lesions if not lesion.missed]
    draw = random("added", seed, patient)
    added = _draw_lesions(draw, max(1, round(ADDED * len(seen))), 0)
    seen += [lesion._replace(volume=lesion.volume / 2) for lesion in added]
    # Another shape for every lesion, small or large, and a shift of the edge in mm.
    shape = smooth_field(anatomy.grid, 7, "shape", seed, patient)
    depth, _, _ = lesion_maps(anatomy, seen, 0.45 * rough + 0.75 * shape)
    mood = smooth_field(anatomy.grid, 9, "rater", seed, patient, visit)
    lean = random("lean", seed, patient).normal(0, 0.15)
    return depth + (lean + 0.35 * mood).astype(np.float32)


def _signals(
    anatomy: Anatomy, bright: Map, dark: Map, seed: int, patient: int, visit: int
) -> dict[str, Map]:
    capped = _caps(anatomy, seed, patient)
    texture = 1 + 0.025 * smooth_field(anatomy.grid, 9, "texture", seed, patient)
    flow = _flow(anatomy, seed, patient, visit)
    signals = {}
    for name, (grey, white, fluid, lesion) in SIGNAL.items():
        signal = grey * anatomy.grey + white * anatomy.white + fluid * anatomy.fluid
        share = dark if name == "mprage" else np.maximum(bright, capped)
        # Lesions do not replace fluid: the ventricles keep their signal.
        signal = signal + share * (1 - anatomy.fluid) * (lesion - white)
        if name == "flair":
            signal = signal + flow
        signals[name] = (signal * texture).astype(np.float32)
    return signals


def _caps(anatomy: Anatomy, seed: int, patient: int) -> Map:
    """The thin bright rim and caps that healthy ventricles have too, as a share of a lesion."""
    strength = 0.3 + 0.12 * smooth_field(anatomy.grid, 18, "caps", seed, patient)
    rim = np.exp(-((anatomy.to_ventricle / 3.0) ** 2)) * (1 - anatomy.fluid)
    haze = 0.1 * smooth_field(anatomy.grid, 12, "haze", seed, patient) * anatomy.white
    return np.clip(strength * rim + haze, 0, 0.55).astype(np.float32)


def _flow(anatomy: Anatomy, seed: int, patient: int, visit: int) -> Map:
    """Bright clouds in the fluid of FLAIR, where it flowed into the slice unsuppressed."""
    clouds = smooth_field(anatomy.grid, 8, "flow", seed, patient, visit)
    return (anatomy.fluid * np.clip(clouds - 1.2, 0, 1.2) * 0.4).astype(np.float32)
