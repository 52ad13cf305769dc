r"""Freidlin-Wentzell quasi-potential of SGD near a minimum: the exponent of the exit time.

Ito, :math:`du = -Hu\,dt + \sqrt{\eta}\,\Sigma^{1/2}dW` in units of
:math:`t = \eta \cdot \text{steps}`, or the chain :math:`u' = u - \eta Hu + \eta\Sigma^{1/2}g`. For
small noise the mean exit time grows like :math:`e^{\min_{\partial U} V/\eta}`.
"""

import dataclasses
import math
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float
from scipy import linalg

from sgdsim._checks import check_positive

#: Directions with a smaller share of the spread than this are never visited.
_NO_NOISE = 1e-13


@dataclasses.dataclass(frozen=True)
class QuasiPotential:
    r"""Quadratic quasi-potential of linearised dynamics, made by `quasi_potential`.

    .. math:: V(u) = \tfrac12 u^\top \tilde S^{-1} u

    Called with displacements u from the minimum, shape (..., d), it gives V(u), shape (...); inf
    in directions that the noise never reaches.

    Parameters
    ----------
    spread
        :math:`\tilde S`, the stationary covariance over :math:`\eta`, shape (d, d).
    """

    spread: Float[np.ndarray, "d d"]

    def __call__(self, displacement: Float[np.ndarray, "*batch d"]) -> Float[np.ndarray, "*batch"]:
        """Value at displacements from the minimum."""
        values, vectors = np.linalg.eigh(self.spread)
        along = np.asarray(displacement, float) @ vectors
        reached = values > _NO_NOISE * values[-1]
        value = (along[..., reached] ** 2 / values[reached]).sum(axis=-1) / 2
        # Rounding of the rotation is no displacement.
        size = np.linalg.norm(along, axis=-1, keepdims=True)
        away = np.any(np.abs(along[..., ~reached]) > 1e-10 * size, axis=-1)
        return np.where(away, np.inf, value)

    def exit_cost(
        self, radius: SupportsFloat, shape: Float[np.ndarray, "d d"] | None = None
    ) -> float:
        r"""Smallest value on a sphere or an ellipsoid, :math:`\eta \log E\tau` for small noise.

        .. math:: \min_{u^\top Qu = \delta^2} V(u)
                  = \frac{\delta^2}{2\lambda_{\max}(Q^{1/2}\tilde SQ^{1/2})}

        Parameters
        ----------
        radius
            :math:`\delta > 0`.
        shape
            Q of the ellipsoid :math:`u^\top Qu \le \delta^2`, positive definite, shape (d, d); the
            ball where it is missing.

        Returns
        -------
        float
            The cost. Over :math:`\eta` it is the exponent of the exit time.

        Raises
        ------
        ValueError
            The radius is not positive, or the shape not positive definite.
        """
        check_positive("radius", float(radius))
        widest, _ = self._widest(shape)
        return float(radius) ** 2 / (2 * widest)

    def exit_direction(
        self, shape: Float[np.ndarray, "d d"] | None = None
    ) -> Float[np.ndarray, " d"]:
        """Find the direction in which the ball or ellipsoid is left.

        Parameters
        ----------
        shape
            As in `exit_cost`.

        Returns
        -------
        numpy.ndarray
            Unit vector up to its sign, shape (d,); one of many where the largest eigenvalue is
            degenerate.
        """
        _, direction = self._widest(shape)
        return direction / np.linalg.norm(direction)

    def half_space_cost(self, normal: Float[np.ndarray, " d"], distance: SupportsFloat) -> float:
        r"""Smallest value on a plane, :math:`\min_{n \cdot u = a} V = a^2/(2n^\top\tilde Sn)`.

        Parameters
        ----------
        normal
            n, shape (d,), of any length.
        distance
            a > 0, in units of that length.

        Returns
        -------
        float
            The cost, inf where the noise never moves along the normal.
        """
        check_positive("distance", float(distance))
        spread = float(normal @ self.spread @ normal)
        scale = float(np.trace(self.spread)) * float(normal @ normal)
        return math.inf if spread <= _NO_NOISE * scale else float(distance) ** 2 / (2 * spread)

    def _widest(self, shape: np.ndarray | None) -> tuple[float, np.ndarray]:
        if shape is None:
            values, vectors = np.linalg.eigh(self.spread)
            return float(values[-1]), vectors[:, -1]
        axes, rotation = np.linalg.eigh(_symmetric("shape", shape))
        if axes[0] <= 0:
            raise ValueError(
                f"shape must be positive definite, its smallest eigenvalue is {axes[0]:.3g}: the "
                "set is no ellipsoid; use half_space_cost for a flat one."
            )
        root, inverse = ((rotation * axes**power) @ rotation.T for power in (0.5, -0.5))
        values, vectors = np.linalg.eigh(root @ self.spread @ root)
        return float(values[-1]), inverse @ vectors[:, -1]


