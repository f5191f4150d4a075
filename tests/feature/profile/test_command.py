"""`recloom profile`: checked rows that say what they were built from, each reply paid for once."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import polars as pl
import pyarrow.parquet as pq
import pytest
from recloom.cli.main import main
from recloom.data.card import read_card
from recloom.data.split import parts_of, write_split
from recloom.errors import DataError, RecloomError
from recloom.llm.client.options import LLMOptions
from recloom.llm.fake import Fake
from recloom.schemas import SplitSpec
from recloom_feature.profile.command import profile

KINDS = ("item", "user", "keywords", "topics", "title", "reason")
ITEM_KINDS = ("item", "keywords", "topics", "title")


@dataclass(frozen=True)
class Listening(Fake):
    """Fake that remembers every conversation."""

    heard: list[str] = field(default_factory=list, compare=False)
    without_effect: ClassVar[tuple[str, ...]] = ("heard",)

    def generate(self, messages, **options):
        self.heard.append("\n".join(message["content"] for message in messages))
        return super().generate(messages, **options)


@pytest.fixture
def data(tmp_path, write_dataset) -> Path:
    """Six items and four users; the last item of each is held out, and i5 and i6 occur nowhere else."""
    histories = {"ann": "i1 i2 i3 i4 i5", "bob": "i2 i1 i4 i3", "cat": "i3 i4 i6", "dan": "i1"}
    rows = [(u, i, t) for u, items in histories.items() for t, i in enumerate(items.split())]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    frame = frame.with_columns(value=pl.col("timestamp") % 5 + 0.5)
    titles = ["Heat", "Alien", "Casino", "Brazil", "Secret Ending", "Quiet Finale"]
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(1, 7)], "title": titles, "year": [1995, 1979, 1995, 1985, 2001, 2002],
         "genres": ["Crime", "Horror", None, "", "War", "Drama"]}
    )  # fmt: skip
    return write_dataset(tmp_path / "data", frame, items)


@pytest.fixture
def run(data, tmp_path):
    """A function (kind, model, **options) that makes a profile and returns its rows by id."""
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("user_id,item_id\nann,i1\nbob,i3\ndan,i2\n")

    def make(kind: str, model=None, out: str = "out.parquet", ledger: str = "l.sqlite", **options):
        llm = LLMOptions(model or Fake(), **({"ledger": tmp_path / ledger} | options.pop("llm", {})))
        extra = {"pairs": pairs} if kind == "reason" else {}
        profile(data, kind=kind, out=tmp_path / out, llm=llm, **extra, **options)
        return pl.read_parquet(tmp_path / out).to_dicts()

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_asks_nothing_and_writes_the_same_bytes(run, tmp_path, kind):
    model = Listening()
    first = run(kind, model)
    asked = len(model.heard)
    assert asked == len(first) == {"reason": 3, "user": 4}.get(kind, 6)
    assert run(kind, model, out="again.parquet") == first
    assert len(model.heard) == asked
    run(kind, model, out="fresh.parquet", ledger="fresh.sqlite")
    assert len(model.heard) == 2 * asked
    files = {(tmp_path / f"{name}.parquet").read_bytes() for name in ("out", "again", "fresh")}
    assert len(files) == 1
    run(kind, model)  # over its own file
    assert (tmp_path / "out.parquet").read_bytes() in files
    assert not list(tmp_path.glob("*.failures.jsonl"))


def test_columns_and_metadata_say_what_it_is(run, data, tmp_path):
    (row, *_) = run("user")
    assert list(row) == ["user_id", "text", "summary", "aspects", "topics", "source", "prompt", "key"]
    assert pl.read_parquet_schema(tmp_path / "out.parquet")["source"] == pl.List(pl.Int64)
    made = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"recloom.profile"])
    card = read_card(data)
    assert made["data_hash"] == card.data_hash()
    assert made["split_hash"] == write_split(data, SplitSpec())[1].parts_digest
    assert (made["prompt"], made["model"]["class"]) == (row["prompt"], "Fake")
    assert row["prompt"].startswith("user-profile@")
    assert len(row["key"]) == 64


def test_the_text_goes_straight_into_embed(run, data, tmp_path, capsys):
    rows = run("item")
    said = capsys.readouterr().out
    assert "6 of 6, 0 asked twice, 0 failed\n" in said
    assert "left out" not in said
    assert "6 sent, 0 without a response" in said
    (line,) = (line for line in said.splitlines() if line.startswith("next: recloom "))
    main(line.removeprefix("next: recloom ").split())
    vectors = pl.read_parquet(tmp_path / "out-vectors.parquet")
    assert vectors["item_id"].to_list() == [row["item_id"] for row in rows]
    from recloom.llm.texts.vectors import text_hash

    assert vectors["text_hash"].to_list() == [text_hash(row["text"]) for row in rows]


@pytest.mark.fact("A3.1")
def test_only_the_first_half_of_the_training_history_is_shown(run):
    model = Listening()
    rows = {row["user_id"]: row["source"] for row in run("user", model, first=30)}
    assert {user: len(source) for user, source in rows.items()} == {
        "ann": 2,
        "bob": 1,
        "cat": 1,
        "dan": 1,
    }  # n=3,2,1,1
    assert "Heat, rated 0.5\n- Alien, rated 1.5\n<" in model.heard[0]
    rows = {row["user_id"]: row["source"] for row in run("user", first=1, out="one.parquet")}
    assert {len(source) for source in rows.values()} == {1}


def test_else_the_most_recent_ones_are_shown_oldest_first(run):
    model = Listening()
    rows = {row["user_id"]: row["source"] for row in run("user", model, last=2)}
    assert rows["ann"] == [1, 2]
    assert "<history>\n- Alien, rated 1.5\n- Casino, rated 2.5\n</history>" in model.heard[0]


def test_prompts_show_the_factors_of_the_scenario_and_the_closed_list(run, tmp_path):
    (tmp_path / "topics.txt").write_text("war\n\nlove\n")
    model = Listening()
    (row, *_) = run("user", model, scenario="books", topics=tmp_path / "topics.txt")
    assert "- length and complexity\n" in model.heard[0]
    assert "are:\n- war\n- love\nThe summary" in model.heard[0]
    assert set(row["topics"]) <= {"war", "love"}
    model = Listening()
    run("topics", model, topics=tmp_path / "topics.txt", columns=["genres"], out="topics.parquet")
    assert len(model.heard) == 4  # the other two items have no genres
    assert all("title" not in text.partition("<item>\n")[2] for text in model.heard)


def test_garbage_is_asked_again_once_then_counted_and_kept(run, tmp_path, capsys):
    for policy in ("garbage", "truncated_json"):
        model = Listening(policy=policy)
        assert run("keywords", model, out=f"{policy}.parquet") == []
        assert len(model.heard) == 12
        said = capsys.readouterr().out
        assert "0 of 6, 6 asked twice, 6 failed\nwhat failed, and why: " in said
        assert "next:" not in said
        lines = (tmp_path / f"{policy}.failures.jsonl").read_text().splitlines()
        failures = [json.loads(line) for line in lines]
        assert [one["of"] for one in failures] == [f"i{n}" for n in range(1, 7)]
        assert all(one["reason"] and one["texts"] for one in failures)
    assert pl.read_parquet(tmp_path / "garbage.parquet").columns[:3] == ["item_id", "text", "keywords"]


def test_a_later_success_removes_the_failures_of_an_earlier_run(run, tmp_path):
    run("title", Fake(policy="garbage"))
    assert (tmp_path / "out.failures.jsonl").exists()
    run("title", overwrite=True)
    assert not (tmp_path / "out.failures.jsonl").exists()


def test_an_invented_citation_is_asked_again_and_fails(run, tmp_path, capsys):
    model = Listening(policy="hallucinate", share=1.0)
    assert run("reason", model) == []
    assert len(model.heard) == 6
    assert (
        "That answer cannot be used: cites: the record has no attribute 'invention'; it has title, year, genres"
        in (model.heard[3])
    )
    lines = [json.loads(line) for line in (tmp_path / "out.failures.jsonl").read_text().splitlines()]
    assert [line["of"] for line in lines] == ["ann i1", "bob i3", "dan i2"]
    some = run("reason", Fake(policy="hallucinate", share=0.5, seed=1), out="some.parquet")
    kept = {(row["user_id"], row["item_id"]): row["cites"] for row in some}
    assert all(cite["attribute"] in ("title", "genres", "year") for cites in kept.values() for cite in cites)


def test_a_split_of_the_disk_is_used_as_in_training(run, data):
    spec = SplitSpec(strategy="random", test=0.3, seed=3)
    folder, _ = write_split(data, spec)
    one = run("user", split_path=folder)
    assert one == run("user", split=spec, out="same.parquet")
    _, part = parts_of(data, read_card(data), spec)
    train = {row for row, name in enumerate(part) if name == "train"}
    assert {row for profile in one for row in profile["source"]} <= train


def test_a_plan_counts_the_calls_and_writes_nothing(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    main(["llm", "plan", "profile", str(data), "--kind", "user", "--out", "u.parquet", "--llm.model", "Fake"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["calls", "4"] in lines
    assert ["completion", "tokens", "at", "most", "2,800"] in lines
    assert sorted(tmp_path.iterdir()) == before


def test_a_budget_that_ends_keeps_what_was_paid_for(run, tmp_path):
    with pytest.raises(
        RecloomError,
        match=r"(?s)4 of 4 calls.*\n4 of 6 responses are kept.*its limits \(--llm.max_calls\) count",
    ):
        run("item", llm={"max_calls": 4})
    assert not (tmp_path / "out.parquet").exists()
    model = Listening()
    run("item", model)
    assert len(model.heard) == 6  # another model: Listening has a class of its own


def test_after_a_budget_only_the_rest_is_asked(run, tmp_path):
    model = Listening()
    with pytest.raises(RecloomError):
        run("item", model, llm={"max_calls": 4})
    assert len(run("item", model)) == 6
    assert len(model.heard) == 6


def test_offline_without_replies_is_refused_with_the_next_step(run, tmp_path):
    with pytest.raises(
        RecloomError,
        match=r"--llm.offline sends nothing, and there is no ledger at .*leave --llm.offline out",
    ):
        run("item", llm={"offline": True})
    run("keywords")
    with pytest.raises(RecloomError, match=r"lacks the responses to 6 of 6 requests .*`recloom llm import`"):
        run("item", llm={"offline": True}, out="new.parquet")
    assert not (tmp_path / "new.parquet").exists()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("item", {"first": 30}, "--kind item shows none"),
        ("user", {"last": 201}, "at most 200 lines; found 201"),
        ("user", {"first": 0}, "first must be at least 1"),
        ("user", {"pairs": Path("p.csv")}, "no other kind takes it"),
        ("item", {"columns": ["plot"]}, "no column 'plot'; they have title, year, genres"),
        ("topics", {"topics": Path("absent.txt")}, "absent.txt does not exist"),
    ],
)
def test_wrong_options_are_reported_before_any_request(run, tmp_path, kind, options, message):
    model = Listening()
    with pytest.raises(RecloomError, match=message):
        run(kind, model, **options)
    assert not model.heard
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,item\nann,i1\n", "must have the columns user_id and item_id; found user_id, item"),
        ("user_id,item_id\nann,i1\neve,i1\n", "lists no user_id 'eve'"),
        ("user_id,item_id\nann,i9\n", "lists no item_id 'i9'"),
        ("user_id,item_id\nann,i1\nann,i1\n", "is there twice"),
        ("user_id,item_id\n", r"pairs.csv holds no row; expected a user_id and an item_id on each"),
    ],
)
def test_wrong_pairs_are_reported(run, tmp_path, text, message):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        run("reason")


def test_pairs_are_a_file_and_no_run(run, tmp_path):
    (tmp_path / "pairs.csv").unlink()
    (tmp_path / "pairs.csv").mkdir()
    with pytest.raises(
        DataError, match=r"pairs.csv is a folder; name the file in it, such as .*predictions.parquet"
    ):
        run("reason")


def test_topics_must_be_a_list(run, tmp_path):
    (tmp_path / "one.txt").write_text("war\n")
    with pytest.raises(RecloomError, match="expected 2 to 200 topics"):
        run("topics", topics=tmp_path / "one.txt")


def test_a_file_of_something_else_is_not_replaced(run, tmp_path):
    run("title")
    before = (tmp_path / "out.parquet").read_bytes()
    with pytest.raises(
        RecloomError, match=r"made with another kind, prompt, answer_tokens, topics.*--overwrite"
    ):
        run("topics")
    assert (tmp_path / "out.parquet").read_bytes() == before
    (tmp_path / "out.parquet").write_text("a letter")
    with pytest.raises(RecloomError, match="made by another command"):
        run("title")
    with pytest.raises(RecloomError, match="is not a folder"):
        run("title", out="none/out.parquet")
    with pytest.raises(RecloomError, match=r"--out .*out\.json: expected a name that ends in \.parquet"):
        run("title", out="out.json")
    (tmp_path / "no.sqlite").write_text("a letter")
    with pytest.raises(
        RecloomError, match=r"is not a ledger. Name another file with --ledger \(--llm.ledger in a"
    ):
        run("title", out="new.parquet", llm={"ledger": tmp_path / "no.sqlite"})


def test_users_without_a_training_history_are_left_out_and_counted(run, capsys):
    rows = run("user", split=SplitSpec(min_user=3))  # dan has one interaction
    assert [row["user_id"] for row in rows] == ["ann", "bob", "cat"]
    assert "1 left out: no training interaction" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("--kind film", "--kind takes one of item, user, keywords, topics, title, reason; found 'film'."),
        ("--split.valid 3", "--split.valid: Input should be less than 1; found '3'."),
        ("--split.strategy lst", "--split.strategy takes one of last, time, random, users, source; found 'lst'. Did"),
        ("--scenari books", "--scenari is not an option. Did you mean --scenario?"),
    ],
)  # fmt: skip
def test_a_wrong_option_of_the_command_line_is_named(data, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    given = [
        "profile",
        str(data),
        "--kind",
        "item",
        "--out",
        str(tmp_path / "o.parquet"),
        "--llm.model",
        "Fake",
    ]
    with pytest.raises(SystemExit):
        main([*given, *more.split()])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o.parquet").exists()


def test_prompts_come_through_the_hook():
    from recloom.plugins import collect_with_owner
    from recloom_feature.profile.profiles import PROMPTS

    owners = collect_with_owner("register_prompts")
    assert {owners[name][1] for name in PROMPTS.values()} == {"feature"}
