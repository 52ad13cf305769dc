"""The reference network: trained on rows of its own, it fixes what bounds fix in advance."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sgdsim._caching import remembered
from sgdsim._errors import SgdsimError
from sgdsim.bounds import auto_margin
from sgdsim.problems import (
    Network,
    Problem,
    build_task,
    cast,
    initial_network,
    margins,
    stream,
)
from sgdsim.scenario import Bounds, BoundsScenario, Classification, RandomStart, Training


class Reference(NamedTuple):
    """What does not depend on the training rows; saved, and reloaded on resume.

    Attributes
    ----------
    start
        Initialisation of all trajectories.
    network
        Network trained on the reference rows from there.
    margin
        Margin gamma of the ramp loss.
    """

    start: Network
    network: Network
    margin: Float[Array, ""] | float


def start_of(problem: Classification, start: RandomStart) -> Network:
    """Draw the initialisation, in float64."""
    theta = initial_network(problem, build_task(problem), stream(start.seed, "start"))
    return cast(jax.tree.map(lambda a: start.gain * a, theta), jnp.float64)


def find_reference(scenario: BoundsScenario) -> Reference:
    """Train on the reference rows to the target loss, and fix the margin.

    Raises
    ------
    SgdsimError
        If the target is not reached, or no margin is positive.
    """
    start, network = _trained(scenario.problem, scenario.start, scenario.training)
    return Reference(start, network, _margin(scenario.problem, scenario.bounds, network))


@remembered(16)
def _trained(
    problem: Classification, start: RandomStart, training: Training
) -> tuple[Network, Network]:
    """Train the reference network, once for all points that share it."""
    task = build_task(problem)
    theta = start_of(problem, start)
    rows = task.problem(task.reference).astype(jnp.float64)
    key = "reference_target" if training.target is None else "target"
    target = float(getattr(training, key))
    network, risk = _descend(rows, theta, target, training.reference_rate, training.reference_steps)
    if not float(risk) <= target:
        raise SgdsimError(
            f"the network on the reference rows has the loss {float(risk):.3g} after "
            f"{training.reference_steps:,} steps of Adam and not training.{key} = {target:g}; "
            f"raise training.{key} or training.reference_steps, or take a wider network."
        )
    return theta, network


def _margin(problem: Classification, bounds: Bounds, network: Network) -> float:
    if bounds.margin != "auto":
        return float(bounds.margin)
    try:
        return auto_margin(np.asarray(margins(network, build_task(problem).reference)))
    except ValueError as error:
        raise SgdsimError(f"bounds.margin = 'auto' cannot be chosen: {error}") from error


@eqx.filter_jit
def _descend(
    problem: Problem, theta: Network, target: float, rate: float, steps: int
) -> tuple[Network, Float[Array, ""]]:
    """Adam on all rows until the risk is at most the target."""
    adam = optax.inject_hyperparams(optax.adam)(learning_rate=rate)

    def unfinished(carry):
        _, _, risk, step = carry
        return (risk > target) & (step < steps)

    def move(carry):
        theta, memory, _, step = carry
        gradient = jax.grad(problem.empirical_risk)(theta)
        update, memory = adam.update(gradient, memory)
        theta = jax.tree.map(jnp.add, theta, update)
        return theta, memory, problem.empirical_risk(theta), step + 1

    memory = adam.init(theta)  # pyright: ignore[reportArgumentType]
    begin = theta, memory, problem.empirical_risk(theta), jnp.zeros((), jnp.int32)
    theta, _, risk, _ = jax.lax.while_loop(unfinished, move, begin)
    return theta, risk
