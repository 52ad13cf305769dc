"""Gradient flow against the matrix exponential, and what becomes of a flow that fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from sgdsim.dynamics import GradientFlow, Iterate
from sgdsim.problems import Problem

pytestmark = pytest.mark.usefixtures("x64")

HESSIAN, ETA = np.array([[3.0, 1.0], [1.0, 0.5]]), 0.4


def flow_to(stepper, problem, theta, steps):
    def step(iterate, _):
        return stepper.step(problem, iterate, ())[0], None

    start = stepper.start(problem, theta)
    return jax.jit(lambda start: jax.lax.scan(step, start, None, length=steps)[0])(start).theta


@pytest.mark.parametrize(("order", "solver"), [(1, "tsit5"), (2, "dopri5"), (1, "dopri8")])
def test_flow_of_a_quadratic_is_the_matrix_exponential(quadratic, order, solver):
    """One step is eta units of time; order 2 flows along (H + eta/2 H^2) theta."""
    problem, hessian, _ = quadratic(HESSIAN, np.eye(2))
    stepper = GradientFlow(ETA, order, solver, rtol=1e-10, atol=1e-12)
    rate = hessian if order == 1 else hessian + ETA / 2 * hessian @ hessian
    start = np.array([1.0, -2.0])
    found = flow_to(stepper, problem, jnp.asarray(start), 5)
    np.testing.assert_allclose(found, scipy.linalg.expm(-5 * ETA * rate) @ start, atol=1e-8)


def test_tolerances_are_followed(quadratic):
    problem, hessian, _ = quadratic(HESSIAN, np.eye(2))
    start = np.array([1.0, -2.0])
    exact = scipy.linalg.expm(-10.0 * hessian) @ start
    errors = [
        np.abs(flow_to(GradientFlow(10.0, rtol=t, atol=t), problem, jnp.asarray(start), 1) - exact)
        for t in (1e-4, 1e-9)
    ]
    assert errors[1].max() < 1e-8 < errors[0].max() < 1e-3


def test_a_flow_that_blows_up_ends_in_nan_and_stays_there():
    """theta' = theta^2 reaches infinity at time 1; the trajectory counts as diverged."""
    problem = Problem(lambda theta, z: -(theta["a"] ** 3) / 3 + 0 * z, jnp.zeros(1))
    stepper, theta = GradientFlow(0.8), {"a": jnp.asarray(1.0)}
    before = flow_to(stepper, problem, theta, 1)
    np.testing.assert_allclose(before["a"], 5.0, rtol=1e-3)
    assert np.isnan(flow_to(stepper, problem, theta, 2)["a"])
    assert np.isnan(flow_to(stepper, problem, theta, 50)["a"])


def test_single_precision_stays_single(quadratic):
    problem, *_ = quadratic(HESSIAN, np.eye(2))
    theta = jnp.ones(2, jnp.float32)
    moved = jax.eval_shape(
        lambda theta: GradientFlow(jnp.asarray(0.1), 2).step(
            problem.astype(jnp.float32), Iterate(theta), ()
        )[0],
        theta,
    )
    assert moved.theta.dtype == jnp.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "heun"}, "refused for gradient flow: it is for equations with noise.*'tsit5'"),
        ({"solver": "kvaerno5"}, "refused for gradient flow: it is implicit.*'dopri8'"),
        ({"solver": "tsit"}, "unknown solver 'tsit'. Did you mean 'tsit5'"),
        ({"order": 3}, "order must be 1 or 2"),
        ({"rtol": 0.0}, "rtol must be a positive finite number"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive finite number"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        GradientFlow(**{"learning_rate": 0.1, **settings})
