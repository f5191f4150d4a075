"""Folders of tables: interactions, items and users by evidence, parts of a split, and questions in doubt."""

import shlex

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.card import read_card
from recloom.data.prepare.check import check_path
from recloom.data.prepare.source import recognise
from recloom.data.readers.folder_evidence import folder_plan
from recloom.data.readers.parts import part_files, part_of
from recloom.data.readers.sequences import Sequences
from recloom.data.readers.table import Table
from recloom.data.split import parts_of
from recloom.errors import DataError
from recloom.schemas import SplitSpec

LOG = "user_id,book_id,rating\n" + "".join(f"{n % 4},{n * 3 % 7 + 10},{n % 5 + 1}\n" for n in range(28))
BOOKS = "book_id,title,pages\n" + "".join(f"{n + 10},Book {n},{n * 7}\n" for n in range(7))
READERS = "id,age\n" + "".join(f"{n},{n + 20}\n" for n in range(4))
PLAYS = "user,song,plays\n" + "".join(f"u{n % 5},s{n % 6},{n}\n" for n in range(30))


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def commands(error):
    return [line.strip() for line in str(error.value).splitlines() if line.startswith("  recloom ")]


def test_a_folder_of_ratings_titles_and_people(tmp_path, capsys):
    tags = "tag,words\nx1,y\nx2,z\n"
    raw = write(tmp_path / "raw", ratings__csv=LOG, titles__csv=BOOKS, readers__csv=READERS, tags__csv=tags)
    (raw / "README.txt").write_text("What this is.\n")
    main(["data", "prepare", str(raw), "--out", str(tmp_path / "data")])
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "taken from the folder: ratings.csv as interactions (28 rows), titles.csv as items (7 rows, book_id is their "
        "key), readers.csv as users (4 rows, id is their key)"
    ) in shown
    assert "left unused: tags.csv (tag holds 0 of 4 ids of users)" in shown
    items = pl.read_parquet(tmp_path / "data" / "items.parquet")
    assert items.sort("item_id")["title"].to_list() == [f"Book {n}" for n in range(7)]
    users = pl.read_parquet(tmp_path / "data" / "users.parquet")
    assert users["age"].sort().to_list() == ["20", "21", "22", "23"]
    assert read_card(tmp_path / "data").counts["interactions"] == 28
    assert not [finding for finding in check_path(raw) if finding.state == "bad"]


def test_the_key_of_another_table_says_which_column_holds_the_items(tmp_path):
    shows = "show_nr,name\n" + "".join(f"{n},Show {n}\n" for n in range(6))
    log = "user_id,show_nr,rating\n" + "".join(f"{n % 5},{n % 6},3\n" for n in range(30))
    raw = write(tmp_path / "raw", log__csv=log, shows__csv=shows)
    assert recognise(raw) is Table
    tables = Table().read(raw)
    assert tables.interactions["item_id"].n_unique() == 6
    assert tables.items["title"][0] == "Show 0"
    assert "show_nr is taken for item_id: another table has it as its key" in tables.notes


def test_a_table_with_an_author_for_each_article_is_no_interactions(tmp_path):
    articles = "article_id,author_id,title\n" + "".join(f"{n},{n % 3},T{n}\n" for n in range(7))
    clicks = "user_id,article_id\n" + "".join(f"{n % 4},{n % 7}\n" for n in range(28))
    plan = folder_plan(write(tmp_path / "raw", articles__csv=articles, clicks__csv=clicks), Table())
    assert [path.name for path in plan.tables] == ["clicks.csv"]
    assert plan.sides["item_id"].path.name == "articles.csv"


def test_two_tables_of_interactions_are_asked_about_with_whole_commands(tmp_path, capsys):
    wished = "user_id,book_id\n" + "".join(f"{n % 4},{n % 7 + 10}\n" for n in range(28))
    raw = write(
        tmp_path / "my raw", ratings__csv=LOG, wished__csv=wished, titles__csv=BOOKS, readers__csv=READERS
    )
    with pytest.raises(DataError, match="several tables may hold the interactions") as error:
        recognise(raw)
    first, second = commands(error)
    assert (
        f"--path '{raw}/ratings.csv' --items-path '{raw}/titles.csv' --users-path '{raw}/readers.csv'"
        in first
    )
    assert f"--path '{raw}/wished.csv' --items-path" in second
    main([str(tmp_path / "data") if word == "DIR" else word for word in shlex.split(first)[1:]])
    assert pl.read_parquet(tmp_path / "data" / "items.parquet")["title"].null_count() == 0
    assert recognise(raw, {"tables": ["wished.csv"]}) is Table
    with pytest.raises(DataError, match=r"'titles.csv' .--tables. is no table of users and items there"):
        folder_plan(raw, Table(tables=["titles.csv"]))


