"""A server that speaks OpenAI's protocol: its address, its key, its connections, and retries.

The key is read from the environment at the first request and leaves this file only in the header of a request:
nothing that is raised, logged or shown holds it, not even where a server repeats it in an error.

A configuration that came with a checkpoint may name any server and any variable. So the environment has the last
word on where keys go: to this machine, to OpenAI, and to the hosts that RECLOOM_KEY_HOSTS names.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import math
import os
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from queue import LifoQueue
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from ...errors import LLMRequestError, RecloomError, at_least
from ...terminal import visible
from .redaction import KEY_FILTER, NAMED, without_key

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState


POOL_LOCK = threading.Lock()
NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
KEY = re.compile(r"[!-~]+")
LONG_KEY = 16
"""Shorter keys, such as `none`, may occur in an honest answer."""
KEY_HOSTS = "RECLOOM_KEY_HOSTS"
"""Hosts that a key may be sent to, comma-separated: `openrouter.ai`, or with a port `models.example:8443`."""
TRUSTED = "api.openai.com"
QUOTED = 300
"""Characters of a server's message that an error shows."""


@dataclass(frozen=True, kw_only=True)
class OpenAIServer:
    """Where to ask and how patiently; threads may share one.

    Args:
        base_url: up to and including `/v1`, without user, password or query.
        key_env: the environment variable that holds the key; None = the server wants none. A server on this
            machine may go without; any other with the variable unset is not called. Hosts but OpenAI's get a key
            only where RECLOOM_KEY_HOSTS names them.
        concurrency: requests under way at the same time, each on a connection of its own that stays open.
        timeout: seconds without a byte from the server.
        retries: further attempts after 429, 5xx, silence or a lost connection.
        allow_plain_http: send the key unencrypted to another machine.
    """

    base_url: str = "https://api.openai.com/v1"
    key_env: str | None = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 10
    allow_plain_http: bool = False

    without_effect: ClassVar[tuple[str, ...]] = (
        "key_env", "concurrency", "timeout", "retries", "allow_plain_http",
    )  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        at_least(1, concurrency=self.concurrency)
        at_least(0, retries=self.retries)
        at_least(0.001, timeout=self.timeout)
        if self.key_env is not None and not NAME.fullmatch(self.key_env):
            raise RecloomError("key_env is the name of an environment variable, never the key itself")
        _check_address(self.base_url)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and other processes open connections of their own."""
        return {name: value for name, value in vars(self).items() if name != "_pool"}

    @property
    def host(self) -> str:
        """Name and port, for messages."""
        return urlsplit(self.base_url).netloc

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send JSON and return the JSON object of the answer.

        Raises LLMRequestError where another request may still be answered, RecloomError where none would be.
        """
        with POOL_LOCK:
            pool = self._pool
        content = json.dumps(body).encode()

        def attempt() -> dict[str, Any]:
            with pool.connection() as client:
                return self._once(client, path, content)

        return with_retries(attempt, self.retries, self.host)

    @cached_property
    def _pool(self) -> ConnectionPool:
        try:
            import httpx
            import tenacity  # noqa: F401
        except ImportError as error:
            raise RecloomError(
                f"{type(self).__name__} needs httpx and tenacity: pip install 'recloom[llm]'"
            ) from error
        key = self._key()
        if key:
            KEY_FILTER.watch(key)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        certificates = httpx.create_ssl_context()  # takes longer than a request, so all connections share it
        return ConnectionPool(
            self.concurrency,
            lambda: httpx.Client(
                base_url=self.base_url,
                headers=headers,
                timeout=self.timeout,
                verify=certificates,
                trust_env=not _is_this_machine(self.base_url),  # a proxy is for other machines
            ),
        )

    def _key(self) -> str:
        """The key, or "" where none is needed."""
        if self.key_env is None:
            return ""
        NAMED.add(self.key_env)
        key = os.environ.get(self.key_env, "").strip()
        here = _is_this_machine(self.base_url)
        if not key and not here:
            raise RecloomError(
                f"no key for {self.host}: set the environment variable {self.key_env}, or name another one with "
                "key_env. For a server that wants no key, key_env is null."
            )
        if key and not KEY.fullmatch(key):
            raise RecloomError(f"{self.key_env} holds blanks or characters that no key has; set it anew")
        if key and not here and not _may_have_keys(self.base_url):
            host = urlsplit(self.base_url).hostname
            raise RecloomError(
                f"the key in {self.key_env} would go to {self.host}, which nothing in the environment allows. Where "
                f"you trust that server with it, set {KEY_HOSTS}={host} (several: comma-separated); for a server "
                "that wants no key, key_env is null."
            )
        if key and not here and not self.allow_plain_http and urlsplit(self.base_url).scheme == "http":
            raise RecloomError(
                f"the key in {self.key_env} would go to {self.host} unencrypted. Use https; for a server that wants "
                "no key, key_env is null; in a network that you trust, allow_plain_http is true."
            )
        return key

    def _once(self, client: httpx.Client, path: str, content: bytes) -> dict[str, Any]:
        """One attempt; raises RetryableError where another attempt may help."""
        import httpx

        try:
            response = client.post(path, content=content)
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise RecloomError(f"{self.host} has no certificate that is trusted here: {error}") from None
            raise RetryableError(f"no connection ({error})", of_request=False) from None
        except httpx.ConnectTimeout:
            raise RetryableError(f"no connection within {self.timeout:g} s", of_request=False) from None
        except httpx.TimeoutException:
            raise RetryableError(f"silence for {self.timeout:g} s") from None
        except httpx.TransportError as error:
            raise RetryableError(f"the connection was lost ({error})") from None
        except httpx.RequestError as error:
            raise LLMRequestError(
                f"{self.host} sent what cannot be decoded: {type(error).__name__}"
            ) from None
        return self._checked(response, client.headers.get("Authorization", "").removeprefix("Bearer "))

    def _checked(self, response: httpx.Response, key: str) -> dict[str, Any]:
        """The answer, or the error that a status stands for."""
        status = response.status_code
        if response.is_success:
            return self._parsed(response.text, key)
        said = error_message(response.text, key)
        if status == 402 or (status == 429 and "insufficient_quota" in response.text):
            raise RecloomError(f"the account at {self.host} has no credit left ({status}): {said}")
        if status == 429 or status >= 500:
            pause = response.headers.get("Retry-After", "")
            raise RetryableError(f"{status}: {said}", of_request=status not in (429, 502, 503), pause=pause)
        if status in (401, 403):
            known = (
                f"Check the environment variable {self.key_env}" if self.key_env else "Name one with key_env"
            )
            detail = f": {said}" if status == 403 else ""  # a 401 has nothing to say but the key
            raise RecloomError(
                f"{self.host} refused {'the' if key else 'a request without a'} key ({status}{detail}). {known}."
            )
        if status < 400:
            raise RecloomError(
                f"{self.host} answered {status} instead of a response; check base_url {self.base_url}"
            )
        raise LLMRequestError(f"{self.host} refused the request ({status}): {said}")

    def _parsed(self, text: str, key: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        plain = json.dumps(found) if "\\" in text else ""  # a server may spell any letter as \\uXXXX
        if len(key) >= LONG_KEY and (key in text or json.dumps(key)[1:-1] in plain):
            raise LLMRequestError(
                f"the answer of {self.host} repeats the key in {self.key_env}, so it is not kept"
            )
        if not isinstance(found, dict):
            raise LLMRequestError(
                f"{self.host} answered with something that is no JSON object: {error_message(text, key)!r}. "
                f"Is base_url right ({self.base_url})?"
            )
        return found


def error_message(text: str, key: str) -> str:
    """The message in a server's error, in whichever place it stands; short, harmless and without the key."""
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    for name in ("error", "message", "detail"):
        if isinstance(found, dict):
            found = found.get(name) or found
    words = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    words = visible(" ".join(without_key(words, key).split()))
    return (words if len(words) <= QUOTED else words[:QUOTED] + "…") or "no message"


def _check_address(url: str) -> None:
    """Raise RecloomError, which does not repeat what may be a password."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or re.search(r"[\s\\?#@\x00-\x20]", url):
        raise RecloomError(
            "base_url must be http:// or https://, a host, maybe a port and a path, such as http://localhost:8000/v1; "
            "without user, password, query or blanks. A key belongs in the environment variable that key_env names."
        )


def _may_have_keys(url: str) -> bool:
    parts = urlsplit(url)
    allowed = {host.strip().lower() for host in os.environ.get(KEY_HOSTS, "").split(",")} | {TRUSTED}
    return bool({parts.hostname, f"{parts.hostname}:{parts.port}"} & allowed)


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
FIRST = 0.05
"""Seconds before the second attempt; each further wait is twice as long, up to LONGEST, less up to half at random."""
LONGEST = 20.0
LONGEST_RETRY_AFTER = 120.0
"""Seconds that a server may ask for in Retry-After."""
WARN_FROM = 5.0
"""Waits from this length on are warnings, since someone may be watching."""
JITTER = random.Random()
"""Of its own, so that waiting leaves a seeded generator as it was."""


class RetryableError(Exception):
    """An attempt that failed and may be repeated.

    Args:
        reason: in words, without secrets.
        of_request: whether another request may fare better.
        pause: what the server says in Retry-After.
    """

    def __init__(self, reason: str, of_request: bool = True, pause: str = "") -> None:
        super().__init__(reason)
        self.of_request = of_request
        self.pause = retry_after(pause)


def with_retries(attempt: Callable[[], Answer], retries: int, host: str) -> Answer:
    """Repeat an attempt after a RetryableError; at last LLMRequestError, or RecloomError where it affects all."""
    import tenacity

    def log_retry(state: RetryCallState) -> None:
        wait = state.next_action.sleep if state.next_action else 0.0
        level = logging.WARNING if wait >= WARN_FROM else logging.DEBUG
        log.log(
            level,
            "%s: %s; retry %d of %d in %.2f s",
            host,
            _last_error(state),
            state.attempt_number,
            retries,
            wait,
        )

    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(retries + 1),
        wait=lambda state: _last_error(state).pause + backoff(state.attempt_number),
        retry=tenacity.retry_if_exception_type(RetryableError),
        before_sleep=log_retry,
        reraise=True,
    )
    try:
        return attempts(attempt)
    except RetryableError as error:
        if error.of_request:
            raise LLMRequestError(f"{host} did not answer in {retries + 1} attempts: {error}") from None
        raise RecloomError(
            f"{host} did not answer in {retries + 1} attempts: {error}. Check the address and the limits of the "
            "account; what was answered before is not sent again."
        ) from None


def _last_error(state: RetryCallState) -> RetryableError:
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, RetryableError) else RetryableError("unknown")


def backoff(attempt: int) -> float:
    """Seconds to wait after the attempt of this number, from 1."""
    return min(LONGEST, FIRST * 2.0 ** min(attempt - 1, 30)) * JITTER.uniform(0.5, 1.0)


def retry_after(header: str) -> float:
    """Seconds that a Retry-After header asks for, a number or a date: at most LONGEST_RETRY_AFTER, 0 for nonsense."""
    try:
        seconds = float(header)
    except ValueError:
        try:
            when = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


class ConnectionPool:
    """Up to `count` connections, each made when it is first needed and serving one thread at a time.

    A pool of httpx that threads share may close a connection that another thread has just begun to use (httpcore
    1.0.9 looks whether a connection is idle and whether it has data in two steps): the answer is lost, and is asked
    and paid for again. Here whoever sends a request holds a client of one connection until the answer is read. The
    last one used is the first to be used again.
    """

    def __init__(self, count: int, make: Callable[[], httpx.Client]) -> None:
        self._make = make
        self._free: LifoQueue[httpx.Client | None] = LifoQueue()
        for _ in range(count):
            self._free.put(None)

    @contextmanager
    def connection(self) -> Iterator[httpx.Client]:
        """A client for one thread; waits while all are taken."""
        client = self._free.get()
        try:
            client = client or self._make()
            yield client
        finally:
            self._free.put(client)
