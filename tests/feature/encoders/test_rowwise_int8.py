"""Products in integers are exact on every processor, and a row depends on itself alone."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra onnx-export is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx-export is not installed")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from recloom_feature.encoders.rowwise_int8 import quantize  # noqa: E402


def product(matrix):
    """A session that multiplies (rows, K) by a constant matrix in integers."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", matrix.shape[0]])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", matrix.shape[1]])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", [x], [y], [numpy_helper.from_array(matrix, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert quantize(model) == 1
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_largest_sums_are_exact(sign):
    """Where two products of 8 bits are added in 16, as without VNNI, they would be cut off here."""
    (found,) = product(np.full((64, 8), 0.5 * sign, np.float32)).run(
        None, {"x": np.ones((3, 64), np.float32)}
    )
    assert found == pytest.approx(np.full((3, 8), 32.0 * sign), rel=1e-5)


def test_a_product_is_that_of_its_codes_row_by_row():
    random = np.random.default_rng(0)
    matrix, x = random.normal(size=(32, 5)).astype(np.float32), random.normal(size=(7, 32)).astype(np.float32)
    x[2] *= 1000
    of_x, of_w = (
        np.abs(part).max(axis, keepdims=True) / most for part, axis, most in ((x, 1, 63), (matrix, 0, 127))
    )
    expected = (np.round(x / of_x) @ np.round(matrix / of_w)) * of_x * of_w
    (found,) = product(matrix).run(None, {"x": x})
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    (alone,) = product(matrix).run(None, {"x": x[:1]})
    assert found[:1] == pytest.approx(alone, rel=1e-6)
