"""How wide each annotator draws beside the others, in pixels and in words.

Measured by the edges of the images (`calibrated`), with intervals over cases. Needs no estimate
of the truth and no network.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray

from noisyseg import calibrated
from noisyseg.report.biases import OTHERS
from noisyseg.report.bootstrap import LEAST_CASES

LEAST_OFFSET_PX = 0.5  # a smaller one is no difference in how wide somebody draws
OFFSETS = ["annotator", "class", "offset", "low", "high", "offset_mm", "clear", "text"]
AS_WIDE = "as wide as the others"
SAME_EDGES = "differs from the others in the size{}, but not where the images change most"


def beside_sizes(width: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Offsets in words that do not deny a size that clearly differs from that of the others."""
    rows = found[(found.beside == OTHERS) & found.clear & found.kind.isin(("over", "under"))]
    sizes = set(zip(rows.annotator, rows["class"], strict=True))
    several = width["class"].nunique() > 1
    said = [
        SAME_EDGES.format(f" of {row[2]}" if several else "")
        if (row.annotator, row[2]) in sizes and row.text.endswith(AS_WIDE)
        else row.text
        for row in width.itertuples()
    ]
    return width.assign(text=said)


def offsets(
    images: Float[ndarray, "image channel *space"],
    labels: Int[ndarray, "image annotator *space"],
    case_ids: Sequence[str] | ndarray,
    *,
    classes: Sequence[str],
    annotators: Sequence[str],
    spacing_mm: Sequence[float] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """How many pixels wider than the others each annotator draws each class, in words as well.

    Columns: annotator, class, offset with low and high (95 %, bootstrap over cases; negative =
    narrower), offset_mm (NaN unless the spacing is known and the same along all axes), clear, text.
    The edges of the images tell the annotators' outlines apart (`calibrated.calibrate`); what all
    annotators do alike cannot be seen. NaN for whoever follows no edge, or has nobody to be
    compared with. Images are read one at a time, and their order plays no part.
    """
    found = intervals(images, labels, len(classes), case_ids, resamples, seed)
    if len(set(case_ids)) < LEAST_CASES:
        found[1:] = np.nan
    follows = np.isfinite(found[0])
    found[:, :, follows.sum(0) < 2] = np.nan
    anywhere = (0, *range(2, labels.ndim))
    labelled = np.asarray((labels >= 0).any(anywhere))
    written = np.stack([(labels == c).any(anywhere) for c in range(len(classes))], 1)
    square = spacing_mm is not None and np.allclose(spacing_mm, spacing_mm[0])
    mm = float(spacing_mm[0]) if square and spacing_mm is not None else np.nan
    rows = []
    for r, name in enumerate(annotators):
        for c, klass in enumerate(classes[1:], start=1):
            if not labelled[r]:
                continue
            what = "" if len(classes) == 2 else klass
            offset, low, high = (float(v) for v in found[:, r, c])
            clear = abs(offset) >= LEAST_OFFSET_PX and (low > 0 or high < 0)
            if not written[r, c]:
                text = f"never writes {klass}"
            elif np.isfinite(offset):
                text = in_words(offset, mm, what, (low, high))
            else:
                text = nothing_to_say(what, alone=bool(follows[r, c]))
            rows.append((name, klass, offset, low, high, offset * mm, clear, text))
    return pd.DataFrame(rows, columns=OFFSETS)


def intervals(
    images: Float[ndarray, "image channel *space"],
    labels: Int[ndarray, "image annotator *space"],
    n_classes: int,
    case_ids: Sequence[str] | ndarray,
    resamples: int = 1000,
    seed: int = 0,
) -> Float[ndarray, "3 annotator class"]:
    """`calibrated.Calibration.relative` with its 95 % interval: value, low, high.

    Percentile bootstrap over cases: images of one case stay together. NaN where the share of
    resamples without a clear peak exceeds a half.
    """
    cases, of_image = np.unique(np.asarray(case_ids), return_inverse=True)
    by_case = np.zeros((len(cases), 3, labels.shape[1], n_classes, len(calibrated.LEVELS) + 1))
    for case, image, label in zip(of_image, images, labels, strict=True):
        by_case[case] += calibrated.contrast_sums(image, label, n_classes)
    draws = np.random.default_rng(seed).multinomial(
        len(cases), np.full(len(cases), 1 / len(cases)), resamples
    )
    flat = by_case.reshape(len(cases), -1)
    drawn = [calibrated.from_sums((d @ flat).reshape(by_case.shape[1:])).relative() for d in draws]
    spread = np.stack(drawn)
    unclear = np.isnan(spread).mean(0) > 0.5
    spread[:, unclear] = 0
    low, high = np.nanquantile(spread, (0.025, 0.975), axis=0)
    value = calibrated.from_sums(by_case.sum(0)).relative()
    return np.where(unclear | np.isnan(value), np.nan, np.stack([value, low, high]))


def in_words(
    offset: float, mm: float, what: str, interval: tuple[float, float] | None = None
) -> str:
    """An offset from the others in words.

    `mm`: of a pixel, or NaN; `what`: the class, empty if there is only one. Without `interval`
    the sentence has none; with one whose ends are NaN it says that there are too few cases.

    Examples:
        >>> in_words(1.24, np.nan, "")
        'draws 1.2 px wider than the others'
        >>> in_words(-1.0, 1.5, "lesion", (-1.2, -0.7))
        'draws lesion 1.0 px (0.7 to 1.2), or 1.5 mm, narrower than the others'
    """
    draws = f"draws {what}" if what else "draws"
    low, high = (np.nan, np.nan) if interval is None else interval
    if abs(offset) < LEAST_OFFSET_PX or low <= 0 <= high:
        return f"{draws} {AS_WIDE}"
    way, sign = ("wider", 1) if offset > 0 else ("narrower", -1)
    size = f"{sign * offset:.1f} px"
    if np.isfinite(low):
        ends = sorted((sign * low, sign * high))
        size += f" ({ends[0]:.1f} to {ends[1]:.1f})"
    elif interval is not None:
        size += " (too few cases for an interval)"
    if np.isfinite(mm):
        size += f", or {sign * offset * mm:.1f} mm,"
    return f"{draws} {size} {way} than the others"


def nothing_to_say(what: str, alone: bool) -> str:
    """Why nothing can be said about how wide somebody draws."""
    where = f" when drawing {what}" if what else ""
    if alone:
        return (
            f"is the only one who follows an edge in the image{where}, so there is nobody to "
            "compare how wide they draw with"
        )
    return f"follows no edge in the image{where}, so nothing can be said about how wide they draw"
