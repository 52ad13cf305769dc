"""Kaplan-Meier against its product, tests of the exit law against their nominal level."""

import itertools
import types

import numpy as np
import pytest
from scipy import stats

from sgdsim.stagnation import (
    clopper_pearson,
    exponentiality_test,
    kaplan_meier,
    quasi_stationarity_test,
    stay_probability,
)

TESTS = [quasi_stationarity_test, exponentiality_test]


def product_limit(exit_step, last_step, step):
    """Survival by the definition, and Greenwood's sum, one step after another."""
    survival, greenwood = 1.0, 0.0
    for t in range(1, step + 1):
        watched = np.where(exit_step > 0, exit_step, last_step) >= t
        at_risk, exits = watched.sum(), (exit_step == t).sum()
        if exits:
            survival *= 1 - exits / at_risk
            greenwood += exits / (at_risk * (at_risk - exits))
    return survival, greenwood


def test_kaplan_meier_is_the_product_of_its_definition():
    random = np.random.default_rng(4)
    exits, last = random.geometric(0.05, 60), random.integers(1, 40, 60)
    exits[:5], last[:5] = last[:5], last[:5]  # exits at the last watched step
    last[5:10] = exits[:5]  # and censored ones at the step of an exit
    exits = np.where(exits > last, -1, exits)
    curve = kaplan_meier(exits, last, 0.9)
    assert curve.steps[0] == 0
    assert np.all(np.diff(curve.steps) > 0)
    assert set(curve.steps[1:].tolist()) == set(exits[exits > 0].tolist())
    z = stats.norm.ppf(0.95)
    for index, step in enumerate(curve.steps):
        survival, greenwood = product_limit(exits, last, step)
        assert curve.survival[index] == pytest.approx(survival)
        watched = np.where(exits > 0, exits, last)
        assert curve.at_risk[index] == np.count_nonzero(watched >= step)
        if 0 < survival < 1:
            spread = z * greenwood**0.5 / abs(np.log(survival))
            limits = survival ** np.exp(spread), survival ** np.exp(-spread)
            assert (curve.low[index], curve.high[index]) == pytest.approx(limits)


def test_kaplan_meier_of_equal_ends_counts():
    exits = np.array([-1, 4, 4, 9, -1, 30])
    curve = kaplan_meier(exits, 30, 0.95)
    probability, _, _ = stay_probability(exits, curve.steps, 0.95)
    np.testing.assert_allclose(curve.survival, probability)
    assert curve.at_risk.tolist() == [6, 6, 4, 3]


def test_kaplan_meier_edges():
    nobody = kaplan_meier(np.array([-1, -1]), 10, 0.95)
    assert nobody.steps.tolist() == [0]
    assert nobody.survival.tolist() == nobody.low.tolist() == nobody.high.tolist() == [1.0]
    everybody = kaplan_meier(np.array([2, 3]), 10, 0.95)
    assert everybody.survival.tolist() == [1.0, 0.5, 0.0]
    assert everybody.low[-1] == 0
    assert everybody.high[-1] == everybody.high[-2] < 1


@pytest.mark.statistical
def test_censoring_is_not_an_exit():
    # Half of the runs are lost early, at random: the curve must not see it.
    random, rate, runs = np.random.default_rng(7), 0.01, 4000
    exits = random.geometric(rate, runs)
    last = np.where(random.random(runs) < 0.5, random.integers(1, 100, runs), 100)
    seen = np.where(exits > last, -1, exits)
    curve = kaplan_meier(seen, last, 0.95)
    truth = (1 - rate) ** curve.steps[-1]
    error = (curve.high[-1] - curve.low[-1]) / (2 * 1.96)
    assert abs(curve.survival[-1] - truth) < 5 * error
    lost_as_exits = np.mean(np.where(exits > last, last, exits) >= curve.steps[-1])
    assert abs(lost_as_exits - truth) > 5 * error
    lost_as_stays = np.mean((seen == -1) | (seen > curve.steps[-1]))
    assert abs(lost_as_stays - truth) > 5 * error


def p_values_of(test, draw, repeats=400):
    random = np.random.default_rng(12)
    p_values = []
    for _ in range(repeats):
        steps, end, burn_in = draw(random)
        p_values.append(test(np.where(steps > end, -1, steps), end, burn_in).p_value)
    return np.array(p_values)


def geometric(runs, rate, end, burn_in=0):
    return lambda random: (random.geometric(rate, runs), end, burn_in)


@pytest.mark.statistical
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    "law",
    [
        geometric(2000, 2e-5, 1000),  # some forty exits, all others censored
        geometric(300, 0.005, 250, burn_in=50),  # about half
        geometric(100, 0.05, 10_000),  # all have left
        geometric(200, 0.4, 10_000, burn_in=1),  # the discrete clock matters
        geometric(300, 0.1, 10),  # as many steps as windows
    ],
)
def test_nominal_level(test, law):
    p_values = p_values_of(test, law)
    for level in (0.05, 0.3):
        low, high = clopper_pearson(int(np.sum(p_values <= level)), 400, 1 - 1e-5)
        assert low < level < high


