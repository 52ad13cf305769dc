"""Timing and printing shared by the benchmarks; importing it does not start JAX."""

import dataclasses
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Contender:
    """Something to be timed: ``call`` blocks until ``work`` units of work are done."""

    name: str
    call: Callable[[], object]
    work: int


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds per unit of work of one contender, one entry per round."""

    cpu: list[float]
    wall: list[float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the closing table."""

    quantity: str
    target: str
    measured: str
    met: bool


def interleave(contenders: Sequence[Contender], rounds: int) -> dict[str, Times]:
    """Time all contenders in turn, round by round, each round in another order.

    What disturbs the machine then disturbs neighbours in time alike, and ratios within a round
    stay fair. Process-CPU time does not count the time that other processes take.
    """
    times = {contender.name: Times([], []) for contender in contenders}
    for contender in contenders:
        contender.call()  # compiled already; this fills caches and pools
    for number in range(rounds):
        shift = number % len(contenders)
        for contender in [*contenders[shift:], *contenders[:shift]]:
            cpu, wall = time.process_time(), time.perf_counter()
            contender.call()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            times[contender.name].cpu.append(cpu / contender.work)
            times[contender.name].wall.append(wall / contender.work)
    return times


def paired(numerator: Sequence[float], denominator: Sequence[float]) -> tuple[float, float]:
    """Ratio of two contenders: median over rounds of the ratio, and ratio of the minima."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return statistics.median(ratios), min(numerator) / min(denominator)


def machine() -> str:
    """Describe processor and versions in two lines, without paths or dates."""
    packages = ("jax", "jaxlib", "diffrax", "lineax", "equinox", "numpy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores\nPython {platform.python_version()}, {versions}"


def print_table(rows: Sequence[Row]) -> None:
    """Print rows as a Markdown table."""
    head = Row("quantity", "target", "measured", True)
    widths = [
        max(len(getattr(row, name)) for row in [head, *rows])
        for name in ("quantity", "target", "measured")
    ]

    def line(*cells: str) -> str:
        padded = (cell.ljust(width) for cell, width in zip(cells, [*widths, 3], strict=True))
        return "| " + " | ".join(padded) + " |"

    print(line("quantity", "target", "measured", "met"))
    print("|" + "|".join("-" * (width + 2) for width in [*widths, 3]) + "|")
    for row in rows:
        print(line(row.quantity, row.target, row.measured, "yes" if row.met else "no"))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for text in file:
                if text.startswith("model name"):
                    return text.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
