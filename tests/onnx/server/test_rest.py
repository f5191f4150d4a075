"""`POST /recommend`, titles, and what is served."""

from __future__ import annotations

import json
import re

import pytest
from recloom_onnx.artifact.session import Session
from recloom_onnx.server.title_index import TitleIndex, fold


@pytest.fixture(scope="module")
def session(titled):
    return Session(titled["first"], threads=1)


def test_one_request_gets_a_list_with_titles_and_its_unknown_ids(server, session):
    answer = server.recommend(history=["m03", "nobody", 7, "m05"], k=4, exclude=["m11", "gone"])
    assert answer.status_code == 200
    found = json.loads(answer.text, parse_constant=pytest.fail)
    assert (found["model"], found["version"]) == ("first", "1")
    assert found["unknown"] == ["nobody", "7", "gone"]
    expected = session.recommend([["m03", "m05"]], k=4, exclude=[["m11"]])[0]
    assert [place["id"] for place in found["items"]] == [place.item_id for place in expected]
    assert [place["score"] for place in found["items"]] == pytest.approx([place.score for place in expected])
    assert [place["title"] for place in found["items"]] == [
        session.titles[place.item_id] for place in expected
    ]


def test_several_get_lists_in_their_order_from_the_models_they_name(server):
    asked = [
        {"history": ["m01"], "k": 2, "model": "second"},
        {"history": ["m01"], "k": 5},
        {"history": [], "k": 1, "model": "second", "version": "1"},
    ]
    together = server.post("/recommend", json=asked).json()
    assert together == [server.recommend(**one).json() for one in asked]
    assert [(one["model"], len(one["items"])) for one in together] == [
        ("second", 2),
        ("first", 5),
        ("second", 1),
    ]
    assert together[2]["items"][0] == {"id": "m00", "score": 39.0, "title": "Film 0 of the Series"}
    assert server.post("/recommend", json=[]).json() == []


