"""Problems whose population risk, and a minimum of it, are known before any data are seen."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sgdsim.problems._landscapes import AbstractLandscape, Quadratic, Sphere
from sgdsim.problems._problem import Problem


class Estimate(NamedTuple):
    """A number and the standard error of its estimate.

    Attributes
    ----------
    value
        Scalar.
    stderr
        Scalar; zero where the value is exact.
    """

    value: Float[Array, ""]
    stderr: Float[Array, ""]


class Deviations(NamedTuple):
    r"""Distance between the derivatives of empirical and population risk, at the centre.

    Attributes
    ----------
    gradient
        :math:`\varepsilon_n = \|\nabla L_n - \nabla L\|`.
    hessian
        :math:`\omega_n = \|\nabla^2 L_n - \nabla^2 L\|`, spectral norm.
    """

    gradient: float
    hessian: float


class Curvature(NamedTuple):
    r"""Constants of the population risk that are proved on the whole space.

    Attributes
    ----------
    modulus
        :math:`\mu` with :math:`\langle\nabla L(\theta), \theta - p(\theta)\rangle \ge \mu
        d(\theta)^2` (restricted secant inequality).
    growth
        :math:`\beta` with :math:`\|\nabla L(\theta)\| \le \beta d(\theta)`.
    """

    modulus: float
    growth: float


class LossFacts(NamedTuple):
    r"""What a generalization certificate has to know of the evaluation loss and of the rows.

    Attributes
    ----------
    value_range
        :math:`B_\ell`, the loss is in :math:`[0, B_\ell]`.
    lipschitz
        :math:`\lambda`, Lipschitz constant of the loss in the output of the network.
    input_bound
        :math:`B_x \ge \|x\|` for every possible row.
    samples
        Number n of training rows.
    """

    value_range: float
    lipschitz: float
    input_bound: float
    samples: int


class KnownProblem(eqx.Module):
    r"""A problem with a known minimum of the population risk.

    The centre of a stagnation set is then fixed before the training rows are seen, as every
    certificate on such a set requires. Numbers are float64 where JAX is allowed to use it; a run
    casts what it simulates.
    """

    @property
    def training(self) -> Problem:
        r"""What SGD descends: the empirical risk :math:`L_n`."""
        raise NotImplementedError

    @property
    def population(self) -> Problem:
        r"""The population risk :math:`L` of the training loss, as the risk of a problem.

        In closed form, or the mean over fresh rows (the same ones at every ``theta``).
        """
        raise NotImplementedError

    @property
    def centre(self) -> PyTree:
        """A minimum of the population risk, shaped like ``theta``."""
        raise NotImplementedError

    @property
    def minimum_set(self) -> AbstractLandscape | None:
        """Landscape that projects on the set of population minima; ``None``: only the centre."""
        return None

    @property
    def curvature(self) -> Curvature | None:
        """Constants of the population risk on the whole space, if any are proved."""
        return None

    @property
    def loss(self) -> LossFacts | None:
        """Facts about the evaluation loss; ``None`` where it is unbounded or no network's."""
        return None

    def starts(self, trajectories: int) -> PyTree | None:
        """Give a start of its own to every trajectory, along a new leading axis.

        ``None`` where the problem has no say in it.
        """
        del trajectories
        return None

    def weights(self, theta: PyTree) -> tuple[Float[Array, "_ _"], ...] | None:
        """Weight matrices at ``theta``, first layer first; ``None`` without a network."""
        del theta
        return None

    def gap(self, theta: PyTree) -> Estimate:
        r"""Generalization gap :math:`L(\theta) - L_n(\theta)` of the evaluation loss.

        The standard error is that of the population risk; the empirical risk is exact.
        """
        raise NotImplementedError

    def deviations(self) -> Deviations:
        r"""Measure :math:`\varepsilon_n` and :math:`\omega_n` of the training loss."""
        raise NotImplementedError


class KnownLandscape(KnownProblem):
    """A landscape: the population risk itself is descended, so nothing has to generalize.

    Parameters
    ----------
    landscape
        Which one; its first known minimum is the centre.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import KnownLandscape, Quadratic
    >>> known = KnownLandscape(Quadratic([4.0, 1.0, 0.0]))
    >>> known.curvature
    Curvature(modulus=1.0, growth=4.0)
    >>> float(known.gap(jnp.ones(3)).value), known.deviations().hessian
    (0.0, 0.0)
    """

    landscape: AbstractLandscape

    @property
    def training(self) -> Problem:
        """The landscape as a problem with one row."""
        return self.landscape.problem()

    @property
    def population(self) -> Problem:
        """The same problem."""
        return self.training

    @property
    def centre(self) -> PyTree:
        """First one of the known minima."""
        return jax.tree.map(lambda minima: minima[0], self.landscape.minima)

    @property
    def minimum_set(self) -> AbstractLandscape:
        """The landscape."""
        return self.landscape

    @property
    def curvature(self) -> Curvature | None:
        """Constants of quadratics, and of the sphere everywhere but at its centre."""
        if not isinstance(self.landscape, Quadratic | Sphere):
            return None
        return Curvature(float(self.landscape.modulus), float(self.landscape.growth))

    def gap(self, theta: PyTree) -> Estimate:
        """Zero, exactly."""
        zero = jnp.zeros((), jax.tree.leaves(theta)[0].dtype)
        return Estimate(zero, zero)

    def deviations(self) -> Deviations:
        """Zero, exactly."""
        return Deviations(0.0, 0.0)
