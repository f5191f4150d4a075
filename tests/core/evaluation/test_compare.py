import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recloom.errors import RecloomError
from recloom.evaluation.compare import compare, compare_command
from recloom.evaluation.results import write_results
from recloom.evaluation.significance import holm, paired_difference
from recloom.evaluation.tables import long_table
from recloom.metrics.segments import LEGEND
from recloom.schemas import SplitSpec

from .tested_runs import USERS, WORSE, protocol, run, shown


@pytest.fixture
def runs(tmp_path):
    noise = np.random.default_rng(1).normal(size=(2, 200)) * 0.05
    return [
        run(tmp_path / "popular", WORSE, "Popularity"),
        run(tmp_path / "better", WORSE + 0.05 + noise[0], "SASRec", order=slice(None, None, -1)),
        run(tmp_path / "same", WORSE + noise[1] - noise[1].mean(), "BERT4Rec"),
    ]


def test_differences_are_paired_by_user_whatever_their_order(runs):
    found = compare(runs, ["ndcg@10"])
    first, better, same = found.cells
    assert first.difference is None
    assert first.p_value is None
    expected = paired_difference(WORSE + (better.mean - WORSE.mean()), WORSE)
    assert better.difference == pytest.approx(expected.mean)
    assert 0 < better.difference_low < better.difference < better.difference_high
    assert better.p_holm < 0.01 < 0.5 < same.p_holm
    assert better.low < better.mean < better.high


def test_p_values_are_adjusted_for_all_tests_of_the_table(runs):
    found = compare(runs, long=True)
    tested = [cell for cell in found.cells if cell.p_value is not None]
    assert len(tested) == 4  # two runs, two metrics; gini has no values per user
    assert [cell.p_holm for cell in tested] == pytest.approx(holm([cell.p_value for cell in tested]))


def test_another_run_can_be_the_reference(runs):
    found = compare(runs, ["ndcg@10"], reference=runs[1])
    assert found.reference == runs[1]
    assert [cell.difference is None for cell in found.cells] == [False, True, False]
    assert found.cells[0].difference < 0
    with pytest.raises(RecloomError, match=r"expected the reference to be one of .*; found elsewhere"):
        compare(runs, reference="elsewhere")


def test_other_protocols_are_refused_and_every_difference_is_named(tmp_path, runs):
    other = run(tmp_path / "sampled", WORSE, candidates="uniform-100", split=SplitSpec(seed=3))
    with pytest.raises(RecloomError, match="expected runs of one protocol") as caught:
        compare([*runs, other])
    text = str(caught.value)
    assert f"candidates: 'all' in {runs[0]}, 'uniform-100' in {other}" in text
    assert f"split.seed: 0 in {runs[0]}, 3 in {other}" in text
    assert "seen" not in text
    assert "ties" not in text


def test_users_common_to_both_runs_are_compared(tmp_path, runs):
    part = run(tmp_path / "part", WORSE + 0.5, order=slice(0, 120))
    cell = compare([runs[0], part], ["ndcg@10"]).cells[1]
    assert cell.difference == pytest.approx(0.5)
    write_results(
        tmp_path / "none",
        model="M",
        protocol=protocol(),
        values={"ndcg@10": 0.5},
        per_user={"ndcg@10": np.array([0.5])},
        users=["stranger"],
    )
    with pytest.raises(RecloomError, match=r"expected users common to .*popular and .*none, found none"):
        compare([runs[0], str(tmp_path / "none")])


def test_a_metric_undefined_in_one_run_is_shown_without_a_test(tmp_path, runs):
    values = np.full(200, np.nan)
    write_results(
        tmp_path / "empty",
        model="M",
        protocol=protocol(),
        values={"ndcg@10": float("nan")},
        per_user={"ndcg@10": values},
        users=USERS,
    )
    found = compare([runs[0], str(tmp_path / "empty")])
    assert found.cells[1].mean is None
    assert found.cells[1].p_value is None
    assert "undefined" in shown(found)


def test_what_cannot_be_compared_is_an_error(runs):
    with pytest.raises(RecloomError, match="two or more different runs, found none"):
        compare([])
    with pytest.raises(RecloomError, match="two or more different runs"):
        compare([runs[0], runs[0]])
    with pytest.raises(RecloomError, match=r"every run has \(ndcg@10, hit@10, gini@10\), found auc"):
        compare(runs, ["ndcg@10", "auc"])


def test_the_table_names_models_intervals_and_differences(runs):
    found = compare(runs, long=True)
    text = shown(found)
    for cell in found.cells:
        assert cell.model in text
        assert f"{cell.mean:.4f}" in text
        if cell.low is not None:
            assert f"{cell.low:.4f} to {cell.high:.4f}" in text
        if cell.difference is not None:
            assert f"{cell.difference:+.4f}" in text
            assert f"{cell.p_holm:.2g}" in text
    assert found.notes() == [
        "dataset toy, part test, candidates all, seen masked, users 200, split last, ties against the model",
        f"Intervals over users; difference to {runs[0]}, paired by user.",
        "p is corrected by Holm's method over the 4 comparisons of this table.",
    ]


def test_a_comparison_prints_as_its_table(runs):
    found = compare(runs, ["ndcg@10"], long=True)
    text = repr(found)
    assert text.splitlines()[0].split() == [
        "metric",
        "run",
        "value",
        "95",
        "%",
        "interval",
        "difference",
        "±",
        "95",
        "%",
        "p",
        "(Holm)",
    ]
    assert f"{found.cells[1].difference:+.4f}" in text
    assert text.endswith("\n".join(found.notes()))
    assert "\x1b" not in text


