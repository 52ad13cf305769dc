"""A stepper that keeps its last two iterates, for what is measured between oscillations."""

from typing import NamedTuple

import jax
from jaxtyping import PyTree

from sgdsim.dynamics._modifiers import AbstractModifier
from sgdsim.dynamics._steppers import AbstractStepper, Iterate


class Past(NamedTuple):
    """Memory of :class:`WithPast`.

    Attributes
    ----------
    inside
        Memory of the stepper inside.
    last, before
        Iterates one and two steps ago; the start, where there was none.
    """

    inside: PyTree
    last: PyTree
    before: PyTree


class WithPast(AbstractModifier):
    r"""Any stepper, with its last two iterates in the memory.

    At the edge of stability iterates oscillate with period two. Between two oscillations lies

    .. math:: m_{k-1} = \tfrac14(\theta_{k-2} + 2\theta_{k-1} + \theta_k)

    Parameters
    ----------
    stepper
        What moves; this modifier is the outermost one.

    Notes
    -----
    Steps are those of the stepper inside, bit for bit. Source of the midpoint: Cohen et al. 2024
    (central flows), section on time-averaged iterates.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem, gradient_descent
    >>> from sgdsim.dynamics import WithPast, midpoint
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([0.0]))
    >>> stepper = WithPast(gradient_descent(2.0))
    >>> iterate = stepper.start(problem, jnp.array(1.0))
    >>> for _ in range(2):
    ...     iterate, _ = stepper.step(problem, iterate, ())
    >>> float(iterate.theta), float(midpoint(iterate))
    (1.0, 0.0)
    """

    stepper: AbstractStepper

    def start(self, problem, theta):
        """Start as the stepper inside does, with the start as past."""
        iterate = self.stepper.start(problem, theta)
        return Iterate(iterate.theta, Past(iterate.memory, iterate.theta, iterate.theta))

    def step(self, problem, iterate, randomness):
        """Take the step inside and remember where it came from."""
        theta, past = iterate
        moved, risk = self.stepper.step(problem, Iterate(theta, past.inside), randomness)
        return Iterate(moved.theta, Past(moved.memory, theta, past.last)), risk


def midpoint(iterate: Iterate) -> PyTree:
    r"""Point between two oscillations, :math:`(\theta_{k-2}+2\theta_{k-1}+\theta_k)/4`.

    Parameters
    ----------
    iterate
        Of a process under :class:`WithPast`.
    """
    past = iterate.memory
    return jax.tree.map(
        lambda before, last, now: 0.25 * (before + 2 * last + now),
        past.before,
        past.last,
        iterate.theta,
    )
