r"""Heavy-tailed gradient noise: a Gaussian model times one random number per step.

Vectors of this kind are elliptically contoured. They have no continuous-time limit driven by
Brownian motion, so an increment of theirs is meant for steps of the length of the learning rate.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sgdsim._checks import known_number
from sgdsim._typing import Number
from sgdsim.dynamics._noise import AbstractGradientNoise

# A stream of its own within a step: models number theirs from zero.
_STREAM = 0x7A115


class AbstractHeavyTailedNoise(AbstractGradientNoise):
    """Noise ``m`` times that of a Gaussian model, ``m`` drawn once per step."""

    base: eqx.AbstractVar[AbstractGradientNoise]
    brownian: ClassVar[bool] = False

    def _multiplier(self, key: Key[Array, ""], dtype) -> Float[Array, ""]:
        raise NotImplementedError

    def _check_base(self):
        if not self.base.brownian:
            raise ValueError(
                f"{type(self).__name__} makes a Gaussian model heavy-tailed, but "
                f"{type(self.base).__name__} already is; give a Gaussian one."
            )

    def check(self, problem, theta):
        """Check the Gaussian model."""
        self.base.check(problem, theta)

    @property
    def additive(self):
        """Whether the law is the same everywhere, as that of the Gaussian model."""
        return self.base.additive

    def draw(self, key, counter, problem, theta):
        """Draw the normals of the Gaussian model and multiply them all by one number."""
        normals = self.base.draw(key, counter, problem, theta)
        key = jax.random.fold_in(jax.random.fold_in(key, counter), _STREAM)
        multiplier = self._multiplier(key, jax.tree.leaves(theta)[0].dtype)
        return jax.tree.map(lambda normal: multiplier * normal, normals)

    def root(self, problem, theta, normals):
        """Root of the Gaussian model."""
        return self.base.root(problem, theta, normals)

    def increment(self, problem, theta, normals, clock):
        """Increment of the Gaussian model, fused where that is."""
        return self.base.increment(problem, theta, normals, clock)

    def diffusion(self, problem, theta, normals, clock):
        """Noise of an increment of the Gaussian model."""
        return self.base.diffusion(problem, theta, normals, clock)

    def gradient(self, problem, theta, normals):
        """Noisy gradient of the Gaussian model, fused where that is."""
        return self.base.gradient(problem, theta, normals)

    def ito_correction(self, problem, theta, learning_rate):
        """There is none."""
        raise NotImplementedError(
            f"{type(self).__name__} has no continuous-time limit driven by Brownian motion, hence "
            "no Ito correction."
        )


class StudentNoise(AbstractHeavyTailedNoise):
    r"""Multivariate Student noise with the covariance of a Gaussian model.

    .. math:: \sqrt{\frac{\nu-2}{\chi^2_\nu}}\;\Sigma(\theta)^{1/2}\xi

    Parameters
    ----------
    base
        Gaussian model with the covariance :math:`\Sigma`, which the product keeps.
    degrees
        Degrees of freedom :math:`\nu > 2`; moments of order :math:`\nu` and above do not exist.

    Raises
    ------
    ValueError
        For other degrees, and for a model that is not Gaussian.

    Notes
    -----
    Along any direction the noise is a Student variable, rescaled by
    :math:`\sqrt{(\nu-2)/\nu}` to keep its variance. Source: Kotz & Nadarajah 2004, section 1.2.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import IsotropicNoise, Problem
    >>> from sgdsim.dynamics import StudentNoise
    >>> problem = Problem(lambda theta, z: jnp.sum(theta**2) - z, jnp.zeros(3))
    >>> float(StudentNoise(IsotropicNoise(0.5), degrees=3.0).trace(problem, jnp.zeros(4)))
    2.0
    """

    base: AbstractGradientNoise
    degrees: Number

    def __check_init__(self):
        self._check_base()
        degrees = known_number(self.degrees)
        if degrees is not None and not (math.isfinite(degrees) and degrees > 2):
            raise ValueError(
                f"degrees must be a finite number above 2, got {self.degrees!r}: with fewer "
                "degrees of freedom the noise has no covariance; take StableNoise for that."
            )

    def covariance(self, problem, theta):
        """Covariance of the Gaussian model."""
        return self.base.covariance(problem, theta)

    def trace(self, problem, theta):
        """Trace of the Gaussian model."""
        return self.base.trace(problem, theta)

    def diagonal(self, problem, theta):
        """Variances of the Gaussian model."""
        return self.base.diagonal(problem, theta)

    def _multiplier(self, key, dtype):
        degrees = jnp.asarray(self.degrees, dtype)
        return jnp.sqrt((degrees / 2 - 1) / jax.random.gamma(key, degrees / 2, dtype=dtype))


class StableNoise(AbstractHeavyTailedNoise):
    r"""Symmetric alpha-stable noise, :math:`\sqrt A\;\Sigma(\theta)^{1/2}\xi` (sub-Gaussian).

    The random number ``A > 0`` is stable of index :math:`\alpha/2`,
    :math:`E e^{-sA} = e^{-s^{\alpha/2}}`, so that the noise ``x`` has the characteristic function

    .. math:: E e^{iu^\top x} = \exp\Big(-\big(\tfrac12 u^\top\Sigma u\big)^{\alpha/2}\Big),

    which for :math:`\alpha\to2` is that of the Gaussian model. Its variance is infinite.

    Parameters
    ----------
    base
        Gaussian model; its covariance :math:`\Sigma` becomes the *scale* matrix: along ``u`` the
        noise is symmetric stable with the scale :math:`\sqrt{u^\top\Sigma u/2}`.
    alpha
        Index :math:`1 < \alpha < 2`; moments of order :math:`\alpha` and above do not exist.

    Raises
    ------
    ValueError
        For another index, for a model that is not Gaussian, and when asked for a covariance.

    Notes
    -----
    ``A`` is drawn from one uniform and one exponential number. In float32 the uniform numbers
    have a resolution of :math:`2^{-23}`, which bounds how far out the tail is resolved.

    Source: Samorodnitsky & Taqqu 1994, proposition 2.5.2 (law); Kanter 1975, and Chambers,
    Mallows & Stuck 1976 (sampler); Simsekli, Sagun & Gurbuzbalaban 2019 (SGD).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim import IsotropicNoise, Problem
    >>> from sgdsim.dynamics import StableNoise
    >>> problem = Problem(lambda theta, z: jnp.sum(theta**2) - z, jnp.zeros(3))
    >>> float(StableNoise(IsotropicNoise(0.5), alpha=1.5).trace(problem, jnp.zeros(4)))
    inf
    """

    base: AbstractGradientNoise
    alpha: Number

    def __check_init__(self):
        self._check_base()
        alpha = known_number(self.alpha)
        if alpha is not None and not 1 < alpha < 2:
            raise ValueError(
                f"alpha must lie strictly between 1 and 2, got {self.alpha!r}: at 2 the noise is "
                "the Gaussian model itself, at 1 and below it has no mean and is no noise of a "
                "gradient."
            )

    def covariance(self, problem, theta):
        """Refuse: there is none."""
        raise ValueError(
            "alpha-stable noise has no covariance, its variances are infinite; the scale matrix is "
            "the covariance of the Gaussian model, noise.base.covariance."
        )

    def trace(self, problem, theta):
        """Infinite wherever there is noise."""
        return _infinite(self.base.trace(problem, theta))

    def diagonal(self, problem, theta):
        """Infinite wherever there is noise."""
        return jax.tree.map(_infinite, self.base.diagonal(problem, theta))

    def _multiplier(self, key, dtype):
        index = jnp.asarray(self.alpha, dtype) / 2
        # Half a grid step above zero, where the logarithms end.
        lowest = jnp.finfo(dtype).eps / 2
        uniform, other = jax.random.uniform(key, (2,), dtype, minval=lowest)
        exponential = -jnp.log1p(-other)
        angle = jnp.pi * uniform
        # 1 - u is exact, where the sine of an angle near pi would not be.
        sine = jnp.sin(jnp.pi * jnp.minimum(uniform, 1 - uniform))
        # Logarithms, since the factors of Kanter's product may overflow.
        first = jnp.log(jnp.sin(index * angle)) - jnp.log(sine) / index
        second = jnp.log(jnp.sin((1 - index) * angle)) - jnp.log(exponential)
        return jnp.exp(0.5 * (first + (1 - index) / index * second))


def _infinite(variance: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(variance > 0, jnp.inf, jnp.zeros_like(variance))
