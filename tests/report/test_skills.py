"""The annotator report against scikit-learn and SciPy, and on annotators whose habits are known."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats
from sklearn.metrics import f1_score, recall_score

import noisyseg as ns
from noisyseg.report.biases import one_sided
from noisyseg.report.skills import (
    annotator_report,
    estimate,
    report_of_estimate,
    sentences,
)
from noisyseg.report.widths import offsets
from noisyseg.simulate import simulate_labels

CLASSES = ("background", "lesion", "core")


def blobs(n=40, size=48, core=True, seed=0):
    """(n, size, size) discs of class 1 with a core of class 2, at random places."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    centre = rng.uniform(16, size - 16, (n, 2, 1, 1))
    distance = np.hypot(y - centre[:, 0], x - centre[:, 1])
    radius = rng.uniform(7, 10, (n, 1, 1))
    return ((distance < radius).astype(np.int8) + (core * (distance < radius / 2))).astype(np.int8)


def report(truth, labels, names, **options):
    ids = [f"i{n}" for n in range(len(truth))]
    given = {"classes": CLASSES[: truth.max() + 1], "resamples": 300} | options
    return annotator_report(truth, labels, annotators=names, image_ids=ids, **given)


def careless(truth, rate=0.04, seed=1):
    """`truth` with a few pixels changed anywhere: errors without a direction."""
    rng = np.random.default_rng(seed)
    other = rng.integers(0, truth.max() + 1, truth.shape)
    return np.where(rng.random(truth.shape) < rate, other, truth).astype(np.int8)


def kinds(found, name):
    rows = found.biases.query("annotator == @name and clear")
    return set(zip(rows.kind, rows["class"], strict=True))


def test_skills_are_those_of_scikit_learn():
    truth = blobs(12)
    labels = np.stack([careless(truth, 0.1), careless(truth, 0.3, 2)], 1)
    labels[3, 0] = labels[7, 1] = -1
    labels[5, 1, :10] = -1
    found = report(truth, labels, ["a", "b"]).skills.set_index(["annotator", "class"])
    for r, name in enumerate("ab"):
        seen = labels[:, r] >= 0
        true, said = truth[seen], labels[:, r][seen]
        recalls = recall_score(true, said, average=None)
        dices = f1_score(true, said, average=None)
        for c, klass in enumerate(CLASSES):
            assert found.loc[(name, klass), "sensitivity"] == pytest.approx(recalls[c])
            if c:
                assert found.loc[(name, klass), "dice"] == pytest.approx(dices[c])
        assert (found.loc[name].images == 11).all()
    assert np.isnan(found.loc[("a", "background"), "dice"])


def test_intervals_are_the_bootstrap_over_cases():
    truth = blobs(60, core=False)
    labels = np.stack([careless(truth, rate) for rate in (0.2, 0.05)], 1)
    cases = np.arange(60) // 3  # three images a patient
    found = report(truth, labels, ["a", "b"], case_ids=cases, resamples=4000).skills
    row = found.query("annotator == 'a' and `class` == 'lesion'").iloc[0]
    by_case = [(truth[cases == k] == 1, labels[cases == k, 0] == 1) for k in range(20)]
    hit = np.array([(t & y).sum() for t, y in by_case])
    true = np.array([t.sum() for t, _ in by_case])
    scipy = stats.bootstrap(
        (hit, true), lambda h, t, axis: h.sum(axis) / t.sum(axis), paired=True,
        method="percentile", n_resamples=4000, rng=0, vectorized=True,
    ).confidence_interval  # fmt: skip
    width = scipy.high - scipy.low
    assert row.sensitivity_low == pytest.approx(scipy.low, abs=0.1 * width)
    assert row.sensitivity_high == pytest.approx(scipy.high, abs=0.1 * width)
    assert (row.images, row.cases) == (60, 20)


