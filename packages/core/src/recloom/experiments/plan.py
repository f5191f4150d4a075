"""What a bench trains: models, datasets and seeds, from a YAML file or from words, and the folder of each fit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from ..data.card import CARD, read_card
from ..errors import RecloomError
from ..io import write_text
from ..schemas import Record
from ..spec import find

EXPECTED = """expected a mapping such as

data: [data/movies]
models:
  - Popularity
  - ItemKNN
  - name: SASRec, wide
    model: SASRec
    options: {dim: 128}
    config: {data: {windows: last}}
seeds: [0, 1, 2]
baseline: ItemKNN"""


class BenchModel(Record):
    """One model of a bench: a row of its table."""

    name: str = Field(min_length=1)
    model: str
    """Short name of an installed recommender."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Its hyper-parameters."""
    loss: str | dict[str, Any] | None = None
    """A loss by name, or as `{class_path: ..., init_args: ...}`; by default the model's own."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Anything else that a config file of `recloom fit` may hold."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """A name alone, or the path of a config file of `recloom fit`; a mapping may leave the name out."""
        if isinstance(given, str):
            return (
                _from_config(Path(given))
                if given.endswith((".yaml", ".yml"))
                else {"name": given, "model": given}
            )
        if isinstance(given, dict) and "name" not in given and "model" in given:
            return {"name": given["model"], **given}
        return given

    @property
    def trained(self) -> bool:
        """Whether another seed gives another model."""
        return self.loss is not None or find("register_models", self.model).default_loss is not None


class BenchSpec(Record):
    """Models × data × seeds, the model that the others are compared with, and what is measured."""

    data: list[str] = Field(min_length=1)
    """Folders of prepared datasets."""
    models: list[BenchModel] = Field(min_length=1)
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    """What is not trained takes the first alone."""
    baseline: str | None = None
    """The name of the model that the others are compared with; by default the first."""
    metrics: list[str] | None = None
    """What is tested; the first has the p-values. By default what a fit measures."""
    config: dict[str, Any] = Field(default_factory=dict)
    """What a config file of `recloom fit` may hold, for every fit; a model's own comes before it."""

    @field_validator("data", "models", "seeds", "metrics", mode="before")
    @classmethod
    def _one(cls, given: Any) -> Any:
        return [given] if isinstance(given, str | int | dict) else given

    @model_validator(mode="after")
    def _distinct(self) -> BenchSpec:
        folders = [path_name(entry.name) for entry in self.models]
        for what, given in (
            ("models", folders),
            ("data", [name_of(one) for one in self.data]),
            ("seeds", self.seeds),
        ):
            twice = next((one for place, one in enumerate(given) if one in given[:place]), None)
            if twice is not None:
                advice = " Give each a name of its own." if what == "models" else ""
                raise ValueError(f"{what}: {twice!r} stands there twice.{advice}")
        for place, one in enumerate(self.models):
            same = (one.model, one.options, one.loss, one.config)
            for other in self.models[:place]:
                if same == (other.model, other.options, other.loss, other.config):
                    raise ValueError(
                        f"models: {other.name!r} and {one.name!r} are one model with one configuration"
                    )
        names = [entry.name for entry in self.models]
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline: {self.baseline!r} is none of the models ({', '.join(names)})")
        return self

    @property
    def reference(self) -> str:
        """The name of the model that the others are compared with."""
        return self.baseline or self.models[0].name


@dataclass(frozen=True)
class Fit:
    """One fit of a bench, to be trained and tested in a folder of its own."""

    entry: BenchModel
    data: Path
    seed: int
    folder: Path
    config: dict[str, Any]
    metrics: list[str] | None = None

    def __str__(self) -> str:
        return f"{name_of(self.data)}: {self.entry.name}, seed {self.seed}"

    @property
    def asked_file(self) -> Path:
        """Where it stands what the fit was asked for."""
        return self.folder.with_name(self.folder.name + ".json")

    @property
    def log(self) -> Path:
        """What training and testing printed."""
        return self.folder.with_name(self.folder.name + ".log")

    def asked(self) -> dict[str, Any]:
        """All that the trained model depends on."""
        return {
            "model": self.entry.model,
            "options": self.entry.options,
            "loss": self.entry.loss,
            "config": self.config,
            "seed": self.seed,
            "data": read_card(self.data).data_hash(),
        }


def read_yaml(path: Path) -> dict[str, Any]:
    """What a file asks for, unchecked. Raises RecloomError where it is no mapping in YAML."""
    try:
        given = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecloomError(
            f"{path}: {EXPECTED}\n\nfound a file that cannot be read as YAML: {error}"
        ) from error
    if not isinstance(given, dict):
        raise RecloomError(f"{path}: {EXPECTED}\n\nfound {type(given).__name__}")
    return given


