"""What an opponent tried: remade data, other splits, repeats, hostile ids, wrong numbers; each is refused or right."""

import shutil
import warnings

import numpy as np
import polars as pl
import pytest
import recloom
import torch
import yaml
from recloom.cli.invoke import plain_words
from recloom.cli.main import main
from recloom.data.batches.module import RecDataModule
from recloom.errors import RecloomError
from recloom.fitting.fit import run_command
from recloom.metrics.functional import first_k

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.max_epochs=1"]


def rows(users=20, items=15, length=6, seed=0, repeats=False):
    random = np.random.default_rng(seed)
    picks = [random.choice(items, length, replace=repeats) for _ in range(users)]
    return pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in np.repeat(np.arange(users), length)],
            "item_id": [f"i{n}" for n in np.concatenate(picks)],
            "timestamp": np.tile(np.arange(length), users),
        }
    )


def train(folder, write_dataset):
    data = write_dataset(folder / "data", rows())
    run_command(["fit", "--model=ItemKNN", f"--data={data}", f"--run={folder / 'run'}", *QUIET])
    return data, folder / "run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, write_dataset):
    """Data and a run that tests only read."""
    return train(tmp_path_factory.mktemp("trained"), write_dataset)


def test_data_prepared_again_in_another_order_give_the_same_recommendations(tmp_path, write_dataset):
    data, run = train(tmp_path, write_dataset)
    before = recloom.load(run).recommend(user="u3", k=5)
    shutil.rmtree(data)
    write_dataset(data, rows().reverse().sort("timestamp", maintain_order=True))
    assert recloom.load(run).recommend(user="u3", k=5) == before


@pytest.mark.parametrize("other", ["--data.split.strategy=random", "--data"])
def test_a_run_is_not_tested_on_another_split_or_dataset(trained, other, tmp_path, write_dataset):
    if other == "--data":
        other = f"--data={write_dataset(tmp_path / 'other', rows(items=12, seed=1))}"
    with pytest.raises(RecloomError, match=r"was trained on another .*(split|dataset)"):
        run_command(["test", str(trained[1]), other, "--trainer.enable_progress_bar=false"])


def test_a_run_is_not_resumed_with_another_model_and_stays_as_it_was(tmp_path, write_dataset):
    data, run = write_dataset(tmp_path / "data", rows()), tmp_path / "run"
    words = ["fit", "--model=SASRec", f"--data={data}", f"--run={run}", "--model.recommender.dim=8", *QUIET]
    run_command(words)
    with pytest.raises(RecloomError, match=r"holds another recommender: dim 8, asked for 4"):
        run_command([*words, "--model.recommender.dim=4", "--trainer.max_epochs=2", "--ckpt_path=last"])
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["recommender"]["init_args"]["dim"] == 8


