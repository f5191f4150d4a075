"""KAR: the knowledge-adaptation network and its training rows."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import recloom
import torch
from recloom.batch import Batch
from recloom.data.batches.training_rows import PointwiseRows
from recloom.data.catalog import Catalog
from recloom.data.interactions import Interactions
from recloom.errors import DataError, RecloomError
from recloom.models.ctr import DIN, DCNv2, DeepFM
from recloom.testing.toys import toy_dataset, write_toy
from recloom.testing.training import train
from recloom_feature.models.kar import KAR, HybridExperts

BACKBONES = {
    "DIN": partial(DIN, dim=3, hidden=(5,), attention=(4,)),
    "DCNv2": partial(DCNv2, dim=3, hidden=(5,), num_layers=2),
    "DeepFM": partial(DeepFM, dim=3, hidden=(5,)),
}


def catalog(items=6, users=3, size=4, user_size=None) -> Catalog:
    random = np.random.default_rng(0)

    def vectors(count, size):
        return pl.Series(
            "vector", [*random.normal(size=(count - 1, size)).tolist(), None], dtype=pl.List(pl.Float32)
        )

    return Catalog(
        pl.DataFrame({"item_id": [f"i{n}" for n in range(items)], "vector": vectors(items, size)}),
        pl.DataFrame(
            {"user_id": [f"u{n}" for n in range(users)], "vector": vectors(users, user_size or size)}
        ),
    )


def batch() -> Batch:
    candidates = torch.tensor([[1, 2, 3], [4, 5, 6]])
    return Batch.of(torch.tensor([[0, 1, 2], [3, 4, 5]]), candidates, user=torch.tensor([1, 2]))


@pytest.mark.fact("A3.1")
def test_no_training_row_is_one_that_knowledge_may_be_built_from():
    given = catalog(items=30)
    rows = [("u0", f"i{n}", n, 5.0) for n in range(7)] + [("u1", f"i{n}", n, 1.0) for n in range(20)]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "value"], orient="row")
    interactions = Interactions.from_frame(frame, given)
    interactions.positive = 4.0
    rated = PointwiseRows(interactions, 5, limit=30)
    batch = rated[torch.arange(len(rated))]
    assert len(rated) == (7 - 4) + (20 - 10)
    assert batch.candidates[batch.user == 1].min() == 1 + 4
    assert batch.candidates[batch.user == 2].min() == 1 + 10


@pytest.mark.fact("A3.2")
def test_gates_sum_to_one_and_knowledge_is_not_negative():
    experts = HybridExperts(6, shared=2, dedicated=3)
    x = torch.randn(50, 6)
    for side in ("user", "item"):
        assert experts.gate(side, x).shape == (50, 5)
        assert torch.allclose(experts.gate(side, x).sum(-1), torch.ones(50), atol=1e-6)
        found = experts(side, x)
        assert found.shape == (50, 32)
        assert (found >= 0).all()
        assert (found > 0).any()


@pytest.mark.parametrize(("shared", "dedicated"), [(1, 0), (0, 1)])
@pytest.mark.fact("A3.2")
def test_with_one_expert_z_is_its_output(shared, dedicated):
    experts = HybridExperts(6, shared, dedicated)
    x = torch.randn(4, 6)
    only = (experts.shared if shared else experts.item)[0]
    assert torch.allclose(experts("item", x), only(x), atol=1e-6)


@pytest.mark.fact("A3.2")
def test_experts_are_mixed_by_their_gate():
    experts = HybridExperts(1, shared=1, dedicated=1, hidden=1, out=1)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.zero_()
        for expert, weight in ((experts.shared[0], 2.0), (experts.user[0], 5.0), (experts.item[0], 7.0)):
            expert[0].weight.fill_(1.0)
            expert[2].weight.fill_(weight)
        experts.gates["user"].bias[:] = torch.tensor([0.0, float(np.log(3))])
    # x = 2: experts 4 and 10, gate 1/4 and 3/4; items: experts 4 and 14, gate 1/2 each
    assert experts("user", torch.tensor([2.0])).item() == pytest.approx(0.25 * 4 + 0.75 * 10, abs=1e-5)
    assert experts("item", torch.tensor([2.0])).item() == pytest.approx(0.5 * 4 + 0.5 * 14, abs=1e-5)


@pytest.mark.fact("A3.3")
def test_number_of_parameters_of_kar():
    experts = HybridExperts(768, shared=2, dedicated=5)
    assert sum(parameter.numel() for parameter in experts.parameters()) == 1_241_486


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.fact("A3.4")
def test_without_knowledge_kar_equals_its_backbone(name):
    given = catalog()
    torch.manual_seed(0)
    plain, model = BACKBONES[name](given).eval(), KAR(given, BACKBONES[name]).eval()
    size = plain.mlp[0].in_features
    assert model.backbone.mlp[0].in_features == size + 64
    state = plain.state_dict()
    with torch.no_grad():
        wide = model.backbone.mlp[0].weight
        wide[:, :size] = state["mlp.0.weight"]
        model.backbone.load_state_dict(state | {"mlp.0.weight": wide})
        assert not torch.allclose(model.score(batch()), plain.score(batch()), atol=1e-5)
        for expert in (*model.experts.shared, *model.experts.user, *model.experts.item):
            for parameter in expert.parameters():
                parameter.zero_()
        assert torch.allclose(model.score(batch()), plain.score(batch()), atol=1e-6)


@pytest.mark.fact("A3.5")
def test_the_user_side_never_teaches_the_experts_of_items():
    experts = HybridExperts(6, shared=2, dedicated=2)
    experts("user", torch.randn(20, 6)).sum().backward()
    assert all(parameter.grad.any() for parameter in experts.shared[0].parameters())
    assert all(parameter.grad.any() for parameter in experts.user[0].parameters())
    assert all(parameter.grad is None for parameter in experts.item.parameters())
    assert all(parameter.grad is None for parameter in experts.gates["item"].parameters())


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.fact("A3.6")
def test_missing_knowledge_adds_nothing(name):
    model = KAR(catalog(), BACKBONES[name]).eval()
    with torch.no_grad():
        assert not model.knowledge("user", model.user_vectors, torch.tensor([[0], [3]])).any()
        assert not model.knowledge("item", model.item_vectors, torch.tensor([[0, 6]])).any()
        assert model.knowledge("item", model.item_vectors, torch.tensor([[1, 2]])).any()
        unknown = Batch.of(torch.tensor([[0]]), torch.tensor([[6, 1]]), user=torch.tensor([0]))
        item = model.knowledge("item", model.item_vectors, unknown.candidates)
        expected = model.backbone.logits(unknown, torch.cat([torch.zeros_like(item), item], -1))
        assert torch.allclose(model.score(unknown), expected, atol=1e-6)
        assert model.score(unknown).isfinite().all()


@pytest.mark.fact("A3.6")
def test_serving_asks_no_language_model(tmp_path, monkeypatch):
    from recloom.llm import LanguageModel, TextEncoder

    module = train(
        KAR, {"backbone": BACKBONES["DCNv2"]}, toy_dataset(tmp_path / "toy", vectors=True), steps=2
    )

    def asked(*given, **options):
        raise AssertionError("a language model was asked")

    for kind in (LanguageModel, TextEncoder):
        for subclass in (kind, *kind.__subclasses__()):
            for method in ("generate", "score", "encode"):
                if hasattr(subclass, method):
                    monkeypatch.setattr(subclass, method, asked)
    with torch.no_grad():
        assert module.rank(batch(), mask_seen=False).isfinite().all()


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Ratings that depend on the vectors of user and item and on nothing else: the sign of their product."""
    random = np.random.default_rng(0)
    users, items = random.normal(size=(60, 2)), random.normal(size=(400, 2))
    rows, values = [], []
    for user in range(60):
        for at, item in enumerate(random.permutation(400)[:60]):
            rows.append((user, int(item), 1_500_000_000 + (user + 60 * at) * 86_400))
            values.append(5 if users[user] @ items[item] > 0 else 1)
    folder = write_toy(
        tmp_path_factory.mktemp("shop") / "data", rows, [f"thing {n}" for n in range(400)], values
    )
    for name, matrix in (("user", users), ("item", items)):
        for tail, order in (("", np.arange(len(matrix))), ("-shuffled", random.permutation(len(matrix)))):
            pl.DataFrame(
                {
                    f"{name}_id": [f"{name[0]}{n}" for n in range(len(matrix))],
                    "vector": matrix[order].tolist(),
                }
            ).write_parquet(folder.parent / f"{name}{tail}.parquet")
    return folder


