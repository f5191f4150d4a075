"""Whether a Parquet file can be written, asked before anything is computed for it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

from recloom.errors import RecloomError


def writable(target: Path, option: str, overwrite: bool) -> None:
    """Raise RecloomError, before anything is trained, for a file that cannot be written or must not be replaced."""
    if target.suffix != ".parquet":
        raise RecloomError(f"{option} {target}: expected a name that ends in .parquet")
    if not target.parent.is_dir():
        raise RecloomError(f"{option} {target}: there is no folder {target.parent}; make it first")
    if target.is_dir():
        raise RecloomError(f"{option} {target} is a folder; name a file")
    if target.exists() and not overwrite:
        raise RecloomError(f"{target} exists. Choose another {option}, or replace it with --overwrite.")
    try:
        with TemporaryFile(dir=target.parent):  # permissions alone do not tell
            pass
    except OSError as error:
        raise RecloomError(
            f"{option} {target}: the folder cannot be written to ({error.strerror}); name a file elsewhere"
        ) from error
