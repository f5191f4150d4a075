"""What someone new stumbles over: each is told, or works."""

import json
import os
import pty
import re
import shutil
import signal
import time

import numpy as np
import polars as pl
import pytest
import recloom
from recloom.cli.help import usage
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.fitting.fit import run_command
from recloom.models.ease import EASE

QUIET = ["--trainer.enable_progress_bar=false"]


@pytest.fixture
def data(tmp_path, write_dataset):
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in np.repeat(np.arange(30), 6)],
            "item_id": [
                f"i{n}" for n in np.concatenate([random.choice(20, 6, replace=False) for _ in range(30)])
            ],
            "timestamp": np.tile(np.arange(6), 30),
        }
    )
    return write_dataset(tmp_path / "data" / "tiny", frame)


def fit(data, run, *words, model="SASRec"):
    return run_command(["fit", f"--model={model}", f"--data={data}", f"--run={run}", *QUIET, *words])


def test_what_was_fitted_is_not_fitted_again_to_be_measured(data, tmp_path, monkeypatch):
    fit(data, tmp_path / "run", model="EASE")
    calls = []
    monkeypatch.setattr(EASE, "fit", lambda self, interactions: calls.append(1))
    for verb in ("validate", "test", "predict"):
        run_command([verb, str(tmp_path / "run"), *QUIET])
    recloom.load(tmp_path / "run").test()
    assert not calls
    fit(data, tmp_path / "other", model="EASE")
    assert calls == [1]


def test_an_interrupted_fit_says_how_to_go_on_and_is_known_as_such(data, tmp_path, capsys, warm_python):
    run = tmp_path / "run"
    command = ["-m", "recloom.cli.main", "fit", "--model=SASRec", f"--data={data}", f"--run={run}", *QUIET]
    command += ["--trainer.max_epochs=5000", "--early_stopping.patience=null", "--model.recommender.dim=8"]
    reader, terminal = pty.openpty()
    with open(tmp_path / "said", "w") as said:
        process = warm_python.start(*command, stdin=terminal, stdout=terminal, stderr=said)
    try:
        deadline = time.monotonic() + 120
        while not (run / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    finally:
        process.kill()
        os.close(reader)
        os.close(terminal)
    assert process.returncode == 130
    assert (
        f"interrupted; go on with: recloom fit --run {run} --ckpt_path last"
        in (tmp_path / "said").read_text()
    )
    with pytest.raises(RecloomError, match="its fit was interrupted"):
        _ = recloom.load(run).record
    run_command(["test", str(run), *QUIET])
    assert "training was interrupted: this is the state it had reached" in capsys.readouterr().out


def test_a_resumed_fit_needs_the_run_alone(data, tmp_path, capsys):
    run = tmp_path / "run"
    fit(data, run, "--trainer.max_epochs=1", "--model.recommender.dim=8")
    (run / "run.json").unlink()  # as after an interruption
    run_command(["fit", "--run", str(run), "--ckpt_path", "last", "--trainer.max_epochs=2"])
    assert json.loads((run / "run.json").read_text())["epochs"] == 2
    assert "2 epochs, best val/ndcg@10" in capsys.readouterr().out


def test_a_run_is_used_from_another_folder(data, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    fit("data/tiny", "runs/tiny/EASE", model="EASE")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(recloom.load("../runs/tiny/EASE").recommend(user="u1", k=3)) == 3
    run_command(["test", "../runs/tiny/EASE", *QUIET])
    assert not list((tmp_path / "elsewhere").iterdir())
    shutil.move(tmp_path / "data", tmp_path / "moved")
    with pytest.raises(
        RecloomError, match=r"was trained on the dataset data/tiny, which is not there now.*--data"
    ):
        recloom.load("../runs/tiny/EASE").recommend(user="u1")
    main(["recommend", "../runs/tiny/EASE", "--users", "u1", "--data", "../moved/tiny"])
    run_command(["test", "../runs/tiny/EASE", "--data", "../moved/tiny", *QUIET])


def test_a_fit_that_fails_leaves_no_folder(data, tmp_path):
    with pytest.raises(RecloomError):
        fit(data, tmp_path / "a" / "run", "--model.recommender.num_heads=3")
    assert not (tmp_path / "a").exists()


def test_a_trained_run_stays_when_a_later_fit_fails(data, tmp_path):
    fit(data, tmp_path / "run", "--trainer.max_epochs=1")
    with pytest.raises(RecloomError):
        fit(data, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


def test_measuring_writes_no_logs(data, tmp_path):
    fit(data, tmp_path / "run", "--trainer.max_epochs=1")
    before = sorted(path.name for path in (tmp_path / "run" / "logs").iterdir())
    run_command(["test", str(tmp_path / "run"), *QUIET])
    assert sorted(path.name for path in (tmp_path / "run" / "logs").iterdir()) == before


def test_early_stopping_is_switched_off(data, tmp_path):
    words = ["--model.recommender.dim=8", "--model.lr=1e-9", "--trainer.max_epochs=6"]  # nothing improves
    fit(data, tmp_path / "on", *words, "--early_stopping.patience=2", "--early_stopping.patience_steps=0")
    fit(data, tmp_path / "off", *words, "--early_stopping.patience=null")
    epochs = [json.loads((tmp_path / name / "run.json").read_text())["epochs"] for name in ("on", "off")]
    assert epochs == [3, 6]


@pytest.mark.parametrize("words", [["--model.metrics=hit@5,ndcg@5"], ["--model.metrics", "hit@5,ndcg@5"]])
def test_metrics_are_named_with_commas(data, tmp_path, words):
    fit(data, tmp_path / "run", *words, model="Popularity")
    names = list(recloom.load(tmp_path / "run").test().metrics)
    assert [name for name in names if "/" not in name] == ["hit@5", "ndcg@5"]
    assert names[1:4] == ["hit@5/warm", "hit@5/cold", "hit@5/tail"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say --model NAME, such as SASRec and --data DIR"),
        (["--model=sasrec", "--data=d"], "Did you mean SASRec"),
        (["--model=SASRec", "--data=d", "--lr=0.1"], "--lr is not an option. Did you mean --model.lr"),
        (["--model=SASRec", "--data=d", "--model.lr=x"], "--model.lr takes a value of type float; found 'x'"),
        (
            ["--model=SASRec", "--data=d", "--model.recommender.dim=x"],
            "--model.recommender.dim takes a value of type int; found 'x'",
        ),
        (
            ["--model=SASRec", "--data=d", "--data.split.strategy=lats"],
            "takes one of last, time, random, users, source; found 'lats'. Did you mean last",
        ),
    ],
)
def test_a_slip_is_answered_in_words_of_the_command_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecloomError) as told:
        run_command(["fit", *words])
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  recomender:\n    class_path: SASRec\n", "Did you mean --model.recommender?"),
        ("model:\n  recommender: SASRec\n  learning_rate: 1\n", "--model.learning_rate is not an option"),
    ],
)
def test_a_slip_in_a_file_names_the_file(text, message, tmp_path):
    (tmp_path / "mine.yaml").write_text(text + "data:\n  path: d\n")
    with pytest.raises(RecloomError) as told:
        run_command(["fit", "--config", str(tmp_path / "mine.yaml")])
    assert message in str(told.value)
    assert "mine.yaml" in str(told.value)


