"""`python -m data_prep`: makes what is missing, leaves alone what is there, clears up."""

from dataclasses import replace

import pytest
from trees import brats_tree, ms_tree, people_tree

from data_prep import __main__ as everything
from data_prep import brats, ms_lesions
from data_prep.lidc import contours
from noisyseg.data.dataset import load_dataset


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The same steps on trees of a few voxels; digits are left to their own tests."""
    few = contours.Settings(nodules=6, slices_per_nodule=1, reference="consensus")
    monkeypatch.setenv("NOISYSEG_DATA", str(tmp_path))
    monkeypatch.setattr(everything.mnist, "main", lambda arguments: None)
    monkeypatch.setattr(everything.coloured, "main", lambda arguments: None)
    monkeypatch.setattr(everything, "MS", ms_lesions.Options(crop=(24, 28)))
    monkeypatch.setattr(everything, "BRATS", brats.Options(crop=24, min_pixels=4))
    monkeypatch.setattr(everything, "LIDC", few)
    monkeypatch.setattr(everything, "VARIANTS", {"lidc_reader": replace(few, render="reader")})
    monkeypatch.setattr(everything.trees, "make_ms", lambda tree, voxel_mm: ms_tree(tree))
    monkeypatch.setattr(everything.trees, "make_brats", lambda tree, voxel_mm: brats_tree(tree))
    monkeypatch.setattr(everything.people, "default_folder", lambda: tmp_path / "nobody")
    return tmp_path


def test_everything_is_made_once(small, capsys):
    everything.main([])
    made = {p.name: (p / "meta.json").stat().st_mtime_ns for p in small.iterdir()}
    assert set(made) == {"ms", "brats", "lidc", "lidc_reader"}  # and no tree is left behind
    assert {load_dataset(name).origin for name in made} == {"stand-in"}
    (skipped,) = [line for line in capsys.readouterr().out.splitlines() if "people" in line]
    assert skipped.startswith("people_crowd, people_persons: skipped")
    everything.main([])
    assert made == {p.name: (p / "meta.json").stat().st_mtime_ns for p in small.iterdir()}
    assert capsys.readouterr().out.count("already there, left alone") == 4


def test_your_own_archive_is_not_replaced(small):
    ms_lesions.prepare(ms_tree(small / "mine"), small / "ms", ms_lesions.Options(crop=(20, 20)))
    everything.main([])
    assert load_dataset("ms").origin == "real" and load_dataset("ms").space == (20, 20)


def test_people_are_prepared_where_their_images_are(small, monkeypatch):
    tree = people_tree(small / "pictures")
    monkeypatch.setattr(everything.people, "default_folder", lambda: tree)
    everything.main([])
    assert {load_dataset(f"people_{who}").origin for who in ("crowd", "persons")} == {"real"}


def test_an_error_is_one_line(small, monkeypatch):
    monkeypatch.setattr(everything.trees, "make_ms", lambda tree, voxel_mm: tree.mkdir())
    with pytest.raises(SystemExit, match="error: .*holds no scan|error: .*no folder"):
        everything.main([])
