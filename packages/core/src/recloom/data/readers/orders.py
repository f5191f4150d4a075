"""Tables of a shop in which an order's customer and its items stand apart: what to join first, and how."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from .text import kind_of
from .values import plain_name

ORDERS = (
    "order_id", "orderid", "order_no", "order_number", "invoice_id", "invoice", "invoice_no", "invoiceno",
    "transaction_id", "transactionid", "basket_id", "receipt_id",
)  # fmt: skip
"""Names, in lower case, that a column of orders usually has."""


LIKELY = {
    "user_id": ("user", "customer", "client", "member", "buyer", "shopper", "account"),
    "item_id": ("item", "product", "article", "stock", "sku", "ean", "upc", "asin", "isbn"),
}
"""Words in names of columns that may hold ids of users or items."""
CODES = ("id", "code", "no", "nr", "number", "key")
"""How names of columns of ids end."""


def likely_columns(names: Sequence[str], roles: Sequence[str]) -> dict[str, str]:
    """Role to the column that has a word for it in its name: one that ends as names of ids do, or else the first."""
    found: dict[str, str] = {}
    for role in roles:
        named = [name for name in names if any(word in plain_name(name) for word in LIKELY[role])]
        ids = [name for name in named if plain_name(name).endswith(CODES)]
        if named:
            found[role] = (ids or named)[0]
    return found


def order_column(names: Sequence[str]) -> str | None:
    """The column of orders, by its name."""
    return next((name for name in names if plain_name(name) in ORDERS), None)


def orders_apart(tables: Mapping[Path, tuple[Sequence[str], Mapping[str, str]]]) -> str:
    """What to type where one table has the customer of each order and another its items; empty where none do.

    Args:
        tables: path to the names of columns and to the roles guessed among them.
    """
    keyed = {path: order_column(names) for path, (names, _) in tables.items()}
    heads = [
        path
        for path, (_, roles) in tables.items()
        if keyed[path] and roles.keys() & {"user_id", "item_id"} == {"user_id"}
    ]
    lines = [
        path
        for path, (_, roles) in tables.items()
        if keyed[path] and roles.keys() & {"user_id", "item_id"} == {"item_id"}
    ]
    pairs = [
        (head, line)
        for head in heads
        for line in lines
        if plain_name(keyed[head] or "") == plain_name(keyed[line] or "")
    ]
    if len(pairs) != 1:
        return ""
    head, line = pairs[0]
    key, other = keyed[line], keyed[head]
    said = (
        f"{head.name} has the customer of each order ({other}) and {line.name} its items ({key}): join them first, so "
        "that each row has a customer, an item and a time"
    )
    calls = [_call(path) for path in (line, head)]
    if None in calls:
        return f"{said}."
    code = (
        f"import polars as pl; a, b = {calls[0]}, {calls[1]}; "
        f"a.join(b, left_on={key!r}, right_on={other!r}, how='left', validate='m:1').write_csv('joined.csv')"
    )
    return f"{said}:\n  python -c {shlex.quote(code)}\n  recloom data prepare joined.csv --out DIR"


def no_items(names: Sequence[str], missing: Sequence[str]) -> str:
    """A sentence on a table with orders that lacks items or customers; empty for another."""
    key = order_column(names)
    if key is None or len(missing) != 1:
        return ""
    what, where = ("items", "customer") if missing[0] == "item_id" else ("customers", "product")
    return (
        f" {key} names orders, which are no {what}: where another table has the {what} of each order, join the two "
        f"on {key} first, so that each row has its {where} too."
    )


def _call(path: Path) -> str | None:
    """How polars reads a table, all as text; None where that takes more than a path."""
    name = path.name.lower()
    if name.endswith(".parquet"):
        return f"pl.read_parquet({str(path)!r})"
    if kind_of(path) == "delimited" and name.removesuffix(".gz").endswith((".csv", ".tsv")):
        mark = ", separator='\\t'" if ".tsv" in name else ""
        return f"pl.read_csv({str(path)!r}{mark}, infer_schema=False)"
    return None
