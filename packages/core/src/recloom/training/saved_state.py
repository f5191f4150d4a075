"""What a checkpoint of a run holds beside weights, and how a run is rebuilt from it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..data.catalog import Catalog
from ..data.provenance import identity
from ..errors import RecloomError
from ..llm import LLMOptions, llm_identity
from ..losses import Loss
from ..spec import TRAINED_RUN, Spec, with_public_names
from .external_weights import leave_out, put_back

if TYPE_CHECKING:
    from ..data.batches.module import RecDataModule
    from .module import RecModule


def write_state(module: RecModule, checkpoint: dict[str, Any]) -> None:
    """Add to a checkpoint what is needed to rebuild without the data; take weights from folders out of it."""
    assert module.catalog is not None
    checkpoint["recloom"] = {
        "recommender": module.recipe,
        "loss": _loss_name(module),
        "metrics": module.metrics,
        "catalog": _tables(module.catalog),
        "trained_on": module.trained_on,
        "added": module.added,
        "runs": {name: run.model_dump() for name, run in module.runs.records.items()},
        "external": leave_out(module.recommender, checkpoint),
        "llm": llm_identity(module.recommender.modules()),
        "training": training_options(module),
    }


def read_state(
    module: RecModule, checkpoint: dict[str, Any], data: RecDataModule | None, training: bool
) -> None:
    """Make a module ready for the weights of a checkpoint, and the checkpoint ready for it.

    Args:
        module: built already, or built now for the catalogue of the checkpoint.
        data: what it is trained or measured with, where there is any; refused where it was trained on other data.
        training: whether its training goes on.
    """
    saved = checkpoint.get("recloom")
    if saved is None:
        raise RecloomError("this checkpoint was not written by Recloom: it holds no catalogue")
    module.trained_on, module.added = dict(saved["trained_on"]), saved.get("added", 0)
    states = checkpoint.get("optimizer_states", [])  # each empty where nothing is trained
    module.saved_groups = [state.get("param_groups", []) for state in states]
    check_recipe(module.recipe, saved["recommender"])
    if data is not None and module.catalog is not None:
        check_data(module.trained_on, data)
    if module.added and training:
        raise RecloomError(
            f"{module.added:,} items were added to this run after its training, which cannot go on from there. "
            "Go on with the run they were added to, or train a new one on data that hold them."
        )
    if training and "loss" in saved and saved["loss"] != _loss_name(module):
        raise RecloomError(
            f"the checkpoint was trained with another loss: {saved['loss']}, asked for {_loss_name(module)}. Leave it "
            "as it was, or start a new run."
        )
    if training:
        check_training(training_options(module), saved.get("training", {}))
    if module.catalog is None or module.added:
        tables = {name: table.numpy().tobytes() for name, table in saved["catalog"].items()}
        catalog = Catalog.from_bytes(tables)
        catalog.cache = module.run_folder and module.run_folder / ".cache"
        module.build(catalog)
        module.runs.open(module.recommender, module.trained_on, module.run_folder)
    module.runs.check(saved.get("runs", {}))
    check_llm(llm_identity(module.recommender.modules()), saved.get("llm"))
    if not training:
        _leave_loss(module, checkpoint)
    for name, value in checkpoint["state_dict"].items():
        *path, last = name.split(".")
        owner = module.get_submodule(".".join(path))
        if last in owner._buffers:
            setattr(owner, last, torch.empty_like(value))
    module.external = saved.get("external", {})
    put_back(module.recommender, module.external, checkpoint["state_dict"])


@contextmanager
def weights_of(recommender: nn.Module) -> Iterator[None]:
    """Say in words that weights are not those of a recommender, where torch says so."""
    try:
        yield
    except RuntimeError as error:
        _, _, faults = str(error).partition("\n")
        raise RecloomError(
            f"the weights of this checkpoint are not those of {type(recommender).__name__} as it is installed "
            f"({' '.join(faults.split()) or error}). Install the version that wrote it, or train the run again."
        ) from error


def check_data(trained_on: dict[str, str], data: RecDataModule) -> None:
    """Refuse data other than those the state was learnt from: ids would be mixed up, or training rows tested."""
    found = identity(data)
    names = [name for name, value in trained_on.items() if found.get(name) != value]
    if names:
        raise RecloomError(
            f"this run was trained on another {' and '.join(names)} than that of {data.path}: "
            + "; ".join(f"{name} {trained_on[name]}, found {found.get(name)}" for name in names)
            + ". Use the data and split of its config.yaml, or train a new run."
        )


def check_recipe(mine: Spec, saved: Spec) -> None:
    """Refuse a checkpoint of another recommender, naming what differs."""
    named = (with_public_names(one) for one in (mine, saved))  # a file of either may have moved
    own, theirs = ({"model": s["class_path"].rpartition(".")[2], **s["init_args"]} for s in named)
    names = [
        name
        for name in {**theirs, **own}
        if name in own and name in theirs and own[name] != theirs[name] and not _has_identity(own[name])
    ]
    if names:
        raise RecloomError(
            "the checkpoint holds another recommender: "
            + ", ".join(f"{name} {theirs[name]!r}, asked for {own[name]!r}" for name in names)
            + ". Leave these options as they were, or start a new run."
        )


def check_optimizer(optimizers: list[Optimizer], saved: list[list[dict[str, Any]]]) -> None:
    """Refuse other options of AdamW than those of the groups in a checkpoint, naming what differs."""
    differing: dict[str, str] = {}
    for optimizer, groups in zip(optimizers, saved, strict=False):
        for mine, theirs in zip(optimizer.param_groups, groups, strict=False):
            own, kept = (g | {"lr": g.get("initial_lr", g["lr"])} for g in (mine, theirs))
            for name in ("lr", "weight_decay", "betas"):
                if own[name] != kept[name]:
                    differing.setdefault(name, f"{name} {kept[name]}, asked for {own[name]}")
    _refuse_other_options(list(differing.values()))


def training_options(module: RecModule) -> dict[str, Any]:
    """What training depends on beside the optimiser's groups, as plain data; nothing where nothing is trained."""
    if module.loss is None:
        return {}
    data = None if module._trainer is None else module.data
    own = {"schedule": module.schedule, "warmup_steps": module.warmup_steps}
    return (
        own | ({} if data is None else {"batch_size": data.batch_size}) | _loss_options(module.loss, "loss")
    )


