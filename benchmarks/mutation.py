"""Which one-line mistakes in the formulas would the tests not see? Mutation of losses, metrics, split and selection.

    OMP_NUM_THREADS=1 python benchmarks/mutation.py            draws, runs what has no outcome yet, writes mutation.json
    OMP_NUM_THREADS=1 python benchmarks/mutation.py --again    the survivors once more, after a test was added

400 mutants are drawn with a fixed seed, as many from each stratum as it has, up to an equal share, and of its kinds of
change in turn; NAMED are mistakes that were once made or nearly made, and always run. A mutant is a changed expression
or statement of the source, which a forked process has in place of the file; nothing on disk is changed. The parent has
imported torch and Lightning; a child of it collects the nearest tests of a file (STRATA), and a child of that runs them
with the code of one mutant put into the functions that were imported. Where it does not fit into them, an import hook
gives it to a new process. mutmut and cosmic-ray start a new process for each mutant, or change a copy of the project,
and draw no stratified sample.

Outcomes are kept in .data/mutation.jsonl, one a line, and a run goes on where it was ended. A survivor that no test can
kill has a sentence in mutation_equivalent.json.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import importlib.util
import json
import os
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mutant_tests import ROOT, Collected, Finder, forked, imported, outcome_of
from mutants import CORE, GRAPH, NAMED, Mutant, Source, changes

HERE = Path(__file__).resolve().parent
DRAWN, SEED = 400, 14


_GRAPH_LOSSES = tuple(f"tests/graph/losses/test_{name}.py" for name in ("references", "contrast", "rlmrec"))
_SELECTION = ("tests/core/fitting/test_selection.py",)
STRATA: dict[str, tuple[Source, ...]] = {
    "losses": (
        Source(CORE + "losses.py", ("tests/core/test_losses.py", "tests/core/test_loss_contract.py")),
    ),
    "contrast": (
        Source(GRAPH + "losses/contrast.py", _GRAPH_LOSSES[:2]),
        Source(GRAPH + "models/propagation.py", _GRAPH_LOSSES[:2]),
    ),
    "info_nce": (Source(GRAPH + "losses/info_nce.py", _GRAPH_LOSSES),),
    "rlmrec": (Source(GRAPH + "losses/rlmrec.py", (_GRAPH_LOSSES[0], _GRAPH_LOSSES[2])),),
    "lightgcn": (
        Source(GRAPH + "models/lightgcn.py", ("tests/graph/models/test_lightgcn.py", *_GRAPH_LOSSES)),
    ),
    "ranking": (
        Source(
            CORE + "training/ranking.py",
            ("tests/core/training/test_ranking.py", "tests/core/training/test_retrieved_lists.py"),
        ),
    ),
    "split": (
        Source(
            CORE + "data/split.py",
            (
                "tests/core/data/test_split.py",
                "tests/core/data/test_split_digests.py",
                "tests/core/data/test_times.py",
            ),
        ),
    ),
    "metrics": (
        Source(
            CORE + "metrics/functional.py",
            (
                "tests/core/test_functional.py",
                "tests/core/test_metrics.py",
                "tests/core/evaluation/test_lists.py",
            ),
        ),
    ),
    "checkpoint": (
        Source(
            CORE + "training/checkpoint.py",
            ("tests/core/training/test_checkpoint.py", "tests/core/training/test_moved_runs.py"),
        ),
    ),
    "selection": (
        Source(
            CORE + "fitting/lightning_cli.py",
            _SELECTION,
            ("_watch", "add_arguments_to_parser", "how_far", "seed_of"),
        ),
        Source(CORE + "fitting/fit.py", _SELECTION, ("watched",)),
        Source(
            CORE + "fitting/task_cli.py",
            _SELECTION,
            ("watched",),
        ),
        Source(CORE + "run_folder.py", _SELECTION, ("best_checkpoint", "checkpoint_of")),
        Source(
            GRAPH + "property/node_property.py",
            ("tests/graph/property/test_node_labels.py",),
            ("training_step", "validation_step", "test_step", "_measure", "accuracy"),
        ),
    ),
}


def mutants_of(stratum: str, source: Source) -> list[Mutant]:
    """All that the operators make of a file."""
    text = (ROOT / source.path).read_text(encoding="utf-8")
    tree = ast.parse(text)
    starts = [0, *(at + 1 for at, letter in enumerate(text.encode()) if letter == 10)]

    def place(node: Any) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    found, seen = [], Counter[str]()
    for where, node, kind, after in changes(tree, source.only):
        start, stop = place(node)
        before = text.encode()[start:stop].decode()
        if not compiles(text.encode()[:start] + after.encode() + text.encode()[stop:]):
            continue
        name = f"{source.path}|{where}|{kind}|{ast.unparse(node)}|{after}"
        seen[name] += 1
        key = hashlib.sha256(f"{name}|{seen[name]}".encode()).hexdigest()[:10]
        found.append(Mutant(key, stratum, source.path, node.lineno, kind, before, after, start, stop))
    return found


def compiles(text: bytes) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def drawn(count: int, seed: int) -> list[Mutant]:
    """Of each stratum its share of `count`; what a small one lacks is spread over the others."""
    pools = {
        name: sorted(
            (mutant for source in sources for mutant in mutants_of(name, source)),
            key=lambda one: hashlib.sha256(f"{seed}|{one.id}".encode()).hexdigest(),
        )
        for name, sources in STRATA.items()
    }
    for pool in pools.values():
        rank = Counter[str]()
        order = {one.id: rank.update([one.kind]) or rank[one.kind] for one in pool}
        pool.sort(key=lambda one: order[one.id])  # one of each kind, then a second of each: sorting is stable
    chosen: list[Mutant] = []
    for left, name in zip(
        range(len(pools), 0, -1), sorted(pools, key=lambda one: len(pools[one])), strict=True
    ):
        chosen += pools[name][: round((count - len(chosen)) / left)]
    return chosen


def named() -> list[Mutant]:
    """NAMED as mutants; an entry that no longer occurs in its file is an error."""
    stratum = {source.path: name for name, sources in STRATA.items() for source in sources}
    found = []
    for file, before, after in NAMED:
        text = (ROOT / file).read_text(encoding="utf-8")
        start = text.index(before)
        key = "named-" + hashlib.sha256(f"{file}|{before}|{after}".encode()).hexdigest()[:10]
        place, line = len(text[:start].encode()), text[:start].count("\n") + 1
        found.append(
            Mutant(
                key, stratum[file], file, line, "named", before, after, place, place + len(before.encode())
            )
        )
    return found


def warm() -> None:
    """Import what takes long; none of the mutated modules is among it."""
    from recloom.cli.deferred_imports import defer_heavy_imports

    defer_heavy_imports()
    import torch

    for name in [
        "jsonargparse",
        "lightning.pytorch.cli",
        "polars",
        "pyarrow",
        "pytest",
        "scipy.sparse",
        "torch_geometric.nn",
        "torch.onnx._internal.exporter._registration",
        "torch.onnx._internal.exporter._decomp",
    ]:
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)
    torch.set_num_threads(1)
    mutated = {Finder(ROOT / source.path, b"").name for sources in STRATA.values() for source in sources}
    assert not mutated & set(sys.modules), mutated & set(sys.modules)


def main() -> None:
    parser = argparse.ArgumentParser(description="mutation run over the formulas")
    parser.add_argument("--count", type=int, default=DRAWN)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--log", type=Path, default=HERE / ".data" / "mutation.jsonl", help="outcomes so far, one a line"
    )
    parser.add_argument("--out", type=Path, default=HERE / "mutation.json")
    parser.add_argument("--again", action="store_true", help="run survivors without a sentence once more")
    parser.add_argument("--strata", nargs="*", default=list(STRATA), help="only these")
    given = parser.parse_args()
    sentences = json.loads((HERE / "mutation_equivalent.json").read_text(encoding="utf-8"))
    by_path = {source.path: source for sources in STRATA.values() for source in sources}
    texts = {
        path: (ROOT / path).read_bytes() for path in by_path
    }  # as they are drawn from, whatever happens to them
    todo = [*named(), *drawn(given.count, given.seed)]
    outcomes = read(given.log)
    waiting: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in todo:
        known = outcomes.get(mutant.id, {}).get("outcome")
        again = given.again and known == "survived" and mutant.id not in sentences
        if mutant.stratum in given.strata and (known is None or again):
            waiting[mutant.file].append(mutant)
    if waiting:
        warm()
    given.log.parent.mkdir(exist_ok=True)
    for file, mutants in waiting.items():
        run_file(by_path[file], texts[file], mutants, given.log, sentences)
    outcomes = read(given.log)
    write(given.out, given.seed, [outcomes[one.id] for one in todo if one.id in outcomes], sentences)


def read(log: Path) -> dict[str, dict[str, Any]]:
    """The last outcome of each mutant by its id."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    return {one["id"]: one for one in map(json.loads, lines)}


