"""Runs: from a scenario to a finished dataset, through kills and back.

Lazy, because the command line checks the output folder before JAX is imported.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
