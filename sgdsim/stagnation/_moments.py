r"""Second moment of the distance, mean exit time, burn-in and several basins.

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from sgdsim.stagnation._stay_constants import (
    StayConstants,
    over_settings,
)
from sgdsim.stagnation._supermartingale import log_drift, minimise, settings_in_chunks

_LOG_LARGEST = math.log(np.finfo(np.float64).max)


def second_moment_bound(
    constants: StayConstants, steps: Int[np.ndarray, " step"]
) -> Float[np.ndarray, "*setting step"]:
    r"""Bound the mean squared distance from the minimum at single steps.

    .. math:: E\, d_t^2 \le x_\infty + g^t (d_0^2 - x_\infty), \qquad
              \sqrt{x_\infty} = \frac{q\eta\varepsilon + \sqrt{\eta^2\varepsilon^2
              + (1 - q^2) \eta^2 \bar\tau}}{1 - q^2}, \qquad
              g = q^2 + \frac{q \eta \varepsilon}{\sqrt{x_\infty}}

    Without a gradient bias this is :math:`q^{2t} d_0^2 + (1 - q^{2t}) \eta^2\bar\tau / (1 - q^2)`.

    Parameters
    ----------
    constants
        Constants that hold **everywhere**, not in a ball alone: an average sees the trajectories
        that have left the ball. The radius does not enter beyond being at least the start distance.
    steps
        Numbers of steps t >= 0, shape (step,).

    Returns
    -------
    numpy.ndarray
        The bound, squared units of the parameters, shape (\*setting, step); nan where an
        assumption is violated.

    Raises
    ------
    ValueError
        A number of steps is negative.

    Notes
    -----
    Given the past, :math:`E\, d_{t+1}^2 \le f(d_t^2)`, :math:`f(x) = (q\sqrt x +
    \eta\varepsilon)^2 + \eta^2\bar\tau`; f is concave, so the mean follows (Jensen) and f lies
    below its tangent at its fixed point :math:`x_\infty`, whose slope is g < 1.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import StayConstants, second_moment_bound
    >>> constants = StayConstants(
    ...     learning_rate=0.5,
    ...     contraction=0.5,
    ...     noise_operator_norm=0.1,
    ...     noise_trace=0.3,
    ...     radius=2.0,
    ...     start_distance=1.0,
    ... )
    >>> second_moment_bound(constants, np.array([0, 1, 100])).round(6).tolist()
    [1.0, 0.325, 0.1]
    """

    def bound(columns: dict[str, np.ndarray], steps: np.ndarray) -> np.ndarray:
        q, eta = columns["contraction"], columns["learning_rate"]
        bias = eta * columns["gradient_bias"]
        gap = (1.0 - q) * (1.0 + q)
        root = (q * bias + np.sqrt(bias**2 + gap * eta**2 * columns["noise_trace"])) / gap
        limit, slope = root**2, q**2 + q * bias / root
        return limit + slope**steps * (columns["start_distance"] ** 2 - limit)

    return over_settings(constants, steps, bound)


def log_tail_from_second_moment(
    constants: StayConstants, steps: Int[np.ndarray, " step"]
) -> Float[np.ndarray, "*setting step"]:
    r"""Bound the probability to be outside the ball at a single step, by Markov's inequality.

    .. math:: P(d_t > \delta) \le \frac{E\, d_t^2}{\delta^2}

    Parameters
    ----------
    constants
        Constants that hold everywhere, as in `second_moment_bound`.
    steps
        Numbers of steps t >= 0, shape (step,).

    Returns
    -------
    numpy.ndarray
        Natural logarithm of the bound for each t alone, shape (\*setting, step): not clipped (above
        0 it says nothing), nan where an assumption is violated.

    Raises
    ------
    ValueError
        A number of steps is negative.

    Notes
    -----
    It is no bound on an exit *until* t: that is `log_exit_bound_s2`.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import StayConstants, log_tail_from_second_moment
    >>> constants = StayConstants(
    ...     learning_rate=0.5,
    ...     contraction=0.5,
    ...     noise_operator_norm=0.1,
    ...     noise_trace=0.3,
    ...     radius=2.0,
    ... )
    >>> np.exp(log_tail_from_second_moment(constants, np.array([100]))).round(6).tolist()
    [0.025]
    """
    moment = second_moment_bound(constants, steps)
    with np.errstate(divide="ignore"):
        return np.log(moment) - 2.0 * np.log(np.asarray(constants.radius, np.float64))[..., None]


def mean_exit_time_bound(constants: StayConstants) -> Float[np.ndarray, "*setting"]:
    r"""Bound the mean number of steps until the exit from below.

    .. math:: E\,\tau \ge \max_{\kappa,\alpha} \frac{(1 - A)^2}{2 A'}, \qquad
              A = e^{\kappa (d_0^2 - \delta^2)}, \qquad A' = D e^{-\kappa \delta^2}

    Parameters
    ----------
    constants
        Constants of the ball.

    Returns
    -------
    numpy.ndarray
        Lower bound on the mean exit time, unit: steps, shape of the settings; at most the largest
        double; nan where an assumption is violated.

    Notes
    -----
    The exit bound S2 reads :math:`P(\tau \le T) \le A + A' T` with one :math:`(\kappa, \alpha)` for
    all T, so :math:`E\,\tau = \sum_{T \ge 0} P(\tau > T) \ge \int_0^\infty (1 - A - A' t)_+ dt`.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import StayConstants, mean_exit_time_bound
    >>> constants = StayConstants(
    ...     learning_rate=0.05,
    ...     contraction=0.95,
    ...     noise_operator_norm=0.04,
    ...     noise_trace=0.08,
    ...     radius=0.15,
    ... )
    >>> float(mean_exit_time_bound(constants).round(0))
    10624.0
    """

    def bound(columns: dict[str, np.ndarray], _: np.ndarray) -> np.ndarray:
        result = np.full_like(columns["radius"], np.nan)
        for rows, part, biased in settings_in_chunks(columns, 1):
            result[rows] = _log_mean_exit_time(part, biased)
        return result

    log_time = over_settings(constants, np.zeros(1, np.int64), bound)[..., 0]
    return np.asarray(np.exp(np.minimum(log_time, _LOG_LARGEST)))


def _log_mean_exit_time(columns: dict[str, np.ndarray], biased: bool) -> np.ndarray:
    start2, radius2 = columns["start_distance"] ** 2, columns["radius"] ** 2

    def loss(z: np.ndarray, w: np.ndarray) -> np.ndarray:
        kappa, drift = log_drift(columns, expit(z), expit(-z), w)
        # A start on the sphere makes A = 1: no statement, a bound of 0.
        with np.errstate(divide="ignore"):
            free = np.log(-np.expm1(kappa * (start2 - radius2)))
        return drift - kappa * radius2 + math.log(2.0) - 2.0 * free

    return -minimise(loss, start2.shape, biased, refine=True)[0]


def burn_in_steps(
    contraction: float | int, start_distance: float | int, spread: float | int
) -> int:
    r"""Count the steps after which the start is forgotten in the mean square.

    .. math:: t_0 = \Bigl\lceil \frac{\log(\Delta^2 / R)}{2 |\log q|} \Bigr\rceil_+ , \qquad
              E\, d_t^2 \le R + x_\infty \quad \text{for } t \ge t_0

    Parameters
    ----------
    contraction
        :math:`0 \le q < 1`, valid on the attracting neighbourhood.
    start_distance
        Its radius :math:`\Delta > 0`: the largest distance at step 0.
    spread
        :math:`\sqrt R > 0`, `stationary_radius`.

    Returns
    -------
    int
        :math:`t_0`, unit: steps; 0 when the start is within the spread.

    Raises
    ------
    ValueError
        A distance is not positive, or the contraction is not in [0, 1): then no number of steps
        forgets the start.

    Notes
    -----
    :math:`q^{2t} \Delta^2 \le R` in the second moment bound (`second_moment_bound`, whose limit is
    :math:`x_\infty`) without a gradient bias.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> from sgdsim.stagnation import burn_in_steps
    >>> burn_in_steps(contraction=0.95, start_distance=1.0, spread=0.03)
    69
    """
    if not 0.0 <= contraction < 1.0:
        raise ValueError(
            f"contraction must be in [0, 1), got {contraction:g}: the start is never forgotten"
        )
    for name, value in (("start_distance", start_distance), ("spread", spread)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and positive, got {value:g}")
    if start_distance <= spread:
        return 0
    if contraction == 0:
        return 1
    return math.ceil(math.log(start_distance / spread) / -math.log(contraction))


def multi_basin_stay_bound(
    start_probability: Float[np.ndarray, " basin"], exit_bound: Float[np.ndarray, " basin"]
) -> float:
    r"""Bound the probability to stay in the basin of the start from below, over several basins.

    .. math:: P(\exists k: \theta_t \in \Theta_k \text{ for all } t \in [t_0, t_0 + T])
              \ge \sum_k \pi_k (1 - p_k)_+

    Parameters
    ----------
    start_probability
        :math:`\pi_k`, probability to be near the minima of basin k at step :math:`t_0`, shape
        (basin,).
    exit_bound
        :math:`p_k`, bound on the exit probability given that start; above 1 it says nothing.

    Returns
    -------
    float
        The lower bound; nan when an exit bound is nan.

    Raises
    ------
    ValueError
        The start probabilities are negative or sum to more than 1, or an exit bound is negative.

    Notes
    -----
    The starts in different basins exclude each other: the neighbourhoods must be disjoint. Measured
    :math:`\pi_k` need lower confidence limits that hold together.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import multi_basin_stay_bound
    >>> round(multi_basin_stay_bound(np.array([0.6, 0.3]), np.array([0.01, 2.0])), 6)
    0.594
    """
    # The sum of rounded probabilities may pass 1 by rounding.
    if not (np.all(start_probability >= 0) and start_probability.sum() <= 1 + 1e-12):
        raise ValueError(
            f"start probabilities must not be negative nor sum to more than 1, got "
            f"{start_probability.tolist()}: the neighbourhoods must be disjoint"
        )
    if np.any(exit_bound < 0):
        raise ValueError(f"exit bounds must not be negative, got {exit_bound.tolist()}")
    return float(start_probability @ np.maximum(1.0 - exit_bound, 0.0))
