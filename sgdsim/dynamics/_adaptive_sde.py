r"""The SDEs of RMSProp and Adam, where the gradient noise is much larger than the gradient.

They describe the algorithms as :math:`\eta\to0` with :math:`1-\beta\sim\eta^2` and a noise
:math:`\Sigma\sim1/\eta^2`, so that ``v`` averages the noise alone.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from sgdsim._checks import check_positive, check_weight_of_the_past
from sgdsim._typing import Number
from sgdsim.dynamics._brownian import check_resolution, draw_substeps
from sgdsim.dynamics._noise import AbstractGradientNoise, Clock
from sgdsim.dynamics._steppers import AbstractStepper, Iterate
from sgdsim.problems import Problem


class RMSPropSDE(AbstractStepper):
    r"""The SDE (Ito) of RMSProp; time is the number ``k`` of steps.

    .. math:: d\theta = -\frac{\eta}{\sqrt v+\epsilon}\Big(\nabla L_n\,dk + \Sigma^{1/2}dB\Big),
        \qquad dv = (1-d)\,(\mathrm{diag}\,\Sigma - v)\,dk

    Parameters
    ----------
    learning_rate
        ``eta``.
    noise
        Model of the gradient noise. Its diagonal is needed in every substep; for minibatch noise
        that is a pass over the per-sample gradients.
    decay
        ``d`` in ``[0, 1)``.
    epsilon
        Positive.
    substeps
        ``m``; Euler steps of ``1/m`` steps, in which ``v`` moves first.
    resolution
        As in :class:`SDE`.

    Notes
    -----
    The memory is ``v``. It starts at the diagonal of :math:`\Sigma(\theta_0)`: from zero, as the
    algorithm starts, the variance of :math:`\theta` would be infinite at once. Where the gradient
    is not small beside the noise, ``v`` lacks its square: a parameter that has a gradient but no
    noise moves by :math:`\eta\,\partial L_n/\epsilon`. Source: Malladi et al. 2022,
    section 4, with :math:`t=\eta^2k` and :math:`c_2=(1-d)/\eta^2`.

    Examples
    --------
    >>> from sgdsim.dynamics import MinibatchNoise, RMSPropSDE
    >>> RMSPropSDE(1e-3, MinibatchNoise(16), decay=0.99).substeps
    1
    """

    learning_rate: Number
    noise: AbstractGradientNoise
    decay: Number = 0.9
    epsilon: Number = 1e-8
    substeps: int = eqx.field(static=True, default=1)
    resolution: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        _check_numbers(self, "decay")

    def check(self, problem, theta):
        """Check the noise, and that no parameter without noise would be flung away."""
        self.noise.check(problem, theta)
        _refuse_silent_coordinates(self, problem, theta)

    def start(self, problem, theta):
        """Start with the variances of the noise."""
        return Iterate(theta, _variances(self.noise, problem, theta))

    def draw(self, key, step, problem, theta):
        """Draw the normals of every substep, each with a counter of its own."""
        points = {"substeps": self.substeps, "resolution": self.resolution}
        return draw_substeps(self.noise, key, step, problem, theta, **points)

    def step(self, problem, iterate, randomness):
        """Take one step of the algorithm."""
        numbers = _in_precision(iterate.theta, self.learning_rate, self.decay, self.epsilon)
        eta, decay, epsilon = numbers
        clock = _clock(eta, self.substeps)

        def substep(state: PyTree, normals: PyTree) -> tuple[PyTree, Any]:
            theta, v = state
            change, risk = self.noise.increment(problem, theta, normals, clock)
            v = _relax(v, _variances(self.noise, problem, theta), (1 - decay) * clock.step_size)
            theta = jax.tree.map(
                lambda a, c, s: a + eta * c / (jnp.sqrt(s) + epsilon), theta, change, v
            )
            return (theta, v), risk

        state, risk = _substeps(substep, tuple(iterate), randomness, self.substeps)
        return Iterate(*state), risk


class Moments(NamedTuple):
    """Memory of Adam's SDE: averages of gradient and variances, and the number of whole steps."""

    first: PyTree
    second: PyTree
    steps: Int[Array, ""]


