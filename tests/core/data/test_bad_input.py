"""Broken files: every bad row is found, with its line and reason, or the file is refused with a way out."""

import gzip

import polars as pl
import pytest
from recloom.data.prepare.dataset import arrange
from recloom.data.readers.table import Table
from recloom.errors import DataError

HEADER = "user_id,item_id,value,timestamp\n"


def read(tmp_path, body, header=HEADER, name="log.csv", **options):
    data = body if isinstance(body, bytes) else body.encode()
    (tmp_path / name).write_bytes(header.encode() + data)
    return Table(**options).read(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("u,i,4", "3 fields instead of 4"),
        ("u,i,4,5,6", "more than 4 fields"),
        (",i,4,5", "user_id is empty"),
        ("u,,4,5", "item_id is empty"),
        ('u,"",4,5', "item_id is empty"),
        ("u,i,,5", "value is empty or not a number"),
        ("u,i,four,5", "value is empty or not a number"),
        ("u,i,NaN,5", "value is NaN or infinite"),
        ("u,i,inf,5", "value is NaN or infinite"),
        ("u,i,4,", "timestamp is empty or not a time"),
        ("u,i,4,yesterday", "timestamp is empty or not a time"),
        ("u,i,4,99999999999999999999", "timestamp is empty or not a time"),
        ("u,i,4,-5", "timestamp is negative"),
        ("", "empty line"),
        (",,,", "empty line"),
    ],
)
def test_a_bad_row_is_rejected_with_its_line(tmp_path, line, reason):
    raw = read(tmp_path, f"a,x,1,1\nb,y,2,2\n{line}\nc,z,3,3\n")
    assert raw.interactions["user_id"].to_list() == ["a", "b", "c"]
    assert raw.rejected.rows() == [("log.csv", 4, reason, line)]


def test_a_byte_that_is_not_utf_8_costs_its_row_only(tmp_path):
    raw = read(tmp_path, b"a,x,1,1\nb,\xff,2,2\n\xe9,y,2,2\nc,\xc3\xa9,3,3\nd,\xc3\xa9,4,4\n")
    assert raw.interactions["item_id"].to_list() == ["x", "é", "é"]
    assert "log.csv: rows with bytes that are not UTF-8 are left out, the first is line 3 (ff)" in raw.notes
    assert raw.rejected.select("line", "reason").rows() == [
        (3, "item_id is not valid UTF-8"), (4, "user_id is not valid UTF-8"),
    ]  # fmt: skip


def test_a_replacement_character_in_valid_utf_8_is_kept(tmp_path):
    assert read(tmp_path, "a,\ufffd,1,1\n").interactions["item_id"].to_list() == ["\ufffd"]


def test_lines_are_true_lines_where_quoted_fields_span_several(tmp_path):
    header = "user_id,item_id,value,timestamp,text\n"
    raw = read(tmp_path, 'a,x,1,1,"two\nlines"\nb,y,bad,2,"q ""x"""\nc,z,3,3,\n', header)
    assert raw.interactions["user_id"].to_list() == ["a", "c"]
    assert raw.rejected.rows() == [("log.csv", 4, "value is empty or not a number", 'b,y,bad,2,"q ""x"""')]


def test_a_quote_that_is_never_closed(tmp_path):
    body = 'a,x,1,1\nb,"y,2,2\nc,z,3,3\n'
    with pytest.raises(DataError, match=r"log.csv, line 3: a quote is opened and never closed.*--quote none"):
        read(tmp_path, body)
    raw = read(tmp_path, body, quote="none")
    assert raw.interactions["item_id"].to_list() == ["x", '"y', "z"]


def test_quotes_that_swallow_lines_are_seen(tmp_path):
    body = 'a,x,1,1\nb,"y,2,2\nc,z",3,3\nd,w,4,4\n'
    with pytest.raises(
        DataError, match=r"log.csv, line 3: a field opens a quote that takes in the rows up to line 4"
    ):
        read(tmp_path, body)
    raw = read(tmp_path, body, quote="double")
    assert raw.interactions["user_id"].to_list() == ["a", "d"]
    assert raw.rejected["reason"].to_list() == ["item_id holds a line break: a quote that is not closed?"]
    assert raw.rejected["line"].to_list() == [3]


