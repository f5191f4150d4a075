"""Trace a torch module to an ONNX graph; errors name the module that cannot be traced."""

from __future__ import annotations

import itertools
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
import torch
from recloom.errors import RecloomError
from recloom.recommender import ExportSpec
from torch import Tensor, nn
from torch.export import ExportedProgram

ROWS = 3  # a batch of 1 would be frozen in
LENGTH = 5


class Body(nn.Module):
    """Any number of inputs, in order."""

    def __init__(self, scores: nn.Module) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, *fields: Tensor) -> Tensor:
        found: Tensor = self.scores(*fields)
        return found


def trace(
    spec: ExportSpec, num_items: int, num_users: int, width: int | None = None, context: int = 0
) -> ir.Model:
    """Turn the module of `spec` into a graph for any batch size, and any length where max_len is None.

    Args:
        spec: what is traced; of its search nothing is read.
        num_items, num_users: sizes of the catalogue.
        width: numbers that it gives for each request; None = one for each item.
        context: fields of a request.

    Raises RecloomError naming the module that cannot be traced or has no ONNX operator.
    """
    _refuse_bags(spec.module)
    example = examples(spec, num_items, num_users, context=context)
    modes = {part: part.training for part in spec.module.modules()}
    spec.module.eval()
    try:
        with torch.no_grad(), _silenced():
            _check_shape(spec, example, num_items if width is None else width)
            return _converted(_traced(spec, example), spec)
    finally:
        for part, training in modes.items():
            part.training = training


def examples(
    spec: ExportSpec, num_items: int, num_users: int, rows: int = ROWS, context: int = 0
) -> tuple[Tensor, ...]:
    """Random inputs for the fields of `spec`: so many requests, the first history padded, codes all unknown."""
    tensors = itertools.chain(spec.module.parameters(), spec.module.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    shape = (rows, spec.max_len or LENGTH)
    random = torch.Generator().manual_seed(0)
    history = torch.randint(1, num_items + 1, shape, generator=random)
    history[0, : shape[1] // 2] = 0
    times = torch.arange(shape[1]).expand(shape) * 86_400 + 1_500_000_000
    known = {
        "history": history,
        "history_time": times * (history > 0),
        "request_time": torch.full((rows,), 1_600_000_000),
        "user": torch.randint(0, num_users + 1, (rows,), generator=random),
        "history_event": torch.zeros_like(history),
        "context": torch.zeros(rows, context, dtype=torch.long),
    }
    missing = [name for name in spec.inputs if name not in known]
    if missing:
        raise RecloomError(
            f"export() asks for the input {missing[0]!r}; an artefact can give {', '.join(sorted(known))}"
        )
    return tuple(known[name].to(device) for name in spec.inputs)


def _refuse_bags(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if isinstance(part, nn.EmbeddingBag):
            raise RecloomError(
                f"{name or 'the model'} is an EmbeddingBag, which becomes a loop over sequences that "
                "runtimes reject. Use nn.Embedding followed by a masked sum or mean."
            )


def _check_shape(spec: ExportSpec, example: tuple[Tensor, ...], num_items: int) -> None:
    found = tuple(spec.module(*example).shape)
    expected = (ROWS if example else 1, num_items)
    if found != expected:
        raise RecloomError(
            f"{type(spec.module).__name__} gives numbers of shape {found} for {expected[0]} requests; "
            f"expected {expected}, one score for each item of the catalogue"
        )


def _traced(spec: ExportSpec, example: tuple[Tensor, ...]) -> ExportedProgram:
    free = torch.export.Dim.DYNAMIC
    ragged = {name for name in spec.inputs if name.startswith("history") and spec.max_len is None}
    sizes = tuple({0: free, 1: free} if name in ragged else {0: free} for name in spec.inputs)
    dynamic = (sizes,) if example else None
    body, entered = Body(spec.module), [""]
    with _following(body, entered):
        try:
            return torch.export.export(body, example, dynamic_shapes=dynamic, strict=False)
        except Exception as error:  # the tracer raises what it likes
            raise RecloomError(_untraceable(body, entered[-1], error)) from error


def _converted(program: ExportedProgram, spec: ExportSpec) -> ir.Model:
    try:
        made = torch.onnx.export(program, dynamo=True, opset_version=20, verbose=False)
    except Exception as error:  # the exporter raises what it likes
        raise RecloomError(_unsupported(program, spec, error)) from error
    assert made is not None
    for node in made.model.graph:
        if "Sequence" in node.op_type:
            scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
            raise RecloomError(
                f"{_scope(scopes)} becomes the ONNX operator {node.op_type}, which runtimes such as TensorRT "
                "reject. Write it with plain tensor operations where torch.compiler.is_exporting()."
            )
        node.metadata_props.clear()  # stack traces with the paths of this machine
    made.model.metadata_props.clear()
    return made.model


def _unsupported(program: ExportedProgram, spec: ExportSpec, error: Exception) -> str:
    """Name the operator that has no counterpart, and the modules that call it."""
    match = re.search(r"No ONNX function found for <OpOverload\(op='aten\.(\w+)'", str(error))
    if match is None:
        return f"{type(spec.module).__name__} has no ONNX form: {_first_line(error)}"
    name = match[1].lstrip("_")
    stacks = [
        node.meta.get("nn_module_stack") or {}
        for node in program.graph.nodes
        if node.op == "call_function" and name in str(node.target)
    ]
    paths = sorted({_plain(list(stack.values())[-1][0]) for stack in stacks if stack})
    return (
        f"{', '.join(paths) or type(spec.module).__name__} calls torch's {name}, which has no ONNX operator. "
        "Write it with other operations, or describe another module in export()."
    )


@contextmanager
def _following(body: nn.Module, entered: list[str]) -> Iterator[None]:
    """Keep the path of the module being called at the end of `entered`."""
    handles = []
    for name, part in body.named_modules():
        handles.append(part.register_forward_pre_hook(lambda *_, name=name: entered.append(name)))
        handles.append(part.register_forward_hook(lambda *_: (entered.pop(), None)[1]))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence the exporter, which warns of optional libraries such as torchvision."""
    loggers = [
        logging.getLogger(name)
        for name in ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _untraceable(body: Body, path: str, error: Exception) -> str:
    """Say which module stopped the tracer, or that the whole depends on sizes that must stay free."""
    if "specialized it to be a constant" in str(error):
        inner = getattr(body.scores, "recommender", body.scores)
        return (
            f"{type(inner).__name__} fixes the number of requests or their length while it is traced. Read sizes "
            "from shapes (batch.history.shape[0], never len(batch)), and loop over neither."
        )
    part = body.get_submodule(path)
    return (
        f"{_plain(path)} ({type(part).__name__}) cannot be traced: {_first_line(error)} Avoid branches and loops "
        "over values of tensors, or describe another module in export()."
    )


def _plain(path: str) -> str:
    """The path within the recommender: what its author wrote."""
    return re.sub(r"^(scores\.?)?(recommender\.?)?", "", path) or "the recommender"


def _scope(scopes: str) -> str:
    """The operation and its module, from the exporter's list of scopes: ['', 'recommender', 'embedding']."""
    *modules, operation = re.findall(r"'([^']*)'", scopes) or ["", "an operation"]
    return f"{operation} in {_plain(modules[-1] if modules else '')}"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
