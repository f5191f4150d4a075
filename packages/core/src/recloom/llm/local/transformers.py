"""Language models of the transformers library, on this machine: answers, and log-probabilities of given answers.

The library is imported when weights or a tokeniser are first needed. Weights are read from safetensors or GGUF,
never unpickled, and no code of a model's repository is run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from ...errors import LLMRequestError, RecloomError, at_least
from .. import Generation, LanguageModel, Message, Scores
from .adapter import folder_contents

if TYPE_CHECKING:
    from .scoring import Tokens

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantization = Literal["8bit", "4bit"]
INSTALL = "pip install 'recloom[transformers]'"


@dataclass(frozen=True)
class Transformers(LanguageModel):
    """A causal language model, loaded at its first request.

    Messages go through the chat template of the tokeniser; `llm/local/chat_template.py` says what happens without one.

    Temperature 0 is greedy; n such answers are one, repeated. Each sample has a random generator of its own,
    seeded by the seed, the prompt and the number of the sample. An answer therefore does not depend on the batch
    it is in, up to rounding: in bfloat16 that may tip a close choice. Sampling is from the whole distribution:
    settings of the model's own, such as top_p or a penalty, are not used. `schema` is not enforced.

    An option is tokenised by itself and follows the generation prompt; its score is the sum over its tokens,
    without an end mark. A prompt is never cut: too long is a LLMRequestError.

    Args:
        model: name on the hub, or a folder, which needs no network.
        revision: branch, tag or commit on the hub.
        gguf_file: file inside `model`, where the weights are GGUF; they are unpacked to `dtype`.
        adapter: folder of a LoRA adapter.
        unchanged_adapter: accept an adapter that changes nothing, as before training; an error otherwise.
        dtype: of the weights; `auto` is what they are stored in.
        quantization: `8bit` or `4bit`, where bitsandbytes and a CUDA device are there.
        device: such as `cpu` or `cuda`; None = a CUDA device if there is one.
        batch_size: prompts, or samples, computed at once.
        max_length: tokens of prompt and answer together; None = what the model says it reads.
    """

    model: str
    revision: str | None = None
    gguf_file: str | None = None
    adapter: str | None = None
    unchanged_adapter: bool = False
    dtype: Dtype = "auto"
    quantization: Quantization | None = None
    device: str | None = None
    batch_size: int = 8
    max_length: int | None = None

    can_score: ClassVar[bool] = True
    without_effect: ClassVar[tuple[str, ...]] = ("batch_size", "device", "max_length", "unchanged_adapter")

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size, max_length=self.max_length)
        if self.dtype not in get_args(Dtype):
            raise RecloomError(f"dtype is one of {', '.join(get_args(Dtype))}; found {self.dtype!r}")
        if self.quantization not in (None, *get_args(Quantization)):
            raise RecloomError(f"quantization is 8bit, 4bit or none; found {self.quantization!r}")
        if self.quantization and self.gguf_file:
            raise RecloomError(f"{self.gguf_file} is unpacked when loaded; quantization needs other weights")

    @property
    def identity(self) -> dict[str, Any]:
        """Folders count by their name and what they hold, so that retraining one gives new answers."""
        return super().identity | self._contents

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
        (found,) = self.generate_batch(
            [messages], n=n, temperature=temperature, max_tokens=max_tokens, seed=seed
        )
        if isinstance(found, LLMRequestError):
            raise found
        return found

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
        """As in the contract. Tokens are counted as computed: a prompt once, the end mark of an answer included."""
        from .scoring import by_length, seed_of

        at_least(0, temperature=temperature)
        at_least(1, n=n, max_tokens=max_tokens)
        prompts = [self._prompt(messages, max_tokens) for messages in conversations]
        copies = n if temperature > 0 else 1
        rows = [
            (at, number, prompt)
            for at, prompt in enumerate(prompts)
            if not isinstance(prompt, LLMRequestError)
            for number in range(copies)
        ]
        said: dict[tuple[int, int], Tokens] = {}
        for batch in by_length([len(prompt) for _, _, prompt in rows], self.batch_size):
            chosen = [rows[at] for at in batch]
            seeds = [seed_of(seed, number, prompt) for _, number, prompt in chosen]
            found = self._answers([prompt for _, _, prompt in chosen], temperature, max_tokens, seeds)
            said |= {(at, number): one for (at, number, _), one in zip(chosen, found, strict=True)}
        return [
            prompt
            if isinstance(prompt, LLMRequestError)
            else self._generation(len(prompt), [said[at, number] for number in range(copies)], n)
            for at, prompt in enumerate(prompts)
        ]

    def score_batch(
        self, prompts: Sequence[Sequence[Message]], options: Sequence[Sequence[str]]
    ) -> list[Scores | LLMRequestError]:
        """As in the contract. Tokens are counted as read: a prompt once, and what leads to the end of each option."""
        from .scoring import by_length, score_options

        asked = [self._asked(*each) for each in zip(prompts, options, strict=True)]
        found: list[Scores | LLMRequestError] = [
            one if isinstance(one, LLMRequestError) else Scores([], 0) for one in asked
        ]
        sound = [(at, one) for at, one in enumerate(asked) if not isinstance(one, LLMRequestError) and one[1]]
        for batch in by_length([len(prompt) for _, (prompt, _) in sound], self.batch_size):
            chosen = [sound[at] for at in batch]
            scores = score_options(
                self._model,
                [prompt for _, (prompt, _) in chosen],
                [answers for _, (_, answers) in chosen],
                self._pad,
                self.batch_size,
            )
            for (at, (prompt, answers)), values in zip(chosen, scores, strict=True):
                found[at] = Scores(values, len(prompt) + sum(len(answer) - 1 for answer in answers))
        return found

    def token_log_probs(self, texts: Sequence[str]) -> list[list[float]]:
        """As in the contract, without a chat template, behind the begin mark of the tokeniser.

        A tokeniser without such a mark gives its first token no probability, and it is left out. A text that is
        longer than what the model reads is a RecloomError: it is never cut.
        """
        from .scoring import by_length, log_probs

        begin = [] if self._tokenizer.bos_token_id is None else [self._tokenizer.bos_token_id]
        rows = [[*begin, *self._tokenizer(text, add_special_tokens=False)["input_ids"]] for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if self._limit is not None and len(row) > self._limit:
                raise RecloomError(
                    f"a text has {len(row):,} tokens, but {Path(self.model).name} reads {self._limit:,}: "
                    f"{text[:60]!r}... Shorten or leave out such texts, or use another model."
                )
        found: list[list[float]] = [[] for _ in rows]
        long = [at for at, row in enumerate(rows) if len(row) > 1]
        for batch in by_length([len(rows[at]) for at in long], self.batch_size):
            places = [long[at] for at in batch]
            values = log_probs(self._model, [rows[at] for at in places], self._pad)
            for at, each in zip(places, values, strict=True):
                found[at] = each
        return found

    def count_tokens(self, text: str) -> int:
        """By the tokeniser, which needs no weights; estimated where it cannot be loaded."""
        try:
            return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        except RecloomError:
            return super().count_tokens(text)

    def _prompt(self, messages: Sequence[Message], more: int) -> Tokens | LLMRequestError:
        """The tokens of a prompt behind which `more` tokens have room."""
        from .chat_template import prompt_tokens

        try:
            tokens = prompt_tokens(self._tokenizer, messages)
        except LLMRequestError as error:
            return error
        if self._limit is not None and len(tokens) + more > self._limit:
            return LLMRequestError(
                f"the prompt has {len(tokens):,} tokens and {more:,} are to follow, but {Path(self.model).name} "
                f"reads {self._limit:,} together. Give less text, or ask for fewer tokens."
            )
        return tokens

    def _asked(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> tuple[Tokens, list[Tokens]] | LLMRequestError:
        """Tokens of a prompt and of each option."""
        answers: list[Tokens] = [self._tokenizer(o, add_special_tokens=False)["input_ids"] for o in options]
        for option, tokens in zip(options, answers, strict=True):
            if not tokens or self._tokenizer.unk_token_id in tokens:
                return LLMRequestError(f"option {option!r} cannot be written in the tokens of {self.model}")
        prompt = self._prompt(messages, max(map(len, answers), default=0))
        return prompt if isinstance(prompt, LLMRequestError) else (prompt, answers)

    def _answers(
        self, prompts: Sequence[Tokens], temperature: float, max_tokens: int, seeds: Sequence[int]
    ) -> list[Tokens]:
        """The tokens that follow each prompt, the end mark included."""
        from .scoring import Noise, padded

        tokens, mask = (each.to(self._model.device) for each in padded(prompts, self._pad, left=True))
        rows = self._model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=max_tokens,
            logits_processor=[Noise(temperature, seeds)] if temperature > 0 else None,
        )
        found = []
        for row in rows[:, tokens.shape[1] :].tolist():
            last = next((at for at, token in enumerate(row) if token in self._ends), len(row) - 1)
            found.append(row[: last + 1])
        return found

    def _generation(self, prompt_tokens: int, answers: Sequence[Tokens], n: int) -> Generation:
        texts = [self._tokenizer.decode(answer, skip_special_tokens=True) for answer in answers]
        cut = sum(answer[-1] not in self._ends for answer in answers)
        times = n // len(answers)  # greedy answers are one
        return Generation(texts * times, prompt_tokens, sum(map(len, answers)), cut * times)

    @cached_property
    def _contents(self) -> dict[str, str]:
        found = {"model": folder_contents(self.model)}
        return found if self.adapter is None else found | {"adapter": folder_contents(self.adapter)}

    @cached_property
    def _pad(self) -> int:
        known = (self._tokenizer.pad_token_id, self._tokenizer.eos_token_id)
        return next((token for token in known if token is not None), 0)

    @cached_property
    def _ends(self) -> frozenset[int]:
        return frozenset(self._model.generation_config.eos_token_id or ())

    @cached_property
    def _limit(self) -> int | None:
        said = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return min((each for each in (said, self.max_length) if each), default=None)

    @cached_property
    def _tokenizer(self) -> Any:
        return self._opened(_library().AutoTokenizer, {})

    @cached_property
    def _model(self) -> Any:
        """The weights, ready to answer, with the settings of its own that this class does not use taken away."""
        import torch

        library = _library()
        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        options: dict[str, Any] = {"dtype": self.dtype} | (
            {} if self.gguf_file else {"use_safetensors": True}
        )
        if self.quantization:
            options |= {"quantization_config": _quantized(self.quantization), "device_map": {"": device}}
        model = self._opened(library.AutoModelForCausalLM, options)
        ends = model.generation_config.eos_token_id
        ends = {self._tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        model.generation_config = library.GenerationConfig(
            eos_token_id=sorted(ends) or None, pad_token_id=self._pad
        )
        if not self.quantization:
            model.to(device)
        if self.adapter is not None:
            from .adapter import adapted

            model = adapted(model, Path(self.adapter), self.unchanged_adapter)
        return model.eval()

    def _opened(self, kind: Any, options: dict[str, Any]) -> Any:
        where = {"revision": self.revision, "gguf_file": self.gguf_file}
        given = {name: value for name, value in where.items() if value is not None}
        try:
            return kind.from_pretrained(self.model, **given, **options)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise RecloomError(
                f"no language model could be loaded from {self.model!r} ({error}). Give a folder that holds one in "
                "safetensors or GGUF (gguf_file), or the name of one that can be downloaded."
            ) from error


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise RecloomError(f"Transformers needs the transformers library: {INSTALL}") from error
    return transformers


def _quantized(kind: Quantization) -> Any:
    import torch

    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise RecloomError(
            f"quantization {kind} needs a CUDA device and bitsandbytes (pip install bitsandbytes); found "
            f"{'a' if torch.cuda.is_available() else 'no'} CUDA device and "
            f"{'no ' if importlib.util.find_spec('bitsandbytes') is None else ''}bitsandbytes. "
            "Leave it out, or use dtype bfloat16."
        )
    return _library().BitsAndBytesConfig(**{f"load_in_{kind}": True})
