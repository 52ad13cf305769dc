"""How long the trajectories of a case stayed: shares, rates, tests of the exit times."""

import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Key

from sgdsim.runs._case_result import CaseResult
from sgdsim.scenario import Splitting as SplittingTable
from sgdsim.stagnation import (
    Splitting,
    exit_rate,
    exponentiality_test,
    interior_radius,
    monte_carlo_exit,
    quasi_stationarity_test,
    splitting_exit_probability,
    stay_probability,
    stay_report,
)

#: Relaxation times before the exit rate is expected to be constant.
_BURN_IN = 5.0
#: Folded into the key of a case, where no trajectory has this number.
_SPLITTING = 2**32 - 1


def survival_values(
    result: CaseResult, looks: Int[np.ndarray, " look"], confidence: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Stay probability, exit rate, mean exit time and their tests, with a sentence.

    Returns
    -------
    values
        Variables of ``/exits`` by name; none of them where a trajectory starts outside.
    sentences
        What was counted, or why nothing was, by topic.
    """
    if result.starts_outside:
        outside = int(np.count_nonzero(np.asarray(result.track.entry_step) != 0))
        sentence = (
            f"{outside} trajectories start outside the set: to stay is conditional on a start "
            "inside, so nothing is said about it"
        )
        return {}, {"outside": sentence}
    exits = result.exits
    stay, low, high = stay_probability(exits, looks, confidence)
    count = int(np.count_nonzero(exits > 0))
    exposure = float(np.where(exits > 0, exits, result.steps).sum())
    rate = exit_rate(count, exposure, confidence)
    eta = float(result.case.dynamics.learning_rate)
    times = [eta / x if x > 0 else math.inf for x in (rate.rate, rate.high, rate.low)]
    burn_in = _burn_in(result)
    tests = [
        test(exits, result.steps, burn_in).p_value if burn_in < result.steps else math.nan
        for test in (quasi_stationarity_test, exponentiality_test)
    ]
    values = {
        "stay_probability": stay,
        "stay_probability_low": low,
        "stay_probability_high": high,
        "exit_count": count,
        "exit_rate": rate.rate,
        "exit_rate_low": rate.low,
        "exit_rate_high": rate.high,
        "mean_exit_time": times[0],
        "mean_exit_time_low": times[1],
        "mean_exit_time_high": times[2],
        "quasi_stationarity_p_value": tests[0],
        "exponentiality_p_value": tests[1],
    }
    report = stay_report(
        result.track, result.steps, confidence, interior_radius(result.bench.region)
    )
    for name, share in (("any_basin", report.any_basin), ("same_basin", report.same_basin)):
        values |= {f"{name}_stay": share.value, f"{name}_stay_low": share.low}
        values[f"{name}_stay_high"] = share.high
    values["interior_radius"] = report.interior.radius
    values["positive"] = np.int8(report.positive)
    counted = monte_carlo_exit(count, exits.size, confidence)
    topic = "counted" if counted.reachable else "unreachable"
    sentences = {topic: counted.sentence}
    if not report.positive:
        sentences["not positive"] = report.not_positive
    return values, sentences


def rare_exit_values(
    result: CaseResult, table: SplittingTable, key: Key[Array, ""], confidence: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Exit probability of the whole run by importance splitting; the key is that of the case."""
    bench = result.bench
    own = jax.random.fold_in(key, _SPLITTING)
    splitting = Splitting(particles=table.particles, replicas=table.replicas, seed=own)
    found = splitting_exit_probability(
        bench.problem,
        bench.stepper,
        bench.region,
        jax.tree.map(lambda a: a[0], bench.starts),
        result.steps,
        splitting,
        confidence,
    )
    values = {
        "rare_exit_probability": found.probability,
        "rare_exit_probability_low": found.low,
        "rare_exit_probability_high": found.high,
        "rare_exit_relative_error": found.relative_error,
    }
    return values, {"split": found.sentence}


def _burn_in(result: CaseResult) -> int:
    """Give some relaxation times of the slowest direction, at most half the run; 0 if unknown."""
    curvature = result.bench.known.curvature
    if curvature is None or curvature.modulus <= 0:
        return 0
    rate = float(result.case.dynamics.learning_rate) * curvature.modulus
    return min(math.ceil(_BURN_IN / rate), result.steps // 2)
