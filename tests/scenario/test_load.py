"""Composition: extends, overrides, changes of kind, lookup of the built-in scenarios."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdsim._errors import ScenarioError
from sgdsim.scenario import (
    GaussianSgd,
    Gd,
    IsotropicNoise,
    Mlp,
    Sde,
    Sgd,
    StagnationScenario,
    _catalogue,
    list_scenarios,
    load_scenario,
    scenario_names,
    scenario_root,
)

Write = Callable[[str, str], str]


def stagnation(name: str | Path = "stagnation", *settings: str) -> StagnationScenario:
    scenario = load_scenario(name, settings)
    assert isinstance(scenario, StagnationScenario)
    return scenario


@pytest.mark.parametrize("name", scenario_names())
def test_built_in_scenarios_load(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name
    assert scenario.claim
    assert scenario.description


def test_list_has_every_scenario_and_no_part() -> None:
    names = [name for name, _ in list_scenarios()]
    assert names == sorted(file.stem for file in scenario_root().iterdir() if file.is_file())
    assert {"stagnation", "stagnation-mlp"} <= set(names)
    assert all(title == load_scenario(name).title for name, title in list_scenarios())


def test_built_in_files_begin_with_a_comment_that_teaches() -> None:
    files = list(scenario_root().rglob("*.toml"))
    assert scenario_root() / "parts" / "stagnation.toml" in files
    for file in files:
        header = file.read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
        assert len(header) >= 3
        assert all(line.startswith("#") for line in header)


def test_the_built_in_scenarios_are_as_designed() -> None:
    scenario = stagnation()
    assert isinstance(scenario.dynamics, GaussianSgd)
    assert scenario.dynamics.batch_size == 16
    assert scenario.problem.ridge == 0.02
    assert [claim.quantity for claim in scenario.claim] == [
        "stay_bound_excess",
        "certificate_slack",
        "exit_bound",
        "certified_exit_bound",
        "certified_radius",
        "participation_share",
        "distance_to_lyapunov_ratio",
    ]
    mlp = stagnation("stagnation-mlp")
    assert mlp.problem.ridge == 0.002
    assert mlp.problem.model == Mlp(kind="mlp", hidden=(32,), activation="tanh")
    shared = ["stay_bound_excess", "certificate_slack", "participation_share"]
    assert [claim.quantity for claim in mlp.claim] == shared
    assert mlp.claim[:2] == scenario.claim[:2]
    assert mlp.ensemble == scenario.ensemble


def test_a_file_merges_tables_and_appends_claims(write: Write) -> None:
    write(
        "mine.toml",
        """
        extends = "parts/middle"
        name = "mine"
        ensemble.steps = 400
        [[claim]]
        quantity = "exit_bound"
        at_most = 0.5
        text = "third"
        source = "s"
        """,
    )
    write(
        "parts/middle.toml",
        """
        extends = "../base.toml"
        title = "middle"
        [problem]
        model = {kind = "softmax"}
        [ensemble]
        steps = 800
        trajectories = 8
        """,
    )
    write("base.toml", f"extends = '{(scenario_root() / 'parts/stagnation').as_posix()}'")
    scenario = stagnation("mine.toml", "problem.ridge=1")
    assert (scenario.name, scenario.title) == ("mine", "middle")
    assert (scenario.ensemble.steps, scenario.ensemble.trajectories) == (400, 8)
    assert scenario.ensemble.chunk_steps == 200
    assert [claim.text for claim in scenario.claim][-1] == "third"
    assert len(scenario.claim) == 3
    assert scenario == load_scenario(Path("mine.toml"), ["problem.ridge=1"])


def test_a_file_anywhere_may_extend_a_built_in_one(write: Write) -> None:
    name = write("mine.toml", 'extends = "stagnation-mlp"\nname = "mine"\n')
    assert stagnation(name).problem == stagnation("stagnation-mlp").problem
    # What lies next to the file comes first.
    write("stagnation-mlp.toml", 'extends = "stagnation"\ntitle = "local"')
    assert load_scenario(name).title == "local"


def test_lists_that_are_not_claims_are_replaced() -> None:
    scenario = stagnation("stagnation-mlp", "problem.model.hidden=[8, 4]")
    assert scenario.problem.model == Mlp(kind="mlp", hidden=(8, 4), activation="tanh")


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        (["ensemble.trajectories=16"], "ensemble.trajectories", 16),
        ([" ensemble . seed = 3 "], "ensemble.seed", 3),
        (["ensemble.seed=1", "ensemble.seed=2"], "ensemble.seed", 2),
        (["stagnation.radius=0.5"], "stagnation.radius", 0.5),
        (["stagnation.radius=auto"], "stagnation.radius", "auto"),
        (['stagnation.radius="auto"'], "stagnation.radius", "auto"),
        (["title=a = b"], "title", "a = b"),
        (["title=1\nname = 2"], "title", "1\nname = 2"),
        (["description="], "description", ""),
        (["claim.0.text=first"], "claim.0.text", "first"),
        (
            ["problem.model={kind='mlp', hidden=[2], activation='relu'}"],
            "problem.model.hidden.0",
            2,
        ),
        (["ensemble={steps=600}"], "ensemble.steps", 600),
    ],
)
def test_overrides(settings: list[str], path: str, value: object) -> None:
    found: object = load_scenario("stagnation", settings).model_dump()
    for key in path.split("."):
        found = found[int(key)] if isinstance(found, tuple) else found[key]  # type: ignore[index]
    assert found == value


def test_an_override_replaces_claims() -> None:
    assert load_scenario("stagnation", ["claim=[]"]).claim == ()


def test_an_override_reaches_into_lists() -> None:
    scenario = stagnation("stagnation-mlp", "problem.model.hidden.0=7")
    assert scenario.problem.model == Mlp(kind="mlp", hidden=(7,), activation="tanh")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["dynamics.kind=gd"], Gd(kind="gd", learning_rate=0.5)),
        (["dynamics.kind=sgd"], Sgd(kind="sgd", learning_rate=0.5, batch_size=16)),
        (
            ["dynamics.kind=sde", "dynamics.substeps=4"],
            Sde(kind="sde", learning_rate=0.5, batch_size=16, substeps=4),
        ),
        (
            ["dynamics.noise={kind='isotropic', variance=0.1}"],
            GaussianSgd(
                kind="gaussian_sgd",
                learning_rate=0.5,
                batch_size=16,
                noise=IsotropicNoise(kind="isotropic", variance=0.1),
            ),
        ),
    ],
)
def test_a_new_kind_inherits_only_what_it_knows(settings: list[str], expected: object) -> None:
    settings = ["stagnation.radius=1.0", *settings]
    assert stagnation("stagnation", *settings).dynamics == expected


def test_a_file_may_change_the_kind_of_what_it_extends(write: Write) -> None:
    text = 'extends = "stagnation-mlp"\n[problem.model]\nkind = "softmax"\n[dynamics]\nkind = "gd"'
    text += "\n[stagnation]\nradius = 1.0"
    scenario = stagnation(write("mine.toml", text))
    assert scenario.problem.model == stagnation().problem.model
    assert scenario.dynamics == Gd(kind="gd", learning_rate=0.5)


@pytest.mark.parametrize(
    "settings",
    [
        ["dynamics.kind=gd", "dynamics.batch_size=3"],  # chosen on purpose, so it must fit
        ["dynamics.batch_size=3", "dynamics.kind=gd"],
        ["dynamics.batch_size=3", "dynamics.kind=gd", "dynamics.learning_rate=1"],
    ],
)
def test_what_is_set_together_with_a_kind_must_fit_it(settings: list[str]) -> None:
    with pytest.raises(ScenarioError, match=r"dynamics\.batch_size: unknown key"):
        load_scenario("stagnation", settings)


def test_an_inherited_spelling_mistake_is_not_dropped_with_the_kind(write: Write) -> None:
    write("parent.toml", 'extends = "stagnation"\n[dynamics]\nbatch_sizes = 3')
    child = write("child.toml", 'extends = "parent"\n[dynamics]\nkind = "gd"')
    with pytest.raises(ScenarioError, match=r"parent.toml line   3  dynamics\.batch_sizes"):
        load_scenario(child)


def test_a_byte_order_mark_and_windows_lines_are_accepted(write: Write) -> None:
    name = write("mine.toml", "\ufeffextends = 'stagnation'\r\nname = 'mine'\r\n")
    assert load_scenario(name).name == "mine"


class TestScenarioRoot:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Folder of an imitated installation, in which sgdsim believes to live."""
        package = tmp_path / "sgdsim"
        (package / "scenario").mkdir(parents=True)
        monkeypatch.setattr(_catalogue, "__file__", str(package / "scenario" / "_catalogue.py"))
        return package

    def test_wheel(self, package: Path) -> None:
        for folder in (package / "_builtin_scenarios", package.parent / "scenarios"):
            folder.mkdir()
        (package.parent / "pyproject.toml").touch()
        assert scenario_root() == package / "_builtin_scenarios"

    def test_checkout(self, package: Path) -> None:
        (package.parent / "scenarios").mkdir()
        (package.parent / "pyproject.toml").touch()
        assert scenario_root() == package.parent / "scenarios"

    @pytest.mark.parametrize("other", ["scenarios", "pyproject.toml"])
    def test_damaged(self, package: Path, other: str) -> None:
        (package.parent / other).mkdir()
        with pytest.raises(ScenarioError, match="Reinstall sgdsim"):
            scenario_root()


def test_this_repository_is_a_checkout() -> None:
    project = tomllib.loads((scenario_root().parent / "pyproject.toml").read_text())
    assert project["project"]["name"] == "sgdsim"
