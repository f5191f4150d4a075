"""Values as people write them: words, thousands, row names, times of day, and what a headerless column may be."""

import polars as pl
import pytest
from recloom.data.prepare.source import prepare_source
from recloom.data.prepare.unrated import no_rating_note
from recloom.data.readers.evidence import roles_by_value
from recloom.data.readers.table import Table
from recloom.data.readers.values import to_numbers
from recloom.errors import DataError


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["True", "False", None, "True"], [1, 0, None, 1]),
        (["no", "YES", "no"], [0, 1, 0]),
        (["1,234.50", "12", "1,234", "-7,000,000.25"], [1234.5, 12, 1234, -7000000.25]),
        (["1.234,50", "12", "3,5", "2.000"], [1234.5, 12, 3.5, 2000]),
        (["1,234.50", "1,5"], [None, 1.5]),
        (["yes", "maybe"], [None, None]),
    ],
)
def test_numbers_that_say_how_they_are_written(texts, numbers):
    found, note = to_numbers(pl.Series(texts, dtype=pl.String))
    assert found.to_list() == pytest.approx(numbers, nan_ok=True)
    assert (note is not None) == any(number is not None for number in numbers)


@pytest.mark.parametrize("separator", [",", ";"])
def test_likes_of_a_table_are_values(tmp_path, separator):
    path = tmp_path / "likes.csv"
    rows = [
        ["user_id", "item_id", "liked"],
        *([f"u{n}", f"i{n}", "yes" if n % 3 else "no"] for n in range(9)),
    ]
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    raw = Table(value_column="liked").read(path)
    assert raw.interactions["value"].to_list() == [float(n % 3 > 0) for n in range(9)]
    assert "values: no as 0, yes as 1" in raw.notes


def test_names_of_rows_are_no_column(tmp_path):
    path = tmp_path / "ratings.txt"
    path.write_text(
        '"user_id" "item_id" "rating"\n' + "".join(f'"{n}" u{n} i{n} {n % 5}\n' for n in range(1, 9))
    )
    found = Table().read(path).interactions
    assert found.select("user_id", "item_id", "value").row(2) == ("u3", "i3", 3.0)


def test_a_row_too_long_is_no_name_of_a_row(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("user_id,item_id,rating\n1,7,4,5\n2,8,4,5\n9,8,4,5\n")
    assert set(Table().read(path).rejected["reason"]) == {"more than 3 fields"}


def test_times_of_day_have_no_day(tmp_path):
    path = tmp_path / "till.csv"
    path.write_text("user_id,item_id,date,time\na,1,2020-01-02,13:45\nb,2,2020-01-03,09:15\n")
    with pytest.raises(DataError, match=r"'13:45' are times of day.*--time-column"):
        Table().read(path)
    assert Table(time_column="date").read(path).interactions["timestamp"].to_list() == [
        1577923200,
        1578009600,
    ]


def test_a_column_without_ids_is_no_user(tmp_path):
    path = tmp_path / "views.csv"
    path.write_text("session;userId;itemId\n" + "".join(f"s{n};NA;{n}\n" for n in range(9)))
    with pytest.raises(DataError, match=r"all 9 rows have the user_id NA.*--user-column"):
        prepare_source(str(path), tmp_path / "out")


def test_99_beside_small_ratings_is_noted():
    jokes = pl.Series([-9.5, 0.25, 3.5, 99.0, 7.25, 99.0])
    assert "2 of 6 values are 99 beside -9.5 to 7.25" in no_rating_note(jokes)[0]
    assert not no_rating_note(pl.Series([1.0, 99.0, 250.0, 12.0]))


def test_neither_places_nor_constants_are_proposed_as_ratings():
    rows = [[f"{n}", f"p{n}", "45", "40.7", f"{n % 5}", "pv"] for n in range(30)]
    assert roles_by_value(rows) == ["user_id", "item_id", "column_3", "column_4", "value", "column_6"]
    assert "value" not in roles_by_value([row[:4] for row in rows])


def test_a_named_title_that_is_nowhere_is_refused(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,name\na,1,x\n")
    with pytest.raises(DataError, match=r"no column 'titel' of titles.*user_id, item_id, name"):
        Table(title_column="titel").read(path)
