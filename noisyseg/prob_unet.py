"""Probabilistic U-Net (Kohl et al. 2018, arXiv 1806.05034): a baseline of the paper's tables.

A latent variable of the whole image decides which of the plausible segmentations is drawn;
it models the annotators' spread and not who wrote what. Settings where the paper is silent
are those of its authors' public code: 6 latent dimensions, 2 convolutions after the
injection, KL weight 5 against a cross-entropy summed over pixels. Knows no optimiser.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from noisyseg.models import Dims, Prediction, UNet, block, conv

LATENT = 6
KL_WEIGHT = 5.0
SAMPLES = 16


class Encoder(nn.Module):
    """Image (and label) -> a Gaussian over the latent variable, axes independent."""

    def __init__(self, channels: int, width: int, depth: int, dims: Dims) -> None:
        super().__init__()
        widths = [channels, *(width * 2**level for level in range(depth))]
        self.down = nn.Sequential(
            *(
                block(dims, a, b, stride=1 if level == 0 else 2)
                for level, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
            )
        )
        self.out = nn.Linear(widths[-1], 2 * LATENT)

    def forward(self, x: Float[Tensor, "batch channel *space"]) -> "Independent[Any]":
        """Distribution over (batch, LATENT)."""
        mean, log_scale = self.out(self.down(x).flatten(2).mean(2)).float().chunk(2, 1)
        return Independent(Normal(mean, log_scale.clamp(-8, 8).exp()), 1)


class Latent(NamedTuple):
    """What the loss needs of one forward pass: the model, its input and its features."""

    model: "ProbUNet"
    image: Tensor
    features: Tensor
    prior: "Independent[Any]"

    def loss(self, labels: Int[Tensor, "batch annotator *space"]) -> Float[Tensor, ""]:
        """Negative evidence lower bound a pixel, of one label an image, drawn at random.

        Annotators who did not label an image are not drawn; unlabelled pixels do not count.
        """
        labelled = (labels >= 0).flatten(2).any(2)
        drawn = torch.multinomial(labelled.float(), 1)[:, 0]
        label = labels[torch.arange(len(labels), device=labels.device), drawn]
        known = label >= 0
        written = F.one_hot(label.clamp_min(0), self.model.classes).movedim(-1, 1)
        given = torch.cat((self.image, written * known[:, None]), 1)
        posterior = self.model.posterior(given)
        logits = self.model.decode(self.features, posterior.rsample())
        cost = F.cross_entropy(logits, label, ignore_index=-1, reduction="sum")
        divergence = kl_divergence(posterior, self.prior).sum()
        return (cost + KL_WEIGHT * divergence) / known.sum().clamp_min(1)


class ProbUNet(nn.Module):
    """A U-Net whose last features meet a latent variable of the whole image."""

    def __init__(self, trunk: UNet, channels: int, classes: int) -> None:
        super().__init__()
        self.trunk, self.classes = trunk, classes
        sizes = (trunk.width, trunk.depth, trunk.dims)
        self.prior = Encoder(channels, *sizes)
        self.posterior = Encoder(channels + classes, *sizes)
        self.combine = nn.Sequential(
            conv(trunk.dims, trunk.width + LATENT, trunk.width, kernel=1),
            nn.ReLU(inplace=True),
            conv(trunk.dims, trunk.width, trunk.width, kernel=1),
            nn.ReLU(inplace=True),
            conv(trunk.dims, trunk.width, classes, kernel=1),
        )

    def decode(
        self, features: Float[Tensor, "batch width *space"], latent: Float[Tensor, "batch latent"]
    ) -> Float[Tensor, "batch true *space"]:
        """Class scores of the segmentation that `latent` stands for."""
        space = features.shape[2:]
        spread = latent.view(*latent.shape, *[1] * len(space)).expand(-1, -1, *space)
        return self.combine(torch.cat((features, spread.to(features.dtype)), 1)).float()

    def forward(self, image: Float[Tensor, "batch channel *space"]) -> Prediction:
        """Training: what `Latent.loss` needs. Evaluation: the mean of SAMPLES draws from the
        prior, as log p, and their classes (batch, SAMPLES, *space); the same on every call."""
        features, prior = self.trunk(image), self.prior(image)
        if self.training:
            centre = self.decode(features, prior.mean)
            return Prediction(centre, None, latent=Latent(self, image, features, prior))
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(SAMPLES, LATENT, generator=generator).to(image.device)
        draws = [
            self.decode(features, prior.mean + prior.stddev * step).log_softmax(1) for step in noise
        ]
        log_p = torch.stack(draws, 1)
        return Prediction(
            log_p.logsumexp(1), None, log_p.argmax(2), Latent(self, image, features, prior)
        )
