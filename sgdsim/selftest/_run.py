"""All checks of the self-test, one after another."""

import math
from collections.abc import Callable

import jax

from sgdsim._errors import RunInterrupted
from sgdsim.selftest._critical import critical_sharpnesses
from sgdsim.selftest._edges import adaptive_edges, linear_edges
from sgdsim.selftest._flows import central_flow
from sgdsim.selftest._landscapes import catapult, product_of_four
from sgdsim.selftest._line import Line
from sgdsim.selftest._mean_square import mean_square_edges, momentum_edges
from sgdsim.selftest._networks import network_claims
from sgdsim.selftest._orders import flow_orders
from sgdsim.selftest._variances import stationary_variances

#: Checks of closed forms by name; each takes seconds.
CLOSED_FORMS: dict[str, Callable[[], list[Line]]] = {
    "edges of linear methods": linear_edges,
    "edges of adaptive methods": adaptive_edges,
    "stationary variances": stationary_variances,
    "orders of gradient flows": flow_orders,
    "mean-square edges": mean_square_edges,
    "edges with momentum": momentum_edges,
    "catapult": catapult,
    "product of four": product_of_four,
    "central flow": central_flow,
    "critical sharpness": critical_sharpnesses,
}
#: Checks that train networks, by name; together they take minutes.
NETWORKS: dict[str, Callable[[], list[Line]]] = {"networks at the edge": network_claims}


def run_check(name: str, check: Callable[[], list[Line]]) -> list[Line]:
    """Run one check in double precision.

    Parameters
    ----------
    name, check
        An item of ``CLOSED_FORMS`` or ``NETWORKS``.

    Returns
    -------
    list of Line
        One that does not hold, with the reason, if the check ends in an error.

    Raises
    ------
    RunInterrupted
        If a signal stopped it.

    Examples
    --------
    >>> from sgdsim.selftest import CLOSED_FORMS, run_check
    >>> [line.holds for line in run_check("product", CLOSED_FORMS["product of four"])]
    [True, True, True]
    >>> (line,) = run_check("ratio", lambda: 1 / 0)
    >>> line.quantity, line.holds
    ('ratio: ZeroDivisionError: division by zero', False)
    """
    try:
        with jax.enable_x64(True):
            return check()
    except RunInterrupted:
        raise
    except Exception as error:  # whatever it is, the other checks are worth seeing
        what = f"{name}: {type(error).__name__}: {error}"
        return [Line(what, "", "no error", "", math.nan, math.inf, -math.inf)]