def test_a_missing_flag_is_called_a_flag(capsys):
    with pytest.raises(SystemExit):
        main(["verify", "model.onnx"])
    assert "say --run." in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told_before_the_work(data, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(RecloomError, match=r"cannot be written to .*Choose another --run"):
        fit(data, tmp_path / "file" / "run")
    run = tmp_path / "my run"
    fit(data, run, model="Popularity")
    assert f"(next: recloom test '{run}')" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["recommend", str(run), "--all", "--out", str(tmp_path / "none" / "x.parquet")])
    monkeypatch.setattr("recloom.fitting.lightning_cli.unwritable", {run: "Read-only file system"}.get)
    with pytest.raises(
        RecloomError, match=r"no file can be made \(Read-only file system\)\. Copy the run, and test"
    ):
        run_command(["test", str(run)])


@pytest.mark.parametrize("verb", ["fit", "validate", "test", "predict"])
def test_the_help_of_the_loop_is_short_and_every_option_in_it_exists(verb, capsys):
    main([verb, "--help"])
    short = capsys.readouterr().out
    assert short.strip() == usage(verb).strip()
    assert len(short.splitlines()) < 50
    with pytest.raises(SystemExit):
        main([verb, "--help-all"])
    everything = capsys.readouterr().out
    named = set(re.findall(r"--[a-z_.]*[a-z]", short)) - {"--help", "--all", "--model", "--data", "--metrics"}
    named -= {
        "--model.recommender.dim",
        "--model.recommender.llm.run",
    }  # of some: the long help cannot know them
    assert len(named) > 3
    assert not {word for word in named if word not in everything}


def test_what_can_be_named_is_listed(capsys):
    main(["list", "metrics"])
    said = capsys.readouterr().out
    assert "ndcg " in said
    assert "[core]" in said
    assert "SASRec" not in said
    assert all(len(line.split()) > 2 for line in said.splitlines())  # a name, words about it, the owner


