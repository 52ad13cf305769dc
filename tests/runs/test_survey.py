"""Who computes a sweep is asked before anything is written."""

import pytest

import sgdsim
from sgdsim.runs._cluster import ClusterError
from sgdsim.runs._session import session
from sgdsim.runs._survey import survey
from sgdsim.scenario import load_scenario
from sgdsim.store import count_statuses

pytest.importorskip("distributed")


def test_processes_of_this_machine_are_counted_and_share_its_memory(wells):
    scenario = load_scenario(wells)
    with session(scenario):
        alone, shared = survey(None, scenario), survey("local:4", scenario)
        assert (alone.slots, shared.slots) == (1, 4)
        assert shared.budget == pytest.approx(alone.budget / 4, rel=0.3)


def test_devices_are_not_divided_where_results_depend_on_their_number(wells):
    scenario = load_scenario(wells, ["compute.mapping=vmap"])
    with session(scenario):
        with pytest.raises(ClusterError, match=r"set compute\.devices=1 or"):
            survey("local:2", scenario)
        one = load_scenario(wells, ["compute.mapping=vmap", "compute.devices=1"])
        assert survey("local:2", one).slots == 2


@pytest.mark.slow
def test_workers_of_a_running_cluster_are_asked_before_they_compute(sweep, tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setenv("DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD", "spawn")
    scenario = load_scenario(sweep)
    here = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=1, threads_per_worker=1, scheduler_kwargs=here) as cluster:
        address = cluster.scheduler_address  # pyright: ignore[reportAttributeAccessIssue]
        with session(scenario):
            workers = survey(address, scenario, tmp_path)
            assert workers.slots == 1
            assert 1e6 < workers.budget < 1e15
            with pytest.raises(ClusterError, match=r"does not see .*nowhere; give --out a folder"):
                survey(address, scenario, tmp_path / "nowhere")
            with monkeypatch.context() as patch:
                patch.setenv("NPROC", "77")
                with pytest.raises(ClusterError, match=r"has threads = \d+, here it is 77"):
                    survey(address, scenario, tmp_path)
        monkeypatch.chdir(tmp_path)  # where the worker is not
        sgdsim.run(scenario, "run", cluster=address, quiet=True)
    assert count_statuses(tmp_path / "run") == {"pending": 0, "done": 6, "failed": 0}
