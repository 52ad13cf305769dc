"""Curvature that minibatches see along their own gradients: batch sharpness and its companion."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from sgdsim._checks import check_count, check_not_negative
from sgdsim._typing import Number
from sgdsim.curvature._estimates import Estimate, half_width
from sgdsim.problems import Problem, inner, squared_norm

# Looking at the interval after every batch would stop at lucky moments and spoil its coverage, so
# that it is looked at after this many times the batches of the last look.
_GROWTH = 1.25


class BatchCurvature(NamedTuple):
    r"""What minibatches see along their gradients, with standard errors.

    Attributes
    ----------
    batch_sharpness, batch_sharpness_stderr
        :math:`E[g_b^\top H_b g_b/\|g_b\|^2]`, a mean of ratios.
    gradient_noise_interaction, gradient_noise_interaction_stderr
        :math:`E[g_b^\top H_b g_b]/E\|g_b\|^2`, a ratio of means.
    batches
        Number of batches drawn.
    products
        Number of Hessian products, each of one batch.
    """

    batch_sharpness: Float[Array, ""]
    batch_sharpness_stderr: Float[Array, ""]
    gradient_noise_interaction: Float[Array, ""]
    gradient_noise_interaction_stderr: Float[Array, ""]
    batches: Int[Array, ""]
    products: Int[Array, ""]


def batch_curvature(
    problem: Problem,
    theta: PyTree,
    key: Key[Array, ""],
    batch_size: int,
    *,
    replacement: bool = True,
    relative_error: Number = 0.05,
    least: int = 16,
    most: int = 1024,
) -> BatchCurvature:
    r"""Batch sharpness and gradient-noise interaction, to a relative error.

    .. math:: \mathrm{BS} = E_b\frac{g_b^\top H_b g_b}{\|g_b\|^2}, \qquad
        \mathrm{GNI} = \frac{E_b[g_b^\top H_b g_b]}{E_b\|g_b\|^2}

    Gradient and Hessian are those of the same batch. Batches are drawn until the half widths of
    the 95 % confidence intervals of both numbers are below ``relative_error`` times the numbers.

    Parameters
    ----------
    problem, theta
        Where.
    key
        Random key of the batches. The first batches are the same whatever ``most`` is.
    batch_size
        Rows per batch.
    replacement
        Whether the rows of a batch are drawn independently, or without replacement.
    relative_error
        Wanted half width of the 95 % intervals relative to the numbers; 0 draws ``most`` batches
        unless all batches agree.
    least, most
        Fewest and most batches; ``most`` is not exceeded, whether the intervals are narrow enough
        or not.

    Returns
    -------
    BatchCurvature
        Both numbers with standard errors, and what they cost.

    Raises
    ------
    ValueError
        If a batch cannot be drawn, ``least`` is below 2 or above ``most``, or ``relative_error``
        is negative.

    Notes
    -----
    SGD at the edge of stability holds the batch sharpness at :math:`2/\eta` (Andreyev and
    Beneventano 2024, arXiv 2412.20553); the two numbers differ by several per cent, and only the
    first is theirs. A batch whose gradient is zero has no direction: it is left out of the batch
    sharpness, whose expectation is then that over batches with a gradient, and adds nothing to
    either expectation of the gradient-noise interaction. Where fewer than two batches have a
    gradient the standard errors are NaN, and where none has one the numbers are NaN as well.
    What is not finite in one batch makes both numbers NaN and ends the drawing.

    The standard error of the ratio of means, and a correction of its bias, are those of the
    jackknife (Efron and Tibshirani 1993, chapters 10 and 11). The intervals are looked at after
    ``least`` batches and then each time their number has grown by a quarter.

    One linearisation of the gradient of a batch gives the gradient and its Hessian product: the
    backward pass is not paid twice.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.curvature import batch_curvature
    >>> rows = jnp.array([1.0, 2.0, 5.0])
    >>> problem = Problem(lambda theta, z: 1.5 * (theta - z) ** 2, rows)
    >>> seen = batch_curvature(problem, jnp.array(-1.0), jax.random.key(0), batch_size=2)
    >>> float(seen.batch_sharpness), int(seen.batches)
    (3.0, 16)
    """
    _check(problem, batch_size, replacement, least, most)
    check_not_negative("relative_error", relative_error)
    dtype = jnp.result_type(*jax.tree.leaves(theta))
    tolerance = jnp.asarray(relative_error, dtype)

    def draw(batch: Array, draws: tuple[Array, Array]) -> tuple[Array, Array]:
        key_of_batch = jax.random.fold_in(key, batch)
        if replacement:
            rows = jax.random.randint(key_of_batch, (batch_size,), 0, problem.n)
        else:
            rows = jax.random.choice(key_of_batch, problem.n, (batch_size,), replace=False)
        risk = problem.take(rows).empirical_risk
        gradient, product = jax.linearize(jax.grad(risk), theta)
        curved, squares = draws
        curved = curved.at[batch].set(inner(gradient, product(gradient)))
        return curved, squares.at[batch].set(squared_norm(gradient))

    def goes_on(state: tuple[tuple[Array, Array], Array]) -> Array:
        draws, count = state
        widths = jnp.stack([width for _, width in _intervals(draws, count)])
        values = jnp.stack([estimate.value for estimate, _ in _intervals(draws, count)])
        precise = jnp.all(widths <= tolerance * jnp.abs(values))
        return (count < most) & ~precise & jnp.all(jnp.isfinite(draws[0]))

    def extend(state: tuple[tuple[Array, Array], Array]) -> tuple[tuple[Array, Array], Array]:
        draws, count = state
        grown = jnp.ceil(_GROWTH * count).astype(count.dtype)
        target = jnp.clip(grown, least, most)
        return jax.lax.fori_loop(count, target, draw, draws), target

    nothing = (jnp.zeros(most, dtype), jnp.zeros(most, dtype))
    draws, count = jax.lax.while_loop(goes_on, extend, (nothing, jnp.asarray(0, jnp.int32)))
    (sharpness, _), (interaction, _) = _intervals(draws, count)
    return BatchCurvature(*sharpness, *interaction, batches=count, products=count)


def batch_sharpness(
    problem: Problem, theta: PyTree, key: Key[Array, ""], batch_size: int, batches: int
) -> Estimate:
    r"""Batch sharpness :math:`E_b[g_b^\top H_b g_b/\|g_b\|^2]` of minibatches with replacement.

    Parameters
    ----------
    problem, theta
        Where.
    key
        Random key of the batches.
    batch_size, batches
        Rows per batch and number of batches, at least 2.

    Returns
    -------
    Estimate
        Mean over batches and its standard error.

    Raises
    ------
    ValueError
        As :func:`batch_curvature`, of which this is the part with a number of batches fixed in
        advance.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.curvature import batch_sharpness
    >>> problem = Problem(lambda theta, z: 1.5 * (theta - z) ** 2, jnp.array([1.0, 2.0, 5.0]))
    >>> float(batch_sharpness(problem, jnp.array(-1.0), jax.random.key(0), 2, 10).value)
    3.0
    """
    seen = batch_curvature(
        problem, theta, key, batch_size, relative_error=0.0, least=batches, most=batches
    )
    return Estimate(seen.batch_sharpness, seen.batch_sharpness_stderr)


def _intervals(
    draws: tuple[Float[Array, " most"], Float[Array, " most"]], count: Int[Array, ""]
) -> tuple[tuple[Estimate, Array], tuple[Estimate, Array]]:
    """Both numbers, each with the half width of its interval, from the first ``count`` draws."""
    curved, squares = draws
    # Written so that a NaN counts as a gradient and is seen.
    has_direction = (jnp.arange(squares.size) < count) & (squares != 0)
    number = jnp.sum(has_direction, dtype=squares.dtype)
    sharpness = _mean(jnp.where(has_direction, curved / squares, 0.0), has_direction, number)
    interaction = _ratio(curved, squares, has_direction, number)
    return (
        (sharpness, half_width(sharpness.stderr, number - 1)),
        (interaction, half_width(interaction.stderr, number - 1)),
    )


def _mean(values: Array, chosen: Array, number: Array) -> Estimate:
    mean = jnp.sum(values) / number
    scatter = jnp.sum(jnp.where(chosen, jnp.square(values - mean), 0.0))
    variance = jnp.where(number > 1, scatter / (number - 1), jnp.nan)
    return Estimate(mean, jnp.sqrt(variance / number))


def _ratio(curved: Array, squares: Array, chosen: Array, number: Array) -> Estimate:
    """Ratio of sums by the jackknife; a batch without gradient would change neither of them."""
    total = jnp.sum(squares)
    ratio = jnp.sum(curved) / total
    # What leaving one batch out adds to the ratio, free of cancellation.
    shifts = jnp.where(chosen, (ratio * squares - curved) / (total - squares), 0.0)
    mean = jnp.sum(shifts) / number
    scatter = jnp.sum(jnp.where(chosen, jnp.square(shifts - mean), 0.0))
    bias = (number - 1) * mean
    # Not finite where all other gradients vanish beside one: then it is known from one batch only.
    bias = jnp.where(jnp.isfinite(bias), bias, 0.0)
    return Estimate(ratio - bias, jnp.sqrt((number - 1) / number * scatter))


def _check(problem: Problem, batch_size: int, replacement: bool, least: int, most: int) -> None:
    for name, value in [("batch_size", batch_size), ("least", least), ("most", most)]:
        check_count(name, value)
    if not replacement and batch_size > problem.n:
        raise ValueError(
            f"batch_size = {batch_size} rows cannot be drawn without replacement from {problem.n} "
            f"rows; take at most {problem.n}, or replacement=True."
        )
    if not 2 <= least <= most:
        raise ValueError(
            f"a standard error needs at least two batches, and least may not exceed most; got "
            f"least = {least} and most = {most}."
        )
