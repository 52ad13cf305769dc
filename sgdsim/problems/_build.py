"""From the problem table of a scenario to a task and a start network."""

from sgdsim.problems._classification import ClassificationTask
from sgdsim.problems._digits import digits
from sgdsim.problems._networks import Network, random_network
from sgdsim.problems._streams import stream
from sgdsim.scenario import Scenario


def build_task(scenario: Scenario) -> ClassificationTask:
    """Make the rows and the penalty of a scenario's problem."""
    data = scenario.problem.data
    return digits(data.training, data.reference, data.split_seed, scenario.problem.ridge)


def initial_network(scenario: Scenario, task: ClassificationTask) -> Network:
    """Draw the network from which the search for a minimum starts."""
    model = scenario.problem.model
    features, classes = task.training.inputs.shape[1], task.training.targets.shape[1]
    key = stream(scenario.minimum.seed, "start")
    if model.kind == "softmax":
        return random_network(key, (features, classes), gain=1.0)
    return random_network(key, (features, *model.hidden, classes), model.activation)
