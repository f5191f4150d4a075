"""Weights that come from a pretrained folder: left out of checkpoints, checked when one is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import RecloomError
from ..recommender import Pretrained, Recommender

OWNER = "recommender."
"""What stands before the recommender's names in a checkpoint."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""How far outputs of a probe may differ, relative to the largest of them, by their dtype."""


def external_names(recommender: Recommender) -> set[str]:
    """Names of `recommender.state_dict()` that a checkpoint leaves out. RecloomError for a prefix of no name."""
    trained = {
        name for name, one in recommender.named_parameters(remove_duplicate=False) if one.requires_grad
    }
    found: set[str] = set()
    names = list(recommender.state_dict())
    for prefix, source in recommender.external_weights().items():
        below = {name for name in names if name.startswith(prefix)}
        if not below:
            raise RecloomError(
                f"external_weights() of {type(recommender).__name__} has the prefix {prefix!r}, with which no name of "
                f"its state begins; these do: {', '.join(names[:3])}"
            )
        kept = tuple(prefix + one for one in source.kept)
        found |= {name for name in below - trained if not (kept and name.startswith(kept))}
    return found


def leave_out(recommender: Recommender, checkpoint: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Take external weights out of a checkpoint's state; return what it says of them instead, by prefix."""
    sources = recommender.external_weights()
    if not sources:
        return {}
    left_out = {OWNER + name for name in external_names(recommender)}
    state = checkpoint["state_dict"]
    checkpoint["state_dict"] = {name: value for name, value in state.items() if name not in left_out}
    return {
        prefix: {
            "folder": str(source.folder),
            "fingerprint": source.fingerprint,
            "inputs": source.inputs.cpu(),
            "outputs": probed(recommender, source).cpu(),
        }
        for prefix, source in sources.items()
    }


def put_back(recommender: Recommender, saved: dict[str, dict[str, Any]], state: dict[str, Tensor]) -> None:
    """Add to a loaded state what the recommender has read from its folders.

    Raises RecloomError where a folder holds other files than when the checkpoint was written, or where the checkpoint
    and the recommender do not agree on what is external.
    """
    sources = recommender.external_weights()
    if set(saved) != set(sources):
        raise RecloomError(
            f"the checkpoint leaves out the weights of {sorted(saved) or 'no folder'}, and "
            f"{type(recommender).__name__} as it is now those of {sorted(sources) or 'no folder'}. "
            "Load it with the version of its package that wrote it."
        )
    for prefix, source in sources.items():
        then = saved[prefix]
        if source.fingerprint != then["fingerprint"]:
            raise RecloomError(
                f"the pretrained weights in {source.folder} changed: this run was trained on files with the "
                f"fingerprint {then['fingerprint']} (then in {then['folder']}), found {source.fingerprint}. "
                "Put the files back, or train a new run."
            )
    if sources:
        own = recommender.state_dict()
        state |= {OWNER + name: own[name] for name in external_names(recommender)}


def check_probes(recommender: Recommender, saved: dict[str, dict[str, Any]]) -> None:
    """After loading: refuse a part whose outputs for the stored inputs are not those of the run that was saved."""
    for prefix, source in recommender.external_weights().items():
        expected = saved[prefix]["outputs"]
        found = probed(recommender, source, saved[prefix]["inputs"]).cpu()
        if found.shape != expected.shape or found.dtype != expected.dtype:
            apart, allowed = float("inf"), 0.0
        else:
            allowed = TOLERANCE.get(expected.dtype, 0.0) * max(1.0, float(expected.abs().max()))
            apart = float((found.double() - expected.double()).abs().max())
        if not apart <= allowed:
            raise RecloomError(
                f"the weights of {source.folder} give other outputs than when this run was saved: {apart:.2g} apart, "
                f"{allowed:.2g} is allowed for {expected.dtype}, though its files are the same. Was the library that "
                "reads them changed? Use the versions that run.json names, or train a new run."
            )


def probed(recommender: Recommender, source: Pretrained, inputs: Tensor | None = None) -> Tensor:
    """What a part makes of the stored inputs, in eval mode and without gradients."""
    given = source.inputs if inputs is None else inputs
    with _evaluating(recommender), torch.no_grad():
        return source.probe(given).detach()


@contextmanager
def _evaluating(recommender: Recommender) -> Iterator[None]:
    modes = [(module, module.training) for module in recommender.modules()]
    recommender.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
