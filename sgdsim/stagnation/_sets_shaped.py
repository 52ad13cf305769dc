"""Stagnation sets shaped by the noise, by the risk or by the function."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.ensemble import AbstractRegion
from sgdsim.problems import Problem
from sgdsim.stagnation._sets import check_orthonormal, offset


class Ellipsoid(AbstractRegion):
    r"""Ellipsoid with a few axes of its own and one scale for all other directions.

    .. math:: \sum_i \frac{(v_i^\top u)^2}{s_i^2} + \frac{\|u_\perp\|^2}{s_\perp^2} \le R^2,
        \qquad u = \theta - \theta^*, \quad u_\perp = u - \sum_i (v_i^\top u) v_i

    Parameters
    ----------
    centre
        :math:`\theta^*`.
    axes
        Orthonormal rows :math:`v_i` in the flattened parameters, shape (r, p).
    scales
        :math:`s_i > 0`, standard deviations along the axes, shape (r,); inf for a free axis.
    rest_scale
        :math:`s_\perp > 0`; without it the remaining directions are free and the set is a
        cylinder.
    radius
        R > 0, in standard deviations.

    Raises
    ------
    ValueError
        The axes are not orthonormal, or a scale or the radius is not positive.

    Notes
    -----
    The distance is that of Mahalanobis. A normal law with these standard deviations in all p
    directions is inside with the probability that a chi-square variable with p degrees of freedom
    is at most :math:`R^2`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.stagnation import Ellipsoid
    >>> flat = Ellipsoid(
    ...     centre=jnp.zeros(2),
    ...     axes=jnp.array([[1.0, 0.0]]),
    ...     scales=jnp.array([4.0]),
    ...     rest_scale=0.5,
    ... )
    >>> float(flat.squared_distance(jnp.array([2.0, 1.0])))
    4.25
    """

    centre: PyTree
    axes: Float[Array, "axis p"]
    scales: Float[Array, " axis"]
    rest_scale: Number | None = None
    radius: Number = 1.0

    def __check_init__(self):
        check_positive("radius", self.radius)
        check_orthonormal("axes", self.axes)
        scales = [self.scales, *([] if self.rest_scale is None else [self.rest_scale])]
        for given in scales:
            if not isinstance(given, jax.core.Tracer) and not np.all(np.asarray(given) > 0):
                raise ValueError(
                    f"scales must be positive, got {np.asarray(given).tolist()}: without extent in "
                    "some direction the set has no interior."
                )

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Squared Mahalanobis distance from the centre."""
        u = ravel_pytree(offset(theta, self.centre))[0]
        axes = jnp.asarray(self.axes, u.dtype)
        along = axes @ u
        total = jnp.sum(jnp.square(along / jnp.asarray(self.scales, u.dtype)))
        if self.rest_scale is None:
            return total
        rest = (u - along @ axes) / jnp.asarray(self.rest_scale, u.dtype)
        return total + jnp.sum(jnp.square(rest))


def ellipsoid_of_stationary_covariance(
    centre: PyTree,
    axes: Float[Array, "axis p"],
    curvatures: Float[Array, " axis"],
    noise_variances: Float[Array, " axis"],
    learning_rate: Number,
    *,
    radius: Number,
    rest: tuple[float, float] | None = None,
) -> Ellipsoid:
    r"""Ellipsoid in the shape of the stationary law of SGD near a quadratic minimum.

    .. math:: u' = (1 - \eta h_i) u + \eta \xi_i, \qquad
        s_i^2 = \frac{\eta\, \mathrm{Var}\,\xi_i}{h_i (2 - \eta h_i)}

    The law of the discrete steps, exact for every stable learning rate; the continuous-time law
    lacks the factor :math:`1/(1 - \eta h_i/2)`.

    Parameters
    ----------
    centre
        The minimum.
    axes
        Eigenvectors of the Hessian as orthonormal rows, along which the noise is uncorrelated,
        shape (r, p).
    curvatures
        Their eigenvalues :math:`h_i > 0`, shape (r,).
    noise_variances
        Variances of the gradient noise along them, of a whole minibatch (so divided by its size),
        shape (r,).
    learning_rate
        :math:`\eta`.
    radius
        In standard deviations. The stationary law of all p directions is inside with probability
        1 - a for the root of the (1 - a)-quantile of the chi-square law with p degrees of freedom.
    rest
        Curvature and noise variance common to all other directions; they are free without it.

    Returns
    -------
    Ellipsoid

    Raises
    ------
    ValueError
        A curvature or a noise variance is not positive, or :math:`\eta h \ge 2`: there is no
        stationary law then.

    Notes
    -----
    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 9.1.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.stagnation import ellipsoid_of_stationary_covariance
    >>> shape = ellipsoid_of_stationary_covariance(
    ...     jnp.zeros(2), jnp.eye(2), jnp.array([1.0, 4.0]), jnp.array([1.5, 1.5]), 0.25, radius=3.0
    ... )
    >>> [round(float(s), 4) for s in shape.scales]
    [0.4629, 0.3062]
    """
    scales = _stationary_deviation(curvatures, noise_variances, learning_rate)
    rest_scale = None if rest is None else _stationary_deviation(*rest, learning_rate)
    return Ellipsoid(centre=centre, axes=axes, scales=scales, rest_scale=rest_scale, radius=radius)


