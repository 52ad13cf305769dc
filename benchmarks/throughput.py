"""Trajectory-steps per second of an ensemble, beside bare JAX loops, torch and torchsde.

The ensemble is what a run simulates: Gaussian SGD with minibatch noise, trajectories spread over
all host devices, chunk after chunk, a ball watched at every step, loss and distance recorded every
10 steps and read on the host. A step of it passes over all n rows, as a step of torch.func and of
torchsde does; a step of a minibatch loop passes over B rows. For like against like there is the
ensemble of plain SGD too.

A torch loop moves one trajectory, on one thread or all cores, what is faster; "per
trajectory-step" divides the ensemble's time by its trajectories. For one against one there is a
single trajectory of this library, and for many against many a torch loop over stacked networks.

All contenders are timed in turn, round by round, each round in another order; a ratio is the
median over rounds of the ratio within a round. Wall time is what throughput means and needs an
idle machine; CPU time of the process does not count what other programs take, but counts every
core. torch and torchsde are optional. The exit status is 0 whether or not targets are met.
"""

import argparse
import dataclasses
import os
from collections.abc import Callable, Sequence

from _common import Contender, Row, Times, interleave, machine, paired, print_table

ENSEMBLE = "sgdsim, ensemble"
SINGLE = "sgdsim, one trajectory"
SGD = "sgdsim, ensemble of plain SGD"


@dataclasses.dataclass(frozen=True)
class Amount:
    """What a call of each contender does.

    ``trajectories`` of the ensemble and of the stacked torch loop, ``steps`` of the JAX loops,
    ``minibatch_steps`` and ``dense_steps`` of the torch loops.
    """

    trajectories: int
    steps: int
    minibatch_steps: int
    dense_steps: int


AMOUNTS = {"small": Amount(64, 400, 300, 50), "large": Amount(16, 20, 50, 4)}
QUICK = {"small": Amount(4, 20, 2, 2), "large": Amount(2, 20, 2, 1)}
#: What is asked of the ensemble: times the trajectory-steps per second of a peer.
TARGETS = {"small": (5.0, 30.0, 80.0), "large": (None, 60.0, 400.0)}


def measure(name: str, rounds: int, amount: Amount) -> list[Row]:
    """Time all contenders on one network; rows compare the ensemble to the torch peers."""
    from _contenders import large_workload, small_workload
    from _peers import MINIBATCH, PER_SAMPLE, SDE, torch_contenders

    work = small_workload() if name == "small" else large_workload()
    work = dataclasses.replace(work, trajectories=amount.trajectories, steps=amount.steps)
    print(f"\n{name}: n = {work.problem.n}, B = {work.batch_size}, {amount}", flush=True)
    contenders = [
        *_jax_contenders(work),
        *torch_contenders(
            work, amount.minibatch_steps, amount.dense_steps, networks=amount.trajectories
        ),
    ]
    times = interleave(contenders, rounds)
    _print_times(times)
    return [
        _row(f"{name}: {peer}", target, times[peer], times[ENSEMBLE])
        for peer, target in zip((MINIBATCH, PER_SAMPLE, SDE), TARGETS[name], strict=True)
        if peer in times
    ]