def test_only_what_is_allowed_comes_and_places_with_nothing_left_are_not_there(server):
    found = server.recommend(history=["m01"], allow=["m07", "m01", "m09"], k=40).json()
    assert {place["id"] for place in found["items"]} == {"m07", "m09"}
    assert server.recommend(history=["m01"], allow=[]).json()["items"] == []
    assert len(server.recommend(history=["m01"], k=10_000).json()["items"]) == 39


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON in UTF-8"),
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"history": [' + b"[" * 500 + b"]" * 500 + b"]}", "recursion limit"),
        (b'{"history": ["\\ud800"]}', "the body is not JSON"),
        (b'{"history": [NaN]}', r"history\.0: expected an id, which is text or a whole number, found nan"),
        (b'{"history": [1' + b"0" * 5000 + b"]}", "number out of range"),
        (b'{"history": ["a\\u0000"]}', r"history holds an id with a NUL character, 'a\\x00'"),
        (b'{"history": [], "exclude": ["\\u0000"]}', "exclude holds an id with a NUL"),
        (b'{"history": [], "user": "\\u0000"}', "user holds an id with a NUL"),
        (b"3", "the body: expected an object, found 3"),
        (b"null", "the body: expected an object, found None"),
        (b"[3]", "0: expected an object, found 3"),
        (b"{}", "history is missing"),
        (b'{"history": "m01"}', "history: expected a valid array, found 'm01'"),
        (b'{"history": [true]}', r"history\.0: expected an id.*found True"),
        (b'{"history": [[1]]}', r"history\.0: expected an id.*found a list of 1"),
        (b'{"history": [], "k": 0}', "k: expected greater than or equal to 1, found 0"),
        (b'{"history": [], "k": 1e999}', "k: expected a valid integer, found inf"),
        (b'{"history": [], "k": 1' + b"0" * 4000 + b"}", "k: expected less than or equal to 10000"),
        (
            b'{"history": [], "kk": 3}',
            "kk is not a field of this request; the API page at /docs lists the fields",
        ),
        (b'[{"history": []}, {"history": [1.5]}]', r"1\.history\.0: expected an id"),
        (b'{"history": [], "request_time": 99999999999999999999}', "request_time: expected less than"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_the_fault_of_an_invalid_body_is_named(server, body, message):
    answer = server.post("/recommend", content=body)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert re.search(message, answer.json()["error"]), answer.text
    assert "Traceback" not in answer.text


def test_a_million_faults_are_one_message(server):
    answer = server.post("/recommend", content=b'{"history": [' + b"1.5," * 200_000 + b"1.5]}")
    assert answer.status_code == 400
    assert len(answer.content) < 200


def test_an_unknown_model_or_version_is_named(server):
    answer = server.recommend(history=[], model="third\x1b[31m")
    assert answer.status_code == 404
    assert answer.json()["error"] == "no model is called 'third\\x1b[31m'; there are first, second"
    assert server.recommend(history=[], version="7").status_code == 404


def test_too_much_at_a_time_is_refused(server):
    wide = server.post("/recommend", json=[{"history": [1] * 1100}, *([{"history": []}] * 999)])
    assert wide.status_code == 400
    assert "history has 1,100,000 places with its padding; expected 1,048,576 at most" in wide.json()["error"]
    many = server.post("/recommend", json=[{"history": []}] * 1025)
    assert many.status_code == 413
    assert "1025 requests in one; expected 1024 at most" in many.json()["error"]


def test_what_reads_times_says_so(serve_at, artefact, tmp_path):
    from recloom_onnx.verification.verify import verify_artefact

    made = artefact("times").copy(tmp_path)
    assert verify_artefact(made.path, made.reference, made.catalog).verified
    server = serve_at(made.path)
    missing = server.recommend(history=["7"]).json()["error"]
    assert missing.startswith("model reads times: expected history_times with 1 numbers")
    short = server.recommend(history=["7", "8"], history_times=[1]).json()["error"]
    assert short.endswith("one for each item of history, found 1")
    assert "expected request_time" in server.recommend(history=["7"], history_times=[1]).json()["error"]
    asked = [
        {"history": ["7"], "history_times": [5], "request_time": 9, "user": "u1", "k": 3},
        {"history": ["item 1", "7"], "history_times": [5, 6], "request_time": 9, "user": 3, "k": 3},
    ]
    found = server.post("/recommend", json=asked).json()
    expected = made.session().recommend(
        [["7"], ["item 1", "7"]], k=3, users=["u1", "3"], history_times=[[5], [5, 6]], request_times=[9, 9]
    )
    assert [[place["id"] for place in one["items"]] for one in found] == [
        [place.item_id for place in places] for places in expected
    ]
    assert server.get("/models").json()[0]["reads"] == ["history", "history_time", "request_time", "user"]
    history = {"name": "history", "shape": [1, 1], "datatype": "BYTES", "data": ["7"]}
    times = {"name": "history_time", "shape": [1, 2], "datatype": "INT64", "data": [1, 2]}
    at = {"name": "request_time", "shape": [1], "datatype": "INT64", "data": [3]}
    message = server.post("/v2/models/model/infer", json={"inputs": [history, times, at]}).json()["error"]
    assert message.startswith("history_time has shape [1, 2], history [1, 1]; expected one time")
    assert server.end() == 0


def test_integer_ids_go_in_and_come_out(serve_at, tmp_path):
    from functools import partial

    import polars as pl
    import torch
    from recloom.data.catalog import Catalog
    from recloom.models import EASE
    from recloom_onnx.exporting.export import export_artefact
    from recloom_onnx.verification.reference import reference_scores
    from recloom_onnx.verification.verify import verify_artefact

    catalog = Catalog(pl.DataFrame({"item_id": [f"{10 * n}" for n in range(12)]}))
    recommender = EASE(catalog).eval()
    recommender.weights = torch.rand(13, 13, generator=torch.Generator().manual_seed(0))
    path, counts = tmp_path / "whole.onnx", torch.arange(13).float()
    export_artefact(recommender, catalog, counts, path, ids="integer")
    assert verify_artefact(path, partial(reference_scores, recommender, counts), catalog).verified
    server = serve_at(path)
    found = server.recommend(history=[10, "20", "x", 2**70], k=3, allow=[30, 40, "50", 60]).json()
    assert found["unknown"] == ["x", str(2**70)]
    assert {place["id"] for place in found["items"]} < {"30", "40", "50", "60"}
    assert found["items"][0]["title"] is None
    history = {"name": "history", "shape": [1, 2], "datatype": "INT64", "data": [10, 20]}
    answer = server.post(
        "/v2/models/whole/infer", json={"inputs": [history], "outputs": [{"name": "item_id"}]}
    ).json()
    expected = [place.item_id for place in Session(path).recommend([["10", "20"]], k=10)[0]]
    assert [str(one) for one in answer["outputs"][0]["data"]] == expected
    assert answer["outputs"][0]["datatype"] == "INT64"
    assert server.get("/titles?q=11").json() == [{"id": "110", "title": None}]
    assert server.end() == 0


def test_titles_are_found_by_their_beginning_first_and_the_popular_before_others(server):
    found = server.get("/titles", params={"q": "AMELIE"}).json()
    assert found == [{"id": "m36", "title": "Amélie"}]
    assert [one["id"] for one in server.get("/titles?q=film 1&limit=3").json()] == ["m01", "m10", "m11"]
    assert [one["id"] for one in server.get("/titles?limit=2").json()] == ["m00", "m01"]
    assert [one["id"] for one in server.get("/titles?q=and dust").json()] == ["m37"]
    assert server.get("/titles?q=m39").json()[0]["id"] == "m39"
    assert server.get("/titles?q=no such film").json() == []
    assert server.get("/titles?model=third").status_code == 404
    assert server.get("/titles?limit=51").json() == {
        "error": "limit: expected less than or equal to 50, found '51'"
    }
    assert "q: expected" in server.get(f"/titles?q={'a' * 201}").json()["error"]


def test_what_is_served_is_described(server):
    first, second = server.get("/models").json()
    assert first == {
        "name": "first", "version": "1", "model": "EASE", "num_items": 40, "reads": ["history"], "titles": True,
        "seen": "masked", "metrics": {"ndcg@10": 0.5},
    }  # fmt: skip
    assert second["name"] == "second"


def test_the_title_index_finds_words_in_any_place_and_each_item_once():
    index = TitleIndex(
        ["a", "b", "c", "d"], {"a": "The Sea, the sea", "b": "Seabird", "c": "Open sea", "d": "Chelsea"}
    )
    assert index.search("sea", 10) == ["b", "a", "c", "d"]
    assert index.search("sea", 2) == ["b", "a"]
    assert index.search("the sea", 10) == ["a"]
    assert index.search("\n", 3) == ["a", "b", "c"]
    assert index.search("sea\nopen", 3) == []
    assert TitleIndex([], {}).search("a", 3) == []
    assert TitleIndex(["x"], {"y": "only here"}).known == {"x", "y"}
    assert fold("  Ünïted\n STATES ") == "united states"
