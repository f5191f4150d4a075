"""The contracts of language models and text encoders, and the public names of this package.

Both are components of a recommender's configuration: write them as frozen dataclasses whose fields are plain
values, so that a checkpoint can hold `{"class_path": ..., "init_args": {...}}` and build them again. Load
weights on first use, not in the constructor.
"""

from __future__ import annotations

import math
from abc import ABCMeta
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from ..errors import LLMRequestError, RecloomError
from ..plugins import lazy_names

if TYPE_CHECKING:
    import numpy as np

    from .client.budget import Budget as Budget
    from .client.budget import Prices as Prices
    from .client.budget import worst_case as worst_case
    from .client.options import LLMCallOptions as LLMCallOptions
    from .client.options import LLMOptions as LLMOptions
    from .client.options import asking_commands as asking_commands
    from .client.options import llm_identity as llm_identity
    from .client.options import llm_options as llm_options
    from .client.options import without_call_options as without_call_options
    from .client.runner import LLMResult as LLMResult
    from .client.runner import ask as ask
    from .client.session import LAST as LAST
    from .client.session import BatchPlanned as BatchPlanned
    from .client.session import LLMSession as LLMSession
    from .client.session import LLMSessions as LLMSessions
    from .client.session import NothingToSend as NothingToSend
    from .client.session import PlannedRounds as PlannedRounds
    from .client.usage import Usage as Usage
    from .ledger.commands import LEDGER_COMMANDS as LEDGER_COMMANDS
    from .ledger.store import Ledger as Ledger
    from .local.adapter import folder_contents as folder_contents
    from .local.backbone import Backbone as Backbone
    from .local.masks import Prefix as Prefix
    from .local.weights import LoRA as LoRA
    from .openai.chat import OpenAIChat as OpenAIChat
    from .prompts import PromptTemplate as PromptTemplate
    from .prompts import load_prompts as load_prompts
    from .requests import Failure as Failure
    from .requests import LLMRequest as LLMRequest
    from .requests import LLMResponse as LLMResponse
    from .structured import Answers as Answers
    from .structured import failure_lines as failure_lines
    from .texts.generated_table import GeneratedTable as GeneratedTable
    from .texts.generated_table import TableTarget as TableTarget
    from .texts.generated_table import generate_table as generate_table
    from .texts.generated_table import generate_tables as generate_tables
    from .texts.hashing import HashingNgrams as HashingNgrams
    from .texts.histories import TrainingRows as TrainingRows
    from .texts.histories import UserHistory as UserHistory
    from .texts.histories import read_training as read_training
    from .texts.histories import training_digest as training_digest
    from .texts.item_text import TextRecord as TextRecord
    from .texts.item_text import item_text as item_text
    from .texts.item_text import record_lines as record_lines
    from .texts.item_text import text_records as text_records
    from .texts.text_rows import TextRows as TextRows
    from .texts.token_prompt import TokenPrompt as TokenPrompt
    from .texts.token_slots import Answer as Answer
    from .texts.token_slots import Slot as Slot
    from .texts.token_slots import TextColumn as TextColumn
    from .texts.tokens import ANSWER as ANSWER
    from .texts.tokens import TokenBatch as TokenBatch
    from .texts.tokens import TokenTable as TokenTable
    from .texts.vectors import origin_of as origin_of
    from .texts.vectors import read_texts as read_texts
    from .texts.vectors import refuse_other_texts as refuse_other_texts
    from .texts.vectors import reusable_vectors as reusable_vectors
    from .texts.vectors import write_vectors as write_vectors

    Vectors = np.ndarray[Any, np.dtype[np.float32]]


class Component(metaclass=ABCMeta):  # noqa: B024 - so that LLMOptions registers without a base class
    """A frozen dataclass of plain fields."""

    not_stored: ClassVar[tuple[str, ...]] = ()
    """Fields that are given anew by each command, so that no configuration or checkpoint holds them."""
    without_effect: ClassVar[tuple[str, ...]] = ()
    """Fields that do not change what comes out, such as a timeout, a device or the name of a key's variable."""

    @property
    def identity(self) -> dict[str, Any]:
        """What determines what comes out besides what goes in: the class and its fields."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init}  # type: ignore[arg-type]
        kept = {name: value for name, value in values.items() if name not in self.without_effect}
        return {"class": type(self).__name__, **kept}


class TextEncoder(Component):
    """Turns texts into vectors."""

    dim: int
    """Size of a vector."""
    normalized: bool
    """Whether vectors have length 1 (or 0, where a text holds nothing to encode)."""
    max_tokens: int | None
    """How much of a text is read, in tokens of the encoder; None = all of it."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return (len(texts), dim) float32 vectors, each a function of its own text alone."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(texts)")


class Message(TypedDict):
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Generation:
    """What a language model answered, and what it cost.

    Attributes:
        texts: the n answers.
        prompt_tokens, completion_tokens: over all n answers; 0 where they came from a cache.
        cut: how many of the answers ended at max_tokens, where the backend knows.
        estimated: whether the tokens are an estimate by `count_tokens`, since nobody reported them.
    """

    texts: list[str]
    prompt_tokens: int
    completion_tokens: int
    cut: int = 0
    estimated: bool = False


