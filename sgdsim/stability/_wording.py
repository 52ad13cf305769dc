"""The words of the verdict on the SDE."""

import numpy as np

from sgdsim.stability._gauges import Failure, SdeGauges
from sgdsim.stability._svag import SvagTest

_GAUGE = "eta*lambda_max/2"
_REMEDY = "use Gaussian SGD (h = eta)"


def describe(
    gauges: SdeGauges, nongaussian: np.ndarray, tolerance: float, svag: SvagTest | None
) -> str:
    """Say in one sentence where the SDE is valid, how it fails and what to use instead.

    Parameters
    ----------
    gauges
        Gauges of every probe.
    nongaussian
        Probes at which the noise of a batch is not Gaussian, shape ``(probe,)``.
    tolerance
        Relative error up to which the SDE is called valid.
    svag
        Test of an l-sweep, if there is one.
    """
    outcome = svag.outcome(tolerance) if svag is not None else None
    fails = bool(np.any(gauges.failure > Failure.NONE))
    judged = bool(np.any(gauges.failure >= Failure.NONE))
    if fails:
        text = _failing(gauges, tolerance)
    elif svag is not None and outcome == "changed":
        text = f"SDE invalid, because {_change(svag)} (z = {svag.z:.1f})"
        if judged:
            text += f", although {_range_of_gauge(gauges, tolerance)}"
    elif judged:
        text = _valid(gauges, tolerance)
    else:
        text = "SDE not judged: no probe has a finite, positive sharpness"
    if svag is not None and (fails or outcome != "changed"):
        text += f"; {_sweep(svag, tolerance, fails)}"
    invalid = fails or outcome == "changed"
    if invalid:
        text += f": {_REMEDY}"
    if np.any(nongaussian):
        text += (", or " if invalid else "; use ") + _tails(gauges, nongaussian)
    return f"{text}."


def _valid(gauges: SdeGauges, tolerance: float) -> str:
    judged = gauges.failure >= Failure.NONE
    number, total = int(np.sum(judged)), judged.size
    largest = float(np.max(gauges.edge[judged]))
    if total == 1:
        where = f"at step {_count(gauges.step[0])}"
    elif number == total:
        where = "throughout"
    else:
        where = f"at the {_count(number)} of {_count(total)} probes that could be judged"
    most = "at most " if number > 1 else ""
    text = (
        f"SDE valid {where}: {_range_of_gauge(gauges, tolerance)}; linearised, its stationary "
        f"variance along the sharpest direction is {most}{_percent(largest, tolerance)} too small"
    )
    unstable = gauges.mean_square_sde >= 1
    if np.any(unstable):
        worst = int(np.argmax(np.where(unstable, gauges.mean_square, -np.inf)))
        text += (
            f"; the linearised model with multiplicative noise has no stationary law at step "
            f"{_count(gauges.step[worst])}, neither for SGD (K = "
            f"{_number(gauges.mean_square[worst], 1.0)}) nor for the SDE (K = "
            f"{_number(gauges.mean_square_sde[worst], 1.0)})"
        )
    return text


def _range_of_gauge(gauges: SdeGauges, tolerance: float) -> str:
    known = gauges.edge[gauges.failure >= Failure.NONE]
    verb = "is at most" if known.size > 1 else "is"
    return f"{_GAUGE} {verb} {_number(np.max(known), tolerance)} (tolerance {tolerance:g})"


def _failing(gauges: SdeGauges, tolerance: float) -> str:
    failure = gauges.failure
    first = int(np.argmax(failure > Failure.NONE))
    before = np.flatnonzero(failure[:first] == Failure.NONE)
    later = failure[first:][failure[first:] >= Failure.NONE] > Failure.NONE
    share = ""
    if not np.all(later):
        failed, judged = _count(int(np.sum(later))), _count(later.size)
        share = f" (at {failed} of the {judged} probes judged from there on)"
    since = f"from step {_count(gauges.step[first])} on"
    kind = Failure(int(failure[first]))
    worst = Failure(int(np.max(failure)))
    if before.size:
        at = "at" if before.size == 1 else "until"
        most = "= " if before.size == 1 else "at most "
        text = (
            f"SDE valid {at} step {_count(gauges.step[before[-1]])} ({_GAUGE} {most}"
            f"{_number(np.max(gauges.edge[before]), tolerance)}, tolerance {tolerance:g}); "
            f"{since}{share} "
        )
    elif failure.size == 1:
        text = f"SDE invalid at step {_count(gauges.step[0])}, because "
    elif first == 0:
        text = (
            f"SDE invalid from the start (step {_count(gauges.step[0])}{_inner(share)}), because "
        )
    else:
        text = f"SDE invalid {since}, the first probe that could be judged{share}, because "
    text += _clause(kind, gauges, failure == kind, tolerance)
    if worst > kind:
        beyond = int(np.argmax(failure == worst))
        text += (
            f", and from step {_count(gauges.step[beyond])} on "
            f"{_clause(worst, gauges, failure == worst, tolerance)}"
        )
    return text


