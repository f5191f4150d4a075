"""Token tables are built once, mapped from a file, and rows of foreign texts are tokenised once."""

import json
import shutil
from importlib.util import find_spec

import pytest
import torch
from recloom.data.batches.sampler import BatchSampler, loader
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.llm import PromptTemplate, Slot, TokenPrompt
from recloom.llm.texts import tokens
from recloom.llm.texts.text_rows import TextRows
from recloom.llm.texts.tokens import ANSWER, TokenTable, UncutError
from recloom.testing.toys import toy_dataset

pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None, reason="the extra transformers is not installed"
)


@pytest.fixture(scope="module")
def bytewise(train_tokenizer):
    return train_tokenizer([], r"[\s\S]", 257)


def test_a_table_is_built_once_and_mapped_from_its_file(bytewise, tmp_path, monkeypatch):
    texts, starts = ["Heat", "", "Alien 3; War"], [[0], [0], [0, 9]]
    made = TokenTable.build(texts, bytewise, lead=" ", starts=starts, cache=tmp_path / "tokens")
    (file,) = (tmp_path / "tokens").iterdir()
    assert [bytewise.decode(made.row(at)) for at in range(3)] == [" Heat", "", " Alien 3; War"]
    assert made.lengths.tolist() == [5, 0, 13]
    plain = TokenTable.build(texts, bytewise, lead=" ", starts=starts)
    monkeypatch.setattr(tokens, "_tokenised", None)  # so that a second build would fail
    again = TokenTable.build(texts, bytewise, lead=" ", starts=starts, cache=tmp_path / "tokens")
    for one in (made, again):
        assert torch.equal(one.entries, plain.entries)
        assert torch.equal(one.offsets, plain.offsets)
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == [file.name]


def test_a_second_start_does_not_tokenise_a_catalogue_again(bytewise, tmp_path, monkeypatch):
    made, tokenised = tokens._tokenised, []
    monkeypatch.setattr(tokens, "_tokenised", lambda *given: tokenised.append(len(given[0])) or made(*given))
    template = PromptTemplate(
        name="seen",
        user="Seen:\n{seen}\nNext:",
        fields={"seen": {"type": "lines", "max_items": 6, "max_chars": 40}},
    )

    def start(folder):
        catalog = Catalog.load(folder)
        return TokenPrompt(template, bytewise, catalog, {"seen": Slot("history")}).pieces.tables

    data = toy_dataset(tmp_path / "toy")
    first, texts = start(data), sum(tokenised)
    assert texts > Catalog.load(data).num_items
    assert [path.suffix for path in (data / ".cache" / "tokens").iterdir()] == [".npy"]
    tokenised.clear()
    again = start(data)
    assert tokenised == []
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.entries, other.entries)
    shutil.rmtree(data / ".cache")
    (data / ".cache").write_text("no folder can be made here")
    assert [len(table) for table in start(data)] == [len(table) for table in first]
    assert sum(tokenised) == texts


def test_what_determines_the_tokens_determines_the_file(bytewise, train_tokenizer, tmp_path):
    other = train_tokenizer(["Heat Heat"], r"\S+", 260)
    recipes = [
        (["Heat"], bytewise, {}), (["Heap"], bytewise, {}), (["He", "at"], bytewise, {}), (["Heat"], other, {}),
        (["Heat"], bytewise, {"lead": " "}), (["Heat"], bytewise, {"tail": "\n"}),
        (["Heat"], bytewise, {"starts": [[2]]}),
    ]  # fmt: skip
    for texts, tokenizer, options in recipes:
        TokenTable.build(texts, tokenizer, cache=tmp_path, **options)
    assert len([*tmp_path.iterdir()]) == len(recipes)


