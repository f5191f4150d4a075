"""An artefact is made in a folder beside its place, and moved there when it is complete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recloom.errors import RecloomError
from recloom.io import put_file, scratch_beside

from ..artifact.manifest import data_path, index_path, items_path, manifest_path, read_manifest


@contextmanager
def drafted(out: Path) -> Iterator[Path]:
    """Where to make what is to lie at `out`: a path of that name in a folder that is gone afterwards.

    Raises RecloomError where no artefact can lie at `out`, and Terminated on SIGTERM.
    """
    check_place(out)
    from recloom.training import stopped_by_sigterm  # heavy, and where it is refused not needed

    with stopped_by_sigterm(), scratch_beside(out) as folder:
        yield folder / out.name


def check_place(out: Path) -> None:
    """Raise RecloomError where no artefact can lie at `out`."""
    if out.suffix != ".onnx":
        raise RecloomError(f"an artefact is a file that ends in .onnx, found {str(out)!r}")
    if not out.parent.is_dir():
        raise RecloomError(f"{out.parent} is not a folder; make it, or choose another place for {out.name}")
    for path in (out, data_path(out), items_path(out), index_path(out), manifest_path(out)):
        if path.is_dir():
            raise RecloomError(
                f"{path} is a folder, and a file of the artefact would lie there; choose another --out"
            )


def put(draft: Path, out: Path) -> None:
    """Move the artefact at `draft` to `out`, its manifest last, and remove what an earlier one leaves over."""
    before, files = _files_there(out), read_manifest(draft).files
    for name in reversed(files):
        put_file(draft.with_name(name), out.with_name(name))
    put_file(manifest_path(draft), manifest_path(out))
    for name in before - {*files}:  # titles or an index of an earlier artefact
        out.with_name(name).unlink(missing_ok=True)


def served(path: Path) -> bool:
    """Whether there is a complete artefact at `path` that was shown to equal its recommender."""
    try:
        manifest = read_manifest(path)
        manifest.check_files(path)
        manifest.check_parity(path)
    except RecloomError:
        return False
    return True


def _files_there(out: Path) -> set[str]:
    """What the artefact that is replaced consists of."""
    try:
        files = read_manifest(out).files
    except RecloomError:
        return set()
    return {path.name for path in (data_path(out), index_path(out), items_path(out)) if path.name in files}
