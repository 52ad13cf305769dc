"""What is wrong with a layer list, in one sentence."""

import difflib
from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from sgdsim.networks._layer_tables import KINDS, LayerList


def first_mistake(error: ValidationError) -> str:
    """Say the first thing that is wrong.

    Parameters
    ----------
    error
        Of the validation of a ``LayerList``.
    """
    mistake = error.errors(include_url=False)[0]
    *above, last = mistake["loc"] or ("",)
    match mistake["type"]:
        case "union_tag_invalid":
            kind = mistake["input"]["kind"]
            hint = nearest(str(kind), KINDS) or f"; known are {', '.join(KINDS)}"
            return f"{_place(mistake['loc'])} has the unknown kind {kind!r}{hint}."
        case "union_tag_not_found":
            return f"{_place(mistake['loc'])} has no kind; known are {', '.join(KINDS)}."
        case "extra_forbidden":
            kinds = [part for part in above if part in KINDS]
            table = KINDS[str(kinds[-1])] if kinds else LayerList
            hint = nearest(str(last), table.model_fields)
            return f"{_place(above)} has the unknown key {last!r}{hint}."
        case "missing":
            return f"{_place(above)} lacks the key {last!r}."
        case _:
            reason = mistake["msg"][0].lower() + mistake["msg"][1:]
            return f"{_place(mistake['loc'])} is wrong: {reason} (got {mistake['input']!r})."


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the most similar name, if one is similar.

    Parameters
    ----------
    name
        What was given.
    known
        What it could have been.
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; the nearest known one is {close[0]!r}" if close else ""


def listed(names: Sequence[str]) -> str:
    """Join the first names.

    Parameters
    ----------
    names
        All of them.
    """
    shown = ", ".join(names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


def _place(location: Sequence[int | str]) -> str:
    """Name a place in the list, counting layers from one, such as "layer 2, key stride"."""
    words: list[str] = []
    for part in location:
        if isinstance(part, int):
            words[-1] = f"{words[-1].removeprefix('key ')} {part + 1}"
        elif part not in KINDS:
            words.append(f"key {part}")
    return ", ".join(words) or "the layer list"
