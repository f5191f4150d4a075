"""Tiny recommenders of every shape that an artefact has to carry, and their artefacts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx_ir")

import onnx
import onnx_ir as ir
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.recommender import ExportSpec, Recommender, VectorRecommender, multi_hot
from recloom_onnx.artifact.manifest import weight_digest
from recloom_onnx.artifact.session import Session
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.exporting.trace import trace
from recloom_onnx.verification.reference import Reference, reference_scores
from recloom_onnx.verification.verify import verify_artefact
from torch import Tensor, nn

ITEMS = [
    "a b",
    " a b ",
    "'quoted' \"twice\"",
    "emoji \N{PILE OF POO}\N{ZERO WIDTH JOINER}é",
    "long" * 2500,
    "7",
    "07",
    "7.0",
    "-1",
    "new\nline\ttab",
    "\\0",
    "NaN",
    *(f"item {n}" for n in range(48)),
]
USERS = ["u1", "ü 2", "3"]
HISTORIES = [["7"], [], ["item 1", "item 2", "nobody"], ["07"] * 40, ["item 3"], ["a b", "NaN"], ["item 9"]]


class Positions(VectorRecommender):
    """Inner products, with a weight for each of the last max_len positions."""

    def __init__(self, catalog: Catalog, max_len: int = 8) -> None:
        super().__init__(catalog)
        self.max_len = max_len
        self.table = nn.Embedding(self.num_items + 1, 6)
        self.place = nn.Embedding(max_len, 6)

    def item_vectors(self) -> Tensor:
        return self.table.weight

    def query(self, batch: Batch) -> Tensor:
        history = nn.functional.pad(batch.history, (self.max_len, 0))[:, -self.max_len :]
        read = self.table(history) * self.place.weight
        return (read * (history > 0)[:, :, None]).sum(1)


class Linear(Recommender):
    """Reads the whole history, of any length, as a set."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.weight = nn.Parameter(torch.randn(self.num_items + 1, self.num_items + 1))

    def score(self, batch: Batch) -> Tensor:
        return (multi_hot(batch.history, self.num_items) @ self.weight)[:, batch.candidates[0]]


class Users(VectorRecommender):
    """Knows users by id, and nothing of their history."""

    inputs = ("user",)

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.user = nn.Embedding(self.num_users + 1, 4)
        self.item = nn.Embedding(self.num_items + 1, 4)

    def item_vectors(self) -> Tensor:
        return self.item.weight

    def query(self, batch: Batch) -> Tensor:
        return self.user(batch.user)


class Times(Recommender):
    """Reads everything that a request can hold: fresh items of the history count more."""

    inputs = ("history", "history_time", "request_time", "user")

    def __init__(self, catalog: Catalog, max_len: int | None = None) -> None:
        super().__init__(catalog)
        self.max_len = max_len
        self.similar = nn.Parameter(torch.randn(self.num_items + 1, self.num_items + 1))
        self.taste = nn.Parameter(torch.randn(self.num_users + 1, self.num_items + 1))

    def score(self, batch: Batch) -> Tensor:
        width = self.max_len or batch.history.shape[1]
        history, time = batch.history[:, -width:], batch.history_time[:, -width:]
        age = (batch.request_time[:, None] - time).float() / 1e8
        fresh = torch.exp(-age) * (history > 0)  # (B, L)
        scores = (self.similar[history] * fresh[:, :, None]).sum(1) + self.taste[batch.user]
        return scores[:, batch.candidates[0]]


class Counts(Recommender):
    """The same scores for everybody."""

    inputs = ()

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.register_buffer("counts", torch.randint(0, 9, (self.num_items + 1,)).double())

    def score(self, batch: Batch) -> Tensor:
        return self.counts[batch.candidates].expand(len(batch), -1)

    def export(self) -> ExportSpec:
        return ExportSpec(Constant(self.counts[1:]), (), None)


class Constant(nn.Module):
    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.register_buffer("scores", scores)

    def forward(self) -> Tensor:
        return self.scores[None] * 1


MODELS: dict[str, Callable[[Catalog], Recommender]] = {
    "positions": Positions,
    "one position": partial(Positions, max_len=1),
    "linear": Linear,
    "users": Users,
    "times": Times,
    "few times": partial(Times, max_len=3),
    "counts": Counts,
}


@dataclass
class Exported:
    """An artefact and what it was made from."""

    path: Path
    catalog: Catalog
    recommender: Recommender
    popularity: Tensor

    @property
    def reference(self) -> Reference:
        return partial(reference_scores, self.recommender, self.popularity)

    def session(self) -> Session:
        return Session(self.path, threads=1, allow_unverified=True)

    def copy(self, folder: Path) -> Exported:
        for file in self.path.parent.iterdir():
            shutil.copy(file, folder / file.name)
        return Exported(folder / self.path.name, self.catalog, self.recommender, self.popularity)


