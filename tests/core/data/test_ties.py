"""Equal times: whose order the file may tell, the hash that orders the others, and what is said of both."""

import json

import numpy as np
import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data import id_order
from recloom.data.batches import RecDataModule
from recloom.data.card import read_card
from recloom.data.id_order import hash_ranks, id_hashes, mix, natural_order
from recloom.data.prepare import arrange
from recloom.data.prepare.ties import break_ties, row_hashes, ties_in_words, ties_of, user_order
from recloom.data.readers import RawTables
from recloom.data.split import assign
from recloom.errors import RecloomError
from recloom.evaluation.results import describe
from recloom.schemas import EqualTimes, Protocol, SplitSpec, TimeTies

DAYS = 30


def log(order="random", users=40, name="{}", seed=0):
    """4 rows of each user on each of 5 days: ties in the order of ids, its opposite, or none."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        for day in range(5):
            items = random.choice(900, 4, replace=False) + 100
            items = np.sort(items) if order in ("up", "down") else items
            items = items[::-1] if order == "down" else items
            rows += [(f"u{user}", name.format(item), day * 86_400) for item in items.tolist()]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def slanted(share):
    """Pairs of which such a share ascends by id."""
    pairs = [("i1", "i2") if n < round(200 * share) else ("i2", "i1") for n in range(200)]
    rows = [(f"u{n}", item, 60) for n, pair in enumerate(pairs) for item in pair]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")


def raw(frame):
    return RawTables(frame.with_columns(line=pl.int_range(1, pl.len() + 1)), [])


def in_order(data):
    return data.interactions.select("user_id", "item_id", "timestamp").sort("user_id", maintain_order=True)


@pytest.mark.parametrize(
    ("frame", "rule"),
    [
        (log("random"), "file"),
        (log("random").sort("timestamp", maintain_order=True), "file"),  # of all users, as a log is written
        (slanted(0.43), "file"),
        (slanted(0.57), "file"),
        (log("up"), "hash"),
        (log("down"), "hash"),
        (log("random").reverse(), "hash"),  # the newest first
        (log("random").sample(fraction=1, shuffle=True, seed=3), "hash"),
        (log("random", users=6), "hash"),  # 90 tied neighbours cannot tell
        (log("up", name="item {}"), "hash"),
        (pl.concat([log("random"), log("up").with_columns(pl.format("w{}", "user_id").alias("user_id"))]), "hash"),
    ],
)  # fmt: skip
def test_the_order_of_the_file_counts_where_it_tells_nothing_but_time(frame, rule):
    ties = ties_of(frame)
    assert ties.rule == rule
    if rule == "file":
        assert in_order(arrange(raw(frame))).equals(frame.sort("user_id", maintain_order=True))


def test_ids_in_order_as_numbers_or_as_text_alone_are_an_order_too():
    """9 < 10 as numbers and 10 < 9 as text: pairs that ascend as numbers descend as text half of the time."""
    random = np.random.default_rng(1)
    rows = [
        (f"u{n}", str(i), 60)
        for n in range(100)
        for i in sorted(random.choice(range(2, 20), 3, False).tolist())
    ]
    by_number = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    found = ties_of(by_number)
    assert (found.ascending_number, found.rule) == (pytest.approx(1), "hash")
    assert 0.4 <= found.ascending_text <= 0.7
    by_text = by_number.sort("user_id", "item_id", maintain_order=True)
    found = ties_of(by_text)
    assert (found.ascending_text, found.rule) == (pytest.approx(1), "hash")


def test_counts_by_hand():
    """a: 1, 2, 2 (last two tied); b: 1, 1, 1, 3; c: two rows, too few to hold any out."""
    frame = pl.DataFrame({
        "user_id": list("aaabbbbcc"), "item_id": [*"xyzxyzwxy"], "timestamp": [1, 2, 2, 1, 1, 1, 3, 4, 4],
    })  # fmt: skip
    ties = ties_of(frame)
    assert (ties.rows, ties.pairs) == (7, 4)
    shares = (ties.share, ties.last, ties.second_last, ties.ascending_text)
    assert shares == pytest.approx((7 / 9, 0.5, 1.0, 1.0))
    assert ties_of(frame.with_columns(timestamp=pl.int_range(9))).rows == 0
    assert ties_of(pl.concat([frame, frame])) == ties  # a row that stands there again counts once
    twice = pl.DataFrame({"user_id": ["a"] * 3, "item_id": [*"xxy"], "timestamp": [1] * 3})
    assert user_order(twice)[-1].pairs == 1  # of an item and itself none comes first


@pytest.mark.parametrize("rule", ["hash", "file"])
def test_a_rule_that_is_asked_for_holds_whatever_the_file_is(rule):
    for frame in (log("random"), log("up")):
        ties = ties_of(frame, rule)
        assert (ties.rule, ties.asked) == (rule, True)


def test_each_time_of_a_user_has_an_order_of_its_own():
    """Ten items on each of 40 days: not one order that a model could learn. What was given stays as it is."""
    days, items = np.repeat(np.arange(40), 10), np.tile(np.arange(10, dtype=np.uint32), 40)
    order, users = np.arange(400, dtype=np.uint32), np.zeros(400, np.uint32)
    ids = pl.Series([f"i{n}" for n in range(10)])
    given = order.copy(), items.copy()
    rows, found, _ = break_ties(order, users, items, days, pl.Series(["u"]), ids, "hash")
    assert found.tolist() == items[rows].tolist()
    assert len({tuple(day) for day in found.reshape(40, 10).tolist()}) == 40
    assert (order.tolist(), items.tolist()) == (given[0].tolist(), given[1].tolist())


def test_ids_in_the_order_of_their_numbers():
    ids = ["a10", "b1", "7", "a9", "a9b", "x", "100", "20", "a", "a09", "70000000000"]
    found = pl.Series(ids).gather(natural_order(pl.Series(ids)))
    assert found.to_list() == ["7", "20", "100", "70000000000", "a", "a09", "a9", "a9b", "a10", "b1", "x"]


def test_ranks_of_ids_are_places_in_the_order_of_their_hashes(monkeypatch):
    ids = pl.Series([f"i{n}" for n in range(50)])
    ranks = hash_ranks(ids)
    assert (np.diff(id_hashes(ids).astype(object)[np.argsort(ranks)]) > 0).all()
    assert ranks.tolist() != list(range(50))
    monkeypatch.setattr(id_order, "_BLOCK", 7)  # ids are hashed in blocks, which are seen in nothing
    assert hash_ranks(ids).tolist() == ranks.tolist()


def test_rows_in_any_order_of_the_file_stand_in_one_order():
    up = log("up")
    whole = in_order(arrange(raw(up)))
    for frame in (up.reverse(), up.sample(fraction=1, shuffle=True, seed=5)):
        assert in_order(arrange(raw(frame))).equals(whole)
        assert arrange(raw(frame)).items.equals(arrange(raw(up)).items)
    other = in_order(arrange(raw(up), seed=1))
    assert not other.equals(whole)
    assert other.sort("user_id", "timestamp", "item_id").equals(whole.sort("user_id", "timestamp", "item_id"))
    step = whole.with_columns(pl.col("item_id").cast(int)).select(
        (pl.col("item_id") > pl.col("item_id").shift().over("user_id", "timestamp")).mean()
    )
    assert step.item() == pytest.approx(0.5, abs=0.1)  # of 600 neighbours


def test_a_split_of_any_table_breaks_ties_alike():
    """The parts of a raw table are those of the prepared one, and do not depend on the order of rows."""
    up = log("up")
    prepared = in_order(arrange(raw(up)))
    held_out = prepared.filter(assign(prepared, SplitSpec(), ties="file") == "test").sort("user_id")
    for frame in (up, up.reverse()):
        assert frame.filter(assign(frame, SplitSpec()) == "test").sort("user_id").equals(held_out)


def test_positions_keep_the_order_of_the_file():
    frame = log("up").drop("timestamp")
    data = arrange(raw(frame))
    assert (
        in_order(data)["item_id"].to_list() == frame.sort("user_id", maintain_order=True)["item_id"].to_list()
    )
    assert (data.ties.rule, data.ties.rows, data.ties.asked) == ("file", 0, False)


def test_hashes_by_hand():
    """splitmix64's first outputs for seed 0 (Vigna's splitmix64.c), and the formulas in Python's own integers."""
    step, size = 0x9E3779B97F4A7C15, 1 << 64
    outputs = mix(np.array([step, 2 * step % size], np.uint64)).tolist()
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]

    def one(value):
        return int(mix(np.array([value % size], np.uint64))[0])

    def of(text):
        parts = [one(256 * place + byte + step) for place, byte in enumerate(text.encode())]
        return one(sum(parts) + len(parts) * step)

    ids = pl.Series(["a", "", "é7", "10"])
    assert id_hashes(ids).tolist() == [of(text) for text in ids]
    assert id_hashes(ids.reverse()).tolist() == [of(text) for text in ids.reverse()]
    user, item, time, seed = of("a"), of("10"), -5, 3
    expected = one(one(one(one(seed + step) ^ user) + time) ^ item)
    found = row_hashes(
        *(np.array([v], np.uint64) for v in (user,)), np.array([time]), np.array([item], np.uint64), seed
    )
    assert found.tolist() == [expected]


