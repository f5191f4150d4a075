"""`recloom items add`: a trained run that knows more items, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command import command
from ..errors import RecloomError

if TYPE_CHECKING:
    from .run import Run


@command("items add")
def add_items(
    run: str,
    file: Path,
    *,
    out: Path,
    vectors: list[str] | None = None,
    export: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Give a trained run new items without training, as a new run.

    For recommenders that read texts or vectors of items. Scores of the known items stay as they are; new items come
    after them. A test of the new run ranks them too, as they are served, though nobody in its data has met them.

    Args:
        run: folder of the trained run; it is only read.
        file: the new items: Parquet, CSV, TSV or JSON lines with item_id and columns of the run's items, such as title.
        out: folder of the new run.
        vectors: Parquet file of item_id and vector, made by the encoder of the run's own, where the run reads vectors;
            `text=FILE image=FILE` where it was trained with vectors by name.
        export: also write the new run to this .onnx file, and verify it.
        overwrite: replace a run that stands at --out.
    """
    from ..data.vector_files import named_files
    from ..next_steps import command_line, then
    from ..run_folder import new_folder
    from .artefacts import artefacts_of
    from .new_items import read_new_items
    from .run import load

    exported = None if export is None else artefacts_of(export, "--export")
    if out.resolve() == Path(run).resolve():
        raise RecloomError(f"--out {out} is the run itself, which is only read. Choose another folder.")
    loaded = load(run)
    record = loaded.record  # a run whose fit was interrupted has none
    files = named_files(vectors) if vectors else None
    catalog = loaded.catalog.extended(read_new_items(file, loaded.catalog), files)
    new = catalog.num_items - loaded.catalog.num_items
    with new_folder(out, overwrite=overwrite) as folder:
        loaded.module.extend(catalog)
        write(folder, loaded, record.model_copy(update={"added": [*record.added, _source(run, file, new)]}))
    print(f"{out}: {catalog.num_items:,} items, {new:,} of them new")
    if export is not None and exported is not None:
        exported.export(out, export)
    else:
        other = command_line("export", out, "--out", "FILE.onnx")
        print(f"{then('recommend', out, '--history', 'ITEM')}, or {other}")


def write(folder: Path, run: Run, record: Any) -> None:
    """The files of a run, with the checkpoint of `run` as its module is now."""
    from ..io import write_text
    from ..run_folder import CHECKPOINTS, RECORD, best_checkpoint
    from ..training.checkpoint import AtomicCheckpointIO, read_checkpoint

    old = best_checkpoint(run.folder)
    checkpoint = read_checkpoint(old)
    kept = {name: checkpoint[name] for name in ("epoch", "global_step", "pytorch-lightning_version")}
    kept["state_dict"] = run.module.state_dict()
    run.module.on_save_checkpoint(kept)
    AtomicCheckpointIO().save_checkpoint(kept, folder / CHECKPOINTS / old.name)
    write_text(folder / "config.yaml", (run.folder / "config.yaml").read_text(encoding="utf-8"))
    write_text(folder / RECORD, record.model_dump_json(indent=2) + "\n")


def _source(run: str, file: Path, items: int) -> Any:
    from ..io import sha256
    from ..schemas import Added

    return Added(run=run, file=file.name, sha256=sha256(file), items=items)
