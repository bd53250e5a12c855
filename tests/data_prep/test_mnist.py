"""MNIST preparation: checksums, counts, truth, noise, splits, and no silent way out."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import skimage.filters

from data_prep import mnist
from noisyseg.data.dataset import load_dataset
from noisyseg.data.folder import seal

# Moments of the authors' samples: mean and sd inside the digit, mean and sd of the background.
AUTHORS_NOISE = (0.86, 0.15, 0.15, 0.16)
NOISE_BAND = 0.025
TRAIN, TEST = mnist.OFFICIAL


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return load_dataset(mnist.prepare(tmp_path_factory.mktemp("data") / "mnist"))


def idx(images, magic=2051):
    return np.array([magic, *images.shape], ">i4").tobytes() + images.tobytes()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A folder of small IDX files that pass for the official ones, and their digits."""
    rng = np.random.default_rng(0)
    digits = {"train": rng.integers(0, 256, (10, 28, 28), np.uint8)}
    digits["test"] = rng.integers(0, 256, (4, 28, 28), np.uint8)
    folder = tmp_path / "official"
    folder.mkdir()
    for name, images in zip((TRAIN, TEST), digits.values(), strict=True):
        (folder / name).write_bytes(idx(images))
        monkeypatch.setitem(mnist.OFFICIAL, name, hashlib.sha256(idx(images)).hexdigest())
    return folder, digits


def test_counts_splits_and_names(prepared):
    assert {s: int((prepared.split_of == s).sum()) for s in ("train", "val", "test")} == {
        "train": 8000,
        "val": 2000,
        "test": 2000,
    }
    assert prepared.image_ids[17] == "train-00017" and prepared.image_ids[10_003] == "test-00003"
    assert (prepared.split_of[10_000:] == "test").all()
    assert len(set(prepared.image_ids)) == 12_000
    held_out = np.flatnonzero(prepared.split_of == "val")
    assert set(np.diff(held_out)) != {5}  # drawn, not every fifth


def test_meta_says_what_it_is(prepared):
    assert prepared.origin == "real" and prepared.classes == ("background", "digit")
    assert prepared.labels is None and "CC BY-SA 3.0" in prepared.meta["licence"]
    assert prepared.meta["sources"][0]["checksum"].startswith("sha256:")


def test_truth_is_intensity_above_one_half(prepared):
    digits = np.concatenate([*mnist.read_embedded().values()])
    assert (prepared.read_truth() == (digits / 255 > 0.5)).all()
    assert 0.12 < prepared.read_truth().mean() < 0.14


def test_truth_at_the_threshold():
    edge = np.array([[[0, 127, 128, 255]]], np.uint8)
    assert mnist.truth_of(edge).tolist() == [[[0, 0, 1, 1]]]


def test_truth_agrees_with_otsu(prepared):
    """Another rule, per digit, chooses nearly the same pixels: the truth is the digit."""
    digits, truth = mnist.read_embedded()["test"][:50], prepared.truth[10_000:10_050] == 1
    otsu = np.stack([digit > skimage.filters.threshold_otsu(digit) for digit in digits])
    assert 2 * (otsu & truth).sum() / (otsu.sum() + truth.sum()) > 0.9


def test_noise_is_near_the_authors_samples(prepared):
    images, truth = prepared.images[:1000, 0].astype(float), prepared.truth[:1000] == 1
    inner, outer = images[truth], images[~truth]
    found = np.array([inner.mean(), inner.std(), outer.mean(), outer.std()])
    assert (abs(found - AUTHORS_NOISE) < NOISE_BAND).all(), found


def test_images_are_within_zero_and_one(prepared):
    assert prepared.images.dtype == np.float16 and prepared.images.shape == (12_000, 1, 28, 28)
    assert prepared.images.min() == 0 and prepared.images.max() == 1


def test_noise_depends_on_the_image_id_only():
    blank = np.full((2, 28, 28), 100, np.uint8)
    first, second = mnist.noisy(blank, ["train-00001", "train-00002"])
    assert (first != second).any()
    assert (mnist.noisy(blank[:1], ["train-00002"])[0] == second).all()


def test_making_it_twice_gives_the_same(tiny, tmp_path):
    folder, _ = tiny
    made = [load_dataset(mnist.prepare(tmp_path / n, "idx", folder)) for n in ("a", "b")]
    assert made[0].fingerprint == made[1].fingerprint


def test_embedded_files_match_their_checksums():
    expected = json.loads((mnist.HERE / "checksums.json").read_text())
    found = {f: hashlib.sha256((mnist.HERE / f).read_bytes()).hexdigest() for f in expected}
    assert found == expected and len(found) == 3


def test_embedded_digits_are_real_ones():
    """The first training digit is the well-known 5; its mean and ink are facts of MNIST."""
    images = mnist.read_embedded()
    assert images["train"].shape == (10_000, 28, 28) and images["test"].shape == (2_000, 28, 28)
    assert images["train"][0].sum() == 27_525 and images["test"][0].sum() == 18_454
    assert images["train"].mean() / 255 == pytest.approx(0.1307, abs=0.002)


def test_damaged_embedded_file_is_named(tmp_path):
    shutil.copytree(mnist.HERE, tmp_path / "embedded")
    file = tmp_path / "embedded" / "mnist-test.npz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"mnist-test\.npz: sha256 is [0-9a-f]{64}, expected"):
        mnist.read_embedded(tmp_path / "embedded")


