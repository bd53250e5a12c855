"""Diagnostics: what the objective will choose, from annotations alone, and the swap monitor.

Theorem 1 of arXiv 2007.15963 chooses, among the truths that explain the labels, the one
with the least trace, and assumes that the mean confusion matrix is dominant. Both can be
computed for any candidate truth before training. During training `watch` says how far the
matrices are from the dominant set. Nothing here needs the truth.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noisyseg import metrics
from noisyseg.confusion import Confusion
from noisyseg.fusion import vote_shares
from noisyseg.limits import check_range

# Beyond these the monitor speaks. Good runs stay far away: outvoted pixels below 5 %.
OUTVOTED = 0.5  # more than half of the pixels against the annotators: no boundary effect
IGNORANT = 0.9  # share of pixels whose mean trace is within TRACE_NEAR_ONE of 1
TRACE_NEAR_ONE = 0.05
UNMARKED = 0.3  # of the estimate lies where no annotator is expected to mark its class
VANISHED = 1e-5  # a class predicted at less than this share of all pixels; lesions are small


def candidates(
    labels: Int[Tensor, "image annotator *space"],
    n_classes: int,
    truth: Int[Tensor, "image *space"] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Int[Tensor, "image *space"]]:
    """A family of candidate truths: what a reader would think of first.

    Each annotator's own mask (the vote where they have no label), the vote at every
    threshold from union to intersection ("foreground" is class 1 and above, the one most
    written), nothing but background, the swap of the vote (at each pixel the class that
    fewest wrote), and the real `truth` if it is given.
    """
    annotators = labels.shape[1]
    names = [f"annotator {r + 1}" for r in range(annotators)] if names is None else list(names)
    if len(names) != annotators:
        raise ValueError(f"{len(names)} names for {annotators} annotators: give one for each")
    check_range(labels, n_classes)
    shares = vote_shares(labels, n_classes)
    vote = shares.argmax(1)
    family = {
        name: torch.where(labels[:, r] >= 0, labels[:, r].long(), vote)
        for r, name in enumerate(names)
    }
    marked = shares[:, 1:].sum(1) * annotators
    foreground = shares[:, 1:].argmax(1) + 1
    for k in range(1, annotators + 1):
        reached = marked >= k - 1e-6
        family[f"at least {k} of {annotators}"] = torch.where(reached, foreground, 0)
    family["background everywhere"] = torch.zeros_like(vote)
    family["swap of the vote"] = shares.argmin(1)
    return family if truth is None else family | {"truth": truth.long()}


def assess(
    labels: Int[Tensor, "image annotator *space"],
    family: Mapping[str, Int[Tensor, "image *space"]],
    n_classes: int,
    margin: float = 0.1,
) -> pd.DataFrame:
    """One row a candidate: its trace, where it is dominant, and its Dice with "truth".

    - `trace`: the least mean trace of matrices that explain every label. The candidate's
      column is given (1 on the diagonal where the annotator agrees), the others are free
      and go to 0, so it is the share of agreeing annotators, mean over labelled pixels.
    - `pixel_share`: share of pixels where the candidate's class leads the vote by `margin`:
      dominance at the pixel.
    - `class_margin`: the least lead of a diagonal in the mean class-level matrix.
    - `classes`: how many classes it uses. `dice`: mean foreground Dice with the candidate
      "truth" (both empty = 1), NaN without one.
    """
    check_range(labels, n_classes)
    shares = vote_shares(labels, n_classes)
    seen = (labels >= 0).any(1)
    rows = []
    for name, mask in family.items():
        own = shares.gather(1, mask[:, None]).squeeze(1)
        rival = shares.scatter(1, mask[:, None], -1.0).amax(1)
        matrix = _class_matrix(labels, mask, n_classes)
        used = matrix.sum(0) > 0
        lead = _leads(matrix)[used]
        rows.append(
            {
                "candidate": name,
                "trace": float(own[seen].mean()),
                "pixel_share": float((own - rival >= margin - 1e-6)[seen].double().mean()),
                "class_margin": float(lead.min()),
                "classes": int(used.sum()),
                "dice": _foreground_dice(mask, family.get("truth"), n_classes),
            }
        )
    return pd.DataFrame(rows)


def _class_matrix(labels: Tensor, mask: Tensor, n_classes: int) -> Float[Tensor, "reported true"]:
    """Mean over annotators of p(reported | candidate); a column nobody saw is 0."""
    matrices = []
    for r in range(labels.shape[1]):
        here = labels[:, r] >= 0
        cell = labels[:, r][here].long() * n_classes + mask[here]
        counts = torch.bincount(cell, minlength=n_classes**2).view(n_classes, n_classes)
        matrices.append(counts.double())
    counts = torch.stack(matrices)
    columns = counts.sum(1, keepdim=True)
    who = (columns > 0).double()
    return (counts / columns.clamp_min(1)).sum(0) / who.sum(0).clamp_min(1)


def _foreground_dice(mask: Tensor, truth: Tensor | None, n_classes: int) -> float | None:
    return None if truth is None else float(metrics.dice(mask, truth, n_classes)[:, 1:].mean())


def _leads(matrix: Float[Tensor, "reported true"]) -> Float[Tensor, " true"]:
    """By how much each diagonal entry leads its column."""
    diagonal = matrix.diagonal()
    return diagonal - (matrix - 2 * torch.diag_embed(torch.ones_like(diagonal))).amax(0)


def choice(table: pd.DataFrame, level: str = "none", margin: float = 0.1) -> str:
    """The candidate of least trace among those that `level` admits.

    "none": all. "pixel": dominant at as many pixels as any (ties of a vote are dominant
    for nobody).
    "class": all classes used and `class_margin` at least `margin`. Raises ValueError when
    no candidate is admitted.
    """
    admitted = {
        "none": table.trace >= 0,
        "pixel": table.pixel_share >= table.pixel_share.max() - 1e-9,
        "class": (table.class_margin >= margin) & (table.classes == table.classes.max()),
    }
    if level not in admitted:
        raise ValueError(f"unknown level {level!r}; allowed: {', '.join(admitted)}")
    if not admitted[level].any():
        raise ValueError(
            f"no candidate is dominant at level {level!r} by a margin of {margin}: these "
            "annotators together are wrong about some class; lower the margin or add annotators"
        )
    kept = table[admitted[level]]
    return str(kept.candidate[kept.trace.idxmin()])


def watch(
    confusion: Confusion,
    probs: Float[Tensor, "batch true *space"],
    seen: Bool[Tensor, "batch *space"] | None = None,
) -> dict[str, float]:
    """How a batch stands to the dominant set, without truth; every value finite.

    `seen`: the pixels to look at, those that somebody labelled; None for all.

    `mean_trace` (L faithful, 1 ignorant, 0 swapped); `off_pixel`: share of pixels where the
    annotators together are not expected to report the predicted class; `class_margin`: the
    least lead of a diagonal in the mean matrix over the pixels of each predicted class;
    `ignorant`: share of pixels whose mean trace is near 1; `smallest_class`: the share of
    pixels at which the rarest class is predicted; `unmarked`: of the pixels predicted as
    foreground, the share where no annotator is expected to write the predicted class (0 where
    nothing is predicted). It is 1 after a swap, and shows half a swap as well.
    """
    mean, trace = confusion.mean_dense(), confusion.trace().mean(1)
    predicted = probs.argmax(1)
    seen = torch.ones_like(predicted, dtype=torch.bool) if seen is None else seen
    index = predicted[:, None, None].expand(-1, mean.shape[1], 1, *probs.shape[2:])
    column = mean.gather(2, index).squeeze(2)  # what is reported where this class is predicted
    chosen = metrics.one_hot(predicted.flatten(1), probs.shape[1]).movedim(-1, 1)
    chosen = chosen * seen.flatten(1)[:, None]
    summed = torch.einsum("bijx,bjx->ij", mean.flatten(3), chosen.to(mean.dtype))
    share = chosen.float().sum((0, 2)) / seen.sum().clamp_min(1)
    reported = confusion.apply(probs).argmax(2)
    marked = (reported == predicted[:, None]).any(1)
    foreground = (predicted > 0) & seen

    def mean_seen(values: Tensor) -> float:
        return float(torch.where(seen, values.float(), 0).sum() / seen.sum().clamp_min(1))

    return {
        "mean_trace": mean_seen(trace),
        "off_pixel": mean_seen(column.argmax(1) != predicted),
        "class_margin": float(_leads(summed / summed.sum(0).clamp_min(1e-12))[share > 0].min()),
        "ignorant": mean_seen((trace - 1).abs() < TRACE_NEAR_ONE),
        "smallest_class": float(share.min()),
        "unmarked": float((foreground & ~marked).sum() / foreground.sum().clamp_min(1)),
    }


def warning(row: Mapping[str, float], needs_matrices: bool = True) -> str | None:
    """What is wrong with a row of `watch`, the number and the remedy; None if nothing is.

    `needs_matrices`: whether the truth is learned through these matrices, so that matrices which
    ignore it leave it undetermined (Eq. 4; ours learns it from calibrated labels).
    """
    if "off_pixel" not in row:
        return None
    remedy = (
        "Lower trace_weight, hold it back at first (warm_up='hold', warm_up_epochs=…), or use "
        "method='calibrated'."
        if needs_matrices
        else "Train longer, or look at the annotators with diagnostics.assess."
    )
    if row["off_pixel"] > OUTVOTED or row["class_margin"] < 0:
        return (
            f"label swap? At {row['off_pixel']:.0%} of the pixels the annotators together are not "
            f"expected to report the predicted class (class-level margin "
            f"{row['class_margin']:.2f}): the confusion matrices left the dominant set. " + remedy
        )
    if row.get("unmarked", 0.0) > UNMARKED:
        return (
            f"half a label swap? {row['unmarked']:.0%} of the predicted foreground lies where "
            f"no annotator is expected to mark it. {remedy}"
        )
    if row["smallest_class"] < VANISHED:
        return (
            f"a class has vanished: it is predicted at {row['smallest_class']:.4%} of the pixels, "
            f"as on the way to a label swap. {remedy}"
        )
    if needs_matrices and row["ignorant"] > IGNORANT:
        return (
            f"the confusion matrices ignore the truth: the trace is near 1 at "
            f"{row['ignorant']:.0%} of the pixels, so the labels say nothing about the truth. "
            "Start nearer to the identity (init_diagonal=3), or use method='calibrated'."
        )
    return None
