"""Whole NIfTI volumes through a trained run: nothing moves, whatever the file's orientation."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from trees import oblique, save

import noisyseg as ns
from data_prep import ms_lesions, predict
from data_prep.cases import Unusable
from data_prep.folders import prepare
from data_prep.folders.plans import plan_folders
from data_prep.formats import volumes
from noisyseg import build
from noisyseg.predict import VolumePrediction, predict_image

SHAPE = (26, 30, 12)
CENTRE = (9, 18, 6)  # well away from the middle, so that any flip shows


def ball(centre=CENTRE, radius=4.5):
    offsets = np.moveaxis(np.indices(SHAPE), 0, -1) - np.array(centre)
    return (offsets**2).sum(-1) <= radius**2


def scan(seed, centre=CENTRE):
    inside = ball(tuple(n // 2 for n in SHAPE), 14)
    noise = np.random.default_rng(seed).normal(0, 4, SHAPE)
    return (inside * (100 + noise) + ball(centre) * 120).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network on the truth of bright balls in a small MS tree, two channels."""
    folder = tmp_path_factory.mktemp("predict")
    rng = np.random.default_rng(0)
    for patient in range(1, 5):
        stem = f"training{patient:02d}_01"
        at = [int(n // 2 + rng.integers(-5, 6) * (axis < 2)) for axis, n in enumerate(SHAPE)]
        for channel in ("flair", "mprage"):
            save(folder / "training" / f"{stem}_{channel}_pp.nii.gz", scan(patient, at))
        for k in (1, 2):
            mask = ball(at).astype(np.uint8)
            save(folder / "training" / f"{stem}_mask{k}.nii.gz", mask)
    options = ms_lesions.Options(crop=(32, 32))  # small, so that 60 epochs take seconds
    ms_lesions.prepare(folder / "training", folder / "ms", options)
    cfg = ns.ExperimentConfig.preset(
        "ms", "smoke", "no_trace", dataset=str(folder / "ms"), n_train=None, n_val=None,
        n_test=None, epochs=40, batch_size=4, learning_rate=5e-3, width=6, depth=2, flip=False,
        annotators=("good", "over@1", "good#2"), warm_up_share=0.0,  # so short a run has no phases
    )  # fmt: skip
    return ns.run(cfg)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


AFFINES = {
    "RAS": np.eye(4),
    "LPS": np.diag([-1.0, -1, 1, 1]),
    "SPL": np.array([[0, 0, -1.0, 3], [0, -1, 0, 8], [1, 0, 0, 2], [0, 0, 0, 1]]),
    "oblique": oblique(15),
}


@pytest.mark.parametrize("name", AFFINES)
def test_the_prediction_lies_on_the_input(name, run, tmp_path):
    affine = AFFINES[name].copy()
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(np.eye(4)), nib.io_orientation(affine)
    )
    array = nib.apply_orientation(scan(77), turn)
    truth = nib.apply_orientation(ball(), turn)
    files = [save(tmp_path / f"{k}.nii.gz", array, affine) for k in "ab"]
    written = predict.predict_files(run, files, tmp_path / "out")
    assert set(written) == {
        "truth", "uncertainty", "annotator_good", "annotator_over_1", "annotator_good_2"
    }  # fmt: skip
    images = {k: nib.load(f) for k, f in written.items()}
    for image in images.values():
        np.testing.assert_allclose(image.affine, affine, atol=1e-6)
        assert image.shape == array.shape
    found = np.asarray(images["truth"].dataobj) == 1
    assert dice(found, truth) > 0.7  # a flip or a shift of 5 voxels gives 0
    over, good = (np.asarray(images[f"annotator_{k}"].dataobj) == 1 for k in ("over_1", "good"))
    assert over.sum() > 1.15 * good.sum()
    entropy = np.asarray(images["uncertainty"].dataobj)
    assert 0 <= entropy.min() and entropy.max() <= 1 and entropy.max() > 3 * entropy.mean()


def test_a_scan_of_the_training_is_seen_as_it_was_then_to_the_bit(run):
    data = ns.load_dataset(run.config.dataset)
    tree = Path(run.config.dataset).parent / "training"
    files = [tree / f"training02_01_{channel}_pp.nii.gz" for channel in ("flair", "mprage")]
    made = predict.input_of(run)
    array, _ = predict.network_input([volumes.read_volume(f) for f in files], made)
    found = predict.fitted(run, array, made)
    rows = [n for n, name in enumerate(data.image_ids) if "training02" in name]
    assert rows
    for n in rows:
        z = int(data.image_ids[n].rpartition("z")[2])
        there = predict_image(run.model(), data.images[n]).probs[:, ::-1]
        inside = there[:, 1:31, 3:29]  # 30 x 26 pixels of a slice in 32 x 32
        np.testing.assert_array_equal(found.probs[:, z], inside)


def test_another_spacing_is_brought_there_and_back(run, tmp_path):
    fine = np.kron(scan(5), np.ones((2, 2, 2), np.float32))
    files = [save(tmp_path / f"{k}.nii", fine, np.diag([0.5, 0.5, 0.5, 1])) for k in "ab"]
    written = predict.predict_files(run, files, tmp_path / "out")
    found = np.asarray(nib.load(written["truth"]).dataobj) == 1
    assert found.shape == fine.shape
    assert dice(found, np.kron(ball(), np.ones((2, 2, 2))) > 0) > 0.7


def test_bad_requests_are_named(run, tmp_path):
    file = save(tmp_path / "a.nii", scan(1))
    other = save(tmp_path / "b.nii", scan(1)[:-1])
    with pytest.raises(ValueError, match="trained on 2 channels"):
        predict.predict_files(run, [file], tmp_path)
    with pytest.raises(Unusable, match="one grid"):
        predict.predict_files(run, [file, other], tmp_path)
    with pytest.raises(SystemExit, match="no finished run"):
        predict.main(["--run", str(tmp_path), "--images", str(file), "--out", str(tmp_path / "o")])


def test_the_command_line(run, tmp_path, capsys):
    file = save(tmp_path / "a.nii", scan(1))
    predict.main(["--run", str(run.path), "--images", str(file), str(file), "--out",
                  str(tmp_path / "out"), "--spacing", "1"])  # fmt: skip
    printed = capsys.readouterr().out.split()
    assert len(printed) == 5 and all((tmp_path / "out").glob("*.nii.gz"))


TURNED = np.array([[0, 0, -2.0, 9], [1.5, 0, 0, 0], [0, -1, 0, 4], [0, 0, 0, 1]])
STORED = (6, 12, 14)  # of the files, whose axes are turned
CHANNELS = ("t1", "t2")


def two_levels(seed, shape=STORED):
    """Noise about 100, and about 500 where a blob is; the mask of the blob."""
    rng = np.random.default_rng(seed)
    inside = np.zeros(shape, bool)
    inside[1:4, 2 : 6 + seed, 3:8] = True
    return (100 + 400 * inside + rng.normal(0, 9, shape)).astype(np.float32), inside


def own_run(folder, normalise="zscore", **options):
    """A run of one epoch on four volumes of two channels, prepared by `data_prep.folders`."""
    for n in range(4):
        for c, channel in enumerate(CHANNELS):
            array, inside = two_levels(n)
            save(folder / channel / f"c{n}.nii.gz", array * (1 + c) - 30 * c, TURNED)
        for who in ("anna", "ben"):
            save(folder / who / f"c{n}.nii.gz", inside.astype(np.uint8), TURNED)
    plan = plan_folders([folder / c for c in CHANNELS], {w: folder / w for w in ("anna", "ben")})
    prepare.prepare(folder / "prepared", plan, origin="simulated", normalise=normalise, **options)
    return ns.run(
        ns.ExperimentConfig.preset(
            "own", "smoke", "no_trace", dataset=str(folder / "prepared"), n_train=None, n_val=None,
            n_test=None, epochs=1, width=4, depth=2,
        )
    )  # fmt: skip


def watched(monkeypatch):
    """What the network is given; in its place everything above the middle is class 1."""
    seen = []

    def bright(model, array, size, **_):
        seen.append(array)
        above = array[0] > (array[0].min() + array[0].max()) / 2
        return VolumePrediction(np.stack([~above, above]).astype(np.float32), None)

    monkeypatch.setattr(predict, "predict_fitted", bright)
    return seen


def trained_on(folder, name):
    """The images of one case in the prepared folder as (channel, z, y, x)."""
    data = ns.load_dataset(folder / "prepared")
    images = [np.asarray(data.images[n]) for n, i in enumerate(data.image_ids) if name in i]
    return images[0] if images[0].ndim == 4 else np.stack(images, 1)


OWN = {
    "zscore": {},
    "minmax": {"normalise": "minmax"},
    "none": {"normalise": "none"},
    "whole": {"slices": "none"},
    "resampled": {"spacing_mm": 1.3},
}


@pytest.mark.parametrize("kind", OWN)
def test_the_network_sees_of_a_file_what_it_was_trained_on(kind, tmp_path, monkeypatch):
    run, seen = own_run(tmp_path, **OWN[kind]), watched(monkeypatch)
    files = [tmp_path / channel / "c2.nii.gz" for channel in CHANNELS]
    written = predict.predict_files(run, files, tmp_path / "out")
    np.testing.assert_array_equal(seen[0], trained_on(tmp_path, "c2"))
    truth = nib.load(written["truth"])
    np.testing.assert_allclose(truth.affine, TURNED)
    if kind == "resampled":
        assert dice(np.asarray(truth.dataobj) == 1, two_levels(2)[1]) > 0.8
    else:
        np.testing.assert_array_equal(np.asarray(truth.dataobj), two_levels(2)[1])


def test_own_volumes_of_another_spacing_are_brought_to_that_of_the_training(tmp_path, monkeypatch):
    """In a slice; between slices, of which the network sees one at a time, nothing changes."""
    run, seen = own_run(tmp_path), watched(monkeypatch)
    fine = np.kron(two_levels(1)[0], np.ones((2, 1, 2), np.float32))  # along x, y of the world
    affine = TURNED @ np.diag([0.5, 1, 0.5, 1])
    files = [save(tmp_path / f"{channel}.nii.gz", fine, affine) for channel in CHANNELS]
    predict.predict_files(run, files, tmp_path / "out")
    shape = trained_on(tmp_path, "c1").shape
    assert seen[0].shape == shape
    predict.predict_files(run, files, tmp_path / "out", spacing_mm=1.0)
    assert seen[1].shape[1:] == (12, 9, 28)  # of 12 x 1 mm, 6 x 1.5 mm and 14 x 2 mm


@pytest.mark.parametrize("spacing", ["0", "-1", "inf", "nan"])
def test_a_spacing_that_is_none_is_refused(run, tmp_path, spacing):
    file = str(save(tmp_path / "a.nii", scan(1)))
    with pytest.raises(SystemExit, match=rf"--spacing {spacing}: give millimetres"):
        predict.main(["--run", str(run.path), "--images", file, file, "--out",
                      str(tmp_path / "out"), "--spacing", spacing])  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_a_run_knows_its_spacing_whatever_became_of_its_data(run, tmp_path):
    raw = Path(run.config.dataset).with_name("training")
    options = ms_lesions.Options(crop=(32, 32), spacing=2.0)
    ms_lesions.prepare(raw, tmp_path / "ms", options)
    for now in ("ms", "gone"):
        config = run.config.replace(dataset=str(tmp_path / now))
        moved = SimpleNamespace(path=run.path, provenance=run.provenance, config=config)
        assert predict.input_of(moved).spacing_mm == 1.0


def stub(folder, tmp_path):
    """A run on the prepared folder."""
    data = ns.load_dataset(folder)
    return SimpleNamespace(
        path=tmp_path / "run", config=SimpleNamespace(dataset=str(folder)),
        provenance={"shape": build.model_shape(data)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "message"),
    [("lidc", "crops about nodules"), ("mnist", "single digits"), ("mine", "no file is said")],
)
def test_data_that_no_volume_can_be_made_into_is_refused(tiny_folder, tmp_path, name, message):
    shutil.copytree(tiny_folder, tmp_path / name)
    file = save(tmp_path / "a.nii", scan(1))
    with pytest.raises(ValueError, match=message):
        predict.predict_files(stub(tmp_path / name, tmp_path), [file], tmp_path / "out", 1.0)


def test_a_run_on_pictures_takes_no_volume(tmp_path):
    for n in range(4):
        for folder in ("images", "anna"):
            (tmp_path / folder).mkdir(exist_ok=True)
            pixels = np.random.default_rng(n).integers(0, 2, (16, 16), np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"c{n}.png")
    plan = plan_folders([tmp_path / "images"], {"anna": tmp_path / "anna"})
    prepare.prepare(tmp_path / "data", plan, origin="simulated")
    with pytest.raises(ValueError, match="PNG or TIFF pictures"):
        predict.input_of(stub(tmp_path / "data", tmp_path))
