"""Files that no reader takes are called what they are, with a next step; none of them is read as a table."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from recloom.data.prepare.source import prepare_source
from recloom.errors import DataError

ROWS = "user_id,item_id,rating\n" + "".join(f"u{n % 7},i{n % 5 + n % 3},{n % 4}\n" for n in range(40))


def zipped(names: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in names.items():
            archive.writestr(name, text)
    return packed.getvalue()


def tarred() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("ratings.csv")
        entry.size = len(ROWS)
        archive.addfile(entry, io.BytesIO(ROWS.encode()))
    return packed.getvalue()


def arrow() -> bytes:
    file = io.BytesIO()
    pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4]}).write_ipc(file)
    return file.getvalue()


def array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.eye(3))
    return file.getvalue()


BINARY = {
    "a.zip": (zipped({"ratings.csv": ROWS}), "zip archive.*unzip"),
    "b.xlsx": (zipped({"[Content_Types].xml": "<x/>"}), "Excel workbook.*CSV"),
    "c.npz": (zipped({"row.npy": "x"}), "NumPy"),
    "d.csv.bz2": (bz2.compress(ROWS.encode()), "bzip2 -dk"),
    "e.csv.xz": (lzma.compress(ROWS.encode()), "xz -dk"),
    "f.csv": (gzip.compress(ROWS.encode()), r"ends in \.gz"),
    "g.tar": (tarred(), "tar xf"),
    "g.tar.gz": (gzip.compress(tarred()), "tar xf"),
    "h.feather": (arrow(), "Arrow.*Parquet"),
    "i.npy": (array(), "array of NumPy"),
    "j.pkl": (pickle.dumps([1, 2]), "pickle.*may run code"),
}
TEXTS = {
    "a.mtx": ("%%MatrixMarket matrix coordinate\n%\n9 9 3\n1 2 3\n2 3 4\n3 4 5\n", "Matrix Market"),
    "b.sql": (
        "-- MySQL dump 10\nINSERT INTO `r` (`user_id`,`item_id`) VALUES (1,2);\n",
        "dump of a database",
    ),
    "c.xls": ("<html><table><tr><td>user_id</td></tr></table></html>\n", "page of HTML"),
    "d.svm": ("".join(f"{n} 1:{n} 7:2.5 9:1\n" for n in range(9)), "LIBSVM"),
    "e.txt": ("+---+---+\n| user_id | item_id |\n+---+---+\n| 1 | 2 |\n", "drawn with lines"),
    "f.md": ("| user_id | item_id |\n|---|---|\n| 1 | 2 |\n", "drawn with lines"),
    "g.csv": ("# made by a program\n# on Monday\n" + ROWS, r"line 3 looks like the header.*tail -n \+3"),
    "h.csv": ("\n\n" + ROWS, r"tail -n \+3"),
    "i.csv": ("Report of March,,\n,,\n" + ROWS, r"tail -n \+3"),
    "j.txt": ("# Nodes: 9\n# From To\n" + "1\t12\n2\t13\n2\t14\n", "a comment.*grep -v"),
    "k.csv": ("'user_id','item_id'\n'1','2'\n'3','4'\n", "single quotes"),
    "l.log": ("2020-01-01 INFO user=1 item=2\n2020-01-02 INFO user=3 item=4\n", "name=value"),
    "m.csv": ("user," + ",".join(f"i{n}" for n in range(9)) + "\n" + "1,5,,,4,,1,2,,3\n" * 4, "a matrix"),
    "n.csv": ("5,0,3,0,0,1,4,2,0\n" * 3 + "0,0,1,0,0,1,4,2,0\n", "a matrix"),
}


@pytest.mark.parametrize("name", [*BINARY, *TEXTS])
def test_a_file_that_is_no_table_is_called_what_it_is(tmp_path: Path, name: str) -> None:
    content, said = BINARY.get(name) or TEXTS[name]
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=f"(?s){said}") as refused:
        prepare_source(str(path), tmp_path / "out")
    assert "--user-column" not in str(refused.value)


def test_a_database_is_called_one(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "app.db")
    base.execute("create table r(user_id, item_id)")
    base.commit()
    base.close()
    with pytest.raises(DataError, match=r"SQLite.*CSV"):
        prepare_source(str(tmp_path / "app.db"), tmp_path / "out")


def test_sizes_of_a_matrix_are_no_interaction_where_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.mtx"
    path.write_text("%%MatrixMarket matrix coordinate real general\n9 9 3\n1 2 3\n2 3 4\n3 4 5\n")
    with pytest.raises(DataError, match="line of sizes"):
        prepare_source("table", tmp_path / "out", path, options={
            "separator": " ", "columns": ["user_id", "item_id", "value"],
        })  # fmt: skip


def test_times_of_day_are_no_sparse_vectors(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text(
        "user_id\titem_id\tdate\n" + "".join(f"u{n}\ti{n}\t2020-01-01 12:{n}\n" for n in range(10, 50))
    )
    _, prepared, _ = prepare_source(str(path), tmp_path / "out")
    assert prepared.counts["interactions"] == 40


def test_bytes_that_no_guess_can_decode_are_not_called_western(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    titles = "".join(f"{n},七人の侍 黒澤明 {n}\n" for n in range(40))
    path.write_bytes(("item_id,title\n" + titles).encode("shift_jis"))
    (tmp_path / "r.csv").write_text("user_id,item_id\n" + "".join(f"u{n % 4},{n}\n" for n in range(40)))
    with pytest.raises(DataError, match=r"no other encoding is certain.*shift_jis"):
        prepare_source(str(tmp_path / "r.csv"), tmp_path / "out", options={"items_path": [path]})
