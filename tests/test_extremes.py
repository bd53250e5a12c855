"""A tenth of the trial of extremes (`tests/trials/extremes.py`): finite, or a clear refusal."""

import pytest
import torch
from trials import extremes

from noisyseg import losses
from noisyseg.limits import NotFinite


def test_a_tenth_of_the_extremes_is_finite_or_refused():
    chosen = extremes.tries(seed=1)[::11]
    assert len(chosen) > 100
    assert {t.name: fault for t in chosen if (fault := extremes.fault_of(t))} == {}


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        (torch.tensor([torch.nan]), "NaN"),
        ({"a": (1.0, float("inf"))}, "infinite"),
        (ValueError("no"), "refused without a reason"),
        (IndexError("out of range"), "IndexError"),
    ],
)
def test_the_trial_can_fail(result, fault):
    def call():
        if isinstance(result, Exception):
            raise result
        return result

    assert extremes.fault_of(extremes.Try("x", call)).startswith(fault)


def test_a_score_that_is_no_number_is_named_with_the_remedy():
    scores, labels = torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1, 1, dtype=torch.long)
    matrices = torch.eye(2).view(1, 1, 2, 2, 1, 1)
    with pytest.raises(NotFinite, match="probs_or_logits: from nan.*lower learning_rate"):
        losses.disentangling_loss(scores + torch.nan, matrices, labels, from_logits=True)
