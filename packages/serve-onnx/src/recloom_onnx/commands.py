"""`recloom export` and `recloom verify`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from recloom.command import command
from recloom.errors import RecloomError
from recloom.next_steps import then

if TYPE_CHECKING:
    from pathlib import Path

    from recloom.batch import Batch
    from recloom.data.batches import RecDataModule
    from recloom.runs import Run
    from recloom.schemas import Protocol
    from torch.utils.data import Dataset

    from .artifact.manifest import IndexReport, Manifest, Parity

SAMPLE = 1000
"""Requests by which an index is measured."""


@command("export")
def export(
    run: str,
    *,
    out: str = "model.onnx",
    seen: Literal["masked", "kept"] | None = None,
    quantize: Literal["int8", "fp16"] | None = None,
    ids: Literal["string", "integer"] = "string",
    index_above: int | None = None,
    index_recall: float = 0.95,
    max_loss: float = 0.01,
    verify: bool = True,
    data: str | None = None,
    triton: str | None = None,
) -> None:
    """Write a run as one ONNX file from raw ids to raw ids.

    Args:
        run: folder of the run, or a checkpoint.
        out: the file, ending in .onnx; its manifest goes beside it.
        quantize: fewer bits. int8: a quarter of the size, large products in integers, on a processor.
            fp16: half the size, for a GPU (`--provider cuda`); a processor takes longer with it than without.
        seen: whether items of the history may be recommended; by default as the run was measured.
        max_loss: how much of the run's NDCG an int8 or fp16 artefact may lose over all test users, relative to it.
        ids: `integer` where all ids are whole numbers and callers send them as int64, -1 for none.
        index_above: number of items from which an index by faiss finds the best ones, instead of scoring all; by
            default never, since scoring is exact and fast enough for hundreds of thousands.
        index_recall: how much of the exact top 10 the index is to find.
        verify: compare the artefact with the run; what was not compared is not served.
        data: folder of the dataset, where it is not where the run was trained from.
        triton: model repository of Triton Inference Server, to which the file is written as well.
    """
    from pathlib import Path

    from recloom.run_folder import checkpoint_of

    from .artifact.manifest import check_loss
    from .exporting.staging import check_target, is_verified, publish, staged

    if triton and not verify:
        raise RecloomError(
            "--triton writes what will be served, so it must be verified; leave --no-verify out"
        )
    check_loss(max_loss)
    checkpoint_of(Path(run))
    check_target(Path(out))
    from recloom.runs import load  # what takes seconds to import comes after what can be refused at once

    from .exporting.export import export_artefact
    from .verification.cases import sample

    loaded = load(run)
    large = index_above is not None and loaded.catalog.num_items > index_above
    if triton and large:
        raise RecloomError(
            f"--triton runs one file from ids to ids, and above {index_above:,} items there would be an index beside "
            f"it; found {loaded.catalog.num_items:,} items. Leave --index_above or --triton out"
        )
    source = _source(loaded, data, out) if verify or large else None
    if large:
        print(
            f"building an index over {loaded.catalog.num_items:,} items; a million take minutes", flush=True
        )
    protocol, metrics = measured(loaded)
    place, parity = Path(out), None
    with staged(place) as staging:
        manifest = export_artefact(
            loaded.recommender,
            loaded.catalog,
            loaded.popularity,
            staging,
            config=loaded.module.recipe["init_args"],
            protocol=protocol,
            quantize=quantize,
            metrics=metrics,
            seen=seen or (protocol.seen if protocol else "masked"),
            ids=ids,
            index_above=index_above,
            index_recall=index_recall,
            requests=sample(source.requests("valid").dataset, SAMPLE) if source and large else (),
        )
        try:
            if source and verify:
                parity = _compared(
                    staging, loaded, manifest, source.requests("test").dataset, max_loss=max_loss
                )
        except BaseException:  # Ctrl-C too: what was made is kept, if nothing better is there
            if is_verified(place):
                print(f"{out} is verified and was not replaced by what was not compared to the end")
            else:
                publish(staging, place)
                print(f"wrote {out}, not compared to the end ({then('verify', out, '--run', run)})")
            raise
        before = is_verified(place)
        keeps_old = before and parity is not None and not parity.verified
        if not keeps_old:
            publish(staging, place)
    if not keeps_old:
        _print_files(place, manifest)
    if manifest.index is not None:
        _print_index(manifest.index)
    if parity is None:
        lost = ", though the one in its place was" if before else ""
        print(f"not verified{lost}, so it is not served yet ({then('verify', out, '--run', run)})")
        return
    _print_parity(parity, manifest, place, keeps_old)
    if triton:
        from .exporting.triton import write_triton

        print(f"wrote {write_triton(out, triton)} for Triton")


@command("verify")
def verify(
    artefact: str,
    *,
    run: str,
    data: str | None = None,
    requests: int | None = None,
    max_loss: float = 0.01,
    provider: Literal["cpu", "cuda"] = "cpu",
) -> None:
    """Show that an artefact equals the run it was exported from; int8 and fp16, that it ranks as well.

    Args:
        artefact: the .onnx file.
        run: folder of the run, or the checkpoint.
        data: folder of the dataset, where it is not where the run was trained from.
        requests: test users to try, at most; by default all of them, as int8 and fp16 need.
        max_loss: how much of the run's NDCG an int8 or fp16 artefact may lose, relative to it.
        provider: where the artefact runs, `cpu` or `cuda`.
    """
    from pathlib import Path

    from recloom.run_folder import checkpoint_of

    from .artifact.manifest import check_loss, read_manifest

    check_loss(max_loss)
    manifest = read_manifest(Path(artefact))
    checkpoint_of(Path(run))
    if requests is not None and (not manifest.exact or requests < 1):
        raise RecloomError(
            f"--requests is {requests}, and {artefact} is {manifest.precision}; expected 1 or more, and no number "
            "for int8, fp16 and an index, which are shown to rank as well over all test users. Leave --requests out."
        )
    from recloom.runs import load  # this takes seconds

    from .verification.verify import refuse_other_run

    loaded = load(run)
    refuse_other_run(Path(artefact), manifest, loaded)
    batches = _data(loaded, data).requests("test").dataset
    parity = _compared(Path(artefact), loaded, manifest, batches, requests, max_loss, provider)
    _print_parity(parity, manifest, Path(artefact))


def _print_files(path: Path, manifest: Manifest) -> None:
    from .artifact.manifest import manifest_path

    *others, last = [*list(manifest.files)[1:], manifest_path(path).name]
    beside = f"{', '.join(others)} and {last}" if others else last
    size = sum(path.with_name(name).stat().st_size for name in manifest.files)
    print(
        f"wrote {path}, with {beside} beside it: {manifest.model}, {manifest.num_items:,} items, "
        f"{size / 1e6:.1f} MB"
    )


def _print_index(found: IndexReport) -> None:
    print(
        f"the index looks into {found.probed:,} of {found.lists:,} lists and finds {found.recall:.1%} of the exact "
        f"top {found.k} for {found.queries:,} requests, in {found.ms_index:g} ms where scoring all takes "
        f"{found.ms_exact:g}"
    )
    if found.ms_index >= found.ms_exact:
        print("so it does not pay for so few items: leave --index_above out, and all are scored")


def measured(run: Run) -> tuple[Protocol | None, dict[str, float]]:
    """Protocol and metrics of the run's last test; without one, the protocol it was trained by, if known."""
    from recloom.evaluation import METRICS_FILE, read_results

    if (run.folder / METRICS_FILE).is_file():
        results = read_results(run.folder)
        found = {name: value.mean for name, value in results.metrics.items() if value.mean is not None}
        return results.protocol, found
    return (run.record.protocol if (run.folder / "run.json").is_file() else None), {}


