"""Arrays out of a pickle file that is read and never unpickled: nothing that it names is imported or called.

The opcodes are followed on a stack of plain values. Where the file would call something, a note of the name and the
arguments is kept instead; the few names that arrays are made of are known, and any other one is refused.

A file costs no more than its bytes: a list, tuple or dict has one owner, so that values never outnumber the bytes;
tuples hold tuples of whole numbers and nothing deeper; keys, which are hashed, are texts and whole numbers.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from recloom.errors import DataError
from scipy.sparse import csr_matrix

RECONSTRUCT, ARRAY, DTYPE = "numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"
MATRIX, MAPPING, LIST = "scipy.sparse.csr csr_matrix", "collections defaultdict", "__builtin__ list"
Array = np.ndarray[Any, Any]
KNOWN = (RECONSTRUCT, ARRAY, DTYPE, MATRIX, MAPPING, LIST)
NUMBERS = re.compile(r"[biuf][1248]")
"""Kinds of array elements that are read: no objects, no records."""


@dataclass(frozen=True)
class Name:
    """A name that the file asks for."""

    text: str


@dataclass
class Note:
    """What the file would make by calling `name`."""

    name: Name
    arguments: tuple[Any, ...]
    state: Any = None
    entries: dict[Any, Any] = field(default_factory=dict)


@dataclass
class _Machine:
    """What is computed: values, where on the stack each mark stands, and what may be asked for again."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        place = self.marks.pop()
        values = self.stack[place:]
        del self.stack[place:]
        return values


def read(path: Path) -> Any:
    """The value of a pickle file: plain values, and a Note where it would call something.

    Raises DataError for a name or an operation that arrays are not made of, and for a damaged file.
    """
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(path.read_bytes()):
            _follow(operation.name, argument, machine)
        (value,) = machine.stack
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except _Refused as refused:
        raise DataError(
            f"{path} is refused: it asks for {refused}, and only arrays of numbers, CSR matrices and lists of numbers "
            "are read. Do not load this file elsewhere unless you trust who made it."
        ) from refused
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read as a pickle of arrays ({error}). Fetch the file again."
        ) from error
    return value


class _Refused(Exception):
    """A name or an operation that no array needs."""


