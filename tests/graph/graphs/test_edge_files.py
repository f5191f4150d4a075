import os
from pathlib import Path

import pytest
from recloom.errors import DataError
from recloom_graph.graphs.edge_files import read_graph

DATA = Path(os.environ.get("RECLOOM_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no folder of data sets; name one in RECLOOM_DATA")


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "edges.csv"
    path.write_text(text, encoding)
    return path


def named(graph):
    sources, targets, weights = graph.edges()
    return [
        (graph.name(s), graph.name(t), w)
        for s, t, w in zip(sources.tolist(), targets.tolist(), weights.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "head,tail,relation\na,b,likes\nb,c,knows\n",
        '"head","tail","relation"\n"a","b","likes"\n"b","c","knows"\n',
        '# "head","tail","relation"\n"a","b","likes"\n"b","c","knows"\n',
        "relation\thead\ttail\nlikes\ta\tb\nknows\tb\tc\n",
        "a b\nb   c\n",
        "# a comment\na\tb\n# another\nb\tc\n\n",
        "source;target\na; b\n b;c\n",
    ],
)
def test_forms_of_the_same_two_edges(tmp_path, text):
    assert named(read_graph(written(tmp_path, text))) == [("a", "b", 1), ("b", "c", 1)]


def test_a_byte_order_mark_is_tolerated(tmp_path):
    path = written(tmp_path, "head,tail\n贾母,贾政\n", "utf-8-sig")
    assert read_graph(path).names == ("贾母", "贾政")


def test_weights_and_relations(tmp_path):
    path = written(tmp_path, "source,target,weight,type\na,b,2,+\nb,a,3,+\na,c,1,-\n")
    assert named(read_graph(path, directed=False)) == [("a", "b", 5), ("a", "c", 1)]
    assert named(read_graph(path, weighted=False)) == [("a", "b", 1), ("a", "c", 1), ("b", "a", 1)]
    assert named(read_graph(path, relations=("-",))) == [("a", "c", 1)]


def test_a_quoted_name_may_hold_the_separator(tmp_path):
    path = written(tmp_path, 'head,tail\n"Crouch, Barty",Voldemort\n')
    assert read_graph(path).names == ("Crouch, Barty", "Voldemort")


def test_hostile_names_stay_text(tmp_path):
    path = written(tmp_path, "head,tail\n=cmd(),__import__('os')\n<script>,\x1b[31m\n")
    assert read_graph(path).names == ("=cmd()", "__import__('os')", "<script>", "\x1b[31m")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no edges"),
        ("head,tail\n", "holds no edges"),
        ("head,tail\na,\n", "edge 1: an end has no name"),
        (
            "source,target,weight\na,b,1\na,c,heavy\n",
            "edge 2: the weight must be a number above 0; found 'heavy'",
        ),
        ("source,target,weight\na,b,-1\n", "found '-1'"),
        ("head,tail\na,b\nCrouch, Barty,Voldemort\n", "is not a table of edges"),
        ("one\ntwo\n", "has 1 column.*expected at least the two ends"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_graph(written(tmp_path, text))


def test_relations_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="no relation 'hates'; it has likes"):
        read_graph(written(tmp_path, "head,tail,relation\na,b,likes\n"), relations=("hates",))
    with pytest.raises(DataError, match="no column of relations"):
        read_graph(written(tmp_path, "head,tail\na,b\n"), relations=("hates",))


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_graph(tmp_path / "absent.csv")
    (tmp_path / "edges.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a text file in UTF-8"):
        read_graph(tmp_path / "edges.csv")


@needs_data
@pytest.mark.parametrize(("name", "triples"), [("honglou", 400), ("xiyou", 109)])
def test_both_novels_are_read_whole(name, triples):
    graph = read_graph(DATA / "chinese-novel-kg" / f"{name}_triples.csv", weighted=False)
    lines = (DATA / "chinese-novel-kg" / f"{name}_triples.csv").read_text("utf-8-sig").splitlines()[1:]
    assert len(lines) == triples
    assert graph.num_edges == len({tuple(line.split(",")[:2]) for line in lines})


def test_json_is_named_as_such(tmp_path):
    path = tmp_path / "graph.json"
    path.write_text('{"nodes": [1], "edges": []}')
    with pytest.raises(DataError, match=r"graph.json holds JSON; expected a line for each edge"):
        read_graph(path)


def test_a_rare_separator_within_a_name_ends_no_line(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("head,tail\na\u2028b,c\n", "utf-8")
    assert read_graph(path).names == ("a\u2028b", "c")


def test_a_header_that_names_no_end_is_hinted_at(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("id,name,bio\n1,Ann,long\n")
    with pytest.raises(DataError, match=r"found 'bio'.* A header must name its columns"):
        read_graph(path)


def test_a_weight_beyond_float32_is_refused_with_the_file(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("source,target,weight\na,b,1e39\n")
    with pytest.raises(DataError, match=r"edges.csv: weights of edges must lie between"):
        read_graph(path)