def test_hashes_that_agree_in_their_first_bits_are_told_apart():
    """Keys are compared in full where what is left of them beside the group is equal."""
    from recloom.data.prepare import ties

    low = np.array([3, 1, 2, 9, 7, 0, 4], np.uint64)
    starts = np.array([True, False, False, True, False, True, False])
    assert ties._by_group(starts, low).tolist() == [1, 2, 0, 4, 3, 5, 6]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One table sorted by item, prepared by the rule and by the order of the file."""
    root = tmp_path_factory.mktemp("ties")
    log("up").write_csv(root / "log.csv")
    for ties in ("auto", "file"):
        main(
            [
                "data",
                "prepare",
                "table",
                "--path",
                str(root / "log.csv"),
                "--ties",
                ties,
                "--out",
                str(root / ties),
            ]
        )
    return root


def test_rule_and_shares_stand_in_the_card_and_in_the_protocol(folders):
    card = read_card(folders / "auto")
    assert (card.ties.rule, card.ties.asked, card.ties.rows, card.ties.pairs) == ("hash", False, 800, 600)
    assert card.ties.share == pytest.approx(1) == card.ties.last == card.ties.second_last
    data = RecDataModule(str(folders / "auto"))
    data.setup()
    protocol = data.protocol("test")
    assert protocol.equal_times == EqualTimes(rule="hash", rows=1.0, held_out=1.0)
    assert (
        "equal times of a user in the order of a hash (100.0% of the rows, 100.0% of the held-out ones)"
        in describe(protocol)
    )
    assert read_card(folders / "file").source.options["ties"] == "file"


def test_shares_of_a_part_are_of_its_own_rows(tmp_path):
    """10 users of whom 4 have a tied last item; validation's rows are tied with it."""
    rows = [(f"u{n}", f"i{at}", 5 if n < 4 and at > 2 else at) for n in range(10) for at in range(5)]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(
        tmp_path / "log.csv"
    )
    main(["data", "prepare", "table", "--path", str(tmp_path / "log.csv"), "--out", str(tmp_path / "data")])
    data = RecDataModule(str(tmp_path / "data"))
    data.setup()
    for part in ("valid", "test"):
        assert data.protocol(part).equal_times == EqualTimes(rule="hash", rows=8 / 50, held_out=0.4)


