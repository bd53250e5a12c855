"""MNIST in colours: truth, pictures, what each annotator confuses, and no silent way out."""

import hashlib
import json
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from data_prep import coloured, mnist
from noisyseg import load_dataset, metrics
from noisyseg.data import files
from noisyseg.data.folder import seal

SIZES = {"train": 120, "val": 60, "test": 60}
README = Path(mnist.__file__).parent / "README.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return coloured.prepare(tmp_path_factory.mktemp("data") / "coloured", SIZES)


@pytest.fixture(scope="module")
def prepared(folder):
    return load_dataset(folder)


@pytest.fixture(scope="module")
def digits(prepared):
    """The raw digits (N, 28, 28) of the folder, found by name."""
    raw = mnist.read_embedded()
    return np.stack([raw[i.split("-")[0]][int(i.split("-")[1])] for i in prepared.image_ids])


@pytest.fixture(scope="module")
def matrices(prepared):
    """p(reported | true) of each annotator, (5, 8, 8), and all labels' truth."""
    labels, truth = torch.tensor(prepared.read_labels()), torch.tensor(prepared.read_truth())
    counts = metrics.label_counts(labels, truth, 8).sum(0)
    return dict(zip(prepared.annotators, metrics.normalise_columns(counts).numpy(), strict=True))


def test_meta_says_what_it_is(prepared):
    assert prepared.origin == "simulated" and prepared.meta["licence"] == mnist.LICENCE
    assert prepared.classes == ("background", *coloured.COLOURS) and prepared.n_classes == 8
    assert prepared.annotators == ("good", "over", "under", "swap", "wrong")
    everything = np.concatenate([*mnist.read_embedded().values()])
    checksum = hashlib.sha256(everything.tobytes()).hexdigest()
    assert prepared.meta["sources"] == [{"name": "embedded", "checksum": f"sha256:{checksum}"}]


def test_splits_are_those_of_mnist(prepared):
    names = [f"train-{i:05d}" for i in range(10_000)] + [f"test-{i:05d}" for i in range(2_000)]
    split = np.array(mnist.splits_of(10_000, 2_000))
    for name, size in SIZES.items():
        expected = [names[row] for row in np.flatnonzero(split == name)[:size]]
        assert prepared.split(name).image_ids.tolist() == expected


def test_every_class_occurs_in_every_split(prepared):
    for name in SIZES:
        assert set(np.unique(prepared.split(name).read_truth())) == set(range(8))


def test_truth_and_picture_against_a_literal_loop(prepared, digits):
    truth, rgb = prepared.read_truth(), [*coloured.COLOURS.values()]
    painted, _ = coloured.paint(digits[:5], prepared.image_ids[:5].tolist())
    for n in range(5):
        for i in range(28):
            for j in range(28):
                intensity, colour = digits[n, i, j] / 255, truth[n, i, j]
                assert (intensity > 0.5) == (colour > 0)
                if colour > 0:
                    expected = [intensity * c for c in rgb[colour - 1]]
                    assert painted[n, :, i, j] == pytest.approx(expected, abs=0.5)
                if intensity == 0:
                    assert not painted[n, :, i, j].any()


def test_digits_have_two_or_three_colours_of_equal_shares(prepared):
    counts = [np.bincount(mask[mask > 0]) for mask in prepared.read_truth()]
    sizes = [count[count > 0] for count in counts]
    assert {len(size) for size in sizes} == {2, 3}
    assert all(size.max() - size.min() <= 2 for size in sizes)


def test_colours_are_cut_by_straight_lines(prepared):
    """Any two colours of a digit lie on either side of a line: a linear program finds one."""
    for mask in prepared.read_truth()[:40]:
        for k, m in combinations(np.unique(mask[mask > 0]), 2):
            points = np.concatenate([np.argwhere(mask == k), -np.argwhere(mask == m)])
            ones = np.repeat([1, -1], [(mask == k).sum(), (mask == m).sum()])
            rows = np.c_[points, ones]  # rows @ (normal, offset) must be 1 or more
            found = linprog(np.zeros(3), -rows, -np.ones(len(rows)), bounds=(None, None))
            assert found.status == 0, (k, m)


