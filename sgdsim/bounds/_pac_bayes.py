r"""Certificates PB: PAC-Bayes bounds of networks with normal weights around the iterate.

The posterior is :math:`Q_j=N(\theta,s_j^2I)` for deviations :math:`s_1,\dots,s_J` that are fixed
in advance, the prior :math:`P_i=N(\theta_p,\lambda_iI)` with :math:`\theta_p` the initialisation,
or (``-data``) a minimum on rows that are independent of the training rows. With ``p`` weights and
:math:`D=\|\theta-\theta_p\|`,

.. math::
    \mathrm{KL}(Q_j\|P_i) = \frac12\Big[p\Big(\frac{s_j^2}{\lambda_i}-1-\ln\frac{s_j^2}{\lambda_i}
    \Big)+\frac{D^2}{\lambda_i}\Big].

**Union over the priors.** :math:`\lambda_i=10\,e^{-i/100}` for all :math:`i\ge1`. The i-th prior
gets the share :math:`6/(\pi^2i^2)` of the failure probability; these shares add up to 1. As every
inequality contains :math:`\mathrm{KL}-\ln\delta`, this adds :math:`\ln(\pi^2i^2/6)` to the
divergence. The variance of least divergence is :math:`s_j^2+D^2/p`; the ``i`` next to it is taken.
(The inequality holds for all ``i`` at once, so any choice is allowed. Rounding costs about
:math:`p/(16\cdot100^2)`; the price, which changes slowly with ``i``, is left out of the choice.)

**No union over the deviations** is needed in the PAC-Bayes inequality, which holds for all
posteriors at once.

**Monte Carlo.** The Gibbs error on the training rows :math:`\hat L(Q_j)` is not known, only the
mean :math:`\bar q_j` of ``m`` independent draws of a number in [0, 1]. By Chernoff's bound
:math:`\hat L(Q_j)\le\mathrm{kl}^{-1}(\bar q_j,\ln(1/\delta')/m)` with probability
:math:`1-\delta'`. (The bound is used on one side only; the literature often writes
:math:`\ln(2/\delta')`.) The probability is over the draws given the iterate, for one iterate.

**Budget.** Half of :math:`\delta` for the PAC-Bayes inequality; half for the draws, divided by
``J``: :math:`\delta'=\delta/(2J)`. Every inequality grows with the error, so the limit is put in
its place.

**Value.** The certificate of the risk :math:`L(Q_j)` is smallest at one scale ``j``
(``best_scale``); the value is this smallest risk less the measured :math:`\bar q_j`, a bound on the
gap of the stochastic network of that scale. ``J`` events being paid for, the choice is free.
"""

import math

import numpy as np
from jaxtyping import Float, Int

from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._logdomain import log
from sgdsim.bounds._pac_bayes_kl import kl_inverse, pac_bayes_bound
from sgdsim.bounds._types import COMMON_ASSUMPTIONS, Certificate, Evaluation, settle

PRIOR_LARGEST_VARIANCE = 10.0
PRIOR_STEPS_PER_E = 100.0

_SUFFIX = "-data"


def _squared_distance(inputs: BoundInputs, data_dependent: bool) -> Float[np.ndarray, "..."]:
    """Squared distance of the iterate from the mean of the prior."""
    with np.errstate(over="ignore"):
        if data_dependent:
            assert inputs.radius is not None  # the registry asks for what a certificate needs
            return np.asarray(inputs.radius**2)
        assert inputs.initial is not None
        return np.asarray(inputs.initial.radius**2)


