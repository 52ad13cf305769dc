"""What a run is: the tables of a scenario, their fields and the checks between them."""

import hashlib
import json
import math
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError, field_validator

from sgdsim.scenario._dynamics import Dynamics, Gd, IsotropicNoise, Sgd
from sgdsim.scenario._fields import (
    Count,
    CountOrAuto,
    FileName,
    Positive,
    PositiveOrAuto,
    Probability,
    Seed,
    Siblings,
    Table,
    Text,
    mistake,
)
from sgdsim.scenario._problem import Mlp, Problem, Softmax
from sgdsim.scenario._report import error_of

_MOST_CELLS = 1e6

Quantity = Literal[
    "stay_bound_excess",
    "exit_bound",
    "distance_to_lyapunov_ratio",
    "certificate_slack",
]

#: Names that a ``[[claim]]`` may be about.
KNOWN_QUANTITIES: tuple[str, ...] = get_args(Quantity)


class Minimum(Table):
    """How the minimum is found around which the trajectories are watched."""

    tolerance: Positive = Field(
        description="Norm of the float64 gradient at which the search (L-BFGS) ends."
    )
    max_iterations: Count = Field(description="Largest number of L-BFGS iterations.")
    seed: Seed = Field(description="Seed of the point from which the search starts.")


class Ensemble(Table):
    """How many trajectories run, how long, and what is kept of them."""

    trajectories: Count = Field(description="Number of independent trajectories.")
    steps: Count = Field(description="Number of steps of every trajectory.")
    record_every: Count = Field(
        description="Steps between two recorded values; exits are watched at every step anyway."
    )
    chunk_steps: Count = Field(
        description="Steps between two checkpoints and curvature probes; divides steps and is "
        "a multiple of record_every."
    )
    seed: Seed = Field(description="Seed of the random numbers of all trajectories.")

    @field_validator("chunk_steps")
    @classmethod
    def _chunks_fit(cls, chunk_steps: int, info: Siblings) -> int:
        steps, record_every = info.data.get("steps"), info.data.get("record_every")
        if steps is not None and steps % chunk_steps:
            raise mistake(f"should divide ensemble.steps = {steps} (got {chunk_steps})")
        if record_every is not None and chunk_steps % record_every:
            raise mistake(
                f"should be a multiple of ensemble.record_every = {record_every} "
                f"(got {chunk_steps})"
            )
        return chunk_steps


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


class Compute(Table):
    """Where and in which precision the simulation runs; it does not change what is simulated."""

    precision: Literal["float32", "float64"] = Field(
        default="float32",
        description="Precision of the trajectories; minima and certificates are float64 always.",
    )
    mapping: Literal["auto", "map", "vmap"] = Field(
        default="auto",
        description='Trajectories of a device one by one (map) or together (vmap); "auto": map on '
        "a CPU, vmap on an accelerator.",
    )
    devices: CountOrAuto = Field(
        default="auto", description='Number of devices to spread over, or "auto": all of them.'
    )


class Claim(Table):
    """What theory or literature says about the run; the run ends by comparing with it."""

    quantity: Quantity = Field(
        description="Name of the compared number: stay_bound_excess (largest amount by which the "
        "stay probability of theorem S2 exceeds the measured interval), exit_bound (S2 bound on "
        "an exit within the run), distance_to_lyapunov_ratio (measured over linearised mean "
        "squared distance), certificate_slack (smallest certificate minus generalization gap)."
    )
    at_least: float | None = Field(default=None, description="Smallest value that fits the claim.")
    at_most: float | None = Field(default=None, description="Largest value that fits the claim.")
    text: Text = Field(description="The claim in words.")
    source: Text = Field(description="Where the claim comes from.")

    @field_validator("at_most")
    @classmethod
    def _has_a_range(cls, at_most: float | None, info: Siblings) -> float | None:
        if "at_least" not in info.data:  # it is wrong itself, and reported as such
            return at_most
        at_least = info.data["at_least"]
        if at_least is None and at_most is None:
            raise mistake("missing at_least, at_most or both", at=("..",))
        if at_least is not None and at_most is not None and at_least > at_most:
            raise mistake(f"should not be smaller than at_least = {at_least} (got {at_most})")
        return at_most


class Scenario(Table):
    """A run, completely: problem, dynamics, ensemble, what is measured and what is claimed.

    Scenarios are immutable and compare by value. They are usually read from a file with
    :func:`load_scenario`, and never execute code.

    Examples
    --------
    >>> from sgdsim.scenario import load_scenario
    >>> scenario = load_scenario("stagnation", ["ensemble.trajectories=16"])
    >>> scenario.ensemble.trajectories
    16
    >>> scenario == type(scenario).from_json(scenario.canonical_json())
    True
    """

    name: FileName = Field(description="Short name; the folder of a run is named after it.")
    title: Text = Field(description="One line that says which question the scenario asks.")
    description: str = Field(default="", description="What it does and what to look at.")
    problem: Problem = Field(description="What is minimised: data, model, loss.")
    minimum: Minimum = Field(description="How the minimum is found.")
    dynamics: Dynamics = Field(description="How the parameters move.")
    ensemble: Ensemble = Field(description="How many trajectories, how long, what is kept.")
    stagnation: Stagnation = Field(description="The set in which trajectories may stagnate.")
    convexity: Convexity = Field(description="Where essential convexity is measured.")
    bounds: Bounds = Field(description="How generalization bounds are evaluated.")
    compute: Compute = Field(
        default=Compute(), description="Precision and devices of the simulation."
    )
    claim: Annotated[tuple[Claim, ...], Field(strict=False)] = Field(
        default=(), description="What theory or literature says about the run."
    )

    @field_validator("stagnation")
    @classmethod
    def _automatic_radius_has_a_formula(cls, stagnation: Stagnation, info: Siblings) -> Stagnation:
        problem, dynamics = info.data.get("problem"), info.data.get("dynamics")
        if stagnation.radius != "auto" or problem is None or dynamics is None:
            return stagnation
        reason = None
        if isinstance(dynamics, Gd):
            reason = "gradient descent has no noise"
        elif isinstance(problem.model, Softmax) and problem.ridge == 0:
            reason = "without a ridge there is no strong convexity"
        elif isinstance(problem.model, Mlp) and isinstance(
            getattr(dynamics, "noise", None), IsotropicNoise
        ):
            reason = "a network has no modulus for isotropic noise"
        if reason:
            raise mistake(f"'auto' has no value here: {reason}; give a number", at=("radius",))
        return stagnation

    @field_validator("dynamics")
    @classmethod
    def _batch_fits(cls, dynamics: Dynamics, info: Siblings) -> Dynamics:
        problem = info.data.get("problem")
        if isinstance(dynamics, Gd) or problem is None:
            return dynamics
        if not isinstance(dynamics, Sgd) and isinstance(dynamics.noise, IsotropicNoise):
            return dynamics  # this noise does not come from batches
        rows, batch_size = problem.data.training, dynamics.batch_size
        if batch_size is not None and batch_size > rows:
            raise mistake(
                f"should be at most problem.data.training = {rows} (got {batch_size})",
                at=("batch_size",),
            )
        return dynamics

    def canonical_json(self) -> str:
        """Text that is the same for equal scenarios: all fields, sorted keys, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> "Scenario":
        """Read a scenario from (canonical) JSON, for example from the attributes of a run.

        Parameters
        ----------
        text
            JSON with all fields that have no default.

        Raises
        ------
        ScenarioError
            If the text is not JSON or not a scenario; all mistakes are listed.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise error_of("scenario JSON", error, cls) from None