@pytest.mark.parametrize("form", ["raw", "gz", "dot"])
def test_official_files_raw_gzipped_and_dotted(tiny, tmp_path, form):
    folder, digits = tiny
    for name in (TRAIN, TEST):
        if form == "gz":
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
        if form == "dot":
            (folder / name).rename(folder / name.replace("-idx3", ".idx3"))
    data = load_dataset(mnist.prepare(tmp_path / "out", "idx", folder))
    assert (data.split_of == "val").sum() == 2 and len(data) == 14
    assert (data.read_truth() == (np.concatenate([*digits.values()]) > 127.5)).all()


@pytest.mark.parametrize("gz", [False, True])
def test_file_that_is_not_the_official_one(tmp_path, gz):
    content, suffix = idx(np.zeros((3, 28, 28), np.uint8)), ".gz" if gz else ""
    found = hashlib.sha256(content).hexdigest()
    file = tmp_path / f"{TRAIN}{suffix}"
    file.write_bytes(gzip.compress(content) if gz else content)
    with pytest.raises(ValueError, match=f"{file.name}: sha256 is {found}, expected ba891046"):
        mnist.prepare(tmp_path / "out", "idx", tmp_path)
    assert not (tmp_path / "out").exists()


def test_truncated_gzip_is_named(tiny):
    folder, _ = tiny
    packed = gzip.compress((folder / TRAIN).read_bytes())
    (folder / TRAIN).unlink()
    (folder / f"{TRAIN}.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: cannot be unpacked"):
        mnist.read_folder(folder)


@pytest.mark.parametrize("keep", [0, 10, 16, 2000])
def test_truncated_idx_is_named(keep):
    content = idx(np.ones((3, 28, 28), np.uint8))[:keep]
    with pytest.raises(ValueError, match=f"digits.idx: not a whole IDX .* {keep} bytes"):
        mnist.read_idx(content, Path("digits.idx"))


def test_idx_of_labels_is_refused():
    with pytest.raises(ValueError, match="magic number 2049, expected 2051"):
        mnist.read_idx(idx(np.ones((3, 28, 28), np.uint8), magic=2049), Path("labels"))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds none of train-images-idx3-ubyte,"):
        mnist.prepare(tmp_path / "out", "idx", tmp_path)


@pytest.mark.parametrize(
    ("source", "folder", "message"),
    [
        ("idx", None, "source 'idx' needs a folder"),
        ("torchvision", None, "source 'torchvision' needs a folder"),
        ("embedded", "here", "source 'embedded' takes no folder"),
        ("web", None, "unknown source 'web'; allowed: embedded, idx, torchvision"),
    ],
)
def test_sources_never_stand_in_for_each_other(tmp_path, source, folder, message):
    with pytest.raises(ValueError, match=message):
        mnist.prepare(tmp_path / "out", source, folder)


def test_torchvision_download_is_verified(tiny, tmp_path, monkeypatch):
    folder, _ = tiny

    def download(root, train, download):
        shutil.copytree(folder, Path(root) / "MNIST" / "raw", dirs_exist_ok=True)

    monkeypatch.setattr("torchvision.datasets.MNIST", download)
    assert len(load_dataset(mnist.prepare(tmp_path / "a", "torchvision", tmp_path / "get"))) == 14
    (folder / TEST).write_bytes(b"something else")
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte: sha256"):
        mnist.prepare(tmp_path / "b", "torchvision", tmp_path / "get")


def test_complete_folder_is_left_alone_and_force_makes_it_again(tiny, tmp_path, capsys):
    folder, _ = tiny
    arguments = ["--source", "idx", "--folder", str(folder), "--out", str(tmp_path / "out")]
    meta = tmp_path / "out" / "meta.json"
    mnist.main(arguments)
    first = meta.stat().st_ino, meta.stat().st_mtime_ns
    mnist.main(arguments)
    assert (meta.stat().st_ino, meta.stat().st_mtime_ns) == first
    mnist.main([*arguments, "--force"])
    assert (meta.stat().st_ino, meta.stat().st_mtime_ns) != first
    said = [line.split(": ")[1] for line in capsys.readouterr().out.splitlines() if ": " in line]
    assert said == ["written", "already there, left alone", "written"]


@pytest.mark.parametrize(("field", "value"), [("prep_version", 0), ("sources", [])])
def test_folder_made_otherwise_is_not_replaced(tiny, tmp_path, field, value):
    folder, _ = tiny
    out = mnist.prepare(tmp_path / "out", "idx", folder)
    meta = json.loads((out / "meta.json").read_text())
    (out / "meta.json").write_text(json.dumps(meta | {field: value}))
    seal(out)
    with pytest.raises(FileExistsError, match="use --force"):
        mnist.prepare(out, "idx", folder)


def test_embedded_files_are_the_first_official_ones(tiny, tmp_path, monkeypatch):
    folder, digits = tiny
    monkeypatch.setattr(mnist, "EMBEDDED", {"train": 6, "test": 2})
    mnist.embed(folder, tmp_path)
    again = mnist.read_embedded(tmp_path)
    assert (again["train"] == digits["train"][:6]).all()
    assert (again["test"] == digits["test"][:2]).all()


def test_command_line_error_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="^error: .* holds none of"):
        mnist.main(["--source", "idx", "--folder", str(tmp_path), "--out", str(tmp_path / "out")])


def test_readme_repeats_the_summary(prepared):
    readme = (Path(mnist.__file__).parent / "README.md").read_text()
    assert mnist.summary(prepared.path) in readme