def _follow(operation: str, argument: Any, machine: _Machine) -> None:
    """One operation of the file."""
    stack = machine.stack
    match operation:
        case "PROTO" | "STOP":
            pass
        case "GLOBAL":
            stack.append(_name(argument))
        case "MARK":
            machine.marks.append(len(stack))
        case "NONE" | "BININT" | "BININT1" | "BININT2" | "BINSTRING" | "SHORT_BINSTRING":
            stack.append(argument)
        case "NEWTRUE" | "NEWFALSE":
            stack.append(operation == "NEWTRUE")
        case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
            stack.append({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[operation]())
        case "BINPUT" | "LONG_BINPUT":
            machine.memo[argument] = stack[-1]
        case "BINGET" | "LONG_BINGET":
            stack.append(_again(machine.memo[argument]))
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            size = int(operation[-1])
            stack[-size:] = [_tuple(stack[-size:])]
        case "TUPLE":
            stack.append(_tuple(machine.since_mark()))
        case "APPEND":
            value = stack.pop()
            stack[-1].extend(_whole_numbers([value]))
        case "APPENDS":
            values = machine.since_mark()
            stack[-1].extend(_whole_numbers(values))
        case "SETITEMS":
            values = machine.since_mark()
            owner = stack[-1].entries if isinstance(stack[-1], Note) else stack[-1]
            owner.update(zip(_keys(values[::2]), values[1::2], strict=True))
        case "REDUCE" | "NEWOBJ":
            arguments = stack.pop()
            stack.append(Note(stack.pop(), arguments))
        case "BUILD":
            state = stack.pop()
            stack[-1].state = state
        case _:
            raise _Refused(f"the operation {operation}")


def _name(text: str) -> Name:
    if text not in KNOWN:
        raise _Refused(repr(text.replace(" ", ".")))
    return Name(text)


def _again(value: Any) -> Any:
    """A value that may stand in several places: one that holds no others, or a kind of elements."""
    if isinstance(value, (list, tuple, dict)) or (isinstance(value, Note) and value.name != Name(DTYPE)):
        raise ValueError(f"a {type(value).__name__.lower()} in two places; expected each in one")
    return value


def _tuple(values: list[Any]) -> tuple[Any, ...]:
    for value in values:
        if isinstance(value, tuple) and not _all_whole(value):
            raise ValueError("a tuple within a tuple; expected whole numbers in it")
    return tuple(values)


def _whole_numbers(values: list[Any]) -> list[int]:
    if not _all_whole(values):
        raise ValueError("a list of other things than whole numbers")
    return values


def _keys(values: list[Any]) -> list[Any]:
    if not all(type(value) in (int, str) for value in values):
        raise ValueError("a key that is neither a whole number nor a text")
    return values


def _all_whole(values: Sequence[Any]) -> bool:
    return all(type(value) is int for value in values)


def read_array(path: Path) -> Array:
    """The array of numbers in a pickle file. Raises DataError where it holds something else."""
    found: Array = _checked(path, read(path), _array, "an array of numbers")
    return found


def read_csr(path: Path) -> csr_matrix:
    """The CSR matrix in a pickle file. Raises DataError where it holds something else."""
    return _checked(path, read(path), _csr, "a CSR matrix")


def read_neighbours(path: Path) -> tuple[Array, Array]:
    """(E,) int64 nodes and (E,) int64 neighbours of a pickled mapping from node to a list of neighbours."""
    found: tuple[Array, Array] = _checked(
        path, read(path), _neighbours, "a mapping from nodes to lists of neighbours"
    )
    return found


def _checked(path: Path, value: Any, convert: Any, what: str) -> Any:
    try:
        return convert(value)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DataError(f"{path} holds no {what.partition(' ')[2]} ({error}); expected {what}") from error


def _array(note: Any) -> Array:
    _expect(note, RECONSTRUCT)
    _, shape, dtype, column_wise, text = note.state
    _expect(dtype, DTYPE)
    kind, order = dtype.arguments[0], dtype.state[1]
    if not (isinstance(kind, str) and isinstance(order, str)):
        raise ValueError("elements of no kind")
    if not NUMBERS.fullmatch(kind) or order not in ("<", ">", "|"):
        raise ValueError(f"elements of kind {order}{kind}")
    shape = _shape(shape)
    values = np.frombuffer(text.encode("latin-1"), np.dtype(order.replace("|", "=") + kind))
    if values.size != math.prod(shape):
        raise ValueError(f"{values.size} values for the shape {shape}")
    return values.reshape(shape, order="F" if column_wise else "C").astype(values.dtype.newbyteorder("="))


def _shape(found: Any) -> tuple[int, ...]:
    if not (isinstance(found, tuple) and len(found) in (1, 2) and _all_whole(found) and min(found) >= 0):
        raise ValueError("a shape that is not one or two whole numbers from 0 on")
    return found


def _csr(note: Any) -> csr_matrix:
    _expect(note, MATRIX)
    parts = [_array(note.state[name]) for name in ("data", "indices", "indptr")]
    matrix = csr_matrix(tuple(parts), shape=_shape(note.state["_shape"]))
    matrix.check_format(full_check=True)
    return matrix


def _neighbours(note: Any) -> tuple[Array, Array]:
    _expect(note, MAPPING)
    if not (_all_whole(list(note.entries)) and all(type(found) is list for found in note.entries.values())):
        raise ValueError("a node that is no number, or whose neighbours are no list")
    counts = [len(found) for found in note.entries.values()]
    nodes = np.repeat(np.array(list(note.entries), np.int64), counts)
    return nodes, np.array([one for found in note.entries.values() for one in found], np.int64)


def _expect(note: Any, name: str) -> None:
    if not isinstance(note, Note) or note.name != Name(name):
        raise ValueError(f"no {name.rpartition(' ')[2]} where one should be")
