"""What certificates and measures read: norms of the iterates, the training rows, what was fixed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from sgdsim.bounds._grid import GeometricGrid
from sgdsim.bounds._logdomain import all_finite
from sgdsim.bounds._norms import LayerDistances, LayerNorms

#: Activations of which the certificates know that they are 1-Lipschitz with s(0) = 0. Those of
#: ``HOMOGENEOUS`` also satisfy s(c x) = c s(x) for c >= 0.
ActivationName = Literal["relu", "tanh", "linear"]
HOMOGENEOUS = ("relu", "linear")


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
    largest_column
        :math:`\max_j (\sum_i x_{ij}^2)^{1/2}` of the training inputs; at most ``frobenius``, which
        stands for it if it is left out.

    Raises
    ------
    ValueError
        If a number is out of range, or the rows contradict the bound on the inputs.
    """

    size: int
    input_bound: float | int
    frobenius: float | int
    largest_column: float | int | None = None

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
        if not 0.0 <= self.column_norm <= self.frobenius * (1.0 + 1e-6):
            raise ValueError(
                f"largest_column={self.largest_column} is not between 0 and frobenius="
                f"{self.frobenius}: a column of the inputs is no longer than the whole matrix."
            )

    @classmethod
    def of(cls, inputs: np.ndarray, input_bound: float | int) -> "TrainingSample":
        r"""Describe training inputs of any shape, row by row flattened.

        Parameters
        ----------
        inputs
            Shape ``(n, ...)``.
        input_bound
            ``B_x``.
        """
        rows = np.asarray(inputs, np.float64).reshape(len(inputs), -1)
        return cls(
            size=len(rows),
            input_bound=input_bound,
            frobenius=float(np.linalg.norm(rows)),
            largest_column=float(np.linalg.norm(rows, axis=0).max(initial=0.0)),
        )

    @property
    def column_norm(self) -> float:
        """Norm of the longest column of the training inputs, or a bound on it."""
        return float(self.frobenius if self.largest_column is None else self.largest_column)