def test_check_says_it_of_raw_files_and_of_prepared_ones(folders, capsys):
    main(["data", "check", str(folders / "log.csv")])
    main(["data", "check", str(folders / "auto")])
    shown = " ".join(capsys.readouterr().out.split())
    words = "800 of 800 rows (100.0%) share user and time with another"
    assert shown.count(words) == 2
    assert shown.count("their order is that of a hash: in the file they ascend by item id in 100%") == 2


def test_a_folder_prepared_before_is_valid_and_marked(folders, capsys):
    path = folders / "file" / "dataset.json"
    before = read_card(folders / "file").data_hash()
    content = json.loads(path.read_text())
    del content["ties"]
    path.write_text(json.dumps(content))
    card = read_card(folders / "file")
    assert (card.ties, card.data_hash()) == (TimeTies(rule="file"), before)
    main(["data", "check", str(folders / "file")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "equal times (ties: file, prepared before): 800 of 800 rows" in shown
    assert "where they ascend by item id in 100%; prepare again" in shown
    data = RecDataModule(str(folders / "file"))
    data.setup()
    assert data.protocol("test").equal_times == EqualTimes(rule="file", rows=1.0, held_out=1.0)


def test_a_reason_for_each_rule():
    common = {"rows": 10, "share": 0.1, "last": 0.2, "second_last": 0.3}
    few = TimeTies(rule="hash", pairs=9, ascending_number=1, ascending_text=1, in_time_order=True, **common)
    assert "9 ties are too few to tell" in ties_in_words(few)
    unordered = few.model_copy(update={"pairs": 900, "in_time_order": False})
    assert "the file does not stand in time order" in ties_in_words(unordered)
    two = few.model_copy(update={"pairs": 900, "ascending_text": 0.5})
    assert "they ascend by item id in 100% (as text 50%)" in ties_in_words(two)
    assert "as asked" in ties_in_words(few.model_copy(update={"rule": "file", "asked": True}))
    assert "not counted" in ties_in_words(TimeTies())


def test_protocols_of_before_compare_with_those_of_now():
    from recloom.evaluation.results import check_protocols

    given = {
        "dataset": "d", "data_hash": "h", "split": SplitSpec(), "split_hash": "s", "part": "test",
        "candidates": "all", "seen": "masked", "users": 3, "num_items": 4,
    }  # fmt: skip

    class Tested:
        def __init__(self, equal_times):
            self.protocol = Protocol(**given, equal_times=equal_times)

    before, now = Tested(EqualTimes()), Tested(EqualTimes(rows=0.5, held_out=0.25))
    check_protocols({"before": before, "now": now})
    with pytest.raises(Exception, match=r"equal_times\.rule"):
        check_protocols({"before": before, "hash": Tested(EqualTimes(rule="hash", rows=0.5, held_out=0.25))})


def test_order_is_by_user_and_time_first():
    order, users, _, times, _ = user_order(log("random").sample(fraction=1, shuffle=True, seed=2))
    assert sorted(order.tolist()) == list(range(800))
    assert (np.diff(users.astype(int)) >= 0).all()
    assert (np.diff(times)[np.diff(users.astype(int)) == 0] >= 0).all()


def test_a_seed_below_zero_is_refused_in_words():
    with pytest.raises(RecloomError, match="seed must be at least 0; found -1"):
        user_order(log(), seed=-1)
