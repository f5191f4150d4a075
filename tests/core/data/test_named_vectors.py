"""Vectors of items under names: from the command line to the model that is told which it reads."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import recloom
import torch
import yaml
from recloom.cli.main import main
from recloom.data import Catalog
from recloom.data.batches import RecDataModule
from recloom.data.vector_files import named_files
from recloom.errors import DataError, RecloomError
from recloom.fitting.words import expand
from recloom.nn import ItemEmbedding
from recloom.spec import build
from recloom.testing import toy_dataset

ITEMS = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"]})


def written(path, ids, vectors, encoder=""):
    facts = {"recloom.encoder": encoder} if encoder else None
    pl.DataFrame({"item_id": ids, "vector": vectors}).write_parquet(path, metadata=facts)
    return path


@pytest.fixture
def files(tmp_path):
    text = written(tmp_path / "text", ["a", "b"], [[1.0, 2.0], [3.0, 4.0]], "words")
    image = written(tmp_path / "image", ["b"], [[5.0, 6.0, 7.0]], "pixels")
    return text, image


@pytest.fixture
def catalog(files):
    return Catalog(ITEMS).with_vectors(files[0], "text").with_vectors(files[1], "image")


# -- words --------------------------------------------------------------------------------------------


def test_words_are_a_file_or_files_by_name(tmp_path):
    assert named_files(["v.parquet"]) == "v.parquet"
    assert named_files(["text=t.parquet", "image=a/b=c.parquet"]) == {
        "text": "t.parquet",
        "image": "a/b=c.parquet",
    }
    odd = tmp_path / "x=y"
    assert named_files([f"{odd.parent}/x=y"]) == str(odd)  # a path is no name
    for words, message in (
        (["a.parquet", "b.parquet"], "need names of their own.*a.parquet and b.parquet have none"),
        (["t=a", "t=b"], "two are called 't'"),
    ):
        with pytest.raises(DataError, match=message):
            named_files(words)


def test_the_command_line_takes_them(tmp_path):
    words = ["fit", "--data.vectors", "text=T", "image=I", "--model", "SASRec"]
    flag, value, *rest = expand(words)[1:]
    assert (flag, json.loads(value)) == ("--data.vectors", {"text": "T", "image": "I"})
    assert rest == ["--model.recommender", "SASRec"]
    assert expand(["fit", "--data.vectors=F"]) == ["fit", "--data.vectors", "F"]
    assert json.loads(expand(["fit", "--data.vectors=text=F"])[2]) == {"text": "F"}
    with pytest.raises(DataError, match="text=FILE image=FILE"):
        expand(["fit", "--data.vectors", "F", "G"])


# -- the catalogue ------------------------------------------------------------------------------------


def test_a_catalogue_gives_those_asked_for(catalog, files):
    assert catalog.vector_names == ["text", "image"]
    assert catalog.vectors().tolist() == catalog.vectors("text").tolist() == [[0, 0], [1, 2], [3, 4]]
    assert catalog.vectors("image").tolist() == [[0, 0, 0], [0, 0, 0], [5, 6, 7]]
    assert catalog.encoder == "words"
    assert catalog.items.columns == ["item_id", "title"]  # no prompt shows them
    both = catalog.with_vectors(files[1])
    assert both.vector_names == ["", "text", "image"]
    assert both.vectors().tolist() == catalog.vectors("image").tolist()  # those without a name come first
    assert both.encoder == "pixels"


def test_a_name_that_is_not_there_lists_those_that_are(catalog, files):
    with pytest.raises(DataError, match=r"no vectors called 'sound'; they have text, image\..*sound=FILE"):
        catalog.vectors("sound")
    with pytest.raises(DataError, match="no vectors called 'text'; they have those without a name"):
        Catalog(ITEMS).with_vectors(files[0]).vectors("text")
    with pytest.raises(DataError, match="the items have no vectors"):
        Catalog(ITEMS).vectors("text")


def test_a_checkpoint_holds_them_and_the_digest_tells_them_apart(catalog, files):
    again = Catalog.from_bytes(catalog.to_bytes())
    assert again.vector_names == ["text", "image"]
    assert np.array_equal(again.vectors("image"), catalog.vectors("image"))
    assert [kept.encoder for kept in again.named.values()] == ["words", "pixels"]
    assert again.digest() == catalog.digest()
    others = [
        Catalog(ITEMS),
        Catalog(ITEMS).with_vectors(files[0]),
        Catalog(ITEMS).with_vectors(files[0], "text"),
        Catalog(ITEMS).with_vectors(files[0], "words").with_vectors(files[1], "image"),
    ]
    assert len({catalog.digest(), *(other.digest() for other in others)}) == 5


def test_new_items_bring_a_vector_for_each_name(catalog, tmp_path):
    new = pl.DataFrame({"item_id": ["c"], "title": ["C"]})
    text = written(tmp_path / "t", ["c"], [[8.0, 9.0]], "words")
    image = written(tmp_path / "i", ["c"], [[1.0, 1.0, 1.0]], "pixels")
    grown = catalog.extended(new, {"image": str(image), "text": str(text)})
    assert grown.vectors("text").tolist()[3] == [8, 9]
    assert grown.vectors("image").tolist() == [[0, 0, 0], [0, 0, 0], [5, 6, 7], [1, 1, 1]]
    assert grown.vector_names == catalog.vector_names
    for given, message in (
        ({"text": text}, r"by vectors 'image'\. Make .* --vectors text=FILE image=FILE"),
        (
            {"text": text, "sound": image},
            r"reads no vectors called 'sound'. .*--vectors text=FILE image=FILE",
        ),
        (str(text), "reads no vectors without a name"),
        ({"text": image, "image": image}, "vectors of 3 numbers, and those of this run have 2"),
        ({"text": text, "image": written(tmp_path / "o", ["c"], [[1.0] * 3], "sonar")}, "made by sonar"),
    ):
        with pytest.raises(DataError, match=message):
            catalog.extended(new, given)


def test_an_embedding_is_told_which_it_reads(catalog):
    first, second = ItemEmbedding(catalog, 4, "vector"), ItemEmbedding(catalog, 4, "vector", vectors="image")
    assert (first.vectors.shape[1], second.vectors.shape[1]) == (2, 3)
    assert catalog.read == {"items text", "items image"}
    with pytest.raises(DataError, match="no vectors called 'sound'"):
        ItemEmbedding(catalog, 4, "vector", vectors="sound")


# -- a run --------------------------------------------------------------------------------------------


def test_a_run_keeps_the_names_and_grows_by_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = toy_dataset(tmp_path / "toy")
    ids = pl.read_parquet(folder / "items.parquet")["item_id"].to_list()
    random = np.random.default_rng(0)
    for name, size, made_by in (("text", 4, "words"), ("image", 6, "pixels")):
        written(tmp_path / name, ids, random.normal(size=(len(ids), size)).tolist(), made_by)
        written(tmp_path / f"new-{name}", ["new"], random.normal(size=(1, size)).tolist(), made_by)
    model = ["--model", "SASRec", "--model.recommender.dim", "4", "--model.recommender.item_input", "vector"]
    with pytest.warns(UserWarning, match="reads no vectors of items called 'text': --data.vectors text=text"):
        main(
            ["fit", *model, "--model.recommender.vectors", "image", "--data", "toy", "--data.vectors", "text=text",
             "image=image", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--run", "run"]
        )  # fmt: skip
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["data"]["vectors"] == {"text": "text", "image": "image"}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = recloom.load(tmp_path / "run")
    assert run.recommender.items.vectors.shape == (31, 6)
    assert run.data().catalog.digest() == run.catalog.digest()  # the files are found as the dataset is
    pl.DataFrame({"item_id": ["new"]}).write_csv("new.csv")
    words = ["items", "add", str(tmp_path / "run"), "new.csv", "--out", "grown", "--vectors"]
    main([*words, f"text={tmp_path / 'new-text'}", f"image={tmp_path / 'new-image'}"])
    grown = recloom.load("grown")
    assert grown.recommender.items.vectors.shape == (32, 6)
    assert torch.isfinite(grown.recommender.items.table()).all()
    (tmp_path / "image").unlink()
    with pytest.raises(RecloomError, match=r"item vectors image, which are not there now"):
        run.data()


def test_the_data_module_checks_every_file(tmp_path, files):
    folder = toy_dataset(tmp_path / "toy")
    data = RecDataModule(str(folder), vectors={"text": str(files[0])})
    with pytest.raises(DataError, match="holds no vector of any of the 30 items"):
        data.setup()


@pytest.mark.parametrize("name", ["SASRec", "BERT4Rec", "LightGCN"])
def test_a_model_is_told_which_it_reads(catalog, name):
    model = build("register_models", {"class_path": name, "init_args": {
        "dim": 4, "item_input": "vector", "vectors": "image",
    }}, catalog)  # fmt: skip
    assert model.items.vectors.shape == (3, 3)
    assert catalog.read == {"items image"}
