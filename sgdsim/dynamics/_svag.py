"""Stochastic variance-amplified gradient: SGD with smaller steps and the noise of its SDE."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from sgdsim._checks import check_count, check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._sources import MinibatchGradient
from sgdsim.dynamics._steppers import AbstractStepper, Iterate, descend

# Streams of the first and the second batches of the substeps.
_FIRST, _SECOND = 0x66697273, 0x7365636F


class SVAG(AbstractStepper):
    r"""SVAG(l): for ``l = 1`` it is minibatch SGD, for ``l -> infinity`` the SDE of SGD.

    One step is ``l`` substeps, each of ``eta/l`` units of time and with two batches,

    .. math:: \theta' = \theta - \frac{\eta}{l}\Big(\frac{1+\sqrt{2l-1}}{2}\nabla L_{b_1}(\theta)
        + \frac{1-\sqrt{2l-1}}{2}\nabla L_{b_2}(\theta)\Big).

    The mean of the bracket is the gradient and its covariance ``l`` times that of a batch, so
    that the noise of a substep is that of an Euler step of the SDE, only not Gaussian. A
    statistic that changes with ``l`` is one for which the SDE is not a model of SGD.

    Parameters
    ----------
    learning_rate
        ``eta`` of the SGD that is modelled.
    batch_size
        Rows per batch.
    l
        Substeps per step; a step costs ``l`` backward passes over ``2 batch_size`` rows.
    replacement
        As in :func:`minibatch_sgd`, whose batches ``l = 1`` takes.

    Notes
    -----
    Source: Li, Malladi, Arora 2021, equation 5 and algorithm 1.

    Examples
    --------
    >>> from sgdsim.dynamics import SVAG
    >>> SVAG(0.1, batch_size=8, l=4).l
    4
    """

    learning_rate: Number
    batch_size: int = eqx.field(static=True)
    l: int = eqx.field(static=True)
    replacement: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_positive("learning_rate", self.learning_rate)
        check_count("batch_size", self.batch_size)
        check_count("l", self.l)

    def check(self, problem, theta):
        """Refuse a batch of more rows than there are."""
        MinibatchGradient(self.batch_size, self.replacement).check(problem, theta)

    def draw(self, key, step, problem, theta):
        """Rows of both batches of every substep, shape ``(l, 2 batch_size)``.

        The very first batch is that of SGD in this step; all others come from streams that depend
        on ``l``, so that none is a batch of another step of SGD or of another ``l``.
        """
        source = MinibatchGradient(self.batch_size, self.replacement)
        counters = step * self.l + jnp.arange(self.l, dtype=jnp.int32)

        def batches(stream: int) -> Int[Array, "l rows"]:
            of_stream = jax.random.fold_in(jax.random.fold_in(key, stream), self.l)
            return jax.vmap(lambda counter: source.draw(of_stream, counter, problem, theta))(
                counters
            )

        first = batches(_FIRST).at[0].set(source.draw(key, step, problem, theta))
        return jnp.concatenate([first, batches(_SECOND)], axis=1)

    def step(self, problem, iterate, randomness):
        """Take the substeps one after another."""
        theta = iterate.theta
        dtype = jax.tree.leaves(theta)[0].dtype
        h = jnp.asarray(self.learning_rate, dtype) / self.l
        amplification = math.sqrt(2 * self.l - 1)
        halves = jnp.asarray([1 + amplification, 1 - amplification], dtype) / 2
        weights = jnp.repeat(halves / self.batch_size, self.batch_size)

        def substep(theta: PyTree, rows: Int[Array, " rows"]) -> tuple[PyTree, None]:
            def combined(theta: PyTree) -> Float[Array, ""]:
                return weights @ problem.take(rows).per_sample_losses(theta)

            return descend(theta, jax.grad(combined)(theta), h), None

        return Iterate(jax.lax.scan(substep, theta, randomness)[0]), None
