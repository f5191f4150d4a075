"""RecModule: the one training and evaluation loop, for every recommender and every loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from ..batch import Batch
from ..data.batches.module import Needs, RecDataModule
from ..data.catalog import Catalog
from ..data.provenance import identity
from ..errors import RecloomError, at_least
from ..llm import BatchPlanned
from ..losses import Loss
from ..recommender import Recommender
from ..spec import Spec, build, describe
from .external_weights import check_probes
from .held_runs import HeldRuns
from .llm_sessions import AskingModule
from .measurement import Measurement
from .optimizer import adamw, minimised, not_finite
from .ranking import mask_items, masked_items, retrieves, served_lists, served_scores, unknown_users
from .saved_state import check_data, check_optimizer, read_state, weights_of, write_state

METRICS = ("ndcg@10", "recall@10", "hit@10", "mrr@10", "coverage@10", "novelty@10")


class RecModule(AskingModule):
    """Trains a recommender with a loss, and ranks with it.

    Args:
        recommender: class and hyper-parameters; built once the data module has read the catalogue.
        loss: what is minimised; by default what the recommender asks for, nothing if it is training-free.
        metrics: computed in validation and test, each user's value kept; in the test also for `segments`.
        lr: learning rate of AdamW.
        weight_decay: of AdamW.
        betas: of AdamW; .98 as in SASRec's code, where most others (LightGCN, SimGCL, BERT4Rec, KAR) have Adam's .999.
        warmup_steps: optimiser steps over which the learning rate rises from 0.
        schedule: what it does then: it stays (`constant`), or falls to 0 at the last optimiser step (`cosine`).
    """

    popularity: Tensor
    """(num_items + 1,) scores for users of whom nothing is known."""

    def __init__(
        self,
        recommender: Callable[[Catalog], Recommender],
        loss: Loss | None = None,
        metrics: Sequence[str] = METRICS,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.98),
        warmup_steps: int = 0,
        schedule: Literal["constant", "cosine"] = "constant",
    ) -> None:
        super().__init__()
        self.recipe: Spec = describe(recommender)
        self._given = describe(recommender, stored=False)
        self.given_loss = (loss,)  # in a tuple, so that it is a part of this module once, as `loss`
        self.metrics = list(metrics)
        self.lr, self.weight_decay, self.betas = lr, weight_decay, betas
        self.warmup_steps, self.schedule, self.mask_seen = warmup_steps, schedule, True
        self.loss: Loss | None = None
        self.catalog: Catalog | None = None
        self.register_buffer("popularity", torch.empty(0))  # (num_items + 1,)
        self.measurement: Measurement | None = None
        self.seed, self.added = 0, 0  # `added`: items that came after training, the last of the catalogue
        self.trained_on: dict[str, str] = {}  # hashes of dataset, split and ids that the state is of
        self.runs = HeldRuns()  # other runs that the recommender and the loss build on
        self.run_folder: Path | None = None
        self.external: dict[str, dict[str, Any]] = {}
        """What the checkpoint that is being loaded says of weights from folders, by prefix."""
        self.saved_groups: list[list[dict[str, Any]]] = []  # of the checkpoint that training goes on from
        if not 0 < lr < float("inf"):
            raise RecloomError(f"lr must be above 0 and finite; found {lr}. Try 0.001.")
        if not self.metrics:
            raise RecloomError("metrics must name at least one metric, such as [ndcg@10]")
        at_least(0, weight_decay=weight_decay, warmup_steps=warmup_steps)

    # -- building -------------------------------------------------------------------------------------

    def build(self, catalog: Catalog) -> None:
        """Make the recommender for a catalogue; its weights are new, its fitted state is empty."""
        self.catalog = catalog
        self.recommender = cast(Recommender, build("register_models", self._given, catalog))
        self.loss = minimised(self.recommender, self.given_loss[0])
        self.automatic_optimization = self.loss is not None
        self.popularity = torch.zeros(catalog.num_items + 1)

    def setup(self, stage: str) -> None:
        data = self.data
        fresh = self.catalog is None
        if fresh:
            self.build(data.catalog)
            self.runs.open(self.recommender, identity(data), self.trainer.default_root_dir)
        if not (fresh and self.trainer.ckpt_path):  # else when the checkpoint is read
            self.meet(data)
        if fresh and stage == "fit" and not self.trainer.ckpt_path:
            self.learn(data)
            data.warn_of_unread_vectors(type(self.recommender).__name__)
            return
        check_data(self.trained_on, data)
        if stage == "fit":
            self._fit_loss(data)

    def meet(self, data: RecDataModule) -> None:
        """Tell the data module what this run needs, once that is known, and read what holds for the run."""
        own = self.recommender
        data.needs = Needs(own.training_rows, self.added, own.reads_pairs, retrieves(own))
        self.seed, self.mask_seen = data.seed, data.seen == "masked"

    def learn(self, data: RecDataModule) -> None:
        """All state without gradients, from the training part alone."""
        with self.llm_sessions():
            self.recommender.fit(data.train)
            self.popularity = self.recommender.cold_start_scores(data.train).clone()
        self._fit_loss(data)
        self.trained_on = identity(data)

    def extend(self, catalog: Catalog) -> None:
        """Take in the items that stand in `catalog` after those known so far; nobody is known to have met them."""
        old, new = self.recommender.num_items, catalog.num_items
        self.recommender.extend(catalog)
        self.popularity = torch.cat([self.popularity, self.popularity.new_zeros(new - old)])
        self.catalog, self.added = catalog, self.added + new - old

    def _fit_loss(self, data: RecDataModule) -> None:
        if self.loss is not None:
            self.runs.open(self.loss, identity(data), self.trainer.default_root_dir)
            self.loss.prepare(self.recommender, data.catalog)
            self.loss.fit(data.train)

    @property
    def data(self) -> RecDataModule:
        """What the trainer was given. Raises RecloomError where that is something else."""
        found = getattr(self.trainer, "datamodule", None)
        if not isinstance(found, RecDataModule):
            raise RecloomError(
                "RecModule is trained and tested with a RecDataModule; pass it as `datamodule=`"
            )
        return found

    # -- training -------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        return None if self.loss is None else adamw(self, self.loss)

    def on_fit_start(self) -> None:
        """Refuse options of the optimiser that would not be used, since its state goes on from the checkpoint."""
        check_optimizer(self.trainer.optimizers, self.saved_groups)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make every step's randomness a function of seed and step, so that a resumed run repeats it."""
        torch.manual_seed((self.seed + 1) * 1_000_003 + self.global_step * 31 + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        if self.loss is None:
            return None
        loss: Tensor = self.loss(self.recommender, batch)
        if not torch.isfinite(loss):
            raise not_finite(loss, self.global_step, self.lr)
        self.log(
            "train/loss", loss.detach(), prog_bar=True, batch_size=len(batch), on_step=False, on_epoch=True,
            sync_dist=self.trainer.world_size > 1,
        )  # fmt: skip
        return loss

    def rank(self, batch: Batch, mask_seen: bool = True) -> Tensor:
        """Scores as they are served: (B, C), popularity where nothing is known of the user, seen items -inf."""
        scores = served_scores(self.recommender, self.popularity, batch)
        return mask_items(scores, batch.candidates, batch.history) if mask_seen else scores

    def top(self, batch: Batch, k: int, masked: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Lists as they are served: (B, k) items and scores, best first; the end of a shorter list is -inf.

        masked: (B, M) items that are not to be recommended, 0 = none; those of the history where not given.
        """
        masked = batch.history if masked is None else masked
        return served_lists(self.recommender, self.popularity, batch, k, masked)

    def unknown(self, batch: Batch) -> Tensor:
        """(B,) whether the recommender knows nothing of the user: an empty history and no known user index."""
        return unknown_users(self.recommender, batch)

    def on_validation_epoch_start(self) -> None:
        self._start()

    def on_test_epoch_start(self) -> None:
        self._start(by_segment=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._measured().update(self, batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._measured().update(self, batch)

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) users, (B, 10) items and their scores, best first; no row where requests are only planned."""
        with suppress(BatchPlanned):
            return batch.user, *self.top(batch, 10, masked_items(batch, self.mask_seen))
        return batch.user[:0], batch.user.new_zeros(0, 10), torch.zeros(0, 10)

    def _start(self, by_segment: bool = False) -> None:
        if not self.trained_on:  # neither fitted nor loaded: what needs no training is learnt now
            self.learn(self.data)
        assert self.catalog is not None
        self.measurement = Measurement(self.catalog, self.data, self.metrics, by_segment)
        self.open_sessions()

    def _measured(self) -> Measurement:
        assert self.measurement is not None
        return self.measurement

    def _finish(self, name: str) -> None:
        self.finish_sessions()
        for metric, value in self._measured().meter.compute().items():
            self.log(f"{name}/{metric}", float(value), prog_bar=metric == self.metrics[0], sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to rebuild without the data: plain types and tensors only."""
        write_state(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the recommender if need be, and give fitted buffers the size they had."""
        data = None if self._trainer is None else self.data
        read_state(self, checkpoint, data, training=data is not None and self.trainer.training)
        if data is not None:
            self.meet(data)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As torch's; then weights from folders must give the outputs that the checkpoint holds."""
        with weights_of(self.recommender):
            found = super().load_state_dict(state_dict, strict, assign)
        if self.external:
            check_probes(self.recommender, self.external)
        return found
