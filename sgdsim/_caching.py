"""Keeping what is made of a scenario table for the next point that has the same."""

import functools
from collections.abc import Callable
from typing import TypeVar, cast

F = TypeVar("F", bound=Callable)


def remembered(results: int) -> Callable[[F], F]:
    """Keep the last ``results`` of a function of scenario tables: equal tables, the same object.

    It is ``functools.lru_cache``, told that the tables, which are frozen, can be hashed.
    """

    def decorate(function: F) -> F:
        return cast(F, functools.lru_cache(results)(function))

    return decorate
