"""LIDC as a pickle: what is read, what is refused, and that nothing in it is ever run."""

import io
import os
import pickle

import numpy as np
import pydicom
import pytest

from data_prep.cases import Unusable
from data_prep.lidc import __main__, pickles
from data_prep.lidc.archive import prepare_pickle
from noisyseg import load_dataset


def a_slice(series="1.2", drawn=4, **changes):
    rng = np.random.default_rng(0)
    masks = [np.zeros((128, 128)) for _ in range(4)]
    for mask in masks[:drawn]:
        mask[50:60, 50:60] = 1
    image = rng.random((128, 128)).astype(np.float32)
    return {"image": image, "masks": masks, "series_uid": series} | changes


def slices(**more):
    names = {f"P{p}_slice{k}": a_slice(f"1.2.{p}") for p in range(4) for k in range(2)}
    return names | more


def dump(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_becomes_a_folder(protocol, tmp_path):
    file = dump(tmp_path / "data_lidc.pickle", slices(), protocol)
    report = prepare_pickle(file, tmp_path / "out")
    data = load_dataset(report.path)
    assert len(data) == 8 and data.origin == "real" and not report.skipped
    assert (data.read_labels()[:, :, 50:60, 50:60] == 1).all()
    expected = a_slice()["image"].astype(np.float16)
    assert (data.read_images()[:, 0] == expected).all()
    assert {len(set(data.split_of[data.case_ids == c])) for c in data.case_ids} == {1}


def test_names_of_both_generations_of_numpy(tmp_path):
    content = pickle.dumps(slices(), 2)
    for old, new in ((b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")):
        found = pickles.load_arrays(io.BytesIO(content.replace(old, new)), tmp_path)
        assert (found["P0_slice0"]["image"] == a_slice()["image"]).all()


def test_several_files_are_one_set_and_repeats_are_refused(tmp_path):
    content = slices()
    dump(tmp_path / "a.pickle", {n: s for n, s in content.items() if n < "P2"})
    dump(tmp_path / "b.pickle", {n: s for n, s in content.items() if n >= "P2"})
    assert pickles.read_pickles(tmp_path).keys() == content.keys()
    dump(tmp_path / "c.pickle", {"P0_slice0": a_slice()})
    with pytest.raises(ValueError, match="P0_slice0.*another file"):
        pickles.read_pickles(tmp_path)


class Malicious:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize(
    "call", [os.mkdir, eval, exec, getattr, open, np.fromfile, pydicom.dcmread]
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_runs_nothing(call, protocol, tmp_path):
    target = tmp_path / "ran"
    argument = {eval: f"__import__('os').mkdir({str(target)!r})"}
    argument[exec] = argument[eval]
    arguments = (str(target), "w") if call is open else (argument.get(call, str(target)),)
    content = slices(bad=Malicious(call, *arguments))
    file = dump(tmp_path / "data.pickle", content, protocol)
    with pytest.raises(SystemExit, match=r"error: .*wants to call .*nothing in it was run"):
        __main__.main(["--pickle", str(file), "--out", str(tmp_path / "out")])
    assert not target.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"image": np.full((128, 128), 1.5)},
        {"image": np.full((128, 128), -0.1)},
        {"image": np.full((128, 128), np.nan)},
        {"image": np.full((128, 128), "a")},
        {"masks": [np.zeros((64, 64))] * 4},
        {"masks": [np.ones((128, 128))] * 3},
        {"masks": [np.full((128, 128), 2)] * 4},
        {"masks": None},
    ],
    ids=str,
)
def test_a_series_with_a_wrong_slice_is_left_out(changes, tmp_path):
    file = dump(tmp_path / "data.pickle", slices(P3_slice9=a_slice("1.2.3", **changes)))
    report = prepare_pickle(file, tmp_path / "out")
    assert list(report.skipped) == ["1.2.3"] and "P3_slice9" in report.skipped["1.2.3"]
    assert len(load_dataset(report.path)) == 6
    with pytest.raises(Unusable):
        prepare_pickle(file, tmp_path / "strict", strict=True)


def test_pickles_that_are_something_else(tmp_path):
    whole = dump(tmp_path / "whole.pickle", slices()).read_bytes()
    contents = {
        "cut": whole[:-500],
        "text": b"no pickle",
        "empty": b"",
        "list": pickle.dumps([1, 2]),
        "anonymous": pickle.dumps({"a": {"image": 1}}),
        "sizes": pickle.dumps(slices(other=a_slice("1.9", image=np.zeros((64, 64))))),
    }
    for name, content in contents.items():
        file = tmp_path / f"{name}.pickle"
        file.write_bytes(content)
        with pytest.raises(SystemExit, match=f"error: .*{name}.pickle"):
            __main__.main(["--pickle", str(file), "--out", str(tmp_path / "out")])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="give data_lidc.pickle"):
        prepare_pickle(tmp_path / "nothing", tmp_path / "out")


def test_few_readers_of_a_slice_and_patients_with_two_scans(tmp_path):
    file = dump(tmp_path / "a.pickle", slices(P0_slice7=a_slice("1.2.0", drawn=2)))
    assert len(load_dataset(prepare_pickle(file, tmp_path / "one").path)) == 9
    assert len(load_dataset(prepare_pickle(file, tmp_path / "four", readers=4).path)) == 8
    first, second, *_ = pickles.SAME_PATIENT
    cases, _ = pickles.cases_of({"a": a_slice(first), "b": a_slice(second)}, file)
    assert len({case.patient for case in cases}) == 1 and len(cases) == 2
    assert len(pickles.SAME_PATIENT) == 16
