"""The backends give the same numbers, and each may be missing."""

import itertools
import sys

import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import BPR
from recloom_graph.graphs import backends, sparse
from recloom_graph.graphs.backends import product
from recloom_graph.graphs.graph import Graph
from recloom_graph.losses.contrast import DroppedEdges, NoisyViews
from recloom_graph.models.contrastive import SGL, SimGCL
from recloom_graph.models.lightgcn import LightGCN
from recloom_graph.models.propagation import propagate

USERS, ITEMS = 20, 30
EXTRAS = {"dgl": "dgl", "pyg": "torch_geometric"}


@pytest.fixture(params=list(EXTRAS))
def other(request) -> str:
    """A backend beside torch."""
    pytest.importorskip(EXTRAS[request.param])
    return request.param


def data() -> tuple[Catalog, Interactions]:
    catalog = Catalog(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(1, ITEMS + 1)]}),
        pl.DataFrame({"user_id": [f"u{n}" for n in range(1, USERS + 1)]}),
    )
    drawn = np.argwhere(
        np.random.default_rng(0).random((USERS - 2, ITEMS - 2)) < 0.2
    )  # the last have no edge
    pairs = [(f"u{u + 1}", f"i{i + 1}") for u, i in drawn]
    return catalog, Interactions.from_frame(
        pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row"), catalog
    )


def fitted(kind: type[LightGCN], backend: str) -> LightGCN:
    catalog, interactions = data()
    torch.manual_seed(0)
    model = kind(catalog, dim=40, num_layers=2, backend=backend)
    model.fit(interactions)
    return model.train()


def pairs(interactions: Interactions) -> Batch:
    users, items = interactions.pairs()
    return Batch.of(torch.zeros(40, 1, dtype=torch.long), user=users[:40], labels=items[:40, None])


def requests() -> Batch:
    history = torch.tensor([[1, 2], [3, 0], [5, 6]])
    return Batch.of(history, torch.arange(1, ITEMS + 1)[None], user=torch.tensor([0, 4, USERS]))


def bipartite_matrix(seed: int, weighted: bool) -> torch.Tensor:
    """Random, symmetric and normalised; a sixth of its nodes or more have no edge."""
    rng = np.random.default_rng(seed)
    ends = torch.from_numpy(np.argwhere(rng.random((25, 33)) < 0.15))
    weights = torch.from_numpy(rng.random(len(ends)) + 0.1).float() if weighted else None
    return Graph(ends[:, 0], 27 + ends[:, 1], 70, weights, directed=False).symmetric


@pytest.mark.parametrize("dim", [1, 5, 31, 32, 64])
def test_the_torch_product_is_that_of_the_dense_matrix(dim):
    for seed, weighted in itertools.product((0, 1), (False, True)):
        matrix, x = bipartite_matrix(seed, weighted), torch.randn(70, dim)
        assert torch.allclose(product(matrix)(x), matrix.to_dense() @ x, atol=1e-6)
    empty = sparse.csr(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), 3)
    assert torch.equal(product(empty)(torch.ones(3, dim)), torch.zeros(3, dim))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("layers", "first"), [(0, 0), (1, 0), (3, 0), (3, 1)])
