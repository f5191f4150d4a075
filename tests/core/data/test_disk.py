"""Disks and files that do not stand still: full, not to be written, changed while they are read, links to nothing."""

import os
from pathlib import Path

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.prepare import source
from recloom.data.prepare.source import prepare_source
from recloom.data.readers.table import Table
from recloom.errors import DataError


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "raw" / "log-1.csv"
    path.parent.mkdir()
    path.write_text("user_id,item_id\n" + "".join(f"u{n % 4},i{n % 7}\n" for n in range(28)))
    return path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_is_said_in_words_and_leaves_nothing(log, tmp_path, monkeypatch, capsys):
    written = pl.DataFrame.write_parquet
    monkeypatch.delenv("RECLOOM_DEBUG", raising=False)
    monkeypatch.setattr(
        pl.DataFrame, "write_parquet", lambda table, path, **more: written(table, "/dev/full")
    )
    with pytest.raises(SystemExit) as end:
        main(["data", "prepare", str(log), "--out", str(tmp_path / "data")])
    assert end.value.code == 2
    assert "error: No space left on device, where a table was read or written." in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["raw"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a file system that takes no files")
def test_a_folder_that_cannot_be_written_is_said_before_the_work(log, monkeypatch):
    monkeypatch.setattr(source, "read_raw", None)
    with pytest.raises(
        DataError, match=r"--out /proc/a/data: its folder cannot be written to \(.+\); choose another"
    ):
        prepare_source(str(log), Path("/proc/a/data"))


@pytest.mark.parametrize("change", ["append", "replace"])
def test_a_file_that_changes_while_it_is_read_is_refused(log, tmp_path, monkeypatch, change):
    real = source.read_raw
    other = tmp_path / "other.csv"
    other.write_text("user_id,item_id\nx,y\n")
    os.utime(other, (1_500_000_000, 1_500_000_000))

    def changing(*given):
        raw = real(*given)
        if change == "append":
            log.write_text(log.read_text() + "u9,i9\n")
        else:
            other.replace(log)
        return raw

    monkeypatch.setattr(source, "read_raw", changing)
    with pytest.raises(DataError, match=r"log-1\.csv was changed while it was read"):
        prepare_source(str(log), tmp_path / "data")
    assert not (tmp_path / "data").exists()
    monkeypatch.setattr(source, "read_raw", real)
    prepare_source(str(log), tmp_path / "data")


def test_links_and_datasets_beside_the_raw_files(log, tmp_path):
    raw = log.parent
    (raw / "again").symlink_to(raw)
    for name in ("made", "made=1"):
        prepare_source(str(raw), raw / name)
    assert not [note for note in Table().read(raw).notes if "unused" in note]
    (raw / "titles.csv").symlink_to(raw / "nowhere.csv")
    assert "left unused: titles.csv (is a link to a file that is not there)" in Table().read(raw).notes
    (raw / "log-2.csv").symlink_to(raw / "nowhere.csv")
    with pytest.raises(DataError, match=r"log-2\.csv: by its name it is a piece .* here is a link to a file"):
        Table().read(raw)
