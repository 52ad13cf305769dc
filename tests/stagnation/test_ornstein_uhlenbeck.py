"""Ornstein-Uhlenbeck exits against a finite-volume generator, closed forms and the exact chain."""

import math

import numpy as np
import pytest
from scipy import integrate, linalg

from sgdsim.stagnation import (
    OrnsteinUhlenbeckExit,
    exact_exit_rate,
    level_exit_time,
    mean_first_passage_time,
)


def generator(rate, noise_scale, dimension, radius, cells=600):
    """Reversible jump chain on the shells of a ball, killed at the boundary; second order."""
    width = radius / cells
    edge = np.arange(cells + 1) * width
    centre = (edge[1:] + edge[:-1]) / 2

    def log_weight(x):
        return (dimension - 1) * np.log(x) - rate * x**2 / noise_scale**2

    flux = noise_scale**2 / (2 * width**2)
    out = flux * np.exp(log_weight(edge[1:]) - log_weight(centre))
    out[-1] *= 2  # the boundary is half a cell away
    into = np.zeros(cells)
    into[1:] = flux * np.exp(log_weight(edge[1:-1]) - log_weight(centre[1:]))
    return centre, np.diag(out[:-1], 1) + np.diag(into[1:], -1) - np.diag(out + into)


@pytest.mark.parametrize(
    ("dimension", "time"), [(1, 17.646228), (2, 5.748064), (3, 2.853696), (10, 0.4058145)]
)
def test_mean_time_matches_the_table_and_the_double_integral(dimension, time):
    ball = OrnsteinUhlenbeckExit(1.3, 0.7, dimension, 1.2)
    assert ball.mean_time(0.4) == pytest.approx(time, rel=1e-7)
    stiffness = 1.3 / 0.7**2

    def inner(x):
        mass = integrate.quad(lambda y: y ** (dimension - 1) * math.exp(-stiffness * y * y), 0, x)
        return x ** (1 - dimension) * math.exp(stiffness * x * x) * mass[0]

    by_hand = 2 / 0.7**2 * integrate.quad(inner, 0.4, 1.2)[0]
    assert ball.mean_time(0.4) == pytest.approx(by_hand, rel=1e-9)


def test_survival_and_rates_match_the_table():
    one, three = (OrnsteinUhlenbeckExit(1.0, 1.0, m, 1.5) for m in (1, 3))
    np.testing.assert_allclose(one.survival(0.3, [0.5, 3.0]), [0.963946, 0.605579], atol=6e-7)
    np.testing.assert_allclose(three.survival(0.3, [1.0]), [0.493071], atol=6e-7)
    assert one.exit_rates(1)[0] == pytest.approx(0.188932, abs=6e-7)
    assert three.exit_rates(1)[0] == pytest.approx(1.004976, abs=6e-7)


@pytest.mark.parametrize("dimension", [1, 2, 6])
def test_all_laws_match_a_finite_volume_generator(dimension):
    ball = OrnsteinUhlenbeckExit(1.3, 0.7, dimension, 1.2)
    centre, matrix = generator(1.3, 0.7, dimension, 1.2)
    start = float(centre[200])
    ones = np.ones(centre.size)
    assert ball.mean_time(start) == pytest.approx(-linalg.solve(matrix, ones)[200], rel=1e-4)
    killed = -matrix @ ones
    transform = linalg.solve(0.8 * np.eye(centre.size) - matrix, killed)[200]
    assert ball.laplace(0.8, start) == pytest.approx(transform, rel=1e-4)
    # The chain is reversible: similar to a symmetric tridiagonal matrix.
    side = np.sqrt(np.diag(matrix, 1) * np.diag(matrix, -1))
    rates, vectors = linalg.eigh_tridiagonal(-np.diag(matrix), -side)
    np.testing.assert_allclose(ball.exit_rates(6), rates[:6], rtol=1e-4)
    root = np.exp(np.cumsum(np.log(np.diag(matrix, 1) / np.diag(matrix, -1))) / 2)
    root = np.concatenate([[1.0], root])
    times = np.array([0.003, 0.05, 0.5, 2.0])
    decay = np.exp(-np.multiply.outer(times, rates))
    survival = decay * (vectors[200] / root[200]) @ (vectors.T @ root)
    np.testing.assert_allclose(ball.survival(start, times), survival, atol=3e-5)


