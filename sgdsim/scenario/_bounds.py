"""The bounds study: networks trained to one loss, and what bounds and measures say of them."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from sgdsim.scenario._classification import Classification
from sgdsim.scenario._dynamics import Dynamics
from sgdsim.scenario._fields import Count, Positive, Seed, Siblings, Table, Text, mistake
from sgdsim.scenario._fit import fitting, with_data
from sgdsim.scenario._quantities import (
    QUANTITIES_OF_ONE_BOUND,
    BoundsQuantity,
)
from sgdsim.scenario._schema import Claim, Scenario
from sgdsim.scenario._stagnation import Bounds
from sgdsim.scenario._start import RandomStart, one_start


class Training(Table):
    """When training ends, and how the reference network is trained."""

    target: Positive | None = Field(
        default=None,
        description="Training loss at which a trajectory stops; networks are compared there, "
        "because at different losses the loss alone predicts the gap. Without it all steps are "
        "made, which bounds on the mean gap over trajectories need.",
    )
    reference_target: Positive = Field(
        default=0.1, description="Loss of the reference network, if there is no target."
    )
    reference_steps: Count = Field(
        default=20_000,
        description="Most steps of Adam on the reference rows, to that loss; that network is "
        "the centre of G1 to G3, the mean of the data-dependent prior, and fixes the margin.",
    )
    reference_rate: Positive = Field(default=0.01, description="Learning rate of that Adam.")


class Measuring(Table):
    """How what bounds and measures read of a network is measured."""

    draws: Annotated[Count, Field(ge=2)] = Field(
        default=64,
        description="Random networks behind every mean error of a network with noisy weights.",
    )
    deviations: Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)] = Field(
        default=(0.003, 0.01, 0.03, 0.1, 0.3),
        description="Standard deviations of the noisy weights; PAC-Bayes bounds pay for choosing "
        "the best of them.",
    )
    seed: Seed = Field(default=0, description="Seed of the noise.")


class BoundsClaim(Claim):
    """What theory or literature says about bounds; the run ends by comparing with it."""

    quantity: BoundsQuantity = Field(
        description="Name of the compared number. Of one run: reached (share of the trajectories "
        "that reached the target loss), certificate_slack (smallest certificate minus measured "
        "gap), certificate_violations (share of certificates below the gap by more than three "
        "standard errors), final_error_rate, final_test_error_rate, zero_one_gap, certified_gap "
        "(smallest certificate), decomposition_error (largest difference between a logarithm and "
        "the sum of its factors). Of one run and one bound: bound_value. Of a sweep over "
        "split_seed: mean_gap_slack (smallest bound on the mean gap over rows and noise, minus "
        "that gap, at the end). Of a sweep and one bound: kendall_tau, granulated_tau, "
        "conditional_information, sign_error_mean, sign_error_max, ranked_right (share of the "
        "pairs of points that differ in the random labels only of which the one with more of "
        "them has the larger value), growth_with_rows (exponent of the value in the number of "
        "training rows)."
    )
    bound: Text | None = Field(
        default=None, description="Name of the bound or measure, for quantities of one."
    )

    @field_validator("bound")
    @classmethod
    def _is_named_where_needed(cls, bound: str | None, info: Siblings) -> str | None:
        quantity = info.data.get("quantity")
        if quantity is None:  # it is wrong itself, and reported as such
            return bound
        needed = quantity in QUANTITIES_OF_ONE_BOUND
        if needed and bound is None:
            raise mistake(
                f'missing: {quantity} is about one bound, for example bound = "BFT"; '
                "`sgdsim explain` lists them"
            )
        if not needed and bound is not None:
            raise mistake(f"{quantity} is about all bounds; leave it out (got {bound!r})")
        return bound


class BoundsScenario(Scenario):
    """A run that trains networks to one loss and evaluates every bound and measure on the way.

    Examples
    --------
    >>> from sgdsim.scenario import BoundsScenario, load_scenario
    >>> scenario = load_scenario("bound-tightness", ["training.target=0.2"])
    >>> assert isinstance(scenario, BoundsScenario)
    >>> scenario.training.target
    0.2
    """

    study: Literal["bounds"] = Field(description="Which question: bounds (how tight are they).")
    claim: Annotated[tuple[BoundsClaim, ...], Field(strict=False)] = Field(
        default=(), description="What theory or literature says about the run."
    )
    problem: Classification = Field(description="What is minimised: data, model, loss.")
    start: RandomStart = Field(description="Where all trajectories start.")
    dynamics: Dynamics = Field(description="How the parameters move.")
    training: Training = Field(description="When training ends.")
    bounds: Bounds = Field(description="How generalization bounds are evaluated.")
    measuring: Measuring = Field(
        default=Measuring(), description="How noise tolerance and sharpness are measured."
    )

    @field_validator("problem", mode="before")
    @classmethod
    def _has_data(cls, problem: Any) -> Any:
        return with_data(problem, "bounds need data")

    @field_validator("start")
    @classmethod
    def _all_start_alike(cls, start: RandomStart) -> RandomStart:
        one_start(start)
        return start

    @field_validator("dynamics")
    @classmethod
    def _dynamics_fit(cls, dynamics: Dynamics, info: Siblings) -> Dynamics:
        return fitting(dynamics, info.data.get("problem"))
