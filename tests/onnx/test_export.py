"""What is written, and what cannot be."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import onnx
import polars as pl
import pytest
import torch
from recloom.batch import Batch
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom.io import sha256
from recloom.recommender import ExportSpec, Recommender, VectorRecommender
from recloom.schemas import Protocol, SplitSpec
from recloom_onnx.artifact.manifest import id_digest, read_manifest
from recloom_onnx.artifact.session import Session
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.verification.reference import reference_scores
from recloom_onnx.verification.verify import verify_artefact
from torch import nn

PROTOCOL = Protocol(
    dataset="d", data_hash="h", split=SplitSpec(), split_hash="s", part="test", candidates="all",
    seen="masked", users=3, num_items=60,
)  # fmt: skip


class Users(VectorRecommender):
    """One vector for each user."""

    inputs = ("user",)

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.user = nn.Embedding(self.num_users + 1, 4)
        self.item = nn.Embedding(self.num_items + 1, 4)

    def item_vectors(self) -> torch.Tensor:
        return self.item.weight

    def query(self, batch: Batch) -> torch.Tensor:
        return self.user(batch.user)


class Odd(Recommender):
    """Scores by a module that is given."""

    def __init__(self, catalog: Catalog, part: nn.Module) -> None:
        super().__init__(catalog)
        self.encoder = nn.Sequential(nn.Identity(), part)

    def score(self, batch: Batch) -> torch.Tensor:
        read = self.encoder(batch.history)
        return read.float().flatten(1)[:, :1].expand(-1, self.num_items)


class Search(nn.Module):
    def forward(self, x):
        return torch.searchsorted(torch.arange(9.0), x.float())


class Svd(nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x.float())[0]


class Pieces(nn.Module):
    def forward(self, x):
        weights = (x > 0).float()
        return nn.functional.embedding_bag(x, torch.ones(99, 4), mode="sum", per_sample_weights=weights)


class Branch(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


class Loop(nn.Module):
    def forward(self, x):
        return torch.stack([x[row].sum() for row in range(x.shape[0])])[:, None]


def export(catalog, part, tmp_path):
    recommender = Odd(catalog, part)
    export_artefact(recommender, catalog, torch.zeros(catalog.num_items + 1), tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (nn.EmbeddingBag(99, 4), r"recommender.encoder.1 is an EmbeddingBag.*Use nn.Embedding"),
        (Search(), r"^encoder.1 calls torch's searchsorted, which has no ONNX operator"),
        (Svd(), r"^encoder.1 calls torch's linalg_svd, which has no ONNX operator"),
        (Pieces(), r"embedding_bag in encoder.1 becomes the ONNX operator Sequence.*plain tensor operations"),
        (Branch(), r"^encoder.1 \(Branch\) cannot be traced: .*data-dependent"),
        (Loop(), r"^Odd fixes the number of requests or their length.*never len\(batch\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_onnx_form_is_named_by_its_module(catalog, part, message, tmp_path):
    with pytest.raises(RecloomError, match=message):
        export(catalog, part, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_recommender_that_refuses_is_not_argued_with(catalog, tmp_path):
    class Refuses(Odd):
        def export(self):
            raise RecloomError("Refuses cannot be exported: it asks a language model")

    with pytest.raises(RecloomError, match="it asks a language model"):
        export_artefact(Refuses(catalog, nn.Identity()), catalog, torch.zeros(61), tmp_path / "model.onnx")


def test_an_input_that_no_request_has_is_an_error(catalog, tmp_path):
    class Asks(Odd):
        def export(self):
            return ExportSpec(self, ("weather",), None)

    with pytest.raises(
        RecloomError, match="asks for the input 'weather'; an artefact can give context, history"
    ):
        export_artefact(Asks(catalog, nn.Identity()), catalog, torch.zeros(61), tmp_path / "model.onnx")


def test_scores_of_a_wrong_shape_are_an_error(catalog, tmp_path):
    class Short(Odd):
        def score(self, batch):
            return super().score(batch)[:, 1:]

    with pytest.raises(
        RecloomError, match=r"gives numbers of shape \(3, 59\) for 3 requests; expected \(3, 60\)"
    ):
        export_artefact(Short(catalog, nn.Identity()), catalog, torch.zeros(61), tmp_path / "model.onnx")


@pytest.mark.parametrize("wrong", ["", "nul\0byte"])
@pytest.mark.parametrize("column", ["item_id", "user_id"])
def test_ids_that_a_runtime_cannot_hold_are_named(wrong, column, tmp_path):
    ids = ["fine", wrong]
    tables = {name: ids if name == column else ["x", "y"] for name in ("item_id", "user_id")}
    catalog = Catalog(*(pl.DataFrame({name: values}) for name, values in tables.items()))
    with pytest.raises(RecloomError, match=f"row 2 of the catalogue has {column} .* not empty, hold no NUL"):
        export(catalog, nn.Identity(), tmp_path)


def test_popularity_of_another_catalogue_is_an_error(catalog, tmp_path):
    recommender = Odd(catalog, nn.Identity())
    with pytest.raises(RecloomError, match=r"popularity has shape \(7,\); expected \(61,\)"):
        export_artefact(recommender, catalog, torch.zeros(7), tmp_path / "model.onnx")
    with pytest.raises(RecloomError, match="not finite"):
        export_artefact(recommender, catalog, torch.full((61,), torch.inf), tmp_path / "model.onnx")


def test_an_empty_catalogue_is_an_error(tmp_path):
    catalog = Catalog(pl.DataFrame({"item_id": []}, schema={"item_id": pl.String}))
    with pytest.raises(RecloomError, match="the catalogue holds no items"):
        export(catalog, nn.Identity(), tmp_path)


def test_the_place_must_be_a_file_in_a_folder(catalog, tmp_path):
    recommender = Odd(catalog, nn.Identity())
    with pytest.raises(RecloomError, match=r"ends in .onnx, found 'model.bin'"):
        export_artefact(recommender, catalog, torch.zeros(61), "model.bin")
    with pytest.raises(RecloomError, match="absent is not a folder"):
        export_artefact(recommender, catalog, torch.zeros(61), tmp_path / "absent" / "model.onnx")


def test_the_manifest_says_what_the_artefact_is(artefact, catalog, tmp_path):
    made = artefact("few times")
    out = tmp_path / "model.onnx"
    manifest = export_artefact(
        made.recommender, catalog, made.popularity, out,
        config={"max_len": 3}, protocol=PROTOCOL, metrics={"ndcg@10": 0.5},
    )  # fmt: skip
    assert read_manifest(out) == manifest
    assert manifest.model == "Times"
    assert manifest.config == {"max_len": 3}
    assert manifest.protocol == PROTOCOL
    assert manifest.metrics == {"ndcg@10": 0.5}
    assert manifest.versions["torch"] == version("torch")
    written = onnx.load(str(out)).opset_import
    assert manifest.opsets == {one.domain or "ai.onnx": one.version for one in written}
    assert manifest.opsets == {"ai.onnx": 20, "ai.onnx.ml": 3}
    assert (manifest.max_len, manifest.num_items, manifest.num_users) == (3, 60, 3)
    assert manifest.id_table == id_digest(catalog.items["item_id"])
    beside = tmp_path / "model.users.parquet"
    assert manifest.files == {"model.onnx": sha256(out), beside.name: sha256(beside)}
    assert pl.read_parquet(beside)["user_id"].to_list() == catalog.users["user_id"].to_list()
    assert manifest.parity is None
    assert [port.name for port in manifest.inputs] == [
        "history", "blocked", "allowed", "k", "history_time", "request_time", "user",
    ]  # fmt: skip
    assert [port.name for port in manifest.outputs] == ["item_id", "score"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.onnx", beside.name]


def test_titles_lie_beside_the_file(popularity, tmp_path):
    titles = [f"Title {n}" for n in range(59)] + [None]
    catalog = Catalog(pl.DataFrame({"item_id": [f"i{n}" for n in range(60)], "title": titles, "year": 1}))
    out = tmp_path / "my.onnx"
    manifest = export_artefact(Users(catalog).eval(), catalog, popularity, out)
    assert list(manifest.files) == ["my.onnx", "my.items.parquet", "my.users.parquet"]
    assert pl.read_parquet(tmp_path / "my.items.parquet").columns == ["item_id", "title"]
    found = Session(out, allow_unverified=True).titles
    assert found == {f"i{n}": f"Title {n}" for n in range(59)}
    (tmp_path / "my.items.parquet").write_bytes(b"other")
    with pytest.raises(RecloomError, match=r"my.items.parquet is not the file that was exported"):
        Session(out, allow_unverified=True)


@pytest.mark.parametrize("wrong", ["07", "-1", "x", str(2**63), "1.0", "+5"])
def test_ids_that_are_no_integers_are_named(wrong, tmp_path):
    catalog = Catalog(pl.DataFrame({"item_id": ["1", wrong]}))
    with pytest.raises(RecloomError, match=r"row 2 of the catalogue has item_id '.*'; integer ids are whole"):
        export_artefact(Users(catalog).eval(), catalog, torch.ones(3), tmp_path / "model.onnx", ids="integer")
    assert not list(tmp_path.iterdir())


def test_the_id_digest_depends_on_order_and_borders():
    assert id_digest(["ab", "c"]) != id_digest(["a", "bc"])
    assert id_digest(["ab", "c"]) != id_digest(["c", "ab"])


def test_the_recommender_is_left_as_it_was(artefact, catalog, tmp_path, traced):
    recommender = artefact("positions").recommender
    traced.clear()
    recommender.train()
    recommender.table.eval()
    before = {name: value.clone() for name, value in recommender.state_dict().items()}
    export_artefact(recommender, catalog, torch.zeros(61), tmp_path / "model.onnx")
    assert recommender.training
    assert recommender.place.training
    assert not recommender.table.training
    assert all(torch.equal(value, before[name]) for name, value in recommender.state_dict().items())
    recommender.eval()


def test_history_may_be_recommended_where_seen_is_kept(verified, tmp_path):
    made = verified.copy(tmp_path)
    manifest = export_artefact(made.recommender, made.catalog, made.popularity, made.path, seen="kept")
    assert manifest.seen == "kept"
    with pytest.raises(RecloomError, match="never compared"):  # the old report is not that of the new file
        Session(made.path)
    assert verify_artefact(made.path, partial(made.reference, seen="kept"), made.catalog).verified
    assert len(Session(made.path).recommend([["7"]], k=60)[0]) == 60


def test_in_a_catalogue_without_users_every_user_is_unknown(tmp_path):
    catalog = Catalog(pl.DataFrame({"item_id": ["a", "b"]}))
    recommender = Users(catalog).eval()
    popularity = torch.tensor([0.0, 1.0, 2.0])
    export_artefact(recommender, catalog, popularity, tmp_path / "model.onnx")
    parity = verify_artefact(
        tmp_path / "model.onnx", partial(reference_scores, recommender, popularity), catalog
    )
    assert parity.verified
    places = Session(tmp_path / "model.onnx").recommend([["a"], []], users=["", "u1"])
    assert places == [[("b", 2.0)], [("b", 2.0), ("a", 1.0)]]


class Few(Users):
    """Has met u2 and u4 in training; the others have the vector 0."""

    def knows_users(self, users: torch.Tensor) -> torch.Tensor:
        return (users == 2) | (users == 4)


@pytest.mark.parametrize("ids", ["string", "integer"])
def test_users_that_the_recommender_does_not_know_are_unknown_to_the_file(ids, tmp_path):
    users = pl.DataFrame({"user_id": ["1", "2", "3", "4"]})
    catalog = Catalog(pl.DataFrame({"item_id": ["7", "8", "9"]}), users)
    recommender, popularity = Few(catalog).eval(), torch.tensor([0.0, 2.0, 3.0, 1.0])
    with torch.no_grad():
        recommender.user.weight[:] = torch.tensor([[0.0], [0], [1], [0], [-1]])
        recommender.item.weight[:] = torch.tensor([[0.0], [1], [2], [3]])
    path = tmp_path / "model.onnx"
    export_artefact(recommender, catalog, popularity, path, ids=ids)
    assert verify_artefact(path, partial(reference_scores, recommender, popularity), catalog).verified
    session = Session(path)
    assert session.user_ids == {"2", "4"}
    lists = session.recommend([[]] * 5, users=["1", "2", "3", "4", "5"])
    orders = ["".join(place.item_id for place in one) for one in lists]
    assert orders == ["879", "987", "879", "789", "879"]


@pytest.mark.parametrize("rows", [0, -1])
def test_a_number_of_requests_at_once_below_one_is_refused(artefact, catalog, rows, tmp_path):
    recommender = artefact("counts").recommender
    spec = replace(recommender.export(), rows=rows)
    recommender.export = lambda: spec
    try:
        with pytest.raises(RecloomError, match=f"Counts says that {rows} requests are computed at once"):
            export_artefact(recommender, catalog, torch.ones(61), tmp_path / "model.onnx")
    finally:
        del recommender.export


def test_large_weights_go_to_a_file_of_their_own(artefact, catalog, tmp_path):
    made = artefact("linear")
    out = tmp_path / "big.onnx"
    manifest = export_artefact(made.recommender, catalog, made.popularity, out, inline_limit=100)
    assert set(manifest.files) == {"big.onnx", "big.onnx.data"}
    assert (tmp_path / "big.onnx.data").stat().st_size >= 61 * 61 * 4
    assert verify_artefact(out, made.reference, catalog).verified
    raw = bytearray((tmp_path / "big.onnx.data").read_bytes())
    raw[4000] ^= 1
    (tmp_path / "big.onnx.data").write_bytes(raw)
    with pytest.raises(RecloomError, match=r"big.onnx.data is not the file that was exported"):
        Session(out)


def test_a_failed_export_leaves_the_old_artefact_whole(verified, tmp_path, monkeypatch):
    made = verified.copy(tmp_path)

    def fails(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr("recloom_onnx.exporting.export.ir.save", fails)
    with pytest.raises(OSError, match="disk full"):
        export_artefact(made.recommender, made.catalog, made.popularity, made.path)
    assert len(Session(made.path).recommend([["7"]])[0]) == 10
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.onnx"]


def test_no_value_of_the_graph_has_two_sources(each):
    graph = onnx.load(str(each.path)).graph
    names = [name for node in graph.node for name in node.output]
    names += [one.name for one in graph.initializer] + [one.name for one in graph.input]
    assert len(names) == len(set(names))


def test_the_manifest_is_plain_json(verified):
    read = json.loads(verified.path.with_suffix(".json").read_text())
    assert read["format"] == "recloom-onnx-1"
    assert read["parity"]["verified"] is True


def test_commands_are_registered_without_torch_or_onnx():
    import subprocess

    code = (
        "import sys\n"
        "from recloom.plugins import collect\n"
        "import recloom_onnx\n"
        "names = {function.name for function in recloom_onnx.register_commands()}\n"
        "assert names == {'batch', 'export', 'serve', 'verify'}, names\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'onnx_ir', 'numpy', 'polars'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
