"""Published runs load like runs of one's own, on every machine, and only when they are whole."""

import shutil

import numpy as np
import pytest

import noisyseg as ns
from noisyseg import experiment, published

pytestmark = pytest.mark.filterwarnings("ignore::noisyseg.train.SwapWarning")


@pytest.fixture
def place(tiny_folder, tmp_path, monkeypatch):
    """Stores of this test's own, with the prepared data set `tiny` in them."""
    for variable in ("DATA", "RUNS", "FIGURES"):
        monkeypatch.setenv(f"NOISYSEG_{variable}", str(tmp_path / variable.lower()))
    shutil.copytree(tiny_folder, tmp_path / "data" / "tiny")
    return tmp_path


def config(method="calibrated", **changes):
    small = dict(width=4, depth=2, epochs=2, batch_size=4, activation="prelu", dataset="tiny")
    return ns.ExperimentConfig.preset("tiny", "smoke", method, **small | changes)


@pytest.fixture
def theirs(place, monkeypatch):
    """A run that was trained and published, after which nothing can be trained any more."""
    run = ns.run(config())
    run.metrics, run.history, run.exhibits, run.images  # noqa: B018  read before they go
    published.publish(run)
    shutil.rmtree(place / "runs")

    def fail(*_):
        raise AssertionError("this trains")

    monkeypatch.setattr(experiment, "_make", fail)
    return run


def rewritten(place, images=None, **changes):
    """The data set prepared again with other `images` or other `changes`."""
    data = ns.load_dataset("tiny")
    meta = {k: v for k, v in data.meta.items() if k != "name"} | changes
    ids = meta.pop("image_ids", data.image_ids)
    images = np.array(data.images) if images is None else images
    ns.write_prepared(
        place / "data" / "tiny", images, np.array(data.labels), np.array(data.truth),
        data.case_ids, data.split_of, image_ids=ids, overwrite=True, **meta,
    )  # fmt: skip


def test_a_published_run_is_loaded_with_everything_that_was_known_of_it(theirs):
    ours = ns.run(config())
    assert ours.metrics.equals(theirs.metrics) and ours.history.equals(theirs.history)
    assert list(ours.images.image_id) == list(theirs.images.image_id)
    assert ours.exhibits.keys() == theirs.exhibits.keys()
    for name, array in ours.exhibits.items():  # predicted anew, with weights in half precision
        np.testing.assert_allclose(
            array.astype(float), theirs.exhibits[name].astype(float), atol=0.02
        )
    assert published.says(ours).startswith("published: tiny/tiny-calibrated-dense-s0-")
    assert ns.run(config()).path == ours.path  # from the store, now


def test_another_config_is_not_the_published_run(theirs):
    for other in (config(seed=1), config("trace"), config(epochs=3), config(labelling="one")):
        with pytest.raises(AssertionError, match="this trains"):
            ns.run(other)


def test_data_that_differ_in_some_bytes_are_matched_by_recipe_and_the_page_says_so(theirs, place):
    images = np.array(ns.load_dataset("tiny").images)
    images[0, 0, 0, 0] += 1e-6
    rewritten(place, images)
    assert ns.load_dataset("tiny").fingerprint != theirs.provenance["fingerprint"]
    ours = ns.run(config())
    assert ours.metrics.equals(theirs.metrics)
    assert "differ in some bytes" in published.says(ours)


@pytest.mark.parametrize("change", ["origin", "image_ids"])
def test_other_data_of_the_same_name_are_not_matched(theirs, place, change):
    ids = [f"x{k}" for k in range(20)]
    images = np.array(ns.load_dataset("tiny").images) + np.float32(1e-6)
    rewritten(place, images, **{"origin": "real"} if change == "origin" else {"image_ids": ids})
    with pytest.raises(AssertionError, match="this trains"):
        ns.run(config())


def test_a_damaged_archive_is_refused(theirs):
    path = published.root() / published.index().file[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="git checkout.*fresh=True"):
        ns.run(config())


def test_fresh_trains_where_a_published_run_is_at_hand(theirs, monkeypatch):
    ns.run(config())
    with pytest.raises(AssertionError, match="this trains"):
        ns.run(config(), fresh=True)
    monkeypatch.undo()


def test_a_run_of_this_machine_says_so_and_serves_as_fresh(place):
    run = ns.run(config(), fresh=True)
    assert published.says(run) == "trained on this machine"
    stamp = (run.path / "model.pt").stat().st_mtime_ns
    assert (ns.run(config(), fresh=True).path / "model.pt").stat().st_mtime_ns == stamp


def test_publishing_twice_gives_equal_bytes_and_one_row(place):
    run = ns.run(config())
    first = published.publish(run).read_bytes()
    assert published.publish(run).read_bytes() == first
    assert list(published.index().columns) == published.COLUMNS and len(published.index()) == 1
    with pytest.raises(ValueError, match="no model"):
        published.publish(ns.run(config("majority_fusion")))
