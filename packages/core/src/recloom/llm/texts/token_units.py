"""Sequences put together from rows of token tables: a ragged gather, without a loop over sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ...errors import RecloomError
from .token_pieces import FIXED, Place
from .tokens import ANSWER, CHANNELS, SLOT_BITS, TABLE_BITS, Layout, TokenBatch, TokenTable


@dataclass(frozen=True)
class Units:
    """R sequences of U units; a unit is one row of a table, or nothing.

    Attributes:
        row: (R, U) int64 rows of the unit's table.
        shown: (R, U) bool.
        table: for each unit, the index of its table.
        slot: for each unit, as in `TokenBatch`.
        item: (R, U) int64, as in `TokenBatch`.
    """

    row: Tensor
    shown: Tensor
    table: list[int]
    slot: list[int]
    item: Tensor


def gather_units(
    tables: Sequence[TokenTable], units: Units, pad: int, layout: Layout = "left", width: int | None = None
) -> tuple[TokenBatch, Tensor]:
    """Lay out sequences; also returns (R, U) int64 places in the flattened tokens at which each unit ends.

    Args:
        tables: what the units are rows of.
        units: what stands in each sequence.
        pad: token where nothing is.
        layout: padded on the left or right, or several sequences in a row (`packed`).
        width: of a row; by default as wide as the longest sequence.

    While it is exported nothing may depend on how long sequences are, so `width` must be given.
    """
    device, (rows, columns) = units.row.device, units.row.shape
    begin, length = torch.zeros_like(units.row), torch.zeros_like(units.row)
    kind = torch.tensor(units.table, device=device)
    for at, table in enumerate(tables):
        row = torch.where(kind == at, units.row, 0)
        begin = torch.where(kind == at, table.offsets[row], begin)
        length = torch.where(kind == at, table.lengths[row], length)
    length = length * units.shown  # (R, U)
    ends = length.cumsum(1)  # (R, U)
    origin, room, height, width = _places(ends[:, -1], layout, width)
    front = layout == "left"
    slot = torch.tensor(units.slot, device=device)
    code = ((units.item << SLOT_BITS) + (slot - ANSWER) << TABLE_BITS) + kind + 1  # (R, U), 0 for padding
    length, begin, code = (
        torch.cat([first, rest] if front else [rest, first], 1)
        for first, rest in (
            (room[:, None], length),
            (torch.zeros_like(room)[:, None], begin),
            (origin[:, None] * 0, code),
        )
    )  # (R, U + 1): padding is one unit more, so that all units together fill the rows

    count, place = length.flatten(), torch.arange(height * width, device=device)
    if (
        torch.compiler.is_exporting()
    ):  # as below, without the ragged operator, which runtimes lack: (R, W, U + 1)
        ended = length.cumsum(1)[:, None, :-1] <= torch.arange(width, device=device)[None, :, None]
        unit = (ended.long().sum(2) + torch.arange(rows, device=device)[:, None] * (columns + 1)).flatten()
    else:
        unit = torch.repeat_interleave(
            torch.arange(count.numel(), device=device), count, output_size=height * width
        )
    source = (begin.flatten() - count.cumsum(0) + count)[unit].add_(place)  # (H * W,)
    codes = code.flatten()[unit]
    of = (codes & (1 << TABLE_BITS) - 1).sub_(1)
    entries = torch.full_like(source, pad)
    for at, table in enumerate(tables):
        if len(table.entries):
            mine = of == at
            entries = torch.where(mine, table.entries[source * mine], entries)
    mask = of >= 0
    if layout == "packed":
        owner = unit // (columns + 1)
        positions, sequence = place - origin[owner], owner + 1
    else:  # a row is a sequence
        own = torch.arange(rows, device=device)[:, None]
        positions = (place.view(height, width) - origin[:, None]).flatten()
        sequence = (own + 1).expand(-1, width)
    last = origin[:, None] + ends - 1
    batch = TokenBatch(
        tokens=(entries & (1 << CHANNELS) - 1).view(height, width),
        mask=mask.view(height, width),
        positions=positions.mul_(mask).view(height, width),
        sequence=sequence.reshape(height, width) * mask.view(height, width),
        channels=(codes.view(height, width), entries.view(height, width)),
        answer=last[:, -1],
        candidates=origin.new_zeros(rows, 0, 2),
    )
    return batch, last


def _places(size: Tensor, layout: Layout, width: int | None) -> tuple[Tensor, Tensor, int, int]:
    """Where sequences of the given (R,) sizes stand in flattened rows.

    Returns (R,) places of their first tokens, (R,) padding beside each, how many rows there are, and their width.
    """
    if torch.compiler.is_exporting():
        if layout == "packed" or width is None:
            raise RecloomError(
                "prompts are exported padded, to a given width; choose layout='left' or 'right'"
            )
        longest = width
    else:
        longest = int(size.max()) if size.numel() else 0
    if layout != "packed":
        room = longest - size
        row = torch.arange(size.shape[0], device=size.device) * longest
        return row + (room if layout == "left" else 0), room, size.shape[0], longest
    width = longest if width is None else width
    if longest > width:
        raise RecloomError(f"a sequence has {longest} tokens, and a packed row {width}. Raise the width.")
    end = size.cumsum(0).cpu().numpy()
    begin, free, at, height = np.zeros(len(end), np.int64), np.zeros(len(end), np.int64), 0, 0
    while at < len(end):  # once for each packed row
        used = 0 if at == 0 else end[at - 1]
        stop = int(np.searchsorted(end, used + width, side="right"))
        begin[at:stop] = height * width + np.concatenate([[0], end[at : stop - 1] - used])
        free[stop - 1] = width - (end[stop - 1] - used)
        at, height = stop, height + 1
    return torch.from_numpy(begin).to(size.device), torch.from_numpy(free).to(size.device), height, width


@dataclass(frozen=True)
class Chosen:
    """Rows of a slot's table: (B, K) int64 `row` and bool `shown`, in the order of their lines."""

    row: Tensor
    shown: Tensor

    def repeated(self, times: int) -> Chosen:
        """Each request `times` times."""
        if times == 1:
            return self
        return Chosen(*(each.repeat_interleave(times, 0) for each in (self.row, self.shown)))


