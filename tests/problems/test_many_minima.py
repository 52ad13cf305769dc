"""Wells that the sample shifts: what choosing the best of K costs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sgdsim.bounds import expected_maximum_of_normals
from sgdsim.problems import ManyMinima, PeriodicWells, many_minima

pytestmark = pytest.mark.usefixtures("x64")

PERIOD, PLATEAU = 2.0, 0.4
LINE = PeriodicWells(amplitude=1.0, period=PERIOD)


def draw(replicas=4, wells=5, spread=0.2, best=True, seed=0) -> ManyMinima:
    return many_minima(LINE, PLATEAU, (replicas, wells), spread, best, seed)


def test_the_shift_of_every_well_is_its_gap_on_the_whole_plateau():
    known = draw()
    shifts = np.ravel(known.shifts)
    for well, shift in enumerate(shifts):
        for offset in (-PLATEAU, -0.2, 0.0, 0.399):
            gap = known.gap(jnp.array([well * PERIOD + offset])).value
            np.testing.assert_allclose(gap, shift, rtol=1e-9)
        for offset in (-PERIOD / 2, PERIOD / 2):
            gap = known.gap(jnp.array([well * PERIOD + offset])).value
            np.testing.assert_allclose(gap, 0, atol=1e-12)
    for outside in (-1, -len(shifts), len(shifts), len(shifts) + 3, -1000):
        assert float(known.gap(jnp.array([outside * PERIOD])).value) == 0.0


def test_on_the_plateaus_both_risks_have_the_same_derivatives():
    known = draw()
    for x in (0.3, 3 * PERIOD - 0.35, 17 * PERIOD):
        theta = jnp.array([x])
        for derivative in (jax.grad, jax.hessian):
            ours = derivative(known.training.empirical_risk)(theta)
            np.testing.assert_allclose(ours, derivative(LINE.risk)(theta), atol=1e-11)


def test_the_empirical_risk_is_twice_continuously_differentiable():
    known = draw(spread=1.0)
    risk = eqx.filter_jit(known.training.empirical_risk)
    curvature = jax.vmap(jax.hessian(risk))
    # Half of the differences across a joint would be jumps if the bump were only once smooth.
    for joint in (PLATEAU, PERIOD / 2):
        for derivative in (jax.vmap(risk), jax.vmap(jax.grad(risk)), curvature):
            left, right = derivative(7 * PERIOD + joint + jnp.array([[-1e-7], [1e-7]]))
            np.testing.assert_allclose(left, right, atol=1e-4)
    # Derivatives inside the flank, against differences.
    x = 7 * PERIOD + 0.7
    slope = (risk(jnp.array([x + 1e-6])) - risk(jnp.array([x - 1e-6]))) / 2e-6
    np.testing.assert_allclose(jax.grad(risk)(jnp.array([x]))[0], slope, rtol=1e-7)


def test_far_wells_are_as_sharp_as_the_first():
    known = draw(replicas=1000, wells=1000)
    far = jnp.array([999_500 * PERIOD + 0.25])
    ours, first = (jax.grad(known.population.empirical_risk)(x) for x in (far, jnp.array([0.25])))
    np.testing.assert_allclose(ours, first, rtol=1e-8)
    ours = jax.grad(known.training.empirical_risk)(far)
    np.testing.assert_allclose(ours, first, rtol=1e-8)


@pytest.mark.parametrize("best", [True, False])
def test_every_trajectory_starts_in_its_own_group(best):
    known = draw(replicas=6, best=best)
    starts = known.starts(4)
    assert starts.shape == (4, 1)
    wells = np.asarray(starts[:, 0]) / PERIOD
    np.testing.assert_array_equal(wells // 5, np.arange(4))
    chosen = np.argmax(known.shifts[:4], axis=1) if best else np.zeros(4)
    np.testing.assert_array_equal(wells % 5, chosen)
    if best:  # no other well of the group has a lower empirical risk
        risk = jax.vmap(known.training.empirical_risk)
        risks = risk(jnp.arange(20.0)[:, None] * PERIOD).reshape(4, 5)
        np.testing.assert_allclose(risk(starts), risks.min(axis=1), atol=1e-12)


def test_trajectories_do_not_share_samples():
    with pytest.raises(ValueError, match=r"7 trajectories but only 6 independent samples"):
        draw(replicas=6).starts(7)


@pytest.mark.statistical
@pytest.mark.parametrize("wells", [1, 4, 64])
def test_mean_gap_at_the_start(wells):
    replicas, spread = 2000, 0.3
    for best in (True, False):
        known = draw(replicas, wells, spread, best, seed=11)
        gaps = np.asarray(jax.vmap(known.gap)(known.starts(replicas)).value)
        stderr = gaps.std(ddof=1) / replicas**0.5
        expected = spread * expected_maximum_of_normals(wells) if best else 0.0
        assert abs(gaps.mean() - expected) < 5 * stderr
        if best and wells > 1:
            # The asymptotic formula and a data-independent choice are refused.
            assert abs(gaps.mean() - spread * (2 * np.log(wells)) ** 0.5) > 5 * stderr
            assert gaps.mean() > 5 * stderr
