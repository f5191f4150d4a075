"""SGL: Self-supervised Graph Learning for Recommendation (Wu et al., SIGIR 2021): LightGCN with `DroppedEdges`."""

from __future__ import annotations

from .lightgcn import LightGCN


class SGL(LightGCN):
    """LightGCN trained with contrast between views that lack edges; options as LightGCN's."""

    default_loss = "DroppedEdges"
