"""The prepared folder and the dataset: contract on disk, violations by name, no truth in training.

Oracles: NumPy and pandas reading the contract's files directly.
"""

import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Subset

import noisyseg as ns
from noisyseg import storage
from noisyseg.data import checks, dataset, files
from noisyseg.data import folder as folder_module
from noisyseg.data.training import collate
from noisyseg.data.views import parse_labelling, split_by_case

SPLIT = ["train", "val", "test", "train", "train", "test", "val", "train", "train", "test"]
CLASSES = ["background", "object"]
NAMES = ["ada", "bo", "cy"]
META = {"classes": CLASSES, "annotators": NAMES, "origin": "simulated"}


def arrays(n=10, space=(6, 5), channels=2):
    rng = np.random.default_rng(3)
    images = rng.random((n, channels, *space), dtype=np.float32)
    labels = rng.integers(0, 2, (n, 3, *space)).astype(np.int8)
    return images, labels, rng.integers(0, 2, (n, *space)).astype(np.int8)


@pytest.fixture
def folder(tmp_path):
    return ns.write_prepared(tmp_path / "toy", *arrays(), split=SPLIT, **META)


def many(tmp_path, n=60, missing=True):
    images, labels, truth = arrays(n)
    if missing:
        labels[::4, 1] = -1
    path = tmp_path / "many"
    return ns.load_dataset(ns.write_prepared(path, images, labels, truth, **META))


# --- the folder on disk -----------------------------------------------------------------


def test_the_contracts_files_and_dtypes(folder):
    expected = "images.npy labels.npy truth.npy index.csv meta.json"
    assert {p.name for p in folder.iterdir()} == set(expected.split())
    dtypes = [np.load(folder / f"{n}.npy").dtype for n in ("images", "labels", "truth")]
    assert dtypes == [np.float32, np.int8, np.int8]
    index = pd.read_csv(folder / "index.csv", dtype=str)
    assert index.columns.tolist() == ["image_id", "case_id", "split"]
    assert index.split.tolist() == SPLIT
    assert index.image_id.tolist() == [f"{i:04d}" for i in range(10)]
    meta = json.loads((folder / "meta.json").read_text())
    assert list(meta) and set(meta) == set(checks.META_FIELDS)
    assert (meta["name"], meta["channels"]) == ("toy", ["channel 1", "channel 2"])


@pytest.mark.parametrize("space", [(6, 5), (3, 6, 5)])
def test_round_trip(space, tmp_path):
    images, labels, truth = arrays(space=space)
    path = ns.write_prepared(
        tmp_path / "toy", images, labels, truth, [f"p{i // 2}" for i in range(10)], None,
        [f"scan, {i}" for i in range(10)], spacing_mm=[0.5] * len(space), licence="CC0",
        sources=[{"name": "a.zip", "checksum": "sha256:1"}], prep_version="2", **META,
    )  # fmt: skip
    got = ns.load_dataset(path)
    assert all(isinstance(a, np.memmap) for a in (got.images, got.labels, got.truth))
    for mine, stored in ((images, got.images), (labels, got.labels), (truth, got.truth)):
        np.testing.assert_array_equal(mine, stored)
    assert (len(got), got.space, got.n_classes) == (10, space, 2)
    assert (got.classes, got.annotators) == (tuple(CLASSES), tuple(NAMES))
    assert got.spacing_mm == (0.5,) * len(space)
    assert got.image_ids.tolist() == [f"scan, {i}" for i in range(10)]
    assert [got.read_images().dtype, got.read_labels().dtype] == [np.float32, np.int64]
    assert got.read_truth().dtype == np.int64
    assert "toy" in repr(got) and len(repr(got)) < 200


@pytest.mark.parametrize(
    ("given", "stored"),
    [(np.int64, "int8"), (np.uint8, "int8"), (bool, "int8"), (np.int16, "int16")],
)
def test_other_integers_become_small_ones(given, stored, tmp_path):
    images, labels, truth = arrays()
    ns.write_prepared(
        tmp_path / "toy",
        images.astype(np.float64),
        labels.astype(given),
        truth.tolist(),
        split=SPLIT,
        **META,
    )
    assert np.load(tmp_path / "toy/images.npy").dtype == np.float32
    written = np.load(tmp_path / "toy/labels.npy")
    assert written.dtype == stored and (written == labels).all()


def test_float16_stays_and_tensors_are_taken(tmp_path):
    images, labels, truth = arrays()
    halves = torch.from_numpy(images).half()
    path = ns.write_prepared(
        tmp_path / "toy", halves, torch.from_numpy(labels), truth, split=SPLIT, **META
    )
    assert np.load(path / "images.npy").dtype == np.float16
    assert ns.load_dataset(path).split("train").training_view()[0]["image"].dtype == torch.float32


