"""`auto` takes a table for a table and sequences for sequences, and asks where lines may be either."""

import random

import pytest
from recloom.data.prepare.source import recognise
from recloom.data.readers.evidence import is_time, shape_of
from recloom.data.readers.sequences import Sequences
from recloom.errors import DataError

DRAWN = random.Random(4)
EVENTS = [(user, 500 + (7 * user + 3 * place) % 23, place % 5 + 1, 1_300_000_000 + 977 * place)
          for user in range(40, 48) for place in range(6)]  # fmt: skip
RAGGED = [[user, *(900 + DRAWN.randrange(30) for _ in range(3 + user % 4))] for user in range(12)]
FIXED = [[user, *(900 + DRAWN.randrange(30) for _ in range(5))] for user in range(30)]


def write(tmp_path, rows, mark=" ", header=(), name="log.txt"):
    lines = [mark.join(map(str, row)) for row in ([header] if header else []) + [*rows]]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path / name


@pytest.mark.parametrize("mark", ["\t", " "])
@pytest.mark.parametrize("header", ["user_id item_id rating timestamp", "userID artistID weight when"])
def test_a_header_makes_a_table(tmp_path, header, mark):
    path = write(tmp_path, EVENTS, mark, header.split())
    assert recognise(path).name == "table"
    assert recognise(path)().read(path).interactions.height == len(EVENTS)


@pytest.mark.parametrize("header", ["uid mid", "person book score"])
def test_a_header_of_other_names_is_no_sequence(tmp_path, header):
    path = write(tmp_path, [row[: len(header.split())] for row in EVENTS], " ", header.split())
    with pytest.raises(DataError, match=r"recloom data prepare table --path .* --(user|item)-column"):
        recognise(path)


@pytest.mark.parametrize(
    ("places", "names"),
    [
        ((0, 1, 2), "user_id item_id value"),
        ((0, 1, 2, 3), "user_id item_id value timestamp"),
        ((0, 1, 3), "user_id item_id timestamp"),
        ((0, 3, 1, 2), "user_id timestamp item_id value"),
    ],
)
@pytest.mark.parametrize("mark", ["\t", " ", ","])
def test_a_table_without_a_header_is_asked_for_names(tmp_path, places, names, mark):
    path = write(tmp_path, [[row[place] for place in places] for row in EVENTS], mark)
    with pytest.raises(DataError, match=rf"(?s)Line 1 looks like data.*--columns {names} --out") as refused:
        recognise(path)
    assert "--user-column" not in str(refused.value)


def test_words_that_come_again_are_no_header(tmp_path):
    path = write(tmp_path, [("ann", "loaf", "x"), ("ann", "cake", "x"), ("bob", "loaf", "x")], ",")
    with pytest.raises(DataError, match=r"(?s)Line 1 looks like data.*--columns user_id item_id column_3"):
        recognise(path)


def test_equal_cells_of_a_first_line_of_data_are_no_doubled_header(tmp_path):
    path = write(tmp_path, [(1, 29, 1, 7), (1, 30, 4, 7), (2, 29, 4, 7)], ",")
    with pytest.raises(DataError, match="Line 1 looks like data"):
        recognise(path)


@pytest.mark.parametrize("rows", [RAGGED, FIXED, [row[:2] for row in EVENTS]])
def test_sequences_are_sequences(tmp_path, rows):
    path = write(tmp_path, rows)
    assert recognise(path) is Sequences
    assert Sequences().read(path).interactions.height == sum(len(row) - 1 for row in rows)


@pytest.mark.parametrize(
    ("rows", "asked"),
    [
        ([(user, 50 + user, 3000 + 17 * user) for user in range(9)], "--columns user_id item_id value"),
        ([(place // 3, 50 + place, 3000 + 17 * place) for place in range(9)], "--layout users"),
        ([row[1:] for row in RAGGED for _ in range(2)], "--layout items"),
        ([[len(row) - 1, *row[1:]] for row in RAGGED], "--layout items"),
        ([(1, 1_300_000_000), (1, 1_300_000_100)], "--layout pairs"),
        ([[1, 7, 1_300_000_000], [2, 8, 1_300_000_500, 9, 1_300_000_600]], "--columns"),
    ],
)
def test_two_readings_are_a_question(tmp_path, rows, asked):
    path = write(tmp_path, rows)
    with pytest.raises(DataError, match=r"(?s)two readings are possible.*sequences --path") as refused:
        recognise(path)
    assert asked in str(refused.value)


def test_lines_of_items_alone(tmp_path):
    raw = Sequences(layout="items").read(write(tmp_path, [(5, 6), (5, 7, 8), (9,)]))
    assert raw.interactions.select("user_id", "item_id").rows() == [
        ("1", "5"), ("1", "6"), ("2", "5"), ("2", "7"), ("2", "8"), ("3", "9"),
    ]  # fmt: skip


def test_a_named_reader_of_sequences_says_that_lines_look_like_a_table(tmp_path):
    raw = Sequences().read(write(tmp_path, [row[:3] for row in EVENTS]))
    assert any("column 3 of 3 holds few small numbers" in note for note in raw.notes)


def test_ids_of_ten_digits_everywhere_are_no_times():
    lines = [
        f"u{n} {1_500_000_000 + n % 4} {1_500_000_000 + n % 3} {1_500_000_001 + n % 2}" for n in range(9)
    ]
    assert shape_of(lines).kind == "sequences"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1300000000", True), ("1300000000.5", True), ("1300000000123", True), ("2011-03-13", True),
        ("13.03.2011 07:06", True), ("300000000", False), ("9999999999", False), ("1300", False), ("abc", False),
    ],
)  # fmt: skip
def test_what_a_time_looks_like(text, found):
    assert is_time(text) is found
