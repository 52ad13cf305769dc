"""How the parameters move: the ``dynamics`` tables."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._fields import (
    LARGEST_INTEGER,
    BatchSize,
    Count,
    Fraction,
    LearningRate,
    Momentum,
    Positive,
    Siblings,
    Table,
    mistake,
)
from sgdsim.scenario._modifiers import Projection, Schedule
from sgdsim.scenario._noise import MinibatchNoise, Noise

_KIND = (
    "Which dynamics: gd, gradient_flow, central_flow and edge_flow (no noise); sgd, svag, sgld, "
    "label_noise_sgd (minibatches); gaussian_sgd (Gaussian gradient noise); heavy_ball, nesterov, "
    "rmsprop, adam, sam; sde, underdamped_sde, rmsprop_sde, adam_sde (continuous-time Ito "
    "equations)."
)
_BATCH = "Rows of a minibatch."
_NOISE_BATCH = (
    "Rows of a minibatch; minibatch noise has the covariance of one gradient divided by it. "
    "Isotropic, langevin and constant noise do not use it."
)
_REPLACEMENT = "Whether a minibatch may hold the same row twice."
_SUBSTEPS = "Euler steps in the time eta of one SGD step."

#: Solvers of stochastic equations, by the name of their class in diffrax; which of them fits which
#: noise is known where the noise is.
SdeSolver = Literal[
    "euler",
    "itomilstein",
    "heun",
    "midpoint",
    "ralston",
    "eulerheun",
    "stratonovichmilstein",
    "reversibleheun",
    "generalshark",
    "spark",
    "slowrk",
    "shark",
    "sra1",
    "sea",
    "align",
    "should",
    "quicsort",
]
#: Adaptive solvers of equations without noise.
FlowSolver = Literal["tsit5", "dopri5", "dopri8", "kvaerno5"]


class _Dynamics(Table):
    learning_rate: LearningRate = Field(
        description="Step size eta; the time is eta times the step."
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        description="Decoupled decay: every step also subtracts eta * weight_decay * theta.",
    )
    schedule: Schedule | None = Field(
        default=None, description="How the learning rate changes with the step; else constant."
    )
    projection: Projection | None = Field(
        default=None, description="Convex set onto which every iterate is projected."
    )

    @property
    def is_plain(self) -> bool:
        """Whether nothing is done around the steps: no decay, schedule or projection."""
        return self.weight_decay == 0 and self.schedule is None and self.projection is None

    @property
    def draws_rows(self) -> bool:
        """Whether steps look at the gradients of single rows, drawn or as noise."""
        noise = getattr(self, "noise", None)
        if noise is not None:
            return noise.from_rows
        return getattr(self, "batch_size", None) is not None

    @property
    def repeats_rows(self) -> bool:
        """Whether a batch, or the one whose noise this is, may hold the same row twice."""
        noise = getattr(self, "noise", None) or self  # Gaussian noise says itself how
        return getattr(noise, "replacement", True)


class Gd(_Dynamics):
    """Gradient descent: ``theta' = theta - eta grad L_n(theta)``."""

    kind: Literal["gd"] = Field(description=_KIND)


class GradientFlow(_Dynamics):
    """Gradient flow ``d theta/dt = -grad L_n``, in adaptive steps, seen at the times eta k."""

    kind: Literal["gradient_flow"] = Field(description=_KIND)
    order: Literal[1, 2] = Field(
        default=1,
        description="1, or 2 for the flow of L + eta/4 |grad L|^2, which gradient descent follows "
        "to second order in eta.",
    )
    solver: FlowSolver = Field(default="tsit5", description="Solver of diffrax.")
    rtol: Positive = Field(default=1e-5, description="Relative tolerance of an adaptive step.")
    atol: Positive = Field(default=1e-8, description="Absolute tolerance of an adaptive step.")


class CentralFlow(_Dynamics):
    """Central flow: the time-averaged path of gradient descent at the edge of stability."""

    kind: Literal["central_flow"] = Field(description=_KIND)
    substeps: int = Field(default=2, ge=2, le=LARGEST_INTEGER, description=_SUBSTEPS)
    max_critical: int = Field(
        default=3,
        ge=1,
        le=10,
        description="Largest Hessian eigenvalues that are followed and held at the edge 2/eta; "
        "those that come after them are not held.",
    )
    tolerance: Positive = Field(
        default=1e-6,
        description="Relative error of the eigenvalues, where a search ends; that of the "
        "eigenvectors is its root.",
    )


