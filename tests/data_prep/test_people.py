"""Real people: who is an annotator, who is the truth, and that arrays are what the files say.

The images are no part of the project. What needs them is skipped where they are absent; the
rest runs on a tree of the same layout.
"""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from trees import CELLS, people_tree

from data_prep import people
from noisyseg.data.dataset import load_dataset

REAL = people.default_folder()
ABSENT = not all((REAL / source.folder).is_dir() for source in people.SOURCES)
COUNTS = {"people_crowd": 151, "people_persons": 116}
needs_images = pytest.mark.skipif(
    ABSENT, reason="the images of the people are not in shared/real beside the checkout"
)
each = pytest.mark.parametrize("source", people.SOURCES, ids=lambda source: source.name)


def padded(array, size, fill):
    """`array` about the middle of a picture of `size`, written by hand."""
    result = np.full(size, fill, array.dtype)
    top, left = ((size[k] - array.shape[k]) // 2 for k in (0, 1))
    result[top : top + array.shape[0], left : left + array.shape[1]] = array
    return result


def read(file):
    return np.asarray(Image.open(file).convert("L"))


def assert_arrays_are_the_files(data, folder, source, names):
    """Images, labels and truth of the pictures `names`, against a literal reading of the PNGs."""
    rows = {image_id.split("/")[0]: row for row, image_id in enumerate(data.image_ids)}
    for name in names:
        row, file = rows[name], f"{name}.png"
        picture = read(folder / source.folder / "images" / file).astype(np.float64)
        picture = (picture - picture.mean()) / picture.std()
        expected = padded(picture, data.space, picture.min())
        np.testing.assert_allclose(data.images[row, 0], expected, atol=1e-6)
        for k, person in enumerate(source.annotators):
            mask = read(folder / source.folder / person / file) > 127
            np.testing.assert_array_equal(data.labels[row, k], padded(mask, data.space, False))
        mask = read(folder / source.folder / source.truth / file) > 127
        np.testing.assert_array_equal(data.truth[row], padded(mask, data.space, False))


def assert_the_people_are_right(data, source):
    assert data.name == source.name and data.origin == "real"
    assert data.annotators == source.annotators
    assert source.truth not in data.annotators and "person2" not in data.annotators
    assert data.has_label.all() and data.truth is not None
    assert "Boston University" in data.meta["licence"] and "WACV 2015" in data.meta["licence"]


def assert_cells_stay_in_one_split(data, cells):
    """`cells`: image name -> the cell it shows."""
    stems = [image_id.split("/")[0] for image_id in data.image_ids]
    assert list(data.case_ids) == [cells[stem] for stem in stems]
    splits = pd.DataFrame({"cell": data.case_ids, "split": data.split_of})
    assert splits.groupby("cell").split.nunique().max() == 1
    assert set(splits.split) == {"train", "val", "test"}


@each
def test_a_small_tree_becomes_its_arrays(tmp_path, source):
    tree = people_tree(tmp_path / "real")
    data = load_dataset(people.prepare_source(tree, source, tmp_path / "out").report.path)
    assert_the_people_are_right(data, source)
    names = [f"p{n}" for n in range(len(CELLS))]
    assert_arrays_are_the_files(data, tree, source, names)
    assert_cells_stay_in_one_split(data, dict(zip(names, CELLS, strict=True)))


def test_where_the_images_are_absent_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(people, "default_folder", lambda: tmp_path / "real")
    people.main(["--out", str(tmp_path / "data")])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("people_crowd, people_persons: skipped") and "real" in line
    assert not (tmp_path / "data").exists()


def test_one_of_two_folders_may_be_absent(tmp_path, monkeypatch, capsys):
    tree = people_tree(tmp_path / "real")
    (tree / "phase_crowd").rename(tree / "elsewhere")
    monkeypatch.setattr(people, "default_folder", lambda: tree)
    people.main(["--out", str(tmp_path / "data")])
    assert capsys.readouterr().out.startswith("people_crowd: skipped")
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [
        "people_persons",
        "people_persons.manifest.csv",
    ]


def test_what_is_there_is_left_alone(tmp_path, capsys):
    arguments = ["--folder", str(people_tree(tmp_path / "real")), "--out", str(tmp_path / "data")]
    people.main(arguments)
    made = {p: p.stat().st_mtime_ns for p in (tmp_path / "data").rglob("*")}
    capsys.readouterr()
    people.main(arguments)
    assert capsys.readouterr().out.count("already there, left alone") == 2
    assert made == {p: p.stat().st_mtime_ns for p in (tmp_path / "data").rglob("*")}
    people.main([*arguments, "--force"])
    assert "train" in capsys.readouterr().out


def test_a_folder_that_was_named_must_be_there(tmp_path):
    with pytest.raises(SystemExit, match="error: .*nowhere.*does not exist"):
        people.main(["--folder", str(tmp_path / "nowhere"), "--out", str(tmp_path / "data")])


def test_a_damaged_mask_is_named_and_nothing_is_written(tmp_path):
    tree = people_tree(tmp_path / "real")
    (tree / "phase_persons" / "person3" / "p4.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="person3.*p4"):
        people.prepare_source(tree, people.SOURCES[1], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@needs_images
@each
def test_the_real_people_are_what_their_files_say(tmp_path, source):
    data = load_dataset(people.prepare_source(REAL, source, tmp_path / "out").report.path)
    assert len(data) == COUNTS[source.name] and data.space == (64, 64)
    assert_the_people_are_right(data, source)
    table = pd.read_csv(REAL / f"{source.folder}_cases.csv", dtype=str)
    assert_arrays_are_the_files(data, REAL, source, [table.image_id[n] for n in (0, 70, 115)])
    cells = dict(zip(table.image_id, table.case_id, strict=True))
    assert len(set(cells.values())) < len(cells)  # some cells are on many images
    assert_cells_stay_in_one_split(data, cells)
