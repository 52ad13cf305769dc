"""What a run shows while it works."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sgdsim.runs._output import RunPaths


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
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet,
        )

    def stage(self, text: str) -> None:
        """Say what goes on before or after the steps."""
        self.console.print(f"[dim]{text} ...[/dim]")

    @contextmanager
    def bar(self, name: str, done: float | int, total: int, unit: str) -> Iterator["Reporter"]:
        """Show a bar while steps or points are being done."""
        self._task = self._bar.add_task(name, total=total, unit=unit)
        self.reached(done)
        with self._bar:
            yield self

    def reached(self, done: float | int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=done)

    def say(self, text: str) -> None:
        """Print one sentence."""
        self.console.print(text, soft_wrap=True, highlight=False, markup=False)

    def files(self, paths: RunPaths) -> None:
        """Print where the files are."""
        self.say(f"dataset  {paths.store}\nfigures  {paths.figures}")