def test_brownian_ball_has_its_closed_forms():
    line, space = (OrnsteinUhlenbeckExit(0.0, 1.0, m, 1.0) for m in (1, 3))
    assert line.mean_time(0.5) == pytest.approx(0.75)
    assert OrnsteinUhlenbeckExit(0.0, 0.5, 7, 2.0).mean_time(1.0) == pytest.approx(3 / (7 * 0.25))
    assert line.laplace(2.0) == pytest.approx(1 / math.cosh(2))
    assert space.laplace(2.0) == pytest.approx(2 / math.sinh(2))
    odd = np.arange(1, 20, 2)
    np.testing.assert_allclose(line.exit_rates(10), (math.pi * odd) ** 2 / 8, rtol=1e-12)
    n = np.arange(1, 60)
    times = np.array([0.01, 0.1, 0.5])
    theta = 2 * np.exp(-np.multiply.outer(times, (math.pi * n) ** 2 / 2)) @ (-1.0) ** (n + 1)
    np.testing.assert_allclose(space.survival(0.0, times), theta, rtol=1e-9)
    # A weak pull is no different.
    weak = OrnsteinUhlenbeckExit(1e-9, 1.0, 3, 1.0)
    np.testing.assert_allclose(weak.survival(0.0, times), theta, rtol=1e-8)
    assert weak.mean_time() == pytest.approx(1 / 3, rel=1e-8)


def test_no_rate_is_missed_and_survival_integrates_to_the_mean():
    rng = np.random.default_rng(0)
    for _ in range(12):
        rate, dimension = 10 ** rng.uniform(-2, 1.5), int(rng.integers(1, 40))
        ball = OrnsteinUhlenbeckExit(rate, 1.0, dimension, rng.uniform(0.3, 2.0))
        _, matrix = generator(rate, 1.0, dimension, ball.radius, cells=400)
        side = np.sqrt(np.diag(matrix, 1) * np.diag(matrix, -1))
        rates = linalg.eigvalsh_tridiagonal(-np.diag(matrix), -side)[:8]
        np.testing.assert_allclose(ball.exit_rates(8), rates, rtol=1e-2)
        assert ball.exit_rates(1)[0] * ball.mean_time() > 1
    at = np.geomspace(1e-3, 400, 3000)
    ball = OrnsteinUhlenbeckExit(1.3, 0.7, 2, 1.2)
    mean = at[0] + integrate.trapezoid(ball.survival(0.4, at) * at, np.log(at))
    assert mean == pytest.approx(ball.mean_time(0.4), rel=1e-5)


def test_small_noise_limit():
    ratios = []
    for z in (16.0, 64.0, 256.0):
        ball = OrnsteinUhlenbeckExit(1.0, 1 / math.sqrt(z), 1, 1.0)
        ratios.append(ball.mean_time() / ball.mean_time_small_noise())
        assert ball.exit_rates(1)[0] * ball.mean_time() == pytest.approx(1, rel=1e-5)
    assert ratios[0] == pytest.approx(1.03, abs=0.01)
    # The error is of order 1/z.
    assert (ratios[0] - 1) * 16 == pytest.approx((ratios[2] - 1) * 256, rel=0.2)
    assert abs(ratios[2] - 1) < 0.01
    assert OrnsteinUhlenbeckExit(1.0, 0.01, 1, 1.0).mean_time() == math.inf


def test_level_time_matches_the_table_and_the_passage_time():
    assert level_exit_time(1.0, 1.0, 0.0, 1.5) == pytest.approx(12.928166, rel=1e-7)
    for rate, scale, start, level in ((0.7, 0.4, -0.5, 0.9), (2.0, 1.5, -1.0, -0.2)):
        for step in (0.0, 0.05):
            passage = mean_first_passage_time(
                lambda x, k=rate: k * x**2 / 2, scale**2 / 2, start, level, monitoring_step=step
            )
            assert level_exit_time(rate, scale, start, level, step) == pytest.approx(
                passage, rel=1e-8
            )
    # Far on the way down there is no noise worth speaking of.
    assert level_exit_time(1.0, 1.0, -400.0, -200.0) == pytest.approx(math.log(2), rel=1e-4)
    assert level_exit_time(1.0, 1.0, 0.3, 0.3) == 0.0


