"""Tables of a folder: which holds interactions, which items and users, and which are parts of a split, by evidence."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ...errors import DataError
from . import prepare_command
from .attributes import key_place, title_place
from .looked import Looked, plain_ids
from .orders import orders_apart
from .partitions import is_raw, partition_files
from .parts import part_files
from .pieces import EMPTY, MOST_FILES, joined_pieces
from .table_columns import IDS, choose_columns, column_names, options_given
from .text import is_table, table_files
from .values import ROLES, guess_columns, plain_name

if TYPE_CHECKING:
    from .table import Table

KINDS = {"user_id": "users", "item_id": "items"}
SAME = 0.99
"""The share of rows with ids of their own from which on a column is a key; the others are rejected as repeated."""
MOST = 0.5
"""The share of ids that a key of no telling name must hold."""
WORDS = {
    "item_id": ("item", "title", "product", "catalog", "catalogue", "metadata", "meta", "movie", "film", "book",
                "artist", "track", "song", "game", "article", "business", "recipe", "video", "news", "anime"),
    "user_id": ("user", "customer", "people", "person", "member", "client", "buyer", "visitor", "reviewer"),
}  # fmt: skip
"""Words in names of files, in the singular."""


@dataclass(frozen=True)
class Side:
    """A table with one row for each item, or each user."""

    path: Path
    key: str
    """Its column of ids."""
    rows: int
    holds: int
    of: int
    """How many of so many ids of the interactions that were looked at it holds."""
    titled: bool


@dataclass(frozen=True)
class FolderPlan:
    """What the tables of a folder are taken for."""

    tables: tuple[Path, ...]
    """The tables of interactions; several are parts of a split, pieces of one table, or were named."""
    parts: bool
    columns: dict[str, str]
    """Role to column, where another table's key says so."""
    sides: dict[str, Side]
    """`item_id` and `user_id` to the table of its attributes."""
    unused: dict[str, str] = field(default_factory=dict)
    """Name of a table that is not read, to the reason."""


class NoInteractions(DataError):
    """No table of a folder holds users and items."""


def folder_plan(folder: Path, reader: Table) -> FolderPlan:
    """What each table of a folder is.

    Raises NoInteractions where no table has users and items, and DataError, which holds a command for each reading,
    where several readings are possible.
    """
    reader = copy.copy(reader)
    reader.folder, reader.headers = folder, {}
    looked, unused = _look(folder, reader)
    groups, columns = _groups(folder, looked, unused, reader)
    if not groups:
        why = "; ".join(f"{name}: {reason}" for name, reason in unused.items())
        raise NoInteractions(f"{folder} holds no table of users and items. {why}".rstrip())
    plans = [
        plan for group, parts in groups for plan in _plans(group, parts, columns, looked, unused, reader)
    ]
    if len(plans) == 1:
        return plans[0]
    equal = [tables for tables, parts in groups if not parts]
    same = [one for tables in equal for one in tables if one.names == equal[0][0].names]
    raise DataError(_question(folder, plans, reader, same, several=len(groups) > 1))


def _look(folder: Path, reader: Table) -> tuple[list[Looked], dict[str, str]]:
    """The tables of a folder, and the others that look like some and cannot be read, with the reason."""
    looked, unused = [], {}
    for path in table_files(folder) + partition_files(folder):
        name = path.relative_to(folder).as_posix()
        try:
            names = column_names(path, reader)
        except (DataError, pl.exceptions.PolarsError) as error:
            if path.parent != folder and EMPTY not in str(error):
                raise DataError(f"{path}, a piece of a table in {folder}, cannot be read: {error}") from error
            unused[name] = str(error).removeprefix(f"{path}").strip(" ,:")
            continue
        if len(set(names)) < len(names):
            unused[name] = f"line 1 is no header: {', '.join(names)[:200]}"
            continue
        if len(names) < 2 and path.name.lower().endswith((".txt", ".dat", ".json")):
            continue  # a text, not a table
        try:
            roles = choose_columns(path, names, reader)
        except DataError as error:
            unused[name] = str(error).splitlines()[0].removeprefix(f"{path}").strip(" ,:")
            roles = {}
        looked.append(Looked(path, tuple(names), reader, roles))
    links = (path for path in sorted(folder.iterdir()) if path.is_symlink() and not path.exists())
    unused |= {path.name: "is a link to a file that is not there" for path in links if is_table(path)}
    if looked:
        unused |= {f"{inside.name}/": "a folder, which is not looked into" for inside in _with_tables(folder)}
    return looked, unused