def test_a_text_whose_end_is_joined_to_its_neighbour_is_refused(train_tokenizer):
    joins = train_tokenizer(["(1995)\n(1995)\n"] * 20, r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+", 300)
    with pytest.raises(UncutError, match=r"Heat \(1995\)"):
        TokenTable.build(["Up", "Heat (1995)"], joins)
    table = TokenTable.build(["Up", "Heat (1995)"], joins, tail="\n")
    assert joins.decode(table.row(1)) == "Heat (1995)\n"


@pytest.mark.parametrize("side", ["sequence", "decoder"])
def test_foreign_rows_keep_instruction_and_answer_whole(bytewise, side):
    prompts, answers = ["Is it good?\nAnswer: ", "So? ", "x" * 60], ["Yes.", "No.", "Yes."]
    with pytest.warns(UserWarning, match="1 of 3 rows have more than 40 tokens and are left out"):
        rows = TextRows(prompts, answers, bytewise, side=side, max_tokens=40)
    assert (len(rows), rows.dropped) == (2, 1)
    batch = rows.tokens(torch.tensor([1, 0]))
    whole = [
        bytewise(p + (a if side == "sequence" else ""))["input_ids"]
        for p, a in (("So? ", "No."), (prompts[0], "Yes."))
    ]
    end = [bytewise.eos_token_id]
    assert batch.lists() == [row + (end if side == "sequence" else []) for row in whole]
    last = batch.tokens.flatten()[batch.answer]
    assert bytewise.decode(last) == "  "
    said = batch.tokens[batch.slot == ANSWER] if side == "sequence" else batch.target[batch.target_mask]
    assert bytewise.decode(said) == "No.<end>Yes.<end>"
    assert (batch.target is None) == (side == "sequence")


def test_answers_are_joined_to_prompts_as_the_tokeniser_joins_the_whole(train_tokenizer):
    joins = train_tokenizer(["Answer: Yes", "Answer: No"] * 20, r" ?\p{L}+|[^\p{L}]", 300)
    rows = TextRows(["Answer:", "Answer: "], [" Yes", "No"], joins)
    batch = rows.tokens(torch.tensor([0, 1]))
    assert [joins.decode(row) for row in batch.lists()] == ["Answer: Yes<end>", "Answer: No<end>"]
    assert batch.lists()[1][:-1] == joins("Answer: No")["input_ids"]  # the blank goes with the answer
    assert joins.decode(batch.tokens[1][batch.slot[1] == ANSWER]) == " No<end>"


def test_a_loader_gathers_foreign_rows_as_it_gathers_others(bytewise):
    rows = TextRows([f"{n}? " for n in range(10)], [str(n) for n in range(10)], bytewise)
    order = rows.epoch(torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(10))
    data = loader(rows, BatchSampler(len(rows), 4, rows.epoch, seed=3))
    batches = [*data]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    said = [bytewise.decode(row) for batch in batches for row in batch.text.lists()]
    assert sorted(said) == [f"{n}? {n}<end>" for n in range(10)]
    assert said != sorted(said)
    half = batches[0].rows(slice(0, 2))
    assert half.text.lists() == batches[0].text.lists()[:2]


def test_rows_without_their_answers_are_refused(bytewise):
    with pytest.raises(RecloomError, match="each prompt needs an answer; found 2 and 1"):
        TextRows(["a", "b"], ["c"], bytewise)


def test_rows_of_a_published_file_are_those_of_its_strings(real_data, train_tokenizer):
    file = real_data / "tallrec" / "movie_test.json"
    found = json.loads(file.read_text("utf-8"))[:200]
    prompts = [f"{row['instruction']}\n{row['input']}\nAnswer:" for row in found]
    tokenizer = train_tokenizer(prompts[:50], r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+", 1000)
    rows = TextRows(prompts, [" " + row["output"] for row in found], tokenizer)
    batch = rows.tokens(torch.arange(200))
    wholes = tokenizer([f"{prompt} {row['output']}" for prompt, row in zip(prompts, found, strict=True)])[
        "input_ids"
    ]
    assert batch.lists() == [[*row, tokenizer.eos_token_id] for row in wholes]
    assert {tokenizer.decode(batch.tokens[at][batch.slot[at] == ANSWER]) for at in range(200)} == {
        " Yes.<end>",
        " No.<end>",
    }
