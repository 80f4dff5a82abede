"""A polite HTTP client for importers.

It says who it is and whom to write to, pauses between requests to one host, asks with the validators of the last
answer, waits as long as a busy server asks, and gives up after a few tries. It reads at most ``MOST_BYTES`` of an
answer, follows a few redirects, and follows none from another host into this machine or a private network.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import httpx

import paperworks
from paperworks.errors import InputError
from paperworks.page.feed.importers.base import Validators

MOST_BYTES = 20 * 2**20
MOST_REDIRECTS = 5
TRIES = 5
FIRST_WAIT = 2.0
LONGEST_WAIT = 120.0
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
PAUSE = 1.0
TRY_AGAIN = (429, 500, 502, 503, 504)


@dataclass(frozen=True)
class SourceUrls:
    """Where the two services are: mirrors and tests have them elsewhere. ``arxiv_pause`` is what arXiv asks for."""

    arxiv: str = "https://export.arxiv.org/api/query"
    huggingface: str = "https://huggingface.co"
    arxiv_pause: float = 3.0


@dataclass(frozen=True)
class FetchedResponse:
    """A server's answer. ``content`` is None where nothing changed since the validators' answer."""

    content: bytes | None
    validators: Validators
    content_type: str = ""


class PoliteClient:
    """HTTP for importers. One at a time: not to be shared between threads.

    Parameters
    ----------
    contact : an e-mail or web address that is told to the sites.
    sites : the services' addresses.
    sleep, clock : replaced in tests.
    pause : seconds between two requests to one host; None for the default.
    tries : how often a server that does not answer is asked.
    """

    def __init__(
        self,
        contact: str = "",
        sites: SourceUrls | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        pause: float | None = None,
        tries: int = TRIES,
    ) -> None:
        self.sites = sites or SourceUrls()
        self._sleep = sleep
        self._clock = clock
        self._pause = pause
        self._tries = tries
        self._last: dict[str, float] = {}
        about = f"; {contact}" if contact else ""
        self._http = httpx.Client(
            headers={"User-Agent": f"paperworks/{paperworks.__version__} (paper feed importer{about})"},
            timeout=TIMEOUT,
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def get(
        self,
        url: str,
        params: dict[str, str] | None = None,
        validators: Validators | None = None,
        accept: str = "*/*",
        pause: float | None = None,
        same_host: bool = False,
    ) -> FetchedResponse:
        """Fetch an address.

        Parameters
        ----------
        validators : of the last answer; the server may then say that nothing changed.
        pause : seconds that this host wants between two requests.
        same_host : redirects may not leave the host.

        Raises InputError for an address that is none, a failure that does not pass, a redirect that is not followed,
        and an answer that is too large.
        """
        headers = {"Accept": accept}
        if validators and validators.etag:
            headers["If-None-Match"] = validators.etag
        if validators and validators.last_modified:
            headers["If-Modified-Since"] = validators.last_modified
        target = str(httpx.URL(url, params=params)) if params else url
        origin = _host(target)
        for _ in range(MOST_REDIRECTS + 1):
            status, answered, content = self._try(target, headers, pause)
            if status == 304:
                return FetchedResponse(None, validators or Validators())
            if status not in (301, 302, 303, 307, 308):
                return FetchedResponse(
                    content,
                    Validators(answered.get("etag"), answered.get("last-modified")),
                    answered.get("content-type", ""),
                )
            target = urljoin(target, answered.get("location", ""))
            _check_redirect(origin, target, same_host)
        raise InputError(url, f"more than {MOST_REDIRECTS} redirects", "an address that answers")

    def _try(self, url: str, headers: dict[str, str], pause: float | None) -> tuple[int, httpx.Headers, bytes]:
        """One address, with back-off; gives status, headers, content."""
        host = _host(url)
        wait = FIRST_WAIT
        for attempt in range(1, self._tries + 1):
            self._keep_distance(host, pause)
            asked: float | None = None
            try:
                with self._http.stream("GET", url, headers=headers) as response:
                    if response.status_code not in TRY_AGAIN:
                        if response.status_code >= 400:
                            raise InputError(url, f"the answer {response.status_code}", "an address that can be read")
                        return response.status_code, response.headers, self._read(url, response)
                    asked = retry_after(response.headers.get("retry-after"), datetime.now(UTC))
                    problem = f"the answer {response.status_code}"
            except httpx.InvalidURL as error:
                raise InputError(url, str(error), "an address") from None
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
            finally:
                self._last[host] = self._clock()
            if asked is not None and asked > LONGEST_WAIT:
                raise InputError(url, f"{problem}, to be asked again in {asked:.0f} seconds", "to be called again then")
            if attempt < self._tries:
                self._sleep(max(asked or 0.0, wait))
                wait = min(2 * wait, LONGEST_WAIT)
        raise InputError(
            url, f"{problem} ({self._tries} times)", "a server that answers; the import goes on where it stopped"
        )

    def _keep_distance(self, host: str, pause: float | None) -> None:
        if host in self._last:
            wanted = self._pause if self._pause is not None else max(pause or 0.0, PAUSE)
            left = self._last[host] + wanted - self._clock()
            if left > 0:
                self._sleep(left)

    @staticmethod
    def _read(url: str, response: httpx.Response) -> bytes:
        content = bytearray()
        for chunk in response.iter_bytes():  # decompressed: a small bomb is caught as well
            content += chunk
            if len(content) > MOST_BYTES:
                raise InputError(url, f"more than {MOST_BYTES // 2**20} MiB", "a feed of a smaller size")
        return bytes(content)


def retry_after(value: str | None, moment: datetime) -> float | None:
    """Seconds of a Retry-After header (a number or a date); None where there is none that can be read."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - moment).total_seconds())


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise InputError("address", repr(url[:100]), "an address that starts with http:// or https://")
    return host


def _check_redirect(origin: str, target: str, same_host: bool) -> None:
    host = _host(target)
    if host == origin:
        return
    if same_host:
        raise InputError(origin, f"a redirect to {host}", f"an answer of {origin} itself")
    if is_private(host):
        raise InputError(origin, f"a redirect to {host}", "a redirect to a public address")


def is_private(host: str) -> bool:
    """Whether a name leads to this machine or a private network (or nowhere)."""
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return True
    return not all(ipaddress.ip_address(a.partition("%")[0]).is_global for a in addresses)
