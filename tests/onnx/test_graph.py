"""What the graph of an artefact does with requests, against the recommender in torch."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom_onnx.artifact.session import Session
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.verification.cases import indexed, indices, random_requests
from recloom_onnx.verification.comparison import compare
from recloom_onnx.verification.reference import reference_scores
from recloom_onnx.verification.verify import verify_artefact

from .conftest import MODELS

ALONE = """
import json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "recloom", "recloom_onnx", "onnx"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
history = np.array([json.loads(sys.argv[2])], dtype=object)
ids, scores = session.run(None, {
    "history": history, "blocked": np.empty((1, 0), dtype=object),
    "allowed": np.empty((1, 0), dtype=object), "k": np.array([3])})
print(json.dumps(ids[0].tolist()))
"""


def test_everything_that_a_request_can_be_gives_the_scores_of_the_recommender(each, tmp_path):
    made = each.copy(tmp_path)
    parity = verify_artefact(made.path, made.reference, made.catalog)
    assert parity.failures == []
    assert parity.verified
    assert parity.cases == 21
    assert parity.requests == 5 * (1 + 2 + 7 + 64) + 2
    assert parity.mismatches == 0
    assert parity.max_difference < 1e-4


@pytest.mark.parametrize("length", [0, 1, 300])
@pytest.mark.parametrize("rows", [1, 33])
def test_any_batch_and_length(each, rows, length):
    given = random_requests(each.catalog, rows, length, np.random.default_rng(1))
    ids, scores = each.session().run(given, 5)
    assert ids.shape == scores.shape == (rows, 5)
    items = indices(ids, each.catalog.item_index)
    with torch.no_grad():
        wanted = each.reference(*indexed(given, each.catalog))
    assert not compare(items, torch.from_numpy(scores), wanted, 1e-4).wrong.any()
    free = (given["allowed"] == "").all(1)
    assert free.any() or rows == 1
    assert (ids[free] == "").any() == (
        length == 300 and free.any()
    )  # 300 draws of 60 items leave fewer than five


def test_the_file_is_valid_onnx_and_says_what_it_takes(each):
    onnx.checker.check_model(str(each.path), full_check=True)
    session = onnxruntime.InferenceSession(str(each.path))
    ports = {port.name: (port.type, port.shape) for port in session.get_inputs()}
    assert ports["history"] == ("tensor(string)", ["B", "L"])
    assert ports["blocked"] == ("tensor(string)", ["B", "M"])
    assert ports["allowed"] == ("tensor(string)", ["B", "A"])
    assert ports["k"] == ("tensor(int64)", [1])
    assert set(ports) == {"history", "blocked", "allowed", "k"} | set(each.recommender.inputs)
    found = {port.name: (port.type, port.shape) for port in session.get_outputs()}
    assert found == {"item_id": ("tensor(string)", ["B", "k"]), "score": ("tensor(float)", ["B", "k"])}


def test_the_file_names_no_path_of_this_machine(artefact):
    raw = artefact("linear").path.read_bytes()
    assert str(Path(__file__).parent).encode() not in raw
    assert b"site-packages" not in raw


def test_every_id_goes_in_and_comes_out_unchanged(artefact):
    made = artefact("positions")
    ids = made.catalog.items["item_id"].to_list()
    lists = made.session().recommend([[]], k=len(ids))[0]
    order = torch.argsort(made.popularity[1:], descending=True)
    assert [place.item_id for place in lists] == [ids[n] for n in order]
    answers = made.session().recommend([[one] for one in ids], k=len(ids))
    for one, answer in zip(ids, answers, strict=True):
        assert {place.item_id for place in answer} == set(ids) - {one}


def test_unknown_ids_anywhere_change_nothing(artefact):
    session = artefact("positions").session()
    clean = session.recommend([["7", "a b", "item 3"]])
    odd = session.recommend([["nobody", "7", "", "A B", "a b", "item 3", "7 ", "item 3\N{ZERO WIDTH SPACE}"]])
    assert odd == clean


def test_only_the_last_max_len_known_items_are_read_and_all_are_masked(artefact):
    made = artefact("positions")
    recent = [f"item {n}" for n in range(8)]
    long = ["item 40", "item 41", *recent[:4], "unknown", *recent[4:], "unknown"]
    short, whole = made.session().recommend([recent, long], k=60)
    scores = {place.item_id: place.score for place in short}
    assert len(whole) == len(short) - 2
    assert not {"item 40", "item 41"} & {place.item_id for place in whole}
    assert all(place.score == pytest.approx(scores[place.item_id]) for place in whole)


def test_repeated_items_count_as_often_as_the_recommender_says(artefact):
    made = artefact("positions")
    history = ["7", "item 3", "7", "7"]
    found = {place.item_id: place.score for place in made.session().recommend([history], k=60)[0]}
    index = torch.from_numpy(made.catalog.item_index(history).copy())[None]
    with torch.no_grad():
        wanted = made.recommender.score(Batch.of(index, torch.arange(1, 61)[None]))[0]
    for item, score in found.items():
        assert score == pytest.approx(float(wanted[made.catalog.item_index([item])[0] - 1]), abs=1e-5)


def test_nothing_known_gives_the_popularity_order(artefact):
    made = artefact("positions")
    best = int(made.popularity[1:].argmax())
    for history in ([], ["nobody"], ["", ""]):
        place = made.session().recommend([history], k=1)[0][0]
        assert place == (made.catalog.items["item_id"][best], float(made.popularity.max()))


def test_a_known_user_without_history_is_not_unknown(artefact):
    made = artefact("times")
    times = {"history_times": [[]], "request_times": [1_600_000_000]}
    known = made.session().recommend([[]], users=["3"], **times)
    unknown = made.session().recommend([[]], users=["nobody"], **times)
    assert unknown[0][0].score == float(made.popularity.max())
    with torch.no_grad():
        assert known[0][0].score == pytest.approx(float(made.recommender.taste[3, 1:].max()), abs=1e-5)


def test_blocked_items_do_not_appear_and_everything_may_be_blocked(artefact):
    made = artefact("linear")
    ids = made.catalog.items["item_id"].to_list()
    few, none = made.session().recommend([["7"], ["7"]], k=60, exclude=[["a b", "nobody"], ids])
    assert len(few) == len(ids) - 2
    assert not {"7", "a b"} & {place.item_id for place in few}
    assert none == []


def test_allowed_items_and_no_others_are_recommended(each):
    session = each.session()
    extra = {"history_times": [[1_500_000_000]], "request_times": [1_500_000_001]}
    given = {**extra, "users": ["u1"]} if "request_time" in session.inputs else {"users": ["u1"]}

    def asked(history, **more):
        (places,) = session.recommend([history], k=60, **given, **more)
        return {place.item_id: place.score for place in places}

    everything = asked(["7"])
    assert asked(["7"], allow=[None]) == everything
    some = asked(["7"], allow=[["item 9", "7", "nobody", "item 9", "a b", ""]])
    assert some == {item: everything[item] for item in ("item 9", "a b")}
    assert asked(["7"], allow=[["item 9", "a b"]], exclude=[["a b"]]) == {"item 9": everything["item 9"]}
    assert asked(["7"], allow=[["nobody"]]) == {}
    assert asked(["7"], allow=[[]]) == {}


def test_a_list_by_popularity_holds_what_is_allowed(artefact):
    made = artefact("positions")
    free, few, known = made.session().recommend([[], [], ["7"]], k=60, allow=[None, ["item 9", "a b"], None])
    assert [place for place in free if place.item_id in ("item 9", "a b")] == few
    assert len(known) == 59


@pytest.mark.parametrize("name", ["positions", "times", "counts"])
def test_ids_that_are_integers_go_in_and_come_out_as_integers(name, popularity, tmp_path):
    numbers = [str(7 * n) for n in range(59)] + [str(2**63 - 1)]
    catalog = Catalog(pl.DataFrame({"item_id": numbers}), pl.DataFrame({"user_id": ["0", "10", "20"]}))
    recommender, path = MODELS[name](catalog).eval(), tmp_path / "model.onnx"
    export_artefact(recommender, catalog, popularity, path, ids="integer")
    parity = verify_artefact(path, partial(reference_scores, recommender, popularity), catalog)
    assert (parity.failures, parity.verified, parity.mismatches) == ([], True, 0)
    session = onnxruntime.InferenceSession(str(path))
    types = {port.name: port.type for port in [*session.get_inputs(), *session.get_outputs()]}
    assert types == dict.fromkeys(types, "tensor(int64)") | {"score": "tensor(float)"}
    given = {
        "history": np.array([[0, 7]]), "blocked": np.array([[14]]), "k": np.array([61]), "user": np.array([10]),
        "allowed": np.empty((1, 0), np.int64), "history_time": np.array([[1, 2]]), "request_time": np.array([3]),
    }  # fmt: skip
    ids, _ = session.run(None, {name: given[name] for name in types if name in given})
    assert ids.shape == (1, 61)
    assert set(map(str, ids[0].tolist())) == {*numbers, "-1"} - {"0", "7", "14"}
    asked = [[0, "7"], ["7", "x", ""]], 3, [["14"], []]
    times = {"history_times": [[1, 2], [2, 2, 2]], "request_times": [3, 3]} if name == "times" else {}
    lists = Session(path).recommend(*asked, users=["10", "nobody"], **times)
    assert [place.item_id for place in lists[0]] == [str(one) for one in ids[0, :3]]
    assert len(lists[1]) == 3


def test_lists_longer_than_the_catalogue_end_in_nothing(artefact):
    made = artefact("linear")
    ids, scores = made.session().run({"history": np.array([["7"]], dtype=object)}, 70)
    assert ids.shape == (1, 70)
    assert (ids[0, 59:] == "").all()
    assert (scores[0, 59:] == -np.inf).all()
    assert (ids[0, :59] != "").all()


def test_equal_scores_come_in_the_order_of_the_catalogue(artefact):
    made = artefact("counts")
    places = made.session().recommend([[]], k=60)[0]
    order = torch.sort(made.recommender.counts[1:], descending=True, stable=True).indices
    assert [place.item_id for place in places] == [made.catalog.items["item_id"][int(n)] for n in order]


@pytest.mark.parametrize("k", [0, -1, -(10**15)])
def test_a_k_below_one_gives_empty_lists(artefact, k):
    """`Session` refuses it with a message; the graph, which any program may run, must not fail."""
    for name in ("positions", "users", "counts"):
        session = onnxruntime.InferenceSession(str(artefact(name).path))
        given = {
            "history": np.array([["7", ""]], dtype=object),
            "blocked": np.empty((1, 0), dtype=object),
            "allowed": np.empty((1, 0), dtype=object),
            "k": np.array([k]),
            "user": np.array(["u1"], dtype=object),
        }
        taken = {port.name for port in session.get_inputs()}
        ids, scores = session.run(None, {key: value for key, value in given.items() if key in taken})
        assert ids.shape == scores.shape == (1, 0)


def test_the_file_answers_in_plain_onnxruntime(verified):
    history = ["7", "nobody", "emoji \N{PILE OF POO}\N{ZERO WIDTH JOINER}é"]
    command = [sys.executable, "-c", ALONE, str(verified.path), json.dumps(history)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wanted = [place.item_id for place in verified.session().recommend([history], k=3)[0]]
    assert json.loads(done.stdout) == wanted
