"""`recloom graph embed`: from a dataset or a file to vectors that a recommender reads."""

from __future__ import annotations

import re
import shlex
import signal
from pathlib import Path

import networkx
import numpy as np
import polars as pl
import pytest
import recloom
from recloom.cli.main import main
from recloom.data.catalog import Catalog
from recloom.data.provenance import check_split, encoder_of, provenance_of
from recloom.errors import DataError, Terminated
from recloom_graph.embedding import training
from recloom_graph.embedding.command import usual_epochs

QUICK = ["--dim", "8", "--epochs", "1", "--walks", "2", "--walk-length", "8", "--context", "3"]


@pytest.fixture(scope="module")
def movies(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("embed") / "my movies"
    main(["data", "synth", "--like", "movies", "--users", "60", "--items", "60", "--out", str(folder)])
    return folder


@pytest.fixture
def edges(tmp_path) -> Path:
    graph = networkx.karate_club_graph()
    path = tmp_path / "karate.csv"
    lines = [f"member {one},member {other},knows" for one, other in graph.edges()]
    path.write_text("\n".join(["head,tail,relation", *lines]), "utf-8")
    return path


def run(*words) -> int:
    try:
        main(["graph", "embed", *map(str, words)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_from_a_dataset_to_a_recommender_that_reads_the_vectors(movies, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(movies, *QUICK, "--out", "items.parquet", "--users-out", "users.parquet") == 0
    shown = capsys.readouterr().out
    assert re.search(r"my movies: \d+ nodes, [\d,]+ undirected edges", shown)
    assert "--data.user_vectors users.parquet" in shown
    (line,) = re.findall(r"^next: recloom (.*)$", shown, re.M)
    words = shlex.split(line)
    assert words[:3] == ["fit", "--model", "SASRec"]
    main(
        [*words, "--run", "with", "--model.recommender.dim", "8", "--trainer.max_epochs", "1",
         "--data.user_vectors", "users.parquet", "--trainer.enable_progress_bar", "false"]
    )  # fmt: skip
    trained = recloom.load("with")
    assert 0 <= trained.test().metrics["ndcg@10"].mean <= 1
    catalog = trained.module.catalog
    assert catalog.vectors().shape[1] == 8
    assert "items" in catalog.read


def test_items_and_users_of_training_rows_have_a_vector_and_others_count_as_missing(movies, tmp_path):
    out, users = tmp_path / "items.parquet", tmp_path / "users.parquet"
    assert run(movies, *QUICK, "--out", out, "--users-out", users) == 0
    catalog = Catalog.load(movies)
    train = training_rows(movies)
    for path, key in ((out, "item_id"), (users, "user_id")):
        table = pl.read_parquet(path)
        assert set(table[key]) == set(train[key])
        assert table["vector"].dtype == pl.Array(pl.Float32, 8)
    read = catalog.with_vectors(out).with_user_vectors(users)
    has = (read.vectors() != 0).any(1)
    assert set(np.flatnonzero(has)) == set(catalog.item_index(train["item_id"].unique()))
    assert 0 < has.sum() < catalog.num_items, "the data have items that training does not meet"
    assert (read.user_vectors() != 0).any(1).sum() == train["user_id"].n_unique()


def training_rows(folder: Path) -> pl.DataFrame:
    from recloom.data.card import read_card
    from recloom.data.split import parts_of
    from recloom.schemas import SplitSpec

    _, part = parts_of(folder, read_card(folder), SplitSpec())
    return pl.read_parquet(folder / "interactions.parquet").filter(part.eq_missing("train"))


def test_neighbours_of_an_item_are_of_its_topic(movies, tmp_path):
    out = tmp_path / "items.parquet"
    assert run(movies, "--dim", "16", "--epochs", "3", "--walk-length", "20", "--out", out) == 0
    topics = pl.read_parquet(movies / "truth" / "item_topics.parquet")
    table = pl.read_parquet(out).join(topics, on="item_id")
    vectors = table["vector"].to_numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    topic = table["topic"].to_numpy()
    same = (topic[cosines.argmax(1)] == topic).mean()
    assert same > 0.5 > 3 * (topic[:, None] == topic).mean()


def test_a_run_on_another_split_refuses_the_vectors(movies, tmp_path, capsys):
    out = tmp_path / "items.parquet"
    assert run(movies, *QUICK, "--split.strategy", "time", "--out", out) == 0
    shown = capsys.readouterr().out
    assert "--data.split.strategy time --data.vectors" in shown
    fit = ["fit", "--model", "SASRec", "--model.recommender.item_input", "id+vector", "--data", str(movies)]
    with pytest.raises(SystemExit):
        main([*fit, "--data.vectors", str(out), "--run", str(tmp_path / "run")])
    assert "was made from the training rows of another split" in said(capsys)
    made = provenance_of(out)
    assert made["graph"] == "bipartite"
    check_split(out, made["data_hash"], made["split_hash"])
    with pytest.raises(DataError, match="another dataset, so the vectors may tell"):
        check_split(out, "another", made["split_hash"])


def test_a_click_model_reads_vectors_of_first_rows_and_refuses_those_of_all(movies, tmp_path, capsys):
    users = tmp_path / "users.parquet"
    rated = ["--data.positive", "4", "--data.candidates", "rated", "--data.seen", "kept"]
    fit = ["fit", "--model", "KAR", "--data", str(movies), *rated, "--data.user_vectors", str(users),
           "--model.metrics", "auc", "--trainer.max_steps", "1", "--trainer.enable_progress_bar", "false"]  # fmt: skip
    words = [movies, *QUICK, "--out", tmp_path / "items.parquet", "--users-out", users, "--overwrite"]
    assert run(*words) == 0
    with pytest.raises(SystemExit):
        main([*fit, "--data.vectors", str(tmp_path / "items.parquet"), "--run", str(tmp_path / "one")])
    assert "recloom graph embed --first 30" in said(capsys)
    assert run(*words, "--first", "5") == 0
    assert "KAR and RLMRec read vectors of users: --data.known_first 5" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*fit, "--data.vectors", str(tmp_path / "items.parquet"), "--run", str(tmp_path / "two")])
    assert "the edges behind" in said(capsys)
    main(
        [*fit, "--data.vectors", str(tmp_path / "items.parquet"), "--run", str(tmp_path / "three"),
         "--data.known_first", "5"]
    )  # fmt: skip


def test_equal_seeds_give_equal_files_and_the_file_says_how_it_was_made(movies, tmp_path):
    one, two, other = (tmp_path / f"{name}.parquet" for name in ("one", "two", "other"))
    for path, seed in ((one, 0), (two, 0), (other, 1)):
        assert run(movies, *QUICK, "--seed", seed, "--out", path) == 0
    assert one.read_bytes() == two.read_bytes()
    assert not pl.read_parquet(one).equals(pl.read_parquet(other))
    assert encoder_of(one) == encoder_of(two) != encoder_of(other)
    assert '"method": "node2vec"' in encoder_of(one)


@pytest.mark.parametrize("method", ["deepwalk", "node2vec", "link"])
def test_nodes_of_a_file(edges, capsys, method):
    words = ["--epochs", "20"] if method == "link" else [*QUICK]
    assert run(edges, "--method", method, *words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "karate.csv: 34 nodes, 78 undirected edges"
    assert shown[2].startswith("loss by epoch: 1: ")
    table = pl.read_parquet(edges.with_name(f"karate-{method}.parquet"))
    assert table.columns == ["node", "vector"]
    assert set(table["node"]) <= {f"member {n}" for n in range(34)}
    assert len(table) == 34 or method == "link"
    if method == "link":
        assert re.fullmatch(r"accuracy \d\.\d{4} on 70 training edges and as many non-edges", shown[3])
        assert re.fullmatch(
            r"AUC \d\.\d{4} on 8 held-out edges and as many non-edges \(0\.5 is chance\)", shown[4]
        )
    heads = [line.split()[:2] for line in shown if line.startswith("member ")]
    assert heads == [["member", "33"], ["member", "0"], ["member", "32"], ["member", "2"]]


def test_a_large_graph_is_trained_for_fewer_epochs_by_default():
    assert [usual_epochs("link", batches) for batches in (1, 2, 28, 5000)] == [500, 500, 36, 1]
    assert usual_epochs("node2vec", 5000) == 5


def test_deepwalk_is_node2vec_with_p_and_q_of_1(edges, tmp_path):
    one, other = tmp_path / "one.parquet", tmp_path / "other.parquet"
    assert run(edges, *QUICK, "--method", "deepwalk", "--out", one) == 0
    assert run(edges, *QUICK, "--p", "1", "--q", "1", "--out", other) == 0
    assert pl.read_parquet(one).equals(pl.read_parquet(other))


def test_the_course_without_held_out_edges(edges, capsys):
    assert run(edges, "--method", "link", "--held-out", "0", "--no-resample", "--epochs", "30") == 0
    assert re.search(
        r"on 78 training edges and as many non-edges; none were held out", capsys.readouterr().out
    )


def test_an_existing_file_is_replaced_when_asked(edges, capsys):
    target = edges.with_name("karate-node2vec.parquet")
    target.write_text("mine", "utf-8")
    assert run(edges, *QUICK) == 2
    assert "exists. Choose another --out, or replace it with --overwrite" in said(capsys)
    assert target.read_text("utf-8") == "mine"
    assert run(edges, *QUICK, "--overwrite") == 0
    assert len(pl.read_parquet(target)) == 34


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.csv"], "gone.csv does not exist; expected a prepared dataset or a file of edges"),
        (["EDGES", "--method", "link", "--q", "2"], "--q has no effect on --method link; it belongs to node2vec"),
        (["EDGES", "--method", "deepwalk", "--p", "2"], "--p has no effect on --method deepwalk"),
        (["EDGES", "--held-out", "0.2"], "--held-out has no effect on --method node2vec; it belongs to link"),
        (["EDGES", "--no-resample"], "--resample has no effect on --method node2vec"),
        (["EDGES", "--graph", "sessions"], "--graph is for prepared datasets, and"),
        (["EDGES", "--users-out", "u.parquet"], "--users-out is for prepared datasets"),
        (["EDGES", "--split.strategy", "time"], "--split is for prepared datasets"),
        (["MOVIES", "--directed"], "--directed is for files of edges, and"),
        (["MOVIES", "--no-weighted"], "--weighted is for files of edges"),
        (["MOVIES", "--gap", "5"], "--gap is for --graph sessions; found --graph bipartite"),
        (["MOVIES", "--graph", "sessions", "--gap", "0"], "--gap must be above 0; found 0"),
        (["MOVIES", "--graph", "sessions", "--users-out", "u.parquet"], "--graph sessions has no users"),
        (["MOVIES", "--out", "v.parquet", "--users-out", "v.parquet"], "both name v.parquet; choose two files"),
        (["EDGES", "--out", "v.csv"], "--out v.csv: expected a name that ends in .parquet"),
        (["EDGES", "--out", "no/v.parquet"], "--out no/v.parquet: no is not a folder; make it"),
        (["EDGES", "--out", "folder.parquet"], "--out folder.parquet is a folder; choose another --out"),
        (["EDGES", "--epochs", "0"], "epochs must be at least 1; found 0"),
        (["EDGES", "--context", "1"], "context must be at least 2; found 1"),
        (["EDGES", "--relations", "hates"], "no relation 'hates'; it has knows"),
        (["empty"], "empty is not a prepared dataset: it holds no dataset.json"),
    ],
)  # fmt: skip
def test_wrong_options_are_reported_and_nothing_is_written(
    movies, edges, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "empty").mkdir()
    before = {path.name for path in (*tmp_path.iterdir(), *movies.iterdir())}
    places = {"EDGES": edges, "MOVIES": movies}
    assert run(*(places.get(word, word) for word in words)) == 2
    assert message in said(capsys)
    assert {path.name for path in (*tmp_path.iterdir(), *movies.iterdir())} - {".cache"} == before - {
        ".cache"
    }


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_an_interrupt_leaves_no_file_and_the_next_one_is_heard(edges, monkeypatch, capsys, stop, status):
    def interrupted(self, trainer, pl_module):
        raise stop

    monkeypatch.setattr(training.EpochLosses, "on_train_epoch_end", interrupted)
    heard = signal.getsignal(signal.SIGINT)
    assert run(edges, *QUICK) == status
    assert signal.getsignal(signal.SIGINT) is heard
    assert [path.name for path in edges.parent.iterdir()] == ["karate.csv"]
    assert "Traceback" not in capsys.readouterr().err


def test_a_file_that_cannot_be_finished_is_not_begun(edges, monkeypatch):
    from recloom_graph.embedding import results

    def broken(table, path):
        Path(path).write_text("half", "utf-8")
        raise OSError("the disk is full")

    monkeypatch.setattr(results.pq, "write_table", broken)
    assert run(edges, *QUICK) == 2
    assert [path.name for path in edges.parent.iterdir()] == ["karate.csv"]
