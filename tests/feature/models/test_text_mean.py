from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import DataError, RecloomError
from recloom.llm import TextEncoder
from recloom.metrics.functional import auc, impression_mrr, ndcg, ranks
from recloom.training.ranking import mask_items
from recloom_feature.models.text_mean import TextMean

TITLES = ["Toy Story", "Toy Story 2", "Heat", "", "Red Heat", "The Thin Red Line"]


@dataclass(frozen=True)
class Axes(TextEncoder):
    """A text names its vector: `1 0 -2`."""

    dim: int = 3
    normalized = False
    max_tokens = None

    def encode(self, texts):
        rows = [text.split() or ["0"] * self.dim for text in texts]
        return np.array(rows, dtype=np.float32)


def nothing(catalog: Catalog) -> Interactions:
    empty = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    return Interactions.from_frame(pl.DataFrame(schema=empty), catalog)


def fitted(titles: list[str], **options) -> TextMean:
    catalog = Catalog(pl.DataFrame({"item_id": [f"i{n}" for n in range(len(titles))], "title": titles}))
    model = TextMean(catalog, **options)
    model.fit(nothing(catalog))
    return model.eval()


def scores(model: TextMean, *history: list[int]) -> torch.Tensor:
    length = max(map(len, history))
    padded = torch.tensor([[0] * (length - len(row)) + row for row in history], dtype=torch.long)
    return model.score(Batch.of(padded, torch.arange(1, model.num_items + 1)[None]))


def random_model(**options) -> TextMean:
    rows = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    return fitted([" ".join(map(str, row)) for row in rows], encoder=Axes(), **options)


@pytest.mark.fact("A1.1")
def test_an_empty_history_scores_zero_never_nan():
    model = fitted(TITLES)
    assert scores(model, [0], [1])[0].tolist() == [0] * 6
    empty = model.score(Batch.of(torch.zeros(2, 0, dtype=torch.long), torch.arange(1, 7)[None]))
    assert empty.tolist() == [[0] * 6] * 2


@pytest.mark.fact("A1.2")
def test_cosine_to_the_mean_ranks_like_the_mean_of_cosines():
    model = random_model()
    unit = model.vectors[1:]
    history = [4, 9, 17, 4]
    means = (unit @ model.vectors[history].T).mean(1)
    in_order = means[scores(model, history)[0].argsort(descending=True)]
    assert (in_order.diff() < 1e-6).all()


@pytest.mark.fact("A1.3")
def test_order_and_duplication_of_the_history_do_not_matter():
    model = random_model()
    found = scores(model, [4, 9, 17], [17, 4, 9], [4, 9, 17, 4, 9, 17])
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert torch.allclose(found[0], found[2], atol=1e-6)


@pytest.mark.fact("A1.3")
def test_recency_weights_make_order_and_duplication_matter():
    model = random_model(half_life=1.0)
    found = scores(model, [4, 9, 17], [17, 4, 9], [4, 4, 9, 9, 17, 17])
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert not torch.allclose(found[0], found[2], atol=1e-3)


@pytest.mark.fact("A1.4")
def test_metrics_of_three_scores():
    given = torch.tensor([0.9, 0.8, 0.1])
    found = ranks(given[None], torch.tensor([[1, 2]]))
    assert auc(given, torch.tensor([0, 1, 1])).item() == 0
    assert impression_mrr(found, None).item() == pytest.approx(0.4167, abs=5e-5)
    assert ndcg(found, 5).item() == pytest.approx(0.6934, abs=5e-5)


@pytest.mark.fact("A1.5")
def test_a_single_click_scores_one_and_disappears_when_seen_items_are_masked():
    model = fitted(TITLES)
    history = torch.tensor([[3]])
    found = scores(model, [3])
    assert found[0, 2].item() == pytest.approx(1, abs=1e-6)
    assert found[0].argmax() == 2
    hidden = mask_items(found, torch.arange(1, 7)[None], history)
    assert hidden[0, 2] == -torch.inf
    assert hidden[0].argmax() == 4  # Red Heat


@pytest.mark.parametrize("half_life", [None, 5.0])
@pytest.mark.fact("A1.6")
def test_opposite_texts_cancel_to_zero(half_life):
    model = fitted(["0.3 0.7 -0.2", "-0.3 -0.7 0.2", "1 0 0"], encoder=Axes(), half_life=half_life)
    found = scores(model, [1, 2], [1, 2, 1, 2])
    assert torch.isfinite(found).all()
    if half_life is None:
        assert not found.any()


@pytest.mark.fact("A1.7")
def test_a_batch_equals_the_loop_over_pairs():
    model = random_model()
    histories = [[1, 2, 3], [30], [7, 7, 9, 12], [5, 6]]
    found = scores(model, *histories)
    for row, history in enumerate(histories):
        user = model.vectors[history].double().mean(0)
        for item in range(1, 31):
            vector = model.vectors[item].double()
            cosine = user @ vector / user.norm() / vector.norm()
            assert found[row, item - 1].item() == pytest.approx(cosine.item(), abs=1e-6)


