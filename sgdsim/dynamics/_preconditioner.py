"""By what an adaptive optimizer divides its steps."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from sgdsim.dynamics._modifiers import AbstractModifier
from sgdsim.dynamics._past import WithPast
from sgdsim.dynamics._rules import Adam, RMSProp
from sgdsim.dynamics._steppers import AbstractStepper, Descent, Iterate


def preconditioner(stepper: AbstractStepper, iterate: Iterate) -> PyTree | None:
    r"""Diagonal ``P`` of a step :math:`\theta' = \theta - \eta P^{-1}m`, at an iterate.

    .. math:: P = \sqrt{v} + \epsilon \;\text{(RMSProp)}, \qquad
        P = (1-\beta_1^k)\big(\sqrt{v/(1-\beta_2^k)} + \epsilon\big) \;\text{(Adam)}

    Parameters
    ----------
    stepper
        Any process; modifiers around it do not matter.
    iterate
        Parameters and memory after ``k`` steps.

    Returns
    -------
    pytree or None
        Positive numbers shaped like the parameters, NaN before the first step; ``None`` if the
        process has no preconditioner.

    Notes
    -----
    The largest eigenvalue of :math:`P^{-1}H` has the edge that ``sgdsim.stability`` gives for the
    optimizer; the factor :math:`1-\beta_1^k` is the bias correction of the averaged gradient.
    Source: Cohen et al. 2022, "Adaptive gradient methods at the edge of stability", section 3.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import preconditioner, rmsprop
    >>> problem = Problem(lambda theta, z: theta * z, jnp.array([2.0]))
    >>> stepper = rmsprop(0.1, decay=0.75)
    >>> iterate, _ = stepper.step(problem, stepper.start(problem, jnp.array(1.0)), ())
    >>> round(float(preconditioner(stepper, iterate)), 4)
    1.0
    """
    memory: Any = iterate.memory
    while isinstance(stepper, AbstractModifier):
        memory = memory.inside if isinstance(stepper, WithPast) else memory
        stepper = stepper.stepper
    if not isinstance(stepper, Descent):
        return None
    rule = stepper.rule
    if isinstance(rule, RMSProp):
        return _scale(memory.nu, 1.0, rule.epsilon)
    if isinstance(rule, Adam):
        steps = memory.count
        scale = _scale(memory.nu, 1 - jnp.power(rule.b2, steps), rule.epsilon)
        return jax.tree.map(lambda a: (1 - jnp.power(rule.b1, steps)).astype(a.dtype) * a, scale)
    return None


def _scale(second_moment: PyTree, weight: Any, epsilon: Any) -> PyTree:
    """Root of the averaged square plus the small number; NaN as long as nothing was averaged."""
    started = sum(jnp.sum(v) for v in jax.tree.leaves(second_moment)) > 0

    def one(v: Array) -> Array:
        scale = jnp.sqrt(v / jnp.asarray(weight, v.dtype)) + jnp.asarray(epsilon, v.dtype)
        return jnp.where(started, scale, jnp.nan)

    return jax.tree.map(one, second_moment)
