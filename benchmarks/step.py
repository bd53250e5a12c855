"""One training step of each method's network as a ratio to the plain U-Net, and calibration.

    python benchmarks/step.py

Forward, loss, backward and Adam on 32 images of 28×28 with 5 annotators (2 classes), as in
the reduced profile, and with 8 classes; all on one thread. They take turns, so a drifting machine
hits all. Then `calibrate` and `calibrated_labels` on masks of 128×128.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from scipy import ndimage

import noisyseg as ns
from noisyseg import build, losses, models

BATCH, SIZE, ANNOTATORS, WIDTH, ROUNDS = 32, 28, 5, 12, 15
IMAGES, SIDE = 100, 128
HEADS = {
    "plain U-Net": lambda trunk, n: None,
    "global": lambda trunk, n: models.GlobalHead(trunk, ANNOTATORS, n, 3.0),
    "per-pixel": lambda trunk, n: models.PixelHead(trunk, ANNOTATORS, n, 3.0),
    "low rank 1": lambda trunk, n: models.LowRankHead(trunk, ANNOTATORS, n, 3.0, 1),
}


def problem(head, n_classes, hinge=0.0):
    """A network with `head(trunk, n_classes)` and a function that gives the loss of its batch."""
    trunk = models.UNet(1, WIDTH, depth=3)
    model = models.SegmentationModel(trunk, n_classes, head(trunk, n_classes))
    image, labels = batch(n_classes)
    target = torch.rand(BATCH, n_classes, SIZE, SIZE).softmax(1)

    def loss():
        out = model(image)
        if out.confusion is None:
            return losses.soft_cross_entropy(out.logits.log_softmax(1), target)
        return losses.disentangling_loss(
            out.logits,
            out.confusion,
            labels,
            trace_weight=0.1,
            dominance_weight=hinge,
            from_logits=True,
        )

    return model, loss


def batch(n_classes):
    """Random images and labels."""
    image = torch.rand(BATCH, 1, SIZE, SIZE)
    return image, torch.randint(0, n_classes, (BATCH, ANNOTATORS, SIZE, SIZE))


def calibrated(n_classes):
    """`problem` of the calibrated method in its second, costlier phase: two heads and the hinge."""
    cfg = ns.ExperimentConfig.preset("mnist", "reduced", "calibrated", width=WIDTH)
    shape = {"channels": 1, "classes": range(n_classes), "annotators": range(ANNOTATORS), "dims": 2}
    model, loss_of = build.build_model(cfg, shape), build.objective(cfg)
    image, labels = batch(n_classes)
    given = {"labels": labels, "calibrated": labels, "weight": torch.ones(BATCH, ANNOTATORS)}
    return model, lambda: loss_of(model(image), given, cfg.epochs)


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


def drawn(diameter):
    """Discs of about `diameter` in noise; 5 annotators, of whom four draw 1 or 2 pixels off."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    centre = rng.uniform(diameter / 2, SIDE - diameter / 2, (IMAGES, 2, 1, 1))
    radius = rng.uniform(0.4, 0.5, (IMAGES, 1, 1)) * diameter
    truth = np.hypot(y - centre[:, 0], x - centre[:, 1]) < radius
    images = rng.normal(truth, 0.2).astype(np.float32)[:, None]
    cross = ndimage.generate_binary_structure(2, 1)[None]
    wider = [ndimage.binary_dilation(truth, cross, iterations=k) for k in (1, 2)]
    narrower = [ndimage.binary_erosion(truth, cross, iterations=k) for k in (1, 2)]
    return images, np.stack([truth, *wider, *narrower], 1).astype(np.int8)


def calibration_seconds(diameter):
    """CPU seconds of the two steps of calibration for each 10,000 masks."""
    images, labels = drawn(diameter)
    since = time.process_time()
    found = ns.calibrate(images, labels, 2)
    half = time.process_time()
    ns.calibrated_labels(labels, found.shift())
    scale = 10_000 / (labels.shape[0] * labels.shape[1])
    return (half - since) * scale, (time.process_time() - half) * scale


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    for n_classes in (2, 8):
        steps = {name: stepper(*problem(head, n_classes)) for name, head in HEADS.items()}
        steps["per-pixel + hinge"] = stepper(*problem(HEADS["per-pixel"], n_classes, hinge=5.0))
        steps["calibrated"] = stepper(*calibrated(n_classes))
        for name, values in ratios(steps).items():
            print(
                f"{n_classes} classes  {name:<22} {statistics.median(values):5.2f} x plain"
                f"  (range {values[0]:.2f} to {values[-1]:.2f})"
            )
    for diameter in (30, 100):
        first, second = calibration_seconds(diameter)
        print(
            f"10,000 masks of {SIDE}×{SIDE}, objects of {diameter} pixels: calibrate {first:.1f} s"
            f" + calibrated_labels {second:.1f} s = {first + second:.1f} s"
        )


if __name__ == "__main__":
    main()
