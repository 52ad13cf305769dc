"""What a step of every process costs, and Gaussian SGD beside its dense forms.

Each contender is compiled first; then all are timed in turn, round by round, each round in
another order. A ratio is the median over rounds of the ratio of process-CPU times within a round,
to a bare scan of full-batch gradient descent. The two dense contenders are Gaussian SGD as it is
often written: with the matrix of per-sample gradients (n x p), and with the covariance of the
sample weights (n x n), both formed at every step.

The exit status is 0 whether or not targets are met.
"""

import argparse
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from _common import Contender, Row, interleave, machine, paired, print_table
from _contenders import (
    LEARNING_RATE,
    Workload,
    bare_descent,
    large_workload,
    small_workload,
)
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from sgdsim import dynamics
from sgdsim.dynamics import AbstractStepper, MinibatchGradient, MinibatchNoise
from sgdsim.ensemble import Ensemble, Layout, Schedule, advance, no_observables
from sgdsim.problems import Problem
from sgdsim.stagnation import Ball

QUICK_ROUNDS = 2
DENSE_STEPS = 2


def processes(work: Workload) -> dict[str, AbstractStepper]:
    """One stepper of every kind, with numbers at which nothing diverges."""
    eta, size = jnp.asarray(LEARNING_RATE), work.batch_size
    noise = MinibatchNoise(jnp.asarray(float(size)))
    batch = MinibatchGradient(size)
    return {
        "gradient descent": dynamics.gradient_descent(eta),
        "Gaussian SGD": dynamics.gaussian_sgd(eta, noise),
        "SDE, 4 substeps": dynamics.SDE(eta, noise, 4),
        "SDE of order 2, 4 substeps": dynamics.SDE(eta, noise, 4, order=2),
        "gradient flow": dynamics.GradientFlow(eta),
        "SGD": dynamics.minibatch_sgd(eta, size),
        "SVAG(4)": dynamics.SVAG(eta, size, 4),
        "SGLD, minibatch": dynamics.sgld(eta, jnp.asarray(1e4), size),
        "label-noise SGD": dynamics.label_noise_sgd(eta, size, jnp.asarray(0.1)),
        "heavy ball, all rows": dynamics.heavy_ball(eta, jnp.asarray(0.9)),
        "Nesterov, all rows": dynamics.nesterov(eta, jnp.asarray(0.9)),
        "Adam, all rows": dynamics.adam(jnp.asarray(1e-3)),
        "RMSProp, minibatch": dynamics.rmsprop(jnp.asarray(1e-3), source=batch),
        "SAM, all rows": dynamics.sam(eta, jnp.asarray(0.05)),
        "heavy-ball SDE": dynamics.UnderdampedSDE(eta, jnp.asarray(0.9), noise),
        "isotropic noise": dynamics.gaussian_sgd(eta, dynamics.IsotropicNoise(jnp.asarray(1e-4))),
        "label noise": dynamics.gaussian_sgd(eta, dynamics.LabelNoise(size, jnp.asarray(0.1))),
        "Student noise": dynamics.gaussian_sgd(eta, dynamics.StudentNoise(noise, jnp.asarray(5.0))),
        "projected on a ball": dynamics.Projected(
            dynamics.gaussian_sgd(eta, noise),
            dynamics.BallProjection(work.theta, jnp.asarray(100.0)),
        ),
    }


def measure(work: Workload, rounds: int) -> list[Row]:
    """Time all processes and the dense forms on one workload; print a table, give the targets."""
    contenders = [bare_descent(work)]
    for name, stepper in processes(work).items():
        contenders.append(process(name, stepper, work))
    contenders += [per_sample_matrix(work), weight_covariance(work)]
    times = interleave(contenders, rounds)
    floor = times[contenders[0].name].cpu
    print(f"\n{work.name}: n = {work.problem.n}, B = {work.batch_size}")
    print(f"  {'CPU time per step and trajectory':34}  {'us':>11}  {'ratio':>8}")
    for contender in contenders:
        own = times[contender.name].cpu
        print(f"  {contender.name:34}  {1e6 * min(own):11.1f}  {paired(own, floor)[0]:8.2f}")
    if work.name == "small":
        return []
    ours = times["Gaussian SGD"].cpu
    return [
        _row(f"large: {name} / Gaussian SGD", paired(times[name].cpu, ours)[0])
        for name in (contenders[-2].name, contenders[-1].name)
    ]


