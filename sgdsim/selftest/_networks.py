"""Numbers of trained networks: the claims of a built-in scenario, run anew."""

import pathlib
import tempfile

import numpy as np
import xarray as xr

from sgdsim._errors import RunInterrupted
from sgdsim.runs._run import run
from sgdsim.scenario import load_scenario
from sgdsim.selftest._line import Line, between
from sgdsim.store import open_run

#: The scenario whose claims are the table of network numbers.
SCENARIO = "edge-of-stability"


def network_claims() -> list[Line]:
    """Run the scenario into a temporary folder and give a line for every claim.

    Raises
    ------
    RunInterrupted
        If a signal stops the run; nothing of it is kept.
    """
    scenario = load_scenario(SCENARIO)
    with tempfile.TemporaryDirectory() as folder:
        try:
            store = run(scenario, pathlib.Path(folder) / scenario.name, quiet=True)
        except RunInterrupted as error:
            stopped = RunInterrupted("the self-test was stopped.")
            stopped.exit_code = error.exit_code
            raise stopped from error
        return claim_lines(open_run(store)["claims"].to_dataset())


def claim_lines(claims: xr.Dataset) -> list[Line]:
    """Give a line for every claim of a run.

    Parameters
    ----------
    claims
        Group ``claims`` of a dataset without a sweep.

    Raises
    ------
    ValueError
        If there is no claim.

    Examples
    --------
    >>> import xarray as xr
    >>> from sgdsim.selftest import claim_lines
    >>> columns = {
    ...     "measured": 1.01, "expected_low": 0.97, "expected_high": 1.03,
    ...     "text": "GD stays at 2/eta.", "source": "Cohen et al. 2021",
    ... }
    >>> claims = xr.Dataset({name: ("claim", [value]) for name, value in columns.items()})
    >>> [(line.expected, line.holds) for line in claim_lines(claims)]
    [('0.97 to 1.03', True)]
    """
    names = ("text", "source", "expected_low", "expected_high", "measured")
    columns = [np.asarray(claims[name].values).tolist() for name in names]
    lines = [between(*row) for row in zip(*columns, strict=True)]
    if not lines:
        raise ValueError(
            f"the scenario {SCENARIO} makes no claims, so there is nothing to compare."
        )
    return lines
