"""Quantisation of a graph from indices to scores: `int8` for processors, `fp16` for GPUs.

The ids, masks and lists around it stay as they are, and scores leave as float32.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType, Value
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from recloom.errors import RecloomError

from .half import to_half
from .int8 import to_int8

LEAST = 4096
"""Numbers in a matrix from which it is stored in fewer bits; smaller ones save nothing that can be seen."""
COPIES = ("Gather", "GatherND", "Slice", "Transpose", "Expand", "ConstantOfShape")


def reduce_precision(model: ir.Model, precision: Literal["int8", "fp16"]) -> None:
    """Turn the weights of a graph into int8 or half precision, in place.

    Raises RecloomError where no weight is worth it.
    """
    LiftConstantsToInitializersPass()(model)
    fold(model)
    weights = [value for value in model.graph.initializers.values() if is_large(value)]
    if not weights:
        raise RecloomError(
            f"nothing to quantise: the model has no matrix of {LEAST:,} or more finite float32 numbers. "
            "Export it without --quantize."
        )
    if precision == "int8":
        to_int8(model.graph, weights)
    else:
        to_half(model.graph)
    model.graph.sort()
    RemoveUnusedNodesPass()(model)


def fold(model: ir.Model) -> None:
    """Compute what follows from weights alone, such as projected item vectors, but copy no weight."""
    from onnxscript.optimizer import fold_constants

    constants = [value.const_value for value in model.graph.initializers.values() if value.const_value]
    largest = max((tensor.size for tensor in constants), default=0) + 1
    fold_constants(
        model,
        onnx_shape_inference=False,
        input_size_limit=largest,
        output_size_limit=largest,
        should_fold=lambda node: False if node.op_type in COPIES else None,
    )


def is_large(value: Value) -> bool:
    """Whether it is a matrix, or a stack of them, of float32 numbers that are worth it."""
    tensor = value.const_value
    if tensor is None or tensor.dtype != DataType.FLOAT or len(tensor.shape) < 2 or tensor.size < LEAST:
        return False
    return bool(np.isfinite(tensor.numpy()).all())
