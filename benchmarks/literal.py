"""The method as one would type it from its description: what `bench.py` compares with.

Each annotator has a head of four 3×3 convolutions that ends in all L² numbers of a matrix at each
pixel; matrices are multiplied with the probabilities in one batch of products, and the likelihood
is read from the result. Trains the same loss (Eq. 4 of arXiv 2007.15963) as `noisyseg`.
"""

import torch
from torch import nn

LAYERS = 4
SMALL = 1e-10


class LiteralModel(nn.Module):
    """`trunk` with a segmentation head and one deep head an annotator."""

    def __init__(self, trunk, annotators, classes):
        super().__init__()
        self.trunk, self.classes = trunk, classes
        self.segmentation = nn.Conv2d(trunk.width, classes, 1)
        self.heads = nn.ModuleList(head(trunk.width, classes) for _ in range(annotators))

    def forward(self, image):
        """Probabilities (batch, true, *space) and one (batch, reported, true, *space) a head."""
        features = self.trunk(image)
        matrices = [h(features).unflatten(1, (self.classes, -1)).softmax(1) for h in self.heads]
        return self.segmentation(features).softmax(1), matrices


def head(width, classes):
    hidden = [
        layer
        for _ in range(LAYERS - 1)
        for layer in (nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*hidden, nn.Conv2d(width, classes**2, 3, padding=1))


def literal_loss(probs, matrices, labels, trace_weight):
    """Mean over annotators of −log (A·p)[label] plus `trace_weight` times the mean trace."""
    classes = probs.shape[1]
    vectors = probs.movedim(1, -1).reshape(-1, classes, 1)
    total = 0.0
    for r, matrix in enumerate(matrices):
        each = matrix.movedim((1, 2), (-2, -1)).reshape(-1, classes, classes)
        noisy = torch.bmm(each, vectors)[:, :, 0]
        written = noisy.gather(1, labels[:, r].reshape(-1, 1))
        trace = each.diagonal(dim1=1, dim2=2).sum(1)
        total = total - (written + SMALL).log().mean() + trace_weight * trace.mean()
    return total / len(matrices)
