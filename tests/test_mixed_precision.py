"""Every recommender with every loss that it takes makes a training step under `bf16-mixed`, near that in float32."""

from __future__ import annotations

import inspect

import pytest
import torch
from recloom.data.batches.sampler import BatchSampler, loader
from recloom.errors import RecloomError
from recloom.plugins import collect
from recloom.testing import RecommenderTests, toy_dataset, train
from recloom.testing.contract import HALF
from recloom.testing.training import mixed_precision_losses
from recloom.training.measurement import Measurement

MODELS = {name: model for name, model in collect("register_models").items() if model.default_loss}
LOSSES = collect("register_losses")
OF_FILES = {"ColdStart", "SampledTexts"}
"""Losses that read a file: their own tests make such a step."""
TAKEN = {
    "LightGCN": set(LOSSES) - OF_FILES - {"LogLoss"},
    "DIN": {"LogLoss"},
    "BERT4Rec": {"CrossEntropy", "BCE"},
}
"""What these models take at least; together every loss."""


def needs_an_argument(loss):
    given = list(inspect.signature(loss.__init__).parameters.values())[1:]
    return any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in given)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toy") / "toy", vectors=True)


def test_losses_of_files_are_known():
    assert {name for name, loss in LOSSES.items() if needs_an_argument(loss)} == OF_FILES
    assert set.union(*TAKEN.values()) == set(LOSSES) - OF_FILES


@pytest.mark.parametrize("name", MODELS)
def test_each_loss_is_near_that_in_float32(name, toy):
    config = {"dim": 8} if "dim" in inspect.signature(MODELS[name]).parameters else {}
    module = train(MODELS[name], config, toy, steps=1)
    data = module.trainer.datamodule
    rows = module.recommender.training_rows(data)
    batch = next(iter(loader(rows, BatchSampler(len(rows), 8))))
    found = {}
    for key in sorted(set(LOSSES) - OF_FILES):
        module.loss = LOSSES[key]()
        try:
            module.loss.prepare(module.recommender, data.catalog)
            module.loss.fit(data.train)
            module.loss(module.recommender, batch)
        except RecloomError:
            continue  # no loss for this model, as it says
        found[key] = mixed_precision_losses(module, batch)
    assert set(found) >= TAKEN.get(name, set())
    assert found
    far = {key: (a, b) for key, (a, b) in found.items() if abs(a - b) > HALF * max(1.0, abs(a))}
    assert not far


def test_a_validation_under_autocast_ranks_as_without(toy):
    module = train(MODELS["TextProjection"], {"dim": 8}, toy, steps=1)
    data = module.trainer.datamodule
    batch = next(iter(data.val_dataloader()))
    found = []
    for half in (False, True):
        measurement = Measurement(module.catalog, data, ["mrr"], by_segment=False)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            assert module.rank(batch).dtype == (torch.bfloat16 if half else torch.float32)
            measurement.update(module, batch)
        found.append(measurement.meter.per_user()["mrr"].tolist())
    assert len(set(found[0])) > 3
    assert found[1] == pytest.approx(found[0], abs=1e-12)


class FailsInHalfPrecision(MODELS["TextProjection"]):
    def training_queries(self, batch):
        q = super().training_queries(batch)
        half = q.vectors @ torch.eye(q.vectors.shape[1])
        return q._replace(vectors=torch.zeros(half.shape).masked_scatter(torch.tensor(True), half))


class IsAnotherInHalfPrecision(MODELS["TextProjection"]):
    def training_queries(self, batch):
        q = super().training_queries(batch)
        product = q.vectors @ torch.eye(q.vectors.shape[1])
        return q if product.dtype == torch.float32 else q._replace(vectors=q.vectors * 2)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (FailsInHalfPrecision, "a step under autocast to bfloat16 fails .*masked_scatter"),
        (IsAnotherInHalfPrecision, r"loss under autocast to bfloat16 is [\d.]+, and [\d.]+ in float32"),
    ],
)
def test_the_contract_tells_what_half_precision_breaks(model, message, toy):
    kit = type("Kit", (RecommenderTests,), {"recommender": model, "config": {"dim": 8}})()
    with pytest.raises(AssertionError, match=f"^{model.__name__} breaks the contract: .*{message}"):
        kit.test_a_step_in_bfloat16_is_near_one_in_float32(kit.trained(toy, steps=1))
