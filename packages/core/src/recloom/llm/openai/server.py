"""A server that speaks OpenAI's protocol: its address, its key, and what is asked again when it fails.

The key is read from the environment at the first request and leaves this file only in the header of a request:
nothing that is raised, logged or shown holds it, not even where a server repeats it in an error.

A configuration that came with a checkpoint may name any server and any variable. So the environment has the last
word on where keys go: to this machine, to OpenAI, and to the hosts that RECLOOM_KEY_HOSTS names.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from ..errors import QuestionError, RecloomError, at_least
from ..terminal import visible
from .lanes import Lanes
from .masking import KEY_FILTER, without_key
from .retries import Fault, patiently
from .secrecy import NAMED

if TYPE_CHECKING:
    import httpx

OPENING = threading.Lock()
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
        return {name: value for name, value in vars(self).items() if name != "_lanes"}

    @property
    def host(self) -> str:
        """Name and port, for messages."""
        return urlsplit(self.base_url).netloc

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send JSON and return the JSON object of the answer.

        Raises QuestionError where another question may still be answered, RecloomError where none would be.
        """
        with OPENING:
            lanes = self._lanes
        content = json.dumps(body).encode()

        def attempt() -> dict[str, Any]:
            with lanes.one() as client:
                return self._once(client, path, content)

        return patiently(attempt, self.retries, self.host)

    @cached_property
    def _lanes(self) -> Lanes:
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
        certificates = httpx.create_ssl_context()  # takes longer than a request, so all lanes share it
        return Lanes(
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
        """One attempt; raises Fault where another attempt may help."""
        import httpx

        try:
            response = client.post(path, content=content)
        except httpx.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise RecloomError(f"{self.host} has no certificate that is trusted here: {error}") from None
            raise Fault(f"no connection ({error})", of_question=False) from None
        except httpx.ConnectTimeout:
            raise Fault(f"no connection within {self.timeout:g} s", of_question=False) from None
        except httpx.TimeoutException:
            raise Fault(f"silence for {self.timeout:g} s") from None
        except httpx.TransportError as error:
            raise Fault(f"the connection was lost ({error})") from None
        except httpx.RequestError as error:
            raise QuestionError(f"{self.host} sent what cannot be decoded: {type(error).__name__}") from None
        return self._judged(response, client.headers.get("Authorization", "").removeprefix("Bearer "))

    def _judged(self, response: httpx.Response, key: str) -> dict[str, Any]:
        """The answer, or the error that a status stands for."""
        status = response.status_code
        if response.is_success:
            return self._parsed(response.text, key)
        said = said_by(response.text, key)
        if status == 402 or (status == 429 and "insufficient_quota" in response.text):
            raise RecloomError(f"the account at {self.host} has no credit left ({status}): {said}")
        if status == 429 or status >= 500:
            pause = response.headers.get("Retry-After", "")
            raise Fault(f"{status}: {said}", of_question=status not in (429, 502, 503), pause=pause)
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
                f"{self.host} answered {status} instead of a reply; check base_url {self.base_url}"
            )
        raise QuestionError(f"{self.host} refused the question ({status}): {said}")

    def _parsed(self, text: str, key: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        plain = json.dumps(found) if "\\" in text else ""  # a server may spell any letter as \\uXXXX
        if len(key) >= LONG_KEY and (key in text or json.dumps(key)[1:-1] in plain):
            raise QuestionError(
                f"the answer of {self.host} repeats the key in {self.key_env}, so it is not kept"
            )
        if not isinstance(found, dict):
            raise QuestionError(
                f"{self.host} answered with something that is no JSON object: {said_by(text, key)!r}. "
                f"Is base_url right ({self.base_url})?"
            )
        return found


def said_by(text: str, key: str) -> str:
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
