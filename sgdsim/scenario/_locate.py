"""Lines of the keys of a TOML file, which ``tomllib`` does not tell."""

import bisect
import re
import tomllib

from sgdsim.scenario._shape import Path

_TRIVIA = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACES = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
# A multi-line string may end in up to two quotes of its own before the closing three.
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def locate_keys(text: str) -> dict[Path, int]:
    r"""Map the path of every table, key and list entry to its line, counted from 1.

    Parameters
    ----------
    text
        TOML that ``tomllib`` has accepted; the scan relies on it being valid.

    Examples
    --------
    >>> from sgdsim.scenario._locate import locate_keys
    >>> locate_keys('[a]\nb.c = 1\n[[d]]\ne = 2')[("d", 0, "e")]
    4
    """
    return _Scan(text.replace("\r\n", "\n")).lines


class _Scan:
    def __init__(self, text: str):
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self.newlines = [match.start() for match in re.finditer("\n", text)]
        self.last_entry: dict[Path, int] = {}  # of every array of tables
        table: Path = ()
        self.skip(_TRIVIA)
        while self.at < len(text):
            if self.next_is("["):
                table = self.header()
            else:
                self.assignment(table)
            self.skip(_TRIVIA)

    def next_is(self, token: str) -> bool:
        return self.text.startswith(token, self.at)

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        assert match is not None, f"not valid TOML at character {self.at}"
        self.at = match.end()
        return match.group()

    def note(self, path: Path, start: int, parents: int = 0) -> None:
        """Record where a path begins, and the tables that it opens on the way."""
        line = bisect.bisect_left(self.newlines, start) + 1
        for length in range(len(path) - parents, len(path)):
            self.lines.setdefault(path[:length], line)
        self.lines[path] = line

    def key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self.skip(_SPACES)
            part = self.skip(_KEY)
            parts.append(tomllib.loads(f"k = {part}")["k"] if part[0] in "\"'" else part)
            self.skip(_SPACES)
            if not self.next_is("."):
                return parts
            self.at += 1

    def header(self) -> Path:
        start = self.at
        is_entry = self.next_is("[[")
        self.at += 2 if is_entry else 1
        parts = self.key()
        self.at += 2 if is_entry else 1
        path: Path = ()
        for depth, part in enumerate(parts, 1):
            path += (part,)
            if is_entry and depth == len(parts):
                self.last_entry[path] = self.last_entry.get(path, -1) + 1
            if path in self.last_entry:  # keys below belong to the entry that was opened last
                self.lines.setdefault(path, bisect.bisect_left(self.newlines, start) + 1)
                path += (self.last_entry[path],)
        self.note(path, start, parents=len(path) - 1)
        return path

    def assignment(self, table: Path) -> None:
        start = self.at
        parts = self.key()
        self.at += 1  # the equals sign
        self.skip(_SPACES)
        path = (*table, *parts)
        self.note(path, start, parents=len(parts) - 1)
        self.value(path)

    def value(self, path: Path) -> None:
        if self.next_is("["):
            self.items(path, "]")
        elif self.next_is("{"):
            self.items(path, "}")
        else:
            self.skip(_STRING if self.text[self.at] in "\"'" else _SCALAR)

    def items(self, path: Path, closing: str) -> None:
        self.at += 1
        self.skip(_TRIVIA)
        index = 0
        while not self.next_is(closing):
            if closing == "]":
                self.note((*path, index), self.at)
                self.value((*path, index))
            else:
                self.assignment(path)
            index += 1
            self.skip(_TRIVIA)
            if self.next_is(","):
                self.at += 1
                self.skip(_TRIVIA)
        self.at += 1
