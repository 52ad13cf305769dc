"""Edge flow: its equations in NumPy, a closed form, and gradient descent at the edge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    EdgeFlow,
    EdgeFlowState,
    Iterate,
    gradient_descent,
    predicted_loss,
    predicted_squared_gradient,
)
from sgdsim.problems import Problem, cast

pytestmark = pytest.mark.usefixtures("x64")

ETA = 0.8


def follow(stepper, problem, theta, steps, see):
    """Flat parameters and what is seen after every step."""

    def step(iterate, _):
        iterate, _ = stepper.step(problem, iterate, ())
        return iterate, (ravel_pytree(iterate.theta)[0], see(problem, iterate))

    def run(theta):
        return jax.lax.scan(step, stepper.start(problem, theta), None, length=steps)[1]

    return jax.device_get(jax.jit(run)(theta))


def predictions(problem, iterate):
    return {
        "loss": predicted_loss(problem, iterate),
        "squared_gradient": predicted_squared_gradient(problem, iterate),
        **iterate.memory._asdict(),
    }


def loss_and_gradient(problem, iterate):
    risk, gradient = jax.value_and_grad(problem.empirical_risk)(iterate.theta)
    return {"loss": risk, "squared_gradient": jnp.sum(ravel_pytree(gradient)[0] ** 2)}


def test_steps_are_the_equations(network_problem):
    """Euler steps with the dense Hessian, from an oscillation that is felt."""
    problem, theta = network_problem
    flat, unravel = ravel_pytree(theta)
    risk = jax.jit(lambda point: problem.empirical_risk(unravel(point)))
    gradient, hessian_of = jax.jit(jax.grad(risk)), jax.jit(jax.hessian(risk))
    direction = np.random.default_rng(0).normal(size=flat.size)
    direction /= np.linalg.norm(direction)
    flow = EdgeFlow(0.7, substeps=3, amplitude=1e-3)
    iterate = Iterate(
        theta, EdgeFlowState(jnp.asarray(direction), jnp.asarray(0.3), jnp.asarray(0.0))
    )
    found, none = jax.jit(flow.step)(problem, iterate, ())
    assert none is None

    w, u, r, h = np.asarray(flat), direction, 0.3, 0.7 / 3
    for _ in range(3):
        hessian = np.asarray(hessian_of(w))
        drift = (gradient(w + r * u) + gradient(w - r * u)) / 2
        curvature = u @ hessian @ u
        turned = u + h * (hessian @ u - curvature * u)
        w, u, r = (
            w - h * drift,
            turned / np.linalg.norm(turned),
            r * np.exp(h * (curvature - 2 / 0.7)),
        )
    np.testing.assert_allclose(ravel_pytree(found.theta)[0], w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.memory.direction, u, rtol=1e-9, atol=1e-12)
    assert found.memory.amplitude == pytest.approx(max(r, 1e-3), rel=1e-9)
    # The mean over both ends of the oscillation.
    ends = [w + max(r, 1e-3) * u, w - max(r, 1e-3) * u]
    assert predicted_loss(problem, found) == pytest.approx(np.mean([risk(e) for e in ends]))
    squared = np.mean([np.sum(np.asarray(gradient(e)) ** 2) for e in ends])
    assert predicted_squared_gradient(problem, found) == pytest.approx(squared)


def test_far_below_the_edge_it_is_gradient_flow(quadratic):
    problem, hessian, _ = quadratic([[3.0, 1.0], [1.0, 0.5]], np.eye(2))
    flow = EdgeFlow(0.1, substeps=2, amplitude=1e-6)
    path, seen = follow(flow, problem, jnp.array([1.0, -2.0]), 5, predictions)
    euler = np.linalg.matrix_power(np.eye(2) - 0.05 * hessian, 10) @ [1.0, -2.0]
    np.testing.assert_allclose(path[-1], euler, atol=1e-12)
    np.testing.assert_array_equal(seen["amplitude"], 1e-6)
    assert seen["curvature"][0] == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-5)


def network():
    """Tanh network with one input and 20 hidden units on 20 points of a sine, p = 61."""
    random = np.random.default_rng(2)
    x = np.linspace(-1, 1, 20)[:, None]
    theta = {
        "a": jnp.asarray(random.normal(size=(1, 20))),
        "b": jnp.asarray(random.normal(size=20) * 0.1),
        "c": jnp.asarray(random.normal(size=20) / np.sqrt(20)),
        "d": jnp.asarray(0.0),
    }

    def losses(theta, rows):
        x, y = rows
        outputs = jnp.tanh(x @ theta["a"] + theta["b"][None]) @ theta["c"] + theta["d"]
        return 0.5 * (outputs - y) ** 2

    return Problem(losses, (jnp.asarray(x), jnp.asarray(np.sin(3 * x[:, 0])))), theta


@pytest.fixture(scope="module")
def runs(x64):
    """Gradient descent at the edge, and the flow from its average of a while before."""
    problem, theta = network()
    before, _ = follow(gradient_descent(ETA), problem, theta, 600, loss_and_gradient)
    unravel = ravel_pytree(theta)[1]
    start, last = unravel(jnp.asarray(before[400:].mean(0))), unravel(jnp.asarray(before[-1]))
    descent = follow(gradient_descent(ETA), problem, last, 1500, loss_and_gradient)
    return problem, descent, follow(EdgeFlow(ETA), problem, start, 1500, predictions)


def test_the_sharpness_swings_around_the_edge(runs):
    problem, _, (path, _) = runs
    unravel = ravel_pytree(network()[1])[1]
    hessian = jax.hessian(lambda point: problem.empirical_risk(unravel(point)))
    points = jnp.asarray(path[300::10])
    sharpness = jax.jit(lambda w: jax.lax.map(lambda p: jnp.linalg.eigvalsh(hessian(p))[-1], w))
    ratio = np.asarray(sharpness(points)) * ETA / 2
    assert ratio.mean() == pytest.approx(1.0, abs=0.03)
    assert ratio.max() < 1.15


@pytest.mark.parametrize(("quantity", "tolerance"), [("loss", 0.1), ("squared_gradient", 0.15)])
def test_predicted_averages_are_near_those_of_gradient_descent(runs, quantity, tolerance):
    _, (_, seen), (_, predicted) = runs
    half = slice(750, None)
    average = seen[quantity][half].mean()
    assert predicted[quantity][half].mean() == pytest.approx(average, rel=tolerance)


def test_the_centre_is_the_average_of_gradient_descent(runs):
    _, (descent, _), (path, _) = runs
    centre, average = path[-200:].mean(0), descent[-200:].mean(0)
    assert np.linalg.norm(centre - average) < 0.15 * np.linalg.norm(average - path[0])


def test_single_precision_stays_single():
    problem, theta = network()
    problem, theta = problem.astype(jnp.float32), cast(theta, jnp.float32)
    flow = EdgeFlow(jnp.asarray(ETA), amplitude=jnp.asarray(1e-3))
    iterate = jax.eval_shape(lambda: flow.step(problem, flow.start(problem, theta), ())[0])
    assert {leaf.dtype for leaf in jax.tree.leaves(iterate)} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a positive finite number"),
        ({"amplitude": -1.0}, "amplitude must be a positive finite number"),
        ({"substeps": 1}, "substeps must be at least 2, got 1"),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        EdgeFlow(**{"learning_rate": 0.1, **settings})
