"""Invented interactions with a known structure: topics, popularity, drift, sequence rules, cold items.

At each step a user, with probability `follow`, takes the fixed successor of the last item; else draws a
topic from a mixture that drifts over time, and an item of that topic by popularity. Nobody meets an item
twice, and a cold item has no interaction before the last tenth of the time. So popularity knows little,
co-occurrence more, and a sequence model most; topics can be read from titles alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from ...errors import DataError
from ..card import Domain
from ..prepare.dataset import Prepared, arrange
from ..readers import RawTables
from .texts import item_texts, vocabulary

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
DRAWS = 8
"""Tries for an item that the user has not chosen."""
SHOWN = 10
"""Candidates of an impression, one of them clicked."""


@dataclass(frozen=True)
class World:
    """Parameters of the invented world."""

    like: Domain = "movies"
    users: int = 2000
    items: int = 800
    seed: int = 0
    mean_length: float = 30.0
    """Interactions per user, on average; none has fewer than 5."""
    follow: float = 0.4
    """Probability that the next item is the successor of the last."""
    popularity: float = 0.9
    """Exponent of the power law of popularity inside a topic."""
    drift: float = 0.5
    """Share of a user's interests that is different at the end of the time."""
    cold: float = 0.05
    """Share of items that appear only in the last tenth of the time."""
    start: int = 1_700_000_000
    days: int = 365


@dataclass
class Truth:
    """What was planted; arrays run over items or users by index."""

    topic: Ints
    weight: Floats
    """Popularity of an item inside its topic, sums to 1 per topic."""
    successor: Ints
    released: Floats
    """Share of the time that passes before an item can be chosen: 0, or at least .9 for a cold item."""
    early: Floats
    late: Floats
    """(users, topics) interests at the beginning and at the end."""

    def mixture(self, users: Ints, time: Floats) -> Floats:
        """(n, topics) interests of users at a time between 0 and 1."""
        return (1 - time[:, None]) * self.early[users] + time[:, None] * self.late[users]


def synthesise(world: World) -> tuple[Prepared, dict[str, pl.DataFrame], dict[str, Any]]:
    """Make a dataset, its truth tables by file name, and the parameters; equal worlds give equal data.

    Raises DataError for sizes that leave no room for the structure.
    """
    if world.users < 1 or world.items < 50:
        raise DataError(
            f"--users must be at least 1 and --items at least 50; found {world.users} and {world.items}"
        )
    random = np.random.default_rng(world.seed)
    topics = list(vocabulary(world.like)["topics"])
    truth = plant(world, len(topics), random)
    user, item, time = walk(world, truth, random)
    texts = item_texts(world.like, truth.topic, random)
    ids = _ids(world)
    columns = {
        "user_id": ids["user_id"].gather(user),
        "item_id": ids["item_id"].gather(item),
        "timestamp": time,
    }
    rows = pl.DataFrame(columns).with_row_index("line", 1)
    if world.like in ("movies", "shop"):
        rows = rows.with_columns(_ratings(world, truth, user, item, time, random))
    items = texts.insert_column(0, ids["item_id"])
    raw = RawTables(rows, [], items=items)
    if world.like == "news":
        raw.impressions = _impressions(world, truth, user, item, time, random)
    data = arrange(raw, keep_all_items=True, ties="file")
    return data, _truth_tables(truth, ids, topics), asdict(world)


def plant(world: World, num_topics: int, random: np.random.Generator) -> Truth:
    """Draw topics, popularity, successors, release times and interests."""
    topic = np.arange(world.items) % num_topics
    random.shuffle(topic)
    rank = np.empty(world.items)
    successor = np.empty(world.items, np.int64)
    for one in range(num_topics):
        mine = random.permutation(np.flatnonzero(topic == one))
        rank[mine] = np.arange(1, len(mine) + 1)
        ring = random.permutation(mine)
        successor[ring] = np.roll(ring, 1)  # one cycle through the topic: every item is followed once
    weight = rank**-world.popularity
    weight /= np.bincount(topic, weight)[topic]
    released = np.zeros(world.items)
    cold = random.choice(world.items, max(1, round(world.cold * world.items)), replace=False)
    released[cold] = random.uniform(0.9, 0.97, len(cold))
    early = random.dirichlet(np.full(num_topics, 0.3), world.users)
    other = random.dirichlet(np.full(num_topics, 0.3), world.users)
    return Truth(topic, weight, successor, released, early, (1 - world.drift) * early + world.drift * other)


