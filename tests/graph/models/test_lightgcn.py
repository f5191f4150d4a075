import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import BPR
from recloom.training.ranking import served_scores
from recloom_graph.models.lightgcn import LightGCN, ServingQuery


def catalog(users: int, items: int) -> Catalog:
    return Catalog(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(1, items + 1)]}),
        pl.DataFrame({"user_id": [f"u{n}" for n in range(1, users + 1)]}),
    )


def interactions(known: Catalog, pairs: list[tuple[int, int]]) -> Interactions:
    frame = pl.DataFrame([(f"u{u}", f"i{i}") for u, i in pairs], schema=["user_id", "item_id"], orient="row")
    return Interactions.from_frame(frame, known)


def fitted(pairs: list[tuple[int, int]], users: int, items: int, **options) -> LightGCN:
    known = catalog(users, items)
    model = LightGCN(known, **options)
    model.fit(interactions(known, pairs))
    return model.eval()


def random_pairs(users: int = 20, items: int = 30, share: float = 0.2) -> list[tuple[int, int]]:
    drawn = np.argwhere(np.random.default_rng(0).random((users, items)) < share)
    return [(int(u) + 1, int(i) + 1) for u, i in drawn]


def set_layer_0(model: LightGCN, users: torch.Tensor, items: torch.Tensor) -> None:
    with torch.no_grad():
        model.users.weight.copy_(users)
        model.items.ids.weight.copy_(items)


def one_hot_on_u1(num_layers: int) -> LightGCN:
    model = fitted([(1, 1), (1, 2), (2, 2), (2, 3)], 2, 3, dim=1, num_layers=num_layers)
    set_layer_0(model, torch.tensor([[0.0], [1.0], [0.0]]), torch.zeros(4, 1))
    return model


def everything(model: LightGCN, history: torch.Tensor, user: torch.Tensor | None = None) -> Batch:
    return Batch.of(history, torch.arange(1, model.num_items + 1)[None], user=user)


def whole_history(model: LightGCN, pairs: list[tuple[int, int]], user: int) -> torch.Tensor:
    return torch.tensor([[i for u, i in pairs if u == user]])


@pytest.mark.fact("A9.4")
def test_layers_of_a_hand_graph():
    layers = [one_hot_on_u1(k).item_vectors()[1:, 0] * (k + 1) for k in range(3)]
    assert (layers[1] - layers[0]).numpy() == pytest.approx([0.7071, 0.5, 0], abs=5e-5)
    users = [one_hot_on_u1(k)._serving_tables().users[1:, 0] * (k + 1) for k in range(3)]
    assert (users[2] - users[1]).numpy() == pytest.approx([0.75, 0.25], abs=1e-6)


@pytest.mark.fact("A9.4")
def test_mean_of_three_layers_of_a_hand_graph():
    final = one_hot_on_u1(2)._serving_tables()
    assert final.users[1:, 0].numpy() == pytest.approx([0.5833, 0.0833], abs=5e-5)
    assert final.items[1:, 0].numpy() == pytest.approx([0.2357, 0.1667, 0], abs=5e-5)


@pytest.mark.fact("A9.4")
def test_no_layer_is_matrix_factorisation():
    model = fitted(random_pairs(), 20, 30, dim=8, num_layers=0)
    users = torch.arange(1, 21)
    scores = model.score(everything(model, torch.zeros(20, 1, dtype=torch.long), users))
    assert torch.allclose(scores, model.users.weight[1:] @ model.items.ids.weight[1:].T, atol=1e-6)


def test_without_layers_cold_start_users_get_zero():
    model = fitted(random_pairs(), 20, 30, dim=8, num_layers=0)
    assert not model.score(everything(model, torch.tensor([[1, 2]]))).any()


@pytest.mark.fact("A9.4")
def test_ranking_is_the_same_for_sum_and_mean():
    pairs = random_pairs()
    model = fitted(pairs, 20, 30, dim=8)
    adjacency = model.graph.matrix().to_dense()
    power = total = torch.cat([model.users.weight, model.items.ids.weight]).detach()
    for _ in range(3):
        power = adjacency @ power
        total = total + power
    summed = total[1:21] @ total[22:].T
    scores = model.score(everything(model, torch.zeros(20, 1, dtype=torch.long), torch.arange(1, 21)))
    in_order = summed.gather(1, scores.argsort(descending=True))
    assert (in_order.diff() < 1e-5).all()
    assert torch.allclose(scores * 16, summed, atol=1e-5)


@pytest.mark.fact("A9.4")
def test_nodes_without_edges_stay_finite():
    model = fitted([(1, 1)], 2, 3)
    scores = model.score(everything(model, torch.tensor([[0], [2], [2]]), torch.tensor([1, 2, 0])))
    assert torch.isfinite(scores).all()
    assert scores[1:].tolist() == [[0] * 3] * 2  # nothing is known of them: a cold item has no neighbour


