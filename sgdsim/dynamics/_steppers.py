"""Steppers: the ways in which theta moves by one SGD step, all behind one protocol."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._rules import AbstractRule, Adam, HeavyBall, Nesterov, Plain, RMSProp
from sgdsim.dynamics._sources import (
    AbstractGradientSource,
    FullGradient,
    LabelNoiseGradient,
    MinibatchGradient,
)
from sgdsim.problems import Problem

#: Default source of the discrete algorithms.
FULL_GRADIENT = FullGradient()


class Iterate(NamedTuple):
    """Parameters and what the process remembers beside them.

    Attributes
    ----------
    theta
        Parameters.
    memory
        Momentum, second moments, ...; empty for a process without memory.
    """

    theta: PyTree
    memory: PyTree = ()


class AbstractStepper(eqx.Module):
    """One step of a process with learning rate ``eta``; time is ``t = eta k``.

    The randomness of a step is drawn by ``draw`` from the trajectory's key and the integer step
    alone; the loop draws it one step ahead and carries it. Steppers with the same key therefore
    see the same batches and the same normals: common random numbers.
    """

    learning_rate: eqx.AbstractVar[Number]

    def check(self, problem: Problem, theta: PyTree) -> None:
        """Refuse, before anything is traced, a problem or parameters that do not fit.

        The ensemble calls it once, at its start, with the numbers themselves.
        """

    def start(self, problem: Problem, theta: PyTree) -> Iterate:
        """Iterate at step 0."""
        return Iterate(theta)

    def draw(
        self, key: Key[Array, ""], step: Int[Array, ""], problem: Problem, theta: PyTree
    ) -> PyTree:
        """Everything of step ``step`` that does not depend on the values of ``theta``."""
        raise NotImplementedError

    def step(
        self, problem: Problem, iterate: Iterate, randomness: PyTree
    ) -> tuple[Iterate, Float[Array, ""] | None]:
        """Move by one step.

        Returns
        -------
        iterate
            After the step.
        risk
            Empirical risk *before* the step where it is a by-product, else ``None``.
        """
        raise NotImplementedError


class Descent(AbstractStepper):
    r"""A discrete algorithm :math:`\theta' = \theta - \eta\,u(g)`.

    Parameters
    ----------
    learning_rate
        ``eta``.
    source
        Where the gradient ``g`` of a step comes from.
    rule
        What is made of the gradients, ``u``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import Descent, Iterate
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([1.0, 3.0]))
    >>> iterate, risk = Descent(0.5).step(problem, Iterate(jnp.array(0.0)), ())
    >>> float(iterate.theta), float(risk)
    (1.0, 2.5)
    """

    learning_rate: Number
    source: AbstractGradientSource = FULL_GRADIENT
    rule: AbstractRule = Plain()

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)

    def check(self, problem, theta):
        """Check where the gradients come from."""
        self.source.check(problem, theta)

    def start(self, problem, theta):
        """Start with the empty memory of the rule."""
        return Iterate(theta, self._transformation(theta).init(theta))

    def draw(self, key, step, problem, theta):
        """Draw what the gradient needs."""
        return self.source.draw(key, step, problem, theta)

    def step(self, problem, iterate, randomness):
        """Take one step."""
        theta, memory = iterate

        # Rules that look at a second point get the gradient there, with the same randomness.
        def gradient_at(point: PyTree, _: Any = None) -> PyTree:
            return self.source.gradient(problem, point, randomness)[0]

        gradient, risk = self.source.gradient(problem, theta, randomness)
        update, memory = self._transformation(theta).update(
            gradient, memory, theta, grad_fn=gradient_at
        )
        return Iterate(descend(theta, update, self.learning_rate), memory), risk

    def _transformation(self, theta: PyTree) -> optax.GradientTransformationExtraArgs:
        """Rule with its numbers in the precision of ``theta``, which must not change."""
        dtype = jax.tree.leaves(theta)[0].dtype
        rule = jax.tree.map(
            lambda a: jnp.asarray(a, dtype) if eqx.is_array_like(a) else a, self.rule
        )
        return optax.with_extra_args_support(rule.transformation())


def gradient_descent(learning_rate: Number) -> Descent:
    r"""Full-batch gradient descent :math:`\theta' = \theta - \eta\nabla L_n(\theta)`.

    Examples
    --------
    >>> from sgdsim import gradient_descent
    >>> gradient_descent(0.5).learning_rate
    0.5
    """
    return Descent(learning_rate)


def minibatch_sgd(learning_rate: Number, batch_size: int, replacement: bool = True) -> Descent:
    r"""SGD proper, :math:`\theta' = \theta - \eta\,\frac1B\sum_{i\in b}\nabla\ell_i(\theta)`.

    Parameters
    ----------
    learning_rate
        ``eta``.
    batch_size
        Rows per batch.
    replacement
        Draw rows independently (covariance ``C/B``) or without replacement within the batch
        (covariance ``C/B * (n-B)/(n-1)``).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim import Problem, minibatch_sgd
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([2.0, 2.0]))
    >>> stepper = minibatch_sgd(0.5, batch_size=1)
    >>> start = stepper.start(problem, jnp.array(0.0))
    >>> rows = stepper.draw(jax.random.key(0), jnp.array(0), problem, start.theta)
    >>> float(stepper.step(problem, start, rows)[0].theta)
    1.0
    """
    return Descent(learning_rate, MinibatchGradient(batch_size, replacement))


def heavy_ball(
    learning_rate: Number, momentum: Number, source: AbstractGradientSource = FULL_GRADIENT
) -> Descent:
    r"""Polyak's heavy ball, :math:`m' = g + bm`, :math:`\theta' = \theta - \eta m'`.

    Parameters
    ----------
    learning_rate
        ``eta``; it multiplies the sum of gradients, not their average.
    momentum
        ``b`` in ``[0, 1)``.
    source
        Where gradients come from.

    Examples
    --------
    >>> from sgdsim.dynamics import MinibatchGradient, heavy_ball
    >>> heavy_ball(0.05, 0.9, MinibatchGradient(32)).rule.momentum
    0.9
    """
    return Descent(learning_rate, source, HeavyBall(momentum))


def nesterov(
    learning_rate: Number, momentum: Number, source: AbstractGradientSource = FULL_GRADIENT
) -> Descent:
    r"""Nesterov's momentum, :math:`m' = g + bm`, :math:`\theta' = \theta - \eta(g + bm')`.

    Parameters
    ----------
    learning_rate
        ``eta``.
    momentum
        ``b`` in ``[0, 1)``, constant.
    source
        Where gradients come from.

    Examples
    --------
    >>> from sgdsim.dynamics import nesterov
    >>> nesterov(0.05, 0.9).rule.momentum
    0.9
    """
    return Descent(learning_rate, source, Nesterov(momentum))


def rmsprop(
    learning_rate: Number,
    decay: Number = 0.9,
    epsilon: Number = 1e-8,
    source: AbstractGradientSource = FULL_GRADIENT,
) -> Descent:
    r"""RMSProp, :math:`\theta' = \theta - \eta\,g/(\sqrt{v'}+\epsilon)`.

    Parameters
    ----------
    learning_rate
        ``eta``.
    decay, epsilon
        See :class:`RMSProp`.
    source
        Where gradients come from.

    Examples
    --------
    >>> from sgdsim.dynamics import rmsprop
    >>> rmsprop(1e-3).rule.decay
    0.9
    """
    return Descent(learning_rate, source, RMSProp(decay, epsilon))


def adam(
    learning_rate: Number,
    b1: Number = 0.9,
    b2: Number = 0.999,
    epsilon: Number = 1e-8,
    source: AbstractGradientSource = FULL_GRADIENT,
) -> Descent:
    r"""Adam, :math:`\theta' = \theta - \eta\,\hat m/(\sqrt{\hat v}+\epsilon)`.

    Parameters
    ----------
    learning_rate
        ``eta``.
    b1, b2, epsilon
        See :class:`Adam`.
    source
        Where gradients come from.

    Examples
    --------
    >>> from sgdsim.dynamics import adam
    >>> adam(1e-3).rule.b2
    0.999
    """
    return Descent(learning_rate, source, Adam(b1, b2, epsilon))


def label_noise_sgd(
    learning_rate: Number, batch_size: int, std: Number, replacement: bool = True
) -> Descent:
    r"""SGD on batches with fresh noise ``std`` on the labels, see :class:`LabelNoiseGradient`.

    Parameters
    ----------
    learning_rate
        ``eta``.
    batch_size
        Rows per batch.
    std
        Standard deviation of the noise of each component of a label.
    replacement
        Draw rows independently or without replacement within the batch.

    Examples
    --------
    >>> from sgdsim.dynamics import label_noise_sgd
    >>> label_noise_sgd(0.1, 8, std=0.5).source.std
    0.5
    """
    return Descent(learning_rate, LabelNoiseGradient(batch_size, std, replacement))


def descend(theta: PyTree, direction: PyTree, learning_rate: Any) -> PyTree:
    """Subtract ``learning_rate`` times a direction, in the precision of ``theta``."""
    return jax.tree.map(lambda a, g: a - jnp.asarray(learning_rate, a.dtype) * g, theta, direction)
