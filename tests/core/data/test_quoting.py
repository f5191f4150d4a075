"""Quotes in tables: no row is swallowed, escaped quotes are read, and what quotes were taken for is said."""

import warnings

import pytest
from recloom.data.readers.plain_table import read_table
from recloom.data.readers.table import Table
from recloom.errors import DataError

HEADER = "user_id,item_id,title,timestamp\n"


def read(tmp_path, text, name="log.csv", **options):
    (tmp_path / name).write_text(text, newline="")
    return Table(**options).read(tmp_path / name)


def titles(raw):
    return raw.interactions["title"].to_list()


def notes(raw):
    return [note.removeprefix("log.csv: ") for note in raw.notes if "quote" in note]


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_quotes_inside_a_field_that_is_not_quoted_are_ordinary(tmp_path, line):
    rows = [f'u{n},i{n},{n}" nails,150000000{n}' for n in range(9)] + ['v,"x, y","12"" nails",1500000010']
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        raw = read(tmp_path, HEADER + line.join(rows) + line, keep_columns=["title"])
    assert titles(raw) == [*(f'{n}" nails' for n in range(9)), '12" nails']
    assert raw.rejected.is_empty()
    assert raw.interactions["line"].to_list() == list(range(2, 12))


def test_backslashes_before_quotes_are_seen_and_can_be_named(tmp_path):
    text = HEADER + 'u,a,"He said \\"no\\", twice",1\nv,b,"ends \\"so\\"",2\nw,c,"back\\\\slash",3\n'
    raw = read(tmp_path, text, keep_columns=["title"])
    assert titles(raw) == ['He said "no", twice', 'ends "so"', "back\\slash"]
    assert notes(raw) == ["quotes inside fields are escaped by a backslash"]
    raw = read(tmp_path, HEADER + 'u,a,"C:\\dir\\",1\nv,b,"x",2\n', keep_columns=["title"])
    assert titles(raw) == ["C:\\dir\\", "x"]
    with pytest.raises(DataError, match=r"log.csv, line 2: a field opens a quote"):
        read(tmp_path, HEADER + 'u,a,"C:\\dir\\",1\nv,b,"x",2\n', quote="backslash")


def test_side_files_know_what_quotes_mean(tmp_path):
    items = tmp_path / "goods.csv"
    items.write_text('id;name;maker\na;"A \\"big\\"; red one";X\nb;"plain";"Y"\n')
    raw = read(tmp_path, HEADER + "u,a,,1\nu,b,,2\n", items_path=[items])
    assert raw.items["title"].to_list() == ['A "big"; red one', "plain"]
    assert "goods.csv: quotes inside fields are escaped by a backslash" in raw.notes
    items.write_text('id;name\na;"big"\nb;12" disc\n')
    raw = read(tmp_path, HEADER + "u,a,,1\nu,b,,2\n", items_path=[items], quote="none")
    assert raw.items["title"].to_list() == ['"big"', '12" disc']


@pytest.mark.parametrize("opens", ['"half', '"half, a'])
def test_a_field_that_takes_in_later_rows_is_an_error(tmp_path, opens):
    rows = [f"u{n},i{n},t{n},150000000{n}" for n in range(6)]
    rows[1], rows[4] = f"u1,i1,{opens},1500000001", 'u4,i4,"whole",1500000004'
    text = HEADER + "\n".join(rows) + "\n"
    with pytest.raises(DataError, match=r"log.csv, line 3: a field opens a quote .*--quote none"):
        read(tmp_path, text, keep_columns=["title"])
    raw = read(tmp_path, text, keep_columns=["title"], quote="none")
    assert raw.interactions.height + raw.rejected.height == 6


