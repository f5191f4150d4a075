import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import BPR, Loss
from recloom_graph.graphs.backends import product
from recloom_graph.graphs.dataset_graphs import bipartite
from recloom_graph.losses.contrast import DroppedEdges, NoisyViews, drop_edges
from recloom_graph.losses.info_nce import info_nce
from recloom_graph.models.contrastive import SimGCL
from recloom_graph.models.lightgcn import LightGCN
from recloom_graph.models.propagation import propagate

USERS, ITEMS = 30, 40


class Zero(Loss):
    def forward(self, recommender, batch):
        return torch.zeros(())


def data() -> tuple[Catalog, Interactions]:
    catalog = Catalog(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)]}),
        pl.DataFrame({"user_id": [f"u{n}" for n in range(USERS)]}),
    )
    torch.manual_seed(0)
    pairs = [(f"u{u}", f"i{i}") for u in range(USERS) for i in torch.randperm(ITEMS)[:8].tolist()]
    frame = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    return catalog, Interactions.from_frame(frame, catalog)


def prepared(kind=LightGCN, loss=None, **options):
    catalog, interactions = data()
    torch.manual_seed(1)
    model = kind(catalog, dim=8, **options)
    model.fit(interactions)
    if loss is not None:
        loss.prepare(model, catalog)
        loss.fit(interactions)
    return model.train(), interactions


def batch(interactions: Interactions, size: int = 64) -> Batch:
    users, items = interactions.pairs()
    return Batch.of(torch.zeros(size, 1, dtype=torch.long), user=users[:size], labels=items[:size, None])


@pytest.mark.parametrize(("temperature", "value"), [(1.0, 0.31326), (0.2, 0.006715)])
def test_info_nce_of_two_orthogonal_pairs_by_hand(temperature, value):
    """log(1 + exp(-1/t))."""
    found = info_nce(3 * torch.eye(2), torch.eye(2), torch.arange(2), temperature)
    assert float(found) == pytest.approx(value, rel=1e-4)


def test_info_nce_against_equal_texts_is_the_log_of_their_number():
    found = info_nce(torch.randn(3, 4), torch.ones(7, 4), torch.tensor([0, 5, 6]), 0.1)
    assert float(found) == pytest.approx(torch.tensor(7.0).log().item(), abs=1e-5)


def test_layer_0_is_left_out_of_the_mean_and_the_gradient_agrees():
    graph = bipartite(data()[1]).symmetric
    dense = graph.to_dense()
    x = torch.randn(len(dense), 5, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = torch.randn(len(dense), 5)
    expected = (dense @ y + dense @ dense @ y + dense @ dense @ dense @ y) / 3
    (expected.tanh() * weight).sum().backward()
    found = propagate(product(graph), x, 3, first=1)
    (found.tanh() * weight).sum().backward()
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.allclose(x.grad, y.grad, atol=1e-6)


def test_noise_moves_every_vector_by_its_length_within_its_orthant():
    graph = bipartite(data()[1]).symmetric
    x = torch.randn(graph.shape[0], 5)
    plain, moved = (
        propagate(product(graph), x, 1, first=1),
        propagate(product(graph), x, 1, first=1, noise=0.3),
    )
    linked = plain.abs().sum(1) > 0
    assert (moved - plain)[linked].norm(dim=1) == pytest.approx(0.3, abs=1e-5)
    assert torch.equal(moved.sign(), plain.sign())
    assert torch.equal(moved[~linked], plain[~linked])


def test_noise_does_not_change_the_gradient():
    graph = bipartite(data()[1]).symmetric
    x = torch.randn(graph.shape[0], 5, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    weight = torch.randn_like(x)
    (propagate(product(graph), x, 2) * weight).sum().backward()
    (propagate(product(graph), y, 2, noise=0.1) * weight).sum().backward()
    assert torch.allclose(x.grad, y.grad)


def test_a_view_lacks_its_share_of_edges_and_is_normalised_by_the_rest():
    graph = bipartite(data()[1])
    view = drop_edges(graph.symmetric, 0.25, torch.Generator().manual_seed(0))
    assert view.values().numel() == 2 * (graph.num_edges - int(0.25 * graph.num_edges))
    dense = view.to_dense()
    assert torch.equal(dense, dense.T)
    places = dense > 0
    assert (graph.symmetric.to_dense()[places] > 0).all()
    degree = places.sum(1)
    expected = places / (degree[:, None] * degree[None]).clamp(min=1).sqrt()
    assert torch.allclose(dense, expected, atol=1e-6)


@pytest.mark.parametrize("loss", [NoisyViews, DroppedEdges])
def test_weight_0_is_the_ranking_loss_exactly(loss):
    plain, zero = BPR(l2=1e-4), loss(weight=0)
    model, interactions = prepared(loss=zero)
    plain.fit(interactions)
    torch.manual_seed(3)
    expected = plain(model, batch(interactions))
    torch.manual_seed(3)
    assert torch.equal(zero(model, batch(interactions)), expected)


def test_the_contrast_is_added_with_its_weight():
    losses = [NoisyViews(weight=weight) for weight in (0.0, 0.5, 1.0)]
    model, interactions = prepared()
    found = []
    for loss in losses:
        loss.fit(interactions)
        torch.manual_seed(3)
        found.append(loss(model, batch(interactions)).item())
    assert found[2] - found[0] == pytest.approx(2 * (found[1] - found[0]), rel=1e-5)
    assert found[1] > found[0]


def test_views_are_drawn_anew_after_an_epoch_and_repeat_after_a_checkpoint():
    loss = DroppedEdges(drop=0.2)
    model, interactions = prepared(loss=loss)
    step = batch(interactions, 120)  # half of the 240 pairs
    views = []
    for _ in range(4):
        views.append(loss.views(model, step)[0].detach())
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[1], views[2])
    assert torch.equal(views[2], views[3])
    again = DroppedEdges(drop=0.2)
    again.fit(interactions)
    half = DroppedEdges(drop=0.2)
    half.fit(interactions)
    torch.manual_seed(9)
    half.views(model, step)
    again.load_state_dict(half.state_dict())
    assert torch.equal(again.views(model, step)[1], half.views(model, step)[1])


def test_losses_side_by_side_share_one_propagation():
    model, interactions = prepared()
    queries = model.training_queries(batch(interactions))
    assert model.tables()[1] is not None
    assert model.tables()[1].data_ptr() == queries.items.data_ptr()
    queries.vectors.sum().backward()
    assert model.tables()[1].data_ptr() != queries.items.data_ptr()


def test_simgcl_without_layers_and_losses_of_other_models_are_refused():
    catalog, interactions = data()
    with pytest.raises(RecloomError, match="num_layers must be at least 1"):
        SimGCL(catalog, num_layers=0)
    from recloom_graph.pagerank.recommender import PersonalizedPageRank

    loss = NoisyViews(base=Zero())
    with pytest.raises(RecloomError, match="NoisyViews needs a graph model; found PersonalizedPageRank"):
        loss(PersonalizedPageRank(catalog), batch(interactions))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NoisyViews(temperature=0), "temperature must be above 0"),
        (lambda: NoisyViews(noise=0), "noise must be above 0"),
        (lambda: DroppedEdges(drop=1), "drop must be above 0 and below 1"),
        (lambda: DroppedEdges(weight=-1), "weight must be at least 0"),
    ],
)
def test_options_out_of_range(build, message):
    with pytest.raises(RecloomError, match=message):
        build()