def run_file(
    source: Source, text: bytes, mutants: list[Mutant], log: Path, sentences: dict[str, str]
) -> None:
    """Run the nearest tests on all mutants of a file, and add their outcomes to the log."""
    shown, began = os.dup(1), time.monotonic()

    def tell(mutant: Mutant, outcome: str, seconds: float) -> None:
        line = json.dumps(asdict(mutant) | {"outcome": outcome, "seconds": round(seconds, 2)})
        with log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        if outcome == "survived" and mutant.id not in sentences:
            place = f"{mutant.file.rpartition('/')[2]}:{mutant.line}"
            os.write(
                shown,
                f"  {mutant.id} {place} {mutant.kind}: {mutant.before!r} -> {mutant.after!r}\n".encode(),
            )

    collected = Collected(source, text, mutants, tell)
    together = outcome_of(forked(lambda: imported(source.path, text, source.tests, [collected])), 10**6)
    left = [mutant for mutant in mutants if mutant.id not in read(log)]
    if together != "survived" and len(left) == len(mutants):
        raise SystemExit(f"the tests of {source.path} do not pass on the file as it is: {source.tests}")
    for mutant in left:
        start = time.monotonic()
        tell(mutant, outcome_of(forked(lambda one=mutant: imported(source.path, one.of(text), source.tests)), 300),
             time.monotonic() - start)  # fmt: skip
    os.close(shown)
    print(f"{source.path}: {len(mutants)} mutants, {time.monotonic() - began:.0f} s", flush=True)


