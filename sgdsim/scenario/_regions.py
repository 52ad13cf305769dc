"""Stagnation sets around known minima: the ``region`` table of a case."""

from typing import Annotated, Literal

from pydantic import Field

from sgdsim.scenario._fields import Positive, Seed, Table

_KIND = (
    "Which set: ball (around the minimum of the start), tube (distance to all minima), ellipsoid "
    "(shape of the stationary covariance), sublevel (height of the risk), function (distance of "
    "the outputs), wells (balls around all minima) or half_space (a level of one coordinate)."
)


class BallRegion(Table):
    """All points within a distance of the minimum that is nearest to the start."""

    kind: Literal["ball"] = Field(description=_KIND)
    radius: Positive = Field(description="Largest distance to the minimum, delta.")


class TubeRegion(Table):
    """All points within a distance of the set of minima, whichever is nearest."""

    kind: Literal["tube"] = Field(description=_KIND)
    radius: Positive = Field(description="Largest distance to the minima, delta.")


class EllipsoidRegion(Table):
    """Ellipsoid of the stationary covariance around the minimum of a quadratic."""

    kind: Literal["ellipsoid"] = Field(description=_KIND)
    radius: Positive = Field(description="Semi-axes in stationary standard deviations.")


class SublevelRegion(Table):
    """All points whose risk is less than a height above the minimum."""

    kind: Literal["sublevel"] = Field(description=_KIND)
    height: Positive = Field(description="Risk above that of the minimum.")


class FunctionRegion(Table):
    """All networks whose outputs are close to those at the minimum: no symmetry matters."""

    kind: Literal["function"] = Field(description=_KIND)
    radius: Positive = Field(
        description="Root mean square distance of the outputs on the training rows."
    )


class WellsRegion(Table):
    """Balls around all minima of wells, left when the trajectory is in none of them."""

    kind: Literal["wells"] = Field(description=_KIND)
    radius: Positive = Field(description="Radius of every ball.")
    same_basin: bool = Field(
        default=False, description="Whether a change of the ball counts as an exit."
    )


class HalfSpaceRegion(Table):
    """All points below a level of one coordinate."""

    kind: Literal["half_space"] = Field(description=_KIND)
    coordinate: Seed = Field(default=0, description="Number of the coordinate, counted from 0.")
    level: float = Field(description="The set is left when the coordinate exceeds it.")


Region = Annotated[
    BallRegion
    | TubeRegion
    | EllipsoidRegion
    | SublevelRegion
    | FunctionRegion
    | WellsRegion
    | HalfSpaceRegion,
    Field(discriminator="kind"),
]