def or_empty(chosen: Chosen) -> Chosen:
    """Row 0 in the last column where nothing is shown."""
    none = ~chosen.shown.any(1, keepdim=True)
    last = torch.arange(chosen.row.shape[1], device=chosen.row.device) == chosen.row.shape[1] - 1
    return Chosen(chosen.row.masked_fill(none & last, 0), chosen.shown | (none & last))


def sums_from(values: Tensor) -> Tensor:
    """(B, L + 1) sums of (B, L) values from each column on, 0 behind the last."""
    return pad(values.flip(1).cumsum(1).flip(1), (0, 1))


class UnitList:
    """The units of R sequences, one after the other."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.rows, self.device, self.width = rows, device, 0
        self.row: list[Tensor] = []
        self.shown: list[Tensor] = []
        self.item: list[Tensor] = []
        self.table: list[int] = []
        self.slot: list[int] = []

    def _add(self, row: Tensor, shown: Tensor, item: Tensor, table: list[int], slot: int) -> None:
        self.row.append(row)
        self.shown.append(shown)
        self.item.append(item)
        self.table += table
        self.slot += [slot] * len(table)
        self.width += len(table)

    def add(self, piece: int, slot: int = 0) -> None:
        """A fixed piece."""
        row = torch.full((self.rows, 1), piece, device=self.device)
        self._add(row, row >= 0, torch.zeros_like(row), [FIXED], slot)

    def add_lines(self, place: Place, chosen: Chosen) -> None:
        """Mark and text of each line of a place."""
        line = (chosen.shown.cumsum(1) - 1).clamp(min=0)  # (R, K) from 0
        number = torch.zeros_like(line)
        if place.slot.of == "history":
            number = (chosen.shown.sum(1, keepdim=True) - line) * (chosen.row > 0)  # the newest is 1
        elif place.slot.of == "candidates":
            number = (line + 1) * (chosen.row > 0)
        row, shown, item = (
            torch.stack(pair, -1).flatten(1)  # (R, 2 K)
            for pair in ((place.mark + line, chosen.row), (chosen.shown, chosen.shown), (number, number))
        )
        self._add(row, shown, item, [FIXED, place.table] * chosen.row.shape[1], place.number)

    def add_answer(self, targets: Tensor, table: int, end: int) -> None:
        """An answer and its end mark."""
        row = targets.to(self.device)[:, None]
        self._add(row, row >= 0, torch.zeros_like(row), [table], ANSWER)
        self.add(end, ANSWER)

    def joined(self) -> Units:
        """All of them."""
        row, shown, item = (torch.cat(parts, 1) for parts in (self.row, self.shown, self.item))
        return Units(row, shown, self.table, self.slot, item)


def padded_rows(table: TokenTable, rows: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """(R, T) int64 tokens of some rows of a table, padded on the right, and (R, T) bool where a token is."""
    one = rows[:, None]
    batch, _ = gather_units([table], Units(one, one >= 0, [0], [ANSWER], torch.zeros_like(one)), pad, "right")
    return batch.tokens, batch.mask
