"""`model.json` beside `model.onnx`: what the artefact is, what made it, and whether it was verified.

It guards against accidents: a file that was changed, cut short, mixed up with another or never compared. It is
not signed, and does not guard against someone who edits it; trust an artefact as you trust where it comes from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError
from recloom.errors import RecloomError
from recloom.io import sha256, write_text
from recloom.next_steps import command_line
from recloom.schemas import ContextField, EventCodes, Protocol, Record

from .ids import IdKind

if TYPE_CHECKING:
    from torch import Tensor


class Port(Record):
    """One input or output of the graph."""

    name: str
    type: Literal["string", "int64", "float32"]
    shape: list[int | str]
    """Numbers are fixed, names stand for any size; the same name is the same size."""
    meaning: str


class Parity(Record):
    """How an artefact compares with the recommender it was made from."""

    verified: bool
    cases: int
    """Pairs of batch size and history length that were run."""
    requests: int
    """Rows compared, those of the cases and those of the test users."""
    tolerance: float
    """Allowed score difference: relative to the score, plus absolute in units of the row's largest or 1."""
    mismatches: int
    """Places that hold an item of another score than the reference's item there, beyond the tolerance."""
    ties: int
    """Places that hold another item than the reference, whose score is equal within the tolerance."""
    max_difference: float | None
    """Largest difference between a score of the artefact and the reference's; null if one is not a number."""
    reference: dict[str, float]
    """Metrics of the reference's lists over the test users."""
    artefact: dict[str, float]
    """The same of the artefact's lists; in full precision they may differ by ties alone."""
    test_requests: int = 0
    """How many requests of test users these metrics are means of; `verify` tries all of them by default."""
    max_loss: float | None = None
    """In less than full precision: how much of the reference's NDCG@10 may be lost, relative to it."""
    loss: float | None = None
    """How much of it was lost; below 0 where the artefact does better. null: nothing to measure it with."""
    overlap: float | None = None
    """Mean share of the reference's first ten items that are among the artefact's first ten, over test users."""
    latency_ms: dict[str, float]
    """p50, p95 and p99 of one request at a time, on the machine, provider and threads it was verified with."""
    provider: str | None = None
    """Where it ran: cpu or cuda."""
    threads: int | None = None
    """Threads of one request; null: as many as onnxruntime likes."""
    bytes: int
    failures: list[str]
    """The first few things that are wrong, in words."""


class IndexReport(Record):
    """An index over item vectors, and how it compares with scoring all of them."""

    library: str
    lists: int
    probed: int
    """How many of the lists a query looks into."""
    recall: float
    """Mean share of the exact top k that the index finds, before anything is hidden."""
    k: int
    queries: int
    """Requests that this was measured with."""
    asked: float
    """The recall that was to be reached."""
    ms_exact: float
    """Median milliseconds of one search that scores all items, by faiss."""
    ms_index: float
    """The same by the index."""


