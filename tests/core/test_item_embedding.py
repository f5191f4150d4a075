"""How items enter a model: by id, by vector, by both."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import recloom
import torch
from recloom.data.catalog import Catalog
from recloom.errors import DataError
from recloom.nn.item_embedding import ItemEmbedding

KINDS = ("id", "vector", "id+vector", "gated")


@pytest.fixture
def catalog():
    vectors = [[1.0, 0.0, 2.0], None, [0.0, 1.0, 0.0]]
    return Catalog(pl.DataFrame({"item_id": ["a", "b", "c"], "vector": vectors}))


def filled(catalog, kind, **options):
    """dim 2: E = [[1, 1], [2, 2], [3, 3]], W v = (v_0 + v_2, v_1), b = (.5, 0); the gate says one half."""
    items = ItemEmbedding(catalog, 2, kind, **options)
    with torch.no_grad():
        if kind != "vector":
            items.ids.weight[1:4] = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
        if kind != "id":
            items.project.weight[:] = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
            items.project.bias[:] = torch.tensor([0.5, 0.0])
        if kind == "gated":
            items.gate.weight.zero_()
            items.gate.bias.zero_()
    return items


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("id", [[0, 0], [1, 1], [2, 2], [3, 3]]),
        ("vector", [[0, 0], [3.5, 0], [0, 0], [0.5, 1]]),
        ("id+vector", [[0, 0], [4.5, 1], [2, 2], [3.5, 4]]),
        ("gated", [[0, 0], [2.25, 0.5], [2, 2], [1.75, 2]]),
    ],
)
def test_rows_by_hand(catalog, kind, rows):
    items = filled(catalog, kind)
    assert items.table().tolist() == rows
    assert items(torch.tensor([[3, 0]])).tolist() == [[rows[3], rows[0]]]


@pytest.mark.parametrize("kind", KINDS)
def test_special_rows_stand_after_the_items_and_are_learned(catalog, kind):
    items = ItemEmbedding(catalog, 4, kind, special=2)
    assert items.table().shape == (6, 4)
    items(torch.tensor([4, 5])).sum().backward()
    assert items.ids.weight.grad[-2:].tolist() == [[1.0] * 4] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_zero_and_stays_so(catalog, kind):
    items = ItemEmbedding(catalog, 4, kind)
    optimizer = torch.optim.AdamW(items.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        items(torch.tensor([0, 1, 2])).square().sum().backward()
        optimizer.step()
    assert not items.table()[0].any()


@pytest.mark.parametrize("kind", ["vector", "id+vector", "gated"])
def test_a_table_kept_for_serving_is_void_after_training_or_loading(catalog, kind):
    items, other = (ItemEmbedding(catalog, 4, kind).eval() for _ in range(2))
    with torch.no_grad():
        assert items.table() is items.table()
        before = items.table().clone()
        items.load_state_dict(other.state_dict())
        assert torch.equal(items.table(), other.table())
        assert not torch.equal(items.table(), before)
        items.train().eval()
        items.project.bias += 1
        assert not torch.equal(items.table(), other.table())


def test_frozen_vectors_are_not_in_the_state(catalog):
    assert set(ItemEmbedding(catalog, 4, "vector").state_dict()) == {
        "ids.weight", "project.weight", "project.bias",
    }  # fmt: skip


def test_a_catalogue_without_vectors_says_how_to_make_them():
    with pytest.raises(DataError, match="Make them with `recloom embed`"):
        ItemEmbedding(Catalog(pl.DataFrame({"item_id": ["a"]})), 4, "vector")


def test_vectors_are_joined_by_id(tmp_path):
    path = tmp_path / "v.parquet"
    pl.DataFrame({"item_id": ["c", "x", "a"], "vector": [[1, 2], [3, 4], [5, 6]]}).write_parquet(path)
    catalog = Catalog(pl.DataFrame({"item_id": ["a", "b", "c"]})).with_vectors(path)
    assert catalog.items["item_id"].to_list() == ["a", "b", "c"]
    assert catalog.vectors().tolist() == [[0, 0], [5, 6], [0, 0], [1, 2]]
    again = Catalog.from_bytes(catalog.to_bytes())
    assert np.array_equal(again.vectors(), catalog.vectors())


def test_other_vectors_make_another_catalogue(catalog):
    plain = Catalog(catalog.items.drop("vector"))
    other = Catalog(plain.items.with_columns(pl.Series("vector", [[1.0, 0.0, 2.0], None, [0.0, 1.0, 9.0]])))
    assert len({plain.digest(), catalog.digest(), other.digest()}) == 3
    assert Catalog.from_bytes(catalog.to_bytes()).digest() == catalog.digest()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["a"], "vector": [[1.0]]}, "must have the columns item_id and vector; found id, vector"),
        ({"item_id": ["a"], "vector": ["x"]}, "must hold lists of numbers"),
        ({"item_id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]}, r"one size above 0; found \[1, 2\]"),
        ({"item_id": ["a", "a"], "vector": [[1.0], [2.0]]}, "holds item 'a' twice"),
        ({"item_id": ["a"], "vector": [[float("nan")]]}, "not finite"),
        ({"item_id": ["z"], "vector": [[1.0]]}, "no vector of any of the 2 items"),
    ],
)
def test_a_wrong_file_of_vectors_is_told(tmp_path, columns, message):
    pl.DataFrame(columns).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(DataError, match=message):
        Catalog(pl.DataFrame({"item_id": ["a", "b"]})).with_vectors(tmp_path / "v.parquet")


def test_a_missing_or_broken_file_is_told(tmp_path):
    catalog = Catalog(pl.DataFrame({"item_id": ["a"]}))
    with pytest.raises(DataError, match="found no such file"):
        catalog.with_vectors(tmp_path / "none.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        catalog.with_vectors(tmp_path / "broken.parquet")


@pytest.mark.parametrize("model", ["SASRec", "BERT4Rec", "LightGCN"])
@pytest.mark.parametrize("kind", ["vector", "id+vector", "gated"])
def test_models_learn_from_vectors_alone_and_serve_what_they_learned(model, kind, tmp_path, write_dataset):
    """Two worlds of items, told apart by their vectors; a user keeps to one. An item nobody met has one too."""
    random = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 6)
    item = 2 * random.integers(0, 10, len(user)) + user % 2
    item[[5, 11]] = 20, 21  # held out: in the catalogue, and never met in training
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in user],
            "item_id": [f"i{n}" for n in item],
            "timestamp": np.tile(np.arange(6), 60),
        }
    )
    names = [f"i{n}" for n in range(22)]
    data = write_dataset(tmp_path / "data", frame, pl.DataFrame({"item_id": names, "title": names}))
    vectors = np.eye(2)[np.arange(22) % 2] + 0.1 * random.normal(size=(22, 2))
    pl.DataFrame({"item_id": names, "vector": vectors.tolist()}).write_parquet(tmp_path / "v.parquet")
    run = recloom.fit(
        data, model, {"dim": 8, "item_input": kind}, run=tmp_path / "run", max_epochs=15,
        config={
            "data": {"vectors": str(tmp_path / "v.parquet"), "batch_size": 16},
            "model": {"lr": 0.02}, "trainer": {"enable_progress_bar": False},
        },
    )  # fmt: skip
    again = recloom.load(run.folder)
    found = [one.item_id for one in again.recommend(history=["i1", "i3", "i5"], k=5)]
    assert found == [one.item_id for one in run.recommend(history=["i1", "i3", "i5"], k=5)]
    assert all(int(one[1:]) % 2 for one in found)
    if kind == "vector":
        everything = [one.item_id for one in again.recommend(history=["i1", "i3", "i5"], k=22)]
        assert everything.index("i21") < everything.index("i20")


def test_a_run_with_vectors_is_measured_from_anywhere(tmp_path, write_dataset, monkeypatch):
    import recloom
    from recloom.errors import RecloomError
    from recloom.fitting.fit import run_command

    rows = pl.DataFrame(
        {
            "user_id": [f"u{n // 5}" for n in range(100)],
            "item_id": [f"i{(n % 5 + n // 5) % 6}" for n in range(100)],
            "timestamp": list(range(100)),
        }
    )
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    write_dataset(tmp_path / "work" / "data" / "tiny", rows)
    ids = [f"i{n}" for n in range(6)]
    pl.DataFrame({"item_id": ids, "vector": np.eye(6).tolist()}).write_parquet("data/vectors.parquet")
    words = [
        "fit",
        "--model=SASRec",
        "--data=data/tiny",
        "--data.vectors=data/vectors.parquet",
        "--run=runs/a",
    ]
    words += ["--model.recommender.item_input=vector", "--trainer.max_epochs=1", "--model.recommender.dim=8"]
    run_command([*words, "--trainer.enable_progress_bar=false"])
    monkeypatch.chdir("/")
    run = tmp_path / "work" / "runs" / "a"
    expected = recloom.load(run).test().metrics["ndcg@10"]
    run_command(["test", str(run), "--trainer.enable_progress_bar=false"])
    from recloom.evaluation.results import read_results

    assert read_results(run).metrics["ndcg@10"] == expected
    (tmp_path / "work" / "data" / "vectors.parquet").unlink()
    with pytest.raises(RecloomError, match=r"item vectors data/vectors\.parquet, which are not there now"):
        recloom.load(run).test()
    with pytest.raises(RecloomError, match=r"say where it is with --data\.vectors"):
        run_command(["test", str(run)])
