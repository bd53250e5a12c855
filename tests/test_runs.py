"""The run store: seals, damaged files and clear failures (resuming is tested in test_train)."""

import hashlib
import json
import shutil
import time

import pytest
import torch

import noisyseg as ns
from noisyseg import runs, storage
from noisyseg.train import TrainingStopped

pytestmark = pytest.mark.filterwarnings("ignore::noisyseg.train.SwapWarning")


def test_an_unknown_metric_names_those_there_are(tiny_folder):
    cfg = ns.ExperimentConfig.preset("tiny", "smoke", "majority_fusion", dataset=str(tiny_folder))
    with pytest.raises(KeyError, match="dice"):
        ns.run(cfg).value("dcie")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    storage.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        storage.write_json(path, {"a": object()})
    assert path.read_text() == '{\n "a": 1\n}\n' and list(tmp_path.iterdir()) == [path]


def config(folder, method="majority_fusion", **more):
    small = dict(width=4, depth=2, epochs=3, batch_size=4, activation="prelu")
    return ns.ExperimentConfig.preset(
        "sealed", "smoke", method, dataset=str(folder), **small | more
    )


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A run store of this test's own."""
    monkeypatch.setenv("NOISYSEG_RUNS", str(tmp_path))
    return tmp_path / "sealed"


def contents(path):
    return {p.name: p.read_bytes() for p in path.iterdir() if p.name not in UNEQUAL}


UNEQUAL = {"provenance.json", "DONE"}  # they hold the seconds it took


def test_done_is_the_seal_of_all_files(tiny_folder, store):
    run = ns.run(config(tiny_folder))
    seal = json.loads((run.path / "DONE").read_text())
    assert seal["digest"] == run.path.name[-8:]
    assert seal["files"] == {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in run.path.iterdir() if p.name != "DONE"
    }  # fmt: skip


def change(name, how):
    return lambda run: (run / name).write_bytes(how((run / name).read_bytes()))


def lose_all_but_done(run):
    for file in run.iterdir():
        if file.name != "DONE":
            file.unlink()


def become_another_seed(run):
    cfg = config(json.loads((run / "config.json").read_text())["dataset"], seed=1)
    other = ns.run(cfg).path
    shutil.rmtree(run)
    shutil.copytree(other, run)


