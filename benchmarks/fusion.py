"""Our STAPLE against SimpleITK's on 256 images of 128×128 with 5 annotators.

    python benchmarks/fusion.py

Prints our time as a ratio to SimpleITK's, the two taking turns, with one thread each and
with the threads each takes by default; 1 or less is what we ask.
Smooth blobs; annotators dilate, erode or move them. Multi-class STAPLE is compared with
MultiLabelSTAPLE. Spatial STAPLE has no counterpart in SimpleITK and is shown beside it.
"""

import argparse
import statistics
import time

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from noisyseg import fusion

IMAGES, SIZE, ROUNDS = 256, 128, 5


def blobs(n_classes, seed=0):
    """Labels (image, annotator, height, width) of five annotators with habits of their own."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(IMAGES, SIZE, SIZE)), (0, 8, 8))
    edges = np.quantile(noise, np.linspace(0.7, 0.95, n_classes - 1))
    habits = (0.0, 0.15, -0.15, 0.05, -0.05)
    labels = []
    for habit in habits:
        own = ndimage.gaussian_filter(rng.normal(size=noise.shape), (0, 3, 3))
        shifted = noise / noise.std() + habit + 0.1 * own / own.std()
        labels.append(np.digitize(shifted * noise.std(), edges))
    return np.stack(labels, 1)


def simpleitk(labels, n_classes):
    """Every image by itself, as one calls it."""
    for image in labels.astype(np.uint8):
        masks = [sitk.GetImageFromArray(mask) for mask in image]
        if n_classes == 2:
            run = sitk.STAPLEImageFilter()
            run.SetForegroundValue(1)
        else:
            run = sitk.MultiLabelSTAPLEImageFilter()
            run.SetLabelForUndecidedPixels(255)
        sitk.GetArrayFromImage(run.Execute(masks))


def seconds(function, *inputs):
    since = time.perf_counter()
    function(*inputs)
    return time.perf_counter() - since


def use_threads(ours, theirs):
    torch.set_num_threads(ours)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(theirs)


def compare(n_classes, threads):
    labels = blobs(n_classes)
    tensor = torch.from_numpy(labels)
    pairs = [
        (seconds(fusion.staple, tensor, n_classes), seconds(simpleitk, labels, n_classes))
        for _ in range(ROUNDS)
    ]
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    spatial = seconds(fusion.spatial_staple, tensor[:32], n_classes) * IMAGES / 32
    spatial /= statistics.median(theirs for _, theirs in pairs)
    print(
        f"{n_classes} classes, {threads}  STAPLE {statistics.median(ratios):.2f} x SimpleITK "
        f"(range {ratios[0]:.2f} to {ratios[-1]:.2f}); "
        f"Spatial STAPLE {spatial:.1f} x SimpleITK's STAPLE",
        flush=True,
    )


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    ).parse_args()
    default = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    for n_classes in (2, 4):
        use_threads(1, 1)
        compare(n_classes, "one thread each")
        if default != (1, 1):
            use_threads(*default)
            compare(n_classes, f"threads by default ({default[0]} and {default[1]})")


if __name__ == "__main__":
    main()
