"""Whether a file can be written is asked before anything is trained for it."""

from pathlib import Path

import pytest
from recloom.errors import RecloomError
from recloom_graph.output_file import writable


def test_a_new_file_can_be_written_and_nothing_is_left(tmp_path):
    writable(tmp_path / "v.parquet", "--out", overwrite=False)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_when_asked(tmp_path):
    target = tmp_path / "v.parquet"
    target.write_text("kept")
    with pytest.raises(RecloomError, match=r"v\.parquet exists\. Choose another --out, or .* --overwrite"):
        writable(target, "--out", overwrite=False)
    writable(target, "--out", overwrite=True)
    assert target.read_text() == "kept"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v.csv", r"--out .*v\.csv: expected a name that ends in \.parquet"),
        ("no/v.parquet", r"there is no folder .*no; make it first"),
        ("folder.parquet", r"folder\.parquet is a folder; name a file"),
    ],
)
def test_what_cannot_be_a_file_is_said(tmp_path, name, message):
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(RecloomError, match=message):
        writable(tmp_path / name, "--out", overwrite=True)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, where not even root makes files")
def test_a_folder_that_takes_no_file_is_named():
    with pytest.raises(
        RecloomError, match=r"--out /proc/v\.parquet: the folder cannot be written to \(.+\); name"
    ):
        writable(Path("/proc/v.parquet"), "--out", overwrite=False)
