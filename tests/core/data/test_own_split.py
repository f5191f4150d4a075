"""A source's own split becomes the dataset's, which a fit uses by itself; `prepare` takes a file by its name alone."""

import json

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.card import read_card
from recloom.data.prepare.own_split import part_column, source_parts
from recloom.data.prepare.source import prepare_source
from recloom.data.split import parts_of
from recloom.errors import DataError
from recloom.fitting.fit import run_command
from recloom.schemas import SplitSpec

QUIET = ["--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def gowalla(tmp_path_factory):
    """Raw files as LightGCN's authors publish them, and the dataset prepared with its split."""
    folder = tmp_path_factory.mktemp("own")
    raw = folder / "raw"
    raw.mkdir()
    users = range(12)
    (raw / "train.txt").write_text("".join(f"{n} {n % 5} {n % 7 + 5}{' 12' * (n % 2)}\n" for n in users))
    (raw / "test.txt").write_text("".join(f"{n} {(n + 1) % 5} {(n + 2) % 7 + 5}\n" for n in users if n % 4))
    raw, _, _ = prepare_source(str(raw), folder / "data", keep_split=True)
    assert not [note for note in raw.notes if "split anew" in note]
    assert raw.notes[-1].startswith("the split of the source is kept")
    return folder


def test_the_parts_of_files_are_those_of_the_split(gowalla):
    data = gowalla / "data"
    spec, part = parts_of(data, read_card(data), SplitSpec())
    rows = pl.read_parquet(data / "interactions.parquet")
    assert spec.strategy == "source"
    assert part.cast(pl.String).to_list() == rows["part"].to_list()
    assert rows.filter(part.cast(pl.String) == "test").height == 18
    asked, _ = parts_of(data, read_card(data), SplitSpec(strategy="random"))
    assert asked.strategy == "random"
    none, _ = parts_of(data, read_card(data), SplitSpec(), "none")
    assert none.strategy == "last"


@pytest.mark.parametrize("words", [["--model=ItemKNN"], ["--model=SASRec", "--trainer.max_epochs=1"]])
def test_a_fit_uses_it_and_its_protocol_says_so(gowalla, words, recwarn):
    run = gowalla / words[0].partition("=")[2]
    run_command(["fit", *words, f"--data={gowalla / 'data'}", f"--run={run}", *QUIET])
    told = " ".join(str(one.message) for one in recwarn)
    assert "ModelCheckpoint" not in told, "without validation the last epoch counts, which is no mistake"
    assert "Total length" not in told
    run_command(["test", str(run), *QUIET])
    protocol = json.loads((run / "metrics.json").read_text())["protocol"]
    assert protocol["split"]["strategy"] == "source"
    assert protocol["users"] == 9


def test_fit_takes_a_split_made_apart_by_its_folder(gowalla, capsys):
    data = gowalla / "data"
    main(["data", "split", str(data), "--strategy", "random", "--out", str(gowalla / "split")])
    shown = capsys.readouterr().out
    assert f"next: recloom fit --model ItemKNN --data {data} --split {gowalla / 'split'}" in shown
    run = gowalla / "apart"
    run_command(
        [
            "fit",
            "--model=ItemKNN",
            f"--data={data}",
            "--split",
            str(gowalla / "split"),
            f"--run={run}",
            *QUIET,
        ]
    )
    run_command(["test", str(run), *QUIET])
    assert json.loads((run / "metrics.json").read_text())["protocol"]["split"]["strategy"] == "random"


def test_a_fit_takes_dates_of_a_split_as_words(tmp_path, write_dataset):
    rows = pl.DataFrame({"user_id": ["a", "b"] * 9, "item_id": [f"i{n % 6}" for n in range(18)],
                         "timestamp": [1_300_000_000 + 86_400 * n for n in range(18)]})  # fmt: skip
    data, run = write_dataset(tmp_path / "data", rows), tmp_path / "run"
    words = [
        "--data.split.strategy=time",
        "--data.split.valid_from",
        "2011-03-20",
        "--data.split.test_from=2011-03-25",
    ]
    run_command(["fit", "--model=ItemKNN", f"--data={data}", f"--run={run}", *words, *QUIET])
    run_command(["test", str(run), *QUIET])
    split = json.loads((run / "metrics.json").read_text())["protocol"]["split"]
    assert (split["valid_from"], split["test_from"]) == ("2011-03-20", "2011-03-25")


def test_a_column_of_a_table_says_the_parts(tmp_path, capsys):
    path = tmp_path / "log.csv"
    path.write_text("user,item,Split\nu,a,Train\nu,b,val\nv,a,training\nv,c,TEST\n")
    main(["data", "prepare", str(path), "--out", str(tmp_path / "data"), "--keep-split"])
    shown = capsys.readouterr().out
    assert f"next: recloom fit --model ItemKNN --data {tmp_path / 'data'}" in shown
    assert "the split of the source is kept: 2 train, 1 valid, 1 test" in shown
    _, part = parts_of(tmp_path / "data", read_card(tmp_path / "data"), SplitSpec())
    assert part.cast(pl.String).to_list() == ["train", "valid", "train", "test"]
    assert read_card(tmp_path / "data").source.options["keep_split"] is True


def test_a_column_of_parts_is_told_of_and_check_names_the_split_that_was_kept(tmp_path, capsys):
    path, other = tmp_path / "log.csv", tmp_path / "other.csv"
    path.write_text("user,item,Split\nu,a,Train\nu,b,val\nv,a,training\nv,c,TEST\n")
    other.write_text("user,item,Split\nu,a,Train\nu,b,val\nv,a,7\nv,c,TEST\n")
    main(["data", "check", str(path)])
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "Split says which rows are train, valid and test; this split of the source is kept with --keep-s"
        in shown
    )
    assert "not read: Split" not in shown
    main(["data", "check", str(other)])
    assert "not read: Split" in " ".join(capsys.readouterr().out.split())
    main(["data", "prepare", str(path), "--out", str(tmp_path / "data"), "--keep-split"])
    capsys.readouterr()
    main(["data", "check", str(tmp_path / "data")])
    shown = " ".join(capsys.readouterr().out.split())
    assert "the split of the source is kept: 2 train, 1 valid, 1 test; `fit` uses it" in shown


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (None, r"do not say which rows are train and test. Expected a folder of train.txt"),
        (["train", "later"], r"column 'part' holds \['later'\]; expected one of train, training"),
        (["train", "valid"], "column 'part' leaves no row in test"),
    ],
)
def test_what_says_no_parts_is_refused(said, error):
    rows = pl.DataFrame({"user_id": ["u", "u"]} | ({} if said is None else {"part": said}))
    with pytest.raises(DataError, match=error):
        source_parts(rows)


