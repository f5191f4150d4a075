"""`recloom plugins`, `recloom list` and `recloom doctor`: what is installed, and whether it works together."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from typing import Any

from .. import hookspecs
from .. import plugins as loading
from ..command import command
from ..errors import RecloomError
from ..io import version
from ..spec import unknown
from ..terminal import listed, plain, visible

CHECKED = (
    "recloom", "torch", "lightning", "numpy", "polars", "pyarrow", "pydantic", "jsonargparse", "onnx",
    "onnxruntime", "onnxruntime-gpu", "transformers", "sentence-transformers",
)  # fmt: skip
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("register_"))


@command("plugins")
def plugins(*, json: bool = False) -> None:
    """Show what is installed: plugins, versions, hooks, and what failed to load.

    Args:
        json: print JSON instead of a table.
    """
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", loading.PluginWarning)
        rows = [_describe(entry) for entry in loading.installed()]
    if json:
        import json as encoder

        print(encoder.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("plugin", "version", "state", "hooks"):
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = (row["plugin"], row["version"], row["state"], " ".join(row["hooks"]))
        table.add_row(*(plain(cell, 400) for cell in cells))
    Console().print(table)


def _describe(entry: EntryPoint) -> dict[str, Any]:
    manager = loading.manager()
    loaded = manager.get_plugin(entry.name)
    hooks = [h.removeprefix("register_") for h in HOOKS if loaded is not None and hasattr(loaded, h)]
    state = "ok"
    if entry.name in loading.blocked_names():
        state = f"switched off by {loading.BLOCK}"
    elif entry.name in loading.load_errors:
        state = f"cannot be loaded ({loading.load_errors[entry.name]})"
    number = entry.dist.version if entry.dist else _version("recloom")
    return {"plugin": entry.name, "version": number, "state": state, "hooks": hooks}


KINDS = {
    "models": "--model NAME",
    "modules": "no recommenders: --model NAME, with data of their own",
    "losses": "--model.loss NAME",
    "metrics": "--model.metrics NAME@K,...",
    "text_metrics": "recloom text-metrics FILE --metrics NAME@N,...",
    "readers": "recloom data prepare NAME",
    "language_models": "--encoder NAME and the like",
    "prompts": "templates",
}


@command("list")
def list_command(
    kind: str | None = None,
) -> None:
    """Show what can be named: recommenders, losses, metrics, readers, language models and encoders.

    Args:
        kind: one of these only: models, modules, losses, metrics, text_metrics, readers, language_models, prompts.
    """
    if kind is not None and kind not in KINDS:
        raise RecloomError(unknown(kind, KINDS, "kinds").replace("Installed:", "There are:"))
    for name in [kind] if kind else KINDS:
        found = _registered(name)
        if found:
            print(f"{name.replace('_', ' ')} ({KINDS[name]})")
        for known, (thing, owner) in sorted(found.items()):
            print(visible(listed(known, f"{_about(thing)} [{owner}]", 26)))


def _registered(kind: str) -> dict[str, tuple[Any, str]]:
    """Things of one kind with their owners; metrics of rankings and of texts come through one hook."""
    if kind not in ("metrics", "text_metrics"):
        return loading.collect_with_owner(f"register_{kind}")
    from ..metrics.text import TextMetric

    found = loading.collect_with_owner("register_metrics")
    of_texts = kind == "text_metrics"
    return {name: each for name, each in found.items() if isinstance(each[0], TextMetric) == of_texts}


def _about(thing: Any) -> str:
    """The first line of what a thing says of itself."""
    text = getattr(thing, "about", None) or getattr(thing, "function", thing).__doc__ or ""
    return str(text).strip().partition("\n")[0]


@command("doctor")
def doctor() -> None:
    """Check the environment: versions, threads, accelerators, and known conflicts."""
    print(
        f"python {sys.version.split()[0]} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    )
    for name in CHECKED:
        print(f"{name:24}{_version(name)}")
    for line in _findings():
        print(visible(line))


def _findings() -> list[str]:
    found = []
    if _version("onnxruntime") != "-" and _version("onnxruntime-gpu") != "-":
        found.append(
            "warning: onnxruntime and onnxruntime-gpu are both installed, and the one installed last wins. "
            "Uninstall both, then install one."
        )
    if find_spec("torch"):
        import torch

        devices = (
            f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA device"
        )
        found.append(f"torch uses {torch.get_num_threads()} threads (set OMP_NUM_THREADS), {devices}")
    if find_spec("onnxruntime"):
        import onnxruntime

        found.append(f"onnxruntime providers: {', '.join(onnxruntime.get_available_providers())}")
    found += [f"plugin {name}: {cause}" for name, cause in loading.load_errors.items()]
    return found


def _version(name: str) -> str:
    return version(name) or "-"
