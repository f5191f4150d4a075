"""Each format in small, its known traps, and the real files where they are at hand."""

import gzip
import json

import polars as pl
import pytest
from recloom.data.prepare.dataset import arrange
from recloom.data.prepare.source import recognise
from recloom.data.readers import core_readers
from recloom.data.readers.amazon import Amazon
from recloom.data.readers.mind import Mind
from recloom.data.readers.movielens import MovieLens
from recloom.data.readers.sequences import Sequences
from recloom.data.readers.table import Table
from recloom.errors import DataError

ML = "userId,movieId,rating,timestamp\n"


def rows(raw, *columns):
    return raw.interactions.select(columns or ("user_id", "item_id", "timestamp")).rows()


def test_movielens_csv(tmp_path):
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n2,10,3.5,20\n2,11,4.0,10\n1,10,1,5\n"
    )
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n11,"Avventura, L\' (1960)",Drama\n10,Heat (1995),(no genres listed)\n'
        "12,Unseen,x\n"
    )
    raw = MovieLens().read(tmp_path)
    assert rows(raw, "user_id", "item_id", "value", "timestamp") == [
        ("2", "10", 3.5, 20), ("2", "11", 4.0, 10), ("1", "10", 1.0, 5),
    ]  # fmt: skip
    data = arrange(raw)
    assert data.items.rows() == [("11", "Avventura, L' (1960)", "Drama"), ("10", "Heat (1995)", None)]
    assert data.interactions["item_id"].to_list() == ["11", "10", "10"]
    assert data.users.rows() == [("2", 2), ("1", 1)]
    kept = arrange(MovieLens().read(tmp_path), keep_all_items=True)
    assert kept.items["item_id"].to_list() == ["11", "10", "12"]


def test_movielens_1m_is_latin_1_with_double_colons(tmp_path):
    (tmp_path / "ratings.dat").write_text("1::1193::5::978300760\n1::661::3::978302109\nbad line\n")
    (tmp_path / "movies.dat").write_bytes("661::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1"))
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n")
    raw = MovieLens().read(tmp_path)
    assert rows(raw) == [("1", "1193", 978300760), ("1", "661", 978302109)]
    assert raw.items.rows() == [("661", "Misérables, Les (1995)", "Drama|Musical")]
    assert raw.users.rows() == [("1", "F", "1", "10", "48067")]
    assert raw.rejected.rows() == [("ratings.dat", 3, "1 fields instead of 4", "bad line")]


def test_movielens_100k(tmp_path):
    (tmp_path / "u.data").write_text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n")
    flags = "|".join("1" if place in (1, 5) else "0" for place in range(19))
    line = f"242|Kolya é (1996)|24-Jan-1997||http://x|{flags}\n"
    (tmp_path / "u.item").write_bytes(line.encode("latin-1"))
    (tmp_path / "u.user").write_text("196|49|M|writer|55105\n")
    raw = MovieLens().read(tmp_path)
    assert rows(raw) == [("196", "242", 881250949), ("186", "302", 891717742)]
    assert raw.items.rows() == [("242", "Kolya é (1996)", "24-Jan-1997", "Action|Comedy")]
    assert raw.users.rows() == [("196", "49", "M", "writer", "55105")]


def test_movielens_without_header_says_so(tmp_path):
    (tmp_path / "ratings.csv").write_text("1,31,2.5,1260759144\n1,32,2.5,1260759144\n")
    with pytest.raises(DataError, match=r"ratings.csv, line 1: expected the header userId.*--columns"):
        MovieLens().read(tmp_path)
    (tmp_path / "ratings.csv").write_text("userId;movieId;rating;timestamp\n1;31;2.5;1260759144\n")
    with pytest.raises(DataError, match="separator is ';'"):
        MovieLens().read(tmp_path)


MIND_LINE = "{}\t{}\t11/15/2019 {} AM\t{}\t{}\n"


