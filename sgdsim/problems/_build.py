"""From the problem table of a scenario to a task and a start network, or to a landscape."""

from jaxtyping import Array, Key

from sgdsim.problems._classification import ClassificationTask
from sgdsim.problems._digits import digits
from sgdsim.problems._landscapes import AbstractLandscape, Quadratic, Sphere
from sgdsim.problems._landscapes_products import Hyperbola
from sgdsim.problems._landscapes_ripples import Ripples
from sgdsim.problems._landscapes_wells import DoubleWell, PeriodicWells, TwoWells
from sgdsim.problems._networks import Network, random_network
from sgdsim.scenario import AnalyticLandscape, Classification

_LANDSCAPES: dict[str, type[AbstractLandscape]] = {
    "quadratic": Quadratic,
    "sphere": Sphere,
    "hyperbola": Hyperbola,
    "double_well": DoubleWell,
    "periodic_wells": PeriodicWells,
    "two_wells": TwoWells,
    "ripples": Ripples,
}


def build_task(problem: Classification) -> ClassificationTask:
    """Make the rows and the penalty of a scenario's classification problem."""
    data = problem.data
    return digits(data.training, data.reference, data.split_seed, problem.ridge)


def initial_network(
    problem: Classification, task: ClassificationTask, key: Key[Array, ""]
) -> Network:
    """Draw a network with the architecture of a scenario's model."""
    model = problem.model
    features, classes = task.training.inputs.shape[1], task.training.targets.shape[1]
    if model.kind == "softmax":
        return random_network(key, (features, classes), gain=1.0)
    return random_network(key, (features, *model.hidden, classes), model.activation)


def build_landscape(table: AnalyticLandscape) -> AbstractLandscape:
    """Make the landscape of a scenario; the table has the fields of the class."""
    fields = table.model_dump(exclude={"kind"})
    return _LANDSCAPES[table.kind](**fields)
