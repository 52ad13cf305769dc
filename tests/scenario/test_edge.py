"""Built-in scenarios of the edge study: the table holds what the single runs hold."""

import pytest

from sgdsim.scenario import EdgeScenario, load_scenario, scenario_names

SINGLE = ["eos-gd", "eos-momentum", "eos-sgd", "eos-adaptive", "eos-sam"]
#: What only the run of gradient descent alone has.
NOT_IN_THE_TABLE = {"central flow", "GD, halved"}


def of_edge(name: str) -> EdgeScenario:
    scenario = load_scenario(name)
    assert isinstance(scenario, EdgeScenario)
    return scenario


def test_every_single_run_is_built_in():
    assert {*SINGLE, "eos-catapult", "eos-minimal", "eos-cross-entropy"} <= set(scenario_names())


@pytest.mark.parametrize("name", SINGLE)
def test_the_table_has_the_processes_of_the_single_runs(name):
    table, single = of_edge("edge-of-stability"), of_edge(name)
    known = {process.name: process for process in table.process}
    for process in single.process:
        if process.name in NOT_IN_THE_TABLE:
            assert process.name not in known
            continue
        same = known[process.name]
        assert same.dynamics == process.dynamics
        assert (same.problem or table.problem) == (process.problem or single.problem)
        steps = process.steps or single.ensemble.steps
        assert (same.steps or table.ensemble.steps) == steps


@pytest.mark.parametrize("name", SINGLE)
def test_the_table_makes_the_claims_of_the_single_runs(name):
    table, single = of_edge("edge-of-stability"), of_edge(name)
    for claim in single.claim:
        if not set(claim.processes) & NOT_IN_THE_TABLE:
            assert claim in table.claim
