"""SGL and SimGCL: LightGCN trained with contrast between two views of the graph, by the losses in `losses/contrast`.

SGL: Self-supervised Graph Learning for Recommendation (Wu et al., SIGIR 2021), with edge dropout.
SimGCL: Are Graph Augmentations Necessary? (Yu et al., SIGIR 2022), with noise after each layer. Its final vector is
the mean of the layers 1..K: layer 0 is left out, as in the paper (section 3.2).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from recloom.data import Catalog
from recloom.recommender import Recommender

from .lightgcn import LightGCN


class SGL(LightGCN):
    """LightGCN trained with contrast between views that lack edges; options as LightGCN's."""

    default_loss = "DroppedEdges"


class SimGCL(LightGCN):
    """LightGCN without layer 0 in the mean, trained with contrast between noisy views; options as LightGCN's."""

    default_loss = "NoisyViews"
    first_layer: ClassVar[Literal[0, 1]] = 1

    def extend(self, catalog: Catalog) -> None:
        """Not possible: a new item has no edge, so nothing but the layer that is left out."""
        Recommender.extend(self, catalog)
