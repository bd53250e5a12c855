"""Stand-in trees: official names and grids, the same bytes whatever the order, refusals.

Oracle: nibabel for grids and for where the template's brain is.
"""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from data_prep.standins import anatomy, trees
from data_prep.standins.__main__ import main
from data_prep.standins.lesions import ms_grid
from data_prep.standins.trees import make_brats, make_ms
from data_prep.standins.tumours import brats_grid

VOXEL = 4.0  # the trees of this file


def read(file):
    return np.asarray(nibabel.load(file).dataobj)


def contents(folder):
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(Path(folder).rglob("*"))
        if file.is_file()
    }


def dice(first, second):
    return 2 * np.sum(first & second) / (first.sum() + second.sum())


@pytest.fixture(scope="module")
def ms_tree(tmp_path_factory):
    return make_ms(tmp_path_factory.mktemp("ms"), 2, [2, 1], voxel_mm=VOXEL).tree


@pytest.fixture(scope="module")
def brats_tree(tmp_path_factory):
    return make_brats(tmp_path_factory.mktemp("brats"), 3, voxel_mm=VOXEL).tree


# --- layout ---------------------------------------------------------------------------------


def test_ms_names_are_the_official_ones(ms_tree):
    expected = {
        f"training{p}/preprocessed/training{p}_{v}_{m}_pp.nii"
        for p, v in (("01", "01"), ("01", "02"), ("02", "01"))
        for m in ("flair", "mprage", "pd", "t2")
    } | {
        f"training{p}/masks/training{p}_{v}_mask{r}.nii"
        for p, v in (("01", "01"), ("01", "02"), ("02", "01"))
        for r in (1, 2)
    }
    assert set(contents(ms_tree)) == expected
    assert ms_tree.name == "training"


def test_brats_names_are_the_official_ones(brats_tree):
    expected = {
        f"BraTS20_Training_00{n}/BraTS20_Training_00{n}_{part}.nii.gz"
        for n in (1, 2, 3)
        for part in ("flair", "t1", "t1ce", "t2", "seg")
    } | {"name_mapping.csv"}
    assert set(contents(brats_tree)) == expected
    assert brats_tree.name == "MICCAI_BraTS2020_TrainingData"


def test_name_mapping_gives_the_grade_of_every_case(brats_tree):
    header, *lines = (brats_tree / "name_mapping.csv").read_text().splitlines()
    assert header.split(",")[0] == "Grade" and header.split(",")[-1] == "BraTS_2020_subject_ID"
    for case, line in enumerate(lines, start=1):
        name = f"BraTS20_Training_{case:03d}"
        enhances = (read(brats_tree / name / f"{name}_seg.nii.gz") == 4).any()
        assert line.split(",")[0] == ("HGG" if enhances else "LGG")
        assert line.endswith(f",{name}")
    assert len(lines) == 3


def test_default_visits_are_those_of_the_official_training_set():
    assert trees._visits(5, None) == [4, 4, 5, 4, 4]
    assert sum(trees._visits(5, None)) == 21
    assert trees._visits(3, [2]) == [2, 2, 2]


