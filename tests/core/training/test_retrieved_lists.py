"""A recommender with a `retrieve` of its own is measured and served by its lists."""

from __future__ import annotations

from functools import partial

import lightning as L
import pytest
import torch
from recloom.batch import Batch
from recloom.data.batches import RecDataModule
from recloom.errors import RecloomError
from recloom.recommender import Recommender
from recloom.runs.run import Run
from recloom.schemas import Protocol
from recloom.testing.toys import toy_dataset
from recloom.testing.training import silence
from recloom.training import RecModule
from recloom.training.ranking import list_columns, scores_of_lists

METRICS = ["ndcg@5", "recall@5", "mrr@3", "coverage@5"]


class Scored(Recommender):
    """Item n scores -n, so the first items that are allowed are the list; item 1 and item 2 score the same."""

    def score(self, batch):
        return -batch.candidates.clamp(min=2).float().expand(len(batch), -1)


class Listed(Scored):
    """The same order by lists, without ties: of what is allowed the lowest numbers, `most` at most."""

    def __init__(self, catalog, most=99, fault=""):
        super().__init__(catalog)
        self.most, self.fault, self.asked = most, fault, []

    def retrieve(self, batch, k):
        assert batch.candidates.shape[0] == len(batch)
        self.asked.append(k)
        allowed = (
            batch.candidates.masked_fill(batch.candidates == 0, 10**6).sort(1).values[:, : min(k, self.most)]
        )
        items = allowed.masked_fill(allowed == 10**6, 0)
        if self.fault == "twice":
            items = items[:, :1].expand(-1, 2)
        if self.fault == "masked":
            items = batch.history[:, -1:]
        return items, -items.float().masked_fill(items == 0, float("inf"))


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toy") / "toy")


def after_test(toy, kind, metrics=METRICS, **options):
    config = options.pop("config", {})
    data = RecDataModule(str(toy), **options)
    module = RecModule(partial(kind, **config), metrics=metrics)
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    with silence():
        trainer.test(module, data, verbose=False)
    return module, data


def values(module):
    return {name: value for name, value in module.measurement.meter.compute().items() if "/" not in name}


def by_hand(data, most=99, kept=False):
    """Metrics of the lists, a request at a time: the allowed items in their order."""
    visible, held = data.visible["test"], data.parts["test"]
    found = {"recall@5": [], "ndcg@5": [], "mrr@3": []}
    listed = set()
    for user in torch.nonzero(held.lengths)[:, 0].tolist():
        seen = set() if kept else set(visible.items[visible.starts[user] : visible.stops[user]].tolist())
        (target,) = held.items[held.starts[user] : held.stops[user]].tolist()
        items = [item for item in range(1, data.num_items + 1) if item not in seen][: min(5, most)]
        listed |= set(items)
        rank = items.index(target) + 1 if target in items else None
        found["recall@5"].append(float(rank is not None))
        found["ndcg@5"].append(0 if rank is None else 1 / torch.tensor(rank + 1.0).log2().item())
        found["mrr@3"].append(1 / rank if rank is not None and rank <= 3 else 0.0)
    return {name: sum(each) / len(each) for name, each in found.items()} | {
        "coverage@5": len(listed) / data.num_items
    }


@pytest.mark.parametrize(("most", "seen"), [(99, "masked"), (99, "kept"), (2, "masked")])
def test_what_is_not_in_a_list_is_missed_and_nothing_is_tied(toy, most, seen):
    module, data = after_test(toy, Listed, config={"most": most}, seen=seen)
    assert values(module) == pytest.approx(by_hand(data, most, seen == "kept"), abs=1e-6)
    assert set(module.recommender.asked) == {5}  # no longer than the metrics read
    if most == 99 and seen == "masked":
        scored, _ = after_test(toy, Scored)
        assert values(scored)["mrr@3"] <= values(module)["mrr@3"]


def test_the_protocol_says_what_was_measured(toy):
    assert after_test(toy, Listed)[1].protocol("test").measured == "lists"
    assert after_test(toy, Scored)[1].protocol("test").measured == "scores"
    rated = {"candidates": "rated", "seen": "kept", "positive": 4.0}
    module, data = after_test(
        toy, Listed, ["auc"], **rated
    )  # labelled candidates are scored, whoever does it
    assert data.protocol("test").measured == "scores"
    assert not module.recommender.asked


def test_a_protocol_from_before_is_one_of_scores(toy):
    record = after_test(toy, Scored)[1].protocol("test").model_dump()
    del record["measured"]
    assert Protocol.model_validate(record).measured == "scores"


def test_held_out_items_of_the_masked_history_are_counted(tmp_path):
    from recloom.testing.toys import write_toy

    day, first = 86_400, 1_500_000_000
    rows = [(user, item, first + day * at) for user in range(6) for at, item in enumerate((0, 1, 2, 3, 0))]
    data = write_toy(tmp_path / "again", rows, [f"n{n}" for n in range(8)])
    for kind in (Listed, Scored):
        assert after_test(data, kind)[0].measurement.masked_targets == 6


def test_sampled_candidates_are_retrieved_from_and_users_without_history_get_what_is_popular(toy):
    module, data = after_test(toy, Listed, candidates="uniform-5", config={"most": 3})
    assert data.protocol("test").measured == "lists"
    stranger = Batch.of(torch.zeros(1, 1, dtype=torch.long), torch.arange(1, data.num_items + 1)[None])
    items, scores = module.top(stranger, 4)
    best = module.popularity[1:].sort(descending=True, stable=True).indices[:4] + 1
    assert items[0].tolist() == best.tolist()
    assert scores[0].tolist() == module.popularity[best].tolist()


def test_what_is_served_is_what_was_measured(toy, tmp_path):
    module, _ = after_test(toy, Listed, config={"most": 3})
    run = Run.of(tmp_path, module)
    first, second = (run.catalog.item_ids(torch.tensor([n]).numpy())[0] for n in (1, 2))
    found = [one.item_id for one in run.recommend([first], k=5, exclude=[second])]
    assert found == list(run.catalog.item_ids(torch.tensor([3, 4, 5]).numpy()))


def test_a_metric_of_every_rank_is_refused_where_there_are_lists(toy):
    with pytest.raises(RecloomError, match=r"metric 'ndcg' reads the rank of every item, .* such as ndcg@10"):
        after_test(toy, Listed, ["ndcg"])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("twice", "of Listed gave an item twice in one list"),
        ("masked", "no candidate of its request, or is masked"),
    ],
)
def test_lists_that_break_the_contract_are_refused(toy, fault, message):
    with pytest.raises(RecloomError, match=message):
        after_test(toy, Listed, config={"fault": fault})


def test_lists_become_scores_without_ties():
    columns = list_columns(torch.tensor([[5, 2, 0], [3, 0, 0]]), torch.tensor([[2, 3, 5], [0, 3, 5]]), "X")
    assert columns.tolist() == [[2, 0, -1], [1, -1, -1]]
    inf = float("inf")
    assert scores_of_lists(columns, 3).tolist() == [[2.0, -inf, 3.0], [-inf, 3.0, -inf]]
