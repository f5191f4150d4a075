"""The changes of `mutation.py`: one operator, constant, condition, argument, name, term or statement of a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CORE, GRAPH = "packages/core/src/recloom/", "packages/plugins-graph/src/recloom_graph/"
NAMED: tuple[tuple[str, str, str], ...] = (
    (CORE + "fitting/lightning_cli.py", '"checkpoint.mode": "max"', '"checkpoint.mode": "min"'),
    (CORE + "fitting/fit.py", '"max" if metric.higher_is_better else "min"', '"max"'),
    (CORE + "fitting/fit.py", '"max" if metric.higher_is_better else "min"', '"min"'),
    (CORE + "run_folder.py", '("best.ckpt", "last.ckpt")', '("last.ckpt", "best.ckpt")'),
    (GRAPH + "property/node_property.py", 'batch.parts["train"]', 'batch.parts["valid"]'),
    (GRAPH + "property/node_property.py", 'batch.parts["train"]', 'torch.cat([*batch.parts.values()])'),
    (GRAPH + "property/node_property.py", '(batch, "valid", "val")', '(batch, "test", "val")'),
    (GRAPH + "property/node_property.py", '(batch, "test", "test")', '(batch, "valid", "test")'),
    (GRAPH + "losses/info_nce.py", "info_nce(one[nodes], other[nodes]", "info_nce(one[nodes], one[nodes]"),
    (GRAPH + "losses/info_nce.py", "torch.arange(len(nodes), device=nodes.device), temp",
     "torch.arange(len(nodes), device=nodes.device).roll(1), temp"),
    (GRAPH + "losses/info_nce.py", "weights=counts", "weights=None"),
    (GRAPH + "losses/contrast.py", "zip((users, items), self.pools(model, users.device), strict=True)",
     "zip((users,), (None,), strict=True)"),
    (GRAPH + "losses/contrast.py", "zip((users, items), self.pools(model, users.device), strict=True)",
     "zip((items,), (None,), strict=True)"),
    (GRAPH + "losses/contrast.py", "loss + self.weight * sum", "loss + self.weight**2 * sum"),
    (GRAPH + "losses/contrast.py", "loss + self.weight * sum", "loss + sum"),
    (GRAPH + "losses/contrast.py", "model.num_users + 1 + torch.unique", "model.num_users + torch.unique"),
    (GRAPH + "losses/contrast.py", "return model.view(one), model.view(other)", "return model.view(one), model.view()"),
    (GRAPH + "losses/contrast.py", "model.view(noise=self.noise), model.view(noise=self.noise)",
     "model.view(noise=self.noise), model.view()"),
    (GRAPH + "losses/rlmrec.py", "loss + self.weight * self.alignment", "loss + self.weight**2 * self.alignment"),
    (GRAPH + "losses/rlmrec.py", "loss + self.weight * self.alignment", "loss + self.alignment"),
    (GRAPH + "losses/rlmrec.py", "for items in (batch.labels[:, 0], negatives)", "for items in (batch.labels[:, 0],)"),
    (GRAPH + "losses/rlmrec.py", "torch.searchsorted(pool, once)", "torch.searchsorted(pool, once).roll(1)"),
    (GRAPH + "losses/rlmrec.py", "found * len(named) / len(nodes)", "found"),
    (GRAPH + "losses/rlmrec.py", "places = torch.arange(len(named), device=named.device)",
     "places = torch.arange(len(named), device=named.device).flip(0)"),
    (GRAPH + "losses/rlmrec.py", "ranked + self.weight * aligned", "ranked + aligned"),
    (CORE + "losses.py", "negative - (self.log_share[chosen] + torch", "negative - (self.log_share.mean() + torch"),
    (CORE + "losses.py", "(self.log_share[chosen] + torch.tensor(float(self.negatives)).log())",
     "torch.tensor(float(self.negatives)).log()"),
    (CORE + "losses.py", "positive + q.bias[q.targets], negative + q.bias[negatives]",
     "positive + q.bias[q.targets], negative"),
    (CORE + "losses.py", "positive + q.bias[q.targets], negative + q.bias[negatives]",
     "positive, negative + q.bias[negatives]"),
    (CORE + "losses.py", "rows = 1 if self.shared else q.vectors.shape[0]\n        return torch",
     "rows = 1\n        return torch"),
    (CORE + "losses.py", "(q.vectors * q.items[negatives[:, 0]]).sum(1, keepdim=True)",
     "(q.vectors @ q.items[negatives[0]].T)"),
)  # fmt: skip
"""(file, text, what stands there instead): wrong partners, dropped halves, masks and modes."""


@dataclass(frozen=True)
class Source:
    """A file, the tests nearest to it, and the functions of it that are mutated (none = all)."""

    path: str
    tests: tuple[str, ...]
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mutant:
    """A changed piece of one file: the text between two offsets of it and what stands there instead."""

    id: str
    stratum: str
    file: str
    line: int
    kind: str
    before: str
    after: str
    start: int
    stop: int

    def of(self, text: bytes) -> bytes:
        """The file with the change."""
        return text[: self.start] + self.after.encode() + text[self.stop :]


COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,), ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
WORDS = {
    "max": "min", "min": "max", "train": "valid", "valid": "test", "test": "valid", "best": "last", "mean": "sum",
    "best.ckpt": "last.ckpt", "users": "random", "last": "time", "uniform": "popularity", "time": "last",
}  # fmt: skip
METHODS = {
    "sum": "mean", "mean": "sum", "any": "all", "all": "any", "max": "min", "min": "max", "amax": "amin",
    "exp": "log", "log": "exp", "rsqrt": "sqrt", "clamp_min": "clamp_max", "softplus": "logsigmoid",
    "cumsum": "cumprod",
}  # fmt: skip
OF_THE_DEVICE = {"device", "non_blocking", "dtype", "type", "batch_size", "prog_bar", "strict", "help"}
"""Keywords without which a process on a CPU computes the same to rounding, or that only check or are shown."""
SYMMETRIC = ("max", "min", "np.minimum", "np.maximum")


def changes(tree: ast.Module, only: tuple[str, ...]) -> Iterator[tuple[str, ast.AST, str, str]]:
    """(function, node, kind, text in its place) for every change within functions."""
    for function in functions(tree):
        if only and function.name not in only:
            continue
        local = {arg.arg for arg in ast.walk(function.args) if isinstance(arg, ast.arg)} - {"self", "cls"}
        local |= {
            node.id
            for node in ast.walk(function)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        for default in [*function.args.defaults, *function.args.kw_defaults]:
            yield from ((function.name, default, kind, after) for kind, after in constants(default))
        for statement in function.body:
            yield from ((function.name, *change) for change in of_statement(statement, local))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from functions(node)


def of_statement(node: ast.stmt, local: set[str]) -> Iterator[tuple[ast.AST, str, str]]:
    """Changes of a statement and of what is in it; messages, assertions and docstrings are left alone."""
    match node:
        case ast.Assert() | ast.Import() | ast.ImportFrom() | ast.Pass():
            return
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Raise():
            yield node, "removed statement", "pass"
            return
        case ast.Expr() | ast.AugAssign() | ast.Continue() | ast.Break():
            yield node, "removed statement", "pass"
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "removed statement", "pass"
        case ast.If() | ast.While():
            yield node.test, "condition", f"(not {ast.unparse(node.test)})"
    names = sorted({name.id for name in loaded(node) if name.id in local})
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from of_statement(child, local)
        elif isinstance(child, ast.expr) and child is not getattr(node, "annotation", None):
            yield from of_expression(child, names)
        elif isinstance(child, ast.ExceptHandler | ast.withitem | ast.match_case):
            for deeper in ast.iter_child_nodes(child):
                if isinstance(deeper, ast.stmt):
                    yield from of_statement(deeper, local)
                elif isinstance(deeper, ast.expr) and not isinstance(child, ast.ExceptHandler):
                    yield from of_expression(deeper, names)


def loaded(node: ast.AST) -> Iterator[ast.Name]:
    """Names that are read in a statement, but for those of statements within it and of what is called."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            continue
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Load):
            if not (isinstance(node, ast.Call) and child is node.func):
                yield child
        else:
            yield from loaded(child)


