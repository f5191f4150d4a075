"""RecDataModule: from a prepared dataset to batches; the model is shown the training part only."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import lightning as L
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ...batch import Batch
from ...errors import RecloomError, at_least
from ...schemas import PARTS, DatasetCard, EqualTimes, Part, Protocol, SplitSpec
from ..catalog import Catalog
from ..interactions import Interactions
from ..provenance import check_split
from ..vector_files import files_by_name
from .candidates import sampled_candidates
from .requests import ImpressionRequests, LabelledRequests, TargetRequests, count_impressions, requesting
from .sampler import BatchSampler, loader
from .training_rows import Rows

LIMITED = {"train": (), "valid": ("val",), "test": ("test", "predict")}
"""Of which of Lightning's limits of batches each part is."""
GIVEN = {"impressions": "shown", "rated": "rated"}
"""Candidates that are in the data, and what they were."""
SCORES_AT_ONCE = 1 << 22
"""Scores of an evaluation batch: its rows are this divided by the size of the catalogue."""
SHARES = tuple(
    tuple(PARTS.index(name) for name in names)
    for names in (("train",), ("valid",), ("test",), ("train", "context"), ("train", "valid", "context"))
)
"""The three parts, and what requests of validation and test may look back on, as codes."""
PAIRWISE = 64
"""So many fewer at once for a model that reads pairs, each of which is work: a batch takes seconds, not minutes."""


@dataclass(frozen=True)
class Needs:
    """What a run asks of its data: known once its recommender is built and its checkpoint, if there is one, is read.

    Attributes:
        rows: makes the training rows from the data; None as long as no run has said so.
        added: items that the run was given after training, beyond those of the dataset; with `all` they are ranked too.
        reads_pairs: whether scoring reads every pair of request and candidate.
        retrieves: whether the recommender makes lists by a method of its own, which are then measured.
    """

    rows: Callable[[RecDataModule], Rows] | None = None
    added: int = 0
    reads_pairs: bool = False
    retrieves: bool = False


