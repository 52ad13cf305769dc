"""Tiny versions of the built-in scenarios, run as a user runs them."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

TINY = [
    "problem.data.training=120",
    "problem.data.reference=60",
    "ensemble.trajectories=6",
    "ensemble.steps=40",
    "ensemble.record_every=5",
    "ensemble.chunk_steps=10",
    "convexity.directions=4",
    "convexity.eigenvectors=2",
    "convexity.radii=3",
]
#: With one substep the SDE and SVAG are Gaussian SGD and SGD; so they are at the small rate.
SIDE_BY_SIDE = [
    "problem.data.training=60",
    "problem.data.reference=40",
    "problem.model.hidden=[4]",
    "ensemble.trajectories=5",
    "ensemble.steps=20",
    "ensemble.record_every=5",
    "ensemble.chunk_steps=10",
    "validity.trajectories=2",
    "validity.eigenvalues=3",
    "process.2.dynamics.l=1",
    "process.3.dynamics.substeps=1",
]
ESCAPING = [
    "ensemble.trajectories=64",
    "ensemble.steps=400",
    "ensemble.record_every=20",
    "ensemble.chunk_steps=200",
    "validity.eigenvalues=2",
]
#: Processes with and without memory on few rows; compiled in no time.
MEMORIES = """study = "dynamics"
name = "memories"
title = "A title [with brackets]"
[problem]
kind = "classification"
ridge = 0.01
[problem.data]
kind = "digits"
training = 40
reference = 20
split_seed = 0
[problem.model]
kind = "softmax"
[start]
kind = "random"
[ensemble]
trajectories = 3
steps = 8
record_every = 2
chunk_steps = 4
seed = 0
[validity]
trajectories = 2
eigenvalues = 2
[[process]]
name = "SGD [/plain]"
dynamics = { kind = "sgd", learning_rate = 0.1, batch_size = 8 }
[[process]]
name = "heavy ball"
dynamics = { kind = "heavy_ball", learning_rate = 0.05, batch_size = 8, momentum = 0.9 }
[[process]]
name = "Adam"
dynamics = { kind = "adam", learning_rate = 0.01, batch_size = 8 }
[[claim]]
quantity = "loss_difference"
processes = ["SGD [/plain]", "Adam"]
at_most = 1e6
text = "A claim [/with] brackets."
source = "s"
"""

#: The smallest problem there is; six points of it are a sweep.
WELLS = """study = "dynamics"
name = "wells"
title = "Does the loss depend on learning rate and noise?"
problem = {kind = "landscape", landscape = {kind = "double_well"}}
start = {kind = "point", theta = [-1.0]}
[ensemble]
trajectories = 3
steps = 20
record_every = 5
chunk_steps = 10
seed = 1
[[process]]
name = "sgd"
[process.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.05
noise = {kind = "isotropic", variance = 0.2}
[[claim]]
quantity = "sde_gauge"
processes = ["sgd"]
at_most = 0.15
text = "The step is small."
source = "test"
"""
SWEEP = """[sweep]
learning_rate = [0.01, 0.05, 0.2]
variance = [0.1, 0.4]
"""


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from sgdsim._cli import app; app()", *arguments]


def _tiny(name: str, out: Path, *settings: str) -> list[str]:
    return _run(name, out, *TINY, *settings)


def _run(name: str, out: Path, *settings: str) -> list[str]:
    chosen = [part for setting in settings for part in ("--set", setting)]
    return _command("run", name, "--out", str(out), *chosen)


@pytest.fixture(scope="session")
def command() -> Callable[..., list[str]]:
    """The command line of the installed package, in this Python."""
    return _command


@pytest.fixture(scope="session")
def tiny() -> Callable[..., list[str]]:
    """Command that runs the tiny version of a scenario into a folder."""
    return _tiny


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """A wide terminal without colours."""
    return os.environ | {"NO_COLOR": "1", "COLUMNS": "120"}


@pytest.fixture(scope="module")
def unoptimised(unoptimised: None, environment: dict[str, str]) -> Iterator[None]:
    """Compile quickly also in processes that are started from here.

    Runs of the main job from the command line are compiled as users compile them.
    """
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    yield
    del environment["JAX_DISABLE_MOST_OPTIMIZATIONS"]


@pytest.fixture(scope="session")
def undrawn() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Leave out the figures of runs in this process, where nobody looks at them."""

    @contextlib.contextmanager
    def without_figures() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sgdsim.runs._complete.save_figures", lambda tree, folder: [])
            yield

    return without_figures


@pytest.fixture(scope="module")
def lean(unoptimised: None, undrawn) -> Iterator[None]:
    """Neither optimised programs nor figures."""
    with undrawn():
        yield


@pytest.fixture(scope="session")
def finish(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess]:
    """Run a command to its end and capture what it prints."""

    def call(arguments: list[str], **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            arguments,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )

    return call


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, finish: Callable[..., subprocess.CompletedProcess]
) -> tuple[Path, subprocess.CompletedProcess]:
    """An uninterrupted tiny run of the main job."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, finish(_tiny("stagnation", out))


@pytest.fixture(scope="session")
def side_by_side(
    tmp_path_factory: pytest.TempPathFactory, finish: Callable[..., subprocess.CompletedProcess]
) -> tuple[Path, subprocess.CompletedProcess]:
    """A tiny run of dynamics-digits."""
    out = tmp_path_factory.mktemp("runs") / "side-by-side"
    return out, finish(_run("dynamics-digits", out, *SIDE_BY_SIDE))


@pytest.fixture(scope="session")
def escaping(
    tmp_path_factory: pytest.TempPathFactory, finish: Callable[..., subprocess.CompletedProcess]
) -> tuple[Path, subprocess.CompletedProcess]:
    """A tiny run of double-well."""
    out = tmp_path_factory.mktemp("runs") / "escaping"
    return out, finish(_run("double-well", out, *ESCAPING))


@pytest.fixture(scope="session")
def memories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario file of three processes, two of them with memory."""
    file = tmp_path_factory.mktemp("scenario") / "memories.toml"
    file.write_text(MEMORIES)
    return file


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a sweep of six points."""
    file = tmp_path_factory.mktemp("scenario") / "sweep.toml"
    file.write_text(WELLS + SWEEP)
    return file


@pytest.fixture(scope="module")
def swept(sweep: Path, tmp_path_factory: pytest.TempPathFactory, lean: None) -> Path:
    """The uninterrupted sweep, computed in this process."""
    import sgdsim

    folder = tmp_path_factory.mktemp("swept") / "run"
    sgdsim.run(sgdsim.load_scenario(sweep), folder, quiet=True)
    assert (sgdsim.open_run(folder).to_dataset()["status"] == 1).all()
    return folder


@pytest.fixture(scope="session")
def wells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario file of one process in a double well, without a sweep."""
    file = tmp_path_factory.mktemp("scenario") / "wells.toml"
    file.write_text(WELLS)
    return file
