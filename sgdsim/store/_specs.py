"""What the contract says about one variable or one coordinate."""

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class VariableSpec:
    """One data variable of the contract.

    Parameters
    ----------
    group
        Group of the store; ``"/"`` is the root.
    name
        Name of the variable inside its group.
    dims
        Dimensions without those of a sweep, which stand in front.
    dtype
        A numpy dtype name, ``"str"``, or ``"real"`` for the precision of the simulation.
    long_name
        What the number is, in words.
    units
        ``"1"``, ``"nat"`` or ``"step"``.
    formula
        How the number is computed, where it is a formula.
    source
        Where the formula comes from.
    flag_meanings
        Meanings of the values 0, 1, 2, ... of an int8 flag.
    fill
        Value of everything that was not written yet.
    studies
        Studies that have the variable, if not all that have its group do.
    """

    group: str
    name: str
    dims: tuple[str, ...]
    dtype: str
    long_name: str
    units: str = "1"
    formula: str = ""
    source: str = ""
    flag_meanings: tuple[str, ...] = ()
    fill: float | int | str = float("nan")
    studies: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Path of the array inside the store, without a leading slash."""
        return f"{self.group}/{self.name}".lstrip("/")

    def resolve_dtype(self, precision: str) -> str:
        """Dtype on disk in a store of this precision (``"float32"`` or ``"float64"``)."""
        return precision if self.dtype == "real" else self.dtype

    def attributes(self) -> dict[str, str | list[int]]:
        """CF-like attributes written next to the array."""
        attrs: dict[str, str | list[int]] = {"long_name": self.long_name, "units": self.units}
        if self.formula:
            attrs["formula"] = self.formula
        if self.source:
            attrs["source"] = self.source
        if self.flag_meanings:
            first = 0 if self.fill == 0 else -1
            meanings = self.flag_meanings if first == 0 else ("unwritten", *self.flag_meanings)
            attrs["flag_values"] = list(range(first, len(self.flag_meanings)))
            attrs["flag_meanings"] = " ".join(meanings)
        return attrs


@dataclass(frozen=True)
class CoordinateSpec:
    """One coordinate: a dimension's own labels, or more about them along the same dimension.

    ``groups`` restricts it to some of the groups that have the dimension; empty: all of them.
    ``per_point`` says that it differs between the points of a sweep: each writes its own.
    """

    name: str
    dim: str
    dtype: str
    long_name: str
    units: str = "1"
    groups: tuple[str, ...] = ()
    per_point: bool = False

    def attributes(self) -> dict[str, str]:
        """CF-like attributes written next to the array."""
        return {"long_name": self.long_name, "units": self.units}


def variables(
    group: str, dims: tuple[str, ...], dtype: str, *rows: tuple[str, ...]
) -> tuple[VariableSpec, ...]:
    """Specs that share group, dims and dtype: rows of (name, long_name, units, formula, source)."""
    fill = -1 if dtype.startswith("int") else float("nan")
    specs = []
    for row in rows:
        name, long_name, units, formula, source = (*row, *("", "", "1", "", "")[len(row) :])
        specs.append(
            VariableSpec(group, name, dims, dtype, long_name, units, formula, source, fill=fill)
        )
    return tuple(specs)


def flag(
    group: str,
    name: str,
    dims: tuple[str, ...],
    long_name: str,
    meanings: tuple[str, ...] = ("no", "yes"),
    fill: int = -1,
) -> VariableSpec:
    """Spec of an int8 flag whose values 0, 1, ... have the given meanings."""
    return VariableSpec(group, name, dims, "int8", long_name, flag_meanings=meanings, fill=fill)


def only_in(study: str, specs: Iterable[VariableSpec]) -> tuple[VariableSpec, ...]:
    """Specs of variables that one study alone has, in a group that several studies have."""
    return tuple(replace(spec, studies=(study,)) for spec in specs)
