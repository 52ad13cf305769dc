"""What is measured of a run to judge its SDE, and the gauges formed of it, one per probe."""

import enum
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sgdsim.stability._mean_square import Numbers, mean_square_gauge, stationary_excess_risk


class Failure(enum.IntEnum):
    """How the SDE fails at a probe, in the order of severity; a probe has the worst it shows."""

    #: The sharpness was not measured, or is not positive.
    NOT_JUDGED = -1
    #: The SDE is valid.
    NONE = 0
    #: Its stationary variance along the sharpest direction is too small.
    VARIANCE = 1
    #: Its stationary excess risk in the linearised model is too small.
    EXCESS_RISK = 2
    #: SGD is mean-square unstable in the linearised model, and the SDE is not.
    MEAN_SQUARE = 3
    #: The batch sharpness is at or beyond 2/eta.
    BATCH_EDGE = 4
    #: The sharpness is at or beyond 2/eta.
    EDGE = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class SdeProbes:
    r"""Measurements along a run, one per probe step; NaN where something was not measured.

    Parameters
    ----------
    step
        SGD steps of the probes, ascending.
    sharpness
        Largest eigenvalue of the Hessian, shape ``(probe,)``.
    batch_sharpness
        :math:`E[g_B^\top H_Bg_B/\|g_B\|^2]`, shape ``(probe,)``.
    eigenvalues
        Largest eigenvalues of the Hessian, shape ``(probe, k)``; the sharpness alone if missing.
    trace
        Trace of the Hessian, shape ``(probe,)``; without it the mean-square gauge is not formed.
    excess_kurtosis
        Excess kurtosis of the gradient noise of a batch along top directions, shape ``(probe,)``
        or ``(probe, direction)``.

    Raises
    ------
    ValueError
        If the shapes disagree, there is no probe, or the steps do not ascend.
    """

    step: Numbers
    sharpness: Numbers
    batch_sharpness: Numbers | None = None
    eigenvalues: Numbers | None = None
    trace: Numbers | None = None
    excess_kurtosis: Numbers | None = None

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        steps = np.asarray(self.step)
        if steps.ndim != 1 or steps.size == 0 or np.any(np.diff(steps) <= 0):
            raise ValueError(
                f"step must be a list of at least one ascending step, got {steps.tolist()}."
            )
        dimensions = {"eigenvalues": (2,), "excess_kurtosis": (1, 2)}
        for name in ("sharpness", "batch_sharpness", "eigenvalues", "trace", "excess_kurtosis"):
            value = getattr(self, name)
            shape = np.shape(value)
            allowed = dimensions.get(name, (1,))
            if value is not None and (len(shape) not in allowed or shape[0] != steps.size):
                raise ValueError(
                    f"{name} must have one entry for each of the {steps.size} probe steps, got "
                    f"the shape {shape}."
                )


class SdeGauges(NamedTuple):
    r"""Gauges of every probe; NaN where they could not be formed.

    Attributes
    ----------
    step
        SGD steps of the probes.
    edge
        :math:`\eta\lambda_{\max}/2`: 1 at the edge of stability, and the relative error of the
        stationary variance of the SDE along the sharpest direction for additive noise.
    variance_ratio
        Stationary variance of SGD over that of the SDE, :math:`2/(2-\eta\lambda_{\max})`.
    batch_edge
        :math:`\eta/2` times the batch sharpness: 1 at the edge of stochastic stability.
    mean_square, mean_square_sde
        Gauge ``K`` of SGD and of the SDE with the covariance of the minibatch gradient (lower
        bounds of :func:`mean_square_gauge`).
    excess_risk_error
        Relative error of the stationary excess risk of the SDE in the linearised model.
    excess_kurtosis
        Excess kurtosis of the noise of a batch that is largest in size over the directions.
    failure
        :class:`Failure` of every probe.
    """

    step: Int[np.ndarray, " probe"]
    edge: Float[np.ndarray, " probe"]
    variance_ratio: Float[np.ndarray, " probe"]
    batch_edge: Float[np.ndarray, " probe"]
    mean_square: Float[np.ndarray, " probe"]
    mean_square_sde: Float[np.ndarray, " probe"]
    excess_risk_error: Float[np.ndarray, " probe"]
    excess_kurtosis: Float[np.ndarray, " probe"]
    failure: Int[np.ndarray, " probe"]


