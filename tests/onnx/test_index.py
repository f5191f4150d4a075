"""An artefact of two files: a query encoder and an index answer as the one file does, but for what is not found."""

from __future__ import annotations

from functools import partial

import numpy as np
import polars as pl
import pytest

pytest.importorskip("faiss")

import onnxruntime
import torch
from recloom.data.catalog import Catalog
from recloom.errors import RecloomError
from recloom_onnx.artifact import index
from recloom_onnx.artifact.manifest import read_manifest
from recloom_onnx.artifact.session import Session
from recloom_onnx.batch.run import recommend_file
from recloom_onnx.exporting.export import export_artefact
from recloom_onnx.verification.cases import indexed, indices, random_requests
from recloom_onnx.verification.comparison import compare
from recloom_onnx.verification.reference import reference_scores

from .conftest import MODELS, Linear, Positions, Users, expected, found, pass_by_users

COUNT = 2_000


class Biased(Positions):
    """Inner products and a bias."""

    def item_bias(self):
        return torch.linspace(-3, 3, self.num_items + 1)


@pytest.fixture(scope="module")
def catalog():
    ids = [f"i{n}" for n in range(COUNT)]
    users = pl.DataFrame({"user_id": ["u1", "u2"]})
    return Catalog(pl.DataFrame({"item_id": ids, "title": [f"T{n}" for n in range(COUNT)]}), users)


@pytest.fixture(scope="module", params=[Positions, Biased, Users])
def made(request, catalog, tmp_path_factory):
    """Recommender, popularity and artefact whose index looks into all lists, so that it finds everything."""
    torch.manual_seed(0)
    recommender = request.param(catalog).eval()
    popularity = torch.cat([torch.zeros(1), torch.randperm(COUNT).float()])
    path = tmp_path_factory.mktemp("index") / "model.onnx"
    export_artefact(recommender, catalog, popularity, path, index_above=100, index_recall=1.0)
    return recommender, popularity, path


@pytest.mark.parametrize(("rows", "length"), [(1, 0), (1, 5), (33, 9), (7, 300)])
def test_with_all_lists_it_answers_as_the_recommender(made, catalog, rows, length):
    recommender, popularity, path = made
    given = random_requests(catalog, rows, length, np.random.default_rng(rows))
    ids, scores = Session(path, threads=1, allow_unverified=True).run(given, 20)
    assert ids.shape == scores.shape == (rows, 20)
    with torch.no_grad():
        wanted = reference_scores(recommender, popularity, *indexed(given, catalog))
    found = compare(indices(ids, catalog.item_index), torch.from_numpy(scores), wanted, 1e-4)
    assert not found.wrong.any()


def test_lists_longer_than_the_catalogue_end_in_nothing(made):
    ids, scores = Session(made[2], allow_unverified=True).run(
        {"history": np.array([["i7"], [""]], object)}, COUNT + 5
    )
    assert (ids[:, -5:] == "").all()
    assert np.isneginf(scores[:, -5:]).all()
    assert len(set(ids[0])) == COUNT  # without i7, and with ''


def test_few_lists_find_most_and_the_manifest_says_how_much(catalog, tmp_path):
    torch.manual_seed(0)
    recommender = Positions(catalog).eval()
    path = tmp_path / "model.onnx"
    manifest = export_artefact(
        recommender, catalog, torch.ones(COUNT + 1), path, index_above=100, index_recall=0.7
    )
    assert manifest == read_manifest(path)
    assert not manifest.exact
    assert list(manifest.files) == ["model.onnx", "model.faiss", "model.items.parquet"]
    report = manifest.index
    assert (report.asked, report.k, report.queries) == (0.7, 10, 1000)
    assert report.lists == COUNT // 39
    assert 0.7 <= report.recall < 1
    assert 1 <= report.probed < report.lists
    session = Session(path, allow_unverified=True)
    assert session.titles["i7"] == "T7"
    given = random_requests(catalog, 200, 8, np.random.default_rng(5)) | {
        "allowed": np.empty((200, 0), object)
    }
    items = indices(session.run(given, 10)[0], catalog.item_index)
    batch, *limits = indexed(given, catalog)
    with torch.no_grad():
        best = reference_scores(recommender, torch.ones(COUNT + 1), batch, *limits).topk(10).indices + 1
    known = batch.history.any(1)
    share = index.recall_of(items[known].numpy(), best[known].numpy())
    assert abs(share - report.recall) < 0.15
    hidden = torch.cat([batch.history, limits[0]], 1)
    assert not ((items[:, :, None] == hidden[:, None]) & (items[:, :, None] > 0)).any()