@pytest.mark.fact("A1.7")
def test_another_encoder_changes_the_dimension_only():
    toy, hashed = random_model(), fitted(TITLES)
    assert toy.vectors.shape == (31, 3)
    assert hashed.vectors.shape == (7, 512)
    assert scores(toy, [1, 2]).shape == (1, 30)


def test_recency_weights_halve_per_half_life():
    model = fitted(["1 0 0", "0 1 0", "0 0 1"], encoder=Axes(), half_life=2.0)
    found = scores(model, [1, 2, 3])[0]
    assert (found / found[2]).numpy() == pytest.approx([0.5, 0.5**0.5, 1], abs=1e-6)


def test_padding_does_not_age_a_history():
    model = random_model(half_life=2.0)
    assert torch.allclose(scores(model, [4, 9], [1, 2, 3, 4])[0], scores(model, [4, 9])[0], atol=1e-6)


def test_only_the_last_items_count_with_max_len():
    model = random_model(max_len=2)
    assert torch.allclose(scores(model, [1, 4, 9]), scores(model, [4, 9]))
    assert model.export().max_len == 2


def test_items_without_text_score_zero_and_add_nothing():
    model = fitted(TITLES)
    found = scores(model, [3], [3, 4], [4])
    assert found[0, 3] == 0
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert not found[2].any()


def test_several_columns_are_read():
    catalog = Catalog(pl.DataFrame({"item_id": ["a", "b"], "title": ["Heat", "Toys"], "tags": ["toys", ""]}))
    interactions = nothing(catalog)
    narrow, wide = TextMean(catalog), TextMean(catalog, columns=("title", "tags"))
    for model in (narrow, wide):
        model.fit(interactions)
    assert scores(narrow, [1])[0, 1] == 0
    assert scores(wide, [1])[0, 1] > 0.3
    with pytest.raises(DataError, match="no column 'plot'"):
        TextMean(catalog, columns=("plot",)).fit(interactions)


def test_a_checkpoint_restores_the_vectors_without_encoding():
    model = fitted(TITLES)
    again = TextMean(model.catalog, encoder=Axes())  # would fail on these titles
    again.vectors = torch.empty_like(model.vectors)
    again.load_state_dict(model.state_dict())
    assert torch.equal(scores(again, [1]), scores(model, [1]))


@pytest.mark.parametrize("half_life", [None, 3.0])
def test_the_export_scores_alike(half_life):
    model = random_model(half_life=half_life)
    history = torch.tensor([[0, 4, 9], [1, 2, 3], [0, 0, 0]])
    shapes = ({0: torch.export.Dim("rows"), 1: torch.export.Dim("length")},)
    traced = torch.export.export(model.export().module, ((history,)), dynamic_shapes=(shapes,)).module()
    longer = torch.tensor([[0, 4, 9, 9, 2], [0, 0, 0, 2, 3]])
    for given in (history, longer, longer[:1]):
        wanted = model.score(Batch.of(given, torch.arange(1, 31)[None]))
        assert torch.allclose(traced(given), wanted, atol=1e-6)


def test_scores_before_fit_say_what_to_do():
    catalog = Catalog(pl.DataFrame({"item_id": ["a"], "title": ["Heat"]}))
    with pytest.raises(RecloomError, match=r"no item vectors yet.*fit\(interactions\)"):
        TextMean(catalog).item_vectors()


@pytest.mark.parametrize("half_life", [0, -1.0])
def test_a_half_life_must_be_positive(half_life):
    catalog = Catalog(pl.DataFrame({"item_id": ["a"], "title": ["Heat"]}))
    with pytest.raises(RecloomError, match="half_life of TextMean must be above 0 items"):
        TextMean(catalog, half_life=half_life)


# -- fact 1 on data of MIND's layout -------------------------------------------------------------------

NEWS = "N{}\tsports\tgolf\t{}\tAn abstract\turl\t[]\t[]\n"
SHOWN = "{}\tU{}\t11/{}/2019 9:00:10 AM\t{}\t{}\n"


def mind_like(folder):
    """Four news and six impressions, the first row of each file as good as any, one history empty."""
    folder.mkdir()
    titles = ["Cat naps all day", "Cat eats fish", "Rocket lands on moon", "Moon rocket delayed"]
    (folder / "news.tsv").write_text("".join(NEWS.format(n, title) for n, title in enumerate(titles, 1)))
    rows = [(1, 1, 11, "N1", "N2-1 N4-0"), (2, 2, 11, "N3", "N2-0 N4-1"), (3, 3, 12, "", "N1-1 N3-0")]
    rows += [(4, 1, 13, "N1 N2", "N3-1 N4-0"), (5, 3, 14, "", "N2-1 N4-0"), (6, 2, 15, "N3", "N4-1 N1-0")]
    (folder / "behaviors.tsv").write_text("".join(SHOWN.format(*row) for row in rows))
    return folder


