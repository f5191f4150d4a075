"""Faithfulness of texts: cited attributes against the item record, named items against the catalogue.

An attribute is in the record where it equals a value of it, or one of the parts of a value that `|` divides, or
an entry of a list; `genres: Drama` must be a value of that column. A name is an item where it equals its id or its
title, with or without the year at its end. Upper case and punctuation do not count; a part of a value is no match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from recloom.data import VECTOR, Catalog
from recloom.metrics import Measured, Texts

from .overlap import key

YEAR = re.compile(r"\s*\(\d{4}\)\s*$")
Values = dict[str, set[str]]
"""Of one item: column to the forms of its values."""


def faithfulness(texts: Texts, n: int) -> Measured:
    """For each cited attribute, whether the record of the text's item holds it."""
    held = _cited(texts)
    rows = np.repeat(np.arange(len(held)), [len(each) for each in held])
    values = np.array([float(one) for each in held for one in each], np.float64)
    return Measured(values=values, rows=rows, method=_columns(texts))


def faithful_texts(texts: Texts, n: int) -> Measured:
    """Whether the record holds everything that a text cites; NaN where it cites nothing."""
    values = [float(all(each)) if each else np.nan for each in _cited(texts)]
    return Measured(values=np.array(values, np.float64), method=_columns(texts))


def hallucination(texts: Texts, n: int) -> Measured:
    """Whether a text names an item that does not exist or is not the recommended one; NaN where it names none."""
    assert texts.named is not None
    assert texts.item is not None
    assert texts.catalog is not None
    known = _names(texts.catalog)
    values = [
        float(any(item not in known.get(key(name), ()) for name in named)) if named else np.nan
        for named, item in zip(texts.named, texts.item, strict=True)
    ]
    return Measured(values=np.array(values, np.float64))


def unknown_items(texts: Texts, n: int) -> Measured:
    """For each named item, whether it is missing from the catalogue."""
    assert texts.named is not None
    assert texts.catalog is not None
    known = _names(texts.catalog)
    rows = np.repeat(np.arange(len(texts)), [len(named) for named in texts.named])
    values = [float(key(name) not in known) for named in texts.named for name in named]
    return Measured(values=np.array(values, np.float64), rows=rows)


def _cited(texts: Texts) -> list[list[bool]]:
    """For each text and attribute that it cites, whether the record holds it."""
    assert texts.cited is not None
    assert texts.item is not None
    assert texts.catalog is not None
    records = _records(texts.catalog, set(texts.item))
    return [
        [_holds(records.get(item, {}), one) for one in cited]
        for cited, item in zip(texts.cited, texts.item, strict=True)
    ]


def _holds(record: Values, attribute: str) -> bool:
    if any(key(attribute) in values for values in record.values()):
        return True
    column, colon, value = attribute.partition(":")
    return bool(colon) and key(value) in record.get(column.strip().lower(), set())


def _records(catalog: Catalog, ids: set[str]) -> dict[str, Values]:
    """By item id, the values of each column; those without a word are left out."""
    table = catalog.items.filter(pl.col("item_id").is_in(list(ids))).drop(VECTOR, strict=False)
    found = {}
    for row in table.iter_rows(named=True):
        item = row.pop("item_id")
        found[item] = {
            name.lower(): {key(part) for part in _parts(value)} - {""} for name, value in row.items()
        }
    return found


def _parts(value: Any) -> Iterator[str]:
    """A value as texts: itself, its parts, its entries, a title without its year."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        for entry in value:
            yield from _parts(entry)
    elif value is not None:
        text = f"{value:g}" if isinstance(value, float) else str(value)
        yield from (text, YEAR.sub("", text), *text.split("|"))


def _names(catalog: Catalog) -> dict[str, set[str]]:
    """Item ids by what the item may be called."""
    ids = catalog.items["item_id"].to_list()
    titles = catalog.titles(np.arange(1, catalog.num_items + 1))
    found: dict[str, set[str]] = {}
    for item, title in zip(ids, titles, strict=True):
        for name in {item, title, YEAR.sub("", title)}:
            found.setdefault(key(name), set()).add(item)
    found.pop("", None)
    return found


def _columns(texts: Texts) -> dict[str, str]:
    assert texts.catalog is not None
    return {
        "record": ", ".join(name for name in texts.catalog.items.columns if name not in ("item_id", VECTOR))
    }
