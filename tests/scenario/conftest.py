from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgdsim.scenario import load_scenario


@pytest.fixture
def tables() -> dict[str, Any]:
    """Plain values of a complete and correct scenario, for a test to change."""
    return load_scenario("stagnation").model_dump(mode="json")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Write a file into the current folder; returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
        return name

    return write
