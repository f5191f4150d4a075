"""What happened, from a column of the raw data to the codes that a recommender reads."""

from __future__ import annotations

import functools
from typing import ClassVar

import polars as pl
import pytest
import torch
from recloom import Batch, RecModule, Recommender, Run
from recloom.cli.main import main
from recloom.data import Catalog, Interactions, read_card
from recloom.data.batches import PointwiseRows, RecDataModule, SequenceRows
from recloom.data.columns import event_codes, listed_values
from recloom.data.prepare import arrange
from recloom.data.prepare.codes import choose_context, choose_events
from recloom.data.readers import RawTables
from recloom.errors import DataError, RecloomError
from recloom.losses import Loss
from recloom.schemas import DatasetCard, EventCodes
from recloom.testing import toy_dataset
from recloom.testing.training import silence
from recloom.training.saved_state import check_data
from torch import Tensor, nn


def rows(**columns) -> pl.DataFrame:
    return pl.DataFrame(columns)


# -- which codes there are ----------------------------------------------------------------------------


def test_every_value_is_an_event_where_there_are_few():
    codes, note = choose_events(rows(value=pl.Series([4.5, 0.5, 3.0, 4.1, 3.0], dtype=pl.Float32)))
    assert codes == EventCodes(column="value", names=["0.5", "3", "4.1", "4.5"], cuts=[3.0, 4.1, 4.5])
    assert note == "events: 0.5, 3, 4.1, 4.5 (value)"
    raw = pl.Series([4.1, 0.5, 4.5, 3.0, None, float("nan"), 99.0], dtype=pl.Float32)
    assert event_codes(raw, codes).tolist() == [3, 1, 4, 2, 0, 0, 4]
    assert event_codes(pl.Series(["4.1", "3", "good"]), codes).tolist() == [3, 2, 0]


def test_numbers_between_values_are_told_apart_from_values():
    codes, _ = choose_events(rows(value=[4.5, 0.5, 4.1]))
    raw = pl.Series([4.1, 0.5, 4.5, 4.0, 0.1, 99.0, float("nan"), None])
    assert listed_values(raw, codes).tolist() == [True, True, True] + 5 * [False]
    catalog = Catalog(rows(item_id=["a"]), rows(user_id=["u"]), events=codes)
    assert catalog.event_codes(raw).tolist() == [2, 1, 3, 1, 1, 3, 0, 0]
    assert catalog.event_codes(raw, only_listed=True).tolist() == [2, 1, 3, 0, 0, 0, 0, 0]
    intervals, _ = choose_events(rows(value=[0.5, 4.5]), cuts=[3])
    assert listed_values(raw, intervals).all()


def test_cuts_make_intervals_of_values():
    codes, _ = choose_events(rows(value=[float(n) for n in range(100)]), cuts=[3, 4.5])
    assert codes.names == ["below 3", "3 to below 4.5", "4.5 or more"]
    assert event_codes(pl.Series([-1.0, 2.9, 3.0, 4.4, 4.5, 80]), codes).tolist() == [1, 1, 2, 2, 3, 3]


def test_words_are_events_and_come_before_values():
    frame = rows(value=[1.0, 2.0, 3.0], event=["view", "buy", None], kind=["a", "b", "a"])
    codes, note = choose_events(frame)
    assert (codes.column, codes.names, codes.cuts) == ("event", ["buy", "view"], [])
    assert note == "events: buy, view (event)"
    assert event_codes(pl.Series(["view", "buy", None, "fly"]), codes).tolist() == [2, 1, 0, 0]
    assert choose_events(frame, "kind")[0].names == ["a", "b"]


def test_what_tells_nothing_apart_is_no_event():
    assert choose_events(rows(item_id=["a"])) == (None, "")
    assert choose_events(rows(value=[1.0, 1.0])) == (None, "")
    none, note = choose_events(rows(value=[float(n) for n in range(33)]))
    assert none is None
    assert "33 different values" in note
    assert "--event-cuts" in note
    assert choose_events(rows(event=[str(n) for n in range(300)]))[0] is None
    assert "does not hold two different values" in choose_events(rows(kind=["a", "a"]), "kind")[1]
    assert "does not hold two different values" in choose_events(rows(value=[1.0]), "value")[1]
    none, note = choose_events(rows(value=[16777216, 16777217]))
    assert none is None
    assert (
        note == "no events: column 'value' holds 16777216 and 16777217, which are the same number as float32"
    )


