"""A trained run: load it, recommend with it, measure it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from ..batch import Batch
from ..data.batches.module import RecDataModule
from ..data.catalog import Catalog
from ..errors import RecloomError
from ..io import whole_file
from ..llm import BatchPlanned, LLMCallOptions
from ..next_steps import command_line
from ..recommender import Recommender
from ..run_folder import (
    CHECKPOINTS,
    RECORD,
    VECTORS,
    checkpoint_of,
    find_dataset,
    find_vectors,
    finished,
    no_recommender,
    refuse_task,
)
from ..schemas import Recommendation, RunRecord
from ..training.checkpoint import read_checkpoint
from ..training.held_runs import restore
from ..training.module import RecModule
from ..training.task import STATE
from .lookup import find_items, near, without_point

if TYPE_CHECKING:
    from ..evaluation.results import Results

BLOCK = 1 << 22
"""Scores held at once while recommending to many users."""
NAMES_SHOWN = 10
"""Unknown ids that a warning lists."""
EVENTS_SHOWN = 32
"""Events that a warning lists."""


class Run:
    """What `recloom fit` leaves behind, ready to recommend.

    Attributes:
        folder: where it lies.
        dataset: folder of the dataset, where it is not where the run was trained from.
        module: the trained RecModule in eval mode; `module.rank(batch)` gives scores as they are served.
        catalog: the items and users it knows.
    """

    def __init__(self, folder: Path, module: RecModule, dataset: Path | None = None) -> None:
        assert module.catalog is not None
        self.dataset = dataset
        self.folder, self.module, self.catalog = folder, module.eval(), module.catalog

    def __repr__(self) -> str:
        return (
            f"Run({str(self.folder)!r}: {type(self.recommender).__name__}, {self.catalog.num_items:,} items)"
        )

    @classmethod
    def of(cls, folder: str | Path, module: RecModule) -> Run:
        """Wrap a module that is already in memory."""
        return cls(Path(folder), module)

    @property
    def recommender(self) -> Recommender:
        return self.module.recommender

    @property
    def popularity(self) -> Tensor:
        """(num_items + 1,) scores for users of whom nothing is known."""
        return self.module.popularity

    @property
    def record(self) -> RunRecord:
        """`run.json`; RecloomError for a fit that did not come to its end."""
        if not finished(self.folder):
            raise RecloomError(
                f"{self.folder} holds no {RECORD}: its fit was interrupted, or is not finished. Go on with it by "
                f"`{command_line('fit', '--run', self.folder, '--ckpt_path', 'last')}`."
            )
        return RunRecord.model_validate_json((self.folder / RECORD).read_text(encoding="utf-8"))

    def data(self, path: str | Path | None = None) -> RecDataModule:
        """The data module of the run's configuration, set up; `path` where the dataset has moved."""
        import yaml

        config = yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))["data"]
        from ..schemas import SplitSpec

        options = config | {"split": SplitSpec.model_validate(config.get("split") or {})}
        if "seed" not in options:
            options["seed"] = self.record.seed
        options |= {name: find_vectors(self.folder, options.get(name), name) for name in VECTORS}
        data = RecDataModule(
            **options | {"path": str(path or self.dataset or find_dataset(self.folder, options["path"]))}
        )
        data.setup()
        self.module.meet(data)
        return data

    def recommend(
        self,
        history: Sequence[str] | None = None,
        *,
        user: str | None = None,
        events: Sequence[Any] | None = None,
        k: int = 10,
        exclude: Iterable[str] = (),
    ) -> list[Recommendation]:
        """The best k items for a history of raw ids or titles, most recent last, or for a known user.

        What the catalogue does not know, a user and items of `exclude` too, is ignored, with a warning; items of the
        history are not recommended again.
        A user without `history` is looked up in the run's dataset.

        events: what happened with each item of the history, such as its rating, for recommenders that read it; by
            default nothing is known of it. One that is no event of the dataset counts as not known, with a warning.
        """
        if isinstance(history, str):
            raise RecloomError(f"history must be a list of ids or titles, found the text {history!r}")
        if user is not None and history is None:
            return self.recommend_users([user], k=k, exclude=exclude)[0]
        history = plain_list(history)
        items = torch.from_numpy(find_items(self.catalog, history))
        tell_unknown(history, items, self.catalog)
        happened = self._events(events, items) if events is not None else None
        number = torch.from_numpy(self.catalog.user_index([user])) if user is not None else None
        if number is not None and not number[0] and "user" in self.recommender.inputs:
            warnings.warn(
                f"user {user!r} is not in the data of this run, so the list is that of somebody with this history",
                stacklevel=2,
            )
        batch = Batch.of(items[items > 0][None], user=number, history_event=happened)
        return self._answer(self._complete(batch), k, exclude)[0]

    def _events(self, events: Sequence[Any], items: Tensor) -> Tensor:
        """(1, L) codes of what happened with the items that are known."""
        if len(events) != len(items):
            raise RecloomError(
                f"events must say what happened with each item of the history; found {len(events)} events for "
                f"{len(items)} items"
            )
        codes = torch.from_numpy(self.catalog.event_codes(events, only_listed=True))
        assert self.catalog.events is not None
        tell_unknown_events(events, codes, self.catalog.events.names)
        return codes[items > 0][None]

    def _complete(self, batch: Batch) -> Batch:
        """The request with a context of which nothing is known."""
        batch.context = batch.user.new_zeros(len(batch), len(self.catalog.context))
        return batch

    def recommend_users(
        self, users: Sequence[str], *, k: int = 10, exclude: Iterable[str] = ()
    ) -> list[list[Recommendation]]:
        """The best k items for users of the run's dataset, from all their interactions."""
        index = self.catalog.user_index(users)
        if (index == 0).any():
            missing = users[int(np.argmin(index))]
            whole = without_point(str(missing))
            meant = f"Did you mean {whole!r}? " if self.catalog.user_index([whole])[0] else ""
            raise RecloomError(
                f"user {missing!r} is not in the data of this run ({self.catalog.num_users:,} users). {meant}"
                "Give a --history of item ids or titles instead."
            )
        batch = self._requests(torch.from_numpy(index.copy()))
        return self._answer(batch, k, exclude)

    def recommend_all(self, k: int = 10, *, exclude: Iterable[str] = ()) -> Iterator[pl.DataFrame]:
        """Tables of user_id, item_id, score and rank for all users, in blocks; memory does not grow with users."""
        excluded = self._excluded(exclude)
        step = max(1, BLOCK // self.catalog.num_items)
        with self.module.llm_sessions() as sessions:
            for start in range(1, self.catalog.num_users + 1, step):
                index = torch.arange(start, min(start + step, self.catalog.num_users + 1))
                with suppress(BatchPlanned):
                    items, scores = self._top(self._requests(index), k, excluded)
                    yield _frame(self.catalog, index, items, scores)
        self.module.usage = sessions.usage

    def test(self, data: RecDataModule | None = None) -> Results:
        """Measure on the test part, keep the results in the run folder and return them."""
        import lightning as L

        data = data or self.data()
        trainer = L.Trainer(
            devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False,
        )  # fmt: skip
        try:
            trainer.test(self.module, data, verbose=False)
        finally:
            self.module.sessions.close()  # open where the test failed
            self.module.eval()
        return self.write_results(data)

    def write_results(self, data: RecDataModule) -> Results:
        """Keep what a test measured: metrics with intervals and protocol, and each user's values."""
        from ..evaluation.results import write_results

        if self.module.measurement is None:
            raise RecloomError(f"{self.folder} was not tested yet; call test() first")
        meter, floor = self.module.measurement.meter, self.module.measurement.floor
        protocol, measured = data.protocol("test"), len(meter.users)
        if measured < protocol.users:
            protocol = protocol.model_copy(update={"users": measured, "drawn_from": protocol.users})
        return write_results(
            self.folder,
            model=self.module.recipe["class_path"].rpartition(".")[2],
            protocol=protocol,
            values=meter.compute(),
            per_user=meter.per_user(),
            users=self._names(meter.users),
            of_draws=meter.of_draws(),
            seed=data.seed,
            lower_is_better=meter.lower_is_better,
            usage=self.module.usage,
            floor=floor.compute() if floor else {},
            without_history=meter.without_history,
            not_trained_on=() if self.module.recommender.tells_cold_items else ("cold",),
        )

    def _names(self, users: np.ndarray[Any, np.dtype[np.int64]]) -> list[str]:
        """Raw ids of user indices, `(unknown)` for index 0."""
        known = pl.concat([pl.Series(["(unknown)"]), self.catalog.users["user_id"]])
        return known.gather(users).to_list()

    def _requests(self, users: Tensor) -> Batch:
        if not hasattr(self, "_everything"):
            from ..data.interactions import Interactions

            data_path = self.data().path
            self._everything = Interactions.load(data_path, self.catalog)
        longest = max(1, int(self._everything.lengths[users].max()))
        history, times, events = self._everything.last_rows(users, longest)
        return self._complete(
            Batch.of(
                history, user=users, history_time=times, request_time=times.amax(1) + 1, history_event=events
            )
        )

    def _answer(self, batch: Batch, k: int, exclude: Iterable[str]) -> list[list[Recommendation]]:
        with self.module.llm_sessions() as sessions, suppress(BatchPlanned):
            items, scores = self._top(batch, k, self._excluded(exclude))
        self.module.usage = sessions.usage
        answers = []
        for row, values in zip(items, scores, strict=True):
            kept = row[torch.isfinite(values)].numpy()
            ids, titles = self.catalog.item_ids(kept), self.catalog.titles(kept)
            answers.append(
                [
                    Recommendation(item_id=i, title=t, score=float(s))
                    for i, t, s in zip(ids, titles, values.tolist(), strict=False)
                ]
            )
        return answers

    def _excluded(self, exclude: Iterable[str]) -> Tensor:
        """(M,) indices of items that are not to be recommended, 0 where unknown, with a warning of those."""
        names = list(exclude)
        items = torch.from_numpy(find_items(self.catalog, names))
        unknown = [name for name, index in zip(names, items.tolist(), strict=True) if not index]
        if unknown:
            shown = ", ".join(map(repr, unknown[:NAMES_SHOWN]))
            more = f" and {len(unknown) - NAMES_SHOWN:,} more" if len(unknown) > NAMES_SHOWN else ""
            warnings.warn(
                f"{len(unknown):,} of {len(names):,} items to exclude are not known, so they exclude nothing: {shown}"
                f"{more}",
                stacklevel=4,
            )
        return items

    @torch.inference_mode()
    def _top(self, batch: Batch, k: int, excluded: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(k, int) or k < 1:
            raise RecloomError(f"k must be a whole number of at least 1, found {k!r}")
        if not batch.history.shape[1]:
            batch.history = torch.zeros(len(batch), 1, dtype=torch.long)
            batch.history_time = batch.history_event = torch.zeros_like(batch.history)
        batch.candidates = torch.arange(1, self.catalog.num_items + 1)[None]
        return self.module.top(batch, k, torch.cat([batch.history, excluded.expand(len(batch), -1)], 1))


def plain_list(history: Any) -> list[Any]:
    """The members of a list, an array, a series or a tensor; none of None. Raises RecloomError for anything else."""
    if history is None:
        return []
    found = history.tolist() if hasattr(history, "tolist") else history
    if isinstance(found, str | bytes) or not isinstance(found, Iterable):
        raise RecloomError(f"history must be a list of ids or titles, found {found!r}")
    found = list(found)
    if any(isinstance(one, list | tuple | np.ndarray) for one in found):
        raise RecloomError(f"history must be one list of ids or titles, found lists in it: {found[0]!r}")
    return found


def tell_unknown(history: Sequence[str], items: Tensor, catalog: Catalog) -> None:
    """Warn of words that name no item, with what may be meant; `items` (L,) holds their indices, 0 where unknown."""
    unknown = [text for text, index in zip(history, items.tolist(), strict=True) if not index]
    if unknown:
        shown = [_with_near(text, catalog) for text in unknown[:NAMES_SHOWN]] + [
            *map(repr, unknown[NAMES_SHOWN:])
        ]
        warnings.warn(f"not known, so ignored: {', '.join(shown)}", stacklevel=3)
    if len(unknown) == len(history):
        warnings.warn("nothing known of this history: the order is that for newcomers", stacklevel=3)


def _with_near(text: str, catalog: Catalog) -> str:
    """An unknown word with the titles or ids that may be meant."""
    found = near(catalog, str(text))
    return f"{text!r} (did you mean {' or '.join(map(repr, found))}?)" if found else repr(text)


def tell_unknown_events(events: Sequence[Any], codes: Tensor, known: Sequence[str]) -> None:
    """Warn of what is no event of the dataset; `codes` (L,) are 0 there, and `known` its events in words."""
    unknown = [event for event, code in zip(events, codes.tolist(), strict=True) if not code]
    unknown = [
        event for event in unknown if event is not None and event == event
    ]  # NaN says that none is known
    if unknown:
        shown = ", ".join(map(repr, known[:EVENTS_SHOWN]))
        more = f" and {len(known) - EVENTS_SHOWN} more" if len(known) > EVENTS_SHOWN else ""
        warnings.warn(
            f"no events of these data, so taken as not known: {', '.join(map(repr, unknown))}; their events are "
            f"{shown}{more}",
            stacklevel=4,
        )


def write_predictions(path: Path, batches: Iterable[tuple[Tensor, Tensor, Tensor]], catalog: Catalog) -> None:
    """Write what `predict_step` gave as a table of user_id, item_id, score and rank."""
    tables = [_frame(catalog, *batch) for batch in batches]
    with whole_file(path) as partial:
        pl.concat(tables).write_parquet(partial)


def _frame(catalog: Catalog, users: Tensor, items: Tensor, scores: Tensor) -> pl.DataFrame:
    """(B,) user and (B, k) item indices with their scores as raw ids; what is masked is left out."""
    real = torch.isfinite(scores)
    rank = torch.arange(1, items.shape[1] + 1).expand_as(items)
    known = pl.concat([pl.Series(["(unknown)"]), catalog.users["user_id"]])
    return pl.DataFrame(
        {
            "user_id": known.gather(users[:, None].expand_as(items)[real].numpy()),
            "item_id": catalog.items["item_id"].gather((items[real] - 1).numpy()),
            "score": scores[real].float().numpy(),
            "rank": rank[real].to(torch.int32).numpy(),
        }
    )


def load(path: str | Path, *, data: str | Path | None = None, llm: LLMCallOptions | None = None) -> Run:
    """Load a run from its folder, or from one of its checkpoints; nothing else is needed to recommend for a history.

    Args:
        path: the folder, or a checkpoint.
        data: folder of the dataset, in which users are looked up, where it is not where the run was trained from.
        llm: ledger, limits and the rest, where the recommender asks a language model.
    """
    path = Path(path)
    checkpoint = checkpoint_of(path)
    folder = (
        path
        if path.is_dir()
        else checkpoint.parent.parent
        if checkpoint.parent.name == CHECKPOINTS
        else path.parent
    )
    refuse_task(folder)
    saved = read_checkpoint(checkpoint)
    if STATE in saved:
        raise RecloomError(no_recommender(path, saved[STATE]["module"]))
    module = restore(saved, folder)
    module.llm_call = llm
    return Run(folder, module, Path(data) if data else None)
