"""The dataset contract on disk: write a run or the points of a sweep, open, check, export."""

from sgdsim.store._bounds_variables import CHANGES as CHANGES
from sgdsim.store._edge_variables import (
    EDGE_OPERATORS as EDGE_OPERATORS,
    EDGE_REASONS as EDGE_REASONS,
    EDGE_STATES as EDGE_STATES,
)
from sgdsim.store._exits_variables import (
    CONSTANTS as CONSTANTS,
    EVIDENCE as EVIDENCE,
    GAP_BOUNDS as GAP_BOUNDS,
    TERMS as TERMS,
)
from sgdsim.store._export import export_netcdf as export_netcdf
from sgdsim.store._location import (
    Location as Location,
    as_location as as_location,
    is_remote as is_remote,
)
from sgdsim.store._open import (
    find_store as find_store,
    is_finished as is_finished,
    open_point as open_point,
    open_run as open_run,
)
from sgdsim.store._point import PointStore as PointStore
from sgdsim.store._schema import (
    CONDITIONS as CONDITIONS,
    CONVENTIONS as CONVENTIONS,
    COORDINATES as COORDINATES,
    DIRECTIONS as DIRECTIONS,
    EIGEN as EIGEN,
    FIXED_LABELS as FIXED_LABELS,
    GROUPS as GROUPS,
    STATUSES as STATUSES,
    THEORIES as THEORIES,
    VARIABLES as VARIABLES,
    coordinates_in as coordinates_in,
    coordinates_of as coordinates_of,
    variables_in as variables_in,
    variables_of as variables_of,
)
from sgdsim.store._specs import CoordinateSpec as CoordinateSpec, VariableSpec as VariableSpec
from sgdsim.store._sweep import SweepAxis as SweepAxis, checked_sweep as checked_sweep
from sgdsim.store._validate import count_statuses as count_statuses, validate as validate
from sgdsim.store._writer import RunStore as RunStore