def test_in_tabbed_lines_quotes_stand_for_themselves_unless_they_enclose(tmp_path):
    rows = [f"u{n}\t1500000{n:03}\tBand {n % 5}\ti{n}" for n in range(300)]
    rows[7], rows[90], rows[200] = (
        'u7\t1500000007\t"Wild\ti7',
        'u90\t1500000090\tCat"\ti9',
        'x\t1500000001\t"Q"\ti2',
    )
    text = "user\ttime\tband\titem\n" + "\n".join(rows)
    raw = read(tmp_path, text, "log.tsv", keep_columns=["band"])
    assert raw.interactions.height == 300
    assert raw.interactions["band"][7] == '"Wild'
    assert raw.interactions["band"][200] == '"Q"'
    assert any(note.startswith("log.tsv: quotes stand for themselves") for note in raw.notes)
    text = 'user\titem\tband\nu\ti\t"a ""b"" c"\nv\ti\tplain\nw\ti\t"two\tcells"\n'
    raw = read(tmp_path, text, "log.tsv", keep_columns=["band"])
    assert raw.interactions["band"].to_list() == ['a "b" c', "plain", "two\tcells"]


def test_fields_of_several_lines_keep_true_lines(tmp_path):
    text = HEADER + 'u,a,"one\n\ntwo, three",1\nv,b,"x",2\nv,b,"x",2\nw,,"q\nr",3\n'
    raw = read(tmp_path, text, keep_columns=["title"])
    assert titles(raw) == ["one\n\ntwo, three", "x", "x"]
    assert raw.interactions["line"].to_list() == [2, 5, 6]
    assert raw.rejected.rows() == [("log.csv", 7, "item_id is empty", 'w,,"q')]


def test_a_mark_before_a_quoted_first_row_is_no_part_of_it(tmp_path):
    raw = read(tmp_path, '\ufeff"u, 1","a ""b""",3\n" v",5" x,4\n', columns=["user_id", "item_id", "value"])
    assert raw.interactions.select("user_id", "item_id").rows() == [("u, 1", 'a "b"'), ("v", '5" x')]


def test_headers_may_be_quoted_hold_separators_and_lines(tmp_path):
    text = '"user_id","item, or\nid",timestamp\nu,a,1\n"v","b",2\nw,c\n'
    raw = read(tmp_path, text, item_column="item, or\nid")
    assert raw.interactions.select("line", "user_id", "item_id").rows() == [(3, "u", "a"), (4, "v", "b")]
    assert raw.rejected.row(0)[1:3] == (5, "2 fields instead of 3")


def test_spaces_around_cells_go_and_those_in_quotes_stay_save_around_ids(tmp_path):
    text = 'user_id, item_id, title, timestamp\nu, a, One , 1\n u, "b, c", "two", 2\nu,"  d ", x,3\n'
    raw = read(tmp_path, text, keep_columns=["title"])
    assert raw.interactions["user_id"].to_list() == ["u", "u", "u"]
    assert raw.interactions["item_id"].to_list() == ["a", "b, c", "d"]
    assert titles(raw) == ["One", "two", "x"]
    note, quoted = [note for note in raw.notes if "spaces" in note]
    assert quoted == "log.csv: spaces around 1 of item_id were removed"
    assert note.endswith("removed: 3 of cells in rows with quotes, 1 of item_id, 1 of title")
    text = 'user_id,item_id,title,timestamp\nu,a,"He said \\"hi\\" ",1\nu,b," |\t",2\nu,c," ",3\n'
    assert titles(read(tmp_path, text, keep_columns=["title"])) == ['He said "hi" ', " |\t", " "]
    plain = read(tmp_path, "user_id, item_id\nu, a\nv ,b\n,  \n")
    assert plain.interactions.select("user_id", "item_id").rows() == [("u", "a"), ("v", "b")]
    assert plain.rejected["line"].to_list() == [4]


def test_new_items_of_a_run_are_read_with_the_same_care(tmp_path):
    path = tmp_path / "new.csv"
    path.write_bytes('item_id,title\nx,9" café\ny,"two\nlines"\n'.encode("cp1252"))
    assert read_table(path).rows() == [("x", '9" café'), ("y", "two\nlines")]
    path.write_text("item_id,title\nx,a,b\n")
    with pytest.raises(DataError, match="line 2: expected 2 fields"):
        read_table(path)
