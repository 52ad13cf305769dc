"""The sections of the benchmark; each runs in a fresh process of its own."""

import dataclasses
import re
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from _common import Contender, Row, Times, interleave, paired
from _contenders import (
    Workload,
    bare_descent,
    build_engine,
    dense,
    engine,
    large_workload,
    small_workload,
    two_terms,
)

from sgdsim.ensemble import Layout, advance, use_host_devices

#: Targets of the two networks: engine / floor, dense / engine.
TARGETS = {"small": (1.15, 10.0), "large": (1.03, 200.0)}
_COLLECTIVE = re.compile(
    r" (?:all-reduce|all-gather|all-to-all|reduce-scatter|collective-[a-z]+)(?:-start)?\("
)
_COMPILATION = "/jax/core/compile/backend_compile_duration"


def measure_steps(name: str, rounds: int) -> list[Row]:
    """Cost of a step of one network: compilation of the engine, then all contenders in turn."""
    work = small_workload() if name == "small" else large_workload()
    print(f"\n{work.name}: {_describe(work)}")
    compiling = _measure_compilation(work)
    contenders = [make(work) for make in (bare_descent, engine, two_terms, dense)]
    times = interleave(contenders, rounds)
    _print_times(contenders, times)

    floor, ours, two, full = (times[contender.name].cpu for contender in contenders)
    floor_target, dense_target = TARGETS[name]
    return [
        _at_most(f"{name}: engine / bare GD", floor_target, paired(ours, floor)[0]),
        _at_least(f"{name}: two terms / engine", 1.5, paired(two, ours)[0]),
        _at_least(f"{name}: dense / engine", dense_target, paired(full, ours)[0]),
        compiling,
    ]


def measure_ensemble(rounds: int) -> list[Row]:
    """64 small networks: mapped over two host devices, against one vmapped program on one."""
    use_host_devices(2)
    if jax.device_count() < 2:
        raise SystemExit("This section needs two host devices, but JAX shows only one device.")
    work = small_workload(trajectories=64, steps=100)
    layouts = {
        "vmap, one device": Layout("vmap", 1),
        "map, one device": Layout("map", 1),
        "map, two devices": Layout("map", 2),
    }
    print(f"\nensemble: {_describe(work)}")
    contenders = [_advancing(name, work, layout) for name, layout in layouts.items()]
    times = interleave(contenders, rounds)
    _print_times(contenders, times, "wall")

    one, two = layouts["map, one device"], layouts["map, two devices"]
    # Wall time suffers from whatever else runs; the best rounds tell most about the program.
    gain = paired(times["vmap, one device"].wall, times["map, two devices"].wall)[1]
    equal = _outcome(work, one) == _outcome(work, two)
    collectives = len(_COLLECTIVE.findall(_compiled_text(work, two)))
    return [
        _at_least("two-device map / vmap, throughput", 1.6, gain),
        Row("one and two devices, bit for bit", "equal", "equal" if equal else "differ", equal),
        Row("collectives in the compiled step", "0", str(collectives), collectives == 0),
    ]


def _describe(work: Workload) -> str:
    n, shapes = work.problem.n, [weight.shape for weight in work.theta.weights]
    widths = "-".join(str(size) for size in [shapes[0][1], *(rows for rows, _ in shapes)])
    return f"{widths} network, n = {n}, B = {work.batch_size}, trajectories: {work.trajectories}"


def _measure_compilation(work: Workload) -> Row:
    """Count compilations of ``advance`` over changes of every number, and time the first."""
    compilations: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _COMPILATION:
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    layout = Layout("map", 1)
    other_batch = dataclasses.replace(work, batch_size=2 * work.batch_size)
    prepared = [
        build_engine(work, layout),
        build_engine(work, layout),
        build_engine(work, layout, eta=0.01),
        build_engine(other_batch, layout),
        build_engine(work, layout, radius=1.0),
        build_engine(work, layout, seed=1),
    ]
    start = jnp.asarray(0, jnp.int32)
    compilations.clear()
    spent: list[tuple[float, float]] = []
    for arguments in prepared:
        cpu, wall = time.process_time(), time.perf_counter()
        jax.block_until_ready(advance(*arguments, start))
        spent.append((time.process_time() - cpu, time.perf_counter() - wall))
    count = len(compilations)
    cpu, wall = (first - again for first, again in zip(*spent[:2], strict=True))
    print(f"  engine: trace and compile {cpu:.2f} s of CPU time ({wall:.2f} s wall)")
    measured = f"{count} in {cpu:.2f} s"
    return Row(f"{work.name}: compilations", "1 in at most 1 s", measured, count == 1 and cpu <= 1)


def _advancing(name: str, work: Workload, layout: Layout) -> Contender:
    ensemble, keys, state = build_engine(work, layout)
    start = jnp.asarray(0, jnp.int32)
    # One chunk first: within a run the state lies on the devices already.
    state, _ = advance(ensemble, keys, state, start)

    def call() -> object:
        return jax.block_until_ready(advance(ensemble, keys, state, start))

    return Contender(name, call, work.trajectories * work.steps)


def _outcome(work: Workload, layout: Layout) -> list[bytes]:
    outcome = advance(*build_engine(work, layout), jnp.asarray(0, jnp.int32))
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(outcome)]


def _compiled_text(work: Workload, layout: Layout) -> str:
    step: Any = advance  # its type does not tell that it is a filter_jit, which can be lowered
    lowered = step.lower(*build_engine(work, layout), jnp.asarray(0, jnp.int32))
    return lowered.compile().compiled.as_text()


def _print_times(
    contenders: list[Contender], times: dict[str, Times], clock: Literal["cpu", "wall"] = "cpu"
) -> None:
    """Print the best rounds, and the ratios by one of the clocks to the first contender."""
    head = ("us per step and trajectory", "cpu", "wall", f"{clock} ratio", "of best")
    print("  {:26}  {:>9}  {:>9}  {:>10}  {:>8}".format(*head))
    first = getattr(times[contenders[0].name], clock)
    for contender in contenders:
        own = times[contender.name]
        cpu, wall = 1e6 * min(own.cpu), 1e6 * min(own.wall)
        ratio, of_best = paired(getattr(own, clock), first)
        print(f"  {contender.name:26}  {cpu:9.2f}  {wall:9.2f}  {ratio:10.3f}  {of_best:8.3f}")


def _at_most(quantity: str, target: float, measured: float) -> Row:
    return Row(quantity, f"at most {target:g}", f"{measured:.3f}", measured <= target)


def _at_least(quantity: str, target: float, measured: float) -> Row:
    return Row(quantity, f"at least {target:g}", f"{measured:.2f}", measured >= target)
