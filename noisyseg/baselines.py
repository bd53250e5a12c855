"""Baselines of the paper's tables: what the method is compared with, and no part of it.

Known matrices (the oracle), one network per annotator, the loss as the authors released it, and
the Probabilistic U-Net (Kohl et al. 2018, arXiv 1806.05034): a latent variable of the whole
image decides which of the plausible segmentations is drawn. Settings of the last where the paper
is silent are those of its authors' public code: 6 latent dimensions, 2 convolutions after the
injection, KL weight 5 against a cross-entropy summed over pixels. Knows no optimiser.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from noisyseg.confusion import Confusion, GlobalConfusion
from noisyseg.limits import at_least_single, check_finite, check_log_probs
from noisyseg.models import Dims, Prediction, SegmentationModel, UNet, block, conv


class IgnorantConfusion(Confusion):
    """Annotators who answer from the image alone: every column of A⁽ʳ⁾ is q⁽ʳ⁾.

    What "one network per annotator" means in the language of confusion matrices; the trace
    is 1 everywhere and p plays no part. `log_probs` is log q (batch, annotator, true, *space).
    """

    def __init__(self, log_probs: Float[Tensor, "batch annotator reported *space"]) -> None:
        self.log_probs = at_least_single(log_probs)
        check_finite("log probabilities", self.log_probs)

    def log_likelihood(self, log_probs: Tensor, labels: Tensor) -> Tensor:
        """log q of what each annotator wrote."""
        return self.log_probs.gather(2, labels.clamp_min(0)[:, :, None]).squeeze(2)

    def dense(self) -> Tensor:
        """Every column is q."""
        columns = self.log_probs.exp()[:, :, :, None]
        return columns.expand(*columns.shape[:3], columns.shape[2], *columns.shape[4:])

    def apply(self, probs: Tensor) -> Tensor:
        """q, whatever p is."""
        return self.log_probs.exp()


class KnownHead(nn.Module):
    """Given matrices (annotator, reported, true) that training never changes: the oracle."""

    log_table: Tensor

    def __init__(self, matrices: Float[Tensor, "annotator reported true"]) -> None:
        super().__init__()
        self.register_buffer("log_table", matrices.clamp_min(1e-6).log().float())

    def forward(self, features: Tensor) -> GlobalConfusion:
        """Only the batch size and the space of `features` matter."""
        return GlobalConfusion(self.log_table, features.shape[0], tuple(features.shape[2:]))


class SeparateModel(nn.Module):
    """One network per annotator; the truth is the mean of their outputs (paper section 4)."""

    def __init__(self, members: list[SegmentationModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Float[Tensor, "batch channel *space"]) -> Prediction:
        """(batch, channel, *space) -> log of the mean probability, and ignorant annotators."""
        log_q = torch.stack([m(image).logits.log_softmax(1) for m in self.members], 1)
        return Prediction(
            log_q.logsumexp(1) - math.log(len(self.members)), IgnorantConfusion(log_q)
        )


def released_loss(
    log_probs: Float[Tensor, "batch true *space"],
    confusion: Confusion,
    labels: Int[Tensor, "batch annotator *space"],
    trace_weight: float,
) -> Float[Tensor, ""]:
    """The loss of the authors' public code: cross-entropy of A·p *as if it were logits*.

    So a second softmax is taken of probabilities and a perfect fit still costs
    log(1 + (L−1)/e) an annotator. Means over batch and pixels, summed over annotators;
    labels that are missing, which that code cannot handle, are left out of the means.
    """
    check_log_probs(log_probs)
    noisy = at_least_single(confusion.apply(at_least_single(log_probs).exp()))
    trace = confusion.trace()
    total = noisy.new_zeros(())
    for r in range(labels.shape[1]):
        labelled = labels[:, r] >= 0
        count = labelled.sum().clamp_min(1)
        cost = F.cross_entropy(noisy[:, r], labels[:, r], ignore_index=-1, reduction="sum")
        total = (
            total + (cost + trace_weight * torch.where(labelled, trace[:, r], 0.0).sum()) / count
        )
    return total


LATENT = 6
KL_WEIGHT = 5.0


SAMPLES = 16
DRAWS_SEED = 0  # the same draws on every call


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
        generator = torch.Generator().manual_seed(DRAWS_SEED)
        noise = torch.randn(SAMPLES, LATENT, generator=generator).to(image.device)
        draws = [
            self.decode(features, prior.mean + prior.stddev * step).log_softmax(1) for step in noise
        ]
        log_p = torch.stack(draws, 1)
        return Prediction(
            log_p.logsumexp(1), None, log_p.argmax(2), Latent(self, image, features, prior)
        )
