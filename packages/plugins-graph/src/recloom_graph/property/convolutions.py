"""A stack of graph convolutions of PyG: GCN, GraphSAGE or GAT.

GCN    H' = D^-1/2 (A + I) D^-1/2 H W            Kipf and Welling, ICLR 2017
SAGE   h' = W1 h + W2 mean of the neighbours     Hamilton et al., NeurIPS 2017
GAT    h' = sum of neighbours W h by attention   Velickovic et al., ICLR 2018

Unlike the papers:
* ReLU stands between all convolutions; GAT's paper has ELU: `activation`.
* GraphSAGE reads all neighbours and does not scale its outputs to length 1; the paper samples neighbours.
* GAT's last convolution has one head, as on Cora; the paper has eight of them on PubMed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

from recloom.errors import RecloomError, at_least
from torch import Tensor, nn
from torch.nn.functional import dropout, elu, relu

from ..graphs.convert import needed

Convolution = Literal["GCN", "SAGE", "GAT"]
Activation = Literal["relu", "elu"]


class Convolutions(nn.Module):
    """`num_layers` convolutions, with normalisation, activation and dropout between two of them and nowhere else.

    Args:
        in_dim, dim, out_dim: of the input, between convolutions, and of the output.
        conv: which convolution.
        num_layers: how many.
        dropout: share of the values that are dropped between convolutions while training; also of GAT's attention.
        input_dropout: the same of the input.
        batch_norm: whether values are normalised over the nodes between convolutions.
        heads: of GAT between convolutions; `dim` is divided among them. The last convolution has one.
        activation: `relu`, or `elu` as in GAT's paper.

    Raises RecloomError where PyG is not installed or an option cannot be.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        out_dim: int,
        conv: Convolution = "GCN",
        num_layers: int = 2,
        dropout: float = 0.5,
        input_dropout: float = 0.0,
        batch_norm: bool = False,
        heads: int = 8,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        at_least(1, dim=dim, num_layers=num_layers, heads=heads)
        for name, share in {"dropout": dropout, "input_dropout": input_dropout}.items():
            if not 0 <= share < 1:
                raise RecloomError(f"{name} must be at least 0 and below 1; found {share}")
        if conv == "GAT" and dim % heads:
            raise RecloomError(f"heads must divide dim; found heads {heads} and dim {dim}")
        if activation not in ("relu", "elu"):
            raise RecloomError(f"activation must be relu or elu; found {activation!r}")
        self.dropout, self.input_dropout = dropout, input_dropout
        self.activation = elu if activation == "elu" else relu
        sizes = [in_dim, *[dim] * (num_layers - 1), out_dim]
        last = num_layers - 1
        self.convs = nn.ModuleList(
            _convolution(conv, size, to, dropout, 1 if layer == last else heads)
            for layer, (size, to) in enumerate(pairwise(sizes))
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(dim) if batch_norm else nn.Identity() for _ in range(last))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """(N, out_dim) of (N, in_dim) and (2, E)."""
        found: Tensor = self.convs[-1](self.before_last(x, edges), edges)
        return found

    def before_last(self, x: Tensor, edges: Tensor) -> Tensor:
        """(N, dim), what enters the last convolution."""
        x = dropout(x, self.input_dropout, self.training)
        for conv, norm in zip(self.convs[:-1], self.norms, strict=True):
            x = dropout(self.activation(norm(conv(x, edges))), self.dropout, self.training)
        return x


def _convolution(conv: Convolution, size: int, to: int, dropout: float, heads: int) -> nn.Module:
    layers: Any = needed("torch_geometric.nn", "pyg")
    if conv == "GAT":
        found: nn.Module = layers.GATConv(size, to // heads, heads=heads, dropout=dropout)
        return found
    kind = {"GCN": layers.GCNConv, "SAGE": layers.SAGEConv}[conv]
    made: nn.Module = kind(size, to)
    return made
