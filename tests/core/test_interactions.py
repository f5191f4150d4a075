import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recloom.data.batches.candidates import sampled_candidates
from recloom.data.batches.requests import TargetRequests
from recloom.data.batches.sampler import BatchSampler
from recloom.data.batches.training_rows import PairRows, SequenceRows
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import DataError, RecloomError
from recloom.schemas import EventCodes

CATALOG = Catalog(pl.DataFrame({"item_id": list("abcdef")}), pl.DataFrame({"user_id": ["u", "v", "w"]}))


def make(users="uuuuuvv", items="abcdeba", times=(1, 2, 3, 4, 5, 6, 7)):
    frame = pl.DataFrame({"user_id": list(users), "item_id": list(items), "timestamp": list(times)})
    return Interactions.from_frame(frame, CATALOG)


def test_ranges_of_users():
    data = make()
    assert len(data) == 7
    assert data.lengths.tolist() == [0, 5, 2, 0]
    assert data.last(torch.tensor([1, 2, 3, 0]), 3)[0].tolist() == [
        [3, 4, 5],
        [0, 2, 1],
        [0, 0, 0],
        [0, 0, 0],
    ]
    assert data.last(torch.tensor([2]), 3)[1].tolist() == [[0, 6, 7]]
    assert data.item_counts().tolist() == [0, 2, 2, 1, 1, 1, 0]


def test_rows_are_put_in_time_order_and_equal_times_keep_theirs():
    data = make("vuuv", "abcd", (5, 9, 9, 1))
    assert data.items.tolist() == [2, 3, 4, 1]


def test_a_prefix_of_every_user_is_a_view():
    data = make()
    part = data.select(torch.tensor([1, 1, 1, 0, 0, 1, 0]).bool())
    assert part.items is data.items
    assert part.pairs()[1].tolist() == [1, 2, 3, 2]


def test_any_other_choice_is_a_copy_in_order():
    part = make().select(torch.tensor([1, 0, 1, 0, 0, 0, 1]).bool())
    assert part.items.tolist() == [1, 3, 1]
    assert part.pairs()[0].tolist() == [1, 1, 2]


def test_contains():
    data = make()
    assert data.contains(torch.tensor([[1], [2]]), torch.tensor([[1, 6], [1, 3]])).tolist() == [
        [True, False],
        [True, False],
    ]


def test_an_unknown_id_is_named():
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["zz"], "timestamp": [1]})
    with pytest.raises(DataError, match="row 1 of the interactions has item_id 'zz'"):
        Interactions.from_frame(frame, CATALOG)


def test_the_cache_holds_the_same_and_follows_the_file(tmp_path):
    frame = pl.DataFrame(
        {"user_id": ["u", "u"], "item_id": ["a", "b"], "timestamp": [1, 2], "value": [1.0, 5.0]}
    )
    frame.write_parquet(tmp_path / "interactions.parquet")
    first, second = Interactions.load(tmp_path, CATALOG), Interactions.load(tmp_path, CATALOG)
    assert len(list((tmp_path / ".cache").iterdir())) == 1
    assert first.items.tolist() == second.items.tolist() == [1, 2]
    assert second.values.tolist() == [1.0, 5.0]
    frame.with_columns(item_id=pl.Series(["c", "d"]), timestamp=pl.Series([7, 8])).head(1).write_parquet(
        tmp_path / "interactions.parquet"
    )
    assert Interactions.load(tmp_path, CATALOG).items.tolist() == [3]


def test_windows_cover_every_label_once_from_the_end():
    windows = SequenceRows(make(), 2)
    batch = windows[torch.arange(len(windows))]
    assert batch.history.tolist() == [[3, 4], [1, 2], [0, 2]]
    assert batch.labels.tolist() == [[4, 5], [2, 3], [0, 1]]
    assert batch.user.tolist() == [1, 1, 2]


def test_last_windows_are_one_per_user():
    batch = SequenceRows(make(), 3, "last")[torch.tensor([0, 1])]
    assert batch.history.tolist() == [[2, 3, 4], [0, 0, 2]]


def test_pairs_by_interaction_and_by_user():
    pairs = PairRows(make())
    assert sorted(pairs.epoch(torch.Generator()).tolist()) == list(range(7))
    by_user = PairRows(make(), "user")
    rows = torch.cat([by_user.epoch(torch.Generator().manual_seed(n)) for n in range(300)])
    share = (by_user[rows].user == 1).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.04)  # users alike, though one has 5 of 7 rows


def test_requests_pair_the_past_with_the_held_out():
    data = make()
    requests = TargetRequests(
        data.select(torch.tensor([1, 1, 1, 1, 0, 1, 0]).bool()),
        data.select(torch.tensor([0, 0, 0, 0, 1, 0, 1]).bool()),
        torch.arange(1, 7),
    )
    batch = requests[torch.arange(len(requests))]
    assert batch.user.tolist() == [2, 1]
    assert batch.history.tolist() == [[0, 0, 0, 2], [1, 2, 3, 4]]
    assert batch.labels.tolist() == [[1], [5]]
    assert batch.request_time.tolist() == [7, 5]


