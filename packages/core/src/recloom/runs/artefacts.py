"""Exported files of runs. What they are made of is known to the package that registers them, never to core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import RecloomError
from ..plugins import collect

if TYPE_CHECKING:
    from torch import Tensor

    from ..recommender import ExportSpec

INSTALL = "pip install 'recloom-onnx[cpu]'"
"""The command that installs the package which reads and writes `.onnx`."""


class Artefacts(Protocol):
    """Writes and reads exported files of one kind; `register_artefacts` returns it."""

    name: str
    """The ending of its files without the dot, such as `onnx`."""
    runtime: str
    """What runs them, for messages, such as `ONNX Runtime`."""

    def export(self, run: Path, out: Path) -> None:
        """Write a run as one file, compare the file with the run, and print what was found.

        Args:
            run: folder of the run, or a checkpoint.
            out: the file, which appears complete or not at all.

        Raises RecloomError where the run has no such form, or the file does not rank as the run does.
        """

    def recommend(
        self, artefact: Path, requests: Path, out: Path, *, k: int = 10, exclude: Sequence[str] = ()
    ) -> None:
        """Write the lists for a file of requests, and print what was done.

        Args:
            artefact: an exported file.
            requests: Parquet file with a row for each request, or a prepared dataset.
            out: Parquet file.
            k: length of the lists.
            exclude: raw item ids that no list holds.

        Raises RecloomError where the artefact was not compared with its run, or the requests cannot be read.
        """

    def answer(
        self,
        artefact: Path,
        history: Sequence[str],
        *,
        user: str | None = None,
        history_times: Sequence[int] | None = None,
        request_time: int | None = None,
        k: int = 10,
    ) -> list[str]:
        """The raw ids of the best items for one request, best first.

        Args:
            artefact: an exported file.
            history: raw item ids, most recent last.
            user: raw user id.
            history_times: seconds beside `history`.
            request_time: seconds.
            k: length of the list.

        What the artefact does not read of a request counts for nothing.
        """

    def trace(
        self, spec: ExportSpec, num_items: int, num_users: int, context: int = 0
    ) -> Callable[..., Tensor]:
        """The traced module of `spec` in the runtime: from its fields, in order, to (B, num_items) scores.

        Args:
            spec: what is traced.
            num_items, num_users: sizes of the catalogue.
            context: fields of a request, columns of `Batch.context`.

        Raises RecloomError naming the part of the module that cannot be traced.
        """


def installed_artefacts() -> dict[str, Artefacts]:
    """Every kind of exported file that an installed package writes, by ending."""
    return collect("register_artefacts")


def artefacts_of(path: Path, needed_by: str) -> Artefacts:
    """Who writes and reads the file `path`, found by its ending.

    Args:
        path: an exported file, which need not exist.
        needed_by: the option that names it, such as `--artefact`.

    Raises RecloomError where no installed package does.
    """
    found = installed_artefacts()
    if not found:
        raise RecloomError(f"{needed_by} needs recloom-onnx, which is not installed or is blocked: {INSTALL}")
    ending = path.suffix.removeprefix(".")
    if ending not in found:
        raise RecloomError(
            f"{needed_by} names a file that ends in {' or '.join(f'.{name}' for name in found)}, found {str(path)!r}"
        )
    return found[ending]
