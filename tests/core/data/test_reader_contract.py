"""Core's readers keep the contract of a reader, and the contract finds what is wrong with one."""

from __future__ import annotations

import polars as pl
import pytest
from recloom.data.readers import RawTables
from recloom.data.readers.amazon import Amazon
from recloom.data.readers.movielens import MovieLens
from recloom.data.readers.sequences import Sequences
from recloom.data.readers.table import Table
from recloom.testing import ReaderTests


class TestTable(ReaderTests):
    reader = Table
    files = {"log.csv": "user_id,item_id,timestamp,rating\na,x,5,1.5\nb,y,6,4\na,y,7,2\n"}  # noqa: RUF012
    rows = [("a", "x", 5), ("b", "y", 6), ("a", "y", 7)]  # noqa: RUF012
    broken_line = "a,x,yesterday morning,3"


class TestMovieLens(ReaderTests):
    reader = MovieLens
    files = {  # noqa: RUF012
        "ratings.csv": "userId,movieId,rating,timestamp\n1,10,4.0,964982703\n1,20,3.5,964982931\n2,10,5.0,964982400\n",
        "movies.csv": "movieId,title,genres\n10,Heat (1995),Action|Crime\n20,Alien (1979),Horror\n",
    }
    rows = [("1", "10", 964982703), ("1", "20", 964982931), ("2", "10", 964982400)]  # noqa: RUF012
    broken_line = "2,20,five,964982400"


class TestSequences(ReaderTests):
    reader = Sequences
    files = {"log.txt": "1 10\n1 20\n2 10\n2 30\n"}  # noqa: RUF012
    rows = [("1", "10", None), ("1", "20", None), ("2", "10", None), ("2", "30", None)]  # noqa: RUF012
    broken_line = "3"


class TestAmazon(ReaderTests):
    reader = Amazon
    files = {  # noqa: RUF012
        "reviews_Toys_5.json": '{"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1400000000}\n'
        '{"reviewerID": "A2", "asin": "B1", "overall": 2.0, "unixReviewTime": 1400000600}\n'
    }
    rows = [("A1", "B1", 1400000000), ("A2", "B1", 1400000600)]  # noqa: RUF012
    broken_line = '{"reviewerID": "A3", "asin": '


class Losing:
    """Loses what it does not understand."""

    name, licence, url = "losing", "none", None

    @classmethod
    def sniff(cls, path):
        return True

    def read(self, path):
        words = [line.split() for line in path.read_text().splitlines()]
        rows = [
            (user, item, number) for number, (user, item) in enumerate((w for w in words if len(w) == 2), 1)
        ]
        return RawTables(
            pl.DataFrame(
                rows, schema={"user_id": pl.String, "item_id": pl.String, "line": pl.Int64}, orient="row"
            ),
            [path],
        )


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("test_a_broken_line_is_rejected_and_no_other", "no row is lost in silence"),
        ("test_it_recognises_no_foreign_file", "takes prose.txt for its own"),
        ("test_what_is_not_there_is_an_error_of_ours", "raises FileNotFoundError"),
    ],
)
def test_a_faulty_reader_fails_its_check(check, message, tmp_path):
    parts = {
        "reader": Losing,
        "files": {"a.txt": "u i\n"},
        "rows": [("u", "i", None)],
        "broken_line": "rubbish",
    }
    tests = type("T", (ReaderTests,), parts)()
    with pytest.raises(AssertionError, match=message):
        getattr(tests, check)(tmp_path)