def test_values_that_do_not_fit_are_refused_not_wrapped(tmp_path):
    images, labels, _ = arrays()
    with pytest.raises(ValueError, match=r"labels: 255 is no class; write -1"):
        ns.write_prepared(tmp_path / "toy", images, labels.astype(np.uint8) * 255, **META)
    with pytest.raises(ValueError, match="labels: dtype float64"):
        ns.write_prepared(tmp_path / "toy", images, labels * 1.0, **META)
    assert not list(tmp_path.iterdir())


def test_a_copy_of_a_copy_is_identical(folder, tmp_path):
    one = ns.load_dataset(folder)
    two = ns.write_prepared(
        tmp_path / "copy", one.images, one.labels, one.truth, one.case_ids, one.split_of,
        image_ids=one.image_ids, **one.meta,
    )  # fmt: skip
    for name in files.FILES:
        assert (folder / name).read_bytes() == (two / name).read_bytes()


def test_memory_stays_flat_for_a_mapped_input(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_CHUNK_BYTES", 1 << 18)
    shape = (160, 1, 128, 128)  # 10 MB
    big = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.float32, shape)
    truth = np.lib.format.open_memmap(tmp_path / "truth.npy", "w+", np.int8, (160, 128, 128))
    tracemalloc.start()
    meta = META | {"annotators": None}
    path = ns.write_prepared(tmp_path / "toy", big, None, truth, **meta)
    view = ns.load_dataset(path).split("train", limit=3).with_labels(
        np.zeros((3, 1, 128, 128), np.int8), ["x"]
    ).training_view()  # fmt: skip
    batch = view.__getitems__([0, 2])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(batch["image"]) == 2 and peak < 2.5e6


# --- atomic writing ---------------------------------------------------------------------


class Interrupted(BaseException):
    """Stands for a Ctrl-C in the middle of writing."""


@pytest.mark.parametrize("stage", ["_write_array", "move_into_place"])
@pytest.mark.parametrize("exists", [False, True])
def test_an_interrupted_write_leaves_nothing_or_the_old_folder(
    stage, exists, tmp_path, monkeypatch
):
    target = tmp_path / "toy"
    images, labels, truth = arrays()
    if exists:
        ns.write_prepared(target, images, labels, truth, split=SPLIT, **META)
    before = {p.name: p.read_bytes() for p in target.glob("*")}
    real, calls = getattr(folder_module, stage), []

    def fail(*args):
        calls.append(args)
        if stage == "move_into_place" or len(calls) == 2:
            raise Interrupted
        return real(*args)

    monkeypatch.setattr(folder_module, stage, fail)
    with pytest.raises(Interrupted):
        ns.write_prepared(target, 1 - images, labels, truth, split=SPLIT, overwrite=True, **META)
    assert [p.name for p in tmp_path.iterdir()] == (["toy"] if exists else [])
    assert {p.name: p.read_bytes() for p in target.glob("*")} == before


def fails_to_arrive(source, target, real=os.replace):
    if str(source).endswith(".part") and Path(source).is_dir():
        raise OSError("no")
    real(source, target)


def test_a_failed_rename_brings_the_old_folder_back(folder, monkeypatch):
    monkeypatch.setattr(storage, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "replace", fails_to_arrive)
    with pytest.raises(OSError, match="no"):
        ns.write_prepared(folder, *arrays(), split=SPLIT, overwrite=True, **META)
    monkeypatch.undo()
    assert [p.name for p in folder.parent.iterdir()] == ["toy"]
    assert len(ns.load_dataset(folder)) == 10


def test_a_folder_between_its_two_renames_comes_back(folder):
    before = ns.load_dataset(folder).fingerprint
    folder.rename(folder.with_name(".toy.0123abcd.part.old"))
    folder.with_name(".toy.0123abcd.part").mkdir()
    assert ns.load_dataset(folder).fingerprint == before
    images, labels, truth = arrays()
    ns.write_prepared(folder, 1 - images, labels, truth, split=SPLIT, overwrite=True, **META)
    assert [p.name for p in folder.parent.iterdir()] == ["toy"]


def test_only_overwrite_replaces(folder):
    images, labels, truth = arrays()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        ns.write_prepared(folder, images, labels, truth, split=SPLIT, **META)
    ns.write_prepared(folder, 1 - images, labels, truth, split=SPLIT, overwrite=True, **META)
    np.testing.assert_array_equal(ns.load_dataset(folder).images, 1 - images)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        ns.write_prepared(folder, images, labels, truth, split=SPLIT, overwrite=True, **META)
    assert (folder / "thesis.tex").exists()


# --- splits -----------------------------------------------------------------------------


def test_the_default_split_is_by_case_and_ignores_order(tmp_path):
    cases = [f"patient {i // 3}" for i in range(300)]
    split = pd.Series(split_by_case(cases), index=cases)
    assert (split.groupby(level=0).nunique() == 1).all()
    assert split.value_counts().to_dict() == {"train": 210, "test": 60, "val": 30}
    backwards = pd.Series(split_by_case(cases[::-1]), index=cases[::-1])
    assert backwards[::-1].equals(split)
    assert sorted(split_by_case(["a", "b", "c"])) == ["test", "train", "val"]
    with pytest.raises(ValueError, match="pass split="):
        split_by_case(["a", "b"])


