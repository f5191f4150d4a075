"""Arrays out of Planetoid's pickle files, by `pickle.Unpickler` with an allow-list: the only unpickling there is.

`find_class` knows the names that arrays, CSR matrices and mappings of lists are made of, and gives a stand-in for
each that keeps the arguments and the state; any other name is refused before anything is made. So nothing that a
file names is imported or called, and arrays are built here, once their kind, shape and bytes are checked.

Before that `_check_cost` refuses what would cost more than the bytes of the file: deep tuples, and lists, tuples or
dicts in several places, whose hashes and copies take exponential time; and places of the memo beyond the file's end.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from recloom.errors import DataError
from scipy.sparse import csr_matrix

Array = np.ndarray[Any, Any]
NUMBERS = re.compile(r"[biuf][1248]")
"""Kinds of array elements that are read: no objects, no records."""
TUPLES = 100
"""Tuples in a file; those of Planetoid have at most 18."""
SHAREABLE = re.compile(r".*GLOBAL|REDUCE|.*(STRING|UNICODE8?|BYTES8?)|(BIN|LONG)?INT[12]?|LONG[14]?")
"""Operations whose value may be in several places: names, what a stand-in keeps, texts and numbers."""


class _StandIn:
    """In place of what the file would call: its arguments and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_StandIn): ...


class _Kind(_StandIn): ...


class _Matrix(_StandIn): ...


class _Argument(_StandIn): ...


class _Mapping(dict[Any, Any]):
    """Of `collections.defaultdict`, without its factory."""

    def __init__(self, factory: Any = None) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a mapping with a state")


class _Latin1(str):
    """Of `_codecs.encode`, which Python 3 writes for bytes: the text itself, which is not copied."""

    def __new__(cls, text: str, encoding: str) -> Any:
        if type(text) is not str or encoding != "latin1":
            raise ValueError(f"bytes encoded as {encoding!r}; expected latin1")
        return text

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a text with a state")


ALLOWED: dict[str, type] = {
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "numpy.ndarray": _Argument,
    "numpy.dtype": _Kind,
    "scipy.sparse.csr.csr_matrix": _Matrix,
    "scipy.sparse._csr.csr_matrix": _Matrix,
    "collections.defaultdict": _Mapping,
    "__builtin__.list": _Argument,
    "builtins.list": _Argument,
    "_codecs.encode": _Latin1,
}


class _Refused(pickle.UnpicklingError):
    """A name that no array needs."""


class _Unpickler(pickle.Unpickler):
    """Gives stand-ins for the names of ALLOWED, and refuses all others."""

    def find_class(self, module: str, name: str) -> type:
        """The stand-in; raises _Refused."""
        found = ALLOWED.get(f"{module}.{name}")
        if found is None:
            raise _Refused(f"'{module}.{name}'")
        return found


def read(path: Path) -> Any:
    """The value of a pickle file, with stand-ins in it.

    Raises DataError for a name that arrays are not made of, for what costs more than its bytes, and for a damaged file.
    """
    try:
        data = path.read_bytes()
        _check_cost(data)
        return _Unpickler(io.BytesIO(data), encoding="latin-1").load()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except _Refused as refused:
        raise DataError(
            f"{path} is refused: it asks for {refused}, and only arrays of numbers, CSR matrices and lists of numbers "
            "are read. Do not load this file elsewhere unless you trust who made it."
        ) from refused
    except (
        OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError,
        pickle.UnpicklingError,
    ) as error:  # fmt: skip
        raise DataError(
            f"{path} cannot be read as a pickle of arrays ({error}). Fetch the file again."
        ) from error


def _check_cost(data: bytes) -> None:
    """Raise ValueError for what takes more time or memory than the bytes of the file account for."""
    kept: dict[int, str] = {}  # place of the memo → operation that made its value
    tuples, last = 0, ""
    operation: Any
    argument: Any
    for operation, argument, _ in pickletools.genops(data):
        name = operation.name
        if name.endswith("PUT") or name == "MEMOIZE":
            place = len(kept) if name == "MEMOIZE" else argument
            if place > len(data):
                raise ValueError(f"place {place:,} of the memo in a file of {len(data):,} bytes")
            kept[place] = last
            continue
        if name == "DUP" or (name.endswith("GET") and not SHAREABLE.fullmatch(kept.get(argument, ""))):
            raise ValueError("a list, tuple or dict in two places; expected each in one")
        tuples += name.startswith("TUPLE")
        if tuples > TUPLES:
            raise ValueError(f"more than {TUPLES} tuples")
        last = name


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
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise DataError(f"{path} holds no {what.partition(' ')[2]} ({error}); expected {what}") from error


def _array(found: Any) -> Array:
    _expect(found, _Array, "array")
    _, shape, kind, column_wise, values = found.state
    _expect(kind, _Kind, "kind of elements")
    code, order = kind.arguments[0], kind.state[1]
    if not (isinstance(code, str) and isinstance(order, str)):
        raise ValueError("elements of no kind")
    if not NUMBERS.fullmatch(code) or order not in ("<", ">", "|"):
        raise ValueError(f"elements of kind {order}{code}")
    shape = _shape(shape)
    raw = values.encode("latin-1") if isinstance(values, str) else values  # str in files of Python 2
    if not isinstance(raw, bytes):
        raise ValueError("values that are no bytes")
    numbers = np.frombuffer(raw, np.dtype(order.replace("|", "=") + code))
    if numbers.size != math.prod(shape):
        raise ValueError(f"{numbers.size} values for the shape {shape}")
    return numbers.reshape(shape, order="F" if column_wise else "C").astype(numbers.dtype.newbyteorder("="))


def _shape(found: Any) -> tuple[int, ...]:
    if not (isinstance(found, tuple) and len(found) in (1, 2) and _all_whole(found) and min(found) >= 0):
        raise ValueError("a shape that is not one or two whole numbers from 0 on")
    return found


def _csr(found: Any) -> csr_matrix:
    _expect(found, _Matrix, "CSR matrix")
    parts = [_array(found.state[name]) for name in ("data", "indices", "indptr")]
    matrix = csr_matrix(tuple(parts), shape=_shape(found.state["_shape"]))
    matrix.check_format(full_check=True)
    return matrix


def _neighbours(found: Any) -> tuple[Array, Array]:
    _expect(found, _Mapping, "mapping")
    lists = list(found.values())
    if not (_all_whole(found) and all(type(each) is list and _all_whole(each) for each in lists)):
        raise ValueError("a node that is no number, or whose neighbours are no list of numbers")
    nodes = np.repeat(np.array(list(found), np.int64), [len(each) for each in lists])
    return nodes, np.array([one for each in lists for one in each], np.int64)


def _all_whole(values: Iterable[Any]) -> bool:
    return all(type(value) is int for value in values)


def _expect(found: Any, kind: type, what: str) -> None:
    if type(found) is not kind:
        raise ValueError(f"no {what} where one should be")
