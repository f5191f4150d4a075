"""The page at `/` and the API page at `/docs`: static files of this package alone."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from starlette.responses import Response

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
SHOWN = ("index.html", "docs.html", "page.css", "page.js", "ask.js", "docs.js", "icon.svg")
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
"""Nothing inline, nothing from elsewhere, in no frame, and no text that becomes markup."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def pages() -> APIRouter:
    """The routes; the files are read once."""
    router = APIRouter(include_in_schema=False)
    found = {name: files(__package__).joinpath("page", name).read_bytes() for name in SHOWN}
    places = {"/": "index.html", "/docs": "docs.html", **{f"/page/{name}": name for name in SHOWN}}
    for path, name in places.items():
        router.add_api_route(path, _sender(name, found[name]), methods=["GET", "HEAD"])
    return router


def _sender(name: str, content: bytes):  # type: ignore[no-untyped-def]
    kind = KINDS[name[name.rindex(".") :]]

    async def send() -> Response:
        return Response(content, headers=HEADERS, media_type=kind)

    return send
