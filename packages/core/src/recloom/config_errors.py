"""Turn the parser's complaints into what, expected, found and the nearest valid name."""

from __future__ import annotations

import difflib
import inspect
import re
from typing import Any

from .data.module import RecDataModule
from .module import RecModule
from .plugins import collect
from .spec import unknown

OTHER_KEYS = (
    "run", "config", "ckpt_path", "seed_everything", "trainer.max_epochs", "trainer.max_time", "trainer.accelerator",
    "trainer.devices", "trainer.precision", "early_stopping.patience", "early_stopping.monitor", "checkpoint.monitor",
    "last.every_n_train_steps",
)  # fmt: skip
"""What else is set often, so that a slip of the finger finds it."""


def explain(error: Exception, args: Any) -> str:
    """A message that names the key and the nearest valid one."""
    text = re.sub(r"recloom\.[\w.]*\.", "", str(error)).strip()
    for pattern, hook, what in (
        (
            r'key "(?:\w+\.)?model\.recommender".*Expected a dot import path string: (\S+)',
            "register_models",
            "models",
        ),
        (
            r'key "(?:\w+\.)?model\.loss".*Expected a dot import path string: (\S+)',
            "register_losses",
            "losses",
        ),
    ):
        found = re.search(pattern, text, re.S)
        if found:
            return f"{'--model.recommender' if hook == 'register_models' else '--model.loss'}: " + unknown(
                found[1], collect(hook), what
            )
    option = re.search(r"[Oo]ption '([\w.]+)' is not accepted.*class_path='([\w.]+)'", text, re.S)
    if option:
        return _unknown_option(option[1], option[2])
    key = re.search(
        r"(?:[Uu]nrecognized arguments|[Gg]roup '?\w*'? does not accept|not expected|Key) *:?[^-\w]*-*([\w.]+)",
        text,
    )
    if key and (
        "unrecognized" in text.lower()
        or "not accept" in text
        or "not expected" in text
        or "nested key" in text.lower()
    ):
        return _unknown_key(key[1])
    return text


def _unknown_option(name: str, path: str) -> str:
    short = path.rpartition(".")[2]
    kind = {**collect("register_models"), **collect("register_losses")}.get(short)
    known = [] if kind is None else [p for p in inspect.signature(kind).parameters if p != "catalog"]
    return unknown(name, known, f"options of {short}").replace("Installed:", "It has:")


def _unknown_key(key: str) -> str:
    known = [f"model.{name}" for name in inspect.signature(RecModule).parameters]
    known += [f"data.{name}" for name in inspect.signature(RecDataModule).parameters]
    known += OTHER_KEYS
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f" Did you mean --{near[0]}?" if near else ""
    return f"--{key} is not an option.{hint} `recloom fit --help` lists all."
