"""Staging of an artefact: it is made in a temporary folder beside its target and moved there when complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recloom.errors import RecloomError
from recloom.io import put_file, scratch_beside

from ..artifact.manifest import data_path, index_path, items_path, manifest_path, read_manifest, users_path


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """The path at which to make the artefact of `out`: the same name in a temporary folder beside it.

    Raises RecloomError where no artefact can lie at `out`, and Terminated on SIGTERM.
    """
    check_target(out)
    from recloom.training import stopped_by_sigterm  # heavy, and where it is refused not needed

    with stopped_by_sigterm(), scratch_beside(out) as folder:
        yield folder / out.name


def check_target(out: Path) -> None:
    """Raise RecloomError where no artefact can lie at `out`."""
    if out.suffix != ".onnx":
        raise RecloomError(f"an artefact is a file that ends in .onnx, found {str(out)!r}")
    if not out.parent.is_dir():
        raise RecloomError(f"{out.parent} is not a folder; make it, or choose another place for {out.name}")
    for path in (out, *_companions(out), manifest_path(out)):
        if path.is_dir():
            raise RecloomError(
                f"{path} is a folder, and a file of the artefact would lie there; choose another --out"
            )


def publish(staging: Path, out: Path) -> None:
    """Move the artefact at `staging` to `out`, its manifest last, and remove other files of an earlier artefact."""
    before, files = _present_files(out), read_manifest(staging).files
    for name in reversed(files):
        put_file(staging.with_name(name), out.with_name(name))
    put_file(manifest_path(staging), manifest_path(out))
    for name in before - {*files}:  # titles or an index of an earlier artefact
        out.with_name(name).unlink(missing_ok=True)


def is_verified(path: Path) -> bool:
    """Whether there is a complete and verified artefact at `path`."""
    try:
        manifest = read_manifest(path)
        manifest.check_files(path)
        manifest.check_parity(path)
    except RecloomError:
        return False
    return True


def _present_files(out: Path) -> set[str]:
    """Names of the files that the artefact at `out` has beside itself."""
    try:
        files = read_manifest(out).files
    except RecloomError:
        return set()
    return {path.name for path in _companions(out) if path.name in files}


def _companions(out: Path) -> list[Path]:
    """Files that an artefact at `out` may have beside itself and its manifest."""
    return [data_path(out), index_path(out), items_path(out), users_path(out)]
