"""Card A4: facts by number."""

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import BPR
from recloom_graph.losses.contrast import NoisyViews
from recloom_graph.losses.info_nce import info_nce
from recloom_graph.losses.rlmrec import RLMRecCon, RLMRecGen, derangement, network
from recloom_graph.models.contrastive import SimGCL
from recloom_graph.models.lightgcn import LightGCN

USERS, ITEMS, SIZE = 12, 20, 6


def data(user_vectors: bool = True) -> tuple[Catalog, Interactions]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(USERS + ITEMS, SIZE, generator=generator).tolist()
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(USERS)]})
    if user_vectors:
        users = users.with_columns(vector=pl.Series(rows[:USERS]))
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "vector": rows[USERS:]})
    catalog = Catalog(items, users)
    pairs = [
        (f"u{u}", f"i{i}")
        for u in range(USERS)
        for i in torch.randperm(ITEMS, generator=generator)[:6].tolist()
    ]
    return catalog, Interactions.from_frame(
        pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row"), catalog
    )


def prepared(loss, kind=LightGCN, user_vectors: bool = True):
    catalog, interactions = data(user_vectors)
    torch.manual_seed(1)
    model = kind(catalog, dim=4, num_layers=2)
    model.fit(interactions)
    loss.prepare(model, catalog)
    loss.fit(interactions)
    return model.train(), interactions


def batch(interactions: Interactions, size: int = 16) -> Batch:
    users, items = interactions.pairs()
    return Batch.of(torch.zeros(size, 1, dtype=torch.long), user=users[:size], labels=items[:size, None])


def value(loss, model, step: Batch) -> float:
    torch.manual_seed(5)
    return loss(model, step).item()


@pytest.mark.fact("A4.1")
def test_the_loss_of_two_pairs_and_of_equal_texts():
    two = torch.eye(2)
    assert info_nce(two, two, torch.arange(2), 1.0).item() == pytest.approx(0.31326, abs=1e-5)
    assert info_nce(two, two, torch.arange(2), 0.2).item() == pytest.approx(0.006715, abs=1e-6)
    same = info_nce(torch.randn(4, 3), torch.ones(9, 3), torch.arange(4), 0.2)
    assert same.item() == pytest.approx(torch.tensor(9.0).log().item(), abs=1e-5)


@pytest.mark.parametrize("kind", [LightGCN, SimGCL])
@pytest.mark.fact("A4.2")
def test_weight_0_is_the_loss_of_the_backbone_exactly(kind):
    loss = RLMRecCon(weight=0)
    model, interactions = prepared(loss, kind)
    backbone = BPR(l2=1e-4) if kind is LightGCN else NoisyViews()
    backbone.fit(interactions)
    assert value(loss, model, batch(interactions)) == value(backbone, model, batch(interactions))


@pytest.mark.fact("A4.3")
def test_layer_sizes_of_the_text_network():
    def count(size: int, out: int) -> int:
        return sum(parameter.numel() for parameter in network(size, out).parameters())

    assert count(1536, 32) == 1_230_128
    assert count(384, 32) == 86_768


@pytest.mark.fact("A4.4")
def test_ratio_0_changes_nothing_and_ratio_1_hides_every_id():
    none = RLMRecGen(base=BPR(), ratio=0)
    model, interactions = prepared(none)
    plain = BPR()
    plain.fit(interactions)
    assert value(none, model, batch(interactions)) == value(plain, model, batch(interactions))

    every = RLMRecGen(base=BPR(), ratio=1)
    model, interactions = prepared(every)
    hidden = every.draw_hidden(model)
    assert len(hidden) == USERS + ITEMS
    with model.masked(hidden, torch.full((4,), 0.5)):
        layer = model.layer0()
    assert (layer[hidden] == 0.5).all()
    assert (layer[0] == 0).all()


@pytest.mark.fact("A4.4")
def test_a_small_ratio_hides_no_node_rather_than_one():
    loss = RLMRecGen(ratio=0.9 / (USERS + ITEMS))
    model, _ = prepared(loss)
    assert len(loss.draw_hidden(model)) == 0


@pytest.mark.fact("A4.5")
def test_one_hidden_node_costs_nothing_and_texts_get_no_gradient():
    loss = RLMRecGen(base=BPR(), ratio=1.5 / (USERS + ITEMS))
    model, interactions = prepared(loss)
    plain = BPR()
    plain.fit(interactions)
    hidden = loss.draw_hidden(model)
    assert len(hidden) == 1
    found = loss.reconstruction(torch.cat(model.tables()), hidden)
    assert found.item() == pytest.approx(0, abs=1e-6)
    loss.vectors.requires_grad_()
    loss.reconstruction(torch.cat(model.tables()), torch.tensor([1, 2, 3])).backward()
    assert all(parameter.grad is not None for parameter in loss.network.parameters())
    assert "vectors" not in dict(loss.named_parameters())


