"""BraTS: every year's tree, the same arrays; damage never gives a wrong array."""

import gc
import os
import re
import weakref

import numpy as np
import pytest
from trees import (
    BRATS_NAMES,
    IMAGE_DAMAGE,
    MASK_DAMAGE,
    SHAPE,
    at_the_edge,
    brain,
    brats_tree,
    copied,
    folder_bytes,
    rewrite,
    tumour,
)  # fmt: skip

from data_prep import brats, cases
from data_prep.formats import volumes
from noisyseg.data.dataset import load_dataset

SMALL = brats.Options(crop=24, min_pixels=4)
BAD_OPTIONS = [
    {"every": 0},
    {"every": -1},
    {"spacing": 0.0},
    {"spacing": -1.0},
    {"spacing": float("nan")},
    {"min_pixels": 0},
    {"crop": 0},
]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return brats_tree(tmp_path_factory.mktemp("brats"))


@pytest.mark.parametrize("year", BRATS_NAMES)
def test_every_year_gives_the_same_arrays(year, tmp_path):
    report = brats.prepare(brats_tree(tmp_path, year), tmp_path / "out", SMALL)
    data = load_dataset(report.path)
    assert not report.skipped and data.channels == ("flair", "t1", "t1ce", "t2")
    assert data.classes == brats.CLASSES and set(np.unique(data.truth)) == {0, 1, 2, 3}
    flair = brain(50)
    first = sorted(set(data.case_ids))[0]
    mine = np.flatnonzero(data.case_ids == first)
    z = int(data.image_ids[mine[0]].split("/z")[1])
    inside = flair != 0
    expected = np.where(inside, (flair - flair[inside].mean()) / flair[inside].std(), 0)[:, :, z]
    got = data.images[mine[0], 0].astype(float)  # rows are y, from the front
    np.testing.assert_allclose(got[:, 2:22], expected.T[::-1], atol=5e-3)
    truth = np.where(tumour(1) == 4, 3, tumour(1))[:, :, z]
    assert (data.truth[mine[0]][:, 2:22] == truth.T[::-1]).all()


def test_unpacked_files_and_the_misnamed_mask_of_2020(tmp_path):
    tree = brats_tree(tmp_path, 2020, suffix=".nii")
    seg = tree / "BraTS20_Training_003" / "BraTS20_Training_003_seg.nii"
    seg.rename(seg.with_name("W39_1998.09.19_Segm.nii"))
    report = brats.prepare(tree, tmp_path / "out", SMALL)
    assert not report.skipped
    assert len(set(load_dataset(report.path).case_ids)) == 4


def test_visits_of_a_patient_stay_together(tmp_path):
    tree = brats_tree(tmp_path, 2023)
    old = tree / "BraTS-GLI-00001-000"
    new = old.with_name("BraTS-GLI-00001-001")
    new.mkdir()
    for file in old.iterdir():
        (new / file.name.replace("-000-", "-001-")).write_bytes(file.read_bytes())
    data = load_dataset(brats.prepare(tree, tmp_path / "out", SMALL).path)
    mine = data.case_ids == "BraTS-GLI-00001"
    assert len({n.split("/")[0] for n in data.image_ids[mine]}) == 2
    assert len(set(data.split_of[mine])) == 1


def test_twice_gives_the_same_bytes(tree, tmp_path):
    a = brats.prepare(tree, tmp_path / "brats", SMALL).path
    b = brats.prepare(tree, tmp_path / "again" / "brats", SMALL).path
    assert folder_bytes(a) == folder_bytes(b)
    with pytest.raises(FileExistsError, match="--force"):
        brats.prepare(tree, a, SMALL)
    assert folder_bytes(brats.prepare(tree, a, SMALL, force=True).path) == folder_bytes(b)


