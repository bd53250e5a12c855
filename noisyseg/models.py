"""Models: a U-Net and confusion heads on its last feature map, in 2-D and 3-D.

Paper section 3 and Fig. 1 of arXiv 2007.15963: one U-Net with instance norm whose last
features feed a segmentation head and the annotators' heads. Knows no loss and no label.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from noisyseg import likelihood
from noisyseg.confusion import Confusion

Dims = Literal[2, 3]


ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "relu": lambda channels: nn.ReLU(inplace=True),
    "prelu": nn.PReLU,
}


class Prediction(NamedTuple):
    """What a model says of a batch: class scores, log p up to a constant, and the annotators.

    `samples`: segmentations drawn from a model that has no annotators; `latent`: what its loss
    needs. `calibrated`: the matrices of calibrated labels, while a model of ours is trained.
    """

    logits: Float[Tensor, "batch true *space"]
    confusion: Confusion | None
    samples: Int[Tensor, "batch sample *space"] | None = None
    latent: Any = None
    calibrated: Confusion | None = None


def conv(dims: Dims, inputs: int, outputs: int, kernel: int = 3, **kwargs: Any) -> nn.Module:
    """A convolution that keeps the size of the image."""
    layer = nn.Conv2d if dims == 2 else nn.Conv3d
    return layer(inputs, outputs, kernel, padding=kernel // 2, **kwargs)


def _norm(dims: Dims, channels: int, activation: str) -> list[nn.Module]:
    norm = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
    return [norm(channels, affine=True), ACTIVATIONS[activation](channels)]


def block(
    dims: Dims, inputs: int, outputs: int, stride: int = 1, activation: str = "relu"
) -> nn.Sequential:
    """Two 3×3 convolutions, each with instance norm; the first one strides."""
    return nn.Sequential(
        conv(dims, inputs, outputs, stride=stride, bias=False),
        *_norm(dims, outputs, activation),
        conv(dims, outputs, outputs, bias=False),
        *_norm(dims, outputs, activation),
    )


class UNet(nn.Module):
    """U-Net trunk: (batch, channel, *space) -> (batch, width, *space), any image size.

    `depth` levels of width, 2·width, 4·width, …; strided convolutions down, linear
    interpolation up to the size of the skip connection, so odd sizes need no cropping. With
    "relu" all last features of a small object can be zero at once, and then no gradient reaches
    them (MS lesions); "prelu", as in the released code, cannot die.
    Raises ValueError when an image is too small for the depth, KeyError for another activation.
    """

    def __init__(
        self,
        channels: int,
        width: int = 32,
        depth: int = 4,
        dims: Dims = 2,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if dims not in (2, 3):
            raise ValueError(f"dims is {dims}: a U-Net has 2 or 3 spatial dimensions")
        widths = [width * 2**level for level in range(depth)]
        self.depth, self.dims, self.width, self.activation = depth, dims, width, activation
        self.down = nn.ModuleList(
            block(dims, a, b, 1 if level == 0 else 2, activation)
            for level, (a, b) in enumerate(zip([channels, *widths], widths, strict=False))
        )
        self.up = nn.ModuleList(
            block(dims, a + b, b, activation=activation)
            for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )

    def forward(self, image: Float[Tensor, "batch channel *space"]) -> Tensor:
        """Features of every pixel: (batch, width, *space)."""
        self._check_size(image)
        skips, x = [], image
        for block in self.down:
            x = block(x)
            skips.append(x)
        mode = "bilinear" if self.dims == 2 else "trilinear"
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = F.interpolate(x, skip.shape[2:], mode=mode, align_corners=False)
            x = block(torch.cat((skip, x), 1))
        return x

    def _check_size(self, image: Tensor) -> None:
        space = image.shape[2:]
        if len(space) != self.dims:
            raise ValueError(
                f"image has shape {tuple(image.shape)}, not (batch, channel, {self.dims} axes)"
            )
        deepest = [math.ceil(s / 2 ** (self.depth - 1)) for s in space]
        if math.prod(deepest) < 2:  # instance norm of one pixel is always zero
            fits = 1 + max(0, math.ceil(math.log2(max(space))) - 1)
            raise ValueError(
                f"image of {tuple(space)} is too small for depth {self.depth}: "
                f"use depth {fits} at most"
            )


def _set_bias(layer: nn.Module, values: Tensor) -> None:
    assert isinstance(layer.bias, Tensor)
    with torch.no_grad():
        layer.bias.copy_(values)


def _last(layer: nn.Module, features: Tensor, annotators: int) -> likelihood.Layer:
    """A 1×1 layer that is applied where its numbers are needed."""
    assert isinstance(layer.weight, Tensor) and isinstance(layer.bias, Tensor)
    weight = layer.weight.flatten(1).unflatten(0, (1, annotators, -1))
    return likelihood.Layer(features, weight, layer.bias.unflatten(0, (1, annotators, -1)))


class PixelHead(nn.Module):
    """Per-pixel matrices: one 3×3 block shared by all annotators, then a 1×1 layer.

    `init_diagonal` is added to the diagonal logits at the start, so that A[j, j] is about
    e^d / (e^d + L − 1) (paper 1.5 asks for a start near the identity).
    """

    def __init__(self, trunk: UNet, annotators: int, classes: int, init_diagonal: float) -> None:
        super().__init__()
        self.shape = (annotators, classes, classes)
        self.shared = nn.Sequential(
            conv(trunk.dims, trunk.width, trunk.width, bias=False),
            *_norm(trunk.dims, trunk.width, trunk.activation),
        )
        self.out = conv(trunk.dims, trunk.width, math.prod(self.shape), kernel=1)
        _set_bias(self.out, (init_diagonal * torch.eye(classes)).flatten().repeat(annotators))

    def forward(self, features: Tensor) -> Confusion:
        """(batch, width, *space) -> matrices of the batch."""
        layer = _last(self.out, self.shared(features), self.shape[0])
        return likelihood.pixel_confusion(layer, self.shape[1])


class GlobalHead(nn.Module):
    """One learned matrix an annotator (Tanno et al. 2019, arXiv 1902.03680)."""

    def __init__(self, trunk: UNet, annotators: int, classes: int, init_diagonal: float) -> None:
        super().__init__()
        start = init_diagonal * torch.eye(classes)
        self.logits = nn.Parameter(start.repeat(annotators, 1, 1))

    def forward(self, features: Tensor) -> likelihood.TableConfusion:
        """Only the batch size and the space of `features` matter."""
        table = self.logits.log_softmax(1)
        return likelihood.TableConfusion(table, features.shape[0], tuple(features.shape[2:]))


class LowRankHead(nn.Module):
    """Factors B₁, B₂ and s of `LowRankConfusion`: 2·L·rank + 1 numbers a pixel and annotator."""

    def __init__(
        self, trunk: UNet, annotators: int, classes: int, init_diagonal: float, rank: int
    ) -> None:
        super().__init__()
        self.rank, self.classes, self.annotators = rank, classes, annotators
        self.shared = nn.Sequential(
            conv(trunk.dims, trunk.width, trunk.width, bias=False),
            *_norm(trunk.dims, trunk.width, trunk.activation),
        )
        self.out = conv(trunk.dims, trunk.width, annotators * (2 * classes * rank + 1), kernel=1)
        factor = math.sqrt(
            math.exp(-init_diagonal) / rank
        )  # s = 1, so A_ij ≈ e^-d off the diagonal
        start = torch.full((annotators, 2 * classes * rank + 1), math.log(math.expm1(factor)))
        start[:, -1] = math.log(math.expm1(1.0))
        _set_bias(self.out, start.flatten())

    def forward(self, features: Tensor) -> Confusion:
        """(batch, width, *space) -> factored matrices of the batch."""
        layer = _last(self.out, self.shared(features), self.annotators)
        return likelihood.low_rank_confusion(layer, self.classes, self.rank)


class SegmentationModel(nn.Module):
    """A U-Net with a 1×1 segmentation head and, where given, a confusion head."""

    def __init__(
        self,
        trunk: UNet,
        classes: int,
        confusion_head: nn.Module | None = None,
        calibrated_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.segmentation = conv(trunk.dims, trunk.width, classes, kernel=1)
        self.confusion = confusion_head
        self.calibrated = calibrated_head

    def forward(self, image: Float[Tensor, "batch channel *space"]) -> Prediction:
        """(batch, channel, *space) -> logits (batch, true, *space) and confusion matrices."""
        features = self.trunk(image)
        confusion = None if self.confusion is None else self.confusion(features)
        logits = self.segmentation(features).float()
        if self.calibrated is None or not self.training:
            return Prediction(logits, confusion)
        return Prediction(logits, confusion, calibrated=self.calibrated(features))
