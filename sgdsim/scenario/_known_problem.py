"""Problems with a known population minimum: the ``problem`` table of a case."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._fields import Count, Positive, Seed, Siblings, Table, Widths, mistake
from sgdsim.scenario._landscape import AnalyticLandscape, DeepLinear, LipschitzProduct
from sgdsim.scenario._problem import Landscape

_KIND = (
    "Which problem with a known population minimum: landscape (a formula), linear_regression, "
    "teacher_student or many_minima."
)
_LabelNoise = Annotated[float, Field(ge=0)]


class CaseLandscape(Landscape):
    """A risk that is given by a formula, with sets around its minima that exits are known of."""

    @field_validator("landscape")
    @classmethod
    def _exits_are_known(cls, landscape: AnalyticLandscape) -> AnalyticLandscape:
        if isinstance(landscape, DeepLinear | LipschitzProduct):
            raise mistake(
                "exits from sets around its minima are not known; take another landscape, or "
                f'study = "dynamics" (got {landscape.kind!r})',
                at=("kind",),
            )
        return landscape


class LinearRegression(Table):
    """Least squares on standard normal inputs: ``y = x . theta* + label_noise eps``."""

    kind: Literal["linear_regression"] = Field(description=_KIND)
    dimension: Count = Field(description="Number of parameters.")
    samples: Count = Field(description="Training rows.")
    label_noise: _LabelNoise = Field(description="Standard deviation of the labels.")
    seed: Seed = Field(default=0, description="Seed of the training rows.")


class TeacherStudent(Table):
    """Network that fits the noisy outputs of a network of the same shape, without biases."""

    kind: Literal["teacher_student"] = Field(description=_KIND)
    dimension: Annotated[Count, Field(ge=2)] = Field(
        description="Features of an input, which is uniform on the sphere of radius "
        "sqrt(dimension); at least 2."
    )
    hidden: Widths = Field(description="Widths of the hidden layers.")
    activation: Literal["tanh", "relu"] = Field(
        description="Function of the hidden units: tanh (smooth) or relu."
    )
    spectral_norm: Positive = Field(
        default=1.0, description="Largest singular value of every weight matrix of the teacher."
    )
    samples: Count = Field(description="Training rows.")
    label_noise: _LabelNoise = Field(description="Standard deviation of the labels.")
    clip: Positive = Field(
        description="Largest value of the evaluation loss: half the squared error, clipped."
    )
    fresh: Annotated[Count, Field(ge=2)] = Field(
        default=100_000, description="Fresh inputs that estimate the population risk."
    )
    seed: Seed = Field(default=0, description="Seed of the teacher and of all rows.")


class ManyMinima(Table):
    """Equal wells in the population, of random depths in the sample: the price of log K."""

    kind: Literal["many_minima"] = Field(description=_KIND)
    wells: Count = Field(description="Number K of wells that a trajectory may choose from.")
    amplitude: Positive = Field(description="Half of the barrier between two wells.")
    period: Positive = Field(description="Distance between two wells.")
    plateau: Positive = Field(
        description="Distance from a minimum up to which its depth in the sample is shifted by a "
        "constant; less than half the period."
    )
    samples: Count = Field(description="Number n of training rows, which scales the shifts.")
    spread: Positive = Field(
        description="Standard deviation of one row's loss: shifts have spread / sqrt(samples)."
    )
    start: Literal["best", "first"] = Field(
        description="Well of the start: best (deepest in the sample) or first (whatever the "
        "sample)."
    )
    replicas: Count = Field(
        description="Independent samples; every trajectory has its own, so at least as many as "
        "trajectories."
    )
    seed: Seed = Field(default=0, description="Seed of the samples.")

    @field_validator("plateau")
    @classmethod
    def _wells_are_apart(cls, plateau: float, info: Siblings) -> float:
        period = info.data.get("period")
        if period is not None and plateau >= period / 2:
            raise mistake(
                f"should be less than half of period = {period:g}, or the shifts of neighbouring "
                f"wells overlap (got {plateau:g})"
            )
        return plateau


CaseProblem = Annotated[
    CaseLandscape | LinearRegression | TeacherStudent | ManyMinima, Field(discriminator="kind")
]
