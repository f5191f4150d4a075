"""Card A6, the model: facts by number; its vectors, from refined texts to a trained run."""

from __future__ import annotations

import json

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from recloom.batch import Batch
from recloom.cli.main import main
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import RecloomError
from recloom.losses import BCE, BPR
from recloom_graph.losses.contrast import DroppedEdges, NoisyViews
from recloom_graph.models.gacllm import GaCLLM
from recloom_graph.models.lightgcn import LightGCN
from torch import nn

USERS, ITEMS, SIZE = 5, 6, 4


def data(layers: int = 3, user_vectors: bool = True) -> tuple[Catalog, Interactions]:
    """The last user and the last item stand in no edge."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(USERS + ITEMS, layers * SIZE, generator=generator).tolist()
    users = pl.DataFrame({"user_id": [f"u{n}" for n in range(USERS)]})
    if user_vectors:
        users = users.with_columns(vector=pl.Series(rows[:USERS]))
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "vector": rows[USERS:]})
    catalog = Catalog(items, users, json.dumps({"class": "Some", "layers": layers}))
    pairs = [(f"u{u}", f"i{i}") for u in range(USERS - 1) for i in range(ITEMS - 1) if (u + 2 * i) % 3]
    return catalog, Interactions.from_frame(
        pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row"), catalog
    )


def fitted(layers: int = 3, **options) -> GaCLLM:
    catalog, interactions = data(layers)
    torch.manual_seed(1)
    model = GaCLLM(catalog, dim=3, **options)
    model.fit(interactions)
    return model.eval()


def dense(model: GaCLLM) -> torch.Tensor:
    """The sum of the layers, written as the card writes it."""
    adjacency, e = model.graph.matrix().to_dense(), model.layer0()
    last, total = model.texts.shape[1] - 1, torch.zeros_like(e)
    for layer in range(model.num_layers + 1):
        h = e + model.texts[:, min(layer, last)] @ model.project.weight.T
        total = total + h
        if layer < model.num_layers:
            e = adjacency @ h @ model.transforms[layer].weight.T
    return total


def disturb(model: GaCLLM) -> None:
    for transform in model.transforms:
        nn.init.normal_(transform.weight)


def test_the_layers_are_those_of_the_card():
    model = fitted(mlp=False)
    disturb(model)
    with torch.no_grad():
        assert torch.allclose(model.view(), dense(model), atol=1e-6)
    adjacency = model.graph.matrix().to_dense()
    users, items = data()[1].pairs()
    degree = torch.bincount(torch.cat([users, items + USERS + 1]), minlength=USERS + ITEMS + 2)
    u, i = int(users[0]), int(items[0]) + USERS + 1
    assert adjacency[u, i].item() == pytest.approx(1 / (degree[u] * degree[i]).sqrt().item())


def test_gradients_are_those_of_autograd():
    model = fitted(mlp=False)
    disturb(model)
    weights = torch.randn(USERS + ITEMS + 2, 3)
    parameters = [model.users.weight, model.project.weight, model.transforms[0].weight]
    found = torch.autograd.grad((model.view() * weights).sum(), parameters)
    expected = torch.autograd.grad((dense(model) * weights).sum(), parameters)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.fact("A6.2")
def test_raw_texts_alone_are_the_graph_network_over_texts_and_ids():
    model = fitted(layers=1, mlp=False)
    assert model.texts.shape == (USERS + ITEMS + 2, 1, SIZE)
    raw = model.layer0() + model.project(model.texts[:, 0])
    adjacency, text = model.graph.matrix().to_dense(), model.project(model.texts[:, 0])
    first = adjacency @ raw + text
    with torch.no_grad():
        assert torch.allclose(model.view(), raw + first + adjacency @ first + text, atol=1e-6)


@pytest.mark.fact("A6.5")
def test_a_node_without_edges_is_its_text_and_its_id():
    model = fitted(mlp=False)
    disturb(model)
    user, item = USERS, ITEMS  # the last ones
    with torch.no_grad():
        users, items = model.halves(model.view())
        texts = model.project(model.texts).sum(1)
        assert torch.allclose(users[user], model.users.weight[user] + texts[user], atol=1e-6)
        assert torch.allclose(items[item], model.items.table()[item] + texts[USERS + 1 + item], atol=1e-6)


@pytest.mark.fact("A6.6")
def test_without_texts_it_is_lightgcn_with_transforms_and_with_identities_the_sum_of_lightgcn():
    model = fitted(mlp=False)
    nn.init.zeros_(model.project.weight)
    catalog, interactions = data()
    plain = LightGCN(catalog, dim=3, num_layers=2)
    plain.fit(interactions)
    plain.users.weight.data, plain.items.ids.weight.data = (
        model.users.weight.data,
        model.items.ids.weight.data,
    )
    with torch.no_grad():
        assert torch.allclose(model.view(), 3 * plain.view(), atol=1e-6)
        disturb(model)
        adjacency, e0 = model.graph.matrix().to_dense(), model.layer0()
        w0, w1 = (transform.weight for transform in model.transforms)
        e1 = adjacency @ e0 @ w0.T
        assert torch.allclose(model.view(), e0 + e1 + adjacency @ e1 @ w1.T, atol=1e-6)


@pytest.mark.parametrize("combine", ["sum", "concat"])
@pytest.mark.parametrize("mlp", [True, False])
def test_a_user_is_folded_in_as_the_graph_would_have_it(combine, mlp):
    """Without an ID, and read through the same neighbours, a user has the vector that the formula gives."""
    model = fitted(combine=combine, mlp=mlp)
    disturb(model)
    _, interactions = data()
    with torch.no_grad():
        model.users.weight[1] = 0
        model.texts[1] = 0
    users, items = interactions.pairs()
    history = items[users == 1][None]
    nobody = Batch.of(history, user=torch.zeros(1, dtype=torch.long))
    known = Batch.of(torch.zeros_like(history), user=torch.ones(1, dtype=torch.long))
    with torch.no_grad():
        assert torch.allclose(model.query(nobody), model.query(known), atol=1e-5)


def test_a_user_without_training_rows_is_known_by_text_and_by_history():
    model = fitted(mlp=False)
    user, empty = torch.tensor([USERS]), torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        text = model.project(model.texts).sum(1)[USERS]
        assert torch.allclose(model.query(Batch.of(empty, user=user))[0], text, atol=1e-6)
        history = torch.tensor([[1, 2]])
        alone = model.query(Batch.of(history, user=torch.zeros(1, dtype=torch.long)))[0]
        assert torch.allclose(model.query(Batch.of(history, user=user))[0], text + alone, atol=1e-6)
        nobody = model.query(Batch.of(empty, user=torch.zeros(1, dtype=torch.long)))
        assert nobody.abs().max() == 0


def test_layers_side_by_side_reach_the_network_apart():
    model = fitted(combine="concat")
    assert model.mlp[0].in_features == 9
    assert model.view().shape == (USERS + ITEMS + 2, 3)
    assert fitted(combine="concat", mlp=False).view().shape == (USERS + ITEMS + 2, 9)


def test_pairwise_and_pointwise_losses_and_dropped_edges_train_it():
    _, interactions = data()
    users, items = interactions.pairs()
    step = Batch.of(torch.zeros(len(users), 1, dtype=torch.long), user=users, labels=items[:, None])
    for loss in (BPR(), BCE(), DroppedEdges(drop=0.2)):
        loss.fit(interactions)
        model = fitted().train()
        loss(model, step).backward()
        assert all(
            parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters()
        )
    noisy = NoisyViews()
    noisy.fit(interactions)
    with pytest.raises(RecloomError, match=r"--model.loss DroppedEdges"):
        noisy(fitted().train(), step)


def test_vectors_that_do_not_fit_are_reported():
    catalog, _ = data(layers=3)
    with pytest.raises(
        RecloomError, match=r"texts of 3 layers, and GaCLLM with num_layers 1 reads 2. .*num_layers 2"
    ):
        GaCLLM(catalog, num_layers=1)
    users = catalog.users.with_columns(vector=pl.lit([1.0, 2.0]))
    with pytest.raises(
        RecloomError, match=r"found 2 for users and 12 for items. .* one `recloom graph encode`"
    ):
        GaCLLM(Catalog(catalog.items, users, catalog.encoder))
    assert (GaCLLM(data(user_vectors=False)[0]).texts[: USERS + 1] == 0).all()
    assert GaCLLM(catalog, num_layers=4).texts.shape[1] == 3


def test_new_items_are_refused_with_the_next_step():
    catalog, _ = data()
    with pytest.raises(RecloomError, match="Refine and encode the texts of data that hold them"):
        GaCLLM(catalog).extend(catalog)


@pytest.fixture
def refined(tmp_path, monkeypatch, capsys):
    """A dataset in this folder whose texts are refined, and the command to type next."""
    monkeypatch.chdir(tmp_path)
    main(["data", "synth", "--like", "movies", "--users", "30", "--items", "50", "--out", "data"])
    capsys.readouterr()
    main(["graph", "refine", "data", "--layers", "1", "--llm.model", "Fake", "--split.strategy", "random"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("next: "))
    return line.removeprefix("next: recloom ").split()


def test_from_texts_to_vectors_to_a_run_that_needs_no_file(refined, tmp_path, capsys):
    from recloom.llm.texts.hashing import HashingNgrams

    main(refined)
    said = capsys.readouterr().out
    assert "wrote data/refined-items-vectors.parquet: 50 of 50 items, 2 layers of 512 numbers each" in said
    table = pl.read_parquet("data/refined-items.parquet")
    vectors = pl.read_parquet("data/refined-items-vectors.parquet")
    assert vectors["item_id"].to_list() == table["item_id"].to_list()
    for at in (0, 49):
        parts = HashingNgrams().encode([table["layer_0"][at], table["layer_1"][at]]).reshape(-1)
        assert vectors["vector"][at].to_list() == pytest.approx(parts.tolist())
    main(refined)
    assert "0 texts encoded" in capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if line.startswith("next: "))
    fit = line.removeprefix("next: recloom ").split()
    assert fit[:6] == ["fit", "--model", "GaCLLM", "--data", "data", "--data.split.strategy"]
    main([*fit, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--run", "runs/g",
          "--model.recommender.dim", "8"])  # fmt: skip
    for file in (tmp_path / "data").glob("refined-*"):
        file.unlink()
    capsys.readouterr()
    main(["recommend", "runs/g", "--history", table["item_id"][0], "--k", "3"])
    assert len(capsys.readouterr().out.splitlines()) >= 3


def test_files_that_do_not_fit_are_reported(refined, tmp_path, capsys):
    def told(*words: str) -> str:
        with pytest.raises(SystemExit):
            main([*refined, *words])
        return " ".join(capsys.readouterr().err.split())

    assert "refined-items.parquet does not exist. Write it with `recloom graph refine data`." in told(
        "--folder", str(tmp_path)
    )
    main(refined)
    made = json.loads(pq.read_schema("data/refined-items-vectors.parquet").metadata[b"recloom.encoder"])
    assert (made["class"], made["layers"]) == ("HashingNgrams", 2)
    assert "refined-encoded.parquet was made with" in told(
        "--encoder", "HashingNgrams", "--encoder.dim", "64"
    )
    main([*refined, "--encoder", "HashingNgrams", "--encoder.dim", "64", "--overwrite"])
    pl.DataFrame({"item_id": ["a"], "layer_0": ["b"]}).write_parquet("data/refined-items.parquet")
    assert "was not written by `recloom graph refine`; choose another --folder" in told()
    main(["data", "synth", "--like", "movies", "--users", "31", "--items", "50", "--out", "other"])
    main(["graph", "refine", "other", "--layers", "0", "--llm.model", "Fake"])
    capsys.readouterr()
    assert "was written from other data than data" in told("--folder", "other")
