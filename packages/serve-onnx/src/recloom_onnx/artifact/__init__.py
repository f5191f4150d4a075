"""An exported file: its manifest, and sessions that answer requests with it. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recloom.plugins import lazy_names

if TYPE_CHECKING:
    from .manifest import IndexReport as IndexReport
    from .manifest import Manifest as Manifest
    from .manifest import Parity as Parity
    from .manifest import Port as Port
    from .manifest import read_manifest as read_manifest
    from .session import Provider as Provider
    from .session import Recommended as Recommended
    from .session import Session as Session

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "manifest": "IndexReport Manifest Parity Port read_manifest",
        "session": "Provider Recommended Session",
    },
)
