"""What is done around the steps of any dynamics: schedules and projections."""

import itertools
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from sgdsim.scenario._fields import Count, Numbers, Positive, Siblings, Table, Widths, mistake

_SCHEDULE = (
    "How the learning rate changes with the step: linear, cosine and exponential decay, step "
    "(jumps) or warmup (a linear rise, then another one)."
)
_PROJECTION = (
    "Convex set onto which every iterate is projected: ball, box or spectral (weight matrices of "
    "bounded spectral norm)."
)
_Final = Annotated[float, Field(ge=0)]


class LinearSchedule(Table):
    """From ``learning_rate`` to another one on a straight line, then constant."""

    kind: Literal["linear"] = Field(description=_SCHEDULE)
    final: _Final = Field(description="Learning rate at the end.")
    steps: Count = Field(description="Steps until the end.")


class CosineSchedule(Table):
    """Half a cosine wave from ``learning_rate`` to another one, then constant."""

    kind: Literal["cosine"] = Field(description=_SCHEDULE)
    steps: Count = Field(description="Steps until the end.")
    final: _Final = Field(default=0.0, description="Learning rate at the end.")


class ExponentialSchedule(Table):
    """``learning_rate`` times a factor every so many steps, smoothly."""

    kind: Literal["exponential"] = Field(description=_SCHEDULE)
    steps: Count = Field(description="Steps within which the factor is reached.")
    factor: Positive = Field(description="Factor of the learning rate.")


def _increasing(boundaries: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in itertools.pairwise(boundaries)):
        raise mistake(f"should be increasing (got {list(boundaries)})")
    return boundaries


class StepSchedule(Table):
    """``learning_rate``, multiplied by a factor from each boundary on."""

    kind: Literal["step"] = Field(description=_SCHEDULE)
    boundaries: Annotated[Widths, AfterValidator(_increasing)] = Field(
        description="Steps, increasing; each is the first with a new learning rate."
    )
    factors: Numbers = Field(description="Positive factor at each boundary.")

    @field_validator("factors")
    @classmethod
    def _one_per_boundary(cls, factors: tuple[float, ...], info: Siblings) -> tuple[float, ...]:
        boundaries = info.data.get("boundaries")
        if boundaries is not None and len(factors) != len(boundaries):
            raise mistake(
                f"should have one factor for each of the {len(boundaries)} boundaries "
                f"(got {len(factors)})"
            )
        for index, factor in enumerate(factors):
            if not factor > 0:
                raise mistake(f"should be greater than 0 (got {factor:g})", at=(index,))
        return factors


class WarmupSchedule(Table):
    """A linear rise from zero to ``learning_rate``, then another schedule or no change."""

    kind: Literal["warmup"] = Field(description=_SCHEDULE)
    steps: Count = Field(description="Steps of the rise.")
    then: LinearSchedule | CosineSchedule | ExponentialSchedule | StepSchedule | None = Field(
        default=None,
        discriminator="kind",
        description="Schedule after the rise, its steps counted from there; constant if left out.",
    )


Schedule = Annotated[
    LinearSchedule | CosineSchedule | ExponentialSchedule | StepSchedule | WarmupSchedule,
    Field(discriminator="kind"),
]


class BallProjection(Table):
    """All parameters together stay in a Euclidean ball around the origin."""

    kind: Literal["ball"] = Field(description=_PROJECTION)
    radius: Positive = Field(description="Radius of the ball around the origin.")


class BoxProjection(Table):
    """Every parameter stays in an interval."""

    kind: Literal["box"] = Field(description=_PROJECTION)
    low: float = Field(description="Smallest value of a parameter.")
    high: float = Field(description="Largest value of a parameter.")

    @field_validator("high")
    @classmethod
    def _is_above(cls, high: float, info: Siblings) -> float:
        low = info.data.get("low")
        if low is not None and not high > low:
            raise mistake(f"should be greater than low = {low:g} (got {high:g})")
        return high


class SpectralProjection(Table):
    """Every weight matrix keeps a bounded spectral norm."""

    kind: Literal["spectral"] = Field(description=_PROJECTION)
    bound: Positive = Field(description="Largest singular value of a weight matrix.")


Projection = Annotated[
    BallProjection | BoxProjection | SpectralProjection, Field(discriminator="kind")
]
