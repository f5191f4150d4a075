"""`recloom demo` on small data: the table, the file it exports, the answer, and what is left out."""

from __future__ import annotations

import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO

import polars as pl
import pytest
from recloom.cli.main import main
from recloom.data.prepare.dataset import write_synthetic
from recloom.data.synth.generator import World, synthesise
from recloom.demo import steps
from recloom.demo.command import MARK, demo, make_room
from recloom.demo.steps import entrants, exported
from recloom.errors import RecloomError
from recloom.plugins import collect_with_owner
from recloom.runs import artefacts
from recloom.runs.artefacts import installed_artefacts
from recloom.runs.run import load


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """A CSV file of invented interactions, without titles."""
    data, truth, parameters = synthesise(World(users=60, items=50, seed=3))
    folder = tmp_path_factory.mktemp("raw")
    write_synthetic(data, folder / "prepared", truth, parameters)
    pl.read_parquet(folder / "prepared" / "interactions.parquet").write_csv(folder / "log.csv")
    return folder / "log.csv"


@pytest.fixture(scope="module", autouse=True)
def short():
    """One epoch of everything."""
    few = [replace(one, training={**one.training, "max_epochs": 1}) for one in entrants()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "entrants", lambda: few)
        patch.setenv("COLUMNS", "80")
        yield


@pytest.fixture(scope="module")
def demonstrated(raw, tmp_path_factory):
    """The folder of a demo of prepared data, what it printed, and its messages."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with redirect_stdout(StringIO()) as shown, redirect_stderr(StringIO()) as messages:
        main(["demo", str(raw.parent / "prepared"), "--out", str(out)])
    return out, shown.getvalue(), messages.getvalue()


def test_the_demo_ends_with_a_table_a_file_and_an_answer(raw, demonstrated):
    out, shown, messages = demonstrated
    assert messages == ""
    rows = re.findall(r"^(\w+) +(\d\.\d{4})  (\d\.\d{4})–(\d\.\d{4}) +\d", shown, re.M)
    assert {name for name, *_ in rows} == {entrant.model for entrant in entrants()}
    values = [float(value) for _, value, *_ in rows]
    assert values == sorted(values, reverse=True)
    assert all(
        float(low) <= value <= float(high) for value, (*_, low, high) in zip(values, rows, strict=True)
    )
    assert "60 users, 50 items, split last, candidates all, seen items masked" in " ".join(shown.split())
    assert "places that differ                  0" in re.sub(" {18,}", " " * 18, shown)
    assert (out / "model.onnx").is_file()
    titles = pl.read_parquet(raw.parent / "prepared" / "items.parquet")["title"].to_list()
    answers = [line[42:].strip() for line in shown[shown.index("met last") :].splitlines()[1:11]]
    assert len(set(answers)) == 10
    assert all(any(title.startswith(cut.rstrip("…")) for title in titles) for cut in answers)
    wide = [line for line in shown.splitlines() if len(line) > 80]
    assert not [line for line in wide if str(raw.parent) not in line and str(out.parent) not in line]


def test_the_file_answers_as_the_run_does(raw, demonstrated):
    out, shown, _ = demonstrated
    (best,) = re.findall(r"wrote .*: (\w+), 50 items", shown)
    run = load(out / "runs" / best)
    rows = pl.read_parquet(raw.parent / "prepared" / "interactions.parquet").filter(user_id="u07")
    history = rows["item_id"].to_list()[:-1]
    found = installed_artefacts()["onnx"].answer(out / "model.onnx", history, user="u07", k=7)
    assert found == [item.item_id for item in run.recommend(history, user="u07", k=7)]
    assert not set(found) & set(history)


def test_raw_files_are_prepared_and_a_model_that_needs_texts_is_left_out(raw, tmp_path, capsys, monkeypatch):
    few = [one for one in steps.entrants() if one.model in ("TextMean", "EASE", "ItemKNN")]
    assert len(few) == 3
    monkeypatch.setattr(steps, "entrants", lambda: few)
    demo(raw, out=tmp_path / "out")
    shown = capsys.readouterr().out
    assert (tmp_path / "out" / "data" / "log.csv" / "dataset.json").is_file()
    assert re.search(r"^TextMean +left out: .*title", shown, re.M)
    assert re.search(r"^EASE +fitted and tested", shown, re.M)
    demo(raw, out=tmp_path / "out")  # a second demo replaces the first
    assert "wrote" in capsys.readouterr().out


def test_what_is_not_installed_is_left_out_with_the_package_that_has_it(raw, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(steps, "entrants", entrants)
    few = {name: one for name, one in collect_with_owner("register_models").items() if name == "Popularity"}
    monkeypatch.setattr(steps, "collect_with_owner", {"register_models": few}.__getitem__)
    monkeypatch.setattr(steps, "installed_artefacts", dict)
    demo(raw, out=tmp_path / "out")
    shown = capsys.readouterr().out
    assert re.search(r"^recloom-pretrain +left out: needs `pip install recloom-pretrain`", shown, re.M)
    assert "Not exported: that needs `pip install 'recloom-onnx[cpu]'`" in shown


def test_where_nothing_can_be_trained_the_demo_says_so(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "collect_with_owner", lambda hook: {})
    monkeypatch.setattr(steps, "entrants", list)
    with pytest.raises(RecloomError, match=r"none of the models could be trained; the reasons stand above"):
        demo(raw, out=tmp_path / "out")


def test_a_run_that_cannot_be_exported_gives_way_to_the_next(monkeypatch, capsys, tmp_path):
    class Fake:
        def __init__(self, name):
            self.folder, self.record = tmp_path / name, type("Record", (), {"model": name})

    class Artefacts:
        def export(self, run, out):
            if run.name == "Walk":
                raise RecloomError("no ONNX operator for it")

    monkeypatch.setattr(artefacts, "collect", lambda hook: {"onnx": Artefacts()})
    walk, table = Fake("Walk"), Fake("Table")
    assert exported([walk, table], tmp_path / "model.onnx") is table
    assert "Walk is not exported: no ONNX operator for it" in capsys.readouterr().out
    assert exported([walk], tmp_path / "model.onnx") is None


def test_a_folder_that_the_demo_did_not_make_is_not_touched(tmp_path):
    mine = tmp_path / "mine"
    (mine / "data").mkdir(parents=True)
    (mine / "data" / "kept.txt").write_text("kept")
    with pytest.raises(RecloomError, match=r"mine exists and was not made by the demo.*--out"):
        make_room(mine, None)
    with pytest.raises(RecloomError, match=r"kept\.txt lies in .*mine, which the demo replaces"):
        make_room(mine, mine / "data" / "kept.txt")
    assert (mine / "data" / "kept.txt").read_text() == "kept"


def test_of_its_own_folder_the_demo_replaces_data_and_runs_only(tmp_path):
    make_room(tmp_path / "out", None)
    for name in ("data", "runs", "notes"):
        (tmp_path / "out" / name).mkdir()
    make_room(tmp_path / "out", None)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"notes", MARK}
