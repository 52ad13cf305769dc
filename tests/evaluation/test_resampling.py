"""Bootstrap and permutations: their laws where these are known."""

import itertools
import math

import numpy as np
import pytest
import xarray as xr
from scipy.stats import t

from sgdsim.evaluation import (
    bootstrap_interval,
    granulated_tau,
    kendall_tau,
    minimum_detectable_tau,
    permutation_test,
)

AXES = ("width", "depth")


def tau(measure: xr.DataArray, gap: xr.DataArray) -> xr.DataArray:
    return kendall_tau(measure, gap)["tau"]


def quick_tau(measure: xr.DataArray, gap: xr.DataArray) -> float:
    """Tau-b of values that are tied in both or in none, as copies are."""
    m, g = (np.sign(np.subtract.outer(a, a)) for a in (measure.values.ravel(), gap.values.ravel()))
    return float((m * g).sum() / (m * m).sum())


def mean(measure: xr.DataArray, gap: xr.DataArray) -> float:
    return float(measure.values.mean())


def blocks(seed: int) -> tuple[xr.DataArray, xr.DataArray]:
    """Runs of one configuration are almost equal."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(5, 6, 1)) + 0.1 * random.normal(size=(5, 6, 4))
    measure = xr.DataArray(values, dims=(*AXES, "seed"))
    return measure, xr.zeros_like(measure)


@pytest.mark.statistical
def test_draws_of_a_mean_spread_as_the_configurations_do():
    measure, gap = blocks(0)
    of_configuration = measure.mean("seed").values
    result = bootstrap_interval(mean, measure, gap, AXES, draws=2000)
    expected = of_configuration.std() / math.sqrt(30)
    assert abs(result.draws.std() / expected - 1) < 5 / math.sqrt(4000)
    assert abs(result.draws.mean() - of_configuration.mean()) < 5 * expected / math.sqrt(2000)
    # Drawing all 120 runs on their own would give half of it.
    assert measure.values.std() / math.sqrt(120) < 0.6 * expected


@pytest.mark.statistical
def test_draws_of_repetitions_spread_as_the_repetitions_do():
    measure, gap = blocks(1)
    result = bootstrap_interval(mean, measure, gap, AXES, resample="repetitions", draws=2000)
    expected = math.sqrt(measure.var("seed").values.sum() / 4) / 30
    assert abs(result.draws.std() / expected - 1) < 5 / math.sqrt(4000)
    assert abs(result.draws.mean() - float(measure.mean())) < 5 * expected / math.sqrt(2000)


@pytest.mark.statistical
def test_coverage_for_a_mean():
    """The percentile interval takes normal for Student's law and n for n - 1."""
    random, n, sweeps = np.random.default_rng(2), 12, 100
    hits = 0
    for _ in range(sweeps):
        measure = xr.DataArray(random.normal(size=(3, 4)), dims=AXES)
        result = bootstrap_interval(
            mean, measure, xr.zeros_like(measure), AXES, draws=100, confidence=0.9, seed=random
        )
        hits += bool(result.low <= 0.0 <= result.high)
    expected = 1 - 2 * t.sf(1.6449 * math.sqrt((n - 1) / n), n - 1)
    assert abs(hits / sweeps - expected) < 5 * math.sqrt(expected * (1 - expected) / sweeps)


@pytest.mark.statistical
def test_coverage_for_tau():
    """Tau of a normal pair with correlation r is 2 arcsin(r)/pi."""
    random, sweeps, r = np.random.default_rng(3), 80, 0.6
    hits = 0
    for _ in range(sweeps):
        x, y = random.normal(size=(2, 5, 8))
        measure = xr.DataArray(x, dims=AXES)
        gap = xr.DataArray(r * x + math.sqrt(1 - r * r) * y, dims=AXES)
        result = bootstrap_interval(
            quick_tau, measure, gap, AXES, draws=60, confidence=0.9, seed=random
        )
        hits += bool(result.low <= 2 * math.asin(r) / math.pi <= result.high)
    assert abs(hits / sweeps - 0.9) < 5 * math.sqrt(0.9 * 0.1 / sweeps)


