"""The dynamics study: processes side by side from one start, with one set of random numbers."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from sgdsim.scenario._dynamics import Dynamics
from sgdsim.scenario._fields import Count, Positive, Seed, Siblings, Table, Text, mistake
from sgdsim.scenario._problem import Landscape, Problem
from sgdsim.scenario._quantities import DynamicsQuantity, QuantityOfTwo
from sgdsim.scenario._schema import Claim, Scenario
from sgdsim.scenario._side_by_side import checked_names, checked_processes
from sgdsim.scenario._start import PointStart, Start, fitting_start, one_start


class Process(Table):
    """One process: a name and how its parameters move."""

    name: Text = Field(description="Name of the process, unique in the scenario.")
    dynamics: Dynamics = Field(description="How the parameters move.")


class Validity(Table):
    """How it is judged whether the SDE describes a process."""

    tolerance: Positive = Field(
        default=0.1,
        description="Relative error of the SDE's stationary variance up to which it is valid.",
    )
    eigenvalues: Count = Field(
        default=8, description="Largest Hessian eigenvalues that are computed at every probe."
    )
    trajectories: Count = Field(
        default=4, description="Trajectories that are probed, the first ones of every process."
    )
    seed: Seed = Field(default=0, description="Seed of the random numbers of the probes.")


class Escape(Table):
    """When a trajectory has escaped: as soon as one coordinate exceeds a level."""

    coordinate: Seed = Field(default=0, description="Number of the coordinate, counted from 0.")
    level: float = Field(
        default=1.0, description="A trajectory has escaped when the coordinate exceeds it."
    )


class DynamicsClaim(Claim):
    """What theory or literature says about processes; the run ends by comparing with it."""

    quantity: DynamicsQuantity = Field(
        description="Name of the compared number. Of two processes: loss_agreement (share of the "
        "recorded steps at which the mean losses differ by at most two standard errors), "
        "loss_difference (late mean loss of the second minus the first, in standard errors). Of "
        "one: sde_gauge (largest eta*lambda_max/2), sde_valid (1 if the SDE is judged valid "
        "throughout, else 0), escape_time_over_kramers, escape_time_over_exact and "
        "escape_time_over_corrected (mean escape time over Kramers' formula, the exact mean "
        "passage time of the SDE, the one corrected for the finite step)."
    )
    processes: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        description="Names of the processes that the number is about: one or two."
    )

    @field_validator("processes")
    @classmethod
    def _as_many_as_the_quantity_has(
        cls, processes: tuple[str, ...], info: Siblings
    ) -> tuple[str, ...]:
        return checked_names(processes, info, get_args(QuantityOfTwo))


class DynamicsScenario(Scenario):
    """A run that compares processes: what each does, and whether the SDE describes it.

    All processes start at one point, and trajectories of the same number share their random
    numbers: algorithms the same batches, equations of one learning rate the same Brownian path.

    Examples
    --------
    >>> from sgdsim.scenario import DynamicsScenario, load_scenario
    >>> scenario = load_scenario("double-well", ["process.0.dynamics.learning_rate=0.01"])
    >>> assert isinstance(scenario, DynamicsScenario)
    >>> scenario.process[0].dynamics.learning_rate
    0.01
    """

    study: Literal["dynamics"] = Field(
        description="Which question: dynamics (what do processes do, side by side)."
    )
    claim: Annotated[tuple[DynamicsClaim, ...], Field(strict=False)] = Field(
        default=(), description="What theory or literature says about the run."
    )
    problem: Problem = Field(description="What is minimised.")
    start: Start = Field(description="Where all trajectories start.")
    process: Annotated[tuple[Process, ...], Field(strict=False)] = Field(
        description="The processes that run side by side."
    )
    validity: Validity = Field(
        default=Validity(), description="How it is judged whether the SDE describes a process."
    )
    escape: Escape | None = Field(
        default=None, description="When a trajectory has escaped; only on a landscape."
    )

    @field_validator("start")
    @classmethod
    def _start_fits(cls, start: Start, info: Siblings) -> Start:
        return one_start(fitting_start(start, info.data.get("problem")))

    @field_validator("process")
    @classmethod
    def _processes_fit(cls, process: tuple[Process, ...], info: Siblings) -> tuple[Process, ...]:
        claims = info.data.get("claim", ())
        return checked_processes(process, info.data.get("problem"), claims)

    @field_validator("escape")
    @classmethod
    def _escape_fits(cls, escape: Escape | None, info: Siblings) -> Escape | None:
        problem, start = info.data.get("problem"), info.data.get("start")
        if escape is None:
            for index, claim in enumerate(info.data.get("claim", ())):
                if claim.quantity.startswith("escape_"):
                    raise mistake(
                        f"{claim.quantity} needs a table [escape], which says when a trajectory "
                        "has escaped",
                        at=("..", "claim", index, "quantity"),
                    )
            return escape
        if problem is not None and not isinstance(problem, Landscape):
            raise mistake("escapes are watched on a landscape only; leave the table out")
        if problem is not None and escape.coordinate >= problem.landscape.dimension:
            raise mistake(
                f"should be less than {problem.landscape.dimension}, the number of parameters "
                f"(got {escape.coordinate})",
                at=("coordinate",),
            )
        if not isinstance(start, PointStart) or escape.coordinate >= len(start.theta):
            return escape  # the start is random, or wrong and reported as such
        begin = start.theta[escape.coordinate]
        if begin > escape.level:
            raise mistake(
                f"should be at least start.theta = {begin:g} in this coordinate, or every "
                f"trajectory has escaped before its first step (got {escape.level:g})",
                at=("level",),
            )
        return escape
