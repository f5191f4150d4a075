"""Labelled interactions: rows to learn from, and requests to be measured on."""

from __future__ import annotations

import json

import polars as pl
import pytest
import recloom
import torch
from recloom.data.batches.module import RecDataModule
from recloom.data.batches.requests import LabelledRequests
from recloom.data.batches.training_rows import PointwiseRows
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.data.provenance import knowledge_prefix
from recloom.errors import DataError, RecloomError
from recloom.schemas import SplitSpec
from recloom.testing.toys import cyclic_dataset, toy_dataset

ROWS = [
    ("a", 1, 5.0),
    ("a", 2, 1.0),
    ("a", 3, 4.0),
    ("a", 4, 3.5),
    ("a", 5, 2.0),
    ("b", 2, 4.0),
    ("b", 6, 5.0),
]
CATALOG = Catalog(
    pl.DataFrame({"item_id": [f"i{n}" for n in range(1, 7)]}), pl.DataFrame({"user_id": ["a", "b", "c"]})
)


def interactions(rows=ROWS, positive=4.0) -> Interactions:
    frame = pl.DataFrame(
        [(user, f"i{item}", 100 + n, value) for n, (user, item, value) in enumerate(rows)],
        schema=["user_id", "item_id", "timestamp", "value"],
        orient="row",
    )
    found = Interactions.from_frame(frame, CATALOG)
    found.positive = positive
    return found


def test_a_row_is_an_interaction_its_label_and_what_came_before_it():
    rows = PointwiseRows(interactions(), length=3)
    batch = rows[torch.arange(len(rows))]
    assert batch.user.tolist() == [1, 1, 1, 1, 1, 2, 2]
    assert batch.candidates.tolist() == [[1], [2], [3], [4], [5], [2], [6]]
    assert batch.labels.tolist() == [[1.0], [0.0], [1.0], [0.0], [0.0], [1.0], [1.0]]
    assert batch.history.tolist() == [
        [0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [0, 0, 0], [0, 0, 2],
    ]  # fmt: skip
    assert batch.request_time.tolist() == [100, 101, 102, 103, 104, 105, 106]
    assert batch.history_time.tolist()[3] == [100, 101, 102]


def test_a_batch_is_what_its_rows_are_one_by_one():
    rows = PointwiseRows(interactions(), length=2)
    order = torch.tensor([6, 0, 3, 3])
    together = rows[order]
    for n, row in enumerate(order):
        alone = rows[row[None]]
        assert torch.equal(together.history[n], alone.history[0])
        assert torch.equal(together.labels[n], alone.labels[0])


@pytest.mark.fact("A3.1")
def test_no_row_is_among_the_first_of_its_user():
    everything = interactions()
    rows = PointwiseRows(everything, length=3, limit=2)
    batch = rows[torch.arange(len(rows))]
    assert batch.user.tolist() == [1, 1, 1, 2]  # a: n=5, k=2; b: n=2, k=1
    assert batch.candidates.tolist() == [[3], [4], [5], [6]]
    assert batch.history[0].tolist() == [0, 1, 2]  # they may stand in histories
    first = knowledge_prefix(everything.lengths, 2)
    assert (rows.places - everything.starts[rows.users] >= first[rows.users]).all()


def test_an_epoch_is_every_row_once():
    rows = PointwiseRows(interactions(), length=3, limit=1)
    order = rows.epoch(torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(len(rows))) == list(range(5))


def test_a_request_holds_what_its_user_rated_and_the_visible_history_only():
    whole = interactions()
    visible = whole.select(torch.tensor([True, True, False, False, False, False, False]))
    held_out = whole.select(torch.tensor([False, False, True, True, True, True, True]))
    batch = LabelledRequests(visible, held_out)[torch.arange(2)]
    assert batch.user.tolist() == [2, 1]  # fewest candidates first
    assert batch.candidates.tolist() == [[0, 2, 6], [3, 4, 5]]
    assert batch.labels.tolist() == [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    assert batch.history.tolist() == [[0, 0], [1, 2]]
    assert batch.request_time.tolist() == [105, 102]


def test_an_item_rated_twice_is_two_candidates():
    held_out = interactions([("a", 1, 5.0), ("a", 1, 1.0)])
    batch = LabelledRequests(interactions([]), held_out)[torch.arange(1)]
    assert batch.candidates.tolist() == [[1, 1]]
    assert batch.labels.tolist() == [[1.0, 0.0]]


def test_labels_say_what_is_missing():
    with pytest.raises(DataError, match=r"Set --data\.positive, such as 4"):
        interactions(positive=None).labels()
    unrated = interactions()
    unrated.values = None
    with pytest.raises(DataError, match=r"positive=4 reads the column `value`.*these data have none"):
        unrated.labels()
    partly = interactions()
    partly.values = torch.tensor([5.0, float("nan"), 1, 1, 1, 1, 1])
    with pytest.raises(DataError, match="1 of 7 rows have none"):
        partly.labels()


def test_data_without_values_are_refused_by_name(tmp_path):
    folder = cyclic_dataset(tmp_path / "cycle", 5)
    with pytest.raises(RecloomError, match="these data have none"):
        recloom.fit(folder, "DeepFM", {"dim": 4}, run=tmp_path / "run", config={"data": {"positive": 4}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seen": "masked", "positive": 4.0}, "ranks what was really rated.*seen='kept'"),
        ({"seen": "kept"}, r"needs the value from which.*--data\.positive"),
        ({"seen": "kept", "positive": 4.0, "known_first": -1}, "known_first"),
    ],
)
def test_rated_candidates_say_what_they_need(tmp_path, options, message):
    with pytest.raises(RecloomError, match=message):
        RecDataModule(str(tmp_path), candidates="rated", **options)


def test_a_run_on_ratings_from_training_to_its_record(tmp_path):
    folder = toy_dataset(tmp_path / "toy", num_users=30)
    options = {"candidates": "rated", "seen": "kept", "positive": 3, "known_first": 2}
    options["split"] = {"strategy": "random", "valid": 0.2, "test": 0.3}
    run = recloom.fit(
        folder, "DeepFM", {"dim": 4, "hidden": [8]}, run=tmp_path / "run", max_epochs=2,
        config={"data": options, "model": {"metrics": ["auc", "log_loss", "gauc"]}},
    )  # fmt: skip
    results = run.test()
    assert 0 < results.metrics["auc"].mean < 1
    assert 0.3 < results.metrics["log_loss"].mean < 1.5
    protocol = json.loads((run.folder / "metrics.json").read_text())["protocol"]
    assert (protocol["candidates"], protocol["positive"]) == ("rated", 3.0)


def test_the_protocol_names_the_threshold_where_it_counts_only(tmp_path):
    folder = toy_dataset(tmp_path / "toy")
    split = SplitSpec()
    rated = RecDataModule(str(folder), split, candidates="rated", seen="kept", positive=4.0)
    ranked = RecDataModule(str(folder), split, positive=4.0)
    for data in (rated, ranked):
        data.setup()
    assert rated.protocol("test").positive == 4.0
    assert ranked.protocol("test").positive is None
