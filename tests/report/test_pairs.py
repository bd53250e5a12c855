"""Annotators beside each other, against loops and scikit-learn; what an estimate cannot spoil."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import f1_score
from test_skills import blobs, careless, report

import noisyseg as ns
from data_prep.folders import own, prepare
from noisyseg.report import make
from noisyseg.report.biases import one_sided
from noisyseg.report.pairs import (
    agreement_with_others,
    beside_others,
    cautious_median,
    joint_counts,
)
from noisyseg.report.skills import estimate, report_of_estimate, sentences
from noisyseg.storage import project_root

REAL = project_root().parent / "shared" / "real"


def partly(truth):
    """Three annotators of two foreground classes; one labelled a part, one not everything."""
    labels = np.stack([careless(truth, rate, k) for k, rate in enumerate((0.1, 0.2, 0.3))], 1)
    labels[2, 0] = -1
    labels[:, 1, :5] = -1
    return labels


def test_pairs_are_those_of_scikit_learn():
    labels = partly(blobs(8))
    found = report(blobs(8), labels, ["a", "b", "c"]).pairs
    assert len(found) == 3 * 2 * 2
    for row in found.itertuples():
        r, s, c = (
            "abc".index(row.annotator),
            "abc".index(row.other),
            ("lesion", "core").index(row[3]),
        )
        both = (labels[:, r] >= 0) & (labels[:, s] >= 0)
        one, two = (labels[:, k][both] == c + 1 for k in (r, s))
        assert row.dice == pytest.approx(f1_score(two, one))
        assert row.area_ratio == pytest.approx(one.sum() / two.sum())
        assert row.images == (7 if "a" in (row.annotator, row.other) else 8)


def test_agreement_with_the_others_is_that_of_a_loop():
    labels = partly(blobs(8))
    labels[5, 1:] = -1
    found = agreement_with_others(joint_counts(labels, 3))
    for n, r in np.ndindex(found.shape):
        scores = []
        for s in set(range(3)) - {r}:
            both = (labels[n, r] >= 0) & (labels[n, s] >= 0)
            if both.any():
                pair = labels[n, r][both], labels[n, s][both]
                used = [c for c in (1, 2) if any((y == c).any() for y in pair)]
                scores.append(np.mean([f1_score(*(y == c for y in pair)) for c in used]))
        assert found[n, r] == pytest.approx(np.mean(scores) if scores else np.nan, nan_ok=True)


def test_the_cautious_median_is_the_middle_nearer_to_nothing():
    values = np.array([[1, 2, 9], [1, 2, np.nan], [-1, 2, np.nan], [-3, -2, np.nan], [np.nan] * 3])
    np.testing.assert_array_equal(cautious_median(values, 1), [2, 1, 0, -2, np.nan])
    odd_one = np.array([[0.0, 0, -4], [0, 0, -4], [4, 4, 0]])
    np.testing.assert_array_equal(beside_others(odd_one, 0), [0, 0, 4])


def grown(masks, by):
    """Each mask wider by so many pixels, narrower for a negative number."""
    turn = ndimage.binary_dilation if by > 0 else ndimage.binary_erosion
    if by == 0:
        return masks
    return np.stack([turn(m, iterations=abs(by)) for m in masks]).astype(np.int8)


def test_an_estimate_that_is_too_small_accuses_nobody():
    drawn = blobs(core=False)
    labels = np.stack([careless(drawn, 0.001, k) for k in range(4)] + [grown(drawn, 2)], 1)
    names = ["a", "b", "c", "d", "wide"]
    small = report(grown(drawn, -2), labels, names)
    for name in names[:-1]:
        assert sentences(small, name) == ["no clear bias found"]
    said = sentences(small, "wide")
    assert "larger than the others" in said[0] and "larger than the estimate" in said[1]
    (told,) = one_sided(small.biases)
    assert told.startswith("All 5 annotators draw lesion larger than the estimate")
    assert "may be too small" in told
    assert one_sided(report(drawn, labels, names).biases) == []
    two_sides = np.stack([grown(drawn, 1), grown(drawn, 1), grown(drawn, -1)], 1)
    assert one_sided(report(drawn, two_sides, list("abc")).biases) == []


def test_where_all_annotators_disagree_with_the_estimate_alike_it_is_the_estimate_that_failed():
    drawn = blobs(30, core=False)
    labels = np.stack([careless(drawn, 0.01, k) for k in range(4)], 1)
    bad = {(3, 1), (8, 0), (17, 2), (21, 3)}
    for n, r in bad:
        labels[n, r] = np.roll(labels[n, r], 9, axis=1)
    wrong = drawn.copy()
    failed = [5, 12, 17, 26]  # on image 17 one annotator is wrong as well
    for n in failed:
        wrong[n] = 0 if n % 2 else np.roll(drawn[n], -11, axis=0)
    found = report(wrong, labels, list("abcd"))
    assert set(found.failed.image_id) == {"i5", "i12", "i17", "i26"}
    listed = list(zip(found.relabel.image_id, found.relabel.annotator, strict=True))
    assert set(listed[:4]) == {(f"i{n}", "abcd"[r]) for n, r in bad}
    assert not {"i5", "i12", "i26"} & set(found.relabel.image_id[:4])
    agreed = agreement_with_others(joint_counts(labels, 2))
    least = {np.unravel_index(k, agreed.shape) for k in np.argsort(agreed, axis=None)[:8]}
    assert {(int(i[1:]), "abcd".index(a)) for i, a in listed[:4]} <= least


def test_a_label_nobody_else_made_is_judged_by_the_estimate():
    truth = blobs(20, core=False)
    labels = np.stack([truth, truth], 1)
    labels[::2, 0] = labels[1::2, 1] = -1
    labels[7, 0] = np.roll(labels[7, 0], 10, axis=0)
    found = report(truth, labels, ["a", "b"])
    assert found.relabel.iloc[0][["image_id", "annotator"]].tolist() == ["i7", "a"]
    assert "nobody else's" in found.relabel.text[0] and found.failed.empty
    assert found.pairs.dice.isna().all() and found.pairs.images.eq(0).all()


@pytest.mark.skipif(not REAL.is_dir(), reason="the images of real people are not here")
@pytest.mark.parametrize("name", ["phase_persons", "phase_crowd"])
def test_labels_of_real_people_listed_are_those_that_agree_least(name, tmp_path):
    """A short training: the list must not depend on a good estimate."""
    folder = Path(REAL / name)
    cases = f"{folder}_cases.csv"
    prepare.prepare(
        tmp_path / "prepared", own.plan_of(folder), cases=cases, size="largest", origin="real"
    )
    run = ns.run(make.own_config(tmp_path / "prepared", "calibrated", 40).replace(width=4))
    found = estimate(run)
    data = found.data
    listed = report_of_estimate(found, 20).relabel
    agreed = agreement_with_others(joint_counts(data.labels, 2))
    least = np.argsort(agreed, axis=None)[:30]
    thirty = {(data.image_ids[n], data.annotators[r])
              for n, r in zip(*np.unravel_index(least, agreed.shape), strict=True)}  # fmt: skip
    assert len(listed) == 10
    assert len(thirty & set(zip(listed.image_id, listed.annotator, strict=True))) >= 7
