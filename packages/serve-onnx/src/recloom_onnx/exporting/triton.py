"""A folder that Triton Inference Server loads: the artefact with a batch dimension everywhere, and config.pbtxt.

Triton joins requests along the first dimension of every input, and only requests whose other dimensions are equal.
So the graph gets `k` as (B, 1) here: it makes lists as long as the longest that is asked for, and each row ends
where its own k does. `user` and `request_time` are (B, 1) too, because a tensor needs a dimension beside the batch.

Source: model_configuration.md, model_repository.md, ragged_batching.md of the server's documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import Value
from recloom.errors import RecloomError
from recloom.io import whole_folder

from ..artifact.ids import DTYPES, PADDING, Array
from ..artifact.manifest import Manifest, Port
from ..artifact.raw_codes import blank_events
from ..artifact.session import NAMES, Session

MAX_BATCH = 64
"""Requests that Triton joins, at most."""
DELAY = 2000
"""Microseconds that a request waits for others, at most."""
SAMPLE = 8
"""Items of the history that a model is warmed up with."""
CONFIG = "config.pbtxt"
DATA_TYPES = {"string": "TYPE_STRING", "int64": "TYPE_INT64", "float32": "TYPE_FP32"}


def write_triton(path: str | Path, repository: str | Path, name: str | None = None) -> Path:
    """Write the verified artefact at `path` into a model repository, as a new model or its next version.

    A model that is there keeps its config.pbtxt, whatever was changed in it; its older versions stay.

    Args:
        path: `model.onnx`, verified.
        repository: folder of models; made if it is not there.
        name: of the model; by default that of the file.

    Returns the folder of the version, which appears whole or not at all.
    Raises RecloomError where the artefact is not verified, or the folder holds something else of that name.
    """
    session = Session(path, threads=1)
    model = ir.load(session.path)
    sample = _sample(session, model)
    adapted = adapt(model, session.manifest)
    folder = Path(repository) / (name or session.path.stem)
    config = "\n".join(_config(folder.name, session.manifest, sample)) + "\n"
    version = _next_version(folder, config)
    out = folder / str(version) if version > 1 else folder
    with whole_folder(out) as partial:
        inside = partial if version > 1 else partial / "1"
        inside.mkdir(exist_ok=True)
        data = "model.onnx.data" if f"{session.path.name}.data" in session.manifest.files else None
        ir.save(adapted, inside / "model.onnx", external_data=data)
        _compare(session, inside / "model.onnx", sample)
        if version == 1:
            (partial / "warmup").mkdir()
            for key, array in sample.items():
                (partial / "warmup" / key).write_bytes(serialised(array[0]))
            (partial / CONFIG).write_text(config, encoding="utf-8")
    return folder / str(version)


def adapt(model: ir.Model, manifest: Manifest) -> ir.Model:
    """The graph with `k`, `user` and `request_time` as (B, 1); the model given is changed.

    A k above the number of items counts as that number, so that no request makes those beside it long.
    """
    if [value.name for value in model.graph.outputs] != NAMES:
        raise RecloomError(
            f"Triton runs one graph from ids to {' and '.join(NAMES)}, and this one ends in "
            f"{', '.join(str(value.name) for value in model.graph.outputs)}; export it as one file."
        )
    graph = _Adapter(model.graph)
    for name in ("user", "request_time"):
        if name in (value.name for value in model.graph.inputs):
            graph.column(name, lambda value: graph.op("Squeeze", value, graph.ints([1])))
    k = graph.column("k", lambda value: graph.longest(value, manifest.num_items))
    width = graph.op("Squeeze", graph.op("Shape", model.graph.outputs[0], start=1, end=2))
    place = graph.op("Range", graph.ints(0), width, graph.ints(1))  # (K,)
    within = graph.op("Less", place, k)  # (B, K)
    graph.cut(within, [_blank(PADDING[manifest.ids]), ir.tensor(np.array(-np.inf, dtype=np.float32))])
    model.graph.sort()
    return model


class _Adapter:
    """Puts nodes before and after a graph."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph, self.tape, self.count = graph, ir.tape.Tape(graph), 0

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        """One node with one output, which gets a name of its own."""
        self.count += 1
        return self.tape.op(kind, inputs, attributes, output=ir.val(f"triton/{kind}_{self.count}"))

    def ints(self, value: int | list[int]) -> Value:
        """A constant."""
        return self.op("Constant", value=ir.tensor(np.array(value, dtype=np.int64)))

    def column(self, name: str, use: Callable[[Value], Value]) -> Value:
        """Make an input (B, 1); what read it reads what `use` makes of it."""
        old = next(value for value in self.graph.inputs if value.name == name)
        old.name = f"triton/{name}"
        new = ir.val(name, old.dtype, ["B", 1])
        ir.convenience.replace_all_uses_with(old, use(new))
        self.graph.inputs[self.graph.inputs.index(old)] = new
        return new

    def longest(self, k: Value, num_items: int) -> Value:
        """(1,), the largest of (B, 1)."""
        return self.op("ReduceMax", self.op("Min", k, self.ints(num_items)), self.ints([0]), keepdims=0)

    def cut(self, within: Value, blanks: Sequence[ir.TensorProtocol]) -> None:
        """Replace what is not within (B, K) in each output."""
        for number, (made, blank) in enumerate(zip(list(self.graph.outputs), blanks, strict=True)):
            made.name, name = f"triton/{made.name}", made.name
            end = ir.val(name, made.dtype, ["B", "K"])
            self.tape.op("Where", [within, made, self.op("Constant", value=blank)], output=end)
            self.graph.outputs[number] = end


