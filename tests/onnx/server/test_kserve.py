"""Triton's own client, unmodified, against our server; and what it is told where a request is wrong."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from recloom_onnx.artifact.session import Session

pytest.importorskip("tritonclient.http")

from tritonclient import http as httpclient
from tritonclient.utils import InferenceServerException

from_bytes = np.vectorize(bytes.decode, otypes=[object])


@pytest.fixture(scope="module")
def client(server):
    with httpclient.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture(scope="module")
def session(titled):
    return Session(titled["first"], threads=1)


def tensor(name: str, array: np.ndarray, binary: bool = True, datatype: str | None = None):
    kind = datatype or ("BYTES" if array.dtype == object else "INT64")
    one = httpclient.InferInput(name, list(array.shape), kind)
    one.set_data_from_numpy(array, binary_data=binary)
    return one


def inputs(rows: list[list[str]], k: int = 5, binary: bool = True):
    width = max(map(len, rows))
    history = np.array([[""] * (width - len(row)) + row for row in rows], dtype=object).reshape(
        len(rows), width
    )
    nothing = np.empty((len(rows), 0), dtype=object)
    arrays = {"history": history, "blocked": nothing, "allowed": nothing, "k": np.array([k])}
    return [tensor(name, array, binary) for name, array in arrays.items()]


def test_the_client_finds_the_server_and_its_models(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("first")
    assert client.is_model_ready("second", "1")
    assert not client.is_model_ready("third")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data", "model_repository"]
    found = client.get_model_metadata("first")
    assert (found["name"], found["versions"]) == ("first", ["1"])
    assert found["inputs"] == [
        {"name": "history", "datatype": "BYTES", "shape": [-1, -1]},
        {"name": "blocked", "datatype": "BYTES", "shape": [-1, -1]},
        {"name": "allowed", "datatype": "BYTES", "shape": [-1, -1]},
        {"name": "k", "datatype": "INT64", "shape": [1]},
    ]
    assert [one["datatype"] for one in found["outputs"]] == ["BYTES", "FP32"]
    assert {one["name"] for one in client.get_model_repository_index()} == {"first", "second"}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 7, 64])
def test_batches_of_string_ids_get_what_the_session_gives(client, session, rows, binary):
    histories = [[f"m{(row * 7 + n) % 40:02}" for n in range(row % 5)] for row in range(rows)]
    histories[0] = ["m03", "unknown é", "m05"]
    outputs = [httpclient.InferRequestedOutput(name, binary_data=binary) for name in ("item_id", "score")]
    found = client.infer("first", inputs(histories, binary=binary), outputs=outputs, request_id="one")
    assert found.get_response()["id"] == "one"
    ids, scores = found.as_numpy("item_id"), found.as_numpy("score")
    assert ids.shape == scores.shape == (rows, 5)
    expected = session.recommend(histories, k=5)
    ids = ids if ids.dtype == object and isinstance(ids[0, 0], str) else from_bytes(ids)
    assert ids.tolist() == [[place.item_id for place in places] for places in expected]
    np.testing.assert_allclose(scores, [[place.score for place in places] for places in expected], rtol=1e-5)


def test_without_named_outputs_both_come_as_bytes(client, session):
    found = client.infer("first", inputs([["m01"]]))
    assert all("binary_data_size" in one["parameters"] for one in found.get_response()["outputs"])
    assert from_bytes(found.as_numpy("item_id"))[0].tolist() == [
        place.item_id for place in session.recommend([["m01"]], k=5)[0]
    ]


def test_filters_and_a_version(client):
    rows = np.array([["m01"]], dtype=object)
    allowed = np.array([["m07", "m08", "m09"]], dtype=object)
    given = [
        tensor("history", rows),
        tensor("allowed", allowed),
        tensor("blocked", np.array([["m08"]], dtype=object)),
    ]
    found = client.infer("second", given, model_version="1")
    assert set(from_bytes(found.as_numpy("item_id"))[0].tolist()) == {"m07", "m09", ""}
    assert found.as_numpy("score")[0, 2:].tolist() == [-np.inf] * 8, "left out: k is 10 by itself"


def test_json_has_no_infinity_so_the_lowest_number_stands_for_it(server):
    body = {
        "inputs": [
            {"name": "history", "shape": [1, 0], "datatype": "BYTES", "data": []},
            {"name": "allowed", "shape": [1, 1], "datatype": "BYTES", "data": [["m05"]]},
            {"name": "k", "shape": [1], "datatype": "INT64", "data": [3]},
        ]
    }
    answer = server.post("/v2/models/first/infer", json=body)
    found = {one["name"]: one for one in json.loads(answer.text, parse_constant=pytest.fail)["outputs"]}
    assert found["item_id"]["data"] == ["m05", "", ""]
    assert found["score"]["data"][1:] == [float(np.finfo(np.float32).min)] * 2
    assert found["score"]["shape"] == [1, 3]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"history": np.array(["m01"], dtype=object)}, 400, r"input history: expected shape \[-1, -1\].*found \[1\]"),
        ({"k": np.array([1, 2])}, 400, r"input k: expected shape \[1\].*found \[2\]"),
        ({"k": np.array([0])}, 400, "k is the length of the lists and must be 1 or more, found 0"),
        ({"k": np.array([2**40])}, 400, "1,099,511,627,776 places; expected 1,048,576 at most"),
        ({"history": None}, 400, "input history is missing; first reads history, blocked, allowed, k, found"),
        ({"genre": np.array([1])}, 400, "first has no input 'genre'; its inputs are history, blocked, allowed, k"),
        ({"blocked": np.empty((2, 0), object)}, 400, "blocked has 2 rows and history has 1; expected the same"),
        ({"history": np.empty((0, 0), object)}, 400, "input history has no rows"),
        ({"history": np.array([[b"\xff\xfe"]], dtype=object)}, 400, "an element is not UTF-8"),
        ({"history": np.array([["m0\x00"]], dtype=object)}, 400, "holds an id with a NUL character"),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_input_is_named(client, change, status, message):
    arrays = {"history": np.array([["m01"]], dtype=object), "k": np.array([3])} | change
    given = [tensor(name, array) for name, array in arrays.items() if array is not None]
    with pytest.raises(InferenceServerException, match=message) as stop:
        client.infer("first", given)
    assert stop.value.status() == str(status)


def test_a_wrong_type_model_version_or_output_is_named(client):
    floats = httpclient.InferInput("history", [1, 1], "FP32")
    floats.set_data_from_numpy(np.ones((1, 1), np.float32))
    with pytest.raises(InferenceServerException, match="history: expected datatype BYTES, found 'FP32'"):
        client.infer("first", [floats])
    with pytest.raises(
        InferenceServerException, match="no model is called 'third'; there are first, second"
    ) as stop:
        client.infer("third", inputs([["m01"]]))
    assert stop.value.status() == "404"
    with pytest.raises(
        InferenceServerException, match="model first has no version '9'; its versions are 1"
    ) as stop:
        client.infer("first", inputs([["m01"]]), model_version="9")
    assert stop.value.status() == "404"
    with pytest.raises(InferenceServerException, match="no output 'odds'; its outputs are item_id, score"):
        client.infer("first", inputs([["m01"]]), outputs=[httpclient.InferRequestedOutput("odds")])
    with pytest.raises(InferenceServerException, match="parameter classification is not offered"):
        client.infer(
            "first", inputs([["m01"]]), outputs=[httpclient.InferRequestedOutput("score", class_count=2)]
        )
    with pytest.raises(InferenceServerException, match="uncompressed") as stop:
        client.infer("first", inputs([["m01"]]), request_compression_algorithm="gzip")
    assert stop.value.status() == "415"


HISTORY = {"name": "history", "shape": [1, 2], "datatype": "BYTES", "data": ["a", "b"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ["a"]}, "expected 2 elements for its shape, found 1"),
        ({"data": [["a", "b"], ["c"]]}, r"the lists in data are not of shape \[1, 2\]; expected 1 of 2"),
        ({"data": ["a", 1]}, "expected text as elements, found 1"),
        ({"data": ["a", None]}, "expected text as elements, found None"),
        ({"data": "ab"}, r"inputs.0.data: expected a valid array, found 'ab'"),
        ({"data": None}, "neither data nor binary_data_size"),
        ({"shape": [1, -2]}, "inputs.0.shape.1: expected greater than or equal to 0, found -2"),
        ({"shape": [2**30, 2]}, "expected 2147483648 elements"),
        ({"shape": [2**30, 0], "data": []}, "1,073,741,824 lists of k = 10"),
        ({"name": 3}, "inputs.0.name: expected a valid string, found 3"),
        ({"parameters": {"binary_data_size": 5}}, "binary_data_size of 0 to 0"),
        ({"parameters": {"binary_data_size": True}}, "binary_data_size of 0 to 0"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared_memory_region is not offered"),
    ],
    ids=str,
)
def test_a_tensor_in_json_is_checked(server, change, message):
    answer = server.post("/v2/models/first/infer", json={"inputs": [HISTORY | change]})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"

    assert re.search(message, answer.json()["error"]), answer.text


def test_integers_in_json_are_checked(server):
    wrong = {"beyond the 64 bits": 2**70, "whole numbers as elements, found 1.0": 1.0, "found True": True}
    for message, number in wrong.items():
        k = {"name": "k", "shape": [1], "datatype": "INT64", "data": [number]}
        answer = server.post("/v2/models/first/infer", json={"inputs": [HISTORY, k]})
        assert answer.status_code == 400
        assert message in answer.json()["error"]
    twice = server.post("/v2/models/first/infer", json={"inputs": [HISTORY, HISTORY]})
    assert "given twice" in twice.json()["error"]


@pytest.mark.parametrize("length", ["x", "-1", "99999", "²"])
def test_a_wrong_length_of_the_json_part_is_named(server, length):
    headers = {"Inference-Header-Content-Length": length.encode()}
    answer = server.post("/v2/models/first/infer", content=b"{}", headers=headers)
    assert answer.status_code == 400
    assert "expected the length of the JSON in bytes, 0 to 2" in answer.json()["error"]


def test_bytes_that_no_input_takes_or_that_are_not_strings_are_refused(server):
    def send(inputs: list, tail: bytes):
        head = json.dumps({"inputs": inputs}).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        return server.post("/v2/models/first/infer", content=head + tail, headers=headers).json()["error"]

    assert "3 bytes follow the JSON, and the inputs take 0 of them" in send([HISTORY], b"abc")
    sized = {key: value for key, value in HISTORY.items() if key != "data"} | {
        "parameters": {"binary_data_size": 7}
    }
    assert "its 7 bytes are not 2 elements" in send([sized], b"\x01\x00\x00\x00aXX")
    assert "its 7 bytes are not 2 elements" in send([sized], b"\xff\xff\xff\xffaXX")
    k = {"name": "k", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": 4}}
    assert "expected 8 bytes for its shape, found 4" in send([HISTORY, k], b"\x01\x00\x00\x00")
