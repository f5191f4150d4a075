"""Chat models behind a server that speaks OpenAI's protocol: OpenAI itself, vLLM, llama.cpp, Ollama and others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ...errors import LLMRequestError, RecloomError
from .. import Generation, LanguageModel, Message, Scores
from .server import OpenAIServer

MOST_LOGPROBS = 20
"""What the protocol allows to ask for."""
ROUNDING = 1e-3
"""By so much a log-probability may exceed 0."""
MOST_TOKENS = 2**53
"""What a server says beyond that is no count."""
OURS = ("model", "messages", "stream")


@dataclass(frozen=True)
class OpenAIChat(OpenAIServer, LanguageModel):
    """Answers of a chat model on a server; the further options are those of `OpenAIServer`.

    Scoring needs a server that returns the most probable first tokens, and options that are one token each, such
    as A and B or yes and no; all else is refused.

    Args:
        model: its name on the server.
        structured: hold the model to the request's JSON schema (`response_format`) where the server can:
            `json_schema` is OpenAI's form, `json_object` with a schema beside it that of llama-cpp-python and others.
        token_limit: the field in which the server expects the limit; newer models of OpenAI want the longer one.
        extra: further fields of every request, such as `{"top_p": 0.9}`; null leaves out a field that the
            server does not know, such as `{"seed": null}`.
    """

    model: str
    structured: Literal["json_schema", "json_object"] | None = None
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    extra: dict[str, Any] = field(default_factory=dict)

    can_score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise RecloomError("OpenAIChat needs the name of a model on the server")
        if set(self.extra) & set(OURS):
            raise RecloomError(f"extra of OpenAIChat may hold any field but {', '.join(OURS)}")

    def generate(
        self,
        messages: Sequence[Message],
        *,
        n: int = 1,
        temperature: float = 0.0,
        max_tokens: int = 256,
        seed: int = 0,
        schema: dict[str, Any] | None = None,
    ) -> Generation:
        """Return n answers; where the server gives fewer at a time, the rest is asked for with further seeds."""
        body: dict[str, Any] = {"temperature": temperature, self.token_limit: max_tokens, "seed": seed}
        if schema is not None and self.structured == "json_schema":
            form = {"name": "answer", "schema": _without_lengths(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        elif schema is not None and self.structured == "json_object":
            body["response_format"] = {"type": "json_object", "schema": _without_lengths(schema)}
        found = self._complete(messages, body | ({"n": n} if n > 1 else {}), n)
        while len(found.texts) < n:
            more = self._complete(messages, body | {"seed": seed + len(found.texts)}, 1)
            found = Generation(
                found.texts + more.texts,
                found.prompt_tokens + more.prompt_tokens,
                found.completion_tokens + more.completion_tokens,
                found.cut + more.cut,
                found.estimated or more.estimated,
            )
        return found

    def score_batch(
        self, prompts: Sequence[Sequence[Message]], options: Sequence[Sequence[str]]
    ) -> list[Scores | LLMRequestError]:
        """The log-probability of each option as the first token of the answer, with or without a blank before it.

        Raises RecloomError where the server gives no log-probabilities. A request whose options cannot be told
        apart, or are not all among the 20 most probable tokens, becomes a LLMRequestError.
        """
        found: list[Scores | LLMRequestError] = []
        for messages, given in zip(prompts, options, strict=True):
            try:
                found.append(self._scored(messages, given))
            except LLMRequestError as error:
                found.append(LLMRequestError(f"scoring is not possible here: {error}"))
        return found

    def _complete(self, messages: Sequence[Message], body: dict[str, Any], n: int) -> Generation:
        """At least one answer and at most n, by one request."""
        response = self._post(messages, body)
        choices = [_text(choice, self.host) for choice in _choices(response, self.host)[:n]]
        texts = [text for text, _ in choices]
        asked, answered, estimated = self._tokens(response, messages, self.estimate(texts))
        return Generation(texts, asked, answered, sum(cut for _, cut in choices), estimated)

    def _tokens(
        self, response: dict[str, Any], messages: Sequence[Message], written: int
    ) -> tuple[int, int, bool]:
        """Of the prompt and of the answers; then whether either is an estimate, as the server does not say."""
        asked, answered = _usage(response)
        read = self.estimate(message["content"] for message in messages)
        return (
            read if asked is None else asked,
            written if answered is None else answered,
            asked is None or answered is None,
        )

    def _post(self, messages: Sequence[Message], body: dict[str, Any]) -> dict[str, Any]:
        body = {"model": self.model, "messages": list(messages)} | body | self.extra
        return self.post("/chat/completions", {name: part for name, part in body.items() if part is not None})

    def _scored(self, messages: Sequence[Message], options: Sequence[str]) -> Scores:
        tokens = [option.removeprefix(" ") for option in options]
        if "" in tokens or len(set(tokens)) < len(tokens):
            raise LLMRequestError(f"options must be different and not empty; found {list(options)}")
        # at temperature 1 the probabilities are the model's own on every server; what is drawn does not matter
        body = {"temperature": 1.0, self.token_limit: 1, "logprobs": True, "top_logprobs": MOST_LOGPROBS}
        response = self._post(messages, body)
        (choice, *_) = _choices(response, self.host)
        known = _first_tokens(choice, f"{self.model} at {self.host}")
        absent = [token for token in tokens if token not in known and f" {token}" not in known]
        if absent:
            raise LLMRequestError(
                f"{absent} not among the {len(known)} most probable tokens that {self.host} returned. An option must "
                "be one token, such as A or yes; with longer ones use a language model that runs locally."
            )
        log_probs = [_logsumexp([known[form] for form in (t, f" {t}") if form in known]) for t in tokens]
        return Scores(log_probs, *self._tokens(response, messages, written=1))


def _choices(response: dict[str, Any], host: str) -> list[dict[str, Any]]:
    found = response.get("choices")
    if not isinstance(found, list) or not found or not all(isinstance(choice, dict) for choice in found):
        raise LLMRequestError(f"{host} answered without choices")
    return found


def _text(choice: dict[str, Any], host: str) -> tuple[str, bool]:
    """An answer, and whether it ended at the limit of tokens."""
    message, reason = choice.get("message"), choice.get("finish_reason")
    if reason == "content_filter":
        raise LLMRequestError(f"{host} withheld the answer (content_filter)")
    message = message if isinstance(message, dict) else {}
    text = message.get("content")
    if isinstance(text, str):
        return text, reason == "length"
    if reason == "length":
        raise LLMRequestError(f"{host} used up max_tokens before the answer began; raise max_tokens")
    refusal = message.get("refusal")
    raise LLMRequestError(
        f"the model refused: {refusal[:300]}"
        if isinstance(refusal, str)
        else f"{host} answered without text (finish_reason {reason!r})"
    )


def _usage(response: dict[str, Any]) -> Iterator[int | None]:
    """Tokens of the prompt and of the answers, None where the server does not say."""
    usage = response.get("usage")
    for name in ("prompt_tokens", "completion_tokens"):
        count = usage.get(name) if isinstance(usage, dict) else None
        yield count if isinstance(count, int) and 0 <= count <= MOST_TOKENS else None


def _first_tokens(choice: dict[str, Any], who: str) -> dict[str, float]:
    """Log-probabilities of the most probable first tokens."""
    try:
        listed = choice["logprobs"]["content"][0]["top_logprobs"]
        found = {entry["token"]: float(entry["logprob"]) for entry in listed}
    except (KeyError, IndexError, TypeError, ValueError):
        found = {}
    if not found:
        raise RecloomError(
            f"scoring is not possible here: {who} returns no log-probabilities (top_logprobs). "
            "Use a language model that runs locally, or a server that returns them."
        )
    if not all(value <= ROUNDING for value in found.values()):  # NaN is not
        raise RecloomError(f"scoring is not possible here: what {who} returns are no log-probabilities")
    return found


def _without_lengths(schema: Any) -> Any:
    """The schema without the greatest lengths of texts: a server's grammar may spell them out, a rule a character.

    Every response is checked against the whole schema later.
    """
    if isinstance(schema, dict):
        kept = {
            name: part for name, part in schema.items() if name != "maxLength" or not isinstance(part, int)
        }
        return {name: _without_lengths(part) for name, part in kept.items()}
    return [_without_lengths(part) for part in schema] if isinstance(schema, list) else schema


def _logsumexp(values: Sequence[float]) -> float:
    most = max(values)
    return most if math.isinf(most) else most + math.log(sum(math.exp(value - most) for value in values))
