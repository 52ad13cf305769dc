"""The stagnation study: trajectories around a minimum, in how far they stay, certificates."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._classification import Classification, Mlp, Softmax
from sgdsim.scenario._dynamics import (
    CentralFlow,
    Dynamics,
    EdgeFlow,
    GaussianSgd,
    Gd,
    GradientFlow,
    Sde,
    Sgd,
)
from sgdsim.scenario._fields import (
    LARGEST_INTEGER,
    Count,
    Positive,
    PositiveOrAuto,
    Probability,
    Seed,
    Siblings,
    Table,
    mistake,
)
from sgdsim.scenario._fit import fitting, with_data
from sgdsim.scenario._noise import IsotropicNoise, MinibatchNoise
from sgdsim.scenario._quantities import StagnationQuantity
from sgdsim.scenario._schema import Claim, Scenario

_MOST_CELLS = 1e6


class Minimum(Table):
    """How the minimum is found around which the trajectories are watched."""

    tolerance: Positive = Field(
        description="Norm of the float64 gradient at which the search (L-BFGS) ends."
    )
    max_iterations: Count = Field(description="Largest number of L-BFGS iterations.")
    seed: Seed = Field(description="Seed of the point from which the search starts.")
    quenches: Annotated[int, Field(ge=0, le=LARGEST_INTEGER)] = Field(
        default=8,
        description="Final iterates that are followed to the minimum of their basin, to count the "
        "minima; 0: none. A strongly convex risk has one minimum and needs none.",
    )


class Stagnation(Table):
    """The set around the minimum in which a trajectory may stagnate."""

    radius: PositiveOrAuto = Field(
        description='Radius of the stagnation set, or "auto": from failure_probability.'
    )
    failure_probability: Probability = Field(
        description="Probability of an exit within the run for which an automatic radius is made."
    )
    confidence: Probability = Field(
        description="Level of the Clopper-Pearson interval around the share that stayed."
    )


class Convexity(Table):
    """Where essential convexity is measured around the minimum."""

    directions: Count = Field(description="Random directions, and as many gradient-noise ones.")
    eigenvectors: Count = Field(
        description="Hessian directions at either end of the spectrum, besides the random ones."
    )
    radii: Count = Field(description="Radii, evenly spaced in their logarithm up to the radius.")
    seed: Seed = Field(description="Seed of the random directions.")


class Bounds(Table):
    """How generalization bounds are evaluated."""

    failure_probability: Probability = Field(
        description="Probability with which any of the certificates may fail to hold; each gets an "
        "equal share of it."
    )
    margin: PositiveOrAuto = Field(
        description='Margin of the ramp loss, or "auto": the median positive margin of the '
        "reference minimum on the reference rows."
    )
    grid_ratio: float = Field(
        gt=1, description="Ratio of neighbours in the grid that the union bound pays for."
    )
    grid_low: Positive = Field(description="Smallest point of that grid.")
    grid_high: Positive = Field(description="Largest point of that grid.")

    @field_validator("grid_high")
    @classmethod
    def _grid_is_an_interval(cls, grid_high: float, info: Siblings) -> float:
        low = info.data.get("grid_low")
        if low is not None and not grid_high > low:
            raise mistake(f"should be greater than bounds.grid_low = {low} (got {grid_high})")
        ratio = info.data.get("grid_ratio")
        if low is not None and ratio is not None:
            cells = (math.log(grid_high) - math.log(low)) / math.log(ratio)
            if cells > _MOST_CELLS:
                raise mistake(
                    f"the grid would have {cells:.2g} points, more than {_MOST_CELLS:g}; raise "
                    f"bounds.grid_ratio = {ratio} or bring grid_low and grid_high together "
                    f"(got {grid_high})"
                )
        return grid_high


class StagnationClaim(Claim):
    """What theory or literature says about the run; the run ends by comparing with it."""

    quantity: StagnationQuantity = Field(
        description="Name of the compared number: stay_bound_excess (largest amount by which the "
        "stay probability of theorem S2 exceeds the measured interval), exit_bound (S2 bound on "
        "an exit within the run), distance_to_lyapunov_ratio (measured over linearised mean "
        "squared distance), certificate_slack (smallest certificate minus generalization gap); "
        "certified_exit_bound and certified_radius (S2 with proved constants: its bound at the "
        "radius of the set, and the radius from which it promises failure_probability); "
        "stagnation_number (radius of the sampled convexity over the stationary radius); "
        "participation_share (effective dimension of the final iterates, upper limit, over the "
        "number of parameters); top_space_share (share of the displacement in the sharpest "
        "directions, over that of isotropic displacements); final_error_rate, "
        "final_test_error_rate, zero_one_gap and certified_gap (means over trajectories at the "
        "end: errors, their difference, smallest certificate over the range of its loss)."
    )


class StagnationScenario(Scenario):
    """A run that asks how long trajectories stay near a minimum, and what follows from it.

    Examples
    --------
    >>> from sgdsim.scenario import StagnationScenario, load_scenario
    >>> scenario = load_scenario("stagnation")
    >>> isinstance(scenario, StagnationScenario)
    True
    """

    study: Literal["stagnation"] = Field(
        default="stagnation",
        description="Which question: stagnation (does it stay near a minimum).",
    )
    problem: Classification = Field(description="What is minimised: data, model, loss.")
    claim: Annotated[tuple[StagnationClaim, ...], Field(strict=False)] = Field(
        default=(), description="What theory or literature says about the run."
    )
    minimum: Minimum = Field(description="How the minimum is found.")
    dynamics: Dynamics = Field(description="How the parameters move.")
    stagnation: Stagnation = Field(description="The set in which trajectories may stagnate.")
    convexity: Convexity = Field(description="Where essential convexity is measured.")
    bounds: Bounds = Field(description="How generalization bounds are evaluated.")

    @field_validator("problem", mode="before")
    @classmethod
    def _has_data(cls, problem: Any) -> Any:
        return with_data(problem, "certificates need data")

    @field_validator("dynamics")
    @classmethod
    def _dynamics_fit(cls, dynamics: Dynamics, info: Siblings) -> Dynamics:
        return fitting(dynamics, info.data.get("problem"))

    @field_validator("stagnation")
    @classmethod
    def _automatic_radius_has_a_formula(cls, stagnation: Stagnation, info: Siblings) -> Stagnation:
        problem, dynamics = info.data.get("problem"), info.data.get("dynamics")
        if stagnation.radius != "auto" or problem is None or dynamics is None:
            return stagnation
        reason = _why_no_radius(problem, dynamics)
        if reason:
            raise mistake(f"'auto' has no value here: {reason}; give a number", at=("radius",))
        return stagnation


def _why_no_radius(problem: Classification, dynamics: Dynamics) -> str:
    """Say why the asymptotic formula of the radius does not apply; empty if it does."""
    if isinstance(dynamics, Gd | GradientFlow | CentralFlow | EdgeFlow):
        return "gradient descent has no noise"
    if not isinstance(dynamics, Sgd | GaussianSgd | Sde):
        return f"there is no formula for {dynamics.kind}"
    if not dynamics.is_plain:
        return "there is no formula with weight decay, a schedule or a projection"
    if isinstance(dynamics, Sde) and dynamics.order == 2:
        return "there is no formula for the SDE of order 2"
    noise = None if isinstance(dynamics, Sgd) else dynamics.noise
    if not isinstance(noise, MinibatchNoise | IsotropicNoise | None):
        return f"there is no formula for {noise.kind} noise"
    if isinstance(problem.model, Softmax) and problem.ridge == 0:
        return "without a ridge there is no strong convexity"
    if isinstance(problem.model, Mlp) and isinstance(noise, IsotropicNoise):
        return "a network has no modulus for isotropic noise"
    return ""
