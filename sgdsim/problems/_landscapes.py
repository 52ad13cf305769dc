"""Analytic landscapes: risks whose minima, minimum sets and projections are known exactly."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, PyTree

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.problems._problem import OutputLoss, Problem, squared_norm


def floating(values: Any) -> Array:
    """Array of floating-point numbers; what is floating already keeps its precision."""
    array = jnp.asarray(values)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


class AbstractLandscape(eqx.Module):
    """A risk in closed form with a known set of minima.

    Numbers of a landscape are traced: one compiled program serves every value. They are
    converted to the precision of ``theta``.
    """

    def risk(self, theta: PyTree) -> Float[Array, ""]:
        """Risk at ``theta``."""
        raise NotImplementedError

    @property
    def minima(self) -> PyTree:
        """Known minima, shaped like ``theta`` with a leading axis over them.

        All of them where they are finitely many and isolated; one representative otherwise.
        """
        raise NotImplementedError

    def project(self, theta: PyTree) -> PyTree:
        """Nearest point of the set of minima; one of them where several are equally near."""
        raise NotImplementedError

    def distance(self, theta: PyTree) -> Float[Array, ""]:
        r"""Euclidean distance to the set of minima, :math:`d(\theta) = \|\theta - p(\theta)\|`.

        Its derivative is that of the distance function, the unit vector pointing away from the
        set (zero on the set).
        """
        # By the envelope theorem the nearest point may be held fixed in the derivative, which
        # spares differentiating the search for it.
        nearest = jax.lax.stop_gradient(self.project(theta))
        return norm(jax.tree.map(lambda a, b: a - b, theta, nearest))

    def problem(self) -> Problem:
        """Give the landscape as a problem with one row, whose loss is the risk."""
        row = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], self)
        return Problem(_landscape_losses, row)


def _landscape_losses(theta: PyTree, rows: AbstractLandscape) -> Float[Array, " n"]:
    return jax.vmap(lambda landscape: landscape.risk(theta))(rows)


class Quadratic(AbstractLandscape):
    r"""Quadratic bowl, possibly with flat directions.

    .. math:: L(\theta) = \tfrac12 \sum_i h_i v_i^2, \qquad v = Q^\top\theta

    The minima are the null space of the Hessian :math:`Q\,\mathrm{diag}(h)\,Q^\top`.

    Parameters
    ----------
    eigenvalues
        :math:`h \ge 0`, shape (d,); zeros are flat directions.
    rotation
        Orthogonal Q with the eigenvectors as columns, shape (d, d); the identity if left out.

    Raises
    ------
    ValueError
        An eigenvalue is negative or all are zero.

    Notes
    -----
    Source: theory after Imaizumi & Schmidt-Hieber (explicit constants, this project), section 12.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import Quadratic
    >>> valley = Quadratic([4.0, 1.0, 0.0])
    >>> theta = jnp.array([1.0, 2.0, 3.0])
    >>> float(valley.risk(theta)), valley.project(theta).tolist()
    (4.0, [0.0, 0.0, 3.0])
    >>> float(valley.problem().empirical_risk(theta))
    4.0
    """

    eigenvalues: Float[Array, " d"] = eqx.field(converter=floating)
    rotation: Float[Array, "d d"] | None = None

    def __check_init__(self):
        h = self.eigenvalues
        if not isinstance(h, Tracer) and (jnp.any(h < 0) or not jnp.any(h > 0)):
            raise ValueError(
                f"eigenvalues must not be negative nor all zero, got {h.tolist()}: otherwise "
                "there is no minimum or no risk; DoubleWell has a saddle."
            )

    def risk(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (d,)."""
        return 0.5 * jnp.sum(like(self.eigenvalues, theta) * jnp.square(self._coordinates(theta)))

    @property
    def minima(self) -> Float[Array, "1 d"]:
        """The origin, shape (1, d)."""
        return jnp.zeros_like(self.eigenvalues)[None]

    def project(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        """Part of ``theta`` in the null space, shape (d,)."""
        flat = jnp.where(self.eigenvalues > 0, 0.0, self._coordinates(theta))
        return flat if self.rotation is None else like(self.rotation, theta) @ flat

    @property
    def modulus(self) -> Float[Array, ""]:
        r"""Smallest positive eigenvalue: modulus :math:`\mu` of RSI, PL and QG everywhere."""
        return jnp.min(jnp.where(self.eigenvalues > 0, self.eigenvalues, jnp.inf))

    @property
    def growth(self) -> Float[Array, ""]:
        r"""Largest eigenvalue: smallest :math:`\beta` with :math:`\|\nabla L\| \le \beta d`."""
        return jnp.max(self.eigenvalues)

    def _coordinates(self, theta: Array) -> Array:
        return theta if self.rotation is None else like(self.rotation, theta).T @ theta


class Sphere(AbstractLandscape):
    r"""Risk that is minimal on the unit sphere (in the plane: a ring).

    .. math:: L(\theta) = \frac{\mu}{2} (\|\theta\| - 1)^2

    Parameters
    ----------
    modulus
        :math:`\mu > 0`; RSI, PL and QG hold with it everywhere but at the origin, and
        :math:`\|\nabla L\| = \mu d`.
    dimension
        Number of parameters.

    Notes
    -----
    At the origin, where the risk has a cone, the derivative is taken to be zero and the nearest
    minimum to be the first unit vector.
    Source: theory after Imaizumi & Schmidt-Hieber (explicit constants, this project), section 12.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import Sphere
    >>> ring = Sphere(2.0)
    >>> theta = jnp.array([0.0, -3.0])
    >>> float(ring.risk(theta)), float(ring.distance(theta)), ring.project(theta).tolist()
    (4.0, 2.0, [0.0, -1.0])
    """

    modulus: Number
    dimension: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        check_positive("modulus", self.modulus)

    def risk(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (d,)."""
        return 0.5 * like(self.modulus, theta) * jnp.square(norm(theta) - 1)

    @property
    def minima(self) -> Float[Array, "1 d"]:
        """The first unit vector, shape (1, d)."""
        return jnp.eye(1, self.dimension)

    def project(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        r""":math:`\theta/\|\theta\|`, shape (d,)."""
        return direction(theta)

    @property
    def growth(self) -> Float[Array, ""]:
        r"""The modulus: :math:`\|\nabla L\| = \mu d`."""
        return jnp.asarray(self.modulus)


class LeastSquares(AbstractLandscape):
    r"""Linear regression on given rows.

    .. math:: L(\theta) = \frac1n \sum_{i=1}^n \tfrac12 (x_i^\top\theta - y_i)^2

    The minima are an affine space: the solution of smallest norm :math:`\theta^\dagger = X^+y`
    plus the null space of X.

    Parameters
    ----------
    inputs
        X, shape (n, d).
    targets
        y, shape (n,).

    Notes
    -----
    ``problem()`` has the n rows, with losses that go through the outputs
    (`OutputLoss`). Everything but the risk costs a singular value decomposition of X; singular
    values below ``max(n, d)`` rounding errors of the largest one count as zero.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import LeastSquares
    >>> one_row = LeastSquares(jnp.array([[1.0, 1.0]]), jnp.array([4.0]))
    >>> one_row.minimum_norm.round(4).tolist()
    [2.0, 2.0]
    >>> one_row.project(jnp.array([3.0, 0.0])).round(4).tolist()
    [3.5, 0.5]
    """

    inputs: Float[Array, "n d"] = eqx.field(converter=floating)
    targets: Float[Array, " n"] = eqx.field(converter=floating)

    def risk(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (d,)."""
        return jnp.mean(_SQUARED(theta, self))

    @property
    def minima(self) -> Float[Array, "1 d"]:
        """The minimum of smallest norm, shape (1, d)."""
        return self.minimum_norm[None]

    @property
    def minimum_norm(self) -> Float[Array, " d"]:
        r"""Minimum of smallest norm :math:`\theta^\dagger`, shape (d,)."""
        left, singular, right = self._decomposition(self.inputs)
        inverse = jnp.where(singular > 0, 1 / jnp.where(singular > 0, singular, 1), 0)
        return right.T @ (inverse * (left.T @ like(self.targets, left)))

    def null_component(self, vector: Float[Array, " d"]) -> Float[Array, " d"]:
        """Part of a vector in the null space of X: what no row sees, shape (d,)."""
        _, singular, right = self._decomposition(like(self.inputs, vector))
        return vector - right.T @ jnp.where(singular > 0, right @ vector, 0)

    def project(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        r""":math:`\theta^\dagger` plus the null component of ``theta``, shape (d,)."""
        return like(self.minimum_norm, theta) + self.null_component(theta)

    @property
    def modulus(self) -> Float[Array, ""]:
        r"""Smallest positive eigenvalue of :math:`X^\top X/n`, the modulus of RSI, PL and QG."""
        singular = self._decomposition(self.inputs)[1]
        return jnp.min(jnp.where(singular > 0, singular, jnp.inf)) ** 2 / self.inputs.shape[0]

    @property
    def growth(self) -> Float[Array, ""]:
        r"""Largest eigenvalue of :math:`X^\top X/n`."""
        return self._decomposition(self.inputs)[1][0] ** 2 / self.inputs.shape[0]

    def problem(self) -> Problem:
        """Give the regression as a problem with its n rows."""
        return Problem(_SQUARED, self)

    def _decomposition(self, inputs: Array) -> tuple[Array, Array, Array]:
        """Thin singular value decomposition, negligible singular values set to zero."""
        left, singular, right = jnp.linalg.svd(inputs, full_matrices=False)
        negligible = singular[0] * max(inputs.shape) * jnp.finfo(inputs.dtype).eps
        return left, jnp.where(singular > negligible, singular, 0), right


def _predictions(theta: Float[Array, " d"], rows: LeastSquares) -> Float[Array, "n 1"]:
    return (like(rows.inputs, theta) @ theta)[:, None]


def _half_squares(outputs: Float[Array, "n 1"], rows: LeastSquares) -> Float[Array, " n"]:
    return 0.5 * jnp.square(outputs[:, 0] - like(rows.targets, outputs))


_SQUARED = OutputLoss(_predictions, _half_squares)


def like(number: Any, theta: Array) -> Array:
    """Convert a number or array to the precision of ``theta``."""
    return jnp.asarray(number, theta.dtype)


def norm(tree: PyTree) -> Float[Array, ""]:
    """Euclidean norm over all leaves, with derivative zero at zero."""
    square = squared_norm(tree)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def direction(vector: Float[Array, " d"]) -> Float[Array, " d"]:
    """Give the unit vector along ``vector``; the first unit vector for zero."""
    length = norm(vector)
    safe = jnp.where(length > 0, length, 1)
    return jnp.where(length > 0, vector / safe, jnp.eye(1, vector.size, dtype=vector.dtype)[0])


def bisect(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Root, elementwise, of a function that is negative left of it and positive right of it."""

    def halve(_, bracket):
        low, high = bracket
        middle = low + (high - low) / 2
        left = function(middle) <= 0
        return jnp.where(left, middle, low), jnp.where(left, high, middle)

    # Some halvings more than the mantissa has bits: roots near zero keep their leading digits.
    halvings = jnp.finfo(high.dtype).nmant + 12
    low, high = jax.lax.fori_loop(0, halvings, halve, (low, high))
    return low + (high - low) / 2
