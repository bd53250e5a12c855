"""Published runs: trained networks that come with the repository, loaded as runs of one's own.

One zip archive a run in `figures/published`, and `index.csv` with the sha256 of each. An archive
holds config, provenance, metrics, history, scores by image and the weights in half precision;
the exhibits are predicted anew from the prepared data. Also a command:
`python -m noisyseg.published FOLDER …` publishes run folders. Trains nothing.
"""

import argparse
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from noisyseg import build, runs, storage
from noisyseg.config import ExperimentConfig
from noisyseg.data.dataset import SegmentationDataset, load_dataset
from noisyseg.evaluate import exhibits_of

TEXTS = ("config.json", "provenance.json", "metrics.csv", "history.csv", "images.csv")
WEIGHTS = "weights.npz"
EPOCH = (1980, 1, 1, 0, 0, 0)  # every archive has this date, so that equal runs give equal bytes
COLUMNS = ["file", "recipe", "fingerprint", "sha256"]


def root() -> Path:
    """Where published runs lie: `figures/published`."""
    return storage.figures_root() / "published"


def recipe(cfg: ExperimentConfig) -> str:
    """A digest of the config and the *name* of its data: the same on every machine.

    The bytes of a simulated picture can differ in the last digit from machine to machine, and
    with them the fingerprint of the data; what was trained on them is still the same recipe.
    """
    return cfg.digest(Path(cfg.dataset).name)


def index() -> pd.DataFrame:
    """One row a published run: file, recipe, fingerprint of its data, sha256. Maybe empty."""
    path = root() / "index.csv"
    return pd.read_csv(path, dtype=str) if path.exists() else pd.DataFrame(columns=COLUMNS)


def find(cfg: ExperimentConfig, data: SegmentationDataset) -> pd.Series | None:
    """The row of `index` that holds the run of `cfg` on `data`, or None.

    Data that differ in bytes count as the same if name, origin and test images are the same.
    """
    rows = index()
    rows = rows[rows.recipe == recipe(cfg)]
    if rows.empty or cfg.dataset != Path(cfg.dataset).name:
        return None
    row = rows.iloc[0]
    if row.fingerprint == data.fingerprint:
        return row
    texts, _ = _open(row)
    tested = pd.read_csv(io.BytesIO(texts["images.csv"]), dtype=runs.NAMES_OF_IMAGES).image_id
    same = list(tested) == list(data.split("test", limit=cfg.n_test).image_ids)
    return row if same and json.loads(texts["provenance.json"])["origin"] == data.origin else None


def publish(run: runs.Run) -> Path:
    """Write a finished run as an archive and enter it in `index.csv`; returns the archive.

    Raises ValueError for a run without a network.
    """
    state = {name: tensor.half().numpy() for name, tensor in run.model().state_dict().items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **state)
    cfg = run.config
    name = f"{Path(cfg.dataset).name}-{cfg.method}-{cfg.labelling}-s{cfg.seed}-{recipe(cfg)}.zip"
    path = root() / cfg.experiment / name
    with storage.replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        for text in TEXTS:
            _store(archive, text, (run.path / text).read_bytes())
        _store(archive, WEIGHTS, buffer.getvalue())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    file = path.relative_to(root()).as_posix()
    row = [file, recipe(cfg), run.provenance["fingerprint"], digest]
    with storage.locked(root() / "index.csv"):
        rows = index().query("file != @file")
        rows = pd.concat([rows, pd.DataFrame([row], columns=COLUMNS)]).sort_values("file")
        storage.write_csv(root() / "index.csv", rows)
    return path


def _store(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED, 9)


def _open(row: pd.Series) -> tuple[dict[str, bytes], dict[str, torch.Tensor]]:
    """Texts and weights of an archive; ValueError if it is not what was published."""
    path = root() / row.file
    content = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise ValueError(
            f"{path}: not the archive that was published (its sha256 is not the one in "
            "index.csv): restore it with `git checkout`, or train anew with fresh=True"
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        texts = {name: archive.read(name) for name in TEXTS}
        with np.load(io.BytesIO(archive.read(WEIGHTS)), allow_pickle=False) as arrays:
            return texts, {name: torch.from_numpy(arrays[name]).float() for name in arrays}


def unpack(row: pd.Series, cfg: ExperimentConfig, data: SegmentationDataset, folder: Path) -> None:
    """Make `folder` a finished run from the published one of `row`.

    Provenance says in `published` which file it came from and whether the data prepared here are
    those it was trained on, to the byte. Raises ValueError if the archive was changed.
    """
    texts, state = _open(row)
    provenance: dict[str, Any] = json.loads(texts["provenance.json"])
    same = bool(row.fingerprint == data.fingerprint)
    provenance["published"] = {"file": row.file, "same_data": same}
    model = build.build_model(cfg, provenance["shape"])
    model.load_state_dict(state)
    runs.write_config(folder, cfg)
    storage.write_json(folder / "provenance.json", provenance)
    storage.write_bytes(folder / "history.csv", texts["history.csv"])
    runs.write_model(folder, model.state_dict())
    metrics = runs.read_values(io.BytesIO(texts["metrics.csv"]))
    images = pd.read_csv(io.BytesIO(texts["images.csv"]), dtype=runs.NAMES_OF_IMAGES)
    few = cfg.replace(n_train=1, n_val=1)  # simulating annotators of what is not shown takes long
    exhibits = exhibits_of(model, build.load_splits(few, data).test)
    digest = cfg.digest(data.fingerprint)
    runs.finish(folder, digest, metrics.to_dict("records"), exhibits, images)


def says(finished: runs.Run) -> str:
    """Where a run comes from, in a sentence for the page that shows it."""
    published = finished.provenance.get("published")
    if published is None:
        return "trained on this machine"
    if published["same_data"]:
        return f"published: {published['file']}"
    return (
        f"published: {published['file']}, whose data differ in some bytes from those prepared "
        "here; its scores are those of the machine that trained it"
    )


def main() -> None:
    """Command line: publish finished runs."""
    parser = argparse.ArgumentParser("python -m noisyseg.published", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of the run store")
    for folder in parser.parse_args().folders:
        cfg = runs.read_config(folder)
        load_dataset(cfg.dataset)  # a run whose data are unknown here could not be loaded
        path = publish(runs.Run(cfg, folder, build.build_model))
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} kB")


if __name__ == "__main__":
    main()
