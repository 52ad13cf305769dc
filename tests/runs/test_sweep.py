"""Sweeps: every point is what it would be alone, nothing is lost, whoever computes it."""

import json
import re
import shutil

import numpy as np
import pytest
import xarray as xr

import sgdsim
from sgdsim._errors import ScenarioError, StoreError
from sgdsim.scenario import load_scenario, sweep_points
from sgdsim.testing import assert_same_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shell(lean, command, finish):
    """Run the command line as a user does."""
    return lambda *arguments: finish(command(*map(str, arguments)))


def details_of(tree):
    texts = np.ravel(tree.to_dataset()["details"].values).tolist()
    return [{k: v for k, v in json.loads(t).items() if k != "wall_seconds"} for t in texts]


def test_the_axes_come_back_as_named_dimensions_in_front(swept):
    tree = sgdsim.open_run(swept)
    loss = tree["dynamics"].to_dataset()["loss"]
    assert loss.dims == ("learning_rate", "variance", "process", "trajectory", "step")
    assert loss["learning_rate"].values.tolist() == [0.01, 0.05, 0.2]
    assert loss["variance"].values.tolist() == [0.1, 0.4]
    assert bool(np.isfinite(loss).all())
    assert (tree.to_dataset()["status"] == 1).all()
    time = tree["dynamics"].to_dataset()["time"]
    np.testing.assert_allclose(
        time.sel(process="sgd").isel(variance=0, step=-1), 20 * loss["learning_rate"]
    )
    assert xr.open_zarr(swept / "run.zarr", group="dynamics")["loss"].dims == loss.dims


def test_claims_are_judged_at_every_point(swept):
    claims = sgdsim.open_run(swept)["claims"].to_dataset()
    assert claims["holds"].dims == ("learning_rate", "variance", "claim")
    # eta lambda_max / 2 is 0.01, 0.05, 0.2 times a curvature of about one or two.
    assert claims["holds"].isel(claim=0, variance=0).values.tolist() == [1, 1, 0]


def test_the_first_point_equals_a_run_of_its_own(sweep, swept, tmp_path, lean):
    alone = sweep_points(load_scenario(str(sweep)))[0]
    sgdsim.run(alone, tmp_path / "alone", quiet=True)
    mine = sgdsim.open_run(tmp_path / "alone")["dynamics"].to_dataset()
    other = sgdsim.open_run(swept)["dynamics"].to_dataset().isel(learning_rate=0, variance=0)
    for name in mine.data_vars:
        np.testing.assert_array_equal(mine[name].values, other[name].values, name)


def test_points_have_random_numbers_of_their_own(wells, tmp_path, lean):
    scenario = load_scenario(str(wells), ["sweep.tolerance=[0.1, 0.2]"])
    sgdsim.run(scenario, tmp_path / "run", quiet=True)
    loss = sgdsim.open_run(tmp_path / "run")["dynamics"].to_dataset()["loss"].isel(step=-1)
    assert not np.any(loss.isel(tolerance=0).values == loss.isel(tolerance=1).values)


def test_a_hundred_learning_rates_are_one_program(wells):
    from sgdsim.runs._plan import make_plan
    from sgdsim.runs._session import session

    axis = "sweep.learning_rate={log = [0.001, 0.1], points = 100}"
    scenario = load_scenario(str(wells), [axis])
    with session(scenario):
        plan = make_plan(scenario, budget=10**9)
    assert (plan.points, plan.programs, len(plan.groups)) == (100, 1, 1)
    assert {len(points) for points, _ in plan.batches} == {25}
    assert sorted(n for points, _ in plan.batches for n in points) == list(range(100))


def test_a_plan_groups_by_shape_and_keeps_to_the_memory(sweep):
    from sgdsim.runs._plan import make_plan
    from sgdsim.runs._session import session

    scenario = load_scenario(str(sweep), ["sweep.ensemble.trajectories=[3, 5]"])
    with session(scenario):
        wide = make_plan(scenario, budget=10**9)
        need = wide.groups[0].footprint
        tight = make_plan(scenario, budget=need.of(4) + 1)
        shared = make_plan(scenario, budget=10**9, workers=3)
    assert [len(group.points) for group in wide.groups] == [6, 6]
    assert wide.programs == 2
    assert tight.groups[0].capacity == 3  # two even batches, not four and two
    assert len(shared.groups[0].batches) == 3


