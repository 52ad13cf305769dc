"""The dataset contract on disk: write a run, open it, check it, export it."""

from sgdsim.store._exits_variables import (
    CONSTANTS as CONSTANTS,
    EVIDENCE as EVIDENCE,
    GAP_BOUNDS as GAP_BOUNDS,
    TERMS as TERMS,
)
from sgdsim.store._export import export_netcdf as export_netcdf
from sgdsim.store._open import find_store as find_store, open_run as open_run
from sgdsim.store._schema import (
    CONDITIONS as CONDITIONS,
    CONVENTIONS as CONVENTIONS,
    COORDINATES as COORDINATES,
    DIRECTIONS as DIRECTIONS,
    EIGEN as EIGEN,
    GROUPS as GROUPS,
    THEORIES as THEORIES,
    VARIABLES as VARIABLES,
    coordinates_in as coordinates_in,
    coordinates_of as coordinates_of,
    variables_in as variables_in,
    variables_of as variables_of,
)
from sgdsim.store._specs import CoordinateSpec as CoordinateSpec, VariableSpec as VariableSpec
from sgdsim.store._validate import validate as validate
from sgdsim.store._writer import RunStore as RunStore
