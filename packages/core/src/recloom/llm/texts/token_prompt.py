"""Prompts gathered from token tables: a template compiled for a tokeniser and a catalogue.

A prompt is cut into pieces, each of which is tokenised once; a batch of prompts is then a ragged gather. That the
pieces give the tokens of the whole string is checked on every text when its table is built, and on sampled prompts
when the prompt is compiled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...batch import Batch
from ...data.catalog import Catalog
from ...errors import RecloomError
from .. import Message
from ..local.chat_template import prompt_text, prompt_tokens
from ..prompts import LinesField, PromptTemplate
from .token_pieces import FIXED, Pieces, Place, PromptTexts, Side, cut
from .token_slots import Answer, Slot, check_slots
from .token_units import Chosen, UnitList, gather_units, or_empty, sums_from
from .tokens import Layout, TokenBatch, TokenTable, UncutError, fast, pad_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SAMPLES = 64
"""Prompts on which a compiled template is compared with its whole strings."""


class TokenPrompt:
    """A prompt template compiled for a tokeniser and a catalogue.

    Args:
        template: its places are filled by `slots`; fields of type number cannot be.
        tokenizer: of the model that reads the prompts, a fast one.
        catalog: whose texts fill the places.
        slots: for each field of the template, what fills it.
        answer: what follows a prompt where `assemble` gets targets.
        side: whether an answer follows in the same sequence, or is the decoder's.
        max_tokens: of a sequence, room for the longest answer included. The oldest items of the history are dropped
            until it holds, the same ones for all candidates of a request; nothing else ever is.
        layout: padded on the `left` or `right`, or several sequences in a row (`packed`).
        width: of a packed row; by default as wide as the longest sequence.
        cache: folder that keeps the token tables, which are then mapped from there; by default `tokens` in the cache
            of the catalogue, where it has one, so that a second start does not tokenise its texts again.

    Raises RecloomError where the prompt cannot be made of pieces with this tokeniser, or where the instruction,
    the longest candidates and the longest answer alone exceed `max_tokens`.
    """

    layout: Layout
    width: int | None
    max_tokens: int | None
    longest: int
    """Tokens of the longest sequence without a limit. An exported graph pads to it, or to a smaller `max_tokens`."""

    def __init__(
        self,
        template: PromptTemplate,
        tokenizer: PreTrainedTokenizerFast,
        catalog: Catalog,
        slots: Mapping[str, Slot],
        *,
        answer: Answer | None = None,
        side: Side = "sequence",
        max_tokens: int | None = None,
        layout: Layout = "left",
        width: int | None = None,
        cache: Path | None = None,
    ) -> None:
        fast(tokenizer)
        check_slots(template, slots)
        self.template, self.tokenizer, self.answer, self.side = template, tokenizer, answer, side
        self.layout, self.pad = "left", pad_of(tokenizer)
        self.max_tokens = self.width = None
        self._texts = PromptTexts(template, tokenizer, catalog, slots, answer)
        self._on_device: dict[torch.device, list[TokenTable]] = {}
        self.pieces = self._compiled(cache or (catalog.cache and catalog.cache / "tokens"))
        self._texts.kept.clear()
        self.layout, self.width, self.max_tokens = layout, width, max_tokens
        self.longest = self._longest(history=True)
        self._check_budget()

    # -- compiling ------------------------------------------------------------------------------------

    def _compiled(self, cache: Path | None) -> Pieces:
        """The pieces that give the whole: cut before line breaks, or else behind them."""
        wrong = []
        for behind in (False, True):
            try:
                self.pieces = cut(self._texts, self.side, behind, cache)
            except UncutError as error:
                wrong.append(f"it joins {str(error)!r} to what stands beside it")
                continue
            difference = self._difference()
            if difference is None:
                return self.pieces
            wrong.append(difference)
        raise RecloomError(
            f"the tokeniser {self.tokenizer.name_or_path or type(self.tokenizer).__name__!r} does not give prompt "
            f"{self.template.name!r} the same tokens in pieces as whole: {wrong[0]}. Use another tokeniser, or "
            "TextRows, which tokenises whole strings."
        )

    def _difference(self) -> str | None:
        """The first sampled prompt whose pieces are not the whole, in words; None where there is none."""
        batch = self._sampled()
        messages = self.messages(batch)
        pairs = [*zip(self.assemble(batch).lists(), map(self.whole, messages), strict=True)]
        if self.answer is not None and self.side == "sequence":
            lines = [line.text for line in self._texts.answer_lines()]
            targets = torch.arange(len(messages)) % len(lines)
            wholes = [
                self.whole(each, lines[at]) for each, at in zip(messages, targets.tolist(), strict=True)
            ]
            pairs += zip(self.assemble(batch, targets).lists(), wholes, strict=True)
        for row, whole in pairs:
            if row != whole:
                same = (n for n, (one, other) in enumerate(zip(row, whole, strict=False)) if one != other)
                at = next(same, min(len(row), len(whole)))
                return (
                    f"the whole has other tokens in {self.tokenizer.decode(whole[max(0, at - 6) : at + 6])!r}"
                )
        return None

    def _sampled(self) -> Batch:
        """Requests at random: histories of every length, candidates, users."""
        random = torch.Generator().manual_seed(0)
        places = self.pieces.places
        items, users = self._texts.catalog.num_items, self._texts.catalog.num_users
        longest = min(20, max((place.lines for place in places if place.slot.of == "history"), default=1))
        listed = max((place.lines for place in places if place.slot.of == "candidates"), default=1)

        def drawn(high: int, *shape: int) -> Tensor:
            return torch.randint(high + 1, shape, generator=random)

        history = drawn(items, SAMPLES, longest)
        history *= torch.arange(longest, 0, -1) <= drawn(longest, SAMPLES)[:, None]
        batch = Batch.of(history, drawn(items, SAMPLES, listed), user=drawn(users, SAMPLES))
        known = sorted({event for place in places for event in place.slot.events or ()})
        batch.history_event = torch.tensor([0, *known])[drawn(len(known), SAMPLES, longest)]
        return batch

    def text(self, messages: Sequence[Message]) -> str:
        """A prompt as one string, as its chat template sets it."""
        return prompt_text(self.tokenizer, messages)[0]

    def whole(self, messages: Sequence[Message], answer: str | None = None) -> list[int]:
        """The tokens that the tokeniser gives to a whole prompt, with its answer where one is given."""
        behind = len(self.pieces.behind_all)
        if answer is None:
            tokens = prompt_tokens(self.tokenizer, messages)
            return tokens[: len(tokens) - behind]
        text, framed = prompt_text(self.tokenizer, messages)
        said = text + self.pieces.answer_lead + answer
        tokens = self.tokenizer(said, add_special_tokens=not framed)["input_ids"]
        return [*tokens[: len(tokens) - behind], *self.pieces.tables[FIXED].row(self.pieces.end)]

    def _longest(self, history: bool) -> int:
        """Tokens of the longest sequence without a limit, with all items of the history that are shown, or none."""
        fixed, worst = self.pieces.tables[FIXED].lengths, self._answer_room
        for part in self.pieces.parts:
            if isinstance(part, int):
                worst += int(fixed[part])
                continue
            lengths, lines = self.pieces.tables[part.table].lengths, 1
            if part.slot.of == "candidates" or (history and part.slot.of == "history"):
                lines = part.lines
            text = lengths[0] if part.slot.of == "history" and not history else lengths.max()
            worst += int(text) * lines + int(part.mark_lengths[lines])
        return worst

    def _check_budget(self) -> None:
        worst = self._longest(history=False)
        if self.max_tokens is not None and worst > self.max_tokens:
            raise RecloomError(
                f"prompt {self.template.name!r} takes up to {worst} tokens without any item of the history, more than "
                f"max_tokens={self.max_tokens}; instruction, candidates and answer are never cut. Raise it, or limit "
                "columns with TextColumn(max_tokens=...)."
            )

    @property
    def _answer_room(self) -> int:
        """Tokens of the longest answer, where it stands in the same sequence."""
        if self.pieces.answers is None or self.side == "decoder":
            return 0
        return int(self.pieces.answers.lengths.max()) + int(
            self.pieces.tables[FIXED].lengths[self.pieces.end]
        )

    @property
    def answer_ids(self) -> Tensor:
        """(n,) int64 first token of each text of the answer, by which an answer is scored.

        Raises RecloomError where two texts begin with the same token.
        """
        if self.answer is None or not self.answer.texts or self.pieces.answers is None:
            raise RecloomError("answer_ids are those of an Answer with texts, which this prompt has not")
        found = self.pieces.answers.first()
        if len(set(found.tolist())) < len(found):
            raise RecloomError(
                f"two of the answers {self.answer.texts} begin with the same token; choose other texts"
            )
        return found

    # -- choosing -------------------------------------------------------------------------------------

    def choose(self, batch: Batch) -> dict[str, Chosen]:
        """Which rows of its table each place shows, for each of the B requests."""
        found = {}
        for place in self.pieces.places:
            if place.slot.of == "user":
                found[place.name] = Chosen(
                    batch.user[:, None], torch.ones_like(batch.user[:, None], dtype=torch.bool)
                )
            elif place.slot.of != "history":
                row = batch.candidates.expand(batch.user.shape[0], -1)
                if place.slot.of == "candidates" and row.shape[1] > place.lines:
                    raise RecloomError(
                        f"prompt {self.template.name!r} lists at most {place.lines} candidates (max_items of "
                        f"{place.name!r}); found {row.shape[1]}"
                    )
                shown = row > 0 if place.slot.of == "candidates" else torch.ones_like(row, dtype=torch.bool)
                found[place.name] = or_empty(Chosen(row, shown))
        histories = [place for place in self.pieces.places if place.slot.of == "history"]
        return found | (self._histories(batch, histories, self._room(batch, found)) if histories else {})

    def _room(self, batch: Batch, chosen: dict[str, Chosen]) -> Tensor | None:
        """(B,) tokens that the history may take."""
        if self.max_tokens is None:
            return None
        tables = self._tables(batch.history.device)
        used = torch.full_like(batch.user, self._answer_room)
        for part in self.pieces.parts:
            if isinstance(part, int):
                used = used + tables[FIXED].lengths[part]
            elif part.slot.of != "history":
                one = chosen[part.name]
                text = tables[part.table].lengths[one.row] * one.shown
                longest = text.amax(1) if part.slot.of == "candidate" else text.sum(1)
                lines = torch.ones_like(used) if part.slot.of == "candidate" else one.shown.sum(1)
                used = used + longest + part.mark_lengths.to(used.device)[lines]
        return self.max_tokens - used

    def _histories(self, batch: Batch, places: list[Place], room: Tensor | None) -> dict[str, Chosen]:
        """The newest items of each history: at most as many lines as its place holds, and all within the room.

        room: (B,) tokens for all of them together, None without a limit.
        """
        history = batch.history if batch.history.shape[1] else pad(batch.history, (1, 0))  # (B, L)
        tables, newest = self._tables(history.device), {}
        total = history.new_zeros(
            history.shape[0], history.shape[1] + 1
        )  # (B, L + 1) tokens of what begins at p or later
        for place in places:
            shown = history > 0
            if place.slot.events is not None:
                wanted = torch.tensor(place.slot.events, device=history.device)
                event = pad(batch.history_event, (history.shape[1] - batch.history.shape[1], 0))
                shown = shown & torch.isin(event, wanted)
            shown = shown & (sums_from(shown.long())[:, :-1] <= place.lines)
            newest[place.name] = shown
            if room is not None:
                lengths, marks = tables[place.table].lengths, place.mark_lengths.to(history.device)
                count = sums_from(shown.long())  # (B, L + 1)
                tokens = sums_from(lengths[history] * shown) + marks[count]
                total = total + torch.where(count > 0, tokens, lengths[0] + marks[1])
        if room is not None:
            first = (total <= room[:, None]).int().argmax(1)  # (B,)
            late = torch.arange(history.shape[1], device=history.device) >= first[:, None]
            newest = {name: shown & late for name, shown in newest.items()}
        return {name: or_empty(Chosen(history, shown)) for name, shown in newest.items()}

    # -- assembling -----------------------------------------------------------------------------------

    def assemble(self, batch: Batch, targets: Tensor | None = None) -> TokenBatch:
        """The tokens of each request's prompt; of each candidate's, request by request, where a place is `candidate`.

        Args:
            batch: B requests with C candidates.
            targets: (R,) int64 answers, as indices of the answer's texts or of items; None = no answers.
        """
        chosen = self.choose(batch)
        times = batch.candidates.shape[1] if self._by_candidate else 1
        return self._assembled(self.pieces.parts, chosen, batch.user.shape[0], times, targets)

    def assemble_shared(self, batch: Batch) -> tuple[TokenBatch, TokenBatch]:
        """`assemble` in two: the B beginnings that candidates share, and the R rest, whose positions go on."""
        parts = self.pieces.parts
        at = next(
            (n for n, part in enumerate(parts) if isinstance(part, Place) and part.slot.of == "candidate"),
            None,
        )
        if at is None or self.layout == "packed":
            raise RecloomError(
                "a beginning is shared where a place is filled by `candidate`, and nothing is packed"
            )
        chosen, times = self.choose(batch), batch.candidates.shape[1]
        prefix = self._assembled(parts[:at], chosen, batch.user.shape[0], 1, None)
        rest = self._assembled(parts[at:], chosen, batch.user.shape[0], times, None)
        size = prefix.mask.sum(1).repeat_interleave(times)[:, None]
        rest.positions = (rest.positions + size) * rest.mask
        return prefix, rest

    @property
    def _by_candidate(self) -> bool:
        return any(place.slot.of == "candidate" for place in self.pieces.places)

    def _assembled(
        self,
        parts: Sequence[int | Place],
        chosen: dict[str, Chosen],
        rows: int,
        times: int,
        targets: Tensor | None,
    ) -> TokenBatch:
        device = next(iter(chosen.values())).row.device if chosen else torch.device("cpu")
        units = UnitList(rows * times, device)
        listed: tuple[int, Chosen] | None = None
        for part in parts:
            if isinstance(part, int):
                units.add(part)
                continue
            one = chosen[part.name]
            if part.slot.of == "candidate":
                one = Chosen(one.row[:, :times].reshape(-1, 1), one.shown[:, :times].reshape(-1, 1))
            else:
                one = one.repeated(times)
            if part.slot.of.startswith("candidate"):
                listed = units.width, one
            units.add_lines(part, one)
        prompt = units.width - 1
        if targets is not None:
            if self.pieces.answers is None:
                raise RecloomError(
                    f"prompt {self.template.name!r} was compiled without an answer, so it takes no targets"
                )
            if self.side == "sequence":
                units.add_answer(targets, len(self.pieces.tables), self.pieces.end)
        tables = self._tables(device)
        width = self.width
        if torch.compiler.is_exporting():
            width = min(self.longest, self.max_tokens or self.longest)
        batch, ends = gather_units(tables, units.joined(), self.pad, self.layout, width)
        batch.answer = ends[:, prompt]
        if listed is not None:
            at, one = listed
            span = ends[:, at : at + 2 * one.row.shape[1]]  # (R, 2 C) ends of mark and text
            span = torch.stack([span[:, ::2] + 1, span[:, 1::2]], -1)
            batch.candidates = torch.where(one.shown[..., None], span, -1)
        if targets is not None and self.side == "decoder":
            answer = UnitList(rows * times, device)
            answer.add_answer(targets, len(tables) - 1, self.pieces.end)
            said, _ = gather_units(tables, answer.joined(), self.pad, "right")
            batch.target, batch.target_mask = said.tokens, said.mask
        return batch

    def _tables(self, device: torch.device) -> list[TokenTable]:
        """The tables of pieces, then that of answers, on a device."""
        if self.pieces.answers is None:
            tables = self.pieces.tables
        else:
            tables = [*self.pieces.tables, self.pieces.answers]
        if device.type == "cpu":
            return tables
        if device not in self._on_device:
            self._on_device[device] = [table.to(device) for table in tables]
        return self._on_device[device]

    # -- texts ----------------------------------------------------------------------------------------

    def messages(self, batch: Batch) -> list[list[Message]]:
        """The same prompts as texts, in the order of `assemble`, as a server gets them."""
        times = batch.candidates.shape[1] if self._by_candidate else 1
        rows: dict[str, list[list[str]]] = {}
        chosen = self.choose(batch)
        for place in self.pieces.places:
            one = chosen[place.name]
            if place.slot.of == "candidate":
                one = Chosen(one.row.reshape(-1, 1), one.shown.reshape(-1, 1))
            else:
                one = one.repeated(times)
            lines = [line.text for line in self._texts.lines(place.name)]
            rows[place.name] = [
                [lines[at] for at in row[shown].tolist()]
                for row, shown in zip(one.row, one.shown, strict=True)
            ]
        several = {name for name, shown in self.template.fields.items() if isinstance(shown, LinesField)}
        return [
            self.template.render(
                **{name: row[at] if name in several else row[at][0] for name, row in rows.items()}
            )
            for at in range(len(batch) * times)
        ]
