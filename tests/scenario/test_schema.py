"""Every check of the schema, on both sides of its boundary."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sgdsim.scenario import (
    KNOWN_QUANTITIES,
    BoundsScenario,
    Claim,
    DynamicsScenario,
    EdgeScenario,
    ExitsScenario,
    Scenario,
    StagnationClaim,
    StagnationScenario,
    load_scenario,
)
from sgdsim.scenario._fields import Table
from sgdsim.scenario._schema import study_table
from sgdsim.scenario._shape import plain_path, tables_in

INFINITY, NAN = float("inf"), float("nan")
LARGEST = 2**31 - 1


def every_table() -> list[type[BaseModel]]:
    found: list[type[BaseModel]] = [
        StagnationScenario,
        DynamicsScenario,
        ExitsScenario,
        BoundsScenario,
        EdgeScenario,
    ]
    for table in found:
        for field in table.model_fields.values():
            found += [inner for inner in tables_in(field.annotation) if inner not in found]
    return found


def changed(tables: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    for path, value in settings.items():
        *parents, key = path.split(".")
        table: Any = tables
        for parent in parents:
            table = table[int(parent)] if isinstance(table, list) else table[parent]
        table[key] = value
    return tables


def faults(tables: dict[str, Any]) -> set[str]:
    """Dotted paths of what the schema refuses."""
    root = study_table(tables)
    try:
        root.model_validate(tables)
    except ValidationError as error:
        paths = [plain_path(root, detail["loc"])[0] for detail in error.errors()]
        return {".".join(map(str, path)) for path in paths}
    return set()


def test_the_scenarios_of_the_fixtures_are_correct(
    tables: dict[str, Any], processes: dict[str, Any], landscape: dict[str, Any]
) -> None:
    assert faults(tables) == faults(processes) == faults(landscape) == set()


@pytest.mark.parametrize("table", every_table(), ids=lambda table: table.__name__)
def test_every_field_and_table_is_described(table: type[BaseModel]) -> None:
    assert table.__doc__
    for name, field in table.model_fields.items():
        assert field.description, name


def test_the_tables_of_the_test_above_are_all_tables() -> None:
    def below(table: type[BaseModel]) -> set[type[BaseModel]]:
        inner = {inner for child in table.__subclasses__() for inner in below(child)}
        return {table, *inner} - {Table}

    public = {table for table in below(Table) if not table.__name__.startswith("_")}
    assert set(every_table()) == public - {Scenario, Claim}  # each study has its own


# Each line: key, values that are accepted, values that are refused.
BOUNDARIES: list[tuple[str, list[Any], list[Any]]] = [
    ("study", ["stagnation"], []),
    ("name", ["a", "A-1_b.c"], ["", "-a", "a b", "a/b", "..", 3]),
    ("title", ["t"], ["", 3]),
    ("description", ["", "d"], [3]),
    ("problem.kind", ["classification"], ["regression", "landscape", 3]),
    ("problem.ridge", [1e-300, 1], [-1e-12, "0", True, INFINITY, NAN]),
    ("problem.data.kind", ["digits"], ["digit"]),
    ("problem.data.training", [16, 1395], [0, -1, 1396, 10.0, "10"]),
    ("problem.data.reference", [2, 795], [0, 1, 796]),
    ("problem.data.split_seed", [0, LARGEST], [-1, LARGEST + 1, 0.0]),
    ("problem.data.random_labels", [0, 0.5, 1], [-1e-9, 1.01, "0"]),
    ("minimum.tolerance", [1e-300, 1], [0, -1.0, INFINITY]),
    ("minimum.max_iterations", [1, LARGEST], [0, LARGEST + 1]),
    ("minimum.seed", [0], [-1]),
    ("minimum.quenches", [0, LARGEST], [-1, LARGEST + 1, 0.5]),
    ("dynamics.learning_rate", [1e-300, 1], [0, -0.1, NAN, "0.1"]),
    ("dynamics.batch_size", [1, 1000], [0, 1001, 16.0, None]),
    ("dynamics.noise.replacement", [True, False], [0, "no"]),
    ("dynamics.schedule", [None], [0.1, {}]),
    ("dynamics.projection", [None], [1.0, {}]),
    ("dynamics.weight_decay", [0, 0.0], [-1e-3, "0", INFINITY]),
    ("ensemble.trajectories", [1, LARGEST], [0, LARGEST + 1, True]),
    ("ensemble.steps", [200, 2000, LARGEST // 200 * 200], [0, -200]),
    ("ensemble.record_every", [1, 10, 200], [0]),
    ("ensemble.chunk_steps", [10, 200, 2000], [0, 5, 201, 205, 300, 4000]),
    ("ensemble.seed", [0, LARGEST], [-1, LARGEST + 1]),
    ("stagnation.radius", ["auto", 1, 1e-300], [0, -1, "Auto", "1", True, INFINITY, NAN, []]),
    ("stagnation.failure_probability", [1e-300, 0.999], [0, 1, 1.5, -0.1]),
    ("stagnation.confidence", [0.5, 0.999], [0, 1, 95]),
    ("convexity.directions", [1], [0]),
    ("convexity.eigenvectors", [1], [0]),
    ("convexity.radii", [1], [0]),
    ("convexity.seed", [0], [-1]),
    ("bounds.failure_probability", [1e-300, 0.999], [0, 1]),
    ("bounds.margin", ["auto", 1, 0.5], [0, -1, "none", False, INFINITY]),
    ("bounds.grid_ratio", [1 + 1e-4, 2], [1, 1.0, 0.5, INFINITY]),
    ("bounds.grid_low", [1e-300, 1], [0, -1]),
    ("bounds.grid_high", [0.0011, 1], [0.001, 1e-4, 0]),
    ("compute.precision", ["float32", "float64"], ["float16", 32]),
    ("compute.mapping", ["auto", "map", "vmap"], ["pmap"]),
    ("compute.devices", ["auto", 1, 8], [0, -1, 1.0, "2", True, LARGEST + 1]),
    ("sweep", [None, {"ensemble.seed": [1, 2]}], [3, [], {}]),
    ("claim.0.quantity", list(KNOWN_QUANTITIES["stagnation"]), ["loss", "sde_gauge", 3]),
    ("claim.0.at_most", [0, -1.5, 3], [INFINITY, "0"]),
    ("claim.0.text", ["t"], [""]),
    ("claim.0.source", ["s"], [""]),
]


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, good, _ in BOUNDARIES for value in good]
)
def test_accepted(tables: dict[str, Any], path: str, value: Any) -> None:
    assert faults(changed(tables, {path: value})) == set()


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, _, bad in BOUNDARIES for value in bad]
)
def test_refused(tables: dict[str, Any], path: str, value: Any) -> None:
    # Checks between two keys are reported at the one that comes last.
    reported_at = {"problem.data.training": "problem.data.reference", "ensemble.steps": "-"}
    tables_of = {
        "dynamics.batch_size": "dynamics",
        "problem.kind": "problem",
        "problem.data.kind": "problem.data",
    }
    at_another_key = tables_of.get(path) or reported_at.get(path, "-")
    found = faults(changed(tables, {path: value}))
    assert len(found) == 1
    assert found <= {path, at_another_key}


def test_every_key_of_the_scenario_has_its_boundaries_tested(tables: dict[str, Any]) -> None:
    def leaves(table: dict[str, Any], at: str = "") -> set[str]:
        found: set[str] = set()
        for key, value in table.items():
            found |= leaves(value, f"{at}{key}.") if isinstance(value, dict) else {f"{at}{key}"}
        return found

    tested = {path for path, _, _ in BOUNDARIES}
    by_kind = {"problem.model.kind", "dynamics.kind", "dynamics.noise.kind", "claim"}
    assert leaves(tables) - by_kind <= tested


def test_steps_and_records_must_fit_the_chunks(tables: dict[str, Any]) -> None:
    assert faults(changed(tables, {"ensemble.steps": 2001})) == {"ensemble.chunk_steps"}
    assert faults(changed(tables, {"ensemble.steps": 100})) == {"ensemble.chunk_steps"}
    assert faults(changed(tables, {"ensemble.steps": 2000, "ensemble.record_every": 11})) == {
        "ensemble.chunk_steps"
    }


@pytest.mark.parametrize(
    ("dynamics", "accepted"),
    [
        ({"kind": "gd"}, True),
        ({"kind": "gd", "batch_size": 16}, False),
        ({"kind": "sgd", "batch_size": 1000}, True),
        ({"kind": "sgd", "batch_size": 1001}, False),
        ({"kind": "sgd"}, False),
        ({"kind": "sgd", "batch_size": 16, "replacement": False}, True),
        ({"kind": "sgd", "batch_size": 16, "replacement": 0}, False),
        ({"kind": "gaussian_sgd", "batch_size": 16}, True),
        ({"kind": "gaussian_sgd"}, False),
        ({"kind": "gaussian_sgd", "noise": {"kind": "isotropic", "variance": 1}}, True),
        (
            {
                "kind": "gaussian_sgd",
                "noise": {"kind": "isotropic", "variance": 1},
                "batch_size": 1001,
            },
            True,
        ),
        ({"kind": "gaussian_sgd", "noise": {"kind": "isotropic", "variance": 0}}, False),
        ({"kind": "gaussian_sgd", "noise": {"kind": "isotropic"}}, False),
        ({"kind": "gaussian_sgd", "noise": {}}, False),
        ({"kind": "sde", "batch_size": 16, "substeps": 1}, True),
        ({"kind": "sde", "batch_size": 16, "substeps": 0}, False),
        ({"kind": "sde", "batch_size": 16}, False),
        ({"kind": "adam"}, True),
        ({"kind": "adamw"}, False),
        ({}, False),
        (3, False),
    ],
)
def test_dynamics(tables: dict[str, Any], dynamics: Any, accepted: bool) -> None:
    if isinstance(dynamics, dict):
        dynamics = {"learning_rate": 0.1, **dynamics}
    tables["stagnation"]["radius"] = 1.0  # gradient descent has no automatic one
    assert (faults({**tables, "dynamics": dynamics}) == set()) == accepted


MLP = {"kind": "mlp", "hidden": [3], "activation": "tanh"}
SGD = {"kind": "sgd", "learning_rate": 0.1, "batch_size": 16}
ISOTROPIC = {
    "kind": "gaussian_sgd",
    "learning_rate": 0.1,
    "noise": {"kind": "isotropic", "variance": 1.0},
}


@pytest.mark.parametrize(
    ("problem", "dynamics", "accepted"),
    [
        ({}, {}, True),
        ({"ridge": 0}, {}, False),
        ({"ridge": 0, "model": MLP}, {}, True),
        ({}, {"kind": "gd", "learning_rate": 0.1}, False),
        ({}, ISOTROPIC, True),
        ({"model": MLP}, ISOTROPIC, False),
        ({}, {"kind": "gradient_flow", "learning_rate": 0.1}, False),
        ({}, {"kind": "adam", "learning_rate": 0.1, "batch_size": 16}, False),
        ({}, SGD, True),
        ({}, SGD | {"replacement": False}, True),
        ({}, SGD | {"weight_decay": 0.1}, False),
        ({}, SGD | {"schedule": {"kind": "cosine", "steps": 10}}, False),
        ({}, SGD | {"projection": {"kind": "ball", "radius": 1.0}}, False),
        ({}, SGD | {"kind": "sde", "substeps": 2}, True),
        ({}, SGD | {"kind": "sde", "substeps": 2, "order": 2}, False),
        ({}, SGD | {"kind": "gaussian_sgd", "noise": {"kind": "diagonal"}}, False),
    ],
)
def test_an_automatic_radius_needs_a_formula(
    tables: dict[str, Any], problem: dict, dynamics: dict, accepted: bool
) -> None:
    tables["problem"] |= problem
    tables["dynamics"] = dynamics or tables["dynamics"]
    assert (faults(tables) == set()) == accepted
    tables["stagnation"]["radius"] = 0.5
    assert faults(tables) == set()


def test_the_grid_of_the_union_bound_is_finite(tables: dict[str, Any]) -> None:
    tables["bounds"]["grid_ratio"] = 1 + 1e-12
    assert faults(tables) == {"bounds.grid_high"}


@pytest.mark.parametrize(
    ("hidden", "accepted"),
    [([1], True), ([32, 16], True), ([], False), ([0], False), ([1.0], False), (32, False)],
)
def test_hidden_layers(tables: dict[str, Any], hidden: Any, accepted: bool) -> None:
    tables["problem"]["model"] = {"kind": "mlp", "hidden": hidden, "activation": "tanh"}
    assert (faults(tables) == set()) == accepted


@pytest.mark.parametrize(
    ("bounds", "accepted"),
    [
        ({}, False),
        ({"at_least": 0}, True),
        ({"at_most": 0}, True),
        ({"at_least": 1, "at_most": 1}, True),
        ({"at_least": 2, "at_most": 1}, False),
    ],
)
def test_a_claim_needs_a_range(bounds: dict[str, Any], accepted: bool) -> None:
    def claim() -> StagnationClaim:
        return StagnationClaim.model_validate(
            {"quantity": "exit_bound", "text": "t", "source": "s", **bounds}
        )

    if accepted:
        assert claim().quantity == "exit_bound"
    else:
        with pytest.raises(ValidationError):
            claim()


def test_a_wrong_number_is_one_problem_even_where_auto_is_allowed(tables: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        StagnationScenario.model_validate(changed(tables, {"stagnation.radius": -1}))
    assert caught.value.error_count() == 1


def test_optional_tables_have_defaults(tables: dict[str, Any]) -> None:
    del tables["compute"], tables["claim"], tables["description"], tables["dynamics"]["noise"]
    del tables["study"]
    scenario = StagnationScenario.model_validate(tables)
    assert scenario.study == "stagnation"
    assert scenario.compute.precision == "float32"
    assert scenario.claim == ()


@pytest.mark.parametrize("path", ["problem", "ensemble.steps", "problem.data.training", "name"])
def test_required_keys(tables: dict[str, Any], path: str) -> None:
    *parents, key = path.split(".")
    table = tables
    for parent in parents:
        table = table[parent]
    del table[key]
    assert faults(tables) == {path}


def test_integers_become_floats_so_that_equal_scenarios_have_one_digest() -> None:
    integer = load_scenario("stagnation", ["dynamics.learning_rate=1"])
    real = load_scenario("stagnation", ["dynamics.learning_rate=1.0"])
    assert integer.canonical_json() == real.canonical_json()
    assert integer.digest() == real.digest()
    assert integer.digest() != load_scenario("stagnation").digest()


def test_scenarios_are_immutable_values() -> None:
    scenario = load_scenario("stagnation-mlp")
    with pytest.raises(ValidationError, match="frozen"):
        scenario.name = "other"
    with pytest.raises(ValidationError, match="frozen"):
        scenario.ensemble.steps = 1
    assert hash(scenario) == hash(load_scenario("stagnation-mlp"))
    assert scenario != load_scenario("stagnation")
