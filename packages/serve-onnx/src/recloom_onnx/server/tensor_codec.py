"""Tensors as the Open Inference Protocol writes them: in JSON, or as bytes behind it.

A tensor of BYTES is, for each element, its length as four bytes (little-endian) and the element in UTF-8.
JSON has no infinity. A score where nothing is left, -inf, is written there as the lowest float32; in bytes it is
-inf. (Triton writes `-Infinity`, which is not JSON.)
"""

from __future__ import annotations

import math
from itertools import chain
from struct import Struct
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field, StrictInt, StrictStr

from ..artifact.ids import Array
from ..artifact.manifest import Port
from .http_errors import HttpError, brief
from .validation import check_text

DATATYPES = {"string": "BYTES", "int64": "INT64", "float32": "FP32"}
ELEMENTS: dict[str, tuple[set[type], str]] = {
    "string": ({str}, "text"),
    "int64": ({int}, "whole numbers"),
    "float32": ({float, int, type(None)}, "numbers, or null for none,"),
}
"""Types of JSON that the elements of an input may have, and their word in messages."""
LENGTH = Struct("<I")
Size = Annotated[StrictInt, Field(ge=0, lt=2**31)]
Parameters = dict[str, Any]


class InputTensor(BaseModel):
    """One input of a request."""

    name: StrictStr
    shape: list[Size] = Field(max_length=8)
    datatype: StrictStr
    parameters: Parameters | None = None
    data: list[Any] | None = None
    """Row-major, nested or flat; absent where the tensor follows the JSON as bytes."""


class OutputTensor(BaseModel):
    """An output that is asked for."""

    name: StrictStr
    parameters: Parameters | None = None


class InferRequest(BaseModel):
    """A request of the protocol."""

    id: StrictStr | None = None
    parameters: Parameters | None = None
    inputs: list[InputTensor] = Field(max_length=32)
    outputs: list[OutputTensor] | None = Field(None, max_length=32)


def read_tensor(tensor: InputTensor, port: Port, raw: bytes | None) -> Array:
    """The array of a tensor; HttpError where it is not what the model's input is.

    Args:
        tensor: its description, and its data where they are JSON.
        port: the input.
        raw: its bytes, where it has them.
    """
    expected = DATATYPES[port.type]
    if tensor.datatype != expected:
        raise HttpError(f"input {port.name}: expected datatype {expected}, found {brief(tensor.datatype)}")
    sizes = [size if isinstance(size, int) else -1 for size in port.shape]
    fits = len(sizes) == len(tensor.shape) and all(
        size in (-1, found) for size, found in zip(sizes, tensor.shape, strict=True)
    )
    if not fits:
        raise HttpError(f"input {port.name}: expected shape {sizes} (-1 = any), found {tensor.shape}")
    count = math.prod(tensor.shape)
    if raw is not None:
        return _from_bytes(raw, count, port).reshape(tensor.shape)
    if tensor.data is None:
        raise HttpError(f"input {port.name} has neither data nor binary_data_size; send one of them")
    return _from_json(_flat(tensor.data, tensor.shape, port.name), count, port).reshape(tensor.shape)


def _flat(data: list[Any], shape: list[int], name: str) -> list[Any]:
    """Elements in row-major order; only where the rows are given as lists, their lengths are checked."""
    if len(shape) < 2 or not data or not isinstance(data[0], list):
        return data
    lengths = {len(row) if isinstance(row, list) else None for row in data}
    if len(data) != shape[0] or lengths != {shape[1]}:
        raise HttpError(
            f"input {name}: the lists in data are not of shape {shape}; expected {shape[0]} of {shape[1]}"
        )
    return list(chain.from_iterable(data))


def _from_json(values: list[Any], count: int, port: Port) -> Array:
    if len(values) != count:
        raise HttpError(f"input {port.name}: expected {count} elements for its shape, found {len(values)}")
    kinds, word = ELEMENTS[port.type]
    if {*map(type, values)} - kinds:
        odd = next(value for value in values if type(value) not in kinds)
        raise HttpError(f"input {port.name}: expected {word} as elements, found {brief(odd)}")
    if port.type == "string":
        check_text(values, port.name)
        return np.fromiter(values, object, count)
    if port.type == "float32":
        return np.array([math.nan if value is None else value for value in values], np.float32)
    try:
        return np.array(values, np.int64)
    except OverflowError as error:
        raise HttpError(f"input {port.name}: a number is beyond the 64 bits of INT64") from error


def _from_bytes(raw: bytes, count: int, port: Port) -> Array:
    if port.type != "string":
        numbers = np.dtype("<i8" if port.type == "int64" else "<f4")
        size = numbers.itemsize * count
        if len(raw) != size:
            raise HttpError(f"input {port.name}: expected {size} bytes for its shape, found {len(raw)}")
        return np.frombuffer(raw, numbers)
    values: list[bytes] = []
    at = 0
    while at + LENGTH.size <= len(raw) and len(values) <= count:
        end = at + LENGTH.size + LENGTH.unpack_from(raw, at)[0]
        values.append(raw[at + LENGTH.size : end])
        at = end
    if at != len(raw) or len(values) != count:
        raise HttpError(
            f"input {port.name}: its {len(raw)} bytes are not {count} elements, each a length in 4 bytes and as much "
            "text"
        )
    try:
        texts = [value.decode() for value in values]
    except UnicodeDecodeError as error:
        raise HttpError(f"input {port.name}: an element is not UTF-8: {brief(repr(error.object))}") from error
    check_text(texts, port.name)
    return np.fromiter(texts, object, count)


def to_bytes(array: Array) -> bytes:
    """A tensor as bytes."""
    if array.dtype != object:
        return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    values = [text.encode() for text in array.ravel().tolist()]
    return b"".join(chain.from_iterable((LENGTH.pack(len(value)), value) for value in values))


def to_json(array: Array) -> list[Any]:
    """A tensor as a flat list of what JSON can hold."""
    if array.dtype == np.float32:
        lowest, highest = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
        array = np.nan_to_num(array, nan=lowest, posinf=highest, neginf=lowest)
    values: list[Any] = array.ravel().tolist()
    return values
