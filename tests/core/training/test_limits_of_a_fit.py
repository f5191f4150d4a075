"""What ends a fit: patience in validations and steps, other limits; what is told of it, and what is the best."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.fitting.lightning_cli import _limit
from recloom.testing import cyclic_dataset
from recloom.training.callbacks import EarlyStop


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return cyclic_dataset(tmp_path_factory.mktemp("data") / "cycle", 12, num_users=24)


def fit(data, run, *more):
    small = ["--model.recommender.dim=8", "--data.batch_size=8", "--trainer.accelerator=cpu"]
    main(["fit", "--model=SASRec", f"--data={data}", f"--run={run}", *small, *more])
    return json.loads((run / "run.json").read_text())


def stopped_at(values, *, steps, **options):
    """The number of the validation after which training stops, from 1; each epoch has so many steps."""
    watcher, trainer = EarlyStop("val/x", **options), SimpleNamespace(global_step=0, fast_dev_run=False)
    trainer.should_stop, trainer.current_epoch = False, 0
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=lambda stop, all: stop)
    for number, value in enumerate(values, 1):
        trainer.global_step, trainer.current_epoch = number * steps, number
        trainer.callback_metrics = {"val/x": torch.tensor(value)}
        watcher._run_early_stopping_check(trainer)
        if trainer.should_stop:
            return number, watcher
    return None, watcher


PLATEAU = [0.1, 0.2, *[0.2] * 30]


@pytest.mark.parametrize(
    ("patience", "patience_steps", "last"),
    [(3, 0, 5), (3, 21, 5), (3, 22, 6), (3, 70, 12), (12, 70, 14), (None, 70, None), (3, 10**6, None)],
)
def test_patience_ends_by_validations_or_steps_whichever_is_later(patience, patience_steps, last):
    """The best is the second of epochs of 7 steps."""
    found, watcher = stopped_at(PLATEAU, steps=7, patience=patience, patience_steps=patience_steps)
    assert found == last
    assert (watcher.stopping_reason is EarlyStoppingReason.NOT_STOPPED) == (last is None)
    if last is not None:
        assert watcher.waited_steps == 7 * (last - 2)
        assert watcher.why() == f"val/x had not risen for {last - 2} validations and {7 * (last - 2)} steps"


@pytest.mark.parametrize(("steps", "last"), [(7, None), (49, 13), (50, 12)])
def test_a_plateau_of_small_data_ends_no_fit_by_default(steps, last):
    """Ten validations and 500 steps after the second: 30 epochs of 7 steps are too few, 10 of 50 steps are enough."""
    found, _ = stopped_at(PLATEAU, steps=steps)
    assert found == last


def test_an_improvement_begins_the_count_again_and_less_may_be_better():
    falling = [0.5, 0.5, 0.4, 0.4, 0.4, 0.4, 0.4]
    found, watcher = stopped_at(falling, steps=10, patience=2, patience_steps=25, mode="min")
    assert (found, watcher.waited_steps) == (6, 30)
    assert "had not fallen for 3 validations and 30 steps" in watcher.why()


def test_a_resumed_fit_counts_on_and_one_from_before_counts_from_its_start():
    _, first = stopped_at([0.1, 0.2, 0.2], steps=7, patience=2, patience_steps=40)
    state = first.state_dict()
    again = EarlyStop("val/x", patience=2, patience_steps=40)
    again.load_state_dict(state)
    assert (again._best_step, again.wait_count) == (14, 1)
    again.load_state_dict({name: value for name, value in state.items() if name != "best_step"})
    assert again._best_step == 0


def test_a_metric_that_is_not_finite_ends_at_once():
    found, watcher = stopped_at([0.1, float("nan"), 0.2], steps=1, patience=9, patience_steps=900)
    assert (found, watcher.why()) == (2, "val/x was not finite")
    assert watcher.waited_steps == 1  # it is no improvement


def test_steps_of_patience_below_zero_are_refused_in_words():
    with pytest.raises(RecloomError, match="patience_steps must be at least 0; found -1"):
        EarlyStop(patience_steps=-1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--trainer.max_epochs=2"], "stopped by --trainer.max_epochs 2"),
        (["--trainer.max_steps=3"], "stopped by --trainer.max_steps 3"),
        (
            ["--model.lr=1e-9", "--early_stopping.patience=1", "--early_stopping.patience_steps=4"],
            "stopped early: val/ndcg@10 had not risen for 2 validations and 6 steps",
        ),
    ],
)
def test_it_is_told_which_limit_ended_a_fit(data, tmp_path, capsys, words, told):
    fit(data, tmp_path / "run", *words)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trained: ")]
    assert told in line


def test_further_callbacks_have_no_say_in_the_best(data, tmp_path, capsys):
    """An added checkpoint and early stopping on the training loss: run.json and the line hold the validation's best."""
    checkpoint = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"monitor": "train/loss", "dirpath": str(tmp_path / "more"), "mode": "min"},
    }
    watcher = {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "train/loss", "mode": "max", "patience": 1},
    }
    callbacks = f"--trainer.callbacks={json.dumps([checkpoint, watcher])}"
    record = fit(data, tmp_path / "run", "--trainer.max_epochs=9", callbacks)
    line = capsys.readouterr().out
    assert "stopped early: EarlyStopping on train/loss" in line
    assert f"best val/ndcg@10 {record['best']:.4f}" in line
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    kept = [
        state
        for name, state in best["callbacks"].items()
        if "val/ndcg@10" in name and "best_model_score" in state
    ]
    assert kept
    assert record["best"] == pytest.approx(float(kept[0]["best_model_score"]))


@pytest.mark.parametrize(
    ("duration", "told"), [(None, "by --trainer.max_epochs 3"), ({"seconds": 0}, "by --trainer.max_time")]
)
def test_a_timer_without_an_end_is_no_limit(duration, told):
    trainer = SimpleNamespace(
        callbacks=[Timer(duration)], max_steps=-1, global_step=9, max_epochs=3, current_epoch=3
    )
    assert _limit(trainer) == told
