"""What a step of the engine costs, beside bare gradient descent and other ways to simulate it.

Contenders are compiled first and then timed in turn, round by round, each round in another
order. CPU time of the process is measured, so that a busy machine does little harm; a ratio is
the median over rounds of the ratio within a round. Throughput of an ensemble is a matter of wall
time: there the best rounds count, and the machine should be idle.

Every section runs in a process of its own: two host devices, a large matrix or an earlier
compilation leave traces in the process. Each ratio is taken within one process.
The exit status is 0 whether or not targets are met.
"""

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

from _common import Row, machine, print_table

QUICK_ROUNDS = 2


def steps(name: str, rounds: int) -> list[Row]:
    """Cost of a step, network ``small`` or ``large``."""
    from _sections import measure_steps

    return measure_steps(name, rounds)


def ensemble(rounds: int) -> list[Row]:
    """Ensemble of small networks over two host devices."""
    from _sections import measure_ensemble

    return measure_ensemble(rounds)


def in_fresh_process(section: Callable[..., list[Row]], *arguments: object) -> list[Row]:
    """Run a section in a new interpreter, in which JAX has not started."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(section, *arguments).result()


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, run the sections, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds (default 9)")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds: shows that all of it runs"
    )
    parser.add_argument(
        "--only",
        choices=("small", "large"),
        help="small: the small network and the ensemble of small networks; large: the large one",
    )
    options = parser.parse_args(arguments)
    rounds = QUICK_ROUNDS if options.quick else options.rounds
    if rounds < 1:
        parser.error(f"--rounds must be at least 1, got {rounds}.")

    print(machine(), flush=True)
    rows: list[Row] = []
    if options.only != "large":
        rows += in_fresh_process(steps, "small", rounds)
    if options.only != "small":
        rows += in_fresh_process(steps, "large", rounds)
    if options.only != "large":
        rows += in_fresh_process(ensemble, rounds)
    print()
    print_table(rows)


if __name__ == "__main__":
    main()
