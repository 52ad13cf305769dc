"""Analytic landscapes: the ``landscape`` table of a problem."""

import itertools
from typing import Annotated, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._fields import Count, Numbers, Positive, Siblings, Table, Widths, mistake

_KIND = (
    "Which landscape: quadratic, sphere, hyperbola, double_well, periodic_wells, two_wells, "
    "ripples, deep_linear or lipschitz_product."
)
#: Ratio of widths from which the coordinate that is stretched in `two_wells` would turn back.
_LARGEST_RATIO = (1 + 2**0.5) ** 2


class Quadratic(Table):
    """Quadratic bowl, possibly with flat directions: ``sum_i h_i theta_i^2 / 2``."""

    kind: Literal["quadratic"] = Field(description=_KIND)
    eigenvalues: Numbers = Field(
        description="Curvatures h_i along the axes; zeros are flat directions."
    )

    @field_validator("eigenvalues")
    @classmethod
    def _there_is_a_minimum(cls, eigenvalues: tuple[float, ...]) -> tuple[float, ...]:
        if min(eigenvalues) < 0 or max(eigenvalues) == 0:
            raise mistake(
                "should not be negative nor all zero: otherwise there is no minimum or no risk "
                f"(got {list(eigenvalues)})"
            )
        return eigenvalues

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return len(self.eigenvalues)


class Sphere(Table):
    """Risk that is minimal on the unit sphere: ``modulus/2 (|theta| - 1)^2``."""

    kind: Literal["sphere"] = Field(description=_KIND)
    modulus: Positive = Field(description="Curvature across the sphere.")
    dimension: Count = Field(default=2, description="Number of parameters.")


class Hyperbola(Table):
    """Product of two parameters, minimal on a hyperbola: ``(w1 w2 - product)^2 / 2``."""

    kind: Literal["hyperbola"] = Field(description=_KIND)
    product: float = Field(description="Product of the two parameters at the minima.")

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return 2


class DoubleWell(Table):
    """Symmetric double well: ``height/4 (x^2 - 1)^2 + transverse/2 y^2``."""

    kind: Literal["double_well"] = Field(description=_KIND)
    height: Positive = Field(default=1.0, description="Four times the barrier.")
    transverse: Positive | None = Field(
        default=None, description="Curvature of a second dimension; one dimension if left out."
    )

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return 1 if self.transverse is None else 2


class PeriodicWells(Table):
    """Equal wells on the whole line: ``amplitude (1 - cos(2 pi x/period))``."""

    kind: Literal["periodic_wells"] = Field(description=_KIND)
    amplitude: Positive = Field(description="Half of the barrier.")
    period: Positive = Field(description="Distance between two minima.")

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return 1


class TwoWells(Table):
    """A narrow and a wide well on the line, of equal or of given depths."""

    kind: Literal["two_wells"] = Field(description=_KIND)
    height: Positive = Field(description="Barrier of equally deep wells.")
    width_left: Positive = Field(description="Width of the left well.")
    width_right: Positive = Field(
        description="Width of the right well; the larger width is below 5.83 of the smaller one."
    )
    tilt: float = Field(
        default=0.0, description="Value at the right minimum minus value at the left one."
    )

    @field_validator("width_right")
    @classmethod
    def _widths_are_alike(cls, right: float, info: Siblings) -> float:
        left = info.data.get("width_left")
        if left is not None and max(left, right) >= _LARGEST_RATIO * min(left, right):
            raise mistake(
                f"should differ from width_left = {left:g} by a factor below 5.83, or the "
                f"stretched coordinate turns back (got {right:g})"
            )
        return right

    @field_validator("tilt")
    @classmethod
    def _both_wells_are_there(cls, tilt: float, info: Siblings) -> float:
        height = info.data.get("height")
        if height is not None and abs(tilt) >= 16 * height / 3:
            raise mistake(
                f"should be smaller than 16/3 of height = {height:g} in absolute value, or one of "
                f"the wells vanishes (got {tilt:g})"
            )
        return tilt

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return 1


class Ripples(Table):
    """Quadratic bowl with ripples: ``curvature/2 x^2 + amplitude (1 - cos(2 pi x/period))``."""

    kind: Literal["ripples"] = Field(description=_KIND)
    curvature: Positive = Field(description="Curvature of the bowl.")
    amplitude: Positive = Field(description="Half the height of a ripple.")
    period: Positive = Field(description="Length of a ripple.")
    dimension: Count = Field(default=1, description="Number of parameters.")


class DeepLinear(Table):
    """Linear network with one input and one output: ``(W_D ... W_1 - target)^2 / 2``."""

    kind: Literal["deep_linear"] = Field(description=_KIND)
    target: float = Field(description="Product of the weight matrices at the minima.")
    hidden: Widths = Field(
        description="Widths of the hidden layers; [1, 1, 1] is the product of four parameters."
    )

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return sum(rows * cols for cols, rows in itertools.pairwise((1, *self.hidden, 1)))


class LipschitzProduct(Table):
    """Lipschitz loss of a product of two parameters, minimal on both axes: ``l(w1 w2)``."""

    kind: Literal["lipschitz_product"] = Field(description=_KIND)
    loss: Literal["square_root", "log_cosh"] = Field(
        default="square_root",
        description="Convex, even function l: square_root, sqrt(1 + s^2) - 1, or log_cosh, "
        "log(cosh(s)).",
    )
    slope: Positive = Field(
        default=1.0, description="Factor of l, its largest slope and its curvature at zero."
    )

    @property
    def dimension(self) -> int:
        """Number of parameters."""
        return 2


AnalyticLandscape = Annotated[
    Quadratic
    | Sphere
    | Hyperbola
    | DoubleWell
    | PeriodicWells
    | TwoWells
    | Ripples
    | DeepLinear
    | LipschitzProduct,
    Field(discriminator="kind"),
]
