"""Teacher and student: a network fits the noisy outputs of a network of its own shape."""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.stats import norm
from jaxtyping import Array, Float
from scipy.sparse.linalg import LinearOperator, eigsh

from sgdsim._typing import Number
from sgdsim.problems._known import Deviations, Estimate, KnownProblem, LossFacts
from sgdsim.problems._landscapes import like
from sgdsim.problems._networks import Network
from sgdsim.problems._problem import OutputLoss, Problem, cast

#: Fresh rows that are evaluated together.
_CHUNK = 8192


class TeacherStudent(KnownProblem):
    r"""Regression on the outputs of a teacher network :math:`f^*`, which the student can equal.

    .. math:: x \sim U(\sqrt d\,S^{d-1}), \quad y = f^*(x) + \sigma\varepsilon, \qquad
        \ell(\theta, z) = \tfrac12(f_\theta(x) - y)^2, \qquad
        \ell_c = \min(\ell, c)

    SGD descends the mean of :math:`\ell`; generalization is judged by :math:`\ell_c`, which is in
    [0, c] and :math:`\sqrt{2c}`-Lipschitz in the output.

    Parameters
    ----------
    teacher
        :math:`f^*`, one output.
    inputs, targets
        Training rows, shapes (n, d) and (n, 1).
    fresh
        Inputs that estimate the population risk, shape (m, d).
    label_noise
        Standard deviation :math:`\sigma`; the noise is normal.
    clip
        c.

    Notes
    -----
    The teacher is a global minimum of the population risk of :math:`\ell`, as the conditional
    mean, and of :math:`\ell_c`: the sublevel sets of :math:`\min(u^2/2, c)` are symmetric
    intervals and the noise is symmetric and unimodal, so that no prediction beats the mean
    (Anderson 1955). It is isolated for tanh, up to permutations and signs of hidden units; for
    relu it lies on a manifold of rescalings, along which the Hessian vanishes.

    The label noise is integrated in closed form, :math:`L_c(\theta) = E_x h(f_\theta(x) -
    f^*(x))`, and only inputs are sampled: the same ones at every ``theta``. The standard error
    therefore vanishes at the teacher.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project),
    section 12.

    Examples
    --------
    >>> from sgdsim.problems import teacher_network, teacher_student
    >>> teacher = teacher_network((5, 3, 1), "tanh", spectral_norm=1.0, seed=0)
    >>> known = teacher_student(teacher, 400, label_noise=0.1, clip=0.5, fresh=1000, seed=0)
    >>> known.loss
    LossFacts(value_range=0.5, lipschitz=1.0, input_bound=2.23606797749979, samples=400)
    >>> round(float(known.gap(known.centre).stderr), 6)
    0.0
    """

    teacher: Network
    inputs: Float[Array, "n d"]
    targets: Float[Array, "n 1"]
    fresh: Float[Array, "m d"]
    label_noise: Number
    clip: Number

    @property
    def training(self) -> Problem:
        """Half the squared error on the training rows."""
        return Problem(_HALF_SQUARES, {"inputs": self.inputs, "targets": self.targets})

    @property
    def population(self) -> Problem:
        r"""Half the squared distance to the teacher on the fresh inputs, plus half the noise.

        Unbiased for L, and minimal at the teacher itself.
        """
        targets = self.teacher(self.fresh)
        noise = jnp.full(len(self.fresh), self.label_noise, targets.dtype)
        rows = {"inputs": self.fresh, "targets": targets, "noise": noise}
        return Problem(_noisy_half_squares, rows)

    @property
    def centre(self) -> Network:
        """The teacher."""
        return self.teacher

    @property
    def loss(self) -> LossFacts:
        r"""Facts about :math:`\ell_c`."""
        samples, dimension = self.inputs.shape
        clip = float(self.clip)
        return LossFacts(clip, (2 * clip) ** 0.5, dimension**0.5, samples)

    def weights(self, theta: Network) -> tuple[Float[Array, "_ _"], ...]:
        """Weight matrices of the student, first layer first."""
        return theta.weights

    def gap(self, theta: Network) -> Estimate:
        r"""Gap of :math:`\ell_c`, its standard error from the fresh inputs."""
        like_theta = theta.weights[0]
        teacher = cast(self.teacher, like_theta.dtype)
        noise, clip = like(self.label_noise, like_theta), like(self.clip, like_theta)

        def given_input(row: Float[Array, " d"]) -> Float[Array, ""]:
            # Both networks by the same operations: at the teacher only rounding is left.
            offset = theta(row[None]) - teacher(row[None])
            return mean_clipped_loss(offset[0, 0], noise, clip)

        population = jax.lax.map(given_input, like(self.fresh, noise), batch_size=_CHUNK)
        residual = theta(like(self.inputs, noise)) - like(self.targets, noise)
        empirical = jnp.mean(jnp.minimum(0.5 * jnp.square(residual), clip))
        stderr = jnp.std(population, ddof=1) / population.size**0.5
        return Estimate(jnp.mean(population) - empirical, stderr)

    def deviations(self) -> Deviations:
        r"""Measure :math:`\varepsilon_n` exactly and :math:`\omega_n` from the fresh inputs.

        The gradient of L vanishes at the teacher. The Hessian of L is replaced by that on the
        fresh inputs; half the spectral distance between their two halves, which has the law of
        the error made, is added.
        """
        gradient, _ = ravel_pytree(jax.grad(self.training.empirical_risk)(self.teacher))
        halves = _chunks(self.population, (len(self.fresh) + 1) // 2)
        fresh = [(-part.n / len(self.fresh), part) for part in halves]
        error = [(0.5, halves[0]), (-0.5, halves[1])]
        hessian = _spectral_norm([(1.0, self.training), *fresh], self.teacher)
        hessian += _spectral_norm(error, self.teacher)
        return Deviations(float(jnp.linalg.norm(gradient)), hessian)


def _outputs(theta: Network, rows: dict[str, Array]) -> Float[Array, "n 1"]:
    return theta(rows["inputs"])


def _half_squares(outputs: Float[Array, "n 1"], rows: dict[str, Array]) -> Float[Array, " n"]:
    return 0.5 * jnp.square(outputs - rows["targets"])[:, 0]


_HALF_SQUARES = OutputLoss(_outputs, _half_squares)


def _noisy_half_squares(theta: Network, rows: dict[str, Array]) -> Float[Array, " n"]:
    return _HALF_SQUARES(theta, rows) + 0.5 * jnp.square(rows["noise"])


def mean_clipped_loss(
    offset: Float[Array, ""], noise: Float[Array, ""], clip: Float[Array, ""]
) -> Float[Array, ""]:
    r"""Mean of :math:`\min(u^2/2, c)` for normal :math:`u \sim N(\Delta, \sigma^2)`.

    With :math:`T = \sqrt{2c}`, :math:`\alpha = (-T - \Delta)/\sigma`,
    :math:`\beta = (T - \Delta)/\sigma` and :math:`P = \Phi(\beta) - \Phi(\alpha)`,

    .. math:: h = \tfrac12\bigl[(\Delta^2 + \sigma^2)P - \sigma(T + \Delta)\varphi(\beta)
        - \sigma(T - \Delta)\varphi(\alpha)\bigr] + c\,(1 - P)

    Parameters
    ----------
    offset, noise, clip
        :math:`\Delta`, :math:`\sigma \ge 0` and c > 0.
    """
    reach = jnp.sqrt(2 * clip)
    sigma = jnp.where(noise > 0, noise, 1)
    high, low = (reach - offset) / sigma, (-reach - offset) / sigma
    inside = norm.cdf(high) - norm.cdf(low)
    edges = (reach + offset) * norm.pdf(high) + (reach - offset) * norm.pdf(low)
    squares = (jnp.square(offset) + jnp.square(sigma)) * inside - sigma * edges
    noisy = 0.5 * squares + clip * (1 - inside)
    return jnp.where(noise > 0, noisy, jnp.minimum(0.5 * jnp.square(offset), clip))


def teacher_network(
    widths: Sequence[int], activation: str, spectral_norm: float, seed: int
) -> Network:
    r"""Network whose weight matrices have one given spectral norm at every width.

    Hidden layers are multiples of matrices with orthonormal rows or columns (columns where the
    layer widens). The last layer is a multiple of the unit vector along :math:`MM^\top v`, with M
    the product of the hidden layers and v of equal entries up to random signs: every hidden unit
    counts, and the outputs do not fade with the width.

    Parameters
    ----------
    widths
        Units of every layer, inputs first, at least one hidden layer, one output.
    activation
        A name of ``ACTIVATIONS``.
    spectral_norm
        Largest singular value of every weight matrix.
    seed
        Seed of the directions.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sgdsim.problems import teacher_network
    >>> teacher = teacher_network((5, 8, 1), "tanh", spectral_norm=1.5, seed=0)
    >>> [round(float(jnp.linalg.norm(matrix, 2)), 5) for matrix in teacher.weights]
    [1.5, 1.5]
    """
    random = np.random.default_rng([seed, 0])
    hidden = [_frame(random, rows, cols) for cols, rows in itertools.pairwise(widths[:-1])]
    product = functools.reduce(lambda done, matrix: matrix @ done, hidden)
    last = product @ (product.T @ random.choice([-1.0, 1.0], widths[-2]))
    matrices = [*hidden, last[None] / np.linalg.norm(last)]
    return Network(tuple(jnp.asarray(spectral_norm * matrix) for matrix in matrices), activation)


def teacher_student(
    teacher: Network, samples: int, label_noise: float, clip: float, fresh: int, seed: int
) -> TeacherStudent:
    """Draw training rows and fresh inputs for a teacher.

    Parameters
    ----------
    teacher
        Network with one output.
    samples, fresh
        Numbers of training rows and of fresh inputs.
    label_noise
        Standard deviation of the labels.
    clip
        Largest value of the evaluation loss.
    seed
        Rows of one seed begin alike at every number of rows and at every label noise.
    """
    dimension = teacher.weights[0].shape[1]
    inputs, fresh_inputs = (
        _on_sphere(np.random.default_rng([seed, purpose]), rows, dimension)
        for purpose, rows in [(1, samples), (2, fresh)]
    )
    noise = label_noise * np.random.default_rng([seed, 3]).normal(size=(samples, 1))
    targets = teacher(jnp.asarray(inputs)) + jnp.asarray(noise)
    return TeacherStudent(
        teacher, jnp.asarray(inputs), targets, jnp.asarray(fresh_inputs), label_noise, clip
    )


def _frame(random: np.random.Generator, rows: int, cols: int) -> np.ndarray:
    """Random matrix all of whose singular values are one."""
    tall, _ = np.linalg.qr(random.normal(size=(max(rows, cols), min(rows, cols))))
    return tall if rows >= cols else tall.T


def _on_sphere(random: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    normal = random.normal(size=(rows, dimension))
    return normal * (dimension**0.5 / np.linalg.norm(normal, axis=1, keepdims=True))


def _chunks(problem: Problem, size: int) -> list[Problem]:
    """Give the problem in parts of at most ``size`` rows."""
    starts = range(0, problem.n, size)
    return [
        Problem(problem.losses, jax.tree.map(lambda a, i=i: a[i : i + size], problem.data))
        for i in starts
    ]


@jax.jit
def _summed_product(problem: Problem, theta: Network, direction: Network) -> Network:
    def total(theta: Network) -> Array:
        return jnp.sum(problem.per_sample_losses(theta))

    return jax.jvp(jax.grad(total), (theta,), (direction,))[1]


def _spectral_norm(terms: list[tuple[float, Problem]], theta: Network) -> float:
    """Spectral norm of a weighted sum of Hessians at ``theta``, from Hessian-vector products."""
    flat, unravel = ravel_pytree(theta)
    parts = [
        (weight / problem.n, part) for weight, problem in terms for part in _chunks(problem, _CHUNK)
    ]

    def product(vector: np.ndarray) -> np.ndarray:
        direction = unravel(jnp.asarray(vector.ravel(), flat.dtype))
        total = np.zeros(flat.size)
        for weight, part in parts:
            total += weight * np.asarray(ravel_pytree(_summed_product(part, theta, direction))[0])
        return total

    shape, start = (flat.size, flat.size), np.random.default_rng(0).normal(size=flat.size)
    # The stubs of scipy know neither these arguments nor that a tolerance is a float.
    operator = LinearOperator(shape, product, dtype=float)  # pyright: ignore[reportCallIssue]
    eigenvalues = eigsh(
        operator,
        k=1,
        v0=start,
        tol=1e-6,  # pyright: ignore[reportArgumentType]
        return_eigenvectors=False,
    )
    return float(abs(eigenvalues[0]))