def test_a_row_that_ends_too_early_is_searched_in_all_lists(catalog, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.onnx"
    export_artefact(
        Positions(catalog).eval(), catalog, torch.ones(COUNT + 1), path, index_above=100, index_recall=0.1
    )
    session = Session(path, allow_unverified=True)
    assert session.manifest.index.probed == 1
    ids, _ = session.run({"history": np.array([["i7"]], object)}, 1_500)
    assert len(set(ids[0])) == 1_500
    assert "" not in ids[0]


def test_recall_by_hand():
    assert index.recall_of(np.array([[1, 2, -1], [4, 5, 6]]), np.array([[2, 3], [6, 4]])) == 0.75


@pytest.mark.parametrize("threads", [2, 1])
def test_a_search_has_the_threads_of_its_session(made, threads):
    Session(made[2], threads=threads, allow_unverified=True).recommend([["i7"]], k=3)
    assert index.faiss_library().omp_get_max_threads() == threads


def test_a_changed_index_is_refused(made, tmp_path):
    for file in made[2].parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    raw = bytearray((tmp_path / "model.faiss").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "model.faiss").write_bytes(raw)
    with pytest.raises(RecloomError, match=r"model.faiss is not the file that was exported"):
        Session(tmp_path / "model.onnx", allow_unverified=True)


def test_small_catalogues_stay_one_file(catalog, tmp_path):
    manifest = export_artefact(
        Positions(catalog).eval(), catalog, torch.ones(COUNT + 1), tmp_path / "m.onnx", index_above=COUNT
    )
    assert manifest.index is None
    assert manifest.exact


def test_the_encoder_serves_other_searches_too(made):
    """A database of vectors needs the query and nothing else."""
    recommender, _, path = made
    encoder = onnxruntime.InferenceSession(str(path))
    assert encoder.get_outputs()[0].name == "query"
    given = {port.name: np.empty((1, 0), object) for port in encoder.get_inputs()}
    given |= (
        {"user": np.array(["u1"], object)} if "user" in given else {"history": np.array([["i1"]], object)}
    )
    query = encoder.run(["query"], given)[0]
    spec = recommender.export()
    assert query.shape == (1, spec.search.items.shape[1])


def test_scores_that_are_no_inner_products_are_refused(catalog, tmp_path):
    few = Catalog(catalog.items[:200])
    with pytest.raises(RecloomError, match=r"no inner products.*without --index_above"):
        export_artefact(Linear(few).eval(), few, torch.ones(201), tmp_path / "m.onnx", index_above=100)
    with pytest.raises(RecloomError, match=r"index_recall is a share of the exact top 10.*found 1\.5"):
        export_artefact(
            Positions(few).eval(),
            few,
            torch.ones(201),
            tmp_path / "m.onnx",
            index_above=100,
            index_recall=1.5,
        )
    assert not list(tmp_path.iterdir())


def test_without_faiss_the_extra_is_named(catalog, tmp_path, monkeypatch):
    monkeypatch.setattr(index, "find_spec", lambda name: None)
    with pytest.raises(RecloomError, match=r"pip install 'recloom-onnx\[index\]'"):
        export_artefact(
            Positions(catalog).eval(), catalog, torch.ones(COUNT + 1), tmp_path / "m.onnx", index_above=1
        )


def test_integer_ids(tmp_path):
    catalog = Catalog(pl.DataFrame({"item_id": [str(5 * n) for n in range(300)]}))
    path = tmp_path / "m.onnx"
    recommender, popularity = MODELS["positions"](catalog).eval(), torch.arange(301).float()
    export_artefact(recommender, catalog, popularity, path, index_above=1, index_recall=1.0, ids="integer")
    session = Session(path, allow_unverified=True)
    given = {"history": np.array([[5, -1, 7, 10]])}
    ids, scores = session.run(given, 5)
    assert ids.dtype == np.int64
    text = {"history": np.array([["5", "", "x", "10"]], object), "user": np.array([""], object)}
    text |= {"blocked": np.empty((1, 0), object), "allowed": np.empty((1, 0), object)}
    text |= {"history_time": np.zeros((1, 4), np.int64), "request_time": np.zeros(1, np.int64)}
    wanted = partial(reference_scores, recommender, popularity)(*indexed(text, catalog))
    best = wanted.topk(5)
    assert ids[0].tolist() == [5 * int(n) for n in best.indices[0]]
    assert np.allclose(scores, best.values.detach().numpy(), atol=1e-4)


def test_exported_again_as_one_file_what_lay_beside_it_is_gone(catalog, tmp_path):
    out, foreign = tmp_path / "m.onnx", tmp_path / "m.txt"
    foreign.write_text("not ours")
    recommender, popularity = Positions(catalog).eval(), torch.ones(COUNT + 1)
    export_artefact(recommender, catalog, popularity, out, index_above=100, inline_limit=0)
    before = {"m.onnx", "m.onnx.data", "m.faiss", "m.items.parquet", "m.json", "m.txt"}
    assert {path.name for path in tmp_path.iterdir()} == before
    untitled = Catalog(catalog.items.drop("title"), catalog.users)
    export_artefact(Positions(untitled).eval(), untitled, popularity, out)
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "m.json", "m.txt"}
    Session(out, allow_unverified=True).recommend([["i1"]])


def test_a_file_of_requests_gets_its_lists_from_an_index(catalog, tmp_path):
    torch.manual_seed(0)
    recommender, popularity, path = Positions(catalog).eval(), torch.ones(COUNT + 1), tmp_path / "m.onnx"
    export_artefact(recommender, catalog, popularity, path, index_above=100, index_recall=0.9)
    pass_by_users(path, recommender, popularity, catalog)
    histories = [["i7", "i8"], [], ["i1999"], ["unknown"]]
    table = pl.DataFrame({"user_id": [f"u{n}" for n in range(4)], "history": histories})
    table.write_parquet(tmp_path / "users.parquet")
    recommend_file(path, tmp_path / "users.parquet", tmp_path / "lists.parquet", k=5)
    assert [*found(tmp_path / "lists.parquet").values()] == expected(path, 5, histories)
