"""Half precision for a graph from indices to scores: weights and products in float16, sums that need it in float32.

As in torch's autocast, the operator decides: products run in half, what overflows or loses digits (exponentials,
sums, numbers made of integers such as times) in float32, and the rest in the widest of what goes in.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir
from onnx_ir import Attr, AttributeType, DataType, Node, Value
from recloom.errors import RecloomError

from ..artifact.ids import Array

HALF = {"MatMul", "Gemm", "Conv", "Einsum"}
WIDE = {
    "CumSum", "Div", "Exp", "Log", "Pow", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare", "ScatterElements", "ScatterND",
    "Softplus", "Sqrt",
}  # fmt: skip
SMALLEST, LARGEST = 2.0**-24, 30_000.0
"""Sizes of finite constants; float16 ends at 65,504, and a mask of -1e9 must leave room for what is added to it."""


def to_half(graph: ir.Graph) -> None:
    """Turn a graph of float32 into one of mixed precision, in place; its outputs may be float16.

    Raises RecloomError where a node holds a graph of its own.
    """
    rewriting = _HalfPrecision(graph)
    for node in list(graph):
        rewriting.visit(node)


def halved(array: Array) -> Array:
    """To float16; what is finite stays finite, and what is not 0 does not become 0."""
    size = np.abs(array)
    near = np.copysign(size.clip(SMALLEST, LARGEST), array)
    halves: Array = np.where((size > 0) & np.isfinite(array), near, array).astype(np.float16)
    return halves


class _HalfPrecision:
    """Decides node by node, in order."""

    def __init__(self, graph: ir.Graph) -> None:
        self.tape = ir.tape.Tape(graph)
        self.weights = {value for value in graph.initializers.values() if value.dtype == DataType.FLOAT}
        self.copies: dict[tuple[Value, DataType], Value] = {}

    def visit(self, node: Node) -> None:
        """Give a node inputs of one precision, and note that of its outputs."""
        if any(
            attribute.type in (AttributeType.GRAPH, AttributeType.GRAPHS)
            for attribute in node.attributes.values()
        ):
            raise RecloomError(
                f"half precision is not to be had: the model has a branch or a loop ({node.op_type}). Export it "
                "without --quantize fp16."
            )
        if node.op_type in ("Cast", "CastLike"):
            self.cast(node)
            return
        floats = [
            (index, value)
            for index, value in enumerate(node.inputs)
            if value is not None and value.dtype in (DataType.FLOAT, DataType.FLOAT16)
        ]
        if not floats:
            return
        kind = DataType.FLOAT16 if self.in_half(node) else DataType.FLOAT
        for index, value in floats:
            node.replace_input_with(index, self.given(value, kind))
        if kind == DataType.FLOAT16:
            _mark(node.outputs)

    def in_half(self, node: Node) -> bool:
        """Whether the node runs in float16."""
        if node.op_type in HALF:
            return True
        reads = [value for value in node.inputs if value is not None and value not in self.weights]
        wide = any(value.dtype == DataType.FLOAT for value in reads)
        return node.op_type not in WIDE and "dtype" not in node.attributes and not wide

    def cast(self, node: Node) -> None:
        """A truth value, or what is half already, becomes half; other numbers may be too large."""
        source = node.inputs[0]
        assert source is not None
        to = node.attributes.get("to")
        small = source.dtype in (DataType.BOOL, DataType.FLOAT16)
        if to is not None and to.value == DataType.FLOAT.value and small:
            node.attributes["to"] = Attr("to", AttributeType.INT, DataType.FLOAT16.value)
            _mark(node.outputs)

    def given(self, value: Value, kind: DataType) -> Value:
        """The same value in `kind`: a weight converted here, anything else by a node, once."""
        if value.dtype == kind:
            return value
        if (value, kind) not in self.copies:
            name = f"{value.name}/{kind.name.lower()}"
            if value in self.weights:
                assert value.const_value is not None
                made = self.tape.initializer(ir.tensor(halved(value.const_value.numpy()), name=name))
            else:
                made = self.tape.op(
                    "Cast", [value], {"to": kind.value}, output=ir.val(name, kind, value.shape)
                )
            self.copies[value, kind] = made
        return self.copies[value, kind]


def _mark(values: Iterable[Value]) -> None:
    """Mark a float32 value as float16."""
    for value in values:
        if value.dtype == DataType.FLOAT:
            value.dtype = DataType.FLOAT16
