"""Losses of the margin, gap and tightness."""

import math

import numpy as np
import pytest

from sgdsim.bounds import (
    auto_margin,
    gap_from_moments,
    generalization_gap,
    margin_fraction,
    margins,
    ramp,
    tightness,
    zero_one,
)


def test_margins_against_a_loop() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 3, 8, 4))
    labels = random.integers(0, 4, size=8)
    got = margins(logits, labels)
    for index in np.ndindex(2, 3, 8):
        row = logits[index].tolist()
        right = row.pop(int(labels[index[-1]]))
        assert got[index] == right - max(row)


def test_margins_of_logits_that_are_not_finite_are_nan() -> None:
    logits = np.array([[np.nan, 0.0], [np.inf, np.inf], [1.0, 0.0]])
    got = margins(logits, np.array([1, 0, 0]))
    np.testing.assert_equal(got, [np.nan, np.nan, 1.0])
    np.testing.assert_equal(zero_one(got), [np.nan, np.nan, 0.0])
    np.testing.assert_equal(ramp(got, 2.0), [np.nan, np.nan, 0.5])
    assert math.isnan(float(margin_fraction(got, 1.0)))


def test_losses_at_the_thresholds() -> None:
    values = np.array([-1e-9, 0.0, 1e-9, 1.0, 2.0, 2.0 + 1e-9])
    np.testing.assert_equal(zero_one(values), [1, 1, 0, 0, 0, 0])
    np.testing.assert_allclose(ramp(values, 2.0), [1, 1, 1, 0.5, 0, 0], atol=1e-9)
    assert float(margin_fraction(values, 2.0)) == pytest.approx(5 / 6)


def test_ramp_lies_between_the_two_indicators() -> None:
    values = np.random.default_rng(1).normal(size=1000)
    middle = ramp(values, 0.3)
    assert (zero_one(values) <= middle).all()
    assert (middle <= (values <= 0.3)).all()


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0]])
def test_label_without_a_logit(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"Labels must be in 0\.\.1"):
        margins(np.zeros((2, 2)), np.array(labels))


def test_one_logit_has_no_margin() -> None:
    with pytest.raises(ValueError, match="at least two logits"):
        margins(np.zeros((2, 1)), np.array([0, 0]))


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("ramp", "ramp"), (1.0 + 0.5 + 0.0 + 0.0) / 4 - (0.5 + 0.0) / 2),
        (("zero_one", "margin"), 1 / 4 - 1 / 2),
        (("margin", "zero_one"), 2 / 4 - 0.0),
    ],
)
def test_gap_takes_population_loss_on_held_out_rows(pair: tuple[str, str], expected: float) -> None:
    training = np.array([1.0, 3.0])
    held_out = np.array([-1.0, 1.0, 3.0, 4.0])
    gap = generalization_gap(training, held_out, pair, 2.0)  # pyright: ignore[reportArgumentType]
    assert float(gap.value) == pytest.approx(expected)


@pytest.mark.statistical
def test_standard_error_is_the_spread_of_the_gap_over_held_out_samples() -> None:
    random = np.random.default_rng(4)
    training = np.broadcast_to(random.normal(size=50), (4000, 50))
    gap = generalization_gap(training, random.normal(size=(4000, 60)), ("ramp", "ramp"), 1.0)
    spread = gap.value.std(ddof=1)
    # The relative standard error of a standard deviation of 4000 values is 1/sqrt(8000).
    assert abs(np.sqrt((gap.stderr**2).mean()) / spread - 1.0) < 5 / math.sqrt(8000)


def test_gap_from_moments_keeps_the_axes() -> None:
    gap = gap_from_moments(np.full((2, 3), 0.5), np.full((2, 3), 0.04), 400, np.full((2, 3), 0.2))
    np.testing.assert_allclose(gap.value, np.full((2, 3), 0.3))
    np.testing.assert_allclose(gap.stderr, np.full((2, 3), 0.01))


def test_gap_refuses_too_few_rows_and_unknown_losses() -> None:
    one, two = np.ones(1), np.ones(2)
    with pytest.raises(ValueError, match="two held-out rows"):
        generalization_gap(two, one, ("ramp", "ramp"), 1.0)
    with pytest.raises(ValueError, match="held_out_rows must be at least 1"):
        gap_from_moments(one, one, 0, one)
    with pytest.raises(ValueError, match="gamma must be positive"):
        ramp(two, 0.0)


def test_unknown_loss_names_the_nearest() -> None:
    from sgdsim.bounds._losses import _row_losses

    with pytest.raises(ValueError, match="Did you mean 'ramp'"):
        _row_losses(np.ones(2), "rampe", 1.0)


def test_tightness() -> None:
    value = np.array([0.4, 0.4, 0.4, np.inf, np.nan])
    gap = np.array([0.1, 0.0, -0.1, 0.5, 0.5])
    np.testing.assert_equal(tightness(value, gap), [4.0, np.nan, np.nan, np.inf, np.nan])


def test_auto_margin() -> None:
    assert auto_margin(np.array([[-3.0, 0.0], [1.0, 2.0], [4.0, np.nan]])) == 2.0
    with pytest.raises(ValueError, match="None of the 2 margins is positive"):
        auto_margin(np.array([-1.0, 0.0]))
