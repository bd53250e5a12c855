"""Metrics against torchmetrics, MONAI, scikit-learn and literal loops; degenerate masks by name."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score

from noisyseg import metrics

N, R, L, SPACE = 4, 3, 3, (7, 6)


@pytest.fixture
def masks():
    torch.manual_seed(0)
    prediction, truth = torch.randint(0, L, (2, N, *SPACE))
    labels = torch.randint(0, L, (N, R, *SPACE))
    labels[0, 1] = -1
    labels[1, :, :3] = -1
    return prediction, truth, labels


def test_dice_and_iou_are_scikit_learns(masks):
    prediction, truth, _ = masks
    for n in range(N):
        pair = truth[n].flatten(), prediction[n].flatten()
        kwargs = dict(average=None, labels=range(L))
        assert metrics.dice(prediction, truth, L)[n].numpy() == pytest.approx(
            f1_score(*pair, **kwargs)
        )
        assert metrics.iou(prediction, truth, L)[n].numpy() == pytest.approx(
            jaccard_score(*pair, **kwargs)
        )


def test_dice_is_torchmetrics_and_monais(masks):
    from monai.metrics import DiceMetric
    from torchmetrics.functional.segmentation import dice_score

    prediction, truth, _ = masks
    ours = metrics.dice(prediction, truth, L).float()
    one_hot = [torch.nn.functional.one_hot(m, L).movedim(-1, 1) for m in (prediction, truth)]
    theirs = dice_score(*one_hot, num_classes=L, average="none", input_format="one-hot")
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(ours, DiceMetric(reduction="none")(*(m.float() for m in one_hot)))


@pytest.mark.parametrize("score", [metrics.dice, metrics.iou])
def test_both_empty_is_one_and_one_empty_is_zero(score):
    empty, full = torch.zeros(1, 4, 4, dtype=torch.long), torch.ones(1, 4, 4, dtype=torch.long)
    assert score(empty, empty, 2).tolist() == [[1, 1]]
    assert score(empty, full, 2).tolist() == [[0, 0]]
    assert score(full, empty, 2).tolist() == [[0, 0]]


def test_batched_equals_image_by_image(masks):
    prediction, truth, labels = masks
    for one in range(N):
        part = slice(one, one + 1)
        for whole, single in (
            (metrics.dice(prediction, truth, L), metrics.dice(prediction[part], truth[part], L)),
            (
                metrics.generalised_energy_distance(labels, labels[:, :1].clamp_min(0), L),
                metrics.generalised_energy_distance(labels[part], labels[part, :1].clamp_min(0), L),
            ),
            (
                metrics.label_counts(labels, truth, L),
                metrics.label_counts(labels[part], truth[part], L),
            ),
        ):
            torch.testing.assert_close(whole[part], single, equal_nan=True)


def test_label_matrices_are_scikit_learns_transposed(masks):
    _, truth, labels = masks
    ours = metrics.normalise_columns(metrics.label_counts(labels, truth, L).sum(0))
    for r in range(R):
        seen = labels[:, r] >= 0
        theirs = confusion_matrix(
            truth[seen], labels[:, r][seen], labels=range(L), normalize="true"
        )
        np.testing.assert_allclose(ours[r], theirs.T)  # theirs has the truth in rows


def test_sums_of_the_estimate_are_a_loop_over_pixels(masks):
    _, truth, labels = masks
    confusion = torch.randn(N, R, L, L, *SPACE).softmax(2)
    expected = torch.zeros(N, R, L, L)
    for n in range(N):
        for r in range(R):
            for y in range(SPACE[0]):
                for x in range(SPACE[1]):
                    if labels[n, r, y, x] >= 0:
                        j = truth[n, y, x]
                        expected[n, r, :, j] += confusion[n, r, :, j, y, x]
    torch.testing.assert_close(metrics.confusion_sums(confusion, truth, labels), expected)


def test_a_perfect_estimate_scores_zero_and_the_uniform_one_worse(masks):
    _, truth, labels = masks
    true = metrics.normalise_columns(metrics.label_counts(labels, truth, L).sum(0))
    assert metrics.cm_rmse(true, true).tolist() == [0, 0, 0]
    faithful = torch.eye(L).double().expand(R, L, L)
    uniform = torch.full((R, L, L), 1 / L).double()
    assert float(metrics.cm_rmse_all(uniform, faithful)) == pytest.approx(np.sqrt(2 / 9))


def test_cm_rmse_is_numpys_over_observed_columns():
    rng = np.random.default_rng(0)
    estimated, true = rng.random((2, R, L, L))
    true[1, :, 2] = np.nan  # class 2 never occurred for annotator 1
    error = (estimated - true) ** 2
    ours = metrics.cm_rmse(torch.tensor(estimated), torch.tensor(true))
    np.testing.assert_allclose(ours, np.sqrt(np.nanmean(error, (1, 2))))
    everyone = metrics.cm_rmse_all(torch.tensor(estimated), torch.tensor(true))
    assert float(everyone) == pytest.approx(np.sqrt(np.nanmean(error)))


def test_a_class_that_never_occurs_leaves_its_column_undefined():
    truth, labels = (
        torch.zeros(1, 3, 3, dtype=torch.long),
        torch.zeros(1, 1, 3, 3, dtype=torch.long),
    )
    matrix = metrics.normalise_columns(metrics.label_counts(labels, truth, 2))[0, 0]
    assert matrix[:, 0].tolist() == [1, 0] and matrix[:, 1].isnan().all()


def slow_distance(a, b):
    """1 − mean foreground IoU over the pixels labelled in both."""
    keep, scores = (a >= 0) & (b >= 0), []
    for k in range(1, L):
        x, y = (a == k) & keep, (b == k) & keep
        union = int((x | y).sum())
        scores.append(int((x & y).sum()) / union if union else 1.0)
    return 1 - sum(scores) / len(scores)


def test_energy_distance_is_a_loop_over_all_pairs(masks):
    prediction, _, labels = masks
    samples = torch.stack((prediction, labels[:, 0].clamp_min(0)), 1)
    ours = metrics.generalised_energy_distance(samples, labels, L)
    for n in range(N):
        s, y = list(samples[n]), [m for m in labels[n] if (m >= 0).any()]

        def mean(a, b):
            return np.mean([slow_distance(p, q) for p in a for q in b])

        assert float(ours[n]) == pytest.approx(2 * mean(s, y) - mean(s, s) - mean(y, y), abs=1e-6)


def test_energy_distance_of_the_same_masks_is_zero_and_of_opposite_ones_two():
    zero, one = torch.zeros(1, 2, 5, 5, dtype=torch.long), torch.ones(1, 2, 5, 5, dtype=torch.long)
    assert float(metrics.generalised_energy_distance(one, one, 2)) == 0
    assert float(metrics.generalised_energy_distance(zero, zero, 2)) == 0
    assert float(metrics.generalised_energy_distance(zero, one, 2)) == 2


def test_energy_distance_of_an_image_nobody_labelled_is_nan():
    nobody = torch.full((1, 2, 5, 5), -1)
    assert metrics.generalised_energy_distance(torch.zeros_like(nobody), nobody, 2).isnan().all()


def ece(probs, labels):
    return metrics.ece_from_bins(metrics.calibration_bins(probs, labels))


def test_calibration_is_torchmetrics(masks):
    from torchmetrics.functional.classification import multiclass_calibration_error

    _, truth, labels = masks
    probs = torch.randn(N, L, *SPACE).softmax(1)
    ours = ece(probs, truth)
    theirs = multiclass_calibration_error(probs, truth, num_classes=L, n_bins=15, norm="l1")
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    part = ece(probs, labels[:, 0])
    theirs = multiclass_calibration_error(
        probs, labels[:, 0], num_classes=L, n_bins=15, norm="l1", ignore_index=-1
    )
    assert float(part) == pytest.approx(float(theirs), abs=1e-6)


def test_calibration_bins_of_batches_add_up(masks):
    _, truth, _ = masks
    probs = torch.randn(N, L, *SPACE).softmax(1)
    bins = sum(metrics.calibration_bins(probs[n : n + 1], truth[n : n + 1]) for n in range(N))
    whole = ece(probs, truth)
    assert float(metrics.ece_from_bins(bins)) == pytest.approx(float(whole))


def test_a_sure_and_right_prediction_is_calibrated():
    truth = torch.randint(0, 2, (1, 4, 4))
    probs = torch.nn.functional.one_hot(truth, 2).movedim(-1, 1).float()
    assert float(ece(probs, truth)) == 0
    assert float(ece(probs, 1 - truth)) == 1


@pytest.mark.filterwarnings("ignore::noisyseg.train.SwapWarning")  # a few steps find nothing
def test_every_reported_metric_is_explained(tiny_folder):
    import noisyseg as ns

    cfg = ns.ExperimentConfig.preset(
        "tiny", "smoke", "calibrated", dataset=str(tiny_folder), width=4, depth=2, epochs=4,
        learning_rate=2e-2, activation="prelu",
    )  # fmt: skip
    assert set(ns.run(cfg).metrics.metric) == set(metrics.METRICS)


@pytest.mark.parametrize("classes", [2, 3])
def test_agreement_against_a_loop(classes):
    torch.manual_seed(0)
    labels = torch.randint(0, classes, (5, 3, 6, 7))
    labels[1, 2] = -1  # did not label this image
    labels[2] = 0
    labels[3] = labels[3, :1]
    got = metrics.agreement(labels)
    for n in range(5):
        masks = [m for m in labels[n] if (m >= 0).any()]
        marked = same = 0
        for y in range(6):
            for x in range(7):
                wrote = {int(m[y, x]) for m in masks}
                marked += wrote != {0}
                same += len(wrote) == 1 and wrote != {0}
        assert float(got[n]) == pytest.approx(same / marked if marked else 1.0)
    assert float(got[2]) == float(got[3]) == 1
    assert metrics.agreement(torch.full((1, 2, 3, 3), -1)).isnan().all()