@pytest.mark.parametrize("words", [["list"], ["--help"], ["data"]])
def test_lists_are_as_wide_as_the_terminal(words, capsys, monkeypatch):
    main(words)
    free = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "72")
    main(words)
    narrow = capsys.readouterr().out
    assert max(map(len, free.splitlines())) > 80
    lists = [
        line for line in narrow.splitlines() if line.startswith("  ") and not line.startswith("  recloom ")
    ]
    assert len(lists) > 5
    assert max(map(len, lists)) <= 72
    assert narrow.split() == free.split()


def test_the_package_is_the_command(warm_python):
    done = warm_python.run("-m", "recloom", "--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"recloom {recloom.__version__}"), done.stderr


def test_a_test_measures_the_metrics_it_is_asked_for(data, tmp_path):
    fit(data, tmp_path / "run", model="ItemKNN")
    for words in (
        ["--metrics", "ndcg@5", "mrr@3"],
        ["--metrics=hit@4,ndcg@2"],
        ["--model.metrics", "recall@7"],
    ):
        run_command(["test", str(tmp_path / "run"), *words, *QUIET])
        found = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
        names = {name for word in words for name in word.rpartition("=")[2].split(",") if "@" in name}
        assert {name for name in found if "/" not in name} == names
    with pytest.raises(
        RecloomError, match=r"--metrics needs names of metrics, such as --metrics ndcg@10,mrr@10"
    ):
        run_command(["test", str(tmp_path / "run"), "--metrics"])


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("--trainer.max_epoch", "--trainer.max_epochs"),
        ("--model.metric", "--model.metrics"),
        ("--conf", "--config"),
    ],
)
def test_a_shortened_option_is_refused_with_its_whole_name(data, tmp_path, short, whole):
    with pytest.raises(RecloomError, match=rf"{short} is not an option.*Did you mean {whole}\?"):
        fit(data, tmp_path / "run", f"{short}=1", model="ItemKNN")
    assert not (tmp_path / "run").exists()


def test_what_an_unknown_title_may_have_meant_is_shown(data, tmp_path):
    fit(data, tmp_path / "run", model="ItemKNN")
    run = recloom.load(tmp_path / "run")
    titles = ["Toy Story (1995)", "Toy Soldiers (1991)", "Heat (1995)", *(f"Film {n}" for n in range(17))]
    run.catalog.items = run.catalog.items.with_columns(title=pl.Series(titles))
    with pytest.warns(UserWarning, match=r"'Toy Storry' \(did you mean 'Toy Story \(1995\)'\?\)"):
        run.recommend(history=["i1", "Toy Storry"])
    with pytest.warns(UserWarning, match=r"ignored: 'zzzzz'$"):
        run.recommend(history=["i1", "zzzzz"])
    run.catalog.users = run.catalog.users.with_columns(user_id=pl.int_range(pl.len()).cast(pl.String))
    with pytest.raises(RecloomError, match=r"user '7\.0' is not in .* Did you mean '7'\?"):
        run.recommend_users(["7.0"])


def test_python_warns_of_what_it_ignores(data, tmp_path):
    fit(data, tmp_path / "run", model="ItemKNN")
    run = recloom.load(tmp_path / "run")
    with pytest.warns(UserWarning, match="not known, so ignored: 'nonsense'"):
        run.recommend(history=["i1", "nonsense"])
    assert "ItemKNN, 20 items" in repr(run)
    run.recommend(history=["i1"], user="nobody")  # ItemKNN reads no users, so there is nothing to warn of
    run.recommender.inputs = ("history", "user")
    with pytest.warns(
        UserWarning, match="user 'nobody' is not in the data of this run, so the list is that of"
    ):
        run.recommend(history=["i1"], user="nobody")


def test_a_history_may_be_a_list_an_array_a_series_or_a_tensor(data, tmp_path):
    fit(data, tmp_path / "knn", model="ItemKNN")
    run = recloom.load(tmp_path / "knn")
    ids = ["i1", "i2"]
    kinds = (ids, tuple(ids), np.array(ids), pl.Series(ids), np.array(ids, object))
    answers = [[one.item_id for one in run.recommend(history=history, k=3)] for history in kinds]
    assert answers == [answers[0]] * len(kinds)
    with pytest.raises(RecloomError, match="must be one list of ids or titles, found lists in it"):
        run.recommend(history=np.array([ids]))
    with pytest.raises(RecloomError, match="must be a list of ids or titles, found 7"):
        run.recommend(history=7)
