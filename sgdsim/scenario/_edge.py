"""The edge study: processes side by side, their sharpness, and what the edge of stability is."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from sgdsim.scenario._dynamics import Dynamics
from sgdsim.scenario._fields import Count, Fraction, Positive, Seed, Siblings, Table, Text, mistake
from sgdsim.scenario._problem import Landscape, Problem
from sgdsim.scenario._quantities import (
    QUANTITIES_OF_TWO_EDGE_PROCESSES,
    EdgeQuantity,
)
from sgdsim.scenario._schema import Claim, Scenario
from sgdsim.scenario._side_by_side import checked_names, checked_processes
from sgdsim.scenario._start import Start, fitting_start

Further = Literal[
    "smallest",
    "gauss_newton",
    "fisher",
    "noise",
    "blocks",
    "density",
    "critical",
    "self_stabilisation",
    "alignment",
]
#: Of these, what needs the rows and the outputs of a network.
_OF_NETWORKS = ("gauss_newton", "fisher", "noise", "alignment")


def _some_or_none(products: int) -> int:
    if products == 1:
        raise mistake("should be 0 or at least 2: one product has no standard error (got 1)")
    return products


class Curvature(Table):
    """What is measured of the curvature at every recorded step."""

    eigenvalues: Count = Field(
        default=1, description="Largest Hessian eigenvalues; the first one is the sharpness."
    )
    tolerance: Positive = Field(
        default=1e-3,
        description="Relative error of the eigenvalues, estimated as the squared residual over the "
        "gap, at which no further Hessian product is made.",
    )
    most_products: Annotated[Count, Field(ge=2)] = Field(
        default=32, description="Most Hessian products for the eigenvalues of one operator."
    )

    @field_validator("most_products")
    @classmethod
    def _products_suffice(cls, most_products: int, info: Siblings) -> int:
        wanted = info.data.get("eigenvalues", 1)
        if most_products < wanted:
            raise mistake(
                f"should be at least eigenvalues = {wanted}, because every eigenvalue takes a "
                f"product (got {most_products})"
            )
        return most_products

    midpoint: bool = Field(
        default=True,
        description="Whether the sharpness is also measured between two oscillations.",
    )
    batch_error: Positive = Field(
        default=0.1,
        description="Relative half width of the 95 % interval of the batch sharpness at which no "
        "further batch is drawn.",
    )
    most_batches: Annotated[Count, Field(ge=2)] = Field(
        default=64, description="Most batches for the batch sharpness of one iterate."
    )
    trace_products: Annotated[Seed, AfterValidator(_some_or_none)] = Field(
        default=0,
        description="Hessian products for the trace at every recorded step; 0: no trace.",
    )
    sketch: Seed = Field(
        default=0,
        description="Length of the random projection by which distances between processes are "
        "estimated, to a relative error of about 1/sqrt(2 sketch); 0: no distances.",
    )
    also: Annotated[tuple[Further, ...], Field(strict=False)] = Field(
        default=(),
        description="What else is measured: smallest (Hessian eigenvalue), gauss_newton (its "
        "largest eigenvalue), fisher (largest eigenvalue of the Fisher matrix), noise (largest "
        "eigenvalue and trace of the covariance of the gradients of single rows), blocks (largest "
        "Hessian eigenvalue of every parameter array alone), density (of the Hessian eigenvalues), "
        "critical (sharpness along the gradient, from forward passes), self_stabilisation (third "
        "derivatives), alignment (of gradient and noise with the eigenvectors).",
    )
    density_probes: Count = Field(
        default=2, description="Random start vectors for the density of the eigenvalues."
    )
    density_depth: Count = Field(
        default=16,
        description="Hessian products of each of them, which is the number of nodes of its "
        "quadrature; no more than there are parameters.",
    )
    seed: Seed = Field(default=0, description="Seed of start vectors, batches and signs.")


class Detector(Table):
    """When a run counts as being at the edge of stability."""

    band: Fraction = Field(
        default=0.1,
        description="Relative distance from the threshold within which it is there; it has left "
        "when it is half as far away again.",
    )


class Fork(Table):
    """Another process that this one continues: same iterate, same batches, other numbers."""

    process: Text = Field(description="Name of the process that it leaves; it must come before.")
    step: Count = Field(description="Step at which it leaves, a multiple of ensemble.chunk_steps.")


class EdgeProcess(Table):
    """One process: a name and how its parameters move."""

    name: Text = Field(description="Name of the process, unique in the scenario.")
    dynamics: Dynamics = Field(description="How the parameters move.")
    problem: Problem | None = Field(
        default=None, description="What it minimises, if that is not the problem of the scenario."
    )
    start: Start | None = Field(
        default=None, description="Where it starts, if not where the others do."
    )
    steps: Count | None = Field(
        default=None,
        description="Its number of steps, if it makes fewer than the others; a multiple of "
        "ensemble.chunk_steps.",
    )
    fork: Fork | None = Field(
        default=None, description="Process and step from which it starts, in place of a start."
    )


class EdgeClaim(Claim):
    """What theory or literature says about processes; the run ends by comparing with it."""

    quantity: EdgeQuantity = Field(
        description="Name of the compared number. Of one process, means over trajectories: "
        "late_ratio (sharpness over its threshold over the last quarter, of the operator that the "
        "threshold refers to, between oscillations where measured), late_raw_ratio (the same at "
        "the iterates), "
        "late_batch_ratio (batch sharpness over 2/eta), maximum_ratio, final_ratio, entry_step, "
        "at_the_edge, above_the_edge, below_the_edge, collapsed, not_reached, catapulted (share "
        "of the trajectories that end in the state, or were in it), survived (share that did not "
        "diverge), peak_loss_ratio (largest recorded loss over the first), late_loss. Of two: "
        "batch_ratio, sharpness_ratio, loss_ratio (late mean of the second over that of the "
        "first), loss_over_predicted (late loss of the second over what the first, a flow, "
        "predicts), distance_ratio (late distance of the second from the first process of the "
        "scenario, over that of the first of the two)."
    )
    processes: Annotated[tuple[Text, ...], Field(strict=False)] = Field(
        description="Names of the processes that the number is about: one or two."
    )

    @field_validator("processes")
    @classmethod
    def _as_many_as_the_quantity_has(
        cls, processes: tuple[str, ...], info: Siblings
    ) -> tuple[str, ...]:
        return checked_names(processes, info, QUANTITIES_OF_TWO_EDGE_PROCESSES)


class EdgeScenario(Scenario):
    """A run that follows sharpness and threshold of processes, and says what each is doing.

    Examples
    --------
    >>> from sgdsim.scenario import EdgeScenario, load_scenario
    >>> scenario = load_scenario("eos-gd", ["process.0.dynamics.learning_rate=0.2"])
    >>> assert isinstance(scenario, EdgeScenario)
    >>> scenario.process[0].dynamics.learning_rate
    0.2
    """

    study: Literal["edge"] = Field(
        description="Which question: edge (is a run at the edge of stability)."
    )
    claim: Annotated[tuple[EdgeClaim, ...], Field(strict=False)] = Field(
        default=(), description="What theory or literature says about the run."
    )
    problem: Problem = Field(description="What is minimised.")
    start: Start = Field(description="Where all trajectories start.")
    process: Annotated[tuple[EdgeProcess, ...], Field(strict=False)] = Field(
        description="The processes that run side by side."
    )
    curvature: Curvature = Field(default=Curvature(), description="What is measured.")
    detector: Detector = Field(
        default=Detector(), description="When a run counts as being at the edge."
    )

    @field_validator("curvature")
    @classmethod
    def _curvature_fits(cls, curvature: Curvature, info: Siblings) -> Curvature:
        own = [process.problem for process in info.data.get("process", ())]
        problems = [one for one in (info.data.get("problem"), *own) if one is not None]
        missing = _needs_a_network(curvature.also, problems)
        if missing is not None:
            raise mistake(
                f"{missing!r} needs a network and its rows, and a landscape has none; leave it out",
                at=("also",),
            )
        return curvature

    @field_validator("start")
    @classmethod
    def _start_fits(cls, start: Start, info: Siblings) -> Start:
        return fitting_start(start, info.data.get("problem"))

    @field_validator("process")
    @classmethod
    def _processes_fit(
        cls, process: tuple[EdgeProcess, ...], info: Siblings
    ) -> tuple[EdgeProcess, ...]:
        problem, claims = info.data.get("problem"), info.data.get("claim", ())
        process = checked_processes(process, problem, claims)
        ensemble = info.data.get("ensemble")
        for index, one in enumerate(process):
            if one.fork is not None:
                _check_fork(process[:index], one, index)
            elif one.start is not None:
                fitting_start(one.start, one.problem or problem, at=(index, "start"))
            elif one.problem is not None and "start" in info.data:
                fitting_start(info.data["start"], one.problem, at=("..", "start"))
            if ensemble is not None:
                _check_steps(one, index, ensemble.steps, ensemble.chunk_steps)
        return process


def _needs_a_network(also: tuple[str, ...], problems: Iterable[Problem]) -> str | None:
    """First thing to be measured that a landscape does not have, if one of the problems is one."""
    if not any(isinstance(problem, Landscape) for problem in problems):
        return None
    return next((name for name in also if name in _OF_NETWORKS), None)


def _check_fork(earlier: tuple[EdgeProcess, ...], one: EdgeProcess, index: int) -> None:
    """Refuse a fork from a process that is not there, or into another problem."""
    fork = one.fork
    assert fork is not None
    parents = [other for other in earlier if other.name == fork.process]
    if not parents:
        names = [other.name for other in earlier]
        raise mistake(
            f"no process before this one is called {fork.process!r}; there are {names}",
            at=(index, "fork", "process"),
        )
    if one.start is not None:
        raise mistake("a forked process has no start of its own; leave it out", at=(index, "start"))
    parent = parents[0]
    first = 0 if parent.fork is None else parent.fork.step
    last = parent.steps
    if fork.step < first or (last is not None and fork.step > last):
        raise mistake(
            f"process {fork.process!r} is not there at step {fork.step}: it runs from step {first} "
            f"to {'the end' if last is None else last}",
            at=(index, "fork", "step"),
        )
    if one.problem != parent.problem:
        raise mistake(
            "a forked process minimises what the process minimises that it leaves; give both the "
            "same problem",
            at=(index, "problem"),
        )


def _check_steps(one: EdgeProcess, index: int, steps: int, chunk: int) -> None:
    """Refuse lengths and forks that time chunks do not fit."""
    own = steps if one.steps is None else one.steps
    if one.steps is not None and (own > steps or own % chunk):
        raise mistake(
            f"should be a multiple of ensemble.chunk_steps = {chunk} and at most ensemble.steps = "
            f"{steps} (got {own})",
            at=(index, "steps"),
        )
    if one.fork is not None and (one.fork.step % chunk or one.fork.step >= own):
        raise mistake(
            f"should be a multiple of ensemble.chunk_steps = {chunk} and below the {own} steps of "
            f"the process (got {one.fork.step})",
            at=(index, "fork", "step"),
        )
