"""Trained runs: loaded, asked for recommendations, given new items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..plugins import lazy_names

if TYPE_CHECKING:
    from .artefacts import Artefacts as Artefacts
    from .run import Run as Run
    from .run import load as load
    from .server_stages import ListItem as ListItem
    from .server_stages import ListRequest as ListRequest
    from .server_stages import ServerStage as ServerStage
    from .server_stages import StageRoute as StageRoute

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "artefacts": "Artefacts",
        "run": "Run load",
        "server_stages": "ListItem ListRequest ServerStage StageRoute",
    },
)
