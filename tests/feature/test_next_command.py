"""What a command prints behind `next:` can be typed as it stands, and its lines fit a narrow terminal."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.split import write_split
from recloom.next_steps import split_words
from recloom.schemas import SplitSpec

EPOCH = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
TIME = ["--split.strategy", "time", "--split.test", "0.3"]


@pytest.fixture
def go(tmp_path_factory, monkeypatch, capsys):
    """Run a command on a dataset in `my data`; the words of the command that it names next, and what it said."""
    folder = tmp_path_factory.mktemp("next")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    main(["data", "synth", "--like", "movies", "--users", "40", "--items", "60", "--out", "my data"])

    def run(*words: str) -> tuple[list[str], str]:
        import shlex

        capsys.readouterr()
        main(list(words))
        said = capsys.readouterr().out
        found = re.findall(r"^next: recloom (.*)$", said, re.M)
        lines = [line for line in said.splitlines() if not line.startswith(("next: ", "trained: "))]
        assert [line for line in lines if len(line) > 80] == []
        return shlex.split(found[0]) if found else [], said

    return run


def test_from_items_to_a_trained_model(go):
    following, _ = go("profile", "my data", "--kind", "item", "--out", "items.parquet", "--llm.model", "Fake")
    following, _ = go(*following)
    assert Path("items-vectors.parquet").is_file()
    main([*following, *EPOCH])
    assert list(Path("runs").glob("*/SASRec/checkpoints/*.ckpt"))


def test_from_users_to_what_reads_them(go):
    asked = ["my data", "--llm.model", "Fake"]
    following, _ = go("profile", *asked, "--kind", "user", "--first", "9", "--out", "users.parquet")
    none, said = go(*following)
    assert none == []
    assert "KAR reads it beside vectors of items, on the split of its texts:" in said
    options = ["--data.known_first", "9", "--data.user_vectors", "users-vectors.parquet"]
    assert said.splitlines()[-1].split() == options
    rated = [
        "--data.positive",
        "4",
        "--data.candidates",
        "rated",
        "--data.seen",
        "kept",
        "--model.metrics",
        "auc",
    ]
    go("embed", "my data")
    items = ["--data.vectors", "my data/items-vectors.parquet"]
    main(["fit", "--model", "KAR", "--data", "my data", *items, *options, *rated, *EPOCH])
    following, _ = go("summarize", *asked)
    _, said = go(*following)
    assert "KAR refuses it" in said
    assert Path("my data/summaries-vectors.parquet").is_file()


def test_from_simulated_choices_to_a_model_on_the_same_split(go):
    following, said = go("simulate", "my data", "--llm.model", "Fake", *TIME)
    assert "position bias" in said
    main([*following, *EPOCH])
    write_split(Path("my data"), SplitSpec(strategy="time", test=0.3), Path("parts"))
    following, _ = go("simulate", "my data", "--llm.model", "Fake", "--split_path", "parts", "--overwrite")
    assert following[5:7] == ["--data.split_path", "parts"]
    main([*following, "--run", "again", *EPOCH])


def test_from_pairs_to_measured_reasons(go):
    pairs = pl.DataFrame({"user_id": ["u01", "u02"], "item_id": ["m01", "m10"]})
    pairs.write_csv("pairs.csv")
    asked = ["my data", "--kind", "reason", "--pairs", "pairs.csv", "--llm.model", "Fake"]
    following, _ = go("profile", *asked, "--out", "reasons.parquet")
    _, said = go(*following)
    values = {line.split()[0]: line.split()[1] for line in said.splitlines()[2:5]}
    assert values["faithfulness"] == values["faithful_texts"] == "1.0000"


def test_from_texts_to_chosen_ones_to_a_model_on_the_split_of_their_rounds(go):
    following, said = go("seralm", "texts", "my data", "--out", "texts.parquet", "--llm.model", "Fake")
    assert "nothing is to be chosen" not in said
    Path("fit.yaml").write_text(
        "model:\n  recommender: {class_path: SASRec, init_args: {dim: 8}}\n"
        "data:\n  split: {strategy: time, test: 0.3}\ntrainer: {enable_progress_bar: false}\n"
    )
    more = ["--fit", "fit.yaml", "--times", "1", "--draws", "1", "--max_epochs", "1"]
    following, said = go(*following, *more)
    assert "The language model stays as it was (selection only)." in said
    assert following[:3] == ["fit", "--config", "fit.yaml"]
    main([*following, "--run", "run", "--trainer.max_epochs", "1"])
    assert re.search(r"dim: 8\b", Path("run/config.yaml").read_text())


def test_a_split_as_options():
    assert split_words(SplitSpec(), None) == []
    assert split_words(SplitSpec(strategy="random", seed=3), None) == [
        "--data.split.strategy", "random", "--data.split.seed", "3",
    ]  # fmt: skip
    assert split_words(SplitSpec(), Path("parts")) == ["--data.split_path", "parts"]
