"""What a run shows while it works."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter:
    """Progress bar and messages on the terminal; silent if ``quiet``.

    Parameters
    ----------
    quiet
        Show nothing.
    """

    def __init__(self, quiet: bool = False):
        self.console = Console(stderr=True, quiet=quiet)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet,
        )

    def stage(self, text: str) -> None:
        """Say what goes on before or after the steps."""
        self.console.print(f"[dim]{text} ...[/dim]")

    @contextmanager
    def steps(self, name: str, done: int, total: int) -> Iterator["Reporter"]:
        """Show a bar while the steps run."""
        self._task = self._bar.add_task(name, completed=done, total=total)
        with self._bar:
            yield self

    def reached(self, step: int) -> None:
        """Move the bar to ``step``."""
        self._bar.update(self._task, completed=step)
