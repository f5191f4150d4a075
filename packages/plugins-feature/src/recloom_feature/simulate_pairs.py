"""Pairs of cold items, asked in both orders, and what both answers together say.

An order (A, B) shows one item as A and the other as B. Of a pair x, y

    both agree    x as A and x as B is chosen, or y as A and y as B
    score of x    (log p("A") where x is A + log p("B") where x is B) / 2, of y likewise
    confidence    sigmoid(score of x - score of y) of the preferred one
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

Letter = Literal["A", "B"]
LETTERS: tuple[Letter, Letter] = ("A", "B")


class Choice(BaseModel):
    """What a model that gives no probabilities must answer."""

    model_config = ConfigDict(extra="forbid")
    answer: Letter


@dataclass(frozen=True)
class Verdict:
    """What a pair's two answers say.

    Attributes:
        first: whether the first item of the pair is preferred; None = neither.
        same_letter: whether both orders were answered with one letter.
        confidence: None where no probabilities are known, or nothing is preferred.
    """

    first: bool | None
    same_letter: bool
    confidence: float | None = None


def by_answers(forth: Letter, back: Letter) -> Verdict:
    """From the letters chosen where the first item was A, and where it was B."""
    if forth == back:
        return Verdict(None, True)
    return Verdict(forth == "A", False)


def by_scores(
    forth: Sequence[float], back: Sequence[float], disagreement: Literal["drop", "calibrate"]
) -> Verdict:
    """From the log-probabilities of A and B in both orders.

    Where the orders disagree nothing is preferred, or with `calibrate` what has the higher averaged score. Equal
    log-probabilities choose no letter, so such a pair is undecided and no sign of bias.
    """
    gap = ((forth[0] - forth[1]) - (back[0] - back[1])) / 2  # score of the first - score of the second
    letters = [(a > b) - (a < b) for a, b in (forth, back)]  # 1 = A, -1 = B, 0 = neither
    agreed, same = letters[0] * letters[1] < 0, letters[0] * letters[1] > 0
    if gap == 0 or not (agreed or disagreement == "calibrate"):
        return Verdict(None, same)
    return Verdict(gap > 0, same, 1 / (1 + math.exp(-abs(gap))))


def draw_pairs(
    users: list[str], cold: list[str], held_out: pl.DataFrame, count: int, random: np.random.Generator
) -> list[tuple[str, str, str]]:
    """For each user up to `count` different pairs of cold items: (user, first, second).

    Items that the user meets in a held-out row are left out, so that no record gives one away; a user with too
    few items left gets fewer pairs.
    """
    tries, items = 4 * count + 16, len(cold)
    first = random.integers(items, size=(len(users), tries))
    second = random.integers(items - 1, size=(len(users), tries))
    second += second >= first
    code = np.minimum(first, second) * items + np.maximum(first, second)
    user = np.arange(len(users))[:, None]
    usable = ~(_met(users, cold, held_out, first) | _met(users, cold, held_out, second))
    usable &= _first_time(user * items**2 + code)
    usable &= np.cumsum(usable, axis=1) <= count
    return [
        (users[u], cold[first[u, t]], cold[second[u, t]]) for u, t in zip(*np.nonzero(usable), strict=True)
    ]


def _met(users: list[str], cold: list[str], held_out: pl.DataFrame, drawn: Any) -> Any:
    """(U, T) bool: whether the row's user meets the drawn cold item in a held-out row."""
    found = held_out.join(pl.DataFrame({"user_id": users}).with_row_index("u"), on="user_id").join(
        pl.DataFrame({"item_id": cold}).with_row_index("i"), on="item_id"
    )
    keys = found["u"].cast(pl.Int64).to_numpy() * len(cold) + found["i"].cast(pl.Int64).to_numpy()
    return np.isin(np.arange(len(users))[:, None] * len(cold) + drawn, keys)


def _first_time(codes: Any) -> Any:
    """(U, T) bool: whether a code stands here for the first time, read row by row."""
    first = np.zeros(codes.size, bool)
    first[np.unique(codes, return_index=True)[1]] = True
    return first.reshape(codes.shape)
