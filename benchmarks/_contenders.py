"""Four ways to simulate the same process, from the floor to what one writes first.

The process is ``theta' = theta - eta (grad L_n(theta) + xi)``, where ``xi`` is Gaussian with the
covariance of a minibatch gradient. All contenders map trajectories one by one (`jax.lax.map`) in
one compiled program, and take problem, parameters and keys as traced arguments.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import lineax
from _common import Contender
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from sgdsim.dynamics import MinibatchNoise, gaussian_sgd
from sgdsim.ensemble import Ensemble, EnsembleState, Layout, Schedule, advance, no_observables
from sgdsim.problems import (
    Network,
    OutputLoss,
    Problem,
    Rows,
    cross_entropies,
    random_network,
)
from sgdsim.stagnation import Ball

#: A power of two, so that diffrax, which counts time in float32, takes the number of steps meant.
LEARNING_RATE = 0.125
RECORD_EVERY = 10


@dataclasses.dataclass(frozen=True)
class Workload:
    """A problem, a start point, and how much of it is run.

    ``steps`` is a call's number of steps, ``dense_steps`` that of the dense contender, whose
    steps are too slow for more.
    """

    name: str
    problem: Problem
    theta: Network
    batch_size: int
    trajectories: int
    steps: int
    dense_steps: int


def small_workload(trajectories: int = 16, steps: int = 200) -> Workload:
    """Regression with a 10-32-1 network on 512 rows, batches of 32."""
    return _workload("small", squared_errors, (10, 32, 1), (512, 32), (trajectories, steps, 10))


def large_workload() -> Workload:
    """Classification with a 64-256-256-10 network on 1797 rows, batches of 64."""
    return _workload("large", cross_entropies, (64, 256, 256, 10), (1797, 64), (1, 20, 2))


def _workload(
    name: str,
    losses: Callable[..., Array],
    widths: tuple[int, ...],
    rows_and_batch: tuple[int, int],
    amount: tuple[int, int, int],
) -> Workload:
    n, batch = rows_and_batch
    key = jax.random.key(0)
    inputs = jax.random.normal(jax.random.fold_in(key, 1), (n, widths[0])) / widths[0] ** 0.5
    teacher = random_network(jax.random.fold_in(key, 2), widths)(inputs)
    classes = jax.nn.one_hot(jnp.argmax(teacher, axis=-1), widths[-1])
    targets = classes if losses is cross_entropies else jnp.tanh(teacher)
    problem = Problem(losses, Rows(inputs, targets), jnp.asarray(1e-3))
    theta = random_network(jax.random.fold_in(key, 3), widths, gain=1.0)
    return Workload(name, problem, theta, batch, *amount)


def _outputs(network: Network, rows: Rows) -> Float[Array, "n outputs"]:
    return network(jnp.asarray(rows.inputs))


def _squared_error(outputs: Float[Array, "n outputs"], rows: Rows) -> Float[Array, " n"]:
    return 0.5 * jnp.sum(jnp.square(outputs - rows.targets), axis=-1)


#: Half the squared error of every row.
squared_errors = OutputLoss(_outputs, _squared_error)


def bare_descent(work: Workload) -> Contender:
    """Scan over full-batch value_and_grad and update: no noise, nothing watched."""

    def simulate(theta: PyTree, key: Array, problem: Problem, eta: Array) -> PyTree:
        def step(theta, _):
            risk, gradient = jax.value_and_grad(problem.empirical_risk)(theta)
            return jax.tree.map(lambda a, g: a - eta * g, theta, gradient), risk

        return jax.lax.scan(step, theta, None, length=work.steps)

    return _mapped("bare GD scan", work, simulate, work.steps)


def engine(work: Workload) -> Contender:
    """The loop of this library as a run uses it: a ball watched at every step, records every 10."""
    ensemble, keys, state = build_engine(work, Layout("map", 1))
    start = jnp.asarray(0, jnp.int32)

    def call() -> object:
        return jax.block_until_ready(advance(ensemble, keys, state, start))

    return Contender("sgdsim engine", call, work.trajectories * work.steps)


def build_engine(
    work: Workload,
    layout: Layout,
    eta: float = LEARNING_RATE,
    radius: float = 100.0,
    seed: int = 0,
) -> tuple[Ensemble, Array, EnsembleState]:
    """Arguments of ``advance`` for a workload; every number is an array, hence traced."""
    noise = MinibatchNoise(jnp.asarray(float(work.batch_size)))
    ensemble = Ensemble(
        problem=work.problem,
        stepper=gaussian_sgd(jnp.asarray(eta), noise),
        region=Ball(centre=work.theta, radius=jnp.asarray(radius)),
        observer=no_observables,
        schedule=Schedule(work.steps, RECORD_EVERY, work.steps),
        layout=layout,
    )
    keys = ensemble.keys(seed, work.trajectories)
    return ensemble, keys, ensemble.start(work.theta, work.trajectories)


def two_terms(work: Workload) -> Contender:
    """diffrax with drift and matrix-free diffusion as separate terms: two backward passes."""

    def simulate(theta: PyTree, key: Array, problem: Problem, eta: Array) -> PyTree:
        scale = jnp.sqrt(eta / (problem.n * work.batch_size))

        def diffusion(t, theta, args):
            _, pullback = jax.vjp(problem.per_sample_losses, theta)

            def matvec(normals):
                return pullback(scale * (normals - jnp.mean(normals)))[0]

            return lineax.FunctionLinearOperator(matvec, jax.ShapeDtypeStruct((problem.n,), "f4"))

        noise = diffrax.UnsafeBrownianPath((problem.n,), key)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(_drift(problem)), diffrax.ControlTerm(diffusion, noise)
        )
        # The default adjoint refuses this path; for a simulation the cheapest one serves.
        return _solve(terms, theta, work.steps, eta, adjoint=diffrax.ForwardMode()).ys

    return _mapped("diffrax, two terms", work, simulate, work.steps)


def dense(work: Workload) -> Contender:
    """diffrax as one writes it first: the noise as a matrix of per-sample gradients, defaults."""

    def simulate(theta: PyTree, key: Array, problem: Problem, eta: Array) -> PyTree:
        start, unravel = ravel_pytree(theta)
        scale = jnp.sqrt(eta / (problem.n * work.batch_size))

        def loss_of_row(vector: Array, row: PyTree) -> Array:
            return problem.single(row).empirical_risk(unravel(vector))

        def drift(t, vector, args):
            return -jax.grad(lambda v: problem.empirical_risk(unravel(v)))(vector)

        def diffusion(t, vector, args):
            gradients = jax.vmap(jax.grad(loss_of_row), in_axes=(None, 0))(vector, problem.data)
            return lineax.MatrixLinearOperator(scale * (gradients - jnp.mean(gradients, 0)).T)

        noise = diffrax.VirtualBrownianTree(
            0.0, work.dense_steps * eta, tol=eta / 2, shape=(problem.n,), key=key
        )
        terms = diffrax.MultiTerm(diffrax.ODETerm(drift), diffrax.ControlTerm(diffusion, noise))
        return _solve(terms, start, work.dense_steps, eta).ys

    return _mapped("diffrax, dense, defaults", work, simulate, work.dense_steps)


def _drift(problem: Problem) -> Callable[..., PyTree]:
    def drift(t, theta, args):
        return jax.tree.map(jnp.negative, jax.grad(problem.empirical_risk)(theta))

    return drift


def _solve(terms: Any, start: PyTree, steps: int, eta: Array, **options: Any) -> Any:
    return diffrax.diffeqsolve(terms, diffrax.Euler(), 0.0, steps * eta, eta, start, **options)


def _mapped(name: str, work: Workload, simulate: Callable[..., PyTree], steps: int) -> Contender:
    """Compile ``simulate`` mapped over the trajectories of a workload."""

    def run(thetas: PyTree, keys: Array, problem: Problem, eta: Array) -> PyTree:
        return jax.lax.map(lambda one: simulate(*one, problem, eta), (thetas, keys))

    arguments = (
        jax.tree.map(lambda a: jnp.stack([a] * work.trajectories), work.theta),
        jax.random.split(jax.random.key(0), work.trajectories),
        work.problem,
        jnp.asarray(LEARNING_RATE),
    )
    program = jax.jit(run).lower(*arguments).compile()

    def call() -> object:
        return jax.block_until_ready(program(*arguments))

    return Contender(name, call, work.trajectories * steps)
