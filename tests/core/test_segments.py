"""Warm, cold and tail: what they are, what a meter keeps of them, and what an ID-only model knows of cold items."""

import math
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import recloom
import torch
from recloom.cli.main import main
from recloom.data.batches.module import RecDataModule
from recloom.data.prepare.dataset import write_synthetic
from recloom.data.synth.generator import World, synthesise
from recloom.errors import RecloomError
from recloom.evaluation.results import read_per_user, requests
from recloom.fitting.fit import run_command
from recloom.metrics import ItemFacts, core_metrics
from recloom.metrics.accumulator import MetricAccumulator
from recloom.metrics.segments import LEGEND, item_segments
from recloom.training.measurement import _ranks

METRICS = {metric.name: metric for metric in core_metrics()}
RANKED = [name for name, metric in METRICS.items() if metric.needs == "ranks"]
WORLD = World(like="movies", users=150, items=120, seed=3, cold=0.15)


def members(mask):
    return mask.nonzero()[:, 0].tolist()


def test_segments_by_hand():
    counts = torch.tensor([9, 4, 4, 0, 1, 7, 1, 1, 0, 2, 1, 1])  # row 0 is padding
    found = item_segments(counts)
    assert list(found) == ["warm", "cold", "tail"]
    assert members(found["cold"]) == [3, 8]
    assert members(found["warm"]) == [1, 2, 4, 5, 6, 7, 9, 10, 11]
    # 9 / 5 rounded up is 2: item 5 with seven, and of the items with four the first
    assert members(found["tail"]) == [2, 4, 6, 7, 9, 10, 11]
    assert counts[0] == 9


def test_equal_counts_at_the_border_are_told_apart_by_rank_not_by_place():
    """Of six items with two interactions each two are the head: those of the lowest ranks, wherever they stand."""
    counts, ranks = torch.tensor([0, 2, 2, 2, 2, 2, 2]), torch.tensor([-1, 5, 1, 4, 0, 3, 2])
    assert members(item_segments(counts, ranks)["tail"]) == [1, 3, 5, 6]
    moved = torch.tensor([0, 6, 5, 4, 3, 2, 1])
    assert members(item_segments(counts[moved], ranks[moved])["tail"]) == [1, 2, 4, 6]
    assert members(item_segments(torch.tensor([0, 2, 2, 2, 2, 2, 3]), ranks)["tail"]) == [1, 2, 3, 5]


def test_ranks_at_the_border_are_those_of_raw_ids_wherever_items_stand():
    ids = pl.Series("item_id", [f"i{n}" for n in range(40)])
    ranks = {}
    for items in (ids, ids.sort(descending=True)):
        found = _ranks(SimpleNamespace(items=items.to_frame()))
        assert sorted(found[1:].tolist()) == list(range(40))
        ranks[items[0]] = dict(zip(items, found[1:].tolist(), strict=True))
    assert ranks["i0"] == ranks["i9"]
    assert found[1:].tolist() not in (list(range(40)), list(range(39, -1, -1)))


