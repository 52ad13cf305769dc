"""Landscapes on which gradient descent is known to end at the edge of stability."""

import functools
import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sgdsim._checks import check_positive
from sgdsim._typing import Number
from sgdsim.problems._landscapes import AbstractLandscape, like
from sgdsim.problems._landscapes_products import Matrices, nearest_factors


class ScalarDeepLinear(AbstractLandscape):
    r"""Linear network with one input and one output, its weights in one vector.

    .. math:: L(\theta) = \tfrac12 (f(\theta) - a)^2, \qquad f(\theta) = W_D \cdots W_1

    At a minimum the Hessian is :math:`\nabla f \nabla f^\top`: one eigenvalue,
    :math:`\|\nabla f\|^2`, is not zero. Two layers with a = 0 are the catapult; hidden layers of
    width one multiply D numbers.

    Parameters
    ----------
    target
        a.
    hidden
        Widths of the D - 1 hidden layers, at least one.

    Raises
    ------
    ValueError
        There is no hidden layer, or one has no units.

    Notes
    -----
    `DeepLinear` is the same for matrices, with a tuple of matrices as parameters.
    Sources: Lewkowycz et al. 2020, arXiv:2003.02218, section 2 (two layers, catapult); Zhu et al.
    2023, arXiv:2210.03294 (product of four numbers with a = 1).

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import ScalarDeepLinear
    >>> product_of_four = ScalarDeepLinear(1.0, hidden=(1, 1, 1))
    >>> theta = jnp.array([0.5, 2.0, 4.0, 0.25])
    >>> float(product_of_four.risk(theta)), float(product_of_four.sharpness(theta))
    (0.0, 20.3125)
    """

    target: Number
    hidden: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(
                f"hidden must name at least one width, and none below 1, got {self.hidden}."
            )

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the weight matrices, first layer first."""
        return tuple((rows, cols) for cols, rows in itertools.pairwise((1, *self.hidden, 1)))

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return sum(rows * cols for rows, cols in self.shapes)

    def matrices(self, theta: Float[Array, " d"]) -> Matrices:
        """Cut ``theta``, shape (d,), into the weight matrices, first layer first."""
        ends = list(itertools.accumulate(rows * cols for rows, cols in self.shapes))
        parts = jnp.split(theta, ends[:-1])
        return tuple(part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True))

    def output(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        """Product of the weight matrices at ``theta``, shape (d,)."""
        # Folding from the first layer on multiplies vectors, never two square matrices.
        return functools.reduce(lambda done, matrix: matrix @ done, self.matrices(theta))[0, 0]

    def risk(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (d,)."""
        return 0.5 * jnp.square(self.output(theta) - like(self.target, theta))

    @property
    def minima(self) -> Float[Array, "1 d"]:
        """A minimum of smallest norm: one unit per layer, of equal weights; shape (1, d)."""
        a = jnp.asarray(self.target, float)
        root = jnp.abs(a) ** (1 / len(self.shapes))
        firsts = [jnp.zeros(shape).at[0, 0].set(root) for shape in self.shapes]
        firsts[-1] = jnp.where(a < 0, -1, 1) * firsts[-1]
        return jnp.concatenate([jnp.ravel(matrix) for matrix in firsts])[None]

    def project(self, theta: Float[Array, " d"]) -> Float[Array, " d"]:
        """Nearest minimum, shape (d,), for one hidden layer.

        Raises
        ------
        NotImplementedError
            With several hidden layers: no closed form is known.
        """
        if len(self.hidden) != 1:
            raise NotImplementedError(
                "the nearest minimum of a linear network is known for one hidden layer only, not "
                f"for hidden {self.hidden}; find_minimum gives a minimum near a point."
            )
        (width,) = self.hidden
        first, second = theta[:width], theta[width:]
        return jnp.concatenate(nearest_factors(first, second, like(self.target, theta)))

    def sharpness(self, theta: Float[Array, " d"]) -> Float[Array, ""]:
        r"""Largest Hessian eigenvalue :math:`\|\nabla f\|^2` of a minimum at ``theta``, shape (d,).

        For two layers it is the squared norm of all weights. Away from the minima it is the
        largest eigenvalue of the Gauss-Newton matrix.
        """
        return jnp.sum(jnp.square(jax.grad(self.output)(theta)))

    def random_point(self, key: Key[Array, ""]) -> Float[Array, " d"]:
        r"""Draw independent normal weights of variance ``1/max(rows, cols)``, shape (d,).

        With hidden layers of one width m the mean sharpness for a = 0 is the number D of layers
        at every m, and the output is of order :math:`m^{-1/2}`.

        Notes
        -----
        In the parametrisation :math:`f = u^\top v/\sqrt m` of Lewkowycz et al., with standard
        normal u and v and the loss :math:`f^2/2`, gradient descent does the same at the same
        learning rate; losses there are m times as large.
        """
        normals = jax.random.normal(key, (self.dimension,))
        scales = [jnp.full(rows * cols, max(rows, cols) ** -0.5) for rows, cols in self.shapes]
        return normals * jnp.concatenate(scales).astype(normals.dtype)


