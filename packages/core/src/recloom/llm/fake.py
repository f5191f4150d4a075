"""A fake language model: a pure function of its messages, for tests, plans and demonstrations.

It reads the prompt as a person would: what stands between `<tag>` and `</tag>` is data, marked lines
(`A. ...`, `1. ...`, `- ...`) are lists, and the last list holds the candidates. Where `attribute` and `value` are
wanted, the last tagged list is a record of `name: value` lines.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from ..errors import LLMRequestError, RecloomError
from . import Generation, LanguageModel, Message, Scores

Policy = Literal[
    "overlap", "prompt_order", "reverse", "oracle", "always_A", "garbage", "truncated_json", "hallucinate"
]
TAGGED = re.compile(r"<([a-z][a-z0-9_-]*)>(.*?)</\1>", re.DOTALL)
MARKED = re.compile(r"^(?:[A-Z]\.|\d+\.|-) +(.+)$")
WORD = re.compile(r"[^\W_]{3,}")
KEPT = 12
"""Words of an invented text."""


@dataclass(frozen=True)
class Fake(LanguageModel):
    """Answers by a fixed policy.

    Args:
        policy: how candidates are put in order: `overlap` (most words in common with the rest of the data),
            `prompt_order`, `reverse`, `oracle` (by `labels`), `always_A` (the first of them, alone). What is
            not a choice is answered with the data's most frequent words, above temperature 0 with some of them.
            `garbage` gives noise, `truncated_json` half of an answer, `hallucinate` invents a share of the titles.
        labels: for `oracle`, how good each candidate is; unnamed ones are 0.
        share: for `hallucinate`, how many of the titles are invented.
        seed: of the noise.
    """

    policy: Policy = "overlap"
    labels: dict[str, float] = field(default_factory=dict)
    share: float = 0.5
    seed: int = 0

    can_score: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise RecloomError(
                f"policy of Fake must be one of {', '.join(get_args(Policy))}; found {self.policy!r}"
            )
        if not 0 <= self.share <= 1:
            raise RecloomError(f"share of Fake must be from 0 to 1; found {self.share}")

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
        """Answers in words of the prompt; with a schema, an object that obeys it (but see `policy`)."""
        texts, cut = [], 0
        for number in range(n):
            noise = self._digest(messages, (seed, number if temperature else 0))
            words = self._answer(user_text(messages), schema, noise, temperature > 0).split(" ")
            texts.append(" ".join(words[:max_tokens]))
            cut += len(words) > max_tokens
        return Generation(texts, self._read(messages), self.estimate(texts), cut, estimated=True)

    def score_batch(
        self, prompts: Sequence[Sequence[Message]], options: Sequence[Sequence[str]]
    ) -> list[Scores | LLMRequestError]:
        """Log-probabilities that put the options in the order of the policy; option k of the order has 2^-(k+1)."""
        found: list[Scores | LLMRequestError] = []
        for messages, given in zip(prompts, options, strict=True):
            text = user_text(messages)
            candidates = lists(text)[-1] if lists(text) else []
            named = candidates if len(candidates) == len(given) else list(given)  # A, B, ... stand for a list
            place = {at: rank for rank, at in enumerate(self._order(named, text))}
            log_probs = [-0.6931471805599453 * (place[at] + 1) for at in range(len(given))]
            found.append(Scores(log_probs, self._read(messages), estimated=True))
        return found

    def _read(self, messages: Sequence[Message]) -> int:
        return self.estimate(message["content"] for message in messages)

    def _answer(self, text: str, schema: dict[str, Any] | None, noise: str, sampled: bool) -> str:
        if self.policy == "garbage":
            return f"{noise[:20]} %% {noise[20:40]}"
        if schema is not None:
            answer = json.dumps(self._filled(schema, text, noise), ensure_ascii=False)
        else:
            answer = self._ranked(text, noise, sampled)
        return answer[: len(answer) // 2] if self.policy == "truncated_json" else answer

    def _filled(self, schema: dict[str, Any], text: str, noise: str) -> Any:
        invented = self.policy == "hallucinate" and int(noise[:8], 16) / 0xFFFFFFFF < self.share
        record = {"invention": noise[:6]} if invented else record_of(text)
        return _fill(schema, schema, _Material(data_of(text), record, noise))

    def _ranked(self, text: str, noise: str, sampled: bool) -> str:
        found = lists(text)
        if not found:
            said = frequent(data_of(text))
            kept = [word for word, digit in zip(said, noise, strict=False) if int(digit, 16) % 2]
            return ", ".join(kept or said if sampled else said)
        order = self._order(found[-1], text)
        if re.search(r"^A\. ", text, re.MULTILINE) and len(order) == 2:
            return "AB"[order[0]]
        titles = [found[-1][at] for at in order]
        if self.policy == "always_A":
            return titles[0]
        if self.policy == "hallucinate":
            titles = [self._perhaps_invented(title, noise) for title in titles]
        return "\n".join(f"{rank}. {title}" for rank, title in enumerate(titles, 1))

    def _order(self, candidates: Sequence[str], text: str) -> list[int]:
        """Positions of the candidates, best first; equal ones stay as they stand."""
        places = range(len(candidates))
        if self.policy == "reverse":
            return list(reversed(places))
        if self.policy == "oracle":
            return sorted(places, key=lambda at: -self.labels.get(candidates[at], 0.0))
        if self.policy == "overlap":
            rest = words(text)
            rest.subtract(word for candidate in candidates for word in words(candidate).elements())
            known = {word for word, count in rest.items() if count > 0}
            return sorted(places, key=lambda at: -len(known & set(words(candidates[at]))))
        return list(places)

    def _perhaps_invented(self, title: str, noise: str) -> str:
        drawn = int(self._digest(title, noise)[:8], 16) / 0xFFFFFFFF
        return f"The Invented {noise[:6].title()}" if drawn < self.share else title

    def _digest(self, *asked: Any) -> str:
        text = json.dumps([self.seed, asked], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def user_text(messages: Sequence[Message]) -> str:
    """What the user said, in all turns: a corrective turn does not repeat the data of the first."""
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def lists(text: str) -> list[list[str]]:
    """Runs of marked lines, without their marks."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        marked = MARKED.match(line)
        if marked:
            found[-1].append(marked[1])
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def record_of(text: str) -> dict[str, str]:
    """The `name: value` lines of the last tagged list."""
    tagged = [run for match in TAGGED.finditer(text) for run in lists(match[2])]
    pairs = (line.partition(": ") for line in (tagged[-1] if tagged else []))
    return {name: value for name, colon, value in pairs if colon}


