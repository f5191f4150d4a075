"""Arrays out of a pickle file that is read and never unpickled: nothing that it names is imported or called.

The opcodes are followed on a stack of plain values. Where the file would call something, a note of the name and the
arguments is kept instead; the few names that arrays are made of are known, and any other one is refused.
"""

from __future__ import annotations

import math
import pickletools
import re
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


_MARK = Name("(mark)")


def read(path: Path) -> Any:
    """The value of a pickle file: plain values, and a Note where it would call something.

    Raises DataError for a name or an operation that arrays are not made of, and for a damaged file.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for operation, argument, _ in pickletools.genops(path.read_bytes()):
            _follow(operation.name, argument, stack, memo)
        (value,) = stack
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except _Refused as refused:
        raise DataError(
            f"{path} is refused: it asks for {refused}, and only arrays of numbers, CSR matrices and lists of numbers "
            "are read. Do not load this file elsewhere unless you trust who made it."
        ) from refused
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read as a pickle of arrays ({error}). Fetch the file again."
        ) from error
    return value


class _Refused(Exception):
    """A name or an operation that no array needs."""


def _follow(operation: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """One operation of the file."""
    match operation:
        case "PROTO" | "STOP":
            pass
        case "GLOBAL":
            stack.append(_name(argument))
        case "MARK":
            stack.append(_MARK)
        case "NONE" | "BININT" | "BININT1" | "BININT2" | "BINSTRING" | "SHORT_BINSTRING":
            stack.append(argument)
        case "NEWTRUE" | "NEWFALSE":
            stack.append(operation == "NEWTRUE")
        case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
            stack.append({"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}[operation]())
        case "BINPUT" | "LONG_BINPUT":
            memo[argument] = stack[-1]
        case "BINGET" | "LONG_BINGET":
            stack.append(memo[argument])
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            size = int(operation[-1])
            stack[-size:] = [tuple(stack[-size:])]
        case "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        case "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        case "APPENDS":
            values = _since_mark(stack)
            stack[-1].extend(values)
        case "SETITEMS":
            values = _since_mark(stack)
            owner = stack[-1].entries if isinstance(stack[-1], Note) else stack[-1]
            owner.update(zip(values[::2], values[1::2], strict=True))
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


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1 - stack[::-1].index(_MARK)
    values = stack[place + 1 :]
    del stack[place:]
    return values


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
    if not NUMBERS.fullmatch(kind) or order not in ("<", ">", "|"):
        raise ValueError(f"elements of kind {order}{kind}")
    values = np.frombuffer(text.encode("latin-1"), np.dtype(order.replace("|", "=") + kind))
    if values.size != math.prod(shape):
        raise ValueError(f"{values.size} values for the shape {shape}")
    return values.reshape(shape, order="F" if column_wise else "C").astype(values.dtype.newbyteorder("="))


def _csr(note: Any) -> csr_matrix:
    _expect(note, MATRIX)
    parts = [_array(note.state[name]) for name in ("data", "indices", "indptr")]
    matrix = csr_matrix(tuple(parts), shape=note.state["_shape"])
    matrix.check_format(full_check=True)
    return matrix


def _neighbours(note: Any) -> tuple[Array, Array]:
    _expect(note, MAPPING)
    counts = [len(found) for found in note.entries.values()]
    nodes = np.repeat(np.array(list(note.entries), np.int64), counts)
    return nodes, np.array([one for found in note.entries.values() for one in found], np.int64)


def _expect(note: Any, name: str) -> None:
    if not isinstance(note, Note) or note.name != Name(name):
        raise ValueError(f"no {name.rpartition(' ')[2]} where one should be")
