"""Training under sampled texts."""

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.errors import DataError, RecloomError
from recloom.losses import GBCE, CrossEntropy
from recloom.plugins import collect
from recloom_feature.seralm.loss import SampledTexts
from recloom_feature.seralm.tables import read_posterior, read_variants
from recloom_feature.seralm.variants import reading

ITEMS = ["a", "b", "c", "d", "e"]
BATCH = Batch.of(torch.tensor([[0, 1, 2], [3, 4, 1]]), labels=torch.tensor([[0, 2, 5], [4, 1, 5]]))


def variant_file(folder, k=2, items=ITEMS):
    """Text k of the n-th item has the vector (n + 1, k, 1)."""
    rows = [(item, v, [float(n + 1), float(v), 1.0]) for n, item in enumerate(items) for v in range(k)]
    path = folder / "variants.parquet"
    pl.DataFrame(rows, schema=["item_id", "variant", "vector"], orient="row").write_parquet(path)
    return str(path)


@pytest.fixture
def catalog():
    vectors = [[float(n + 1), 0.5, 1.0] for n in range(5)]
    return Catalog(pl.DataFrame({"item_id": ITEMS, "vector": vectors}))


def sasrec(catalog, kind):
    torch.manual_seed(0)
    return collect("register_models")["SASRec"](catalog, dim=8, max_len=4, dropout=0.0, item_input=kind)


@pytest.mark.parametrize("kind", ["id+vector", "gated"])
@pytest.mark.fact("A5.3")
def test_without_the_weight_of_texts_the_loss_is_that_of_ids(catalog, tmp_path, kind):
    with_ids, both = sasrec(catalog, "id"), sasrec(catalog, kind)
    both.load_state_dict(with_ids.state_dict(), strict=False)
    with torch.no_grad():
        both.items.project.weight.zero_()
        both.items.project.bias.zero_()
        if kind == "gated":  # the id's share is 1
            both.items.gate.weight.zero_()
            both.items.gate.bias.fill_(100.0)
    loss = SampledTexts(variant_file(tmp_path))
    assert torch.equal(loss(both, BATCH), CrossEntropy()(with_ids, BATCH))
    with torch.no_grad():
        both.items.project.weight.normal_()
        if kind == "gated":
            both.items.gate.bias.zero_()
    assert not torch.equal(loss(both, BATCH), CrossEntropy()(with_ids, BATCH))


@pytest.mark.fact("A5.3")
def test_texts_alone_train_without_ids(catalog, tmp_path):
    model, loss = sasrec(catalog, "vector"), SampledTexts(variant_file(tmp_path))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    first = float(loss(model, BATCH))
    for _ in range(60):
        optimizer.zero_grad()
        loss(model, BATCH).backward()
        optimizer.step()
    assert model.items.project.weight.grad.abs().sum() > 0
    assert float(loss(model, BATCH)) < first - 0.5


def test_each_step_draws_texts_anew_and_leaves_the_vectors_of_the_data(catalog, tmp_path):
    model, loss = sasrec(catalog, "vector"), SampledTexts(variant_file(tmp_path))
    read = []
    model.items.project.register_forward_hook(lambda _, given, out: read.append(given[0].clone()))
    before = model.items.vectors.clone()
    for _ in range(40):
        loss(model, BATCH)
    drawn = torch.stack(read)[:, 1:, 1]  # (steps, items): 0 or 1
    assert torch.equal(model.items.vectors, before)
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}
    assert ((drawn.mean(0) - 0.5).abs() < 0.3).all()
    assert (torch.stack(read)[:, 1:, 0] == torch.arange(1.0, 6)).all()  # each item its own


def test_the_posterior_decides_which_texts_are_drawn(catalog, tmp_path):
    rows = [(item, v, float(v)) for item in ITEMS for v in range(2)]
    pl.DataFrame(rows, schema=["item_id", "variant", "q"], orient="row").write_parquet(tmp_path / "q.parquet")
    model = sasrec(catalog, "vector")
    variants = variant_file(tmp_path)
    always = torch.tensor([[0.0] * 3, *([float(n + 1), 1.0, 1.0] for n in range(5))])
    found = SampledTexts(variants, str(tmp_path / "q.parquet"))(model, BATCH)
    with reading(model, always):
        assert torch.allclose(found, CrossEntropy()(model, BATCH), atol=1e-6)


