"""The ONNX graph around a model: raw ids to indices before it; masks, top-k and raw ids after it.

Shapes: B requests, L history ids, M blocked ids, A allowed ids, N items, W = max_len or, without one, L + 2;
H = M, and L where seen items are masked; u requests that are ranked again: of cold-start users, or
with a list of allowed items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir import DataType, Value
from recloom.schemas import ContextField, EventCodes

from ..artifact.ids import PADDING, IdKind
from ..artifact.manifest import Port
from ..artifact.raw_codes import are_values
from .nodes import Nodes, Pair
from .ports import NO_CODES, RawCodes, ports

OPSETS = {"": 20, "ai.onnx.ml": 3}
TYPES = {"string": DataType.STRING, "int64": DataType.INT64, "float32": DataType.FLOAT}
FLAGS = ("limited", "unknown")
BELOW = np.array(-np.inf, dtype=np.float32)


class ListLimits(NamedTuple):
    """Restrictions of the lists, applied to the scores of the model."""

    hidden: Pair
    """(B, H) columns of items and the most that each may score."""
    allowed: Pair
    """(B, A) indices, and (B,) whether the row is limited to them."""
    unknown: Value | None
    """(B,) whether the user is a cold-start user; None where the scores are the same for every user."""
    popularity: Value
    """(1, N) scores for cold-start users."""


def wrap(
    body: ir.Model,
    fields: Sequence[str],
    max_len: int | None,
    item_ids: Sequence[str],
    user_ids: Mapping[str, int],
    popularity: np.ndarray[Any, np.dtype[np.float32]],
    seen: Literal["masked", "kept"] = "masked",
    kind: IdKind = "string",
    codes: RawCodes = NO_CODES,
) -> ir.Model:
    """Turn a graph from indices to scores of all items into one from raw ids to top-k raw ids.

    Args:
        body: takes `fields` in order, gives (B, N) scores of items 1 to N; its graph is reused.
        fields: of `Batch`.
        max_len: as in `ExportSpec`.
        item_ids: N raw ids.
        user_ids: raw id to index, of the users that the model knows.
        popularity: (N,) scores for cold-start users.
        seen: whether items of the history may be recommended.
        kind: whether ids go in and come out as strings, or as the integers that they spell.
        codes: of events and fields of the request, where the model reads them.
    """
    graph = _Wrapper(body.graph, kind)
    given_ports, made_ports = ports(fields, kind, codes)
    inputs = {port.name: _value(port) for port in given_ports}
    history, given = graph.read(inputs, fields, max_len, item_ids, user_ids, codes)
    scores = graph.feed([given[name] for name in fields], inputs["history"], len(item_ids))
    hidden = graph.hidden(
        [graph.encode(inputs["blocked"], item_ids), *([history] if seen == "masked" else [])]
    )
    left = graph.left(scores, hidden)
    known = graph.known(given, fields)

    def limits() -> ListLimits:
        raw, none = inputs["allowed"], None if known is None else graph.op("Equal", known, graph.ints(0))
        allowed = graph.encode(raw, item_ids), graph.given(raw)
        return ListLimits(hidden, allowed, none, graph.constant(popularity[None]))

    best = graph.best(left, inputs["k"], graph.usual(known, inputs["allowed"]), limits, len(item_ids))
    return graph.closed(inputs.values(), graph.lists(best, item_ids, made_ports), body)


def wrap_query(
    body: ir.Model,
    fields: Sequence[str],
    max_len: int | None,
    item_ids: Sequence[str],
    user_ids: Mapping[str, int],
    kind: IdKind = "string",
    codes: RawCodes = NO_CODES,
) -> ir.Model:
    """Turn a graph from indices to (B, d) query vectors into one from raw ids to all that a search needs.

    Its outputs are `query` (B, d); `history_index`, `blocked_index` and `allowed_index`, of the shapes of what goes
    in, 0 for what is unknown; `limited` (B,), whether a row names allowed items; and `unknown` (B,), whether
    nothing is known of the user. Arguments as those of `wrap`.
    """
    graph = _Wrapper(body.graph, kind)
    inputs = {port.name: _value(port) for port in ports(fields, kind, codes)[0] if port.name != "k"}
    history, given = graph.read(inputs, fields, max_len, item_ids, user_ids, codes)
    known = graph.known(given, fields)
    assert known is not None, "what has query vectors knows a history or a user"
    made = {
        "query": graph.feed([given[name] for name in fields], inputs["history"], 0),
        "history_index": history,
        "blocked_index": graph.encode(inputs["blocked"], item_ids),
        "allowed_index": graph.encode(inputs["allowed"], item_ids),
        "limited": graph.given(inputs["allowed"]),
        "unknown": graph.op("Equal", known, graph.ints(0)),
    }
    kinds = {"query": DataType.FLOAT, "limited": DataType.BOOL, "unknown": DataType.BOOL}
    outputs = []
    for name, value in made.items():
        output = ir.val(name, kinds.get(name, DataType.INT64), ["B", None] if name not in FLAGS else ["B"])
        graph.tape.op("Identity", [value], output=output)
        outputs.append(output)
    return graph.closed(inputs.values(), outputs, body)


class _Wrapper(Nodes):
    """Adds the nodes before and after the model."""

    def __init__(self, graph: ir.Graph, kind: IdKind) -> None:
        super().__init__(graph)
        self.kind = kind

    def read(
        self,
        inputs: Mapping[str, Value],
        fields: Sequence[str],
        max_len: int | None,
        item_ids: Sequence[str],
        user_ids: Mapping[str, int],
        codes: RawCodes,
    ) -> tuple[Value, dict[str, Value]]:
        """The whole history (B, L) in indices, and what the model reads of a request, by field."""
        history = self.encode(inputs["history"], item_ids)
        given = {**inputs, "history": history}
        if "user" in fields:
            given["user"] = self.lookup(
                inputs["user"], [*user_ids] or [str(PADDING[self.kind])], [*user_ids.values()] or [0], 0
            )
        if "history_event" in fields:
            given["history_event"] = self.event_codes(inputs["history_event"], codes.events)
        if "context" in fields:
            given["context"] = self.context_codes(inputs["context"], codes.context)
        read = [name for name in fields if name in ("history", "history_time", "history_event")]
        if read:
            column, blank = self.columns(history, max_len)
            given |= {name: self.compact(given[name], column, blank) for name in read}
        return history, given

    def known(self, given: Mapping[str, Value], fields: Sequence[str]) -> Value | None:
        """The largest known index of a request, (B,), 0 = cold-start; None where every user has the same scores."""
        signs = [given["history"]] if "history" in fields else []
        if "user" in fields:
            signs.append(self.op("Unsqueeze", given["user"], self.vector(1)))
        if not signs:
            return None
        table = self.op("Concat", *signs, axis=1) if len(signs) > 1 else signs[0]
        return self.op("ReduceMax", table, self.vector(1), keepdims=0)

    def closed(self, inputs: Iterable[Value], outputs: Sequence[Value], body: ir.Model) -> ir.Model:
        """The model with these inputs and outputs."""
        body.graph.inputs[:], body.graph.outputs[:] = list(inputs), outputs
        body.graph.opset_imports.update(OPSETS)
        body.graph.sort()
        return body

    def encode(self, raw: Value, ids: Sequence[str]) -> Value:
        """Raw ids to indices from 1, 0 for unknown ones; the shape stays."""
        return self.lookup(raw, ids or [str(PADDING[self.kind])], list(range(1, len(ids) + 1)) or [0], 0)

    def lookup(self, raw: Value, ids: Sequence[str], values: Sequence[int], default: int) -> Value:
        """The value of each raw id, or the default."""
        keys = {"keys_strings": list(ids)} if self.kind == "string" else {"keys_int64s": [*map(int, ids)]}
        return self.op(
            "LabelEncoder",
            raw,
            domain="ai.onnx.ml",
            **keys,
            values_int64s=list(values),
            default_int64=default,
        )

    def event_codes(self, raw: Value, events: EventCodes | None) -> Value:
        """Codes of (B, L) raw events: text by its place, a value by the number of cuts that it reaches, plus 1.

        What is no event has code 0: other text, NaN, and where numbers are events themselves any other number.
        """
        if not are_values(events):
            return self.words(raw, [] if events is None else events.names)
        assert events is not None
        each = self.op("Unsqueeze", raw, self.vector(2))  # (B, L, 1)
        if events.listed is None:
            known = self.op("Cast", self.op("Not", self.op("IsNaN", raw)), to=DataType.INT64.value)
        else:
            equal = self.op(
                "Equal", each, self.constant(np.array(events.listed, dtype=np.float32))
            )  # (B, L, C + 1)
            known = self.op(
                "ReduceMax", self.op("Cast", equal, to=DataType.INT64.value), self.vector(2), keepdims=0
            )
        cuts = self.constant(np.array(events.cuts, dtype=np.float32))  # (C,)
        reached = self.op("GreaterOrEqual", each, cuts)  # (B, L, C)
        count = self.op(
            "ReduceSum", self.op("Cast", reached, to=DataType.INT64.value), self.vector(2), keepdims=0
        )
        return self.op("Mul", self.op("Add", count, self.ints(1)), known)

    def context_codes(self, raw: Value, fields: Sequence[ContextField]) -> Value:
        """Codes of (B, F) raw fields of the request, each by its own values."""
        columns = [
            self.words(self.op("Gather", raw, self.vector(place), axis=1), field.values)  # (B, 1)
            for place, field in enumerate(fields)
        ]
        return self.op("Concat", *columns, axis=1)

    def words(self, raw: Value, known: Sequence[str]) -> Value:
        """Places of text in a list, from 1; 0 where it is not there. The shape stays."""
        keys, places = (known, range(1, len(known) + 1)) if known else ([""], range(1))
        return self.op(
            "LabelEncoder",
            raw,
            domain="ai.onnx.ml",
            keys_strings=list(keys),
            values_int64s=list(places),
            default_int64=0,
        )

    def given(self, raw: Value) -> Value:
        """Whether a row of (B, any) raw ids holds one that is no padding, known or not: (B,) bool."""
        one = self.lookup(raw, [str(PADDING[self.kind])], [0], 1)
        return self.op("Greater", self.op("ReduceSum", one, self.vector(1), keepdims=0), self.ints(0))

    def columns(self, history: Value, max_len: int | None) -> tuple[Value, Value]:
        """Where each known item of a (B, L) history goes: (B, L) columns from 1 to W, and (B, W + 1) zeros.

        The last known item goes to W, the one before it to W - 1; what is unknown or too old goes to 0.
        """
        rows = self.op("Shape", history, start=0, end=1)
        if max_len is None:  # two more, so that no width is 0 or 1, which torch takes for special
            room = self.op("Add", self.op("Shape", history, start=1, end=2), self.vector(3))
        else:
            room = self.vector(max_len + 1)
        known = self.op("Min", history, self.ints(1))
        place = self.op("CumSum", known, self.ints(1), reverse=1)  # 1 = the most recent known one
        column = self.op("Max", self.op("Mul", self.op("Sub", room, place), known), self.ints(0))
        return column, self.op("Expand", self.ints(0), self.op("Concat", rows, room, axis=0))

    def compact(self, values: Value, column: Value, blank: Value) -> Value:
        """Move the values (B, L) to their columns from 1, and drop column 0: (B, W), zeros on the left."""
        filled = self.op("ScatterElements", blank, column, values, axis=1)
        return self.op("Slice", filled, self.vector(1), self.vector(np.iinfo(np.int64).max), self.vector(1))

    def feed(self, given: Sequence[Value], rows: Value, num_items: int) -> Value:
        """Put values in the place of the graph's inputs, in order; return its (B, N) scores, float32."""
        for old, new in zip(self.graph.inputs, given, strict=True):
            ir.convenience.replace_all_uses_with(old, new)
        scores = self.graph.outputs[0]
        if scores.dtype != DataType.FLOAT:
            scores = self.op("Cast", scores, to=DataType.FLOAT.value)
        if given:
            return scores
        batch = self.op("Shape", rows, start=0, end=1)  # the same scores for every user
        return self.op("Expand", scores, self.op("Concat", batch, self.vector(num_items), axis=0))

    def hidden(self, indices: Sequence[Value]) -> Pair:
        """Columns (B, H) of the items in tables of (B, any) indices, and the most that each may score.

        Index 0 becomes -1, the last column, where at most +inf changes nothing.
        """
        index = self.op("Concat", *indices, axis=1)
        real = self.op("Greater", index, self.ints(0))
        most = self.op("Where", real, self.constant(BELOW), self.constant(-BELOW))
        return self.op("Sub", index, self.ints(1)), most

    def left(self, scores: Value, hidden: Pair) -> Value:
        """Scores without what is hidden: (B, N)."""
        return self.op("ScatterElements", scores, *hidden, axis=1, reduction="min")

    def top(self, scores: Value, within: Value) -> Pair:
        """The largest of (B, N) scores, and their columns: two (B, k)."""
        best, place = ir.val(self.name("best")), ir.val(self.name("place"))
        self.tape.op_multi_out("TopK", [scores, within], {"axis": 1}, outputs=[best, place])
        return best, place

    def usual(self, known: Value | None, allowed: Value) -> list[Value]:
        """(1,) flags that all hold where a top-k of the scores is enough: no allowed items, no cold-start user."""
        flags = [self.op("Equal", self.op("Shape", allowed, start=1, end=2), self.ints(0))]
        if known is not None:
            flags.append(self.op("Greater", self.op("ReduceMin", known, keepdims=1), self.ints(0)))
        return flags

    def best(
        self, left: Value, k: Value, usual: Sequence[Value], limits: Callable[[], ListLimits], num_items: int
    ) -> Pair:
        """The k largest scores and their columns, two (B, k), -inf where nothing is left.

        Most requests need a top-k and nothing else; what the others need is in a branch that those pass by.

        Args:
            left: (B, N) scores without what is hidden.
            k: (1,) as it is asked for.
            usual: (1,) flags; where all hold, `limits` need not be looked at.
            limits: makes nodes.
            num_items: N.
        """
        within = self.op("Clip", k, self.ints(0), self.ints(num_items))
        condition = self.op("Equal", k, within)
        for flag in usual:
            condition = self.op("And", condition, flag)

        def others() -> Pair:
            asked = self.op("Max", k, self.vector(0))  # TopK and Pad refuse what is negative
            missing = self.op("Sub", asked, within)
            pads = self.op("Concat", self.ints(0, 0, 0), missing, axis=0)
            scores, places = self.anew(left, limits(), within)
            return self.op("Pad", scores, pads, self.constant(BELOW)), self.op("Pad", places, pads)

        return self.branch(condition, lambda: self.top(left, k), others)

    def anew(self, left: Value, some: ListLimits, within: Value) -> Pair:
        """The best k, two (B, k): of cold-start users by popularity, of limited rows among the allowed items.

        Only those u rows are ranked again, if there are any: to choose between two (B, N) tables would cost as much
        as the top-k.

        Args:
            left: (B, N) scores without what is hidden.
            some: the limits.
            within: k, at most N.
        """
        best, limited = self.top(left, within), some.allowed[1]
        which = limited if some.unknown is None else self.op("Or", some.unknown, limited)
        any_of_them = self.op("ReduceMax", self.op("Cast", which, to=DataType.INT64.value), keepdims=0)

        def again() -> Pair:
            rows = self.op("Transpose", self.op("NonZero", which))  # (u, 1)
            return self.replaced(best, self.top(self.others(left, some, rows), within), rows)

        def same() -> Pair:
            return self.op("Identity", best[0]), self.op("Identity", best[1])

        return self.branch(self.op("Cast", any_of_them, to=DataType.BOOL.value), again, same)

    def others(self, left: Value, some: ListLimits, rows: Value) -> Value:
        """(u, N) scores of the (u, 1) rows that are ranked again; `left` holds those of all rows."""
        only, limited = some.allowed
        scores = self.op("GatherND", left, rows)
        if some.unknown is not None:
            theirs = self.op("Where", self.flags(some.unknown, rows), some.popularity, scores)
            column, most = (self.op("GatherND", part, rows) for part in some.hidden)
            scores = self.left(theirs, (column, most))
        most = self.op(
            "Where", self.flags(limited, rows), self.constant(BELOW), self.constant(-BELOW)
        )  # (u, 1)
        size = self.op("Add", self.op("Shape", left, start=1, end=2), self.vector(1))
        wide = self.op("Concat", self.op("Shape", rows, start=0, end=1), size, axis=0)
        most = self.op("Expand", most, wide)  # (u, N + 1): column 0 takes what is unknown
        named = self.op("GatherND", only, rows)  # (u, A)
        free = self.op("Expand", self.constant(-BELOW), self.op("Shape", named))
        most = self.op("ScatterElements", most, named, free, axis=1)
        most = self.op("Slice", most, self.vector(1), self.vector(np.iinfo(np.int64).max), self.vector(1))
        return self.op("Min", scores, most)

    def flags(self, flags: Value, rows: Value) -> Value:
        """The (B,) flags at (u, 1) rows: (u, 1)."""
        return self.op("Unsqueeze", self.op("GatherND", flags, rows), self.vector(1))

    def replaced(self, best: Pair, theirs: Pair, rows: Value) -> Pair:
        """Lists (B, k) with the (u, 1) rows replaced by (u, k)."""
        scores, places = (
            self.op("ScatterND", every, rows, some) for every, some in zip(best, theirs, strict=True)
        )
        return scores, places

    def lists(self, best: Pair, item_ids: Sequence[str], outputs: Sequence[Port]) -> list[Value]:
        """Raw ids and scores (B, k), '' and -inf where fewer than k are left."""
        real = self.op("Greater", best[0], self.constant(BELOW))
        row = self.op("Where", real, best[1], self.ints(len(item_ids)))
        ids, score = map(_value, outputs)
        self.tape.op("Gather", [self.table(item_ids), row], output=ids)
        self.tape.op("Identity", [best[0]], output=score)
        return [ids, score]

    def table(self, item_ids: Sequence[str]) -> Value:
        """(N + 1,) raw ids by column; column N is padding."""
        if self.kind == "integer":
            return self.constant(np.array([*map(int, item_ids), PADDING["integer"]], dtype=np.int64))
        raw = [*(value.encode() for value in item_ids), b""]  # a node, as strings cannot lie in a data file
        return self.op("Constant", value=ir.StringTensor(raw, shape=ir.Shape([len(raw)])))


def _value(port: Port) -> Value:
    return ir.val(port.name, TYPES[port.type], port.shape)
