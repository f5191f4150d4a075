"""Training of node embeddings by Lightning: a progress bar, no checkpoint, and an end at once on Ctrl-C."""

from __future__ import annotations

import math
import warnings
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from recloom.errors import RecloomError, at_least
from recloom.training import TrainingBar, interruptible, silence, stopped_by_sigterm

from .link_prediction import LinkEmbedding
from .skip_gram import SkipGram


class EpochLosses(Callback):
    """Keeps the mean loss of every epoch; RecloomError where one is not finite."""

    def __init__(self) -> None:
        self.by_epoch: list[float] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        loss = float(trainer.callback_metrics["loss"])
        if not math.isfinite(loss):
            raise RecloomError(
                f"in epoch {trainer.current_epoch + 1} the loss is {loss}; expected a finite one. Steps of "
                f"{pl_module.lr:g} are too large here: choose a smaller --lr."
            )
        self.by_epoch.append(loss)


def train(embedding: SkipGram | LinkEmbedding, epochs: int) -> list[float]:
    """Train in place, on the available accelerator; returns the mean loss of every epoch.

    Raises KeyboardInterrupt on Ctrl-C, Terminated on SIGTERM.
    """
    at_least(1, epochs=epochs)
    silence()
    losses = EpochLosses()
    trainer = L.Trainer(
        max_epochs=epochs,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[TrainingBar(), losses],
    )
    with warnings.catch_warnings(), stopped_by_sigterm(), interruptible():
        warnings.filterwarnings("ignore", "Your `IterableDataset` has `__len__`")  # there are no workers
        trainer.fit(embedding)
    return losses.by_epoch