@pytest.mark.fact("A3.8")
def test_shuffled_knowledge_does_not_help(shop, tmp_path):
    found = {}
    for tail in ("", "-shuffled"):
        options = {"candidates": "rated", "seen": "kept", "positive": 4, "batch_size": 128}
        options |= {"vectors": str(shop.parent / f"item{tail}.parquet")}
        options |= {"user_vectors": str(shop.parent / f"user{tail}.parquet")}
        options["split"] = {"strategy": "time", "valid": 0.1, "test": 0.3}
        backbone = {"class_path": "DeepFM", "init_args": {"dim": 4, "hidden": [32]}}
        run = recloom.fit(
            shop, "KAR", {"backbone": backbone, "hidden": 32}, run=tmp_path / f"run{tail}", max_epochs=5,
            config={"data": options, "model": {"metrics": ["auc"], "lr": 1e-2}},
        )  # fmt: skip
        found[tail] = run.test().metrics["auc"].mean
    assert found[""] > 0.75
    assert found["-shuffled"] < 0.65


def test_the_backbone_is_named_on_the_command_line_and_comes_back(tmp_path):
    from recloom.cli.main import main

    folder = toy_dataset(tmp_path / "toy", vectors=True)
    run = tmp_path / "run"
    words = [
        "fit",
        "--data",
        str(folder),
        "--model.recommender",
        "KAR",
        "--model.recommender.backbone",
        "DCNv2",
    ]
    words += ["--model.recommender.backbone.dim", "3", "--data.positive", "4", "--run", str(run)]
    main([*words, "--trainer.max_epochs", "1"])
    loaded = recloom.load(run)
    assert isinstance(loaded.recommender.backbone, DCNv2)
    recipe = json.loads((run / "run.json").read_text())["recommender"]
    assert recipe["init_args"]["backbone"]["init_args"]["dim"] == 3
    assert len(loaded.recommend(["i1", "i2"], k=3)) == 3


def test_vectors_of_two_sizes_cannot_share_experts():
    with pytest.raises(RecloomError, match="vectors must be of one size; found 5 and 4"):
        KAR(catalog(user_size=5))


def test_without_vectors_it_says_how_to_make_them():
    given = catalog()
    with pytest.raises(DataError, match=r"--data\.user_vectors"):
        KAR(Catalog(given.items, given.users.drop("vector")))
    with pytest.raises(DataError, match=r"--data\.vectors"):
        KAR(Catalog(given.items.drop("vector"), given.users))


def test_a_backbone_must_be_a_click_model():
    from recloom.models import Popularity

    with pytest.raises(RecloomError, match=r"must be a click model, such as DIN.*found Popularity"):
        KAR(catalog(), Popularity)


def test_experts_there_must_be():
    with pytest.raises(RecloomError, match="KAR needs an expert"):
        KAR(catalog(), shared=0, dedicated=0)
