"""Escape formulas and exact passage times, each against numbers from elsewhere."""

import math

import numpy as np
import pytest
from scipy import integrate, special, stats

from sgdsim.problems import TwoWells
from sgdsim.stagnation import (
    effective_diffusion,
    exact_exit_rate,
    exact_stay_probability,
    exit_rate,
    eyring_kramers_time,
    finite_step_diffusion,
    kramers_rate,
    kramers_time,
    mean_first_passage_time,
)
from sgdsim.testing._escape_oracles import exact_mean_exit_time

#: Mean overshoot of a Gaussian walk, -zeta(1/2)/sqrt(2 pi), by Euler-Maclaurin summation.
OVERSHOOT = -(np.sum(np.arange(1, 1001) ** -0.5) - 2 * 1000**0.5 - 0.5 / 1000**0.5) / math.sqrt(
    2 * math.pi
)


def double_well(x):
    return (x**2 - 1) ** 2 / 4


def double_well_slope(x):
    return x**3 - x


@pytest.mark.parametrize(
    ("diffusion", "across", "to_saddle", "kramers"),
    [
        (0.1, 66.2686, 30.8213, 54.125),
        (0.05, 729.671, 361.904, 659.382),
        (0.02, 1232135, 616064, 1192191),
    ],
)
def test_double_well_table(diffusion, across, to_saddle, kramers):
    time = mean_first_passage_time(double_well, diffusion, -1, 1)
    assert time == pytest.approx(across, rel=2e-6)
    back = mean_first_passage_time(double_well, diffusion, 1, -1)
    assert back == pytest.approx(time, rel=1e-9)
    half = mean_first_passage_time(double_well, diffusion, -1, 0)
    assert half == pytest.approx(to_saddle, rel=2e-6)
    assert kramers_time(0.25, 2, -1, diffusion) == pytest.approx(kramers, rel=1e-5)


@pytest.mark.parametrize(("k", "sigma", "level"), [(1.0, 1.0, 1.5), (1.3, 0.4, 1.0)])
def test_ornstein_uhlenbeck_passage(k, sigma, level):
    formula = (
        math.sqrt(2 * math.pi)
        / k
        * integrate.quad(
            lambda u: stats.norm.cdf(u) * math.exp(u**2 / 2), 0, level * math.sqrt(2 * k) / sigma
        )[0]
    )
    time = mean_first_passage_time(lambda x: k * x**2 / 2, sigma**2 / 2, 0, level)
    assert time == pytest.approx(formula, rel=1e-9)
    if k == 1:
        assert time == pytest.approx(12.928166, abs=5e-7)


def test_passage_times_obey_their_laws():
    """They add up along the way, scale with the potential, and fall freely from a cliff."""

    def tilted(x):
        return double_well(x) + 0.1 * np.sin(2 * x)

    def time(start, target, potential=tilted, diffusion=0.06):
        return mean_first_passage_time(potential, diffusion, start, target)

    assert time(-1.5, 1.2) == pytest.approx(time(-1.5, 0.3) + time(0.3, 1.2), rel=1e-9)
    assert time(1.5, -1.2) == pytest.approx(time(1.5, 0.3) + time(0.3, -1.2), rel=1e-9)
    raised = time(-1.0, 1.0, lambda x: 3 * tilted(x) + 11, 0.18)
    assert raised == pytest.approx(time(-1.0, 1.0) / 3, rel=1e-9)
    # Down a steep slope the noise hardly matters: dx = -x dt takes log 5 from 5 to 1.
    assert time(5.0, 1.0, lambda x: x**2 / 2, 1e-4) == pytest.approx(math.log(5), rel=1e-4)
    assert time(0.4, 0.4) == 0
    assert time(-1.0, 1.0, double_well, 1e-4) == math.inf


def test_passage_time_of_brownian_motion_to_a_level_behind_a_soft_wall():
    """Flat up to a wall far away: (b - a)(b + a + 2 wall)/2D to leading order in the wall."""
    width = 1e-3

    def wall(x):
        return np.where(x < -1, ((x + 1) / width) ** 2, 0.0)

    time = mean_first_passage_time(wall, 0.5, 0.0, 1.0)
    # Inner integral: the Gaussian half of the wall plus y + 1.
    soft = width * math.sqrt(math.pi * 0.5) / 2
    assert time == pytest.approx((1.5 + soft) / 0.5, rel=1e-6)


