"""Steppers around a stepper: weight decay, Langevin noise, learning-rate schedules."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._random import normal_like
from sgdsim.dynamics._sources import FullGradient, MinibatchGradient
from sgdsim.dynamics._steppers import AbstractStepper, Descent, Iterate, descend

# Stream of the Langevin noise, apart from whatever the stepper inside draws.
_LANGEVIN = 0x6C616E67


class AbstractModifier(AbstractStepper):
    """Something done around each step of another stepper; concrete classes are final."""

    stepper: eqx.AbstractVar[AbstractStepper]

    # That of the stepper inside; a class variable, so that constructors do not ask for it.
    learning_rate: ClassVar[Any] = property(lambda self: self.stepper.learning_rate)

    def check(self, problem, theta):
        """Check the stepper inside."""
        self.stepper.check(problem, theta)

    def start(self, problem, theta):
        """Start as the stepper inside does."""
        return self.stepper.start(problem, theta)

    def draw(self, key, step, problem, theta):
        """Draw what the stepper inside needs."""
        return self.stepper.draw(key, step, problem, theta)


class WeightDecay(AbstractModifier):
    r"""Decoupled weight decay around any stepper; around Adam it is AdamW.

    .. math:: \theta_{k+1} = \mathrm{step}(\theta_k) - \eta\,\lambda\,\theta_k

    Unlike the ridge of a problem it does not pass through momentum or preconditioner.

    Parameters
    ----------
    stepper
        What is decayed. A :class:`Scheduled` goes outside, not inside.
    rate
        ``lambda``, per unit of time ``t = eta k``.

    Notes
    -----
    Source: Loshchilov and Hutter 2019, algorithm 2, with the decay scaled by ``eta`` as in
    ``optax.adamw``.

    Examples
    --------
    >>> from sgdsim.dynamics import WeightDecay, adam
    >>> WeightDecay(adam(1e-3), rate=0.01).learning_rate
    0.001
    """

    stepper: AbstractStepper
    rate: Number

    def __check_init__(self):
        check_positive("rate", self.rate)
        refuse_schedule_inside(self)

    def step(self, problem, iterate, randomness):
        """Take the step inside and shrink the parameters of before."""
        moved, risk = self.stepper.step(problem, iterate, randomness)
        amount = jnp.asarray(self.learning_rate) * self.rate
        return Iterate(descend(moved.theta, iterate.theta, amount), moved.memory), risk


class Langevin(AbstractModifier):
    r"""Thermal noise after each step of another stepper.

    .. math:: \theta_{k+1} = \mathrm{step}(\theta_k) + \sqrt{2\eta/\beta}\;\xi_k,
        \qquad \xi_k\sim N(0,I)

    Around gradient descent it is the Euler step of
    :math:`d\theta = -\nabla L_n\,dt + \sqrt{2/\beta}\,dW` (Ito, time ``t = eta k``), whose
    stationary density is proportional to :math:`e^{-\beta L_n}`.

    Parameters
    ----------
    stepper
        What the noise is added to. A :class:`Scheduled` goes outside, not inside.
    inverse_temperature
        ``beta``.

    Notes
    -----
    The normals have a stream of their own, so that they are independent of what the stepper
    inside draws; its batches are those of SGD with the same key.
    Source: Welling and Teh 2011, equation 4 (there with ``eta/2`` and ``beta = n``).

    Examples
    --------
    >>> from sgdsim import gradient_descent
    >>> from sgdsim.dynamics import Langevin
    >>> Langevin(gradient_descent(0.1), inverse_temperature=50.0).learning_rate
    0.1
    """

    stepper: AbstractStepper
    inverse_temperature: Number

    def __check_init__(self):
        check_positive("inverse_temperature", self.inverse_temperature)
        refuse_schedule_inside(self)

    def draw(self, key, step, problem, theta):
        """Draw for the stepper inside and one standard normal per parameter."""
        inside = self.stepper.draw(key, step, problem, theta)
        return inside, normal_like(jax.random.fold_in(key, _LANGEVIN), step, theta)

    def step(self, problem, iterate, randomness):
        """Take the step inside and add the noise."""
        inside, normals = randomness
        moved, risk = self.stepper.step(problem, iterate, inside)
        scale = -jnp.sqrt(2 * jnp.asarray(self.learning_rate) / self.inverse_temperature)
        return Iterate(descend(moved.theta, normals, scale), moved.memory), risk


def sgld(
    learning_rate: Number, inverse_temperature: Number, batch_size: int | None = None
) -> Langevin:
    r"""Stochastic gradient Langevin dynamics.

    .. math:: \theta' = \theta - \eta g + \sqrt{2\eta/\beta}\;\xi, \qquad \xi\sim N(0,I)

    Parameters
    ----------
    learning_rate
        ``eta``.
    inverse_temperature
        ``beta``.
    batch_size
        Rows per batch, drawn with replacement; without it ``g`` is the full gradient.

    Examples
    --------
    >>> from sgdsim.dynamics import sgld
    >>> sgld(0.1, inverse_temperature=50.0, batch_size=8).inverse_temperature
    50.0
    """
    source = FullGradient() if batch_size is None else MinibatchGradient(batch_size)
    return Langevin(Descent(learning_rate, source), inverse_temperature)


class Scheduled(AbstractModifier):
    r"""A stepper whose learning rate is a function of the step, :math:`\eta_k = s(k)`.

    Whatever the stepper inside derives from ``eta`` follows: the noise of an SDE is
    :math:`\sqrt{\eta_k h_k}` with :math:`h_k = \eta_k/m`, the Langevin noise
    :math:`\sqrt{2\eta_k/\beta}`, weight decay :math:`\eta_k\lambda`, a substep of SVAG
    :math:`\eta_k/l`. Momentum keeps sums of gradients, not of past steps. Time is
    :math:`t = \sum_k\eta_k`.

    Parameters
    ----------
    stepper
        What moves; the learning rate it was made with is not used.
    schedule
        ``schedule(step) -> learning rate`` from the integer step: one of this package, whose
        numbers are traced, a schedule of optax, or any function that JAX can trace.

    Examples
    --------
    >>> from sgdsim import minibatch_sgd
    >>> from sgdsim.dynamics import CosineDecay, Scheduled
    >>> stepper = Scheduled(minibatch_sgd(0.1, 32), CosineDecay(0.1, steps=1000))
    """

    stepper: AbstractStepper
    schedule: Callable

    def __check_init__(self):
        refuse_schedule_inside(self)

    def draw(self, key, step, problem, theta):
        """Evaluate the schedule and draw for the stepper inside."""
        rate = jnp.asarray(self.schedule(step), jax.tree.leaves(theta)[0].dtype)
        return rate, self.stepper.draw(key, step, problem, theta)

    def step(self, problem, iterate, randomness):
        """Take a step with the learning rate of now."""
        rate, inside = randomness
        stepper = eqx.tree_at(lambda stepper: stepper.learning_rate, self.stepper, rate)
        return stepper.step(problem, iterate, inside)


def step_times(stepper: AbstractStepper, steps: int) -> Float[np.ndarray, " time"]:
    r"""Add up the learning rates, :math:`t_k = \sum_{j<k}\eta_j`, for the steps 0 to ``steps``.

    Parameters
    ----------
    stepper
        Without a schedule, ``t_k = eta k``.
    steps
        Last step.

    Examples
    --------
    >>> from sgdsim.dynamics import LinearDecay, Scheduled, gradient_descent, step_times
    >>> step_times(Scheduled(gradient_descent(1.0), LinearDecay(1.0, 0.0, 4)), 3).tolist()
    [0.0, 1.0, 1.75, 2.25]
    """
    if not isinstance(stepper, Scheduled):
        return np.arange(steps + 1) * float(stepper.learning_rate)
    rates = np.asarray(jax.vmap(stepper.schedule)(jnp.arange(steps)), np.float64)
    return np.append(0.0, np.cumsum(rates))


def refuse_schedule_inside(modifier: AbstractModifier) -> None:
    """Refuse what would use ``eta`` itself but not see the scheduled one."""
    stepper, name = modifier.stepper, type(modifier).__name__
    while isinstance(stepper, AbstractModifier):
        if isinstance(stepper, Scheduled):
            raise ValueError(
                f"{name} around Scheduled does not see the scheduled learning rate; make "
                "Scheduled the outer one of the two, and use only one."
            )
        stepper = stepper.stepper
