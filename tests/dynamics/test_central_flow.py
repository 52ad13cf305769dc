"""Central flow against closed forms, a dense reference, and gradient descent itself."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

from sgdsim.dynamics import (
    CentralFlow,
    GradientFlow,
    Iterate,
    gradient_descent,
    predicted_loss,
    predicted_squared_gradient,
)
from sgdsim.problems import Problem, cast

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

#: What the sharpening of the toy below pulls at: two of three directions rise.
PULL = np.array([[0.10, 0.04, 0.02], [0.04, -0.06, 0.03], [0.02, 0.03, 0.05]])
TOY_ETA, TOY_EDGE = 0.5, 4.0


class Path(NamedTuple):
    """A run, step by step."""

    theta: np.ndarray
    seen: dict[str, np.ndarray]


def follow(stepper, problem, theta, steps, see=None):
    """Run a stepper; flat parameters and what is seen after every step."""
    return follow_from(stepper, problem, jax.jit(stepper.start)(problem, theta), steps, see)


def follow_from(stepper, problem, iterate, steps, see):
    def step(iterate, _):
        iterate, _ = stepper.step(problem, iterate, ())
        seen = {} if see is None else see(problem, iterate)
        return iterate, (ravel_pytree(iterate.theta)[0], seen)

    def run(iterate):
        return jax.lax.scan(step, iterate, None, length=steps)[1]

    return Path(*jax.device_get(jax.jit(run)(iterate)))


def loss_and_gradient(problem, iterate):
    risk, gradient = jax.value_and_grad(problem.empirical_risk)(iterate.theta)
    return {"loss": risk, "squared_gradient": jnp.sum(ravel_pytree(gradient)[0] ** 2)}


def predictions(problem, iterate):
    return {
        "loss": predicted_loss(problem, iterate),
        "squared_gradient": predicted_squared_gradient(problem, iterate),
        **iterate.memory._asdict(),
    }


@pytest.fixture(scope="module")
def toy(x64):
    """Loss x'Yx/2 - <C, Y> with a symmetric matrix Y of parameters: sharpness Y, pulled by C."""
    return toy_with(PULL)


def toy_with(pull):
    def losses(theta, rows):
        matrix = (theta["y"] + theta["y"].T) / 2
        risk = theta["x"] @ matrix @ theta["x"] / 2
        return risk - jnp.einsum("nij,ij->n", rows, matrix)

    return Problem(losses, jnp.asarray(pull)[None])


def start_of_toy(x):
    return {"x": jnp.asarray(x, float), "y": jnp.eye(3) * TOY_EDGE}


@pytest.fixture(scope="module")
def held(toy):
    """From the edge in all directions; their eigenvectors are known, a multiple eigenvalue."""
    flow = CentralFlow(TOY_ETA, max_critical=3, tolerance=1e-10)
    iterate = flow.start(toy, start_of_toy(np.zeros(3)))
    known = iterate.memory._replace(values=jnp.full(3, TOY_EDGE), vectors=jnp.eye(3, 12))
    return follow_from(flow, toy, iterate._replace(memory=known), 30, predictions)


def test_only_what_would_rise_is_held(held):
    """All three are at the edge: Y' = C - X/2 with Y' <= 0 and <X, Y'> = 0, so X = 2 C_+."""
    values, vectors = np.linalg.eigh(PULL)
    rise = vectors * np.maximum(values, 0) @ vectors.T
    np.testing.assert_allclose(held.theta[:, :3], 0.0, atol=1e-6)
    time = TOY_ETA * np.arange(1, 31)
    expected = TOY_EDGE * np.eye(3) + time[:, None, None] * (PULL - rise)
    np.testing.assert_allclose(held.theta[:, 3:].reshape(-1, 3, 3), expected, atol=1e-5)
    basis = held.seen["vectors"][:, :, :3]
    covariance = np.einsum("tki,tkl,tlj->tij", basis, held.seen["covariance"], basis)
    np.testing.assert_allclose(covariance, np.broadcast_to(2 * rise, (30, 3, 3)), atol=1e-5)
    assert held.seen["certificate"].max() < 1e-6
    # By hand: L = -<C, Y>, each oscillating direction has the eigenvalue 2/eta.
    loss = -np.einsum("ij,tij->t", PULL, expected) + TOY_EDGE / 2 * 2 * np.trace(rise)
    np.testing.assert_allclose(held.seen["loss"], loss, atol=1e-4)
    squared = np.sum(PULL**2) + TOY_EDGE**2 * 2 * np.trace(rise)
    np.testing.assert_allclose(held.seen["squared_gradient"], squared, atol=1e-3)


