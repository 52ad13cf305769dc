"""The exits study: known minima, sets around them, when they are left, what staying buys."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from sgdsim.scenario._dynamics import Dynamics
from sgdsim.scenario._fields import (
    Count,
    Numbers,
    Probability,
    Seed,
    Siblings,
    Table,
    Text,
    mistake,
)
from sgdsim.scenario._fit import fitting
from sgdsim.scenario._known_problem import CaseProblem, ManyMinima, TeacherStudent
from sgdsim.scenario._landscape import DoubleWell, PeriodicWells, Quadratic, TwoWells
from sgdsim.scenario._problem import Landscape
from sgdsim.scenario._quantities import ExitsQuantity, QuantityOfCases, QuantityOfTwoCases
from sgdsim.scenario._regions import Region
from sgdsim.scenario._report import unknown
from sgdsim.scenario._schema import Claim, Scenario


class ExitEnsemble(Table):
    """How many trajectories run in every case, how long, and how often the run is saved."""

    trajectories: Count = Field(description="Number of independent trajectories of every case.")
    steps: Count = Field(
        description="Number of steps of every trajectory, where a case does not say otherwise."
    )
    chunks: Count = Field(
        default=10, description="Checkpoints of every case; divides the number of steps."
    )
    seed: Seed = Field(description="Seed of the random numbers of all trajectories.")

    @field_validator("chunks")
    @classmethod
    def _chunks_fit(cls, chunks: int, info: Siblings) -> int:
        steps = info.data.get("steps")
        if steps is not None and steps % chunks:
            raise mistake(f"should divide ensemble.steps = {steps} (got {chunks})")
        return chunks


class Splitting(Table):
    """How exits are found that are too rare to be counted: importance splitting."""

    particles: Count = Field(default=1000, description="Trajectories per level and replica.")
    replicas: Annotated[Count, Field(ge=4)] = Field(
        default=16, description="Independent repetitions, whose spread gives the interval."
    )


class Case(Table):
    """One question: a problem, how its parameters move, a set around its minimum."""

    name: Text = Field(description="Name of the case, unique in the scenario.")
    series: str = Field(
        default="", description="Cases of one series differ in the learning rate or in the width."
    )
    problem: CaseProblem = Field(description="What is minimised; its minimum is known.")
    dynamics: Dynamics = Field(description="How the parameters move.")
    region: Region = Field(description="The set whose exits are watched.")
    start: Numbers | None = Field(
        default=None, description="Start on a landscape; the minimum if left out."
    )
    steps: Count | None = Field(
        default=None, description="Number of steps; that of the ensemble if left out."
    )
    splitting: Splitting | None = Field(
        default=None, description="Importance splitting besides counting; none if left out."
    )

    @field_validator("dynamics")
    @classmethod
    def _dynamics_fit(cls, dynamics: Dynamics, info: Siblings) -> Dynamics:
        return fitting(dynamics, info.data.get("problem"))

    @field_validator("region")
    @classmethod
    def _region_fits(cls, region: Region, info: Siblings) -> Region:
        problem = info.data.get("problem")
        if problem is None:
            return region
        landscape = problem.landscape if isinstance(problem, Landscape) else None
        if region.kind == "function" and not isinstance(problem, TeacherStudent):
            raise mistake(
                "'function' compares the outputs of networks; take tube (got 'function')",
                at=("kind",),
            )
        if region.kind == "ellipsoid" and not isinstance(landscape, Quadratic):
            raise mistake(
                "'ellipsoid' has the stationary covariance of a quadratic; take tube or sublevel "
                "(got 'ellipsoid')",
                at=("kind",),
            )
        if region.kind == "wells" and not isinstance(
            landscape, DoubleWell | PeriodicWells | TwoWells
        ):
            raise mistake(
                "'wells' needs a landscape with wells: double_well, periodic_wells or two_wells "
                "(got 'wells')",
                at=("kind",),
            )
        if region.kind == "half_space":
            if landscape is None:
                raise mistake(
                    "'half_space' is for landscapes; take tube (got 'half_space')", at=("kind",)
                )
            if region.coordinate >= landscape.dimension:
                raise mistake(
                    f"should be less than {landscape.dimension}, the number of parameters "
                    f"(got {region.coordinate})",
                    at=("coordinate",),
                )
        return region

    @field_validator("start")
    @classmethod
    def _start_fits(
        cls, start: tuple[float, ...] | None, info: Siblings
    ) -> tuple[float, ...] | None:
        problem = info.data.get("problem")
        if start is None or problem is None:
            return start
        if not isinstance(problem, Landscape):
            raise mistake("only a landscape has a start of its own; leave it out")
        dimension = problem.landscape.dimension
        if len(start) != dimension:
            raise mistake(
                f"should have {dimension} coordinates, as many as problem.landscape has parameters "
                f"(got {len(start)})"
            )
        return start

    @field_validator("splitting")
    @classmethod
    def _splitting_fits(cls, splitting: Splitting | None, info: Siblings) -> Splitting | None:
        region = info.data.get("region")
        if splitting is not None and region is not None and region.kind in ("half_space", "wells"):
            raise mistake(
                f"splitting goes by the distance to one minimum, and {region.kind!r} has none; "
                "leave it out or take ball, tube, ellipsoid, sublevel or function"
            )
        return splitting


class Evaluation(Table):
    """Levels of the intervals and of the certificates, and how sets are sampled."""

    confidence: Probability = Field(
        default=0.95, description="Level of every interval (Clopper-Pearson, rates, splitting)."
    )
    failure_probability: Probability = Field(
        default=0.05,
        description="Probability with which any of the generalization certificates may fail.",
    )
    directions: Seed = Field(
        default=32,
        description="Random directions in which a set is sampled for its constants; 0: not "
        "sampled, so that there is no plug-in bound.",
    )
    radii: Count = Field(
        default=6, description="Radii of those samples, evenly spaced in their logarithm."
    )
    quenches: Seed = Field(
        default=64,
        description="Final iterates of every case that are followed down to their minimum to count "
        "basins; 0: none.",
    )


class ExitsClaim(Claim):
    """What theory or literature says about cases; the run ends by comparing with it."""

    quantity: ExitsQuantity = Field(
        description="Name of the compared number. Of one case: exit_probability (share that left "
        "the set), exit_probability_z (against the exact law, in standard errors), exit_bound "
        "(S2), stay_bound_excess (largest amount by which a lower bound on staying exceeds the "
        "measured interval), exit_time_over_exact, exit_time_over_kramers, exit_rate_over_exact, "
        "rare_exit_over_exact (importance splitting over the exact kernel), log_rare_exit (its "
        "decimal logarithm), mean_gap, mean_gap_z (in standard errors), mean_gap_over_expected, "
        "gap_bound (smallest of G1, G2, G3), certificate_slack, effective_rank, exponentiality "
        "(p-value). Of two: exit_rate_ratio (second over first), exit_rate_ratio_over_kramers. Of "
        "three or more: arrhenius_over_quasi_potential (slope of log exit time against 1/eta), and "
        "G1_width_exponent, G2_width_exponent, G3_width_exponent."
    )
    cases: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        description="Names of the cases that the number is about."
    )

    @field_validator("cases")
    @classmethod
    def _as_many_as_the_quantity_has(
        cls, cases: tuple[str, ...], info: Siblings
    ) -> tuple[str, ...]:
        quantity = info.data.get("quantity")
        if quantity is None:  # it is wrong itself, and reported as such
            return cases
        given = list(cases)
        if quantity in get_args(QuantityOfCases):
            if len(given) < 3:
                raise mistake(f"should name at least three cases for {quantity} (got {given})")
        else:
            number = 2 if quantity in get_args(QuantityOfTwoCases) else 1
            if len(given) != number:
                wanted = "two cases" if number == 2 else "one case"
                raise mistake(f"should name {wanted}, as {quantity} is about (got {given})")
        if len(set(given)) < len(given):
            raise mistake(f"should name different cases (got {given})")
        return cases


class ExitsScenario(Scenario):
    """A run that asks when trajectories leave sets around known minima, and what staying buys.

    Examples
    --------
    >>> from sgdsim.scenario import ExitsScenario, load_scenario
    >>> scenario = load_scenario("exit-times")
    >>> assert isinstance(scenario, ExitsScenario)
    >>> scenario.case[0].dynamics.learning_rate
    0.05
    """

    study: Literal["exits"] = Field(
        description="Which question: exits (when are sets around known minima left)."
    )
    ensemble: ExitEnsemble = Field(description="How many trajectories, how long.")
    claim: Annotated[tuple[ExitsClaim, ...], Field(strict=False)] = Field(
        default=(), description="What theory or literature says about the run."
    )
    evaluation: Evaluation = Field(
        default=Evaluation(), description="Levels of intervals and certificates."
    )
    case: Annotated[tuple[Case, ...], Field(strict=False)] = Field(
        description="The questions, one after another."
    )

    @field_validator("case")
    @classmethod
    def _cases_fit(cls, case: tuple[Case, ...], info: Siblings) -> tuple[Case, ...]:
        if not case:
            raise mistake("should have at least one entry (got [])")
        ensemble = info.data.get("ensemble")
        names = [one.name for one in case]
        for index, one in enumerate(case):
            if one.name in names[:index]:
                raise mistake(
                    f"should be unique, but case {names.index(one.name)} is named so too "
                    f"(got {one.name!r})",
                    at=(index, "name"),
                )
            if ensemble is None:
                continue
            if one.steps is not None and one.steps % ensemble.chunks:
                raise mistake(
                    f"should be a multiple of ensemble.chunks = {ensemble.chunks} "
                    f"(got {one.steps})",
                    at=(index, "steps"),
                )
            wells = one.problem
            if isinstance(wells, ManyMinima) and wells.replicas < ensemble.trajectories:
                raise mistake(
                    f"should be at least ensemble.trajectories = {ensemble.trajectories}, because "
                    f"every trajectory has a sample of its own (got {wells.replicas})",
                    at=(index, "problem", "replicas"),
                )
        # Claims are checked before cases are, and so a wrong name is found only here.
        for index, claim in enumerate(info.data.get("claim", ())):
            for number, name in enumerate(claim.cases):
                if name not in names:
                    at = ("..", "claim", index, "cases", number)
                    raise mistake(unknown("case", name, names), at=at)
        return case

    def steps_of(self, case: Case) -> int:
        """Give the number of steps of a case."""
        return self.ensemble.steps if case.steps is None else case.steps
