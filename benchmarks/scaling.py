"""How ensembles scale: with devices, in memory with the number of steps, in programs with a sweep.

* `devices`: the same ensemble on 1, 2 and 4 simulated host devices. XLA fixes their number when it
  starts, so every line is a process of its own; the processes stay alive and are timed in turn.
  One device on one core is what two devices are judged by: one device that may use all cores gives
  large matrix products to all of them by itself. Results must be equal bit for bit. The last bits
  of large products depend on the size of XLA's thread pool, otherwise the larger of the number of
  cores and of devices, so that it is given one size (environment variable NPROC).
* `programs`: a sweep over 10 and over 100 learning rates, figures included, in fresh processes; all
  compilations are counted, and among them those of the loop over the steps.
* `memory`: an ensemble of 10,000 trajectories for more and more steps, in fresh processes; peak
  resident set of the process and XLA's own account of the compiled chunk. Linux only.

Wall time counts, the best round of each, so the machine should be idle; the ratio of CPU times says
what two free cores would give. The exit status is 0 whether or not targets are met.
"""

import argparse
import dataclasses
import hashlib
import logging
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from _common import Row, machine, print_table

DEVICES = (1, 2, 4)
LENGTHS = (100, 1_000, 10_000)
FEWEST_SPEEDUP = 1.7
MOST_GROWTH = 1.1  # records that were kept would make it 1.2
_RECORDS_PER_CHUNK = 10
_CHUNK_STEPS = 100
_SWEEP = """study = "dynamics"
name = "rates"
title = "Learning rates"
[problem]
kind = "classification"
ridge = 0.001
[problem.data]
kind = "digits"
training = 100
reference = 50
split_seed = 0
[problem.model]
kind = "mlp"
hidden = [8]
activation = "tanh"
[start]
kind = "random"
[ensemble]
trajectories = 4
steps = 40
record_every = 10
chunk_steps = 20
seed = 0
[[process]]
name = "Gaussian SGD"
dynamics = {{ kind = "gaussian_sgd", learning_rate = 0.1, batch_size = 16 }}
[sweep]
learning_rate = {{ log = [0.01, 1.0], points = {points} }}
"""
_running: dict["Setting", tuple[Any, int]] = {}  # what a worker process times, and its work


@dataclasses.dataclass(frozen=True)
class Setting:
    """One line of the table: simulated devices, and the cores they may use."""

    devices: int
    cores: int

    @property
    def name(self) -> str:
        """Words for the table."""
        devices = "1 device" if self.devices == 1 else f"{self.devices} devices"
        return f"{devices}, {self.cores} core{'s' if self.cores > 1 else ''}"


def devices(quick: bool, rounds: int) -> list[Row]:
    """Strong scaling of both networks over simulated host devices."""
    cores = len(os.sched_getaffinity(0))
    settings = [Setting(1, 1), *(Setting(count, cores) for count in DEVICES)]
    rows = []
    for network in ("small",) if quick else ("small", "large"):
        rows += _strong_scaling(network, settings, rounds, quick)
    return rows


