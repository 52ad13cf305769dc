r"""What the maximum over many minima costs: the test of the :math:`\log K` term.

A loss surface with ``K`` wells whose depths carry independent sampling errors
:math:`g_k \sim N(0, \sigma_g^2/n)` has the gap :math:`g_k` in well ``k``. The worst well has
:math:`\mathrm E\max_k g_k \approx \sigma_g\sqrt{2\log K/n}`; a well that was chosen without looking
at the sample has 0.

Source: stagnation theory after Imaizumi & Schmidt-Hieber (explicit constants, this project).
"""

import math

from scipy.integrate import quad
from scipy.special import log_ndtr


def expected_maximum_of_normals(count: int) -> float:
    r"""Integrate the expectation of the largest of ``K`` independent standard normal numbers.

    .. math:: \mathrm E\max_{k\le K} X_k = \int_0^\infty\bigl(1 - \Phi(x)^K\bigr)dx
              - \int_{-\infty}^0\Phi(x)^K dx \;\le\; \sqrt{2\log K}

    Parameters
    ----------
    count
        ``K``, at least 1.

    Returns
    -------
    float
        Expectation, to about ten digits.

    Raises
    ------
    ValueError
        If the count is not positive.

    Examples
    --------
    >>> from sgdsim.bounds import expected_maximum_of_normals
    >>> round(expected_maximum_of_normals(2), 6), round(expected_maximum_of_normals(1000), 4)
    (0.56419, 3.2414)
    """
    _check_count(count)
    typical = math.sqrt(2.0 * math.log(count))
    # Beyond, the integrand is below K exp(-x^2/2) < 1e-16; a kink-free step lies near `typical`.
    end = typical + 9.0
    above, _ = quad(
        lambda x: -math.expm1(count * log_ndtr(x)), 0.0, end, points=(typical,), epsabs=1e-12
    )
    below, _ = quad(lambda x: math.exp(count * log_ndtr(x)), -9.0, 0.0, epsabs=1e-12)
    return above - below


def log_count_bound(deviation: float | int, count: int, size: int) -> float:
    r"""Bound the expected gap of the worst of ``K`` wells.

    .. math:: \mathrm E\max_{k \le K} g_k \le \sigma_g\sqrt{2\log K/n},
              \qquad g_k \sim N(0, \sigma_g^2/n)

    Parameters
    ----------
    deviation
        :math:`\sigma_g \ge 0`: standard deviation of the loss of one row, in units of the loss.
    count
        ``K``: number of wells, at least 1.
    size
        ``n``: number of training rows, at least 1.

    Returns
    -------
    float
        In units of the loss. Any dependence between the wells is allowed, and so are sub-Gaussian
        errors of that variance proxy.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> from sgdsim.bounds import log_count_bound
    >>> round(log_count_bound(1.0, 1000, 100), 4)
    0.3717
    """
    _check_count(count)
    if size < 1 or not 0.0 <= deviation < math.inf:
        raise ValueError(
            f"The bound on the worst well needs deviation in [0, inf) and size >= 1; got "
            f"deviation={deviation}, size={size}."
        )
    return deviation * math.sqrt(2.0 * math.log(count) / size)


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"The number of wells must be at least 1; got {count}.")
