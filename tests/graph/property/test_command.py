"""`recloom graph predict`: what an item is, from the items that the same users had."""

import signal

import numpy as np
import polars as pl
import pytest
import torch
from recloom.cli.main import main
from recloom.data.catalog import Catalog
from recloom.errors import DataError, Terminated
from recloom_graph.graphs.graph import Graph
from recloom_graph.property.item_attributes import (
    attribute_values,
    nearest_neighbours,
    parts_of,
    shuffle_nodes,
)
from recloom_graph.property.node_property import NodeProperty

KINDS = ["noir", "farce", "opera"]


def items(values):
    return pl.DataFrame({"item_id": [f"i{n}" for n in range(len(values))], "kind": values})


def test_shares_of_an_item_with_several_values():
    known = attribute_values(Catalog(items(["a|b", "a", None, "b", ""] * 8)), "kind")
    assert sorted(known.names) == ["a", "b"]
    a = known.names.index("a")
    assert known.shares[[1, 2, 3, 4, 0], a].tolist() == [0.5, 1, 0, 0, 0]
    assert known.items.tolist()[:4] == [1, 2, 4, 6]
    assert known.lacking.tolist()[:3] == [3, 5, 8]


@pytest.mark.parametrize(
    ("values", "column", "message"),
    [
        (["a", "b"] * 20, "colour", "no column 'colour'; they have item_id, kind"),
        (["a", "b"] + [None] * 30, "kind", "2 items have a value of 'kind'; at least 20"),
        ([f"v{n}" for n in range(40)], "kind", "40 different values for 40 items"),
        (["a"] * 40, "kind", "1 different values for 40 items; expected at least two"),
    ],
)
def test_what_cannot_be_learnt_is_refused(values, column, message):
    with pytest.raises(DataError, match=message):
        attribute_values(Catalog(items(values)), column)


def test_the_parts_are_all_known_items_once_and_follow_the_seed():
    known = attribute_values(Catalog(items(["a", "b", None] * 20)), "kind")
    parts = parts_of(known, 0)
    assert torch.cat([*parts.values()]).sort().values.tolist() == known.items.tolist()
    assert {name: len(rows) for name, rows in parts.items()} == {"test": 8, "valid": 4, "train": 28}
    assert not torch.equal(parts["test"], parts_of(known, 1)["test"])


def test_edges_lead_to_the_closest():
    weights = torch.tensor([9.0, 1.0, 4.0, 1.0])  # 0-1 strong, 0-2 weak, 2-3 medium, 1-3 weak
    graph = Graph(torch.tensor([0, 0, 2, 1]), torch.tensor([1, 2, 3, 3]), 5, weights, directed=False)
    assert sorted(map(tuple, nearest_neighbours(graph, 1).T.tolist())) == [(0, 1), (1, 0), (2, 3), (3, 2)]
    assert nearest_neighbours(graph, 9).shape == (2, 8)


def test_the_control_keeps_the_graph_and_moves_the_items():
    edges = torch.tensor([[1, 2, 3, 1], [2, 3, 1, 4]])
    moved = shuffle_nodes(edges, 50, 0)
    assert not torch.equal(moved, edges)
    assert int(moved.min()) > 0
    assert torch.bincount(moved[0])[moved[0]].tolist() == torch.bincount(edges[0])[edges[0]].tolist()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, write_dataset):
    """Every user likes one kind; half a dozen items lack theirs."""
    rng = np.random.default_rng(0)
    taste = rng.integers(0, 3, 150)
    drawn = np.stack([rng.permutation(np.arange(kind, 90, 3))[:8] for kind in taste])
    users = np.repeat(np.arange(150), 8)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in users],
            "item_id": [f"i{n}" for n in drawn.ravel()],
            "timestamp": np.tile(np.arange(8), 150),
        }
    )
    kinds = [None if n < 6 else KINDS[n % 3] for n in range(90)]
    return write_dataset(tmp_path_factory.mktemp("data") / "tastes", frame, items(kinds))


def test_what_items_lack_is_predicted_and_measured(dataset, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch_geometric", reason="needs torch-geometric: pip install 'recloom-graph[pyg]'")
    monkeypatch.chdir(tmp_path)
    main(["graph", "predict", str(dataset), "--attribute", "kind", "--epochs", "40", "--dim", "8"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "kind: 84 items have one of 3 values"
    right, majority, control = (
        float(line.split("%")[0].replace("right for", "").strip()) for line in lines[1:4]
    )
    assert right > 90
    assert max(majority, control) < 70
    assert lines[4] == "6 predictions written to kind.parquet"
    found = pl.read_parquet("kind.parquet")
    assert found.columns == ["item_id", "value", "confidence", "neighbours"]
    told = {row["item_id"]: row["value"] for row in found.iter_rows(named=True)}
    assert told == {f"i{n}": KINDS[n % 3] for n in range(6)}
    assert found["confidence"].is_between(1 / 3, 1).all()
    assert (found["neighbours"] > 0).all()


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_an_interrupt_is_one_and_leaves_no_file(dataset, tmp_path, monkeypatch, stop, status):
    pytest.importorskip("torch_geometric", reason="needs torch-geometric: pip install 'recloom-graph[pyg]'")
    monkeypatch.chdir(tmp_path)

    def interrupted(self, batch, batch_idx):
        raise stop

    monkeypatch.setattr(NodeProperty, "training_step", interrupted)
    heard = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as ended:
        main(["graph", "predict", str(dataset), "--attribute", "kind", "--epochs", "2", "--dim", "8"])
    assert ended.value.code == status
    assert signal.getsignal(signal.SIGINT) is heard
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "kind.csv"], "expected a name that ends in .parquet"),
        (["--out", "absent/kind.parquet"], "absent is not a folder"),
        (["--neighbours", "0"], "neighbours must be at least 1"),
        (["--dim", "0"], "dim must be at least 1; found 0"),
        (["--num-layers", "0"], "num_layers must be at least 1; found 0"),
        (
            ["--out", "folder.parquet", "--overwrite"],
            "--out folder.parquet is a folder; choose another --out",
        ),
        (
            ["--attribute", "na/me"],
            "--attribute na/me: no file can be named after it; name a file for the predictions with --out",
        ),
        (["--attribute", ""], "no file can be named after it"),
        ([], "kind.parquet exists"),
    ],
)
def test_wrong_words_are_answered_before_anything_is_computed(
    dataset, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kind.parquet").touch()
    (tmp_path / "folder.parquet").mkdir()
    attribute = [] if "--attribute" in words else ["--attribute", "kind"]
    with pytest.raises(SystemExit):
        main(["graph", "predict", str(dataset), *attribute, *words])
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_value_is_shown_and_never_obeyed(dataset, tmp_path, monkeypatch, capsys, write_dataset):
    pytest.importorskip("torch_geometric", reason="needs torch-geometric: pip install 'recloom-graph[pyg]'")
    monkeypatch.chdir(tmp_path)
    rows = pl.DataFrame(
        {
            "user_id": [f"u{n % 20}" for n in range(240)],
            "item_id": [f"i{n * 7 % 60}" for n in range(240)],
            "timestamp": list(range(240)),
        }
    )
    evil = "\x1b]0;pwn\x07\x1b[31mEVIL\nline2"
    folder = write_dataset(tmp_path / "odd", rows, items([evil, evil, "b"] * 20))
    main(["graph", "predict", str(folder), "--attribute", "kind", "--epochs", "1", "--dim", "2"])
    out = capsys.readouterr().out
    assert "␛]0;pwn␇␛[31mEVIL␊line2\n" in out
    assert not {"\x1b", "\x07"} & set(out)
