"""Prompts gathered from token tables are the prompts that a tokeniser makes of whole strings."""

import copy
from importlib.util import find_spec

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.llm.prompts import PromptTemplate
from recloom.llm.texts.token_prompt import TokenPrompt
from recloom.llm.texts.token_slots import Answer, Slot, TextColumn
from recloom.llm.texts.tokens import ANSWER

from .token_prompt_examples import LIKED, LIKED_SLOTS, LINES, PROMPTS, TITLE, YES_NO, YES_NO_SLOTS

pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None, reason="the extra transformers is not installed"
)


@pytest.fixture(scope="module")
def bytewise(train_tokenizer):
    """A byte a token, so that tokens can be counted by hand."""
    return train_tokenizer([], r"[\s\S]", 257)


@pytest.fixture(scope="module")
def films():
    titles = ["Heat", "Alien 3", "No, or Yes", "[X] <end> Up", None, "Z" * 40]
    items = pl.DataFrame(
        {
            "item_id": list("abcdef"),
            "title": titles,
            "genres": [["Crime", "Drama"], [], None, ["War"], ["Noir"], None],
        }
    )
    return Catalog(items, pl.DataFrame({"user_id": ["u"], "profile": ["likes long films"]}))


def test_texts_are_as_a_template_shows_them_and_data_never_becomes_a_control_token(films, bytewise):
    batch = Batch.of(torch.tensor([[0, 1, 4, 5]]), torch.tensor([[3]]))
    prompt = TokenPrompt(YES_NO, bytewise, films, YES_NO_SLOTS)
    (row,), ((_, user),) = prompt.assemble(batch).lists(), prompt.messages(batch)
    assert bytewise.decode(row).endswith(user["content"])
    assert user["content"] == (
        "Watched, oldest first:\n- Heat\n- [X] < end> Up\n- unknown\nWould they like this one?\n"
        "Title: No, or Yes\nAnswer Yes or No.\nAnswer:"
    )
    assert bytewise.eos_token_id not in row


def test_channels_say_slot_item_field_and_start_of_word(films, bytewise):
    template = PromptTemplate(name="c", user="S\n{seen}\nN: {next}", fields={"seen": LINES, "next": TITLE})
    slots = {
        "seen": Slot("history"),
        "next": Slot("candidate", (TextColumn("title"), TextColumn("genres", "g: "))),
    }
    batch = TokenPrompt(template, bytewise, films, slots).assemble(
        Batch.of(torch.tensor([[1, 2]]), torch.tensor([[1]]))
    )
    text = "S\n- Heat\n- Alien 3\nN: Heat; g: Crime, Drama"
    assert bytewise.decode(batch.tokens[0]) == text
    shown = {"slot": batch.slot, "item": batch.item, "field": batch.field, "word": batch.word.long()}
    found = {name: "".join(map(str, channel[0].tolist())) for name, channel in shown.items()}
    assert found == {
        "slot": "00" + "1" * 6 + "1" * 10 + "000" + "2" * 22,
        "item": "00" + "2" * 6 + "1" * 10 + "000" + "0" * 22,
        "field": "00" + "0" + "1" * 5 + "00" + "1" * 8 + "000" + "1" * 6 + "2" * 16,
        "word": "00"
        + "001000"
        + "0001000001"
        + "000"
        + "0"
        + "1000"
        + "0"
        + "0"
        + "10"
        + "0"
        + "1"
        + "00000"
        + "01"
        + "0000",
    }
    assert batch.words()[0].tolist()[4] == 1
    assert batch.words()[0].max() == 7


