"""Splitting against the exact kernel, against plain Monte Carlo, and against its own mutants."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgdsim
from sgdsim.dynamics import GaussianGradient, heavy_ball
from sgdsim.problems import Quadratic
from sgdsim.stagnation import (
    Below,
    Splitting,
    clopper_pearson,
    exact_exit_probability,
    exact_exit_rate,
    splitting_exit_probability,
    splitting_exit_rate,
)

pytestmark = pytest.mark.slow

ETA, NOISE = 0.05, 0.04  # with mu = 1: the settings of section 13 of the theory


FEW = Splitting(particles=200, replicas=40)
FIXED = Splitting((0.4, 0.6, 0.8), particles=200, replicas=40)


def setting(m, radius, eta=ETA):
    """Give problem, stepper, region, start for which the exact kernel knows the answer."""
    stepper = sgdsim.gaussian_sgd(eta, sgdsim.IsotropicNoise(NOISE))
    return Quadratic([1.0] * m).problem(), stepper, sgdsim.Ball(jnp.zeros(m), radius), jnp.zeros(m)


def exact(m, radius, steps):
    return exact_exit_probability(1 - ETA, ETA * NOISE**0.5, m, radius, 0.0, steps)[-1]


def z_score(result, value, truth):
    return (value - truth) / (result.relative_error * value)


@pytest.fixture
def replace_stage(monkeypatch):
    """Put a mutant between the levels: it gets the particles before each level after the first."""

    def install(mutate):
        from sgdsim.stagnation import _splitting

        stage = _splitting._stage

        def mutant(chain, key, number, level, particles):
            return stage(chain, key, number, level, mutate(particles) if number else particles)

        monkeypatch.setattr(_splitting, "_stage", mutant)

    return install


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("m", "radius", "steps", "magnitude"),
    [(1, 0.2, 1000, 2.65e-7), (1, 0.215, 1000, 1.23e-8), (5, 0.24, 200, 8.72e-9)],
)
def test_agrees_with_the_exact_kernel(m, radius, steps, magnitude):
    truth = exact(m, radius, steps)
    assert truth == pytest.approx(magnitude, rel=0.05)
    rare = splitting_exit_probability(*setting(m, radius), steps, FEW)
    assert abs(z_score(rare, rare.probability, truth)) < 5
    assert rare.relative_error < 0.3
    assert np.prod(rare.level_probabilities) == pytest.approx(rare.probability)
    # Plain Monte Carlo of the same precision needs steps / (p error^2).
    assert rare.trajectory_steps < 1e-3 * steps / (truth * rare.relative_error**2)
    assert "times the steps for this precision" in rare.sentence
    assert rare.low < rare.probability < rare.high


@pytest.mark.statistical
@pytest.mark.parametrize("levels", [(0.4, 0.6, 0.8), (0.3, 0.31, 0.95)])
def test_product_is_unbiased_with_few_particles(levels):
    # Some replicas die out, others count too much: only their mean, zeros included, is right.
    truth = exact(1, 0.13, 40)
    from sgdsim.stagnation._splitting import run_splitting

    runs = run_splitting(*setting(1, 0.13), (40, 0), Splitting(levels, particles=10, replicas=500))
    last = runs.prefix[:, -1]
    error = last.std(ddof=1) / len(last) ** 0.5
    assert abs(last.mean() - truth) < 5 * error
    alive = last[last > 0]
    assert len(alive) < len(last)
    assert abs(alive.mean() - truth) > 5 * error


@pytest.mark.statistical
def test_restart_at_step_zero_is_rejected(replace_stage):
    truth, settings = exact(1, 0.14, 40), dataclasses.replace(FIXED, replicas=150)
    rare = splitting_exit_probability(*setting(1, 0.14), 40, settings)
    assert abs(z_score(rare, rare.probability, truth)) < 5
    replace_stage(lambda particles: particles._replace(step=jnp.zeros_like(particles.step)))
    mutant = splitting_exit_probability(*setting(1, 0.14), 40, settings)
    assert z_score(mutant, mutant.probability, truth) > 5


@pytest.mark.statistical
def test_memory_goes_along_from_level_to_level(replace_stage):
    problem, _, region, theta = setting(2, 0.2)
    stepper = heavy_ball(0.02, 0.9, GaussianGradient(sgdsim.IsotropicNoise(NOISE)))
    steps, runs = 60, 20_000
    ensemble = sgdsim.Ensemble(
        problem, stepper, region, sgdsim.no_observables,
        sgdsim.Schedule(steps, steps, steps), sgdsim.choose_layout("vmap", devices=1),
    )  # fmt: skip
    state = ensemble.start(theta, runs)
    (chunk,) = ensemble.run(ensemble.keys(seed=0, trajectories=runs), state)
    plain = float(np.mean(np.asarray(chunk.state.track.exit_step) > 0))
    assert 2e-3 < plain < 5e-2

    def z():
        rare = splitting_exit_probability(problem, stepper, region, theta, steps, FIXED)
        error = np.hypot(rare.relative_error * rare.probability, (plain / runs) ** 0.5)
        return (rare.probability - plain) / error

    assert abs(z()) < 5

    def forget(particles):
        memory = jax.tree.map(jnp.zeros_like, particles.iterate.memory)
        return particles._replace(iterate=particles.iterate._replace(memory=memory))

    replace_stage(forget)
    assert z() < -5


@pytest.mark.statistical
def test_rate_agrees_with_the_quasi_stationary_one():
    truth = exact_exit_rate(1 - ETA, ETA * NOISE**0.5, 1, 0.17)
    settings = Splitting((0.4, 0.55, 0.65, 0.75, 0.85), 200, 150)
    estimate = splitting_exit_rate(*setting(1, 0.17), 200, 100, settings)
    assert abs(z_score(estimate, estimate.rate, truth)) < 5
    early = splitting_exit_rate(*setting(1, 0.17), 100, 0, settings)
    assert z_score(early, early.rate, truth) < -5


def test_rate_of_a_frequent_exit():
    # Exits of 40 % in the window: the rate is not the probability over the time.
    truth = exact_exit_rate(1 - ETA, ETA * NOISE**0.5, 1, 0.1)
    estimate = splitting_exit_rate(*setting(1, 0.1), 1200, 200, Splitting((), 200, 40))
    assert abs(z_score(estimate, estimate.rate, truth)) < 5
    assert estimate.relative_error < 0.05


@pytest.mark.statistical
def test_interval_covers():
    truth = exact(1, 0.14, 40)
    covered = 0
    for seed in range(40):
        settings = dataclasses.replace(FIXED, replicas=8, seed=seed)
        rare = splitting_exit_probability(*setting(1, 0.14), 40, settings, confidence=0.8)
        covered += int(rare.low < truth < rare.high)
    low, high = clopper_pearson(covered, 40, 0.9999)
    assert low < 0.8 < high
    assert covered > 26


def test_one_program_for_all_levels_and_numbers(monkeypatch):
    from sgdsim.stagnation import _splitting

    traces = []
    inner = _splitting._to_level
    monkeypatch.setattr(_splitting, "_to_level", lambda *a: traces.append(1) or inner(*a))
    for radius, eta, steps in [(0.1, 0.05, 31), (0.12, 0.06, 37)]:
        settings = Splitting(particles=77, replicas=2)
        splitting_exit_probability(*setting(3, radius, eta), steps, settings)
    assert len(traces) == 1


def test_result_depends_on_the_seed_alone():
    def estimate(seed):
        settings = Splitting((0.5, 0.8), 200, 3, seed)
        return splitting_exit_probability(*setting(1, 0.1), 100, settings).probability

    assert estimate(1) == estimate(1) != estimate(2)


def test_levels_that_are_never_reached_claim_no_zero():
    rare = splitting_exit_probability(*setting(1, 0.5), 50, Splitting((), 200, 2))
    assert (rare.probability, rare.low, rare.relative_error) == (0.0, 0.0, np.inf)
    assert rare.high == pytest.approx(float(clopper_pearson(0, 400, 0.95)[1]))
    assert "no particle reached level 1 of 1" in rare.sentence
    assert "not 0 but below about 9.2e-03 at 95%" in rare.sentence
    rate = splitting_exit_rate(*setting(1, 0.5), 50, 10, Splitting((), 200, 2))
    assert rate.rate == 0
    assert rate.high == pytest.approx(-np.log1p(-rare.high) / 40)


def test_later_level_never_reached():
    rare = splitting_exit_probability(*setting(1, 0.5), 50, Splitting((0.05, 0.9), 200, 2))
    assert rare.level_probabilities[0] > 0.5
    assert rare.level_probabilities[1] == 0
    assert np.isnan(rare.level_probabilities[2])
    assert "level 2 of 3 (0.9 of the radius)" in rare.sentence


def test_descent_without_noise_never_leaves_and_divergence_is_an_exit():
    problem, _, ball, _ = setting(1, 0.5)
    start = jnp.full(1, 0.2)
    settings = Splitting(particles=10, replicas=2)
    still = splitting_exit_probability(
        problem, sgdsim.gradient_descent(0.1), ball, start, 20, settings
    )
    assert still.probability == 0
    wild = splitting_exit_probability(
        problem, sgdsim.gradient_descent(1e30), ball, start, 20, settings
    )
    assert (wild.probability, wild.low, wild.high) == (1.0, 1.0, 1.0)


def test_double_precision():
    with jax.enable_x64(True):
        problem, stepper, ball, theta = setting(1, 0.1)
        assert theta.dtype == jnp.float64
        rare = splitting_exit_probability(
            problem, stepper, ball, theta, 100, Splitting((0.5, 0.8), 300, 10)
        )
    assert abs(z_score(rare, rare.probability, exact(1, 0.1, 100))) < 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"theta": jnp.full(1, 0.3)}, "theta must be inside the region, its distance is 0.3"),
        ({"theta": jnp.full(1, jnp.nan)}, "theta must be inside the region"),
        ({"region": Below(coordinate=0, level=1.0)}, "radius must be positive and finite, got 0"),
        ({"steps": 0}, "steps must be a positive integer, got 0"),
        ({"confidence": 1.0}, "confidence must lie strictly between 0 and 1"),
    ],
)
def test_refusals(change, words):
    problem, stepper, region, theta = setting(1, 0.2)
    arguments: dict[str, Any] = {"region": region, "theta": theta, "steps": 5} | change
    with pytest.raises(ValueError, match=words):
        splitting_exit_probability(problem, stepper, **arguments)


def test_rate_refuses_a_burn_in_beyond_the_end():
    with pytest.raises(ValueError, match="burn_in must be at least 0 and below steps = 5, got 5"):
        splitting_exit_rate(*setting(1, 0.2), 5, 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"levels": (0.5, 0.5)}, "levels must increase strictly within"),
        ({"levels": (0.5, 1.0)}, "levels must increase strictly within"),
        ({"replicas": 1}, "replicas must be at least 2"),
        ({"particles": 0}, "particles must be a positive integer"),
    ],
)
def test_splitting_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        Splitting(**arguments)


def test_regions_of_any_kind():
    class Slab(sgdsim.ensemble.AbstractRegion):
        radius: float = 0.1
        width: int = eqx.field(static=True, default=1)

        def squared_distance(self, theta):
            return jnp.sum(jnp.square(theta[: self.width]))

    problem, stepper, _, _ = setting(3, 0.1)
    rare = splitting_exit_probability(
        problem, stepper, Slab(), jnp.zeros(3), 100, Splitting((0.5, 0.8), 300, 10)
    )
    assert abs(z_score(rare, rare.probability, exact(1, 0.1, 100))) < 5