def test_monitoring_correction_against_the_exact_chain():
    """Error of the exit rate: order 3/2 in the step, 1 for a sloppy match, 1/2 uncorrected."""
    steps = np.array([0.08, 0.04, 0.02, 0.01])
    errors = {"matched": [], "sloppy": [], "seen always": []}
    for eta in steps:
        # The noise of a step makes the same process at every step size.
        exact = exact_exit_rate(1 - eta, math.sqrt(0.5 * eta), 3, 1.5) / eta
        chain = OrnsteinUhlenbeckExit.of_chain(eta, 1.0, 0.5 / eta, 3, 1.5)
        balls = {
            "matched": chain,
            "sloppy": OrnsteinUhlenbeckExit(1.0, math.sqrt(0.5), 3, 1.5, eta),
            "seen always": OrnsteinUhlenbeckExit(chain.rate, chain.noise_scale, 3, 1.5),
        }
        for name, ball in balls.items():
            errors[name].append(abs(ball.exit_rates(1)[0] / exact - 1))
    orders = {name: np.polyfit(np.log(steps), np.log(e), 1)[0] for name, e in errors.items()}
    assert orders["matched"] > 1.4
    assert orders["sloppy"] == pytest.approx(1.0, abs=0.15)
    assert orders["seen always"] == pytest.approx(0.5, abs=0.15)
    assert errors["matched"][-1] < 1e-4
    assert errors["sloppy"][-1] > 1e-2
    assert errors["seen always"][-1] > 0.1


@pytest.mark.statistical
def test_mean_time_of_a_simulated_chain():
    rng = np.random.default_rng(0)
    eta, curvature, variance, runs = 0.02, 1.0, 40.0, 4000
    theta, time = np.zeros((runs, 2)), np.zeros(runs)
    alive = np.arange(runs)
    while alive.size:
        noise = rng.standard_normal((alive.size, 2)) * math.sqrt(variance)
        theta[alive] -= eta * (curvature * theta[alive] + noise)
        time[alive] += eta
        alive = alive[np.linalg.norm(theta[alive], axis=1) <= 1.5]
    chain = OrnsteinUhlenbeckExit.of_chain(eta, curvature, variance, 2, 1.5)
    unit = time.std() / math.sqrt(runs)
    assert abs(time.mean() - chain.mean_time()) < 5 * unit
    seen_always = OrnsteinUhlenbeckExit(chain.rate, chain.noise_scale, 2, 1.5)
    assert abs(time.mean() - seen_always.mean_time()) > 5 * unit


def test_refusals():
    for name, value in {"rate": -1.0, "noise_scale": 0.0, "dimension": 0, "radius": 0.0}.items():
        with pytest.raises(ValueError, match=name):
            OrnsteinUhlenbeckExit(
                **{"rate": 1.0, "noise_scale": 1.0, "dimension": 1, "radius": 1.0, name: value}
            )
    ball = OrnsteinUhlenbeckExit(1.0, 1.0, 1, 1.0)
    with pytest.raises(ValueError, match="has left already"):
        ball.mean_time(1.1)
    with pytest.raises(ValueError, match="terms of the survival series"):
        ball.survival(0.5, [1e-9])
    with pytest.raises(ValueError, match="series cancel at the time"):
        OrnsteinUhlenbeckExit(0.0, 1.0, 60, 3.0).survival(0.1, [0.01, 0.15])
    with pytest.raises(ValueError, match="dimension must be at most 150"):
        OrnsteinUhlenbeckExit(0.0, 1.0, 1000, 3.0).exit_rates(1)
    with pytest.raises(ValueError, match="below the range of double precision"):
        OrnsteinUhlenbeckExit(1.0, 0.01, 1, 1.0).exit_rates(1)
    with pytest.raises(ValueError, match="no process in continuous time"):
        OrnsteinUhlenbeckExit.of_chain(1.2, 1.0, 1.0, 1, 1.0)
    with pytest.raises(ValueError, match="change the sign of both"):
        level_exit_time(1.0, 1.0, 1.0, 0.5)
    np.testing.assert_array_equal(ball.survival(1.0, [0.0, 1.0]), [1.0, 0.0])
