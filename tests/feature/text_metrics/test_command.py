"""`recloom text-metrics`: names, intervals over texts, files of texts, and the command, with metrics made here."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from recloom.cli.environment import list_command
from recloom.cli.main import main
from recloom.errors import DataError, RecloomError
from recloom.evaluation.significance import intervals
from recloom.llm.fake import Fake
from recloom.metrics import core_metrics
from recloom.metrics import parse_metric as parse_ranking
from recloom.metrics.accumulator import MetricAccumulator
from recloom.metrics.text import Measured, TextMetric, Texts, parse_text_metric
from recloom.plugins import collect
from recloom_feature.text_metrics import command as texts_command
from recloom_feature.text_metrics.measure import measure
from recloom_feature.text_metrics.tables import Columns, quotations, read_texts

LENGTH = TextMetric(
    name="length",
    about="characters",
    share=False,
    function=lambda texts, n: Measured(values=np.array([len(t) or np.nan for t in texts.text], np.float64)),
)
GRAMS = TextMetric(
    name="grams",
    about="a number over all",
    orders=(2, 4),
    function=lambda texts, n: Measured(values=n / 4, left_out=1, method={"tokeniser": "none"}),
)
SURPRISE = TextMetric(
    name="surprise",
    about="exp of a mean over tokens",
    needs=("log_probs",),
    of="tokens",
    share=False,
    exponent=True,
    function=lambda texts, n: Measured(
        values=-np.concatenate([np.array(row, np.float64) for row in texts.log_probs]),
        rows=np.repeat(np.arange(len(texts)), [len(row) for row in texts.log_probs]),
    ),
)
AGREES = TextMetric(
    name="agrees",
    about="equal to the reference",
    needs=("reference",),
    function=lambda texts, n: Measured(
        values=np.array([float(a == b) for a, b in zip(texts.text, texts.reference, strict=True)])
    ),
)
KNOWN = {m.name: m for m in [LENGTH, GRAMS, SURPRISE, AGREES, *core_metrics()]}


@pytest.fixture
def metrics_of_this_file(monkeypatch):
    monkeypatch.setattr("recloom.plugins.collect", lambda hook: KNOWN)


def rows(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("lenght", r"'lenght': expected one of length, agrees, grams, surprise; found 'lenght'"),
        ("ndcg@10", r"'ndcg@10' measures rankings, expected one of texts.*--model\.metrics.*length, grams"),
        (
            "grams",
            r"'grams': expected a whole number from 2 to 4 after @, found ''; write for example grams@2",
        ),
        ("grams@5", r"from 2 to 4 after @, found '5'"),
        ("grams@x", r"found 'x'"),
        ("length@2", r"'length@2': expected no @, found @2; write length"),
    ],
)
def test_a_name_that_does_not_fit_is_an_error(asked, message):
    with pytest.raises(RecloomError, match=message):
        parse_text_metric(asked, KNOWN)


def test_a_ranking_is_not_measured_by_a_metric_of_texts():
    with pytest.raises(
        RecloomError, match=r"'length' measures texts, expected one of rankings.*text-metrics"
    ):
        MetricAccumulator(["ndcg@10", "length"], KNOWN)
    with pytest.raises(RecloomError) as caught:
        parse_ranking("lenght", KNOWN)
    assert "length" not in str(caught.value).partition("found")[0]
    with pytest.raises(RecloomError, match=r"'bleu@4' measures texts"):
        MetricAccumulator(["bleu@4"], collect("register_metrics"))


def test_values_are_means_over_texts_with_an_interval():
    texts = Texts(text=["a", "bb", "", "cccc", "ccccc"])
    (found,) = measure(["length"], KNOWN, texts).values()
    wanted = intervals({"x": np.array([1.0, 2, np.nan, 4, 5])})["x"]
    assert (found.value, found.low, found.high) == (3.0, wanted.low, wanted.high)
    assert (found.n, found.undefined, found.of, found.unit) == (4, 1, "texts", "number")
    assert measure(["length"], KNOWN, texts, seed=1)["length"].low != found.low
    assert measure(["length"], KNOWN, texts) == {"length": found}


def test_tokens_of_a_text_are_drawn_together_and_the_exponent_comes_last():
    log_probs = [[math.log(1 / 2), math.log(1 / 4)], [], [math.log(1 / 8), math.log(1 / 8)], [-1.0]]
    texts = Texts(text=["x"] * 4, log_probs=log_probs)
    found = measure(["surprise"], KNOWN, texts)["surprise"]
    flat = np.array([-value for row in log_probs for value in row])
    over = intervals({"x": flat}, np.array([0, 0, 2, 2, 3]))["x"]
    assert found.value == pytest.approx(math.exp(flat.mean()))
    assert found.low == pytest.approx(math.exp(over.low))
    assert found.high == pytest.approx(math.exp(over.high))
    assert (found.n, found.undefined, found.of) == (5, 1, "tokens")


def test_a_number_over_all_texts_has_no_interval():
    found = measure(["grams@3"], KNOWN, Texts(text=["a", "b", "c"]))["grams@3"]
    assert (found.value, found.low, found.high, found.n, found.undefined) == (0.75, None, None, 2, 1)
    assert found.method == {"tokeniser": "none"}


def test_what_is_undefined_everywhere_is_null():
    found = measure(["length", "surprise"], KNOWN, Texts(text=["", ""], log_probs=[[], []]))
    for value in found.values():
        assert (value.value, value.low, value.high, value.n, value.undefined) == (None, None, None, 0, 2)


def test_missing_columns_are_named_with_their_option():
    with pytest.raises(
        RecloomError, match=r"'surprise' needs log_probs, found none; give --model NAME or --log-"
    ):
        measure(["surprise"], KNOWN, Texts(text=["a"]))
    with pytest.raises(RecloomError, match=r"'agrees': expected references, and all 2 are empty"):
        measure(["agrees"], KNOWN, Texts(text=["a", "b"], reference=["", " "]))
    with pytest.raises(RecloomError, match="no texts to measure"):
        measure(["length"], KNOWN, Texts(text=[]))


@pytest.mark.parametrize("kind", ["jsonl", "ndjson", "csv", "parquet"])
def test_files_of_every_kind_say_the_same(tmp_path, kind):
    path = tmp_path / f"texts.{kind}"
    table = pl.DataFrame(
        {
            "text": ["Good, \"Heat\".", "", None],
            "ref": ["one", None, "three"],
            "item": ["1", "2", "3"],
            "cited": [["a", "b c "], [], None],
            "lp": [[-0.5, None, -1.0], [], None],
        }
    )  # fmt: skip
    if kind == "parquet":
        table.write_parquet(path)
    elif kind == "csv":
        joined = pl.col("cited").list.join("|")
        numbers = pl.Series("lp", ["[-0.5, null, -1]", "", None])
        table.with_columns(joined, numbers).write_csv(path)
    else:
        table.write_ndjson(path)
    found = read_texts(
        path, Columns("text", reference="ref", items="item", cited="cited", log_probs="lp"), quoted=True
    )
    assert found == Texts(
        text=['Good, "Heat".', "", ""],
        reference=["one", "", "three"],
        item=["1", "2", "3"],
        cited=[["a", "b c"], [], []],
        named=[["Heat"], [], []],
        log_probs=[[-0.5, -1.0], [], []],
    )


def test_ids_that_are_numbers_are_read_as_they_stand(tmp_path):
    (tmp_path / "t.csv").write_text("text,item\na,007\n")
    assert read_texts(tmp_path / "t.csv", Columns("text", items="item")).item == ["007"]


def test_quotation_marks_of_three_languages():
    assert quotations("See \"Heat\", “Alien” and „Das Boot“ or «Amélie»; it's 'good'") == [
        "Heat", "Alien", "Das Boot", "Amélie",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_cited_attributes_may_stand_beside_their_values_as_a_profile_of_reasons_writes_them(tmp_path, kind):
    path = tmp_path / f"reasons.{kind}"
    cites = [[{"attribute": "genres", "value": "Drama"}, {"attribute": "title", "value": "a: b"}], [], None]
    table = pl.DataFrame({"text": ["a", "b", "c"], "cites": cites})
    table.write_parquet(path) if kind == "parquet" else table.write_ndjson(path)
    assert read_texts(path, Columns("text", cited="cites")).cited == [
        ["genres: Drama", "title: a: b"],
        [],
        [],
    ]


ROW = {
    "text": "a",
    "ref": "b",
    "list": ["x"],
    "deep": [["x"]],
    "lp": [0.5],
    "item": "z",
    "other": [{"k": "v"}],
}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns("gone"), r"no column 'gone'; the columns are text, ref, list"),
        (Columns("list"), r"column 'list' must hold one text a row; found List"),
        (Columns("text", cited="deep"), r"column 'deep' must hold lists of texts; found List\(List"),
        (Columns("text", cited="other"), r"column 'other' must hold lists of texts; found List\(Struct"),
        (Columns("text", log_probs="lp"), r"row 1: 'lp' must hold natural logarithms.*at most 0; found 0.5"),
        (Columns("text", log_probs="ref"), r"row 1: 'ref' must be a list of numbers; found 'b'"),
        (Columns("text", log_probs="list"), r"row 1: 'list' must be a list of numbers"),
    ],
)
def test_a_wrong_column_is_reported(tmp_path, columns, message):
    with pytest.raises(DataError, match=message):
        read_texts(rows(tmp_path / "t.jsonl", ROW), columns)


def test_a_wrong_file_is_reported(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, content, message in [
        ("folder.csv", None, "folder.csv is a folder; expected a Parquet, CSV or JSON-lines file"),
        ("gone.csv", None, "does not exist; expected a Parquet, CSV or JSON-lines file"),
        ("t.txt", "a", r"expected a file that ends in .parquet, .csv, .jsonl, .ndjson; found '.txt'"),
        ("t.parquet", "a", "cannot be read as parquet"),
        ("t.jsonl", "{broken", "cannot be read as jsonl"),
        ("t.csv", "text\n", "holds no row"),
    ]:
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=message):
            read_texts(tmp_path / name, Columns("text"))


def test_items_must_be_of_the_dataset_and_features_must_be_there(tmp_path, write_dataset):
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "timestamp": [1]})
    data = write_dataset(tmp_path / "data", frame)
    file = rows(tmp_path / "t.jsonl", ROW, ROW | {"item": "a"})
    with pytest.raises(DataError, match=r"'item' must hold raw ids of items of .*; 1 of 2 are not.* is 'z'"):
        read_texts(file, Columns("text", items="item"), data=data)
    with pytest.raises(DataError, match="is not a prepared dataset"):
        read_texts(file, Columns("text", items="item"), data=tmp_path)
    with pytest.raises(RecloomError, match="either --named COLUMN or --quoted, found both"):
        read_texts(file, Columns("text", named="list"), quoted=True)
    (tmp_path / "features").write_text("\n \n")
    with pytest.raises(DataError, match="holds no feature"):
        read_texts(file, Columns("text", feature="ref"), features=tmp_path / "features")
    with pytest.raises(DataError, match=r"gone does not exist; expected a file with a feature on each line"):
        read_texts(file, Columns("text", feature="ref"), features=tmp_path / "gone")


@pytest.mark.usefixtures("metrics_of_this_file")
def test_the_command_prints_and_writes(tmp_path, capsys):
    file = rows(tmp_path / "t.jsonl", {"t": "ab", "r": "ab"}, {"t": "", "r": "x"}, {"t": "abcd", "r": None})
    out = tmp_path / "found.json"
    words = [
        "text-metrics",
        str(file),
        "--metrics",
        "agrees,length",
        "grams@2",
        "--text",
        "t",
        "--reference",
        "r",
    ]
    main([*words, "--out", str(out)])
    said = capsys.readouterr().out
    assert "t.jsonl: 3 texts, 1 empty, 1 without a reference" in said
    lines = {line.split()[0]: line.split() for line in said.splitlines()[2:-1]}
    assert lines["agrees"][1] == "0.3333"
    assert lines["length"][1:] == ["3.0000", "2.0000", "to", "4.0000", "2", "texts", "1"]
    assert lines["grams@2"][1:] == ["0.5000", "2", "texts", "1"]
    found = json.loads(out.read_text())
    assert (found["texts"], found["empty"], found["without_reference"], found["seed"]) == (3, 1, 1, 0)
    assert len(found["sha256"]) == 64
    assert {"recloom", "numpy", "python"} <= set(found["versions"])
    assert found["metrics"]["grams@2"]["method"] == {"tokeniser": "none"}
    main([*words, "--percent", "--out", str(out), "--overwrite"])
    said = capsys.readouterr().out
    assert "33.33" in said
    assert "3.0000" in said  # not a share
    assert json.loads(out.read_text()) == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "t.jsonl"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics", "length,bleau"], "text metric 'bleau': expected one of"),
        (["--metrics", ","], "expected --metrics, such as --metrics bleu@4,rouge_l"),
        (["--metrics", "length", "--out", "t.jsonl"], "t.jsonl exists. Choose another --out"),
        (["--metrics", "length", "--out", "gone/x.json"], "gone is not a folder"),
        (["--metrics", "surprise", "--log-probs", "text"], "--log-probs-of NAME belong together"),
        (["--metrics", "surprise", "--log-probs-of", "x"], "--log-probs-of NAME belong together"),
        (["--metrics", "surprise", "--log-probs", "t", "--log-probs-of", "x", "--model", "Fake"], "found both"),
        (["--metrics", "length", "--model", "Fake"], "--model gives log-probabilities, and no metric asked for"),
        (["--metrics", "surprise", "--model", "Fake"], "Fake gives no probabilities of the tokens of a text"),
        (["--metrics", "length", "--features", "t.jsonl"], "read together with --feature COLUMN"),
        (["--metrics", "length", "--resamples", "0"], "resamples must be at least 1"),
        (["--metrics", "length", "--smoothing", "much"], "smoothing"),
        ([], "say --metrics"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("metrics_of_this_file")
def test_wrong_words_are_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    rows(tmp_path / "t.jsonl", {"text": "a"})
    with pytest.raises(SystemExit) as stop:
        main(["text-metrics", "t.jsonl", *words])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_without_a_metric_the_command_says_where_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr("recloom.plugins.collect", lambda hook: {"ndcg": core_metrics()[3]})
    with pytest.raises(RecloomError, match=r"no text metric is installed.*'recloom-feature\[text\]'"):
        texts_command.text_metrics(rows(tmp_path / "t.jsonl", ROW), metrics=["bleu@4"])


def test_log_probabilities_come_from_a_model_in_blocks(tmp_path, monkeypatch, metrics_of_this_file):
    asked = []

    def token_log_probs(self, texts):
        asked.append(len(texts))
        return [[-float(len(text))] for text in texts]

    monkeypatch.setattr(Fake, "token_log_probs", token_log_probs)
    file = rows(tmp_path / "t.jsonl", *[{"text": "a" * (1 + at % 3)} for at in range(21)])
    model = Fake()
    step = 8 * model.batch_size
    texts_command.text_metrics(file, metrics=["surprise"], model=model, out=tmp_path / "o.json")
    assert asked == [min(step, 21 - start) for start in range(0, 21, step)]
    found = json.loads((tmp_path / "o.json").read_text())["metrics"]["surprise"]
    assert found["value"] == pytest.approx(math.exp(2))


def test_metrics_of_texts_are_listed_as_a_kind_of_their_own(capsys):
    list_command("text_metrics")
    of_texts = capsys.readouterr().out
    list_command("metrics")
    of_rankings = capsys.readouterr().out
    assert "rouge_l" in of_texts
    assert "ndcg" not in of_texts
    assert "ndcg" in of_rankings
    assert "rouge_l" not in of_rankings
    list_command()
    assert of_texts in capsys.readouterr().out


def test_the_help_loads_nothing_heavy():
    code = (
        "import contextlib, sys\nfrom recloom.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(['text-metrics', '--help'])\n"
        "sys.exit(bool({'torch', 'sacrebleu', 'nltk', 'rouge_score'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "--log_probs_of" in done.stdout
    assert done.returncode == 0