@pytest.mark.parametrize(
    ("frame", "column", "cuts", "message"),
    [
        (
            rows(value=[1.0, 2.0]),
            "mood",
            None,
            r"without a column 'mood' \(--event-column\).*they have value",
        ),
        (rows(event=["a", "b"]), None, [1.0], "divides numbers, and column 'event' holds words"),
        (rows(value=[1.0, 2.0]), None, [2.0, 1.0], "must be ascending numbers; found 2.0, 1.0"),
        (rows(item_id=["a"]), None, [1.0], "needs a column of values, and these data have none"),
        (rows(kind=[str(n) for n in range(256)]), "kind", None, "256 different values; at most 255 events"),
        (rows(value=[1.0, 2.0]), None, [1.0, float("inf")], "must be ascending numbers; found 1.0, inf"),
        (
            rows(value=[1.0, 2.0]),
            None,
            [],
            "--event-cuts needs the numbers where intervals begin.*found none",
        ),
        (
            rows(value=[1.0]),
            None,
            [4.1, 4.10000001],
            r"--event-cuts has 4.1 and 4.10000001, which are the same number as float32",
        ),
        (
            rows(value=[1.0]),
            None,
            [16777216, 16777217],
            "--event-cuts has 16777216, and values are compared as float32, which does not tell whole numbers from",
        ),
        (
            rows(value=[1.0]),
            None,
            [-33554436, 3],
            "--event-cuts has -33554436, and values are compared as float32",
        ),
        (rows(value=[1.0]), None, [1e300], "--event-cuts must be ascending numbers"),
        (
            rows(value=pl.Series([16777216, 16777217], dtype=pl.Float32)),
            "value",
            None,
            r"'value' holds 16777216, and float32 does not tell whole numbers from 16777216 on from their neigh",
        ),
        (
            rows(value=[float(n) for n in range(33)]),
            "value",
            None,
            r"'value' has 33 different values \(--event-column\); at most 32 .* with --event-cuts, such as",
        ),
        (
            rows(stars=[1, 16777217, None, 16777216]),
            "stars",
            None,
            r"'stars' holds 16777216 and 16777217, which are the same number as float32 \(--event-column\)",
        ),
        (rows(value=[1.0]), None, list(range(255)), "--event-cuts has 255 numbers; at most 254"),
    ],
)
def test_what_cannot_be_events_is_refused(frame, column, cuts, message):
    with pytest.raises(DataError, match=message):
        choose_events(frame, column, cuts)


def test_fields_of_requests_are_counted_in_the_order_of_the_alphabet():
    frame = rows(value=[1.0, 2.0, 3.0], device=["tv", "phone", None], hour=[9, 21, 9])
    fields = choose_context(frame, ["hour", "device"])
    assert [(field.name, field.values) for field in fields] == [
        ("hour", ["21", "9"]), ("device", ["phone", "tv"]),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"without a column 'place' \(--context-columns\)"):
        choose_context(frame, ["place"])
    for name in ("user_id", "item_id", "timestamp"):
        with pytest.raises(DataError, match=f"--context-columns names '{name}', which every interaction has"):
            choose_context(rows(user_id=["u"], item_id=["a"], timestamp=[1]), [name])
    with pytest.raises(DataError, match="--context-columns names 'hour' twice"):
        choose_context(frame, ["hour", "device", "hour"])
    many = rows(place=[str(n) for n in range(10_001)])
    with pytest.raises(DataError, match="10,001 different values; at most 10,000"):
        choose_context(many, ["place"])


# -- where they are kept ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toys") / "toy")


def test_the_card_keeps_them_and_cards_without_them_still_read(toy):
    card = read_card(toy)
    assert card.events == EventCodes(
        column="value", names=["1", "2", "3", "4", "5"], cuts=[2.0, 3.0, 4.0, 5.0]
    )
    old = DatasetCard.model_validate(card.model_dump(exclude={"events", "context"}))
    assert (old.events, old.context) == (None, [])


def test_a_checkpoint_keeps_them_with_the_catalogue(toy):
    catalog = Catalog.load(toy)
    again = Catalog.from_bytes(catalog.to_bytes())
    assert again.events == catalog.events
    assert again.num_events == 5
    assert again.digest() == catalog.digest()
    plain = Catalog(catalog.items, catalog.users)
    assert Catalog.from_bytes(plain.to_bytes()).events is None