class RecDataModule(L.LightningDataModule):
    """Reads a prepared dataset, splits it and serves batches.

    Args:
        path: folder written by `recloom data prepare` or `recloom data synth`.
        split: how interactions are divided; the same data and split always give the same parts.
        split_path: folder written by `recloom data split`, used instead of `split`.
        batch_size: training rows of a batch.
        eval_rows: requests scored at once; by default as many as keep the scores within 16 MB.
        eval_users: requests of validation, drawn at random where there are more; by default all. A test measures all.
        windows: for sequence models, whether all of a long sequence is used, cut into windows (`all`), or only
            its end (`last`), which makes epochs shorter where users have long histories.
        pairs: for models of pairs, one epoch is every `interaction`, or as many draws of a `user`.
        candidates: what is ranked: `all` items; the `impressions` of the data; each user's held-out interactions
            with their labels (`rated`, see `positive`); or, marked as such wherever the number stands, the target
            among `uniform-N` or `popular-N` sampled items.
        seen: whether items of the history may be recommended again (`kept`) or not (`masked`).
        new_users: whether requests without a history are measured (`kept`) or left out of validation and test
            (`dropped`), which the protocol then says.
        num_workers: processes that gather batches.
        vectors: Parquet file of item vectors, as `recloom embed` writes it, for models that read items by them; or
            several by name (`text=FILE image=FILE`), of which a model is told one.
        user_vectors: the same of users, as `recloom embed --of users` writes it.
        positive: the value from which an interaction is labelled 1, such as a rating of 4, for click models.
        known_first: of each user's n training interactions the first min((n + 1) // 2, known_first) are never
            rows of a click model, so that texts may be written from them; by default all are rows.
        seed: of shuffling and of sampled candidates.
    """

    def __init__(
        self,
        path: str,
        split: SplitSpec = SplitSpec(),  # noqa: B008 - frozen
        split_path: str | None = None,
        batch_size: int = 128,
        eval_rows: int | None = None,
        eval_users: int | None = None,
        windows: Literal["all", "last"] = "all",
        pairs: Literal["interaction", "user"] = "interaction",
        candidates: str = "all",
        seen: Literal["masked", "kept"] = "masked",
        new_users: Literal["kept", "dropped"] = "kept",
        num_workers: int = 0,
        vectors: dict[str, str] | str | None = None,
        user_vectors: str | None = None,
        positive: float | None = None,
        known_first: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.path, self.split, self.split_path = path, split, split_path
        self.batch_size, self.eval_rows, self.num_workers, self.seed = (
            batch_size,
            eval_rows,
            num_workers,
            seed,
        )
        self.windows, self.pairs, self.seen, self.new_users = windows, pairs, seen, new_users
        self.candidates, self.vectors, self.user_vectors = candidates, vectors, user_vectors
        self.positive, self.known_first = positive, known_first
        self.eval_users = eval_users
        self.needs = Needs()
        self._ready = False
        at_least(1, batch_size=batch_size, eval_rows=eval_rows, eval_users=eval_users)
        at_least(0, num_workers=num_workers, seed=seed, known_first=known_first)
        if candidates in GIVEN and seen == "masked":
            raise RecloomError(
                f"candidates={candidates!r} ranks what was really {GIVEN[candidates]}, so nothing of it can be masked. "
                "Use seen='kept' (--data.seen kept)."
            )
        if candidates == "rated" and positive is None:
            raise RecloomError(
                "candidates='rated' needs the value from which an interaction is positive. Set --data.positive, "
                "such as 4 for ratings of 1 to 5."
            )

    def setup(self, stage: str | None = None) -> None:
        """Read and split; done once, whatever the stage."""
        if self._ready:
            return
        from ..card import read_card
        from ..split import parts_of_columns

        self.card: DatasetCard = read_card(self.path)
        self.catalog = Catalog.load(self.path, self.card)
        files = files_by_name(self.vectors)
        for name, path in files.items():
            self.catalog = self.catalog.with_vectors(path, name)
        if self.user_vectors is not None:
            self.catalog = self.catalog.with_user_vectors(self.user_vectors)
        columns = self.catalog.columns(self.path)
        self.split, codes, self.split_hash = parts_of_columns(
            self.path, self.card, columns, self.split, self.split_path
        )
        self.equal_times = _equal_times(self.card, columns.tied(), codes)
        everything = self.everything = Interactions.from_columns(columns, self.catalog.num_items)
        everything.positive = self.positive
        *parts, before_valid, before_test = everything.divide(torch.from_numpy(codes), SHARES)
        self.parts = dict(zip(("train", "valid", "test"), parts, strict=True))
        self.train = self.parts["train"]
        if not len(self.train):
            raise RecloomError(
                f"the split {self.split} leaves no training rows of {self.path}. "
                "Lower min_user, min_item, valid or test."
            )
        self.visible = {"valid": before_valid, "test": before_test}
        for made in (*files.values(), self.user_vectors):
            if made is not None:
                check_split(made, self.card.data_hash(), self.split_hash)
        self._ready = True

    def warn_of_unread_vectors(self, model: str) -> None:
        """Say so where a file of vectors was given and the model was built without a look at them."""
        unread = [
            (f"vectors of items{f' called {name!r}' if name else ''}", f"vectors {f'{name}=' if name else ''}{path}",
             "Models of sequences and graphs read them with --model.recommender.item_input id+vector.")
            for name, path in files_by_name(self.vectors).items()
            if f"items {name}".rstrip() not in self.catalog.read
        ]  # fmt: skip
        if self.user_vectors is not None and "users" not in self.catalog.read:
            hint = "`recloom fit --model NAME --help` says what a model reads."
            unread.append(("vectors of users", f"user_vectors {self.user_vectors}", hint))
        for what, option, hint in unread:
            warnings.warn(
                f"{model} as it is configured reads no {what}: --data.{option} changes nothing. {hint}",
                stacklevel=2,
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the rows that the recommender asks for."""
        if self.needs.rows is None:
            raise RecloomError(
                "train_dataloader() needs a Trainer: which rows are made depends on the recommender"
            )
        rows, trainer = self.needs.rows(self), cast(L.Trainer, self.trainer)
        sampler = BatchSampler(
            len(rows), self.batch_size, rows.epoch, seed=self.seed, epoch=trainer.current_epoch,
            rank=trainer.global_rank, world=trainer.world_size,
        )  # fmt: skip
        done = cast(Any, trainer.fit_loop.epoch_loop.batch_progress.current).processed
        sampler.skip = (sampler.epoch, done if done < len(sampler) else 0)
        return loader(rows, sampler, self.num_workers)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Requests of the validation part, none where the split has none; a warning where most have no history."""
        if not len(self.parts["valid"]):
            return []
        served = self.requests("valid")
        data: Any = served.dataset
        if 2 * data.new > len(data):
            warnings.warn(
                f"validation is mostly of new users: {data.new:,} of {len(data):,} requests have no history, and a "
                f"model of histories is chosen by the other {len(data) - data.new:,}. Leave them out with "
                "--data.new_users dropped, or split otherwise, such as --data.split.strategy last",
                stacklevel=2,
            )
        return served

    def test_dataloader(self) -> DataLoader[Batch]:
        """Requests of the test part."""
        return self.requests("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The same requests as in testing."""
        return self.requests("test")

    def requests(self, part: Literal["valid", "test"]) -> DataLoader[Batch]:
        """Evaluation batches of a part: each user's visible history, candidates and held-out items."""
        if self.candidates == "impressions":
            data: ImpressionRequests | LabelledRequests | TargetRequests = ImpressionRequests(
                self.path, self.catalog, *self._period(part), self._known
            )
        elif self.candidates == "rated":
            data = LabelledRequests(self.visible[part], self.parts[part], self._known)
        else:
            data = TargetRequests(self.visible[part], self.parts[part], self._candidates(part), self._known)
        if not len(data) and self._known:
            raise RecloomError(
                f"new_users='dropped' leaves no request of the {part} part, for none of its users has a history. "
                "Use new_users='kept' (--data.new_users kept) or another split."
            )
        width = 1024
        if self.candidates == "all":
            width = self.num_items * (PAIRWISE if self.needs.reads_pairs else 1)
        rows = self.eval_rows or max(1, min(1024, SCORES_AT_ONCE // max(1, width)))
        order = self._order(part, len(data), rows)
        return loader(data, BatchSampler(len(order), rows, lambda _: order), self.num_workers)

    def _order(self, part: Part, size: int, rows: int) -> Tensor:
        """(N,) the requests that are served, in order: like lengths stand together in each batch of `rows`.

        Where the Trainer serves only some batches of a part, they come in random order, since the first would be the
        users with the shortest histories.
        """
        generator, order = torch.Generator().manual_seed(self.seed), torch.arange(size)
        if part == "valid" and self.eval_users is not None and self.eval_users < size:
            order = torch.randperm(size, generator=generator)[: self.eval_users].sort().values
        trainer = cast(Any, self.trainer)
        limits = (
            ()
            if trainer is None
            else tuple(getattr(trainer, f"limit_{name}_batches") for name in LIMITED[part])
        )
        if any(limit not in (None, 1.0) or isinstance(limit, int) for limit in limits):
            batches = torch.split(order, rows)
            order = torch.cat(
                [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]
            )
        return order

    def protocol(self, part: Literal["valid", "test"]) -> Protocol:
        """What makes numbers on this part comparable."""
        total = self.count_requests(part)
        most = total if part == "test" or self.eval_users is None else self.eval_users
        return Protocol(
            dataset=self.card.name,
            data_hash=self.card.data_hash(),
            split=self.split,
            split_hash=self.split_hash,
            part=part,
            candidates=self.candidates,
            seen=self.seen,
            new_users=self.new_users,
            positive=self.positive if self.candidates == "rated" else None,
            equal_times=self.equal_times[part],
            users=min(total, most),
            drawn_from=total if most < total else None,
            num_items=self.num_items,
            added=self.num_items - self.catalog.num_items,
            measured="lists" if self.needs.retrieves and self.candidates not in GIVEN else "scores",
        )

    def count_requests(self, part: Literal["valid", "test"]) -> int:
        """How many requests `requests(part)` holds, without making them."""
        if self.candidates == "impressions":
            return count_impressions(self.path, *self._period(part), self._known)
        return len(requesting(self.visible[part], self.parts[part], self._known)[0])

    @property
    def _known(self) -> bool:
        """Whether requests without a history are left out."""
        return self.new_users == "dropped"

    @property
    def num_items(self) -> int:
        """Items that may be ranked: those of the dataset, and among `all` those that the run knows beyond them."""
        return self.catalog.num_items + (self.needs.added if self.candidates == "all" else 0)

    def _candidates(self, part: Part) -> Tensor:
        if self.candidates == "all":
            return torch.arange(1, self.num_items + 1)
        return sampled_candidates(self.candidates, self.parts[part], self.train, self.everything, self.seed)

    def _period(self, part: Literal["valid", "test"]) -> tuple[int, int | None]:
        """From when, and until before when, impressions belong to a part."""
        if self.split.strategy != "time":
            raise RecloomError(
                f"candidates='impressions' needs a split by time, found split.strategy={self.split.strategy!r}. "
                "Use --data.split.strategy time."
            )
        begin = {name: int(self.parts[name].times[self.parts[name].rows()].min()) for name in ("valid", "test")
                 if len(self.parts[name])}  # fmt: skip
        if part not in begin:
            raise RecloomError(f"the split by time leaves no {part} rows; raise split.{part}")
        return begin[part], begin.get("test") if part == "valid" else None


def _equal_times(card: DatasetCard, tied: Any, codes: Any) -> dict[str, EqualTimes]:
    """Part to what it owes to the order of equal times; (N,) bool and (N,) int8, the part of each row."""
    share = float(tied.mean()) if len(tied) else 0.0
    of_parts = {name: tied[codes == PARTS.index(name)] for name in ("valid", "test")}
    return {
        name: EqualTimes(rule=card.ties.rule, rows=share, held_out=float(rows.mean()) if len(rows) else 0.0)
        for name, rows in of_parts.items()
    }
