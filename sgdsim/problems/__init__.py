"""What is minimised: data, models, losses."""

from sgdsim.problems._build import build_task as build_task, initial_network as initial_network
from sgdsim.problems._classification import (
    ClassificationTask as ClassificationTask,
    Rows as Rows,
    cross_entropies as cross_entropies,
    error_rate as error_rate,
    margins as margins,
)
from sgdsim.problems._digits import digits as digits
from sgdsim.problems._networks import (
    ACTIVATIONS as ACTIVATIONS,
    Network as Network,
    random_network as random_network,
)
from sgdsim.problems._problem import (
    OutputLoss as OutputLoss,
    Problem as Problem,
    cast as cast,
    inner as inner,
    squared_norm as squared_norm,
)
from sgdsim.problems._streams import stream as stream
