"""Times written as numbers of several kinds, those that are hardly times, and splits at a date."""

from datetime import UTC, datetime

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.prepare.check import check_path
from recloom.data.prepare.dataset import arrange
from recloom.data.readers.numeric_times import numbers_to_seconds
from recloom.data.readers.table import Table
from recloom.data.split import assign
from recloom.errors import DataError
from recloom.schemas import SplitSpec


def seconds(*text):
    return [int(datetime.fromisoformat(one).replace(tzinfo=UTC).timestamp()) for one in text]


def log(tmp_path, times, values=None):
    users, items = ["u", "v"] * (len(times) // 2), [f"i{n}" for n in range(len(times))]
    frame = pl.DataFrame({"user": users, "item": items, "date": times})
    frame = frame if values is None else frame.with_columns(pl.Series("rating", values))
    frame.write_csv(tmp_path / "log.csv")
    return tmp_path / "log.csv"


@pytest.mark.parametrize(
    ("numbers", "meant", "found"),
    [
        ([20110313, 20200229], ["2011-03-13", "2020-02-29"], "dates such as 20110313"),
        ([201103131504, 201103140000], ["2011-03-13 15:04", "2011-03-14"], "%Y%m%d%H%M"),
        ([20110313150405, 20110314000000], ["2011-03-13 15:04:05", "2011-03-14"], "%Y%m%d%H%M%S"),
        ([1_300_000_000, 1_300_000_001_000, 1_300_000_002_999_999],
         ["2011-03-13 07:06:40", "2011-03-13 07:06:41", "2011-03-13 07:06:42"],
         "milliseconds, and 1 of 3 in microseconds, and 1 of 3 in seconds"),
        ([5, 6, 7], ["1970-01-01 00:00:05", "1970-01-01 00:00:06", "1970-01-01 00:00:07"], "seconds"),
    ],
)  # fmt: skip
def test_numbers_are_read_by_what_they_look_like(numbers, meant, found):
    for series in (pl.Series(numbers), pl.Series(numbers).cast(pl.Float64)):
        times, taken_for = numbers_to_seconds(series)
        assert times.to_list() == seconds(*meant)
        assert found in taken_for


def test_a_digit_date_that_is_none_is_rejected(tmp_path):
    raw = Table().read(log(tmp_path, [*[20110313] * 19, 20111399]))
    assert raw.rejected.select("line", "reason").rows() == [(21, "timestamp is empty or not a time")]
    assert raw.interactions["timestamp"].unique().to_list() == seconds("2011-03-13")


def test_days_of_a_spreadsheet_are_a_question_and_then_read(tmp_path):
    path = log(tmp_path, [40_615.5, 40_616.25])
    with pytest.raises(
        DataError, match=r"2011-03-13 to 2011-03-14.*--time-format excel or --time-format seconds"
    ):
        Table().read(path)
    read = Table(time_format="excel").read(path).interactions["timestamp"].to_list()
    assert read == seconds("2011-03-13 12:00", "2011-03-14 06:00")
    assert Table(time_format="seconds").read(path).interactions["timestamp"].to_list() == [40_615, 40_616]
    days = Table(time_format="days").read(log(tmp_path, [15_046, 15_047])).interactions["timestamp"].to_list()
    assert days == seconds("2011-03-13", "2011-03-14")


def test_prepare_prints_the_range_and_warns_of_times_that_are_hardly_any(tmp_path, capsys):
    path = log(tmp_path, [1_300_000_000, 5, 1_300_000_001, 4_102_444_800])
    main(["data", "prepare", "auto", "--path", str(path), "--out", str(tmp_path / "out")])
    shown = " ".join(capsys.readouterr().out.split())
    wanted = [
        "times run from 1970-01-01 to 2100-01-01",
        "warning: 1 of 4 times lie before 1995, the first on 1970-01-01",
        "warning: 1 of 4 times lie after today, the last on 2100-01-01",
    ]
    assert all(text in shown for text in wanted)
    found = " ".join(one.text for one in check_path(path))
    assert all(text in found for text in wanted)


def test_values_that_mean_no_rating_are_noted_and_left_out_by_name(tmp_path, capsys):
    path = log(tmp_path, range(1_300_000_000, 1_300_000_006), [0, 7, 8, -1, 10, 0])
    words = ["data", "prepare", "auto", "--path", str(path)]
    main([*words, "--out", str(tmp_path / "all")])
    assert "warning: 3 of 6 values are -1 and 0 beside 7 to 10." in " ".join(capsys.readouterr().out.split())
    main([*words, "--out", str(tmp_path / "some"), "--missing-value", "0", "-1"])
    assert "missing value 3" in " ".join(capsys.readouterr().out.split())
    kept = pl.read_parquet(tmp_path / "some" / "interactions.parquet")["value"].to_list()
    assert sorted(kept) == pytest.approx([7, 8, 10])
    with pytest.raises(
        DataError, match=r"--missing-value 3 is the value of no row; values run from -1 to 10"
    ):
        arrange(Table().read(path), missing_value=[3])


def test_users_and_items_that_have_no_row_left_without_their_ratings_are_counted(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item,rating\nu,a,3\nu,b,0\nv,a,0\nv,c,0\nw,a,4\n")
    raw = Table().read(path)
    arrange(raw, missing_value=[0])
    assert "--missing-value 0: 1 user and 2 items have no row left" in raw.notes
    raw = Table().read(path)
    arrange(raw, missing_value=[4])
    assert "--missing-value 4: 1 user has no row left" in raw.notes


@pytest.mark.parametrize("values", [[0, 1, 0, 1, 1, 0], [1, 2, 3, 4, 5, 5], [0, 20, 30, 40, 50, 60]])
def test_other_values_are_not_noted(tmp_path, values):
    raw = Table().read(log(tmp_path, range(1_300_000_000, 1_300_000_006), values))
    arrange(raw)
    assert not any("no rating" in note for note in raw.notes)


DAYS = pl.DataFrame({
    "user_id": list("abcabc"), "item_id": list("vwxyzv"),
    "timestamp": seconds(*(f"2011-03-{day}" for day in (13, 14, 15, 16, 17, 18))),
})  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ({"valid_from": "2011-03-15", "test_from": "2011-03-17"}, "TTVVSS"),
        ({"test_from": "2011-03-16T12:00", "valid": 0.34}, "TTVVSS"),
        ({"valid_from": "2011-03-14", "test": 0.17}, "TVVVVS"),
        ({"valid_from": "2011-03-15T02:00+02:00", "test_from": "2011-03-18"}, "TTVVVS"),
    ],
)
def test_a_split_at_a_date(spec, parts):
    names = {"T": "train", "V": "valid", "S": "test"}
    found = assign(DAYS, SplitSpec(strategy="time", **spec)).cast(pl.String).to_list()
    assert found == [names[part] for part in parts]