def test_odd_ids_work_and_none_become_one(tmp_path):
    long = "x" * 10_000
    raw = read(
        tmp_path,
        f'a b,"say ""hi""",1,1\n😀,{long},2,2\n"\' ",007,3,3\n"\' ",7,3,4\n"a,b","7 ",3,5\n',
    )
    data = arrange(raw)
    assert data.interactions["user_id"].to_list() == ["a b", "😀", "'", "'", "a,b"]
    assert data.interactions["item_id"].to_list() == ['say "hi"', long, "007", "7", "7 "]
    assert data.items.height == 5
    said = [note for note in raw.notes if "spaces around" in note]
    assert said[0] == "log.csv: spaces around 2 of user_id were removed"
    assert (
        "1 of item_id have spaces around them, and other ids differ by these alone, such as '7' and '7 '"
        in said[1]
    )


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    raw = read(tmp_path, "a,x,1,1\r\nb,y,2,oops\r\n", "\ufeffuser_id,item_id,value,timestamp\r\n")
    assert raw.interactions.select("user_id", "timestamp").rows() == [("a", 1)]
    assert raw.rejected.select("line", "text").rows() == [(3, "b,y,2,oops")]


def test_empty_files(tmp_path):
    with pytest.raises(DataError, match=r"log.csv is empty"):
        read(tmp_path, "", "")
    with pytest.raises(DataError, match=r"log.csv is empty"):
        read(tmp_path, "\n\n", "")
    with pytest.raises(DataError, match="no interaction is left of 0 rows read"):
        arrange(read(tmp_path, ""))


def test_a_truncated_gzip_says_how_far_it_read(tmp_path):
    body = HEADER + "".join(f"u{n},i{n * 7919 % 100_003},1,{n}\n" for n in range(50_000))
    packed = gzip.compress(body.encode())
    path = tmp_path / "log.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(
        DataError, match=r"log.csv.gz is a damaged or truncated gzip .*up to line [\d,]{5,}"
    ) as caught:
        Table().read(path)
    line = int(str(caught.value).split("up to line ")[1].split(".")[0].replace(",", ""))
    assert 15_000 < line < 35_000
    path.write_bytes(b"this is no gzip file")
    with pytest.raises(DataError, match="damaged or truncated"):
        Table().read(path)


def test_the_wrong_separator_is_named(tmp_path):
    with pytest.raises(DataError, match="Found ';' as separator: pass --separator ';'"):
        read(tmp_path, "a;x\nb;y\n", "user_id;item_id\n", separator=",")
    assert read(tmp_path, "a;x\nb;y\n", "user_id;item_id\n").interactions.height == 2


def test_a_header_with_a_name_twice(tmp_path):
    with pytest.raises(DataError, match="names a column twice"):
        read(tmp_path, "a,x,y\n", "user_id,item_id,item_id\n")


def test_too_many_bad_rows_are_refused_with_reasons(tmp_path):
    body = "".join(f"u{n},i,1,{n}\n" for n in range(97)) + "u,i,x,1\nu,i,x,1\n,i,1,1\n"
    with pytest.raises(
        DataError,
        match=r"3 of 100 rows are malformed \(3.0%\), more than --max-rejected 0.01: "
        r"2 x value is empty or not a number; 1 x user_id is empty. "
        r"The first is log.csv, line 99: 'u,i,x,1'.*--max-rejected 0.03",
    ):
        arrange(read(tmp_path, body))
    data = arrange(read(tmp_path, body), max_rejected=0.03)
    assert data.counts["rejected"] == data.rejected.height == 3
    assert data.counts["read"] == 100 == data.counts["interactions"] + data.counts["rejected"]


def test_repeated_rows_keep_the_first_and_are_on_record(tmp_path):
    body = "u,i,1,5\nu,j,2,5\nu,i,3,5\nu,i,4,6\nv,i,1,5\nu,i,9,5\n"
    data = arrange(read(tmp_path, body), ties="file")
    assert data.interactions.rows() == [
        ("u", "i", 5, 1.0), ("u", "j", 5, 2.0), ("u", "i", 6, 4.0), ("v", "i", 5, 1.0),
    ]  # fmt: skip
    assert data.counts["duplicates"] == 2
    reason = "duplicate of an earlier row (same user, item and time)"
    assert data.rejected.rows() == [("log.csv", 4, reason, "u,i,3,5"), ("log.csv", 7, reason, "u,i,9,5")]


