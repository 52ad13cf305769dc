r"""Statistics of the gradients along trajectories, for bounds on the mean generalization gap.

An observer for the usual loop, and a loop of its own that also sees the noise of every step. Both
give what ``sgdsim.bounds.GradientStream`` reads, which has the definitions.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim.dynamics import AbstractStepper, MinibatchNoise
from sgdsim.ensemble._injected import injected_noise
from sgdsim.ensemble._layout import choose_layout, map_ensemble, on_host
from sgdsim.ensemble._loop import as_array
from sgdsim.problems import Problem, inner, squared_norm

_BLOCK_NUMBERS = 2**18


class InformationObserver(eqx.Module):
    r"""Norms and spread of the gradients of the rows, for bounds on the mean gap.

    Records, by the names of ``sgdsim.bounds.GradientStream``,

    .. math:: \|\nabla L_n\|^2,\qquad \mathrm{tr}\,C_n = \tfrac1n\sum_i\|g_i-\bar g\|^2,\qquad
        \|\nabla L_n-\nabla L\|^2,\qquad \tfrac1n\sum_i\|g_i-g_i'\|^2

    Parameters
    ----------
    population
        The population risk as a problem, in closed form or on rows that are independent of the
        training rows, with the same penalty; without it ``deviation`` is not recorded.
    ghosts
        One ghost row for every training row, shaped like the data of the problem: the pairs of
        which a fair coin chose the training rows. Without it ``pair_square`` is not recorded.

    Notes
    -----
    One pass over the gradients of the rows, a block of rows at a time; a pass over two gradients
    per row for the pairs.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.ensemble import InformationObserver
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([1.0, 3.0]))
    >>> population = Problem(problem.losses, jnp.array([0.0, 1.0]))
    >>> observer = InformationObserver(population, ghosts=jnp.array([1.0, 0.0]))
    >>> {name: float(value) for name, value in observer(problem, jnp.array(0.0)).items()}
    {'gradient_square': 4.0, 'covariance_trace': 1.0, 'deviation': 2.25, 'pair_square': 4.5}
    """

    population: Problem | None = None
    ghosts: PyTree = None

    def __call__(self, problem: Problem, theta: PyTree) -> dict[str, Array]:
        """Observables of one iterate."""
        record = self.moments(problem, theta)
        if self.ghosts is not None:
            square, _ = self.pairs(problem, theta, jax.tree.map(jnp.zeros_like, theta))
            record["pair_square"] = jnp.mean(square)
        return record

    def moments(self, problem: Problem, theta: PyTree) -> dict[str, Array]:
        """Observables without those of the pairs."""
        gradient = jax.grad(problem.empirical_risk)(theta)
        record = {
            "gradient_square": squared_norm(gradient),
            # Noise of batches of one row, drawn with replacement, has the covariance of the rows.
            "covariance_trace": MinibatchNoise(1).trace(problem, theta),
        }
        if self.population is not None:
            expected = jax.grad(self.population.empirical_risk)(theta)
            record["deviation"] = squared_norm(jax.tree.map(jnp.subtract, gradient, expected))
        return record

    def pairs(
        self,
        problem: Problem,
        theta: PyTree,
        noise: PyTree,
        rows: Int[Array, " row"] | None = None,
    ) -> tuple[Float[Array, " row"], Float[Array, " row"]]:
        r"""Squared norm of :math:`D_i = g_i - g_i'` and its product with a noise, row by row.

        Parameters
        ----------
        problem, theta
            Where the gradients are taken.
        noise
            Shaped like ``theta``.
        rows
            Which rows; all of them if left out.
        """

        def of_pair(pair: tuple[PyTree, PyTree]) -> tuple[Array, Array]:
            own, ghost = (jax.grad(problem.single(row).empirical_risk)(theta) for row in pair)
            difference = jax.tree.map(jnp.subtract, own, ghost)
            return squared_norm(difference), inner(noise, difference)

        pairs = (problem.data, self.ghosts)
        if rows is not None:
            pairs = jax.tree.map(lambda a: a[rows], pairs)
        size = 2 * sum(leaf.size for leaf in jax.tree.leaves(theta))
        block = max(1, min(125, _BLOCK_NUMBERS // size))
        return jax.lax.map(of_pair, pairs, batch_size=block)


def gradient_stream(
    problem: Problem,
    stepper: AbstractStepper,
    theta: PyTree,
    keys: Key[Array, " trajectory"],
    *,
    steps: int,
    observer: InformationObserver | None = None,
    rows: Int[np.ndarray, " row"] | None = None,
) -> dict[str, Any]:
    r"""Simulate trajectories and record the statistics of every step.

    Parameters
    ----------
    problem
        Empirical risk on one set of training rows.
    stepper
        What moves; one that ``injected_noise`` accepts.
    theta
        Start of all trajectories, independent of the training rows.
    keys
        One per trajectory, as from ``Ensemble.keys``, whose steps these then are.
    steps
        Number of steps.
    observer
        What to record beside the moments of the gradients of the rows.
    rows
        Pairs to record, if the observer has ghosts, chosen independently of the rows; all of them
        if left out. They take ``trajectories * steps * rows`` numbers.

    Returns
    -------
    dict
        Arguments of ``sgdsim.bounds.GradientStream``. ``pair_noise`` is among them if the observer
        has ghosts and the steps are those of the full gradient and noise alone.

    Raises
    ------
    ValueError
        If the stepper is not of the form that the bounds are for, or the number of ghosts or
        the rows do not fit the problem.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.bounds import GradientStream, expectation_bounds
    >>> from sgdsim.dynamics import sgld
    >>> from sgdsim.ensemble import gradient_stream
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([1.0, 3.0]))
    >>> keys = jax.random.split(jax.random.key(0), 4)
    >>> fields = gradient_stream(problem, sgld(0.1, 50.0), jnp.array(0.0), keys, steps=3)
    >>> bound = expectation_bounds(GradientStream(**fields), loss_range=1)["incoherence"]
    >>> bound.value.round(3)
    array([0.791, 1.118, 1.369])
    """
    observer = InformationObserver() if observer is None else observer
    stepper.check(problem, theta)
    facts = injected_noise(stepper, problem.n, steps)
    _check_pairs(problem, observer.ghosts, rows)
    tested = facts.plain_steps and facts.batch_factor == 0
    dtype = jax.tree.leaves(theta)[0].dtype
    moving = facts.variance > 0
    # The noise of a step in units of its standard deviation is (theta' - theta + eta grad) * scale.
    scale = np.where(moving, 1 / np.sqrt(np.where(moving, facts.variance, 1.0)), 0.0)
    clock = (jnp.arange(steps), jnp.asarray(facts.learning_rate, dtype), jnp.asarray(scale, dtype))
    records = _record(
        jax.tree.map(as_array, (problem, stepper, observer)),
        theta,
        keys,
        clock,
        None if rows is None else jnp.asarray(rows),
    )
    statistics = {name: np.asarray(value, np.float64) for name, value in on_host(records).items()}
    if not (tested and moving.any()):
        statistics.pop("pair_noise", None)
    return {
        "step": np.arange(steps),
        "learning_rate": facts.learning_rate,
        "noise_variance": facts.variance,
        "samples": problem.n,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(theta)),
        "batch_factor": facts.batch_factor,
        "plain_steps": facts.plain_steps,
        **statistics,
    }


@eqx.filter_jit
def _record(
    process: tuple[Problem, AbstractStepper, InformationObserver],
    theta: PyTree,
    keys: Key[Array, " trajectory"],
    clock: tuple[Array, Array, Array],
    rows: Array | None,
) -> dict[str, Array]:
    """Statistics of every step of every trajectory."""
    arrays, static = eqx.partition((process, theta, clock, rows), eqx.is_array)

    def one(key: Key[Array, ""], arrays: PyTree) -> dict[str, Array]:
        (problem, stepper, observer), theta, clock, rows = eqx.combine(arrays, static)

        def one_step(iterate, now):
            step, rate, scale = now
            old = iterate.theta
            randomness = stepper.draw(key, step, problem, old)
            moved, _ = stepper.step(problem, iterate, randomness)
            record = observer.moments(problem, old)
            if observer.ghosts is not None:
                gradient = jax.grad(problem.empirical_risk)(old)
                noise = jax.tree.map(
                    lambda a, b, g: (a - b + rate * g) * scale, moved.theta, old, gradient
                )
                square, product = observer.pairs(problem, old, noise, rows)
                record |= {"pair_square": square, "pair_noise": product}
            return moved, record

        return jax.lax.scan(one_step, stepper.start(problem, theta), clock)[1]

    return map_ensemble(choose_layout(devices=1), one, (keys,), arrays)


def _check_pairs(problem: Problem, ghosts: PyTree, rows: np.ndarray | None) -> None:
    """Refuse ghosts or rows that do not fit the training rows."""
    if ghosts is None:
        if rows is not None:
            raise ValueError("rows choose pairs, but the observer has no ghosts; give it some.")
        return
    ours, theirs = (jax.tree.map(np.shape, tree) for tree in (problem.data, ghosts))
    if ours != theirs:
        raise ValueError(
            f"the ghost rows have the shapes {jax.tree.leaves(theirs)}, but the training rows have "
            f"{jax.tree.leaves(ours)}; give one ghost for every training row."
        )
    if rows is not None and (np.size(rows) == 0 or np.min(rows) < 0 or np.max(rows) >= problem.n):
        raise ValueError(
            f"rows must be some of 0..{problem.n - 1}, got {np.ravel(rows)[:4].tolist()}, ...; "
            "a negative or missing row has no pair."
        )
