"""sgdsim: SGD as a stochastic differential equation, stagnation sets, generalization bounds.

The public names are listed in ``__init__.pyi`` and imported on first use, so that the command
line answers before JAX has started.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
