"""Every shipped configuration is run for a step on a tiny dataset of the right columns."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from recloom.fitting.fit import run_command

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*/*.yaml"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, write_dataset):
    random = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in np.repeat(np.arange(20), 6)],
            "item_id": [f"i{n}" for n in random.integers(0, 15, 120)],
            "timestamp": np.tile(np.arange(6), 20),
        }
    )
    names = [f"i{n}" for n in range(15)]
    items = pl.DataFrame({"item_id": names, "title": [f"Film {n}" for n in names], "genres": ["drama"] * 15})
    return write_dataset(tmp_path_factory.mktemp("tiny") / "tiny", rows, items)


def test_there_are_configurations():
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_configuration_runs(path, tiny, tmp_path):
    run = tmp_path / "run"
    small = ["--data.path", str(tiny), "--run", str(run), "--trainer.enable_progress_bar=false"]
    run_command(["fit", "--config", str(path), *small, "--trainer.max_steps=1"])
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert (run / "run.json").is_file()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_configuration_says_what_it_is_and_how_to_run_it(path):
    comment = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
    assert f"configs/{path.parent.name}/{path.name}" in comment
    assert yaml.safe_load(path.read_text())["data"]["path"] == f"data/{path.parent.name}"
