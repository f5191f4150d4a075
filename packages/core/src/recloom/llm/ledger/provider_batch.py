"""A provider's batch: requests as files of OpenAI's protocol (JSON lines), and its results back into the ledger.

Beside the file of requests stands an index, `NAME.questions.jsonl`: it leads from the id of a result, which is the
key of the request, to the request and the identity of its model. It stays here; the requests go to the provider.
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
from ..client.runner import distinct, to_response
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
class BatchFiles:
    """The files of requests, their index, how many requests, and how many responses the ledger held."""

    files: list[Path]
    request_index: Path
    requests: int
    cached: int


@dataclass
class ImportReport:
    """What came of a file of results.

    Attributes:
        kept: responses new in the ledger.
        held: responses that the ledger held already.
        failures: id and reason of each result without a usable answer, in their order.
        unknown: results whose id is not among the requests, or came before in the file.
        missing: requests without a result.
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
) -> BatchFiles:
    """Write a line for every request whose response the ledger lacks; its id is the key of the request.

    What exceeds the provider's limits goes to `NAME-2.jsonl`, `NAME-3.jsonl` and so on.
    Raises RecloomError for requests with options, which a batch cannot score, and for an index that exists, since
    results may still be on their way to it.
    """
    index = index_path(path)
    if index.exists() and not overwrite:
        raise RecloomError(
            f"{index} exists, and results may still come for it. Choose another name, or remove it if none will."
        )
    identity = model.identity
    wanted, _ = distinct(identity, requests)
    held = ledger.get_many(wanted) if ledger else {}
    left = {key: request for key, request in wanted.items() if key not in held}
    refuse_secrets("the identity of the language model", dumps(dict(identity)))
    for request in left.values():
        _refuse(request)
    lines = (
        {"custom_id": k, "method": "POST", "url": URL, "body": body(model, one)} for k, one in left.items()
    )
    files: list[Path] = []
    for part in _parts(map(to_line, lines)):
        files.append(path.with_name(f"{path.stem}-{len(files) + 1}{path.suffix}") if files else path)
        write_lines(files[-1], part)
    known = ({"key": k, "identity": identity, "question": one.as_data()} for k, one in left.items())
    write_lines(index, map(to_line, known))
    return BatchFiles(files, index, len(left), len(held))


def _refuse(request: LLMRequest) -> None:
    if request.options is not None:
        raise RecloomError(
            "a batch file cannot score options: its results are texts. Send these requests to a server directly, "
            "or to a language model that runs locally."
        )
    refuse_secrets("a request", dumps(request.as_data()))


def body(model: OpenAIChat, request: LLMRequest) -> dict[str, Any]:
    """What the model would send for a request."""

    def post(path: str, sent: dict[str, Any]) -> dict[str, Any]:
        raise _Body(sent)

    try:
        _generate(model, request, post)
    except _Body as caught:
        found: dict[str, Any] = caught.args[0]
        return found
    raise RecloomError(f"{type(model).__name__} answers without a request, so it has no batch files")


def read_batch(results: Path, requests: Path, ledger: Ledger) -> ImportReport:
    """Put the responses of a file of results, in any order, into the ledger.

    Args:
        results: the provider's output, or its file of errors.
        requests: the requests as `write_batch` named them; the index beside it is read.

    Raises RecloomError naming file and line of what is not JSON, and where no result belongs to these requests;
    responses before that line are kept.
    """
    known = _indexed(index_path(requests))
    report, seen = ImportReport(), set[str]()
    for _, result in json_lines(results):
        key = result.get("custom_id")
        if not isinstance(key, str) or key not in known or key in seen:
            report.unknown += 1
            continue
        seen.add(key)
        _keep(result, key, *known[key], ledger, report)
    if report.unknown and not seen:
        raise RecloomError(f"{results} holds no result for {requests}; are they of the same batch?")
    report.missing = len(known) - len(seen)
    return report


def index_path(requests: Path) -> Path:
    """The index that belongs to a file of requests."""
    return requests.with_name(f"{requests.stem}.questions.jsonl")


def _keep(
    result: dict[str, Any],
    key: str,
    model: OpenAIChat,
    request: LLMRequest,
    ledger: Ledger,
    report: ImportReport,
) -> None:
    try:
        response = to_response(request, _generate(model, request, _RecordedServer(result)))
        if isinstance(response, LLMResponse):
            held = ledger.get_many([key])
            ledger.put(key, model.identity, request, response)
            report.held, report.kept = report.held + len(held), report.kept + 1 - len(held)
        else:
            report.failures.append((key, response))
    except LLMRequestError as error:
        report.failures.append((key, Failure(without_secrets(str(error)))))


class _RecordedServer:
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


def _generate(
    model: OpenAIChat, request: LLMRequest, post: Callable[[str, dict[str, Any]], dict[str, Any]]
) -> Any:
    """Let the backend make its request and read the answer, with `post` in place of the server."""
    twin = copy.copy(model)
    object.__setattr__(twin, "post", post)
    return twin.generate(
        request.messages, n=request.n, temperature=request.temperature, max_tokens=request.max_tokens,
        seed=request.seed, schema=json.loads(request.schema) if request.schema else None,
    )  # fmt: skip


def _indexed(path: Path) -> dict[str, tuple[OpenAIChat, LLMRequest]]:
    """Model and request by key."""
    found: dict[str, tuple[OpenAIChat, LLMRequest]] = {}
    for number, data in json_lines(path):
        try:
            identity = dict(data["identity"])
            request = _request(data["question"])
            kind = identity.pop("class")
            model = OpenAIChat(**identity)
            proven = kind == OpenAIChat.__name__ and request.key(model.identity) == data["key"]
        except (KeyError, TypeError, ValueError, RecloomError):
            proven = False
        if not proven:
            raise RecloomError(
                f"{path}, line {number}: not a request as it was written; write the requests again"
            )
        found[data["key"]] = (model, request)
    return found


def _request(data: dict[str, Any]) -> LLMRequest:
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
"""How many reasons are printed, and how many ids of each."""
ID = 16
"""Characters of an id that are shown; the file holds all of them."""


def print_report(report: ImportReport, ledger: Path) -> None:
    """Print counts, then the most frequent reasons of failures, each with the first ids affected."""
    print(f"{report.kept:,} responses are new in {ledger}, {report.held:,} were held already")
    print(f"{len(report.failures):,} results failed, {report.unknown:,} belong to no open request")
    print(f"{report.missing:,} requests have no result")
    by_reason = sorted(report.failures, key=lambda row: row[1].reason)
    groups = [list(group) for _, group in groupby(by_reason, lambda row: row[1].reason)]
    groups.sort(key=len, reverse=True)
    for rows in groups[:REASONS]:
        ids = ", ".join(f"{key[:ID]}…" for key, _ in rows[:NAMED])
        more = f" and {len(rows) - NAMED:,} more" if len(rows) > NAMED else ""
        print(visible(f"  {len(rows):,} x {rows[0][1].reason}".replace("\n", " ")))
        print(f"      {ids}{more}")
    if len(groups) > REASONS:
        print(f"  and {len(groups) - REASONS:,} other reasons")


def write_failures(report: ImportReport, results: Path) -> None:
    """Write what failed beside the results, and say where; without failures there is no such file."""
    beside = results.with_name(f"{results.stem}.failures.jsonl")
    if not report.failures:
        beside.unlink(missing_ok=True)
        return
    write_lines(beside, [failure_lines(report.failures).encode()])
    print(f"what failed, and why: {beside}")