def test_splits_keep_the_order_of_the_index(folder):
    whole = ns.load_dataset(folder)
    rows = np.flatnonzero(np.array(SPLIT) == "train")
    train = whole.split("train")
    assert train.image_ids.tolist() == whole.image_ids[rows].tolist()
    for name in ("images", "labels", "truth"):
        part, full = getattr(train, name), np.load(folder / f"{name}.npy")[rows]
        np.testing.assert_array_equal(np.asarray(part), full)
        np.testing.assert_array_equal(part[1], full[1])
        np.testing.assert_array_equal(part[1:3], full[1:3])
        np.testing.assert_array_equal(part[[3, 0], 1], full[[3, 0], 1])
        np.testing.assert_array_equal(part[-1, 0], full[-1, 0])
    assert whole.split("train", limit=2).image_ids.tolist() == train.image_ids[:2].tolist()
    assert len(whole.split("test", limit=99)) == 3
    np.testing.assert_array_equal(train.split("train", limit=2).read_truth(), train.truth[:2])


def test_adjacent_images_stay_a_memory_map(tmp_path):
    split = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    path = ns.write_prepared(tmp_path / "toy", *arrays(), split=split, **META)
    assert isinstance(ns.load_dataset(path).split("val").images, np.memmap)


def test_empty_and_unknown_splits_are_errors(tmp_path):
    path = ns.write_prepared(tmp_path / "toy", *arrays(), split=["train"] * 10, **META)
    whole = ns.load_dataset(path)
    with pytest.raises(ValueError, match=f"{path}: no image in split 'val'"):
        whole.split("val")
    with pytest.raises(ValueError, match="'trian'; allowed: train, val, test"):
        whole.split("trian")
    with pytest.raises(ValueError, match="limit is 0"):
        whole.split("train", limit=0)


# --- violations by name -----------------------------------------------------------------


def edit_array(path, name, change):
    array = np.load(path / f"{name}.npy")
    np.save(path / f"{name}.npy", change(array))


def unseal(path):
    """What a folder was like before there were seals: every other check must stand alone."""
    edit_meta(path, seal="remove")


def put(*where, value):
    def change(array):
        array[where] = value
        return array

    return change


def edit_meta(path, **fields):
    meta = json.loads((path / "meta.json").read_text()) | fields
    kept = {k: v for k, v in meta.items() if v != "remove"}
    (path / "meta.json").write_text(json.dumps(kept))


def edit_index(path, row, **fields):
    index = pd.read_csv(path / "index.csv", dtype=str)
    index.loc[row, list(fields)] = list(fields.values())
    index.to_csv(path / "index.csv", index=False)


