"""Hook implementations."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from recloom.plugins import hookimpl


@hookimpl
def register_commands() -> Iterable[Callable[..., None]]:
    from .batch.commands import batch
    from .commands import export, verify
    from .server.command import serve

    return [batch, export, serve, verify]