def test_two_tables_of_titles_are_asked_about(tmp_path):
    other = BOOKS.replace("Book ", "Livre ")
    raw = write(tmp_path / "raw", ratings__csv=LOG, titles__csv=BOOKS, titres__csv=other)
    with pytest.raises(DataError, match="several tables may hold the attributes") as error:
        recognise(raw)
    assert ["titles.csv" in line for line in commands(error)] == [True, False]
    links = "book_id,url\n" + "".join(f"{n + 10},x{n}\n" for n in range(7))
    (raw / "titres.csv").write_text(links)
    tables = Table().read(raw)
    assert tables.items["title"][0] == "Book 0"
    assert "left unused: titres.csv (has rows of items, and another table is read for them)" in tables.notes


def test_ids_that_fit_users_and_items_are_told_by_the_name_of_the_file_or_asked(tmp_path):
    log = "user_id,item_id\n" + "".join(f"{n % 5},{n % 6}\n" for n in range(30))
    things = "id,label\n" + "".join(f"{n},L{n}\n" for n in range(6))
    raw = write(tmp_path / "raw", log__csv=log, items__csv=things)
    assert folder_plan(raw, Table()).sides["item_id"].path.name == "items.csv"
    (raw / "items.csv").rename(raw / "more.csv")
    with pytest.raises(DataError, match=r"If log.csv holds the interactions, more.csv the items:") as error:
        folder_plan(raw, Table())
    path = raw / "log.csv"
    assert commands(error) == [
        f"recloom data prepare table --path {path} --{kind}-path {raw / 'more.csv'} --out DIR"
        for kind in ("items", "users")
    ]


def test_ids_of_another_numbering_are_not_joined_in_silence(tmp_path):
    raw = write(tmp_path / "raw", ratings__csv=LOG, titles__csv=BOOKS.replace("\n1", "\nx1"))
    notes = Table().read(raw).notes
    assert "left unused: titles.csv (book_id holds 0 of 7 ids of items)" in notes


def test_movielens_names_what_it_does_not_read_and_reads_titles_of_other_names(tmp_path, capsys):
    log = "userId,movieId,rating,timestamp\n" + "".join(
        f"{n % 4},{n % 7 + 10},4,{1_300_000_000 + n}\n" for n in range(28)
    )
    films = BOOKS.replace("book_id", "movieId")
    raw = write(tmp_path / "raw", ratings__csv=log, titles__csv=films)
    assert recognise(raw) is Table
    assert Table().read(raw).items["title"][0] == "Book 0"
    (raw / "titles.csv").rename(raw / "movies.csv")
    (raw / "movies.csv").write_text(films.replace("pages", "genres"))
    write(raw, links__csv="movieId,imdbId\n10,1\n")
    assert recognise(raw).name == "movielens"
    main(["data", "prepare", str(raw), "--out", str(tmp_path / "data")])
    assert "left unused: links.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "part"),
    [("train.csv", "train"), ("ratings_valid.tsv", "valid"), ("ml.dev.inter", "valid"), ("x-Validation.jsonl", "valid"),
     ("test.parquet", "test"), ("latest.csv", None), ("train_test.csv", None), ("te.csv", None)],
)  # fmt: skip
def test_parts_by_names_of_files(tmp_path, name, part):
    found = part_of(tmp_path / name)
    assert (found and found[0]) == part


def test_sets_of_parts_have_one_file_each(tmp_path):
    names = ["a_train.csv", "a_test.csv", "b_train.csv", "train.tsv", "test.tsv", "c.csv"]
    found = part_files([tmp_path / name for name in names])
    assert [[file.name for file in files] for files in found] == [
        ["a_train.csv", "a_test.csv"],
        ["train.tsv", "test.tsv"],
    ]
    assert not part_files([tmp_path / "train.csv", tmp_path / "training.csv"])


def rows(first, last, start=1_300_000_000):
    return [(f"u{n % 3}", f"i{n % 7}", n % 5 + 1, start + n) for n in range(first, last)]


def parts(folder, suffix, prefix=""):
    folder.mkdir()
    mark = "\t" if suffix in ("tsv", "inter") else ","
    names = ["user_id", "item_id", "rating", "timestamp"]
    for part, span in (("train", (0, 15)), ("valid", (15, 20)), ("test", (20, 26))):
        path = folder / f"{prefix}{part}.{suffix}"
        table = pl.DataFrame(rows(*span), schema=names, orient="row")
        if suffix == "parquet":
            table.write_parquet(path)
        elif suffix == "jsonl":
            table.write_ndjson(path)
        else:
            kinds = ("token", "token", "float", "float") if suffix == "inter" else ()
            table.columns = (
                [f"{name}:{kind}" for name, kind in zip(names, kinds, strict=True)] if kinds else names
            )
            table.write_csv(path, separator=mark)
    return folder


