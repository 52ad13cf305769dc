"""After the last step: stay probability and its bounds, basins, what is said in words."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Bool

from sgdsim.bounds import combined_statement
from sgdsim.problems import ClassificationTask, Network, cast, squared_norm
from sgdsim.runs._bounds import Certifier
from sgdsim.runs._complete import NOT_JUDGED
from sgdsim.runs._constants import BallConstants
from sgdsim.runs._evidence import EvidenceBounds
from sgdsim.runs._final_basins import final_basins
from sgdsim.runs._plain import is_plain
from sgdsim.runs._prepare import Setting
from sgdsim.runs._provenance import recorded_steps
from sgdsim.runs._stay_statements import Around, stay_bounds
from sgdsim.scenario import StagnationScenario
from sgdsim.stability import SdeProbes, judge_sde
from sgdsim.stagnation import stagnation_number, stationary_radius, stay_probability
from sgdsim.store import PointStore

_CONDITIONAL = (
    "The stay probability is conditional on the training rows: the set is a ball around the "
    "minimum of the penalised empirical risk itself, so gradient and Hessian deviation "
    "(eps_n, omega_n) are zero in S2."
)


class Outcome(NamedTuple):
    """What the simulation leaves behind for its evaluation.

    Attributes
    ----------
    setting
        What the preparation found.
    constants
        Worst constants over sampled and visited points.
    theta
        Final iterates with a leading trajectory axis.
    diverged
        Which of them are lost.
    """

    setting: Setting
    constants: BallConstants
    theta: Network
    diverged: Bool[np.ndarray, " trajectory"]


def evaluate_stagnation(
    scenario: StagnationScenario,
    task: ClassificationTask,
    outcome: Outcome,
    store: PointStore,
    stage: Callable[[str], None],
) -> None:
    """Complete the dataset: stay probabilities, their bounds, basins, statements, claims.

    Parameters
    ----------
    scenario, task
        What ran.
    outcome
        What the simulation left behind.
    store
        Dataset of the point.
    stage
        Says what goes on.
    """
    stage("evaluating bounds and claims")
    tree = store.tree()
    steps = recorded_steps(scenario)
    store.write("stagnation", _survival(scenario, tree, steps))
    store.write("stagnation", _spread(tree))
    setting = outcome.setting
    around = _around(scenario, outcome, tree)
    stay = stay_bounds(scenario, task, around)
    store.write("stagnation", stay.values | _constants(outcome.constants, around))
    store.write("stagnation", _regime(scenario, task, around, tree))
    stage("following final iterates to their minima")
    basins, basin_sentence = final_basins(
        scenario, task, setting.centre, outcome.theta, outcome.diverged
    )
    store.write("stagnation", basins)
    store.set_attrs(
        {
            "stay_statement": (
                f"{_CONDITIONAL} Radius: {_radius_origin(scenario, task, setting)}. "
                f"Certificate: {stay.sentences['certificate']} "
                f"Plug-in: {stay.sentences['plug-in']}"
            ),
            "combined_statement": _combined(Certifier(scenario, task, setting), stay),
            "convexity_statement": _convexity_sentence(tree),
            "basin_statement": basin_sentence,
            "verdict": _verdict(scenario, tree["curvature"].to_dataset()),
        }
    )


def _verdict(scenario: StagnationScenario, curvature: xr.Dataset) -> str:
    """Judge whether the SDE describes the run, by the worst trajectory at every probe."""
    dynamics = scenario.dynamics
    if not (is_plain(dynamics) or dynamics.kind == "gd"):
        return NOT_JUDGED
    sharpness = curvature["hessian_eigenvalue"].sel(eigen="largest").max("trajectory")
    probes = SdeProbes(
        step=np.asarray(curvature["probe"]),
        sharpness=np.asarray(sharpness),
        batch_sharpness=np.asarray(curvature["batch_sharpness"].max("trajectory")),
        # Hutchinson's estimate is noisy: the largest of many would be biased.
        trace=np.asarray(curvature["hessian_trace"].mean("trajectory")),
    )
    batch_size = getattr(dynamics, "batch_size", None)
    return judge_sde(probes, dynamics.learning_rate, batch_size).sentence


def _radius_origin(scenario: StagnationScenario, task: ClassificationTask, setting: Setting) -> str:
    if scenario.stagnation.radius != "auto":
        return "as given"
    target = scenario.stagnation.failure_probability
    if task.known_curvature(setting.centre):
        modulus = "the proved strong convexity"
    else:
        modulus = "a modulus fitted to the linearised dynamics (a sensible set, no guarantee)"
    return f"formula (6.3) for the target probability {target:g}, an asymptotic one, with {modulus}"


def _survival(
    scenario: StagnationScenario, tree: xr.DataTree, steps: np.ndarray
) -> dict[str, np.ndarray]:
    exits = np.asarray(tree["stagnation"].to_dataset()["exit_step"])
    stay, low, high = stay_probability(exits, steps, scenario.stagnation.confidence)
    return {
        "stay_probability": stay,
        "stay_probability_low": low,
        "stay_probability_high": high,
    }


def _spread(tree: xr.DataTree) -> dict[str, np.ndarray]:
    """Mean squared distance over the trajectories that have not diverged, with standard error."""
    squares = tree["trajectory"].to_dataset()["distance"].astype(np.float64) ** 2
    count = squares.notnull().sum("trajectory")
    mean = squares.mean("trajectory").where(count > 0)
    stderr = (squares.std("trajectory", ddof=1) / np.sqrt(count)).where(count > 1)
    return {
        "mean_squared_distance_ensemble": np.asarray(mean),
        "mean_squared_distance_stderr": np.asarray(stderr),
    }


def _around(scenario: StagnationScenario, outcome: Outcome, tree: xr.DataTree) -> Around:
    centre = outcome.setting.centre
    start = cast(cast(centre, scenario.compute.precision), jnp.float64)
    offset = jax.tree.map(lambda a, b: a - b, start, centre)
    return Around(
        centre=centre,
        radius=float(outcome.setting.radius),
        start_distance=float(jnp.sqrt(squared_norm(offset))),
        gradient_norm=float(tree["curvature"].to_dataset()["minimum_gradient_norm"]),
        constants=outcome.constants,
    )


def _constants(worst: BallConstants, around: Around) -> dict[str, Any]:
    norm, trace = worst.worst("noise_operator_norm"), worst.worst("noise_trace")
    return {
        "rsi": worst.worst("rsi"),
        "growth": worst.worst("growth"),
        "noise_operator_norm": norm,
        "noise_trace": trace,
        "effective_rank": trace / norm if norm > 0 else math.nan,
        "gradient_deviation": 0.0,
        "hessian_deviation": 0.0,
        "start_distance": around.start_distance,
    }


def _regime(
    scenario: StagnationScenario, task: ClassificationTask, around: Around, tree: xr.DataTree
) -> dict[str, float]:
    """Stationary radius from the restricted secant constant, and the stagnation number."""
    known = task.known_curvature(around.centre)
    modulus = known[0] if known else around.constants.worst("rsi")
    trace = around.constants.worst("noise_trace")
    if not (math.isfinite(modulus) and modulus > 0 and math.isfinite(trace)):
        return {"stationary_radius": math.nan, "stagnation_number": math.nan}
    # Neither depends on the substeps of an SDE: they divide eta and multiply the noise.
    spread = stationary_radius(scenario.dynamics.learning_rate, modulus, trace)
    reach = float(tree["stagnation"].to_dataset()["delta_star"])
    return {
        "stationary_radius": spread,
        "stagnation_number": stagnation_number(reach, spread),
    }


def _combined(certifier: Certifier, stay: EvidenceBounds) -> str:
    """Say what staying buys, with the best evidence that there is for staying."""

    def log_exit(kind: str) -> float:
        values = stay.values[
            "certified_log_exit_bound" if kind == "certificate" else "log_exit_bound"
        ]
        return float(values[-1, -1])

    certified = log_exit("certificate") < 0
    kind = "certificate" if certified else "plug-in"
    statement = stay.statements.get(kind)
    reason = stay.sentences[kind].rstrip(".") if statement is None else statement.violation
    return combined_statement(
        certifier.terms,
        log_exit(kind),
        exit_reason=reason or "",
        measured=() if certified else ("constants of the exit bound",),
    ).sentence()


def _convexity_sentence(tree: xr.DataTree) -> str:
    """Say how far the sampled convexity reaches, and whether the centre is a minimum."""
    stagnation, curvature = (tree[name].to_dataset() for name in ("stagnation", "curvature"))
    smallest = float(curvature["minimum_hessian_eigenvalue"].sel(eigen="smallest"))
    residual = float(curvature["minimum_hessian_residual"].sel(eigen="smallest"))
    if smallest > residual:
        centre = "positive"
    elif smallest < -residual:
        centre = "negative: the centre is a saddle, and no bound around it is meant"
    else:
        centre = "not told from zero by its residual: the minimum may be a flat valley"
    reach = float(stagnation["delta_star"])
    if math.isnan(reach):
        smallest_shell = float(stagnation["convexity_radius"][0])
        said = f"delta* is not there: a ratio is not positive at or below {smallest_shell:.4g}"
    elif int(stagnation["delta_star_bounded"]) == 1:
        said = f"delta* = {reach:.4g}, the largest sampled radius without a violation"
    else:
        said = f"delta* is at least {reach:.4g}: no violation up to the largest radius sampled"
    return (
        f"Restricted secant inequality: {said}. Smallest Hessian eigenvalue at the minimum "
        f"{smallest:.3g} (residual {residual:.1g}): {centre}."
    )