def test_noise_is_that_of_mnist_on_each_channel(prepared, digits):
    ids = prepared.image_ids[:40].tolist()
    painted, _ = coloured.paint(digits[:40], ids)
    blank = (painted == 0) & (digits[:40, None] == 0)
    channels = [prepared.images[:40, c][blank[:, c]].astype(float) for c in range(3)]
    plain = mnist.noisy(digits[:40], ids)[:, 0][digits[:40] == 0].astype(float)
    for channel in channels:
        assert channel.mean() == pytest.approx(plain.mean(), abs=0.01)
        assert channel.std() == pytest.approx(plain.std(), abs=0.01)
    assert abs(np.corrcoef(channels)[0, 1:]).max() < 0.03  # each has noise of its own
    assert prepared.images.dtype == np.float16 and prepared.images.shape[1:] == (3, 28, 28)


def test_look_alikes_are_each_others_nearest_colour():
    rgb = np.array([*coloured.COLOURS.values()], float)
    distance = np.linalg.norm(rgb[:, None] - rgb, axis=2) + 1e3 * np.eye(7)
    nearest = 1 + distance.argmin(1)
    for a, b in coloured.LOOK_ALIKE:
        assert (nearest[a - 1], nearest[b - 1]) == (b, a)
    pairs = [distance[a - 1, b - 1] for a, b in coloured.LOOK_ALIKE]
    assert max(pairs) < distance[6].min(), "yellow must be farther from all than they are"


def test_good_writes_the_truth_and_swap_confuses_exactly_the_pairs(matrices):
    assert (matrices["good"] == np.eye(8)).all()
    assert (matrices["swap"] == np.eye(8)[[0, 2, 1, 4, 3, 6, 5, 7]]).all()


def test_swap_against_a_literal_loop(prepared):
    partner = dict(coloured.LOOK_ALIKE) | {b: a for a, b in coloured.LOOK_ALIKE}
    truth, swapped = prepared.read_truth()[:5], prepared.read_labels()[:5, 3]
    for true, written in zip(truth.ravel(), swapped.ravel(), strict=True):
        assert written == partner.get(int(true), int(true))


@pytest.mark.parametrize("name", ["over", "under", "wrong"])
def test_shapes_are_misjudged_as_a_whole_and_colours_are_not(matrices, prepared, name):
    """Among the colours the matrix is diagonal, and all colours fare alike."""
    matrix = matrices[name]
    colours = matrix[1:, 1:]
    assert (colours == np.diag(np.diag(colours))).all()
    assert np.ptp(np.diag(colours)) < 0.15 and np.ptp(matrix[1:, 0]) < 0.02
    labels, truth = prepared.read_labels(), prepared.read_truth()
    written = labels[:, prepared.annotators.index(name)] > 0
    whole = mnist.simulate_labels((truth > 0).astype(np.int8), prepared.image_ids, [name], 0)
    assert (written == (whole[:, 0] == 1)).all()


def test_degrees_of_over_and_under_segmentation(matrices):
    missed = {name: 1 - np.diag(m)[1:].mean() for name, m in matrices.items()}
    added = {name: 1 - m[0, 0] for name, m in matrices.items()}
    assert missed["over"] == 0 and 0.1 < added["over"] < 0.25
    assert added["under"] == 0 and 0.6 < missed["under"] < 0.9
    assert 0.05 < added["wrong"] < 0.15 and 0.1 < missed["wrong"] < 0.3


def test_the_mean_matrix_is_dominant(matrices):
    """The assumption of the paper's Theorem 1 holds although `swap` is always wrong."""
    mean = np.mean([*matrices.values()], 0)
    others = mean - 2 * np.diag(np.diag(mean))
    assert (np.diag(mean) > others.max(0)).all()


def test_what_grows_takes_the_nearest_colour(prepared):
    truth, over = prepared.read_truth()[0], prepared.read_labels()[0, 1]
    ink = np.argwhere(truth > 0)
    for pixel in np.argwhere((over > 0) & (truth == 0)):
        distance = np.linalg.norm(ink - pixel, axis=1)
        nearest = ink[np.isclose(distance, distance.min())]
        assert over[tuple(pixel)] in truth[tuple(nearest.T)]


