"""Exit bounds of a run: from proved constants and, beside them, from sampled ones."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special

from sgdsim.dynamics import MinibatchNoise, build_noise
from sgdsim.problems import ClassificationTask, Network, Rows
from sgdsim.runs._constants import BallConstants
from sgdsim.runs._evidence import EvidenceBounds, tabulate_evidence
from sgdsim.runs._plain import is_plain, substeps_of
from sgdsim.runs._provenance import recorded_steps
from sgdsim.scenario import Dynamics, StagnationScenario
from sgdsim.stagnation import (
    Proved,
    Sampled,
    StayStatement,
    contraction_strongly_convex,
    mean_exit_time_bound,
    ridge_softmax_constants,
    stay_lower_bound,
)
from sgdsim.store import EVIDENCE

_DOUBLINGS = 60

Sources = dict[str, Proved | Sampled]


class Around(NamedTuple):
    """What the bounds of a run are about.

    Attributes
    ----------
    centre
        Minimum on the training rows, float64.
    radius, start_distance
        Of the ball, and largest distance at the start.
    gradient_norm
        Of the training risk at the centre.
    constants
        Worst sampled and visited values.
    """

    centre: Network
    radius: float
    start_distance: float
    gradient_norm: float
    constants: BallConstants


def stay_bounds(
    scenario: StagnationScenario, task: ClassificationTask, around: Around
) -> EvidenceBounds:
    """Evaluate the bounds on exits, by certificate and by plug-in.

    A certificate is there for softmax regression with a ridge and Gaussian minibatch noise: its
    constants are proved on every ball around the minimum. An Euler substep of length ``h = eta/m``
    is a step of the recursion with learning rate ``h`` and noise covariance ``m Sigma``.
    """
    steps = recorded_steps(scenario).astype(np.int64) * substeps_of(scenario.dynamics)
    reason = _why_no_bound(scenario.dynamics)
    proved, why_not = (None, reason) if reason else _proved(scenario, task, around)
    sampled, why_no_sample = (None, reason) if reason else _sampled(scenario, task, around)
    statements: dict[str, StayStatement] = {}
    sentences = {"certificate": f"not available: {why_not}.", "plug-in": ""}
    values: dict[str, Any] = {
        "contraction": _contraction(scenario, task, around).value,
        "certified_radius": math.nan,
    }
    if proved is not None:
        statements["certificate"] = StayStatement(proved(around.radius))
        target = scenario.stagnation.failure_probability
        radius = certified_radius(proved, steps[-1:], target, around.radius)
        values["certified_radius"] = radius
        sentences["certificate"] = (
            f"{statements['certificate']} An exit probability of {target:g} is certified from the "
            f"radius {radius:.4g} on."
            if math.isfinite(radius)
            else f"{statements['certificate']} It promises {target:g} at no radius."
        )
    if sampled is not None:
        statements["plug-in"] = StayStatement(sampled)
        sentences["plug-in"] = str(statements["plug-in"])
    else:
        sentences["plug-in"] = f"not available: {why_no_sample}."
    return EvidenceBounds(values | _tabulate(scenario, statements, steps), sentences, statements)


def certified_radius(
    sources: Callable[[float], Sources], steps: np.ndarray, target: float, start: float
) -> float:
    """Smallest radius at which S2 allows an exit with at most the target probability.

    Parameters
    ----------
    sources
        Proved constants of the ball by its radius; the noise bound grows with it.
    steps
        Number of steps, shape (1,).
    target
        Probability.
    start
        A radius from which the search doubles or halves.

    Returns
    -------
    float
        At the returned radius the bound holds; NaN if there is none.
    """

    def excess(log_radius: float) -> float:
        bound = float(StayStatement(sources(math.exp(log_radius))).log_exit_bound(steps)[0])
        # Nothing is promised where an assumption is violated; finite, for the root finder.
        return 1e3 if math.isnan(bound) else min(max(bound - math.log(target), -1e3), 1e3)

    high = math.log(start)
    for _ in range(_DOUBLINGS):
        if excess(high) <= 0:
            break
        high += math.log(2.0)
    else:
        return math.nan
    low = high
    for _ in range(_DOUBLINGS):
        low -= math.log(2.0)
        if excess(low) > 0:
            break
    else:
        return math.exp(high)
    root = float(scipy.optimize.root_scalar(excess, bracket=(low, high), xtol=1e-9).root)
    # A root is met up to rounding; a promise is not.
    return math.exp(root if excess(root) <= 0 else root + 1e-7)


def centre_noise(centre: Network, rows: Rows) -> tuple[float, float]:
    r"""Largest eigenvalue and trace of the covariance of per-sample gradients of softmax.

    The gradient of one row is :math:`(p_i - y_i) x_i^\top`, so the centred Gram matrix has the
    entries :math:`\langle p_i - y_i, p_j - y_j\rangle\langle x_i, x_j\rangle / n`, and its
    eigenvalues are those of the covariance: exact up to rounding, where Lanczos is a lower bound.
    """
    inputs = np.asarray(rows.inputs, np.float64)
    logits = inputs @ np.asarray(centre.weights[0], np.float64).T
    residuals = scipy.special.softmax(logits, axis=1) - np.asarray(rows.targets, np.float64)
    gram = (residuals @ residuals.T) * (inputs @ inputs.T) / len(inputs)
    gram -= gram.mean(axis=0)
    gram -= gram.mean(axis=1, keepdims=True)
    top = scipy.linalg.eigvalsh(gram, subset_by_index=[len(gram) - 1] * 2)
    return float(top[0]), float(np.trace(gram))


def _why_no_bound(dynamics: Dynamics) -> str:
    if dynamics.kind == "sgd":
        # Minibatch noise is bounded, hence sub-Gaussian, but not with its covariance as proxy.
        return "minibatch noise is not Gaussian"
    if dynamics.kind == "gd":
        return "gradient descent has no noise"
    if not is_plain(dynamics):
        return "the theorems are about SGD with Gaussian noise, nothing around it"
    return ""


def _proved(
    scenario: StagnationScenario, task: ClassificationTask, around: Around
) -> tuple[Callable[[float], Sources] | None, str]:
    """Proved constants by radius, or why there are none."""
    dynamics, ridge = scenario.dynamics, task.ridge
    if len(around.centre.weights) > 1:
        return None, "no constant of a network is proved on the whole ball"
    if not ridge > 0:
        return None, "without a ridge there is no strong convexity"
    noise = build_noise(dynamics, around.centre)
    batch_size = getattr(dynamics, "batch_size", None)
    if not isinstance(noise, MinibatchNoise) or batch_size is None:
        return None, "the noise is proved on the whole ball for minibatch noise only"
    inputs = np.asarray(task.training.inputs, np.float64)
    at_centre = centre_noise(around.centre, task.training)
    substeps = substeps_of(dynamics)

    def at(radius: float) -> Sources:
        # Batches drawn without replacement have less noise: the bound with it holds for them.
        found = ridge_softmax_constants(
            inputs,
            at_centre,
            ridge=ridge,
            learning_rate=dynamics.learning_rate / substeps,
            batch_size=batch_size,
            radius=radius,
            centre_gradient_norm=around.gradient_norm,
        )
        for name in ("noise_operator_norm", "noise_trace"):
            found[name] = Proved(substeps * found[name].value, found[name].reason)
        return {**found, "start_distance": Proved(around.start_distance, "computed")}

    return at, ""


def _contraction(
    scenario: StagnationScenario, task: ClassificationTask, around: Around
) -> Proved | Sampled:
    """Contraction of one step of the recursion; NaN where it is neither proved nor sampled."""
    substeps = substeps_of(scenario.dynamics)
    known = task.known_curvature(around.centre)
    if known:
        eta = scenario.dynamics.learning_rate / substeps
        return Proved(contraction_strongly_convex(eta, *known), "strong convexity")
    if substeps == 1:
        return around.constants.source("contraction", scenario.stagnation.confidence)
    # The sampled contraction is that of a whole step, not of a substep.
    return Sampled(math.nan, math.nan, math.nan, 0, "contraction of a substep is not sampled")


def _sampled(
    scenario: StagnationScenario, task: ClassificationTask, around: Around
) -> tuple[Sources | None, str]:
    """Plug-in constants, or why there are none."""
    contraction = _contraction(scenario, task, around)
    if math.isnan(contraction.value) and isinstance(contraction, Sampled):
        return None, contraction.method
    substeps = substeps_of(scenario.dynamics)
    noise: Sources = {}
    for name in ("noise_operator_norm", "noise_trace"):
        found = around.constants.source(name, scenario.stagnation.confidence)
        noise[name] = Sampled(
            substeps * found.value,
            substeps * found.low,
            substeps * found.high,
            found.sample_size,
            found.method,
        )
    return {
        "learning_rate": Proved(scenario.dynamics.learning_rate / substeps, "chosen"),
        "contraction": contraction,
        **noise,
        "radius": Proved(around.radius, "chosen"),
        "start_distance": Proved(around.start_distance, "computed"),
        "gradient_bias": Proved(around.gradient_norm, "gradient at the centre of the ball"),
    }, ""


def _tabulate(
    scenario: StagnationScenario, statements: dict[str, StayStatement], steps: np.ndarray
) -> dict[str, Any]:
    """Constants and bounds by evidence, those of the plug-in and of the certificate by name."""
    table = tabulate_evidence(statements, steps)
    bounds = dict(zip(EVIDENCE, table.pop("log_exit_bound"), strict=True))
    eta = scenario.dynamics.learning_rate / substeps_of(scenario.dynamics)
    exit_time = [
        eta * float(mean_exit_time_bound(statements[kind].constants))
        if kind in statements
        else math.nan
        for kind in EVIDENCE
    ]
    return {
        **table,
        "mean_exit_time_bound": np.array(exit_time),
        "log_exit_bound": bounds["plug-in"],
        "stay_lower_bound": stay_lower_bound(bounds["plug-in"]),
        "certified_log_exit_bound": bounds["certificate"],
        "certified_stay_lower_bound": stay_lower_bound(bounds["certificate"]),
    }
