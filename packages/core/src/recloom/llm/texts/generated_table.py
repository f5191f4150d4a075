"""Tables that a language model made, as every asking command writes them.

    refuse a file that another recipe made → open the session → ask → write → print what came of it, the usage and next

A file is Parquet, written atomically, with its recipe in its metadata; what failed is listed in a file beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import DataError, RecloomError
from ...io import whole_file, writable, write_text
from ..requests import Failure
from ..structured import failure_lines

if TYPE_CHECKING:
    from ..client.options import LLMOptions
    from ..client.session import LLMSession


@dataclass(frozen=True)
class TableTarget:
    """A file to be made.

    Attributes:
        out: where to.
        key: of its metadata, under which the recipe stands.
        recipe: all that its rows are made from, as plain data; a file of another recipe is not replaced.
    """

    out: Path
    key: bytes
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class GeneratedTable:
    """What came of the requests for one file.

    Attributes:
        table: its rows; metadata of its own stay.
        failures: of whom or what there is no row, and why.
        summary: what is printed behind the name of the file.
        notes: further lines.
        facts: what else stands in the metadata, beside the recipe.
        empty: the error where there is no row, so that nothing but the failures is written; "" = an empty file.
    """

    table: pa.Table
    failures: Sequence[tuple[str, Failure]] = ()
    summary: str = ""
    notes: Sequence[str] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    empty: str = ""


def generate_tables(
    llm: LLMOptions,
    targets: Sequence[TableTarget],
    ask: Callable[[LLMSession], Sequence[GeneratedTable]],
    *,
    overwrite: bool,
    then: Callable[[Sequence[int]], str],
) -> None:
    """Ask for one or more tables in one session, write them and print what came of it.

    Args:
        llm: whom to ask.
        targets: the files; refused before anything is sent where another recipe made what stands there.
        ask: sends all rounds of requests and makes the tables, one for each target.
        overwrite: replace a file of another recipe.
        then: from the number of rows of each file to the command to type next, "" where there is none.
    """
    for target in targets:
        refuse_another(target.out, target.key, target.recipe, overwrite)
    with llm.open() as session:
        made = ask(session)
    for target, one in zip(targets, made, strict=True):
        write_generated(target, one)
        lines = [f"wrote {target.out}: {one.summary}", *one.notes]
        print(
            "\n".join([*lines, f"what failed, and why: {failures_of(target.out)}"] if one.failures else lines)
        )
    print(session.usage)
    following = then([len(one.table) for one in made])
    if following:
        print(following)


def generate_table(
    llm: LLMOptions,
    target: TableTarget,
    ask: Callable[[LLMSession], GeneratedTable],
    *,
    overwrite: bool,
    then: str,
) -> None:
    """`generate_tables` for one file; `then` is the command that reads it, where it has a row."""
    generate_tables(
        llm, [target], lambda session: [ask(session)], overwrite=overwrite,
        then=lambda rows: then if rows[0] else "",
    )  # fmt: skip


def refuse_another(out: Path, key: bytes, recipe: Mapping[str, Any], overwrite: bool) -> None:
    """Raise RecloomError where `out` lies in no folder, is not named as Parquet, or is not what this recipe gives.

    The same recipe may be run again: what failed is then asked again, and the rest comes from the ledger.
    """
    writable(out, endings=(".parquet",))
    if overwrite or not out.exists():
        return
    try:
        found = json.loads((pq.read_metadata(out).metadata or {}).get(key, b"{}"))
    except (pa.ArrowInvalid, OSError, ValueError):
        found = {}
    wanted = json.loads(json.dumps(recipe))
    differing = [name for name, value in wanted.items() if found.get(name) != value]
    if differing:
        otherwise = f"with another {', '.join(differing)}" if found else "by another command"
        raise RecloomError(
            f"{out} exists and was made {otherwise}. Choose another --out, or replace it with --overwrite."
        )


def failures_of(out: Path) -> Path:
    """The file beside `out` that lists what failed."""
    return out.with_name(f"{out.stem}.failures.jsonl")


def write_generated(target: TableTarget, made: GeneratedTable) -> None:
    """Write the failures, then the table with its recipe; without failures there is no such file."""
    beside = failures_of(target.out)
    if made.failures:
        write_text(beside, failure_lines(made.failures))
    else:
        beside.unlink(missing_ok=True)
    if made.empty and not len(made.table):
        raise DataError(f"{made.empty}. All reasons are in {beside}.")
    recipe = json.dumps({**target.recipe, **made.facts}, sort_keys=True, ensure_ascii=False)
    metadata = {**(made.table.schema.metadata or {}), target.key: recipe.encode()}
    with whole_file(target.out) as partial:
        pq.write_table(made.table.replace_schema_metadata(metadata), partial)
