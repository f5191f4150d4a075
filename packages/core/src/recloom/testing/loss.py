"""The contract of a loss over item vectors as a test class.

from recloom.testing import LossTests

class TestMargin(LossTests):
    loss = Margin
    config = {"margin": 0.5}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from ..batch import Batch
from ..data.catalog import Catalog
from ..data.interactions import Interactions
from ..losses import Loss
from ..recommender import Queries, VectorRecommender
from ..spec import build, describe
from .toys import toy_dataset

SEED = 7


class LastItemVectors(VectorRecommender):
    """Scores an item by the inner product of its vector with the query vector of the last item; two tables.

    A linear layer that starts as the identity makes the queries, so that they are bfloat16 under autocast.

    Args:
        catalog: items and users.
        dim: width of the vectors.
    """

    causal = True

    def __init__(self, catalog: Catalog, dim: int = 8) -> None:
        super().__init__(catalog)
        self.queries = nn.Embedding(self.num_items + 1, dim, padding_idx=0)
        self.items = nn.Embedding(self.num_items + 1, dim, padding_idx=0)
        self.linear = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.linear.weight)

    def query(self, batch: Batch) -> Tensor:
        vectors: Tensor = self.linear(self.queries(batch.history[:, -1]))
        return vectors

    def item_vectors(self) -> Tensor:
        return self.items.weight

    def initial_vectors(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        return self.queries(items), self.items(items)

    def training_queries(self, batch: Batch) -> Queries:
        real = batch.labels > 0  # (B, L)
        users = batch.user[:, None].expand_as(real)[real]
        return Queries(
            self.linear(self.queries(batch.history)[real]), batch.labels[real], self.items.weight, users
        )


class LossTests:
    """Subclass it, name a loss over item vectors, and pytest checks the contract.

    For a loss that asks the recommender for `training_queries`. Others (of labelled candidates, of a recommender of
    their own) name the recommender in `recommender` and override `batch` with what that needs.

    Attributes:
        loss: the class under test.
        config: its options.
        recommender: what it is computed for; by default two tables of vectors.
        steps, lr: how long and how fast the toy is trained in which the targets must rise.
    """

    loss: ClassVar[type[Loss]]
    config: ClassVar[dict[str, Any]] = {}
    recommender: ClassVar[type[VectorRecommender]] = LastItemVectors
    steps: ClassVar[int] = 60
    lr: ClassVar[float] = 0.05

    # -- fixtures -------------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def toy(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, Interactions]:
        """Catalogue and interactions of a small dataset."""
        folder: Path = toy_dataset(tmp_path_factory.mktemp("toy") / "toy")
        catalog = Catalog.load(folder)
        return catalog, Interactions.load(folder, catalog)

    @pytest.fixture
    def model(self, toy: tuple[Catalog, Interactions]) -> VectorRecommender:
        """A new recommender, the same for every check."""
        torch.manual_seed(SEED)
        return self.recommender(toy[0])

    @pytest.fixture
    def made(self, toy: tuple[Catalog, Interactions], model: VectorRecommender) -> Loss:
        """The loss as training makes it: built, prepared and fitted."""
        made = self.loss(**self.config)
        made.prepare(model, toy[0])
        made.fit(toy[1])
        return made

    @pytest.fixture
    def batch(self, toy: tuple[Catalog, Interactions]) -> Batch:
        """Training rows of the first users: at every position of a history the item that follows, 0 = none."""
        users = torch.arange(1, 9)
        items, _ = toy[1].last(users, 9)
        return Batch.of(items[:, :-1], user=users, labels=items[:, 1:] * (items[:, :-1] > 0))

    # -- checks ---------------------------------------------------------------------------------------

    def test_it_is_one_finite_number(self, made: Loss, model: VectorRecommender, batch: Batch) -> None:
        """A scalar that is finite, and differentiable where the recommender is."""
        value = self.value(made, model, batch)
        assert value.shape == (), self._says(f"it has shape {tuple(value.shape)}; expected one number, ()")
        assert value.isfinite(), self._says(f"it is {float(value)}")
        torch.autograd.backward(value)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients, self._says("no parameter of the recommender gets a gradient")
        assert all(g.isfinite().all() for g in gradients), self._says("a gradient is not finite")
        assert any(bool(g.abs().sum() > 0) for g in gradients), self._says("all gradients are 0")

    def test_padding_is_no_target_and_no_negative(
        self, made: Loss, model: VectorRecommender, batch: Batch
    ) -> None:
        """Rows without a label change nothing, and item 0 gets no gradient."""
        nothing = torch.zeros_like(batch.history[:2])
        padded = Batch.of(
            torch.cat([batch.history, nothing]),
            user=torch.cat([batch.user, batch.user[:2]]),
            labels=torch.cat([batch.labels, nothing]),
        )
        alone, among = self.value(made, model, batch), self.value(made, model, padded)
        apart = float((alone - among).detach().abs())
        assert apart <= 1e-5 * max(1.0, float(alone.detach().abs())), self._says(
            f"rows of padding change it by {apart:.3g}"
        )
        torch.autograd.backward(among)
        table = model.item_vectors()
        if isinstance(table, nn.Parameter) and table.grad is not None:
            touched = float(table.grad[0].abs().max())
            assert touched == pytest.approx(0.0, abs=1e-12), self._says(
                f"item 0 (padding) gets a gradient ({touched:.3g})"
            )

    def test_a_batch_without_a_target_gives_no_gradient(
        self, made: Loss, model: VectorRecommender, batch: Batch
    ) -> None:
        """A batch of padding alone, which the last one of an epoch may be, is 0 or finite and moves nothing."""
        empty = Batch.of(batch.history * 0, user=batch.user, labels=batch.labels * 0)
        value = self.value(made, model, empty)
        assert value.isfinite(), self._says(f"a batch without a target gives {float(value)}")

    def test_training_with_it_raises_the_targets(
        self, made: Loss, model: VectorRecommender, batch: Batch
    ) -> None:
        """After some steps the mean rank of the targets among all items is better than before."""
        before = self.mean_rank(model, batch)
        optimiser = torch.optim.AdamW([*model.parameters(), *made.parameters()], lr=self.lr, weight_decay=0.0)
        for step in range(self.steps):
            torch.manual_seed(step)
            optimiser.zero_grad()
            made(model, batch).backward()
            optimiser.step()
        after = self.mean_rank(model, batch)
        assert after < 0.7 * before, self._says(
            f"{self.steps} steps moved the targets from mean rank {before:.1f} to {after:.1f}; expected below "
            f"{0.7 * before:.1f}. Raise `steps` or `lr`, or look for a sign that is turned round"
        )

    def test_it_is_finite_in_bfloat16(self, made: Loss, model: VectorRecommender, batch: Batch) -> None:
        """Under autocast to bfloat16 the value is near that in float32, and its gradients are finite."""
        try:
            with torch.autocast("cpu", torch.bfloat16):
                value = self.value(made, model, batch)
        except RuntimeError as error:
            raise AssertionError(self._says(f"in bfloat16 it fails ({error})")) from None
        assert value.isfinite(), self._says(f"in bfloat16 it is {float(value)}")
        whole = float(self.value(made, model, batch).detach())
        assert abs(float(value) - whole) <= 0.05 * max(1.0, abs(whole)), self._says(
            f"in bfloat16 it is {float(value):.4g}, and {whole:.4g} in float32"
        )
        torch.autograd.backward(value.float())
        found = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in found), self._says("in bfloat16 a gradient is not finite")

    def test_its_constructor_is_its_configuration(
        self, toy: tuple[Catalog, Interactions], made: Loss, model: VectorRecommender, batch: Batch
    ) -> None:
        """Built again from plain data, as a config file holds it, it gives the same value."""
        from functools import partial

        again: Loss = build("register_losses", describe(partial(self.loss, **self.config)))
        again.prepare(model, toy[0])
        again.fit(toy[1])
        again.load_state_dict(made.state_dict())
        one, other = self.value(made, model, batch), self.value(again, model, batch)
        assert float(one.detach()) == pytest.approx(float(other.detach()), rel=1e-6, abs=1e-9), self._says(
            "built again from its options it gives another value"
        )

    # -- what the checks share ------------------------------------------------------------------------

    def value(self, made: Loss, model: VectorRecommender, batch: Batch) -> Tensor:
        """The loss of a batch, with the same random draws every time."""
        torch.manual_seed(SEED)
        found: Tensor = made(model, batch)
        return found

    def mean_rank(self, model: VectorRecommender, batch: Batch) -> float:
        """Of the targets among all items, 1 = best."""
        with torch.no_grad():
            queries = model.training_queries(batch)
            scores = queries.vectors @ queries.items[1:].T  # (N, V)
            own = scores.gather(1, queries.targets[:, None] - 1)
            return float((scores >= own).sum(1).double().mean())

    def _says(self, what: str) -> str:
        return f"{self.loss.__name__} breaks the contract of a loss: {what}."
