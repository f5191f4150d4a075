"""LikeShare and TitleRate by hand, and click models that read what happened with the items of a history."""

from __future__ import annotations

import math

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data import Catalog, Interactions
from recloom.errors import DataError
from recloom.models import LikeShare, TitleRate
from recloom.models.ctr import DIN, DCNv2, DeepFM
from recloom.models.ctr.history_events import HistoryEvents

ROWS = [("u", "a", 1, 5.0), ("u", "b", 2, 2.0), ("u", "c", 3, 4.0), ("v", "a", 1, 4.0), ("v", "b", 2, 1.0),
        ("w", "a", 1, 2.0)]  # fmt: skip
"""a: 2 of 3 from 4 on, b: 0 of 2, c: 1 of 1; 3 of 6 in all."""


def logit(share):
    return math.log(share / (1 - share))


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset):
    frame = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp", "value"], orient="row")
    items = pl.DataFrame({"item_id": ["a", "b", "c", "d"]})
    folder = write_dataset(tmp_path_factory.mktemp("likes") / "data", frame, items)
    catalog = Catalog.load(folder)
    interactions = Interactions.load(folder, catalog)
    interactions.positive = 4.0
    return catalog, interactions


def request(catalog, items, values):
    """One request with a history of items and their values, None where it is not known."""
    codes = torch.from_numpy(catalog.event_codes(values))[None] if values else torch.zeros(1, 0).long()
    history = torch.from_numpy(catalog.item_index(items).copy())[None] if items else torch.zeros(1, 0).long()
    pad = torch.zeros(1, 1).long()
    candidates = torch.from_numpy(catalog.item_index(["a", "b", "c", "d"]).copy())[None]
    return Batch.of(torch.cat([pad, history], 1), candidates, history_event=torch.cat([pad, codes], 1))


@pytest.mark.parametrize(
    ("items", "values", "prior", "share"),
    [
        (["a", "b", "c"], [5, 2, 4], 0.0, 2 / 3),
        (["a", "b", "c"], [5, 2, None], 0.0, 1 / 2),  # what is not known does not count
        (["a", "b", "c"], [5, 2, 4], 4.0, (2 + 4 * 0.5) / 7),  # 3 of 6 are positive in all
        ([], [], 0.0, 1 / 2),
        (["a"], [5], 0.0, 1 - 1e-6),
        (["a"], [1], 0.0, 1e-6),
    ],
)
def test_like_share_by_hand(data, items, values, prior, share):
    catalog, interactions = data
    model = LikeShare(catalog, prior=prior)
    model.fit(interactions)
    scores = model.score(request(catalog, items, values))
    assert scores.tolist() == [
        pytest.approx([logit(share)] * 4, rel=1e-2 if share in (1e-6, 1 - 1e-6) else 1e-5)
    ]


def test_title_rate_by_hand(data):
    catalog, interactions = data
    model = TitleRate(catalog, prior=2.0)
    model.fit(interactions)
    expected = [
        (2 + 1) / (3 + 2),
        (0 + 1) / (2 + 2),
        (1 + 1) / (1 + 2),
        1 / 2,
    ]  # + prior * 3 / 6; d is not known
    scores = model.score(request(catalog, ["a"], [5]))
    assert scores.tolist() == [pytest.approx([logit(share) for share in expected], abs=1e-6)]
    assert model.cold_start_scores(interactions)[1:].tolist() == pytest.approx(scores[0, :3].tolist())


def test_without_a_prior_an_item_that_no_one_rated_is_average(data):
    catalog, interactions = data
    model = TitleRate(catalog, prior=0.0)
    rest = interactions.select(interactions.items != int(catalog.item_index(["c"])[0]))
    rest.positive = 4.0
    model.fit(rest)
    scores = model.score(request(catalog, [], []))
    assert scores[0, 2].item() == pytest.approx(logit(2 / 5), abs=1e-6)  # 2 of 5 of the others


def test_a_second_fit_starts_afresh(data):
    catalog, interactions = data
    half = interactions.select(interactions.items != int(catalog.item_index(["b"])[0]))
    half.positive = 4.0
    for model, buffers in ((LikeShare, ("liked", "average")), (TitleRate, ("rates",))):
        twice, once = model(catalog), model(catalog)
        for part in (interactions, half):
            twice.fit(part)
        once.fit(half)
        for name in buffers:
            assert torch.allclose(getattr(twice, name), getattr(once, name))


def test_data_that_do_not_say_what_happened_are_refused(tmp_path, write_dataset):
    frame = pl.DataFrame([row[:3] for row in ROWS], schema=["user_id", "item_id", "timestamp"], orient="row")
    catalog = Catalog.load(write_dataset(tmp_path / "data", frame))
    with pytest.raises(DataError, match=r"LikeShare counts what happened.*--value-column"):
        LikeShare(catalog)
    model = DIN(catalog)
    assert model.events is None
    assert model.inputs == ("user", "history")


def test_events_change_items_by_hand():
    events = HistoryEvents(2, fields=1, dim=2)
    with torch.no_grad():
        events.scale.weight[2] = torch.tensor([-2.0, 0.5])
        events.shift.weight[2] = torch.tensor([0.25, -1.0])
    found = events(torch.tensor([[[[3.0, 4.0]], [[3.0, 4.0]], [[0.0, 0.0]]]]), torch.tensor([[2, 1, 0]]))
    expected = torch.tensor([[[[3 * -1 + 0.25, 4 * 1.5 - 1]], [[3.0, 4.0]], [[0.0, 0.0]]]])
    assert torch.allclose(found, expected)
    found.sum().backward()
    assert events.scale.weight.grad[2].tolist() == pytest.approx([3, 4])
    assert events.scale.weight.grad[0].abs().sum() + events.shift.weight.grad[0].abs().sum() == pytest.approx(
        0
    )


@pytest.mark.parametrize("model", [DIN, DCNv2, DeepFM])
def test_a_disliked_item_counts_otherwise_than_a_liked_one(data, model):
    catalog, _ = data
    torch.manual_seed(0)
    one = model(catalog, dim=4, hidden=(4,), max_len=3).eval()
    assert one.inputs == ("user", "history", "history_event")
    liked, disliked, unknown = (request(catalog, ["a", "b"], [5, value]) for value in (5, 1, None))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.normal_(std=0.5)
        one.events.scale.weight[0] = one.events.shift.weight[0] = 0
        assert not torch.allclose(one.score(liked), one.score(disliked), atol=1e-3)
        torch.nn.init.zeros_(one.events.scale.weight)
        torch.nn.init.zeros_(one.events.shift.weight)
        without = model(catalog, dim=4, hidden=(4,), max_len=3, events=False).eval()
        without.load_state_dict({k: v for k, v in one.state_dict().items() if not k.startswith("events.")})
        assert "history_event" not in without.inputs
        for asked in (liked, disliked, unknown):
            assert torch.allclose(one.score(asked), without.score(asked), atol=1e-6)
