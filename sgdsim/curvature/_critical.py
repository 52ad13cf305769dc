"""Critical sharpness: curvature along an update, from values of the loss alone."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from sgdsim._checks import check_count, check_positive
from sgdsim._typing import Number

# Fewer passes cannot hold the loss at the start, both ends of a bracket and one look inside.
_FEWEST_PASSES = 4


class CriticalSharpness(NamedTuple):
    r"""Critical sharpness with an interval that holds it.

    Attributes
    ----------
    value
        :math:`2/\eta_c`, NaN if no bracket was found.
    low, high
        Ends of the interval: :math:`2/\eta` for the smallest learning rate at which the loss was
        seen to rise, and for the largest one below it at which it did not.
    learning_rate
        :math:`\eta_c` itself, the largest learning rate that does not raise the loss.
    passes
        Number of evaluations of the loss.
    """

    value: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    learning_rate: Float[Array, ""]
    passes: Int[Array, ""]


class _Bracket(NamedTuple):
    """``inside`` does not raise the loss, ``outside`` does; slopes are ``(L(eta) - L(0)) / eta``.

    Where one end has not been seen yet ``inside`` is 0 or ``outside`` is infinite. Passes within
    are those after both had been seen.
    """

    inside: Float[Array, ""]
    outside: Float[Array, ""]
    slope_inside: Float[Array, ""]
    slope_outside: Float[Array, ""]
    passes: Int[Array, ""]
    passes_within: Int[Array, ""]


def critical_sharpness(
    risk: Callable[[PyTree], Array],
    theta: PyTree,
    direction: PyTree,
    start: Number,
    *,
    relative_width: Number = 0.02,
    most: int = 10,
) -> CriticalSharpness:
    r"""Critical sharpness :math:`2/\eta_c` along an update direction, by forward passes only.

    .. math:: \eta_c = \min\{\eta > 0 : L(\theta - \eta\,d) > L(\theta)\}

    On a quadratic loss this is :math:`d^\top Hd/(d^\top\nabla L)`: for gradient descent the
    Rayleigh quotient of the gradient, and the eigenvalue along an eigenvector.

    Parameters
    ----------
    risk
        Loss, a function of ``theta`` alone.
    theta
        Where.
    direction
        ``d``, shaped like ``theta``: an optimizer with learning rate ``eta`` goes to
        ``theta - eta * d``. The gradient for gradient descent.
    start
        First guess of :math:`\eta_c`: the learning rate of the run, or the last result.
    relative_width
        The search ends when the ends of the interval differ by less than this factor.
    most
        Most evaluations of the loss, that at ``theta`` included; from 4 on.

    Returns
    -------
    CriticalSharpness
        Value, interval, learning rate and passes.

    Raises
    ------
    ValueError
        If ``start`` or ``relative_width`` is not positive or ``most`` is below 4.

    Notes
    -----
    Kalra et al. 2026, arXiv 2601.16979. The guess is doubled until the loss rises, or halved
    until it does not. Within the bracket the next look is at the root of the line through
    :math:`(L(\theta-\eta d)-L(\theta))/\eta` at both ends, which is the exact root on a quadratic,
    a little below it and above it in turn so that both ends close in; every third look bisects.

    What is found is the first rise *seen*: a loss that rises and falls again between two looks
    hides an earlier one, and a smaller ``start`` sees more. Values that are not finite count as a
    rise. Two cases have no bracket, and ``value`` and ``learning_rate`` are NaN: if the loss rises
    at every learning rate tried, as it does where ``d`` points uphill, ``high`` is infinite; if
    it never rises, as it does not along a flat or an endlessly falling direction, ``low`` is zero.
    All is NaN where the loss at ``theta`` is not finite. Losses differ by rounding near
    :math:`\eta_c`: an error of ``e`` in the loss shifts :math:`\eta_c` by about
    :math:`e/(d^\top\nabla L)`, which in single precision matters where the gradient is small.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.curvature import critical_sharpness
    >>> theta = jnp.array([0.0, 2.0])
    >>> found = critical_sharpness(
    ...     lambda t: jnp.sum(jnp.array([1.0, 3.0]) * t**2), theta, jnp.array([0.0, 12.0]), 0.5
    ... )
    >>> round(float(found.value), 3), int(found.passes)
    (6.0, 5)
    """
    check_positive("start", start)
    check_positive("relative_width", relative_width)
    check_count("most", most)
    if most < _FEWEST_PASSES:
        raise ValueError(f"most must be at least {_FEWEST_PASSES} passes, got {most}.")
    at_start = risk(theta)
    dtype = at_start.dtype
    width = jnp.asarray(relative_width, dtype)

    def slope(eta: Array) -> Array:
        moved = jax.tree.map(lambda a, d: a - (eta * d).astype(a.dtype), theta, direction)
        return (risk(moved) - at_start) / eta

    def goes_on(bracket: _Bracket) -> Array:
        # An end that is missing, or a NaN, is wide.
        narrow = bracket.outside <= (1 + width) * bracket.inside
        return (bracket.passes < most) & ~narrow & jnp.isfinite(at_start)

    def look(bracket: _Bracket) -> _Bracket:
        eta = _next_look(bracket, jnp.asarray(start, dtype), width)
        found = slope(eta)
        falls = found <= 0
        return _Bracket(
            jnp.where(falls, eta, bracket.inside),
            jnp.where(falls, bracket.outside, eta),
            jnp.where(falls, found, bracket.slope_inside),
            jnp.where(falls, bracket.slope_outside, found),
            bracket.passes + 1,
            bracket.passes_within + _is_closed(bracket),
        )

    nothing = jnp.zeros((), dtype)
    one = jnp.asarray(1, jnp.int32)
    unknown = _Bracket(nothing, nothing + jnp.inf, nothing, nothing, one, one - 1)
    found = jax.lax.while_loop(goes_on, look, unknown)
    return _result(found, jnp.isfinite(at_start))


def _is_closed(bracket: _Bracket) -> Bool[Array, ""]:
    return (bracket.inside > 0) & jnp.isfinite(bracket.outside)


def _next_look(
    bracket: _Bracket, start: Float[Array, ""], width: Float[Array, ""]
) -> Float[Array, ""]:
    inside, outside = bracket.inside, bracket.outside
    turn = bracket.passes_within % 3
    root = _root(bracket) * jnp.where(turn == 0, 1 - width / 3, 1 + width / 3)
    usable = (root > inside) & (root < outside) & (turn < 2)
    within = jnp.where(usable, root, (inside + outside) / 2)
    half_open = jnp.where(inside > 0, 2 * inside, jnp.where(outside < jnp.inf, outside / 2, start))
    return jnp.where(_is_closed(bracket), within, half_open)


def _root(bracket: _Bracket) -> Float[Array, ""]:
    """Where the line through the slopes at both ends is zero; the middle if it is not finite."""
    inside, outside = bracket.inside, bracket.outside
    share = -bracket.slope_inside / (bracket.slope_outside - bracket.slope_inside)
    share = jnp.where(jnp.isfinite(bracket.slope_outside) & jnp.isfinite(share), share, 0.5)
    return inside + share * (outside - inside)


def _result(bracket: _Bracket, finite: Array) -> CriticalSharpness:
    rate = jnp.where(finite & _is_closed(bracket), _root(bracket), jnp.nan)
    low = jnp.where(finite, 2 / bracket.outside, jnp.nan)
    high = jnp.where(finite, 2 / bracket.inside, jnp.nan)
    return CriticalSharpness(2 / rate, low, high, rate, bracket.passes)