def of_expression(node: ast.expr, names: list[str]) -> Iterator[tuple[ast.AST, str, str]]:
    if isinstance(node, ast.JoinedStr | ast.Lambda):
        return
    yield from ((node, kind, after) for kind, after in [*rewritten(node), *constants(node)])
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names and len(names) > 1:
        yield node, "other name", names[(names.index(node.id) + 1) % len(names)]
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from of_expression(child, names)
        elif isinstance(child, ast.keyword) and child.arg not in OF_THE_DEVICE:
            yield from of_expression(child.value, names)
        elif isinstance(child, ast.comprehension):
            for part in (child.iter, *child.ifs):
                yield from of_expression(part, names)


def rewritten(node: ast.expr) -> Iterator[tuple[str, str]]:
    """(kind, text) of an operator, condition or call with one thing changed."""
    text = ast.unparse

    def other(**fields: Any) -> str:
        return f"({text(type(node)(**(dict(ast.iter_fields(node)) | fields)))})"

    match node:
        case ast.Compare(ops=[op]):
            for kind in COMPARISONS[type(op)]:
                yield "comparison", other(ops=[kind()])
        case ast.BinOp(left=left, op=op, right=right):
            if type(op) in ARITHMETIC:
                yield "arithmetic", other(op=ARITHMETIC[type(op)]())
                yield "dropped term", f"({text(left)})"
            if isinstance(op, ast.Add | ast.Mult | ast.BitAnd | ast.BitOr):
                yield "dropped term", f"({text(right)})"
            if isinstance(op, ast.Add | ast.Sub | ast.Mult | ast.Div):
                yield "sign", f"(-({text(node)}))"
        case ast.BoolOp(op=op, values=values):
            yield "boolean", other(op=ast.Or() if isinstance(op, ast.And) else ast.And())
            yield from (("dropped term", f"({text(value)})") for value in values[:2])
        case ast.UnaryOp(op=ast.USub() | ast.Not() | ast.Invert(), operand=operand):
            yield "sign" if isinstance(node.op, ast.USub) else "boolean", f"({text(operand)})"
        case ast.IfExp(test=test):
            yield "condition", other(test=ast.UnaryOp(ast.Not(), test))
        case ast.Tuple(elts=[ast.Name() as one, ast.Name() as two], ctx=ast.Load()):
            yield "swapped argument", f"({text(two)}, {text(one)})"
        case ast.Call(func=func, args=args, keywords=keywords):
            starred = any(isinstance(arg, ast.Starred) for arg in args[:2])
            if len(args) > 1 and not starred and text(func) not in SYMMETRIC:
                yield "swapped argument", other(args=[args[1], args[0], *args[2:]])
            for at, keyword in enumerate(keywords):
                if keyword.arg not in OF_THE_DEVICE:
                    yield "dropped argument", other(keywords=keywords[:at] + keywords[at + 1 :])
            if isinstance(func, ast.Attribute) and func.attr in METHODS:
                yield "method", other(func=ast.Attribute(func.value, METHODS[func.attr], ast.Load()))
            if isinstance(func, ast.Name) and func.id in ("max", "min", "any", "all", "softplus"):
                yield "method", other(func=ast.Name(METHODS[func.id], ast.Load()))


def constants(node: ast.expr | None) -> Iterator[tuple[str, str]]:
    match node:
        case ast.Constant(value=bool(value)):
            yield "constant", repr(not value)
        case ast.Constant(value=int(value)):
            yield from (("constant", repr(near)) for near in (value + 1, value - 1) if near >= 0)
        case ast.Constant(value=float(value)) if value:
            yield from (("constant", repr(near)) for near in (value * 2, value / 2))
        case ast.Constant(value=float()):
            yield "constant", "1.0"
        case ast.Constant(value=str(value)) if value in WORDS:
            yield "constant", repr(WORDS[value])