@pytest.fixture(scope="session", autouse=True)
def traced() -> Iterator[dict[tuple[object, ...], bytes]]:
    """What was traced in this process: a module of the same parts and weights is not traced a second time.

    A test of the tracing itself clears it.
    """
    kept: dict[tuple[object, ...], bytes] = {}

    def once(spec: ExportSpec, *sizes: int, **others: int | None) -> ir.Model:
        parts = tuple((name, type(part)) for name, part in spec.module.named_modules())
        weights = weight_digest(dict([*spec.module.named_parameters(), *spec.module.named_buffers()]))
        key = (parts, weights, spec.inputs, spec.max_len, sizes, *sorted(others.items()))
        if key not in kept:
            made = trace(spec, *sizes, **others)
            kept[key] = ir.serde.serialize_model(made).SerializeToString()
            return made
        return ir.serde.deserialize_model(onnx.ModelProto.FromString(kept[key]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recloom_onnx.exporting.export.trace", once)
        yield kept


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return Catalog(pl.DataFrame({"item_id": ITEMS}), pl.DataFrame({"user_id": USERS}))


@pytest.fixture(scope="session")
def popularity() -> Tensor:
    return torch.cat([torch.zeros(1), torch.randperm(len(ITEMS)).float()])


@pytest.fixture(scope="session")
def artefact(
    catalog: Catalog, popularity: Tensor, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Exported]:
    """An exported model by its name in MODELS; each is exported once and must not be changed."""
    made: dict[str, Exported] = {}

    def of(name: str) -> Exported:
        if name not in made:
            torch.manual_seed(0)
            recommender = MODELS[name](catalog).eval()
            path = tmp_path_factory.mktemp("artefact") / "model.onnx"
            export_artefact(recommender, catalog, popularity, path)
            made[name] = Exported(path, catalog, recommender, popularity)
        return made[name]

    return of


@pytest.fixture(scope="session")
def verified(artefact: Callable[[str], Exported], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The artefact of `positions`, compared with its model."""
    made = artefact("positions").copy(tmp_path_factory.mktemp("verified"))
    assert verify_artefact(made.path, made.reference, made.catalog).verified
    return made


@pytest.fixture(params=list(MODELS))
def each(request: pytest.FixtureRequest, artefact: Callable[[str], Exported]) -> Exported:
    """Every model in turn."""
    return artefact(request.param)


@pytest.fixture(scope="session")
def passed(artefact, tmp_path_factory):
    """The verified artefact of a model by its name."""

    @cache
    def of(name: str) -> Path:
        made = artefact(name).copy(tmp_path_factory.mktemp("passed"))
        assert verify_artefact(made.path, made.reference, made.catalog).verified
        return made.path

    return of


@pytest.fixture
def users(tmp_path):
    """A file of seven users, in three row groups."""
    table = pl.DataFrame({"user_id": [f"u{n}" for n in range(len(HISTORIES))], "history": HISTORIES})
    table.write_parquet(tmp_path / "users.parquet", row_group_size=3)
    return tmp_path / "users.parquet"


def expected(path: Path, k: int, histories=HISTORIES, blocked=None) -> list[list[tuple[str, float]]]:
    lists = Session(path).recommend(histories, k, blocked)
    return [[(place.item_id, pytest.approx(place.score, rel=1e-6)) for place in places] for places in lists]


def found(out: Path, key: str = "user_id") -> dict[object, list[tuple[str, float]]]:
    lists: dict[object, list[tuple[str, float]]] = {}
    for row in pl.read_parquet(out).iter_rows(named=True):
        lists.setdefault(row[key], []).append((row["item_id"], row["score"]))
        assert row["rank"] == len(lists[row[key]])
    return lists


def pass_by_users(path: Path, recommender: Recommender, popularity: Tensor, catalog: Catalog) -> Path:
    """Verify an artefact that may lose a little, over 200 users who want what the recommender ranks first."""
    history = torch.randint(1, catalog.num_items + 1, (200, 4), generator=torch.Generator().manual_seed(0))
    batch, blocked = Batch.of(history), torch.zeros(200, 0, dtype=torch.int64)
    with torch.no_grad():
        allowed = torch.ones(200, catalog.num_items, dtype=torch.bool)
        best = reference_scores(recommender, popularity, batch, blocked, allowed).argmax(1) + 1
    wanted = replace(batch, labels=best[:, None])
    reference = partial(reference_scores, recommender, popularity)
    parity = verify_artefact(path, reference, catalog, [wanted], max_loss=0.5)
    assert parity.verified, parity.failures
    return path
