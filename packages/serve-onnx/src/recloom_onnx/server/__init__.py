"""The HTTP server: JSON, the Open Inference Protocol, batching, reloads, limits and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .app import application as application
    from .models import Models as Models
    from .models import Served as Served
    from .models import find_sources as find_sources
    from .observation import Metrics as Metrics
    from .serving import Server as Server
    from .settings import Settings as Settings

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "app": "application",
        "models": "Models Served find_sources",
        "observation": "Metrics",
        "serving": "Server",
        "settings": "Settings",
    },
)