def test_another_meaning_of_codes_is_other_data(toy, tmp_path):
    """A run that learnt from ratings as events is not tested on the same rows with intervals as events."""
    data = RecDataModule(str(toy))
    data.setup()
    module = RecModule(functools.partial(Watches))
    module.build(data.catalog)
    module.learn(data)
    assert set(module.trained_on) == {"dataset", "split", "catalogue", "coding"}
    data.catalog.events = EventCodes(column="value", names=["low", "high"], cuts=[4.0])
    with pytest.raises(RecloomError, match="trained on another coding"):
        check_data(module.trained_on, data)


# -- what a recommender reads -------------------------------------------------------------------------


def expected(user: Tensor, items: Tensor) -> Tensor:
    """The value that the toy gives each pair, which is its code too; 0 where padded."""
    return (1 + (7 * (user[:, None] - 1) + 3 * (items - 1)) % 5) * (items > 0)


class Watches(Recommender):
    """Keeps the batches that it scores and learns from; likes the items after those of high events."""

    inputs: ClassVar = ("history", "history_event")
    max_len = 6
    scored: ClassVar[list[Batch]] = []

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.weight = nn.Parameter(torch.ones(catalog.num_events + 1))

    def score(self, batch: Batch) -> Tensor:
        self.scored.append(batch)
        worth = self.weight.cumsum(0)[batch.history_event] * (batch.history > 0)  # (B, L)
        after = batch.history % self.num_items + 1
        table = torch.zeros(len(batch), self.num_items + 1).scatter_add(1, after, worth)
        return table.gather(1, batch.candidates.expand(len(batch), -1))


class Watching(Loss):
    """Keeps the training batches."""

    learnt: ClassVar[list[Batch]] = []

    def forward(self, recommender: Recommender, batch: Batch) -> Tensor:
        self.learnt.append(batch)
        return recommender.weight.square().sum()


