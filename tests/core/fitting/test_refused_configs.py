"""What a configuration or an option cannot mean is refused in one line, and nothing of it is called."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from recloom import plugins
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.fitting.fit import fit
from recloom.testing.toys import toy_dataset

MODEL = "model: {{recommender: {{class_path: {path}, init_args: {arguments}}}}}\ndata: {{path: toy}}\n"
ASKING = Path(__file__).parents[1] / "llm" / "asking_plugin.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("configs")
    toy_dataset(folder / "toy")
    return folder


@pytest.fixture
def asking():
    """The recommender AskingRanker, which takes `llm: LLMOptions`, as a plugin."""
    spec = importlib.util.spec_from_file_location("asking_for_messages", ASKING)
    plugin = sys.modules["asking_for_messages"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    plugins.manager().register(plugin)
    yield
    plugins.manager().unregister(plugin)
    del sys.modules["asking_for_messages"]


def refused(capsys, *words):
    """The one line that a command ends with."""
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, words)])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert "Got value" not in told
    return told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "found nothing. Write options into it, such as model: and data:, or leave --config out."),
        (b"- a\n- b\n", "found list without names of options."),
        (b"hello", "found str without names of options."),
        (
            "# é".encode("latin-1"),
            "in UTF-8; found the byte 0xe9 at place 2, which is not UTF-8. Save it as UTF-8.",
        ),
        (b"a: [1\n", "found what is no YAML: while parsing a flow sequence in line 1, column 4"),
        (None, "found no file that can be read (No such file or directory)."),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "test"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, monkeypatch, capsys, verb, content, told):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("my.yaml").write_bytes(content)
    line = refused(capsys, verb, "--config", "my.yaml")
    assert line.startswith(
        "error: my.yaml: expected a configuration, options as YAML such as the config.yaml of a run"
    )
    assert told in line


@pytest.mark.parametrize(
    "words", [["--data.vectors"], ["--data.vectors", "--model=SASRec"], ["--data.vectors="]]
)
def test_vectors_without_a_file(folder, capsys, words):
    line = refused(capsys, "fit", "--data", folder / "toy", *words)
    assert (
        "--data.vectors needs a Parquet file of item_id and vector, such as --data.vectors vectors.parquet"
        in line
    )
    assert "found none. Leave it out" in line


def test_a_function_in_a_configuration_is_never_called(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    Path("os.yaml").write_text(MODEL.format(path="os.system", arguments="{command: touch called}"))
    line = refused(capsys, "fit", "--config", "os.yaml")
    assert (
        "--model.recommender: os.system is no recommender, loss, language model or record of options" in line
    )
    with pytest.raises(RecloomError, match=r"os\.system is no recommender"):
        fit("toy", "os.system", {"command": "touch called"})
    assert not Path("called").exists()
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            MODEL.format(path="subprocess.Popen", arguments="{args: [touch, called]}"),
            "--model.recommender: subprocess.Popen is no Recommender, so it is not used. Give one of ",
        ),
        (
            MODEL.format(path="SASRec", arguments="{}").replace(
                "}}}\n", "}}, loss: {class_path: subprocess.Popen, init_args: {args: [touch, called]}}}\n"
            ),
            "--model.loss: subprocess.Popen is no Loss, so it is not used. Give one of BCE, BPR",
        ),
        (
            MODEL.format(path="SASRec", arguments="{}")
            + "trainer: {callbacks: [{class_path: subprocess.Popen, init_args: {args: [touch, called]}}]}\n",
            "--trainer.callbacks: subprocess.Popen is no Callback, so it is not used. Give the import path of a class",
        ),
    ],
)
def test_a_class_of_another_kind_is_never_made(folder, monkeypatch, capsys, content, told):
    monkeypatch.chdir(folder)
    Path("my.yaml").write_text(content)
    assert told in refused(capsys, "fit", "--config", "my.yaml")
    assert not Path("called").exists()


def test_a_language_model_that_is_missing_or_misspelt(folder, monkeypatch, capsys, asking):
    monkeypatch.chdir(folder)
    words = ["fit", "--model", "AskingRanker", "--data", "toy"]
    assert "say --model.recommender.llm.model: one of Fake, OpenAIChat" in refused(capsys, *words)
    line = refused(capsys, *words, "--model.recommender.llm.model", "Fakee")
    assert "'Fakee' is not among the language models. Did you mean Fake? Installed: Fake, OpenAIChat" in line
    assert "SASRec" not in line


@pytest.mark.parametrize("users", [["--users"], ["--users", "--k", "3"]])
def test_users_without_a_user(capsys, users):
    line = refused(capsys, "recommend", "runs/any", *users)
    assert (
        "--users needs raw ids of users, such as --users 17 23; found none. To recommend to every user: --all"
        in line
    )
