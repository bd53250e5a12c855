"""One run on several devices: two processes share each batch and find what one finds."""

import json
import os
import subprocess
import sys

import pytest
import torch

from noisyseg.data.training import share_of

pytestmark = pytest.mark.filterwarnings("ignore::noisyseg.train.SwapWarning")
SCRIPT = """
import json, sys, warnings
import torch
import noisyseg as ns
from noisyseg import build
from noisyseg.train import fit

def main(config, devices, out):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cfg = ns.ExperimentConfig.preset(**json.loads(config))
    splits = build.load_splits(cfg, ns.load_dataset(cfg.dataset))
    model = build.build_model(cfg, build.model_shape(splits.train))
    train, val = build.training_view(cfg, splits.train), build.validation_view(cfg, splits.val)
    history, _ = fit(model, train, val, cfg, devices=int(devices))
    total = {k: float(v.double().sum()) for k, v in model.state_dict().items()}
    rank = torch.distributed.get_rank() if int(devices) > 1 else 0
    with open(f"{out}.{rank}", "w") as file:
        json.dump({"history": history.to_dict("list"), "weights": total}, file)

main(*sys.argv[1:])
"""


def trained(tmp_path, config, devices):
    """What each process found: histories and sums of weights."""
    script, out = tmp_path / "script.py", tmp_path / f"found{devices}"
    script.write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    command = [sys.executable, *(launch if devices > 1 else [])]
    done = subprocess.run(
        [*command, str(script), json.dumps(config), str(devices), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads((tmp_path / f"{out.name}.{r}").read_text()) for r in range(devices)]


@pytest.mark.parametrize("method", ["trace", "calibrated"])
def test_two_processes_find_what_one_finds_with_the_whole_batch(method, tiny_folder, tmp_path):
    # 12 images in batches of 5: the last batch has two, one for each.
    config = dict(
        experiment="tiny",
        profile="smoke",
        method=method,
        dataset=str(tiny_folder),
        width=4,
        depth=2,
        epochs=3,
        batch_size=5,
        learning_rate=5e-3,
        activation="prelu",
        accelerator="cpu",
        progress=False,
    )
    (one,), two = trained(tmp_path, config, 1), trained(tmp_path, config, 2)
    assert two[0] == two[1], "the processes agree"
    for name, values in one["history"].items():
        assert two[0]["history"][name] == pytest.approx(values, rel=1e-3, abs=1e-4), name
    assert two[0]["weights"] == pytest.approx(one["weights"], rel=1e-3, abs=1e-3)


def test_a_share_of_a_batch_has_its_weight():
    batch = {"index": torch.arange(5), "image": torch.arange(10).view(5, 2)}
    shares = [share_of(batch, r, 2) for r in range(2)]
    assert [own["index"].tolist() for own, _ in shares] == [[0, 2, 4], [1, 3]]
    assert [weight for _, weight in shares] == [1.2, 0.8]
    assert share_of(batch, 3, 8)[0]["index"].tolist() == [0, 1, 2, 3, 4]
