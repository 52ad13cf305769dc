"""The registry of edges: which threshold a process has, and of which operator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from sgdsim.stability._mean_square import Numbers
from sgdsim.stability._sam_thresholds import sam_threshold, unnormalised_sam_threshold
from sgdsim.stability._thresholds import (
    adam_threshold,
    batch_sharpness_threshold,
    heavy_ball_threshold,
    nesterov_threshold,
)

Operator = Literal["none", "hessian", "preconditioned_hessian", "batch_hessian"]
#: Of the learning rate, the numbers of the process and what was measured.
_Formula = Callable[[np.ndarray, Mapping[str, float], np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Edge:
    r"""The edge of one kind of process; :func:`edge_of` makes one with the numbers of a process.

    Attributes
    ----------
    name
        The algorithm whose edge it is.
    formula
        The threshold as text; ``2/eta - weight_decay`` takes the place of ``2/eta`` with decay.
    operator
        What is compared with it: the largest eigenvalue of the ``hessian`` or of the
        ``preconditioned_hessian``, or the batch sharpness (``batch_hessian``); ``none`` where no
        threshold is known.
    source
        Where the formula comes from.
    binds
        Whether the process itself is held there. A flow and an SDE are not: the threshold is then
        that of the algorithm with the same learning rate, for comparison.
    needs
        Numbers of the process in the formula, beside the weight decay.
    measured
        What has to be measured along the run: ``gradient_norm``, ``sharpness`` or nothing.
    parameters
        The numbers of the process.

    Examples
    --------
    >>> from sgdsim.stability import edge_of
    >>> edge = edge_of("heavy_ball", {"momentum": 0.9})
    >>> edge.formula, edge.operator, edge.binds
    ('(1+b) (2/eta)', 'hessian', True)
    >>> edge.threshold([0.05, 0.1]).round(6).tolist()
    [76.0, 38.0]
    """

    name: str
    formula: str
    operator: Operator
    source: str
    binds: bool = True
    needs: tuple[str, ...] = ()
    measured: Literal["", "gradient_norm", "sharpness"] = ""
    parameters: Mapping[str, float] = field(default_factory=dict)
    _of: _Formula = field(repr=False, compare=False)

    def threshold(
        self, learning_rate: Numbers, measured: Numbers | None = None
    ) -> Float[np.ndarray, "*point"]:
        """Give the threshold at one step or at many.

        Parameters
        ----------
        learning_rate
            ``eta``, one number or one per step.
        measured
            What :attr:`measured` names, one number or one per step; otherwise it is not looked at.

        Returns
        -------
        array
            Infinite at learning rate 0; NaN if no threshold is known.

        Raises
        ------
        ValueError
            If a learning rate is negative or what has to be measured is missing.
        """
        eta = np.asarray(learning_rate, np.float64)
        if np.any(eta < 0):
            raise ValueError(f"learning_rate must not be negative, got {float(np.min(eta))!r}.")
        absent = [number for number in self.needs if number not in self.parameters]
        if absent:
            raise ValueError(f"{absent[0]} is missing: take the edge from edge_of, which knows it.")
        if self.measured and measured is None:
            raise ValueError(
                f"{self.measured} is missing: the edge of {self.name}, {self.formula}, moves with "
                "it, so pass one number for each learning rate."
            )
        seen = np.asarray(np.nan if measured is None else measured, np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = self._of(eta, self.parameters, seen)
        return np.array(np.broadcast_to(value, np.broadcast_shapes(value.shape, eta.shape)))


def edge_of(kind: str, parameters: Mapping[str, Any], *, batch: bool = False) -> Edge:
    r"""Find the edge of a process.

    Parameters
    ----------
    kind
        Kind of the dynamics, as in a scenario: one of ``EDGES``.
    parameters
        Numbers of the process under the names of the scenario: ``momentum``, ``b1``, ``rho``,
        ``normalised``, ``weight_decay``, ``l``; others are not looked at.
    batch
        Whether the edge of the batch sharpness is asked for, the second one of a process with
        random batches.

    Returns
    -------
    Edge
        With ``operator`` ``none`` and a threshold of NaN if there is no formula.

    Raises
    ------
    ValueError
        If the kind is unknown or a number is missing.

    Notes
    -----
    SVAG with ``l > 1`` and the Euler scheme of an SDE have edges of their own, at :math:`2l/\eta`
    and at :math:`2/\eta` times the number of substeps; they come from the small step and are not
    given here.

    Examples
    --------
    >>> from sgdsim.stability import edge_of
    >>> float(edge_of("adam", {"b1": 0.9, "weight_decay": 0.1}).threshold(1e-3).round(6))
    37998.1
    >>> edge_of("sgd", {"batch_size": 32}, batch=True).operator
    'batch_hessian'
    >>> edge_of("gradient_flow", {}).binds
    False
    """
    if kind not in EDGES:
        raise ValueError(f"kind must be one of {', '.join(sorted(EDGES))}, got {kind!r}.")
    name = kind
    if kind == "sam" and not parameters.get("normalised", True):
        name = "unnormalised_sam"
    if kind == "underdamped_sde" and parameters.get("nesterov", False):
        name = "nesterov"
    edge = BATCH_EDGES.get(name, NO_EDGE) if batch else EDGES[name]
    normalised_batches = name == "sam" and parameters.get("batch_size") is not None
    if (
        kind == "underdamped_sde"
        or (kind == "svag" and parameters.get("l", 1) > 1)
        or normalised_batches
    ):
        edge = replace(edge, binds=False)
    missing = [number for number in edge.needs if parameters.get(number) is None]
    if missing:
        raise ValueError(
            f"{missing[0]} is missing: the edge of {edge.name} is {edge.formula}, so give the "
            f"parameters of {kind} with {', '.join(edge.needs)}."
        )
    decay = float(parameters.get("weight_decay") or 0.0)
    numbers = {number: float(parameters[number]) for number in edge.needs}
    if batch and (numbers.get("momentum") or decay):
        edge = replace(edge, measured="sharpness")
    formula = edge.formula
    if decay and not batch:
        formula = formula.replace("2/eta", f"2/eta - {decay:g}")
    return replace(
        edge,
        formula=formula,
        parameters={**numbers, "weight_decay": decay},
    )


def _times(gain: Callable[[Mapping[str, float]], float]) -> _Formula:
    """Make the edge of gradient descent times a number of the process."""
    return lambda eta, p, _: gain(p) * (2.0 / eta - p.get("weight_decay", 0.0))


def _normalised(eta: np.ndarray, p: Mapping[str, float], norm: np.ndarray) -> np.ndarray:
    return sam_threshold(eta, p["rho"], norm, p.get("weight_decay", 0.0))


def _unnormalised(eta: np.ndarray, p: Mapping[str, float], _: np.ndarray) -> np.ndarray:
    return unnormalised_sam_threshold(eta, p["rho"], p.get("weight_decay", 0.0))


def _batch(eta: np.ndarray, p: Mapping[str, float], sharpness: np.ndarray) -> np.ndarray:
    momentum, decay = p.get("momentum", 0.0), p.get("weight_decay", 0.0)
    if momentum == decay == 0.0:
        return 2.0 / eta
    return batch_sharpness_threshold(eta, sharpness, momentum, decay)


# At learning rate 2 a threshold is its ratio to that of gradient descent.
_GRADIENT_DESCENT = Edge(
    name="gradient descent",
    formula="2/eta",
    operator="hessian",
    source="Cohen et al. 2021",
    _of=_times(lambda p: 1.0),
)
_HEAVY_BALL = Edge(
    name="heavy ball",
    formula="(1+b) (2/eta)",
    operator="hessian",
    source="Cohen et al. 2021",
    needs=("momentum",),
    _of=_times(lambda p: heavy_ball_threshold(2.0, p["momentum"])),
)
_NESTEROV = Edge(
    name="Nesterov",
    formula="(1+b)/(1+2b) (2/eta)",
    operator="hessian",
    source="Cohen et al. 2021",
    needs=("momentum",),
    _of=_times(lambda p: nesterov_threshold(2.0, p["momentum"])),
)
_RMSPROP = Edge(
    name="RMSProp",
    formula="2/eta",
    operator="preconditioned_hessian",
    source="Cohen et al. 2022",
    _of=_times(lambda p: 1.0),
)
_ADAM = Edge(
    name="Adam",
    formula="(1+b1)/(1-b1) (2/eta)",
    operator="preconditioned_hessian",
    source="Cohen et al. 2022",
    needs=("b1",),
    _of=_times(lambda p: adam_threshold(2.0, p["b1"])),
)
_SAM = Edge(
    name="SAM",
    formula="|g|/(2 rho) (sqrt(1 + 4 (2/eta) rho/|g|) - 1)",
    operator="hessian",
    source="Agarwala and Dauphin 2023; Long and Bartlett 2024",
    needs=("rho",),
    measured="gradient_norm",
    _of=_normalised,
)
_UNNORMALISED_SAM = Edge(
    name="unnormalised SAM",
    formula="(sqrt(1 + 4 (2/eta) rho) - 1)/(2 rho)",
    operator="hessian",
    source="Agarwala and Dauphin 2023",
    needs=("rho",),
    _of=_unnormalised,
)
_SGD_BATCH = Edge(
    name="SGD",
    formula="2/eta",
    operator="batch_hessian",
    source="Andreyev and Beneventano 2024",
    _of=_batch,
)
_HEAVY_BALL_BATCH = Edge(
    name="SGD with momentum",
    formula="between 2(1-b)/eta (small batches) and 2(1+b)/eta (large batches)",
    operator="batch_hessian",
    source="edge-of-stability theory C10; arXiv 2604.14108",
    needs=("momentum",),
    _of=_batch,
)

#: Where no threshold is known.
NO_EDGE = Edge(
    name="a process without a known edge",
    formula="none",
    operator="none",
    source="",
    binds=False,
    _of=lambda eta, p, _: np.asarray(np.nan),
)
#: Edge of every kind of dynamics, without the numbers of a process.
EDGES: Mapping[str, Edge] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "gd",
                "sgd",
                "gaussian_sgd",
                "label_noise_sgd",
                "sgld",
                "svag",
                "central_flow",
                "edge_flow",
            ),
            _GRADIENT_DESCENT,
        ),
        **dict.fromkeys(("gradient_flow", "sde"), replace(_GRADIENT_DESCENT, binds=False)),
        "heavy_ball": _HEAVY_BALL,
        "underdamped_sde": replace(_HEAVY_BALL, binds=False),
        "nesterov": _NESTEROV,
        "rmsprop": _RMSPROP,
        "rmsprop_sde": replace(_RMSPROP, binds=False),
        "adam": _ADAM,
        "adam_sde": replace(_ADAM, binds=False),
        "sam": _SAM,
        "unnormalised_sam": _UNNORMALISED_SAM,
    }
)
#: Edge of the batch sharpness, of the kinds of dynamics for which one is known.
BATCH_EDGES: Mapping[str, Edge] = MappingProxyType(
    {
        **dict.fromkeys(("sgd", "gaussian_sgd", "label_noise_sgd", "sgld", "svag"), _SGD_BATCH),
        "sde": replace(_SGD_BATCH, binds=False),
        "heavy_ball": _HEAVY_BALL_BATCH,
    }
)
