"""`recloom recommend`: for a user, for a history typed on the command line, for all users, or for a file of them."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from ..command import command
from ..errors import RecloomError
from ..io import whole_file, writable
from ..llm import LLMCallOptions

if TYPE_CHECKING:
    from ..schemas import Recommendation
    from .run import Run


@command("recommend")
def recommend_command(
    run: str | None = None,
    *,
    artefact: str | None = None,
    history: list[str] | None = None,
    events: list[str] | None = None,
    users: list[str] | None = None,
    all: bool = False,
    k: int = 10,
    exclude: list[str] | None = None,
    out: str | None = None,
    data: str | None = None,
    llm: LLMCallOptions = LLMCallOptions(),  # noqa: B008 - frozen
) -> None:
    """Recommend items with a trained run.

    With --artefact it is `recloom batch`, which has more options: an exported file instead of a run, and the
    Parquet file of requests that --users names.

    Args:
        run: folder of the run, or a checkpoint.
        artefact: an exported .onnx file, instead of a run; needs recloom-onnx.
        history: item ids or titles, most recent last, such as --history "Toy Story (1995)" 296.
        events: what happened with each item of --history, such as its rating, for models that read it.
        users: raw ids of users in the run's data; with --artefact a Parquet file of requests.
        all: recommend to every user of the run's data; needs --out.
        k: how many items.
        exclude: item ids or titles never to recommend.
        out: Parquet file to write instead of printing.
        data: folder of the dataset, where it is not where the run was trained from.
        llm: ledger, limits and the rest, for a run that asks a language model.
    """
    if artefact is not None:
        files = users or []
        if run or history is not None or all or data or len(files) != 1 or not out:
            raise RecloomError(
                "--artefact takes one file of requests and writes one of lists: "
                "recloom recommend --artefact model.onnx --users users.parquet --out lists.parquet"
            )
        _refuse_options_of_runs(events, llm)
        from .artefacts import artefacts_of

        exported = artefacts_of(Path(artefact), "--artefact")
        exported.recommend(Path(artefact), Path(files[0]), Path(out), k=k, exclude=exclude or ())
        return
    if run is None:
        raise RecloomError(
            "say with what: a run (recloom recommend RUN ...), or --artefact with an exported file"
        )
    if sum((history is not None, users is not None, all)) != 1:
        raise RecloomError("say for whom: exactly one of --history, --users and --all")
    if users is not None and not users:
        raise RecloomError(
            "--users needs raw ids of users, such as --users 17 23; found none. To recommend to every user: --all."
        )
    if events is not None and history is None:
        raise RecloomError("--events says what happened with the items of --history; give both")
    if all and not out:
        raise RecloomError("--all recommends to every user; name the Parquet file with --out FILE")
    from .run import load

    if out:
        writable(Path(out))
    loaded = load(run, data=data, llm=llm)
    if all:
        _write_all(loaded, k, exclude or [], str(out))
        return
    names = users or ["your history"]
    if users:
        answers = loaded.recommend_users(users, k=k, exclude=exclude or ())
    else:
        answers = [loaded.recommend(history, events=events, k=k, exclude=exclude or ())]
    if out:
        import polars as pl

        rows = [
            {"user_id": name, **item.model_dump(), "rank": rank}
            for name, items in zip(names, answers, strict=True)
            for rank, item in enumerate(items, 1)
        ]
        with whole_file(out) as partial:
            pl.DataFrame(rows).write_parquet(partial)
        print(f"wrote {out}")
    else:
        _print(names, answers)
    _print_usage(loaded)


def _refuse_options_of_runs(events: list[str] | None, llm: LLMCallOptions) -> None:
    plain = LLMCallOptions()
    given = ["--events"] if events is not None else []
    given += [
        f"--llm.{field.name}"
        for field in fields(llm)
        if getattr(llm, field.name) != getattr(plain, field.name)
    ]
    if given:
        raise RecloomError(
            f"--artefact does not take {', '.join(given)}: an exported file sends no requests to a language model, and "
            "reads events from the file of requests that --users names. Leave it out."
        )


def _print_usage(loaded: Run) -> None:
    if loaded.module.usage is not None:
        print(loaded.module.usage)


def _print(names: list[str], answers: list[list[Recommendation]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..terminal import plain

    for name, items in zip(names, answers, strict=True):
        table = Table(title=plain(f"for {name}"), title_justify="left", box=None, pad_edge=False)
        for column in ("rank", "item", "title", "score"):
            table.add_column(
                column, justify="right" if column in ("rank", "score") else "left", overflow="fold"
            )
        for rank, item in enumerate(items, 1):
            table.add_row(str(rank), plain(item.item_id), plain(item.title), f"{item.score:.3f}")
        Console().print(table)


def _write_all(loaded: Run, k: int, exclude: list[str], out: str) -> None:
    import pyarrow.parquet as pq

    from ..progress import Progress

    if not loaded.catalog.num_users:
        raise RecloomError("the run knows no users, so there is nobody to recommend to")
    writer = None
    with (
        whole_file(out) as partial,
        contextlib.ExitStack() as stack,
        Progress("recommending", loaded.catalog.num_users) as progress,
    ):
        for table in loaded.recommend_all(k, exclude=exclude):
            arrow = table.to_arrow()
            writer = writer or stack.enter_context(pq.ParquetWriter(partial, arrow.schema))
            writer.write_table(arrow)
            progress.advance(table["user_id"].n_unique())
    print(f"wrote {out}")
    _print_usage(loaded)