@pytest.mark.parametrize(("amplitude", "diffusion", "period"), [(1, 0.4, 2 * math.pi), (0.3, 1, 2)])
def test_effective_diffusion_in_periodic_wells(amplitude, diffusion, period):
    def wells(x):
        return amplitude * (1 - np.cos(2 * math.pi * x / period))

    exact = effective_diffusion(wells, diffusion, period)
    assert exact == pytest.approx(diffusion / special.i0(amplitude / diffusion) ** 2, rel=1e-10)
    curvature = amplitude * (2 * math.pi / period) ** 2
    rate = kramers_rate(2 * amplitude, curvature, -curvature, diffusion)
    if amplitude == 1:
        assert exact == pytest.approx(0.0369582, abs=5e-8)
        assert rate * period**2 == pytest.approx(0.0423358, abs=5e-8)


def test_kramers_is_the_limit_of_the_exact_time_in_unequal_wells():
    wells = TwoWells(0.25, 0.6, 1.1, 0.06)
    left, right = (float(x) for x in wells.minima[:, 0])

    def potential(x):
        # The same wells from the inverse map x(y), by interpolation on a fine table.
        return 0.25 * (1 - y_of(x) ** 2) ** 2 + 0.015 * (2 + 3 * y_of(x) - y_of(x) ** 3)

    def y_of(x):
        alpha, beta = 0.85, 0.5 / math.sqrt(2)
        y = x / alpha
        for _ in range(60):
            root = np.sqrt(1 + y**2)
            y = y - (alpha * y + beta * (root - 1) - x) / (alpha + beta * y / root)
        return y

    errors = {}
    for diffusion in (0.02, 0.01):
        for row, (start, target) in enumerate([(left, right), (right, left)]):
            kramers = kramers_time(
                wells.barrier[row], wells.curvature_minimum[row], wells.curvature_saddle, diffusion
            )
            exact = mean_first_passage_time(potential, diffusion, start, target)
            # The exact time stops at the first visit, before the return from the other well.
            errors[diffusion, row] = exact / kramers - 1
    for row in (0, 1):
        assert abs(errors[0.01, row]) < 0.05
        assert errors[0.02, row] / errors[0.01, row] == pytest.approx(2, abs=0.5)


def test_eyring_kramers_sees_the_transverse_directions():
    """A valley that widens at the saddle costs entropy: V(x) + D/2 log c(x) in one dimension."""
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    minimum = turn @ np.diag([2, 9, 5]) @ turn.T
    saddle = turn @ np.diag([-1, 1, 5]) @ turn.T
    errors = []
    for diffusion in (0.016, 0.008):
        time = eyring_kramers_time(minimum, saddle, 0.25, diffusion)
        assert time / kramers_time(0.25, 2, -1, diffusion) == pytest.approx(1 / 3, rel=1e-12)

        def averaged(x, diffusion=diffusion):
            # The curvature across goes from 1 at the saddle to 9 at the minima, flat at both.
            return double_well(x) + diffusion / 2 * math.log(9) * 2 * x**2 / (1 + x**4)

        errors.append(mean_first_passage_time(averaged, diffusion, -1, 1) / time - 1)
    assert abs(errors[1]) < 0.1
    faster = eyring_kramers_time(3 * minimum, 3 * saddle, 0.75, 0.024)
    assert faster == pytest.approx(time / 3, rel=1e-12)
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.4)


def test_finite_step_diffusion_is_the_stationary_variance_of_the_chain():
    eta, h, diffusion, variance = 0.3, 2.5, 0.07, 0.0
    for _ in range(300):
        variance = (1 - eta * h) ** 2 * variance + 2 * diffusion * eta
    assert finite_step_diffusion(diffusion, eta, h) / h == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_kramers_time_of_a_finite_step(scale):
    """Against the exact chain, apart from its overshoot at the target; slope in eta by a fit."""
    diffusion, slopes = 0.025, []
    for eta in (0.01, 0.02):
        # A potential s V with diffusion s D and steps eta/s is the same chain.
        chain = exact_mean_exit_time(
            lambda x: scale * double_well_slope(x),
            eta / scale,
            scale * diffusion,
            -1.0,
            (-2.2, 0.8),
        )
        shifted = 0.8 + OVERSHOOT * math.sqrt(2 * diffusion * eta)
        ito = mean_first_passage_time(double_well, diffusion, -1, shifted) / scale
        slopes.append((chain / ito - 1) / eta)
    measured = 2 * slopes[0] - slopes[1]

    def stated(step):
        return kramers_time(0.25 * scale, 2 * scale, -scale, 0.025 * scale, step)

    slope = (stated(1e-6 / scale) / stated(0.0) - 1) / 1e-6
    assert slope == pytest.approx(-0.25, rel=1e-4)
    assert measured == pytest.approx(slope, abs=0.01)
    # The effective diffusion of the well, put into the exponent, would be far off.
    wrong = kramers_time(0.25, 2, -1, finite_step_diffusion(diffusion, 0.01, 2.0))
    assert wrong / kramers_time(0.25, 2, -1, diffusion) < 1 - 5 * 0.01


