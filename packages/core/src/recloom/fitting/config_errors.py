"""Turn the parser's complaints into what, expected, found and the nearest valid name."""

from __future__ import annotations

import difflib
import functools
import inspect
import itertools
import re
from collections.abc import Sequence
from typing import Any

from ..data.batches.module import RecDataModule
from ..plugins import collect
from ..spec import unknown
from ..training.callbacks import EarlyStop
from ..training.module import RecModule

OTHER_KEYS = (
    "run", "overwrite", "config", "ckpt_path", "seed_everything", "trainer.max_epochs", "trainer.max_time",
    "trainer.accelerator", "trainer.devices", "trainer.precision", "trainer.enable_progress_bar",
    "trainer.gradient_clip_val", "checkpoint.monitor", "last.every_n_train_steps",
)  # fmt: skip
"""What else is set often, so that a slip of the finger finds it."""
NAMED = {"model.recommender": ("register_models", "models"), "model.loss": ("register_losses", "losses")}
NEED = {"model.recommender": "--model NAME, such as SASRec", "data.path": "--data DIR, a prepared dataset"}


def explain(error: Exception, args: Any, module: type = RecModule, data: type = RecDataModule) -> str:
    """A message that names the key and the nearest valid one, among the options of `module` and `data`."""
    text = re.sub(r"recloom\w*\.[\w.]*\.", "", str(error)).strip()
    wrong_key = functools.partial(_wrong_key, module=module, data=data)
    for reader in (_wrong_name, _wrong_option, _missing, wrong_key, _wrong_value):
        found = reader(text, args)
        if found:
            return found
    return text


def _wrong_name(text: str, args: Any) -> str | None:
    """A class that does not exist."""
    found = re.search(r'key "(?:\w+\.)?(model\.\w+)".*Expected a dot import path string: (\S+)', text, re.S)
    if found is None or found[1] not in NAMED:
        return None
    hook, what = NAMED[found[1]]
    known = {**collect(hook), **(collect("register_modules") if what == "models" else {})}
    return f"--{found[1]}: " + unknown(found[2], known, what)


def _wrong_option(text: str, args: Any) -> str | None:
    """An option that a class does not have."""
    found = re.search(r"[Oo]ption '([\w.]+)' is not accepted.*class_path='([\w.]+)'", text, re.S)
    if found is None:
        return None
    short = found[2].rpartition(".")[2]
    kind = {**collect("register_models"), **collect("register_losses")}.get(short)
    known = [] if kind is None else [p for p in inspect.signature(kind).parameters if p != "catalog"]
    return unknown(found[1], known, f"options of {short}").replace("Installed:", "It has:")


def _missing(text: str, args: Any) -> str | None:
    found = re.search(r"following arguments are required: ([\w., ]+)", text)
    if found is None:
        return None
    of_class = re.search(r'key "(?:\w+\.)?(model\.\w+)".*given class_path', text[: found.start()], re.S)
    parts = [name.strip() for name in found[1].split(",")]
    names = [f"{of_class[1]}.{name}" if of_class else name.partition(".")[2] for name in parts]
    return f"say {' and '.join(NEED.get(name, f'--{name}') for name in names)}. `recloom fit --help` shows examples."


def _wrong_key(text: str, args: Any, module: type, data: type) -> str | None:
    found = re.search(
        r"(?:[Uu]nrecognized arguments|does not accept option|[Gg]roup '?\w*'? does not accept|not expected|nested key)"
        r"[^-\w]*-*([\w.]+)",
        text,
    )
    found = found or re.search(r"ambiguous option: --([\w.]+)", text)
    return _unknown_key(found[1], args, module, data) if found else None


def _wrong_value(text: str, args: Any) -> str | None:
    """A value of another type, or none of the choices; the innermost key is the one that was set."""
    keys = re.findall(r'Parser key "([\w.]+)"', text)
    wanted = re.search(r"Expected an? (.+?)\. Got value: (.+?)(?:\. Got value: |$|\n)", text, re.S)
    if not keys or wanted is None:
        return None
    key = keys[0] + ("." + keys[-1] if len(keys) > 1 and not keys[-1].startswith(keys[0]) else "")
    choices = re.fullmatch(r"typing\.Literal\[(.+)\]", wanted[1])
    if choices is None:
        kind = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", wanted[1])
        return f"--{key} takes a value of type {kind}; found {wanted[2]!r}"
    names = [name.strip().strip("'\"") for name in choices[1].split(",")]
    near = _nearest(wanted[2], names)
    return f"--{key} takes one of {', '.join(names)}; found {wanted[2]!r}." + (
        f" Did you mean {near}?" if near else ""
    )


def _unknown_key(key: str, args: Any, module: type, data: type) -> str:
    known = [f"model.{name}" for name in inspect.signature(module).parameters]
    known += [f"data.{name}" for name in inspect.signature(data).parameters]
    known += [f"early_stopping.{name}" for name in inspect.signature(EarlyStop).parameters]
    known += OTHER_KEYS
    stem = key.removesuffix(".class_path")
    same = [name for name in known if name.rpartition(".")[2] == stem.rpartition(".")[2]]
    near = same[0] if same else _nearest(stem, known)
    hint = f" Did you mean --{near}?" if near else ""
    return f"--{key} is not an option{_whence(args)}.{hint} `recloom fit --help-all` lists all."


def _whence(args: Any) -> str:
    """The config files that were given, since the key may stand in one of them."""
    words: Sequence[Any] = args if isinstance(args, list) else ()
    pairs = itertools.pairwise(words)
    files = [str(value) for flag, value in pairs if flag in ("--config", "-c")]
    files += [word.partition("=")[2] for word in words if str(word).startswith("--config=")]
    return f" (given on the command line or in {', '.join(files)})" if files else ""


def _nearest(name: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.4)), None)