def impressions_of(folder, out):
    """A fitted TextMean, the catalogue, and batches of all the impressions from the second tenth on."""
    from recloom.data.batches.module import RecDataModule
    from recloom.data.prepare.source import prepare_source
    from recloom.schemas import SplitSpec

    prepare_source("mind", out, folder, keep_all_items=True)
    data = RecDataModule(
        str(out), SplitSpec(strategy="time", valid=0, test=0.5), candidates="impressions", seen="kept"
    )
    data.setup()
    model = TextMean(data.catalog)
    model.fit(data.train)
    return model.eval(), data


@pytest.mark.fact("A1.1")
def test_every_row_of_a_mind_like_file_is_read_and_an_empty_history_has_a_fallback(tmp_path):
    from recloom.data.card import read_card

    folder = mind_like(tmp_path / "raw")
    model, data = impressions_of(folder, tmp_path / "data")
    lines = {name: (folder / f"{name}.tsv").read_bytes().count(b"\n") for name in ("news", "behaviors")}
    card = read_card(tmp_path / "data")
    assert (card.counts["items"], card.counts["impressions"]) == (lines["news"], lines["behaviors"]) == (4, 6)
    assert data.catalog.item_ids([1, 2, 3, 4]) == ["N1", "N2", "N3", "N4"]
    batch = next(iter(data.test_dataloader()))
    empty = (batch.history == 0).all(1)
    assert empty.any()
    assert torch.isfinite(model.score(batch)).all()
    assert model.score(batch)[empty].eq(0).all()


@pytest.mark.parametrize("part", ["rows100", "small_train_5000"])
@pytest.mark.fact("A1.1")
def test_every_row_of_the_mind_sample_is_read(part, real_data):
    from recloom.data.readers.mind import Mind

    folder = real_data / "mind-sample" / part
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    raw = Mind().read(folder)
    for name, table in (("behaviors", raw.impressions), ("news", raw.items)):
        lines = (folder / f"{name}.tsv").read_bytes().splitlines()
        told = lines[0].startswith(
            (b"impression_id", b"news_id")
        )  # rows100 has a header, the rest of MIND none
        assert told == (part == "rows100")
        assert table.height == len(lines) - told
        column = "user_id" if name == "behaviors" else "item_id"
        assert table[column][0] in lines[told].decode().split("\t")
    assert not raw.rejected.height


# -- the closest item of a history ---------------------------------------------------------------------


def test_max_similarity_by_hand():
    model = fitted(["1 0 0", "0 1 0", "0.6 0.8 0", "-1 0 0", ""], encoder=Axes(), similarity="max")
    found = scores(model, [1, 2], [1], [4, 5], [5], [0])
    assert found[0].tolist() == pytest.approx([1, 1, 0.8, 0, 0])  # -1 to item 1 and 0 to item 2
    assert found[1].tolist() == pytest.approx([1, 0, 0.6, -1, 0])
    assert found[2].tolist() == pytest.approx([-1, 0, -0.6, 1, 0])  # item 5 has no text and lifts nothing
    assert not found[3:].any()


def test_max_similarity_with_recency_by_hand():
    model = fitted(["1 0 0", "0 1 0", "0.6 0.8 0"], encoder=Axes(), similarity="max", half_life=1.0)
    assert scores(model, [1, 2])[0].tolist() == pytest.approx([0.5, 1, 0.8])
    assert scores(model, [2, 1])[0].tolist() == pytest.approx([1, 0.5, 0.6])  # .6 now, .8 / 2 before


@pytest.mark.parametrize("half_life", [None, 3.0])
def test_max_similarity_equals_the_loop_over_pairs_in_blocks_too(half_life, monkeypatch):
    model = random_model(similarity="max", half_life=half_life)
    histories = [[1, 2, 3], [30], [7, 7, 9, 12], [5, 6]]
    found = scores(model, *histories)
    for row, history in enumerate(histories):
        weight = [1.0 if half_life is None else 0.5 ** (n / half_life) for n in range(len(history))][::-1]
        for item in range(1, 31):
            best = max(
                w * float(model.vectors[h] @ model.vectors[item])
                for w, h in zip(weight, history, strict=True)
            )
            assert found[row, item - 1].item() == pytest.approx(best, abs=1e-6)
    monkeypatch.setattr("recloom_feature.models.text_mean.BLOCK", 100)
    assert torch.allclose(scores(model, *histories), found, atol=1e-6)
    own = torch.tensor([[3, 1], [2, 0], [9, 9], [30, 5]])
    asked = Batch.of(torch.tensor([[0, 1, 2, 3], [0, 0, 0, 30], [7, 7, 9, 12], [0, 0, 5, 6]]), own)
    assert torch.allclose(
        model.score(asked)[own > 0], found.gather(1, own.clamp(min=1) - 1)[own > 0], atol=1e-6
    )


def test_max_similarity_has_no_query_vector():
    with pytest.raises(RecloomError, match="no query vector; use similarity mean"):
        random_model(similarity="max").query(Batch.of(torch.tensor([[1]])))
