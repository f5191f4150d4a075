"""Settings of a server, checked."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass

from recloom.errors import RecloomError

from ..artifact.session import Provider

MIN_TOKEN = 16
"""Characters of a token, at least."""


@dataclass(frozen=True)
class Settings:
    """Every option of `recloom serve` but the artefacts.

    Args:
        host: address to listen at.
        port: 0 = any free one.
        max_batch: requests that run through a model at once; 1 switches batching off.
        max_delay_ms: milliseconds that a request waits for others, at most, where others are expected.
        max_waiting: requests that may wait for one model.
        max_body: bytes of a request's body.
        timeout: seconds for a request, from its first byte to the last of the answer.
        concurrency: requests in work at a time.
        threads: of one model.
        provider: where models run.
        token: expected in `Authorization: Bearer`; None: no token is needed.
        token_env: environment variable of the token, for the example that is printed.
        anyone: accept requests without a token from other machines and under any Host.
        log: whether requests are logged.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_batch: int = 64
    max_delay_ms: float = 2.0
    max_waiting: int = 1024
    max_body: int = 8_000_000
    timeout: float = 10.0
    concurrency: int = 256
    threads: int = 1
    provider: Provider = "cpu"
    token: str | None = None
    token_env: str | None = None
    anyone: bool = False
    log: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise RecloomError(f"--port is a number from 0 to 65535, found {self.port}; 0 = any free one")
        for name in ("max_batch", "max_waiting", "max_body", "concurrency", "threads"):
            if getattr(self, name) < 1:
                raise RecloomError(f"--{name} must be 1 or more, found {getattr(self, name)}")
        if not 0 <= self.max_delay_ms <= 1000:
            raise RecloomError(
                f"--max_delay_ms is milliseconds from 0 to 1000, found {self.max_delay_ms:g}; it is added to "
                "the time of an answer"
            )
        if not 0 < self.timeout < float("inf"):
            raise RecloomError(f"--timeout is seconds above 0, found {self.timeout:g}")


def read_token(variable: str | None) -> str | None:
    """The token that an environment variable holds; None without a variable."""
    if variable is None:
        return None
    token = os.environ.get(variable, "")
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise RecloomError(
            f"--token_env {variable}: expected a token of {MIN_TOKEN} or more printable ASCII characters without "
            f"blanks in the environment, found {f'one of {len(token)} characters' if token else 'none'}. Set it, for "
            f'example with export {variable}="$(openssl rand -hex 32)"'
        )
    return token


def check_exposure(host: str, token: str | None, anyone: bool) -> None:
    """RecloomError for an address that other machines reach, where neither a token nor --anyone is given."""
    if not (is_loopback(host) or token or anyone):
        raise RecloomError(
            f"--host {host} can be reached from other machines, and no token is asked for. Ask for one with "
            "--token_env VARIABLE, or say --anyone where something else authenticates clients"
        )


def is_loopback(host: str) -> bool:
    """Whether an address is a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
