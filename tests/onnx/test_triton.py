"""The model repository is what Triton reads, and its graph gives what the artefact gives, request by request."""

from __future__ import annotations

import importlib.util
import struct
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import polars as pl
import pytest
import torch
from recloom.cli.main import main
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.fitting.fit import fit
from recloom_onnx.artifact.session import Session
from recloom_onnx.exporting import triton
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.exporting.triton import MAX_BATCH, adapt, write_triton
from recloom_onnx.verification.reference import reference_scores
from recloom_onnx.verification.verify import verify_artefact

from .conftest import Positions


@cache
def proto():
    """Triton's protobuf classes; loaded from their file, because their package imports all of grpc."""
    pytest.importorskip("google.protobuf")
    try:
        path = distribution("tritonclient").locate_file("tritonclient/grpc/model_config_pb2.py")
    except PackageNotFoundError:
        pytest.skip("tritonclient is not installed")
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(folder: Path):
    from google.protobuf import text_format

    return text_format.Parse((folder / "config.pbtxt").read_text("utf-8"), proto().ModelConfig())


@pytest.fixture(scope="module")
def integers(tmp_path_factory):
    """An artefact of integer ids, with its weights in a file of their own."""
    path = tmp_path_factory.mktemp("integers") / "model.onnx"
    catalog = Catalog(pl.DataFrame({"item_id": [str(n) for n in range(30)]}))
    torch.manual_seed(0)
    recommender, counts = Positions(catalog).eval(), torch.arange(31).float()
    export_artefact(recommender, catalog, counts, path, ids="integer", inline_limit=0)
    assert verify_artefact(path, partial(reference_scores, recommender, counts), catalog).verified
    return path


def deserialised(raw: bytes) -> list[str]:
    values = []
    while raw:
        (size,) = struct.unpack("<I", raw[:4])
        values.append(raw[4 : 4 + size].decode())
        raw = raw[4 + size :]
    return values


@pytest.mark.parametrize("name", ["positions", "times", "counts", "integers"])
def test_the_configuration_is_that_of_the_graph(passed, integers, tmp_path, name):
    path = integers if name == "integers" else passed(name)
    assert write_triton(path, tmp_path / "models", "shop") == tmp_path / "models" / "shop" / "1"
    config = read(tmp_path / "models" / "shop")
    assert (config.name, config.backend, config.max_batch_size) == ("shop", "onnxruntime", MAX_BATCH)
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == triton.DELAY
    graph = onnxruntime.InferenceSession(str(tmp_path / "models" / "shop" / "1" / "model.onnx"))
    types = {"tensor(string)": "TYPE_STRING", "tensor(int64)": "TYPE_INT64", "tensor(float)": "TYPE_FP32"}
    for side, ports in ((config.input, graph.get_inputs()), (config.output, graph.get_outputs())):
        told = [(one.name, proto().DataType.Name(one.data_type), [-1, *one.dims]) for one in side]
        real = [
            (one.name, types[one.type], [size if isinstance(size, int) else -1 for size in one.shape])
            for one in ports
        ]
        assert told == real
    assert [one.name for one in config.input] == Session(path).inputs


@pytest.mark.parametrize("name", ["positions", "times", "integers"])
def test_the_warm_up_is_a_request_with_known_ids(passed, integers, catalog, tmp_path, name):
    path = integers if name == "integers" else passed(name)
    folder = write_triton(path, tmp_path, "shop").parent
    config = read(folder)
    assert [one.batch_size for one in config.model_warmup] == [1, MAX_BATCH]
    for warmup in config.model_warmup:
        assert set(warmup.inputs) == {one.name for one in config.input}
        for port in config.input:
            given = warmup.inputs[port.name]
            assert given.data_type == port.data_type
            assert len(given.dims) == len(port.dims)
            raw = (folder / "warmup" / given.input_data_file).read_bytes()
            text = given.data_type == proto().TYPE_STRING
            values = deserialised(raw) if text else np.frombuffer(raw, np.int64).tolist()
            assert len(values) == np.prod(given.dims)
            if port.name == "history":
                known = list(range(30)) if name == "integers" else catalog.items["item_id"].to_list()
                assert len(set(values) & set(known)) == triton.SAMPLE
            if port.name == "user":
                assert values == ["u1"]
            if port.name in ("blocked", "allowed"):
                assert values == [-1 if name == "integers" else ""]


