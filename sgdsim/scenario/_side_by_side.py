"""What holds of processes that run side by side, in every study that has them."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sgdsim.scenario._fields import Siblings, mistake
from sgdsim.scenario._fit import misfit
from sgdsim.scenario._problem import Problem
from sgdsim.scenario._report import unknown

Process = TypeVar("Process")


def checked_names(
    processes: tuple[str, ...], info: Siblings, of_two: Sequence[str]
) -> tuple[str, ...]:
    """Give back the processes of a claim: as many different ones as its quantity is about.

    Parameters
    ----------
    processes
        Names.
    info
        The claim's other fields.
    of_two
        Quantities that compare two processes; all others are about one.

    Raises
    ------
    pydantic_core.PydanticCustomError
        If there are more or fewer, or the two are the same.
    """
    quantity = info.data.get("quantity")
    if quantity is None:  # it is wrong itself, and reported as such
        return processes
    number = 2 if quantity in of_two else 1
    given = list(processes)
    if len(given) != number:
        wanted = "two processes" if number == 2 else "one process"
        raise mistake(f"should name {wanted}, because {quantity} is of {number} (got {given})")
    if len(set(given)) < number:
        raise mistake(f"should name two different processes (got {given})")
    return processes


def checked_processes(
    processes: tuple[Process, ...], problem: Problem | None, claims: Sequence[Any]
) -> tuple[Process, ...]:
    """Give back processes of unique names that fit their problem and that claims know.

    Parameters
    ----------
    processes
        Tables with ``name`` and ``dynamics``, and perhaps a ``problem`` of their own.
    problem
        What they minimise otherwise; ``None`` if it is wrong itself.
    claims
        Claims with ``processes``.

    Raises
    ------
    pydantic_core.PydanticCustomError
        If there is none, or one does not fit, at the key that is at fault.
    """
    if not processes:
        raise mistake("should have at least one entry (got [])")
    tables: tuple[Any, ...] = processes
    names = [one.name for one in tables]
    for index, one in enumerate(tables):
        if one.name in names[:index]:
            raise mistake(
                f"should be unique, but process {names.index(one.name)} is named so too "
                f"(got {one.name!r})",
                at=(index, "name"),
            )
        minimised = getattr(one, "problem", None) or problem
        wrong = None if minimised is None else misfit(one.dynamics, minimised)
        if wrong is not None:
            raise mistake(wrong.text, at=(index, "dynamics", *wrong.at))
    # Claims are checked before processes are, and so a wrong name is found only here.
    for index, claim in enumerate(claims):
        for number, name in enumerate(claim.processes):
            if name not in names:
                at = ("..", "claim", index, "processes", number)
                raise mistake(unknown("process", name, names), at=at)
    return processes
