"""Bootstrap over cases: images of one case stay together. Knows sums over images, no more."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

LEAST_CASES = 3  # with fewer there is no interval


class Sample(NamedTuple):
    """Weights of cases in each bootstrap resample, the first row all ones: (1 + B, case)."""

    weights: ndarray
    case_of: ndarray

    def interval(self, values: ndarray) -> ndarray:
        """Of statistics (1 + B, ...): the statistic, low and high, stacked in front (3, ...)."""
        if self.weights.shape[1] < LEAST_CASES:
            nothing = np.full_like(values[0], np.nan)
            return np.stack([values[0], nothing, nothing])
        low, high = _percentiles(values[1:])
        return np.stack([values[0], low, high])

    def ratios(self, above: ndarray, below: ndarray) -> ndarray:
        """Σ above / Σ below over the images of each resample (1 + B, ...); given (image, ...)."""
        sums = [self.weights @ self.by_case(x.reshape(len(x), -1)) for x in (above, below)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return (sums[0] / sums[1]).reshape(-1, *above.shape[1:])

    def ratio(self, above: ndarray, below: ndarray) -> ndarray:
        """Interval (3, ...) of `ratios`."""
        return self.interval(self.ratios(above, below))

    def by_case(self, values: ndarray) -> ndarray:
        """Sums over the images of each case: (image, ...) -> (case, ...)."""
        total = np.zeros((self.weights.shape[1], *values.shape[1:]))
        np.add.at(total, self.case_of, np.nan_to_num(values))
        return total


def _percentiles(values: ndarray) -> ndarray:
    some = np.isfinite(values).any(0)
    filled = np.where(some, values, 0)
    filled = np.where(np.isfinite(filled), filled, np.nan)
    return np.where(some, np.nanpercentile(filled, (2.5, 97.5), axis=0), np.nan)


def resample(case_ids: Sequence[str] | ndarray, resamples: int, seed: int) -> Sample:
    """The cases of each image and `resamples` bootstrap draws of them."""
    cases, case_of = np.unique(np.asarray(case_ids).astype(str), return_inverse=True)
    share = np.full(len(cases), 1 / len(cases))
    drawn = np.random.default_rng(seed).multinomial(len(cases), share, size=resamples)
    return Sample(np.vstack([np.ones(len(cases)), drawn]), case_of)
