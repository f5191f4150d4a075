"""Row-wise int8 quantisation of an ONNX text encoder, whose vectors stay a function of their own text alone.

onnxruntime's `quantize_dynamic` gives a tensor of activations one scale, the whole batch's: a text's vector then
depends on its neighbours (cosine down to .98 with all-MiniLM-L6-v2). Here every token has a scale of its own,

    y = (q(x) W8) * s_x * s_W,   s_x = max|x| / 63 per token (row),   s_W = max|W| / 127 per output (column),

q rounds x / s_x to -63..63. x has seven bits because processors without VNNI add two products in 16 bits:
2 * 127 * 127 fits there, so products of integers are exact on every processor. Large embedding tables are int8 by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

TABLE = 1000
"""Rows from which an embedding table is stored as int8."""
PREFIX = "int8"
CENTRE = 64
"""What is added to the codes of x, so that they are unsigned."""


def quantize(model: onnx.ModelProto) -> int:
    """Replace products with constant matrices, in place; returns how many there were."""
    return _Rewriting(model).run()


class _Rewriting:
    """The nodes of a graph, written anew."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.quantized: set[str] = set()
        self.count = 0

    def run(self) -> int:
        for node in self.graph.node:
            names = list(node.input)
            if node.op_type == "MatMul" and names[1] in self.weights:
                self._product(node)
            elif node.op_type == "Gather" and names[0] in self.weights and self._is_table(names[0]):
                self._lookup(node)
            else:
                self.nodes.append(node)
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        for field, values in (
            (self.graph.node, self.nodes),
            (self.graph.initializer, [*kept, *self.constants.values()]),
        ):
            del field[:]
            field.extend(values)
        return self.count

    def _product(self, node: onnx.NodeProto) -> None:
        x, w = node.input
        (out,) = node.output
        matrix = numpy_helper.to_array(self.weights[w]).astype(np.float32)  # (K, M)
        codes, scale = _codes(matrix, axis=0)
        q = self._activations(x, matrix.shape[0])
        weight, scales = self._constant(f"{w}/codes", codes), self._constant(f"{w}/scale", scale[0])
        self._add("MatMulInteger", [f"{q}/codes", weight, self._zero()], f"{out}/{PREFIX}/sum")
        self._add("DequantizeLinear", [f"{out}/{PREFIX}/sum", f"{q}/scale"], f"{out}/{PREFIX}/rows", axis=0)
        self._add("Mul", [f"{out}/{PREFIX}/rows", scales], f"{out}/{PREFIX}/flat")
        self._add("Reshape", [f"{out}/{PREFIX}/flat", self._shape(x, matrix.shape[1])], out)
        self.count += 1

    def _activations(self, x: str, width: int) -> str:
        """Codes and scales of the rows of x, once for all that multiply it; returns the stem of their names."""
        q = f"{x}/{PREFIX}"
        if x in self.quantized:
            return q
        self.quantized.add(x)
        last = self._constant(f"{PREFIX}/last", np.array([1], np.int64))
        flat = self._constant(f"{PREFIX}/flat{width}", np.array([-1, width], np.int64))
        self._add("Reshape", [x, flat], f"{q}/flat")  # (rows, K)
        self._add("ReduceMax", [f"{q}/flat", last], f"{q}/max", keepdims=0)
        self._add("ReduceMin", [f"{q}/flat", last], f"{q}/min", keepdims=0)
        self._add("Neg", [f"{q}/min"], f"{q}/negative")
        tiny = self._constant(f"{PREFIX}/tiny", np.float32(1e-12))
        self._add("Max", [f"{q}/max", f"{q}/negative", tiny], f"{q}/range")
        step = self._constant(f"{PREFIX}/step", np.float32(1 / (CENTRE - 1)))
        self._add("Mul", [f"{q}/range", step], f"{q}/scale")  # (rows,)
        self._add("Shape", [f"{q}/scale"], f"{q}/count")
        self._add("Expand", [self._zero(), f"{q}/count"], f"{q}/zero")
        self._add("QuantizeLinear", [f"{q}/flat", f"{q}/scale", f"{q}/zero"], f"{q}/codes", axis=0)
        return q

    def _lookup(self, node: onnx.NodeProto) -> None:
        table, rows = node.input
        (out,) = node.output
        codes, scale = _codes(numpy_helper.to_array(self.weights[table]).astype(np.float32), axis=1)
        self._add("Gather", [self._constant(f"{table}/codes", codes), rows], f"{out}/{PREFIX}/codes")
        self._add("Gather", [self._constant(f"{table}/scale", scale), rows], f"{out}/{PREFIX}/scale")
        self._add("Cast", [f"{out}/{PREFIX}/codes"], f"{out}/{PREFIX}/float", to=onnx.TensorProto.FLOAT)
        self._add("Mul", [f"{out}/{PREFIX}/float", f"{out}/{PREFIX}/scale"], out)

    def _is_table(self, name: str) -> bool:
        tensor = self.weights[name]
        return (
            len(tensor.dims) == 2 and tensor.dims[0] >= TABLE and tensor.data_type == onnx.TensorProto.FLOAT
        )

    def _zero(self) -> str:
        return self._constant(f"{PREFIX}/zero", np.array(CENTRE, np.uint8))

    def _shape(self, x: str, width: int) -> str:
        """Name of the shape of x with another last size."""
        name = f"{x}/{PREFIX}/shape{width}"
        if name not in self.quantized:
            self.quantized.add(name)
            size = self._constant(f"{PREFIX}/size{width}", np.array([width], np.int64))
            self._add("Shape", [x], f"{name}/before", end=-1)
            self._add("Concat", [f"{name}/before", size], name, axis=0)
        return name

    def _constant(self, name: str, value: Any) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))


def _codes(matrix: Any, axis: int) -> tuple[Any, Any]:
    """int8 codes and float32 scales of the vectors along `axis`, which is kept with size 1."""
    scale = np.maximum(np.abs(matrix).max(axis, keepdims=True), 1e-12) / 127
    return np.round(matrix / scale).astype(np.int8), scale.astype(np.float32)