def test_making_it_twice_gives_the_same_bytes(folder, tmp_path):
    again = coloured.prepare(tmp_path / "again", SIZES)
    for name in files.FILES:
        assert (again / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_digit_looks_the_same_in_any_selection(prepared, digits):
    ids = prepared.image_ids[:3].tolist()
    painted, truth = coloured.paint(digits[2:3], ids[2:])
    assert (truth[0] == prepared.truth[2]).all()
    assert (painted[0] == coloured.paint(digits[:3], ids)[0][2]).all()
    assert (coloured.annotate(truth, ids[2:])[0] == prepared.labels[2]).all()


def command(out, *more, **sizes):
    given = [word for s, n in (SIZES | sizes).items() for word in (f"--{s}", str(n))]
    coloured.main([*given, "--out", str(out), *more])


def test_complete_folder_is_left_alone_and_force_makes_it_again(tmp_path, capsys):
    small, meta = dict(train=5, val=5, test=5), tmp_path / "out" / "meta.json"
    command(tmp_path / "out", **small)
    first = meta.stat().st_ino, meta.stat().st_mtime_ns
    command(tmp_path / "out", **small)
    assert (meta.stat().st_ino, meta.stat().st_mtime_ns) == first
    command(tmp_path / "out", "--force", **small)
    assert (meta.stat().st_ino, meta.stat().st_mtime_ns) != first
    said = re.findall(": (written|already there, left alone); 5 train", capsys.readouterr().out)
    assert said == ["written", "already there, left alone", "written"]


def test_other_sizes_or_version_are_not_replaced(folder):
    with pytest.raises(SystemExit, match="^error: .*'train': 120.*'train': 9.*use --force"):
        command(folder, train=9)
    meta = json.loads((folder / "meta.json").read_text())
    try:
        (folder / "meta.json").write_text(json.dumps(meta | {"prep_version": 0}))
        seal(folder)
        with pytest.raises(FileExistsError, match="use --force"):
            coloured.prepare(folder, SIZES)
    finally:
        (folder / "meta.json").write_text(json.dumps(meta, indent=1, ensure_ascii=False), "utf-8")


def test_folder_of_another_data_set_is_refused(tiny_folder):
    with pytest.raises(SystemExit, match="^error: .*'tiny', 1,.*asked for .'coloured'"):
        command(tiny_folder)


def test_damaged_folder_is_named(tmp_path):
    out = coloured.prepare(tmp_path / "out", dict(train=5, val=5, test=5))
    labels = (out / "labels.npy").read_bytes()
    (out / "labels.npy").write_bytes(labels[:-1])
    with pytest.raises(SystemExit, match="^error: .*not a valid prepared folder(?s:.*)labels.npy"):
        command(out, train=5, val=5, test=5)


def test_strange_files_are_never_deleted(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(SystemExit, match="^error: .*not a valid prepared folder"):
        command(tmp_path)
    with pytest.raises(SystemExit, match=r"^error: .*thesis\.txt"):
        command(tmp_path, "--force", train=5, val=5, test=5)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(("split", "size"), [("train", 8001), ("val", 0), ("test", -1)])
def test_digits_that_are_not_there(tmp_path, split, size):
    with pytest.raises(SystemExit, match=f"^error: {split} is {size}: .* allow 1 to"):
        command(tmp_path / "out", **{split: size})
    assert not (tmp_path / "out").exists()


def test_relative_folder_is_not_looked_up_below_the_data_root(folder, monkeypatch):
    monkeypatch.setenv("NOISYSEG_DATA", str(folder.parent.parent / "elsewhere"))
    monkeypatch.chdir(folder.parent)
    assert coloured.prepare(Path("coloured"), SIZES) == folder


def test_readme_repeats_what_the_default_folder_holds(tmp_path):
    data, readme = load_dataset(coloured.prepare(tmp_path / "coloured")), README.read_text()
    assert [np.sum(data.split_of == s) for s in coloured.SIZES] == [2400, 500, 2000]
    truth, labels = data.read_truth(), data.read_labels()
    for name, written in zip(data.annotators, labels.swapaxes(0, 1), strict=True):
        on, off = written[truth > 0], written[truth == 0]
        other = (on > 0) & (on != truth[truth > 0])
        rates = (written > 0).sum() / len(on), (off > 0).mean(), (on == 0).mean(), other.mean()
        cells = " | ".join(
            f"{rate:.{digits}f}" for rate, digits in zip(rates, (2, 3, 3, 3), strict=True)
        )
        assert f"| {name} | {cells} |" in readme
