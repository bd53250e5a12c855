"""Masks of a nodule -> a CT crop that could have led to them: a stand-in, no measured pixel.

Lung tissue with vessels and sometimes the chest wall, a nodule whose density, edge and spikes
follow the readers' ratings, the noise of a low-dose scan, in Hounsfield units. The nodule's
boundary is given; how readers came to differ from it is not modelled.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import ndimage

Depth = Float[ndarray, "slice height width"]

WINDOW_HU = (-1000.0, 400.0)  # becomes 0..1
LUNG_HU, WALL_HU, VESSEL_HU, SOLID_HU, GLASS_HU = -860.0, 40.0, 20.0, 30.0, -560.0
FAR_PX = 5.0  # depths are cut off here, so that a reader who drew nothing counts as one far off
NOISE_HU = (25.0, 60.0)  # standard deviation, drawn for each scan


class Look(NamedTuple):
    """Mean ratings of a nodule, 1 to 5: texture 1 = ground glass, 5 = solid; margin 1 = poorly
    defined, 5 = sharp; spiculation 1 = none, 5 = marked."""

    texture: float
    margin: float
    spiculation: float


def depth_of(masks: Bool[ndarray, "*some height width"]) -> Float[ndarray, "*some height width"]:
    """Distance of each pixel to the mask's boundary in pixels, positive inside.

    Cut off at 5 px; an empty mask is 5 px away everywhere. Half a pixel belongs to either side.
    """
    flat = masks.reshape(-1, *masks.shape[-2:])
    depth = np.full(flat.shape, -FAR_PX)
    for n, mask in enumerate(flat):
        if mask.any():
            padded = np.pad(mask, 1)  # the border of the crop is outside
            inner = ndimage.distance_transform_edt(padded)[1:-1, 1:-1] - 0.5
            outer = ndimage.distance_transform_edt(~mask) - 0.5
            depth[n] = np.where(mask, inner, -outer).clip(-FAR_PX, FAR_PX)
    return depth.reshape(masks.shape)


def render(
    depth: Depth, offsets_px: Float[ndarray, " slice"], look: Look, rng: np.random.Generator
) -> Float[ndarray, "slice height width"]:
    """A CT crop of every slice in HU; `depth` as in `depth_of` says where the nodule is.

    `offsets_px`: how far each slice is along z, in pixels, so that vessels go on from one
    slice to the next.
    """
    picture = _lung(depth.shape, rng)
    picture = _blend(picture, VESSEL_HU, _vessels(depth.shape, offsets_px, rng))
    picture = _blend(picture, WALL_HU, _wall(depth, rng))
    softness = 0.35 + 0.3 * (5 - look.margin)
    inside = 1 / (1 + np.exp(-depth / softness))
    tissue = _tissue(depth, look, rng)
    picture = _blend(picture, tissue, np.maximum(inside, _spikes(depth, look, rng)))
    return _scanned(picture, rng)


def windowed(picture: Float[ndarray, "..."]) -> Float[ndarray, "..."]:
    """HU -> 0..1: -1000 HU and less is 0, 400 HU and more is 1."""
    low, high = WINDOW_HU
    return ((picture - low) / (high - low)).clip(0, 1)


def _blend(under: ndarray, over: ndarray | float, weight: ndarray) -> ndarray:
    return under + weight * (over - under)


def _smooth(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> ndarray:
    """Smooth noise of standard deviation 1, alike in neighbouring slices."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), (1, scale, scale), mode="wrap")
    return noise / noise.std()


def _lung(shape: tuple[int, ...], rng: np.random.Generator) -> ndarray:
    level = LUNG_HU + rng.normal(0, 25)
    return level + 25 * _smooth(shape, 8, rng) + 30 * _smooth(shape, 1.2, rng)


