"""`recloom graph embed`: vectors of nodes, from a dataset or a file of edges to what a recommender reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from recloom.command import command
from recloom.errors import RecloomError
from recloom.schemas import SplitSpec

if TYPE_CHECKING:
    from .link_prediction import LinkEmbedding
    from .skip_gram import SkipGram
    from .sources import Source


Method = Literal["node2vec", "deepwalk", "link"]
Kind = Literal["bipartite", "co-occurrence", "sessions"]


OF_WALKS = {"walk_length", "walks", "context", "negatives"}
OWN = {"node2vec": OF_WALKS | {"p", "q"}, "deepwalk": OF_WALKS, "link": {"held_out", "resample"}}
"""Options that some methods have and others lack."""
EPOCHS = {"node2vec": 5, "deepwalk": 5, "link": 500}
STEPS = 1000
"""Enough for `link`, so that graphs whose epochs take several steps are trained for fewer epochs."""


@command("graph embed")
def embed(
    source: Path,
    *,
    method: Method = "node2vec",
    out: Path | None = None,
    users_out: Path | None = None,
    graph: Kind = "bipartite",
    gap: float | None = None,
    split: SplitSpec = SplitSpec(),  # noqa: B008 - frozen
    split_path: Path | None = None,
    first: int | None = None,
    directed: bool = False,
    weighted: bool = True,
    relations: list[str] | None = None,
    dim: int | None = None,
    p: float | None = None,
    q: float | None = None,
    walk_length: int | None = None,
    walks: int | None = None,
    context: int | None = None,
    negatives: int | None = None,
    held_out: float | None = None,
    resample: bool = True,
    epochs: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Learn vectors of nodes from a graph alone: of the items and users of a dataset, or of a file of edges.

    Of a dataset only training rows are edges, and a fit on another split refuses the vectors. Give those of items
    to `recloom fit --model SASRec --model.recommender.item_input id+vector` with `--data.vectors OUT`. Files are
    written whole at the end; an interrupted training leaves none and starts anew.

    Args:
        source: a prepared dataset, or a file of edges as `recloom graph pagerank` takes it.
        method: `node2vec` and `deepwalk` learn from random walks, and are equal where p = q = 1; `link` separates
            edges from non-edges, and reports its AUC on held-out edges.
        out: Parquet file of ids and vectors; by default `items-METHOD.parquet` in the dataset, `FILE-METHOD.parquet`
            beside a file.
        users_out: also write the vectors of users to this Parquet file, for `--data.user_vectors`.
        graph: of a dataset: `bipartite` (users and items), or items alone: `co-occurrence` (of the same users)
            or `sessions` (one after the other).
        gap: seconds between two items of a session, by default 1800; places, where the data have no times.
        split: how interactions are divided, as in training.
        split_path: folder written by `recloom data split`, used instead of `split`.
        first: only the first min((n + 1) // 2, FIRST) of a user's n training rows are edges, so that a click model
            may learn from the rest with `--data.known_first`.
        directed: of a file: walks follow the edges one way only; `link` has no direction.
        weighted: of a file: a column of weights counts; for `link` it does not.
        relations: of a file: only edges of these relations, by default all.
        dim: size of a vector, by default 128, for `link` 16.
        p: how unlikely a walk returns at once, by default 1.
        q: how unlikely a walk moves away from where it was, by default 1; a large one stays near.
        walk_length: nodes of a walk, by default 40 (OGB: 80).
        walks: from each node in an epoch, by default 10.
        context: nodes of the windows within which nodes of a walk belong together, by default 10 (OGB: 20).
        negatives: negative nodes of each such pair, by default 5.
        held_out: share of the edges that `link` is measured on and not shown, by default 0.1.
        resample: whether `link` draws its non-edges anew in every epoch, as the course does not.
        epochs: by default 5; for `link` 500, or as many as take 1,000 steps where these are fewer.
        lr: step size, by default 0.01 of Adam; of SGD for `link`, 0.1, and more the more nodes there are.
        seed: the same one gives the same vectors.
        overwrite: replace existing files.
    """
    walked = {"p": p, "q": q, "walk_length": walk_length, "walks": walks, "context": context}
    given = {
        **walked,
        "negatives": negatives,
        "held_out": held_out,
        "resample": None if resample else False,
        "dim": dim,
        "lr": lr,
    }
    chosen = {name: value for name, value in given.items() if value is not None} | {"seed": seed}
    _refuse_idle(method, chosen)
    of_dataset = {
        "graph": graph != "bipartite", "gap": gap is not None, "split": split != SplitSpec(),
        "split_path": split_path is not None, "first": first is not None, "users_out": users_out is not None,
    }  # fmt: skip
    of_file = {"directed": directed, "weighted": not weighted, "relations": relations is not None}
    _refuse_foreign(source, of_dataset, of_file)
    _check(graph, gap, users_out, epochs, first)
    from recloom.io import writable

    target = out or _beside(source, method)
    writable(target, endings=(".parquet",), overwrite=overwrite)
    if users_out is not None:
        writable(users_out, "--users-out", endings=(".parquet",), overwrite=overwrite)
        if users_out.resolve() == target.resolve():
            raise RecloomError(f"--users-out and --out both name {target}; choose two files")

    from . import sources

    if source.is_dir():
        made = sources.of_dataset(source, graph, split, split_path, gap or sources.GAP, first)
    else:
        made = sources.of_file(source, directed, weighted, tuple(relations or ()))
    targets = {"user_id": users_out, "item_id": target, "node": target}
    _learn(source, method, made, chosen, epochs, targets)
    if source.is_dir():
        print(_next(source, target, users_out, split, split_path, first))


