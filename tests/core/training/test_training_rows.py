"""What one training step gathers: the recommender says so, from windows, pairs, labels or rows of its own."""

from __future__ import annotations

import pytest
import torch
from recloom.batch import Batch
from recloom.data.batches import PairRows, PointwiseRows, RecDataModule, Rows, SequenceRows
from recloom.errors import DataError, RecloomError
from recloom.losses import Loss
from recloom.plugins import collect
from recloom.recommender import Recommender
from recloom.testing.toys import toy_dataset
from recloom.testing.training import train
from torch import nn


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toy") / "toy", vectors=True)


@pytest.fixture
def data(toy):
    found = RecDataModule(str(toy), positive=4.0, candidates="rated", seen="kept")
    found.setup()
    return found


class Baskets:
    """Rows that are whole users, as lists that only `collate` makes tensors of."""

    def __init__(self, train):
        self.train = train
        self.users = torch.nonzero(train.lengths)[:, 0]

    def __len__(self):
        return len(self.users)

    def __getitem__(self, rows):
        return [self.train.last(self.users[row : row + 1], 3)[0][0] for row in rows.tolist()]

    def epoch(self, generator):
        return torch.randperm(len(self), generator=generator)

    def collate(self, baskets):
        return Batch.of(torch.stack(baskets))


class Sum(Loss):
    seen: list[Batch]

    def forward(self, recommender, batch):
        self.seen.append(batch)
        return recommender.items(batch.history).square().mean()


class OfBaskets(Recommender):
    def __init__(self, catalog):
        super().__init__(catalog)
        self.items = nn.Embedding(catalog.num_items + 1, 4, padding_idx=0)

    def training_rows(self, data):
        return Baskets(data.train)

    def score(self, batch):
        return self.items(batch.candidates).sum(-1).expand(len(batch), -1)


def test_a_recommender_is_trained_on_rows_of_its_own(toy, monkeypatch):
    loss = Sum()
    loss.seen = []
    monkeypatch.setattr("recloom.testing.training.build", lambda hook, given: loss)
    module = train(OfBaskets, {}, toy, loss="Sum", epochs=2, batch_size=8)
    users = len(Baskets(module.data.train))
    assert sum(map(len, loss.seen)) == 2 * users
    assert {batch.history.shape[1] for batch in loss.seen} == {3}
    first, second = torch.cat([batch.history for batch in loss.seen]).split(users)
    assert not torch.equal(first, second)  # each epoch has an order of its own
    assert torch.equal(*(part[part[:, 2].argsort(stable=True)].sort(0).values for part in (first, second)))


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("SASRec", {"max_len": 6}, SequenceRows),
        ("EASE", {}, SequenceRows),
        ("LightGCN", {"dim": 4}, PairRows),
        ("DIN", {"max_len": 6}, PointwiseRows),
        ("KAR", {"shared": 1, "dedicated": 1, "hidden": 4}, PointwiseRows),
    ],
)
def test_recommenders_ask_for_the_rows_they_learn_from(data, name, options, kind):
    if name not in collect("register_models"):
        pytest.skip(f"{name} is not installed")
    rows = collect("register_models")[name](data.catalog, **options).training_rows(data)
    assert type(rows) is kind
    assert isinstance(rows, Rows)
    batch = rows[rows.epoch(torch.Generator().manual_seed(0))[:5]]
    assert len(batch) == 5
    assert batch.labels.is_floating_point() == (kind is PointwiseRows)


def test_the_options_of_data_reach_the_rows(toy):
    def rows(name, **options):
        data = RecDataModule(str(toy), positive=4.0, **options)
        data.setup()
        return collect("register_models")[name](data.catalog, max_len=2).training_rows(data)

    users = int((rows("SASRec").interactions.lengths > 1).sum())
    assert len(rows("SASRec", windows="last")) == users < len(rows("SASRec"))
    with pytest.warns(UserWarning, match="a click model reads every pair of user and item, so ranking"):
        assert len(rows("DIN", known_first=30)) < len(rows("DIN"))


def test_vectors_that_tell_labels_are_refused_by_a_click_model_alone(data, monkeypatch, tmp_path):
    models = collect("register_models")

    def refuse(path, known_first):
        raise DataError(f"{path} tells of what is learnt")

    monkeypatch.setattr("recloom.models.ctr.click_model.check_first", refuse)
    data.user_vectors = "users.parquet"
    with pytest.raises(DataError, match=r"users\.parquet tells of what is learnt"):
        models["DIN"](data.catalog).training_rows(data)
    assert len(models["SASRec"](data.catalog).training_rows(data))


def test_without_a_run_there_are_no_training_rows(data):
    with pytest.raises(RecloomError, match="needs a Trainer: which rows are made depends on the recommender"):
        data.train_dataloader()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"candidates": "uniform-5"},
        {"candidates": "rated", "positive": 4.0, "seen": "kept"},
        {"split": {"strategy": "users"}},
    ],
)
def test_the_protocol_counts_requests_without_making_a_loader(toy, options, monkeypatch):
    from recloom.schemas import SplitSpec

    split = SplitSpec.model_validate(options.pop("split", {}))
    data = RecDataModule(str(toy), split, **options)
    data.setup()
    counted = {part: len(data.requests(part).dataset) for part in ("valid", "test") if len(data.parts[part])}
    monkeypatch.setattr(data, "requests", None)
    assert {part: data.protocol(part).users for part in counted} == counted
