"""SASRec and BERT4Rec: causality, masking, padding, and a deterministic cycle."""

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.batches.module import RecDataModule
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.nn.transformer import causal_attention
from recloom.training.module import RecModule
from recloom_pretrain.sequence.bert4rec import BERT4Rec, hidden_count
from recloom_pretrain.sequence.sasrec import SASRec

CATALOG = Catalog(pl.DataFrame({"item_id": [str(n) for n in range(20)]}))
BOTH = pytest.mark.parametrize("kind", [SASRec, BERT4Rec])


def build(kind, **options):
    torch.manual_seed(0)
    model = kind(CATALOG, dim=16, max_len=8, **options).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    return model


def batch(*rows):
    return Batch.of(torch.tensor(rows), candidates=torch.arange(1, 21)[None])


def vectors(model, sequence):
    x = torch.tensor([sequence])
    with torch.no_grad():
        return model.encode(x, (x > 0).sum(1), model.items.table())[0]


@pytest.mark.parametrize("layers", [0, 1, 2])
@BOTH
def test_a_query_is_the_last_vector_of_the_whole_sequence(kind, layers):
    """Its last block computes one place only."""
    model = build(kind, num_layers=layers)
    history = torch.tensor([[0, 0, 5, 9, 3], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0], [0, 0, 0, 0, 7]])
    found = model.query(batch(*history.tolist()))
    for row, vector in zip(history, found, strict=True):
        items = [n for n in row.tolist() if n]
        whole = vectors(model, [*items, model.mask]) if kind is BERT4Rec else vectors(model, items or [0])
        assert torch.allclose(vector, model.head(whole[-1]) if kind is BERT4Rec else whole[-1], atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_attention_as_it_is_exported_is_the_usual_one(scale):
    torch.manual_seed(0)
    q, k, v = scale * torch.randn(3, 2, 2, 7, 4)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(causal_attention(q, k, v), wanted, atol=1e-5 * scale)


@pytest.mark.fact("B1.3")
def test_sasrec_is_causal():
    model = build(SASRec)
    a, b = vectors(model, [3, 5, 7, 9, 2]), vectors(model, [3, 5, 7, 11, 2])
    assert torch.allclose(a[:3], b[:3], atol=1e-6)
    assert (a[3:] - b[3:]).abs().max() > 1e-3


@pytest.mark.fact("B1.3")
def test_bert4rec_reads_both_ways():
    model = build(BERT4Rec)
    a, b = vectors(model, [3, 5, 7, 9, 2]), vectors(model, [3, 5, 7, 11, 2])
    assert ((a - b).abs().amax(1) > 1e-4).all()


@pytest.mark.parametrize(
    ("length", "share", "cap", "count"), [(200, 0.2, 40, 40), (50, 0.6, 30, 30), (3, 0.2, 40, 1)]
)
@pytest.mark.fact("B1.4")
def test_number_of_masked_positions(length, share, cap, count):
    assert hidden_count(torch.tensor([length]), share, cap).item() == count


@pytest.mark.fact("B1.4")
def test_only_masked_positions_have_labels_and_padding_is_never_masked():
    torch.manual_seed(0)
    model = build(BERT4Rec, mask_share=0.5, last_only=0.0)
    sequence = torch.tensor([[1, 2, 3, 4, 5, 6, 0, 0]] * 200)
    hidden = model.hide(sequence, torch.full((200,), 6))
    assert (hidden.sum(1) == 3).all()
    assert not hidden[:, 6:].any()
    rate = hidden[:, :6].float().mean(0)
    assert rate.tolist() == pytest.approx([0.5] * 6, abs=0.12)


def test_bert4rec_hides_just_the_last_item_in_a_share_of_the_rows():
    torch.manual_seed(0)
    model = build(BERT4Rec, mask_share=0.5, last_only=0.25)
    hidden = model.hide(torch.tensor([[1, 2, 3, 4, 5, 6]] * 4000), torch.full((4000,), 6))
    only_last = (hidden.sum(1) == 1) & hidden[:, 5]
    assert only_last.float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_bert4rec_trains_on_the_sequence_with_its_last_label():
    model = build(BERT4Rec, last_only=1.0)
    made = Batch.of(torch.tensor([[0, 4, 5]]), user=torch.tensor([7]), labels=torch.tensor([[0, 5, 6]]))
    q = model.training_queries(made)
    assert q.targets.tolist() == [6]
    assert q.users.tolist() == [7]
    expected = model.query(batch([0, 4, 5]))  # the appended [MASK] stands where the hidden 6 stood
    assert torch.allclose(q.vectors, expected, atol=1e-5)


def test_sasrec_trains_on_every_position_that_has_a_label():
    model = build(SASRec)
    made = Batch.of(
        torch.tensor([[0, 4, 5], [1, 2, 3]]),
        user=torch.tensor([7, 8]),
        labels=torch.tensor([[0, 5, 6], [2, 3, 9]]),
    )
    q = model.training_queries(made)
    assert q.targets.tolist() == [2, 3, 9, 5, 6]  # longer rows first
    assert q.users.tolist() == [8, 8, 8, 7, 7]
    assert torch.allclose(q.vectors[4], model.query(batch([0, 4, 5]))[0], atol=1e-5)


@BOTH
@pytest.mark.fact("B1.5")
def test_left_padding_does_not_change_scores(kind):
    model = build(kind)
    with torch.no_grad():
        short, long = model.score(batch([4, 5, 6])), model.score(batch([0, 0, 0, 4, 5, 6]))
        assert torch.allclose(short, long, atol=1e-5)
        model.items.ids.weight[0] = 100.0
        assert torch.allclose(short, model.score(batch([0, 0, 0, 4, 5, 6])), atol=1e-5)


@BOTH
@pytest.mark.fact("B1.6")
def test_padding_and_mask_are_never_recommended_and_history_only_on_request(kind):
    module = RecModule(kind, metrics=["ndcg@10"])
    module.build(CATALOG)
    module.eval()
    wide = batch([0, 0, 4, 5])
    wide.candidates = torch.arange(0, 21)[None]  # padding among the candidates
    scores = module.rank(wide)
    assert scores.shape == (1, 21)
    assert torch.isinf(scores[0, [0, 4, 5]]).all()
    assert torch.isfinite(module.rank(wide, mask_seen=False)[0, [4, 5]]).all()
    assert module.recommender.item_vectors().shape[0] == 21  # no row for [MASK]


def cycles(folder, write_dataset, items=50, users=150):
    rng = np.random.default_rng(0)
    starts, lengths = rng.integers(0, items, users), rng.integers(8, 16, users)
    user = np.repeat(np.arange(users), lengths)
    step = np.concatenate([np.arange(n) for n in lengths])
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in user],
            "item_id": [f"i{n}" for n in (starts[user] + step) % items],
            "timestamp": step,
        }
    )
    return write_dataset(folder, frame)


