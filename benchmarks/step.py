"""One training step of each confusion head as a ratio to the plain U-Net, on one thread.

    python benchmarks/step.py

Forward, loss, backward and Adam on 32 images of 28×28 with 5 annotators (2 classes), as in
the reduced profile, and with 8 classes. Heads take turns, so a drifting machine hits all.
"""

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


def stepper(head, n_classes, dominance):
    """A function that takes one step and returns its CPU seconds."""
    trunk = models.UNet(1, WIDTH, depth=3)
    model = models.SegmentationModel(trunk, n_classes, HEADS[head](trunk, n_classes))
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    image = torch.rand(BATCH, 1, SIZE, SIZE)
    labels = torch.randint(0, n_classes, (BATCH, ANNOTATORS, SIZE, SIZE))
    target = torch.rand(BATCH, n_classes, SIZE, SIZE).softmax(1)
    weights = dict(trace_weight=0.1, dominance_weight=5.0 if dominance else 0.0, from_logits=True)

    def step():
        since = time.process_time()
        out = model(image)
        if out.confusion is None:
            loss = losses.soft_cross_entropy(out.logits.log_softmax(1), target)
        else:
            loss = losses.disentangling_loss(out.logits, out.confusion, labels, **weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return time.process_time() - since

    return step


def main():
    torch.set_num_threads(1)
    for n_classes in (2, 8):
        steps = {head: stepper(head, n_classes, dominance=False) for head in HEADS}
        steps["per-pixel + dominance"] = stepper("per-pixel", n_classes, dominance=True)
        seconds = {head: [] for head in steps}
        for _ in range(ROUNDS + 2):
            for head, step in steps.items():
                seconds[head].append(step())
        plain = seconds["plain U-Net"][2:]
        for head, values in seconds.items():
            ratios = sorted(v / p for v, p in zip(values[2:], plain, strict=True))
            middle = statistics.median(ratios)
            print(
                f"{n_classes} classes  {head:<22} {middle:5.2f} x plain"
                f"  (range {ratios[0]:.2f} to {ratios[-1]:.2f})"
            )


if __name__ == "__main__":
    main()
