"""From the dynamics table of a scenario to a stepper, and to the covariance of its noise."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from sgdsim.dynamics._adaptive_sde import AdamSDE, RMSPropSDE
from sgdsim.dynamics._central_flow import CentralFlow
from sgdsim.dynamics._edge_flow import EdgeFlow
from sgdsim.dynamics._gradient_flow import GradientFlow
from sgdsim.dynamics._modifiers import Scheduled, WeightDecay, sgld
from sgdsim.dynamics._noise import AbstractGradientNoise, IsotropicNoise, MinibatchNoise
from sgdsim.dynamics._noise_approximate import DiagonalNoise, LowRankNoise
from sgdsim.dynamics._noise_fixed import ConstantNoise, LangevinNoise
from sgdsim.dynamics._noise_heavy import StableNoise, StudentNoise
from sgdsim.dynamics._noise_output import HessianAlignedNoise, LabelNoise
from sgdsim.dynamics._projections import (
    AbstractProjection,
    BallProjection,
    BoxProjection,
    Projected,
    SpectralProjection,
)
from sgdsim.dynamics._sam import sam
from sgdsim.dynamics._schedules import (
    AbstractSchedule,
    Constant,
    CosineDecay,
    ExponentialDecay,
    LinearDecay,
    Piecewise,
    Warmup,
)
from sgdsim.dynamics._sde import SDE
from sgdsim.dynamics._sources import (
    AbstractGradientSource,
    FullGradient,
    GaussianGradient,
    MinibatchGradient,
)
from sgdsim.dynamics._steppers import (
    AbstractStepper,
    adam,
    gradient_descent,
    heavy_ball,
    label_noise_sgd,
    minibatch_sgd,
    nesterov,
    rmsprop,
)
from sgdsim.dynamics._svag import SVAG
from sgdsim.dynamics._underdamped import UnderdampedSDE
from sgdsim.scenario import Dynamics, Noise


def build_stepper(dynamics: Dynamics, theta: PyTree) -> AbstractStepper:
    """Make the stepper that a scenario describes; its numbers are arrays, hence traced.

    Parameters
    ----------
    dynamics
        Table of the scenario.
    theta
        Any point; only its shapes count.

    Raises
    ------
    ValueError
        If solver and noise do not fit, or a noise does not fit the parameters.
    """
    stepper = _STEPPERS[dynamics.kind](dynamics, theta)
    # A schedule comes last: it is what all others inside it see as the learning rate.
    if dynamics.weight_decay:
        stepper = WeightDecay(stepper, _number(dynamics.weight_decay))
    if dynamics.projection is not None:
        stepper = Projected(stepper, _projection(dynamics.projection, theta))
    if dynamics.schedule is not None:
        stepper = Scheduled(stepper, _schedule(dynamics.schedule, dynamics.learning_rate))
    return stepper


def build_noise(dynamics: Dynamics, theta: PyTree) -> AbstractGradientNoise | None:
    """Gradient noise of one step, as a model with a covariance, or ``None``.

    For minibatches it is the Gaussian noise with the same covariance. There is none for processes
    without noise, and it is not known for those that add a second noise to that of the batch; a
    stable law has no covariance.
    """
    if dynamics.kind in ("sgld", "label_noise_sgd"):
        return None
    noise: Noise | None = getattr(dynamics, "noise", None)
    if noise is not None:
        return None if noise.kind == "stable" else _noise(noise, dynamics, theta)
    size: int | None = getattr(dynamics, "batch_size", None)
    if size is None:
        return None
    return MinibatchNoise(_number(size), getattr(dynamics, "replacement", True))


def _noise(noise: Noise, dynamics: Any, theta: PyTree) -> AbstractGradientNoise:
    match noise.kind:
        case "minibatch":
            return MinibatchNoise(_number(dynamics.batch_size), noise.replacement)
        case "isotropic":
            return IsotropicNoise(_number(noise.variance))
        case "langevin":
            rate = _number(dynamics.learning_rate)
            return LangevinNoise(_number(noise.inverse_temperature), rate)
        case "hessian_aligned":
            return HessianAlignedNoise(_number(dynamics.batch_size), noise.form)
        case "diagonal":
            return DiagonalNoise(_number(dynamics.batch_size))
        case "low_rank":
            return LowRankNoise(_number(dynamics.batch_size), noise.rank)
        case "label":
            return LabelNoise(_number(dynamics.batch_size), _number(noise.std))
        case "constant":
            return ConstantNoise.from_covariance(np.asarray(noise.covariance), theta)
        case "student":
            return StudentNoise(_noise(noise.base, dynamics, theta), _number(noise.degrees))
        case "stable":
            return StableNoise(_noise(noise.base, dynamics, theta), _number(noise.alpha))


def _source(dynamics: Any, theta: PyTree) -> AbstractGradientSource:
    """Where an optimizer takes its gradients: a noise model, batches, or all rows."""
    if dynamics.noise is not None:
        return GaussianGradient(_noise(dynamics.noise, dynamics, theta))
    if dynamics.batch_size is not None:
        return MinibatchGradient(dynamics.batch_size, dynamics.replacement)
    return FullGradient()


def _projection(table: Any, theta: PyTree) -> AbstractProjection:
    match table.kind:
        case "ball":
            origin = jax.tree.map(jnp.zeros_like, theta)
            return BallProjection(origin, _number(table.radius))
        case "box":
            return BoxProjection(_number(table.low), _number(table.high))
        case "spectral":
            return SpectralProjection(_number(table.bound))
    raise AssertionError(table.kind)


def _schedule(table: Any, learning_rate: float) -> AbstractSchedule:
    """Make the schedule; the learning rate of the scenario is its first value after a warmup."""
    rate = _number(learning_rate)
    match table.kind:
        case "linear":
            return LinearDecay(rate, _number(table.final), _number(table.steps))
        case "cosine":
            return CosineDecay(rate, _number(table.steps), _number(table.final))
        case "exponential":
            return ExponentialDecay(rate, _number(table.steps), _number(table.factor))
        case "step":
            return Piecewise(rate, jnp.asarray(table.boundaries), jnp.asarray(table.factors))
        case "warmup":
            then = Constant(rate) if table.then is None else _schedule(table.then, learning_rate)
            return Warmup(_number(table.steps), then)
    raise AssertionError(table.kind)


_STEPPERS: dict[str, Callable[[Any, PyTree], AbstractStepper]] = {
    "gd": lambda d, _: gradient_descent(_number(d.learning_rate)),
    "gradient_flow": lambda d, _: GradientFlow(
        _number(d.learning_rate), d.order, d.solver, _number(d.rtol), _number(d.atol)
    ),
    "central_flow": lambda d, _: CentralFlow(
        _number(d.learning_rate), d.substeps, d.max_critical, _number(d.tolerance)
    ),
    "edge_flow": lambda d, _: EdgeFlow(_number(d.learning_rate), d.substeps, _number(d.amplitude)),
    "sgd": lambda d, _: minibatch_sgd(_number(d.learning_rate), d.batch_size, d.replacement),
    "gaussian_sgd": lambda d, theta: SDE(_number(d.learning_rate), _noise(d.noise, d, theta)),
    "sde": lambda d, theta: SDE(
        _number(d.learning_rate),
        _noise(d.noise, d, theta),
        d.substeps,
        order=d.order,
        solver=d.solver,
        ito_correction=d.ito_correction,
        resolution=d.resolution,
        adaptive=d.adaptive,
    ),
    "svag": lambda d, _: SVAG(_number(d.learning_rate), d.batch_size, d.l, d.replacement),
    "sgld": lambda d, _: sgld(
        _number(d.learning_rate), _number(d.inverse_temperature), d.batch_size
    ),
    "label_noise_sgd": lambda d, _: label_noise_sgd(
        _number(d.learning_rate), d.batch_size, _number(d.std), d.replacement
    ),
    "heavy_ball": lambda d, theta: heavy_ball(
        _number(d.learning_rate), _number(d.momentum), _source(d, theta)
    ),
    "nesterov": lambda d, theta: nesterov(
        _number(d.learning_rate), _number(d.momentum), _source(d, theta)
    ),
    "rmsprop": lambda d, theta: rmsprop(
        _number(d.learning_rate), _number(d.decay), _number(d.epsilon), _source(d, theta)
    ),
    "adam": lambda d, theta: adam(
        _number(d.learning_rate),
        _number(d.b1),
        _number(d.b2),
        _number(d.epsilon),
        _source(d, theta),
    ),
    "sam": lambda d, theta: sam(
        _number(d.learning_rate), _number(d.rho), _source(d, theta), d.normalised
    ),
    "underdamped_sde": lambda d, theta: UnderdampedSDE(
        _number(d.learning_rate),
        _number(d.momentum),
        _noise(d.noise, d, theta),
        d.substeps,
        d.nesterov,
        d.solver,
    ),
    "rmsprop_sde": lambda d, theta: RMSPropSDE(
        _number(d.learning_rate),
        _noise(d.noise, d, theta),
        _number(d.decay),
        _number(d.epsilon),
        d.substeps,
    ),
    "adam_sde": lambda d, theta: AdamSDE(
        _number(d.learning_rate),
        _noise(d.noise, d, theta),
        _number(d.b1),
        _number(d.b2),
        _number(d.epsilon),
        d.substeps,
    ),
}


def _number(value: float | int) -> Float[Array, ""]:
    return jnp.asarray(float(value))  # an array is traced; a Python number would be a constant