def test_an_interrupted_run_reads_no_case_twice(tree, tmp_path, monkeypatch):
    read, seen = brats.read_case, []

    def counted(case, options):
        if len(seen) == 2:
            seen.append("stop")
            raise KeyboardInterrupt
        seen.append(case.name)
        return read(case, options)

    monkeypatch.setattr(brats, "read_case", counted)
    with pytest.raises(KeyboardInterrupt):
        brats.prepare(tree, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()
    seen.append("go on")
    whole = brats.prepare(tree, tmp_path / "out", SMALL).path
    names = [s for s in seen if s.startswith("BraTS")]
    assert len(names) == len(set(names)) == 4
    monkeypatch.setattr(brats, "read_case", read)
    other = brats.prepare(tree, tmp_path / "b" / "out", SMALL).path
    assert folder_bytes(whole) == folder_bytes(other)
    assert [p.name for p in tmp_path.glob(".*")] == []  # the cache is gone


def test_a_changed_file_is_read_again(tree, tmp_path, monkeypatch):
    mine = copied(tree, tmp_path)
    stop = brats.find_cases(mine, SMALL)[-1].name

    def interrupted(case, options):
        if case.name == stop:
            raise KeyboardInterrupt
        return read(case, options)

    read = brats.read_case
    monkeypatch.setattr(brats, "read_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        brats.prepare(mine, tmp_path / "out", SMALL)
    monkeypatch.setattr(brats, "read_case", read)
    seg = brats.find_cases(mine, SMALL)[0].files[-1]
    rewrite(seg, lambda a: np.where(a == 2, 0, a).astype(np.uint8))
    os.utime(seg, (1, 1))
    data = load_dataset(brats.prepare(mine, tmp_path / "out", SMALL).path)
    first = data.case_ids == sorted(set(data.case_ids))[0]
    assert 2 not in np.unique(np.asarray(data.truth)[first])


@pytest.mark.parametrize("kind", [*IMAGE_DAMAGE, *MASK_DAMAGE])
def test_damage_leaves_out_one_case_and_says_why(kind, tree, tmp_path):
    mine = copied(tree, tmp_path)
    damage, message = (IMAGE_DAMAGE | MASK_DAMAGE)[kind]
    name = "BraTS20_Training_002"
    what = "t1ce" if kind in IMAGE_DAMAGE else "seg"
    damage(mine / name / f"{name}_{what}.nii.gz")
    report = brats.prepare(mine, tmp_path / "out", SMALL)
    assert list(report.skipped) == [name]
    assert name in report.skipped[name]  # the file is named
    pytest.raises(cases.Unusable, brats.prepare, mine, tmp_path / "strict", SMALL, strict=True)
    assert re.search(message, report.skipped[name]), report.skipped[name]
    sound = brats.prepare(tree, tmp_path / "sound", SMALL)
    kept, whole = load_dataset(report.path), load_dataset(sound.path)
    rows = np.isin(whole.image_ids, kept.image_ids)
    assert name not in set(kept.case_ids) and len(kept) == rows.sum()
    assert (np.asarray(kept.images) == np.asarray(whole.images)[rows]).all()
    assert (np.asarray(kept.truth) == np.asarray(whole.truth)[rows]).all()


def test_labels_of_two_years_in_one_mask(tree, tmp_path):
    mine = copied(tree, tmp_path)
    seg = mine / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii.gz"
    rewrite(seg, lambda a: np.where(np.indices(a.shape)[0] == 10, np.where(a == 4, 3, a), a))
    report = brats.prepare(mine, tmp_path / "out", SMALL)
    assert [*report.skipped] == ["BraTS20_Training_001"]
    assert f"{seg}: holds label 3; data until 2021 have 0, 1, 2, 4" in str(report)


def test_a_resection_cavity_is_no_enhancing_tumour(tmp_path):
    """Label 4 is that since 2024, in data with the names of 2023."""
    tree = brats_tree(tmp_path, 2023)
    seg = tree / "BraTS-GLI-00002-000" / "BraTS-GLI-00002-000-seg.nii.gz"
    rewrite(seg, lambda a: np.where(a == 3, 4, a).astype(np.uint8))
    report = brats.prepare(tree, tmp_path / "out", SMALL)
    assert [*report.skipped] == ["BraTS-GLI-00002-000"]
    assert f"{seg}: holds label 4" in str(report) and "leave this case out" in str(report)
    assert set(load_dataset(report.path).case_ids) == {
        f"BraTS-GLI-0000{n}" for n in (1, 3, 4)
    }  # fmt: skip
    with pytest.raises(cases.Unusable, match="resection cavity"):
        brats.prepare(tree, tmp_path / "strict", SMALL, strict=True)


@pytest.mark.parametrize(("one", "other"), [(2018, 2019), (2019, 2020), (2021, 2023)])
def test_trees_of_two_years_are_not_mixed(one, other, tmp_path):
    for year in (one, other):
        brats_tree(tmp_path, year, cases=1)
    examples = sorted(BRATS_NAMES[year][1].format(1) for year in (one, other))
    with pytest.raises(ValueError, match=f"of 2 years.*{examples[0]}, {examples[1]}.*one year"):
        brats.prepare(tmp_path, tmp_path / "out", SMALL)


def test_grades_in_two_folders_are_one_year(tmp_path):
    tree = brats_tree(tmp_path, 2019)
    high = tree.with_name("HGG") / "BraTS19_CBICA_A1_1"
    high.parent.mkdir()
    (tree / high.name).rename(high)
    assert len(brats.find_cases(tree.parent)) == 4


def test_linked_cases_are_cases(tree, tmp_path):
    mine = copied(tree, tmp_path / "a")
    linked = mine / "BraTS20_Training_002"
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    (mine / "BraTS20_Training_003" / "up").symlink_to(mine)
    a = brats.prepare(mine, tmp_path / "a" / "brats", SMALL)
    b = brats.prepare(tree, tmp_path / "b" / "brats", SMALL)
    assert not a.skipped and folder_bytes(a.path) == folder_bytes(b.path)


def test_trees_that_are_none(tmp_path, tree):
    with pytest.raises(FileNotFoundError, match="is no folder"):
        brats.prepare(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no case"):
        brats.prepare(tmp_path / "empty", tmp_path / "out")
    mine = copied(tree, tmp_path)
    copied(mine / "BraTS20_Training_001", mine / "again")
    with pytest.raises(ValueError, match="same case twice"):
        brats.prepare(mine, tmp_path / "out")
    for file in tree.rglob("*_seg.nii.gz"):
        assert file.exists()
    with pytest.raises(ValueError, match="no usable case among 4"):
        brats.prepare(tree, tmp_path / "out", SMALL._replace(min_pixels=10_000))
    assert not (tmp_path / "out").exists()


def test_options_change_what_they_say(tree, tmp_path):
    def made(**change):
        return load_dataset(
            brats.prepare(tree, tmp_path / str(len(seen)), SMALL._replace(**change)).path
        )

    seen = []
    whole = made()
    seen.append(1)
    every = made(every=2)
    assert set(every.image_ids) < set(whole.image_ids)
    seen.append(1)
    classes = made(all_classes=True)
    assert all(set(np.unique(t)) == {0, 1, 2, 3} for t in np.asarray(classes.truth))
    seen.append(1)
    coarse = made(spacing=2.0)
    assert coarse.meta["spacing_mm"] == [2.0, 2.0] and len(coarse) < len(whole)
    seen.append(1)
    two = made(modalities=("t1", "t2"))
    np.testing.assert_array_equal(two.images[:, 0], whole.images[:, 1])
    assert SHAPE[0] < 24  # so the crop above pads


def test_the_command_line(tree, tmp_path, capsys):
    out = tmp_path / "out"
    brats.main(["--folder", str(tree), "--out", str(out), "--crop", "24", "--min-pixels", "4"])
    assert "images" in capsys.readouterr().out and load_dataset(out).origin == "real"
    with pytest.raises(SystemExit, match="error: .*--force"):
        brats.main(["--folder", str(tree), "--out", str(out)])


def test_memory_holds_one_case_at_a_time(tree, tmp_path, monkeypatch):
    """Volumes of a case are gone before the next case is read."""
    alive, most = [], []
    read = volumes.read_volume

    class Tracked(np.ndarray):
        pass

    def tracking(file):
        volume = read(file)
        array = volume.array.view(Tracked)
        alive.append(weakref.ref(array))
        gc.collect()
        most.append(sum(ref() is not None for ref in alive))
        return volume._replace(array=array)

    monkeypatch.setattr(volumes, "read_volume", tracking)
    brats.prepare(tree, tmp_path / "out", SMALL)
    assert len(most) == 20 and max(most) <= 2 * 5


@pytest.mark.parametrize("change", BAD_OPTIONS, ids=str)
def test_options_that_make_no_sense_are_named(change, tree, tmp_path):
    name = next(iter(change)).replace("_", "-")
    with pytest.raises(ValueError, match=f"--{name} is .*; give a number above 0"):
        brats.prepare(tree, tmp_path / "out", SMALL._replace(**change))
    assert not [*tmp_path.iterdir()]


def test_a_slice_counts_by_what_the_crop_leaves_of_it(tree, tmp_path):
    mine = copied(tree, tmp_path)
    for file in mine.rglob("*_seg.nii.gz"):
        rewrite(file, at_the_edge)
    with pytest.raises(ValueError, match="no slice has"):
        brats.prepare(mine, tmp_path / "out", SMALL._replace(crop=10, min_pixels=1))
    whole = load_dataset(brats.prepare(mine, tmp_path / "out", SMALL._replace(min_pixels=1)).path)
    assert len(whole) and np.asarray(whole.truth).any((1, 2)).all()


def test_what_an_archive_program_leaves_behind_is_no_case(tree, tmp_path):
    """Tables, a licence and the hidden halves of macOS lie in many copies of the archive."""
    mine = copied(tree, tmp_path)
    for name in ("name_mapping.csv", "._BraTS20_Training_001_flair.nii.gz", ".DS_Store"):
        (mine / name).write_bytes(b"\0")
        (mine / "BraTS20_Training_001" / name).write_bytes(b"\0")
    assert [c.name for c in brats.find_cases(mine)] == [c.name for c in brats.find_cases(tree)]
