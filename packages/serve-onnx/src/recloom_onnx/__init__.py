"""Hook implementations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from recloom.plugins import hookimpl

if TYPE_CHECKING:
    from recloom.runs import Artefacts


@hookimpl
def register_commands() -> Iterable[Callable[..., None]]:
    from .batch.commands import batch
    from .commands import export, verify
    from .server.command import serve

    return [batch, export, serve, verify]


@hookimpl
def register_artefacts() -> Iterable[Artefacts]:
    from .onnx_artefacts import OnnxArtefacts

    return [OnnxArtefacts()]