class AdamSDE(AbstractStepper):
    r"""The SDE (Ito) of Adam; time is the number ``k`` of steps.

    .. math:: dm = (1-\beta_1)\Big((\nabla L_n-m)\,dk + \Sigma^{1/2}dB\Big), \quad
        dv = (1-\beta_2)(\mathrm{diag}\,\Sigma-v)\,dk, \quad
        d\theta = -\eta\,\frac{m/\gamma_1}{\sqrt{v/\gamma_2}+\epsilon}\,dk,
        \quad \gamma_i = 1-e^{-(1-\beta_i)k}

    Parameters
    ----------
    learning_rate
        ``eta``.
    noise
        Model of the gradient noise. Its diagonal is needed in every substep; for minibatch noise
        that is a pass over the per-sample gradients.
    b1, b2
        In ``[0, 1)``.
    epsilon
        Positive.
    substeps
        ``m``; Euler steps of ``1/m`` steps, in which ``m`` and ``v`` move first.
    resolution
        As in :class:`SDE`.

    Notes
    -----
    Where the gradient is not small beside the noise, ``v`` lacks its square: a parameter that has
    a gradient but no noise moves by :math:`\eta\,\partial L_n/\epsilon`. The algorithm stays
    within ``O(eta^2)`` of the equation once it has warmed up; its first steps divide by the root
    of but a few squares. Source: Malladi et al. 2022, section 4, with :math:`t=\eta^2k` and
    :math:`c_i=(1-\beta_i)/\eta^2`.

    Examples
    --------
    >>> from sgdsim.dynamics import AdamSDE, MinibatchNoise
    >>> AdamSDE(1e-3, MinibatchNoise(16), b2=0.99, substeps=2).b1
    0.9
    """

    learning_rate: Number
    noise: AbstractGradientNoise
    b1: Number = 0.9
    b2: Number = 0.999
    epsilon: Number = 1e-8
    substeps: int = eqx.field(static=True, default=1)
    resolution: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        _check_numbers(self, "b1", "b2")

    def check(self, problem, theta):
        """Check the noise, and that no parameter without noise would be flung away."""
        self.noise.check(problem, theta)
        _refuse_silent_coordinates(self, problem, theta)

    def start(self, problem, theta):
        """Start with averages of zero, like the algorithm."""
        zeros = jax.tree.map(jnp.zeros_like, theta)
        return Iterate(theta, Moments(zeros, zeros, jnp.zeros((), jnp.int32)))

    def draw(self, key, step, problem, theta):
        """Draw the normals of every substep, each with a counter of its own."""
        points = {"substeps": self.substeps, "resolution": self.resolution}
        return draw_substeps(self.noise, key, step, problem, theta, **points)

    def step(self, problem, iterate, randomness):
        """Take one step of the algorithm."""
        numbers = _in_precision(iterate.theta, self.learning_rate, self.b1, self.b2, self.epsilon)
        eta, b1, b2, epsilon = numbers
        clock = _clock(eta, self.substeps)
        h = clock.step_size

        def substep(state: PyTree, draw: PyTree) -> tuple[PyTree, Any]:
            theta, m, v, part = state
            change, risk = self.noise.increment(problem, theta, draw, clock)
            m = jax.tree.map(lambda a, c: a - (1 - b1) * (h * a + c), m, change)
            v = _relax(v, _variances(self.noise, problem, theta), (1 - b2) * h)
            # At the end of the substep, so that the ratios are finite in the first one.
            time = iterate.memory.steps + (part + 1) * h
            bias1, bias2 = -jnp.expm1(-(1 - b1) * time), -jnp.expm1(-(1 - b2) * time)
            theta = jax.tree.map(
                lambda a, m, v: a - eta * h * (m / bias1) / (jnp.sqrt(v / bias2) + epsilon),
                theta,
                m,
                v,
            )
            return (theta, m, v, part + 1), risk

        m, v, steps = iterate.memory
        state = (iterate.theta, m, v, jnp.zeros((), h.dtype))
        state, risk = _substeps(substep, state, randomness, self.substeps)
        theta, m, v, _ = state
        return Iterate(theta, Moments(m, v, steps + 1)), risk


