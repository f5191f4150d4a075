"""The options of a reader are its constructor's arguments, of core's readers and of a plugin's."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data import read_card
from recloom.data.prepare import prepare_source
from recloom.data.prepare.reader_options import readers_of, recorded
from recloom.data.prepare.source import recognise
from recloom.data.readers import RawTables
from recloom.data.readers.table import Table
from recloom.errors import DataError
from recloom.plugins import hookimpl, manager


class Diary:
    """Diaries of one user: `item mood` lines.

    Args:
        diarist: whose diary it is.
        least: moods below this are left out.
        order: whether the last line is the `newest` or the `oldest`.
        also: further diaries of the same user.
    """

    name: ClassVar[str] = "diary"
    licence: ClassVar[str] = "none"
    url: ClassVar[str | None] = None

    def __init__(
        self,
        diarist: str = "me",
        least: int = 0,
        order: Literal["newest", "oldest"] = "newest",
        also: list[Path] | None = None,
    ) -> None:
        self.diarist, self.least, self.order, self.also = diarist, least, order, also or []

    @classmethod
    def sniff(cls, path: Path) -> bool:
        return path.suffix == ".diary"

    def read(self, path: Path) -> RawTables:
        lines = [line.split() for one in (path, *self.also) for line in one.read_text().splitlines()]
        rows = pl.DataFrame(
            {
                "user_id": [self.diarist] * len(lines),
                "item_id": [item for item, _ in lines],
                "value": pl.Series([float(mood) for _, mood in lines], dtype=pl.Float32),
                "line": range(1, len(lines) + 1),
            }
        )
        rows = rows.filter(pl.col("value") >= self.least)
        return RawTables(rows if self.order == "newest" else rows.reverse(), [path, *self.also])


class Plugin:
    @staticmethod
    @hookimpl
    def register_readers():
        return [Diary]


@pytest.fixture
def plugin():
    manager().register(Plugin, "diaries")
    yield
    manager().unregister(Plugin, "diaries")


@pytest.fixture
def diary(tmp_path):
    path = tmp_path / "my.diary"
    path.write_text("sun 5\nrain 1\nwind 3\nsun 4\n")
    return path


def test_a_plugin_brings_its_own_options(plugin, diary, tmp_path, capsys):
    more = tmp_path / "more.diary"
    more.write_text("snow 5\n")
    words = ["--diarist", "Ann", "--least=3", "--order", "oldest", "--also", str(more)]
    main(["data", "prepare", "diary", "--path", str(diary), *words, "--out", str(tmp_path / "out")])
    rows = pl.read_parquet(tmp_path / "out" / "interactions.parquet")
    assert rows["item_id"].to_list() == ["snow", "sun", "wind", "sun"]
    assert rows["user_id"].unique().to_list() == ["Ann"]
    found = read_card(tmp_path / "out").source.options
    assert found == {"diarist": "Ann", "least": 3, "order": "oldest", "also": ["more.diary"]}
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["data", "prepare", "diary", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "moods below this are left out." in shown
    assert "{newest,oldest}" in shown
    assert "(default newest)" in shown
    assert "separator" not in shown  # an option of another reader


def test_what_is_recognised_takes_its_options_too(plugin, diary, tmp_path):
    main(["data", "check", str(diary), "--least", "2"])
    main(["data", "prepare", "auto", "--path", str(diary), "--least", "2", "--out", str(tmp_path / "out")])
    card = read_card(tmp_path / "out")
    assert (card.source.reader, card.source.options) == ("diary", {"least": 2})
    assert card.counts["interactions"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["diary", "--separator", ";"], "the reader 'diary' does not use --separator. It takes --also, --diarist"),
        (["diary", "--leest", "2"], "--leest is not an option. Did you mean --least?"),
        (["diary", "--order", "any"], "--order takes one of newest, oldest; found 'any'"),
        (["diary", "--least", "low"], "--least takes a value of type int; found 'low'"),
        (["movielens", "--layout", "pairs"], "the reader 'movielens' does not use --layout. It takes none of them"),
        (["auto", "--layout", "pairs"], "the reader 'diary' does not use --layout"),
    ],
)  # fmt: skip
def test_an_option_that_a_reader_lacks_is_refused(plugin, diary, tmp_path, capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(["data", "prepare", *words, "--path", str(diary), "--out", str(tmp_path / "out")])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_in_python_options_are_a_dict(plugin, diary, tmp_path):
    _, data, card = prepare_source("diary", tmp_path / "out", diary, options={"least": 4, "order": "newest"})
    assert data.interactions["item_id"].to_list() == ["sun", "sun"]
    assert card.source.options == {"least": 4}
    with pytest.raises(DataError, match=r"does not use --laest. Did you mean --least\? It takes --also"):
        prepare_source("diary", tmp_path / "other", diary, options={"laest": 4})


def test_which_readers_a_command_line_speaks_to(plugin):
    assert readers_of(["--path", "amazon", "diary"]) == [Diary]
    assert readers_of(["table", "--name", "movielens", "--columns", "a", "b"]) == [Table]
    assert {reader.name for reader in readers_of(["auto"])} >= {"diary", "table", "mind"}
    assert readers_of(["--overwrite", "table"]) == [Table]
    assert readers_of(["--help"]) == []
    assert readers_of(["log.csv"]) == readers_of(["auto"])


def test_what_is_recorded_is_what_was_given():
    options = {"items_path": [Path("/a/b/movies.csv")], "quote": "auto", "separator": None, "columns": []}
    assert recorded(Table, options) == {"items_path": ["movies.csv"]}


def test_a_file_is_a_table_where_only_tables_have_such_options(tmp_path):
    path = tmp_path / "ratings.csv"
    path.write_text("userId,movieId,rating,timestamp\n1,2,3,4\n")
    assert recognise(path).name == "movielens"
    assert recognise(path, {"user_column": "movieId"}) is Table
    assert recognise(path, {"items_path": [path]}).name == "movielens"


class Untyped(Diary):
    """A reader that no command line can speak to."""

    name: ClassVar[str] = "untyped"

    def __init__(self, mood) -> None:
        super().__init__()


class Hidden(Diary):
    """A reader whose types only a type checker sees."""

    name: ClassVar[str] = "hidden"

    def __init__(self, mood: Mood | None = None) -> None:  # noqa: F821
        super().__init__()


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (Untyped, "Untyped takes 'mood', which cannot be an option: it needs a type"),
        (Hidden, "the options of Hidden cannot be read: name 'Mood' is not defined"),
    ],
)
def test_a_constructor_that_cannot_be_options_is_named(reader, message, tmp_path, capsys):
    class Broken:
        @staticmethod
        @hookimpl
        def register_readers():
            return [reader]

    manager().register(Broken, "broken")
    try:
        with pytest.raises(SystemExit):
            main(["data", "prepare", reader.name, "--path", str(tmp_path), "--out", str(tmp_path / "out")])
    finally:
        manager().unregister(Broken, "broken")
    assert message in capsys.readouterr().err
