import os
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest
from recloom.cli.main import main

DATA = Path(os.environ.get("RECLOOM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
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


def test_the_drawing_names_every_node_and_obeys_no_name(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text('head,tail\n<script>alert(1)</script>,"a & b"\n"a & b",c\n', "utf-8")
    for name in ("graph.svg", "graph.html"):
        assert run(path, "--draw", tmp_path / name) == 0
    drawn = ElementTree.parse(tmp_path / "graph.svg").getroot()
    titles = {title.text.partition(": ")[0] for title in drawn.iter(f"{SVG}title")}
    assert titles == {"<script>alert(1)</script>", "a & b", "c"}
    assert len(list(drawn.iter(f"{SVG}line"))) == 2
    assert not list(drawn.iter(f"{SVG}script"))
    assert "<script" not in (tmp_path / "graph.html").read_text("utf-8")


def test_of_a_large_graph_the_highest_of_the_main_part_are_drawn(tmp_path):
    star = "".join(f"n{n},centre\n" for n in range(400))
    (tmp_path / "edges.csv").write_text(f"head,tail\n{star}far,away\n", "utf-8")
    assert run(tmp_path / "edges.csv", "--draw", tmp_path / "graph.svg") == 0
    drawn = ElementTree.parse(tmp_path / "graph.svg").getroot()
    titles = [title.text.partition(": ")[0] for title in drawn.iter(f"{SVG}title")]
    assert len(titles) == 300
    assert "centre" in titles
    assert "far" not in titles
    assert any("drawn are 300 of the part" in (text.text or "") for text in drawn.iter(f"{SVG}text"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--damping", "1"], "damping must be at least 0 and below 1"),
        (["--tolerance", "0"], "--tolerance must be above 0"),
        (["--top", "0"], "top must be at least 1"),
        (["--restart", "z"], "no node 'z'"),
        (["--relations", "hates"], "no relation 'hates'; it has likes, knows"),
        (["--draw", "x.png"], "--draw x.png: expected a name that ends in .svg or .html"),
        (["--out", "absent/x.csv"], "there is no folder absent"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(edges, tmp_path, monkeypatch, capsys, words, message):
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
