r"""PAC-Bayes inequalities for errors in [0, 1], from plain arrays.

For a prior ``P`` fixed before ``n`` independent rows are drawn, with probability :math:`1-\delta`
for all posteriors ``Q`` at once,

.. math::
    \mathrm{kl}(\hat L(Q)\,\|\,L(Q)) \le \epsilon :=
    \frac{\mathrm{KL}(Q\|P) + \ln(2\sqrt n/\delta)}{n}

(Maurer 2004: :math:`\mathrm E e^{n\,\mathrm{kl}(\hat L\|L)}\le2\sqrt n` for one network; change of
measure, convexity of kl, Markov). Everything called ``kl``, ``McAllester``, ``quad`` and
``lambda`` follows from it without any further probability:

* McAllester: :math:`\mathrm{kl}(q\|p)\ge2(p-q)^2`.
* quad, lambda: :math:`\mathrm{kl}(q\|p)\ge(p-q)^2/(2p)` for :math:`q\le p`, hence
  :math:`p-q\le\sqrt{2p\epsilon}\le\lambda p/2+\epsilon/\lambda`. The first inequality solved for
  ``p`` is quad; the second is lambda, for all :math:`\lambda\in(0,2)` at once, and its minimum over
  :math:`\lambda` is quad again.

Catoni's bound is another one. For a parameter :math:`a>0` fixed in advance,
:math:`\mathrm E e^{-a\ell}\le1-L(1-e^{-a})` by convexity, hence
:math:`-\ln(1-L(Q)(1-e^{-a}))\le a\hat L(Q)+(\mathrm{KL}+\ln(1/\delta))/n`. The best of
``CATONI_PARAMETERS`` values of ``a``, fixed by ``n``, costs the logarithm of their number.
"""

import math
from difflib import get_close_matches

import numpy as np
from jaxtyping import Float

#: The inequalities.
KINDS = ("kl", "McAllester", "Catoni", "quad", "lambda")

Numbers = Float[np.ndarray, "..."] | float | int

#: Number of values of Catoni's parameter among which the best is chosen.
CATONI_PARAMETERS = 64

# Halves the bracket below the distance of neighbouring floats.
_HALVINGS = 60


def kl_inverse(error: Numbers, budget: Numbers) -> Float[np.ndarray, "..."]:
    r"""Find the largest mean that a mean of numbers in [0, 1] is compatible with.

    .. math::
        \sup\{p\ge q:\ q\ln\tfrac qp+(1-q)\ln\tfrac{1-q}{1-p}\le c\}

    Parameters
    ----------
    error
        ``q`` in [0, 1].
    budget
        ``c``, at least 0, in nats; broadcasts against ``q``.

    Returns
    -------
    array
        In [q, 1], float64; the upper end of the last bracket. nan stays nan.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    With :math:`c=\ln(1/\delta)/m` and the mean ``q`` of ``m`` independent numbers in [0, 1] it is
    not below their expectation with probability :math:`1-\delta` (Chernoff). Pinsker's inequality
    gives the bracket, which is halved until it is shorter than the distance of two floats.

    Examples
    --------
    >>> from sgdsim.bounds import kl_inverse
    >>> round(float(kl_inverse(0.1, 0.05)), 6), round(float(kl_inverse(0.0, 0.05)), 6)
    (0.220079, 0.048771)
    """
    q, c = np.broadcast_arrays(np.asarray(error, np.float64), np.asarray(budget, np.float64))
    if ((q < 0.0) | (q > 1.0)).any() or (c < 0.0).any():
        raise ValueError(
            "kl_inverse needs errors from 0 to 1 and budgets of at least 0; got errors from "
            f"{q.min()} to {q.max()} and budgets from {c.min()}."
        )
    # Pinsker's inequality brackets the answer.
    low, high = np.zeros_like(q), np.minimum(1.0 - q, np.sqrt(0.5 * c))
    for _ in range(_HALVINGS):
        middle = np.asarray(0.5 * (low + high))
        inside = _divergence_at(q, middle) <= c
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(np.where(np.isnan(q + c), np.nan, np.minimum(q + high, 1.0)))


