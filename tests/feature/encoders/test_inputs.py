"""A folder that is not that of a text encoder is answered with what such a folder holds, and with the nearest one."""

from __future__ import annotations

import json

import pytest
from recloom.errors import RecloomError
from recloom_feature.encoders.export import export_encoder
from recloom_feature.encoders.inputs import check_model_folder
from recloom_feature.encoders.sentence_transformers import SentenceTransformers

HOLDS = r"Expected modules\.json and config\.json, with the weights \(model\.safetensors\) and the tokeniser"


@pytest.fixture
def folders(tmp_path):
    """`package` holds a model in `package/model`, `empty` nothing."""
    model = tmp_path / "package" / "model"
    (model / "1_Pooling").mkdir(parents=True)
    (model / "modules.json").write_text("[]")
    (model / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_folder_around_a_model_names_the_model(folders):
    package = folders / "package"
    with pytest.raises(RecloomError, match=rf"(?s){HOLDS}.*; found model\. Give {package / 'model'}, which"):
        check_model_folder(package)
    with pytest.raises(RecloomError, match=rf"Give {package / 'model'}, which holds a modules\.json"):
        check_model_folder(folders)
    assert check_model_folder(package / "model") is None
    assert check_model_folder(folders / "org" / "name") is None  # no folder: a name to be downloaded


def test_the_error_for_a_folder_without_a_model_lists_what_is_expected(folders):
    with pytest.raises(
        RecloomError, match=rf"{HOLDS}.*found nothing\. Give the folder that holds these files"
    ):
        check_model_folder(folders / "empty")
    for name in "abcdefg":
        (folders / "empty" / name).touch()
    with pytest.raises(RecloomError, match=r"found a, b, c, d, e, 2 more\."):
        check_model_folder(folders / "empty")


def test_the_encoder_and_its_export_say_so_before_a_library_is_asked(folders, monkeypatch):
    pytest.importorskip("sentence_transformers", reason="the extra sentence-transformers is not installed")

    def asked(*given, **more):
        raise AssertionError("the library was asked")

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", asked)
    with pytest.raises(RecloomError, match=HOLDS):
        SentenceTransformers(str(folders / "package")).encode(["a"])
    with pytest.raises(RecloomError, match=HOLDS):
        export_encoder(folders / "package", folders / "out", "float32", ["a"])
    assert not (folders / "out").exists()


def test_a_part_of_a_model_names_the_whole(folders, monkeypatch):
    pytest.importorskip("sentence_transformers", reason="the extra sentence-transformers is not installed")

    def refused(*given, **more):
        raise ValueError("Unrecognized model")

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", refused)
    part = folders / "package" / "model" / "1_Pooling"
    with pytest.raises(RecloomError, match=rf"(?s)Unrecognized model.*{HOLDS}.*Give {part.parent}, which"):
        SentenceTransformers(str(part)).encode(["a"])


def test_a_model_without_its_tokeniser_is_not_exported(folders):
    model = folders / "package" / "model"
    (model / "config.json").write_text("{}")
    with pytest.raises(RecloomError, match=r"model holds no tokenizer\.json; expected .* a fast tokeniser"):
        export_encoder(model, folders / "out", "float32", ["a"])
