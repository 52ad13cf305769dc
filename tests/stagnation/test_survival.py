import re

import numpy as np
import pytest
from scipy import stats

from sgdsim.stagnation import clopper_pearson, monte_carlo_exit, stay_probability


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (0, 10, 0.0, 0.3084971),
        (10, 10, 0.6915029, 1.0),
        (5, 10, 0.1870860, 0.8129140),
        (1, 20, 0.0012651, 0.2487328),
        (1, 1, 0.025, 1.0),
    ],
)
def test_known_intervals(successes, trials, low, high):
    np.testing.assert_allclose(clopper_pearson(successes, trials, 0.95), (low, high), atol=1e-7)


def test_no_success_is_the_rule_of_three():
    assert clopper_pearson(0, 1000, 0.9)[1] == pytest.approx(3.0 / 1000, rel=0.01)


def test_limits_invert_the_binomial_tails():
    trials, confidence = 37, 0.9
    inner = np.arange(1, trials)
    low, high = clopper_pearson(inner, trials, confidence)
    np.testing.assert_allclose(stats.binom.sf(inner - 1, trials, low), 0.05, rtol=1e-9)
    np.testing.assert_allclose(stats.binom.cdf(inner, trials, high), 0.05, rtol=1e-9)


def test_shapes_and_trials_by_element():
    low, high = clopper_pearson(np.array([[0, 3], [4, 4]]), np.array([[4, 4], [4, 9]]), 0.95)
    assert low.shape == high.shape == (2, 2)
    assert low[0, 0] == 0
    assert high[1, 0] == 1
    assert high[1, 1] == pytest.approx(clopper_pearson(4, 9, 0.95)[1])


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "words"),
    [
        (11, 10, 0.95, "between 0 and the number of trials"),
        (-1, 10, 0.95, "between 0 and the number of trials"),
        (0, 0, 0.95, "trials must be at least 1, got 0"),
        (1, 10, 1.0, "confidence must lie strictly between 0 and 1, got 1"),
    ],
)
def test_clopper_pearson_refuses(successes, trials, confidence, words):
    with pytest.raises(ValueError, match=words):
        clopper_pearson(successes, trials, confidence)


def test_stay_probability_counts_like_a_loop():
    rng = np.random.default_rng(0)
    exit_step = rng.choice([-1, 1, 2, 5, 17, 40], size=23)
    steps = np.array([40, 0, 1, 3, 17, 16, 100])
    probability, low, high = stay_probability(exit_step, steps, 0.9)
    for index, step in enumerate(steps):
        stayed = sum(1 for exit in exit_step if exit == -1 or exit > step)
        interval = stats.binomtest(stayed, 23).proportion_ci(0.9, "exact")
        assert probability[index] == stayed / 23
        assert (low[index], high[index]) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert probability[1] == 1


@pytest.mark.parametrize(
    ("exit_step", "steps", "words"),
    [
        ([3, 0], [1], "starts inside; got 0"),
        ([-2], [1], "got -2"),
        ([3], [-1], "steps must not be negative, got -1"),
        ([], [1], "no trajectory"),
    ],
)
def test_stay_probability_refuses(exit_step, steps, words):
    with pytest.raises(ValueError, match=words):
        stay_probability(np.array(exit_step, np.int32), np.array(steps), 0.95)


@pytest.mark.parametrize(
    ("exits", "reachable", "words"),
    [
        (0, False, "0 exits in 20000 runs: below 1.8e-04 at 95%, a smaller probability cannot be"),
        (9, False, "between 2.1e-04 and 8.5e-04 at 95%, too few for more than the order"),
        (10, True, r"10 exits in 20000 runs: 5.0e-04 \(2.4e-04 to 9.2e-04 at 95%\)"),
    ],
)
def test_monte_carlo_says_what_it_cannot_reach(exits, reachable, words):
    result = monte_carlo_exit(exits, 20_000, 0.95)
    interval = stats.binomtest(exits, 20_000).proportion_ci(0.95, "exact")
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))
    assert result.probability == exits / 20_000
    assert result.reachable is reachable
    assert ("importance splitting" in result.sentence) is not reachable
    assert re.match(f".*{words}", result.sentence)