@pytest.mark.statistical
def test_fitted_kolmogorov_smirnov_misses_the_level():
    # What the total time on test avoids: the table of the test with a rate fitted to the data.
    def fitted(exit_step, end, burn_in):
        p_value = stats.kstest(exit_step, "expon", args=(0, exit_step.mean())).pvalue
        return types.SimpleNamespace(p_value=p_value)

    p_values = p_values_of(fitted, geometric(100, 0.001, 10**9))
    _, high = clopper_pearson(int(np.sum(p_values <= 0.3)), 400, 1 - 1e-5)
    assert high < 0.3


@pytest.mark.statistical
@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    "law",
    [
        lambda random: (np.ceil(random.gamma(2.0, 100.0, 200)).astype(int), 10_000, 0),
        lambda random: (np.ceil(300 * random.weibull(2.0, 200)).astype(int), 10_000, 0),
        # Seen through the first fifth of the run only.
        lambda random: (np.ceil(random.gamma(2.0, 1000.0, 3000)).astype(int), 400, 0),
    ],
    ids=["gamma", "weibull", "censored gamma"],
)
def test_power_against_shape_two(test, law):
    assert np.sum(p_values_of(test, law, repeats=50) <= 0.01) >= 45


def test_burn_in_removes_the_start():
    random = np.random.default_rng(3)
    steps = 100 + random.geometric(0.003, 1000)  # nobody leaves in the first 100 steps
    steps = np.where(steps > 600, -1, steps)
    for test in TESTS:
        assert test(steps, 600, 0).p_value < 1e-6
        assert test(steps, 600, 100).p_value > 1e-3


def test_windows_share_the_exposure():
    steps = np.random.default_rng(5).geometric(0.004, 500)
    steps = np.where(steps > 400, -1, steps)
    result = quasi_stationarity_test(steps, 400, 100)
    waits = np.where(steps == -1, 400, steps) - 100
    inside = waits[(steps == -1) | (steps > 100)]
    assert result.exits == np.count_nonzero(steps > 100)
    assert (result.edges[0], result.edges[-1]) == (100, 400)
    exposure, exits = [], []
    for a, b in itertools.pairwise(result.edges - 100):
        exposure.append(np.sum(np.clip(inside, a, b) - a))
        exits.append(np.count_nonzero((steps - 100 > a) & (steps - 100 <= b)))
    np.testing.assert_allclose(result.rates, np.divide(exits, exposure))
    np.testing.assert_allclose(exposure, inside.sum() / 10, rtol=0.1)
    assert sum(exits) == result.exits


def test_result_depends_on_the_seed_of_the_fraction_only():
    steps = np.random.default_rng(5).geometric(0.2, 500)
    first, again, other = (exponentiality_test(steps, 100, 0, seed) for seed in (0, 0, 1))
    assert first.p_value == again.p_value != other.p_value


def test_few_exits_give_no_number():
    for test in TESTS:
        result = test(np.array([5] * 9 + [-1] * 50), 10, 0)
        assert np.isnan(result.p_value)
        assert np.isnan(result.statistic)
        assert result.reason == "9 exits after the burn-in, 10 are needed for a test"
        assert test(np.full(4, -1), 10, 0).exits == 0
        assert test(np.array([5] * 10 + [-1] * 50), 10, 0).reason == ""


def test_all_exits_at_the_first_step():
    for test in TESTS:
        result = test(np.ones(40, int), 10, 0)
        assert np.isnan(result.p_value)
        assert result.reason == "the exits are over within one window of whole steps"


@pytest.mark.parametrize(
    ("exit_step", "end", "burn_in", "words"),
    [
        ([3, 0], 5, 0, "starts inside; got 0"),
        ([3, 9], 5, 0, "not be after the last watched step, got 9"),
        ([], 5, 0, "no trajectory"),
        ([-1], 0, 0, "last steps must be at least 1, got 0"),
        ([3], 5, 5, "burn_in must be at least 0 and below the end, 5; got 5"),
        ([3], 5, -1, "burn_in must be at least 0 and below the end, 5; got -1"),
    ],
)
def test_refusals(exit_step, end, burn_in, words):
    exit_step = np.array(exit_step, int)
    for test in TESTS:
        with pytest.raises(ValueError, match=words):
            test(exit_step, end, burn_in)
    if "burn_in" not in words:
        with pytest.raises(ValueError, match=words):
            kaplan_meier(exit_step, end, 0.95)


def test_kaplan_meier_refuses_a_confidence():
    with pytest.raises(ValueError, match="confidence must lie strictly between 0 and 1, got 95"):
        kaplan_meier(np.array([3]), 5, 95.0)
