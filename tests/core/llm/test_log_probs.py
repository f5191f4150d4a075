"""Log-probabilities of a text's tokens: by hand, in a batch, behind a begin mark, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from recloom.errors import RecloomError
from recloom.llm.fake import Fake
from recloom.llm.local.scoring import log_probs
from recloom.llm.local.transformers import Transformers

TEXTS = ["the cat", "", "a much longer text than the others, so that they are padded", "x", "the cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Llama of 2 layers whose tokens are bytes."""
    library = pytest.importorskip("transformers", reason="the extra transformers is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = {piece: at for at, piece in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytewise = Tokenizer(models.BPE(pieces, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = library.PreTrainedTokenizerFast(tokenizer_object=bytewise, bos_token="<s>", eos_token="</s>")
    torch.manual_seed(0)
    config = library.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=80, initializer_range=0.3,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("tiny")
    library.LlamaForCausalLM(config).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


@pytest.fixture
def model(folder):
    return Transformers(str(folder), dtype="float32", device="cpu", batch_size=2)


def alone(model, tokens):
    """One forward pass, nothing padded, softmax in double."""
    with torch.no_grad():
        said = model._model(torch.tensor([tokens])).logits[0].double().softmax(-1).log()
    return [float(said[at, token]) for at, token in enumerate(tokens[1:])]


def test_a_table_of_probabilities_is_read_off():
    """B13: token probabilities 1/2, 1/4, 1/8, 1/8 give a perplexity of 4.7568."""
    table = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [0.125, 0.75, 0.125]]).log()

    def bigram(input_ids, **_):
        return SimpleNamespace(logits=table[input_ids] + 3)  # logits are free up to a constant

    bigram.device = "cpu"
    first, second = log_probs(bigram, [[0, 0, 1, 1], [2, 0]], pad=1)
    assert first == pytest.approx([math.log(0.5), math.log(0.25), math.log(0.25)])
    assert second == pytest.approx([math.log(0.125)])
    found = log_probs(bigram, [[0, 0, 1, 2, 0]], pad=1)[0] + log_probs(bigram, [[2, 2]], pad=1)[0]
    assert found == pytest.approx([math.log(p) for p in (0.5, 0.25, 0.5, 0.125, 0.125)])
    quarter = [found[0], math.log(0.25), found[3], found[4]]
    assert math.exp(-sum(quarter) / 4) == pytest.approx(4.7568, abs=5e-5)


def test_a_batch_says_what_each_text_says_alone(model):
    found = model.token_log_probs(TEXTS)
    assert [len(each) for each in found] == [len(text.encode()) for text in TEXTS]
    begin = model._tokenizer.bos_token_id
    for text, values in zip(TEXTS, found, strict=True):
        tokens = [begin, *model._tokenizer(text, add_special_tokens=False)["input_ids"]]
        assert values == pytest.approx(alone(model, tokens), abs=1e-4)
        assert all(value < 0 for value in values)
    assert found[0] == pytest.approx(found[4], abs=1e-4)


def test_without_a_begin_mark_the_first_token_does_not_count(folder):
    model = Transformers(str(folder), dtype="float32", device="cpu")
    with_mark = model.token_log_probs(TEXTS)
    model._tokenizer.bos_token = None
    without = model.token_log_probs(TEXTS)
    assert [len(each) for each in without] == [max(0, len(each) - 1) for each in with_mark]
    tokens = model._tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    assert without[0] == pytest.approx(alone(model, tokens), abs=1e-4)


def test_a_text_that_is_too_long_is_refused_not_cut(model):
    assert len(model.token_log_probs(["x" * 79])[0]) == 79
    with pytest.raises(RecloomError, match=r"a text has 81 tokens, but .* reads 80: 'xxx.*Shorten"):
        model.token_log_probs(["ok", "x" * 80])
    with pytest.raises(RecloomError, match="reads 10"):
        dataclasses.replace(model, max_length=10).token_log_probs(["x" * 10])


def test_who_has_no_probabilities_says_so():
    with pytest.raises(RecloomError, match="Fake gives no probabilities of the tokens of a text"):
        Fake().token_log_probs(["a"])
