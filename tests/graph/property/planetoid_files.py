"""Writes the files of a small Planetoid set, opcode by opcode as Python 2 wrote them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

NEW = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"


def number(value: int) -> bytes:
    return pickle.BININT + value.to_bytes(4, "little", signed=True)


def text(value: bytes) -> bytes:
    return pickle.BINSTRING + len(value).to_bytes(4, "little") + value


def array(values: np.ndarray) -> bytes:
    kind = values.dtype.kind + str(values.dtype.itemsize)
    shape = b"(" + b"".join(map(number, values.shape)) + b"t"
    dtype = b"cnumpy\ndtype\n" + text(kind.encode()) + b"K\x00K\x01\x87R"
    dtype += b"(K\x03U\x01<NNN" + number(-1) + number(-1) + b"K\x00tb"
    return NEW + b"(K\x01" + shape + dtype + pickle.NEWFALSE + text(values.tobytes()) + b"tb"


def csr(dense: np.ndarray) -> bytes:
    rows, columns = dense.nonzero()
    indptr = np.searchsorted(rows, np.arange(len(dense) + 1)).astype(np.int32)
    parts = {
        b"_shape": b"(" + number(dense.shape[0]) + number(dense.shape[1]) + b"t",
        b"indptr": array(indptr),
        b"indices": array(columns.astype(np.int32)),
        b"data": array(dense[rows, columns].astype(np.float32)),
    }
    state = b"".join(text(name) + value for name, value in parts.items())
    return b"cscipy.sparse.csr\ncsr_matrix\n)\x81}(" + state + b"ub"


def neighbours(found: dict[int, list[int]]) -> bytes:
    rows = (number(node) + b"](" + b"".join(map(number, others)) + b"e" for node, others in found.items())
    return b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(" + b"".join(rows) + b"u"


def whole(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def write(
    folder: Path,
    name: str,
    features: np.ndarray,
    classes: np.ndarray,
    edges: dict[int, list[int]],
    train: int,
    test: list[int],
) -> Path:
    """The eight files; `test` are the test nodes in their order, all after those known."""
    first = min(test)
    one_hot = np.eye(classes.max() + 1, dtype=np.int32)[classes]
    parts = {
        "x": csr(features[:train]), "allx": csr(features[:first]), "tx": csr(features[test]),
        "y": array(one_hot[:train]), "ally": array(one_hot[:first]), "ty": array(one_hot[test]),
        "graph": neighbours(edges),
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    for part, body in parts.items():
        (folder / f"ind.{name}.{part}").write_bytes(whole(body))
    (folder / f"ind.{name}.test.index").write_text("".join(f"{node}\n" for node in test))
    return folder
