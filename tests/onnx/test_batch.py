"""Lists for a file of requests: the same as a session gives, row by row, whatever happens meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import recloom.runs.artefacts
import torch
from recloom.cli.main import main
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom_onnx.artifact.session import Session
from recloom_onnx.batch.lists import BATCH, CELLS, BatchRecommender, cuts
from recloom_onnx.batch.requests import RequestFile
from recloom_onnx.batch.run import recommend_file
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.verification.reference import reference_scores
from recloom_onnx.verification.verify import verify_artefact

from .conftest import Positions, expected, found


@pytest.mark.parametrize("part", [1, 2, 3, 100])
def test_a_file_gets_the_lists_of_a_session_in_its_order(verified, users, tmp_path, part):
    out = tmp_path / "lists.parquet"
    done = recommend_file(verified.path, users, out, k=4, part=part)
    lists = found(out)
    assert [*lists] == [f"u{n}" for n in range(7)]
    assert [*lists.values()] == expected(verified.path, 4)
    assert done.counts == (7, 7, 0, 0, 48, 1, 0)
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


@pytest.mark.parametrize("ids", ["string", "integer"])
def test_a_list_of_allowed_items_without_one_that_is_known_allows_none(tmp_path, ids):
    catalog, counts = (
        Catalog(pl.DataFrame({"item_id": [str(n) for n in range(30)]})),
        torch.arange(31).float(),
    )
    torch.manual_seed(0)
    recommender, path = Positions(catalog).eval(), tmp_path / "m.onnx"
    export_artefact(recommender, catalog, counts, path, ids=ids)
    assert verify_artefact(path, partial(reference_scores, recommender, counts), catalog).verified
    allow = [[], [-1], [999], [5], None]
    table = pl.DataFrame({"user_id": [*"abcde"], "history": [[7]] * 5, "allow": allow})
    table.write_parquet(tmp_path / "users.parquet")
    recommend_file(path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=2)
    lists = found(tmp_path / "lists.parquet")
    assert {user: len(places) for user, places in lists.items()} == {"d": 1, "e": 2}


@pytest.mark.parametrize("part", [2, 100])
def test_unknown_users_and_items_are_counted_over_all_parts_with_a_warning(passed, tmp_path, part):
    names, out = ["u1", "7", "nobody", "u9", "3"], tmp_path / "lists.parquet"
    histories = [["7", "m1"], [], ["item 1"], ["07", "x", "y"], []]
    pl.DataFrame({"user_id": names, "history": histories}).write_parquet(tmp_path / "users.parquet")
    with pytest.warns(UserWarning, match=r"not know") as told:
        done = recommend_file(passed("users"), tmp_path / "users.parquet", out, k=2, part=part)
    assert done.counts == (5, 5, 0, 0, 6, 3, 3)
    users, items = (str(one.message) for one in told)
    assert users.startswith("3 of 5 requests are of users that ")
    assert "(such as '7', 'nobody', 'u9'): each has the list of somebody with this history" in users
    assert items.startswith("3 of 6 items of the histories are not known to ")
    assert "(such as 'm1', 'x', 'y'), so they count for nothing; its ids are such as '" in items


def test_a_model_that_reads_no_users_takes_their_ids_for_names(verified, tmp_path, recwarn):
    pl.DataFrame({"user_id": ["nobody"], "history": [["7"]]}).write_parquet(tmp_path / "users.parquet")
    done = recommend_file(verified.path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=2)
    assert done.counts == (1, 1, 0, 0, 1, 0, 0)
    assert not [one for one in recwarn if "not know" in str(one.message)]


def test_titles_stand_beside_the_items_that_have_one(verified):
    session = Session(verified.path)
    session.titles = {"item 1": "One", "item 2": "Two"}
    answers = BatchRecommender(session, 60, (), "rows", ("row", pa.int64()))
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
    ("words", "message"),
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
def test_words_of_recommend_that_do_not_fit(words, message, capsys):
    with pytest.raises(SystemExit):
        main(["recommend", *words])
    assert message in capsys.readouterr().err


def test_without_the_package_the_command_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(recloom.runs.artefacts, "collect", lambda hook: {})
    with pytest.raises(SystemExit):
        main(["recommend", "--artefact", "m.onnx", "--users", "u.parquet", "--out", "o.parquet"])
    assert (
        "--artefact needs recloom-onnx, which is not installed or is blocked: pip install"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("kind", ["rows", "interactions"])
def test_reading_goes_on_from_any_piece(verified, tmp_path, monkeypatch, kind):
    """Whatever the row groups are, and wherever the users begin."""
    monkeypatch.setattr("recloom_onnx.batch.requests.EVENT_ROWS", 5)
    manifest = Session(verified.path).manifest
    if kind == "rows":
        table = pl.DataFrame({"user_id": [*range(20)], "history": [[str(n)] * (n % 3) for n in range(20)]})
        file = tmp_path / "users.parquet"
    else:
        users = sorted(n % 7 for n in range(40))
        table = pl.DataFrame({"user_id": users, "item_id": [f"item {n}" for n in range(40)]})
        file = tmp_path / "interactions.parquet"
        (tmp_path / "dataset.json").touch()
    for size in (1, 3, 7, 100):
        table.write_parquet(file, row_group_size=size)
        source = RequestFile(file, manifest)
        pieces = list(source.pieces(0, 2))
        assert pieces[-1].next_row == len(table)
        whole = pa.concat_tables([piece.table for piece in pieces])
        assert len(whole) == (20 if kind == "rows" else 7)
        assert len(whole["history"].combine_chunks().flatten()) == (19 if kind == "rows" else 40)
        done = 0
        for piece in pieces:
            done += len(piece.table)
            rest = [one.table for one in source.pieces(piece.next_row, 3)]
            assert sum(map(len, rest)) == len(whole) - done
            assert not rest or pa.concat_tables(rest).equals(whole.slice(done))
