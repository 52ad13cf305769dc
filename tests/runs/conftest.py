"""A tiny version of the main job, run as a user runs it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = [
    "problem.data.training=120",
    "problem.data.reference=60",
    "ensemble.trajectories=3",
    "ensemble.steps=40",
    "ensemble.record_every=5",
    "ensemble.chunk_steps=10",
    "convexity.directions=4",
    "convexity.eigenvectors=2",
    "convexity.radii=3",
]


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from sgdsim._cli import app; app()", *arguments]


def _tiny(name: str, out: Path, *settings: str) -> list[str]:
    chosen = [part for setting in (*TINY, *settings) for part in ("--set", setting)]
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


@pytest.fixture(scope="session")
def finish(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess]:
    """Run a command to its end and capture what it prints."""

    def call(arguments: list[str], **options) -> subprocess.CompletedProcess:
        return subprocess.run(
            arguments, env=environment, capture_output=True, text=True, timeout=300, **options
        )

    return call


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, finish: Callable[..., subprocess.CompletedProcess]
) -> tuple[Path, subprocess.CompletedProcess]:
    """An uninterrupted tiny run of the main job."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, finish(_tiny("stagnation", out))
