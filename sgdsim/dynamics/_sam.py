"""Sharpness-aware minimisation, from optax."""

import equinox as eqx
import optax
import optax.contrib

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.dynamics._rules import AbstractRule, Plain
from sgdsim.dynamics._sources import AbstractGradientSource
from sgdsim.dynamics._steppers import FULL_GRADIENT, Descent


class SharpnessAware(AbstractRule):
    r"""Gradient at a point uphill, handed to another rule.

    .. math:: u = g\Big(\theta + \rho\,\frac{g(\theta)}{\|g(\theta)\|}\Big)
        \quad\text{or}\quad u = g(\theta + \rho\,g(\theta))

    Both gradients are taken on the same batch (with the same noise); two backward passes. Where
    the gradient vanishes the point is not moved.

    Parameters
    ----------
    radius
        ``rho``: a length if normalised, else a time.
    normalised
        Which of the two.
    rule
        What is made of that gradient.

    Notes
    -----
    Source: Foret et al. 2021, algorithm 1 (normalised); Andriushchenko and Flammarion 2022
    (unnormalised); ``optax.contrib.sam``. On a quadratic the unnormalised edge is the curvature
    :math:`(\sqrt{1+8\rho/\eta}-1)/(2\rho)`.

    Examples
    --------
    >>> from sgdsim.dynamics import HeavyBall, SharpnessAware
    >>> SharpnessAware(0.05, rule=HeavyBall(0.9)).radius
    0.05
    """

    radius: Number
    normalised: bool = eqx.field(static=True, default=True)
    rule: AbstractRule = Plain()

    def __check_init__(self):
        check_positive("radius", self.radius)

    def transformation(self):
        """Hand the inner rule the gradient uphill."""
        uphill = optax.scale(-self.radius)
        if self.normalised:
            # Matters only where the gradient is zero or its square underflows in float32.
            uphill = optax.chain(optax.normalize_by_update_norm(eps=2.0**-63), uphill)
        return optax.contrib.sam(self.rule.transformation(), uphill, opaque_mode=True)


def sam(
    learning_rate: Number,
    radius: Number,
    source: AbstractGradientSource = FULL_GRADIENT,
    normalised: bool = True,
) -> Descent:
    r"""Sharpness-aware minimisation, see :class:`SharpnessAware`.

    .. math:: \theta' = \theta - \eta\,g\Big(\theta + \rho\,\frac{g(\theta)}{\|g(\theta)\|}\Big)

    Parameters
    ----------
    learning_rate
        ``eta``.
    radius
        ``rho``.
    source
        Where gradients come from; both of a step share the batch.
    normalised
        Without it the point uphill is :math:`\theta + \rho\,g(\theta)`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import Problem
    >>> from sgdsim.dynamics import sam
    >>> problem = Problem(lambda theta, z: 0.5 * (theta - z) ** 2, jnp.array([0.0]))
    >>> stepper = sam(0.5, radius=1.0)
    >>> iterate, _ = stepper.step(problem, stepper.start(problem, jnp.array(2.0)), ())
    >>> float(iterate.theta)
    0.5
    """
    return Descent(learning_rate, source, SharpnessAware(radius, normalised))