def quasi_potential(
    hessian: Float[np.ndarray, "d d"],
    covariance: Float[np.ndarray, "d d"],
    learning_rate: SupportsFloat | None = None,
) -> QuasiPotential:
    r"""Quasi-potential of SGD near a minimum, for the Ito equation or for the chain itself.

    .. math:: H\tilde S + \tilde SH = \Sigma, \qquad\text{or with a step}\quad
              \tilde S = (I - \eta H)\tilde S(I - \eta H) + \eta\Sigma

    Parameters
    ----------
    hessian
        H, symmetric and positive definite, shape (d, d).
    covariance
        :math:`\Sigma` of the gradient noise of one step, symmetric and positive semi-definite,
        shape (d, d).
    learning_rate
        :math:`\eta > 0` of the chain, with :math:`\eta\lambda_{\max}(H) < 2`; the limit of small
        steps where it is missing.

    Returns
    -------
    QuasiPotential
        V, with noise of strength :math:`\epsilon = \eta`: :math:`\eta \log E\tau` tends to the
        smallest V on the boundary.

    Raises
    ------
    ValueError
        The matrices are not of one shape, not symmetric, the point is no minimum or the chain
        unstable, or there is no noise.

    Notes
    -----
    For isotropic noise sI and one curvature h it is :math:`h|u|^2/s`, and
    :math:`h(1 - \eta h/2)|u|^2/s` with a step. The stationary law is Gaussian with covariance
    :math:`\eta\tilde S`, whether or not H and :math:`\Sigma` commute. With a step the exponent is
    exact for the chain as :math:`\Sigma \to 0` at fixed :math:`\eta`.
    Source: Freidlin & Wentzell (1984); for SGD Hu, Li, Li & Liu (2019); step, this project.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import quasi_potential
    >>> potential = quasi_potential(np.diag([2.0, 5.0]), 0.1 * np.eye(2))
    >>> round(potential.exit_cost(radius=0.5), 6), potential.exit_direction().round(6).tolist()
    (5.0, [1.0, 0.0])
    """
    curvature, noise = _symmetric("hessian", hessian), _symmetric("covariance", covariance)
    if curvature.shape != noise.shape:
        raise ValueError(
            f"hessian and covariance must have one shape, got {curvature.shape} and {noise.shape}."
        )
    values, strengths = np.linalg.eigvalsh(curvature), np.linalg.eigvalsh(noise)
    if values[0] <= 0:
        raise ValueError(
            f"hessian must be positive definite, its smallest eigenvalue is {values[0]:.3g}: a "
            "saddle or a valley has no quasi-potential of this kind; project on the normal space."
        )
    if not strengths[-1] > 0 or strengths[0] < -1e-10 * strengths[-1]:
        raise ValueError(
            "covariance must be positive semi-definite and not zero, its eigenvalues reach from "
            f"{strengths[0]:.3g} to {strengths[-1]:.3g}."
        )
    if learning_rate is None:
        spread = linalg.solve_continuous_lyapunov(curvature, noise)
    else:
        eta = float(learning_rate)
        check_positive("learning_rate", eta)
        if eta * values[-1] >= 2:
            raise ValueError(
                f"learning_rate must be below 2/{values[-1]:.3g}, got {eta:g}: the chain is "
                "unstable; take a smaller step."
            )
        spread = linalg.solve_discrete_lyapunov(np.eye(len(noise)) - eta * curvature, eta * noise)
    return QuasiPotential((spread + spread.T) / 2)


def gradient_quasi_potential(barrier: SupportsFloat, noise_variance: SupportsFloat) -> float:
    r"""Quasi-potential of a saddle for isotropic noise, :math:`2\Delta L/s`.

    Parameters
    ----------
    barrier
        :math:`\Delta L > 0`, risk at the saddle minus risk at the minimum.
    noise_variance
        s > 0, variance of the gradient noise per coordinate.

    Returns
    -------
    float
        V; over :math:`\eta` it is the exponent of the escape time, :math:`\Delta L/D` with
        :math:`D = \eta s/2`.

    Notes
    -----
    For :math:`dx = -\nabla L\,dt + \sqrt{\eta s}\,dW` (Ito), any landscape, small steps.
    Source: Freidlin & Wentzell (1984).

    Examples
    --------
    >>> from sgdsim.stagnation import gradient_quasi_potential
    >>> gradient_quasi_potential(0.25, 0.5)
    1.0
    """
    check_positive("barrier", float(barrier))
    check_positive("noise_variance", float(noise_variance))
    return 2 * float(barrier) / float(noise_variance)


def _symmetric(name: str, matrix: np.ndarray) -> np.ndarray:
    value = np.asarray(matrix, float)
    if not np.allclose(value, value.T, rtol=1e-8, atol=1e-12 * np.abs(value).max()):
        raise ValueError(f"{name} must be symmetric and finite.")
    return (value + value.T) / 2
