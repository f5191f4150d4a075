"""The ledger export: a response as one line of JSON, the checks that a line must pass, and a ledger shown as tables.

    {"key", "identity", "question", "reply", "prompt_tokens", "completion_tokens", "asked_at", "sha256"}

`question` is the request and `reply` the response; `key` is the sha256 of identity and request, `sha256` that of
everything else in the line. Lines are UTF-8, in which a lone surrogate is written like any other code point, so that
every text comes back as it was.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from ...errors import RecloomError
from ...io import whole_file
from ...terminal import plain
from ..requests import LLMResponse

if TYPE_CHECKING:
    from .store import Total

FIELDS = {
    "key": str, "identity": dict, "question": dict, "reply": dict,
    "prompt_tokens": int, "completion_tokens": int, "asked_at": str, "sha256": str,
}  # fmt: skip
DATE = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z")


class Row(NamedTuple):
    """A response as the ledger's table holds it: three columns are JSON, `asked_at` is UTC in ISO 8601."""

    key: str
    identity: str
    question: str
    reply: str
    prompt_tokens: int
    completion_tokens: int
    asked_at: str


def dumps(data: Any) -> str:
    """The one way in which JSON is written here: it is hashed, so it must not vary."""
    return json.dumps(data, sort_keys=True, ensure_ascii=False)


def key_of(identity: str, request: str) -> str:
    """`LLMRequest.key` from the JSON of identity and request."""
    return sha256(f"[{identity}, {request}]")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def response_to_json(response: LLMResponse) -> str:
    """The answers, and how many of them were cut where any was; tokens have columns of their own."""
    cut = {"cut": response.cut} if response.cut else {}
    return dumps({"scores": response.scores} if response.scores else {"texts": response.texts} | cut)


def response_from_json(text: str, prompt_tokens: int, completion_tokens: int) -> LLMResponse:
    """A response that is cached; raises ValueError for anything that `response_to_json` does not write."""
    data = json.loads(text)
    texts, scores, cut = data.get("texts", []), data.get("scores", []), data.pop("cut", 0)
    kinds = all(isinstance(t, str) for t in texts), all(isinstance(s, float | int) for s in scores)
    if len(data) != 1 or not (texts or scores) or not all(kinds):
        raise ValueError("a response holds texts or scores")
    if type(cut) is not int or not 0 <= cut <= len(texts):
        raise ValueError(f"cut is a number of answers up to {len(texts)}; found {cut!r}")
    return LLMResponse(tuple(texts), tuple(map(float, scores)), prompt_tokens, completion_tokens, True, cut)


def to_line(data: dict[str, Any]) -> bytes:
    """An object as a line, line break included."""
    return dumps(data).encode("utf-8", "surrogatepass") + b"\n"


def export_line(row: Row) -> bytes:
    """The line of a response."""
    data = row._asdict() | {
        name: json.loads(getattr(row, name)) for name in ("identity", "question", "reply")
    }
    return to_line(data | {"sha256": sha256(dumps(data))})


def read_lines(path: Path) -> Iterator[Row]:
    """Every response of a file of lines, checked.

    Raises RecloomError naming the file and the line that is not what an export wrote.
    """
    for number, data in json_lines(path):
        try:
            yield _checked(data)
        except ValueError as error:
            raise RecloomError(
                f"{path}, line {number}: {error}. Nothing of the file was taken; export it again with "
                "`recloom llm export`, which writes lines with their digests."
            ) from None


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of every line; raises RecloomError naming file and line of what is no JSON object."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise RecloomError(f"{path} cannot be read: {error.strerror}. Name a file of JSON lines.") from None
    with file:
        for number, line in enumerate(file, 1):
            try:
                data = json.loads(line.decode("utf-8", "surrogatepass"))
            except (ValueError, RecursionError):
                data = None
            if not isinstance(data, dict):
                raise RecloomError(f"{path}, line {number}: expected a JSON object, found {line[:40]!r}")
            yield number, data


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write a file whole or not at all; return the number of lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with whole_file(path) as partial, partial.open("wb") as file:
        for line in lines:
            file.write(line)
            written += 1
    return written


def _checked(data: dict[str, Any]) -> Row:
    if data.keys() != FIELDS.keys():
        found = ", ".join(sorted(data)[:12]) or "none"
        raise ValueError(f"expected an object with the keys {', '.join(FIELDS)}; found {found}")
    for name, kind in FIELDS.items():
        if type(data[name]) is not kind:
            raise ValueError(f"{name} must be of type {kind.__name__}; found {str(data[name])[:40]!r}")
    digest = data.pop("sha256")
    identity, request, response = (dumps(data[name]) for name in ("identity", "question", "reply"))
    if key_of(identity, request) != data["key"]:
        raise ValueError(f"key {data['key'][:16]!r} is not the sha256 of the identity and request beside it")
    if sha256(dumps(data)) != digest:
        raise ValueError("sha256 is not that of the line: the response, its tokens or its date were changed")
    if not DATE.fullmatch(data["asked_at"]):
        raise ValueError(f"asked_at must look like 2030-01-31T12:00:00Z; found {data['asked_at'][:40]!r}")
    if not all(0 <= data[name] < 2**53 for name in ("prompt_tokens", "completion_tokens")):
        raise ValueError("prompt_tokens and completion_tokens must be 0 or more")
    response_from_json(response, 0, 0)
    return Row(**(data | {"identity": identity, "question": request, "reply": response}))


VERSION = 8
"""Characters of a prompt's version that are shown; two versions hardly ever share them."""
COLUMNS = ("kept", "prompt tokens", "completion tokens", "last")


def print_tables(path: Path, totals: Sequence[Total]) -> None:
    """Print what a ledger holds, as tables that fit a narrow terminal: one for each model, a line for each prompt."""
    console = Console(highlight=False)
    console.print(plain(f"{path}: {sum(total.responses for total in totals):,} responses", 400))
    by_model = sorted(totals, key=lambda total: total.model)
    for model, group in groupby(by_model, lambda total: total.model):
        table = Table(box=None, pad_edge=False)
        table.add_column(plain(model, 40))
        for name in COLUMNS:
            table.add_column(name, justify="right")
        for one in group:
            counts = (f"{n:,}" for n in (one.responses, one.prompt_tokens, one.completion_tokens))
            table.add_row(plain(_short(one.prompt), 40), *counts, one.last[:10])
        console.print()
        console.print(table)


def _short(prompt: str) -> str:
    name, at, version = prompt.rpartition("@")
    return f"{name}{at}{version[:VERSION]}" if at else prompt
