"""What the stagnation bounds read, a loss and neighbourhoods, and what they return, terms."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from sgdsim.bounds._logdomain import exponential, log_sum
from sgdsim.bounds._norms import LayerNorms
from sgdsim.bounds._stagnation_entropy import ball_entropy
from sgdsim.bounds._types import settle

#: What every term is the price of: the number of minima (and the confidence), the radius, entropy.
PAYERS: Mapping[str, Literal["K", "delta", "entropy"]] = {
    "centre": "K",
    "displacement": "delta",
    "concentration": "delta",
    "cut": "entropy",
    "entropy": "entropy",
}


@dataclass(frozen=True)
class LossBound:
    r"""What the bounds use of a loss: :math:`\ell\in[0,B_\ell]`, :math:`\lambda`-Lipschitz.

    Parameters
    ----------
    range_
        :math:`B_\ell`: the loss lies in ``[0, range_]`` for every row and every network.
    lipschitz
        :math:`\lambda`: Lipschitz constant in the outputs of the network, Euclidean norm.

    Raises
    ------
    ValueError
        If a number is not positive and finite.

    Examples
    --------
    >>> from sgdsim.bounds import LossBound
    >>> LossBound.clipped_half_squared(2.0)
    LossBound(range_=2.0, lipschitz=2.0)
    """

    range_: float | int
    lipschitz: float | int

    def __post_init__(self) -> None:
        """Refuse a loss without a range or a Lipschitz constant."""
        for name, value in (("range_", self.range_), ("lipschitz", self.lipschitz)):
            if not 0.0 < value < math.inf:
                raise ValueError(
                    f"{name} of a loss must be positive and finite; got {value}: without it "
                    "nothing is proved, clip the loss."
                )

    @classmethod
    def ramp(cls, margin: float | int) -> "LossBound":
        r"""Ramp of margin :math:`\gamma`: range 1, :math:`\lambda=\sqrt2/\gamma`."""
        if not margin > 0.0:
            raise ValueError(f"The margin of a ramp must be positive; got {margin}.")
        return cls(1.0, math.sqrt(2.0) / margin)

    @classmethod
    def clipped_half_squared(cls, clip: float | int) -> "LossBound":
        r"""Give the constants of :math:`\min(\|f-y\|^2/2, c)`: range c, :math:`\lambda=\sqrt{2c}`.

        Where the loss is not clipped its gradient is :math:`f-y`, at most :math:`\sqrt{2c}` long.
        """
        return cls(float(clip), math.sqrt(2.0 * clip) if clip > 0.0 else math.nan)

    @classmethod
    def clipped_cross_entropy(cls, clip: float | int) -> "LossBound":
        r"""Cross-entropy of logits, clipped at ``c``: range c, :math:`\lambda=\sqrt2`.

        Its gradient, probabilities minus the one-hot label, is at most :math:`\sqrt2` long.
        """
        return cls(float(clip), math.sqrt(2.0))


@dataclass(frozen=True, eq=False, kw_only=True)
class Neighbourhoods:
    r"""Union of neighbourhoods of population minima, fixed without the training rows.

    Parameters
    ----------
    norms
        Norms ``(centre, layer)`` of the centres, or ``(layer,)`` of one. A *set* of minima
        :math:`M_k` that is not one point is covered by :math:`N_k(\rho)` balls of radius
        :math:`\rho`; the centres are then those of the balls, and a row may hold upper ends of the
        norms of many of them.
    log_count
        :math:`\log\bar K`, :math:`\bar K=\sum_k N_k(\rho)`: the events that the union bound pays
        for; log of the number of rows of ``norms`` if left out. May be more than those rows, for
        example to evaluate the neighbourhood of one minimum out of ``K``.
    cover_radius
        :math:`\rho\ge0`: every neighbourhood of radius :math:`\delta` lies in a ball of radius
        :math:`\delta+\rho` around a centre, and that is the radius of the bounds.
    entropy
        Entropy integral ``J`` of a neighbourhood (``ball_entropy``, ``ellipsoid_entropy``); that
        of a ball in all parameters if left out. The radius of an ellipsoid is its largest
        semi-axis. With :math:`\rho>0` it must be that of a set that
        contains the neighbourhood with a margin of :math:`\rho`; for balls it is the same number.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    norms: LayerNorms
    log_count: float | None = None
    cover_radius: float | int = 0.0
    entropy: float | None = None

    def __post_init__(self) -> None:
        """Refuse neighbourhoods that contradict themselves."""
        shape = self.norms.spectral_high.shape
        if len(shape) not in (1, 2) or not shape[0]:
            raise ValueError(
                f"Centres have norms of shape (layer,) or (centre, layer); got the shape {shape}."
            )
        if not np.isfinite(self.norms.spectral_high).all():
            raise ValueError("A centre has weights that are not finite.")
        if self.log_count is not None and not (
            len(self.spectral) <= math.exp(min(self.log_count, 700.0)) * (1.0 + 1e-12)
            and self.log_count < math.inf
        ):
            raise ValueError(
                f"log_count must be finite and at least log({len(self.spectral)}), the number of "
                f"centres; got {self.log_count}: the union bound pays for each of them."
            )
        if not 0.0 <= self.cover_radius < math.inf:
            raise ValueError(
                f"cover_radius must be finite and not negative; got {self.cover_radius}."
            )
        if self.entropy is not None and not 0.0 < self.entropy < math.inf:
            raise ValueError(f"entropy must be positive and finite; got {self.entropy}.")

    @property
    def spectral(self) -> Float[np.ndarray, "centre layer"]:
        """Upper ends of the spectral norms, shape (centre, layer)."""
        return np.atleast_2d(self.norms.spectral_high)

    @property
    def log_total(self) -> float:
        r""":math:`\log\bar K`."""
        return math.log(len(self.spectral)) if self.log_count is None else float(self.log_count)

    @property
    def entropy_integral(self) -> float:
        """``J``, of the ball in all parameters unless given."""
        return ball_entropy(self.norms.parameter_count) if self.entropy is None else self.entropy


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundTerms:
    r"""One bound on the generalization gap as a sum of terms that have names.

    Parameters
    ----------
    name
        G1, G2 or G3; for a diagnostic another name.
    log_terms
        Natural logarithms of the terms by name, all of one shape ``(...)``; nan where nothing is
        claimed.
    violations
        Where each assumption fails, by its description.
    radius
        :math:`\delta` as it was given, shape ``(...)``.
    failure_probability
        With one minus this the bound holds over the training rows, on its own.
    loss
        Range and Lipschitz constant of the loss whose gap is bounded.
    log_count_per_row
        :math:`\log\bar K/n`: from about 2 on the number of minima alone makes the bound say
        nothing.
    worst_centre
        Row of the centre for which the sum is largest, shape ``(...)``; the terms are its terms.
    kind
        ``"certificate"``: proved. ``"diagnostic"``: a number that is meant to show something and
        that holds with no probability.
    """

    name: str
    log_terms: Mapping[str, Float[np.ndarray, "..."]]
    violations: Mapping[str, Bool[np.ndarray, "..."]]
    radius: Float[np.ndarray, "..."]
    failure_probability: float
    loss: LossBound
    log_count_per_row: float
    worst_centre: Int[np.ndarray, "..."]
    kind: Literal["certificate", "diagnostic"] = "certificate"

    @property
    def log_total(self) -> Float[np.ndarray, "..."]:
        """Natural logarithm of the bound, shape ``(...)``: not clipped, finite on overflow."""
        return log_sum(*self.log_terms.values())

    @property
    def total(self) -> Float[np.ndarray, "..."]:
        """The bound, shape ``(...)``."""
        return exponential(self.log_total)

    @property
    def terms(self) -> dict[str, Float[np.ndarray, "..."]]:
        """Values of the terms by name."""
        return {name: exponential(value) for name, value in self.log_terms.items()}

    @property
    def shares(self) -> dict[str, Float[np.ndarray, "..."]]:
        """Fraction of the sum that each term makes up, by name; they add up to 1."""
        total = self.log_total
        return {
            name: exponential(np.asarray(value - total)) for name, value in self.log_terms.items()
        }

    @property
    def payers(self) -> dict[str, Float[np.ndarray, "..."]]:
        """Fraction of the sum paid for ``"K"`` (and the confidence), ``"delta"``, ``"entropy"``."""
        paid = {payer: np.zeros(self.worst_centre.shape) for payer in ("K", "delta", "entropy")}
        for name, share in self.shares.items():
            paid[PAYERS[name]] = np.asarray(paid[PAYERS[name]] + share)
        return paid

    @property
    def largest_term(self) -> np.ndarray:
        """Name of the largest term, shape ``(...)``; empty where nothing is claimed."""
        names = np.array([*self.log_terms, ""])
        stacked = np.stack(list(self.log_terms.values()))
        nothing = np.isnan(stacked).any(axis=0)
        largest = np.nan_to_num(stacked).argmax(axis=0)
        return np.asarray(names[np.where(nothing, len(names) - 1, largest)])

    @property
    def assumption_violated(self) -> Bool[np.ndarray, "..."]:
        """Where nothing is claimed, shape ``(...)``."""
        return settle(self.log_total, dict(self.violations)).assumption_violated

    @property
    def reason(self) -> str:
        """Which assumptions fail and how often; empty if none does."""
        return settle(self.log_total, dict(self.violations)).reason

    @property
    def vacuous(self) -> Bool[np.ndarray, "..."]:
        """Where the bound exceeds the range of the loss, shape ``(...)``."""
        return np.asarray(self.total > self.loss.range_)