def test_over_under_shift_and_swap_are_named_and_good_is_not():
    truth = blobs()
    names = ["good", "over", "under", "right", "swaps"]
    ids = [f"i{n}" for n in range(len(truth))]
    simulated = simulate_labels(truth, ids, ("good", "over@2", "under@2", "class_swap:1-2"), 0)
    right = np.roll(truth, 2, axis=2)
    parts = [*simulated[:, :3].swapaxes(0, 1), right, simulated[:, 3]]
    labels = np.stack([careless(part, 0.001, k) for k, part in enumerate(parts)], 1)
    found = report(truth, labels, names)
    assert kinds(found, "good") == set() and sentences(found, "good") == ["no clear bias found"]
    assert ("over", "lesion") in kinds(found, "over")
    assert ("under", "lesion") in kinds(found, "under")
    assert {k for k in kinds(found, "right") if k[0] == "shift"} == {
        ("shift", "lesion"), ("shift", "core"),
    }  # fmt: skip
    assert {("swap", "lesion"), ("swap", "core")} <= kinds(found, "swaps")
    assert ("swap", "core") in kinds(found, "over")  # it grows into the core as well
    for name in ("good", "under", "right"):
        assert not any(kind == "swap" for kind, _ in kinds(found, name)), name
    shift = found.biases.query("annotator == 'right' and kind == 'shift' and `class` == 'core'")
    assert shift.beside.tolist() == ["the others", "the estimate"]
    np.testing.assert_allclose(shift.amount, 2, atol=0.35)
    assert shift.text.str.contains("px right beside").all()
    assert one_sided(found.biases) == []


def test_amounts_are_the_ratio_of_areas_and_the_mean_of_centroids():
    truth = blobs(20, core=False)
    label = ndimage.shift(truth.astype(float), (0, -3, 1), order=0).astype(np.int8)
    wide = np.stack([ndimage.binary_dilation(m, iterations=1) for m in label]).astype(np.int8)
    found = report(truth, wide[:, None], ["a"], spacing_mm=(0.5, 2.0)).biases.set_index("kind")
    assert found.loc["over", "amount"] == pytest.approx(100 * (wide.sum() / truth.sum() - 1))
    moved = [
        np.subtract(*map(ndimage.center_of_mass, pair)) for pair in zip(wide, truth, strict=True)
    ]
    assert found.loc["shift", "amount"] == pytest.approx(np.mean(moved, 0)[0] * 0.5)
    assert found.loc["shift", "unit"] == "mm" and "1.5 mm up" in found.loc["shift", "text"]


def test_good_annotators_are_seldom_accused():
    accused = 0
    for seed in range(100):
        truth = blobs(20, core=False, seed=seed)
        labels = careless(truth, 0.005, seed)[:, None]
        accused += bool(kinds(report(truth, labels, ["good"], resamples=200), "good"))
    assert accused <= 5


def test_volumes_shift_along_slices():
    truth = np.zeros((6, 10, 12, 12), np.int8)
    truth[:, 3:6, 4:8, 4:8] = 1
    found = report(truth, np.roll(truth, 2, axis=1)[:, None], ["a"])
    (text,) = found.biases.query("kind == 'shift'").text  # nobody else to be compared with
    assert "2.0 px towards the last slices" in text


def test_a_bad_day_is_listed_and_a_bad_annotator_is_not():
    truth = blobs(30, core=False)
    bad = np.stack([ndimage.binary_dilation(m, iterations=4) for m in truth]).astype(np.int8)
    good = truth.copy()
    good[11] = np.roll(good[11], 12, axis=1)
    missing = truth.copy()
    missing[4] = -1
    found = report(truth, np.stack([good, bad, missing], 1), ["good", "bad", "part"]).relabel
    assert found.iloc[0][["image_id", "annotator"]].tolist() == ["i11", "good"]
    assert "Dice 0.31 with the others (usual: 0.84)" in found.iloc[0].text and len(found) <= 10
    assert not ((found.image_id == "i4") & (found.annotator == "part")).any()
    surprise = np.random.default_rng(0).random((30, 3))
    by_model = report(
        truth, np.stack([good, bad, missing], 1), ["good", "bad", "part"], surprise=surprise
    ).relabel
    assert by_model.image_id.tolist() == found.image_id.tolist()
    assert by_model.surprise[0] == surprise[11, 0]


def test_an_annotator_without_any_label():
    truth = blobs(8)
    labels = np.stack([truth, np.full_like(truth, -1)], 1)
    found = report(truth, labels, ["a", "absent"])
    assert sentences(found, "absent") == ["labelled nothing"]
    assert found.skills.query("annotator == 'absent'").images.eq(0).all()
    assert "absent" not in set(found.biases.annotator) | set(found.relabel.annotator)


def test_a_blank_annotator_never_writes_the_class():
    truth = blobs(8, core=False)
    found = report(truth, np.zeros_like(truth)[:, None], ["blank"])
    assert sentences(found, "blank") == ["never writes lesion"]
    assert found.skills.query("`class` == 'lesion'").sensitivity.item() == 0


