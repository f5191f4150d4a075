"""`recloom batch`, which is also `recloom recommend --artefact`."""

from __future__ import annotations

from typing import Literal

from recloom.command import command


@command("batch")
def batch(
    artefact: str,
    *,
    users: str,
    out: str,
    k: int = 10,
    exclude: list[str] | None = None,
    layout: Literal["rows", "lists"] = "rows",
    max_rejected: float = 0.01,
    restart: bool = False,
    provider: Literal["cpu", "cuda"] = "cpu",
    threads: int | None = None,
) -> None:
    """Recommend with an exported file to all users of a Parquet file.

    Finished parts are kept in OUT.parts, and the same command goes on from them after an interrupt or a kill.

    Args:
        artefact: the .onnx file, verified.
        users: Parquet file with a row for each user (user_id, history, exclude, allow), or a prepared dataset.
        out: Parquet file to write; one that is there is replaced at the end.
        k: how many items.
        exclude: item ids that no list holds.
        layout: `rows` writes one row for each place of a list, `lists` one row for each user.
        max_rejected: share of rejected rows above which nothing is written.
        restart: drop the parts of another task that lie in OUT.parts.
        provider: where the artefact runs, `cpu` or `cuda`.
        threads: threads of onnxruntime; by default as many as it likes.
    """
    from .run import recommend_file

    done = recommend_file(
        artefact,
        users,
        out,
        k=k,
        exclude=exclude or (),
        layout=layout,
        max_rejected=max_rejected,
        restart=restart,
        provider=provider,
        threads=threads,
    )
    counts = done.counts
    if done.resumed:
        print(f"went on from row {done.resumed:,}")
    if counts.rejected:
        print(f"{counts.rejected:,} rows cannot be answered: {done.rejected} says which and why")
    if counts.empty:
        print(f"{counts.empty:,} users have an empty list, because no item is left for them")
    print(
        f"wrote {out}: lists for {counts.requests:,} users in {done.seconds:.1f} s, {done.rate:,.0f} per second"
    )
