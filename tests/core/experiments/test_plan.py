"""What a bench is asked for, as YAML, as words and in Python; what is wrong is said before anything is trained."""

import json

import polars as pl
import pytest
from recloom.errors import RecloomError
from recloom.experiments.plan import fits_of, keep_asked, make_spec, merged, read_yaml, refuse_changed


@pytest.fixture
def data(tmp_path, write_dataset):
    rows = pl.DataFrame(
        {"user_id": ["a", "a", "b", "b"], "item_id": ["x", "y", "x", "y"], "timestamp": [1, 2, 1, 2]}
    )
    return str(write_dataset(tmp_path / "films", rows))


def test_a_file_names_models_by_word_by_config_and_in_full(tmp_path, data):
    (tmp_path / "wide.yaml").write_text(
        "model: {recommender: {class_path: SASRec, init_args: {dim: 128}}, lr: 0.01}\n"
        "data: {path: elsewhere, windows: last}\nseed_everything: 9\n"
    )
    (tmp_path / "bench.yaml").write_text(
        f"data: {data}\nmodels: [ItemKNN, {tmp_path}/wide.yaml, {{name: small, model: SASRec, options: {{dim: 8}}}}]\n"
        "seeds: [3, 4]\nconfig: {trainer: {max_epochs: 2}, data: {windows: all}}\n"
    )
    spec = make_spec(read_yaml(tmp_path / "bench.yaml"))
    fits = fits_of(spec, tmp_path / "out")
    assert [(fit.entry.name, fit.seed) for fit in fits] == [
        ("ItemKNN", 3), ("SASRec", 3), ("small", 3), ("SASRec", 4), ("small", 4),
    ]  # fmt: skip
    wide = fits[1]
    assert wide.folder == tmp_path / "out" / "films" / "SASRec" / "seed-3"
    assert (wide.entry.options, wide.config["model"]) == ({"dim": 128}, {"lr": 0.01})
    assert wide.config["data"] == {"windows": "last"}  # its own before that of all
    assert wide.config["trainer"] == {"max_epochs": 2, "enable_progress_bar": False}
    assert fits[2].config["data"] == {"windows": "all"}
    assert spec.reference == "ItemKNN"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ["SASReck"]}, "'SASReck' is not among the models. Did you mean SASRec?"),
        (
            {"models": [{"model": "SASRec", "options": {"dims": 8}}]},
            "'dims' is not among the options of SASRec.*dim",
        ),
        ({"models": [{"model": "SASRec", "loss": "BPRR"}]}, "'BPRR' is not among the losses"),
        ({"models": ["ItemKNN", "ItemKNN"]}, "models: 'ItemKNN' stands there twice. Give each a name"),
        (
            {"models": ["ItemKNN", {"name": "b", "model": "ItemKNN"}]},
            "'ItemKNN' and 'b' are one model with one config",
        ),
        ({"models": ["none.yaml"]}, "expected a config of `recloom fit`"),
        ({"models": []}, "models: "),
        ({"model": ["ItemKNN"]}, "model: Extra inputs"),
        ({"seeds": [1, 1]}, "seeds: 1 stands there twice"),
        ({"seeds": ["x"]}, r"seeds\.0: "),
        ({"baseline": "EASE"}, r"baseline: 'EASE' is none of the models \(ItemKNN\)"),
        ({"data": ["nowhere"]}, "nowhere is no prepared dataset"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(tmp_path, data, change, message):
    with pytest.raises(RecloomError, match=message):
        fits_of(make_spec({"models": ["ItemKNN"], "data": [data]} | change), tmp_path)


def test_a_folder_that_holds_something_else_is_refused(tmp_path, data):
    def fits(**more):
        return fits_of(
            make_spec({"models": [{"model": "SASRec", **more}], "data": [data], "seeds": [0]}), tmp_path
        )

    keep_asked(fits()[0])
    refuse_changed(fits())
    with pytest.raises(
        RecloomError, match=r"trained from something else: options \{\} there, \{'dim': 8\} now"
    ):
        refuse_changed(fits(options={"dim": 8}))
    asked = fits()[0].asked_file
    asked.write_text(json.dumps(json.loads(asked.read_text()) | {"data": "other data"}))
    with pytest.raises(RecloomError, match="data 'other data' there"):
        refuse_changed(fits())
    asked.unlink()
    fits()[0].folder.mkdir()
    with pytest.raises(RecloomError, match="was not made by a bench"):
        refuse_changed(fits())


def test_groups_are_merged_and_components_are_not():
    first = {"model": {"lr": 1, "loss": {"class_path": "A", "init_args": {"x": 1}}}, "a": 1}
    second = {"model": {"loss": {"class_path": "B"}}, "b": 2}
    assert merged(first, second) == {"model": {"lr": 1, "loss": {"class_path": "B"}}, "a": 1, "b": 2}