class EdgeFlow(_Dynamics):
    """Edge flow: centre, direction and amplitude of gradient descent at the edge of stability."""

    kind: Literal["edge_flow"] = Field(description=_KIND)
    substeps: int = Field(default=4, ge=2, le=LARGEST_INTEGER, description=_SUBSTEPS)
    amplitude: Positive = Field(
        default=1e-3, description="First and smallest amplitude of the oscillation."
    )


class Sgd(_Dynamics):
    """Minibatch SGD: gradient descent with the gradient of ``batch_size`` drawn rows."""

    kind: Literal["sgd"] = Field(description=_KIND)
    batch_size: BatchSize = Field(description=_BATCH)
    replacement: bool = Field(default=True, description=_REPLACEMENT)


class Svag(_Dynamics):
    """SVAG: ``l`` small steps for one of SGD with the same noise, which tends to its SDE."""

    kind: Literal["svag"] = Field(description=_KIND)
    batch_size: BatchSize = Field(description="Rows of each of the two minibatches of a substep.")
    l: Count = Field(description="Substeps in one step of SGD; 1 is SGD, large l is the SDE.")
    replacement: bool = Field(default=True, description=_REPLACEMENT)


class Sgld(_Dynamics):
    """Langevin dynamics, ``theta' = theta - eta g + sqrt(2 eta/beta) xi``."""

    kind: Literal["sgld"] = Field(description=_KIND)
    inverse_temperature: Positive = Field(
        description="beta; without batches the density tends to exp(-beta L)."
    )
    batch_size: BatchSize | None = Field(
        default=None, description="Rows of a minibatch; all rows if left out."
    )


class LabelNoiseSgd(_Dynamics):
    """Minibatch SGD whose labels get fresh Gaussian noise in every step."""

    kind: Literal["label_noise_sgd"] = Field(description=_KIND)
    batch_size: BatchSize = Field(description=_BATCH)
    std: Positive = Field(description="Standard deviation of the noise of one label component.")
    replacement: bool = Field(default=True, description=_REPLACEMENT)


def _size_for(noise: Any, size: int | None) -> int | None:
    if size is None and noise is not None and noise.from_rows:
        raise mistake(
            f"missing: {noise.kind} noise needs it, for example batch_size = 16; isotropic, "
            "langevin and constant noise do not"
        )
    return size


class _Noisy(_Dynamics):
    noise: Noise = Field(
        default=MinibatchNoise(kind="minibatch"), description="Law of the gradient noise."
    )
    batch_size: BatchSize | None = Field(default=None, description=_NOISE_BATCH)

    @field_validator("batch_size")
    @classmethod
    def _noise_has_a_size(cls, size: int | None, info: Siblings) -> int | None:
        return _size_for(info.data.get("noise"), size)


class GaussianSgd(_Noisy):
    """Gaussian SGD: ``theta' = theta - eta (grad L_n(theta) + xi)`` with Gaussian ``xi``."""

    kind: Literal["gaussian_sgd"] = Field(description=_KIND)


class _Equation(_Noisy):
    substeps: Count = Field(description=_SUBSTEPS)
    adaptive: bool = Field(
        default=False, description="Adaptive steps, which are refused; see gradient_flow."
    )

    @field_validator("adaptive")
    @classmethod
    def _steps_are_fixed(cls, adaptive: bool) -> bool:
        if adaptive:
            raise mistake(
                "adaptive steps are refused on an SDE: Euler has no error estimate, and adapted "
                "steps would need a Brownian tree; raise substeps, or take gradient_flow, which "
                "is adaptive (got true)"
            )
        return adaptive


class Sde(_Equation):
    """Ito equation ``d theta = -grad L_n dt + sqrt(eta) Sigma^(1/2) dW``, in steps eta/substeps."""

    kind: Literal["sde"] = Field(description=_KIND)
    order: Literal[1, 2] = Field(
        default=1,
        description="1, or 2 for the drift of L + eta/4 |grad L|^2, whose law is that of SGD to "
        "second order in eta; Euler, whose own error is of order eta/substeps, needs substeps of "
        "the order of 1/eta for that, and with one substep it is refused.",
    )
    solver: SdeSolver = Field(
        default="euler",
        description="Solver of diffrax; one that does not fit the noise is refused by the run.",
    )
    ito_correction: bool = Field(
        default=False,
        description="Whether the drift is corrected so that a Stratonovich solver converges to "
        "the Ito equation.",
    )
    resolution: Count | None = Field(
        default=None,
        description="Points per SGD step at which the Brownian path is drawn, a multiple of "
        "substeps; processes of the same resolution follow one path. substeps if left out.",
    )

    @field_validator("resolution")
    @classmethod
    def _substeps_divide_it(cls, resolution: int | None, info: Siblings) -> int | None:
        substeps = info.data.get("substeps")
        if resolution is not None and substeps is not None and resolution % substeps:
            raise mistake(
                f"should be a multiple of substeps = {substeps}, so that steps end on the grid of "
                f"the path (got {resolution})"
            )
        return resolution


