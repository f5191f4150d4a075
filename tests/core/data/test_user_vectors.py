"""Vectors of users: read from a file, part of what a catalogue is."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import recloom
from recloom.cli.main import main
from recloom.data.batches.module import RecDataModule
from recloom.data.catalog import Catalog
from recloom.errors import DataError, RecloomError
from recloom.testing.toys import toy_dataset


@pytest.fixture
def catalog():
    return Catalog(
        pl.DataFrame({"item_id": ["i"]}), pl.DataFrame({"user_id": ["a", "b", "c"], "age": [1, 2, 3]})
    )


def written(path, ids, vectors):
    pl.DataFrame({"user_id": ids, "vector": vectors}).write_parquet(path)
    return path


def test_rows_follow_the_users_and_are_zero_where_there_is_none(catalog, tmp_path):
    path = written(tmp_path / "v.parquet", ["c", "a", "stranger"], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    found = catalog.with_user_vectors(path)
    assert found.user_vectors().tolist() == [[0, 0], [3, 4], [0, 0], [1, 2]]
    assert found.users.columns == ["user_id", "age", "vector"]
    again = Catalog.from_bytes(found.to_bytes())
    assert np.array_equal(again.user_vectors(), found.user_vectors())


def test_the_digest_tells_vectors_of_users_apart(catalog, tmp_path):
    one = catalog.with_user_vectors(written(tmp_path / "1", ["a"], [[1.0]]))
    other = catalog.with_user_vectors(written(tmp_path / "2", ["a"], [[2.0]]))
    assert len({catalog.digest(), one.digest(), other.digest()}) == 3


def test_without_vectors_the_message_says_how_to_make_them(catalog):
    with pytest.raises(DataError, match=r"recloom embed --of users.*--data\.user_vectors"):
        catalog.user_vectors()


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["x"], [[1.0]], "no vector of any of the 3 users"),
        (["a", "a"], [[1.0], [2.0]], "user 'a' twice"),
        (["a", "b"], [[1.0], [2.0, 3.0]], "one size above 0"),
        (["a"], [[float("nan")]], "not finite"),
    ],
)
def test_bad_files_are_refused(catalog, tmp_path, ids, vectors, message):
    with pytest.raises(DataError, match=message):
        catalog.with_user_vectors(written(tmp_path / "v.parquet", ids, vectors))


def test_a_file_of_items_is_not_one_of_users(catalog, tmp_path):
    pl.DataFrame({"item_id": ["i"], "vector": [[1.0]]}).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(DataError, match="must have the columns user_id and vector; found item_id"):
        catalog.with_user_vectors(tmp_path / "v.parquet")


def test_the_data_module_reads_the_file(tmp_path):
    folder = toy_dataset(tmp_path / "toy")
    path = written(tmp_path / "v.parquet", ["u1"], [[1.0, 2.0]])
    data = RecDataModule(str(folder), user_vectors=str(path))
    data.setup()
    index = int(data.catalog.user_index(["u1"])[0])
    assert data.catalog.user_vectors()[index].tolist() == [1, 2]


def test_a_run_finds_the_file_from_another_folder(tmp_path, monkeypatch):
    """As it finds the dataset: seen from a folder above the run."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    toy_dataset(tmp_path / "toy")
    written(tmp_path / "v.parquet", ["u1"], [[1.0, 2.0]])
    quiet = "--trainer.enable_progress_bar=false"
    main(["fit", "--model=Popularity", "--data=toy", "--run=runs/p", "--data.user_vectors=v.parquet", quiet])
    monkeypatch.chdir(tmp_path / "elsewhere")
    main(["test", "../runs/p", quiet])
    assert recloom.load("../runs/p").data().catalog.user_vectors().shape[1] == 2
    (tmp_path / "v.parquet").unlink()
    with pytest.raises(
        RecloomError, match=r"user vectors v\.parquet, which are not there.*--data\.user_vectors"
    ):
        recloom.load("../runs/p").data()
