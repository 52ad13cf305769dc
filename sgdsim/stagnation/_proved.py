r"""Constants of the exit bounds that are proved on the whole ball: the ground of certificates.

Each function gives a dictionary of `Proved` by field of `StayConstants`, for `StayStatement`. The
proofs are in the notes. "Proved" is up to rounding in float64.

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import math

import numpy as np
from jaxtyping import Float

from sgdsim.stagnation._contraction import contraction_strongly_convex
from sgdsim.stagnation._stay_statement import Proved


def quadratic_constants(
    eigenvalues: Float[np.ndarray, " direction"],
    learning_rate: float | int,
    noise_variances: float | int | Float[np.ndarray, " axis"],
) -> dict[str, Proved]:
    r"""Constants of :math:`L = \tfrac12 (\theta - \theta^*)^\top H (\theta - \theta^*)`.

    .. math:: q = \max_i |1 - \eta h_i|, \qquad \bar s = \max_j s_j, \qquad
              \bar\tau = \sum_j s_j

    Parameters
    ----------
    eigenvalues
        Eigenvalues :math:`h_i` of the Hessian, shape (direction,). Where the minima form a plane,
        those of the normal directions, and the noise projected on them.
    learning_rate
        :math:`\eta > 0`.
    noise_variances
        Eigenvalues of the covariance of the noise of one step, in any order, shape (axis,); a
        number for isotropic noise of that variance.

    Returns
    -------
    dict
        ``learning_rate``, ``contraction``, ``noise_operator_norm``, ``noise_trace``, each `Proved`,
        for a ball of any radius. An eigenvalue that is not positive gives a contraction of at least
        1, which every bound answers with nan.

    Notes
    -----
    :math:`u - \eta \nabla L = (I - \eta H) u`, whose operator norm is q; the noise does not depend
    on the point.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import quadratic_constants
    >>> constants = quadratic_constants(np.array([0.5, 2.0]), 0.1, 0.04)
    >>> {name: constant.value for name, constant in constants.items()}
    {'learning_rate': 0.1, 'contraction': 0.95, 'noise_operator_norm': 0.04, 'noise_trace': 0.08}
    """
    variances = np.asarray(noise_variances, np.float64)
    if variances.ndim == 0:
        variances = np.full(eigenvalues.size, variances)
    lowest = float(eigenvalues.min())
    words = f"largest |1 - eta h| over the Hessian eigenvalues in [{lowest:g}, "
    words += f"{float(eigenvalues.max()):g}]"
    if lowest <= 0:
        words += f"; the eigenvalue {lowest:g} is not positive: no strict minimum"
    return {
        "learning_rate": Proved(learning_rate, "chosen"),
        "contraction": Proved(float(np.max(np.abs(1.0 - learning_rate * eigenvalues))), words),
        "noise_operator_norm": Proved(float(variances.max()), "constant noise covariance"),
        "noise_trace": Proved(float(variances.sum()), "constant noise covariance"),
    }


def linear_regression_constants(
    inputs: Float[np.ndarray, "n p"],
    residuals: Float[np.ndarray, " n"],
    learning_rate: float | int,
    noise_variance: float | int,
    *,
    hessian: Float[np.ndarray, "p p"] | None = None,
) -> dict[str, Proved]:
    r"""Constants around the **population** minimum of least squares, for given data.

    With :math:`L = \tfrac12 E (y - x^\top \theta)^2`, :math:`H = E x x^\top`,
    :math:`H_n = n^{-1} X^\top X`:

    .. math:: \varepsilon_n = \|n^{-1} X^\top (y - X \theta^*)\|, \qquad
              \omega_n = \|H_n - H\|_{op}, \qquad
              q = \max_i |1 - \eta h_i| + \eta\, \omega_n

    Parameters
    ----------
    inputs
        X, one row per sample, shape (n, p).
    residuals
        :math:`y - X \theta^*` at the population minimum, shape (n,).
    learning_rate
        :math:`\eta > 0`.
    noise_variance
        s: the recursion adds Gaussian noise of covariance s I to the full gradient.
    hessian
        Population Hessian H, shape (p, p); the identity when not given.

    Returns
    -------
    dict
        ``learning_rate``, ``contraction``, ``noise_operator_norm``, ``noise_trace`` and
        ``gradient_bias``, each `Proved`, for a ball of any radius.

    Notes
    -----
    :math:`u - \eta\nabla L_n = (I - \eta H) u - \eta (H_n - H) u + \eta n^{-1} X^\top
    (y - X\theta^*)` with :math:`u = \theta - \theta^*`, and the triangle inequality. Given the data
    nothing here is random.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import linear_regression_constants
    >>> constants = linear_regression_constants(
    ...     np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0.2, 0.0]), 0.1, 0.04
    ... )
    >>> {name: round(constant.value, 6) for name, constant in constants.items()}["contraction"]
    0.95
    """
    count, dimension = inputs.shape
    population = np.eye(dimension) if hessian is None else hessian
    deviation = float(np.linalg.norm(inputs.T @ inputs / count - population, 2))
    bias = float(np.linalg.norm(inputs.T @ residuals) / count)
    values = np.linalg.eigvalsh(population)
    contraction = contraction_strongly_convex(
        learning_rate, float(values[0]), float(values[-1]), hessian_deviation=deviation
    )
    return {
        "learning_rate": Proved(learning_rate, "chosen"),
        "contraction": Proved(
            contraction, f"known population Hessian, data within {deviation:g} of it"
        ),
        "noise_operator_norm": Proved(noise_variance, "isotropic noise"),
        "noise_trace": Proved(dimension * noise_variance, "isotropic noise"),
        "gradient_bias": Proved(bias, "gradient of the data at the known population minimum"),
    }


def ridge_softmax_constants(
    inputs: Float[np.ndarray, "n p"],
    centre_noise: tuple[float | int, float | int],
    *,
    ridge: float | int,
    learning_rate: float | int,
    batch_size: int,
    radius: float | int,
    centre_gradient_norm: float | int = 0.0,
) -> dict[str, Proved]:
    r"""Constants of ridge-penalised softmax regression with Gaussian minibatch noise.

    With :math:`L_n = n^{-1} \sum_i \mathrm{CE}(W x_i, y_i) + \tfrac{\lambda}{2} \|W\|_F^2`, the
    covariance C of the per-sample gradients, and
    :math:`K = \lambda_{\max}(n^{-1} \sum_i \|x_i\|^2 x_i x_i^\top)`:

    .. math:: \mu = \lambda, \qquad
              \beta = \lambda + \tfrac12 \lambda_{\max}(n^{-1} X^\top X), \qquad
              q = \max(|1 - \eta\mu|, |1 - \eta\beta|)

    .. math:: \bar s = \frac1B \Bigl(\sqrt{\|C(\theta^*)\|} + \tfrac12 \sqrt K\, \delta\Bigr)^2,
              \qquad
              \bar\tau = \frac1B \Bigl(\sqrt{\mathrm{tr}\, C(\theta^*)}
              + \tfrac12 \sqrt K\, \delta\Bigr)^2

    Parameters
    ----------
    inputs
        X, one row per sample, with a column of ones where there is a bias, shape (n, p).
    centre_noise
        Largest eigenvalue and trace of :math:`C(\theta^*)`, the covariance of the gradients of
        single samples at the centre of the ball (divided by n).
    ridge
        :math:`\lambda > 0`.
    learning_rate
        :math:`\eta > 0`.
    batch_size
        B >= 1; the noise is Gaussian with covariance :math:`C(\theta) / B`.
    radius
        :math:`\delta` of the ball around the centre.
    centre_gradient_norm
        :math:`\|\nabla L_n(\theta^*)\|` where the centre is not exactly the minimum.

    Returns
    -------
    dict
        All fields of `StayConstants` but ``start_distance``, each `Proved`, about the minimum of
        the **empirical** risk.

    Raises
    ------
    ValueError
        The batch size is below 1, or a constant of the noise is negative.

    Notes
    -----
    The Hessian of one cross-entropy in the logits, :math:`\mathrm{diag}(p) - p p^\top`, lies
    between 0 and :math:`\tfrac12 I` (the variance of a variable in :math:`[v_{\min}, v_{\max}]` is
    at most :math:`(v_{\max} - v_{\min})^2 / 4 \le \|v\|^2 / 2`); that of the risk is the mean of
    its Kronecker products with :math:`x_i x_i^\top`, plus the ridge.

    The gradient of one sample changes from centre to :math:`\theta` by
    :math:`G_i = A_i U x_i x_i^\top` (the ridge part is the same for all samples and cancels in the
    covariance), :math:`0 \preceq A_i \preceq \tfrac12 I`, U the change of W, :math:`\|U\|_F \le
    \delta`. So :math:`n^{-1} \sum_i \|G_i\|_F^2 \le \tfrac14 \mathrm{tr}\bigl(U (n^{-1} \sum_i
    \|x_i\|^2 x_i x_i^\top) U^\top\bigr) \le \tfrac14 K \delta^2`. Both
    :math:`\sqrt{\mathrm{tr}\, C}` and :math:`\sqrt{\|C\|}` are (suprema of) norms of the centred
    gradients in :math:`L^2` over the samples: the triangle inequality ends it. K is at most
    :math:`n^{-1} \sum_i \|x_i\|^4`.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import ridge_softmax_constants
    >>> constants = ridge_softmax_constants(
    ...     np.array([[2.0, 0.0], [0.0, 2.0]]),
    ...     (0.25, 0.25),
    ...     ridge=0.5,
    ...     learning_rate=0.2,
    ...     batch_size=4,
    ...     radius=0.1,
    ... )
    >>> round(constants["contraction"].value, 6), round(constants["noise_trace"].value, 6)
    (0.9, 0.102855)
    """
    norm, trace = centre_noise
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if norm < 0 or trace < 0:
        raise ValueError(f"the noise at the centre must not be negative, got {centre_noise}")
    count = len(inputs)
    squares = np.sum(inputs**2, axis=1)
    smoothness = ridge + float(np.linalg.norm(inputs, 2)) ** 2 / count / 2.0
    fourth = float(np.linalg.norm(np.sqrt(squares)[:, None] * inputs, 2)) ** 2 / count
    growth = 0.5 * math.sqrt(fourth) * radius
    words = f"noise at the centre plus its largest growth {growth:g} in the root, from the inputs"
    return {
        "learning_rate": Proved(learning_rate, "chosen"),
        "contraction": Proved(
            contraction_strongly_convex(learning_rate, ridge, smoothness),
            f"Hessian between the ridge {ridge:g} and {smoothness:g} everywhere",
        ),
        "noise_operator_norm": Proved((math.sqrt(norm) + growth) ** 2 / batch_size, words),
        "noise_trace": Proved((math.sqrt(trace) + growth) ** 2 / batch_size, words),
        "radius": Proved(radius, "chosen"),
        "gradient_bias": Proved(centre_gradient_norm, "gradient at the centre of the ball"),
    }
