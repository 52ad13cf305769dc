"""What a certificate reads, what it returns and what it says about itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from sgdsim.bounds._grid import GeometricGrid
from sgdsim.bounds._logdomain import all_finite, exponential
from sgdsim.bounds._norms import LayerNorms

#: Losses between which a generalization gap is taken.
LossName = Literal["ramp", "margin", "zero_one"]

#: All losses of the certificates lie in [0, LOSS_RANGE].
LOSS_RANGE = 1.0


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    r"""What the certificates know of the training rows.

    Parameters
    ----------
    size
        Number of rows ``n``, at least 2.
    input_bound
        ``B_x``, known before the rows are drawn: :math:`\|x\| \le B_x` for every possible input.
    frobenius
        :math:`\|X\|_F = (\sum_i \|x_i\|^2)^{1/2}` of the training inputs.

    Raises
    ------
    ValueError
        If a number is out of range, or the rows contradict the bound on the inputs.
    """

    size: int
    input_bound: float | int
    frobenius: float | int

    def __post_init__(self) -> None:
        """Refuse a sample that contradicts itself."""
        if self.size < 2:
            raise ValueError(f"A certificate needs at least 2 training rows; got {self.size}.")
        if not 0.0 < self.input_bound < np.inf:
            raise ValueError(f"input_bound must be positive and finite; got {self.input_bound}.")
        largest = self.input_bound * self.size**0.5
        if not 0.0 <= self.frobenius <= largest * (1.0 + 1e-6):
            raise ValueError(
                f"frobenius={self.frobenius} is not between 0 and sqrt(n) input_bound = "
                f"{largest}: an input is longer than input_bound={self.input_bound}."
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundInputs:
    r"""Everything that the certificates need, for an array of iterates.

    Parameters
    ----------
    reference
        Norms ``(layer,)`` of the centre :math:`\theta_1`, a minimum found on rows that are
        independent of the training rows.
    iterate
        Norms ``(..., layer)`` of the iterates.
    radius
        :math:`\|\theta-\theta_1\|` over all weights, shape ``(...)``.
    sample
        The training rows.
    margin
        :math:`\gamma`, chosen without the training rows.
    failure_probability
        :math:`\delta` of each certificate on its own.
    grid
        Grid for every norm that a union bound pays for.
    inside
        Whether the iterate is in the stagnation set, shape ``(...)``; all of them if left out.

    Raises
    ------
    ValueError
        If shapes disagree or a number is out of range.
    """

    reference: LayerNorms
    iterate: LayerNorms
    radius: Float[np.ndarray, "..."]
    sample: TrainingSample
    margin: float | int
    failure_probability: float
    grid: GeometricGrid
    inside: Bool[np.ndarray, "..."] | None = None

    def __post_init__(self) -> None:
        """Refuse inputs that do not belong together."""
        if self.reference.shapes != self.iterate.shapes:
            raise ValueError(
                f"The reference has the layers {self.reference.shapes}, the iterate "
                f"{self.iterate.shapes}; both must be the same network."
            )
        if self.reference.spectral_high.ndim != 1:
            raise ValueError(
                "The reference is one network, with norms of shape (layer,); got the shape "
                f"{self.reference.spectral_high.shape}."
            )
        if not np.isfinite(self.reference.spectral_high).all():
            raise ValueError("The reference has weights that are not finite.")
        lead = self.iterate.spectral_high.shape[:-1]
        for name, array in (("radius", self.radius), ("inside", self.inside)):
            if array is not None and array.shape != lead:
                raise ValueError(f"{name} must have the shape {lead}; got {array.shape}.")
        if not 0.0 < self.margin < np.inf:
            raise ValueError(f"margin must be positive and finite; got {self.margin}.")
        if not 0.0 < self.failure_probability < 1.0:
            raise ValueError(
                f"failure_probability must be in (0, 1); got {self.failure_probability}."
            )

    @property
    def layers(self) -> int:
        """Number of weight matrices."""
        return len(self.reference.shapes)

    @property
    def finite(self) -> Bool[np.ndarray, "..."]:
        """Where the iterate and all its norms are finite, shape ``(...)``."""
        norms = self.iterate
        finite = np.isfinite(self.radius)
        for array in (norms.spectral_high, norms.frobenius, norms.two_one):
            finite = finite & all_finite(array)
        return np.asarray(finite)


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
    """

    value: Float[np.ndarray, "*shape"]
    log_value: Float[np.ndarray, "*shape"]
    assumption_violated: Bool[np.ndarray, "*shape"]
    reason: str

    @property
    def vacuous(self) -> Bool[np.ndarray, "..."]:
        """Where the value exceeds the range of the loss, so that it says nothing."""
        return np.asarray(self.value > LOSS_RANGE)


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


#: Assumptions that all certificates share.
COMMON_ASSUMPTIONS = (
    "the training rows are independent draws of one distribution",
    "||x|| <= B_x for every input of that distribution, B_x known in advance",
    "f(x) = A_L s(A_{L-1} ... s(A_1 x)) without biases, s elementwise, 1-Lipschitz, s(0) = 0",
)


def settle(
    log_value: Float[np.ndarray, "..."], violations: dict[str, Bool[np.ndarray, "..."]]
) -> Evaluation:
    """Replace what is not covered by the assumptions by nan and say why.

    Parameters
    ----------
    log_value
        Logarithm of the bound, shape ``(...)``.
    violations
        Where each assumption fails, by its description; the first that fails counts.
    """
    violated = np.zeros(log_value.shape, dtype=bool)
    reasons = []
    for text, where in violations.items():
        fresh = where & ~violated
        if fresh.any():
            reasons.append(f"{text} ({int(fresh.sum())} of {fresh.size})")
        violated = np.asarray(violated | where)
    kept = np.asarray(np.where(violated, np.nan, log_value))
    return Evaluation(exponential(kept), kept, violated, "; ".join(reasons))
