"""The contract of a recommender as a test class.

from recloom.testing import RecommenderTests

class TestSASRec(RecommenderTests):
    recommender = SASRec
    config = {"dim": 16}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ..batch import Batch
from ..data.batches.sampler import BatchSampler, loader
from ..data.batches.training_rows import Rows
from ..errors import RecloomError
from ..recommender import Recommender, VectorRecommender
from ..training.checkpoint import read_checkpoint
from ..training.external_weights import OWNER, external_names
from ..training.held_runs import restore
from ..training.module import RecModule
from ..training.optimizer import optimizer_groups
from .exported import exported_scores, searched_scores
from .toys import checkerboard, toy_dataset
from .training import advice, data_of, mixed_precision_losses, requests, train, training_vectors

STEPS = 6
"""Training steps wherever it matters that something was learnt, not what."""
HALF = 0.05
"""How far a loss in bfloat16, which has three digits, may be from that in float32, relative to 1 or the loss."""


class RecommenderTests:
    """Subclass it, name a recommender, and pytest checks the contract; each failure says what was broken.

    Attributes:
        recommender: the class under test.
        config: hyper-parameters, small enough for a second of training.
        vectors: whether it needs a catalogue whose users and items have vectors.
        rated: whether it needs labels of interactions, as recommenders that read pairs do.
        loss: as in a config; None = the recommender's own.
        checkerboard_config: hyper-parameters beside `config` for the toy that must be learnt.
        checkerboard_epochs, checkerboard_lr: how long, at most, and how fast it is trained on it.
        deviations: name of a check to the reason why this recommender cannot meet it. Such a check must
            fail: if it passes, the deviation is out of date, which is a failure too.
        tolerance: how far two scores may differ, relative to the largest score where that exceeds 1.
    """

    recommender: ClassVar[type[Recommender]]
    config: ClassVar[dict[str, Any]] = {}
    vectors: ClassVar[bool] = False
    rated: ClassVar[bool] = False
    loss: ClassVar[str | dict[str, Any] | None] = None
    checkerboard_config: ClassVar[dict[str, Any]] = {}
    checkerboard_epochs: ClassVar[int] = 30
    checkerboard_lr: ClassVar[float] = 1e-2
    deviations: ClassVar[dict[str, str]] = {}
    tolerance: ClassVar[float] = 1e-5

    # -- fixtures -------------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def toy(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Folder of a small prepared dataset."""
        return toy_dataset(tmp_path_factory.mktemp("toy") / "toy", vectors=cls.vectors)

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def ledger(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Responses of a language model that is asked are kept in a ledger of the tests' own."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RECLOOM_LEDGER", str(tmp_path_factory.mktemp("ledger") / "ledger.sqlite"))
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def module(cls, toy: Path) -> RecModule:
        """The recommender, trained for a few steps, in eval mode."""
        return cls().trained(toy, steps=STEPS)

    @pytest.fixture
    def batch(self, module: RecModule) -> Batch:
        """Requests of known users, ranking the whole catalogue."""
        return requests(data_of(module).visible["test"])

    @pytest.fixture(autouse=True)
    def _declared(self, request: pytest.FixtureRequest) -> None:
        known = {name for name in dir(type(self)) if name.startswith("test_")}
        unknown = sorted(set(self.deviations) - known)
        assert not unknown, f"deviations names {unknown[0]!r}, which is no check; there are {sorted(known)}"
        reason = self.deviations.get(request.function.__name__)
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError))

    # -- scores ---------------------------------------------------------------------------------------

    def test_scores_are_finite_numbers_of_the_right_shape(self, module: RecModule, batch: Batch) -> None:
        """(B, C) floating-point scores, finite for every real item."""
        for candidates in (batch.candidates, batch.candidates.expand(len(batch), -1)[:, :7]):
            scores = self.score(module, replace(batch, candidates=candidates))
            expected = (len(batch), candidates.shape[1])
            assert tuple(scores.shape) == expected, self._says(
                f"score() gave shape {tuple(scores.shape)}; expected (B, C) = {expected}"
            )
            assert scores.is_floating_point(), self._says(f"score() gave {scores.dtype}; expected floats")
            self._finite(scores, "a request")

    def test_the_same_request_gets_the_same_scores(self, module: RecModule, batch: Batch) -> None:
        """In eval mode nothing is random."""
        first = self.score(module, batch)
        torch.rand(1)
        self._same(first, self.score(module, batch), "the same request got other scores the second time", 0.0)

    def test_scores_follow_their_candidates(self, module: RecModule, batch: Batch) -> None:
        """Permuted candidates get permuted scores, and (1, C) candidates mean the same as (B, C)."""
        scores = self.score(module, batch)
        spread = self.score(module, replace(batch, candidates=batch.candidates.expand(len(batch), -1)))
        self._same(scores, spread, "shared candidates (1, C) get other scores than the same ones as (B, C)")
        order = torch.rand(scores.shape, generator=torch.Generator().manual_seed(0)).argsort(1)
        shuffled = batch.candidates.expand(len(batch), -1).gather(1, order)  # another order in each row
        permuted = self.score(module, replace(batch, candidates=shuffled))
        self._same(scores.gather(1, order), permuted, "scores do not move with their candidates")
        few = self.score(module, replace(batch, candidates=batch.candidates[:, 3:9]))
        self._same(scores[:, 3:9], few, "an item's score depends on which other candidates there are")

    def test_retrieve_gives_the_best_first(self, module: RecModule, batch: Batch) -> None:
        """`retrieve(batch, k)`: k different candidates of each row, scores descending."""
        with torch.no_grad(), module.llm_sessions():
            items, scores = module.recommender.retrieve(batch, 5)
        assert items.shape == scores.shape == (len(batch), 5), self._says(
            f"retrieve(batch, 5) gave {tuple(items.shape)} items and {tuple(scores.shape)} scores for "
            f"{len(batch)} requests"
        )
        known = torch.isin(items, batch.candidates).all()
        assert known, self._says("retrieve() gave items that are no candidates")
        distinct = items.sort(1).values.diff(dim=1).ne(0).all()
        assert distinct, self._says("retrieve() gave an item twice in one list")
        assert (scores.diff(dim=1) <= 0).all(), self._says("retrieve() did not put the best first")
        few = batch.candidates.expand(len(batch), -1).clone()  # (B, C)
        few[:, ::2] = 0  # as if these were masked
        with torch.no_grad(), module.llm_sessions():
            items, scores = module.recommender.retrieve(replace(batch, candidates=few), 5)
        masked = (~(items[:, :, None] == few[:, None]).any(2) | (items == 0)) & scores.isfinite()
        assert not masked.any(), self._says("retrieve() gave items that are masked (0 among the candidates)")

    def test_a_request_does_not_depend_on_its_batch(self, module: RecModule, batch: Batch) -> None:
        """A batch of one gives what the same request gets among others."""
        together = self.score(module, batch)
        alone = torch.cat([self.score(module, batch.rows(slice(n, n + 1))) for n in range(len(batch))])
        self._same(together, alone, "a request's scores depend on the other requests of its batch")

    # -- histories ------------------------------------------------------------------------------------

    def test_padding_changes_nothing(self, module: RecModule, batch: Batch) -> None:
        """More zeros on the left of a history leave the scores as they are."""
        zeros = torch.zeros(len(batch), 3, dtype=torch.long)
        padded = replace(
            batch,
            history=torch.cat([zeros, batch.history], 1),
            history_time=torch.cat([zeros, batch.history_time], 1),
            history_event=torch.cat([zeros, batch.history_event], 1),
        )
        what = "padding on the left changes the scores"
        self._same(self.score(module, batch), self.score(module, padded), what)

    def test_events_are_read_where_they_are_declared(self, module: RecModule, batch: Batch) -> None:
        """Without `history_event` in `inputs` what happened with an item changes nothing; unknown events are scored."""
        unknown = self.score(module, replace(batch, history_event=torch.zeros_like(batch.history)))
        self._finite(unknown, "a history of unknown events")
        if "history_event" not in module.recommender.inputs:
            what = "events of the history change the scores, and `inputs` does not name history_event"
            self._same(self.score(module, batch), unknown, what)

    def test_unknown_users_and_empty_histories_are_scored(self, module: RecModule, batch: Batch) -> None:
        """User 0 and a history of padding alone get finite scores."""
        nobody, nothing = torch.zeros_like(batch.user), torch.zeros_like(batch.history)
        empty = {"history": nothing, "history_time": nothing, "history_event": nothing}
        cases: dict[str, dict[str, Any]] = {
            "an unknown user (index 0)": {"user": nobody},
            "an empty history": empty,
            "an unknown user with an empty history": {"user": nobody, **empty},
        }
        for what, change in cases.items():
            scores = self.score(module, replace(batch, **change))
            self._finite(scores, what)

    def test_a_long_history_counts_as_its_end(self, module: RecModule, batch: Batch) -> None:
        """Of a history longer than max_len the last max_len items are read; without max_len any length is."""
        limit = module.recommender.max_len
        width = (limit or 300) + 5
        random = torch.Generator().manual_seed(0)
        shape = (len(batch), width)
        history = torch.randint(1, module.recommender.num_items + 1, shape, generator=random)
        times = batch.request_time[:, None] - 60 * torch.arange(width, 0, -1)
        events = 1 + history % 3
        scores = self.score(module, replace(batch, history=history, history_time=times, history_event=events))
        self._finite(scores, f"a history of {width} items")
        if limit is not None:
            end = replace(
                batch, history=history[:, -limit:], history_time=times[:, -limit:],
                history_event=events[:, -limit:],
            )  # fmt: skip
            what = f"items before the last max_len={limit} of a history change the scores"
            self._same(scores, self.score(module, end), what)

    def test_a_position_reads_nothing_later(self, module: RecModule) -> None:
        """Where `causal` is declared, a training query depends on no later item and on no label."""
        model = module.recommender
        if not (model.causal and isinstance(model, VectorRecommender)):
            pytest.skip("not declared causal")
        rows, length, cut = 2, 6, 3
        order = torch.randperm(model.num_items, generator=torch.Generator().manual_seed(0)) + 1
        labels, history = order[:12].view(rows, length), order[12:24].view(rows, length)
        changed = torch.cat([history[:, :cut], history[:, cut:].flip(0, 1)], 1)
        before = training_vectors(model, history, labels, cut)
        assert len(before) == rows * cut, self._says(
            f"training_queries() gave {len(before)} queries for {rows * cut} labels; expected one for each"
        )
        after = training_vectors(model, changed, labels, cut)
        self._same(before, after, "a training query reads later items of the history (the future)")
        other = training_vectors(model, history, labels.roll(1, 0), cut)
        self._same(before, other, "a training query reads its own label")

    # -- training -------------------------------------------------------------------------------------

    def test_training_rows_are_gathered_by_their_numbers(self, module: RecModule) -> None:
        """`training_rows(data)`: rows by number, and an order of each epoch that a seed decides."""
        if module.loss is None:
            pytest.skip("training-free")
        data = data_of(module)
        rows = module.recommender.training_rows(data)
        assert isinstance(rows, Rows), self._says(
            f"training_rows() gave a {type(rows).__name__}, which is no Rows"
        )
        one, again = (rows.epoch(torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(one, again), self._says("the order of an epoch depends on more than its generator")
        inside = len(one) == len(rows) and bool(((one >= 0) & (one < len(rows))).all())
        assert inside, self._says(f"epoch() gave {len(one)} numbers, or one outside of the {len(rows)} rows")
        batch = next(iter(loader(rows, BatchSampler(len(rows), 3))))
        assert isinstance(batch, Batch), self._says(
            f"training rows became a {type(batch).__name__}, no Batch"
        )
        assert len(batch) == min(3, len(rows)), self._says(f"3 training rows became a batch of {len(batch)}")

    def test_every_parameter_is_trained_in_one_group(self, module: RecModule) -> None:
        """`parameter_groups(lr)`: all that require gradients, once each, with options that AdamW knows."""
        if module.loss is None:
            pytest.skip("training-free")
        try:
            optimizer_groups(module.recommender, module.loss, 1e-3)
        except RecloomError as error:
            raise AssertionError(self._says(str(error))) from None

    def test_a_step_in_bfloat16_is_near_one_in_float32(self, module: RecModule) -> None:
        """Under autocast to bfloat16 (`--trainer.precision bf16-mixed`) the loss is near that in float32."""
        if module.loss is None:
            pytest.skip("training-free")
        rows = module.recommender.training_rows(data_of(module))
        batch = next(iter(loader(rows, BatchSampler(len(rows), 8))))
        try:
            whole, half = mixed_precision_losses(module, batch)
        except RuntimeError as error:
            raise AssertionError(self._says(f"a step under autocast to bfloat16 fails ({error})")) from None
        assert abs(whole - half) <= HALF * max(1.0, abs(whole)), self._says(
            f"its loss under autocast to bfloat16 is {half:.4g}, and {whole:.4g} in float32"
        )

    def test_held_out_rows_are_never_seen(self, toy: Path, module: RecModule, tmp_path: Path) -> None:
        """Data that differ in validation and test rows alone give the same recommender."""
        folder = toy_dataset(tmp_path / "toy", held_out=1, vectors=self.vectors)
        other = self.trained(folder, steps=STEPS)
        what = "other held-out rows gave another recommender: its state depends on rows it must not see"
        self._same_state(module, other, what)
        batch = requests(data_of(module).train)
        self._same(self.score(module, batch), self.score(other, batch), what)

    def test_a_checkpoint_holds_everything(self, module: RecModule, batch: Batch, tmp_path: Path) -> None:
        """What is loaded from a checkpoint, without the data, scores as what was saved."""
        module.trainer.save_checkpoint(tmp_path / "model.ckpt")
        checkpoint = read_checkpoint(tmp_path / "model.ckpt")
        external = {f"{OWNER}{name}" for name in external_names(module.recommender)} & set(
            checkpoint["state_dict"]
        )
        assert not external, self._says(
            f"the checkpoint holds weights of a pretrained folder ({min(external, default='')})"
        )
        loaded = restore(checkpoint).eval()
        what = "scores changed by saving and loading"
        self._same(self.score(module, batch), self.score(loaded, batch), what)

    def test_resumed_training_is_uninterrupted(self, toy: Path, module: RecModule, tmp_path: Path) -> None:
        """A checkpoint after k steps and N - k steps from it give what N steps give."""
        if module.loss is None:
            pytest.skip("training-free")
        saved = tmp_path / "part.ckpt"
        whole = self.trained(toy, steps=STEPS, save=(STEPS - 2, saved))
        resumed = self.trained(toy, steps=STEPS, resume=saved)
        what = f"training resumed from step {STEPS - 2} differs from {STEPS} steps in one go"
        self._same_state(whole, resumed, what)

    def test_it_learns_the_checkerboard(self, tmp_path: Path) -> None:
        """Users choose items of one colour; unseen items of a user's colour come before all others."""
        rated = self.rated or self.recommender.reads_pairs
        folder = checkerboard(tmp_path / "checkerboard", rated=rated, vectors=self.vectors)
        module = train(
            self.recommender, {**self.config, **self.checkerboard_config}, folder, loss=self.loss,
            epochs=self.checkerboard_epochs, lr=self.checkerboard_lr,
            until=self._tells_colours_apart,
        )  # fmt: skip
        worst, best = self._of_colours(module)
        wrong = torch.nonzero(worst <= best)[:, 0]
        assert not len(wrong), self._says(
            f"it did not learn the checkerboard: for {len(wrong)} of {len(best)} users an item of the "
            f"other colour ({float(best[wrong[0]]):.3g}) is not below every unseen one of their own "
            f"({float(worst[wrong[0]]):.3g}). {advice(module)}"
        )

    def _tells_colours_apart(self, module: RecModule) -> bool:
        worst, best = self._of_colours(module)
        return bool((worst > best).all())

    def _of_colours(self, module: RecModule) -> tuple[Tensor, Tensor]:
        """(B,) twice: a user's lowest score of an unseen item of their colour, and the highest of the other."""
        train_part = data_of(module).train
        batch = requests(train_part, users=train_part.num_users)
        items = batch.candidates  # (1, C)
        scores = self.score(module, batch)
        mine = (
            items % 2 == batch.user[:, None] % 2
        )  # (B, C): users and items are numbered as they were invented
        seen = train_part.contains(batch.user[:, None], items)
        worst = scores.masked_fill(~mine | seen, float("inf")).amin(1)
        return worst, scores.masked_fill(mine, float("-inf")).amax(1)

    # -- export ---------------------------------------------------------------------------------------

    def test_the_exported_graph_gives_the_same_scores(self, module: RecModule, batch: Batch) -> None:
        """Where `export()` does not refuse, its graph agrees with `score`, in torch and in ONNX Runtime."""
        try:
            spec = module.recommender.export()
        except RecloomError as error:
            pytest.skip(f"not exported: {error}")
        expected = self.score(module, batch)
        try:
            for runtime, scores in exported_scores(spec, batch, module.recommender):
                what = f"the exported graph, run by {runtime}, gives other scores"
                self._same(expected, scores, what, 1e-4)
        except RecloomError as error:
            raise AssertionError(self._says(f"export() promises what it cannot keep ({error})")) from None
        if spec.search is not None:
            found = searched_scores(spec.search, spec, batch)
            self._same(expected, found, "the vectors for an index give other scores", 1e-4)

    # -- what the checks share ------------------------------------------------------------------------

    def trained(
        self, folder: Path, *, steps: int, save: tuple[int, Path] | None = None, resume: Path | None = None
    ) -> RecModule:
        """A new recommender after so many steps."""
        return train(
            self.recommender, self.config, folder, loss=self.loss, steps=steps, save=save, resume=resume
        )

    def score(self, module: RecModule, batch: Batch) -> Tensor:
        """`score` without gradients."""
        with torch.no_grad(), module.llm_sessions():
            return module.recommender.score(batch)

    def _says(self, what: str) -> str:
        return f"{self.recommender.__name__} breaks the contract: {what}."

    def _finite(self, scores: Tensor, what: str) -> None:
        assert scores.isfinite().all(), self._says(f"{what} gets scores that are not finite")

    def _same(self, expected: Tensor, found: Tensor, what: str, tolerance: float | None = None) -> None:
        shapes = tuple(expected.shape), tuple(found.shape)
        assert shapes[0] == shapes[1], self._says(f"{what} (shape {shapes[1]} in place of {shapes[0]})")
        allowed = self.tolerance if tolerance is None else tolerance
        allowed *= max(1.0, float(expected.abs().max()))
        apart = float((expected.double() - found.double()).abs().max())
        assert apart <= allowed, self._says(f"{what} (by up to {apart:.2g}; {allowed:.2g} is allowed)")

    def _same_state(self, one: RecModule, other: RecModule, what: str) -> None:
        mine, theirs = one.state_dict(), other.state_dict()
        assert mine.keys() == theirs.keys(), self._says(f"{what} ({sorted(mine.keys() ^ theirs.keys())})")
        for name, value in mine.items():
            if value.numel():
                self._same(value, theirs[name], f"{what} ({name} differs)", 1e-6)
