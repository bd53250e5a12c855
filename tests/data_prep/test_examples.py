"""The example folders: what is in them, how they are read back, and what stops them."""

import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data_prep import examples
from data_prep.folders import prepare
from data_prep.folders.plans import plan_folders
from data_prep.lidc.database import read_embedded
from noisyseg.data.dataset import load_dataset


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    out = tmp_path_factory.mktemp("png") / "digits"
    examples.write_png(out, images=60)
    return out


@pytest.fixture(scope="module")
def nifti(tmp_path_factory):
    out = tmp_path_factory.mktemp("nifti") / "nodules"
    examples.write_nifti(out, volumes=12)
    return out


def read(source, out):
    names = sorted(p.name for p in source.iterdir() if p.name != "images")
    plan = plan_folders([source / "images"], {n: source / n for n in names}, None, False)
    prepare.prepare(out, plan, origin="simulated")
    return load_dataset(out)


def test_png_one_annotator_labelled_a_third(png, tmp_path):
    counts = {p.name: len(list(p.iterdir())) for p in png.iterdir()}
    assert counts == {"images": 60, "anna": 60, "ben": 60, "cleo": 20}
    data = read(png, tmp_path / "out")
    assert [*data.annotators] == ["anna", "ben", "cleo"] and data.truth is None
    labels = data.read_labels()
    assert (labels[:, 2] == -1).all((1, 2)).sum() == 40
    area = [labels[:, r][labels[:, r] >= 0].mean() for r in range(3)]
    assert area[0] > 1.5 * area[2] > 1.5 * 1.5 * area[1]


def test_png_masks_are_what_the_annotators_wrote(png):
    data = load_dataset("mnist").split("train", limit=60)
    written = np.array(Image.open(png / "cleo" / "digit003.png"))
    assert np.array_equal(written == 255, data.read_truth()[3] == 1)
    assert set(np.unique(written)) == {0, 255}


def test_nifti_masks_are_the_readers_outlines(nifti, tmp_path):
    readers = read_embedded()
    file = sorted((nifti / "reader2").iterdir())[0]
    patient = int(file.name.split("-")[-1].split(".")[0])
    mine = np.asarray(nib.load(file).dataobj).transpose(2, 1, 0)
    embedded = readers.masks[readers.patient[readers.nodule] == patient][:, 1]
    windows = (embedded[k : k + len(mine)] for k in range(len(embedded) - len(mine) + 1))
    assert any(np.array_equal(window, mine) for window in windows)
    data = read(nifti, tmp_path / "out")
    assert len(data) == 12 * examples.SLICES and len(set(data.case_ids)) == 12


def test_nifti_grid_is_oblique_with_the_scans_spacing(nifti):
    image, mask = (nib.load(sorted((nifti / k).iterdir())[0]) for k in ("images", "reader1"))
    assert np.array_equal(image.affine, mask.affine)
    assert nib.affines.obliquity(image.affine).max() > 0.1
    assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
    assert 0.4 < image.header.get_zooms()[0] < 1 <= len(image.shape)


def test_example_is_written_once_and_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(examples.EXAMPLES, "png", lambda out: examples.write_png(out, 6))
    out = examples.example("png", tmp_path / "mine")
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert examples.example("png", out) == out
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert not list(tmp_path.glob("*.part"))


def test_an_interrupted_example_leaves_nothing_behind(tmp_path, monkeypatch):
    def stops(out):
        out.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setitem(examples.EXAMPLES, "png", stops)
    with pytest.raises(KeyboardInterrupt):
        examples.example("png", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_refuses_a_folder_of_something_else_and_an_unknown_kind(tmp_path):
    (tmp_path / "thesis.txt").write_text(json.dumps(1))
    with pytest.raises(FileExistsError, match="holds something else; give another --out"):
        examples.example("png", tmp_path)
    with pytest.raises(ValueError, match="no example 'dicom'; there are: png, nifti"):
        examples.example("dicom", tmp_path / "x")
    with pytest.raises(SystemExit, match="error: .*holds something else"):
        examples.main(["png", "--out", str(tmp_path)])