@pytest.mark.parametrize("strategy", ["time", "random", "last"])
@pytest.mark.parametrize("seen", ["masked", "kept"])
def test_items_chosen_twice_are_measured(strategy, seen, tmp_path, write_dataset, capsys):
    frame = rows(items=4, repeats=True)
    frame = frame.with_columns(pl.col("timestamp") * 20 + pl.int_range(pl.len()) // 6)  # users take turns
    data, run = write_dataset(tmp_path / "data", frame), tmp_path / "run"
    split = f"--data.split.strategy={strategy}"
    run_command(
        ["fit", "--model=Popularity", f"--data={data}", f"--run={run}", split, f"--data.seen={seen}", *QUIET]
    )
    main(["test", str(run)])
    told = "stand in the masked history" in capsys.readouterr().out
    assert told == (seen == "masked")


def test_a_list_begins_with_the_shorter_lists():
    torch.manual_seed(0)
    scores = torch.randint(0, 4, (50, 60)).float()
    scores[:, ::7] = float("-inf")
    values, columns = first_k(scores, 60)
    expected = scores.sort(dim=1, descending=True, stable=True)
    assert torch.equal(columns, expected.indices)
    for k in range(61):
        fewer = first_k(scores, k)
        assert torch.equal(fewer[0], values[:, :k])
        assert torch.equal(fewer[1], columns[:, :k])


def test_any_id_can_be_typed():
    def command(run: str, *, users: "list[str] | None" = None, k: int = 1, plain: bool = False) -> None: ...

    command.__annotations__ = {"run": "str", "users": "list[str] | None", "k": "int", "plain": "bool"}
    assert plain_words(command, ["r", "--users", "😀", 'a"b', "--plain", "--k", "3"]) == [
        "r", '--users=["😀", "a\\"b"]', "--plain=true", "--k", "3",
    ]  # fmt: skip
    assert plain_words(command, ["r", "--no-plain"]) == ["r", "--plain=false"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.lr=nan"], r"model\.lr.*nan"),
        (["--model.lr=-1"], "lr must be above 0"),
        (["--model.metrics=[]"], "at least one metric"),
        (["--data.batch_size=0"], "batch_size must be at least 1; found 0"),
        (["--data.num_workers=-1"], "num_workers must be at least 0"),
        (["--model.recommender.dim=-4"], "dim must be at least 1; found -4"),
        (["--model.recommender.max_len=0"], "max_len must be at least 1"),
        (["--model.recommender.num_heads=0"], "num_heads must be at least 1"),
        (["--model.recommender.dropout=-0.1"], "dropout must be at least 0"),
        (["--data.candidates=impressions"], "nothing of it can be masked"),
    ],
)
def test_impossible_numbers_are_named(words, message, tmp_path, write_dataset):
    data = write_dataset(tmp_path / "data", rows())
    with pytest.raises(RecloomError, match=f"(?s){message}"):
        run_command(["fit", "--model=SASRec", f"--data={data}", f"--run={tmp_path / 'run'}", *QUIET, *words])


def test_a_loss_that_is_no_number_stops_the_fit(tmp_path, write_dataset):
    data = write_dataset(tmp_path / "data", rows())
    words = [
        "fit",
        "--model=SASRec",
        f"--data={data}",
        f"--run={tmp_path / 'run'}",
        "--trainer.enable_progress_bar=false",
    ]
    with pytest.raises(RecloomError, match=r"the loss became nan in step \d+; lower --model.lr"):
        run_command([*words, "--model.lr=1e30", "--trainer.max_epochs=20"])


@pytest.mark.parametrize("metric", ["recall@20", "mrr"])
def test_what_is_measured_is_monitored(metric, tmp_path, write_dataset):
    data = write_dataset(tmp_path / "data", rows())
    cli = run_command(
        [
            "fit",
            "--model=SASRec",
            f"--data={data}",
            f"--run={tmp_path / 'run'}",
            f"--model.metrics=[{metric}]",
            *QUIET,
        ]
    )
    assert cli.trainer.checkpoint_callback.monitor == f"val/{metric}"
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()


def test_diversity_is_measured_from_texts_and_categories(tmp_path, write_dataset):
    items = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(15)],
            "title": [f"Film {n}" for n in range(15)],
            "genres": ["drama|war"] * 15,
        }
    )
    data = write_dataset(tmp_path / "data", rows(), items)
    run = recloom.fit(
        data,
        "Popularity",
        run=tmp_path / "run",
        config={"model": {"metrics": ["diversity@3", "category_diversity@3"]}},
    )
    metrics = run.test().metrics
    assert 0 < metrics["diversity@3"].mean < 1
    assert metrics["category_diversity@3"].mean == pytest.approx(0)


def test_sampled_candidates_hold_no_item_of_any_part_of_the_user(tmp_path, write_dataset):
    data = RecDataModule(str(write_dataset(tmp_path / "data", rows())), candidates="uniform-5")
    data.setup()
    users = torch.arange(1, 21)[:, None]
    for part in ("valid", "test"):
        drawn = data.requests(part).dataset.candidates[1:, 1:]
        assert (drawn > 0).all()
        assert not data.everything.contains(users, drawn).any()


