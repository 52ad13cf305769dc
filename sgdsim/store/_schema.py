"""The dataset contract: one table of every variable and coordinate that a run stores."""

from sgdsim.store._bounds_variables import CHANGES, FACTORS
from sgdsim.store._dynamics_variables import DYNAMICS
from sgdsim.store._edge_variables import EDGE
from sgdsim.store._exits_variables import CONSTANTS, EVIDENCE, EXITS, TERMS
from sgdsim.store._specs import CoordinateSpec, VariableSpec, flag, variables
from sgdsim.store._stagnation_variables import STAGNATION

CONVENTIONS = "sgdsim-1"


THEORIES = ("S0", "S1", "S2")
CONDITIONS = ("ESC", "WSC", "RSI", "PL", "QG")
DIRECTIONS = ("random", "noise", "top", "bottom")
EIGEN = ("largest", "smallest")

#: A coordinate that takes the place of a dimension where a run is read by itself, by group.
RELABELLED = {"stagnation": ("shell", "convexity_radius")}

# Labels that the contract itself fixes; a writer need not give them.
FIXED_LABELS: dict[str, tuple[str, ...]] = {
    "theory": THEORIES,
    "condition": CONDITIONS,
    "direction": DIRECTIONS,
    "eigen": EIGEN,
    "evidence": EVIDENCE,
    "constant": CONSTANTS,
    "term": TERMS,
    "factor": FACTORS,
    "change": CHANGES,
}

COORDINATES: tuple[CoordinateSpec, ...] = (
    CoordinateSpec("trajectory", "trajectory", "int64", "number of the trajectory"),
    CoordinateSpec("step", "step", "int64", "recorded step of the algorithm", "step"),
    CoordinateSpec(
        "time",
        "step",
        "float64",
        "time of the step: learning rate times step",
        groups=("trajectory", "stagnation"),
        per_point=True,
    ),
    CoordinateSpec("probe", "probe", "int64", "step at which the iterate was probed", "step"),
    CoordinateSpec("eigen", "eigen", "str", "which end of the Hessian spectrum"),
    CoordinateSpec("theory", "theory", "str", "which lower bound on the stay probability"),
    CoordinateSpec(
        "convexity_radius",
        "shell",
        "float64",
        "distance from the minimum",
        groups=("stagnation",),
        per_point=True,
    ),
    CoordinateSpec("condition", "condition", "str", "local convexity condition"),
    CoordinateSpec("direction", "direction", "str", "family of directions"),
    CoordinateSpec("bound", "bound", "str", "name of the bound"),
    CoordinateSpec("kind", "bound", "str", "certificate, expectation or measure"),
    CoordinateSpec("factor", "factor", "str", "factor of a bound"),
    CoordinateSpec("ingredient", "ingredient", "str", "what is measured of network and rows"),
    CoordinateSpec("change", "change", "str", "change of the final network"),
    CoordinateSpec("expectation", "expectation", "str", "name of the bound on the mean gap"),
    CoordinateSpec("layer", "layer", "int64", "number of the layer, from the input"),
    CoordinateSpec("process", "process", "str", "name of the process"),
    CoordinateSpec(
        "learning_rate", "process", "float64", "learning rate eta of the process", per_point=True
    ),
    CoordinateSpec("member", "member", "int64", "number of a trajectory whose curvature is probed"),
    CoordinateSpec("rank", "rank", "int64", "rank of a Hessian eigenvalue, the largest is 0"),
    CoordinateSpec("bucket", "bucket", "int64", "number of a component of a random projection"),
    CoordinateSpec("block", "block", "int64", "number of a parameter array, in flatten order"),
    CoordinateSpec("draw", "draw", "int64", "number of a random start vector of the density"),
    CoordinateSpec("node", "node", "int64", "number of a quadrature node, in ascending order"),
    CoordinateSpec("case", "case", "str", "name of the case"),
    CoordinateSpec("series", "case", "str", "cases that differ in learning rate or width only"),
    CoordinateSpec(
        "learning_rate", "case", "float64", "learning rate eta of the case", per_point=True
    ),
    CoordinateSpec("look", "look", "int64", "number of a look at the survival"),
    CoordinateSpec("evidence", "evidence", "str", "what a bound on exits rests on"),
    CoordinateSpec("constant", "constant", "str", "constant of the exit bounds"),
    CoordinateSpec("term", "term", "str", "term of a bound on the generalization gap"),
    CoordinateSpec("shell", "shell", "int64", "number of a radius at which convexity was sampled"),
    CoordinateSpec("coordinate", "coordinate", "int64", "number of a coordinate of theta"),
    CoordinateSpec("claim", "claim", "int64", "number of the claim in the scenario"),
    CoordinateSpec("quantity", "claim", "str", "quantity that the claim is about"),
    CoordinateSpec("text", "claim", "str", "the claim in words"),
    CoordinateSpec("source", "claim", "str", "where the claim comes from"),
)


#: States of a point, by their code.
STATUSES = ("pending", "done", "failed")

_ROOT = (
    flag("/", "status", (), "state of the point", STATUSES, 0),
    VariableSpec(
        "/", "details", (), "str", "what the run says about the point, as JSON text", fill=""
    ),
)

_CLAIMS = (
    *variables(
        "claims",
        ("claim",),
        "float64",
        ("measured", "measured value of the quantity"),
        ("expected_low", "smallest value that the claim allows; -inf: open"),
        ("expected_high", "largest value that the claim allows; inf: open"),
    ),
    flag("claims", "holds", ("claim",), "does the claim hold"),
)

VARIABLES: tuple[VariableSpec, ...] = (
    *_ROOT,
    *STAGNATION,
    *DYNAMICS,
    *EXITS,
    *EDGE,
    *_CLAIMS,
)

#: Groups of a run, by the study that its scenario asks for.
GROUPS: dict[str, tuple[str, ...]] = {
    "stagnation": ("trajectory", "stagnation", "curvature", "bounds", "claims"),
    "dynamics": ("dynamics", "claims"),
    "exits": ("exits", "claims"),
    "bounds": ("trajectory", "bounds", "claims"),
    "edge": ("edge", "claims"),
}


def variables_in(study: str) -> tuple[VariableSpec, ...]:
    """Specs of every variable of a study, those of the root included."""
    return tuple(
        spec for group in ("/", *GROUPS[study]) for spec in variables_of(group, study).values()
    )


def coordinates_in(study: str) -> tuple[CoordinateSpec, ...]:
    """Coordinates that the groups of a study use."""
    used = {spec for group in GROUPS[study] for spec in coordinates_of(group, study)}
    return tuple(spec for spec in COORDINATES if spec in used)


def variables_of(group: str, study: str | None = None) -> dict[str, VariableSpec]:
    """Specs of one group by name, in one study or in all; empty for a group that is not known."""
    return {
        spec.name: spec
        for spec in VARIABLES
        if spec.group == group and (study is None or not spec.studies or study in spec.studies)
    }


def coordinates_of(group: str, study: str | None = None) -> tuple[CoordinateSpec, ...]:
    """Coordinates of the dimensions that the variables of one group use."""
    dims = {dim for spec in variables_of(group, study).values() for dim in spec.dims}
    return tuple(
        spec for spec in COORDINATES if spec.dim in dims and group in (spec.groups or (group,))
    )
