"""SIGTERM stops a fit or a test at once, wherever it is, and tells how to go on."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.batches import module as data_module
from recloom.data.batches.module import Needs, RecDataModule
from recloom.errors import Terminated
from recloom.models.ctr import click_model
from recloom.models.ctr.deepfm import DeepFM
from recloom.models.ease import EASE
from recloom.training.signals import stopped_by_sigterm

QUIET = "--trainer.enable_progress_bar=false"


@pytest.fixture(autouse=True)
def as_it_was():
    """Whatever a test does, pytest itself is stopped by SIGTERM as before."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) is before
    signal.signal(signal.SIGTERM, before)


def test_sigterm_is_an_interruption_inside_and_what_it_was_outside():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(Terminated), stopped_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert issubclass(Terminated, KeyboardInterrupt)


def test_a_handler_of_the_program_stays(monkeypatch):
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with stopped_by_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_a_thread_leaves_signals_alone():
    found = []

    def work():
        with stopped_by_sigterm():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset):
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in np.repeat(np.arange(30), 6)],
            "item_id": [f"i{n}" for n in np.concatenate([random.permutation(20)[:6] for _ in range(30)])],
            "timestamp": np.tile(np.arange(6), 30),
            "value": random.integers(1, 6, 180).astype(float),
        }
    )
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", frame)


@pytest.fixture
def blocks(monkeypatch):
    """Candidates are scored one by one; the number of the block in which SIGTERM is sent, and how many are scored."""
    seen = {"send at": 0, "scored": 0}
    usual = DeepFM.logits

    def counted(self, batch, extra=None):
        if not self.training:
            seen["scored"] += 1
            if seen["scored"] == seen["send at"]:
                os.kill(os.getpid(), signal.SIGTERM)
        return usual(self, batch, extra)

    monkeypatch.setattr(click_model, "AT_ONCE", 1)
    monkeypatch.setattr(DeepFM, "logits", counted)
    return seen


def words(data, run):
    return ["fit", "--model=DeepFM", f"--data={data}", f"--run={run}", "--data.positive=4", QUIET]


@pytest.mark.filterwarnings("ignore:a click model reads every pair")
def test_a_click_model_stops_between_two_blocks_of_candidates(data, tmp_path, blocks, capsys):
    blocks["send at"] = 5  # of the 20 blocks of the first batch
    with pytest.raises(SystemExit) as stop:
        main([*words(data, tmp_path / "run"), "--trainer.max_epochs=1"])
    assert blocks["scored"] == 5
    assert stop.value.code == 143
    assert "terminated; nothing was kept yet" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore:a click model reads every pair")
def test_what_was_kept_is_told_for_a_fit_and_not_for_a_test(data, tmp_path, blocks, capsys):
    run = tmp_path / "run"
    main([*words(data, run), "--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0"])
    each, blocks["scored"] = blocks["scored"], 0
    capsys.readouterr()
    (run / "run.json").unlink()  # as if its fit had been interrupted
    blocks["send at"] = each + 1  # in the validation of the second epoch, or of the third
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "fit",
                "--run",
                str(run),
                "--ckpt_path=last",
                "--trainer.max_epochs=9",
                "--trainer.num_sanity_val_steps=0",
            ]
        )
    assert stop.value.code == 143
    assert f"terminated; go on with: recloom fit --run {run} --ckpt_path last" in capsys.readouterr().err
    blocks.update({"scored": 0, "send at": 3})
    with pytest.raises(SystemExit) as stop:
        main(["test", str(run), QUIET])
    assert (blocks["scored"], stop.value.code) == (3, 143)
    assert capsys.readouterr().err.splitlines()[-1] == "terminated"


def test_a_batch_of_a_click_model_takes_seconds_and_not_minutes(data, monkeypatch):
    """A batch of a model that reads pairs has fewer requests, so that a bar moves and the first check is short."""
    module = RecDataModule(str(data))
    module.setup()
    monkeypatch.setattr(data_module, "SCORES_AT_ONCE", 64 * 20 * 3)
    assert len(module.requests("test")) == 1
    for kind, batches in ((EASE, 1), (DeepFM, 10)):  # of three requests, 20 items each
        module.needs = Needs(reads_pairs=kind.reads_pairs)
        assert len(module.requests("test")) == batches
