"""`recloom items add`: new items in a trained run, for each kind of recommender that can take them."""

import json

import numpy as np
import polars as pl
import pytest
import recloom
import torch
from recloom.batch import Batch
from recloom.cli.main import main
from recloom.data.catalog import Catalog
from recloom.data.prepare.dataset import write_synthetic
from recloom.data.synth.generator import World, synthesise
from recloom.errors import DataError, RecloomError
from recloom.fitting.fit import run_command
from recloom.io import LOCK, scratch_beside
from recloom.llm.texts.hashing import HashingNgrams
from recloom.nn.item_embedding import ItemEmbedding
from recloom.runs.add_items import add_items
from recloom.runs.new_items import read_new_items
from recloom.training.checkpoint import read_checkpoint

WORLD = World(like="movies", users=60, items=50, seed=1)
SMALL = ["--model.recommender.dim=16", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
LAYERS = ("SASRec", "BERT4Rec", "LightGCN")
TAKES = [
    ("TextMean", None),
    ("TextProjection", None),
    *((model, kind) for model in LAYERS for kind in ("vector", "id+vector", "gated")),
]
EXPORTED = [*TAKES[:2], ("SASRec", "id+vector"), ("BERT4Rec", "gated"), ("LightGCN", "vector")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset, vectors of its items, three new items and their vectors."""
    folder = tmp_path_factory.mktemp("items")
    made, truth, parameters = synthesise(WORLD)
    write_synthetic(made, folder / "data", truth, parameters)
    items = pl.read_parquet(folder / "data" / "items.parquet", glob=False)
    titles = items["title"].head(3).to_list()
    new = pl.DataFrame({"item_id": ["n1", "n2", "n3"], "title": [f"{title} Again" for title in titles]})
    new.write_csv(folder / "new.csv")
    for name, table in (("vectors", items), ("new-vectors", new)):
        vectors = HashingNgrams().encode(table["title"].to_list())
        frame = pl.DataFrame({"item_id": table["item_id"], "vector": vectors.tolist()})
        frame.write_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def trained(place):
    """A function (model, kind of item input) to a trained run; each is trained once."""

    def make(model, kind):
        run = place / "runs" / f"{model}-{kind}"
        if not run.exists():
            words = ["fit", f"--model={model}", f"--data={place / 'data'}", f"--run={run}"]
            if kind:
                words += [
                    f"--model.recommender.item_input={kind}",
                    f"--data.vectors={place / 'vectors.parquet'}",
                ]
            if model in LAYERS:
                words.append("--model.recommender.num_layers=1")
            run_command([*words, *(SMALL if model != "TextMean" else SMALL[2:])])
        return run

    return make


def added(place, run, out, kind, file="new.csv", **options):
    add_items(
        str(run),
        place / file,
        out=out,
        vectors=[str(place / "new-vectors.parquet")] if kind else None,
        **options,
    )
    return recloom.load(out)


def requests(items):
    generator = torch.Generator().manual_seed(0)
    history = torch.randint(1, WORLD.items + 1, (7, 6), generator=generator)
    history[0, :4] = 0
    user = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    return Batch.of(history, torch.arange(1, items + 1)[None], user=user)


@pytest.mark.parametrize(("model", "kind"), TAKES)
def test_old_scores_stay_and_new_items_are_recommended(place, trained, tmp_path, model, kind):
    before = recloom.load(trained(model, kind))
    after = added(place, trained(model, kind), tmp_path / "grown", kind)
    n = before.catalog.num_items
    assert after.catalog.num_items == after.recommender.num_items == n + 3
    assert after.catalog.item_index(["n1", "n2", "n3"]).tolist() == [n + 1, n + 2, n + 3]
    assert after.catalog.items["item_id"][:n].equals(before.catalog.items["item_id"])
    assert after.popularity[n + 1 :].tolist() == [0, 0, 0]
    with torch.inference_mode():
        old, new = before.module.rank(requests(n)), after.module.rank(requests(n))
        assert torch.equal(old, new)
        whole = after.module.rank(requests(n + 3))
    assert torch.allclose(whole[:, :n], old, atol=1e-5)
    assert torch.isfinite(whole[:, n:]).all()
    assert whole[:, n:].abs().min() > 0
    twin = before.catalog.item_ids([1])
    found = [item.item_id for item in after.recommend(history=[*twin, "n2"], k=n)]
    assert {"n1", "n3"} <= set(found)
    if model == "TextMean":
        assert found[0] in ("n1", "n3", before.catalog.item_ids([2])[0])


@pytest.mark.parametrize(("model", "kind"), EXPORTED)
def test_the_new_run_is_exported_and_verified_in_one_step(place, trained, tmp_path, model, kind, capsys):
    pytest.importorskip("onnxruntime")
    from recloom_onnx.artifact.session import Session

    added(place, trained(model, kind), tmp_path / "grown", kind, export=tmp_path / "model.onnx")
    manifest = (
        json.loads((tmp_path / "model.json").read_text()) if (tmp_path / "model.json").exists() else None
    )
    assert "verified" in capsys.readouterr().out
    session = Session(tmp_path / "model.onnx")
    given = {"history": np.array([["n1"]], object)}
    given |= {"user": np.array([""], object), "history_time": np.ones((1, 1), np.int64)}
    given |= {"request_time": np.array([2])}
    ids, _ = session.run(given, WORLD.items + 3)
    assert {"n2", "n3"} <= set(ids[0])
    assert "n1" not in ids[0]
    assert manifest is None or manifest["num_items"] == WORLD.items + 3


@pytest.mark.parametrize("model", ["SASRec", "BERT4Rec"])
def test_the_grown_run_is_not_trained_on(place, trained, tmp_path, model):
    added(place, trained(model, "id+vector"), tmp_path / "grown", "id+vector")
    with pytest.raises(RecloomError, match=r"3 items were added to this run after its training"):
        run_command(["fit", "--run", str(tmp_path / "grown"), "--ckpt_path=best"])
    assert recloom.load(tmp_path / "grown").record.added


def checkpoint(run):
    from recloom.run_folder import best_checkpoint

    return best_checkpoint(run)


def test_items_are_added_twice_and_the_record_says_from_where(place, trained, tmp_path):
    run = trained("SASRec", "gated")
    first = added(place, run, tmp_path / "a", "gated")
    pl.DataFrame({"item_id": ["m1"], "title": ["One More"]}).write_ndjson(place / "more.jsonl")
    pl.DataFrame({"item_id": ["m1"], "vector": HashingNgrams().encode(["One More"]).tolist()}).write_parquet(
        place / "more-vectors.parquet"
    )
    add_items(
        str(tmp_path / "a"),
        place / "more.jsonl",
        out=tmp_path / "b",
        vectors=[str(place / "more-vectors.parquet")],
    )
    second = recloom.load(tmp_path / "b")
    assert second.catalog.item_ids([WORLD.items + 3, WORLD.items + 4]) == ["n3", "m1"]
    assert [(one.file, one.items) for one in second.record.added] == [("new.csv", 3), ("more.jsonl", 1)]
    assert second.record.added[0].run == str(run)
    assert second.module.added == 4
    assert first.record.model_copy(update={"added": []}) == recloom.load(run).record
    assert set(read_checkpoint(checkpoint(tmp_path / "b"))) >= {"recloom", "state_dict"}


def test_a_second_run_is_refused_and_an_overwriting_one_replaces_it_whole(place, trained, tmp_path):
    run, out = trained("TextMean", None), tmp_path / "grown"
    added(place, run, out, None)
    (out / "note").touch()
    with pytest.raises(RecloomError, match=r"exists already.*--overwrite"):
        added(place, run, out, None)
    added(place, run, out, None, overwrite=True)
    assert not (out / "note").exists()
    with pytest.raises(RecloomError, match="is the run itself"):
        added(place, run, run, None, overwrite=True)
    (tmp_path / "photos").mkdir()
    with pytest.raises(RecloomError, match="is no run, and only a run is replaced"):
        added(place, run, tmp_path / "photos", None, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grown", "photos"]


def test_what_a_killed_run_left_is_removed_and_an_error_leaves_nothing(place, trained, tmp_path, monkeypatch):
    run = trained("TextMean", None)
    with scratch_beside(tmp_path / "grown") as left:
        pass
    left.mkdir()
    left.with_suffix(LOCK).touch()
    added(place, run, tmp_path / "grown", None)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert before == ["grown"]
    monkeypatch.setattr(
        "recloom.runs.add_items.write", lambda *given: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError, match="disk full"):
        added(place, run, tmp_path / "other", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("model", ["SASRec", "LightGCN", "BERT4Rec"])
def test_a_model_that_knows_items_by_id_refuses(place, trained, tmp_path, model):
    run = trained(model, "id") if model == "never" else place / "runs" / f"{model}-plain"
    if not run.exists():
        run_command(["fit", f"--model={model}", f"--data={place / 'data'}", f"--run={run}", *SMALL])
    with pytest.raises(
        RecloomError, match=r"by id alone.*never trained.*item_input vector, id\+vector or gated"
    ):
        added(place, run, tmp_path / "grown", None)
    assert not list(tmp_path.iterdir())


def test_a_model_of_counts_refuses(place, tmp_path):
    run = tmp_path / "run"
    run_command(["fit", "--model=ItemKNN", f"--data={place / 'data'}", f"--run={run}"])
    with pytest.raises(RecloomError, match="ItemKNN knows an item by who met it"):
        added(place, run, tmp_path / "grown", None)


def test_an_interrupted_run_takes_no_items(place, trained, tmp_path):
    import shutil

    shutil.copytree(trained("TextMean", None), tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(RecloomError, match="its fit was interrupted"):
        added(place, tmp_path / "run", tmp_path / "grown", None)


def test_vectors_must_fit_the_run(place, trained, tmp_path):
    def attempt(run, file, vectors):
        add_items(str(run), place / file, out=tmp_path / "grown", vectors=vectors and [str(vectors)])

    run = trained("SASRec", "vector")
    with pytest.raises(DataError, match=r"reads items by vectors.*--vectors"):
        attempt(run, "new.csv", None)
    with pytest.raises(DataError, match=r"have no vectors, so vectors of new items have no use"):
        attempt(trained("TextMean", None), "new.csv", place / "new-vectors.parquet")
    table = pl.read_parquet(place / "new-vectors.parquet")
    table.head(2).write_parquet(tmp_path / "few.parquet")
    with pytest.raises(DataError, match=r"no vector of 1 new items, the first 'n3'"):
        attempt(run, "new.csv", tmp_path / "few.parquet")
    table.with_columns(pl.col("vector").list.head(8)).write_parquet(tmp_path / "short.parquet")
    with pytest.raises(DataError, match=r"vectors of 8 numbers, and those of this run have 512"):
        attempt(run, "new.csv", tmp_path / "short.parquet")


CATALOG = Catalog(pl.DataFrame({"item_id": ["a"], "title": ["Heat"], "year": [1995]}))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "x.csv",
            "item_id,titel\nb,Toys\n",
            r"column 'titel' is not one of .*They have item_id, title, year",
        ),
        ("x.csv", "item_id,vector\nb,1\n", r"vectors are given with --vectors"),
        ("x.csv", "id,title\nb,Toys\n", r"no column item_id; it has id, title"),
        ("x.csv", "item_id,title\nb,Toys\nb,Toys\n", r"item 'b' stands there twice"),
        ("x.csv", "item_id,title\nb,Toys\n,Toys\n", r"row 2 has no item_id"),
        ("x.csv", "item_id,title\nb,Toys\na,Heat\n", r"knows 1 of these 2 items already, the first 'a'"),
        ("x.csv", "item_id,title\n", r"holds no item"),
        ("x.csv", "item_id,year\nb,soon\n", r"column 'year' must hold Int64"),
        ("x.jsonl", '{"item_id": "b"\n', r"cannot be read"),
        ("x.parquet", "no", r"cannot be read"),
        ("x.xml", "<items/>", r"expected a file ending in \.parquet.*found \.xml"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_new_items(tmp_path / name, CATALOG)
    with pytest.raises(DataError, match="there is no file"):
        read_new_items(tmp_path / "absent.csv", CATALOG)


def test_the_same_items_from_every_kind_of_file(tmp_path):
    table = pl.DataFrame({"item_id": ["007", "b"], "year": [1962, None]})
    table.write_parquet(tmp_path / "x.parquet")
    table.write_csv(tmp_path / "x.csv")
    table.write_csv(tmp_path / "x.tsv", separator="\t")
    table.write_ndjson(tmp_path / "x.jsonl")
    for name in ("x.parquet", "x.csv", "x.tsv", "x.jsonl"):
        assert read_new_items(tmp_path / name, CATALOG).equals(table)
    grown = CATALOG.extended(table)
    assert grown.items.rows() == [("a", "Heat", 1995), ("007", None, 1962), ("b", None, None)]


def test_a_new_item_without_text_is_an_error_for_a_model_of_texts(place, trained, tmp_path):
    (tmp_path / "new.csv").write_text("item_id,title\nz1,Heat\nz2,\n")
    with pytest.raises(DataError, match=r"item 'z2' has no text in title"):
        add_items(str(trained("TextMean", None)), tmp_path / "new.csv", out=tmp_path / "grown")
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


@pytest.mark.parametrize("kind", ["vector", "id+vector", "gated"])
def test_a_new_item_enters_by_its_vector_alone_and_special_rows_stay_last(kind):
    rows = np.eye(4, dtype=np.float32)

    def catalog(count):
        ids = [f"i{n}" for n in range(count)]
        return Catalog(pl.DataFrame({"item_id": ids, "vector": rows[:count].tolist()}))

    items = ItemEmbedding(catalog(3), 8, kind, special=1).eval()
    before = items.table().detach().clone()
    items.extend(catalog(4))
    after = items.table().detach()
    assert torch.equal(after[:4], before[:4])
    assert torch.equal(after[5], before[4])
    assert torch.allclose(after[4], items.project(torch.from_numpy(rows[3])), atol=1e-7)
    again = ItemEmbedding(catalog(4), 8, kind, special=1).eval()
    again.load_state_dict(items.state_dict())
    assert torch.equal(again.table(), after)


def test_the_command_line_tells_and_lists_it(place, trained, tmp_path, capsys):
    main(
        [
            "items",
            "add",
            str(trained("TextMean", None)),
            str(place / "new.csv"),
            "--out",
            str(tmp_path / "grown"),
        ]
    )
    said = capsys.readouterr().out
    assert "53 items, 3 of them new" in said
    assert f"recloom export {tmp_path / 'grown'} --out FILE.onnx" in said
    main(["recommend", str(tmp_path / "grown"), "--history", "n1", "--k", "5"])
    assert "n2" in capsys.readouterr().out
