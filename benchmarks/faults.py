"""What a sweep survives: kills at random moments, lost workers, full and read-only disks, damage.

* `kills`: a sweep is started on two Dask workers, and the whole process group (client, scheduler,
  workers) is killed by SIGKILL at a random moment, uniform over the duration of an uninterrupted
  run. `sgdsim resume` goes on and is killed likewise, until so many kills have been delivered, over
  as many sweeps as that takes. After each kill `sgdsim status` must answer, `sgdsim.store.validate`
  must find nothing, and no point that was done may be undone. Each finished sweep must equal the
  uninterrupted serial one bit for bit: every variable, coordinate and attribute, times and the
  division into batches aside. A row is a point of the sweep; it is lost if it is not done in the
  end, or lacks a value.
* `worker`: one of the workers is killed while both work; the sweep goes on by itself.
* `full`: the disk fills up, then gets room again. `readonly`: the disk cannot be written.
* `damage`: a byte is changed in each of many chunk files; `sgdsim validate` names array and point.
* `second`: another run on the folder of a living one, and after its client alone was killed.

Disks are small tmpfs where mounting is permitted. Where it is not, no file may grow any more
(RLIMIT_FSIZE) instead of a full disk, and folders lose their permission to be written; `readonly`
is left out if that holds nobody back. Linux only. The exit status is 1 if anything was lost.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from _common import Row, machine, print_table
from _datasets import Comparison, compare, done, phase, started, states
from _victims import Session, kilobytes, remount, small_disk, wait_for
from numcodecs.zstd import Zstd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sgdsim.store import open_run, validate

CLUSTER = "local:2"
SCENARIO = """study = "dynamics"
name = "faults"
title = "Escapes from a double well, over time and temperature"
[problem]
kind = "landscape"
landscape = {{ kind = "double_well", height = 1.0 }}
[start]
kind = "point"
theta = [-1.0]
[escape]
coordinate = 0
level = 1.0
[ensemble]
trajectories = 16
steps = 1000
record_every = 10
chunk_steps = 50
seed = 0
[compute]
precision = "float64"
[validity]
trajectories = 2
eigenvalues = 1
[[process]]
name = "GD"
[process.dynamics]
kind = "gaussian_sgd"
learning_rate = 0.02
noise = {{ kind = "langevin", inverse_temperature = 10.0 }}
[[claim]]
quantity = "escape_time_over_exact"
processes = ["GD"]
at_least = 0.5
at_most = 2.0
text = "Escapes take about as long as the SDE says."
source = "mean first passage time in one dimension"
[sweep]
steps = {steps}
"process.GD.dynamics.noise.inverse_temperature" = {temperatures}
"""


@dataclasses.dataclass
class Bench:
    """Scenario and uninterrupted dataset that all faults share."""

    folder: Path
    quick: bool
    kills: int
    random: random.Random
    reference: xr.DataTree = dataclasses.field(default_factory=xr.DataTree)

    @property
    def scenario(self) -> Path:
        """Scenario file."""
        return self.folder / "faults.toml"

    @property
    def whole(self) -> Path:
        """Folder of the uninterrupted serial run."""
        return self.folder / "whole"

    @property
    def points(self) -> int:
        """Points of the sweep."""
        return self.reference["status"].size

    def prepare(self) -> None:
        """Run the sweep once without interruption in one process."""
        # Points of different length, so that they are done one after the other.
        steps, temperatures = [500, 1000], [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        if self.quick:
            steps, temperatures = [100, 150], temperatures[:2]
        self.scenario.write_text(SCENARIO.format(steps=steps, temperatures=temperatures))
        self.run(self.whole, None).succeed()
        self.reference = open_run(self.whole).load()

    def ask(self, *arguments: str) -> Session:
        """Start a command without a cluster."""
        return Session(self.folder, arguments)

    def run(self, out: Path, cluster: str | None = CLUSTER) -> Session:
        """Start the sweep."""
        return Session(self.folder, ["run", str(self.scenario), "--out", str(out)], cluster)

    def go_on(self, out: Path) -> Session:
        """Resume the sweep, or start it if there is no dataset yet."""
        if states(out) is None:
            return self.run(out)
        return Session(self.folder, ["resume", str(out)], CLUSTER)

    def equal(self, out: Path, name: str) -> Row:
        """Compare a finished sweep with the uninterrupted one."""
        found = compare(self.reference, out)
        text = f"{found.lost} rows lost, {found.differing} values differ"
        return Row(name, "0 rows lost, 0 values differ", text, found.equal)


def kills(bench: Bench) -> list[Row]:
    """Kill sweeps at random moments until so many kills have been delivered."""
    began, whole = time.monotonic(), bench.folder / "whole-cluster"
    bench.run(whole).succeed()
    duration = time.monotonic() - began
    print(f"{duration:.0f} s without interruption on {CLUSTER}", flush=True)
    rows = [bench.equal(whole, f"{CLUSTER} beside one process")]
    phases: collections.Counter[str] = collections.Counter()
    undone = damaged = mute = sweeps = 0
    total = Comparison(0, 0, 0)
    columns = TextColumn("kills"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=bench.kills)
        while phases.total() < bench.kills:
            out, before = bench.folder / f"killed-{sweeps}", 0
            while not (out / "run.zarr").exists():
                session = bench.go_on(out)
                moment = bench.random.uniform(0, duration)
                if phases.total() == bench.kills or session.ends_within(moment):
                    session.succeed()
                    break
                session.kill()
                phases[phase(out)] += 1
                bar.advance(task)
                undone += max(0, before - (before := done(out)))
                if states(out) is not None:
                    damaged += bool(validate(out))
                    mute += bench.ask("status", str(out)).end() != 0
            found = compare(bench.reference, out)
            total = Comparison(
                total.points + found.points,
                total.lost + found.lost,
                total.differing + found.differing,
            )
            sweeps += 1
            shutil.rmtree(out)
    print(f"\nwhere {phases.total()} kills fell:")
    for name, count in sorted(phases.items()):
        print(f"  {name:34} {count:3}")
    print(f"{sweeps} sweeps completed, {total.points:,} points compared")
    counts = {
        "points done that a kill undid": undone,
        "damaged datasets after a kill": damaged,
        "datasets without status after a kill": mute,
        f"rows lost of {total.points:,} after {phases.total()} kills": total.lost,
        "values that differ": total.differing,
    }
    return rows + [Row(name, "0", f"{count}", count == 0) for name, count in counts.items()]


def worker(bench: Bench) -> list[Row]:
    """Kill one worker of two while both work."""
    out = bench.folder / "worker"
    session = bench.run(out)
    # As many as two batches hold; the folders stay when a point is done.
    wait_for(lambda: len(list(out.glob("state/*"))) >= bench.points // 2, session)
    before = done(out)
    bench.random.choice(session.workers).kill()
    session.succeed()
    return [bench.equal(out, f"one of two workers killed, {before} of {bench.points} points done")]


def full(bench: Bench) -> list[Row]:
    """Run on a disk that has room for half of the dataset, then make room."""
    place, room = bench.folder / "full", kilobytes(bench.whole)
    with small_disk(place, room // 2) as mounted:
        out = place / "run"
        session = bench.run(out)
        if not mounted:
            wait_for(lambda: started(out), session)
            for process in (session.process.pid, *(each.pid for each in session.workers)):
                resource.prlimit(process, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        said, before = session.refused("cannot "), done(out)
        if mounted:
            remount(place, f"size={4 * room}k")
        elif states(out) is None:
            raise SystemExit(f"nothing was written: {session.printed}")
        bench.go_on(out).succeed()
        how = "tmpfs" if mounted else "RLIMIT_FSIZE"
        name = f"disk full ({how}), {before} of {bench.points} points done"
        told = "status 1, one sentence"
        return [
            Row(name, told, told if said else "otherwise, see above", said),
            bench.equal(out, "disk full, room made, resumed"),
        ]


def readonly(bench: Bench) -> list[Row]:
    """Start and resume where nothing can be written, then where it can again."""
    place = bench.folder / "readonly"
    with small_disk(place, 4 * kilobytes(bench.whole)) as mounted:
        out = place / "run"
        session = bench.run(out)
        wait_for(lambda: started(out), session)
        session.kill()
        _permit(place, mounted, False)
        try:
            if os.access(place, os.W_OK):
                print("readonly: left out, permissions hold nobody back and nothing may be mounted")
                return []
            right = bench.run(place / "other", None).refused("cannot ")
            right += bench.ask("resume", str(out)).refused("cannot ")
            readable = bench.ask("status", str(out)).end() == 0 and not validate(out)
        finally:
            _permit(place, mounted, True)
        bench.go_on(out).succeed()
        how = "tmpfs" if mounted else "permissions"
        return [
            Row(f"read-only ({how}): run, resume", "2 refused", f"{right} refused", right == 2),
            Row("read-only: status, validate", "work", "work" if readable else "fail", readable),
            bench.equal(out, "read-only, then writable, resumed"),
        ]


def _permit(place: Path, mounted: bool, writing: bool) -> None:
    if mounted:
        remount(place, "rw" if writing else "ro")
        return
    for file in [place, *place.rglob("*")]:
        mode = file.stat().st_mode
        file.chmod(mode | 0o200 if writing else mode & ~0o222)


def damage(bench: Bench) -> list[Row]:
    """Change one byte in each of many chunk files."""
    out = bench.folder / "damaged"
    store = shutil.copytree(bench.whole, out) / "run.zarr"
    chunks = [file for file in sorted(store.rglob("c/**/*")) if file.is_file()]
    chosen = bench.random.sample(chunks, min(len(chunks), 100))
    for file in chosen:
        file.write_bytes(_damaged(file.read_bytes(), bench.random))
    session = bench.ask("validate", str(out))
    status = session.end()
    unseen = [
        said for file in chosen if (said := _sentence(bench, file, store)) not in session.printed
    ]
    for said in unseen:
        print(f"  not found: {said}")
    found = len(chosen) - len(unseen)
    name = f"chunk files with a changed byte, of {len(chunks):,}"
    return [Row(name, f"{len(chosen)} found", f"{found} found", status == 1 and not unseen)]


def _damaged(content: bytes, random: random.Random) -> bytes:
    """Change one byte; some bits of a Zstandard frame mean nothing, they do not count."""
    while True:
        changed = bytearray(content)
        changed[random.randrange(len(changed))] ^= random.randrange(1, 256)
        with contextlib.suppress(RuntimeError):  # cannot be decoded at all
            if Zstd().decode(bytes(changed)) == Zstd().decode(content):
                continue
        return bytes(changed)


def _sentence(bench: Bench, file: Path, store: Path) -> str:
    """What is to be said of a damaged chunk: its array, and its point if it is of one."""
    name, _, place = file.relative_to(store).as_posix().partition("/c/")
    shape = bench.reference["status"].shape
    indices = tuple(map(int, place.split("/")))[: len(shape)]
    shared = len(indices) < len(shape)
    where = "" if shared else f" of point {np.ravel_multi_index(indices, shape)}"
    return f"{name}: values{where} unreadable"


def second(bench: Bench) -> list[Row]:
    """Start and resume in the folder of a living run, and when its client alone was killed."""
    out = bench.folder / "second"
    session = bench.run(out)
    wait_for(lambda: started(out), session)
    again = ("run", str(bench.scenario), "--out", str(out))
    with session.halted():  # or it would be at its end before the others have said anything
        right = bench.ask(*again, "--overwrite").refused("is in use by the run")
        right += bench.ask(*again).refused(str(out))
        right += bench.ask("resume", str(out)).refused("is in use by the run")
    living = session.process.poll() is None
    # Not the group: workers outlive the client for a moment, and may still write.
    session.process.kill()
    session.process.wait()
    bench.go_on(out).succeed()
    fits = right == 3 and living
    return [
        Row("second run, --overwrite, resume", "3 refused", f"{right} refused", fits),
        bench.equal(out, "client killed, resumed at once"),
    ]


FAULTS = {
    "kills": kills,
    "worker": worker,
    "full": full,
    "readonly": readonly,
    "damage": damage,
    "second": second,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, cause the faults, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="kills (default 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--quick", action="store_true", help="4 points: shows that it runs")
    parser.add_argument("--only", choices=tuple(FAULTS), nargs="+", help="some of the faults")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        parser.error(f"--kills must be at least 1, got {options.kills}.")
    print(machine())
    print(f"load average before: {os.getloadavg()[0]:.2f}", flush=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), options.quick, options.kills, random.Random(options.seed))
        bench.prepare()
        print(f"{bench.points} points", flush=True)
        for name, fault in FAULTS.items():
            if name in (options.only or FAULTS):
                rows += fault(bench)
    print(f"\nload average after: {os.getloadavg()[0]:.2f}\n")
    print_table(rows)
    if not all(row.met for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
