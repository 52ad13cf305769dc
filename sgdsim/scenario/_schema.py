"""What a run of every study is: its name, its ensemble, devices, claims."""

import hashlib
import json
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import from_json

from sgdsim.scenario._fields import (
    Count,
    CountOrAuto,
    FileName,
    Seed,
    Siblings,
    Table,
    Text,
    mistake,
)
from sgdsim.scenario._report import Problem as Mistake, error_of, report, unknown
from sgdsim.scenario._sweep_axes import SWEEP_JSON_SCHEMA, Sweep, read_sweep
from sgdsim.scenario._sweep_points import checked_sweep

#: What a scenario asks if it does not say so.
DEFAULT_STUDY = "stagnation"


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

    quantity: str = Field(description="Name of the compared number; each study has its own.")
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


def _written(sweep: Sweep | None) -> dict[str, Any] | None:
    return None if sweep is None else sweep.written()


class Scenario(Table):
    """A run, completely: what is simulated, what is measured and what is claimed.

    This is what the scenarios of all studies share; ``study`` says which of its subclasses a
    scenario is. Scenarios are immutable and compare by value. They are usually read from a file
    with :func:`load_scenario`, and never execute code.

    Examples
    --------
    >>> from sgdsim.scenario import load_scenario
    >>> scenario = load_scenario("stagnation", ["ensemble.trajectories=16"])
    >>> scenario.study, scenario.ensemble.trajectories
    ('stagnation', 16)
    >>> scenario == type(scenario).from_json(scenario.canonical_json())
    True
    """

    study: str = Field(description="Which question is asked of the trajectories.")
    name: FileName = Field(description="Short name; the folder of a run is named after it.")
    title: Text = Field(description="One line that says which question the scenario asks.")
    description: str = Field(default="", description="What it does and what to look at.")
    ensemble: Ensemble = Field(description="How many trajectories, how long, what is kept.")
    compute: Compute = Field(
        default=Compute(), description="Precision and devices of the simulation."
    )
    claim: Annotated[tuple[Claim, ...], Field(strict=False)] = Field(
        default=(), description="What theory or literature says about the run."
    )
    sweep: Annotated[
        Sweep | None,
        PlainValidator(read_sweep),
        PlainSerializer(_written),
        WithJsonSchema(SWEEP_JSON_SCHEMA),
    ] = Field(
        default=None,
        description="Keys of this scenario and the values that each takes, in every combination: "
        "a list, {log = [a, b], points = n} or {linear = [a, b], points = n}. A key is a dotted "
        "path, with * for all entries of a list, or its last part if no other key ends so. Keys "
        "in sweep.zip advance together; those in sweep.random are drawn, draws times.",
    )

    @model_validator(mode="after")
    def _sweep_fits(self) -> "Scenario":
        if self.sweep is not None:
            # The scenario is not yet in use, so it may still be completed.
            object.__setattr__(self, "sweep", checked_sweep(self.sweep, self))
        return self

    def canonical_json(self) -> str:
        """Text that is the same for equal scenarios: all fields, sorted keys, no spaces.

        A sweep is in it where there is one; without, the text is that of the time before sweeps.
        """
        values = self.model_dump(mode="json", exclude=set() if self.sweep else {"sweep"})
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> "Scenario":
        """Read a scenario of any study from (canonical) JSON, as in the attributes of a run.

        Parameters
        ----------
        text
            JSON with all fields that have no default.

        Returns
        -------
        Scenario
            Of the class that belongs to its ``study``.

        Raises
        ------
        ScenarioError
            If the text is not JSON or not a scenario; all mistakes are listed.
        """
        header = "scenario JSON"
        try:
            table = study_table(from_json(text))
        except UnknownStudy as error:
            raise report(header, [Mistake(("study",), str(error))]) from None
        except ValueError:  # no JSON, which pydantic says below
            table = study_table({})
        try:
            return table.model_validate_json(text)
        except ValidationError as error:
            raise error_of(header, error, table) from None


class UnknownStudy(Exception):
    """A scenario names a study that does not exist; the text says which do."""


def study_tables() -> dict[str, type[Scenario]]:
    """List the scenario classes by study; they are the subclasses of :class:`Scenario`."""
    return {
        study: table
        for table in Scenario.__subclasses__()
        for study in get_args(table.model_fields["study"].annotation)
    }


def study_table(values: Any) -> type[Scenario]:
    """Find the class of a scenario from its plain values; without a study it is stagnation.

    Raises
    ------
    UnknownStudy
        If there is no such study.
    """
    tables = study_tables()
    study = values.get("study", DEFAULT_STUDY) if isinstance(values, dict) else DEFAULT_STUDY
    if not isinstance(study, str) or study not in tables:
        raise UnknownStudy(unknown("study", study, sorted(tables)))
    return tables[study]
