"""Every example in every docstring runs and prints what it says."""

import ast
import doctest
import pathlib

import pytest

pytestmark = pytest.mark.slow

SOURCE = pathlib.Path(__file__).resolve().parents[1] / "sgdsim"
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings() -> list[tuple[str, str]]:
    """Read all docstrings from the sources.

    Not from the imported modules: doctest skips decorated functions, and the type-checking hook
    of the tests decorates all of them.
    """
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        module = ".".join(file.relative_to(SOURCE.parent).with_suffix("").parts)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, DOCUMENTED):
                text = ast.get_docstring(node) or ""
                if ">>>" in text:
                    found.append((f"{module}:{getattr(node, 'name', '')}", text))
    return found


EXAMPLES = docstrings()


@pytest.mark.parametrize(("name", "text"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_example(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert result.attempted > 0
    assert result.failed == 0, "".join(report)
    assert not any(step.options.get(doctest.SKIP) for step in example.examples)


def test_no_example_is_missed():
    """As many prompts as the sources have, outside comments and strings that are no docstrings."""
    prompts = sum(
        line.strip().startswith(">>> ")
        for file in SOURCE.rglob("*.py")
        for line in file.read_text(encoding="utf-8").splitlines()
    )
    parser = doctest.DocTestParser()
    assert sum(len(parser.get_examples(text)) for _, text in EXAMPLES) == prompts > 40
