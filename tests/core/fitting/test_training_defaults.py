"""How a recommender is trained where nothing else is said; words, a config file and Python always win."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from recloom import fit
from recloom.cli.main import main
from recloom.errors import RecloomError
from recloom.fitting.fit import RecCLI, run_command
from recloom.fitting.task_cli import chosen
from recloom.fitting.training_defaults import OPTIONS, option_defaults
from recloom.plugins import collect
from recloom.recommender import Queries, VectorRecommender
from recloom.testing.toys import toy_dataset
from torch import nn

OWN = {"batch_size": 7, "lr": 0.02, "max_epochs": 2, "patience": 3, "weight_decay": 0.1, "warmup_steps": 4}
OWN |= {"schedule": "cosine", "patience_steps": 9}
USUAL = {
    "batch_size": 128,
    "lr": 0.001,
    "max_epochs": 50,
    "patience": 10,
    "weight_decay": 0.0,
    "warmup_steps": 0,
}
USUAL |= {"schedule": "constant", "patience_steps": 500}


class Particular(VectorRecommender):
    """A recommender with a training of its own."""

    default_loss = "BPR"
    training_defaults = OWN

    def __init__(self, catalog, dim: int = 4):
        super().__init__(catalog)
        self.items = nn.Embedding(catalog.num_items + 1, dim, padding_idx=0)

    def query(self, batch):
        return self.items(batch.history).mean(1)

    def item_vectors(self):
        return self.items.weight

    def training_queries(self, batch):
        real = batch.labels[:, -1] > 0
        return Queries(self.query(batch)[real], batch.labels[real, -1], self.items.weight, batch.user[real])


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """As if a plugin had registered it."""
    from recloom import spec

    def with_own(hook):
        return collect(hook) | ({"Particular": Particular} if hook == "register_models" else {})

    monkeypatch.setattr(spec, "collect", with_own)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_dataset(tmp_path_factory.mktemp("toy") / "toy")


def options(run):
    """The values of the run's config.yaml that `training_defaults` can set, by their names there."""
    config = yaml.safe_load((Path(run) / "config.yaml").read_text("utf-8"))
    found = {}
    for name, option in OPTIONS.items():
        group, _, key = option.partition(".")
        found[name] = config[group][key]
    return found


def words(toy, run, *more):
    return ["fit", "--model", "Particular", "--data", str(toy), "--run", str(run), *more]


def test_where_nothing_else_is_said_the_recommenders_own_hold(toy, tmp_path):
    main(words(toy, tmp_path / "words"))
    assert options(tmp_path / "words") == OWN
    run = fit(toy, "Particular", run=tmp_path / "python")
    assert options(run.folder) == OWN
    assert run.record.epochs == 2
    assert fit(toy, "EASE", run=tmp_path / "other").module.lr == pytest.approx(1e-3)


def test_words_win(toy, tmp_path):
    main(words(toy, tmp_path / "run", "--model.lr", "0.5", "--data.batch_size=9", "--trainer.max_epochs=1"))
    assert options(tmp_path / "run") == OWN | {"lr": 0.5, "batch_size": 9, "max_epochs": 1}


PARTICULAR = "{class_path: Particular, init_args: {dim: 2}}"


@pytest.mark.parametrize(
    "named",
    [
        ["--model", '{"class_path":"Particular"}'],
        ["--model=" + PARTICULAR],
        ["--model.recommender.class_path", "Particular"],
        ["--model", "SASRec", "--model", "Particular"],
        ["--model", "SASRec", "--config", "particular.yaml"],
        ["--model", "SASRec", "-cparticular.yaml"],
        ["--config", "sasrec.yaml", "--config", "particular.yaml"],
        ["--config", "sasrec.yaml", "--model", "Particular"],
        ["--model", "Particular", "--config", "other.yaml"],
        ["--config", "{model: {recommender: Particular}}"],
        ["--model", "part.yaml"],
        ["--config", "nested.yaml"],
        ["--model", "SASRec", "--config", "nested.yaml"],
        ["--model", f"{__name__}.Particular"],
    ],
    ids=" ".join,
)
def test_they_are_those_of_the_model_that_is_trained(toy, tmp_path, monkeypatch, named):
    parsed = _parsed(toy, tmp_path, monkeypatch, named)
    assert parsed.model.recommender.class_path.endswith(".Particular")
    assert {name: parsed[option] for name, option in OPTIONS.items()} == OWN


@pytest.mark.parametrize(
    "named",
    [
        ["--model", "Particular", "--model", "SASRec"],
        ["--model", "Particular", "--config", "sasrec.yaml"],
        ["--config", "particular.yaml", "--model", '{"class_path":"SASRec"}'],
    ],
    ids=" ".join,
)
def test_a_model_that_is_named_first_and_replaced_leaves_no_defaults(toy, tmp_path, monkeypatch, named):
    parsed = _parsed(toy, tmp_path, monkeypatch, named)
    assert parsed.model.recommender.class_path.endswith(".SASRec")
    assert {name: parsed[option] for name, option in OPTIONS.items()} == USUAL


