"""The contract kit: a sound recommender passes every check, and each fault fails the check meant for it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from recloom.batch import Batch
from recloom.data.batches.module import RecDataModule
from recloom.models import Random
from recloom.recommender import ExportSpec, Queries, Recommender, VectorRecommender
from recloom.testing import RecommenderTests, checkerboard, cyclic_dataset, toy_dataset
from torch import Tensor, nn

pytest_plugins = ["pytester"]

SLOW = {"test_it_learns_the_checkerboard", "test_the_exported_graph_gives_the_same_scores"}


class Sound(VectorRecommender):
    """Scores by the mean of the history's item vectors; the broken ones below differ in one thing each."""

    default_loss: ClassVar = {"class_path": "CrossEntropy"}
    causal = True

    def __init__(self, catalog, dim: int = 8) -> None:
        super().__init__(catalog)
        self.items = nn.Embedding(self.num_items + 1, dim, padding_idx=0)

    def means(self, history: Tensor) -> Tensor:
        return self.items(history).cumsum(1) / (history > 0).cumsum(1).clamp(min=1)[..., None]

    def query(self, batch: Batch) -> Tensor:
        return self.means(batch.history)[:, -1]

    def item_vectors(self) -> Tensor:
        return self.items.weight

    def training_queries(self, batch: Batch) -> Queries:
        real = batch.labels > 0
        users = batch.user[:, None].expand_as(real)[real]
        return Queries(self.means(batch.history)[real], batch.labels[real], self.items.weight, users)


class ReadsTheFuture(Sound):
    def training_queries(self, batch):
        q = super().training_queries(batch)
        everything = self.items(batch.history).mean(1, keepdim=True).expand(*batch.history.shape, -1)
        return q._replace(vectors=q.vectors + everything[batch.labels > 0])


class ReadsItsLabel(Sound):
    def training_queries(self, batch):
        q = super().training_queries(batch)
        return q._replace(vectors=q.vectors + self.items(q.targets))


class MissesLabels(Sound):
    def training_queries(self, batch):
        last = torch.zeros_like(batch.labels)
        last[:, -1] = batch.labels[:, -1]
        batch.labels = last
        return super().training_queries(batch)


class DependsOnBatchMates(Sound):
    def query(self, batch):
        query = super().query(batch)
        return query - query.mean(0)


class LeaksPadding(Sound):
    def query(self, batch):
        return self.items(batch.history).mean(1)


class IgnoresTheOrderOfCandidates(Sound):
    def score(self, batch):
        batch = Batch.of(batch.history, batch.candidates.sort(1).values, user=batch.user)
        return super().score(batch)


class ComparesCandidates(Sound):
    def score(self, batch):
        return super().score(batch).softmax(1)


class TakesTheFirstRowsCandidates(Sound):
    def score(self, batch):
        return self.query(batch) @ self.items(batch.candidates[0]).T


class SeesHeldOutRows(Sound):
    def fit(self, interactions):
        counts = torch.bincount(interactions.items, minlength=self.num_items + 1)  # not item_counts()
        self.items.weight.data += 0.01 * counts[:, None]


class RemembersHeldOutRows(Sound):
    """As above, but what it knows is not in the state of the module."""

    def fit(self, interactions):
        counts = torch.bincount(interactions.items, minlength=self.num_items + 1)
        self.catalog_bias = counts.float().tolist()

    def item_bias(self):
        return torch.tensor(getattr(self, "catalog_bias", [0.0] * (self.num_items + 1)))


class IsRandom(Sound):
    def query(self, batch):
        query = super().query(batch)
        return query + 0.1 * torch.rand_like(query)


class ForgetsItsState(Sound):
    def fit(self, interactions):
        self.counts = interactions.item_counts().float()  # no buffer

    def item_bias(self):
        return getattr(self, "counts", torch.zeros(self.num_items + 1))


class CountsItsSteps(Sound):
    """Its training depends on a number that no checkpoint holds."""

    steps = 0

    def training_queries(self, batch):
        self.steps += 1
        q = super().training_queries(batch)
        return q._replace(vectors=q.vectors * (1 + self.steps))


class DividesByNothing(Sound):
    def query(self, batch):
        return self.items(batch.history).sum(1) / (batch.history > 0).sum(1, keepdim=True)


class ReadsBeyondItsLimit(Sound):
    max_len = 6


class HasAnotherShape(Sound):
    def score(self, batch):
        return super().score(batch)[:, :-1]


class RanksBackwards(Sound):
    def retrieve(self, batch, k):
        items, scores = super().retrieve(batch, k)
        return items.flip(1), scores.flip(1)


class RepeatsItems(Sound):
    def retrieve(self, batch, k):
        items, scores = super().retrieve(batch, 1)
        return items.expand(-1, k), scores.expand(-1, k)


class RetrievesOthers(Sound):
    def retrieve(self, batch, k):
        items, scores = super().retrieve(batch, k)
        return items + self.num_items, scores


class RetrievesWhatIsMasked(Sound):
    def retrieve(self, batch, k):
        everything = torch.arange(1, self.num_items + 1).expand(len(batch), -1)
        return super().retrieve(Batch.of(batch.history, everything), k)


