"""Keeps Lightning's advice about what Recloom does on purpose off the screen."""

from __future__ import annotations

import logging
import sys
import warnings

QUIET = (
    ".*does not have many workers.*",
    ".*configure_optimizers.*returned `None`.*",
    ".*Checkpoint directory.*exists.*",
    "LightningCLI's args parameter.*",
    ".*is smaller than the logging interval.*",
    ".*weights_only.*",
    ".*LeafSpec.*",
    ".*infer the `batch_size`.*",
)
"""How the warnings about it begin."""


def calm() -> None:
    """Leave out its advice; its warnings about what users asked for stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in QUIET:
        warnings.filterwarnings("ignore", text)
    sys.stdout.flush()