def test_missing_runs_are_not_drawn(sweep):
    measure, gap = sweep(0, (3, 4), repetitions=4)
    measure[0, 0] = np.nan
    gap[1, 1, 1:3] = np.nan
    counts = {"configurations": set(), "repetitions": set()}
    for resample, seen in counts.items():

        def count(m, g, seen=seen):
            known = m.notnull() & g.notnull()
            all_have_runs = bool(known.any("repetition").all())
            seen.add((m.sizes["configuration"], all_have_runs, int(known.sum())))
            return 0.0

        bootstrap_interval(count, measure, gap, AXES, resample=resample, draws=30)  # pyright: ignore[reportArgumentType]
    # Twelve with the missing one are the runs as they are.
    assert {seen[:2] for seen in counts["configurations"]} == {(11, True), (12, False)}
    assert counts["repetitions"] == {(12, False, 42)}


def test_repetitions_are_drawn_with_their_gap(sweep):
    _, gap = sweep(1, (3, 4), repetitions=4)
    gap[0, 0, 2] = np.nan
    result = bootstrap_interval(tau, gap, gap, AXES, resample="repetitions", draws=20)
    np.testing.assert_allclose(result.draws, 1.0)


def test_statistics_along_bounds(sweep):
    measure, gap = sweep(2, (3, 4), repetitions=3, bounds=3)

    def psi(m, g):
        return granulated_tau(m, g, AXES)["granulated_tau"]

    result = bootstrap_interval(psi, measure, gap, AXES, draws=40, seed=5)
    assert result.low.shape == result.high.shape == (3,)
    assert result.draws.shape == (40, 3)
    np.testing.assert_array_equal(result.estimate, psi(measure, gap))
    np.testing.assert_allclose(result.low, np.quantile(result.draws, 0.025, axis=0))
    alone = bootstrap_interval(psi, measure[1], gap, AXES, draws=40, seed=5)
    np.testing.assert_array_equal(alone.draws, result.draws[:, 1])
    assert alone.low.shape == ()


def test_draws_without_a_value_are_left_out():
    gap = xr.DataArray([0.1, 0.2, 0.3], dims="width")
    result = bootstrap_interval(tau, gap, gap, ["width"], draws=200)
    assert np.isnan(result.draws).any()
    np.testing.assert_allclose([result.low, result.high], 1.0)
    constant = bootstrap_interval(tau, 0 * gap, gap, ["width"], draws=3)
    assert np.isnan(constant.low)
    assert np.isnan(permutation_test(tau, 0 * gap, gap, ["width"], draws=3).p_value)


def test_permutations_of_four_runs_against_all_of_them():
    random = np.random.default_rng(4)
    measure, gap = (xr.DataArray(random.normal(size=(2, 2)), dims=AXES) for _ in range(2))
    m, g = measure.values.ravel(), gap.values.ravel()
    every = [
        float(tau(xr.DataArray(m[list(order)], dims="run"), xr.DataArray(g, dims="run")))
        for order in itertools.permutations(range(4))
    ]
    result = permutation_test(quick_tau, measure, gap, AXES, draws=1200)
    for value in {round(v, 9) for v in every}:
        share = np.mean(np.isclose(every, value))
        seen = np.mean(np.isclose(result.draws, value))
        assert abs(seen - share) < 5 * math.sqrt(share * (1 - share) / 1200)


@pytest.mark.statistical
def test_level_of_the_permutation_test():
    random, sweeps = np.random.default_rng(5), 120
    found = 0
    for _ in range(sweeps):
        # Runs of one configuration are alike in measure and gap, which are unrelated.
        measure, gap = (
            xr.DataArray(
                random.normal(size=(3, 4, 1)) + 0.05 * random.normal(size=(3, 4, 3)),
                dims=(*AXES, "seed"),
            )
            for _ in range(2)
        )
        result = permutation_test(quick_tau, measure, gap, AXES, draws=19, seed=random)
        found += bool(result.p_value <= 0.1)
    assert abs(found / sweeps - 0.1) < 5 * math.sqrt(0.1 * 0.9 / sweeps)


