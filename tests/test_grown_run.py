"""A run with items that came after its training is measured as it is served: among all of its items."""

import json

import numpy as np
import polars as pl
import pytest
import recloom
import torch
from recloom.cli.main import main
from recloom.data.batches.module import RecDataModule
from recloom.data.prepare.dataset import write_synthetic
from recloom.data.synth.generator import World, synthesise
from recloom.errors import RecloomError
from recloom.evaluation.results import read_per_user, read_results
from recloom.fitting.fit import run_command
from recloom.metrics import functional
from recloom.runs.add_items import add_items

WORLD = World(like="movies", users=60, items=50, seed=1)
NEW = 30
ALL = WORLD.items + NEW
QUIET = "--trainer.enable_progress_bar=false"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a dataset, and files of new items and of vectors that `recloom embed` made."""
    folder = tmp_path_factory.mktemp("grown")
    made, truth, parameters = synthesise(WORLD)
    write_synthetic(made, folder / "data", truth, parameters)
    titles = pl.read_parquet(folder / "data" / "items.parquet", glob=False)["title"].head(NEW)
    new = pl.DataFrame({"item_id": [f"n{n}" for n in range(NEW)], "title": titles + " Again"})
    new.write_csv(folder / "new.csv")
    new.rename({"title": "text"}).write_parquet(folder / "new.parquet")
    main(["embed", str(folder / "data"), "--out", str(folder / "old-vectors.parquet")])
    texts = ["--texts", str(folder / "new.parquet")]
    main(["embed", str(folder / "data"), *texts, "--out", str(folder / "new-vectors.parquet")])
    return folder


@pytest.fixture(scope="module", params=["TextMean", "SASRec"])
def runs(place, request):
    """A trained run, and the same with new items."""
    run, out, vectors = place / request.param, place / f"{request.param}-2", None
    words = ["fit", f"--model={request.param}", f"--data={place / 'data'}", f"--run={run}", QUIET]
    if request.param == "SASRec":
        words += [
            "--model.recommender.dim=16",
            "--trainer.max_epochs=3",
            "--model.recommender.item_input=vector",
        ]
        words += [f"--data.vectors={place / 'old-vectors.parquet'}"]
        vectors = place / "new-vectors.parquet"
    run_command(words)
    add_items(str(run), place / "new.csv", out=out, vectors=vectors and [str(vectors)])
    return recloom.load(run), recloom.load(out)


def ranks_by_hand(run, items):
    """Rank of each test user's item among items 1 to `items` as they are served, ties against the model."""
    requests = run.data().requests("test").dataset
    batch = requests[torch.arange(len(requests))]
    batch.candidates = torch.arange(1, items + 1)[None]
    with torch.inference_mode():
        scores = run.module.rank(batch)
    return (scores >= scores.gather(1, batch.labels - 1)).sum(1)


def test_a_test_ranks_all_items_of_the_run_and_says_so(runs, capsys):
    old, grown = runs
    expected = functional.ndcg(ranks_by_hand(grown, ALL)[:, None], 10).mean().item()
    before = old.test()
    capsys.readouterr()
    run_command(["test", str(grown.folder), QUIET])
    assert f"{ALL} items ({NEW} of them added after training)" in " ".join(capsys.readouterr().out.split())
    written = read_results(grown.folder)
    assert written.metrics["ndcg@10"].mean == pytest.approx(expected)
    assert grown.test().metrics == written.metrics
    protocol = written.protocol
    assert (protocol.num_items, protocol.added, protocol.candidates) == (ALL, NEW, "all")
    assert (before.protocol.num_items, before.protocol.added) == (WORLD.items, 0)
    assert expected < before.metrics["ndcg@10"].mean  # new items stand where old ones stood
    new, was = (read_per_user(run.folder).sort("user_id")["ndcg@10"] for run in (grown, old))
    assert (new <= was).all()


def test_the_file_of_the_run_is_verified_by_the_same_figures(runs, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    _, grown = runs
    figure = grown.test().metrics["hit@10"].mean
    main(["export", str(grown.folder), "--out", str(tmp_path / "model.onnx")])
    said = " ".join(capsys.readouterr().out.split())
    assert f"hit@10 among all {ALL} items, 60 test users:" in said
    manifest = json.loads((tmp_path / "model.json").read_text())
    assert manifest["metrics"]["hit@10"] == figure
    ties = ((ranks_by_hand(grown, ALL) > 10) & (ranks_without_ties(grown) <= 10)).sum().item() / WORLD.users
    for part in (
        "reference",
        "artefact",
    ):  # lists put equal scores in the order of the catalogue, tests count them
        assert figure <= manifest["parity"][part]["hit@10"] <= figure + ties + 1e-9


def ranks_without_ties(run):
    """The best rank that each test user's item may have."""
    requests = run.data().requests("test").dataset
    batch = requests[torch.arange(len(requests))]
    batch.candidates = torch.arange(1, ALL + 1)[None]
    with torch.inference_mode():
        scores = run.module.rank(batch)
    return 1 + (scores > scores.gather(1, batch.labels - 1)).sum(1)


def test_figures_among_more_items_are_not_compared_with_those_among_fewer(runs):
    old, grown = runs
    old.test(), grown.test()
    with pytest.raises(
        RecloomError,
        match=rf"(?s)compare the run that they were added to.*num_items: 50 in .*, {ALL} in .*added: 0 in .*, {NEW} in",
    ):
        recloom.compare([old, grown])


def test_candidates_that_the_data_name_stay_what_they_are(runs, place):
    old, grown = runs
    if old.recommender.__class__.__name__ != "TextMean":
        pytest.skip("one model shows it")
    data = RecDataModule(str(place / "data"), candidates="uniform-5")
    results = grown.test(data)
    assert (results.protocol.num_items, results.protocol.added) == (WORLD.items, 0)
    assert results.metrics["ndcg@10"] == old.test(data).metrics["ndcg@10"]


def test_facts_of_items_hold_the_new_ones_too(runs):
    _, grown = runs
    words = ["--model.metrics=[coverage@10,novelty@10,diversity@10,category_diversity@10,ndcg@10]", QUIET]
    run_command(["test", str(grown.folder), *words])
    metrics = read_results(grown.folder).metrics
    main(["predict", str(grown.folder), QUIET])
    lists = pl.read_parquet(grown.folder / "predictions.parquet")
    assert lists["item_id"].str.starts_with("n").any()
    assert metrics["coverage@10"].mean == pytest.approx(lists["item_id"].n_unique() / ALL)
    data = grown.data()
    counts = data.train.item_counts().numpy()
    shares = np.pad(counts, (0, NEW))[grown.catalog.item_index(lists["item_id"])].clip(min=1) / counts.sum()
    by_user = lists.with_columns(novelty=-np.log2(shares)).group_by("user_id").agg(pl.col("novelty").mean())
    assert metrics["novelty@10"].mean == pytest.approx(by_user["novelty"].mean())
    assert 0 < metrics["diversity@10"].mean < 1
    cold = (counts[data.parts["test"].pairs()[1]] == 0).sum()
    assert metrics["ndcg@10/cold"].n == cold  # nobody has met a new item
