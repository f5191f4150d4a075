"""Vectors of texts that a run must not see, or of another encoder than its own, are refused."""

from __future__ import annotations

import json

import polars as pl
import pyarrow.parquet as pq
import pytest
from recloom.cli.main import main
from recloom.data.batches.module import RecDataModule
from recloom.data.catalog import Catalog
from recloom.data.provenance import (
    ENCODER,
    ORIGIN,
    check_encoder,
    check_first,
    check_split,
    encoder_of,
    provenance_of,
)
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
    assert provenance_of(path) == {}
    check_split(path, "d", "s")
    check_first(path, None)


def test_texts_of_another_split_or_dataset_are_refused(tmp_path):
    path = vectors(tmp_path / "v.parquet", {"data_hash": "d", "split_hash": "s", "first": None})
    check_split(path, "d", "s")
    with pytest.raises(DataError, match=r"training rows of another split, so they may tell what this run"):
        check_split(path, "d", "t")
    with pytest.raises(DataError, match=r"another dataset and split"):
        check_split(path, "e", "t")


def test_a_graph_of_another_split_is_refused_as_what_it_is(tmp_path):
    made = {"data_hash": "d", "split_hash": "s", "first": None, "graph": "bipartite"}
    path = vectors(tmp_path / "v.parquet", made)
    check_split(path, "d", "s")
    with pytest.raises(
        DataError, match=r"the graph behind .* was made from the training rows of another split"
    ):
        check_split(path, "d", "t")
    with pytest.raises(
        DataError, match=r"learnt from whole training histories.*recloom graph embed --first 30"
    ):
        check_first(path, 30)
    path = vectors(tmp_path / "v.parquet", made | {"first": 30})
    with pytest.raises(DataError, match=r"the edges behind .* Set --data.known_first 30; found 15"):
        check_first(path, 15)
    check_first(path, 30)


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
    assert provenance_of("uv.parquet").keys() == {"texts", "columns", "data_hash", "split_hash", "first"}
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
    assert provenance_of("v.parquet")["texts"] is None


def test_texts_with_other_words_in_their_metadata_are_read(data, tmp_path):
    ids = pl.read_parquet(data / "items.parquet")["item_id"]
    texts = pl.DataFrame({"item_id": ids, "text": ids})
    texts.write_parquet(tmp_path / "t.parquet", metadata={"recloom.method": "SeRALM (reconstruction)"})
    main(["embed", str(data), "--texts", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "v.parquet")])
    assert provenance_of(tmp_path / "v.parquet") == {"texts": "t.parquet", "columns": None}


def of_items(path, encoder):
    table = pl.DataFrame({"item_id": ["a", "b", "new"], "vector": [[1.0, 2.0]] * 3}).to_arrow()
    pq.write_table(table.replace_schema_metadata({ENCODER: encoder.encode()} if encoder else {}), path)
    return path


OURS, OTHER = '{"class": "HashingNgrams", "dim": 2}', '{"class": "HashingNgrams", "dim": 2, "longest": 4}'
CATALOG = Catalog(pl.DataFrame({"item_id": ["a", "b"], "title": ["Heat", "Alien"]}))
FURTHER = pl.DataFrame({"item_id": ["new"], "title": ["Aliens"]})


def test_a_catalogue_knows_the_encoder_of_its_vectors_wherever_it_goes(tmp_path):
    path = of_items(tmp_path / "v.parquet", OURS)
    catalog = CATALOG.with_vectors(path)
    assert catalog.encoder == encoder_of(path) == OURS
    assert Catalog.from_bytes(catalog.to_bytes()).encoder == OURS
    assert Catalog.from_bytes(CATALOG.to_bytes()).encoder == ""
    assert catalog.extended(FURTHER, path).encoder == OURS
    assert catalog.digest() == CATALOG.with_vectors(of_items(tmp_path / "w.parquet", "")).digest()


def test_new_items_need_vectors_of_the_same_encoder(tmp_path, recwarn):
    catalog = CATALOG.with_vectors(of_items(tmp_path / "v.parquet", OURS))
    with pytest.raises(
        DataError, match=r"(?s)other\.parquet were made by .*longest.*of this run by .*dim\": 2\}"
    ):
        catalog.extended(FURTHER, of_items(tmp_path / "other.parquet", OTHER))
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"silent\.parquet does not say which encoder made its vectors"):
        catalog.extended(FURTHER, of_items(tmp_path / "silent.parquet", ""))
    with pytest.warns(UserWarning, match=r"the file of the run's own vectors does not say which encoder"):
        check_encoder(tmp_path / "v.parquet", "")


def test_vectors_of_another_encoder_do_not_enter_a_run(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"item_id": ["n1"], "text": ["The Cabin Ghost"]}).write_parquet("new.parquet")
    pl.DataFrame({"item_id": ["n1"], "title": ["The Cabin Ghost"]}).write_csv("new.csv")
    main(["embed", str(data), "--out", "v.parquet"])
    for name, words in (("same", []), ("other", ["--encoder", "HashingNgrams", "--encoder.longest", "4"])):
        main(["embed", str(data), "--texts", "new.parquet", "--out", f"{name}.parquet", *words])
    fit = ["fit", "--model", "SASRec", "--data", str(data), "--data.vectors", "v.parquet", "--run", "run"]
    small = [
        "--model.recommender.dim",
        "8",
        "--trainer.max_epochs",
        "1",
        "--trainer.enable_progress_bar",
        "false",
    ]
    main([*fit, *small, "--model.recommender.item_input", "vector"])
    add = ["items", "add", "run", "new.csv", "--out", "grown", "--vectors"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main([*add, "other.parquet"])
    assert "Make them with the encoder of the run's own" in capsys.readouterr().err
    main([*add, "same.parquet"])
    told = capsys.readouterr()
    assert "61 items, 1 of them new" in told.out
    assert "encoder" not in told.err
