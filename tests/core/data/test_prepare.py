"""What lies on disk after `data prepare`, and what never lies there."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from recloom.data.card import read_card, read_unchanged
from recloom.data.prepare.source import prepare_source
from recloom.errors import DataError
from recloom.io import LOCK, remove_leftovers, sha256, whole_folder

BODY = "userId,movieId,rating,timestamp\n2,10,3.5,20\n2,11,4.0,10\n1,10,1,5\n1,10,x,5\n"


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "ratings.csv").write_text(BODY)
    (folder / "movies.csv").write_text(
        "movieId,title,genres\n10,Heat (1995),Action\n99,No one saw it,Drama\n"
    )
    return folder


def prepare(raw, out, options=None, reader="movielens", **more):
    return prepare_source(reader, out, raw, options=options, **({"max_rejected": 1} | more))


def test_the_files_are_as_promised(raw, tmp_path):
    _, _, card = prepare(raw, tmp_path / "ml")
    folder = tmp_path / "ml"
    assert sorted(os.listdir(folder)) == [
        "dataset.json", "interactions.parquet", "items.parquet", "rejected.parquet", "users.parquet",
    ]  # fmt: skip
    assert read_card(folder) == card
    rows = pl.read_parquet(folder / "interactions.parquet")
    assert dict(rows.schema) == {
        "user_id": pl.String,
        "item_id": pl.String,
        "timestamp": pl.Int64,
        "value": pl.Float32,
    }
    assert rows.rows() == [("2", "11", 10, 4.0), ("2", "10", 20, 3.5), ("1", "10", 5, 1.0)]
    assert pl.read_parquet(folder / "users.parquet").rows() == [("2", 2), ("1", 1)]
    assert pl.read_parquet(folder / "items.parquet").rows() == [
        ("10", "Heat (1995)", "Action"),
        ("11", None, None),
    ]
    assert pl.read_parquet(folder / "rejected.parquet").rows() == [
        ("ratings.csv", 5, "value is empty or not a number", "1,10,x,5")
    ]
    assert card.counts["read"] == 4
    assert card.counts["rejected"] == 1
    assert card.source.files[0].sha256 == sha256(raw / "ratings.csv")
    assert card.source.files[0].bytes == len(BODY)
    assert card.columns["items.parquet"] == {"item_id": "String", "title": "String", "genres": "String"}
    assert str(tmp_path) not in (folder / "dataset.json").read_text()


def test_equal_input_gives_equal_bytes(raw, tmp_path):
    first, second = (prepare(raw, tmp_path / name, name="same")[2] for name in ("a", "b"))
    assert first == second
    assert (tmp_path / "a" / "dataset.json").read_bytes() == (tmp_path / "b" / "dataset.json").read_bytes()


def test_an_existing_folder_is_replaced_only_on_demand(raw, tmp_path):
    out = tmp_path / "ml"
    prepare(raw, out)
    before = read_card(out)
    with pytest.raises(DataError, match=r"ml exists already.*--overwrite"):
        prepare(raw, out, min_value=4.0)
    assert read_card(out) == before
    prepare(raw, out, min_value=4.0, overwrite=True)
    assert read_card(out).counts["interactions"] == 1
    assert sorted(os.listdir(tmp_path)) == ["ml", "raw"]


def test_overwrite_replaces_nothing_that_was_not_written_here(raw, tmp_path):
    notes, table, link = (tmp_path / name for name in ("notes", "a.csv", "link"))
    notes.mkdir()
    for name in ("thesis.txt", "zebra.txt"):
        (notes / name).write_text("years of work")
    table.write_text("a,b")
    prepare(raw, tmp_path / "ml")
    link.symlink_to(tmp_path / "ml")
    before = sorted(os.listdir(tmp_path))
    for out, found in (
        (notes, r"notes is a folder with 'thesis\.txt' and 1 more and without dataset\.json or split\.json"),
        (table, r"a\.csv is a file"),
        (link, r"link is a symbolic link"),
    ):
        for overwrite in (True, False):
            with pytest.raises(DataError, match=found + r"; only .* is ever replaced\. Choose another --out"):
                prepare(raw, out, overwrite=overwrite)
            with pytest.raises(DataError, match=found), whole_folder(out, overwrite=overwrite):
                pytest.fail("nothing may be written")
    assert (notes / "thesis.txt").read_text() == "years of work"
    assert table.read_text() == "a,b"
    assert link.is_symlink()
    assert sorted(os.listdir(tmp_path)) == before


def test_overwrite_replaces_an_empty_folder_and_a_split(tmp_path):
    for name in (None, "split.json"):
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        if name:
            (out / "new").rename(out / name)
        with whole_folder(out, overwrite=True) as partial:
            (partial / "new").touch()
        assert os.listdir(out) == ["new"]


def test_what_appears_while_writing_is_spared(tmp_path):
    out = tmp_path / "out"
    for overwrite in (False, True):
        with pytest.raises(DataError, match="thesis"):
            _write_while_another_does(out, overwrite)
        assert os.listdir(tmp_path) == ["out"]
        assert os.listdir(out) == ["thesis.txt"]
        (out / "thesis.txt").unlink()
        out.rmdir()


def _write_while_another_does(out, overwrite):
    with whole_folder(out, overwrite=overwrite):
        out.mkdir()
        (out / "thesis.txt").touch()


def test_a_failure_leaves_nothing_and_spares_the_old(raw, tmp_path):
    with pytest.raises(DataError, match="malformed"):
        prepare(raw, tmp_path / "ml", max_rejected=0.01)
    with pytest.raises(ZeroDivisionError):
        _fail_half_way(tmp_path / "ml")
    assert os.listdir(tmp_path) == ["raw"]


def _fail_half_way(out):
    with whole_folder(out) as partial:
        (partial / "x").write_text("half")
        raise ZeroDivisionError


WRITER = """
import sys, time
from pathlib import Path
from recloom import io as directory
from recloom.data.prepare import dataset as prepare
from recloom.data.prepare.source import prepare_source

