"""What a user sees of the data commands."""

import inspect

import pytest
from recloom.data.prepare import commands
from recloom.data.prepare.public_datasets import KNOWN
from recloom.errors import DataError


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,rating,time\na,x,5,10\na,[red]y,4,20\na,z,3,30\nb,x,oops,10\na,x,5,10\n")
    return path


def test_prepare_shows_what_it_guessed_and_rejected(log, tmp_path, capsys):
    commands.prepare("auto", path=log, out=tmp_path / "data", max_rejected=0.5)
    shown = " ".join(capsys.readouterr().out.split())
    assert "columns: user_id as user_id, item_id as item_id, time as timestamp, rating as value" in shown
    assert "separator: ','" in shown
    assert "times: seconds" in shown
    assert "time: Unix seconds" in shown
    assert "interactions 3" in shown
    assert "rejected 2" in shown
    assert "duplicates 1" in shown
    assert "log.csv value is empty or not a number 1 5 b,x,oops,10" in shown
    assert "below min value" not in shown


def test_hostile_cells_are_shown_and_not_obeyed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "[red]log.csv"
    path.write_text("user_id,item_id,rating,time\na,x,5,10\n[/b],\x1b[31my\u202e,oops,20\na,z,3,30\n")
    commands.prepare("auto", path=path, out=tmp_path / "[i]data", max_rejected=0.5, name="[/i]")
    with pytest.raises(DataError) as stop:
        commands.check(path)
    shown = capsys.readouterr().out
    assert "[i]data" in shown.replace("\n", "")
    assert "[/b],␛[31my\ufffd,oops,20" in shown
    assert "problem [red]log.csv, line 3" in shown
    assert not {"\x1b", "\u202e"} & set(shown + str(stop.value))


def test_options_of_the_command_reach_the_reader(log, tmp_path, capsys):
    commands.prepare(
        "table", path=log, out=tmp_path / "data", name="mine",
        options={"value_column": "none", "time_column": "none"},
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert "the source has no times" in shown
    with pytest.raises(DataError, match=r"needs real times"):
        commands.split(tmp_path / "data", strategy="time")


def test_split_shows_its_parts_and_whole_paths(log, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    commands.prepare("auto", path=log, out=tmp_path / "data", max_rejected=0.5)
    commands.split(tmp_path / "data", out=tmp_path / "split")
    lines = capsys.readouterr().out.splitlines()
    assert lines.count(str(tmp_path / "data")) == lines.count(str(tmp_path / "split")) == 1
    shown = " ".join(" ".join(lines).split())
    assert "train 1 valid 1 test 1 context 0 unused 0 short users 0 cold items 1" in shown
    assert (tmp_path / "split" / "split.parquet").is_file()


def test_synth_and_list(tmp_path, capsys):
    commands.synth(like="jobs", users=20, items=50, seed=3, out=tmp_path / "jobs")
    assert "items 50" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "jobs" / "truth" / "parameters.json").is_file()
    commands.list_readers()
    shown = capsys.readouterr().out
    licences = {known.licence for known in KNOWN.values()}
    assert len(licences) > 2
    words = " ".join(shown.split())
    assert {words.count(licence) for licence in licences} == {1}
    for word in ("movielens", "mind", "amazon", "sequences", "table", "ml-25m", "mind-small", "login needed"):
        assert word in shown


def test_every_option_is_described():
    for function in commands.COMMANDS:
        options = [name for name in function.__annotations__ if name != "return"]
        for option in options:
            assert f"    {option}: " in inspect.cleandoc(function.__doc__), (function.name, option)
