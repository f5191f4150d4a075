"""int8 and half-precision weights: what is stored, what is computed, and what must stay as it is."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import polars as pl
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from recloom.batch import Batch
from recloom.errors import RecloomError
from recloom.recommender import Recommender, VectorRecommender
from recloom_onnx.artifact.ids import padded
from recloom_onnx.artifact.manifest import read_manifest
from recloom_onnx.artifact.session import Session
from recloom_onnx.batch.run import recommend_file
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.exporting.half import halved, to_half
from recloom_onnx.exporting.int8 import coded
from recloom_onnx.exporting.quantize import reduce_precision
from recloom_onnx.exporting.triton import write_triton
from recloom_onnx.verification.cases import indexed, indices, random_requests
from recloom_onnx.verification.reference import reference_scores
from recloom_onnx.verification.verify import verify_artefact
from torch import nn

from .conftest import expected, found, pass_by_users

DIM = 1100
"""61 items of so many numbers: the table is large enough for products of integers."""


class Wide(VectorRecommender):
    """The last known item's neighbours, by one table that is looked up and multiplied."""

    def __init__(self, catalog):
        super().__init__(catalog)
        self.table = nn.Embedding(self.num_items + 1, DIM)

    def item_vectors(self):
        return self.table.weight

    def query(self, batch: Batch):
        return self.table(batch.history[:, -1])


class Layers(Wide):
    """The same behind a layer for each position and one for the request."""

    def __init__(self, catalog):
        super().__init__(catalog)
        self.each, self.whole = nn.Linear(DIM, 64), nn.Linear(64, DIM)

    def query(self, batch: Batch):
        read = torch.relu(self.each(self.table(batch.history)))  # (B, L, 64)
        return self.whole((read * (batch.history > 0)[:, :, None]).sum(1))


class Ages(Recommender):
    """Old items count less; seconds do not fit half precision."""

    inputs = ("history", "history_time", "request_time")

    def __init__(self, catalog):
        super().__init__(catalog)
        self.similar = nn.Parameter(torch.randn(self.num_items + 1, 100))
        self.items = nn.Parameter(torch.randn(100, self.num_items + 1) / 10)

    def score(self, batch: Batch):
        age = (batch.request_time[:, None] - batch.history_time).float() / 1e8
        fresh = torch.exp(-age) * (batch.history > 0)  # (B, L)
        read = (self.similar[batch.history] * fresh[:, :, None]).sum(1)
        return (read @ self.items)[:, batch.candidates[0]]


@pytest.fixture
def export(catalog, popularity, tmp_path):
    """Export a model of a class in a precision: its recommender, its path."""

    def made(kind, quantize=None):
        torch.manual_seed(0)
        recommender, path = kind(catalog).eval(), tmp_path / f"{quantize}.onnx"
        export_artefact(recommender, catalog, popularity, path, quantize=quantize)
        return recommender, path

    return made


def constants(path):
    """(type, numbers) of every constant matrix of a file."""
    graph = onnx.load(str(path)).graph
    return [(one.data_type, int(np.prod(one.dims))) for one in graph.initializer if len(one.dims) > 1]


def scores(path, given, rows=None):
    """(B, N) scores by item index, -inf where an item is hidden."""
    session = Session(path, threads=1, allow_unverified=True)
    ids, found = session.run(
        {name: array[:rows] for name, array in given.items()}, session.manifest.num_items
    )
    return ids, found


def test_rows_and_columns_by_hand():
    matrix = np.array([[1.27, -0.63], [0.0, 0.0], [0.02, 0.03]], np.float32)
    codes, scale = coded(matrix, 1)
    assert codes.dtype == np.int8
    assert codes.tolist() == [[127, -63], [0, 0], [85, 127]]
    assert scale[:, 0] == pytest.approx([0.01, 1 / 127, 0.03 / 127])
    codes, scale = coded(matrix, 0)
    assert codes.tolist() == [[127, -127], [0, 0], [2, 6]]
    assert scale.shape == (1, 2)
    assert np.abs(codes * scale - matrix).max() <= scale.max() / 2


