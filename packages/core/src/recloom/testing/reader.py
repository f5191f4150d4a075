"""The contract of a reader of raw data as a test class.

from recloom.testing import ReaderTests

class TestDiary(ReaderTests):
    reader = Diary
    files = {"log.txt": "2024-05-01 ana saw Heat\\n2024-05-02 bo saw Alien\\n"}
    rows = [("ana", "Heat", 1714521600), ("bo", "Alien", 1714608000)]
    broken_line = "rubbish"
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest

from ..data.catalog import Catalog
from ..data.interactions import Interactions
from ..data.prepare.dataset import arrange, write_dataset
from ..data.readers import REJECTED, RawTables, Reader
from ..errors import RecloomError
from ..schemas import Source

FOREIGN = {
    "prose.txt": b"Once upon a time, there was a file.\nIt held no data at all, only sentences; two of them.\n",
    "nothing.txt": b"",
    "picture.png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\xff\xfe\x00" * 20,
}
"""Files that are no raw data of any kind."""


class ReaderTests:
    """Subclass it, name a reader and a small sample, and pytest checks the contract.

    Attributes:
        reader: the class under test.
        options: arguments of its constructor.
        files: the sample, name to content; several files are a folder, one is read by itself.
        rows: (user, item, seconds) of every interaction of the sample, in order of the file; seconds are None where
            the format has no times.
        broken_line: a line that is no valid row: behind the last line of the first file it must be rejected, with its
            number and a reason. None where a line cannot be wrong.
    """

    reader: ClassVar[type[Reader]]
    options: ClassVar[dict[str, Any]] = {}
    files: ClassVar[dict[str, str]]
    rows: ClassVar[list[tuple[str, str, int | None]]]
    broken_line: ClassVar[str | None] = None

    # -- fixtures -------------------------------------------------------------------------------------

    @pytest.fixture
    def sample(self, tmp_path: Path) -> Path:
        """The sample on disk: its file, or the folder of its files."""
        return self._written(tmp_path / "sample", self.files)

    # -- recognising ----------------------------------------------------------------------------------

    def test_it_recognises_its_own_files(self, sample: Path) -> None:
        """`sniff` says yes to the sample."""
        assert self.reader.sniff(sample), self._says(f"sniff() does not recognise {sample.name}")

    def test_it_recognises_no_foreign_file(self, tmp_path: Path) -> None:
        """`sniff` says no, without an error, to prose, to an empty file, to bytes and to an empty folder."""
        for name, content in FOREIGN.items():
            (tmp_path / name).write_bytes(content)
            assert not self.reader.sniff(tmp_path / name), self._says(f"sniff() takes {name} for its own")
        (tmp_path / "empty").mkdir()
        assert not self.reader.sniff(tmp_path / "empty"), self._says(
            "sniff() takes an empty folder for its own"
        )

    # -- reading --------------------------------------------------------------------------------------

    def test_it_reads_every_row(self, sample: Path) -> None:
        """Users, items and times of the sample, in order of the file."""
        found = self._read(sample)
        assert self._rows(found) == self.rows, self._says(
            f"it read {self._rows(found)[:5]} ...; expected {self.rows[:5]} ..."
        )
        assert not len(found.rejected), self._says(
            f"it rejected {len(found.rejected)} rows of a correct sample, the first: {found.rejected.row(0)}"
        )

    def test_its_tables_have_the_types_they_must(self, sample: Path) -> None:
        """Ids are text, times Int64 seconds, values Float32, lines from 1; what is rejected says where and why."""
        found = self._read(sample)
        wanted = {
            "user_id": pl.String(),
            "item_id": pl.String(),
            "timestamp": pl.Int64(),
            "value": pl.Float32(),
        }
        schema = found.interactions.schema
        wrong = {
            name: schema[name] for name, kind in wanted.items() if name in schema and schema[name] != kind
        }
        assert not wrong, self._says(f"columns of other types than {wanted}: {wrong}")
        absent = {"user_id", "item_id", "line"} - set(schema)
        assert not absent, self._says(f"interactions lack {sorted(absent)}")
        first = int(found.interactions["line"].min())  # type: ignore[arg-type]
        assert first >= 1, self._says(f"lines are counted from 1; found {first}")
        assert dict(found.rejected.schema) == REJECTED, self._says(
            f"`rejected` must have the columns {REJECTED}"
        )
        assert found.files, self._says("`files` must name what was read")
        assert all(file.is_file() for file in found.files), self._says("`files` must name what was read")

    def test_a_broken_line_is_rejected_and_no_other(self, tmp_path: Path) -> None:
        """It is listed with file, line, reason and text; the rows before it stay as they are."""
        if self.broken_line is None:
            pytest.skip("no line can be wrong")
        name, content = next(iter(self.files.items()))
        content = content if content.endswith("\n") else content + "\n"
        files = self.files | {name: content + self.broken_line + "\n"}
        found = self._read(self._written(tmp_path / "broken", files))
        assert self._rows(found) == self.rows, self._says("a broken line changes the rows that are read")
        assert len(found.rejected) == 1, self._says(
            f"a broken line gave {len(found.rejected)} rejected rows; expected 1: no row is lost in silence"
        )
        row = found.rejected.row(0, named=True)
        expected = content.count("\n") + 1
        assert row["line"] == expected, self._says(
            f"the broken line is {expected}; `rejected` says {row['line']}"
        )
        assert row["reason"], self._says("`rejected` gives no reason")
        assert self.broken_line in (row["text"] or ""), self._says(
            f"`rejected` shows {row['text']!r} as its text"
        )

    def test_reading_twice_gives_the_same(self, sample: Path) -> None:
        """A reader keeps nothing from one reading to the next."""
        reader = self.reader(**self.options)
        one, other = reader.read(sample), reader.read(sample)
        assert one.interactions.equals(other.interactions), self._says("a second reading gives other rows")

    def test_what_is_not_there_is_an_error_of_ours(self, tmp_path: Path) -> None:
        """A path that does not exist, and an empty file, raise a RecloomError that names the path."""
        (tmp_path / "nothing.txt").write_bytes(b"")
        for path in (tmp_path / "absent.txt", tmp_path / "nothing.txt"):
            said: str | None = None
            try:
                found = self._read(path)
            except RecloomError as error:
                said = str(error)
            except Exception as error:
                raise AssertionError(
                    self._says(f"{path.name} raises {type(error).__name__} ({error}); expected a DataError")
                ) from error
            if said is None:
                assert not len(found.interactions), self._says(f"it read rows of {path.name}")
            else:
                assert path.name in said, self._says(f"the error does not name {path.name}: {said}")

    # -- the whole way --------------------------------------------------------------------------------

    def test_what_it_reads_becomes_a_dataset(self, sample: Path, tmp_path: Path) -> None:
        """Prepared and loaded again, every user has the items of the sample."""
        folder = tmp_path / "prepared"
        write_dataset(
            arrange(self._read(sample)),
            folder,
            name="sample",
            source=Source(reader=self.reader.name),
            licence="none",
        )
        catalog = Catalog.load(folder)
        users, items = Interactions.load(folder, catalog, cache=False).pairs()
        names = catalog.users["user_id"].gather((users - 1).numpy())
        found = sorted(zip(names, catalog.item_ids(items.numpy()), strict=True))
        wanted = sorted({(user, item, seconds) for user, item, seconds in self.rows}, key=str)
        assert found == sorted((user, item) for user, item, _ in wanted), self._says(
            "the prepared dataset holds other pairs of user and item than the sample"
        )

    def test_its_options_have_types_defaults_and_descriptions(self) -> None:
        """`recloom data prepare NAME --help` is made of them."""
        described = inspect.getdoc(self.reader) or ""
        for name, option in inspect.signature(self.reader).parameters.items():
            assert option.annotation is not option.empty, self._says(f"its option {name} has no type")
            assert option.default is not option.empty, self._says(f"its option {name} has no default")
            assert f"{name}:" in described, self._says(f"its docstring does not describe the option {name}")
        for field in ("name", "licence", "url"):
            assert hasattr(self.reader, field), self._says(f"it has no {field}")

    # -- what the checks share ------------------------------------------------------------------------

    def _read(self, path: Path) -> RawTables:
        return self.reader(**self.options).read(path)

    def _rows(self, found: RawTables) -> list[tuple[str, str, int | None]]:
        table = found.interactions
        times = table["timestamp"] if "timestamp" in table.columns else pl.Series([None] * len(table))
        return list(zip(table["user_id"], table["item_id"], times, strict=True))

    def _written(self, folder: Path, files: dict[str, str]) -> Path:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
        return folder if len(files) > 1 else folder / next(iter(files))

    def _says(self, what: str) -> str:
        return f"{self.reader.__name__} breaks the contract of a reader: {what}."
