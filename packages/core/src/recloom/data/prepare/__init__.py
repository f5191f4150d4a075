"""From raw files to a checked dataset on disk: `recloom data prepare|check|split|list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...plugins import lazy_names

if TYPE_CHECKING:
    from .commands import prepare as prepare
    from .dataset import Prepared as Prepared
    from .dataset import arrange as arrange
    from .dataset import write_dataset as write_dataset
    from .dataset import write_synthetic as write_synthetic
    from .public_datasets import fetch_zip as fetch_zip
    from .source import prepare_source as prepare_source

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "commands": "prepare",
        "dataset": "Prepared arrange write_dataset write_synthetic",
        "public_datasets": "fetch_zip",
        "source": "prepare_source",
    },
)