def test_a_table_is_stored_once_and_the_file_is_smaller(export):
    _, whole = export(Wide)
    _, small = export(Wide, "int8")
    assert constants(whole).count((TensorProto.FLOAT, 61 * DIM)) == 1
    large = [(kind, size) for kind, size in constants(small) if size >= 4096]
    assert large == [(TensorProto.INT8, 61 * DIM)]
    kinds = [node.op_type for node in onnx.load(str(small)).graph.node]
    assert kinds.count("MatMulInteger") == 1
    assert "MatMul" not in kinds
    assert whole.stat().st_size - small.stat().st_size > 0.7 * 4 * 61 * DIM
    assert (read_manifest(whole).precision, read_manifest(small).precision) == ("fp32", "int8")


def test_the_score_is_the_published_product(export, catalog):
    """(q(x) W8) s_x s_W, with x of 7 bits."""
    recommender, path = export(Wide, "int8")
    codes, scale = coded(recommender.table.weight.detach().numpy(), 1)
    x = codes[5] * scale[5]
    step = np.abs(x).max() / 63
    wanted = (np.round(x / step).astype(np.int64) @ codes.T.astype(np.int64)) * step * scale[:, 0]
    history = np.array([[catalog.items["item_id"][4]]], dtype=object)
    ids, found = scores(path, {"history": history})
    order = indices(ids[:, :59], catalog.item_index)[0].numpy()
    assert sorted(order) == [index for index in range(1, 61) if index != 5]
    assert found[0, :59] == pytest.approx(wanted[order], rel=1e-5, abs=1e-5)
    assert recommender.item_vectors()[5].detach().numpy() != pytest.approx(x, abs=1e-4)


@pytest.mark.parametrize("kind", [Wide, Layers])
def test_a_list_does_not_depend_on_the_requests_beside_it(export, catalog, kind):
    _, path = export(kind, "int8")
    given = random_requests(catalog, 16, 6, np.random.default_rng(0))
    given = {name: given[name] for name in ("history", "blocked")}
    together = scores(path, given)[1]
    for row in range(3):
        alone = {name: array[row : row + 1] for name, array in given.items()}
        assert scores(path, alone)[1][0] == pytest.approx(together[row], rel=1e-4, abs=1e-4)


def test_layers_become_integers_with_and_without_positions(export, catalog):
    recommender, path = export(Layers, "int8")
    kinds = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert kinds.count("MatMulInteger") == 3
    assert not {"MatMul", "Gemm"} & set(kinds)
    onnx.checker.check_model(str(path), full_check=True)
    given = random_requests(catalog, 8, 6, np.random.default_rng(0))
    ids, found = scores(path, {"history": given["history"]})
    index = indices(given["history"], catalog.item_index)
    with torch.no_grad():
        wanted = recommender.score(Batch.of(index, torch.arange(1, 61)[None])).numpy()
    place = indices(ids, catalog.item_index).numpy()
    known = index.any(1).numpy()[:, None] & (place > 0)
    near = np.take_along_axis(wanted, (place - 1).clip(0), 1)
    assert known.sum() > 300
    assert np.abs(found - near)[known].max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("precision", ["int8", "fp16"])
@pytest.mark.parametrize("name", ["positions", "linear", "users", "few times"])
def test_every_shape_of_model_keeps_its_masks_and_most_of_its_ranks(
    artefact, name, precision, tmp_path, monkeypatch
):
    monkeypatch.setattr("recloom_onnx.exporting.quantize.LEAST", 1)
    monkeypatch.setattr("recloom_onnx.exporting.int8.LEAST_PRODUCT", 1)
    made, path = artefact(name), tmp_path / "model.onnx"
    export_artefact(made.recommender, made.catalog, made.popularity, path, quantize=precision)
    users = torch.Generator().manual_seed(0)
    history = torch.randint(0, 61, (128, 9), generator=users)
    with torch.no_grad():
        free = torch.ones(128, 60, dtype=torch.bool)
        wanted = made.reference(Batch.of(history, user=history[:, 0] % 4), history[:, :0], free)
    batch = Batch.of(history, user=history[:, 0] % 4, labels=wanted.argmax(1, keepdim=True) + 1)
    parity = verify_artefact(path, made.reference, made.catalog, [batch], max_loss=0.1)
    assert parity.failures == []
    assert parity.artefact["ndcg@10"] > 0.9
    assert parity.overlap > 0.85
    assert parity.max_difference > 1e-6


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_model_with_nothing_to_quantise_says_so(artefact, catalog, popularity, precision, tmp_path):
    for name in ("positions", "counts"):
        with pytest.raises(RecloomError, match=r"nothing to quantise: the model has no matrix of 4,096"):
            export_artefact(
                artefact(name).recommender, catalog, popularity, tmp_path / "m.onnx", quantize=precision
            )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [Wide, Layers, Ages])
