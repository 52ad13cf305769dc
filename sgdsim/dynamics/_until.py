"""Training that ends at a target loss: networks are compared where they fit equally well."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._modifiers import AbstractModifier
from sgdsim.dynamics._steppers import AbstractStepper, Iterate

#: Step of a trajectory that has not stopped.
RUNNING = -1


class UntilLoss(AbstractModifier):
    r"""A stepper that stands still from the first step at which the risk is at most a target.

    .. math:: \theta_{k+1} = \begin{cases}\theta_k & \min_{j \le k} L_n(\theta_j) \le \ell\\
              \mathrm{step}(\theta_k) & \text{otherwise}\end{cases}

    The risk is looked at in every step; where the step inside gives it as a by-product this costs
    nothing, else one pass over all rows.

    Parameters
    ----------
    stepper
        What moves until then; a :class:`Scheduled` too.
    target
        Empirical risk :math:`\ell`, penalty included.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import sgdsim
    >>> from sgdsim.dynamics import UntilLoss, stopped_step
    >>> from sgdsim.ensemble import Ensemble, Schedule, choose_layout, no_observables
    >>> problem = sgdsim.Problem(lambda t, z: 0.5 * (t - z) ** 2, jnp.array([1.0, 1.0]))
    >>> ensemble = Ensemble(
    ...     problem=problem,
    ...     stepper=UntilLoss(sgdsim.gradient_descent(0.5), target=0.01),
    ...     region=sgdsim.Ball(centre=jnp.zeros(()), radius=9.0),
    ...     observer=no_observables,
    ...     schedule=Schedule(steps=20, record_every=20, chunk_steps=20),
    ...     layout=choose_layout(),
    ... )
    >>> state = ensemble.start(jnp.zeros(()), trajectories=1)
    >>> (chunk,) = ensemble.run(ensemble.keys(seed=0, trajectories=1), state)
    >>> float(chunk.state.theta[0]), int(stopped_step(chunk.state.memory)[0])
    (0.875, 3)
    """

    stepper: AbstractStepper
    target: Number

    def __check_init__(self):
        check_positive("target", self.target)

    def start(self, problem, theta):
        """Start as the stepper inside does; nothing has stopped yet."""
        iterate = self.stepper.start(problem, theta)
        running = jnp.asarray(RUNNING, jnp.int32)
        risk = jnp.full_like(problem.empirical_risk(iterate.theta), jnp.inf)
        return Iterate(iterate.theta, (iterate.memory, running, risk))

    def draw(self, key, step, problem, theta):
        """Draw what the stepper inside needs, and remember which step it is."""
        return jnp.asarray(step, jnp.int32), self.stepper.draw(key, step, problem, theta)

    def step(self, problem, iterate, randomness):
        """Take the step inside unless the target has been reached."""
        step, inside = randomness

        # A branch: a trajectory that has stopped costs nothing any more where trajectories run
        # one by one.
        def stay(_: None) -> tuple[Iterate, Float[Array, ""]]:
            return iterate, iterate.memory[2]

        def move(_: None) -> tuple[Iterate, Float[Array, ""]]:
            return self._move(problem, iterate, step, inside)

        stopped = iterate.memory[1] != RUNNING
        moved, risk = jax.lax.cond(stopped, stay, move, None)
        return Iterate(*moved), risk

    def _move(
        self, problem, iterate: Iterate, step: Int[Array, ""], inside: PyTree
    ) -> tuple[Iterate, Float[Array, ""]]:
        theta, (memory, running, known) = iterate
        moved, risk = self.stepper.step(problem, Iterate(theta, memory), inside)
        risk = problem.empirical_risk(theta) if risk is None else risk
        risk = risk.astype(known.dtype)
        reached = risk <= self.target
        theta, memory = jax.tree.map(
            lambda old, new: jnp.where(reached, old, new), (theta, memory), tuple(moved)
        )
        return Iterate(theta, (memory, jnp.where(reached, step, running), risk)), risk


def stopped_step(memory: PyTree) -> Int[Array, "..."]:
    """First step at which the risk was at most the target, -1 where it never was.

    Parameters
    ----------
    memory
        Memory of a process under :class:`UntilLoss`, as in ``EnsembleState.memory``.
    """
    return memory[1]
