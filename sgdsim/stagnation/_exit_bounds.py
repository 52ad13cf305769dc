r"""Upper bounds on the probability that noisy gradient descent leaves a ball around a minimum.

Setting, one step of the recursion with noise :math:`\xi_t` and distance :math:`d_t` to the minima:

.. math:: d_{t+1} \le \|a_t - \eta \xi_t\|, \qquad \|a_t\| \le q\, d_t + \eta \varepsilon,
          \qquad \mathrm{Cov}(\xi_t) \preceq \bar s I, \quad \mathrm{tr}\,\mathrm{Cov}(\xi_t)
          \le \bar\tau \quad \text{as long as } d_t \le \delta .

Three bounds on :math:`P(\exists t \le T: d_t > \delta)` use it: S0 looks at single noises, S1 at
the martingale of the squared distance, S2 at the exponential supermartingale
:math:`e^{\kappa d_t^2}`. Each holds for Gaussian noise and for sub-Gaussian noise with
:math:`E e^{\langle v, \xi\rangle} \le e^{v^\top \Sigma v / 2}`. Everything is float64 and in the
log domain: exit probabilities of interest are often far below the smallest double.

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import numpy as np
from jaxtyping import Float, Int

from sgdsim.stagnation._stay_constants import (
    StayConstants,
    log_of_steps,
    over_settings,
)
from sgdsim.stagnation._supermartingale import log_exit_bound_s2


def log_exit_bound_s0(
    constants: StayConstants, steps: Int[np.ndarray, " step"]
) -> Float[np.ndarray, "*setting step"]:
    r"""Bound the exit probability by a union over single noises (S0).

    .. math:: P(\tau \le T) \le T \exp\Bigl(-\frac{\bigl((1-q)\delta/\eta - \varepsilon
              - \sqrt{\bar\tau}\bigr)_+^2}{2 \bar s}\Bigr)

    Parameters
    ----------
    constants
        Constants of the ball; ``start_distance`` does not enter beyond being at most the radius.
    steps
        Numbers of steps T >= 0, shape (step,).

    Returns
    -------
    numpy.ndarray
        Natural logarithm of the bound, shape (\*setting, step): not clipped (above 0 it says
        nothing), -inf at T = 0, nan where an assumption is violated.

    Raises
    ------
    ValueError
        A number of steps is negative.

    Notes
    -----
    While every noise has :math:`\eta \|\xi_t\| \le (1-q)\delta - \eta\varepsilon` the ball is not
    left. :math:`P(\|\xi\| > \sqrt{\bar\tau} + z) \le e^{-z^2 / (2 \bar s)}`: Gaussian concentration
    of the norm, and for sub-Gaussian noise the tail inequality of Hsu, Kakade & Zhang (2012) with
    :math:`\mathrm{tr}\,\Sigma^2 \le \bar s \bar\tau`. The exponent stays bounded as
    :math:`\eta \to 0`: this is the baseline, not the theory.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import StayConstants, log_exit_bound_s0
    >>> constants = StayConstants(
    ...     learning_rate=0.1,
    ...     contraction=0.5,
    ...     noise_operator_norm=1.0,
    ...     noise_trace=1.0,
    ...     radius=1.2,
    ... )
    >>> log_exit_bound_s0(constants, np.array([1])).round(6).tolist()
    [-12.5]
    """

    def bound(columns: dict[str, np.ndarray], steps: np.ndarray) -> np.ndarray:
        free = (
            (1.0 - columns["contraction"]) * columns["radius"] / columns["learning_rate"]
            - columns["gradient_bias"]
            - np.sqrt(columns["noise_trace"])
        )
        exponent = np.maximum(free, 0.0) ** 2 / (2.0 * columns["noise_operator_norm"])
        return log_of_steps(steps) - exponent

    return over_settings(constants, steps, bound)


def log_exit_bound_s1(
    constants: StayConstants, steps: Int[np.ndarray, " step"]
) -> Float[np.ndarray, "*setting step"]:
    r"""Bound the exit probability by concentration of the squared distance (S1).

    With :math:`c_0 = 2 q \eta \varepsilon \delta + \eta^2 \varepsilon^2 + \eta^2 \bar\tau`,
    :math:`\bar y = \max(d_0^2, c_0 / (1 - q^2))`, :math:`A = q \delta + \eta \varepsilon`,
    :math:`v = (4 \eta^2 \bar s A^2 + 2 \eta^4 \bar s \bar\tau) / (1 - q^4)`,
    :math:`c = 2 \eta^2 \bar s`:

    .. math:: P(\tau \le T) \le T e^{-x}, \qquad \sqrt{2 v x} + c x = (\delta^2 - \bar y)_+ .

    Parameters
    ----------
    constants
        Constants of the ball.
    steps
        Numbers of steps T >= 0, shape (step,).

    Returns
    -------
    numpy.ndarray
        Natural logarithm of the bound, shape (\*setting, step): not clipped (above 0 it says
        nothing), -inf at T = 0, nan where an assumption is violated.

    Raises
    ------
    ValueError
        A number of steps is negative.

    Notes
    -----
    Inside the ball :math:`d_{t+1}^2 \le q^2 d_t^2 + c_0 + M_{t+1}` with
    :math:`M = -2\eta\langle a, \xi\rangle + \eta^2(\|\xi\|^2 - \mathrm{tr}\,\Sigma)`, whose log
    moment generating function is at most :math:`\lambda^2 v_1 / (2 (1 - c \lambda))`,
    :math:`v_1 = (1 - q^4) v`, because :math:`\mathrm{tr}\,\Sigma^2 \le \bar s \bar\tau`. The sum
    :math:`\sum_k q^{2(t-1-k)} M_{k+1}` is then sub-gamma (v, c), which gives the tail; a union over
    the steps ends it. For :math:`\delta^2 \le \bar y` only x = 0 is left, and the bound is T.

    Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import StayConstants, log_exit_bound_s1
    >>> constants = StayConstants(
    ...     learning_rate=0.05,
    ...     contraction=0.95,
    ...     noise_operator_norm=0.04,
    ...     noise_trace=0.04,
    ...     radius=0.3,
    ... )
    >>> log_exit_bound_s1(constants, np.array([0, 1000])).round(2).tolist()
    [-inf, -13.64]
    """

    def bound(columns: dict[str, np.ndarray], steps: np.ndarray) -> np.ndarray:
        eta, q, eps = (columns[k] for k in ("learning_rate", "contraction", "gradient_bias"))
        s, trace, delta = (columns[k] for k in ("noise_operator_norm", "noise_trace", "radius"))
        drift = 2 * q * eta * eps * delta + (eta * eps) ** 2 + eta**2 * trace
        level = np.maximum(columns["start_distance"] ** 2, drift / ((1 - q) * (1 + q)))
        reach = q * delta + eta * eps
        variance = (4 * eta**2 * s * reach**2 + 2 * eta**4 * s * trace) / (
            (1 - q) * (1 + q) * (1 + q**2)
        )
        scale = 2 * eta**2 * s
        # Clipped before the root is squared: a negative root would pass for a small bound.
        excess = np.maximum(delta**2 - level, 0.0)
        # The root of the quadratic, written without the difference of two nearly equal numbers.
        root = 2 * excess / (np.sqrt(2 * variance) + np.sqrt(2 * variance + 4 * scale * excess))
        return log_of_steps(steps) - root**2

    return over_settings(constants, steps, bound)


def log_exit_bounds(
    constants: StayConstants, steps: Int[np.ndarray, " step"]
) -> dict[str, Float[np.ndarray, "*setting step"]]:
    r"""Evaluate all exit bounds, by name of the theory.

    Parameters
    ----------
    constants
        Constants of the ball.
    steps
        Numbers of steps T >= 0, shape (step,).

    Returns
    -------
    dict
        Keys "S0", "S1", "S2" in this order; values are logarithms of the bounds, shape
        (\*setting, step).

    Raises
    ------
    ValueError
        A number of steps is negative.

    Notes
    -----
    The constants decide all three, so the smallest is a bound as well. S2 is the smallest in nearly
    all settings; at a high noise rank, or from a start near the sphere, S1 can be a little smaller.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import StayConstants, log_exit_bounds, stay_lower_bound
    >>> constants = StayConstants(
    ...     learning_rate=0.05,
    ...     contraction=0.95,
    ...     noise_operator_norm=0.04,
    ...     noise_trace=0.04,
    ...     radius=0.2,
    ... )
    >>> bounds = log_exit_bounds(constants, np.array([1000]))
    >>> {theory: float(stay_lower_bound(log)[0].round(5)) for theory, log in bounds.items()}
    {'S0': 0.0, 'S1': 0.86025, 'S2': 0.99999}
    """
    return {
        "S0": log_exit_bound_s0(constants, steps),
        "S1": log_exit_bound_s1(constants, steps),
        "S2": log_exit_bound_s2(constants, steps),
    }


def stay_lower_bound(log_exit_bound: Float[np.ndarray, "*dims"]) -> Float[np.ndarray, "*dims"]:
    """Turn the logarithm of an exit bound into a lower bound on the stay probability.

    Parameters
    ----------
    log_exit_bound
        Logarithms of exit bounds, any shape.

    Returns
    -------
    numpy.ndarray
        ``max(0, 1 - exp(log_exit_bound))``, same shape; nan stays nan.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.stagnation import stay_lower_bound
    >>> stay_lower_bound(np.log(np.array([0.25, 3.0]))).tolist()
    [0.75, 0.0]
    """
    # 0 - x, not -x: it turns the -0.0 of a bound that says nothing into 0.0.
    return 0.0 - np.expm1(np.minimum(log_exit_bound, 0.0))
