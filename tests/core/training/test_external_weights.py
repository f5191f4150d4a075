"""Weights from a pretrained folder: in no checkpoint, checked by fingerprint and by the outputs of a stored batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import recloom
import torch
from recloom import spec
from recloom.errors import RecloomError
from recloom.llm.local.adapter import fingerprint
from recloom.plugins import collect
from recloom.recommender import Pretrained, Queries, VectorRecommender
from recloom.runs.add_items import write
from recloom.testing.toys import toy_dataset
from recloom.testing.training import requests, train
from recloom.training.checkpoint import read_checkpoint
from recloom.training.external_weights import check_probes, external_names
from recloom.training.held_runs import restore
from torch import nn


class Adapted(VectorRecommender):
    """A frozen base from a folder, a low-rank adapter, and a bias that was trained before it was frozen."""

    default_loss = "CrossEntropy"

    def __init__(self, catalog, folder: str = "", prefix: str = "base."):
        super().__init__(catalog)
        self.folder, self.prefix = Path(folder), prefix
        base = nn.Linear(4, 4)
        stored = json.loads((self.folder / "weights.json").read_text())
        base.load_state_dict({name: torch.tensor(value) for name, value in stored.items()})
        self.base = nn.Sequential(base.requires_grad_(False), nn.Dropout(0.5))
        self.base.lora = nn.Parameter(torch.zeros(4, 4))
        self.base.added = nn.Parameter(torch.full((4,), 7.0), requires_grad=False)
        self.base.register_buffer("scale", torch.ones(1))
        self.items = nn.Embedding(catalog.num_items + 1, 4, padding_idx=0)

    def external_weights(self):
        inputs = torch.arange(8.0).view(2, 4)
        found = Pretrained(self.folder, fingerprint(self.folder), inputs, self.encode, kept=("added",))
        return {self.prefix: found}

    def encode(self, x):
        return self.base(x) + x @ self.base.lora + self.base.added

    def query(self, batch):
        return self.encode(self.items(batch.history).mean(1))

    def item_vectors(self):
        return self.items.weight

    def training_queries(self, batch):
        label = batch.labels[:, -1]
        return Queries(
            self.query(batch)[label > 0], label[label > 0], self.items.weight, batch.user[label > 0]
        )


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toy") / "toy")


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(3)
    (tmp_path / "base").mkdir()
    weights = {name: value.tolist() for name, value in nn.Linear(4, 4).state_dict().items()}
    (tmp_path / "base" / "weights.json").write_text(json.dumps(weights))
    return tmp_path / "base"


@pytest.fixture
def saved(toy, folder, tmp_path):
    """A trained module and its checkpoint."""
    module = train(Adapted, {"folder": str(folder)}, toy, steps=3)
    module.recommender.base.added.data += 1  # as if trained, then frozen
    module.trainer.save_checkpoint(tmp_path / "model.ckpt")
    return module, tmp_path / "model.ckpt"


def test_a_checkpoint_holds_what_training_changed_alone(saved):
    module, path = saved
    state = read_checkpoint(path)["state_dict"]
    below = {name for name in state if name.startswith("recommender.base.")}
    assert below == {"recommender.base.lora", "recommender.base.added"}
    assert "recommender.items.weight" in state
    assert external_names(module.recommender) == {"base.0.weight", "base.0.bias", "base.scale"}


def test_what_is_loaded_scores_as_what_was_saved(saved):
    module, path = saved
    loaded = restore(read_checkpoint(path)).eval()
    batch = requests(module.data.train)
    with torch.no_grad():
        assert torch.equal(loaded.recommender.score(batch), module.recommender.score(batch))
    assert float(loaded.recommender.base.lora.abs().max()) > 0


def test_training_goes_on_from_a_checkpoint_as_if_never_interrupted(toy, folder, tmp_path):
    config = {"folder": str(folder)}
    whole = train(Adapted, config, toy, steps=5, save=(3, tmp_path / "part.ckpt"))
    resumed = train(Adapted, config, toy, steps=5, resume=tmp_path / "part.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_another_file_in_the_folder_is_refused_before_anything_is_computed(saved, folder):
    _, path = saved
    (folder / "config.json").write_text("{}")
    with pytest.raises(
        RecloomError,
        match=r"the pretrained weights in .*base changed: .* fingerprint [0-9a-f]{16} .*, found [0-9a-f]{16}\. Put",
    ):
        restore(read_checkpoint(path))


def test_other_outputs_from_the_same_files_are_refused(saved, monkeypatch):
    _, path = saved
    honest = Adapted.encode
    monkeypatch.setattr(Adapted, "encode", lambda self, x: honest(self, x) + 1e-2)
    with pytest.raises(
        RecloomError, match=r"give other outputs than when this run was saved: 0\.01 apart, .* allowed"
    ):
        restore(read_checkpoint(path))


@pytest.mark.parametrize(
    ("dtype", "apart", "refused"),
    [
        (torch.float32, 5e-5, False),
        (torch.float32, 5e-4, True),
        (torch.bfloat16, 0.04, False),
        (torch.bfloat16, 0.2, True),
        (torch.float16, 0.01, False),
        (torch.float16, 0.05, True),
    ],
)
def test_how_far_outputs_may_differ_depends_on_their_dtype(saved, dtype, apart, refused, monkeypatch):
    recommender = saved[0].recommender
    shown = torch.ones(2, 3, dtype=dtype)
    monkeypatch.setattr(recommender, "encode", lambda x: shown)
    then = {"base.": {"inputs": torch.zeros(1, 4), "outputs": (shown.double() - apart).to(dtype)}}
    if refused:
        with pytest.raises(RecloomError, match="give other outputs"):
            check_probes(recommender, then)
    else:
        check_probes(recommender, then)


def test_a_run_with_new_items_holds_none_of_them_either(toy, folder, tmp_path, monkeypatch):
    known = {"Adapted": Adapted}
    monkeypatch.setattr(
        spec, "collect", lambda hook: collect(hook) | (known if hook == "register_models" else {})
    )
    monkeypatch.setattr(Adapted, "extend", lambda self, catalog: None)
    options = {"folder": str(folder)}
    run = recloom.fit(toy, "Adapted", options, run=tmp_path / "run", max_epochs=1)
    (tmp_path / "grown").mkdir()
    write(tmp_path / "grown", run, run.record)
    (path,) = (tmp_path / "grown" / "checkpoints").glob("*.ckpt")
    checkpoint = read_checkpoint(path)
    assert not {f"recommender.{name}" for name in external_names(run.recommender)} & set(
        checkpoint["state_dict"]
    )
    assert list(checkpoint["recloom"]["external"]) == ["base."]
    assert recloom.load(tmp_path / "grown").recommend(["i1"], k=3) == run.recommend(["i1"], k=3)


def test_probing_leaves_the_parts_in_the_mode_they_were_in(saved, tmp_path):
    module, _ = saved
    module.recommender.train()
    module.recommender.base[1].eval()
    module.trainer.save_checkpoint(tmp_path / "again.ckpt")
    assert module.recommender.training
    assert not module.recommender.base[1].training
    outputs = [
        read_checkpoint(path)["recloom"]["external"]["base."]["outputs"]
        for path in (saved[1], tmp_path / "again.ckpt")
    ]
    assert torch.equal(*outputs)  # dropout was off both times


def test_a_checkpoint_and_a_recommender_that_disagree_on_what_is_external_are_refused(saved, monkeypatch):
    _, path = saved
    monkeypatch.setattr(Adapted, "external_weights", lambda self: {})
    with pytest.raises(
        RecloomError, match=r"leaves out the weights of \['base\.'\], and Adapted .* of no folder"
    ):
        restore(read_checkpoint(path))


def test_a_prefix_of_no_weight_is_refused(toy, folder, tmp_path):
    module = train(Adapted, {"folder": str(folder), "prefix": "backbone."}, toy, steps=1)
    with pytest.raises(
        RecloomError, match=r"has the prefix 'backbone\.', with which no name of its state begins"
    ):
        module.trainer.save_checkpoint(tmp_path / "model.ckpt")
