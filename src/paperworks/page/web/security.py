"""What guards every request: the host it names, where it comes from, how large it is; and the headers of every answer.

A web site that a reader visits could otherwise reach the server on their own machine: by a name that resolves to
127.0.0.1 (DNS rebinding: refused by the host check), or by forms and scripts of its own (refused by the origin check
and by the tokens of forms).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from paperworks.page.settings import Settings

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
BODY_BYTES = 256 * 1024
"""Largest body of a request that is no upload."""
FORM_BYTES = 1 << 20
"""What a form with an upload may hold besides its files."""
FIRST_BODY_SECONDS = 60.0
BODY_BYTES_PER_SECOND = 20_000
"""A body has the first time, and then that of a slow line for what it may hold."""
READING = ("GET", "HEAD", "OPTIONS", "TRACE")


def security_headers(settings: Settings) -> dict[str, str]:
    """The headers of every answer; a view that sets one of them itself keeps its own."""
    headers = {
        "Content-Security-Policy": CONTENT_POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
    if settings.public and settings.address().startswith("https://"):
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers


def host_name(host: str) -> str:
    """The name in a Host header, in lower case, without its port; IPv6 addresses keep their brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0].rstrip(".")


def same_origin(headers: Headers) -> bool:
    """Whether a change comes from a page of ours, as far as the browser says where it comes from."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:
        return False


class Guard:
    """ASGI middleware: refuses strange hosts (400), changes from other sites (403) and large bodies (413).

    HEAD is answered like GET, without the body.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = frozenset(name.lower() for name in settings.hosts)
        self._headers = security_headers(settings)
        self._upload_bytes = settings.upload_bytes + FORM_BYTES if settings.uploads_allowed else BODY_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"
        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        headers = Headers(scope=scope)
        if host_name(headers.get("host", "")) not in self._hosts:
            answer = PlainTextResponse("This server is not reached under that name.\n", status_code=400)
            await answer(scope, receive, guarded_send)
            return
        if "\x00" in scope["path"]:  # neither PostgreSQL nor a file system takes it for a name
            scope["paperworks.refused"] = HTTPException(404, "Not Found")
        if scope["method"] in READING:
            await self._app({**scope, "method": "GET"} if head else scope, receive, guarded_send)
            return
        if not same_origin(headers):
            scope["paperworks.refused"] = HTTPException(403, "That was sent from another site.")
        limit = self._upload_bytes if scope["path"].endswith("/run") else BODY_BYTES
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > limit:
            scope["paperworks.refused"] = HTTPException(413, f"That is more than {limit:,} bytes.")
        await self._app(scope, _limited(receive, limit, FIRST_BODY_SECONDS), guarded_send)


def refuse(scope: Scope) -> None:
    """Raise what ``Guard`` found against the request: called where exceptions become error pages."""
    refused = scope.get("paperworks.refused")
    if refused is not None:
        raise refused


def _limited(receive: Receive, limit: int, first_seconds: float) -> Receive:
    """The body of a request, refused when it is too large (413) or comes too slowly (408)."""
    seen = 0
    ended = False
    started = time.monotonic()

    async def counted() -> Message:
        nonlocal seen, ended
        if ended:  # what comes now is the end of the connection, whenever that is
            return await receive()
        left = started + first_seconds + seen / BODY_BYTES_PER_SECOND - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(left, 0.01))
        except TimeoutError:
            raise HTTPException(408, "The request came too slowly.", {"Connection": "close"}) from None
        ended = not message.get("more_body", False)
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, f"That is more than {limit:,} bytes.")
        return message

    return counted


def form_token(key: bytes, parts: Iterable[str]) -> str:
    """A token that a form carries, made of the key and of what it is bound to.

    It differs each time it is written (the digest is masked by random bytes), so that compressed pages do not leak it.
    """
    mask = secrets.token_bytes(32)
    return base64.urlsafe_b64encode(mask + _xor(mask, _digest(key, parts))).decode()


def token_is_valid(key: bytes, parts: Iterable[str], token: str) -> bool:
    """Whether ``form_token`` made the token for the same parts."""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii"))
    except ValueError:
        return False
    return len(raw) == 64 and hmac.compare_digest(_xor(raw[:32], raw[32:]), _digest(key, parts))


def _digest(key: bytes, parts: Iterable[str]) -> bytes:
    return hmac.new(key, "\0".join(["paperworks.form", *parts]).encode(), hashlib.sha256).digest()


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
