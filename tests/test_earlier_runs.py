"""Runs of the state before files moved and were renamed: loaded, tested, resumed and exported as they are."""

from __future__ import annotations

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
import recloom
import yaml
from recloom.cli.main import main
from recloom.evaluation import read_results

FIXTURE = Path(__file__).parent / "fixtures" / "earlier_runs"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text("utf-8"))
RUNS = sorted(EXPECTED["runs"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A copy of the runs and their data."""
    return Path(shutil.copytree(FIXTURE, tmp_path_factory.mktemp("earlier") / "runs"))


def test_the_runs_are_as_they_were_written():
    """A fixture that was brought up to date would prove nothing."""
    paths = {
        name: yaml.safe_load((FIXTURE / "runs" / name / "config.yaml").read_text("utf-8")) for name in RUNS
    }
    found = {name: config["model"]["recommender"]["class_path"] for name, config in paths.items()}
    assert found == {
        "LightGCN": "recloom_graph.lightgcn.LightGCN",
        "SASRec": "recloom_pretrain.sasrec.SASRec",
        "TextMean": "recloom_feature.text_mean.TextMean",
    }
    encoder = paths["TextMean"]["model"]["recommender"]["init_args"]["encoder"]["class_path"]
    assert encoder == "recloom.language.hashing.HashingNgrams"
    assert paths["SASRec"]["trainer"]["plugins"]["class_path"] == "recloom.checkpoint.AtomicCheckpointIO"


@pytest.mark.parametrize("name", RUNS)
def test_an_earlier_run_recommends_the_same_list(place, name):
    expected = EXPECTED["runs"][name]
    run = recloom.load(place / "runs" / name)
    history = expected["history"]
    who = {"history": history} if history else {"user": expected["user"]}
    found = run.recommend(**who, k=len(expected["recommended"]))
    assert [one.item_id for one in found] == [item for item, _ in expected["recommended"]]
    assert [one.score for one in found] == pytest.approx(
        [score for _, score in expected["recommended"]], abs=1e-6
    )
    assert run.record.model == name


@pytest.mark.parametrize("name", RUNS)
def test_an_earlier_run_is_tested_with_the_same_figures(place, name, monkeypatch):
    monkeypatch.chdir(place)
    main(["test", f"runs/{name}"])
    results = read_results(place / "runs" / name)
    found = {metric: value.mean for metric, value in results.metrics.items() if "/tail" not in metric}
    before = {
        metric: value for metric, value in EXPECTED["runs"][name]["metrics"].items() if "/tail" not in metric
    }
    assert found == pytest.approx(before, abs=1e-6)
    assert "recall@10/tail" in results.metrics  # of other items: by hash where counts are equal, not by place
    assert results.model == name


def test_an_earlier_run_goes_on_as_if_never_interrupted(place, tmp_path, monkeypatch):
    shutil.copytree(place, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    main(["fit", "--run", "runs/SASRec", "--ckpt_path", "last", "--trainer.max_epochs", "6"])
    (log,) = Path("runs/SASRec/logs").glob("*/metrics.csv")
    rows = pl.read_csv(log)
    for metric in ("train/loss", "val/ndcg@10"):
        found = dict(rows.drop_nulls(metric).select("epoch", metric).iter_rows())
        whole = {
            row["epoch"]: row[metric] for row in EXPECTED["whole"] if metric in row and row["epoch"] >= 3
        }
        assert len(whole) == 3
        assert found == pytest.approx(whole, abs=1e-6)
    config = yaml.safe_load(Path("runs/SASRec/config.yaml").read_text("utf-8"))
    assert config["model"]["recommender"]["class_path"] == "SASRec"  # written anew, by public names
    assert config["model"]["loss"]["class_path"] == "GBCE"
    assert config["trainer"]["plugins"] is None
    assert (
        json.loads(Path("runs/SASRec/run.json").read_text("utf-8"))["recommender"]["class_path"] == "SASRec"
    )


@pytest.mark.skipif(find_spec("recloom_onnx") is None, reason="recloom-onnx is not installed")
@pytest.mark.parametrize("name", RUNS)
def test_an_earlier_run_is_exported_and_verified(place, tmp_path, name, capsys):
    main(["export", str(place / "runs" / name), "--out", str(tmp_path / "model.onnx")])
    assert (tmp_path / "model.onnx").is_file()
    assert re.search(r"places that differ +0\b", capsys.readouterr().out)
