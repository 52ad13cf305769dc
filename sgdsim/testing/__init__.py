"""Slow, independent oracles for the tests: nothing in the library depends on them."""

from sgdsim.testing._synthetic import synthetic_run as synthetic_run
