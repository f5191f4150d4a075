"""Every recommender of every installed plugin keeps the contract."""

from __future__ import annotations

from typing import Any

from recloom.plugins import collect, installed
from recloom.testing import RecommenderTests

MODELS = collect("register_models")

FAST = {"checkerboard_lr": 3e-2, "checkerboard_epochs": 10}
"""A click model sees every pair of user and item in an epoch, so that a few of them are enough."""

SETTINGS: dict[str, dict[str, Any]] = {
    "Random": {"deviations": {"test_it_learns_the_checkerboard": "learns nothing, on purpose"}},
    "Popularity": {"deviations": {"test_it_learns_the_checkerboard": "is the same for every user"}},
    "LikeShare": {
        "rated": True,
        "deviations": {"test_it_learns_the_checkerboard": "is the same for every candidate"},
    },
    "TitleRate": {
        "rated": True,
        "deviations": {"test_it_learns_the_checkerboard": "is the same for every user"},
    },
    "ItemKNN": {"config": {"neighbours": 10}},
    "EASE": {"config": {"regularization": 10.0}},
    "SASRec": {"config": {"dim": 16, "max_len": 10}},
    "BERT4Rec": {"config": {"dim": 16, "max_len": 10, "num_layers": 1}, "checkerboard_lr": 3e-2},
    "TextProjection": {"config": {"dim": 16, "max_len": 10}},
    "DIN": {"config": {"dim": 8, "hidden": (16, 8), "attention": (8,), "max_len": 10}, **FAST},
    "DCNv2": {"config": {"dim": 8, "hidden": (8,), "num_layers": 2, "max_len": 10}, **FAST},
    "DeepFM": {"config": {"dim": 8, "hidden": (8,), "max_len": 10}, **FAST},
    "KAR": {
        "config": {
            "backbone": {"class_path": "DCNv2", "init_args": {"dim": 8, "hidden": (8,), "num_layers": 1}},
            "shared": 1,
            "dedicated": 1,
            "hidden": 8,
        },
        "vectors": True,
        **FAST,
    },
    "LightGCN": {"config": {"dim": 16}, "checkerboard_epochs": 20},
    "GaCLLM": {"config": {"dim": 16}, "vectors": True},
    "SimGCL": {  # contrast drives users of one colour apart, who are to be alike here: so little of it
        "config": {"dim": 16, "num_layers": 2},
        "loss": {"class_path": "NoisyViews", "init_args": {"weight": 0.02}},
        "checkerboard_epochs": 20,
    },
    "SGL": {
        "config": {"dim": 16, "num_layers": 2},
        "loss": {"class_path": "DroppedEdges", "init_args": {"weight": 0.005}},
        "checkerboard_epochs": 20,
    },
}
"""What a test class sets beyond the defaults, by model."""

for _name, _model in MODELS.items():
    globals()[f"Test{_name}"] = type(
        f"Test{_name}", (RecommenderTests,), {"recommender": _model, **SETTINGS.get(_name, {})}
    )


def test_every_installed_plugin_was_looked_at():
    owners = {model.__module__.partition(".")[0] for model in MODELS.values()}
    assert "recloom" in owners
    assert len(installed()) > 1
    assert len(MODELS) >= 4


def test_settings_are_of_models_that_exist():
    assert not set(SETTINGS) - set(MODELS)


class TestTextMeanOfTheClosestItem(RecommenderTests):
    recommender = MODELS["TextMean"]
    config = {"similarity": "max"}  # noqa: RUF012


class TestTextMeanOfTheClosestRecentItem(RecommenderTests):
    recommender = MODELS["TextMean"]
    config = {"similarity": "max", "half_life": 3.0, "max_len": 10}  # noqa: RUF012


class TestTextProjectionWithRecency(RecommenderTests):
    recommender = MODELS["TextProjection"]
    config = {"dim": 16, "half_life": 3.0, "max_len": 6}  # noqa: RUF012


class TestGaCLLMOfLayersSideBySide(RecommenderTests):
    recommender = MODELS["GaCLLM"]
    config = {"dim": 16, "combine": "concat", "mlp": False}  # noqa: RUF012
    vectors = True