def test_an_empty_estimate_and_a_class_that_is_nowhere():
    empty = np.zeros((5, 16, 16), np.int8)
    found = report(empty, empty[:, None], ["a"], classes=CLASSES)
    assert sentences(found, "a") == ["no clear bias found"] and found.relabel.empty
    assert np.isnan(found.skills.query("`class` == 'core'").sensitivity.item())


def test_two_cases_have_no_interval_and_nothing_is_clear():
    truth = blobs(6, core=False)
    wide = np.stack([ndimage.binary_dilation(m) for m in truth]).astype(np.int8)[:, None]
    found = report(truth, wide, ["a"], case_ids=["p", "p", "p", "q", "q", "q"])
    assert np.isnan(found.skills.sensitivity_low).all() and not found.biases.clear.any()
    assert found.biases.text.str.contains("too few cases for an interval").all()


def pictures(truth, noise=0.1, seed=1):
    """Images (n, 1, h, w) in which every class of `truth` is brighter than the one before."""
    drawn = np.random.default_rng(seed).normal(truth, noise)
    return drawn.astype(np.float32)[:, None]


def widths(degrees, classes=("background", "lesion"), **options):
    """The table of offsets of simulated annotators, who draw `degrees`, on 40 discs."""
    truth = blobs(core=len(classes) > 2)
    ids = [f"i{n}" for n in range(len(truth))]
    labels = simulate_labels(truth, ids, degrees, 0)
    names = [f"a{r}" for r in range(len(degrees))]
    return offsets(
        pictures(truth), labels, ids, classes=classes, annotators=names, resamples=200, **options
    )


def test_who_draws_wider_and_narrower_is_said_in_pixels():
    found = widths(("good", "over@1.5", "under@1", "good", "blank")).set_index("annotator")
    # Dilation by a disc of 1.5 and erosion by one of 1 both move the outline by 1 to 1.5 pixels;
    # the smallest move that fits nearly as well as the best is given.
    assert 0.5 <= found.offset["a1"] <= 1.5 and -1.5 <= found.offset["a2"] <= -0.5
    assert found.offset[["a0", "a3"]].abs().max() < 0.1
    wide = found.loc["a1"]
    interval = f"({wide.low:.1f} to {wide.high:.1f})"
    assert wide.text == f"draws {wide.offset:.1f} px {interval} wider than the others"
    assert "px" in found.text["a2"] and found.text["a2"].endswith("narrower than the others")
    assert "(0." in found.text["a2"] or "(1." in found.text["a2"]  # no negative ends
    assert found.text["a0"] == found.text["a3"] == "draws as wide as the others"
    assert np.isnan(found.offset["a4"]) and found.text["a4"] == "never writes lesion"
    assert found.clear.tolist() == [False, True, True, False, False]
    assert found.offset_mm.isna().all()


def test_somebody_whose_outlines_are_anywhere_follows_no_edge():
    truth = blobs(core=False)
    anywhere = np.random.default_rng(0).integers(0, 2, truth.shape).astype(np.int8)
    labels = np.stack([truth, truth, anywhere], 1)
    given = {"classes": CLASSES[:2], "annotators": ["a", "b", "lost"], "resamples": 100}
    found = offsets(pictures(truth), labels, np.arange(40), **given).set_index("annotator")
    assert found.text["lost"] == (
        "follows no edge in the image, so nothing can be said about how wide they draw"
    )
    alone = offsets(
        pictures(truth), labels[:, 1:], np.arange(40), **given | {"annotators": ["b", "c"]}
    )
    assert alone.text[0].startswith("is the only one who follows an edge in the image, so")
    assert alone.offset.isna().all()


def test_offsets_name_the_class_where_there_are_several_and_millimetres_where_they_are_known():
    degrees = ("good", "over@1.5", "under@1", "good")
    found = widths(degrees, CLASSES, spacing_mm=(0.5, 0.5)).set_index(["annotator", "class"])
    lesion = found.loc[("a1", "lesion")]
    assert lesion.text.startswith("draws lesion ") and "wider than the others" in lesion.text
    assert lesion.offset_mm == pytest.approx(lesion.offset / 2)
    assert f"or {lesion.offset_mm:.1f} mm," in lesion.text
    assert found.loc[("a0", "core"), "text"] == "draws core as wide as the others"
    assert widths(degrees, CLASSES, spacing_mm=(0.5, 0.7)).offset_mm.isna().all()