def _most(manifest: Manifest) -> int:
    """Requests that Triton joins, at most: fewer where one takes much memory."""
    return min(MAX_BATCH, manifest.rows or MAX_BATCH)


def serialised(values: Array) -> bytes:
    """One request's values as Triton reads them: text after its length in four bytes, numbers as they are."""
    if values.dtype != object:
        return values.tobytes()
    return b"".join(struct.pack("<I", len(raw)) + raw for raw in (str(value).encode() for value in values))


def _blank(padding: str | int) -> ir.TensorProtocol:
    if isinstance(padding, int):
        return ir.tensor(np.array(padding, dtype=np.int64))
    return ir.StringTensor([padding.encode()], shape=ir.Shape([]))


def _sample(session: Session, model: ir.Model) -> dict[str, Array]:
    """A request as clients send it, each (1, any): popular items as history, a known user, k = 10."""
    manifest, dtype = session.manifest, DTYPES[session.manifest.ids]
    empty = {
        "history": np.empty((1, 0), dtype),
        "history_time": np.empty((1, 0), np.int64),
        "request_time": np.zeros(1, np.int64),
    }
    given = {name: array for name, array in empty.items() if name in session.inputs}
    ids, _ = session.run(given, min(SAMPLE, manifest.num_items))
    now = 1_700_000_000
    sample: dict[str, Array] = {
        "history": ids,
        "blocked": np.full((1, 1), PADDING[manifest.ids], dtype),
        "allowed": np.full((1, 1), PADDING[manifest.ids], dtype),
        "k": np.array([[10]]),
        "history_time": now + np.arange(ids.shape[1])[None],
        "request_time": np.array([[now + ids.shape[1]]]),
    }
    if "history_event" in session.inputs:
        sample["history_event"] = blank_events(ids.shape, manifest.events)
        if manifest.events is not None:  # a value on the first cut, or the first event
            first = [*manifest.events.cuts, *manifest.events.names, ""][0]
            sample["history_event"][:] = first
    if "context" in session.inputs:
        sample["context"] = np.array([[next(iter(field.values), "") for field in manifest.context]], object)
    if "user" in session.inputs:
        sample["user"] = np.array([[_first_user(model)]], dtype)
    return {name: sample[name] for name in session.inputs}


def _first_user(model: ir.Model) -> str | int:
    user = next(value for value in model.graph.inputs if value.name == "user")
    table = next(node for node, _ in user.uses() if node.op_type == "LabelEncoder")
    keys = next(
        table.attributes[name] for name in ("keys_strings", "keys_int64s") if name in table.attributes
    )
    first = keys.value[0]
    return first.decode() if isinstance(first, bytes) else first


