"""MS lesions: the official tree and its looks-alikes; damage never gives a wrong array."""

import re

import numpy as np
import pytest
from trees import (
    IMAGE_DAMAGE,
    MASK_DAMAGE,
    at_the_edge,
    brain,
    copied,
    folder_bytes,
    lesion,
    ms_tree,
    rewrite,
)  # fmt: skip

from data_prep import cases, ms_lesions
from noisyseg.data.dataset import load_dataset

SMALL = ms_lesions.Options(crop=(24, 28))
BAD_OPTIONS = [
    {"every": 0},
    {"every": -1},
    {"spacing": 0.0},
    {"spacing": -1.0},
    {"spacing": float("nan")},
    {"min_pixels": 0},
    {"crop": (24, 0)},
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return ms_tree(tmp_path_factory.mktemp("ms"), patients=4, suffix=".nii.gz")


@pytest.mark.parametrize("layout", ["official", "flat", "deeper", "upper"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_every_layout_gives_the_same_folder(layout, suffix, tmp_path):
    tree = ms_tree(tmp_path / "a", suffix=suffix, layout=layout)
    data = load_dataset(ms_lesions.prepare(tree, tmp_path / "ms", SMALL).path)
    assert data.channels == ("flair", "mprage") and data.classes == ("background", "lesion")
    assert data.labels is None and data.meta["spacing_mm"] == [1.0, 1.0]
    row = data.image_ids.tolist().index(
        next(i for i in data.image_ids if i.startswith("training02_02"))
    )
    z = int(data.image_ids[row].split("/z")[1])
    for channel, k in enumerate((0, 1)):
        raw = brain(220 + k)
        inside = raw != 0
        expected = np.where(inside, (raw - raw[inside].mean()) / raw[inside].std(), 0)[:, :, z]
        got = data.images[row, channel].astype(float)[2:26, 2:22]
        np.testing.assert_allclose(got, expected.T[::-1], atol=5e-3)
    assert (data.truth[row][2:26, 2:22] == lesion(221)[:, :, z].T[::-1]).all()


def test_patients_do_not_stand_on_both_sides(tree, tmp_path):
    data = load_dataset(ms_lesions.prepare(tree, tmp_path / "ms", SMALL).path)
    by_patient = {c: set(data.split_of[data.case_ids == c]) for c in set(data.case_ids)}
    assert len(by_patient) == 4 and all(len(splits) == 1 for splits in by_patient.values())
    assert all(i.startswith(c) for i, c in zip(data.image_ids, data.case_ids, strict=True))


@pytest.mark.parametrize("truth", ms_lesions.TRUTHS)
def test_the_truth_is_the_mask_that_was_asked_for(truth, tree, tmp_path):
    options = SMALL._replace(truth=truth, raters=True)
    data = load_dataset(ms_lesions.prepare(tree, tmp_path / "ms", options).path)
    one, two = (np.asarray(data.labels[:, r]) for r in (0, 1))
    expected = {"mask1": one, "mask2": two, "union": one | two, "intersection": one & two}[truth]
    assert (np.asarray(data.truth) == expected).all() and expected.any((1, 2)).all()
    assert data.annotators == ("rater 1", "rater 2")


def test_an_interrupted_run_reads_no_scan_twice(tree, tmp_path, monkeypatch):
    read, seen = ms_lesions.read_case, []

    def counted(case, options):
        if len(seen) == 2:
            seen.append("stop")
            raise KeyboardInterrupt
        seen.append(case.name)
        return read(case, options)

    monkeypatch.setattr(ms_lesions, "read_case", counted)
    with pytest.raises(KeyboardInterrupt):
        ms_lesions.prepare(tree, tmp_path / "a" / "ms", SMALL)
    assert not (tmp_path / "a" / "ms").exists()
    whole = ms_lesions.prepare(tree, tmp_path / "a" / "ms", SMALL).path
    assert sorted(seen) == sorted({*seen}) and len(seen) == 9  # eight scans and the stop
    monkeypatch.setattr(ms_lesions, "read_case", read)
    other = ms_lesions.prepare(tree, tmp_path / "b" / "ms", SMALL).path
    assert folder_bytes(whole) == folder_bytes(other)


def test_twice_gives_the_same_bytes(tree, tmp_path):
    a, b = (ms_lesions.prepare(tree, tmp_path / k / "ms", SMALL).path for k in "ab")
    assert folder_bytes(a) == folder_bytes(b)


@pytest.mark.parametrize("kind", [*IMAGE_DAMAGE, *MASK_DAMAGE])
def test_damage_leaves_out_one_scan_and_says_why(kind, tree, tmp_path):
    mine, name = copied(tree, tmp_path), "training03_01"
    damage, message = (IMAGE_DAMAGE | MASK_DAMAGE)[kind]
    what = "preprocessed/{}_mprage_pp.nii.gz" if kind in IMAGE_DAMAGE else "masks/{}_mask1.nii.gz"
    damage(mine / "training03" / what.format(name))
    report = ms_lesions.prepare(mine, tmp_path / "ms", SMALL)
    assert list(report.skipped) == [name]
    assert re.search(message, report.skipped[name]) and name in report.skipped[name]
    assert f"1 cases left out:\n- {name}" in str(report)
    with pytest.raises(cases.Unusable):
        ms_lesions.prepare(mine, tmp_path / "strict", SMALL, strict=True)
    kept = load_dataset(report.path)
    assert not any(i.startswith(name) for i in kept.image_ids)


def test_originals_that_lie_on_another_grid_say_so(tree, tmp_path):
    mine = copied(tree, tmp_path)
    for file in mine.rglob("*_pp.nii.gz"):
        rewrite(file, lambda a: a[:-2])
        file.rename(file.with_name(file.name.replace("_pp", "")))
    with pytest.raises(ValueError, match="one grid"):
        ms_lesions.prepare(mine, tmp_path / "ms", SMALL._replace(which="orig"))


def test_linked_patients_are_patients(tree, tmp_path):
    mine = copied(tree, tmp_path / "a")
    linked = mine / "training02"
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    a = ms_lesions.prepare(mine, tmp_path / "a" / "ms", SMALL)
    b = ms_lesions.prepare(tree, tmp_path / "b" / "ms", SMALL)
    assert not a.skipped and folder_bytes(a.path) == folder_bytes(b.path)


def test_links_in_a_circle_end_and_leave_the_folder_nowhere(tree, tmp_path):
    mine = copied(tree, tmp_path)
    copied(tree / "training01", tmp_path / "beside")
    expected = [case.name for case in ms_lesions.find_cases(tree)]
    (mine / "training01" / "self").symlink_to(mine / "training01")
    (mine / "training01" / "root").symlink_to(mine)
    (mine / "above").symlink_to(tmp_path)
    assert [case.name for case in ms_lesions.find_cases(mine)] == expected


def test_folders_that_are_none(tmp_path, tree):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        ms_lesions.prepare(tmp_path / "nowhere", tmp_path / "ms")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no scan"):
        ms_lesions.prepare(tmp_path / "empty", tmp_path / "ms")
    mine = copied(tree, tmp_path)
    copied(mine / "training01", mine / "copy")
    with pytest.raises(ValueError, match="same scan twice"):
        ms_lesions.prepare(mine, tmp_path / "ms", SMALL)


def test_the_command_line(tree, tmp_path, capsys):
    out = tmp_path / "ms"
    given = ["--folder", str(tree), "--out", str(out), "--crop", "24", "28", "--modalities",
             "t2", "flair", "--annotators", "raters",
             "--origin", "stand-in", "--every", "2"]  # fmt: skip
    ms_lesions.main(given)
    data = load_dataset(out)
    assert (data.channels, data.origin) == (("t2", "flair"), "stand-in")
    assert f"{sum(data.split_of == 'train')} train" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: .*--force"):
        ms_lesions.main(given)


def test_help_says_that_the_archive_has_no_masks_for_its_originals(capsys):
    with pytest.raises(SystemExit):
        ms_lesions.main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "orig: needs masks on the grid of the originals" in told


@pytest.mark.parametrize("change", BAD_OPTIONS, ids=str)
def test_options_that_make_no_sense_are_named(change, tree, tmp_path):
    name = next(iter(change)).replace("_", "-")
    with pytest.raises(ValueError, match=f"--{name} is .*; give a number above 0"):
        ms_lesions.prepare(tree, tmp_path / "out", SMALL._replace(**change))
    assert not [*tmp_path.iterdir()]


def test_a_slice_counts_by_what_the_crop_leaves_of_it(tree, tmp_path):
    mine = copied(tree, tmp_path)
    for file in mine.rglob("*_mask1.nii.gz"):
        rewrite(file, at_the_edge)
    with pytest.raises(ValueError, match="no slice has"):
        ms_lesions.prepare(mine, tmp_path / "out", SMALL._replace(crop=(10, 10), min_pixels=1))
    whole = load_dataset(
        ms_lesions.prepare(mine, tmp_path / "out", SMALL._replace(min_pixels=1)).path
    )
    assert len(whole) and np.asarray(whole.truth).any((1, 2)).all()
