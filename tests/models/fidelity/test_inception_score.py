"""The inception score of posteriors whose score is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.fidelity.inception_score import inception_score


def test_as_many_as_there_are_classes_when_all_occur_alike_and_none_is_in_doubt() -> None:
    assert inception_score(torch.eye(5).repeat(3, 1)) == pytest.approx(5)
    assert inception_score(torch.eye(5)[:1].repeat(7, 1)) == pytest.approx(1)
    assert inception_score(torch.full((7, 5), 0.2)) == pytest.approx(1)


def test_by_hand() -> None:
    posterior = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    # KL(first | mean) = ln(4 / 3); KL(second | mean) = (ln(2 / 3) + ln 2) / 2
    expected = (torch.tensor(4 / 3).log() + (torch.tensor(2 / 3).log() + torch.tensor(2.0).log()) / 2) / 2
    assert inception_score(posterior) == pytest.approx(float(expected.exp()), rel=1e-6)


@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 6))
def test_between_one_and_the_number_of_classes(seed: int, count: int, classes: int) -> None:
    posterior = (3 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))).softmax(-1)
    assert 1 - 1e-9 <= inception_score(posterior) <= classes + 1e-9


def test_what_is_no_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        inception_score(torch.ones(3, 2))
    with pytest.raises(ValueError, match="probabilities"):
        inception_score(torch.tensor([[1.5, -0.5]]))