def truncate(path, name):
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[: len(content) // 2])


VIOLATIONS = {
    "no images": (lambda p: (p / "images.npy").unlink(), r"images\.npy: missing"),
    "no index": (lambda p: (p / "index.csv").unlink(), r"index\.csv: missing"),
    "no meta": (lambda p: (p / "meta.json").unlink(), r"meta\.json: missing"),
    "labels lost": (lambda p: (p / "labels.npy").unlink(), r"labels\.npy: missing.*'ada'"),
    "image dtype": (
        lambda p: edit_array(p, "images", lambda a: a.astype(float)),
        r"images\.npy.*float64.*float32 or float16",
    ),
    "label dtype": (
        lambda p: edit_array(p, "labels", lambda a: a.astype(np.uint8)),
        r"labels\.npy.*uint8.*int8 or int16",
    ),
    "foreign byte order": (lambda p: edit_array(p, "truth", lambda a: a.astype(">i2")), ">i2"),
    "pickled": (
        lambda p: np.save(p / "truth.npy", np.array([{}], object), allow_pickle=True),
        r"truth\.npy: not usable",
    ),
    "image rank": (
        lambda p: edit_array(p, "images", lambda a: a[:, 0]),
        r"images\.npy: shape is \(10, 6, 5\)",
    ),
    "label rank": (
        lambda p: edit_array(p, "labels", lambda a: a[:, 0]),
        r"labels\.npy: shape is \(10, 6, 5\).*\(10, 'annotator', 6, 5\)",
    ),
    "truth space": (
        lambda p: edit_array(p, "truth", lambda a: a[..., :4]),
        r"truth\.npy: shape is \(10, 6, 4\).*\(10, 6, 5\)",
    ),
    "no annotator": (
        lambda p: edit_array(p, "labels", lambda a: a[:, :0]),
        r"labels\.npy.*\(10, 0, 6, 5\)|labels\.npy: not usable",
    ),
    "fewer labels": (lambda p: edit_array(p, "labels", lambda a: a[:9]), r"labels\.npy.*\(9, "),
    "fewer rows": (
        lambda p: (p / "index.csv").write_text("image_id,case_id,split\na,a,train\n"),
        r"index\.csv: 1 rows.*10 images",
    ),
    "index columns": (
        lambda p: (p / "index.csv").write_text("image,case_id\na,a\n"),
        r"index\.csv: no column 'split'",
    ),
    "empty index": (lambda p: (p / "index.csv").write_text(""), r"index\.csv: not usable"),
    "unknown split": (lambda p: edit_index(p, 2, split="tset"), r"'tset' of image '0002'"),
    "torn case": (
        lambda p: edit_index(p, 1, case_id="0000"),
        r"case '0000' is in train and val; put all",
    ),
    "repeated id": (lambda p: edit_index(p, 3, image_id="0004"), r"image_id '0004' is repeated"),
    "empty id": (lambda p: edit_index(p, 3, case_id=""), "case_id of row 3 is empty"),
    "label outside classes": (
        lambda p: edit_array(p, "labels", put(3, 1, 2, 2, value=7)),
        r"labels\.npy: image '0003', annotator 'bo', has value 7; use 0 to 1 .* or -1",
    ),
    "label below -1": (
        lambda p: edit_array(p, "labels", put(3, 1, 2, 2, value=-2)),
        r"annotator 'bo', has value -2",
    ),
    "truth outside classes": (
        lambda p: edit_array(p, "truth", put(4, 0, 0, value=2)),
        r"truth\.npy: image '0004' has value 2; use 0 to 1 \(background, object\)",
    ),
    "truth not labelled": (
        lambda p: edit_array(p, "truth", put(4, 0, 0, value=-1)),
        r"truth\.npy: image '0004' has value -1",
    ),
    "NaN pixel": (
        lambda p: edit_array(p, "images", put(5, 1, 2, 2, value=np.nan)),
        r"images\.npy: image '0005' has NaN or infinite",
    ),
    "infinite pixel": (
        lambda p: edit_array(p, "images", put(6, 0, 0, 0, value=-np.inf)),
        r"images\.npy: image '0006' has NaN or infinite",
    ),
    "nobody labelled": (
        lambda p: edit_array(p, "labels", put(3, value=-1)),
        r"labels\.npy: image '0003' has no label",
    ),
    "idle annotator": (
        lambda p: edit_array(p, "labels", put(slice(None), 2, value=-1)),
        r"annotator 'cy' has no label at all",
    ),
    "truncated": (lambda p: truncate(p, "images.npy"), r"images\.npy: not usable"),
    "truncated labels": (lambda p: truncate(p, "labels.npy"), r"labels\.npy: not usable"),
    "empty file": (lambda p: (p / "truth.npy").write_bytes(b""), r"truth\.npy: not usable"),
    "broken json": (lambda p: truncate(p, "meta.json"), r"meta\.json: not usable"),
    "json list": (lambda p: (p / "meta.json").write_text("[]"), "holds a list"),
    "unknown field": (
        lambda p: edit_meta(p, colour=1),
        r"unknown field 'colour'; allowed are name",
    ),
    "missing field": (lambda p: edit_meta(p, licence="remove"), "field 'licence' is missing"),
    "bad origin": (lambda p: edit_meta(p, origin="fake"), "origin is 'fake'; .*stand-in"),
    "one class": (lambda p: edit_meta(p, classes=["object"]), "classes is .*two or more"),
    "reserved name": (lambda p: edit_meta(p, classes=["all", "b"]), 'none of them "all"'),
    "same names": (lambda p: edit_meta(p, annotators=["a", "a", "b"]), "different names"),
    "annotator count": (
        lambda p: edit_meta(p, annotators=["ada", "bo"]),
        r"annotators \['ada', 'bo'\] must have 3 entries",
    ),
    "channel count": (lambda p: edit_meta(p, channels=["x"]), r"channels \['x'\] must have 2"),
    "spacing count": (lambda p: edit_meta(p, spacing_mm=[1, 1, 1]), "spacing_mm .* must have 2"),
    "spacing sign": (lambda p: edit_meta(p, spacing_mm=[1, -1]), "positive numbers"),
    "sources": (lambda p: edit_meta(p, sources=["a.zip"]), "sources is .*checksum"),
}


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 24])
@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_violation_is_named(case, chunk_bytes, folder, monkeypatch):
    monkeypatch.setattr(checks, "_CHUNK_BYTES", chunk_bytes)
    damage, message = VIOLATIONS[case]
    assert len(ns.load_dataset(folder)) == 10
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        ns.load_dataset(folder)
    assert str(folder) in str(caught.value)


def test_all_violations_are_named_at_once(folder):
    together = [
        "bad origin", "unknown field", "unknown split", "NaN pixel", "label outside classes",
        "idle annotator", "truncated", "missing field", "torn case", "truth outside classes",
    ]  # fmt: skip
    together.remove("truncated")
    for case in together:
        VIOLATIONS[case][0](folder)
    with pytest.raises(ValueError, match=f"{len(together)} to correct") as caught:
        ns.load_dataset(folder)
    for case in together:
        assert pd.Series([str(caught.value)]).str.contains(VIOLATIONS[case][1]).item(), case


