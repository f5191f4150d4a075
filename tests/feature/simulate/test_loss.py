"""The cold-start augmentation loss; the facts are those of card A2."""

from __future__ import annotations

import copy
from functools import partial

import lightning as L
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.batches.module import RecDataModule
from recloom.data.catalog import Catalog
from recloom.errors import DataError, RecloomError
from recloom.llm.texts.generated_table import GeneratedTable, TableTarget, write_generated
from recloom.llm.texts.histories import read_training
from recloom.losses import BPR, CrossEntropy, Loss, SampledSoftmax
from recloom.recommender import VectorRecommender
from recloom.schemas import SplitSpec
from recloom.testing.training import silence
from recloom.training.module import RecModule
from recloom_feature.simulate.loss import ColdStart, preference
from recloom_feature.simulate.preferences import METADATA, MadeFrom, simulated_table
from recloom_graph.models.lightgcn import LightGCN
from recloom_pretrain.sequence.bert4rec import BERT4Rec
from recloom_pretrain.sequence.sasrec import SASRec

SPLIT = SplitSpec(strategy="time", valid=0, test=0.3)
COLD = ["c1", "c2", "c3"]
WARM = [f"w{n}" for n in range(8)]
SMALL = {"dim": 8, "max_len": 6}


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset):
    """Twelve users with seven warm items each; three cold items come after the cut."""
    rows = [(f"u{user}", WARM[(user + at) % 8], at * 100 + user) for at in range(7) for user in range(12)] + [
        (f"u{user}", COLD[(user + at) % 3], 5000 + at * 100 + user) for at in range(3) for user in range(12)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": WARM + COLD, "title": [f"title of {i}" for i in WARM + COLD]})
    return write_dataset(tmp_path_factory.mktemp("cold") / "data", frame, items)


def write_pairs(path, data, records, augment="pairwise", **changes):
    """A file of (user, preferred, other) as the command writes it."""
    found = read_training(data, SPLIT)
    facts = {
        "dataset": found.card.name, "data_hash": found.card.data_hash(), "split": found.spec,
        "split_hash": found.split_hash, "training": found.digest(), "augment": augment, "asked_by": "answers",
        "disagreement": "drop", "users": 1.0, "pairs": 1, "history": 20, "columns": None, "seed": 0,
        "prompt": "x@0", "model": {"class": "Fake"}, "asked": len(records), "failed": 0, "same_letter": 0,
    } | changes  # fmt: skip
    rows = [
        {"user_id": u, "preferred": p, "other": o, "confidence": None, "agreed": True, "prompt": "x@0", "source": [0]}
        for u, p, o in records
    ]  # fmt: skip
    target = TableTarget(path, METADATA, MadeFrom(**facts).model_dump(mode="json"))
    write_generated(target, GeneratedTable(simulated_table(rows)))
    return str(path)


def module_of(kind, loss, **options):
    torch.manual_seed(0)
    return RecModule(partial(kind, **options), loss, lr=0.01)


def fit(module, data, steps=6):
    with silence():
        trainer = L.Trainer(
            accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        )  # fmt: skip
        trainer.fit(module, RecDataModule(str(data), SPLIT, batch_size=4))
    return module.recommender


def ready(kind, loss, data, **options):
    """A recommender and a loss that are ready for one another, without training."""
    module = module_of(kind, loss, **options)
    fit(module, data, steps=0)
    return module.recommender.eval(), module.loss


def rows_of(recommender, data, ids):
    index = Catalog.load(data).item_index(ids)
    return recommender.items.ids.weight[torch.from_numpy(index)]


@pytest.mark.fact("A2.3")
def test_loss_of_two_pairs_equals_the_hand_value():
    assert preference(torch.tensor([[0.5, 0.3]])).item() == pytest.approx(0.5981, abs=5e-5)
    two = preference(torch.tensor([[0.5, 0.3], [1.0, 1.0]])).item()
    assert two == pytest.approx((0.5981389 + 0.6931472) / 2, abs=1e-6)


class Fixed(VectorRecommender):
    """Item n has the score given for it, for everyone."""

    default_loss = {"class_path": "CrossEntropy"}  # noqa: RUF012

    def __init__(self, catalog, scores=()):
        super().__init__(catalog)
        self.scores = torch.nn.Parameter(torch.tensor([0.0, *scores]))

    def score(self, batch):
        self.asked = batch
        return self.scores[batch.candidates].expand(len(batch), -1)


class Nothing(Loss):
    def forward(self, recommender, batch):
        return recommender.scores.sum() * 0


@pytest.mark.fact("A2.3")
def test_the_loss_weighs_scores_of_the_recommender(data, tmp_path):
    scores = [0.0] * 8 + [0.7, 0.5, 0.0]  # c1 - c2 = .2
    path = write_pairs(tmp_path / "p.parquet", data, [("u3", "c1", "c2")])
    recommender, loss = ready(Fixed, ColdStart(path, Nothing(), weight=3.0), data, scores=scores)
    assert loss(recommender, Batch.of(torch.zeros(1, 1).long())).item() == pytest.approx(
        3 * 0.5981389, abs=1e-6
    )


def test_a_user_is_asked_for_with_the_whole_training_history_in_order(data, tmp_path):
    path = write_pairs(tmp_path / "p.parquet", data, [("u3", "c1", "c2")])
    recommender, loss = ready(Fixed, ColdStart(path, Nothing()), data, scores=[0.0] * 11)
    loss(recommender, Batch.of(torch.zeros(1, 1).long()))
    catalog = Catalog.load(data)
    assert catalog.item_ids(recommender.asked.history[0]) == [WARM[(3 + at) % 8] for at in range(7)]
    assert recommender.asked.user.tolist() == catalog.user_index(["u3"]).tolist()
    assert recommender.asked.request_time.item() == 603


@pytest.mark.parametrize("kind", [SASRec, LightGCN])
@pytest.mark.parametrize("records", [[], [("u1", "c1", "c2")]])
@pytest.mark.fact("A2.2")
def test_without_pairs_or_weight_nothing_changes(kind, records, data, tmp_path):
    options = {"dim": 8} if kind is LightGCN else {**SMALL, "dropout": 0.3}
    base = BPR(l2=1e-4) if kind is LightGCN else BPR()
    plain = fit(module_of(kind, copy.deepcopy(base), **options), data).state_dict()
    path = write_pairs(tmp_path / "p.parquet", data, records)
    loss = ColdStart(path, base, weight=0.0 if records else 1.0)
    same = fit(module_of(kind, loss, **options), data).state_dict()
    assert plain.keys() == same.keys()
    assert all(torch.equal(plain[name], same[name]) for name in plain)


@pytest.mark.fact("A2.2")
def test_pairs_with_a_weight_change_the_training(data, tmp_path):
    path = write_pairs(tmp_path / "p.parquet", data, [("u1", "c1", "c2")])
    plain = fit(module_of(SASRec, BPR(), **SMALL), data)
    other = fit(module_of(SASRec, ColdStart(path, BPR()), **SMALL), data)
    assert not torch.equal(plain.items.ids.weight, other.items.ids.weight)


@pytest.mark.parametrize("augment", ["pairwise", "positive"])
@pytest.mark.fact("A2.7")
def test_cold_items_learn_from_simulated_records_alone(augment, data, tmp_path):
    """Negatives drawn by popularity never are cold items, so they get a gradient of exactly 0."""
    base = SampledSoftmax(negatives=16, sampling="popularity")
    begun, _ = ready(SASRec, copy.deepcopy(base), data, **SMALL)
    before = rows_of(begun, data, COLD).clone()
    plain = fit(module_of(SASRec, copy.deepcopy(base), **SMALL), data)
    assert torch.equal(rows_of(plain, data, COLD), before)
    assert not torch.equal(rows_of(plain, data, WARM), rows_of(begun, data, WARM))
    other = None if augment == "positive" else "c2"
    path = write_pairs(tmp_path / "p.parquet", data, [("u1", "c1", other), ("u4", "c1", other)], augment)
    after = rows_of(fit(module_of(SASRec, ColdStart(path, base), **SMALL), data), data, COLD)
    moved = (after != before).any(1).tolist()
    assert moved == [True, augment == "pairwise", False]


@pytest.mark.parametrize(("kind", "options"), [(SASRec, SMALL), (BERT4Rec, SMALL), (LightGCN, {"dim": 8})])
@pytest.mark.parametrize("augment", ["pairwise", "positive"])
def test_the_preferred_item_rises_for_every_kind_of_recommender(kind, options, augment, data, tmp_path):
    records = [(f"u{n}", "c1", "c2" if augment == "pairwise" else None) for n in range(12)]
    path = write_pairs(tmp_path / "p.parquet", data, records, augment)
    recommender = fit(module_of(kind, ColdStart(path, weight=2.0), **options), data, steps=40).eval()
    found = read_training(data, SPLIT)
    user = torch.from_numpy(found.catalog.user_index([f"u{n}" for n in range(12)]))
    item = torch.from_numpy(found.catalog.item_index(["c1", "c2"]))
    met = torch.tensor(
        [
            found.catalog.item_index(one.items).tolist()
            for one in found.histories([f"u{n}" for n in range(12)])
        ]
    )
    with torch.no_grad():
        scores = recommender.score(Batch.of(met, item[None], user=user))
    assert (scores[:, 0] > scores[:, 1]).all()


def test_positive_records_are_training_rows_that_follow_the_history(data, tmp_path):
    path = write_pairs(tmp_path / "p.parquet", data, [("u3", "c2", None)], "positive")
    recommender, loss = ready(SASRec, ColdStart(path), data, **SMALL)
    row = loss.added(recommender, loss.draw())
    catalog = Catalog.load(data)
    assert catalog.item_ids(row.history[0]) == [WARM[(4 + at) % 8] for at in range(6)]  # max_len 6
    assert row.labels[0].tolist() == [0] * 5 + catalog.item_index(["c2"]).tolist()
    with torch.no_grad():
        whole, alone = loss(recommender, row), CrossEntropy()(recommender, row)
    assert whole.item() == pytest.approx(2 * alone.item(), abs=1e-6)  # the row itself, and the record


def test_positive_records_of_a_model_of_pairs_are_pairs(data, tmp_path):
    path = write_pairs(tmp_path / "p.parquet", data, [("u3", "c2", None)], "positive")
    recommender, loss = ready(LightGCN, ColdStart(path), data, dim=8)
    row = loss.added(recommender, loss.draw(), pairs=True)
    catalog = Catalog.load(data)
    assert row.user.tolist() == catalog.user_index(["u3"]).tolist()
    assert row.labels.tolist() == [catalog.item_index(["c2"]).tolist()]


def test_a_step_draws_different_records_among_all(data, tmp_path):
    path = write_pairs(tmp_path / "p.parquet", data, [(f"u{n}", "c1", "c2") for n in range(12)])
    _, loss = ready(SASRec, ColdStart(path, per_step=5), data, **SMALL)
    draws = torch.stack([loss.draw() for _ in range(400)])
    assert (draws.sort(1).values.diff(dim=1) > 0).all()
    counts = torch.bincount(draws.flatten(), minlength=12)
    assert counts.min() > 400 * 5 / 12 * 0.7
    _, whole = ready(SASRec, ColdStart(path, per_step=12), data, **SMALL)
    assert whole.draw().tolist() == list(range(12))


@pytest.mark.fact("A2.5")
def test_requests_of_the_evaluation_are_the_same(data, tmp_path):
    """The test part is a function of the data and the split, whatever the loss reads."""

    def evaluated(module):
        fit(module, data, steps=2)
        found = RecDataModule(str(data), SPLIT)
        found.setup()
        batches = [(b.user, b.history, b.candidates, b.labels) for b in found.test_dataloader()]
        return found.protocol("test").digest(), batches

    path = write_pairs(tmp_path / "p.parquet", data, [("u1", "c1", "c2")])
    plain, ours = (
        evaluated(module_of(SASRec, None, **SMALL)),
        evaluated(module_of(SASRec, ColdStart(path), **SMALL)),
    )
    assert plain[0] == ours[0]
    assert len(plain[1]) == len(ours[1]) > 0
    for one, other in zip(plain[1], ours[1], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_records_of_another_training_part_are_refused(data, tmp_path):
    path = write_pairs(tmp_path / "p.parquet", data, [("u1", "c1", "c2")], training="0" * 16)
    with pytest.raises(
        RecloomError, match=r"other training interactions \(data, digest 0+\) than this run.*Run `recloom"
    ):
        ready(SASRec, ColdStart(path), data, **SMALL)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (("u1", "c9", "c2"), "names preferred 'c9', which this run's catalogue does not hold"),
        (("u1", "c1", "c9"), "names other 'c9'"),
        (("nobody", "c1", "c2"), "names user_id 'nobody'"),
        (("u1", "c1", None), "made with --augment pairwise, but 1 of its 1 records have no `other`"),
    ],
)
def test_records_that_do_not_fit_are_refused(record, message, data, tmp_path):
    path = write_pairs(tmp_path / "p.parquet", data, [record])
    with pytest.raises(DataError, match=message):
        ready(SASRec, ColdStart(path), data, **SMALL)


