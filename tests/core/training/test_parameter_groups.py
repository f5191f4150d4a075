"""Groups of parameters: each has its own learning rate, which warm-up and schedule scale."""

from __future__ import annotations

import pytest
import torch
from recloom.errors import RecloomError
from recloom.losses import CrossEntropy
from recloom.recommender import Queries, VectorRecommender
from recloom.testing.toys import toy_dataset
from recloom.testing.training import silence, train
from recloom.training.optimizer import cosine_share, optimizer_groups
from torch import nn


class TwoSpeeds(VectorRecommender):
    """A frozen, a slow and a fast part."""

    default_loss = "CrossEntropy"

    def __init__(self, catalog, split="slow"):
        super().__init__(catalog)
        self.split = split
        self.items = nn.Embedding(catalog.num_items + 1, 4, padding_idx=0)
        self.head = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)

    def parameter_groups(self, lr):
        if self.split == "slow":
            return [{"params": self.items.parameters(), "lr": lr / 10}, {"params": self.head.parameters()}]
        if self.split == "forgotten":
            return [{"params": self.items.parameters()}]
        if self.split == "twice":
            return [{"params": self.parameters()}, {"params": self.head.parameters()}]
        return [{"params": self.parameters(), "rate": lr}]

    def query(self, batch):
        return self.head(self.items(batch.history).mean(1))

    def item_vectors(self):
        return self.items.weight

    def training_queries(self, batch):
        real = batch.labels[:, -1] > 0
        return Queries(self.query(batch)[real], batch.labels[real, -1], self.items.weight, batch.user[real])


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toy") / "toy")


def rates(toy, **schedule):
    """Learning rates of both groups in every step of one epoch."""
    from functools import partial

    import lightning as L
    from recloom.data.batches import RecDataModule
    from recloom.training import RecModule

    class Seen(L.Callback):
        def __init__(self):
            self.rates = []

        def on_train_batch_end(self, trainer, *given):
            # the scheduler has stepped for this batch's successor only when the batch is over
            self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    seen = Seen()
    module = RecModule(partial(TwoSpeeds), lr=0.1, **schedule)
    with silence():
        L.Trainer(
            accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=seen,
            use_distributed_sampler=False,
        ).fit(module, RecDataModule(str(toy), batch_size=8))  # fmt: skip
    return seen.rates


def test_two_groups_have_two_learning_rates(toy):
    assert rates(toy)[0] == pytest.approx([0.01, 0.1])


def test_warmup_and_cosine_scale_each_groups_own_rate(toy):
    found = rates(toy, warmup_steps=2, schedule="cosine")
    steps = len(found)
    assert steps == 3
    # read after a step, when the rate of the next one is set: the second step's, the third's, and after the last
    assert [fast for _, fast in found] == pytest.approx([0.1, 0.1, 0.1 * cosine_share(1, 1)])
    assert [slow for slow, _ in found] == pytest.approx([fast / 10 for _, fast in found])


def test_the_slow_group_moves_less_and_the_frozen_one_not_at_all(toy):
    from functools import partial

    torch.manual_seed(0)
    module = train(partial(TwoSpeeds).func, {}, toy, steps=1, lr=0.1)
    fresh = train(TwoSpeeds, {}, toy, steps=1, lr=1e-12)
    moved = {
        name: float((value - fresh.recommender.state_dict()[name]).abs().max())
        for name, value in module.recommender.state_dict().items()
    }
    assert moved["head.weight"] == pytest.approx(0.1, rel=1e-2)  # AdamW's first step is lr in size
    assert moved["items.weight"] == pytest.approx(0.01, rel=1e-2)
    assert moved["frozen.weight"] == pytest.approx(0.0, abs=1e-9)


class Weighted(CrossEntropy):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


def test_parameters_of_the_loss_join_the_group_with_the_runs_own_rate(toy):
    recommender = train(TwoSpeeds, {}, toy, steps=1).recommender
    loss = Weighted()
    slow, plain = optimizer_groups(recommender, loss, 0.1)
    assert loss.scale in set(plain["params"])
    assert len(slow["params"]) == 1
    recommender.parameter_groups = lambda lr: [
        {"params": [p for p in recommender.parameters() if p.requires_grad], "lr": lr / 2}
    ]
    _, own = optimizer_groups(recommender, loss, 0.1)
    assert own["params"] == [loss.scale]
    assert "lr" not in own


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            "forgotten",
            r"parameter_groups\(\) of TwoSpeeds leaves out head\.weight, head\.bias.*never be trained",
        ),
        ("twice", "has a parameter in two groups, or twice in one"),
        ("misspelt", "has a group with 'rate'; expected params, lr"),
    ],
)
def test_groups_that_cannot_be_meant_are_refused(toy, split, message):
    with pytest.raises(RecloomError, match=message):
        train(TwoSpeeds, {"split": split}, toy, steps=1)