@pytest.mark.parametrize(
    ("suffix", "prefix"),
    [("csv", ""), ("tsv", "ratings_"), ("inter", "ml."), ("parquet", ""), ("jsonl", "log-")],
)
def test_a_table_for_each_part_is_kept_as_the_split(tmp_path, suffix, prefix, capsys):
    raw = parts(tmp_path / "raw", suffix, prefix)
    books = "item_id,title\n" + "".join(f"i{n},Book {n}\n" for n in range(7))
    write(raw, books__csv=books)
    data = tmp_path / "data"
    main(["data", "prepare", str(raw), "--out", str(data), "--keep-split"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "the split of the source is kept: 15 train, 5 valid, 6 test" in shown
    spec, part = parts_of(data, read_card(data), SplitSpec())
    found = pl.read_parquet(data / "interactions.parquet").with_columns(part.cast(pl.String).alias("in"))
    assert spec.strategy == "source"
    expected = {time: name for name, span in (("train", (0, 15)), ("valid", (15, 20)), ("test", (20, 26)))
                for *_, time in rows(*span)}  # fmt: skip
    assert dict(found.select("timestamp", "in").rows()) == expected
    assert pl.read_parquet(data / "items.parquet")["title"].null_count() == 0


def test_without_keep_split_the_parts_are_joined_with_a_sentence(tmp_path, capsys):
    raw = parts(tmp_path / "raw", "csv")
    (raw / "valid.csv").rename(raw / "dev.csv")
    main(["data", "prepare", str(raw), "--out", str(tmp_path / "data")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "train.csv and dev.csv and test.csv are joined; the column `part` says where a row" in shown
    assert "this split of the source is kept with --keep-split, else the dataset is split anew" in shown
    assert read_card(tmp_path / "data").counts["interactions"] == 26
    assert parts_of(tmp_path / "data", read_card(tmp_path / "data"), SplitSpec())[0].strategy == "last"


def test_the_whole_beside_its_parts_is_asked_about(tmp_path):
    raw = parts(tmp_path / "raw", "csv")
    pl.DataFrame(rows(0, 26), schema=["user_id", "item_id", "rating", "timestamp"], orient="row").write_csv(
        raw / "all.csv"
    )
    with pytest.raises(DataError, match="several tables may hold the interactions") as error:
        recognise(raw)
    kept = next(line for line in commands(error) if "--tables" in line)
    assert f"--path {raw} --tables train.csv valid.csv test.csv --out DIR" in kept
    words = [str(tmp_path / "data") if word == "DIR" else word for word in shlex.split(kept)[1:]]
    main([*words, "--keep-split"])
    assert read_card(tmp_path / "data").counts["interactions"] == 26


def test_parts_of_other_columns_are_refused_with_the_command(tmp_path):
    raw = write(tmp_path / "raw", train__csv=LOG, test__csv="user_id,book_id\n1,10\n2,11\n")
    with pytest.raises(DataError, match=r"train.csv has a column of values, and test.csv has none") as error:
        Table().read(raw)
    (command,) = commands(error)
    assert command.endswith("--value-column none --tables train.csv test.csv --out DIR")
    assert Table(value_column="none").read(raw).interactions.height == 30


def test_a_column_called_part_does_not_meet_that_of_the_files(tmp_path):
    lines = "user_id,item_id,part\n1,a,x\n1,b,y\n"
    raw = write(tmp_path / "raw", train__csv=lines, test__csv=lines)
    found = Table(keep_columns=["part"]).read(raw).interactions
    assert found["part"].to_list() == ["train"] * 2 + ["test"] * 2
    assert found["other_part"].to_list() == ["x", "y"] * 2


def test_files_of_sequences_with_other_words_for_validation(tmp_path):
    raw = write(tmp_path / "raw", train__txt="0 1 2\n1 3 4\n", val__txt="0 7\n", test__txt="0 9\n")
    found = Sequences().read(raw).interactions
    assert found.filter(pl.col("part") == "valid")["item_id"].to_list() == ["7"]


def test_a_folder_without_interactions_says_what_keeps_its_tables_from_being_read(tmp_path):
    raw = write(tmp_path / "raw", log__csv="1,10,4\n2,10,3\n1,11,5\n2,12,5\n", titles__csv=BOOKS)
    with pytest.raises(
        DataError, match=r"(?s)no reader recognises this folder.*log.csv: .*no column of user ids or item ids"
    ) as error:
        recognise(raw)
    assert f"{commands(error)[0]}".startswith(
        f"recloom data prepare table --path {raw / 'log.csv'} --columns "
    )
