"""`recloom export` and `recloom verify`, from a run on disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal

import polars as pl
import pytest
import torch
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.fitting.fit import fit
from recloom.io import LOCK
from recloom.runs.run import load
from recloom_onnx.artifact.manifest import read_manifest, weight_digest
from recloom_onnx.artifact.session import Session
from recloom_onnx.exporting.int8 import coded
from recloom_onnx.exporting.staging import staged


@pytest.fixture(scope="module")
def interactions():
    random = torch.Generator().manual_seed(0)
    users = torch.arange(120).repeat_interleave(9)
    items = (users % 4) * 10 + torch.randint(0, 10, (len(users),), generator=random)
    return pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in users],
            "item_id": [f"i{n}" for n in items],
            "timestamp": torch.arange(len(users)).numpy() + 1_500_000_000,
        }
    ).unique(["user_id", "item_id"], keep="first", maintain_order=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory, write_dataset, interactions):
    return write_dataset(tmp_path_factory.mktemp("data") / "topics", interactions)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "ease"
    fit(data, "EASE", {"regularization": 10.0}, run=folder)
    main(["test", "--run", str(folder)])
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "ease.onnx"
    main(["export", str(run), "--out", str(out)])
    return out


def test_the_metric_of_the_artefact_is_the_metric_of_the_test(run, exported):
    manifest = read_manifest(exported)
    tested = json.loads((run / "metrics.json").read_text())["metrics"]["ndcg@10"]["mean"]
    assert manifest.parity.verified
    assert manifest.parity.artefact["ndcg@10"] == pytest.approx(tested, abs=1e-6)
    assert manifest.metrics["ndcg@10"] == tested
    assert manifest.model == "EASE"
    assert manifest.config["regularization"] == 10.0
    assert manifest.protocol.part == "test"


def test_the_artefact_recommends_what_the_run_does(run, exported):
    history = ["i3", "nobody", "i5", "i1"]
    served = Session(exported).recommend([history], k=7)[0]
    wanted = load(run).recommend(history, k=7)
    assert [place.item_id for place in served] == [item.item_id for item in wanted]


def test_unverified_until_verified(run, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    main(["export", str(run), "--out", str(out), "--verify", "false"])
    assert f"next: recloom verify {out} --run {run}" in capsys.readouterr().out
    assert read_manifest(out).parity is None
    main(["verify", str(out), "--run", str(run), "--requests", "30"])
    assert read_manifest(out).parity.verified
    assert read_manifest(out).parity.requests == 372 + 30
    assert "ndcg@10 among all 40 items, 30 test users" in " ".join(capsys.readouterr().out.split())


def test_what_was_written_is_said_once_with_its_size(run, tmp_path, capsys):
    out = tmp_path / "ease.onnx"
    main(["export", str(run), "--out", str(out), "--no-verify"])
    size = out.stat().st_size / 1e6
    line = capsys.readouterr().out.splitlines()[0]
    assert line == f"wrote {out}, with ease.json beside it: EASE, 40 items, {size:.1f} MB"


def test_without_its_dataset_nothing_is_written(run, tmp_path, capsys):
    out = tmp_path / "ease.onnx"
    with pytest.raises(SystemExit):
        main(["export", str(run), "--out", str(out), "--data", str(tmp_path / "gone")])
    said = capsys.readouterr().err
    assert re.search(
        r"ease\.onnx was not written, because .*gone.* --data FOLDER, or .* --no-verify\.", said, re.S
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("EASE", {"regularization": 11.0}, r"EASE\(regularization=11\.0.*\)"),
        ("Popularity", {}, r"Popularity\(.*\)"),
    ],
)
def test_another_run_is_refused_and_the_manifest_stays(
    data, exported, tmp_path, capsys, model, options, told
):
    other = tmp_path / "other"
    fit(data, model, options, run=other)
    before = exported.with_suffix(".json").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(exported), "--run", str(other)])
    assert stop.value.code == 2
    expected = (
        rf"ease\.onnx was exported from EASE\(regularization=10\.0.*\), and the run .*other is {told}\."
    )
    assert re.search(expected + " Nothing was compared or written", capsys.readouterr().err)
    assert exported.with_suffix(".json").read_bytes() == before


def test_a_run_on_other_items_is_refused_and_the_manifest_stays(
    write_dataset, exported, tmp_path, capsys, interactions
):
    renamed = interactions.with_columns(pl.col("item_id") + "x")
    fit(
        write_dataset(tmp_path / "renamed", renamed), "EASE", {"regularization": 10.0}, run=tmp_path / "other"
    )
    before = exported.with_suffix(".json").read_bytes()
    with pytest.raises(SystemExit):
        main(["verify", str(exported), "--run", str(tmp_path / "other")])
    assert re.search(r"which are not those of the run .*other's catalogue", capsys.readouterr().err)
    assert exported.with_suffix(".json").read_bytes() == before


def test_other_data_than_the_run_was_made_from_is_refused(
    run, exported, write_dataset, interactions, tmp_path, capsys
):
    other = write_dataset(tmp_path / "other", interactions.reverse())
    before = exported.with_suffix(".json").read_bytes()
    with pytest.raises(SystemExit):
        main(["verify", str(exported), "--run", str(run), "--data", str(other)])
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(
        r"other is not the data that .*ease was made from: expected data hash \w+, found \w+\. Give", told
    )
    assert exported.with_suffix(".json").read_bytes() == before


@pytest.mark.parametrize("requests", [1, 7])
def test_a_few_requests_are_timed_too(run, exported, tmp_path, requests):
    for file in exported.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    copy = tmp_path / exported.name
    main(["verify", str(copy), "--run", str(run), "--requests", str(requests)])
    assert read_manifest(copy).parity.latency_ms["p50"] > 0


def test_another_training_is_refused_and_a_difference_is_an_error(run, exported, tmp_path, capsys):
    """The same model, options and items, with other numbers in it; then a manifest that says they are its own."""
    other = tmp_path / "other"
    shutil.copytree(run, other)
    for path in (other / "checkpoints").glob("*.ckpt"):
        checkpoint = torch.load(path, weights_only=True)
        for name, value in checkpoint["state_dict"].items():
            if name.startswith("recommender.") and value.is_floating_point():
                value += torch.rand(value.shape, generator=torch.Generator().manual_seed(1))
        torch.save(checkpoint, path)
    for file in exported.parent.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    copy = tmp_path / exported.name
    before = copy.with_suffix(".json").read_bytes()
    with pytest.raises(SystemExit):
        main(["verify", str(copy), "--run", str(other)])
    assert "was exported from another training of EASE" in capsys.readouterr().err
    assert copy.with_suffix(".json").read_bytes() == before
    weights = weight_digest(load(other).recommender.state_dict())
    read_manifest(copy).model_copy(update={"weights": weights}).write(copy)
    with pytest.raises(SystemExit) as stop:
        main(["verify", str(copy), "--run", str(other)])
    assert stop.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "does not equal its run and will not be served: batch of" in told
    assert told.endswith("Export it again, or ask the model's author.")
    assert not read_manifest(copy).parity.verified


def test_fewer_bits_are_verified_by_the_metric(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("recloom_onnx.exporting.quantize.LEAST", 1)
    out = tmp_path / "small.onnx"
    main(["export", str(run), "--out", str(out), "--quantize", "int8", "--max_loss", "0.3"])
    manifest = read_manifest(out)
    assert manifest.precision == "int8"
    assert manifest.parity.test_requests == 120
    assert manifest.parity.loss <= manifest.parity.max_loss == 0.3
    assert "NDCG@10 lost, allowed" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["verify", str(out), "--run", str(run), "--requests", "30"])
    assert re.search(r"--requests is 30, and .* is int8; .* Leave --requests out", capsys.readouterr().err)
    assert read_manifest(out) == manifest


def test_fewer_bits_that_lose_too_much_are_not_served(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("recloom_onnx.exporting.quantize.LEAST", 1)
    monkeypatch.setattr("recloom_onnx.exporting.int8.coded", lambda matrix, axis: coarse(coded(matrix, axis)))
    out = tmp_path / "small.onnx"
    with pytest.raises(SystemExit):
        main(["export", str(run), "--out", str(out), "--quantize", "int8"])
    said = capsys.readouterr().err
    assert re.search(
        r"small\.onnx falls short of its run and will not be served: NDCG@10 over 120 test", said
    )
    with pytest.raises(RecloomError, match="is lost, allowed is"):
        Session(out)


def test_what_fails_does_not_replace_what_is_served(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("recloom_onnx.exporting.quantize.LEAST", 1)
    out = tmp_path / "model.onnx"
    main(["export", str(run), "--out", str(out)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    capsys.readouterr()
    monkeypatch.setattr("recloom_onnx.exporting.int8.coded", lambda matrix, axis: coarse(coded(matrix, axis)))
    with pytest.raises(SystemExit):
        main(["export", str(run), "--out", str(out), "--quantize", "int8"])
    said = capsys.readouterr()
    assert "wrote" not in said.out
    assert re.search(
        r"falls short of its run: NDCG@10 .*model\.onnx is verified and was not replaced", said.err
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.setattr("recloom_onnx.exporting.int8.coded", coded)
    main(["export", str(run), "--out", str(out), "--quantize", "int8", "--max_loss", "0.9"])
    assert read_manifest(out).precision == "int8"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(before)


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_comparison_keeps_the_better_file(run, tmp_path, capsys, monkeypatch, there):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    out = tmp_path / "model.onnx"
    if there:
        main(["export", str(run), "--out", str(out)])
    monkeypatch.setattr("recloom_onnx.verification.verify.verify_artefact", stopped)
    with pytest.raises(SystemExit) as stop:
        main(["export", str(run), "--out", str(out)])
    assert stop.value.code == 130
    assert (read_manifest(out).parity is not None) == there
    told = f"wrote {out}, not compared to the end (next: recloom verify {out} --run {run})"
    stays = f"{out} is verified and was not replaced by what was not compared to the end"
    assert (stays if there else told) in capsys.readouterr().out.splitlines()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.onnx"]


def test_what_a_killed_export_left_is_removed_by_the_next(run, tmp_path):
    out = tmp_path / "model.onnx"
    with staged(out) as staging:
        left = staging.parent
    left.mkdir()
    left.with_suffix(LOCK).touch()
    for name in ("model.onnx", "model.json"):
        (left / name).write_text("half of it")
    with staged(out) as other:  # one that is made now is left alone
        main(["export", str(run), "--out", str(out)])
        assert other.parent.is_dir()
    assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.onnx"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--out", "{}/taken.onnx"], r"taken\.onnx is a folder, and a file of the artefact would lie there"),
        (["--out", "{}/named.onnx"], r"named\.json is a folder"),
        (["--out", "{}/none/model.onnx"], "none is not a folder; make it"),
        (["--out", "{}/model.bin"], r"ends in \.onnx"),
        (["--out", "{}/model.onnx", "--max_loss", "5"], "from 0 to less than 1, found 5"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(run, tmp_path, capsys, monkeypatch, words, told):
    (tmp_path / "taken.onnx").mkdir()
    (tmp_path / "named.json").mkdir()
    monkeypatch.setattr("recloom.runs.run.load", lambda path: pytest.fail("the run was loaded"))
    with pytest.raises(SystemExit):
        main(["export", str(run), *(word.format(tmp_path) for word in words)])
    assert re.search(told, capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["named.json", "taken.onnx"]


def test_verify_says_what_is_not_there_before_it_loads(run, exported, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("recloom.runs.run.load", lambda path: pytest.fail("the run was loaded"))
    for words, told in (
        ([str(tmp_path / "none.onnx"), "--run", str(run)], r"none\.onnx does not exist"),
        ([str(exported), "--run", str(tmp_path / "none")], "there is no run .*none"),
        ([str(exported), "--run", str(run), "--max_loss", "-1"], "found -1"),
    ):
        with pytest.raises(SystemExit):
            main(["verify", *words])
        assert re.search(told, capsys.readouterr().err)


def test_sigterm_keeps_what_was_made(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "recloom_onnx.verification.verify.verify_artefact",
        lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM),
    )
    with pytest.raises(SystemExit) as stop:
        main(["export", str(run), "--out", str(tmp_path / "model.onnx")])
    assert stop.value.code == 143
    assert "not compared to the end" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.onnx"]


def test_what_is_replaced_unverified_is_said(run, tmp_path, capsys):
    words = ["export", str(run), "--out", str(tmp_path / "model.onnx")]
    main(words)
    main([*words, "--no-verify"])
    assert "not verified, though the one in its place was, so it is not served yet" in capsys.readouterr().out


def coarse(parts):
    codes, scale = parts
    return codes // 100, scale * 100


def test_a_small_model_stays_as_it_is(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", str(run), "--out", str(tmp_path / "small.onnx"), "--quantize", "int8"])
    assert "nothing to quantise: the model has no matrix of 4,096" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bar_is_shown_on_terminals_only(run, tmp_path, capsys, monkeypatch):
    shown = []
    monkeypatch.setattr("recloom.progress.Progress.advance", lambda _, done, failed: shown.append(done))
    main(["export", str(run), "--out", str(tmp_path / "ease.onnx")])
    assert shown == [64, 56]
    assert capsys.readouterr().err == ""


def test_an_index_is_exported_verified_and_reported(data, tmp_path, capsys):
    pytest.importorskip("faiss")
    folder, out = tmp_path / "sasrec", tmp_path / "model.onnx"
    fit(data, "SASRec", {"dim": 8, "max_len": 5, "num_layers": 1}, run=folder, max_epochs=3)
    main(["export", str(folder), "--out", str(out), "--index_above", "10", "--index_recall", "1"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "with model.faiss, model.items.parquet and model.json beside it" in shown
    assert "building an index over 40 items" in shown
    assert "the index looks into 1 of 1 lists and finds 100.0% of the exact top 10 for 120 requests" in shown
    manifest = read_manifest(out)
    assert manifest.parity.verified
    assert manifest.parity.loss == 0
    assert manifest.parity.test_requests == 120
    asked = {"history": ["i3", "i7"], "k": 5}
    found = Session(out).recommend([asked["history"]], k=asked["k"])[0]
    assert [one.item_id for one in found] == [one.item_id for one in load(folder).recommend(**asked)]


def test_triton_takes_no_index_and_says_so_before_the_work(run, tmp_path, capsys):
    words = ["--out", str(tmp_path / "m.onnx"), "--triton", str(tmp_path / "models"), "--index_above", "10"]
    with pytest.raises(SystemExit):
        main(["export", str(run), *words])
    assert "Leave --index_above or --triton out" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())