def test_what_is_no_file_of_records_is_refused(data, tmp_path):
    with pytest.raises(DataError, match="found no such file"):
        ready(SASRec, ColdStart(str(tmp_path / "none.parquet")), data, **SMALL)
    pl.DataFrame({"user_id": ["u1"]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"is not a file of `recloom simulate`.*Make one"):
        ready(SASRec, ColdStart(str(tmp_path / "other.parquet")), data, **SMALL)


def test_options_and_order_of_calls(data, tmp_path):
    with pytest.raises(RecloomError, match="weight must be at least 0; found -1"):
        ColdStart("p", weight=-1)
    with pytest.raises(RecloomError, match="per_step must be at least 1; found 0"):
        ColdStart("p", per_step=0)
    path = write_pairs(tmp_path / "p.parquet", data, [("u1", "c1", "c2")])
    with pytest.raises(RecloomError, match="needs prepare"):
        ColdStart(path).fit(None)
    from recloom.models.popularity import Popularity

    with pytest.raises(RecloomError, match="Popularity is not trained"):
        ColdStart(path).prepare(Popularity(Catalog.load(data)), Catalog.load(data))


@pytest.mark.parametrize("augment", ["pairwise", "positive"])
def test_in_bfloat16_it_is_near_that_in_float32(augment, data, tmp_path):
    other = "c3" if augment == "pairwise" else None
    path = write_pairs(tmp_path / "p.parquet", data, [("u3", "c2", other)], augment)
    recommender, loss = ready(BERT4Rec, ColdStart(path), data, **SMALL)
    batch = Batch.of(torch.tensor([[1, 2, 3]]), user=torch.tensor([2]), labels=torch.tensor([[2, 3, 4]]))
    found = []
    for half in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found.append(loss(recommender, batch))
    found[1].float().backward()
    assert float(found[1]) == pytest.approx(float(found[0]), rel=0.02)
