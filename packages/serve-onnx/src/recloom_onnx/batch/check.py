"""Validation of a table of requests: rows that are null, empty, of unequal length or no text are rejected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .requests import CONTEXT

REJECTED = pa.schema([("row", pa.int64()), ("user_id", pa.string()), ("reason", pa.string())])
EMPTY = "is empty"
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def split(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The requests that can be answered, and the others as a table of `REJECTED`."""
    wrong: Mask = np.zeros(len(table), dtype=bool)
    reason = np.full(len(table), None, dtype=object)
    for mask, text in _faults(table):
        reason[mask & ~wrong] = text
        wrong |= mask
    if not wrong.any():
        return table, REJECTED.empty_table()
    refused = table.filter(pa.array(wrong))
    rejected = pa.table(
        [refused["row"], _names(refused), pa.array(reason[wrong], pa.string())], schema=REJECTED
    )
    return table.filter(pa.array(~wrong)), rejected


def _faults(table: pa.Table) -> list[tuple[Mask, str]]:
    """Masks of the rows that have each fault, the first of a row counts."""
    found: list[tuple[Mask, str]] = []
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in ("exclude", "allow"):
            found += _elements(name, column)
            continue
        if name == "history_events" or name.startswith(CONTEXT):  # null or '' is unknown
            found += _raw(name.removeprefix(CONTEXT), column)
            continue
        hint = "; an empty list says that there is none" if name == "history" else ""
        found.append((_mask(pc.is_null(column)), f"{name} is null{hint}"))
        if pa.types.is_list(column.type):
            found += _elements(name, column)
        elif pa.types.is_string(column.type):
            found += [(mask, f"{name} {what}") for mask, what in _texts(column)]
    if "history_times" in table.column_names:
        items, times = (pc.list_value_length(table[name]) for name in ("history", "history_times"))
        unequal = pc.not_equal(items, times)
        found.append((_mask(unequal.combine_chunks()), "history and history_times are not of one length"))
    if "history_events" in table.column_names:
        items, events = (pc.list_value_length(table[name]) for name in ("history", "history_events"))
        unequal = pc.not_equal(items, events)  # null where there are no events, which is no fault
        found.append((_mask(unequal.combine_chunks()), "history and history_events are not of one length"))
    return found


def _raw(name: str, column: pa.Array) -> list[tuple[Mask, str]]:
    """Faults of raw events or fields of the request: text that is not UTF-8 or holds a NUL character."""
    lists = pa.types.is_list(column.type)
    values = column.flatten() if lists else column
    rows = pc.list_parent_indices(column).to_numpy() if lists else np.arange(len(column))
    found = []
    for inside, what in _texts(values):
        if what != EMPTY:
            mask: Mask = np.zeros(len(column), dtype=bool)
            mask[rows[inside]] = True
            found.append((mask, f"{name} holds text that {what}"))
    return found


def _elements(name: str, column: pa.ListArray) -> list[tuple[Mask, str]]:
    values, rows = column.flatten(), pc.list_parent_indices(column).to_numpy()
    faults = [(_mask(pc.is_null(values)), "holds a null")]
    faults += [(mask, f"holds an id that {what}") for mask, what in _texts(values)]
    found = []
    for inside, what in faults:
        mask: Mask = np.zeros(len(column), dtype=bool)
        mask[rows[inside]] = True
        found.append((mask, f"{name} {what}"))
    return found


def _texts(values: pa.Array) -> list[tuple[Mask, str]]:
    """Faults of single texts: '' is padding in an artefact, and runtimes end a string at its first NUL."""
    if not pa.types.is_string(values.type):
        return []
    return [
        (_broken(values), "is not UTF-8"),
        (_mask(pc.equal(values, "")), EMPTY),
        (_mask(pc.match_substring(values, "\0")), "holds a NUL character"),
    ]


def _broken(values: pa.Array) -> Mask:
    """Which texts are not UTF-8; they are looked at one by one only where there is such a text."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return np.array([_undecodable(raw) for raw in values.cast(pa.binary()).to_pylist()], dtype=bool)
    return np.zeros(len(values), dtype=bool)


def _undecodable(raw: bytes | None) -> bool:
    try:
        (raw or b"").decode()
    except UnicodeDecodeError:
        return True
    return False


def _names(table: pa.Table) -> pa.Array:
    """The users as text that can be written, whatever was wrong with it."""
    if "user_id" not in table.column_names:
        return pa.nulls(len(table), pa.string())
    column = table["user_id"].combine_chunks()
    if not pa.types.is_string(column.type):
        return column.cast(pa.string())
    raw = column.cast(pa.binary()).to_pylist()
    return pa.array([None if one is None else one.decode(errors="replace") for one in raw], pa.string())


def _mask(array: pa.Array) -> Mask:
    result: Mask = pc.fill_null(array, False).to_numpy(zero_copy_only=False)
    return result
