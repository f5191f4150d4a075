"""int8 weights for a graph from indices to scores: a quarter of the size, and large products in integers.

A weight becomes codes of -127 to 127 with a float scale, max|w| / 127, for each row of a table and for each output
of a product. Rows become float behind the look-up, so the table itself stays int8; where it is the item matrix of
a product too, the product reads the same codes.

    y = (q(x) W8) s_x s_W,   s_x = max|x| / 63 for each row of x,   q rounds x / s_x to -63..63

`onnxruntime.quantization` gives the activations of a whole batch one scale, so that a request's list depends on
the requests beside it, and stores a table once for each use. x has seven bits because processors without VNNI add
two products in 16 bits: 2 * 127 * 127 fits there, so every processor finds the same list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType, Node, Value

from ..artifact.ids import Array

LEAST_PRODUCT = 65_536
"""Numbers in a matrix from which its product is computed in integers: finding the scales of x takes its time."""
CENTRE = 64


class Codes(NamedTuple):
    """A weight as int8, or what was chosen of its rows."""

    values: Value
    scale: Value
    """float32, of the same shape but for 1 along the axis whose numbers share it: the last, or the first."""
    flipped: bool
    """Whether that is the first, and the numbers of a column share a scale."""


def to_int8(graph: ir.Graph, weights: Iterable[Value]) -> None:
    """Store float32 weights of two or more axes as int8, in place."""
    rewriting = _IntegerProducts(graph)
    for weight in weights:
        rewriting.store(weight)


def coded(matrix: Array, axis: int) -> tuple[Array, Array]:
    """int8 codes of a matrix, and its scales: one for all numbers along `axis`, which is kept with size 1."""
    most = np.abs(matrix).max(axis, keepdims=True)
    scale = np.where(most > 0, most, 1).astype(np.float32) / np.float32(127)
    return np.round(matrix / scale).astype(np.int8), scale


class _IntegerProducts:
    """Adds nodes to a graph in place of others; every value gets a name of its own."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph, self.tape, self.count = graph, ir.tape.Tape(graph), 0
        self.known: dict[Value, tuple[Value, Value]] = {}

    def store(self, weight: Value) -> None:
        """Put codes in the place of a weight."""
        matrix = weight.const_value.numpy()  # type: ignore[union-attr]
        flipped = all(_multiplies(*use, flipped=True) for use in weight.uses())
        values, scale = map(self.constant, coded(matrix, 0 if flipped else -1))
        self.follow(weight, Codes(values, scale, flipped), matrix.size >= LEAST_PRODUCT)

    def follow(self, value: Value, codes: Codes, large: bool) -> None:
        """Let all that reads `value` read its codes, and floats where codes do not do."""
        floats = []
        for node, index in list(value.uses()):
            if index == 0 and _chooses_rows(node) and not codes.flipped:
                self.follow(node.outputs[0], self.moved(node, codes, False), large)
            elif _flips(node):
                self.follow(node.outputs[0], self.moved(node, codes, not codes.flipped), large)
            elif large and _multiplies(node, index, codes.flipped):
                self.product(node, codes)
            else:
                floats.append((node, index))
        if not floats and not value.is_graph_output():
            return
        plain = self.op("Mul", self.op("Cast", codes.values, to=DataType.FLOAT.value), codes.scale)
        for node, index in floats:
            node.replace_input_with(index, plain)
        if value.is_graph_output():
            value.replace_all_uses_with(plain, replace_graph_outputs=True)

    def moved(self, node: Node, codes: Codes, flipped: bool) -> Codes:
        """What a node that chooses rows, or flips a matrix, makes of codes and scales."""
        rest, options = node.inputs[1:], node.attributes
        values, scale = (self.op(node.op_type, part, *rest, **options) for part in codes[:2])
        return Codes(values, scale, flipped)

    def product(self, node: Node, codes: Codes) -> None:
        """Compute (q(x) W8) s_x s_W, and + b, in the place of a product (..., K) x (K, M)."""
        x, _, *bias = node.inputs
        assert x is not None
        values, scales = codes.values, codes.scale
        if not codes.flipped:  # Gemm flips its matrix itself
            values, scales = (self.op("Transpose", part, perm=[1, 0]) for part in codes[:2])
        q, scale = self.quantized(x)
        centre = self.constant(np.array(CENTRE, np.uint8))
        sums = self.op("MatMulInteger", q, values, centre)  # (rows, M) int32
        found = self.op("Mul", self.op("DequantizeLinear", sums, scale, axis=0), scales)
        if _rank(x) != 2:
            before, last = self.op("Shape", x, end=-1), self.op("Shape", scales, start=1)
            found = self.op("Reshape", found, self.op("Concat", before, last, axis=0))
        if bias and bias[0] is not None:
            found = self.op("Add", found, bias[0])
        node.outputs[0].replace_all_uses_with(found, replace_graph_outputs=True)

    def quantized(self, x: Value) -> tuple[Value, Value]:
        """q(x) + CENTRE (rows, K) as uint8, and s_x (rows,); once for all products that read x."""
        if x not in self.known:
            flat = x
            if _rank(x) != 2:
                width = self.op("Concat", self.ints(-1), self.op("Shape", x, start=-1), axis=0)
                flat = self.op("Reshape", x, width)
            most = self.op("ReduceMax", self.op("Abs", flat), self.ints(1), keepdims=0)
            some = self.op("Max", most, self.constant(np.array(1e-12, np.float32)))  # a row may be all 0
            scale = self.op("Mul", some, self.constant(np.array(1 / (CENTRE - 1), np.float32)))
            centre = self.op("Expand", self.constant(np.array(CENTRE, np.uint8)), self.op("Shape", scale))
            self.known[x] = self.op("QuantizeLinear", flat, scale, centre, axis=0), scale
        return self.known[x]

    def op(self, kind: str, *inputs: Value | None, **attributes: Any) -> Value:
        """One node with one output."""
        return self.tape.op(kind, inputs, attributes, output=ir.val(self.name(kind)))

    def constant(self, array: Array) -> Value:
        """A tensor of the file."""
        return self.tape.initializer(ir.tensor(array, name=self.name("constant")))

    def ints(self, *values: int) -> Value:
        """An int64 vector."""
        return self.constant(np.array(values, np.int64))

    def name(self, kind: str) -> str:
        """A name that no value of the model has."""
        self.count += 1
        return f"int8/{kind}_{self.count}"


