"""Weights of a pretrained model: loaded from a folder, and changed by low-rank adapters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ...errors import RecloomError

Kind = Literal["causal", "encoder", "seq2seq"]
Train = Literal["frozen", "lora", "dora", "full"]
Dtype = Literal["float32", "bfloat16", "float16"]
TRAINED, REFERENCE = "trained", "reference"
"""Names of the adapter that is trained, and of its frozen copy."""
INSTALL = "pip install 'recloom[transformers]'"
LIBRARY_CLASSES = {
    "causal": "AutoModelForCausalLM",
    "encoder": "AutoModel",
    "seq2seq": "AutoModelForSeq2SeqLM",
}


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters (Hu et al., ICLR 2022): W x + alpha / rank B A x, with B zero before training.

    Args:
        rank: of A and B.
        alpha: the scale is alpha / rank.
        dropout: of what A reads.
        targets: ends of the names of the linear layers; None = queries and values, as peft knows them by architecture.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] | None = None


def open_weights(model: str, kind: Kind, dtype: str, revision: str | None) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise RecloomError(f"a Backbone needs the transformers library: {INSTALL}") from error
    given = {} if revision is None else {"revision": revision}
    try:
        return getattr(transformers, LIBRARY_CLASSES[kind]).from_pretrained(
            model, dtype=getattr(torch, dtype), use_safetensors=True, **given
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise RecloomError(
            f"no {kind} model could be loaded from {model!r} ({error}). Give a folder that holds one in safetensors, "
            "or the name of one that can be downloaded; convert GGUF files first, by save_pretrained."
        ) from error


def weights_folder(model: str, revision: str | None) -> Path:
    """Where the files of a loaded model lie."""
    if Path(model).is_dir():
        return Path(model)
    from transformers.utils.hub import cached_file

    return Path(str(cached_file(model, "config.json", revision=revision))).parent


def add_adapter(model: Any, lora: LoRA, dora: bool, name: str) -> None:
    try:
        import peft
    except ImportError as error:
        raise RecloomError(f"adapters need the peft library: {INSTALL}") from error
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, use_dora=dora,
        target_modules=None if lora.targets is None else list(lora.targets),
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # a second adapter is meant
            peft.inject_adapter_in_model(config, model, name)
    except ValueError as error:
        raise RecloomError(
            f"no adapter could be put into {type(model).__name__}: {error}. Set LoRA(targets=...)"
        ) from error


def adapted_layers(model: Any) -> list[Any]:
    """The layers that have adapters."""
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
    except ImportError:
        return []
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def use_adapter(model: Any, name: str | None) -> None:
    """Compute with one adapter, or with none."""
    for layer in adapted_layers(model):
        layer.enable_adapters(name is not None)
        if name is not None:
            layer.set_adapter(name)


@contextmanager
def using_adapter(model: Any, name: str | None) -> Iterator[None]:
    """Compute with another adapter, or with none; what requires gradients stays as it is."""
    layers = adapted_layers(model)
    needed = [(one, one.requires_grad) for layer in layers for one in layer.parameters()]
    try:
        use_adapter(model, name)
        yield
    finally:
        use_adapter(model, TRAINED)
        for one, gradient in needed:
            one.requires_grad_(gradient)