def test_layouts_hold_the_same_sequences_and_places(films, bytewise):
    history = torch.tensor([[0, 0, 1], [4, 2, 3], [0, 0, 0], [0, 5, 6]])
    batch = Batch.of(history, torch.tensor([[1, 2, 0], [3, 0, 0], [6, 5, 4], [2, 0, 0]]))
    template = PromptTemplate(
        name="l",
        user="S:\n{seen}\nOf:\n{films}\nSay",
        fields={"seen": LINES, "films": LINES | {"mark": "letter", "max_items": 3}},
    )
    slots = {"seen": Slot("history"), "films": Slot("candidates")}
    options = [{"layout": "left"}, {"layout": "right"}, {"layout": "packed", "width": 190}]
    made = [TokenPrompt(template, bytewise, films, slots, **each).assemble(batch) for each in options]
    rows = made[0].lists()
    assert all(each.lists() == rows for each in made[1:])
    assert made[2].tokens.shape == (2, 190)
    for each in made:
        flat = each.tokens.flatten()
        assert flat[each.answer].tolist() == [row[-1] for row in rows]
        assert torch.equal(each.mask, each.sequence > 0)
        for row, (sequence, asked) in enumerate(zip(each.candidates, batch.candidates, strict=True)):
            for (first, last), item in zip(sequence.tolist(), asked.tolist(), strict=True):
                if item:
                    said = bytewise.decode(flat[first : last + 1]).strip()
                    assert said == prompt_line(films, item), row
                else:
                    assert (first, last) == (-1, -1)
        for number in range(1, 5):
            assert each.positions[each.sequence == number].tolist() == list(range(len(rows[number - 1])))
    assert made[0].mask[:, -1].all()
    assert made[1].mask[:, 0].all()
    index = torch.tensor([3, 1])
    for each in made[:2]:
        some = each.rows(index)
        assert some.lists() == [rows[3], rows[1]]
        assert some.tokens.flatten()[some.answer].tolist() == [rows[3][-1], rows[1][-1]]
        assert some.positions.amax(1).tolist() == [len(rows[3]) - 1, len(rows[1]) - 1]
        said = [bytewise.decode(some.tokens.flatten()[a : b + 1]) for a, b in some.candidates[:, 0].tolist()]
        assert said == [" Alien 3", " No, or Yes"]
        assert some.candidates[0, 1].tolist() == [-1, -1]
    with pytest.raises(RecloomError, match="cannot be taken from packed rows"):
        made[2].rows(index)
    reads = made[2].attention(causal=True)[:, 0]
    one, other = (made[2].sequence[0] == 1).nonzero()[-1], (made[2].sequence[0] == 2).nonzero()[0]
    assert reads[0, one, one - 1]
    assert not reads[0, one, one + 1]
    assert not reads[0, other, one]


def prompt_line(catalog, item):
    (title,) = catalog.titles([item])
    return title.replace("<end>", "< end>") or "unknown"


def test_a_candidate_makes_a_sequence_of_its_own_and_the_beginning_can_be_shared(films, bytewise):
    batch = Batch.of(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[1, 2, 3], [4, 5, 6]]))
    prompt = TokenPrompt(YES_NO, bytewise, films, YES_NO_SLOTS, max_tokens=230)
    whole = prompt.assemble(batch)
    prefix, rest = prompt.assemble_shared(batch)
    assert (len(whole), len(prefix), len(rest)) == (6, 2, 6)
    joined = [prefix.lists()[at // 3] + row for at, row in enumerate(rest.lists())]
    assert joined == whole.lists()
    assert rest.positions[rest.mask].tolist() == [
        position
        for at, row in enumerate(rest.lists())
        for position in range(len(joined[at]) - len(row), len(joined[at]))
    ]


def test_answers_follow_in_the_sequence_or_on_the_side_of_the_decoder(films, bytewise):
    batch = Batch.of(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[1], [4]]))
    options = {"answer": Answer(("No", "Yes"))}
    prompt = TokenPrompt(YES_NO, bytewise, films, YES_NO_SLOTS, **options)
    plain, said = prompt.assemble(batch), prompt.assemble(batch, torch.tensor([1, 0]))
    for bare, row, word in zip(plain.lists(), said.lists(), (" Yes", " No"), strict=True):
        assert row == [*bare, *bytewise(word)["input_ids"], bytewise.eos_token_id]
    answers = said.tokens[said.slot == ANSWER]
    assert bytewise.decode(answers) == " Yes<end> No<end>"
    assert said.tokens.flatten()[said.answer].tolist() == [row[-1] for row in plain.lists()]
    decoder = TokenPrompt(YES_NO, bytewise, films, YES_NO_SLOTS, side="decoder", **options)
    apart = decoder.assemble(batch, torch.tensor([1, 0]))
    assert apart.lists() == plain.lists()
    assert bytewise.batch_decode(apart.target) == ["Yes<end>", "No<end><end>"]
    assert apart.target_mask.sum(1).tolist() == [4, 3]
    assert decoder.answer_ids.tolist() == [bytewise(w)["input_ids"][0] for w in ("N", "Y")]
    titles = TokenPrompt(
        YES_NO, bytewise, films, YES_NO_SLOTS, answer=Answer(columns=(TextColumn("title"),), end=False)
    )
    assert bytewise.decode(titles.assemble(batch, torch.tensor([2, 5])).lists()[0]).endswith(
        "Answer: Alien 3"
    )


