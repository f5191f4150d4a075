"""Objects in cells: members by name, MongoDB's wrappers, and a refusal where an object would become an id."""

import json
import shlex
import subprocess
import sys

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.readers.table import Table
from recloom.errors import DataError


def lines(tmp_path, objects, name="log.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(one) + "\n" for one in objects))
    return path


NESTED = [
    {
        "who": {"id": 7, "age": 9},
        "what": {"sku": "x.1", "label": "Pen, red"},
        "at": {"on": {"time": 1500000000 + n}},
    }
    for n in range(5)
]


def test_members_are_columns(tmp_path):
    reader = Table(
        user_column="who.id", item_column="what.sku", time_column="at.on.time", title_column="what.label",
        keep_columns=["who.age"],
    )  # fmt: skip
    raw = reader.read(lines(tmp_path, NESTED))
    rows = raw.interactions.select("user_id", "item_id", "timestamp", "who.age").rows()
    assert rows == [("7", "x.1", 1500000000 + n, "9") for n in range(5)]
    assert raw.items.rows() == [("x.1", "Pen, red")]


def test_members_of_an_array(tmp_path):
    path = tmp_path / "log.json"
    path.write_text(json.dumps(NESTED, indent=1))
    raw = Table(user_column="who.id", item_column="what.sku", time_column="at.on.time").read(path)
    assert raw.interactions["timestamp"].to_list() == [1500000000 + n for n in range(5)]


def test_an_object_is_no_id(tmp_path):
    path = lines(tmp_path, [{"user": one["who"], "item": one["what"]["sku"]} for one in NESTED])
    with pytest.raises(
        DataError, match=r"user, taken for user_id, holds objects with id, age.*--user-column user\.id"
    ):
        Table().read(path)
    assert Table(user_column="user.id").read(path).interactions["user_id"].to_list() == ["7"] * 5


def test_lists_of_objects_are_no_items(tmp_path):
    path = lines(tmp_path, [{"user": "u", "item": [{"sku": 1, "n": 2}, {"sku": 3, "n": 4}]}] * 3)
    with pytest.raises(DataError, match="lists of objects with sku, n"):
        Table().read(path)


def test_objects_of_mongodb_are_unwrapped(tmp_path):
    rows = [
        {
            "user": {"$oid": f"5f{n:022x}"}, "item": {"$numberLong": str(9007199254740993 + n)},
            "rating": {"$numberDouble": "4.5"}, "ts": {"$date": {"$numberLong": str(1500000000000 + n)}},
        }
        for n in range(4)
    ]  # fmt: skip
    raw = Table().read(lines(tmp_path, rows))
    found = raw.interactions.select("user_id", "item_id", "value", "timestamp").rows()
    assert found == [(f"5f{n:022x}", str(9007199254740993 + n), 4.5, 1500000000) for n in range(4)]
    assert "user_id: the value of $oid in its objects" in raw.notes


def test_a_few_objects_among_plain_ids_are_unwrapped_or_rejected(tmp_path):
    late = [{"user": "u" if n < 1200 else {"$oid": "u"}, "item": f"i{n}"} for n in range(1250)]
    raw = Table().read(lines(tmp_path, late))
    assert raw.interactions["user_id"].unique().to_list() == ["u"]
    assert "user_id: the value of $oid in its objects, which 4.00% of the rows are" in raw.notes
    some = [{"user": "u", "item": {"sku": n, "size": 2} if n % 9 == 0 else f"i{n}"} for n in range(50)]
    raw = Table().read(lines(tmp_path, some))
    assert raw.interactions.height == 44
    assert raw.rejected.select("line", "reason").rows() == [
        (n + 1, "item_id is an object, and others are plain ids") for n in range(0, 50, 9)
    ]


def test_a_list_of_objects_in_each_row_is_answered_with_what_makes_rows_of_it(tmp_path):
    sessions = [
        {"session": n, "events": [{"aid": m, "ts": 1600000000000 + m, "type": "see"} for m in range(n % 3)]}
        for n in range(9)
    ]
    asked = [
        (
            lines(tmp_path, sessions),
            Table(),
            r"events holds lists of objects with aid, ts, type\. Write one row",
        )
    ]
    (tmp_path / "all.json").write_text(json.dumps(sessions, indent=1))
    asked.append((tmp_path / "all.json", Table(item_column="events"), "events holds lists of objects"))
    for path, reader, said in asked:
        with pytest.raises(DataError, match=said) as error:
            reader.read(path)
        make, read = (shlex.split(line) for line in str(error.value).splitlines() if line.startswith("  "))
        subprocess.run([sys.executable, *make[1:]], cwd=tmp_path, check=True)
        made = ["--path", str(tmp_path / "rows.parquet"), "--max-rejected", "1"]
        main([*read[1:4], *made, *read[6:-1], str(tmp_path / path.stem)])
        found = pl.read_parquet(tmp_path / path.stem / "interactions.parquet")
        assert found.select("user_id", "item_id", "timestamp").sort("user_id", "item_id").rows() == [
            (str(n), str(m), 1600000000) for n in range(9) for m in range(n % 3)
        ]


def test_lists_of_objects_within_lists_of_objects_become_rows_of_the_innermost(tmp_path):
    lists = [
        {"name": f"list {n}", "pid": n, "tracks": [{"pos": m, "track_uri": f"t{m}"} for m in range(n + 1)]}
        for n in range(4)
    ]
    path = lines(tmp_path, [{"info": {"version": 1}, "playlists": lists}], "playlists.json")
    with pytest.raises(
        DataError, match=r"playlists holds .* has such a list in tracks with pos, track_uri"
    ) as error:
        Table().read(path)
    assert "if pid holds users and track_uri holds items" in str(error.value)
    make, read = (shlex.split(line) for line in str(error.value).splitlines() if line.startswith("  "))
    subprocess.run([sys.executable, *make[1:]], cwd=tmp_path, check=True)
    main([*read[1:4], "--path", str(tmp_path / "rows.parquet"), *read[6:-1], str(tmp_path / "data")])
    rows = pl.read_parquet(tmp_path / "data" / "interactions.parquet")
    assert rows.select("user_id", "item_id").rows() == [
        (str(n), f"t{m}") for n in range(4) for m in range(n + 1)
    ]


@pytest.mark.parametrize("wrapped", [{"$a": {"$b": {"$c": {"$d": "7"}}}}, {"$it's": "7"}])
def test_objects_that_cannot_be_unwrapped_are_no_ids(tmp_path, wrapped):
    path = lines(tmp_path, [{"user": wrapped, "item": f"i{n}"} for n in range(3)])
    with pytest.raises(DataError, match="user, taken for user_id, holds objects with"):
        Table().read(path)


def test_ids_in_braces_stay(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n" + "".join(f"{{3F25-{n}}},i{n}\n" for n in range(4)))
    assert Table().read(path).interactions["user_id"][0] == "{3F25-0}"


def test_columns_of_pandas_are_called_so(tmp_path):
    path = tmp_path / "frame.json"
    path.write_text(json.dumps({"user_id": {"0": "a", "1": "b"}, "item_id": {"0": "x", "1": "y"}}))
    with pytest.raises(DataError, match=r"as pandas writes.*records"):
        Table().read(path)


@pytest.mark.parametrize("typed", [r"\t", "tab", "\t"])
def test_a_separator_may_be_typed_by_its_name(tmp_path, typed):
    path = tmp_path / "log.txt"
    path.write_text("user_id\titem_id\na b\tc,d\n")
    assert Table(separator=typed).read(path).interactions.row(0)[:3] == (2, "a b", "c,d")


def test_columns_parted_by_control_a(tmp_path):
    path = tmp_path / "000000_0"
    path.write_text("".join(f"u{n % 3}\x01i{n}\x01{n % 5}\n" for n in range(30)))
    raw = Table(columns=["user_id", "item_id", "rating"]).read(path)
    assert "separator: Ctrl-A" in raw.notes
    assert raw.interactions.select("user_id", "item_id", "value").row(7) == ("u1", "i7", 2.0)