def _divergence_at(
    q: Float[np.ndarray, "..."], step: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Binary divergence of q from q + step, without cancellation for small steps."""
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(q > 0.0, -q * np.log1p(step / q), 0.0)
        right = np.where(q < 1.0, -(1.0 - q) * np.log1p(-step / (1.0 - q)), 0.0)
    return np.asarray(error + right)


def gaussian_kl(
    mean_difference_squared: Float[np.ndarray, "... p"],
    posterior_variances: Float[np.ndarray, "... p"] | float | int,
    prior_variances: Float[np.ndarray, "... p"] | float | int,
) -> Float[np.ndarray, "..."]:
    r"""Divergence of one normal law from another, both with independent coordinates.

    .. math::
        \mathrm{KL} = \tfrac12\sum_i\Big[\frac{s_i}{\lambda_i}-1-\ln\frac{s_i}{\lambda_i}
        +\frac{(m_i-\mu_i)^2}{\lambda_i}\Big]

    Parameters
    ----------
    mean_difference_squared
        :math:`(m_i-\mu_i)^2`, shape ``(..., p)``.
    posterior_variances, prior_variances
        :math:`s_i` and :math:`\lambda_i`, positive; shape ``(..., p)`` or a number.

    Returns
    -------
    array
        Shape ``(...)``, in nats.

    Raises
    ------
    ValueError
        If a variance is not positive.

    Notes
    -----
    The sum over independent coordinates of the textbook formula for one of them.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import gaussian_kl
    >>> float(gaussian_kl(np.array([1.0, 3.0]), 1.0, 1.0))
    2.0
    """
    s, prior = np.asarray(posterior_variances), np.asarray(prior_variances)
    if not ((s > 0.0).all() and (prior > 0.0).all()):
        raise ValueError(
            f"Variances must be positive; got a smallest one of {s.min()} and {prior.min()}."
        )
    ratio = s / prior
    return np.asarray(
        0.5 * np.sum(ratio - 1.0 - np.log(ratio) + mean_difference_squared / prior, axis=-1)
    )


def pac_bayes_bound(
    kind: str, training_error: Numbers, divergence: Numbers, size: int, failure_probability: float
) -> Float[np.ndarray, "..."]:
    r"""Bound the population error of a network whose weights are drawn from a posterior.

    .. math::
        \begin{aligned}
        \text{kl:}\quad & \sup\{p:\ \mathrm{kl}(\hat L\|p)\le\epsilon\},\qquad
        \epsilon = \big(\mathrm{KL}+\ln(2\sqrt n/\delta)\big)/n\\
        \text{McAllester:}\quad & \hat L+\sqrt{\epsilon/2}\\
        \text{quad:}\quad & \big(\sqrt{\hat L+\epsilon/2}+\sqrt{\epsilon/2}\big)^2\\
        \text{lambda:}\quad & \min_{0<\lambda<2}\Big[\frac{\hat L}{1-\lambda/2}
        +\frac{\epsilon}{\lambda(1-\lambda/2)}\Big]\\
        \text{Catoni:}\quad & \min_{a}\frac{1-\exp\big(-a\hat L-(\mathrm{KL}+\ln(64/\delta))/n\big)}
        {1-e^{-a}},\quad a\text{ among 64 values from }1/n\text{ to }32
        \end{aligned}

    Parameters
    ----------
    kind
        Which inequality: ``"kl"``, ``"McAllester"``, ``"quad"``, ``"lambda"`` or ``"Catoni"``.
    training_error
        :math:`\hat L(Q)` in [0, 1], the mean error on the training rows, or an upper confidence
        limit of it: every inequality grows with it.
    divergence
        :math:`\mathrm{KL}(Q\|P)` in nats, at least 0, plus the logarithm of whatever a union bound
        over priors pays for.
    size
        Number ``n`` of training rows.
    failure_probability
        :math:`\delta`.

    Returns
    -------
    array
        Bound on :math:`L(Q)`; not clipped, so that it may exceed 1.

    Raises
    ------
    ValueError
        If the inequality is unknown or a number is out of range.

    Notes
    -----
    Holds with probability :math:`1-\delta` over the training rows for all posteriors at once; the
    prior is fixed in advance, the loss lies in [0, 1], the rows are independent draws of one
    distribution. Sources: Maurer 2004 (arXiv:cs/0411099), Theorem 5; McAllester 1999; Thiemann,
    Igel, Wintenberger and Seldin 2017 (arXiv:1608.05610); Catoni 2007, Theorem 1.2.6.

    Examples
    --------
    >>> from sgdsim.bounds import pac_bayes_bound
    >>> for kind in ("kl", "McAllester", "Catoni", "quad"):
    ...     print(kind, round(float(pac_bayes_bound(kind, 0.02, 50.0, 10_000, 0.05)), 4))
    kl 0.039
    McAllester 0.074
    Catoni 0.0388
    quad 0.0422
    """
    error, divergence = np.asarray(training_error, np.float64), np.asarray(divergence, np.float64)
    _check(kind, error, divergence, size, failure_probability)
    if kind == "Catoni":
        return _catoni(error, divergence, size, failure_probability)
    epsilon = (divergence + math.log(2.0 * math.sqrt(size) / failure_probability)) / size
    if kind == "kl":
        return kl_inverse(error, epsilon)
    if kind == "McAllester":
        return np.asarray(error + np.sqrt(0.5 * epsilon))
    if kind == "quad":
        return np.asarray((np.sqrt(error + 0.5 * epsilon) + np.sqrt(0.5 * epsilon)) ** 2)
    best = 2.0 / (np.sqrt(2.0 * error / epsilon + 1.0) + 1.0)
    return np.asarray((error + epsilon / best) / (1.0 - 0.5 * best))


def _catoni(
    error: Float[np.ndarray, "..."],
    divergence: Float[np.ndarray, "..."],
    size: int,
    failure_probability: float,
) -> Float[np.ndarray, "..."]:
    parameters = np.geomspace(1.0 / size, 32.0, CATONI_PARAMETERS)
    cost = (divergence + math.log(CATONI_PARAMETERS / failure_probability)) / size
    exponent = parameters * np.asarray(error)[..., None] + np.asarray(cost)[..., None]
    return np.asarray(np.min(np.expm1(-exponent) / np.expm1(-parameters), axis=-1))


def _check(
    kind: str,
    error: Float[np.ndarray, "..."],
    divergence: Float[np.ndarray, "..."],
    size: int,
    failure_probability: float,
) -> None:
    if kind not in KINDS:
        close = get_close_matches(kind, KINDS, 1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"Unknown PAC-Bayes bound {kind!r}; the bounds are {', '.join(KINDS)}.{hint}"
        )
    if ((error < 0.0) | (error > 1.0)).any() or (divergence < 0.0).any():
        raise ValueError(
            "A PAC-Bayes bound needs errors from 0 to 1 and divergences of at least 0; got errors "
            f"from {error.min()} to {error.max()} and divergences from {divergence.min()}."
        )
    if size < 1 or not 0.0 < failure_probability < 1.0:
        raise ValueError(
            "size must be at least 1 and failure_probability in (0, 1); got "
            f"{size} and {failure_probability}."
        )