def test_shorter_points_leave_the_rest_unwritten(wells, tmp_path, lean):
    scenario = load_scenario(
        str(wells), ["sweep.ensemble.trajectories=[2, 4]", "sweep.steps=[10, 20]"]
    )
    sgdsim.run(scenario, tmp_path / "run", quiet=True)
    loss = sgdsim.open_run(tmp_path / "run")["dynamics"].to_dataset()["loss"].isel(process=0)
    assert loss.sizes["trajectory"] == 4
    known = loss.notnull().sum(["trajectory", "step"])
    assert known.transpose("trajectories", "steps").values.tolist() == [[6, 10], [12, 20]]


def test_a_point_that_fails_does_not_stop_the_others(
    sweep, swept, tmp_path, monkeypatch, lean, shell
):
    from sgdsim.runs._dynamics import DynamicsRun

    prepare = DynamicsRun.prepare.__func__

    def failing(cls, scenario, point, stage):
        if point == 3:
            raise ValueError("no such luck")
        return prepare(cls, scenario, point, stage)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(DynamicsRun, "prepare", classmethod(failing))
        sgdsim.run(load_scenario(str(sweep)), out, quiet=True)
    tree = sgdsim.open_run(out)
    assert tree.to_dataset()["status"].values.tolist() == [[1, 1], [1, 2], [1, 1]]
    assert details_of(tree)[3]["failure"] == "ValueError: no such luck"
    shown = shell("status", out)
    assert "0 pending, 5 done, 1 failed, of 6" in shown.stdout
    assert "3 (learning_rate = 0.05, variance = 0.4): ValueError: no such luck" in shown.stdout
    sgdsim.resume(out, retry_failed=True, quiet=True)
    again = sgdsim.open_run(out)
    assert (again.to_dataset()["status"] == 1).all()
    np.testing.assert_array_equal(
        again["dynamics"].to_dataset()["loss"],
        sgdsim.open_run(swept)["dynamics"].to_dataset()["loss"],
    )
    with pytest.raises(StoreError, match="nothing to retry"):
        sgdsim.resume(out, retry_failed=True, quiet=True)


def test_where_memory_does_not_suffice_fewer_points_run_together(
    sweep, swept, tmp_path, monkeypatch, lean
):
    from sgdsim.ensemble import Batch

    advance, sizes = Batch.advance, []

    def limited(self, legs):
        sizes.append(len(legs))
        if len(legs) > 2:
            raise MemoryError("RESOURCE_EXHAUSTED: out of memory")
        return advance(self, legs)

    monkeypatch.setattr(Batch, "advance", limited)
    sgdsim.run(load_scenario(str(sweep)), tmp_path / "run", quiet=True)
    assert sizes[:3] == [6, 3, 2]
    assert set(sizes[3:]) <= {1, 2}
    assert_same_run(swept, tmp_path / "run")


def test_one_point_that_does_not_fit_fails(wells, tmp_path, monkeypatch, lean):
    from sgdsim.ensemble import Batch

    def never(self, legs):
        raise MemoryError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(Batch, "advance", never)
    sgdsim.run(
        load_scenario(str(wells), ["sweep.learning_rate=[0.01, 0.05]"]),
        tmp_path / "run",
        quiet=True,
    )
    tree = sgdsim.open_run(tmp_path / "run")
    assert (tree.to_dataset()["status"] == 2).all()
    assert "RESOURCE_EXHAUSTED" in details_of(tree)[0]["failure"]


