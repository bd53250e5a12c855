"""Your own folders -> prepared folder: matched by name, checked, and never a wrong array."""

import hashlib
import shutil

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image
from sklearn.metrics import f1_score

from data_prep import folders
from data_prep.folders import main, plan_folders, plan_tree, prepare
from noisyseg.data import load_dataset

SIZE = (14, 16)
NAMES = [f"case{n}" for n in range(9)]


def picture(n, size=SIZE):
    return np.random.default_rng(n).integers(0, 256, size, dtype=np.uint8)


def mask(n, size=SIZE, high=255):
    """A rectangle that tells the images and the annotators apart."""
    array = np.zeros(size, np.uint8)
    array[2 : 5 + n % 7, 3 : 6 + n // 2 % 7] = high
    return array


def png(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)
    return file


def nifti(file, array, affine=None, dtype=None):
    file.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(np.asarray(array, dtype), affine), file)
    return file


@pytest.fixture
def own(tmp_path):
    """Nine pictures; anna labelled all, ben all, cleo a third; written in another order."""
    for n in range(9):
        png(tmp_path / "scans" / f"case{n}.png", picture(n))
    for n in reversed(range(9)):
        png(tmp_path / "anna" / f"case{n}.png", mask(n))
        png(tmp_path / "ben" / f"case{n}_ben.png", mask(n + 1))
        if n % 3 == 0:
            png(tmp_path / "cleo" / f"Cleo-case{n}.png", mask(n + 2))
    return tmp_path


def arguments(own, *more, labels=("anna", "ben", "cleo"), out="out"):
    given = [a for who in labels for a in ("--labels", f"{who}={own / who}")]
    return [*map(str, ["--images", own / "scans", *given, "--out", own / out, *more])]


def run(own, *more, **keywords):
    main(arguments(own, *more, **keywords))
    return load_dataset(own / "out")


def stems(data):
    return [i.split("/")[0] for i in data.image_ids]


def test_three_annotators_of_whom_one_labelled_a_third(own, capsys):
    data = run(own, "--normalise", "none", "--classes", "background", "lesion")
    assert stems(data) == NAMES and data.annotators == ("anna", "ben", "cleo")
    assert data.classes == ("background", "lesion") and data.truth is None
    for n in range(9):
        np.testing.assert_array_equal(data.images[n, 0], picture(n))
        np.testing.assert_array_equal(data.labels[n, 0], mask(n) // 255)
        np.testing.assert_array_equal(data.labels[n, 1], mask(n + 1) // 255)
        expected = mask(n + 2) // 255 if n % 3 == 0 else np.full(SIZE, -1)
        np.testing.assert_array_equal(data.labels[n, 2], expected)
    printed = capsys.readouterr().out
    assert "0 = background, 255 = lesion" in printed and "9 images" not in printed
