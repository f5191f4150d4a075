"""The lists that a test measures are the lists that `predict` writes; ties against the model concern ranks alone."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from recloom.cli.main import main
from recloom.evaluation.results import read_results
from recloom.metrics import ItemFacts, core_metrics
from recloom.metrics.accumulator import MetricAccumulator
from recloom.metrics.functional import first_k


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset):
    """80 users of 5 items out of 300: most candidates of a neighbour model have score 0, so equal ones."""
    random = np.random.default_rng(2)
    rows = [(f"u{u}", f"i{i}", t) for u in range(80) for t, i in enumerate(random.permutation(300)[:5])]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    return write_dataset(tmp_path_factory.mktemp("data") / "sparse", frame)


@pytest.mark.parametrize("model", ["ItemKNN", "Popularity"])
def test_coverage_and_novelty_are_those_of_the_lists_that_predict_writes(data, tmp_path, model):
    run = tmp_path / model
    main(["fit", f"--model={model}", f"--data={data}", f"--run={run}", "--trainer.accelerator=cpu"])
    main(["test", str(run)])
    main(["predict", str(run)])
    rows = pl.read_parquet(data / "interactions.parquet")
    lists = pl.read_parquet(run / "predictions.parquet")
    items = pl.read_parquet(data / "items.parquet")
    rank = pl.int_range(pl.len()).over("user_id")
    train = rows.filter(rank < pl.len().over("user_id") - 2)["item_id"].value_counts()
    counts = lists.join(train, on="item_id", how="left")["count"].fill_null(1)
    found = read_results(run).metrics
    assert len(lists) == 800
    assert found["coverage@10"].mean == pytest.approx(lists["item_id"].n_unique() / items.height, abs=1e-12)
    novelty = float(-(counts / train["count"].sum()).log(2).mean())
    assert found["novelty@10"].mean == pytest.approx(novelty, abs=1e-9)


def test_a_list_holds_the_first_of_equal_scores_and_a_rank_counts_them_all():
    """Items 2 to 9 have one score: the list of 3 is 1, 2, 3, and item 2 has rank 9."""
    scores = torch.tensor([[2.0, *[1.0] * 8, 0.0, float("nan")]]).repeat(3, 1)
    facts = ItemFacts(num_items=11, popularity=torch.ones(12))
    metrics = {metric.name: metric for metric in core_metrics()}
    meter = MetricAccumulator(["mrr@10", "coverage@3"], metrics, facts)
    meter.update(scores, torch.tensor([[1], [1], [1]]), candidates=torch.arange(1, 12)[None])
    found = meter.compute()
    assert found["coverage@3"] == pytest.approx(3 / 11)
    assert found["mrr@10"] == pytest.approx(1 / 10)  # behind the equal ones, and behind what is no number


@pytest.mark.parametrize(("columns", "levels"), [(7, 2), (64, 3), (500, 4), (500, 1)])
def test_first_k_is_the_stable_sort_of_the_row(columns, levels):
    random = torch.Generator().manual_seed(columns)
    scores = torch.randint(0, levels, (20, columns), generator=random).float()
    scores[:, ::5] = -torch.inf
    scores[3, 1] = float("nan")
    clean = scores.masked_fill(scores.isnan(), -torch.inf)
    order = clean.sort(dim=1, descending=True, stable=True)
    for k in (1, 3, min(40, columns), columns + 2):
        values, places = first_k(scores, k)
        assert places.equal(order.indices[:, :k])
        assert values.equal(order.values[:, :k])