def _with_tables(folder: Path) -> list[Path]:
    """Folders inside a folder that hold tables and are neither partitions nor hidden nor datasets made of it."""
    above = [folder.resolve(), *folder.resolve().parents]
    return [
        inside
        for inside in sorted(folder.iterdir())
        if "=" not in inside.name
        and inside.name[0] not in "._"
        and is_raw(inside)
        and table_files(inside)
        and inside.resolve() not in above
    ]


def _groups(
    folder: Path, looked: Sequence[Looked], unread: dict[str, str], reader: Table
) -> tuple[list[tuple[list[Looked], bool]], dict[str, str]]:
    """The tables that may be those of interactions, each with whether they are parts of a split; and their columns."""
    by_path = {table.path: table for table in looked}
    if reader.tables:
        paths = [folder / name for name in reader.tables]
        absent = [
            name
            for name, path in zip(reader.tables, paths, strict=True)
            if path not in by_path or not by_path[path].roles
        ]
        if absent:
            raise DataError(
                f"{folder}: {absent[0]!r} (--tables) is no table of users and items there. It has "
                f"{', '.join(table.name for table in looked if table.roles) or 'none'}."
            )
        return [([by_path[path] for path in paths], bool(part_files(paths)))], {}
    found = [table for table in looked if table.roles]
    if not found:
        if question := orders_apart({one.path: (one.names, guess_columns([*one.names])) for one in looked}):
            raise DataError(f"{folder}: {question}")
        joined = _joined(looked, reader)
        return ([([joined[0]], False)], joined[1]) if joined is not None else ([], {})
    sets = part_files([table.path for table in found])
    alone = [table for table in found if not any(table.path in files for files in sets)]
    whole = joined_pieces(folder, alone, looked, unread)
    joined_paths = {table.path for tables in whole for table in tables}
    alone = [table for table in alone if table.path not in joined_paths]
    keyed = [table for table in alone if any(table.distinct(table.roles[role]) for role in IDS)]
    keyed = [
        one for one in keyed if not any(one.names == other.names for other in alone if other not in keyed)
    ]
    if len(keyed) < len(alone) or sets or whole:
        alone = [table for table in alone if table not in keyed]
    return [
        *(([by_path[path] for path in files], True) for files in sets),
        *((tables, False) for tables in whole),
        *(([one], False) for one in alone),
    ], {}


def _joined(looked: Sequence[Looked], reader: Table) -> tuple[Looked, dict[str, str]] | None:
    """The only table of which one column of ids is recognised and the other is the key of another table."""
    found = []
    for table in looked:
        guessed = guess_columns(list(table.names))
        known = [role for role in IDS if role in guessed]
        if len(known) != 1 or table.distinct(guessed[known[0]]):
            continue
        missing = next(role for role in IDS if role not in known)
        for other in looked:
            first = other.names[0]
            others = [name for name in table.names if name not in guessed.values()]
            shared = [name for name in others if plain_name(name) == plain_name(first)]
            if other is table or not shared or table.distinct(shared[0]) or not other.distinct(first):
                continue
            ids = plain_ids(table.sample[shared[0]]).unique()
            if len(ids) and ids.is_in(other.every(first).implode()).sum() >= MOST * len(ids):
                found.append((table, missing, shared[0], guessed))
    if len({(table.path, column) for table, _, column, _ in found}) != 1:
        return None
    table, missing, column, guessed = found[0]
    roles = {
        role: column if role == missing else name for role, name in (guessed | {missing: column}).items()
    }
    return Looked(table.path, table.names, reader, roles), {missing: column}


def _plans(
    group: list[Looked], parts: bool, columns: dict[str, str], looked: Sequence[Looked], unread: dict[str, str],
    reader: Table,
) -> list[FolderPlan]:  # fmt: skip
    """Every reading of the folder with these interactions: one, unless several tables have as good a claim."""
    paths = [table.path for table in group]
    ids = {
        role: pl.concat([plain_ids(one.sample[one.roles[role]]) for one in group[:MOST_FILES]]).unique()
        for role in IDS
    }
    given = {"item_id": reader.items_path, "user_id": reader.users_path}
    named = {path.resolve() for files in given.values() for path in files}
    own = {table.name for table in group}
    unused = {name: why for name, why in unread.items() if name not in own}
    claims: dict[str, list[Side]] = {role: [] for role in IDS}
    for table in looked:
        if table.name in own or table.path.resolve() in named:
            unused.pop(table.name, None)
            continue
        roles, side = _claim(table, group[0].roles, ids)
        if not roles:
            unused[table.name] = str(side)
            continue
        unused.pop(table.name, None)
        for role, one in roles.items():
            claims[role].append(one)
    chosen = {role: [] if given[role] else _best(role, sides) for role, sides in claims.items()}
    plans = []
    for item, user in _pairs(chosen["item_id"], chosen["user_id"]):
        sides = {role: side for role, side in (("item_id", item), ("user_id", user)) if side is not None}
        used = {side.path for side in sides.values()}
        others = {
            side.path.name: f"has rows of {KINDS[role]}, and another table is read for them"
            for role in IDS
            for side in claims[role]
            if side.path not in used
        }
        plans.append(FolderPlan(tuple(paths), parts, columns, sides, unused | others))
    return plans


