"""The dynamics study: processes side by side from one start, with one set of random numbers."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from sgdsim.scenario._dynamics import Dynamics
from sgdsim.scenario._fields import Count, Positive, Seed, Siblings, Table, Text, mistake
from sgdsim.scenario._fit import misfit
from sgdsim.scenario._problem import Landscape, PointStart, Problem, Start
from sgdsim.scenario._quantities import DynamicsQuantity, QuantityOfTwo
from sgdsim.scenario._report import unknown
from sgdsim.scenario._schema import Claim, Scenario


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
        quantity = info.data.get("quantity")
        if quantity is None:  # it is wrong itself, and reported as such
            return processes
        number = 2 if quantity in get_args(QuantityOfTwo) else 1
        given = list(processes)
        if len(given) != number:
            wanted = "two processes" if number == 2 else "one process"
            raise mistake(f"should name {wanted}, because {quantity} is of {number} (got {given})")
        if len(set(given)) < number:
            raise mistake(f"should name two different processes (got {given})")
        return processes


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
        problem = info.data.get("problem")
        if problem is None:
            return start
        if not isinstance(problem, Landscape):
            if isinstance(start, PointStart):
                raise mistake(
                    "a point is for a landscape; a network has too many weights to list, take "
                    "random (got 'point')",
                    at=("kind",),
                )
            return start
        if not isinstance(start, PointStart):
            raise mistake(
                "random weights are for a network; a landscape starts at a point, for example "
                "start = {kind = \"point\", theta = [0.5]} (got 'random')",
                at=("kind",),
            )
        dimension, given = problem.landscape.dimension, len(start.theta)
        if given != dimension:
            raise mistake(
                f"should have {dimension} coordinates, as many as problem.landscape has parameters "
                f"(got {given})",
                at=("theta",),
            )
        return start

    @field_validator("process")
    @classmethod
    def _processes_fit(cls, process: tuple[Process, ...], info: Siblings) -> tuple[Process, ...]:
        if not process:
            raise mistake("should have at least one entry (got [])")
        names = [one.name for one in process]
        for index, one in enumerate(process):
            if one.name in names[:index]:
                raise mistake(
                    f"should be unique, but process {names.index(one.name)} is named so too "
                    f"(got {one.name!r})",
                    at=(index, "name"),
                )
            problem = info.data.get("problem")
            wrong = None if problem is None else misfit(one.dynamics, problem)
            if wrong is not None:
                raise mistake(wrong.text, at=(index, "dynamics", *wrong.at))
        # Claims are checked before processes are, and so a wrong name is found only here.
        for index, claim in enumerate(info.data.get("claim", ())):
            for number, name in enumerate(claim.processes):
                if name not in names:
                    at = ("..", "claim", index, "processes", number)
                    raise mistake(unknown("process", name, names), at=at)
        return process

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
        if not isinstance(start, PointStart):
            return escape
        if escape.coordinate >= len(start.theta):
            raise mistake(
                f"should be less than {len(start.theta)}, the number of parameters "
                f"(got {escape.coordinate})",
                at=("coordinate",),
            )
        begin = start.theta[escape.coordinate]
        if begin > escape.level:
            raise mistake(
                f"should be at least start.theta = {begin:g} in this coordinate, or every "
                f"trajectory has escaped before its first step (got {escape.level:g})",
                at=("level",),
            )
        return escape
