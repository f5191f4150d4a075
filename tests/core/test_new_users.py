"""Requests without history, cold items and the floor of popularity: what a test says of them."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import recloom
import torch
from recloom.data.batches.module import RecDataModule
from recloom.data.batches.requests import ImpressionRequests, count_impressions
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.evaluation.compare import compare
from recloom.evaluation.results import read_per_user, remarks, show
from recloom.fitting.fit import run_command
from recloom.metrics import core_metrics
from recloom.metrics.accumulator import MetricAccumulator
from recloom.schemas import SplitSpec

METRICS = {metric.name: metric for metric in core_metrics()}
TIME = SplitSpec(strategy="time", valid=0.15, test=0.3)


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset):
    """110 rows of twenty users, 30 of validation by seven new ones, 60 of test by nine new ones and two known."""
    rows = [(f"u{n % 20}", f"i{(n * n + n // 20) % 11}", n) for n in range(110)]
    rows += [(f"w{n % 7}", f"i{n % 11}", 500 + n) for n in range(30)]
    rows += [(f"v{n % 9}", f"i{n % 13}", 1000 + n) for n in range(50)]
    rows += [(f"u{n % 2}", f"i{n % 13}", 1010 + n) for n in range(10)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").sort("timestamp")
    frame = frame.with_columns(value=(1 + pl.int_range(pl.len()) % 5).cast(pl.Float32))
    titles = [f"part {n % 4} of {n % 3}" for n in range(13)]
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(13)], "title": titles})
    return write_dataset(tmp_path_factory.mktemp("new") / "data", frame, items)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """Tested runs by model, under a split by time."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for model in ("ItemKNN", "Popularity", "TextMean"):
        found[model] = folder / model
        run_command(["fit", f"--model={model}", f"--data={data}", f"--run={found[model]}", "--data.split.strategy=time",
                     "--data.split.test=0.3", "--data.split.valid=0.15"])  # fmt: skip
        recloom.load(found[model]).test()
    return found


@pytest.mark.parametrize("metric", ["ndcg@10", "impression_auc"])
def test_known_and_new_requests_by_hand(metric):
    meter = MetricAccumulator([metric], METRICS)
    scores = torch.tensor([[5.0, 4, 3], [5, 4, 3], [5, 4, 3]])
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])  # ranks 1, 2 and 3
    meter.update(scores[:2], labels=labels[:2], new=torch.tensor([False, True]))
    meter.update(scores[2:], labels=labels[2:], new=torch.tensor([True]))
    value = {"ndcg@10": lambda rank: 1 / math.log2(rank + 1), "impression_auc": lambda rank: (3 - rank) / 2}[
        metric
    ]
    found = meter.compute()
    assert list(found) == [metric, f"{metric}/known", f"{metric}/new"]
    assert found[f"{metric}/known"] == pytest.approx(value(1))
    assert found[f"{metric}/new"] == pytest.approx((value(2) + value(3)) / 2)
    assert found[metric] == pytest.approx((value(1) + value(2) + value(3)) / 3)
    assert meter.without_history == 2
    first, second = MetricAccumulator([metric], METRICS), MetricAccumulator([metric], METRICS)
    first.update(scores[:1], labels=labels[:1], new=torch.tensor([False]))
    second.update(scores[1:], labels=labels[1:], new=torch.tensor([True, True]))
    first.merge(second.state())
    assert first.compute() == pytest.approx(found)
    assert first.without_history == 2


@pytest.mark.parametrize(("new", "counted"), [(None, None), (torch.tensor([False, False]), 0)])
def test_where_no_request_is_new_nothing_is_told_apart(new, counted):
    meter = MetricAccumulator(["ndcg@10"], METRICS)
    meter.update(torch.tensor([[2.0, 1], [1, 2]]), torch.tensor([[0], [0]]), new=new)
    assert list(meter.compute()) == ["ndcg@10"]
    assert meter.without_history == counted


