"""The rounds of SeRALM (reconstruction): train, reward, choose; then the vectors to serve and a report.

Each stage of a round is a file, so that an interrupted run continues. What is trained comes from a config file of
`recloom fit`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from recloom import fit
from recloom.data import Catalog
from recloom.data.batches import SequenceRows
from recloom.errors import RecloomError
from recloom.fitting import run_command
from recloom.llm import TextEncoder
from recloom.run_folder import finished
from recloom.runs import Run, load
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..next_steps import fit_with_vectors
from .rewards import Rewards, rewards
from .tables import (
    METHOD,
    WorkFolder,
    read_json,
    read_posterior,
    read_rewards,
    write_json,
    write_posterior,
    write_rewards,
    write_served,
)
from .variants import Variants, posterior, uniform


@dataclass(frozen=True)
class Rounds:
    """Settings of all rounds.

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
    folder: WorkFolder
    recipe: Recipe
    max_epochs: int
    seed: int
    beta: float
    prior: Literal["previous", "llm"]
    draws: int

    def run(self, count: int) -> list[dict[str, Any]]:
        """Run the rounds that are not finished; returns the report of each."""
        reports = []
        for number in range(1, count + 1):
            report = self.folder.round(number).file("report.json")
            if not report.is_file():
                print(f"round {number} of {count}")
                self._round(number)
            reports.append(read_json(report))
        return reports

    def _round(self, number: int) -> None:
        """Train under the posterior of the round before, then compute rewards and the new posterior."""
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
        summary = report(run, exists, found, q if number > 1 else None, after)
        write_json(inside.file("report.json"), summary)

    def _fitted(self, number: int) -> Run:
        """The trained run of a round; an interrupted fit is resumed."""
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

    def _windows(self, run: Run) -> SequenceRows:
        """The training windows of the run."""
        data = run.data(self.data)
        return SequenceRows(
            data.train, run.recommender.max_len or int(data.train.lengths.max()), data.windows
        )

    def _before(self, number: int) -> Path | None:
        """The posterior of the round before."""
        return None if number == 1 else self.folder.round(number - 1).file("posterior.parquet")

    def _seed(self, number: int) -> int:
        """A seed of its own for each round, so that its evidence is new."""
        return self.seed + number - 1


def report(run: Run, exists: Tensor, found: Rewards, before: Tensor | None, after: Tensor) -> dict[str, Any]:
    """Figures of a round, over the items that have several texts and occur in the training data."""
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


@dataclass(frozen=True)
class Recipe:
    """The model and options of a fit.

    Attributes:
        model, options: a recommender by name, and its hyper-parameters, `item_input` among them.
        loss: as in a config, None = `CrossEntropy`.
        config: the rest, as `recloom.fit` takes it.
    """

    model: str
    options: dict[str, Any]
    loss: dict[str, Any] | None
    config: dict[str, Any]

    def as_data(self) -> dict[str, Any]:
        """For the settings of a folder."""
        return asdict(self)


def recipe(path: Path | None, model: str | None, item_input: str | None) -> Recipe:
    """Read the config, if any; the other arguments override it. By default SASRec with `id+vector`."""
    config = {} if path is None else _read(path)
    part = dict(config.get("model") or {})
    given, loss = _component(part.pop("recommender", None)), _component(part.pop("loss", None))
    options = {"item_input": "id+vector"} | (given["init_args"] if given else {})
    if item_input is not None:
        options["item_input"] = item_input
    if options["item_input"] == "id":
        raise RecloomError(f"{path}: item_input id reads no texts; use id+vector, gated or vector")
    name = model or (given["class_path"] if given else "SASRec")
    if given and model and given["class_path"].rpartition(".")[2] != model:
        raise RecloomError(f"{path} has hyper-parameters of {given['class_path']}, asked for is {model}")
    data = {key: value for key, value in (config.get("data") or {}).items() if key not in ("path", "vectors")}
    return Recipe(name, options, loss, config | {"model": part, "data": data})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise RecloomError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model") or {}, dict):
        raise RecloomError(f"{path} must be a config of `recloom fit`: keys such as model, data, trainer")
    return content


def _component(given: Any) -> dict[str, Any] | None:
    """A component as `class_path` and `init_args`, also where only its name was given."""
    if given is None:
        return None
    if isinstance(given, str):
        return {"class_path": given, "init_args": {}}
    return {"class_path": given["class_path"], "init_args": dict(given.get("init_args") or {})}


PHI = "as it was: the rounds choose among its texts (selection only) and train no language model"
WEAK = 0.1
"""Below this part of beta, differences of rewards hardly move the posterior."""
COLUMNS = {
    "epochs": "epochs",
    "items": "items judged",
    "reward_spread": "best - worst reward",
    "likeliest": "q of the likeliest",
    "effective_texts": "texts in effect",
    "changed": "likeliest changed",
}


def finish(
    work: Rounds,
    reports: Sequence[Mapping[str, Any]],
    serve: Literal["best", "mean"],
    encoder: TextEncoder,
    config: Path | None = None,
) -> None:
    """Write `vectors.parquet` and `report.json`, and print a summary; `config` is the file of the fits."""
    last = work.folder.round(len(reports)).file("posterior.parquet")
    target = work.folder.file("vectors.parquet")
    q = read_posterior(last, work.variants, work.catalog)
    # the choice among texts was learnt from training rows, so a run with another split must not read it
    made = {"texts": "texts.parquet", "columns": None} | reports[-1]["trained_on"]
    write_served(
        target, work.catalog, work.variants, q, serve, made, json.dumps(encoder.identity, sort_keys=True)
    )
    write_json(
        work.folder.file("report.json"),
        {"language_model": PHI, "language_model_calls_when_serving": 0, "served": serve}
        | {"beta": work.beta, "prior": work.prior, "rounds": list(reports)},
    )
    _show(reports)
    print("The language model stays as it was (selection only).")
    print(_sharpness(reports[-1]["reward_spread"], work.beta), end="")
    shown = work.folder.path / target.name
    print(f"wrote {shown}")
    print(fit_with_vectors(work.data, shown, work.recipe.model, work.recipe.options["item_input"], config))


def _sharpness(spread: float | None, beta: float) -> str:
    """Advice where the rewards hardly moved the posterior."""
    if not spread:
        return "No judged item has texts that differ: nothing was chosen.\n"
    if spread >= WEAK * beta:
        return ""
    return (
        f"The texts of an item differ by {spread:.3g} nats of reward, little for beta {beta:g};\n"
        f"--beta {spread:.1g} in a new folder would choose more sharply.\n"
    )


def _show(reports: Sequence[Mapping[str, Any]]) -> None:
    table = Table("round", *COLUMNS.values(), title=METHOD, title_justify="left", box=None, pad_edge=False)
    for number, report in enumerate(reports, 1):
        cells = ("" if report[name] is None else f"{report[name]:,.4g}" for name in COLUMNS)
        table.add_row(str(number), *cells)
    Console().print(table)