def _jax_contenders(work) -> list[Contender]:
    import jax
    import jax.numpy as jnp
    from _contenders import LEARNING_RATE, build_engine

    from sgdsim.dynamics import minibatch_sgd
    from sgdsim.ensemble import Layout, Schedule, choose_layout, map_ensemble

    layout = choose_layout()
    steps, half = work.steps, work.steps // 2

    def ensemble(name: str, layout: Layout, trajectories: int, stepper=None) -> Contender:
        """Two chunks of the loop, records read as they come."""
        few = dataclasses.replace(work, trajectories=trajectories)
        built, keys, state = build_engine(few, layout)
        schedule = Schedule(steps, built.schedule.record_every, half)
        changes = {} if stepper is None else {"stepper": stepper}
        built = dataclasses.replace(built, schedule=schedule, **changes)
        state = built.start(work.theta, trajectories)

        def call() -> None:
            for chunk in built.run(keys, state):
                jax.device_get(chunk.records)

        return Contender(name, call, trajectories * steps)

    def bare(name: str, gradient: Callable) -> Contender:
        """Scan of ``theta - eta * gradient``, mapped as the ensemble is, nothing watched."""

        def simulate(theta, key, shared):
            problem, eta = shared

            def step(theta, number):
                slope = gradient(problem, theta, jax.random.fold_in(key, number))
                return jax.tree.map(lambda a, g: a - eta * g, theta, slope), None

            return jax.lax.scan(step, theta, jnp.arange(steps))[0]

        def run(thetas, keys, shared):
            return map_ensemble(layout, simulate, (thetas, keys), shared)

        count = layout.padded(work.trajectories)
        thetas = jax.tree.map(lambda a: jnp.stack([a] * count), work.theta)
        keys = jax.random.split(jax.random.key(0), count)
        arguments = layout.place((thetas, keys))
        shared = (work.problem, jnp.asarray(LEARNING_RATE))
        program = jax.jit(run)
        return Contender(
            name, lambda: jax.block_until_ready(program(*arguments, shared)), count * steps
        )

    def full_gradient(problem, theta, key):
        return jax.grad(problem.empirical_risk)(theta)

    def batch_gradient(problem, theta, key):
        rows = jax.random.randint(key, (work.batch_size,), 0, problem.n)
        batch = jax.tree.map(lambda a: a[rows], problem.data)
        return jax.grad(dataclasses.replace(problem, data=batch).empirical_risk)(theta)

    sgd = minibatch_sgd(jnp.asarray(LEARNING_RATE), work.batch_size)
    return [
        ensemble(ENSEMBLE, layout, work.trajectories),
        ensemble(SINGLE, Layout("map", 1), 1),
        ensemble(SGD, layout, work.trajectories, sgd),
        bare("bare JAX scan, full gradient", full_gradient),
        bare("bare JAX scan, minibatch", batch_gradient),
    ]


def _print_times(times: dict[str, Times]) -> None:
    """Print the best rounds, and how many times the time of the ensemble and of one trajectory."""
    head = ("us per trajectory-step", "wall", "cpu", "steps/s", "ensemble", "cpu", "one", "cpu")
    print("  {:39} {:>11} {:>11} {:>9} {:>9} {:>9} {:>9} {:>9}".format(*head))
    for name, own in times.items():
        ratios = [
            paired(getattr(own, clock), getattr(times[other], clock))[0]
            for other in (ENSEMBLE, SINGLE)
            for clock in ("wall", "cpu")
        ]
        wall, cpu = 1e6 * min(own.wall), 1e6 * min(own.cpu)
        cells = " ".join(f"{ratio:9.3g}" for ratio in ratios)
        print(f"  {name:39} {wall:11.2f} {cpu:11.2f} {1e6 / wall:9.3g} {cells}")


def _row(quantity: str, target: float | None, peer: Times, ours: Times) -> Row:
    wall, cpu = paired(peer.wall, ours.wall)[0], paired(peer.cpu, ours.cpu)[0]
    wanted = "none" if target is None else f"at least {target:g}"
    return Row(quantity, wanted, f"{wall:.3g} (cpu {cpu:.3g})", target is None or wall >= target)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds (default 7)")
    parser.add_argument("--quick", action="store_true", help="one tiny round: shows that it runs")
    parser.add_argument("--only", choices=tuple(AMOUNTS), help="one of the networks")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}.")

    from sgdsim.ensemble import use_host_devices

    use_host_devices("auto")
    print(machine())
    print(f"load average before: {os.getloadavg()[0]:.2f}", flush=True)
    rows: list[Row] = []
    for name in AMOUNTS:
        if options.only in (None, name):
            amount = (QUICK if options.quick else AMOUNTS)[name]
            rows += measure(name, 1 if options.quick else options.rounds, amount)
    print(f"\nload average after: {os.getloadavg()[0]:.2f}")
    if rows:
        print("\nTrajectory-steps per second of the ensemble, times those of\n")
        print_table(rows)


if __name__ == "__main__":
    main()