def _loss_options(loss: Loss, key: str) -> dict[str, Any]:
    """Plain options of a loss, which it keeps under their names, and of the losses that it builds on."""
    found: dict[str, Any] = {}
    for name in inspect.signature(type(loss)).parameters:
        value = getattr(loss, name, None)
        if isinstance(value, Loss):
            found |= {f"{key}.{name}": type(value).__name__} | _loss_options(value, f"{key}.{name}")
        elif isinstance(value, bool | int | float | str):
            found[f"{key}.{name}"] = value
    return found


def check_training(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Refuse other options of training than those of the checkpoint, naming what differs; a file may have moved."""
    _refuse_other_options(
        [
            f"{name} {theirs[name]}, asked for {mine[name]}"
            for name in mine.keys() & theirs.keys()
            if PurePath(str(mine[name])).name != PurePath(str(theirs[name])).name
        ]
    )


def _refuse_other_options(differing: list[str]) -> None:
    if differing:
        raise RecloomError(
            f"the checkpoint was trained with other options: {'; '.join(sorted(differing))}. Leave these options as "
            "they were, or start a new run."
        )


def _loss_name(module: RecModule) -> str | None:
    return None if module.loss is None else type(module.loss).__name__


def check_llm(found: dict[str, Any] | None, saved: dict[str, Any] | None) -> None:
    """Refuse another language model, or another version of a prompt, than the run was made with."""
    mine, theirs = found or {}, saved or {}
    names = [name for name in ("models", "prompts") if mine.get(name) != theirs.get(name)]
    if names:
        raise RecloomError(
            "this run asks another language model or prompt than the one here now: "
            + "; ".join(f"{name} {theirs.get(name)}, found {mine.get(name)}" for name in names)
            + ". Leave these as they were, or fit a new run."
        )


def _has_identity(value: Any) -> bool:
    """Whether an option is LLMOptions, compared by the identity of their model, or a TrainedRun, by its digest."""
    return isinstance(value, dict) and value.get("class_path") in (LLMOptions.stored_as, TRAINED_RUN)


def _leave_loss(module: RecModule, checkpoint: dict[str, Any]) -> None:
    """What a loss learnt serves training alone; elsewhere it was not prepared and has no room for it."""
    saved, own = checkpoint["state_dict"], module.state_dict()
    state = {name: value for name, value in saved.items() if not name.startswith("loss.")}
    checkpoint["state_dict"] = state | {name: own[name] for name in own if name.startswith("loss.")}


_made: WeakKeyDictionary[Catalog, dict[str, Tensor]] = WeakKeyDictionary()
"""Catalogues as they were saved before: a run saves the same one after every epoch."""


def _tables(catalog: Catalog) -> dict[str, Tensor]:
    """Its tables as bytes, (n,) uint8 each."""
    if catalog not in _made:
        raw = catalog.to_bytes().items()
        _made[catalog] = {name: torch.from_numpy(np.frombuffer(part, np.uint8).copy()) for name, part in raw}
    return _made[catalog]
