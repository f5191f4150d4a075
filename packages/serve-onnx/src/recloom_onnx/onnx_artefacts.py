"""ONNX files, as core asks for them: the object that `register_artefacts` returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recloom.recommender import ExportSpec
    from torch import Tensor


class OnnxArtefacts:
    """Writes and reads `.onnx` files; see `recloom.runs.Artefacts`."""

    name = "onnx"
    runtime = "ONNX Runtime"

    def export(self, run: Path, out: Path) -> None:
        """`recloom export RUN --out OUT`."""
        from .commands import export

        export(str(run), out=str(out))

    def recommend(
        self, artefact: Path, requests: Path, out: Path, *, k: int = 10, exclude: Sequence[str] = ()
    ) -> None:
        """`recloom batch ARTEFACT --users REQUESTS --out OUT`."""
        from .batch.commands import batch

        batch(str(artefact), users=str(requests), out=str(out), k=k, exclude=list(exclude))

    def answer(
        self,
        artefact: Path,
        history: Sequence[str],
        *,
        user: str | None = None,
        history_times: Sequence[int] | None = None,
        request_time: int | None = None,
        k: int = 10,
    ) -> list[str]:
        """The raw ids of the best items for one request, by a session of one thread."""
        from .artifact.session import Session

        (places,) = Session(artefact, threads=1).recommend(
            [history],
            k,
            users=None if user is None else [user],
            history_times=None if history_times is None else [history_times],
            request_times=None if request_time is None else [request_time],
        )
        return [place.item_id for place in places]

    def trace(
        self, spec: ExportSpec, num_items: int, num_users: int, context: int = 0
    ) -> Callable[..., Tensor]:
        """The traced module of `spec`, run by onnxruntime from a temporary file."""
        import tempfile

        import onnx_ir
        import onnxruntime
        import torch

        from .exporting.trace import trace

        model = trace(spec, num_items, num_users, context=context)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx_ir.save(model, path)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [port.name for port in session.get_inputs()]

        def run(*fields: Tensor) -> Tensor:
            given = {name: field.numpy() for name, field in zip(names, fields, strict=True)}
            return torch.from_numpy(session.run(None, given)[0])

        return run