def test_within_blocks_a_hyper_parameter_explains_nothing():
    random = np.random.default_rng(6)
    width = xr.DataArray(np.arange(6.0), dims="width")
    measure, gap = (
        5 * width + xr.DataArray(random.normal(size=(6, 5)), dims=AXES) for _ in range(2)
    )
    assert float(permutation_test(tau, measure, gap, AXES, draws=99).p_value) == 0.01
    within = permutation_test(tau, measure, gap, AXES, within=["width"], draws=99)
    assert float(within.p_value) > 0.05
    # Every permutation keeps the order of the widths.
    assert within.draws.min() > 0.6
    full = permutation_test(tau, measure, gap, AXES, within=AXES, draws=9)
    np.testing.assert_allclose(full.draws, full.estimate)
    assert float(full.p_value) == 1.0


@pytest.mark.parametrize(
    ("alternative", "expected"), [("greater", 1.0), ("less", 0.02), ("two-sided", 0.02)]
)
def test_alternatives(sweep, alternative, expected):
    _, gap = sweep(7, (4, 5))
    result = permutation_test(tau, -gap, gap, AXES, alternative=alternative, draws=49)
    assert float(result.p_value) == pytest.approx(expected)


def test_configurations_without_a_run_do_not_change_places(sweep):
    measure, gap = sweep(8, (3, 4), repetitions=2)
    gap[1, 2] = np.nan
    seen = set()

    def count(m, g):
        seen.add(int((m.notnull() & g.notnull()).sum()))
        return 0.0

    permutation_test(count, measure, gap, AXES, draws=20)
    assert seen == {22}


@pytest.mark.statistical
@pytest.mark.parametrize("n", [16, 40])
def test_power_at_the_smallest_detectable_tau(n):
    """The power is 0.8 as well as the approximation by Fieller, Hartley and Pearson holds."""
    random, draws = np.random.default_rng(9), 4000
    r = math.sin(0.5 * math.pi * minimum_detectable_tau(n))
    x, y = random.normal(size=(2, draws, n))
    y = r * x + math.sqrt(1 - r * r) * y
    i, j = np.triu_indices(n, 1)
    estimate = np.mean(np.sign(x[:, i] - x[:, j]) * np.sign(y[:, i] - y[:, j]), axis=1)
    variance = 2 * (2 * n + 5) / (9 * n * (n - 1))
    power = np.mean(np.abs(estimate) > 1.96 * math.sqrt(variance))
    assert abs(power - 0.8) < 0.02 + 5 * math.sqrt(0.8 * 0.2 / draws)


def test_smallest_detectable_tau_falls_with_runs_and_rises_with_power():
    values = [minimum_detectable_tau(n) for n in (10, 20, 50, 1000)]
    assert values == sorted(values, reverse=True)
    assert minimum_detectable_tau(20, power=0.9) > minimum_detectable_tau(20, power=0.8)
    assert minimum_detectable_tau(20, level=0.01) > minimum_detectable_tau(20, level=0.05)


def test_bad_input(sweep):
    measure, gap = sweep(0, (3, 4))
    with pytest.raises(ValueError, match="confidence must be strictly between 0 and 1; got 1"):
        bootstrap_interval(tau, measure, gap, AXES, confidence=1.0)
    with pytest.raises(ValueError, match="draws must be at least 1; got 0"):
        bootstrap_interval(tau, measure, gap, AXES, draws=0)
    with pytest.raises(ValueError, match="draws must be at least 1; got 0"):
        permutation_test(tau, measure, gap, AXES, draws=0)
    with pytest.raises(ValueError, match="within must name hyper-parameters"):
        permutation_test(tau, measure, gap, AXES, within=["rate"])
    with pytest.raises(ValueError, match="at least 10 independent runs; got 9"):
        minimum_detectable_tau(9)
    with pytest.raises(ValueError, match="power must be strictly between 0 and 1; got 0"):
        minimum_detectable_tau(20, power=0.0)