def test_a_second_fit_in_the_same_folder_waits_its_turn(tmp_path):
    import subprocess
    import sys

    from recloom.run_folder import lock

    lock(tmp_path / "run")
    code = f"from pathlib import Path; from recloom.run_folder import lock; lock(Path({str(tmp_path / 'run')!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another fit is writing" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["test"], "say which run"),
        (["recommend", "nowhere", "--history", "a"], "there is no run nowhere"),
        (["data", "check", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_messages_instead_of_tracebacks(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_text_is_no_history(trained):
    with pytest.raises(RecloomError, match="history must be a list"):
        recloom.load(trained[1]).recommend(history="i1")


def test_a_folder_whose_name_holds_brackets_is_a_folder(tmp_path, write_dataset):
    data, run = write_dataset(tmp_path / "[i]data *", rows()), tmp_path / "[r]un"
    run_command(["fit", "--model=Popularity", f"--data={data}", f"--run={run}", *QUIET])
    main(["test", str(run)])
    assert len(recloom.load(run).recommend(user="u1", k=3)) == 3


def test_words_that_name_no_item_are_told(trained, capsys):
    with pytest.warns(UserWarning, match="not known, so ignored: 'zzzz'"):
        main(["recommend", str(trained[1]), "--history", "i1", "zzzz", "--k", "2"])
    with pytest.warns(UserWarning, match="nothing known of this history"):
        recloom.load(trained[1]).recommend(history=[])


def test_items_to_exclude_that_are_not_known_are_counted(trained, tmp_path):
    run = recloom.load(trained[1])
    several = ["i1", *(f"zz{n:02}" for n in range(12))]
    told = (
        "12 of 13 items to exclude are not known, so they exclude nothing: 'zz00', 'zz01'.*'zz09' and 2 more$"
    )
    with pytest.warns(UserWarning, match=told):
        found = run.recommend(history=["i2"], k=3, exclude=several)
    assert "i1" not in [item.item_id for item in found]
    with pytest.warns(
        UserWarning, match="1 of 1 items to exclude are not known, so they exclude nothing: 'zzzz'$"
    ):
        main(["recommend", str(trained[1]), "--users", "u1", "--exclude", "zzzz"])
    with pytest.warns(UserWarning, match="'zzzz'") as warned:
        list(run.recommend_all(2, exclude=["zzzz"]))
    assert len([one for one in warned if "to exclude" in str(one.message)]) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.recommend(history=["i2"], exclude=["i1"])


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"state_dict": {}, "recloom": {"recommender": {}}}, tmp_path / "old.ckpt")
    with pytest.raises(RecloomError, match="holds no catalog and no metrics and no trained_on"):
        recloom.load(tmp_path / "old.ckpt")


def test_a_list_that_cannot_be_finished_leaves_nothing_behind(trained, tmp_path, monkeypatch):
    def breaks(self, k, *, exclude=()):
        yield pl.DataFrame({"user_id": ["u1"], "item_id": ["i1"], "score": [1.0], "rank": [1]})
        raise OSError("no space left")

    monkeypatch.setattr(recloom.runs.run.Run, "recommend_all", breaks)
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit):
        main(["recommend", str(trained[1]), "--all", "--out", str(tmp_path / "out" / "lists.parquet")])
    assert not list((tmp_path / "out").iterdir())


def test_messages_show_what_they_quote_and_obey_none_of_it(capsys):
    with pytest.raises(SystemExit):
        main(["recommend", "runs/\x1b[2J\u202egone", "--users", "u1"])
    said = capsys.readouterr().err
    assert "␛[2J" in said
    assert "\x1b" not in said
    assert "\u202e" not in said