class Manifest(Record):
    """Everything known of an artefact."""

    format: Literal["recloom-onnx-1"] = "recloom-onnx-1"
    model: str
    config: dict[str, Any]
    versions: dict[str, str]
    opsets: dict[str, int] = Field(default_factory=dict)
    """Operator sets that a runtime must know, by domain."""
    protocol: Protocol | None = None
    """Data hash, split and candidates of the run the model comes from."""
    metrics: dict[str, float]
    inputs: list[Port]
    outputs: list[Port]
    fields: list[str]
    """What the model reads, as fields of `Batch`."""
    max_len: int | None
    rows: int | None = None
    """Requests that `Session` computes at once, at most, where one takes much memory; null: any number."""
    num_items: int
    num_users: int
    seen: Literal["masked", "kept"]
    """Whether items of the history are left out of the list."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Of weights and products; scores are float32 always."""
    ids: IdKind = "string"
    """Whether raw ids are text, with '' as padding, or int64, with -1 as padding."""
    events: EventCodes | None = None
    """Which code stands for which raw event, where the model reads `history_event`."""
    context: list[ContextField] = Field(default_factory=list)
    """The columns of `context` and which code stands for which value, where the model reads it."""
    id_table: str
    """sha256 of the raw item ids in index order."""
    weights: str
    """sha256 of the recommender's weights, by which another training of the same model is told apart."""
    files: dict[Annotated[str, Field(pattern=r"^[^/\\]*[^/\\.][^/\\]*$")], str]
    """File name to sha256; the artefact itself first, then `*.items.parquet` and `*.users.parquet` if there are any."""
    index: IndexReport | None = None
    """Where the artefact is a query encoder and an index (`*.faiss`)."""
    parity: Parity | None = None

    @property
    def exact(self) -> bool:
        """Whether every place of a list must be the recommender's."""
        return self.precision == "fp32" and self.index is None

    def write(self, path: Path) -> None:
        """Replace the manifest of the artefact at `path` in one step."""
        write_text(manifest_path(path), self.model_dump_json(indent=2) + "\n")

    def check_files(self, path: Path) -> None:
        """Raise RecloomError where a file of the artefact at `path` is missing, was changed, or is another's."""
        if path.name not in self.files:
            raise RecloomError(
                f"{manifest_path(path)} describes {next(iter(self.files), 'no file')}, not {path.name}; keep the names "
                f"that export gave, or export again with --out {path}."
            )
        for name, digest in self.files.items():
            file = path.with_name(name)
            if not file.is_file():
                raise RecloomError(
                    f"{file} is missing; the artefact needs {', '.join(self.files)}. Export it again."
                )
            found = sha256(file)
            if found != digest:
                raise RecloomError(
                    f"{file} is not the file that was exported: expected sha256 {digest[:16]}, "
                    f"found {found[:16]}. Export it again, or restore the file."
                )

    def check_parity(self, path: Path) -> None:
        """Raise RecloomError unless the artefact at `path` was shown to equal its recommender."""
        if self.parity is None or not (self.parity.verified or self.parity.failures):
            raise RecloomError(
                f"{path} was never compared with the recommender it comes from, so it is not verified and "
                f"not served. "
                f"Run `{command_line('verify', path, '--run', 'RUN')}` first."
            )
        if not self.parity.verified:
            raise RecloomError(
                f"{path} failed its comparison with the recommender it comes from: "
                f"{'; '.join(self.parity.failures)}. {self.next_step()}"
            )

    def next_step(self, kept: bool = True) -> str:
        """What to do about an artefact that failed its comparison; whether it is `kept`, so that it can be verified."""
        if self.exact:
            return "Export it again, or ask the model's author."
        other = "with a larger --index_recall" if self.index else "without --quantize"
        again = "verify it" if kept else "in the same way"
        return f"Export it again {other}, or {again} with a larger --max_loss if you can afford one."


def check_loss(max_loss: float) -> None:
    """Raise RecloomError for what is no share of an NDCG that may be lost."""
    if not 0 <= max_loss < 1:
        raise RecloomError(f"max_loss is a share of the NDCG, from 0 to less than 1, found {max_loss:g}")


def manifest_path(path: Path) -> Path:
    """Where the manifest of the artefact `path` lies."""
    return path.with_suffix(".json")


def data_path(path: Path) -> Path:
    """Where the weights of the artefact `path` lie, if they are too large for it."""
    return path.with_name(path.name + ".data")


def items_path(path: Path) -> Path:
    """Where the items of the artefact `path` lie with titles, if they have any."""
    return path.with_suffix(".items.parquet")


def users_path(path: Path) -> Path:
    """Where the ids of the users lie that the artefact `path` knows, if it reads users."""
    return path.with_suffix(".users.parquet")


def index_path(path: Path) -> Path:
    """Where the index of the artefact `path` lies, if there is one."""
    return path.with_suffix(".faiss")


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the artefact at `path`; RecloomError where it is absent or not one."""
    target = manifest_path(path)
    if not target.is_file():
        if not path.exists():
            raise RecloomError(
                f"{path} does not exist. Write an artefact with `{command_line('export', 'RUN', '--out', path)}`."
            )
        raise RecloomError(f"{path} has no manifest: {target} does not exist. Export with `recloom export`.")
    try:
        return Manifest.model_validate_json(target.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RecloomError(
            f"{target} is not a manifest of format recloom-onnx-1: {key}: {first['msg']}. Export again."
        ) from error


def weight_digest(weights: Mapping[str, Tensor]) -> str:
    """sha256 of named tensors, their types and shapes; the order of the names does not matter."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def id_digest(ids: Iterable[str]) -> str:
    """sha256 of a list of ids, in order."""
    return hashlib.sha256(json.dumps(list(ids), ensure_ascii=False).encode()).hexdigest()
