"""Who may use a server: this machine's own pages, or whoever has the token of its address.

On a loopback address the Host header must be such an address, too, or localhost, so that no other site, whose name is
made to point here, can talk to the server. On other addresses everybody needs the token, which the address that is
printed has in it: the first request of the page changes it for a cookie.
"""

import ipaddress
import json
import secrets
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",  # these two let WebAssembly have threads
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token is in the first address
}
CHANGING = ("POST", "PUT", "DELETE", "PATCH")


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only; of names only `localhost` is."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """What a request needs: the token, or without one a Host header that names this machine.

    cookie: name of the cookie with the token; browsers do not tell apart the ports of a machine.
    """

    token: str | None
    cookie: str = "edgetam_demo"

    @classmethod
    def of(cls, host: str, port: int) -> "Access":
        """The access to a server that listens on an address."""
        return cls(None if is_loopback(host) else secrets.token_urlsafe(24), f"edgetam_demo_{port}")

    def refusal(self, scope: Scope) -> str | None:
        """Why a request is refused, None for one that is not."""
        connection, headers = HTTPConnection(scope), Headers(scope=scope)
        host = headers.get("host", "")
        if self.token is None and not is_loopback(_name_of(host)):
            return "this server answers on localhost only"
        if self.token is not None and not self.is_right(connection.cookies.get(self.cookie, "")):
            return "open the address with the token that `edgetam demo` has printed"
        origin, is_changing = headers.get("origin"), scope["type"] == "websocket" or scope["method"] in CHANGING
        if is_changing and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return "other sites may not use this server"
        return None

    def is_right(self, token: str) -> bool:
        """Whether this is the token."""
        return self.token is not None and secrets.compare_digest(token.encode(), self.token.encode())

    def is_first(self, scope: Scope) -> bool:
        """Whether a request brings the right token in its address."""
        is_root = scope["type"] == "http" and scope["method"] == "GET" and scope["path"] == "/"
        return is_root and self.is_right(HTTPConnection(scope).query_params.get("token", ""))


class Guard:
    """Middleware that refuses what `Access` does, and gives all answers the headers of an isolated page."""

    def __init__(self, app: ASGIApp, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        access = self.access

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if access.is_first(scope):
            cookie = f"{access.cookie}={access.token}; Path=/; HttpOnly; SameSite=Strict"
            await _answer(send_with_headers, 303, {"location": "/", "set-cookie": cookie}, b"")
        elif (reason := access.refusal(scope)) is None:
            await self.app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            body = json.dumps({"error": reason}).encode()
            await _answer(send_with_headers, 403, {"content-type": "application/json"}, body)
        return None


async def _answer(send: Send, status: int, headers: dict[str, str], body: bytes) -> None:
    start: MutableMapping[str, Any] = {
        "type": "http.response.start",
        "status": status,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
