"""Core's losses keep the contract of a loss, and the contract finds what is wrong with one."""

from __future__ import annotations

import pytest
import torch
from recloom.losses import BCE, BPR, GBCE, CrossEntropy, Loss, SampledLoss, SampledSoftmax
from recloom.testing import LossTests

LOSSES = {
    "CrossEntropy": (CrossEntropy, {}),
    "SampledSoftmax": (SampledSoftmax, {"negatives": 16}),
    "PopularitySampledSoftmax": (
        SampledSoftmax,
        {"negatives": 16, "sampling": "popularity", "shared": False},
    ),
    "BPR": (BPR, {"negatives": 4}),
    "PenalisedBPR": (BPR, {"l2": 1e-4, "negatives": 4}),
    "BCE": (BCE, {"negatives": 8}),
    "GBCE": (GBCE, {"negatives": 16}),
}
for _name, (_loss, _config) in LOSSES.items():
    globals()[f"Test{_name}"] = type(f"Test{_name}", (LossTests,), {"loss": _loss, "config": _config})


class TurnedRound(CrossEntropy):
    def forward(self, recommender, batch):
        return -super().forward(recommender, batch)


class PaddingCounts(Loss):
    def forward(self, recommender, batch):
        scores = recommender.queries(batch.history) @ recommender.item_vectors().T  # (B, L, V + 1)
        return torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch.labels.flatten())


class NotANumber(SampledLoss):
    def forward(self, recommender, batch):
        q = recommender.training_queries(batch)
        return (self.scores(q, self.draw(q))[0] * 0 - 1).log().mean()


@pytest.mark.parametrize(
    ("loss", "check", "message"),
    [
        (TurnedRound, "test_training_with_it_raises_the_targets", "steps moved the targets"),
        (PaddingCounts, "test_padding_is_no_target_and_no_negative", "padding change it by"),
        (NotANumber, "test_it_is_one_finite_number", "it is nan"),
        (NotANumber, "test_it_is_finite_in_bfloat16", "in bfloat16 it is nan"),
    ],
)
def test_a_faulty_loss_fails_its_check(loss, check, message, tmp_path):
    from recloom import Batch, Catalog, Interactions
    from recloom.testing.loss import LastItemVectors
    from recloom.testing.toys import toy_dataset

    catalog = Catalog.load(toy_dataset(tmp_path / "toy"))
    rows = Interactions.load(tmp_path / "toy", catalog)
    torch.manual_seed(0)
    model, users = LastItemVectors(catalog), torch.arange(1, 9)
    items, _ = rows.last(users, 9)
    batch = Batch.of(items[:, :-1], user=users, labels=items[:, 1:] * (items[:, :-1] > 0))
    tests = type("T", (LossTests,), {"loss": loss})()
    with pytest.raises(AssertionError, match=message):
        getattr(tests, check)(loss(), model, batch)