def form_gauges(
    probes: SdeProbes,
    learning_rate: Numbers,
    batch_size: float | int | None,
    tolerance: float | int,
) -> SdeGauges:
    """Form the gauges of every probe; arguments as for :func:`judge_sde`."""
    steps = np.asarray(probes.step).astype(np.int64)
    eta = np.broadcast_to(np.asarray(learning_rate, dtype=np.float64), steps.shape)
    sharpness = np.asarray(probes.sharpness, dtype=np.float64)
    # Without curvature upwards there is no stationary law to compare.
    edge = np.where(np.isfinite(sharpness) & (sharpness > 0), eta * sharpness / 2, np.nan)
    with np.errstate(divide="ignore"):
        ratio = np.where(edge >= 1, np.inf, 1 / (1 - edge))
    batch_edge = eta * _column(probes.batch_sharpness, steps.size) / 2
    sgd, sde = _mean_square(probes, eta, batch_size)
    error = _excess_risk_error(sgd, sde)
    failure = np.where(np.isnan(edge), Failure.NOT_JUDGED, Failure.NONE)
    failure[edge > tolerance] = Failure.VARIANCE
    failure[error > tolerance] = Failure.EXCESS_RISK
    # Where both are unstable the SDE tells the truth about SGD.
    failure[(sgd >= 1) & (sde < 1)] = Failure.MEAN_SQUARE
    failure[np.isfinite(batch_edge) & (batch_edge >= 1)] = Failure.BATCH_EDGE
    failure[edge >= 1] = Failure.EDGE
    return SdeGauges(
        steps,
        edge,
        ratio,
        batch_edge,
        sgd,
        sde,
        error,
        _worst_kurtosis(probes, steps.size),
        failure,
    )


def _column(values: Numbers | None, size: int) -> np.ndarray:
    return np.full(size, np.nan) if values is None else np.asarray(values, dtype=np.float64)


def _mean_square(
    probes: SdeProbes, eta: np.ndarray, batch_size: float | int | None
) -> tuple[np.ndarray, np.ndarray]:
    missing = np.full(eta.shape, np.nan)
    if batch_size is None or probes.trace is None:
        return missing, missing
    known = probes.eigenvalues
    if known is None:
        known = np.asarray(probes.sharpness, dtype=np.float64)[:, None]
    known, trace = np.asarray(known, dtype=np.float64), np.asarray(probes.trace, dtype=np.float64)
    usable = np.isfinite(trace) & np.all(np.isfinite(known), axis=1)
    sgd, sde = (
        mean_square_gauge(
            np.where(usable[:, None], known, 0.0),
            np.where(usable, trace, 0.0),
            eta,
            batch_size,
            substeps=substeps,
        ).low
        for substeps in (1.0, math.inf)
    )
    return np.where(usable, sgd, np.nan), np.where(usable, sde, np.nan)


def _excess_risk_error(sgd: np.ndarray, sde: np.ndarray) -> np.ndarray:
    """Relative error; NaN where neither has a stationary law or there is no curvature."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - stationary_excess_risk(sde) / stationary_excess_risk(sgd)


def _worst_kurtosis(probes: SdeProbes, size: int) -> np.ndarray:
    values = _column(probes.excess_kurtosis, size).reshape(size, -1)
    ranked = np.where(np.isfinite(values), np.abs(values), -1.0)
    worst = np.take_along_axis(values, np.argmax(ranked, axis=1)[:, None], axis=1)[:, 0]
    return np.where(np.isfinite(worst), worst, np.nan)
