"""Names that the options of `recloom graph embed` choose from; light, since every command line reads them."""

from __future__ import annotations

from typing import Literal

Method = Literal["node2vec", "deepwalk", "link"]
Kind = Literal["bipartite", "co-occurrence", "sessions"]
