"""Issue 3, shown by 3: which MIND impressions are measured, by the functions of benchmarks/mind.py (card A1)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl
import pytest
from recloom.data.prepare.source import prepare_source
from recloom.data.readers.mind import Mind

ROOT = Path(__file__).parents[3]
LINE = "{}\tU{}\t11/{}/2019 9:00:00 AM\t{}\t{}\n"
NEWS = "{}\tsports\tgolf\t{}\tAn abstract\turl\t[]\t[]\n"


@pytest.fixture(scope="module")
def mind():
    spec = importlib.util.spec_from_file_location("mind_benchmark", ROOT / "benchmarks" / "mind.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")  # a script finds its neighbours
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def tables(tmp_path, mind):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "behaviors.tsv").write_text(
        LINE.format(1, 1, 11, "N1 N9", "N1-1 N8-0 N2-0")  # the first line: one candidate has no text
        + LINE.format(2, 2, 10, "", "N2-0 N1-1")  # no history
        + LINE.format(3, 3, 12, "N8 N9", "N1-0 N9-1")  # the clicked one has no text
        + LINE.format(4, 4, 13, "N8", "N3-1 N2-0 N1-0")  # a history without text
        + LINE.format(5, 1, 14, "N1 N9", "N3-1 N9-0")  # what is not clicked has no text
    )
    (raw / "news.tsv").write_text(
        NEWS.format("N1", "Golf")
        + NEWS.format("N2", "Tea")
        + NEWS.format("N3", "Art")
        + NEWS.format("N4", " ")
    )
    prepare_source("mind", tmp_path / "data", raw, keep_all_items=True)
    return mind.read(tmp_path / "data")


def test_candidates_without_text_go_and_impressions_need_both_kinds(mind, tables):
    titled = mind.titles(tables["items"])
    assert titled.to_list() == ["N1", "N2", "N3"]
    kept = mind.with_text(tables["impressions"], titled)
    assert kept["impression_id"].to_list() == ["1", "2", "4"]
    assert kept["candidates"].to_list() == [["N1", "N2"], ["N2", "N1"], ["N3", "N2", "N1"]]
    assert kept["labels"].to_list() == [[1, 0], [0, 1], [1, 0, 0]]
    assert kept["history"].to_list() == [["N1", "N9"], [], ["N8"]]  # as recorded
    assert mind.strict(tables["impressions"], titled)["impression_id"].to_list() == ["2", "4"]
    assert mind.some_taste(kept, titled)["impression_id"].to_list() == ["1"]
    assert mind.empty(kept) == 1


def test_histories_come_before_every_impression_in_their_order(mind, tables):
    moved = mind.history_first(tables["interactions"], tables["impressions"])
    history, clicks = (moved.filter(pl.col("event") == event) for event in ("history", "click"))
    assert history["timestamp"].max() < clicks["timestamp"].min() == tables["impressions"]["timestamp"].min()
    before = tables["interactions"].filter(pl.col("event") == "click")
    assert clicks.equals(before)
    first = history.filter(pl.col("user_id") == "U1").sort("timestamp")
    assert first["item_id"].to_list() == ["N1", "N9"]
    assert first["timestamp"].diff().to_list() == [None, 1]


@pytest.mark.parametrize("part", ["small_train_5000", "rows100"])
@pytest.mark.fact("A1.1")
def test_every_line_of_the_real_files_is_read(real_data, part):
    folder = real_data / "mind-sample" / part
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    raw = Mind().read(folder)
    for name, table, rejected, key in [
        ("behaviors.tsv", raw.impressions, raw.rejected, "impression_id"),
        ("news.tsv", raw.items, raw.rejected_items, "item_id"),
    ]:
        lines = (folder / name).read_text("utf-8").splitlines()
        header = lines[0].split("\t")[0] in ("impression_id", "news_id", "item_id")
        assert table.height + rejected.height == len(lines) - header
        assert table[key][0] == lines[header].split("\t")[0]  # the first row is there
    assert not raw.rejected.height
    assert not raw.impressions["history"].null_count()


def test_the_figures_say_that_no_line_was_lost():
    import json

    found = json.loads((ROOT / "benchmarks" / "mind.json").read_text())
    assert found["lines of the files"] == found["rows read"] == {"behaviors.tsv": 5000, "news.tsv": 2000}
    whole = found["views"]["all days"]
    assert whole["impressions tested"] == found["counts"]["kept, impressions with a clicked and a not clicked "
                                                          "candidate with a title"]  # fmt: skip
    for view in found["views"].values():
        for row in view["rows"].values():
            assert set(row) == {"impression_auc", "impression_mrr", "ndcg@5", "ndcg@10"}
            assert all(0 < one["low"] <= one["mean"] <= one["high"] < 1 for one in row.values())
