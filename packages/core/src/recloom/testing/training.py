"""Train a recommender for a moment, quietly, through the same RecModule and Trainer as `recloom fit`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from ..batch import Batch
from ..data.batches.module import RecDataModule
from ..data.interactions import Interactions
from ..losses import Loss
from ..recommender import Recommender, VectorRecommender
from ..spec import build
from ..training.checkpoint import AtomicCheckpointIO
from ..training.module import RecModule

POSITIVE = 4.0
"""The value from which an interaction of a toy is labelled 1."""


def train(
    recommender: type[Recommender],
    config: dict[str, Any],
    folder: Path,
    *,
    loss: str | dict[str, Any] | None = None,
    steps: int = -1,
    epochs: int | None = None,
    lr: float = 1e-2,
    batch_size: int = 8,
    save: tuple[int, Path] | None = None,
    resume: Path | None = None,
    until: Callable[[RecModule], bool] | None = None,
) -> RecModule:
    """Fit, and train for so many steps or epochs; what is training-free is only fitted.

    Args:
        recommender: the class.
        config: its hyper-parameters.
        folder: of a prepared dataset.
        loss: as in a config; None = the recommender's own.
        save: (k, path): write a checkpoint after k steps, and go on.
        resume: a checkpoint to go on from.
        until: asked after every epoch, in eval mode; training ends where it is True.

    Returns the module in eval mode; its trainer can still save a checkpoint.
    """
    given = {"class_path": loss} if isinstance(loss, str) else loss
    torch.manual_seed(0)
    module = RecModule(
        partial(recommender, **config), build("register_losses", given) if given else None, lr=lr
    )
    free = given is None and recommender.default_loss is None
    data = RecDataModule(str(folder), batch_size=batch_size, positive=POSITIVE)
    callbacks: list[Callback] = [Until(until)] if until else []
    if save:
        callbacks.append(ModelCheckpoint(save[1].parent, save[1].stem, every_n_train_steps=save[0]))
    with silence():
        trainer = L.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=-1 if free else steps,
            max_epochs=0 if free else epochs or -1,
            logger=False,
            enable_checkpointing=bool(save),
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            plugins=[AtomicCheckpointIO()],
            callbacks=callbacks,
        )
        trainer.fit(module, data, ckpt_path=resume)
    return module.eval()


class Until(Callback):
    """Ends training after the first epoch for which a condition holds.

    Args:
        reached: the condition, of the module in eval mode.
    """

    def __init__(self, reached: Callable[[RecModule], bool]) -> None:
        self.reached = reached

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, RecModule)
        pl_module.eval()
        trainer.should_stop = self.reached(pl_module)
        pl_module.train()


def requests(visible: Interactions, users: int = 6) -> Batch:
    """Requests of the first users, with the last 8 items each that are visible, for the whole catalogue."""
    user = torch.arange(1, users + 1)
    history, times = visible.last(user, 8)
    return Batch.of(
        history,
        torch.arange(1, visible.num_items + 1)[None],
        user=user,
        history_time=times,
        request_time=times[:, -1] + 3600,
        history_event=visible.last_events(user, 8),
    )


def training_vectors(model: VectorRecommender, history: Tensor, labels: Tensor, cut: int) -> Tensor:
    """(rows * cut, d) training queries of the first `cut` positions, found by their labels, row by row."""
    day = 86_400 * torch.arange(1, history.shape[1] + 1).expand_as(history)
    batch = Batch.of(history, user=torch.arange(1, len(history) + 1), history_time=day, labels=labels)
    with torch.no_grad():
        q = model.training_queries(batch)
    wanted = labels[:, :cut].flatten()
    rows = [torch.nonzero(q.targets == target)[:, 0] for target in wanted]
    return q.vectors[torch.cat(rows)]


def data_of(module: RecModule) -> RecDataModule:
    """The data that the module was trained on."""
    data = module.trainer.datamodule  # type: ignore[attr-defined]
    assert isinstance(data, RecDataModule)
    return data


def mixed_precision_losses(module: RecModule, batch: Batch) -> tuple[float, float]:
    """The loss of a batch in float32 and under autocast to bfloat16, without dropout; the module stays as it was.

    Before these a step with dropout is made under autocast, whose gradients must be finite.
    Raises AssertionError where they are not, and what torch raises where a step is not possible.
    """
    assert module.loss is not None
    kept = [(buffer, buffer.clone()) for buffer in module.buffers()]

    def loss(enabled: bool) -> Tensor:
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found: Tensor = cast(Loss, module.loss)(module.recommender, batch)
        return found

    try:
        module.train()
        torch.autograd.backward(loss(True).float())
        bad = [
            name
            for name, p in module.named_parameters()
            if p.grad is not None and not p.grad.isfinite().all()
        ]
        assert not bad, f"under autocast to bfloat16 the gradient of {bad[0]} is not finite"
        module.eval()
        with torch.no_grad():
            return float(loss(False)), float(loss(True))
    finally:
        module.eval().zero_grad()
        for buffer, value in kept:
            buffer.copy_(value)


def advice(module: RecModule) -> str:
    """What to do about a checkerboard that was not learnt."""
    if module.loss is None:
        return "Without a loss all it knows comes from fit(): look for a fault there or in the scores"
    return (
        "Train longer (checkerboard_epochs, checkerboard_lr), or look for a fault in the loss, the scores "
        "or the gradients"
    )


@contextmanager
def silence() -> Iterator[None]:
    """Keep back what Lightning says of machines and of training that is short on purpose."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
