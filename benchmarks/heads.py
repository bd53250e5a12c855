"""What a confusion head costs: parameters, time of a training step, memory kept for backward.

    python benchmarks/heads.py [--out heads.csv]

For 2 and 8 classes, on the problem of `step.py`. Time and memory are ratios to the same U-Net
without a head. Memory is every tensor that autograd saves in the forward pass and the loss,
each storage once, without parameters; so the U-Net's own are on both sides of the ratio.
"""

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch
from step import ANNOTATORS, HEADS, problem, ratios, stepper

from noisyseg import models

COLUMNS = ["classes", "head", "rank", "parameters", "step_ratio", "memory_ratio"]
# The last rank is the number of classes: factors with twice the numbers of the matrix itself.
CASES = [
    (classes, head, rank)
    for classes, ranks in ((2, (1, 2)), (8, (1, 2, 8)))
    for head, rank in [("pixel", None), ("global", None), *(("low_rank", k) for k in ranks)]
]


def builder(head, rank):
    if head == "low_rank":
        return lambda trunk, n: models.LowRankHead(trunk, ANNOTATORS, n, 3.0, rank)
    return HEADS[{"pixel": "per-pixel"}.get(head, head)]


def saved_bytes(model, loss):
    """Bytes of the storages that `loss()` saves for the backward pass, parameters left out."""
    own, saved = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = loss()  # its graph holds every saved tensor, so that no address comes twice
    assert kept.requires_grad
    return sum(size for address, size in saved.items() if address not in own)


def measure(case):
    """The row of one of CASES."""
    torch.set_num_threads(1)
    classes, head, rank = case
    plain = problem(HEADS["plain U-Net"], classes)
    model, loss = problem(builder(head, rank), classes)
    parameters = sum(p.numel() for p in model.confusion.parameters())
    memory = saved_bytes(model, loss) / saved_bytes(*plain)
    times = ratios({"plain": stepper(*plain), "head": stepper(model, loss)})["head"]
    return *case, parameters, round(statistics.median(times), 2), round(memory, 2)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the table here too, as CSV")
    out = parser.parse_args().out
    # A process for each: what one head leaves with malloc changed the next one's time by 30 %.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        table = pd.DataFrame(pool.map(measure, CASES), columns=COLUMNS)
    table["rank"] = table["rank"].astype("Int64")  # whole numbers although some heads have none
    print(table.astype({"rank": object}).fillna("").to_string(index=False))
    if out:
        table.to_csv(out, index=False)


if __name__ == "__main__":
    main()
