"""Nodes that are added to an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType, Value

Pair = tuple[Value, Value]


class Nodes:
    """Adds nodes to a graph; every value gets a name of its own."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph, self.count = graph, 0
        self.tape = self.main = ir.tape.Tape(graph)

    def op(self, kind: str, *inputs: Value, domain: str = "", **attributes: Any) -> Value:
        """One node with one output."""
        return self.tape.op(kind, inputs, attributes, domain=domain, output=ir.val(self.name(kind)))

    def name(self, kind: str) -> str:
        """A name that no value of the model has."""
        self.count += 1
        return f"recloom/{kind}_{self.count}"

    def constant(self, array: np.ndarray[Any, Any]) -> Value:
        """A tensor of the file."""
        return self.main.initializer(ir.tensor(array, name=self.name("constant")))

    def ints(self, *values: int, scalar: bool = True) -> Value:
        """An int64 vector; one value is a scalar unless told otherwise."""
        return self.constant(np.array(values[0] if scalar and len(values) == 1 else values, dtype=np.int64))

    def vector(self, value: int) -> Value:
        """An int64 vector of one value."""
        return self.ints(value, scalar=False)

    def branch(self, condition: Value, then: Callable[[], Pair], otherwise: Callable[[], Pair]) -> Pair:
        """Scores and columns, made by nodes that run only if the condition holds, or by others."""
        outer, graphs = self.tape, {}
        for name, make in (("then_branch", then), ("else_branch", otherwise)):
            inside = ir.Graph([], [], nodes=[], name=self.name(name))
            self.tape = ir.tape.Tape(inside)
            made = make()
            for value, kind in zip(made, (DataType.FLOAT, DataType.INT64), strict=True):
                value.dtype = kind
            inside.outputs.extend(made)
            graphs[name] = inside
        self.tape = outer
        scores, places = ir.val(self.name("best")), ir.val(self.name("place"))
        self.tape.op_multi_out("If", [condition], graphs, outputs=[scores, places])
        return scores, places