def test_half_precision_is_within_and_scores_are_float32(export, catalog, popularity, kind):
    recommender, path = export(kind, "fp16")
    assert all(kind == TensorProto.FLOAT16 for kind, size in constants(path) if size >= 4096)
    assert TensorProto.FLOAT16 in [kind for kind, _ in constants(path)]
    onnx.checker.check_model(str(path), full_check=True)
    outputs = {one.name: one.type.tensor_type.elem_type for one in onnx.load(str(path)).graph.output}
    assert outputs == {"item_id": TensorProto.STRING, "score": TensorProto.FLOAT}
    reference = partial(reference_scores, recommender, popularity)
    parity = verify_artefact(path, reference, catalog)
    largest = _largest(reference, catalog)
    assert (
        0 < parity.max_difference < 5e-3 * largest
    )  # float16 rounds by 5e-4; what is missing is the test users
    assert parity.failures[0].startswith("whether more than 1.00% of the NDCG@10 is lost cannot be decided")


def _largest(reference, catalog) -> float:
    """Size of the scores of some requests."""
    given = random_requests(catalog, 64, 20, np.random.default_rng(0))
    with torch.no_grad():
        scores = reference(*indexed(given, catalog))
    return float(scores[scores.isfinite()].abs().max())


def test_halves_by_hand():
    found = halved(np.array([1e-9, -1e-9, -1e9, 0.0, np.inf, 1.5], np.float32))
    assert found.dtype == np.float16
    assert found.tolist() == [2.0**-24, -(2.0**-24), -30000.0, 0.0, np.inf, 1.5]


def test_sums_run_in_float32_and_products_in_half():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Relu", ["product"], ["kept"]),
        helper.make_node("Exp", ["kept"], ["wide"]),
        helper.make_node("Add", ["wide", "b"], ["y"]),
    ]
    types = {"x": [2, 3], "y": [2, 3]}
    ports = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in types.items()
    }
    weights = [
        numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in (("w", (3, 3)), ("b", (3,)))
    ]
    between = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("product", "kept", "wide")
    ]
    graph = helper.make_graph(nodes, "g", [ports["x"]], [ports["y"]], weights, value_info=between)
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    to_half(model.graph)
    types = {value.name: value.dtype for node in model.graph for value in node.outputs}
    assert types["product"] == types["kept"] == ir.DataType.FLOAT16
    assert types["wide"] == types["y"] == ir.DataType.FLOAT


def test_a_branch_has_no_half_precision():
    branch = helper.make_graph([], "b", [], [])
    node = helper.make_node("If", ["c"], [], then_branch=branch, else_branch=branch)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    graph = helper.make_graph([node], "g", [condition], [], [weight])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))
    with pytest.raises(RecloomError, match=r"has a branch or a loop \(If\).*without --quantize fp16"):
        reduce_precision(model, "fp16")


def test_an_int8_artefact_answers_files_and_joined_requests_as_its_session_does(
    catalog, popularity, tmp_path
):
    torch.manual_seed(0)
    recommender, path = Layers(catalog).eval(), tmp_path / "m.onnx"
    export_artefact(recommender, catalog, popularity, path, quantize="int8")
    pass_by_users(path, recommender, popularity, catalog)
    histories = [["7", "07"], [], ["item 1"], ["unknown", "item 2"]]
    pl.DataFrame({"user_id": ["a", "b", "c", "d"], "history": histories}).write_parquet(
        tmp_path / "u.parquet"
    )
    recommend_file(path, tmp_path / "u.parquet", tmp_path / "lists.parquet", k=5)
    alone = [expected(path, 5, [row])[0] for row in histories]
    assert [*found(tmp_path / "lists.parquet").values()] == alone
    graph = onnxruntime.InferenceSession(str(write_triton(path, tmp_path / "models", "shop") / "model.onnx"))
    given = {"history": padded(histories, "string"), "k": np.full((4, 1), 5)}
    blank = np.full((4, 1), "", object)
    ids, scores = graph.run(["item_id", "score"], given | {"blocked": blank, "allowed": blank})
    lists = [
        [*zip(*row, strict=True)] for row in zip(ids[:, :5].tolist(), scores[:, :5].tolist(), strict=True)
    ]
    assert lists == alone