def _vessels(shape: tuple[int, ...], offsets: ndarray, rng: np.random.Generator) -> ndarray:
    """Share of vessel in each pixel: bent tubes in all directions, thin ones more often."""
    slices, height, width = shape
    rows, columns = np.mgrid[:height, :width]
    share = np.zeros(shape)
    for _ in range(rng.poisson(11)):
        centre = rng.uniform(0, 1, 2) * (height, width)
        along = rng.standard_normal(3)
        along /= np.linalg.norm(along)
        radius, bend = 0.45 + rng.exponential(0.55), rng.normal(0, 0.006)
        side = np.array([along[1], -along[0]])
        reach = rng.uniform(10, 40)  # half its length
        for n in range(slices):
            position = np.stack([rows - centre[0], columns - centre[1], rows * 0 + offsets[n]])
            on = np.tensordot(along, position, 1)
            away = position - along[:, None, None] * on
            away[:2] += side[:, None, None] * bend * on**2
            distance = np.linalg.norm(away, axis=0)
            tapered = radius * np.clip(1.2 - np.abs(on) / reach, 0, 1)
            share[n] = np.maximum(share[n], _edge(tapered - distance) * (tapered > 0.15))
    return share


def _edge(depth: ndarray) -> ndarray:
    return np.clip(depth / 1.2 + 0.5, 0, 1)  # a scanner shows no boundary sharper than a pixel


def _wall(depth: Depth, rng: np.random.Generator) -> ndarray:
    """Chest wall in one of three crops: a large disc's outside, just off the nodule."""
    present, angle, radius = rng.random() < 1 / 3, rng.uniform(0, 2 * np.pi), rng.uniform(60, 160)
    gap, roughness = rng.exponential(6) + 1.5, _smooth(depth.shape, 5, rng)
    rows, columns = np.mgrid[: depth.shape[1], : depth.shape[2]]
    direction = np.array([np.sin(angle), np.cos(angle)])
    along = rows * direction[0] + columns * direction[1]
    nodule = (depth > -1).any(0)
    if not present or not nodule.any():
        return np.zeros(depth.shape)
    border = along[nodule].max() + gap
    across = rows * direction[1] - columns * direction[0]
    across = across - across[nodule].mean()
    curve = border - across**2 / (2 * radius)
    # Where the curve comes back to the nodule, the nodule stays.
    return _edge(along - curve + 0.8 * roughness) * (depth < -1)


def _tissue(depth: Depth, look: Look, rng: np.random.Generator) -> ndarray:
    """HU of the nodule: ground glass to solid by texture, in between with a solid core."""
    solid = np.clip((look.texture - 1) / 4, 0, 1)
    mottled = 25 * _smooth(depth.shape, 1.5, rng)
    core = np.clip(depth / max(depth.max(), 1) + 2.2 * solid - 1.2 + mottled / 150, 0, 1)
    core = core if solid < 0.95 else np.ones_like(core)
    return _blend(
        GLASS_HU + 150 * solid + 2 * mottled, SOLID_HU + rng.normal(0, 20) + mottled, core
    )


def _spikes(depth: Depth, look: Look, rng: np.random.Generator) -> ndarray:
    """Fine rays outside the boundary; more and longer ones with a higher rating."""
    strength = np.clip((look.spiculation - 1.5) / 3.5, 0, 1)
    phases, count = rng.uniform(0, 2 * np.pi, 3), rng.integers(7, 14)
    if strength == 0 or not (depth > 0).any():
        return np.zeros(depth.shape)
    weight = (depth > 0).sum(0)
    rows, columns = np.mgrid[: depth.shape[1], : depth.shape[2]]
    centre = [np.average(grid, weights=weight) for grid in (rows, columns)]
    angle = np.arctan2(rows - centre[0], columns - centre[1])
    uneven = np.cos(count * angle + phases[0] + 2 * np.sin(2 * angle + phases[1]))
    rays = np.clip(uneven, 0, 1) ** 4 * (0.6 + 0.4 * np.cos(3 * angle + phases[2]))
    fading = np.exp(np.minimum(depth, 0) / (1 + 1.5 * strength))
    return 0.8 * strength * rays * fading * (depth > -FAR_PX)


def _scanned(picture: ndarray, rng: np.random.Generator) -> ndarray:
    """The scanner's blur and its noise, which is grainy but not white."""
    grain = ndimage.gaussian_filter(rng.standard_normal(picture.shape), (0, 0.6, 0.6), mode="wrap")
    blurred = ndimage.gaussian_filter(picture, (0, 0.5, 0.5), mode="nearest")
    return blurred + rng.uniform(*NOISE_HU) * grain / grain.std()
