"""What each round of SeRALM (reconstruction, see `seralm.py`) trains, from a config file of `recloom fit`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from recloom.errors import RecloomError


@dataclass(frozen=True)
class Recipe:
    """A fit.

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
    """Read the config, if any; what is said beside it counts more. By default SASRec with `id+vector`."""
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
    """A class by name, or with `class_path` and `init_args`, as the latter."""
    if given is None:
        return None
    if isinstance(given, str):
        return {"class_path": given, "init_args": {}}
    return {"class_path": given["class_path"], "init_args": dict(given.get("init_args") or {})}
