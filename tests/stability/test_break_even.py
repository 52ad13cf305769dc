"""The end of early growth, on series whose end is known, and the model behind the prediction."""

import itertools

import numpy as np
import pytest

from sgdsim.stability import break_even, break_even_sharpness

STEP = np.arange(0, 10_000, 25)


def growing(until, level=20.0, start=4.0):
    return np.minimum(start + (level - start) * STEP / until, level)


@pytest.mark.parametrize("until", [500, 2000, 4500])
@pytest.mark.parametrize("scatter", [0.0, 0.02])
def test_growth_that_ends(until, scatter):
    rng = np.random.default_rng(until)
    sharpness = growing(until) * (1 + scatter * rng.standard_normal(STEP.size))
    found = break_even(STEP, sharpness, threshold=25.0)
    truth = until * (0.99 * 20 - 4) / 16
    assert found.low - 25 <= truth <= found.high + 25
    assert found.low <= found.step <= found.high
    assert abs(found.step - truth) <= (50 if scatter == 0 else 0.06 * until + 50)
    assert found.sharpness == pytest.approx(20, rel=0.02)
    assert found.ratio == found.sharpness / 25.0


def test_growth_that_goes_on_or_ends_too_late_has_no_break_even_point():
    for sharpness in (
        growing(20_000),
        growing(6000),
        4 * np.exp(STEP / 3000),
        0.1 * np.sqrt(STEP),
        4 + STEP / 1e4,
    ):
        found = break_even(STEP, sharpness)
        assert (found.step, found.low, found.high) == (-1, -1, -1)
        assert np.isnan(found.sharpness)
        assert np.isnan(found.ratio)


def test_no_growth_has_none_either():
    rng = np.random.default_rng(3)
    for sharpness in (np.full(STEP.size, 7.0), 7 * np.exp(-STEP / 3000)):
        noisy = sharpness * (1 + 0.01 * rng.standard_normal(STEP.size))
        assert break_even(STEP, noisy).step == -1


def test_a_peak_before_a_fall_is_found_at_its_top():
    sharpness = growing(2000) * np.where(STEP < 2000, 1, np.exp(-(STEP - 2000) / 1500))
    found = break_even(STEP, sharpness)
    # The median over nine records takes four of them off the top; of what is left of the rise the
    # last tenth does not count.
    rise = 16 * (1 - 4 * 25 / 2000)
    assert 2000 * rise / 16 / 1.1 - 25 <= found.step <= 2000
    assert 4 + rise / 1.1 - 0.2 <= found.sharpness <= 20


def test_an_early_dip_is_not_the_end_of_growth():
    dip = np.where(STEP < 200, 8 - STEP / 40, 3 + (STEP - 200) / 200)
    found = break_even(STEP, np.minimum(dip, 15.0))
    assert found.step == pytest.approx(2600, abs=100)


def test_gaps_and_errors():
    sharpness = growing(2000)
    whole = break_even(STEP, sharpness)
    gaps = np.where(np.arange(STEP.size) % 5 == 2, np.nan, sharpness)
    assert break_even(STEP, gaps).step == pytest.approx(whole.step, abs=25)
    wide = break_even(STEP, sharpness, error=np.full(STEP.size, 2.0))
    assert wide.low < whole.low - 200
    assert break_even(STEP[:4], sharpness[:4]).step == -1
    assert break_even(STEP, np.full(STEP.size, np.nan)).step == -1


def test_scaling_and_bad_input():
    sharpness = growing(2000)
    a, b = break_even(STEP, sharpness), break_even(STEP, 8 * sharpness)
    assert (a.step, a.low, a.high, 8 * a.sharpness) == (b.step, b.low, b.high, b.sharpness)
    with pytest.raises(ValueError, match="step must be a list of ascending steps"):
        break_even(STEP[::-1], sharpness)
    with pytest.raises(ValueError, match=r"sharpness must have one entry .* 400 .* \(3,\)"):
        break_even(STEP, sharpness[:3])


@pytest.mark.parametrize("batch", [1, 3, 4])
@pytest.mark.parametrize("replacement", [True, False])
def test_sgd_on_one_direction_loses_its_second_moment_there(batch, replacement):
    """The mean of (1 - eta a_B)^2 over all batches, listed."""
    eta, noise = 0.7, 1.3
    shape = np.array([-1.2, 0.3, 0.9, 1.5, -0.7, -0.8])
    shape = (shape - shape.mean()) / shape.std()
    draws = (
        itertools.product(range(6), repeat=batch)
        if replacement
        else itertools.combinations(range(6), batch)
    )
    batches = np.array(list(draws))

    def growth(sharpness):
        rows = sharpness + np.sqrt(noise * sharpness) * shape
        return np.mean((1 - eta * rows[batches].mean(axis=1)) ** 2)

    edge = float(break_even_sharpness(eta, noise, batch, np.inf if replacement else 6))
    assert abs(growth(edge) - 1) < 1e-9
    assert growth(0.99 * edge) < 1 < growth(1.01 * edge)


def test_smaller_rates_and_larger_batches_let_the_sharpness_grow_further():
    levels = break_even_sharpness(np.array([[0.2], [0.4]]), 8.0, np.array([4, 16, 64]))
    assert np.all(np.diff(levels, axis=1) > 0)
    assert np.all(np.diff(levels, axis=0) < 0)
