"""RecModule: the one training and evaluation loop, for every recommender and every loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor

from ..batch import Batch
from ..data.batches.module import RecDataModule
from ..data.catalog import Catalog
from ..data.provenance import identity
from ..errors import RecloomError, at_least
from ..losses import Loss
from ..metrics.accumulator import MetricAccumulator
from ..metrics.functional import first_k
from ..metrics.segments import item_segments
from ..plugins import collect
from ..recommender import Recommender
from ..spec import Spec, build, describe
from .ranking import cosine_share, item_facts, mask_items, target_columns

METRICS = ("ndcg@10", "recall@10", "hit@10", "mrr@10", "coverage@10", "novelty@10")


class RecModule(L.LightningModule):
    """Trains a recommender with a loss, and ranks with it.

    Args:
        recommender: class and hyper-parameters; built once the data module has read the catalogue.
        loss: what is minimised; by default what the recommender asks for, nothing if it is training-free.
        metrics: computed in validation and test, each user's value kept; in the test also for `segments`.
        lr: learning rate of AdamW.
        weight_decay: of AdamW.
        betas: of AdamW.
        warmup_steps: optimiser steps over which the learning rate rises from 0.
        schedule: what it does then: it stays (`constant`), or falls to 0 at the last optimiser step (`cosine`).
    """

    recommender: Recommender
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
        self.given_loss = (loss,)  # in a tuple, so that it is a part of this module once, as `loss`
        self.metrics = list(metrics)
        self.lr, self.weight_decay, self.betas = lr, weight_decay, betas
        self.warmup_steps, self.schedule = warmup_steps, schedule
        self.loss: Loss | None = None
        self.catalog: Catalog | None = None
        self.register_buffer("popularity", torch.empty(0))  # (num_items + 1,)
        self.meter: MetricAccumulator | None = None
        self.seed = 0
        self.masked_targets = 0
        """Held-out items of the last test that stand in the masked history, so that nothing can find them."""
        self.added = 0
        """Items that came after training; they are the last of the catalogue."""
        self.trained_on: dict[str, str] = {}
        """Hashes of the dataset, the split and the ids that the state was learnt from."""
        if not 0 < lr < float("inf"):
            raise RecloomError(f"lr must be above 0 and finite; found {lr}. Try 0.001.")
        if not self.metrics:
            raise RecloomError("metrics must name at least one metric, such as [ndcg@10]")
        at_least(0, weight_decay=weight_decay, warmup_steps=warmup_steps)

    # -- building -------------------------------------------------------------------------------------

    def build(self, catalog: Catalog) -> None:
        """Make the recommender for a catalogue; its weights are new, its fitted state is empty."""
        self.catalog = catalog
        self.recommender = cast(Recommender, build("register_models", self.recipe, catalog))
        default = self.recommender.default_loss
        self.loss = self.given_loss[0] or (build("register_losses", default) if default else None)
        self.automatic_optimization = self.loss is not None
        self.popularity = torch.zeros(catalog.num_items + 1)

    def setup(self, stage: str) -> None:
        data = self._data()
        fresh = self.catalog is None
        if fresh:
            self.build(data.catalog)
        self.seed, data.added = data.seed, self.added
        if fresh and stage == "fit" and not self.trainer.ckpt_path:
            self.learn(data)
            data.warn_of_unread_vectors(type(self.recommender).__name__)
            return
        if self.trained_on:
            self.check_data(data)
        if stage == "fit":
            self._fit_loss(data)

    def learn(self, data: RecDataModule) -> None:
        """All state without gradients, from the training part alone."""
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
            self.loss.prepare(self.recommender, data.catalog)
            self.loss.fit(data.train)

    def check_data(self, data: RecDataModule) -> None:
        """Refuse data other than those the state was learnt from: ids would be mixed up, or training rows tested."""
        found = identity(data)
        names = [name for name, value in self.trained_on.items() if found.get(name) != value]
        if names:
            raise RecloomError(
                f"this run was trained on another {' and '.join(names)} than that of {data.path}: "
                + "; ".join(f"{name} {self.trained_on[name]}, found {found.get(name)}" for name in names)
                + ". Use the data and split of its config.yaml, or train a new run."
            )

    # -- training -------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        if self.loss is None:
            return None
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, foreach=True
        )
        if not self.warmup_steps and self.schedule == "constant":
            return optimizer
        if self.schedule == "cosine" and self.trainer.max_epochs == self.trainer.max_steps == -1:
            raise RecloomError(
                "schedule='cosine' falls to 0 at the last step, so training must have one: set --trainer.max_epochs or "
                "--trainer.max_steps, or use --model.schedule constant."
            )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._share_of_lr)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _share_of_lr(self, step: int) -> float:
        """The share of `lr` in an optimiser step, counted from 0.

        How many there are is asked after the first step only: before a resumed run knows where it is, loaders must
        not be made.
        """
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant" or step == self.warmup_steps:
            return 1.0
        return cosine_share(
            step - self.warmup_steps, int(self.trainer.estimated_stepping_batches) - self.warmup_steps
        )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make every step's randomness a function of seed and step, so that a resumed run repeats it."""
        torch.manual_seed((self.seed + 1) * 1_000_003 + self.global_step * 31 + self.global_rank)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        if self.loss is None:
            return None
        loss: Tensor = self.loss(self.recommender, batch)
        if not torch.isfinite(loss):
            raise RecloomError(
                f"the loss became {loss.item()} in step {self.global_step}; lower --model.lr (now {self.lr:g}) "
                "or set --trainer.gradient_clip_val 1. The last checkpoint is from before."
            )
        self.log(
            "train/loss",
            loss.detach(),
            prog_bar=True,
            batch_size=len(batch),
            on_step=False,
            on_epoch=True,
            sync_dist=self.trainer.world_size > 1,
        )
        return loss

    # -- ranking --------------------------------------------------------------------------------------

    def rank(self, batch: Batch, mask_seen: bool = True) -> Tensor:
        """Scores as they are served: (B, C), popularity where nothing is known of the user, seen items -inf."""
        scores = self.recommender.score(batch)
        unknown = self.unknown(batch)
        if bool(unknown.any()):
            popular = self.popularity[batch.candidates].expand_as(scores)
            scores = torch.where(unknown[:, None], popular.to(scores.dtype), scores)
        scores = scores.masked_fill(batch.candidates == 0, float("-inf"))
        return mask_items(scores, batch.candidates, batch.history) if mask_seen else scores

    def unknown(self, batch: Batch) -> Tensor:
        """(B,) whether the recommender knows nothing of the user: an empty history and no known user index."""
        inputs = self.recommender.inputs
        if not {"history", "user"} & set(inputs):
            return torch.zeros(len(batch), dtype=torch.bool, device=batch.user.device)
        empty = (batch.history == 0).all(1)
        return empty & (batch.user == 0) if "user" in inputs else empty

    def on_validation_epoch_start(self) -> None:
        self._start()

    def on_test_epoch_start(self) -> None:
        self._start(item_segments(self._counts()))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) users, (B, 10) items and their scores, best first."""
        scores, columns = first_k(self.rank(batch, self._data().seen == "masked"), 10)
        return batch.user, batch.candidates.expand(len(batch), -1).gather(1, columns), scores

    def _start(self, parts: dict[str, Tensor] | None = None) -> None:
        if not self.trained_on:  # neither fitted nor loaded: what needs no training is learnt now
            self.learn(self._data())
        assert self.catalog is not None
        facts = item_facts(self.catalog, self._counts(), self._data().num_items, self.metrics)
        self.meter = MetricAccumulator(self.metrics, collect("register_metrics"), facts, parts)
        self.masked_targets = 0

    def _measure(self, batch: Batch) -> None:
        assert self.meter is not None
        scores = self.rank(batch, self._data().seen == "masked")
        if batch.labels.is_floating_point():
            self.meter.update(scores, labels=batch.labels, candidates=batch.candidates, users=batch.user)
        else:
            columns = target_columns(batch, self._data().num_items)
            own = scores.gather(1, columns.clamp(min=0))
            self.masked_targets += int(((columns >= 0) & own.isneginf()).sum())
            self.meter.update(scores, targets=columns, candidates=batch.candidates, users=batch.user)

    def _counts(self) -> Tensor:
        """(num_items + 1,) training interactions of every item that the run knows."""
        assert self.catalog is not None
        counts = self._data().train.item_counts()
        return torch.nn.functional.pad(counts, (0, self.catalog.num_items + 1 - len(counts)))

    def _finish(self, name: str) -> None:
        assert self.meter is not None
        for metric, value in self.meter.compute().items():
            self.log(f"{name}/{metric}", float(value), prog_bar=metric == self.metrics[0], sync_dist=True)

    def _data(self) -> RecDataModule:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, RecDataModule):
            raise RecloomError(
                "RecModule is trained and tested with a RecDataModule; pass it as `datamodule=`"
            )
        return data

    # -- checkpoints ----------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to rebuild without the data: plain types and tensors only."""
        assert self.catalog is not None
        if not hasattr(self, "_tables"):
            self._tables = {name: _tensor(raw) for name, raw in self.catalog.to_bytes().items()}
        checkpoint["recloom"] = {
            "recommender": self.recipe,
            "metrics": self.metrics,
            "catalog": self._tables,
            "trained_on": self.trained_on,
            "added": self.added,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build the recommender if need be, and give fitted buffers the size they had."""
        saved = checkpoint.get("recloom")
        if saved is None:
            raise RecloomError("this checkpoint was not written by Recloom: it holds no catalogue")
        self.trained_on = dict(saved["trained_on"])
        self._check_recipe(saved["recommender"])
        if self._trainer is not None and self.catalog is not None:
            self.check_data(self._data())
        self.added = saved.get("added", 0)
        if self.added and self._trainer is not None and self.trainer.training:
            raise RecloomError(
                f"{self.added:,} items were added to this run after its training, which cannot go on from there. "
                "Go on with the run they were added to, or train a new one on data that hold them."
            )
        if self._trainer is not None:
            self._data().added = self.added
        if self.catalog is None or self.added:
            self.build(
                Catalog.from_bytes({name: t.numpy().tobytes() for name, t in saved["catalog"].items()})
            )
        if self._trainer is None or not self.trainer.training:
            self._leave_loss(checkpoint)
        for name, value in checkpoint["state_dict"].items():
            *path, last = name.split(".")
            owner = self.get_submodule(".".join(path))
            if last in owner._buffers:
                setattr(owner, last, torch.empty_like(value))

    def _leave_loss(self, checkpoint: dict[str, Any]) -> None:
        """What a loss learnt serves training alone; elsewhere it was not prepared and has no room for it."""
        saved, own = checkpoint["state_dict"], self.state_dict()
        state = {name: value for name, value in saved.items() if not name.startswith("loss.")}
        checkpoint["state_dict"] = state | {name: own[name] for name in own if name.startswith("loss.")}

    def _check_recipe(self, saved: Spec) -> None:
        """Refuse a checkpoint of another recommender, naming what differs."""
        mine, theirs = (
            {"model": s["class_path"].rpartition(".")[2], **s["init_args"]} for s in (self.recipe, saved)
        )
        names = [
            name
            for name in {**theirs, **mine}
            if name in mine and name in theirs and mine[name] != theirs[name]
        ]
        if names:
            raise RecloomError(
                "the checkpoint holds another recommender: "
                + ", ".join(f"{name} {theirs[name]!r}, asked for {mine[name]!r}" for name in names)
                + ". Leave these options as they were, or start a new run."
            )


def _tensor(raw: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(raw, dtype=np.uint8).copy())
