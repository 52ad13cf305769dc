"""The Python of the README runs as printed."""

import re
from pathlib import Path

import jax
import pytest

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_first_screen_holds_exactly_two_commands():
    first_block = README.split("```sh\n")[1].split("```")[0]
    assert [line.split("#")[0].strip() for line in first_block.splitlines()] == [
        "make run",
        "make test",
    ]


@pytest.mark.parametrize("code", [b for b in BLOCKS if "open_run" not in b])
def test_examples_run(code: str, capsys: pytest.CaptureFixture[str]):
    with jax.numpy_rank_promotion("allow"):  # what a reader's session does
        exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out
