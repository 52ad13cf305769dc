"""The three kinds of bounds, what they say about themselves and what they return.

A *certificate* holds with a stated probability. An *expectation bound* holds on average over the
training rows and the noise. A *measure* is a number that is meant to rank networks: it bounds
nothing, and nothing here turns it into a certificate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from sgdsim.bounds._inputs import BoundInputs
from sgdsim.bounds._logdomain import exponential

#: Losses between which a generalization gap is taken. ``gibbs``: the error of a network whose
#: weights are drawn anew for every answer.
LossName = Literal["ramp", "margin", "zero_one", "gibbs"]

#: All losses of the certificates lie in [0, LOSS_RANGE].
LOSS_RANGE = 1.0

#: Changes of a network that leave its classifications (and, but for ``output_scaling``, which
#: scales the margin too, its outputs) unchanged; the last three for positively homogeneous
#: activations. What is fixed in advance, such as a centre or an initialisation, stays as it is.
Invariance = Literal[
    "permutation", "width_doubling", "layer_rescaling", "node_rescaling", "output_scaling"
]

#: What the size of a bound is made of.
FACTORS = (
    "constant",
    "spectral_product",
    "frobenius_product",
    "distance",
    "path",
    "divergence",
    "margin",
    "inputs",
    "size",
    "dimension",
    "rest",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    r"""Values of one certificate.

    Parameters
    ----------
    value
        Bound on the gap, shape ``(...)``: never clipped, infinite beyond the largest float, nan
        where an assumption is violated.
    log_value
        Natural logarithm of the value, finite where the value overflows.
    assumption_violated
        Where nothing is claimed.
    reason
        Which assumptions fail and for how many iterates; empty if none does.
    log_factors
        Logarithms of factors, by a name of ``FACTORS``, whose sum is ``log_value``.
    """

    value: Float[np.ndarray, "*shape"]
    log_value: Float[np.ndarray, "*shape"]
    assumption_violated: Bool[np.ndarray, "*shape"]
    reason: str
    log_factors: Mapping[str, Float[np.ndarray, "*shape"]] = field(default_factory=dict)

    @property
    def vacuous(self) -> Bool[np.ndarray, "..."]:
        """Where the value exceeds the range of the loss, so that it says nothing."""
        return np.asarray(self.value > LOSS_RANGE)


@dataclass(frozen=True, eq=False)
class Score:
    """Values of one measure, which bound nothing.

    Parameters
    ----------
    value
        Shape ``(...)``; nan where it is not defined.
    log_value
        Natural logarithm of the value, nan where the value is negative; for measures that are
        logarithms themselves (``log.*``) the value, so that the factors add up.
    log_factors
        Logarithms of factors, by a name of ``FACTORS``, whose sum is ``log_value``.
    """

    value: Float[np.ndarray, "*shape"]
    log_value: Float[np.ndarray, "*shape"]
    log_factors: Mapping[str, Float[np.ndarray, "*shape"]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    r"""A bound on the generalization gap that holds with a stated probability, constants kept.

    Parameters
    ----------
    name
        Key in ``CERTIFICATES``.
    formula
        Right-hand side, as text.
    source
        Publication and equation, or this project.
    statement
        What holds with which probability, over what, for which iterates at once.
    population_loss, empirical_loss
        The pair whose difference is bounded: population minus training rows.
    fixed_in_advance
        What must not depend on the training rows.
    union_bound
        What a union bound pays for.
    assumptions
        Conditions on network, loss and data.
    evaluate
        Function from ``BoundInputs`` to ``Evaluation``.
    needs
        Optional fields of ``BoundInputs``, or names of its ``measured``, that it reads.
    invariances
        Changes of the network that leave the value unchanged.

    Raises
    ------
    TypeError
        If it is made from a measure.
    """

    name: str
    formula: str
    source: str
    statement: str
    population_loss: LossName
    empirical_loss: LossName
    fixed_in_advance: str
    union_bound: str
    assumptions: tuple[str, ...]
    evaluate: Callable[[BoundInputs], Evaluation]
    needs: tuple[str, ...] = ()
    invariances: tuple[Invariance, ...] = ("permutation",)
    kind: Literal["certificate"] = "certificate"

    def __post_init__(self) -> None:
        """Refuse a measure in the clothes of a certificate."""
        refuse_measure(self.name, self.evaluate)

    @property
    def pair(self) -> tuple[LossName, LossName]:
        """Losses of population and training rows between which the gap is taken."""
        return self.population_loss, self.empirical_loss

    def __call__(self, inputs: BoundInputs) -> Evaluation:
        """Evaluate; what returns no ``Evaluation`` certifies nothing."""
        result = self.evaluate(inputs)
        if not isinstance(result, Evaluation):
            raise TypeError(
                f"{self.name} returned a {type(result).__name__}, not an Evaluation: a measure "
                "bounds nothing, and no certificate can be made from it."
            )
        return result


@dataclass(frozen=True, eq=False, kw_only=True)
class ExpectationBound:
    r"""A bound on the mean gap over training rows and noise; about no single run.

    Parameters
    ----------
    name
        Key in ``EXPECTATION_BOUNDS``.
    formula, source, statement, assumptions
        As for a ``Certificate``.
    needs
        What must be known of the trajectories.
    """

    name: str
    formula: str
    source: str
    statement: str
    assumptions: tuple[str, ...]
    needs: tuple[str, ...] = ()
    kind: Literal["expectation"] = "expectation"


@dataclass(frozen=True, eq=False, kw_only=True)
class Measure:
    r"""A number that is meant to rank networks by their generalization gap; it bounds nothing.

    Parameters
    ----------
    name
        Key in ``MEASURES``.
    formula
        What is computed, as text.
    source
        Publication and equation.
    dropped
        Which constants, logarithms or terms of the bound behind it are dropped; ``"nothing"`` for
        a number that never was a bound.
    evaluate
        Function from ``BoundInputs`` to ``Score``.
    needs
        Optional fields of ``BoundInputs``, or names of its ``measured``, that it reads.
    invariances
        Changes of the network that leave the value unchanged.
    """

    name: str
    formula: str
    source: str
    dropped: str
    evaluate: Callable[[BoundInputs], Score]
    needs: tuple[str, ...] = ()
    invariances: tuple[Invariance, ...] = ("permutation",)
    kind: Literal["measure"] = "measure"

    def __call__(self, inputs: BoundInputs) -> Score:
        """Evaluate."""
        return self.evaluate(inputs)


def refuse_measure(name: str, source: object) -> None:
    """Refuse to make a certificate from a measure or from its values.

    Raises
    ------
    TypeError
        If ``source`` is a ``Measure``, one of its methods or a ``Score``.
    """
    owner = getattr(source, "__self__", source)
    if isinstance(owner, Measure | Score):
        label = owner.name if isinstance(owner, Measure) else name
        dropped = f" (dropped: {owner.dropped})" if isinstance(owner, Measure) else ""
        raise TypeError(
            f"{label} is a measure{dropped}: it ranks networks and bounds nothing, so no "
            "certificate can be made from it; `sgdsim explain` lists the certificates."
        )


#: Assumptions that all certificates share.
COMMON_ASSUMPTIONS = (
    "the training rows are independent draws of one distribution",
    "||x|| <= B_x for every input of that distribution, B_x known in advance",
    "f(x) = A_L s(A_{L-1} ... s(A_1 x)) without biases, s elementwise, 1-Lipschitz, s(0) = 0",
)


def settle(
    log_value: Float[np.ndarray, "..."],
    violations: dict[str, Bool[np.ndarray, "..."]],
    log_factors: Mapping[str, Float[np.ndarray, "..."] | float] | None = None,
) -> Evaluation:
    """Replace what is not covered by the assumptions by nan and say why.

    Parameters
    ----------
    log_value
        Logarithm of the bound, shape ``(...)``.
    violations
        Where each assumption fails, by its description; the first that fails counts.
    log_factors
        Logarithms of the factors of the largest term, by a name of ``FACTORS``, each of shape
        ``(...)`` or a number. What they leave of the total becomes the factor ``rest``.
    """
    violated = np.zeros(log_value.shape, dtype=bool)
    reasons = []
    for text, where in violations.items():
        fresh = where & ~violated
        if fresh.any():
            reasons.append(f"{text} ({int(fresh.sum())} of {fresh.size})")
        violated = np.asarray(violated | where)
    kept = np.asarray(np.where(violated, np.nan, log_value))
    factors = decomposed(kept, log_factors or {})
    return Evaluation(exponential(kept), kept, violated, "; ".join(reasons), factors)


def decomposed(
    log_value: Float[np.ndarray, "*shape"],
    log_factors: Mapping[str, Float[np.ndarray, "..."] | float],
) -> dict[str, Float[np.ndarray, "*shape"]]:
    """Complete factors by ``rest`` so that their logarithms add up to that of the value.

    Parameters
    ----------
    log_value
        Logarithm of the value.
    log_factors
        Logarithms of some of its factors, by a name of ``FACTORS`` other than ``rest``.

    Raises
    ------
    ValueError
        If a name is not that of a factor.
    """
    unknown = [name for name in log_factors if name not in FACTORS[:-1]]
    if unknown:
        raise ValueError(f"Unknown factors {unknown}; the factors are {', '.join(FACTORS[:-1])}.")
    factors = {
        name: np.asarray(np.broadcast_to(np.asarray(value, np.float64), log_value.shape))
        for name, value in log_factors.items()
    }
    # A factor that is zero or infinite cannot be told from the others: then all is rest.
    told = np.ones(log_value.shape, bool)
    for value in factors.values():
        told &= np.isfinite(value)
    factors = {name: np.asarray(np.where(told, value, 0.0)) for name, value in factors.items()}
    rest = log_value - sum(factors.values(), np.zeros(log_value.shape))
    return {**factors, "rest": np.asarray(rest)}