class ShufflesByItself(Sound):
    def training_rows(self, data):
        rows = super().training_rows(data)
        rows.epoch = lambda generator: torch.randperm(len(rows))
        return rows


class LearnsNothing(Sound):
    def training_queries(self, batch):
        q = super().training_queries(batch)
        return q._replace(vectors=q.vectors.detach(), items=q.items.detach() + 0 * q.items)


class FreezesTheBatchSize(Sound):
    def score(self, batch):
        return super().score(batch) + torch.zeros(len(batch), 1)


class BranchesOnValues(Sound):
    def score(self, batch):
        scores = super().score(batch)
        return scores if bool(batch.history.sum() > 0) else -scores


class ExportsSomethingElse(Sound):
    def export(self):
        spec = super().export()
        return ExportSpec(nn.Sequential(spec.module, nn.Tanh()), spec.inputs, spec.max_len)


class IsTracedOtherwise(Sound):
    def score(self, batch):
        scores = super().score(batch)
        return scores * 2 if torch.compiler.is_exporting() else scores


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    return toy_dataset(tmp_path_factory.mktemp("toys") / "toy")


def failures(model: type[Recommender], checks: set[str], toy: Path, tmp_path: Path) -> dict[str, str]:
    """Run checks of the kit on a recommender: what failed, and the message."""
    kit = type("Kit", (RecommenderTests,), {"recommender": model})()
    given = {"toy": toy, "module": kit.trained(toy, steps=6)}
    given["batch"] = type(kit).batch.__wrapped__(kit, given["module"])
    failed = {}
    for name in sorted(checks):
        check = getattr(kit, name)
        given["tmp_path"] = tmp_path / name
        given["tmp_path"].mkdir()
        try:
            check(*(given[argument] for argument in inspect.signature(check).parameters))
        except AssertionError as error:
            failed[name] = str(error)
        except pytest.skip.Exception:
            continue
    return failed


CHECKS = {name for name in dir(RecommenderTests) if name.startswith("test_")}


def test_a_sound_recommender_passes_every_check(toy, tmp_path):
    assert len(CHECKS) >= 13
    assert failures(Sound, CHECKS, toy, tmp_path) == {}


@pytest.mark.parametrize(
    ("model", "check", "message"),
    [
        (ReadsTheFuture, "a_position_reads_nothing_later", "reads later items of the history"),
        (ReadsItsLabel, "a_position_reads_nothing_later", "reads its own label"),
        (MissesLabels, "a_position_reads_nothing_later", "gave 0 queries for 6 labels"),
        (DependsOnBatchMates, "a_request_does_not_depend_on_its_batch", "other requests of its batch"),
        (LeaksPadding, "padding_changes_nothing", "padding on the left changes the scores"),
        (IgnoresTheOrderOfCandidates, "scores_follow_their_candidates", "do not move with their candidates"),
        (TakesTheFirstRowsCandidates, "scores_follow_their_candidates", "do not move with their candidates"),
        (ComparesCandidates, "scores_follow_their_candidates", "which other candidates there are"),
        (
            SeesHeldOutRows,
            "held_out_rows_are_never_seen",
            r"it must not see \(.*items.weight",
        ),
        (RemembersHeldOutRows, "held_out_rows_are_never_seen", "depends on rows it must not see"),
        (IsRandom, "the_same_request_gets_the_same_scores", "got other scores the second time"),
        (ForgetsItsState, "a_checkpoint_holds_everything", "scores changed by saving and loading"),
        (CountsItsSteps, "resumed_training_is_uninterrupted", "resumed from step 4 differs from 6 steps"),
        (
            DividesByNothing,
            "unknown_users_and_empty_histories_are_scored",
            "an empty history gets scores",
        ),
        (ReadsBeyondItsLimit, "a_long_history_counts_as_its_end", "before the last max_len=6 of a history"),
        (
            HasAnotherShape,
            "scores_are_finite_numbers_of_the_right_shape",
            r"\(6, 29\); expected .* \(6, 30\)",
        ),
        (RanksBackwards, "retrieve_gives_the_best_first", "did not put the best first"),
        (RepeatsItems, "retrieve_gives_the_best_first", "an item twice"),
        (RetrievesOthers, "retrieve_gives_the_best_first", "no candidates"),
        (RetrievesWhatIsMasked, "retrieve_gives_the_best_first", "items that are masked"),
        (
            ShufflesByItself,
            "training_rows_are_gathered_by_their_numbers",
            "depends on more than its generator",
        ),
    ],
)
def test_a_broken_recommender_fails_the_check_that_is_meant_for_it(toy, tmp_path, model, check, message):
    failed = failures(model, {f"test_{check}"}, toy, tmp_path)
    assert list(failed) == [f"test_{check}"]
    assert re.search(f"^{model.__name__} breaks the contract: .*{message}", failed[f"test_{check}"])


