"""Questions as the batch files of OpenAI's protocol (JSON lines), and the provider's results back into the ledger.

Beside the requests stands a file of the questions, `NAME.questions.jsonl`: it leads from the id of a result, which
is the key of the question, to what was asked of whom. It stays here; the requests go to the provider.

What came of a batch's results, told in a few lines; its failures in a file, as every command keeps its own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from ...errors import LLMRequestError, RecloomError
from ...terminal import visible
from .. import Message
from ..client.runner import as_reply, distinct
from ..openai.chat import OpenAIChat
from ..openai.redaction import refuse_secrets, without_secrets
from ..requests import Failure, LLMRequest, LLMResponse
from ..structured import failure_lines
from .export import dumps, json_lines, to_line, write_lines
from .store import Ledger

PER_FILE = 50_000
BYTES_PER_FILE = 190_000_000
"""OpenAI takes 50,000 requests and 200 MB in one file."""
URL = "/v1/chat/completions"


class _Body(Exception):
    """Carries the body of a request out of the backend that made it."""


@dataclass(frozen=True)
class Written:
    """The files of requests, the index of request keys, how many requests, and how many replies the ledger held."""

    files: list[Path]
    request_index: Path
    requests: int
    cached: int


@dataclass
class Taken:
    """What came of a file of results.

    Attributes:
        kept: replies new in the ledger.
        held: replies that the ledger held already.
        failures: id and reason of each result without a usable answer, in their order.
        unknown: results whose id is not among the questions, or came before in the file.
        missing: questions without a result.
    """

    kept: int = 0
    held: int = 0
    failures: list[tuple[str, Failure]] = field(default_factory=list)
    unknown: int = 0
    missing: int = 0


def write_batch(
    model: OpenAIChat,
    requests: Sequence[LLMRequest],
    ledger: Ledger | None,
    path: Path,
    *,
    overwrite: bool = False,
) -> Written:
    """Write a request for every question whose reply the ledger lacks; its id is the key of the question.

    What exceeds the provider's limits goes to `NAME-2.jsonl`, `NAME-3.jsonl` and so on.
    Raises RecloomError for questions with options, which a batch cannot score, and for a file of questions that
    exists, since results may still be on their way to it.
    """
    side = questions_path(path)
    if side.exists() and not overwrite:
        raise RecloomError(
            f"{side} exists, and results may still come for it. Choose another name, or remove it if none will."
        )
    identity = model.identity
    wanted, _ = distinct(identity, requests)
    held = ledger.get_many(wanted) if ledger else {}
    left = {key: request for key, request in wanted.items() if key not in held}
    refuse_secrets("the identity of the language model", dumps(dict(identity)))
    for request in left.values():
        _refuse(request)
    requests = (
        {"custom_id": k, "method": "POST", "url": URL, "body": body(model, q)} for k, q in left.items()
    )
    files: list[Path] = []
    for part in _parts(map(to_line, requests)):
        files.append(path.with_name(f"{path.stem}-{len(files) + 1}{path.suffix}") if files else path)
        write_lines(files[-1], part)
    asked = ({"key": k, "identity": identity, "question": q.as_data()} for k, q in left.items())
    write_lines(side, map(to_line, asked))
    return Written(files, side, len(left), len(held))


def _refuse(request: LLMRequest) -> None:
    if request.options is not None:
        raise RecloomError(
            "a batch file cannot score options: its results are texts. Ask these questions of a server directly, "
            "or of a language model that runs locally."
        )
    refuse_secrets("a question", dumps(request.as_data()))


def body(model: OpenAIChat, request: LLMRequest) -> dict[str, Any]:
    """What the model would send to answer a question."""

    def post(path: str, sent: dict[str, Any]) -> dict[str, Any]:
        raise _Body(sent)

    try:
        _ask(model, request, post)
    except _Body as caught:
        found: dict[str, Any] = caught.args[0]
        return found
    raise RecloomError(f"{type(model).__name__} answers without a request, so it has no batch files")


def read_batch(results: Path, requests: Path, ledger: Ledger) -> Taken:
    """Put the replies of a file of results, in any order, into the ledger.

    Args:
        results: the provider's output, or its file of errors.
        requests: the requests as `write_batch` named them; the file of questions beside it is read.

    Raises RecloomError naming file and line of what is not JSON, and where no result belongs to these requests;
    replies before that line are kept.
    """
    asked = _asked(questions_path(requests))
    taken, seen = Taken(), set[str]()
    for _, result in json_lines(results):
        key = result.get("custom_id")
        if not isinstance(key, str) or key not in asked or key in seen:
            taken.unknown += 1
            continue
        seen.add(key)
        _take(result, key, *asked[key], ledger, taken)
    if taken.unknown and not seen:
        raise RecloomError(f"{results} holds no result for {requests}; are they of the same batch?")
    taken.missing = len(asked) - len(seen)
    return taken


def questions_path(requests: Path) -> Path:
    """The file of questions that belongs to a file of requests."""
    return requests.with_name(f"{requests.stem}.questions.jsonl")


def _take(
    result: dict[str, Any], key: str, model: OpenAIChat, request: LLMRequest, ledger: Ledger, taken: Taken
) -> None:
    try:
        response = as_reply(request, _ask(model, request, _Filed(result)))
        if isinstance(response, LLMResponse):
            held = ledger.get_many([key])
            ledger.put(key, model.identity, request, response)
            taken.held, taken.kept = taken.held + len(held), taken.kept + 1 - len(held)
        else:
            taken.failures.append((key, response))
    except LLMRequestError as error:
        taken.failures.append((key, Failure(without_secrets(str(error)))))


class _Filed:
    """Stands in for the server: the first request gets the answer that the file holds."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result: dict[str, Any] | None = result

    def __call__(self, path: str, sent: dict[str, Any]) -> dict[str, Any]:
        if self.result is None:
            raise LLMRequestError("the result holds fewer answers than were asked for")
        result, self.result = self.result, None
        response, error = result.get("response"), result.get("error")
        response = response if isinstance(response, dict) else {}
        answer = response.get("body")
        if error or response.get("status_code") != 200 or not isinstance(answer, dict):
            raise LLMRequestError(_fault(response.get("status_code"), error or answer))
        return answer


