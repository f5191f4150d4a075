"""TALLRec's prompts as interactions: titles are items, each prompt is a user, and what is lost is said."""

import json
import shlex

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.card import read_card
from recloom.data.prepare.own_split import source_parts
from recloom.data.prepare.source import recognise
from recloom.data.readers.tallrec import TALLRec
from recloom.data.split import parts_of
from recloom.errors import DataError
from recloom.schemas import SplitSpec


def prompt(liked, disliked, target, answer="Yes."):
    said = [", ".join(f'"{title}"' for title in titles) for titles in (liked, disliked)]
    return {
        "instruction": "Say whether the user will like it.",
        "input": f"User Preference: {said[0]}\nUser Unpreference: {said[1]}\n"
        f'Whether the user will like the target movie "{target}"?',
        "output": answer,
    }


TRAIN = [prompt(["Up, Up (1999)", "B", "C"], ["D"], "E", "No."), prompt(["B", "C"], ["D", "E"], "F")]
TEST = [prompt([], ["F", 'The "G" Case'], "B", "No."), prompt(["C"], [], "A")]


def write(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, prompts in files.items():
        (folder / f"{name}.json").write_text(json.dumps(prompts, indent=4))
    return folder


def sequences(rows):
    found = rows.group_by("user_id", maintain_order=True).agg(
        pl.format("{}{}", "item_id", pl.col("value").cast(int))
    )
    return dict(found.rows())


def test_a_prompt_is_a_user_and_its_lists_are_interleaved(tmp_path):
    raw = write(tmp_path / "raw", train=TRAIN, test=TEST)
    assert recognise(raw) is TALLRec
    tables = TALLRec().read(raw)
    assert sequences(tables.interactions) == {
        "train/1": ["Up, Up (1999)1", "D0", "B1", "C1", "E0"],
        "train/2": ["D0", "B1", "E0", "C1", "F1"],
        "test/1": ["F0", 'The "G" Case0', "B0"],
        "test/2": ["C1", "A1"],
    }
    assert "4 prompts became 15 interactions, labelled 1 (liked) and 0 (not)" in tables.notes
    assert any(
        "their 8 titles stand for them" in note and "each of 4 prompts is a user" in note
        for note in tables.notes
    )
    assert any(
        note.startswith("warning: 1 prompts hold the target of the prompt before them")
        for note in tables.notes
    )
    assert tables.interactions.filter(user_id="test/2")["line"].to_list() == [7, 7]


def test_histories_of_test_are_context_in_the_split_that_is_kept(tmp_path, capsys):
    raw = write(tmp_path / "raw", train=TRAIN, test=TEST)
    data = tmp_path / "data"
    main(["data", "prepare", str(raw), "--out", str(data), "--keep-split"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "the split of the source is kept: 10 train, 0 valid, 2 test, 3 context" in shown
    _, part = parts_of(data, read_card(data), SplitSpec())
    rows = pl.read_parquet(data / "interactions.parquet").with_columns(part.cast(pl.String).alias("in"))
    assert rows.filter(user_id="test/1")["in"].to_list() == ["context", "context", "test"]
    assert (
        pl.read_parquet(data / "items.parquet").filter(item_id='The "G" Case')["title"].item()
        == 'The "G" Case'
    )


def test_books_have_authors(tmp_path):
    text = ('User Preference: "Sula" written by Toni Morrison, "Say "No", Twice" written by C. D.\n'
            'User Unpreference: \n'
            'Whether the user will like the target book ""Peach: A Year" written by D. M."?')  # fmt: skip
    path = tmp_path / "books.json"
    path.write_text(json.dumps([{"instruction": "x", "input": text, "output": "No."}]))
    assert recognise(path) is TALLRec
    tables = TALLRec().read(path)
    assert tables.items.rows() == [
        ("Sula written by Toni Morrison", "Sula", "Toni Morrison"),
        ('Say "No", Twice written by C. D.', 'Say "No", Twice', "C. D."),
        ("Peach: A Year written by D. M.", "Peach: A Year", "D. M."),
    ]
    assert "part" not in tables.interactions.columns


def test_prompts_that_are_none_are_rejected_with_their_reason(tmp_path):
    broken = [prompt(["A"], [], "B", "Maybe."), prompt(["A", " "], [], "B"), prompt(["A"], [], ""),
              {"instruction": "x", "input": "Hello", "output": "Yes."}]  # fmt: skip
    raw = write(tmp_path / "raw", log=[*TRAIN, *TRAIN, *TRAIN, *broken])
    tables = TALLRec().read(raw / "log.json")
    assert tables.interactions["user_id"].n_unique() == 6
    assert tables.rejected["reason"].to_list() == [
        "output is neither Yes. nor No.", "titles cannot be told apart", "the target is empty",
        "input is no prompt such as User Preference: ... User Unpreference: ...",
    ]  # fmt: skip


def test_prompts_of_several_sets_are_asked_about(tmp_path):
    raw = write(tmp_path / "raw", film_train=TRAIN, film_test=TEST, book_test=TEST)
    with pytest.raises(DataError, match=r"holds the prompts of several sets\. Name the one meant") as error:
        TALLRec().read(raw)
    first, second = [line for line in str(error.value).splitlines() if line.startswith("  ")]
    assert first.endswith(f"--path {raw} --tables film_train.json film_test.json --out DIR")
    main([str(tmp_path / "data") if word == "DIR" else word for word in shlex.split(second)[1:]])
    assert read_card(tmp_path / "data").counts["users"] == 2
    with pytest.raises(
        DataError, match=r"holds no prompts called 'x.json' .--tables.. It has book_test.json"
    ):
        TALLRec(tables=["x.json"]).read(raw)


def test_other_instructions_are_none_of_it(tmp_path):
    path = tmp_path / "alpaca.json"
    path.write_text(json.dumps([{"instruction": "Add.", "input": "1 and 2", "output": "3"}]))
    assert not TALLRec.sniff(path)
    with pytest.raises(DataError, match="whose input begins with 'User Preference:'"):
        TALLRec().read(path)


def test_a_column_may_say_that_rows_are_history_alone():
    rows = pl.DataFrame({"part": ["train", "History", "test"]})
    assert source_parts(rows).to_list() == ["train", "context", "test"]
