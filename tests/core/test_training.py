"""`recloom fit` and what it leaves behind: resuming, kills, messages."""

import json
import os
import signal
import time

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.fitting.fit import expand, run_command, with_run_folder
from recloom.training.checkpoint import read_checkpoint

OPTIONS = [
    "--model.recommender.dim=8",
    "--model.recommender.max_len=6",
    "--data.batch_size=16",
    "--trainer.enable_progress_bar=false",
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, write_dataset):
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(60), 8)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in user],
            "item_id": [f"i{n}" for n in rng.integers(0, 30, 480)],
            "timestamp": np.tile(np.arange(8), 60),
        }
    )
    items = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(30)], "title": [f"Film number {n}" for n in range(30)]}
    )
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", frame, items)


def fit(dataset, run, *more):
    return run_command(
        ["fit", "--model", "SASRec", "--data", str(dataset), "--run", str(run), *OPTIONS, *more]
    )


def weights(run, name="last"):
    return read_checkpoint(run / "checkpoints" / f"{name}.ckpt")["state_dict"]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_resumed_within_an_epoch_equals_an_uninterrupted_one(dataset, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    often = ["--last.every_n_train_steps=3"]
    fit(dataset, whole, *often, "--trainer.max_steps=12")
    fit(dataset, parts, *often, "--trainer.max_steps=6")  # 4 batches an epoch: the middle of the second
    fit(dataset, parts, *often, "--trainer.max_steps=12", "--ckpt_path=last")
    assert read_checkpoint(parts / "checkpoints" / "last.ckpt")["global_step"] == 12
    assert same(weights(whole), weights(parts))


def test_another_seed_gives_other_weights(dataset, tmp_path):
    fit(dataset, tmp_path / "a", "--trainer.max_epochs=1")
    fit(dataset, tmp_path / "b", "--trainer.max_epochs=1", "--seed_everything=1")
    fit(dataset, tmp_path / "c", "--trainer.max_epochs=1")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "c"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "b"))


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(dataset, tmp_path, warm_python):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = ["fit", "--model", "SASRec", "--data", str(dataset), "--run", str(killed), *OPTIONS]
    words += ["--trainer.max_epochs=200", "--early_stopping.patience=1000"]
    with open(os.devnull) as nothing, open(tmp_path / "said", "w") as said:
        process = warm_python.start("-m", "recloom.cli.main", *words, stdin=nothing, stdout=said, stderr=said)
    last = killed / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not (last.exists() and read_checkpoint(last)["epoch"] >= 3):
        assert process.poll() is None, "the fit ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped_at = read_checkpoint(last)["epoch"]
    total = stopped_at + 4
    assert total < 200
    more = [f"--trainer.max_epochs={total}", "--early_stopping.patience=1000"]
    fit(dataset, killed, *more, "--ckpt_path=last")
    fit(dataset, whole, *more)
    assert same(weights(whole), weights(killed))


def test_training_free_runs_are_tested_like_the_others(dataset, tmp_path):
    run = tmp_path / "pop"
    run_command(["fit", "--model", "Popularity", "--data", str(dataset), "--run", str(run)])
    main(["test", "--run", str(run)])
    assert (run / "metrics.json").is_file()
    assert (run / "per_user_test.parquet").is_file()


def test_config_of_a_run_holds_everything_and_checkpoints_hold_plain_data(dataset, tmp_path):
    fit(dataset, tmp_path / "run", "--trainer.max_epochs=1", "--model.loss=GBCE", "--model.loss.negatives=4")
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["recommender"]["init_args"]["dim"] == 8
    assert config["model"]["loss"]["init_args"]["negatives"] == 4
    saved = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")  # weights_only=True
    assert saved["recloom"]["recommender"]["init_args"]["dim"] == 8