def test_dates_of_a_split_are_checked(tmp_path, write_dataset, capsys):
    with pytest.raises(ValueError, match="are of the strategy time, and this is last"):
        SplitSpec(valid_from="2011-03-15")
    with pytest.raises(ValueError, match=r"expected a day or a moment such as 2016-01-01, found 'spring'"):
        SplitSpec(strategy="time", test_from="spring")
    with pytest.raises(ValueError, match=r"valid_from .2011-03-17. must be before test_from"):
        SplitSpec(strategy="time", valid_from="2011-03-17", test_from="2011-03-15")
    with pytest.raises(DataError, match=r"leaves no row in test: times run from 2011-03-13 to 2011-03-18"):
        assign(DAYS, SplitSpec(strategy="time", test_from="2012-01-01"))
    data = write_dataset(tmp_path / "data", DAYS)
    with pytest.raises(SystemExit):
        main(["data", "split", str(data), "--valid-from", "2011-03-15"])
    assert "data split: valid_from and test_from are of the strategy time" in capsys.readouterr().err
    main(["data", "split", str(data), "--strategy", "time", "--valid-from", "2011-03-15", "--test-from",
                  "2011-03-17", "--out", str(tmp_path / "split")])  # fmt: skip
    assert pl.read_parquet(tmp_path / "split" / "split.parquet")["part"].value_counts().height == 3


def test_specs_without_dates_keep_their_digest():
    assert SplitSpec().digest() == "473701906fc81d91"
    assert SplitSpec(strategy="time").digest() != SplitSpec(strategy="time", test_from="2011-03-15").digest()
