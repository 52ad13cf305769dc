"""Runs that were made elsewhere: CSV, NumPy, and the files of two published programs."""

from sgdsim.readers._arrays import read_npz as read_npz
from sgdsim.readers._centralflows import read_centralflows as read_centralflows
from sgdsim.readers._columns import COLUMNS as COLUMNS
from sgdsim.readers._foreign import (
    KINDS as KINDS,
    SERIES as SERIES,
    ForeignRun as ForeignRun,
    Optimizer as Optimizer,
)
from sgdsim.readers._locuslab import read_locuslab as read_locuslab
from sgdsim.readers._read import read_runs as read_runs
from sgdsim.readers._table import read_csv as read_csv
from sgdsim.readers._torch_file import read_tensor as read_tensor