def test_a_word_wins_over_them_whatever_way_the_model_is_named(toy, tmp_path, monkeypatch):
    named = ["--model", '{"class_path":"Particular"}', "--model.lr", "0.5", "--config", "other.yaml"]
    parsed = _parsed(toy, tmp_path, monkeypatch, [*named, "--data.batch_size=9"])
    assert {name: parsed[option] for name, option in OPTIONS.items()} == OWN | {"lr": 0.5, "batch_size": 9}


def test_a_second_look_puts_the_usual_values_back(toy, tmp_path, monkeypatch):
    """Where the words are read wrongly, the parsed model still decides."""
    monkeypatch.setattr("recloom.fitting.fit.chosen_model", lambda words: Particular)
    parsed = _parsed(toy, tmp_path, monkeypatch, ["--model", "SASRec", "--model.weight_decay", "0.3"])
    assert {name: parsed[option] for name, option in OPTIONS.items()} == USUAL | {"weight_decay": 0.3}


class Parsed(Exception):
    """Ends a command once its words are parsed."""


def _parsed(toy, folder, monkeypatch, named):
    """The configuration that `fit` has parsed from words, in a folder of config files."""
    files = {
        "particular.yaml": "model: {recommender: {class_path: Particular}}",
        "sasrec.yaml": "model: {recommender: {class_path: SASRec}}",
        "other.yaml": "trainer: {enable_progress_bar: false}",
        "part.yaml": "class_path: Particular",
        "nested.yaml": "model: {recommender: part.yaml}",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)

    def stop(line):
        raise Parsed(line.config[line.subcommand])

    monkeypatch.setattr(RecCLI, "before_instantiate_classes", stop)
    with pytest.raises(Parsed) as found:
        run_command(["fit", *named, "--data", str(toy)])
    return found.value.args[0]


@pytest.mark.parametrize("named", ["in the file", "in words"])
def test_a_config_file_wins_over_them_and_words_over_it(toy, tmp_path, named):
    given = {"model": {"lr": 0.3}, "early_stopping": {"patience": 5}, "trainer": {"max_epochs": 1}}
    if named == "in the file":
        given["model"]["recommender"] = {"class_path": "Particular"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(given))
    model = ["--model", "Particular"] if named == "in words" else []
    more = ["--data", str(toy), "--run", str(tmp_path / "run"), "--early_stopping.patience", "6"]
    main(["fit", "--config", str(tmp_path / "config.yaml"), *model, *more])
    assert options(tmp_path / "run") == OWN | {"lr": 0.3, "patience": 6, "max_epochs": 1}


def test_arguments_in_python_win(toy, tmp_path):
    config = {"model": {"lr": 0.4}, "data": {"batch_size": 5}}
    run = fit(toy, "Particular", run=tmp_path / "run", max_epochs=1, config=config)
    assert options(run.folder) == OWN | {"lr": 0.4, "batch_size": 5, "max_epochs": 1}


def test_a_run_goes_on_with_what_it_was_trained_with(toy, tmp_path, monkeypatch):
    main(words(toy, tmp_path / "run", "--trainer.max_epochs", "1"))
    monkeypatch.setattr(Particular, "training_defaults", {"lr": 0.9, "batch_size": 2})
    main(["fit", "--run", str(tmp_path / "run"), "--ckpt_path", "last", "--trainer.max_epochs", "2"])
    assert options(tmp_path / "run") == OWN


def test_help_shows_them(toy, capsys):
    main(["fit", "--model", "Particular", "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: recloom fit")
    assert "Particular is trained with\n  --data.batch_size 7 --model.lr 0.02 --trainer.max_epochs 2" in shown
    main(["fit", "--model", "SASRec", "--model", '{"class_path":"Particular"}', "--help"])
    shown = capsys.readouterr().out
    assert "Particular is trained with\n  --data.batch_size 7" in shown
    assert "SASRec is trained" not in shown
    with pytest.raises(SystemExit):
        main(["fit", "--model.recommender.help", "Particular"])
    assert "--data.batch_size 7 --model.lr 0.02" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fit", "--model", "Particular", "--help-all"])
    assert "default: 0.02" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_default_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(Particular, "training_defaults", {"learning_rate": 1.0})
    with pytest.raises(
        RecloomError, match=r"'learning_rate' is not among the training defaults.*There are: batch_size"
    ):
        option_defaults(Particular)


@pytest.mark.parametrize("name", sorted(collect("register_models")))
def test_the_defaults_and_demo_settings_of_every_installed_model_are_options(name):
    kind = collect("register_models")[name]
    assert set(option_defaults(kind)) <= set(OPTIONS.values())
    assert set(kind.demo or {}) <= {"options", *OPTIONS}


def test_of_a_recommender_and_a_module_that_is_none_the_last_name_counts(monkeypatch):
    kind = type("Alone", (), {})
    monkeypatch.setattr("recloom.fitting.task_cli.collect", lambda hook: {"Alone": kind})
    flag = "--model.recommender"
    assert chosen(["fit", flag, "SASRec", flag, "Alone"]) is kind
    assert chosen(["fit", flag, "Alone", flag, "SASRec"]) is None