def _config(name: str, manifest: Manifest, sample: dict[str, Array]) -> Iterator[str]:
    """Lines of config.pbtxt; the first is compared before a version is added."""
    yield _interface(manifest)
    yield f"name: {_quoted(name)}"
    yield 'backend: "onnxruntime"'
    yield f"max_batch_size: {_most(manifest)}"
    for port in manifest.inputs:
        dims = _dims(port) if port.name != "k" else [1]
        yield f"input [ {{ {_tensor(port, dims or [1])} }} ]"
    for port in manifest.outputs:
        yield f"output [ {{ {_tensor(port, _dims(port))} }} ]"
    yield f"dynamic_batching {{ max_queue_delay_microseconds: {DELAY} }}"
    for size in sorted({1, _most(manifest)}):
        yield f'model_warmup [ {{ name: "batch of {size}" batch_size: {size}'
        for port in manifest.inputs:
            value = f"{_typed(port, sample[port.name].shape[1:])} input_data_file: {_quoted(port.name)}"
            yield f"  inputs {{ key: {_quoted(port.name)} value {{ {value} }} }}"
        yield "} ]"


def _dims(port: Port) -> list[int]:
    """Of a tensor without its batch dimension."""
    return [size if isinstance(size, int) else -1 for size in port.shape[1:]]


def _tensor(port: Port, dims: Sequence[int]) -> str:
    return f"name: {_quoted(port.name)} {_typed(port, dims)}"


def _typed(port: Port, dims: Iterable[int]) -> str:
    return f"data_type: {DATA_TYPES[port.type]} dims: [ {', '.join(map(str, dims))} ]"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _interface(manifest: Manifest) -> str:
    shown = [
        ", ".join(f"{port.name} {port.type}" for port in side) for side in (manifest.inputs, manifest.outputs)
    ]
    return f"# recloom-onnx: {' -> '.join(shown)}"


def _next_version(folder: Path, config: str) -> int:
    """1 for a new model; RecloomError where the folder holds another model or something else."""
    if not folder.exists() and not folder.is_symlink():
        return 1
    file = folder / CONFIG
    found = file.read_text("utf-8").partition("\n")[0] if file.is_file() else ""
    wanted = config.partition("\n")[0]
    if not found.startswith("# recloom-onnx: "):
        raise RecloomError(
            f"{folder} is there already and was not written by `recloom export --triton`: its {CONFIG} does not begin "
            "with '# recloom-onnx: '. Export to a file of another name (--out NAME.onnx), or to another repository."
        )
    if found != wanted:
        raise RecloomError(
            f"versions of a model share one {CONFIG}, and that of {folder} is for {found[16:]}; this artefact is "
            f"{wanted[16:]}. Export to a file of another name (--out NAME.onnx)."
        )
    return 1 + max((int(one.name) for one in folder.iterdir() if one.name.isdecimal()), default=0)


def _compare(session: Session, path: Path, sample: dict[str, Array]) -> None:
    """Check that the written file gives the artefact's lists for requests of unequal k in one batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    written = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    ks = [3, 0, session.manifest.num_items + 5, -1, 1]
    several = {name: np.repeat(array, len(ks), axis=0) for name, array in sample.items()}
    several["history"][2:, 1:] = PADDING[session.manifest.ids]
    found = written.run(NAMES, {**several, "k": np.array(ks)[:, None]})
    given = {
        name: array[:, 0] if name in ("user", "request_time") else array for name, array in several.items()
    }
    del given["k"]
    wanted = session.run(given, session.manifest.num_items)
    for row, k in enumerate(ks):
        end = min(max(k, 0), session.manifest.num_items)
        same = [np.array_equal(a[row, :end], b[row, :end]) for a, b in zip(found, wanted, strict=True)]
        rest = (found[0][row, end:] == PADDING[session.manifest.ids]).all() and np.isneginf(
            found[1][row, end:]
        ).all()
        if not (all(same) and rest):
            raise RecloomError(
                f"the graph for Triton does not give the lists of {session.path} where k is {k}; nothing was written. "
                "Please report it, with the version of onnxruntime."
            )
