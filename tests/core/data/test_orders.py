"""What must be mended before it is read: orders apart from their items, pipes, times of which some have a zone."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.card import read_card
from recloom.data.prepare.check import check_path
from recloom.data.prepare.source import prepare_source, recognise
from recloom.data.readers.table import Table
from recloom.data.readers.values import to_seconds
from recloom.errors import DataError

HEADS = "order_id,customer_id,date\n" + "".join(
    f"{n},c{n % 7},2024-01-{n % 28 + 1:02d}\n" for n in range(1, 40)
)
LINES = "order_id,product_id,quantity\n" + "".join(f"{n // 2 + 1},p{n * 5 % 13},1\n" for n in range(78))


@pytest.fixture
def shop(tmp_path):
    raw = tmp_path / "my shop"
    raw.mkdir()
    (raw / "orders.csv").write_text(HEADS)
    (raw / "order_items.csv").write_text(LINES)
    return raw


def test_orders_and_their_items_are_joined_first(shop, tmp_path):
    with pytest.raises(
        DataError, match=r"orders.csv has the customer of each order .*: join them first"
    ) as error:
        recognise(shop)
    with (shop / "order_items.csv").open("a") as file:
        file.write("999,p1,1\n")  # of an order that is not there: no user, which is counted
    join, prepare = (shlex.split(line) for line in str(error.value).splitlines()[1:])
    subprocess.run([sys.executable, *join[1:]], cwd=tmp_path, check=True)
    main(
        [
            *prepare[1:3],
            str(tmp_path / "joined.csv"),
            "--out",
            str(tmp_path / "data"),
            "--max-rejected",
            ".02",
        ]
    )
    assert read_card(tmp_path / "data").counts["rejected"] == 1
    found = pl.read_parquet(tmp_path / "data" / "interactions.parquet")
    assert found.height == 78
    assert pl.read_parquet(tmp_path / "data" / "users.parquet").height == 7


def test_an_order_is_not_proposed_as_an_item(shop):
    for name, said in (("orders.csv", "which are no items"), ("order_items.csv", "which are no customers")):
        with pytest.raises(
            DataError, match=f"order_id names orders, {said}: .*join the two on order_id"
        ) as error:
            recognise(shop / name)
        assert "-column order_id" not in str(error.value)


def test_invoices_that_have_customers_and_products_are_read_and_guests_may_be_left_out(tmp_path):
    path = tmp_path / "retail.csv"
    for stock, known in (("StockCode", True), ("Stock No", False)):
        lines = [
            f"{n // 3},A{n % 9},{'' if n % 5 == 0 else 170 + n % 4},1/{n % 28 + 1}/2010 8:26"
            for n in range(60)
        ]
        path.write_text("\n".join([f"InvoiceNo,{stock},CustomerID,InvoiceDate", *lines]) + "\n")
        if known:
            assert recognise(path) is Table
            with pytest.raises(
                DataError, match=r"or leave out the rows that say no user, .* with --max-rejected 0\.2"
            ):
                prepare_source(str(path), tmp_path / "out")
            continue
        with pytest.raises(DataError, match="If Stock No holds item ids:") as error:
            recognise(path)
        assert "join" not in str(error.value)


def test_pipes_are_refused_with_what_to_do(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for word in ("-", str(pipe), "/dev/null"):
        with pytest.raises(DataError, match=r"is a pipe or device, .*Write it into a file first"):
            prepare_source(word, tmp_path / "out")
        with pytest.raises(DataError, match=r"is a pipe or device, .*Write it into a file first"):
            check_path(Path(word))
        with pytest.raises(DataError, match="is a pipe or device"):
            prepare_source("table", tmp_path / "out", Path(word))


@pytest.mark.parametrize("bare", ["2024-01-01T10:00:00", "2024-01-01 10:00"])
@pytest.mark.parametrize("zoned", ["2024-01-01T10:00:00Z", "2024-01-02T10:00:00.5+02:00"])
def test_times_some_of_which_have_a_zone_are_refused(bare, zoned):
    for times in ([bare, zoned], [bare, bare, zoned], [zoned, zoned, bare]):
        with pytest.raises(DataError, match=r"some have a zone and others have none.*Write the zone"):
            to_seconds(pl.Series(times))
    assert to_seconds(pl.Series([zoned, None, zoned]))[0].null_count() == 1
