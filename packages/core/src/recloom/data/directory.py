"""A directory that appears whole or not at all, whenever the process is killed."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError

LOCK = ".lock"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def new_directory(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary sibling of `out` to write into; on success it is synced to disk and becomes `out`.

    An error removes the temporary directory; what a killed run left behind, the next run removes.
    With `overwrite` the old directory stays in place until the new one is complete.

    Raises DataError when `out` exists and `overwrite` is false.
    """
    out = Path(os.path.abspath(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".recloom-{hashlib.sha256(out.name.encode()).hexdigest()[:12]}-"
    remove_leftovers(out.parent, prefix)
    refuse_existing(out, overwrite)
    partial = out.parent / f"{prefix}{os.getpid()}"
    partial.mkdir()
    try:
        with open(partial / LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield partial
            sync_tree(partial)
            _put_in_place(partial, out)
            (out / LOCK).unlink()
            _sync(out.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Raise DataError where `out` exists and may not be replaced."""
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists already. Choose another --out, or pass --overwrite to replace it.")


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove temporary directories whose process no longer holds their lock."""
    for partial in parent.glob(f"{prefix}*"):
        try:
            with open(partial / LOCK, "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(partial, ignore_errors=True)
        except BlockingIOError:
            continue  # another process is writing it now


def sync_tree(folder: Path) -> None:
    """Force every file below `folder`, and the folders themselves, to disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            _sync(Path(root) / name)
        _sync(Path(root))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_in_place(partial: Path, out: Path) -> None:
    if not out.exists():
        os.rename(partial, out)
    elif not _exchange(partial, out):
        raise DataError(
            f"{out.parent}: this file system cannot exchange two directories in one step, so {out.name} "
            f"cannot be replaced safely. Remove it first, or choose another --out."
        )


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step of the kernel (Linux `renameat2`); False where that is not offered."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)
