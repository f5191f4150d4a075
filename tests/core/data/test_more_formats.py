"""Formats of single publishers: the Netflix prize, RecBole, lines and lists that Python writes."""

import pytest
from recloom.data.prepare.dataset import arrange
from recloom.data.prepare.source import recognise
from recloom.data.readers.evidence import roles_by_value
from recloom.data.readers.netflix import Netflix
from recloom.data.readers.recbole import RecBole
from recloom.data.readers.table import Table

DAY = 1_126_000_000 // 86_400 * 86_400


def test_netflix_one_file_a_movie(tmp_path):
    folder = tmp_path / "training_set"
    folder.mkdir()
    (folder / "mv_0000003.txt").write_text("3:\n10,4,2005-09-06\n11,5,2005-09-07\n")
    (folder / "mv_0000008.txt").write_text("8:\n11,1,2005-09-06\n12,x,2005-09-06\n")
    (tmp_path / "movie_titles.txt").write_bytes("3,1997,Character, a Tale\n8,NULL,Amélie\n".encode("latin-1"))
    for path in (tmp_path, folder):
        assert recognise(path) is Netflix
        raw = Netflix().read(path)
        assert raw.interactions.select("user_id", "item_id", "value", "timestamp", "line", "file").rows() == [
            ("10", "3", 4.0, DAY, 2, 0), ("11", "3", 5.0, DAY + 86_400, 3, 0), ("11", "8", 1.0, DAY, 2, 1),
        ]  # fmt: skip
        assert raw.items.rows() == [("3", "Character, a Tale", "1997"), ("8", "Amélie", None)]
        assert raw.rejected.rows() == [
            ("mv_0000008.txt", 3, "value is empty or not a number", "12,x,2005-09-06")
        ]


def test_netflix_combined(tmp_path):
    path = tmp_path / "combined_data_1.txt"
    path.write_text("3:\n10,4,2005-09-06\n8:\n11,1,2005-09-06\n10,2,2005-09-07\n")
    assert recognise(path) is recognise(tmp_path) is Netflix
    rows = Netflix().read(path).interactions
    assert rows.select("user_id", "item_id").rows() == [("10", "3"), ("11", "8"), ("10", "8")]


def recbole(tmp_path, rows, name="set.train.inter"):
    text = "user_id:token\titem_id_list:token_seq\titem_id:token\n" + "".join(
        "\t".join(row) + "\n" for row in rows
    )
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("u", "a b", "c"), ("v", "b", "d")], "u:abc v:bd"),
        ([("u", "a", "b"), ("u", "a b", "c"), ("v", "x", "y"), ("u", "a b c", "a")], "u:abca v:xy"),
        ([("u", "a b c", "d"), ("u", "a b", "c"), ("u", "a", "b")], "u:abcd"),
        ([("u", "a b", "c"), ("u", "b c", "d"), ("u", "c d", "e")], "u:abcde"),
        ([("u", "c d", "e"), ("u", "b c", "d"), ("u", "a b", "c")], "u:abcde"),
        ([("u", "a b", "b"), ("u", "a b b", "b")], "u:abbb"),
    ],
)
def test_recbole_rows_of_prefixes_are_one_sequence(tmp_path, rows, expected):
    path = recbole(tmp_path, rows)
    assert recognise(path) is RecBole
    raw = RecBole().read(path)
    data = arrange(raw)
    found = data.interactions.group_by("user_id", maintain_order=True).agg("item_id").rows()
    assert " ".join(f"{user}:{''.join(items)}" for user, items in found) == expected
    assert not any(note.startswith("warning") for note in raw.notes)
    assert data.time == "order"


def test_recbole_rows_that_do_not_continue_are_joined_and_said(tmp_path):
    raw = RecBole().read(recbole(tmp_path, [("u", "a b", "c"), ("u", "x y", "z")]))
    assert "".join(raw.interactions["item_id"]) == "abcxyz"
    assert any("rows of 1 users do not continue one another" in note for note in raw.notes)


def test_recbole_parts_in_files_of_their_own(tmp_path):
    recbole(tmp_path, [("u", "a", "b"), ("u", "a b", "c"), ("v", "b", "d")])
    recbole(tmp_path, [("u", "a b c", "d"), ("v", "b d", "a")], "set.valid.inter")
    recbole(tmp_path, [("u", "a b c d", "e"), ("v", "b d a", "c")], "set.test.inter")
    assert recognise(tmp_path) is RecBole
    data = arrange(RecBole().read(tmp_path)).interactions
    rows = zip(data["user_id"], data["item_id"], data["part"], strict=True)
    assert " ".join(f"{user}{item}{part[:2]}" for user, item, part in rows) == (
        "uatr ubtr uctr udva uete vbtr vdtr vava vcte"
    )


def test_places_on_earth_are_neither_ids_nor_ratings():
    rows = [[str(n % 3), "2010-10-19T23:55:27Z", f"30.{n}", f"-97.{n}", str(22847 + n)] for n in range(9)]
    assert roles_by_value(rows) == ["user_id", "timestamp", "column_3", "column_4", "item_id"]


def test_lines_that_are_dictionaries_of_python(tmp_path):
    path = tmp_path / "reviews.json"
    lines = ["{'user': u\"o'neil\", 'item': '7', 'early': False}", "{'user': 'b', 'item': '8', 'early': None}",
             "{'user': exit(), 'item': '9'}", "[" * 5000 + "]" * 5000]  # fmt: skip
    path.write_text("\n".join(lines) + "\n")
    assert recognise(path) is Table
    raw = Table().read(path)
    assert raw.interactions.select("user_id", "item_id", "line").rows() == [("o'neil", "7", 1), ("b", "8", 2)]
    assert raw.rejected.select("line", "reason").rows() == [
        (3, "not a JSON object"),
        (4, "not a JSON object"),
    ]


def test_lists_that_python_wrote_into_cells(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\nu,\"['a', 'b']\",\"[1300000000, 1300000001]\"\nv,['c'],[1300000002]\n")
    raw = Table().read(path)
    assert raw.interactions.select("user_id", "item_id", "timestamp").rows() == [
        ("u", "a", 1300000000), ("u", "b", 1300000001), ("v", "c", 1300000002),
    ]  # fmt: skip


def test_types_behind_names_are_no_part_of_them(tmp_path):
    (tmp_path / "set.inter").write_text("uid:token\tsong:token\ttimestamp:float\nu\ta\t1300000000\n")
    (tmp_path / "set.item").write_text("song:token\ttitle:token_seq\tyear:float\na\tAll of me\t1931\n")
    reader = Table(item_column="song", items_path=[tmp_path / "set.item"])
    raw = reader.read(tmp_path / "set.inter")
    assert raw.items.columns == ["item_id", "title", "year"]
    assert raw.items.rows() == [("a", "All of me", "1931")]
    assert raw.interactions["user_id"].to_list() == ["u"]


def test_lists_that_are_left_out_are_named(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,item_id_list\nu,c,a b\n")
    notes = Table().read(path).notes
    assert any(note.startswith("warning: item_id_list may hold lists") for note in notes)