@pytest.mark.parametrize("layout", ["left", "right"])
def test_what_is_exported_is_the_same_prompts_padded_to_one_width(bytewise, films, layout, monkeypatch):
    history = torch.tensor([[0, 0, 1], [4, 2, 3], [0, 0, 0], [0, 5, 6]])
    batch = Batch.of(history, torch.tensor([[1, 2], [3, 0], [6, 5], [2, 4]]), user=torch.tensor([0, 1, 1, 0]))
    batch.history_event = history % 3
    for template, slots in PROMPTS:
        for most in (None, 300):
            prompt = TokenPrompt(template, bytewise, films, slots, max_tokens=most, layout=layout)
            usual = prompt.assemble(batch)
            with monkeypatch.context() as patch:
                patch.setattr(torch.compiler, "is_exporting", lambda: True)
                exported = prompt.assemble(batch)
            assert exported.tokens.shape == (len(usual), min(most or prompt.longest, prompt.longest))
            assert exported.lists() == usual.lists()
            width = usual.tokens.shape[1]
            part = slice(-width, None) if layout == "left" else slice(width)
            for name in ("tokens", "positions", "slot", "item", "field", "word", "sequence"):
                assert torch.equal(getattr(exported, name)[:, part], getattr(usual, name))
            for one, other in ((exported, usual), (usual, exported)):
                assert torch.equal(one.tokens.flatten()[one.answer], other.tokens.flatten()[other.answer])
    packed = TokenPrompt(template, bytewise, films, slots, layout="packed")
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    with pytest.raises(
        RecloomError, match="prompts are exported padded, to a given width; choose layout='left' or"
    ):
        packed.assemble(batch)


@pytest.fixture(scope="module")
def liked(films, bytewise):
    return TokenPrompt(LIKED, bytewise, films, LIKED_SLOTS)


WIDTHS = st.integers(0, 12)
HISTORIES = WIDTHS.flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 6), min_size=n, max_size=n), min_size=1, max_size=4)
)


@settings(max_examples=60, deadline=None)
@given(histories=HISTORIES, budget=st.integers(150, 420))
def test_a_budget_drops_the_oldest_items_and_nothing_else(liked, bytewise, histories, budget):
    history = torch.tensor(histories, dtype=torch.long).view(len(histories), -1)
    batch = Batch.of(history, torch.tensor([[1, 6]]))
    batch.history_event = 1 + (torch.arange(history.numel()).view_as(history) * 7 % 5 > 2).long()
    limited = copy.copy(liked)
    limited.max_tokens = budget
    rows, whole = limited.assemble(batch).lists(), liked.assemble(batch).lists()
    kept, known = limited.choose(batch), liked.choose(batch)
    assert max(map(len, rows)) <= budget
    for number, (row, messages) in enumerate(zip(rows, limited.messages(batch), strict=True)):
        text = bytewise.decode(row)
        assert text == messages[0]["content"]
        assert text.startswith("Liked:\n1. ")
        assert text.endswith(f"Next, of these:\nA. Heat\nB. {'Z' * 40}\nAnswer with a letter.")
        shown, before = (
            [
                at
                for at in range(history.shape[1])
                if any(
                    bool(each[name].shown[number, at] & (each[name].row[number, at] > 0))
                    for name in ("liked", "disliked")
                )
            ]
            for each in (kept, known)
        )
        assert shown == before[len(before) - len(shown) :]  # the newest ones, without a gap
        if len(shown) < len(before):  # one more would not have fitted
            late = torch.arange(history.shape[1]) >= before[len(before) - len(shown) - 1]
            more = Batch.of(history[number : number + 1] * late, batch.candidates)
            more.history_event = batch.history_event[number : number + 1]
            assert len(liked.assemble(more).lists()[0]) > budget
        else:
            assert row == whole[number]


