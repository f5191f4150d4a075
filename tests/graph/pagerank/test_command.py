import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest
from recloom.cli.main import main

DATA = Path(os.environ.get("RECLOOM_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def edges(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("head,tail,relation\na,b,likes\na,c,likes\nb,c,knows\nc,a,knows\n", "utf-8")
    return path


def run(*words) -> int:
    try:
        main(["graph", "pagerank", *map(str, words)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.mark.fact("A9.1")
def test_the_table_shows_the_hand_values(edges, capsys):
    assert run(edges) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[-3:] == [
        ["1", "c", "0.3974", "2", "1"],
        ["2", "a", "0.3878", "1", "2"],
        ["3", "b", "0.2148", "1", "1"],
    ]


def test_every_rank_is_written(edges, tmp_path):
    for name in ("ranks.csv", "ranks.parquet"):
        assert run(edges, "--out", tmp_path / name) == 0
    tables = [pl.read_csv(tmp_path / "ranks.csv"), pl.read_parquet(tmp_path / "ranks.parquet")]
    for table in tables:
        assert table["node"].to_list() == ["c", "a", "b"]
        assert table["pagerank"].sum() == pytest.approx(1, abs=1e-5)


def test_a_restart_on_a_name_ranks_what_it_reaches(edges, capsys):
    assert run(edges, "--restart", "b", "--damping", "0.5", "--top", "1") == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[1] == "b"


def tooltips(drawing):
    return [title.text.partition(": ")[0] for title in drawing.iter(f"{SVG}title")]


def lines(drawing):
    groups = [group for group in drawing.iter(f"{SVG}g") if group.get("id", "").startswith("LineCollection")]
    return [path for group in groups for path in group.iter(f"{SVG}path")]


def test_names_in_a_drawing_are_text_and_neither_markup_nor_mathematics(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra draw is not installed")
    names = {"<script>alert(1)</script>", "a & b", r"$\frac{1}{2}$", "贾源", "_c", "$x"}
    path = tmp_path / "edges.csv"
    path.write_text(
        'head,tail\n<script>alert(1)</script>,"a & b"\n"a & b",$\\frac{1}{2}$\n贾源,a & b\n_c,贾源\n$x,_c\n',
        "utf-8",
    )
    for name in ("graph.svg", "graph.html"):
        assert run(path, "--draw", tmp_path / name) == 0
    drawing = ElementTree.parse(tmp_path / "graph.svg").getroot()
    assert set(tooltips(drawing)) == names
    assert names < {text.text for text in drawing.iter(f"{SVG}text")}
    assert len(lines(drawing)) == 5
    assert not list(drawing.iter(f"{SVG}script"))
    assert "<script" not in (tmp_path / "graph.html").read_text("utf-8")


def test_nodes_of_one_rank_are_drawn_one_by_one(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra draw is not installed")
    ring = "".join(f"n{n},n{(n + 1) % 12}\n" for n in range(12))
    (tmp_path / "edges.csv").write_text(f"head,tail\n{ring}", "utf-8")
    assert run(tmp_path / "edges.csv", "--draw", tmp_path / "graph.svg") == 0
    drawing = ElementTree.parse(tmp_path / "graph.svg").getroot()
    assert tooltips(drawing) == [f"n{n}" for n in range(12)]
    assert len(lines(drawing)) == 12


def test_of_a_large_graph_the_highest_of_the_main_part_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra draw is not installed")
    star = "".join(f"n{n},centre\n" for n in range(400))
    (tmp_path / "edges.csv").write_text(f"head,tail\n{star}far,away\n", "utf-8")
    assert run(tmp_path / "edges.csv", "--draw", tmp_path / "graph.svg") == 0
    drawing = ElementTree.parse(tmp_path / "graph.svg").getroot()
    assert len(tooltips(drawing)) == 300
    assert "centre" in tooltips(drawing)
    assert "far" not in tooltips(drawing)
    assert any("shown are 300 of the part" in (text.text or "") for text in drawing.iter(f"{SVG}text"))


def test_a_drawing_is_the_same_every_time_whatever_the_settings_of_matplotlib(edges, tmp_path):
    matplotlib = pytest.importorskip("matplotlib", reason="the extra draw is not installed")
    assert run(edges, "--draw", tmp_path / "one.svg") == 0
    with matplotlib.rc_context({"svg.hashsalt": "other", "text.parse_math": True, "font.size": 30}):
        assert run(edges, "--draw", tmp_path / "two.svg") == 0
    written = (tmp_path / "one.svg").read_text("utf-8")
    assert written == (tmp_path / "two.svg").read_text("utf-8")
    assert "date" not in written.lower()
    assert "matplotlib" not in written.lower()


def test_a_drawing_without_matplotlib_names_the_extra_before_anything_is_computed(
    edges, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    assert run(edges, "--draw", tmp_path / "graph.svg") != 0
    said = capsys.readouterr()
    assert "pip install 'recloom-graph[draw]'" in " ".join(said.err.split())
    assert said.out == ""
    assert not (tmp_path / "graph.svg").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--damping", "1"], "damping must be at least 0 and below 1"),
        (["--tolerance", "0"], "--tolerance must be above 0"),
        (["--top", "0"], "top must be at least 1"),
        (["--restart", "z"], "no node 'z'"),
        (["--relations", "hates"], "no relation 'hates'; it has likes, knows"),
        (["--draw", "x.png"], "--draw x.png: expected a name that ends in .svg or .html"),
        (["--out", "absent/x.csv"], "absent is not a folder"),
    ],
)
def test_wrong_options_are_reported_and_nothing_is_written(
    edges, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    assert run(edges, *words) != 0
    assert message in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["edges.csv"]


def test_an_existing_file_is_replaced_when_asked(edges, tmp_path, capsys):
    (tmp_path / "ranks.csv").write_text("mine", "utf-8")
    assert run(edges, "--out", tmp_path / "ranks.csv") != 0
    assert (tmp_path / "ranks.csv").read_text("utf-8") == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert run(edges, "--out", tmp_path / "ranks.csv", "--overwrite") == 0


@pytest.mark.skipif(not DATA.is_dir(), reason="no folder of data sets; name one in RECLOOM_DATA")
@pytest.mark.parametrize(
    ("file", "options", "first"),
    [
        ("chinese-novel-kg/honglou_triples.csv", [], "贾源"),
        ("chinese-novel-kg/xiyou_triples.csv", [], "唐僧"),
        ("harry-potter/nikhilravi_series_interactions.csv", ["--no-directed"], "Harry"),
    ],
)
def test_the_novels(capsys, file, options, first):
    assert run(DATA / file, *options) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[-10].split()[:2] == ["1", first]