def test_backends_agree_forward_and_backward(other, layers, first, weighted):
    for seed in range(3):
        matrix = bipartite_matrix(seed, weighted)
        assert (matrix.crow_indices().diff() == 0).any()
        x, weight = torch.randn(70, 48), torch.randn(70, 48)
        found = []
        for backend in ("torch", other):
            leaf = x.clone().requires_grad_()
            value = propagate(product(matrix, backend), leaf, layers, first)
            (value.tanh() * weight).sum().backward()
            found.append((value.detach(), leaf.grad))
        assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
        assert torch.allclose(found[0][1], found[1][1], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "loss"), [(LightGCN, BPR), (SimGCL, NoisyViews), (SGL, DroppedEdges)], ids=lambda part: part.__name__
)  # fmt: skip
def test_models_have_the_same_scores_loss_and_gradients(other, kind, loss):
    found = []
    for backend in ("torch", other):
        model, (_, interactions) = fitted(kind, backend), data()
        torch.manual_seed(3)  # of negatives, of noise and of the edges that a view lacks
        criterion = loss()
        criterion.fit(interactions)
        value = criterion(model, pairs(interactions))
        value.backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        found.append([value.detach(), *gradients, model.eval().score(requests())])
    assert found[0][1].any()
    for one, two in zip(*found, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_hidden_nodes_are_hidden_from_every_backend(other):
    found = []
    for backend in ("torch", other):
        model = fitted(LightGCN, backend)
        with model.masked(torch.tensor([3, 40]), torch.full((40,), 2.0)):
            found.append(torch.cat(model.tables()).detach())
    assert torch.allclose(*found, atol=1e-5)
    assert not torch.allclose(found[0], torch.cat(fitted(LightGCN, "torch").tables()), atol=1e-2)


def test_a_checkpoint_and_an_export_do_not_depend_on_the_backend(other):
    trained, again = fitted(LightGCN, other), fitted(LightGCN, "torch")
    with torch.no_grad():
        trained.users.weight[1:].add_(1)
    assert not torch.allclose(trained.eval().score(requests()), again.eval().score(requests()), atol=1e-2)
    again.load_state_dict(trained.state_dict())
    assert torch.allclose(trained.score(requests()), again.score(requests()), atol=1e-5)
    back = fitted(LightGCN, other)
    back.load_state_dict(again.state_dict())
    assert torch.equal(back.eval().score(requests()), trained.score(requests()))
    one, two = trained.export().module, again.export().module
    assert dict(one.named_buffers()).keys() == dict(two.named_buffers()).keys()
    user, history = torch.tensor([4, 0]), torch.tensor([[1, 2], [3, 0]])
    assert torch.allclose(one(user, history), two(user, history), atol=1e-5)


def test_a_matrix_is_prepared_once_and_anew_for_another_graph(other, monkeypatch):
    built = []
    made = getattr(backends, f"_{other}")
    monkeypatch.setattr(backends, f"_{other}", lambda *given: built.append(1) or made(*given))
    model, (catalog, interactions) = fitted(SGL, other), data()
    loss = DroppedEdges()
    loss.fit(interactions)
    for _ in range(3):
        loss(model, pairs(interactions)).backward()
        model.score(requests())
    assert len(built) == 3  # the graph and two views
    before = model.eval().score(requests())
    users, items = interactions.pairs()
    frame = pl.DataFrame(
        {"user_id": [f"u{u}" for u in users[:30].tolist()], "item_id": [f"i{i}" for i in items[:30].tolist()]}
    )
    model.fit(Interactions.from_frame(frame, catalog))
    assert not torch.allclose(model.score(requests()), before, atol=1e-4)
    state = fitted(SGL, other).state_dict()
    for name in ("crow", "col", "values"):
        setattr(model.graph, name, torch.empty_like(state[f"graph.{name}"]))
    model.load_state_dict(state)
    assert torch.allclose(model.score(requests()), fitted(SGL, other).eval().score(requests()), atol=1e-6)


def test_another_name_is_refused_with_those_that_exist():
    with pytest.raises(RecloomError, match="backend must be one of torch, dgl, pyg; found 'numpy'"):
        LightGCN(data()[0], backend="numpy")


RUN = """
import sys
for name in {absent!r}:
    sys.modules[name] = None  # an import of it fails as if it were not installed
from recloom.cli.main import main
main(["plugins"])
import polars as pl
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.plugins import collect
catalog = Catalog(pl.DataFrame({{"item_id": ["a", "b", "c"]}}), pl.DataFrame({{"user_id": ["x", "y"]}}))
frame = pl.DataFrame({{"user_id": ["x", "x", "y"], "item_id": ["a", "b", "b"]}})
models = collect("register_models")
for backend in ("torch", "dgl", "pyg"):
    for name in ("LightGCN", "SimGCL", "SGL"):
        try:
            model = models[name](catalog, dim=4, backend=backend)
        except RecloomError as error:
            print(backend, "missing:", error)
            continue
        model.fit(Interactions.from_frame(frame, catalog))
        batch = Batch.of(torch.tensor([[1]]), torch.tensor([[1, 2, 3]]), user=torch.tensor([0]))
        assert model.eval().score(batch).isfinite().all()
        print(backend, "works")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "absent", [(), ("dgl",), ("pyg",), ("dgl", "pyg")], ids=lambda names: "+".join(names) or "none"
)
def test_backends_may_be_absent_in_any_combination(absent, warm_python):
    for name in set(EXTRAS) - set(absent):
        pytest.importorskip(EXTRAS[name])
    done = warm_python.run("-c", RUN.format(absent=[EXTRAS[name] for name in absent]))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.split()[:1] == ["graph"] for line in lines), done.stdout
    assert "cannot be imported" not in done.stderr
    assert lines.count("torch works") == 3
    for name in EXTRAS:
        missing = [line for line in lines if line.startswith(f"{name} missing:")]
        assert (lines.count(f"{name} works"), len(missing)) == ((0, 3) if name in absent else (3, 0))
        later = name == "dgl" and sys.version_info >= (3, 12)
        step = "has wheels up to Python 3.11" if later else f"pip install 'recloom-graph[{name}]'"
        assert all(step in line for line in missing)
