"""Pictures of the stand-ins: plausible lesions, tumours, tissue contrast and noise.

Oracles: scipy.stats for noise, scipy.ndimage for topology, the analytic volume of an ellipsoid,
and the real tissue maps for contrast.
"""

import nibabel
import numpy as np
import pytest
from scipy import ndimage, stats

from data_prep.standins import anatomy as standin_anatomy
from data_prep.standins import lesions as standin_lesions
from data_prep.standins import tumours as standin_tumours
from data_prep.standins.anatomy import Anatomy, make_grid, smooth_field
from data_prep.standins.lesions import Lesion, lesion_maps, lesions_at, ms_anatomy
from data_prep.standins.tumours import plan_tumour

CROSS = ndimage.generate_binary_structure(3, 1)


def dice(first, second):
    return 2 * np.sum(first & second) / (first.sum() + second.sum())


@pytest.fixture(scope="module")
def scans():
    """Three patients at 2 mm: the head and the first visit of each."""
    heads = [ms_anatomy(2.0, 0, patient) for patient in (1, 2, 3)]
    return [(h, standin_lesions.make_visit(h, 0, p, 1)) for p, h in enumerate(heads, start=1)]


@pytest.fixture(scope="module")
def tumours():
    """The first case with an enhancing ring and the first without, at 2 mm, by its plan."""
    plans = {case: plan_tumour(0, case) for case in range(1, 20)}
    cases = [next(c for c, p in plans.items() if bool(p.ring) == ring) for ring in (True, False)]
    return [(plans[c], standin_tumours.make_case(2.0, 0, c)) for c in cases]


# --- pictures -------------------------------------------------------------------------------


def medians(image, head, without):
    """Median signal where a tissue is nearly pure, in the order grey, white, fluid."""
    inside = [(t > 0.9) & ~without for t in (head.grey, head.white, head.fluid)]
    return [float(np.median(image[part])) for part in inside]


@pytest.mark.parametrize(
    ("modality", "order"),
    [
        ("mprage", ("white", "grey", "fluid")),
        ("t2", ("fluid", "grey", "white")),
        ("pd", ("grey", "fluid", "white")),
        ("flair", ("grey", "white", "fluid")),
    ],
)
def test_tissues_rank_as_on_real_scans(scans, modality, order):
    for head, visit in scans:
        lesions = ndimage.binary_dilation(visit.masks[0], iterations=3)[head.grid.box]
        image = visit.images[modality][head.grid.box]
        values = dict(zip(("grey", "white", "fluid"), medians(image, head, lesions), strict=True))
        assert tuple(sorted(values, key=values.get, reverse=True)) == order, values


def test_lesions_are_bright_on_flair_t2_pd_and_not_on_t1(scans):
    for head, visit in scans:
        inside = ndimage.binary_erosion(visit.masks[0], CROSS)[head.grid.box]
        white = (head.white > 0.9) & ~ndimage.binary_dilation(inside, iterations=4)
        ratio = {
            name: np.median(image[head.grid.box][inside]) / np.median(image[head.grid.box][white])
            for name, image in visit.images.items()
        }
        assert ratio["flair"] > 1.25 and ratio["t2"] > 1.25 and ratio["pd"] > 1.08, ratio
        assert 0.6 < ratio["mprage"] < 1.02, ratio


def test_lesions_cannot_be_found_by_a_threshold_alone(scans):
    for _, visit in scans:
        flair, mask = visit.images["flair"], visit.masks[0] > 0
        levels = np.quantile(flair[flair > 0], np.linspace(0.9, 0.9999, 60))
        best = max(dice(flair > level, mask) for level in levels)
        assert 0.1 < best < 0.9


def test_lesions_are_in_white_matter_and_mostly_near_the_ventricles(scans):
    for head, visit in scans:
        mask = visit.masks[0][head.grid.box] > 0
        assert head.white[mask].mean() > 0.65
        assert head.fluid[mask].max() < 0.5
        # By volume: few voxels of white matter are so near, most of the lesions are.
        near = head.to_ventricle < 12
        assert near[mask].mean() > 2.5 * near[head.white > 0.5].mean()


def test_lesion_counts_volumes_and_raters_are_realistic(scans):
    agreement = []
    for _, visit in scans:
        first, second = (mask > 0 for mask in visit.masks)
        _, count = ndimage.label(first, np.ones((3, 3, 3)))
        assert 10 <= count <= 60
        assert 2e3 < first.sum() * 2.0**3 < 22e3
        agreement.append(dice(first, second))
        parts, n = ndimage.label(first, np.ones((3, 3, 3)))
        found = ndimage.maximum(second, parts, range(1, n + 1))
        assert 0.4 < np.mean(found) < 1  # the second rater misses some, not most
        parts, n = ndimage.label(second, np.ones((3, 3, 3)))
        assert np.mean(ndimage.maximum(first, parts, range(1, n + 1))) < 1  # and adds some
    assert 0.55 < np.mean(agreement) < 0.85