def _fault(status: Any, said: Any) -> str:
    while isinstance(said, dict):
        said = said.get("message") or said.get("error") or said.get("code")
    return f"the provider failed ({status if isinstance(status, int) else 'no status'}): {str(said)[:300]}"


def _ask(
    model: OpenAIChat, request: LLMRequest, post: Callable[[str, dict[str, Any]], dict[str, Any]]
) -> Any:
    """Let the backend make its request and read the answer, with `post` in place of the server."""
    twin = copy.copy(model)
    object.__setattr__(twin, "post", post)
    return twin.generate(
        request.messages, n=request.n, temperature=request.temperature, max_tokens=request.max_tokens,
        seed=request.seed, schema=json.loads(request.schema) if request.schema else None,
    )  # fmt: skip


def _asked(path: Path) -> dict[str, tuple[OpenAIChat, LLMRequest]]:
    """Model and question by key."""
    found: dict[str, tuple[OpenAIChat, LLMRequest]] = {}
    for number, data in json_lines(path):
        try:
            identity = dict(data["identity"])
            request = _question(data["question"])
            kind = identity.pop("class")
            model = OpenAIChat(**identity)
            proven = kind == OpenAIChat.__name__ and request.key(model.identity) == data["key"]
        except (KeyError, TypeError, ValueError, RecloomError):
            proven = False
        if not proven:
            raise RecloomError(
                f"{path}, line {number}: not a question as it was asked; write the requests again"
            )
        found[data["key"]] = (model, request)
    return found


def _question(data: dict[str, Any]) -> LLMRequest:
    given = dict(data)
    messages = tuple(Message(role=each["role"], content=each["content"]) for each in given.pop("messages"))
    schema = given.pop("schema", None)
    return LLMRequest(messages, **given, schema=None if schema is None else json.dumps(schema))


def _parts(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = 0
    for line in lines:
        if part and (len(part) == PER_FILE or size + len(line) > BYTES_PER_FILE):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield part


REASONS = 10
NAMED = 3
"""How many reasons are told, and how many ids of each."""
ID = 16
"""Characters of an id that are shown; the file holds all of them."""


def tell(taken: Taken, ledger: Path) -> None:
    """Print counts, then the most frequent reasons of failures, each with the first ids that it befell."""
    print(f"{taken.kept:,} replies are new in {ledger}, {taken.held:,} were held already")
    print(f"{len(taken.failures):,} results failed, {taken.unknown:,} belong to no open question")
    print(f"{taken.missing:,} questions have no result")
    by_reason = sorted(taken.failures, key=lambda row: row[1].reason)
    groups = [list(group) for _, group in groupby(by_reason, lambda row: row[1].reason)]
    groups.sort(key=len, reverse=True)
    for rows in groups[:REASONS]:
        ids = ", ".join(f"{key[:ID]}…" for key, _ in rows[:NAMED])
        more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
        print(visible(f"  {len(rows):,} x {rows[0][1].reason}".replace("\n", " ")))
        print(f"      {ids}{more}")
    if len(groups) > REASONS:
        print(f"  and {len(groups) - REASONS:,} other reasons")


def keep_failures(taken: Taken, results: Path) -> None:
    """Write what failed beside the results, and say where; without failures there is no such file."""
    beside = results.with_name(f"{results.stem}.failures.jsonl")
    if not taken.failures:
        beside.unlink(missing_ok=True)
        return
    write_lines(beside, [failure_lines(taken.failures).encode()])
    print(f"what failed, and why: {beside}")
