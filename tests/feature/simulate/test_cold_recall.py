"""A2 fact 8: cold items are found once a language model has said who would choose them."""

from __future__ import annotations

from functools import partial

import lightning as L
import pytest
import torch
from recloom.data.batches.module import RecDataModule
from recloom.data.catalog import Catalog
from recloom.data.prepare.dataset import write_dataset
from recloom.data.synth.generator import World, synthesise
from recloom.llm.client.options import LLMOptions
from recloom.llm.fake import Fake
from recloom.llm.texts.histories import read_training
from recloom.losses import SampledSoftmax
from recloom.schemas import Source, SplitSpec
from recloom.testing.training import silence
from recloom.training.module import RecModule
from recloom_feature.simulate.command import simulate
from recloom_feature.simulate.loss import ColdStart
from recloom_pretrain.sequence.sasrec import SASRec

SPLIT = SplitSpec(strategy="time", valid=0, test=0.3)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Films with planted topics, an item in seven of them cold, and the preferences of a model that reads topics.

    `overlap` sees the topic alone (`category`), which is what the users were invented to choose by.
    """
    folder = tmp_path_factory.mktemp("world")
    data, _, _ = synthesise(World(users=200, items=120, cold=0.15, mean_length=15, seed=1))
    write_dataset(data, folder / "data", name="world", source=Source(reader="synth"), licence="invented")
    simulate(
        folder / "data", llm=LLMOptions(Fake(), ledger=folder / "l.sqlite"), split=SPLIT, users=1.0, pairs=5,
        columns=["category"], out=folder / "pairs.parquet",
    )  # fmt: skip
    return folder


def recall(world, loss):
    """The share of the held-out items, warm and cold, among the ten best of the whole catalogue."""
    torch.manual_seed(0)
    module = RecModule(partial(SASRec, dim=16, num_layers=1, max_len=20), loss, lr=0.005)
    data = RecDataModule(str(world / "data"), SPLIT, batch_size=32)
    with silence():
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(module.train(), data)
    module.eval()
    found = read_training(world / "data", SPLIT)
    is_cold = torch.zeros(found.catalog.num_items + 1, dtype=torch.bool)
    is_cold[torch.from_numpy(Catalog.item_index(found.catalog, found.cold_items()))] = True
    hits, total = [0, 0], [0, 0]
    with torch.no_grad():
        for batch in data.test_dataloader():
            best = batch.candidates[0][module.rank(batch).topk(10, dim=1).indices]  # (B, 10)
            found = (batch.labels[:, :, None] == best[:, None]).any(2)
            for cold in (0, 1):
                wanted = (batch.labels > 0) & (is_cold[batch.labels] == bool(cold))
                hits[cold] += int((found & wanted).sum())
                total[cold] += int(wanted.sum())
    assert min(total) > 30
    return [share / count for share, count in zip(hits, total, strict=True)]


@pytest.mark.fact("A2.8")
def test_cold_recall_rises_with_an_oracle(world):
    base = partial(SampledSoftmax, negatives=64, sampling="popularity")
    warm, plain = recall(world, base())
    _, ours = recall(world, ColdStart(str(world / "pairs.parquet"), base(), weight=0.3))
    chance = 10 / 120
    assert plain <= chance
    assert ours > 2 * chance
    assert warm > chance  # the backbone has learnt something of warm items
