"""The command line, as far as it simulates nothing."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sgdsim.scenario
from sgdsim import _doctor
from sgdsim._cli import app
from sgdsim._errors import SgdsimError, StoreError
from sgdsim.scenario import load_scenario, scenario_names

runner = CliRunner()
COMMANDS = ["list", "show", "schema", "doctor", "run", "resume"]


def call(*arguments: str, status: int = 0) -> str:
    """Run the command line in this process; returns the output, or the errors if it fails."""
    result = runner.invoke(app, list(arguments), prog_name="sgdsim")
    assert result.exit_code == status, result.output
    return result.stderr if status else result.stdout


def fresh(*arguments: str) -> tuple[int, list[str], str]:
    """Run it in a new process; returns the status, the packages imported, and the errors."""
    code = (
        "import sys\nfrom sgdsim._cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: status = end.code\n"
        "print('IMPORTED', status, *{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    _, status, *packages = done.stdout.splitlines()[-1].split()
    return int(status), packages, done.stderr


HEAVY = {"jax", "numpy", "xarray", "matplotlib", "pydantic", "scipy", "zarr", "sklearn"}


def test_version_and_its_imports() -> None:
    assert call("--version") == f"sgdsim {version('sgdsim')}\n"
    status, packages, _ = fresh("--version")
    assert status == 0
    assert not (HEAVY | {"rich"}) & set(packages)


def test_help_imports_nothing_heavy() -> None:
    status, packages, _ = fresh("--help")
    assert status == 0
    assert not HEAVY & set(packages)


def test_a_bad_scenario_is_refused_before_jax_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('extends = "stagnation"\n[ensemble]\nstepz = 3\n')
    status, packages, errors = fresh("run", str(file))
    assert status == 2
    assert "line   3  ensemble.stepz: unknown key. Did you mean 'steps'?" in errors
    assert "Traceback" not in errors
    assert "pydantic" in packages
    assert not {"jax", "xarray", "numpy"} & set(packages)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    assert command in call("--help")
    assert "--debug" in call(command, "--help")


def test_without_arguments_there_is_help() -> None:
    assert "Usage: sgdsim" in runner.invoke(app, [], prog_name="sgdsim").output


def test_list() -> None:
    lines = call("list").splitlines()
    assert [line.split()[0] for line in lines] == scenario_names()
    for line, name in zip(lines, scenario_names(), strict=True):
        assert load_scenario(name).title in line


def test_show_prints_a_scenario_file() -> None:
    text = call("show", "stagnation", "--set", "dynamics.kind=sgd", "--set", "title=a [b] c")
    expected = load_scenario("stagnation", ["dynamics.kind=sgd", "title=a [b] c"])
    assert type(expected).model_validate(tomllib.loads(text)) == expected
    assert "# Number of independent trajectories." in text


@pytest.mark.parametrize("name", scenario_names())
def test_what_show_prints_is_a_scenario_file_of_the_same_run(name: str, tmp_path: Path) -> None:
    file = tmp_path / "shown.toml"
    file.write_text(call("show", name))
    assert call("show", str(file), "--json") == call("show", name, "--json")


def test_show_prints_canonical_json() -> None:
    assert (
        call("show", "stagnation", "--json") == load_scenario("stagnation").canonical_json() + "\n"
    )


def test_schema() -> None:
    assert {"ensemble", "study"} <= set(json.loads(call("schema"))["properties"])


@pytest.mark.parametrize("command", ["show", "run"])
def test_mistakes_end_with_status_2(command: str, tmp_path: Path) -> None:
    assert call(command, "stagnatoin", status=2).startswith(
        "error: unknown scenario 'stagnatoin'. Did you mean 'stagnation'?"
    )
    file = tmp_path / "bad.toml"
    file.write_bytes(b"\xff")
    assert "is not UTF-8 text" in call(command, str(file), status=2)
    assert "ensemble.stepz: unknown key" in call(
        command, "stagnation", "--set", "ensemble.stepz=3", status=2
    )


def test_seed_is_a_setting_and_comes_last() -> None:
    errors = call("run", "stagnation", "--set", "ensemble.seed=3", "--seed", "-1", status=2)
    assert "--set  ensemble.seed: should be greater than or equal to 0 (got -1)." in errors


def test_typer_suggests_commands_and_refuses_unknown_options() -> None:
    assert "Did you mean" in call("shwo", status=2)
    assert "--sed" in call("run", "stagnation", "--sed", "1", status=2)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    def fail(error: BaseException) -> None:
        def list_scenarios() -> None:
            raise error

        monkeypatch.setattr(sgdsim.scenario, "list_scenarios", list_scenarios)

    return fail


class WithStatus(SgdsimError):
    exit_code = 7


@pytest.mark.parametrize(("error", "status"), [(StoreError, 1), (WithStatus, 7)])
def test_our_errors_are_one_message(
    fail: Callable[[BaseException], None], error: type[SgdsimError], status: int
) -> None:
    fail(error("The [disk] is full."))
    assert call("list", status=status) == "error: The [disk] is full.\n"
    with_traceback = call("list", "--debug", status=status)
    assert "Traceback (most recent call last)" in with_traceback
    assert with_traceback.endswith("error: The [disk] is full.\n")


def test_unexpected_errors_ask_for_debug(fail: Callable[[BaseException], None]) -> None:
    fail(ZeroDivisionError("division by zero"))
    errors = call("list", status=1)
    assert errors.startswith("error: unexpected ZeroDivisionError: division by zero\n")
    assert "--debug" in errors
    assert "Traceback" not in errors
    assert "Traceback" in call("list", "--debug", status=1)


def test_an_interruption_has_its_own_status(fail: Callable[[BaseException], None]) -> None:
    fail(KeyboardInterrupt())
    assert call("list", status=130) == "error: interrupted.\n"


def test_a_closed_pipe_is_no_error_to_report() -> None:
    command = "from sgdsim._cli import app; app(['schema'])"
    with subprocess.Popen(
        [sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_errors_are_red_in_a_terminal(
    fail: Callable[[BaseException], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(StoreError("full."))
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert runner.invoke(app, ["list"], color=True).stderr.startswith("\x1b[31merror: full.")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in runner.invoke(app, ["list"], color=True).stderr


def test_scenarios_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.toml").touch()
    monkeypatch.chdir(tmp_path)

    def completed(incomplete: str) -> str:
        monkeypatch.setenv("_SGDSIM_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", f"sgdsim show {incomplete}")
        monkeypatch.setenv("COMP_CWORD", "2")
        return runner.invoke(app, [], prog_name="sgdsim").stdout

    assert completed("").split() == [*scenario_names(), "mine.toml"]
    assert completed("stag").split() == ["stagnation", "stagnation-mlp"]
    assert completed("d").split() == ["double-well", "dynamics-digits"]
    assert completed("mi").split() == ["mine.toml"]
    assert completed("sub/").split() == ["sub/other.toml"]


class TestDoctor:
    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("COLUMNS", "200")

    def test_a_sound_installation(self) -> None:
        text = call("doctor")
        for found in ("Python", "jax ", "JAX canary", "stagnation-mlp", str(Path.cwd())):
            assert found in text
        assert "failed" not in text
        assert not list(Path.cwd().iterdir())

    def test_a_failed_check_gives_status_1_and_the_others_run(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = _doctor.Canary("float32", 40_000, "sum(H @ w)", "cpu:0", 9.5, 1e-5, 7_231)
        monkeypatch.setattr(_doctor, "run_canary", lambda: [wrong])
        monkeypatch.setattr(_doctor, "REQUIRED", ("numpy", "no-such-package"))
        by_name = {check.name: check for check in _doctor.diagnose(Path("nowhere"))}
        assert {name for name, check in by_name.items() if check.status == "failed"} == {
            "packages",
            "JAX canary",
            "current folder",
        }
        assert "not installed: no-such-package" in by_name["packages"].detail
        assert "sum(H @ w) in float32 on cpu:0 (7231 of 40000" in by_name["JAX canary"].detail
        assert "pip install" in by_name["JAX canary"].detail
        assert "No such file" in by_name["current folder"].detail
        result = runner.invoke(app, ["doctor"])
        assert result.exit_code == 1
        assert "failed" in result.stdout
        assert result.stderr == ""

    def test_a_check_that_raises_has_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def crash() -> None:
            raise OSError("no driver")

        monkeypatch.setattr(_doctor, "run_canary", crash)
        by_name = {check.name: check for check in _doctor.diagnose(Path.cwd())}
        assert by_name["JAX canary"] == _doctor.Check("JAX canary", "failed", "OSError: no driver")

    def test_all_dependencies_are_looked_at(self) -> None:
        project = tomllib.loads(
            (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
        )["project"]
        names = {
            line.partition(";")[0].partition("<")[0].partition(">")[0].strip()
            for line in project["dependencies"]
        }
        assert names | {"jaxlib"} == set(_doctor.REQUIRED)
