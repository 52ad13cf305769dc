"""Learning rate as a function of the step, with traced numbers.

The schedules of optax check their horizons in Python and so cannot be traced; these have the same
values, and other numbers need no other compilation.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sgdsim._checks import check_not_negative, check_positive
from sgdsim._typing import Number

Step = Int[Array, ""] | int


def _integers(values: Any) -> Int[Array, " jumps"]:
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.integer) and array.size:
        raise ValueError(f"boundaries must be integers, the numbers of steps, got {values!r}.")
    return array.astype(jnp.int32)


def _floats(values: Any) -> Float[Array, " jumps"]:
    return jnp.asarray(values, float)


class AbstractSchedule(eqx.Module):
    """A learning rate for every step; concrete classes are final."""

    def __call__(self, step: Step) -> Float[Array, ""]:
        """Learning rate of a step, counted from 0."""
        raise NotImplementedError


class Constant(AbstractSchedule):
    """The same learning rate always, for use inside :class:`Warmup`.

    Parameters
    ----------
    value
        Learning rate.

    Examples
    --------
    >>> from sgdsim.dynamics import Constant
    >>> round(float(Constant(0.1)(7)), 6)
    0.1
    """

    value: Number

    def __check_init__(self):
        check_positive("value", self.value)

    def __call__(self, step):
        """Give the value."""
        return jnp.asarray(self.value, float)


class LinearDecay(AbstractSchedule):
    r"""From one learning rate to another on a straight line, then constant.

    .. math:: \eta_k = a + (b-a)\min(k/T, 1)

    Parameters
    ----------
    initial, final
        ``a`` and ``b``; the last one may be zero.
    steps
        ``T``.

    Examples
    --------
    >>> from sgdsim.dynamics import LinearDecay
    >>> round(float(LinearDecay(0.5, 0.1, steps=4)(3)), 6)
    0.2
    """

    initial: Number
    final: Number
    steps: Number

    def __check_init__(self):
        check_positive("initial", self.initial)
        check_not_negative("final", self.final)
        check_positive("steps", self.steps)

    def __call__(self, step):
        """Interpolate."""
        share = jnp.minimum(step / jnp.asarray(self.steps, float), 1.0)
        return self.initial + (self.final - self.initial) * share


class CosineDecay(AbstractSchedule):
    r"""Half a cosine wave from one learning rate to another, then constant.

    .. math:: \eta_k = b + (a-b)\,\tfrac12\big(1+\cos(\pi\min(k/T,1))\big)

    Parameters
    ----------
    initial
        ``a``.
    steps
        ``T``.
    final
        ``b``; it may be zero.

    Notes
    -----
    Source: Loshchilov and Hutter 2017, equation 5, without restarts.

    Examples
    --------
    >>> from sgdsim.dynamics import CosineDecay
    >>> round(float(CosineDecay(0.5, steps=4)(2)), 6)
    0.25
    """

    initial: Number
    steps: Number
    final: Number = 0.0

    def __check_init__(self):
        check_positive("initial", self.initial)
        check_not_negative("final", self.final)
        check_positive("steps", self.steps)

    def __call__(self, step):
        """Follow the cosine."""
        share = jnp.minimum(step / jnp.asarray(self.steps, float), 1.0)
        return self.final + (self.initial - self.final) * 0.5 * (1 + jnp.cos(jnp.pi * share))


class ExponentialDecay(AbstractSchedule):
    r"""A factor ``r`` every ``T`` steps, smoothly: :math:`\eta_k = a\,r^{k/T}`.

    Parameters
    ----------
    initial
        ``a``.
    steps
        ``T``.
    factor
        ``r > 0``.

    Examples
    --------
    >>> from sgdsim.dynamics import ExponentialDecay
    >>> round(float(ExponentialDecay(0.5, steps=4, factor=0.25)(2)), 6)
    0.25
    """

    initial: Number
    steps: Number
    factor: Number

    def __check_init__(self):
        check_positive("initial", self.initial)
        check_positive("steps", self.steps)
        check_positive("factor", self.factor)

    def __call__(self, step):
        """Decay."""
        share = step / jnp.asarray(self.steps, float)
        return self.initial * jnp.asarray(self.factor, float) ** share


class Piecewise(AbstractSchedule):
    r"""Constant but for jumps: from each boundary on the rate is multiplied by a factor.

    Parameters
    ----------
    initial
        Learning rate before the first boundary.
    boundaries
        Steps, shape ``(jumps,)``; step ``k`` is the first with the new rate.
    factors
        One per boundary.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.dynamics import Piecewise
    >>> schedule = Piecewise(1.0, boundaries=jnp.array([10, 20]), factors=jnp.array([0.5, 0.1]))
    >>> [round(float(schedule(step)), 6) for step in (9, 10, 20)]
    [1.0, 0.5, 0.05]
    """

    initial: Number
    boundaries: Int[Array, " jumps"] = eqx.field(converter=_integers)
    factors: Float[Array, " jumps"] = eqx.field(converter=_floats)

    def __check_init__(self):
        check_positive("initial", self.initial)
        shapes = self.boundaries.shape, self.factors.shape
        if shapes[0] != shapes[1] or len(shapes[0]) != 1:
            raise ValueError(
                f"boundaries and factors must be two lists of one length, got the shapes "
                f"{shapes[0]} and {shapes[1]}."
            )

    def __call__(self, step):
        """Multiply the factors of the boundaries that were reached."""
        reached = step >= self.boundaries
        return self.initial * jnp.prod(jnp.where(reached, self.factors, 1.0))


class Warmup(AbstractSchedule):
    r"""Another schedule after a linear rise from zero to its first value.

    .. math:: \eta_k = s(0)\,k/T \;(k<T), \qquad \eta_k = s(k-T) \;(k\ge T)

    Step 0 does not move, as with optax.

    Parameters
    ----------
    steps
        ``T``.
    then
        ``s``.

    Examples
    --------
    >>> from sgdsim.dynamics import Constant, Warmup
    >>> schedule = Warmup(steps=4, then=Constant(0.5))
    >>> [round(float(schedule(step)), 6) for step in (0, 2, 9)]
    [0.0, 0.25, 0.5]
    """

    steps: Number
    then: Callable

    def __check_init__(self):
        check_positive("steps", self.steps)

    def __call__(self, step):
        """Rise, then follow."""
        share = jnp.minimum(step / jnp.asarray(self.steps, float), 1.0)
        return share * self.then(jnp.maximum(step - jnp.asarray(self.steps), 0))
