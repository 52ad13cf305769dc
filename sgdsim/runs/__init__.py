"""Runs: from a scenario to a finished dataset, through kills and back."""

import lazy_loader as _lazy

# Lazy, because the command line checks the output folder before JAX is imported.
__getattr__, __dir__, __all__ = _lazy.attach(
    __name__,
    submod_attrs={
        "_claims": ["QUANTITIES", "evaluate_claims", "print_claims"],
        "_run": ["resume", "run"],
        "_output": ["RunPaths", "check_output", "find_run"],
    },
)
