"""Networks alone and averaged, beside `evaluate` and a literal mean of probabilities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import noisyseg as ns
from noisyseg import build
from noisyseg.evaluate import alone_and_averaged
from noisyseg.paper import source_data
from noisyseg.paper.standings import of_class
from noisyseg.runs import Run


def trained(folder, method, **overrides):
    small = dict(width=4, depth=2, epochs=3, batch_size=4, learning_rate=5e-3)
    return ns.run(
        ns.ExperimentConfig.preset(
            "tiny", "smoke", method, dataset=str(folder), **small | overrides
        )
    )


def dice(prediction, truth):
    """Mean over images of 2 |A ∩ B| / (|A| + |B|), with whole arrays of zeros and ones."""
    pairs = zip(prediction, truth, strict=True)
    return np.mean([2 * (a * b).sum() / (a.sum() + b.sum()) for a, b in pairs])


def test_separate_networks_alone_and_their_average(tiny_folder):
    run = trained(tiny_folder, "separate")
    table = alone_and_averaged([run]).set_index("network").dice
    assert list(table.index) == ["exact", "wide", "narrow", "average of 3"]
    assert table["average of 3"] == pytest.approx(run.value("dice"), abs=1e-6)
    test = build.load_splits(run.config, ns.load_dataset(tiny_folder)).test
    wide = run.model().members[1](torch.from_numpy(test.read_images())).logits.argmax(1)
    assert table["wide"] == pytest.approx(dice(wide.numpy(), test.read_truth()), abs=1e-6)


def test_seeds_of_one_method_are_averaged(tiny_folder):
    runs = [trained(tiny_folder, "mode", seed=seed) for seed in (0, 1)]
    table = alone_and_averaged(runs).set_index("network").dice
    for run in runs:
        assert table[f"seed {run.config.seed}"] == pytest.approx(run.value("dice"), abs=1e-6)
    test = build.load_splits(runs[0].config, ns.load_dataset(tiny_folder)).test
    image = torch.from_numpy(test.read_images())
    with torch.no_grad():
        mean = sum(run.model()(image).logits.softmax(1) for run in runs) / 2
    wanted = dice(mean.argmax(1).numpy(), test.read_truth())
    assert table["average of 2"] == pytest.approx(wanted, abs=1e-6)


def test_images_without_the_class_are_counted_apart(tiny_folder, monkeypatch):
    run = trained(tiny_folder, "mode", epochs=1)
    data = ns.load_dataset(tiny_folder)
    test = build.load_splits(run.config, data).test
    truth = np.zeros_like(test.read_truth())
    truth[1, 2:5, 2:5] = 1  # only one image holds the class
    monkeypatch.setattr(type(test), "read_truth", lambda self: truth)
    prediction = run.model()(torch.from_numpy(test.read_images())).logits.argmax(1).numpy()
    empty = [p.sum() == 0 for n, p in enumerate(prediction) if n != 1]
    present = dice(prediction[[1]], truth[[1]])
    (row,) = alone_and_averaged([run]).to_dict("records")
    assert row["left_empty"] == pytest.approx(np.mean(empty))
    assert row["dice_present"] == pytest.approx(present, abs=1e-6)
    assert row["dice"] == pytest.approx((sum(empty) + present) / len(truth), abs=1e-6)


def test_methods_and_labellings_are_not_mixed(tiny_folder):
    runs = [
        trained(tiny_folder, m, labelling=k) for m in ("mode", "mean") for k in ("dense", "one")
    ]
    table = alone_and_averaged(runs)
    assert len(table) == 4  # one network each: nothing to average
    assert set(table.averaged_over) == {"seeds"}


def test_fusion_has_no_network(tiny_folder):
    with pytest.raises(ValueError, match="trains no network"):
        alone_and_averaged([trained(tiny_folder, "majority_fusion")])


def test_runs_of_two_data_sets_or_none(tiny_folder):
    run = trained(tiny_folder, "mode")
    other = Run(replace(run.config, dataset="elsewhere"), run.path)
    with pytest.raises(ValueError, match="one data set"):
        alone_and_averaged([run, other])
    with pytest.raises(ValueError, match=r"not of \[\]"):
        alone_and_averaged([])


def test_dice_of_the_class_comes_from_the_table_where_it_has_it(tiny_folder, tmp_path, monkeypatch):
    """What the table lacks comes, whole, from the file of networks evaluated once more."""
    monkeypatch.setenv("NOISYSEG_FIGURES", str(tmp_path))
    runs = [trained(tiny_folder, m, epochs=1) for m in ("mode", "separate", "clean")]
    runs.append(trained(tiny_folder, "mode", epochs=1, seed=1))
    data = source_data.table(runs)
    old = data[(data.metric != "dice_present") | (data.method == "clean")]
    assert list(of_class(old).method) == ["clean"]  # no such file: nothing to add
    networks = alone_and_averaged(runs).assign(data="tiny, simulated, smoke")
    networks.loc[networks.method == "mode", "left_empty"] = 0.25
    networks.set_index("data").to_csv(tmp_path / "tiny_averages.csv")
    found = of_class(old)
    rows = found.set_index(["method", "seed"])
    assert set(rows.index) == {("clean", 0), ("mode", 0), ("mode", 1), ("separate", 0)}
    assert rows.source.to_dict() == {
        k: "exported table" if k[0] == "clean" else "tiny_averages.csv" for k in rows.index
    }
    for run in runs:
        row = rows.loc[run.config.method, run.config.seed]
        assert row.dice_present == pytest.approx(run.value("dice_present"), abs=1e-6)
        assert row.dice == pytest.approx(run.value("dice"), abs=1e-6)
    assert (rows.left_empty["mode"] == 0.25).all() and np.isnan(rows.left_empty["clean", 0])
    other = networks.assign(data="tiny, simulated, reduced")
    other.to_csv(tmp_path / "tiny_averages.csv", index=False)
    assert list(of_class(old).method) == ["clean"]  # of another profile
