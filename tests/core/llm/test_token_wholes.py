"""Prompts gathered from token tables are the prompts that a tokeniser makes of whole strings, on real titles."""

import time
from importlib.util import find_spec

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.llm.local.chat_template import prompt_tokens
from recloom.llm.texts.token_prompt import TokenPrompt

from .token_prompt_examples import JOINS_BREAKS, PROMPTS, YES_NO, YES_NO_SLOTS

pytestmark = pytest.mark.skipif(
    find_spec("transformers") is None, reason="the extra transformers is not installed"
)


@pytest.fixture(scope="module")
def movies(real_data):
    """The catalogue of ml-latest-small with profiles of users, and 200 requests of real users."""
    folder = real_data / "ml-latest-small"
    items = pl.read_csv(folder / "movies.csv").select(
        pl.col("movieId").cast(pl.String).alias("item_id"), "title", pl.col("genres").str.split("|")
    )
    rows = pl.read_csv(folder / "ratings.csv").sort("userId", "timestamp", maintain_order=True)
    rows = rows.filter(pl.int_range(pl.len()).over("userId") < 35, pl.col("userId") <= 200)
    items = items.filter(pl.col("item_id").is_in(rows["movieId"].cast(pl.String).implode()))
    users = rows.select(pl.col("userId").unique(maintain_order=True).cast(pl.String).alias("user_id"))
    users = users.with_row_index("n").select(
        "user_id", pl.format("watches film number {} often", "n").alias("profile")
    )
    catalog = Catalog(items, users)
    item = torch.from_numpy(catalog.item_index(rows["movieId"]).copy())
    event = torch.from_numpy(1 + (rows["rating"] >= 4).to_numpy().astype("int64"))
    sizes = torch.from_numpy(
        rows.group_by("userId", maintain_order=True).len()["len"].to_numpy().astype("int64")
    )
    history, events = torch.zeros(200, 30, dtype=torch.long), torch.zeros(200, 30, dtype=torch.long)
    candidates = torch.zeros(200, 5, dtype=torch.long)
    pairs = zip(item.split(sizes.tolist()), event.split(sizes.tolist()), strict=True)
    for user, (films, kinds) in enumerate(pairs):
        length = min(user % 31, len(films) - 5)  # histories of every length, the empty one too
        history[user, 30 - length :], events[user, 30 - length :] = films[5:][:length], kinds[5:][:length]
        candidates[user, : 1 + user % 5] = films[: 1 + user % 5]
    batch = Batch.of(history, candidates, user=torch.arange(200))
    batch.history_event = events
    return catalog, batch


def corpus(catalog):
    titles = catalog.titles(range(1, catalog.num_items + 1))
    return [f"Liked:\n- {title}\n1. {title}\nTitle: {title}\nuser: answer yes or no." for title in titles]


@pytest.fixture(scope="module")
def tokenizers_of(request, movies, train_tokenizer):
    """A function from a name to a tokeniser."""
    import transformers

    return {"smollm2": lambda: transformers.AutoTokenizer.from_pretrained(request.getfixturevalue("smollm2_folder")),
            "minilm": lambda: transformers.AutoTokenizer.from_pretrained(request.getfixturevalue("minilm_folder")),
            "gemma3": lambda: request.getfixturevalue("gemma3_tokenizer"),
            "t5": lambda: train_tokenizer(corpus(movies[0]), None),
            "joins breaks": lambda: train_tokenizer(corpus(movies[0]), JOINS_BREAKS)}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["smollm2", "minilm", "t5", "joins breaks", pytest.param("gemma3", marks=pytest.mark.slow)]
)
def test_pieces_are_the_tokens_of_the_whole_string_on_200_real_prompts(movies, tokenizers_of, name):
    catalog, batch = movies
    tokenizer = tokenizers_of[name]()
    for template, slots in PROMPTS:
        prompt = TokenPrompt(template, tokenizer, catalog, slots)
        asked = batch
        if template is YES_NO:
            asked = Batch.of(batch.history, batch.candidates[:, :1], user=batch.user)
        wholes = [prompt_tokens(tokenizer, messages) for messages in prompt.messages(asked)]
        assert len(wholes) == 200
        assert prompt.assemble(asked).lists() == wholes
    if name == "joins breaks":
        assert any(
            "\n" in tokenizer.decode([t]) and ")" in tokenizer.decode([t]) for row in wholes for t in row
        )


def test_a_tokeniser_that_joins_pieces_is_refused_by_name(movies, train_tokenizer):
    tokenizer = train_tokenizer(["Watched, oldest first:\n- Heat\n- Heat\nWould"] * 50, "", 400)
    tokenizer.name_or_path = "joiner"
    with pytest.raises(
        RecloomError, match=r"tokeniser 'joiner' does not give prompt 'yes-no' the same tokens in pieces"
    ):
        TokenPrompt(YES_NO, tokenizer, movies[0], YES_NO_SLOTS)


def test_gathering_takes_a_fraction_of_the_time_of_tokenising(movies, train_tokenizer):
    catalog, batch = movies
    tokenizer = train_tokenizer(corpus(catalog), r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+")
    prompt = TokenPrompt(YES_NO, tokenizer, catalog, YES_NO_SLOTS)
    asked = Batch.of(batch.history, batch.candidates[:, :1])
    texts = ["\n\n".join(each["content"] for each in messages) for messages in prompt.messages(asked)]

    def best(work):
        times = []
        for _ in range(5):
            begin = time.process_time()
            work()
            times.append(time.process_time() - begin)
        return min(times)

    assert best(lambda: prompt.assemble(asked)) < 0.3 * best(lambda: tokenizer(texts))
