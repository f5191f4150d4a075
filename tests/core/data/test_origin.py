"""Vectors of texts that were written from rows which a run holds out, or is to learn, are refused."""

from __future__ import annotations

import json

import polars as pl
import pyarrow.parquet as pq
import pytest
from recloom.cli import main
from recloom.data.module import RecDataModule
from recloom.data.origin import ORIGIN, check_first, check_split, origin
from recloom.errors import DataError
from recloom.schemas import SplitSpec


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("origin") / "data"
    main(["data", "synth", "--users", "60", "--items", "60", "--out", str(folder)])
    return folder


def vectors(path, made):
    table = pl.DataFrame({"user_id": ["u01"], "vector": [[1.0, 2.0]]}).to_arrow()
    pq.write_table(table.replace_schema_metadata({ORIGIN: json.dumps(made).encode()} if made else {}), path)
    return str(path)


def test_a_file_that_says_nothing_is_taken_as_it_is(tmp_path):
    path = vectors(tmp_path / "v.parquet", {})
    assert origin(path) == {}
    check_split(path, "d", "s")
    check_first(path, None)


def test_texts_of_another_split_or_dataset_are_refused(tmp_path):
    path = vectors(tmp_path / "v.parquet", {"data_hash": "d", "split_hash": "s", "first": None})
    check_split(path, "d", "s")
    with pytest.raises(DataError, match="training rows of another split, so they may tell what this run"):
        check_split(path, "d", "t")
    with pytest.raises(DataError, match="another dataset and split"):
        check_split(path, "e", "t")


@pytest.mark.parametrize(
    ("first", "known_first", "told"),
    [
        (None, None, "whole training histories"),
        (None, 30, "whole training histories"),
        (30, None, "Set --data.known_first 30; found None"),
        (30, 15, "Set --data.known_first 30; found 15"),
        (30, 30, ""),
        (15, 30, ""),
    ],
)
def test_a_click_model_learns_nothing_that_its_texts_tell(first, known_first, told, tmp_path):
    path = vectors(tmp_path / "v.parquet", {"data_hash": "d", "split_hash": "s", "first": first})
    if not told:
        check_first(path, known_first)
        return
    with pytest.raises(DataError, match=told):
        check_first(path, known_first)


def test_from_profile_to_data_module(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(
        ["profile", str(data), "--kind", "user", "--first", "4", "--out", "up.parquet", "--llm.model", "Fake"]
    )
    main(["embed", str(data), "--of", "users", "--texts", "up.parquet", "--out", "uv.parquet"])
    assert origin("uv.parquet").keys() == {"texts", "columns", "data_hash", "split_hash", "first"}
    RecDataModule(str(data), user_vectors="uv.parquet").setup()
    other = RecDataModule(str(data), user_vectors="uv.parquet", split=SplitSpec(strategy="time"))
    with pytest.raises(DataError, match="another split"):
        other.setup()


def test_vectors_of_other_texts_are_not_replaced_in_silence(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["profile", str(data), "--kind", "title", "--out", "titles.parquet", "--llm.model", "Fake"])
    main(["embed", str(data), "--texts", "titles.parquet", "--out", "v.parquet"])
    with pytest.raises(SystemExit):
        main(["embed", str(data), "--out", "v.parquet"])
    assert "v.parquet holds vectors of titles.parquet" in capsys.readouterr().err
    main(["embed", str(data), "--out", "v.parquet", "--overwrite"])
    assert origin("v.parquet")["texts"] is None


def test_texts_with_other_words_in_their_metadata_are_read(data, tmp_path):
    ids = pl.read_parquet(data / "items.parquet")["item_id"]
    texts = pl.DataFrame({"item_id": ids, "text": ids})
    texts.write_parquet(tmp_path / "t.parquet", metadata={"recloom.method": "SeRALM (reconstruction)"})
    main(["embed", str(data), "--texts", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "v.parquet")])
    assert origin(tmp_path / "v.parquet") == {"texts": "t.parquet", "columns": None}
