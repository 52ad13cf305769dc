r"""Which noise a stepper injects that the training rows have no part in."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from sgdsim._checks import check_count
from sgdsim.dynamics import (
    SDE,
    AbstractGradientNoise,
    AbstractGradientSource,
    AbstractStepper,
    ConstantNoise,
    Descent,
    FullGradient,
    GaussianGradient,
    IsotropicNoise,
    Langevin,
    LangevinNoise,
    MinibatchGradient,
    MinibatchNoise,
    NoisyGradient,
    Plain,
    Projected,
    Scheduled,
    WeightDecay,
)


class InjectedNoise(NamedTuple):
    r"""A step as :math:`\theta' = \theta - \eta_t g_t + \sqrt{v_t}\,\zeta_t`.

    Attributes
    ----------
    learning_rate, variance
        :math:`\eta_t` and :math:`v_t` of every step; the variance is that of a coordinate of the
        parameters, and zero for plain SGD and gradient descent.
    batch_factor
        ``c`` with :math:`\mathrm{Cov}(g_t) = c\,C_n`, :math:`C_n` the covariance of the gradients
        of the rows: ``1/B`` for minibatches drawn with replacement or Gaussian noise like theirs.
    plain_steps
        Whether nothing else moves the parameters (no weight decay, no projection).
    """

    learning_rate: Float[np.ndarray, " step"]
    variance: Float[np.ndarray, " step"]
    batch_factor: float
    plain_steps: bool


def injected_noise(stepper: AbstractStepper, samples: int, steps: int) -> InjectedNoise:
    r"""Tell isotropic Gaussian noise that the training rows do not shape from that of batches.

    Parameters
    ----------
    stepper
        What moves: plain descent or Gaussian SGD, with noise models of this package, Langevin
        noise, a schedule, weight decay, a projection.
    samples
        Number n of training rows.
    steps
        Number of steps.

    Raises
    ------
    ValueError
        If a step has not that form: momentum or adaptive rules, heavy tails, anisotropic noise,
        noise with another covariance that depends on the rows, several substeps.

    Notes
    -----
    Gaussian minibatch noise is a weighted sum of the gradients of the rows with weights that do not
    depend on them; so it counts as a batch, not as injected noise. Independent parts add up.

    Examples
    --------
    >>> from sgdsim import IsotropicNoise, MinibatchNoise, gaussian_sgd
    >>> from sgdsim.dynamics import sgld
    >>> from sgdsim.ensemble import injected_noise
    >>> injected_noise(gaussian_sgd(0.5, IsotropicNoise(2.0)), samples=50, steps=2).variance
    array([0.5, 0.5])
    >>> injected_noise(sgld(0.5, 10.0, batch_size=4), samples=50, steps=2)[1:]
    (array([0.1, 0.1]), 0.25, True)
    >>> injected_noise(gaussian_sgd(0.5, MinibatchNoise(4)), samples=50, steps=2)[1:]
    (array([0., 0.]), 0.25, True)
    """
    check_count("steps", steps)
    inner = stepper.stepper if isinstance(stepper, Scheduled) else stepper
    if isinstance(stepper, Scheduled):
        rates = np.asarray(jax.vmap(stepper.schedule)(jnp.arange(steps)), np.float64)
        rates = np.broadcast_to(rates, (steps,))
    else:
        rates = np.full(steps, float(stepper.learning_rate))
    variance, factor, plain = _of_stepper(inner, samples, rates)
    return InjectedNoise(rates, variance, factor, plain)


def _of_stepper(
    stepper: AbstractStepper, samples: int, rates: np.ndarray
) -> tuple[np.ndarray, float, bool]:
    """Variances, batch factor, and whether the steps are plain."""
    if isinstance(stepper, WeightDecay | Projected):
        return (*_of_stepper(stepper.stepper, samples, rates)[:2], False)
    if isinstance(stepper, Langevin):
        if _projects(stepper.stepper):
            raise ValueError(
                "Langevin noise around a projected step is not the form theta - eta g + noise; put "
                "Projected outside of Langevin."
            )
        variance, factor, plain = _of_stepper(stepper.stepper, samples, rates)
        return variance + 2 * rates / float(stepper.inverse_temperature), factor, plain
    if isinstance(stepper, Descent):
        if not isinstance(stepper.rule, Plain):
            raise ValueError(
                f"the rule {type(stepper.rule).__name__} moves by more than the gradient of the "
                "step, which the statistics of that gradient do not bound; use the rule Plain."
            )
        return (*_of_source(stepper.source, samples, rates), True)
    if isinstance(stepper, SDE):
        corrected = stepper.ito_correction and not stepper.noise.additive
        if stepper.substeps > 1 or stepper.order > 1 or stepper.solver != "euler" or corrected:
            raise ValueError(
                "an SDE with substeps, a corrected drift or another solver than Euler takes "
                "gradients between the recorded iterates; use gaussian_sgd or sgld."
            )
        if isinstance(stepper.noise, LangevinNoise):
            # On an SDE this model keeps its temperature, whatever the learning rate.
            return 2 * rates / float(stepper.noise.inverse_temperature), 0.0, True
        return (*_of_noise(stepper.noise, samples, rates), True)
    raise ValueError(
        f"the steps of {type(stepper).__name__} are not of the form theta - eta g + noise; use "
        "gaussian_sgd, sgld, or Descent with the rule Plain."
    )


def _of_source(
    source: AbstractGradientSource, samples: int, rates: np.ndarray
) -> tuple[np.ndarray, float]:
    """Variances and batch factor of a source of gradients."""
    if isinstance(source, FullGradient):
        return np.zeros_like(rates), 0.0
    if isinstance(source, MinibatchGradient):
        return _of_noise(MinibatchNoise(source.batch_size, source.replacement), samples, rates)
    if isinstance(source, GaussianGradient):
        return _of_noise(source.noise, samples, rates)
    if isinstance(source, NoisyGradient):
        variance, factor = _of_source(source.source, samples, rates)
        added, more = _of_noise(source.noise, samples, rates)
        return variance + added, factor + more
    raise ValueError(
        f"{type(source).__name__} is no weighted sum of the gradients of the rows with weights "
        "that do not depend on them; use FullGradient, MinibatchGradient or NoisyGradient."
    )


def _of_noise(
    noise: AbstractGradientNoise, samples: int, rates: np.ndarray
) -> tuple[np.ndarray, float]:
    """Variances and batch factor of a noise model in the place of gradient noise."""
    if isinstance(noise, MinibatchNoise):
        noise.equivalent_batch_size(samples)  # refuses more rows than there are
        size = float(noise.batch_size)
        share = 1.0 if noise.replacement else (samples - size) / max(samples - 1, 1)
        return np.zeros_like(rates), share / size
    if isinstance(noise, IsotropicNoise):
        return rates**2 * float(noise.variance), 0.0
    if isinstance(noise, LangevinNoise):
        gradient = 2 / (float(noise.learning_rate) * float(noise.inverse_temperature))
        return rates**2 * gradient, 0.0
    name = type(noise).__name__
    if not noise.brownian:
        raise ValueError(
            f"{name} is heavy-tailed, and the bounds compare Gaussian steps; use IsotropicNoise or "
            "Langevin noise."
        )
    if isinstance(noise, ConstantNoise):
        raise ValueError(
            f"{name} is not the same in all directions, and the bounds are for isotropic noise; "
            "use IsotropicNoise or Langevin noise."
        )
    raise ValueError(
        f"the covariance of {name} depends on the training rows, which no comparison process may "
        "know; use IsotropicNoise or Langevin noise."
    )


def _projects(stepper: AbstractStepper) -> bool:
    """Whether a projection is somewhere inside."""
    if isinstance(stepper, Projected):
        return True
    return isinstance(stepper, WeightDecay | Langevin) and _projects(stepper.stepper)
