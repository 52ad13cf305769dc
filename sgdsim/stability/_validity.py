"""The verdict of a run on its SDE: gauges at every probe, and one sentence to act on."""

import math
from dataclasses import dataclass

import numpy as np

from sgdsim.stability._gauges import Failure, SdeGauges, SdeProbes, form_gauges
from sgdsim.stability._mean_square import Numbers
from sgdsim.stability._svag import SvagTest
from sgdsim.stability._wording import describe


@dataclass(frozen=True, eq=False)
class SdeValidity:
    """Whether the SDE describes the run, from which step on it does not, and why.

    Attributes
    ----------
    gauges
        What was formed at every probe.
    valid
        ``True`` if no probe that could be judged fails and no SVAG sweep contradicts; ``None`` if
        no probe could be judged and no sweep contradicts.
    first_failing_step
        Step of the first probe that fails; ``None`` if none does.
    first_nongaussian_step
        Step of the first probe at which the noise of a batch is not Gaussian; ``None`` if it is
        nowhere seen. It leaves ``valid`` as it is: means and variances of the linearised dynamics
        do not depend on it, exit probabilities and other tails do.
    sentence
        The verdict in words.
    """

    gauges: SdeGauges
    valid: bool | None
    first_failing_step: int | None
    first_nongaussian_step: int | None
    sentence: str


def judge_sde(
    probes: SdeProbes,
    learning_rate: Numbers,
    batch_size: float | int | None = None,
    *,
    tolerance: float | int = 0.1,
    kurtosis_tolerance: float | int = 0.4,
    svag: SvagTest | None = None,
) -> SdeValidity:
    r"""Judge whether the SDE describes SGD along a run.

    A probe fails, from the mildest to the most severe, if

    1. :math:`\eta\lambda_{\max}/2` exceeds the tolerance: by that fraction the SDE underestimates
       the stationary variance along the sharpest direction (additive noise, linearised);
    2. the SDE underestimates the stationary excess risk :math:`K/(1-K)` of the linearised model by
       more than the tolerance;
    3. ``K >= 1`` for SGD and not for the SDE: only SGD is mean-square unstable in the linearised
       model;
    4. the batch sharpness is at or beyond :math:`2/\eta`, the edge of stochastic stability;
    5. :math:`\lambda_{\max}` is at or beyond :math:`2/\eta`, the edge of stability.

    SGD and Gaussian SGD (``h = eta``) have these edges; the SDE (Ito, time ``t = eta k``) has only
    that of ``K``, and at a larger ``eta``.

    Parameters
    ----------
    probes
        What was measured, for one trajectory or as the worst over an ensemble.
    learning_rate
        ``eta``, one number or one per probe.
    batch_size
        Rows per batch; without it the mean-square gauge ``K`` is not formed.
    tolerance
        Relative error of a stationary second moment, or relative change along the SVAG sweep, up
        to which the SDE is called valid.
    kurtosis_tolerance
        Excess kurtosis of the noise of a batch up to which it is called Gaussian. At 0.4 the
        probability of three standard deviations is off by a factor of two (Edgeworth).
    svag
        Result of :func:`svag_sweep_test`, the only evidence here that is not linearised.

    Raises
    ------
    ValueError
        If a learning rate, the batch size or a tolerance is not a positive number, or the learning
        rates are not one per probe.

    Notes
    -----
    The gauges are those of plain SGD on the frozen Hessian, ``K`` also of Gaussian features: they
    say where the two processes must part, not by how much they part on a network. Without a
    complete spectrum the lower bound of ``K`` is used.

    Examples
    --------
    >>> from sgdsim.stability import SdeProbes, judge_sde
    >>> probes = SdeProbes(step=[0, 1000, 2000], sharpness=[0.1, 0.3, 1.16])
    >>> print(judge_sde(probes, 0.5).sentence)  # doctest: +NORMALIZE_WHITESPACE
    SDE valid until step 1,000 (eta*lambda_max/2 at most 0.075, tolerance 0.1); from step 2,000 on
    it underestimates the stationary variance along the sharpest direction by 29 % (linearised):
    use Gaussian SGD (h = eta).
    """
    for name, value in (
        ("tolerance", tolerance),
        ("kurtosis_tolerance", kurtosis_tolerance),
        ("batch_size", batch_size),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive finite number, got {value!r}.")
    rates = np.asarray(learning_rate, dtype=np.float64)
    if rates.shape not in ((), np.shape(probes.step)) or not np.all(
        np.isfinite(rates) & (rates > 0)
    ):
        raise ValueError(
            "learning_rate must be one positive finite number, or one for each of the "
            f"{np.size(probes.step)} probe steps, got {rates.tolist()}."
        )
    gauges = form_gauges(probes, rates, batch_size, tolerance)
    fails = gauges.failure > Failure.NONE
    nongaussian = np.abs(gauges.excess_kurtosis) > kurtosis_tolerance
    contradicted = svag is not None and svag.outcome(tolerance) == "changed"
    judged = bool(np.any(gauges.failure >= Failure.NONE))
    return SdeValidity(
        gauges=gauges,
        valid=False if np.any(fails) or contradicted else (True if judged else None),
        first_failing_step=_first(gauges.step, fails),
        first_nongaussian_step=_first(gauges.step, nongaussian),
        sentence=describe(gauges, nongaussian, tolerance, svag),
    )


def _first(steps: np.ndarray, where: np.ndarray) -> int | None:
    return int(steps[where][0]) if np.any(where) else None
