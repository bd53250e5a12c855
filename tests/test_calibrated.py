"""Calibration against literal loops, scikit-image's morphology and annotators of known width."""

import itertools
import math

import numpy as np
import pytest
import torch
from skimage import morphology

from noisyseg import calibrated, fusion
from noisyseg.report import widths
from noisyseg.simulate import simulate_labels

RNG = np.random.default_rng(0)


def blobs(n=24, size=32, seed=0, dims=2):
    """Pictures of balls whose edge is the truth, with a little noise: images, truth."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(size)] * dims, indexing="ij"))
    truth = np.zeros((n, *[size] * dims), np.int8)
    for k in range(n):
        centre = rng.uniform(0.4 * size, 0.6 * size, dims).reshape(-1, *[1] * dims)
        truth[k] = ((grid - centre) ** 2).sum(0) <= rng.uniform(0.2 * size, 0.25 * size) ** 2
    images = truth[:, None] + 0.05 * rng.normal(size=(n, 1, *[size] * dims))
    return images.astype(np.float32), truth


def drawn(truth, *annotators):
    return simulate_labels(truth, [str(k) for k in range(len(truth))], annotators, 0)


def slow_distance(labels, klass, at):
    """Distance of one pixel to the nearest pixel on the other side of the outline, less half."""
    here = labels[at] == klass
    others = [
        math.dist(at, p)
        for p in np.ndindex(labels.shape)
        if labels[p] >= 0 and (labels[p] == klass) != here
    ]
    if here:
        return min(others) - 0.5
    return 0.5 - min(math.dist(at, p) for p in np.ndindex(labels.shape) if labels[p] == klass)


@pytest.mark.parametrize("shape", [(7, 6), (4, 5, 4)], ids=["2-D", "3-D"])
def test_the_distance_is_that_of_a_loop_over_all_pixels(shape):
    labels = RNG.integers(0, 3, shape)
    labels[0] = -1
    found = calibrated.signed_distance(labels, 1)
    for at in np.ndindex(shape):
        if labels[at] >= 0:
            assert found[at] == pytest.approx(slow_distance(labels, 1, at)), at


def test_a_class_that_is_nowhere_or_everywhere_has_no_outline():
    assert (calibrated.signed_distance(np.zeros((3, 3), int), 1) == -np.inf).all()
    assert (calibrated.signed_distance(np.ones((3, 3), int), 1) == np.inf).all()


def slow_profile(images, labels, annotator, klass):
    """Mean contrast of the neighbours on both sides of each level, over that of all neighbours."""
    at_level = {k: [] for k in range(len(calibrated.LEVELS))}
    everywhere = []
    for image, label in zip(images, labels[:, annotator], strict=True):
        distance = calibrated.signed_distance(label, klass)
        for p in np.ndindex(label.shape):
            for axis in range(label.ndim):
                q = tuple(v + (a == axis) for a, v in enumerate(p))
                if q[axis] >= label.shape[axis] or label[p] < 0 or label[q] < 0:
                    continue
                contrast = math.dist(image[(slice(None), *p)], image[(slice(None), *q)])
                everywhere.append(contrast)
                if np.isinf(distance[p]):
                    continue
                low, high = sorted((distance[p], distance[q]))
                for k, level in enumerate(calibrated.LEVELS):
                    if low < level < high:
                        at_level[k].append(contrast)
    means = [np.mean(v) if v else 0.0 for v in at_level.values()]
    return np.array(means) / np.mean(everywhere)


@pytest.mark.parametrize("shape", [(14, 13), (7, 8, 9)], ids=["2-D", "3-D"])
def test_the_profile_is_that_of_a_loop_over_all_neighbours(shape):
    rng = np.random.default_rng(1)
    images = rng.normal(size=(3, 2, *shape))
    labels = np.zeros((3, 2, *shape), int)
    middle = tuple(slice(s // 3, 2 * s // 3 + 1) for s in shape)
    labels[:, 0][(slice(None), *middle)] = 1
    labels[1, 0][middle] = 2
    labels[:, 1] = rng.integers(0, 3, (3, *shape))
    labels[2, 1, :2] = -1
    found = calibrated.calibrate(images, labels, 3)
    for r, c in itertools.product(range(2), (1, 2)):
        expected = slow_profile(images, labels, r, c)
        np.testing.assert_allclose(found.profile[r, c], expected, rtol=1e-9)


@pytest.mark.parametrize("dims", [2, 3])
def test_offsets_are_how_far_somebody_draws_outside_the_edge(dims):
    images, truth = blobs(n=8, size=32 if dims == 2 else 20, dims=dims)
    found = calibrated.calibrate(images, drawn(truth, "good", "over@1", "under@1", "over@2"), 2)
    offset = found.offset[:, 1]
    assert abs(offset[0]) < 0.5
    assert 0.5 < offset[1] < 1.1 and -1.5 < offset[2] < -0.5 and 1 < offset[3] < 2.5
    assert (found.sharpness[:, 1] > 1).all()


def test_one_label_an_image_gives_the_offsets_as_well():
    images, truth = blobs(n=40)
    labels = drawn(truth, "good", "over@1", "under@1")
    whole = calibrated.calibrate(images, labels, 2)
    for n in range(len(labels)):
        labels[n, [r for r in range(3) if r != n % 3]] = -1
    one = calibrated.calibrate(images, labels, 2)
    np.testing.assert_allclose(one.offset, whole.offset, atol=0.25)


def test_neither_order_nor_absence_of_others_changes_an_annotators_offset():
    images, truth = blobs()
    labels = drawn(truth, "good", "over@1.5", "under@1", "blank")
    found = calibrated.calibrate(images, labels, 2)
    order = [3, 1, 0, 2]
    other = calibrated.calibrate(images[::-1], labels[::-1][:, order], 2)
    np.testing.assert_allclose(other.offset, found.offset[order])
    np.testing.assert_allclose(other.weight(), found.weight()[order])
    for anchor in ("annotators", "image"):
        moves, again = found.shift(anchor), other.shift(anchor)
        np.testing.assert_array_equal(again, moves[order])
    alone = calibrated.calibrate(images, labels[:, 1:2], 2)
    np.testing.assert_allclose(alone.offset[0], found.offset[1])
    assert alone.shift()[0, 1] == 0  # there is nobody to compare with


def test_an_annotator_who_labelled_nothing_changes_nothing():
    images, truth = blobs()
    labels = drawn(truth, "good", "over@1")
    absent = np.concatenate([labels, np.full_like(labels[:, :1], -1)], 1)
    found, more = (calibrated.calibrate(images, y, 2) for y in (labels, absent))
    np.testing.assert_allclose(more.offset[:2], found.offset)
    assert more.weight()[2] == 0 and np.isnan(more.relative()[2, 1])


def test_somebody_who_marks_nothing_has_no_offset_and_no_say():
    images, truth = blobs()
    found = calibrated.calibrate(images, drawn(truth, "good", "over@1", "blank"), 2)
    assert found.offset[2, 1] == 0 and found.weight()[2] == 0
    assert np.isnan(found.relative()[2, 1]) and found.shift()[2, 1] == 0


def test_masks_that_follow_no_edge_are_not_moved():
    images, _ = blobs(n=40)
    _, elsewhere = blobs(n=40, seed=7)
    elsewhere = np.roll(elsewhere, 9, axis=2)
    noise = RNG.normal(size=images.shape)
    found = calibrated.calibrate(noise, elsewhere[:, None], 2)
    assert found.sharpness[0, 1] == 0 and found.shift("image")[0, 1] == 0
    assert found.weight().tolist() == [1.0]  # where nobody follows an edge all count alike


def test_somebody_of_two_habits_has_no_one_offset():
    images, truth = blobs(n=40)
    labels = drawn(truth, "good", "over@3")
    mixed = np.where(np.arange(40)[:, None, None] % 2, labels[:, 0], labels[:, 1])
    found = calibrated.calibrate(images, mixed[:, None], 2)
    assert found.offset[0, 1] == 0 and found.sharpness[0, 1] == 0


def test_the_annotators_keep_the_group_and_the_image_does_not():
    images, truth = blobs()
    labels = drawn(truth, "over@1#1", "over@1#2", "over@1#3", "good")
    found = calibrated.calibrate(images, labels, 2)
    assert (found.shift()[:3, 1] == 0).all() and found.shift()[3, 1] < -0.5
    assert (found.shift("image")[:3, 1] > 0.5).all() and found.shift("image")[3, 1] == 0
    with pytest.raises(ValueError, match="unknown anchor 'edge'; allowed: annotators, image"):
        found.shift("edge")


@pytest.mark.parametrize(
    ("inwards", "shape", "grow"),
    [(0.6, morphology.diamond(1), False), (1.2, np.ones((3, 3)), False),
     (-0.6, morphology.diamond(1), True), (-1.2, np.ones((3, 3)), True)],
)  # fmt: skip
def test_moving_is_erosion_and_dilation(inwards, shape, grow):
    _, truth = blobs(n=3, seed=3)
    way = morphology.dilation if grow else morphology.erosion
    for mask in truth:
        new = calibrated.moved(mask[None], np.array([[0.0, inwards]]))[0]
        np.testing.assert_array_equal(new, way(mask, shape))


def test_what_a_class_gives_up_goes_to_its_neighbour():
    label = np.zeros((1, 9, 9), int)
    label[0, 2:7, 2:7] = 2
    label[0, 3:6, 3:6] = 1
    new = calibrated.moved(label, np.array([[0.0, 1.2, 0.0]]))[0]
    assert (new == 1).sum() == 1 and (new == 2).sum() == 24  # the core's rim becomes class 2
    new = calibrated.moved(label, np.array([[0.0, -0.6, 0.0]]))[0]
    assert (new == 1).sum() == 21 and (new[2:7, 2:7] > 0).all()  # the core takes from class 2


def test_unlabelled_pixels_stay_so_and_the_border_is_no_outline():
    label = np.zeros((1, 6, 8), int)
    label[:, :, :4] = 1
    label[:, :2] = -1
    new = calibrated.moved(label, np.array([[0.0, 0.6]]))
    assert (new[:, :2] == -1).all()
    assert new[0, 3].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]


def test_calibrated_labels_agree_where_raw_ones_do_not():
    images, truth = blobs(n=12)
    labels = drawn(truth, "good", "over@1", "under@1", "over@2")
    found = calibrated.calibrate(images, labels, 2)
    new = calibrated.calibrated_labels(labels, found.shift("image"))
    before, after = ((y == truth[:, None]).mean((0, 2, 3)) for y in (labels, new))
    assert (after >= before).all() and after.min() > 0.985 > before.min()


def test_the_interval_holds_the_value_and_is_absent_without_an_offset():
    images, truth = blobs(n=30)
    labels = drawn(truth, "good", "over@1", "good#2", "blank")
    value, low, high = widths.intervals(
        images, labels, 2, [str(k // 2) for k in range(30)], resamples=100
    )
    assert low[1, 1] <= value[1, 1] <= high[1, 1] and 0.5 < low[1, 1]
    assert np.isnan([value[3, 1], low[3, 1], high[3, 1]]).all()


def test_a_sharp_annotator_has_at_most_twice_the_median_say():
    found = calibrated.Calibration(
        np.zeros((4, 2, 1)), np.zeros((4, 2)), np.array([[0, 1.0], [0, 1.0], [0, 9.0], [0, 0.0]])
    )
    weight = found.weight()
    assert weight[2] == pytest.approx(2 * weight[0]) and weight[3] == 0
    assert weight[:3].mean() == pytest.approx(1)


def test_the_weighted_median_is_the_plain_one_for_equal_weights():
    values = RNG.normal(size=(7, 3))
    found = calibrated.weighted_median(values, np.ones_like(values))
    np.testing.assert_allclose(found, np.median(values, 0))
    even = calibrated.weighted_median(values[:6], np.ones((6, 3)))
    np.testing.assert_allclose(even, np.median(values[:6], 0))
    assert (calibrated.weighted_median(values, np.zeros_like(values)) == 0).all()


def test_of_two_annotators_neither_is_the_middle():
    """The sharper of two would otherwise pull the other one all the way to its own outline."""
    values, weights = np.array([[1.7], [-0.2], [9.0]]), np.array([[0.4], [2.0], [0.0]])
    assert calibrated.weighted_median(values, weights) == pytest.approx(0.75)
    image = np.zeros((4, 1, 20, 20))
    image[..., 6:14, 6:14] = 1
    grown, shrunk = np.zeros((2, 4, 1, 20, 20), int)
    grown[..., 4:16, 4:16] = shrunk[..., 8:12, 8:12] = 1
    labels = np.concatenate([grown, shrunk], 1)
    found = calibrated.calibrate(image, labels, 2)
    assert found.relative()[:, 1] == pytest.approx([2, -2], abs=0.3)
    better = calibrated.calibrated_labels(labels, found.shift())
    assert (better[:, 0] == better[:, 1]).mean() > 0.98
    swapped = calibrated.calibrate(image, labels[:, ::-1], 2)
    assert np.array_equal(swapped.shift()[::-1], found.shift(), equal_nan=True)


def test_who_uses_other_names_has_less_say():
    labels = RNG.integers(0, 3, (6, 1, 8, 8)).repeat(4, 1)
    swapped = labels[:, 3].copy()
    labels[:, 3] = np.where(swapped == 1, 2, np.where(swapped == 2, 1, 0))
    weight = calibrated.say(labels, np.ones(4), 3)
    assert weight[3] == 0 and (weight[:3] == 1).all()


def test_two_classes_or_no_overlap_leave_the_say_as_it_is():
    two = RNG.integers(0, 2, (6, 3, 8, 8))
    np.testing.assert_array_equal(calibrated.say(two, np.array([1.0, 0.5, 0.0]), 2), [1, 0.5, 0])
    one = RNG.integers(0, 3, (6, 3, 8, 8))
    for n in range(6):
        one[n, [r for r in range(3) if r != n % 3]] = -1
    np.testing.assert_array_equal(calibrated.say(one, np.ones(3), 3), np.ones(3))


def test_the_vote_with_equal_weights_is_the_mean_of_the_labels():
    labels = torch.from_numpy(RNG.integers(-1, 3, (4, 5, 6, 6)))
    equal = calibrated.calibrated_vote(labels, torch.ones(5), 3).posterior
    torch.testing.assert_close(equal, fusion.mean_labels(labels, 3).posterior)


def test_nobody_with_a_say_leaves_the_vote_open():
    labels = torch.ones(1, 2, 2, 2, dtype=torch.int64)
    vote = calibrated.calibrated_vote(labels, torch.tensor([0.0, 0.0]), 2).posterior
    assert (vote == 0.5).all()


def test_a_constant_image_has_no_edges():
    _, truth = blobs(n=2)
    found = calibrated.calibrate(np.ones((2, 1, 32, 32)), truth[:, None], 2)
    assert np.isfinite(found.profile).all() and not found.sharpness.any()
