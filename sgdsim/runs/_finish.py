"""After the last step: stay probability and its bounds, claims, figures, the finished dataset."""

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from sgdsim.problems import ClassificationTask, cast, squared_norm
from sgdsim.runs._claims import evaluate_claims, print_claims
from sgdsim.runs._complete import NOT_JUDGED, complete_run
from sgdsim.runs._constants import BallConstants, is_plain, stay_constants
from sgdsim.runs._output import RunPaths
from sgdsim.runs._prepare import Setting
from sgdsim.runs._progress import Reporter
from sgdsim.runs._provenance import recorded_steps
from sgdsim.runs._summary import print_summary
from sgdsim.scenario import StagnationScenario
from sgdsim.stability import SdeProbes, judge_sde
from sgdsim.stagnation import (
    assumption_violation,
    log_exit_bounds,
    stay_lower_bound,
    stay_probability,
)
from sgdsim.store import RunStore, open_run

_CONDITIONAL = (
    "The stay probability is conditional on the training rows: the set is a ball around the "
    "minimum of the penalised empirical risk itself, so gradient and Hessian deviation "
    "(eps_n, omega_n) are zero in S2."
)


def finish_run(
    scenario: StagnationScenario,
    task: ClassificationTask,
    constants: tuple[Setting, BallConstants],
    paths: RunPaths,
    reporter: Reporter,
    began: float,
) -> None:
    """Complete the dataset, draw the figures, print the claims.

    Parameters
    ----------
    scenario, task
        What ran.
    constants
        The setting and the worst constants over sampled and visited points.
    paths
        Files of the run.
    reporter
        Terminal.
    began
        Start on the monotonic clock.
    """
    reporter.stage("evaluating bounds and claims")
    store = RunStore.open(paths.partial)
    tree = open_run(paths.partial)
    steps = recorded_steps(scenario)
    store.write("stagnation", _survival(scenario, tree, steps))
    store.write("stagnation", _spread(tree))
    origin = _stay_bounds(scenario, task, constants, store)
    store.set_attrs(
        {
            "stay_statement": (
                f"{_CONDITIONAL} Radius: {_radius_origin(scenario, task, constants[0])}. "
                f"Constants of the bounds: {origin}."
            ),
            "verdict": _verdict(scenario, tree["curvature"].to_dataset()),
        }
    )
    if scenario.claim:
        store.write("claims", evaluate_claims(open_run(paths.partial), scenario.claim))
    complete_run(store, paths, reporter, began)
    finished = open_run(paths.store)
    print_summary(finished, paths, reporter.console)
    print_claims(finished, reporter.console)


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


def _stay_bounds(
    scenario: StagnationScenario,
    task: ClassificationTask,
    constants: tuple[Setting, BallConstants],
    store: RunStore,
) -> str:
    """Write constants and bounds; say where the constants come from, or why there is no bound."""
    setting, worst = constants
    start = cast(cast(setting.centre, scenario.compute.precision), jnp.float64)
    offset = jax.tree.map(lambda a, b: a - b, start, setting.centre)
    start_distance = float(jnp.sqrt(squared_norm(offset)))
    ball = setting.centre, float(setting.radius), start_distance
    stay, substeps, origin = stay_constants(scenario, task, worst, ball)
    log_bounds = log_exit_bounds(stay, recorded_steps(scenario) * substeps)
    stacked = np.stack([log_bounds[theory] for theory in ("S0", "S1", "S2")])
    measured = {
        name: value if np.isfinite(value) else np.nan for name, value in worst._asdict().items()
    }
    store.write(
        "stagnation",
        {
            "log_exit_bound": stacked,
            "stay_lower_bound": stay_lower_bound(stacked),
            "contraction": stay.contraction,
            "rsi": measured["rsi"],
            "growth": measured["growth"],
            "noise_operator_norm": measured["noise_operator_norm"],
            "noise_trace": measured["noise_trace"],
            "effective_rank": measured["noise_trace"] / measured["noise_operator_norm"],
            "gradient_deviation": 0.0,
            "hessian_deviation": 0.0,
            "start_distance": start_distance,
        },
    )
    violation = assumption_violation(stay)
    return f"{origin}; no bound, because {violation}" if violation else origin