def _learn(
    source: Path,
    method: Method,
    made: Source,
    chosen: dict[str, Any],
    epochs: int | None,
    targets: dict[str, Path | None],
) -> None:
    """Train, print the losses and neighbours, and write the files."""
    import torch

    from .results import heading, link_lines, losses_line, show_neighbours, write_vectors
    from .training import train

    embedding = _embedding(method, made, chosen)
    epochs = epochs or usual_epochs(method, len(embedding.batches))
    print(f"{heading(source.name, made)}\n{method}, {epochs:,} epochs", flush=True)
    losses = train(embedding, epochs)
    print(losses_line(losses))
    if method == "link":
        print(link_lines(embedding))  # type: ignore[arg-type]
    vectors, known = embedding.vectors(), embedding.known
    begins, ends, _ = made.graph.edges()
    degree = torch.bincount(torch.cat([begins, ends]), minlength=made.graph.num_nodes)
    show_neighbours(made.nodes[-1], degree, vectors, known)
    recipe = {"class_path": type(embedding).__name__, "method": method, "epochs": epochs, **chosen}
    for nodes in made.nodes:
        target = targets[nodes.key]
        if target is not None:
            count = write_vectors(target, nodes, vectors, known, recipe, made.made_of)
            thing = nodes.key.removesuffix("_id")
            print(f"wrote {target}: {count:,} {thing}s, {vectors.shape[1]} numbers each")


def usual_epochs(method: Method, batches: int) -> int:
    """How many are enough, where an epoch has so many batches."""
    return min(EPOCHS[method], -(-STEPS // batches)) if method == "link" else EPOCHS[method]


def _embedding(method: Method, made: Source, chosen: dict[str, Any]) -> SkipGram | LinkEmbedding:
    if method == "link":
        from .link_prediction import LinkEmbedding

        sides = made.nodes[-1].first or None  # where there are users, they come before the items
        return LinkEmbedding(made.graph, sides=sides, **chosen)
    from .skip_gram import SkipGram

    return SkipGram(made.graph, **chosen)


def _refuse_idle(method: Method, chosen: dict[str, Any]) -> None:
    """Raise RecloomError for an option that the method lacks."""
    every = set().union(*OWN.values())
    idle = [name for name in chosen if name in every - OWN[method]]
    if idle:
        able = " and ".join(name for name, own in OWN.items() if idle[0] in own)
        raise RecloomError(
            f"{_flag(idle[0])} has no effect on --method {method}; it belongs to {able}. Leave it out."
        )


def _refuse_foreign(source: Path, of_dataset: dict[str, bool], of_file: dict[str, bool]) -> None:
    """Raise RecloomError for a source that is not there, or for an option of the other kind of source."""
    if not source.exists():
        raise RecloomError(f"{source} does not exist; expected a prepared dataset or a file of edges")
    foreign = [name for name, given in (of_file if source.is_dir() else of_dataset).items() if given]
    if foreign:
        found, belongs = ("folder", "files of edges") if source.is_dir() else ("file", "prepared datasets")
        raise RecloomError(f"{_flag(foreign[0])} is for {belongs}, and {source} is a {found}. Leave it out.")


def _check(
    graph: Kind, gap: float | None, users_out: Path | None, epochs: int | None, first: int | None
) -> None:
    from recloom.errors import at_least

    at_least(1, epochs=epochs, first=first)
    if gap is not None and graph != "sessions":
        raise RecloomError(f"--gap is for --graph sessions; found --graph {graph}")
    if gap is not None and not gap > 0:
        raise RecloomError(f"--gap must be above 0; found {gap}")
    if users_out is not None and graph != "bipartite":
        raise RecloomError(f"--graph {graph} has no users; --users-out needs --graph bipartite")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _beside(source: Path, method: Method) -> Path:
    if source.is_dir():
        return source / f"items-{method}.parquet"
    return source.with_name(f"{source.stem}-{method}.parquet")


def _next(
    data: Path, items: Path, users: Path | None, split: SplitSpec, split_path: Path | None, first: int | None
) -> str:
    """The command that reads what was written, on the same split."""
    from recloom.next_steps import split_words, then

    fit = then(
        "fit", "--model", "SASRec", "--model.recommender.item_input", "id+vector", "--data", data,
        *split_words(split, split_path), "--data.vectors", items,
    )  # fmt: skip
    if users is None:
        return fit
    known = f" --data.known_first {first}" if first else ""
    reads = "KAR and RLMRec read" if first else "RLMRec reads, and KAR with --first,"
    return f"{reads} vectors of users:{known} --data.user_vectors {users}\n{fit}"
