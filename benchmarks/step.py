"""One training step of each confusion head as a ratio to the plain U-Net, on one thread.

    python benchmarks/step.py

Forward, loss, backward and Adam on 32 images of 28×28 with 5 annotators (2 classes), as in
the reduced profile, and with 8 classes. Heads take turns, so a drifting machine hits all.
"""

import argparse
import statistics
import time

import torch

from noisyseg import losses, models

BATCH, SIZE, ANNOTATORS, WIDTH, ROUNDS = 32, 28, 5, 12, 15
HEADS = {
    "plain U-Net": lambda trunk, n: None,
    "global": lambda trunk, n: models.GlobalHead(trunk, ANNOTATORS, n, 3.0),
    "per-pixel": lambda trunk, n: models.PixelHead(trunk, ANNOTATORS, n, 3.0),
    "low rank 1": lambda trunk, n: models.LowRankHead(trunk, ANNOTATORS, n, 3.0, 1),
}


def problem(head, n_classes, dominance=False):
    """A network with `head(trunk, n_classes)` and a function that gives the loss of its batch."""
    trunk = models.UNet(1, WIDTH, depth=3)
    model = models.SegmentationModel(trunk, n_classes, head(trunk, n_classes))
    image = torch.rand(BATCH, 1, SIZE, SIZE)
    labels = torch.randint(0, n_classes, (BATCH, ANNOTATORS, SIZE, SIZE))
    target = torch.rand(BATCH, n_classes, SIZE, SIZE).softmax(1)
    weights = dict(trace_weight=0.1, dominance_weight=5.0 if dominance else 0.0, from_logits=True)

    def loss():
        out = model(image)
        if out.confusion is None:
            return losses.soft_cross_entropy(out.logits.log_softmax(1), target)
        return losses.disentangling_loss(out.logits, out.confusion, labels, **weights)

    return model, loss


def stepper(model, loss):
    """A function that takes one step and returns its CPU seconds."""
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)

    def step():
        since = time.process_time()
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        return time.process_time() - since

    return step


def ratios(steps):
    """Sorted ratios of each step's seconds to those of the first of `steps`, taking turns."""
    seconds = [[step() for step in steps.values()] for _ in range(ROUNDS + 2)][2:]
    by_head = zip(*([s / row[0] for s in row] for row in seconds), strict=True)
    return dict(zip(steps, map(sorted, by_head), strict=True))


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    for n_classes in (2, 8):
        steps = {name: stepper(*problem(head, n_classes)) for name, head in HEADS.items()}
        dominant = problem(HEADS["per-pixel"], n_classes, dominance=True)
        steps["per-pixel + dominance"] = stepper(*dominant)
        for name, values in ratios(steps).items():
            print(
                f"{n_classes} classes  {name:<22} {statistics.median(values):5.2f} x plain"
                f"  (range {values[0]:.2f} to {values[-1]:.2f})"
            )


if __name__ == "__main__":
    main()
