"""Sweeps: from a table to points, whatever the spelling, and what is said when it is wrong."""

import dataclasses
import json
import time
import tomllib
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies as st

from sgdsim._errors import ScenarioError
from sgdsim.scenario import (
    DynamicsScenario,
    ExitsScenario,
    Scenario,
    StagnationScenario,
    load_scenario,
    scenario_names,
    scenario_schema,
    sweep_dimensions,
    sweep_points,
    to_toml,
)
from sgdsim.scenario._schema import study_tables
from sgdsim.scenario._shape import tables_in

Write = Callable[[str, str], str]
BASE = 'extends = "stagnation"\nname = "mine"\n'


def load(write: Write, sweep: str, overrides: list[str] | None = None) -> StagnationScenario:
    scenario = load_scenario(write("mine.toml", BASE + sweep), overrides or [])
    assert isinstance(scenario, StagnationScenario)
    return scenario


def message(*axes: str, name: str = "stagnation") -> str:
    """What is said of a sweep that is set on the command line, without the first line."""
    with pytest.raises(ScenarioError) as caught:
        load_scenario(name, [f"sweep.{axis}" for axis in axes])
    assert "Traceback" not in str(caught.value)
    return "\n".join(line.strip() for line in str(caught.value).splitlines()[1:])


def file_message(write: Write, sweep: str, overrides: list[str] | None = None) -> list[str]:
    """What is said of a sweep in a file, whose third line is the first of the sweep."""
    with pytest.raises(ScenarioError) as caught:
        load(write, sweep, overrides)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def labels(scenario: Scenario) -> dict[str, tuple[Any, ...]]:
    return {
        name: values
        for dimension in sweep_dimensions(scenario)
        for name, values in dimension.coords.items()
    }