def test_a_user_without_edges_and_history_gets_what_is_popular_and_no_ties():
    model = fitted([(1, 1), (1, 2), (2, 2)], 3, 3)
    rows = everything(model, torch.tensor([[0], [0], [2], [0]]), torch.tensor([1, 3, 3, 0]))
    popularity = torch.tensor([0.0, 1, 2, 0])
    with torch.no_grad():
        assert model.knows_users(rows.user).tolist() == [True, False, False, False]
        found = served_scores(model, popularity, rows)
        assert found[[1, 3]].tolist() == [[1, 2, 0]] * 2
        torch.testing.assert_close(found[[0, 2]], model.score(rows)[[0, 2]])


@pytest.mark.fact("A9.4")
def test_training_lowers_bpr_from_log_2_and_ranks_positives_first():
    torch.manual_seed(0)
    pairs = [(u, i) for u in range(1, 11) for i in range(1, 11) if (u + i) % 2]  # two separate blocks
    model = fitted(pairs, 10, 10, dim=16, num_layers=2).train()
    loss = BPR(l2=1e-4)
    loss.fit(interactions(catalog(10, 10), pairs))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    values = []
    for _ in range(60):
        users, items = torch.tensor(pairs)[torch.randint(len(pairs), (256,))].T
        value = loss(model, Batch.of(torch.zeros(256, 1).long(), user=users, labels=items[:, None]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[0] == pytest.approx(0.6931, abs=0.02)
    assert values[-1] < 0.1
    model.eval()
    scores = model.score(everything(model, torch.zeros(10, 1, dtype=torch.long), torch.arange(1, 11)))
    best = scores.topk(5).indices + 1
    assert ((best + torch.arange(1, 11)[:, None]) % 2 == 1).all()
    assert not model.users.weight[0].any()  # padding was not trained
    assert not model.items.ids.weight[0].any()


@pytest.mark.fact("A9.4")
def test_bpr_at_equal_scores_is_log_2_and_the_penalty_is_on_layer_0():
    model = fitted(random_pairs(), 20, 30, dim=8)
    batch = Batch.of(torch.zeros(2, 1).long(), user=torch.tensor([3, 4]), labels=torch.tensor([[5], [6]]))
    with torch.no_grad():
        model.users.weight.zero_()
        model.items.ids.weight.fill_(2.0)  # every item alike on layer 0, not on the final layer
        model.graph.values.zero_()
    expected = 0.6931 + 0.01 * 0.5 * (0 + 8 * 4 + 8 * 4)
    assert BPR(l2=0.01)(model, batch).item() == pytest.approx(expected, abs=1e-4)


def test_mixed_precision_trains_with_gradients_in_full():
    model = fitted(random_pairs(), 20, 30, dim=8).train()
    batch = Batch.of(torch.zeros(5, 1).long(), user=torch.arange(1, 6), labels=torch.arange(1, 6)[:, None])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        BPR(l2=1e-4)(model, batch).backward()
    gradient = model.users.weight.grad
    assert gradient.dtype == torch.float32
    assert gradient[1:6].any()
    assert torch.isfinite(gradient).all()


def test_training_queries_are_the_final_vectors_of_the_batch():
    model = fitted(random_pairs(), 20, 30, dim=8)
    final = model._serving_tables()
    batch = Batch.of(
        torch.zeros(3, 1, dtype=torch.long),
        user=torch.tensor([4, 4, 7]),
        labels=torch.tensor([[5], [6], [7]]),
    )
    q = model.train().training_queries(batch)
    assert torch.allclose(q.vectors, final.users[[4, 4, 7]])
    assert torch.allclose(q.items, final.items)
    assert q.targets.tolist() == [5, 6, 7]
    assert q.users.tolist() == [4, 4, 7]
    assert q.vectors.requires_grad
    assert not q.items[0].any()


def test_initial_vectors_are_layer_0():
    model = fitted(random_pairs(), 20, 30, dim=8)
    users, items = model.initial_vectors(torch.tensor([2, 3]), torch.tensor([1, 9, 30]))
    assert torch.equal(users, model.users.weight[2:4])
    assert torch.equal(items, model.items.ids.weight[[1, 9, 30]])


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_fold_in_of_a_known_user_is_the_propagation_without_the_own_layer_0(num_layers):
    pairs = random_pairs()
    model = fitted(pairs, 20, 30, dim=8, num_layers=num_layers)
    with torch.no_grad():
        model.users.weight[7] = 0
    folded = model._serving_tables().fold_in(whole_history(model, pairs, 7))
    assert torch.allclose(folded[0], model._serving_tables().users[7], atol=1e-6)
    other = model._serving_tables().fold_in(whole_history(model, pairs, 8))[0]
    own = model.users.weight[8] / (num_layers + 1)
    assert torch.allclose(other, model._serving_tables().users[8] - own, atol=1e-6)


def test_fold_in_of_a_cold_start_user_nears_the_extended_graph_as_items_get_popular():
    errors = []
    for users in (10, 40, 160):
        pairs = [(u, i) for u in range(1, users + 1) for i in range(1, 7) if (u + i) % 3]
        new_user = [(users + 1, i) for i in (1, 2, 4)]
        small = fitted(pairs, users + 1, 6, dim=4, num_layers=2)
        extended = fitted(pairs + new_user, users + 1, 6, dim=4, num_layers=2)
        generator = torch.Generator().manual_seed(1)
        rows = torch.randn(users + 2, 4, generator=generator)
        rows[[0, users + 1]] = 0
        for model in (small, extended):
            set_layer_0(model, rows, torch.randn(7, 4, generator=torch.Generator().manual_seed(2)))
        folded = small._serving_tables().fold_in(torch.tensor([[1, 2, 4]]))[0]
        wanted = extended._serving_tables().users[users + 1]
        errors.append(float((folded - wanted).norm() / wanted.norm()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.05


def test_fold_in_counts_an_item_once_and_skips_padding():
    final = fitted(random_pairs(), 20, 30, dim=8)._serving_tables()
    folded = final.fold_in(torch.tensor([[0, 0, 3, 5], [5, 3, 3, 5]]))
    assert torch.allclose(folded[0], folded[1])
    assert not final.fold_in(torch.zeros(2, 0, dtype=torch.long)).any()


def test_known_users_keep_their_own_vector_and_others_are_folded_in():
    model = fitted(random_pairs(), 20, 30, dim=8)
    history = torch.tensor([[1, 2], [1, 2]])
    query = model.query(everything(model, history, torch.tensor([4, 0])))
    assert torch.equal(query[0], model._serving_tables().users[4])
    assert torch.equal(query[1], model._serving_tables().fold_in(history)[1])


def test_vectors_are_computed_once_in_eval_mode():
    model = fitted(random_pairs(), 20, 30, dim=8)
    assert model._serving_tables() is model._serving_tables()
    assert not model.item_vectors().requires_grad


def test_vectors_follow_training_loading_and_fitting():
    pairs = random_pairs()
    model = fitted(pairs, 20, 30, dim=8)
    batch = everything(model, torch.tensor([[0]]), torch.tensor([4]))
    before = model.score(batch)

    other = fitted(pairs, 20, 30, dim=8)
    expected = other.score(batch)
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.score(batch), expected)
    assert not torch.allclose(before, expected)

    model.training = True  # as Lightning does after validation, without a call of train()
    model.training_queries(
        Batch.of(torch.zeros(1, 1).long(), user=torch.tensor([4]), labels=torch.tensor([[5]]))
    )
    with torch.no_grad():
        model.users.weight[4] += 1
    model.eval()
    trained = model.score(batch)
    assert not torch.allclose(trained, expected)

    model.fit(interactions(catalog(20, 30), pairs[:50]))
    assert not torch.allclose(model.score(batch), trained)


def test_a_checkpoint_restores_the_scores():
    model = fitted(random_pairs(), 20, 30, dim=8)
    again = LightGCN(catalog(20, 30), dim=8).eval()
    state = model.state_dict()
    for name in ("crow", "col", "values"):
        setattr(again.graph, name, torch.empty_like(state[f"graph.{name}"]))
    again.load_state_dict(state)
    batch = everything(model, torch.tensor([[3, 4], [3, 4]]), torch.tensor([4, 0]))
    assert torch.equal(again.score(batch), model.score(batch))
    assert set(state) == {"users.weight", "items.ids.weight", "graph.crow", "graph.col", "graph.values"}


def test_the_export_holds_no_graph_and_scores_alike():
    model = fitted(random_pairs(), 20, 30, dim=8)
    spec = model.export()
    assert spec.inputs == ("user", "history")
    assert all(not table.is_sparse and table.layout == torch.strided for table in spec.module.buffers())
    rows, length = torch.export.Dim("rows"), torch.export.Dim("length")
    example = (torch.tensor([1, 0]), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    shapes = ({0: rows}, {0: rows, 1: length})
    traced = torch.export.export(spec.module, example, dynamic_shapes=shapes).module()
    user, history = torch.tensor([3, 0, 0, 20]), torch.tensor([[1, 2, 2, 9, 4]] * 4)
    assert torch.allclose(traced(user, history), model.score(everything(model, history, user)), atol=1e-6)


def test_scores_before_fit_say_what_to_do():
    with pytest.raises(RecloomError, match=r"no graph yet.*fit\(interactions\)"):
        LightGCN(catalog(1, 1)).item_vectors()


def test_a_negative_number_of_layers_is_refused():
    with pytest.raises(RecloomError, match="num_layers must be at least 0; found -1"):
        LightGCN(catalog(1, 1), num_layers=-1)


@pytest.mark.parametrize(("users", "items"), [(4, 9), (9, 4)])
@pytest.mark.parametrize("layers", [1, 3])
def test_tables_that_are_served_by_numpy(users, items, layers):
    """Also of users without an edge, of whom there are two, and of visitors with a history."""
    pairs = [(u, i) for u, i in random_pairs(users, items, 0.5) if u > 2]
    model = fitted(pairs, users, items, dim=3, num_layers=layers)
    a = np.zeros((users + items + 2,) * 2)
    for u, i in pairs:
        a[u, users + 1 + i] = a[users + 1 + i, u] = 1
    degree = a.sum(1)
    norm = np.maximum(degree, 1)
    stack = [
        np.concatenate([t.detach().numpy() for t in (model.users.weight, model.items.table())]).astype(float)
    ]
    for _ in range(layers):
        stack.append(a / np.sqrt(norm[:, None] * norm[None]) @ stack[-1])
    final = sum(stack) / (layers + 1)
    history = torch.tensor([[1, 3, 3, 0], [0, 0, 0, 2], [0, 0, 0, 0]])
    found = model.query(everything(model, history, torch.tensor([0, 1, users]))).detach().numpy()
    lower = sum(stack[:-1]) / (layers + 1)
    for row, seen in ((0, [1, 3]), (1, [2])):
        nodes = [users + 1 + item for item in seen if degree[users + 1 + item]]
        folded = sum((lower[n] / np.sqrt(degree[n] * len(seen)) for n in nodes), np.zeros(3))
        assert found[row] == pytest.approx(folded, abs=1e-6)
    assert found[2] == pytest.approx(final[users], abs=1e-6)
    assert model.item_vectors().detach().numpy() == pytest.approx(final[users + 1 :], abs=1e-6)
    served = model._serving_tables()
    assert served.in_graph.tolist() == (degree[: users + 1] > 0).tolist()
    exported = model.export().module(torch.tensor([0, 1, users]), history)
    assert exported.detach().numpy() == pytest.approx(found @ final[users + 2 :].T, abs=1e-5)
    query = ServingQuery(served)(torch.tensor([0, 1, users]), history)
    assert query.detach().numpy() == pytest.approx(found, abs=1e-6)
    onward = torch.nn.Linear(3, 2)
    assert torch.allclose(ServingQuery(served, onward)(torch.tensor([0, 1, users]), history), onward(query))


def test_rows_begin_at_a_tenth_and_padding_at_zero():
    torch.manual_seed(0)
    model = LightGCN(catalog(200, 300))
    for table in (model.users.weight, model.items.table()):
        assert table[1:].std().item() == pytest.approx(0.1, rel=0.05)
        assert abs(table[1:].mean().item()) < 0.01
        assert not table[0].any()


def test_vectors_are_read_by_the_name_that_is_asked_for():
    known = catalog(2, 3)
    items = known.items.with_columns(vector=pl.Series([[1.0, 2.0]] * 3))
    with pytest.raises(RecloomError, match="'plots'"):
        LightGCN(Catalog(items, known.users), dim=2, item_input="vector", vectors="plots")


def test_new_items_are_nodes_without_edges():
    known = catalog(3, 4)

    def with_vectors(count):
        vectors = torch.randn(count, 2, generator=torch.Generator().manual_seed(0)).tolist()
        ids = [f"i{n}" for n in range(1, count + 1)]
        return Catalog(pl.DataFrame({"item_id": ids, "vector": vectors}), known.users)

    pairs = [(1, 1), (1, 2), (2, 2), (2, 3), (3, 4)]
    model = LightGCN(with_vectors(4), dim=3, num_layers=2, item_input="vector")
    model.fit(interactions(known, pairs))
    before = model.eval().item_vectors()
    model.extend(with_vectors(6))
    after = model.item_vectors()
    assert (model.num_items, after.shape) == (6, (7, 3))
    assert model.graph.matrix().shape == (3 + 1 + 6 + 1,) * 2
    assert torch.allclose(after[:5], before, atol=1e-6)
    assert torch.allclose(after[5:], model.items.table()[5:] / 3, atol=1e-6)
    assert after[5:].abs().min() > 0
