"""What one address can hold of a web server: so many connections, none of which stands still for long.

uvicorn bounds the time between two requests only. A connection that never ends its headers, or never reads its answer,
would hold a descriptor for ever; some thousands of them are all that a process has.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Iterable
from typing import Any

HEADER_SECONDS = 15.0
"""From the first moment of a connection, or the first byte of a later request, to the end of its headers."""
STALLED_SECONDS = 60.0
"""How long a reader may take nothing of an answer that waits."""


class ConnectionLimits:
    """The limits of one web server process.

    Parameters
    ----------
    per_address : connections that one address may hold; 0 for any number.
    exempt : addresses and networks that may hold any number: proxies, behind which many readers are.
    """

    def __init__(
        self,
        per_address: int,
        exempt: Iterable[str] = (),
        header_seconds: float = HEADER_SECONDS,
        stalled_seconds: float = STALLED_SECONDS,
    ) -> None:
        self.header_seconds, self.stalled_seconds = header_seconds, stalled_seconds
        self._per_address = per_address
        self._exempt = [ipaddress.ip_network(network, strict=False) for network in exempt]
        self._held: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Count a connection; returns whether the address may hold it."""
        if not self._per_address or self._is_exempt(address):
            return True
        self._held[address] += 1
        return self._held[address] <= self._per_address

    def release(self, address: str) -> None:
        """A connection of the address ended."""
        if address in self._held:
            self._held[address] -= 1
            if self._held[address] <= 0:
                del self._held[address]

    def _is_exempt(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return True  # a socket in the file system
        return any(ip in network for network in self._exempt)


def http_protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol with limits, for ``uvicorn.Config(http=...)``."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Http
    except ModuleNotFoundError:
        from uvicorn.protocols.http.h11_impl import H11Protocol as Http  # type: ignore[assignment]

    class BoundedHttpProtocol(Http):
        """Closes a connection that is one too many, or that stands still."""

        _header_timer: asyncio.TimerHandle | None = None
        _stalled_timer: asyncio.TimerHandle | None = None
        _counted = ""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._counted = self.client[0] if self.client else ""
            if self._counted and not limits.take(self._counted):
                transport.abort()
                return
            self._expect_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._counted:
                limits.release(self._counted)
            for timer in (self._header_timer, self._stalled_timer):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._header_timer is None and self._is_idle():
                self._expect_headers()
            super().data_received(data)
            if self._header_timer is not None and not self._is_idle():
                self._header_timer.cancel()
                self._header_timer = None

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stalled_timer = self.loop.call_later(limits.stalled_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            if self._stalled_timer is not None:
                self._stalled_timer.cancel()
                self._stalled_timer = None
            super().resume_writing()

        def _is_idle(self) -> bool:
            """Whether no request is under way whose headers have all come."""
            return self.cycle is None or self.cycle.response_complete

        def _expect_headers(self) -> None:
            self._header_timer = self.loop.call_later(limits.header_seconds, self._end_if_idle)

        def _end_if_idle(self) -> None:
            self._header_timer = None
            if self._is_idle():
                self.transport.abort()

    return BoundedHttpProtocol
