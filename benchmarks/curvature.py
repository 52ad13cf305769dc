"""The curvature figures: what Hessian products, eigenvalues and probes cost, and how true they are.

* `product`: a Hessian product against a gradient, 64-256-256-10 network on the digits.
* `spectrum`: products for the ten largest eigenvalues and for a warm-started largest one.
* `residuals`: how often the stated residual is at least the true error, in 100 random cases.
* `probe`: a sharpness probe every ten steps of Gaussian SGD, against the steps, and its error.
* `cold`: gradient descent at the edge of stability, watched, from a new process on.
* `trace`: coverage and cost of the trace.

Ratios are of process-CPU time, contenders in turn, all in one process. The exit status is 0
whether or not targets are met.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from _common import Row, machine, print_table

QUICK_ROUNDS = 2


def product(rounds: int, quick: bool) -> list[Row]:
    """A Hessian product, whole and in chunks, against a gradient."""
    from _curvature_sections import measure_product

    return measure_product(rounds)


def spectrum(rounds: int, quick: bool) -> list[Row]:
    """Products that the stop rule takes, and the errors that are left."""
    from _curvature_sections import measure_spectrum

    return measure_spectrum()


def residuals(rounds: int, quick: bool) -> list[Row]:
    """Stated residuals against true errors."""
    from _curvature_sections import measure_residuals

    return measure_residuals(cases=10 if quick else 100)


def probe(rounds: int, quick: bool) -> list[Row]:
    """Cost and error of following the sharpness at three learning rates."""
    from _curvature_sections import measure_probe

    rates = (0.1,) if quick else (0.05, 0.1, 0.2)
    return [
        row for rate in rates for row in measure_probe(rate, rounds, probes=5 if quick else 100)
    ]


def cold(rounds: int, quick: bool) -> list[Row]:
    """CPU seconds of a new process; the best of a few, as the rest is what disturbed them."""
    script = Path(__file__).parent / "_curvature_cold.py"
    runs = []
    for _ in range(1 if quick else 3):
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
        runs.append([float(number) for number in done.stdout.split()])
    imported, ready, done_at, edge, products = min(runs, key=lambda numbers: numbers[2])
    print(
        f"cold: CPU seconds: {imported:.2f} imports, {ready - imported:.2f} compilation, "
        f"{done_at - ready:.2f} run; sharpness {edge:.3f} of 2/eta in the last quarter, "
        f"{products:.2f} products per probe"
    )
    name = "20,000 steps and 400 probes, new process"
    return [Row(name, "under 3 s of CPU", f"{done_at:.2f} s", done_at < 3)]


def trace(rounds: int, quick: bool) -> list[Row]:
    """Coverage of the stated interval and products for 5 per cent."""
    from _curvature_trace import trace_section

    return trace_section(10) if quick else trace_section()


SECTIONS = {
    function.__name__: function for function in (product, spectrum, residuals, probe, cold, trace)
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, run the sections, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds (default 9)")
    parser.add_argument("--quick", action="store_true", help="shows that all of it runs")
    parser.add_argument("--only", choices=tuple(SECTIONS), help="one section")
    options = parser.parse_args(arguments)
    rounds = QUICK_ROUNDS if options.quick else options.rounds
    if rounds < 1:
        parser.error(f"--rounds must be at least 1, got {rounds}.")
    print(machine(), flush=True)
    chosen = [SECTIONS[options.only]] if options.only else SECTIONS.values()
    rows = [row for section in chosen for row in section(rounds, options.quick)]
    print()
    print_table(rows)


if __name__ == "__main__":
    main()
