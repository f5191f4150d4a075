"""Export of a BERT-like model of the transformers library to an ONNX folder, with its cosine measured."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from recloom.errors import RecloomError
from recloom.io import sha256, versions, whole_folder
from torch import Tensor, nn

from .inputs import MODULES, check_model_folder
from .onnx import CARD, MODEL, TOKENIZER, Cosine, EncoderCard, OnnxTextEncoder

Weights = Literal["float32", "int8"]
INSTALL = "pip install 'recloom-feature[onnx-export]'"
PARTS = {"Transformer", "Pooling", "Normalize"}
SAMPLE = (
    "Toy Story (1995)", "Heat (1995)", "Blade Runner", "The Name of the Rose", "Noise cancelling headphones, black",
    "Organic green tea, 100 bags", "Stock markets fell sharply on Monday", "Running shoes for wide feet, size 44",
    "A farmer finds a map in the roof of his house and leaves for the coast with his two daughters.",
    "The committee voted to close the school, and parents say that they will go to court.",
    "Gentle shampoo without sulphates for dry and coloured hair; 500 ml; suitable for daily use.",
    "A detective who has lost his memory is asked to solve the one case that he would rather forget. "
    "In a city where it never stops raining, everybody seems to know him, and nobody says from where.",
)  # fmt: skip
"""Texts for the cosine, where none are given."""


class TokenVectors(nn.Module):
    """(B, T) tokens and mask to (B, T, dim) vectors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return found


def export_encoder(
    model: Path, out: Path, weights: Weights = "float32", texts: Sequence[str] = SAMPLE
) -> EncoderCard:
    """Write model.onnx, tokenizer.json and encoder.json into the new folder `out`.

    The cosine to the vectors of the torch model is measured on `texts`, by the file that was written.
    Raises RecloomError for a model that pools in another way than mean or first token, or has further layers.
    """
    given = [text for text in texts if text.strip()]
    if not given:
        raise RecloomError("no text to measure the cosine with; give at least one")
    pooling, max_tokens = _settings(model)
    encoder = _loaded(model)
    with whole_folder(out) as folder:
        _write_graph(encoder, folder / MODEL, weights)
        (folder / TOKENIZER).write_bytes((model / TOKENIZER).read_bytes())
        card = EncoderCard(
            source=model.resolve().name,
            dim=encoder.config.hidden_size,
            max_tokens=max_tokens or encoder.config.max_position_embeddings,
            pooling=pooling,
            weights=weights,
            sha256=sha256(folder / MODEL),
            versions=versions(("torch", "transformers", "onnx", "onnxruntime")),
        )
        _write_card(folder, card)
        cosine = _cosine(OnnxTextEncoder(str(folder)), encoder, given)
        card = card.model_copy(update={"cosine": cosine})
        _write_card(folder, card)
    return card


def _settings(model: Path) -> tuple[Literal["mean", "cls"], int | None]:
    """Pooling, and how many tokens are read, of a sentence-transformers folder; mean of a plain one."""
    check_model_folder(model)
    missing = [name for name in ("config.json", TOKENIZER) if not (model / name).is_file()]
    if missing:
        raise RecloomError(
            f"{model} holds no {missing[0]}; expected the folder of a model with a fast tokeniser"
        )
    parts = _json(model / MODULES, [])
    strange = [part["type"] for part in parts if part["type"].rpartition(".")[2] not in PARTS]
    if strange:
        raise RecloomError(
            f"{model} has the layer {strange[0]}; only {', '.join(sorted(PARTS))} are exported"
        )
    places = {part["type"].rpartition(".")[2]: model / part["path"] for part in parts}
    if places.get("Transformer", model) != model:
        raise RecloomError(
            f"{model} keeps its transformer in {places['Transformer'].name}; give a flat folder"
        )
    length = _json(model / "sentence_bert_config.json", {}).get("max_seq_length")
    return (_pooling(_json(places["Pooling"] / "config.json", {})) if "Pooling" in places else "mean"), length


def _pooling(config: dict[str, Any]) -> Literal["mean", "cls"]:
    chosen = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    named = config.get("pooling_mode")  # how newer versions write it
    modes = {
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token") for name in chosen
    }
    modes |= {named} if isinstance(named, str) else set(named or ())
    if modes == {"cls"}:
        return "cls"
    if modes != {"mean"}:
        raise RecloomError(
            f"pooling {', '.join(sorted(modes)) or 'unknown'} is not exported; mean and cls are"
        )
    return "mean"


def _json(path: Path, default: Any) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else default


def _loaded(model: Path) -> Any:
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise RecloomError(f"the export of an encoder needs the transformers library: {INSTALL}") from error
    try:
        found = AutoModel.from_pretrained(
            str(model), dtype=torch.float32, attn_implementation="eager", use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise RecloomError(f"no model could be loaded from {model}: {error}") from error
    return found.eval()


def _write_graph(encoder: nn.Module, path: Path, weights: Weights) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch needs it
    except ImportError as error:
        raise RecloomError(f"the export of an encoder needs onnx and onnxscript: {INSTALL}") from error
    ids = torch.arange(21).reshape(3, 7) + 5
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    free = torch.export.Dim.DYNAMIC
    names = ["input_ids", "attention_mask"]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            TokenVectors(encoder), (ids, mask), dynamic_shapes=({0: free, 1: free},) * 2, strict=False
        )
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=20,
            verbose=False,
            input_names=names,
            output_names=["token_vectors"],
        )
    assert made is not None
    for node in made.model.graph:
        node.metadata_props.clear()  # stack traces with the paths of this machine
    graph = made.model_proto
    if weights == "int8":
        from .rowwise_int8 import quantize

        if not quantize(graph):
            raise RecloomError("no product with a constant matrix was found, so nothing became int8")
    onnx.save(graph, path)


@torch.no_grad()
def _cosine(ours: OnnxTextEncoder, encoder: Any, texts: Sequence[str]) -> Cosine:
    """Of the vectors of the written file to those of torch, text by text."""
    found = ours.encode(texts)
    near = []
    for text, vector in zip(texts, found, strict=True):
        ids = torch.tensor([ours._tokenizer.encode(text).ids])
        hidden = TokenVectors(encoder)(ids, torch.ones_like(ids))[0]
        wanted = (hidden[0] if ours.card.pooling == "cls" else hidden.mean(0)).numpy()
        near.append(float(vector @ wanted / np.linalg.norm(wanted)))
    return Cosine(mean=round(float(np.mean(near)), 5), min=round(min(near), 5), texts=len(texts))


def _write_card(folder: Path, card: EncoderCard) -> None:
    (folder / CARD).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