def test_runs_are_named_by_themselves_or_by_their_folders(runs):
    class Loaded:
        def __init__(self, folder):
            self.folder = Path(folder)

    loaded = [Loaded(folder) for folder in runs]
    assert compare(loaded) == compare(runs)
    assert compare([loaded[0], runs[1]], reference=loaded[0]).reference == runs[0]


def test_names_of_runs_are_never_broken(tmp_path, monkeypatch, capsys):
    """Two runs of one model are named by their folders, longer than a terminal of 60 columns is wide."""
    monkeypatch.setenv("COLUMNS", "60")
    names = [str(tmp_path / ("a folder of a run with a long name " * 2 + letter)) for letter in "ab"]
    for name in names:
        Path(name).mkdir()
        run(Path(name), WORSE, "Popularity", loss="BPR", seed=0 if name.endswith("a") else 1)
    compare_command(names, metrics="ndcg@10", each=True, long=True)
    lines = capsys.readouterr().out.splitlines()
    for name in names:
        assert any(name in line and "0." in line for line in lines)  # its row, with its figures
    assert all(name in repr(compare(names, ["ndcg@10"], each=True, long=True)) for name in names)


def test_the_best_is_marked_by_the_metric_s_own_direction(runs):
    table = long_table(compare(runs, long=True))
    metric, value = (list(table.columns[place].cells) for place in (0, 2))
    marked = {
        name: [v.startswith("[bold]") for v in value[at : at + 3]] for at, name in enumerate(metric) if name
    }
    assert marked["ndcg@10"] == [False, True, False]
    assert not marked["gini@10"][1]  # the better ranker has the higher gini here


def test_frame_and_json_say_the_same(runs):
    found = compare(runs, long=True)
    frame, record = found.to_frame(), json.loads(found.to_json())
    assert frame.shape[0] == len(record["cells"]) == 9
    assert frame["p_holm"].to_list() == [cell["p_holm"] for cell in record["cells"]]
    assert record["protocol"]["candidates"] == "all"


def test_over_how_many_comparisons_p_was_corrected_is_said(runs):
    few, many = compare(runs, ["ndcg@10"], long=True), compare(runs, long=True)
    for found, number in ((few, 2), (many, 4)):
        assert found.comparisons == json.loads(found.to_json())["comparisons"] == number
        assert f"over the {number} comparisons of this table" in " ".join(found.notes())
    assert few.cells[2].p_value == many.cells[6].p_value
    alone = compare(runs, ["gini@10"], long=True)  # it has no values per user
    assert alone.comparisons == 0
    assert "Holm" not in " ".join(alone.notes())
    assert alone.notes()[1].endswith("Differences are given for metrics with a value per user only.")
    assert [column.header for column in long_table(alone).columns] == [
        "metric",
        "run",
        "value",
        "95 % interval",
    ]


def test_the_command_prints_its_notes_in_one_piece(runs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    compare_command(runs, long=True)
    shown = capsys.readouterr().out.splitlines()
    notes = compare(runs, long=True).notes()
    assert shown[-len(notes) :] == notes


def test_the_command_prints_and_writes(runs, tmp_path, capsys):
    compare_command(runs, metrics="ndcg@10, hit@10", out=tmp_path / "table.json")
    assert "SASRec" in capsys.readouterr().out
    cells = json.loads((tmp_path / "table.json").read_text())["cells"]
    assert {cell["metric"] for cell in cells} == {"ndcg@10", "hit@10"}
    assert compare_command.name == "compare"


def test_comparing_needs_no_torch(runs):
    code = (
        "import sys; from recloom.evaluation.compare import compare; "
        "assert 'numpy' not in sys.modules; compare(sys.argv[1:]); "
        "assert not {'torch', 'lightning'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *runs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_run_whose_fit_was_interrupted_is_marked(runs):
    assert compare(runs, long=True).interrupted == []
    (Path(runs[1]) / "checkpoints").mkdir()
    (Path(runs[1]) / "run.json").unlink()
    found = compare(runs, long=True)
    assert found.interrupted == [runs[1]]
    assert found.notes()[-1] == f"* {runs[1]}: training was interrupted, this is the state it had reached."
    assert found.notes()[-1] in repr(found)
    rows = list(long_table(found).columns[1].cells)
    assert [str(row) for row in rows if str(row).endswith("*")] == ["SASRec*"] * 3
    (Path(runs[1]) / "run.json").touch()
    assert compare(runs, long=True).interrupted == []


def test_segments_are_compared_where_they_say_more(tmp_path):
    def tested(name, cold):
        values = {"ndcg@10": WORSE, "ndcg@10/warm": WORSE, "ndcg@10/cold": cold, "ndcg@10/tail": WORSE / 2}
        write_results(
            tmp_path / name,
            model=name,
            protocol=protocol(),
            values={
                metric: np.nanmean(v) if not np.isnan(v).all() else np.nan for metric, v in values.items()
            },
            per_user=values,
            users=USERS,
        )
        return str(tmp_path / name)

    few, none = np.where(np.arange(200) < 20, 0.5, np.nan), np.full(200, np.nan)
    some = compare([tested("a", few), tested("b", few / 2)], long=True)
    assert list(dict.fromkeys(cell.metric for cell in some.cells)) == [
        "ndcg@10", "ndcg@10/warm", "ndcg@10/cold", "ndcg@10/tail",
    ]  # fmt: skip
    cold = next(cell for cell in some.cells if cell.run.endswith("b") and cell.metric == "ndcg@10/cold")
    assert (cold.n, cold.difference) == (20, pytest.approx(-0.25))
    assert LEGEND in some.notes()
    assert LEGEND not in compare([tested("a", few), tested("b", few / 2)], ["ndcg@10"]).notes()
    without = compare([tested("c", none), tested("d", none)], long=True)
    assert {cell.metric for cell in without.cells} == {"ndcg@10", "ndcg@10/tail"}
