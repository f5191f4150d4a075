"""What happened with each item of a history, and the fields of a request: raw values in, codes in the graph."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.recommender import Recommender
from recloom.schemas import ContextField, EventCodes
from recloom_onnx.artifact.manifest import read_manifest
from recloom_onnx.artifact.raw_codes import unknown_events
from recloom_onnx.artifact.session import Session
from recloom_onnx.batch.run import recommend_file
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.exporting.triton import write_triton
from recloom_onnx.verification.cases import indexed, random_requests
from recloom_onnx.verification.reference import reference_scores
from recloom_onnx.verification.verify import verify_artefact
from torch import Tensor, nn

ITEMS = [f"i{n}" for n in range(12)]
WORDS = EventCodes(column="event", names=["click", "buy"])
VALUES = EventCodes(column="value", names=["low", "middle", "high"], cuts=[2.5, 4.0])
CONTEXT = (ContextField(name="device", values=["phone", "tv"]), ContextField(name="hour", values=["7", "20"]))
LISTED = EventCodes(column="value", names=["1", "2.5", "4"], cuts=[2.5, 4.0])
"""As `recloom data prepare` makes them of few values; VALUES are intervals between given cuts."""
KINDS = {"event": WORDS, "value": VALUES}


class Happened(Recommender):
    """Similar items of the history, weighed by what happened with them, plus a taste of each field of the request."""

    inputs = ("history", "history_event", "context")

    def __init__(self, catalog: Catalog, max_len: int | None = None) -> None:
        super().__init__(catalog)
        self.max_len = max_len
        self.similar = nn.Parameter(torch.randn(self.num_items + 1, self.num_items + 1))
        self.weight = nn.Embedding(catalog.num_events + 1, 1)
        self.taste = nn.ModuleList(
            nn.Embedding(len(field.values) + 1, self.num_items + 1) for field in catalog.context
        )

    def score(self, batch: Batch) -> Tensor:
        width = self.max_len or batch.history.shape[1]
        history, event = batch.history[:, -width:], batch.history_event[:, -width:]
        weight = self.weight(event)[..., 0] * (history > 0)  # (B, L)
        scores = (self.similar[history] * weight[:, :, None]).sum(1)
        for place, taste in enumerate(self.taste):
            scores = scores + taste(batch.context[:, place])
        return scores[:, batch.candidates[0]]


def made(folder, events, context=CONTEXT, max_len=None, kind="string"):
    """The artefact of a model of random weights, with what it was made from."""
    torch.manual_seed(0)
    ids = ITEMS if kind == "string" else [str(n) for n in range(len(ITEMS))]
    catalog = Catalog(pl.DataFrame({"item_id": ids}), None, "", events, context)
    recommender = Happened(catalog, max_len).eval()
    popularity = torch.arange(len(ITEMS) + 1.0)
    path = folder / "model.onnx"
    export_artefact(recommender, catalog, popularity, path, ids=kind)
    return path, catalog, partial(reference_scores, recommender, popularity)


@pytest.fixture(scope="module", params=list(KINDS))
def artefact(request, tmp_path_factory):
    """A verified artefact over events of one kind, and its catalogue."""
    path, catalog, reference = made(tmp_path_factory.mktemp("events"), KINDS[request.param])
    history = torch.randint(0, 13, (40, 4), generator=torch.Generator().manual_seed(1))
    codes = torch.randint(
        0, catalog.num_events + 1, history.shape, generator=torch.Generator().manual_seed(2)
    )
    context = torch.randint(0, 3, (40, 2), generator=torch.Generator().manual_seed(3))
    batch = Batch.of(
        history,
        history_event=codes * (history > 0),
        context=context,
        request_time=torch.zeros(40, dtype=torch.long),
        labels=history[:, :1],
    )
    parity = verify_artefact(path, reference, catalog, [batch])
    assert parity.failures == []
    assert parity.cases == 21 + 4, "each batch size once more, without events and context"
    return path, catalog, reference


def best(reference, catalog, batch):
    """The order of all items by the reference, as raw ids."""
    allowed = torch.ones(len(batch), catalog.num_items, dtype=torch.bool)
    with torch.no_grad():
        scores = reference(batch, torch.zeros(len(batch), 0, dtype=torch.long), allowed)
    return catalog.item_ids((scores.argsort(dim=1, descending=True, stable=True)[0] + 1).tolist())


def test_raw_events_and_fields_change_the_list_as_codes_do(artefact):
    path, catalog, reference = artefact
    session = Session(path, threads=1)
    raw = ["buy", None, "click", "returned"] if catalog.events is WORDS else [4.0, None, 2.49, float("nan")]
    codes = [2, 0, 1, 0] if catalog.events is WORDS else [3, 0, 1, 0]
    history = ["i1", "i2", "i3", "i4"]
    asked = {"device": "tv", "hour": 20}
    (found,) = session.recommend([history], 8, history_events=[raw], contexts=[asked])
    batch = Batch.of(
        torch.tensor([[2, 3, 4, 5]]), history_event=torch.tensor([codes]), context=torch.tensor([[2, 2]])
    )
    assert [place.item_id for place in found] == best(reference, catalog, batch)[:8]
    (without,) = session.recommend([history], 8)
    zero = Batch.of(torch.tensor([[2, 3, 4, 5]]), context=torch.zeros(1, 2, dtype=torch.long))
    assert [place.item_id for place in without] == best(reference, catalog, zero)[:8]
    assert [place.score for place in without] != pytest.approx([place.score for place in found])
    assert session.recommend([history], 8, history_events=[[None] * 4], contexts=[{}]) == [without]


def test_the_manifest_says_what_goes_in(artefact):
    path, catalog, _ = artefact
    manifest = read_manifest(path)
    assert (manifest.events, tuple(manifest.context)) == (catalog.events, CONTEXT)
    ports = {port.name: (port.type, port.shape) for port in manifest.inputs}
    assert ports["history_event"] == ("string" if catalog.events is WORDS else "float32", ["B", "L"])
    assert ports["context"] == ("string", ["B", 2])


def test_what_makes_no_sense_is_an_error(artefact):
    path, catalog, _ = artefact
    session = Session(path, threads=1)
    with pytest.raises(
        RecloomError, match=r"history_event has shape \[1, 1\], history \[1, 2\]; expected one event"
    ):
        session.recommend([["i1", "i2"]], history_events=[[None]])
    with pytest.raises(
        RecloomError, match=r"knows no field 'place' of a request; its fields are device, hour"
    ):
        session.recommend([["i1"]], contexts=[{"place": "home"}])
    history = np.array([["i1"]], object)
    with pytest.raises(
        RecloomError, match=r"context has shape \[1, 1\]; expected a column for each of device, hour"
    ):
        session.run({"history": history, "context": history}, 3)
    if catalog.events is VALUES:
        with pytest.raises(RecloomError, match=r"expected a number, such as a rating.*found 'buy'"):
            session.recommend([["i1"]], history_events=[["buy"]])
        with pytest.raises(
            RecloomError, match=r"history_event has the type object; the events .* are numbers"
        ):
            session.run({"history": history, "history_event": history}, 3)
    else:
        with pytest.raises(RecloomError, match="history_event has the type float64; expected text"):
            session.run({"history": history, "history_event": np.ones((1, 1))}, 3)


@pytest.mark.parametrize(
    "events", [WORDS, VALUES, LISTED, EventCodes(column="label", names=["any"]), None], ids=str
)
def test_any_length_kind_of_id_and_max_len_gives_the_scores_of_the_recommender(tmp_path, events):
    path, catalog, reference = made(tmp_path, events, max_len=3, kind="integer")
    assert verify_artefact(path, reference, catalog).failures == []
    given = random_requests(catalog, 5, 6, np.random.default_rng(0))
    session = Session(path, threads=1)
    _, scores = session.run(given, 12)
    with torch.no_grad():
        wanted = reference(*indexed(given, catalog)).sort(1, descending=True).values
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-5)


def test_a_number_that_is_no_event_counts_as_none_where_numbers_are_events(tmp_path):
    path, catalog, reference = made(tmp_path, LISTED)
    assert verify_artefact(path, reference, catalog).failures == []
    session = Session(path, threads=1)

    def scores(*events):
        (found,) = session.recommend([["i1", "i2"]], 10, history_events=[events])
        return [place.score for place in found]

    assert catalog.event_codes([2.5, 3.9, 0.5, 5], only_listed=True).tolist() == [2, 0, 0, 0]
    for odd in (3.9, 0.5, 5.0, float("inf"), float("-inf")):
        assert scores(odd, 2.5) == pytest.approx(scores(None, 2.5))
    for number in (1, 2.5, 4):
        assert scores(number, 2.5) != pytest.approx(scores(None, 2.5))


def test_verification_sees_a_graph_that_takes_a_number_for_the_next_lower_event(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(EventCodes, "listed", None)
        path, catalog, reference = made(tmp_path, LISTED)
    failures = verify_artefact(path, reference, catalog).failures
    assert failures
    assert "batch of" in failures[0]


def test_events_that_the_data_do_not_know_are_named():
    assert unknown_events([2.5, 3, None, float("nan"), 3, 1e300, 4], LISTED) == ["3", "1e+300"]
    assert unknown_events([2.5, 3, None, 1e300], VALUES) == []
    assert unknown_events(["buy", "returned", "", None, "returned", 3], WORDS) == ["returned", "3"]


def test_a_model_that_reads_context_is_not_exported_from_data_without(tmp_path):
    with pytest.raises(RecloomError, match="reads context, and its data have no fields of a request"):
        made(tmp_path, WORDS, context=())


def test_triton_takes_them_too(artefact, tmp_path):
    path, catalog, _ = artefact
    version = write_triton(path, tmp_path / "models")
    config = (version.parent / "config.pbtxt").read_text()
    kind = "TYPE_STRING" if catalog.events is WORDS else "TYPE_FP32"
    assert f'name: "history_event" data_type: {kind} dims: [ -1 ]' in config
    assert 'name: "context" data_type: TYPE_STRING dims: [ 2 ]' in config


def test_the_server_takes_them_in_both_protocols(artefact, tmp_path):
    pytest.importorskip("fastapi")
    import asyncio

    import httpx
    from recloom_onnx.server import Metrics, Models, Settings, application, find_sources

    path, catalog, _ = artefact
    words = catalog.events is WORDS
    raw = ["buy", None] if words else [4.0, None]
    (expected,) = Session(path, threads=1).recommend(
        [["i1", "i2"]], 5, history_events=[raw], contexts=[{"hour": "7"}]
    )
    settings, metrics = Settings(log=False), Metrics()

    async def ask():
        models = Models(find_sources([str(path)]), settings, metrics.batch, metrics.load)
        await models.load_all()
        transport = httpx.ASGITransport(application(models, settings, metrics))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            one = {"history": ["i1", "i2"], "k": 5, "history_events": raw, "context": {"hour": 7}}
            short = {"history": ["i3"], "k": 5}
            together = await client.post("/recommend", json=[one, short])
            alone = await client.post("/recommend", json=short)
            wrong = [
                await client.post("/recommend", json=one | change)
                for change in ({"history_events": [None]}, {"context": {"place": "home"}})
            ]
            event = {"name": "history_event", "shape": [1, 2], "datatype": "BYTES" if words else "FP32"}
            event["data"] = ["buy", ""] if words else raw
            tensors = [
                {"name": "history", "shape": [1, 2], "datatype": "BYTES", "data": ["i1", "i2"]},
                event,
                {"name": "context", "shape": [1, 2], "datatype": "BYTES", "data": ["", "7"]},
                {"name": "k", "shape": [1], "datatype": "INT64", "data": [5]},
            ]
            infer = await client.post("/v2/models/model/infer", json={"inputs": tensors})
            odd = await client.post(
                "/recommend", json=one | {"history_events": ["gone", None] if words else [3, 4]}
            )
            assert odd.json()["unknown_events"] == (["gone"] if words else [])
            left_out = await client.post("/v2/models/model/infer", json={"inputs": [tensors[0], tensors[3]]})
            if not words:
                raw_bytes = np.array(raw, np.float32).tobytes()
                event = {key: value for key, value in event.items() if key != "data"}
                event["parameters"] = {"binary_data_size": len(raw_bytes)}
                head = json.dumps({"inputs": [tensors[0], event, *tensors[2:]]}).encode()
                headers = {"Inference-Header-Content-Length": str(len(head))}
                binary = await client.post(
                    "/v2/models/model/infer", content=head + raw_bytes, headers=headers
                )
                assert binary.json() == infer.json()
        return (
            together.json(),
            alone.json(),
            [one.json()["error"] for one in wrong],
            infer.json(),
            left_out.json(),
        )

    together, alone, wrong, infer, left_out = asyncio.run(ask())
    assert [place["id"] for place in together[0]["items"]] == [place.item_id for place in expected]
    assert together[1] == alone, "one without events has none, also beside one with"
    assert wrong[0].startswith("history_events has 1 elements; expected 2, one for each item of history")
    assert "its fields are device, hour" in wrong[1]
    assert infer["outputs"][0]["data"] == [place.item_id for place in expected]
    (plain,) = Session(path, threads=1).recommend([["i1", "i2"]], 5)
    assert left_out["outputs"][0]["data"] == [place.item_id for place in plain]


def ids_of(out):
    return pl.read_parquet(out).group_by("user_id", maintain_order=True).agg("item_id")["item_id"].to_list()


def test_a_file_of_requests_holds_them_in_columns(artefact, tmp_path):
    path, catalog, _ = artefact
    happened = [["buy", None], [], None] if catalog.events is WORDS else [[4.0, None], [], None]
    table = {
        "user_id": ["a", "b", "c"],
        "history": [["i1", "i2"], [], ["i3"]],
        "history_events": happened,
        "hour": [7, 20, None],
    }
    pl.DataFrame(table).write_parquet(tmp_path / "users.parquet")
    done = recommend_file(path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=5)
    assert (done.counts.requests, done.counts.rejected) == (3, 0)
    expected = Session(path, threads=1).recommend(
        table["history"],
        5,
        history_events=[happened[0], [], [None]],
        contexts=[{"hour": 7}, {"hour": 20}, None],
    )
    assert ids_of(tmp_path / "lists.parquet") == [[place.item_id for place in places] for places in expected]
    wrong = table | {"history_events": [happened[0], happened[0][:1], None]}
    pl.DataFrame(wrong).write_parquet(tmp_path / "users.parquet")
    done = recommend_file(path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=5, max_rejected=0.5)
    assert pl.read_parquet(done.rejected)["reason"].to_list() == [
        "history and history_events are not of one length"
    ]
    wrong = table | {"history_events": [[[1]], [], []]}
    pl.DataFrame(wrong).write_parquet(tmp_path / "users.parquet")
    kind = "string or integers" if catalog.events is WORDS else "numbers"
    with pytest.raises(RecloomError, match=f"column 'history_events' of .*; expected list of {kind}"):
        recommend_file(path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=5)


def test_a_prepared_dataset_gives_its_events(artefact, tmp_path):
    path, catalog, _ = artefact
    words = catalog.events is WORDS
    column, happened = ("event", ["buy", "click", None]) if words else ("value", [4.0, 1.0, None])
    rows = {
        "user_id": ["a", "a", "b"],
        "item_id": ["i1", "i2", "i3"],
        "timestamp": [1, 2, 3],
        column: happened,
    }
    pl.DataFrame(rows).write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "dataset.json").write_text("{}")
    recommend_file(path, tmp_path, tmp_path / "lists.parquet", k=5)
    expected = Session(path, threads=1).recommend(
        [["i1", "i2"], ["i3"]], 5, history_events=[happened[:2], [None]]
    )
    assert ids_of(tmp_path / "lists.parquet") == [[place.item_id for place in places] for places in expected]