def test_a_test_counts_requests_without_history_and_keeps_them_apart(runs):
    results = recloom.evaluation.read_results(runs["ItemKNN"])
    table = read_per_user(runs["ItemKNN"])
    new = table["user_id"].str.starts_with("v")
    assert results.without_history == int(new.sum()) == 9
    assert results.metrics["ndcg@10/new"].n == 9
    assert results.metrics["ndcg@10/known"].n == len(table) - 9 == 2
    apart = {name.partition("@")[0] for name in results.metrics if name.endswith("/new")}
    assert apart == {"ndcg", "recall", "hit", "mrr"}  # what a list holds is no merit of the request
    assert {"novelty@10", "coverage@10"} <= set(results.metrics)
    assert results.metrics["ndcg@10/new"].mean == pytest.approx(table.filter(new)["ndcg@10"].mean())
    assert table.filter(new)["ndcg@10/known"].is_nan().all()


def test_the_floor_is_what_popularity_gets_on_the_same_requests(runs):
    floor = recloom.evaluation.read_results(runs["ItemKNN"]).floor
    tested = recloom.evaluation.read_results(runs["Popularity"]).metrics
    assert {"ndcg@10", "ndcg@10/new", "ndcg@10/known", "ndcg@10/warm"} <= set(floor)
    assert floor == pytest.approx({name: tested[name].mean for name in floor})
    assert tested["ndcg@10/known"].mean != pytest.approx(tested["ndcg@10"].mean)


def test_the_floor_of_labelled_candidates_has_no_metric_of_chances(tmp_path, write_dataset):
    rows = [(f"u{n % 8}", f"i{(n * 3 + n // 8) % 7}", n, 1.0 + n % 5) for n in range(90)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "value"], orient="row")
    folder = write_dataset(tmp_path / "data", frame)
    options = ["--data.candidates=rated", "--data.seen=kept", "--data.positive=4", "--model.metrics=auc,gauc,log_loss",
               "--data.split.strategy=time"]  # fmt: skip
    run_command(["fit", "--model=Popularity", f"--data={folder}", f"--run={tmp_path / 'run'}", *options])
    results = recloom.load(tmp_path / "run").test()
    assert set(results.floor) == {"auc", "gauc"}
    assert results.floor["auc"] == pytest.approx(results.metrics["auc"].mean)


def lines_of(run, capsys):
    show(recloom.evaluation.read_results(run))
    return capsys.readouterr().out.splitlines()


def test_metrics_over_all_pairs_are_kept_apart_by_hand():
    names = ["auc", "gauc", "log_loss"]
    parts = {
        "known": ([[3.0, 2, 1]], [[1.0, 0, 1]]),  # .5 of the pairs in order
        "new": ([[0.0, 3, 1], [5, 4, 9]], [[0.0, 1, 0], [1, 0, 0]]),  # 1 and .5 of them; 5 of 8 over both
    }
    meter = MetricAccumulator(names, METRICS)
    for which, (scores, labels) in parts.items():
        new = torch.full((len(scores),), which == "new")
        users = torch.arange(len(scores)) + 10 * (which == "new")
        meter.update(torch.tensor(scores), labels=torch.tensor(labels), users=users, new=new)
    found = meter.compute()
    assert list(found) == [name + part for name in names for part in ("", "/known", "/new")]
    assert (found["auc/known"], found["auc/new"]) == pytest.approx((0.5, 5 / 8))
    assert (found["gauc/known"], found["gauc/new"]) == pytest.approx((0.5, 0.75))
    for which, (scores, labels) in parts.items():
        logits, given = torch.tensor(scores).flatten(), torch.tensor(labels).flatten()
        wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, given)
        assert found[f"log_loss/{which}"] == pytest.approx(wanted.item(), rel=1e-5)
    assert set(meter.per_user()) == set()
    assert {"log_loss", "log_loss/known", "log_loss/new"} <= meter.lower_is_better
    once = {name: draw(np.ones((1, 3))).item() for name, draw in meter.of_draws().items()}
    assert once == pytest.approx(found)
    alone = MetricAccumulator(names, METRICS)
    scores, labels = map(torch.tensor, parts["known"])
    alone.update(scores, labels=labels, new=torch.tensor([False]))
    assert list(alone.compute()) == names, "where none is new there is nothing to tell apart"