def test_a_broken_array_does_not_hide_the_rest(folder):
    for case in ("truncated", "broken json", "unknown split", "fewer labels"):
        VIOLATIONS[case][0](folder)
    with pytest.raises(ValueError, match=r"(?s)meta\.json.*images\.npy.*'tset'"):
        ns.load_dataset(folder)


def test_many_instances_are_counted_not_listed(folder):
    edit_array(folder, "images", put(slice(None), 0, 0, 0, value=np.nan))
    with pytest.raises(ValueError, match="and 5 more") as caught:
        ns.load_dataset(folder)
    assert str(caught.value).count("NaN") == 5


def test_an_unlabelled_test_image_is_allowed(folder):
    unseal(folder)
    edit_array(folder, "labels", put(2, value=-1))
    assert len(ns.load_dataset(folder).split("test")) == 3


def test_an_absent_truth_or_label_file_is_allowed_but_not_both(folder):
    unseal(folder)
    (folder / "truth.npy").unlink()
    with pytest.raises(ValueError, match=r"no truth\.npy: pass truth="):
        ns.load_dataset(folder).read_truth()
    (folder / "labels.npy").unlink()
    edit_meta(folder, annotators=None)
    with pytest.raises(ValueError, match="both missing; there is nothing to learn from"):
        ns.load_dataset(folder)


def test_unnamed_annotators_get_numbers(folder):
    unseal(folder)
    edit_meta(folder, annotators=None)
    assert ns.load_dataset(folder).annotators == ("annotator 1", "annotator 2", "annotator 3")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown field 'colour'; allowed are name"),
        ({"origin": None}, "origin is None"),
        ({"classes": None}, "classes is None"),
        ({"annotators": ["a"]}, "must have 3 entries"),
        ({"split": ["train"] * 9}, "10 images, but entries given: {'split': 9}"),
        ({"split": ["trian"] * 10}, "'trian' of image '0000' is unknown"),
        ({"case_ids": ["p"] * 10}, "case 'p' is in train and val and test"),
        ({"image_ids": ["i"] * 10, "case_ids": list(range(10))}, "'i' is repeated"),
        ({"labels": np.zeros((10, 3, 5, 6), np.int8)}, r"\(10, 3, 5, 6\), but images.npy asks"),
    ],
)
def test_what_does_not_fit_is_not_written(change, message, tmp_path):
    images, labels, truth = arrays()
    given = {"images": images, "labels": labels, "truth": truth, "split": SPLIT} | META
    with pytest.raises(ValueError, match=message):
        ns.write_prepared(tmp_path / "toy", **given | change)
    assert not list(tmp_path.iterdir())


# --- finding ----------------------------------------------------------------------------


def test_a_name_is_looked_up_under_the_data_root(folder, monkeypatch):
    monkeypatch.setenv("NOISYSEG_DATA", str(folder.parent))
    assert dataset.data_root() == folder.parent
    assert ns.load_dataset("toy").fingerprint == ns.load_dataset(folder).fingerprint
    with pytest.raises(FileNotFoundError) as caught:
        ns.load_dataset("mnist")
    for part in (str(folder.parent / "mnist"), "holds toy", "data_prep.mnist", "make data"):
        assert part in str(caught.value)


# --- fingerprint ------------------------------------------------------------------------


def test_the_fingerprint_follows_what_changes_numbers(folder):
    unseal(folder)
    seen = [ns.load_dataset(folder).fingerprint]
    edits = [
        lambda: edit_array(folder, "images", put(0, 0, 0, 0, value=0.123)),
        lambda: edit_array(folder, "labels", lambda a: a[:, ::-1]),
        lambda: edit_array(folder, "truth", lambda a: 1 - a),
        lambda: edit_index(folder, 0, split="val"),
        lambda: edit_meta(folder, classes=["background", "tumour"]),
    ]
    for edit in edits:
        edit()
        seen.append(ns.load_dataset(folder).fingerprint)
    assert len(set(seen)) == 6 and all(len(f) == 64 for f in seen)
    edit_meta(folder, licence="CC0", annotators=["x", "y", "z"])
    assert ns.load_dataset(folder).fingerprint == seen[-1]
    assert ns.load_dataset(folder).split("test").fingerprint == seen[-1]


def test_an_unchanged_file_is_hashed_and_checked_once(folder, monkeypatch):
    first = ns.load_dataset(folder)
    assert first.fingerprint
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: pytest.fail("hashed again"))
    monkeypatch.setattr(checks, "check_shapes", lambda *a: pytest.fail("checked again"))
    first.meta["name"] = "scribbled on"
    again = ns.load_dataset(folder)
    assert again.fingerprint == first.fingerprint and again.meta["name"] == "toy"


