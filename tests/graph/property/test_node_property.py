"""`recloom fit --model NodeProperty`, from the files to the figures of a test."""

import json

import numpy as np
import pytest
import torch
import yaml
from recloom.cli.main import main
from recloom.errors import DataError, RecloomError
from recloom.fitting.fit import run_command
from recloom.training.checkpoint import read_checkpoint

pytest.importorskip("torch_geometric", reason="needs torch-geometric: pip install 'recloom-graph[pyg]'")

import recloom
from recloom_graph.property.data_modules import NodeData
from recloom_graph.property.node_property import NodeProperty

from .planetoid_files import write

QUIET = ["--trainer.enable_progress_bar=false", "--early_stopping.patience=1000"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two groups with many edges inside and few between; features say nothing of a node's group."""
    rng = np.random.default_rng(0)
    classes = np.arange(80) % 2
    near = rng.random((80, 80)) < np.where(classes[:, None] == classes, 0.2, 0.01)
    edges = {node: [int(other) for other in np.flatnonzero(near[node])] for node in range(80)}
    features = np.eye(80, dtype=np.float32)
    return write(
        tmp_path_factory.mktemp("raw") / "blocks", "sbm", features, classes, edges, 16, [*range(60, 80)]
    )


def fit(folder, run, *more):
    words = ["fit", "--model", "NodeProperty", "--data", str(folder), "--data.name", "sbm", "--run", str(run)]
    return run_command([*words, *QUIET, *more])


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "sbm"
    fit(folder, run, "--trainer.max_epochs=30")
    return run


@pytest.mark.parametrize("conv", ["SAGE", "GAT"])
def test_groups_are_found_from_edges_alone(folder, tmp_path, conv, capsys):
    fit(folder, tmp_path / "run", "--model.conv", conv, "--trainer.max_epochs=40", "--model.heads=2")
    main(["test", str(tmp_path / "run")])
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]["accuracy"] >= 0.8
    assert "epoch" in capsys.readouterr().out


@pytest.mark.fact("A9.3")
def test_the_best_epoch_by_validation_is_tested(folder, trained, capsys):
    rows = [
        line.split(",") for line in (trained / "logs" / "version_0" / "metrics.csv").read_text().splitlines()
    ]
    column, epoch = rows[0].index("val/accuracy"), rows[0].index("epoch")
    curve = {int(row[epoch]): float(row[column]) for row in rows[1:] if row[column]}
    best = max(curve, key=lambda one: (curve[one], -one))
    assert best < max(curve)
    main(["test", str(trained)])
    results = json.loads((trained / "metrics.json").read_text())
    assert (results["checkpoint"], results["epoch"], results["monitor"]) == ("best", best + 1, "val/accuracy")
    module, data = NodeProperty(), NodeData(str(folder), "sbm")
    module.build(80, 2)
    module.load_state_dict(read_checkpoint(trained / "checkpoints" / "best.ckpt")["state_dict"])
    rows = data.graph.parts["test"]
    right = module.eval()(data.graph)[rows].argmax(1) == data.graph.labels[rows]
    assert results["metrics"]["accuracy"] == pytest.approx(float(right.float().mean()))
    assert (
        results["protocol"] | {"data": "sbm", "split": "planetoid", "test_nodes": 20} == results["protocol"]
    )
    assert f"epoch {best + 1}, the best by val/accuracy, seed 0" in capsys.readouterr().out


def test_the_run_says_what_it_is(trained):
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert (config["module"], config["model"]["conv"]) == ("NodeProperty", "GCN")
    record = json.loads((trained / "run.json").read_text())
    assert (record["module"], record["epochs"], record["monitor"]) == ("NodeProperty", 30, "val/accuracy")