def test_min_value_is_counted_and_needs_values(tmp_path):
    data = arrange(read(tmp_path, "u,i,4,1\nu,j,3.9,2\nu,k,5,3\n"), min_value=4)
    assert data.interactions["item_id"].to_list() == ["i", "k"]
    assert data.counts["below_min_value"] == 1
    with pytest.raises(DataError, match="--min-value needs a value column"):
        arrange(read(tmp_path, "u,i\n", "user_id,item_id\n"), min_value=4)
    with pytest.raises(DataError, match="no interaction is left"):
        arrange(read(tmp_path, "u,i,4,1\n"), min_value=5)


def test_parquet_rows_are_checked_too(tmp_path):
    frame = pl.DataFrame(
        {"user": [1, None, 3], "item": ["a", "b", ""], "rating": [1.0, 2.0, float("nan")], "time": [1, 2, 3]}
    )
    frame.write_parquet(tmp_path / "t.parquet")
    raw = Table().read(tmp_path / "t.parquet")
    assert raw.interactions.select("user_id", "item_id").rows() == [("1", "a")]
    assert raw.rejected.select("line", "reason").rows() == [(2, "user_id is empty"), (3, "item_id is empty")]


def test_json_lines_that_are_no_objects(tmp_path):
    lines = [
        '{"user_id": "a", "item_id": "x"}',
        "[1]",
        '{"user_id": "b"}',
        '{"user_id": "c", "item_id": "z"',
        "",
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + '\n{"user_id": "d", "item_id": 4}')
    raw = Table().read(tmp_path / "t.jsonl")
    assert raw.interactions.select("user_id", "item_id", "line").rows() == [("a", "x", 1), ("d", "4", 6)]
    assert sorted(raw.rejected.select("line", "reason").rows()) == [
        (2, "not a JSON object"), (3, "item_id is empty"), (4, "not a JSON object"), (5, "empty line"),
    ]  # fmt: skip


@pytest.mark.parametrize("array", [False, True])
def test_half_of_a_character_is_no_text_and_does_not_become_another(tmp_path, array):
    users = ["a", r"\ud83d\ude00", r"\uD800", r"x\ude00", r"\\ud800", "b"]
    rows = [f'{{"user_id": "{user}", "item_id": "i", "more": "\\ud800"}}' for user in users]
    path = tmp_path / "log.json"
    path.write_text("[" + ",\n".join(rows) + "]" if array else "\n".join(rows))
    raw = Table().read(path)
    assert raw.interactions["user_id"].to_list() == ["a", "\U0001f600", r"\ud800", "b"]
    assert raw.rejected["line"].to_list() == [3, 4]
    assert set(raw.rejected["reason"]) == {"half of a character (a lone surrogate), which is no text"}


def test_a_repeated_id_in_a_side_file_is_on_record(tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\nx,First\ny,Y\nx,Second\n,None\n")
    raw = read(tmp_path, "a,x,1,1\n", items_path=[items])
    assert raw.items.rows() == [("x", "First"), ("y", "Y")]
    assert raw.rejected_items.rows() == [
        ("items.csv", 5, "item_id is empty", ",None"),
        ("items.csv", 4, "item_id stands in an earlier row already", "x,Second"),
    ]
    assert arrange(raw).counts["rejected_side_rows"] == 2
    pl.DataFrame({"id": ["x", "x"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(DataError, match="item_id 'x' stands in two rows"):
        read(tmp_path, "a,x,1,1\n", items_path=[tmp_path / "items.parquet"])
    items.write_text("who,what\n1,2\n")
    with pytest.raises(DataError, match=r"items.csv, line 1: no column of ids; expected one of item_id"):
        read(tmp_path, "a,x,1,1\n", items_path=[items])


def test_names_for_a_file_that_has_a_header(tmp_path):
    with pytest.raises(
        DataError, match=r"line 1 is a header: user_id, item_id, value, timestamp. Leave --columns"
    ):
        read(tmp_path, "a,x,1,1\n", columns=["user_id", "item_id", "value", "timestamp"])


def test_bytes_that_are_not_utf_8_between_double_colons(tmp_path):
    options = {"separator": "::", "columns": ["user_id", "item_id"]}
    with pytest.raises(DataError, match=r"log.csv, line 2: the bytes ff are not UTF-8 .*--encoding cp1252"):
        read(tmp_path, b"a::x\nb::\xff\n::z\n", "", **options)
    raw = read(tmp_path, b"a::x\nb::\xff\n::z\n", "", encoding="utf-8", **options)
    assert raw.interactions.select("user_id", "item_id").rows() == [("a", "x")]
    assert raw.rejected.select("line", "reason").rows() == [
        (2, "item_id is not valid UTF-8"),
        (3, "user_id is empty"),
    ]