def test_what_cannot_hold_is_refused_with_the_numbers(films, bytewise):
    messages = YES_NO.render(history=["unknown"], film="Z" * 40)
    worst = len("\n\n".join(each["content"] for each in messages))
    with pytest.raises(
        RecloomError, match=rf"takes up to {worst} tokens without any item.*max_tokens={worst - 1};"
    ):
        TokenPrompt(YES_NO, bytewise, films, YES_NO_SLOTS, max_tokens=worst - 1)
    TokenPrompt(YES_NO, bytewise, films, YES_NO_SLOTS, max_tokens=worst)
    short = YES_NO_SLOTS | {"film": Slot("candidate", (TextColumn("title", max_tokens=10),))}
    prompt = TokenPrompt(YES_NO, bytewise, films, short, max_tokens=worst - 30)
    rows = prompt.assemble(Batch.of(torch.tensor([[1, 1]]), torch.tensor([[6]]))).lists()
    assert "Title: ZZZZZZZZZZ\nAnswer" in bytewise.decode(rows[0])


@pytest.mark.parametrize(
    ("user", "slots", "message"),
    [
        ("{a} and", {"a": Slot("candidate")}, r"\{a\} must stand on a line of its own, or behind a label"),
        ("<{a}>", {"a": Slot("candidate")}, r"must stand on a line of its own"),
        ("{a}", {"b": Slot("candidate")}, "has the fields a; slots are given for b"),
        ("{a}", {"a": Slot("history")}, "the history takes several lines; make 'a' a field of lines"),
        ("{a}", {"a": Slot("user", (TextColumn("age"),))}, "no column 'age'"),
    ],
)
def test_prompts_that_cannot_be_compiled_say_why(films, bytewise, user, slots, message):
    template = PromptTemplate(name="p", user=user, fields={"a": TITLE})
    with pytest.raises(RecloomError, match=message):
        TokenPrompt(template, bytewise, films, slots)


def test_wrong_slots_and_answers_are_refused(films, bytewise):
    with pytest.raises(RecloomError, match="events choose items of the history"):
        Slot("candidate", events=(1,))
    with pytest.raises(RecloomError, match="one of `texts`, or an item's `columns`"):
        Answer()
    numbers = PromptTemplate(name="p", user="{a}", fields={"a": {"type": "number"}})
    with pytest.raises(RecloomError, match="'a' is a number"):
        TokenPrompt(numbers, bytewise, films, {"a": Slot("user")})
    with pytest.raises(RecloomError, match="one text; make 'a' a field of type text"):
        TokenPrompt(
            PromptTemplate(name="p", user="{a}", fields={"a": LINES}), bytewise, films, {"a": Slot("user")}
        )
    both = PromptTemplate(name="p", user="{a}\n{b}", fields={"a": TITLE, "b": LINES})
    with pytest.raises(RecloomError, match="one candidate and for all of them"):
        TokenPrompt(both, bytewise, films, {"a": Slot("candidate"), "b": Slot("candidates")})
    prompt = TokenPrompt(LIKED, bytewise, films, LIKED_SLOTS)
    batch = Batch.of(torch.tensor([[1]]), torch.ones(1, 6, dtype=torch.long))
    batch.history_event = torch.tensor([[1]])
    with pytest.raises(RecloomError, match=r"lists at most 5 candidates .*found 6"):
        prompt.assemble(batch)
    batch.candidates = batch.candidates[:, :2]
    with pytest.raises(RecloomError, match="compiled without an answer"):
        prompt.assemble(batch, torch.tensor([0]))
    with pytest.raises(RecloomError, match="shared where a place is filled by `candidate`"):
        prompt.assemble_shared(batch)
    alike = Answer(("Yes", "Yeah"))
    prompt = TokenPrompt(YES_NO, bytewise, films, YES_NO_SLOTS, answer=alike, side="decoder")
    with pytest.raises(RecloomError, match="begin with the same token"):
        _ = prompt.answer_ids
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(RecloomError, match="does not say which characters"):
        TokenPrompt(YES_NO, slow, films, YES_NO_SLOTS)