@pytest.mark.parametrize(
    ("grid", "shape", "codes", "first"),
    [
        (ms_grid, (181, 217, 181), ("R", "A", "S"), (-90, -126, -72)),
        (brats_grid, (240, 240, 155), ("L", "P", "S"), (0, 239, 0)),
    ],
)
def test_official_grid_at_1_mm_and_the_same_edge_when_coarser(grid, shape, codes, first):
    fine = grid()
    assert fine.shape == shape and nibabel.aff2axcodes(fine.affine) == codes
    np.testing.assert_allclose(fine.affine[:3, 3], first)
    for voxel in (2.0, 4.0):
        coarse = grid(voxel)
        np.testing.assert_allclose(nibabel.affines.voxel_sizes(coarse.affine), voxel)
        assert coarse.shape == tuple(-(-n // int(voxel)) for n in shape)
        corners = [nibabel.affines.apply_affine(g.affine, [-0.5] * 3) for g in (fine, coarse)]
        np.testing.assert_allclose(*corners)


def test_files_carry_the_grid_and_say_what_they_are(ms_tree, brats_tree):
    for tree, grid in ((ms_tree, ms_grid(VOXEL)), (brats_tree, brats_grid(VOXEL))):
        for file in tree.rglob("*.nii*"):
            image = nibabel.load(file)
            assert image.shape == grid.shape
            np.testing.assert_allclose(image.affine, grid.affine)
            assert image.header["descrip"].tobytes().startswith(b"stand-in")
            is_mask = "mask" in file.name or "seg" in file.name
            assert image.get_data_dtype() == (np.uint8 if is_mask else np.int16)
        assert "not data of patients" in (tree.parent / "stand-in.json").read_text()


def test_brain_of_ms_is_where_the_template_has_it(ms_tree):
    file = Path(anatomy.find_spec("nilearn").submodule_search_locations[0])
    t1 = nibabel.load(file / "datasets" / "data" / anatomy.MAPS.format("t1"))
    middle = ndimage.center_of_mass(np.asarray(t1.dataobj) > 0)
    expected = nibabel.affines.apply_affine(t1.affine, middle)
    image = nibabel.load(ms_tree / "training01/preprocessed/training01_01_t2_pp.nii")
    found = ndimage.center_of_mass(np.asarray(image.dataobj) > 0)
    world = nibabel.affines.apply_affine(image.affine, found)
    np.testing.assert_allclose(world, expected, atol=6)


def test_brain_of_brats_is_whole_within_the_field_of_view(brats_tree):
    image = read(brats_tree / "BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz") > 0
    assert not image[[0, -1]].any() and not image[:, [0, -1]].any()
    assert image[:, :, [0, -1]].mean() < 0.02
    assert 1.3e6 < image.sum() * VOXEL**3 < 2.1e6


def test_background_is_zero_and_masks_are_inside_the_brain(ms_tree, brats_tree):
    for flair in [*ms_tree.rglob("*_flair_pp.nii"), *brats_tree.rglob("*_flair.nii.gz")]:
        others = [*flair.parent.glob(flair.name.replace("flair", "*"))]
        brains = [read(file) > 0 for file in others if "seg" not in file.name]
        assert len(brains) == 4 and all((b == brains[0]).all() for b in brains)
        assert 0.1 < brains[0].mean() < 0.5
        stem = flair.name.split("_flair")[0]
        for mask in flair.parents[1].rglob(f"{stem}_mask?.nii"):
            assert not (read(mask) > 0)[~brains[0]].any()
        for mask in flair.parent.glob(f"{stem}_seg.nii.gz"):
            assert not (read(mask) > 0)[~brains[0]].any()


def test_visits_share_the_head_and_most_lesions(ms_tree):
    flairs, masks = (
        [read(ms_tree / f"training01/{part.format(visit)}") for visit in ("01", "02")]
        for part in (
            "preprocessed/training01_{}_flair_pp.nii",
            "masks/training01_{}_mask1.nii",
        )
    )
    assert ((flairs[0] > 0) == (flairs[1] > 0)).all() and (flairs[0] != flairs[1]).any()
    assert 0.5 < dice(masks[0] > 0, masks[1] > 0) < 1
    other = read(ms_tree / "training02/masks/training02_01_mask1.nii") > 0
    assert dice(masks[0] > 0, other) < 0.4


# --- the same bytes, resuming, refusing -----------------------------------------------------


def test_a_subset_or_another_order_gives_the_same_bytes(ms_tree, tmp_path):
    make_ms(tmp_path, 1, [1], voxel_mm=VOXEL)  # first one visit of one patient, then the rest
    again = make_ms(tmp_path, 2, [2, 1], voxel_mm=VOXEL)
    assert (again.made, again.kept) == (2, 1)
    assert contents(again.tree) == contents(ms_tree)


def test_brats_twice_gives_the_same_bytes_and_another_seed_others(brats_tree, tmp_path):
    make_brats(tmp_path / "a", 1, voxel_mm=VOXEL)
    again = make_brats(tmp_path / "a", 3, voxel_mm=VOXEL)
    assert (again.made, again.kept) == (2, 1)
    assert contents(again.tree) == contents(brats_tree)
    other = contents(make_brats(tmp_path / "b", 1, seed=1, voxel_mm=VOXEL).tree)
    same = contents(brats_tree)
    assert all(other[name] != same[name] for name in other if name.endswith(".gz"))


def test_archives_carry_no_time(brats_tree):
    for file in brats_tree.rglob("*.nii.gz"):
        assert file.read_bytes()[4:8] == bytes(4)  # RFC 1952: MTIME


def test_gzip_gives_the_same_volumes(ms_tree, tmp_path):
    tree = make_ms(tmp_path, 1, [1], voxel_mm=VOXEL, compress=True).tree
    files = [*tree.rglob("*.nii.gz")]
    assert len(files) == 6
    for file in files:
        plain = ms_tree / file.relative_to(tree).with_suffix("")
        np.testing.assert_array_equal(read(file), read(plain))


def test_complete_cases_are_left_alone_and_incomplete_ones_made_again(tmp_path):
    tree = make_ms(tmp_path, 1, [2], voxel_mm=8).tree
    before = contents(tree)
    times = {file: file.stat().st_mtime_ns for file in tree.rglob("*.nii")}
    gone = tree / "training01/masks/training01_02_mask2.nii"
    gone.unlink()
    assert make_ms(tmp_path, 1, [2], voxel_mm=8)[1:] == (1, 1)
    assert contents(tree) == before
    touched = {file for file, time in times.items() if file.stat().st_mtime_ns != time}
    assert gone in touched and all("_02_" in file.name for file in touched)


def test_an_interrupted_case_leaves_no_file(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trees, "make_case", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_brats(tmp_path, 1, voxel_mm=8)
    assert [f.name for f in tmp_path.rglob("*") if f.is_file()] == ["stand-in.json"]
    assert make_brats(tmp_path, 1, voxel_mm=8).made == 1
    assert not [*tmp_path.glob(".*")]


def test_interrupted_while_writing_leaves_no_part_of_a_case(tmp_path, monkeypatch):
    written, plain = [], trees._nifti

    def breaks(*arguments):
        written.append(1)
        if len(written) == 4:
            raise OSError("disk full")
        return plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trees, "_nifti", breaks)
        with pytest.raises(OSError, match="disk full"):
            make_ms(tmp_path, 1, [1], voxel_mm=8)
    assert not [*tmp_path.rglob("*.nii")] and not [*tmp_path.glob(".*")]


def test_other_settings_need_force(tmp_path):
    make_ms(tmp_path, 1, [2], voxel_mm=8)
    with pytest.raises(FileExistsError, match=r"seed.*0, 3.*--force"):
        make_ms(tmp_path, 1, [1], seed=3, voxel_mm=8)
    again = make_ms(tmp_path, 1, [1], seed=3, voxel_mm=8, force=True)
    assert again.made == 1 and len([*again.tree.rglob("*.nii")]) == 6
    assert json.loads((tmp_path / "stand-in.json").read_text())["seed"] == 3


@pytest.mark.parametrize(
    ("make", "many", "few", "message"),
    [
        (make_ms, (2, [2, 1]), (1, [2]), "3 cases, 2 are asked for.* training02_01: .*--force"),
        (make_ms, (1, [2]), (1, [1]), "2 cases, 1 are asked for.* training01_02: "),
        (make_brats, (2,), (1,), "2 cases, 1 are asked for.* BraTS20_Training_002: "),
    ],
)
def test_a_tree_does_not_shrink_unnoticed(make, many, few, message, tmp_path):
    tree = make(tmp_path, *many, voxel_mm=8).tree
    before = contents(tmp_path)
    with pytest.raises(FileExistsError, match=message):
        make(tmp_path, *few, voxel_mm=8)
    assert contents(tmp_path) == before
    assert make(tmp_path, *few, voxel_mm=8, force=True).kept == 0
    assert set(contents(tree)) < {name.partition("/")[2] for name in before}


def test_trees_made_before_sizes_were_checked_are_known(tmp_path):
    old = {"kind": "ms", "seed": 0, "voxel_mm": 8.0, "compress": False, "version": 1}
    old["note"] = "made-up lesions in the ICBM 152 average head; not data of patients"
    record = tmp_path / "stand-in.json"
    record.write_text(json.dumps(old, indent=1) + "\n")
    before = record.read_bytes()
    assert make_ms(tmp_path, 1, [1], voxel_mm=8).made == 1
    assert record.read_bytes() == before


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_other_files_is_never_touched(tmp_path, force):
    file = tmp_path / "training" / "training01_01_mask1.nii"
    file.parent.mkdir()
    file.write_text("real")
    with pytest.raises(FileExistsError, match=r"no stand-in.json.*another --out"):
        make_ms(tmp_path, 1, [1], voxel_mm=8, force=force)
    assert contents(tmp_path) == {"training/training01_01_mask1.nii": b"real"}


@pytest.mark.parametrize("force", [False, True])
def test_ms_and_brats_do_not_share_a_folder(tmp_path, force):
    make_ms(tmp_path, 1, [1], voxel_mm=8)
    with pytest.raises(FileExistsError, match="holds ms stand-ins"):
        make_brats(tmp_path, 1, voxel_mm=8, force=force)


def test_a_file_as_out_and_a_damaged_record_are_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(FileExistsError, match="is a file"):
        make_brats(file, 1)
    (tmp_path / "stand-in.json").write_text("{")
    with pytest.raises(ValueError, match=r"stand-in.json is damaged"):
        make_brats(tmp_path, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patients": 0}, "patients is 0"),
        ({"patients": 100}, "patients is 100"),
        ({"patients": 3, "visits": [1, 2]}, r"visits is \[1, 2\] for 3 patients"),
        ({"visits": [0]}, "visits is"),
        ({"visits": []}, r"visits is \[\]"),
        ({"seed": -1}, "seed is -1"),
        ({"voxel_mm": 0}, "voxel is 0 mm; give 1 to 8"),
        ({"voxel_mm": 0.9}, "voxel is 0.9 mm"),
        ({"voxel_mm": float("nan")}, "voxel is nan mm"),
    ],
)
def test_bad_numbers_for_ms_are_named_and_nothing_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_ms(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"cases": 0}, "cases is 0"), ({"cases": 1000}, "1 to 999"), ({"voxel_mm": 9}, "voxel is 9")],
)
def test_bad_numbers_for_brats_are_named_and_nothing_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_brats(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_without_the_template_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(anatomy, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install nilearn"):
        anatomy.load_template.__wrapped__()


# --- command line ---------------------------------------------------------------------------


def test_command_line_makes_a_tree_and_is_quiet_when_piped(tmp_path, capfd):
    main(["ms", "--out", str(tmp_path), "--patients", "1", "--visits", "1", "--voxel", "8"])
    out, err = capfd.readouterr()
    assert f"{tmp_path / 'training'}: 1 cases made, 0 already there" in out and err == ""
    main(["ms", "--out", str(tmp_path), "--patients", "1", "--visits", "1", "--voxel", "8"])
    assert "0 cases made, 1 already there" in capfd.readouterr().out


def test_command_line_ends_data_errors_with_one_line(tmp_path):
    with pytest.raises(SystemExit, match="^error: cases is 0; give 1 to 999$"):
        main(["brats", "--out", str(tmp_path), "--cases", "0"])


@pytest.mark.parametrize("arguments", [[], ["ms"], ["lidc", "--out", "x"]])
def test_command_line_refuses_what_it_does_not_know(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "usage" in capsys.readouterr().err