@dataclass(frozen=True, eq=False, kw_only=True)
class GibbsErrors:
    r"""Errors of the stochastic networks :math:`N(\theta, s_j^2 I)`, by Monte Carlo.

    Parameters
    ----------
    deviations
        Standard deviations :math:`s_j`, fixed in advance, shape ``(scale,)``.
    training
        Share of wrong answers on the training rows, mean over the draws, ``(..., scale)``.
    draws
        Number ``m`` of independent draws of the weights behind every mean.
    held_out
        The same on held-out rows; ``None`` if there are none.
    parameters
        Number ``p`` of weights that are drawn.

    Raises
    ------
    ValueError
        If shapes disagree or a number is out of range.
    """

    deviations: Float[np.ndarray, " scale"]
    training: Float[np.ndarray, "... scale"]
    draws: int
    parameters: int
    held_out: Float[np.ndarray, "... scale"] | None = None

    def __post_init__(self) -> None:
        """Refuse errors that do not belong to the deviations."""
        if self.draws < 1 or self.parameters < 1:
            raise ValueError(
                f"draws and parameters must be at least 1; got {self.draws}, {self.parameters}."
            )
        if not (np.isfinite(self.deviations).all() and (self.deviations > 0.0).all()):
            raise ValueError(f"deviations must be positive and finite; got {self.deviations}.")
        for name, array in (("training", self.training), ("held_out", self.held_out)):
            if array is None:
                continue
            if array.shape[-1:] != self.deviations.shape:
                raise ValueError(
                    f"{name} must end with the axis of the {self.deviations.size} deviations; got "
                    f"the shape {array.shape}."
                )
            if not np.all(np.isnan(array) | ((array >= 0.0) & (array <= 1.0))):
                raise ValueError(f"{name} must hold shares of wrong answers, from 0 to 1.")


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundInputs:
    r"""Everything that certificates and measures may need, for an array of iterates.

    What is left out makes the bounds that need it unavailable, and no others.

    Parameters
    ----------
    iterate
        Norms ``(..., layer)`` of the iterates.
    sample
        The training rows.
    margin
        :math:`\gamma`, chosen without the training rows.
    failure_probability
        :math:`\delta` of each certificate on its own.
    grid
        Grid for every norm that a union bound pays for.
    activation
        Name of the activation between the layers.
    reference
        Norms ``(layer,)`` of the centre :math:`\theta_1`, a minimum found on rows that are
        independent of the training rows.
    radius
        :math:`\|\theta-\theta_1\|` over all weights, shape ``(...)``.
    inside
        Whether the iterate is in the stagnation set, shape ``(...)``; all of them if left out.
    initial
        Distances ``(..., layer)`` from the initialisation, which is fixed in advance.
    caps
        Norms ``(layer,)`` that no network of a class fixed in advance exceeds.
    gibbs
        Errors of Gaussian posteriors around the iterates.
    measured
        Numbers ``(...)`` from passes over the training rows, by name: margins, path norms, noise
        tolerances, ...

    Raises
    ------
    ValueError
        If shapes disagree or a number is out of range.
    """

    iterate: LayerNorms
    sample: TrainingSample
    margin: float | int
    failure_probability: float
    grid: GeometricGrid
    activation: ActivationName = "tanh"
    reference: LayerNorms | None = None
    radius: Float[np.ndarray, "..."] | None = None
    inside: Bool[np.ndarray, "..."] | None = None
    initial: LayerDistances | None = None
    caps: LayerNorms | None = None
    gibbs: GibbsErrors | None = None
    measured: Mapping[str, Float[np.ndarray, "..."]] | None = None

    def __post_init__(self) -> None:
        """Refuse inputs that do not belong together."""
        for name in ("reference", "caps"):
            norms = getattr(self, name)
            if norms is not None:
                self._check_single(name, norms)
        lead = self.lead
        arrays = {
            "radius": self.radius,
            "inside": self.inside,
            **(self.measured or {}),
        }
        for name, array in arrays.items():
            if array is not None and array.shape != lead:
                raise ValueError(f"{name} must have the shape {lead}; got {array.shape}.")
        if self.initial is not None:
            shape = self.iterate.spectral_high.shape
            if self.initial.frobenius.shape != shape:
                raise ValueError(
                    f"initial must have distances of shape {shape}; got "
                    f"{self.initial.frobenius.shape}."
                )
        if self.gibbs is not None and self.gibbs.training.shape[:-1] != lead:
            raise ValueError(
                f"gibbs must have errors of shape {(*lead, self.gibbs.deviations.size)}; got "
                f"{self.gibbs.training.shape}."
            )
        if not 0.0 < self.margin < np.inf:
            raise ValueError(f"margin must be positive and finite; got {self.margin}.")
        if not 0.0 < self.failure_probability < 1.0:
            raise ValueError(
                f"failure_probability must be in (0, 1); got {self.failure_probability}."
            )

    def _check_single(self, name: str, norms: LayerNorms) -> None:
        if norms.shapes != self.iterate.shapes:
            raise ValueError(
                f"The {name} has the layers {norms.shapes}, the iterate "
                f"{self.iterate.shapes}; both must be the same network."
            )
        if norms.spectral_high.ndim != 1:
            raise ValueError(
                f"The {name} is one network, with norms of shape (layer,); got the shape "
                f"{norms.spectral_high.shape}."
            )
        if not np.isfinite(norms.spectral_high).all():
            raise ValueError(f"The {name} has weights that are not finite.")

    @property
    def lead(self) -> tuple[int, ...]:
        """Shape ``(...)`` of the array of iterates."""
        return self.iterate.spectral_high.shape[:-1]

    @property
    def layers(self) -> int:
        """Number of weight matrices."""
        return len(self.iterate.shapes)

    @property
    def outputs(self) -> int:
        """Number of outputs of the network."""
        return self.iterate.shapes[-1][0]

    @property
    def homogeneous(self) -> bool:
        """Whether s(c x) = c s(x) for c >= 0."""
        return self.activation in HOMOGENEOUS

    @property
    def finite(self) -> Bool[np.ndarray, "..."]:
        """Where the iterate and all its norms are finite, shape ``(...)``."""
        norms = self.iterate
        finite = np.ones(self.lead, bool) if self.radius is None else np.isfinite(self.radius)
        for array in (norms.spectral_high, norms.frobenius, norms.two_one):
            finite = finite & all_finite(array)
        return np.asarray(finite)

    def missing(self, needs: tuple[str, ...]) -> list[str]:
        """Name what is needed and not there: fields of this class or names of ``measured``."""
        known = self.measured or {}
        return [need for need in needs if getattr(self, need, None) is None and need not in known]
