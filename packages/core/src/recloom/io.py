"""A directory that appears whole or not at all, whenever the process is killed."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .errors import DataError

if TYPE_CHECKING:
    pass


LOCK = ".lock"
REPLACEABLE = ("dataset.json", "split.json")
"""A directory that holds one of these files was written here and may be replaced; so may an empty one."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def new_directory(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary sibling of `out` to write into; on success it is synced to disk and becomes `out`.

    An error removes the temporary directory; what a killed run left behind, the next run removes.
    With `overwrite` the old directory stays in place until the new one is complete.

    Raises DataError when `out` exists and `overwrite` is false, or is not a dataset, a split or empty.
    """
    out = Path(os.path.abspath(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    refuse_existing(out, overwrite)
    with scratch_beside(out) as partial:
        yield partial
        sync_tree(partial)
        refuse_existing(out, overwrite)  # it may have appeared meanwhile
        put_in_place(partial, out)
        (out / LOCK).unlink(missing_ok=True)  # the next one may have replaced it already
        _sync(out.parent)


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Give a locked temporary sibling of `out`, removed at the end.

    What a killed run left behind, the next run for the same `out` removes.
    """
    prefix = f".recloom-{hashlib.sha256(out.name.encode()).hexdigest()[:12]}-"
    remove_leftovers(out.parent, prefix)
    folder = out.parent / f"{prefix}{secrets.token_hex(4)}"
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> TextIO:
    """Make a folder that nobody takes for a leftover as long as the file that is returned is open."""
    while True:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process removed it before it was locked
            lock = open(folder / LOCK, "w")  # noqa: SIM115 - the caller closes it
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(folder / LOCK)):
                return lock


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Raise DataError where `out` exists and may not be replaced: only a dataset, a split or nothing may."""
    found = _foreign(out)
    if found:
        raise DataError(
            f"{out} is {found}; only a prepared dataset, a split or an empty folder is ever replaced. "
            f"Choose another --out, or move it away first."
        )
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists already. Choose another --out, or pass --overwrite to replace it.")


def _foreign(out: Path) -> str | None:
    """What lies at `out`, in words, where it was not written here; None where it was, or nothing is there."""
    if out.is_symlink():
        return "a symbolic link"
    if not out.exists():
        return None
    if not out.is_dir():
        return "a file"
    names = sorted(os.listdir(out))
    if not names or any((out / name).is_file() for name in REPLACEABLE):
        return None
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"a folder with {names[0]!r}{more} and without {' or '.join(REPLACEABLE)}"


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove temporary directories whose process no longer holds their lock."""
    for partial in parent.glob(f"{prefix}*"):
        try:
            with open(partial / LOCK, "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(partial, ignore_errors=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process is writing it now, or has just ended
        except (NotADirectoryError, PermissionError):
            continue  # not ours


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


def put_in_place(partial: Path, out: Path) -> None:
    """Give `partial` the name `out` in one step; what had that name is then called `partial`."""
    if not out.exists():
        try:
            os.rename(partial, out)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            raise DataError(
                f"{out} appeared meanwhile; another command writes there. Run this one again."
            ) from error
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


RECORDED = ("recloom", "torch", "lightning", "numpy", "polars")


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def versions() -> dict[str, str]:
    """Installed versions of what a run's numbers depend on."""
    found = {}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
