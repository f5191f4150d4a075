"""Lists for a file of requests: the same as a session gives, row by row, whatever happens meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import recloom.recommend
import torch
from recloom.cli import main
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom_onnx.batch.answers import BATCH, CELLS, Answers, cuts
from recloom_onnx.batch.run import recommend_file
from recloom_onnx.export import export_artefact
from recloom_onnx.reference import reference_scores
from recloom_onnx.session import Session
from recloom_onnx.verify import verify_artefact

from .conftest import Positions

HISTORIES = [["7"], [], ["item 1", "item 2", "nobody"], ["07"] * 40, ["item 3"], ["a b", "NaN"], ["item 9"]]


@pytest.fixture(scope="module")
def passed(artefact, tmp_path_factory):
    """The verified artefact of a model by its name."""

    @cache
    def of(name: str) -> Path:
        made = artefact(name).copy(tmp_path_factory.mktemp("passed"))
        assert verify_artefact(made.path, made.reference, made.catalog).verified
        return made.path

    return of


@pytest.fixture
def users(tmp_path):
    """A file of seven users, in three row groups."""
    table = pl.DataFrame({"user_id": [f"u{n}" for n in range(len(HISTORIES))], "history": HISTORIES})
    table.write_parquet(tmp_path / "users.parquet", row_group_size=3)
    return tmp_path / "users.parquet"


def expected(path: Path, k: int, histories=HISTORIES, blocked=None) -> list[list[tuple[str, float]]]:
    lists = Session(path).recommend(histories, k, blocked)
    return [[(place.item_id, pytest.approx(place.score, rel=1e-6)) for place in places] for places in lists]


def found(out: Path, key: str = "user_id") -> dict[object, list[tuple[str, float]]]:
    lists: dict[object, list[tuple[str, float]]] = {}
    for row in pl.read_parquet(out).iter_rows(named=True):
        lists.setdefault(row[key], []).append((row["item_id"], row["score"]))
        assert row["rank"] == len(lists[row[key]])
    return lists


@pytest.mark.parametrize("part", [1, 2, 3, 100])
def test_a_file_gets_the_lists_of_a_session_in_its_order(verified, users, tmp_path, part):
    out = tmp_path / "lists.parquet"
    done = recommend_file(verified.path, users, out, k=4, part=part)
    lists = found(out)
    assert [*lists] == [f"u{n}" for n in range(7)]
    assert [*lists.values()] == expected(verified.path, 4)
    assert done.counts == (7, 7, 0, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists.parquet", "users.parquet"]


def test_one_row_for_each_user(verified, users, tmp_path):
    out = tmp_path / "lists.parquet"
    recommend_file(verified.path, users, out, k=3, layout="lists")
    table = pl.read_parquet(out)
    assert table.schema == {
        "user_id": pl.String,
        "item_ids": pl.List(pl.String),
        "scores": pl.List(pl.Float32),
    }
    pairs = [
        [*zip(ids, scores, strict=True)] for ids, scores in table.select("item_ids", "scores").iter_rows()
    ]
    assert pairs == expected(verified.path, 3)


def test_titles_stand_beside_the_items_that_have_one(verified):
    session = Session(verified.path)
    session.titles = {"item 1": "One", "item 2": "Two"}
    answers = Answers(session, 60, (), "rows", ("row", pa.int64()))
    lists = pa.list_(pa.string())
    none = pa.nulls(1, lists)
    table, _ = answers(
        pa.table({"row": [1], "history": pa.array([["7"]], lists), "exclude": none, "allow": none})
    )
    titles = dict(zip(table["item_id"].to_pylist(), table["title"].to_pylist(), strict=True))
    assert (titles["item 1"], titles["item 2"], titles["item 3"]) == ("One", "Two", None)


def test_without_user_ids_the_row_says_whose_list_it_is(verified, tmp_path):
    pl.DataFrame({"history": [["7"], ["item 1"]]}).write_parquet(tmp_path / "users.parquet")
    recommend_file(verified.path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=2)
    assert found(tmp_path / "lists.parquet", "row") == dict(
        enumerate(expected(verified.path, 2, [["7"], ["item 1"]]), 1)
    )


def test_excluded_items_of_a_user_and_of_all(verified, tmp_path):
    blocked = [["item 1", "nobody"], None, []]
    pl.DataFrame({"user_id": [1, 2, 3], "history": [["7"]] * 3, "exclude": blocked}).write_parquet(
        tmp_path / "users.parquet"
    )
    out = tmp_path / "lists.parquet"
    recommend_file(verified.path, tmp_path / "users.parquet", out, k=60, exclude=["item 2"])
    rows = [["item 1", "item 2"], ["item 2"], ["item 2"]]
    assert [*found(out)] == [1, 2, 3]
    assert [*found(out).values()] == expected(verified.path, 60, [["7"]] * 3, rows)


@pytest.mark.parametrize("rows", [[["item 5", "nobody"], None, []], [None, None, []], [None, None, None]])
def test_only_allowed_items(verified, tmp_path, rows):
    table = pl.DataFrame({"user_id": [*"abc"], "history": [["7"]] * 3, "allow": rows})
    table.write_parquet(tmp_path / "users.parquet")
    recommend_file(verified.path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=3, layout="lists")
    wanted = Session(verified.path).recommend([["7"]] * 3, 3, allow=rows)
    ids = pl.read_parquet(tmp_path / "lists.parquet")["item_ids"].to_list()
    assert ids == [[place.item_id for place in places] for places in wanted]
    assert [len(one) for one in ids] == [{"None": 3}.get(str(row), len(row or []) // 2) for row in rows]


def test_integer_ids(tmp_path):
    numbers = Catalog(
        pl.DataFrame({"item_id": [str(n) for n in range(60)], "title": [f"T{n}" for n in range(60)]})
    )
    made = export(numbers, tmp_path / "model.onnx")
    pl.DataFrame({"user_id": [5, 6], "history": [[7, 1], []], "exclude": [[3], None]}).write_parquet(
        tmp_path / "users.parquet"
    )
    recommend_file(made, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=3, exclude=["4", "x"])
    table = pl.read_parquet(tmp_path / "lists.parquet")
    assert table.schema["item_id"] == pl.Int64
    assert table["title"].to_list() == [f"T{n}" for n in table["item_id"]]
    lists = Session(made).recommend([[7, 1], []], 3, exclude=[[3, 4], [4]])
    assert table["item_id"].to_list() == [int(place.item_id) for places in lists for place in places]
    pl.DataFrame({"history": [["7"]]}).write_parquet(tmp_path / "text.parquet")
    with pytest.raises(
        RecloomError, match=r"column 'history' of .* is .*string.*; expected list of integers"
    ):
        recommend_file(made, tmp_path / "text.parquet", tmp_path / "lists.parquet")


def export(catalog: Catalog, path: Path) -> Path:
    torch.manual_seed(0)
    recommender, counts = Positions(catalog).eval(), torch.arange(catalog.num_items + 1).float()
    export_artefact(recommender, catalog, counts, path, ids="integer")
    reference = partial(reference_scores, recommender, counts)
    assert verify_artefact(path, reference, catalog).verified
    return path


def test_users_who_have_everything_are_counted(verified, tmp_path, capsys):
    everything = Session(verified.path).recommend([[]], 60)[0]
    pl.DataFrame(
        {"user_id": ["all", "one"], "history": [[place.item_id for place in everything], ["7"]]}
    ).write_parquet(tmp_path / "users.parquet")
    main(
        [
            "batch",
            str(verified.path),
            "--users",
            str(tmp_path / "users.parquet"),
            "--out",
            str(tmp_path / "lists.parquet"),
        ]
    )
    assert [*found(tmp_path / "lists.parquet")] == ["one"]
    assert "1 users have an empty list, because no item is left for them" in capsys.readouterr().out


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int32()),
        pa.large_list(pa.string()),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
        pa.list_(pa.string(), 1),
    ],
    ids=str,
)
def test_ids_may_be_integers_or_text_of_any_kind(verified, tmp_path, kind):
    values = (
        [[7], [1]] if "int32" in str(kind.value_type) and "dictionary" not in str(kind) else [["7"], ["1"]]
    )
    pq.write_table(pa.table({"history": pa.array(values, kind)}), tmp_path / "users.parquet")
    recommend_file(verified.path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=2)
    assert [*found(tmp_path / "lists.parquet", "row").values()] == expected(verified.path, 2, [["7"], ["1"]])


def test_times_and_users_reach_the_model(passed, tmp_path):
    path = passed("times")
    seconds = [[1_500_000_000, 1_550_000_000], [1_590_000_000]]
    given = {"user_id": ["u1", "3"], "history": [["7", "item 1"], ["item 4"]]}
    plain = pl.DataFrame(given | {"history_times": seconds, "request_time": [1_600_000_000] * 2})
    zoned = pl.DataFrame(
        given
        | {
            "history_times": [[datetime.fromtimestamp(one, UTC) for one in row] for row in seconds],
            "request_time": [datetime.fromtimestamp(1_600_000_000, UTC)] * 2,
        }
    )
    lists = Session(path).recommend(
        given["history"], 5, users=given["user_id"], history_times=seconds, request_times=[1_600_000_000] * 2
    )
    wanted = [[(place.item_id, place.score) for place in places] for places in lists]
    for name, table in (("plain", plain), ("zoned", zoned)):
        table.write_parquet(tmp_path / f"{name}.parquet")
        recommend_file(path, tmp_path / f"{name}.parquet", tmp_path / "lists.parquet", k=5)
        assert [*found(tmp_path / "lists.parquet").values()] == wanted, name


def test_a_model_of_users_needs_no_history(passed, tmp_path):
    path = passed("users")
    pl.DataFrame({"user_id": ["u1", "nobody"]}).write_parquet(tmp_path / "users.parquet")
    recommend_file(path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=3)
    lists = Session(path).recommend([[], []], 3, users=["u1", "nobody"])
    assert [*found(tmp_path / "lists.parquet").values()] == [
        [tuple(place) for place in places] for places in lists
    ]


@pytest.mark.parametrize("name", ["positions", "times"])
def test_a_prepared_dataset_is_read_user_by_user(passed, write_dataset, tmp_path, monkeypatch, name):
    monkeypatch.setattr("recloom_onnx.batch.requests.EVENT_ROWS", 7)
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in random.integers(0, 9, 90)],
            "item_id": [f"item {n}" for n in random.integers(0, 48, 90)],
            "timestamp": 1_500_000_000 + np.arange(90) * 1000,
        }
    ).unique(["user_id", "item_id"], keep="first", maintain_order=True)
    data = write_dataset(tmp_path / "data", frame)
    rows = pl.read_parquet(data / "interactions.parquet").group_by("user_id", maintain_order=True).all()
    times = {}
    if name == "times":
        users, stamps = rows["user_id"].to_list(), rows["timestamp"].to_list()
        times = {"users": users, "history_times": stamps, "request_times": [max(one) + 1 for one in stamps]}
    path = passed(name)
    lists = Session(path).recommend(rows["item_id"].to_list(), 4, **times)
    for source, part in ((data, 100), (data / "interactions.parquet", 2)):
        recommend_file(path, source, tmp_path / "lists.parquet", k=4, part=part)
        answers = found(tmp_path / "lists.parquet")
        assert [*answers] == rows["user_id"].to_list()
        assert [*answers.values()] == [
            [(place.item_id, pytest.approx(place.score, rel=1e-5)) for place in places] for places in lists
        ]


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
    assert done.counts == (10, 2, 8, 0)
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
    (tmp_path / "lists.rejected.parquet").write_bytes(b"old")
    recommend_file(verified.path, users, tmp_path / "lists.parquet")
    assert not (tmp_path / "lists.rejected.parquet").exists()


def test_uneven_times_are_bad_rows():
    from recloom_onnx.batch.check import split

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
answers = run.Answers.__call__
left = [3]
def slow(self, table):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return answers(self, table)
run.Answers.__call__ = slow
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
    answer, left = Answers.__call__, [3]

    def interrupted(self, table):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return answer(self, table)

    with monkeypatch.context() as patch:
        patch.setattr(Answers, "__call__", interrupted)
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


def test_a_folder_of_somebody_else_is_left_alone(verified, users, tmp_path):
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


def test_times_that_the_model_reads_must_be_there(passed, tmp_path):
    pl.DataFrame({"user_id": ["u1"], "history": [["7"]]}).write_parquet(tmp_path / "users.parquet")
    with pytest.raises(RecloomError, match=r"no column 'history_times', and the artefact reads history_time"):
        recommend_file(passed("times"), tmp_path / "users.parquet", tmp_path / "lists.parquet")


def test_wrong_paths_are_refused_before_the_work(verified, users, tmp_path):
    (tmp_path / "text.parquet").write_text("hello")
    for given, out, told in (
        (tmp_path / "none.parquet", tmp_path / "l.parquet", r"none\.parquet does not exist"),
        (tmp_path / "text.parquet", tmp_path / "l.parquet", r"is not a Parquet file, or was cut short"),
        (users, tmp_path / "none" / "l.parquet", r"none is no folder that can be written to"),
        (users, tmp_path / "lists.csv", r"expected --out to end in \.parquet, found '.*lists\.csv'"),
        (users, users, r"is the file of requests itself"),
    ):
        with pytest.raises(RecloomError, match=told):
            recommend_file(verified.path, given, out)


def test_batches_stay_small_however_long_the_histories():
    lengths = np.sort(np.random.default_rng(0).integers(0, 3000, 2000))
    lengths[-1] = 3 * CELLS
    bounds = [*cuts(lengths)]
    assert [low for low, _ in bounds[1:]] == [high for _, high in bounds[:-1]]
    assert (bounds[0][0], bounds[-1][1]) == (0, 2000)
    sizes = [(high - low, lengths[high - 1] * (high - low)) for low, high in bounds]
    assert max(rows for rows, _ in sizes) == BATCH
    assert all(cells <= CELLS or rows == 1 for rows, cells in sizes)


def test_the_words_of_recommend(verified, users, tmp_path, capsys):
    out = tmp_path / "lists.parquet"
    words = ["recommend", "--artefact", str(verified.path), "--users", str(users), "--out", str(out)]
    main([*words, "--k", "3"])
    assert [*found(out).values()] == expected(verified.path, 3)
    assert f"wrote {out}: lists for 7 users in " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--artefact", "m.onnx", "--users", "a", "b", "--out", "o"],
            "takes one file of requests and writes one",
        ),
        (["--artefact", "m.onnx", "--users", "a"], "takes one file of requests and writes one"),
        (["runs/a", "--artefact", "m.onnx", "--users", "a", "--out", "o"], "takes one file of requests"),
        (["--history", "a"], "say with what: a run (recloom recommend RUN ...), or --artefact"),
    ],
)
def test_words_of_recommend_that_do_not_fit(words, told, capsys):
    with pytest.raises(SystemExit):
        main(["recommend", *words])
    assert told in capsys.readouterr().err


def test_without_the_package_the_command_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(recloom.recommend, "collect", lambda hook: {})
    with pytest.raises(SystemExit):
        main(["recommend", "--artefact", "m.onnx", "--users", "u.parquet", "--out", "o.parquet"])
    assert (
        "--artefact needs recloom-onnx, which is not installed or is blocked: pip install"
        in capsys.readouterr().err
    )