def _data(run: Run, path: str | None) -> RecDataModule:
    """The run's dataset; RecloomError for another one, by which nothing of this run can be shown."""
    found, known = run.data(path), measured(run)[0]
    if known and found.card.data_hash() != known.data_hash:
        raise RecloomError(
            f"{path or 'the dataset'} is not the data that {run.folder} was made from: expected data hash "
            f"{known.data_hash}, found {found.card.data_hash()}. Give that dataset with --data"
        )
    return found


def _source(run: Run, data: str | None, out: str) -> RecDataModule:
    """The run's dataset, looked up before anything is written."""
    try:
        return _data(run, data)
    except (RecloomError, OSError) as error:
        raise RecloomError(
            f"{out} was not written, because it could not be compared with its run: {str(error).rstrip('.')}. Say "
            "where the dataset is with --data FOLDER, or write the file without comparing it with --no-verify."
        ) from error


def _compared(
    path: Path,
    run: Run,
    manifest: Manifest,
    requests: Dataset[Batch],
    most: int | None = None,
    max_loss: float = 0.01,
    provider: Literal["cpu", "cuda"] = "cpu",
) -> Parity:
    """How the artefact compares with its run, which is kept in its manifest."""
    from recloom.progress import Progress

    from .verification.cases import sample
    from .verification.reference import served_scores
    from .verification.verify import verify_artefact

    def shown(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield batch
            bar.advance(len(batch), 0)

    size = len(requests)  # type: ignore[arg-type]
    with Progress("comparing", min(size, most or size)) as bar:
        return verify_artefact(
            path,
            served_scores(run.module, manifest.seen),
            run.catalog,
            shown(sample(requests, most)),
            max_loss=max_loss,
            provider=provider,
        )


def _print_parity(parity: Parity, manifest: Manifest, path: Path, keeps_old: bool = False) -> None:
    """Show the comparison; RecloomError where it failed. `keeps_old`: the earlier artefact at `path` was kept."""
    from rich.console import Console

    from .verification.verify import parity_table

    Console().print(parity_table(parity, manifest.num_items))
    if parity.verified:
        return
    failed = "does not equal its run" if manifest.exact else "falls short of its run"
    cause = parity.failures[0].rstrip(".")
    if keeps_old:
        raise RecloomError(
            f"what was exported {failed}: {cause}. {path} is verified and was not replaced; what fails is kept "
            f"only under another --out. {manifest.next_step(kept=False)}"
        )
    raise RecloomError(f"{path} {failed} and will not be served: {cause}. {manifest.next_step()}")
