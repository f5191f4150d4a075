"""A recommender or a loss that builds on another trained run: opened, named in what is saved, refused once changed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import recloom
import torch
import yaml
from recloom import spec
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.io import sha256
from recloom.losses import Loss
from recloom.plugins import collect
from recloom.recommender import Queries, Recommender, VectorRecommender
from recloom.run_folder import TrainedRun
from recloom.testing.toys import toy_dataset
from recloom.training.checkpoint import read_checkpoint
from torch import nn


class Pupil(VectorRecommender):
    default_loss = "CrossEntropy"

    def __init__(self, catalog, dim: int = 4):
        super().__init__(catalog)
        self.items = nn.Embedding(catalog.num_items + 1, dim, padding_idx=0)

    def query(self, batch):
        return self.items(batch.history).mean(1)

    def item_vectors(self):
        return self.items.weight

    def training_queries(self, batch):
        real = batch.labels[:, -1] > 0
        return Queries(self.query(batch)[real], batch.labels[real, -1], self.items.weight, batch.user[real])


class Distilled(Loss):
    """Scores as the teacher's."""

    def __init__(self, teacher: TrainedRun, weight: float = 1.0):
        super().__init__()
        self.teacher, self.weight = teacher, weight

    def forward(self, recommender, batch):
        batch = replace(batch, candidates=torch.arange(1, recommender.num_items + 1)[None])
        with torch.no_grad():
            wanted = self.teacher.module(batch.user.device).rank(batch, False)
        return self.weight * (recommender.score(batch) - wanted).square().mean()


class Halved(Recommender):
    """Half of what a trained run says."""

    def __init__(self, catalog, retriever: TrainedRun):
        super().__init__(catalog)
        self.retriever = retriever

    def score(self, batch):
        return self.retriever.module().recommender.score(batch) / 2


OWN = {"register_models": {"Pupil": Pupil, "Halved": Halved}, "register_losses": {"Distilled": Distilled}}


@pytest.fixture(autouse=True, scope="module")
def known():
    """As if a plugin had registered them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spec, "collect", lambda hook: collect(hook) | OWN.get(hook, {}))
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a dataset, a teacher, a pupil and a recommender that holds the teacher."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        toy_dataset(place / "data")
        words = ["--data", "data", "--trainer.max_epochs", "2"]
        main(["fit", "--model", "EASE", "--data", "data", "--run", "runs/teacher"])
        teacher = ["--model.loss", "Distilled", "--model.loss.teacher.path", "runs/teacher"]
        main(["fit", "--model", "Pupil", *teacher, *words, "--run", "runs/pupil"])
        held = ["--model.recommender.retriever.path", "runs/teacher"]
        main(["fit", "--model", "Halved", *held, "--data", "data", "--run", "runs/halved"])
    return place


@pytest.fixture
def copy(place, tmp_path, monkeypatch):
    shutil.copytree(place, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_run_and_checkpoint_say_on_what_they_build(place):
    teacher = read_checkpoint(place / "runs/teacher/checkpoints/last.ckpt")["recloom"]
    expected = {
        "path": "runs/teacher",
        "identity": f"EASE on {teacher['trained_on']['dataset']}",
        "digest": sha256(place / "runs/teacher/checkpoints/last.ckpt")[:16],
    }
    for run, name in (("pupil", "loss.teacher"), ("halved", "recommender.retriever")):
        assert json.loads((place / "runs" / run / "run.json").read_text())["runs"] == {name: expected}
        saved = read_checkpoint(next((place / "runs" / run / "checkpoints").glob("last.ckpt")))
        assert saved["recloom"]["runs"] == {name: expected}
    assert json.loads((place / "runs/teacher/run.json").read_text())["runs"] == {}


def test_the_teacher_is_learnt_from_and_no_part_of_the_checkpoint(place):
    state = read_checkpoint(place / "runs/pupil/checkpoints/last.ckpt")["state_dict"]
    assert set(state) == {"recommender.items.weight", "popularity"}
    log = (place / "runs/pupil/logs").glob("*/metrics.csv")
    losses = pl.read_csv(next(log))["train/loss"].drop_nulls().to_list()
    assert len(losses) == 2
    assert losses[1] < losses[0]


def test_a_recommender_that_holds_a_run_is_loaded_from_anywhere(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    halved, teacher = (recloom.load(place / "runs" / name) for name in ("halved", "teacher"))
    history = teacher.catalog.item_ids(torch.tensor([1, 2]).numpy())
    found, whole = (run.recommend(list(history), k=5) for run in (halved, teacher))
    assert [one.item_id for one in found] == [one.item_id for one in whole]
    assert [one.score for one in found] == pytest.approx([one.score / 2 for one in whole], abs=1e-6)
    assert not any(one.requires_grad for one in halved.recommender.retriever.module().parameters())
    assert halved.recommender.retriever.module().training is False


def test_a_run_that_changed_is_refused(copy):
    changed = ["--model.recommender.regularization", "9", "--overwrite"]
    main(["fit", "--model", "EASE", *changed, "--data", "data", "--run", "runs/teacher"])
    with pytest.raises(
        RecloomError, match=r"retriever of this run was runs/teacher \(EASE on \w+\) with the digest"
    ):
        recloom.load(copy / "runs/halved")


def test_training_does_not_go_on_with_another_teacher(copy, capsys):
    main(["fit", "--model", "Popularity", "--data", "data", "--run", "runs/teacher", "--overwrite"])
    with pytest.raises(SystemExit):
        main(["fit", "--run", "runs/pupil", "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    shown = capsys.readouterr().err
    assert "loss.teacher of this run was runs/teacher (EASE on" in shown
    assert "found runs/teacher (Popularity on" in shown
    assert recloom.load("runs/pupil").recommend(["i1"], k=1)  # which needs no teacher


def test_training_goes_on_with_the_same_teacher(copy):
    main(["fit", "--run", "runs/pupil", "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    assert recloom.load("runs/pupil").record.epochs == 3
    config = yaml.safe_load(Path("runs/pupil/config.yaml").read_text())
    assert config["model"]["loss"]["init_args"]["teacher"]["path"] == "runs/teacher"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--model.loss.teacher.digest", "0123456789abcdef"],
            r"has the digest \w{16}, asked for 0123456789abcdef",
        ),
        (
            ["--model.loss.teacher.identity", "SASRec on x"],
            r"has the identity EASE on \w+, asked for SASRec on x",
        ),
        (
            ["--data.split.strategy", "random"],
            r"runs/teacher was trained on another split than this one, so its ids",
        ),
        (
            ["--model.loss.teacher.path", "runs/none"],
            r"the run runs/none, on which this one builds, is not there now",
        ),
    ],
)
def test_another_run_than_was_meant_is_refused(copy, words, message, capsys):
    teacher = ["--model.loss", "Distilled", "--model.loss.teacher.path", "runs/teacher"]
    with pytest.raises(SystemExit):
        main(["fit", "--model", "Pupil", *teacher, "--data", "data", "--run", "runs/new", *words])
    shown = " ".join(capsys.readouterr().err.split())
    assert re.search(message, shown)
    assert not Path("runs/new").exists()


def test_a_run_that_nobody_opened_says_so():
    with pytest.raises(RecloomError, match=r"the run runs/a is not open\. Training and recloom\.load open"):
        TrainedRun("runs/a").module()
    assert TrainedRun("runs/a") == TrainedRun("runs/a")
