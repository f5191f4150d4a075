"""The tensors of a batch: what is filled in, cut and picked."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from recloom import Batch
from torch import Tensor


@dataclass
class Tokens:
    """What a batch of texts must be able to do."""

    ids: Tensor

    def rows(self, index: Tensor | slice) -> Tokens:
        return Tokens(self.ids[index])


def test_a_batch_of_a_history_has_unknown_events_and_no_context() -> None:
    batch = Batch.of(torch.tensor([[0, 3], [4, 5]]))
    assert batch.history_event.tolist() == [[0, 0], [0, 0]]
    assert batch.history_event.dtype == torch.long
    assert tuple(batch.context.shape) == (2, 0)
    assert tuple(batch.label_event.shape) == (1, 0)
    assert batch.text is None


def test_rows_picks_every_field_and_keeps_what_is_shared() -> None:
    history = torch.arange(6).view(3, 2)
    batch = Batch.of(
        history,
        torch.tensor([[1, 2, 3]]),
        user=torch.tensor([7, 8, 9]),
        history_event=history + 10,
        label_event=history + 20,
        context=torch.tensor([[1, 0], [2, 0], [3, 4]]),
        text=Tokens(torch.arange(3)),  # type: ignore[arg-type]
    )
    part = batch.rows(torch.tensor([2, 0]))
    assert part.candidates.tolist() == [[1, 2, 3]]
    assert part.history_event.tolist() == [[14, 15], [10, 11]]
    assert part.label_event.tolist() == [[24, 25], [20, 21]]
    assert part.context.tolist() == [[3, 4], [1, 0]]
    assert part.text.ids.tolist() == [2, 0]  # type: ignore[union-attr]
    alone = batch.rows(slice(1, 2))
    assert [len(getattr(alone, field.name)) for field in fields(Batch) if field.name != "text"] == [1] * 9


def test_cut_to_treats_events_as_items() -> None:
    batch = Batch.of(torch.tensor([[1, 2, 3]]), history_event=torch.tensor([[4, 5, 6]]))
    assert batch.cut_to(2).history_event.tolist() == [[5, 6]]
    longer = batch.cut_to(5)
    assert longer.history.tolist() == [[0, 0, 1, 2, 3]]
    assert longer.history_event.tolist() == [[0, 0, 4, 5, 6]]
    assert longer.history_time.tolist() == [[0, 0, 0, 0, 0]]