def test_offsets_do_not_depend_on_the_order_of_images_or_annotators():
    truth = blobs(24, core=False)
    ids = np.array([f"i{n}" for n in range(24)])
    images = pictures(truth)
    labels = simulate_labels(truth, ids, ("good", "over@1.5", "under@1"), 0)
    labels[::3, 0] = -1
    names = np.array(["good", "over", "under"])
    given = {"classes": CLASSES[:2], "resamples": 100}
    first = offsets(images, labels, ids, annotators=names.tolist(), **given)
    n, r = np.random.default_rng(3).permutation(24), np.array([2, 0, 1])
    other = offsets(images[n], labels[n][:, r], ids[n], annotators=names[r].tolist(), **given)
    pd.testing.assert_frame_equal(
        first, other.set_index("annotator").loc[names].reset_index(), check_exact=False
    )


def test_two_cases_give_an_offset_without_an_interval():
    truth = blobs(12, core=False)
    labels = simulate_labels(truth, [str(n) for n in range(12)], ("good", "good", "over@1.5"), 0)
    found = offsets(
        pictures(truth), labels, ["p"] * 6 + ["q"] * 6, classes=CLASSES[:2], annotators=list("abc")
    )
    assert np.isnan(found.low).all() and not found.clear.any()
    assert "px (too few cases for an interval) wider" in found.text[2]
    assert found.text[0] == "draws as wide as the others"


def test_how_wide_somebody_draws_is_said_first():
    truth = blobs(core=False)
    ids = [f"i{n}" for n in range(len(truth))]
    labels = simulate_labels(truth, ids, ("good", "good", "over@1.5"), 0)
    found = report(truth, labels, ["a", "b", "wide"], images=pictures(truth))
    assert "wider than the others" in sentences(found, "wide")[0]
    assert "larger than the others" in sentences(found, "wide")[1]
    assert "larger than the estimate" in sentences(found, "wide")[2]
    assert sentences(found, "a") == ["draws as wide as the others", "no clear bias found"]
    blank = report(truth, np.stack([truth, 0 * truth], 1), ["a", "b"], images=pictures(truth))
    assert sentences(blank, "b") == ["never writes lesion"]


def test_shapes_that_do_not_fit():
    truth = blobs(4)
    with pytest.raises(ValueError, match="do not fit 4 images, 2 annotators"):
        report(truth, truth[:, None], ["a", "b"])


def test_a_run_is_read_without_its_truth(tiny_folder, monkeypatch):
    cfg = ns.ExperimentConfig.preset(
        "tiny", "smoke", "calibrated", 0, dataset=str(tiny_folder), width=4, depth=2, epochs=10,
        batch_size=4, activation="prelu",
    )  # fmt: skip
    run = ns.run(cfg)
    refuse = property(lambda self: pytest.fail("the truth was read"))
    monkeypatch.setattr(ns.data.SegmentationDataset, "read_truth", refuse, raising=True)
    found = estimate(run)
    assert found.truth.shape == (20, 24, 24) and found.surprise.shape == (20, 3)
    out = report_of_estimate(found, resamples=50)
    assert set(out.skills.annotator) == {"exact", "wide", "narrow"}
    for beside in ("the others", "the estimate"):
        rows = out.biases[out.biases.kind.isin(["over", "under"]) & (out.biases.beside == beside)]
        sizes = rows.set_index("annotator").amount
        assert sizes["wide"] > sizes["exact"] > sizes["narrow"]
    width = out.offsets.set_index("annotator").offset
    assert width["wide"] > width["exact"] > width["narrow"]


def test_surprise_is_the_mean_log_likelihood_of_each_label(tiny_folder):
    import torch

    cfg = ns.ExperimentConfig.preset(
        "tiny", "smoke", "calibrated", 0, dataset=str(tiny_folder), width=4, depth=2, epochs=10,
        batch_size=4, activation="prelu",
    )  # fmt: skip
    run, data = ns.run(cfg), ns.load_dataset(tiny_folder)
    with torch.no_grad():
        out = run.model()(torch.from_numpy(data.read_images()[:2]))
        noisy = out.confusion.apply(out.logits.softmax(1)).numpy()
    y = data.read_labels()[1, 2]
    slow = -np.mean([np.log(noisy[1, 2, y[i, j], i, j]) for i, j in np.ndindex(y.shape)])
    assert estimate(run).surprise[1, 2] == pytest.approx(slow, abs=1e-4)
