"""Whole NIfTI volumes through a trained run: nothing moves, whatever the file's orientation."""

import nibabel as nib
import numpy as np
import pytest
from trees import oblique, save

import noisyseg as ns
from data_prep import ms_lesions, predict
from data_prep.cases import Unusable

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
        annotators=("good", "over@1", "good#2"),
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