def test_averages_of_gradient_descent_on_the_toy():
    """All directions rise: the oscillation that holds them has the covariance X = 2 C."""
    values, vectors = np.linalg.eigh(PULL)
    pull = vectors * np.abs(values) @ vectors.T / 4
    theta = start_of_toy([0.1, 0.2, -0.15])
    descent = follow(gradient_descent(TOY_ETA), toy_with(pull), theta, 20_000, loss_and_gradient)
    x = descent.theta[2000:, :3]
    np.testing.assert_allclose(x.T @ x / len(x), 2 * pull, atol=0.05 * np.trace(pull))
    squared = np.sum(pull**2) + TOY_EDGE**2 * 2 * np.trace(pull)
    assert descent.seen["squared_gradient"][2000:].mean() == pytest.approx(squared, rel=0.05)


def test_products_are_counted(held):
    assert np.all(np.diff(held.seen["products"]) >= 2 * 3)  # two substeps, three eigenpairs
    assert held.seen["substeps"].tolist() == list(range(2, 62, 2))


def test_a_sharpness_that_nothing_can_hold_ends_in_nan(quadratic):
    """Of a quadratic, above the edge: gradient descent diverges."""
    problem, *_ = quadratic(np.diag([3.0, 1.0]), np.eye(2))

    @jax.jit
    def end(eta):
        flow = CentralFlow(eta, max_critical=1)
        iterate = flow.start(problem, jnp.ones(2))
        step = lambda iterate, _: (flow.step(problem, iterate, ())[0], None)  # noqa: E731
        return jax.lax.scan(step, iterate, None, length=2)[0].theta

    assert np.all(np.isnan(end(1.0)))
    # With a smaller learning rate it is stable, and the flow is the Euler steps of gradient flow.
    calm = np.array([1 - 0.25 * 3, 1 - 0.25]) ** 4
    np.testing.assert_allclose(end(0.5), calm, rtol=1e-12)


def network(seed):
    """Tanh network with one input and 20 hidden units on 20 points of a sine, p = 61."""
    random = np.random.default_rng(seed)
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


ETA, STEPS = 0.8, 1500
FLOW = CentralFlow(ETA, max_critical=2, tolerance=1e-7)


class Runs(NamedTuple):
    """Gradient descent at the edge, and flows that start at its average of a while before."""

    problem: Problem
    start: jax.Array
    descent: Path
    central: Path
    gradient: Path

    def risk(self, point):
        return self.problem.empirical_risk(ravel_pytree(network(2)[1])[1](point))


@pytest.fixture(scope="module")
def runs(x64):
    problem, theta = network(2)
    before = follow(gradient_descent(ETA), problem, theta, 600).theta
    unravel = ravel_pytree(theta)[1]
    start, last = unravel(jnp.asarray(before[400:].mean(0))), unravel(jnp.asarray(before[-1]))
    return Runs(
        problem,
        ravel_pytree(start)[0],
        follow(gradient_descent(ETA), problem, last, STEPS, loss_and_gradient),
        follow(FLOW, problem, start, STEPS, predictions),
        follow(GradientFlow(ETA), problem, start, STEPS),
    )


