"""Raw events and fields of the request as arrays; the graph maps them to the codes that a model reads.

An event is text, or a number where the data have values, such as ratings; a field of the request is text. What is
absent or unknown to the data has code 0, also a number between those that are events themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from recloom.errors import RecloomError
from recloom.schemas import ContextField, EventCodes

from .ids import Array


def are_values(events: EventCodes | None) -> bool:
    """Whether raw events are numbers, float32 with NaN for none; else they are text with '' for none."""
    return events is not None and bool(events.cuts)


def blank_events(shape: tuple[int, ...], events: EventCodes | None) -> Array:
    """An array of no events."""
    return np.full(shape, np.nan, np.float32) if are_values(events) else np.full(shape, "", object)


def event_array(values: Sequence[Any], events: EventCodes | None) -> Array:
    """(n,) raw events as an artefact takes them; None is no event.

    Raises RecloomError for what is no number where events are numbers.
    """
    if not are_values(events):
        return np.fromiter(("" if one is None else str(one) for one in values), object, len(values))
    odd = next((one for one in values if not (one is None or _is_number(one))), None)
    if odd is not None:
        raise RecloomError(f"expected a number, such as a rating, beside each item of history, found {odd!r}")
    return np.fromiter((np.nan if one is None else one for one in values), np.float32, len(values))


def unknown_events(values: Sequence[Any], events: EventCodes) -> list[str]:
    """What of raw events the data do not know, each once; an absent one (None, NaN or '') is none."""
    given = [*dict.fromkeys(one for one in values if one is not None)]
    if are_values(events):
        if events.listed is None:
            return []
        with np.errstate(over="ignore"):  # what is beyond float32 is no event
            odd = ~np.isin(np.asarray(given, np.float32), np.asarray(events.listed, np.float32))
        return [str(one) for one, is_odd in zip(given, odd, strict=True) if is_odd and one == one]
    return [name for name in map(str, given) if name and name not in events.names]


def context_array(rows: Sequence[Mapping[str, Any] | None], fields: Sequence[ContextField]) -> Array:
    """(B, F) raw fields of the request, '' where a request does not have one.

    Raises RecloomError for a field that the data do not have.
    """
    names = [field.name for field in fields]
    found: Array = np.full((len(rows), len(names)), "", object)
    for place, row in enumerate(rows):
        for name, value in (row or {}).items():
            if name not in names:
                raise RecloomError(
                    f"the model knows no field {name!r} of a request; its fields are {', '.join(names) or 'none'}"
                )
            found[place, names.index(name)] = "" if value is None else str(value)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
