"""GraphProperty: properties of whole graphs, and `recloom fit --model GraphProperty`."""

import json

import numpy as np
import pytest
import torch
from recloom.errors import RecloomError
from recloom.fitting.fit import run_command
from recloom_graph.property.graph_property import GraphProperty, mean_auc, num_outputs, pool
from recloom_graph.property.labelled_graphs import GraphBatch, GraphSet
from recloom_graph.property.ogb import read_graphs
from recloom_graph.property.two_colour_graphs import write
from sklearn.metrics import roc_auc_score

PYG = "needs torch-geometric: pip install 'recloom-graph[pyg]'"


def graphs(real: bool = False) -> GraphSet:
    draw = torch.Generator().manual_seed(0)
    nodes = torch.tensor([4, 1, 6])
    ends = [torch.randint(0, int(count), (2, 5), generator=draw) for count in nodes]
    first = nodes.cumsum(0) - nodes
    edges = torch.cat([torch.cat([one, one.flip(0)], 1) + at for one, at in zip(ends, first, strict=True)], 1)
    features = torch.randn(11, 2, generator=draw) if real else torch.randint(0, 5, (11, 2), generator=draw)
    nan = float("nan")
    labels = torch.tensor([[1, nan, 0], [0, 1, nan], [1, 0, nan]])
    return GraphSet(features, edges, nodes, labels, {"train": torch.arange(3)}, "test")


def module(given: GraphSet, **options) -> GraphProperty:
    pytest.importorskip("torch_geometric", reason=PYG)
    torch.manual_seed(0)
    made = GraphProperty(**{"metric": "roc_auc", "dim": 8, "num_layers": 2, "heads": 2} | options)
    made.build(given)
    return made.eval()


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
@pytest.mark.parametrize("conv", ["GCN", "SAGE", "GAT"])
@pytest.mark.fact("A9.3")
def test_a_graph_alone_is_the_same_as_within_a_batch(real, pooling, conv):
    given = graphs(real)
    model = module(given, pooling=pooling, conv=conv)
    together = model(given[torch.tensor([2, 0, 1])])
    alone = torch.cat([model(given[torch.tensor([one])]) for one in (2, 0, 1)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


@pytest.mark.parametrize("conv", ["GCN", "SAGE", "GAT"])
@pytest.mark.fact("A9.3")
def test_the_order_of_its_nodes_does_not_change_a_graph(conv):
    given = graphs()
    model, one = module(given, conv=conv), given[torch.tensor([2])]
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    place = torch.empty_like(order)
    place[order] = torch.arange(6)
    other = GraphBatch(one.features[order], place[one.edges], one.graph, one.labels)
    assert torch.allclose(model(one), model(other), atol=1e-5)


@pytest.mark.fact("A9.3")
def test_evaluation_is_deterministic_and_training_is_not():
    given = graphs()
    model, batch = module(given), given[torch.arange(3)]
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


def test_categories_are_embedded_by_column_and_added_up():
    given = graphs()
    network = module(given).network
    assert network.enter.num_embeddings == sum(given.categories)
    table, first = network.enter.weight, given.categories[0]
    row = given.features[3]
    by_hand = table[row[0]] + table[first + row[1]]
    assert torch.equal(network.enter(given.features + network.starts).sum(1)[3], by_hand)


def test_pools_by_hand():
    x, graph = torch.tensor([[1.0], [3.0], [-5.0]]), torch.tensor([0, 0, 2])
    assert pool(x, graph, 3, "mean").flatten().tolist() == [2, 0, -5]
    assert pool(x, graph, 3, "sum").flatten().tolist() == [4, 0, -5]
    assert pool(x, graph, 3, "max").flatten().tolist() == [3, 0, -5]


@pytest.mark.fact("A9.3")
def test_only_labels_that_are_known_count():
    """Also in a batch whose last graph is 0 of the batch: none is skipped."""
    model, nan = GraphProperty(metric="roc_auc"), float("nan")
    logits = torch.tensor([[0.0, 9.0], [2.0, -9.0]], requires_grad=True)
    loss = model._loss(logits, torch.tensor([[1.0, nan], [nan, nan]]))
    assert float(loss) == pytest.approx(np.log(2))
    loss.backward()
    assert logits.grad.count_nonzero() == 1
    nothing = model._loss(logits, torch.full((2, 2), nan))
    assert float(nothing) == 0


def test_the_auc_is_the_mean_over_tasks_with_both_labels():
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 3, generator=draw).round(decimals=1)
    labels = (torch.rand(50, 3, generator=draw) < 0.4).float()
    labels[:, 2] = 0
    labels[:9, 0] = float("nan")
    expected = np.mean(
        [roc_auc_score(labels[9:, 0], logits[9:, 0]), roc_auc_score(labels[:, 1], logits[:, 1])]
    )
    assert float(mean_auc(logits, labels)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "metric", "message"),
    [
        ([[0.0], [2.0]], "roc_auc", "needs labels 0 and 1; found 2. Use --model.metric accuracy"),
        (
            [[0.0, 1.0]],
            "accuracy",
            "found 2 columns, 0 of whose labels are missing. Use --model.metric roc_auc",
        ),
        ([[0.0], [float("nan")]], "accuracy", "found 1 columns, 1 of whose labels are missing"),
    ],
)
def test_labels_that_the_metric_does_not_measure_are_refused(labels, metric, message):
    with pytest.raises(RecloomError, match=message):
        num_outputs(torch.tensor(labels), metric)


def test_sizes_and_colours_of_the_invented_graphs_say_nothing_of_their_class(tmp_path):
    found = read_graphs(write(tmp_path, 200))
    kind = found.labels[:, 0].long()
    assert torch.bincount(kind).tolist() == [100, 100]
    owner = torch.repeat_interleave(torch.arange(200), found.nodes)
    red = torch.bincount(owner, found.features[:, 0].double())
    assert torch.equal(red * 2, found.nodes.double())
    assert torch.equal(found.sizes, 4 * found.nodes)
    colour = found.features[:, 0]
    same = (colour[found.edges[0]] == colour[found.edges[1]]).double()
    share = torch.bincount(owner[found.edges[0]], same) / found.sizes
    assert torch.allclose(share, torch.where(kind == 0, 0.75, 0.25).double(), atol=1e-6)


def test_their_class_is_learnt(tmp_path):
    pytest.importorskip("torch_geometric", reason=PYG)
    folder = write(tmp_path / "colours", 200)
    words = ["--model.dim", "32", "--model.num_layers", "2", "--model.lr", "0.01", "--model.dropout", "0"]
    words += ["--trainer.max_epochs", "12", "--trainer.enable_progress_bar", "false"]
    run_command(
        ["fit", "--model", "GraphProperty", "--data", str(folder), "--run", str(tmp_path / "run"), *words]
    )
    run_command(["test", str(tmp_path / "run")])
    results = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert results["metrics"]["accuracy"] > 0.9
    assert (results["monitor"], results["protocol"]["test_graphs"]) == ("val/accuracy", 40)
