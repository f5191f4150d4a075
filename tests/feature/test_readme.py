"""The commands of this package's README, typed in the order in which they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import polars as pl
import pytest
from recloom.cli.main import main

README = Path(__file__).parents[2] / "packages" / "plugins-feature" / "README.md"
ABSENT = ("encoder export", "OnnxTextEncoder", "--model.recommender.encoder")
"""What needs a model that is not here."""
QUICK = {
    "fit": ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"],
    "seralm rounds": ["--max_epochs=1", "--draws=1", "--times=1"],
}


def typed() -> list[str]:
    """Every command of a block, with Fake for a language model and hashed n-grams for an encoder."""
    blocks = re.findall(r"^```\n(.*?)^```", README.read_text("utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [line for line in lines if line.startswith("recloom ") and not any(a in line for a in ABSENT)]
    found = [
        re.sub(r"--llm\.model \S+(?: --llm\.model\.\S+ \S+)*(?: \.\.\.)?", "--llm.model Fake", f)
        for f in found
    ]
    return [re.sub(r" --encoder SentenceTransformers(?: \.\.\.)?", "", line) for line in found]


@pytest.fixture
def here(tmp_path, monkeypatch, write_dataset):
    """A folder with the datasets and files of which the README speaks."""
    monkeypatch.chdir(tmp_path)
    small = ["--users", "40", "--items", "60", "--out"]
    main(["data", "synth", "--like", "shop", *small, "data/shop"])
    main(["data", "synth", "--like", "movies", *small, "synth"])
    items = pl.read_parquet("synth/items.parquet").rename({"category": "genres"})
    rated = pl.read_parquet("synth/interactions.parquet")
    write_dataset(Path("data/ml"), rated, items.select("item_id", "title", "genres"))
    Path("new-films.csv").write_text("item_id,title,genres\nnew,The Comet (2020),space\n")
    met = pl.read_parquet("data/ml/interactions.parquet")["item_id"][0]
    row = f'{{"text": "a film", "human": "some film", "item_id": "{met}", "cited": "space"}}\n'
    Path("reasons.jsonl").write_text(row)


@pytest.mark.slow
def test_the_commands_chain_as_they_are_written(here, capsys):
    lines = typed()
    assert len(lines) > 20
    for line in lines:
        words = shlex.split(line)[1:]
        assert "..." not in words
        more = next((more for name, more in QUICK.items() if line.startswith(f"recloom {name} ")), [])
        main([*words, *more])
    written = {"item-profiles-vectors.parquet", "user-profiles-vectors.parquet", "reasons.json"}
    assert written <= {path.name for path in Path().iterdir()}
    assert Path("data/shop/summaries-vectors.parquet").is_file()
    vectors = set(re.findall(r"--data\.(?:user_)?vectors (\S+)", " ".join(lines)))
    assert len(vectors) == 3
    assert all(Path(path).is_file() for path in vectors)
