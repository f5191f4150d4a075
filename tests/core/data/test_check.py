"""`data check` finds what is wrong with raw files and with prepared datasets, and says so."""

import polars as pl
import pytest
from recloom.data.card import CARD, read_card
from recloom.data.prepare import commands
from recloom.data.prepare.check import check_path
from recloom.data.prepare.dataset import write_synthetic
from recloom.data.synth.generator import World, synthesise
from recloom.errors import DataError
from recloom.io import sha256


@pytest.fixture
def dataset(tmp_path):
    data, truth, parameters = synthesise(World(users=50, items=60))
    write_synthetic(data, tmp_path / "data", truth, parameters)
    return tmp_path / "data"


def change(dataset, name, table):
    """Replace a table and its digest, as a careless program would."""
    table.write_parquet(dataset / name)
    card = read_card(dataset)
    digests = card.sha256 | {name: sha256(dataset / name)}
    (dataset / CARD).write_text(card.model_copy(update={"sha256": digests}).model_dump_json())


def bad(path):
    return [finding.text for finding in check_path(path) if finding.state == "bad"]


def test_a_sound_dataset_has_no_problems(dataset, capsys):
    assert bad(dataset) == []
    commands.check(dataset)
    assert "rows are grouped by user, in time order" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("interactions.parquet", lambda t: t.reverse(), "not grouped as users.parquet"),
        (
            "interactions.parquet",
            lambda t: t.with_columns(timestamp=-pl.col("timestamp")),
            "rows are older than the row",
        ),
        (
            "interactions.parquet",
            lambda t: pl.concat([t.head(1), t.head(len(t) - 1)]),
            "repeat user, item and time",
        ),
        ("interactions.parquet", lambda t: t.head(9), "interactions, the file holds 9"),
        (
            "interactions.parquet",
            lambda t: t.cast({"timestamp": pl.Int32}),
            "column 'timestamp' should be Int64",
        ),
        ("items.parquet", lambda t: t.head(10), "values of item_id have no row, such as"),
        ("items.parquet", lambda t: pl.concat([t, t.head(1)]), "item_id is not unique"),
        (
            "users.parquet",
            lambda t: t.drop("num_interactions"),
            "column 'num_interactions' should be Int64, found none",
        ),
    ],
)
def test_damage_is_found(dataset, name, damage, message):
    change(dataset, name, damage(pl.read_parquet(dataset / name)))
    assert any(message in text for text in bad(dataset)), bad(dataset)


def test_changed_and_missing_files_are_found(dataset):
    (dataset / "items.parquet").write_bytes(b"other")
    (dataset / "users.parquet").unlink()
    assert bad(dataset) == [
        "items.parquet is not what was prepared (its sha256 differs); prepare again",
        "users.parquet is missing; prepare the dataset again",
    ]
    with pytest.raises(DataError, match=r"data: 2 problems found, the first: items.parquet is not"):
        commands.check(dataset)


def test_notes_on_texts_and_short_users(tmp_path, write_dataset):
    items = pl.DataFrame({"item_id": ["x", "y"], "title": ["A", " "]})
    frame = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "x", "y"]})
    texts = [finding.text for finding in check_path(write_dataset(tmp_path / "d", frame, items))]
    assert "1 of 2 items have no title" in texts
    assert "1 users have one interaction or none: `last` keeps them in train" in texts
    assert "the source has no times: the split `time` is not possible" in texts
    assert "1 rows are a user's return to an item" in texts


def test_raw_files_are_described_with_their_first_bad_lines(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "user_id;item_id;rating;time\na;x;1;1500000000000\na;x;1;1500000000000\nb;;2;1500000001000\n"
    )
    found = {finding.text: finding.state for finding in check_path(path)}
    assert found["recognised as table: log.csv"] == "good"
    assert found["separator: ';'"] == "note"
    assert found["times: milliseconds"] == "note"
    assert (
        found["columns: user_id as user_id, item_id as item_id, time as timestamp, rating as value"] == "note"
    )
    assert found["log.csv, line 4: item_id is empty (1 rows), such as 'b;;2;1500000001000'"] == "bad"
    assert found["times run from 2017-07-14 to 2017-07-14"] == "note"
    assert found["2 rows share user, item and time; `prepare` keeps the first of each"] == "note"
    assert found["values run from 1 to 1"] == "note"


def test_what_cannot_be_checked_is_an_error_that_helps(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        check_path(tmp_path / "nowhere")
    (tmp_path / "a.csv").write_text("who,what\n1,2\n")
    with pytest.raises(
        DataError,
        match=r"(?s)a.csv: no column of user ids or item ids recognised among who, what.*--user-column",
    ):
        check_path(tmp_path / "a.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(DataError, match=r"empty.csv is empty"):
        check_path(tmp_path / "empty.csv")