SPELLINGS = {
    "quoted": '[sweep]\n"dynamics.learning_rate" = [0.1, 0.2]\n',
    "dotted": "[sweep]\ndynamics.learning_rate = [0.1, 0.2]\n",
    "table": "[sweep.dynamics]\nlearning_rate = [0.1, 0.2]\n",
    "inline": "sweep = {dynamics = {learning_rate = [0.1, 0.2]}}\n",
    "bare": "[sweep]\nlearning_rate = [0.1, 0.2]\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_the_same_sweep(write: Write, spelling: str) -> None:
    scenario = load(write, SPELLINGS[spelling])
    expected = load(write, "", ["sweep.learning_rate=[0.1, 0.2]"])
    assert scenario == expected
    assert scenario.digest() == expected.digest()
    assert json.loads(scenario.canonical_json())["sweep"] == {"dynamics.learning_rate": [0.1, 0.2]}
    assert labels(scenario) == {"learning_rate": (0.1, 0.2)}
    points = sweep_points(scenario)
    assert [point.dynamics.learning_rate for point in points] == [0.1, 0.2]
    assert all(point.sweep is None for point in points)


@pytest.mark.parametrize("first", SPELLINGS)
@pytest.mark.parametrize(
    "key", ["learning_rate", "dynamics.learning_rate", '"dynamics.learning_rate"']
)
def test_a_later_axis_replaces_the_same_one(write: Write, first: str, key: str) -> None:
    scenario = load(write, SPELLINGS[first], [f"sweep.{key}=[1, 2, 3]"])
    assert labels(scenario) == {"learning_rate": (1.0, 2.0, 3.0)}


def test_a_file_replaces_axes_of_the_one_it_extends(write: Write) -> None:
    write("parent.toml", BASE + "[sweep]\nlearning_rate = [0.1, 0.2]\nbatch_size = [8, 16]\n")
    name = write("child.toml", 'extends = "parent"\n[sweep]\ndynamics.batch_size = [4]\n')
    assert labels(load_scenario(name)) == {"learning_rate": (0.1, 0.2), "batch_size": (4,)}


def test_settings_of_random_are_no_spelling_of_an_axis(write: Write) -> None:
    sweep = "[sweep.random]\ndraws = 3\nseed = 5\nensemble.seed = {linear = [0, 1000]}\n"
    scenario = load(write, sweep, ["sweep.random.seed=6", "sweep.random.draws=2"])
    assert scenario.sweep is not None
    assert (scenario.sweep.draws, scenario.sweep.seed) == (2, 6)
    assert set(labels(scenario)) == {"draw", "seed"}


def test_without_a_sweep_nothing_changes() -> None:
    scenario = load_scenario("stagnation")
    assert scenario.sweep is None
    assert sweep_dimensions(scenario) == ()
    assert sweep_points(scenario) == (scenario,)
    assert "sweep" not in json.loads(scenario.canonical_json())


def test_points_are_numbered_in_c_order_of_the_dimensions(write: Write) -> None:
    scenario = load(
        write,
        """[sweep]
learning_rate = [0.1, 0.2]
batch_size = [8, 16]
[sweep.zip]
trajectories = [10, 20]
ensemble.seed = [1, 2]
[sweep.random]
draws = 3
ridge = {log = [0.001, 1]}
""",
    )
    names = [dimension.name for dimension in sweep_dimensions(scenario)]
    assert names == ["batch_size", "learning_rate", "zip", "draw"]
    assert [dimension.size for dimension in sweep_dimensions(scenario)] == [2, 2, 2, 3]
    points = sweep_points(scenario)
    rows = labels(scenario)
    assert rows["zip"] == (0, 1)
    assert rows["draw"] == (0, 1, 2)
    found = [
        (
            point.dynamics.model_dump()["batch_size"],
            point.dynamics.learning_rate,
            point.ensemble.trajectories,
            point.ensemble.seed,
            point.problem.ridge,
        )
        for point in points
    ]
    assert found == [
        (batch, eta, rows["trajectories"][pair], rows["seed"][pair], ridge)
        for batch in (8, 16)
        for eta in (0.1, 0.2)
        for pair in (0, 1)
        for ridge in rows["ridge"]
    ]


def test_the_order_of_axes_does_not_matter(write: Write) -> None:
    one = load(write, "[sweep]\nlearning_rate = [0.1]\nbatch_size = [8]\n")
    other = load(write, "[sweep]\nbatch_size = [8]\nlearning_rate = [0.1]\n")
    assert one == other
    assert one.digest() == other.digest()
    assert sweep_dimensions(one) == sweep_dimensions(other)


def test_ranges() -> None:
    def values(axis: str) -> tuple[Any, ...]:
        (dimension,) = sweep_dimensions(load_scenario("stagnation", [f"sweep.{axis}"]))
        return dimension.coords[dimension.name]

    log = values("learning_rate={log = [0.001, 1.0], points = 4}")
    assert log == (0.001, 0.01, 0.1, 1.0)
    assert values("ridge={linear = [1, 2], points = 6}") == (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
    assert values("ridge={log = [0.3, 5], points = 1}") == (0.3,)
    batches = values("batch_size={log = [8, 100], points = 3}")
    assert batches == (8, 28, 100)
    assert all(type(value) is int for value in batches)
    assert all(type(value) is float for value in values("learning_rate=[1, 2]"))
    assert values("compute.precision=['float32', 'float64']") == ("float32", "float64")
    assert values("replacement=[true, false]") == (True, False)


def test_integers_of_a_list_are_those_of_a_float_key() -> None:
    whole = load_scenario("stagnation", ["sweep.learning_rate=[1, 2]"])
    assert whole.digest() == load_scenario("stagnation", ["sweep.learning_rate=[1.0, 2]"]).digest()


def drawn(*axes: str) -> dict[str, tuple[Any, ...]]:
    return labels(load_scenario("stagnation", [f"sweep.random.{axis}" for axis in axes]))


def test_a_draw_depends_on_the_seed_and_its_own_path_only() -> None:
    eta, ridge = "learning_rate={log = [0.01, 1]}", "ridge={linear = [1, 2]}"
    alone = drawn("draws=50", eta)["learning_rate"]
    assert drawn("draws=50", ridge, f"dynamics.{eta}")["learning_rate"] == alone
    assert drawn("draws=60", eta)["learning_rate"][:50] == alone
    assert drawn("draws=50", "seed=1", eta)["learning_rate"] != alone
    other = drawn("draws=50", "ridge={log = [0.01, 1]}")["ridge"]
    assert other != alone
    assert len(set(alone)) == 50


def test_draws_are_uniform_in_their_range() -> None:
    rows = drawn(
        "draws=2000",
        "learning_rate={log = [0.01, 1]}",
        "ridge={linear = [1, 2]}",
        "batch_size={choice = [8, 16, 64, 128]}",
    )
    # A share of one half has the standard error 0.011 here.
    assert all(0.01 <= value <= 1 for value in rows["learning_rate"])
    assert sum(value < 0.1 for value in rows["learning_rate"]) / 2000 == pytest.approx(
        0.5, abs=0.05
    )
    assert sum(value < 1.5 for value in rows["ridge"]) / 2000 == pytest.approx(0.5, abs=0.05)
    for choice in (8, 16, 64, 128):
        assert rows["batch_size"].count(choice) / 2000 == pytest.approx(0.25, abs=0.05)


def test_entries_of_lists_by_number_by_name_and_all(write: Write, side_by_side: str) -> None:
    name = write("two.toml", side_by_side)

    def etas(key: str) -> list[tuple[float, ...]]:
        scenario = load_scenario(name, [f"sweep.{key}.dynamics.learning_rate=[0.1, 0.3]"])
        points = cast("tuple[DynamicsScenario, ...]", sweep_points(scenario))
        assert labels(scenario) == {"learning_rate": (0.1, 0.3)}
        return [tuple(process.dynamics.learning_rate for process in p.process) for p in points]

    assert etas("process.0") == etas("process.sgd") == [(0.1, 0.1), (0.3, 0.1)]
    assert etas("process.the SDE") == [(0.1, 0.1), (0.1, 0.3)]
    assert etas("process.*") == [(0.1, 0.1), (0.3, 0.3)]
    one = load_scenario(name, ["sweep.process.0.dynamics.learning_rate=[0.1]"])
    assert one == load_scenario(name, ["sweep.process.sgd.dynamics.learning_rate=[0.1]"])


def test_names_that_cannot_stand_in_a_key_are_numbers(write: Write, side_by_side: str) -> None:
    text = side_by_side.replace('"sgd"\n[', '"eta 0.1"\n[').replace('["sgd"', '["eta 0.1"')
    name = write("two.toml", text)
    scenario = load_scenario(name, ["sweep.process.0.dynamics.learning_rate=[0.1, 0.2]"])
    assert scenario.sweep is not None
    assert scenario.sweep.grid[0].key == "process.0.dynamics.learning_rate"
    assert Scenario.from_json(scenario.canonical_json()) == scenario


def test_equal_last_parts_take_what_tells_them_apart(write: Write, side_by_side: str) -> None:
    name = write("two.toml", side_by_side)
    axes = [f"sweep.process.{one}.dynamics.learning_rate=[0.1]" for one in ("sgd", "the SDE")]
    names = labels(load_scenario(name, [*axes, "sweep.ridge=[0.1]"]))
    assert set(names) == {"sgd_dynamics_learning_rate", "the_SDE_dynamics_learning_rate", "ridge"}
    scenario = load_scenario("stagnation", ["sweep.ensemble.seed=[1]", "sweep.minimum.seed=[2]"])
    assert set(labels(scenario)) == {"ensemble_seed", "minimum_seed"}
    zipped = load_scenario("stagnation", ["sweep.zip={ensemble.seed=[1, 2], minimum.seed=[3, 4]}"])
    assert set(labels(zipped)) == {"zip", "ensemble_seed", "minimum_seed"}


def test_an_entry_of_a_plain_list() -> None:
    scenario = load_scenario("stagnation-mlp", ["sweep.problem.model.hidden.0=[4, 8]"])
    assert labels(scenario) == {"hidden_0": (4, 8)}
    points = cast("tuple[StagnationScenario, ...]", sweep_points(scenario))
    assert [point.problem.model.model_dump()["hidden"][0] for point in points] == [4, 8]


def test_a_kind_leaves_out_what_it_does_not_have() -> None:
    settings = ["sweep.problem.model.kind=['mlp', 'softmax']"]
    scenario = load_scenario("stagnation-mlp", settings)
    assert labels(scenario) == {"kind": ("mlp", "softmax")}
    points = cast("tuple[StagnationScenario, ...]", sweep_points(scenario))
    assert [point.problem.model.kind for point in points] == ["mlp", "softmax"]
    assert sweep_points(Scenario.from_json(scenario.canonical_json())) == points


def test_a_swept_key_that_a_kind_does_not_have_is_not_dropped() -> None:
    axes = ("problem.model.activation=['relu', 'tanh']", "problem.model.kind=['mlp', 'softmax']")
    assert message(*axes, name="stagnation-mlp") == (
        "--set  sweep.problem.model.activation: point 1 (activation = 'relu', kind = 'softmax'): "
        "unknown key. Known: kind.\n"
        "--set  sweep.problem.model.activation: point 3 (activation = 'tanh', kind = 'softmax'): "
        "unknown key. Known: kind."
    )


def test_seeds_and_cases_are_swept() -> None:
    axes = ["sweep.ensemble.seed=[1, 2]", "sweep.case.*.dynamics.learning_rate=[0.01, 0.02, 0.03]"]
    scenario = load_scenario("exit-times", axes)
    points = cast("tuple[ExitsScenario, ...]", sweep_points(scenario))
    assert [dimension.name for dimension in sweep_dimensions(scenario)] == ["learning_rate", "seed"]
    assert len(points) == 6
    assert {one.dynamics.learning_rate for one in points[-1].case} == {0.03}
    assert points[-1].ensemble.seed == 2


axis_values = (
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4, unique=True)
    | st.fixed_dictionaries(
        {"log": st.just([0.01, 10.0]), "points": st.integers(1, 5)},
    )
    | st.fixed_dictionaries({"linear": st.just([0.5, 2]), "points": st.integers(1, 5)})
)
drawn_values = st.sampled_from([{"log": [0.01, 1]}, {"linear": [0.5, 2]}])
real_keys = ("dynamics.learning_rate", "problem.ridge", "bounds.grid_low", "minimum.tolerance")


@st.composite
def sweeps(draw: st.DrawFn) -> dict[str, Any]:
    """Sweeps of four real keys, in all forms."""
    table: dict[str, Any] = {}
    for key in real_keys:
        group = draw(st.sampled_from(["none", "grid", "zip", "random"]))
        if group == "grid":
            table[key] = draw(axis_values)
        if group == "zip":
            table.setdefault("zip", {})[key] = draw(
                st.lists(st.floats(0.5, 5), min_size=3, max_size=3, unique=True)
            )
        if group == "random":
            first = {"draws": draw(st.integers(1, 4)), "seed": draw(st.integers(0, 2**31 - 1))}
            table.setdefault("random", first)[key] = draw(drawn_values)
    return table or {"ensemble.seed": [1, 2]}


@settings(max_examples=25, deadline=None)
@given(sweeps())
def test_json_and_toml_keep_a_sweep(table: dict[str, Any]) -> None:
    tables = load_scenario("stagnation", ["bounds.grid_high=1e9"]).model_dump(mode="json")
    first = StagnationScenario.model_validate(tables | {"sweep": table})
    for again in (
        Scenario.from_json(first.canonical_json()),
        StagnationScenario.model_validate(tomllib.loads(to_toml(first))),
    ):
        assert again == first
        assert again.digest() == first.digest()
        assert sweep_points(again) == sweep_points(first)
        assert sweep_dimensions(again) == sweep_dimensions(first)


def test_what_show_prints_explains_the_sweep_and_loads(write: Write) -> None:
    sweep = """[sweep]
learning_rate = {log = [0.1, 1], points = 3}
[sweep.zip]
batch_size = [8, 16]
[sweep.random]
draws = 2
ensemble.seed = {choice = [1, 2, 3, 4, 5, 6, 7, 8, 9]}
"""
    scenario = load(write, sweep)
    text = to_toml(scenario)
    assert '[sweep]\n"dynamics.learning_rate" = {log = [0.1, 1.0], points = 3}\n' in text
    lines = text.splitlines()
    for header in ("[sweep]", "[sweep.zip]", "[sweep.random]"):
        assert lines[lines.index(header) - 1].startswith("# ")
    assert load_scenario(write("shown.toml", text)) == scenario


def test_schema_describes_the_sweep() -> None:
    described = scenario_schema()["properties"]["sweep"]
    assert "dotted path" in described["description"]
    assert set(described["properties"]) == {"zip", "random"}
    assert set(described["properties"]["random"]["properties"]) == {"draws", "seed"}


def test_forms_are_no_keys_of_a_scenario() -> None:
    def keys(table: Any) -> set[str]:
        inner = (keys(one) for f in table.model_fields.values() for one in tables_in(f.annotation))
        return set(table.model_fields).union(*inner)

    every = set().union(*(keys(table) for table in study_tables().values()))
    assert not every & {"log", "linear", "choice", "points", "zip", "random"}


def test_a_process_may_be_named_like_a_form(write: Write, side_by_side: str) -> None:
    text = side_by_side.replace('"sgd"\n[', '"log"\n[').replace('["sgd"', '["log"')
    name = write("two.toml", text + "[sweep]\nprocess.log.dynamics.batch_size = [2, 4]\n")
    assert labels(load_scenario(name)) == {"batch_size": (2, 4)}


@pytest.mark.parametrize("name", scenario_names())
def test_every_key_of_every_scenario_is_found(name: str) -> None:
    scenario = load_scenario(name).model_copy(update={"sweep": None})
    tables = scenario.model_dump(mode="json")
    number = 0

    def walk(value: Any, parts: tuple[str, ...]) -> None:
        nonlocal number
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, (*parts, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk(item, (*parts, str(index)))
        elif value is not None and parts[-1] != "name":
            number += 1
            table = tables | {"sweep": {".".join(parts): [value]}}
            assert sweep_points(type(scenario).model_validate(table)) == (scenario,)

    skipped = ("study", "name", "title", "description", "claim")
    for key, value in tables.items():
        if key not in skipped:
            walk(value, (key,))
    assert number > 10


def test_a_thousand_points_take_no_time() -> None:
    start = time.perf_counter()
    axes = ["sweep.learning_rate={log = [0.01, 1], points = 100}", "sweep.batch_size=[1,2,3,4,5]"]
    axes += ["sweep.ensemble.seed=[1, 2]"]
    assert len(sweep_points(load_scenario("stagnation", axes))) == 1000
    assert time.perf_counter() - start < 5


# Axes on top of `stagnation`, and the line that tells what is wrong with them.
WRONG = {
    "dynamics.lerning_rate=[1]": "dynamics.lerning_rate: there is no key 'lerning_rate' in "
    "dynamics. Did you mean 'dynamics.learning_rate'?",
    "dynamcs.learning_rate=[1]": "dynamcs.learning_rate: there is no key 'dynamcs' in the "
    "scenario. Did you mean 'dynamics'?",
    "lerning_rate=[1]": "lerning_rate: no key of the scenario ends in it. Did you mean "
    "'learning_rate'?",
    "xyzzy=[1]": "xyzzy: no key of the scenario ends in it. `sgdsim show` lists the keys.",
    "seed=[1]": "seed: 3 keys of the scenario end in it; write one of ensemble.seed, minimum.seed, "
    "convexity.seed.",
    "ensemble=[1]": "ensemble: ensemble is a table; sweep what is in it: ensemble.trajectories, "
    "ensemble.steps, ensemble.record_every, ensemble.chunk_steps, ensemble.seed.",
    "dynamics.schedule=['a']": "dynamics.schedule: dynamics.schedule is not set in this scenario, "
    "so it cannot be swept.",
    "dynamics.schedule.steps=[1]": "dynamics.schedule.steps: dynamics.schedule is not set in this "
    "scenario, so nothing below it can be swept.",
    "dynamics.learning_rate.x=[1]": "dynamics.learning_rate.x: dynamics.learning_rate is no table, "
    "so there is no 'x' below it.",
    "learning_rate=[]": "learning_rate: should have at least one value (got []).",
    "learning_rate=0.1": "learning_rate: should be a list of values, {log = [a, b], points = n} or "
    "{linear = [a, b], points = n} (got 0.1).",
    "learning_rate=[0.1, 0.2, 0.1]": "learning_rate: values 0 and 2, counted from 0, are both 0.1; "
    "keep one.",
    "batch_size={linear = [1, 2], points = 3}": "batch_size: values 1 and 2, counted from 0, are "
    "both 2; keep one.",
    "learning_rate=[{log = 1}]": "learning_rate: should hold numbers, strings or booleans (got a "
    "table); sweep single keys of a table, several together with sweep.zip.",
    "radius=['auto', 1]": "radius: should hold values of one kind, all numbers, all strings or all "
    "booleans, because they label one dimension (got ['auto', 1]).",
    "replacement=[true, 1]": "replacement: should hold values of one kind, all numbers, all "
    "strings or all booleans, because they label one dimension (got [True, 1]).",
    "learning_rate={log = [0, 1], points = 2}": "learning_rate: the ends of log should be greater "
    "than 0 (got [0, 1]); take linear.",
    "learning_rate={log = [1], points = 2}": "learning_rate: log should be two numbers, the ends "
    "(got [1]).",
    "learning_rate={linear = [0, inf], points = 2}": "learning_rate: linear should be two numbers, "
    "the ends (got [0, inf]).",
    "learning_rate={log = [0.1, 1], points = 0}": "learning_rate: points should be an integer of "
    "at least 1 (got 0).",
    "learning_rate={log = [0.1, 1]}": "learning_rate: missing points, the number of values between "
    "0.1 and 1.0.",
    "learning_rate={points = 2}": "learning_rate: should have exactly one of log, linear (got none "
    "of them).",
    "learning_rate={log = [1, 2], linear = [1, 2], points = 2}": "learning_rate: should have "
    "exactly one of log, linear (got log and linear).",
    "learning_rate={lgo = [1, 2], points = 2}": "learning_rate: unknown key 'lgo'. Did you mean "
    "'log'? Known: log, linear, points.",
    "learning_rate={choice = [1, 2]}": "learning_rate: choice is for sweep.random; write the list "
    "alone.",
    "learning_rate=[0.1, -1]": "learning_rate: point 1 (learning_rate = -1.0): should be greater "
    "than 0, because steps go downhill and time is counted in it (got -1).",
    "steps=[400, 100]": "steps: point 1 (steps = 100): ensemble.chunk_steps: should divide "
    "ensemble.steps = 100 (got 200).",
    "dynamics.kind=['sgd', 'sdg']": "dynamics.kind: point 1 (kind = 'sdg'): unknown kind 'sdg'. "
    "Did you mean 'sgd'?",
    "compute.precision=['float46']": "compute.precision: point 0 (precision = 'float46'): unknown "
    "value 'float46'. Did you mean 'float64'? Known: float32, float64.",
    "learning_rate={linear = [1, 2], points = 100001}": "sweep: would have 100,001 points, more "
    "than 100,000; take fewer values.",
    "zip={learning_rate = [1, 2], batch_size = [1, 2, 3]}": "zip: lists that advance together "
    "should be equally long; learning_rate has 2, batch_size has 3.",
    "zip={learning_rate = [1, 2, 1], batch_size = [1, 2, 1]}": "zip: entries 0 and 2, counted "
    "from 0, are the same point; keep one.",
    "zip={}": "zip: should name the keys that advance together.",
    "zip=[1]": "zip: should be a table (got [1]).",
    "random=3": "random: should be a table (got 3).",
    "random={draws = 3}": "random: should name what is drawn, for example "
    '"dynamics.learning_rate" = {log = [0.01, 1]}.',
    "random={learning_rate = {log = [0.1, 1]}}": "random.draws: missing (number of draws, for "
    "example 20).",
    "random={draws = 0, learning_rate = {log = [0.1, 1]}}": "random.draws: should be an integer of "
    "at least 1 (got 0).",
    "random={draws = 2, seed = -1, learning_rate = {log = [0.1, 1]}}": "random.seed: should be an "
    "integer from 0 to 2147483647 (got -1).",
    "random={draws = 2, learning_rate = [0.1, 1]}": "random.learning_rate: should be "
    "{log = [a, b]}, {linear = [a, b]} or {choice = [...]}, because it is drawn (got [0.1, 1]).",
    "random={draws = 2, learning_rate = {log = [0.1, 1], points = 3}}": "random.learning_rate: has "
    "no points here; sweep.random.draws says how many are drawn.",
    "random={draws = 2, learning_rate = {choice = 3}}": "random.learning_rate: choice should be a "
    "list of values (got 3).",
    "random={draws = 9, learning_rate = {choice = [0.1]}}": "random: draws 0 and 1, counted "
    "from 0, are the same point; take fewer draws or more choices, or write the values as lists.",
}
REFUSED = ("study", "name", "title", "description", "claim.0.text", "claim.0.at_most", "sweep.x")


@pytest.mark.parametrize("axis", WRONG)
def test_wrong_axes(axis: str) -> None:
    expected = WRONG[axis] if WRONG[axis].startswith("sweep:") else f"sweep.{WRONG[axis]}"
    assert message(axis).startswith(f"--set  {expected}")
    assert "\n" not in message(axis)


@pytest.mark.parametrize("key", REFUSED)
def test_what_does_not_change_the_simulation_is_not_swept(key: str) -> None:
    assert message(f"{key}=['a', 'b']") == (
        f"--set  sweep.{key}: cannot be swept, because points differ in what is simulated; names, "
        "texts and claims belong to the whole scenario."
    )


def test_a_table_without_axes_and_no_table() -> None:
    for value, text in {"{}": "should name a key and its values, for", "3": "should be a"}.items():
        with pytest.raises(ScenarioError, match=f"sweep: {text}"):
            load_scenario("stagnation", [f"sweep={value}"])


def test_entries_that_do_not_exist(write: Write, side_by_side: str) -> None:
    name = write("two.toml", side_by_side)
    key = "dynamics.learning_rate"
    assert message(f"process.sdg.{key}=[1]", name=name) == (
        f"--set  sweep.process.sdg.{key}: there is no entry 'sdg' in process. Did you mean "
        "'process.sgd'?"
    )
    assert message(f"process.2.{key}=[1]", name=name) == (
        f"--set  sweep.process.2.{key}: there is no entry '2' in process. Known: sgd, the SDE."
    )
    assert message("process.*.dynamics.substeps=[1]", name=name) == (
        "--set  sweep.process.*.dynamics.substeps: there is no key 'substeps' in "
        "process.0.dynamics. Known: learning_rate, weight_decay, schedule, projection, kind, "
        "batch_size, replacement."
    )
    assert message("learning_rate=[1]", name=name) == (
        f"--set  sweep.learning_rate: 2 keys of the scenario end in it; write "
        f"'process.*.{key}' for all of them, or one of process.sgd.{key}, process.the SDE.{key}."
    )
    assert message("process.0.name=['a']", name=name).startswith(
        "--set  sweep.process.0.name: cannot be swept"
    )


def test_a_key_that_is_swept_twice(write: Write, side_by_side: str) -> None:
    lines = file_message(write, "[sweep]\nlearning_rate = [1]\ndynamics.learning_rate = [2]\n")
    assert lines == [
        "line   5  sweep.dynamics.learning_rate: dynamics.learning_rate is swept by "
        "sweep.learning_rate already; keep one."
    ]
    nested = '[sweep]\ndynamics.learning_rate = [1]\n"dynamics.learning_rate" = [2]\n'
    assert file_message(write, nested) == [
        "line   5  sweep.dynamics.learning_rate: is written twice; keep one."
    ]
    tables = load_scenario("stagnation").model_dump(mode="json")
    tables["sweep"] = {"dynamics": {"learning_rate": [1]}, "dynamics.learning_rate": [2]}
    with pytest.raises(ScenarioError, match=r"sweep\.dynamics\.learning_rate: is written twice"):
        Scenario.from_json(json.dumps(tables))
    assert message("zip.learning_rate=[1]", "learning_rate=[2]") == (
        "--set  sweep.zip.learning_rate: dynamics.learning_rate is swept by sweep.learning_rate "
        "already; keep one."
    )
    name = write("two.toml", side_by_side)
    every, one = (f"process.{one}.dynamics.learning_rate=[1]" for one in ("*", "sgd"))
    assert "process.0.dynamics.learning_rate is swept by" in message(every, one, name=name)


def test_mistakes_have_their_line_and_are_said_once(write: Write) -> None:
    sweep = """[sweep]
batch_size = [8, 2000, 3000]
dynamics.learning_rate = [0.1, 0.2, -1]
[sweep.zip]
ensemble.seed = [1, 2]
ridge = [0.1,
  -0.1]
"""
    batch = "because a batch is drawn from these rows"
    assert file_message(write, sweep) == [
        "line   4  sweep.batch_size: point 6 (batch_size = 2000, learning_rate = 0.1, seed = 1, "
        f"ridge = 0.1): should be at most problem.data.training = 1000, {batch} (got 2000).",
        "line   4  sweep.batch_size: point 12 (batch_size = 3000, learning_rate = 0.1, seed = 1, "
        f"ridge = 0.1): should be at most problem.data.training = 1000, {batch} (got 3000).",
        "line   5  sweep.dynamics.learning_rate: point 4 (batch_size = 8, learning_rate = -1.0, "
        "seed = 1, ridge = 0.1): should be greater than 0, because steps go downhill and time is "
        "counted in it (got -1).",
        "line   8  sweep.zip.ridge: point 1 (batch_size = 8, learning_rate = 0.1, seed = 2, "
        "ridge = -0.1): should be greater than or equal to 0 (got -0.1).",
    ]
    assert file_message(write, sweep, ["sweep.batch_size=[8, 9.5]"])[-1] == (
        "--set     sweep.batch_size: point 6 (batch_size = 9.5, learning_rate = 0.1, seed = 1, "
        "ridge = 0.1): should be a valid integer (got 9.5)."
    )


def test_mistakes_of_all_points_are_cut_short() -> None:
    values = ", ".join(str(-value) for value in range(1, 2000))
    assert message(f"learning_rate=[{values}]").count("\n") == 9


def test_mistakes_of_the_table_are_said_with_those_of_others(write: Write) -> None:
    text = "[dynamics]\nbatch_size = 0\n[sweep]\nlearning_rate = []\nbatch_size = 3\n"
    lines = file_message(write, text)
    assert [line.split(": ")[0] for line in lines] == [
        "line   4  dynamics.batch_size",
        "line   6  sweep.learning_rate",
        "line   7  sweep.batch_size",
    ]


def test_a_broken_part_file_is_named(write: Write) -> None:
    write("parent.toml", BASE + "[sweep]\nlearning_rate = [0.1, -1]\n")
    with pytest.raises(
        ScenarioError, match=r"parent\.toml line   4  sweep\.learning_rate: point 1"
    ):
        load_scenario(write("child.toml", 'extends = "parent"\n'))


def test_a_sweep_cannot_be_changed_and_can_be_hashed() -> None:
    sweep = load_scenario("stagnation", ["sweep.learning_rate=[0.1]"]).sweep
    assert sweep is not None
    assert hash(sweep) == hash(load_scenario("stagnation", ["sweep.learning_rate=[0.1]"]).sweep)
    with pytest.raises(dataclasses.FrozenInstanceError):
        sweep.draws = 3  # pyright: ignore[reportAttributeAccessIssue]