def test_training_evaluation_and_recommendation_read_the_same_codes(toy, tmp_path, monkeypatch, capsys):
    import lightning as L

    Watches.scored.clear()
    Watching.learnt.clear()
    module, data = RecModule(functools.partial(Watches), Watching()), RecDataModule(str(toy), batch_size=8)
    with silence():
        trainer = L.Trainer(
            accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(module, data)
    assert Watching.learnt
    for batch in Watching.learnt:
        assert torch.equal(batch.history_event, expected(batch.user, batch.history))
        assert torch.equal(batch.label_event, expected(batch.user, batch.labels))
    assert len(Watches.scored) > 0
    for batch in Watches.scored:
        assert torch.equal(batch.history_event, expected(batch.user, batch.history))
        assert (batch.history_event > 0).any()
        assert not batch.label_event.numel()  # what is asked for is not told
    run = Run(tmp_path, module.eval(), toy)
    Watches.scored.clear()
    run.recommend(["i3", "i4"])
    run.recommend(["i3", "nothing", "i4"], events=[5, 4, 1])
    assert [batch.history_event.tolist() for batch in Watches.scored] == [[[0, 0]], [[5, 1]]]
    best = [run.recommend(["i3", "i8"], events=events, k=1)[0].item_id for events in ([5, 1], [1, 5])]
    assert best == ["i4", "i9"]
    monkeypatch.setattr("recloom.runs.run.load", lambda *_, **__: run)
    Watches.scored.clear()
    main(["recommend", "run", "--history", "i3", "i8", "--events", "5", "1", "--k", "1"])
    assert "i4" in capsys.readouterr().out
    assert Watches.scored[0].history_event.tolist() == [[5, 1]]
    with pytest.raises(SystemExit):
        main(["recommend", "run", "--users", "u1", "--events", "5"])
    assert "--events says what happened with the items of --history" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text(f"data: {{path: {toy}, seed: 0}}\n")
    run.recommend_users(["u1", "u2"])
    last = Watches.scored[-1]
    assert torch.equal(last.history_event, expected(last.user, last.history))
    lists = {}
    for flag, without in (("none", []), ("some", ["--exclude", "i4", "i9", "nothing"])):
        main(["recommend", "run", "--all", "--out", str(tmp_path / flag), "--k", "3", *without])
        lists[flag] = pl.read_parquet(tmp_path / flag)
    assert {"i4", "i9"} <= {*lists["none"]["item_id"]}
    assert not {"i4", "i9"} & {*lists["some"]["item_id"]}
    assert {*lists["some"]["user_id"]} == {*lists["none"]["user_id"]} == {*run.catalog.users["user_id"]}
    with pytest.raises(RecloomError, match="found 1 events for 2 items"):
        run.recommend(["i3", "i4"], events=[5])
    Watches.scored.clear()
    told = "no events of these data, so taken as not known: 3.5, 99, 'good'; their events are '1', '2', '3', '4', '5'"
    with pytest.warns(UserWarning, match=told):
        run.recommend(["i3", "i4", "i5", "i6", "i7"], events=[3.5, 99, "good", "4", None])
    run.catalog.events = EventCodes(column="value", names=["below 3", "3 or more"], cuts=[3.0])
    run.recommend(["i3", "i4"], events=["3.5", "-7"])
    assert [batch.history_event.tolist() for batch in Watches.scored] == [[[0, 0, 0, 4, 0]], [[2, 1]]]
    run.catalog.events = EventCodes(column="event", names=["buy", "view"])
    with pytest.warns(UserWarning, match="not known: 'Buy'; their events are 'buy', 'view'"):
        run.recommend(["i3", "i4"], events=["Buy", "view"])
    run.catalog.events = EventCodes(column="event", names=[str(n) for n in range(40)])
    with pytest.warns(UserWarning, match="'31' and 8 more"):
        run.recommend(["i3"], events=["Buy"])
    run.catalog.events = None
    with pytest.raises(DataError, match="do not say what happened"):
        run.recommend(["i3"], events=[5])


# -- context ------------------------------------------------------------------------------------------


def test_a_row_carries_the_context_of_what_is_asked_for(tmp_path, write_dataset):
    frame = pl.DataFrame(
        {
            "user_id": ["u"] * 4 + ["v"] * 4,
            "item_id": list("abcdbcda"),
            "timestamp": [*range(4), *range(4)],
            "value": [1.0, 5, 5, 1, 5, 1, 1, 5],
            "device": ["tv", "phone", None, "tv", "phone", "phone", "tv", "phone"],
        }
    )
    raw = RawTables(frame.with_columns(line=pl.int_range(1, 9)), [tmp_path / "raw"])
    data = arrange(raw, context_columns=["device"])
    assert [field.values for field in data.context] == [["phone", "tv"]]
    catalog = Catalog(data.items, data.users, events=data.events, context=data.context)
    found = Interactions.from_frame(data.interactions, catalog)
    windows = SequenceRows(found, 4)[torch.tensor([0, 1])]
    assert windows.context.tolist() == [[2], [1]]  # of the last label of each user
    found.positive = 4
    points = PointwiseRows(found, 4)[torch.tensor([0, 2, 7])]
    assert points.context.tolist() == [[2], [0], [1]]
    assert points.history_event.tolist() == [[0, 0, 0, 0], [0, 0, 1, 2], [0, 2, 1, 1]]
    assert Catalog.from_bytes(catalog.to_bytes()).context == catalog.context


def test_a_request_carries_the_context_of_its_held_out_row(tmp_path):
    from recloom.data.prepare import prepare_source

    raw = tmp_path / "log.csv"
    devices = ["tv", "phone", "tv", "phone", "phone", "tv", "radio", "tv"]
    lines = [f"{'uv'[n // 4]},{'abcd'[n % 4]},{n},{device}" for n, device in enumerate(devices)]
    raw.write_text("\n".join(["user,item,time,device", *lines]) + "\n")
    prepare_source(
        "table", tmp_path / "log", raw, options={"keep_columns": ["device"]}, context_columns=["device"]
    )
    data = RecDataModule(str(tmp_path / "log"))
    data.setup()
    names = data.catalog.context[0].values
    assert names == ["phone", "radio", "tv"]
    (test,) = list(data.test_dataloader())
    (valid,) = list(data.val_dataloader())
    told = {part: [names[code - 1] for code in batch.context[:, 0]] for part, batch in
            (("test", test), ("valid", valid))}  # fmt: skip
    assert told == {"test": ["phone", "tv"], "valid": ["tv", "radio"]}
    assert read_card(tmp_path / "log").source.options == {
        "keep_columns": ["device"], "context_columns": ["device"],
    }  # fmt: skip


def test_options_of_events_that_say_nothing_are_refused_by_the_command(tmp_path, capsys):
    raw = tmp_path / "log.csv"
    raw.write_text("user,item,rating\n" + "".join(f"u{n % 3},i{n},{n}\n" for n in range(40)))
    for words, message in (
        (["--event-cuts"], "--event-cuts needs the numbers where intervals begin"),
        (["--event-column", "value"], "column 'value' has 40 different values (--event-column); at most 32"),
        (["--context-columns", "item_id"], "--context-columns names 'item_id'"),
    ):
        with pytest.raises(SystemExit):
            main(["data", "prepare", "table", "--path", str(raw), "--out", str(tmp_path / "log"), *words])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "log").exists()
