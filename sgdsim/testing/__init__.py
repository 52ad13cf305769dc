"""Slow, independent oracles for the tests: nothing in the library depends on them."""

from sgdsim.testing._same_run import assert_same_run as assert_same_run
from sgdsim.testing._synthetic import synthetic_run as synthetic_run
from sgdsim.testing._synthetic_dynamics import synthetic_dynamics_run as synthetic_dynamics_run
from sgdsim.testing._synthetic_exits import synthetic_exits_run as synthetic_exits_run
from sgdsim.testing._synthetic_sweep import synthetic_sweep as synthetic_sweep
