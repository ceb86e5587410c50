"""Intervals and rank agreement on figures whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from agents.evaluation.statistics import bootstrap_unit, bootstrap_weights, estimate, proportion, resampled_means, tau
from agents.evaluation.trust import rank_agreement, without_trivial

TWENTY = [f"scene {index % 3}" for index in range(20)]


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.2, size=400)
    found = estimate(values, bootstrap_weights(["one"] * 400))
    error = values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error * 1.96)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error * 1.96)


def test_scenes_are_drawn_whole_where_there_are_enough() -> None:
    scenes = [f"scene {index // 4}" for index in range(48)]
    weights = bootstrap_weights(scenes)
    assert bootstrap_unit(scenes) == "scenes"
    assert (weights.reshape(-1, 12, 4) == weights.reshape(-1, 12, 4)[..., :1]).all()
    assert bootstrap_unit(TWENTY) == "starts"
    assert (bootstrap_weights(TWENTY).sum(axis=1) == 20).all()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_resampled_means_stay_within_the_values(values: list[float]) -> None:
    means = resampled_means(np.array(values), bootstrap_weights(["x"] * len(values), resamples=50))
    assert means.min() >= min(values) - 1e-9
    assert means.max() <= max(values) + 1e-9


def test_wilson_by_hand() -> None:
    found = proportion(8, 10)
    assert (found.value, round(found.low, 3), round(found.high, 3)) == (0.8, 0.49, 0.943)
    assert np.isnan(proportion(0, 0).value)


def test_tau_is_kendalls_and_says_nothing_where_nothing_is_told_apart() -> None:
    a, b = np.random.default_rng(1).integers(0, 6, size=(2, 5, 9))  # with ties
    expected = [kendalltau(*pair).statistic for pair in zip(a, b, strict=True)]
    np.testing.assert_allclose(tau(a, b), expected)
    assert np.isnan(tau(np.ones(3), np.arange(3)))
    assert np.isnan(tau(np.ones(1), np.ones(1)))


def ladder(order: list[int], spread: float = 0.02) -> np.ndarray:
    """Scores (P, 20) of planners whose means are 0.1 apart in this order."""
    noise = np.random.default_rng(0).normal(0, spread, size=(len(order), 20))
    return 0.1 * np.array(order)[:, None] + 0.3 + noise


def test_agreement_of_worlds_that_rank_alike_and_against() -> None:
    weights = bootstrap_weights(TWENTY)
    same = rank_agreement(ladder([0, 1, 2, 3]), ladder([0, 1, 2, 3]), weights)
    assert (same.tau.value, same.tau.low, same.tau.high) == (1.0, 1.0, 1.0)
    assert (same.clear_pairs, same.pairs, same.clear_tau.value) == (6, 6, 1.0)
    assert rank_agreement(ladder([3, 2, 1, 0]), ladder([0, 1, 2, 3]), weights).tau.value == -1.0
    assert rank_agreement(ladder([0, 2, 1, 3]), ladder([0, 1, 2, 3]), weights).tau.value == pytest.approx(4 / 6)


def test_pairs_that_the_reference_cannot_tell_apart_are_left_out() -> None:
    reference = ladder([0, 0, 2, 3], spread=0.05)
    found = rank_agreement(ladder([1, 0, 2, 3]), reference, bootstrap_weights(TWENTY))
    assert (found.clear_pairs, found.pairs) == (5, 6)
    assert found.clear_tau.value == 1.0


def test_intervals_of_tau_widen_with_the_noise() -> None:
    weights = bootstrap_weights(TWENTY)
    wide = rank_agreement(ladder([0, 1, 2, 3], 0.4), ladder([0, 1, 2, 3], 0.4)[:, ::-1], weights).tau
    assert wide.high - wide.low > 0.3


def test_trivial_planners_are_named() -> None:
    assert without_trivial(["cv", "stop", "idm", "random"]) == ["cv", "idm"]