def _variances(noise: AbstractGradientNoise, problem: Problem, theta: PyTree) -> PyTree:
    """Diagonal of the covariance; rounding may leave a coordinate without noise below zero."""
    return jax.tree.map(lambda a: jnp.maximum(a, 0), noise.diagonal(problem, theta))


def _relax(v: PyTree, target: PyTree, rate: Float[Array, ""]) -> PyTree:
    return jax.tree.map(lambda a, b: a + rate * (b - a), v, target)


def _substeps(substep: Any, state: PyTree, randomness: PyTree, count: int) -> tuple[PyTree, Any]:
    """Run the substeps; the risk is that before the first."""
    if count == 1:
        return substep(state, randomness)
    state, risks = jax.lax.scan(substep, state, randomness)
    return state, risks[0]


def _in_precision(theta: PyTree, *numbers: Number) -> list[Float[Array, ""]]:
    dtype = jax.tree.leaves(theta)[0].dtype
    return [jnp.asarray(number, dtype) for number in numbers]


def _clock(eta: Float[Array, ""], substeps: int) -> Clock:
    """Time in steps of the algorithm, which is the unit of its gradient noise."""
    return Clock(jnp.ones_like(eta) / substeps, jnp.ones_like(eta), eta)


def _refuse_silent_coordinates(stepper: Any, problem: Problem, theta: PyTree) -> None:
    """Refuse steps longer than one where there is a gradient but no noise for ``v`` to average."""

    def count(noise: AbstractGradientNoise, problem: Problem, eta: Any, epsilon: Any) -> Array:
        def of_leaf(gradient: Array, variance: Array) -> Array:
            size, spread = jnp.abs(gradient), jnp.sqrt(variance)
            # Equal gradients of all rows differ by rounding alone.
            silent = spread <= 16 * jnp.finfo(gradient.dtype).eps * size
            far = jnp.asarray(eta, size.dtype) * size > jnp.asarray(epsilon, size.dtype)
            return jnp.sum(silent & far & (size > 0))

        gradient = jax.grad(problem.empirical_risk)(theta)
        counts = jax.tree.map(of_leaf, gradient, _variances(noise, problem, theta))
        return jnp.sum(jnp.stack(jax.tree.leaves(counts)))

    silent = int(
        eqx.filter_jit(count)(stepper.noise, problem, stepper.learning_rate, stepper.epsilon)
    )
    if silent:
        raise ValueError(
            f"{type(stepper).__name__} is refused: {silent} parameters have a gradient but no "
            "gradient noise, as under a ridge where an input is always zero; v averages the noise "
            "alone, so that each would move by eta |gradient| / epsilon, more than 1, in a step. "
            "Take the penalty off them (ridge = 0), a larger epsilon, or the algorithm itself, a "
            "Descent with an adaptive rule."
        )


def _check_numbers(stepper: Any, *fractions: str) -> None:
    for name in ("learning_rate", "epsilon"):
        check_positive(name, getattr(stepper, name))
    check_resolution(stepper.substeps, stepper.resolution)
    for name in fractions:
        check_weight_of_the_past(name, getattr(stepper, name))
    model = stepper.noise
    if not model.brownian:
        raise ValueError(
            f"{type(model).__name__} is refused in {type(stepper).__name__}: it is not Gaussian, "
            "so that there is no limit driven by Brownian motion; take the algorithm itself, a "
            "Descent with an adaptive rule."
        )
