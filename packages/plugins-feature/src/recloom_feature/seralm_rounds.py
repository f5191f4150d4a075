"""The rounds of SeRALM (reconstruction, see `seralm.py`): fit, reward, choose; each stage is a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from recloom.data.catalog import Catalog
from recloom.data.examples import Windows
from recloom.run import Run, load
from recloom.runfolder import finished
from recloom.training import fit, run_command
from torch import Tensor

from .seralm_fit import Recipe
from .seralm_folder import Folder, read_json, write_json
from .seralm_posterior import posterior, uniform
from .seralm_rewards import Rewards, rewards
from .seralm_tables import (
    read_posterior,
    read_rewards,
    read_variants,
    write_posterior,
    write_rewards,
    write_served,
)
from .seralm_variants import Variants


@dataclass(frozen=True)
class Rounds:
    """What all rounds share.

    Attributes:
        data: the prepared dataset.
        folder: the work folder; it holds `variants.parquet`.
        recipe: what is trained in each.
        max_epochs, seed: of each fit.
        beta: of the posterior, in nats.
        draws: of the rewards.
    """

    data: Path
    folder: Folder
    recipe: Recipe
    max_epochs: int
    seed: int
    beta: float
    draws: int

    def run(self, count: int) -> list[dict[str, Any]]:
        """Do what is left of so many rounds; the report of each."""
        catalog = Catalog.load(self.data)
        variants = read_variants(self.folder.file("variants.parquet"), catalog)
        reports = []
        before: Path | None = None
        for number in range(1, count + 1):
            inside = self.folder.round(number)
            if not inside.has("report.json"):
                print(f"round {number} of {count}")
                self._round(inside, catalog, variants, before)
            reports.append(read_json(inside.file("report.json")))
            before = inside.file("posterior.parquet")
        return reports

    def _round(self, inside: Folder, catalog: Catalog, variants: Variants, before: Path | None) -> None:
        """theta under the posterior of the round before, then rewards, then the new posterior."""
        q = read_posterior(before, variants, catalog)
        if not inside.has("vectors.parquet"):  # what validation reads: E_q of the vectors drawn in training
            write_served(inside.file("vectors.parquet"), catalog, variants, q, "mean")
        run = self._fitted(inside, before)
        if not inside.has("rewards.parquet"):
            data = run.data(self.data)
            windows = Windows(data.train, run.recommender.max_len or int(data.train.lengths.max()), data.windows)
            write_rewards(
                inside.file("rewards.parquet"), catalog, variants.exists,
                rewards(run.recommender, windows, variants, q, self.draws, self.seed),
            )  # fmt: skip
        found = read_rewards(inside.file("rewards.parquet"), catalog, variants.exists)
        after = posterior(found.values, self.beta, uniform(variants.exists))
        if not inside.has("posterior.parquet"):
            write_posterior(inside.file("posterior.parquet"), catalog, variants.exists, after)
        write_json(inside.file("report.json"), report(run, variants, found, q, after))

    def _fitted(self, inside: Folder, before: Path | None) -> Run:
        """The trained run of a round; an interrupted fit is gone on with."""
        run = inside.file("run")
        if finished(run):
            return load(run)
        if (run / "checkpoints" / "last.ckpt").is_file():
            run_command(["fit", "--run", str(run), "--ckpt_path", "last"])
            return load(run)
        sampled: dict[str, Any] = {"variants": str(self.folder.file("variants.parquet"))}
        if before is not None:
            sampled["posterior"] = str(before)
        if self.recipe.loss is not None:
            sampled["base"] = self.recipe.loss
        data = self.recipe.config["data"] | {"vectors": str(inside.file("vectors.parquet"))}
        return fit(
            self.data, self.recipe.model, self.recipe.options, run=run, seed=self.seed, max_epochs=self.max_epochs,
            loss={"class_path": "SampledTexts", "init_args": sampled}, config=self.recipe.config | {"data": data},
        )  # fmt: skip


def report(
    run: Run, variants: Variants, found: Rewards, before: Tensor, after: Tensor
) -> dict[str, Any]:
    """What a round came to, over the items that have several texts and stand in the training data."""
    counted = (variants.exists.sum(1) > 1) & (found.positions > 0)
    values, exists, q = found.values[counted], variants.exists[counted], after[counted]
    spread = values.masked_fill(~exists, -torch.inf).amax(1) - values.masked_fill(~exists, torch.inf).amin(1)
    entropy = -(q * q.clamp(min=1e-12).log()).sum(1)
    return {
        "epochs": run.record.epochs,
        "best_validation": run.record.best,
        "items": int(counted.sum()),
        "reward_spread": _mean(spread),
        "likeliest": _mean(q.amax(1)),
        "effective_texts": _mean(entropy.exp()),
        "changed": _mean((q.argmax(1) != before[counted].argmax(1)).float()),
    }


def _mean(values: Tensor) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None