def test_a_test_of_labelled_candidates_has_known_and_new_columns(data, tmp_path, capsys):
    options = ["--data.candidates=rated", "--data.seen=kept", "--data.positive=4", "--model.metrics=auc,gauc,log_loss",
               "--data.split.strategy=time", "--data.split.test=0.3", "--data.split.valid=0.15"]  # fmt: skip
    run_command(["fit", "--model=TitleRate", f"--data={data}", f"--run={tmp_path / 'run'}", *options])
    results = recloom.load(tmp_path / "run").test()
    counts = {name: value.n for name, value in results.metrics.items()}
    assert counts == {f"{m}{part}": n for m in ("auc", "gauc", "log_loss")
                      for part, n in (("", 11), ("/known", 2), ("/new", 9))}  # fmt: skip
    assert set(results.floor) == {f"{m}{part}" for m in ("auc", "gauc") for part in ("", "/known", "/new")}
    assert all(value.mean is not None and value.low is not None for value in results.metrics.values())
    capsys.readouterr()
    lines = lines_of(tmp_path / "run", capsys)
    assert [line.split() for line in lines if line.startswith("metric")] == [
        ["metric", "all", "known", "new"]
    ]
    assert ["requests", "11", "2", "9"] in [line.split() for line in lines]
    assert "known: users with a history; new: requests without one" in lines