class UnderdampedSde(_Equation):
    """Ito equation of SGD with momentum: underdamped Langevin, in the time sqrt(eta) k."""

    kind: Literal["underdamped_sde"] = Field(description=_KIND)
    momentum: Momentum = Field(description="Momentum b; the damping is (1 - b)/sqrt(eta).")
    nesterov: bool = Field(
        default=False, description="Whether it is the equation of Nesterov's momentum."
    )
    solver: SdeSolver = Field(
        default="euler",
        description="Solver of diffrax: euler; with isotropic noise also align, should, quicsort.",
    )


class RmspropSde(_Equation):
    """Ito equation of RMSProp."""

    kind: Literal["rmsprop_sde"] = Field(description=_KIND)
    decay: Fraction = Field(default=0.9, description="Weight of the past in the mean square.")
    epsilon: Positive = Field(default=1e-8, description="Number added to the root mean square.")


class AdamSde(_Equation):
    """Ito equation of Adam."""

    kind: Literal["adam_sde"] = Field(description=_KIND)
    b1: Fraction = Field(default=0.9, description="Weight of the past in the mean gradient.")
    b2: Fraction = Field(default=0.999, description="Weight of the past in the mean square.")
    epsilon: Positive = Field(default=1e-8, description="Number added to the root mean square.")


class _Optimizer(_Dynamics):
    noise: Noise | None = Field(
        default=None,
        description="Noise that is added to the gradient on all rows, in place of minibatches.",
    )
    batch_size: BatchSize | None = Field(
        default=None,
        description="Rows of a minibatch, or the batch size of the noise; with neither the "
        "gradient is that of all rows.",
    )
    replacement: bool = Field(default=True, description=_REPLACEMENT)

    @field_validator("batch_size")
    @classmethod
    def _noise_has_a_size(cls, size: int | None, info: Siblings) -> int | None:
        return _size_for(info.data.get("noise"), size)


class HeavyBall(_Optimizer):
    """Polyak's momentum: ``m' = g + b m``, ``theta' = theta - eta m'``."""

    kind: Literal["heavy_ball"] = Field(description=_KIND)
    momentum: Momentum = Field(description="Momentum b; gradients are not averaged.")


class Nesterov(_Optimizer):
    """Nesterov's momentum: ``m' = g + b m``, ``theta' = theta - eta (g + b m')``."""

    kind: Literal["nesterov"] = Field(description=_KIND)
    momentum: Momentum = Field(description="Momentum b; gradients are not averaged.")


class Rmsprop(_Optimizer):
    """RMSProp: the gradient over the root of its averaged square."""

    kind: Literal["rmsprop"] = Field(description=_KIND)
    decay: Fraction = Field(default=0.9, description="Weight of the past in the mean square.")
    epsilon: Positive = Field(default=1e-8, description="Number added to the root mean square.")


class Adam(_Optimizer):
    """Adam; with weight_decay it is AdamW."""

    kind: Literal["adam"] = Field(description=_KIND)
    b1: Fraction = Field(default=0.9, description="Weight of the past in the mean gradient.")
    b2: Fraction = Field(default=0.999, description="Weight of the past in the mean square.")
    epsilon: Positive = Field(default=1e-8, description="Number added to the root mean square.")


class Sam(_Optimizer):
    """Sharpness-aware minimisation: the gradient at a point uphill."""

    kind: Literal["sam"] = Field(description=_KIND)
    rho: Positive = Field(description="Distance uphill, or its ratio to the gradient.")
    normalised: bool = Field(
        default=True,
        description="Whether rho is the distance uphill (true) or is multiplied by the gradient.",
    )


Dynamics = Annotated[
    Gd
    | GradientFlow
    | CentralFlow
    | EdgeFlow
    | Sgd
    | GaussianSgd
    | Sde
    | Svag
    | Sgld
    | LabelNoiseSgd
    | HeavyBall
    | Nesterov
    | Rmsprop
    | Adam
    | Sam
    | UnderdampedSde
    | RmspropSde
    | AdamSde,
    Field(discriminator="kind"),
]
