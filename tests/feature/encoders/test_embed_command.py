"""`recloom embed`: each text once, known ones never again, files whole or absent."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import recloom
from recloom.cli.main import main
from recloom.errors import DataError, RecloomError
from recloom.llm import TextEncoder
from recloom.llm.texts import vectors as text_vectors
from recloom.llm.texts.hashing import HashingNgrams
from recloom_feature.encoders.command import embed


@dataclass(frozen=True)
class Counting(TextEncoder):
    """Length of the text and 1; remembers what it was asked."""

    stop_after: int | None = None
    asked: list[str] = field(default_factory=list, compare=False)

    dim = 2
    normalized = False
    max_tokens = None
    without_effect = ("stop_after", "asked")

    def encode(self, texts):
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        self.asked.extend(texts)
        return np.array([[len(text), 1] for text in texts], np.float32).reshape(-1, 2)


@pytest.fixture
def data(tmp_path, write_dataset):
    frame = pl.DataFrame(
        {"user_id": ["u"] * 5, "item_id": ["a", "b", "c", "d", "e"], "timestamp": [1, 2, 3, 4, 5]}
    )
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d", "e"],
            "title": ["Heat", "Alien", "Heat", "", None],
            "plot": ["rob", "", "rob", "  ", "war"],
        }
    )
    return write_dataset(tmp_path / "data", frame, items)


def vectors(path):
    return {row["item_id"]: row["vector"] for row in pl.read_parquet(path).to_dicts()}


def test_each_text_is_encoded_once_and_items_without_text_are_left_out(data, capsys):
    encoder = Counting()
    embed(data, encoder=encoder)
    assert sorted(encoder.asked) == ["Alien", "Heat"]
    assert vectors(data / "items-vectors.parquet") == {"a": [4, 1], "b": [5, 1], "c": [4, 1]}
    said = capsys.readouterr().out
    assert "items-vectors.parquet: 3 of 5 items, 2 numbers each\n" in said
    assert "2 texts encoded, 0 known before, 2 items without text\n" in said


def test_columns_are_joined_in_order(data):
    encoder = Counting()
    embed(data, encoder=encoder, columns=["plot", "title"], out=data / "v.parquet")
    assert sorted(encoder.asked) == ["Alien", "rob. Heat", "war"]


def test_a_second_run_encodes_what_changed_only(data, tmp_path):
    embed(data, encoder=Counting())
    texts = pl.DataFrame({"item_id": ["a", "b"], "text": ["Heat", "Aliens"]})
    texts.write_parquet(tmp_path / "texts.parquet")
    again = Counting()
    target = data / "items-vectors.parquet"
    with pytest.raises(
        RecloomError, match=r"holds vectors of the dataset.*those of texts.parquet.*--overwrite"
    ):
        embed(data, encoder=again, texts=tmp_path / "texts.parquet", out=target)
    embed(data, encoder=again, texts=tmp_path / "texts.parquet", out=target, overwrite=True)
    assert again.asked == ["Aliens"]
    assert vectors(data / "items-vectors.parquet") == {"a": [4, 1], "b": [6, 1]}


def test_an_interrupted_run_goes_on(data, monkeypatch):
    monkeypatch.setattr(text_vectors, "BLOCK", 1)
    monkeypatch.setattr(text_vectors, "SAVED_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        embed(data, encoder=Counting(stop_after=1))
    assert not (data / "items-vectors.parquet").exists()
    second = Counting()
    embed(data, encoder=second)
    assert second.asked == ["Alien"]  # the shorter text came first
    assert vectors(data / "items-vectors.parquet") == {"a": [4, 1], "b": [5, 1], "c": [4, 1]}
    assert not list(data.glob(".*"))


def test_another_encoder_does_not_mix_in(data):
    embed(data, encoder=Counting())
    with pytest.raises(
        RecloomError, match=r"was made with .*Counting.*asked for is .*HashingNgrams.*--overwrite"
    ):
        embed(data)
    embed(data, encoder=HashingNgrams(dim=8), overwrite=True)
    assert len(vectors(data / "items-vectors.parquet")["a"]) == 8


def test_numbers_that_are_not_finite_are_refused(data):
    @dataclass(frozen=True)
    class Broken(Counting):
        def encode(self, texts):
            return super().encode(texts) * np.float32("nan")

    with pytest.raises(RecloomError, match="not finite"):
        embed(data, encoder=Broken())
    assert not (data / "items-vectors.parquet").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["blurb"]}, "no text column 'blurb'; the columns are"),
        ({"of": "users"}, "Name some with --columns"),
        ({"texts": "gone.parquet"}, "there is no file"),
    ],
)
def test_wrong_input_is_reported(data, options, message):
    with pytest.raises(DataError, match=message):
        embed(data, encoder=Counting(), **{k: data / v if k == "texts" else v for k, v in options.items()})


def test_a_broken_file_of_vectors_is_named(data):
    (data / "items-vectors.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(RecloomError, match="cannot be read as vectors"):
        embed(data, encoder=Counting())


def test_from_the_command_line_to_a_trained_model(data, tmp_path, capsys):
    main(["embed", str(data), "--encoder", "HashingNgrams", "--encoder.dim", "16"])
    assert len(vectors(data / "items-vectors.parquet")["a"]) == 16
    (line,) = re.findall(r"^next: recloom (.*)", capsys.readouterr().out, re.M)
    main(
        [*line.split(), "--run", str(tmp_path / "run"), "--model.recommender.dim", "4", "--trainer.max_epochs", "1",
         "--trainer.enable_progress_bar", "false"]
    )  # fmt: skip
    main(["recommend", str(tmp_path / "run"), "--history", "Alien", "--k", "2"])
    assert "Heat" in capsys.readouterr().out


def test_vectors_lie_beside_their_texts_and_are_named_after_them(data, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    texts = tmp_path / "elsewhere" / "said.parquet"
    pl.DataFrame({"item_id": ["a"], "text": ["rob"]}).write_parquet(texts)
    embed(data, encoder=Counting(), texts=texts)
    assert vectors(tmp_path / "elsewhere" / "said-vectors.parquet") == {"a": [3, 1]}
    pl.DataFrame({"user_id": ["u"], "text": ["likes"]}).write_parquet(texts.with_name("liked.parquet"))
    capsys.readouterr()
    embed(data, of="users", encoder=Counting(), texts=texts.with_name("liked.parquet"))
    target = tmp_path / "elsewhere" / "liked-vectors.parquet"
    assert (
        f"KAR reads it beside vectors of items:\n  --data.user_vectors {target}\n" in capsys.readouterr().out
    )


def test_whose_histories_vectors_of_users_tell_decides_who_reads_them(data, tmp_path, capsys):
    texts = tmp_path / "liked.parquet"
    for first, words in (
        (
            30,
            "KAR reads it beside vectors of items, on the split of its texts:\n  --data.known_first 30 --data",
        ),
        (None, "KAR refuses it"),
    ):
        made = json.dumps({"data_hash": "d", "split_hash": "s", "first": first})
        table = pl.DataFrame({"user_id": ["u"], "text": ["likes"]})
        table.write_parquet(texts, metadata={"recloom.profile": made})
        embed(data, of="users", encoder=Counting(), texts=texts, overwrite=True)
        assert words in capsys.readouterr().out


def test_a_broken_file_is_replaced_when_asked(data):
    target = data / "items-vectors.parquet"
    target.write_bytes(b"PAR1 nothing")
    embed(data, encoder=Counting(), overwrite=True)
    assert len(vectors(target)) == 3


def test_a_vector_that_is_not_finite_is_encoded_anew(data):
    target = data / "items-vectors.parquet"
    embed(data, encoder=Counting())
    table = pl.read_parquet(target)
    metadata = pq.read_schema(target).metadata
    damaged = table.with_columns(
        vector=pl.when(pl.col("item_id") == "b").then(pl.lit([float("nan"), 1.0])).otherwise("vector")
    ).to_arrow()
    pq.write_table(damaged.replace_schema_metadata(metadata), target)
    again = Counting()
    embed(data, encoder=again)
    assert again.asked == ["Alien"]
    assert vectors(target)["b"] == [5, 1]


def test_vectors_of_texts_from_another_split_stay(data, tmp_path):
    def texts(folder: str, split: str):
        path = tmp_path / folder / "texts.parquet"
        path.parent.mkdir()
        table = pl.DataFrame({"item_id": ["a"], "text": [split]}).to_arrow()
        made = json.dumps({"data_hash": "d", "split_hash": split, "first": None})
        pq.write_table(table.replace_schema_metadata({"recloom.profile": made}), path)
        return path

    target = tmp_path / "vectors.parquet"
    embed(data, encoder=Counting(), texts=texts("one", "s1"), out=target)
    with pytest.raises(RecloomError, match="written from other training rows"):
        embed(data, encoder=Counting(), texts=texts("two", "s2"), out=target)
    assert vectors(target)["a"] == [2, 1]


def test_vectors_that_no_model_reads_are_mentioned(data, tmp_path):
    embed(data, encoder=Counting())
    options = {
        "config": {"data": {"vectors": str(data / "items-vectors.parquet")}, "trainer": {"max_steps": 1}}
    }
    with pytest.warns(
        UserWarning, match="SASRec as it is configured reads no vectors of items.*changes nothing"
    ):
        recloom.fit(data, "SASRec", {"dim": 4}, run=tmp_path / "one", **options)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        recloom.fit(data, "SASRec", {"dim": 4, "item_input": "vector"}, run=tmp_path / "two", **options)
    assert not [one for one in seen if "reads no vectors" in str(one.message)]


def test_texts_of_new_items_come_from_the_file_that_items_add_reads(data, tmp_path):
    (tmp_path / "new.csv").write_text("item_id,title\nx,Ronin\n", "utf-8")
    embed(
        data, encoder=Counting(), texts=tmp_path / "new.csv", columns=["title"], out=tmp_path / "new.parquet"
    )
    assert vectors(tmp_path / "new.parquet") == {"x": [5, 1]}
