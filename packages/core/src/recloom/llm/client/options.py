"""The options of a command or a recommender that asks a language model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ...errors import RecloomError, at_least
from .. import Component, LanguageModel
from .budget import Budget, BudgetTracker, Prices

if TYPE_CHECKING:
    from ..prompts import PromptTemplate
    from .session import LLMSession


LIMITS = ("max_calls", "max_tokens", "max_money")


@dataclass(frozen=True, kw_only=True)
class LLMCallOptions:
    """What is decided anew by each command that sends requests; never stored with a run.

    Args:
        ledger: file of all responses, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
        max_calls: requests that may be sent.
        max_tokens: tokens of prompts and answers together.
        max_money: in the currency of the prices, which it needs.
        prices: money per million tokens: `--llm.prices.prompt 0.15 --llm.prices.completion 0.6`.
        offline: send nothing; every response must be in the ledger.
        run: `ask`, or only `plan` (print calls, tokens and money), or write a `batch` for the provider.
        batch_out: the file of requests that `batch` writes.
        rate: calls per second that the model answers, for the time in a plan.
    """

    ledger: Path | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    max_money: float | None = None
    prices: Prices | None = None
    offline: bool = False
    run: Literal["ask", "plan", "batch"] = "ask"
    batch_out: Path | None = None
    rate: float | None = None

    def __post_init__(self) -> None:
        at_least(0, **{f"--llm.{name}": getattr(self, name) for name in LIMITS})
        if self.max_money is not None and self.prices is None:
            raise RecloomError(
                f"--llm.max_money {self.max_money:g} needs prices per million tokens; found none. Add them, such as "
                "--llm.prices.prompt 0.15 --llm.prices.completion 0.6"
            )
        if self.rate is not None and not self.rate > 0:
            raise RecloomError(
                f"--llm.rate must be a number of calls per second above 0; found {self.rate:g}"
            )
        if self.run == "batch" and self.batch_out is None:
            raise RecloomError("a batch needs a file to be written to: --llm.batch_out FILE")
        if self.run != "batch" and self.batch_out is not None:
            raise RecloomError("--llm.batch_out is the file of --llm.run batch; say both or none")


PER_CALL = tuple(field.name for field in fields(LLMCallOptions))
"""Names of the options that no file of a run holds."""


@Component.register  # no base class: the parser takes dataclasses alone apart into options
@dataclass(frozen=True)
class LLMOptions(LLMCallOptions):
    """Which language model to ask, what that may cost, and where responses are kept.

    As the parameter `llm` of a command or of a recommender. Of a recommender's options a run stores `model` alone:
    the others are given at each command that sends requests, and are no part of the identity.

    Args:
        model: the language model, such as `OpenAIChat`, `Transformers` or `Fake`.
        ledger: file of all responses, by default that of RECLOOM_LEDGER, else `llm-ledger.sqlite` in this folder.
        max_calls: requests that may be sent.
        max_tokens: tokens of prompts and answers together.
        max_money: in the currency of the prices, which it needs.
        prices: money per million tokens: `--llm.prices.prompt 0.15 --llm.prices.completion 0.6`.
        offline: send nothing; every response must be in the ledger.
        run: `ask`, or only `plan` (print calls, tokens and money), or write a `batch` for the provider.
        batch_out: the file of requests that `batch` writes.
        rate: calls per second that the model answers, for the time in a plan.
    """

    model: LanguageModel

    not_stored: ClassVar[tuple[str, ...]] = PER_CALL
    stored_as: ClassVar[str] = "recloom.llm.LLMOptions"
    """Its name in configurations and checkpoints, wherever this file lies."""

    @property
    def identity(self) -> dict[str, Any]:
        """That of the language model: all else does not change what it answers."""
        return self.model.identity

    @property
    def session(self) -> LLMSession:
        """The session that is open, through which a recommender sends its requests.

        `RecModule` and `Run` open one around fitting, evaluation and recommendation. RecloomError where none is open.
        """
        found: LLMSession | None = vars(self).get("_session")
        if found is None:
            raise RecloomError(
                f"no session with {type(self.model).__name__} is open, so nothing can be sent. RecModule and Run open "
                "one while they fit, test and recommend; around a call of your own: `with options.open():`."
            )
        return found

    @property
    def is_open(self) -> bool:
        """Whether `session` is there."""
        return vars(self).get("_session") is not None

    def open(self, call: LLMCallOptions | None = None, *, in_batches: bool = False) -> LLMSession:
        """Open the ledger and begin to count what is spent; `with` closes it.

        Args:
            call: limits, ledger and the rest, in place of the own ones.
            in_batches: as of LLMSession.

        Raises RecloomError where offline there is no ledger.
        """
        from ..ledger.store import Ledger, ledger_path
        from .session import LLMSession

        call = call or self
        tracker = BudgetTracker(Budget(call.max_calls, call.max_tokens, call.max_money, call.prices))
        path = ledger_path(call.ledger)
        only_read = call.run != "ask"
        if only_read and not path.exists():
            return LLMSession(self, call, None, tracker, in_batches=in_batches)
        if call.offline and not path.exists():
            raise RecloomError(
                f"--llm.offline sends nothing, and there is no ledger at {path} to take responses from. Name another "
                "with --llm.ledger, or leave --llm.offline out once, so that the command makes it."
            )
        ledger = Ledger(path, offline=call.offline or only_read)
        return LLMSession(self, call, ledger, tracker, in_batches=in_batches)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and other processes open sessions of their own."""
        return {name: value for name, value in vars(self).items() if name != "_session"}


def llm_options(parts: Iterable[object]) -> list[LLMOptions]:
    """The LLMOptions among the attributes of these objects (a recommender's `modules()`), each once."""
    found = {
        id(value): value for part in parts for value in vars(part).values() if isinstance(value, LLMOptions)
    }
    return list(found.values())


def llm_identity(parts: Iterable[object]) -> dict[str, Any] | None:
    """What the answers to these objects depend on: their language models and prompts; None where they ask none.

    `models` are the identities, `prompts` the versions of the templates among the attributes, by name.
    """
    parts = list(parts)
    models = [options.identity for options in llm_options(parts)]
    if not models:
        return None
    values = (value for part in parts for value in vars(part).values())
    prompts = {one.name: one.version for value in values for one in _templates(value)}
    return {"models": models, "prompts": dict(sorted(prompts.items()))}


def without_call_options(config: Any) -> Any:
    """A configuration as plain data without what is given at each command, at whichever depth LLMOptions stand."""
    if isinstance(config, Mapping):
        kept = {name: without_call_options(value) for name, value in config.items()}
        own = "model" in kept and set(PER_CALL) <= set(kept)
        return {"model": kept["model"]} if own else kept
    return [without_call_options(value) for value in config] if isinstance(config, list) else config


def _templates(value: object) -> Iterator[PromptTemplate]:
    from ..prompts import PromptTemplate

    several = (
        value.values()
        if isinstance(value, Mapping)
        else value
        if isinstance(value, list | tuple)
        else [value]
    )
    yield from (one for one in several if isinstance(one, PromptTemplate))


def asking_commands() -> list[str]:
    """Names of the commands that ask a language model: those with an option of type LLMOptions or LLMCallOptions."""
    from ...plugins import collect

    known = collect("register_commands").items()
    return sorted(
        name
        for name, function in known
        if {"LLMOptions", "LLMCallOptions"} & {_type_name(kind) for kind in function.__annotations__.values()}
    )


def _type_name(kind: object) -> str:
    """Of an annotation, which may be text."""
    return kind if isinstance(kind, str) else getattr(kind, "__name__", "")
