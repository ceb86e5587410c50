"""Intervals that hold the truth as often as they say, and halves that share nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.fidelity.action_response import median
from models.fidelity.bootstrap import bootstrap, halves


def test_the_interval_of_a_mean_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for turn in range(200):
        values = torch.randn(40, generator=generator)
        found = bootstrap(lambda index, values=values: float(values[index].mean()), (40,), seed=turn)
        assert found.low <= found.value <= found.high
        hits += found.low <= 0 <= found.high
    assert 180 <= hits <= 199


def test_a_centred_interval_lies_about_the_value() -> None:
    """The number of different clips is smaller in every resample; centred, the interval holds the value all the same."""
    plain, centred = (bootstrap(lambda index: float(len(index.unique())), (50,), centred=centred) for centred in (False, True))
    assert plain.high < plain.value
    assert centred.low < centred.value < centred.high
    assert math.isclose(centred.high - centred.low, plain.high - plain.low)


def test_no_interval_where_there_is_no_value() -> None:
    found = bootstrap(lambda index: math.nan, (5,))
    assert math.isnan(found.value)
    assert math.isnan(found.low)


@given(st.lists(st.integers(0, 9), min_size=8, max_size=40), st.integers(0, 99))
def test_halves_are_of_one_size_and_share_no_clip_and_no_source(towns: list[int], seed: int) -> None:
    sources = [f"sumo/{town}" for town in towns]
    for first, second in halves(sources, 3, seed):
        assert len(first) == len(second) > 0
        assert not set(first.tolist()) & set(second.tolist())
        assert len(first) >= len(sources) // 4
        if len(set(sources)) >= 4 and max(map(sources.count, sources)) <= len(sources) / 2:
            assert not {sources[i] for i in first} & {sources[i] for i in second}


def test_failures_widen_the_interval_to_infinity() -> None:
    """Nine clips of twenty without an answer: the median is known, and the interval says that it might be none."""
    errors = torch.tensor([0.3] * 11 + [math.inf] * 9)
    found = bootstrap(lambda pick: median(errors[pick]), (20,))
    assert (found.value, found.low, found.high) == (pytest.approx(0.3), pytest.approx(0.3), math.inf)