def test_both_eigenvalues_stay_at_the_edge(runs):
    values = runs.central.seen["values"] * ETA / 2
    # The first one starts 1 % above, the second one 4 % below.
    np.testing.assert_allclose(values[5:, 0], 1.0, atol=1e-3)
    np.testing.assert_allclose(values[200:, 1], 1.0, atol=1e-3)
    assert values[0, 1] < 0.97
    # They are the eigenvalues of the dense Hessian.
    hessian_of = jax.jit(jax.hessian(runs.risk))
    for step in (0, STEPS // 2, STEPS - 1):
        dense = np.linalg.eigvalsh(hessian_of(runs.central.theta[step]))[::-1]
        np.testing.assert_allclose(values[step], dense[:2] * ETA / 2, rtol=1e-4)
        assert dense[2] * ETA / 2 < 0.2
    assert runs.central.seen["certificate"].max() < 1e-6


def test_gradient_flow_leaves_the_edge(runs):
    dense = np.linalg.eigvalsh(jax.jit(jax.hessian(runs.risk))(runs.gradient.theta[-1]))
    assert dense[-1] * ETA / 2 > 1.5


@pytest.mark.parametrize(("quantity", "tolerance"), [("loss", 0.04), ("squared_gradient", 0.06)])
def test_predicted_averages_are_those_of_gradient_descent(runs, quantity, tolerance):
    """Averages over 750 steps, some bursts of the oscillation."""
    half = slice(STEPS // 2, None)
    seen, predicted = runs.descent.seen[quantity][half], runs.central.seen[quantity][half]
    assert predicted.mean() == pytest.approx(seen.mean(), rel=tolerance)
    # Without the oscillation it would be far off.
    points = jnp.asarray(runs.central.theta[half][::50])
    if quantity == "loss":
        assert jax.vmap(runs.risk)(points).mean() < 0.5 * seen.mean()


def test_averages_of_gradient_descent_follow_the_central_flow(runs):
    """A tenth of the distance to gradient flow, and of the way that was gone."""
    last = slice(STEPS - 200, None)
    descent, central, gradient = (
        path.theta[last].mean(0) for path in (runs.descent, runs.central, runs.gradient)
    )
    near, far = np.linalg.norm(descent - central), np.linalg.norm(descent - gradient)
    assert near < 0.1 * far
    assert near < 0.1 * np.linalg.norm(descent - runs.start)


def smallest(third, offset):
    """Covariance of least |force|^2 + <offset, X>, by its Cholesky factor."""

    def unpack(entries):
        return np.array([[entries[0], 0.0], [entries[1], entries[2]]])

    def objective(entries):
        root = unpack(entries)
        x = root @ root.T
        push = np.einsum("kl,klr->r", x, third)
        slope = 2 * (third @ push / 2 + offset) @ root
        return push @ push / 4 + np.sum(offset * x), slope[np.tril_indices(2)]

    found = scipy.optimize.minimize(
        objective, [0.1, 0.0, 0.01], jac=True, method="BFGS", options={"gtol": 1e-12}
    )
    return unpack(found.x) @ unpack(found.x).T


def test_first_steps_are_those_of_a_dense_reference(runs):
    """Whole Hessian, its whole derivative, and the complementarity problem by scipy."""
    theta, h = np.asarray(runs.start), ETA / FLOW.substeps
    hessian_of, third_of = (
        jax.jit(f) for f in (jax.hessian(runs.risk), jax.jacfwd(jax.hessian(runs.risk)))
    )
    force_seen = 0.0
    for step in range(2):
        for _ in range(FLOW.substeps):
            gradient = np.asarray(jax.grad(runs.risk)(theta))
            values, vectors = np.linalg.eigh(hessian_of(theta))
            values, u = values[:-3:-1], vectors[:, :-3:-1]
            third = np.einsum("pk,ql,pqr->klr", u, u, np.asarray(third_of(theta)))
            covariance = smallest(third, np.diag(2 / ETA - values) / h + third @ gradient)
            force = np.einsum("kl,klr->r", covariance, third) / 2
            theta = theta - h * (gradient + force)
            force_seen += h * np.linalg.norm(force)
        error = np.linalg.norm(theta - runs.central.theta[step])
        assert error < 1e-4 * force_seen


def test_single_precision_stays_single():
    problem, theta = network(2)
    problem, theta = problem.astype(jnp.float32), cast(theta, jnp.float32)
    flow = CentralFlow(jnp.asarray(ETA), tolerance=jnp.asarray(1e-4))
    iterate = jax.eval_shape(lambda: flow.step(problem, flow.start(problem, theta), ())[0])
    kinds = {leaf.dtype for leaf in jax.tree.leaves(iterate)}
    assert kinds == {np.dtype("float32"), np.dtype("int32")}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be a positive finite number"),
        ({"substeps": 1}, "substeps must be at least 2, got 1: with one the Euler steps"),
        ({"substeps": 0}, "substeps must be a positive integer"),
        ({"max_critical": 0}, "max_critical must be a positive integer"),
        ({"tolerance": 0.0}, "tolerance must be a positive finite number"),
        (
            {"max_critical": 4, "most_products": 3},
            "most_products must be at least max_critical = 4",
        ),
    ],
)
def test_refusals(settings, message):
    with pytest.raises(ValueError, match=message):
        CentralFlow(**{"learning_rate": 0.1, **settings})


@pytest.mark.parametrize("predict", [predicted_loss, predicted_squared_gradient])
def test_only_flows_at_the_edge_predict(toy, predict):
    with pytest.raises(ValueError, match=r"must be one of CentralFlow or EdgeFlow.*type tuple"):
        predict(toy, Iterate(start_of_toy(np.zeros(3))))
