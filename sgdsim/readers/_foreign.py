"""A run that was made elsewhere, whatever file it came from."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

#: Numbers of an optimizer that its edge needs, by kind; kinds that are not listed need none.
NEEDS = {
    "heavy_ball": ("momentum",),
    "nesterov": ("momentum",),
    "adam": ("b1",),
    "sam": ("rho",),
    "sgd": ("batch_size",),
    "gaussian_sgd": ("batch_size",),
    "sde": ("batch_size", "substeps"),
}
#: Optimizers and processes that a run from elsewhere can be of.
KINDS = (
    "gd",
    "sgd",
    "heavy_ball",
    "nesterov",
    "rmsprop",
    "adam",
    "sam",
    "gaussian_sgd",
    "sde",
    "gradient_flow",
    "central_flow",
)
#: Names under which other programs know them.
_OTHER_NAMES = {
    "gradient_descent": "gd",
    "momentum": "heavy_ball",
    "polyak": "heavy_ball",
    "nag": "nesterov",
    "adamw": "adam",
    "flow": "gradient_flow",
}
#: What may be measured at every recorded step, beside the loss.
SERIES = (
    "sharpness",
    "sharpness_residual",
    "midpoint_sharpness",
    "preconditioned_sharpness",
    "batch_sharpness",
    "batch_sharpness_stderr",
    "gradient_norm",
    "test_loss",
    "test_error_rate",
    "predicted_loss",
)


@dataclass(frozen=True)
class Optimizer:
    r"""What moved the parameters of a run from elsewhere, as far as its edge depends on it.

    Parameters
    ----------
    kind
        One of ``KINDS``, or a name that others use, such as ``"polyak"`` for ``"heavy_ball"``.
    momentum
        Momentum ``b`` of ``heavy_ball`` and ``nesterov``, in [0, 1); gradients are not averaged.
    b1
        Weight of the past in the averaged gradient of ``adam``, in [0, 1).
    rho
        Distance uphill of ``sam``.
    normalised
        Whether ``rho`` is that distance, or is multiplied by the gradient.
    batch_size
        Rows of a minibatch; ``None``: all rows in every step.
    substeps
        Euler steps of an ``sde`` in the time ``eta``.
    weight_decay
        Decoupled decay, as in AdamW.

    Raises
    ------
    ValueError
        If the kind is unknown, a number that it needs is missing, or one is out of range.

    Examples
    --------
    >>> from sgdsim.readers import Optimizer
    >>> Optimizer("polyak", momentum=0.9).parameters()
    {'kind': 'heavy_ball', 'momentum': 0.9}
    """

    kind: str = "gd"
    momentum: float | int | None = None
    b1: float | int | None = None
    rho: float | int | None = None
    normalised: bool = True
    batch_size: int | None = None
    substeps: int | None = None
    weight_decay: float | int = 0.0

    def __post_init__(self) -> None:
        plain = self.kind.strip().lower().replace("-", "_")
        object.__setattr__(self, "kind", _OTHER_NAMES.get(plain, plain))
        if self.kind not in KINDS:
            raise ValueError(
                f"The optimizer {self.kind!r} is not known; give one of {', '.join(KINDS)}."
            )
        for name in NEEDS.get(self.kind, ()):
            if getattr(self, name) is None:
                option = name.replace("_", "-")
                raise ValueError(
                    f"The optimizer {self.kind!r} needs {name}; give it by --{option}."
                )
        for name in ("momentum", "b1"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value!r}.")
        if self.rho is not None and not (math.isfinite(self.rho) and self.rho > 0):
            raise ValueError(f"rho must be a positive finite number, got {self.rho!r}.")
        for name in ("batch_size", "substeps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value!r}.")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(
                f"weight_decay must be a finite number, not negative, got {self.weight_decay!r}."
            )

    def parameters(self) -> dict[str, str | float | int | bool]:
        """Kind and numbers that are set, by the names that a scenario has for them."""
        names = ("momentum", "b1", "rho", "batch_size", "substeps")
        numbers = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.weight_decay:
            numbers["weight_decay"] = self.weight_decay
        if self.kind == "sam":
            numbers["normalised"] = self.normalised
        return {"kind": self.kind} | numbers


@dataclass(frozen=True, eq=False)
class ForeignRun:
    r"""One run that was made elsewhere: what was measured at which step, and with what it ran.

    Parameters
    ----------
    name
        What the run is called among others.
    step
        Steps at which something was recorded, whole numbers that rise, shape ``(T,)``.
    loss
        Training loss at these steps, shape ``(T,)`` as all that follows if nothing else is said.
    learning_rate
        Step size ``eta``, shape ``(T,)``, or without axis if it is constant. Of a flow it is the
        time between two steps.
    optimizer
        What moved the parameters.
    eigenvalues
        Largest Hessian eigenvalues, shape ``(T, k)``.
    sharpness
        Largest Hessian eigenvalue; taken from ``eigenvalues`` if left out.
    sharpness_residual
        Norm of the residual of its eigenpair, a bound on its error.
    midpoint_sharpness
        Largest Hessian eigenvalue at :math:`(\theta_{k-2} + 2\theta_{k-1} + \theta_k)/4`.
    preconditioned_sharpness
        Largest eigenvalue of :math:`P^{-1}H`, with the learning rate outside of ``P``.
    batch_sharpness, batch_sharpness_stderr
        :math:`E[g_B^T H_B g_B/|g_B|^2]` and its standard error.
    gradient_norm
        Norm of the gradient of the training loss.
    test_loss, test_error_rate
        Loss and share of mistakes on held-out rows.
    predicted_loss
        Training loss averaged over the oscillations, as a flow predicts it.
    ignored
        Names of what the file also holds and nobody asked for.
    sources
        SHA-256 of every file that was read, by its name.

    Raises
    ------
    ValueError
        If the steps do not rise, a length differs, no loss is finite, or a number that cannot be
        negative is.

    Notes
    -----
    NaN stands for what was not measured at a step. All series become ``float64``, eigenvalues are
    put in falling order.

    Examples
    --------
    >>> import numpy as np
    >>> from sgdsim.readers import ForeignRun
    >>> run = ForeignRun(
    ...     name="mine", step=np.array([0, 100]), loss=np.array([1.0, 0.5]),
    ...     learning_rate=np.array(0.1), eigenvalues=np.array([[3.0, 1.0], [19.0, 2.0]]),
    ... )
    >>> run.learning_rate.tolist(), np.asarray(run.sharpness).tolist()
    ([0.1, 0.1], [3.0, 19.0])
    """

    name: str
    step: np.ndarray
    loss: np.ndarray
    learning_rate: np.ndarray
    optimizer: Optimizer = field(default_factory=Optimizer)
    eigenvalues: np.ndarray | None = None
    sharpness: np.ndarray | None = None
    sharpness_residual: np.ndarray | None = None
    midpoint_sharpness: np.ndarray | None = None
    preconditioned_sharpness: np.ndarray | None = None
    batch_sharpness: np.ndarray | None = None
    batch_sharpness_stderr: np.ndarray | None = None
    gradient_norm: np.ndarray | None = None
    test_loss: np.ndarray | None = None
    test_error_rate: np.ndarray | None = None
    predicted_loss: np.ndarray | None = None
    ignored: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        step = np.asarray(self.step)
        if step.ndim != 1 or step.dtype.kind not in "iu" or not step.size:
            raise ValueError(
                f"step of {self.name!r} must be whole numbers along one axis, got shape "
                f"{step.shape} of {step.dtype}."
            )
        step = step.astype(np.int64)
        self._check_rise(step)
        count = len(step)
        arrays = {"step": step, "loss": self._column("loss", count)}
        arrays["learning_rate"] = self._rates(count)
        arrays |= {
            name: self._column(name, count) for name in SERIES if getattr(self, name) is not None
        }
        if self.eigenvalues is not None:
            arrays["eigenvalues"] = self._spectrum(count)
            arrays.setdefault("sharpness", arrays["eigenvalues"][:, 0])
        for name, values in arrays.items():
            object.__setattr__(self, name, values)
        if not np.isfinite(self.loss).any():
            raise ValueError(f"{self.name!r} has no finite loss; check which column is the loss.")

    def summary(self) -> str:
        """Say in one line what was read."""
        there = [name for name in SERIES if getattr(self, name) is not None]
        low, high = self.learning_rate.min(), self.learning_rate.max()
        rate = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        return (
            f"{self.name}: {len(self.step):,} records of the steps {self.step[0]:,} to "
            f"{self.step[-1]:,}, {self.optimizer.kind} at eta = {rate}, with "
            f"{', '.join(['loss', *there])}"
        )

    def _check_rise(self, step: np.ndarray) -> None:
        if step[0] < 0:
            raise ValueError(f"step of {self.name!r} begins at {step[0]}; count steps from 0 on.")
        falls = np.flatnonzero(np.diff(step) <= 0)
        if falls.size:
            first = int(falls[0])
            raise ValueError(
                f"step of {self.name!r} must rise, but {step[first + 1]} comes after "
                f"{step[first]}; sort the records and leave out repeated ones."
            )

    def _column(self, name: str, count: int) -> np.ndarray:
        values = np.asarray(getattr(self, name), np.float64)
        if values.shape != (count,):
            raise ValueError(
                f"{name} of {self.name!r} has shape {values.shape}, but there are {count} steps; "
                "fill in NaN where it was not measured."
            )
        low, high = _RANGES.get(name, (-math.inf, math.inf))
        wrong = np.flatnonzero((values < low) | (values > high))
        if wrong.size:
            where = int(wrong[0])
            allowed = f"in [{low:g}, {high:g}]" if math.isfinite(high) else "not negative"
            raise ValueError(
                f"{name} of {self.name!r} must be {allowed}, got {values[where]:g} at step "
                f"{int(np.asarray(self.step)[where])}."
            )
        return values

    def _rates(self, count: int) -> np.ndarray:
        rates = np.asarray(self.learning_rate, np.float64)
        if rates.ndim == 0:
            rates = np.full(count, rates)
        good = rates.shape == (count,) and np.all(np.isfinite(rates) & (rates > 0))
        if not good:
            raise ValueError(
                f"learning_rate of {self.name!r} must be one positive number, or one for each of "
                f"the {count} steps, got {_shown(rates)}."
            )
        return rates

    def _spectrum(self, count: int) -> np.ndarray:
        values = np.asarray(self.eigenvalues, np.float64)
        if values.ndim != 2 or len(values) != count or not values.shape[1]:
            raise ValueError(
                f"eigenvalues of {self.name!r} must have one row for each of the {count} steps, "
                f"got shape {values.shape}."
            )
        return -np.sort(-values, axis=1)  # NaN last


#: Ranges of what cannot have every value.
_RANGES = {
    "gradient_norm": (0.0, math.inf),
    "sharpness_residual": (0.0, math.inf),
    "batch_sharpness_stderr": (0.0, math.inf),
    "test_error_rate": (0.0, 1.0),
}


def _shown(values: np.ndarray) -> str:
    if values.ndim != 1:
        return f"shape {values.shape}"
    wrong = values[~(np.isfinite(values) & (values > 0))]
    return f"{wrong[0]:g} among them" if wrong.size else f"{len(values)} numbers"


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