def process(name: str, stepper: AbstractStepper, work: Workload) -> Contender:
    """One stepper in the loop of the library."""
    ensemble = Ensemble(
        problem=work.problem,
        stepper=stepper,
        region=Ball(centre=work.theta, radius=jnp.asarray(100.0)),
        observer=no_observables,
        schedule=Schedule(work.steps, 10, work.steps),
        layout=Layout("map", 1),
    )
    keys = ensemble.keys(0, work.trajectories)
    state, start = ensemble.start(work.theta, work.trajectories), jnp.asarray(0, jnp.int32)

    def call() -> object:
        return jax.block_until_ready(advance(ensemble, keys, state, start))

    call()
    return Contender(name, call, work.trajectories * work.steps)


def per_sample_matrix(work: Workload) -> Contender:
    """Gaussian SGD from the n x p matrix of per-sample gradients."""

    def noisy(problem: Problem, theta: PyTree, key: Array) -> Array:
        flat, unravel = ravel_pytree(theta)

        def of_row(vector: Array, row: PyTree) -> Array:
            return problem.single(row).empirical_risk(unravel(vector))

        gradients = jax.vmap(jax.grad(of_row), in_axes=(None, 0))(flat, problem.data)
        mean = jnp.mean(gradients, axis=0)
        normals = jax.random.normal(key, (problem.n,))
        return mean + (gradients - mean).T @ normals / (problem.n * work.batch_size) ** 0.5

    return _dense("n x p gradients", noisy, work)


def weight_covariance(work: Workload) -> Contender:
    """Gaussian SGD from sample weights drawn with their n x n covariance."""

    def noisy(problem: Problem, theta: PyTree, key: Array) -> Array:
        n = problem.n
        covariance = (jnp.eye(n) - 1 / n) / (n * work.batch_size)
        # The covariance is singular: the weights add up to zero.
        weights = jax.random.multivariate_normal(key, jnp.full(n, 1 / n), covariance, method="eigh")
        _, pullback = jax.vjp(problem.per_sample_losses, theta)
        return ravel_pytree(pullback(weights)[0])[0]

    return _dense("n x n covariance", noisy, work)


def _dense(name: str, noisy: Callable[..., Array], work: Workload) -> Contender:
    def simulate(theta: PyTree, key: Array, problem: Problem, eta: Array) -> PyTree:
        _, unravel = ravel_pytree(theta)

        def step(theta, step):
            gradient = unravel(noisy(problem, theta, jax.random.fold_in(key, step)))
            return jax.tree.map(lambda a, g: a - eta * g, theta, gradient), None

        return jax.lax.scan(step, theta, jnp.arange(DENSE_STEPS))[0]

    arguments = (work.theta, jax.random.key(0), work.problem, jnp.asarray(LEARNING_RATE))
    program = jax.jit(simulate).lower(*arguments).compile()

    def call() -> object:
        return jax.block_until_ready(program(*arguments))

    return Contender(name, call, DENSE_STEPS)


def _row(quantity: str, ratio: float) -> Row:
    return Row(quantity, "at least 20", f"{ratio:.1f}", ratio >= 20)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default 5)")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds: shows that all of it runs"
    )
    parser.add_argument("--only", choices=("small", "large"), help="one of the two networks")
    options = parser.parse_args(arguments)
    rounds = QUICK_ROUNDS if options.quick else options.rounds
    if rounds < 1:
        parser.error(f"--rounds must be at least 1, got {rounds}.")
    print(machine(), flush=True)
    rows: list[Row] = []
    if options.only != "large":
        rows += measure(small_workload(trajectories=4), rounds)
    if options.only != "small":
        rows += measure(large_workload(), rounds)
    if rows:
        print()
        print_table(rows)


if __name__ == "__main__":
    main()
