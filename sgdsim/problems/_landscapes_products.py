"""Landscapes whose minima are the factorisations of a number or of a matrix."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sgdsim._typing import Number
from sgdsim.problems._landscapes import (
    AbstractLandscape,
    bisect,
    direction,
    floating,
    like,
    norm,
)

#: Weight matrices of a linear network, first layer first.
Matrices = tuple[Float[Array, "_ _"], ...]


class Hyperbola(AbstractLandscape):
    r"""Product of two parameters, minimal on a hyperbola.

    .. math:: L(w) = \tfrac12 (w_1 w_2 - a)^2, \qquad
              \|\nabla L\|^2 = 2\,(w_1^2 + w_2^2)\,L

    The two branches are separated by a saddle at the origin. At a minimum the Hessian has the
    eigenvalues 0 (along the branch) and :math:`w_1^2 + w_2^2 \ge 2|a|`.

    Parameters
    ----------
    product
        a; for a = 0 the minima are the two axes.

    Notes
    -----
    Source: theory after Imaizumi & Schmidt-Hieber (explicit constants, this project), section 13.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import Hyperbola
    >>> hyperbola = Hyperbola(1.0)
    >>> float(hyperbola.risk(jnp.array([2.0, 1.0])))
    0.5
    >>> hyperbola.project(jnp.array([2.25, 1.5 + 0.0])).round(4).tolist()
    [2.0, 0.5]
    """

    product: Number

    def risk(self, theta: Float[Array, " 2"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (2,)."""
        return 0.5 * jnp.square(theta[0] * theta[1] - like(self.product, theta))

    @property
    def minima(self) -> Float[Array, "1 2"]:
        """One of the two minima of smallest norm, shape (1, 2)."""
        a = jnp.asarray(self.product, float)
        root = jnp.sqrt(jnp.abs(a))
        return jnp.stack([root, jnp.where(a < 0, -root, root)])[None]

    def project(self, theta: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """Nearest point of the hyperbola, shape (2,)."""
        return jnp.concatenate(nearest_factors(theta[:1], theta[1:], like(self.product, theta)))

    @property
    def saddle(self) -> Float[Array, " 2"]:
        r"""The origin, where the Hessian has the eigenvalues :math:`\pm a`, shape (2,)."""
        return jnp.zeros(2)

    @property
    def barrier(self) -> Float[Array, ""]:
        """Risk at the saddle between the branches."""
        return 0.5 * jnp.square(jnp.asarray(self.product, float))


class DeepLinear(AbstractLandscape):
    r"""Linear network that factorises a matrix.

    .. math:: L(W_1, \dots, W_D) = \tfrac12 \|W_D \cdots W_1 - A\|_F^2

    Parameters
    ----------
    target
        A, shape (rows, cols).
    hidden
        Widths of the D - 1 hidden layers, none below ``min(rows, cols)``, so that the risk
        reaches zero for every A.

    Raises
    ------
    ValueError
        There is no hidden layer or one is too narrow.

    Notes
    -----
    Parameters are a tuple of matrices, first layer first. The nearest minimum is known for one
    hidden layer with one input and one output (a hyperbola in any dimension); elsewhere
    `project` refuses.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import DeepLinear
    >>> product_of_four = DeepLinear([[1.0]], hidden=(1, 1, 1))
    >>> theta = tuple(jnp.array([[w]]) for w in (1.0, 2.0, 1.0, 1.0))
    >>> float(product_of_four.risk(theta))
    0.5
    """

    target: Float[Array, "rows cols"] = eqx.field(converter=floating)
    hidden: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        narrowest = min(self.target.shape)
        if not self.hidden or min(self.hidden) < narrowest:
            raise ValueError(
                f"hidden must name at least one width and none below {narrowest}, got "
                f"{self.hidden}: the factors of a {self.target.shape} matrix would not reach it."
            )

    def risk(self, theta: Matrices) -> Float[Array, ""]:
        """Risk at the tuple of weight matrices."""
        # Folding from the first layer on keeps the product at the width of the input.
        product = functools.reduce(lambda done, matrix: matrix @ done, theta)
        return 0.5 * jnp.sum(jnp.square(product - like(self.target, product)))

    @property
    def minima(self) -> tuple[Float[Array, "1 _ _"], ...]:
        r"""A balanced factorisation, :math:`W_{j+1}^\top W_{j+1} = W_j W_j^\top`."""
        left, singular, right = jnp.linalg.svd(self.target, full_matrices=False)
        rank, depth = singular.size, len(self.hidden) + 1
        frames = [right.T, *(jnp.eye(width, rank) for width in self.hidden), left]
        root = singular ** (1 / depth)
        return tuple(((to * root[None, :]) @ of.T)[None] for of, to in itertools.pairwise(frames))

    def project(self, theta: Matrices) -> Matrices:
        """Nearest factorisation, for one hidden layer with one input and one output.

        Raises
        ------
        NotImplementedError
            For any other shape: no closed form is known.
        """
        if self.target.shape != (1, 1) or len(self.hidden) != 1:
            raise NotImplementedError(
                "the nearest minimum of a linear network is known for one hidden layer with one "
                f"input and one output only, not for target {self.target.shape} and hidden "
                f"{self.hidden}; find_minimum gives a minimum near a point."
            )
        first, second = theta
        product = like(self.target, first)[0, 0]
        first, second = nearest_factors(first[:, 0], second[0], product)
        return first[:, None], second[None]

    def pl_modulus(self, theta: Matrices) -> Float[Array, ""]:
        r"""Modulus of the PL inequality at a point.

        .. math:: \|\nabla L\|^2 \ge 2\mu(\theta) L, \qquad \mu(\theta) = \sum_j
            \sigma^2(W_D \cdots W_{j+1})\,\sigma^2((W_{j-1} \cdots W_1)^\top), \qquad
            \sigma(M) = \min_{\|v\|=1} \|M^\top v\|

        For two layers it is :math:`\sigma^2(W_2) + \sigma^2(W_1^\top)`.
        """
        rows, cols = self.target.shape
        # Products of the layers below and above each layer; empty ones are the identity.
        below = [jnp.eye(cols, dtype=theta[0].dtype)]
        for matrix in theta[:-1]:
            below.append(matrix @ below[-1])
        above = [jnp.eye(rows, dtype=theta[0].dtype)]
        for matrix in reversed(theta[1:]):
            above.append(above[-1] @ matrix)
        pairs = zip(reversed(above), below, strict=True)
        terms = [_smallest_gain(upper) * _smallest_gain(lower.T) for upper, lower in pairs]
        return jnp.sum(jnp.square(jnp.stack(terms)))


def _smallest_gain(matrix: Float[Array, "rows cols"]) -> Float[Array, ""]:
    r""":math:`\min_{\|v\|=1} \|M^\top v\|`, zero if M has more rows than columns."""
    rows, cols = matrix.shape
    if rows > cols:
        return jnp.zeros((), matrix.dtype)
    return jnp.linalg.svd(matrix, compute_uv=False)[-1]


@jax.jit
def nearest_factors(
    first: Float[Array, " d"], second: Float[Array, " d"], product: Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    r"""Nearest pair of vectors with a given inner product.

    With :math:`P, Q = (w_1 \pm w_2)/\sqrt2` the set :math:`w_1^\top w_2 = a > 0` is
    :math:`\|p\|^2 - \|q\|^2 = 2a`. Its point nearest to (P, Q) has p along P and q along Q, and
    :math:`v = \|q\| \ge 0` solves

    .. math:: 2v - \|P\|\,\frac{v}{\sqrt{v^2 + 2a}} - \|Q\| = 0,

    a convex function with one sign change: no root of the quartic is lost or confused. For
    a < 0 the sign of the second vector is turned.
    """
    sign = jnp.where(product < 0, -1, 1).astype(first.dtype)
    half = jnp.sqrt(like(0.5, first))
    plus, minus = half * (first + sign * second), half * (first - sign * second)
    p, q, square = norm(plus), norm(minus), 2 * jnp.abs(product)

    def residual(v):
        length = jnp.sqrt(jnp.square(v) + square)
        return 2 * v - p * v / jnp.where(length > 0, length, 1) - q

    v = bisect(residual, jnp.zeros_like(q), (p + q) / 2)
    plus = jnp.sqrt(jnp.square(v) + square) * direction(plus)
    minus = v * direction(minus)
    return half * (plus + minus), sign * half * (plus - minus)
