"""Exported files are reached by the hook `register_artefacts` alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from recloom.batch import Batch
from recloom.cli.main import main
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.models import Popularity
from recloom.runs import artefacts
from recloom.runs.add_items import add_items
from recloom.runs.artefacts import artefacts_of
from recloom.testing.exported import exported_scores


class Tapes:
    """Notes what it is asked."""

    name = "tape"
    runtime = "the tape machine"

    def __init__(self):
        self.asked = []

    def recommend(self, artefact, requests, out, *, k=10, exclude=()):
        self.asked.append((artefact, requests, out, k, [*exclude]))

    def trace(self, spec, num_items, num_users, context=0):
        self.asked.append((num_items, num_users))
        return lambda *fields: 2 * spec.module(*fields)


@pytest.fixture
def tapes(monkeypatch):
    made = Tapes()
    monkeypatch.setattr(artefacts, "collect", lambda hook: {"tape": made} if "artefacts" in hook else {})
    return made


def test_recommend_gives_the_file_to_who_reads_its_ending(tapes, tmp_path):
    words = ["recommend", "--artefact", "m.tape", "--users", "u.parquet", "--out", "o.parquet"]
    main([*words, "--k", "3", "--exclude", "a", "b"])
    assert tapes.asked == [(Path("m.tape"), Path("u.parquet"), Path("o.parquet"), 3, ["a", "b"])]


def test_recommend_names_the_options_that_no_exported_file_takes(tapes, capsys):
    words = ["recommend", "--artefact", "m.tape", "--users", "u.parquet", "--out", "o.parquet"]
    for more, named in (
        (["--events", "3"], "--events"),
        (["--llm.offline", "true"], "--llm.offline"),
        (["--events", "3", "--llm.max_calls", "5"], "--events, --llm.max_calls"),
    ):
        with pytest.raises(SystemExit):
            main([*words, *more])
        assert f"--artefact does not take {named}: an exported file" in capsys.readouterr().err
    assert tapes.asked == []


def test_an_ending_that_nobody_reads_is_refused_before_any_work(tapes, tmp_path):
    with pytest.raises(RecloomError, match=r"--artefact names a file that ends in \.tape, found 'm\.onnx'"):
        artefacts_of(Path("m.onnx"), "--artefact")
    with pytest.raises(RecloomError, match=r"--export names a file that ends in \.tape, found 'm\.onnx'"):
        add_items("no run", Path("no file"), out=tmp_path / "grown", export=Path("m.onnx"))


def test_without_a_package_for_exported_files_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(artefacts, "collect", lambda hook: {})
    expected = r"--export needs recloom-onnx, which is not installed.*: pip install 'recloom-onnx\[cpu\]'"
    with pytest.raises(RecloomError, match=expected):
        artefacts_of(Path("m.onnx"), "--export")


def test_the_contract_tests_run_what_every_kind_of_file_traces(tapes):
    import polars as pl
    import torch

    catalog = Catalog(pl.DataFrame({"item_id": ["a", "b"]}), pl.DataFrame({"user_id": ["u"]}))
    recommender = Popularity(catalog)
    recommender.popularity = torch.tensor([0.0, 1.0, 5.0])
    batch = Batch.of(torch.tensor([[1], [2]]))
    found = dict(exported_scores(recommender.export(), batch, recommender))
    assert list(found) == ["torch", "the tape machine", "the tape machine, one by one"]
    assert torch.equal(found["the tape machine"], 2 * found["torch"])
    assert tapes.asked == [(2, 1)]