def test_lesions_grow_shrink_and_appear():
    first, fourth = lesions_at(0, 1, 1), lesions_at(0, 1, 4)
    pairs = list(zip(first, fourth, strict=False))
    assert all((a.centre == b.centre).all() for a, b in pairs)
    assert any(a.volume < b.volume for a, b in pairs) and any(a.volume > b.volume for a, b in pairs)
    assert (
        max(
            len(lesions_at(0, patient, 5)) - len(lesions_at(0, patient, 1)) for patient in (1, 2, 3)
        )
        > 0
    )


def test_patients_have_different_heads():
    heads = [ms_anatomy(4.0, 0, patient) for patient in (1, 2)]
    assert dice(heads[0].brain, heads[1].brain) > 0.85
    assert 0.3 < dice(heads[0].white > 0.5, heads[1].white > 0.5) < 0.95
    for head in heads:
        total = head.grey + head.white + head.fluid
        np.testing.assert_allclose(total[head.brain], 1, atol=1e-5)
        assert (total[~head.brain] == 0).all()


# --- tumours --------------------------------------------------------------------------------


def test_tumour_has_the_planned_volume_and_labels(tumours):
    for plan, case in tumours:
        expected = {0, 1, 2, 4} if plan.ring else {0, 1, 2}
        assert set(np.unique(case.labels)) == expected
        core = np.isin(case.labels, (1, 4)).sum() * 8
        assert 0.9 * plan.core < core <= 1.01 * plan.core
        assert 0.9 * plan.oedema < (case.labels == 2).sum() * 8 <= 1.01 * plan.oedema


def test_tumour_is_one_piece_with_oedema_outside_the_core(tumours):
    for plan, case in tumours:
        core, oedema = np.isin(case.labels, (1, 4)), case.labels == 2
        assert ndimage.label(case.labels > 0)[1] == 1 and ndimage.label(core)[1] == 1
        assert (ndimage.binary_dilation(core, CROSS) & oedema).any()
        filled = ndimage.binary_fill_holes(core)
        assert (oedema & filled).sum() < 0.02 * oedema.sum()
        if plan.ring:
            enhancing, dead = case.labels == 4, case.labels == 1
            assert (ndimage.binary_dilation(dead, CROSS) & enhancing).any()
            # A ring: on average nearer to the outside than the dead tissue it encloses.
            inner = ndimage.distance_transform_edt(core)
            assert inner[enhancing].mean() < inner[dead].mean()


def test_only_the_enhancing_ring_is_bright_after_contrast(tumours):
    plan, case = tumours[0]
    assert plan.ring
    level = {
        name: {k: np.median(image[case.labels == k]) for k in (1, 2, 4)}
        | {"brain": np.median(image[(image > 0) & (case.labels == 0)])}
        for name, image in case.images.items()
    }
    assert level["t1ce"][4] > 1.3 * level["t1ce"]["brain"] > level["t1ce"][1]
    assert level["t1"][4] < 1.1 * level["t1"]["brain"]
    assert level["flair"][2] > 1.25 * level["flair"]["brain"]
    assert level["t2"][2] > 1.25 * level["t2"]["brain"]


def test_whole_tumours_have_20_to_150_ml_and_some_do_not_enhance():
    plans = [plan_tumour(seed, case) for seed in (0, 1) for case in range(1, 41)]
    assert all(20e3 < p.core + p.oedema < 150e3 for p in plans)
    assert sum(p.ring == 0 for p in plans) == 80 // 5


# --- parts ----------------------------------------------------------------------------------


def small_grid(voxel=1.0):
    return make_grid((44, 44, 44), voxel, (-10, -40, 10), (1, 1, 1), (0, 0, 0))