DAMAGES = {
    "cut": change("metrics.csv", lambda b: b[: len(b) // 2]),
    "cut at a line": change("metrics.csv", lambda b: b[: b[:-1].rindex(b"\n") + 1]),
    "empty": change("exhibits.npz", lambda b: b""),
    "changed": change("images.csv", lambda b: b.replace(b"1", b"2", 1)),
    "lost": lambda run: (run / "history.csv").unlink(),
    "seal cut": change("DONE", lambda b: b[:50]),
    "DONE alone": lose_all_but_done,
    "another seed": become_another_seed,
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_run_is_set_aside_and_made_again(name, tiny_folder, store, caplog):
    cfg = config(tiny_folder)
    run = ns.run(cfg)
    before = contents(run.path)
    DAMAGES[name](run.path)
    again = ns.run(cfg)
    assert again.path == run.path and contents(again.path) == before
    (aside,) = store.glob("*.damaged-1")
    assert any(aside.name in message for message in caplog.messages)
    assert ns.run(cfg).path == run.path and len(list(store.glob("*.damaged-*"))) == 1


def test_a_changed_bit_of_the_weights_is_found(tiny_folder, store):
    cfg = config(tiny_folder, "mode")
    run = ns.run(cfg)
    before = contents(run.path)
    change("model.pt", lambda b: b[:3000] + bytes([b[3000] ^ 1]) + b[3001:])(run.path)
    assert contents(ns.run(cfg).path) == before
    assert list(store.glob("*.damaged-1"))


def test_a_run_older_than_seals_is_loaded_and_a_cut_one_is_not(tiny_folder, store):
    cfg = config(tiny_folder)
    run = ns.run(cfg)
    (run.path / "DONE").write_text("")
    (run.path / "exhibits.npz").unlink()  # deleted to save room
    assert ns.run(cfg).metrics.equals(run.metrics) and not list(store.glob("*.damaged-*"))
    change("metrics.csv", lambda b: b[:-3])(run.path)
    again = ns.run(cfg)
    assert again.exhibits and list(store.glob("*.damaged-1"))


def stopped(cfg):
    with pytest.raises(TrainingStopped):
        ns.run(cfg, on_epoch=lambda row: row["epoch"] == 1)
    data = ns.load_dataset(cfg.dataset)
    return runs.run_folder(cfg, data.fingerprint) / "checkpoint.pt"


OTHERS = {
    "seed": {"seed": 1},
    "rate": {"learning_rate": 0.5},
    "epochs": {"epochs": 7},
}
CUT = {
    "half": lambda b: b[: len(b) // 2],
    "empty": lambda b: b"",
    "bit": lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 1]) + b[len(b) // 2 + 1 :],
}


@pytest.mark.parametrize("what", [*OTHERS, *CUT])
def test_a_checkpoint_that_does_not_fit_is_set_aside(what, tiny_folder, store, caplog):
    cfg = config(tiny_folder, "mode")
    if what in OTHERS:
        other = stopped(config(tiny_folder, "mode", **OTHERS[what]))
        shutil.copy(other, stopped(cfg))
    else:
        change("checkpoint.pt", CUT[what])(stopped(cfg).parent)
    epochs = []
    run = ns.run(cfg, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [1, 2, 3] and (run.path / "checkpoint.pt.damaged-1").exists()
    assert any("no checkpoint of this run" in message for message in caplog.messages)
    assert not (run.path / "checkpoint.pt").exists()


def test_a_checkpoint_holds_tensors_and_its_configs_digest(tiny_folder, store):
    cfg = config(tiny_folder, "mode")
    outer = torch.load(stopped(cfg), weights_only=True)
    assert outer["digest"] == cfg.digest(ns.load_dataset(tiny_folder).fingerprint)


def test_done_is_written_before_the_checkpoint_goes(tiny_folder, store, monkeypatch):
    cfg = config(tiny_folder, "mode")
    monkeypatch.setattr(runs, "tidy", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ns.run(cfg)
    monkeypatch.undo()
    monkeypatch.setenv("NOISYSEG_RUNS", str(store.parent))
    (folder,) = store.glob("tiny-mode-*")
    assert (folder / "DONE").exists() and (folder / "checkpoint.pt").exists()
    ns.run(cfg, on_epoch=lambda row: pytest.fail("trained again"))
    assert not (folder / "checkpoint.pt").exists()


def test_a_file_that_cannot_be_read_is_named_with_the_remedy(tiny_folder, store):
    run = ns.run(config(tiny_folder, "mode"))
    for name in ("model.pt", "exhibits.npz", "provenance.json"):
        (run.path / name).write_bytes(b"\x80 not this")
    fresh = runs.Run(run.config, run.path, run.build)
    for read in (lambda: fresh.exhibits, lambda: fresh.provenance, fresh.model):
        with pytest.raises(ValueError, match=r"cannot be read .* remove the folder .* again"):
            read()


@pytest.mark.parametrize(
    "name", ["../../x", "/x", "..", ".hidden", "a/b", "a\\b", "a\nb", "", "x" * 300, "c:x"]
)
def test_an_experiment_is_a_name_and_no_path(name):
    with pytest.raises(ValueError, match="experiment is .*it names a folder of runs"):
        ns.ExperimentConfig(experiment=name)


def test_no_run_is_written_outside_the_store(tiny_folder, store):
    cfg = config(tiny_folder)
    for field, value in (("experiment", "../../x"), ("seed", "0/../../../x")):
        evil = cfg.replace()
        object.__setattr__(evil, field, value)
        with pytest.raises(ValueError, match="no paths"):
            ns.run(evil)


def test_ten_thousand_runs_are_listed_in_two_seconds(tmp_path, measured):
    for n in range(10_000):
        folder = tmp_path / "mnist" / f"a-b-trace_low_rank-s{n}-{n:08x}"
        folder.mkdir(parents=True)
        if n % 2:
            (folder / "DONE").touch()
    (tmp_path / "mnist" / ".lock").touch()
    (tmp_path / "mnist" / "a-mode-s0-00000000.damaged-1").mkdir()
    since = time.process_time()
    table = runs.stored(tmp_path)
    seconds = time.process_time() - since
    measured(f"10,000 runs listed in {seconds:.2f} s")
    assert len(table) == 10_000 and int(table.done.sum()) == 5_000
    assert set(table.dataset) == {"a-b"} and set(table.method) == {"trace_low_rank"}
    assert sorted(table.seed) == list(range(10_000))
    assert seconds < 2