stage, raw, out, overwrite = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "yes"

def stop(*_, **__):
    print("here", flush=True)
    time.sleep(60)

if stage == "tables":
    prepare.DatasetCard = stop
elif stage == "card":
    directory.sync_tree = stop
elif stage == "rename":
    directory.put_in_place = stop
elif stage == "after":
    directory._sync = lambda path: stop() if path == out.parent else None
prepare_source("movielens", out, raw, min_value=4.0, max_rejected=1, overwrite=overwrite)
"""


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("stage", ["tables", "card", "rename", "after"])
def test_a_kill_leaves_the_old_or_the_new(raw, tmp_path, stage, overwrite):
    out = tmp_path / "ml"
    if overwrite:
        prepare(raw, out)
    arguments = [sys.executable, "-c", WRITER, stage, str(raw), str(out), "yes" if overwrite else "no"]
    writer = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "here\n"
    locks = [name for name in os.listdir(tmp_path) if name.startswith(".recloom-") and name.endswith(LOCK)]
    partial = tmp_path / locks[0].removesuffix(LOCK)
    assert len(locks) == 1
    assert partial.is_dir() == (stage != "after" or overwrite)
    if stage != "after":
        remove_leftovers(tmp_path, ".recloom-")  # what a living process writes is not touched
        assert partial.is_dir()
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    if stage == "after":
        assert read_card(out).counts["interactions"] == 1
    elif overwrite:
        assert read_card(out).counts["interactions"] == 3
    else:
        with pytest.raises(DataError, match="not a prepared dataset"):
            read_card(out)
    prepare(raw, out, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["ml", "raw"]
    assert not [name for name in os.listdir(out) if name.startswith(".")]


def test_the_card_is_checked_when_read(raw, tmp_path):
    with pytest.raises(DataError, match=r"holds no dataset.json"):
        read_card(tmp_path)
    prepare(raw, tmp_path / "ml")
    path = tmp_path / "ml" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"surprise": 1, "time": "days"}))
    with pytest.raises(DataError, match=r"not a dataset card: time: Input.*surprise: Extra"):
        read_card(tmp_path / "ml")


def test_files_that_changed_are_refused_by_what_learns_from_them(raw, tmp_path):
    prepare(raw, tmp_path / "ml")
    assert read_unchanged(tmp_path / "ml") == read_card(tmp_path / "ml")
    items = tmp_path / "ml" / "items.parquet"
    pl.read_parquet(items).with_columns(pl.lit("new").alias("title")).write_parquet(items)
    with pytest.raises(
        DataError, match=r"items.parquet is not what was prepared .* Prepare the dataset again"
    ):
        read_unchanged(tmp_path / "ml")
    items.unlink()
    with pytest.raises(DataError, match=r"items.parquet is missing"):
        read_unchanged(tmp_path / "ml")


def test_misused_options_are_refused(raw, tmp_path):
    with pytest.raises(DataError, match="the reader 'movielens' does not use --separator"):
        prepare(raw, tmp_path / "x", {"separator": ";"})
    with pytest.raises(DataError, match=r"no reader is called 'movielense'. Installed: amazon"):
        prepare(raw, tmp_path / "x", reader="movielense")
    with pytest.raises(DataError, match="either --path RAW or --download NAME"):
        prepare(None, tmp_path / "x")
    with pytest.raises(DataError, match="nowhere does not exist"):
        prepare(tmp_path / "nowhere", tmp_path / "x")
    with pytest.raises(DataError, match="no MovieLens ratings found"):
        prepare(tmp_path, tmp_path / "x")


def test_options_are_on_the_card(raw, tmp_path):
    options = {"value_column": "none", "items_path": [raw / "movies.csv"], "quote": "auto"}
    card = prepare(raw / "ratings.csv", tmp_path / "x", options, reader="table", keep_all_items=True)[2]
    assert card.source.options == {
        "items_path": ["movies.csv"],
        "value_column": "none",
        "keep_all_items": True,
    }
    assert pl.read_parquet(tmp_path / "x" / "items.parquet")["item_id"].to_list() == ["10", "99", "11"]


def test_checking_and_preparing_import_no_torch(raw, tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from recloom.data.prepare import commands, display\n"
        f"raw, out = Path({str(raw)!r}), Path({str(tmp_path / 'x')!r})\n"
        "commands.prepare('movielens', path=raw, out=out, max_rejected=1)\n"
        "commands.check(out)\n"
        "commands.split(out)\n"
        "commands.list_readers()\n"
        "assert not {'torch', 'lightning'} & set(sys.modules), 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "value is empty or not a number" in done.stdout
    assert "files match their sha256" in done.stdout
    assert "movielens" in done.stdout


def test_two_that_write_to_one_place_do_not_take_each_others_work(tmp_path):
    out = tmp_path / "data"

    def write(name):
        told = set()
        for _ in range(60):
            try:
                with whole_folder(out, overwrite=True) as folder:
                    for part in ("dataset.json", "a", "b"):
                        (folder / part).write_text(name)
            except DataError as error:
                told.add(str(error).partition(";")[0])
        return told

    with ThreadPoolExecutor(4) as pool:
        told = set().union(*pool.map(write, "wxyz"))
    assert told <= {f"{out} appeared meanwhile"}
    assert os.listdir(tmp_path) == ["data"]
    assert len({(out / part).read_text() for part in ("dataset.json", "a", "b")}) == 1


def test_what_is_no_leftover_of_ours_is_left_alone(tmp_path):
    (tmp_path / ".recloom-file").write_text("kept")
    remove_leftovers(tmp_path, ".recloom-")
    assert (tmp_path / ".recloom-file").read_text() == "kept"