def paid_divergence(
    squared_distance: Float[np.ndarray, "..."],
    deviations: Float[np.ndarray, " scale"],
    parameters: int,
) -> Float[np.ndarray, "... scale"]:
    r"""Divergence from the best prior plus the price :math:`\ln(\pi^2i^2/6)` of choosing it.

    Parameters
    ----------
    squared_distance
        :math:`D^2`, finite, shape ``(...)``.
    deviations
        :math:`s_j`, shape ``(scale,)``.
    parameters
        Number ``p`` of weights.
    """
    distance, variance = squared_distance[..., None], deviations**2
    best = variance + distance / parameters
    steps = np.rint(PRIOR_STEPS_PER_E * np.log(PRIOR_LARGEST_VARIANCE / best))
    index = np.maximum(steps, 1.0)
    prior = PRIOR_LARGEST_VARIANCE * np.exp(-index / PRIOR_STEPS_PER_E)
    ratio = variance / prior
    divergence = 0.5 * (parameters * (ratio - 1.0 - np.log(ratio)) + distance / prior)
    return np.asarray(divergence + math.log(math.pi**2 / 6.0) + 2.0 * np.log(index))


def _risks(
    kind: str, inputs: BoundInputs, data_dependent: bool
) -> tuple[Float[np.ndarray, "... scale"], Float[np.ndarray, "... scale"]]:
    """Certificate of the risk at every scale, infinite where there is none, and divergence."""
    gibbs = inputs.gibbs
    assert gibbs is not None  # the registry asks for what a certificate needs
    half = 0.5 * inputs.failure_probability
    squared = _squared_distance(inputs, data_dependent)
    known = np.isfinite(squared)[..., None] & np.isfinite(gibbs.training)
    divergence = paid_divergence(
        np.where(np.isfinite(squared), squared, 0.0), gibbs.deviations, gibbs.parameters
    )
    draws = math.log(gibbs.deviations.size / half) / gibbs.draws
    training = kl_inverse(np.where(known, gibbs.training, 0.0), draws)
    risk = pac_bayes_bound(kind, training, divergence, inputs.sample.size, half)
    return np.asarray(np.where(known, risk, np.inf)), divergence


def _evaluate(kind: str, inputs: BoundInputs, data_dependent: bool) -> Evaluation:
    gibbs = inputs.gibbs
    assert gibbs is not None
    risk, divergence = _risks(kind, inputs, data_dependent)
    scale = np.argmin(risk, axis=-1)[..., None]
    smallest, error, chosen = (
        np.take_along_axis(np.broadcast_to(array, risk.shape), scale, axis=-1)[..., 0]
        for array in (risk, gibbs.training, divergence)
    )
    known = np.isfinite(smallest)
    weights = inputs.iterate.parameter_count
    undrawn = np.full(inputs.lead, gibbs.parameters != weights)
    return settle(
        log(np.where(known, smallest - error, np.nan)),
        {
            "norms not finite": np.asarray(~inputs.finite),
            f"{gibbs.parameters} of {weights} weights are drawn": undrawn,
            "no scale has a Gibbs error": np.asarray(~known),
        },
        {
            "constant": 0.5 * math.log(0.5),
            "divergence": 0.5 * np.log(chosen),
            "size": -0.5 * math.log(inputs.sample.size),
        },
    )


def best_scale(name: str, inputs: BoundInputs) -> Int[np.ndarray, "..."]:
    r"""Find the scale of the posterior at which a PAC-Bayes certificate is evaluated.

    .. math:: j^* = \arg\min_j \mathrm{risk}(Q_j)

    Parameters
    ----------
    name
        Name of a certificate that starts with ``PB-``.
    inputs
        What the certificate needs.

    Returns
    -------
    array
        Index into ``inputs.gibbs.deviations``, shape ``(...)``; -1 where no scale has a Gibbs
        error. The gap to compare the certificate with is that of the errors of this index.

    Raises
    ------
    ValueError
        If there is no PAC-Bayes certificate of that name, or something that it needs is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.bounds import (
    ...     BoundInputs, GeometricGrid, GibbsErrors, TrainingSample, best_scale, certificate,
    ...     layer_distances, layer_norms,
    ... )
    >>> initial, iterate = [np.eye(3)], [1.1 * np.eye(3)]
    >>> inputs = BoundInputs(
    ...     iterate=layer_norms(iterate),
    ...     initial=layer_distances(iterate, initial),
    ...     sample=TrainingSample(size=1000, input_bound=1.0, frobenius=30.0),
    ...     margin=1.0,
    ...     failure_probability=0.05,
    ...     grid=GeometricGrid(low=1e-3, high=1e4, ratio=1.1),
    ...     gibbs=GibbsErrors(
    ...         deviations=np.array([0.01, 0.1, 1.0]),
    ...         training=np.array([0.02, 0.03, 0.4]),
    ...         draws=1000,
    ...         parameters=9,
    ...     ),
    ... )
    >>> int(best_scale("PB-kl", inputs)), round(float(certificate("PB-kl")(inputs).value), 4)
    (1, 0.0798)
    """
    names = [entry.name for entry in GIBBS_CERTIFICATES]
    if name not in names:
        raise ValueError(
            f"{name!r} is no PAC-Bayes certificate with a scale; these are {', '.join(names)}."
        )
    missing = inputs.missing(GIBBS_CERTIFICATES[names.index(name)].needs)
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}, which the inputs do not have.")
    kind = name.removeprefix("PB-").removesuffix(_SUFFIX)
    risk, _ = _risks(kind, inputs, name.endswith(_SUFFIX))
    return np.asarray(np.where(np.isfinite(risk).any(axis=-1), np.argmin(risk, axis=-1), -1))