def walk(world: World, truth: Truth, random: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """User, item and Unix second of every interaction, user by user in time order."""
    length = np.minimum(
        5 + random.geometric(1 / max(1.0, world.mean_length - 4), world.users) - 1, world.items // 2
    )
    steps = int(length.max())
    begin = random.uniform(0, 0.6, world.users)
    end = np.minimum(1.0, begin + random.uniform(0.3, 1.0, world.users))
    share = random.random((world.users, steps))
    share[np.arange(steps) >= length[:, None]] = 2.0  # beyond the user's last step: sorted behind the others
    time = begin[:, None] + (end - begin)[:, None] * np.sort(share, axis=1)  # (users, steps)
    chosen = np.full((world.users, steps), -1)
    for step in range(steps):
        active = np.flatnonzero(length > step)
        chosen[active, step] = _next_items(
            world, truth, active, chosen[active, :step], time[active, step], random
        )
    user, place = np.nonzero(chosen >= 0)
    seconds = world.start + (time[user, place] * world.days * 86_400).astype(np.int64)
    return user, chosen[user, place], seconds


def _next_items(
    world: World, truth: Truth, users: Ints, chosen: Ints, time: Floats, random: np.random.Generator
) -> Ints:
    """(n,) the next item of each user, -1 where no draw gave one that is new to the user and released."""
    choices = _draw(truth, truth.mixture(users, time), random)  # (n, DRAWS)
    if chosen.shape[1]:
        last = chosen[:, -1]
        follows = (random.random(len(users)) < world.follow) & (last >= 0)
        choices = np.column_stack([np.where(follows, truth.successor[last], -1), choices])
    possible = (choices >= 0) & (truth.released[choices] <= time[:, None])
    for column in range(choices.shape[1]):
        possible[:, column] &= ~(chosen == choices[:, column, None]).any(axis=1)
    first = possible.argmax(axis=1)
    return np.where(possible.any(axis=1), choices[np.arange(len(users)), first], -1)


def _draw(truth: Truth, mixture: Floats, random: np.random.Generator) -> Ints:
    """(n, DRAWS) items: a topic from each row's mixture, then items of it by popularity."""
    order = np.argsort(truth.topic, kind="stable")
    ladder = np.cumsum(truth.weight[order])  # grows by 1 per topic
    topic = (random.random(len(mixture))[:, None] > np.cumsum(mixture, axis=1)[:, :-1]).sum(axis=1)
    place = np.searchsorted(ladder, topic[:, None] + random.random((len(mixture), DRAWS)))
    items: Ints = order[np.minimum(place, len(order) - 1)]
    return items


def _ratings(
    world: World, truth: Truth, user: Ints, item: Ints, seconds: Ints, random: np.random.Generator
) -> pl.Series:
    """1 to 5: higher the more the user cares for the topic at the time."""
    time = (seconds - world.start) / (world.days * 86_400)
    interest = truth.mixture(user, time)[np.arange(len(user)), truth.topic[item]]
    stars = 2.2 + 2.6 * np.sqrt(interest) + random.normal(0, 0.7, len(user))
    return pl.Series("value", np.clip(np.rint(stars), 1, 5), dtype=pl.Float32)


def _impressions(
    world: World, truth: Truth, user: Ints, item: Ints, seconds: Ints, random: np.random.Generator
) -> pl.DataFrame:
    """One impression for each click after a user's second: the click among popular items, in random order."""
    ids = _ids(world)
    place = np.arange(len(user)) - np.searchsorted(user, user)
    rows = np.flatnonzero(place >= 2)
    shown, labels = _shown(truth, item[rows], random)
    frame = pl.DataFrame({"label": labels})
    histories = _histories(ids["item_id"].gather(item), rows, place[rows])
    return frame.select(
        pl.format("i{}", pl.int_range(1, pl.len() + 1)).alias("impression_id"),
        ids["user_id"].gather(user[rows]).alias("user_id"),
        pl.Series("timestamp", seconds[rows]),
        histories.alias("history"),
        _lists(ids["item_id"].gather(shown.ravel()), np.full(len(rows), SHOWN)).alias("candidates"),
        pl.col("label").arr.to_list().alias("labels"),
    )


def _shown(
    truth: Truth, clicked: Ints, random: np.random.Generator
) -> tuple[Ints, np.ndarray[Any, np.dtype[np.int8]]]:
    """(n, SHOWN) distinct items drawn by popularity, among them the clicked one, in random order; and labels.

    Evenly spaced draws from the ladder of popularity are distinct, since no item weighs a tenth of it.
    """
    ladder = np.cumsum(truth.weight * (truth.released == 0))
    draws = (random.random((len(clicked), 1)) + np.arange(SHOWN)) / SHOWN
    shown = random.permuted(np.searchsorted(ladder, draws * ladder[-1], side="right"), axis=1)
    absent = ~(shown == clicked[:, None]).any(axis=1)
    shown[absent, random.integers(SHOWN, size=int(absent.sum()))] = clicked[absent]
    return shown, (shown == clicked[:, None]).astype(np.int8)


def _histories(clicked: pl.Series, rows: Ints, lengths: Ints) -> pl.Series:
    """For each row the items of its user before it."""
    lengths = np.minimum(lengths, 50)
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return _lists(clicked.gather(np.repeat(rows - lengths, lengths) + within), lengths)


def _lists(values: pl.Series, lengths: Ints) -> pl.Series:
    """Cut a flat column into lists of the given lengths (all at least 1)."""
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum(lengths)])
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values.to_arrow())
    return pl.Series(pl.from_arrow(lists))


def _ids(world: World) -> dict[str, pl.Series]:
    letter = {"movies": "m", "news": "n", "shop": "p", "jobs": "j"}[world.like]

    def numbered(name: str, first: str, count: int) -> pl.Series:
        number = pl.int_range(1, count + 1, eager=True).cast(pl.String).str.zfill(len(str(count)))
        return (pl.Series([first]) + number).alias(name)

    return {
        "item_id": numbered("item_id", letter, world.items),
        "user_id": numbered("user_id", "u", world.users),
    }


def _truth_tables(truth: Truth, ids: dict[str, pl.Series], topics: list[str]) -> dict[str, pl.DataFrame]:
    item, user = ids["item_id"], ids["user_id"]
    names = pl.Series("topic", topics).gather(truth.topic)
    cold = np.flatnonzero(truth.released > 0)
    mixtures = {f"{time}_{name}": column for time, table in (("early", truth.early), ("late", truth.late))
                for name, column in zip(topics, table.T, strict=True)}  # fmt: skip
    return {
        "item_topics.parquet": pl.DataFrame([item, names]),
        "popularity.parquet": pl.DataFrame([item, pl.Series("weight", truth.weight)]),
        "successors.parquet": pl.DataFrame([item, item.gather(truth.successor).alias("successor")]),
        "user_mixtures.parquet": pl.DataFrame([user]).with_columns(**mixtures),
        "cold_items.parquet": pl.DataFrame([item.gather(cold), pl.Series("released", truth.released[cold])]),
    }
