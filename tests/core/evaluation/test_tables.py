"""The table of models says the same numbers on a terminal, in Markdown, LaTeX, HTML and CSV."""

import io
import json

import numpy as np
import polars as pl
import pytest
from recloom.errors import RecloomError
from recloom.evaluation.compare import compare, compare_command
from recloom.evaluation.significance import holm
from recloom.evaluation.tables import ModelTable, p_value
from rich.console import Console

from .tested_runs import WORSE, run


def costly(folder, cpu_seconds, parameters):
    """Note in the record of a run what its training took."""
    record = json.loads((folder / "run.json").read_text())
    record |= {"cpu_seconds": cpu_seconds, "parameters": parameters, "epochs": 3}
    (folder / "run.json").write_text(json.dumps(record))
    return str(folder)


@pytest.fixture
def found(tmp_path):
    """A model that counts, and two trained ones of two seeds each, one of them better."""
    draw = np.random.default_rng(3)
    runs = [run(tmp_path / "knn", WORSE, "ItemKNN")]
    for model, gain, cost in (("SASRec", 0.1, 30.0), ("A_B & C", 0.0, 1500.0)):
        for seed in (0, 1):
            noisy = WORSE + gain + draw.normal(size=200) * 0.05
            folder = tmp_path / f"{model[0]}-{seed}"
            run(folder, noisy, model, loss="CrossEntropy", seed=seed)
            runs.append(costly(folder, cost + seed, 212480))
    return compare(runs)


def test_rows_are_models_with_one_p_value_each(found):
    assert found.tested == "ndcg@10"
    assert {cell.metric for cell in found.cells if cell.p_value is not None} == {"ndcg@10"}
    tested = [cell for cell in found.cells if cell.p_value is not None]
    assert [cell.model for cell in tested] == ["SASRec", "A_B & C"]
    assert [cell.p_holm for cell in tested] == pytest.approx(holm([cell.p_value for cell in tested]))
    assert tested[0].p_holm < 0.001 < tested[1].p_holm
    assert "p is corrected by Holm's method over the 2 comparisons of ndcg@10." in found.notes()
    assert [found.costs[cell.run].cpu_seconds for cell in tested] == [30.5, 1500.5]


def test_a_terminal_shows_what_a_paper_needs(found):
    first = next(cell for cell in found.cells if cell.model == "SASRec" and cell.metric == "ndcg@10")
    text = repr(found)
    header, *rows = text.splitlines()[:4]
    assert header.split() == [
        "model", "ndcg@10", "difference", "p", "(Holm)", "hit@10", "gini@10", "CPU", "s", "parameters",
    ]  # fmt: skip
    assert rows[0].split()[-2:] != ["30.5", "212,480"]
    assert rows[1].endswith("30.5     212,480")
    assert rows[2].endswith("1,500     212,480")  # 1,500.5, to the even
    assert f"{first.mean:.4f} ± {(first.high - first.low) / 2:.4f}" in rows[1]
    assert f"{first.difference:+.4f} ± {(first.difference_high - first.difference_low) / 2:.4f}" in rows[1]
    assert "reference" in rows[0]
    assert text.endswith("\n".join(found.notes()))


def test_a_narrow_terminal_has_the_columns_below_each_other(found):
    console = Console(width=60, file=io.StringIO())
    found.models.show(console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    headers = [line.split() for line in lines if line.startswith("model")]
    assert len(headers) > 1
    assert [word for words in headers for word in words[1:]] == [
        "ndcg@10", "difference", "p", "(Holm)", "hit@10", "gini@10", "CPU", "s", "parameters",
    ]  # fmt: skip


def test_markdown_latex_and_html_escape_names_and_mark_the_best(found):
    markdown, latex, page = (found.models.to(kind) for kind in ("markdown", "latex", "html"))
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    assert len({line.count("|") for line in rows}) == 1
    assert "**" in next(line for line in rows if "SASRec" in line).split("|")[2]
    assert r"A\_B \& C (2 seeds)" in latex
    assert latex.count(r"\textbf") == 3  # ndcg and hit of one model, gini of another
    assert latex.rstrip().endswith(r"\end{tabular}")
    body = [line for line in latex.splitlines() if line.endswith(r"\\") and "&" in line]
    assert {line.replace(r"\&", "").count("&") for line in body} == {7}
    found.names[found.reference] = (
        "first\n\\input{secret}"  # a note is a comment, of one line whatever a name holds
    )
    noted = found.models.to_latex().split(r"\begin", 1)[0].splitlines()
    assert all(line.startswith("% ") for line in noted)
    assert any("secret" in line for line in noted)
    del found.names[found.reference]
    assert "A_B &amp; C" in page
    assert page.count("<b>") == 3
    assert found._repr_html_() == page


def test_csv_has_the_numbers_unrounded(found):
    table = pl.read_csv(io.StringIO(found.models.to_csv()))
    cells = {(cell.model, cell.metric): cell for cell in found.cells}
    row = table.row(1, named=True)
    assert row["model"] == "SASRec (2 seeds)"
    assert row["ndcg@10"] == pytest.approx(cells["SASRec", "ndcg@10"].mean, rel=1e-12)
    assert row["p (Holm)"] == pytest.approx(cells["SASRec", "ndcg@10"].p_holm, rel=1e-9)
    assert (row["seeds"], row["CPU s"], row["epochs"], row["parameters"]) == (2, 30.5, 3.0, 212480)
    assert table["difference"].null_count() == 1


def test_several_datasets_are_one_table(found):
    both = ModelTable({"films": found, "books": found})
    assert both.to_latex().count(r"\begin{tabular}") == 1
    assert r"\emph{books}" in both.to_latex()
    assert both.to_frame()["data"].to_list() == ["films"] * 3 + ["books"] * 3
    assert [line for line in repr(both).splitlines() if line in ("films", "books")] == ["films", "books"]


def test_the_command_writes_each_format(found, capsys):
    runs = [run for method in found.methods for run in method.runs]
    compare_command(runs, format="latex")
    assert capsys.readouterr().out == found.models.to_latex()
    with pytest.raises(RecloomError, match="leave out --long or --format"):
        compare_command(runs, format="csv", long=True)


def test_tiny_p_values_have_a_bound():
    assert [p_value(p) for p in (0.25, 0.00012, 0.00009)] == ["0.25", "0.00012", "<0.0001"]