def test_figures_do_not_depend_on_the_order_of_rows(tmp_path, capsys):
    """The same rows in two orders, distinct times: tail, coverage and novelty are equal, as are all others."""
    random = np.random.default_rng(4)
    rows = [
        (f"u{u}", int(i), 100 * t + u) for u in range(40) for t, i in enumerate(random.permutation(30)[:8])
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    found = []
    for name, table in (("a", frame), ("b", frame.sample(fraction=1, shuffle=True, seed=2))):
        table.write_csv(tmp_path / f"{name}.csv")
        main(
            [
                "data",
                "prepare",
                "table",
                "--path",
                str(tmp_path / f"{name}.csv"),
                "--out",
                str(tmp_path / name),
            ]
        )
        for model in ("Popularity", "ItemKNN"):
            run = recloom.fit(tmp_path / name, model, run=tmp_path / f"{model}-{name}")
            found.append({metric: value.mean for metric, value in run.test().metrics.items()})
    assert {"ndcg@10/tail", "coverage@10", "novelty@10"} <= set(found[0])
    for one, other in ((found[0], found[2]), (found[1], found[3])):
        assert one == pytest.approx(other, nan_ok=True)


@pytest.mark.parametrize(("warm", "head"), [(0, 0), (1, 1), (5, 1), (6, 2), (10, 2), (35, 7)])
def test_the_head_is_a_fifth_rounded_up(warm, head):
    counts = torch.cat([torch.zeros(3), torch.arange(1, warm + 1)])
    found = item_segments(counts)
    assert int(found["tail"].sum()) == warm - head
    assert not found["tail"][len(counts) - head :].any()
    assert members(found["cold"]) == [1, 2]


def test_a_meter_keeps_segments_by_hand():
    parts = item_segments(
        torch.tensor([0, 9, 1, 0, 1, 1])
    )  # 3 is cold, 1 is the head, 2, 4 and 5 are the tail
    meter = MetricAccumulator(["ndcg@10", "recall@2", "coverage@2"], METRICS, ItemFacts(num_items=5), parts)
    scores = torch.tensor([[5.0, 4, 3, 2, 1], [1, 2, 3, 4, 5]])
    targets = torch.tensor([[0, 2, 3], [1, 0, -1]])  # items 1, 3, 4 at 1, 3, 4; items 2 and 1 at 4 and 5
    meter.update(scores, targets, candidates=torch.arange(1, 6)[None])
    found = meter.per_user()
    log = {rank: 1 / math.log2(rank + 1) for rank in range(1, 6)}
    assert found["ndcg@10"] == pytest.approx(
        [(1 + log[3] + log[4]) / (1 + log[2] + log[3]), (log[4] + log[5]) / (1 + log[2])]
    )
    assert found["ndcg@10/warm"] == pytest.approx(
        [(1 + log[4]) / (1 + log[2]), (log[4] + log[5]) / (1 + log[2])]
    )
    assert found["ndcg@10/cold"] == pytest.approx([log[3], math.nan], nan_ok=True)
    assert found["ndcg@10/tail"] == pytest.approx([log[4], log[4]])
    assert found["recall@2"].tolist() == pytest.approx([1 / 3, 0])
    assert found["recall@2/warm"].tolist() == [0.5, 0]
    assert found["recall@2/tail"].tolist() == [0, 0]
    values = meter.compute()
    assert [name for name in values if "/" not in name] == ["ndcg@10", "recall@2", "coverage@2"]
    assert values["ndcg@10/cold"] == pytest.approx(0.5)
    assert "coverage@2/cold" not in values


@pytest.mark.parametrize("form", ["targets", "labels", "lists"])
@pytest.mark.parametrize("cutoff", ["@4", ""])
def test_a_segment_is_the_same_meter_with_the_other_targets_left_out(form, cutoff):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(30, 40, generator=generator)
    relevant = torch.rand(30, 40, generator=generator) < 0.15
    ids = torch.arange(1, 41)[None]
    if form == "lists":  # each request its own candidates, some of them padding
        ids = torch.stack([torch.randperm(40, generator=generator) + 1 for _ in range(30)])
        ids[torch.rand(30, 40, generator=generator) < 0.2] = 0
    parts = item_segments((torch.rand(41, generator=generator) * 4).long())
    names = [name + cutoff for name in RANKED if cutoff or METRICS[name].cutoff == "optional"]
    assert len(names) > 3

    def measured(marks, **more):
        meter = MetricAccumulator(names, METRICS, **more)
        for rows in torch.arange(30).split(7):
            given = ids if len(ids) == 1 else ids[rows]
            if form == "targets":
                columns = [torch.where(marks[row])[0] for row in rows]
                padded = torch.nn.utils.rnn.pad_sequence(columns, batch_first=True, padding_value=-1)
                meter.update(scores[rows], padded, candidates=given)
            else:
                meter.update(scores[rows], labels=marks[rows].float(), candidates=given)
        return meter.per_user()

    found = measured(relevant, segments=parts)
    for segment, member in parts.items():
        alone = measured(relevant & member[ids])
        for name in names:
            np.testing.assert_allclose(found[f"{name}/{segment}"], alone[name], rtol=1e-12)
            assert not np.isnan(alone[name]).all()


def test_meters_are_merged_with_their_segments():
    parts = item_segments(torch.tensor([0, 9, 1, 0, 1, 1]))
    scores, targets, items = torch.rand(6, 5), torch.arange(6)[:, None] % 5, torch.arange(1, 6)[None]
    whole, first, second = (MetricAccumulator(["mrr"], METRICS, segments=parts) for _ in range(3))
    whole.update(scores, targets, candidates=items)
    first.update(scores[:4], targets[:4], candidates=items)
    second.update(scores[4:], targets[4:], candidates=items)
    first.merge(second.state())
    for name, values in whole.per_user().items():
        np.testing.assert_array_equal(first.per_user()[name], values)


def test_segments_need_the_ids_of_the_candidates():
    meter = MetricAccumulator(["mrr"], METRICS, segments=item_segments(torch.tensor([0, 1, 0])))
    with pytest.raises(RecloomError, match=r"item ids of the columns, found none; segments need them"):
        meter.update(torch.rand(1, 2), torch.tensor([[0]]))


def test_the_lower_side_of_a_metric_is_that_of_its_segments():
    worse = METRICS | {
        "rank": METRICS["mrr"].__class__(
            name="rank",
            needs="ranks",
            higher_is_better=False,
            function=lambda ranks, k: ranks.amax(1).double(),
        )
    }
    meter = MetricAccumulator(["rank@3", "mrr"], worse, segments={"cold": torch.tensor([False, True])})
    assert meter.lower_is_better == {"rank@3", "rank@3/cold"}


# -- whole runs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "movies"
    made, truth, parameters = synthesise(WORLD)
    write_synthetic(made, folder, truth, parameters)
    return folder


def fitted(movies, run, model, *words):
    split = ["--data.split.strategy=time", "--data.split.test=0.3"]
    given = ["fit", f"--model={model}", f"--data={movies}", f"--run={run}", *split, *words]
    run_command([*given, "--trainer.enable_progress_bar=false"])
    return recloom.load(run)


def test_a_run_is_tested_by_segment_and_validated_without(movies, tmp_path, capsys):
    run = fitted(movies, tmp_path / "run", "Popularity")
    results = run.test()
    counts = requests(results)
    data = RecDataModule(str(movies), split=results.protocol.split)
    data.setup()
    cold = item_segments(data.train.item_counts())["cold"]
    held_out = data.parts["test"]
    with_cold = {int(user) for user, item in zip(*held_out.pairs(), strict=True) if cold[item]}
    assert counts["cold"] == len(with_cold) > 5
    assert 0 < counts["tail"] <= counts["warm"] <= results.metrics["ndcg@10"].n
    table = read_per_user(run.folder)
    assert table["ndcg@10/cold"].is_nan().sum() == len(table) - counts["cold"]
    assert results.metrics["ndcg@10/cold"].undefined == len(table) - counts["cold"]
    capsys.readouterr()
    run_command(["validate", str(run.folder), "--trainer.enable_progress_bar=false"])
    assert "/" not in capsys.readouterr().out.replace("val/", "")


def test_an_id_only_model_is_at_chance_or_worse_on_cold_items(movies, tmp_path):
    run = fitted(movies, tmp_path / "sasrec", "SASRec", "--trainer.max_epochs=5", "--model.metrics=recall@12")
    chance = 12 / WORLD.items
    metrics = run.test().metrics
    assert metrics["recall@12/cold"].low <= chance
    assert metrics["recall@12/cold"].mean < 1.5 * chance < metrics["recall@12/warm"].mean
    texts = fitted(movies, tmp_path / "texts", "TextMean", "--model.metrics=recall@12").test().metrics
    assert texts["recall@12/cold"].low > metrics["recall@12/cold"].mean


@pytest.fixture
def shown(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words):
        capsys.readouterr()
        run_command([*words, "--trainer.enable_progress_bar=false"])
        return capsys.readouterr().out.splitlines()

    return run


def test_the_table_has_a_column_for_each_segment_and_fits_80_columns(movies, tmp_path, shown):
    fitted(
        movies, tmp_path / "run", "TextMean", "--model.metrics=category_diversity@10,impression_mrr@10,mrr"
    )
    lines = shown("test", str(tmp_path / "run"))
    assert max(map(len, lines)) <= 80
    head = next(line.split() for line in lines if line.startswith("metric"))
    assert head == ["metric", "all", "warm", "cold", "tail"]
    place = next(n for n, line in enumerate(lines) if line.startswith("mrr"))
    metrics = recloom.load(tmp_path / "run").test().metrics
    kept = [metrics[name] for name in ("mrr", "mrr/warm", "mrr/cold", "mrr/tail")]
    assert lines[place].split() == ["mrr", *(f"{metric.mean:.4f}" for metric in kept)]
    assert lines[place + 1].split() == [f"{metric.low:.4f}–{metric.high:.4f}" for metric in kept]
    counted = next(line.split() for line in lines if line.startswith("requests"))
    assert counted == ["requests", *(str(metric.n) for metric in kept)]
    assert LEGEND in lines


def test_without_a_cold_item_the_table_says_so(tmp_path, write_dataset, shown):
    rows = pl.DataFrame(
        {
            "user_id": [f"u{n // 5}" for n in range(100)],
            "item_id": [f"i{(n % 5 + n // 5) % 6}" for n in range(100)],
            "timestamp": list(range(100)),
        }
    )
    data = write_dataset(tmp_path / "data", rows)
    run_command(["fit", "--model=Popularity", f"--data={data}", f"--run={tmp_path / 'run'}"])
    lines = shown("test", str(tmp_path / "run"))
    assert next(line.split() for line in lines if line.startswith("metric")) == ["metric", "all", "tail"]
    assert "no cold item is held out, so warm is all" in lines
    assert LEGEND in lines  # tail is shown
    assert requests(recloom.load(tmp_path / "run").test())["cold"] == 0