def straight_head(grid):
    position = np.stack(np.meshgrid(*grid.axes, indexing="ij")).astype(np.float32)
    ones, zeros = np.ones(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    return Anatomy(grid, zeros, ones, zeros, ones > 0, 20 * ones, position)


@pytest.mark.parametrize("volume", [60.0, 400.0, 2500.0])
@pytest.mark.parametrize("elongation", [1.0, 2.0])
def test_a_smooth_lesion_has_its_volume_and_direction(volume, elongation):
    grid = small_grid()
    direction = np.array([1.0, 2.0, 2.0]) / 3
    lesion = Lesion(np.array([11.3, -18.2, 31.4]), direction, volume, elongation, 1.0, 0.5, False)
    depth, bright, dark = lesion_maps(straight_head(grid), [lesion], np.zeros(grid.shape))
    inside = np.argwhere(depth > 0)
    assert len(inside) == pytest.approx(volume, rel=0.12)
    np.testing.assert_allclose(
        nibabel.affines.apply_affine(grid.affine, inside.mean(0)), lesion.centre, atol=0.4
    )
    if elongation > 1:
        axes = np.linalg.eigh(np.cov(inside.T))[1]
        assert abs(axes[:, -1] @ direction) > 0.95
    assert bright.max() == pytest.approx(1, abs=0.3) and (bright[depth > 0] >= 0.5).all()
    np.testing.assert_allclose(dark, bright / 2, rtol=1e-5)


def test_the_second_rater_misses_some_small_lesions_only():
    lesions = [lesion for patient in range(1, 31) for lesion in lesions_at(0, patient, 1)]
    small = [lesion.missed for lesion in lesions if lesion.volume < 80]
    assert 0.2 < np.mean(small) < 0.4
    assert not any(lesion.missed for lesion in lesions if lesion.volume >= 80)


@pytest.mark.parametrize("missed", [False, True])
def test_a_missed_lesion_is_not_in_the_second_mask(missed):
    head, centre = straight_head(small_grid()), np.array([12.0, -18.0, 32.0])
    lesion = Lesion(centre, np.array([0.0, 0.0, 1.0]), 900.0, 1.5, 1.0, 1.0, missed)
    rough = np.zeros(head.grid.shape, np.float32)
    depth = standin_lesions.second_rater_depth(head, [lesion], rough, 0, 1, 1)
    index = tuple((centre - head.grid.affine[:3, 3]).astype(int))
    assert (depth[index] > 0) != missed


def test_no_lesions_at_all_give_empty_maps():
    grid = small_grid()
    depth, bright, dark = lesion_maps(straight_head(grid), [], np.zeros(grid.shape))
    assert (depth < 0).all() and not bright.any() and not dark.any()


def test_smooth_field_has_mean_0_and_sd_1_and_varies_slowly():
    values = np.stack(
        [smooth_field(small_grid(4.0), 6, "test", n)[::2, ::2, ::2] for n in range(80)]
    )
    np.testing.assert_allclose(values.mean(), 0, atol=0.05)
    np.testing.assert_allclose(values.std(0).mean(), 1, atol=0.05)
    field = smooth_field(small_grid(), 12, "test")
    assert np.abs(np.diff(field, axis=0)).max() < 0.5


def test_smooth_field_is_the_same_in_space_at_every_voxel_size():
    fine, coarse = smooth_field(small_grid(), 9, "a"), smooth_field(small_grid(3.0), 9, "a")
    np.testing.assert_allclose(fine[1::3, 1::3, 1::3], coarse[:15, :15, :15], atol=1e-4)
    assert np.abs(fine - smooth_field(small_grid(), 9, "b")).max() > 0.5


@pytest.mark.parametrize("level", [0.05, 1.0])
def test_noise_is_rician(level):
    head = straight_head(small_grid())
    signal = np.full(head.grid.shape, level, np.float32)
    image = standin_anatomy.render(head, signal, "noise", noise=0.5, bias=0).astype(float)
    expected = stats.rice(1 / 0.5)  # in units of the noise; the scale of a scan is arbitrary
    found = image.std() / image.mean()
    assert found == pytest.approx(expected.std() / expected.mean(), rel=0.03)


def test_bias_is_smooth_and_of_the_size_asked_for():
    head = straight_head(make_grid((140, 170, 140), 4.0, (-70, -105, -65), (1, 1, 1), (0, 0, 0)))
    signal = np.ones(head.grid.shape, np.float32)[head.grid.box]
    head = head._replace(brain=head.brain[head.grid.box])
    image = standin_anatomy.render(head, signal, "bias", noise=0, bias=0.08).astype(float)
    relative = image / np.median(image)
    assert 0.1 < relative.max() - relative.min() < 0.8
    assert np.abs(np.diff(relative, axis=0)).max() < 0.05


def test_scale_differs_from_scan_to_scan(scans):
    levels = [np.median(v.images["t2"][v.images["t2"] > 0]) for _, v in scans]
    assert max(levels) > 1.2 * min(levels)