# --- the seal ---------------------------------------------------------------------------


def flip_a_bit(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "truth.npy", "index.csv"])
def test_a_changed_bit_is_found(name, folder):
    sealed = ns.load_dataset(folder).meta["seal"]["files"][name]
    assert sealed == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    flip_a_bit(folder / name, {"index.csv": 25, "images.npy": -4}.get(name, -1))
    with pytest.raises(ValueError, match=f"{name}: not as written; prepare it again"):
        ns.load_dataset(folder)


def test_a_field_of_meta_changed_by_hand_is_found_and_can_be_accepted(folder):
    edit_meta(folder, classes=["object", "background"])
    with pytest.raises(ValueError, match=r"meta\.json: not as written.*noisyseg\.data"):
        ns.load_dataset(folder)
    folder_module.seal(folder)
    assert ns.load_dataset(folder).classes == ("object", "background")


def test_only_a_valid_folder_is_sealed(folder):
    edit_array(folder, "truth", put(4, 0, 0, value=2))
    with pytest.raises(ValueError, match="has value 2"):
        folder_module.seal(folder)
    assert "seal" not in json.loads((folder / "meta.json").read_text())


def test_a_seal_does_not_change_the_fingerprint(folder):
    sealed = ns.load_dataset(folder).fingerprint
    unseal(folder)
    assert ns.load_dataset(folder).fingerprint == sealed
    # The formula of all tables published so far, written out.
    total = hashlib.sha256(json.dumps(CLASSES).encode())
    for name in ("images.npy", "labels.npy", "truth.npy", "index.csv"):
        total.update(f"{name}:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}".encode())
    assert total.hexdigest() == sealed


def repeat_field(path):
    text = (path / "meta.json").read_text().rstrip()[:-1]
    (path / "meta.json").write_text(text + ', "classes": ["b", "a"]}')


def replace_in(path, old, new):
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def become_a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def become_a_link(path, target):
    path.unlink()
    path.symlink_to(target)


def archive_as(path):
    np.savez(path.with_suffix(".npz"), np.zeros(3))
    path.with_suffix(".npz").replace(path)


def add_bytes(path, more):
    path.write_bytes(path.read_bytes() + more)


def header_says(path, text):
    content = path.read_bytes()
    path.write_bytes(content[:10] + text.ljust(len(content[10:128]) - 1).encode() + content[127:])


