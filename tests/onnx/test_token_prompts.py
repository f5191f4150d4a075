"""Prompts are gathered in the graph: raw ids go into the exported file of a recommender that reads texts."""

from __future__ import annotations

from functools import partial

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.llm import PromptTemplate, Slot, TokenPrompt
from recloom.recommender import Recommender
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.verification.reference import reference_scores
from recloom_onnx.verification.verify import verify_artefact
from torch import nn

tokenizers = pytest.importorskip("tokenizers", reason="the extra transformers is not installed")
transformers = pytest.importorskip("transformers", reason="the extra transformers is not installed")

LINES = {"type": "lines", "max_items": 3, "max_chars": 40}
SEEN = PromptTemplate(name="seen", user="Seen:\n{seen}\nNext:", fields={"seen": LINES})
ITEM = PromptTemplate(name="item", user="Item:\n{item}", fields={"item": {"type": "text", "max_chars": 40}})
TITLES = ["Heat", "Up", "Alien 3", "Big", "Fargo", "Her", "It", "Jaws", "Sideways", "Pi"]


def bytewise():
    """A tokeniser of a byte a token."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(alphabet)} | {"<pad>": len(alphabet)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=[]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>")


class ReadsTitles(Recommender):
    """Scores by what a bag of tokens, weighed by their places, says of a history and of each item."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.max_len, tokenizer = 5, bytewise()
        self.seen = TokenPrompt(SEEN, tokenizer, catalog, {"seen": Slot("history")}, max_tokens=32)
        self.item = TokenPrompt(ITEM, tokenizer, catalog, {"item": Slot("candidate")}, layout="right")
        self.token, self.place = nn.Embedding(257, 8), nn.Embedding(64, 8)

    def read(self, prompt, batch):
        tokens = prompt.assemble(batch)
        vectors = self.token(tokens.tokens) * self.place(tokens.positions) * tokens.mask[..., None]
        return vectors.sum(1) + vectors.flatten(0, 1)[tokens.answer]

    def score(self, batch: Batch) -> torch.Tensor:
        items = self.read(self.item, Batch.of(batch.history[:1] * 0, batch.candidates[:1]))
        return self.read(self.seen, batch) @ items.T


def test_prompts_are_gathered_in_the_exported_file(tmp_path):
    torch.manual_seed(0)
    catalog = Catalog(pl.DataFrame({"item_id": [f"m{n}" for n in range(len(TITLES))], "title": TITLES}))
    recommender = ReadsTitles(catalog).eval()
    popularity = torch.arange(len(TITLES) + 1.0)
    path = tmp_path / "model.onnx"
    export_artefact(recommender, catalog, popularity, path)
    parity = verify_artefact(path, partial(reference_scores, recommender, popularity), catalog)
    assert parity.failures == []
    assert parity.requests > 100
