"""The card of a prepared dataset, `dataset.json`, and the choices of options of `recloom data`. Nothing heavy here."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from ..errors import DataError
from ..io import sha256
from ..schemas import DatasetCard

CARD = "dataset.json"
Layout = Literal["auto", "pairs", "users", "items"]
"""Sequence files: one `user item` pair a line, one user and its items a line, or items alone."""
Quote = Literal["auto", "double", "backslash", "none"]
"""What quotes mean in a table: they enclose fields, doubled or escaped by a backslash inside, or are ordinary."""
Ties = Literal["auto", "file", "hash"]
"""What orders rows of equal user and time: the file, a hash, or which of them the order of the file admits."""
Domain = Literal["movies", "news", "shop", "jobs"]
"""What invented items look like."""


def read_card(folder: str | Path) -> DatasetCard:
    """Read `dataset.json` of a prepared dataset.

    Raises DataError when there is none, or when it is not a dataset card.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise DataError(
            f"{folder} is not a prepared dataset: it holds no {CARD}. Make one with "
            "`recloom data prepare READER --path RAW --out DIR`, or `recloom data synth`."
        )
    try:
        return DatasetCard.model_validate_json(path.read_bytes())
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:3])
        raise DataError(f"{path} is not a dataset card: {wrong}. Prepare the dataset again.") from error


def read_unchanged(folder: str | Path) -> DatasetCard:
    """As `read_card`, of a dataset whose files are as they were prepared: what is learnt of them is named after it.

    Raises DataError where a file is missing or another.
    """
    card = read_card(folder)
    for name, digest in card.sha256.items():
        path = Path(folder) / name
        if not path.is_file() or sha256(path) != digest:
            wrong = "not what was prepared (its sha256 differs)" if path.is_file() else "missing"
            raise DataError(
                f"{path} is {wrong}, so what is learnt from it would be kept under a name that is not its own. Prepare "
                f"the dataset again; `recloom data check {folder}` looks at all of it."
            )
    return card