@pytest.mark.parametrize(
    ("kind", "epochs", "low", "high"),
    [("SASRec", 40, 0.95, 1.0), ("BERT4Rec", 170, 0.95, 1.0), ("Popularity", 0, 0.0, 0.1)],
)
@pytest.mark.fact("B1.7")
def test_a_deterministic_cycle_is_learnt_from_order_alone(kind, epochs, low, high, tmp_path, write_dataset):
    from recloom.plugins import collect

    L.seed_everything(0, verbose=False)
    data = RecDataModule(str(cycles(tmp_path / "cycle", write_dataset)), batch_size=32)
    options = {} if kind == "Popularity" else {"dim": 32, "max_len": 12, "dropout": 0.0}
    spec = {"class_path": kind, "init_args": options}
    assert kind in collect("register_models")
    module = RecModule(spec, lr=5e-3, schedule="cosine", metrics=["hit@1"])
    trainer = L.Trainer(
        max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, data)
    hit = trainer.test(module, data, verbose=False)[0]["test/hit@1"]
    assert low <= hit <= high


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(RecloomError, match="dim=10, num_heads=3"):
        SASRec(CATALOG, dim=10, num_heads=3)


def test_sasrec_trains_on_the_same_queries_however_rows_are_grouped(monkeypatch):
    from recloom_pretrain.sequence import sasrec

    torch.manual_seed(0)
    items = torch.randint(1, 21, (9, 7)) * (torch.arange(7) >= torch.randint(0, 7, (9, 1)))
    made = Batch.of(items[:, :-1], user=torch.arange(9), labels=items[:, 1:] * (items[:, :-1] > 0))
    model = build(SASRec)
    together = model.training_queries(made)
    monkeypatch.setattr(sasrec, "GROUP", 2)
    apart = model.training_queries(made)
    assert together.targets.tolist() == apart.targets.tolist()
    assert together.users.tolist() == apart.users.tolist()
    assert torch.allclose(together.vectors, apart.vectors, atol=1e-6)