_RISKS = {
    "kl": "klinv(q, (KL + ln(4 sqrt(n)/delta))/n)",
    "McAllester": "q + sqrt((KL + ln(4 sqrt(n)/delta))/(2n))",
    "Catoni": "min_a (1 - exp(-a q - (KL + ln(128/delta))/n))/(1 - exp(-a)), 64 fixed values of a",
    "quad": "(sqrt(q + k) + sqrt(k))^2, k = (KL + ln(4 sqrt(n)/delta))/(2n)",
}
_SOURCES = {
    "kl": "Maurer 2004, arXiv:cs/0411099, Theorem 5",
    "McAllester": "McAllester 1999, with the constant of Maurer 2004, arXiv:cs/0411099, Theorem 5",
    "Catoni": "Catoni 2007, arXiv:0712.0248, Theorem 1.2.6; union over the parameter: this project",
    "quad": (
        "Rivasplata, Tankasali & Szepesvari 2019, arXiv:1908.07380; equal to the bound of "
        "Thiemann, Igel, Wintenberger & Seldin 2017, arXiv:1608.05610, at its best parameter"
    ),
}


def _certificate(kind: str, data_dependent: bool) -> Certificate:
    centre = "minimum on reference rows" if data_dependent else "initialisation"
    return Certificate(
        name=f"PB-{kind}{_SUFFIX if data_dependent else ''}",
        formula=(
            f"risk - qbar, risk = {_RISKS[kind]}, q = klinv(qbar, ln(2J/delta)/m), "
            "KL = 1/2 [p (s^2/l - 1 - ln(s^2/l)) + D^2/l] + ln(pi^2 i^2/6), l = 10 exp(-i/100), "
            f"D = distance from the {centre}, at the s of least risk"
        ),
        source=(
            f"{_SOURCES[kind]}; variances of the prior after Dziugaite & Roy 2017, "
            "arXiv:1703.11008; Monte-Carlo limit after Langford & Caruana 2001"
        ),
        statement=(
            "with probability 1 - delta over the training rows and the draws of the weights, for "
            "each iterate on its own, for all deviations s at once: population Gibbs loss minus "
            "the measured mean qbar"
        ),
        population_loss="gibbs",
        empirical_loss="gibbs",
        fixed_in_advance=f"{centre}, deviations s, number of draws",
        union_bound="variance of the prior (index i); Monte-Carlo limits at J deviations",
        assumptions=(
            COMMON_ASSUMPTIONS[0],
            "the draws of the weights are independent of each other and of the training rows, "
            "given the iterate",
            f"the {centre} is independent of the training rows",
        ),
        evaluate=lambda inputs: _evaluate(kind, inputs, data_dependent),
        needs=("reference", "radius", "gibbs") if data_dependent else ("initial", "gibbs"),
        invariances=(),
    )


#: PAC-Bayes certificates around the initialisation, then around the reference minimum.
GIBBS_CERTIFICATES = tuple(
    _certificate(kind, data_dependent) for data_dependent in (False, True) for kind in _RISKS
)