def test_an_epoch_is_a_function_of_seed_and_epoch_and_can_be_resumed():
    draw = lambda g: torch.randperm(10, generator=g)  # noqa: E731
    whole = list(BatchSampler(10, 3, draw, seed=1, epoch=4))
    rest = list(BatchSampler(10, 3, draw, seed=1, epoch=4, skip=2))
    assert [b.tolist() for b in rest] == [b.tolist() for b in whole[2:]]
    other = BatchSampler(10, 3, draw, seed=1, epoch=4, skip=2)
    other.set_epoch(5)
    assert len(list(other)) == 4
    assert torch.cat(list(other)).tolist() != torch.cat(whole).tolist()


def test_processes_share_the_batches():
    draw = lambda g: torch.randperm(12, generator=g)  # noqa: E731
    shares = [torch.cat(list(BatchSampler(12, 2, draw, rank=r, world=2))).tolist() for r in (0, 1)]
    assert sorted(shares[0] + shares[1]) == list(range(12))


@pytest.mark.parametrize("name", ["uniform-2", "popular-2"])
def test_sampled_candidates_are_new_to_the_user(name):
    data = make("uuuvv", "abcba", (1, 2, 3, 4, 5))
    held = data.select(torch.tensor([0, 0, 1, 0, 1]).bool())
    train = make("uuuuuu", "abcdef", range(6))
    lists = sampled_candidates(name, held, train, data, seed=3)
    assert lists.shape == (4, 3)
    assert lists[1, 0] == 3
    assert set(lists[1, 1:].tolist()) <= {4, 5, 6}
    assert len(set(lists[1].tolist())) == 3
    assert torch.equal(lists, sampled_candidates(name, held, train, data, seed=3))


@pytest.mark.parametrize(
    ("name", "message"), [("uniform", "is not known"), ("uniform-500", "needs 500 items")]
)
def test_sampled_candidates_say_what_is_wrong(name, message):
    data = make()
    with pytest.raises(RecloomError, match=message):
        sampled_candidates(name, data, data, data, 0)


def test_draw_unseen_is_uniform_over_what_a_user_never_had():
    data = make("uuuvw", "acfbc", (1, 2, 3, 4, 5))
    drawn = data.draw_unseen(torch.tensor([1, 2, 0]), 6000)
    assert not data.contains(torch.tensor([[1], [2], [0]]), drawn).any()
    assert torch.bincount(drawn[0], minlength=7)[[2, 4, 5]].tolist() == pytest.approx([2000] * 3, abs=180)
    assert torch.bincount(drawn[1], minlength=7)[[1, 3, 4, 5, 6]].tolist() == pytest.approx(
        [1200] * 5, abs=150
    )
    assert set(drawn[2].tolist()) == {1, 2, 3, 4, 5, 6}


def test_a_user_who_had_everything_gets_any_item():
    data = make("uuuuuu", "abcdef", range(6))
    assert set(data.draw_unseen(torch.tensor([1]), 200)[0].tolist()) == {1, 2, 3, 4, 5, 6}


@settings(max_examples=40)
@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
    st.lists(st.integers(-1, 3), min_size=30, max_size=30),
    st.lists(st.integers(-1, 3), min_size=30, max_size=30),
)
def test_divided_rows_are_those_with_the_code_whatever_was_chosen_before(lengths, first, second):
    """Users of any length, parts in any order, a choice from a choice: as a plain loop over users finds them."""
    counts = torch.tensor([0, *lengths])
    stops, size = counts.cumsum(0), sum(lengths)
    data = Interactions(
        torch.arange(1, size + 1, dtype=torch.int32), torch.arange(size) * 10, stops - counts, stops, size,
        events=torch.arange(size, dtype=torch.uint8), context=(torch.arange(size, dtype=torch.int32),),
    )  # fmt: skip
    for codes in (first, second):
        by_item = dict(enumerate(codes, 1))
        here = torch.tensor([by_item[int(item)] for item in data.items], dtype=torch.int8)
        wanted = [(0,), (1, 2), (3,), (0, 1, 2, 3), ()]
        for some, found in zip(wanted, data.divide(here, wanted), strict=True):
            for user in range(len(counts)):
                mine = data.items[data.starts[user] : data.stops[user]].tolist()
                expected = [item for item in mine if by_item[item] in some]
                place = slice(int(found.starts[user]), int(found.stops[user]))
                assert found.items[place].tolist() == expected
                assert found.times[place].tolist() == [10 * (item - 1) for item in expected]
                assert found.events[place].tolist() == found.context[0][place].tolist()
                assert found.events[place].tolist() == [item - 1 for item in expected]
        data = data.divide(here, [(0, 2)])[0]


def test_windows_give_events_beside_items():
    frame = pl.DataFrame(
        {"user_id": list("uuuvv"), "item_id": list("abcba"), "value": [1.0, 5.0, None, 5.0, 1.0]}
    )
    events = EventCodes(column="value", names=["bad", "good"], cuts=[3.0])
    catalog = Catalog(CATALOG.items, CATALOG.users, events=events)
    data = Interactions.from_frame(frame, catalog)
    users = torch.tensor([1, 2, 3])
    assert data.last(users, 3)[0].tolist() == [[1, 2, 3], [0, 2, 1], [0, 0, 0]]
    assert data.last_events(users, 3).tolist() == [[1, 2, 0], [0, 2, 1], [0, 0, 0]]
    assert make().last_events(users, 2).tolist() == [[0, 0]] * 3
    batch = SequenceRows(data, 2)[torch.tensor([0, 1])]
    assert batch.labels.tolist() == [[2, 3], [0, 1]]
    assert batch.history_event.tolist() == [[1, 2], [0, 2]]
    assert batch.label_event.tolist() == [[2, 0], [0, 1]]
