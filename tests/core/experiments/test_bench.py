"""A bench is the same whether it was killed or not, repeats nothing, and keeps failures apart."""

import json
import os
import signal
import time

import numpy as np
import polars as pl
import pytest
import recloom
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.experiments.fits import FailedFit
from recloom.experiments.many_fits import compared
from recloom.experiments.plan import fits_of, make_spec

MODELS = [
    "Popularity",
    {"name": "SASRec", "model": "SASRec", "options": {"dim": 8}, "config": {"trainer": {"max_epochs": 4}}},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset):
    random = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in np.repeat(np.arange(120), 8)],
            "item_id": [f"i{n}" for n in random.integers(0, 30, 960)],
            "timestamp": np.tile(np.arange(8), 120),
        }
    )
    return write_dataset(tmp_path_factory.mktemp("bench") / "films", rows)


def figures(bench):
    """Every number of a bench but for what depends on the clock."""
    return {
        (cell.model, cell.metric): [
            np.nan if value is None else value for value in (cell.mean, cell.low, cell.high, cell.p_holm)
        ]
        for cell in bench.comparisons["films"].cells
    }


def test_killed_it_goes_on_repeats_nothing_and_equals_the_uninterrupted_one(data, tmp_path, warm_python):
    both = ["ndcg@10", "hit@10"]
    whole = recloom.bench(MODELS, data, seeds=(0, 1), out=tmp_path / "whole", metrics=both)
    assert [cell.seeds for cell in whole.comparisons["films"].cells] == [1, 1, 2, 2]
    assert whole.failures == []
    assert "SASRec (2 seeds)" in repr(whole)
    assert "SASRec (2 seeds)" in (tmp_path / "whole" / "table.tex").read_text()

    asked = {"models": MODELS, "data": str(data), "seeds": [0, 1], "metrics": "ndcg@10"}
    (tmp_path / "killed.yaml").write_text(json.dumps(asked))
    words = ["bench", str(tmp_path / "killed.yaml"), "--out", str(tmp_path / "killed")]
    with open(os.devnull, "r+") as none:
        process = warm_python.start("-m", "recloom.cli.main", *words, stdin=none, stdout=none, stderr=none)
    runs, deadline = tmp_path / "killed" / "films", time.monotonic() + 120
    while not (runs / "SASRec/seed-0/checkpoints/last.ckpt").is_file():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    fitted = (runs / "Popularity/seed-0/run.json").stat().st_mtime_ns
    assert (runs / "Popularity/seed-0/metrics.json").is_file()
    assert not (runs / "SASRec/seed-1").exists()

    resumed = recloom.bench(
        MODELS, data, seeds=(0, 1), out=tmp_path / "killed", metrics=both
    )  # one more metric
    assert (runs / "Popularity/seed-0/run.json").stat().st_mtime_ns == fitted
    first, second = figures(whole), figures(resumed)
    assert (
        first.keys()
        == second.keys()
        == {(model, metric) for model in ("Popularity", "SASRec") for metric in both}
    )
    for key, values in first.items():
        assert second[key] == pytest.approx(values, rel=1e-5, nan_ok=True), key


def test_what_fails_is_told_and_the_rest_is_compared(data, tmp_path, capsys):
    odd = {"name": "odd", "model": "SASRec", "options": {"dim": 7, "num_heads": 2}}
    file = tmp_path / "bench.yaml"
    file.write_text(json.dumps({"models": ["Popularity", odd, "ItemKNN"], "data": str(data), "seeds": 0}))
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(file), "--out", str(tmp_path / "out")])
    assert ended.value.code == 1
    told = capsys.readouterr().out
    assert "2/3  films: odd, seed 0: " in told
    assert "failed: films: odd, seed 0: " in told
    assert "table.md, table.tex, table.csv, results.json" in told
    assert "ItemKNN" in (tmp_path / "out" / "table.md").read_text()
    assert "odd" in json.loads((tmp_path / "out" / "results.json").read_text())["failures"].popitem()[0]


def test_nothing_to_compare_is_an_error_with_the_reasons(data, tmp_path):
    spec = make_spec({"models": ["ItemKNN", "Popularity"], "data": str(data), "seeds": 0})
    fits = fits_of(spec, tmp_path)
    with pytest.raises(RecloomError, match=r"(?s)nothing can be compared.*films: ItemKNN, seed 0: no memory"):
        compared(spec, fits, [FailedFit(fits[0], "no memory")])
    with pytest.raises(RecloomError, match="two models or more"):
        recloom.bench(["ItemKNN"], data, seeds=(0,), out=tmp_path)
