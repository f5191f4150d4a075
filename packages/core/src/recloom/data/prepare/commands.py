"""`recloom data ...`: each command is a thin layer over the file that does the work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ...command import command
from ..card import Domain, Ties


def _readers_of(words: Sequence[str]) -> list[type]:
    from .reader_options import readers_of

    return [*readers_of(words)]


def _every_reader(words: Sequence[str]) -> list[type]:
    from .reader_options import readers

    return [*readers().values()]


@command("data prepare", options_of=_readers_of)
def prepare(
    reader: str,
    *,
    out: Path,
    path: Path | None = None,
    download: str | None = None,
    name: str | None = None,
    min_value: float | None = None,
    missing_value: list[float] | None = None,
    keep_all_items: bool = False,
    max_rejected: float = 0.01,
    event_column: str | None = None,
    event_cuts: list[float] | None = None,
    context_columns: list[str] | None = None,
    keep_split: bool = False,
    ties: Ties = "auto",
    seed: int = 0,
    overwrite: bool = False,
    options: dict[str, Any] | None = None,
) -> None:
    """Turn raw files into a prepared dataset: checked, ordered, counted, with every rejected row on record.

    A reader has options of its own: `recloom data prepare READER --help` shows them too.

    Args:
        reader: the raw file or folder, whose format is recognised; or the name of a reader as shown by
            `recloom data list`, or `auto`, with --path.
        out: folder to write; it appears whole or not at all.
        path: the raw file, or the folder that holds the raw files, where a reader is named.
        download: fetch this known set (see `recloom data list`) from its publisher instead of giving a path.
        name: name of the dataset, by default that of the folder written.
        min_value: keep only rows whose value is at least this, such as 4.
        missing_value: values that mean that there is no rating, such as 0; rows that have them are left out.
        keep_all_items: keep items that occur in no interaction too.
        max_rejected: share of malformed rows above which the data are refused.
        event_column: column that says what happened, for models that read events; by default `event`, else `value`.
        event_cuts: numbers where intervals of values begin that are events, such as 3 4; by default every value is one.
        context_columns: columns that say of a request what is known beforehand, such as device or place.
        keep_split: keep the split of the source (files of train and test, a column `part`), which `fit` then uses.
        ties: what orders rows of equal user and time: the `file`, a `hash`, or (`auto`) the file only where it is in
            time order and not sorted by item.
        seed: of the hash.
        overwrite: replace an existing folder, in one step and only once the new one is complete.
        options: arguments of the reader's constructor; on the command line each is an option of its own.
    """
    from ..readers import column_list
    from .display import show_prepared
    from .source import prepare_source

    raw, data, card = prepare_source(
        reader, out, path, download, options, name=name, min_value=min_value, missing_value=missing_value,
        keep_all_items=keep_all_items, max_rejected=max_rejected, event_column=event_column, event_cuts=event_cuts,
        context_columns=column_list(context_columns), keep_split=keep_split, ties=ties, seed=seed,
        overwrite=overwrite,
    )  # fmt: skip
    show_prepared(out, card, raw.notes, data.rejected)


@command("data split")
def split(
    folder: Path,
    *,
    strategy: Literal["last", "time", "random", "users"] = "last",
    valid: float = 0.1,
    test: float = 0.2,
    min_user: int = 1,
    min_item: int = 1,
    seed: int = 0,
    valid_from: str | None = None,
    test_from: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Divide a prepared dataset into train, valid and test, and write the parts for any program to read.

    Args:
        folder: the prepared dataset.
        strategy: `last`: each user's last item; `time`: after a point in time; `random`: a share of each
            user's rows; `users`: a share of the users.
        valid: share of rows or users for validation; unused by `last`.
        test: the same for test; .3 with `time` is the usual rule for cold items.
        min_user: drop users with fewer rows, together with min_item until nothing changes.
        min_item: drop items with fewer rows.
        seed: of `random` and `users`.
        valid_from: with `time`, the day or moment from which on rows are validation, such as 2016-01-01, in UTC.
        test_from: the same for test; a date that is not given is found by its share.
        out: folder to write, by default `splits/...` in the dataset.
        overwrite: replace an existing split.
    """
    from pydantic import ValidationError

    from ...errors import RecloomError
    from ...schemas import SplitSpec
    from ..split import write_split
    from .display import show_split

    try:
        spec = SplitSpec(
            strategy=strategy, valid=valid, test=test, min_user=min_user, min_item=min_item, seed=seed,
            valid_from=valid_from, test_from=test_from,
        )  # fmt: skip
    except ValidationError as error:
        raise RecloomError(
            f"data split: {error.errors()[0]['msg'].removeprefix('Value error, ')}."
        ) from error
    show_split(folder, *write_split(folder, spec, out, overwrite=overwrite))


@command("data synth")
def synth(
    *,
    like: Domain = "movies",
    users: int = 2000,
    items: int = 800,
    seed: int = 0,
    out: Path,
    overwrite: bool = False,
) -> None:
    """Invent a dataset with item texts and a known structure of topics, drift, sequences and cold items.

    Args:
        like: what the items and their texts are.
        users: number of users, about 30 interactions each.
        items: number of items, at least 50.
        seed: equal seeds give equal data.
        out: folder to write; `truth/` in it holds the structure.
        overwrite: replace an existing folder.
    """
    from ..synth.generator import World, synthesise
    from .dataset import write_synthetic
    from .display import show_prepared

    data, truth, parameters = synthesise(World(like=like, users=users, items=items, seed=seed))
    card = write_synthetic(data, out, truth, parameters, overwrite=overwrite)
    show_prepared(out, card, ["the structure of the data is in truth/"], data.rejected)


@command("data check", options_of=_every_reader)
def check(path: Path, *, options: dict[str, Any] | None = None) -> None:
    """Look at raw files or a prepared dataset: format, columns, bad rows, hashes, order; change nothing.

    The options are those of the readers, as `data prepare` takes them, for raw files.

    Args:
        path: a raw file, a folder of raw files, or a prepared dataset.
        options: arguments of the constructor of the reader that recognises the path, as for `data prepare`.
    """
    from ..readers import typed_options
    from .check import check_path
    from .display import show_findings
    from .reader_options import given

    show_findings(path, check_path(path, options), typed_options(given(options or {})))


@command("data list")
def list_readers() -> None:
    """List the readers of raw formats, and the known sets that `data prepare --download` can fetch."""
    from .display import show_list

    show_list()


COMMANDS = (prepare, check, split, synth, list_readers)
