"""A resumed fit that is refused leaves the run as it was, file by file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from recloom.errors import RecloomError
from recloom.fitting.fit import run_command
from recloom.losses import BPR, Loss
from recloom.recommender import Recommender
from recloom.testing.toys import toy_dataset
from recloom.training.saved_state import check_training, training_options

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


def start(data, run, *more):
    words = ["--model.recommender.dim=8", "--trainer.max_epochs=3", *QUIET]
    run_command(["fit", "--model=SASRec", f"--data={data}", f"--run={run}", *words, *more])


def resume(run, *more):
    return run_command(["fit", f"--run={run}", "--ckpt_path=last", *more, *QUIET])


def files(run):
    """What each file of a run holds; None for a folder."""
    return {path.relative_to(run): path.read_bytes() if path.is_file() else None for path in run.rglob("*")}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toys") / "toy")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    run = tmp_path_factory.mktemp("runs") / "q"
    start(data, run)
    (run / "metrics.json").write_text("{}")
    return run


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--trainer.max_epochs=2",
            "last.ckpt has come to epoch 3 already, and --trainer.max_epochs 2 asks for fewer. Ask for more, such as "
            "--trainer.max_epochs 4.",
        ),
        ("--trainer.max_epochs=0", "asks for fewer"),
        ("--model.recommender.dim=4", "holds another recommender: dim 8, asked for 4"),
        (
            "--model.lr=0.5",
            "trained with other options: lr 0.001, asked for 0.5. Leave these options as they were, or start a new run",
        ),
        ("--model.weight_decay=0.5", "weight_decay 0.0, asked for 0.5"),
        ("--model.betas=[0.5,0.98]", "betas (0.9, 0.98), asked for (0.5, 0.98)"),
        (
            "--model.loss=BPR",
            "trained with another loss: CrossEntropy, asked for BPR. Leave it as it was, or start",
        ),
        ("--data.split.strategy=time", "was trained on another split"),
        (
            "--data.batch_size=7",
            "trained with other options: batch_size 128, asked for 7. Leave these options as they",
        ),
        (
            "--model.schedule=cosine",
            "trained with other options: schedule constant, asked for cosine. Leave these",
        ),
        (
            "--model.warmup_steps=3",
            "trained with other options: warmup_steps 0, asked for 3. Leave these options",
        ),
    ],
)
def test_a_refused_resume_leaves_the_run_as_it_was(finished, option, message):
    before = files(finished)
    assert {path.name for path in before} >= {
        "config.yaml",
        "run.json",
        "metrics.json",
        "last.ckpt",
        "best.ckpt",
    }
    with pytest.raises(RecloomError) as refusal:
        resume(finished, option)
    assert message in str(refusal.value)
    assert "doctor" not in str(refusal.value)
    assert files(finished) == before


def test_a_resumed_fit_replaces_what_no_longer_holds(data, tmp_path):
    run = tmp_path / "run"
    start(data, run)
    (run / "metrics.json").write_text("{}")
    before = files(run)
    resume(run, "--trainer.max_epochs=4")
    after = files(run)
    assert {path.name for path in before.keys() - after.keys()} == {"metrics.json"}
    assert b"max_epochs: 4" in after[Path("config.yaml")]
    assert b'"epochs": 4' in after[Path("run.json")]


def test_a_fit_without_training_keeps_its_configuration_and_goes_on(data, tmp_path):
    run = tmp_path / "run"
    run_command(["fit", "--model=Popularity", f"--data={data}", f"--run={run}", *QUIET])
    assert "Popularity" in (run / "config.yaml").read_text()
    resume(run)
    assert (run / "run.json").is_file()


def test_a_metric_that_is_not_measured_says_nothing_of_the_machine(data, tmp_path):
    with pytest.raises(RecloomError, match="could not find the monitored key") as refusal:
        start(data, tmp_path / "run", "--checkpoint.monitor=val/nothing")
    assert "doctor" not in str(refusal.value)


def test_options_of_a_loss_are_those_of_the_checkpoint(data, tmp_path):
    run = tmp_path / "run"
    start(data, run, "--model.loss=BPR", "--model.loss.shared=true", "--model.loss.negatives=2")
    with pytest.raises(RecloomError) as refusal:
        resume(run, "--trainer.max_epochs=4", "--model.loss.shared=false", "--model.loss.negatives=3")
    assert (
        "trained with other options: loss.negatives 2, asked for 3; loss.shared True, asked for False. Leave these "
        "options as they were, or start a new run." in str(refusal.value)
    )
    resume(run, "--trainer.max_epochs=4")


class Wrapped(Loss):
    def __init__(self, base: Loss, file: str, other: object = None) -> None:
        super().__init__()
        self.base, self.file, self.other = base, file, other


def test_a_loss_within_a_loss_and_files_that_moved():
    loss = Wrapped(BPR(l2=0.5), "/a/pairs.parquet", object())
    module = SimpleNamespace(loss=loss, schedule="constant", warmup_steps=0, _trainer=None)
    assert training_options(module) == {
        "schedule": "constant", "warmup_steps": 0, "loss.base": "BPR", "loss.base.negatives": 1,
        "loss.base.shared": False, "loss.base.l2": 0.5, "loss.file": "/a/pairs.parquet",
    }  # fmt: skip
    check_training({"loss.file": "/b/pairs.parquet"}, {"loss.file": "/a/pairs.parquet"})
    with pytest.raises(RecloomError, match=r"loss\.file /a/pairs\.parquet, asked for /a/others\.parquet"):
        check_training({"loss.file": "/a/others.parquet"}, {"loss.file": "/a/pairs.parquet"})
    check_training({"loss.l2": 0.5}, {})  # a checkpoint of before


def test_what_a_checkpoint_holds_is_not_counted_again(data, tmp_path, monkeypatch):
    run, fitted = tmp_path / "run", []
    monkeypatch.setattr(Recommender, "fit", lambda self, interactions: fitted.append(len(interactions)))
    start(data, run)
    assert len(fitted) == 1
    resume(run, "--trainer.max_epochs=4")
    assert len(fitted) == 1


def test_a_schedule_is_told_from_a_changed_rate(data, tmp_path):
    run = tmp_path / "run"
    start(data, run, "--model.schedule=cosine", "--model.warmup_steps=2")
    resume(run, "--trainer.max_epochs=4")
    with pytest.raises(RecloomError, match=r"lr 0\.001, asked for 0\.01"):
        resume(run, "--trainer.max_epochs=5", "--model.lr=0.01")