def mind(folder, *lines, news="N1\tsports\tgolf\tA title\tAn abstract\turl\t[]\t[]\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "behaviors.tsv").write_text("".join(MIND_LINE.format(*line) for line in lines))
    (folder / "news.tsv").write_text(news)
    return folder


def test_mind_keeps_row_one_and_empty_histories(tmp_path):
    folder = mind(
        tmp_path / "x",
        (1, "U1", "9:00:10", "N5 N6 N5", "N1-1 N2-0"),
        (2, "U2", "9:00:00", "", "N3-0 N1-1"),
        (3, "U1", "8:00:10", "N5 N6 N5", "N4-1 N2-1"),
    )
    data = arrange(Mind().read(folder))
    at = 1573804810  # 2019-11-15 08:00:10, the first impression of U1 although not the first row
    assert data.interactions.filter(user_id="U1").select("item_id", "timestamp", "event").rows() == [
        ("N5", at - 3, "history"), ("N6", at - 2, "history"), ("N5", at - 1, "history"),
        ("N4", at, "click"), ("N2", at, "click"), ("N1", at + 3600, "click"),
    ]  # fmt: skip
    assert data.interactions.filter(user_id="U2")["item_id"].to_list() == ["N1"]
    assert data.impressions["impression_id"].to_list() == ["1", "2", "3"]
    assert data.impressions["history"].to_list()[1] == []
    assert data.impressions["candidates"].to_list()[0] == ["N1", "N2"]
    assert data.impressions["labels"].to_list() == [[1, 0], [0, 1], [1, 1]]
    assert data.items.row(0)[:4] == ("N1", "A title", "sports", "golf")
    assert set(data.items["item_id"]) == {"N1", "N2", "N3", "N4", "N5", "N6"}


def test_mind_parts_header_and_hidden_labels(tmp_path):
    mind(tmp_path / "MINDsmall_train", (1, "U1", "9:00:10", "N5", "N1-1"))
    mind(tmp_path / "MINDsmall_dev", (1, "U1", "10:00:10", "N5", "N2-1"), (2, "U3", "10:00:10", "", "N2 N1"))
    raw = Mind().read(tmp_path)
    assert raw.impressions["part"].to_list() == ["MINDsmall_train", "MINDsmall_dev", "MINDsmall_dev"]
    data = arrange(raw)
    assert data.users.rows() == [("U1", 3), ("U3", 0)]
    assert data.impressions["labels"].to_list() == [[1], [1], []]
    header = "impression_id\tuser_id\ttime\thistory\timpressions\n"
    one = mind(tmp_path / "one", (1, "U1", "9:00:10", "N5", "N1-1"))
    (one / "behaviors.tsv").write_text(header + (one / "behaviors.tsv").read_text())
    assert Mind().read(one).impressions.height == 1


def test_mind_rejects_what_is_broken(tmp_path):
    folder = mind(
        tmp_path / "x",
        (1, "U1", "9:00:10", "N5", "N1-1"),
        (2, "U2", "99:00", "N5", "N1-1"),
        (3, "U3", "9:00:10", "", ""),
        (4, "U4", "9:00:10", "", "N1-1 N2"),
    )
    raw = Mind().read(folder)
    assert raw.rejected.select("line", "reason").rows() == [
        (2, "time is not like 11/15/2019 9:55:12 AM"), (3, "no impressions"),
        (4, "some impressions are without -0 or -1"),
    ]  # fmt: skip
    (folder / "behaviors.tsv").write_text("a,b\n")
    with pytest.raises(DataError, match="expected 5 tab-separated columns"):
        Mind().read(folder)


def amazon_old(user, item, time=1400000000, **more):
    return json.dumps({"reviewerID": user, "asin": item, "overall": 5.0, "unixReviewTime": time} | more)


def test_amazon_2014_with_python_metadata_and_gzip(tmp_path):
    lines = [amazon_old("A", "B1", reviewText="good é"), amazon_old("B", "B2", 1400000001), '{"broken', ""]
    with gzip.open(tmp_path / "reviews_Beauty_5.json.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    with gzip.open(tmp_path / "meta_Beauty.json.gz", "wt") as file:
        file.write(
            "{'asin': 'B1', 'title': \"Bob's\", 'categories': [['Beauty', 'Hair, long']], 'price': 3.5}\n"
        )
        file.write('{"asin": "B9", "title": "unused"}\n')
    raw = Amazon(keep_columns=["reviewText"]).read(tmp_path)
    assert rows(raw) == [("A", "B1", 1400000000), ("B", "B2", 1400000001)]
    assert raw.interactions["reviewText"].to_list() == ["good é", None]
    assert raw.rejected.select("line", "reason").rows() == [(3, "not a JSON object"), (4, "empty line")]
    data = arrange(raw, max_rejected=1)
    assert data.items.row(0, named=True) == {
        "item_id": "B1", "title": "Bob's", "categories": "Beauty; Hair, long", "price": "3.5",
    }  # fmt: skip
    assert data.items["item_id"].to_list() == ["B1", "B2"]


def test_amazon_2023_has_other_keys_and_milliseconds(tmp_path):
    review = {
        "user_id": "A",
        "parent_asin": "P",
        "asin": "X",
        "rating": 4,
        "timestamp": 1588687728923,
        "text": "t",
    }
    (tmp_path / "All_Beauty.jsonl").write_text(json.dumps(review) + "\n")
    meta = {"parent_asin": "P", "title": "T", "store": "S", "features": ['say "hi"', "b"], "price": None}
    (tmp_path / "meta_All_Beauty.jsonl").write_text(json.dumps(meta) + "\n")
    raw = Amazon().read(tmp_path / "All_Beauty.jsonl")
    assert rows(raw) == [("A", "P", 1588687728)]
    assert raw.items.rows(named=True) == [
        {"item_id": "P", "title": "T", "store": "S", "features": 'say "hi"; b'}
    ]
    assert "times: milliseconds" in raw.notes


def test_amazon_says_what_it_expects(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"user": 1}\n')
    with pytest.raises(DataError, match="Expected objects with reviewerID"):
        Amazon().read(tmp_path / "x.jsonl")
    (tmp_path / "x.jsonl").unlink()
    with pytest.raises(DataError, match="holds 0 files of reviews"):
        Amazon().read(tmp_path)


def test_sequences_of_pairs_and_of_users(tmp_path):
    (tmp_path / "pairs.txt").write_text("1 5\n1 6\n2 5\n1 5\n")
    (tmp_path / "users.txt").write_text("1 5 6 5\n2  5\n7\n\n")
    (tmp_path / "items.tsv").write_text('item_id\ttitle\tbrand\n5\tA "quoted" title\tX\n6\tB\tY\n')
    pairs = arrange(Sequences().read(tmp_path / "pairs.txt"))
    assert pairs.time == "order"
    expected = [("1", "5", 0), ("1", "6", 1), ("1", "5", 2), ("2", "5", 0)]
    assert pairs.interactions.rows() == expected
    raw = Sequences(items_path=[tmp_path / "items.tsv"]).read(tmp_path / "users.txt")
    assert raw.rejected.select("line", "reason").rows() == [(3, "a user without items"), (4, "empty line")]
    data = arrange(raw, max_rejected=1)
    assert data.interactions.rows() == expected
    assert data.items.rows() == [("5", 'A "quoted" title', "X"), ("6", "B", "Y")]
    assert data.counts["duplicates"] == 0


def test_sequences_follow_a_map_of_ids(tmp_path):
    (tmp_path / "s.txt").write_text("1 1\n1 2\n")
    (tmp_path / "map.txt").write_text("1 1198\n2 3552\n")
    (tmp_path / "movies.dat").write_text("3552::Caddyshack (1980)::Comedy\n1198::Raiders (1981)::Action\n")
    reader = Sequences(items_path=[tmp_path / "map.txt", tmp_path / "movies.dat"])
    data = arrange(reader.read(tmp_path / "s.txt"))
    assert data.items["title"].to_list() == ["Raiders (1981)", "Caddyshack (1980)"]
    (tmp_path / "map.txt").write_text("1 1198\n1 3552\n")
    with pytest.raises(DataError, match=r"map.txt, line 2: the id '1' is mapped twice"):
        reader.read(tmp_path / "s.txt")
    (tmp_path / "map.txt").write_text("1 1198\n2\n")
    with pytest.raises(DataError, match=r"map.txt, line 2: an id map has two ids a line"):
        reader.read(tmp_path / "s.txt")


def test_sequences_of_lightgcn_keep_their_parts(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2\n1 3 4\n")
    (tmp_path / "test.txt").write_text("0 9\n")
    data = arrange(Sequences().read(tmp_path))
    assert data.interactions.rows() == [
        ("0", "1", 0, "train"), ("0", "2", 1, "train"), ("0", "9", 2, "test"),
        ("1", "3", 0, "train"), ("1", "4", 1, "train"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("times", "found"),
    [
        (["1500000000", "1500000001"], "seconds"),
        (["1500000000999", "1500000001000"], "milliseconds"),
        (["1500000000.9", "1500000001.0"], "seconds"),
        (["2017-07-14T02:40:00Z", "2017-07-14T04:40:01+02:00"], "Z"),
        (["2017-07-14 02:40:00", "2017-07-14 02:40:01.5"], "%Y-%m-%d %H:%M:%S"),
    ],
)
def test_table_recognises_times(tmp_path, times, found):
    (tmp_path / "t.csv").write_text(
        "user,item,time\n" + "".join(f"u,i{n},{t}\n" for n, t in enumerate(times))
    )
    raw = Table().read(tmp_path / "t.csv")
    assert raw.interactions["timestamp"].to_list() == [1500000000, 1500000001]
    assert any(found in note for note in raw.notes if note.startswith("times: "))


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet", "jsonl", "jsonl.gz"])
def test_table_in_every_container(tmp_path, ending):
    frame = pl.DataFrame(
        {"Rating": [4.0, 2.0], "userId": ["a b", "😀"], "ITEM": ["07", "7"], "ts": [5, 6], "x": ["p", "q"]}
    )
    path = tmp_path / f"data.{ending}"
    if "parquet" in ending:
        frame.write_parquet(path)
    else:
        text = (
            frame.write_ndjson()
            if "jsonl" in ending
            else frame.write_csv(separator="\t" if ending == "tsv" else ",")
        )
        path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    raw = Table(keep_columns=["x"]).read(path)
    assert rows(raw, "user_id", "item_id", "timestamp", "value", "x") == [
        ("a b", "07", 5, 4.0, "p"),
        ("😀", "7", 6, 2.0, "q"),
    ]


def test_table_columns_can_be_named_and_left_out(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("who,what,score\nu,i,1\nu,j,2\n")
    with pytest.raises(
        DataError,
        match=r"(?s)no column of user ids or item ids recognised among who, what, score.*--user-column",
    ):
        Table().read(path)
    raw = Table(user_column="who", item_column="what", value_column="none").read(path)
    assert rows(raw, "user_id", "item_id", "line") == [("u", "i", 2), ("u", "j", 3)]
    assert not raw.timed
    assert raw.notes[0] == "columns: who as user_id, what as item_id"
    with pytest.raises(DataError, match=r"no column 'when' .--time-column."):
        Table(user_column="who", item_column="what", time_column="when").read(path)
    path.write_text("1,31,2.5\n2,32,4\n")
    with pytest.raises(
        DataError, match=r"(?s)header row may be missing.*--columns user_id item_id value --out"
    ):
        Table().read(path)
    assert rows(Table(columns=["user", "item", "rating"]).read(path), "value", "line") == [
        (2.5, 1),
        (4.0, 2),
    ]


def test_recognition_is_unambiguous(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,3,4\n")
    (tmp_path / "seq.txt").write_text("1 2 3\n2 3\n")
    (tmp_path / "log.csv").write_text("user_id,item_id\na,b\n")
    (tmp_path / "r.json").write_text(amazon_old("A", "B") + "\n")
    folder = mind(tmp_path / "m", (1, "U1", "9:00:10", "N5", "N1-1"))
    found = [recognise(tmp_path / name).name for name in ("ratings.csv", "seq.txt", "log.csv", "r.json")]
    assert [*found, recognise(folder).name] == ["movielens", "sequences", "table", "amazon", "mind"]
    (tmp_path / "prose.txt").write_text("Hello, world.\n")
    with pytest.raises(DataError, match="no reader recognises it"):
        recognise(tmp_path / "prose.txt")


def test_every_reader_is_documented():
    readers = core_readers()
    assert len(readers) == 9
    for reader in readers:
        assert reader.__doc__.strip()
        assert reader.licence


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("ml-latest-small", (671, 9066, 100_004)),
        ("amazon-beauty/Beauty.txt", (22_363, 12_101, 198_502)),
        ("ml-1m/sequences.txt", (6_040, 3_416, 999_611)),
        ("gowalla", (29_858, 40_981, 1_027_370)),
    ],
)
def test_real_sets_have_the_published_sizes(real_data, path, counts):
    data = arrange(recognise(real_data / path)().read(real_data / path))
    assert (data.users.height, data.items.height, data.interactions.height) == counts
    assert data.rejected.height == 0


def test_real_mind_has_as_many_impressions_as_lines(real_data):
    folder = real_data / "mind-sample" / "small_train_5000"
    raw = Mind().read(folder)
    lines = (folder / "behaviors.tsv").read_text().count("\n")
    assert raw.impressions.height == lines == 5000
    assert raw.items.height == (folder / "news.tsv").read_text().count("\n")
