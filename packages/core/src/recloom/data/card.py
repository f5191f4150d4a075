"""Names that options of `recloom data` choose from; nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

Layout = Literal["auto", "pairs", "users"]
"""Sequence files: one `user item` pair a line, or one user a line."""
Quote = Literal["double", "none"]
"""Whether double quotes enclose fields of a table."""
Domain = Literal["movies", "news", "shop", "jobs"]
"""What invented items look like."""
