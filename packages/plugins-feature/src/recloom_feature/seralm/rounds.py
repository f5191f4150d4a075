"""The rounds of SeRALM (reconstruction, see `seralm.py`): fit, reward, choose; each stage is a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
        catalog, variants: its items, and their texts, encoded.
        folder: the work folder; it holds `variants.parquet`.
        recipe: what is trained in each.
        max_epochs: of each fit.
        seed: of the first round; the next has the next.
        beta: of the posterior, in nats.
        prior: of the posterior: that of the round before, or what the language model gave.
        draws: of the rewards.
    """

    data: Path
    catalog: Catalog
    variants: Variants
    folder: Folder
    recipe: Recipe
    max_epochs: int
    seed: int
    beta: float
    prior: Literal["previous", "llm"]
    draws: int

    def run(self, count: int) -> list[dict[str, Any]]:
        """Do what is left of so many rounds; the report of each."""
        reports = []
        for number in range(1, count + 1):
            report = self.folder.round(number).file("report.json")
            if not report.is_file():
                print(f"round {number} of {count}")
                self._round(number)
            reports.append(read_json(report))
        return reports

    def _round(self, number: int) -> None:
        """theta under the posterior of the round before, then rewards, then the new posterior."""
        inside, exists = self.folder.round(number), self.variants.exists
        q = read_posterior(self._before(number), self.variants, self.catalog)
        if not inside.has("vectors.parquet"):  # what validation reads: E_q of the vectors drawn in training
            write_served(inside.file("vectors.parquet"), self.catalog, self.variants, q, "mean")
        run = self._fitted(number)
        if not inside.has("rewards.parquet"):
            found = rewards(
                run.recommender, self._windows(run), self.variants, q, self.draws, self._seed(number)
            )
            write_rewards(inside.file("rewards.parquet"), self.catalog, exists, found)
        found = read_rewards(inside.file("rewards.parquet"), self.catalog, exists)
        after = posterior(found.values, self.beta, q if self.prior == "previous" else uniform(exists))
        if not inside.has("posterior.parquet"):
            write_posterior(inside.file("posterior.parquet"), self.catalog, exists, after)
        told = report(run, exists, found, q if number > 1 else None, after)
        write_json(inside.file("report.json"), told)

    def _fitted(self, number: int) -> Run:
        """The trained run of a round; an interrupted fit is gone on with."""
        inside = self.folder.round(number)
        run = inside.file("run")
        if finished(run):
            return load(run)
        if (run / "checkpoints" / "last.ckpt").is_file():
            run_command(["fit", "--run", str(run), "--ckpt_path", "last"])
            return load(run)
        sampled: dict[str, Any] = {"variants": str(self.folder.file("variants.parquet"))}
        before = self._before(number)
        if before is not None:
            sampled["posterior"] = str(before)
        if self.recipe.loss is not None:
            sampled["base"] = self.recipe.loss
        data = self.recipe.config["data"] | {"vectors": str(inside.file("vectors.parquet"))}
        return fit(
            self.data, self.recipe.model, self.recipe.options, run=run, seed=self._seed(number),
            max_epochs=self.max_epochs, loss={"class_path": "SampledTexts", "init_args": sampled},
            config=self.recipe.config | {"data": data},
        )  # fmt: skip

    def _windows(self, run: Run) -> Windows:
        """What the run was trained on, and nothing else."""
        data = run.data(self.data)
        return Windows(data.train, run.recommender.max_len or int(data.train.lengths.max()), data.windows)

    def _before(self, number: int) -> Path | None:
        """The posterior of the round before."""
        return None if number == 1 else self.folder.round(number - 1).file("posterior.parquet")

    def _seed(self, number: int) -> int:
        """Every round has its own, so that its evidence is new."""
        return self.seed + number - 1


def report(run: Run, exists: Tensor, found: Rewards, before: Tensor | None, after: Tensor) -> dict[str, Any]:
    """What a round came to, over the items that have several texts and stand in the training data."""
    counted = (exists.sum(1) > 1) & (found.positions > 0)
    values, exists, q = found.values[counted], exists[counted], after[counted]
    spread = values.masked_fill(~exists, -torch.inf).amax(1) - values.masked_fill(~exists, torch.inf).amin(1)
    entropy = -(q * q.clamp(min=1e-12).log()).sum(1)
    data, split = (run.module.trained_on[name] for name in ("dataset", "split"))
    return {
        "trained_on": {"data_hash": data, "split_hash": split},
        "epochs": run.record.epochs,
        "best_validation": run.record.best,
        "items": int(counted.sum()),
        "reward_spread": _mean(spread),
        "likeliest": _mean(q.amax(1)),
        "effective_texts": _mean(entropy.exp()),
        "changed": None if before is None else _mean((q.argmax(1) != before[counted].argmax(1)).float()),
    }


def _mean(values: Tensor) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None
