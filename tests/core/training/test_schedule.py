"""Learning rates are counted in optimiser steps (A3 fact 7)."""

from __future__ import annotations

from functools import partial

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback
from recloom.data.batches.module import RecDataModule
from recloom.errors import RecloomError
from recloom.models.ctr import DeepFM
from recloom.testing.toys import toy_dataset
from recloom.testing.training import silence
from recloom.training.module import RecModule
from recloom.training.optimizer import cosine_share


class Rates(Callback):
    """The learning rate of every optimiser step."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def rates(folder, **options):
    trainer_options = {"max_epochs": 3} | options.pop("trainer", {})
    module = RecModule(partial(DeepFM, dim=2, hidden=(4,)), lr=0.1, **options)
    seen = Rates()
    with silence():
        trainer = L.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, callbacks=[seen], use_distributed_sampler=False,
            **trainer_options,
        )  # fmt: skip
        trainer.fit(module, RecDataModule(str(folder), batch_size=16, positive=4.0))
    return seen.seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toys") / "toy")


def test_cosine_by_hand():
    assert [cosine_share(n, 5) for n in range(5)] == pytest.approx([1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)
    assert cosine_share(0, 1) == 1
    assert cosine_share(9, 5) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("trainer", [{}, {"accumulate_grad_batches": 2}, {"max_epochs": -1, "max_steps": 7}])
@pytest.mark.fact("A3.7")
def test_the_last_step_has_at_most_a_hundredth_of_the_rate(folder, trainer):
    seen = rates(folder, schedule="cosine", trainer=trainer)
    assert len(seen) > 3
    assert seen[0] == pytest.approx(0.1)
    assert seen[-1] <= 0.1 * 0.01
    assert seen == sorted(seen, reverse=True)


def test_warmup_comes_before_the_fall(folder):
    seen = rates(folder, schedule="cosine", warmup_steps=4)
    assert seen[:5] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
    assert seen[4:] == sorted(seen[4:], reverse=True)
    assert seen[-1] <= 0.001


def test_constant_stays(folder):
    assert set(rates(folder)) == {0.1}
    assert rates(folder, warmup_steps=2)[:4] == pytest.approx([0.05, 0.1, 0.1, 0.1])


def test_cosine_needs_an_end(folder):
    with pytest.raises(
        RecloomError, match=r"schedule='cosine' falls to 0 at the last step.*--trainer\.max_epochs"
    ):
        rates(folder, schedule="cosine", trainer={"max_epochs": -1})


def test_a_resumed_cosine_goes_on_where_it_was(folder, tmp_path):
    def trainer(seen, steps):
        return L.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, callbacks=[seen], use_distributed_sampler=False,
            max_epochs=3, max_steps=steps,
        )  # fmt: skip

    def module():
        return RecModule(partial(DeepFM, dim=2, hidden=(4,)), lr=0.1, schedule="cosine")

    def data():
        return RecDataModule(str(folder), batch_size=16, positive=4.0)

    whole, resumed = Rates(), Rates()
    with silence():
        trainer(whole, -1).fit(module(), data())
        stopped = L.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False, max_epochs=3,
            callbacks=[StopAfter(5, tmp_path / "part.ckpt")],
        )  # fmt: skip
        stopped.fit(module(), data())
        trainer(resumed, -1).fit(module(), data(), ckpt_path=tmp_path / "part.ckpt")
    assert resumed.seen == pytest.approx(whole.seen[5:])


class StopAfter(Callback):
    """Saves a checkpoint after so many steps, and ends training."""

    def __init__(self, steps, path):
        self.steps, self.path = steps, path

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == self.steps:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True