def test_rows_are_found_by_item_and_another_loss_may_be_the_base(catalog, tmp_path):
    shuffled = variant_file(tmp_path, items=ITEMS[::-1])
    assert read_variants(shuffled, catalog).vectors[1].tolist() == [[5, 0, 1], [5, 1, 1]]
    model = sasrec(catalog, "vector")
    torch.manual_seed(1)
    sampled = SampledTexts(variant_file(tmp_path, k=1), base=GBCE(negatives=2))(model, BATCH)
    with reading(model, read_variants(variant_file(tmp_path, k=1), catalog).vectors[:, 0]):
        torch.manual_seed(1)
        torch.rand(6, 1, dtype=torch.float64)  # what drawing texts took
        assert torch.allclose(sampled, GBCE(negatives=2)(model, BATCH), atol=1e-6)


def test_a_recommender_without_texts_is_reported(catalog, tmp_path):
    with pytest.raises(RecloomError, match=r"SASRec reads no item vectors.*item_input to"):
        SampledTexts(variant_file(tmp_path))(sasrec(catalog, "id"), BATCH)


def test_vectors_of_another_size_are_refused(catalog, tmp_path):
    with (
        pytest.raises(RecloomError, match=r"sampled vectors are \(6, 2\).*recommender \(6, 3\)"),
        reading(sasrec(catalog, "vector"), torch.zeros(6, 2)),
    ):
        pass


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 0, [1.0]), ("z", 0, [1.0])], "no item 'z'.*another dataset"),
        (
            [("a", 0, [1.0]), ("a", 2, [1.0])],
            r"variants of item 'a' must be 0, 1, \.\.\. each once; found 2 rows",
        ),
        ([("a", 0, [1.0]), ("a", 0, [1.0])], "each once; found 2 rows from 0 to 0"),
        ([("a", 0, [1.0]), ("b", 0, [1.0, 2.0])], r"one size; found \[1, 2\]"),
        ([("a", 0, [float("nan")])], "not finite"),
    ],
)
def test_a_wrong_file_of_variants_is_reported(catalog, tmp_path, rows, message):
    path = tmp_path / "v.parquet"
    pl.DataFrame(rows, schema=["item_id", "variant", "vector"], orient="row").write_parquet(path)
    with pytest.raises(DataError, match=message):
        read_variants(path, catalog)


def test_other_wrong_files_are_reported(catalog, tmp_path):
    variants = read_variants(variant_file(tmp_path), catalog)
    path = tmp_path / "q.parquet"
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_posterior(path, variants, catalog)
    pl.DataFrame({"item_id": ["a"], "q": [1.0]}).write_parquet(path)
    with pytest.raises(DataError, match="must have the columns item_id, variant, q; found item_id, q"):
        read_posterior(path, variants, catalog)
    rows = [(item, v, 0.4) for item in ITEMS for v in range(2)]
    pl.DataFrame(rows, schema=["item_id", "variant", "q"], orient="row").write_parquet(path)
    with pytest.raises(DataError, match="q must sum to 1 over the texts of each item"):
        read_posterior(path, variants, catalog)
    pl.DataFrame({"item_id": ["a"], "variant": ["0"], "q": [1.0]}).write_parquet(path)
    with pytest.raises(DataError, match="variant must hold whole numbers"):
        read_posterior(path, variants, catalog)


def test_in_bfloat16_it_is_near_that_in_float32(catalog, tmp_path):
    model, loss = sasrec(catalog, "vector"), SampledTexts(variant_file(tmp_path))
    found = []
    for half in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            found.append(loss(model, BATCH))
    found[1].float().backward()
    assert float(found[1]) == pytest.approx(float(found[0]), rel=0.02)
