"""TextProjection: a space of texts that is learnt."""

import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import CrossEntropy
from recloom_feature.models.text_mean import TextMean
from recloom_feature.models.text_projection import TextProjection

TITLES = [f"{a} {b} story" for a in ("red", "blue", "green", "old", "new") for b in ("cat", "dog", "car", "")]
EMPTY = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}


def made(kind=TextProjection, **options):
    catalog = Catalog(pl.DataFrame({"item_id": [f"i{n}" for n in range(len(TITLES))], "title": TITLES}))
    model = kind(catalog, **options)
    model.fit(Interactions.from_frame(pl.DataFrame(schema=EMPTY), catalog))
    return model


def asked(*rows):
    return Batch.of(torch.tensor(rows), torch.arange(1, len(TITLES) + 1)[None])


def test_at_full_size_it_begins_as_text_mean_over_the_temperature():
    history = asked([0, 1, 2], [4, 9, 17])
    with torch.no_grad():
        found = made(dim=512, temperature=0.5).eval().score(history)
    assert torch.allclose(found, made(TextMean).eval().score(history) / 0.5, atol=1e-5)


@pytest.mark.parametrize("half_life", [None, 2.0])
@pytest.mark.parametrize("max_len", [3, 50])
def test_the_query_of_each_position_is_that_of_serving(half_life, max_len):
    model = made(dim=8, half_life=half_life, max_len=max_len)
    history = torch.tensor([[0, 0, 4, 9, 17, 3], [1, 2, 3, 4, 5, 6]])
    labels = torch.tensor([[0, 0, 9, 17, 3, 8], [2, 3, 4, 5, 6, 7]])
    queries = model.training_queries(Batch.of(history, labels=labels, user=torch.tensor([5, 6])))
    assert queries.targets.tolist() == [9, 17, 3, 8, 2, 3, 4, 5, 6, 7]
    assert queries.users.tolist() == [5] * 4 + [6] * 6
    model.eval()
    with torch.no_grad():
        places = [(0, n) for n in range(2, 6)] + [(1, n) for n in range(6)]
        served = torch.cat([model.query(Batch.of(history[row, : n + 1][None])) for row, n in places])
    assert torch.allclose(queries.vectors, served, atol=1e-4)
    assert torch.allclose(model.item_vectors(), queries.items, atol=1e-6)


def test_training_changes_the_matrix_and_what_was_kept_is_made_anew():
    torch.manual_seed(0)
    model = made(dim=8)
    batch = Batch.of(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[2, 3, 9]]))
    loss, step = CrossEntropy(), torch.optim.Adam(model.parameters(), 0.05)
    model.eval()
    with torch.no_grad():
        before = model.item_vectors().clone()
    model.train()
    losses = []
    for _ in range(20):
        step.zero_grad()
        losses.append(loss(model, batch))
        losses[-1].backward()
        step.step()
    assert losses[-1] < losses[0] / 2
    model.eval()
    with torch.no_grad():
        assert not torch.allclose(model.item_vectors(), before, atol=1e-3)
        assert torch.allclose(model.item_vectors()[1:].norm(dim=1), torch.ones(len(TITLES)), atol=1e-5)


def test_a_new_item_has_its_place_at_once():
    model = made(dim=8).eval()
    with torch.no_grad():
        before = model.item_vectors().clone()
        items = pl.DataFrame({"item_id": ["new"], "title": ["red cat story"]})
        model.extend(model.catalog.extended(items))
        after = model.item_vectors()
    assert model.num_items == len(TITLES) + 1
    assert torch.allclose(after[:-1], before, atol=1e-6)
    assert torch.allclose(after[-1], before[1], atol=1e-6)


def test_options_that_cannot_be_are_errors():
    with pytest.raises(
        RecloomError, match="dim must be at most 512, the size of the text vectors; found 513"
    ):
        made(dim=513)
    with pytest.raises(RecloomError, match="temperature must be above 0 and finite; found 0"):
        made(temperature=0)