@pytest.mark.fact("A4.6")
def test_a_user_outside_the_batch_matters_and_an_item_outside_does_not():
    loss = RLMRecCon(base=BPR())
    model, interactions = prepared(loss)
    step = batch(interactions, 6)  # all of one user
    before = loss.alignment(model, step)

    def moved(node: int) -> float:
        kept = loss.vectors[node].clone()
        loss.vectors[node] = -kept
        torch.manual_seed(2)
        found = loss.alignment(model, step).item()
        loss.vectors[node] = kept
        return found

    torch.manual_seed(2)
    before = loss.alignment(model, step).item()
    absent = next(n for n in range(1, USERS + 1) if n not in step.user.tolist())
    assert moved(absent) != pytest.approx(before)
    torch.manual_seed(2)
    negatives = interactions.draw_unseen(step.user, 1)[:, 0].tolist()
    outside = next(
        n for n in range(1, ITEMS + 1) if n not in step.labels[:, 0].tolist() and n not in negatives
    )
    assert moved(USERS + 1 + outside) == pytest.approx(before)


@pytest.mark.fact("A4.7")
def test_the_length_of_a_text_vector_after_the_network_does_not_matter():
    loss = RLMRecCon(base=BPR())
    model, interactions = prepared(loss)
    before = value(loss, model, batch(interactions))
    with torch.no_grad():
        loss.network[2].weight *= 10
        loss.network[2].bias *= 10
    assert value(loss, model, batch(interactions)) == pytest.approx(before, rel=1e-5)


def test_the_shuffled_control_gives_everybody_another_text():
    loss, control = RLMRecCon(), RLMRecCon(shuffled=True)
    prepared(loss)
    prepared(control)
    first = USERS + 1
    for part in (slice(1, first), slice(first + 1, None)):
        true, turned_ = loss.vectors[part], control.vectors[part]
        assert (true != turned_).any(1).all()
        assert torch.equal(true.sort(0).values, turned_.sort(0).values)
    assert (control.vectors[[0, first]] == 0).all()


def test_a_permutation_that_leaves_nothing_where_it_was():
    for count in (2, 3, 50):
        order = derangement(count, torch.Generator().manual_seed(count))
        assert sorted(order.tolist()) == list(range(count))
        assert (order != torch.arange(count)).all()


def test_without_vectors_of_users_theirs_is_the_mean_of_their_training_items():
    loss = RLMRecCon()
    _, interactions = prepared(loss, user_vectors=False)
    users, items = interactions.pairs()
    mine = loss.vectors[USERS + 1 :][items[users == 3]]
    assert torch.allclose(loss.vectors[3], mine.mean(0), atol=1e-6)


def test_items_without_text_are_left_out():
    loss = RLMRecCon(base=BPR())
    model, interactions = prepared(loss)
    step = batch(interactions)
    loss.vectors[USERS + 1 :] = 0
    loss.users_from_items = False
    loss.fit(interactions)
    torch.manual_seed(2)
    final = torch.cat(model.tables())
    only_users = loss.alignment_term(final, step.user, torch.arange(1, USERS + 1))
    assert loss.alignment(model, step).item() == pytest.approx(only_users.item(), rel=1e-5)


def test_vectors_of_two_sizes_and_other_models_are_refused():
    catalog, _ = data()
    users = catalog.users.with_columns(vector=pl.Series([[1.0, 2.0]] * USERS))
    mixed = Catalog(catalog.items, users)
    with pytest.raises(RecloomError, match="of one size; found 2 for users and 6 for items"):
        RLMRecCon().prepare(LightGCN(mixed, dim=4), mixed)
    from recloom_graph.pagerank.recommender import PersonalizedPageRank

    with pytest.raises(RecloomError, match="RLMRecGen needs a graph model"):
        RLMRecGen().prepare(PersonalizedPageRank(catalog), catalog)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RLMRecCon(weight=-1), "weight must be at least 0"),
        (lambda: RLMRecCon(temperature=0), "temperature must be above 0"),
        (lambda: RLMRecGen(ratio=1.1), "ratio must be between 0 and 1"),
    ],
)
def test_options_out_of_range(build, message):
    with pytest.raises(RecloomError, match=message):
        build()


@pytest.mark.parametrize("loss", ["RLMRecCon", "RLMRecGen"])
def test_a_run_is_trained_resumed_and_loaded_without_its_loss(tmp_path, loss):
    import recloom
    from recloom.testing.toys import toy_dataset

    data_folder = toy_dataset(tmp_path / "data")
    catalog = Catalog.load(data_folder)
    vectors = tmp_path / "vectors.parquet"
    numbers = torch.randn(catalog.num_items, 5, generator=torch.Generator().manual_seed(0)).tolist()
    pl.DataFrame(
        {"item_id": catalog.items["item_id"], "vector": pl.Series(numbers, dtype=pl.List(pl.Float32))}
    ).write_parquet(vectors)
    config = {
        "trainer": {"enable_progress_bar": False},
        "model": {"loss": {"class_path": loss, "init_args": {}}},
        "data": {"vectors": str(vectors), "batch_size": 256},
    }
    run = recloom.fit(
        data_folder, "LightGCN", {"dim": 8}, run=tmp_path / "run", seed=0, max_epochs=1, config=config
    )
    again = recloom.load(tmp_path / "run")
    assert again.test().metrics["ndcg@10"].mean == run.test().metrics["ndcg@10"].mean
