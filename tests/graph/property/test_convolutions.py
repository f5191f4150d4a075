"""Graph convolutions on small graphs, by hand and by symmetry."""

import pytest
import torch
from recloom.errors import RecloomError

pytest.importorskip("torch_geometric", reason="needs torch-geometric: pip install 'recloom-graph[pyg]'")

from recloom_graph.property.convolutions import Convolutions

KINDS = ["GCN", "SAGE", "GAT"]


def network(conv="GCN", **options):
    torch.manual_seed(0)
    return Convolutions(3, 8, 4, conv, **{"num_layers": 2, "heads": 2} | options).eval()


def graph(nodes=9, edges=14, seed=1):
    draw = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, nodes, (2, edges), generator=draw)
    return torch.randn(nodes, 3, generator=draw), torch.cat([ends, ends.flip(0)], 1)


@pytest.mark.parametrize("conv", KINDS)
@pytest.mark.fact("A9.3")
def test_nodes_in_another_order_give_the_same_in_that_order(conv):
    x, edges = graph()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    place = torch.empty_like(order)
    place[order] = torch.arange(9)
    model = network(conv)
    given = model(x, edges)
    assert torch.allclose(model(x[order], place[edges]), given[order], atol=1e-5)
    assert not torch.allclose(
        model(x[order], edges), given[order], atol=1e-3
    )  # without its edges, another graph


@pytest.mark.fact("A9.3")
def test_without_edges_a_layer_is_h_times_w():
    model = Convolutions(3, 8, 4, num_layers=1).eval()
    x, _ = graph()
    found = model(x, torch.empty(2, 0, dtype=torch.long))
    assert torch.allclose(found, x @ model.convs[0].lin.weight.T, atol=1e-6)


@pytest.mark.fact("A9.3")
def test_two_nodes_of_features_1_and_3_both_become_2():
    model = Convolutions(1, 8, 1, num_layers=1).eval()
    torch.nn.init.ones_(model.convs[0].lin.weight)
    found = model(torch.tensor([[1.0], [3.0]]), torch.tensor([[0, 1], [1, 0]]))
    assert torch.allclose(found, torch.tensor([[2.0], [2.0]]))


@pytest.mark.parametrize("conv", KINDS)
@pytest.mark.fact("A9.3")
def test_evaluation_is_deterministic_and_training_is_not(conv):
    x, edges = graph()
    model = network(conv)
    assert torch.equal(model(x, edges), model(x, edges))
    model.train()
    assert not torch.equal(model(x, edges), model(x, edges))


@pytest.mark.parametrize("share", [0.0, 0.9])
@pytest.mark.fact("A9.3")
def test_the_share_that_is_dropped_is_the_option(share):
    """Not the flag of training, which would drop all or nothing."""
    model = Convolutions(50, 8, 4, dropout=0.0, input_dropout=share).train()
    torch.nn.init.ones_(model.convs[0].lin.weight)
    hidden = model.before_last(torch.ones(400, 50), torch.empty(2, 0, dtype=torch.long))
    kept = hidden.mean() * (1 - share) / 50
    assert float(kept) == pytest.approx(1 - share, abs=0.02)


@pytest.mark.parametrize("conv", KINDS)
@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.fact("A9.3")
def test_there_are_exactly_as_many_convolutions_as_asked_for(conv, layers):
    model = network(conv, num_layers=layers, batch_norm=True)
    assert len(model.convs) == layers
    assert len(model.norms) == layers - 1
    assert model(*graph()).shape == (9, 4)


@pytest.mark.fact("A9.3")
def test_ogbn_arxiv_has_the_published_number_of_parameters():
    model = Convolutions(128, 256, 40, num_layers=3, batch_norm=True)
    assert sum(p.numel() for p in model.parameters()) == 110_120


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1; found 1\.0"),
        ({"input_dropout": -0.1}, "input_dropout must be"),
        ({"conv": "GAT", "heads": 3}, "heads must divide dim; found heads 3 and dim 8"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(RecloomError, match=message):
        network(**options)


@pytest.mark.parametrize(("activation", "lowest"), [("relu", 0.0), ("elu", -1.0)])
def test_what_stands_between_convolutions(activation, lowest):
    x, edges = graph()
    model = network("GAT", activation=activation)
    plain = getattr(torch.nn.functional, activation)(model.convs[0](x, edges))
    found = model.before_last(x, edges)
    assert torch.allclose(found, plain, atol=1e-6)
    assert lowest <= found.min().item() < lowest + 1
    assert (found < 0).any().item() == (activation == "elu")
    with pytest.raises(RecloomError, match="activation must be relu or elu; found 'tanh'"):
        network(activation="tanh")
