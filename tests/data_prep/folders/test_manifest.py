"""The table of which file is what: written by matching, read by everything after, correctable."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data_prep.folders.__main__ import main
from data_prep.folders.manifest import read_manifest
from noisyseg import load_dataset


@pytest.fixture
def mine(tmp_path):
    """Six pictures, two annotators; ben wrote three."""
    rng = np.random.default_rng(0)
    for folder, count in (("scans", 6), ("anna", 6), ("ben", 3)):
        (tmp_path / folder).mkdir()
        for n in range(count):
            pixels = rng.integers(0, 256, (12, 12), np.uint8)
            pixels = pixels if folder == "scans" else 255 * (pixels > 128).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"case{n}.png")
    return tmp_path


def prepared(mine, *more):
    names = ["--labels", f"anna={mine / 'anna'}", "--labels", f"ben={mine / 'ben'}"]
    main(["--images", str(mine / "scans"), *names, "--out", str(mine / "out"), *more])
    return mine / "out.manifest.csv"


def test_it_says_which_files_make_an_image(mine):
    table = pd.read_csv(prepared(mine), dtype=str, keep_default_na=False)
    assert list(table) == ["image", "case", "split", "channel 1", "annotator anna", "annotator ben"]
    assert list(table.image) == list(table.case) == [f"case{n}" for n in range(6)]
    assert list(table["annotator ben"] != "") == [True] * 3 + [False] * 3
    assert set(table.split) == {""}, "the split is drawn later"


def test_the_same_folder_comes_from_it(mine):
    file = prepared(mine)
    main(["--manifest", str(file), "--out", str(mine / "again")])
    first, again = load_dataset(mine / "out"), load_dataset(mine / "again")
    assert first.fingerprint == again.fingerprint


def test_a_correction_is_what_counts(mine):
    file = prepared(mine)
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    table["case"] = ["p1", "p1", "p2", "p2", "p3", "p3"]
    table["split"] = ["train", "train", "val", "val", "test", "test"]
    table.loc[0, "annotator ben"] = ""
    table = table.rename(columns={"annotator ben": "annotator Ben B."})
    table.to_csv(file, index=False)
    main(["--manifest", str(file), "--out", str(mine / "again")])
    data = load_dataset(mine / "again")
    assert data.annotators == ("anna", "Ben B.")
    assert dict(zip(data.case_ids, data.split_of, strict=True)) == {
        "p1": "train", "p2": "val", "p3": "test",
    }  # fmt: skip
    assert data.has_label[:, 1].tolist() == [False, True, True, False, False, False]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns="case"), "no column case"),
        (lambda t: t.rename(columns={"annotator ben": "ben"}), "unknown column 'ben'"),
        (lambda t: t.assign(image="case0"), "image case0 is there twice"),
        (lambda t: t.assign(case=""), "case of line 2 is empty"),
        (lambda t: t.assign(split=["train", *[""] * 5]), "image case1, case2"),
        (lambda t: t.assign(split="later"), "split 'later' of image case0 is unknown"),
        (lambda t: t.assign(**{"channel 1": "none.png"}), "there is no file"),
        (lambda t: t.assign(**{"channel 1": ""}), "has no file in any channel"),
        (lambda t: t[["image", "case", "split", "channel 1"]], "nothing to learn from"),
    ],
)
def test_what_does_not_fit_is_named(change, said, mine):
    file = prepared(mine)
    change(pd.read_csv(file, dtype=str, keep_default_na=False)).to_csv(file, index=False)
    with pytest.raises(ValueError, match=said) as error:
        read_manifest(file)
    assert str(file) in str(error.value)


def test_it_stands_alone(mine, capsys):
    file = prepared(mine)
    with pytest.raises(SystemExit, match="leave the others away"):
        prepared(mine, "--manifest", str(file), "--force")
    with pytest.raises(SystemExit, match="no such file"):
        main(["--manifest", str(mine / "none.csv"), "--out", str(mine / "again")])
