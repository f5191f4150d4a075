"""Tables as people have them: other names, other marks, other dates; what is refused says what will work."""

import shlex

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.prepare.check import check_path
from recloom.data.prepare.dataset import arrange
from recloom.data.prepare.source import recognise
from recloom.data.readers.mind import Mind
from recloom.data.readers.sequences import Sequences
from recloom.data.readers.table import Table
from recloom.data.readers.values import to_numbers, to_seconds
from recloom.errors import DataError

SHOP = "who;what;day;grade\na;x;02.07.2023;4,5\na;y;13.07.2023;3\nb;x;14.07.2023;2,0\n"
NAMED = {"user_column": "who", "item_column": "what"}


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "log of shop.csv"
    path.write_text(SHOP)
    return path


def items_file(tmp_path, text):
    path = tmp_path / "goods.csv"
    path.write_text(text)
    return path


def read_items(shop, path, **options):
    return Table(**NAMED, items_path=[path], **options).read(shop)


def test_the_name_of_the_item_column_holds_for_the_item_file(shop, tmp_path):
    path = items_file(tmp_path, "what,label,price\nx,Soap,1.5\ny,Brush,2\n")
    assert read_items(shop, path).items.rows() == [("x", "Soap", "1.5"), ("y", "Brush", "2")]
    path = items_file(tmp_path, "item_id,what,label\n1,x,Soap\n")
    assert read_items(shop, path).items.columns == ["item_id", "other_item_id", "title"]
    path = items_file(tmp_path, "thing,label\nx,Soap\n")
    message = r"line 1: no column of ids; expected one of what, item_id, .* found thing, label.*--item-column"
    with pytest.raises(DataError, match=message):
        read_items(shop, path)


def test_the_name_of_the_user_column_holds_for_the_user_file(shop, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("who,age\na,30\n")
    raw = Table(**NAMED, users_path=[path]).read(shop)
    assert raw.users.rows() == [("a", "30")]


@pytest.mark.parametrize("name", ["label", "Name", "product_name", "headline"])
def test_a_column_of_titles_is_recognised(shop, tmp_path, name):
    raw = read_items(shop, items_file(tmp_path, f"what,{name}\nx,Soap\n"))
    assert raw.items.columns == ["item_id", "title"]
    assert not any("--title-column" in note for note in raw.notes)


def test_texts_without_a_title_are_said_and_can_be_named(shop, tmp_path):
    path = items_file(tmp_path, "what,price,short text,maker\nx,1.5,Soap,Acme\n")
    notes = read_items(shop, path).notes
    assert (
        "goods.csv: none of short text, maker was taken for the title of an item. Where one is, name it: "
        "--title-column 'short text'"
    ) in notes
    raw = read_items(shop, path, title_column="short text")
    assert raw.items.columns == ["item_id", "price", "title", "maker"]
    assert not any("--title-column" in note for note in raw.notes)
    with pytest.raises(
        DataError, match=r"goods.csv has no column 'tilte' .--title-column.\. It has what, price"
    ):
        read_items(shop, path, title_column="tilte")


def test_auto_and_check_take_the_names_of_columns(shop, tmp_path, capsys):
    assert recognise(shop, NAMED) is Table
    options = ["--user-column", "who", "--item-column", "what", "--time-column", "day"]
    main(["data", "prepare", "auto", "--path", str(shop), *options, "--out", str(tmp_path / "data")])
    assert pl.read_parquet(tmp_path / "data" / "interactions.parquet")["timestamp"].min() == 1688256000
    assert "read as table: log of shop.csv" in capsys.readouterr().out
    main(["data", "check", str(shop), *options, "--value-column", "grade"])
    assert "3 valid rows, 2 users, 2 items" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"is a prepared dataset, .* Leave out --user-column who"):
        check_path(tmp_path / "data", {"user_column": "who"})


def test_what_is_not_recognised_names_the_whole_command_that_is(shop, tmp_path, capsys):
    with pytest.raises(
        DataError, match=r"no column of user ids or item ids recognised among who, what"
    ) as caught:
        recognise(shop)
    (line,) = [line for line in str(caught.value).splitlines() if line.startswith("  recloom ")]
    words = shlex.split(line)
    assert words[words.index("--user-column") + 1] == "who"
    main([str(tmp_path / "data") if word == "DIR" else word for word in words[1:]])
    assert (tmp_path / "data" / "dataset.json").is_file()


def test_all_that_is_wrong_with_the_columns_is_said_at_once(shop):
    table = Table(user_column="customer", time_column="when", keep_columns=["colour"], separator=";")
    with pytest.raises(DataError) as caught:
        table.read(shop)
    message = str(caught.value)
    assert (
        "has no column 'customer' (--user-column), 'when' (--time-column), 'colour' (--keep-columns)"
        in message
    )
    assert "no column of user ids or item ids recognised" in message
    assert "--separator ';' --user-column who --item-column what" in message