@pytest.mark.parametrize("model", [ReadsTheFuture, LeaksPadding, DependsOnBatchMates, SeesHeldOutRows])
def test_one_fault_fails_one_check(toy, tmp_path, model):
    assert len(failures(model, CHECKS - SLOW, toy, tmp_path)) == 1


def test_a_parameter_in_no_group_fails_its_check(toy):
    kit = type("Kit", (RecommenderTests,), {"recommender": Sound})()
    module = kit.trained(toy, steps=1)
    module.recommender.parameter_groups = lambda lr: [{"params": []}]
    with pytest.raises(AssertionError, match=r"leaves out items\.weight, which would never be trained"):
        kit.test_every_parameter_is_trained_in_one_group(module)


def test_what_does_not_learn_fails_the_checkerboard(toy, tmp_path):
    failed = failures(LearnsNothing, {"test_it_learns_the_checkerboard"}, toy, tmp_path)
    assert re.search(r"did not learn the checkerboard: for \d+ of 40 users.* Train longer", *failed.values())


def test_what_has_no_loss_is_not_told_to_train_longer(toy, tmp_path):
    failed = failures(Random, {"test_it_learns_the_checkerboard"}, toy, tmp_path)
    assert re.search(r"Without a loss all it knows comes from fit\(\): look", *failed.values())


@pytest.mark.parametrize(
    ("model", "message", "needs"),
    [
        (ExportsSomethingElse, "run by torch, gives other scores", "torch"),
        (IsTracedOtherwise, "run by ONNX Runtime, gives other scores", "recloom_onnx"),
        (BranchesOnValues, "promises what it cannot keep", "recloom_onnx"),
        (FreezesTheBatchSize, "promises what it cannot keep", "recloom_onnx"),
    ],
)
def test_a_graph_that_is_not_the_recommender_fails_the_export_check(
    toy, tmp_path, model, message, needs, caplog
):
    pytest.importorskip(needs)
    failed = failures(model, {"test_the_exported_graph_gives_the_same_scores"}, toy, tmp_path)
    assert re.search(message, *failed.values())
    assert not [record for record in caplog.records if record.name == "torch.__trace"]


OUTCOMES = ("passed", "failed", "xfailed", "errors", "skipped")
DECLARED = """
from recloom.models import Random
from recloom.testing import RecommenderTests

class TestRandom(RecommenderTests):
    recommender = Random
    deviations = {{{deviations}}}
"""


@pytest.mark.parametrize(
    ("deviations", "outcomes"),
    [
        ("'test_it_learns_the_checkerboard': 'learns nothing'", {"xfailed": 1}),
        ("", {"failed": 1}),
        ("'test_retrieve_gives_the_best_first': 'out of date'", {"failed": 1}),
        ("'test_misspelt': 'x'", {"errors": 1}),
    ],
)
def test_a_deviation_is_declared_by_name_and_must_be_true(pytester, deviations, outcomes):
    pytester.makepyfile(DECLARED.format(deviations=deviations))
    wanted = "checkerboard" if "retrieve" not in deviations else "retrieve"
    result = pytester.runpytest_inprocess("-k", wanted, "-p", "no:cacheprovider")
    found = {name: count for name, count in result.parseoutcomes().items() if name in OUTCOMES}
    assert found == outcomes
    if "errors" in outcomes:
        result.stdout.fnmatch_lines(["*deviations names 'test_misspelt', which is no check*"])


def loaded(folder: Path) -> RecDataModule:
    data = RecDataModule(str(folder))
    data.setup()
    return data


def test_toys_that_differ_in_held_out_rows_share_everything_else(toy, tmp_path):
    one, other = loaded(toy), loaded(toy_dataset(tmp_path / "toy", held_out=1))
    assert one.catalog.items.equals(other.catalog.items)
    assert one.catalog.users.equals(other.catalog.users)
    for mine, theirs in zip(one.train.pairs(), other.train.pairs(), strict=True):
        assert torch.equal(mine, theirs)
    held_out = [data.parts["test"].pairs()[1] for data in (one, other)]
    assert (held_out[0] != held_out[1]).float().mean() > 0.8


def test_on_the_checkerboard_every_user_keeps_to_one_colour_and_misses_two_items(tmp_path):
    data = loaded(checkerboard(tmp_path / "board"))
    users, items = data.train.pairs()
    numbers = torch.tensor([int(raw[1:]) for raw in data.catalog.item_ids(items.numpy())])
    owners = torch.tensor([int(raw[1:]) for raw in data.catalog.users["user_id"].gather(users.numpy() - 1)])
    assert torch.equal(numbers % 2, owners % 2)
    assert data.train.lengths[1:].eq(8).all()
    assert data.catalog.titles([1, 2]) == ["white field 0", "black field 1"]


def test_in_the_circle_each_item_is_followed_by_the_next(tmp_path):
    data = loaded(cyclic_dataset(tmp_path / "circle", 7))
    items = data.visible["test"].last(torch.arange(1, 41), 11)[0] - 1
    assert items.min() == 0
    assert torch.equal(items[:, 1:], (items[:, :-1] + 1) % 7)
    assert len(items[:, 0].unique()) == 7