class LipschitzProduct(AbstractLandscape):
    r"""Convex, even, Lipschitz loss of a product of two parameters.

    .. math:: L(w) = c\,l(w_1 w_2), \qquad
        l(s) = \sqrt{1 + s^2} - 1 \quad\text{or}\quad l(s) = \log\cosh s

    The minima are the two axes, where the largest Hessian eigenvalue is
    :math:`c\,(w_1^2 + w_2^2)`. Gradient flow keeps :math:`w_1^2 - w_2^2`, and so ends with the
    sharpness :math:`c\,|w_1^2 - w_2^2|` of its start. Gradient descent with :math:`2/\eta` below
    that ends just under :math:`2/\eta`, to leading order in :math:`\eta c` at

    .. math:: \frac2\eta\bigl(1 - \kappa\,(\eta c)^2\bigr), \qquad
        \kappa = \tfrac12 \text{ or } \tfrac34

    Parameters
    ----------
    loss
        ``"square_root"`` or ``"log_cosh"``; both have the largest slope and the curvature one.
    slope
        c > 0.

    Raises
    ------
    ValueError
        ``loss`` is unknown or ``slope`` is not positive.

    Notes
    -----
    Source: Ahn et al. 2023, "Learning threshold neurons via the edge of stability",
    arXiv:2212.07469, whose assumptions on l (convex, even, Lipschitz) these two meet. The leading
    order is from this project: near the edge :math:`l'(s)/s \approx 1 - q s^2`, q = 1/2 or 1/3, and
    the amplitude s and the excess :math:`\rho` of the sharpness, relative to :math:`2/\eta`, obey
    :math:`\rho' = -(\eta c)^2 s^2` and :math:`(\log s)' = 2\rho - 2qs^2` per step, so that the
    oscillation ends at :math:`\rho = -(\eta c)^2/(4q)`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import LipschitzProduct
    >>> landscape = LipschitzProduct("square_root")
    >>> theta = jnp.array([0.5, 1.5])
    >>> float(landscape.risk(theta)), landscape.project(theta).tolist()
    (0.25, [0.0, 1.5])
    """

    loss: str = eqx.field(static=True, default="square_root")
    slope: Number = 1.0

    def __check_init__(self):
        if self.loss not in _LOSSES:
            raise ValueError(f"loss must be one of {', '.join(_LOSSES)}, got {self.loss!r}.")
        check_positive("slope", self.slope)

    def risk(self, theta: Float[Array, " 2"]) -> Float[Array, ""]:
        """Risk at ``theta``, shape (2,)."""
        return like(self.slope, theta) * _LOSSES[self.loss](theta[0] * theta[1])

    @property
    def minima(self) -> Float[Array, "1 2"]:
        """The origin, where the two axes of minima cross, shape (1, 2)."""
        return jnp.zeros((1, 2))

    def project(self, theta: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """Nearest point of the two axes, shape (2,); of two, that on the second axis."""
        first_is_larger = jnp.abs(theta[0]) > jnp.abs(theta[1])
        return jnp.where(jnp.stack([first_is_larger, ~first_is_larger]), theta, 0)

    def sharpness(self, theta: Float[Array, " 2"]) -> Float[Array, ""]:
        r"""Largest Hessian eigenvalue :math:`c\,(w_1^2 + w_2^2)` of a minimum, shape (2,)."""
        return like(self.slope, theta) * jnp.sum(jnp.square(theta))


def _square_root(s: Float[Array, ""]) -> Float[Array, ""]:
    square = jnp.square(s)
    return square / (jnp.sqrt(1 + square) + 1)  # no cancellation near zero


@jax.custom_jvp
def _log_cosh(s: Float[Array, ""]) -> Float[Array, ""]:
    near = 0.5 * jnp.log1p(jnp.square(jnp.sinh(jnp.clip(s, -1, 1))))
    return jnp.where(jnp.abs(s) < 1, near, jnp.logaddexp(s, -s) - jnp.log(like(2, s)))


# The derivative of the formula loses digits near zero, where gradient descent ends.
@_log_cosh.defjvp
def _tanh(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return _log_cosh(*primals), jnp.tanh(primals[0]) * tangents[0]


_LOSSES: dict[str, Callable[[Array], Array]] = {"square_root": _square_root, "log_cosh": _log_cosh}
