"""Which tested runs are one method: those that differ in nothing but their seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RecloomError

if TYPE_CHECKING:
    from ..schemas import RunRecord


@dataclass(frozen=True)
class Method:
    """Runs that differ in nothing but their seed."""

    runs: tuple[str, ...]
    """Folders; the first names the method."""
    trained: bool
    """Whether another seed would give another model; so it is believed of a run without a record too."""

    @property
    def settled(self) -> bool:
        """Whether its runs tell what the method gives, and not only what one training gave."""
        return len(self.runs) > 1 or not self.trained


UNRELATED = ("seed_everything", "overwrite", "ckpt_path", "verbose")
UNRELATED_TRAINER = ("devices", "num_nodes", "accelerator", "enable_progress_bar")
"""Keys of a config that may differ between seeds of one method, as paths within the folder of a run may."""


def group_seeds(names: Sequence[str], *, each: bool) -> list[Method]:
    """Runs with the same configuration but for the seed, together; in the order of their first runs."""
    found: dict[str, dict[str, int | None]] = {}
    trained: dict[str, bool] = {}
    for name in names:
        key, seed, trains = _identity(Path(name))
        key = name if each or key is None else key
        same = found.setdefault(key, {})
        trained[key] = trains
        if twin := next((other for other, its in same.items() if its == seed), None):
            raise RecloomError(
                f"compare: {twin} and {name} are one model with one seed ({seed}), so the second tells nothing new. "
                "Leave one out, or train it with another --seed_everything; --each compares them nevertheless."
            )
        same[name] = seed
    return [Method(tuple(runs), trained[key]) for key, runs in found.items()]


def _identity(run: Path) -> tuple[str | None, int | None, bool]:
    """What is configured in a run but for its seed (None where it is not recorded), the seed, whether it is trained."""
    import yaml

    record = read_record(run)
    try:
        config = yaml.safe_load((run / "config.yaml").read_text("utf-8"))
    except (OSError, yaml.YAMLError):
        return None, None, True
    if record is None or not isinstance(config, dict):
        return None, None, True
    trainer = config.get("trainer") or {}
    config = _without_folder(config, str(config.get("run") or trainer.get("default_root_dir") or run))
    for key in UNRELATED:
        config.pop(key, None)
    for key in UNRELATED_TRAINER:
        (config.get("trainer") or {}).pop(key, None)
    config["runs"] = {place: used.digest for place, used in record.runs.items()}
    config["added"] = [added.sha256 for added in record.added]
    return (
        json.dumps([record.model, config], sort_keys=True, default=str),
        record.seed,
        record.loss is not None,
    )


def read_record(run: Path) -> RunRecord | None:
    """What a run says of itself; None where it was not finished, or its record cannot be read."""
    from pydantic import ValidationError

    from ..run_folder import RECORD
    from ..schemas import RunRecord

    try:
        return RunRecord.model_validate_json((run / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def _without_folder(value: Any, folder: str) -> Any:
    """A part of a config, with `RUN` in place of the folder that the run was written to."""
    if isinstance(value, dict):
        return {key: _without_folder(part, folder) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_folder(part, folder) for part in value]
    if isinstance(value, str) and (value == folder or value.startswith(folder.rstrip("/") + "/")):
        return "RUN" + value[len(folder.rstrip("/")) :]
    return value