# What a file may hold that no writer writes, and a reader takes, hangs on or chokes on.
ODD = {
    "field twice": (repeat_field, r"field 'classes' is there twice; keep one"),
    "nested": (lambda p: (p / "meta.json").write_text("[" * 200_000), r"meta\.json: not usable"),
    "not a number": (lambda p: edit_meta(p, spacing_mm=[float("nan"), 1]), "NaN is no number"),
    "spacing 1e400": (lambda p: edit_meta(p, spacing_mm=[10**400, 1]), "positive numbers, in mm"),
    "spacing 1e-300": (lambda p: edit_meta(p, spacing_mm=[1e-300, 1]), "positive numbers, in mm"),
    "version": (lambda p: edit_meta(p, prep_version=10**4000), "whole number"),
    "control character": (lambda p: edit_meta(p, classes=["a", "b\x1b[31m"]), "classes is"),
    "null character": (lambda p: edit_meta(p, name="a\0b"), "name is"),
    "half a character": (lambda p: edit_meta(p, annotators=["a", "b", "\ud800"]), "annotators is"),
    "nothing to see": (lambda p: edit_meta(p, channels=["a", "\u200b"]), "channels is"),
    "only a blank differs": (lambda p: edit_meta(p, classes=["a", " a"]), "different names"),
    "null in index": (
        lambda p: replace_in(p / "index.csv", "0003", "00\0003"), r"index\.csv: image_id of row 3"
    ),
    "column twice": (
        lambda p: replace_in(p / "index.csv", "case_id", "image_id"), "two columns have one name"
    ),
    "a value more": (lambda p: replace_in(p / "index.csv", "0003,t", "0003,,t"), "row 3 has 4 val"),
    "a value less": (lambda p: replace_in(p / "index.csv", "0003,t", "t"), "row 3 has 2 value"),
    "open quote": (lambda p: replace_in(p / "index.csv", "0003,", '"0003,'), r"index\.csv: not us"),
    "a long name": (
        lambda p: replace_in(p / "index.csv", "0003,", "x" * 300_000 + ","), r"index\.csv: not us"
    ),
    "pipe": (lambda p: become_a_pipe(p / "images.npy"), r"images\.npy: not usable \(it is no file"),
    "pipe for an index": (lambda p: become_a_pipe(p / "index.csv"), r"index\.csv: not usable"),
    "device": (lambda p: become_a_link(p / "labels.npy", "/dev/zero"), r"labels\.npy: not usable"),
    "link to nowhere": (lambda p: become_a_link(p / "truth.npy", "gone"), r"truth\.npy: missing"),
    "link to itself": (lambda p: become_a_link(p / "truth.npy", "truth.npy"), r"truth\.npy: not"),
    "archive": (lambda p: archive_as(p / "truth.npy"), "no array of NumPy"),
    "code in a header": (
        lambda p: header_says(p / "images.npy", "{'descr': print(1)"), r"images\.npy: not usable"
    ),
    "bytes behind": (lambda p: add_bytes(p / "truth.npy", b"more"), "4 bytes more than its header"),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_what_no_writer_writes_is_named(case, folder):
    unseal(folder)
    damage, message = ODD[case]
    damage(folder)
    with pytest.raises(ValueError, match=message) as caught:
        ns.load_dataset(folder)
    lines = str(caught.value).split("\n")
    assert all(line.isprintable() for line in lines) and len(str(caught.value)) < 5000


# --- simulated and dropped labels -------------------------------------------------------


def test_labels_can_be_put_on(folder):
    test = ns.load_dataset(folder).split("test")
    labels = np.zeros((3, 2, 6, 5), np.int8)
    labels[0, 1] = -1
    got = test.with_labels(labels, ["x", "y"])
    assert (
        got.annotators == ("x", "y")
        and got.has_label.tolist() == [[True, False]] + [[True] * 2] * 2
    )
    np.testing.assert_array_equal(got.read_labels(), labels)
    assert test.annotators == tuple(NAMES)


@pytest.mark.parametrize(
    ("change", "names", "message"),
    [
        (lambda a: a + 2, ["x", "y"], r"image '0001', annotator 'x', has value 2; .*and 2"),
        (lambda a: put(0, value=-1)(a), ["x", "y"], "image '0001' has no label"),
        (lambda a: put(slice(None), 1, value=-1)(a), ["x", "y"], "'y' has no label at all"),
        (lambda a: a, ["x", "x"], "different names"),
        (lambda a: a, ["x"], r"needs shape \(2, 1, 6, 5\)"),
        (lambda a: a.astype(float), ["x", "y"], "an integer dtype"),
    ],
)
def test_labels_put_on_are_checked_as_on_loading(change, names, message, folder):
    val = ns.load_dataset(folder).split("val")
    with pytest.raises(ValueError, match=message.replace(".*and 2", "")):
        val.with_labels(change(np.zeros((2, 2, 6, 5), np.int8)), names)


def test_labellings_parse():
    assert [parse_labelling(x) for x in ("dense", "one", "k1", "k12")] == [None, 1, 1, 12]
    for wrong in ("k0", "k", "k-1", "k01", "K2", "two", "", "k2 "):
        with pytest.raises(ValueError, match="unknown labelling"):
            parse_labelling(wrong)


@pytest.mark.parametrize(("labelling", "k"), [("one", 1), ("k2", 2), ("k3", 3)])
def test_dropping_keeps_k_whole_labels(labelling, k, tmp_path):
    whole = many(tmp_path)
    got, before = whole.drop_labels(labelling, 0), np.load(whole.path / "labels.npy")
    after = got.read_labels()
    had, kept = (before >= 0).any((2, 3)), (after >= 0).any((2, 3))
    np.testing.assert_array_equal(kept, got.has_label)
    np.testing.assert_array_equal(kept.sum(1), np.minimum(k, had.sum(1)))
    assert not (kept & ~had).any()
    np.testing.assert_array_equal(after[kept], before[kept])
    assert (after[~kept] == -1).all()
    np.testing.assert_array_equal(whole.read_labels(), before)
    assert got.labels[3].dtype == got.labels.dtype == np.int8


def test_dense_drops_nothing_and_a_larger_k_keeps_a_smaller_ones(tmp_path):
    whole = many(tmp_path)
    assert whole.drop_labels("dense", 0) is whole
    one, two = (whole.drop_labels(x, 5).has_label for x in ("one", "k2"))
    assert (two | ~one).all() and two.sum() > one.sum()
    twice = whole.drop_labels("k2", 5).drop_labels("one", 5)
    np.testing.assert_array_equal(twice.has_label, one)


def test_order_and_subsets_leave_dropped_labels_unchanged(tmp_path):
    whole = many(tmp_path)
    order = np.random.default_rng(0).permutation(len(whole))
    shuffled = ns.load_dataset(
        ns.write_prepared(
            tmp_path / "shuffled", whole.images[order], whole.labels[order], whole.truth[order],
            whole.case_ids[order], whole.split_of[order], whole.image_ids[order], **META,
        )
    )  # fmt: skip
    dropped = whole.drop_labels("one", 3)
    expected = dict(zip(whole.image_ids, dropped.read_labels(), strict=True))
    for other in (
        shuffled.drop_labels("one", 3),
        whole.split("train", limit=7).drop_labels("one", 3),
        dropped.split("train").split("train", limit=5),
    ):
        for name, labels in zip(other.image_ids, other.read_labels(), strict=True):
            np.testing.assert_array_equal(labels, expected[name])


def test_the_draw_is_fair_and_depends_on_the_seed(tmp_path):
    whole = many(tmp_path, 900, missing=False)
    draws = [whole.drop_labels("one", seed).has_label for seed in (0, 1)]
    assert (draws[0] != draws[1]).any()
    for draw in draws:
        assert (abs(draw.mean(0) - 1 / 3) < 0.06).all()  # 4 standard errors of 900 draws


def test_dropping_too_much_or_nothing_there_is_an_error(folder):
    unseal(folder)
    whole = ns.load_dataset(folder)
    with pytest.raises(ValueError, match=r"labelling 'k4'.*'ada', 'bo', 'cy'"):
        whole.drop_labels("k4", 0)
    (folder / "labels.npy").unlink()
    edit_meta(folder, annotators=None)
    bare = ns.load_dataset(folder)
    assert bare.labels is None and bare.annotators == ()
    for ask in (lambda: bare.drop_labels("one", 0), bare.read_labels, bare.training_view):
        with pytest.raises(ValueError, match=r"no labels\.npy: pass simulated ones"):
            ask()


# --- what training sees -----------------------------------------------------------------


def reachable(value, seen):
    """Every object reachable through attributes, containers and array bases."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    inside = list(getattr(value, "__dict__", {}).values())
    if isinstance(value, dict):
        inside += [*value, *value.values()]
    if isinstance(value, (list, tuple)):
        inside += value
    inside += [getattr(value, "base", None)] if isinstance(value, np.ndarray) else []
    for part in inside:
        reachable(part, seen)


@pytest.mark.parametrize("labelling", ["dense", "one"])
def test_training_has_no_truth(labelling, tmp_path):
    train = many(tmp_path).split("train").drop_labels(labelling, 0)
    view, seen = train.training_view(), {}
    assert set(view[0]) == set(view.__getitems__([0, 1])) == {"image", "labels", "index"}
    reachable(view, seen)
    attributes = {name for v in seen.values() for name in getattr(v, "__dict__", {})}
    assert "images" in attributes and not [name for name in attributes if "truth" in name]
    assert not [v for v in seen.values() if isinstance(v, dataset.SegmentationDataset)]
    paths = {v.name for v in seen.values() if isinstance(v, dataset.Path)}
    assert paths == {"images.npy", "labels.npy"}  # the mapped files, nothing that leads further


def test_items_are_the_contracts(folder):
    train = ns.load_dataset(folder).split("train")
    target = np.random.default_rng(0).random((5, 2, 6, 5))
    view = train.training_view(target=target)
    item = view[3]
    assert len(view) == 5 and set(item) == {"image", "labels", "index", "target"}
    torch.testing.assert_close(item["image"], torch.tensor(train.images[3]))
    torch.testing.assert_close(item["labels"], torch.tensor(train.labels[3]).long())
    torch.testing.assert_close(item["target"], torch.from_numpy(target[3]).float())
    assert item["index"].item() == 3 and item["index"].dtype == torch.int64
    assert view[-1]["index"].item() == 4
    with pytest.raises(IndexError):
        view[5]
    with pytest.raises(ValueError, match=r"target has shape \(4, 2, 6, 5\); toy needs \(5, "):
        train.training_view(target=target[:4])


@pytest.mark.parametrize("space", [(6, 5), (3, 6, 5)])
def test_batches_are_the_items_stacked(space, tmp_path):
    path = ns.write_prepared(tmp_path / "toy", *arrays(space=space), split=SPLIT, **META)
    view = ns.load_dataset(path).split("train").drop_labels("k2", 1).training_view()
    batches = list(DataLoader(view, batch_size=2, collate_fn=collate))
    assert [len(b["index"]) for b in batches] == [2, 2, 1]
    items = [view[i] for i in range(len(view))]
    for key in items[0]:
        stacked = torch.stack([item[key] for item in items])
        torch.testing.assert_close(torch.cat([b[key] for b in batches]), stacked)
    few = next(iter(DataLoader(Subset(view, [4, 2]), batch_size=2, collate_fn=collate)))
    torch.testing.assert_close(few["labels"], torch.stack([items[4]["labels"], items[2]["labels"]]))
    torch.testing.assert_close(collate(items[:2]), batches[0])


def test_an_image_without_any_label_cannot_be_trained_on(folder):
    unseal(folder)
    edit_array(folder, "labels", put(2, value=-1))
    with pytest.raises(ValueError, match=r"nobody labelled images \['0002'\]"):
        ns.load_dataset(folder).split("test").training_view()


def test_a_batch_reads_no_more_than_its_rows(folder):
    view = ns.load_dataset(folder).split("train").training_view()
    asked = []

    class Spy(np.ndarray):
        def __getitem__(self, key):
            asked.append(np.size(key))
            return np.asarray(self)[key]

    view.images.source = np.asarray(view.images.source).view(Spy)
    assert len(view.__getitems__([1, 3])["image"]) == 2
    assert asked == [2]
