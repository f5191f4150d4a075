"""Items are found by what people type, and a title as it is written is that title."""

import polars as pl
import pytest
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.runs.lookup import find_items, near


@pytest.fixture(scope="module")
def catalog(tmp_path_factory, write_dataset):
    titles = ["Käse groß", "Käse gross", "Weiß", "İstanbul", "Heat (1995)", "heat (1995)"]
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(6)], "title": titles})
    rows = pl.DataFrame({"user_id": ["a"] * 6, "item_id": items["item_id"], "timestamp": range(6)})
    return Catalog.load(write_dataset(tmp_path_factory.mktemp("lookup") / "films", rows, items))


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("Käse groß", 1), ("Käse gross", 2), ("KÄSE GROSS", 2), ("weiß", 3), ("İstanbul", 4),
        ("Heat (1995)", 5), ("heat (1995)", 6), ("i2", 3), ("nothing", 0),
    ],
)  # fmt: skip
def test_an_exact_title_is_found_before_one_that_is_spelt_alike(catalog, typed, found):
    assert find_items(catalog, [typed]).tolist() == [found]


def test_what_is_not_one_title_is_asked_about(catalog):
    with pytest.raises(RecloomError, match="fits 2 titles: 'Käse groß', 'Käse gross'"):
        find_items(catalog, ["käse"])
    assert near(catalog, "Weiss")[0] == "Weiß"


def test_a_number_with_a_point_meant_the_id_without(tmp_path, write_dataset):
    rows = pl.DataFrame({"user_id": ["7", "7"], "item_id": ["3", "30"], "timestamp": [1, 2]})
    numbers = Catalog.load(write_dataset(tmp_path / "numbers", rows))
    assert near(numbers, "3.0") == ["3"]
    assert near(numbers, "30.00") == ["30"]
    assert "4" not in near(numbers, "4.0")
