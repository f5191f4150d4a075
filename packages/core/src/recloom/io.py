"""Files and folders that are written atomically, locks, digests and versions: one way each for all packages.

What is written gets a temporary name of its own beside its target (`.NAME.HOST-PID-RANDOM.tmp` for a file,
`.recloom-TARGET-RANDOM` for a folder, with its lock in `.recloom-TARGET-RANDOM.lock`), is forced to disk and then takes
the target's name. A process that is killed at any moment leaves the old or the new, and temporary names that the next
writer of the same target removes: a file's once the process of its name has ended, a folder's once its lock is free.
Two writers never share a name and never take each other's.

Replacing a folder is one step of the kernel on Linux. Elsewhere, and on file systems that do not offer it, it is two
renames: the old folder is set aside, then the new one takes its place. A kill between the two leaves the old folder,
complete, beside its place, and the next writer of the same target puts it back first.

Nothing here needs an operating system of one kind; locks are those of the filelock library.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from .errors import DataError, RecloomError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
"""The file in a folder by which one process holds it."""
REPLACEABLE = ("dataset.json", "split.json")
"""A folder that holds one of these files was written here and may be replaced; so may an empty one."""
RECORDED = ("recloom", "torch", "lightning", "numpy", "polars")
"""What the numbers of a run depend on."""
WHOLE = 1 << 26
"""`fingerprint_files` reads files up to so many bytes in full; of larger ones, PARTS parts, the ends included."""
PARTS = 64
PART = 1 << 16
_TEMPORARY = re.compile(
    r"\.(?P<target>.+)\.(?P<host>[0-9a-f]{8})-(?P<process>[0-9]+)-[0-9a-f]{8}\.tmp", re.DOTALL
)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def whole_file(target: str | Path) -> Iterator[Path]:
    """Give a temporary sibling of `target` to write; on success it is synced to disk and becomes `target`.

    An error removes it, and leaves what was there before. What killed processes of this machine left for the same
    target is removed first.
    """
    target = Path(target)
    _remove_leftover_files(target)
    partial = target.with_name(f".{target.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield partial
        put_file(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def put_file(made: Path, target: Path) -> None:
    """Sync a complete file to disk and give it the name `target`, on the same file system, in one step."""
    _sync(made)
    os.replace(made, target)


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically, and the folders above it where they are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `whole_file` gives while it is written."""
    return _TEMPORARY.fullmatch(name) is not None


def _remove_leftover_files(target: Path) -> None:
    """Remove temporary files of `target` whose process, on this machine, is no more."""
    try:
        names = os.listdir(target.parent)
    except OSError:  # the writer says what is wrong with the folder
        return
    for name in names:
        found = _TEMPORARY.fullmatch(name) if target.name in name else None
        ours = found and (found["target"], found["host"]) == (target.name, _host())
        if found and ours and not _runs(int(found["process"])):
            with suppress(OSError):
                (target.parent / name).unlink()


def _host() -> str:
    """8 hex digits of the machine, and of the container, within which a process id means one process."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _runs(process: int) -> bool:
    """Whether a process lives; taken for granted on Windows, where asking would end it."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except (PermissionError, OverflowError):
        return True
    except ProcessLookupError:
        return False
    return True


def _sync(path: Path) -> None:
    """Force a file or a folder to disk; Windows syncs no folder, and a file only where it may be written."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_folder(
    out: str | Path, *, overwrite: bool = False, refuse: Callable[[Path, bool], None] | None = None
) -> Iterator[Path]:
    """Give a temporary sibling of `out` to write into; on success it is synced to disk and becomes `out`.

    An error removes the temporary folder; what a killed process left behind, the next one for the same `out` removes.
    With `overwrite` the old folder stays in place until the new one is complete.

    Args:
        refuse: called with `out` and `overwrite` before anything is written and again at the end; raises where `out`
            must not be replaced. By default `refuse_existing`.

    Raises DataError where another process put a folder there meanwhile, and what `refuse` raises.
    """
    out = Path(os.path.abspath(out))
    refuse = refuse or refuse_existing
    out.parent.mkdir(parents=True, exist_ok=True)
    _put_back(out)
    refuse(out, overwrite)
    with scratch_beside(out) as partial:
        yield partial
        sync_tree(partial)
        refuse(out, overwrite)  # it may have appeared meanwhile
        put_in_place(partial, out)
        _sync(out.parent)


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


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Give a temporary sibling of `out` that no other process takes for a leftover, removed at the end.

    What a killed process left behind, the next one for the same `out` removes.
    """
    prefix = _prefix(out)
    remove_leftovers(out.parent, prefix)
    folder, lock = _new_scratch(out.parent, prefix)
    try:
        yield folder
    finally:
        _remove_scratch(folder, lock)


def remove_leftovers(parent: Path, prefix: str) -> None:
    """Remove the temporary folders below `parent` whose process no longer holds their lock.

    A name is used once: who does not get the lock of a new name takes another name. So a lock that is free here
    belongs to a folder whose writer has ended, and never to one that is about to begin.
    """
    for path in parent.glob(f"{prefix}*{LOCK}"):
        try:
            lock = try_lock(path)
        except OSError:  # not ours
            continue
        if lock is not None:
            _remove_scratch(path.with_suffix(""), lock)