@dataclass(frozen=True)
class Scores:
    """How probable a language model finds given options, and what it cost to know.

    Attributes:
        log_probs: the natural logarithm of the probability of each option.
        prompt_tokens, completion_tokens, estimated: as of a Generation.
    """

    log_probs: list[float]
    prompt_tokens: int
    completion_tokens: int = 0
    estimated: bool = False


class LanguageModel(Component):
    """Answers messages, and where the backend can, scores given answers.

    A backend defines `generate`, or `generate_batch` where it answers several at once, and `score_batch` where
    it can give probabilities. Over many requests only `recloom.llm.client.runner` calls these: there every
    response is kept, counted and paid for once.
    """

    batch_size: int = 1
    """Requests that are best answered together."""
    concurrency: int = 1
    """Batches that may be under way at the same time; a server takes many, a local model one."""
    can_score: ClassVar[bool] = False
    """Whether `score_batch` is defined."""

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
        """Return n answers; temperature 0 is greedy.

        `schema` is the JSON schema of the object that is wanted. A backend that can hold the model to it does;
        the others need not read it, and every answer is checked against it later in any case.
        Raises LLMRequestError for a request that cannot be answered while others may be.
        """
        raise NotImplementedError(f"{type(self).__name__} must define generate(messages)")

    def generate_batch(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        n: int = 1,
        temperature: float = 0.0,
        max_tokens: int = 256,
        seed: int = 0,
        schema: dict[str, Any] | None = None,
    ) -> list[Generation | LLMRequestError]:
        """`generate` for several conversations with the same options; a failed one is returned, not raised."""
        found: list[Generation | LLMRequestError] = []
        for messages in conversations:
            try:
                found.append(
                    self.generate(
                        messages,
                        n=n,
                        temperature=temperature,
                        max_tokens=max_tokens,
                        seed=seed,
                        schema=schema,
                    )
                )
            except LLMRequestError as error:
                found.append(error)
        return found

    def score(self, prompt: Sequence[Message], options: Sequence[str]) -> list[float]:
        """Return the log-probability of each option as the answer to the prompt.

        Raises RecloomError where the backend cannot: text is never parsed in place of a probability.
        """
        (found,) = self.score_batch([prompt], [options])
        if isinstance(found, LLMRequestError):
            raise found
        return found.log_probs

    def score_batch(
        self, prompts: Sequence[Sequence[Message]], options: Sequence[Sequence[str]]
    ) -> list[Scores | LLMRequestError]:
        """`score` for several prompts, each with options of its own."""
        raise RecloomError(
            f"{type(self).__name__} cannot score answers: it gives texts, no probabilities. "
            "Use a language model that runs locally, or a server that returns log-probabilities."
        )

    def token_log_probs(self, texts: Sequence[str]) -> list[list[float]]:
        """The natural log-probability of each token of each text, read from its beginning; for perplexity.

        Raises RecloomError where the backend cannot.
        """
        raise RecloomError(
            f"{type(self).__name__} gives no probabilities of the tokens of a text. "
            "Use a language model that runs locally, such as Transformers."
        )

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, for plans and budgets; where the tokeniser is not at hand, one for 3.5 characters."""
        return math.ceil(len(text) / 3.5)

    def estimate(self, texts: Iterable[str]) -> int:
        """Tokens of texts by `count_tokens`, where nobody reports how many there were."""
        return sum(map(self.count_tokens, texts))


def core_language_models() -> list[type[LanguageModel] | type[TextEncoder]]:
    """What core itself registers."""
    from .fake import Fake
    from .local.transformers import Transformers
    from .openai.chat import OpenAIChat
    from .openai.embeddings import OpenAIEmbeddings
    from .texts.hashing import HashingNgrams

    return [Fake, HashingNgrams, OpenAIChat, OpenAIEmbeddings, Transformers]


__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "client.budget": "Budget Prices worst_case",
        "client.options": "LLMCallOptions LLMOptions asking_commands llm_identity llm_options without_call_options",
        "client.runner": "LLMResult ask",
        "client.session": "LAST BatchPlanned LLMSession LLMSessions NothingToSend PlannedRounds",
        "client.usage": "Usage",
        "ledger.commands": "LEDGER_COMMANDS",
        "ledger.store": "Ledger",
        "local.adapter": "folder_contents",
        "local.backbone": "Backbone",
        "local.masks": "Prefix",
        "local.weights": "LoRA",
        "openai.chat": "OpenAIChat",
        "prompts": "PromptTemplate load_prompts",
        "requests": "Failure LLMRequest LLMResponse",
        "structured": "Answers failure_lines",
        "texts.generated_table": "GeneratedTable TableTarget generate_table generate_tables",
        "texts.hashing": "HashingNgrams",
        "texts.histories": "TrainingRows UserHistory read_training training_digest",
        "texts.item_text": "TextRecord item_text record_lines text_records",
        "texts.text_rows": "TextRows",
        "texts.token_prompt": "TokenPrompt",
        "texts.token_slots": "Answer Slot TextColumn",
        "texts.tokens": "ANSWER TokenBatch TokenTable",
        "texts.vectors": "origin_of read_texts refuse_other_texts reusable_vectors write_vectors",
    },
)