def data_of(text: str) -> str:
    """What stands between tags, or all of a text that has none."""
    return "\n".join(match[2] for match in TAGGED.finditer(text)) or text


def words(text: str) -> Counter[str]:
    """Words of three letters or more, in small letters, with their numbers."""
    return Counter(WORD.findall(text.lower()))


def frequent(text: str) -> list[str]:
    """The most frequent words, equal ones by the alphabet, so that the order of the text does not matter."""
    return [word for word, _ in sorted(words(text).items(), key=lambda found: (-found[1], found[0]))[:KEPT]]


@dataclass(frozen=True)
class _Material:
    """What an answer is made of."""

    text: str
    record: dict[str, str]
    noise: str


def _fill(schema: dict[str, Any], whole: dict[str, Any], made_of: _Material, name: str = "") -> Any:
    """A value that obeys a JSON schema of the kind pydantic writes, made of the words of a text."""
    schema = _resolved(schema, whole)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return _nearest(schema["enum"], made_of)[0]
    kind = schema.get("type", "string")
    if kind == "object":
        parts = schema.get("properties", {})
        if set(parts) == {"attribute", "value"} and made_of.record:
            return dict(zip(("attribute", "value"), next(iter(made_of.record.items())), strict=True))
        return {key: _fill(part, whole, made_of, key) for key, part in parts.items()}
    if kind == "array":
        return _array(schema, whole, made_of, name)
    drawn = int(made_of.noise[:8], 16)
    if kind in ("integer", "number"):
        low = schema.get("minimum", 0)
        return low + drawn % (schema.get("maximum", low + 9) - low + 1)
    if kind == "boolean":
        return drawn >> 28 & 1 == 0
    return f"{name}: {', '.join(frequent(made_of.text))}"[: schema.get("maxLength", 500)]


def _resolved(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Without references and alternatives, of which the first counts."""
    while "$ref" in schema or "anyOf" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema["anyOf"][0]
    return schema


def _array(schema: dict[str, Any], whole: dict[str, Any], made_of: _Material, name: str) -> list[Any]:
    item = _resolved(schema.get("items", {}), whole)
    most, least = schema.get("maxItems", 5), max(1, schema.get("minItems", 1))
    if "enum" in item:
        return _nearest(item["enum"], made_of)[: max(1, min(most, 2))]
    if item.get("type", "string") == "string":
        found = [word[: item.get("maxLength", 100)] for word in frequent(made_of.text)[:most]]
        return found or [made_of.noise[:6]]
    return [_fill(item, whole, made_of, name) for _ in range(least)]


def _nearest(choices: Sequence[Any], made_of: _Material) -> list[Any]:
    """Choices in order of how often their words occur in the text; where none does, any of them first."""
    found = words(made_of.text)
    counts = {choice: sum(found[word] for word in words(str(choice))) for choice in choices}
    start = 0 if any(counts.values()) else int(made_of.noise[:8], 16) % len(choices)
    return sorted([*choices[start:], *choices[:start]], key=lambda choice: -counts[choice])