def _strong_scaling(
    network: str, settings: Sequence[Setting], rounds: int, quick: bool
) -> list[Row]:
    with ExitStack() as stack:
        workers = {setting: stack.enter_context(fresh_process()) for setting in settings}
        digests = {}
        for setting, worker in workers.items():
            worker.submit(start_worker, setting, network, quick).result()
            digests[setting] = worker.submit(run_chunk, setting).result()[2]
        walls: dict[Setting, list[float]] = {setting: [] for setting in settings}
        cpus: dict[Setting, list[float]] = {setting: [] for setting in settings}
        for number in range(rounds):
            shift = number % len(settings)
            for setting in [*settings[shift:], *settings[:shift]]:
                wall, cpu, _ = workers[setting].submit(run_chunk, setting).result()
                walls[setting].append(wall)
                cpus[setting].append(cpu)
    wall, cpu = ({key: min(own) for key, own in times.items()} for times in (walls, cpus))
    first = settings[0]
    print(f"\n{network}: us per trajectory-step in the best of {rounds} rounds")
    print("  {:20} {:>9} {:>9} {:>9} {:>18}".format("", "wall", "cpu", "speed-up", "sha256"))
    for setting in settings:
        print(
            f"  {setting.name:20} {1e6 * wall[setting]:9.2f} {1e6 * cpu[setting]:9.2f} "
            f"{wall[first] / wall[setting]:9.2f} {digests[setting][:16]:>18}"
        )
    two = next(setting for setting in settings if setting.devices == 2)
    speedup = wall[first] / wall[two]
    # What two cores of their own would give; other programs do not lengthen CPU time.
    free = 2 * cpu[first] / cpu[two]
    target, name = f"at least {FEWEST_SPEEDUP:g}", f"{network}: two devices / one device, one core"
    equal = len(set(digests.values())) == 1
    same = f"{network}: {', '.join(map(str, DEVICES))} devices, bit for bit"
    return [
        Row(name, target, f"{speedup:.2f} (cpu {free:.2f})", speedup >= FEWEST_SPEEDUP),
        Row(same, "equal", "equal" if equal else "differ", equal),
    ]


def start_worker(setting: Setting, network: str, quick: bool) -> None:
    """Start JAX with the devices of a setting and compile the ensemble; runs in the worker."""
    os.environ.setdefault("NPROC", str(max(DEVICES)))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: setting.cores])
    from sgdsim.ensemble import Layout, use_host_devices

    use_host_devices(setting.devices)
    from _contenders import build_engine, large_workload, small_workload

    small = network == "small"
    trajectories, steps = (4, 10) if quick else (64, 200) if small else (8, 20)
    work = small_workload() if small else large_workload()
    work = dataclasses.replace(work, trajectories=trajectories, steps=steps)
    built = build_engine(work, Layout("map", setting.devices))
    _running[setting] = (built, trajectories * steps)


