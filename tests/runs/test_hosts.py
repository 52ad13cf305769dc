"""Two processes of one program: each computes half, the first writes what one alone would write."""

import os
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

import sgdsim
from sgdsim._errors import ScenarioError, SgdsimError
from sgdsim.ensemble import on_host
from sgdsim.runs import _hosts
from sgdsim.runs._output import RunPaths
from sgdsim.scenario import load_scenario
from sgdsim.store import as_location

pytestmark = pytest.mark.slow

#: Long enough to be killed on the way.
LONG = ("ensemble.steps=1000", "ensemble.record_every=10", "ensemble.chunk_steps=20")


@pytest.fixture
def pair(command, environment):
    """Start a command twice, as the two processes of one program."""
    started = []

    def start(*arguments):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for number in range(2):
            told = {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(number),
                "SGDSIM_DEVICES": "1",
            }
            started.append(
                subprocess.Popen(
                    command(*map(str, arguments), "--multi-host"),
                    env=environment | told,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        return started[-2:]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_two_processes_killed_and_resumed_give_what_one_gives(
    wells, tmp_path, pair, lean, unoptimised
):
    alone = sgdsim.run(load_scenario(str(wells), LONG), tmp_path / "alone", quiet=True)
    out = tmp_path / "two"
    both = pair("run", wells, *(f"--set={setting}" for setting in LONG), "--out", out)
    deadline = time.monotonic() + 240
    while not (out / "state" / "000000" / "ensemble.npz").exists():
        assert all(one.poll() is None for one in both), [one.communicate()[0] for one in both]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for one in both:
        one.send_signal(signal.SIGKILL)
        one.communicate()
    assert (out / "run.zarr.partial").exists()
    again = pair("resume", out)
    texts = [one.communicate(timeout=240)[0] for one in again]
    assert [one.returncode for one in again] == [0, 0], texts
    assert str(out) in texts[0]
    assert str(out) not in texts[1]
    assert sgdsim.open_run(out).attrs["device_count"] == 2
    one, two = (sgdsim.open_run(run)["dynamics"].to_dataset() for run in (alone, out))
    for name in one.variables:
        np.testing.assert_array_equal(one[name].values, two[name].values, str(name))


def test_only_the_first_process_writes(wells, tmp_path, monkeypatch):
    scenario = load_scenario(str(wells))
    assert _hosts.own_folder(tmp_path, scenario) == tmp_path
    monkeypatch.setattr(_hosts, "is_spread", lambda: True)
    assert _hosts.own_folder(tmp_path, scenario) == tmp_path
    monkeypatch.setattr(_hosts, "is_first", lambda: False)
    assert str(_hosts.own_folder(tmp_path, scenario)).startswith("memory://")


@pytest.mark.parametrize(
    ("setting", "told"),
    [("sweep.learning_rate=[0.1, 0.2]", "use --cluster"), ("compute.devices=1", "at 'auto'")],
)
def test_what_several_machines_cannot_do_together_is_refused(
    wells, tmp_path, monkeypatch, setting, told
):
    monkeypatch.setattr(_hosts, "is_spread", lambda: True)
    with pytest.raises(ScenarioError, match=told):
        _hosts.own_folder(tmp_path, load_scenario(str(wells), [setting]))


def test_a_process_that_nobody_told_anything_says_what_to_set(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("JAX_", "SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(SgdsimError, match="JAX_COORDINATOR_ADDRESS"):
        _hosts.join_hosts()


def test_an_unfinished_run_is_copied_whole(tmp_path):
    for name in ("run.zarr.partial/status/c/0", "state/000000/ensemble.npz"):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.write_text(name)
    own = RunPaths(as_location("memory://copied"))
    _hosts.copy_unfinished(RunPaths(tmp_path), own)
    assert (own.partial / "status/c/0").read_text() == "run.zarr.partial/status/c/0"
    assert own.files(0).checkpoint.read_text() == "state/000000/ensemble.npz"


def test_members_come_to_the_host_without_the_padding():
    found = on_host({"a": np.arange(6).reshape(3, 2)}, members=2)
    assert found["a"].tolist() == [[0, 1], [2, 3]]