@pytest.fixture
def killed(sweep, monkeypatch, lean):
    """Start the sweep into a folder and let its process die at a certain write."""
    from sgdsim.store import PointStore

    class Killed(BaseException):
        pass

    def start(out, writes):
        write, left = PointStore.write, [writes]

        def dying(self, *arguments, **keywords):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return write(self, *arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(PointStore, "write", dying)
            with pytest.raises(Killed):
                sgdsim.run(load_scenario(str(sweep)), out, quiet=True)

    return start


@pytest.mark.parametrize("writes", [1, 20, 41])
def test_a_sweep_that_dies_is_resumed_to_the_same_dataset(swept, tmp_path, killed, writes):
    out = tmp_path / "run"
    killed(out, writes)
    assert (out / "run.zarr.partial").is_dir()
    sgdsim.resume(out, quiet=True)
    assert_same_run(swept, out)


@pytest.fixture
def begun(sweep, tmp_path):
    """A sweep that has been planned, for a session called ``now``."""
    from sgdsim.runs._output import RunPaths
    from sgdsim.runs._session import layout_of, session
    from sgdsim.runs._studies import create_store

    scenario = load_scenario(str(sweep))
    with session(scenario):
        store = create_store(scenario, layout_of(scenario), RunPaths(tmp_path))
    store.set_attrs({"session": "now"})
    return store


def test_a_worker_of_a_former_session_writes_nothing(begun, tmp_path, lean):
    from sgdsim.runs._batch import Task, run_task

    with pytest.raises(StoreError, match="another run has taken"):
        run_task(Task(str(tmp_path), (0,), 1, "before"))
    assert begun.statuses().tolist() == [0] * 6
    assert not (tmp_path / "state").exists()
    run_task(Task(str(tmp_path), (4,), 1, "now"))
    assert begun.statuses().tolist() == [0, 0, 0, 0, 1, 0]


def test_a_worker_given_up_for_lost_does_not_undo_what_another_has_done(
    begun, tmp_path, monkeypatch, lean
):
    from sgdsim.ensemble import Batch
    from sgdsim.runs._batch import Task, run_task

    advance, calls = Batch.advance, []

    def overtaken(self, legs):
        chunks = advance(self, legs)
        calls.append(legs)
        if len(calls) == 1:  # the other one starts and ends while this one computes
            run_task(Task(str(tmp_path), (0, 1), 2, "now"))
        return chunks

    monkeypatch.setattr(Batch, "advance", overtaken)
    assert run_task(Task(str(tmp_path), (0, 1), 2, "now")).done == (0, 1)
    assert len(calls) == 3  # two of the other, one of this one
    status = begun.point(0).tree()["dynamics"].to_dataset()["status"]
    assert (status == 1).all()

    def overtaken_and_failing(self, legs):
        run_task(Task(str(tmp_path), (2, 3), 2, "now"))
        raise ValueError("too late")

    with monkeypatch.context() as patch:
        patch.setattr(Batch, "advance", advance)
        run_task(Task(str(tmp_path), (2, 3), 2, "now"))
    monkeypatch.setattr(Batch, "advance", overtaken_and_failing)
    run_task(Task(str(tmp_path), (2, 3), 2, "now"))
    assert begun.statuses().tolist() == [1, 1, 1, 1, 0, 0]


def test_points_that_one_dataset_cannot_hold_are_refused(wells, tmp_path):
    scenario = load_scenario(str(wells), ["sweep.record_every=[5, 10]"])
    with pytest.raises(ScenarioError, match="recorded values per time chunk"):
        sgdsim.run(scenario, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(sweep, tmp_path, shell):
    shown = shell("run", sweep, "--dry-run", "--out", tmp_path / "run")
    assert shown.returncode == 0, shown.stderr
    assert "learning_rate (3) x variance (2)" in shown.stderr
    assert re.search(r"│ +6 │ +3 │ +20 │ +1 │ +6 │", shown.stderr)
    assert "6 points, 1 compiled program, 1 batch;" in shown.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set=sweep.lerning_rate=[0.1]"], "learning_rate"),
        (["--set=sweep.learning_rate=[]"], "sweep.learning_rate"),
        (["--set=sweep.learning_rate=[0.1, 0.1]"], "0.1"),
        (["--cluster", "lokal:2"], "Did you mean 'local:2'?"),
        (["--cluster", "tcp://127.0.0.1:9"], "no Dask scheduler answers at tcp://127.0.0.1:9"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(wells, tmp_path, arguments, told, shell):
    if "tcp" in arguments[-1]:
        arguments = [*arguments, "--set=sweep.learning_rate=[0.01, 0.05]"]
    refused = shell("run", wells, *arguments, "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "run").exists()


def test_a_cluster_without_a_sweep_is_refused(wells, tmp_path):
    from sgdsim.runs._cluster import ClusterError

    with pytest.raises(ClusterError, match="nothing to spread over local:2"):
        sgdsim.run(load_scenario(str(wells)), tmp_path / "run", cluster="local:2")
    assert not (tmp_path / "run").exists()


def test_a_run_can_be_made_again_from_its_dataset(swept, tmp_path, shell):
    again = shell("run", swept, "--out", tmp_path / "again", "--quiet")
    assert again.returncode == 0, again.stderr
    assert "the same versions, devices and mapping" in again.stderr
    assert_same_run(swept, tmp_path / "again")
    refused = shell("run", swept, "--seed", "3", "--out", tmp_path / "third")
    assert refused.returncode == 2
    assert "made again exactly" in refused.stderr


def test_a_dead_sweep_in_an_object_store_is_resumed(sweep, swept, killed, remote):
    killed(remote, 30)
    assert str(sgdsim.resume(remote, quiet=True)) == remote
    assert_same_run(swept, remote)
    with pytest.raises(StoreError, match="already holds a finished run"):
        sgdsim.run(load_scenario(str(sweep)), remote, quiet=True)


def test_two_workers_give_in_an_object_store_what_the_serial_executor_gives(
    sweep, swept, shell, s3
):
    pytest.importorskip("distributed")
    finished = shell("run", sweep, "--cluster", "local:2", "--out", f"{s3}/run")
    assert finished.returncode == 0, finished.stderr
    assert "6 of 6 points done" in finished.stderr
    assert finished.stdout.splitlines()[-1] == f"{s3}/run"
    assert_same_run(swept, f"{s3}/run")
    assert shell("validate", f"{s3}/run").returncode == 0


def test_what_is_left_is_cut_for_the_workers_that_are_there_now(begun, tmp_path):
    from sgdsim.runs._output import RunPaths
    from sgdsim.runs._survey import Workers
    from sgdsim.runs._sweep import _open_tasks

    begun.set_attrs({"plan": "[[[0, 1, 2, 3, 4, 5], 6]]"})
    begun.point(1).set_status("done")
    begun.point(2).set_status("failed")
    cut = [task.points for task in _open_tasks(RunPaths(tmp_path), begun, Workers(2, 10**9))]
    assert cut == [(0, 3), (4, 5)]
    begun.set_attrs({"mapping": "vmap"})  # there the size of a batch decides the last bits
    (task,) = _open_tasks(RunPaths(tmp_path), begun, Workers(2, 10**9))
    assert (task.points, task.capacity) == ((0, 3, 4, 5), 6)


def test_a_run_that_cannot_be_continued_here_stays_as_it_is(swept, tmp_path, lean):
    from sgdsim.store import RunStore, count_statuses

    out = shutil.copytree(swept, tmp_path / "run")
    store = RunStore.open(out / "run.zarr")
    store.point(2).set_attrs({"failure": "no such luck"})
    store.point(2).set_status("failed")
    store.set_attrs({"versions": "jax 0.0.1"})
    with pytest.raises(StoreError, match="versions = jax"):
        sgdsim.resume(out, retry_failed=True, quiet=True)
    assert (out / "run.zarr").is_dir()
    assert count_statuses(out) == {"pending": 0, "done": 5, "failed": 1}


def test_a_kill_right_after_the_dataset_was_made_is_resumed(sweep, swept, tmp_path, lean):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgdsim.runs._run.carry_on_sweep", None)
        with pytest.raises(TypeError):
            sgdsim.run(load_scenario(str(sweep)), tmp_path / "run", quiet=True)
    sgdsim.resume(tmp_path / "run", retry_failed=True, quiet=True)
    assert_same_run(swept, tmp_path / "run")


def test_an_axis_that_is_called_like_a_dimension_is_refused_first(wells, swept, tmp_path):
    out = shutil.copytree(swept, tmp_path / "run")
    axis = ["escape.coordinate=0", "escape.level=1.0", "sweep.escape.coordinate=[0]"]
    with pytest.raises(ScenarioError, match="cannot be called 'coordinate'"):
        sgdsim.run(load_scenario(str(wells), axis), out, overwrite=True, quiet=True)
    assert_same_run(swept, out)


def test_a_run_is_not_made_again_in_its_own_place(swept, shell):
    refused = shell("run", swept, "--out", swept, "--overwrite")
    assert refused.returncode == 2
    assert "cannot be made again in its own place" in refused.stderr