def _inner(share: str) -> str:
    return f"; {share.strip(' ()')}" if share else ""


def _clause(kind: Failure, gauges: SdeGauges, where: np.ndarray, tolerance: float) -> str:
    up_to = "up to " if np.sum(where) > 1 else ""
    if kind is Failure.EDGE:
        value = float(np.max(gauges.edge[where]))
        place = "beyond" if value > 1 else "at"
        return (
            f"{_GAUGE} is {up_to}{_number(value, 1.0)}, {place} the edge of stability 1, where SGD "
            "has no stationary law and the SDE still has one"
        )
    if kind is Failure.BATCH_EDGE:
        excess = float(np.max(gauges.batch_edge[where])) - 1
        place = f"exceeds 2/eta by {up_to}{_percent(excess)}" if excess > 0 else "is 2/eta"
        return (
            f"the batch sharpness {place}, the edge of stochastic stability, at which SGD holds it "
            "and the SDE need not"
        )
    if kind is Failure.MEAN_SQUARE:
        return _instability(gauges, where, up_to)
    if kind is Failure.EXCESS_RISK:
        error = float(np.max(gauges.excess_risk_error[where]))
        return (
            f"it underestimates the stationary excess risk of the linearised model by {up_to}"
            f"{_percent(error, tolerance)}"
        )
    return (
        "it underestimates the stationary variance along the sharpest direction by "
        f"{up_to}{_percent(float(np.max(gauges.edge[where])), tolerance)} (linearised)"
    )


def _instability(gauges: SdeGauges, where: np.ndarray, up_to: str) -> str:
    worst = int(np.argmax(np.where(where, gauges.mean_square, -np.inf)))
    sgd, sde = gauges.mean_square[worst], gauges.mean_square_sde[worst]
    size = f"{up_to or '= '}{_number(sgd, 1.0)}"
    return (
        f"SGD is mean-square unstable in the linearised model (K {size}, "
        f"stable below 1), while the SDE is not (K = {_number(sde, 1.0)} there)"
    )


def _sweep(svag: SvagTest, tolerance: float, fails: bool) -> str:
    outcome = svag.outcome(tolerance)
    if outcome == "changed":
        return f"the SVAG sweep confirms it ({_change(svag)}, z = {svag.z:.1f})"
    span = f"from SVAG l = {svag.smallest:g} to l = {svag.largest:g}"
    if outcome == "agrees":
        contrast = "yet " if fails else ""
        return f"{contrast}{span} the {svag.name} changes by less than {_percent(tolerance)}"
    return (
        f"the SVAG sweep cannot tell, because {span} the {svag.name} changes by "
        f"{svag.difference:.2g} +- {svag.stderr:.1g} of {svag.value:.3g}"
    )


def _change(svag: SvagTest) -> str:
    span = f"from SVAG l = {svag.smallest:g} to l = {svag.largest:g}"
    verb = "rises" if svag.difference > 0 else "falls"
    amount = (
        f"by {_percent(abs(svag.difference / svag.value))}"
        if svag.value
        else f"from 0 to {svag.difference:.2g}"
    )
    return f"{span} the {svag.name} {verb} {amount}"


def _tails(gauges: SdeGauges, nongaussian: np.ndarray) -> str:
    worst = int(np.argmax(np.where(nongaussian, np.abs(gauges.excess_kurtosis), -1.0)))
    kurtosis, step = f"{gauges.excess_kurtosis[worst]:.2g}", _count(gauges.step[worst])
    return (
        "minibatch SGD itself for exit probabilities and other tails, because the noise of a batch "
        f"is not Gaussian (excess kurtosis {kurtosis} at step {step})"
    )


def _count(number: np.integer | np.ndarray | int) -> str:
    return f"{int(number):,}"


def _number(value: float, limit: float) -> str:
    """Write a number with enough digits to tell it from the limit it is compared with."""
    return _digits(float(value), float(limit), 3)


def _percent(fraction: float, limit: float = np.nan) -> str:
    """Write a fraction as a percentage, without pretending to 0 or 100."""
    if 0 < fraction < 1e-4:
        return "less than 0.01 %"
    if 0.995 <= fraction < 1:
        return "more than 99 %"
    if fraction >= 1:
        return f"{100 * fraction:,.0f} %"
    return f"{_digits(100 * float(fraction), 100 * float(limit), 2)} %"


def _digits(value: float, limit: float, fewest: int) -> str:
    for digits in range(fewest, 17):
        text = f"{value:.{digits}g}"
        if value == limit or float(text) != limit:
            return text
    return f"{value!r}"
