"""Scenarios survive being written, as JSON and as TOML."""

import hashlib
import json
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from sgdsim.scenario import (
    KNOWN_QUANTITIES,
    Scenario,
    load_scenario,
    scenario_names,
    scenario_schema,
    to_toml,
)

counts = st.integers(1, 2**31 - 1)
seeds = st.integers(0, 2**31 - 1)
positive = st.floats(0, exclude_min=True, allow_infinity=False) | st.integers(1, 10**6)
probabilities = st.floats(0, 1, exclude_min=True, exclude_max=True)
finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(min_size=1)
names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z")
auto = st.just("auto")

noises = st.just({"kind": "minibatch"}) | st.fixed_dictionaries(
    {"kind": st.just("isotropic"), "variance": positive}
)
models = st.just({"kind": "softmax"}) | st.fixed_dictionaries(
    {
        "kind": st.just("mlp"),
        "hidden": st.lists(counts, min_size=1, max_size=3),
        "activation": st.sampled_from(["tanh", "relu"]),
    }
)


@st.composite
def dynamics(draw: st.DrawFn, rows: int) -> dict[str, Any]:
    kind = draw(st.sampled_from(["gd", "sgd", "gaussian_sgd", "sde"]))
    table = {"kind": kind, "learning_rate": draw(positive)}
    if kind != "gd":
        table["batch_size"] = draw(st.integers(1, rows))
    if kind == "sgd":
        return table | draw(st.fixed_dictionaries({}, optional={"replacement": st.booleans()}))
    if kind in ("gaussian_sgd", "sde"):
        table["noise"] = draw(noises)
        if table["noise"]["kind"] == "isotropic" and draw(st.booleans()):
            del table["batch_size"]
    if kind == "sde":
        table["substeps"] = draw(counts)
    return table


@st.composite
def claims(draw: st.DrawFn) -> dict[str, Any]:
    low, high = sorted([draw(finite), draw(finite)])
    ends = draw(st.sampled_from([("at_least",), ("at_most",), ("at_least", "at_most")]))
    bounds = {end: {"at_least": low, "at_most": high}[end] for end in ends}
    quantity = draw(st.sampled_from(KNOWN_QUANTITIES))
    return {"quantity": quantity, "text": draw(words), "source": draw(words), **bounds}


@st.composite
def scenario_tables(draw: st.DrawFn) -> dict[str, Any]:
    training = draw(st.integers(2, 1793))
    record_every, records, chunks = (draw(st.integers(1, 1000)) for _ in range(3))
    low, high = sorted(draw(st.lists(positive, min_size=2, max_size=2, unique=True)))
    moves, model = draw(dynamics(training)), draw(models)
    ridge = draw(st.floats(0, allow_infinity=False))
    # An automatic radius needs noise and a curvature modulus.
    isotropic = moves.get("noise", {}).get("kind") == "isotropic"
    flat = isotropic if model["kind"] == "mlp" else ridge == 0
    formula = moves["kind"] != "gd" and not flat
    return {
        "name": draw(names),
        "title": draw(words),
        "description": draw(st.text()),
        "problem": {
            "kind": "classification",
            "ridge": ridge,
            "data": {
                "kind": "digits",
                "training": training,
                "reference": draw(st.integers(2, 1795 - training)),
                "split_seed": draw(seeds),
            },
            "model": model,
        },
        "minimum": {
            "tolerance": draw(positive),
            "max_iterations": draw(counts),
            "seed": draw(seeds),
        },
        "dynamics": moves,
        "ensemble": {
            "trajectories": draw(counts),
            "record_every": record_every,
            "chunk_steps": record_every * records,
            "steps": record_every * records * chunks,
            "seed": draw(seeds),
        },
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
        "bounds": {
            "failure_probability": draw(probabilities),
            "margin": draw(auto | positive),
            "grid_ratio": draw(st.floats(1.01, allow_infinity=False)),
            "grid_low": low,
            "grid_high": high,
        },
        "compute": draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "precision": st.sampled_from(["float32", "float64"]),
                    "mapping": st.sampled_from(["auto", "map", "vmap"]),
                    "devices": auto | counts,
                },
            )
        ),
        "claim": draw(st.lists(claims(), max_size=2)),
    }


@settings(max_examples=60, deadline=None)
@given(scenario_tables())
def test_json(tables: dict[str, Any]) -> None:
    scenario = Scenario.model_validate(tables)
    text = scenario.canonical_json()
    again = Scenario.from_json(text)
    assert again == scenario
    assert again.canonical_json() == text
    assert again.digest() == scenario.digest() == hashlib.sha256(text.encode()).hexdigest()


@settings(max_examples=60, deadline=None)
@given(scenario_tables())
def test_toml(tables: dict[str, Any]) -> None:
    scenario = Scenario.model_validate(tables)
    again = Scenario.model_validate(tomllib.loads(to_toml(scenario)))
    assert again == scenario
    assert again.digest() == scenario.digest()


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    text = load_scenario("stagnation").canonical_json()
    tables = json.loads(text)
    backwards = json.dumps(dict(reversed(tables.items())), indent=2)
    assert Scenario.from_json(backwards).canonical_json() == text
    assert list(tables) == sorted(tables)
    assert " " not in text.split('"claim"')[0]


@pytest.mark.parametrize("name", scenario_names())
def test_what_show_prints_explains_every_key_and_loads(name: str) -> None:
    scenario = load_scenario(name)
    text = to_toml(scenario)
    lines = text.partition("[[claim]]")[0].splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line and line[0] != "#"]
    assert keys
    assert all(lines[number - 1].startswith("# ") for number in keys)
    assert Scenario.model_validate(tomllib.loads(text)) == scenario


def test_schema_describes_files_that_extend_others() -> None:
    schema = scenario_schema()
    text = json.dumps(schema)
    assert '"required"' not in text
    assert '"oneOf"' not in text
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"extends", *Scenario.model_fields}
    assert schema["$defs"]["Bounds"]["properties"]["grid_ratio"]["exclusiveMinimum"] == 1
    assert schema["$defs"]["Mlp"]["properties"]["hidden"]["minItems"] == 1
    for table in schema["$defs"].values():
        assert all("description" in field for field in table["properties"].values())
