"""Files of a finished or interrupted run cut, changed, lost or exchanged: found, and made again."""

import os
import shutil

import torch

import noisyseg as ns
from noisyseg import storage
from noisyseg.train import TrainingStopped
from trials import common
from trials.common import Counts

FILES = (
    "model.pt", "metrics.csv", "history.csv", "images.csv", "exhibits.npz", "config.json",
    "provenance.json",
)  # fmt: skip


class Malicious:
    """What a pickle may ask for."""

    def __reduce__(self):
        return os.abort, ()


def change(name, how):
    """A damage to the file `name`: its bytes through `how`."""
    return lambda run: (run / name).write_bytes(how((run / name).read_bytes()))


def half(content):
    return content[: len(content) // 2]


def zeros(content):
    return bytes(len(content))


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :]


def repeat_row(content):
    return content + content.splitlines(True)[-1]


def lose(name):
    return lambda run: (run / name).unlink()


def only_done(run):
    for file in run.iterdir():
        if file.name != "DONE":
            file.unlink()


def become(other):
    """All files of another run, its seal too."""

    def damage(run):
        shutil.rmtree(run)
        shutil.copytree(other, run)

    return damage


def take(other, name):
    return lambda run: shutil.copy(other / name, run / name)


def damages(others):
    """Name -> what is done to a finished run."""
    found = {}
    for name in FILES:
        for how in (half, zeros, flip):
            found[f"{name} {how.__name__}"] = change(name, how)
        found[f"{name} empty"] = change(name, lambda content: b"")
        found[f"{name} lost"] = lose(name)
    found["metrics.csv with a row twice"] = change("metrics.csv", repeat_row)
    found["DONE cut"] = change("DONE", half)
    found["DONE changed"] = change("DONE", flip)
    found["DONE alone"] = only_done
    for other, path in others.items():
        found[f"run of {other}"] = become(path)
    found["model.pt of another seed"] = take(others["another seed"], "model.pt")
    return found


def checkpoints(stopped):
    """Name -> what is done to an interrupted run."""
    found = {how.__name__: change("checkpoint.pt", how) for how in (half, zeros, flip)}
    found["empty"] = change("checkpoint.pt", lambda content: b"")
    for other, path in stopped.items():
        found[f"of {other}"] = take(path, "checkpoint.pt")
    found["malicious"] = lambda run: torch.save({"x": Malicious()}, run / "checkpoint.pt")
    return found


def run(tries, folder):
    """Each damage once, to a copy of the same run; then the run is asked for again."""
    data = common.write(folder / "data" / "tiny")
    variants = {
        "another seed": common.config(data, seed=1),
        "another method": common.config(data, "mode"),
        "another rate": common.config(data, learning_rate=0.1),
        "more epochs": common.config(data, epochs=8),
        "other data": common.config(common.write(folder / "more" / "tiny", seed=1)),
    }
    common.store(folder / "whole")
    cfg = common.config(data)
    whole = ns.run(cfg).path
    expected = common.snapshot(whole)
    others = {name: ns.run(other).path for name, other in variants.items()}
    total = Counts(0, 0, 0)
    for damage in damages(others).values():
        total += again(whole, damage, folder / "place", cfg, expected)
    common.store(folder / "stopped")
    interrupted = stop(cfg)
    stopped = {name: stop(other) for name, other in variants.items()}
    for damage in checkpoints(stopped).values():
        total += again(interrupted, damage, folder / "place", cfg, expected)
    assert total.tries >= tries
    return total


def stop(cfg):
    """The folder of a run stopped after two epochs."""
    try:
        ns.run(cfg, on_epoch=lambda row: row["epoch"] == 2)
    except TrainingStopped:
        pass
    (found,) = (p for p in runs_of(cfg) if (p / "checkpoint.pt").exists())
    return found


def runs_of(cfg):
    digest = cfg.digest(ns.load_dataset(cfg.dataset).fingerprint)
    return (storage.runs_root() / "trial").glob(f"*-{digest}")


def again(source, damage, place, cfg, expected):
    """Damage a copy of the run `source`, ask for it, and compare with the undamaged one."""
    common.store(common.emptied(place))
    copy = place / "runs" / "trial" / source.name
    shutil.copytree(source, copy)
    damage(copy)
    try:
        found = common.snapshot(ns.run(cfg).path)
    except Exception:
        return Counts(1, 1, 0)
    kept = {name: sum for name, sum in found.items() if ".damaged-" not in name}
    return common.compared(expected, kept)