def _chooses_rows(node: Node) -> bool:
    """Whether it takes rows of its first input, its first axis, as they are."""
    if node.op_type == "Gather":
        return bool(_attribute(node, "axis", 0) == 0)
    if node.op_type == "GatherND":
        index = node.inputs[1]
        one = index is not None and index.shape is not None and index.shape[-1] == 1
        return one and _attribute(node, "batch_dims", 0) == 0
    if node.op_type == "Slice" and len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = ir.convenience.get_const_tensor(node.inputs[3])
        return axes is not None and bool(axes.numpy().tolist() == [0])
    return False


def _flips(node: Node) -> bool:
    return node.op_type == "Transpose" and tuple(_attribute(node, "perm", ())) == (1, 0)


def _multiplies(node: Node, index: int, flipped: bool) -> bool:
    """Whether its input `index` is a matrix each of whose outputs has a scale of its own."""
    if index != 1:
        return False
    if node.op_type == "Gemm" and not _attribute(node, "transA", 0):
        plain = _attribute(node, "alpha", 1.0) == _attribute(node, "beta", 1.0) == 1.0
        return plain and flipped == (not _attribute(node, "transB", 0))
    matrix = node.inputs[1]
    return node.op_type == "MatMul" and flipped and matrix is not None and _rank(matrix) == 2


def _attribute(node: Node, name: str, default: Any) -> Any:
    found = node.attributes.get(name)
    return default if found is None else found.value


def _rank(value: Value) -> int | None:
    return None if value.shape is None else len(value.shape)