@pytest.mark.parametrize("name", ["positions", "times", "users", "integers"])
def test_requests_that_triton_joins_get_what_each_gets_alone(passed, integers, tmp_path, name):
    """Joined along the first dimension, run once, split again; k differs from request to request."""
    path = integers if name == "integers" else passed(name)
    session = Session(path)
    graph = onnxruntime.InferenceSession(str(write_triton(path, tmp_path, "shop") / "model.onnx"))
    random = np.random.default_rng(0)
    ids = np.arange(30) if name == "integers" else np.array(["7", "07", "item 1", "item 2", "?", ""], object)
    ks, rows = [3, 0, 100, 1, -4], [1, 2, 3, 1, 2]
    requests = [
        {
            "history": random.choice(ids, (size, 4)),
            "blocked": random.choice(ids, (size, 1)),
            "allowed": np.full((size, 1), -1 if name == "integers" else "", ids.dtype),
            "k": np.full((size, 1), k),
            "user": np.array([["u1"]] * size, object),
            "history_time": 1_500_000_000 + random.integers(0, 10**7, (size, 4)),
            "request_time": np.full((size, 1), 1_600_000_000),
        }
        for k, size in zip(ks, rows, strict=True)
    ]
    joined = {key: np.concatenate([one[key] for one in requests]) for key in session.inputs}
    items, scores = graph.run(["item_id", "score"], joined)
    assert items.shape == scores.shape == (9, session.manifest.num_items)
    start = 0
    for k, size, given in zip(ks, rows, requests, strict=True):
        flat = {
            key: value[:, 0] if key in ("user", "request_time") else value for key, value in given.items()
        }
        del flat["k"]
        k = max(0, min(k, session.manifest.num_items))
        alone = session.run(flat, session.manifest.num_items)
        for found, wanted, blank in zip(
            (items, scores), alone, (session.run(flat, 200)[0][0, -1], -np.inf), strict=True
        ):
            part = found[start : start + size]
            assert (part[:, :k] == wanted[:, :k]).all()
            assert (part[:, k:] == blank).all()
        start += size


def test_weights_in_a_file_of_their_own_go_along(integers, tmp_path):
    folder = write_triton(integers, tmp_path, "shop")
    assert sorted(one.name for one in folder.iterdir()) == ["model.onnx", "model.onnx.data"]


def test_a_model_gets_its_next_version_and_keeps_a_changed_configuration(passed, tmp_path):
    first = write_triton(passed("positions"), tmp_path)
    config = first.parent / "config.pbtxt"
    config.write_text(config.read_text() + "instance_group [ { count: 2 } ]\n")
    before = config.read_bytes()
    second = write_triton(passed("one position"), tmp_path)
    assert (first, second) == (tmp_path / "model" / "1", tmp_path / "model" / "2")
    assert config.read_bytes() == before
    assert sorted(one.name for one in first.parent.iterdir()) == ["1", "2", "config.pbtxt", "warmup"]
    assert [one.name for one in second.iterdir()] == ["model.onnx"]


def test_a_model_of_other_inputs_or_of_another_program_is_left_alone(passed, tmp_path):
    write_triton(passed("positions"), tmp_path)
    with pytest.raises(
        RecloomError, match=r"share one config\.pbtxt.*is for history string.*this artefact is .*user"
    ):
        write_triton(passed("users"), tmp_path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.pbtxt").write_text('name: "theirs"')
    with pytest.raises(
        RecloomError, match=r"theirs is there already and was not written by `recloom export --triton`"
    ):
        write_triton(passed("positions"), tmp_path, "theirs")
    assert [one.name for one in (tmp_path / "theirs").iterdir()] == ["config.pbtxt"]


def test_what_was_never_compared_is_refused(artefact, tmp_path):
    with pytest.raises(RecloomError, match="never compared"):
        write_triton(artefact("positions").path, tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("before", [0, 1])
def test_a_graph_that_differs_leaves_nothing_behind(passed, tmp_path, monkeypatch, before):
    if before:
        write_triton(passed("positions"), tmp_path / "models")
    honest = adapt

    def wrong(model, manifest):
        return honest(model, manifest.model_copy(update={"num_items": 2}))

    monkeypatch.setattr(triton, "adapt", wrong)
    with pytest.raises(
        RecloomError, match=r"does not give the lists of .* where k is 3; nothing was written"
    ):
        write_triton(passed("positions"), tmp_path / "models")
    if before:
        assert sorted(one.name for one in (tmp_path / "models" / "model").iterdir()) == [
            "1",
            "config.pbtxt",
            "warmup",
        ]
    else:
        assert list((tmp_path / "models").iterdir()) == []


def test_a_graph_with_other_outputs_is_refused(passed):
    model, manifest = ir.load(passed("positions")), Session(passed("positions")).manifest
    model.graph.outputs[0].name = "vector"
    with pytest.raises(RecloomError, match=r"ends in vector, score; export it as one file"):
        adapt(model, manifest)


def test_the_command(write_dataset, tmp_path, capsys):
    rows = pl.DataFrame(
        {"user_id": [f"u{n // 4}" for n in range(80)], "item_id": [f"i{n % 9}" for n in range(80)]}
    )
    rows = rows.with_columns(timestamp=pl.int_range(80) + 1_500_000_000)
    fit(write_dataset(tmp_path / "data", rows), "EASE", {}, run=tmp_path / "run")
    words = [
        "export",
        str(tmp_path / "run"),
        "--out",
        str(tmp_path / "shop.onnx"),
        "--triton",
        str(tmp_path / "models"),
    ]
    with pytest.raises(SystemExit):
        main([*words, "--no-verify"])
    assert "--triton writes what will be served, so it must be verified" in capsys.readouterr().err
    assert not (tmp_path / "shop.onnx").exists()
    main(words)
    assert f"wrote {tmp_path}/models/shop/1 for Triton" in capsys.readouterr().out
    assert read(tmp_path / "models" / "shop").name == "shop"
