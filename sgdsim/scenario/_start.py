"""From where trajectories start: the ``[start]`` table."""

from typing import Annotated, Literal

from pydantic import Field

from sgdsim.scenario._fields import Numbers, Positive, Seed, Table, mistake
from sgdsim.scenario._landscape import DeepLinear
from sgdsim.scenario._problem import Landscape, Problem

_START = (
    "Where trajectories start: random (weights of a network, also of the landscape deep_linear) or "
    "point (on a landscape)."
)


class RandomStart(Table):
    """Random weights of a network, the same for all processes."""

    kind: Literal["random"] = Field(description=_START)
    seed: Seed = Field(default=0, description="Seed of the weights.")
    gain: Positive = Field(
        default=1.0, description="Factor of the weights against the usual initialisation."
    )
    each: bool = Field(
        default=False,
        description="Whether every trajectory starts from weights of its own; else all are alike.",
    )


class PointStart(Table):
    """A point of a landscape, from which all trajectories of all processes start."""

    kind: Literal["point"] = Field(description=_START)
    theta: Numbers = Field(description="Coordinates of the point.")


Start = Annotated[RandomStart | PointStart, Field(discriminator="kind")]


def fitting_start(start: Start, problem: Problem | None, at: tuple[str | int, ...] = ()) -> Start:
    """Give back a start that fits a problem, or one that is wrong itself (``None``).

    ``at`` is the path from the checked field to the start.

    Raises
    ------
    pydantic_core.PydanticCustomError
        If it does not fit, at the key that is at fault.
    """
    if problem is None:
        return start
    if not isinstance(problem, Landscape):
        if isinstance(start, PointStart):
            raise mistake(
                "a point is for a landscape; a network has too many weights to list, take "
                "random (got 'point')",
                at=(*at, "kind"),
            )
        return start
    if not isinstance(start, PointStart):
        if isinstance(problem.landscape, DeepLinear):
            return start
        raise mistake(
            "random weights are for a network; a landscape starts at a point, for example "
            "start = {kind = \"point\", theta = [0.5]} (got 'random')",
            at=(*at, "kind"),
        )
    dimension, given = problem.landscape.dimension, len(start.theta)
    if given != dimension:
        raise mistake(
            f"should have {dimension} coordinates, as many as problem.landscape has parameters "
            f"(got {given})",
            at=(*at, "theta"),
        )
    return start


def one_start(start: Start) -> Start:
    """Give back a start that all trajectories share.

    Raises
    ------
    pydantic_core.PydanticCustomError
        If every trajectory has weights of its own.
    """
    if isinstance(start, RandomStart) and start.each:
        raise mistake(
            'weights of its own for every trajectory are for study = "edge"; here all '
            "trajectories start alike, leave it out (got true)",
            at=("each",),
        )
    return start