def _stationary_deviation(
    curvature: ArrayLike, variance: ArrayLike, learning_rate: ArrayLike
) -> Array:
    h, v, eta = (jnp.asarray(number) for number in (curvature, variance, learning_rate))
    if not any(isinstance(number, jax.core.Tracer) for number in (h, v, eta)):
        if not (np.all(h > 0) and np.all(v > 0) and eta > 0):
            raise ValueError(
                "learning rate, curvatures and noise variances must be positive, got "
                f"{eta.tolist()}, {h.tolist()} and {v.tolist()}: other directions have no "
                "stationary spread; leave them out of the axes."
            )
        if not np.all(eta * h < 2):
            raise ValueError(
                f"learning rate times curvature must be below 2, got {(eta * h).tolist()}: the "
                "steps diverge and have no stationary law; lower the learning rate."
            )
    return jnp.sqrt(eta * v / (h * (2 - eta * h)))


class Sublevel(AbstractRegion):
    r"""Sublevel set :math:`\{\theta: L(\theta) - L^* \le h\}` of a risk.

    The squared distance is :math:`\max(L(\theta) - L^*, 0)` and the radius :math:`\sqrt h`, so
    that distances are roots of risk.

    Parameters
    ----------
    problem
        The risk L: the problem itself, or the same on other rows for a population risk.
    minimum_risk
        :math:`L^*`.
    height
        h > 0, in units of risk.

    Notes
    -----
    Costs one more forward pass over the rows at every step. All components of the sublevel set
    count as inside, also at other minima. In float32 a height below about 1e-6 of the risk drowns
    in rounding.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import Quadratic
    >>> from sgdsim.stagnation import Sublevel
    >>> low = Sublevel(Quadratic([2.0]).problem(), minimum_risk=0.0, height=0.25)
    >>> float(low.squared_distance(jnp.array([3.0]))), float(low.radius)
    (9.0, 0.5)
    """

    problem: Problem
    minimum_risk: Number
    height: Number

    def __init__(self, problem: Problem, minimum_risk: Number, height: Number):
        check_positive("height", height)
        self.problem, self.minimum_risk, self.height = problem, minimum_risk, height

    @property
    def radius(self) -> Number:
        """Root of the height."""
        return jnp.sqrt(jnp.asarray(self.height, float))

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Risk above the minimum, zero below it."""
        risk = self.problem.empirical_risk(theta)
        above = jnp.maximum(risk - jnp.asarray(self.minimum_risk, risk.dtype), 0)
        # A risk that falls for ever, or has a limit far out, would hide a divergence.
        return jnp.where(jnp.isfinite(risk) & _all_finite(theta), above, jnp.nan)


class FunctionBall(AbstractRegion):
    r"""Ball in function space, in the root mean square of the outputs over given rows.

    .. math:: d(\theta)^2 = \frac1n \sum_{i=1}^n \|f_\theta(x_i) - f_{\theta^*}(x_i)\|^2
        \le \delta^2

    Parameters
    ----------
    outputs
        ``outputs(theta, rows) -> (n, k)``.
    rows
        The rows :math:`x_i`, as ``outputs`` takes them; fresh rows estimate the distance in
        :math:`L^2(P_X)`.
    reference
        Outputs of the minimum on them, ``outputs(minimum, rows)``, shape (n, k).
    radius
        :math:`\delta > 0`, in units of the outputs.

    Notes
    -----
    Parameters with the same function (rescaled, permuted or sign-flipped units) have distance
    zero: every symmetry is quotiented out. Costs one more forward pass at every step. This is
    variant V5 of a stagnation set.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.stagnation import FunctionBall
    >>> def product(theta, x):
    ...     return theta[0] * theta[1] * x
    >>> x = jnp.array([[1.0], [-1.0]])
    >>> ball = FunctionBall(product, x, product(jnp.array([1.0, 2.0]), x), radius=0.5)
    >>> [float(ball.squared_distance(jnp.array(t))) for t in ([-4.0, -0.5], [1.0, 1.0])]
    [0.0, 1.0]
    """

    outputs: Callable[[PyTree, PyTree], Array] = eqx.field(static=True)
    rows: PyTree
    reference: Float[Array, "n k"]
    radius: Number

    def __check_init__(self):
        check_positive("radius", self.radius)

    def squared_distance(self, theta: PyTree) -> Float[Array, ""]:
        """Mean over the rows of the squared difference of the outputs."""
        outputs = self.outputs(theta, self.rows)
        difference = outputs - jnp.asarray(self.reference, outputs.dtype)
        square = jnp.mean(jnp.sum(jnp.square(difference), axis=-1))
        # Saturated units turn infinite weights into finite outputs.
        return jnp.where(_all_finite(theta), square, jnp.nan)


def _all_finite(theta: PyTree) -> Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(theta)]))
