"""One image or whole volumes: a trained model over every slice, or over overlapping patches.

`predict_image` is the one way from an array to a network: the report's estimate and all
predictions go through it, one image at a time, so that they are equal to the bit.
Arrays in, arrays out; `data_prep.predict` reads and writes the files. Two-dimensional models
go through a volume slice by slice, three-dimensional ones take it whole or in patches.
"""

from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, Float32, Int8
from numpy import ndarray
from torch import Tensor, nn

from noisyseg.metrics import entropy


class VolumePrediction(NamedTuple):
    """What a model says of one volume or image, float32 on its grid.

    `probs` (true, *space) = p(truth), `noisy_probs` (annotator, reported, *space) = what each
    annotator would write, None for a model without annotators.
    """

    probs: Float32[ndarray, "true *space"]
    noisy_probs: Float32[ndarray, "annotator reported *space"] | None

    @property
    def truth(self) -> Int8[ndarray, "*space"]:
        """The most probable class of each voxel."""
        return self.probs.argmax(0).astype(np.int8)

    @property
    def annotators(self) -> Int8[ndarray, "annotator *space"] | None:
        """The class each annotator would most probably write."""
        return None if self.noisy_probs is None else self.noisy_probs.argmax(1).astype(np.int8)

    @property
    def uncertainty(self) -> Float32[ndarray, "*space"]:
        """Entropy of p, divided by log(classes): 0 is certain, 1 knows nothing."""
        probs = torch.from_numpy(np.ascontiguousarray(self.probs, np.float32))
        return entropy(probs[None])[0].numpy()


@torch.no_grad()
def predict_image(model: nn.Module, image: ndarray) -> VolumePrediction:
    """What `model` says of one image (channel, *space), as it was prepared for training.

    Alone, because sums over a batch may be rounded in another way than those over one image.
    """
    model.eval()
    alone = torch.from_numpy(np.array(image, np.float32, order="C"))[None]
    values, classes = _stacked(model, alone.to(_device(model)))
    return _split(values[0].cpu().numpy(), classes)


@torch.no_grad()
def predict_volume(
    model: nn.Module,
    volume: ndarray,
    *,
    axis: int = -1,
    batch_size: int = 16,
    patch: tuple[int, int, int] | None = None,
    overlap: float = 0.5,
) -> VolumePrediction:
    """Predict `volume`, as normalised for training, on the device of the model.

    Args:
        model: what `run.model()` gives.
        volume: (channel, x, y, z).
        axis: of the three axes of space, the one across which a 2-D model sees slices.
        batch_size: patches at a time; slices go alone, see `predict_image`.
        patch: voxels of a patch for a 3-D model, which else sees all of the volume. MONAI's
            sliding window with Gaussian weights puts them together (needs the package monai).
        overlap: of two patches, as a share.

    Raises ValueError for a volume that does not fit.

    Examples:
        >>> from noisyseg.models import SegmentationModel, UNet
        >>> untrained = SegmentationModel(UNet(1, width=4, depth=2), classes=2)
        >>> found = predict_volume(untrained, np.zeros((1, 8, 8, 3)))
        >>> found.truth.shape, found.uncertainty.shape
        ((8, 8, 3), (8, 8, 3))
    """
    dims = space_axes(model)
    if volume.ndim != 4 or 0 in volume.shape:
        raise ValueError(f"volume has shape {volume.shape}; give (channel, x, y, z)")
    if not np.isfinite(volume).all():
        raise ValueError("the volume holds NaN or infinite voxels; mend or mask them first")
    if dims == 2 and patch is not None:
        raise ValueError("patch is for 3-D models; a 2-D model sees whole slices")
    model.eval()
    if dims == 2:
        return _by_slices(model, volume, axis % 3)
    if patch is None:
        return predict_image(model, volume)
    image = torch.from_numpy(np.ascontiguousarray(volume, np.float32))[None].to(_device(model))
    classes = 0

    def forward(x: Tensor) -> Tensor:
        nonlocal classes
        values, classes = _stacked(model, x)
        return values

    from monai.inferers.utils import sliding_window_inference

    found = sliding_window_inference(image, patch, batch_size, forward, overlap, "gaussian")
    values = cast(Tensor, found)
    return _split(values[0].cpu().numpy(), classes)


def _by_slices(
    model: nn.Module, volume: Float[ndarray, "channel x y z"], axis: int
) -> VolumePrediction:
    found = [predict_image(model, one) for one in np.moveaxis(volume, axis + 1, 0)]
    probs = np.stack([one.probs for one in found], axis + 1)
    noisy = [one.noisy_probs for one in found if one.noisy_probs is not None]
    return VolumePrediction(probs, np.stack(noisy, axis + 2) if noisy else None)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def space_axes(model: nn.Module) -> int:
    """Space dimensions of the images the model was built for."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return 2 if isinstance(module, nn.Conv2d) else 3
    raise ValueError(f"{type(model).__name__} has no convolution: it is no segmentation model")


def _stacked(
    model: nn.Module, image: Float[Tensor, "batch channel *space"]
) -> tuple[Float[Tensor, "batch value *space"], int]:
    """p and, below it, what each annotator would write, as one tensor; the number of classes."""
    out = model(image)
    probs = out.logits.softmax(1)
    classes = probs.shape[1]
    if out.confusion is None:
        return probs, classes
    return torch.cat((probs, out.confusion.apply(probs).flatten(1, 2)), 1), classes


def _split(values: Float[ndarray, "value *space"], classes: int) -> VolumePrediction:
    noisy = values[classes:].reshape(-1, classes, *values.shape[1:])
    return VolumePrediction(values[:classes], noisy if len(noisy) else None)