def sync_tree(folder: Path) -> None:
    """Force every file below `folder`, and the folders themselves, to disk."""
    for root, _, names in os.walk(folder):
        for path in (*(Path(root) / name for name in names), Path(root)):
            _sync(path)


def put_in_place(partial: Path, out: Path) -> None:
    """Give the folder `partial` the name `out`; what had that name is removed, or is then called `partial`."""
    if out.exists():
        if not _exchange(partial, out):
            _replace_in_two_steps(partial, out)
        return
    try:
        os.rename(partial, out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise _appeared(out) from error


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


def _prefix(out: Path) -> str:
    """What the temporary names for one target begin with."""
    return f".recloom-{hashlib.sha256(out.name.encode()).hexdigest()[:12]}-"


def _new_scratch(parent: Path, prefix: str) -> tuple[Path, BaseFileLock]:
    """A new folder and its lock, which is taken before the folder is there and lasts until it is gone."""
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(4)}"
        lock = try_lock(folder.with_suffix(LOCK))
        if lock is not None:  # else one that looks for leftovers was quicker, and removes that name
            folder.mkdir()
            return folder, lock


def _remove_scratch(folder: Path, lock: BaseFileLock) -> None:
    """Remove a folder, then its lock file; that stays where the folder could not be removed."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        with suppress(OSError):  # Windows removes no open file, but as it is released
            os.unlink(lock.lock_file)
    lock.release()


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step of the kernel (Linux `renameat2`); False where that is not offered."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _set_aside(out: Path) -> Path:
    """Where the old folder lies between the two renames that replace it."""
    return out.with_name(f"{_prefix(out)}old")


def _replace_in_two_steps(partial: Path, out: Path) -> None:
    """Set the old folder aside, then put the new one in its place."""
    old = _set_aside(out)
    shutil.rmtree(old, ignore_errors=True)  # `out` is there, so that is a leftover
    os.rename(out, old)
    try:
        os.rename(partial, out)
    except OSError as error:
        _put_back(out)
        raise _appeared(out) from error
    shutil.rmtree(old, ignore_errors=True)


def _put_back(out: Path) -> None:
    """After a kill or an error between the two renames: the old folder takes its place again."""
    old = _set_aside(out)
    if old.is_dir() and not out.exists():
        with suppress(OSError):  # another one has put it back
            os.rename(old, out)


def _appeared(out: Path) -> DataError:
    return DataError(f"{out} appeared meanwhile; another command writes there. Run this one again.")


def try_lock(path: Path) -> BaseFileLock | None:
    """Take the lock of a file, made where it is missing; None where somebody else holds it.

    It is held until `release()`, or until the process ends in whatever way. Raises OSError where the file cannot be
    made.
    """
    from filelock import FileLock, Timeout  # not at the top: most commands lock nothing

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def unwritable(folder: Path) -> str | None:
    """Why no file can be made in a folder, or in the one above where it is missing; None where one can."""
    try:
        with TemporaryFile(dir=next(path for path in (folder, *folder.parents) if path.exists())):
            return None
    except OSError as error:
        return error.strerror or str(error)


def writable(
    target: Path, option: str = "--out", *, endings: Sequence[str] = (), overwrite: bool = True
) -> None:
    """Raise RecloomError, before any work, for a file that cannot be written or must not be replaced.

    Args:
        target: the file.
        option: that named it.
        endings: of its name, one of them; none = any.
        overwrite: whether an existing file may be replaced.
    """
    if not target.parent.is_dir():
        raise RecloomError(
            f"{option} {target}: {target.parent} is not a folder; make it, or choose another {option}"
        )
    if target.is_dir():
        raise RecloomError(f"{option} {target} is a folder; choose another {option}")
    if endings and target.suffix not in endings:
        raise RecloomError(f"{option} {target}: expected a name that ends in {' or '.join(endings)}")
    if target.exists() and not overwrite:
        raise RecloomError(f"{target} exists. Choose another {option}, or replace it with --overwrite.")
    reason = unwritable(target.parent)
    if reason is not None:
        raise RecloomError(
            f"{option} {target}: the folder cannot be written to ({reason}); choose another {option}"
        )


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_files(files: Iterable[Path]) -> str:
    """16 hex digits of sha256 over names, sizes and contents of files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= WHOLE:
                digest.update(hashlib.file_digest(file, "sha256").digest())
                continue
            for part in range(PARTS):
                file.seek((size - PART) * part // (PARTS - 1))
                digest.update(file.read(PART))
    return digest.hexdigest()[:16]


def version(name: str) -> str | None:
    """The installed version of a distribution; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def versions(names: Iterable[str] = RECORDED) -> dict[str, str]:
    """Installed versions by name, `not installed` where there is none."""
    return {name: version(name) or "not installed" for name in names}
