"""Which labels NodeProperty learns from, and which it is measured on."""

import numpy as np
import pytest
import torch
from recloom_graph.property.labelled_graphs import NodeGraph
from recloom_graph.property.node_property import NodeProperty, accuracy

NODES = 24
ORDER = torch.randperm(NODES, generator=torch.Generator().manual_seed(1))
GRAPH = NodeGraph(
    features=torch.ones(NODES, 3),
    edges=torch.tensor([[0, 1], [1, 0]]),
    labels=torch.arange(NODES) % 2,
    parts={"train": ORDER[:5], "valid": ORDER[5:12], "test": ORDER[12:22]},
    num_classes=2,
    split="made by a test",
)


def test_it_learns_from_training_labels_alone_and_is_measured_on_each_part(monkeypatch):
    """By numpy, from logits that are given: a node of another part changes nothing."""
    module, graph = NodeProperty(), GRAPH
    logits = torch.randn(NODES, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    module.network = lambda features, edges: logits
    logged = {}
    told = {}

    def log(name, value, **how):
        logged[name], told[name] = value.item(), how

    monkeypatch.setattr(module, "log", log)
    values, labels = logits.detach().double().numpy(), graph.labels.numpy()
    costs = np.log(np.exp(values).sum(1)) - values[np.arange(NODES), labels]
    loss = module.training_step(graph, 0)
    module.validation_step(graph, 0)
    module.test_step(graph, 0)
    for part, prefix in (("train", "train"), ("valid", "val"), ("test", "test")):
        nodes = graph.parts[part].numpy()
        assert logged[f"{prefix}/loss"] == pytest.approx(costs[nodes].mean(), rel=1e-5)
        if part != "train":
            right = (values.argmax(1) == labels)[nodes].mean()
            assert logged[f"{prefix}/accuracy"] == pytest.approx(right)
    assert loss.item() == pytest.approx(logged["train/loss"])
    assert told["train/loss"] == {"on_step": False, "on_epoch": True, "batch_size": 5}
    assert [told[f"{part}/loss"]["batch_size"] for part in ("val", "test")] == [7, 10]
    loss.backward()
    touched = torch.nonzero(logits.grad.abs().sum(1))[:, 0].tolist()
    assert touched == sorted(graph.parts["train"].tolist())
    assert len(set(graph.parts["train"].tolist()) & set(graph.parts["valid"].tolist())) == 0


def test_the_accuracy_of_one_label_and_of_several():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 1.0, 5.0], [1.0, 0.0, 0.0]])
    assert accuracy(logits, torch.tensor([0, 1, 2, 1])).item() == pytest.approx(0.75)
    several = torch.tensor([[1, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]])
    assert accuracy(logits, several).item() == pytest.approx(0.5)


def test_weight_decay_may_be_on_the_first_layer_alone():
    pytest.importorskip("torch_geometric", reason="needs torch-geometric: pip install 'recloom-graph[pyg]'")

    def decays(**options):
        torch.manual_seed(0)
        module = NodeProperty(dim=4, lr=0.5, weight_decay=0.1, **options)
        module.build(3, 2)
        names = {weight: name.split(".")[2] for name, weight in module.named_parameters()}
        groups = module.configure_optimizers().param_groups
        assert all(group["lr"] == pytest.approx(0.5) for group in groups)
        return {(names[weight], group["weight_decay"]) for group in groups for weight in group["params"]}

    assert decays() == {("0", 0.1), ("1", 0.1)}
    assert decays(decay_layers="first") == {("0", 0.1), ("1", 0.0)}
    assert decays(decay_layers="first", num_layers=1) == {("0", 0.1)}