def test_a_resumed_fit_equals_an_uninterrupted_one(folder, trained, tmp_path):
    fit(folder, tmp_path / "run", "--trainer.max_epochs=10")
    run_command(
        ["fit", "--run", str(tmp_path / "run"), "--ckpt_path", "last", "--trainer.max_epochs=30", *QUIET]
    )
    one, other = (
        read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
        for run in (trained, tmp_path / "run")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_embeddings_are_what_enters_the_last_convolution(folder):
    module, data = NodeProperty(dim=8), NodeData(str(folder), "sbm")
    with pytest.raises(RecloomError, match="no layers yet"):
        module(data.graph)
    module.build(80, 2)
    vectors = module.eval().embeddings(data.graph)
    assert vectors.shape == (80, 8)
    assert torch.allclose(module.network.convs[-1](vectors, data.graph.edges), module(data.graph), atol=1e-6)


def test_other_data_than_those_of_the_checkpoint_are_refused(folder, trained, tmp_path):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "other").mkdir()
    for name, body in files.items():
        (tmp_path / "other" / name).write_bytes(body)
    index = tmp_path / "other" / "ind.sbm.test.index"
    index.write_text("".join(f"{node}\n" for node in reversed(range(60, 80))))
    with pytest.raises(RecloomError, match=r"trained on other data than .*other: data_hash"):
        run_command(["test", str(trained), "--data", str(tmp_path / "other")])


def test_a_trained_run_is_not_trained_over(folder, trained):
    with pytest.raises(RecloomError, match="holds a trained run already"):
        fit(folder, trained)


@pytest.mark.parametrize(
    "words",
    [
        ["recommend", "RUN", "--history", "x"],
        ["compare", "RUN", "elsewhere"],
        ["export", "RUN", "--out", "x.onnx"],
    ],
)
def test_what_needs_a_recommender_says_that_this_is_none(trained, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([str(trained) if word == "RUN" else word for word in words])
    assert ended.value.code == 2
    assert "is a run of NodeProperty, which is no recommender" in capsys.readouterr().err


def test_in_python_too(trained):
    for path in (trained, trained / "checkpoints" / "best.ckpt"):
        with pytest.raises(RecloomError, match="NodeProperty, which is no recommender"):
            recloom.load(path)
    with pytest.raises(RecloomError, match=r"`recloom predict` is not for it, only fit, validate, test"):
        run_command(["predict", str(trained)])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.cnv", "GAT"], r"--model\.cnv is not an option.* Did you mean --model\.conv\?"),
        (["--model.conv", "GCNN"], r"conv takes one of GCN, SAGE, GAT; found 'GCNN'"),
        (["--model.lr", "0"], "lr must be above 0 and finite"),
        (["--data.name", "nowhere"], r"holds no set 'nowhere', but sbm\. Say which with --data\.name"),
    ],
)
def test_wrong_words_are_answered(folder, tmp_path, words, message):
    with pytest.raises(RecloomError, match=message):
        fit(folder, tmp_path / "run", *words)


def test_a_misspelt_name_finds_the_module(folder):
    with pytest.raises(
        RecloomError, match=r"'NodeProprty' is not among the models. Did you mean NodeProperty\?"
    ):
        run_command(["fit", "--model", "NodeProprty", "--data", str(folder)])


def test_the_error_for_a_folder_without_the_set_lists_what_it_holds(folder, tmp_path):
    with pytest.raises(DataError, match=r"holds sbm\. Say which with --data\.name"):
        NodeData(str(folder)).setup()
    with pytest.raises(DataError, match=r"holds no set: expected ind\.cora\.allx .*\(Planetoid\)"):
        NodeData(str(tmp_path), "cora").setup()
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(DataError, match="is a dataset for recommenders, which has no labelled nodes"):
        NodeData(str(tmp_path)).setup()


def test_an_empty_part_is_refused(tmp_path):
    write(tmp_path / "few", "few", np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]), {0: [1]}, 2, [2, 3])
    with pytest.raises(DataError, match="the valid part of the split is empty"):
        NodeData(str(tmp_path / "few"), "few").setup()
