"""Scenarios survive being written, as JSON and as TOML."""

import hashlib
import json
import re
import tomllib
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings, strategies as st

from sgdsim.scenario import (
    KNOWN_QUANTITIES,
    QUANTITIES_OF_ONE_BOUND,
    BoundsScenario,
    DynamicsScenario,
    EdgeScenario,
    ExitsScenario,
    Scenario,
    StagnationScenario,
    load_scenario,
    scenario_names,
    scenario_schema,
    to_toml,
)
from sgdsim.scenario._edge import Further
from sgdsim.scenario._quantities import QUANTITIES_OF_TWO_EDGE_PROCESSES, QuantityOfTwo
from sgdsim.scenario._schema import study_table

counts = st.integers(1, 2**31 - 1)
seeds = st.integers(0, 2**31 - 1)
positive = st.floats(0, exclude_min=True, allow_infinity=False) | st.integers(1, 10**6)
probabilities = st.floats(0, 1, exclude_min=True, exclude_max=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(min_size=1)
names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z")
auto = st.just("auto")
OF_TWO_PROCESSES = (*get_args(QuantityOfTwo), *QUANTITIES_OF_TWO_EDGE_PROCESSES)
RIPPLES = ("curvature", "amplitude", "period")


def table(kind: str, optional: dict[str, Any] | None = None, /, **keys: Any) -> Any:
    return st.fixed_dictionaries({"kind": st.just(kind), **keys}, optional=optional or {})


fixed_noises = (
    table("isotropic", variance=positive)
    | table("langevin", inverse_temperature=positive)
    | table("constant", covariance=st.just([[2, -0.5], [-0.5, 1.0]]))
)


def row_noises(loss: str) -> Any:
    return (
        table("minibatch", {"replacement": st.booleans()})
        | table("hessian_aligned", form=st.just(loss))
        | table("diagonal")
        | table("low_rank", rank=counts)
        | table("label", std=positive)
    )


def heavy(base: Any) -> Any:
    return (
        base
        | table("student", base=base, degrees=st.floats(2.1, 100))
        | table("stable", base=base, alpha=st.floats(1.1, 1.9))
    )


fractions = st.floats(0, 1, exclude_max=True)
simple_schedules = (
    table("linear", steps=counts, final=st.floats(0, 10))
    | table("cosine", {"final": st.floats(0, 10)}, steps=counts)
    | table("exponential", steps=counts, factor=positive)
    | table("step", boundaries=st.just([3, 5]), factors=st.just([0.1, 2]))
)
modifiers = {
    "weight_decay": st.floats(0, 10) | st.integers(0, 10),
    "schedule": simple_schedules
    | table("warmup", {"then": simple_schedules | st.none()}, steps=counts),
    "projection": table("ball", radius=positive)
    | table("box", low=st.floats(-9, -1), high=st.floats(0, 9))
    | table("spectral", bound=positive),
}
momenta = {"momentum": fractions}
averages = {"b1": fractions, "b2": fractions, "epsilon": positive}
mean_square = {"decay": fractions, "epsilon": positive}
activations = st.sampled_from(["tanh", "relu"])
models = (
    table("softmax")
    | table("mlp", hidden=st.lists(counts, min_size=1, max_size=3), activation=activations)
    | table("mlp", width=counts, depth=st.integers(1, 9), activation=activations)
)


def any_dynamics(rows: int, loss: str = "cross_entropy") -> Any:
    """Dynamics of every kind, on ``rows`` rows of data."""
    eta = {"learning_rate": positive}
    batch = eta | {"batch_size": st.integers(1, rows)}
    noise = {"noise": heavy(row_noises(loss) | fixed_noises)}
    drawn = {**modifiers, "replacement": st.booleans()}
    equation = {**modifiers, **noise}
    optimizer = {**drawn, **noise}
    steps = batch | {"substeps": counts}
    at_the_edge = {key: modifiers[key] for key in ("schedule", "projection")}
    return (
        table("gd", modifiers, **eta)
        | table("gradient_flow", {**modifiers, "order": st.sampled_from([1, 2])}, **eta)
        | table("central_flow", at_the_edge, **eta, max_critical=st.integers(1, 10))
        | table("edge_flow", at_the_edge, **eta, amplitude=positive)
        | table("sgd", drawn, **batch)
        | table("gaussian_sgd", equation, **batch)
        | table("sde", {**equation, "ito_correction": st.booleans()}, **steps)
        | table("svag", drawn, **batch, l=counts)
        | table("sgld", modifiers, **batch, inverse_temperature=positive)
        | table("label_noise_sgd", drawn, **batch, std=positive)
        | table("heavy_ball", optimizer, **batch, **momenta)
        | table("nesterov", drawn, **eta, **momenta)
        | table("rmsprop", {**optimizer, **mean_square}, **batch)
        | table("adam", {**optimizer, **averages}, **batch)
        | table("sam", {**optimizer, "normalised": st.booleans()}, **batch, rho=positive)
        | table("underdamped_sde", equation, **steps, **momenta)
        | table("rmsprop_sde", {**equation, **mean_square}, **steps)
        | table("adam_sde", {**equation, **averages}, **steps)
    )


def has_formula(moves: dict[str, Any], model: dict[str, Any], ridge: float) -> bool:
    """Whether an automatic radius exists: it needs plain noise and a curvature modulus."""
    if moves["kind"] not in ("sgd", "gaussian_sgd", "sde") or moves.get("weight_decay"):
        return False
    noise = moves.get("noise", {"kind": "minibatch"})["kind"]
    if moves.keys() & {"schedule", "projection"} or noise not in ("minibatch", "isotropic"):
        return False
    return noise != "isotropic" if model["kind"] == "mlp" else ridge > 0


@st.composite
def claims(
    draw: st.DrawFn,
    study: str,
    processes: list[str] | None = None,
    cases: list[str] | None = None,
) -> dict[str, Any]:
    low, high = sorted([draw(finite), draw(finite)])
    ends = draw(st.sampled_from([("at_least",), ("at_most",), ("at_least", "at_most")]))
    bounds = {end: {"at_least": low, "at_most": high}[end] for end in ends}
    quantity = draw(st.sampled_from(KNOWN_QUANTITIES[study]))
    claim = {"quantity": quantity, "text": draw(words), "source": draw(words), **bounds}
    if processes is not None:
        number = 2 if quantity in OF_TWO_PROCESSES else 1
        assume(len(processes) >= number)
        claim["processes"] = draw(st.permutations(processes))[:number]
    if cases is not None:
        several = quantity.endswith("_exponent") or quantity.startswith("arrhenius_")
        number = 3 if several else 2 if quantity.startswith("exit_rate_ratio") else 1
        assume(len(cases) >= number)
        claim["cases"] = draw(st.permutations(cases))[:number]
    if quantity in QUANTITIES_OF_ONE_BOUND:
        claim["bound"] = draw(words)
    return claim


@st.composite
def common_tables(draw: st.DrawFn) -> dict[str, Any]:
    record_every, records, chunks = (draw(st.integers(1, 1000)) for _ in range(3))
    compute = {
        "precision": st.sampled_from(["float32", "float64"]),
        "mapping": st.sampled_from(["auto", "map", "vmap"]),
        "devices": auto | counts,
    }
    return {
        "name": draw(names),
        "title": draw(words),
        "description": draw(st.text()),
        "ensemble": {
            "trajectories": draw(counts),
            "record_every": record_every,
            "chunk_steps": record_every * records,
            "steps": record_every * records * chunks,
            "seed": draw(seeds),
        },
        "compute": draw(st.fixed_dictionaries({}, optional=compute)),
    }


@st.composite
def data_tables(draw: st.DrawFn) -> dict[str, Any]:
    training = draw(st.integers(2, 1793))
    return {
        "kind": "classification",
        "ridge": draw(st.floats(0, allow_infinity=False)),
        "data": {
            "kind": "digits",
            "training": training,
            "reference": draw(st.integers(2, 1795 - training)),
            "split_seed": draw(seeds),
        },
        "model": draw(models),
    }


@st.composite
def bound_settings(draw: st.DrawFn) -> dict[str, Any]:
    low, high = sorted(draw(st.lists(positive, min_size=2, max_size=2, unique=True)))
    return {
        "failure_probability": draw(probabilities),
        "margin": draw(auto | positive),
        "grid_ratio": draw(st.floats(1.01, allow_infinity=False)),
        "grid_low": low,
        "grid_high": high,
    }


@st.composite
def stagnation_tables(draw: st.DrawFn) -> dict[str, Any]:
    problem = draw(data_tables())
    moves = draw(any_dynamics(problem["data"]["training"]))
    formula = has_formula(moves, problem["model"], problem["ridge"])
    return draw(common_tables()) | {
        "problem": problem,
        "bounds": draw(bound_settings()),
        "minimum": {
            "tolerance": draw(positive),
            "max_iterations": draw(counts),
            "seed": draw(seeds),
        },
        "dynamics": moves,
        "stagnation": {
            "radius": draw(auto | positive if formula else positive),
            "failure_probability": draw(probabilities),
            "confidence": draw(probabilities),
        },
        "convexity": {
            "directions": draw(counts),
            "eigenvectors": draw(counts),
            "radii": draw(counts),
            "seed": draw(seeds),
        },
        "claim": draw(st.lists(claims("stagnation"), max_size=2)),
    }


@st.composite
def dynamics_tables(draw: st.DrawFn) -> dict[str, Any]:
    tables = draw(common_tables()) | {"study": "dynamics"}
    labels = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    if draw(st.booleans()):
        tables["problem"] = draw(data_tables())
        moves = any_dynamics(tables["problem"]["data"]["training"])
        tables["start"] = draw(table("random", {"seed": seeds, "gain": positive}))
    else:
        landscapes = (
            table("double_well", {"height": positive}, transverse=positive)
            | table("quadratic", eigenvalues=st.just([1.5, 0.0]))
            | table("sphere", modulus=positive)
            | table("ripples", dimension=st.just(2), **dict.fromkeys(RIPPLES, positive))
        )
        tables["problem"] = {"kind": "landscape", "landscape": draw(landscapes)}
        tables["start"] = {"kind": "point", "theta": [draw(finite), draw(finite)]}
        level = max(tables["start"]["theta"])
        tables["escape"] = {"coordinate": draw(st.integers(0, 1)), "level": level}
        noises = heavy(fixed_noises)
        keys = {"learning_rate": positive, "noise": noises}
        moves = table("gaussian_sgd", **keys) | table("adam_sde", **keys, substeps=counts)
    tables["process"] = [{"name": label, "dynamics": draw(moves)} for label in labels]
    tables["claim"] = draw(st.lists(claims("dynamics", labels), max_size=2))
    if "escape" not in tables:
        assume(not any("escape" in claim["quantity"] for claim in tables["claim"]))
    if draw(st.booleans()):
        tables["validity"] = {"tolerance": draw(positive), "eigenvalues": draw(counts)}
    return tables


wells = table("double_well", {"height": positive})
regions = (
    table("tube", radius=positive)
    | table("sublevel", height=positive)
    | table("wells", {"same_basin": st.booleans()}, radius=positive)
    | table("half_space", {"coordinate": st.just(0)}, level=finite)
)
known_problems = (
    table(
        "linear_regression",
        {"seed": seeds},
        dimension=counts,
        samples=st.integers(50, 10**6),
        label_noise=st.floats(0, 9),
    )
    | table(
        "teacher_student",
        {"seed": seeds, "spectral_norm": positive, "fresh": st.integers(2, 10**6)},
        dimension=st.integers(2, 99),
        hidden=st.lists(counts, min_size=1, max_size=3),
        activation=st.sampled_from(["tanh", "relu"]),
        samples=st.integers(50, 10**6),
        label_noise=st.floats(0, 9),
        clip=positive,
    )
    | table(
        "many_minima",
        {"seed": seeds},
        wells=counts,
        amplitude=positive,
        period=st.floats(1.5, 9),
        plateau=st.floats(0.1, 0.7),
        samples=counts,
        spread=positive,
        start=st.sampled_from(["best", "first"]),
        replicas=st.integers(100, 10**6),
    )
)


@st.composite
def case_tables(draw: st.DrawFn, name: str, chunks: int) -> dict[str, Any]:
    tables: dict[str, Any] = {"name": name, "series": draw(st.text())}
    isotropic = table("isotropic", variance=positive)
    tables["dynamics"] = draw(table("gaussian_sgd", learning_rate=positive, noise=isotropic))
    if draw(st.booleans()):
        tables["problem"] = {"kind": "landscape", "landscape": draw(wells)}
        tables["region"] = draw(regions)
        tables["start"] = [draw(finite)]
    else:
        tables["problem"] = draw(known_problems)
        tables["region"] = draw(table("ball", radius=positive) | table("tube", radius=positive))
        particles = st.fixed_dictionaries({"replicas": st.integers(4, 99)}, optional={})
        tables["splitting"] = draw(particles)
    return tables | draw(st.sampled_from([{}, {"steps": 3 * chunks}]))


@st.composite
def exits_tables(draw: st.DrawFn) -> dict[str, Any]:
    tables = draw(common_tables()) | {"study": "exits"}
    chunks = draw(st.integers(1, 100))
    tables["ensemble"] = {
        "trajectories": draw(st.integers(1, 100)),
        "chunks": chunks,
        "steps": chunks * draw(st.integers(1, 1000)),
        "seed": draw(seeds),
    }
    labels = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    tables["case"] = [draw(case_tables(label, chunks)) for label in labels]
    tables["claim"] = draw(st.lists(claims("exits", cases=labels), max_size=2))
    if draw(st.booleans()):
        keys = {"directions": seeds, "radii": counts, "quenches": seeds}
        keys |= {"confidence": probabilities, "failure_probability": probabilities}
        tables["evaluation"] = draw(st.fixed_dictionaries({}, optional=keys))
    return tables


@st.composite
def bounds_tables(draw: st.DrawFn) -> dict[str, Any]:
    problem = draw(data_tables())
    if draw(st.booleans()):
        sizes = {"classes": st.integers(2, 16), "teacher_width": counts, "teacher_seed": seeds}
        rows = {"training": st.integers(2, 10**6), "reference": st.integers(2, 10**6)}
        shares = {"random_labels": st.floats(0, 1)}
        problem["data"] = draw(
            table(
                "hypercube",
                {**sizes, **shares},
                dimension=st.integers(2, 16),
                split_seed=seeds,
                **rows,
            )
        )
    training = {"target": positive, "reference_target": positive, "reference_steps": counts}
    measuring = {
        "draws": st.integers(2, 99),
        "deviations": st.lists(positive, min_size=1, max_size=3),
        "seed": seeds,
    }
    return draw(common_tables()) | {
        "study": "bounds",
        "problem": problem,
        "start": draw(table("random", {"seed": seeds, "gain": positive})),
        "dynamics": draw(any_dynamics(problem["data"]["training"])),
        "training": draw(st.fixed_dictionaries({}, optional=training)),
        "measuring": draw(st.fixed_dictionaries({}, optional=measuring)),
        "bounds": draw(bound_settings()),
        "claim": draw(st.lists(claims("bounds"), max_size=2)),
    }


@st.composite
def regression_tables(draw: st.DrawFn) -> dict[str, Any]:
    rows = st.integers(2, 10**6)
    signs = {"held_out": seeds, "flips": st.floats(0, 0.5), "noise": st.floats(0, 9), "seed": seeds}
    data = table("chebyshev", degree=st.integers(1, 100), training=rows) | table(
        "noisy_signs", signs, dimension=counts, training=rows
    )
    model = {"initial": st.sampled_from(["uniform", "xavier"]), "hidden_gain": positive}
    return {
        "kind": "regression",
        "ridge": draw(st.floats(0, allow_infinity=False)),
        "data": draw(data),
        "model": draw(
            table(
                "mlp",
                model | {"output_bias": st.booleans()},
                hidden=st.lists(counts, min_size=1, max_size=3),
                activation=activations,
            )
        ),
    }


@st.composite
def edge_tables(draw: st.DrawFn) -> dict[str, Any]:
    tables: dict[str, Any] = draw(common_tables()) | {"study": "edge"}
    chunk, steps = tables["ensemble"]["chunk_steps"], tables["ensemble"]["steps"]
    kinds = {"classification": data_tables(), "regression": regression_tables()}
    kind = draw(st.sampled_from(sorted(kinds)))
    tables["problem"] = draw(kinds[kind])
    loss = {"classification": "cross_entropy", "regression": "mse"}[kind]
    moves = any_dynamics(tables["problem"]["data"]["training"], loss)
    start = table("random", {"seed": seeds, "gain": positive, "each": st.booleans()})
    tables["start"] = draw(start)
    labels = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    tables["process"] = [{"name": label, "dynamics": draw(moves)} for label in labels]
    last = tables["process"][-1]
    if steps > chunk and draw(st.booleans()):
        last["steps"] = steps - chunk
    if len(labels) > 1 and last.get("steps", steps) > chunk and draw(st.booleans()):
        last["fork"] = {"process": labels[0], "step": chunk}
    elif draw(st.booleans()):
        last["start"] = draw(start)
    eigenvalues = draw(st.integers(1, 99))
    measured = {
        "eigenvalues": st.just(eigenvalues),
        "most_products": st.integers(100, 10**6),
        "tolerance": positive,
        "midpoint": st.booleans(),
        "batch_error": positive,
        "most_batches": st.integers(2, 10**6),
        "trace_products": st.just(0) | st.integers(2, 10**6),
        "sketch": seeds,
        "also": st.lists(st.sampled_from(get_args(Further)), unique=True),
        "density_probes": counts,
        "density_depth": counts,
        "seed": seeds,
    }
    tables["curvature"] = draw(st.fixed_dictionaries({}, optional=measured))
    if "eigenvalues" in tables["curvature"]:
        tables["curvature"].setdefault("most_products", 100)
    band = {"band": st.floats(0, 1, exclude_min=True, exclude_max=True)}
    tables["detector"] = draw(st.fixed_dictionaries({}, optional=band))
    tables["claim"] = draw(st.lists(claims("edge", labels), max_size=2))
    return tables


any_tables = (
    stagnation_tables() | dynamics_tables() | exits_tables() | bounds_tables() | edge_tables()
)


def scenario(tables: dict[str, Any]) -> Scenario:
    root = study_table(tables)
    assert issubclass(root, Scenario)
    return root.model_validate(tables)


@settings(max_examples=100, deadline=None)
@given(any_tables)
def test_json(tables: dict[str, Any]) -> None:
    first = scenario(tables)
    text = first.canonical_json()
    again = Scenario.from_json(text)
    assert again == first
    assert type(again) is type(first)
    assert again.canonical_json() == text
    assert again.digest() == first.digest() == hashlib.sha256(text.encode()).hexdigest()


@settings(max_examples=100, deadline=None)
@given(any_tables)
def test_toml(tables: dict[str, Any]) -> None:
    first = scenario(tables)
    again = scenario(tomllib.loads(to_toml(first)))
    assert again == first
    assert again.digest() == first.digest()


def test_json_without_a_study_is_stagnation() -> None:
    first = load_scenario("stagnation")
    tables = json.loads(first.canonical_json())
    del tables["study"]
    assert Scenario.from_json(json.dumps(tables)) == first


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    text = load_scenario("stagnation").canonical_json()
    tables = json.loads(text)
    backwards = json.dumps(dict(reversed(tables.items())), indent=2)
    assert Scenario.from_json(backwards).canonical_json() == text
    assert list(tables) == sorted(tables)
    assert " " not in text.split('"claim"')[0]


@pytest.mark.parametrize("name", scenario_names())
def test_what_show_prints_explains_every_key_and_loads(name: str) -> None:
    first = load_scenario(name)
    text = to_toml(first)
    # Keys of a sweep are paths to keys that are explained above.
    lines = re.split(r"\[\[(?:claim|process|case)\]\]|\[sweep\]\n", text)[0].splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line and line[0] != "#"]
    assert keys
    assert all(lines[number - 1].startswith("# ") for number in keys)
    assert scenario(tomllib.loads(text)) == first


def test_schema_describes_files_that_extend_others() -> None:
    schema = scenario_schema()
    text = json.dumps(schema)
    assert '"required"' not in text
    assert '"oneOf"' not in text
    assert schema["additionalProperties"] is False
    roots = StagnationScenario, DynamicsScenario, ExitsScenario, BoundsScenario, EdgeScenario
    studies = {field for root in roots for field in root.model_fields}
    assert set(schema["properties"]) == {"extends", *studies}
    quantities = json.dumps(schema["$defs"]["DynamicsClaim"]["properties"]["quantity"])
    assert all(f'"{quantity}"' in quantities for quantity in KNOWN_QUANTITIES["dynamics"])
    assert schema["$defs"]["Gd"]["properties"]["learning_rate"]["exclusiveMinimum"] == 0
    mentioned = set(re.findall(r"#/\$defs/(\w+)", text))
    assert mentioned == set(schema["$defs"])
    assert schema["$defs"]["Bounds"]["properties"]["grid_ratio"]["exclusiveMinimum"] == 1
    assert schema["$defs"]["Mlp"]["properties"]["hidden"]["anyOf"][0]["minItems"] == 1
    for table in schema["$defs"].values():
        assert all("description" in field for field in table["properties"].values())
