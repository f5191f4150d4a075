"""`recloom serve`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from recloom.command import command
from recloom.errors import RecloomError

if TYPE_CHECKING:
    from .models import Models
    from .settings import Settings


@command("serve")
def serve(
    artefacts: list[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_env: str | None = None,
    anyone: bool = False,
    max_batch: int = 64,
    max_delay_ms: float = 2.0,
    max_waiting: int = 1024,
    max_body: int = 8_000_000,
    timeout: float = 10.0,
    concurrency: int = 256,
    threads: int = 1,
    provider: Literal["cpu", "cuda"] = "cpu",
    stages: list[str] | None = None,
    log: bool = True,
) -> None:
    """Answer requests over HTTP from verified artefacts.

    There is a page at /, `POST /recommend` with titles in JSON, the Open Inference Protocol (KServe v2)
    under /v2, and /metrics for Prometheus. SIGHUP loads the artefacts anew without losing a request; SIGTERM and
    Ctrl-C answer what was accepted, and end.

    Args:
        artefacts: model.onnx, NAME=model.onnx, or a folder that holds VERSION/model.onnx or NAME/VERSION/model.onnx.
        host: address to listen at; by default this machine's own, which no other machine reaches.
        port: 0 = any free one.
        token_env: environment variable with the token that every request must bring, as Authorization: Bearer.
        anyone: serve other machines, and other names of this one, without a token.
        max_batch: requests that run through a model at once; 1 switches batching off.
        max_delay_ms: milliseconds that a request waits for others at most, where others are expected.
        max_waiting: requests that may wait for one model; beyond, the answer is 503.
        max_body: bytes of a request.
        timeout: seconds for a request and its answer.
        concurrency: requests in progress at a time; beyond, the answer is 429.
        threads: that a model computes with.
        provider: where models run, `cpu` or `cuda`.
        stages: names of server stages of installed plugins, which change every list of /recommend, in this order.
        log: a line of JSON on the error stream for each request; errors are always written.
    """
    from .settings import Settings, check_exposure, read_token

    settings = Settings(
        host=host,
        port=port,
        max_batch=max_batch,
        max_delay_ms=max_delay_ms,
        max_waiting=max_waiting,
        max_body=max_body,
        timeout=timeout,
        concurrency=concurrency,
        threads=threads,
        provider=provider,
        token=read_token(token_env),
        token_env=token_env,
        anyone=anyone,
        log=log,
    )
    check_exposure(host, settings.token, anyone)
    run(artefacts, settings, stages or ())


def run(artefacts: list[str], settings: Settings, stages: Sequence[str] = ()) -> None:
    """Serve until stopped; RecloomError before the first request where something is missing or refused."""
    import asyncio
    import gc
    from importlib.util import find_spec

    from ..artifact.session import EXTRAS

    try:
        from .app import application
        from .observation import Metrics, log_to_stderr
        from .serving import Server, address, bound
        from .stages import find_stages
    except ImportError as error:
        runtime = "" if find_spec("onnxruntime") else f"{EXTRAS[settings.provider]},"
        raise RecloomError(
            f"`recloom serve` needs {error.name}, which is not installed: pip install 'recloom-onnx[{runtime}server]'"
        ) from error
    from .models import Models, find_sources

    sources = find_sources(artefacts)
    made = find_stages(stages)
    listening = bound(settings)
    metrics = Metrics()
    models = Models(sources, settings, metrics.batch, metrics.load)
    try:
        asyncio.run(models.load_all())
        log_to_stderr(settings.log)
        gc.collect()
        gc.freeze()  # what is loaded stays: no collection looks through it again while requests wait
        place = address(listening)
        server = Server(
            application(models, settings, metrics, made), models, settings, listening,
            lambda: print(welcome(models, settings, place, stages), flush=True),
        )  # fmt: skip
        server.serve_until_stopped()
    finally:
        listening.close()
    print("stopped; every accepted request was answered" if not server.force_exit else "stopped at once")


def welcome(models: Models, settings: Settings, place: str, stages: Sequence[str] = ()) -> str:
    """The lines printed at the start: address, models, limits, and a command to try it."""
    import json
    import shlex

    lines = [f"serving at {place}  (page /, API /docs, metrics /metrics)"]
    for served in models:
        manifest = served.session.manifest
        lines.append(
            f"  {served.name} version {served.version}: {manifest.model}, {manifest.num_items:,} items, verified, "
            f"from {served.session.path}"
        )
    batch = (
        f"up to {settings.max_batch} requests at once"
        if settings.max_batch > 1
        else "one request at a time, without batching"
    )
    lines.append(f"  on {settings.provider} with {settings.threads} thread(s) a model, {batch}")
    lines.append(
        f"  {'with a token' if settings.token else 'without a token'}; bodies to {settings.max_body:,} bytes, "
        f"{settings.timeout:g} s a request, {settings.concurrency} in work"
    )
    if stages:
        lines.append(f"  every list of /recommend goes through {', '.join(stages)}")
    first = models.find()
    asked = json.dumps({"history": first.title_index.ids[:1], "k": 3})
    token = f' -H "Authorization: Bearer ${settings.token_env}"' if settings.token_env else ""
    lines.append(f"try: curl {place}/recommend{token} -d {shlex.quote(asked)}")
    return "\n".join(lines)
