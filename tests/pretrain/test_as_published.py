"""Switches of SASRec and BERT4Rec towards the authors' code, each by another computation of the same."""

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.nn import TransformerBlock
from recloom_pretrain.sequence.bert4rec import BERT4Rec
from recloom_pretrain.sequence.sasrec import SASRec

CATALOG = Catalog(pl.DataFrame({"item_id": [str(n) for n in range(20)]}))
SEQUENCE = torch.tensor([[5, 9, 3, 12, 0], [1, 2, 3, 4, 7]])
LENGTHS = torch.tensor([4, 5])


def moved(model):
    """Other weights than those that it begins with, so that norms and biases matter."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    return model.eval()


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_is_the_encoder_layer_of_torch(norm_first):
    block = moved(TransformerBlock(8, 2, 12, 0.1, torch.nn.ReLU(), norm_first, 0.2, 0.3))
    layer = torch.nn.TransformerEncoderLayer(8, 2, 12, norm_first=norm_first, batch_first=True).eval()
    names = {
        "self_attn.in_proj_": "attention.qkv.", "self_attn.out_proj.": "attention.out.", "linear1.": "ffn.0.",
        "linear2.": "ffn.2.", "norm1.": "norm1.", "norm2.": "norm2.",
    }  # fmt: skip
    mine = block.state_dict()
    assert set(mine) == {name + part for name in names.values() for part in ("weight", "bias")}
    layer.load_state_dict(
        {theirs + part: mine[ours + part] for theirs, ours in names.items() for part in ("weight", "bias")}
    )
    x = torch.randn(3, 5, 8)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)  # True = may not be read
    with torch.no_grad():
        wanted = layer(x, src_mask=causal)
        assert torch.allclose(block(x, causal=True), wanted, atol=1e-5)
        place = torch.tensor([4, 0, 2])
        assert torch.allclose(block.at(x, place), wanted[torch.arange(3), place], atol=1e-5)


@pytest.mark.parametrize("where", ["attention_dropout", "ffn_dropout"])
def test_dropout_within_a_block_is_for_training_alone_and_keeps_the_mean(where):
    block = moved(TransformerBlock(8, 2, 12, 0.0, torch.nn.ReLU(), **{where: 0.3}))
    x = torch.randn(1, 5, 8).expand(4000, -1, -1)
    with torch.no_grad():
        plain = block(x, causal=True)
        block.train()
        dropped = block(x, causal=True)
        if where == "attention_dropout":  # what attention alone makes is linear in its weights
            x = block.norm1(x)
            dropped, plain = block.attention(x, causal=True), block.eval().attention(x, causal=True)
            assert torch.allclose(dropped.mean(0), plain[0], atol=0.15)
    assert (dropped - plain).abs().amax((1, 2)).min() > 1e-3
    with pytest.raises(RecloomError, match="dropout must be at least 0 and below 1; found 1"):
        TransformerBlock(8, 2, 12, 0.0, torch.nn.ReLU(), **{where: 1.0})


def test_sasrec_may_multiply_items_by_the_root_of_their_width():
    plain, scaled = (moved(SASRec(CATALOG, dim=16, max_len=8, scale_items=scale)) for scale in (False, True))
    scaled.load_state_dict(plain.state_dict())
    table = plain.items.table()
    found = scaled.encode(SEQUENCE, LENGTHS, table)
    assert torch.allclose(found, plain.encode(SEQUENCE, LENGTHS, 4 * table), atol=1e-5)
    assert not torch.allclose(found, plain.encode(SEQUENCE, LENGTHS, table), atol=1e-2)
    history = torch.tensor([[0, 5, 9, 3, 12]])
    query = scaled.query(Batch.of(history, candidates=torch.arange(1, 21)[None]))
    assert torch.allclose(query, found[:1, 3], atol=1e-5)
    assert torch.equal(scaled.item_vectors(), plain.item_vectors())  # scores are of the items as they are


@pytest.mark.parametrize(("kind", "option"), [(SASRec, "inner_dropout"), (BERT4Rec, "attention_dropout")])
def test_dropout_within_the_blocks_of_a_model_leaves_its_weights_and_its_answers(kind, option):
    plain, dropping = (
        moved(kind(CATALOG, dim=16, max_len=8, dropout=0.0, **more)) for more in ({}, {option: 0.5})
    )
    dropping.load_state_dict(plain.state_dict())
    table = plain.items.table()
    assert torch.equal(plain.encode(SEQUENCE, LENGTHS, table), dropping.encode(SEQUENCE, LENGTHS, table))
    dropping.train()
    assert not torch.allclose(
        plain.encode(SEQUENCE, LENGTHS, table), dropping.encode(SEQUENCE, LENGTHS, table), atol=1e-2
    )
    blocks = dropping.blocks
    assert all(block.attention.dropout == pytest.approx(0.5) for block in blocks)
    assert all(isinstance(block.ffn[1], torch.nn.Sequential) == (kind is SASRec) for block in blocks)


def test_norms_of_bert4rec_may_stand_where_bert_has_them():
    model = moved(BERT4Rec(CATALOG, dim=16, max_len=8, num_layers=1, norm_first=False))
    table = model.items.table()
    embedded = model.items(SEQUENCE, table) + model.positions(LENGTHS, 5)
    x = torch.nn.functional.layer_norm(embedded, (16,), model.norm.weight, model.norm.bias)
    wanted = model.blocks[0](x, mask=(SEQUENCE > 0)[:, None, None, :])
    assert not model.blocks[0].norm_first
    assert torch.allclose(model.encode(SEQUENCE, LENGTHS, table), wanted, atol=1e-6)
    assert not any(
        name.startswith("head.0") for name in model.state_dict()
    )  # the block has normalised already
    before = BERT4Rec(CATALOG, dim=16, max_len=8).state_dict()
    assert not any(name.startswith("norm.") for name in before)
    assert "head.0.weight" in before