def _pairs(items: list[Side], users: list[Side]) -> list[tuple[Side | None, Side | None]]:
    """One table of items and one of users at most, in every way; no table is both."""
    none: list[Side | None] = [None]
    pairs: list[tuple[Side | None, Side | None]] = []
    for item in items or none:
        for user in users or none:
            same = item is not None and user is not None and item.path == user.path
            pairs += [(item, None), (None, user)] if same else [(item, user)]
    return list(dict.fromkeys(pairs))


def _claim(table: Looked, roles: dict[str, str], ids: dict[str, pl.Series]) -> tuple[dict[str, Side], str]:
    """The roles that a table may have, with the evidence; or why it has none."""
    tried: dict[str, str] = {}
    for role in IDS:
        place = key_place(table.names, role, roles[role])
        if place is not None:
            tried[role] = table.names[place]
    if not tried:
        tried = dict.fromkeys(IDS, table.names[0])
    telling = {role: column for role, column in tried.items() if _tells(column, role, roles[role])}
    tried = telling or tried
    found, why = {}, ""
    for role, column in tried.items():
        if not table.distinct(column) and not len(table.sample) < 2:
            sample = plain_ids(table.sample[column]) if column in table.sample.columns else pl.Series([""])
            if sample.n_unique() < SAME * len(sample):
                why = why or f"{column} is no key of {KINDS[role]}: its values come again"
                continue
        keys = table.every(column)
        if keys.n_unique() < SAME * len(keys):
            why = why or f"{column} is no key of {KINDS[role]}: its values come again"
            continue
        holds = int(ids[role].is_in(keys.implode()).sum())
        if not holds or (role not in telling and holds < MOST * len(ids[role])):
            why = why or f"{column} holds {holds:,} of {len(ids[role]):,} ids of {KINDS[role]}"
            continue
        titled = title_place(table.names) is not None
        found[role] = Side(table.path, column, len(keys), holds, len(ids[role]), titled)
    if len(found) > 1:
        words = [word.removesuffix("s") for word in re.split(r"[^a-z]+", table.path.name.lower())]
        said = [role for role in IDS if any(word in WORDS[role] for word in words)]
        found = {said[0]: found[said[0]]} if len(said) == 1 else found
    return found, why


def _tells(column: str, role: str, of: str) -> bool:
    """Whether a column's name says that it holds ids of this role: as in the interactions, or a usual name."""
    plain = plain_name(column)
    return plain == plain_name(of) or plain in ROLES[role]


def _best(role: str, sides: list[Side]) -> list[Side]:
    """Those that may be the table of items or users: the only one with titles, where one has them."""
    titled = [side for side in sides if side.titled]
    return titled if role == "item_id" and titled else sides


def _question(
    folder: Path, plans: Sequence[FolderPlan], reader: Table, same: Sequence[Looked], *, several: bool
) -> str:
    """What may be meant, each with its whole command; where tables have `same` columns, first that they are one."""
    asked = ""
    if several and len(same) > 1:
        names = [table.name for table in same]
        rows = [len(table.every(table.roles["user_id"])) for table in same]
        each = ", ".join(f"{name} {count:,}" for name, count in zip(names, rows, strict=True))
        asked += f"\nIf these are one table in pieces, all {sum(rows):,} rows ({each}):\n"
        asked += f"  {prepare_command('table', folder, options_given(reader) | {'tables': names})}"
    for plan in plans[:5]:
        those = " and ".join(path.relative_to(folder).as_posix() for path in plan.tables)
        whose = "".join(f", {side.path.name} the {KINDS[role]}" for role, side in plan.sides.items())
        options: dict[str, Any] = options_given(reader)
        options |= {f"{KINDS[role]}_path": [side.path] for role, side in plan.sides.items()}
        path = plan.tables[0]
        if len(plan.tables) > 1:
            path, options = (
                folder,
                options | {"tables": [one.relative_to(folder).as_posix() for one in plan.tables]},
            )
        asked += f"\nIf {those} hold{'s' * (len(plan.tables) == 1)} the interactions{whose}:\n"
        asked += f"  {prepare_command('table', path, options)}"
    more = f"\nand {len(plans) - 5:,} more" if len(plans) > 5 else ""
    what = "interactions" if several else "attributes"
    return f"{folder}: several tables may hold the {what}, and none of it is left out unasked.{asked}{more}"