@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_passage_time_of_a_finite_step_is_exact_to_first_order(target):
    diffusion, errors = 0.05, []
    for eta in (0.05, 0.025):
        chain = exact_mean_exit_time(double_well_slope, eta, diffusion, -1.0, (-2.4, target))
        stated = mean_first_passage_time(double_well, diffusion, -1, target, eta)
        assert mean_first_passage_time(double_well, diffusion, 1, -target, eta) == pytest.approx(
            stated, rel=1e-9
        )
        errors.append(stated / chain - 1)
        # The spread inside the well, taken for the noise everywhere, is no correction.
        hot = finite_step_diffusion(diffusion, eta, 2.0)
        assert abs(mean_first_passage_time(double_well, hot, -1, target) / chain - 1) > 0.1
    assert abs(errors[1]) < 2e-3
    assert 3 < errors[0] / errors[1] < 6
    ito = mean_first_passage_time(double_well, diffusion, -1, target)
    vanishing = mean_first_passage_time(double_well, diffusion, -1, target, 1e-9)
    assert vanishing == pytest.approx(ito, rel=1e-4)


@pytest.mark.parametrize(("exits", "exposure"), [(0, 40.0), (1, 3.0), (57, 812.5)])
def test_exit_rate_interval_is_that_of_a_poisson_count(exits, exposure):
    estimate = exit_rate(exits, exposure, 0.95)
    assert estimate.rate == exits / exposure
    assert stats.poisson.cdf(exits, estimate.high * exposure) == pytest.approx(0.025)
    if exits:
        assert stats.poisson.sf(exits - 1, estimate.low * exposure) == pytest.approx(0.025)
    else:
        assert estimate.low == 0
        assert exit_rate(0, exposure, 0.9).high == pytest.approx(3.0 / exposure, rel=2e-3)


def test_the_chain_oracle_agrees_with_the_exit_law_of_an_autoregression():
    """Exit from a ball of radius .1 at eta = .05, mu = 1, s = .04: another kernel, other nodes."""
    eta, noise, radius = 0.05, 0.04, 0.1
    time = exact_mean_exit_time(lambda x: x, eta, eta * noise / 2, 0.0, (-radius, radius))
    rho, sigma = 1 - eta, eta * math.sqrt(noise)
    stay = exact_stay_probability(rho, sigma, 1, radius, 0.0, 2000, nodes=100)
    rate = exact_exit_rate(rho, sigma, 1, radius, nodes=100)
    assert rate == pytest.approx(5.13775e-4, rel=2e-6)
    steps = 1 + np.sum(stay) + stay[-1] / math.expm1(rate)
    assert time / eta == pytest.approx(steps, rel=1e-9)


def test_the_chain_tends_to_the_ito_equation_at_the_rate_of_its_overshoot():
    etas = np.array([0.1, 0.025, 0.00625])
    chain = np.array(
        [exact_mean_exit_time(lambda x: x, eta, 0.5, 0.0, (-6.0, 1.5)) for eta in etas]
    )
    ito = mean_first_passage_time(lambda x: x**2 / 2, 0.5, 0.0, 1.5)
    assert ito == pytest.approx(12.928166, abs=5e-7)
    raw = chain / ito - 1
    order = np.log(raw[:-1] / raw[1:]) / np.log(4)
    assert abs(order[1] - 0.5) < min(0.03, abs(order[0] - 0.5))
    shifted = [
        mean_first_passage_time(lambda x: x**2 / 2, 0.5, 0.0, 1.5 + OVERSHOOT * math.sqrt(eta))
        for eta in etas
    ]
    assert abs(OVERSHOOT - 0.5826) < 5e-5
    rest = np.abs(chain / shifted - 1)
    assert np.all(np.log(rest[:-1] / rest[1:]) / np.log(4) > 0.9)
    assert rest[-1] < 0.01 < raw[-1]