def test_the_column_of_parts():
    assert part_column(["user", "Subset"]) == "Subset"
    assert part_column(["user", "fold"]) is None


def test_a_split_of_the_source_that_is_not_there_is_refused(tmp_path, write_dataset):
    rows = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["i", "j"], "timestamp": [1, 2]})
    data = write_dataset(tmp_path / "data", rows)
    with pytest.raises(DataError, match="Prepare it with --keep-split"):
        parts_of(data, read_card(data), SplitSpec(strategy="source"))


def test_prepare_takes_options_of_readers_with_a_file_alone(tmp_path, capsys):
    path = tmp_path / "log.csv"
    path.write_text("who,what\nu,a\nv,b\n")
    words = [str(path), "--user-column", "who", "--item-column=what"]
    main(["data", "check", *words])
    assert (
        f"next: recloom data prepare {path} --user-column who --item-column what --out DIR"
        in capsys.readouterr().out
    )
    main(["data", "prepare", *words, "--out", str(tmp_path / "data")])
    assert pl.read_parquet(tmp_path / "data" / "items.parquet")["item_id"].to_list() == ["a", "b"]
    with pytest.raises(SystemExit):
        main(["data", "prepare", "tabel", "--out", str(tmp_path / "no")])
    assert "'tabel' is neither a file or folder nor a reader (" in capsys.readouterr().err