def test_decimal_commas_count_where_they_can_only_be_decimal(shop, tmp_path):
    raw = Table(**NAMED, time_column="day", value_column="grade").read(shop)
    assert raw.interactions["value"].to_list() == [4.5, 3.0, 2.0]
    assert "values: decimal commas, such as '4,5'" in raw.notes
    assert to_numbers(pl.Series(["1,234", "5"]))[0].to_list() == [None, 5.0]
    assert to_numbers(pl.Series(["1,234", "0,5"]))[0].to_list() == pytest.approx([1.234, 0.5])
    assert to_numbers(pl.Series(["1.5", None, "x"]))[0].to_list() == [1.5, None, None]
    path = tmp_path / "quoted.csv"
    for cells, values in (
        (["4,5"], [4.5]),  # within quotes it is one cell, and no number but this
        (["3", "4,5", "2"], [3.0, 4.5, 2.0]),
        (["1,234", "5"], [5.0]),  # or 1.234
        (["4,5,3", "4,5", "2"], [2.0]),  # lists, or what follows the first comma belongs to it
        (["4, 5", "4,5", "2"], [2.0]),
    ):
        path.write_text("user,item,rating\n" + "".join(f'a,x{n},"{cell}"\n' for n, cell in enumerate(cells)))
        raw = Table().read(path)
        assert raw.interactions["value"].to_list() == values, cells
        assert raw.rejected.height == len(cells) - len(values)
        assert ("values: decimal commas, such as '4,5'" in raw.notes) == (4.5 in values)


@pytest.mark.parametrize(
    ("times", "first"),
    [
        (["02.07.2023", "13.07.2023"], "day"),
        (["2/7/2023 00:00", "13/7/2023 09:30"], "day"),
        (["07/02/2023", "07/13/2023"], "month"),
        (["7/2/2023 12:00:00 AM", "7/13/2023 9:30:00 PM"], "month"),
    ],
)
def test_the_column_says_whether_the_day_comes_first(times, first):
    seconds, taken_for = to_seconds(pl.Series(times))
    assert seconds[0] == 1688256000
    assert seconds[1] // 86_400 == 1689206400 // 86_400
    assert f"the {first} first" in taken_for


@pytest.mark.parametrize(
    ("times", "why"),
    [
        (["02.07.2023", "03.07.2023"], "no number above 12 says which"),
        (["02/07/2023 9:00:00 AM"], "no number above 12 says which"),
        (["13.07.2023", "07.13.2023"], "some have the day first and some the month"),
    ],
)
def test_the_order_of_day_and_month_is_never_guessed(times, why):
    with pytest.raises(
        DataError, match=f"'{times[0]}' may have the day or the month first, and {why}.*--time-format"
    ):
        to_seconds(pl.Series(times))
    assert to_seconds(pl.Series(["02.07.2023"]), "%m.%d.%Y")[0].to_list() == [1675728000]


def test_a_form_of_times_can_be_named(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\na,x,20230702\n")
    raw = Table(time_format="%Y%m%d").read(path)
    assert raw.interactions["timestamp"].to_list() == [1688256000]
    assert "times: text, read as %Y%m%d in UTC" in raw.notes
    path.write_text("user,item,time\na,x,02.07.2023\n")
    with pytest.raises(DataError, match=r"log.csv: dates such as '02.07.2023' may have"):
        Table().read(path)


def test_what_is_refused_says_what_is_accepted(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\n" + "a,x,2 July\n" * 9 + "a,x,2023-07-02\n")
    with pytest.raises(DataError, match=r"Times may be Unix seconds .*2023-12-31.*--time-format") as caught:
        arrange(Table().read(path))
    assert str(caught.value).endswith("Mend the file.")  # to allow nine tenths would throw the data away
    assert any("Times may be" in finding.text for finding in check_path(path))


def test_the_parts_of_a_published_split_are_not_joined_in_silence(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2\n1 3 4\n")
    (tmp_path / "test.txt").write_text("0 9\n")
    notes = Sequences().read(tmp_path).notes
    assert any(note.startswith("train.txt and test.txt are joined; the column `part`") for note in notes)


def behaviours(folder):
    folder.mkdir(parents=True)
    (folder / "behaviors.tsv").write_text("1\tU1\t11/15/2019 9:00:10 AM\tN5\tN1-1\n")


@pytest.mark.parametrize("names", [("rows100", "small_train"), ("MINDlarge_train", "MINDsmall_train")])
def test_several_sets_in_one_folder_are_named_and_not_chosen_from(tmp_path, names):
    for name in names:
        behaviours(tmp_path / name)
    with pytest.raises(
        DataError, match=rf"several sets of behaviours, in {', '.join(names)}\. Name one folder"
    ):
        recognise(tmp_path)().read(tmp_path)
    assert Mind().read(tmp_path / names[1]).interactions.height == 2


def test_a_folder_of_many_files_lists_those_that_can_be_read(tmp_path):
    (tmp_path / "map.txt").write_text("1 11\n2 22\n")
    (tmp_path / "sequences.txt").write_text("1 1\n1 2\n2 1\n")
    (tmp_path / "movies.dat").write_text("11::Heat (1995)::Drama\n")
    with pytest.raises(DataError, match="no reader recognises this folder as a whole") as caught:
        recognise(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines[1] == f"  recloom data prepare sequences --path {tmp_path / 'sequences.txt'} --out DIR"
    assert len(lines) == 4  # two commands, then where the other files go
    (tmp_path / "only").mkdir()
    with pytest.raises(DataError, match="Nor any file in it"):
        recognise(tmp_path / "only")