def run_chunk(setting: Setting) -> tuple[float, float, str]:
    """Seconds of wall and CPU time per trajectory-step of one chunk, and a digest of its result."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from sgdsim.ensemble import advance

    (ensemble, keys, state), work = _running[setting]
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = jax.block_until_ready(advance(ensemble, keys, state, jnp.asarray(0, jnp.int32)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(outcome):
        digest.update(np.asarray(leaf).tobytes())
    return wall / work, cpu / work, digest.hexdigest()


def memory(quick: bool, rounds: int) -> list[Row]:
    """Peak memory of a large ensemble for more and more steps; ``rounds`` does not matter."""
    trajectories = 200 if quick else 10_000
    lengths = LENGTHS[:2] if quick else LENGTHS
    print(f"\n{trajectories:,} trajectories in 10 dimensions, MB")
    print(f"  {'steps':>7} {'peak':>8} {'before':>8} {'XLA temporary':>14} {'arguments':>10}")
    peaks = []
    for steps in lengths:
        with fresh_process() as worker:
            before, peak, temporary, arguments = worker.submit(
                peak_memory, trajectories, steps
            ).result()
        peaks.append(peak)
        print(f"  {steps:7,} {peak:8.1f} {before:8.1f} {temporary:14.2f} {arguments:10.2f}")
    growth = peaks[-1] / peaks[0]
    return [
        Row(
            f"peak memory, {lengths[-1]:,} / {lengths[0]:,} steps",
            f"at most {MOST_GROWTH:g}",
            f"{growth:.3f}",
            growth <= MOST_GROWTH,
        )
    ]


def peak_memory(trajectories: int, steps: int) -> tuple[float, float, float, float]:
    """MB of an ensemble: process before it, at its peak, temporaries and arguments of a chunk."""
    from sgdsim.ensemble import use_host_devices

    use_host_devices("auto")
    import jax
    import jax.numpy as jnp

    import sgdsim
    from sgdsim.ensemble import advance
    from sgdsim.problems import Quadratic

    origin = jnp.zeros(10, jnp.float32)
    ensemble = sgdsim.Ensemble(
        problem=Quadratic([1.0] * 10).problem().astype(jnp.float32),
        stepper=sgdsim.gaussian_sgd(jnp.asarray(0.05), sgdsim.IsotropicNoise(jnp.asarray(0.04))),
        region=sgdsim.Ball(centre=origin, radius=jnp.asarray(0.2)),
        observer=sgdsim.no_observables,
        schedule=sgdsim.Schedule(steps, _CHUNK_STEPS // _RECORDS_PER_CHUNK, _CHUNK_STEPS),
        layout=sgdsim.choose_layout("vmap"),
    )
    before = _resident_peak()
    keys, state = ensemble.keys(0, trajectories), ensemble.start(origin, trajectories)
    step: Any = advance  # its type does not tell that it is a filter_jit, which can be lowered
    compiled = step.lower(ensemble, keys, state, jnp.asarray(0, jnp.int32)).compile().compiled
    analysis = compiled.memory_analysis()
    for chunk in ensemble.run(keys, state):
        jax.device_get(chunk.records)  # as a run does before it writes them
    return (
        before,
        _resident_peak(),
        analysis.temp_size_in_bytes / 1e6,
        analysis.argument_size_in_bytes / 1e6,
    )


def _resident_peak() -> float:
    """Peak resident set in MB; unlike that of getrusage it does not count the parent process."""
    with open("/proc/self/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("The peak of the resident set is not in /proc/self/status.")


def programs(quick: bool, rounds: int) -> list[Row]:
    """Compiled programs of a learning-rate sweep; ``rounds`` does not matter."""
    counts = (2, 4) if quick else (10, 100)
    print("\ncompiled programs of a learning-rate sweep")
    print(f"  {'points':>7} {'of the loop':>12} {'in all':>7} {'seconds':>8}")
    found = []
    for points in counts:
        with fresh_process() as worker:
            loop, every, seconds = worker.submit(compiled_programs, points).result()
        found.append((loop, every))
        print(f"  {points:7,} {loop:12,} {every:7,} {seconds:8.1f}")
    (_, few), (loop, many) = found
    name = f"{counts[-1]:,} learning rates"
    return [
        Row(f"{name}: programs of the loop", "1", f"{loop}", loop == 1),
        Row(f"{name}: programs more than for {counts[0]}", "0", f"{many - few}", many == few),
    ]


def compiled_programs(points: int) -> tuple[int, int, float]:
    """Run a sweep; count its programs of the loop and all of them, and give its seconds."""
    import jax

    import sgdsim

    names: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found = re.match(r"Finished XLA compilation of (\S+)", record.getMessage())
            names.extend(found.groups() if found else ())

    logger = logging.getLogger("jax")  # what its modules log comes by here
    logger.handlers, logger.propagate = [Listener()], False
    began = time.monotonic()
    with jax.log_compiles(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rates.toml")
        file.write_text(_SWEEP.format(points=points))
        sgdsim.run(sgdsim.load_scenario(str(file)), Path(folder, "run"), quiet=True)
    loop = [name for name in names if "advance" in name]
    return len(loop), len(names), time.monotonic() - began


def fresh_process() -> Executor:
    """Make one new interpreter, in which JAX has not started."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


SECTIONS = {"devices": devices, "programs": programs, "memory": memory}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, run the sections, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds (default 7)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument("--only", choices=tuple(SECTIONS), help="one of the sections")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {options.rounds}.")

    print(machine())
    print(f"load average before: {os.getloadavg()[0]:.2f}", flush=True)
    rows: list[Row] = []
    for name, section in SECTIONS.items():
        if options.only in (None, name):
            rows += section(options.quick, 1 if options.quick else options.rounds)
    print(f"\nload average after: {os.getloadavg()[0]:.2f}\n")
    print_table(rows)


if __name__ == "__main__":
    main()