def test_the_chain_oracle_does_not_depend_on_its_nodes_nor_on_an_unseen_end():
    def time(low, nodes):
        return exact_mean_exit_time(double_well_slope, 0.2, 0.05, -1.0, (low, 1.0), nodes)

    assert time(-2.6, 8.0) == pytest.approx(time(-2.2, 4.0), rel=1e-9)


@pytest.mark.statistical
def test_simulated_chains_agree_with_the_oracle_and_not_with_the_ito_equation():
    eta, diffusion, runs = 0.4, 0.1, 4000

    def z(factor, reference):
        rng = np.random.default_rng(5)
        x, steps = np.full(runs, -1.0), np.zeros(runs, int)
        inside = np.ones(runs, bool)
        while np.any(inside):
            noise = math.sqrt(2 * diffusion * eta * factor) * rng.standard_normal(inside.sum())
            x[inside] += noise - eta * double_well_slope(x[inside])
            steps[inside] += 1
            inside = x < 0.5
        times = eta * steps
        return (times.mean() - reference) / (times.std() / math.sqrt(runs))

    exact = exact_mean_exit_time(double_well_slope, eta, diffusion, -1.0, (-2.9, 0.5))
    assert abs(z(1.0, exact)) < 5
    assert abs(z(0.9, exact)) > 5
    assert abs(z(1.0, mean_first_passage_time(double_well, diffusion, -1, 0.5))) > 5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kramers_time(0.25, 2, 1, 0.1), "curvature_saddle must be negative, got 1"),
        (lambda: kramers_time(-0.25, 2, -1, 0.1), "barrier must be a positive"),
        (lambda: kramers_rate(0.25, -2, -1, 0.1), "curvature_minimum must be a positive"),
        (lambda: kramers_time(0.25, 2, -1, 0.0), "diffusion must be a positive"),
        (lambda: kramers_time(0.25, 2, -1, 0.1, 1.0), "below 2/curvature_minimum = 1"),
        (lambda: finite_step_diffusion(0.1, 1.0, 2.0), "below 2, got 2: the chain is unstable"),
        (lambda: eyring_kramers_time(np.diag([1, 0.0]), np.eye(2), 1, 1), "positive definite"),
        (lambda: eyring_kramers_time(np.eye(2), np.eye(2), 1, 1), "exactly one negative"),
        (lambda: eyring_kramers_time(np.eye(2), -np.eye(2), 1, 1), "exactly one negative"),
        (lambda: mean_first_passage_time(np.cos, 0.1, 0, 1), "does not rise behind the start"),
        (lambda: mean_first_passage_time(np.negative, 1, 0, -1), "does not rise"),
        (lambda: mean_first_passage_time(double_well, -1, 0, 1), "diffusion must be a positive"),
        (lambda: mean_first_passage_time(double_well, 1, 0, 1, -0.1), "step_size must be a finite"),
        (lambda: effective_diffusion(np.cos, 0.1, -1.0), "period must be a positive"),
        (lambda: exit_rate(-1, 1.0, 0.9), "exits must not be negative"),
        (lambda: exit_rate(1, 0.0, 0.9), "exposure must be a positive"),
        (lambda: exit_rate(1, 1.0, 1.0), "strictly between 0 and 1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_looking_only_at_every_tenth_step(level):
    """Against the tenth power of the one-step kernel, solved on a grid that shares no formula."""
    diffusion, step, every = 0.1, 0.02, 10
    nodes, weights = np.polynomial.legendre.leggauss(900)
    x, w = 2.6 * nodes, 2.6 * weights
    mean, variance = x - step * x * (x**2 - 1), 2 * diffusion * step
    kernel = (
        np.exp(-((x - mean[:, None]) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance) * w
    )
    seen = np.linalg.matrix_power(kernel, every)
    before = x < level
    inside = seen[np.ix_(before, before)]
    times = np.linalg.solve(np.eye(before.sum()) - inside, np.full(before.sum(), every * step))
    exact = np.interp(-1.0, x[before], times)
    found = mean_first_passage_time(
        lambda x: (x**2 - 1) ** 2 / 4, diffusion, -1.0, level, step, monitoring_step=every * step
    )
    np.testing.assert_allclose(found, exact, rtol=3e-3)
    # Looking at every step is another question.
    often = mean_first_passage_time(lambda x: (x**2 - 1) ** 2 / 4, diffusion, -1.0, level, step)
    assert abs(often / exact - 1) > 1e-2
