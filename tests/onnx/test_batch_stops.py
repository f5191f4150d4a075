"""What a file of requests may hold that cannot be answered, and what stands in the way of a result."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom_onnx.batch.check import REJECTED, split
from recloom_onnx.batch.lists import BatchRecommender
from recloom_onnx.batch.parts import PartWriter
from recloom_onnx.batch.run import recommend_file

from .conftest import expected, found

BAD = [
    (3, "history is null; an empty list says that there is none"),
    (4, "user_id is null"),
    (5, "history holds a null"),
    (6, "history holds an id that is empty"),
    (7, "history holds an id that holds a NUL character"),
    (8, "history holds an id that is not UTF-8"),
    (9, "user_id is empty"),
    (10, "user_id is not UTF-8"),
]


@pytest.fixture
def spoilt(tmp_path):
    """Two rows that are right, and eight that are wrong, each in a way of its own."""
    ids = pa.array([b"a", b"b", b"c", None, b"e", b"f", b"g", b"h", b"", b"\xff"], pa.binary())
    rows = [[b"7"], [], None, [b"7"], [b"7", None], [b"7", b""], [b"a\0b"], [b"\xff\xfe"], [b"7"], [b"7"]]
    offsets = np.cumsum([0, *(len(row or []) for row in rows)])
    values = pa.array([one for row in rows for one in row or []], pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(values), values.buffers(), values.null_count)
    mask = pa.array([row is None for row in rows])
    history = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), text, mask=mask)
    names = pa.Array.from_buffers(pa.string(), len(ids), ids.buffers(), ids.null_count)
    pq.write_table(pa.table({"user_id": names, "history": history}), tmp_path / "users.parquet")
    return tmp_path / "users.parquet"


@pytest.mark.parametrize("part", [1, 4, 100])
def test_bad_rows_are_named_and_the_others_answered(verified, spoilt, tmp_path, capsys, part):
    out = tmp_path / "lists.parquet"
    done = recommend_file(verified.path, spoilt, out, k=2, max_rejected=0.8, part=part)
    assert found(out) == dict(zip("ab", expected(verified.path, 2, [["7"], []]), strict=True))
    rejected = pl.read_parquet(tmp_path / "lists.rejected.parquet")
    assert [*rejected.select("row", "reason").iter_rows()] == BAD
    assert rejected["user_id"].to_list() == ["c", None, "e", "f", "g", "h", "", "\N{REPLACEMENT CHARACTER}"]
    assert done.counts[:4] == (10, 2, 8, 0)
    assert done.rejected == tmp_path / "lists.rejected.parquet"


def test_too_many_bad_rows_leave_no_target_and_a_larger_limit_goes_on(verified, spoilt, tmp_path, capsys):
    words = ["batch", str(verified.path), "--users", str(spoilt), "--out", str(tmp_path / "lists.parquet")]
    with pytest.raises(SystemExit):
        main(words)
    told = capsys.readouterr().err
    assert "8 of 10 requests" in told
    assert "more than --max-rejected 0.01 of them; the first is row 3: history is null" in told
    assert not (tmp_path / "lists.parquet").exists()
    main([*words, "--max-rejected", "0.8"])
    told = capsys.readouterr().out
    assert "went on from row 10" in told
    assert f"8 rows cannot be answered: {tmp_path}/lists.rejected.parquet says which and why" in told
    assert "lists for 2 users" in told


def test_no_list_of_bad_rows_stays_from_an_earlier_result(verified, users, tmp_path):
    old = tmp_path / "lists.rejected.parquet"
    pq.write_table(REJECTED.empty_table(), old)
    recommend_file(verified.path, users, tmp_path / "lists.parquet")
    assert not old.exists()


def test_a_file_where_rejected_rows_would_go_is_not_touched(verified, users, tmp_path):
    theirs = tmp_path / "lists.rejected.parquet"
    theirs.write_bytes(b"theirs")
    with pytest.raises(
        RecloomError, match=r"rejected rows would go to .*lists\.rejected\.parquet, which holds some"
    ):
        recommend_file(verified.path, users, tmp_path / "lists.parquet")
    assert theirs.read_bytes() == b"theirs"
    users.replace(theirs)
    with pytest.raises(
        RecloomError, match=r"is the file of requests itself, and rejected rows would go there"
    ):
        recommend_file(verified.path, theirs, tmp_path / "lists.parquet")
    assert len(pl.read_parquet(theirs)) == 7


def test_a_full_disk_is_named_and_what_is_done_is_kept(verified, users, tmp_path, monkeypatch):
    add, left = PartWriter.add, [3]

    def full(self, *tables):
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        add(self, *tables)

    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "add", full)
        with pytest.raises(
            RecloomError,
            match=r"cannot go on in .*lists\.parquet\.parts: No space left on device\. 4 of 7 rows are done",
        ):
            recommend_file(verified.path, users, tmp_path / "lists.parquet", k=4, part=2)
    assert recommend_file(verified.path, users, tmp_path / "lists.parquet", k=4, part=2).resumed == 4


def test_what_is_stopped_before_its_first_part_is_told_to_begin_anew(verified, users, tmp_path, monkeypatch):
    def full(self, *tables):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PartWriter, "add", full)
    with pytest.raises(
        RecloomError, match=r"no part of 7 rows was finished, so the same command begins anew"
    ):
        recommend_file(verified.path, users, tmp_path / "lists.parquet", k=4, part=2)
    assert not (tmp_path / "lists.parquet.parts").exists()


def test_uneven_times_are_bad_rows():
    lists = pa.list_(pa.string())
    table = pa.table(
        {
            "row": [1, 2, 3],
            "history": pa.array([["a"], ["a"], ["a"]], lists),
            "history_times": pa.array([[1], [1, 2], [None]], pa.list_(pa.int64())),
        }
    )
    good, rejected = split(table)
    assert good["row"].to_pylist() == [1]
    assert rejected["reason"].to_pylist() == [
        "history and history_times are not of one length",
        "history_times holds a null",
    ]


KILLED = """
import os, signal, sys
from recloom_onnx.batch import run
answers = run.BatchRecommender.__call__
left = [3]
def slow(self, table):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return answers(self, table)
run.BatchRecommender.__call__ = slow
run.recommend_file(*sys.argv[1:], k=4, part=2)
"""


def test_a_killed_command_goes_on_and_gives_the_same_file(verified, users, tmp_path):
    out, whole = tmp_path / "lists.parquet", tmp_path / "whole.parquet"
    words = [sys.executable, "-c", KILLED, str(verified.path), str(users), str(out)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    assert {"part-000000.parquet", "part-000001.parquet", "plan.json"} <= {
        path.name for path in (tmp_path / "lists.parquet.parts").iterdir()
    }
    assert recommend_file(verified.path, users, out, k=4, part=2).resumed == 4
    recommend_file(verified.path, users, whole, k=4)
    assert pl.read_parquet(out).equals(pl.read_parquet(whole))
    assert not (tmp_path / "lists.parquet.parts").exists()


@pytest.fixture
def begun(verified, users, tmp_path, monkeypatch):
    """The target of a task that was interrupted in its third part."""
    answer, left = BatchRecommender.__call__, [3]

    def interrupted(self, table):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return answer(self, table)

    with monkeypatch.context() as patch:
        patch.setattr(BatchRecommender, "__call__", interrupted)
        with pytest.raises(
            KeyboardInterrupt, match=r"4 of 7 rows are done and kept in .*The same command goes on"
        ):
            recommend_file(verified.path, users, tmp_path / "lists.parquet", k=4, part=2)
    return tmp_path / "lists.parquet"


def test_another_option_or_file_does_not_go_on_and_says_so(verified, users, begun, passed):
    with pytest.raises(RecloomError, match=r"parts of another task.*: k was 4, now 5\. .*--restart"):
        recommend_file(verified.path, users, begun, k=5)
    with pytest.raises(RecloomError, match=r"artefact was .*model\.onnx.*, now "):
        recommend_file(passed("linear"), users, begun, k=4)
    users.write_bytes(users.read_bytes())
    with pytest.raises(RecloomError, match=r"users was .*, now "):
        recommend_file(verified.path, users, begun, k=4)
    done = recommend_file(verified.path, users, begun, k=5, restart=True)
    assert done.resumed == 0
    assert [*found(begun).values()] == expected(verified.path, 5)


def test_two_processes_do_not_write_one_target(verified, users, begun):
    import fcntl

    with open(f"{begun}.parts/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RecloomError, match=r"another process writes .*lists\.parquet now"):
            recommend_file(verified.path, users, begun, k=4)


def test_a_folder_with_foreign_files_is_left_alone(verified, users, tmp_path):
    (tmp_path / "lists.parquet.parts").mkdir()
    (tmp_path / "lists.parquet.parts" / "thesis.tex").touch()
    with pytest.raises(RecloomError, match=r"holds 'thesis\.tex', which was not written here"):
        recommend_file(verified.path, users, tmp_path / "lists.parquet")
    assert (tmp_path / "lists.parquet.parts" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"user_id": ["a"]}, r"has no column 'history', and the artefact reads history; found 'user_id'"),
        ({"history": ["7"]}, r"column 'history' of .* is .*string; expected list of string or integers"),
        ({"history": [[0.5]]}, r"column 'history' of .* is .*double.*; expected list of string or integers"),
        ({"user_id": [0.5], "history": [["7"]]}, r"column 'user_id' of .* holds double; expected string or"),
        ({"user_id": ["a"], "item_id": ["7"]}, r"interactions that was not prepared.*recloom data prepare"),
        (
            {"user_id": pl.Series([], dtype=pl.String), "history": pl.Series([], dtype=pl.List(pl.String))},
            "no rows",
        ),
        ({"x": [1]}, r"has no column 'history'"),
    ],
)
def test_a_file_of_other_columns_is_refused(verified, tmp_path, columns, told):
    pl.DataFrame(columns).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(RecloomError, match=told):
        recommend_file(verified.path, tmp_path / "users.parquet", tmp_path / "lists.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["users.parquet"]


def test_two_columns_of_one_name_and_numbers_too_large_are_named(verified, tmp_path):
    names, rows = pa.array(["a"]), pa.array([["7"]])
    pq.write_table(
        pa.Table.from_arrays([names, names, rows], ["user_id", "user_id", "history"]), tmp_path / "u.parquet"
    )
    with pytest.raises(RecloomError, match=r"u\.parquet has two columns called 'user_id'"):
        recommend_file(verified.path, tmp_path / "u.parquet", tmp_path / "lists.parquet")
    pq.write_table(
        pa.table({"user_id": pa.array([2**64 - 1], pa.uint64()), "history": rows}), tmp_path / "u.parquet"
    )
    with pytest.raises(
        RecloomError, match=r"column 'user_id' of .*u\.parquet cannot be read as int64 in rows 1 to 1: "
    ):
        recommend_file(verified.path, tmp_path / "u.parquet", tmp_path / "lists.parquet")


def test_times_that_the_model_reads_must_be_there(passed, tmp_path):
    pl.DataFrame({"user_id": ["u1"], "history": [["7"]]}).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(RecloomError, match=r"no column 'history_times', and the artefact reads history_time"):
        recommend_file(passed("times"), tmp_path / "users.parquet", tmp_path / "lists.parquet")


def test_wrong_paths_are_refused_before_the_work(verified, users, tmp_path):
    (tmp_path / "text.parquet").write_text("hello")
    for given, out, told in (
        (tmp_path / "none.parquet", tmp_path / "l.parquet", r"none\.parquet does not exist"),
        (tmp_path / "text.parquet", tmp_path / "l.parquet", r"is not a Parquet file, or was cut short"),
        (users, tmp_path / "none" / "l.parquet", r"none is not a folder; make it"),
        (users, tmp_path / "lists.csv", r"--out .*lists\.csv: expected a name that ends in \.parquet"),
        (users, users, r"is the file of requests itself"),
    ):
        with pytest.raises(RecloomError, match=told):
            recommend_file(verified.path, given, out)