def test_a_truncated_checkpoint_is_named(dataset, tmp_path):
    fit(dataset, tmp_path / "run", "--trainer.max_epochs=1")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RecloomError, match=r"last\.ckpt cannot be read as a checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "SASRek"], r"'SASRek' is not among the models. Did you mean SASRec\?.*Popularity"),
        (
            ["--model", "SASRec", "--model.loss", "GBSE"],
            r"'GBSE' is not among the losses. Did you mean GBCE\?",
        ),
        (
            ["--model", "SASRec", "--model.recommender.dmi", "8"],
            r"'dmi' is not among the options of SASRec. Did you mean dim\?",
        ),
        (
            ["--model", "SASRec", "--model.lrr", "8"],
            r"--model.lrr is not an option. Did you mean --model.lr\?",
        ),
        (["--model", "SASRec", "--data.batchsize", "8"], r"Did you mean --data.batch_size\?"),
        (["--model", "SASRec", "--model.recommender.dim", "wide"], r"dim.*int.*wide"),
        (["--model", "SASRec", "--data", "nowhere"], r"nowhere is not a prepared dataset"),
        (["--model", "SASRec", "--model.metrics", "[ndgc@10]"], r"ndgc@10.*ndcg"),
    ],
)
def test_wrong_words_are_answered_with_the_nearest_right_ones(words, message, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = words if "--data" in words else [*words, "--data", str(dataset)]
    with pytest.raises(RecloomError, match=f"(?s){message}"):
        run_command(["fit", *given, *(["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"])])


def test_an_unknown_key_in_a_config_file_is_named(dataset, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        f"model:\n  recommender:\n    class_path: SASRec\n  learning_rate: 1\ndata:\n  path: {dataset}\n"
    )
    with pytest.raises(RecloomError, match="learning_rate"):
        run_command(["fit", "--config", str(file)])


def test_short_flags_and_run_folders(tmp_path):
    assert expand(["fit", "--model=SASRec", "--data", "d"]) == [
        "fit",
        "--model.recommender=SASRec",
        "--data.path",
        "d",
    ]
    with pytest.raises(RecloomError, match="is not a trained run"):
        with_run_folder(["test", "--run", str(tmp_path)])
    with pytest.raises(RecloomError, match=r"holds no checkpoints/last\.ckpt to resume"):
        with_run_folder(["fit", "--run", str(tmp_path), "--ckpt_path", "last"])


def test_a_trained_run_is_not_overwritten_unasked(dataset, tmp_path):
    run = tmp_path / "run"
    fit(dataset, run, "--trainer.max_epochs=1")
    (run / "metrics.json").write_text("{}")
    with pytest.raises(RecloomError, match=r"holds a trained run already.*--ckpt_path last.*--overwrite"):
        fit(dataset, run, "--trainer.max_epochs=1")
    assert (run / "metrics.json").exists()
    fit(dataset, run, "--trainer.max_epochs=2", "--overwrite")
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["epoch"] == 1
    assert not (run / "metrics.json").exists()
    assert yaml.safe_load((run / "config.yaml").read_text())["overwrite"] is False


def test_a_loss_that_was_asked_for_names_the_run(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--model", "SASRec", "--model.recommender.dim", "8", "--trainer.max_epochs", "1"]
    for loss in (["--model.loss", "GBCE"], []):
        run_command(["fit", "--data", str(dataset), *words, *loss])
    assert sorted(path.name for path in (tmp_path / "runs" / dataset.name).iterdir()) == [
        "SASRec",
        "SASRec-GBCE",
    ]


def test_predictions_are_written_as_raw_ids(dataset, tmp_path):
    fit(dataset, tmp_path / "run", "--trainer.max_epochs=1")
    main(["predict", str(tmp_path / "run")])
    table = pl.read_parquet(tmp_path / "run" / "predictions.parquet")
    assert table["user_id"].n_unique() == 60
    assert set(table["rank"].unique()) == set(range(1, 11))
    assert table["item_id"].str.starts_with("i").all()
    history = pl.read_parquet(dataset / "interactions.parquet").sort("user_id", "timestamp")
    seen = history.group_by("user_id", maintain_order=True).agg(pl.col("item_id").head(7)).explode("item_id")
    assert table.join(seen, on=["user_id", "item_id"]).is_empty()


def test_a_missing_accelerator_is_named(dataset, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(RecloomError, match=r"gpu.*recloom doctor"):
        fit(dataset, tmp_path / "run", "--trainer.accelerator=gpu")


@pytest.mark.slow
def test_two_processes_train_in_one_folder_and_agree_on_the_next(dataset, tmp_path, warm_python):
    """Distributed training as far as a CPU goes: Lightning starts this program twice; the first process writes."""
    (tmp_path / "program.py").write_text(
        "import sys, recloom\n"
        "from recloom.errors import RecloomError\n"
        "two = {'devices': 2, 'accelerator': 'cpu', 'strategy': 'ddp', 'enable_progress_bar': False}\n"
        "def fit(**more):\n"
        "    return recloom.fit(sys.argv[1], 'SASRec', {'dim': 8}, max_epochs=2, config={'trainer': two}, **more)\n"
        "first = fit()\n"
        "try:\n"
        "    fit()\n"
        "except RecloomError as error:\n"
        "    print('REFUSED', error)\n"
        "second = fit(run='named')\n"
        "print('FOLDERS', first.folder, second.folder)\n"
    )
    done = warm_python.run(str(tmp_path / "program.py"), str(dataset), cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "REFUSED this program runs in several processes" in done.stdout
    assert "FOLDERS runs/tiny/SASRec named" in done.stdout
    for run in (tmp_path / "runs/tiny/SASRec", tmp_path / "named"):
        record = json.loads((run / "run.json").read_text())
        assert (record["epochs"], record["steps"]) == (
            2,
            2,
        )  # each process takes one of its halves as a batch
    assert same(weights(tmp_path / "runs/tiny/SASRec"), weights(tmp_path / "named"))
    assert [path.name for path in (tmp_path / "runs/tiny").iterdir()] == ["SASRec"]
