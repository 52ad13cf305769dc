"""From the problem table of a scenario to the problem itself."""

from typing import NamedTuple

from jaxtyping import Array, Key

from sgdsim._caching import remembered
from sgdsim.problems._classification import ClassificationTask, Rows
from sgdsim.problems._digits import digits
from sgdsim.problems._hypercube import HypercubeTeacher, hypercube
from sgdsim.problems._known import KnownLandscape, KnownProblem
from sgdsim.problems._landscapes import AbstractLandscape, Quadratic, Sphere
from sgdsim.problems._landscapes_edge import LipschitzProduct, ScalarDeepLinear
from sgdsim.problems._landscapes_products import Hyperbola
from sgdsim.problems._landscapes_ripples import Ripples
from sgdsim.problems._landscapes_wells import DoubleWell, PeriodicWells, TwoWells
from sgdsim.problems._many_minima import many_minima
from sgdsim.problems._networks import Network, random_network
from sgdsim.problems._problem import Problem
from sgdsim.problems._regression import linear_regression
from sgdsim.problems._regression_tasks import (
    RegressionTask,
    chebyshev,
    digit_targets,
    noisy_signs,
)
from sgdsim.problems._teacher import teacher_network, teacher_student
from sgdsim.scenario import (
    AnalyticLandscape,
    CaseProblem,
    Classification,
    Problem as ProblemTable,
    Regression,
)

_LANDSCAPES: dict[str, type[AbstractLandscape]] = {
    "quadratic": Quadratic,
    "sphere": Sphere,
    "hyperbola": Hyperbola,
    "double_well": DoubleWell,
    "periodic_wells": PeriodicWells,
    "two_wells": TwoWells,
    "ripples": Ripples,
    "deep_linear": ScalarDeepLinear,
    "lipschitz_product": LipschitzProduct,
}


@remembered(8)
def build_task(problem: Classification) -> ClassificationTask:
    """Make the rows and the penalty of a scenario's classification problem.

    Equal tables give one and the same task, so that the points of a sweep share their rows.
    """
    data = problem.data
    if data.kind == "hypercube":
        teacher = HypercubeTeacher(
            data.dimension, data.classes, data.teacher_width, data.teacher_seed
        )
        return hypercube(
            teacher,
            data.training,
            data.reference,
            data.split_seed,
            problem.ridge,
            data.random_labels,
        )
    return digits(data.training, data.reference, data.split_seed, problem.ridge, data.random_labels)


@remembered(8)
def build_regression(problem: Regression) -> RegressionTask:
    """Make the rows and the penalty of a scenario's regression problem.

    Equal tables give one and the same task, so that the points of a sweep share their rows.
    """
    data, ridge = problem.data, problem.ridge
    if data.kind == "chebyshev":
        return chebyshev(data.degree, data.training, ridge)
    if data.kind == "noisy_signs":
        sizes = data.training, data.held_out
        return noisy_signs(sizes, data.dimension, data.flips, data.seed, ridge, noise=data.noise)
    return digit_targets(data.training, data.split_seed, data.random_labels, ridge)


class Minimised(NamedTuple):
    """What a scenario minimises, and what is known beside it.

    Attributes
    ----------
    problem
        The training problem; its rows are in float64.
    held_out
        Rows that SGD never sees and whose classes are known; ``None`` without such rows.
    landscape
        The landscape, if the problem is one.
    """

    problem: Problem
    held_out: Rows | None
    landscape: AbstractLandscape | None


def build_problem(table: ProblemTable) -> Minimised:
    """Make the problem of a scenario on data or on a landscape."""
    if table.kind == "landscape":
        landscape = build_landscape(table.landscape)
        return Minimised(landscape.problem(), None, landscape)
    if table.kind == "regression":
        fitted = build_regression(table)
        return Minimised(fitted.problem, fitted.held_out, None)
    task = build_task(table)
    return Minimised(task.problem(task.training), task.held_out, None)


def initial_network(
    problem: Classification, task: ClassificationTask, key: Key[Array, ""]
) -> Network:
    """Draw a network with the architecture of a scenario's model."""
    model = problem.model
    features, classes = task.training.inputs.shape[1], task.training.targets.shape[1]
    if model.kind == "softmax":
        return random_network(key, (features, classes), gain=1.0)
    return random_network(key, (features, *model.widths, classes), model.activation)


def layer_count(problem: Classification) -> int:
    """Count the layers of a scenario's model."""
    return len(getattr(problem.model, "widths", ())) + 1


def array_count(problem: ProblemTable) -> int:
    """Count the arrays that the parameters of a scenario's problem consist of."""
    if problem.kind == "landscape":
        return 1
    if problem.kind == "classification":
        return layer_count(problem)
    model = problem.model
    return 2 * (len(model.widths) + 1) - (not model.output_bias)


def build_landscape(table: AnalyticLandscape) -> AbstractLandscape:
    """Make the landscape of a scenario; the table has the fields of the class."""
    fields = table.model_dump(exclude={"kind"})
    return _LANDSCAPES[table.kind](**fields)


def coordinate_count(table: CaseProblem) -> int:
    """Count the parameters of a case's problem; 0 for a network, whose iterates are not kept."""
    if table.kind == "landscape":
        return table.landscape.dimension
    return {"many_minima": 1, "teacher_student": 0}.get(table.kind, getattr(table, "dimension", 0))


def build_known(table: CaseProblem) -> KnownProblem:
    """Make the problem of a case; call it with float64 enabled, or all numbers are float32."""
    if table.kind == "landscape":
        return KnownLandscape(build_landscape(table.landscape))
    if table.kind == "linear_regression":
        return linear_regression(table.dimension, table.samples, table.label_noise, table.seed)
    if table.kind == "teacher_student":
        widths = (table.dimension, *table.hidden, 1)
        teacher = teacher_network(widths, table.activation, table.spectral_norm, table.seed)
        return teacher_student(
            teacher, table.samples, table.label_noise, table.clip, table.fresh, table.seed
        )
    return many_minima(
        PeriodicWells(table.amplitude, table.period),
        table.plateau,
        (table.replicas, table.wells),
        table.spread / table.samples**0.5,
        table.start == "best",
        table.seed,
    )