def write(path: Path, seed: int, results: list[dict[str, Any]], sentences: dict[str, str]) -> None:
    """The summary: counts of every stratum, the survivors, and what no test can tell apart."""
    equivalent = [one for one in results if one["outcome"] == "survived" and one["id"] in sentences]
    survivors = [one for one in results if one["outcome"] == "survived" and one["id"] not in sentences]
    shown = ("id", "file", "line", "kind", "before", "after")
    strata = {
        name: {
            "mutants": sum(one["stratum"] == name for one in results),
            "equivalent": sum(one["stratum"] == name for one in equivalent),
            "survived": sum(one["stratum"] == name for one in survivors),
        }
        for name in STRATA
    }
    real = len(results) - len(equivalent)
    summary = {
        "seed": seed,
        "mutants": len(results),
        "named": sum(one["kind"] == "named" for one in results),
        "timeouts": sum(one["outcome"] == "timeout" for one in results),
        "equivalent": len(equivalent),
        "survived": len(survivors),
        "share_survived": round(len(survivors) / max(1, real), 4),
        "strata": strata,
        "survivors": [{key: one[key] for key in shown} for one in survivors],
        "equivalents": [
            {key: one[key] for key in shown} | {"why": sentences[one["id"]]} for one in equivalent
        ],
    }
    path.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(results)} mutants, {len(equivalent)} equivalent, {len(survivors)} survived")


if __name__ == "__main__":
    main()
