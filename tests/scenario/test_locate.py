"""The locator: in every document below, each value is the number of its own line."""

import random
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from sgdsim.scenario._locate import locate_keys
from sgdsim.scenario._shape import Path

DOCUMENTS = {
    "tables": "a = 1\n\n[t]  # [not.a.table]\nb = 4\n  [t.u . v]\n  c=6\n[w]\nd = 8",
    "arrays of tables": "[[c]]\na = 2\n[[c]]\na = 4\n[c.in]\nb = 6\n"
    "[[c.in.d]]\ne = 8\n[[c.in.d]]\ne = 10\n",
    "dotted keys": "a.b.c = 1\na.b.d = 2\n[t]\nx . 'y.z' = 4\n",
    "quoted keys": '"a b" = 1\n\'c.d\' = 2\n["e]".f]\n"\\u0061\\"=" = 4\n"" = 5\n',
    "inline tables": "a = {b = 1, c.d = 1, e = {f = 1}}\ng = [{h = 2}, {h = 2}]\n",
    "lists": "a = [\n  2, # ]\n\n  [ 4,\n 5 ],\n  6,\n]\nb = 8\nc = []\nd = {}\ne = 11\n",
    "text": 'a = 1\nb = """\n[x]\ny = 3 \\"""\n"""""\nc = 6\n'
    "d = '''\nz = 1\n\"\"\"'''''\ne = 10\n"
    'f = \'c:\\\'\ng = 12\nh = "#\\"" # "\ni = 14\n',
    "dates": "a = 1\nb = 1979-05-27 07:32:00 # c = 2\n"
    "d = [1979-05-27 07:32:00, 1979-05-27]\ne = 4\n",
    "carriage returns": "a = 1\r\n\r\n[t]\r\nb = 4\r\nc = [\r\n6]\r\n",
    "nothing": "",
    "comments only": "# a = 1\n\n  # b",
}


def integers(value: Any, path: Path = ()) -> dict[Path, int]:
    if isinstance(value, dict):
        return {
            p: n for key, item in value.items() for p, n in integers(item, (*path, key)).items()
        }
    if isinstance(value, list):
        items = enumerate(value)
        return {p: n for key, item in items for p, n in integers(item, (*path, key)).items()}
    return {path: value} if type(value) is int else {}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_every_value_is_found_on_its_line(text: str) -> None:
    lines = locate_keys(text)
    for path, line in integers(tomllib.loads(text)).items():
        assert lines[path] == line, path


def test_tables_have_the_line_of_their_header_or_of_their_first_mention() -> None:
    lines = locate_keys("[a.b]\n[a]\n[[c]]\n[[c]]\n[c.d]\n[e]\nf.g = 1\nf.h = 1\nk = {l = 1}")
    assert lines == {
        ("a",): 2,
        ("a", "b"): 1,
        ("c",): 3,
        ("c", 0): 3,
        ("c", 1): 4,
        ("c", 1, "d"): 5,
        ("e",): 6,
        ("e", "f"): 7,
        ("e", "f", "g"): 7,
        ("e", "f", "h"): 8,
        ("e", "k"): 9,
        ("e", "k", "l"): 9,
    }


class Writer:
    """Writes random TOML in which every integer is the number of its line."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.text = ""
        self.names = 0

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def key(self) -> str:
        self.names += 1
        return self.random.choice(
            ["k{}", '"k {}"', "'k.{}'", '"[{}]"', "{}", "x.k{}", "y . 'k{}'"]
        ).format(self.names)

    def space(self, newline: bool) -> None:
        choices = ["", " ", "\t", *(["\n", ' # ] }} = "\n', "\n\n  "] if newline else [])]
        self.text += self.random.choice(choices)

    def value(self, depth: int = 0) -> None:
        kinds = ["integer", "integer", "string", "long", "raw", *["list", "inline"] * (depth < 3)]
        match self.random.choice(kinds):
            case "integer":
                self.text += str(self.line)
            case "string":
                self.text += self.random.choice(
                    ['"a # \\" ]"', "'b } \\'", "1.5", "true", "07:32:00"]
                )
            case "long":
                self.text += '"""\n[t]\n a = 1 \\" x' + self.random.choice(
                    ['"""', '""""', ' """""']
                )
            case "raw":
                self.text += "'''a\n]'b = 2\n" + self.random.choice(["'''", " ''''", "'''''"])
            case "list":
                self.text += "["
                for _ in range(self.random.randrange(4)):
                    self.space(newline=True)
                    self.value(depth + 1)
                    self.space(newline=True)
                    self.text += ","
                self.space(newline=True)
                self.text += "]"
            case _:
                self.text += "{"
                for index in range(self.random.randrange(4)):
                    self.text += ", " if index else " "
                    self.assignment(depth + 1)
                self.text += " }"

    def assignment(self, depth: int = 0) -> None:
        self.text += self.key()
        self.space(newline=False)
        self.text += "="
        self.space(newline=False)
        self.value(depth)

    def document(self) -> str:
        tables: list[str] = []
        for _ in range(self.random.randrange(1, 8)):
            for _ in range(self.random.randrange(4)):
                self.assignment()
                self.space(newline=False)
                self.text += self.random.choice(["\n", " # c = [\n", "\n\n"])
            self.names += 1
            if tables and self.random.random() < 0.4:
                self.text += f"[[{self.random.choice(tables)}]]\n"
            else:
                name = f"t{self.names}"
                tables.append(name)
                self.text += f"[[{name}]]\n"
            if self.random.random() < 0.5:
                self.text += f"[{tables[-1]}.'in {self.names}' . u]\n"
        return self.text


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_random_documents(seed: int) -> None:
    text = Writer(seed).document()
    lines = locate_keys(text)
    for path, line in integers(tomllib.loads(text)).items():
        assert lines[path] == line, path