def test_the_table_of_a_test_says_all_of_it(runs, capsys):
    lines = lines_of(runs["ItemKNN"], capsys)
    assert max(map(len, lines)) <= 80
    heads = [line.split() for line in lines if line.startswith("metric")]
    assert heads == [["metric", "all", "known", "new"], ["metric", "warm", "cold", "tail"]]
    ndcg = [line.split() for line in lines if line.startswith("ndcg@10")]
    assert ndcg[1][2] == "–"
    results = recloom.evaluation.read_results(runs["ItemKNN"])
    low = [line.split() for line in lines if line.startswith("  Popularity")]
    assert low[0] == ["Popularity", *(f"{results.floor[f'ndcg@10{s}']:.4f}" for s in ("", "/known", "/new"))]
    assert low[len(low) // 2][2] == "–"
    for said in (
        "known: users with a history; new: requests without one",
        "–: ItemKNN was not trained on cold items and cannot score them",
        "Popularity: training counts on the same requests, the floor",
        "9 of 11 requests have no history: there is nothing to tell them apart by",
        "95 % intervals by bootstrap over users",
    ):
        assert said in lines
    few = next(line for line in lines if line.startswith("few requests, below 100"))
    assert few.startswith("few requests, below 100, tell few models apart: all (11), known (2), new (9)")


def test_what_reads_texts_has_a_cold_column(runs, capsys):
    lines = lines_of(runs["TextMean"], capsys)
    cold = [line.split() for line in lines if line.startswith("ndcg@10")][1][2]
    assert float(cold) == pytest.approx(
        recloom.evaluation.read_results(runs["TextMean"]).metrics["ndcg@10/cold"].mean, abs=1e-4
    )
    assert not [line for line in lines if "not trained" in line]


def test_a_comparison_shows_floor_dashes_and_what_requests_lack(runs):
    found = compare([runs["TextMean"], runs["ItemKNN"]], long=True)
    cells = {(cell.model, cell.metric): cell for cell in found.cells}
    assert not cells["ItemKNN", "ndcg@10/cold"].trained
    assert cells["ItemKNN", "ndcg@10/cold"].difference is None
    assert cells["TextMean", "ndcg@10/cold"].trained
    text = repr(found)
    assert text.count("Popularity (floor)") == len(found.floor) - sum(
        name.endswith("/cold") for name in found.floor
    )
    assert "–: not trained on these items, which the model cannot score" in text
    assert "9 of 11 requests have no history" in text
    assert "Popularity (floor)" not in repr(compare([runs["TextMean"], runs["Popularity"]]))


def test_enough_requests_with_a_history_are_counted_in_one_line(runs):
    results = recloom.evaluation.read_results(runs["ItemKNN"])
    many = results.model_copy(
        update={"protocol": results.protocol.model_copy(update={"users": 100}), "metrics": {}}
    )
    assert remarks(many.model_copy(update={"without_history": 0})) == ["all 100 requests have a history"]
    assert remarks(many.model_copy(update={"without_history": None})) == []


def test_new_users_are_left_out_by_name_and_the_protocol_says_so(data):
    module = RecDataModule(str(data), TIME, new_users="dropped")
    module.setup()
    served = list(module.test_dataloader())
    assert sum(map(len, served)) == module.protocol("test").users == 2
    assert all((batch.history > 0).any(1).all() for batch in served)
    assert module.protocol("test").new_users == "dropped"
    labelled = RecDataModule(
        str(data), TIME, candidates="rated", seen="kept", positive=1.0, new_users="dropped"
    )
    labelled.setup()
    assert sum(map(len, labelled.test_dataloader())) == 2


def test_where_only_new_users_are_held_out_none_can_be_dropped(tmp_path, write_dataset):
    rows = [(f"u{n // 4}", f"i{n % 4}", n) for n in range(40)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    module = RecDataModule(str(write_dataset(tmp_path / "data", frame)), TIME, new_users="dropped")
    module.setup()
    with pytest.raises(RecloomError, match=r"leaves no request of the test part.*--data.new_users kept"):
        module.test_dataloader()


def test_impressions_without_a_history_are_counted_and_left_out(data, tmp_path):
    impressions = pl.DataFrame(
        {
            "user_id": ["u0", "u1", "v0"], "timestamp": [5, 6, 7], "history": [["i1"], [], None],
            "candidates": [["i1", "i2"]] * 3, "labels": [[1, 0]] * 3,
        },
        schema_overrides={"history": pl.List(pl.String)},
    )  # fmt: skip
    impressions.write_parquet(tmp_path / "impressions.parquet")
    catalog = Catalog.load(data)
    kept = ImpressionRequests(tmp_path, catalog, 0, None)
    assert (len(kept), kept.new, count_impressions(tmp_path, 0, None)) == (3, 2, 3)
    known = ImpressionRequests(tmp_path, catalog, 0, None, known=True)
    assert (len(known), known.new, count_impressions(tmp_path, 0, None, known=True)) == (1, 0, 1)


def test_a_validation_of_mostly_new_users_is_warned_of(data):
    module = RecDataModule(str(data), TIME)
    module.setup()
    with pytest.warns(
        UserWarning, match=r"mostly of new users: \d+ of \d+ requests.*--data.new_users dropped"
    ):
        module.val_dataloader()


def test_a_validation_of_known_users_is_not(data, tmp_path, write_dataset, recwarn):
    known = [(f"u{n % 10}", f"i{n % 7}", n) for n in range(80)]
    later = [(f"u{n}" if n < 7 else f"w{n}", f"i{n % 7}", 100 + n) for n in range(20)]
    frame = pl.DataFrame([*known, *later], schema=["user_id", "item_id", "timestamp"], orient="row")
    some = RecDataModule(
        str(write_dataset(tmp_path / "data", frame)), SplitSpec(strategy="time", valid=0.1, test=0.1)
    )
    some.setup()
    assert some.val_dataloader().dataset.new == 3
    module = RecDataModule(str(data))
    module.setup()
    module.val_dataloader()
    assert not [w for w in recwarn if "new users" in str(w.message)]