def make_spec(given: dict[str, Any], where: str = "bench") -> BenchSpec:
    """Check what was asked for. Raises RecloomError that names the key."""
    try:
        return BenchSpec.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        raise RecloomError(f"{where}: {key + ': ' if key else ''}{why}") from error


def fits_of(spec: BenchSpec, out: Path) -> list[Fit]:
    """Every fit with its folder `OUT/DATA/MODEL/seed-N`, seed by seed, so that the first table is whole early.

    Raises RecloomError, before anything is trained, for a model or a dataset that there is not.
    """
    for data in spec.data:
        if not (Path(data) / CARD).is_file():
            raise RecloomError(
                f"{data} is no prepared dataset: it has no {CARD}. Make one with `recloom data prepare FILE --out DIR`."
            )
    for entry in spec.models:
        _check_options(entry)
    return [
        Fit(
            entry=entry,
            data=Path(data),
            seed=seed,
            folder=out / name_of(data) / path_name(entry.name) / f"seed-{seed}",
            config=merged(merged(spec.config, entry.config), {"trainer": {"enable_progress_bar": False}}),
            metrics=spec.metrics,
        )
        for place, seed in enumerate(spec.seeds)
        for data in spec.data
        for entry in spec.models
        if place == 0 or entry.trained
    ]


def refuse_changed(fits: Iterable[Fit]) -> None:
    """Raise RecloomError for a fit whose folder holds one that was asked for differently."""
    for fit in fits:
        if not fit.asked_file.is_file():
            if fit.folder.exists():
                raise RecloomError(f"{fit.folder} was not made by a bench. Choose another --out.")
            continue
        before, now = json.loads(fit.asked_file.read_text("utf-8")), json.loads(json.dumps(fit.asked()))
        changed = [key for key in now if before.get(key) != now[key]]
        if changed:
            told = "; ".join(f"{key} {before.get(key)!r} there, {now[key]!r} now" for key in changed)
            raise RecloomError(
                f"{fit.folder} was trained from something else: {told}. Give the model another name, choose another "
                "--out, or train anew what differs with --overwrite."
            )


def changed(fit: Fit) -> bool:
    """Whether its folder holds a fit that was asked for differently."""
    if not fit.asked_file.is_file():
        return False
    return bool(json.loads(fit.asked_file.read_text("utf-8")) != json.loads(json.dumps(fit.asked())))


def keep_asked(fit: Fit) -> None:
    """Write down what the fit is asked for."""
    fit.folder.parent.mkdir(parents=True, exist_ok=True)
    write_text(fit.asked_file, json.dumps(fit.asked(), indent=2, ensure_ascii=False) + "\n")


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both mappings, group by group; the second counts where both say something."""
    found = dict(first)
    for key, given in second.items():
        both = isinstance(given, dict) and isinstance(found.get(key), dict) and "class_path" not in given
        found[key] = merged(found[key], given) if both else given
    return found


def name_of(data: str | Path) -> str:
    """The name of a dataset: that of its folder."""
    return Path(data).resolve().name


def path_name(name: str) -> str:
    """A name as that of a folder."""
    return re.sub(r"[^\w.+=-]+", "-", name).strip("-.") or "model"


def listed(words: str | Sequence[Any] | None) -> list[str] | None:
    """`a,b` as its parts."""
    if words is None or not isinstance(words, str):
        return None if words is None else [str(word) for word in words]
    return [word.strip() for word in words.split(",") if word.strip()]


def _from_config(path: Path) -> dict[str, Any]:
    """A config file of `recloom fit` as an entry; where its data and its run lie does not matter here."""
    try:
        given = yaml.safe_load(path.read_text("utf-8"))
        recommender = given["model"].pop("recommender")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected a config of `recloom fit` with model.recommender ({error!r})"
        ) from error
    if isinstance(recommender, str):
        recommender = {"class_path": recommender}
    for key in ("run", "seed_everything", "ckpt_path", "overwrite"):
        given.pop(key, None)
    (given.get("data") or {}).pop("path", None)
    model = str(recommender["class_path"]).rpartition(".")[2]
    loss = given["model"].pop("loss", None)
    options = recommender.get("init_args") or {}
    return {"name": model, "model": model, "options": options, "loss": loss, "config": given}


def _check_options(entry: BenchModel) -> None:
    """Raise RecloomError for a model that is not installed, or an option that it does not take."""
    import inspect

    from ..spec import unknown

    takes = list(inspect.signature(find("register_models", entry.model)).parameters)
    for option in entry.options:
        if option not in takes:
            said = unknown(option, takes, f"options of {entry.model}").replace("Installed:", "There are:")
            raise RecloomError(f"{entry.name}: {said}")
    if entry.loss is not None:
        find(
            "register_losses",
            entry.loss if isinstance(entry.loss, str) else str(entry.loss.get("class_path")),
        )
